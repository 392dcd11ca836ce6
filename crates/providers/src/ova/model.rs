//! The inventory's resources of an OVA provider, with upstream's keys and their order.

use forklift_api::rest::ova as rest;
use forklift_inventory::{Count, Draft, Field, KindSpec, PathMatch, ProviderSpec};
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
            namespaced: false,
        },
        KindSpec { name: "networks", base: &BASE, path_match: PathMatch::Root, ..KindSpec::PLAIN },
        KindSpec { name: "disks", base: &BASE, ..KindSpec::PLAIN },
        KindSpec { name: "storages", base: &BASE, path_match: PathMatch::Root, ..KindSpec::PLAIN },
        KindSpec { name: "appliances", base: &APPLIANCE, ..KindSpec::PLAIN },
    ],
    workloads: Some("vms"),
    blanks: &["apiVersion", "product"],
    counts: &[
        Count { key: "vmCount", kind: "vms", plus: 0 },
        Count { key: "networkCount", kind: "networks", plus: 0 },
        Count { key: "diskCount", kind: "disks", plus: 0 },
        Count { key: "storageCount", kind: "storages", plus: 0 },
    ],
};

const BASE: [&str; 4] = ["id", "name", "selfLink", "path"];
const APPLIANCE: [&str; 6] = ["id", "name", "selfLink", "path", "state", "error"];

/// Returns a VM's resource. The VM as the server told it stays with the record.
pub(super) fn vm(uid: &str, vm: &Vm) -> Draft {
    let resource = rest::Vm {
        base: base(uid, "vms", &vm.uuid, &vm.name),
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
        // validation fills in the rest
        revision_validated: 0,
        policy_version: 0,
        concerns: Vec::new(),
    };
    Draft { native: plain(vm), ..draft(&resource.base, &resource) }
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
    Draft {
        id: base.id.clone(),
        name: base.name.clone(),
        path: base.path.clone(),
        json: plain(resource),
        native: Value::Null,
    }
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
    Draft { name: appliance.file.clone(), path: appliance.path.clone(), json, native: Value::Null, id }
}
