//! A machine's life: it boots, runs, is stopped, and says why when it does not.

use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::common::process_with;
use crate::guests::{Then, boot_sector};
use crate::{console, disk, launcher, machine, printable, stack};

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_runs_and_is_stopped() {
    let mut stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("GUEST-IS-UP", Then::Halt)).await;
    stack.create::<VirtualMachine>(machine("booted", "root", "virtio", "Always")).await;
    let vm = stack.until("booted", |vm: &VirtualMachine| printable(vm) == "Running").await;
    let status = vm.status.expect("a status");
    assert_eq!((status.created, status.ready), (Some(true), Some(true)));
    // the word has no line end: it is seen all the same
    console(&stack, "booted", "GUEST-IS-UP").await;
    let vmi = stack
        .until("booted", |vmi: &VirtualMachineInstance| {
            vmi.status
                .as_ref()
                .is_some_and(|status| status.phase.as_deref() == Some("Running") && !status.interfaces.is_empty())
        })
        .await;
    let status = vmi.status.expect("a status");
    assert_eq!(status.node_name.as_deref(), Some("test-node"));
    assert_eq!(status.interfaces[0].mac.as_deref(), Some("02:00:00:00:00:01"));
    assert!(status.interfaces[0].ip_address.as_deref().is_some_and(|ip| ip.starts_with("127.")));

    // a second machine does not get the same disk
    stack.create::<VirtualMachine>(machine("thief", "root", "virtio", "Always")).await;
    let thief = stack
        .until("thief", |vmi: &VirtualMachineInstance| {
            vmi.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("DiskInUse")
        })
        .await;
    assert_eq!(thief.status.and_then(|status| status.phase).as_deref(), Some("Pending"));
    stack.api::<VirtualMachine>().delete("thief", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<VirtualMachine>("thief").await;

    // the machine comes back after the node, in a new instance
    let first = vmi.metadata.uid.clone();
    stack.stop_node().await;
    assert!(!process_with("guest=default_booted"), "QEMU outlives the node");
    stack.start_node();
    stack
        .until("booted", |vmi: &VirtualMachineInstance| {
            vmi.metadata.uid != first
                && vmi.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
        })
        .await;

    let halt = json!({"spec": {"runStrategy": "Halted"}});
    stack.api::<VirtualMachine>().patch("booted", &PatchParams::default(), &Patch::Merge(halt)).await.expect("patched");
    stack.until("booted", |vm: &VirtualMachine| printable(vm) == "Stopped").await;
    stack.until_gone::<VirtualMachineInstance>("booted").await;
    assert!(!process_with("guest=default_booted"), "QEMU is left");
    stack.api::<VirtualMachine>().delete("booted", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<VirtualMachine>("booted").await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_powers_off_is_stopped_for_good() {
    let stack = stack().await;
    disk(&stack, "root", "Block", boot_sector("ONCE-ONLY", Then::PowerOff)).await;
    stack.create::<VirtualMachine>(machine("once", "root", "sata", "RerunOnFailure")).await;
    stack
        .until("once", |vmi: &VirtualMachineInstance| {
            vmi.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
        })
        .await;
    stack.until("once", |vm: &VirtualMachine| printable(vm) == "Stopped").await;
    let pod = launcher(&stack, "once").await;
    stack.until_phase(&pod, "Succeeded").await;
    let said = stack.logs(&pod, "guest-console-log", false).await;
    assert!(said.contains("ONCE-ONLY"), "{said:?}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_is_stopped_by_its_power_button() {
    let stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("PRESS-TO-STOP", Then::AwaitButton)).await;
    let mut polite = machine("polite", "root", "scsi", "Always");
    polite["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(600);
    stack.create::<VirtualMachine>(polite).await;
    stack.until("polite", |vm: &VirtualMachine| printable(vm) == "Running").await;
    console(&stack, "polite", "PRESS-TO-STOP").await;
    // far sooner than by force
    stack.api::<VirtualMachine>().delete("polite", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<VirtualMachine>("polite").await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_that_cannot_run_say_why() {
    let stack = stack().await;
    stack.create::<VirtualMachine>(machine("diskless", "absent", "virtio", "Always")).await;
    stack.until("diskless", |vm: &VirtualMachine| printable(vm) == "ErrorPvcNotFound").await;
    let mut bad = machine("odd", "absent", "virtio", "Always");
    bad["spec"]["template"]["spec"]["volumes"] = json!([]);
    stack.create::<VirtualMachine>(bad).await;
    stack.until("odd", |vm: &VirtualMachine| printable(vm) == "ErrorUnschedulable").await;
    let vmi = stack.api::<VirtualMachineInstance>().get("odd").await.expect("an instance");
    let message = vmi
        .status
        .expect("a status")
        .conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .and_then(|condition| condition.message);
    assert_eq!(message.as_deref(), Some("disk root has no volume of that name"));
    stack.stop().await;
}
