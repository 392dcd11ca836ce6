//! Making an instance's pod: looks up what [`qemu::launcher`] has to know, then creates.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use forklift_kubevirt_types::{NetworkAttachmentDefinition, VirtualMachineInstance};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource};
use serde_json::json;

use super::Setting;
use super::qemu::{self, Claim, DiskImage, Facts, FirmwareFiles, Launcher, Refusal, Segment};
use super::vmi::NO_CLAIM;
use crate::quantity;
use crate::volumes::{claim_names, store};

/// The reason of an instance that waits for a disk which another machine has.
const DISK_IN_USE: &str = "DiskInUse";
/// What is asked for to keep EFI variables and a TPM.
const STATE_SIZE: &str = "10Mi";

/// Creates the pod, or says why not (yet). Returns what the guest has to do without.
pub async fn start(
    setting: &Setting,
    vmi: &VirtualMachineInstance,
    pods: &Api<Pod>,
    known: &[Arc<Pod>],
    instances: &[Arc<VirtualMachineInstance>],
) -> kube::Result<Result<Vec<String>, Refusal>> {
    let wanted = qemu::claims(&vmi.spec);
    if let Some(message) = disk_in_use(vmi, &wanted, known, instances) {
        return Ok(Err(Refusal { reason: DISK_IN_USE, message }));
    }
    let facts = match facts(setting, vmi, wanted).await? {
        Ok(facts) => facts,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Launcher { pod, notes } = match qemu::launcher(vmi, &facts) {
        Ok(launcher) => launcher,
        Err(refusal) => return Ok(Err(refusal)),
    };
    match pods.create(&PostParams::default(), &pod).await {
        Ok(_) => Ok(Ok(notes)),
        // made before a crash, or not seen yet
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Ok(notes)),
        Err(error) => Err(error),
    }
}

async fn facts(
    setting: &Setting,
    vmi: &VirtualMachineInstance,
    wanted: Vec<String>,
) -> kube::Result<Result<Facts, Refusal>> {
    let mut claims = BTreeMap::new();
    for name in wanted {
        let Some(found) = claim(setting, vmi, &name).await? else {
            let message = format!("persistentvolumeclaim \"{name}\" not found");
            return Ok(Err(Refusal { reason: NO_CLAIM, message }));
        };
        claims.insert(name, found);
    }
    let images = vmi.spec.volumes.iter().filter_map(|volume| {
        let source = volume.container_disk.as_ref()?;
        let disk = setting.images.resolve(&source.image)?.disk.clone()?;
        Some((source.image.clone(), disk_image(&disk, source.path.as_deref())?))
    });
    let images = images.collect();
    let segments = match segments(setting, vmi).await? {
        Ok(segments) => segments,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let seeds = match seeds(setting, vmi).await? {
        Ok(seeds) => seeds,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let state = if qemu::needs_state(&vmi.spec) { Some(state_claim(setting, vmi).await?) } else { None };
    let kvm = setting.accelerator.kvm().await;
    let (firmware, programs) = (FirmwareFiles::find(), Facts::find_programs());
    Ok(Ok(Facts { kvm, claims, firmware, images, segments, state, seeds, programs }))
}

/// What is to be known of a claim; none when it does not exist.
async fn claim(setting: &Setting, vmi: &VirtualMachineInstance, name: &str) -> kube::Result<Option<Claim>> {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(setting.client.clone(), namespace);
    let Some(claim) = claims.get_opt(name).await? else { return Ok(None) };
    let spec = claim.spec.unwrap_or_default();
    let volume = match &spec.volume_name {
        Some(volume) => Api::<PersistentVolume>::all(setting.client.clone()).get_opt(volume).await?,
        None => None,
    };
    let device = volume
        .and_then(|volume| store::path(&volume))
        .and_then(|path| std::fs::metadata(path).ok())
        .is_some_and(|meta| std::os::unix::fs::FileTypeExt::is_block_device(&meta.file_type()));
    let asked = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let size = asked.get("storage").and_then(|size| quantity::bytes(&size.0)).unwrap_or(0);
    Ok(Some(Claim { block: spec.volume_mode.as_deref() == Some("Block"), device, size }))
}

/// The local file of a container disk: the row's file, or the one that is asked for in the row's folder.
fn disk_image(disk: &Path, inside: Option<&str>) -> Option<DiskImage> {
    let path = if disk.is_dir() {
        let asked = inside.map(|path| disk.join(path.trim_start_matches('/').trim_start_matches("disk/")));
        let only = || std::fs::read_dir(disk).ok()?.flatten().map(|entry| entry.path()).find(|path| path.is_file());
        asked.filter(|path| path.is_file()).or_else(only)?
    } else {
        disk.to_owned()
    };
    let mut magic = [0; 4];
    std::fs::File::open(&path).ok()?.read_exact(&mut magic).ok()?;
    let format = if magic == *b"QFI\xfb" { "qcow2" } else { "raw" };
    Some(DiskImage { path: path.to_str()?.to_owned(), format })
}

/// The switches of the machine's Multus networks. Without the kind of definitions any name is a network.
async fn segments(
    setting: &Setting,
    vmi: &VirtualMachineInstance,
) -> kube::Result<Result<BTreeMap<String, Segment>, Refusal>> {
    let mut found = BTreeMap::new();
    let own = vmi.metadata.namespace.as_deref().unwrap_or_default();
    for network in &vmi.spec.networks {
        let Some(multus) = &network.multus else { continue };
        let (namespace, name) = multus.network_name.split_once('/').unwrap_or((own, &multus.network_name));
        let definitions: Api<NetworkAttachmentDefinition> = Api::namespaced(setting.client.clone(), namespace);
        if definitions.get_opt(name).await?.is_none() {
            continue;
        }
        match setting.networks.segment(&format!("{namespace}/{name}")).await {
            Ok(dir) => {
                found.insert(network.name.clone(), Segment { dir });
            }
            Err(error) => {
                return Ok(Err(format!("cannot make the switch of network {namespace}/{name}: {error}").into()));
            }
        }
    }
    Ok(Ok(found))
}

/// Writes the secret of the machine's seed disks; returns its name.
async fn seeds(setting: &Setting, vmi: &VirtualMachineInstance) -> kube::Result<Result<Option<String>, Refusal>> {
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(setting.client.clone(), namespace);
    let mut read = BTreeMap::new();
    for name in qemu::seed_secrets(&vmi.spec) {
        if let Some(secret) = secrets.get_opt(&name).await? {
            let data = secret.data.unwrap_or_default();
            read.insert(name, data.into_iter().map(|(key, value)| (key, value.0)).collect());
        }
    }
    let files = match qemu::seed(vmi, &read) {
        Ok(Some(files)) => files,
        Ok(None) => return Ok(Ok(None)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    let name = format!("{}-seed", qemu::pod_name(vmi.metadata.name.as_deref().unwrap_or_default(), &uid));
    let mut secret = Secret {
        data: Some(files.into_iter().map(|(key, value)| (key, ByteString(value))).collect()),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.clone());
    secret.metadata.labels = Some([("kubevirt.io/created-by".to_owned(), uid)].into());
    secret.metadata.owner_references = vmi.controller_owner_ref(&()).map(|owner| vec![owner]);
    match secrets.create(&PostParams::default(), &secret).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let patch = json!({"data": secret.data});
            secrets.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        other => {
            other?;
        }
    }
    Ok(Ok(Some(name)))
}

/// The claim that keeps EFI variables and TPM; it belongs to the machine, not to the instance.
async fn state_claim(setting: &Setting, vmi: &VirtualMachineInstance) -> kube::Result<String> {
    let machine = vmi.metadata.name.clone().unwrap_or_default();
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(setting.client.clone(), namespace);
    let name = format!("persistent-state-for-{machine}");
    let owner = vmi.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "VirtualMachine").cloned();
    let owner = owner.or_else(|| vmi.controller_owner_ref(&()));
    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"persistent-state-for": machine}, "ownerReferences": [owner]},
        "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem",
                 "resources": {"requests": {"storage": STATE_SIZE}}},
    }))
    .map_err(kube::Error::SerdeError)?;
    match claims.create(&PostParams::default(), &claim).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(name),
        other => other.map(|_| name),
    }
}

/// Two machines must never write to one disk.
pub fn disk_in_use(
    vmi: &VirtualMachineInstance,
    wanted: &[String],
    pods: &[Arc<Pod>],
    instances: &[Arc<VirtualMachineInstance>],
) -> Option<String> {
    let uid = vmi.metadata.uid.as_ref();
    let shared = |claim: &String| {
        let volume = vmi.spec.volumes.iter().find(|volume| qemu::claim_of(volume).as_ref() == Some(claim));
        let disk =
            vmi.spec.domain.devices.disks.iter().find(|disk| Some(&disk.name) == volume.map(|volume| &volume.name));
        disk.is_some_and(|disk| disk.shareable == Some(true))
    };
    let mine: Vec<&String> = wanted.iter().filter(|claim| !shared(claim)).collect();
    let others = pods.iter().filter(|pod| {
        let label = |name: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(name));
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        label("kubevirt.io").is_some_and(|value| value == "virt-launcher")
            && label("kubevirt.io/created-by") != uid
            && pod.metadata.namespace == vmi.metadata.namespace
            && !matches!(phase, Some("Succeeded" | "Failed"))
    });
    for pod in others {
        let creator = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubevirt.io/created-by"));
        let instance = instances.iter().find(|other| other.metadata.uid.as_ref() == creator);
        // those that came later are not in the pod
        let plugged = instance.iter().flat_map(|other| qemu::claims(&other.spec));
        if let Some(claim) = claim_names(pod).into_iter().chain(plugged).find(|claim| mine.contains(&claim)) {
            let pod = pod.metadata.name.as_deref().unwrap_or_default();
            return Some(format!(
                "the disk of persistentvolumeclaim {claim} is in use by pod {pod}; stop that machine first"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(phase: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": "virt-launcher-m-1", "namespace": "n",
                         "labels": {"kubevirt.io": "virt-launcher", "kubevirt.io/created-by": "other"}},
            "spec": {"containers": [],
                     "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}]},
            "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn a_disk_belongs_to_one_running_machine() {
        let mut vmi = VirtualMachineInstance::default();
        vmi.metadata.namespace = Some("n".into());
        vmi.metadata.uid = Some("mine".into());
        let other: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "n", "uid": "other"},
            "spec": {"volumes": [{"name": "later", "persistentVolumeClaim": {"claimName": "plugged", "hotpluggable": true}}]}}))
        .expect("an instance");
        let others = [Arc::new(other)];
        let check = |phase: &str, wanted: &str| disk_in_use(&vmi, &[wanted.to_owned()], &[pod(phase)], &others);
        assert!(check("Running", "disk").is_some_and(|message| message.contains("virt-launcher-m-1")));
        assert!(check("Running", "plugged").is_some(), "one that was plugged in counts too");
        assert_eq!(check("Failed", "disk"), None);
        assert_eq!(check("Running", "another"), None);
    }

    #[test]
    fn container_disks_are_files_or_folders() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("d.img"), b"QFI\xfb more").expect("written");
        let found = disk_image(dir.path(), Some("/disk/d.img")).expect("found");
        assert_eq!((found.format, found.path.ends_with("d.img")), ("qcow2", true));
        assert_eq!(disk_image(&dir.path().join("d.img"), None), Some(found));
        assert_eq!(disk_image(&dir.path().join("none"), None), None);
    }
}
