//! Who may start: the in-flight limit per host of the source (or for the whole source), in the order of the plan.
use std::collections::BTreeMap;

use super::state::{StepPhase, VmState};

/// A VM that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Id in the source.
    pub id: String,
    /// Host it runs on; empty for sources that are not scheduled per host.
    pub host: String,
    /// Units it takes: 1, or its disks that are still to be copied.
    pub cost: u32,
}

/// Returns whether a VM may start beside what is in flight. One that is larger than the limit starts alone.
pub fn fits(cost: u32, in_flight: u32, max: u32) -> bool {
    (in_flight < max && cost.saturating_add(in_flight) <= max) || (cost > max && in_flight == 0)
}

/// Returns the ids of those that may start now, in their order; `in_flight` is per host.
pub fn to_start(queue: &[Queued], in_flight: &BTreeMap<String, u32>, max: u32) -> Vec<String> {
    let mut in_flight = in_flight.clone();
    let mut started = Vec::new();
    for vm in queue {
        let used = in_flight.entry(vm.host.clone()).or_default();
        if fits(vm.cost, *used, max) {
            *used = used.saturating_add(vm.cost);
            started.push(vm.id.clone());
        }
    }
    started
}

/// Returns the units a running VM takes: 1 until its disks are on the target; per disk where copies are counted.
pub fn cost(state: &VmState, per_disk: bool) -> u32 {
    use super::phase::Phase::{
        AddCheckpoint, AddFinalCheckpoint, AllocateDisks, Completed, ConvertGuest, ConvertOpenstackSnapshot, CopyDisks,
        CopyDisksVirtV2V, CopyingPaused, CreateDataVolumes, CreateFinalSnapshot, CreateGuestConversionPod,
        CreateInitialSnapshot, CreateSnapshot, CreateVM, Finalize, PostHook, PowerOffSource, PreHook,
        PreflightInspection, RemoveFinalSnapshot, RemovePenultimateSnapshot, RemovePreviousSnapshot, Started,
        StoreInitialSnapshotDeltas, StorePowerState, StoreSnapshotDeltas, WaitForFinalSnapshot,
        WaitForFinalSnapshotRemoval, WaitForGuestReboots, WaitForInitialSnapshot, WaitForPenultimateSnapshotRemoval,
        WaitForPowerOff, WaitForPreviousSnapshotRemoval, WaitForSnapshot,
    };
    match state.phase {
        CreateVM | PostHook | Completed | WaitForGuestReboots | WaitForFinalSnapshotRemoval => 0,
        CopyingPaused | ConvertGuest | CreateGuestConversionPod if per_disk => 0,
        CopyingPaused
        | ConvertGuest
        | CreateGuestConversionPod
        | AddCheckpoint
        | AddFinalCheckpoint
        | AllocateDisks
        | ConvertOpenstackSnapshot
        | CopyDisks
        | CopyDisksVirtV2V
        | CreateDataVolumes
        | CreateFinalSnapshot
        | CreateInitialSnapshot
        | CreateSnapshot
        | Finalize
        | PowerOffSource
        | PreHook
        | PreflightInspection
        | RemoveFinalSnapshot
        | RemovePenultimateSnapshot
        | RemovePreviousSnapshot
        | Started
        | StoreInitialSnapshotDeltas
        | StorePowerState
        | StoreSnapshotDeltas
        | WaitForFinalSnapshot
        | WaitForInitialSnapshot
        | WaitForPenultimateSnapshotRemoval
        | WaitForPowerOff
        | WaitForPreviousSnapshotRemoval
        | WaitForSnapshot => {
            if !per_disk {
                return 1;
            }
            let open = |s: &super::state::Step| s.tasks.iter().filter(|t| t.phase != StepPhase::Completed).count();
            let disks = state.pipeline.iter().find(|s| !s.tasks.is_empty()).map_or(1, open);
            u32::try_from(disks).unwrap_or(u32::MAX)
        }
    }
}

/// How a VM of a plan uses disks that others use too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Id in the source.
    pub id: String,
    /// Name, for messages.
    pub name: String,
    /// It copies them; else those are attached that somebody else copied.
    pub copies: bool,
    /// Its migration has ended, however.
    pub ended: bool,
    /// Keys of the disks.
    pub disks: Vec<String>,
}

/// Returns which VMs have to wait for others of the plan, by their ids, and for whom: a shared disk is attached when the
/// VM that copies it is done. One that failed holds nobody back: the disk is missing then, which is said.
pub fn held_back(vms: &[Sharing]) -> BTreeMap<String, Vec<String>> {
    let mut held = BTreeMap::new();
    for vm in vms.iter().filter(|vm| !vm.copies && !vm.ended) {
        let same = |other: &&Sharing| other.disks.iter().any(|disk| vm.disks.contains(disk));
        let copying = vms.iter().filter(|other| other.copies && !other.ended).filter(same);
        let mut by: Vec<String> = copying.map(|other| other.name.clone()).collect();
        by.sort_unstable();
        by.dedup();
        if !by.is_empty() {
            held.insert(vm.id.clone(), by);
        }
    }
    held
}

/// Returns the message of a VM that waits for the copies of its shared disks.
pub fn held_message(by: &[String]) -> String {
    format!("Waiting for {}: shared disks of this VM are copied with it.", by.join(", "))
}

/// Returns the message of a VM that waits for its turn.
pub fn pending_message(max: u32) -> String {
    format!("Waiting to start migration: in-flight limit reached (max {max}).")
}

/// Returns the message of the plan's Ready condition while VMs wait for their turn.
pub fn waiting_message(waiting: usize, max: u32) -> String {
    format!("{waiting} VM(s) waiting to start migration (in-flight limit: {max}).")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(in_flight: u32, costs: &[u32]) -> Vec<u32> {
        costs.iter().copied().filter(|&cost| fits(cost, in_flight, 10)).collect()
    }

    #[test]
    fn vectors() {
        assert_eq!(candidates(6, &[6, 5, 4, 7]), [4]);
        assert!(candidates(10, &[10, 0, 1]).is_empty());
        assert_eq!(candidates(0, &[11, 1, 2, 3, 10]), [11, 1, 2, 3, 10]);
    }

    #[test]
    fn shared_disks_are_attached_when_their_copy_is_done() {
        let vm = |id: &str, copies, ended, disks: &[&str]| Sharing {
            id: id.into(),
            name: id.to_uppercase(),
            copies,
            ended,
            disks: disks.iter().map(|disk| (*disk).to_owned()).collect(),
        };
        let mut vms = vec![
            vm("a", true, false, &["x", "y"]),
            vm("b", false, false, &["x", "y", "z"]),
            vm("c", false, false, &["z"]),
            vm("d", true, false, &["z"]),
            vm("e", false, true, &["x"]),
        ];
        let held = held_back(&vms);
        assert_eq!(held.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(
            (held["b"].as_slice(), held["c"].as_slice()),
            (&["A".to_owned(), "D".into()][..], &["D".into()][..])
        );
        assert_eq!(held_message(&held["b"]), "Waiting for A, D: shared disks of this VM are copied with it.");
        vms[0].ended = true;
        vms[3].ended = true;
        assert!(held_back(&vms).is_empty());
    }

    #[test]
    fn a_start_counts_for_the_next() {
        let vm = |id: &str, host: &str, cost| Queued { id: id.into(), host: host.into(), cost };
        let queue = [vm("a", "h1", 2), vm("b", "h1", 2), vm("c", "h2", 1), vm("d", "h1", 1)];
        assert_eq!(to_start(&queue, &BTreeMap::new(), 3), ["a", "c", "d"]);
        assert_eq!(to_start(&queue, &BTreeMap::from([("h1".into(), 3)]), 3), ["c"]);
    }
}
