//! The inspection of a guest before its disks are copied: the Conversion of type DeepInspection, the secret that it
//! reaches the source with, and the pod that an inspection is carried out by.
//!
//! Conversion, secret and pod are in the plan's namespace: the target's may not exist yet.
use forklift_api::conversion::{
    ConversionSpec, ConversionType, DiskEncryptionType, SETTING_INSTANCE_UUID, SETTING_SNAPSHOT_MOREF,
    SETTING_TRANSFER_METHOD,
};
use forklift_api::vddk::{CONFIG_ENV, TRANSPORTS_ENV};
use forklift_api::worker::{self, VsphereDisk};
use forklift_api::{labels, worker::SECRET_MOUNT};
use serde_json::{Map, Value, json};

use super::{container_security, pod_ip, pod_security, put, vddk, vm_labels};
use crate::names::{self, Kind};
use crate::plan::effect::TargetObject;
use crate::plan::world::{PlanFacts, PlanVm};

/// Returns the name of a VM's inspection.
pub fn name(plan: &PlanFacts, vm: &PlanVm) -> String {
    names::derived(plan, vm, Kind::Inspection, 0)
}

/// Builds the secret that the inspection reaches the source with: a copy of the provider's, with the address. Its data
/// is added by whoever copies it.
pub fn connection(plan: &PlanFacts, vm: &PlanVm, disk: &VsphereDisk) -> TargetObject {
    let mut labels = vm_labels(plan, vm);
    labels.insert(labels::IS_CONNECTION.into(), json!(labels::TRUE));
    let mut data = json!({});
    put(&mut data, "url", disk.url.clone());
    put(&mut data, "fingerprint", disk.thumbprint.clone());
    let mut object = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {
            "name": names::derived(plan, vm, Kind::Connection, 0), "namespace": plan.namespace, "labels": labels
        }
    });
    put(&mut object, "stringData", data);
    TargetObject::new(object)
}

/// Builds the Conversion that inspects a VM's disks at a snapshot.
pub fn inspection(plan: &PlanFacts, vm: &PlanVm, snapshot: &str, disk: &VsphereDisk) -> TargetObject {
    let options = &plan.options;
    let mut settings = json!({SETTING_SNAPSHOT_MOREF: snapshot});
    put(&mut settings, SETTING_INSTANCE_UUID, disk.instance_uuid.clone());
    put(&mut settings, SETTING_TRANSFER_METHOD, disk.method.clone());
    put(&mut settings, "V2V_RootDisk", vm.root_disk.clone());
    put(&mut settings, TRANSPORTS_ENV, plan.vddk_transports.clone().filter(|_| plan.vddk_image.is_some()));
    let mut pod = json!({"requestKVM": options.request_kvm});
    put(&mut pod, "nodeSelector", json!(options.convertor_node_selector));
    put(&mut pod, "affinity", options.convertor_affinity.clone().unwrap_or_default());
    put(&mut pod, "serviceAccount", options.service_account.clone());
    let mut spec = json!({
        "type": ConversionType::DeepInspection,
        "vm": {"id": vm.id, "name": vm.name},
        "connection": {"secret": {"name": names::derived(plan, vm, Kind::Connection, 0), "namespace": plan.namespace}},
        "image": plan.image, "targetNamespace": plan.namespace, "xfsCompatibility": options.xfs_compatibility,
        "settings": settings, "podSettings": pod
    });
    put(&mut spec, "vddkImage", plan.vddk_image.clone());
    if let Some((volume, mount)) = vddk::config_volume(plan, vm) {
        spec["extraVolumes"] = json!([volume]);
        spec["extraMounts"] = json!([mount]);
        spec["settings"][CONFIG_ENV] = json!(vddk::config_path());
    }
    if vm.nbde_clevis {
        spec["diskEncryption"] = json!({"type": DiskEncryptionType::Clevis});
    } else if let Some(secret) = &vm.luks_secret {
        let secret = json!({"name": secret, "namespace": plan.namespace});
        spec["diskEncryption"] = json!({"type": DiskEncryptionType::Luks, "secret": secret});
    }
    TargetObject::new(json!({
        "apiVersion": format!("{}/{}", forklift_api::GROUP, forklift_api::VERSION), "kind": "Conversion",
        "metadata": {"name": name(plan, vm), "namespace": plan.namespace, "labels": vm_labels(plan, vm)},
        "spec": spec
    }))
}

/// Builds the pod of an inspection. `snapshot` is the one that is read; `labels` are the Conversion's, `owner` ties the
/// pod to it where both are in one namespace.
pub fn inspection_pod(
    name: &str,
    spec: &ConversionSpec,
    snapshot: &str,
    labels: &Map<String, Value>,
    owner: Option<Value>,
) -> TargetObject {
    let mut labels = labels.clone();
    labels.insert(labels::APP.into(), json!(labels::APP_DEEP_INSPECTION));
    labels.insert(labels::CONVERSION.into(), json!(name));
    labels.insert(labels::CONVERSION_TYPE.into(), json!(spec.type_));
    let mut volumes = vec![
        json!({"name": "scratch", "emptyDir": {}}),
        json!({"name": "connection-secret", "secret": {"secretName": spec.connection.secret.name}}),
    ];
    let mut mounts = vec![
        json!({"name": "scratch", "mountPath": super::conversion::SCRATCH}),
        json!({"name": "connection-secret", "mountPath": SECRET_MOUNT, "readOnly": true}),
    ];
    let mut env: Vec<Value> = spec
        .settings
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), SETTING_SNAPSHOT_MOREF | worker::VM_MOREF_ENV))
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    env.push(json!({"name": worker::VM_MOREF_ENV, "value": spec.vm.id}));
    env.push(json!({"name": SETTING_SNAPSHOT_MOREF, "value": snapshot}));
    // the paths are also said, so that a node without mount namespaces can say where they really are
    env.push(json!({"name": worker::SECRET_DIR_ENV, "value": SECRET_MOUNT}));
    env.push(json!({"name": "V2V_workDir", "value": super::conversion::SCRATCH}));
    let mut init_containers = None;
    if !spec.vddk_image.is_empty() {
        let library = vddk::library(&spec.vddk_image);
        volumes.push(library.volume);
        mounts.push(library.mount);
        init_containers = library.init_container.map(|container| json!([container]));
        env.push(json!({"name": worker::VDDK_DIR_ENV, "value": worker::VDDK_MOUNT}));
    }
    match &spec.disk_encryption {
        Some(encryption) if encryption.type_ == DiskEncryptionType::Clevis => {
            env.push(json!({"name": "V2V_NBDE_CLEVIS", "value": "true"}));
        }
        Some(encryption) if encryption.secret.name.as_deref().is_some_and(|name| !name.is_empty()) => {
            volumes.push(json!({"name": "luks", "secret": {"secretName": encryption.secret.name}}));
            mounts.push(json!({"name": "luks", "mountPath": "/etc/luks", "readOnly": true}));
            env.push(json!({"name": "V2V_luksDir", "value": "/etc/luks"}));
        }
        Some(_) | None => {}
    }
    volumes.extend(spec.extra_volumes.iter().map(|v| json!(v)));
    mounts.extend(spec.extra_mounts.iter().map(|m| json!(m)));
    env.push(pod_ip());
    let mut container = json!({
        "name": "deep-inspection", "image": if spec.image.is_empty() { forklift_api::IMAGE } else { &spec.image },
        "imagePullPolicy": "IfNotPresent", "args": ["worker", "inspection"], "env": env,
        "ports": [{"name": "http", "containerPort": worker::PORT}],
        "volumeMounts": mounts, "securityContext": container_security(), "terminationMessagePolicy": "File"
    });
    let settings = &spec.pod_settings;
    let mut selector = json!(settings.node_selector);
    if settings.request_kvm {
        container["resources"] =
            json!({"requests": {"devices.kubevirt.io/kvm": "1"}, "limits": {"devices.kubevirt.io/kvm": "1"}});
        selector["kubevirt.io/schedulable"] = json!("true");
    }
    let mut pod = json!({
        "restartPolicy": "Never", "securityContext": pod_security(), "volumes": volumes, "containers": [container]
    });
    put(&mut pod, "nodeSelector", selector);
    put(&mut pod, "affinity", settings.affinity.as_ref().map_or(Value::Null, |affinity| json!(affinity)));
    put(&mut pod, "serviceAccountName", settings.service_account.clone());
    put(&mut pod, "initContainers", init_containers);
    let mut metadata = json!({"name": name, "namespace": spec.target_namespace, "labels": labels});
    put(&mut metadata, "annotations", json!(settings.transfer_network_annotations));
    if let Some(owner) = owner {
        metadata["ownerReferences"] = json!([owner]);
    }
    TargetObject::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inspection_is_a_valid_object_and_its_pod_has_no_password_in_its_environment() {
        let plan = PlanFacts {
            name: "p".into(),
            namespace: "ns".into(),
            uid: "u".into(),
            target_namespace: "vms".into(),
            vddk_image: Some("registry/vddk:8".into()),
            vddk_config: Some("a=1\n".into()),
            vddk_transports: Some("san:nbdssl".into()),
            ..PlanFacts::default()
        };
        let vm =
            PlanVm { id: "vm-1".into(), name: "web".into(), luks_secret: Some("keys".into()), ..PlanVm::default() };
        let disk = VsphereDisk {
            url: "https://vc/sdk".into(),
            thumbprint: Some("AA:BB".into()),
            instance_uuid: "uuid".into(),
            ..VsphereDisk::default()
        };
        let secret = connection(&plan, &vm, &disk).json;
        assert_eq!(secret["stringData"], json!({"url": "https://vc/sdk", "fingerprint": "AA:BB"}));
        let object = inspection(&plan, &vm, "snapshot-7", &disk);
        let spec: ConversionSpec =
            serde_json::from_value(object.json["spec"].clone()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((spec.type_, spec.target_namespace.as_str()), (ConversionType::DeepInspection, "ns"));
        assert_eq!(spec.connection.secret.name.as_deref(), secret["metadata"]["name"].as_str());
        let pod = inspection_pod("pod", &spec, "snapshot-7", &Map::new(), None).json;
        let container = &pod["spec"]["containers"][0];
        let value = |name: &str| {
            let env = container["env"].as_array().into_iter().flatten();
            env.into_iter().find(|variable| variable["name"] == name).map(|variable| variable["value"].clone())
        };
        assert_eq!(value("VM_MOREF"), Some(json!("vm-1")));
        assert_eq!(value("SNAPSHOT_MOREF"), Some(json!("snapshot-7")));
        assert_eq!(value("INSTANCE_UUID"), Some(json!("uuid")));
        assert!(container.get("envFrom").is_none());
        assert_eq!(pod["spec"]["initContainers"][0]["image"], "registry/vddk:8");
        assert!(container["volumeMounts"].to_string().contains("/etc/luks"));
        assert_eq!(value(TRANSPORTS_ENV), Some(json!("san:nbdssl")));
        // the library finds its configuration where the plan's config map is mounted
        let file = value(CONFIG_ENV).expect("a path");
        let mounts = container["volumeMounts"].as_array().expect("mounts");
        let mount = mounts.iter().find(|mount| mount["name"] == "vddk-conf").expect("it is mounted");
        assert!(file.as_str().is_some_and(|file| file.starts_with(mount["mountPath"].as_str().unwrap_or("?"))));
        let map = vddk::config_map(&plan, &vm, &plan.namespace).expect("a config map");
        let volumes = pod["spec"]["volumes"].as_array().expect("volumes");
        assert!(volumes.iter().any(|volume| volume["configMap"]["name"] == json!(map.name)), "{volumes:#?}");
    }
}
