//! What is in a guest, as libguestfs sees it: one session, read-only.

use std::path::PathBuf;

use forklift_api::conversion::InspectionFilesystem;

use super::Config;
use crate::conversion::guest_files::GuestFiles;
use crate::conversion::root_device::Devices;
use crate::conversion::session::{Session, quote};
use crate::conversion::{ConversionError, Tools};

/// Systems of one guest that are looked at.
const ROOTS: usize = 8;
/// Keys that are tried on a device.
const KEYS: usize = 32;

/// A guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Guest {
    /// Its file systems, and what else its partitions hold.
    pub filesystems: Vec<InspectionFilesystem>,
    /// Its operating systems.
    pub roots: Vec<Root>,
    /// What its disks have, as fstab may name it.
    pub devices: Devices,
    /// Its `/etc/fstab`, of the system that is looked at.
    pub files: GuestFiles,
    /// What is free in the mounted file systems.
    pub space: Vec<Space>,
    /// Mount points that could not be mounted, with what libguestfs' log knows.
    pub unmounted: Vec<(String, String)>,
    /// NTFS volumes with the code that `ntfs-3g.probe` gives.
    pub ntfs: Vec<(String, i32)>,
    /// Parts of pools that libguestfs does not put together, with their type.
    pub parts: Vec<(String, String)>,
    /// Encrypted devices that no key opens, with their type.
    pub locked: Vec<(String, String)>,
    /// Keys that were tried.
    pub keys: usize,
    /// Whether libguestfs can ask Clevis for keys.
    pub clevis: bool,
}

/// An operating system of a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    /// Its root file system.
    pub device: String,
    /// `linux`, `windows`, `freebsd` …
    pub kind: String,
    /// `debian`, `rhel`, `windows` …
    pub distro: String,
    /// What it calls itself.
    pub product: String,
    /// Major version.
    pub major: String,
    /// `x86_64` …
    pub arch: String,
    /// Mount points with their devices, the shortest first.
    pub mountpoints: Vec<(String, String)>,
}

/// What is free in a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Space {
    /// Where it is mounted.
    pub mount_point: String,
    /// Free bytes.
    pub free: u64,
    /// Inodes in all; 0 where the file system has no fixed number.
    pub inodes: u64,
    /// Free inodes.
    pub free_inodes: u64,
}

impl Root {
    /// Returns a name for people: what it calls itself, where that is more than a number.
    pub fn title(&self) -> String {
        let distro = if self.distro.is_empty() || self.distro == "unknown" { &self.kind } else { &self.distro };
        if self.product.chars().any(char::is_alphabetic) {
            self.product.clone()
        } else if self.product.is_empty() || self.product == "unknown" {
            format!("{distro} {}", self.major)
        } else {
            format!("{distro} {}", self.product)
        }
    }
}

impl Guest {
    /// Returns the system that is looked at: the one that is asked for, else the first.
    pub fn root(&self, wanted: Option<&str>) -> Option<&Root> {
        // a partition may be asked for, or the disk that it is on
        let asked = wanted.and_then(|wanted| {
            let exact = self.roots.iter().find(|root| root.device == wanted);
            exact.or_else(|| self.roots.iter().find(|root| root.device.starts_with(wanted)))
        });
        asked.or_else(|| self.roots.first())
    }
}

/// Looks into the disks at these addresses; `say` tells what is being done.
pub(super) async fn look(
    config: &Config,
    tools: &Tools,
    disks: &[String],
    say: impl Fn(&str),
) -> Result<Guest, ConversionError> {
    say("Starting libguestfs");
    let mut session = Session::look(tools, disks, config.clevis).await?;
    let mut guest = Guest::default();
    say("Looking for file systems");
    unlock(config, &mut session, &mut guest).await?;
    for line in session.ask("list-filesystems").await? {
        let Some((device, kind)) = line.rsplit_once(": ") else { continue };
        let uuid = match kind {
            "unknown" | "swap" => Vec::new(),
            _ => session.ask(&format!("vfs-uuid {}", quote(device))).await?,
        };
        guest.filesystems.push(InspectionFilesystem {
            device: device.to_owned(),
            type_: kind.to_owned(),
            uuid: uuid.into_iter().next().unwrap_or_default(),
        });
    }
    guest.devices = session.devices().await?;
    say("Looking for operating systems");
    for device in session.ask("inspect-os").await?.into_iter().take(ROOTS) {
        guest.roots.push(root(&mut session, &device).await?);
    }
    if let Some(chosen) = guest.root(config.root_disk.as_deref()).cloned() {
        say("Looking at the file systems of the guest");
        mount(&mut session, &mut guest, &chosen).await?;
    }
    for found in guest.filesystems.iter().filter(|found| found.type_ == "ntfs") {
        let code = session.ask(&format!("ntfs-3g-probe true {}", quote(&found.device))).await?;
        if let Some(code) = code.first().and_then(|code| code.trim().parse().ok()) {
            guest.ntfs.push((found.device.clone(), code));
        }
    }
    session.close().await?;
    Ok(guest)
}

/// Whether a type is that of a part of something larger, which libguestfs does not list as a file system. Those of LVM
/// and RAID are put together by it.
fn is_part(kind: &str) -> bool {
    kind.ends_with("_member") && !matches!(kind, "LVM2_member" | "linux_raid_member")
}

/// Opens what is encrypted, as far as there are keys for it.
async fn unlock(config: &Config, session: &mut Session, guest: &mut Guest) -> Result<(), ConversionError> {
    let keys = keys(config);
    guest.keys = keys.len();
    // Debian's has no Clevis in its small machine
    guest.clevis = config.clevis && session.ask("feature-available clevisluks").await?.contains(&"true".to_owned());
    let mut opened = false;
    let mut all = Vec::new();
    for command in ["list-devices", "list-partitions", "lvs", "list-md-devices"] {
        all.extend(session.ask(command).await?);
    }
    for (number, device) in all.iter().enumerate() {
        let kind = session.ask(&format!("vfs-type {}", quote(device))).await?.into_iter().next().unwrap_or_default();
        if !matches!(kind.as_str(), "crypto_LUKS" | "BitLocker") {
            if is_part(&kind) {
                guest.parts.push((device.clone(), kind));
            }
            continue;
        }
        let name = format!("opened{number}");
        let mut fits = false;
        if guest.clevis && kind == "crypto_LUKS" {
            session.ask(&format!("clevis-luks-unlock {} {}", quote(device), quote(&name))).await?;
            fits = session.ask("list-dm-devices").await?.contains(&format!("/dev/mapper/{name}"));
        }
        for key in keys.iter().filter(|_| !config.clevis) {
            if fits {
                break;
            }
            fits = session.unlock(device, &name, key).await?;
        }
        opened |= fits;
        if !fits {
            guest.locked.push((device.clone(), kind));
        }
    }
    if opened {
        session.ask("lvm-scan true").await?;
    }
    Ok(())
}

/// Returns the keys, one a file; guestfish takes a line.
fn keys(config: &Config) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(&config.luks_dir) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with("..")) // the kubelet's own links
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let read = |file: PathBuf| std::fs::read_to_string(file).ok()?.lines().next().map(str::to_owned);
    files.into_iter().filter_map(read).filter(|key| !key.is_empty()).take(KEYS).collect()
}

async fn root(session: &mut Session, device: &str) -> Result<Root, ConversionError> {
    let mut root = Root { device: device.to_owned(), ..Root::default() };
    for (command, field) in [
        ("inspect-get-type", &mut root.kind),
        ("inspect-get-distro", &mut root.distro),
        ("inspect-get-product-name", &mut root.product),
        ("inspect-get-major-version", &mut root.major),
        ("inspect-get-arch", &mut root.arch),
    ] {
        let answer = session.ask(&format!("{command} {}", quote(device))).await?;
        *field = answer.into_iter().next().unwrap_or_default();
    }
    for line in session.ask(&format!("inspect-get-mountpoints {}", quote(device))).await? {
        if let Some((point, device)) = line.split_once(": ") {
            root.mountpoints.push((point.to_owned(), device.to_owned()));
        }
    }
    root.mountpoints.sort_by_key(|(point, _)| point.len());
    Ok(root)
}

/// Mounts a system's file systems and reads what is judged of them.
async fn mount(session: &mut Session, guest: &mut Guest, root: &Root) -> Result<(), ConversionError> {
    for (point, device) in &root.mountpoints {
        // a name of fstab that nothing has is told of as such
        if !guest.filesystems.iter().any(|found| found.device == *device) {
            continue;
        }
        session.ask(&format!("mount-ro {} {}", quote(device), quote(point))).await?;
        let mounted = session.ask("mountpoints").await?;
        if !mounted.iter().any(|line| line.rsplit_once(": ").is_some_and(|(_, at)| at == point)) {
            guest.unmounted.push((point.clone(), device.clone()));
            continue;
        }
        let stat = session.ask(&format!("statvfs {}", quote(point))).await?;
        let number = |name: &str| {
            let value = stat.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        guest.space.push(Space {
            mount_point: point.clone(),
            free: number("bfree").saturating_mul(number("bsize")),
            inodes: number("files"),
            free_inodes: number("ffree"),
        });
    }
    if root.kind == "linux" {
        guest.files = session.files(&["/etc/fstab"]).await?;
    }
    Ok(())
}
