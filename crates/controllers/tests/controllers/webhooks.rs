//! What the API server lets through, asked over HTTPS as on a cluster.
use forklift_api::plan::{PlanMap, PlanSpec, PlanVM};
use forklift_api::{Migration, Plan, Provider, Ref};
use forklift_controllers::ports::{ConnectError, HostError, HostFacts};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{Cluster, NS, TARGET, network_map, pair, provider, reference, storage_map};

/// Returns the status code and text of a refusal.
fn refusal<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.run_webhooks().await;
    cluster
}

fn secret(name: &str, labels: Value, data: Value) -> Secret {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "stringData": data})).expect("a secret")
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    secret.data.as_ref()?.get(key).map(|value| String::from_utf8_lossy(&value.0).into_owned())
}

async fn post(cluster: &Cluster, secret: Secret) -> Result<Secret, kube::Error> {
    cluster.api::<Secret>().create(&PostParams::default(), &secret).await
}

fn plan(name: &str) -> Plan {
    let spec = PlanSpec {
        target_namespace: TARGET.into(),
        provider: pair(),
        map: PlanMap { network: reference("net"), storage: reference("stor") },
        vms: vec![PlanVM { reference: Ref::by_id("vm-1"), ..PlanVM::default() }],
        ..PlanSpec::default()
    };
    Plan::new(name, spec)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_are_filled_in_and_checked() {
    let cluster = cluster().await;
    let made = cluster.create(provider("vc", "vsphere", "https://vcenter.example/sdk")).await;
    assert_eq!(made.spec.settings.get("sdkEndpoint").map(String::as_str), Some("vcenter"));
    let ova = cluster.create(provider("ova", "ova", "10.0.0.1:/exports")).await;
    assert!(ova.finalizers().contains(&"forklift/ova-provider".to_owned()));
    let patch = Patch::Merge(json!({"spec": {"settings": {"sdkEndpoint": "vcentre"}}}));
    let refused = cluster.api::<Provider>().patch("vc", &PatchParams::default(), &patch).await;
    let (_, message) = refusal(refused);
    assert!(message.contains("invalid SDK endpoint type"), "{message}");
    let host = cluster.create(provider("host", "openshift", "")).await;
    assert!(host.spec.settings.is_empty());

    // a secret of another namespace goes only where somebody sends it who may read it
    let providers = json!({"apiGroups": ["forklift.konveyor.io"], "resources": ["providers"], "verbs": ["*"]});
    let user = cluster.user("user", json!([providers])).await;
    let theirs: Api<Provider> = Api::namespaced(user, NS);
    let mut thief = provider("thief", "vsphere", "https://elsewhere.example/sdk");
    thief.spec.secret.namespace = Some(TARGET.into());
    thief.spec.secret.name = Some("vc".into());
    let (_, message) = refusal(theirs.create(&PostParams::default(), &thief).await);
    assert!(message.contains("cannot get resource \"secrets/vc\"") && message.contains(TARGET), "{message}");
    cluster.create(thief).await;
    let elsewhere = Patch::Merge(json!({"spec": {"url": "https://third.example/sdk"}}));
    let (_, message) = refusal(theirs.patch("thief", &PatchParams::default(), &elsewhere).await);
    assert!(message.contains("cannot get resource \"secrets/vc\""), "{message}");
    let label = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    theirs.patch("thief", &PatchParams::default(), &label).await.expect("nothing is sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_tried_before_they_are_stored() {
    let cluster = cluster().await;
    let labels = json!({"createdForResourceType": "providers", "createdForProviderType": "vsphere"});
    let data = json!({"url": "https://vc/sdk", "user": "u", "password": "p"});
    let good = post(&cluster, secret("good", labels.clone(), data.clone())).await.expect("is let through");
    assert_eq!(text(&good, "insecureSkipVerify").as_deref(), Some("false"), "what is not said is filled in");
    assert_eq!(text(&good, "password").as_deref(), Some("p"));
    assert_eq!(cluster.source.door(|door| door.logins), 1);

    cluster.source.door(|door| door.answer = Some(Err(ConnectError::Auth("no".into()))));
    let (code, message) = refusal(post(&cluster, secret("wrong", labels.clone(), data.clone())).await);
    assert_eq!(code, 403);
    assert!(message.contains("Invalid credentials"), "{message}");
    cluster.source.door(|door| door.answer = Some(Err(ConnectError::Failed("down".into()))));
    post(&cluster, secret("away", labels.clone(), data.clone())).await.expect("what cannot be tested passes");
    let logins = cluster.source.door(|door| door.logins);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let dry_run = cluster.api::<Secret>().create(&dry, &secret("dry", labels.clone(), data.clone())).await;
    assert!(dry_run.is_ok() && cluster.source.door(|door| door.logins) == logins, "a dry run logs in nowhere");

    let mut odd = data.clone();
    odd["insecureSkipVerify"] = json!("perhaps");
    assert!(refusal(post(&cluster, secret("odd", labels.clone(), odd)).await).1.contains("perhaps"));
    let mut both = data.clone();
    (both["insecure"], both["ca.crt"]) = (json!("true"), json!("PEM"));
    let (_, message) = refusal(post(&cluster, secret("both", labels, both)).await);
    assert!(message.contains("insecure provider with a CA certificate"), "{message}");
    let untyped = secret("untyped", json!({"createdForResourceType": "providers"}), data.clone());
    assert!(refusal(post(&cluster, untyped).await).1.contains("without 'createdForProviderType'"));
    let unknown = json!({"createdForResourceType": "providers", "createdForProviderType": "xen"});
    assert!(
        refusal(post(&cluster, secret("xen", unknown, data)).await).1.contains("incorrect 'createdForProviderType'")
    );
    let logins = cluster.source.door(|door| door.logins);
    post(&cluster, secret("plain", json!({}), json!({"user": "u"}))).await.expect("others are not asked about");
    assert_eq!(cluster.source.door(|door| door.logins), logins);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ova_provider_stays_where_it_is_and_ovirt_needs_its_authority() {
    let cluster = cluster().await;
    let labels = json!({"createdForResourceType": "providers", "createdForProviderType": "ova"});
    post(&cluster, secret("ova", labels, json!({"url": "h:/a"}))).await.expect("is let through");
    let moved = Patch::Merge(json!({"stringData": {"url": "h:/b"}}));
    let (_, message) = refusal(cluster.api::<Secret>().patch("ova", &PatchParams::default(), &moved).await);
    assert!(message.contains("Updating the URL field of an existing OVA provider is forbidden"), "{message}");
    let labels = json!({"createdForResourceType": "providers", "createdForProviderType": "ovirt"});
    let data = json!({"url": "https://engine/ovirt-engine/api", "user": "u", "password": "p"});
    let (_, message) = refusal(post(&cluster, secret("engine", labels.clone(), data.clone())).await);
    assert!(message.contains("CA certificate is required for oVirt provider in secure mode"), "{message}");
    let mut odd = data;
    odd["ca.crt"] = json!("not a certificate");
    let (_, message) = refusal(post(&cluster, secret("engine", labels, odd)).await);
    assert!(message.contains("The certificate is not valid"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_take_their_providers_credentials_and_are_tried() {
    let cluster = cluster().await;
    cluster.source.door(|door| {
        let facts = HostFacts { id: "host-1".into(), thumbprint: "AA:BB".into(), ..HostFacts::default() };
        door.hosts = vec![facts];
    });
    cluster.secret("own", &[("user", "root"), ("password", "p"), ("insecureSkipVerify", "true")]).await;
    let mut esxi = provider("esxi", "vsphere", "https://esxi/sdk");
    esxi.spec.secret = reference("own");
    esxi.spec.settings = [("sdkEndpoint".to_owned(), "esxi".to_owned())].into();
    cluster.create(esxi).await;
    let labels = json!({"createdForResourceType": "hosts", "createdForResource": "host-1"});
    let data = json!({"provider": "esxi", "ip": "10.0.0.7", "user": ""});
    let made = post(&cluster, secret("host-1", labels.clone(), data.clone())).await.expect("is let through");
    assert_eq!((text(&made, "user"), text(&made, "password")), (Some("root".into()), Some("p".into())));
    assert_eq!(text(&made, "insecureSkipVerify").as_deref(), Some("true"));
    let logins = cluster.source.door(|door| door.host_logins.clone());
    assert_eq!(logins, [("https://10.0.0.7/sdk".to_owned(), "root".to_owned(), "AA:BB".to_owned())]);

    cluster.source.door(|door| door.host_answer = Some(HostError::Failed("no route".into())));
    let (code, message) = refusal(post(&cluster, secret("away", labels.clone(), data.clone())).await);
    assert_eq!(code, 403);
    assert!(message.contains("no route"), "{message}");
    cluster.source.door(|door| door.loading = true);
    post(&cluster, secret("early", labels.clone(), data.clone())).await.expect("an inventory that is not there passes");
    cluster.create(provider("vc", "vsphere", "https://vcenter.example/sdk")).await;
    let nobody = secret("nobody", labels, json!({"provider": "vc", "ip": "x", "insecureSkipVerify": "true"}));
    let (_, message) = refusal(post(&cluster, nobody).await);
    assert!(message.contains("missing credentials on Host secret"), "{message}");
    let unnamed = secret("unnamed", json!({"createdForResourceType": "hosts"}), data);
    assert!(refusal(post(&cluster, unnamed).await).1.contains("without 'createdForResource'"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_need_rights_on_both_sides() {
    let cluster = cluster().await;
    cluster.create(provider("src", "vsphere", "https://vcenter.example/sdk")).await;
    let (_, message) = refusal(cluster.api::<Plan>().create(&PostParams::default(), &plan("early")).await);
    assert!(message.contains("destination provider konveyor-forklift/host was not found"), "{message}");
    cluster.create(provider("host", "openshift", "")).await;
    cluster.create(network_map("net", "net", "pod")).await;
    cluster.create(storage_map("stor", "ds", "standard")).await;
    let made = cluster.create(plan("plan")).await;
    assert_eq!(made.annotations().get("populatorLabels").map(String::as_str), Some("True"));

    let plans = json!({"apiGroups": ["forklift.konveyor.io"], "resources": ["plans", "migrations"], "verbs": ["*"]});
    let see = json!({"apiGroups": ["forklift.konveyor.io"], "resources": ["providers"], "verbs": ["get"]});
    let blind = cluster.user("blind", json!([plans])).await;
    let by = async |client: &Client, name: &str| {
        Api::<Plan>::namespaced(client.clone(), NS).create(&PostParams::default(), &plan(name)).await
    };
    let (_, message) = refusal(by(&blind, "blind").await);
    assert!(message.contains("cannot get resource \"providers/src\""), "{message}");
    let seeing = cluster.user("seeing", json!([plans, see])).await;
    let (_, message) = refusal(by(&seeing, "seeing").await);
    assert!(message.contains("cannot create resource \"virtualmachines\"") && message.contains(TARGET), "{message}");
    let migration: Migration = Migration::new(
        "seeing",
        serde_json::from_value(json!({"plan": {"name": "plan", "namespace": NS}})).expect("a spec"),
    );
    let started = Api::<Migration>::namespaced(seeing.clone(), NS).create(&PostParams::default(), &migration).await;
    let (_, message) = refusal(started);
    assert!(message.contains("cannot create resource \"virtualmachines\""), "a plan of somebody else: {message}");
    let mut gone = plan("gone");
    gone.spec.provider.source = reference("gone");
    let (_, message) = refusal(cluster.api::<Plan>().create(&PostParams::default(), &gone).await);
    assert!(message.contains("source provider konveyor-forklift/gone was not found"), "{message}");
    gone.spec.archived = true;
    cluster.create(gone).await;
    let mut lost = migration;
    lost.metadata.name = Some("lost".into());
    lost.spec.plan = reference("nowhere");
    let (_, message) = refusal(cluster.api::<Migration>().create(&PostParams::default(), &lost).await);
    assert!(message.contains("the plan konveyor-forklift/nowhere was not found"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_for_what_cannot_be_done() {
    let cluster = cluster().await;
    cluster.create(provider("src", "openstack", "https://keystone.example/v3")).await;
    cluster.create(provider("host", "openshift", "")).await;
    cluster.create(storage_map("stor", "ds", "standard")).await;
    let create = async |plan: &Plan| cluster.api::<Plan>().create(&PostParams::default(), plan).await;
    let mut warm = plan("warm");
    warm.spec.warm = true;
    assert!(refusal(create(&warm).await).1.contains("warm migration is not supported by the provider"));
    let mut encrypted = plan("encrypted");
    encrypted.spec.vms[0].luks = reference("keys");
    assert!(refusal(create(&encrypted).await).1.contains("encrypted disks from source provider of type openstack"));
    let class: k8s_openapi::api::storage::v1::StorageClass =
        serde_json::from_value(json!({"metadata": {"name": "manual"}, "provisioner": "kubernetes.io/no-provisioner"}))
            .expect("a class");
    Api::all(cluster.client.clone()).create(&PostParams::default(), &class).await.expect("is created");
    let mut by_hand = plan("by-hand");
    by_hand.spec.map.storage = reference("manual");
    assert!(refusal(create(&by_hand).await).1.contains("storage map konveyor-forklift/manual was not found"));
    cluster.create(storage_map("manual", "ds", "manual")).await;
    assert!(refusal(create(&by_hand).await).1.contains("Static storage class(es) found: [\"manual\"]"));
    create(&plan("fine")).await.expect("is let through");
}
