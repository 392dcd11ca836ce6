//! Disks, CD drives and LUNs on their buses.

use forklift_kubevirt_types::kubevirt::{Disk, VirtualMachineInstanceSpec};

use super::{Builder, Facts, Refusal, escape};
use crate::events::short_hash;

/// What QEMU opens for a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The path inside the pod.
    pub path: String,
    /// `raw` or `qcow2`.
    pub format: &'static str,
    /// It is a block device of the machine, not a file.
    pub device: bool,
    /// It must not be written to.
    pub read_only: bool,
}

impl Image {
    /// A raw image in a file.
    pub fn raw(path: String) -> Self {
        Self { path, format: "raw", ..Self::default() }
    }

    /// An overlay that takes the writes.
    pub fn overlay(path: String) -> Self {
        Self { path, format: "qcow2", ..Self::default() }
    }
}

/// QEMU's name of a disk that may be unplugged: it depends on the volume's name only.
pub fn hot_id(volume: &str) -> String {
    format!("hp-{}", short_hash(volume))
}

/// What a disk is to the guest.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Disk,
    Cd,
    Lun,
}

impl Builder {
    pub(super) fn disks(&mut self, spec: &VirtualMachineInstanceSpec, facts: &Facts) -> Result<(), Refusal> {
        let devices = &spec.domain.devices;
        let ordered = devices.disks.iter().any(|disk| disk.boot_order.is_some())
            || devices.interfaces.iter().any(|interface| interface.boot_order.is_some());
        if devices.disable_hotplug != Some(true) {
            // disks are plugged into it later
            self.controller("virtio-scsi-pci", "scsi0");
        }
        for (position, disk) in devices.disks.iter().enumerate() {
            let order = if ordered { disk.boot_order } else { Some(position as u32 + 1) };
            let Some(volume) = spec.volumes.iter().find(|volume| volume.name == disk.name) else {
                if disk.cdrom.is_some() {
                    self.disk(disk, &format!("disk{position}"), None, order)?;
                    continue;
                }
                return Err(format!("disk {} has no volume of that name", disk.name).into());
            };
            let claim = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.hotpluggable);
            let hot = claim.or(volume.data_volume.as_ref().and_then(|source| source.hotpluggable)) == Some(true);
            let id = if hot { hot_id(&volume.name) } else { format!("disk{position}") };
            if let Some(image) = self.volume(volume, facts)? {
                self.disk(disk, &id, Some(&image), order)?;
            }
        }
        let unused = spec.volumes.iter().filter(|volume| {
            let shown = devices.disks.iter().any(|disk| disk.name == volume.name)
                || devices.filesystems.iter().any(|filesystem| filesystem.name == volume.name);
            !shown
        });
        for volume in unused {
            self.note(format!("volume {} is left out: no disk has its name", volume.name));
        }
        Ok(())
    }

    fn disk(&mut self, disk: &Disk, id: &str, image: Option<&Image>, order: Option<u32>) -> Result<(), Refusal> {
        let (shape, bus, read_only) = target(disk);
        let read_only = read_only || image.is_some_and(|image| image.read_only);
        if let Some(image) = image {
            self.backend(disk, id, image, read_only);
        }
        let bus = bus.unwrap_or(if shape == Shape::Lun { "scsi" } else { "sata" });
        let mut device = match (bus, shape) {
            ("virtio", Shape::Cd) => {
                return Err(format!("CD drive {} cannot be on the bus virtio; use sata, scsi or usb", disk.name).into());
            }
            ("virtio", _) => format!("virtio-blk-pci{}", self.port()),
            ("scsi", shape) => {
                self.controller("virtio-scsi-pci", "scsi0");
                let model = match shape {
                    Shape::Cd => "scsi-cd",
                    Shape::Lun if image.is_some_and(|image| image.device) => "scsi-block",
                    Shape::Lun | Shape::Disk => "scsi-hd",
                };
                if shape == Shape::Lun && model == "scsi-hd" {
                    self.note(format!(
                        "lun {} is a disk: only a block device of this machine can be passed through",
                        disk.name
                    ));
                }
                format!("{model},bus=scsi0.0")
            }
            ("usb", _) => {
                self.controller("qemu-xhci", "usb");
                "usb-storage,bus=usb.0".to_owned()
            }
            ("sata", shape) => {
                if shape != Shape::Cd && read_only {
                    return Err(format!(
                        "disk {} can only be read, which the bus sata does not offer; use virtio or scsi",
                        disk.name
                    )
                    .into());
                }
                // a controller has six ports
                let (controller, port) = (self.sata_ports / 6, self.sata_ports % 6);
                self.sata_ports += 1;
                self.controller("ahci", &format!("sata{controller}"));
                format!("ide-{},bus=sata{controller}.{port}", if shape == Shape::Cd { "cd" } else { "hd" })
            }
            (other, _) => {
                return Err(
                    format!("disk {} is on the unknown bus {other}; use virtio, sata, scsi or usb", disk.name).into()
                );
            }
        };
        if image.is_some() {
            device += &format!(",drive={id}");
        }
        device += &format!(",id=dev-{id}");
        device += &options(disk, shape == Shape::Cd || device.starts_with("scsi-block"));
        if let Some(order) = order {
            device += &format!(",bootindex={order}");
        }
        self.device(device);
        Ok(())
    }

    fn backend(&mut self, disk: &Disk, id: &str, image: &Image, read_only: bool) {
        let driver = if image.device { "host_device" } else { "file" };
        let share = if disk.shareable == Some(true) { ",file.locking=off" } else { "" };
        let direct = disk.cache.as_deref() == Some("none");
        let on = |state: bool| if state { "on" } else { "off" };
        let aio = match disk.io.as_deref() {
            // the kernel's own asynchronous I/O works on uncached files only
            Some("native") if direct => ",file.aio=native",
            Some("native") => {
                self.note(format!("disk {} uses threads: io native needs cache none", disk.name));
                ""
            }
            Some("io_uring") => ",file.aio=io_uring",
            _ => "",
        };
        self.arg("-blockdev", format!(
            "driver={},node-name={id},read-only={},discard=unmap,cache.direct={},file.driver={driver},file.filename={}{share}{aio}",
            image.format,
            on(read_only),
            on(direct),
            escape(&image.path)
        ));
    }
}

/// What the guest sees, its bus, and whether it can only be read.
fn target(disk: &Disk) -> (Shape, Option<&str>, bool) {
    if let Some(target) = &disk.disk {
        return (Shape::Disk, target.bus.as_deref(), target.readonly == Some(true));
    }
    if let Some(target) = &disk.lun {
        return (Shape::Lun, target.bus.as_deref(), target.readonly == Some(true));
    }
    if let Some(target) = &disk.cdrom {
        return (Shape::Cd, target.bus.as_deref(), target.readonly != Some(false));
    }
    (Shape::Disk, None, false)
}

/// What the device says of itself, and how it deals with errors.
fn options(disk: &Disk, plain: bool) -> String {
    let mut text = String::new();
    if let Some(serial) = disk.serial.as_ref().filter(|_| !plain) {
        text += &format!(",serial={}", escape(serial));
    }
    if plain {
        return text;
    }
    if disk.cache.as_deref() == Some("writethrough") {
        text += ",write-cache=off";
    }
    if disk.shareable == Some(true) {
        text += ",share-rw=on";
    }
    if let Some(size) = disk.block_size.as_ref().and_then(|size| size.custom.as_ref()) {
        for (name, bytes) in [("logical", size.logical), ("physical", size.physical)] {
            if let Some(bytes) = bytes {
                text += &format!(",{name}_block_size={bytes}");
            }
        }
    }
    match disk.error_policy.as_deref() {
        Some(policy @ ("stop" | "ignore" | "report")) => text += &format!(",werror={policy},rerror={policy}"),
        Some("enospace") => text += ",werror=enospc",
        _ => {}
    }
    text
}
