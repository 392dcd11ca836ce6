//! What a machine makes: its instance, and the volumes of its templates.

use std::collections::BTreeMap;

use forklift_kubevirt_types::kubevirt::{Interface, Network, VirtualMachineInstanceSpec};
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::super::qemu::Refusal;
use crate::events::short_hash;

/// The annotation with the machine's generation that an instance was made of, as KubeVirt names it.
const GENERATION: &str = "kubevirt.io/vm-generation";
/// The annotation with the fingerprint of the template that an instance was made of.
pub const FINGERPRINT: &str = "node.embedded/template";

fn owner(vm: &VirtualMachine) -> OwnerReference {
    OwnerReference {
        api_version: "kubevirt.io/v1".into(),
        kind: "VirtualMachine".into(),
        name: vm.metadata.name.clone().unwrap_or_default(),
        uid: vm.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The instance of a machine whose instance type is already worked in.
pub fn instance(vm: &VirtualMachine, mut spec: VirtualMachineInstanceSpec, paused: bool) -> VirtualMachineInstance {
    defaults(&mut spec);
    if paused {
        spec.start_strategy = Some("Paused".into());
    }
    let template = vm.spec.template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(GENERATION.into(), vm.metadata.generation.unwrap_or(0).to_string());
    annotations.insert(FINGERPRINT.into(), fingerprint(vm));
    for (field, kind) in [("instancetype", &vm.spec.instancetype), ("preference", &vm.spec.preference)] {
        if let Some(matcher) = kind {
            let namespaced = matcher.kind.as_deref().is_some_and(|kind| !kind.to_lowercase().contains("cluster"));
            let key = if namespaced { field.to_owned() } else { format!("cluster-{field}") };
            annotations.insert(format!("kubevirt.io/{key}-name"), matcher.name.clone());
        }
    }
    let name = vm.metadata.name.clone().unwrap_or_default();
    let mut instance = VirtualMachineInstance::new(vm.metadata.namespace.as_deref(), &name, spec);
    instance.metadata = ObjectMeta {
        labels: template.labels,
        annotations: Some(annotations),
        owner_references: Some(vec![owner(vm)]),
        finalizers: Some(vec![super::super::vmi::FINALIZER.into()]),
        ..instance.metadata
    };
    instance
}

/// What KubeVirt fills in: an interface on the pod network when none is named, networks by name.
pub fn defaults(spec: &mut VirtualMachineInstanceSpec) {
    let devices = &mut spec.domain.devices;
    if devices.interfaces.is_empty() && spec.networks.is_empty() && devices.autoattach_pod_interface != Some(false) {
        devices.interfaces.push(Interface {
            name: "default".into(),
            masquerade: Some(Default::default()),
            ..Interface::default()
        });
        spec.networks.push(Network { name: "default".into(), pod: Some(Default::default()), ..Network::default() });
    }
    for disk in &mut devices.disks {
        if disk.disk.is_none() && disk.lun.is_none() && disk.cdrom.is_none() {
            disk.disk = Some(Default::default());
        }
    }
    // a volume without a disk is a disk, as KubeVirt's webhook has it
    for volume in &spec.volumes {
        let shown = devices.disks.iter().any(|disk| disk.name == volume.name)
            || devices.filesystems.iter().any(|filesystem| filesystem.name == volume.name);
        if !shown {
            devices.disks.push(forklift_kubevirt_types::kubevirt::Disk {
                name: volume.name.clone(),
                disk: Some(Default::default()),
                ..Default::default()
            });
        }
    }
}

/// A word that changes when a change of the machine needs a restart. Volumes that can be plugged do not.
pub fn fingerprint(vm: &VirtualMachine) -> String {
    let mut spec = vm.spec.template.spec.clone();
    let hot: Vec<String> = spec
        .volumes
        .iter()
        .filter(|volume| super::super::hotplug::is_hot(volume))
        .map(|volume| volume.name.clone())
        .collect();
    spec.volumes.retain(|volume| !hot.contains(&volume.name));
    spec.domain.devices.disks.retain(|disk| !hot.contains(&disk.name));
    let text = json!([spec, vm.spec.instancetype, vm.spec.preference]).to_string();
    short_hash(&text)
}

/// Makes the claims of blank data volumes; there is nobody here who fills others.
pub async fn data_volumes(client: &Client, vm: &VirtualMachine) -> kube::Result<Result<(), Refusal>> {
    let claims: Api<PersistentVolumeClaim> =
        Api::namespaced(client.clone(), vm.metadata.namespace.as_deref().unwrap_or_default());
    for template in &vm.spec.data_volume_templates {
        let name = template.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        if claims.get_opt(name).await?.is_some() {
            continue;
        }
        let claim = match claim(vm, name, template) {
            Ok(claim) => claim,
            Err(message) => return Ok(Err(Refusal { reason: "FailedDataVolumeCreate", message })),
        };
        match claims.create(&PostParams::default(), &claim).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            other => {
                other?;
            }
        }
    }
    Ok(Ok(()))
}

fn claim(vm: &VirtualMachine, name: &str, template: &Value) -> Result<PersistentVolumeClaim, String> {
    let source: BTreeMap<String, Value> = template
        .pointer("/spec/source")
        .and_then(|source| serde_json::from_value(source.clone()).ok())
        .unwrap_or_default();
    if !source.contains_key("blank") {
        let kinds: Vec<&str> = source.keys().map(String::as_str).collect();
        let kinds = if kinds.is_empty() { "sourceRef".to_owned() } else { kinds.join(", ") };
        return Err(format!(
            "data volume {name} has the source {kinds}: the embedded node makes blank ones only; fill a persistentVolumeClaim of that name"
        ));
    }
    let asked =
        template.pointer("/spec/storage").or_else(|| template.pointer("/spec/pvc")).cloned().unwrap_or_default();
    let mut spec = asked;
    if spec.get("accessModes").is_none_or(|modes| modes.as_array().is_none_or(Vec::is_empty)) {
        spec["accessModes"] = json!(["ReadWriteOnce"]);
    }
    let metadata = json!({"name": name, "labels": template.pointer("/metadata/labels"), "ownerReferences": [owner(vm)],
                          "annotations": template.pointer("/metadata/annotations")});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec}))
        .map_err(|error| format!("data volume {name} makes no claim: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> VirtualMachine {
        serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "n", "uid": "u", "generation": 4},
            "spec": {"template": {"spec": {"domain": {"devices": {"disks": [{"name": "root"}]}},
                "volumes": [{"name": "root", "dataVolume": {"name": "root"}}, {"name": "more", "emptyDisk": {"capacity": "1Mi"}}]}}},
        }))
        .expect("a machine")
    }

    #[test]
    fn an_instance_gets_what_kubevirt_fills_in() {
        let vm = machine();
        let made = instance(&vm, vm.spec.template.spec.clone(), true);
        assert_eq!(made.spec.domain.devices.interfaces[0].name, "default");
        assert!(made.spec.networks[0].pod.is_some());
        let disks: Vec<&str> = made.spec.domain.devices.disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(disks, ["root", "more"]);
        assert_eq!(made.spec.start_strategy.as_deref(), Some("Paused"));
        assert_eq!(made.metadata.annotations.expect("some")[GENERATION], "4");
    }

    #[test]
    fn plugging_a_volume_needs_no_restart() {
        let mut vm = machine();
        let before = fingerprint(&vm);
        let volume = json!({"name": "p", "persistentVolumeClaim": {"claimName": "p", "hotpluggable": true}});
        vm.spec.template.spec.volumes.push(serde_json::from_value(volume).expect("a volume"));
        vm.spec.template.spec.domain.devices.disks.push(serde_json::from_value(json!({"name": "p"})).expect("a disk"));
        assert_eq!(fingerprint(&vm), before);
        vm.spec.template.spec.hostname = Some("other".into());
        assert_ne!(fingerprint(&vm), before);
    }

    #[test]
    fn blank_data_volumes_become_claims() {
        let vm = machine();
        let blank = json!({"metadata": {"name": "d"}, "spec": {"source": {"blank": {}}, "storage": {"resources": {"requests": {"storage": "1Gi"}}}}});
        let made = claim(&vm, "d", &blank).expect("a claim");
        assert_eq!(made.spec.and_then(|spec| spec.access_modes), Some(vec!["ReadWriteOnce".to_owned()]));
        let error = claim(&vm, "d", &json!({"spec": {"source": {"http": {"url": "x"}}}})).expect_err("refused");
        assert!(error.contains("has the source http"), "{error}");
    }
}
