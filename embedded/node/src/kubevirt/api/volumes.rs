//! addvolume and removevolume, of an instance, and of a machine with its instance.

use axum::body::Bytes;
use axum::extract::{Path as Segments, State};
use axum::http::StatusCode;
use forklift_kubevirt_types::VirtualMachineInstance;
use forklift_kubevirt_types::kubevirt::{ClaimVolume, DataVolumeSource, Disk, VirtualMachineInstanceSpec, Volume};
use kube::api::{Patch, PatchParams};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::hotplug::is_hot;
use super::{Failure, Outcome, Shared};

/// AddVolumeOptions and RemoveVolumeOptions.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Options {
    name: String,
    disk: Option<Disk>,
    volume_source: Option<Source>,
    dry_run: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Source {
    persistent_volume_claim: Option<ClaimVolume>,
    data_volume: Option<DataVolumeSource>,
}

type Named = Segments<(String, String)>;

/// The volume and the disk that are asked for.
fn wanted(options: &Options) -> Outcome<(Volume, Disk)> {
    let name = &options.name;
    if name.is_empty() {
        return Err(Failure::bad_request("AddVolumeOptions requires name to be set"));
    }
    let Some(disk) = &options.disk else {
        return Err(Failure::bad_request("AddVolumeOptions requires disk to not be nil"));
    };
    let mut disk = disk.clone();
    disk.name.clone_from(name);
    if disk.lun.is_none() && disk.cdrom.is_none() {
        let target = disk.disk.get_or_insert_default();
        let bus = target.bus.get_or_insert_with(|| "scsi".into());
        if !matches!(bus.as_str(), "scsi" | "virtio") {
            return Err(Failure::bad_request(format!(
                "disk {name} cannot be plugged into the bus {bus}; use scsi or virtio"
            )));
        }
    }
    // the guest tells plugged disks apart by their serial
    disk.serial.get_or_insert_with(|| name.clone());
    let mut volume = Volume { name: name.clone(), ..Volume::default() };
    match options.volume_source.as_ref().map(|source| (&source.persistent_volume_claim, &source.data_volume)) {
        Some((Some(claim), _)) => {
            volume.persistent_volume_claim = Some(ClaimVolume { hotpluggable: Some(true), ..claim.clone() });
        }
        Some((None, Some(source))) => {
            volume.data_volume = Some(DataVolumeSource { hotpluggable: Some(true), ..source.clone() });
        }
        _ => return Err(Failure::bad_request("AddVolumeOptions requires volumeSource to not be nil")),
    }
    Ok((volume, disk))
}

/// Adds a volume to a specification; says whether it was new.
fn add(spec: &mut VirtualMachineInstanceSpec, volume: &Volume, disk: &Disk) -> bool {
    let new = !spec.volumes.iter().any(|known| known.name == volume.name);
    if new {
        spec.volumes.push(volume.clone());
        spec.domain.devices.disks.retain(|known| known.name != disk.name);
        spec.domain.devices.disks.push(disk.clone());
    }
    new
}

/// Removes a volume from a specification; says whether it was there.
fn remove(spec: &mut VirtualMachineInstanceSpec, name: &str) -> Result<bool, String> {
    match spec.volumes.iter().find(|volume| volume.name == name) {
        None => Ok(false),
        Some(volume) if !is_hot(volume) => {
            Err(format!("Unable to remove volume [{name}] because it is not hotpluggable"))
        }
        Some(_) => {
            spec.volumes.retain(|volume| volume.name != name);
            spec.domain.devices.disks.retain(|disk| disk.name != name);
            Ok(true)
        }
    }
}

/// The part of a specification that changes.
fn lists(spec: &VirtualMachineInstanceSpec) -> Value {
    json!({"volumes": spec.volumes, "domain": {"devices": {"disks": spec.domain.devices.disks}}})
}

/// What happens to a specification.
type Change<'a> = &'a (dyn Fn(&mut VirtualMachineInstanceSpec) -> Result<bool, String> + Sync);

impl Options {
    fn read(body: &Bytes) -> Outcome<Self> {
        serde_json::from_slice(body)
            .map_err(|error| Failure::bad_request(format!("Can not unmarshal Request body to struct, error: {error}")))
    }

    fn params(&self) -> PatchParams {
        PatchParams { dry_run: self.dry_run.iter().any(|value| value == "All"), ..PatchParams::default() }
    }

    async fn change_instance(
        &self,
        shared: &Shared,
        instance: VirtualMachineInstance,
        change: Change<'_>,
    ) -> Outcome<bool> {
        let name = instance.metadata.name.clone().unwrap_or_default();
        let mut spec = instance.spec.clone();
        let changed = change(&mut spec).map_err(|why| Failure::conflict("virtualmachineinstance", &name, why))?;
        if changed {
            let metadata = json!({"resourceVersion": instance.metadata.resource_version});
            let patch = Patch::Merge(json!({"metadata": metadata, "spec": lists(&spec)}));
            let namespace = instance.metadata.namespace.as_deref().unwrap_or_default();
            shared.instances(namespace).patch(&name, &self.params(), &patch).await?;
        }
        Ok(changed)
    }

    /// Changes the machine, and its instance when there is one; fails when both are as wanted already.
    async fn change_machine(
        &self,
        shared: &Shared,
        namespace: &str,
        name: &str,
        change: Change<'_>,
        same: &str,
    ) -> Outcome<StatusCode> {
        let machine = shared.machines(namespace).get(name).await?;
        let mut spec = machine.spec.template.spec.clone();
        let mut changed = change(&mut spec).map_err(|why| Failure::conflict("virtualmachine", name, why))?;
        if changed {
            let metadata = json!({"resourceVersion": machine.metadata.resource_version});
            let patch = json!({"metadata": metadata, "spec": {"template": {"spec": lists(&spec)}}});
            shared.machines(namespace).patch(name, &self.params(), &Patch::Merge(patch)).await?;
        }
        if let Some(instance) = shared.instances(namespace).get_opt(name).await? {
            changed |= self.change_instance(shared, instance, change).await?;
        }
        if changed { Ok(StatusCode::ACCEPTED) } else { Err(Failure::conflict("virtualmachine", name, same)) }
    }
}

fn exists(name: &str) -> String {
    format!("Unable to add volume [{name}] because volume with that name already exists")
}

fn absent(name: &str) -> String {
    format!("Unable to remove volume [{name}] because it does not exist")
}

/// PUT virtualmachines/addvolume.
pub async fn add_to_machine(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let (volume, disk) = wanted(&options)?;
    let change = |spec: &mut VirtualMachineInstanceSpec| Ok(add(spec, &volume, &disk));
    options.change_machine(&shared, &namespace, &name, &change, &exists(&options.name)).await
}

/// PUT virtualmachines/removevolume.
pub async fn remove_from_machine(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let change = |spec: &mut VirtualMachineInstanceSpec| remove(spec, &options.name);
    options.change_machine(&shared, &namespace, &name, &change, &absent(&options.name)).await
}

/// PUT virtualmachineinstances/addvolume: until the instance ends.
pub async fn add_to_instance(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let (volume, disk) = wanted(&options)?;
    let running = shared.running(&namespace, &name).await?;
    let change = |spec: &mut VirtualMachineInstanceSpec| Ok(add(spec, &volume, &disk));
    if options.change_instance(&shared, running.instance, &change).await? {
        return Ok(StatusCode::ACCEPTED);
    }
    Err(Failure::conflict("virtualmachineinstance", &name, exists(&options.name)))
}

/// PUT virtualmachineinstances/removevolume.
pub async fn remove_from_instance(
    State(shared): State<Shared>,
    Segments((namespace, name)): Named,
    body: Bytes,
) -> Outcome<StatusCode> {
    let options = Options::read(&body)?;
    let running = shared.running(&namespace, &name).await?;
    let change = |spec: &mut VirtualMachineInstanceSpec| remove(spec, &options.name);
    if options.change_instance(&shared, running.instance, &change).await? {
        return Ok(StatusCode::ACCEPTED);
    }
    Err(Failure::conflict("virtualmachineinstance", &name, absent(&options.name)))
}
