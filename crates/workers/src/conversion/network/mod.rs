//! Keeps the names of a Linux guest's network interfaces, so that its static addresses stay where they were.
//!
//! A card that VMware's slots made `ens192` is `enp1s0` or the like on KVM, and a configuration for `ens192` then
//! has no interface. As upstream does, a udev rule gives each card its old name by its hardware address. Unlike
//! upstream, which needs the addresses that VMware Tools reported, the names are also found from the guest's own
//! configuration: an appliance's descriptor knows no addresses.
//!
//! ```text
//! configuration files ──► sources::interfaces ──► [Interface] ─┐
//! cards of the VM (MAC, addresses) ────────────────────────────┴─► names ──► udev rules, systemd .link files
//! ```

mod sources;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::config::{Nic, is_mac};
use super::guest_files::GuestFiles;

pub use sources::PATTERNS;

/// Where the rules go, and where a guest that has its own keeps them.
pub const RULES_PATH: &str = "/etc/udev/rules.d/70-persistent-net.rules";

/// An interface that the guest's configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name, e.g. `ens192`.
    pub name: String,
    /// The addresses that it is given, or was leased.
    pub addresses: Vec<IpAddr>,
    /// The hardware address by which the configuration finds it, in lower case.
    pub mac: Option<String>,
    /// The file that says so.
    pub file: String,
}

/// What is written into the guest, and what could not be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkPlan {
    /// Files to write: path and content.
    pub files: Vec<(String, String)>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Decides how the guest's interfaces keep their names.
pub fn plan(guest: &GuestFiles, nics: &[Nic]) -> NetworkPlan {
    let mut plan = NetworkPlan::default();
    if guest.get(RULES_PATH).is_some_and(|rules| !rules.trim().is_empty()) {
        return plan; // the guest has its own rules
    }
    let interfaces = sources::interfaces(guest);
    if interfaces.is_empty() || nics.is_empty() {
        return plan;
    }
    let names = names(&interfaces, nics, &mut plan.warnings);
    let mut rules = String::new();
    for (nic, name) in nics.iter().zip(&names) {
        let Some(name) = name else { continue };
        match &nic.mac {
            Some(mac) => {
                rules.push_str(&format!(
                    "SUBSYSTEM==\"net\",ACTION==\"add\",ATTR{{address}}==\"{mac}\",NAME=\"{name}\"\n"
                ));
            }
            // without an address of its own, an only card is still told by its driver
            None if nics.len() == 1 => {
                rules
                    .push_str(&format!("SUBSYSTEM==\"net\",ACTION==\"add\",DRIVERS==\"virtio_net\",NAME=\"{name}\"\n"));
            }
            None => plan
                .warnings
                .push(format!("the card of {name} has no hardware address in the descriptor: its name may change")),
        }
        // NetworkManager renames nothing; networkd's link file holds where no udev rule is read
        if let Some(mac) = &nic.mac
            && interfaces.iter().any(|i| i.name == *name && i.mac.is_none() && i.file.ends_with(".nmconnection"))
        {
            plan.files.push((
                format!("/etc/systemd/network/10-v2v-{name}.link"),
                format!("[Match]\nMACAddress={mac}\n\n[Link]\nName={name}\n"),
            ));
        }
    }
    if !rules.is_empty() {
        plan.files.insert(0, (RULES_PATH.into(), rules));
    }
    plan
}

/// The name of each card: by hardware address, else by an address, else by the order of VMware's slots.
fn names(interfaces: &[Interface], nics: &[Nic], warnings: &mut Vec<String>) -> Vec<Option<String>> {
    let mut names: Vec<Option<String>> = Vec::new();
    for nic in nics {
        let mut candidates: Vec<&str> = interfaces
            .iter()
            .filter(|i| (i.mac.is_some() && i.mac == nic.mac) || i.addresses.iter().any(|a| nic.addresses.contains(a)))
            .map(|i| i.name.as_str())
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.len() > 1 {
            warnings.push(format!(
                "the guest's files give the card {} several names ({}): none is kept",
                nic.mac.as_deref().unwrap_or("without address"),
                candidates.join(", ")
            ));
        }
        names.push(match candidates[..] {
            [one] => Some(one.to_owned()),
            _ => None,
        });
    }
    // what is left on both sides is paired in order, when there is one for each
    let mut left: Vec<&str> = interfaces
        .iter()
        .filter(|i| i.mac.is_none() && !names.iter().flatten().any(|n| *n == i.name))
        .map(|i| i.name.as_str())
        .collect();
    left.sort_by_key(|name| slot_order(name));
    left.dedup();
    let open: Vec<usize> = (0..nics.len()).filter(|&n| names[n].is_none() && nics[n].addresses.is_empty()).collect();
    if !left.is_empty() && left.len() == open.len() {
        for (index, name) in open.into_iter().zip(left) {
            names[index] = Some(name.to_owned());
        }
    } else if !left.is_empty() {
        warnings
            .push(format!("cannot tell which network card the guest's {} is: its name may change", left.join(", ")));
    }
    drop_doubles(names)
}

/// One name for two cards helps neither.
fn drop_doubles(names: Vec<Option<String>>) -> Vec<Option<String>> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    for name in names.iter().flatten() {
        *count.entry(name.clone()).or_default() += 1;
    }
    names.into_iter().map(|n| n.filter(|n| count.get(n) == Some(&1))).collect()
}

/// The order in which VMware puts cards into slots (`ens160` on the first bus, then 192, 224, 256, 161, 193 …);
/// other names by their number.
fn slot_order(name: &str) -> (usize, u32, String) {
    let digits: String = name.chars().rev().take_while(char::is_ascii_digit).collect();
    let number: u32 = digits.chars().rev().collect::<String>().parse().unwrap_or(0);
    let slots = [160, 192, 224, 256, 161, 193, 225, 257, 162, 194, 226, 258];
    let slot = slots.iter().position(|s| *s == number && name.starts_with("ens"));
    (slot.unwrap_or(slots.len()), number, name.to_owned())
}

/// Whether a name may be written into a udev rule: Linux's own limits, and nothing that udev would interpret.
fn is_interface_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 15
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn mac(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['"', '\'']).to_lowercase();
    is_mac(&text).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(mac: &str, addresses: &[&str]) -> Nic {
        Nic {
            mac: Some(mac).filter(|m| !m.is_empty()).map(str::to_owned),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    const IFUPDOWN: &str =
        "auto lo\niface lo inet loopback\n\nauto ens192\niface ens192 inet static\n    address 10.10.0.21/24\n";

    #[test]
    fn an_appliance_with_one_card_keeps_its_name_without_known_addresses() {
        let guest = GuestFiles::of(&[("/etc/network/interfaces", IFUPDOWN)]);
        let plan = plan(&guest, &[nic("00:50:56:a4:2b:1c", &[])]);
        assert_eq!(
            plan.files,
            [(
                RULES_PATH.to_owned(),
                "SUBSYSTEM==\"net\",ACTION==\"add\",ATTR{address}==\"00:50:56:a4:2b:1c\",NAME=\"ens192\"\n".to_owned()
            )]
        );
        assert!(plan.warnings.is_empty());
    }

    #[test]
    fn an_only_card_without_address_is_told_by_its_driver() {
        let guest = GuestFiles::of(&[("/etc/network/interfaces", IFUPDOWN)]);
        let plan = plan(&guest, &[nic("", &[])]);
        assert_eq!(plan.files[0].1, "SUBSYSTEM==\"net\",ACTION==\"add\",DRIVERS==\"virtio_net\",NAME=\"ens192\"\n");
    }

    #[test]
    fn cards_are_told_by_address_and_the_rest_by_slot() {
        let two = "iface ens224 inet static\n address 10.0.1.2/24\niface ens192 inet static\n address 10.0.0.2/24\n";
        let guest = GuestFiles::of(&[("/etc/network/interfaces", two)]);
        let by_slot = plan(&guest, &[nic("00:00:00:00:00:01", &[]), nic("00:00:00:00:00:02", &[])]);
        assert!(by_slot.files[0].1.contains("00:00:00:00:00:01\",NAME=\"ens192\""), "{by_slot:?}");
        let by_ip = plan(&guest, &[nic("00:00:00:00:00:01", &["10.0.1.2"]), nic("00:00:00:00:00:02", &["10.0.0.2"])]);
        assert!(by_ip.files[0].1.contains("00:00:00:00:00:01\",NAME=\"ens224\""), "{by_ip:?}");
    }

    #[test]
    fn a_guest_with_rules_of_its_own_is_left_alone() {
        let guest = GuestFiles::of(&[("/etc/network/interfaces", IFUPDOWN), (RULES_PATH, "# mine\n")]);
        assert_eq!(plan(&guest, &[nic("00:50:56:a4:2b:1c", &[])]), NetworkPlan::default());
    }

    #[test]
    fn a_card_with_two_names_loses_only_its_own_rule() {
        let guest = GuestFiles::of(&[
            (
                "/etc/network/interfaces",
                "iface ens192 inet static\n address 10.0.0.2/24\niface ens256 inet static\n address 10.0.9.9\n",
            ),
            ("/var/lib/dhcp/dhclient.eth7.leases", "lease {\n  interface \"eth7\";\n  fixed-address 10.0.0.2;\n}\n"),
        ]);
        let plan = plan(&guest, &[nic("00:00:00:00:00:01", &["10.0.0.2"]), nic("00:00:00:00:00:02", &["10.0.9.9"])]);
        assert_eq!(
            plan.files[0].1,
            "SUBSYSTEM==\"net\",ACTION==\"add\",ATTR{address}==\"00:00:00:00:00:02\",NAME=\"ens256\"\n"
        );
        assert!(plan.warnings[0].contains("ens192, eth7"), "{:?}", plan.warnings);
    }

    #[test]
    fn more_interfaces_than_cards_is_a_warning() {
        let guest = GuestFiles::of(&[("/etc/network/interfaces", "iface a inet dhcp\niface b inet dhcp\n")]);
        let plan = plan(&guest, &[nic("00:00:00:00:00:01", &[])]);
        assert!(plan.files.is_empty());
        assert_eq!(plan.warnings, ["cannot tell which network card the guest's a, b is: its name may change"]);
    }

    #[test]
    fn names_that_udev_would_interpret_are_refused() {
        assert!(is_interface_name("ens192") && is_interface_name("br-lan.5"));
        assert!(!is_interface_name("a\",RUN+=\"x") && !is_interface_name("") && !is_interface_name("sixteen-chars-xx"));
    }

    #[test]
    fn a_networkmanager_profile_also_gets_a_link_file() {
        let guest = GuestFiles::of(&[(
            "/etc/NetworkManager/system-connections/lan.nmconnection",
            "[connection]\nid=lan\ntype=ethernet\ninterface-name=ens32\n\n[ipv4]\naddress1=10.5.0.7/24,10.5.0.1\nmethod=manual\n",
        )]);
        let plan = plan(&guest, &[nic("00:50:56:a1:b2:c3", &["10.5.0.7"])]);
        assert_eq!(
            plan.files[1],
            (
                "/etc/systemd/network/10-v2v-ens32.link".to_owned(),
                "[Match]\nMACAddress=00:50:56:a1:b2:c3\n\n[Link]\nName=ens32\n".to_owned()
            )
        );
    }
}
