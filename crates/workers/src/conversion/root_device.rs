//! Checks that a converted Linux guest will find its root device on the virtio bus.
//!
//! virt-v2v renames `/dev/sda1` to `/dev/vda1` in fstab, but a boot menu made with `GRUB_DISABLE_LINUX_UUID` keeps
//! `root=/dev/sda1`: virt-v2v then exits with success, and the guest waits for its root for ever.

use std::collections::BTreeSet;

use forklift_api::worker::Warning;

use super::error::ConversionError;
use super::guest_files::GuestFiles;

/// Files that say what the kernel's root is, as libguestfs' glob takes them.
pub const PATTERNS: &[&str] = &[
    "/etc/fstab",
    "/boot/grub/grub.cfg",
    "/boot/grub2/grub.cfg",
    "/boot/grub/menu.lst",
    "/boot/grub/grub.conf",
    "/boot/grub2/grubenv",
    "/boot/grub/grubenv",
    "/boot/loader/entries/*.conf",
    "/boot/efi/loader/entries/*.conf",
    "/boot/extlinux/extlinux.conf",
    "/etc/kernel/cmdline",
];

/// The same files by what counts first. Within a tier of several one good root is enough: they stand for kernels of
/// which the newest is booted.
const TIERS: &[&[&str]] = &[
    &["/loader/entries/", "/grubenv"],
    &["/grub.cfg"],
    &["/menu.lst", "/grub.conf"],
    &["/extlinux.conf"],
    &["/etc/kernel/cmdline"],
];

/// What the guest's disks have, as its kernel will be able to name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Devices {
    /// Partitions and whole disks as libguestfs names them (`/dev/sda1`).
    pub partitions: BTreeSet<String>,
    /// Logical volumes (`/dev/vg/root`).
    pub volumes: BTreeSet<String>,
    /// Tags that udev makes links for: `UUID=…`, `LABEL=…`, `PARTUUID=…`, `PARTLABEL=…`, as blkid prints them.
    pub tags: BTreeSet<String>,
}

/// How a device name fares on the new bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Found,
    Missing,
    /// Not a device that disks decide (network, tmpfs, RAID …), or a form that is not judged.
    Unknown,
}

impl Devices {
    fn fate(&self, spec: &str) -> Fate {
        let spec = spec.trim_matches(['"', '\'']);
        let by_link = |kind: &str| {
            spec.strip_prefix(&format!("/dev/disk/by-{}/", kind.to_lowercase())).map(|value| format!("{kind}={value}"))
        };
        for kind in ["UUID", "LABEL", "PARTUUID", "PARTLABEL"] {
            let tag = spec
                .strip_prefix(kind)
                .and_then(|rest| rest.strip_prefix('='))
                .map(|value| format!("{kind}={}", value.trim_matches(['"', '\''])))
                .or_else(|| by_link(kind));
            if let Some(tag) = tag {
                return found(self.tags.iter().any(|t| t.eq_ignore_ascii_case(&tag)));
            }
        }
        // these links are named after the bus
        if spec.starts_with("/dev/disk/by-path/") || spec.starts_with("/dev/disk/by-id/") {
            let stable = ["dm-", "lvm-", "md-"].iter().any(|s| spec.starts_with(&format!("/dev/disk/by-id/{s}")));
            return if stable { Fate::Unknown } else { Fate::Missing };
        }
        let Some(name) = spec.strip_prefix("/dev/") else {
            return Fate::Unknown;
        };
        if let Some(rest) = name.strip_prefix("vd") {
            return found(self.partitions.contains(&format!("/dev/sd{rest}")) || self.partitions.contains(spec));
        }
        if ["sd", "hd", "xvd", "nvme"].iter().any(|bus| name.starts_with(bus)) {
            return Fate::Missing;
        }
        if let Some(mapped) = name.strip_prefix("mapper/") {
            // vg-lv, where a dash within a name is doubled
            let known = self
                .volumes
                .iter()
                .any(|v| v.trim_start_matches("/dev/").replace('-', "--").replace('/', "-") == mapped);
            return if known { Fate::Found } else { Fate::Unknown };
        }
        if self.volumes.contains(spec) { Fate::Found } else { Fate::Unknown }
    }
}

fn found(is: bool) -> Fate {
    if is { Fate::Found } else { Fate::Missing }
}

/// Fails when the guest would not find its root; returns warnings for other file systems that it would miss.
pub fn check(guest: &GuestFiles, devices: &Devices) -> Result<Vec<Warning>, ConversionError> {
    if devices.tags.is_empty() && devices.volumes.is_empty() {
        return Ok(vec![Warning {
            reason: "RootDeviceNotChecked".into(),
            message: "the guest's disks have no file system that could be looked at".into(),
        }]);
    }
    // what boots: the entries that grub's menu is made of and the menu itself; older files only where there is none
    for tier in TIERS {
        let mut seen = Vec::new();
        for (path, text) in guest.iter().filter(|(path, _)| tier.iter().any(|t| path.contains(t))) {
            // the first entry is the default; those below may be of other systems on the same disks
            if let Some(device) = boot_roots(path, text).first() {
                seen.push((path, *device, devices.fate(device)));
            }
        }
        if let Some((path, device, _)) = seen.iter().find(|(.., fate)| *fate == Fate::Missing)
            && (tier.len() == 1 || seen.iter().all(|(.., fate)| *fate == Fate::Missing))
        {
            return Err(ConversionError::RootDeviceUnresolved { device: (*device).into(), place: (*path).into() });
        }
        if !seen.is_empty() {
            break;
        }
    }
    let mut warnings = Vec::new();
    for (device, mount_point, options) in fstab(guest.get("/etc/fstab").unwrap_or_default()) {
        if devices.fate(device) != Fate::Missing {
            continue;
        }
        if mount_point == "/" {
            return Err(ConversionError::RootDeviceUnresolved { device: device.into(), place: "/etc/fstab".into() });
        }
        if !options.split(',').any(|o| matches!(o, "noauto" | "nofail" | "_netdev")) {
            warnings.push(Warning {
                reason: "FstabDeviceUnresolved".into(),
                message: format!("{device} ({mount_point} in /etc/fstab) does not exist on the virtio bus: the guest may stop in emergency mode"),
            });
        }
    }
    Ok(warnings)
}

/// The `root=` of every boot entry of a file. Comments and rescue entries count too little to tell apart.
fn boot_roots<'a>(path: &str, text: &'a str) -> Vec<&'a str> {
    let is_options = |line: &str| {
        let word = line.split_whitespace().next().unwrap_or_default();
        match path.rsplit('/').next().unwrap_or_default() {
            "grub.cfg" => matches!(word, "linux" | "linux16" | "linuxefi") || line.starts_with("set kernelopts="),
            "menu.lst" | "grub.conf" => word == "kernel",
            "grubenv" => line.starts_with("kernelopts="),
            "extlinux.conf" => word.eq_ignore_ascii_case("append"),
            "cmdline" => true,
            _ => word == "options",
        }
    };
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#') && is_options(line))
        .flat_map(str::split_whitespace)
        .filter_map(|word| {
            let word = word.trim_matches('"');
            word.strip_prefix("root=").or_else(|| word.strip_prefix("kernelopts=root="))
        })
        .filter(|device| !device.contains('$'))
        .collect()
}

pub fn fstab(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    text.lines().filter(|l| !l.trim_start().starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?, words.nth(1).unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Devices {
        let set = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Devices {
            partitions: set(&["/dev/sda", "/dev/sda1", "/dev/sda2"]),
            volumes: set(&["/dev/rhel-big/root"]),
            tags: set(&["UUID=5f2c9f0e-6f0a", "LABEL=rootfs", "PARTUUID=1234-01"]),
        }
    }

    fn check_boot(path: &str, text: &str) -> Result<usize, String> {
        check(&GuestFiles::of(&[(path, text)]), &devices()).map(|w| w.len()).map_err(|e| e.to_string())
    }

    #[test]
    fn roots_that_resolve() {
        for root in [
            "UUID=5f2c9f0e-6f0a",
            "LABEL=rootfs",
            "PARTUUID=1234-01",
            "/dev/vda1",
            "/dev/mapper/rhel--big-root",
            "/dev/rhel-big/root",
            "/dev/disk/by-uuid/5f2c9f0e-6f0a",
            "/dev/md0",
            "$root",
        ] {
            assert_eq!(
                check_boot("/boot/grub/grub.cfg", &format!("  linux /vmlinuz root={root} ro quiet\n")),
                Ok(0),
                "{root}"
            );
        }
    }

    #[test]
    fn roots_that_hang() {
        for root in [
            "/dev/sda1",
            "/dev/hda1",
            "/dev/xvda1",
            "/dev/vda7",
            "UUID=other",
            "LABEL=none",
            "/dev/disk/by-path/pci-0000:00:10.0-scsi-0:0:0:0-part1",
            "/dev/disk/by-id/ata-VMware_1",
        ] {
            let said = check_boot("/boot/grub2/grub.cfg", &format!("\tlinux16 /vmlinuz root={root} ro\n")).unwrap_err();
            assert_eq!(
                said,
                format!(
                    "the converted guest's root device {root} does not exist on the virtio bus (/boot/grub2/grub.cfg)"
                )
            );
        }
    }

    #[test]
    fn every_kind_of_boot_menu_is_read() {
        for (path, text) in [
            ("/boot/loader/entries/a.conf", "title x\noptions root=/dev/sda1 ro\n"),
            ("/boot/grub2/grubenv", "# GRUB\nkernelopts=root=/dev/sda1 ro\n"),
            ("/boot/grub/menu.lst", "title a\n kernel /vmlinuz root=/dev/sda1\n"),
            ("/boot/extlinux/extlinux.conf", "label l\n APPEND root=/dev/sda1\n"),
            ("/etc/kernel/cmdline", "root=/dev/sda1 quiet\n"),
        ] {
            assert!(check_boot(path, text).is_err(), "{path}");
        }
        assert_eq!(check_boot("/boot/grub/grub.cfg", "# linux root=/dev/sda1\nsearch root=/dev/sda1\n"), Ok(0));
    }

    #[test]
    fn the_default_entry_counts_and_older_menus_do_not() {
        let menu = "linux /a root=LABEL=rootfs\nlinux /other-system root=/dev/sda7\n";
        assert_eq!(check_boot("/boot/grub/grub.cfg", menu), Ok(0));
        let guest = GuestFiles::of(&[
            ("/boot/grub2/grub.cfg", "linux /a root=LABEL=rootfs\n"),
            ("/boot/grub/grub.conf", "kernel /old root=/dev/sda1\n"),
            ("/etc/kernel/cmdline", "root=/dev/sda1\n"),
        ]);
        assert_eq!(check(&guest, &devices()).unwrap(), []);
    }

    #[test]
    fn disks_that_show_nothing_are_no_proof() {
        let guest = GuestFiles::of(&[("/boot/grub/grub.cfg", "linux /a root=LABEL=x\n")]);
        assert_eq!(check(&guest, &Devices::default()).unwrap()[0].reason, "RootDeviceNotChecked");
    }

    #[test]
    fn fstab_needs_its_root_and_warns_of_the_rest() {
        assert!(check_boot("/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n").is_err());
        let others = "UUID=5f2c9f0e-6f0a / ext4 defaults 0 1\n/dev/sdb1 /data ext4 defaults 0 2\n\
                      /dev/sdc1 /opt ext4 nofail 0 2\ntmpfs /tmp tmpfs defaults 0 0\nnas:/x /mnt nfs _netdev 0 0\n";
        let warnings = check(&GuestFiles::of(&[("/etc/fstab", others)]), &devices()).unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].message.starts_with("/dev/sdb1 (/data in /etc/fstab)"));
    }
}
