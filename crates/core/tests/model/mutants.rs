//! Planted bugs: each is a step function that is wrong in one way. The model must find every one of them.
use forklift_api::worker::ImportResult;
use forklift_core::machine::{Machine, PowerState};
use forklift_core::plan::step::step;
use forklift_core::plan::world::{ConversionPhase, JobState, Observed, SourceFacts, TargetFacts};
use forklift_core::plan::{Effect, Outcome, Phase, Recheck, Transition, VmState, World};

use crate::run::Step;

/// Name and step function of every planted bug.
pub const MUTANTS: &[(&str, Step)] = &[
    ("goes on before the copy is verified", skips_the_copy),
    ("takes a lost result for a success", believes_lost_results),
    ("creates the VM before the conversion finished", skips_the_conversion),
    ("takes any conversion that began for a finished one", believes_conversions),
    ("does not wait for the power-off", does_not_wait_for_power_off),
    ("creates the target while the source runs", ignores_the_source),
    ("powers off without reading the identity again", powers_off_blindly),
    ("deletes a foreign VM of the target's name", deletes_by_name),
    ("takes a foreign VM for its own", takes_foreign_vms),
    ("forgets the clean-up on cancel", forgets_the_cleanup),
    ("forgets to switch the source on again", forgets_the_power),
    ("switches the source on while the target exists", restores_too_much),
    ("removes the disks of a failed migration", removes_failed_disks),
    ("removes only one snapshot at the end", removes_one_snapshot),
    ("does not make the VM the owner of its disks", skips_the_adoption),
    ("leaves importers running after a failure", leaves_importers),
    ("uses what an earlier run left", keeps_leftovers),
    ("never gives a failing importer up", waits_forever),
    ("copies before the inspection is over", skips_the_inspection),
    ("takes any inspection that began for a good one", believes_inspections),
    ("copies in spite of a critical concern", overlooks_concerns),
    ("forgets what the inspection found", forgets_concerns),
    ("takes a canceled inspection for one that runs", waits_for_canceled_inspections),
    ("does not wait for the guest's restarts", skips_the_restarts),
    ("takes a guest's first start for its restart", counts_the_first_start),
    ("waits for a guest without an agent for ever", waits_for_the_agent),
];

fn to(state: &VmState, phase: Phase) -> Transition {
    let mut next = state.clone();
    next.phase = phase;
    next.disks_copied = true;
    Transition { next, effects: Vec::new(), recheck: Recheck::Now }
}

fn undecided(state: &VmState, world: &World<'_>, phase: Phase) -> bool {
    state.phase == phase && state.outcome.is_none() && world.canceled.is_none()
}

fn finished(state: &VmState) -> Transition {
    let mut next = state.clone();
    next.phase = Phase::Completed;
    next.completed = state.started;
    Transition { next, effects: Vec::new(), recheck: Recheck::Never }
}

fn converts(world: &World<'_>) -> bool {
    world.plan.source.conversion && !world.plan.options.skip_guest_conversion
}

fn skips_the_copy(state: &VmState, world: &World<'_>) -> Transition {
    if undecided(state, world, Phase::CopyDisks) && !world.plan.source.warm {
        return to(state, if converts(world) { Phase::CreateGuestConversionPod } else { Phase::CreateVM });
    }
    step(state, world)
}

fn believes_lost_results(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    for import in target.imports.iter_mut().filter(|i| i.state == JobState::Succeeded && i.result.is_none()) {
        import.result = Some(ImportResult { verified: true, ..ImportResult::default() });
    }
    step(state, &World { target: &target, ..*world })
}

fn skips_the_conversion(state: &VmState, world: &World<'_>) -> Transition {
    if undecided(state, world, Phase::ConvertGuest) { to(state, Phase::CreateVM) } else { step(state, world) }
}

fn believes_conversions(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    if let Some(conversion) = &mut target.conversion {
        conversion.phase = ConversionPhase::Succeeded;
        conversion.result = None;
    }
    step(state, &World { target: &target, ..*world })
}

fn does_not_wait_for_power_off(state: &VmState, world: &World<'_>) -> Transition {
    let source = SourceFacts { power: PowerState::Off, unreachable: None, ..world.source.clone() };
    let waits = undecided(state, world, Phase::WaitForPowerOff) || undecided(state, world, Phase::CopyDisks);
    if waits { step(state, &World { source: &source, ..*world }) } else { step(state, world) }
}

fn ignores_the_source(state: &VmState, world: &World<'_>) -> Transition {
    let source = SourceFacts { power: PowerState::Off, unreachable: None, ..world.source.clone() };
    let creates = undecided(state, world, Phase::CreateVM);
    if creates { step(state, &World { source: &source, ..*world }) } else { step(state, world) }
}

fn powers_off_blindly(state: &VmState, world: &World<'_>) -> Transition {
    let source = SourceFacts { identity: world.machine.map(Machine::identity), ..world.source.clone() };
    step(state, &World { source: &source, ..*world })
}

fn deletes_by_name(state: &VmState, world: &World<'_>) -> Transition {
    if undecided(state, world, Phase::Started)
        && let Some(vm) = &world.target.vm
        && !vm.seen.deleting
    {
        let effects = vec![Effect::Delete(vm.seen.object.clone())];
        return Transition { next: state.clone(), effects, recheck: Recheck::After(1) };
    }
    step(state, world)
}

fn takes_foreign_vms(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    if let Some(vm) = &mut target.vm {
        vm.seen.plan_uid.clone_from(&world.plan.uid);
        vm.seen.migration_uid.clone_from(&world.plan.migration_uid);
        vm.seen.vm_id.clone_from(&world.vm.id);
    }
    step(state, &World { target: &target, ..*world })
}

fn forgets_the_cleanup(state: &VmState, world: &World<'_>) -> Transition {
    if state.outcome == Some(Outcome::Canceled) && state.completed.is_none() {
        finished(state)
    } else {
        step(state, world)
    }
}

fn forgets_the_power(state: &VmState, world: &World<'_>) -> Transition {
    let mut transition = step(state, world);
    if transition.effects.iter().any(|e| matches!(e, Effect::PowerOn(_))) {
        transition = finished(state);
    }
    transition
}

fn restores_too_much(state: &VmState, world: &World<'_>) -> Transition {
    if !state.settling() {
        return step(state, world);
    }
    let mut target: TargetFacts = world.target.clone();
    let is_vm = |o: &Observed| o.object.kind == "VirtualMachine";
    target.labelled.retain(|o| !is_vm(o));
    target.vm = None;
    step(state, &World { target: &target, ..*world })
}

fn removes_failed_disks(state: &VmState, world: &World<'_>) -> Transition {
    let failed = state.outcome == Some(Outcome::Failed) && state.completed.is_none();
    let disks = || {
        world
            .target
            .labelled
            .iter()
            .filter(|o| o.object.kind == "PersistentVolumeClaim" && o.plan_uid == world.plan.uid && !o.deleting)
    };
    if failed && disks().next().is_some() {
        let effects = disks().map(|o| Effect::Delete(o.object.clone())).collect();
        return Transition { next: state.clone(), effects, recheck: Recheck::After(1) };
    }
    step(state, world)
}

fn removes_one_snapshot(state: &VmState, world: &World<'_>) -> Transition {
    if state.settling() && world.plan.source.warm {
        return step(
            state,
            &World { source: &SourceFacts { snapshots: Vec::new(), ..world.source.clone() }, ..*world },
        );
    }
    step(state, world)
}

fn skips_the_adoption(state: &VmState, world: &World<'_>) -> Transition {
    let mut transition = step(state, world);
    if transition
        .effects
        .iter()
        .any(|e| matches!(e, Effect::Adopt { object, .. } if object.kind == "PersistentVolumeClaim"))
    {
        transition = to(state, Phase::Completed);
    }
    transition
}

fn leaves_importers(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    if state.outcome == Some(Outcome::Failed) {
        target.labelled.retain(|o| o.object.kind != "Job");
    }
    step(state, &World { target: &target, ..*world })
}

fn keeps_leftovers(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    if undecided(state, world, Phase::Started) {
        target.labelled.clear();
    }
    step(state, &World { target: &target, ..*world })
}

fn skips_the_inspection(state: &VmState, world: &World<'_>) -> Transition {
    if undecided(state, world, Phase::PreflightInspection) {
        let mut transition = to(state, Phase::CreateDataVolumes);
        transition.next.disks_copied = false;
        return transition;
    }
    step(state, world)
}

fn believes_inspections(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    if let Some(inspection) = &mut target.inspection {
        inspection.phase = ConversionPhase::Succeeded;
        inspection.inspection.get_or_insert_default();
    }
    step(state, &World { target: &target, ..*world })
}

fn overlooks_concerns(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    let concerns = target.inspection.iter_mut().flat_map(|fact| &mut fact.inspection).flat_map(|i| &mut i.concerns);
    concerns.for_each(|concern| concern.category = "Warning".into());
    step(state, &World { target: &target, ..*world })
}

fn forgets_concerns(state: &VmState, world: &World<'_>) -> Transition {
    let mut transition = step(state, world);
    if transition.next.outcome.is_none() {
        transition.next.findings.clear();
    }
    transition
}

fn waits_for_canceled_inspections(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    if let Some(inspection) = target.inspection.as_mut().filter(|i| i.phase == ConversionPhase::Canceled) {
        inspection.phase = ConversionPhase::Running;
    }
    step(state, &World { target: &target, ..*world })
}

fn skips_the_restarts(state: &VmState, world: &World<'_>) -> Transition {
    if undecided(state, world, Phase::WaitForGuestReboots) {
        let after = if world.vm.post_hook.is_some() { Phase::PostHook } else { Phase::Completed };
        return to(state, after);
    }
    step(state, world)
}

fn counts_the_first_start(state: &VmState, world: &World<'_>) -> Transition {
    let mut state = state.clone();
    for step in state.pipeline.iter_mut().filter(|step| step.task.name == "WaitForGuestReboots") {
        step.task.annotations.insert("restarts".into(), "1".into());
    }
    step(&state, world)
}

fn waits_for_the_agent(state: &VmState, world: &World<'_>) -> Transition {
    let mut transition = step(state, world);
    if transition.next.restarts_unseen.is_some() && state.restarts_unseen.is_none() {
        transition = Transition { next: state.clone(), effects: Vec::new(), recheck: Recheck::After(3) };
    }
    transition
}

fn waits_forever(state: &VmState, world: &World<'_>) -> Transition {
    let mut target: TargetFacts = world.target.clone();
    for import in target.imports.iter_mut().filter(|i| i.state == JobState::Failed) {
        import.state = JobState::Running;
        import.result = None;
    }
    step(state, &World { target: &target, ..*world })
}
