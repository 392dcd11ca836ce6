//! A source made up on the spot: machines in memory, with a power switch.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use forklift_api::worker::ImportSource;
use forklift_api::{Provider, ProviderType, Ref};
use forklift_controllers::ports::{ConnectError, Endpoint, Found, Providers, Thing};
use forklift_core::machine::{Disk, Machine, Nic, PowerState, ResourceRef, VmIdentity};
use forklift_core::source::{Capabilities, DiskSource, PortFuture, Source, SourceError};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Everything the fake source knows; shared by the providers port and the test.
#[derive(Clone, Default)]
pub struct FakeSource {
    machines: Arc<Mutex<BTreeMap<String, Machine>>>,
}

impl FakeSource {
    /// Adds a VM that runs, with one disk per name, on network `net` and datastore `ds`.
    pub fn add(&self, id: &str, name: &str, disks: &[&str]) {
        let disk = |key: &&str| Disk {
            key: (*key).to_owned(),
            capacity: 1 << 20,
            storage: ResourceRef::new("ds-1", "ds"),
            ..Disk::default()
        };
        let nic = Nic {
            name: "nic0".into(),
            mac: "52:54:00:00:00:01".into(),
            network: ResourceRef::new("net-1", "net"),
            ..Nic::default()
        };
        let machine = Machine {
            id: id.into(),
            name: name.into(),
            uuid: format!("uuid-{id}"),
            memory: 1 << 30,
            disks: disks.iter().map(disk).collect(),
            nics: vec![nic],
            power: PowerState::On,
            ..Machine::default()
        };
        self.machines.lock().expect("not poisoned").insert(id.into(), machine);
    }

    /// Returns whether a VM runs.
    pub fn power(&self, id: &str) -> PowerState {
        self.machines.lock().expect("not poisoned")[id].power
    }

    fn read(&self, id: &str) -> Result<Machine, SourceError> {
        let machines = self.machines.lock().expect("not poisoned");
        machines.get(id).cloned().ok_or_else(|| SourceError::NotFound(format!("VM {id}")))
    }

    fn switch(&self, id: &str, power: PowerState) {
        if let Some(machine) = self.machines.lock().expect("not poisoned").get_mut(id) {
            machine.power = power;
        }
    }
}

impl Source for FakeSource {
    fn capabilities(&self) -> Capabilities {
        Capabilities { power: true, conversion: true, ..Capabilities::default() }
    }

    fn machine<'a>(&'a self, id: &'a str) -> PortFuture<'a, Machine> {
        Box::pin(async move { self.read(id) })
    }

    fn power_state<'a>(&'a self, id: &'a str) -> PortFuture<'a, (VmIdentity, PowerState)> {
        Box::pin(async move { self.read(id).map(|machine| (machine.identity(), machine.power)) })
    }

    fn power_off<'a>(&'a self, vm: &'a VmIdentity) -> PortFuture<'a, ()> {
        Box::pin(async move {
            self.switch(&vm.id, PowerState::Off);
            Ok(())
        })
    }

    fn power_on<'a>(&'a self, vm: &'a VmIdentity) -> PortFuture<'a, ()> {
        Box::pin(async move {
            self.switch(&vm.id, PowerState::On);
            Ok(())
        })
    }

    fn disk_sources<'a>(&'a self, machine: &'a Machine) -> PortFuture<'a, Vec<DiskSource>> {
        let source = |disk: &Disk| DiskSource {
            source: ImportSource::Nbd { uri: format!("nbd://nowhere/{}", disk.key) },
            identity: disk.key.clone(),
            virtual_size: Some(disk.capacity),
            // a disk of a server that asks who reads it
            secret: disk.key.starts_with("remote-").then(|| "credentials".to_owned()),
        };
        let all = machine.disks.iter().map(source).collect();
        Box::pin(async move { Ok(all) })
    }
}

impl Providers for FakeSource {
    fn capabilities(&self, type_: ProviderType) -> Option<Capabilities> {
        (type_ != ProviderType::OpenShift).then(|| Source::capabilities(self))
    }

    fn test<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, Result<(), ConnectError>> {
        Box::pin(async { Ok(()) })
    }

    fn collect(&self, _: Endpoint, cancel: CancellationToken) -> BoxFuture<'static, Result<(), ConnectError>> {
        Box::pin(async move {
            cancel.cancelled().await;
            Ok(())
        })
    }

    fn loaded(&self, _: &Provider) -> bool {
        true
    }

    fn refresh(&self, _: &Provider) {}

    fn failure(&self, _: &Provider) -> Option<String> {
        None
    }

    fn forget(&self, _: &Provider) {}

    fn source(&self, _: &Provider) -> Result<Arc<dyn Source>, SourceError> {
        Ok(Arc::new(self.clone()))
    }

    fn find<'a>(&'a self, _: &'a Provider, thing: Thing, reference: &'a Ref) -> BoxFuture<'a, Found> {
        let named = |id: &str, name: &str| reference.id == id || (reference.id.is_empty() && reference.name == name);
        let one = |id: &str, name: &str| Found::One(Ref { id: id.into(), name: name.into(), ..reference.clone() });
        let found = match thing {
            Thing::Network if named("net-1", "net") => one("net-1", "net"),
            Thing::Storage if named("ds-1", "ds") => one("ds-1", "ds"),
            Thing::Network | Thing::Storage => Found::None,
            Thing::Vm => {
                let machines = self.machines.lock().expect("not poisoned");
                let found = machines.values().find(|machine| named(&machine.id, &machine.name));
                found.map_or(Found::None, |machine| one(&machine.id, &machine.name))
            }
        };
        Box::pin(async move { found })
    }

    fn workload(&self, _: &Provider, id: &str) -> Option<serde_json::Value> {
        Some(serde_json::json!({"id": id}))
    }
}
