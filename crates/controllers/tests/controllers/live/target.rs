//! What a plan names in the target cluster: volumes, providers, maps, namespaces, hooks, accounts, networks, images.
use forklift_api::plan::{MigrationType, PlanMap};
use forklift_api::provider::ProviderPair;
use forklift_api::{NetworkMap, Plan, Provider};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolumeClaim};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use super::network::{attachment, multus, namespace};
use super::{Live, items, named};
use crate::cluster::{NS, TARGET, hook, network_map, pair, provider, reference};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_on_the_target() {
    let Some(live) = Live::ready(named(&["web"])).await else { return };
    live.map(&["web"]).await;
    live.count_anew();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(live.cluster.client.clone(), TARGET);
    let claim = json!({"metadata": {"name": "exact"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "64Mi"}}}});
    claims.create(&PostParams::default(), &serde_json::from_value(claim).expect("a claim")).await.expect("is created");
    live.plan("exact", &["web"], |spec| {
        spec.pvc_name_template = "{{.PlanName}}".into();
        spec.pvc_name_template_use_generate_name = Some(false);
    })
    .await;
    let found = live.raises::<Plan>("exact", "PVCNameConflict", "NotUnique").await;
    assert_eq!(items(&found), [format!("exact exists in namespace {TARGET}")]);
    live.refuses("exact").await;
    live.plan("only", &["web"], |spec| spec.type_ = Some(MigrationType::Conversion)).await;
    live.raises::<Plan>("only", "MissingPvcForOnlyConversion", "NotValid").await;
    live.refuses("only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_and_maps_that_a_plan_names() {
    let Some(live) = Live::ready(named(&["web"])).await else { return };
    live.map(&["web"]).await;
    live.cluster.create(provider("broken", "vsphere", "not an address")).await;
    live.raises::<Provider>("broken", "UrlNotValid", "Malformed").await;
    live.cluster.create(provider("far", "openshift", "not an address")).await;
    live.raises::<Provider>("far", "UrlNotValid", "Malformed").await;
    let with = |name: &'static str, source: ObjectReference, destination: ObjectReference| {
        live.plan(name, &["web"], move |spec| spec.provider = ProviderPair { source, destination })
    };
    with("no-source", ObjectReference::default(), reference("host")).await;
    live.raises::<Plan>("no-source", "SourceProviderNotValid", "NotSet").await;
    with("gone-source", reference("gone"), reference("host")).await;
    live.raises::<Plan>("gone-source", "SourceProviderNotValid", "NotFound").await;
    with("early-source", reference("broken"), reference("host")).await;
    live.raises::<Plan>("early-source", "SourceProviderNotReady", "NotFound").await;
    with("no-target", reference("src"), ObjectReference::default()).await;
    live.raises::<Plan>("no-target", "DestinationProviderNotValid", "NotSet").await;
    with("gone-target", reference("src"), reference("gone")).await;
    live.raises::<Plan>("gone-target", "DestinationProviderNotValid", "NotFound").await;
    with("odd-target", reference("src"), reference("src")).await;
    live.raises::<Plan>("odd-target", "DestinationProviderNotValid", "TypeNotValid").await;
    with("early-target", reference("src"), reference("far")).await;
    live.raises::<Plan>("early-target", "DestinationProviderNotReady", "NotFound").await;

    let maps = |name: &'static str, network: ObjectReference, storage: ObjectReference| {
        live.plan(name, &["web"], move |spec| spec.map = PlanMap { network, storage })
    };
    live.cluster.create(network_map("bad", "VM Network", "default/nowhere")).await;
    live.cluster.until("bad", |map: Option<&NetworkMap>| map.is_some_and(|map| map.status.is_some())).await;
    let storage = json!({"provider": pair(), "map": [{"source": {"name": "LocalDS_0"},
        "destination": {"storageClass": "nowhere"}}]});
    let storage = serde_json::from_value(storage).expect("a spec");
    live.cluster.create(forklift_api::StorageMap::new("bad", storage)).await;
    maps("no-maps", ObjectReference::default(), ObjectReference::default()).await;
    live.raises::<Plan>("no-maps", "NetworkMapRefNotValid", "NotSet").await;
    live.raises::<Plan>("no-maps", "StorageRefNotValid", "NotSet").await;
    maps("gone-maps", reference("gone"), reference("gone")).await;
    live.raises::<Plan>("gone-maps", "NetworkMapRefNotValid", "NotFound").await;
    live.raises::<Plan>("gone-maps", "StorageRefNotValid", "NotFound").await;
    maps("bad-maps", reference("bad"), reference("bad")).await;
    live.raises::<Plan>("bad-maps", "NetworkMapNotReady", "NotFound").await;
    live.raises::<Plan>("bad-maps", "StorageMapNotReady", "NotFound").await;

    live.plan("no-namespace", &["web"], |spec| spec.target_namespace = String::new()).await;
    live.raises::<Plan>("no-namespace", "NamespaceNotValid", "NotSet").await;
    live.plan("odd-namespace", &["web"], |spec| spec.target_namespace = "Not valid".into()).await;
    live.raises::<Plan>("odd-namespace", "NamespaceNotValid", "NotValid").await;

    // a network in a namespace that the VMs cannot use
    let client = &live.cluster.client;
    multus(client).await;
    namespace(client, "elsewhere", json!({})).await;
    attachment(client, "elsewhere", "lan", json!({}), &json!({"type": "bridge"})).await;
    live.cluster.create(network_map("foreign", "VM Network", "elsewhere/lan")).await;
    maps("foreign", reference("foreign"), reference("all")).await;
    live.raises::<Plan>("foreign", "NetMapDestinationNADNotValid", "NotValid").await;
    live.refuses("foreign").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_else_a_plan_names() {
    let Some(live) = Live::ready(named(&["web"])).await else { return };
    live.map(&["web"]).await;
    let client = &live.cluster.client;
    multus(client).await;
    for name in [TARGET, "elsewhere"] {
        namespace(client, name, json!({})).await;
    }
    let network = |namespace: &str, name: &str| {
        Some(ObjectReference { namespace: Some(namespace.into()), name: Some(name.into()), ..Default::default() })
    };
    let route = |value: &str| json!({"annotations": {"forklift.konveyor.io/route": value}});
    let bridge = json!({"type": "bridge"});
    attachment(client, "elsewhere", "lan", json!({}), &bridge).await;
    attachment(client, TARGET, "routed", route("10.0.0.1"), &bridge).await;
    attachment(client, TARGET, "unrouted", route("none"), &bridge).await;
    attachment(client, TARGET, "silent", json!({}), &bridge).await;
    attachment(client, TARGET, "odd", route("somewhere"), &bridge).await;
    for (plan, namespace, name, reason) in [
        ("net-gone", TARGET, "gone", "NotFound"),
        ("net-far", "elsewhere", "lan", "NotValid"),
        ("net-odd", TARGET, "odd", "NotValid"),
    ] {
        live.plan(plan, &["web"], |spec| spec.transfer_network = network(namespace, name)).await;
        if reason == "NotFound" {
            live.raises::<Plan>(plan, "TransferNetworkNotValid", "NotFound").await;
        } else {
            live.raises::<Plan>(plan, "TransferNetworkNotValid", "NotValid").await;
        }
    }
    live.plan("net-silent", &["web"], |spec| spec.transfer_network = network(TARGET, "silent")).await;
    live.raises::<Plan>("net-silent", "TransferNetworkMissingDefaultRoute", "NotValid").await;
    for (plan, name) in [("net-routed", "routed"), ("net-unrouted", "unrouted")] {
        live.plan(plan, &["web"], |spec| spec.transfer_network = network(TARGET, name)).await;
        live.accepts(plan, "TransferNetworkMissingDefaultRoute").await;
    }

    live.plan("account", &["web"], |spec| spec.service_account = "nobody".into()).await;
    live.raises::<Plan>("account", "ServiceAccountNotValid", "NotFound").await;
    live.plan("image", &["web"], |spec| spec.virt_v2v_image = "Not An Image".into()).await;
    live.raises::<Plan>("image", "VirtV2vImageNotValid", "NotValid").await;

    live.cluster.create(hook("both", json!({"image": "quay.io/x/y", "aap": {"jobTemplateId": 3}}))).await;
    live.cluster
        .create(hook(
            "account",
            json!({"image": "quay.io/x/y", "playbook": "LSBob3N0czogYWxsCg==",
        "serviceAccount": "nobody"}),
        ))
        .await;
    live.cluster.create(hook("fine", json!({"image": "quay.io/x/y", "playbook": "LSBob3N0czogYWxsCg=="}))).await;
    let hooked = |plan: &'static str, hook: ObjectReference, step: &'static str| {
        live.plan(plan, &["web"], move |spec| {
            spec.vms[0].hooks = serde_json::from_value(json!([{"hook": hook, "step": step}])).expect("hooks");
        })
    };
    hooked("hook-unset", ObjectReference::default(), "PreHook").await;
    live.raises::<Plan>("hook-unset", "HookNotValid", "NotSet").await;
    hooked("hook-gone", reference("gone"), "PreHook").await;
    live.raises::<Plan>("hook-gone", "HookNotValid", "NotFound").await;
    hooked("hook-both", reference("both"), "PreHook").await;
    live.raises::<Plan>("hook-both", "HookNotReady", "NotFound").await;
    hooked("hook-step", reference("fine"), "SomeDay").await;
    live.raises::<Plan>("hook-step", "HookStepNotValid", "NotValid").await;
    hooked("hook-account", reference("account"), "PreHook").await;
    live.raises::<Plan>("hook-account", "HookServiceAccountNotValid", "NotFound").await;
    live.refuses("hook-account").await;

    // where pods are held to the restricted profile, those of a plan may be refused
    live.plan("fine", &["web"], |_| {}).await;
    live.accepts("fine", "RestrictedPodSecurity").await;
    namespace(client, NS, json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
    live.again("fine").await;
    live.raises::<Plan>("fine", "RestrictedPodSecurity", "").await;
    live.raises::<Plan>("fine", "Ready", "").await;
}
