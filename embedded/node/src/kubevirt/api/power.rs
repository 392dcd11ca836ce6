//! start, stop, restart, migrate, expand-spec of machines; pause, unpause, softreboot, reset of instances.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path as Segments, State};
use axum::http::StatusCode;
use forklift_kubevirt_types::kubevirt::{StateChangeRequest, run_strategy};
use forklift_kubevirt_types::vmi::phase;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use kube::api::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{instancetype, qmp, vm};
use super::{Failure, Outcome, Shared};

/// How often a write is tried that others are faster than.
const ATTEMPTS: usize = 10;
/// How long a guest gets to shut down for a reboot.
const REBOOT: Duration = Duration::from_secs(300);

/// Options of all requests: StartOptions, StopOptions, RestartOptions, PauseOptions ….
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Options {
    paused: bool,
    grace_period: Option<i64>,
    grace_period_seconds: Option<i64>,
    dry_run: Vec<String>,
}

impl Options {
    fn read(body: &Bytes) -> Outcome<Self> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        serde_json::from_slice(body)
            .map_err(|error| Failure::bad_request(format!("Can not unmarshal Request body to struct, error: {error}")))
    }

    fn params(&self) -> PatchParams {
        PatchParams { dry_run: self.is_dry(), ..PatchParams::default() }
    }

    fn is_dry(&self) -> bool {
        self.dry_run.iter().any(|value| value == "All")
    }
}

type Named = Segments<(String, String)>;

fn state(vmi: &VirtualMachineInstance) -> &str {
    vmi.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn is_final(vmi: &VirtualMachineInstance) -> bool {
    matches!(state(vmi), phase::SUCCEEDED | phase::FAILED)
}

fn refuse(name: &str, why: impl std::fmt::Display) -> Failure {
    Failure::conflict("virtualmachine", name, why)
}

/// Asks the controller for something that the run strategy stays as it is for.
async fn request(
    shared: &Shared,
    machine: &VirtualMachine,
    asked: Vec<StateChangeRequest>,
    options: &Options,
) -> Outcome<StatusCode> {
    let name = machine.metadata.name.clone().unwrap_or_default();
    let pending = machine.status.as_ref().is_some_and(|status| !status.state_change_requests.is_empty());
    if pending {
        return Err(refuse(&name, "unable to complete request: stop/start already underway"));
    }
    let machines = shared.machines(machine.metadata.namespace.as_deref().unwrap_or_default());
    let mut version = machine.metadata.resource_version.clone();
    for _ in 0..ATTEMPTS {
        let patch = json!({"metadata": {"resourceVersion": version}, "status": {"stateChangeRequests": asked}});
        match machines.patch_status(&name, &options.params(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(StatusCode::ACCEPTED),
            // its status changes often while it starts and stops
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        let now = machines.get(&name).await?;
        if now.status.as_ref().is_some_and(|status| !status.state_change_requests.is_empty()) {
            break;
        }
        version = now.metadata.resource_version;
    }
    Err(refuse(&name, "unable to complete request: stop/start already underway"))
}

/// Changes whether a machine runs, in the field that it uses.
async fn set_running(shared: &Shared, machine: &VirtualMachine, on: bool, options: &Options) -> Outcome<StatusCode> {
    let spec = if machine.spec.running.is_some() {
        json!({"running": on})
    } else {
        json!({"runStrategy": if on { run_strategy::ALWAYS } else { run_strategy::HALTED }})
    };
    let patch = json!({"spec": spec});
    let machines = shared.machines(machine.metadata.namespace.as_deref().unwrap_or_default());
    let name = machine.metadata.name.as_deref().unwrap_or_default();
    machines.patch(name, &options.params(), &Patch::Merge(patch)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// PUT start.
pub async fn start(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let machine = shared.machines(&namespace).get(&name).await?;
    let vmi = shared.instances(&namespace).get_opt(&name).await?;
    if vmi.as_ref().is_some_and(|vmi| !is_final(vmi) && !state(vmi).is_empty()) {
        return Err(refuse(&name, "VM is already running"));
    }
    let begin = vm::start_request(options.paused);
    let strategy = vm::strategy(&machine);
    match strategy {
        run_strategy::HALTED if options.paused => request(&shared, &machine, vec![begin], &options).await,
        run_strategy::HALTED => set_running(&shared, &machine, true, &options).await,
        run_strategy::RERUN_ON_FAILURE | run_strategy::MANUAL => {
            let old = vmi.as_ref().filter(|vmi| is_final(vmi));
            if strategy == run_strategy::RERUN_ON_FAILURE && old.is_some_and(|vmi| state(vmi) == phase::FAILED) {
                return Err(refuse(&name, format!("{strategy} does not support starting VM from failed state")));
            }
            let end = old.and_then(|vmi| vmi.metadata.uid.as_deref()).map(vm::stop_request);
            request(&shared, &machine, end.into_iter().chain([begin]).collect(), &options).await
        }
        _ => Err(refuse(&name, format!("{strategy} does not support manual start requests"))),
    }
}

/// PUT stop.
pub async fn stop(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let machine = shared.machines(&namespace).get(&name).await?;
    let vmi = shared.instances(&namespace).get_opt(&name).await?.filter(|vmi| !is_final(vmi));
    let mut shorter = false;
    if let (Some(vmi), Some(seconds)) = (&vmi, options.grace_period) {
        shorter = vmi.spec.termination_grace_period_seconds.is_none_or(|before| seconds < before);
        set_grace(&shared, vmi, seconds, &options).await?;
    }
    let strategy = vm::strategy(&machine);
    let by_request = async |vmi: &VirtualMachineInstance| {
        let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
        request(&shared, &machine, vec![vm::stop_request(uid)], &options).await
    };
    match (strategy, &vmi) {
        (run_strategy::HALTED | run_strategy::RERUN_ON_FAILURE | run_strategy::MANUAL, None) => {
            Err(refuse(&name, "VM is not running"))
        }
        (run_strategy::HALTED, Some(_)) if !shorter => {
            Err(refuse(&name, "Halted only supports manual stop requests with a shorter graceperiod"))
        }
        (run_strategy::HALTED | run_strategy::RERUN_ON_FAILURE | run_strategy::MANUAL, Some(vmi)) => {
            by_request(vmi).await
        }
        _ => set_running(&shared, &machine, false, &options).await,
    }
}

/// Gives an instance another time to shut down.
async fn set_grace(shared: &Shared, vmi: &VirtualMachineInstance, seconds: i64, options: &Options) -> Outcome<()> {
    if seconds < 0 {
        return Err(Failure::bad_request("gracePeriod has to be greater or equal to 0"));
    }
    let instances = shared.instances(vmi.metadata.namespace.as_deref().unwrap_or_default());
    let patch = json!({"spec": {"terminationGracePeriodSeconds": seconds}});
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    instances.patch(name, &options.params(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// PUT restart.
pub async fn restart(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    match options.grace_period_seconds {
        Some(seconds) if seconds > 0 => {
            return Err(Failure::bad_request("For force restart, only gracePeriod=0 is supported for now"));
        }
        Some(seconds) if seconds < 0 => {
            return Err(Failure::bad_request("gracePeriod has to be greater or equal to 0"));
        }
        _ => {}
    }
    let machine = shared.machines(&namespace).get(&name).await?;
    let strategy = vm::strategy(&machine);
    if matches!(strategy, run_strategy::HALTED | run_strategy::ONCE) {
        return Err(refuse(&name, format!("RunStategy {strategy} does not support manual restart requests")));
    }
    let Some(vmi) = shared.instances(&namespace).get_opt(&name).await? else {
        return Err(refuse(&name, format!("VM is not running: {}", run_strategy::HALTED)));
    };
    if options.grace_period_seconds == Some(0) {
        set_grace(&shared, &vmi, 1, &options).await?;
    }
    let uid = vmi.metadata.uid.as_deref().unwrap_or_default();
    request(&shared, &machine, vec![vm::stop_request(uid), vm::start_request(false)], &options).await
}

/// PUT migrate: there is nowhere to go.
pub async fn migrate(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<StatusCode> {
    shared.machines(&namespace).get(&name).await?;
    let vmi = shared.instances(&namespace).get_opt(&name).await?;
    let conditions = vmi.and_then(|vmi| vmi.status).map(|status| status.conditions).unwrap_or_default();
    let why = conditions.into_iter().find(|one| one.type_ == "LiveMigratable").and_then(|one| one.message);
    Err(refuse(&name, why.unwrap_or_else(|| "VM is not running".into())))
}

/// GET expand-spec: the machine with its instance type and preference worked in.
pub async fn expand(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<Json<VirtualMachine>> {
    let mut machine = shared.machines(&namespace).get(&name).await?;
    match instancetype::expand(&shared.setting.client, &machine).await? {
        Ok((spec, _)) => machine.spec.template.spec = spec,
        Err(refusal) => return Err(Failure::bad_request(refusal.message)),
    }
    machine.spec.instancetype = None;
    machine.spec.preference = None;
    Ok(Json(machine))
}

fn refuse_instance(name: &str, why: impl std::fmt::Display) -> Failure {
    Failure::conflict("virtualmachineinstance", name, why)
}

/// PUT pause.
pub async fn pause(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let running = shared.running(&namespace, &name).await?;
    if running.guest.paused().is_some() {
        return Err(refuse_instance(&name, "VMI is already paused"));
    }
    if !options.is_dry() {
        qmp::command(&running.dir.join("qmp.sock"), "stop", Value::Null).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// PUT unpause.
pub async fn unpause(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let running = shared.running(&namespace, &name).await?;
    if running.guest.paused().is_none() {
        return Err(refuse_instance(&name, "VMI is not paused"));
    }
    if !options.is_dry() {
        qmp::command(&running.dir.join("qmp.sock"), "cont", Value::Null).await?;
    }
    Ok(StatusCode::ACCEPTED)
}

/// PUT reset: as by the button on the case.
pub async fn reset(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<StatusCode> {
    let running = shared.running(&namespace, &name).await?;
    qmp::command(&running.dir.join("qmp.sock"), "system_reset", Value::Null).await?;
    Ok(StatusCode::ACCEPTED)
}

/// PUT softreboot: by the guest agent, else by the power button and a start after it.
pub async fn soft_reboot(State(shared): State<Shared>, Segments((namespace, name)): Named) -> Outcome<StatusCode> {
    let running = shared.running(&namespace, &name).await?;
    if running.guest.paused().is_some() {
        return Err(refuse_instance(&name, "VMI is paused"));
    }
    let socket = running.dir.join("qmp.sock");
    if running.guest.agent.is_some() {
        tokio::spawn(reboot_by_agent(running.dir.join("agent.sock")));
        return Ok(StatusCode::ACCEPTED);
    }
    let acpi = running.instance.spec.domain.features.as_ref().and_then(|features| features.acpi.as_ref());
    if acpi.is_some_and(|acpi| acpi.enabled == Some(false)) {
        return Err(refuse_instance(&name, "VMI neither have the agent connected nor the ACPI feature enabled"));
    }
    qmp::command(&socket, "set-action", json!({"shutdown": "pause"})).await?;
    qmp::press(&socket).await?;
    tokio::spawn(start_again(socket));
    Ok(StatusCode::ACCEPTED)
}

/// The guest goes down before its agent could answer.
async fn reboot_by_agent(socket: PathBuf) {
    if let Err(error) = super::super::agent::ask(&socket, "guest-shutdown", json!({"mode": "reboot"})).await {
        tracing::debug!(%error, "no answer to a reboot by the guest agent");
    }
}

/// Waits for a guest's shutdown and starts it again; one that does not shut down is left as it was.
async fn start_again(socket: PathBuf) {
    let down = tokio::time::timeout(REBOOT, is_down(&socket)).await;
    let mut commands = vec![("set-action", json!({"shutdown": "poweroff"}))];
    if down == Ok(true) {
        commands.extend([("system_reset", Value::Null), ("cont", Value::Null)]);
    }
    for (command, arguments) in commands {
        if let Err(error) = qmp::command(&socket, command, arguments).await {
            return tracing::debug!(%error, command, "a guest is not started again");
        }
    }
}

/// Looks until the guest has shut down; false when QEMU is gone.
async fn is_down(socket: &Path) -> bool {
    loop {
        match qmp::command(socket, "query-status", Value::Null).await {
            Ok(status) if status.get("status").and_then(Value::as_str) == Some("shutdown") => return true,
            Ok(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            Err(_) => return false,
        }
    }
}
