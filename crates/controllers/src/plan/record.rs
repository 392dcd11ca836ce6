//! The plan's record of its runs, between the stored objects and what core decides on.
//!
//! ```text
//! no active entry ──(a Migration asks)──► begin: entry Executing, VMs reset ──► all VMs completed ──► end:
//!        ▲                                                                          Succeeded | Failed | Canceled
//!        └──────────────────────────────────────────────────────────────────────────────┘
//! ```
use std::collections::HashMap;

use forklift_api::condition::{Conditions, reasons, types};
use forklift_api::plan::{MigrationRecord, PlanVM, Snapshot, SnapshotRef, VMStatus};
use forklift_api::{Category, Condition, Migration, Plan, Ref};
use forklift_core::machine::Machine;
use forklift_core::plan::run::{self, Active, Basis, BeginError, Entry, MigrationFact};
use forklift_core::plan::{CancelReason, MigrationKind, Outcome, PlanFacts, PlanVm, VmState};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::facts::Named;

/// The conditions that end a run.
pub const ENDS: [&str; 3] = [types::SUCCEEDED, types::FAILED, types::CANCELED];

/// Returns the condition that a run, or a plan, is in.
pub fn mark(type_: &str, reason: Option<&str>) -> Condition {
    let message = match type_ {
        types::EXECUTING => "The plan is EXECUTING.",
        types::SUCCEEDED => "The plan execution has SUCCEEDED.",
        types::FAILED => "The plan execution has FAILED.",
        _ => "The plan execution has been CANCELED.",
    };
    let condition = Condition::new(type_, Category::Advisory, message).durable();
    match reason {
        Some(reason) => condition.reason(reason),
        None => condition,
    }
}

/// Returns the entry of the run that is under way.
pub fn running(record: &MigrationRecord) -> Option<&Snapshot> {
    record.history.last().filter(|snapshot| !snapshot.conditions.has_any(&ENDS))
}

/// Returns which run there is to carry on, or to begin.
pub fn active(
    plan: &Plan,
    record: &MigrationRecord,
    named: &Named,
    migrations: &[&Migration],
    kind: MigrationKind,
) -> Active {
    let history: Vec<Entry> = record.history.iter().map(entry).collect();
    let migrations: Vec<MigrationFact> = migrations
        .iter()
        .filter(|migration| {
            let reference = &migration.spec.plan;
            reference.name == plan.metadata.name && reference.namespace == plan.metadata.namespace
        })
        .filter(|migration| migration.metadata.deletion_timestamp.is_none())
        .map(|migration| fact(migration))
        .collect();
    let mut basis = basis(plan, named);
    // What cannot be read just now was not replaced: only another UID in its place means that.
    if let Some(last) = history.last() {
        for (now, then) in [
            (&mut basis.source, &last.basis.source),
            (&mut basis.destination, &last.basis.destination),
            (&mut basis.network, &last.basis.network),
            (&mut basis.storage, &last.basis.storage),
        ] {
            if now.is_empty() {
                now.clone_from(then);
            }
        }
    }
    run::active(&history, &migrations, &basis, kind)
}

fn entry(snapshot: &Snapshot) -> Entry {
    let outcome = Outcome::ALL.iter().copied().find(|outcome| snapshot.conditions.has(outcome.as_str()));
    Entry {
        basis: Basis {
            plan: snapshot.plan.uid.clone(),
            source: snapshot.provider.source.uid.clone(),
            destination: snapshot.provider.destination.uid.clone(),
            network: snapshot.map.network.uid.clone(),
            storage: snapshot.map.storage.uid.clone(),
        },
        migration: snapshot.migration.uid.clone(),
        outcome,
    }
}

fn basis(plan: &Plan, named: &Named) -> Basis {
    let uid = |meta: Option<&ObjectMeta>| meta.and_then(|meta| meta.uid.clone()).unwrap_or_default();
    Basis {
        plan: uid(Some(&plan.metadata)),
        source: uid(named.source.as_ref().map(|object| &object.metadata)),
        destination: uid(named.destination.as_ref().map(|object| &object.metadata)),
        network: uid(named.network_map.as_ref().map(|object| &object.metadata)),
        storage: uid(named.storage_map.as_ref().map(|object| &object.metadata)),
    }
}

fn fact(migration: &Migration) -> MigrationFact {
    MigrationFact {
        namespace: migration.namespace().unwrap_or_default(),
        name: migration.name_any(),
        uid: migration.uid().unwrap_or_default(),
        created: migration.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |made| made.0),
        terminal: migration.status.as_ref().is_some_and(|status| status.conditions.has_any(&ENDS)),
    }
}

fn snapshot(plan: &Plan, named: &Named, migration: &Migration, now: Timestamp) -> Snapshot {
    let of = |meta: Option<&ObjectMeta>| meta.map(SnapshotRef::of).unwrap_or_default();
    let mut snapshot = Snapshot {
        conditions: Conditions::default(),
        plan: SnapshotRef::of(&plan.metadata),
        migration: SnapshotRef::of(&migration.metadata),
        ..Snapshot::default()
    };
    snapshot.provider.source = of(named.source.as_ref().map(|object| &object.metadata));
    snapshot.provider.destination = of(named.destination.as_ref().map(|object| &object.metadata));
    snapshot.map.network = of(named.network_map.as_ref().map(|object| &object.metadata));
    snapshot.map.storage = of(named.storage_map.as_ref().map(|object| &object.metadata));
    snapshot.conditions.set(mark(types::EXECUTING, None), now);
    snapshot
}

/// What a run begins with.
pub struct Beginning<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What it names.
    pub named: &'a Named,
    /// The plan, resolved.
    pub facts: &'a PlanFacts,
    /// The Migration that asks for it.
    pub migration: &'a Migration,
    /// The plan's VMs as they are written and as they were resolved.
    pub vms: &'a [(PlanVM, PlanVm)],
    /// The VMs in the inventory, by id.
    pub machines: &'a HashMap<String, Machine>,
    /// The time.
    pub now: Timestamp,
}

impl Beginning<'_> {
    /// Begins the run: the record gets its entry, and VMs that were not migrated yet start anew. A run that cannot
    /// begin gets its entry too, as failed.
    pub fn begin(&self, record: &mut MigrationRecord) -> Result<(), BeginError> {
        let mut snapshot = snapshot(self.plan, self.named, self.migration, self.now);
        let before: Vec<VmState> = record.vms.iter().filter_map(|vm| VmState::from_status(vm).ok()).collect();
        let planned: Vec<PlanVm> = self.vms.iter().map(|(_, vm)| vm.clone()).collect();
        let states = match run::begin(self.facts, &planned, &before, |id| self.machines.get(id)) {
            Ok(states) => states,
            Err(error) => {
                snapshot.conditions.remove(types::EXECUTING);
                let failed = Condition { message: error.to_string(), ..mark(types::FAILED, None) };
                snapshot.conditions.set(failed, self.now);
                record.history.push(snapshot);
                return Err(error);
            }
        };
        let old = std::mem::take(&mut record.vms);
        record.vms = states.iter().filter_map(|state| self.status(state, &old)).collect();
        record.timed.reset();
        record.timed.mark_started(self.now);
        record.history.push(snapshot);
        Ok(())
    }

    fn status(&self, state: &VmState, old: &[VMStatus]) -> Option<VMStatus> {
        if state.completed.is_some() {
            return old.iter().find(|vm| vm.reference().id == state.id).cloned();
        }
        let (written, _) = self.vms.iter().find(|(_, vm)| vm.id == state.id)?;
        let reference = Ref { id: state.id.clone(), name: state.name.clone(), ..written.reference.clone() };
        let fresh = VMStatus { vm: PlanVM { reference, ..written.clone() }, ..VMStatus::default() };
        state.to_status(&fresh, self.now).ok()
    }
}

/// Ends the run when all its VMs have ended; returns the condition it ended in.
pub fn end(record: &mut MigrationRecord, broken: Option<CancelReason>, now: Timestamp) -> Option<&'static str> {
    let states: Vec<VmState> = record.vms.iter().filter_map(|vm| VmState::from_status(vm).ok()).collect();
    let outcome = match (run::end(&states)?, broken) {
        (_, Some(_)) => Outcome::Canceled,
        (outcome, None) => outcome,
    };
    record.timed.mark_completed(now);
    let snapshot = record.history.last_mut()?;
    snapshot.conditions.remove(types::EXECUTING);
    let reason = broken.map(|reason| match reason {
        CancelReason::Deleted => reasons::DELETED,
        CancelReason::Modified => reasons::MODIFIED,
        CancelReason::NotFound => reasons::NOT_FOUND,
        CancelReason::UserRequested => reasons::USER_REQUESTED,
    });
    snapshot.conditions.set(mark(outcome.as_str(), reason), now);
    Some(outcome.as_str())
}
