//! Disks of vSphere beside `curl` of the same bytes to a file.
//!
//! The server is the simulated vCenter of the tests, over TLS, on the same machine: it makes the stream of a lease while
//! it is read, and takes processor time from both sides alike. curl writes what it gets (a packed stream, a raw disk)
//! and is followed by `sync -d`; ours inflates, digests, leaves zeros out, marks what is durable, and ends durable. Both
//! take any certificate. The lease is held by the bench: what an importer does besides are a few calls.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use forklift_testkit::peers::vcenter::{Options, Vcenter};

use super::Machine;
use super::disk::{clean, image_of, text};
use super::pair::{self, Plan, Report};

/// Bytes of the disk.
const SIZE: u64 = 2 << 30;
const VM: &str = "bench";

/// From an export lease.
pub fn nfc(machine: &Machine) -> Result<Report> {
    let source = Source::start(machine)?;
    let url = source.lease()?;
    compare(machine, &source, "vsphere-nfc", &url, &["--stream"])
}

/// From datastore ranges.
pub fn ranges(machine: &Machine) -> Result<Report> {
    let source = Source::start(machine)?;
    let file = source.machine()?["disks"][0]["file"].as_str().unwrap_or_default().to_owned();
    let (store, path) = file.trim_start_matches('[').split_once("] ").context("a datastore path")?;
    let flat = path.replace(".vmdk", "-flat.vmdk");
    let url = format!("{}/folder/{flat}?dcPath=DC0&dsName={store}", source.vcenter.url().trim_end_matches("/sdk"));
    compare(machine, &source, "vsphere-ranges", &url, &["--format", "raw"])
}

fn compare(machine: &Machine, source: &Source, name: &'static str, url: &str, args: &[&str]) -> Result<Report> {
    let disk = machine.release_example("forklift-disk", "disk")?;
    let target = machine.folder.join("target.img");
    let plain = machine.folder.join("plain");
    let headers = text(&source.headers)?.to_owned();
    let script = "curl -sSfk -H @\"$HEADERS\" -o \"$DST\" \"$URL\" && sync -d \"$DST\"";
    let mut peer = || {
        clean(&plain)?;
        let mut command = Command::new("sh");
        pair::run(command.args(["-ec", script]).env("HEADERS", &headers).env("URL", url).env("DST", &plain))
    };
    let mut ours = || {
        clean(&target)?;
        let mut command = Command::new(&disk);
        command.args(["copy", url, text(&target)?, "--insecure", "--header-file", &headers, "--verify", "none"]);
        pair::run(command.args(args))
    };
    let plan = Plan { name, goal: 1.0, pairs: machine.pairs.unwrap_or(5), unit: "s" };
    let report = pair::measure(plan, ("curl, sync", &mut peer), ("forklift disk copy", &mut ours))?;
    let same = Command::new("cmp").arg(&target).arg(&source.image).stdout(Stdio::null()).status();
    if !same.context("cannot run cmp")?.success() {
        bail!("the copy is not the disk");
    }
    let packed = std::fs::metadata(&plain)?.len();
    clean(&plain)?;
    clean(&target)?;
    let note = format!("curl wrote {} MiB, ours a disk of {} MiB, sparse and digested", packed >> 20, SIZE >> 20);
    Ok(report.note(note))
}

/// The simulated vCenter with the disk, and a session.
struct Source {
    vcenter: Vcenter,
    image: std::path::PathBuf,
    /// The session's cookie, as a file of headers.
    headers: std::path::PathBuf,
}

impl Source {
    fn start(machine: &Machine) -> Result<Self> {
        let image = image_of(machine, SIZE)?;
        let options = Options {
            names: vec![VM.into()],
            vms: 1,
            off: true,
            disk_size: SIZE,
            lease_timeout: Duration::from_secs(7200),
            ..Options::default()
        };
        let vcenter = Vcenter::start(options).context("the simulated vCenter cannot be built")?;
        vcenter.put_disk(VM, 0, &image)?;
        let headers = machine.folder.join("headers");
        std::fs::write(&headers, "")?;
        let source = Self { vcenter, image, headers };
        source.login()?;
        Ok(source)
    }

    fn machine(&self) -> Result<serde_json::Value> {
        self.vcenter.machine(VM)
    }

    /// Logs in; the cookie goes where curl and ours read it.
    fn login(&self) -> Result<()> {
        let body = format!(
            "<Login xmlns=\"urn:vim25\"><_this type=\"SessionManager\">SessionManager</_this>\
             <userName>{}</userName><password>{}</password></Login>",
            self.vcenter.user(),
            self.vcenter.password()
        );
        let answer = self.soap(&body, &["-i"])?;
        let cookie =
            answer.lines().find_map(|line| line.to_ascii_lowercase().starts_with("set-cookie:").then_some(line));
        let cookie = cookie.and_then(|line| line.split_once(':')?.1.split(';').next()).context("no cookie")?;
        std::fs::write(&self.headers, format!("Cookie: {}\n", cookie.trim())).context("cannot keep the cookie")
    }

    /// Begins an export; returns the disk's address.
    fn lease(&self) -> Result<String> {
        let machine = self.machine()?;
        let vm = machine["id"].as_str().unwrap_or_default();
        let body = format!("<ExportVm xmlns=\"urn:vim25\"><_this type=\"VirtualMachine\">{vm}</_this></ExportVm>");
        let answer = self.soap(&body, &[])?;
        let lease = between(&answer, "<returnval type=\"HttpNfcLease\">", "</returnval>").context("no lease")?;
        let body = format!(
            "<RetrieveProperties xmlns=\"urn:vim25\"><_this type=\"PropertyCollector\">propertyCollector</_this>\
             <specSet><propSet><type>HttpNfcLease</type><pathSet>info</pathSet></propSet>\
             <objectSet><obj type=\"HttpNfcLease\">{lease}</obj></objectSet></specSet></RetrieveProperties>"
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.soap(&body, &[])?;
            if let Some(url) = between(&answer, "<url>", "</url>") {
                return Ok(url.to_owned());
            }
            if Instant::now() > deadline {
                bail!("the lease is not ready: {answer}");
            }
        }
    }

    fn soap(&self, body: &str, more: &[&str]) -> Result<String> {
        let request = self.headers.with_extension("xml");
        let envelope =
            format!("<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body>{body}</Body></Envelope>");
        std::fs::write(&request, envelope)?;
        let at = |path: &Path| Ok::<_, anyhow::Error>(format!("@{}", text(path)?));
        let output = Command::new("curl")
            .args(["-sSk", "-H", &at(&self.headers)?, "-H", "Content-Type: text/xml", "--data-binary", &at(&request)?])
            .args(more)
            .arg(self.vcenter.url())
            .output()
            .context("cannot run curl")?;
        if !output.status.success() {
            bail!("curl: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(found, _)| found)
}
