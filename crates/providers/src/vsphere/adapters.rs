//! The adapters of a host that a migration may use, with the speed of the cards behind them.

use super::model::{Adapter, Host, Network, VirtualNic};

/// Returns the adapters of a host: one for each VMkernel adapter, fastest first, then by the largest packet.
pub fn adapters(id: &str, host: &Host, networks: &[(&str, &Network)]) -> Box<[Adapter]> {
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
fn standard(host: &Host, nic: &VirtualNic) -> (super::model::Word, i32) {
    let Some(group) = host.port_groups.iter().find(|group| group.name == nic.port_group) else {
        return Default::default();
    };
    let cards = host.switches.iter().filter(|switch| switch.key == group.switch).flat_map(|switch| &switch.pnics);
    let speed =
        cards.filter_map(|key| host.pnics.iter().find(|card| card.key == *key)).map(|card| card.link_speed).next();
    (group.name.clone(), speed.unwrap_or(0))
}

/// An adapter on a distributed switch: the switch's name, and the fastest of the host's cards on it.
fn distributed(id: &str, host: &Host, nic: &VirtualNic, networks: &[(&str, &Network)]) -> (super::model::Word, i32) {
    let by_id = |wanted: &str| networks.iter().find(|(id, _)| *id == wanted).map(|(_, network)| *network);
    let group = networks.iter().find(|(id, network)| network.is_meant(id, &nic.distributed_port_group));
    let Some(switch) = group.and_then(|(_, group)| by_id(&group.switch.id)) else { return Default::default() };
    let mut members = switch.hosts.iter().filter(|member| member.host.id == id);
    let speed = members.next().and_then(|member| {
        let is_on_it = |key: &str| member.pnics.iter().any(|name| key.ends_with(&format!("-{name}")));
        // cards are sorted, fastest first
        host.pnics.iter().find(|card| is_on_it(&card.key)).or(host.pnics.first())
    });
    (super::model::Word::new(&switch.name), speed.map_or(0, |card| card.link_speed))
}
