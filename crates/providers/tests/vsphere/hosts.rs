//! ESXi hosts that Host objects name: snapshots and disks through their own addresses and accounts.

use std::sync::Arc;

use forklift_api::worker::ImportSource;
use forklift_core::machine::VmIdentity;
use forklift_core::source::{Snapshots, Source, SourceError};
use forklift_inventory::{Draft, Inventory, ProviderEntry};
use forklift_providers::vsphere::session::Sessions;
use forklift_providers::vsphere::source::Vms;
use forklift_providers::vsphere::vim::Tls;
use forklift_providers::vsphere::{SPEC, model};
use forklift_providers::{Endpoint, Held, HostEndpoint};
use forklift_testkit::peers::vcenter::{HostAddress, Options, Vcenter};
use serde_json::json;

use crate::source::provider;

const PREFIX: &str = "forklift-migration-precopy-1234abcd-";

/// A vCenter whose hosts have addresses, and what a Host object makes known of the one that runs `web`.
struct Direct {
    vcenter: Vcenter,
    host: HostAddress,
    sessions: Arc<Sessions>,
    vm: VmIdentity,
}

impl Direct {
    fn start() -> Option<Self> {
        let vcenter = Vcenter::start(Options {
            vms: 1,
            names: vec!["web".into()],
            disk_size: 16 << 20,
            host_addresses: true,
            ..Options::default()
        })?;
        let machine = vcenter.machine("web").expect("the VM");
        let hosts = vcenter.hosts().expect("hosts");
        let host = hosts.into_iter().find(|host| machine["host"] == host.name.as_str()).expect("its host");
        let text = |key: &str| machine[key].as_str().expect("a text").to_owned();
        let vm = VmIdentity { id: text("id"), uuid: text("instanceUuid"), name: "web".into() };
        Some(Self { vcenter, host, sessions: Arc::default(), vm })
    }

    fn endpoint(&self, settings: &[(&str, &str)]) -> Endpoint {
        let secret = [("user", &self.host.user), ("password", &self.host.password)];
        let secret = secret.map(|(key, value)| (key.to_owned(), value.clone().into_bytes()));
        let host = HostEndpoint {
            id: self.host.id.clone(),
            url: self.host.url.clone(),
            secret: secret.into_iter().collect(),
            thumbprint: self.vcenter.host_thumbprint().to_owned(),
            secret_name: "esxi".into(),
        };
        let mut endpoint = provider(&self.vcenter, settings);
        endpoint.hosts.insert(host.id.clone(), host);
        endpoint
    }

    /// A source whose inventory has the VM, on this host, with a disk of this file.
    fn source(&self, endpoint: &Endpoint, host: &str, file: &str) -> Vms {
        let entry = Arc::new(ProviderEntry::collected(&SPEC, json!({})));
        let inventory = Inventory::new(None);
        let writer = inventory.writer(&entry);
        let disk =
            model::Disk { key: 2000, file: file.to_owned().into(), capacity: 16 << 20, ..model::Disk::default() };
        let uuid = self.vm.uuid.clone();
        let record = model::Vm {
            instance_uuid: uuid.as_str().into(),
            host: host.into(),
            disks: vec![disk].into(),
            ..model::Vm::default()
        };
        writer.upsert("vms", Draft::new(&self.vm.id, "web", "", record));
        writer.loaded();
        // what has no hosts has sessions of its own: it would let those with hosts go
        let sessions = if endpoint.hosts.is_empty() { Arc::default() } else { self.sessions.clone() };
        Vms::new(entry, endpoint, sessions)
    }

    fn at_host(&self, method: &str) -> u64 {
        self.vcenter.calls().expect("counters").at_host(&self.host.name).of(method)
    }
}

#[tokio::test]
async fn snapshots_are_taken_and_removed_at_the_host() {
    let Some(direct) = Direct::start() else { return };
    let (vcenter, vm) = (&direct.vcenter, &direct.vm);
    let file = vcenter.machine("web").expect("the VM")["disks"][0]["base"].as_str().expect("a file").to_owned();
    // the vCenter calls the datastore otherwise than the host
    let known = format!("[renamed]{}", file.split_once(']').expect("a datastore").1);
    let endpoint = direct.endpoint(&[]);
    let source = direct.source(&endpoint, &direct.host.id, &known);
    let name = format!("{PREFIX}0");
    source.ensure(vm, &name).await.expect("taken");
    source.ensure(vm, &name).await.expect("there already");
    assert_eq!(direct.at_host("CreateSnapshot_Task"), 1);
    assert_eq!(direct.at_host("ReconfigVM_Task"), 0, "settings are the vCenter's");
    let facts = source.list(vm, PREFIX).await.expect("snapshots");
    let [fact] = &facts[..] else { panic!("one of ours: {facts:?}") };
    assert!(fact.ready && fact.id.starts_with("ha-"), "the host's own reference: {fact:?}");
    assert_eq!(fact.deltas.iter().map(|delta| delta.disk.as_str()).collect::<Vec<_>>(), [known.as_str()]);
    // whoever asks the vCenter sees the same snapshot under another reference
    let by_vcenter = direct.source(&provider(vcenter, &[]), &direct.host.id, &file);
    let there = by_vcenter.list(vm, PREFIX).await.expect("snapshots");
    assert_eq!(there.len(), 1);
    assert!(there[0].name == name && there[0].id != fact.id, "{there:?}");
    assert_eq!(there[0].deltas[0].delta_id, fact.deltas[0].delta_id);
    by_vcenter.ensure(vm, &name).await.expect("there already");
    source.remove(vm, &name).await.expect("removed");
    assert_eq!(vcenter.snapshots("web").expect("snapshots"), [""; 0]);
    assert_eq!((direct.at_host("RemoveSnapshot_Task"), direct.at_host("Login")), (1, 1));
    // power is the vCenter's, and all sessions end
    source.power_on(vm).await.expect("on already");
    direct.sessions.release().await;
    drop(by_vcenter);
    crate::counted(vcenter, "no session stays", |calls| calls.sessions() == 0).await;
}

#[tokio::test]
async fn disks_are_read_from_the_host_with_its_own_secret() {
    let Some(direct) = Direct::start() else { return };
    let endpoint = direct.endpoint(&[]);
    let told = async |source: Vms| {
        let machine = source.machine(&direct.vm.id).await.expect("the VM");
        let disk = source.disk_sources(&machine).await.expect("its disks").remove(0);
        let ImportSource::Vsphere(from) = disk.source else { panic!("vSphere") };
        (from.url, from.vm, from.thumbprint.unwrap_or_default(), disk.secret.unwrap_or_default())
    };
    let (host, vcenter) = (&direct.host, &direct.vcenter);
    let through_host = (host.url.clone(), String::new(), vcenter.host_thumbprint().to_owned(), "esxi".to_owned());
    let through_vcenter =
        (vcenter.url().to_owned(), direct.vm.id.clone(), vcenter.thumbprint().to_owned(), "s".to_owned());
    assert_eq!(told(direct.source(&endpoint, &host.id, "[ds] web/web.vmdk")).await, through_host);
    assert_eq!(told(direct.source(&endpoint, "host-none", "[ds] web/web.vmdk")).await, through_vcenter);
    // the secret says that the host's certificate does not matter: nothing is pinned
    let mut insecure = endpoint.clone();
    let known = insecure.hosts.get_mut(&host.id).expect("the host");
    known.secret.insert("insecureSkipVerify".into(), b"true".to_vec());
    let print = told(direct.source(&insecure, &host.id, "[ds] web/web.vmdk")).await.2;
    assert_eq!(print, "");
    // a host without a secret of its own to copy is not used
    insecure.hosts.get_mut(&host.id).expect("the host").secret_name.clear();
    assert_eq!(told(direct.source(&insecure, &host.id, "[ds] web/web.vmdk")).await, through_vcenter);
}

#[tokio::test]
async fn a_ticket_of_the_vcenter_opens_one_file_of_a_host_once() {
    let Some(direct) = Direct::start() else { return };
    let (vcenter, host) = (&direct.vcenter, &direct.host);
    vcenter.power("web", false).expect("off");
    let base = vcenter.machine("web").expect("the VM")["disks"][0]["base"].as_str().expect("a file").to_owned();
    let (store, path) = base.trim_start_matches('[').split_once("] ").expect("a datastore path");
    let file = |name: &str| {
        let mut url = reqwest::Url::parse(&host.url).expect("a URL");
        url.set_path(&format!("/folder/{name}"));
        url.query_pairs_mut().append_pair("dcPath", "ha-datacenter").append_pair("dsName", store);
        url
    };
    let (flat, descriptor) = (file(&path.replace(".vmdk", "-flat.vmdk")), file(path));
    let client = crate::connect(vcenter).await;
    let tls = Tls { thumbprint: Some(vcenter.host_thumbprint().to_owned()), ..Tls::default() };
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls.rules().expect("rules")).build().expect("HTTP");
    let get = async |url: &reqwest::Url, ticket: Option<&str>| {
        let request = http.get(url.clone()).header("Range", "bytes=0-4095");
        let request = match ticket {
            Some(id) => request.header("Cookie", format!("vmware_cgi_ticket={id}")),
            None => request,
        };
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.bytes().await.expect("read").len())
    };
    assert_eq!(get(&flat, None).await.0, 401, "nobody");
    let ticket = client.service_ticket("GET", &flat).await.expect("a ticket");
    assert!(!format!("{ticket:?}").contains(ticket.id.expose()), "it is not shown");
    assert_eq!(get(&flat, Some(ticket.id.expose())).await, (206, 4096));
    assert_eq!(get(&flat, Some(ticket.id.expose())).await.0, 401, "used up");
    let ticket = client.service_ticket("GET", &descriptor).await.expect("a ticket");
    assert_eq!(get(&flat, Some(ticket.id.expose())).await.0, 401, "for another file");
    let ticket = client.service_ticket("HEAD", &flat).await.expect("a ticket");
    assert_eq!(get(&flat, Some(ticket.id.expose())).await.0, 401, "for another method");
    assert_eq!(vcenter.calls().expect("counters").at_host(&host.name).logins, 0, "no password was sent there");
}

#[tokio::test]
async fn a_host_that_cannot_be_used_is_told_with_its_reason() {
    let Some(direct) = Direct::start() else { return };
    let name = format!("{PREFIX}0");
    let ask = async |endpoint: &Endpoint, host: &str| {
        direct.source(endpoint, host, "[ds] web/web.vmdk").ensure(&direct.vm, &name).await
    };
    let mut wrong = direct.endpoint(&[]);
    wrong.hosts.get_mut(&direct.host.id).expect("the host").secret.insert("password".into(), b"wrong".to_vec());
    for _ in 0..3 {
        let refused = ask(&wrong, &direct.host.id).await.expect_err("a wrong password");
        assert!(matches!(refused, SourceError::Denied(_)), "{refused}");
    }
    let calls = direct.vcenter.calls().expect("counters").at_host(&direct.host.name);
    assert_eq!((calls.invalid_logins, calls.logins), (1, 0), "no account is locked");
    // what is there is seen and removed all the same, through the vCenter
    let by_vcenter = direct.source(&provider(&direct.vcenter, &[]), &direct.host.id, "[ds] web/web.vmdk");
    by_vcenter.ensure(&direct.vm, &name).await.expect("taken");
    let refused = direct.source(&wrong, &direct.host.id, "[ds] web/web.vmdk");
    assert_eq!(refused.list(&direct.vm, PREFIX).await.map(|found| found.len()), Ok(1));
    refused.remove(&direct.vm, &name).await.expect("removed");
    assert_eq!(direct.vcenter.snapshots("web").expect("snapshots"), [""; 0]);
    let calls = direct.vcenter.calls().expect("counters").at_host(&direct.host.name);
    assert_eq!(calls.invalid_logins, 1, "no account is locked");
    let mut other = direct.endpoint(&[]);
    other.hosts.get_mut(&direct.host.id).expect("the host").thumbprint = "AB:".repeat(20).trim_end_matches(':').into();
    let refused = ask(&other, &direct.host.id).await.expect_err("another certificate").to_string();
    assert!(refused.contains("another one than the pinned"), "{refused}");
    assert_eq!(direct.vcenter.calls().expect("counters").at_host(&direct.host.name).of("Login"), 1);
    // the VM was moved, and the inventory does not know it yet: it is asked again, nothing is lost
    let hosts = direct.vcenter.hosts().expect("hosts");
    let elsewhere = hosts.iter().find(|host| host.id != direct.host.id).expect("another host");
    let mut moved = direct.endpoint(&[]);
    let there = HostEndpoint {
        id: elsewhere.id.clone(),
        url: elsewhere.url.clone(),
        secret: [("user", &elsewhere.user), ("password", &elsewhere.password)]
            .map(|(key, value)| (key.to_owned(), value.clone().into_bytes()))
            .into(),
        ..moved.hosts[&direct.host.id].clone()
    };
    moved.hosts.insert(there.id.clone(), there);
    let error = ask(&moved, &elsewhere.id).await.expect_err("not here");
    assert!(matches!(&error, SourceError::Conflict(text) if text.contains("may have been moved")), "{error}");
    assert_eq!(ask(&moved, &direct.host.id).await, Ok(()));
    // a provider that is itself a host asks itself
    let esxi = direct.endpoint(&[("sdkEndpoint", "esxi")]);
    let before = direct.at_host("RetrievePropertiesEx") + direct.at_host("RetrieveProperties");
    ask(&esxi, &direct.host.id).await.expect("asked");
    assert_eq!(direct.at_host("RetrievePropertiesEx") + direct.at_host("RetrieveProperties"), before);
}
