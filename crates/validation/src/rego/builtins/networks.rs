//! Networks and addresses, as Go's `net` reads them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Builtin, ours, yes};
use crate::rego::value::Value;

pub const ALL: &[Builtin] = &[
    ours("net.cidr_is_valid", 1, |_, a| yes(network(a[0]).is_some())),
    ours("net.cidr_contains", 2, |_, a| Ok(network(a[0]).and_then(|network| contains(network, a[1])).map(Value::Bool))),
    ours("net.cidr_overlap", 2, |_, a| Ok(network(a[0]).and_then(|network| contains(network, a[1])).map(Value::Bool))),
    ours("net.cidr_intersects", 2, |_, a| {
        let (Some(left), Some(right)) = (network(a[0]), network(a[1])) else { return Ok(None) };
        yes(left.has(right.first) || right.has(left.first))
    }),
    ours("net.cidr_contains_matches", 2, |budget, a| {
        let Some(left) = entries(a[0]) else { return Ok(None) };
        // what is compared with nothing may be anything
        if left.is_empty() {
            return Ok(Some(Value::set(Vec::new())));
        }
        let Some(right) = entries(a[1]) else { return Ok(None) };
        let mut pairs = Vec::new();
        for (key, outer) in &left {
            for (other, inner) in &right {
                budget.step()?;
                match network(outer).and_then(|outer| contains(outer, inner)) {
                    Some(true) => {
                        budget.charge(128)?;
                        pairs.push(Value::array(vec![key.clone(), other.clone()]));
                    }
                    Some(false) => {}
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(Value::set(pairs)))
    }),
    ours("net.cidr_expand", 1, |budget, a| {
        let Some(network) = network(a[0]) else { return Ok(None) };
        let count = network.last_number().saturating_sub(number(network.first)).saturating_add(1);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        budget.charge(count.saturating_mul(96))?;
        let first = number(network.first);
        let addresses = (0..count as u128).map(|at| Value::string(network.address(first + at).to_string()));
        Ok(Some(Value::set(addresses.collect())))
    }),
];

/// A network: its first address, and how many of its bits are the network's.
#[derive(Clone, Copy)]
struct Network {
    first: IpAddr,
    bits: u32,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    fn host_bits(self) -> u32 {
        if self.first.is_ipv4() { 32 - self.bits } else { 128 - self.bits }
    }

    fn last_number(self) -> u128 {
        number(self.first) | !u128::MAX.checked_shl(self.host_bits()).unwrap_or(0)
    }

    /// The address of this number in the network's family.
    fn address(self, number: u128) -> IpAddr {
        match self.first {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    fn has(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4()
            && (number(self.first)..=self.last_number()).contains(&number(address))
    }
}

fn network(value: &Value) -> Option<Network> {
    let (address, bits) = value.as_str()?.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let bits: u32 = bits.parse().ok()?;
    let size = if address.is_ipv4() { 32 } else { 128 };
    let host = u32::checked_sub(size, bits)?;
    let whole = Network { first: address, bits };
    let first = whole.address(number(address) & u128::MAX.checked_shl(host).unwrap_or(0));
    // an address of IPv4 in one of IPv6 is one of IPv4
    Some(match first.to_canonical() {
        IpAddr::V4(inner) if size == 128 => Network { first: inner.into(), bits: bits.saturating_sub(96) },
        first => Network { first, bits },
    })
}

/// Whether a network holds an address or another network; `None` for what is neither.
fn contains(outer: Network, value: &Value) -> Option<bool> {
    if let Ok(address) = value.as_str()?.parse::<IpAddr>() {
        return Some(outer.has(address));
    }
    let inner = network(value)?;
    Some(outer.has(inner.first) && outer.has(inner.address(inner.last_number())))
}

/// The networks or addresses of an argument with what names them: themselves, positions, members, keys.
fn entries(value: &Value) -> Option<Vec<(Value, &Value)>> {
    fn text(value: &Value) -> Option<&Value> {
        match value {
            Value::String(_) => Some(value),
            Value::Array(items) => items.first(),
            _ => None,
        }
    }
    match value {
        Value::String(_) => Some(vec![(value.clone(), value)]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(at, item)| Some((Value::int(at as i64), text(item)?))).collect()
        }
        Value::Set(items) => items.iter().map(|item| Some((item.clone(), text(item)?))).collect(),
        Value::Object(members) => members.iter().map(|(key, value)| Some((key.clone(), text(value)?))).collect(),
        _ => Some(Vec::new()),
    }
}
