//go:build tools

// OPA as upstream's validation service runs it: the oracle for the bundled rules and their engine.
package opa

import _ "github.com/open-policy-agent/opa"
