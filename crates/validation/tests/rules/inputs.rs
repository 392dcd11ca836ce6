//! The documents that the inventory hands to the rules, by provider: the fields that rules read, with values on both
//! sides of every condition, and some that no rule reads.

use crate::shape::{Shape, fields, flag, list, number, text};

/// Rule packages whose documents can be made.
pub const PACKAGES: &[&str] = &["vmware", "ovirt", "openstack", "openshift", "ova", "hyperv"];

/// Returns the shape of a package's input.
pub fn of(package: &str) -> Shape {
    match package {
        "vmware" => vmware(),
        "ovirt" => ovirt(),
        "openstack" => openstack(),
        "openshift" => openshift(),
        "ova" => ova(),
        "hyperv" => hyperv(),
        other => panic!("no inputs for package {other}"),
    }
}

const MIB: i64 = 1 << 20;
const LONGEST: &str = "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-123";
const TOO_LONG: &str = "a23456789-b23456789-c23456789-d23456789-e23456789-f23456789-1234";

fn name() -> Shape {
    text(&["test", "web-01.example.com", "Mixed", "my_vm", "-vm", "vm-", "two words", "näme", "", LONGEST, TOO_LONG])
}

fn reference(kind: &'static str) -> Shape {
    fields(vec![("kind", text(&[kind])), ("id", text(&["id-1", "id-2", ""]))])
}

fn capacity() -> Shape {
    number(&[-1, 0, 1, 512, 17_179_869_184, i64::MAX])
}

fn vmware() -> Shape {
    fields(vec![
        ("selfLink", text(&["providers/vsphere/uid/workloads/vm-1"])),
        ("id", text(&["vm-1", "vm-2"])),
        ("name", name()),
        ("powerState", text(&["poweredOn", "poweredOff"])),
        ("snapshot", reference("VirtualMachineSnapshot")),
        ("changeTrackingEnabled", flag()),
        ("consolidationNeeded", flag()),
        ("cpuAffinity", list(number(&[0, 2]))),
        ("cpuHotAddEnabled", flag()),
        ("cpuHotRemoveEnabled", flag()),
        ("memoryHotAddEnabled", flag()),
        ("faultToleranceEnabled", flag()),
        ("hostName", text(&["", "localhost.localdomain", "web-01"])),
        ("guestId", guest_id()),
        ("guestName", guest_name()),
        ("guestNameFromVmwareTools", guest_name()),
        ("tpmEnabled", flag()),
        ("numaNodeAffinity", list(text(&["0", "1"]))),
        ("diskEnableUuid", flag()),
        ("devices", list(fields(vec![("kind", device()), ("key", number(&[7000]))]))),
        ("guestNetworks", list(fields(vec![("ip", text(&["10.0.0.5"])), ("mac", text(&["00:50:56:00:00:01"]))]))),
        ("guestDisks", list(guest_disk())),
        ("disks", list(vmware_disk())),
        ("host", vmware_host()),
        ("concerns", list(fields(vec![("id", text(&["vmware.old"]))]))),
    ])
}

fn guest_id() -> Shape {
    text(&[
        "rhel7Guest",
        "rhel7_64Guest",
        "rhel9_64Guest",
        "rhel10_64Guest",
        "rhel6_64Guest",
        "xrhel8guestx",
        "windows10_64Guest",
        "windows11_64Guest",
        "windows2019srv_64Guest",
        "windows2022srvNext_64Guest",
        "windows9Server64Guest",
        "WINDOWS2025SRV_64GUEST",
        "debian12_64Guest",
        "otherGuest",
        "",
    ])
}

fn guest_name() -> Shape {
    text(&[
        "",
        "Red Hat Enterprise Linux 7 (64-bit)",
        "red hat enterprise linux 10.1",
        "Red Hat Enterprise Linux 6",
        "Microsoft Windows 10 (64-bit)",
        "Microsoft Windows Server 2022 (64-bit)",
        "Microsoft Windows Server 2012",
        "WINDOWS 11 Pro",
        "Debian GNU/Linux 12",
        "Windows Server 2025",
    ])
}

fn device() -> Shape {
    text(&["VirtualPCIPassthrough", "VirtualSriovEthernetCard", "VirtualUSBController", "VirtualCdrom"])
}

fn guest_disk() -> Shape {
    fields(vec![
        ("key", number(&[0, 2000])),
        ("diskPath", text(&["/", "/boot", "C:", "c:\\", "C:/", "D:\\", "/home", "/var/log/é"])),
        ("capacity", capacity()),
        (
            "freeSpace",
            number(&[
                -1,
                0,
                5 * MIB + MIB / 2,
                10 * MIB - 1,
                10 * MIB,
                50 * MIB - 1,
                50 * MIB,
                100 * MIB - 1,
                100 * MIB,
                i64::MAX,
            ]),
        ),
        ("filesystemType", text(&["ext4"])),
    ])
}

fn vmware_disk() -> Shape {
    fields(vec![
        ("key", number(&[2000, 2001])),
        ("unitNumber", number(&[0, 1, 15])),
        ("controllerKey", number(&[200, 201, 1000, 1001, 1003, 15_000, 15_002, 31_000, 0, -1, -101])),
        ("file", text(&["[ds] vm/vm.vmdk", "[ds] vm/vm_1-000001.vmdk", ""])),
        ("datastore", reference("Datastore")),
        ("capacity", capacity()),
        ("shared", flag()),
        ("rdm", flag()),
        ("bus", text(&["scsi", "sata", "ide", "nvme"])),
        ("mode", text(&["persistent", "independent_persistent", "independent_nonpersistent"])),
        ("changeTrackingEnabled", flag()),
    ])
}

fn vmware_host() -> Shape {
    let cluster = fields(vec![
        ("id", text(&["domain-c1"])),
        ("drsEnabled", flag()),
        ("dpmEnabled", flag()),
        ("dasEnabled", flag()),
        ("hostAffinityVms", list(fields(vec![("kind", text(&["VM"])), ("id", text(&["vm-1", "vm-2", "vm-3"]))]))),
    ]);
    fields(vec![("id", text(&["host-1"])), ("inMaintenance", flag()), ("cluster", cluster)])
}

fn ovirt() -> Shape {
    fields(vec![
        ("id", text(&["5a6b"])),
        ("name", name()),
        ("status", text(&["up", "down", "powering_up", "paused", "image_locked", ""])),
        ("cpuShares", number(&[-1, 0, 1, 1024])),
        ("cpuAffinity", list(fields(vec![("set", number(&[0])), ("cpu", number(&[1]))]))),
        ("cpuPinningPolicy", text(&["none", "manual", "resize_and_pin_numa", "isolate_threads", "dedicated"])),
        ("balloonedMemory", flag()),
        ("ioThreads", number(&[0, 1, 2])),
        ("bios", text(&["q35_secure_boot", "q35_ovmf", "i440fx_sea_bios"])),
        ("display", text(&["spice", "vnc"])),
        ("hasIllegalImages", flag()),
        ("numaNodeAffinity", list(text(&["0"]))),
        ("storageErrorResumeBehaviour", text(&["auto_resume", "leave_paused", "kill", ""])),
        ("haEnabled", flag()),
        ("usbEnabled", flag()),
        ("bootMenuEnabled", flag()),
        (
            "placementPolicyAffinity",
            text(&["migratable", "user_migratable", "pinned", "a,migratable b", "migratable2"]),
        ),
        ("hostDevices", list(fields(vec![("name", text(&["pci_0000_00_02_0"]))]))),
        ("watchDogs", list(fields(vec![("action", text(&["reset"]))]))),
        ("properties", list(fields(vec![("name", text(&["hook"])), ("value", text(&["1"]))]))),
        ("snapshots", list(fields(vec![("id", text(&["s1"])), ("persistMemory", flag())]))),
        ("osType", text(&["rhel_6", "rhel_6x64", "rhel_9x64", "windows_2022", "windows_11", "windows_2019x64"])),
        ("customCpuModel", text(&["", "Haswell"])),
        ("nics", list(ovirt_nic())),
        ("diskAttachments", list(ovirt_attachment())),
        ("cluster", fields(vec![("haReservation", flag()), ("ksmEnabled", flag()), ("biosType", text(&["q35_ovmf"]))])),
    ])
}

fn ovirt_nic() -> Shape {
    let profile = fields(vec![
        ("networkFilter", text(&["", "7f2c"])),
        ("portMirroring", flag()),
        ("qos", text(&["", "q1"])),
        ("properties", list(fields(vec![("name", text(&["queues"])), ("value", text(&["4"]))]))),
    ]);
    fields(vec![
        ("id", text(&["n1", "n2"])),
        ("name", text(&["nic1"])),
        ("interface", text(&["virtio", "e1000", "rtl8139", "rtl8139_virtio", "pci_passthrough", "spapr_vlan", ""])),
        ("plugged", flag()),
        ("profile", profile),
    ])
}

fn ovirt_attachment() -> Shape {
    let logical_units = || {
        let unit = fields(vec![("lunId", text(&["3600"])), ("size", capacity())]);
        fields(vec![("logicalUnits", fields(vec![("logicalUnit", list(unit))]))])
    };
    let disk = fields(vec![
        ("id", text(&["d1"])),
        ("shared", flag()),
        ("provisionedSize", capacity()),
        ("storageType", text(&["image", "lun", "cinder", "managed_block_storage"])),
        ("status", text(&["ok", "locked", "illegal"])),
        ("lunStorage", logical_units()),
        ("lun", logical_units()),
    ]);
    fields(vec![
        ("id", text(&["a1", "a2"])),
        ("interface", text(&["virtio", "virtio_scsi", "sata", "ide", "spapr_vscsi"])),
        ("scsiReservation", flag()),
        ("bootable", flag()),
        ("disk", disk),
    ])
}

fn openstack() -> Shape {
    let properties = fields(vec![
        ("hw_boot_menu", text(&["true", "false"])),
        ("hw_disk_bus", text(&["sata", "scsi", "virtio", "ide", "usb"])),
        ("hw_vif_model", text(&["e1000", "e1000e", "rtl8139", "virtio", "ne2k_pci", "pcnet", "vmxnet3"])),
        ("os_secure_boot", text(&["required", "optional", "disabled"])),
        ("os_distro", text(&["rhel", "centos-stream", "windows", "fedora", "debian"])),
        ("os_version", text(&["9.4", "8", "7.9", "6.10", "10", "11", "12", "2k19", "36", "38", "40", "v9"])),
        ("hw_watchdog_action", text(&["reset", "disabled", ""])),
    ]);
    let extra_specs = fields(vec![
        ("quota:cpu_shares", text(&["1024"])),
        ("pci_passthrough:alias", text(&["gpu:1"])),
        ("hw:pci_numa_affinity_policy", text(&["required"])),
        ("hw:numa_nodes", text(&["2"])),
        ("os:secure_boot", text(&["required", "optional"])),
        ("hw:watchdog_action", text(&["reset"])),
        ("other", text(&["1"])),
    ]);
    let volume = fields(vec![
        ("id", text(&["v1"])),
        ("name", text(&["root", "data é", ""])),
        ("status", text(&["available", "in-use", "error", "creating"])),
        ("size", number(&[-1, 0, 1, 40])),
        ("attachments", list(fields(vec![("ServerID", text(&["s1", "s2"]))]))),
    ]);
    let address = || {
        list(fields(vec![
            ("addr", text(&["10.0.0.5", "192.0.2.7"])),
            ("OS-EXT-IPS:type", text(&["fixed", "floating"])),
            ("version", number(&[4, 6])),
        ]))
    };
    fields(vec![
        ("id", text(&["s1"])),
        ("name", name()),
        ("status", text(&["ACTIVE", "SHUTOFF", "ERROR", "active", ""])),
        ("addresses", fields(vec![("private", address()), ("public", address())])),
        ("image", fields(vec![("id", text(&["i1"])), ("properties", properties)])),
        ("flavor", fields(vec![("vcpus", number(&[2])), ("extraSpecs", extra_specs)])),
        ("volumes", list(volume)),
    ])
}

fn openshift() -> Shape {
    fields(vec![("name", name()), ("object", fields(vec![("spec", fields(vec![("running", flag())]))]))])
}

fn ova() -> Shape {
    let disk = fields(vec![
        ("FilePath", text(&["/ova/a.ova", ""])),
        ("filePath", text(&["/ova/b.ova"])),
        ("Capacity", capacity()),
        ("capacity", capacity()),
    ]);
    fields(vec![
        ("name", name()),
        ("exportSource", text(&["VMware", "VirtualBox", "Xen", ""])),
        ("ovaSource", text(&["VMware", "Unknown"])),
        ("cpuAffinity", list(number(&[0, 2]))),
        ("cpuHotAddEnabled", flag()),
        ("cpuHotRemoveEnabled", flag()),
        ("memoryHotAddEnabled", flag()),
        ("disks", list(disk)),
    ])
}

fn hyperv() -> Shape {
    let disk = fields(vec![
        ("name", text(&["disk-0", "disk é"])),
        ("windowsPath", text(&["C:\\VMs\\a.vhdx", "\\\\server\\share\\b.vhdx"])),
        ("smbPath", text(&["share/a.vhdx", ""])),
        ("capacity", capacity()),
    ]);
    let nic = fields(vec![
        ("name", text(&["nic-0"])),
        ("networkName", text(&["LAN", ""])),
        ("network", reference("Network")),
    ]);
    fields(vec![
        ("name", name()),
        ("powerState", text(&["On", "Off"])),
        ("guestOS", guest_name()),
        ("tpmEnabled", flag()),
        ("secureBoot", flag()),
        ("hasCheckpoint", flag()),
        ("isClusterRole", flag()),
        ("managementType", text(&["cluster", "standalone"])),
        ("guestNetworks", list(fields(vec![("ip", text(&["10.0.0.5"]))]))),
        ("disks", list(disk)),
        ("nics", list(nic)),
    ])
}
