//go:build tools

// etcd as Kubernetes 1.33 is released with: Debian's is too old for streaming lists and consistent reads from the cache.
package etcd

import _ "go.etcd.io/etcd/server/v3"
