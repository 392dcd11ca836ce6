//! Pod addresses: one loopback address a pod.
//!
//! Linux answers on all of 127.0.0.0/8, so a pod that listens on its own address has all
//! ports for itself, without a network namespace. 127.64.0.0 and above keeps clear of what
//! distributions use (127.0.0.1, 127.0.1.1, 127.0.0.53).

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

const FIRST: u8 = 64;
const LAST: u8 = 250;

/// Hands out addresses; an address belongs to one pod until it is given back.
#[derive(Debug, Default)]
pub struct Addresses {
    taken: Mutex<HashMap<Ipv4Addr, String>>,
}

impl Addresses {
    /// Takes an address for a pod: the `wanted` one if it is free, else one derived from the uid.
    pub fn take(&self, uid: &str, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let mut taken = self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let start = uid.bytes().fold(0xcbf2_9ce4_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let total = SIZE;
        let candidates = wanted.into_iter().chain((0..total).map(|step| nth(start.wrapping_add(step) % total)));
        for address in candidates {
            match taken.get(&address) {
                Some(owner) if owner != uid => continue,
                _ => {
                    taken.insert(address, uid.to_owned());
                    return Some(address);
                }
            }
        }
        None
    }

    /// The address of a pod.
    pub fn of(&self, uid: &str) -> Option<Ipv4Addr> {
        let taken = self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        taken.iter().find(|(_, owner)| *owner == uid).map(|(address, _)| *address)
    }

    /// Gives back all addresses of a pod.
    pub fn release(&self, uid: &str) {
        let mut taken = self.taken.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        taken.retain(|_, owner| owner != uid);
    }
}

const SIZE: u32 = (LAST - FIRST + 1) as u32 * 256 * 254;

fn nth(index: u32) -> Ipv4Addr {
    let host = index % 254 + 1;
    let middle = index / 254 % 256;
    let first = index / (254 * 256) + u32::from(FIRST);
    Ipv4Addr::new(127, first as u8, middle as u8, host as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unique_among_live_pods() {
        let addresses = Addresses::default();
        let mut seen = std::collections::HashSet::new();
        for pod in 0..5_000 {
            let address = addresses.take(&format!("pod-{pod}"), None).expect("an address");
            assert!(address.octets()[1] >= FIRST, "{address}");
            assert!(seen.insert(address), "{address} twice");
        }
    }

    #[test]
    fn a_restarted_pod_keeps_its_address() {
        let addresses = Addresses::default();
        let first = addresses.take("a", None);
        assert_eq!(addresses.take("a", first), first);
        assert_ne!(addresses.take("b", first), first);
        addresses.release("a");
        assert_eq!(addresses.take("c", first), first);
    }
}
