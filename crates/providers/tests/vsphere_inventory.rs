//! The inventory of a simulated vCenter, while it changes, fails and comes back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forklift_inventory::{ProviderEntry, Record, Store, Writer};
use forklift_providers::vsphere::model::Vm;
use forklift_providers::vsphere::{Collect, SPEC, kinds, machine, vim};
use forklift_providers::{Collector, ConnectError};
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(180);

/// A vCenter that is being collected.
struct Followed {
    vcenter: Vcenter,
    store: Arc<Store>,
    cancel: CancellationToken,
    run: JoinHandle<Result<(), ConnectError>>,
}

impl Followed {
    /// Starts a vCenter with these VMs and waits for parity; nothing where there is no simulator.
    async fn start(names: &[&str]) -> Option<Self> {
        let vcenter = vcenter(Options { names: owned(names), ..Options::default() })?;
        Some(Self::load(vcenter).await)
    }

    async fn load(vcenter: Vcenter) -> Self {
        let followed = Self::follow(vcenter);
        followed.until("the inventory is loaded", |store| store.has_parity().then_some(())).await;
        followed
    }

    fn follow(vcenter: Vcenter) -> Self {
        let secret = [("user", vcenter.user()), ("password", vcenter.password()), ("cacert", vcenter.ca())];
        let secret: BTreeMap<_, _> = secret.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        let endpoint = vim::Endpoint::from_secret(vcenter.url(), &secret).expect("a whole secret");
        let session = Arc::new(tokio::sync::OnceCell::<vim::Client>::new());
        let connect = move || -> BoxFuture<'static, Result<vim::Client, vim::VimError>> {
            let (session, endpoint) = (session.clone(), endpoint.clone());
            Box::pin(async move { session.get_or_try_init(|| vim::Client::connect(&endpoint)).await.cloned() })
        };
        let entry = ProviderEntry::collected(&SPEC, json!({"metadata": {"uid": "u", "name": "vc", "namespace": "n"}}));
        let store = entry.store().clone();
        let cancel = CancellationToken::new();
        let collector = Box::new(Collect::new(Box::new(connect)));
        let run = tokio::spawn(collector.run(Writer::new(store.clone(), None), cancel.clone()));
        Self { vcenter, store, cancel, run }
    }

    fn fault(&self, fault: Fault) {
        self.vcenter.fault(&fault).expect("the fault is set");
    }

    /// Waits until the store is as it should be.
    async fn until<T>(&self, what: &str, reached: impl Fn(&Store) -> Option<T>) -> T {
        let (_, mut events) = self.store.watch(kinds::VMS);
        let mut parity = self.store.parity();
        let wait = async {
            loop {
                if let Some(value) = reached(&self.store) {
                    return value;
                }
                // some things are told by nothing: those are looked at again after a moment
                let next = async {
                    tokio::select! {
                        _ = events.recv() => {}
                        _ = parity.changed() => {}
                    }
                };
                let _ = tokio::time::timeout(Duration::from_millis(50), next).await;
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(value) => value,
            Err(_) => panic!("not in time: {what}; failure: {:?}; {}", self.store.failure(), self.vcenter.log()),
        }
    }

    async fn until_vm(&self, name: &str, what: &str, reached: impl Fn(&Vm) -> bool) {
        let vm_reached = |store: &Store| vm(store, name)?.native::<Vm>().filter(|vm| reached(vm)).map(drop);
        self.until(&format!("{name} {what}"), vm_reached).await;
    }

    async fn end(self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.run).await.expect("in time").expect("no panic");
        assert_eq!(ended, Ok(()));
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn vcenter(options: Options) -> Option<Vcenter> {
    let options = Options { vms: 1, disk_size: 16 << 20, ..options };
    tokio::task::block_in_place(|| Vcenter::start(options))
}

fn vm(store: &Store, name: &str) -> Option<Arc<Record>> {
    store.named(kinds::VMS, name).into_iter().next()
}

fn revision(followed: &Followed, name: &str) -> Option<u64> {
    vm(&followed.store, name).map(|vm| vm.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vcenter_is_loaded_and_its_changes_are_followed() {
    let Some(followed) = Followed::start(&["web", "db"]).await else { return };
    let Followed { vcenter, store, .. } = &followed;
    assert_eq!(store.fact("instanceUuid"), Some(json!(vcenter.instance_uuid())));
    assert!(store.fact("apiVersion").is_some_and(|version| version.as_str().is_some_and(|v| v.starts_with("8."))));
    assert!(store.count(kinds::HOSTS) >= 2 && store.count(kinds::DATASTORES) >= 1 && store.count(kinds::NETWORKS) >= 1);
    let web = vm(store, "web").expect("it is there");
    assert!(web.path.ends_with("/vm/web"), "{}", web.path);
    let translated = machine(store, &web).expect("a VM");
    assert_eq!((translated.disks.len(), translated.nics.len(), translated.disks[0].capacity), (1, 1, 16 << 20));
    assert!(!translated.disks[0].storage.name.is_empty() && !translated.nics[0].network.name.is_empty());

    vcenter.power("web", false).expect("it turns off");
    followed.until_vm("web", "is off", |vm| vm.power_state == "poweredOff").await;
    vcenter.snapshot("db", "mine").expect("it is taken");
    followed.until_vm("db", "has a snapshot", |vm| vm.snapshots.foreign == 1).await;
    vcenter.snapshot("db", "forklift-migration-precopy-1-1").expect("it is taken");
    followed.until_vm("db", "has a snapshot of a migration", |vm| vm.snapshots.ours.len() == 1).await;
    vcenter.remove_snapshot("db", "mine").expect("it is removed");
    followed.until_vm("db", "has one less", |vm| vm.snapshots.foreign == 0).await;
    assert!(revision(&followed, "web").is_some_and(|now| now > web.revision));
    followed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_or_answer_loses_no_change() {
    let Some(followed) = Followed::start(&["web", "db"]).await else { return };
    let vcenter = &followed.vcenter;
    let before = revision(&followed, "db");

    followed.fault(Fault::ExpireSessions);
    vcenter.power("web", false).expect("it turns off");
    followed.until_vm("web", "is off", |vm| vm.power_state == "poweredOff").await;
    assert_eq!(revision(&followed, "db"), before, "what did not change is not new");

    followed.fault(Fault::LoseAnswer("WaitForUpdatesEx".to_owned()));
    vcenter.snapshot("web", "one").expect("it is taken");
    followed.until_vm("web", "has a snapshot: the lost answer is told again", |vm| vm.snapshots.foreign == 1).await;

    followed.fault(Fault::Status("WaitForUpdatesEx".to_owned(), 503));
    vcenter.snapshot("web", "two").expect("it is taken");
    followed.until_vm("web", "has two snapshots", |vm| vm.snapshots.foreign == 2).await;
    followed.until("the failure is forgotten", |store| store.failure().is_none().then_some(())).await;
    assert_eq!(vcenter.calls().expect("they are counted").invalid_logins(), 0);
    followed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_credentials_end_it_and_what_is_known_stays() {
    let Some(followed) = Followed::start(&["web"]).await else { return };
    followed.fault(Fault::Password("another".to_owned()));
    followed.fault(Fault::ExpireSessions);
    let ended = tokio::time::timeout(PATIENCE, followed.run).await.expect("in time").expect("no panic");
    assert!(matches!(ended, Err(ConnectError::Auth(_))), "{ended:?}");
    assert!(followed.vcenter.calls().expect("they are counted").invalid_logins() <= 2);
    assert!(vm(&followed.store, "web").is_some());
}

/// Returns a property as text, as the prepared vCenter tells what it set.
fn known(vm: &Vm, path: &str) -> Option<String> {
    Some(match path {
        "name" => vm.name.to_string(),
        "runtime.powerState" => vm.power_state.to_string(),
        "summary.quickStats.balloonedMemory" => vm.ballooned_memory.to_string(),
        "summary.storage.committed" => vm.storage_used.to_string(),
        "guest.hostName" => vm.host_name.to_string(),
        "summary.guest.ipAddress" => vm.ip_address.to_string(),
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_machines_and_their_changes_are_followed() {
    let machines = std::env::var("INVENTORY_MACHINES").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let Some(vcenter) = tokio::task::block_in_place(|| Vcenter::prepared(machines)) else { return };
    let followed = Followed::follow(vcenter);
    followed.until("the inventory is loaded", |store| store.has_parity().then_some(())).await;
    assert!(followed.store.count(kinds::VMS) >= machines as usize, "{}", followed.store.count(kinds::VMS));
    let serial = followed.store.serial();
    followed.vcenter.change(1000).expect("it changes");
    followed.until("changes arrive", |store| (store.serial() > serial + 2000).then_some(())).await;
    followed.vcenter.change(0).expect("it stops");

    let changed: Value = followed.vcenter.changed().expect("they are told");
    let changed = changed.as_object().expect("an object");
    assert!(!changed.is_empty());
    let mut compared = 0;
    for (reference, paths) in changed {
        for (path, value) in paths.as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or_default();
            let is_set = |store: &Store| {
                let record = store.get(kinds::VMS, reference)?;
                let known = known(record.native::<Vm>()?, path);
                Some(known.map(|known| known == value)).filter(|same| *same != Some(false))
            };
            let comparable = followed.until(&format!("{reference} {path} is {value}"), is_set).await;
            compared += usize::from(comparable.is_some());
        }
    }
    assert!(compared > 500, "only {compared} values could be compared");
    followed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_host_is_loaded_too() {
    let Some(host) = vcenter(Options { names: owned(&["web"]), esx: true, ..Options::default() }) else { return };
    let followed = Followed::load(host).await;
    let web = vm(&followed.store, "web").expect("it is there");
    assert_eq!(&*web.path, "/ha-datacenter/vm/web");
    assert_eq!(followed.store.count(kinds::HOSTS), 1);
    let workload = followed.store.workload(&web).expect("its host and compute resource are there");
    assert_eq!(workload["host"]["cluster"]["variant"], "ComputeResource");
    followed.end().await;
}

/// Makes a tag and attaches it to a VM, through the REST API.
async fn attach(vcenter: &Vcenter, name: &str, vm: &str) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
    let base = vcenter.url().trim_end_matches("/sdk").to_owned();
    let session = http.post(format!("{base}/rest/com/vmware/cis/session"));
    let session = session.basic_auth(vcenter.user(), Some(vcenter.password())).send().await.expect("an answer");
    let session: Value = session.json().await.expect("JSON");
    let token = session["value"].as_str().expect("a token").to_owned();
    let post = |path: String, body: Value| {
        let request = http.post(format!("{base}/rest/com/vmware/cis/tagging/{path}"));
        let request = request.header("vmware-api-session-id", &token).json(&body);
        async move { request.send().await.expect("an answer").json::<Value>().await.unwrap_or_default() }
    };
    let category = json!({"create_spec": {"name": format!("of {name}"), "description": "", "cardinality": "MULTIPLE", "associable_types": []}});
    let category = post("category".to_owned(), category).await["value"].clone();
    let tag = json!({"create_spec": {"name": name, "description": "best", "category_id": category}});
    let tag = post("tag".to_owned(), tag).await["value"].as_str().expect("an id").to_owned();
    let object = json!({"object_id": {"id": vm, "type": "VirtualMachine"}});
    post(format!("tag-association/id:{tag}?~action=attach"), object).await;
    tag
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_come_with_the_machines() {
    let Some(vcenter) = vcenter(Options { names: owned(&["web", "db"]), ..Options::default() }) else { return };
    let id = vcenter.machine("web").expect("it is there")["id"].as_str().expect("an id").to_owned();
    let tag = attach(&vcenter, "gold", &id).await;
    let followed = Followed::load(vcenter).await;
    followed.until_vm("web", "has its tag", |vm| vm.tags.iter().any(|known| *known.id == *tag)).await;
    let web = vm(&followed.store, "web").expect("it is there");
    let translated = machine(&followed.store, &web).expect("a VM");
    assert_eq!((translated.tags[0].name.as_str(), translated.tags[0].description.as_str()), ("gold", "best"));
    assert!(vm(&followed.store, "db").expect("it is there").native::<Vm>().is_some_and(|vm| vm.tags.is_empty()));
    followed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_are_read_at_once_for_who_is_about_to_act() {
    let Some(followed) = Followed::start(&["web", "db", "gone"]).await else { return };
    let (vcenter, store) = (&followed.vcenter, &followed.store);
    let id = |name: &str| vm(store, name).expect("it is there").id.to_string();
    let (web, gone) = (id("web"), id("gone"));
    // the answer to the open question is taken, and the next question waits for a while
    followed.fault(Fault::Delay("WaitForUpdatesEx".to_owned(), 20_000));
    vcenter.power("db", false).expect("it turns off");
    followed.until_vm("db", "is off", |vm| vm.power_state == "poweredOff").await;
    vcenter.power("web", false).expect("it turns off");
    let limit = Duration::from_secs(30);
    store.refresh(vec![web.clone(), "vm-no-such".to_owned()], limit).await.expect("it is read");
    let seen = |store: &Store| vm(store, "web")?.native::<Vm>().map(|vm| vm.power_state.to_string());
    assert_eq!(seen(store).as_deref(), Some("poweredOff"));
    // what did not change is no change
    let before = revision(&followed, "web");
    store.refresh(vec![web, gone], limit).await.expect("they are read");
    assert_eq!(revision(&followed, "web"), before);
    followed.fault(Fault::Fail("RetrievePropertiesEx".to_owned(), "NotSupported".to_owned(), -1, 0));
    let refused = store.refresh(vec![id("web")], limit).await.expect_err("a failure");
    assert!(refused.contains("NotSupported"), "{refused}");
    followed.cancel.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advanced_options_of_a_host_are_asked_of_it() {
    let Some(followed) = Followed::start(&["web"]).await else { return };
    let host = followed.store.list(kinds::HOSTS)[0].id.to_string();
    let limit = Duration::from_secs(30);
    let look = |key: &'static str| followed.store.look(kinds::HOSTS, &host, key, limit);
    let found = look("Config.HostAgent.log.level").await.expect("an answer");
    assert_eq!(found, json!([{"key": "Config.HostAgent.log.level", "value": "info"}]));
    assert_eq!(look("No.Such.Option").await, Ok(Value::Null));
    let none =
        followed.store.look(kinds::HOSTS, "host-no-such", "Any", limit).await.expect_err("there is no such host");
    assert!(none.contains("no advanced options"), "{none}");
    followed.end().await;
}
