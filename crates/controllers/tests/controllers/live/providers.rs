//! What a provider of a vCenter says about itself.
use forklift_api::Provider;
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use kube::ResourceExt;
use serde_json::json;

use super::{Live, items, named};
use crate::cluster::{condition, has, provider, reference};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_wrong() {
    let Some(live) = Live::start(named(&["web"])).await else { return };
    live.count_anew();
    let url = live.vcenter.url();
    live.cluster.create(provider("typo", "vpshere", url)).await;
    live.raises::<Provider>("typo", "ProviderTypeNotSupported", "NotSupported").await;
    live.cluster.create(provider("empty", "vsphere", "")).await;
    live.raises::<Provider>("empty", "UrlNotValid", "NotSet").await;
    live.cluster.create(provider("odd", "vsphere", "not an address")).await;
    live.raises::<Provider>("odd", "UrlNotValid", "Malformed").await;
    live.cluster.create(provider("open", "vsphere", "http://vcenter.example/sdk")).await;
    let found = live.raises::<Provider>("open", "UrlNotValid", "Malformed").await;
    assert!(found["message"].as_str().is_some_and(|text| text.contains("unencrypted")), "{found}");

    let mut unset = live.provider("unset");
    unset.spec.secret = Default::default();
    live.cluster.create(unset).await;
    live.raises::<Provider>("unset", "SecretNotValid", "NotSet").await;
    let mut gone = live.provider("gone");
    gone.spec.secret = reference("nowhere");
    live.cluster.create(gone).await;
    live.raises::<Provider>("gone", "SecretNotValid", "NotFound").await;
    live.cluster.secret("half", &[("user", "u")]).await;
    let mut half = live.provider("half");
    half.spec.secret = reference("half");
    live.cluster.create(half).await;
    let found = live.raises::<Provider>("half", "SecretNotValid", "DataErr").await;
    assert_eq!(items(&found), ["password", "ca.crt"]);

    live.cluster.create(live.provider_with("server", &[("sdkEndpoint", "vcentre")])).await;
    let found = live.raises::<Provider>("server", "SettingsNotValid", "NotValid").await;
    assert_eq!(found["category"], "Critical");
    let calls = live.vcenter.calls().expect("counters");
    assert_eq!((calls.logins(), calls.invalid_logins()), (0, 0), "nobody is asked before all is well written");

    // what is missing is taken up as soon as it is there
    live.secret("nowhere", &[]).await;
    live.raises::<Provider>("gone", "Ready", "").await;
    live.cluster.create(live.provider_with("limit", &[("bandwidthLimit", "fast")])).await;
    let found = live.raises::<Provider>("limit", "SettingsNotValid", "NotValid").await;
    assert_eq!(found["category"], "Warn");
    live.raises::<Provider>("limit", "Ready", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_login_to_ready() {
    let Some(live) = Live::start(named(&["web"])).await else { return };
    live.vcenter.fault(&Fault::Delay("CreateFilter".into(), 3000)).expect("a switch");
    live.cluster.create(live.provider("src")).await;
    live.raises::<Provider>("src", "LoadInventory", "Started").await;
    live.raises::<Provider>("src", "ConnectionTestSucceeded", "Tested").await;
    live.raises::<Provider>("src", "Validated", "Completed").await;
    live.raises::<Provider>("src", "InventoryCreated", "Completed").await;
    live.raises::<Provider>("src", "Ready", "").await;
    let src = live.cluster.until("src", |p: Option<&Provider>| has(p, "Ready") && !has(p, "LoadInventory")).await;
    let status = src.status.expect("it has one");
    assert_eq!(status.fingerprint, live.vcenter.thumbprint());
    assert_eq!(status.phase.map(|phase| phase.to_string()).as_deref(), Some("Ready"));

    live.secret("trusting", &[("cacert", ""), ("insecureSkipVerify", "true")]).await;
    let mut trusting = live.provider("trusting");
    trusting.spec.secret = reference("trusting");
    live.cluster.create(trusting).await;
    live.raises::<Provider>("trusting", "ConnectionInsecure", "SkipTLSVerification").await;
    live.raises::<Provider>("trusting", "Ready", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_used() {
    let Some(live) = Live::start(named(&["web"])).await else { return };
    let message = |found: serde_json::Value| found["message"].as_str().unwrap_or_default().to_owned();
    live.cluster.create(provider("nobody", "vsphere", "https://127.0.0.1:1/sdk")).await;
    let found = live.raises::<Provider>("nobody", "ConnectionTestFailed", "Tested").await;
    assert!(message(found).contains("cannot reach 127.0.0.1:1"));

    // somebody else's certificate
    live.secret("pinned", &[("cacert", ""), ("thumbprint", live.vcenter.host_thumbprint())]).await;
    let mut forged = live.provider("forged");
    forged.spec.secret = reference("pinned");
    live.cluster.create(forged).await;
    let found = message(live.raises::<Provider>("forged", "ConnectionTestFailed", "Tested").await);
    assert!(found.contains("certificate"), "{found}");
    assert_eq!(live.vcenter.calls().expect("counters").logins(), 0, "no password was sent");

    live.cluster.create(live.provider_with("host", &[("sdkEndpoint", "esxi")])).await;
    let found = message(live.raises::<Provider>("host", "ConnectionTestFailed", "Tested").await);
    assert!(found.contains("set it to vcenter"), "{found}");

    // one that is starting: tried again until it has
    for _ in 0..2 {
        live.vcenter.fault(&Fault::Status("RetrieveServiceContent".into(), 503)).expect("a switch");
    }
    live.cluster.create(live.provider("slow")).await;
    live.raises::<Provider>("slow", "ConnectionTestFailed", "Tested").await;
    live.raises::<Provider>("slow", "Ready", "").await;
    live.cluster.lacks::<Provider>("slow", "ConnectionTestFailed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_esxi_host_is_a_provider_without_privileges_to_look_for() {
    let Some(live) = Live::start(Options { esx: true, ..named(&["web"]) }).await else { return };
    let denied = vec!["Datastore.Browse".to_owned()];
    live.vcenter.fault(&Fault::Deny(denied)).expect("a switch");
    live.cluster.create(live.provider_with("esxi", &[("sdkEndpoint", "esxi")])).await;
    live.raises::<Provider>("esxi", "Ready", "").await;
    live.cluster.lacks::<Provider>("esxi", "InsufficientPrivileges").await;
    live.cluster.create(live.provider("src")).await;
    live.raises::<Provider>("src", "ConnectionTestFailed", "Tested").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privileges_that_are_missing_are_listed() {
    let Some(live) = Live::start(named(&["web"])).await else { return };
    let lacks = ["VirtualMachine.State.CreateSnapshot", "Datastore.Browse", "VApp.Export"];
    live.vcenter.fault(&Fault::Deny(lacks.map(str::to_owned).to_vec())).expect("a switch");
    live.cluster.create(live.provider("src")).await;
    let found = live.raises::<Provider>("src", "InsufficientPrivileges", "PrivilegesNotGranted").await;
    assert_eq!(items(&found), lacks);
    let suggestion = found["suggestion"].as_str().unwrap_or_default();
    assert!(suggestion.contains("Files on datastores: Datastore.Browse\n"), "{suggestion}");
    live.raises::<Provider>("src", "Ready", "").await;
    // the account gets them, and a new password
    live.vcenter.fault(&Fault::Deny(Vec::new())).expect("a switch");
    live.vcenter.fault(&Fault::Password("new".into())).expect("a switch");
    live.secret("credentials", &[("password", "new")]).await;
    live.cluster.lacks::<Provider>("src", "InsufficientPrivileges").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inventory_that_falls_behind_says_so_and_catches_up() {
    let Some(live) = Live::ready(named(&["web", "db"])).await else { return };
    let always = Fault::Fail("WaitForUpdatesEx".into(), "SystemError".into(), -1, 0);
    live.vcenter.fault(&always).expect("a switch");
    live.vcenter.fault(&Fault::ExpireSessions).expect("a switch");
    live.raises::<Provider>("src", "InventoryError", "").await;
    // what is known stays, and is known to be old
    live.raises::<Provider>("src", "Ready", "").await;
    live.vcenter.set("VirtualMachine", "web", &json!({"config.guestFullName": "changed meanwhile"})).expect("a change");
    live.vcenter.set("VirtualMachine", "db", &json!({"name": "renamed"})).expect("a change");
    live.vcenter.fault(&Fault::Clear).expect("a switch");
    live.cluster.lacks::<Provider>("src", "InventoryError").await;
    let machine = live.machine("renamed").await;
    assert_eq!(machine.name, "renamed");
    let src = live.cluster.api::<Provider>().get("src").await.expect("it is there");
    assert!(condition(Some(&src), "InventoryCreated").is_some(), "{}", src.name_any());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_vcenters_do_not_meet() {
    let Some(live) = Live::ready(named(&["web"])).await else { return };
    let other = tokio::task::spawn_blocking(|| Vcenter::start(named(&["only-there"]))).await.expect("it starts");
    let Some(other) = other else { return };
    live.secret("other", &[("cacert", other.ca())]).await;
    let mut second = provider("second", "vsphere", other.url());
    second.spec.secret = reference("other");
    live.cluster.create(second).await;
    live.raises::<Provider>("second", "Ready", "").await;
    let names = |name: &'static str| {
        let provider = live.registry.inventory().find_provider(crate::cluster::NS, name).expect("it is there");
        let vms = provider.store().list("vms");
        vms.iter().map(|vm| vm.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((names("src"), names("second")), (vec!["web".to_owned()], vec!["only-there".to_owned()]));
    // the address moves to the other vCenter: nothing of the first one is shown any more
    live.secret("credentials", &[("cacert", other.ca())]).await;
    live.change::<Provider>("src", json!({"url": other.url()})).await;
    live.cluster
        .eventually("the new address is read", || async {
            let entry = live.registry.inventory().find_provider(crate::cluster::NS, "src");
            entry.is_some_and(|entry| {
                let vms = entry.store().list("vms");
                entry.store().has_parity() && vms.iter().all(|vm| &*vm.name == "only-there") && vms.len() == 1
            })
        })
        .await;
    live.raises::<Provider>("src", "Ready", "").await;
}
