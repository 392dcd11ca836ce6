//! The copy engine beside qemu-img and nbdcopy, on one image of 4 GiB.
//!
//! The comparison is fair in this way: every side starts with no target, its source in the page cache, and ends when
//! its target is durable. Ours always is (a chunk is marked only then); a peer is followed by `sync -d TARGET`, where
//! it does not write past the page cache by itself (`-t none`). Ours digests everything besides. The peer is the
//! fastest of the ways given for it, found in a first run of each. A line below the table says what the fastest of
//! them takes without being durable.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Machine;
use super::pair::{self, Plan, Report, Sample};

const MIB: u64 = 1 << 20;
/// Bytes of the image.
const SIZE: u64 = 4 << 30;

/// A way of the peer: its name and a shell script over `$SRC` and `$DST`, durable and not.
struct Way {
    name: &'static str,
    durable: &'static str,
    not: &'static str,
}

const QEMU: &[Way] = &[
    Way {
        name: "qemu-img convert -W -m 16, sync",
        durable: "qemu-img convert -W -m 16 -O raw \"$SRC\" \"$DST\" && sync -d \"$DST\"",
        not: "qemu-img convert -W -m 16 -O raw \"$SRC\" \"$DST\"",
    },
    Way {
        name: "qemu-img convert -W -m 16 -t none",
        durable: "qemu-img convert -W -m 16 -t none -O raw \"$SRC\" \"$DST\" && sync -d \"$DST\"",
        not: "qemu-img convert -W -m 16 -t none -O raw \"$SRC\" \"$DST\"",
    },
];

const STREAM: &[Way] = &[
    Way {
        name: "qemu-img convert, sync",
        durable: "qemu-img convert -O raw \"$SRC\" \"$DST\" && sync -d \"$DST\"",
        not: "qemu-img convert -O raw \"$SRC\" \"$DST\"",
    },
    Way {
        name: "qemu-img convert -W -m 16 -t none",
        durable: "qemu-img convert -W -m 16 -t none -O raw \"$SRC\" \"$DST\" && sync -d \"$DST\"",
        not: "qemu-img convert -W -m 16 -t none -O raw \"$SRC\" \"$DST\"",
    },
];

const NBDCOPY: Way = Way {
    name: "nbdcopy, sync",
    durable: "nbdcopy \"$SRC\" \"$DST\" && sync -d \"$DST\"",
    not: "nbdcopy \"$SRC\" \"$DST\"",
};

/// VMDK streamOptimized to raw.
pub fn vmdk(machine: &Machine) -> Result<Report> {
    let source = converted(machine, "vmdk", &["-O", "vmdk", "-o", "subformat=streamOptimized"])?;
    compare(machine, Plan { name: "vmdk", goal: 0.5, pairs: 5, unit: "s" }, &source, &STREAM.iter().collect::<Vec<_>>())
}

/// A sparse raw file to another.
pub fn copy(machine: &Machine) -> Result<Report> {
    let source = image(machine)?;
    let ways: Vec<&Way> = QEMU.iter().chain([&NBDCOPY]).collect();
    compare(machine, Plan { name: "copy", goal: 1.0, pairs: 5, unit: "s" }, text(&source)?, &ways)
}

/// qcow2 to raw.
pub fn qcow2(machine: &Machine) -> Result<Report> {
    let source = converted(machine, "qcow2", &["-O", "qcow2"])?;
    compare(machine, Plan { name: "qcow2", goal: 1.0, pairs: 5, unit: "s" }, &source, &QEMU.iter().collect::<Vec<_>>())
}

/// From nbdkit's file plugin over a Unix socket to raw.
pub fn nbd(machine: &Machine) -> Result<Report> {
    let source = image(machine)?;
    let socket = machine.folder.join("nbd.sock");
    let mut server = Server::start(&source, &socket)?;
    let uri = format!("nbd+unix:///?socket={}", text(&socket)?);
    let report = compare(machine, Plan { name: "nbd", goal: 1.0, pairs: 5, unit: "s" }, &uri, &[&NBDCOPY]);
    server.stop();
    report
}

/// Measures ours beside the fastest way of the peer.
fn compare(machine: &Machine, plan: Plan, source: &str, ways: &[&Way]) -> Result<Report> {
    let disk = machine.release_example("forklift-disk", "disk")?;
    let limits = machine.release_example("forklift-disk", "limits")?;
    let target = machine.folder.join("target.img");
    let peer = |script: &str| -> Result<Sample> {
        clean(&target)?;
        pair::run(Command::new("sh").args(["-ec", script]).env("SRC", source).env("DST", &target))
    };
    let mut tried = Vec::new();
    for way in ways {
        tried.push((peer(way.durable)?, *way));
        eprintln!("   {}: {:.2} s", way.name, tried.last().map_or(0.0, |(sample, _)| sample.value));
    }
    let Some((_, fastest)) = tried.iter().min_by(|a, b| a.0.value.total_cmp(&b.0.value)) else {
        bail!("no way of the peer");
    };
    let mut ours = || -> Result<Sample> {
        clean(&target)?;
        pair::run(Command::new(&disk).args(["copy", source, text(&target)?, "--verify", "none"]))
    };
    let pairs = machine.pairs.unwrap_or(plan.pairs);
    let plan = Plan { pairs, ..plan };
    let report = pair::measure(plan, (fastest.name, &mut || peer(fastest.durable)), ("forklift disk copy", &mut ours))?;
    ours()?;
    let same = Command::new(&disk).args(["verify", text(&target)?]).stdout(Stdio::null()).status()?;
    if !same.success() {
        bail!("the copy is not what its manifest says");
    }
    let mut hasty: Vec<f64> = Vec::new();
    for _ in 0..pairs.min(3) {
        hasty.push(peer(fastest.not)?.value);
    }
    hasty.sort_by(f64::total_cmp);
    let hasty = hasty.get(hasty.len() / 2).copied().unwrap_or(f64::NAN);
    let note = format!("the peer without being durable: {hasty:.2} s; ours is durable and digested always");
    let machine = Command::new(limits).arg(&machine.folder).output().context("cannot run limits")?;
    clean(&target)?;
    Ok(report.note(note).note(String::from_utf8_lossy(&machine.stdout).trim_end()))
}

/// Removes what a run left.
pub(super) fn clean(target: &Path) -> Result<()> {
    for suffix in ["", ".chunks", ".manifest.json"] {
        let mut path = target.as_os_str().to_owned();
        path.push(suffix);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the folder's path is no text")
}

/// Makes the image as another format; returns its path.
fn converted(machine: &Machine, suffix: &str, args: &[&str]) -> Result<String> {
    let raw = image(machine)?;
    let path = machine.folder.join(format!("source.{suffix}"));
    let status = Command::new("qemu-img").args(["convert", "-f", "raw"]).args(args).arg(&raw).arg(&path).status();
    if !status.context("cannot run qemu-img")?.success() {
        bail!("qemu-img convert failed");
    }
    Ok(text(&path)?.to_owned())
}

/// Makes the image: in each 16 MiB 6 MiB are random, 6 MiB compress to a third and 4 MiB are a hole.
fn image(machine: &Machine) -> Result<PathBuf> {
    image_of(machine, SIZE)
}

/// Makes such an image of another size.
pub(super) fn image_of(machine: &Machine, size: u64) -> Result<PathBuf> {
    let path = machine.folder.join("source.img");
    let file = File::create(&path)?;
    file.set_len(size)?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut piece = vec![0u8; 6 << 20];
    for start in (0..size).step_by(16 << 20) {
        piece.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&next().to_le_bytes()));
        file.write_all_at(&piece, start)?;
        // words of a small language
        piece.chunks_exact_mut(8).for_each(|word| {
            word.copy_from_slice(b"the data");
            word[4..].copy_from_slice(&((next() >> 40) as u32 & 0x0f0f_0f0f | 0x6060_6060).to_le_bytes());
        });
        file.write_all_at(&piece, start + 6 * MIB)?;
    }
    file.sync_all()?;
    Ok(path)
}

/// A server that ends with its owner.
struct Server(Child);

impl Server {
    fn start(source: &Path, socket: &Path) -> Result<Self> {
        let child = Command::new("nbdkit")
            .args(["--foreground", "--readonly", "--unix", text(socket)?, "file", text(source)?])
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start nbdkit")?;
        let server = Self(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !socket.exists() {
            if Instant::now() > deadline {
                bail!("nbdkit does not listen");
            }
            std::thread::yield_now();
        }
        Ok(server)
    }

    fn stop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}
