//! Inventory payloads have upstream's keys.

use expect_test::expect;
use forklift_api::rest::{Detail, ova};
use forklift_api::worker::{ImportSource, ImportSpec, Verify, VolumeMode};

#[test]
fn an_ova_vm_is_told_at_three_levels() {
    let mut vm = ova::Vm::default();
    vm.base.id = "1".to_owned();
    vm.base.name = "web".to_owned();
    vm.base.self_link = "providers/ova/u/vms/1".to_owned();
    vm.memory_mb = 512;
    let mut disk = ova::EmbeddedDisk::default();
    disk.base.id = "d".to_owned();
    disk.facts.file_path = "/ova/web.ova".to_owned();
    vm.disks.push(disk);
    vm.nics.push(ova::Nic { mac: "00:50:56:00:00:01".to_owned(), network: "LAN".to_owned(), ..Default::default() });
    let told = |detail| vm.at(detail).expect("serialises").to_string();
    expect![[r#"{"id":"1","name":"web","selfLink":"providers/ova/u/vms/1"}"#]].assert_eq(&told(Detail::from(0)));
    expect![[r#"{"id":"1","name":"web","selfLink":"providers/ova/u/vms/1","revisionValidated":0,"networks":null,"disks":[{"ID":"d","Variant":"","Name":"","Revision":0,"FilePath":"/ova/web.ova","Capacity":0,"CapacityAllocationUnits":"","DiskId":"","FileRef":"","Format":"","PopulatedSize":0}],"concerns":[]}"#]]
        .assert_eq(&told(Detail::from(1)));
    let all = vm.at(Detail::from(9)).expect("serialises");
    assert_eq!(all["memoryMB"], 512);
    assert_eq!(all["nics"][0]["MAC"], "00:50:56:00:00:01");
    let again: ova::Vm = serde_json::from_value(all).expect("a VM");
    assert_eq!(again, vm);
    let brief: ova::Vm = serde_json::from_value(vm.at(Detail::Summary).expect("serialises")).expect("a VM");
    assert!(brief.networks.is_empty() && brief.disks.len() == 1);
}

#[test]
fn an_import_order_is_short_json() {
    let spec = ImportSpec {
        source: ImportSource::File {
            path: "/ova/web.ova".to_owned(),
            member: Some("web-disk1.vmdk".to_owned()),
            format: None,
            compression: None,
            digest: None,
        },
        target: "/mnt/disk/disk.img".to_owned(),
        volume_mode: VolumeMode::Filesystem,
        virtual_size: Some(1 << 30),
        identity: "x".to_owned(),
        verify: Verify::Full,
        bandwidth: None,
        options: Default::default(),
    };
    let text = serde_json::to_string(&spec).expect("serialises");
    expect![[r#"{"source":{"file":{"path":"/ova/web.ova","member":"web-disk1.vmdk"}},"target":"/mnt/disk/disk.img","volumeMode":"Filesystem","virtualSize":1073741824,"identity":"x","verify":"Full"}"#]]
        .assert_eq(&text);
    assert_eq!(serde_json::from_str::<ImportSpec>(&text).expect("an order"), spec);
}
