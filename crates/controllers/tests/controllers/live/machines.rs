//! Which machines a plan names, and whether they can be migrated at all.
use forklift_api::plan::MigrationType;
use forklift_api::{Plan, Ref};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::{Live, items, named};
use crate::cluster::TARGET;

/// Makes a VirtualMachine of somebody else in the target namespace.
pub async fn foreign_vm(live: &Live, name: &str, spec: Value) {
    let gvk = GroupVersionKind::gvk("kubevirt.io", "v1", "VirtualMachine");
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = Api::namespaced_with(live.cluster.client.clone(), TARGET, &resource);
    let object =
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": name}, "spec": spec});
    let object = serde_json::from_value(object).expect("an object");
    api.create(&PostParams::default(), &object).await.expect("is created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_plan_names() {
    let Some(live) = Live::ready(named(&["web", "twin", "other"])).await else { return };
    live.map(&["web"]).await;
    live.vcenter.set("VirtualMachine", "other", &json!({"name": "twin"})).expect("a change");
    live.count_anew();
    live.plan("unset", &["web"], |spec| spec.vms[0].reference = Ref::default()).await;
    live.raises::<Plan>("unset", "VMRefNotValid", "NotSet").await;
    live.plan("gone", &["web", "nobody"], |_| {}).await;
    let found = live.raises::<Plan>("gone", "VMNotFound", "NotFound").await;
    assert_eq!(items(&found), ["nobody"]);
    live.plan("twice", &["web", "web"], |_| {}).await;
    live.raises::<Plan>("twice", "DuplicateVM", "NotUnique").await;
    live.plan("ambiguous", &["twin"], |_| {}).await;
    live.raises::<Plan>("ambiguous", "DuplicateVM", "Ambiguous").await;
    live.refuses("ambiguous").await;

    live.plan("live", &["web"], |spec| spec.type_ = Some(MigrationType::Live)).await;
    live.raises::<Plan>("live", "MigrationTypeNotValid", "NotSupported").await;
    live.refuses("live").await;
    live.plan("keys", &["web"], |spec| {
        spec.vms[0].luks = ObjectReference { name: Some("keys".into()), ..ObjectReference::default() };
        spec.vms[0].nbde_clevis = true;
    })
    .await;
    live.raises::<Plan>("keys", "LuksAndClevisIncompatibility", "NotValid").await;
    live.plan("fine", &["web"], |_| {}).await;
    live.accepts("fine", "VMNotFound").await;
    live.untouched();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_on_the_target() {
    let Some(live) = Live::ready(named(&["Web_1", "db", "app"])).await else { return };
    live.map(&["db"]).await;
    live.plan("renamed", &["Web_1"], |_| {}).await;
    let found = live.raises::<Plan>("renamed", "TargetNameNotValid", "NotValid").await;
    assert!(items(&found)[0].ends_with("becomes web-1"), "{found}");
    live.accepts("renamed", "NotValid").await;
    live.plan("wrong", &["db"], |spec| spec.vms[0].target_name = "Not Valid".into()).await;
    live.raises::<Plan>("wrong", "NotValid", "NotValid").await;
    live.plan("template", &["db"], |spec| spec.pvc_name_template = "{{.VmName}}_INVALID".into()).await;
    live.raises::<Plan>("template", "NotValid", "NotValid").await;
    live.plan("same", &["db", "app"], |spec| spec.vms.iter_mut().for_each(|vm| vm.target_name = "one".into())).await;
    live.raises::<Plan>("same", "DuplicateTargetName", "NotUnique").await;
    foreign_vm(&live, "db", json!({})).await;
    live.plan("taken", &["db"], |_| {}).await;
    live.raises::<Plan>("taken", "VMAlreadyExists", "NotUnique").await;
    live.refuses("taken").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_that_cannot_be_migrated() {
    let Some(live) = Live::ready(named(&["template", "away", "twin-1", "twin-2", "zero"])).await else { return };
    live.map(&["template"]).await;
    let vcenter = &live.vcenter;
    vcenter.set("VirtualMachine", "template", &json!({"config.template": true})).expect("a change");
    live.plan("template", &["template"], |_| {}).await;
    let found = live.raises::<Plan>("template", "VMMigrationTypeUnsupported", "NotSupported").await;
    assert!(items(&found)[0].ends_with("is a template"), "{found}");
    live.refuses("template").await;
    for state in ["disconnected", "orphaned", "inaccessible"] {
        vcenter.set("VirtualMachine", "away", &json!({"runtime.connectionState": state})).expect("a change");
        live.cluster.eventually(state, || async { live.machine("away").await.traits.connection == state }).await;
        live.plan(state, &["away"], |_| {}).await;
        let found = live.raises::<Plan>(state, "VMMigrationTypeUnsupported", "NotSupported").await;
        assert!(items(&found)[0].ends_with(&format!("is {state}")), "{found}");
        live.refuses(state).await;
    }
    // it comes back
    vcenter.set("VirtualMachine", "away", &json!({"runtime.connectionState": "connected"})).expect("a change");
    live.accepts("orphaned", "VMMigrationTypeUnsupported").await;

    let uuid = "420115dd-0000-4000-8000-000000000001";
    for name in ["twin-1", "twin-2"] {
        vcenter
            .set("VirtualMachine", name, &json!({"config.uuid": uuid, "summary.config.uuid": uuid}))
            .expect("a change");
    }
    live.cluster.eventually("the UUIDs", || async { live.machine("twin-2").await.uuid == uuid }).await;
    live.plan("twins", &["twin-1", "twin-2"], |_| {}).await;
    let found = live.raises::<Plan>("twins", "DuplicateVMUuid", "NotUnique").await;
    assert_eq!(found["category"], "Warn");
    assert!(items(&found)[0].starts_with(uuid), "{found}");
    live.accepts("twins", "VMNotFound").await;
    for name in ["twin-1", "twin-2"] {
        vcenter.set("VirtualMachine", name, &json!({"config.instanceUuid": uuid})).expect("a change");
    }
    live.cluster.eventually("the UUIDs", || async { live.machine("twin-2").await.instance_uuid == uuid }).await;
    live.plan("clones", &["twin-1", "twin-2"], |_| {}).await;
    let found = live.raises::<Plan>("clones", "DuplicateVMUuid", "NotUnique").await;
    assert_eq!(found["category"], "Critical");
    live.refuses("clones").await;

    vcenter.set_disk("zero", 0, "capacity", "0").expect("a change");
    live.plan("zero", &["zero"], |_| {}).await;
    live.raises::<Plan>("zero", "InvalidDiskSizes", "NotValid").await;
    let found = live.raises::<Plan>("zero", "VMCriticalConcerns", "NotValid").await;
    assert!(items(&found)[0].contains("invalid capacity"), "{found}");
    live.refuses("zero").await;
}
