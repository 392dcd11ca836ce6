//! A VM of the inventory as a [`Machine`].

use std::net::IpAddr;

use forklift_core::machine::{
    Attribute, Concern, Cpu, Disk, DiskBus, DiskUser, Firmware, FirmwareKind, GuestAddress, GuestOs, HostState,
    Machine, MachineTraits, Nic, OsFamily, PowerState, ResourceRef, Tag, Tools,
};
use forklift_inventory::{Record, Store};

use super::model::{self, Host, IpStack, Network, Vm, disk_key, pci_address};
use super::os;
use super::spec::kinds::{DATASTORES, HOSTS, NETWORKS, VMS};

/// Translates a VM's record; `None` when it is not a VM's.
pub fn machine(store: &Store, record: &Record) -> Option<Machine> {
    let vm: &Vm = record.native()?;
    let host = store.get(HOSTS, &vm.host);
    let host = host.as_ref().and_then(|record| record.native::<Host>());
    let guest = guest(vm);
    let concerns = record.verdict.concerns.iter();
    Some(Machine {
        id: record.id.to_string(),
        name: record.name.to_string(),
        uuid: vm.uuid.to_string(),
        instance_uuid: vm.instance_uuid.to_string(),
        cpu: Cpu { nested: Some(vm.nested), ..Cpu::from_count(count(vm.cpu_count), count(vm.cores_per_socket)) },
        memory: u64::from(count(vm.memory_mb)) << 20,
        firmware: Firmware { kind: FirmwareKind::parse(&vm.firmware).unwrap_or_default(), secure_boot: vm.secure_boot },
        disks: sorted(&vm.disks).into_iter().map(|d| disk(store, record, vm, d)).collect(),
        nics: vm.nics.iter().map(|n| nic(store, vm, n, guest.family)).collect(),
        guest,
        power: power(&vm.power_state),
        host: vm.host.to_string(),
        traits: MachineTraits {
            template: vm.is_template,
            disconnected: !matches!(vm.connection_state.as_str(), "" | "connected"),
            connection: vm.connection_state.to_string(),
            tools: tools(vm),
            host_state: host.map_or(HostState::Ready, host_state),
            encrypted: vm.encrypted,
            tpm: Some(vm.tpm),
            timezone: host.map(|h| h.timezone.to_string()).filter(|zone| !zone.is_empty()),
            change_tracking: vm.changes_tracked(),
            snapshots: vm.snapshots.foreign,
            migration_snapshots: vm.snapshots.ours.iter().map(ToString::to_string).collect(),
            consolidation_needed: vm.consolidation_needed,
            path: record.path.to_string(),
            ..MachineTraits::default()
        },
        concerns: concerns.filter_map(|c| serde_json::from_value::<Concern>(c.clone()).ok()).collect(),
        tags: vm
            .tags
            .iter()
            .map(|t| Tag { name: t.name.to_string(), description: t.description.to_string() })
            .collect(),
        attributes: attributes(vm),
        left_out: Vec::new(),
    })
}

/// Returns the custom attributes that have a definition.
fn attributes(vm: &Vm) -> Vec<Attribute> {
    let named = |value: &model::CustomValue| {
        let field = vm.custom_fields.iter().find(|field| field.key == value.key)?;
        Some(Attribute { name: field.name.to_string(), value: value.value.to_string() })
    };
    vm.custom_values.iter().filter_map(named).collect()
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn power(state: &str) -> PowerState {
    match state {
        // a suspended VM holds its disks, and its memory is worth something
        "poweredOn" | "suspended" => PowerState::On,
        "poweredOff" => PowerState::Off,
        _ => PowerState::Unknown,
    }
}

fn tools(vm: &Vm) -> Tools {
    let not_installed = vm.tools_version_status == "guestToolsNotInstalled" || vm.tools_status == "toolsNotInstalled";
    match vm.tools_running_status.as_str() {
        "guestToolsRunning" => Tools::Running,
        _ if not_installed => Tools::NotInstalled,
        "guestToolsNotRunning" | "guestToolsExecutingScripts" => Tools::NotRunning,
        _ => Tools::Unknown,
    }
}

fn host_state(host: &Host) -> HostState {
    if !matches!(host.connection_state.as_str(), "" | "connected") {
        HostState::Disconnected
    } else if host.in_maintenance {
        HostState::Maintenance
    } else {
        HostState::Ready
    }
}

fn guest(vm: &Vm) -> GuestOs {
    let id = if vm.guest_id.is_empty() { &vm.configured_guest_id } else { &vm.guest_id };
    GuestOs {
        id: id.to_string(),
        name: vm.guest_name.to_string(),
        host_name: vm.host_name.to_string(),
        family: os::family(id, &vm.guest_name),
    }
}

/// Returns the disks in the order in which libvirt, and so the conversion, sees them: by bus, controller and unit.
/// Upstream forgets disks on other buses; here they come last.
/// <https://github.com/libvirt/libvirt/blob/master/src/vmx/vmx.c>
fn sorted(disks: &[model::Disk]) -> Vec<&model::Disk> {
    let rank = |bus: &str| ["scsi", "sata", "ide", "nvme"].iter().position(|known| *known == bus).unwrap_or(usize::MAX);
    let mut sorted: Vec<&model::Disk> = disks.iter().collect();
    sorted.sort_by_key(|disk| (rank(&disk.bus), disk.controller_key, disk.unit_number, disk.key));
    sorted
}

fn disk(store: &Store, record: &Record, vm: &Vm, disk: &model::Disk) -> Disk {
    let shared_bus = vm.controller(disk.controller_key).is_some_and(|controller| controller.shared);
    let storage = store.get(DATASTORES, &disk.datastore.id);
    let name = disk.file.rsplit('/').next().unwrap_or_default();
    Disk {
        key: disk_key(&disk.file),
        name: disk_key(name),
        capacity: u64::try_from(disk.capacity).unwrap_or(0),
        bus: match disk.bus.as_str() {
            "sata" => DiskBus::Sata,
            "ide" => DiskBus::Ide,
            "nvme" => DiskBus::Nvme,
            _ => DiskBus::Scsi,
        },
        storage: ResourceRef::new(
            disk.datastore.id.as_str(),
            storage.map(|record| record.name.to_string()).unwrap_or_default(),
        ),
        drive_letter: disk.win_drive_letter.map(String::from).unwrap_or_default(),
        serial: disk.serial.to_string(),
        bootable: vm.boot_disk == Some(disk.key),
        shared: disk.shared || disk.hidden.multi_writer || shared_bus,
        users: if disk.shared { users(store, record, &disk.file) } else { Vec::new() },
        rdm: disk.rdm,
        independent: disk.mode.starts_with("independent"),
        encrypted: disk.hidden.encrypted,
        unsupported: unsupported(disk).to_owned(),
        changed_blocks: disk.change_tracking,
    }
}

/// Why nothing can read a disk; empty when something can.
fn unsupported(disk: &model::Disk) -> &'static str {
    if disk.hidden.memory {
        "it is in the host's persistent memory; move it to a datastore"
    } else if disk.file.is_empty() && !disk.rdm {
        "vCenter knows no file of it; look whether its datastore is there"
    } else {
        ""
    }
}

/// Returns the other VMs that have a file as a disk.
fn users(store: &Store, record: &Record, file: &str) -> Vec<DiskUser> {
    let user = |other: &std::sync::Arc<Record>| {
        let vm: &Vm = other.native().filter(|_| other.id != record.id)?;
        vm.disks.iter().any(|disk| &*disk.file == file).then(|| DiskUser {
            id: other.id.to_string(),
            name: other.name.to_string(),
            power: power(&vm.power_state),
        })
    };
    store.list(VMS).iter().filter_map(user).collect()
}

fn nic(store: &Store, vm: &Vm, nic: &model::Nic, family: OsFamily) -> Nic {
    let reports = |n: &&model::GuestNetwork| n.mac == nic.mac || n.device_config_id == nic.device_key;
    let address = |n: &model::GuestNetwork| GuestAddress {
        ip: n.ip.to_string(),
        prefix: u8::try_from(n.prefix).unwrap_or(0),
        origin: n.origin.to_string(),
        gateway: gateway(&n.ip, n.device, &vm.ip_stacks, family).unwrap_or_default().to_owned(),
        dns: n.dns.iter().flatten().map(ToString::to_string).collect(),
    };
    Nic {
        name: if nic.label.is_empty() { format!("Network adapter {}", nic.order + 1) } else { nic.label.to_string() },
        mac: nic.mac.to_string(),
        network: network(store, &nic.network),
        pci_address: pci_address(nic.slot, vm.bridges()),
        disconnected: !nic.start_connected,
        addresses: vm.guest_networks.iter().filter(reports).map(address).collect(),
    }
}

/// Returns the network that a NIC names by its id, or by its key.
fn network(store: &Store, meant: &str) -> ResourceRef {
    let by_key = || {
        let networks = store.list(NETWORKS);
        let found = networks.iter().find(|r| r.native::<Network>().is_some_and(|n| n.is_meant(&r.id, meant)));
        found.cloned()
    };
    match store.get(NETWORKS, meant).or_else(by_key) {
        Some(record) => ResourceRef::new(&*record.id, &*record.name),
        None => ResourceRef::new(meant, ""),
    }
}

/// Returns the gateway of an address: that of the default route of its family on its interface.
///
/// A router that is reachable by its link-local address only (SLAAC) counts for global addresses. Link-local and
/// unique local addresses of Linux guests have none.
fn gateway<'a>(address: &str, device: i32, stacks: &'a [IpStack], family: OsFamily) -> Option<&'a str> {
    let address: IpAddr = address.parse().ok()?;
    let is_default = |stack: &IpStack| matches!(stack.network.as_str(), "0.0.0.0" | "0.0.0.0/0" | "::" | "::/0");
    let device = device.to_string();
    let on_device = stacks.iter().filter(|stack| stack.device == device.as_str() && is_default(stack));
    let mut gateways = on_device.filter_map(|stack| {
        let gateway: IpAddr = stack.gateway.parse().ok()?;
        (gateway.is_ipv4() == address.is_ipv4()).then_some((gateway, stack.gateway.as_str()))
    });
    let IpAddr::V6(v6) = address else { return gateways.next().map(|(_, text)| text) };
    let is_global = !v6.is_unicast_link_local() && !v6.is_unique_local();
    if !is_global && family != OsFamily::Windows {
        return None;
    }
    let local = |gateway: &IpAddr| matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let gateways: Vec<_> = gateways.collect();
    let routed = gateways.iter().find(|(gateway, _)| !local(gateway));
    routed.or_else(|| gateways.first().filter(|_| is_global)).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(device: &str, network: &str, gateway: &str) -> IpStack {
        IpStack { device: device.into(), network: network.into(), gateway: gateway.into(), ..IpStack::default() }
    }

    #[test]
    fn gateways_are_those_of_the_interface_and_family() {
        let stacks = [
            stack("0", "10.0.0.0", "10.0.0.9"),
            stack("0", "0.0.0.0", "172.29.3.1"),
            stack("1", "0.0.0.0", "172.29.4.1"),
            stack("0", "::", "fe80::1"),
            stack("0", "::", "2001:db8::1"),
            stack("1", "::/0", "fe80::2"),
        ];
        for (address, device, family, expected) in [
            ("172.29.3.193", 0, OsFamily::Linux, Some("172.29.3.1")),
            ("172.29.4.7", 1, OsFamily::Windows, Some("172.29.4.1")),
            ("172.29.4.7", 2, OsFamily::Linux, None),
            ("2001:db8::97", 0, OsFamily::Linux, Some("2001:db8::1")),
            ("2001:db8::97", 1, OsFamily::Linux, Some("fe80::2")),
            ("fe80::5", 0, OsFamily::Linux, None),
            ("fd00::5", 0, OsFamily::Linux, None),
            ("fd00::5", 0, OsFamily::Windows, Some("2001:db8::1")),
            ("fd00::5", 1, OsFamily::Windows, None),
            ("x", 0, OsFamily::Linux, None),
        ] {
            assert_eq!(gateway(address, device, &stacks, family), expected, "{address} on {device}");
        }
    }

    #[test]
    fn disks_are_ordered_by_bus_controller_and_unit() {
        let disk = |key, bus: &str, controller_key, unit_number| model::Disk {
            key,
            bus: bus.into(),
            controller_key,
            unit_number,
            ..model::Disk::default()
        };
        let disks = [
            disk(3000, "ide", 200, 0),
            disk(2000, "scsi", 1001, 0),
            disk(9000, "", 0, 0),
            disk(1800, "scsi", 1000, 2),
            disk(16000, "sata", 15000, 0),
            disk(1700, "scsi", 1000, 0),
            disk(32000, "nvme", 31000, 0),
        ];
        let keys: Vec<i32> = sorted(&disks).iter().map(|disk| disk.key).collect();
        assert_eq!(keys, [1700, 1800, 2000, 16000, 3000, 32000, 9000]);
    }
}
