//! The inventory's resources of an OVA provider, with upstream's keys and their order.

use forklift_inventory::{Count, Draft, Field, KindSpec, PathMatch, ProviderSpec};
use serde_json::{Value, json};

use super::ids;
use super::wire::{Appliance, Vm, VmDisk, VmNetwork};

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
        KindSpec {
            name: "networks",
            base: &BASE,
            path_match: PathMatch::Root,
            ..KindSpec::PLAIN
        },
        KindSpec {
            name: "disks",
            base: &BASE,
            ..KindSpec::PLAIN
        },
        KindSpec {
            name: "storages",
            base: &BASE,
            path_match: PathMatch::Root,
            ..KindSpec::PLAIN
        },
        KindSpec {
            name: "appliances",
            base: &APPLIANCE,
            ..KindSpec::PLAIN
        },
    ],
    workloads: Some("vms"),
    blanks: &["apiVersion", "product"],
    counts: &[
        Count {
            key: "vmCount",
            kind: "vms",
            plus: 0,
        },
        Count {
            key: "networkCount",
            kind: "networks",
            plus: 0,
        },
        Count {
            key: "diskCount",
            kind: "disks",
            plus: 0,
        },
        Count {
            key: "storageCount",
            kind: "storages",
            plus: 0,
        },
    ],
};

const BASE: [&str; 4] = ["id", "name", "selfLink", "path"];
const APPLIANCE: [&str; 6] = ["id", "name", "selfLink", "path", "state", "error"];

/// Returns a VM's resource. The VM as the server told it stays with the record.
pub(super) fn vm(uid: &str, vm: &Vm) -> Draft {
    let json = json!({
        "id": vm.uuid,
        "name": vm.name,
        "selfLink": SPEC.resource_link(uid, "vms", &vm.uuid),
        "path": vm.uuid,
        "concerns": [],
        "ovfPath": vm.ovf_path,
        "exportSource": vm.export_source,
        "osType": vm.os_type,
        "revisionValidated": 0,
        "policyVersion": 0,
        "uuid": vm.uuid,
        "firmware": vm.firmware,
        "secureBoot": vm.secure_boot,
        "cpuAffinity": vm.cpu_affinity,
        "cpuHotAddEnabled": vm.cpu_hot_add_enabled,
        "cpuHotRemoveEnabled": vm.cpu_hot_remove_enabled,
        "memoryHotAddEnabled": vm.memory_hot_add_enabled,
        "faultToleranceEnabled": vm.fault_tolerance_enabled,
        "cpuCount": vm.cpu_count,
        "coresPerSocket": vm.cores_per_socket,
        "memoryMB": vm.memory_mb,
        "memoryUnits": vm.memory_units,
        "cpuUnits": vm.cpu_units,
        "balloonedMemory": vm.ballooned_memory,
        "ipAddress": vm.ip_address,
        "numaNodeAffinity": vm.numa_node_affinity,
        "storageUsed": vm.storage_used,
        "changeTrackingEnabled": vm.change_tracking_enabled,
        "devices": vm.devices.iter().map(|d| json!({"Kind": d.kind})).collect::<Vec<_>>(),
        "nics": vm.nics.iter().map(|n| json!({
            "Name": n.name, "MAC": n.mac, "Network": n.network, "Config": n.config,
        })).collect::<Vec<_>>(),
        "disks": vm.disks.iter().map(embedded_disk).collect::<Vec<_>>(),
        "networks": vm.networks.iter().map(|n| json!({
            "ID": n.id, "Variant": "", "Name": n.name, "Revision": 0, "Description": n.description,
        })).collect::<Vec<_>>(),
    });
    // a record of strings and numbers: this cannot fail, and without it there would be no machine
    let native = serde_json::to_value(vm).unwrap_or_default();
    Draft {
        id: vm.uuid.clone(),
        name: vm.name.clone(),
        path: vm.uuid.clone(),
        json,
        native,
    }
}

fn embedded_disk(disk: &VmDisk) -> Value {
    json!({
        "ID": disk.id,
        "Variant": "",
        "Name": disk.name,
        "Revision": 0,
        "FilePath": disk.file_path,
        "Capacity": disk.capacity,
        "CapacityAllocationUnits": disk.capacity_allocation_units,
        "DiskId": disk.disk_id,
        "FileRef": disk.file_ref,
        "Format": disk.format,
        "PopulatedSize": disk.populated_size,
    })
}

/// Returns a network's resource.
pub(super) fn network(uid: &str, network: &VmNetwork) -> Draft {
    let json = json!({
        "id": network.id,
        "name": network.name,
        "selfLink": SPEC.resource_link(uid, "networks", &network.id),
        "path": network.id,
        "Description": network.description,
    });
    Draft {
        id: network.id.clone(),
        name: network.name.clone(),
        path: network.id.clone(),
        json,
        native: Value::Null,
    }
}

/// Returns a disk's resource.
pub(super) fn disk(uid: &str, disk: &VmDisk) -> Draft {
    let json = json!({
        "id": disk.id,
        "name": disk.name,
        "selfLink": SPEC.resource_link(uid, "disks", &disk.id),
        "FilePath": disk.file_path,
        "Capacity": disk.capacity,
        "CapacityAllocationUnits": disk.capacity_allocation_units,
        "DiskId": disk.disk_id,
        "FileRef": disk.file_ref,
        "Format": disk.format,
        "PopulatedSize": disk.populated_size,
    });
    Draft {
        id: disk.id.clone(),
        name: disk.name.clone(),
        path: disk.id.clone(),
        json,
        native: Value::Null,
    }
}

/// Returns a storage's resource: each disk is its own storage, as upstream shows it.
pub(super) fn storage(uid: &str, disk: &VmDisk) -> Draft {
    let json = json!({
        "id": disk.id,
        "name": disk.name,
        "selfLink": SPEC.resource_link(uid, "storages", &disk.id),
        "path": disk.id,
    });
    Draft {
        id: disk.id.clone(),
        name: disk.name.clone(),
        path: disk.id.clone(),
        json,
        native: Value::Null,
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
    if let (Some(all), Ok(Value::Object(own))) =
        (json.as_object_mut(), serde_json::to_value(appliance))
    {
        all.extend(own);
    }
    Draft {
        name: appliance.file.clone(),
        path: appliance.path.clone(),
        json,
        native: Value::Null,
        id,
    }
}
