//! What the target has for the guest's system and size: preferences, instance types, OpenShift's templates.
use forklift_api::Plan;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::{Cluster, TARGET, condition, has, install};

const TYPES: &str = "instancetype.kubevirt.io/v1beta1";

async fn make(client: &Client, api_version: &str, kind: &str, namespace: Option<&str>, mut object: Value) {
    let (group, version) = api_version.split_once('/').expect("a group and a version");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    let object = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.expect("is created");
}

async fn kinds(cluster: &Cluster) {
    for name in [TARGET, "openshift"] {
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a namespace");
        let api: Api<Namespace> = Api::all(cluster.client.clone());
        api.create(&PostParams::default(), &namespace).await.expect("is created");
    }
    for (kind, plural, scope) in [
        ("VirtualMachinePreference", "virtualmachinepreferences", "Namespaced"),
        ("VirtualMachineClusterPreference", "virtualmachineclusterpreferences", "Cluster"),
        ("VirtualMachineInstancetype", "virtualmachineinstancetypes", "Namespaced"),
        ("VirtualMachineClusterInstancetype", "virtualmachineclusterinstancetypes", "Cluster"),
    ] {
        install(&cluster.client, TYPES, kind, plural, scope).await;
    }
    install(&cluster.client, "template.openshift.io/v1", "Template", "templates", "Namespaced").await;
}

/// Migrates one VM and returns what was made of it.
async fn migrated(cluster: &Cluster) -> Value {
    cluster.migrate("run").await;
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Succeeded")).await;
    let gvk = GroupVersionKind::gvk("kubevirt.io", "v1", "VirtualMachine");
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), TARGET, &ApiResource::from_gvk(&gvk));
    serde_json::to_value(api.get("one").await.expect("it was made")).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_gets_the_preference_of_its_system_and_an_instance_type_of_its_namespace() {
    let cluster = Cluster::start().await;
    kinds(&cluster).await;
    let client = &cluster.client;
    make(client, TYPES, "VirtualMachineClusterPreference", None, json!({"metadata": {"name": "rhel.9"}})).await;
    cluster.fate.finds("rhel9.4");
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.draft(&["vm-1"]).await;
    let change = json!({"spec": {"vms": [{"id": "vm-1", "instanceType": "u1.small"}]}});
    let plans: Api<Plan> = cluster.api();
    plans.patch("plan", &PatchParams::default(), &Patch::Merge(&change)).await.expect("is changed");
    let wrong = cluster.until("plan", |plan: Option<&Plan>| has(plan, "NotValid")).await;
    let items = condition(Some(&wrong), "NotValid").map(|c| c["items"].to_string()).unwrap_or_default();
    assert!(items.contains("u1.small"), "{items}");

    // the target is looked at once a minute; controllers that start look at once
    let small = json!({"metadata": {"name": "u1.tiny"}});
    make(client, TYPES, "VirtualMachineClusterInstancetype", None, small.clone()).await;
    make(client, TYPES, "VirtualMachineInstancetype", Some(TARGET), small).await;
    let mut cluster = cluster;
    cluster.stop_controllers().await;
    cluster.run_controllers();
    let change = json!({"spec": {"vms": [{"id": "vm-1", "instanceType": "u1.tiny"}]}});
    cluster.api::<Plan>().patch("plan", &PatchParams::default(), &Patch::Merge(&change)).await.expect("is changed");
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Ready")).await;
    let vm = migrated(&cluster).await;
    assert_eq!(vm["spec"]["instancetype"], json!({"name": "u1.tiny", "kind": "VirtualMachineInstancetype"}));
    assert_eq!(vm["spec"]["preference"], json!({"name": "rhel.9", "kind": "VirtualMachineClusterPreference"}));
    assert!(vm.pointer("/spec/template/spec/domain/cpu").is_none(), "{vm:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_is_the_base_where_there_is_no_preference() {
    let cluster = Cluster::start().await;
    kinds(&cluster).await;
    let template = |name: &str, eviction: &str| {
        let vm = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "${NAME}"},
            "spec": {"running": false, "template": {"spec": {"evictionStrategy": eviction,
                "domain": {"cpu": {"cores": 64}, "devices": {"rng": {}}}, "volumes": [{"name": "rootdisk"}]}}}});
        let labels = json!({"os.template.kubevirt.io/win2k22": "true", "workload.template.kubevirt.io/server": "true",
            "flavor.template.kubevirt.io/medium": name.to_owned()});
        json!({"metadata": {"name": name, "labels": labels}, "objects": [vm], "parameters": [{"name": "NAME"}]})
    };
    let (mut server, large) = (template("true", "LiveMigrate"), template("large", "None"));
    server["metadata"]["name"] = "windows2k22".into();
    for object in [server, large] {
        make(&cluster.client, "template.openshift.io/v1", "Template", Some("openshift"), object).await;
    }
    cluster.fate.finds("win2k22");
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.plan(&["vm-1"]).await;
    let vm = migrated(&cluster).await;
    let spec = vm.pointer("/spec/template/spec").cloned().unwrap_or_default();
    assert_eq!(spec["evictionStrategy"], "LiveMigrate");
    assert_eq!(spec["domain"]["devices"]["rng"], json!({}));
    assert_eq!(spec["domain"]["cpu"], json!({"sockets": 1, "cores": 1}));
    assert_eq!(spec["volumes"].as_array().map(Vec::len), Some(1));
    assert!(vm["spec"].get("running").is_none() && vm["spec"]["runStrategy"] == "Always", "{vm:#}");
}
