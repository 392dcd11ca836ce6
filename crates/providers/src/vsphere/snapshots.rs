//! Snapshots of warm migration.
//!
//! A snapshot is known by its name, which the migration derives from its UID and the round. Before one is taken or
//! removed, the VM's tree of snapshots and its recent tasks are read: what is there, or on its way, is not begun again,
//! whatever crashed in between. Snapshots of other names are never touched.
use forklift_core::machine::{PowerState, VmIdentity};
use forklift_core::source::{DiskDelta, PortFuture, SnapshotFact, Snapshots, SourceError};

use super::live::{LiveVm, PATIENCE, confirm, confirm_at, refusal, settle};
use super::model::disk_key;
use super::source::{Place, Vms, virtual_disks};
use super::vim::{Client, Element, FilterSpec, MoRef, VimError};

/// What all our snapshots' names begin with.
const OURS: &str = "forklift-migration-precopy";
const DESCRIPTION: &str = "Forklift warm migration precopy";
/// What is read of a VM for its snapshots, in one call.
const TREE: [&str; 5] = [
    "snapshot",
    "recentTask",
    "config.changeTrackingEnabled",
    "runtime.consolidationNeeded",
    "guest.toolsRunningStatus",
];

/// A snapshot in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    pub(super) moref: MoRef,
}

/// A task of the VM, not older than some minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recent {
    /// `VirtualMachine.createSnapshot`.
    what: String,
    pub(super) runs: bool,
    /// Type of the fault it ended with.
    fault: String,
}

impl Recent {
    // the simulator and ESXi name the newer variants too: createSnapshotEx
    pub(super) fn creates(&self) -> bool {
        self.what.to_ascii_lowercase().contains("createsnapshot")
    }

    pub(super) fn removes(&self) -> bool {
        let what = self.what.to_ascii_lowercase();
        what.contains("removesnapshot") || what.contains("snapshot.remove") || what.contains("removeallsnapshots")
    }

    pub(super) fn consolidates(&self) -> bool {
        self.what.to_ascii_lowercase().contains("consolidate")
    }

    /// The guest could not be made quiet, which is no reason to do without the snapshot.
    pub(super) fn is_unquiet(&self) -> bool {
        self.creates() && unquiet(&self.fault)
    }
}

fn unquiet(fault: &str) -> bool {
    matches!(
        fault,
        "ApplicationQuiesceFault"
            | "FilesystemQuiesceFault"
            | "QuiesceDatastoreIOForHAFailed"
            | "ToolsUnavailable"
            | "MissingController"
    )
}

/// The state that decides what is done about snapshots.
struct State {
    vm: LiveVm,
    snapshots: Vec<Found>,
    recent: Vec<Recent>,
}

impl State {
    async fn read(place: &Place, vm: &VmIdentity) -> Result<Self, SourceError> {
        let client = &place.client;
        let vm = confirm_at(client, place.vm.clone(), vm, &TREE).await?;
        let mut snapshots = Vec::new();
        if let Some(tree) = vm.props.get("snapshot") {
            walk(tree.all("rootSnapshotList"), &mut snapshots);
        }
        let recent = recent_tasks(client, &vm.props.morefs("recentTask"))
            .await
            .map_err(|error| refusal(&error, &format!("the tasks of VM {}", vm.identity.name)))?;
        Ok(Self { vm, snapshots, recent })
    }

    fn running(&self, is: impl Fn(&Recent) -> bool) -> bool {
        self.recent.iter().any(|task| task.runs && is(task))
    }

    /// Whatever else is done to the VM.
    fn busy(&self) -> Option<&Recent> {
        self.recent.iter().find(|task| task.runs)
    }
}

impl Vms {
    async fn list_snapshots(&self, vm: &VmIdentity, prefix: &str) -> Result<Vec<SnapshotFact>, SourceError> {
        let place = self.any_place(vm).await?;
        let state = State::read(&place, vm).await?;
        // one that is being taken may be in the tree already
        let ready = !state.running(Recent::creates);
        let mut facts = Vec::new();
        for found in state.snapshots.iter().filter(|found| found.name.starts_with(prefix)) {
            let deltas = if ready { self.deltas_of(&place, vm, &found.moref).await? } else { Vec::new() };
            facts.push(SnapshotFact { name: found.name.clone(), id: found.moref.value.clone(), ready, deltas });
        }
        Ok(facts)
    }

    /// Returns the change identity of each disk at a snapshot, from the snapshot's own configuration.
    async fn deltas_of(&self, place: &Place, vm: &VmIdentity, snapshot: &MoRef) -> Result<Vec<DiskDelta>, SourceError> {
        if let Some(known) = self.sessions.deltas(place.server(), &snapshot.value) {
            return Ok(known);
        }
        let config = place.client.properties(snapshot, &["config.hardware.device"]).await;
        let config = config.map_err(|error| refusal(&error, &format!("snapshot {}", snapshot.value)))?;
        let mut deltas: Vec<DiskDelta> = config.get("config.hardware.device").map(deltas).unwrap_or_default();
        if place.direct {
            as_known(&mut deltas, &self.disk_keys(&vm.id));
        }
        self.sessions.keep_deltas(place.server(), &snapshot.value, &deltas);
        Ok(deltas)
    }

    async fn ensure_snapshot(&self, vm: &VmIdentity, name: &str) -> Result<(), SourceError> {
        let place = self.place(vm).await?;
        let mut state = State::read(&place, vm).await?;
        if state.snapshots.iter().any(|found| found.name == name) || state.running(Recent::creates) {
            return Ok(());
        }
        if let Some(other) = state.busy() {
            return Err(SourceError::Conflict(format!("{} runs on VM {}", other.what, vm.name)));
        }
        if state.vm.props.bool("config.changeTrackingEnabled") != Some(true) {
            // a setting of the VM is changed where its owner keeps them
            track_changes(&self.client().await?, vm).await?;
            // the tree again: whose snapshot is there may have changed meanwhile
            state = State::read(&place, vm).await?;
            if state.snapshots.iter().any(|found| found.name == name) || state.busy().is_some() {
                return Ok(());
            }
        }
        // of a guest without tools, or one that just failed to become quiet, the disks are as after a power cut
        let tools = matches!(state.vm.props.text("guest.toolsRunningStatus"), Some("guestToolsRunning"));
        let running = state.vm.power == PowerState::On;
        let quiesce = running && tools && !state.recent.iter().any(Recent::is_unquiet);
        match self.take(&place.client, &state.vm, name, quiesce).await {
            Err(Refused { fault, .. }) if quiesce && unquiet(&fault) => {
                tracing::warn!(
                    vm = vm.name,
                    fault,
                    "the guest could not be made quiet; the snapshot is as after a power cut"
                );
                self.take(&place.client, &state.vm, name, false).await.map_err(|refused| refused.error)
            }
            taken => taken.map_err(|refused| refused.error),
        }
    }

    async fn take(&self, client: &Client, vm: &LiveVm, name: &str, quiesce: bool) -> Result<(), Refused> {
        let what = format!("snapshot {name} of VM {} ({})", vm.identity.name, vm.identity.id);
        let refused = |error: VimError| Refused {
            fault: error.fault().map(|fault| fault.kind.clone()).unwrap_or_default(),
            error: explain(&error, &what),
        };
        let description = match (vm.power, quiesce) {
            (PowerState::On, false) => format!("{DESCRIPTION} (without quiescing)"),
            _ => DESCRIPTION.to_owned(),
        };
        let task = client.create_snapshot(&vm.moref, name, &description, quiesce).await.map_err(refused)?;
        match tokio::time::timeout(PATIENCE, client.wait_task(&task)).await {
            Ok(result) => result.map(drop).map_err(refused),
            Err(_) => Ok(()),
        }
    }

    async fn remove_snapshot(&self, vm: &VmIdentity, name: &str) -> Result<(), SourceError> {
        if !name.starts_with(OURS) {
            return Err(SourceError::Denied(format!("snapshot {name} of VM {} is not ours; it stays", vm.name)));
        }
        let place = self.any_place(vm).await?;
        let client = &place.client;
        let state = State::read(&place, vm).await?;
        if state.running(|task| task.removes() || task.consolidates()) {
            return Ok(());
        }
        let Some(found) = state.snapshots.iter().find(|found| found.name == name) else { return Ok(()) };
        if let Some(other) = state.busy() {
            return Err(SourceError::Conflict(format!("{} runs on VM {}", other.what, vm.name)));
        }
        let what = format!("removal of snapshot {name} of VM {} ({})", vm.name, vm.id);
        let task = match client.remove_snapshot(&found.moref).await {
            Ok(task) => task,
            Err(error) if error.is_fault("ManagedObjectNotFound") => return Ok(()),
            Err(error) => return Err(explain(&error, &what)),
        };
        let before = state.vm.props.bool("runtime.consolidationNeeded");
        if settle(client, &task, &what).await?.is_some() && before != Some(true) {
            consolidate(&place, vm).await?;
        }
        Ok(())
    }
}

/// Why no snapshot was taken, and the type of the fault.
struct Refused {
    fault: String,
    error: SourceError,
}

/// Switches changed-block tracking on: without it every round of the migration has to compare the whole disks.
async fn track_changes(client: &Client, vm: &VmIdentity) -> Result<(), SourceError> {
    let what = format!("change tracking of VM {} ({})", vm.name, vm.id);
    let found = confirm(client, vm, &[]).await?;
    let switched = match client.set_change_tracking(&found.moref, true).await {
        Ok(task) => client.wait_task(&task).await.map(drop),
        Err(error) => Err(error),
    };
    match switched {
        Ok(()) => Ok(()),
        Err(error) if matches!(refusal(&error, &what), SourceError::Other(_)) => {
            tracing::warn!(vm = vm.name, %error, "change tracking cannot be switched on; whole disks are compared");
            Ok(())
        }
        Err(error) => Err(refusal(&error, &what)),
    }
}

/// Merges what a removal left behind; it goes on in the server.
async fn consolidate(place: &Place, vm: &VmIdentity) -> Result<(), SourceError> {
    let found = confirm_at(&place.client, place.vm.clone(), vm, &["runtime.consolidationNeeded"]).await?;
    if found.props.bool("runtime.consolidationNeeded") == Some(true) {
        let what = format!("consolidation of the disks of VM {} ({})", vm.name, vm.id);
        place.client.consolidate_disks(&found.moref).await.map_err(|error| refusal(&error, &what))?;
    }
    Ok(())
}

/// Adds what a person can do to the faults that users meet.
pub(super) fn explain(error: &VimError, what: &str) -> SourceError {
    let hint = match error.fault().map(|fault| fault.kind.as_str()) {
        Some("TooManySnapshotLevels") => "remove snapshots of it: a VM has at most 32 levels",
        Some("SnapshotNoChange" | "SnapshotDisabled" | "SnapshotLocked") => {
            "see whether a backup holds it, then migrate it again"
        }
        Some("NoDiskSpace" | "InsufficientStorageSpace") => "make space on the datastore of its disks",
        Some("NotSupported") => {
            "independent disks, raw devices in physical mode and shared buses have no snapshots: migrate it cold"
        }
        _ => return refusal(error, what),
    };
    match refusal(error, what) {
        SourceError::Other(said) => SourceError::Other(format!("{said}; {hint}")),
        other => other,
    }
}

/// Gives disks the names that the inventory has for them: a host may call a datastore otherwise than its vCenter.
fn as_known(deltas: &mut [DiskDelta], known: &[String]) {
    let path = |file: &str| file.split_once("] ").map(|(_, path)| path.to_owned());
    for delta in deltas.iter_mut().filter(|delta| !known.iter().any(|key| *key == delta.disk)) {
        let mut same = known.iter().filter(|key| path(key).is_some() && path(key) == path(&delta.disk));
        if let (Some(key), None) = (same.next(), same.next()) {
            delta.disk.clone_from(key);
        }
    }
}

pub(super) fn walk<'a>(list: impl Iterator<Item = &'a Element>, found: &mut Vec<Found>) {
    for snapshot in list {
        if let (Some(name), Some(moref)) = (snapshot.text("name"), snapshot.moref("snapshot")) {
            found.push(Found { name: name.to_owned(), moref });
        }
        walk(snapshot.all("childSnapshotList"), found);
    }
}

pub(super) async fn recent_tasks(client: &Client, tasks: &[MoRef]) -> Result<Vec<Recent>, VimError> {
    if tasks.is_empty() {
        return Ok(Vec::new());
    }
    let paths = ["info.descriptionId", "info.state", "info.error"];
    let filter = tasks.iter().fold(FilterSpec::of("Task", &paths), |filter, task| filter.object(task));
    let found = match client.retrieve(filter).await {
        Ok(found) => found,
        // the server dropped one of them between the two calls: ask for each
        Err(error) if error.is_fault("ManagedObjectNotFound") => {
            let mut found = Vec::new();
            for task in tasks {
                match client.retrieve(FilterSpec::of("Task", &paths).object(task)).await {
                    Ok(one) => found.extend(one),
                    Err(error) if error.is_fault("ManagedObjectNotFound") => {}
                    Err(error) => return Err(error),
                }
            }
            found
        }
        Err(error) => return Err(error),
    };
    let recent = found.iter().map(|task| Recent {
        what: task.props.text("info.descriptionId").unwrap_or_default().to_owned(),
        runs: matches!(task.props.text("info.state"), Some("running" | "queued")),
        fault: task
            .props
            .get("info.error")
            .and_then(|error| error.get("fault")?.xsi_type.as_deref())
            .unwrap_or_default()
            .to_owned(),
    });
    Ok(recent.collect())
}

/// Reads the change identities from a snapshot's devices. The backing is of any of the kinds that have one.
fn deltas(devices: &Element) -> Vec<DiskDelta> {
    let delta = |disk: &Element| {
        let id = disk.text("backing.changeId").filter(|id| !id.is_empty())?;
        Some(DiskDelta { disk: disk_key(disk.text("backing.fileName")?), delta_id: id.to_owned() })
    };
    virtual_disks(devices).filter_map(delta).collect()
}

impl Snapshots for Vms {
    fn list<'a>(&'a self, vm: &'a VmIdentity, prefix: &'a str) -> PortFuture<'a, Vec<SnapshotFact>> {
        Box::pin(self.list_snapshots(vm, prefix))
    }

    fn ensure<'a>(&'a self, vm: &'a VmIdentity, name: &'a str) -> PortFuture<'a, ()> {
        Box::pin(self.ensure_snapshot(vm, name))
    }

    fn remove<'a>(&'a self, vm: &'a VmIdentity, name: &'a str) -> PortFuture<'a, ()> {
        Box::pin(self.remove_snapshot(vm, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(xml: &str) -> Element {
        Element::parse(xml, Default::default()).expect("well-formed")
    }

    #[test]
    fn a_tree_is_walked_to_its_leaves() {
        let tree = parse(
            r#"<val><currentSnapshot type="VirtualMachineSnapshot">snapshot-3</currentSnapshot>
              <rootSnapshotList><snapshot type="VirtualMachineSnapshot">snapshot-1</snapshot><name>mine</name>
                <childSnapshotList><snapshot type="VirtualMachineSnapshot">snapshot-2</snapshot><name>ours-0</name>
                  <childSnapshotList><snapshot type="VirtualMachineSnapshot">snapshot-3</snapshot><name>ours-1</name>
                  </childSnapshotList></childSnapshotList></rootSnapshotList>
              <rootSnapshotList><snapshot type="VirtualMachineSnapshot">snapshot-4</snapshot><name>other</name></rootSnapshotList></val>"#,
        );
        let mut found = Vec::new();
        walk(tree.all("rootSnapshotList"), &mut found);
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.moref.value.as_str())).collect();
        assert_eq!(
            found,
            [("mine", "snapshot-1"), ("ours-0", "snapshot-2"), ("ours-1", "snapshot-3"), ("other", "snapshot-4")]
        );
    }

    #[test]
    fn change_identities_are_keyed_by_the_disk_key() {
        let devices = parse(
            r#"<val xmlns:x="u">
              <VirtualDevice x:type="VirtualDisk"><key>2000</key><backing x:type="VirtualDiskFlatVer2BackingInfo">
                <fileName>[ds] web/web-000002.vmdk</fileName><changeId>52 aa/7</changeId></backing></VirtualDevice>
              <VirtualDevice x:type="VirtualDisk"><key>2001</key><backing x:type="VirtualDiskRawDiskMappingVer1BackingInfo">
                <fileName>[ds] web/web_1.vmdk</fileName></backing></VirtualDevice>
              <VirtualDevice x:type="VirtualCdrom"><key>3000</key></VirtualDevice></val>"#,
        );
        assert_eq!(deltas(&devices), [DiskDelta { disk: "[ds] web/web.vmdk".into(), delta_id: "52 aa/7".into() }]);
    }

    #[test]
    fn disks_of_a_host_are_called_as_its_vcenter_calls_them() {
        let delta = |disk: &str| DiskDelta { disk: disk.into(), delta_id: "52/1".into() };
        let mut found = [delta("[ds] web/web.vmdk"), delta("[ds] web/data.vmdk"), delta("[ds] twin/x.vmdk")];
        let known = ["[ds] web/web.vmdk", "[ds (1)] web/data.vmdk", "[a] twin/x.vmdk", "[b] twin/x.vmdk"];
        as_known(&mut found, &known.map(String::from));
        let names: Vec<_> = found.iter().map(|delta| delta.disk.as_str()).collect();
        assert_eq!(names, ["[ds] web/web.vmdk", "[ds (1)] web/data.vmdk", "[ds] twin/x.vmdk"]);
    }

    #[test]
    fn tasks_by_the_names_that_servers_give_them() {
        let task = |what: &str| Recent { what: what.into(), runs: true, fault: String::new() };
        for what in ["VirtualMachine.createSnapshot", "VirtualMachine.createSnapshotEx"] {
            assert!(task(what).creates() && !task(what).removes(), "{what}");
        }
        for what in ["vm.Snapshot.remove", "VirtualMachineSnapshot.removeSnapshot", "VirtualMachine.removeAllSnapshots"]
        {
            assert!(task(what).removes() && !task(what).creates(), "{what}");
        }
        assert!(task("VirtualMachine.consolidateDisks").consolidates());
    }
}
