//! Datastores.

use serde::{Deserialize, Serialize};

use super::devices::int;
use super::places::{set_name, truth, unknown, word};
use super::{Partial, Ref, Tracked, Word};
use crate::vsphere::vim::Element;

/// A datastore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Datastore {
    /// Name.
    pub name: Box<str>,
    /// The folder, or the cluster of datastores, that it is in.
    pub parent: Ref,
    /// `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL` …
    pub kind: Word,
    /// Bytes.
    pub capacity: i64,
    /// Bytes that are free.
    pub free: i64,
    /// `normal`, `enteringMaintenance`, `inMaintenance`.
    pub maintenance: Word,
    /// Names of the devices that a VMFS is on.
    pub backing_devices: Box<[Box<str>]>,
    /// Server of an NFS.
    pub nas_host: Box<str>,
    /// Exported path of an NFS.
    pub nas_path: Box<str>,
    /// Servers of an NFS with several.
    pub nas_hosts: Box<[Box<str>]>,
    /// Control of I/O is possible.
    pub iorm_supported: bool,
    /// Control of I/O, where it is configured.
    pub iorm: Option<Iorm>,
}

/// Control of I/O on a datastore, within the limits that consumers expect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Iorm {
    /// It is on.
    pub enabled: bool,
    /// Latency that counts as congestion, in milliseconds.
    pub threshold: i32,
    /// The threshold is set by hand.
    pub manual: bool,
    /// Share of the peak throughput from which the threshold is derived, in percent.
    pub percent: i32,
}

impl Tracked for Datastore {
    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial> {
        let number = || value.and_then(|v| v.int("")).unwrap_or(0);
        match path {
            "name" => set_name(&mut self.name, value),
            "parent" => self.parent = Ref::read(value),
            "summary.type" => self.kind = word(value),
            "summary.capacity" => self.capacity = number(),
            "summary.freeSpace" => self.free = number(),
            "summary.maintenanceMode" => self.maintenance = word(value),
            "info" => {
                if let Some(info) = value {
                    self.set_info(info);
                }
            }
            "capability.storageIORMSupported" => self.iorm_supported = truth(value),
            "iormConfiguration" => self.iorm = value.map(iorm),
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

impl Datastore {
    fn set_info(&mut self, info: &Element) {
        let text = |path: &str| -> Box<str> { info.text(path).unwrap_or_default().into() };
        let extents = info.get("vmfs").into_iter().flat_map(|vmfs| vmfs.all("extent"));
        self.backing_devices = extents.filter_map(|extent| extent.text("diskName")).map(Into::into).collect();
        (self.nas_host, self.nas_path) = (text("nas.remoteHost"), text("nas.remotePath"));
        let servers = info.get("nas").into_iter().flat_map(|nas| nas.all("remoteHostNames"));
        self.nas_hosts = servers.map(|name| name.text.as_str().into()).collect();
    }
}

/// Servers answer 0 where nothing is configured; what is out of range becomes the default or the limit, as upstream
/// has it.
fn iorm(config: &Element) -> Iorm {
    let threshold = int(config, "congestionThreshold");
    let percent = int(config, "percentOfPeakThroughput");
    Iorm {
        enabled: config.bool("enabled").unwrap_or(false),
        threshold: if threshold < 5 { 30 } else { threshold.min(100) },
        manual: config.text("congestionThresholdMode") == Some("manual"),
        percent: if percent < 50 { 90 } else { percent.min(100) },
    }
}
