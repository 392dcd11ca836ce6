//! The order of phases, as data. Which entries apply to a VM is told by pure predicates over its [`Facets`].
//!
//! The lists read like upstream's; `CopyDisks` in a warm migration is entered again for each round, which is the
//! business of [`step`](super::step), as are failure and cancel.
use super::phase::Phase::{self, *};
use super::world::{MigrationKind, PlanFacts, PlanVm, TargetPower};
use crate::machine::{Machine, OsFamily};

/// What the predicates of an itinerary look at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    /// The VM has a pre-migration hook.
    pub pre_hook: bool,
    /// The VM has a post-migration hook.
    pub post_hook: bool,
    /// The guest is converted.
    pub conversion: bool,
    /// virt-v2v copies the disks itself. Our importer copies them for every source; kept because the phases are API.
    pub v2v_copies: bool,
    /// Snapshot removal is waited for (vSphere).
    pub snapshot_tasks: bool,
    /// The guest is inspected before anything is copied.
    pub preflight: bool,
    /// OpenStack images are converted to raw; our importer reads qcow2, so never.
    pub openstack_images: bool,
    /// A Windows guest is watched through its first-boot restarts.
    pub reboots: bool,
    /// The end waits for the removal of the final snapshot.
    pub final_removal: bool,
}

impl Facets {
    /// Derives the facets of a VM.
    pub fn of(plan: &PlanFacts, vm: &PlanVm, machine: Option<&Machine>) -> Self {
        let conversion = plan.source.conversion && !plan.options.skip_guest_conversion;
        let warm = plan.kind == MigrationKind::Warm;
        let windows = machine.is_some_and(|m| m.guest.family == OsFamily::Windows);
        let wish = vm.target_power_state.filter(|p| *p != TargetPower::Auto).unwrap_or(plan.options.target_power_state);
        Self {
            pre_hook: vm.pre_hook.is_some(),
            post_hook: vm.post_hook.is_some(),
            conversion,
            v2v_copies: false,
            snapshot_tasks: plan.source.snapshot_tasks,
            preflight: warm && conversion && plan.source.snapshot_tasks && plan.options.preflight_inspection,
            openstack_images: false,
            reboots: conversion && windows && plan.options.wait_for_guest_reboots && wish != TargetPower::Off,
            final_removal: false,
        }
    }
}

/// One entry of an itinerary.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// The phase.
    pub phase: Phase,
    /// Whether it applies.
    pub when: fn(&Facets) -> bool,
}

/// The phases of a kind of migration.
#[derive(Debug)]
pub struct Itinerary {
    /// Name, for messages and documentation.
    pub name: &'static str,
    /// Entries in their order.
    pub stages: &'static [Stage],
}

const fn stage(phase: Phase) -> Stage {
    Stage { phase, when: |_| true }
}

const fn when(phase: Phase, when: fn(&Facets) -> bool) -> Stage {
    Stage { phase, when }
}

/// The source is off while its disks are copied.
pub static COLD: Itinerary = Itinerary {
    name: "cold",
    stages: &[
        stage(Started),
        when(PreHook, |f| f.pre_hook),
        stage(StorePowerState),
        stage(PowerOffSource),
        stage(WaitForPowerOff),
        stage(CreateDataVolumes),
        when(CopyDisks, |f| !f.v2v_copies),
        when(AllocateDisks, |f| f.v2v_copies),
        when(CreateGuestConversionPod, |f| f.conversion),
        when(ConvertGuest, |f| f.conversion),
        when(CopyDisksVirtV2V, |f| f.conversion && f.v2v_copies),
        when(ConvertOpenstackSnapshot, |f| f.openstack_images),
        stage(CreateVM),
        when(WaitForGuestReboots, |f| f.reboots),
        when(PostHook, |f| f.post_hook),
        stage(Completed),
    ],
};

/// Rounds of copies while the source runs, then a cutover.
pub static WARM: Itinerary = Itinerary {
    name: "warm",
    stages: &[
        stage(Started),
        when(PreHook, |f| f.pre_hook),
        stage(CreateInitialSnapshot),
        stage(WaitForInitialSnapshot),
        when(StoreInitialSnapshotDeltas, |f| f.snapshot_tasks),
        when(PreflightInspection, |f| f.preflight),
        stage(CreateDataVolumes),
        // a round; AddCheckpoint goes back to CopyDisks
        stage(CopyDisks),
        stage(CopyingPaused),
        when(RemovePreviousSnapshot, |f| f.snapshot_tasks),
        when(WaitForPreviousSnapshotRemoval, |f| f.snapshot_tasks),
        stage(CreateSnapshot),
        stage(WaitForSnapshot),
        when(StoreSnapshotDeltas, |f| f.snapshot_tasks),
        stage(AddCheckpoint),
        // the cutover
        stage(StorePowerState),
        stage(PowerOffSource),
        stage(WaitForPowerOff),
        when(RemovePenultimateSnapshot, |f| f.snapshot_tasks),
        when(WaitForPenultimateSnapshotRemoval, |f| f.snapshot_tasks),
        stage(CreateFinalSnapshot),
        stage(WaitForFinalSnapshot),
        stage(AddFinalCheckpoint),
        stage(Finalize),
        stage(RemoveFinalSnapshot),
        when(CreateGuestConversionPod, |f| f.conversion),
        when(ConvertGuest, |f| f.conversion),
        stage(CreateVM),
        when(WaitForGuestReboots, |f| f.reboots),
        when(PostHook, |f| f.post_hook),
        when(WaitForFinalSnapshotRemoval, |f| f.final_removal),
        stage(Completed),
    ],
};

/// The disks were brought to the target by somebody else.
pub static CONVERSION_ONLY: Itinerary = Itinerary {
    name: "conversion",
    stages: &[
        stage(Started),
        when(PreHook, |f| f.pre_hook),
        stage(StorePowerState),
        stage(PowerOffSource),
        stage(WaitForPowerOff),
        when(CreateGuestConversionPod, |f| f.conversion),
        when(ConvertGuest, |f| f.conversion),
        stage(CreateVM),
        when(WaitForGuestReboots, |f| f.reboots),
        when(PostHook, |f| f.post_hook),
        stage(Completed),
    ],
};

/// The disks were copied by an earlier run whose conversion failed.
pub static RESUME_CONVERSION: Itinerary = Itinerary {
    name: "resume-conversion",
    stages: &[
        stage(Started),
        when(PreHook, |f| f.pre_hook),
        when(CreateGuestConversionPod, |f| f.conversion),
        when(ConvertGuest, |f| f.conversion),
        stage(CreateVM),
        when(WaitForGuestReboots, |f| f.reboots),
        when(PostHook, |f| f.post_hook),
        stage(Completed),
    ],
};

/// Returns the itinerary of a plan's active migration; `None` for kinds that have none here (live).
pub fn itinerary(plan: &PlanFacts) -> Option<&'static Itinerary> {
    if plan.resume_conversion {
        return Some(&RESUME_CONVERSION);
    }
    match plan.kind {
        MigrationKind::Cold => Some(&COLD),
        MigrationKind::Warm => Some(&WARM),
        MigrationKind::Conversion => Some(&CONVERSION_ONLY),
        MigrationKind::Live => None,
    }
}

impl Itinerary {
    /// Returns the phases that apply, in their order.
    pub fn phases(&self, facets: &Facets) -> impl Iterator<Item = Phase> {
        self.stages.iter().filter(move |s| (s.when)(facets)).map(|s| s.phase)
    }

    /// Returns the next phase that applies after `phase`; `Completed` at the end or when the phase is not listed.
    pub fn next(&self, phase: Phase, facets: &Facets) -> Phase {
        let after = self.stages.iter().skip_while(|s| s.phase != phase).skip(1);
        after.into_iter().find(|s| (s.when)(facets)).map_or(Completed, |s| s.phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(itinerary: &Itinerary, facets: Facets, expected: Expect) {
        let names: Vec<_> = itinerary.phases(&facets).map(Phase::as_str).collect();
        expected.assert_eq(&names.join(" "));
    }

    #[test]
    fn an_appliance_is_copied_by_importers_and_converted() {
        check(
            &COLD,
            Facets { conversion: true, pre_hook: true, ..Facets::default() },
            expect![
                "Started PreHook StorePowerState PowerOffSource WaitForPowerOff CreateDataVolumes CopyDisks CreateGuestConversionPod ConvertGuest CreateVM Completed"
            ],
        );
    }

    #[test]
    fn a_raw_copy_has_no_conversion() {
        check(
            &COLD,
            Facets { post_hook: true, ..Facets::default() },
            expect![
                "Started StorePowerState PowerOffSource WaitForPowerOff CreateDataVolumes CopyDisks CreateVM PostHook Completed"
            ],
        );
    }

    #[test]
    fn warm_on_vsphere_waits_for_its_snapshots() {
        check(
            &WARM,
            Facets { conversion: true, snapshot_tasks: true, ..Facets::default() },
            expect![
                "Started CreateInitialSnapshot WaitForInitialSnapshot StoreInitialSnapshotDeltas CreateDataVolumes CopyDisks CopyingPaused RemovePreviousSnapshot WaitForPreviousSnapshotRemoval CreateSnapshot WaitForSnapshot StoreSnapshotDeltas AddCheckpoint StorePowerState PowerOffSource WaitForPowerOff RemovePenultimateSnapshot WaitForPenultimateSnapshotRemoval CreateFinalSnapshot WaitForFinalSnapshot AddFinalCheckpoint Finalize RemoveFinalSnapshot CreateGuestConversionPod ConvertGuest CreateVM Completed"
            ],
        );
    }

    #[test]
    fn a_guest_is_inspected_between_its_first_snapshot_and_its_volumes() {
        let facets = Facets { conversion: true, snapshot_tasks: true, preflight: true, ..Facets::default() };
        assert_eq!(WARM.next(StoreInitialSnapshotDeltas, &facets), PreflightInspection);
        assert_eq!(WARM.next(PreflightInspection, &facets), CreateDataVolumes);
    }

    #[test]
    fn windows_is_waited_for_unless_it_stays_off() {
        let mut plan = PlanFacts::default();
        plan.source.conversion = true;
        plan.options.wait_for_guest_reboots = true;
        let mut machine = Machine::default();
        machine.guest.family = OsFamily::Windows;
        let waits = |plan: &PlanFacts, wish| {
            let vm = PlanVm { target_power_state: wish, ..PlanVm::default() };
            Facets::of(plan, &vm, Some(&machine)).reboots
        };
        assert!(waits(&plan, None) && !waits(&plan, Some(TargetPower::Off)));
        plan.options.target_power_state = TargetPower::Off;
        assert!(!waits(&plan, None) && waits(&plan, Some(TargetPower::On)));
        plan.options.skip_guest_conversion = true;
        assert!(!waits(&plan, Some(TargetPower::On)));
    }

    #[test]
    fn next_of_an_unlisted_phase_is_the_end() {
        assert_eq!(RESUME_CONVERSION.next(CopyDisks, &Facets::default()), Completed);
        assert_eq!(COLD.next(Started, &Facets::default()), StorePowerState);
    }
}
