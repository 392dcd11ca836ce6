//! Hosts that are reached directly: a vCenter's inventory knows them, an ESXi simulator answers for them.
use forklift_api::host::HostSpec;
use forklift_api::{Host, Provider, Ref};
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use serde_json::json;

use super::{Live, items, named};
use crate::cluster::{background, provider, reference};

struct Esxi {
    live: Live,
    esxi: Vcenter,
    /// Hosts of the vCenter by the order of their names.
    ids: Vec<String>,
}

impl Esxi {
    async fn start() -> Option<Self> {
        let live = Live::ready(Options { hosts: 3, ..named(&["web"]) }).await?;
        let options = Options { esx: true, ..named(&["web"]) };
        let esxi = tokio::task::spawn_blocking(|| Vcenter::start(options)).await.expect("it starts")?;
        live.cluster.secret("esxi", &[("user", esxi.user()), ("password", esxi.password())]).await;
        let entry = live.registry.inventory().find_provider(crate::cluster::NS, "src").expect("it is there");
        let mut ids: Vec<_> =
            entry.store().list("hosts").iter().map(|h| (h.name.to_string(), h.id.to_string())).collect();
        ids.sort();
        let ids = ids.into_iter().map(|(_, id)| id).collect();
        Some(Self { live, esxi, ids })
    }

    fn spec(&self, host: usize) -> HostSpec {
        let address = self.esxi.url().trim_start_matches("https://").trim_end_matches("/sdk");
        HostSpec {
            reference: Ref::by_id(&self.ids[host]),
            provider: reference("src"),
            ip_address: address.to_owned(),
            secret: reference("esxi"),
        }
    }

    /// The inventory knows the certificate that the host shows.
    fn recognise(&self, host: usize) {
        let print = json!({"summary.config.sslThumbprint": self.esxi.thumbprint()});
        self.live.vcenter.set("HostSystem", &self.ids[host], &print).expect("a change");
    }

    async fn create(&self, name: &str, change: impl FnOnce(&mut HostSpec)) {
        let mut spec = self.spec(0);
        change(&mut spec);
        self.live.cluster.create(Host::new(name, spec)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_wrong() {
    let Some(hosts) = Esxi::start().await else { return };
    let live = &hosts.live;
    live.cluster.create(provider("ova", "ova", "10.0.0.1:/exports/ova")).await;
    hosts.create("no-provider", |spec| spec.provider = Default::default()).await;
    live.raises::<Host>("no-provider", "ProviderNotValid", "NotSet").await;
    hosts.create("gone-provider", |spec| spec.provider = reference("gone")).await;
    live.raises::<Host>("gone-provider", "ProviderNotValid", "NotFound").await;
    hosts.create("ova", |spec| spec.provider = reference("ova")).await;
    live.raises::<Host>("ova", "TypeNotValid", "TypeErr").await;
    hosts.create("no-ref", |spec| spec.reference = Ref::default()).await;
    live.raises::<Host>("no-ref", "RefNotValid", "NotSet").await;
    hosts.create("gone-ref", |spec| spec.reference = Ref::by_id("host-99")).await;
    live.raises::<Host>("gone-ref", "RefNotValid", "NotFound").await;
    for host in &hosts.ids[1..] {
        live.vcenter.set("HostSystem", host, &json!({"name": "twin"})).expect("a change");
    }
    hosts.create("same-ref", |spec| spec.reference = Ref { name: "twin".into(), ..Ref::default() }).await;
    live.raises::<Host>("same-ref", "RefNotValid", "Ambiguous").await;
    hosts.create("no-ip", |spec| spec.ip_address = String::new()).await;
    live.raises::<Host>("no-ip", "IpNotValid", "NotSet").await;
    hosts.create("odd-ip", |spec| spec.ip_address = "https://10.0.0.7".into()).await;
    live.raises::<Host>("odd-ip", "IpNotValid", "Malformed").await;
    hosts.create("no-secret", |spec| spec.secret = Default::default()).await;
    live.raises::<Host>("no-secret", "SecretNotValid", "NotSet").await;
    hosts.create("gone-secret", |spec| spec.secret = reference("gone")).await;
    live.raises::<Host>("gone-secret", "SecretNotValid", "NotFound").await;
    // a secret that whoever made the host may not even be allowed to read
    hosts.create("far-secret", |spec| spec.secret.namespace = Some("kube-system".into())).await;
    let found = live.raises::<Host>("far-secret", "SecretNotValid", "DataErr").await;
    assert!(found["message"].as_str().is_some_and(|text| text.contains("namespace")), "{found}");
    live.cluster.secret("half", &[("user", "root")]).await;
    hosts.create("half", |spec| spec.secret = reference("half")).await;
    let found = live.raises::<Host>("half", "SecretNotValid", "DataErr").await;
    assert_eq!(items(&found), ["password"]);
    let calls = hosts.esxi.calls().expect("counters");
    assert_eq!((calls.logins(), calls.invalid_logins()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_inventory_says_of_a_host() {
    let Some(hosts) = Esxi::start().await else { return };
    let live = &hosts.live;
    (0..3).for_each(|host| hosts.recognise(host));
    let resting = json!({"summary.runtime.inMaintenanceMode": true});
    live.vcenter.set("HostSystem", &hosts.ids[0], &resting).expect("a change");
    live.vcenter.set("HostSystem", &hosts.ids[1], &json!({"overallStatus": "red"})).expect("a change");
    live.vcenter.set("HostSystem", &hosts.ids[2], &json!({"overallStatus": "yellow"})).expect("a change");
    hosts.create("resting", |_| {}).await;
    live.raises::<Host>("resting", "InMaintenance", "StateEvaluated").await;
    let by_id = |host: usize| Ref::by_id(&hosts.ids[host]);
    hosts.create("sick", |spec| spec.reference = by_id(1)).await;
    live.raises::<Host>("sick", "NotHealthy", "StateEvaluated").await;
    hosts.create("tired", |spec| spec.reference = by_id(2)).await;
    live.raises::<Host>("tired", "HostStatusNotGreen", "StateEvaluated").await;
    live.raises::<Host>("tired", "Ready", "").await;
    live.vcenter
        .set("HostSystem", &hosts.ids[0], &json!({"summary.runtime.inMaintenanceMode": false}))
        .expect("a change");
    live.vcenter.set("HostSystem", &hosts.ids[0], &json!({"overallStatus": "green"})).expect("a change");
    live.raises::<Host>("resting", "Ready", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_logs_in_once_and_is_made_known() {
    let Some(hosts) = Esxi::start().await else { return };
    let live = &hosts.live;
    // the inventory knows another certificate than the host shows
    hosts.create("good", |_| {}).await;
    let found = live.raises::<Host>("good", "SecretNotValid", "DataErr").await;
    assert!(found["message"].as_str().is_some_and(|text| text.contains("certificate")), "{found}");
    assert_eq!(hosts.esxi.calls().expect("counters").logins(), 0, "no password was sent");
    hosts.recognise(0);
    live.raises::<Host>("good", "ConnectionTestSucceeded", "Tested").await;
    live.raises::<Host>("good", "Validated", "Completed").await;
    live.raises::<Host>("good", "Ready", "").await;
    let src = live.cluster.api::<Provider>().get("src").await.expect("it is there");
    let uid = src.metadata.uid.unwrap_or_default();
    let known = live.registry.direct(&uid, &hosts.ids[0]).expect("it is made known");
    assert_eq!((known.url.as_str(), known.secret_name.as_str()), (hosts.esxi.url(), "esxi"));
    let calls = hosts.esxi.calls().expect("counters");
    assert_eq!((calls.logins(), calls.sessions()), (1, 0), "it logged out again");
    live.cluster.api::<Host>().delete("good", &background()).await.expect("is deleted");
    live.cluster
        .eventually("the host is forgotten", || async { live.registry.direct(&uid, &hosts.ids[0]).is_none() })
        .await;

    // refused: not tried again until the secret changes
    live.cluster.secret("esxi", &[("user", "root"), ("password", "wrong")]).await;
    hosts.create("closed", |_| {}).await;
    let found = live.raises::<Host>("closed", "ConnectionTestFailed", "Tested").await;
    assert!(found["suggestion"].as_str().is_some_and(|text| text.contains("not tried again")), "{found}");
    live.change::<Host>("closed", json!({"name": "another name"})).await;
    live.cluster
        .until("closed", |host: Option<&Host>| {
            host.is_some_and(|h| {
                h.status.as_ref().is_some_and(|s| Some(s.observed_generation) == h.metadata.generation)
            })
        })
        .await;
    assert_eq!(hosts.esxi.calls().expect("counters").invalid_logins(), 1);
    live.cluster.secret("esxi", &[("user", hosts.esxi.user()), ("password", hosts.esxi.password())]).await;
    live.raises::<Host>("closed", "Ready", "").await;

    // no host at all, and a vCenter instead of one
    hosts.create("away", |spec| spec.ip_address = "127.0.0.1:1".into()).await;
    live.raises::<Host>("away", "ConnectionTestFailed", "Tested").await;
    let vcenter = live.vcenter.url().trim_start_matches("https://").trim_end_matches("/sdk").to_owned();
    live.secret("vcenter", &[]).await;
    hosts
        .create("vcenter", |spec| {
            spec.ip_address = vcenter;
            spec.secret = reference("vcenter");
        })
        .await;
    let found = live.raises::<Host>("vcenter", "ConnectionTestFailed", "Tested").await;
    assert!(found["message"].as_str().is_some_and(|text| text.contains("not an ESXi host")), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_wait_for_their_provider() {
    let Some(hosts) = Esxi::start().await else { return };
    let live = &hosts.live;
    hosts.recognise(0);
    live.vcenter.fault(&Fault::Delay("CreateFilter".into(), 4000)).expect("a switch");
    live.cluster.create(live.provider("second")).await;
    hosts.create("waits", |spec| spec.provider = reference("second")).await;
    live.raises::<Host>("waits", "ProviderNotReady", "Started").await;
    live.raises::<Host>("waits", "Ready", "").await;
    // its inventory is known, and it is not ready any more
    live.change::<Provider>("second", json!({"settings": {"sdkEndpoint": "vcentre"}})).await;
    live.raises::<Host>("waits", "ProviderNotReady", "NotFound").await;
}
