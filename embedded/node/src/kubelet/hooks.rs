//! Lifecycle hooks: what runs right after a container's start and before its end.

use std::net::Ipv4Addr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use super::probe;
use super::running::Running;

/// Runs a hook to its end; an error says why it failed.
pub async fn run(
    hook: &LifecycleHandler,
    container: &Container,
    ip: Option<Ipv4Addr>,
    running: &Running,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        return match running.execute(command).await {
            Ok((0, _)) => Ok(()),
            Ok((code, said)) => Err(format!("command '{shown}' exited with {code}, message: {:?}", said.trim_end())),
            Err(error) => Err(error.to_string()),
        };
    }
    if let Some(http) = &hook.http_get {
        let ip = ip.ok_or("the pod has no address")?;
        return probe::http(http, container, ip).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}
