//! The conversion of a guest: the Conversion object of a VM, and the pod that a Conversion is carried out by.
use forklift_api::conversion::{ConversionSpec, ConversionType, DiskEncryptionType};
use forklift_api::{labels, worker};
use serde_json::{Map, Value, json};

use super::{container_security, pod_ip, pod_security, put, vm_labels};
use crate::machine::{GuestAddress, Machine, OsFamily};
use crate::names::{self, Kind};
use crate::plan::effect::TargetObject;
use crate::plan::world::{PlanFacts, PlanVm};

/// Where the conversion keeps its overlays.
pub const SCRATCH: &str = "/var/tmp/v2v";

/// A copied disk that takes part in the conversion.
#[derive(Clone, Copy, Debug)]
pub struct CopiedDisk<'a> {
    /// Its claim.
    pub claim: &'a str,
    /// `Filesystem` or `Block`.
    pub volume_mode: &'a str,
}

/// Returns the name of a VM's Conversion.
pub fn name(plan: &PlanFacts, vm: &PlanVm) -> String {
    names::derived(plan, vm, Kind::Conversion, 0)
}

/// Builds the Conversion of a VM whose disks are copied: in place, in the plan's namespace.
pub fn conversion(
    plan: &PlanFacts,
    vm: &PlanVm,
    machine: &Machine,
    disks: &[CopiedDisk<'_>],
    target: &str,
) -> TargetObject {
    let disks: Vec<_> = disks
        .iter()
        .enumerate()
        .map(|(i, disk)| {
            let mut entry =
                json!({"name": disk.claim, "namespace": plan.target_namespace, "volumeMode": disk.volume_mode});
            if disk.volume_mode == "Block" {
                entry["devicePath"] = json!(format!("/dev/block{i}"));
            } else {
                entry["mountPath"] = json!(format!("/mnt/disks/disk{i}"));
            }
            entry
        })
        .collect();
    let options = &plan.options;
    let mut pod = json!({"requestKVM": options.request_kvm});
    put(&mut pod, "nodeSelector", json!(options.convertor_node_selector));
    put(&mut pod, "affinity", options.convertor_affinity.clone().unwrap_or_default());
    put(&mut pod, "serviceAccount", options.service_account.clone());
    let mut spec = json!({
        "type": "InPlace",
        "destination": {"name": plan.destination.name, "namespace": plan.destination.namespace},
        "vm": {"id": vm.id, "name": vm.name},
        "disks": disks,
        "connection": {"secret": {"name": plan.provider.secret_name, "namespace": plan.provider.secret_namespace}},
        "image": plan.image, "targetNamespace": plan.target_namespace, "localMigration": true,
        "xfsCompatibility": options.xfs_compatibility,
        "settings": settings(plan, vm, machine, target),
        "podSettings": pod
    });
    if vm.nbde_clevis {
        spec["diskEncryption"] = json!({"type": "Clevis"});
    } else if let Some(secret) = &vm.luks_secret {
        let keys = keys(plan, vm).map_or_else(|| secret.clone(), |copy| copy.to.name);
        spec["diskEncryption"] = json!({"type": "LUKS", "secret": {"name": keys, "namespace": plan.target_namespace}});
    }
    let (volumes, mounts) = extras(plan, vm);
    put(&mut spec, "extraVolumes", volumes);
    put(&mut spec, "extraMounts", mounts);
    let mut labels = vm_labels(plan, vm);
    for (key, value) in &options.convertor_labels {
        labels.entry(key.clone()).or_insert_with(|| json!(value));
    }
    TargetObject::new(json!({
        "apiVersion": format!("{}/{}", forklift_api::GROUP, forklift_api::VERSION), "kind": "Conversion",
        "metadata": {"name": name(plan, vm), "namespace": plan.namespace, "labels": labels},
        "spec": spec
    }))
}

/// Something of the plan's namespace that a conversion's pod needs beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Copied {
    /// Namespace of the one that is copied.
    pub namespace: String,
    /// Name of the one that is copied.
    pub name: String,
    /// The copy, without data.
    pub to: TargetObject,
}

/// Returns the copy of the keys of a VM's encrypted disks; `None` where there are none, or they are in place.
pub fn keys(plan: &PlanFacts, vm: &PlanVm) -> Option<Copied> {
    let secret = vm.luks_secret.as_ref().filter(|_| !vm.nbde_clevis)?;
    copied(plan, vm, ("Secret", Kind::Keys), &plan.namespace, secret)
}

/// Returns the copy of the user's scripts; `None` where there are none, or they are in place.
pub fn scripts(plan: &PlanFacts, vm: &PlanVm) -> Option<Copied> {
    let options = &plan.options;
    let namespace = Some(&options.customization_namespace).filter(|n| !n.is_empty()).unwrap_or(&plan.namespace);
    copied(plan, vm, ("ConfigMap", Kind::Scripts), namespace, options.customization_scripts.as_ref()?)
}

fn copied(plan: &PlanFacts, vm: &PlanVm, (kind, word): (&str, Kind), namespace: &str, name: &str) -> Option<Copied> {
    if namespace == plan.target_namespace {
        return None;
    }
    let metadata = json!({"name": names::derived(plan, vm, word, 0), "namespace": plan.target_namespace,
        "labels": vm_labels(plan, vm)});
    let to = TargetObject::new(json!({"apiVersion": "v1", "kind": kind, "metadata": metadata}));
    Some(Copied { namespace: namespace.to_owned(), name: name.to_owned(), to })
}

/// The variables of the conversion: upstream's, and the MAC addresses, by which static addresses are told apart.
fn settings(plan: &PlanFacts, vm: &PlanVm, machine: &Machine, target: &str) -> Map<String, Value> {
    let mut map = Map::new();
    let mut set = |key: &str, value: String| {
        if !value.is_empty() {
            map.insert(key.to_owned(), json!(value));
        }
    };
    set("V2V_vmName", vm.name.clone());
    if target != vm.name {
        set("V2V_NewName", target.to_owned());
    }
    set("V2V_source", plan.source_word.clone());
    set("V2V_inPlace", "1".into());
    set("V2V_RootDisk", vm.root_disk.clone().unwrap_or_default());
    set("V2V_HOSTNAME", machine.guest.host_name.clone());
    set(
        "V2V_firmware",
        match machine.firmware.kind {
            crate::machine::FirmwareKind::Bios => "bios".into(),
            crate::machine::FirmwareKind::Uefi => "uefi".into(),
        },
    );
    // a card without an address keeps its place: the order also tells which card is which
    let macs: Vec<_> = machine.nics.iter().map(|nic| if nic.mac.is_empty() { "-" } else { nic.mac.as_str() }).collect();
    set("V2V_macAddresses", macs.join("_"));
    if plan.options.conversion_temp_storage_class.is_some() && plan.options.conversion_temp_storage_size.is_some() {
        set("TMPDIR", "/var/tmp/virt-v2v".into());
    }
    if vm.nbde_clevis {
        set("V2V_NBDE_CLEVIS", "true".into());
    }
    if plan.options.preserve_static_ips && plan.source.static_ips {
        set("V2V_preserveStaticIPs", "true".into());
        set("V2V_staticIPs", static_ips(machine));
    }
    set("LOCAL_MIGRATION", "true".into());
    map
}

/// Returns the addresses to keep as virt-v2v's `--mac` takes them: all IPv4 entries, then all IPv6 ones.
pub fn static_ips(machine: &Machine) -> String {
    let windows = machine.guest.family == OsFamily::Windows;
    let keep = |address: &GuestAddress| {
        let local = address.ip.starts_with("169.254.") || address.ip.to_ascii_lowercase().starts_with("fe80:");
        !local && if windows { address.origin == "manual" } else { true }
    };
    let mut entries = Vec::new();
    for v6 in [false, true] {
        for nic in &machine.nics {
            for address in nic.addresses.iter().filter(|a| a.ip.contains(':') == v6 && keep(a)) {
                let mut entry = format!("{}:ip:{},{},{}", nic.mac, address.ip, address.gateway, address.prefix);
                for server in address.dns.iter().filter(|s| s.contains(':') == v6) {
                    entry.push(',');
                    entry.push_str(server);
                }
                entries.push(entry);
            }
        }
    }
    entries.join("_")
}

fn extras(plan: &PlanFacts, vm: &PlanVm) -> (Vec<Value>, Vec<Value>) {
    let mut volumes = Vec::new();
    let mut mounts = Vec::new();
    if let (Some(class), Some(size)) =
        (&plan.options.conversion_temp_storage_class, &plan.options.conversion_temp_storage_size)
    {
        volumes.push(json!({"name": "conversion-temp-storage", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": size}}}}}}));
        mounts.push(json!({"name": "conversion-temp-storage", "mountPath": "/var/tmp/virt-v2v"}));
    }
    if let Some(own) = &plan.options.customization_scripts {
        let scripts = scripts(plan, vm).map_or_else(|| own.clone(), |copy| copy.to.name);
        volumes.push(json!({"name": "dynamic-scripts", "configMap": {"name": scripts}}));
        mounts.push(json!({"name": "dynamic-scripts", "mountPath": "/mnt/dynamic_scripts", "readOnly": true}));
    }
    (volumes, mounts)
}

/// Builds the pod of a Conversion. `labels` are the Conversion's; `owner` ties the pod to it where both are in one
/// namespace.
pub fn conversion_pod(
    name: &str,
    spec: &ConversionSpec,
    labels: &Map<String, Value>,
    owner: Option<Value>,
) -> TargetObject {
    let mut labels = labels.clone();
    labels.insert(labels::APP.into(), json!(labels::APP_VIRT_V2V));
    labels.insert(labels::CONVERSION.into(), json!(name));
    labels.insert(labels::CONVERSION_TYPE.into(), json!(spec.type_));
    let mut volumes = vec![json!({"name": "scratch", "emptyDir": {}})];
    let mut mounts = vec![json!({"name": "scratch", "mountPath": SCRATCH})];
    let mut devices: Vec<Value> = Vec::new();
    let mut paths: Vec<String> = Vec::new();
    for (i, disk) in spec.disks.iter().enumerate() {
        let volume = format!("disk{i}");
        volumes.push(json!({"name": volume, "persistentVolumeClaim": {"claimName": disk.name}}));
        if !disk.device_path.is_empty() {
            devices.push(json!({"name": volume, "devicePath": disk.device_path}));
            paths.push(disk.device_path.clone());
        } else {
            let path = if disk.mount_path.is_empty() { format!("/mnt/disks/disk{i}") } else { disk.mount_path.clone() };
            paths.push(format!("{path}/disk.img"));
            mounts.push(json!({"name": volume, "mountPath": path}));
        }
    }
    if let Some(encryption) = &spec.disk_encryption
        && encryption.type_ == DiskEncryptionType::Luks
        && let Some(secret) = encryption.secret.name.as_deref().filter(|n| !n.is_empty())
    {
        volumes.push(json!({"name": "luks", "secret": {"secretName": secret}}));
        mounts.push(json!({"name": "luks", "mountPath": "/etc/luks", "readOnly": true}));
    }
    volumes.extend(spec.extra_volumes.iter().map(|v| json!(v)));
    mounts.extend(spec.extra_mounts.iter().map(|m| json!(m)));
    let mut env: Vec<Value> = spec.settings.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    if spec.type_ == ConversionType::InPlace && !spec.settings.contains_key("V2V_inPlace") {
        env.push(json!({"name": "V2V_inPlace", "value": "1"}));
    }
    // the paths are also said, so that a node without mount namespaces can say where they really are
    env.push(json!({"name": "V2V_disks", "value": paths.join(",")}));
    for (variable, path) in
        [("V2V_workDir", SCRATCH), ("V2V_luksDir", "/etc/luks"), ("V2V_dynamicScriptsDir", "/mnt/dynamic_scripts")]
    {
        let elsewhere = path == SCRATCH && spec.settings.contains_key("TMPDIR");
        if !elsewhere && mounts.iter().any(|mount| mount["mountPath"] == path) {
            env.push(json!({"name": variable, "value": path}));
        }
    }
    env.push(pod_ip());
    let mut container = json!({
        "name": "virt-v2v", "image": if spec.image.is_empty() { forklift_api::IMAGE } else { &spec.image },
        "imagePullPolicy": "IfNotPresent", "args": ["worker", "conversion"], "env": env,
        "ports": [{"name": "metrics", "containerPort": 2112}, {"name": "http", "containerPort": worker::PORT}],
        "volumeMounts": mounts, "securityContext": container_security()
    });
    put(&mut container, "volumeDevices", devices);
    let settings = &spec.pod_settings;
    let mut pod = json!({
        "restartPolicy": "Never", "securityContext": pod_security(), "volumes": volumes,
        "affinity": settings.affinity.as_ref().map_or_else(apart, |a| json!(a))
    });
    let mut selector = json!(settings.node_selector);
    if settings.request_kvm {
        container["resources"] =
            json!({"requests": {"devices.kubevirt.io/kvm": "1"}, "limits": {"devices.kubevirt.io/kvm": "1"}});
        selector["kubevirt.io/schedulable"] = json!("true");
    }
    put(&mut pod, "nodeSelector", selector);
    put(&mut pod, "serviceAccountName", settings.service_account.clone());
    pod["containers"] = json!([container]);
    let mut metadata = json!({"name": name, "namespace": spec.target_namespace, "labels": labels});
    put(&mut metadata, "annotations", json!(settings.transfer_network_annotations));
    if let Some(owner) = owner {
        metadata["ownerReferences"] = json!([owner]);
    }
    TargetObject::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}))
}

/// Conversions are kept on different nodes where that is possible.
fn apart() -> Value {
    json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": {
        "labelSelector": {"matchLabels": {labels::APP: labels::APP_VIRT_V2V}}, "namespaceSelector": {},
        "topologyKey": "kubernetes.io/hostname"}}]}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Nic;

    #[test]
    fn static_addresses_are_ipv4_first() {
        let address = |ip: &str, prefix, gateway: &str, dns: &[&str]| GuestAddress {
            ip: ip.into(),
            prefix,
            origin: "manual".into(),
            gateway: gateway.into(),
            dns: dns.iter().map(|d| (*d).to_owned()).collect(),
        };
        let nic = Nic {
            mac: "00:50:56:83:25:47".into(),
            addresses: vec![
                address("2001:db8::97", 64, "2001:db8::1", &["2001:db8:1::1"]),
                address("172.29.3.193", 16, "172.29.3.1", &["8.8.8.8"]),
                address("fe80::1", 64, "", &[]),
            ],
            ..Nic::default()
        };
        let mut machine = Machine { nics: vec![nic], ..Machine::default() };
        machine.guest.family = OsFamily::Windows;
        assert_eq!(
            static_ips(&machine),
            "00:50:56:83:25:47:ip:172.29.3.193,172.29.3.1,16,8.8.8.8_00:50:56:83:25:47:ip:2001:db8::97,2001:db8::1,64,2001:db8:1::1"
        );
        machine.nics[0].addresses[1].origin = "dhcp".into();
        machine.nics[0].addresses[0].origin = "dhcp".into();
        assert_eq!(static_ips(&machine), "");
    }

    #[test]
    fn keys_and_scripts_are_copied_to_the_pods_namespace() {
        let mut plan =
            PlanFacts { namespace: "ns".into(), uid: "u".into(), target_namespace: "t".into(), ..PlanFacts::default() };
        plan.options.customization_scripts = Some("mine".into());
        plan.options.customization_namespace = "shared".into();
        let mut vm = PlanVm { id: "vm-1".into(), luks_secret: Some("keys".into()), ..PlanVm::default() };
        let (luks, own) = (keys(&plan, &vm).expect("a copy"), scripts(&plan, &vm).expect("a copy"));
        assert_eq!((luks.namespace.as_str(), luks.name.as_str(), luks.to.kind.as_str()), ("ns", "keys", "Secret"));
        assert_eq!((own.namespace.as_str(), own.name.as_str(), own.to.kind.as_str()), ("shared", "mine", "ConfigMap"));
        assert_eq!((luks.to.namespace.as_deref(), own.to.label(labels::VM_ID)), (Some("t"), Some("vm-1")));
        let spec = conversion(&plan, &vm, &Machine::default(), &[], "web").json["spec"].clone();
        assert_eq!(spec["diskEncryption"]["secret"], json!({"name": luks.to.name, "namespace": "t"}));
        assert_eq!(spec["extraVolumes"][0]["configMap"]["name"], own.to.name.as_str());
        // where they are in place they are used as they are
        plan.target_namespace = "ns".into();
        plan.options.customization_namespace = String::new();
        let spec = conversion(&plan, &vm, &Machine::default(), &[], "web").json["spec"].clone();
        assert_eq!((keys(&plan, &vm), scripts(&plan, &vm)), (None, None));
        assert_eq!(spec["diskEncryption"]["secret"], json!({"name": "keys", "namespace": "ns"}));
        assert_eq!(spec["extraVolumes"][0]["configMap"]["name"], "mine");
        plan.target_namespace = "t".into();
        vm.nbde_clevis = true;
        assert_eq!(keys(&plan, &vm), None);
    }

    #[test]
    fn the_conversion_is_a_valid_object_and_its_pod_has_its_disks() {
        let plan = PlanFacts {
            name: "p".into(),
            namespace: "ns".into(),
            uid: "u".into(),
            target_namespace: "t".into(),
            source_word: "ova".into(),
            ..PlanFacts::default()
        };
        let vm =
            PlanVm { id: "vm-1".into(), name: "Web_1".into(), luks_secret: Some("keys".into()), ..PlanVm::default() };
        let disks =
            [CopiedDisk { claim: "a", volume_mode: "Filesystem" }, CopiedDisk { claim: "b", volume_mode: "Block" }];
        let object = conversion(&plan, &vm, &Machine::default(), &disks, "web-1");
        let spec: ConversionSpec =
            serde_json::from_value(object.json["spec"].clone()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((spec.settings["V2V_NewName"].as_str(), spec.settings["V2V_source"].as_str()), ("web-1", "ova"));
        let pod = conversion_pod(&object.name, &spec, &Map::new(), None).json;
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["volumeMounts"][1], json!({"name": "disk0", "mountPath": "/mnt/disks/disk0"}));
        assert_eq!(container["volumeDevices"][0], json!({"name": "disk1", "devicePath": "/dev/block1"}));
        assert_eq!(container["args"], json!(["worker", "conversion"]));
        assert!(container["volumeMounts"].to_string().contains("/etc/luks"));
    }
}
