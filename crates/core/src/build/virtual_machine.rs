//! The VirtualMachine: a [`Machine`] as KubeVirt runs it, on the copied disks.
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use forklift_api::{annotations, labels};
use serde_json::{Map, Value, json};

use super::{openshift_template, put, source_metadata, vm_labels};
use crate::machine::{FirmwareKind, Machine, PowerState};
use crate::mapping;
use crate::names;
use crate::plan::effect::TargetObject;
use crate::plan::itinerary::Facets;
use crate::plan::state::VmState;
use crate::plan::world::{NetworkDestination, PlanFacts, PlanOptions, PlanVm, TargetPower};
use crate::template;

/// Annotation with the source's name.
const DISPLAY_NAME: &str = "openshift.io/display-name";
/// Annotation with the source's id of a renamed VM.
const ORIGINAL_ID: &str = "original-ID";

/// Builds the VirtualMachine. `claims` are the PVCs of the machine's disks, in their order.
pub fn virtual_machine(
    plan: &PlanFacts,
    vm: &PlanVm,
    machine: &Machine,
    state: &VmState,
    claims: &[String],
    target: &str,
) -> TargetObject {
    let options = &plan.options;
    let converted = plan.source.conversion && !options.skip_guest_conversion;
    let compatible = options.skip_guest_conversion && options.compatibility_mode;
    let mut labels = vm_labels(plan, vm);
    if plan.source.conversion {
        labels.insert("guestConverted".into(), json!(converted.to_string()));
    }
    let mut notes = Map::new();
    notes.insert(DISPLAY_NAME.into(), json!(machine.name));
    if target != machine.name {
        notes.insert(ORIGINAL_ID.into(), json!(machine.id));
    }
    let carried = source_metadata::metadata(&plan.source_word, machine, options.tag_mapping.as_ref());
    labels.extend(carried.labels.into_iter().map(|(key, value)| (key, json!(value))));
    notes.extend(carried.annotations.into_iter().map(|(key, value)| (key, json!(value))));
    if !carried.report.is_empty() {
        notes.insert(source_metadata::REPORT.into(), json!(json!(carried.report).to_string()));
    }
    // what KubeVirt's metrics and the console look for
    let mut pod_notes: Map<String, Value> =
        ["os", "flavor", "workload"].map(|what| (format!("vm.kubevirt.io/{what}"), json!(""))).into_iter().collect();
    let (networks, interfaces) = nics(plan, vm, machine, compatible);
    let addresses = udn_addresses(plan, machine, &interfaces);
    if !addresses.is_empty() {
        pod_notes.insert(annotations::KUBEVIRT_ADDRESSES.into(), json!(json!(addresses).to_string()));
    }
    let (volumes, disks) = disks(plan, vm, machine, boot_disk(vm, machine, state), claims);
    let input = if compatible { "usb" } else { "virtio" };
    let mut devices = json!({"inputs": [{"type": "tablet", "name": "tablet", "bus": input}]});
    put(&mut devices, "disks", disks);
    put(&mut devices, "interfaces", interfaces);
    if networks.is_empty() {
        // else KubeVirt would add a NIC on the pod network of its own
        devices["autoattachPodInterface"] = json!(false);
    }
    match machine.traits.tpm {
        Some(true) => devices["tpm"] = json!({"persistent": true}),
        // a preference would give it one, and some guests that never had one do not start with it
        Some(false) => devices["tpm"] = json!({"enabled": false}),
        None => {}
    }
    let mut domain = json!({"firmware": firmware(machine, state, options.vmware_serial), "devices": devices});
    if machine.firmware.secure_boot && firmware_kind(machine, state) == FirmwareKind::Uefi {
        domain["features"] = json!({"smm": {"enabled": true}});
    }
    if vm.instance_type.is_none() {
        domain["cpu"] = cpu(plan, vm, machine);
        domain["memory"] = json!({"guest": quantity(machine.memory)});
    }
    put(&mut domain, "clock", machine.traits.timezone.as_ref().map_or(Value::Null, |zone| json!({"timezone": zone})));
    let mut pod_labels: Map<String, Value> = options.target_labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    pod_labels.insert("app".into(), json!(target));
    let mut spec = json!({"domain": domain});
    put(&mut spec, "networks", networks);
    put(&mut spec, "volumes", volumes);
    put(&mut spec, "nodeSelector", json!(options.target_node_selector));
    put(&mut spec, "affinity", options.target_affinity.clone().unwrap_or_default());
    let mut object = json!({
        "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
        "metadata": {"name": target, "namespace": plan.target_namespace, "labels": labels, "annotations": notes},
        "spec": {
            "runStrategy": run_strategy(plan, vm, machine, state),
            "template": {"metadata": {"labels": pod_labels, "annotations": pod_notes}, "spec": spec}
        }
    });
    if let Some(instance_type) = &vm.instance_type {
        object["spec"]["instancetype"] = json!({"name": instance_type});
        let kind = plan.instance_types.as_ref().and_then(|known| known.get(instance_type));
        put(&mut object["spec"]["instancetype"], "kind", kind.cloned());
    }
    let system = state.operating_system.as_ref();
    if let Some(preference) = system.and_then(|os| plan.preferences.get(os)) {
        object["spec"]["preference"] = json!({"name": preference.name, "kind": preference.kind});
    } else if let Some(template) = system.and_then(|os| plan.templates.get(os)).filter(|_| vm.instance_type.is_none())
        && let Some(base) = openshift_template::virtual_machine(template, target)
    {
        object = openshift_template::upon(&base, &object);
    }
    TargetObject::new(object)
}

/// Returns the run strategy: the wish for the VM, then the plan's, then as the source was. A Windows guest that is waited
/// for has to run, whatever its source did: what remains of its conversion is done at its first starts.
pub fn run_strategy(plan: &PlanFacts, vm: &PlanVm, machine: &Machine, state: &VmState) -> &'static str {
    if Facets::of(plan, vm, Some(machine)).reboots {
        return "Always";
    }
    let wish = vm.target_power_state.filter(|p| *p != TargetPower::Auto).unwrap_or(plan.options.target_power_state);
    match (wish, state.restore_power_state.unwrap_or(machine.power)) {
        (TargetPower::On, _) | (TargetPower::Auto, PowerState::On) => "Always",
        (TargetPower::Off, _) | (TargetPower::Auto, PowerState::Off | PowerState::Unknown) => "Halted",
    }
}

fn firmware_kind(machine: &Machine, state: &VmState) -> FirmwareKind {
    state.firmware.as_deref().and_then(FirmwareKind::parse).unwrap_or(machine.firmware.kind)
}

/// Returns a UUID as VMware's BIOS shows it for a serial number, which licences are bound to:
/// `VMware-42 2c 6a 2a 5e a9 10 83-39 f3 3b 14 0f ff b4 44`; `None` where it is none.
fn vmware_serial(uuid: &str) -> Option<String> {
    let lengths: Vec<usize> = uuid.split('-').map(str::len).collect();
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).map(|c| c.to_ascii_lowercase()).collect();
    if lengths != [8, 4, 4, 4, 12] || digits.len() != 32 {
        return None;
    }
    let spaced = |from: usize| (from..from + 16).step_by(2).map(|at| &digits[at..at + 2]).collect::<Vec<_>>().join(" ");
    Some(format!("VMware-{}-{}", spaced(0), spaced(16)))
}

fn firmware(machine: &Machine, state: &VmState, vmware: bool) -> Value {
    let bootloader = match firmware_kind(machine, state) {
        FirmwareKind::Bios => json!({"bios": {}}),
        FirmwareKind::Uefi => json!({"efi": {"secureBoot": machine.firmware.secure_boot}}),
    };
    let mut firmware = json!({});
    let serial = if vmware { vmware_serial(&machine.uuid) } else { None };
    put(&mut firmware, "serial", serial.unwrap_or_else(|| machine.uuid.clone()));
    firmware["bootloader"] = bootloader;
    firmware
}

fn cpu(plan: &PlanFacts, vm: &PlanVm, machine: &Machine) -> Value {
    let mut cpu = json!({"sockets": machine.cpu.sockets.max(1), "cores": machine.cpu.cores.max(1)});
    if machine.cpu.threads > 0 {
        cpu["threads"] = json!(machine.cpu.threads);
    }
    put(&mut cpu, "model", machine.cpu.model.clone());
    if machine.cpu.dedicated {
        cpu["dedicatedCpuPlacement"] = json!(true);
    }
    if let Some(nested) = vm.nested_virtualization.or(plan.options.nested_virtualization).or(machine.cpu.nested) {
        let policy = if nested { "optional" } else { "disable" };
        cpu["features"] = json!([{"name": "vmx", "policy": policy}, {"name": "svm", "policy": policy}]);
    }
    cpu
}

/// Returns bytes as Kubernetes people write them: in the largest binary unit that fits without a rest.
pub fn quantity(bytes: u64) -> String {
    for (shift, unit) in [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Returns the index of the disk to boot from: the plan's root disk, else what the conversion found, else what the
/// source says, else the first.
pub fn boot_disk(vm: &PlanVm, machine: &Machine, state: &VmState) -> usize {
    vm.root_disk
        .as_deref()
        .and_then(device_number)
        .or(state.detected_boot_disk)
        .or_else(|| machine.disks.iter().position(|disk| disk.bootable))
        .filter(|at| *at < machine.disks.len())
        .unwrap_or(0)
}

/// Returns the index of a device by its name: `/dev/sda2` → 0, `/dev/vdb` → 1, `/dev/sdaa` → 26.
pub fn device_number(device: &str) -> Option<usize> {
    let name = device.strip_prefix("/dev/")?;
    let letters = ["sd", "vd", "hd", "xvd"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let letters = letters.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.is_empty() || letters.len() > 3 || !letters.bytes().all(|b| b.is_ascii_lowercase()) {
        return None;
    }
    Some(letters.bytes().fold(0, |n, b| n * 26 + usize::from(b - b'a') + 1) - 1)
}

fn disks(plan: &PlanFacts, vm: &PlanVm, machine: &Machine, boot: usize, claims: &[String]) -> (Vec<Value>, Vec<Value>) {
    let options = &plan.options;
    let as_lun = vm.rdm_as_lun.unwrap_or(options.rdm_as_lun);
    let bus = if options.skip_guest_conversion && options.compatibility_mode { "sata" } else { "virtio" };
    let mut volumes: Vec<Value> = Vec::new();
    let mut disks = Vec::new();
    for (i, (disk, claim)) in machine.disks.iter().zip(claims).enumerate() {
        let name = free(volume_name(options, vm, claim, i), &volumes, || format!("vol-{i}"));
        volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": claim}}));
        let mut entry = json!({"name": name});
        if i == boot {
            entry["bootOrder"] = json!(1);
        }
        entry["serial"] = json!(names::serial(&disk.serial, &machine.id, &disk.key));
        let lun = disk.rdm && as_lun;
        if lun {
            entry["lun"] = json!({"bus": "scsi"});
            if disk.shared && vm.scsi_reservation.unwrap_or(options.scsi_reservation) {
                entry["lun"]["reservation"] = json!(true);
            }
        } else {
            entry["disk"] = json!({"bus": bus});
        }
        if disk.shared {
            entry["shareable"] = json!(true);
            entry["cache"] = json!("none");
            if lun {
                entry["errorPolicy"] = json!("report");
            }
        }
        disks.push(entry);
    }
    (volumes, disks)
}

/// The volume's name by the VM's or the plan's template; `None` for the default.
fn volume_name(options: &PlanOptions, vm: &PlanVm, claim: &str, index: usize) -> Option<String> {
    let template = vm.volume_name_template.as_deref().or(options.volume_name_template.as_deref())?;
    templated(template, &volume_name_data(claim, index))
}

/// Returns what a volume name template can use.
pub fn volume_name_data(claim: &str, index: usize) -> template::Data {
    [("PVCName", claim.into()), ("VolumeIndex", template::Value::Number(index as i64))]
        .map(|(key, value): (&str, template::Value)| (key.to_owned(), value))
        .into()
}

/// Returns what a network name template can use. The type is `Pod` or `Multus`, as the documentation has it (upstream
/// checks plans with `Multus` and then names with `multus`).
pub fn network_name_data(destination: &NetworkDestination, index: usize) -> template::Data {
    let (namespace, name, kind) = match destination {
        NetworkDestination::Multus { namespace, name } => (namespace.as_str(), name.as_str(), "Multus"),
        NetworkDestination::Pod | NetworkDestination::Ignored => ("", "", "Pod"),
    };
    [
        ("NetworkName", name.into()),
        ("NetworkNamespace", namespace.into()),
        ("NetworkType", kind.into()),
        ("NetworkIndex", template::Value::Number(index as i64)),
    ]
    .map(|(key, value): (&str, template::Value)| (key.to_owned(), value))
    .into()
}

/// Renders a name; `None` when it is not one, which the checks of the plan say.
fn templated(template: &str, data: &template::Data) -> Option<String> {
    let rendered = template::render(template, data).ok()?;
    let name: String = rendered.trim().chars().take(names::MAX).collect();
    let name = name.trim_end_matches('-').to_owned();
    names::label_error(&name).is_none().then_some(name)
}

/// The wished name unless another one has it: KubeVirt wants them to differ.
fn free(wish: Option<String>, others: &[Value], default: impl Fn() -> String) -> String {
    wish.filter(|wish| others.iter().all(|other| other["name"] != **wish)).unwrap_or_else(default)
}

fn nics(plan: &PlanFacts, vm: &PlanVm, machine: &Machine, compatible: bool) -> (Vec<Value>, Vec<Value>) {
    let mut networks: Vec<Value> = Vec::new();
    let mut interfaces = Vec::new();
    for (i, attachment) in mapping::attachments(machine, &plan.networks).into_iter().enumerate() {
        let Some(nic) = machine.nics.get(attachment.nic) else { continue };
        let template = vm.network_name_template.as_deref().or(plan.options.network_name_template.as_deref());
        let wish = template.and_then(|template| templated(template, &network_name_data(attachment.destination, i)));
        let name = free(wish, &networks, || format!("net-{i}"));
        let mut network = json!({"name": name});
        let mut interface = json!({"name": name, "model": if compatible { "e1000e" } else { "virtio" }});
        // a primary user-defined network hands out its own addresses where it cannot be told others
        let udn = plan.udn && attachment.destination == &NetworkDestination::Pod;
        if !udn || plan.options.udn_macs {
            put(&mut interface, "macAddress", nic.mac.clone());
        }
        put(&mut interface, "pciAddress", nic.pci_address.clone());
        if nic.disconnected {
            interface["state"] = json!("down");
        }
        match attachment.destination {
            NetworkDestination::Pod => {
                network["pod"] = json!({});
                if udn {
                    interface["binding"] = json!({"name": "l2bridge"});
                } else {
                    interface["masquerade"] = json!({});
                }
            }
            NetworkDestination::Multus { namespace, name } => {
                network["multus"] = json!({"networkName": format!("{namespace}/{name}")});
                interface["bridge"] = json!({});
            }
            NetworkDestination::Ignored => continue,
        }
        networks.push(network);
        interfaces.push(interface);
    }
    (networks, interfaces)
}

/// Returns the addresses that the NICs keep on a primary user-defined network, by the names of their interfaces. Only
/// IPv4 as upstream: OVN gives out the others itself.
fn udn_addresses(plan: &PlanFacts, machine: &Machine, interfaces: &[Value]) -> BTreeMap<String, Vec<String>> {
    let options = &plan.options;
    let mut kept = BTreeMap::new();
    if !(plan.udn && options.static_udn_addresses && options.preserve_static_ips && plan.source.static_ips) {
        return kept;
    }
    for (attachment, interface) in mapping::attachments(machine, &plan.networks).into_iter().zip(interfaces) {
        let (Some(nic), Some(name)) = (machine.nics.get(attachment.nic), interface["name"].as_str()) else { continue };
        let v4 = nic.addresses.iter().map(|address| &address.ip).filter(|ip| ip.parse::<Ipv4Addr>().is_ok());
        let v4: Vec<String> = v4.cloned().collect();
        if attachment.destination == &NetworkDestination::Pod && !v4.is_empty() {
            kept.insert(name.to_owned(), v4);
        }
    }
    kept
}

/// Returns the labels by which a VirtualMachine of a plan's VM is found.
pub fn is_labelled(object: &TargetObject, plan: &PlanFacts, vm: &PlanVm) -> bool {
    object.label(labels::PLAN) == Some(&plan.uid) && object.label(labels::VM_ID) == Some(&vm.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Cpu, Disk, Firmware, Nic, ResourceRef};
    use crate::plan::world::{NetworkPair, PreferenceFact};
    use crate::source::Capabilities;
    use expect_test::expect;

    #[test]
    fn the_worked_example() {
        let plan = PlanFacts {
            name: "p1".into(),
            namespace: "ns1".into(),
            uid: "plan-uid".into(),
            migration_uid: "mig-uid".into(),
            target_namespace: "tgt".into(),
            source: Capabilities { conversion: true, ..Capabilities::default() },
            networks: vec![NetworkPair { source: ResourceRef::new("net-1", ""), destination: NetworkDestination::Pod }],
            ..PlanFacts::default()
        };
        let vm = PlanVm { id: "vm-42".into(), name: "Web_1".into(), ..PlanVm::default() };
        let machine = Machine {
            id: "vm-42".into(),
            name: "Web_1".into(),
            uuid: "VMware-42 1a".into(),
            cpu: Cpu::from_count(4, 2),
            memory: 8 << 30,
            firmware: Firmware { kind: FirmwareKind::Uefi, secure_boot: true },
            disks: vec![Disk {
                key: "[ds] web/web.vmdk".into(),
                serial: "6000C29a-1234-5678-abcd".into(),
                ..Disk::default()
            }],
            nics: vec![Nic {
                mac: "00:50:56:aa:bb:cc".into(),
                network: ResourceRef::new("net-1", "VM Network"),
                ..Nic::default()
            }],
            power: PowerState::On,
            ..Machine::default()
        };
        let built =
            virtual_machine(&plan, &vm, &machine, &VmState::new("vm-42", "Web_1"), &["claim-0".into()], "web-1");
        let text = serde_json::to_string_pretty(&built.json).unwrap_or_default();
        expect![[r#"
            {
              "apiVersion": "kubevirt.io/v1",
              "kind": "VirtualMachine",
              "metadata": {
                "name": "web-1",
                "namespace": "tgt",
                "labels": {
                  "migration": "mig-uid",
                  "plan": "plan-uid",
                  "plan-name": "p1",
                  "plan-namespace": "ns1",
                  "vmID": "vm-42",
                  "resource": "vm-config",
                  "guestConverted": "true"
                },
                "annotations": {
                  "openshift.io/display-name": "Web_1",
                  "original-ID": "vm-42"
                }
              },
              "spec": {
                "runStrategy": "Always",
                "template": {
                  "metadata": {
                    "labels": {
                      "app": "web-1"
                    },
                    "annotations": {
                      "vm.kubevirt.io/os": "",
                      "vm.kubevirt.io/flavor": "",
                      "vm.kubevirt.io/workload": ""
                    }
                  },
                  "spec": {
                    "domain": {
                      "firmware": {
                        "serial": "VMware-42 1a",
                        "bootloader": {
                          "efi": {
                            "secureBoot": true
                          }
                        }
                      },
                      "devices": {
                        "inputs": [
                          {
                            "type": "tablet",
                            "name": "tablet",
                            "bus": "virtio"
                          }
                        ],
                        "disks": [
                          {
                            "name": "vol-0",
                            "bootOrder": 1,
                            "serial": "6000C29a-1234-5678-a",
                            "disk": {
                              "bus": "virtio"
                            }
                          }
                        ],
                        "interfaces": [
                          {
                            "name": "net-0",
                            "model": "virtio",
                            "macAddress": "00:50:56:aa:bb:cc",
                            "masquerade": {}
                          }
                        ]
                      },
                      "features": {
                        "smm": {
                          "enabled": true
                        }
                      },
                      "cpu": {
                        "sockets": 2,
                        "cores": 2
                      },
                      "memory": {
                        "guest": "8Gi"
                      }
                    },
                    "networks": [
                      {
                        "name": "net-0",
                        "pod": {}
                      }
                    ],
                    "volumes": [
                      {
                        "name": "vol-0",
                        "persistentVolumeClaim": {
                          "claimName": "claim-0"
                        }
                      }
                    ]
                  }
                }
              }
            }"#]]
        .assert_eq(&text);
    }

    #[test]
    fn names_by_templates_luns_and_what_the_source_carried() {
        let mut plan = PlanFacts { source_word: "vSphere".into(), ..PlanFacts::default() };
        plan.options.volume_name_template = Some("{{.PVCName}}-{{.VolumeIndex}}".into());
        plan.options.network_name_template = Some("{{lower .NetworkType}}".into());
        plan.options.rdm_as_lun = true;
        let preference = PreferenceFact { name: "rhel.9".into(), kind: "VirtualMachineClusterPreference".into() };
        plan.preferences.insert("rhel9_64Guest".into(), preference);
        let state = VmState { operating_system: Some("rhel9_64Guest".into()), ..VmState::new("", "") };
        plan.options.scsi_reservation = true;
        let destination = NetworkDestination::Multus { namespace: "ns".into(), name: "vlan".into() };
        plan.networks = vec![NetworkPair { source: ResourceRef::new("net-1", ""), destination }];
        let nic = Nic { network: ResourceRef::new("net-1", ""), ..Nic::default() };
        let disk = |shared, rdm| Disk { key: format!("{shared}{rdm}"), shared, rdm, ..Disk::default() };
        let machine = Machine {
            disks: vec![disk(false, false), disk(true, true)],
            nics: vec![nic.clone(), nic],
            tags: vec![crate::machine::Tag { name: "cost center".into(), description: "12".into() }],
            attributes: vec![crate::machine::Attribute { name: "app".into(), value: "shop".into() }],
            ..Machine::default()
        };
        let claims = ["a".to_owned(), "b".to_owned()];
        let built = virtual_machine(&plan, &PlanVm::default(), &machine, &state, &claims, "web").json;
        let kind = "VirtualMachineClusterPreference";
        assert_eq!(built["spec"]["preference"], json!({"name": "rhel.9", "kind": kind}));
        let names = |pointer: &str| -> Vec<String> {
            let list = built.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
            list.map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let domain = "/spec/template/spec/domain/devices";
        assert_eq!(names("/spec/template/spec/volumes"), ["a-0", "b-1"]);
        assert_eq!(names(&format!("{domain}/disks")), ["a-0", "b-1"]);
        // the template gives the second NIC a name that is taken
        assert_eq!(names("/spec/template/spec/networks"), ["multus", "net-1"]);
        assert_eq!(names(&format!("{domain}/interfaces")), ["multus", "net-1"]);
        let lun = &built.pointer(&format!("{domain}/disks/1")).cloned().unwrap_or_default();
        assert_eq!(lun["lun"], json!({"bus": "scsi", "reservation": true}));
        assert_eq!((&lun["shareable"], &lun["errorPolicy"]), (&json!(true), &json!("report")));
        assert_eq!(built["metadata"]["labels"]["vsphere.forklift.konveyor.io/cost_center"], "12");
        assert_eq!(built["metadata"]["annotations"]["vsphere.forklift.konveyor.io/app"], "shop");
        assert_eq!(
            built["metadata"]["annotations"][source_metadata::REPORT],
            r#"{"tag.name.cost center":"cost_center"}"#
        );
    }

    #[test]
    fn what_a_vm_wishes_goes_before_the_plan_and_addresses_stay_on_a_udn() {
        let mut plan = PlanFacts { udn: true, ..PlanFacts::default() };
        plan.source.static_ips = true;
        plan.options.preserve_static_ips = true;
        plan.options.static_udn_addresses = true;
        plan.options.volume_name_template = Some("plan-{{.VolumeIndex}}".into());
        plan.instance_types = Some([("u1.small".to_owned(), "VirtualMachineInstancetype".to_owned())].into());
        plan.networks =
            vec![NetworkPair { source: ResourceRef::new("net-1", ""), destination: NetworkDestination::Pod }];
        let vm = PlanVm {
            volume_name_template: Some("own-{{.VolumeIndex}}".into()),
            network_name_template: Some("lan".into()),
            instance_type: Some("u1.small".into()),
            ..PlanVm::default()
        };
        let address = |ip: &str| crate::machine::GuestAddress { ip: ip.into(), ..Default::default() };
        let nic = Nic {
            mac: "00:50:56:aa:bb:cc".into(),
            network: ResourceRef::new("net-1", ""),
            addresses: vec![address("10.0.0.5"), address("fe80::1")],
            ..Nic::default()
        };
        let mut machine = Machine { disks: vec![Disk::default()], nics: vec![nic], ..Machine::default() };
        machine.traits.tpm = Some(false);
        let state = VmState::new("", "");
        let built = virtual_machine(&plan, &vm, &machine, &state, &["claim".into()], "web").json;
        let template = &built["spec"]["template"];
        assert_eq!(template["spec"]["volumes"][0]["name"], "own-0");
        assert!(template["spec"]["domain"]["devices"]["interfaces"][0].get("macAddress").is_none());
        assert_eq!(template["metadata"]["annotations"][annotations::KUBEVIRT_ADDRESSES], r#"{"lan":["10.0.0.5"]}"#);
        assert_eq!(template["spec"]["domain"]["devices"]["tpm"], json!({"enabled": false}));
        assert_eq!(built["spec"]["instancetype"], json!({"name": "u1.small", "kind": "VirtualMachineInstancetype"}));
        plan.options.static_udn_addresses = false;
        plan.options.udn_macs = true;
        machine.traits.tpm = Some(true);
        let built = virtual_machine(&plan, &vm, &machine, &state, &["claim".into()], "web").json;
        let template = &built["spec"]["template"];
        assert!(template["metadata"]["annotations"].get(annotations::KUBEVIRT_ADDRESSES).is_none());
        assert_eq!(template["spec"]["domain"]["devices"]["interfaces"][0]["macAddress"], "00:50:56:aa:bb:cc");
        assert_eq!(template["spec"]["domain"]["devices"]["tpm"], json!({"persistent": true}));
    }

    #[test]
    fn serial_numbers_as_vmware_shows_them() {
        let serial = vmware_serial("422C6a2a-5ea9-1083-39f3-3b140fffb444");
        assert_eq!(serial.as_deref(), Some("VMware-42 2c 6a 2a 5e a9 10 83-39 f3 3b 14 0f ff b4 44"));
        for none in ["", "422c6a2a5ea9108339f33b140fffb444", "422c6a2a-5ea9-1083-39f3-3b140fffb44x", "ä-b-c-d-e"] {
            assert_eq!(vmware_serial(none), None, "{none}");
        }
        let machine = Machine { uuid: "422c6a2a-5ea9-1083-39f3-3b140fffb444".into(), ..Machine::default() };
        let serial = |vmware| firmware(&machine, &VmState::new("", ""), vmware)["serial"].clone();
        assert_eq!((serial(false), serial(true).as_str().map(str::len)), (json!(machine.uuid), Some(54)));
    }

    #[test]
    fn a_template_of_the_target_counts_where_there_is_no_preference() {
        let base = json!({"kind": "VirtualMachine", "metadata": {"name": "${NAME}"},
            "spec": {"template": {"spec": {"evictionStrategy": "LiveMigrate"}}}});
        let mut plan = PlanFacts::default();
        plan.templates.insert("rhel9_64Guest".into(), json!({"objects": [base]}));
        let state = VmState { operating_system: Some("rhel9_64Guest".into()), ..VmState::new("", "") };
        let strategy = |plan: &PlanFacts, vm: &PlanVm| {
            let built = virtual_machine(plan, vm, &Machine::default(), &state, &[], "web").json;
            assert_eq!(built["metadata"]["name"], "web");
            built["spec"]["template"]["spec"]["evictionStrategy"].clone()
        };
        assert_eq!(strategy(&plan, &PlanVm::default()), "LiveMigrate");
        let sized = PlanVm { instance_type: Some("u1.small".into()), ..PlanVm::default() };
        assert_eq!(strategy(&plan, &sized), Value::Null);
        plan.preferences.insert("rhel9_64Guest".into(), PreferenceFact::default());
        assert_eq!(strategy(&plan, &PlanVm::default()), Value::Null);
    }

    #[test]
    fn strategies() {
        let vm = |wish| PlanVm { target_power_state: wish, ..PlanVm::default() };
        let mut plan = PlanFacts::default();
        let mut state = VmState::new("", "");
        let machine = Machine::default();
        assert_eq!(run_strategy(&plan, &vm(None), &machine, &state), "Halted");
        state.restore_power_state = Some(PowerState::On);
        assert_eq!(run_strategy(&plan, &vm(None), &machine, &state), "Always");
        plan.options.target_power_state = TargetPower::Off;
        assert_eq!(run_strategy(&plan, &vm(None), &machine, &state), "Halted");
        assert_eq!(run_strategy(&plan, &vm(Some(TargetPower::Auto)), &machine, &state), "Halted");
        assert_eq!(run_strategy(&plan, &vm(Some(TargetPower::On)), &machine, &state), "Always");
    }

    #[test]
    fn devices() {
        for (device, number) in [
            ("/dev/sda", Some(0)),
            ("/dev/sdb", Some(1)),
            ("/dev/sdz", Some(25)),
            ("/dev/sda5", Some(0)),
            ("/dev/sdaa", Some(26)),
            ("/dev/sd", None),
            ("test", None),
        ] {
            assert_eq!(device_number(device), number, "{device}");
        }
    }

    #[test]
    fn quantities() {
        for (bytes, text) in [(8 << 30, "8Gi"), (1536 << 20, "1536Mi"), (1000, "1000"), (0, "0"), (512 << 10, "512Ki")]
        {
            assert_eq!(quantity(bytes), text);
        }
    }
}
