//! Instance types and preferences.

use forklift_kubevirt_types::{
    VirtualMachine, VirtualMachineClusterInstancetype, VirtualMachineInstance, VirtualMachinePreference,
};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::guests::{Then, boot_sector};
use crate::{disk, machine, printable, stack};

#[tokio::test(flavor = "multi_thread")]
async fn machines_have_the_size_of_their_type() {
    let stack = stack().await;
    let sizes: Api<VirtualMachineClusterInstancetype> = Api::all(stack.client.clone());
    let small = json!({"metadata": {"name": "small"}, "spec": {"cpu": {"guest": 2}, "memory": {"guest": "96Mi"}}});
    sizes.create(&PostParams::default(), &serde_json::from_value(small).expect("a size")).await.expect("created");
    let linux = json!({"metadata": {"name": "linux"}, "spec": {
        "cpu": {"preferredCPUTopology": "cores"}, "devices": {"preferredDiskBus": "virtio", "preferredRng": {}}}});
    stack.create::<VirtualMachinePreference>(linux).await;
    disk(&stack, "root", "Filesystem", boot_sector("UP", Then::Halt)).await;
    let mut vm = machine("web", "root", "virtio", "Always");
    vm["spec"]["instancetype"] = json!({"name": "small"});
    vm["spec"]["preference"] = json!({"name": "linux", "kind": "VirtualMachinePreference"});
    let spec = &mut vm["spec"]["template"]["spec"]["domain"];
    spec.as_object_mut().expect("an object").remove("memory");
    spec["devices"]["disks"] = json!([{"name": "root"}]);
    stack.create::<VirtualMachine>(vm.clone()).await;
    let shown = stack.until("web", |vm: &VirtualMachine| printable(vm) == "Running").await;
    let vmi = stack.api::<VirtualMachineInstance>().get("web").await.expect("an instance");
    let domain = &vmi.spec.domain;
    let cpu = domain.cpu.clone().expect("processors");
    assert_eq!((cpu.sockets, cpu.cores, cpu.threads), (Some(1), Some(2), Some(1)));
    assert_eq!(domain.memory.clone().and_then(|memory| memory.guest).map(|guest| guest.0).as_deref(), Some("96Mi"));
    assert_eq!(domain.devices.disks[0].disk.clone().and_then(|disk| disk.bus).as_deref(), Some("virtio"));
    assert!(domain.devices.rng.is_some());

    // both are kept as they were
    let status = shown.status.expect("a status");
    let revisions = stack.api::<ControllerRevision>();
    for reference in [status.instancetype_ref, status.preference_ref] {
        let name = reference.and_then(|reference| reference.controller_revision_ref).expect("a revision").name;
        revisions.get(&name).await.expect("it exists");
    }
    let grow = json!({"spec": {"memory": {"guest": "128Mi"}}});
    sizes.patch("small", &PatchParams::default(), &Patch::Merge(grow)).await.expect("patched");
    let uid = vmi.metadata.uid.clone();
    crate::subresources::until_served(&stack, "web").await;
    crate::subresources::put(&stack, "virtualmachines/web/restart", json!({})).await.expect("accepted");
    let vmi = stack
        .until("web", |vmi: &VirtualMachineInstance| vmi.metadata.uid != uid && crate::phase(vmi) == "Running")
        .await;
    let guest = vmi.spec.domain.memory.and_then(|memory| memory.guest).expect("memory");
    assert_eq!(guest.0, "96Mi", "the machine keeps the type that it was made with");
    assert_eq!(revisions.list(&ListParams::default()).await.expect("a list").items.len(), 2);

    // a type must not be contradicted
    vm["metadata"]["name"] = json!("torn");
    vm["spec"]["template"]["spec"]["domain"]["memory"] = json!({"guest": "1Gi"});
    stack.create::<VirtualMachine>(vm).await;
    let torn = stack
        .until("torn", |vm: &VirtualMachine| {
            vm.status.iter().flat_map(|status| &status.conditions).any(|one| one.type_ == "Failure")
        })
        .await;
    let failure = torn.status.expect("a status").conditions.into_iter().find(|one| one.type_ == "Failure");
    assert_eq!(
        failure.and_then(|one| one.message).as_deref(),
        Some("VM field(s) spec.template.spec.domain.memory.guest conflicts with selected instance type")
    );
    stack.stop().await;
}
