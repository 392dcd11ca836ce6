//! User-defined networks of the target namespace.
use std::net::IpAddr;

use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::mapping::attachments;
use crate::plan::world::NetworkDestination;

/// The check.
pub const CHECK: Check = Check { conditions: &[types::UNSUPPORTED_UDN, types::VM_IP_NOT_MATCHING_UDN_SUBNET], run };

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let plan = facts.plan;
    let unsupported = plan.udn_unsupported.then(|| {
        Condition::new(
            types::UNSUPPORTED_UDN,
            Category::Critical,
            "The target namespace has a user-defined network of layer 3, which VMs cannot be attached to.",
        )
        .reason(reasons::NOT_SUPPORTED)
        .suggestion("Use a target namespace with a user-defined network of layer 2, or with none.")
    });
    let subnets: Vec<Subnet> = plan.udn_subnets.iter().filter_map(|text| Subnet::parse(text)).collect();
    let keeps = plan.options.preserve_static_ips && plan.source.static_ips && plan.udn && !subnets.is_empty();
    let outside = facts.items(|_, machine| {
        if !keeps {
            return None;
        }
        let on_pod =
            attachments(machine, &plan.networks).into_iter().filter(|a| a.destination == &NetworkDestination::Pod);
        let addresses = on_pod.filter_map(|a| machine.nics.get(a.nic)).flat_map(|nic| &nic.addresses);
        let outside: Vec<&str> = addresses
            .map(|address| address.ip.as_str())
            .filter(|ip| {
                let Ok(ip) = ip.parse::<IpAddr>() else { return true };
                let family = |subnet: &&Subnet| subnet.address.is_ipv4() == ip.is_ipv4();
                let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
                !link_local && subnets.iter().any(|s| family(&s)) && !subnets.iter().any(|s| s.contains(ip))
            })
            .collect();
        (!outside.is_empty()).then(|| outside.join(", "))
    });
    let outside = finding(outside, || {
        let message = format!(
            "Addresses of some VMs are outside the user-defined network ({}): they cannot be kept.",
            plan.udn_subnets.join(", ")
        );
        Condition::new(types::VM_IP_NOT_MATCHING_UDN_SUBNET, Category::Warn, message).reason(reasons::NOT_VALID)
    });
    [unsupported, outside].into_iter().flatten().collect()
}

/// A network in CIDR notation.
struct Subnet {
    address: IpAddr,
    prefix: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.trim().split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= if address.is_ipv4() { 32 } else { 128 })?;
        Some(Self { address, prefix })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                u32::from(own) & mask == u32::from(ip) & mask
            }
            (IpAddr::V6(own), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                u128::from(own) & mask == u128::from(ip) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}
