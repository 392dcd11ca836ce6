//! Scenarios: a script of what happens, and the transcript of what the migration does about it, as a golden file.
//! `UPDATE_EXPECT=1` writes the transcripts anew; read the difference before you commit it.
//!
//! ```text
//! world power conversion    a source with power control, guests that are converted (also: warm, hook, taken, inspected,
//!                           grave, windows)
//! steps 3                   three steps, each with the effects it wants
//! until CopyDisks           steps until the phase (or `end`)
//! crash                     one step whose effects are applied and whose state is lost
//! refuse quota              one step whose first effect is rejected
//! cancel | source on | spoil | cutover
//! ```
#[expect(dead_code, reason = "the model test uses what the scenarios do not")]
#[path = "model/fake.rs"]
mod fake;

use std::fmt::Write as _;
use std::path::Path;

use expect_test::expect_file;
use fake::{Fake, Rng, Trouble};
use forklift_api::worker::ImportSource;
use forklift_core::machine::{Disk, Machine, OsFamily, PowerState};
use forklift_core::plan::world::{HookSpec, MigrationKind};
use forklift_core::plan::{CancelReason, EffectError, PlanFacts, PlanVm, VmState, World, run, step};
use forklift_core::safety;
use forklift_core::source::{Capabilities, DiskSource};
use jiff::Timestamp;
use serde_json::json;

struct Scene {
    fake: Fake,
    state: VmState,
    sources: Vec<DiskSource>,
    cutover: Option<Timestamp>,
    canceled: bool,
    out: String,
    last: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Well,
    Crash,
    Refuse,
}

fn open(words: &[&str]) -> Scene {
    let is = |word: &str| words.contains(&word);
    let mut plan = PlanFacts {
        name: "p1".into(),
        namespace: "ns".into(),
        uid: "plan-uid".into(),
        migration_uid: "mig-uid".into(),
        target_namespace: "tgt".into(),
        kind: if is("warm") { MigrationKind::Warm } else { MigrationKind::Cold },
        worker_retries: 2,
        precopy_seconds: 60,
        source: Capabilities {
            power: is("power") || is("warm"),
            warm: is("warm"),
            snapshot_tasks: is("warm"),
            conversion: is("conversion"),
            ..Capabilities::default()
        },
        ..PlanFacts::default()
    };
    plan.options.delete_vm_on_failure = true;
    plan.options.preflight_inspection = is("inspected") || is("grave");
    plan.options.wait_for_guest_reboots = is("windows");
    plan.options.reboot_seconds = 700;
    let mut vm = PlanVm { id: "vm-42".into(), name: "web".into(), ..PlanVm::default() };
    vm.post_hook =
        is("hook").then(|| HookSpec { name: "tell".into(), uid: "h".into(), image: "i".into(), ..HookSpec::default() });
    let mut machine = Machine {
        id: vm.id.clone(),
        name: vm.name.clone(),
        uuid: "uuid".into(),
        memory: 1 << 30,
        power: PowerState::On,
        disks: vec![Disk { key: "disk0".into(), capacity: 100 << 20, ..Disk::default() }],
        ..Machine::default()
    };
    if is("windows") {
        machine.guest.family = OsFamily::Windows;
    }
    let sources = vec![DiskSource {
        source: ImportSource::Nbd { uri: "nbd://x/0".into() },
        identity: "0".into(),
        virtual_size: None,
        secret: None,
        host: String::new(),
        datastore: String::new(),
    }];
    let state = run::reset(&plan, &vm, None, Some(&machine));
    let mut fake = Fake::new(Rng::new(7), plan, vm, machine);
    fake.lucky = true;
    fake.trouble = if is("grave") { Trouble::Grave } else { Trouble::Small };
    if is("taken") {
        fake.plant(json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "web", "namespace": "tgt", "labels": {}}}), true);
    }
    Scene { fake, state, sources, cutover: None, canceled: false, out: String::new(), last: String::new() }
}

impl Scene {
    fn step(&mut self, fate: Fate) {
        self.fake.advance();
        let canceled = self.canceled.then_some(CancelReason::UserRequested);
        let needs = step::needs(&self.state, self.canceled);
        let (plan, vm, machine) = (self.fake.plan.clone(), self.fake.vm.clone(), self.fake.machine.clone());
        let (source, target) = (self.fake.source(needs), self.fake.target(needs, &step::target_name(&self.state, &vm)));
        let now = Timestamp::from_second(i64::try_from(self.fake.tick).unwrap_or_default()).unwrap_or_default();
        let world = World {
            now,
            plan: &plan,
            vm: &vm,
            machine: Some(&machine),
            disk_sources: &self.sources,
            source: &source,
            target: &target,
            cutover: self.cutover,
            canceled,
        };
        let transition = step::step(&self.state, &world);
        let mut lines = Vec::new();
        let mut next = transition.next;
        for effect in &transition.effects {
            if let Err(violation) = safety::permit(effect, &self.state, &world) {
                lines.push(format!("    NOT PERMITTED {effect}: {violation}"));
                continue;
            }
            let result = if fate == Fate::Refuse {
                Err(EffectError::Rejected("exceeded quota".into()))
            } else {
                self.fake.apply(effect)
            };
            match result {
                Ok(()) => lines.push(format!("    {effect}")),
                Err(error) => {
                    lines.push(format!("    refused: {effect}: {error}"));
                    next = step::refused(&self.state, effect, &error, now);
                    break;
                }
            }
        }
        let waits = next.waiting_on.as_ref().map(|w| format!(" waits for {}", w.message)).unwrap_or_default();
        let outcome = next.outcome.map(|o| format!(" {}", o.as_str())).unwrap_or_default();
        let line = format!("{}{outcome}{waits}", next.phase);
        if line != self.last || !lines.is_empty() {
            let _ = writeln!(self.out, "{line}");
            for effect in &lines {
                let _ = writeln!(self.out, "{effect}");
            }
            self.last = line;
        }
        if fate == Fate::Crash {
            let _ = writeln!(self.out, "  -- the controller dies before it stores this --");
            self.last.clear();
        } else {
            self.state = next;
        }
    }

    fn command(&mut self, line: &str) {
        let _ = writeln!(self.out, "> {line}");
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["steps", count] => (0..count.parse().unwrap_or(0)).for_each(|_: u32| self.step(Fate::Well)),
            ["until", "end"] => self.until(|state| state.completed.is_some()),
            ["until", phase] => self.until(|state| state.phase.as_str() == *phase || state.completed.is_some()),
            ["crash"] => self.step(Fate::Crash),
            ["refuse", ..] => self.step(Fate::Refuse),
            ["cancel"] => self.canceled = true,
            ["source", "on"] => self.fake.on = true,
            ["spoil"] => self.fake.spoil = true,
            ["cutover"] => self.cutover = Some(Timestamp::UNIX_EPOCH),
            other => panic!("unknown command {other:?}"),
        }
    }

    fn until(&mut self, reached: impl Fn(&VmState) -> bool) {
        for _ in 0..1200 {
            if reached(&self.state) {
                return;
            }
            self.step(Fate::Well);
        }
        let _ = writeln!(self.out, "NOT REACHED");
    }
}

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut scripts: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scenarios is there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 6);
    for path in scripts {
        let text = std::fs::read_to_string(&path).expect("a script can be read");
        let mut lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
        let first: Vec<_> = lines.next().unwrap_or_default().split_whitespace().collect();
        let mut scene = open(&first);
        lines.for_each(|line| scene.command(line));
        let mut out = scene.out;
        for text in scene.state.error.iter().flat_map(|e| &e.reasons).chain(&scene.state.warnings) {
            let _ = writeln!(out, "! {text}");
        }
        for finding in &scene.state.findings {
            let _ = writeln!(out, "? {} {}: {}", finding.category, finding.id, finding.message);
        }
        let left = scene.fake.objects.iter().filter(|o| o.stays()).map(|o| format!("{} {}", o.made.kind, o.made.name));
        let power = if scene.fake.on { "on" } else { "off" };
        let _ = writeln!(
            out,
            "source {power}, {} snapshots; left: {}",
            scene.fake.snapshots.len(),
            left.collect::<Vec<_>>().join(", ")
        );
        assert!(scene.fake.broken.is_empty(), "{}: {out}", path.display());
        expect_file![path.with_extension("out")].assert_eq(&out);
    }
}
