use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::Descriptor;

const FIXTURES: [&str; 4] = [
    include_str!("fixtures/vmware.ovf"),
    include_str!("fixtures/virtualbox.ovf"),
    include_str!("fixtures/ovirt.ovf"),
    include_str!("fixtures/xen.ovf"),
];

/// A descriptor as a page that a person can check.
fn shown(text: &str) -> String {
    let descriptor = match Descriptor::parse(text) {
        Ok(descriptor) => descriptor,
        Err(error) => return format!("error: {error}"),
    };
    let mut page = format!("{}\n", descriptor.exporter);
    for file in &descriptor.files {
        writeln!(page, "file {} {} {:?} {:?}", file.id, file.href, file.size, file.compression).expect("a string");
    }
    for disk in &descriptor.disks {
        let format = disk.image_format.unwrap_or("?");
        writeln!(
            page,
            "disk {} {} × {:?} = {:?} {format} in {:?}",
            disk.id, disk.capacity, disk.units, disk.capacity_bytes, disk.file
        )
        .expect("a string");
    }
    for network in &descriptor.networks {
        writeln!(page, "network {:?} {:?}", network.name, network.description).expect("a string");
    }
    for s in &descriptor.systems {
        writeln!(
            page,
            "system {:?} {:?} os={} cpus={}/{} memory={}",
            s.id, s.name, s.os_type, s.cpus, s.cores_per_socket, s.memory_bytes
        )
        .expect("a string");
        writeln!(
            page,
            "  firmware={} secure={} tpm={} hot={}{}{}",
            s.firmware, s.secure_boot, s.tpm, s.cpu_hot_add, s.cpu_hot_remove, s.memory_hot_add
        )
        .expect("a string");
        for nic in &s.nics {
            writeln!(page, "  nic {:?} {:?} on {:?} {}", nic.name, nic.mac, nic.network, nic.model).expect("a string");
        }
        for disk in &s.disks {
            writeln!(page, "  disk {} {:?} {:?}:{:?}", disk.disk, disk.bus, disk.controller, disk.position)
                .expect("a string");
        }
        writeln!(page, "  devices {}", s.devices.join(", ")).expect("a string");
    }
    page
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&shown(text));
}

#[test]
fn vmware() {
    check(
        FIXTURES[0],
        expect![[r#"
        VMware
        file file1 web-disk1.vmdk Some(68608) None
        file file2 web-disk2.vmdk.gz Some(512) Some("gzip")
        file file3 web-file3.nvram Some(8684) None
        disk vmdisk2 100 × "byte * 2^20" = Some(104857600) vmdk in Some("file2")
        disk vmdisk1 16 × "byte * 2^30" = Some(17179869184) vmdk in Some("file1")
        disk vmdisk3 1 × "byte * 2^30" = Some(1073741824) vmdk in None
        network "VM Network" "The VM Network network"
        network "Storage" ""
        system "web" "web-01" os=rhel8_64Guest cpus=4/2 memory=2147483648
          firmware=efi secure=true tpm=true hot=truefalsetrue
          nic "Network adapter 1" "" on "VM Network" VmxNet3
          nic "Network adapter 2" "00:50:56:ab:cd:ef" on "Storage" E1000E
          disk vmdisk1 Some(Scsi) Some(0):Some(0)
          disk vmdisk2 Some(Scsi) Some(0):Some(1)
          disk vmdisk3 Some(Nvme) Some(1):Some(0)
          devices SCSI Controller, NVMe Controller, Hard Disk, Hard Disk, Hard Disk, Virtual TPM, Video card
    "#]],
    );
}

#[test]
fn virtualbox() {
    check(
        FIXTURES[1],
        expect![[r#"
        VirtualBox
        file file1 box-disk001.vmdk None None
        disk vmdisk1 8589934592 × "" = Some(8589934592) vmdk in Some("file1")
        network "NAT" "Logical network used by this appliance."
        system "box" "box" os=Ubuntu_64 cpus=1/0 memory=1073741824
          firmware=efi secure=false tpm=true hot=falsefalsefalse
          nic "Ethernet adapter on 'NAT'" "08:00:27:8c:5d:1d" on "NAT" E1000
          disk vmdisk1 Some(Sata) Some(0):Some(0)
          devices sataController, disk
    "#]],
    );
}

#[test]
fn ovirt() {
    check(
        FIXTURES[2],
        expect![[r#"
        oVirt
        file 3d0e4c84-45cd-4b2a-b9b5-1bd0f66d1de9 3d0e4c84-45cd-4b2a-b9b5-1bd0f66d1de9 Some(197120) None
        file 7c1b6a52-6b0f-4a3c-8a29-2f0f6b3b8d11 7c1b6a52-6b0f-4a3c-8a29-2f0f6b3b8d11 Some(197120) None
        disk data 2 × "byte * 2^30" = Some(2147483648) raw in Some("7c1b6a52-6b0f-4a3c-8a29-2f0f6b3b8d11")
        disk system 6 × "byte * 2^30" = Some(6442450944) qcow2 in Some("3d0e4c84-45cd-4b2a-b9b5-1bd0f66d1de9")
        network "ovirtmgmt" ""
        system "5d4a7c2e-9a31-4cbb-8c9d-0e1f2a3b4c5d" "rhv-vm" os=rhel_8x64 cpus=4/2 memory=2147483648
          firmware=efi secure=true tpm=true hot=falsefalsefalse
          nic "nic1" "56:6f:1a:2b:00:01" on "ovirtmgmt" virtio
          disk system Some(Scsi) None:None
          disk data Some(Virtio) None:None
          devices data, system, Unknown
    "#]],
    );
}

#[test]
fn xen() {
    check(
        FIXTURES[3],
        expect![[r#"
        Xen
        file bc1b8b9a-0001-4e7e-9a32-4d1f0e7f8a11 bc1b8b9a.vhd Some(35328) None
        disk bc1b8b9a-0002-4e7e-9a32-4d1f0e7f8a11 10737418240 × "Bytes" = Some(10737418240) vhd in Some("bc1b8b9a-0001-4e7e-9a32-4d1f0e7f8a11")
        network "Network 0" "eth0"
        system "6f3d9e58-7f0a-4e61-9df0-3c1f6f9a1b2c" "xen-vm" os=Debian 11 cpus=2/0 memory=4294967296
          firmware=efi secure=true tpm=false hot=falsefalsefalse
          nic "Ethernet Port 0" "a2:b4:c6:d8:e0:f2" on "Network 0" 
          disk bc1b8b9a-0002-4e7e-9a32-4d1f0e7f8a11 None None:None
          devices Hard Disk Image
        system "second" "second" os= cpus=0/0 memory=0
          firmware= secure=false tpm=false hot=falsefalsefalse
          devices 
    "#]],
    );
}

#[test]
fn what_cannot_be_used_says_why() {
    let vmware = FIXTURES[0];
    check("<a>", expect!["error: the descriptor is not well-formed XML: the root node was opened but never closed"]);
    check("<a/>", expect!["error: the descriptor's root element is <a>, not <Envelope>"]);
    check("<Envelope/>", expect!["error: the descriptor describes no virtual system"]);
    check(
        &vmware.replace("ovf:capacity=\"16\"", "ovf:capacity=\"sixteen\""),
        expect![[r#"error: the capacity of disk vmdisk1 is "sixteen", which is not a number"#]],
    );
    check(
        &vmware.replace("Units=\"byte * 2^30\"", "Units=\"parsec\""),
        expect![[r#"error: disk vmdisk1 has the allocation units "parsec", which are not known"#]],
    );
    check(
        &vmware.replace("ovf:/disk/vmdisk2", "ovf:/disk/none"),
        expect![[r#"error: a disk of web-01 refers to "ovf:/disk/none", which the descriptor does not have"#]],
    );
    check(
        &vmware.replace("ovf:diskId=\"vmdisk1\"", "ovf:diskId=\"vmdisk1\" ovf:parentRef=\"x\""),
        expect!["error: disk vmdisk1 is a delta of another disk: export the VM without snapshots"],
    );
    check(
        "<!DOCTYPE a [<!ENTITY b 'c'>]><Envelope/>",
        expect!["error: the descriptor is not well-formed XML: XML with DTD detected"],
    );
}

#[test]
fn a_capacity_may_be_a_property() {
    let text = FIXTURES[0].replace("ovf:capacity=\"16\"", "ovf:capacity=\"${size}\"").replace(
        "<Info>A virtual machine</Info>",
        "<ProductSection><Property ovf:key=\"size\" ovf:value=\"24\"/></ProductSection>",
    );
    let descriptor = Descriptor::parse(&text).expect("it is well-formed");
    assert_eq!(descriptor.disk("vmdisk1").and_then(|d| d.capacity_bytes), Some(24 << 30));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,400}") {
        let _ = shown(&text);
    }

    #[test]
    fn a_damaged_descriptor_is_read_or_refused(
        which in 0usize..4,
        cuts in prop::collection::vec((0usize..20_000, 0usize..40, "[<>/\"a-z0-9:=\\- ]{0,12}"), 1..6),
    ) {
        let mut text: Vec<char> = FIXTURES[which].chars().collect();
        for (at, len, insert) in cuts {
            let at = at % text.len().max(1);
            let end = (at + len).min(text.len());
            text.splice(at..end, insert.chars());
        }
        let _ = shown(&text.into_iter().collect::<String>());
    }

    #[test]
    fn numbers_of_any_size_are_read_or_refused(number in any::<i128>(), unit in "[a-zA-Z]{0,5}( ?\\* ?[0-9]{1,3}\\^?[0-9]{0,4}){0,3}") {
        let text = FIXTURES[0].replace("ovf:capacity=\"16\"", &format!("ovf:capacity=\"{number}\""))
            .replace("<rasd:VirtualQuantity>2048", &format!("<rasd:VirtualQuantity>{number}"))
            .replace("byte * 2^20", &unit);
        let _ = shown(&text);
    }
}
