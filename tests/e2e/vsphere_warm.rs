//! Warm migration from vSphere: what the guest had written at the cutover is what the target has, whatever happens on
//! the way.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use forklift_testkit::process;
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;
use serde_json::{Value, json};

use crate::vsphere::{SNAPSHOT, assert_equal, base, copy, left, no_lease, plan, provider, succeeded};
use crate::{NS, vm};

const MIB: u64 = 1 << 20;
/// Seconds between rounds, so that a test need not wait for minutes.
const INTERVAL: (&str, &str) = ("PRECOPY_INTERVAL_SECONDS", "2");
/// Time for a round with whatever repetitions faults cost.
const ROUND: Duration = Duration::from_secs(180);

/// Starts a vCenter with a machine whose changes are tracked.
fn start(name: &str, size: u64) -> Option<Vcenter> {
    let vcenter = Vcenter::start(Options {
        vms: 1,
        names: vec![name.into()],
        disk_size: size,
        guest: "debian12_64Guest".into(),
        lease_timeout: Duration::from_secs(10),
        areas_page: 50,
        ..Options::default()
    })?;
    let tracked = json!({"_typeName": "VirtualMachineConfigSpec", "changeTrackingEnabled": true});
    vcenter.reconfigure(name, &tracked).expect("a machine can be reconfigured");
    Some(vcenter)
}

/// Fills a part of the disk, so that a whole copy has something to do.
fn fill(vcenter: &Vcenter, name: &str, size: u64, seed: u64) {
    let mut state = seed | 1;
    for at in (0..size / 2).step_by(MIB as usize) {
        let bytes: Vec<u8> = (0..MIB / 2)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) as u8
            })
            .collect();
        vcenter.write(name, 0, at, &bytes).expect("a guest writes");
    }
}

/// Returns how many rounds a plan's machine has done.
fn rounds(plan: &Value, name: &str) -> u64 {
    vm(plan, name).and_then(|vm| vm["warm"]["successes"].as_u64()).unwrap_or(0)
}

/// Waits for so many rounds; panics where the plan fails.
fn wait_rounds(stack: &Stack, plan: &str, name: &str, wanted: u64, deadline: Duration) {
    stack.wait("plan", NS, plan, deadline, |plan| {
        assert!(!has_condition(plan, "Failed"), "{plan:#}");
        rounds(plan, name) >= wanted
    });
}

/// Compares the target with the source, which was shut down at the cutover and written to by nobody since.
fn compare(stack: &Stack, vcenter: &Vcenter, folder: &Path, name: &str) {
    let machine = vcenter.machine(name).expect("it is there");
    assert_eq!(machine["power"], "poweredOff", "{machine:#}");
    let source = folder.join("source.raw");
    vcenter.dump_disk(name, 0, None, &source).expect("the source's bytes");
    assert_equal(&source, &copy(stack, name, &base(vcenter, name, 0)));
}

#[test]
fn a_busy_disk_is_equal_after_five_rounds_and_a_cutover() {
    let folder = tempfile::tempdir().expect("a folder");
    let (name, size) = ("busy", 256 * MIB);
    let Some(vcenter) = start(name, size) else { return };
    fill(&vcenter, name, size, 7);
    let stack = Stack::start_env(folder.path(), &[INTERVAL]);
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    plan(&stack, name, "vcenter", name, &["--migration-type", "warm", "--skip-guest-conversion"]);
    vcenter.keep_writing(name, 0, 42, 64 * 1024, size, Duration::from_millis(25)).expect("it runs");
    vcenter.reset_calls().expect("counters");
    stack.mtv(&["start", "plan", name, "-n", NS]);

    wait_rounds(&stack, name, name, 1, ROUND);
    let file = base(&vcenter, name, 0);
    let read = || {
        let calls = vcenter.calls().expect("counters");
        calls.lease_bytes(&file) + calls.range_bytes(&file)
    };
    let first = read();
    wait_rounds(&stack, name, name, 5, ROUND * 5);
    let rounds_done = stack.get("plan", NS, name).map_or(0, |plan| rounds(&plan, name));
    stack.mtv(&["cutover", "plan", name, "-n", NS]);
    let done = succeeded(&stack, name, ROUND * 2);
    let later = read() - first;
    println!(
        "{} rounds before the cutover; first copy {} MiB, all later ones {:.1} MiB of a disk of {} MiB; {:#}",
        rounds_done,
        first / MIB,
        later as f64 / MIB as f64,
        size / MIB,
        vm(&done, name).expect("the machine")["warm"]
    );
    compare(&stack, &vcenter, folder.path(), name);
    assert_eq!(left(&vcenter, name), Vec::<String>::new(), "a snapshot is left");
    no_lease(&vcenter);
    // half of the disk was never written by anybody: no round may have read it
    assert!(first < size * 3 / 4, "the first copy read {first} bytes of {size}");
    assert!(later < size, "later rounds read {later} bytes: more than what changed");
    let calls = vcenter.calls().expect("counters");
    assert!(calls.of("QueryChangedDiskAreas") >= 6, "{:?}", calls.methods());
    assert!(vcenter.machine(name).expect("it is there")["disks"][0]["layers"] == 1, "deltas are left");
}

#[test]
fn a_failed_warm_migration_leaves_the_source_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (name, size) = ("refused", 32 * MIB);
    let Some(vcenter) = start(name, size) else { return };
    fill(&vcenter, name, size, 9);
    let stack = Stack::start_env(folder.path(), &[INTERVAL, ("IMPORTER_RETRY", "1")]);
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    plan(&stack, name, "vcenter", name, &["--migration-type", "warm", "--skip-guest-conversion"]);
    let before = vcenter.read_disk(name, 0, None).expect("a digest");
    stack.mtv(&["start", "plan", name, "-n", NS]);
    wait_rounds(&stack, name, name, 1, ROUND);
    stack.mtv(&["cancel", "plan", name, "--vms", name, "-n", NS]);
    stack.wait("plan", NS, name, ROUND, |plan| has_condition(plan, "Canceled"));
    wait_for("its snapshots are gone", ROUND, || {
        let left = left(&vcenter, name);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let machine = vcenter.machine(name).expect("it is there");
    assert_eq!(machine["power"], "poweredOn", "the source was switched off: {machine:#}");
    assert_eq!(vcenter.read_disk(name, 0, None).expect("a digest"), before);
    assert!(stack.list("virtualmachines", name).is_empty(), "a VM was made");
}

/// What may happen at a bad moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    SessionExpiry,
    LeaseAbort,
    KillImporter,
    KillController,
    CbtReset,
    ForeignSnapshot,
    LostAnswer,
}

const MISHAPS: [Mishap; 7] = [
    Mishap::SessionExpiry,
    Mishap::LeaseAbort,
    Mishap::KillImporter,
    Mishap::KillController,
    Mishap::CbtReset,
    Mishap::ForeignSnapshot,
    Mishap::LostAnswer,
];

/// Small random numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// Returns the processes that copy disks for a stack.
fn importers(stack: &Stack) -> Vec<u32> {
    let tree = process::tree(stack.pid());
    tree.into_iter().filter(|pid| *pid != stack.pid() && process::command_line(*pid).contains("importer")).collect()
}

/// Looks for something for a few seconds: a round begins soon, and is short.
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        let found = look();
        if found.is_some() || begin.elapsed() > Duration::from_secs(5) {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Lets something happen; returns whether it met anybody: an importer may be between two disks.
fn happen(mishap: Mishap, stack: &mut Stack, vcenter: &Vcenter, name: &str, dice: &mut Dice) -> bool {
    let mut met = true;
    let done = match mishap {
        Mishap::SessionExpiry => vcenter.fault(&Fault::ExpireSessions),
        Mishap::LeaseAbort => {
            met = soon(|| vcenter.calls().is_ok_and(|calls| calls.leases() > 0).then_some(())).is_some();
            vcenter.fault(&Fault::AbortLeases)
        }
        Mishap::KillImporter => {
            let found = soon(|| importers(stack).first().copied());
            met = found.is_some();
            if let Some(pid) = found {
                process::kill_tree(pid);
            }
            Ok(())
        }
        Mishap::KillController => {
            stack.kill();
            stack.up();
            Ok(())
        }
        Mishap::CbtReset => vcenter.fault(&Fault::ResetCbt(name.into())),
        // somebody's backup: taken, and removed a little later by the campaign
        Mishap::ForeignSnapshot => vcenter.snapshot(name, "backup").or(Ok(())),
        Mishap::LostAnswer => {
            let methods = ["CreateSnapshot_Task", "RemoveSnapshot_Task", "QueryChangedDiskAreas", "ShutdownGuest"];
            let method = methods[dice.below(methods.len() as u64) as usize];
            vcenter.fault(&Fault::LoseAnswer(method.into()))
        }
    };
    done.unwrap_or_else(|error| panic!("{mishap:?}: {error:#}"));
    met
}

/// One migration with mishaps drawn from a seed; returns what happened and the bytes read.
fn campaign(stack: &mut Stack, folder: &Path, seed: u64) -> (Vec<(Mishap, bool)>, u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (name, size) = (format!("warm-{seed}"), (16 + 8 * dice.below(5)) * MIB);
    let name = name.as_str();
    let vcenter = start(name, size).expect("the first one came up");
    vcenter.fault(&Fault::LeaseTimeout(3000)).expect("a switch");
    fill(&vcenter, name, size, seed);
    if dice.below(2) == 0 {
        let vsan = json!({"summary.type": "vsan"});
        vcenter.set("Datastore", "LocalDS_0", &vsan).expect("there is a datastore");
        vcenter.fault(&Fault::NoRanges(vec!["vsan".into()])).expect("a switch");
    }
    provider(stack, name, &vcenter, folder, None);
    plan(stack, name, name, name, &["--migration-type", "warm", "--skip-guest-conversion"]);
    vcenter.keep_writing(name, 0, seed, 64 * 1024, size, Duration::from_millis(10)).expect("it runs");
    // slow enough that a mishap finds somebody at work
    vcenter.fault(&Fault::SlowHost(None, 8 * MIB + dice.below(32) * MIB, 0)).expect("a switch");
    vcenter
        .fault(&Fault::TaskDelay(vec![
            ("CreateSnapshot".into(), dice.below(300)),
            ("RemoveSnapshot".into(), dice.below(300)),
        ]))
        .expect("a switch");
    stack.mtv(&["start", "plan", name, "-n", NS]);

    let wanted = 2 + dice.below(3);
    let mut happened = Vec::new();
    for round in 1..=wanted {
        let mishap = MISHAPS[dice.below(MISHAPS.len() as u64) as usize];
        let moment = Duration::from_millis(dice.below(2500));
        let begin = Instant::now();
        // some moment of the round, whatever it is doing then
        wait_for("the moment", Duration::from_secs(30), || {
            if begin.elapsed() >= moment { Ok(()) } else { Err("not yet".to_owned()) }
        });
        let met = happen(mishap, stack, &vcenter, name, &mut dice);
        println!("seed {seed}: round {round} of {wanted}: {mishap:?} after {moment:?}, met somebody: {met}");
        happened.push((mishap, met));
        wait_rounds(stack, name, name, round, ROUND);
        let _ = vcenter.remove_snapshot(name, "backup"); // the backup ends, where there is one
    }
    stack.mtv(&["cutover", "plan", name, "-n", NS]);
    if dice.below(2) == 0 {
        let mishap = MISHAPS[dice.below(5) as usize];
        let met = happen(mishap, stack, &vcenter, name, &mut dice);
        println!("seed {seed}: after the cutover was asked for: {mishap:?}, met somebody: {met}");
        happened.push((mishap, met));
    }
    let done = stack
        .wait("plan", NS, name, ROUND * 2, |plan| has_condition(plan, "Succeeded") || has_condition(plan, "Failed"));
    assert!(has_condition(&done, "Succeeded"), "seed {seed}, {happened:?}: {done:#}");
    compare(stack, &vcenter, folder, name);
    wait_for("no snapshot of the migration is left", ROUND, || {
        let left = left(&vcenter, name);
        if left.is_empty() { Ok(()) } else { Err(format!("seed {seed}, {happened:?}: {left:?}")) }
    });
    let calls = vcenter.calls().expect("counters");
    let read = calls.lease_bytes("/disk") + calls.range_bytes("/disk");
    for kind in ["plan", "provider.forklift.konveyor.io"] {
        stack.kubectl(&["delete", kind, "-n", NS, name, "--wait=true"]);
    }
    stack.kubectl(&["delete", "namespace", name, "--wait=true"]);
    (happened, read)
}

#[test]
fn warm_migrations_survive_mishaps_byte_for_byte() {
    let seeds: u64 = std::env::var("VSPHERE_WARM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let first: u64 = std::env::var("VSPHERE_WARM_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let lanes: u64 = std::env::var("VSPHERE_WARM_LANES").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    if forklift_testkit::peers::go("vcsim", "vcsim").is_none() {
        return;
    }
    let totals = Mutex::new((BTreeMap::<String, u64>::new(), 0));
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..lanes.clamp(1, seeds.max(1)) {
            scope.spawn(|| lane(&next, first + seeds, &totals));
        }
    });
    let (counts, bytes) = totals.into_inner().expect("no lane has failed");
    println!("{seeds} warm migrations equal byte for byte, {} MiB read, no {SNAPSHOT}-… left; {counts:?}", bytes / MIB);
}

/// Takes seeds until none is left, in a stack of its own.
fn lane(next: &AtomicU64, end: u64, totals: &Mutex<(BTreeMap<String, u64>, u64)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut stack = Stack::start_env(folder.path(), &[INTERVAL, ("IMPORTER_RETRY", "10")]);
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let (happened, read) = campaign(&mut stack, folder.path(), seed);
        println!("seed {seed} is equal; {:.1} MiB read", read as f64 / MIB as f64);
        let mut totals = totals.lock().expect("no lane has failed");
        totals.1 += read;
        for (mishap, met) in happened {
            *totals.0.entry(format!("{mishap:?}{}", if met { "" } else { " (nobody there)" })).or_default() += 1;
        }
    }
}
