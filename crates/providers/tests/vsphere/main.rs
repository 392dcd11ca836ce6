//! vSphere against a simulated vCenter that is govmomi's, with real accounts, tasks, snapshots and faults.

mod client;
mod hosts;
mod provider;
mod sessions;
mod source;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use forklift_providers::vsphere::vim::{Client, Endpoint, MoRef};
use forklift_testkit::peers::vcenter::{Calls, Options, Vcenter};

/// Starts a simulator with these VMs; `None` where it cannot be built.
fn start(names: &[&str]) -> Option<Vcenter> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Vcenter::start(Options { vms: 1, names, disk_size: 16 << 20, ..Options::default() })
}

/// The secret of a provider for it.
fn secret(vcenter: &Vcenter) -> BTreeMap<String, Vec<u8>> {
    let pairs = [("user", vcenter.user()), ("password", vcenter.password()), ("cacert", vcenter.ca())];
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
}

fn endpoint(vcenter: &Vcenter) -> Endpoint {
    Endpoint::from_secret(vcenter.url(), &secret(vcenter)).expect("complete")
}

async fn connect(vcenter: &Vcenter) -> Client {
    Client::connect(&endpoint(vcenter)).await.expect("connected")
}

/// The reference of a VM.
fn vm(vcenter: &Vcenter, name: &str) -> MoRef {
    let machine = vcenter.machine(name).expect("the VM");
    MoRef::vm(machine["id"].as_str().expect("an id"))
}

/// Waits until something holds, at most 30 s.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the server has counted something; returns its counters.
async fn counted(vcenter: &Vcenter, what: &str, holds: impl Fn(&Calls) -> bool) -> Calls {
    let mut calls = vcenter.calls().expect("counters");
    until(what, || {
        calls = vcenter.calls().expect("counters");
        holds(&calls)
    })
    .await;
    calls
}
