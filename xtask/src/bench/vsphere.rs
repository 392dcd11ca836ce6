//! The inventory of a vCenter with 10,000 machines, beside a Go program over govmomi that loads and keeps the same
//! properties (`tests/peers/vcsim/govload`).
//!
//! The vCenter answers from prepared pieces, so that the client is what is measured; both sides ask one process in
//! turn. Ours is the collector with its store and without rules, as Go's has none.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forklift_testkit::peers;
use forklift_testkit::peers::vcenter::Vcenter;
use serde_json::Value;

use super::Machine;
use super::pair::{Plan, Report, Sample, measure};

const MACHINES: u32 = 10_000;

/// Seconds from the first connection to the complete inventory.
pub fn load(machine: &Machine) -> Result<Report> {
    let plan = Plan { name: "inventory-load", goal: 1.0, pairs: machine.pairs.unwrap_or(5), unit: "s" };
    compare(machine, plan, |told| told["seconds"].as_f64())
}

/// Resident memory once the inventory is complete; Go's after a garbage collection that gives back what it can.
pub fn memory(machine: &Machine) -> Result<Report> {
    let plan = Plan { name: "inventory-memory", goal: 0.5, pairs: machine.pairs.unwrap_or(3), unit: "MiB" };
    compare(machine, plan, |told| Some(told["rss"].as_f64()? / 1_048_576.0))
}

fn compare(machine: &Machine, plan: Plan, value: fn(&Value) -> Option<f64>) -> Result<Report> {
    let ours = machine.release_example("forklift-providers", "inventory_load")?;
    let peer = peers::go("vcsim", "govload").context("the Go program is not there")?;
    let vcenter = Vcenter::prepared(MACHINES).context("the vCenter is not there")?;
    let report = measure(
        plan,
        ("govmomi", &mut || {
            let mut command = Command::new(&peer);
            command.args(["-url", vcenter.url(), "-user", vcenter.user()]).env("GOVLOAD_PASSWORD", vcenter.password());
            once(&mut command, value)
        }),
        ("forklift", &mut || {
            let mut command = Command::new(&ours);
            command.args([vcenter.url(), vcenter.user()]).env("LOAD_PASSWORD", vcenter.password());
            once(&mut command, value)
        }),
    )?;
    Ok(report.note(format!("{MACHINES} machines; the vCenter's own time is in both sides' seconds")))
}

/// Runs a loader until it says that everything is there, then ends it by closing its standard input.
fn once(command: &mut Command, value: fn(&Value) -> Option<f64>) -> Result<Sample> {
    let program = command.get_program().to_string_lossy().into_owned();
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut line = String::new();
    let output = child.stdout.take().context("it has an output")?;
    BufReader::new(output).read_line(&mut line)?;
    let wall = begin.elapsed();
    let cpu = cpu(child.id());
    drop(child.stdin.take());
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut errors)?;
    }
    let status = child.wait()?;
    ensure!(status.success(), "{program} ended with {status}: {errors}");
    let told: Value = serde_json::from_str(&line).with_context(|| format!("{program} said {line:?}"))?;
    ensure!(told["objects"].as_u64() >= Some(u64::from(MACHINES)), "{program} has not everything: {line}");
    let value = value(&told).with_context(|| format!("{program} said {line:?}"))?;
    Ok(Sample { value, wall, cpu, peak: told["peak"].as_u64().unwrap_or(0) })
}

/// Returns the processor time of a running process (`/proc/PID/stat`, fields 14 and 15).
fn cpu(pid: u32) -> Duration {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap_or_default();
    // the name in parentheses may hold anything
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    // USER_HZ is 100 on every Linux that we run on
    Duration::from_millis(ticks * 10)
}
