//! guestosinfo, userlist, filesystemlist, freeze and unfreeze: by the guest agent.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as Segments, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::agent::{self, Report};
use super::{Failure, Outcome, Running, Shared};

type Named = Segments<(String, String)>;

fn report(running: &Running, name: &str) -> Outcome<Arc<Report>> {
    let why = "VMI does not have guest agent connected";
    running.guest.agent.clone().ok_or_else(|| Failure::conflict("virtualmachineinstance", name, why))
}

/// GET guestosinfo.
pub async fn os_info(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<Json<Value>> {
    let running = shared.running(&namespace, &name).await?;
    let report = report(&running, &name)?;
    let commands: Vec<Value> =
        report.commands.iter().map(|(name, enabled)| json!({"name": name, "enabled": enabled})).collect();
    Ok(Json(json!({
        "guestAgentVersion": report.version, "supportedCommands": commands, "hostname": report.hostname,
        "os": report.os, "timezone": report.timezone, "userList": report.users,
        "fsInfo": {"disks": report.filesystems},
    })))
}

/// GET userlist.
pub async fn users(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<Json<Value>> {
    let running = shared.running(&namespace, &name).await?;
    Ok(Json(json!({"metadata": {}, "items": report(&running, &name)?.users})))
}

/// GET filesystemlist.
pub async fn filesystems(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<Json<Value>> {
    let running = shared.running(&namespace, &name).await?;
    Ok(Json(json!({"metadata": {}, "items": report(&running, &name)?.filesystems})))
}

async fn tell(shared: Shared, namespace: &str, name: &str, command: &str) -> Outcome<StatusCode> {
    let running = shared.running(namespace, name).await?;
    report(&running, name)?;
    agent::ask(&running.dir.join("agent.sock"), command, Value::Null).await?;
    Ok(StatusCode::ACCEPTED)
}

/// PUT freeze: writes of the guest's file systems wait.
pub async fn freeze(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<StatusCode> {
    tell(shared, &namespace, &name, "guest-fsfreeze-freeze").await
}

/// PUT unfreeze.
pub async fn unfreeze(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<StatusCode> {
    tell(shared, &namespace, &name, "guest-fsfreeze-thaw").await
}
