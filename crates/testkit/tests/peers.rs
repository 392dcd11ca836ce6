//! The peers come up and go away.

use forklift_testkit::peers::kube::KubeApiserver;
use forklift_testkit::{process, wait_for};
use std::time::Duration;

#[test]
fn a_control_plane_comes_up_serves_and_leaves_nothing() {
    let Some(server) = KubeApiserver::start() else { return };
    assert!(server.resident() > 50 << 20, "two Go programs use more than {} bytes", server.resident());
    let kubectl = |args: &[&str]| {
        let output = std::process::Command::new("kubectl")
            .args(args)
            .env("KUBECONFIG", server.kubeconfig())
            .output()
            .expect("kubectl is installed");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{}{}", String::from_utf8_lossy(&output.stderr), server.logs())),
        }
    };
    // made by the service account controller: shows that the controllers work
    wait_for("the default service account", Duration::from_secs(60), || {
        kubectl(&["get", "serviceaccount", "default", "-o", "name"])
    });
    let pids = server.pids();
    assert_eq!(pids.len(), 3);
    drop(server);
    assert!(pids.into_iter().all(|pid| process::resident_memory(pid).is_none()), "a process is left");
}
