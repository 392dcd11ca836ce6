//! Networks and storage: what is mapped, and what the mapping means for addresses.
use forklift_api::plan::PlanMap;
use forklift_api::{NetworkMap, Plan, StorageMap};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::machines::foreign_vm;
use super::{Live, items, named};
use crate::cluster::{TARGET, install, pair, reference};

/// Installs Multus's kind.
pub async fn multus(client: &Client) {
    let kind = "NetworkAttachmentDefinition";
    install(client, "k8s.cni.cncf.io/v1", kind, "network-attachment-definitions", "Namespaced").await;
}

/// Makes a network attachment definition.
pub async fn attachment(client: &Client, namespace: &str, name: &str, metadata: Value, config: &Value) {
    let gvk = GroupVersionKind::gvk("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "network-attachment-definitions");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let mut object = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": metadata, "spec": {"config": config.to_string()}});
    object["metadata"]["name"] = name.into();
    let params = PatchParams::apply("test").force();
    api.patch(name, &params, &Patch::Apply(&object)).await.expect("is written");
}

/// Makes a namespace, or gives it other labels.
pub async fn namespace(client: &Client, name: &str, labels: Value) {
    let api: Api<Namespace> = Api::all(client.clone());
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&object)).await.expect("is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_mapped() {
    let Some(live) = Live::ready(named(&["web", "two-nics"])).await else { return };
    live.map(&["web"]).await;
    live.count_anew();
    let none = json!({"provider": pair(), "map": []});
    live.cluster.create(NetworkMap::new("none", serde_json::from_value(none.clone()).expect("a spec"))).await;
    live.cluster.create(StorageMap::new("none", serde_json::from_value(none).expect("a spec"))).await;
    let nowhere = PlanMap { network: reference("none"), storage: reference("none") };
    live.plan("unmapped", &["web"], |spec| spec.map = nowhere).await;
    let found = live.raises::<Plan>("unmapped", "VMNetworksNotMapped", "NotValid").await;
    let network = live.machine("web").await.nics[0].network.clone();
    assert!(items(&found)[0].ends_with(&network.name), "{found}");
    live.raises::<Plan>("unmapped", "VMStorageNotMapped", "NotValid").await;
    live.refuses("unmapped").await;

    let nic = json!({"_typeName": "VirtualMachineConfigSpec", "deviceChange": [{"_typeName": "VirtualDeviceConfigSpec",
        "operation": "add", "device": {"_typeName": "VirtualVmxnet3", "key": -1,
        "backing": {"_typeName": "VirtualEthernetCardNetworkBackingInfo", "deviceName": "VM Network"}}}]});
    live.vcenter.reconfigure("two-nics", &nic).expect("a change");
    live.cluster.eventually("the NIC is seen", || async { live.machine("two-nics").await.nics.len() == 2 }).await;
    let rows: Vec<Value> = live
        .machine("two-nics")
        .await
        .nics
        .iter()
        .map(|nic| json!({"source": {"id": nic.network.id}, "destination": {"type": "pod"}}))
        .collect();
    let map = json!({"provider": pair(), "map": rows});
    live.cluster.create(NetworkMap::new("pods", serde_json::from_value(map).expect("a spec"))).await;
    live.plan("pods", &["two-nics"], |spec| spec.map.network = reference("pods")).await;
    live.raises::<Plan>("pods", "VMMultiplePodNetworkMappings", "NotValid").await;

    let mac = live.machine("web").await.nics[0].mac.clone();
    let spec = json!({"template": {"spec": {"domain": {"devices": {"interfaces": [{"macAddress": mac}]}}}}});
    foreign_vm(&live, "neighbour", spec).await;
    live.plan("mac", &["web"], |_| {}).await;
    let found = live.raises::<Plan>("mac", "MacConflicts", "NotValid").await;
    assert!(items(&found)[0].contains("vms/neighbour"), "{found}");
    live.refuses("mac").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_shall_stay() {
    let Some(live) = Live::ready(named(&["web"])).await else { return };
    let client = &live.cluster.client;
    multus(client).await;
    live.map(&["web"]).await;
    let mac = live.machine("web").await.nics[0].mac.clone();
    let net = json!([{"_typeName": "GuestNicInfo", "macAddress": mac, "connected": true, "deviceConfigId": 4000,
        "ipAddress": ["10.99.0.1"], "ipConfig": {"_typeName": "NetIpConfigInfo", "ipAddress": [
        {"_typeName": "NetIpConfigInfoIpAddress", "ipAddress": "10.99.0.1", "prefixLength": 24}]}}]);
    live.vcenter.set("VirtualMachine", "web", &json!({"guest.net": net})).expect("a change");
    live.cluster.eventually("the address", || async { !live.machine("web").await.nics[0].addresses.is_empty() }).await;
    live.plan("pod", &["web"], |spec| spec.preserve_static_ips = true).await;
    live.raises::<Plan>("pod", "NetMapPreservingIPsOnPodNetwork", "").await;
    live.accepts("pod", "VMMissingGuestIPs").await;

    let udn = |topology: &str| {
        json!({"type": "ovn-k8s-cni-overlay", "topology": topology, "role": "primary", "subnets": "10.100.0.0/16",
            "allowPersistentIPs": true})
    };
    let label = json!({"labels": {"k8s.ovn.org/user-defined-network": ""}});
    namespace(client, TARGET, json!({"k8s.ovn.org/primary-user-defined-network": ""})).await;
    attachment(client, TARGET, "udn", label.clone(), &udn("layer2")).await;
    live.again("pod").await;
    let found = live.raises::<Plan>("pod", "VMIpNotMatchingUdnSubnet", "NotValid").await;
    assert!(items(&found)[0].ends_with("10.99.0.1"), "{found}");
    live.accepts("pod", "NetMapPreservingIPsOnPodNetwork").await;
    attachment(client, TARGET, "udn", label, &udn("layer3")).await;
    live.again("pod").await;
    live.raises::<Plan>("pod", "UnsupportedUserDefinedNetwork", "NotSupported").await;
    live.refuses("pod").await;
}
