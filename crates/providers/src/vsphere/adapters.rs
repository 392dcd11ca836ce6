//! The adapters of a host that a migration may use, with the speed of the cards behind them.

use std::collections::HashMap;

use super::model::{Adapter, Host, Network, VirtualNic, Word};

/// Networks by their ids, and port groups by their keys.
pub struct Networks<'a>(HashMap<&'a str, &'a Network>);

impl<'a> Networks<'a> {
    /// Returns the table of these networks.
    pub fn new(networks: impl Iterator<Item = (&'a str, &'a Network)>) -> Self {
        let mut table = HashMap::new();
        for (id, network) in networks {
            table.insert(id, network);
            if !network.key.is_empty() {
                table.entry(network.key.as_str()).or_insert(network);
            }
        }
        Self(table)
    }

    fn get(&self, id: &str) -> Option<&'a Network> {
        self.0.get(id).copied()
    }
}

/// Returns the adapters of a host: one for each VMkernel adapter, fastest first, then by the largest packet.
pub fn adapters(id: &str, host: &Host, networks: &Networks<'_>) -> Box<[Adapter]> {
    let adapter = |nic: &VirtualNic| {
        let (name, link_speed) = if !nic.port_group.is_empty() {
            standard(host, nic)
        } else if !nic.distributed_port_group.is_empty() {
            distributed(id, host, nic, networks)
        } else {
            Default::default()
        };
        Adapter {
            name,
            ip_address: nic.address.clone(),
            subnet_mask: nic.subnet_mask.clone(),
            link_speed,
            mtu: nic.mtu,
        }
    };
    let mut found: Box<[Adapter]> = host.vnics.iter().map(adapter).collect();
    found.sort_by_key(|adapter| std::cmp::Reverse((adapter.link_speed, adapter.mtu)));
    found
}

/// An adapter on the host's own switch: the port group's name, and the first card of the switch.
fn standard(host: &Host, nic: &VirtualNic) -> (Word, i32) {
    let Some(group) = host.port_groups.iter().find(|group| group.name == nic.port_group) else {
        return Default::default();
    };
    let cards = host.switches.iter().filter(|switch| switch.key == group.switch).flat_map(|switch| &switch.pnics);
    let speed =
        cards.filter_map(|key| host.pnics.iter().find(|card| card.key == *key)).map(|card| card.link_speed).next();
    (group.name.clone(), speed.unwrap_or(0))
}

/// An adapter on a distributed switch: the switch's name, and the fastest of the host's cards on it.
fn distributed(id: &str, host: &Host, nic: &VirtualNic, networks: &Networks<'_>) -> (Word, i32) {
    let group = networks.get(&nic.distributed_port_group);
    let Some(switch) = group.and_then(|group| networks.get(&group.switch.id)) else { return Default::default() };
    let mut members = switch.hosts.iter().filter(|member| member.host.id == id);
    let speed = members.next().and_then(|member| {
        let is_on_it = |key: &str| member.pnics.iter().any(|name| key.ends_with(&format!("-{name}")));
        // cards are sorted, fastest first
        host.pnics.iter().find(|card| is_on_it(&card.key)).or(host.pnics.first())
    });
    (Word::new(&switch.name), speed.map_or(0, |card| card.link_speed))
}
