//! What is the matter with a guest, and what to do about it: a plain function of what was found.
//!
//! | category | means |
//! |---|---|
//! | Critical | the conversion would fail, or the guest would not start: the VM is not migrated |
//! | Warning | something of the guest may not work after the migration |
//! | Information | something was not looked at, or is worth knowing |

use forklift_api::conversion::InspectionConcern;

use super::Config;
use super::guest::{Guest, Root};
use crate::conversion::root_device::{Devices, fstab};
use crate::importer::vsphere::look::Unread;

const MIB: u64 = 1 << 20;
/// Inodes that virt-v2v wants free in each file system.
const INODES: u64 = 100;
/// Linux distributions that virt-v2v converts, by libguestfs' names.
const CONVERTED: &[&str] = &[
    "almalinux",
    "altlinux",
    "centos",
    "circle",
    "debian",
    "fedora",
    "kalilinux",
    "linuxmint",
    "opensuse",
    "oraclelinux",
    "redhat-based",
    "rhel",
    "rocky",
    "scientificlinux",
    "sles",
    "suse-based",
    "ubuntu",
];
/// What libguestfs cannot look into.
const FOREIGN: &[&str] = &["VMFS", "ReFS", "bcachefs", "apfs", "drbd", "ceph_bluestore"];

/// Collects concerns.
struct Found(Vec<InspectionConcern>);

impl Found {
    fn add(&mut self, category: &str, id: &str, label: &str, message: String) {
        let (id, category, label) = (id.into(), category.into(), label.into());
        self.0.push(InspectionConcern { id, category, label, message });
    }
}

/// Returns what is the matter, the worst first.
pub(super) fn concerns(guest: &Guest, unread: &[Unread], config: &Config) -> Vec<InspectionConcern> {
    let mut found = Found(Vec::new());
    for disk in unread {
        let message = format!(
            "{} was not looked into, because it cannot be read at any offset while the VM runs ({}); the migration goes \
             on without. With the provider's VDDK, or disks on VMFS or NFS datastores, it can be",
            disk.file, disk.why
        );
        found.add("Information", "disk-not-inspected", "Disk was not inspected", message);
    }
    locked(guest, config, &mut found);
    match guest.root(config.root_disk.as_deref()) {
        Some(root) => {
            system(guest, root, config, &mut found);
            space(guest, root, &mut found);
            if let Some(text) = guest.files.get("/etc/fstab") {
                mounts(text, &guest.devices, &mut found);
            }
        }
        None => nothing(guest, unread, &mut found),
    }
    let volumes = guest.filesystems.iter().map(|volume| (&volume.device, &volume.type_));
    let foreign = volumes.filter(|(_, kind)| FOREIGN.contains(&kind.as_str()));
    for (device, kind) in foreign.chain(guest.parts.iter().map(|(device, kind)| (device, kind))) {
        let message = format!(
            "{device} holds {kind}, into which virt-v2v cannot look: its data are copied as they are; if the guest boots from it, \
             migrate with raw copy (skipGuestConversion)"
        );
        found.add("Warning", "filesystem-unsupported", "File system is not supported by virt-v2v", message);
    }
    windows_volumes(guest, &mut found);
    let rank = |category: &str| ["Critical", "Error", "Warning"].iter().position(|c| *c == category).unwrap_or(9);
    found.0.sort_by_key(|concern| rank(&concern.category));
    found.0
}

fn locked(guest: &Guest, config: &Config, found: &mut Found) {
    for (device, kind) in &guest.locked {
        let what = if kind == "BitLocker" { "BitLocker" } else { "LUKS" };
        let message = if config.clevis && what == "LUKS" && !guest.clevis {
            format!(
                "{device} is encrypted with LUKS and libguestfs has no Clevis here, so that nbdeClevis opens nothing: give a \
                 passphrase with the VM's luks secret, or an image whose libguestfs has it (package clevis-luks)"
            )
        } else if config.clevis && what == "LUKS" {
            format!(
                "{device} is encrypted with LUKS and Clevis did not open it: see that the Tang server can be reached from \
                 the cluster, or give a passphrase with the VM's luks secret"
            )
        } else if guest.keys > 0 {
            format!(
                "{device} is encrypted with {what} and none of the keys of the VM's luks secret opens it ({} tried): put the \
                 right passphrase into the secret",
                guest.keys
            )
        } else {
            format!(
                "{device} is encrypted with {what} and no key was given: name a secret with the passphrase in the VM's luks \
                 field, or set nbdeClevis"
            )
        };
        found.add("Critical", "disk-encrypted", "Encrypted disk without a key", message);
    }
}

fn nothing(guest: &Guest, unread: &[Unread], found: &mut Found) {
    if !unread.is_empty() {
        let message = "no operating system is on the disks that could be looked into".to_owned();
        found.add("Information", "os-not-seen", "Operating system was not seen", message);
    } else if guest.locked.is_empty() {
        let message = "virt-v2v would find no operating system that it knows on the disks: migrate with raw copy \
                       (skipGuestConversion), the guest then needs virtio drivers of its own; or see whether its boot disk \
                       is among the VM's disks"
            .to_owned();
        found.add("Critical", "os-not-found", "No operating system found", message);
    }
}

fn system(guest: &Guest, root: &Root, config: &Config, found: &mut Found) {
    let supported = match root.kind.as_str() {
        "windows" => true,
        "linux" => CONVERTED.contains(&root.distro.as_str()),
        _ => false,
    };
    if !supported {
        let message = format!(
            "virt-v2v does not convert {} ({} {}): migrate with raw copy (skipGuestConversion); the guest then needs virtio \
             drivers of its own",
            root.title(),
            root.kind,
            root.distro
        );
        found.add("Critical", "os-unsupported", "Operating system is not supported by virt-v2v", message);
    }
    if !matches!(root.arch.as_str(), "x86_64" | "i386" | "i686" | "unknown" | "") {
        let message = format!("the guest is made for {}: virt-v2v converts x86 guests only", root.arch);
        found.add("Critical", "architecture-unsupported", "Architecture is not supported", message);
    }
    if guest.roots.len() > 1 && config.root_disk.is_none() {
        let all: Vec<_> = guest.roots.iter().map(|root| format!("{} ({})", root.device, root.title())).collect();
        let message = format!(
            "the guest has several operating systems: {}; the first is converted. Choose another one with the VM's rootDisk",
            all.join(", ")
        );
        found.add("Warning", "several-systems", "Several operating systems", message);
    }
    for (point, device) in &guest.unmounted {
        let message = format!(
            "{device} ({point}) cannot be mounted: check the file system in the guest; virt-v2v fails on a root file system \
             that it cannot mount"
        );
        let category = if point == "/" { "Critical" } else { "Warning" };
        found.add(category, "filesystem-damaged", "File system cannot be mounted", message);
    }
}

/// The minima are virt-v2v's: "Free space in the guest" in its manual.
fn space(guest: &Guest, root: &Root, found: &mut Found) {
    for volume in &guest.space {
        let wanted = match (volume.mount_point.as_str(), root.kind.as_str()) {
            ("/", _) => 100 * MIB,
            ("/boot", "linux") => 50 * MIB,
            _ => 10 * MIB,
        };
        let name = if root.kind == "windows" && volume.mount_point == "/" { "C:" } else { &volume.mount_point };
        if volume.free < wanted {
            let message = format!(
                "{name} has {} MB free and virt-v2v needs {}: free some space in the guest",
                volume.free / MIB,
                wanted / MIB
            );
            found.add("Critical", "filesystem-full", "Not enough free space in the guest", message);
        } else if volume.inodes > 0 && volume.free_inodes < INODES {
            let message = format!(
                "{name} has {} free inodes and virt-v2v needs {INODES}: remove files in the guest",
                volume.free_inodes
            );
            found.add("Critical", "filesystem-full", "Not enough free inodes in the guest", message);
        }
    }
}

/// How fstab names a device.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// By what stays: UUID, label, volume.
    Well,
    /// By the order of the disks, `/dev/sda1`.
    ByOrder,
    /// By the bus, which is another one in the target.
    ByBus,
    /// No disk has it.
    Missing,
}

fn named(spec: &str, devices: &Devices) -> Named {
    let spec = spec.trim_matches(['"', '\'']);
    if spec.starts_with("/dev/disk/by-path/") || spec.starts_with("/dev/disk/by-id/") {
        let stable = ["dm-", "lvm-", "md-"].iter().any(|s| spec.starts_with(&format!("/dev/disk/by-id/{s}")));
        return if stable { Named::Well } else { Named::ByBus };
    }
    for kind in ["UUID", "LABEL", "PARTUUID", "PARTLABEL"] {
        let direct = spec.strip_prefix(kind).and_then(|rest| rest.strip_prefix('='));
        let link = spec.strip_prefix(&format!("/dev/disk/by-{}/", kind.to_lowercase()));
        if let Some(value) = direct.or(link) {
            let tag = format!("{kind}={}", value.trim_matches(['"', '\'']));
            let is = devices.tags.iter().any(|known| known.eq_ignore_ascii_case(&tag));
            return if is { Named::Well } else { Named::Missing };
        }
    }
    // whatever the bus was called in the source, libguestfs calls it sd
    let letters = ["sd", "hd", "xvd", "vd"].iter().find_map(|bus| spec.strip_prefix("/dev/")?.strip_prefix(bus));
    match letters {
        Some(rest) if devices.partitions.contains(&format!("/dev/sd{rest}")) => Named::ByOrder,
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => Named::Missing,
        Some(_) | None => Named::Well,
    }
}

fn mounts(text: &str, devices: &Devices, found: &mut Found) {
    for (spec, point, options) in fstab(text) {
        let optional = options.split(',').any(|option| matches!(option, "noauto" | "nofail" | "_netdev"));
        match named(spec, devices) {
            Named::Well => {}
            Named::ByBus => {
                let message = format!(
                    "/etc/fstab mounts {point} from {spec}, a name of the source's bus which the target does not have: name it \
                     by UUID in the guest (blkid shows it)"
                );
                let category = if optional { "Warning" } else { "Critical" };
                found.add(category, "fstab-by-path", "fstab names a device by its bus", message);
            }
            Named::ByOrder => {
                let message = format!(
                    "/etc/fstab mounts {point} from {spec}: virt-v2v renames it, and it is another disk when the order of the \
                     disks changes; name it by UUID in the guest"
                );
                found.add("Warning", "fstab-by-device-name", "fstab names a device by the order of disks", message);
            }
            Named::Missing => {
                let message = format!(
                    "/etc/fstab mounts {point} from {spec}, which no disk of the VM has: the guest may stop in emergency mode; \
                     remove the line, or add nofail"
                );
                let category = if optional { "Information" } else { "Warning" };
                found.add(category, "fstab-device-missing", "fstab names a device that is not there", message);
            }
        }
    }
}

/// What `ntfs-3g.probe` says: its manual has the codes.
fn windows_volumes(guest: &Guest, found: &mut Found) {
    for (device, code) in &guest.ntfs {
        match code {
            13 => {
                let message = format!("{device} is damaged: run chkdsk /f in the guest, then migrate it again");
                found.add("Critical", "ntfs-damaged", "Windows volume is damaged", message);
            }
            14 => {
                let message = format!(
                    "{device} is hibernated: switch hibernation and fast start off in the guest (powercfg /h off), so that it \
                     shuts down fully before the last copy; virt-v2v cannot write to it otherwise"
                );
                found.add("Warning", "windows-hibernated", "Windows is hibernated", message);
            }
            15 => {
                let message = format!(
                    "{device} is in use: the guest runs. It is clean after the shutdown before the last copy, unless that is \
                     forced"
                );
                found.add("Information", "ntfs-in-use", "Windows volume is in use", message);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::guest::Space;
    use super::*;
    use crate::conversion::guest_files::GuestFiles;

    fn config() -> Config {
        Config {
            order: Default::default(),
            snapshot: String::new(),
            secret: Default::default(),
            root_disk: None,
            luks_dir: Default::default(),
            clevis: false,
        }
    }

    fn debian() -> Guest {
        let set = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        let root = Root {
            device: "/dev/sda1".into(),
            kind: "linux".into(),
            distro: "debian".into(),
            product: "12.15".into(),
            major: "12".into(),
            arch: "x86_64".into(),
            mountpoints: vec![("/".into(), "/dev/sda1".into())],
        };
        Guest {
            roots: vec![root],
            devices: Devices {
                partitions: set(&["/dev/sda", "/dev/sda1"]),
                volumes: set(&[]),
                tags: set(&["UUID=5f2c", "LABEL=rootfs"]),
            },
            files: GuestFiles::of(&[("/etc/fstab", "UUID=5f2c / ext4 errors=remount-ro 0 1\n")]),
            space: vec![Space { mount_point: "/".into(), free: 700 * MIB, inodes: 65536, free_inodes: 5000 }],
            ..Guest::default()
        }
    }

    fn check(guest: &Guest, config: &Config, expected: Expect) {
        let all = concerns(guest, &[], config);
        expected.assert_eq(&all.iter().map(|c| format!("{} {}\n", c.category, c.id)).collect::<String>());
    }

    #[test]
    fn a_sound_guest_has_no_concern_and_a_name() {
        check(&debian(), &config(), expect![""]);
        assert_eq!(debian().roots[0].title(), "debian 12.15");
    }

    #[test]
    fn fstab_is_judged_line_by_line() {
        let mut guest = debian();
        guest.files = GuestFiles::of(&[(
            "/etc/fstab",
            "# /dev/sdz9 /no ext4 defaults 0 0\n/dev/sda1 / ext4 defaults 0 1\nUUID=0000 /data xfs defaults 0 2\n\
             LABEL=rootfs /again ext4 defaults 0 0\n/dev/sdb1 /opt ext4 nofail 0 2\ntmpfs /tmp tmpfs defaults 0 0\n\
             /dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:1:0-part1 /home ext4 defaults 0 2\nnas:/x /mnt nfs _netdev 0 0\n\
             /dev/sr0 /media iso9660 noauto 0 0\n/dev/mapper/vg-swap none swap sw 0 0\n",
        )]);
        check(
            &guest,
            &config(),
            expect![[r"
                Critical fstab-by-path
                Warning fstab-by-device-name
                Warning fstab-device-missing
                Information fstab-device-missing
            "]],
        );
    }

    #[test]
    fn what_virt_v2v_refuses_is_critical() {
        let mut guest = debian();
        guest.space = vec![
            Space { mount_point: "/".into(), free: 99 * MIB, inodes: 10, free_inodes: 5 },
            Space { mount_point: "/boot".into(), free: 60 * MIB, inodes: 1000, free_inodes: 99 },
            Space { mount_point: "/var".into(), free: 11 * MIB, inodes: 0, free_inodes: 0 },
        ];
        guest.roots[0].distro = "alpinelinux".into();
        guest.roots[0].arch = "aarch64".into();
        guest.parts = vec![("/dev/sdb".into(), "zfs_member".into())];
        check(
            &guest,
            &config(),
            expect![[r"
                Critical os-unsupported
                Critical architecture-unsupported
                Critical filesystem-full
                Critical filesystem-full
                Warning filesystem-unsupported
            "]],
        );
    }

    #[test]
    fn an_encrypted_disk_says_what_is_missing() {
        let mut guest = Guest { locked: vec![("/dev/sda2".into(), "crypto_LUKS".into())], ..Guest::default() };
        let message = |guest: &Guest, config: &Config| concerns(guest, &[], config).remove(0).message;
        check(
            &guest,
            &config(),
            expect![[r"
            Critical disk-encrypted
        "]],
        );
        assert!(message(&guest, &config()).contains("no key was given"));
        guest.keys = 2;
        assert!(message(&guest, &config()).contains("none of the keys of the VM's luks secret opens it (2 tried)"));
        let clevis = Config { clevis: true, ..config() };
        assert!(message(&guest, &clevis).contains("libguestfs has no Clevis here"));
        guest.clevis = true;
        assert!(message(&guest, &clevis).contains("Tang"));
    }

    #[test]
    fn nothing_found_is_critical_unless_something_was_not_read() {
        check(
            &Guest::default(),
            &config(),
            expect![[r"
            Critical os-not-found
        "]],
        );
        let unread = [Unread { file: "[vsan] a/a.vmdk".into(), why: "HTTP 404".into() }];
        let all = concerns(&Guest::default(), &unread, &config());
        assert!(all.len() == 2 && all.iter().all(|concern| concern.category == "Information"), "{all:#?}");
        assert!(all[0].message.contains("[vsan] a/a.vmdk") && all[0].message.contains("HTTP 404"));
    }

    #[test]
    fn windows_volumes_and_several_systems() {
        let mut guest = debian();
        guest.roots.push(Root { kind: "windows".into(), device: "/dev/sdb1".into(), ..Root::default() });
        guest.ntfs = vec![("/dev/sdb1".into(), 14), ("/dev/sdb2".into(), 15), ("/dev/sdb3".into(), 0)];
        check(
            &guest,
            &config(),
            expect![[r"
                Warning several-systems
                Warning windows-hibernated
                Information ntfs-in-use
            "]],
        );
        let chosen = Config { root_disk: Some("/dev/sdb".into()), ..config() };
        assert_eq!(guest.root(chosen.root_disk.as_deref()).map(|root| root.kind.as_str()), Some("windows"));
    }
}
