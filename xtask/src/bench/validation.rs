//! The rules on one VM and on 10,000, beside the OPA server with the same rules.
//!
//! Both serve plain HTTP on loopback and get the same bytes from the same client: a keep-alive connection that writes
//! a request and reads the answer. Every request is about another VM; nothing is asked twice in a round.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use forklift_testkit::{peers, process};
use serde_json::{Value, json};

use super::Machine;
use super::pair::{Plan, Report, Sample, measure};

/// VMs of one round of single requests.
const ONE_BY_ONE: usize = 2_000;
/// VMs of a bulk round.
const BULK: usize = 10_000;
/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);
const VALIDATE: &str = "/v1/data/io/konveyor/forklift/vmware/validate";

/// Requests for one VM each over one connection; the value is the median time of an answer.
pub fn one(machine: &Machine) -> Result<Report> {
    let (mut opa, mut ours) = servers(machine)?;
    let requests: Vec<Vec<u8>> = (0..ONE_BY_ONE).map(|i| request(&json!({"input": vm(i)}).to_string())).collect();
    same_concerns(&mut opa, &mut ours, &requests[..200])?;
    let plan = Plan { name: "validation", goal: 0.2, pairs: machine.pairs.unwrap_or(5), unit: "µs" };
    let size = requests[0].len();
    let report =
        measure(plan, ("OPA server", &mut || opa.one_by_one(&requests)), ("ours", &mut || ours.one_by_one(&requests)))?;
    Ok(report.note(format!("median of {ONE_BY_ONE} VMs, each asked once on one connection; requests of {size} bytes")))
}

/// 10,000 VMs: OPA on as many connections as cores, ours in one request.
pub fn bulk(machine: &Machine) -> Result<Report> {
    let (opa, ours) = servers(machine)?;
    let vms: Vec<String> = (0..BULK).map(|i| vm(i).to_string()).collect();
    let requests: Vec<Vec<u8>> = vms.iter().map(|vm| request(&format!("{{\"input\":{vm}}}"))).collect();
    let lines = vms.join("\n");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let plan = Plan { name: "validation-bulk", goal: 0.1, pairs: machine.pairs.unwrap_or(3), unit: "s" };
    let report =
        measure(plan, ("OPA server", &mut || opa.all(&requests, cores)), ("ours", &mut || ours.in_bulk(&lines)))?;
    Ok(report.note(format!("{BULK} VMs; OPA has no bulk request: {cores} connections, one VM a request")))
}

/// A server of rules; ended when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn servers(machine: &Machine) -> Result<(Server, Server)> {
    let Some(program) = peers::go("opa", "opa") else { bail!("opa cannot be built here") };
    let rules = machine.folder.join("rules");
    copy_rules(&crate::root().join("crates/validation/rules"), &rules)?;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let child = Command::new(&program)
        .args(["run", "--server", "--skip-version-check", "--log-level", "error", "--addr", &free.to_string()])
        .arg(&rules)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut opa = Server { child, address: free };
    let begin = Instant::now();
    while TcpStream::connect(opa.address).is_err() {
        ensure!(opa.child.try_wait()?.is_none(), "opa ended before it answered");
        ensure!(begin.elapsed() < PATIENCE, "opa does not answer within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let program = machine.release_example("forklift-validation", "service")?;
    let mut child = Command::new(&program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("it has no output")?).read_line(&mut line)?;
    let address = line.trim().parse().with_context(|| format!("the service said {line:?}"))?;
    Ok((opa, Server { child, address }))
}

/// Copies rules without their tests, as they are deployed.
fn copy_rules(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (path, name) = {
            let entry = entry?;
            (entry.path(), entry.file_name())
        };
        if path.is_dir() {
            copy_rules(&path, &to.join(name))?;
        } else if !name.to_string_lossy().ends_with("_test.rego") {
            std::fs::copy(&path, to.join(name))?;
        }
    }
    Ok(())
}

impl Server {
    /// What the server has used so far.
    fn used(&self) -> (Duration, u64) {
        let pid = self.child.id();
        (process::cpu_time(pid).unwrap_or_default(), process::resident_memory(pid).unwrap_or_default())
    }

    fn sample(&self, before: Duration, begin: Instant, value: f64) -> Sample {
        let (after, resident) = self.used();
        Sample { value, wall: begin.elapsed(), cpu: after.saturating_sub(before), peak: resident }
    }

    fn one_by_one(&mut self, requests: &[Vec<u8>]) -> Result<Sample> {
        let mut connection = Connection::open(self.address)?;
        let (before, begin) = (self.used().0, Instant::now());
        let mut times = Vec::with_capacity(requests.len());
        for request in requests {
            let start = Instant::now();
            connection.ask(request)?;
            times.push(start.elapsed());
        }
        times.sort();
        let median = times[times.len() / 2].as_secs_f64() * 1e6;
        Ok(self.sample(before, begin, median))
    }

    fn all(&self, requests: &[Vec<u8>], connections: usize) -> Result<Sample> {
        let (before, begin) = (self.used().0, Instant::now());
        std::thread::scope(|scope| {
            let parts: Vec<_> = requests
                .chunks(requests.len().div_ceil(connections))
                .map(|part| {
                    scope.spawn(move || -> Result<()> {
                        let mut connection = Connection::open(self.address)?;
                        part.iter().try_for_each(|request| connection.ask(request).map(drop))
                    })
                })
                .collect();
            parts.into_iter().try_for_each(|part| part.join().unwrap_or_else(|_| bail!("a connection panicked")))
        })?;
        Ok(self.sample(before, begin, begin.elapsed().as_secs_f64()))
    }

    fn in_bulk(&self, lines: &str) -> Result<Sample> {
        let mut connection = Connection::open(self.address)?;
        let (before, begin) = (self.used().0, Instant::now());
        let head = format!(
            "POST /v1/bulk/vmware HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
            lines.len()
        );
        let answer = connection.ask(&[head.as_bytes(), lines.as_bytes()].concat())?;
        let sample = self.sample(before, begin, begin.elapsed().as_secs_f64());
        let count = answer.iter().filter(|byte| **byte == b'\n').count();
        ensure!(count == BULK, "{count} answers instead of {BULK}");
        Ok(sample)
    }
}

/// An HTTP/1.1 connection that is kept.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::with_capacity(1 << 16) })
    }

    /// Sends a request and returns the answer's body.
    fn ask(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut piece = [0; 1 << 16];
        let mut framing = None;
        loop {
            let n = self.stream.read(&mut piece)?;
            ensure!(n > 0, "the server closed the connection");
            self.buffer.extend_from_slice(&piece[..n]);
            if framing.is_none() {
                if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                    framing = Some((end + 4, length(&self.buffer[..end])?));
                }
            }
            match framing {
                Some((head, Some(length))) if self.buffer.len() >= head + length => {
                    return Ok(&self.buffer[head..head + length]);
                }
                // Go sends what does not fit its buffer in chunks
                Some((head, None)) if self.buffer[head..].ends_with(b"0\r\n\r\n") => {
                    let body = joined(&self.buffer[head..])?;
                    self.buffer = body;
                    return Ok(&self.buffer);
                }
                _ => {}
            }
        }
    }
}

/// Puts the chunks of a body together.
fn joined(mut chunks: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = chunks.windows(2).position(|two| two == b"\r\n").context("a chunk has no size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..end])?.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunks.get(end + 2..end + 2 + size).context("a chunk is cut off")?);
        chunks = chunks.get(end + 2 + size + 2..).context("a chunk is cut off")?;
    }
}

/// Returns the length of the body; `None` when it comes in chunks.
fn length(head: &[u8]) -> Result<Option<usize>> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    ensure!(head.starts_with("http/1.1 200"), "the answer is {}", head.lines().next().unwrap_or_default());
    if head.contains("transfer-encoding: chunked") {
        return Ok(None);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.context("the answer has no length")?.trim().parse().map(Some).context("the answer's length is no number")
}

fn request(body: &str) -> Vec<u8> {
    format!(
        "POST {VALIDATE} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Fails where the two sides do not give the same concerns.
fn same_concerns(opa: &mut Server, ours: &mut Server, requests: &[Vec<u8>]) -> Result<()> {
    let (mut left, mut right) = (Connection::open(opa.address)?, Connection::open(ours.address)?);
    for (i, request) in requests.iter().enumerate() {
        let opas: Value = serde_json::from_slice(left.ask(request)?)?;
        let ours: Value = serde_json::from_slice(right.ask(request)?)?;
        ensure!(opas == ours, "VM {i}: OPA answers {opas}, ours {ours}");
        ensure!(opas["result"]["concerns"].as_array().is_some_and(|list| !list.is_empty()), "VM {i} has no concerns");
    }
    Ok(())
}

/// A workload as the vSphere inventory shows it, about 3 KB; every one is different.
fn vm(i: usize) -> Value {
    let disks: Vec<Value> = (0..1 + i % 3)
        .map(|d| {
            json!({
                "key": 2000 + d, "unitNumber": d, "controllerKey": 1000, "bus": "scsi", "mode": "persistent",
                "file": format!("[ds{}] vm-{i}/vm-{i}_{d}.vmdk", i % 7), "capacity": (10 + i % 40) << 30,
                "datastore": {"kind": "Datastore", "id": format!("datastore-{}", i % 7)},
                "shared": i % 50 == 0, "rdm": i % 97 == 0, "rdmType": "", "winDriveLetter": "",
                "serial": format!("6000C29{i:08x}{d:02x}"), "changeTrackingEnabled": i % 2 == 0,
            })
        })
        .collect();
    let devices = [
        "VirtualIDEController",
        "VirtualPS2Controller",
        "VirtualPCIController",
        "VirtualKeyboard",
        "VirtualPointingDevice",
        "VirtualVmxnet3",
        if i % 3 == 0 { "VirtualUSBController" } else { "VirtualAHCIController" },
    ];
    let guests = ["centos7_64Guest", "rhel9_64Guest", "windows2019srv_64Guest", "ubuntu64Guest"];
    let guest = guests[i % 4];
    let host = json!({"id": format!("host-{}", i % 20), "name": format!("esx{}.example.com", i % 20), "status": "green",
            "inMaintenanceMode": false,
            "cluster": {"id": "domain-c1", "name": "cluster", "drsEnabled": true, "drsBehavior": "fullyAutomated",
                "dpmEnabled": false, "dasEnabled": true, "hostAffinityVms": [{"kind": "VM", "id": format!("vm-{}", i % 70)}],
                "drsVms": [], "dasVms": []}});
    let machine = json!({
        "selfLink": format!("providers/vsphere/0b1c/workloads/vm-{i}"), "id": format!("vm-{i}"), "variant": "",
        "name": if i % 5 == 0 { format!("App Server {i}") } else { format!("app-{i}") },
        "parent": {"kind": "Folder", "id": "group-v3"}, "path": format!("/dc1/vm/app-{i}"), "revision": 3 + i % 9,
        "revisionValidated": 2, "isTemplate": false, "policyVersion": 5, "concerns": [], "disks": disks,
        "networks": [{"kind": "Network", "id": format!("network-{}", i % 3)}],
        "uuid": format!("420b{i:028x}"), "firmware": if i % 2 == 0 { "bios" } else { "efi" },
        "powerState": "poweredOn", "connectionState": "connected",
        "snapshot": {"kind": if i % 4 == 0 { "VirtualMachineSnapshot" } else { "" }, "id": ""},
        "changeTrackingEnabled": i % 2 == 0, "cpuAffinity": [], "cpuHotAddEnabled": i % 3 == 0,
        "cpuHotRemoveEnabled": false, "memoryHotAddEnabled": i % 6 == 0, "faultToleranceEnabled": false,
    });
    let rest = json!({
        "cpuCount": 1 + i % 8, "coresPerSocket": 1, "memoryMB": 1024 * (1 + i % 16), "guestName": "CentOS 7 (64-bit)",
        "guestNameFromVmwareTools": "", "hostName": if i % 7 == 0 { "" } else { "app.example.com" }, "guestId": guest,
        "balloonedMemory": 0, "ipAddress": format!("10.0.{}.{}", i / 250, i % 250), "storageUsed": 1_000_000 + i,
        "numaNodeAffinity": [], "devices": devices.map(|kind| json!({"kind": kind})),
        "nics": [{"network": {"kind": "Network", "id": "network-1"}, "mac": format!("00:50:56:{:02x}:11:22", i % 256),
            "order": 0, "deviceKey": 4000}],
        "guestNetworks": [{"device": "0", "deviceConfigId": 4000, "mac": "00:50:56:aa:11:22", "ip": "10.0.0.3",
            "origin": "", "prefix": 24, "dns": [], "network": "VM Network"}],
        "guestDisks": [{"key": 2000, "diskPath": "/", "capacity": 10_000_000_000i64, "freeSpace": 1_000_000 * (i % 300),
            "fsType": "xfs"}],
        "guestIpStacks": [], "secureBoot": false, "diskEnableUuid": i % 8 == 0, "nestedHVEnabled": false,
        "tpmEnabled": i % 11 == 0, "toolsStatus": "toolsOk", "toolsRunningStatus": "guestToolsRunning",
        "toolsVersionStatus2": "guestToolsUnmanaged", "consolidationNeeded": i % 60 == 0,
        "host": host,
    });
    let (Value::Object(mut whole), Value::Object(rest)) = (machine, rest) else { return Value::Null };
    whole.extend(rest);
    Value::Object(whole)
}
