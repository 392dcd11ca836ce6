//! A VM as the server has it now. Nothing is done to one before its moRef and instance UUID were read here.

use std::time::Duration;

use forklift_core::machine::{PowerState, VmIdentity};
use forklift_core::source::SourceError;

use super::vim::{Client, Element, Fault, MoRef, Props, VimError};

/// What tells whose VM it is, and whether anything can be done to it.
const IDENTITY: [&str; 5] =
    ["name", "config.instanceUuid", "config.uuid", "runtime.powerState", "runtime.connectionState"];

/// How long an effect waits for its task; one that takes longer goes on in the server, and the next look sees it.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// A VM that was just read.
#[derive(Clone, Debug)]
pub(super) struct LiveVm {
    pub(super) moref: MoRef,
    pub(super) identity: VmIdentity,
    pub(super) power: PowerState,
    pub(super) props: Props,
}

/// Reads a VM, with further properties.
pub(super) async fn read(client: &Client, id: &str, more: &[&str]) -> Result<LiveVm, SourceError> {
    read_at(client, MoRef::vm(id), id, more).await
}

/// Reads a VM whose reference at this server is another one than its id.
async fn read_at(client: &Client, moref: MoRef, id: &str, more: &[&str]) -> Result<LiveVm, SourceError> {
    let paths: Vec<&str> = IDENTITY.iter().chain(more).copied().collect();
    let props = client.properties(&moref, &paths).await.map_err(|error| refusal(&error, &format!("VM {id}")))?;
    let name = props.text("name").unwrap_or(id).to_owned();
    let connection = props.text("runtime.connectionState").unwrap_or("connected");
    let filled = |path: &str| props.text(path).map(str::trim).filter(|uuid| !uuid.is_empty());
    let Some(uuid) = filled("config.instanceUuid").or_else(|| filled("config.uuid")).map(str::to_owned) else {
        // the configuration of a VM on a host that is away is unset
        return Err(SourceError::Unreachable(format!(
            "VM {name} ({id}) is {connection}: its host does not answer for it"
        )));
    };
    let power = match props.text("runtime.powerState") {
        _ if connection != "connected" => PowerState::Unknown,
        Some("poweredOff") => PowerState::Off,
        // a suspended VM holds its disks too
        Some("poweredOn" | "suspended") => PowerState::On,
        Some(_) | None => PowerState::Unknown,
    };
    Ok(LiveVm { moref, identity: VmIdentity { id: id.to_owned(), uuid, name }, power, props })
}

/// Reads a VM and confirms that it is the one that is meant.
pub(super) async fn confirm(client: &Client, vm: &VmIdentity, more: &[&str]) -> Result<LiveVm, SourceError> {
    confirm_at(client, MoRef::vm(vm.id.as_str()), vm, more).await
}

/// Finds the VM at an ESXi host, which has references of its own. One that is not there was moved, and the inventory is
/// told of that in a moment.
pub(super) async fn find_at(client: &Client, vm: &VmIdentity) -> Result<MoRef, SourceError> {
    let what = format!("VM {} at {}", vm.name, client.endpoint().host());
    for instance in [true, false] {
        let found = client.find_vm(&vm.uuid, instance).await.map_err(|error| refusal(&error, &what))?;
        if let Some(moref) = found.filter(|_| !vm.uuid.is_empty()) {
            return Ok(moref);
        }
    }
    Err(SourceError::Conflict(format!("{what}: the host has no VM with UUID {}; it may have been moved", vm.uuid)))
}

/// Reads a VM by its reference at this server and confirms that it is the one that is meant.
pub(super) async fn confirm_at(
    client: &Client,
    moref: MoRef,
    vm: &VmIdentity,
    more: &[&str],
) -> Result<LiveVm, SourceError> {
    let found = read_at(client, moref, &vm.id, more).await?;
    if vm.uuid.is_empty() || found.identity != *vm {
        return Err(SourceError::Denied(format!(
            "{} is now VM {} with UUID {}, and not {} with UUID {}; nothing was done to it",
            vm.id, found.identity.name, found.identity.uuid, vm.name, vm.uuid
        )));
    }
    Ok(found)
}

/// Waits for a task of an effect for a while; `Ok(None)` when it still runs.
pub(super) async fn settle(client: &Client, task: &MoRef, what: &str) -> Result<Option<Element>, SourceError> {
    match tokio::time::timeout(PATIENCE, client.wait_task(task)).await {
        Ok(result) => result.map(Some).map_err(|error| refusal(&error, what)),
        Err(_) => Ok(None),
    }
}

/// Makes the caller's decision of an error: ask again, count it, or give up.
pub(super) fn refusal(error: &VimError, what: &str) -> SourceError {
    match error {
        VimError::InvalidLogin(_) | VimError::Parameters(_) => SourceError::Denied(error.to_string()),
        VimError::Unreachable { .. } | VimError::Tls { .. } | VimError::Http { .. } => {
            SourceError::Unreachable(error.to_string())
        }
        VimError::Malformed { .. } => SourceError::Other(error.to_string()),
        VimError::Fault(fault) => of_fault(fault, what),
    }
}

fn of_fault(fault: &Fault, what: &str) -> SourceError {
    let said = format!("{what}: vSphere answered {}: {}", fault.kind, fault.message);
    match fault.kind.as_str() {
        "ManagedObjectNotFound" => SourceError::NotFound(what.to_owned()),
        "NoPermission" => {
            let privilege = fault.detail.text("privilegeId").unwrap_or("a privilege");
            SourceError::Denied(format!(
                "{what}: the user lacks {privilege}; add it to the role of the provider's user"
            ))
        }
        "NotAuthenticated" | "HostNotConnected" | "HostCommunication" | "HostNotReachable" | "Timedout" => {
            SourceError::Unreachable(said)
        }
        "TaskInProgress" | "ConcurrentAccess" | "FileLocked" | "VmToolsUpgradeFault" | "RequestCanceled" => {
            SourceError::Conflict(said)
        }
        _ => SourceError::Other(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(kind: &str, detail: &str) -> VimError {
        let detail = Element::parse(detail, Default::default()).expect("well-formed");
        VimError::Fault(Fault { kind: kind.into(), message: "said.".into(), detail })
    }

    #[test]
    fn faults_become_decisions() {
        let of = |kind: &str| refusal(&fault(kind, "<x/>"), "VM web");
        assert_eq!(of("ManagedObjectNotFound"), SourceError::NotFound("VM web".into()));
        assert!(matches!(of("TaskInProgress"), SourceError::Conflict(_)));
        assert!(matches!(of("HostNotConnected"), SourceError::Unreachable(_)));
        assert_eq!(of("InvalidState").to_string(), "VM web: vSphere answered InvalidState: said.");
        let denied = refusal(&fault("NoPermission", "<x><privilegeId>A.B</privilegeId></x>"), "VM web").to_string();
        assert!(denied.contains("the user lacks A.B; add it to the role"), "{denied}");
    }
}
