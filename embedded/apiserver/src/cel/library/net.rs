//! Addresses and networks.

use std::net::IpAddr;

use super::super::eval::Fault;
use super::super::value::Value;
use super::{Answer, truth};

pub fn call(name: &str, args: &[Value]) -> Answer {
    use Value::{Cidr, Ip, Text};
    match (name, args) {
        ("ip", [Text(text)]) => Some(parse_ip(text).map(Ip)),
        ("isIP", [Text(text)]) => truth(parse_ip(text).is_ok()),
        ("ip.isCanonical", [Text(text)]) => Some(parse_ip(text).map(|a| Value::Bool(a.to_string() == **text))),
        ("family", [Ip(address)]) => Some(Ok(Value::Int(if address.is_ipv4() { 4 } else { 6 }))),
        ("isUnspecified", [Ip(address)]) => truth(address.is_unspecified()),
        ("isLoopback", [Ip(address)]) => truth(address.is_loopback()),
        ("isLinkLocalMulticast", [Ip(address)]) => truth(match address {
            IpAddr::V4(a) => a.octets()[..3] == [224, 0, 0],
            IpAddr::V6(a) => a.segments()[0] & 0xff0f == 0xff02,
        }),
        ("isLinkLocalUnicast", [Ip(address)]) => truth(link_local(address)),
        ("isGlobalUnicast", [Ip(address)]) => truth(
            !address.is_unspecified()
                && !address.is_loopback()
                && !address.is_multicast()
                && !link_local(address)
                && *address != IpAddr::from([255, 255, 255, 255]),
        ),
        ("cidr", [Text(text)]) => Some(parse_cidr(text).map(|(a, n)| Cidr(a, n))),
        ("isCIDR", [Text(text)]) => truth(parse_cidr(text).is_ok()),
        ("containsIP", [Cidr(a, n), Ip(b)]) => truth(contains(*a, *n, *b)),
        ("containsIP", [Cidr(a, n), Text(b)]) => Some(parse_ip(b).map(|b| Value::Bool(contains(*a, *n, b)))),
        ("containsCIDR", [Cidr(a, n), Cidr(b, m)]) => truth(m >= n && contains(*a, *n, *b)),
        ("containsCIDR", [Cidr(a, n), Text(b)]) => {
            Some(parse_cidr(b).map(|(b, m)| Value::Bool(m >= *n && contains(*a, *n, b))))
        }
        ("ip", [Cidr(a, _)]) => Some(Ok(Ip(*a))),
        ("prefixLength", [Cidr(_, n)]) => Some(Ok(Value::Int(i64::from(*n)))),
        ("masked", [Cidr(a, n)]) => Some(Ok(Cidr(mask(*a, *n), *n))),
        _ => None,
    }
}

fn link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn parse_ip(text: &str) -> Result<IpAddr, Fault> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(a)) if a.to_ipv4_mapped().is_some() => {
            Fault::new(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        Ok(address) => Ok(address),
        Err(_) => Fault::new(format!("IP Address {text:?} parse error during conversion from string")),
    }
}

fn parse_cidr(text: &str) -> Result<(IpAddr, u8), Fault> {
    let wrong = || Fault::Failed(format!("network address parse error during conversion from string: {text:?}"));
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let address = parse_ip(address).map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let plain = !bits.starts_with('+') && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = bits.parse().ok().filter(|b| *b <= most && plain).ok_or_else(wrong)?;
    Ok((address, bits))
}

fn mask(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => IpAddr::V4((u32::from(a) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into()),
        IpAddr::V6(a) => IpAddr::V6((u128::from(a) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into()),
    }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    network.is_ipv4() == address.is_ipv4() && mask(network, bits) == mask(address, bits)
}
