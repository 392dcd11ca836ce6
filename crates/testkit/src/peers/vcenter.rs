//! A simulated vCenter (or ESXi host) whose disks hold bytes: the Go program `vcsim` below `tests/peers`.
//!
//! It is govmomi's simulator with what migration needs beside it: snapshots that freeze bytes, change tracking, leases
//! that serve stream-optimized disks, datastore files with ranges, real accounts. What no API of vSphere offers (a guest
//! that writes, a session that expires now, a host that fails) goes through its control door on loopback.
//!
//! A virtual machine is named by its name or by its reference (`vm-42`), a disk by its index.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::peers;
use crate::peers::running::Running;

/// What the simulated vCenter holds.
#[derive(Clone, Debug)]
pub struct Options {
    /// Virtual machines, powered on.
    pub vms: u32,
    /// Names of the first of them; the others have the simulator's.
    pub names: Vec<String>,
    /// Hosts in its one cluster.
    pub hosts: u32,
    /// Datastores; the machines are on the first one.
    pub datastores: u32,
    /// Disks of each machine.
    pub disks: u32,
    /// Size of each disk in bytes.
    pub disk_size: u64,
    /// Guest OS id of the machines.
    pub guest: String,
    /// Version of the product and of its API.
    pub version: String,
    /// Whether it is an ESXi host.
    pub esx: bool,
    /// Whether every host has an address, an account and references of its own.
    pub host_addresses: bool,
    /// Whether the machines are left powered off.
    pub off: bool,
    /// How long a lease lives without a report of progress.
    pub lease_timeout: Duration,
    /// Leases at once on one host; 0 for any number.
    pub lease_slots: u32,
    /// Changed areas in one answer.
    pub areas_page: u32,
    /// More arguments of the program, see its `-h`.
    pub more: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            vms: 2,
            names: Vec::new(),
            hosts: 2,
            datastores: 1,
            disks: 1,
            disk_size: 64 << 20,
            guest: "debian12_64Guest".into(),
            version: "8.0.3".into(),
            esx: false,
            host_addresses: false,
            off: false,
            lease_timeout: Duration::from_secs(300),
            lease_slots: 0,
            areas_page: 2000,
            more: Vec::new(),
        }
    }
}

/// What a test does to the simulated vCenter.
#[derive(Clone, Debug)]
pub enum Fault {
    /// All sessions end, and the leases and waiting calls that hang on them.
    ExpireSessions,
    /// All leases end; transfers break off.
    AbortLeases,
    /// Change tracking of this machine's disks begins anew: older change IDs raise a fault.
    ResetCbt(String),
    /// A host's transfers: bytes a second (0: no limit) and milliseconds before each answer; all hosts without a name.
    SlowHost(Option<String>, u64, u64),
    /// A host refuses transfers and breaks those under way.
    FailHost(Option<String>),
    /// A host works as it should.
    MendHost(Option<String>),
    /// The next call of a method raises a fault of this kind (`InvalidState`, `TaskInProgress` …).
    FailNext(String, String),
    /// As the one before, so many times (-1: for ever) after so many calls that pass.
    Fail(String, String, i64, u64),
    /// The next task of this kind (`CreateSnapshot_Task`, `RemoveSnapshot_Task`) starts and ends in this fault.
    FailTask(String, String),
    /// The next call of a method is answered with this HTTP status; a path (`/folder/`) instead of a method fits all below.
    Status(String, u16),
    /// The connection is closed before the next call of a method (or below a path) is done.
    Close(String),
    /// The next call of a method is done and its answer lost.
    LoseAnswer(String),
    /// The next call of a method waits so many milliseconds.
    Delay(String, u64),
    /// Tasks of these names (`createSnapshot` shows as `CreateSnapshot`) take so many milliseconds.
    TaskDelay(Vec<(String, u64)>),
    /// The account lacks these privileges, and no others.
    Deny(Vec<String>),
    /// The account's password is changed.
    Password(String),
    /// Disks on datastores of these types (`vSAN`, `vVol`) have no extents to read; an empty list undoes it.
    NoRanges(Vec<String>),
    /// How long leases live without progress from now on, milliseconds.
    LeaseTimeout(u64),
    /// Leases at once on one host from now on; 0 for any number.
    LeaseSlots(u32),
    /// Forgets all failures that are still to come.
    Clear,
}

/// What was asked of the simulated vCenter so far.
#[derive(Clone, Debug, Default)]
pub struct Calls(Value);

impl Calls {
    /// Returns how often a SOAP method was called, the simulator's own calls left out.
    pub fn of(&self, method: &str) -> u64 {
        self.0["methods"][method].as_u64().unwrap_or(0)
    }

    /// Returns the SOAP methods and how often they were called.
    pub fn methods(&self) -> Vec<(String, u64)> {
        let map = self.0["methods"].as_object();
        map.into_iter().flatten().map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect()
    }

    /// Returns the bytes that leases have served of disks whose file name contains this.
    pub fn lease_bytes(&self, file: &str) -> u64 {
        self.sum("bytes", "nfc ", file)
    }

    /// Returns the bytes that datastore ranges have served of disks whose file name contains this.
    pub fn range_bytes(&self, file: &str) -> u64 {
        self.sum("bytes", "folder ", file)
    }

    /// Returns the requests below a path, `/folder`, `/nfc`, `/rest` or `/api`.
    pub fn requests(&self, area: &str) -> u64 {
        self.0["requests"][area].as_u64().unwrap_or(0)
    }

    /// Returns the logins that were refused.
    pub fn invalid_logins(&self) -> u64 {
        self.0["invalidLogins"].as_u64().unwrap_or(0)
    }

    /// Returns the logins that were granted.
    pub fn logins(&self) -> u64 {
        self.0["logins"].as_u64().unwrap_or(0)
    }

    /// Returns the SOAP sessions that are open now.
    pub fn sessions(&self) -> u64 {
        self.0["sessions"].as_u64().unwrap_or(0)
    }

    /// Returns the leases that are open now.
    pub fn leases(&self) -> u64 {
        self.0["leases"].as_u64().unwrap_or(0)
    }

    /// Returns the most leases that any one host had at once.
    pub fn most_leases(&self) -> u64 {
        self.0["mostLeases"].as_object().into_iter().flatten().filter_map(|(_, most)| most.as_u64()).max().unwrap_or(0)
    }

    /// Returns what was asked of a host at its own address.
    pub fn at_host(&self, name: &str) -> HostCalls {
        let host = &self.0["hosts"][name];
        let number = |key: &str| host[key].as_u64().unwrap_or(0);
        let methods = host["methods"].as_object().into_iter().flatten();
        HostCalls {
            logins: number("logins"),
            invalid_logins: number("invalidLogins"),
            bytes: number("bytes"),
            methods: methods.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect(),
        }
    }

    fn sum(&self, table: &str, kind: &str, file: &str) -> u64 {
        let map = self.0[table].as_object();
        let entries = map.into_iter().flatten().filter(|(key, _)| key.starts_with(kind) && key.contains(file));
        entries.filter_map(|(_, bytes)| bytes.as_u64()).sum()
    }
}

/// What was asked of a host at its own address.
#[derive(Clone, Debug, Default)]
pub struct HostCalls {
    /// Logins that were granted.
    pub logins: u64,
    /// Logins that were refused.
    pub invalid_logins: u64,
    /// Bytes of files and leases that it has served.
    pub bytes: u64,
    /// SOAP methods and how often they were called.
    pub methods: BTreeMap<String, u64>,
}

impl HostCalls {
    /// Returns how often a SOAP method was called.
    pub fn of(&self, method: &str) -> u64 {
        self.methods.get(method).copied().unwrap_or(0)
    }
}

/// A host with an address of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAddress {
    /// Reference in the vCenter.
    pub id: String,
    /// Name.
    pub name: String,
    /// Address of its SDK.
    pub url: String,
    /// Its account.
    pub user: String,
    /// The account's password.
    pub password: String,
}

/// A running simulated vCenter; ended when dropped.
pub struct Vcenter(Running);

impl Vcenter {
    /// Starts it and waits until it answers; nothing where it cannot be built (see [`peers`]).
    ///
    /// # Panics
    /// Where it does not come up; what it printed is in the message.
    pub fn start(options: Options) -> Option<Self> {
        let program = peers::go("vcsim", "vcsim")?;
        let mut args: Vec<String> = Vec::new();
        let mut arg = |name: &str, value: String| args.push(format!("-{name}={value}"));
        arg("vms", options.vms.max(options.names.len() as u32).to_string());
        arg("names", options.names.join(","));
        arg("hosts", options.hosts.to_string());
        arg("datastores", options.datastores.to_string());
        arg("disks", options.disks.to_string());
        arg("disk-size", options.disk_size.to_string());
        arg("guest", options.guest);
        arg("version", options.version);
        arg("esx", options.esx.to_string());
        arg("host-addresses", options.host_addresses.to_string());
        arg("off", options.off.to_string());
        arg("lease-timeout", format!("{}ms", options.lease_timeout.as_millis()));
        arg("lease-slots", options.lease_slots.to_string());
        arg("areas-page", options.areas_page.to_string());
        args.extend(options.more);
        Some(Vcenter(Running::start(&program, &args, &[])))
    }

    /// Starts a vCenter with so many virtual machines whose inventory is answered from prepared pieces, so that the
    /// client is what a bench measures. It has no disks and does nothing to its machines; [`Self::change`] changes them.
    ///
    /// # Panics
    /// Where it does not come up; what it printed is in the message.
    pub fn prepared(vms: u32) -> Option<Self> {
        let program = peers::go("vcsim", "vcprepared")?;
        Some(Vcenter(Running::start(&program, &[format!("-vms={vms}")], &[])))
    }

    /// Lets a prepared vCenter change so many properties of its machines a second from now on.
    ///
    /// # Errors
    /// Where it is not a prepared one.
    pub fn change(&self, a_second: u32) -> Result<()> {
        self.post(&format!("/changes?rate={a_second}"), &[]).map(drop)
    }

    /// Returns how many changes a prepared vCenter has made, how many of them it has handed out to the client that asked
    /// last, and how long the first of the others has been waiting.
    ///
    /// # Errors
    /// Where it is not a prepared one.
    pub fn changes(&self) -> Result<(u64, u64, Duration)> {
        let answer: Value = serde_json::from_slice(&self.get("/changes")?)?;
        let number = |key: &str| answer[key].as_u64().unwrap_or(0);
        let behind = Duration::try_from_secs_f64(answer["behindSeconds"].as_f64().unwrap_or(0.0))?;
        Ok((number("made"), number("delivered"), behind))
    }

    /// Returns what changes have set on a prepared vCenter: reference, then path, then value as text.
    ///
    /// # Errors
    /// Where it is not a prepared one.
    pub fn changed(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.get("/vms")?)?)
    }

    fn told(&self, key: &str) -> &str {
        self.0.told(key)
    }

    /// Returns the address of the SDK, `https://127.0.0.1:PORT/sdk`.
    pub fn url(&self) -> &str {
        self.told("url")
    }

    /// Returns the account.
    pub fn user(&self) -> &str {
        self.told("user")
    }

    /// Returns its password at the start.
    pub fn password(&self) -> &str {
        self.told("password")
    }

    /// Returns the SHA-1 thumbprint of its certificate, `AA:BB:…`.
    pub fn thumbprint(&self) -> &str {
        self.told("thumbprint")
    }

    /// Returns the SHA-1 thumbprint of the certificate that the hosts show for transfers, which no authority signed.
    pub fn host_thumbprint(&self) -> &str {
        self.told("hostThumbprint")
    }

    /// Returns the authority (PEM) that signed its certificate.
    pub fn ca(&self) -> &str {
        self.told("ca")
    }

    /// Returns the instance UUID that it says of itself.
    pub fn instance_uuid(&self) -> &str {
        self.told("instanceUuid")
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// Writes to a running machine's disk, as its guest would.
    ///
    /// # Errors
    /// Where the machine is off or the bytes lie outside the disk.
    pub fn write(&self, vm: &str, disk: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        self.post(&format!("/write?vm={}&disk={disk}&offset={offset}", escape(vm)), bytes).map(drop)
    }

    /// Lets the guest write up to `each` bytes at random places of the first `span` bytes every `pause`, until it is off.
    ///
    /// # Errors
    /// Where the machine is off.
    pub fn keep_writing(&self, vm: &str, disk: usize, seed: u64, each: u64, span: u64, pause: Duration) -> Result<()> {
        let (vm, pause) = (escape(vm), pause.as_millis());
        let path = format!("/writer?vm={vm}&disk={disk}&seed={seed}&each={each}&span={span}&pause={pause}");
        self.post(&path, &[]).map(drop)
    }

    /// Makes a raw file the content of a disk, and the file's size the disk's; holes stay holes.
    ///
    /// # Errors
    /// Where the machine has snapshots or the file cannot be read.
    pub fn put_disk(&self, vm: &str, disk: usize, raw: &Path) -> Result<()> {
        let raw = std::path::absolute(raw)?;
        let path = escape(raw.to_str().context("the path is not UTF-8")?);
        self.post(&format!("/put?vm={}&disk={disk}&path={path}", escape(vm)), &[]).map(drop)
    }

    /// Returns the SHA-256 (hexadecimal) and the size of what a disk holds now, or did when a snapshot was taken.
    ///
    /// # Errors
    /// Where there is no such disk or snapshot.
    pub fn read_disk(&self, vm: &str, disk: usize, snapshot: Option<&str>) -> Result<(String, u64)> {
        let answer: Value = serde_json::from_slice(&self.get(&Self::disk_path(vm, disk, snapshot))?)?;
        Ok((answer["sha256"].as_str().unwrap_or_default().to_owned(), answer["size"].as_u64().unwrap_or(0)))
    }

    /// Returns bytes of a disk as it is now, or was when a snapshot was taken.
    ///
    /// # Errors
    /// Where there is no such disk or snapshot.
    pub fn read_bytes(
        &self,
        vm: &str,
        disk: usize,
        snapshot: Option<&str>,
        offset: u64,
        length: u64,
    ) -> Result<Vec<u8>> {
        self.get(&format!("{}&offset={offset}&length={length}", Self::disk_path(vm, disk, snapshot)))
    }

    /// Writes what a disk holds now, or did when a snapshot was taken, to a sparse raw file.
    ///
    /// # Errors
    /// Where there is no such disk or snapshot, or the file cannot be written.
    pub fn dump_disk(&self, vm: &str, disk: usize, snapshot: Option<&str>, raw: &Path) -> Result<()> {
        let raw = std::path::absolute(raw)?;
        let path = escape(raw.to_str().context("the path is not UTF-8")?);
        self.get(&format!("{}&path={path}", Self::disk_path(vm, disk, snapshot))).map(drop)
    }

    fn disk_path(vm: &str, disk: usize, snapshot: Option<&str>) -> String {
        let snapshot = snapshot.map(|name| format!("&snapshot={}", escape(name))).unwrap_or_default();
        format!("/read?vm={}&disk={disk}{snapshot}", escape(vm))
    }

    /// Sets properties of an object (`VirtualMachine`, `HostSystem`, `Datastore` …) by their paths, values as in
    /// vSphere's JSON protocol: `{"config.guestId": "…", "runtime.connectionState": "disconnected"}`.
    ///
    /// # Errors
    /// Where there is no such object or property.
    pub fn set(&self, kind: &str, name: &str, properties: &Value) -> Result<()> {
        self.post(&format!("/set?type={kind}&name={}", escape(name)), properties.to_string().as_bytes()).map(drop)
    }

    /// Reconfigures a machine by a VirtualMachineConfigSpec in vSphere's JSON protocol.
    ///
    /// # Errors
    /// Where the simulator refuses it.
    pub fn reconfigure(&self, vm: &str, spec: &Value) -> Result<()> {
        self.post(&format!("/reconfigure?vm={}", escape(vm)), spec.to_string().as_bytes()).map(drop)
    }

    /// Says whether a guest has tools, whether a shutdown through them hangs, and whether a removed snapshot leaves its
    /// delta until the disks are consolidated.
    ///
    /// # Errors
    /// Where there is no such machine.
    pub fn guest(&self, vm: &str, tools: bool, hang: bool, consolidate: bool) -> Result<()> {
        let path = format!("/guest?vm={}&tools={tools}&hang={hang}&consolidate={consolidate}", escape(vm));
        self.post(&path, &[]).map(drop)
    }

    /// Turns a machine on or off.
    ///
    /// # Errors
    /// Where it is so already.
    pub fn power(&self, vm: &str, on: bool) -> Result<()> {
        self.post(&format!("/power?vm={}&on={on}", escape(vm)), &[]).map(drop)
    }

    /// Takes a snapshot as somebody else would.
    ///
    /// # Errors
    /// Where the machine cannot be snapshot now.
    pub fn snapshot(&self, vm: &str, name: &str) -> Result<()> {
        self.post(&format!("/snapshot?vm={}&name={}", escape(vm), escape(name)), &[]).map(drop)
    }

    /// Removes a snapshot as somebody else would.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn remove_snapshot(&self, vm: &str, name: &str) -> Result<()> {
        self.post(&format!("/remove-snapshot?vm={}&name={}", escape(vm), escape(name)), &[]).map(drop)
    }

    /// Sets a disk's properties: `mode` (`independent_persistent` …), `sharing` (`sharingMultiWriter`), `rdm`
    /// (`physicalMode`, `virtualMode`), `capacity` (bytes, as the configuration tells it), `file` (`[store] …`: the disk of
    /// another machine, which both have from then on).
    ///
    /// # Errors
    /// Where there is no such disk.
    pub fn set_disk(&self, vm: &str, disk: usize, property: &str, value: &str) -> Result<()> {
        self.post(&format!("/disk?vm={}&disk={disk}&{property}={}", escape(vm), escape(value)), &[]).map(drop)
    }

    /// Returns the machines: `id`, `name`, `uuid`, `instanceUuid`, `power`, `host`, `tracking`, `snapshots` (names, parents first) and
    /// `disks` with `key`, `file`, `base`, `size`, `changeId`, `layers`.
    ///
    /// # Errors
    /// Where the simulator does not answer.
    pub fn machines(&self) -> Result<Vec<Value>> {
        Ok(serde_json::from_slice(&self.get("/vms")?)?)
    }

    /// Returns one machine of [`Self::machines`].
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn machine(&self, vm: &str) -> Result<Value> {
        let found = self.machines()?.into_iter().find(|machine| machine["name"] == vm || machine["id"] == vm);
        found.with_context(|| format!("no virtual machine {vm}"))
    }

    /// Returns the names of a machine's snapshots, parents first.
    ///
    /// # Errors
    /// Where there is no such machine.
    pub fn snapshots(&self, vm: &str) -> Result<Vec<String>> {
        Ok(serde_json::from_value(self.machine(vm)?["snapshots"].clone())?)
    }

    /// Returns the hosts that have addresses of their own ([`Options::host_addresses`]), in the inventory's order.
    ///
    /// # Errors
    /// Where the simulator does not answer.
    pub fn hosts(&self) -> Result<Vec<HostAddress>> {
        let found: Vec<Value> = serde_json::from_slice(&self.get("/hosts")?)?;
        let text = |host: &Value, key: &str| host[key].as_str().unwrap_or_default().to_owned();
        let host = |host: &Value| HostAddress {
            id: text(host, "id"),
            name: text(host, "name"),
            url: text(host, "url"),
            user: text(host, "user"),
            password: text(host, "password"),
        };
        Ok(found.iter().map(host).collect())
    }

    /// Gives a host's account another password.
    ///
    /// # Errors
    /// Where there is no such host, or it has no address of its own.
    pub fn host_password(&self, host: &str, password: &str) -> Result<()> {
        self.post(&format!("/host-password?host={}&password={}", escape(host), escape(password)), &[]).map(drop)
    }

    /// Shows another certificate of the same authority from now on; returns its SHA-1 thumbprint.
    ///
    /// # Errors
    /// Where the simulator does not answer.
    pub fn renew_certificate(&self) -> Result<String> {
        let answer: Value = serde_json::from_slice(&self.post("/certificate", &[])?)?;
        Ok(answer["thumbprint"].as_str().unwrap_or_default().to_owned())
    }

    /// Does something to it that a real one suffers.
    ///
    /// # Errors
    /// Where a machine or host that it names does not exist.
    pub fn fault(&self, fault: &Fault) -> Result<()> {
        let host = |name: &Option<String>, rate: u64, millis: u64, fail: bool| json!({"host": {"name": name.clone().unwrap_or_default(), "rate": rate, "millis": millis, "fail": fail}});
        // a path begins with a slash, a method does not
        let rule = |at: &str, rest: Value| {
            let mut rule = rest;
            rule[if at.starts_with('/') { "path" } else { "method" }] = at.into();
            json!({ "rule": rule })
        };
        let order = match fault {
            Fault::ExpireSessions => json!({"expireSessions": true}),
            Fault::AbortLeases => json!({"abortLeases": true}),
            Fault::ResetCbt(vm) => json!({"resetCbt": vm}),
            Fault::SlowHost(name, rate, millis) => host(name, *rate, *millis, false),
            Fault::FailHost(name) => host(name, 0, 0, true),
            Fault::MendHost(name) => host(name, 0, 0, false),
            Fault::FailNext(method, kind) => rule(method, json!({"action": "fault", "kind": kind})),
            Fault::Fail(method, kind, count, after) => {
                rule(method, json!({"action": "fault", "kind": kind, "count": count, "after": after}))
            }
            Fault::FailTask(task, kind) => rule(task, json!({"action": "task", "kind": kind})),
            Fault::Status(at, status) => rule(at, json!({"action": "status", "status": status})),
            Fault::Close(at) => rule(at, json!({"action": "close"})),
            Fault::LoseAnswer(at) => rule(at, json!({"action": "lose"})),
            Fault::Delay(at, millis) => rule(at, json!({"action": "delay", "millis": millis})),
            Fault::TaskDelay(tasks) => {
                json!({"taskDelay": tasks.iter().map(|(name, millis)| (name.clone(), json!(millis))).collect::<serde_json::Map<_, _>>()})
            }
            Fault::Deny(privileges) => json!({"deny": privileges}),
            Fault::Password(password) => json!({"password": password}),
            Fault::NoRanges(types) => json!({"noRanges": types}),
            Fault::LeaseTimeout(millis) => json!({"leaseMillis": millis}),
            Fault::LeaseSlots(slots) => json!({"leaseSlots": slots}),
            Fault::Clear => json!({"clearRules": true}),
        };
        self.post("/fault", order.to_string().as_bytes()).map(drop)
    }

    /// Returns what was asked of it so far.
    ///
    /// # Errors
    /// Where the simulator does not answer.
    pub fn calls(&self) -> Result<Calls> {
        Ok(Calls(serde_json::from_slice(&self.get("/calls")?)?))
    }

    /// Begins to count anew.
    ///
    /// # Errors
    /// Where the simulator does not answer.
    pub fn reset_calls(&self) -> Result<()> {
        self.post("/reset-calls", &[]).map(drop)
    }

    fn get(&self, path: &str) -> Result<Vec<u8>> {
        self.ask("GET", path, &[])
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        self.ask("POST", path, body)
    }

    /// One request of HTTP/1.0, so that the answer ends with the connection.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Vec<u8>> {
        let mut stream =
            TcpStream::connect(self.told("control")).with_context(|| format!("vcsim is gone: {}", self.log()))?;
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no answer of vcsim")?;
        let body = answer.split_off(end + 4);
        let status = String::from_utf8_lossy(&answer).split_whitespace().nth(1).unwrap_or_default().to_owned();
        ensure!(!status.is_empty(), "vcsim does not speak HTTP");
        if status != "200" {
            bail!("{method} {path}: {}", String::from_utf8_lossy(&body).trim());
        }
        Ok(body)
    }
}

fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
