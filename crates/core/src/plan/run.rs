//! The run of a whole plan: which Migration is active, how it begins, when and how it ends.
//!
//! Every run has an entry in the plan's history with the UIDs of what it was started on; when one of these objects
//! is replaced by another of the same name, the run is canceled rather than continued on something else.
use jiff::Timestamp;

use super::itinerary::{self, Facets};
use super::phase::Phase;
use super::pipeline;
use super::state::{Outcome, VmState};
use super::world::{CancelReason, MigrationKind, PlanFacts, PlanVm};
use crate::machine::Machine;

/// UIDs of the objects a run is started on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis {
    /// The plan.
    pub plan: String,
    /// The source provider.
    pub source: String,
    /// The destination provider.
    pub destination: String,
    /// The network map.
    pub network: String,
    /// The storage map; not looked at for a conversion-only plan.
    pub storage: String,
}

/// An entry of the plan's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it was started on.
    pub basis: Basis,
    /// UID of its Migration.
    pub migration: String,
    /// How it ended, if it did.
    pub outcome: Option<Outcome>,
}

/// A Migration of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationFact {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// When it was created.
    pub created: Timestamp,
    /// It has ended (or is not valid).
    pub terminal: bool,
}

/// Which run there is to carry on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Active {
    /// None, and none is asked for.
    None,
    /// The last entry of the history.
    Running {
        /// UID of its Migration.
        migration: String,
    },
    /// The last entry of the history has to be ended: all its VMs are canceled for this reason.
    Cancel {
        /// UID of its Migration.
        migration: String,
        /// Why.
        reason: CancelReason,
    },
    /// No run is active; this Migration is next and gets an entry in the history.
    Begin(MigrationFact),
}

/// Returns the run to carry on, or to begin.
pub fn active(history: &[Entry], migrations: &[MigrationFact], basis: &Basis, kind: MigrationKind) -> Active {
    if let Some(last) = history.last().filter(|entry| entry.outcome.is_none()) {
        let migration = last.migration.clone();
        if !migrations.iter().any(|m| m.uid == migration) {
            return Active::Cancel { migration, reason: CancelReason::Deleted };
        }
        if !same_basis(&last.basis, basis, kind) {
            return Active::Cancel { migration, reason: CancelReason::Modified };
        }
        return Active::Running { migration };
    }
    pending(history, migrations).into_iter().next().map_or(Active::None, |m| Active::Begin(m.clone()))
}

/// Returns the Migrations that wait for their turn, the oldest first.
pub fn pending<'a>(history: &[Entry], migrations: &'a [MigrationFact]) -> Vec<&'a MigrationFact> {
    let ended = |m: &MigrationFact| history.iter().any(|e| e.migration == m.uid && e.outcome.is_some());
    let mut waiting: Vec<_> = migrations.iter().filter(|m| !m.terminal && !ended(m)).collect();
    waiting.sort_by(|a, b| (a.created, &a.namespace, &a.name).cmp(&(b.created, &b.namespace, &b.name)));
    waiting
}

fn same_basis(then: &Basis, now: &Basis, kind: MigrationKind) -> bool {
    then.plan == now.plan
        && then.source == now.source
        && then.destination == now.destination
        && then.network == now.network
        && (kind == MigrationKind::Conversion || then.storage == now.storage)
}

/// Why a run cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BeginError {
    /// There is nothing whose conversion could be done again.
    #[error("Resume conversion requires VMs with completed disk copy (DisksCopied=true).")]
    NothingCopied,
    /// Copy and conversion are one for this VM.
    #[error("Resume conversion is not supported for VM {0}.")]
    NotSeparate(String),
}

/// Returns the states a run begins with: finished VMs are kept (so that a restart migrates only the others), VMs that
/// left the plan are dropped, all others begin anew with a fresh pipeline. In resume mode those without copied disks
/// are left out.
pub fn begin<'m>(
    plan: &PlanFacts,
    vms: &[PlanVm],
    old: &[VmState],
    machine: impl Fn(&str) -> Option<&'m Machine>,
) -> Result<Vec<VmState>, BeginError> {
    let kept = |vm: &PlanVm| old.iter().find(|s| s.id == vm.id || (s.id.is_empty() && s.name == vm.name));
    let copied = |s: &VmState| s.disks_copied && s.outcome == Some(Outcome::Failed);
    if plan.resume_conversion {
        let separate = plan.source.conversion && !plan.options.skip_guest_conversion;
        if let Some(vm) = vms.iter().find(|_| !separate) {
            return Err(BeginError::NotSeparate(vm.name.clone()));
        }
        if !vms.iter().filter_map(kept).any(copied) {
            return Err(BeginError::NothingCopied);
        }
    }
    let mut states = Vec::new();
    for vm in vms {
        let before = kept(vm);
        if let Some(done) = before.filter(|s| s.completed.is_some() && s.outcome == Some(Outcome::Succeeded)) {
            states.push(done.clone());
            continue;
        }
        if plan.resume_conversion && !before.is_some_and(copied) {
            continue;
        }
        states.push(reset(plan, vm, before, machine(&vm.id)));
    }
    Ok(states)
}

/// Returns the state of a VM at the start of its itinerary. What an earlier run recorded about the conversion and the
/// copied disks is kept only when the run resumes it.
pub fn reset(plan: &PlanFacts, vm: &PlanVm, before: Option<&VmState>, machine: Option<&Machine>) -> VmState {
    let mut state = VmState::new(&vm.id, &vm.name);
    if let Some(before) = before.filter(|_| plan.resume_conversion) {
        state.disks_copied = before.disks_copied;
        state.warm = before.warm.clone();
        state.new_name = before.new_name.clone();
        state.restore_power_state = before.restore_power_state;
    }
    let facets = Facets::of(plan, vm, machine);
    if let Some(list) = itinerary::itinerary(plan) {
        let kind = if plan.resume_conversion { MigrationKind::Cold } else { plan.kind };
        state.pipeline = pipeline::build(list, kind, &facets, machine);
    }
    state.phase = Phase::Started;
    state
}

/// Returns how the run ended, once all its VMs have.
pub fn end(states: &[VmState]) -> Option<Outcome> {
    if states.iter().any(|s| s.completed.is_none()) {
        return None;
    }
    let any = |outcome| states.iter().any(|s| s.outcome == Some(outcome));
    Some(if any(Outcome::Failed) {
        Outcome::Failed
    } else if any(Outcome::Succeeded) {
        Outcome::Succeeded
    } else {
        Outcome::Canceled
    })
}

/// Returns whether a failed plan has a VM whose conversion can be done again without copying.
pub fn conversion_resumable(outcome: Option<Outcome>, states: &[VmState]) -> bool {
    outcome == Some(Outcome::Failed) && states.iter().any(|s| s.disks_copied && s.outcome == Some(Outcome::Failed))
}

/// A condition that blocks the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its message.
    pub message: String,
    /// Since when it is there.
    pub since: Timestamp,
}

/// Returns the reason why a running migration has to fail: a blocker that stayed longer than the grace period.
pub fn blocked(blockers: &[Blocker], now: Timestamp, grace_seconds: i64) -> Option<String> {
    let stays = |b: &Blocker| now.as_second().saturating_sub(b.since.as_second()) > grace_seconds;
    if !blockers.iter().any(stays) {
        return None;
    }
    let messages: Vec<_> = blockers.iter().map(|b| b.message.as_str()).collect();
    Some(format!("The migration has FAILED due to a validation blocker: {}", messages.join("; ")))
}

/// Ends a VM that has not ended yet because of a blocker; its clean-up follows as after any failure.
pub fn fail_blocked(state: &mut VmState, reason: &str, now: Timestamp) {
    if state.outcome.is_none() && state.completed.is_none() {
        state.error.get_or_insert_default().add(reason);
        state.outcome = Some(Outcome::Failed);
        pipeline::stop(&mut state.pipeline, &[reason.to_owned()], now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn migration(name: &str, created: i64) -> MigrationFact {
        MigrationFact {
            namespace: "ns".into(),
            name: name.into(),
            uid: name.into(),
            created: at(created),
            terminal: false,
        }
    }

    fn entry(migration: &str, outcome: Option<Outcome>) -> Entry {
        Entry { migration: migration.into(), outcome, ..Entry::default() }
    }

    #[test]
    fn the_oldest_migration_begins_when_none_is_active() {
        let migrations = [migration("b", 2), migration("a", 1)];
        let basis = Basis::default();
        let kind = MigrationKind::Cold;
        assert_eq!(active(&[], &migrations, &basis, kind), Active::Begin(migrations[1].clone()));
        assert_eq!(active(&[entry("a", None)], &migrations, &basis, kind), Active::Running { migration: "a".into() });
        assert_eq!(
            active(&[entry("a", Some(Outcome::Failed))], &migrations, &basis, kind),
            Active::Begin(migrations[0].clone())
        );
        assert_eq!(active(&[], &[], &basis, kind), Active::None);
    }

    #[test]
    fn a_replaced_map_or_a_deleted_migration_cancels() {
        let migrations = [migration("a", 1)];
        let history = [entry("a", None)];
        let other = Basis { storage: "new".into(), ..Basis::default() };
        let cancel = |reason| Active::Cancel { migration: "a".into(), reason };
        assert_eq!(active(&history, &migrations, &other, MigrationKind::Cold), cancel(CancelReason::Modified));
        assert_eq!(
            active(&history, &migrations, &other, MigrationKind::Conversion),
            Active::Running { migration: "a".into() }
        );
        assert_eq!(active(&history, &[], &Basis::default(), MigrationKind::Cold), cancel(CancelReason::Deleted));
    }

    #[test]
    fn a_restart_migrates_only_the_unfinished() {
        let plan = PlanFacts::default();
        let vm = |id: &str| PlanVm { id: id.into(), name: id.into(), ..PlanVm::default() };
        let done = |id: &str, outcome| VmState {
            outcome: Some(outcome),
            completed: Some(at(5)),
            phase: Phase::Completed,
            ..VmState::new(id, id)
        };
        let old = [done("good", Outcome::Succeeded), done("bad", Outcome::Failed), done("gone", Outcome::Succeeded)];
        let states = begin(&plan, &[vm("good"), vm("bad"), vm("new")], &old, |_| None).unwrap_or_default();
        let view: Vec<_> = states.iter().map(|s| (s.id.as_str(), s.phase, s.outcome)).collect();
        assert_eq!(
            view,
            [
                ("good", Phase::Completed, Some(Outcome::Succeeded)),
                ("bad", Phase::Started, None),
                ("new", Phase::Started, None)
            ]
        );
        assert_eq!(end(&states), None);
        assert_eq!(end(&old), Some(Outcome::Failed));
        assert_eq!(end(&[done("x", Outcome::Canceled)]), Some(Outcome::Canceled));
    }

    #[test]
    fn a_conversion_is_resumed_only_on_copied_disks() {
        let mut plan = PlanFacts { resume_conversion: true, ..PlanFacts::default() };
        let vms = [PlanVm { id: "a".into(), name: "a".into(), ..PlanVm::default() }];
        assert_eq!(begin(&plan, &vms, &[], |_| None), Err(BeginError::NotSeparate("a".into())));
        plan.source.conversion = true;
        assert_eq!(begin(&plan, &vms, &[], |_| None), Err(BeginError::NothingCopied));
        let failed = VmState {
            outcome: Some(Outcome::Failed),
            completed: Some(at(1)),
            disks_copied: true,
            ..VmState::new("a", "a")
        };
        let states = begin(&plan, &vms, &[failed], |_| None).unwrap_or_default();
        assert!(states.len() == 1 && states[0].disks_copied && states[0].outcome.is_none());
    }

    #[test]
    fn a_blocker_has_its_grace() {
        let blockers = [Blocker { message: "storage map gone".into(), since: at(0) }];
        assert_eq!(blocked(&blockers, at(300), 300), None);
        assert!(blocked(&blockers, at(301), 300).is_some_and(|m| m.ends_with("storage map gone")));
    }
}
