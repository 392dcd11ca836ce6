//! One migration in a fake world, with crashes, refusals, delays, cancels and other people's deeds at random moments,
//! and the rules that hold at its end.
use forklift_api::worker::{ImportSource, Verify};
use forklift_core::build::importer_job;
use forklift_core::machine::{Disk, Machine, OsFamily, PowerState};
use forklift_core::plan::itinerary::Facets;
use forklift_core::plan::step::{self, CLEANUP_INCOMPLETE};
use forklift_core::plan::world::{HookSpec, MigrationKind, SourceFacts, TargetFacts};
use forklift_core::plan::{
    CancelReason, Effect, EffectError, Outcome, Phase, PlanFacts, PlanVm, Transition, VmState, World, run,
};
use forklift_core::safety;
use forklift_core::source::{Capabilities, DiskSource};
use jiff::Timestamp;
use serde_json::json;

use crate::fake::{Fake, Rng, Trouble};

/// How steps are decided: the real function, or one with a planted bug.
pub type Step = fn(&VmState, &World<'_>) -> Transition;

/// What came of a migration.
pub struct Report {
    pub outcome: Option<Outcome>,
    pub steps: u64,
    /// Rules that were broken.
    pub broken: Vec<String>,
}

const PLAN_UID: &str = "plan-uid";

/// Builds a world at random.
fn world(seed: u64) -> (Fake, Vec<DiskSource>) {
    let mut rng = Rng::new(seed);
    let kind = if rng.chance(300) { MigrationKind::Warm } else { MigrationKind::Cold };
    let warm = kind == MigrationKind::Warm;
    let power = warm || rng.chance(600);
    let mut plan = PlanFacts {
        name: "p1".into(),
        namespace: "ns".into(),
        uid: PLAN_UID.into(),
        migration_name: "m1".into(),
        migration_uid: "mig-uid".into(),
        kind,
        target_namespace: "tgt".into(),
        source_word: "ova".into(),
        image: "image".into(),
        worker_retries: 2,
        precopy_seconds: 60,
        source: Capabilities {
            power,
            warm,
            snapshot_tasks: warm,
            conversion: rng.chance(700),
            ..Capabilities::default()
        },
        verify: Verify::Full,
        ..PlanFacts::default()
    };
    plan.options.delete_vm_on_failure = rng.chance(750);
    plan.options.delete_conversion = rng.chance(500);
    plan.options.preflight_inspection = rng.chance(700);
    plan.options.wait_for_guest_reboots = rng.chance(700);
    plan.options.reboot_seconds = 700;
    let mut vm = PlanVm { id: "vm-42".into(), name: "Web 1".into(), ..PlanVm::default() };
    let hook = || HookSpec { name: "h".into(), uid: "hook".into(), image: "image".into(), ..HookSpec::default() };
    vm.pre_hook = rng.chance(200).then(hook);
    vm.post_hook = rng.chance(200).then(hook);
    let disks = 1 + rng.below(3);
    let mut machine = Machine {
        id: vm.id.clone(),
        name: vm.name.clone(),
        uuid: "uuid-42".into(),
        memory: 1 << 30,
        power: if power && rng.chance(800) { PowerState::On } else { PowerState::Off },
        disks: (0..disks).map(|i| Disk { key: format!("disk{i}"), capacity: 100 << 20, ..Disk::default() }).collect(),
        ..Machine::default()
    };
    if rng.chance(120) {
        machine.guest.family = OsFamily::Windows;
    }
    let trouble = [Trouble::None, Trouble::None, Trouble::Small, Trouble::Grave][rng.below(4) as usize];
    let sources = (0..disks)
        .map(|i| DiskSource {
            source: ImportSource::Nbd { uri: format!("nbd://x/{i}") },
            identity: i.to_string(),
            virtual_size: None,
            secret: None,
            host: String::new(),
            datastore: String::new(),
        })
        .collect();
    let mut fake = Fake::new(rng, plan, vm, machine);
    fake.trouble = trouble;
    people(&mut fake);
    (fake, sources)
}

/// Puts there what others, and an earlier run, have made.
fn people(fake: &mut Fake) {
    let labels = |plan: &str, migration: &str| json!({"plan": plan, "migration": migration, "vmID": "vm-42"});
    let object = |kind: &str, name: &str, labels: serde_json::Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "tgt", "labels": labels}});
    for (kind, name) in [("PersistentVolumeClaim", "theirs"), ("VirtualMachine", "their-vm"), ("Job", "their-job")] {
        fake.plant(object(kind, name, labels("another-plan", "another")), true);
    }
    fake.plant(object("ConfigMap", "no-labels", json!({})), true);
    let taken = fake.rng.chance(60);
    if taken {
        fake.plant(object("VirtualMachine", "web-1", json!({"app": "x"})), true);
    }
    if fake.rng.chance(20) {
        let name = importer_job::name(&fake.plan, &fake.vm, 0, 0);
        fake.plant(object("Job", &name, json!({})), true);
    }
    if fake.rng.chance(300) {
        for (kind, name) in [("PersistentVolumeClaim", "old-disk"), ("Job", "old-job"), ("Conversion", "old-convert")] {
            fake.plant(object(kind, name, labels(PLAN_UID, "earlier")), false);
        }
        if !taken && fake.rng.chance(500) && fake.plan.options.delete_vm_on_failure {
            fake.plant(object("VirtualMachine", "web-1", labels(PLAN_UID, "earlier")), false);
        }
    }
}

/// Others do something between two looks.
fn meddle(fake: &mut Fake) {
    if fake.rng.chance(8) {
        fake.away_until = fake.tick + 1 + fake.rng.below(8);
    }
    if fake.rng.chance(2) && fake.plan.source.power && fake.away_until <= fake.tick && !fake.swapped {
        fake.on = true;
    }
    if fake.rng.chance(1) {
        fake.swapped = fake.plan.source.power;
    }
    if fake.rng.chance(5) {
        let at = fake.objects.iter().position(|o| !o.foreign && matches!(o.made.kind.as_str(), "Job" | "Conversion"));
        if let Some(at) = at {
            fake.objects.remove(at);
        }
    }
}

/// Runs one migration. `guarded` passes every effect through the safety rules, as the shell does.
pub fn migrate(seed: u64, decide: Step, guarded: bool) -> Report {
    let (mut fake, sources) = world(seed);
    let (plan, vm, machine) = (fake.plan.clone(), fake.vm.clone(), fake.machine.clone());
    let mut stored = run::reset(&plan, &vm, None, Some(&machine));
    let cancel_at = fake.rng.chance(250).then(|| fake.rng.below(90));
    let cutover = Timestamp::from_second(20 + i64::try_from(fake.rng.below(60)).unwrap_or_default()).ok();
    let calm = fake.rng.chance(300);
    let mut touched_power = false;
    let mut meddled = false;
    let mut steps = 0;
    let mut before = seen_by_others(&fake);
    while fake.tick < 5000 && fake.broken.is_empty() {
        if stored.completed.is_some() {
            break;
        }
        fake.advance();
        if !calm {
            let was = (fake.on, fake.swapped);
            meddle(&mut fake);
            meddled |= was != (fake.on, fake.swapped);
        }
        let canceled = cancel_at.filter(|at| *at <= fake.tick).map(|_| CancelReason::UserRequested);
        let needs = step::needs(&stored, canceled.is_some());
        let name = step::target_name(&stored, &vm);
        let (source, target): (SourceFacts, TargetFacts) = (fake.source(needs), fake.target(needs, &name));
        let now = Timestamp::from_second(i64::try_from(fake.tick).unwrap_or_default()).unwrap_or_default();
        let world = World {
            now,
            plan: &plan,
            vm: &vm,
            machine: needs.machine.then_some(&machine),
            disk_sources: &sources,
            source: &source,
            target: &target,
            cutover,
            canceled,
        };
        steps += 1;
        let transition = decide(&stored, &world);
        let mut next = transition.next;
        let mut crashed = false;
        for effect in &transition.effects {
            if guarded && let Err(violation) = safety::permit(effect, &stored, &world) {
                fake.broken.push(format!("safety: {violation}"));
                break;
            }
            touched_power |= matches!(effect, Effect::PowerOff(_));
            match act(&mut fake, effect, calm) {
                Act::Done => {}
                Act::Crash => {
                    crashed = true;
                    break;
                }
                Act::Refused(error) => {
                    next = step::refused(&stored, effect, &error, now);
                    break;
                }
            }
        }
        if guarded && let Err(violation) = safety::permit_outcome(&next, &world) {
            fake.broken.push(format!("safety: {violation}"));
        }
        if !crashed && (calm || !fake.rng.chance(80)) {
            let left = stored.phase == Phase::WaitForGuestReboots && next.phase != stored.phase;
            if left && next.outcome != Some(Outcome::Canceled) && fake.guest_is_busy() && next.restarts_unseen.is_none()
            {
                fake.broken.push("a guest that is restarting was taken for one that has restarted".into());
            }
            stored = if fake.rng.chance(100) { through_the_wire(&mut fake, next, now) } else { next };
        }
    }
    if stored.completed.is_none() && fake.broken.is_empty() {
        fake.broken.push(format!("did not end: {} {:?} {:?}", stored.phase, stored.outcome, stored.waiting_on));
    }
    let after = seen_by_others(&fake);
    before.retain(|o| !after.contains(o));
    if !before.is_empty() {
        fake.broken.push(format!("others miss {before:?}"));
    }
    if fake.broken.is_empty() {
        check_end(&mut fake, &stored, touched_power, meddled);
    }
    Report { outcome: stored.outcome, steps, broken: fake.broken }
}

enum Act {
    Done,
    Crash,
    Refused(EffectError),
}

fn act(fake: &mut Fake, effect: &Effect, calm: bool) -> Act {
    let dice = if calm { 999 } else { fake.rng.below(1000) };
    match dice {
        0..40 => return Act::Crash,
        40..80 => {
            // after the effect, before the state is stored
            let _ = fake.apply(effect);
            return Act::Crash;
        }
        80..110 => return Act::Refused(EffectError::Failed("mishap".into())),
        110..140 => return Act::Refused(EffectError::Unavailable("mishap".into())),
        140..160 => return Act::Refused(EffectError::Conflict("mishap".into())),
        160..162 => return Act::Refused(EffectError::Rejected("quota".into())),
        _ => {}
    }
    let result = fake.apply(effect);
    if result.is_ok() && fake.rng.chance(300) {
        let count = fake.objects.len();
        let _ = fake.apply(effect);
        if fake.objects.len() != count {
            fake.broken.push(format!("doing it twice is not doing it once: {effect}"));
        }
    }
    match result {
        Ok(()) => Act::Done,
        Err(error) => Act::Refused(error),
    }
}

fn through_the_wire(fake: &mut Fake, state: VmState, now: Timestamp) -> VmState {
    let mut status = json!({"luks": {"name": "kept"}});
    let written = state.merge_into(&mut status, now).map(|()| VmState::from_status(&status));
    match written {
        Ok(Ok(read)) if read == state && status["luks"]["name"] == "kept" => read,
        other => {
            let phase = state.phase;
            let text = other
                .map_or_else(|e| e.to_string(), |read| read.map_or_else(|e| e.to_string(), |_| "it differs".into()));
            fake.broken.push(format!("the stored state reads back differently in {phase}: {text}"));
            state
        }
    }
}

fn seen_by_others(fake: &Fake) -> Vec<String> {
    fake.objects.iter().filter(|o| o.foreign).map(|o| format!("{} {}", o.made.kind, o.made.name)).collect()
}

/// What holds at the end, by outcome.
fn check_end(fake: &mut Fake, state: &VmState, touched_power: bool, meddled: bool) {
    let given_up = |text: &String| text.starts_with(CLEANUP_INCOMPLETE);
    let gave_up = state.warnings.iter().any(given_up) || state.error.iter().any(|e| e.reasons.iter().any(given_up));
    let ours: Vec<_> = fake.objects.iter().filter(|o| !o.foreign && o.stays()).collect();
    let of = |kind: &str| ours.iter().filter(|o| o.made.kind == kind).count();
    let current = |kind: &str| ours.iter().filter(|o| o.made.kind == kind && o.current()).count();
    let mut broken: Vec<String> = Vec::new();
    let mut rule = |holds: bool, text: &str| {
        if !holds {
            broken.push(format!("{text} ({:?})", state.outcome));
        }
    };
    rule(state.outcome.is_some(), "a completed migration has an outcome");
    let waits_power = fake.plan.source.power && fake.machine.power == PowerState::On && !fake.swapped && !meddled;
    if !gave_up {
        let failed_kept = state.outcome == Some(Outcome::Failed);
        rule(fake.snapshots.is_empty(), "no snapshot of ours is left");
        match state.outcome {
            Some(Outcome::Succeeded) => {
                rule(current("VirtualMachine") == 1, "the target exists");
                rule(current("Secret") == 0, "no credentials are left");
                let facets = Facets::of(&fake.plan, &fake.vm, Some(&fake.machine));
                let told = fake.trouble != Trouble::Small || state.findings.len() == 2;
                rule(!facets.preflight || told, "what the inspection found is told");
                let disks: Vec<_> =
                    ours.iter().filter(|o| o.made.kind == "PersistentVolumeClaim" && o.current()).collect();
                rule(disks.len() == fake.machine.disks.len(), "every disk has its volume");
                rule(disks.iter().all(|d| d.bytes.good && d.bytes.last), "every byte was verified");
                rule(disks.iter().all(|d| d.owners.len() == 1), "the VM owns its volumes");
                rule(of("Job") == 0, "no Job is left");
                let others = of("PersistentVolumeClaim") - disks.len();
                rule(others == 0 || !fake.plan.options.delete_vm_on_failure, "nothing of an earlier run is left");
            }
            Some(Outcome::Failed | Outcome::Canceled) => {
                let kept = of("VirtualMachine") > 0;
                rule(!waits_power || kept || fake.on, "the source runs again as it was found");
                rule(!(kept && fake.on && touched_power) || meddled, "source and target do not both run");
                if !failed_kept {
                    rule(of("Job") == 0 && of("Conversion") == 0, "no worker is left after a cancel");
                    let deletes = fake.plan.options.delete_vm_on_failure;
                    rule(
                        !deletes || current("PersistentVolumeClaim") + current("VirtualMachine") == 0,
                        "nothing is left after a cancel",
                    );
                } else {
                    let copied = state.disks_copied;
                    rule(
                        !copied || current("PersistentVolumeClaim") == fake.machine.disks.len(),
                        "the disks of a failed migration are kept",
                    );
                    rule(
                        ours.iter().all(|o| o.made.kind != "Job" || o.job_ended()),
                        "no importer runs after a failure",
                    );
                    rule(state.error.as_ref().is_some_and(|e| !e.reasons.is_empty()), "a failure has a reason");
                }
            }
            None => {}
        }
    }
    fake.broken.append(&mut broken);
}
