//! A simulated vCenter followed by the whole stack, as a user sees it: `./x estate`.
//!
//! `forklift up` as it is released, a provider made with kubectl, the inventory asked over TLS with a token. There is no
//! peer in this run; upstream's inventory service took 19.8 s and up to 134 MB for 1,000 machines of the plain simulator,
//! and 4.4 ms for one of them (measured once, on a nearly quiet machine of two cores).

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use forklift_testkit::peers::vcenter::{self, Vcenter};
use forklift_testkit::process;
use serde_json::{Value, json};

use crate::bench::Machine;
use crate::bench::ours::Ours;

/// How long the inventory may take to come, and its machines to be validated.
const PATIENCE: Duration = Duration::from_secs(600);
const NAMESPACE: &str = "konveyor-forklift";

/// What is followed.
#[derive(Args)]
pub struct Options {
    /// Virtual machines
    #[arg(long, default_value_t = 10_000)]
    vms: u32,
    /// Use the plain simulator, which is slow, instead of prepared answers
    #[arg(long)]
    plain: bool,
    /// Property changes a second (not with --plain)
    #[arg(long, default_value_t = 1000)]
    changes: u32,
    /// How long they go on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// Follows the vCenter and prints what it took.
///
/// # Errors
/// Where a program does not come up or an answer is not what it should be.
pub fn run(options: &Options) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("forklift-estate-").tempdir()?;
    let machine = Machine { folder: folder.path().to_owned(), pairs: None };
    let program = machine.release("forklift", "forklift")?;
    let vcenter = if options.plain {
        Vcenter::start(vcenter::Options { vms: options.vms, disk_size: 0, ..vcenter::Options::default() })
    } else {
        Vcenter::prepared(options.vms)
    };
    let vcenter = vcenter.context("the simulator is not there")?;
    let estate = Estate { ours: Ours::start(&program, folder.path().join("ours"))?, vcenter };
    println!("{:<58}{:.2} s", "stack ready after", estate.ours.ready_after.as_secs_f64());
    println!("{:<58}{:.0} MiB", "resident memory then, all processes", estate.resident());

    let begin = Instant::now();
    let uid = estate.connect()?;
    let ready = begin.elapsed();
    let base = format!("{}/providers/vsphere/{uid}", estate.ours.inventory()?);
    let listed = estate.listed(&base)?;
    println!("{:<58}{:.2} s", "provider created to Ready and InventoryCreated", ready.as_secs_f64());
    println!("{:<58}{}", "machines in the inventory (templates are not listed)", listed.len());
    let validated = estate.validated(&base, begin)?;
    println!("{:<58}{:.2} s", "provider created to all machines validated", validated.as_secs_f64());
    println!("{:<58}{:.0} MiB, {:.1} CPU s", "resident memory then; processor time", estate.resident(), estate.cpu());

    let ids: Vec<&str> = listed.iter().filter_map(|vm| vm["id"].as_str()).collect();
    let of = |kind: &str| (0..2000).map(|n| format!("{base}/{kind}/{}", ids[n * 7919 % ids.len()])).collect::<Vec<_>>();
    for kind in ["vms", "workloads"] {
        estate.latency(&format!("GET {kind}/ID, fastest / median / p99"), &of(kind))?;
    }
    for query in ["vms", "vms?detail=4"] {
        estate.latency(&format!("GET {query}, fastest / median / p99"), &vec![format!("{base}/{query}"); 11])?;
    }
    println!("{:<58}{:.0} MiB", "resident memory then", estate.resident());
    if !options.plain && options.changes > 0 {
        estate.follow(options)?;
    }
    Ok(())
}

struct Estate {
    ours: Ours,
    vcenter: Vcenter,
}

impl Estate {
    fn resident(&self) -> f64 {
        self.ours.resident() as f64 / 1_048_576.0
    }

    fn cpu(&self) -> f64 {
        self.ours.pids().into_iter().filter_map(process::cpu_time).sum::<Duration>().as_secs_f64()
    }

    /// Makes the provider and waits until its inventory is there; returns its uid.
    fn connect(&self) -> Result<String> {
        let metadata = json!({"name": "estate", "namespace": NAMESPACE});
        let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {
                "user": self.vcenter.user(), "password": self.vcenter.password(), "cacert": self.vcenter.ca()}},
            {"apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider", "metadata": metadata, "spec": {
                "type": "vsphere", "url": self.vcenter.url(), "secret": metadata}}]});
        let mut kubectl = Command::new("kubectl")
            .args(["create", "-f", "-"])
            .env("KUBECONFIG", self.ours.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start kubectl")?;
        kubectl.stdin.take().context("it reads")?.write_all(manifest.to_string().as_bytes())?;
        ensure!(kubectl.wait()?.success(), "kubectl cannot make the provider");
        let path = format!("/apis/forklift.konveyor.io/v1beta1/namespaces/{NAMESPACE}/providers/estate");
        let url = format!("{}{path}", self.ours.url()?);
        let begin = Instant::now();
        loop {
            let provider: Value = serde_json::from_slice(&self.get(&url)?)?;
            let is = |kind: &str| {
                let conditions = provider["status"]["conditions"].as_array();
                conditions.into_iter().flatten().any(|one| one["type"] == kind && one["status"] == "True")
            };
            if is("Ready") && is("InventoryCreated") {
                return Ok(provider["metadata"]["uid"].as_str().context("it has a uid")?.to_owned());
            }
            ensure!(begin.elapsed() < PATIENCE, "the inventory does not come: {:#}", provider["status"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn listed(&self, base: &str) -> Result<Vec<Value>> {
        Ok(serde_json::from_slice(&self.get(&format!("{base}/vms?detail=4"))?)?)
    }

    /// Waits until all machines are validated as they are.
    fn validated(&self, base: &str, begin: Instant) -> Result<Duration> {
        loop {
            let vms = self.listed(base)?;
            let open = vms.iter().filter(|vm| vm["revision"] != vm["revisionValidated"]).count();
            if open == 0 {
                let concerns: usize = vms.iter().filter_map(|vm| Some(vm["concerns"].as_array()?.len())).sum();
                ensure!(concerns > 0, "{} machines and not one concern", vms.len());
                return Ok(begin.elapsed());
            }
            ensure!(begin.elapsed() < PATIENCE, "{open} machines are not validated");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Lets properties change, and tells whether the inventory keeps up and is right in the end.
    fn follow(&self, options: &Options) -> Result<()> {
        let (before, _, _) = self.vcenter.changes()?;
        let cpu = self.cpu();
        self.vcenter.change(options.changes)?;
        let begin = Instant::now();
        let mut behind = Vec::new();
        while begin.elapsed() < Duration::from_secs(options.seconds) {
            std::thread::sleep(Duration::from_millis(250));
            behind.push(self.vcenter.changes()?.2.as_secs_f64());
        }
        self.vcenter.change(0)?;
        let (took, cpu) = (begin.elapsed().as_secs_f64(), self.cpu() - cpu);
        let stopped = Instant::now();
        let caught_up = loop {
            let (made, delivered, _) = self.vcenter.changes()?;
            if delivered >= made {
                break stopped.elapsed();
            }
            ensure!(stopped.elapsed() < PATIENCE, "{} changes were never asked for", made - delivered);
            std::thread::sleep(Duration::from_millis(10));
        };
        let (made, _, _) = self.vcenter.changes()?;
        behind.sort_by(f64::total_cmp);
        let at = |part: f64| behind[((behind.len() - 1) as f64 * part) as usize];
        println!("{:<58}{:.0} a second for {took:.0} s", "changes made", (made - before) as f64 / took);
        println!("{:<58}{:.2} / {:.2} s", "oldest change not yet asked for, median / longest", at(0.5), at(1.0));
        println!("{:<58}{:.2} s", "after the last change, all asked for within", caught_up.as_secs_f64());
        println!(
            "{:<58}{:.2} of one core, {:.0} MiB resident",
            "processor time meanwhile",
            cpu / took,
            self.resident()
        );
        self.compare()
    }

    /// Compares names and memory sizes that were changed with what the inventory says.
    fn compare(&self) -> Result<()> {
        let changed = self.vcenter.changed()?;
        let url =
            format!("{}/apis/forklift.konveyor.io/v1beta1/namespaces/{NAMESPACE}/providers/estate", self.ours.url()?);
        let provider: Value = serde_json::from_slice(&self.get(&url)?)?;
        let uid = provider["metadata"]["uid"].as_str().context("it has a uid")?;
        let base = format!("{}/providers/vsphere/{uid}", self.ours.inventory()?);
        let begin = Instant::now();
        loop {
            let vms = self.listed(&base)?;
            let (mut same, mut other) = (0, Vec::new());
            for vm in &vms {
                let Some(paths) = vm["id"].as_str().and_then(|id| changed.get(id)) else { continue };
                for (path, key) in [("name", "name"), ("config.hardware.memoryMB", "memoryMB")] {
                    let Some(wanted) = paths[path].as_str() else { continue };
                    let found = vm[key].as_str().map_or_else(|| vm[key].to_string(), str::to_owned);
                    if found == wanted {
                        same += 1
                    } else {
                        other.push(format!("{} {path}: {found}, not {wanted}", vm["id"]))
                    }
                }
            }
            if other.is_empty() && same > 0 {
                println!(
                    "{:<58}{same}, all right {:.2} s later",
                    "changed names and memory sizes compared",
                    begin.elapsed().as_secs_f64()
                );
                return Ok(());
            }
            if begin.elapsed() > Duration::from_secs(60) {
                bail!("{same} values are right, {} are not: {}", other.len(), other.first().map_or("", String::as_str));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn curl(&self) -> Result<Command> {
        // the token goes through a file: arguments can be read by everybody
        let header = self.ours.kubeconfig().with_extension("header");
        if !header.exists() {
            std::fs::write(&header, format!("Authorization: Bearer {}", self.ours.token()?))?;
        }
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "--cacert"]).arg(self.ours.authority());
        curl.arg("-H").arg(format!("@{}", header.display()));
        Ok(curl)
    }

    fn get(&self, url: &str) -> Result<Vec<u8>> {
        let done = self.curl()?.arg(url).output().context("cannot start curl")?;
        ensure!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(done.stdout)
    }

    /// Asks for all of these on one connection and prints how long the answers took, TLS and token included.
    fn latency(&self, what: &str, urls: &[String]) -> Result<()> {
        let mut list = tempfile::NamedTempFile::new()?;
        // the first requests open the connection
        for url in urls.iter().take(3).chain(urls) {
            writeln!(list, "url = \"{url}\"\noutput = /dev/null")?;
        }
        let done = self.curl()?.args(["-w", "%{time_total}\n", "-K"]).arg(list.path()).output()?;
        ensure!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8(done.stdout)?;
        let mut times: Vec<f64> = text.lines().skip(3).filter_map(|line| line.parse().ok()).collect();
        ensure!(times.len() == urls.len(), "{what}: {} answers of {}", times.len(), urls.len());
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize] * 1e3;
        println!("{what:<58}{:.2} / {:.2} / {:.2} ms", at(0.0), at(0.5), at(0.99));
        Ok(())
    }
}
