//! An appliance's VM as a [`Machine`].

use forklift_core::machine::{
    Concern, Cpu, Disk, DiskBus, Firmware, FirmwareKind, GuestOs, Machine, MachineTraits, Nic, OsFamily, PowerState,
    ResourceRef,
};
use forklift_inventory::Record;

use super::ids;
use super::wire::{Vm, VmDisk};

/// Translates a record; `None` when it is not a VM's.
pub(super) fn machine(record: &Record) -> Option<Machine> {
    let vm: &Vm = record.native()?;
    let concerns = record.verdict.concerns.iter();
    let concerns: Vec<Concern> = concerns.filter_map(|c| serde_json::from_value(c.clone()).ok()).collect();
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    Some(Machine {
        id: vm.uuid.clone(),
        name: vm.name.clone(),
        uuid: vm.uuid.clone(),
        cpu: Cpu::from_count(count(vm.cpu_count), count(vm.cores_per_socket)),
        memory: vm.memory_bytes,
        firmware: Firmware { kind: FirmwareKind::parse(&vm.firmware).unwrap_or_default(), secure_boot: vm.secure_boot },
        guest: GuestOs {
            id: vm.os_type.clone(),
            name: vm.os_type.clone(),
            family: family(&vm.os_type),
            ..GuestOs::default()
        },
        disks: vm.disks.iter().enumerate().map(|(i, d)| disk(d, i == 0)).collect(),
        nics: vm
            .nics
            .iter()
            .map(|n| Nic {
                name: n.name.clone(),
                mac: n.mac.clone(),
                network: ResourceRef::new(ids::network(&n.network), &n.network),
                ..Nic::default()
            })
            .collect(),
        // a file has no power: nothing runs from it that we could stop
        power: PowerState::Unknown,
        traits: MachineTraits {
            tpm: vm.tpm_enabled.then_some(true),
            path: vm.ovf_path.clone(),
            unsupported_export: vm.export_source != "VMware",
            ..MachineTraits::default()
        },
        concerns,
        ..Machine::default()
    })
}

/// What users see as the disk's name in tasks, and the `disk-source` annotation.
pub(super) fn key(disk: &VmDisk) -> String {
    format!("{}::{}", disk.file_path, disk.name)
}

fn disk(disk: &VmDisk, first: bool) -> Disk {
    Disk {
        key: key(disk),
        name: disk.name.clone(),
        capacity: disk.capacity_bytes,
        bus: match disk.bus.as_deref() {
            Some("sata") => DiskBus::Sata,
            Some("ide") => DiskBus::Ide,
            Some("nvme") => DiskBus::Nvme,
            Some("virtio") => DiskBus::Virtio,
            _ => DiskBus::Scsi,
        },
        storage: ResourceRef::new(&disk.id, &disk.name),
        bootable: first,
        ..Disk::default()
    }
}

/// Tells the family by the words that exporters use; `darwin` holds `win` and is none.
fn family(os: &str) -> OsFamily {
    let os = os.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| os.contains(w));
    if has(&["darwin", "macos", "bsd", "solaris"]) {
        OsFamily::Other
    } else if os.contains("win") {
        OsFamily::Windows
    } else if has(&[
        "linux", "rhel", "centos", "fedora", "debian", "ubuntu", "suse", "sles", "oracle", "rocky", "alma", "photon",
        "gentoo", "arch",
    ]) {
        OsFamily::Linux
    } else {
        OsFamily::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ova::catalog::Catalog;
    use crate::ova::model;
    use crate::ova::samples::{Sample, old, ova};
    use expect_test::expect;

    #[test]
    fn a_vm_of_an_appliance_as_a_machine() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("web.ova");
        std::fs::write(&path, ova(&Sample::default())).expect("writable");
        old(&path);
        let mut catalog = Catalog::new(folder.path(), std::time::Duration::ZERO);
        let vm = catalog.scan().expect("readable").vms[0].clone();
        let record = Record::new(model::vm(&vm), 1);
        let machine = machine(&record).expect("a VM's record");
        let text = serde_json::to_string_pretty(&machine).expect("plain data");
        let place = folder.path().display().to_string();
        expect![[r#"
            {
              "id": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
              "name": "web",
              "uuid": "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d",
              "instanceUuid": "",
              "cpu": {
                "sockets": 1,
                "cores": 2,
                "threads": 0,
                "model": null,
                "dedicated": false,
                "nested": null
              },
              "memory": 1073741824,
              "firmware": {
                "kind": "uefi",
                "secureBoot": false
              },
              "guest": {
                "id": "debian12_64Guest",
                "name": "debian12_64Guest",
                "hostName": "",
                "family": "linux"
              },
              "disks": [
                {
                  "key": "/ova/web.ova::disk1.vmdk",
                  "name": "disk1.vmdk",
                  "capacity": 1073741824,
                  "bus": "scsi",
                  "storage": {
                    "id": "66e74111dac16ed0ddee1cad6d55771bfcdf",
                    "name": "disk1.vmdk",
                    "type": "",
                    "namespace": ""
                  },
                  "driveLetter": "",
                  "serial": "",
                  "bootable": true,
                  "shared": false,
                  "users": [],
                  "rdm": false,
                  "independent": false,
                  "encrypted": false,
                  "unsupported": "",
                  "changedBlocks": false
                }
              ],
              "nics": [
                {
                  "name": "Network adapter 1",
                  "mac": "00:50:56:01:02:03",
                  "network": {
                    "id": "ae1badc8c693926f492a01e2f357d6af321b",
                    "name": "VM Network",
                    "type": "",
                    "namespace": ""
                  },
                  "pciAddress": null,
                  "disconnected": false,
                  "addresses": []
                }
              ],
              "power": "Unknown",
              "host": "",
              "traits": {
                "template": false,
                "disconnected": false,
                "connection": "",
                "tools": "notApplicable",
                "hostState": "ready",
                "encrypted": false,
                "tpm": null,
                "timezone": null,
                "changeTracking": false,
                "snapshots": 0,
                "migrationSnapshots": [],
                "consolidationNeeded": false,
                "path": "/ova/web.ova",
                "unsupportedExport": false
              },
              "concerns": [],
              "leftOut": [],
              "tags": [],
              "attributes": []
            }"#]]
        .assert_eq(&text.replace(&place, "/ova"));
    }

    #[test]
    fn families_by_the_exporters_words() {
        for (os, expected) in [
            ("rhel8_64Guest", OsFamily::Linux),
            ("windows2019srv_64Guest", OsFamily::Windows),
            ("Windows11_64", OsFamily::Windows),
            ("darwin21_64Guest", OsFamily::Other),
            ("Debian_64", OsFamily::Linux),
            ("otherGuest", OsFamily::Unknown),
        ] {
            assert_eq!(family(os), expected, "{os}");
        }
    }
}
