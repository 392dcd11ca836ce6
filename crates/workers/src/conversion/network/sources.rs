//! Reads interface names and addresses out of the ways in which Linux guests configure their network.

use std::net::IpAddr;

use super::{Interface, is_interface_name, mac};
use crate::conversion::guest_files::GuestFiles;

/// The files that are looked at, as libguestfs' glob takes them.
pub const PATTERNS: &[&str] = &[
    "/etc/network/interfaces",
    "/etc/network/interfaces.d/*",
    "/etc/sysconfig/network-scripts/ifcfg-*",
    "/etc/sysconfig/network/ifcfg-*",
    "/etc/NetworkManager/system-connections/*",
    "/etc/netplan/*.yaml",
    "/etc/systemd/network/*.network",
    "/var/lib/dhcp/dhclient*.leases",
    "/var/lib/dhclient/*.lease*",
    "/var/lib/NetworkManager/*.lease",
    "/var/lib/wicked/lease-*.xml",
    super::RULES_PATH,
];

/// All interfaces that the guest's files name, virtual ones left out.
pub fn interfaces(guest: &GuestFiles) -> Vec<Interface> {
    let mut all: Vec<Interface> = Vec::new();
    for (path, text) in guest.iter() {
        let file_name = path.rsplit('/').next().unwrap_or_default();
        let found = if path.starts_with("/etc/network/") {
            ifupdown(text)
        } else if file_name.starts_with("ifcfg-") {
            ifcfg(file_name, text)
        } else if path.starts_with("/etc/NetworkManager/") {
            keyfile(text)
        } else if path.starts_with("/etc/netplan/") {
            netplan(text)
        } else if path.starts_with("/etc/systemd/network/") {
            networkd(text)
        } else if path.contains("lease") {
            lease(file_name, text)
        } else {
            Vec::new()
        };
        for mut interface in found {
            interface.file = path.to_owned();
            if is_interface_name(&interface.name) && !is_virtual(&interface.name) {
                all.push(interface);
            }
        }
    }
    all
}

/// Loopback, bridges, bonds, VLANs and the like have no card of their own.
fn is_virtual(name: &str) -> bool {
    const STARTS: &[&str] =
        &["lo", "br", "bond", "docker", "veth", "virbr", "vlan", "tun", "tap", "wg", "team", "dummy"];
    name.contains('.')
        || STARTS.iter().any(|s| {
            name.strip_prefix(s)
                .is_some_and(|rest| rest.is_empty() || !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        })
}

fn address(text: &str) -> Option<IpAddr> {
    text.trim().trim_matches(['"', '\'', ';']).split(['/', ',', ' ']).next().and_then(|a| a.parse().ok())
}

/// Adds what one place says about a name to what another said.
fn merge(all: &mut Vec<Interface>, name: &str) -> usize {
    all.iter().position(|i| i.name == name).unwrap_or_else(|| {
        all.push(Interface { name: name.into(), ..Interface::default() });
        all.len() - 1
    })
}

/// `/etc/network/interfaces` of Debian: `iface ens192 inet static`, then indented options.
fn ifupdown(text: &str) -> Vec<Interface> {
    let mut all = Vec::new();
    let mut current = None;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            // an alias (ens192:1) belongs to its interface
            (Some("iface"), Some(name)) => current = Some(merge(&mut all, name.split(':').next().unwrap_or(name))),
            (Some("auto" | "allow-hotplug" | "mapping" | "source" | "source-directory"), _) => current = None,
            (Some("address"), Some(value)) => {
                if let Some(index) = current {
                    all[index].addresses.extend(address(value));
                }
            }
            (Some("hwaddress"), Some(value)) => {
                if let Some(index) = current {
                    all[index].mac = mac(value).or_else(|| words.next().and_then(mac));
                }
            }
            _ => {}
        }
    }
    all
}

/// Red Hat's and SUSE's `ifcfg-ens192`: shell variables.
fn ifcfg(file_name: &str, text: &str) -> Vec<Interface> {
    let mut interface = Interface { name: file_name.trim_start_matches("ifcfg-").into(), ..Interface::default() };
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']);
        match key {
            "DEVICE" if !value.is_empty() => interface.name = value.into(),
            "HWADDR" => interface.mac = mac(value),
            "TYPE" if !matches!(value, "Ethernet" | "") => return Vec::new(),
            k if k.starts_with("IPADDR") || k == "IPV6ADDR" => interface.addresses.extend(address(value)),
            _ => {}
        }
    }
    vec![interface]
}

/// NetworkManager's keyfiles.
fn keyfile(text: &str) -> Vec<Interface> {
    let mut interface = Interface::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else {
            continue;
        };
        match key {
            "interface-name" => interface.name = value.trim().into(),
            "mac-address" => interface.mac = mac(value),
            "type" if !matches!(value, "ethernet" | "802-3-ethernet") => return Vec::new(),
            k if k.starts_with("address") && k[7..].bytes().all(|b| b.is_ascii_digit()) => {
                interface.addresses.extend(address(value));
            }
            _ => {}
        }
    }
    if interface.name.is_empty() { Vec::new() } else { vec![interface] }
}

/// netplan's YAML, read by its indentation: the names below `ethernets:`, and what stands below each.
fn netplan(text: &str) -> Vec<Interface> {
    let mut all: Vec<Interface> = Vec::new();
    let (mut ethernets, mut name_indent, mut child_indent) = (None, None, None);
    let mut in_addresses = false;
    let mut in_match = None;
    for line in text.lines() {
        let line = line.split(" #").next().unwrap_or_default();
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if content == "ethernets:" {
            (ethernets, name_indent) = (Some(indent), None);
            continue;
        }
        let Some(outer) = ethernets else { continue };
        if indent <= outer {
            ethernets = None;
            continue;
        }
        if *name_indent.get_or_insert(indent) == indent {
            all.push(Interface {
                name: content.trim_end_matches(':').trim_matches(['"', '\'']).into(),
                ..Interface::default()
            });
            (in_addresses, in_match, child_indent) = (false, None, None);
            continue;
        }
        let child = *child_indent.get_or_insert(indent);
        let Some(current) = all.last_mut() else {
            continue;
        };
        if in_match.is_some_and(|m| indent <= m) {
            in_match = None;
        }
        let (key, value) = content.split_once(": ").unwrap_or((content.trim_end_matches(':'), ""));
        match key {
            "addresses" => {
                // nameservers have addresses too: only those directly below the interface count
                in_addresses = indent == child;
                for item in value.trim_matches(['[', ']']).split(',').filter(|_| in_addresses) {
                    current.addresses.extend(address(item));
                }
            }
            "match" => (in_match, in_addresses) = (Some(indent), false),
            "macaddress" if in_match.is_some() => current.mac = mac(value),
            "set-name" => current.name = value.trim_matches(['"', '\'']).into(),
            item if in_addresses && item.starts_with("- ") => current.addresses.extend(address(&item[2..])),
            "nameservers" | "routes" => in_addresses = false,
            item if !item.starts_with('-') => in_addresses = false,
            _ => {}
        }
    }
    all
}

/// systemd-networkd's `.network` files.
fn networkd(text: &str) -> Vec<Interface> {
    let mut interface = Interface::default();
    for line in text.lines() {
        let Some((key, value)) = line.trim().split_once('=') else {
            continue;
        };
        match key.trim() {
            "Name" if interface.name.is_empty() => interface.name = value.trim().into(),
            "MACAddress" => interface.mac = mac(value),
            "Address" => interface.addresses.extend(address(value)),
            _ => {}
        }
    }
    if interface.name.is_empty() { Vec::new() } else { vec![interface] }
}

/// Leases of dhclient, NetworkManager and wicked: an address that the interface had.
fn lease(file_name: &str, text: &str) -> Vec<Interface> {
    let mut all = Vec::new();
    let mut current = None;
    if let Some(rest) = file_name.strip_prefix("lease-") {
        let name = rest.split("-dhcp").next().unwrap_or(rest);
        let index = merge(&mut all, name);
        for part in text.split("<address>").skip(1) {
            all[index].addresses.extend(part.split('<').next().and_then(address));
        }
        return all;
    }
    // internal-<uuid>-<interface>.lease of NetworkManager: key=value
    if let Some(name) = file_name.strip_suffix(".lease").and_then(|n| n.strip_prefix("internal-")) {
        let index = merge(&mut all, name.rsplit('-').next().unwrap_or(name));
        for line in text.lines() {
            all[index].addresses.extend(line.strip_prefix("ADDRESS=").and_then(address));
        }
        return all;
    }
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("interface ") {
            current = Some(merge(&mut all, name.trim_matches(['"', ';'])));
        } else if let (Some(value), Some(index)) = (line.strip_prefix("fixed-address "), current) {
            // the last lease of a file is the valid one
            all[index].addresses = address(value).into_iter().collect();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, name: &str, addresses: &[&str], mac: Option<&str>) {
        let found = interfaces(&GuestFiles::of(&[(path, text)]));
        let expected = Interface {
            name: name.into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            mac: mac.map(str::to_owned),
            file: path.into(),
        };
        assert_eq!(found, [expected], "{path}");
    }

    #[test]
    fn each_way_of_configuring_is_read() {
        check(
            "/etc/network/interfaces",
            "auto lo\niface lo inet loopback\niface ens192 inet static\n  address 10.0.0.2\n  netmask 255.255.255.0\niface ens192 inet6 static\n  address fd00::2/64\n",
            "ens192",
            &["10.0.0.2", "fd00::2"],
            None,
        );
        check(
            "/etc/sysconfig/network-scripts/ifcfg-lan",
            "TYPE=Ethernet\nDEVICE='ens224'\nIPADDR=\"10.73.213.21\"\nHWADDR=\"00:50:56:A0:E3:FF\"\n",
            "ens224",
            &["10.73.213.21"],
            Some("00:50:56:a0:e3:ff"),
        );
        check(
            "/etc/sysconfig/network/ifcfg-eth0",
            "BOOTPROTO='static'\nIPADDR='192.168.1.1/24'\n",
            "eth0",
            &["192.168.1.1"],
            None,
        );
        check(
            "/etc/NetworkManager/system-connections/x.nmconnection",
            "[connection]\ntype=ethernet\ninterface-name=ens33\n[ethernet]\nmac-address=00:50:56:AA:00:01\n[ipv4]\naddress1=10.1.1.1/24,10.1.1.254\naddress2=10.1.1.2/24\naddresses-x=9\n",
            "ens33",
            &["10.1.1.1", "10.1.1.2"],
            Some("00:50:56:aa:00:01"),
        );
        check(
            "/etc/netplan/50.yaml",
            "network:\n  version: 2\n  ethernets:\n    ens192:\n      dhcp4: false\n      addresses:\n        - 10.2.0.5/24\n        - \"fd00::5/64\"\n      nameservers:\n        addresses: [10.2.0.1]\n      routes:\n        - to: default\n          via: 10.2.0.1\n",
            "ens192",
            &["10.2.0.5", "fd00::5"],
            None,
        );
        check(
            "/etc/netplan/60.yaml",
            "network:\n  ethernets:\n    id0:\n      match:\n        macaddress: \"00:50:56:00:00:07\"\n      set-name: lan0\n      addresses: [10.3.0.5/24, 10.3.0.6/24]\n",
            "lan0",
            &["10.3.0.5", "10.3.0.6"],
            Some("00:50:56:00:00:07"),
        );
        check(
            "/etc/systemd/network/10.network",
            "[Match]\nName=ens160\n\n[Network]\nAddress=10.4.0.9/16\n",
            "ens160",
            &["10.4.0.9"],
            None,
        );
        check(
            "/var/lib/dhcp/dhclient.ens3.leases",
            "lease {\n  interface \"ens3\";\n  fixed-address 10.5.0.1;\n}\nlease {\n  interface \"ens3\";\n  fixed-address 10.5.0.2;\n}\n",
            "ens3",
            &["10.5.0.2"],
            None,
        );
        check(
            "/var/lib/NetworkManager/internal-5fa9-ens192.lease",
            "ADDRESS=10.6.0.4\nNETMASK=255.0.0.0\n",
            "ens192",
            &["10.6.0.4"],
            None,
        );
        check(
            "/var/lib/wicked/lease-eth0-dhcp-ipv4.xml",
            "<lease><address>10.7.0.3</address></lease>",
            "eth0",
            &["10.7.0.3"],
            None,
        );
    }

    #[test]
    fn virtual_interfaces_have_no_card() {
        let text = "iface br0 inet static\n address 10.0.0.1\niface bond0 inet dhcp\niface ens192.100 inet dhcp\niface lo inet loopback\n";
        assert_eq!(interfaces(&GuestFiles::of(&[("/etc/network/interfaces", text)])), []);
        assert!(!is_virtual("local0") && !is_virtual("broadcom") && is_virtual("br-lan") && is_virtual("docker0"));
        assert_eq!(
            interfaces(&GuestFiles::of(&[("/etc/sysconfig/network-scripts/ifcfg-x", "TYPE=Bridge\nDEVICE=x\n")])),
            []
        );
    }
}
