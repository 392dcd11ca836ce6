//! A source made up on the spot: machines in memory, with a power switch.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use forklift_api::worker::ImportSource;
use forklift_api::{Condition, Provider, ProviderType, Ref};
use forklift_controllers::ports::{
    ConnectError, Endpoint, Examination, Found, FoundHost, HostEndpoint, HostError, HostFacts, Providers, Thing,
};
use forklift_core::machine::{Disk, Machine, Nic, PowerState, ResourceRef, VmIdentity};
use forklift_core::source::{
    Capabilities, DiskSource, InspectionSnapshots, PortFuture, SnapshotFact, Source, SourceError,
};
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Everything the fake source knows; shared by the providers port and the test.
#[derive(Clone, Default)]
pub struct FakeSource {
    machines: Arc<Mutex<BTreeMap<String, Machine>>>,
    /// How the source answers those who connect.
    pub door: Arc<Mutex<Door>>,
}

/// How the source answers those who connect, and what it saw.
#[derive(Default)]
pub struct Door {
    /// What an examination gives; nothing said is an empty one.
    pub answer: Option<Result<Examination, ConnectError>>,
    /// Conditions of settings and secret.
    pub check: Vec<Condition>,
    /// Logins so far.
    pub logins: usize,
    /// The inventory is not complete.
    pub loading: bool,
    /// Why the inventory could not be refreshed.
    pub failure: Option<String>,
    /// Passwords with which collectors were started.
    pub collected: Vec<String>,
    /// Inventories that were dropped.
    pub forgotten: usize,
    /// Hosts of the inventory.
    pub hosts: Vec<HostFacts>,
    /// What a login to a host gives.
    pub host_answer: Option<HostError>,
    /// Logins to hosts so far: address, user and thumbprint.
    pub host_logins: Vec<(String, String, String)>,
    /// Hosts that are reached directly, by id.
    pub direct: BTreeMap<String, HostEndpoint>,
    /// Snapshots of inspections, by VM and name.
    pub snapshots: Vec<(String, String)>,
    /// Snapshots of inspections that were ever taken.
    pub snapshots_taken: usize,
    /// Ends all collectors with this error.
    pub collector_ends: Option<tokio::sync::watch::Receiver<Option<ConnectError>>>,
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

    /// Changes how the source answers.
    pub fn door<T>(&self, change: impl FnOnce(&mut Door) -> T) -> T {
        change(&mut self.door.lock().expect("not poisoned"))
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
        Capabilities { power: true, conversion: true, luks: true, guest_ids: true, ..Capabilities::default() }
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
            host: String::new(),
            datastore: String::new(),
        };
        let all = machine.disks.iter().map(source).collect();
        Box::pin(async move { Ok(all) })
    }
}

impl InspectionSnapshots for FakeSource {
    fn take<'a>(&'a self, vm: &'a str, name: &'a str) -> PortFuture<'a, Option<SnapshotFact>> {
        let known = self.door(|door| {
            let wanted = (vm.to_owned(), name.to_owned());
            if door.snapshots.contains(&wanted) {
                return true;
            }
            door.snapshots.push(wanted);
            door.snapshots_taken += 1;
            false
        });
        let fact = SnapshotFact { name: name.into(), id: "snapshot-9".into(), ready: true, deltas: Vec::new() };
        Box::pin(async move { Ok(known.then_some(fact)) })
    }

    fn remove<'a>(&'a self, vm: &'a str, name: &'a str) -> PortFuture<'a, bool> {
        let gone = self.door(|door| {
            let before = door.snapshots.len();
            door.snapshots.retain(|known| *known != (vm.to_owned(), name.to_owned()));
            before == door.snapshots.len()
        });
        Box::pin(async move { Ok(gone) })
    }
}

impl Providers for FakeSource {
    fn capabilities(&self, type_: ProviderType) -> Option<Capabilities> {
        (type_ != ProviderType::OpenShift).then(|| Source::capabilities(self))
    }

    fn check(&self, _: &Endpoint) -> Vec<Condition> {
        self.door(|door| door.check.clone())
    }

    fn examine<'a>(&'a self, _: &'a Endpoint) -> BoxFuture<'a, Result<Examination, ConnectError>> {
        let answer = self.door(|door| {
            door.logins += 1;
            door.answer.clone().unwrap_or_else(|| Ok(Examination::default()))
        });
        Box::pin(async move { answer })
    }

    fn has_hosts(&self, type_: ProviderType) -> bool {
        type_ == ProviderType::VSphere
    }

    fn host<'a>(&'a self, _: &'a Provider, reference: &'a Ref) -> BoxFuture<'a, FoundHost> {
        let found: Vec<HostFacts> = self.door(|door| {
            let fits = |host: &&HostFacts| {
                if reference.id.is_empty() { host.name == reference.name } else { host.id == reference.id }
            };
            door.hosts.iter().filter(fits).cloned().collect()
        });
        let found = match (self.door(|door| door.loading), found.as_slice()) {
            (true, _) => FoundHost::NotLoaded,
            (false, []) => FoundHost::None,
            (false, [one]) => FoundHost::One(one.clone()),
            (false, _) => FoundHost::Many,
        };
        Box::pin(async move { found })
    }

    fn test_host<'a>(&'a self, _: &'a Provider, host: &'a HostEndpoint) -> BoxFuture<'a, Result<(), HostError>> {
        let user = String::from_utf8_lossy(host.secret.get("user").map_or(&[], Vec::as_slice)).into_owned();
        let answer = self.door(|door| {
            door.host_logins.push((host.url.clone(), user, host.thumbprint.clone()));
            door.host_answer.clone()
        });
        Box::pin(async move { answer.map_or(Ok(()), Err) })
    }

    fn set_direct(&self, _: &str, host: &str, endpoint: Option<HostEndpoint>) {
        self.door(|door| match endpoint {
            Some(endpoint) => drop(door.direct.insert(host.to_owned(), endpoint)),
            None => drop(door.direct.remove(host)),
        });
    }

    fn collect(&self, endpoint: Endpoint, cancel: CancellationToken) -> BoxFuture<'static, Result<(), ConnectError>> {
        let ends = self.door(|door| {
            door.collected.push(endpoint.secret_text("password").unwrap_or_default().to_owned());
            door.collector_ends.clone()
        });
        Box::pin(async move {
            let ended = async {
                match ends {
                    Some(mut ends) => {
                        let error = ends.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
                        match error {
                            Some(error) => Some(error),
                            None => std::future::pending().await,
                        }
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => Ok(()),
                error = ended => error.map_or(Ok(()), Err),
            }
        })
    }

    fn loaded(&self, _: &Provider) -> bool {
        self.door(|door| !door.loading)
    }

    fn refresh(&self, _: &Provider) {}

    fn failure(&self, _: &Provider) -> Option<String> {
        self.door(|door| door.failure.clone())
    }

    fn forget(&self, _: &Provider) {
        self.door(|door| door.forgotten += 1);
    }

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

    fn inspection<'a>(
        &'a self,
        connection: &'a BTreeMap<String, Vec<u8>>,
    ) -> BoxFuture<'a, Result<Arc<dyn InspectionSnapshots>, SourceError>> {
        let known = connection.get("url").is_some_and(|url| url == b"https://vc/sdk");
        let snapshots: Arc<dyn InspectionSnapshots> = Arc::new(self.clone());
        Box::pin(async move { if known { Ok(snapshots) } else { Err(SourceError::Denied("no such server".into())) } })
    }

    fn workload(&self, _: &Provider, id: &str) -> Option<serde_json::Value> {
        Some(serde_json::json!({"id": id}))
    }
}
