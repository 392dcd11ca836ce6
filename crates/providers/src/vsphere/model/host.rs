//! Hosts, with the networking from which the adapters for a migration are chosen.

use serde::{Deserialize, Serialize};

use super::devices::int;
use super::places::{set_name, truth, unknown, word};
use super::{Partial, Ref, Tracked, Word};
use crate::vsphere::vim::Element;

/// An ESXi host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Host {
    /// Name: an address or a host name.
    pub name: Box<str>,
    /// Its cluster, or the compute resource around it.
    pub parent: Ref,
    /// `green`, `yellow`, `red`, `gray`.
    pub status: Word,
    /// `connected`, `notResponding`, `disconnected`.
    pub connection_state: Word,
    /// In maintenance.
    pub in_maintenance: bool,
    /// Address of the vCenter that manages it.
    pub management_server: Word,
    /// Addresses for management.
    pub management_addresses: Box<[Box<str>]>,
    /// Thumbprint of its certificate (SHA-1).
    pub thumbprint: Box<str>,
    /// Time zone of its clock.
    pub timezone: Word,
    /// Sockets.
    pub cpu_sockets: i32,
    /// Cores in all.
    pub cpu_cores: i32,
    /// Bytes.
    pub memory: i64,
    /// `VMware ESXi`.
    pub product_name: Word,
    /// `8.0.3`.
    pub product_version: Word,
    /// Model of the machine.
    pub model: Word,
    /// Its vendor.
    pub vendor: Word,
    /// Physical cards, fastest first.
    pub pnics: Box<[PhysicalNic]>,
    /// VMkernel adapters, largest MTU first.
    pub vnics: Box<[VirtualNic]>,
    /// Port groups.
    pub port_groups: Box<[PortGroup]>,
    /// Switches.
    pub switches: Box<[Switch]>,
    /// Networks.
    pub networks: Box<[Ref]>,
    /// Datastores.
    pub datastores: Box<[Ref]>,
    /// Adapters that a migration may use, best first; made from the networking of the host and its switches.
    pub adapters: Box<[Adapter]>,
    /// SCSI disks.
    pub scsi_disks: Box<[ScsiDisk]>,
    /// Adapters for storage.
    pub hbas: Box<[Hba]>,
    /// Which LUNs are seen by which adapter.
    pub topology: Box<[ScsiTopology]>,
    /// The manager of its advanced options.
    pub advanced_options: Ref,
    /// VMs can be moved to and from it.
    pub vmotion: bool,
    /// Their disks too.
    pub storage_vmotion: bool,
}

/// A physical network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PhysicalNic {
    /// Key within the host.
    pub key: Box<str>,
    /// Mbit/s; 0 when the link is down.
    pub link_speed: i32,
}

/// A VMkernel adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualNic {
    /// Key within the host.
    pub key: Box<str>,
    /// `vmk0`.
    pub device: Box<str>,
    /// Name of its port group.
    #[serde(rename = "portGroup")]
    pub port_group: Word,
    /// Key of its distributed port group.
    #[serde(rename = "dPortGroup")]
    pub distributed_port_group: Word,
    /// IPv4 address.
    #[serde(rename = "ipAddress")]
    pub address: Box<str>,
    /// IPv6 addresses; `None` without IPv6.
    #[serde(rename = "ipV6Address")]
    pub addresses_v6: Option<Box<[Box<str>]>>,
    /// Mask of the IPv4 network.
    #[serde(rename = "subnetMask")]
    pub subnet_mask: Word,
    /// Largest packet, in bytes.
    pub mtu: i32,
}

/// A port group of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortGroup {
    /// Key within the host.
    pub key: Box<str>,
    /// Name.
    pub name: Word,
    /// Key of its switch.
    #[serde(rename = "vSwitch")]
    pub switch: Word,
    /// VLAN; 0 for none, 4095 for all.
    #[serde(rename = "vlanId")]
    pub vlan: i32,
}

/// A switch of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Key within the host.
    pub key: Word,
    /// Name.
    pub name: Word,
    /// Keys of its port groups.
    #[serde(rename = "portGroups")]
    pub port_groups: Box<[Box<str>]>,
    /// Keys of its physical cards.
    #[serde(rename = "pNICs")]
    pub pnics: Box<[Box<str>]>,
}

/// An adapter that a migration may use; JSON has upstream's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adapter {
    /// Name of its port group or distributed switch.
    pub name: Word,
    /// IPv4 address.
    pub ip_address: Box<str>,
    /// Mask of the IPv4 network.
    pub subnet_mask: Word,
    /// Mbit/s.
    pub link_speed: i32,
    /// Largest packet, in bytes.
    pub mtu: i32,
}

/// A SCSI disk of a host; JSON has upstream's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScsiDisk {
    /// `naa.…`
    pub canonical_name: Box<str>,
    /// Vendor.
    pub vendor: Word,
    /// Model.
    pub model: Word,
    /// Key within the host.
    pub key: Box<str>,
}

/// An adapter for storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hba {
    /// `vmhba64`.
    pub device: Word,
    /// `FibreChannel`, `iSCSI` … or `Unknown`.
    pub protocol: Word,
    /// Model.
    pub model: Word,
    /// Key within the host.
    pub key: Box<str>,
}

/// What an adapter for storage sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScsiTopology {
    /// Key of the adapter.
    pub hba: Box<str>,
    /// Keys of the LUNs.
    pub luns: Box<[Box<str>]>,
}

impl Tracked for Host {
    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial> {
        let number = || value.and_then(|v| v.int("")).unwrap_or(0);
        let small = || i32::try_from(number()).unwrap_or(0);
        match path {
            "name" => set_name(&mut self.name, value),
            "parent" => self.parent = Ref::read(value),
            "overallStatus" => self.status = word(value),
            "runtime.connectionState" => self.connection_state = word(value),
            "config.product.name" => keep(&mut self.product_name, value),
            "config.product.version" => keep(&mut self.product_version, value),
            "summary.config.sslThumbprint" => {
                self.thumbprint = value.map(|v| v.text.as_str().into()).unwrap_or_default()
            }
            "config.dateTimeInfo.timeZone.name" => keep(&mut self.timezone, value),
            "summary.managementServerIp" => self.management_server = word(value),
            "summary.runtime.inMaintenanceMode" => self.in_maintenance = truth(value),
            "summary.hardware.numCpuPkgs" => self.cpu_sockets = small(),
            "summary.hardware.numCpuCores" => self.cpu_cores = small(),
            "summary.hardware.memorySize" => self.memory = number(),
            "datastore" => self.datastores = Ref::list(value),
            "network" => self.networks = Ref::list(value),
            "config.network.vswitch" => set_list(&mut self.switches, value, switch),
            "config.network.portgroup" => set_list(&mut self.port_groups, value, port_group),
            "config.network.pnic" => {
                set_list(&mut self.pnics, value, pnic);
                self.pnics.sort_by_key(|nic| std::cmp::Reverse(nic.link_speed));
            }
            "config.network.vnic" => {
                set_list(&mut self.vnics, value, vnic);
                self.vnics.sort_by_key(|nic| std::cmp::Reverse(nic.mtu));
            }
            "config.virtualNicManagerInfo.netConfig" => {
                if let Some(value) = value {
                    self.management_addresses = management(value);
                }
            }
            "config.storageDevice.scsiLun" => {
                if let Some(value) = value {
                    self.scsi_disks = value.items().filter(|lun| lun.is_a("HostScsiDisk")).map(scsi_disk).collect();
                }
            }
            "config.storageDevice.hostBusAdapter" => set_list(&mut self.hbas, value, hba),
            "config.storageDevice.scsiTopology.adapter" => set_list(&mut self.topology, value, topology),
            "configManager.advancedOption" => self.advanced_options = Ref::read(value),
            "hardware.systemInfo.model" => keep(&mut self.model, value),
            "hardware.systemInfo.vendor" => keep(&mut self.vendor, value),
            "capability.vmotionSupported" => self.vmotion = truth(value),
            "capability.storageVMotionSupported" => self.storage_vmotion = truth(value),
            _ => return unknown(path),
        }
        Ok(())
    }

    fn place(&self) -> (&str, &Ref) {
        (&self.name, &self.parent)
    }

    /// While a host does not answer, its vCenter knows nothing of its configuration: what was known stays.
    fn entered(&self) -> Self {
        Self { thumbprint: Box::default(), management_server: Word::default(), ..self.clone() }
    }
}

/// Sets what a host says of itself; it stays while the host does not answer.
fn keep(known: &mut Word, value: Option<&Element>) {
    if value.is_some() {
        *known = word(value);
    }
}

fn set_list<T>(known: &mut Box<[T]>, value: Option<&Element>, read: fn(&Element) -> T) {
    if let Some(value) = value {
        *known = value.items().map(read).collect();
    }
}

fn text(element: &Element, path: &str) -> Box<str> {
    element.text(path).unwrap_or_default().trim().into()
}

fn texts(element: &Element, name: &str) -> Box<[Box<str>]> {
    element.all(name).map(|item| item.text.as_str().into()).collect()
}

fn words(element: &Element, path: &str) -> Word {
    Word::new(element.text(path).unwrap_or_default().trim())
}

fn switch(switch: &Element) -> Switch {
    Switch {
        key: words(switch, "key"),
        name: words(switch, "name"),
        port_groups: texts(switch, "portgroup"),
        pnics: texts(switch, "pnic"),
    }
}

fn port_group(group: &Element) -> PortGroup {
    PortGroup {
        key: text(group, "key"),
        name: words(group, "spec.name"),
        switch: words(group, "vswitch"),
        vlan: int(group, "spec.vlanId"),
    }
}

fn pnic(nic: &Element) -> PhysicalNic {
    PhysicalNic { key: text(nic, "key"), link_speed: int(nic, "linkSpeed.speedMb") }
}

fn vnic(nic: &Element) -> VirtualNic {
    let v6 =
        nic.get("spec.ip.ipV6Config").map(|config| config.all("ipV6Address").map(|a| text(a, "ipAddress")).collect());
    VirtualNic {
        key: text(nic, "key"),
        device: text(nic, "device"),
        port_group: words(nic, "portgroup"),
        distributed_port_group: words(nic, "spec.distributedVirtualPort.portgroupKey"),
        address: text(nic, "spec.ip.ipAddress"),
        addresses_v6: v6.filter(|list: &Box<[Box<str>]>| !list.is_empty()),
        subnet_mask: words(nic, "spec.ip.subnetMask"),
        mtu: int(nic, "spec.mtu"),
    }
}

fn management(configs: &Element) -> Box<[Box<str>]> {
    let mut found = Vec::new();
    for config in configs.items().filter(|config| config.text("nicType") == Some("management")) {
        let selected: Vec<&str> = config.all("selectedVnic").map(|key| key.text.as_str()).collect();
        for nic in config.all("candidateVnic") {
            let address = text(nic, "spec.ip.ipAddress");
            if !address.is_empty() && nic.text("key").is_some_and(|key| selected.contains(&key)) {
                found.push(address);
            }
        }
    }
    found.into()
}

fn scsi_disk(disk: &Element) -> ScsiDisk {
    ScsiDisk {
        canonical_name: text(disk, "canonicalName"),
        vendor: words(disk, "vendor"),
        model: words(disk, "model"),
        key: text(disk, "key"),
    }
}

fn hba(hba: &Element) -> Hba {
    let protocol = match hba.xsi_type.as_deref().unwrap_or_default() {
        "HostFibreChannelHba" => "FibreChannel",
        "HostFibreChannelOverEthernetHba" => "FCoE",
        "HostInternetScsiHba" => "iSCSI",
        "HostParallelScsiHba" => "ParallelSCSI",
        "HostSerialAttachedHba" => "SAS",
        "HostPcieHba" => "PCIe",
        "HostRdmaHba" => "RDMA",
        "HostTcpHba" => "TCP",
        _ => "Unknown",
    };
    Hba { device: words(hba, "device"), protocol: protocol.into(), model: words(hba, "model"), key: text(hba, "key") }
}

fn topology(adapter: &Element) -> ScsiTopology {
    let luns = adapter.all("target").filter_map(|target| target.text("lun.scsiLun")).map(Into::into).collect();
    ScsiTopology { hba: text(adapter, "adapter"), luns }
}
