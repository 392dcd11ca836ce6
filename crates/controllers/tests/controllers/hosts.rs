//! Hosts that are reached directly: what they say about themselves, and when sources may use them.
use forklift_api::host::HostSpec;
use forklift_api::{Host, Provider, Ref};
use forklift_controllers::ports::{HostError, HostFacts};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Cluster, background, has, provider, reference};

const PRINT: &str = "A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D";

fn host(id: &str) -> HostSpec {
    HostSpec {
        reference: Ref::by_id(id),
        provider: reference("src"),
        ip_address: "10.0.0.7".into(),
        secret: reference("esxi"),
    }
}

fn facts(id: &str, name: &str, status: &str) -> HostFacts {
    HostFacts {
        id: id.into(),
        name: name.into(),
        status: status.into(),
        thumbprint: PRINT.into(),
        in_maintenance: false,
    }
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.source.door(|door| {
        door.hosts = vec![facts("host-1", "esxi-1", "green"), facts("host-2", "same", "green")];
        door.hosts.push(facts("host-3", "same", "red"));
        door.hosts.push(HostFacts { in_maintenance: true, ..facts("host-4", "resting", "green") });
        door.hosts.push(facts("host-5", "tired", "yellow"));
    });
    cluster.create(provider("src", "vsphere", "https://vcenter.example/sdk")).await;
    cluster.until("src", |p: Option<&Provider>| has(p, "Ready")).await;
    cluster.secret("esxi", &[("user", "root"), ("password", "secret")]).await;
    cluster
}

async fn change(cluster: &Cluster, name: &str, spec: serde_json::Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    cluster.api::<Host>().patch(name, &PatchParams::default(), &patch).await.expect("is changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_ready_is_made_known_and_taken_back() {
    let cluster = cluster().await;
    cluster.create(Host::new("good", host("host-1"))).await;
    cluster.raises::<Host>("good", "Ready", "").await;
    cluster.raises::<Host>("good", "ConnectionTestSucceeded", "Tested").await;
    cluster.raises::<Host>("good", "Validated", "Completed").await;
    let logins = cluster.source.door(|door| door.host_logins.clone());
    assert_eq!(logins, [("https://10.0.0.7/sdk".to_owned(), "root".to_owned(), PRINT.to_owned())]);
    cluster
        .eventually("the source knows the host", || async {
            cluster.source.door(|door| door.direct.get("host-1").is_some_and(|host| host.url == "https://10.0.0.7/sdk"))
        })
        .await;

    change(&cluster, "good", json!({"ipAddress": "10.0.0.8"})).await;
    cluster
        .eventually("the source knows the new address", || async {
            cluster.source.door(|door| door.direct.get("host-1").is_some_and(|host| host.url == "https://10.0.0.8/sdk"))
        })
        .await;
    cluster.api::<Host>().delete("good", &background()).await.expect("is deleted");
    cluster
        .eventually("the source has forgotten the host", || async {
            cluster.source.door(|door| door.direct.is_empty())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_host() {
    let cluster = cluster().await;
    cluster.create(provider("ova", "ova", "10.0.0.1:/exports/ova")).await;
    let with = |name: &str, change: &dyn Fn(&mut HostSpec)| {
        let mut spec = host("host-1");
        change(&mut spec);
        cluster.create(Host::new(name, spec))
    };
    with("no-provider", &|spec| spec.provider = Default::default()).await;
    cluster.raises::<Host>("no-provider", "ProviderNotValid", "NotSet").await;
    with("gone-provider", &|spec| spec.provider = reference("gone")).await;
    cluster.raises::<Host>("gone-provider", "ProviderNotValid", "NotFound").await;
    with("ova-host", &|spec| spec.provider = reference("ova")).await;
    cluster.raises::<Host>("ova-host", "TypeNotValid", "TypeErr").await;
    with("no-ref", &|spec| spec.reference = Ref::default()).await;
    cluster.raises::<Host>("no-ref", "RefNotValid", "NotSet").await;
    with("gone-ref", &|spec| spec.reference = Ref::by_id("host-99")).await;
    cluster.raises::<Host>("gone-ref", "RefNotValid", "NotFound").await;
    with("same-ref", &|spec| spec.reference = Ref { name: "same".into(), ..Ref::default() }).await;
    cluster.raises::<Host>("same-ref", "RefNotValid", "Ambiguous").await;
    with("no-ip", &|spec| spec.ip_address = String::new()).await;
    cluster.raises::<Host>("no-ip", "IpNotValid", "NotSet").await;
    with("odd-ip", &|spec| spec.ip_address = "https://10.0.0.7".into()).await;
    cluster.raises::<Host>("odd-ip", "IpNotValid", "Malformed").await;
    with("no-secret", &|spec| spec.secret = Default::default()).await;
    cluster.raises::<Host>("no-secret", "SecretNotValid", "NotSet").await;
    with("gone-secret", &|spec| spec.secret = reference("gone")).await;
    cluster.raises::<Host>("gone-secret", "SecretNotValid", "NotFound").await;
    cluster.secret("half", &[("user", "root")]).await;
    with("half-secret", &|spec| spec.secret = reference("half")).await;
    let found = cluster.raises::<Host>("half-secret", "SecretNotValid", "DataErr").await;
    assert_eq!(found["items"], json!(["password"]));
    with("resting", &|spec| spec.reference = Ref::by_id("host-4")).await;
    cluster.raises::<Host>("resting", "InMaintenance", "StateEvaluated").await;
    with("sick", &|spec| spec.reference = Ref::by_id("host-3")).await;
    cluster.raises::<Host>("sick", "NotHealthy", "StateEvaluated").await;
    with("tired", &|spec| spec.reference = Ref::by_id("host-5")).await;
    let found = cluster.raises::<Host>("tired", "HostStatusNotGreen", "StateEvaluated").await;
    assert_eq!(found["category"], "Warn");
    cluster.raises::<Host>("tired", "Ready", "").await;
    assert_eq!(cluster.source.door(|door| door.direct.keys().cloned().collect::<Vec<_>>()), ["host-5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_refuses_is_not_asked_again_until_its_secret_changes() {
    let cluster = cluster().await;
    cluster.source.door(|door| door.host_answer = Some(HostError::Auth("incorrect user name or password".into())));
    cluster.create(Host::new("closed", host("host-1"))).await;
    cluster.raises::<Host>("closed", "ConnectionTestFailed", "Tested").await;
    // What makes a pass run is not a reason to try again.
    change(&cluster, "closed", json!({"name": "esxi-1"})).await;
    let seen = |host: Option<&Host>| {
        host.is_some_and(|h| h.status.as_ref().is_some_and(|s| Some(s.observed_generation) == h.metadata.generation))
    };
    cluster.until("closed", seen).await;
    assert_eq!(cluster.source.door(|door| door.host_logins.len()), 1);
    cluster.source.door(|door| door.host_answer = None);
    cluster.secret("esxi", &[("user", "root"), ("password", "right")]).await;
    cluster.raises::<Host>("closed", "Ready", "").await;

    cluster.source.door(|door| door.host_answer = Some(HostError::Certificate("the certificate is another".into())));
    cluster.create(Host::new("forged", HostSpec { ip_address: "10.0.0.9".into(), ..host("host-1") })).await;
    cluster.raises::<Host>("forged", "SecretNotValid", "DataErr").await;
    cluster.source.door(|door| door.host_answer = Some(HostError::Failed("no route".into())));
    cluster.create(Host::new("away", HostSpec { ip_address: "10.0.0.10".into(), ..host("host-1") })).await;
    let found = cluster.raises::<Host>("away", "ConnectionTestFailed", "Tested").await;
    assert!(found["message"].as_str().is_some_and(|message| message.contains("no route")), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_wait_for_their_provider() {
    let cluster = cluster().await;
    let answer = Some(Err(forklift_controllers::ports::ConnectError::Failed("down".into())));
    cluster.source.door(|door| door.answer = answer);
    cluster.create(provider("down", "vsphere", "https://down.example/sdk")).await;
    cluster.create(Host::new("waits", HostSpec { provider: reference("down"), ..host("host-1") })).await;
    cluster.raises::<Host>("waits", "ProviderNotReady", "NotFound").await;
    cluster.source.door(|door| {
        door.answer = None;
        door.loading = true;
    });
    cluster.raises::<Host>("waits", "ProviderNotReady", "Started").await;
    cluster.source.door(|door| door.loading = false);
    cluster.raises::<Host>("waits", "Ready", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_of_an_esxi_provider_takes_the_providers_credentials() {
    let cluster = cluster().await;
    cluster.secret("own", &[("user", "root"), ("password", "of the provider")]).await;
    let mut esxi = provider("alone", "vsphere", "https://esxi.example/sdk");
    esxi.spec.secret = reference("own");
    esxi.spec.settings = [("sdkEndpoint".to_owned(), "esxi".to_owned())].into();
    cluster.create(esxi).await;
    cluster.secret("empty", &[("user", "")]).await;
    let spec = HostSpec { provider: reference("alone"), secret: reference("empty"), ..host("host-1") };
    cluster.create(Host::new("alone", spec)).await;
    cluster.raises::<Host>("alone", "Ready", "").await;
    let password = cluster.source.door(|door| door.direct["host-1"].secret["password"].clone());
    assert_eq!(password, b"of the provider");
}
