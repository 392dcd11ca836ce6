//! The source port over the inventory's records: files are neither started nor stopped.

use std::sync::Arc;
use std::time::Duration;

use forklift_api::worker::ImportSource;
use forklift_core::machine::{Machine, PowerState, VmIdentity};
use forklift_core::source::{Capabilities, DiskSource, PortFuture, Source, SourceError};
use forklift_inventory::ProviderEntry;

use super::appliance::identity;
use super::machine::{key, machine};
use super::wire::{Vm, VmDisk};

/// How long a VM's facts may wait for the rules.
const RULES: Duration = Duration::from_secs(10);

/// The VMs of an OVA provider.
pub(super) struct Appliances {
    entry: Arc<ProviderEntry>,
}

impl Appliances {
    pub(super) fn new(entry: Arc<ProviderEntry>) -> Self {
        Self { entry }
    }

    fn record(&self, id: &str) -> Result<Arc<forklift_inventory::Record>, SourceError> {
        if !self.entry.store().has_parity() {
            return Err(SourceError::NotReady(self.entry.name()));
        }
        self.entry.store().get("vms", id).ok_or_else(|| SourceError::NotFound(format!("VM {id}")))
    }

    /// Returns a VM once the rules have seen it, so that no concern is missed.
    async fn read(&self, id: &str) -> Result<Machine, SourceError> {
        self.record(id)?;
        let record = self.entry.store().settled("vms", id, RULES).await;
        let record = record.ok_or_else(|| SourceError::NotFound(format!("VM {id}")))?;
        machine(&record).ok_or_else(|| SourceError::Other(format!("the inventory's record of VM {id} cannot be read")))
    }

    fn disks(&self, wanted: &Machine) -> Result<Vec<DiskSource>, SourceError> {
        let record = self.record(&wanted.id)?;
        let vm: &Vm = record
            .native()
            .ok_or_else(|| SourceError::Other(format!("the inventory's record of VM {} is not a VM's", wanted.id)))?;
        let find = |disk: &forklift_core::machine::Disk| {
            let found = vm.disks.iter().find(|d| key(d) == disk.key);
            found.map_or_else(|| Err(SourceError::NotFound(format!("disk {}", disk.key))), disk_source)
        };
        wanted.disks.iter().map(find).collect()
    }
}

fn disk_source(disk: &VmDisk) -> Result<DiskSource, SourceError> {
    let Some(file) = &disk.source else {
        return Err(SourceError::Other(format!(
            "disk {} has no file in the appliance: it is empty, leave it out of the appliance and add it to the VM afterwards",
            key(disk)
        )));
    };
    Ok(DiskSource {
        source: ImportSource::File {
            path: file.path.clone(),
            member: file.member.clone(),
            format: file.format.clone(),
            compression: file.compression.clone(),
            digest: file.digest.clone(),
        },
        identity: identity(file),
        virtual_size: Some(disk.capacity_bytes).filter(|bytes| *bytes > 0),
        secret: None,
        host: String::new(),
        datastore: String::new(),
    })
}

impl Source for Appliances {
    fn capabilities(&self) -> Capabilities {
        Capabilities::appliance()
    }

    fn machine<'a>(&'a self, id: &'a str) -> PortFuture<'a, Machine> {
        Box::pin(self.read(id))
    }

    fn power_state<'a>(&'a self, id: &'a str) -> PortFuture<'a, (VmIdentity, PowerState)> {
        Box::pin(async move { self.read(id).await.map(|machine| (machine.identity(), machine.power)) })
    }

    fn power_off<'a>(&'a self, _: &'a VmIdentity) -> PortFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn power_on<'a>(&'a self, _: &'a VmIdentity) -> PortFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn disk_sources<'a>(&'a self, machine: &'a Machine) -> PortFuture<'a, Vec<DiskSource>> {
        Box::pin(async move { self.disks(machine) })
    }
}
