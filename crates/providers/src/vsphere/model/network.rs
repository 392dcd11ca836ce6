//! Networks of all variants: standard, distributed port group, distributed switch, opaque.

use serde::{Deserialize, Serialize};

use super::places::{set_name, unknown, word};
use super::{Partial, Ref, Tracked, Word};
use crate::vsphere::vim::Element;

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Name.
    pub name: Box<str>,
    /// The folder it is in.
    pub parent: Ref,
    /// `Standard`, `DvPortGroup`, `DvSwitch`, `OpaqueNetwork`.
    pub variant: Word,
    /// Tag.
    pub tag: Word,
    /// Key of a port group, id of an opaque network: what NICs refer to.
    pub key: Word,
    /// Switch of a port group.
    pub switch: Ref,
    /// VLAN of a port group, or its ranges `1-5,7-7`; empty for none.
    pub vlan: Word,
    /// Hosts of a switch.
    pub hosts: Box<[SwitchHost]>,
}

/// A host on a distributed switch; JSON has upstream's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchHost {
    /// The host.
    #[serde(rename = "Host")]
    pub host: Ref,
    /// Names of its physical cards on the switch.
    #[serde(rename = "PNIC")]
    pub pnics: Box<[Word]>,
}

impl Network {
    /// Returns whether a NIC's network means this one.
    pub fn is_meant(&self, id: &str, network: &str) -> bool {
        id == network || (!self.key.is_empty() && self.key == network)
    }
}

impl Tracked for Network {
    fn of_type(managed_type: &str) -> Self {
        let variant = match managed_type {
            "DistributedVirtualPortgroup" => "DvPortGroup",
            "DistributedVirtualSwitch" | "VmwareDistributedVirtualSwitch" => "DvSwitch",
            "OpaqueNetwork" => "OpaqueNetwork",
            _ => "Standard",
        };
        Self { variant: variant.into(), ..Self::default() }
    }

    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial> {
        match path {
            "name" => set_name(&mut self.name, value),
            "parent" => self.parent = Ref::read(value),
            // a list of `Tag` with a key each; upstream takes plain text only, and so never sees one
            "tag" => {
                self.tag = value
                    .and_then(|v| v.items().find_map(|tag| tag.text("key")).or(Some(v.text.as_str())))
                    .unwrap_or_default()
                    .into();
            }
            "key" => self.key = word(value),
            "summary" => {
                self.key = value.and_then(|v| v.text("opaqueNetworkId")).unwrap_or_default().into();
            }
            "config.distributedVirtualSwitch" => self.switch = Ref::read(value),
            "config.defaultPortConfig" => self.vlan = value.map(vlan).unwrap_or_default(),
            "config.host" => {
                self.hosts = value.into_iter().flat_map(Element::items).filter_map(switch_host).collect();
            }
            _ => return unknown(path),
        }
        Ok(())
    }

    fn place(&self) -> (&str, &Ref) {
        (&self.name, &self.parent)
    }

    fn entered(&self) -> Self {
        Self { name: self.name.clone(), variant: self.variant.clone(), ..Self::default() }
    }
}

fn vlan(setting: &Element) -> Word {
    let Some(vlan) = setting.get("vlan") else { return Word::default() };
    if vlan.is_a("VmwareDistributedVirtualSwitchTrunkVlanSpec") {
        let ranges: Vec<String> = vlan
            .all("vlanId")
            .map(|range| format!("{}-{}", range.int("start").unwrap_or(0), range.int("end").unwrap_or(0)))
            .collect();
        return Word::new(&ranges.join(","));
    }
    if !vlan.is_a("VmwareDistributedVirtualSwitchVlanIdSpec") {
        return Word::default();
    }
    match vlan.int("vlanId") {
        Some(id) if id > 0 => Word::new(&id.to_string()),
        _ => Word::default(),
    }
}

fn switch_host(member: &Element) -> Option<SwitchHost> {
    let backing = member.get("config.backing")?;
    let host = member.moref("config.host")?;
    let pnics = backing.all("pnicSpec").filter_map(|spec| spec.text("pnicDevice")).map(Word::new).collect();
    Some(SwitchHost { host: Ref::to(&host), pnics })
}
