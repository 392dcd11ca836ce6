//! What the tools in the guest report: addresses, routes, filesystems.

use serde::{Deserialize, Serialize};

use super::Word;
use super::devices::int;
use super::vm::is_empty;
use crate::vsphere::vim::Element;

/// An address of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestNetwork {
    /// Place of the interface in the guest's list.
    pub device: i32,
    /// Device key of the card; -1 where there is none.
    pub device_config_id: i32,
    /// MAC address, lower case.
    pub mac: Box<str>,
    /// The address.
    pub ip: Box<str>,
    /// `manual`, `dhcp`, `linklayer` …; empty when the guest does not say.
    pub origin: Word,
    /// Prefix length.
    pub prefix: i32,
    /// DNS servers; `None` when nothing is said about DNS.
    pub dns: Option<Box<[Word]>>,
    /// Name of the network.
    pub network: Word,
}

/// A route with a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpStack {
    /// Place of the interface in the guest's list.
    pub device: Word,
    /// The gateway.
    pub gateway: Word,
    /// The network that it leads to.
    pub network: Word,
    /// Prefix length of the network.
    pub prefix: i32,
    /// DNS servers; `None` when nothing is said about DNS.
    pub dns: Option<Box<[Word]>>,
}

/// A filesystem of the guest; JSON has upstream's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuestDisk {
    /// Device key of the disk it is on; 0 when the guest does not say.
    pub key: i32,
    /// Mount point or drive.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub disk_path: Word,
    /// Bytes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub capacity: i64,
    /// Bytes that are free.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub free_space: i64,
    /// `NTFS`, `ext4` …
    #[serde(default, skip_serializing_if = "is_empty")]
    pub filesystem_type: Word,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn dns(config: Option<&Element>) -> Option<Box<[Word]>> {
    Some(config?.all("ipAddress").map(|address| Word::new(&address.text)).collect())
}

/// Reads `guest.net`: an entry for each address.
pub(super) fn networks(nics: &Element) -> Box<[GuestNetwork]> {
    let addresses = |(device, nic): (i32, &Element)| -> Vec<GuestNetwork> {
        let (mac, network) = (nic.text("macAddress").unwrap_or_default(), nic.text("network").unwrap_or_default());
        let dns = dns(nic.get("dnsConfig"));
        let address = |ip: &Element| GuestNetwork {
            device,
            device_config_id: int(nic, "deviceConfigId"),
            mac: mac.to_ascii_lowercase().into(),
            ip: ip.text("ipAddress").unwrap_or_default().into(),
            origin: ip.text("origin").unwrap_or_default().into(),
            prefix: int(ip, "prefixLength"),
            dns: dns.clone(),
            network: network.into(),
        };
        nic.get("ipConfig").into_iter().flat_map(|config| config.all("ipAddress")).map(address).collect()
    };
    (0..).zip(nics.items()).flat_map(addresses).collect()
}

/// Reads `guest.ipStack`: an entry for each route with a gateway.
pub(super) fn ip_stacks(stacks: &Element) -> Box<[IpStack]> {
    let routes = |stack: &Element| -> Vec<IpStack> {
        let dns = dns(stack.get("dnsConfig"));
        let route = |route: &Element| {
            let gateway = route.text("gateway.ipAddress").filter(|address| !address.is_empty())?;
            Some(IpStack {
                device: route.text("gateway.device").unwrap_or_default().into(),
                gateway: gateway.into(),
                network: route.text("network").unwrap_or_default().into(),
                prefix: int(route, "prefixLength"),
                dns: dns.clone(),
            })
        };
        stack.get("ipRouteConfig").into_iter().flat_map(|config| config.all("ipRoute")).filter_map(route).collect()
    };
    stacks.items().flat_map(routes).collect()
}

/// Reads `guest.disk`.
pub(super) fn disks(disks: &Element) -> Box<[GuestDisk]> {
    let disk = |disk: &Element| GuestDisk {
        // the guest says at least one, or none at all
        key: int(disk, "mappings.key"),
        disk_path: disk.text("diskPath").unwrap_or_default().into(),
        capacity: disk.int("capacity").unwrap_or(0),
        free_space: disk.int("freeSpace").unwrap_or(0),
        filesystem_type: disk.text("filesystemType").unwrap_or_default().into(),
    };
    disks.items().map(disk).collect()
}
