//! The embedded stack beside kube-apiserver and etcd: start, idle memory, creates, lists, watches.
//!
//! Ours is `forklift up` whole, with node, controllers, inventory and audit log; the peer is kube-apiserver and etcd
//! alone. Loads come from one program (`embedded/apiserver/examples/load.rs`) over TLS for both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forklift_testkit::peers::kube::KubeApiserver;
use forklift_testkit::process;

use super::Machine;
use super::ours::Ours;
use super::pair::{Plan, Report, Sample, measure};

fn peer() -> Result<KubeApiserver> {
    KubeApiserver::start_with(false).context("kube-apiserver and etcd are not here; `./x peers` builds them")
}

fn forklift(machine: &Machine) -> Result<PathBuf> {
    machine.release("forklift", "forklift")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Start to ready: our whole stack against kube-apiserver and etcd to /readyz.
///
/// # Errors
/// Where a side does not come up or fails.
pub fn startup(machine: &Machine) -> Result<Report> {
    let program = forklift(machine)?;
    let plan = Plan { name: "startup", goal: 0.3, pairs: machine.pairs.unwrap_or(5), unit: "s" };
    let mut round = 0;
    let sample = |wall: Duration, cpu: Duration, peak: u64| Sample { value: wall.as_secs_f64(), wall, cpu, peak };
    let report = measure(
        plan,
        ("kube-apiserver + etcd", &mut || {
            let peer = peer()?;
            Ok(sample(peer.ready_after(), cpu_of(&peer.pids()), peer.resident()))
        }),
        ("forklift up", &mut || {
            round += 1;
            let ours = Ours::start(&program, machine.folder.join(format!("start-{round}")))?;
            Ok(sample(ours.ready_after, cpu_of(&ours.pids()), ours.resident()))
        }),
    )?;
    Ok(report.note("Ours has to be below 2 s as well; each start is on an empty folder."))
}

/// Resident memory 15 s after ready.
///
/// # Errors
/// Where a side does not come up or fails.
pub fn idle_memory(machine: &Machine) -> Result<Report> {
    let program = forklift(machine)?;
    let plan = Plan { name: "idle-memory", goal: 0.4, pairs: machine.pairs.unwrap_or(2), unit: "MiB" };
    let mut round = 0;
    let settled = |resident: &dyn Fn() -> u64, pids: &[u32]| {
        // both do work in the first seconds that an idle server does not
        std::thread::sleep(Duration::from_secs(15));
        let resident = resident();
        Sample { value: mib(resident), wall: Duration::from_secs(15), cpu: cpu_of(pids), peak: resident }
    };
    let report = measure(
        plan,
        ("kube-apiserver + etcd", &mut || {
            let peer = peer()?;
            Ok(settled(&|| peer.resident(), &peer.pids()))
        }),
        ("forklift up", &mut || {
            round += 1;
            let ours = Ours::start(&program, machine.folder.join(format!("idle-{round}")))?;
            Ok(settled(&|| ours.resident(), &ours.pids()))
        }),
    )?;
    Ok(report.note("Ours has to be at most 128 MiB as well; 15 s after ready, children included."))
}

/// Both servers and the program that loads them.
struct Pair {
    load: PathBuf,
    peer: KubeApiserver,
    peer_ca: PathBuf,
    ours: Ours,
}

impl Pair {
    fn start(machine: &Machine) -> Result<Self> {
        let program = forklift(machine)?;
        let load = machine.release_example("apiserver", "load")?;
        let peer = peer()?;
        let peer_ca = machine.folder.join("peer-ca.crt");
        std::fs::write(&peer_ca, peer.ca()?)?;
        let ours = Ours::start(&program, machine.folder.join("ours"))?;
        Ok(Self { load, peer, peer_ca, ours })
    }

    fn on_peer(&self, arguments: &[&str]) -> Result<Sample> {
        run_load(&self.load, self.peer.url(), &self.peer_ca, self.peer.token(), arguments, &self.peer.pids(), || {
            self.peer.resident()
        })
    }

    fn on_ours(&self, arguments: &[&str]) -> Result<Sample> {
        let token = self.ours.token()?;
        run_load(&self.load, &self.ours.url()?, &self.ours.authority(), &token, arguments, &self.ours.pids(), || {
            self.ours.resident()
        })
    }

    fn measure(&self, plan: Plan, arguments: &[&str]) -> Result<Report> {
        measure(
            plan,
            ("kube-apiserver + etcd", &mut || self.on_peer(arguments)),
            ("forklift up", &mut || self.on_ours(arguments)),
        )
    }
}

fn run_load(
    load: &Path,
    url: &str,
    ca: &Path,
    token: &str,
    arguments: &[&str],
    pids: &[u32],
    resident: impl Fn() -> u64,
) -> Result<Sample> {
    let before = cpu_of(pids);
    let begin = Instant::now();
    let output = Command::new(load)
        .args([url.trim().as_ref(), ca.as_os_str()])
        .args(arguments)
        .env("LOAD_TOKEN", token)
        .output()
        .context("cannot run the load program")?;
    ensure!(output.status.success(), "load {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.trim().parse().with_context(|| format!("load {arguments:?} said {text:?}"))?;
    let cpu = cpu_of(pids).saturating_sub(before);
    Ok(Sample { value, wall: begin.elapsed(), cpu, peak: resident() })
}

/// Processor time of the processes so far.
fn cpu_of(pids: &[u32]) -> Duration {
    pids.iter().filter_map(|pid| process::cpu_time(*pid)).sum()
}

const CONDITIONS: &str = "CPU and memory are the servers'; ours keeps its audit log, the peer has none.";

/// 2,000 config maps by 16 writers.
///
/// # Errors
/// Where a side does not come up or fails.
pub fn creates(machine: &Machine) -> Result<Report> {
    let pair = Pair::start(machine)?;
    let plan = Plan { name: "creates", goal: 1.0, pairs: machine.pairs.unwrap_or(5), unit: "s" };
    Ok(pair.measure(plan, &["creates", "2000", "16"])?.note(CONDITIONS))
}

/// 10,000 config maps in one answer.
///
/// # Errors
/// Where a side does not come up or fails.
pub fn list_whole(machine: &Machine) -> Result<Report> {
    list(machine, "list-10000", "0")
}

/// 10,000 config maps in chunks of 500.
///
/// # Errors
/// Where a side does not come up or fails.
pub fn list_chunks(machine: &Machine) -> Result<Report> {
    list(machine, "list-10000-chunks", "500")
}

fn list(machine: &Machine, name: &'static str, limit: &str) -> Result<Report> {
    let pair = Pair::start(machine)?;
    let fill = ["fill", "load-list", "10000", "16"];
    pair.on_peer(&fill)?;
    pair.on_ours(&fill)?;
    let plan = Plan { name, goal: 1.0, pairs: machine.pairs.unwrap_or(7), unit: "s" };
    Ok(pair.measure(plan, &["list", "load-list", "10000", limit])?.note(CONDITIONS))
}

/// 1,000 events to 100 watchers.
///
/// # Errors
/// Where a side does not come up or fails.
pub fn watch(machine: &Machine) -> Result<Report> {
    let pair = Pair::start(machine)?;
    let plan = Plan { name: "watch-100", goal: 1.0, pairs: machine.pairs.unwrap_or(5), unit: "s" };
    Ok(pair.measure(plan, &["watch", "100", "1000", "16"])?.note(CONDITIONS))
}
