//! Limits, users, namespaces: what containers may do, and what is said where it cannot be enforced.

mod common;

use common::{Stack, namespaces};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use serde_json::json;

fn end(pod: &Pod) -> ContainerStateTerminated {
    let statuses = pod.status.clone().and_then(|status| status.container_statuses).expect("statuses");
    statuses[0].state.clone().and_then(|state| state.terminated).expect("a terminated container")
}

fn limits_work() -> bool {
    let dir = tempfile::tempdir().expect("a directory");
    let groups = node::kubelet::cgroup::Groups::find(dir.path());
    let usable = groups.usable();
    groups.remove();
    usable
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_enforced_or_their_absence_is_told() {
    let stack = Stack::start().await;
    let limits = json!({"resources": {"limits": {"memory": "32Mi", "cpu": "500m"}}});
    // the shell keeps it all in one variable
    let hungry = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}";
    stack.create::<Pod>(Stack::shell("hungry", hungry, json!({"container": limits}))).await;
    stack.create::<Pod>(Stack::shell("modest", "cat /proc/self/cgroup", json!({"container": limits}))).await;
    let modest = stack.until_phase("modest", "Succeeded").await;
    assert_eq!(modest.status.and_then(|status| status.qos_class).as_deref(), Some("Guaranteed"));
    if limits_work() {
        let pod = stack.until_phase("hungry", "Failed").await;
        let end = end(&pod);
        assert_eq!((end.exit_code, end.reason.as_deref()), (137, Some("OOMKilled")));
        let groups = stack.logs("modest", "main", false).await;
        assert!(groups.contains("/embedded-node-"), "{groups}");
    } else {
        stack.until_phase("hungry", "Succeeded").await;
        let told =
            "LimitsNotEnforced: resource limits are not enforced: the node may not make control groups on this machine";
        stack.until_event(told).await;
    }
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn security_contexts_are_honoured() {
    let stack = Stack::start().await;
    if !rustix::process::geteuid().is_root() || !namespaces().await {
        println!("skipped: only root can become somebody else");
        return stack.stop().await;
    }
    let script = "id -u; id -g; id -G; grep CapBnd /proc/self/status | tr -d '[:space:]'; echo; \
                  touch /usr/x /tmp/x 2>/dev/null || echo read-only; echo mine > /v/file && stat -c '%u %g' /v/file; \
                  echo bye > /dev/termination-log";
    let pod = Stack::shell(
        "p",
        script,
        json!({
            "securityContext": {"runAsUser": 1234, "runAsGroup": 1235, "fsGroup": 1236, "supplementalGroups": [1237]},
            "container": {
                "securityContext": {"readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                                    "capabilities": {"drop": ["ALL"], "add": ["KILL"]}},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            },
            "volumes": [{"name": "v", "emptyDir": {}}],
        }),
    );
    stack.create::<Pod>(pod).await;
    let pod = stack.until_phase("p", "Succeeded").await;
    assert_eq!(end(&pod).message.as_deref(), Some("bye\n"));
    let said = stack.logs("p", "main", false).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["1234", "1235"]);
    let mut groups: Vec<&str> = lines[2].split(' ').collect();
    groups.sort_unstable();
    assert_eq!(groups, ["1235", "1236", "1237"]);
    assert_eq!(lines[3..], ["CapBnd:0000000000000020", "read-only", "1234 1236"]);
    let refused = json!({"securityContext": {"runAsNonRoot": true}});
    stack.create::<Pod>(Stack::shell("root", "true", refused)).await;
    stack.until_event("Failed: container has runAsNonRoot and image will run as root").await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_namespace_takes_the_power_over_the_machine() {
    let stack = Stack::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    if !node::kubelet::process::trial(dir.path(), true).await {
        println!("skipped: the kernel allows no user namespaces here");
        return stack.stop().await;
    }
    // root inside, but no right to the machine's devices; the doubled signs are Kubernetes' own escape
    let script = "id -u; readlink /proc/self/ns/user; mknod /tmp/device c 1 3 2>/dev/null && echo device; \
                  test $$$$ = 1 && echo first";
    stack.create::<Pod>(Stack::shell("p", script, json!({"hostUsers": false}))).await;
    stack.until_phase("p", "Succeeded").await;
    let said = stack.logs("p", "main", false).await;
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], &lines[2..]), ("0", &["first"][..]), "{said}");
    let own = std::fs::read_link("/proc/self/ns/user").expect("a namespace");
    assert_ne!(lines[1], own.to_string_lossy());
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_enters_a_user_namespace_too() {
    let dir = tempfile::tempdir().expect("a directory");
    if !node::kubelet::process::trial(dir.path(), true).await {
        println!("skipped: the kernel allows no user namespaces here");
        return;
    }
    let stack = Stack::start_with(|config| config.user_namespaces = true).await;
    stack.create::<Pod>(Stack::shell("p", "readlink /proc/self/ns/user; exec sleep 600", json!({}))).await;
    stack.until_phase("p", "Running").await;
    let mut process = stack
        .api::<Pod>()
        .exec("p", ["readlink", "/proc/self/ns/user"], &kube::api::AttachParams::default().stderr(false))
        .await
        .expect("exec");
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut process.stdout().expect("output"), &mut said).await.expect("read");
    assert_eq!(said, stack.logs("p", "main", false).await);
    stack.stop().await;
}
