//! What the world makes of one change after another: guests, devices, disks that are shared, folders, tags.

use super::*;

#[test]
fn what_the_guest_told_stays_when_it_stops() {
    let mut vcenter = Vcenter::loaded();
    for update in parse(POWER_OFF) {
        vcenter.take(&update);
    }
    for (path, empty) in [
        ("guest.net", Some("")),
        ("guest.ipStack", Some("")),
        ("guest.disk", None),
        ("guest.hostName", None),
        ("summary.guest.guestId", None),
        ("summary.guest.ipAddress", None),
        ("guest.toolsRunningStatus", Some("guestToolsNotRunning")),
        ("runtime.powerState", Some("poweredOff")),
    ] {
        vcenter.take(&change("VirtualMachine", "vm-70", path, empty));
    }
    vcenter.tell();
    assert_eq!(vcenter.json(VMS, "vm-52")["powerState"], "poweredOff");
    let vm = vcenter.vm("vm-70");
    assert_eq!((vm.guest_networks.len(), vm.ip_stacks.len(), vm.guest_disks.len()), (3, 2, 1));
    assert_eq!((&*vm.host_name, vm.guest_id.as_str()), ("db.example.com", "windows2019srv_64Guest"));
    assert_eq!((vm.power_state.as_str(), vm.tools_running_status.as_str()), ("poweredOff", "guestToolsNotRunning"));
}

#[test]
fn what_a_vm_no_longer_has_goes_and_what_every_vm_has_stays() {
    let mut vcenter = Vcenter::loaded();
    for path in [
        "snapshot",
        "config.ftInfo",
        "config.cpuAffinity",
        "customValue",
        "config.uuid",
        "config.hardware.device",
        "name",
    ] {
        vcenter.take(&change("VirtualMachine", "vm-70", path, None));
    }
    vcenter.tell();
    let vm = vcenter.vm("vm-70");
    assert_eq!((&*vm.snapshots.current, vm.fault_tolerance, vm.cpu_affinity.len()), ("", false, 0));
    assert_eq!((vm.custom_values.len(), vm.uuid.is_empty(), vm.disks.len(), &*vm.name), (0, false, 4, "db"));
}

#[test]
fn single_elements_of_arrays_change() {
    let mut vcenter = Vcenter::loaded();
    let apply = |vcenter: &mut Vcenter, path: &str, value: Option<&str>| {
        vcenter.take(&change("VirtualMachine", "vm-70", path, value))
    };
    assert_eq!(apply(&mut vcenter, "config.hardware.device[2000]", None), []);
    assert_eq!(apply(&mut vcenter, "config.hardware.device[4000]", None), []);
    assert_eq!(apply(&mut vcenter, r#"config.extraConfig["scsi0:1.ctkEnabled"].value"#, Some("FALSE")), []);
    assert_eq!(apply(&mut vcenter, "customValue[102].value", Some("x")), []);
    vcenter.tell();
    let vm = vcenter.vm("vm-70");
    assert_eq!(vm.disks.iter().map(|disk| disk.key).collect::<Vec<_>>(), [2001, 2016, 32000]);
    assert_eq!(vm.nics.iter().map(|nic| (nic.device_key, nic.order)).collect::<Vec<_>>(), [(4001, 0), (4003, 1)]);
    assert!(vm.devices.iter().all(|device| device.key != 4000));
    assert!(vm.disks.iter().all(|disk| !disk.change_tracking));
    assert_eq!(vm.custom_values.len(), 2);

    // what is kept is not enough for these: the whole property is read again
    let object = MoRef::vm("vm-70");
    for (path, property) in [
        ("config.hardware.device[2001].backing.fileName", "config.hardware.device"),
        ("guest.net[4000].connected", "guest.net"),
    ] {
        let reread = Reread { object: object.clone(), property: property.to_owned() };
        assert_eq!(apply(&mut vcenter, path, Some("x")), [reread]);
    }
}

#[test]
fn a_disk_in_two_vms_is_shared_until_one_of_them_lets_go() {
    let mut vcenter = Vcenter::loaded();
    let device = |file: &str| {
        format!(
            r#"<VirtualDevice xsi:type="VirtualDisk"><key>2000</key><backing xsi:type="VirtualDiskFlatVer2BackingInfo">
            <fileName>{file}</fileName></backing><controllerKey>1000</controllerKey><unitNumber>0</unitNumber></VirtualDevice>"#
        )
    };
    let shared = |vcenter: &Vcenter| {
        let disk = vcenter.vm("vm-70").disks.iter().find(|disk| disk.key == 2000).cloned();
        disk.is_some_and(|disk| disk.shared)
    };
    assert!(!shared(&vcenter));
    vcenter.take(&change("VirtualMachine", "vm-52", "config.hardware.device", Some(&device("[nfs1] db/db.vmdk"))));
    let (told, _) = vcenter.tell();
    assert_eq!(told, ["vms/vm-52", "vms/vm-70"]);
    assert!(shared(&vcenter));
    let record = vcenter.store().get(VMS, "vm-70").expect("it is in the store");
    let disk = machine(vcenter.store(), &record).expect("a VM").disks[0].clone();
    assert_eq!((disk.shared, disk.users[0].name.as_str()), (true, "web/1"));

    vcenter.take(&change("VirtualMachine", "vm-52", "config.hardware.device", Some(&device("[nfs1] web/web.vmdk"))));
    vcenter.tell();
    assert!(!shared(&vcenter));

    vcenter.take(&change("VirtualMachine", "vm-52", "config.hardware.device", Some(&device("[nfs1] db/db.vmdk"))));
    vcenter.tell();
    assert!(shared(&vcenter));
    vcenter.take(&ObjectUpdate { kind: UpdateKind::Leave, ..change("VirtualMachine", "vm-52", "", None) });
    let (told, _) = vcenter.tell();
    assert_eq!(told, ["-vms/vm-52", "vms/vm-70"]);
    assert!(!shared(&vcenter));
}

#[test]
fn a_renamed_folder_changes_the_paths_below_it() {
    let mut vcenter = Vcenter::loaded();
    assert_eq!(vcenter.json(VMS, "vm-70")["path"], "/DC0/vm/prod/db");
    vcenter.take(&change("Folder", "group-v9", "name", Some("test%2f2")));
    let (told, _) = vcenter.tell();
    assert_eq!(told, ["folders/group-v9", "vms/vm-70"]);
    assert_eq!(vcenter.json(VMS, "vm-70")["path"], "/DC0/vm/test/2/db");
}

#[test]
fn vms_of_a_host_or_cluster_that_changed_are_judged_again() {
    let mut vcenter = Vcenter::loaded();
    vcenter.take(&change("HostSystem", "host-37", "summary.runtime.inMaintenanceMode", Some("true")));
    let (told, mut stale) = vcenter.tell();
    stale.sort();
    assert_eq!(told, ["hosts/host-37"]);
    assert!(stale.contains(&"vm-70".to_owned()) && !stale.contains(&"vm-52".to_owned()), "{stale:?}");

    vcenter.take(&change("ClusterComputeResource", "domain-c28", "configuration.drsConfig.enabled", Some("true")));
    let (_, again) = vcenter.tell();
    assert!(again.contains(&"vm-70".to_owned()));

    // the same again says nothing new
    vcenter.take(&change("HostSystem", "host-37", "summary.runtime.inMaintenanceMode", Some("true")));
    assert_eq!(vcenter.tell().1, Vec::<String>::new());
}

#[test]
fn a_full_set_removes_what_it_does_not_tell_and_raises_no_revision() {
    let mut vcenter = Vcenter::loaded();
    let revision = |vcenter: &Vcenter| vcenter.json(VMS, "vm-70")["revision"].clone();
    assert_eq!(revision(&vcenter), 1);
    let again: Vec<ObjectUpdate> =
        [parse(FULL), parse(RICH)].concat().into_iter().filter(|update| update.object.value != "vm-52").collect();
    vcenter.full(again);
    assert_eq!(revision(&vcenter), 1);
    assert!(vcenter.store().get(VMS, "vm-52").is_none());
    assert!(vcenter.store().get(HOSTS, "host-37").is_some());
}

#[test]
fn facts_of_guests_outlive_a_restart() {
    let mut vcenter = Vcenter::loaded();
    vcenter.world = World::restored(vcenter.store());
    let quiet = |update: &mut ObjectUpdate| update.changes.retain(|(path, _)| !path.starts_with("guest."));
    let mut again = [parse(FULL), parse(RICH)].concat();
    again.iter_mut().for_each(quiet);
    vcenter.full(again);
    assert_eq!(vcenter.vm("vm-70").guest_networks.len(), 3);
}

#[test]
fn records_come_back_from_their_text() {
    let vcenter = Vcenter::loaded();
    for (kind, id) in [(VMS, "vm-70"), (HOSTS, "host-37"), (NETWORKS, "dvs-8"), (DATASTORES, "datastore-41")] {
        let record = vcenter.store().get(kind, id).expect("it is in the store");
        let text = record.resource().save().expect("it can be written");
        let read = SPEC.kind(kind).and_then(|kind| kind.restore).and_then(|restore| restore(&text));
        assert!(read.is_some_and(|read| read.same(&**record.resource())), "{kind}/{id}");
    }
    assert!(restore::<Vm>("{}").is_some() && restore::<Host>("[").is_none());
}

#[tokio::test]
async fn things_are_found_by_name_and_by_path() {
    let vcenter = Vcenter::loaded();
    let mut found = Vec::new();
    for (kind, name) in [
        (VMS, "db"),
        (VMS, "prod/db"),
        (VMS, "/DC0/vm/prod/db"),
        (VMS, "web/1"),
        (VMS, "nothing"),
        (NETWORKS, "trunk"),
        (NETWORKS, "DC0/trunk"),
        (NETWORKS, "VM Network"),
        (DATASTORES, "vmfs1"),
        (DATASTORES, "DC0/vmfs1"),
        (HOSTS, "DC0_C0_H0"),
    ] {
        found.push(format!("{name}: {}", vcenter.find(kind, name).await));
    }
    expect![[r#"
        db: vm-70
        prod/db: vm-70
        /DC0/vm/prod/db: vm-70
        web/1: vm-52
        nothing: vms: nothing not found
        trunk: dvportgroup-20
        DC0/trunk: dvportgroup-20
        VM Network: network-6
        vmfs1: datastore-41
        DC0/vmfs1: datastore-41
        DC0_C0_H0: host-37"#]]
    .assert_eq(&found.join("\n"));
}

#[test]
fn tags_are_shared_and_change_only_whom_they_concern() {
    let mut vcenter = Vcenter::loaded();
    let tag = Tag { id: "urn:1".into(), name: "gold".into(), description: "best".into(), ..Tag::default() };
    let all = [("vm-52", vec![tag.clone()]), ("vm-70", vec![tag])];
    let found = all.into_iter().map(|(id, tags)| (MoRef::vm(id), tags)).collect();
    vcenter.world.set_tags(None, &found);
    let (mut told, _) = vcenter.tell();
    told.sort();
    assert_eq!(told, ["vms/vm-52", "vms/vm-70"]);
    assert!(Arc::ptr_eq(&vcenter.vm("vm-52").tags[0], &vcenter.vm("vm-70").tags[0]));
    assert_eq!(
        vcenter.json(VMS, "vm-70")["tags"].to_string(),
        r#"[{"id":"urn:1","description":"best","name":"gold","categoryID":"","usedBy":[]}]"#
    );
    vcenter.world.set_tags(None, &found);
    assert_eq!(vcenter.tell().0, Vec::<String>::new());
    vcenter.world.set_tags(Some(&[MoRef::vm("vm-52")]), &Default::default());
    assert_eq!(vcenter.tell().0, ["vms/vm-52"]);
    assert!(vcenter.vm("vm-52").tags.is_empty() && !vcenter.vm("vm-70").tags.is_empty());
}

#[test]
fn adapters_on_distributed_switches_have_the_speed_of_the_cards_there() {
    let mut vcenter = Vcenter::loaded();
    let vnic = r#"<HostVirtualNic><device>vmk1</device><key>vmk1</key><portgroup></portgroup><spec><ip>
        <ipAddress>10.0.0.2</ipAddress><subnetMask>255.255.255.0</subnetMask></ip><mtu>9000</mtu>
        <distributedVirtualPort><portgroupKey>key-20</portgroupKey></distributedVirtualPort></spec></HostVirtualNic>"#;
    let pnic = |name: &str, speed: u32| {
        format!(
            "<PhysicalNic><key>key-vim.host.PhysicalNic-{name}</key><linkSpeed><speedMb>{speed}</speedMb></linkSpeed></PhysicalNic>"
        )
    };
    let pnics = [pnic("vmnic0", 25000), pnic("vmnic1", 10000)].concat();
    vcenter.take(&change("HostSystem", "host-37", "config.network.pnic", Some(&pnics)));
    vcenter.take(&change("HostSystem", "host-37", "config.network.vnic", Some(vnic)));
    vcenter.tell();
    let adapters = |vcenter: &Vcenter| vcenter.json(HOSTS, "host-37")["networkAdapters"].to_string();
    let shown = r#"[{"name":"DVS0","ipAddress":"10.0.0.2","subnetMask":"255.255.255.0","linkSpeed":10000,"mtu":9000}]"#;
    assert_eq!(adapters(&vcenter), shown);

    vcenter.take(&change("VmwareDistributedVirtualSwitch", "dvs-8", "name", Some("blue")));
    let (told, _) = vcenter.tell();
    assert_eq!(told, ["hosts/host-37", "networks/dvs-8"]);
    assert_eq!(adapters(&vcenter), shown.replace("DVS0", "blue"));
}

/// A device of a VM, as a test makes it: a disk or a card by its key.
fn device(key: i32, variant: u8) -> String {
    if key >= 4000 {
        format!(
            r#"<VirtualDevice xsi:type="VirtualVmxnet3"><key>{key}</key><backing xsi:type="VirtualEthernetCardNetworkBackingInfo">
            <network type="Network">network-{variant}</network></backing><macAddress>00:50:56:00:00:{variant:02x}</macAddress></VirtualDevice>"#
        )
    } else {
        format!(
            r#"<VirtualDevice xsi:type="VirtualDisk"><key>{key}</key><backing xsi:type="VirtualDiskFlatVer2BackingInfo">
            <fileName>[ds] {key}-{variant}.vmdk</fileName></backing><controllerKey>1000</controllerKey>
            <unitNumber>{}</unitNumber></VirtualDevice>"#,
            key % 10
        )
    }
}

proptest::proptest! {
    /// Devices that are told one by one give the same VM as all of them told at once.
    #[test]
    fn single_devices_add_up_to_the_whole(steps in proptest::collection::vec((0..6_i32, proptest::option::of(0..4_u8)), 1..30)) {
        const KEYS: [i32; 6] = [2000, 2001, 2002, 4000, 4001, 4002];
        let (mut single, mut whole) = (Vcenter::new(), Vcenter::new());
        let mut devices: Vec<(i32, u8)> = Vec::new();
        single.take(&change("VirtualMachine", "vm-52", "config.hardware.device", Some("")));
        for (at, variant) in steps {
            let key = KEYS[at as usize];
            // a device that changed stands last, as the collector appends what is told of it
            devices.retain(|(known, _)| *known != key);
            devices.extend(variant.map(|variant| (key, variant)));
            let value = variant.map(|variant| device(key, variant));
            // the element itself is the value: no list around it
            let path = format!("config.hardware.device[{key}]");
            let mut update = change("VirtualMachine", "vm-52", &path, value.as_deref());
            for (_, value) in &mut update.changes {
                *value = value.take().and_then(|list| list.children.into_iter().next());
            }
            proptest::prop_assert_eq!(single.take(&update), []);
        }
        let all: String = devices.iter().map(|(key, variant)| device(*key, *variant)).collect();
        whole.take(&change("VirtualMachine", "vm-52", "config.hardware.device", Some(&all)));
        single.tell();
        whole.tell();
        proptest::prop_assert_eq!(single.vm("vm-52"), whole.vm("vm-52"));
    }
}
