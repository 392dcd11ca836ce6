//! The source port: VMs from the inventory's records; power, identity and disks from the server itself.

use std::sync::Arc;
use std::time::Duration;

use forklift_api::provider::setting;
use forklift_api::worker::{self, ImportSource, VsphereDisk};
use forklift_core::machine::{Machine, PowerState, VmIdentity};
use forklift_core::source::{Capabilities, DiskSource, PortFuture, Snapshots, Source, SourceError};
use forklift_inventory::{ProviderEntry, Record};

use super::examine::host_parameters;
use super::kinds::VMS;
use super::live::{self, confirm, refusal, settle};
use super::machine;
use super::model::{Vm, disk_key};
use super::session::{self, Sessions};
use super::vim::{self, Client, MoRef};
use crate::{Endpoint, HostEndpoint};

/// How long a guest that was asked to shut down is left alone before it is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// How long a host may take to find a VM before its vCenter is asked.
const HOST_PATIENCE: Duration = Duration::from_secs(10);

/// A VM at the server where its snapshots are.
pub(super) struct Place {
    pub(super) client: Client,
    /// Its reference there.
    pub(super) vm: MoRef,
    /// It is the VM's ESXi host, and not the provider's server.
    pub(super) direct: bool,
}

impl Place {
    /// Returns the server, for what is remembered of it.
    pub(super) fn server(&self) -> &str {
        self.client.endpoint().url.as_str()
    }
}

/// The VMs of a vSphere provider.
pub struct Vms {
    entry: Arc<ProviderEntry>,
    endpoint: Endpoint,
    pub(super) sessions: Arc<Sessions>,
}

impl Vms {
    /// Returns the source of a provider, over what is held for it.
    pub fn new(entry: Arc<ProviderEntry>, endpoint: &Endpoint, sessions: Arc<Sessions>) -> Self {
        sessions.keep_hosts(|id| endpoint.hosts.contains_key(id));
        Self { entry, endpoint: endpoint.clone(), sessions }
    }

    /// Returns the provider's session.
    pub(super) async fn client(&self) -> Result<Client, SourceError> {
        let endpoint = session::endpoint(&self.endpoint).map_err(|error| refusal(&error, "the provider"))?;
        self.sessions.client(&endpoint).await.map_err(|error| refusal(&error, "the session"))
    }

    /// Returns where a VM's snapshots are taken and read from: at its ESXi host where that is reached directly, as the
    /// copies are, else at the provider's server.
    pub(super) async fn place(&self, vm: &VmIdentity) -> Result<Place, SourceError> {
        let esxi = self.setting(setting::SDK_ENDPOINT) == Some(setting::ESXI);
        let host = self.direct(&vm.id).filter(|_| !esxi);
        let Some(host) = host else { return self.at_server(vm).await };
        let what = format!("ESXi host {} of a Host object", host.id);
        let parameters = host_parameters(host).map_err(|error| refusal(&error, &what))?;
        let client = self.sessions.host(&host.id, &parameters).await.map_err(|error| refusal(&error, &what))?;
        let vm = live::find_at(&client, vm).await?;
        Ok(Place { client, vm, direct: true })
    }

    /// The same for what is only looked at or removed: at the provider's server where the host cannot be asked. It knows
    /// the same snapshots, and a clean-up does not wait for a host whose password was changed.
    pub(super) async fn any_place(&self, vm: &VmIdentity) -> Result<Place, SourceError> {
        let Some(host) = self.direct(&vm.id).filter(|host| !self.sessions.is_away(&host.id)) else {
            return self.at_server(vm).await;
        };
        let why = match tokio::time::timeout(HOST_PATIENCE, self.place(vm)).await {
            Ok(Ok(place)) => return Ok(place),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", HOST_PATIENCE.as_secs()),
        };
        tracing::warn!(vm = vm.name, host = host.id, why, "the host cannot be asked; its vCenter is");
        self.sessions.note_away(&host.id);
        self.at_server(vm).await
    }

    async fn at_server(&self, vm: &VmIdentity) -> Result<Place, SourceError> {
        Ok(Place { client: self.client().await?, vm: MoRef::vm(vm.id.as_str()), direct: false })
    }

    /// Returns the host of a VM when it is reached directly.
    fn direct(&self, id: &str) -> Option<&HostEndpoint> {
        let host = self.record(id).ok()?.native::<Vm>()?.host.to_string();
        self.endpoint.hosts.get(&host).filter(|host| !host.secret_name.is_empty())
    }

    /// Returns the keys of a VM's disks as the inventory has them.
    pub(super) fn disk_keys(&self, id: &str) -> Vec<String> {
        let Ok(record) = self.record(id) else { return Vec::new() };
        let disks = record.native::<Vm>().map(|vm| &vm.disks[..]).unwrap_or_default();
        disks.iter().map(|disk| disk_key(&disk.file)).collect()
    }

    fn record(&self, id: &str) -> Result<Arc<Record>, SourceError> {
        if !self.entry.store().has_parity() {
            return Err(SourceError::NotReady(self.entry.name()));
        }
        self.entry.store().get(VMS, id).ok_or_else(|| SourceError::NotFound(format!("VM {id}")))
    }

    fn read(&self, id: &str) -> Result<Machine, SourceError> {
        let record = self.record(id)?;
        let unreadable = || SourceError::Other(format!("the inventory's record of VM {id} cannot be read"));
        machine(self.entry.store(), &record).ok_or_else(unreadable)
    }

    fn setting(&self, key: &str) -> Option<&str> {
        self.endpoint.provider.setting(key).map(str::trim).filter(|value| !value.is_empty())
    }

    fn disks(&self, machine: &Machine) -> Result<Vec<DiskSource>, SourceError> {
        let record = self.record(&machine.id)?;
        let recorded = record.native::<Vm>().map(|vm| &vm.disks[..]).unwrap_or_default();
        let spec = &self.endpoint.provider.spec;
        // the newest that was seen, and not the one of the pass in which the collector was started
        let fingerprint = self.endpoint.provider.status.as_ref().map(|status| status.fingerprint.clone());
        let own = spec.secret.name.clone().filter(|name| !name.is_empty());
        let (url, fingerprint, secret, reference) = match self.direct(&machine.id) {
            // the host knows the VM by a reference of its own: it is found there by its UUID
            Some(host) => {
                let what = format!("ESXi host {} of a Host object", host.id);
                let parameters = host_parameters(host).map_err(|error| refusal(&error, &what))?;
                (parameters.url, parameters.tls.thumbprint, Some(host.secret_name.clone()), String::new())
            }
            None => {
                let parameters = session::endpoint(&self.endpoint).map_err(|error| refusal(&error, "the provider"))?;
                (parameters.url, fingerprint, own, machine.id.clone())
            }
        };
        let vddk = self.setting(setting::VDDK_INIT_IMAGE).map(|_| worker::VDDK_MOUNT.to_owned());
        let identity = machine.identity();
        let host = record.native::<Vm>().map(|vm| vm.host.to_string()).unwrap_or_default();
        let source = |disk: &forklift_core::machine::Disk| {
            let found = recorded.iter().find(|recorded| disk_key(&recorded.file) == disk.key);
            let found = found.ok_or_else(|| SourceError::NotFound(format!("disk {}", disk.key)))?;
            Ok(DiskSource {
                source: ImportSource::Vsphere(VsphereDisk {
                    url: url.to_string(),
                    vm: reference.clone(),
                    instance_uuid: identity.uuid.clone(),
                    key: found.key,
                    file: disk.key.clone(),
                    thumbprint: fingerprint.clone().filter(|fingerprint| !fingerprint.is_empty()),
                    method: self.setting(setting::TRANSFER_METHOD).map(str::to_owned),
                    vddk: vddk.clone(),
                    vddk_config: None,
                    vddk_transports: None,
                }),
                identity: format!("vsphere {} {} {} {}", identity.uuid, disk.key, found.serial, disk.capacity),
                virtual_size: Some(disk.capacity).filter(|bytes| *bytes > 0),
                secret: secret.clone(),
                host: host.clone(),
                datastore: datastore(&disk.key),
            })
        };
        machine.disks.iter().map(source).collect()
    }

    async fn shut_down(&self, vm: &VmIdentity) -> Result<(), SourceError> {
        let client = self.client().await?;
        let found = confirm(&client, vm, &["guest.guestState"]).await?;
        match found.power {
            PowerState::Off => {
                self.sessions.shutdown_over(&vm.id);
                return Ok(());
            }
            PowerState::Unknown => {
                return Err(SourceError::Unreachable(format!("the power state of VM {} is not known", vm.name)));
            }
            PowerState::On => {}
        }
        let what = format!("shutdown of VM {} ({})", vm.name, vm.id);
        // one that cannot be read does not count; the provider's conditions say so
        let limit = self.setting(setting::HARD_POWER_OFF_AFTER).and_then(|text| duration(text).ok());
        let asked = self.sessions.shutdown_asked(&vm.id);
        match (asked, limit) {
            (Some(since), Some(limit)) if since >= limit => {
                tracing::warn!(
                    vm = vm.name,
                    "the guest did not shut down in time; its power is cut, as the provider says"
                );
                return self.cut_power(&client, &found).await;
            }
            (Some(since), _) if since < ASK_AGAIN => return Ok(()),
            // somebody asked, if not we: its tools end before the guest does
            _ if found.props.text("guest.guestState") == Some("shuttingDown") => return Ok(()),
            _ => {}
        }
        match client.shutdown_guest(&found.moref).await {
            Ok(()) => Ok(()),
            // off meanwhile, or on its way
            Err(error) if error.is_fault("InvalidPowerState") || error.is_fault("TaskInProgress") => Ok(()),
            Err(error) if error.is_fault("ToolsUnavailable") && limit.is_some() => {
                tracing::warn!(vm = vm.name, "VMware Tools do not run; its power is cut, as the provider says");
                self.cut_power(&client, &found).await
            }
            Err(error) if error.is_fault("ToolsUnavailable") && asked.is_some() => Ok(()),
            Err(error) if error.is_fault("ToolsUnavailable") => {
                self.sessions.shutdown_over(&vm.id);
                Err(SourceError::Other(format!(
                    "VM {} cannot be asked to shut down: VMware Tools do not run in its guest. Shut it down by hand, \
                     start VMware Tools in it, or let its power be cut with the provider's setting {}",
                    vm.name,
                    setting::HARD_POWER_OFF_AFTER
                )))
            }
            Err(error) => {
                self.sessions.shutdown_over(&vm.id);
                Err(refusal(&error, &what))
            }
        }
    }

    async fn cut_power(&self, client: &Client, vm: &live::LiveVm) -> Result<(), SourceError> {
        let what = format!("power-off of VM {} ({})", vm.identity.name, vm.identity.id);
        let task = client.power_off(&vm.moref).await.map_err(|error| refusal(&error, &what))?;
        match tokio::time::timeout(live::PATIENCE, client.wait_task(&task)).await {
            Ok(Err(error)) if !error.is_fault("InvalidPowerState") => Err(refusal(&error, &what)),
            Ok(_) => {
                self.sessions.shutdown_over(&vm.identity.id);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    async fn start(&self, vm: &VmIdentity) -> Result<(), SourceError> {
        let client = self.client().await?;
        let found = confirm(&client, vm, &[]).await?;
        self.sessions.shutdown_over(&vm.id);
        match found.power {
            PowerState::On => return Ok(()),
            PowerState::Unknown => {
                return Err(SourceError::Unreachable(format!("the power state of VM {} is not known", vm.name)));
            }
            PowerState::Off => {}
        }
        let what = format!("start of VM {} ({})", vm.name, vm.id);
        let task = client.power_on(&found.moref).await.map_err(|error| refusal(&error, &what))?;
        match settle(&client, &task, &what).await {
            Ok(_) => Ok(()),
            // somebody else was faster
            Err(error) => match live::read(&client, &vm.id, &[]).await {
                Ok(now) if now.power == PowerState::On => Ok(()),
                _ => Err(error),
            },
        }
    }
}

impl Source for Vms {
    fn capabilities(&self) -> Capabilities {
        super::CAPABILITIES
    }

    fn machine<'a>(&'a self, id: &'a str) -> PortFuture<'a, Machine> {
        Box::pin(async move { self.read(id) })
    }

    fn power_state<'a>(&'a self, id: &'a str) -> PortFuture<'a, (VmIdentity, PowerState)> {
        Box::pin(async move {
            let found = live::read(&self.client().await?, id, &[]).await?;
            Ok((found.identity, found.power))
        })
    }

    fn power_off<'a>(&'a self, vm: &'a VmIdentity) -> PortFuture<'a, ()> {
        Box::pin(self.shut_down(vm))
    }

    fn power_on<'a>(&'a self, vm: &'a VmIdentity) -> PortFuture<'a, ()> {
        Box::pin(self.start(vm))
    }

    fn disk_sources<'a>(&'a self, machine: &'a Machine) -> PortFuture<'a, Vec<DiskSource>> {
        Box::pin(async move { self.disks(machine) })
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}

/// Returns the datastore of `[datastore] folder/file.vmdk`.
fn datastore(file: &str) -> String {
    file.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name.to_owned()).unwrap_or_default()
}

/// Reads a duration as users write it: `90s`, `10m`, `1h`; a bare number is minutes.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.trim().split_at_checked(text.trim().len().saturating_sub(1)) {
        Some((number, "s")) => (number, 1),
        Some((number, "m")) => (number, 60),
        Some((number, "h")) => (number, 3600),
        _ => (text.trim(), 60),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no duration; write 90s, 10m or 1h"))?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

/// Returns the disks of a VM's configuration: device key, file, UUID.
pub(super) fn virtual_disks(devices: &vim::Element) -> impl Iterator<Item = &vim::Element> {
    devices.items().filter(|device| device.is_a("VirtualDisk"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_users_write_them() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600), ("5", 300), (" 2m ", 120)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "m", "-1m", "soon", "1d", "é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
