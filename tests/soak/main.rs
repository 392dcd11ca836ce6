//! The soak: pods, jobs, claims, services and virtual machines are made and deleted against the whole stack for a while;
//! then nothing of them is left, and memory is where it was.
//!
//! `FORKLIFT_SOAK_SECONDS` says how long (default 45; the full campaign is 1800). Figures are printed as
//! `soak NAME VALUE`.

mod leftovers;
mod objects;

use std::time::{Duration, Instant};

use forklift_testkit::stack::Stack;
use forklift_testkit::wait_for;
use leftovers::Snapshot;

/// Time for one round on a busy machine.
const ROUND: Duration = Duration::from_secs(300);
/// Rounds after which caches and pools have their size.
const WARM: usize = 3;
/// From here on memory is judged: a shorter run is all warm-up.
const JUDGED: Duration = Duration::from_secs(600);
/// Growth from the first to the last third of the rounds that is taken for noise, and bytes of it that are always.
const NOISE: f64 = 0.15;
const NOISE_BYTES: f64 = 24e6;

#[test]
fn nothing_is_left_and_memory_is_flat() {
    let seconds = std::env::var("FORKLIFT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(45);
    let length = Duration::from_secs(seconds);
    let folder = tempfile::tempdir().expect("a folder");
    let mut stack = Stack::start(folder.path());
    wait_for("the node is ready", ROUND, || {
        let nodes = stack.list("nodes", "default");
        if nodes.is_empty() { Err("no node".into()) } else { Ok(()) }
    });
    let before = Snapshot::take(&stack);
    let start = Instant::now();
    let mut residents = Vec::new();
    let mut rounds = 0;
    while rounds == 0 || start.elapsed() < length {
        round(&stack, rounds);
        rounds += 1;
        let resident = leftovers::resident(stack.pid());
        if rounds > WARM {
            residents.push((start.elapsed().as_secs_f64(), resident));
        }
        if rounds % 10 == 0 {
            println!(
                "soak at {:.0} s: round {rounds}, resident {:.1} MB",
                start.elapsed().as_secs_f64(),
                resident / 1e6
            );
        }
    }
    println!("soak rounds {rounds}\nsoak seconds {:.0}", start.elapsed().as_secs_f64());
    wait_for("nothing is left", ROUND, || {
        let left = Snapshot::take(&stack).beyond(&before);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    judge(&residents, start.elapsed() >= JUDGED);
    let groups = leftovers::control_groups(&stack.data());
    assert!(groups.iter().all(|group| group.exists()), "{groups:?}");
    leftovers::stop(&mut stack);
    let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "control groups after the end: {left:?}");
    assert!(leftovers::mounts(&stack.data()).is_empty(), "mounts after the end");
}

/// Makes one of everything in a namespace of its own, sees it work, and deletes the namespace.
fn round(stack: &Stack, number: usize) {
    let namespace = format!("soak-{number}");
    let path = stack.data().join("soak.yaml");
    std::fs::write(&path, objects::all(&namespace)).expect("the folder can be written");
    stack.kubectl(&["create", "-f", path.to_str().expect("UTF-8")]);
    for (kind, name, condition) in [
        ("job", "indexed", "condition=Complete"),
        ("job", "client", "condition=Complete"),
        ("pod", "writer", "jsonpath={.status.phase}=Succeeded"),
        ("vm", "machine", "jsonpath={.status.printableStatus}=Running"),
    ] {
        let target = format!("{kind}/{name}");
        let condition = format!("--for={condition}");
        let output = stack.try_kubectl(&["wait", "-n", &namespace, &target, &condition, "--timeout=240s"]);
        assert!(
            output.status.success(),
            "{target}: {}\n{}",
            String::from_utf8_lossy(&output.stderr),
            stack.kubectl(&["get", "events,pods,jobs,pvc", "-n", &namespace])
        );
    }
    assert_eq!(stack.kubectl(&["logs", "-n", &namespace, "writer"]), "written 4194304\n");
    // half of the objects go one by one, the rest with the namespace
    if number % 2 == 0 {
        stack.kubectl(&["delete", "-n", &namespace, "vm,job,svc,pod,pvc", "--all", "--wait=true", "--timeout=240s"]);
    }
    stack.kubectl(&["delete", "namespace", &namespace, "--wait=true", "--timeout=240s"]);
    std::fs::remove_file(path).expect("the file is there");
}

/// Says how memory went, and fails where it kept growing.
fn judge(residents: &[(f64, f64)], strict: bool) {
    if residents.len() < 3 {
        println!("soak memory: too few rounds after the warm-up to say something");
        return;
    }
    let third = residents.len() / 3;
    let median = |part: &[(f64, f64)]| {
        let mut values: Vec<f64> = part.iter().map(|(_, bytes)| *bytes).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let (first, last) = (median(&residents[..third]), median(&residents[residents.len() - third..]));
    println!("soak resident after warm-up {:.1} MB\nsoak resident at the end {:.1} MB", first / 1e6, last / 1e6);
    println!("soak growth {:.1} %", 100.0 * (last / first - 1.0));
    println!("soak slope {:.1} kB/min", slope(residents) * 60.0 / 1e3);
    if strict {
        let allowed = first * (1.0 + NOISE) + NOISE_BYTES;
        assert!(last <= allowed, "memory grew from {first} to {last} bytes, {allowed} are allowed: {residents:?}");
    }
}

/// The slope of the line through the points, in bytes a second.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if below > 0.0 { above / below } else { 0.0 }
}
