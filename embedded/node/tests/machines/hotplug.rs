//! Volumes that come and go while a machine runs.

use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::Pod;
use node::kubevirt::{qemu, qmp};
use serde_json::{Value, json};

use crate::common::Stack;
use crate::guests::{Then, boot_sector};
use crate::subresources::{code, put};
use crate::{claim, disk, launcher, machine, phase, printable, stack};

async fn blocks(stack: &Stack, machine: &str) -> Vec<String> {
    let pod = stack.api::<Pod>().get(&launcher(stack, machine).await).await.expect("a pod");
    let dir = stack.data().join("pods").join(pod.metadata.uid.expect("a uid")).join("volumes/private");
    let all = qmp::command(&dir.join("qmp.sock"), "query-block", Value::Null).await.expect("QEMU answers");
    let names = all.as_array().into_iter().flatten().filter_map(|block| block.pointer("/inserted/node-name")?.as_str());
    names.map(str::to_owned).collect()
}

fn is_ready(vmi: &VirtualMachineInstance, volume: &str) -> bool {
    let mut shown = vmi.status.iter().flat_map(|status| &status.volume_status);
    shown.any(|one| one.name == volume && one.phase.as_deref() == Some("Ready") && one.hotplug_volume.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_plugged_in_and_out() {
    let stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("UP", Then::Halt)).await;
    let extra = claim(&stack, "extra", "Filesystem", "5Mi").await;
    claim(&stack, "fast", "Block", "1Mi").await;
    stack.create::<VirtualMachine>(machine("web", "root", "virtio", "Always")).await;
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Running").await;
    let options = |name: &str, bus: &str| {
        json!({"name": name, "disk": {"disk": {"bus": bus}},
               "volumeSource": {"persistentVolumeClaim": {"claimName": name}}})
    };
    // the instance is known to the node's API a moment after it runs
    crate::subresources::until_served(&stack, "web").await;
    put(&stack, "virtualmachines/web/addvolume", options("extra", "scsi")).await.expect("accepted");
    put(&stack, "virtualmachineinstances/web/addvolume", options("fast", "virtio")).await.expect("accepted");
    stack.until("web", |vmi: &VirtualMachineInstance| is_ready(vmi, "extra") && is_ready(vmi, "fast")).await;
    assert_eq!(std::fs::metadata(&extra).expect("an empty disk was made").len(), 5 << 20);
    let there = blocks(&stack, "web").await;
    for name in ["extra", "fast"] {
        assert!(there.contains(&qemu::hot_id(name)), "{name} in {there:?}");
    }
    let again =
        put(&stack, "virtualmachines/web/addvolume", options("extra", "scsi")).await.expect_err("there already");
    assert_eq!(code(&again), 409, "{again}");

    // the disk is this machine's
    stack.create::<VirtualMachine>(machine("thief", "extra", "virtio", "Always")).await;
    stack
        .until("thief", |vmi: &VirtualMachineInstance| {
            vmi.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("DiskInUse")
        })
        .await;

    let root = put(&stack, "virtualmachines/web/removevolume", json!({"name": "root"})).await.expect_err("refused");
    assert!(root.to_string().contains("is not hotpluggable"), "{root}");
    put(&stack, "virtualmachines/web/removevolume", json!({"name": "extra"})).await.expect("accepted");
    stack
        .until("web", |vmi: &VirtualMachineInstance| {
            !vmi.status.iter().flat_map(|status| &status.volume_status).any(|one| one.name == "extra")
        })
        .await;
    assert!(!blocks(&stack, "web").await.contains(&qemu::hot_id("extra")));
    // and is the other's then
    stack.until("thief", |vmi: &VirtualMachineInstance| phase(vmi) == "Running").await;
    stack.stop().await;
}
