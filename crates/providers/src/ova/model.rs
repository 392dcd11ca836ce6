//! The inventory's resources of an OVA provider, with upstream's keys and their order.

use forklift_api::rest::ova as rest;
use forklift_inventory::{Count, Draft, Field, Json, KindSpec, Native, PathMatch, ProviderSpec, Shown, Sink, restore};
use serde::Serialize;
use serde_json::{Value, json};

use super::ids;
use super::wire::{Appliance, Nic, Setting, Vm, VmDisk, VmNetwork};

/// The collections. `appliances` is ours: what the folder holds, usable or not.
pub static SPEC: ProviderSpec = ProviderSpec {
    provider_type: "ova",
    kinds: &[
        KindSpec {
            name: "vms",
            base: &BASE,
            summary: Some(&[
                Field::Of("id"),
                Field::Of("name"),
                Field::Of("selfLink"),
                Field::Of("path"),
                Field::Of("revisionValidated"),
                Field::Null("networks"),
                Field::Of("disks"),
                Field::Of("concerns"),
            ]),
            path_match: PathMatch::Suffix,
            validated: true,
            restore: Some(restore::<Vm>),
            ..KindSpec::PLAIN
        },
        KindSpec { name: "networks", base: &BASE, path_match: PathMatch::Root, ..KEPT },
        KindSpec { name: "disks", base: &BASE, ..KEPT },
        KindSpec { name: "storages", base: &BASE, path_match: PathMatch::Root, ..KEPT },
        KindSpec { name: "appliances", base: &APPLIANCE, ..KEPT },
    ],
    workloads: Some("vms"),
    blanks: &["apiVersion", "product"],
    counts: &[
        Count { key: "vmCount", kind: "vms", plus: 0 },
        Count { key: "networkCount", kind: "networks", plus: 0 },
        Count { key: "diskCount", kind: "disks", plus: 0 },
        Count { key: "storageCount", kind: "storages", plus: 0 },
    ],
    ..ProviderSpec::PLAIN
};

const BASE: [Field; 4] = Field::all(["id", "name", "selfLink", "path"]);
const APPLIANCE: [Field; 6] = Field::all(["id", "name", "selfLink", "path", "state", "error"]);
/// A collection whose records are kept as they are shown.
const KEPT: KindSpec = KindSpec { restore: Some(restore::<Json>), ..KindSpec::PLAIN };

/// Returns a VM's draft: the VM as the server told it.
pub(super) fn vm(vm: &Vm) -> Draft {
    Draft::new(&vm.uuid, &vm.name, &vm.uuid, vm.clone())
}

impl Native for Vm {
    fn show(&self, shown: &Shown<'_>, sink: &mut Sink<'_>) {
        sink.put(&resource(self, shown));
    }
}

fn resource(vm: &Vm, shown: &Shown<'_>) -> rest::Vm {
    let concerns = shown.verdict.concerns.iter();
    rest::Vm {
        base: rest::Base {
            id: shown.id.to_owned(),
            variant: String::new(),
            name: shown.name.to_owned(),
            self_link: shown.self_link.to_string(),
            path: shown.path.to_owned(),
        },
        ovf_path: vm.ovf_path.clone(),
        export_source: vm.export_source.clone(),
        os_type: vm.os_type.clone(),
        uuid: vm.uuid.clone(),
        firmware: vm.firmware.clone(),
        secure_boot: vm.secure_boot,
        cpu_affinity: vm.cpu_affinity.clone(),
        cpu_hot_add_enabled: vm.cpu_hot_add_enabled,
        cpu_hot_remove_enabled: vm.cpu_hot_remove_enabled,
        memory_hot_add_enabled: vm.memory_hot_add_enabled,
        fault_tolerance_enabled: vm.fault_tolerance_enabled,
        cpu_count: vm.cpu_count,
        cores_per_socket: vm.cores_per_socket,
        memory_mb: vm.memory_mb,
        memory_units: vm.memory_units.clone(),
        cpu_units: vm.cpu_units.clone(),
        ballooned_memory: vm.ballooned_memory,
        ip_address: vm.ip_address.clone(),
        numa_node_affinity: vm.numa_node_affinity.clone(),
        storage_used: vm.storage_used,
        change_tracking_enabled: vm.change_tracking_enabled,
        devices: vm.devices.iter().map(|d| rest::Device { kind: d.kind.clone() }).collect(),
        nics: vm.nics.iter().map(nic).collect(),
        disks: vm.disks.iter().map(embedded_disk).collect(),
        networks: vm.networks.iter().map(embedded_network).collect(),
        revision_validated: i64::try_from(shown.verdict.revision).unwrap_or(i64::MAX),
        policy_version: shown.verdict.policy_version,
        concerns: concerns.filter_map(|concern| serde_json::from_value(concern.clone()).ok()).collect(),
    }
}

/// Returns a network's resource.
pub(super) fn network(uid: &str, network: &VmNetwork) -> Draft {
    let base = base(uid, "networks", &network.id, &network.name);
    let resource = rest::Network { base, description: network.description.clone() };
    draft(&resource.base, &resource)
}

/// Returns a disk's resource.
pub(super) fn disk(uid: &str, disk: &VmDisk) -> Draft {
    // upstream shows disks without a path
    let base = rest::Base { path: String::new(), ..base(uid, "disks", &disk.id, &disk.name) };
    let resource = rest::Disk { base, facts: facts(disk) };
    draft(&resource.base, &resource)
}

/// Returns a storage's resource: each disk is its own storage, as upstream shows it.
pub(super) fn storage(uid: &str, disk: &VmDisk) -> Draft {
    let resource: rest::Storage = base(uid, "storages", &disk.id, &disk.name);
    draft(&resource, &resource)
}

fn base(uid: &str, kind: &str, id: &str, name: &str) -> rest::Base {
    rest::Base {
        id: id.to_owned(),
        variant: String::new(),
        name: name.to_owned(),
        self_link: SPEC.resource_link(uid, kind, id),
        path: id.to_owned(),
    }
}

fn draft(base: &rest::Base, resource: &impl Serialize) -> Draft {
    Draft::new(&base.id, &base.name, &base.path, Json(plain(resource)))
}

/// Strings, numbers and lists of them: this does not fail.
fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn nic(nic: &Nic) -> rest::Nic {
    let conf = |s: &Setting| rest::Conf { key: s.key.clone(), value: s.value.clone() };
    rest::Nic {
        name: nic.name.clone(),
        mac: nic.mac.clone(),
        network: nic.network.clone(),
        config: nic.config.iter().map(conf).collect(),
    }
}

fn embedded(id: &str, name: &str) -> rest::EmbeddedBase {
    rest::EmbeddedBase { id: id.to_owned(), variant: String::new(), name: name.to_owned(), revision: 0 }
}

fn embedded_disk(disk: &VmDisk) -> rest::EmbeddedDisk {
    rest::EmbeddedDisk { base: embedded(&disk.id, &disk.name), facts: facts(disk) }
}

fn embedded_network(network: &VmNetwork) -> rest::EmbeddedNetwork {
    rest::EmbeddedNetwork { base: embedded(&network.id, &network.name), description: network.description.clone() }
}

fn facts(disk: &VmDisk) -> rest::DiskFacts {
    rest::DiskFacts {
        file_path: disk.file_path.clone(),
        capacity: disk.capacity,
        capacity_allocation_units: disk.capacity_allocation_units.clone(),
        disk_id: disk.disk_id.clone(),
        file_ref: disk.file_ref.clone(),
        format: disk.format.clone(),
        populated_size: disk.populated_size,
    }
}

/// Returns an appliance's resource.
pub(super) fn appliance(uid: &str, appliance: &Appliance) -> Draft {
    let id = ids::appliance(&appliance.path);
    let mut json = json!({
        "id": id,
        "name": appliance.file,
        "selfLink": SPEC.resource_link(uid, "appliances", &id),
        "path": appliance.path,
    });
    if let (Some(all), Ok(Value::Object(own))) = (json.as_object_mut(), serde_json::to_value(appliance)) {
        all.extend(own);
    }
    Draft::new(&id, &appliance.file, &appliance.path, Json(json))
}
