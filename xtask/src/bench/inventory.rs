//! The inventory's REST service with 10,000 machines, beside a Go net/http server that answers the same JSON from
//! memory (`tests/peers/vcsim/jsonserve`): that one has every answer ready as bytes and does nothing else.
//!
//! Both sides answer one client on one connection over plain HTTP, in turn.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use forklift_testkit::peers;
use forklift_testkit::peers::vcenter::Vcenter;
use serde_json::Value;

use super::Machine;
use super::pair::{Plan, Report, Sample, measure};

const MACHINES: u32 = 10_000;
/// Requests of a run.
const GETS: usize = 5_000;
const LISTS: usize = 11;
const VMS: &str = "/providers/vsphere/u/vms";

/// One machine in full, again and again another one; the median.
pub fn get(machine: &Machine) -> Result<Report> {
    let plan = Plan { name: "inventory-get", goal: 1.0, pairs: machine.pairs.unwrap_or(7), unit: "µs" };
    let sides = Sides::start(machine)?;
    let paths: Vec<String> = sides.ids.iter().map(|id| format!("{VMS}/{id}")).collect();
    let mut slowest = [Vec::new(), Vec::new()];
    let mut run = |address: &str, slow: &mut Vec<f64>| {
        let times = timed(address, GETS, |at| paths[at * 7919 % paths.len()].clone(), "")?;
        slow.push(percentile(&times, 0.99) * 1e6);
        Ok(sample(percentile(&times, 0.5) * 1e6, &times))
    };
    let [peer_slow, our_slow] = &mut slowest;
    let report = {
        let run = std::cell::RefCell::new(&mut run);
        measure(
            plan,
            ("net/http", &mut || (run.borrow_mut())(&sides.peer.address, peer_slow)),
            ("forklift", &mut || (run.borrow_mut())(&sides.ours.address, our_slow)),
        )?
    };
    let p99 = |times: &[f64]| percentile(times, 0.5);
    Ok(report.note(format!(
        "{GETS} requests a run on one connection; p99 {:.0} and {:.0} µs (medians over the runs)",
        p99(peer_slow),
        p99(our_slow)
    )))
}

/// All machines in full; the median.
pub fn list(machine: &Machine) -> Result<Report> {
    let plan = Plan { name: "inventory-list", goal: 0.5, pairs: machine.pairs.unwrap_or(5), unit: "ms" };
    let sides = Sides::start(machine)?;
    let path = |_: usize| format!("{VMS}?detail=4");
    let run = |address: &str| {
        let times = timed(address, LISTS, path, "")?;
        Ok(sample(percentile(&times, 0.5) * 1e3, &times))
    };
    let report =
        measure(plan, ("net/http", &mut || run(&sides.peer.address)), ("forklift", &mut || run(&sides.ours.address)))?;
    let ours = |path: &dyn Fn(usize) -> String, headers: &str| -> Result<f64> {
        Ok(percentile(&timed(&sides.ours.address, LISTS, path, headers)?, 0.5) * 1e3)
    };
    // a parameter that means nothing makes it another request: nothing of it is kept
    let anew = ours(&|at| format!("{VMS}?detail=4&bench={at}"), "")?;
    let encoded = percentile(&timed(&sides.peer.address, 5, |_| format!("{VMS}?encode=1"), "")?, 0.5) * 1e3;
    let packed = ours(&path, "Accept-Encoding: gzip\r\n")?;
    let tag = etag(&sides.ours.address, &path(0))?;
    let known = ours(&path, &format!("If-None-Match: {tag}\r\n"))?;
    let query = ours(&|_| format!("{VMS}?query=where+name+~=+'99'+and+memoryMB+%3E+0+order+by+name+limit+100"), "")?;
    Ok(report.note(format!(
        "{:.1} MiB, which net/http has ready as bytes; when it encodes its objects it takes {encoded:.0} ms, ours made anew {anew:.1} ms, packed with gzip {packed:.1} ms, unchanged by its ETag {known:.2} ms, a query over all {query:.1} ms",
        sides.bytes as f64 / 1_048_576.0
    )))
}

/// A server that ends with its standard input.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> Result<Self> {
        let what = format!("{:?}", command.get_program());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("it has an output")?).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line).with_context(|| format!("{what} said {line:?}"))?;
        let address = told["address"].as_str().with_context(|| format!("{what} said {line:?}"))?.to_owned();
        Ok(Self { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // it ends by itself, with what it has to tell already told
        let _ = self.child.wait();
    }
}

struct Sides {
    peer: Server,
    ours: Server,
    ids: Vec<String>,
    bytes: usize,
    /// Ours follows it.
    _vcenter: Vcenter,
}

impl Sides {
    fn start(machine: &Machine) -> Result<Self> {
        let program = machine.release_example("forklift-providers", "inventory_serve")?;
        let peer = peers::go("vcsim", "jsonserve").context("the Go program is not there")?;
        let vcenter = Vcenter::prepared(MACHINES).context("the vCenter is not there")?;
        let mut command = Command::new(program);
        command.args([vcenter.url(), vcenter.user()]).env("LOAD_PASSWORD", vcenter.password());
        let ours = Server::start(&mut command)?;
        // the peer gets what ours answers
        let mut connection = Connection::open(&ours.address)?;
        let (_, text) = connection.request(&format!("{VMS}?detail=4"), "")?;
        let list: Vec<Value> = serde_json::from_slice(&text).context("the list is not JSON")?;
        let ids: Vec<String> = list.iter().filter_map(|vm| vm["id"].as_str().map(str::to_owned)).collect();
        // templates are among the machines and not in the list
        ensure!(ids.len() * 10 > MACHINES as usize * 9, "the list has {} machines", ids.len());
        let file = machine.folder.join("vms.json");
        std::fs::write(&file, &text)?;
        let peer = Server::start(Command::new(peer).arg("-file").arg(&file))?;
        Ok(Self { peer, ours, ids, bytes: text.len(), _vcenter: vcenter })
    }
}

/// One HTTP connection, so small that the client's time counts little.
struct Connection {
    stream: BufReader<TcpStream>,
    /// Grows to the longest answer and is not cleared: wiping it would count as the server's time.
    body: Vec<u8>,
    /// Bytes of the last answer in it.
    length: usize,
}

impl Connection {
    fn open(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self { stream: BufReader::with_capacity(256 * 1024, stream), body: Vec::new(), length: 0 })
    }

    /// Returns the head and the body of an answer that is 200 or 304.
    fn request(&mut self, path: &str, headers: &str) -> Result<(String, Vec<u8>)> {
        let head = self.exchange(path, headers)?;
        Ok((head, self.body.get(..self.length).unwrap_or_default().to_vec()))
    }

    fn exchange(&mut self, path: &str, headers: &str) -> Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let mut head = String::new();
        loop {
            let begin = head.len();
            ensure!(self.stream.read_line(&mut head)? > 0, "the connection was closed");
            if head.get(begin..) == Some("\r\n") {
                break;
            }
        }
        let lower = head.to_ascii_lowercase();
        let header = |name: &str| {
            let line = lower.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(|value| value.trim().to_owned())
        };
        self.length = 0;
        if lower.starts_with("http/1.1 304") {
            return Ok(head);
        }
        ensure!(lower.starts_with("http/1.1 200"), "{path}: {head}");
        if let Some(length) = header("content-length") {
            self.take(length.parse()?)?;
        } else if header("transfer-encoding").as_deref() == Some("chunked") {
            loop {
                let mut size = String::new();
                self.stream.read_line(&mut size)?;
                let size = usize::from_str_radix(size.trim(), 16).context("a chunk's size")?;
                self.take(size)?;
                self.stream.read_line(&mut String::new())?;
                if size == 0 {
                    break;
                }
            }
        } else {
            bail!("{path}: neither a length nor chunks: {head}");
        }
        Ok(head)
    }

    fn take(&mut self, length: usize) -> Result<()> {
        let begin = self.length;
        self.length += length;
        if self.body.len() < self.length {
            self.body.resize(self.length, 0);
        }
        Ok(self.stream.read_exact(&mut self.body[begin..self.length])?)
    }
}

/// Times requests on one connection, in seconds; a few before them are not counted.
fn timed(address: &str, count: usize, path: impl Fn(usize) -> String, headers: &str) -> Result<Vec<f64>> {
    let mut connection = Connection::open(address)?;
    let before = (count / 10).clamp(2, 200);
    let mut times = Vec::with_capacity(count);
    for at in 0..count + before {
        let path = path(at);
        let begin = Instant::now();
        connection.exchange(&path, headers)?;
        if at >= before {
            times.push(begin.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}

fn etag(address: &str, path: &str) -> Result<String> {
    let (head, _) = Connection::open(address)?.request(path, "")?;
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("etag:"));
    let tag = line.and_then(|line| line.split_once(':')).context("the list has no ETag")?;
    Ok(tag.1.trim().to_owned())
}

fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn sample(value: f64, times: &[f64]) -> Sample {
    Sample { value, wall: Duration::from_secs_f64(times.iter().sum()), ..Sample::default() }
}
