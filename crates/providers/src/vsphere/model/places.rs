//! Datacenters, folders and clusters: where everything is.

use serde::{Deserialize, Serialize};

use super::{Partial, Ref, Tracked, Word, unescaped};
use crate::vsphere::vim::Element;

/// A datacenter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Datacenter {
    /// Name.
    pub name: Box<str>,
    /// The folder it is in.
    pub parent: Ref,
    /// Root folder of its clusters and hosts.
    pub clusters: Ref,
    /// Root folder of its networks.
    pub networks: Ref,
    /// Root folder of its datastores.
    pub datastores: Ref,
    /// Root folder of its VMs.
    pub vms: Ref,
}

/// A folder; a cluster of datastores is one too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Folder {
    /// Name.
    pub name: Box<str>,
    /// The folder or datacenter it is in; none for the root.
    pub parent: Ref,
    /// What is in it.
    pub children: Box<[Ref]>,
}

/// A cluster, or the compute resource around a host that is in none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Name.
    pub name: Box<str>,
    /// The folder it is in.
    pub parent: Ref,
    /// It is no cluster: a host of its own.
    pub standalone: bool,
    /// Its hosts.
    pub hosts: Box<[Ref]>,
    /// Networks of its hosts.
    pub networks: Box<[Ref]>,
    /// Datastores of its hosts.
    pub datastores: Box<[Ref]>,
    /// High availability is on.
    pub das_enabled: bool,
    /// VMs with settings of their own for high availability.
    pub das_vms: Box<[Ref]>,
    /// Resource scheduling is on.
    pub drs_enabled: bool,
    /// `manual`, `partiallyAutomated`, `fullyAutomated`.
    pub drs_behavior: Word,
    /// VMs with settings of their own for resource scheduling.
    pub drs_vms: Box<[Ref]>,
}

/// Sets a name, unescaped; an object without one keeps the last.
pub(super) fn set_name(name: &mut Box<str>, value: Option<&Element>) {
    if let Some(value) = value {
        *name = unescaped(&value.text).into();
    }
}

/// Returns the word in a value; an empty one where there is none.
pub(super) fn word(value: Option<&Element>) -> Word {
    value.map(|v| Word::new(&v.text)).unwrap_or_default()
}

/// Returns the truth value; false where there is none.
pub(super) fn truth(value: Option<&Element>) -> bool {
    value.and_then(|v| v.bool("")).unwrap_or(false)
}

/// Leaves a path alone that is no property of ours, unless it is an element of one: that needs the whole.
pub(super) fn unknown(path: &str) -> Result<(), Partial> {
    match path.split_once('[') {
        Some((property, _)) => Err(Partial { property: property.to_owned() }),
        None => Ok(()),
    }
}

impl Tracked for Datacenter {
    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial> {
        match path {
            "name" => set_name(&mut self.name, value),
            "parent" => self.parent = Ref::read(value),
            "vmFolder" => self.vms = Ref::read(value),
            "hostFolder" => self.clusters = Ref::read(value),
            "networkFolder" => self.networks = Ref::read(value),
            "datastoreFolder" => self.datastores = Ref::read(value),
            _ => return unknown(path),
        }
        Ok(())
    }

    fn place(&self) -> (&str, &Ref) {
        (&self.name, &self.parent)
    }

    fn entered(&self) -> Self {
        Self { name: self.name.clone(), ..Self::default() }
    }
}

impl Tracked for Folder {
    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial> {
        match path {
            "name" => set_name(&mut self.name, value),
            "parent" => self.parent = Ref::read(value),
            "childEntity" => self.children = Ref::list(value),
            _ => return unknown(path),
        }
        Ok(())
    }

    fn place(&self) -> (&str, &Ref) {
        (&self.name, &self.parent)
    }

    fn entered(&self) -> Self {
        Self { name: self.name.clone(), ..Self::default() }
    }
}

impl Tracked for Cluster {
    fn of_type(managed_type: &str) -> Self {
        Self { standalone: managed_type == "ComputeResource", ..Self::default() }
    }

    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial> {
        let keys = || value.into_iter().flat_map(Element::items).map(|item| Ref::read(item.get("key"))).collect();
        match path {
            "name" => set_name(&mut self.name, value),
            "parent" => self.parent = Ref::read(value),
            "host" => self.hosts = Ref::list(value),
            "network" => self.networks = Ref::list(value),
            "datastore" => self.datastores = Ref::list(value),
            "configuration.dasConfig.enabled" => self.das_enabled = truth(value),
            "configuration.dasVmConfig" => self.das_vms = keys(),
            "configuration.drsConfig.enabled" => self.drs_enabled = truth(value),
            "configuration.drsConfig.defaultVmBehavior" => self.drs_behavior = word(value),
            "configuration.drsVmConfig" => self.drs_vms = keys(),
            _ => return unknown(path),
        }
        Ok(())
    }

    fn place(&self) -> (&str, &Ref) {
        (&self.name, &self.parent)
    }

    fn entered(&self) -> Self {
        Self { name: self.name.clone(), standalone: self.standalone, ..Self::default() }
    }
}
