//! Translation and bookkeeping on what servers tell: `full.xml` and `power_off.xml` are the simulator's words,
//! `rich.xml` holds what it does not know.

use std::sync::Arc;

use expect_test::expect;
use forklift_inventory::{ProviderEntry, Reference, Store, Writer, restore};
use serde_json::{Value, json};

use super::kinds::{CLUSTERS, DATASTORES, FOLDERS, HOSTS, NETWORKS, VMS};
use super::model::{Host, Vm};
use super::vim::{Bounds, Element, MoRef, ObjectUpdate, Tag, UpdateKind};
use super::world::{Reread, World};
use super::{SPEC, machine};

mod changes;

const FULL: &str = include_str!("samples/full.xml");
const RICH: &str = include_str!("samples/rich.xml");
const POWER_OFF: &str = include_str!("samples/power_off.xml");

/// A world with its store, as the collector keeps them.
struct Vcenter {
    world: World,
    entry: ProviderEntry,
    writer: Writer,
}

fn parse(xml: &str) -> Vec<ObjectUpdate> {
    let set = Element::parse(xml, Bounds::default()).expect("well-formed");
    set.children.into_iter().filter_map(ObjectUpdate::read).collect()
}

/// One change of one object.
fn change(kind: &str, id: &str, path: &str, value: Option<&str>) -> ObjectUpdate {
    let value = value.map(|xml| {
        let xml = format!(r#"<val xmlns:xsi="x">{xml}</val>"#);
        Element::parse(&xml, Bounds::default()).expect("well-formed")
    });
    ObjectUpdate {
        kind: UpdateKind::Modify,
        object: MoRef::new(kind, id),
        changes: vec![(path.to_owned(), value)],
        missing: Vec::new(),
    }
}

impl Vcenter {
    fn new() -> Self {
        let object = json!({"metadata": {"uid": "u", "name": "vc", "namespace": "n"}});
        let entry = ProviderEntry::collected(&SPEC, object);
        let writer = Writer::new(entry.store().clone(), None);
        Self { world: World::default(), entry, writer }
    }

    /// Everything that the samples hold.
    fn loaded() -> Self {
        let mut vcenter = Self::new();
        vcenter.full([parse(FULL), parse(RICH)].concat());
        vcenter
    }

    fn full(&mut self, updates: Vec<ObjectUpdate>) {
        self.world.begin();
        self.writer.begin();
        for update in &updates {
            assert_eq!(self.world.apply(update), []);
        }
        self.world.end();
        self.tell();
        self.writer.loaded();
    }

    /// Tells the store; returns what it was told, and the VMs that have to be judged again.
    fn tell(&mut self) -> (Vec<String>, Vec<String>) {
        let changes = self.world.changes();
        let before: Vec<String> = changes.actions.iter().map(shown).collect();
        self.writer.apply(changes.actions);
        (before, changes.stale)
    }

    fn take(&mut self, update: &ObjectUpdate) -> Vec<Reread> {
        self.world.apply(update)
    }

    fn store(&self) -> &Arc<Store> {
        self.entry.store()
    }

    fn json(&self, kind: &str, id: &str) -> Value {
        let record = self.store().get(kind, id).expect("it is in the store");
        self.store().view(kind).expect("a collection").value(&record, 9)
    }

    fn vm(&self, id: &str) -> Vm {
        self.store().get(VMS, id).and_then(|record| record.native::<Vm>().cloned()).expect("a VM")
    }

    async fn find(&self, kind: &str, name: &str) -> String {
        let reference = Reference { name: Some(name), ..Reference::default() };
        self.entry.find(kind, reference).await.map_or_else(|e| e.to_string(), |record| record.id.to_string())
    }
}

fn shown(action: &forklift_inventory::Action) -> String {
    match action {
        forklift_inventory::Action::Upsert(kind, draft) => format!("{kind}/{}", draft.id),
        forklift_inventory::Action::Delete(kind, id) => format!("-{kind}/{id}"),
    }
}

#[test]
fn a_vm_as_upstream_shows_it() {
    let vcenter = Vcenter::loaded();
    expect![[r#"{"id":"vm-70","parent":{"kind":"Folder","id":"group-v9"},"path":"/DC0/vm/prod/db","revision":1,"name":"db","selfLink":"providers/vsphere/u/vms/vm-70","revisionValidated":0,"isTemplate":false,"powerState":"poweredOn","host":"host-37","networks":[{"kind":"Network","id":"dvportgroup-20"},{"kind":"Network","id":"network-o30"}],"disks":[{"key":2001,"unitNumber":1,"controllerKey":1000,"file":"[vmfs1] db/db_1-000002.vmdk","datastore":{"kind":"Datastore","id":"datastore-41"},"capacity":21474836480,"shared":false,"rdm":false,"bus":"scsi","mode":"persistent","serial":"6000C29a-0001","winDriveLetter":"c","changeTrackingEnabled":true,"parent":"[vmfs1] db/db_1.vmdk"},{"key":2000,"unitNumber":0,"controllerKey":1000,"file":"[nfs1] db/db.vmdk","datastore":{"kind":"Datastore","id":"aad79ecc34dde32b0c083d07506d6b3e"},"capacity":10737418240,"shared":false,"rdm":false,"bus":"scsi","mode":"independent_persistent","serial":"6000C29a-0000","changeTrackingEnabled":false,"parent":""},{"key":2016,"unitNumber":0,"controllerKey":1001,"file":"[vmfs1] db/quorum.vmdk","datastore":{"kind":"Datastore","id":"datastore-41"},"capacity":1073741824,"shared":false,"rdm":true,"physicalMode":true,"bus":"scsi","mode":"independent_persistent","serial":"6000C29a-0016","changeTrackingEnabled":false,"parent":"","deviceName":"vml.0200","lunUuid":"0200"},{"key":32000,"unitNumber":0,"controllerKey":31000,"file":"[pmem] db/p.vmdk","datastore":{"kind":"","id":""},"capacity":1073741824,"shared":false,"rdm":false,"bus":"nvme","mode":"persistent","changeTrackingEnabled":false,"parent":""}],"concerns":[],"policyVersion":0,"uuid":"4203c1f7-0b4e-2f0a-9d57-3c1c7a2b9e10","instanceUuid":"5003f1aa-0b4e-2f0a-9d57-3c1c7a2b9e10","firmware":"efi","connectionState":"connected","snapshot":{"kind":"VirtualMachineSnapshot","id":"snapshot-72"},"changeTrackingEnabled":true,"consolidationNeeded":true,"cpuAffinity":[0,2],"cpuHotAddEnabled":false,"cpuHotRemoveEnabled":false,"memoryHotAddEnabled":false,"faultToleranceEnabled":true,"cpuCount":8,"coresPerSocket":4,"memoryMB":8192,"guestName":"Microsoft Windows Server 2019 (64-bit)","guestNameFromVmwareTools":"","hostName":"db.example.com","guestId":"windows2019srv_64Guest","balloonedMemory":0,"ipAddress":"","storageUsed":0,"tpmEnabled":true,"numaNodeAffinity":["0","1"],"devices":[{"kind":"VirtualUSBController","key":7000,"pciSlotNumber":33},{"kind":"VirtualPCIPassthrough","key":13000,"pciSlotNumber":256},{"kind":"VirtualVmxnet3","key":4000,"pciSlotNumber":160},{"kind":"VirtualVmxnet3","key":4001,"pciSlotNumber":192},{"kind":"VirtualSriovEthernetCard","key":4002,"pciSlotNumber":0},{"kind":"VirtualE1000e","key":4003,"pciSlotNumber":35}],"nics":[{"network":{"kind":"Network","id":"0d1e-nsx"},"mac":"00:50:56:83:aa:02","order":1,"deviceKey":4001,"pciAddress":"0000:0b:00.0","startConnected":false},{"network":{"kind":"Network","id":"key-20"},"mac":"00:50:56:83:aa:01","order":0,"deviceKey":4000,"pciAddress":"0000:03:00.0","startConnected":true},{"network":{"kind":"Network","id":"network-6"},"mac":"00:50:56:83:aa:04","order":2,"deviceKey":4003,"pciAddress":"0000:02:03.0","startConnected":true}],"guestNetworks":[{"device":"0","deviceConfigId":4001,"mac":"00:50:56:83:aa:02","ip":"172.29.3.193","origin":"manual","prefix":16,"dns":["8.8.8.8"],"network":"nsx"},{"device":"0","deviceConfigId":4001,"mac":"00:50:56:83:aa:02","ip":"2001:db8::97","origin":"manual","prefix":64,"dns":["8.8.8.8"],"network":"nsx"},{"device":"1","deviceConfigId":4000,"mac":"00:50:56:83:aa:01","ip":"10.1.0.7","origin":"dhcp","prefix":24,"dns":null,"network":"trunk"}],"guestDisks":[{"key":2001,"diskPath":"C:\\","capacity":21474836480,"freeSpace":1073741824,"filesystemType":"NTFS"}],"guestIpStacks":[{"device":"0","gateway":"172.29.3.1","network":"0.0.0.0","prefix":0,"dns":["8.8.8.8"]},{"device":"0","gateway":"2001:db8::1","network":"::","prefix":0,"dns":["8.8.8.8"]}],"secureBoot":true,"toolsStatus":"toolsOk","toolsRunningStatus":"guestToolsRunning","toolsVersionStatus2":"","diskEnableUuid":false,"nestedHVEnabled":true,"customDef":[{"name":"owner","key":101,"managedObjectType":"VirtualMachine"}],"customValues":[{"key":101,"value":"ops"}],"tags":[]}"#]].assert_eq(&vcenter.json(VMS, "vm-70").to_string());
}

#[test]
fn the_simulators_vm_as_upstream_shows_it() {
    let vcenter = Vcenter::loaded();
    expect![[r#"{"id":"vm-52","parent":{"kind":"Folder","id":"group-2"},"path":"/DC0/vm/web/1","revision":1,"name":"web/1","selfLink":"providers/vsphere/u/vms/vm-52","revisionValidated":0,"isTemplate":false,"powerState":"poweredOff","host":"host-21","networks":[{"kind":"Network","id":"dvportgroup-12"}],"disks":[{"key":204,"unitNumber":0,"controllerKey":202,"file":"[LocalDS_0] DC0_H0_VM0/disk1-000002.vmdk","datastore":{"kind":"Datastore","id":"datastore-49"},"capacity":10737418240,"shared":false,"rdm":false,"bus":"scsi","mode":"persistent","serial":"b95003e9-7241-514a-9ba0-82a06c0d235a","changeTrackingEnabled":true,"parent":""}],"concerns":[],"policyVersion":0,"uuid":"63d40cc5-9cba-5cc1-884a-f7f19070ecea","instanceUuid":"b170c191-7587-5f8e-9a15-08c6a0a11ca5","firmware":"efi","connectionState":"connected","snapshot":{"kind":"VirtualMachineSnapshot","id":"snapshot-67"},"changeTrackingEnabled":true,"consolidationNeeded":false,"cpuAffinity":[],"cpuHotAddEnabled":false,"cpuHotRemoveEnabled":false,"memoryHotAddEnabled":false,"faultToleranceEnabled":false,"cpuCount":4,"coresPerSocket":2,"memoryMB":4096,"guestName":"rhel9_64Guest","guestNameFromVmwareTools":"","hostName":"web-1","guestId":"rhel9_64Guest","balloonedMemory":0,"ipAddress":"10.0.0.5","storageUsed":234,"tpmEnabled":false,"numaNodeAffinity":["0","1"],"devices":[{"kind":"VirtualE1000","key":4000,"pciSlotNumber":32}],"nics":[{"network":{"kind":"Network","id":"dvportgroup-12"},"mac":"00:0c:29:63:65:61","order":0,"deviceKey":4000,"pciAddress":"0000:02:00.0","startConnected":true}],"guestNetworks":[],"guestDisks":[],"guestIpStacks":[],"secureBoot":true,"toolsStatus":"toolsNotInstalled","toolsRunningStatus":"guestToolsRunning","toolsVersionStatus2":"","diskEnableUuid":true,"nestedHVEnabled":false,"customDef":[{"name":"owner","key":0,"managedObjectType":"VirtualMachine"}],"customValues":[{"key":0,"value":"ops"}],"tags":[]}"#]].assert_eq(&vcenter.json(VMS, "vm-52").to_string());
}

#[test]
fn what_vms_are_in_and_on_as_upstream_shows_it() {
    let vcenter = Vcenter::loaded();
    let things = [
        ("datacenters", "datacenter-1"),
        (FOLDERS, "group-v9"),
        (CLUSTERS, "domain-c28"),
        (CLUSTERS, "domain-s24"),
        (HOSTS, "host-37"),
        (NETWORKS, "network-6"),
        (NETWORKS, "dvs-8"),
        (NETWORKS, "dvportgroup-20"),
        (NETWORKS, "network-o30"),
        (DATASTORES, "datastore-49"),
        (DATASTORES, "datastore-41"),
    ];
    let shown: Vec<String> = things.iter().map(|(kind, id)| vcenter.json(kind, id).to_string()).collect();
    expect![[r#"
        {"id":"datacenter-1","parent":{"kind":"Folder","id":"group-d1"},"path":"/DC0","revision":1,"name":"DC0","selfLink":"providers/vsphere/u/datacenters/datacenter-1","datastores":{"kind":"Folder","id":"group-4"},"networks":{"kind":"Folder","id":"group-5"},"clusters":{"kind":"Folder","id":"group-3"},"vms":{"kind":"Folder","id":"group-2"}}
        {"id":"group-v9","parent":{"kind":"Folder","id":"group-2"},"path":"/DC0/vm/prod","revision":1,"name":"prod","selfLink":"providers/vsphere/u/folders/group-v9","folder":"group-2","datacenter":"","children":[]}
        {"id":"domain-c28","parent":{"kind":"Folder","id":"group-3"},"path":"/DC0/host/DC0_C0","revision":1,"name":"DC0_C0","selfLink":"providers/vsphere/u/clusters/domain-c28","folder":"group-3","networks":[{"kind":"Network","id":"network-6"},{"kind":"Network","id":"dvportgroup-10"},{"kind":"Network","id":"dvportgroup-12"}],"datastores":[{"kind":"Datastore","id":"datastore-49"}],"hosts":[{"kind":"Host","id":"host-37"},{"kind":"Host","id":"host-47"}],"dasEnabled":false,"dasVms":[],"drsEnabled":false,"drsBehavior":"","drsVms":[]}
        {"id":"domain-s24","variant":"ComputeResource","parent":{"kind":"Folder","id":"group-3"},"path":"/DC0/host/DC0_H0","revision":1,"name":"DC0_H0","selfLink":"providers/vsphere/u/clusters/domain-s24","folder":"group-3","networks":[{"kind":"Network","id":"network-6"},{"kind":"Network","id":"dvportgroup-10"},{"kind":"Network","id":"dvportgroup-12"}],"datastores":[{"kind":"Datastore","id":"datastore-49"}],"hosts":[{"kind":"Host","id":"host-21"}],"dasEnabled":false,"dasVms":[],"drsEnabled":false,"drsBehavior":"","drsVms":[]}
        {"id":"host-37","parent":{"kind":"Cluster","id":"domain-c28"},"path":"/DC0/host/DC0_C0/DC0_C0_H0","revision":1,"name":"DC0_C0_H0","selfLink":"providers/vsphere/u/hosts/host-37","cluster":"domain-c28","status":"green","inMaintenance":false,"managementServerIp":"127.0.0.1","thumbprint":"","timezone":"","cpuSockets":2,"cpuCores":2,"memoryBytes":4294430720,"productName":"VMware ESXi","productVersion":"8.0.2","networking":{"pNICs":[{"key":"key-vim.host.PhysicalNic-vmnic0","linkSpeed":10000},{"key":"key-vim.host.PhysicalNic-vmnic1","linkSpeed":10000}],"vNICs":[{"key":"key-vim.host.VirtualNic-vmk0","device":"vmk0","portGroup":"Management Network","dPortGroup":"","ipAddress":"127.0.0.1","ipV6Address":null,"subnetMask":"255.0.0.0","mtu":1500}],"portGroups":[{"key":"key-vim.host.PortGroup-VM Network","name":"VM Network","vSwitch":"key-vim.host.VirtualSwitch-vSwitch0","vlanId":0},{"key":"key-vim.host.PortGroup-Management Network","name":"Management Network","vSwitch":"key-vim.host.VirtualSwitch-vSwitch0","vlanId":0}],"switches":[{"key":"key-vim.host.VirtualSwitch-vSwitch0","name":"vSwitch0","portGroups":["key-vim.host.PortGroup-VM Network","key-vim.host.PortGroup-Management Network"],"pNICs":["key-vim.host.PhysicalNic-vmnic0"]}]},"networks":[{"kind":"Network","id":"network-6"},{"kind":"Network","id":"dvportgroup-10"},{"kind":"Network","id":"dvportgroup-12"}],"datastores":[{"kind":"Datastore","id":"datastore-49"}],"vms":null,"networkAdapters":[{"name":"Management Network","ipAddress":"127.0.0.1","subnetMask":"255.0.0.0","linkSpeed":10000,"mtu":1500}],"hostScsiDisks":[{"canonicalName":"mpx.vmhba0:C0:T0:L0","vendor":"VMware,","model":"VMware Virtual S","key":"key-vim.host.ScsiDisk-0000000000766d686261303a303a30"}],"advancedOptions":null,"vmotionSupported":false,"storageVmotionSupported":false}
        {"id":"network-6","parent":{"kind":"Folder","id":"group-5"},"path":"/DC0/network/VM Network","revision":1,"name":"VM Network","selfLink":"providers/vsphere/u/networks/network-6","variant":"Standard","vlanId":"","host":null}
        {"id":"dvs-8","parent":{"kind":"Folder","id":"group-5"},"path":"/DC0/network/DVS0","revision":1,"name":"DVS0","selfLink":"providers/vsphere/u/networks/dvs-8","variant":"DvSwitch","vlanId":"","host":[{"Host":{"kind":"Host","id":"host-37"},"PNIC":["vmnic1"]}]}
        {"id":"dvportgroup-20","parent":{"kind":"Folder","id":"group-5"},"path":"/DC0/network/trunk","revision":1,"name":"trunk","selfLink":"providers/vsphere/u/networks/dvportgroup-20","variant":"DvPortGroup","dvSwitch":{"kind":"Network","id":"dvs-8"},"vlanId":"1-5,7-7","host":null,"key":"key-20"}
        {"id":"network-o30","parent":{"kind":"Folder","id":"group-5"},"path":"/DC0/network/nsx","revision":1,"name":"nsx","selfLink":"providers/vsphere/u/networks/network-o30","variant":"OpaqueNetwork","vlanId":"","host":null,"key":"0d1e-nsx"}
        {"id":"datastore-49","parent":{"kind":"Folder","id":"group-4"},"path":"/DC0/datastore/LocalDS_0","revision":1,"name":"LocalDS_0","selfLink":"providers/vsphere/u/datastores/datastore-49","type":"OTHER","capacity":3298534883328,"free":3255585210368,"maintenance":"normal","backingDevicesNames":[],"storageIORMSupported":false,"iormEnabled":false,"iormCongestionThreshold":0,"iormCongestionThresholdMode":"","iormPercentOfPeakThroughput":0}
        {"id":"datastore-41","parent":{"kind":"Folder","id":"group-p40"},"path":"/DC0/datastore/pod/vmfs1","revision":1,"name":"vmfs1","selfLink":"providers/vsphere/u/datastores/datastore-41","type":"VMFS","capacity":0,"free":0,"maintenance":"","backingDevicesNames":["naa.6001","naa.6002"],"storageIORMSupported":false,"iormEnabled":true,"iormCongestionThreshold":100,"iormCongestionThresholdMode":"manual","iormPercentOfPeakThroughput":90}"#]].assert_eq(&shown.join("\n"));
}

#[test]
fn a_vm_as_a_machine() {
    let vcenter = Vcenter::loaded();
    let record = vcenter.store().get(VMS, "vm-70").expect("it is in the store");
    let machine = machine(vcenter.store(), &record).expect("a VM");
    expect![[r#"
        {
          "id": "vm-70",
          "name": "db",
          "uuid": "4203c1f7-0b4e-2f0a-9d57-3c1c7a2b9e10",
          "instanceUuid": "5003f1aa-0b4e-2f0a-9d57-3c1c7a2b9e10",
          "cpu": {
            "sockets": 2,
            "cores": 4,
            "threads": 0,
            "model": null,
            "dedicated": false,
            "nested": true
          },
          "memory": 8589934592,
          "firmware": {
            "kind": "uefi",
            "secureBoot": true
          },
          "guest": {
            "id": "windows2019srv_64Guest",
            "name": "Microsoft Windows Server 2019 (64-bit)",
            "hostName": "db.example.com",
            "family": "windows"
          },
          "disks": [
            {
              "key": "[nfs1] db/db.vmdk",
              "name": "db.vmdk",
              "capacity": 10737418240,
              "bus": "scsi",
              "storage": {
                "id": "aad79ecc34dde32b0c083d07506d6b3e",
                "name": "nfs1",
                "type": "",
                "namespace": ""
              },
              "driveLetter": "",
              "serial": "6000C29a-0000",
              "bootable": false,
              "shared": false,
              "users": [],
              "rdm": false,
              "independent": true,
              "encrypted": false,
              "unsupported": "",
              "changedBlocks": false
            },
            {
              "key": "[vmfs1] db/db_1.vmdk",
              "name": "db_1.vmdk",
              "capacity": 21474836480,
              "bus": "scsi",
              "storage": {
                "id": "datastore-41",
                "name": "vmfs1",
                "type": "",
                "namespace": ""
              },
              "driveLetter": "c",
              "serial": "6000C29a-0001",
              "bootable": true,
              "shared": false,
              "users": [],
              "rdm": false,
              "independent": false,
              "encrypted": true,
              "unsupported": "",
              "changedBlocks": true
            },
            {
              "key": "[vmfs1] db/quorum.vmdk",
              "name": "quorum.vmdk",
              "capacity": 1073741824,
              "bus": "scsi",
              "storage": {
                "id": "datastore-41",
                "name": "vmfs1",
                "type": "",
                "namespace": ""
              },
              "driveLetter": "",
              "serial": "6000C29a-0016",
              "bootable": false,
              "shared": true,
              "users": [],
              "rdm": true,
              "independent": true,
              "encrypted": false,
              "unsupported": "",
              "changedBlocks": false
            },
            {
              "key": "[pmem] db/p.vmdk",
              "name": "p.vmdk",
              "capacity": 1073741824,
              "bus": "nvme",
              "storage": {
                "id": "",
                "name": "",
                "type": "",
                "namespace": ""
              },
              "driveLetter": "",
              "serial": "",
              "bootable": false,
              "shared": false,
              "users": [],
              "rdm": false,
              "independent": false,
              "encrypted": false,
              "unsupported": "it is in the host's persistent memory; move it to a datastore",
              "changedBlocks": false
            }
          ],
          "nics": [
            {
              "name": "Network adapter 2",
              "mac": "00:50:56:83:aa:02",
              "network": {
                "id": "network-o30",
                "name": "nsx",
                "type": "",
                "namespace": ""
              },
              "pciAddress": "0000:0b:00.0",
              "disconnected": true,
              "addresses": [
                {
                  "ip": "172.29.3.193",
                  "prefix": 16,
                  "origin": "manual",
                  "gateway": "172.29.3.1",
                  "dns": [
                    "8.8.8.8"
                  ]
                },
                {
                  "ip": "2001:db8::97",
                  "prefix": 64,
                  "origin": "manual",
                  "gateway": "2001:db8::1",
                  "dns": [
                    "8.8.8.8"
                  ]
                }
              ]
            },
            {
              "name": "Network adapter 1",
              "mac": "00:50:56:83:aa:01",
              "network": {
                "id": "dvportgroup-20",
                "name": "trunk",
                "type": "",
                "namespace": ""
              },
              "pciAddress": "0000:03:00.0",
              "disconnected": false,
              "addresses": [
                {
                  "ip": "10.1.0.7",
                  "prefix": 24,
                  "origin": "dhcp",
                  "gateway": "",
                  "dns": []
                }
              ]
            },
            {
              "name": "Network adapter 4",
              "mac": "00:50:56:83:aa:04",
              "network": {
                "id": "network-6",
                "name": "VM Network",
                "type": "",
                "namespace": ""
              },
              "pciAddress": "0000:02:03.0",
              "disconnected": false,
              "addresses": []
            }
          ],
          "power": "On",
          "host": "host-37",
          "traits": {
            "template": false,
            "disconnected": false,
            "connection": "connected",
            "tools": "running",
            "hostState": "ready",
            "encrypted": true,
            "tpm": true,
            "timezone": null,
            "changeTracking": true,
            "snapshots": 1,
            "migrationSnapshots": [
              "forklift-migration-precopy-0a1b-1"
            ],
            "consolidationNeeded": true,
            "path": "/DC0/vm/prod/db",
            "unsupportedExport": false
          },
          "concerns": [],
          "leftOut": [],
          "tags": [],
          "attributes": [
            {
              "name": "owner",
              "value": "ops"
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&machine).expect("plain data"));
}

#[test]
fn trees_lead_from_datacenters_to_vms() {
    let vcenter = Vcenter::loaded();
    fn draw(nodes: &[forklift_inventory::Node], depth: usize, out: &mut String) {
        for node in nodes {
            out.push_str(&format!(
                "{:depth$}{} {} {}\n",
                "",
                node.kind,
                node.record.name,
                node.detail,
                depth = depth * 2
            ));
            draw(&node.children, depth + 1, out);
        }
    }
    let mut out = String::new();
    for tree in SPEC.trees {
        out.push_str(&format!("{}:\n", tree.name));
        draw(&(tree.build)(vcenter.store(), 1), 1, &mut out);
    }
    expect![[r#"
        host:
          Datacenter DC0 9223372036854775807
            Cluster DC0_H0 0
              Host DC0_H0 0
                VM web/1 1
            Cluster DC0_C0 0
              Host DC0_C0_H0 0
                VM DC0_C0_RP0_VM1 1
                VM db 1
        vm:
          Datacenter DC0 9223372036854775807
            Folder prod 0
              VM db 1
            VM web/1 1
            VM DC0_C0_RP0_VM1 1
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_workload_leads_to_host_and_cluster() {
    let mut vcenter = Vcenter::loaded();
    let workload = |vcenter: &Vcenter| {
        let record = vcenter.store().get(VMS, "vm-70").expect("it is in the store");
        vcenter.store().workload(&record)
    };
    let document = workload(&vcenter).expect("host and cluster are known");
    let keys = |value: &Value| value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<Vec<_>>();
    assert_eq!(keys(&document).first().map(String::as_str), Some("selfLink"));
    assert_eq!(keys(&document).last().map(String::as_str), Some("host"));
    assert_eq!(document["selfLink"], "providers/vsphere/u/workloads/vm-70");
    assert_eq!(document["host"]["selfLink"], "providers/vsphere/u/hosts/host-37");
    assert_eq!(document["host"]["cluster"]["name"], "DC0_C0");
    assert_eq!(document["host"]["cluster"]["datacenter"], Value::Null);
    assert_eq!(document["disks"].as_array().map(Vec::len), Some(4));

    vcenter.take(&ObjectUpdate { kind: UpdateKind::Leave, ..change("HostSystem", "host-37", "", None) });
    vcenter.tell();
    expect!["host host-37 of VM db is not in the inventory: the provider's user may not be allowed to see it"]
        .assert_eq(&workload(&vcenter).expect_err("the host is gone"));
}
