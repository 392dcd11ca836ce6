//! Volumes that come and go while a machine runs.
//!
//! ```text
//! spec.volumes (hotpluggable) ─┐
//!                              ├─ compare ─► add-fd, blockdev-add, device_add │ device_del, blockdev-del
//! what QEMU has (hp-…) ────────┘
//! ```
//! QEMU lives in a file tree of its own, so it gets the open file, not a path. Nothing is remembered: what is
//! plugged in is read from QEMU each time, and goes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use forklift_kubevirt_types::VirtualMachineInstance;
use forklift_kubevirt_types::kubevirt::{Disk, Volume};
use forklift_kubevirt_types::vmi::volume_phase;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Resource};
use serde_json::{Value, json};

use super::{Setting, Stores, qemu, qmp, start};
use crate::events::{Events, Kind};
use crate::quantity;
use crate::volumes::store;

/// How far the volumes are that came later.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Their part of `status.volumeStatus`, by name.
    pub volumes: BTreeMap<String, Value>,
    /// There is more to do soon.
    pub unfinished: bool,
}

/// Whether a volume may be unplugged.
pub fn is_hot(volume: &Volume) -> bool {
    let claim = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.hotpluggable);
    claim.or(volume.data_volume.as_ref().and_then(|source| source.hotpluggable)) == Some(true)
}

/// Plugs in what is wanted and not there, and the other way round.
pub async fn sync(
    setting: &Setting,
    events: &Events,
    vmi: &VirtualMachineInstance,
    stores: &Stores,
) -> kube::Result<Outcome> {
    let mut outcome = Outcome::default();
    let wanted: Vec<(&Volume, &Disk)> = vmi
        .spec
        .volumes
        .iter()
        .filter(|volume| is_hot(volume))
        .filter_map(|volume| {
            Some((volume, vmi.spec.domain.devices.disks.iter().find(|disk| disk.name == volume.name)?))
        })
        .collect();
    let before: Vec<String> = vmi
        .status
        .iter()
        .flat_map(|status| &status.volume_status)
        .filter(|volume| volume.hotplug_volume.is_some())
        .map(|volume| volume.name.clone())
        .collect();
    if wanted.is_empty() && before.is_empty() {
        return Ok(outcome);
    }
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let pod_name = qemu::pod_name(
        vmi.metadata.name.as_deref().unwrap_or_default(),
        vmi.metadata.uid.as_deref().unwrap_or_default(),
    );
    let Some(pod) = stores.pods.get(&ObjectRef::new(&pod_name).within(namespace)) else { return Ok(outcome) };
    let socket = setting.sockets(&pod).join("qmp.sock");
    let Ok(there) = devices(&socket).await else {
        return Ok(Outcome { unfinished: true, ..outcome });
    };
    for (volume, disk) in &wanted {
        let id = qemu::hot_id(&volume.name);
        let plugged = there.contains(&format!("dev-{id}"));
        let result = if plugged { Ok(()) } else { plug(setting, vmi, stores, volume, disk, &socket).await? };
        let state = match result {
            Ok(()) => {
                let message = format!("Successfully attach hotplugged volume {} to VM", volume.name);
                if !plugged {
                    events.publish_about(vmi.object_ref(&()), Kind::Normal, "VolumeReady", &message).await;
                }
                json!({"phase": volume_phase::READY, "reason": "VolumeReady", "message": message})
            }
            Err(message) => {
                outcome.unfinished = true;
                json!({"phase": volume_phase::PENDING, "reason": "FailedAttach", "message": message})
            }
        };
        outcome.volumes.insert(volume.name.clone(), state);
    }
    for name in before.iter().filter(|name| !wanted.iter().any(|(volume, _)| volume.name == **name)) {
        let id = qemu::hot_id(name);
        if unplug(&socket, &id, &there).await {
            let message = format!("Volume {name} has been unplugged from the virtual machine");
            events.publish_about(vmi.object_ref(&()), Kind::Normal, "VolumeUnplugged", &message).await;
        } else {
            outcome.unfinished = true;
            let state = json!({"phase": volume_phase::DETACHING, "reason": "VolumeDetaching",
                               "message": "the guest has not let go of the disk yet"});
            outcome.volumes.insert(name.clone(), state);
        }
    }
    Ok(outcome)
}

/// Names of the devices with an id.
async fn devices(socket: &Path) -> std::io::Result<BTreeSet<String>> {
    let list = qmp::command(socket, "qom-list", json!({"path": "/machine/peripheral"})).await?;
    let names = list.as_array().into_iter().flatten().filter_map(|entry| entry.get("name")?.as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Plugs a volume in, or says why not yet.
async fn plug(
    setting: &Setting,
    vmi: &VirtualMachineInstance,
    stores: &Stores,
    volume: &Volume,
    disk: &Disk,
    socket: &Path,
) -> kube::Result<Result<(), String>> {
    let claim_name = qemu::claim_of(volume).unwrap_or_default();
    let used =
        start::disk_in_use(vmi, std::slice::from_ref(&claim_name), &stores.pods.state(), &stores.instances.state());
    if let Some(message) = used {
        return Ok(Err(message));
    }
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let Some(claim) = stores.claims.get(&ObjectRef::new(&claim_name).within(namespace)) else {
        return Ok(Err(format!("persistentvolumeclaim \"{claim_name}\" not found")));
    };
    let spec = claim.spec.clone().unwrap_or_default();
    let Some(volume_name) = spec.volume_name else {
        return Ok(Err(format!("persistentvolumeclaim \"{claim_name}\" is not bound yet")));
    };
    let Some(persistent) = Api::<PersistentVolume>::all(setting.client.clone()).get_opt(&volume_name).await? else {
        return Ok(Err(format!("persistentvolume \"{volume_name}\" not found")));
    };
    let asked = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let size = asked.get("storage").and_then(|size| quantity::bytes(&size.0)).unwrap_or(0);
    let opened = open(&persistent, size).map_err(|error| format!("cannot open the disk of {claim_name}: {error}"));
    let file = match opened {
        Ok(file) => file,
        Err(message) => return Ok(Err(message)),
    };
    let id = qemu::hot_id(&volume.name);
    Ok(attach(socket, &id, disk, file).await.map_err(|error| error.to_string()))
}

/// Opens a volume's disk; an empty volume is an empty disk.
fn open(volume: &PersistentVolume, size: u64) -> std::io::Result<File> {
    let place = if store::is_ours(volume) {
        store::ensure(volume).map_err(std::io::Error::other)?
    } else {
        store::path(volume).ok_or_else(|| std::io::Error::other("only hostPath and local volumes can be plugged in"))?
    };
    let path = if place.is_dir() { place.join("disk.img") } else { place };
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
    if file.metadata()?.is_file() && file.metadata()?.len() == 0 {
        file.set_len(size)?;
    }
    Ok(file)
}

async fn attach(socket: &Path, id: &str, disk: &Disk, file: File) -> std::io::Result<()> {
    let nodes = qmp::command(socket, "query-named-block-nodes", json!({"flat": true})).await?;
    let known = nodes.as_array().into_iter().flatten().any(|node| node.get("node-name") == Some(&json!(id)));
    if !known {
        let device = !file.metadata()?.is_file();
        let fdset = fdset(id);
        let command = json!({"execute": "add-fd", "arguments": {"fdset-id": fdset, "opaque": id}});
        qmp::send_file(socket.to_owned(), file, command).await?;
        let node = json!({
            "driver": "raw", "node-name": id, "discard": "unmap",
            "file": {"driver": if device { "host_device" } else { "file" }, "filename": format!("/dev/fdset/{fdset}")},
        });
        if let Err(error) = qmp::command(socket, "blockdev-add", node).await {
            // nobody else would close it
            let _ = qmp::command(socket, "remove-fd", json!({"fdset-id": fdset})).await;
            return Err(error);
        }
    }
    let mut device = json!({"id": format!("dev-{id}"), "drive": id});
    if let Some(serial) = &disk.serial {
        device["serial"] = json!(serial);
    }
    let bus = disk.disk.as_ref().and_then(|target| target.bus.as_deref()).unwrap_or("scsi");
    if bus != "virtio" {
        device["driver"] = json!(if disk.cdrom.is_some() { "scsi-cd" } else { "scsi-hd" });
        device["bus"] = json!("scsi0.0");
        qmp::command(socket, "device_add", device).await?;
        return Ok(());
    }
    device["driver"] = json!("virtio-blk-pci");
    let mut last = None;
    for port in 0..qemu::SPARE_PORTS {
        device["bus"] = json!(format!("hp{port}"));
        match qmp::command(socket, "device_add", device.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| std::io::Error::other("no port is left")))
}

/// Takes a disk away, as far as it goes now; says whether nothing of it is left.
async fn unplug(socket: &Path, id: &str, there: &BTreeSet<String>) -> bool {
    let device = format!("dev-{id}");
    if there.contains(&device) {
        if let Err(error) = qmp::command(socket, "device_del", json!({"id": device})).await {
            tracing::debug!(%error, id, "a disk is not unplugged yet");
        }
        if !devices(socket).await.is_ok_and(|left| !left.contains(&device)) {
            return false;
        }
    }
    match qmp::command(socket, "blockdev-del", json!({"node-name": id})).await {
        Ok(_) => {}
        Err(error) if error.to_string().contains("Failed to find node") => {}
        Err(error) => {
            tracing::debug!(%error, id, "an unplugged disk is still in use");
            return false;
        }
    }
    // not there when QEMU had the disk from its start
    let _ = qmp::command(socket, "remove-fd", json!({"fdset-id": fdset(id)})).await;
    true
}

/// A number for QEMU's set of files, from the disk's id.
fn fdset(id: &str) -> u32 {
    id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) >> 2
}
