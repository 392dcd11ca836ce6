//! Snapshots of inspections that take their own: by a connection secret alone, without a Provider.
//!
//! A snapshot is known by its name, as those of migrations are: what is there, or on its way, is not begun again. It holds
//! no memory and the guest is made quiet where its tools can do that.
use std::collections::BTreeMap;

use forklift_core::machine::PowerState;
use forklift_core::source::{InspectionSnapshots, PortFuture, SnapshotFact, SourceError};

use super::live::{self, LiveVm, PATIENCE, refusal, settle};
use super::snapshots::{Found, Recent, explain, recent_tasks, walk};
use super::vim::{Client, Endpoint};

/// What all snapshots of inspections are called.
const OURS: &str = "forklift-inspection-";
const DESCRIPTION: &str = "Forklift inspection: may be removed";
const TREE: [&str; 3] = ["snapshot", "recentTask", "guest.toolsRunningStatus"];

/// A session for one look; it ends when this is dropped.
pub(super) struct Snapshots {
    client: Client,
}

/// Logs in by the data of a secret: `url`, `user`, `password`, and whom to trust.
pub(super) async fn connect(connection: &BTreeMap<String, Vec<u8>>) -> Result<Snapshots, SourceError> {
    let text = |key: &str| connection.get(key).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    let Some(url) = text("url").filter(|url| !url.is_empty()) else {
        return Err(SourceError::Denied("the connection secret has no `url`; add the address of the SDK".to_owned()));
    };
    let mut endpoint = Endpoint::from_secret(url, connection).map_err(|error| refusal(&error, "the connection"))?;
    if let Some(fingerprint) = text("fingerprint").filter(|fingerprint| !fingerprint.is_empty()) {
        endpoint.tls.thumbprint = Some(fingerprint.to_owned());
    }
    let client = Client::connect(&endpoint).await.map_err(|error| refusal(&error, "the session"))?;
    Ok(Snapshots { client })
}

/// A VM with its snapshots and what is being done to it.
struct Seen {
    vm: LiveVm,
    snapshots: Vec<Found>,
    recent: Vec<Recent>,
}

impl Snapshots {
    async fn look(&self, vm: &str) -> Result<Seen, SourceError> {
        let vm = live::read(&self.client, vm, &TREE).await?;
        let mut snapshots = Vec::new();
        if let Some(tree) = vm.props.get("snapshot") {
            walk(tree.all("rootSnapshotList"), &mut snapshots);
        }
        let recent = recent_tasks(&self.client, &vm.props.morefs("recentTask")).await;
        let recent = recent.map_err(|error| refusal(&error, &format!("the tasks of VM {}", vm.identity.name)))?;
        Ok(Seen { vm, snapshots, recent })
    }

    async fn taken(&self, vm: &str, name: &str) -> Result<Option<SnapshotFact>, SourceError> {
        ours(name)?;
        let seen = self.look(vm).await?;
        let creates = seen.recent.iter().any(|task| task.runs && task.creates());
        if let Some(found) = seen.snapshots.iter().find(|found| found.name == name) {
            let id = found.moref.value.clone();
            // one that is being taken may be in the tree already
            return Ok(Some(SnapshotFact { name: name.to_owned(), id, ready: !creates, deltas: Vec::new() }));
        }
        if creates {
            return Ok(None);
        }
        if seen.recent.iter().any(|task| task.runs) {
            return Err(SourceError::Conflict(format!("another task runs on VM {}", seen.vm.identity.name)));
        }
        let tools = matches!(seen.vm.props.text("guest.toolsRunningStatus"), Some("guestToolsRunning"));
        let quiesce = tools && seen.vm.power == PowerState::On && !seen.recent.iter().any(Recent::is_unquiet);
        let what = format!("snapshot {name} of VM {} ({vm})", seen.vm.identity.name);
        let task = self.client.create_snapshot(&seen.vm.moref, name, DESCRIPTION, quiesce).await;
        let task = task.map_err(|error| explain(&error, &what))?;
        match tokio::time::timeout(PATIENCE, self.client.wait_task(&task)).await {
            // a guest that cannot be made quiet: the next look sees its failed task, and does without
            Ok(Err(error)) if quiesce => {
                let seen = self.look(vm).await?;
                if seen.recent.iter().any(Recent::is_unquiet) { Ok(None) } else { Err(explain(&error, &what)) }
            }
            Ok(Err(error)) => Err(explain(&error, &what)),
            // it is there, or will be: the next look reads it from the tree
            Ok(Ok(_)) | Err(_) => Ok(None),
        }
    }

    async fn removed(&self, vm: &str, name: &str) -> Result<bool, SourceError> {
        ours(name)?;
        let seen = match self.look(vm).await {
            // the VM went, and its snapshots with it
            Err(SourceError::NotFound(_)) => return Ok(true),
            seen => seen?,
        };
        let runs = |is: fn(&Recent) -> bool| seen.recent.iter().any(|task| task.runs && is(task));
        let Some(found) = seen.snapshots.iter().find(|found| found.name == name) else {
            // one that is being taken is not in the tree yet
            return Ok(!runs(Recent::creates) && !runs(Recent::removes) && !runs(Recent::consolidates));
        };
        if seen.recent.iter().any(|task| task.runs) {
            return Ok(false);
        }
        let what = format!("removal of snapshot {name} of VM {} ({vm})", seen.vm.identity.name);
        match self.client.remove_snapshot(&found.moref).await {
            Ok(task) => settle(&self.client, &task, &what).await.map(|_| false),
            Err(error) if error.is_fault("ManagedObjectNotFound") => Ok(false),
            Err(error) => Err(explain(&error, &what)),
        }
    }
}

fn ours(name: &str) -> Result<(), SourceError> {
    if name.starts_with(OURS) && name.len() > OURS.len() {
        Ok(())
    } else {
        Err(SourceError::Denied(format!("snapshot {name:?} is not one of an inspection; it is not touched")))
    }
}

impl InspectionSnapshots for Snapshots {
    fn take<'a>(&'a self, vm: &'a str, name: &'a str) -> PortFuture<'a, Option<SnapshotFact>> {
        Box::pin(self.taken(vm, name))
    }

    fn remove<'a>(&'a self, vm: &'a str, name: &'a str) -> PortFuture<'a, bool> {
        Box::pin(self.removed(vm, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_others_are_not_touched() {
        for name in ["", "backup", "forklift-inspection-", "forklift-migration-precopy-1-0"] {
            assert!(matches!(ours(name), Err(SourceError::Denied(_))), "{name}");
        }
        assert_eq!(ours("forklift-inspection-0a1b2c3d"), Ok(()));
    }

    #[tokio::test]
    async fn a_secret_without_an_address_says_so() {
        let error = connect(&BTreeMap::new()).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("no `url`"), "{error}");
    }
}
