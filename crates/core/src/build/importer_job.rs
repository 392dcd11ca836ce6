//! The importer of a disk: one Job, one container, one volume.
use forklift_api::worker::{self, ImportOptions, ImportSource, ImportSpec, VolumeMode};
use forklift_api::{annotations, labels};
use serde_json::{Value, json};

use super::{container_security, importer_limit, pod_ip, pod_security, put, store, vddk, vm_labels};
use crate::names::{self, Kind};
use crate::plan::effect::TargetObject;
use crate::plan::world::{PlanFacts, PlanVm};
use crate::source::DiskSource;

/// Where a file system volume is mounted.
pub const MOUNT: &str = "/mnt/disk";
/// Where a block volume is.
pub const DEVICE: &str = "/dev/block";
/// Label with the round of a warm migration.
pub const ROUND: &str = "round";

/// A disk that is imported.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    /// Index of the disk.
    pub index: usize,
    /// The disk's key.
    pub disk: &'a str,
    /// How it is read.
    pub source: &'a DiskSource,
    /// Its claim.
    pub claim: &'a str,
    /// `Filesystem` or `Block`.
    pub volume_mode: &'a str,
    /// Round of a warm migration; 0 otherwise.
    pub round: u32,
    /// Id of the snapshot that is read; none for the disk of a VM that is off.
    pub snapshot: Option<&'a str>,
    /// Name of that snapshot.
    pub snapshot_name: Option<&'a str>,
    /// State of the source that the snapshot holds.
    pub change_id: Option<&'a str>,
    /// State of the source that the rounds before brought.
    pub base_change_id: Option<&'a str>,
    /// Secret in the target namespace with the source's credentials.
    pub credentials: Option<&'a str>,
}

/// Returns the name of a disk's importer Job.
pub fn name(plan: &PlanFacts, vm: &PlanVm, index: usize, round: u32) -> String {
    let name = names::derived(plan, vm, Kind::Import, index);
    if round == 0 { name } else { format!("{}-r{round}", name.trim_end_matches('-')) }
}

/// Builds the importer Job of a disk.
pub fn importer_job(plan: &PlanFacts, vm: &PlanVm, import: &Import<'_>) -> TargetObject {
    let block = import.volume_mode == "Block";
    let mut source = import.source.source.clone();
    let (mut vddk, mut config) = (None, None);
    if let ImportSource::Vsphere(disk) = &mut source {
        // only an image that was found good: one that cannot be pulled would keep the pod from starting
        disk.vddk = plan.vddk_image.as_ref().map(|_| worker::VDDK_MOUNT.to_owned());
        vddk = plan.vddk_image.as_deref().map(vddk::library);
        config = vddk::config_volume(plan, vm);
        disk.vddk_config = config.as_ref().map(|_| vddk::config_path());
        disk.vddk_transports = plan.vddk_transports.clone().filter(|_| disk.vddk.is_some());
    }
    let limit = (!plan.limits.is_none()).then(|| importer_limit::name(plan, vm, import.index));
    let spec = ImportSpec {
        source,
        target: if block { DEVICE.into() } else { format!("{MOUNT}/disk.img") },
        volume_mode: if block { VolumeMode::Block } else { VolumeMode::Filesystem },
        virtual_size: import.source.virtual_size,
        identity: import.source.identity.clone(),
        verify: plan.verify,
        bandwidth: plan.bandwidth,
        options: ImportOptions {
            limit: limit.as_ref().map(|_| format!("@{}/{}", worker::LIMIT_MOUNT, worker::LIMIT_FILE)),
            snapshot: import.snapshot.map(str::to_owned),
            snapshot_name: import.snapshot_name.map(str::to_owned),
            change_id: import.change_id.map(str::to_owned),
            base_change_id: import.base_change_id.map(str::to_owned),
            ..ImportOptions::default()
        },
    };
    let mut volumes = vec![json!({"name": "disk", "persistentVolumeClaim": {"claimName": import.claim}})];
    let mut mounts: Vec<Value> = Vec::new();
    let mut devices: Vec<Value> = Vec::new();
    if block {
        devices.push(json!({"name": "disk", "devicePath": DEVICE}));
    } else {
        mounts.push(json!({"name": "disk", "mountPath": MOUNT}));
    }
    if plan.store.is_some() {
        volumes.push(store::volume(plan));
        mounts.push(store::mount());
    }
    if let Some(secret) = import.credentials {
        volumes.push(json!({"name": "secret", "secret": {"secretName": secret}}));
        mounts.push(json!({"name": "secret", "mountPath": worker::SECRET_MOUNT, "readOnly": true}));
    }
    let mut annotations =
        json!({annotations::DISK_SOURCE: import.disk, annotations::DISK_INDEX: import.index.to_string()});
    if let Some(name) = limit {
        // the folder, and not the file: a file that is mounted by itself does not follow its config map
        volumes.push(json!({"name": "limit", "configMap": {"name": name}}));
        mounts.push(json!({"name": "limit", "mountPath": worker::LIMIT_MOUNT, "readOnly": true}));
        annotations[annotations::IMPORT_LIMIT] = json!(name);
    }
    let mut init_containers = None;
    if let Some(library) = vddk {
        volumes.push(library.volume);
        mounts.push(library.mount);
        init_containers = library.init_container.map(|container| json!([container]));
    }
    if let Some((volume, mount)) = config {
        volumes.push(volume);
        mounts.push(mount);
    }
    let mut container = json!({
        "name": "importer", "image": plan.image, "imagePullPolicy": "IfNotPresent", "args": ["worker", "importer"],
        "env": [{"name": worker::IMPORT_ENV, "value": serde_json::to_string(&spec).unwrap_or_default()}, pod_ip()],
        "ports": [{"name": "http", "containerPort": worker::PORT}],
        "securityContext": container_security(),
        "terminationMessagePolicy": "File"
    });
    put(&mut container, "volumeMounts", mounts);
    put(&mut container, "volumeDevices", devices);
    let mut labels = vm_labels(plan, vm);
    labels.insert(labels::APP.into(), json!(labels::APP_IMPORTER));
    if import.round > 0 {
        labels.insert(ROUND.into(), json!(import.round.to_string()));
    }
    let mut pod = json!({
        "restartPolicy": "OnFailure", "securityContext": pod_security(), "containers": [container], "volumes": volumes
    });
    put(&mut pod, "initContainers", init_containers);
    if matches!(import.source.source, ImportSource::Vsphere(_)) {
        // upstream hands the convertor's nodes on to VDDK's importers: those that reach the hosts, or their storage
        put(&mut pod, "nodeSelector", json!(plan.options.convertor_node_selector));
    }
    put(&mut pod, "serviceAccountName", plan.options.service_account.clone());
    TargetObject::new(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": name(plan, vm, import.index, import.round), "namespace": plan.target_namespace,
            "labels": labels, "annotations": annotations
        },
        "spec": {"backoffLimit": 3, "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}}
    }))
}

/// Builds the copy of a secret with the source's credentials, without its data. Each secret has a copy of its own: the
/// importers of a VM that was moved between hosts do not change each other's.
pub fn credentials(plan: &PlanFacts, vm: &PlanVm, secret: &str) -> TargetObject {
    let index = if secret == plan.provider.secret_name { 0 } else { 1 + names::number(&[secret]) };
    let mut labels = vm_labels(plan, vm);
    labels.insert(labels::APP.into(), json!(labels::APP_IMPORTER));
    TargetObject::new(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": names::derived(plan, vm, Kind::Credentials, index), "namespace": plan.target_namespace,
            "labels": labels
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::world::PlanOptions;
    use forklift_api::worker::VsphereDisk;

    #[test]
    fn vddk_comes_with_its_configuration_to_the_nodes_that_reach_the_hosts() {
        let nodes = std::collections::BTreeMap::from([("storage".to_owned(), "fc".to_owned())]);
        let mut plan = PlanFacts {
            name: "p".into(),
            uid: "u".into(),
            vddk_config: Some("a=1\n".into()),
            vddk_transports: Some("san:nbdssl".into()),
            options: PlanOptions { convertor_node_selector: nodes, ..PlanOptions::default() },
            ..PlanFacts::default()
        };
        let vm = PlanVm { id: "vm-1".into(), ..PlanVm::default() };
        let source = DiskSource {
            source: ImportSource::Vsphere(VsphereDisk::default()),
            identity: String::new(),
            virtual_size: None,
            secret: None,
            host: String::new(),
            datastore: String::new(),
        };
        let told = |plan: &PlanFacts| {
            let import = Import {
                index: 0,
                disk: "d",
                source: &source,
                claim: "c",
                volume_mode: "Filesystem",
                round: 0,
                snapshot: None,
                snapshot_name: None,
                change_id: None,
                base_change_id: None,
                credentials: None,
            };
            let job = importer_job(plan, &vm, &import).json;
            let pod = job["spec"]["template"]["spec"].clone();
            let order = pod["containers"][0]["env"][0]["value"].as_str().unwrap_or_default().to_owned();
            let order: ImportSpec = serde_json::from_str(&order).unwrap_or_else(|error| panic!("{error}"));
            let ImportSource::Vsphere(disk) = order.source else { panic!("another source") };
            (pod, disk)
        };
        let (pod, disk) = told(&plan);
        assert_eq!(
            (disk.vddk, disk.vddk_config, disk.vddk_transports),
            (None, None, None),
            "the image was not found good"
        );
        assert!(!pod.to_string().contains("vddk"), "{pod:#}");
        assert_eq!(pod["nodeSelector"], json!({"storage": "fc"}));
        plan.vddk_image = Some("registry/vddk:8".into());
        let (pod, disk) = told(&plan);
        assert_eq!(disk.vddk_transports.as_deref(), Some("san:nbdssl"));
        let mounts = pod["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
        let mount = mounts.iter().find(|mount| mount["name"] == "vddk-conf").expect("it is mounted");
        let folder = mount["mountPath"].as_str().expect("a path");
        assert!(disk.vddk_config.is_some_and(|file| file == format!("{folder}/vddk-config-file")));
    }
}
