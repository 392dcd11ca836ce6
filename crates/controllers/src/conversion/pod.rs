//! The pod of a conversion, built from its spec alone.
use std::collections::BTreeMap;

use forklift_api::conversion::{ConversionType, DiskEncryptionType};
use forklift_api::map::VolumeMode;
use forklift_api::{Conversion, Settings, labels};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::shell::apply::owner;
use crate::shell::status::ReconcileError;

/// Name of the container.
pub const CONTAINER: &str = "virt-v2v";
/// The annotation that ties the pod to its conversion across namespaces.
const CONVERSION_UID: &str = "forklift.konveyor.io/conversion-uid";
/// The user that virt-v2v and QEMU run as.
const QEMU: i64 = 107;
/// Where the worker keeps overlay and results.
const SCRATCH: &str = "/var/tmp/v2v";

/// Returns the name of a conversion's pod: derived, so that it is made once.
pub fn name(conversion: &Conversion) -> String {
    let name = conversion.name_any();
    let unique: String = conversion.uid().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(5).collect();
    let room = 63 - unique.len() - 1;
    format!("{}-{unique}", name.chars().take(room).collect::<String>().trim_end_matches('-'))
}

/// Whether a pod was made for the conversion with this UID.
pub fn belongs(pod: &Pod, uid: Option<&str>) -> bool {
    uid.is_some() && pod.annotations().get(CONVERSION_UID).map(String::as_str) == uid
}

/// Returns the pod.
pub fn build(conversion: &Conversion, settings: &Settings) -> Result<Pod, ReconcileError> {
    let spec = &conversion.spec;
    let mut volumes = vec![json!({"name": "scratch", "emptyDir": {}})];
    let mut mounts = vec![json!({"name": "scratch", "mountPath": SCRATCH})];
    let mut devices = Vec::new();
    for (index, disk) in spec.disks.iter().enumerate() {
        let volume = format!("disk-{index}");
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": disk.name}}));
        let or = |path: &str, default: String| if path.is_empty() { default } else { path.to_owned() };
        if disk.volume_mode == Some(VolumeMode::Block) {
            devices.push(json!({"name": volume, "devicePath": or(&disk.device_path, format!("/dev/block{index}"))}));
        } else {
            mounts.push(json!({"name": volume, "mountPath": or(&disk.mount_path, format!("/mnt/disks/disk{index}"))}));
        }
    }
    let mut env = environment(conversion);
    let mut env_from = Vec::new();
    if let Some(secret) = spec.connection.secret.name.as_ref().filter(|name| !name.is_empty()) {
        volumes.push(json!({"name": "secret-volume", "secret": {"secretName": secret}}));
        mounts.push(json!({"name": "secret-volume", "mountPath": "/etc/secret", "readOnly": true}));
        env_from.push(json!({"prefix": "V2V_", "secretRef": {"name": secret}}));
    }
    match &spec.disk_encryption {
        Some(encryption) if encryption.type_ == DiskEncryptionType::Luks => {
            volumes.push(json!({"name": "luks", "secret": {"secretName": encryption.secret.name}}));
            mounts.push(json!({"name": "luks", "mountPath": "/etc/luks", "readOnly": true}));
        }
        Some(_) => env.push(json!({"name": "V2V_NBDE_CLEVIS", "value": "true"})),
        None => {}
    }
    volumes.extend(spec.extra_volumes.iter().map(|volume| json!(volume)));
    mounts.extend(spec.extra_mounts.iter().map(|mount| json!(mount)));

    let image = [spec.image.as_str(), if spec.xfs_compatibility { &settings.virt_v2v_image_xfs } else { &settings.virt_v2v_image }]
        .into_iter()
        .find(|image| !image.is_empty())
        .unwrap_or(forklift_api::IMAGE);
    let (mut limits, mut requests) = (
        json!({"cpu": settings.virt_v2v_limits_cpu, "memory": settings.virt_v2v_limits_memory}),
        json!({"cpu": settings.virt_v2v_requests_cpu, "memory": settings.virt_v2v_requests_memory}),
    );
    let mut node_selector = spec.pod_settings.node_selector.clone();
    if spec.pod_settings.request_kvm && !settings.virt_v2v_dont_request_kvm {
        limits["devices.kubevirt.io/kvm"] = json!("1");
        requests["devices.kubevirt.io/kvm"] = json!("1");
        node_selector.entry("kubevirt.io/schedulable".to_owned()).or_insert_with(|| "true".to_owned());
    }
    let same_namespace = conversion.namespace().as_deref() == Some(spec.target_namespace.as_str());
    let owners: Vec<_> = owner(conversion, true, true).filter(|_| same_namespace).into_iter().collect();
    let mut annotations = spec.pod_settings.transfer_network_annotations.clone();
    annotations.insert(CONVERSION_UID.to_owned(), conversion.uid().unwrap_or_default());
    let mut pod = json!({
        "metadata": {
            "name": name(conversion),
            "namespace": spec.target_namespace,
            "labels": pod_labels(conversion),
            "annotations": annotations,
            "ownerReferences": owners,
        },
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "fsGroup": QEMU, "runAsUser": QEMU, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": node_selector,
            "affinity": spec.pod_settings.affinity.as_ref().map_or_else(default_affinity, |affinity| json!(affinity)),
            "containers": [{
                "name": CONTAINER,
                "image": image,
                "args": ["worker", "conversion"],
                "env": env,
                "envFrom": env_from,
                "resources": {"limits": limits, "requests": requests},
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "volumeMounts": mounts,
                "volumeDevices": devices,
            }],
            "volumes": volumes,
        },
    });
    let account = [&spec.pod_settings.service_account, &settings.migration_service_account];
    if let Some(account) = account.into_iter().find(|name| !name.is_empty()) {
        pod["spec"]["serviceAccountName"] = json!(account);
    }
    serde_json::from_value(pod).map_err(|error| ReconcileError::retry(format!("building the conversion's pod: {error}")))
}

fn environment(conversion: &Conversion) -> Vec<Value> {
    let spec = &conversion.spec;
    let mut values: BTreeMap<&str, String> =
        spec.settings.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    let mut default = |key, value: &str| {
        values.entry(key).or_insert_with(|| value.to_owned());
    };
    default("V2V_vmName", if spec.vm.name.is_empty() { &spec.vm.id } else { &spec.vm.name });
    default("LOCAL_MIGRATION", if spec.local_migration { "true" } else { "false" });
    match spec.type_ {
        ConversionType::InPlace => default("V2V_inPlace", "1"),
        ConversionType::Inspection | ConversionType::DeepInspection => default("V2V_remoteInspection", "true"),
        ConversionType::Remote => {}
    }
    if spec.xfs_compatibility {
        default("V2V_xfsCompatibility", "true");
    }
    let mut env: Vec<Value> = values.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    env.push(json!({"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}));
    env
}

fn pod_labels(conversion: &Conversion) -> BTreeMap<String, String> {
    let mut all = conversion.labels().clone();
    let app = match conversion.spec.type_ {
        ConversionType::InPlace | ConversionType::Remote => labels::APP_VIRT_V2V,
        ConversionType::Inspection => labels::APP_VIRT_V2V_INSPECTION,
        ConversionType::DeepInspection => labels::APP_DEEP_INSPECTION,
    };
    all.insert(labels::APP.to_owned(), app.to_owned());
    all.insert(labels::CONVERSION.to_owned(), conversion.name_any());
    all.insert(labels::CONVERSION_TYPE.to_owned(), conversion.spec.type_.to_string());
    all
}

/// Conversions are heavy: they go to different nodes where they can.
fn default_affinity() -> Value {
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "namespaceSelector": {},
            "labelSelector": {"matchExpressions": [
                {"key": labels::APP, "operator": "In", "values": [labels::APP_VIRT_V2V]},
            ]},
        },
    }]}})
}
