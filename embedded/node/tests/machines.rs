//! Virtual machines in QEMU, seen through the API.

mod common;

use common::{Stack, process_with};
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

/// What a guest does after its word.
#[derive(PartialEq)]
enum Then {
    /// Nothing for ever.
    Halt,
    /// Switches itself off.
    PowerOff,
    /// Waits for the power button, then switches itself off.
    AwaitButton,
}

/// A boot sector that prints a word on the first serial port and then does as told, through
/// the ACPI registers of QEMU's q35 machine.
fn boot_sector(word: &str, then: Then) -> Vec<u8> {
    // cli; xor ax,ax; mov ds,ax; mov si,word; mov dx,0x3f8
    let mut code = vec![0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0, 0, 0xba, 0xf8, 0x03];
    // next: lodsb; test al,al; jz end; out dx,al; jmp next
    code.extend([0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8]);
    if then != Then::Halt {
        // end: the PCI configuration of the LPC bridge (00:1f.0) sets and enables the power
        // management port at 0x600, as no operating system has done it: PMBASE, ACPI_CNTL
        for (register, value) in [(0x8000_f840_u32, 0x601_u32), (0x8000_f844, 0x80)] {
            // mov dx,0xcf8; mov eax,register; out dx,eax; mov dx,0xcfc; mov eax,value; out dx,eax
            code.extend([0xba, 0xf8, 0x0c, 0x66, 0xb8]);
            code.extend(register.to_le_bytes());
            code.extend([0x66, 0xef, 0xba, 0xfc, 0x0c, 0x66, 0xb8]);
            code.extend(value.to_le_bytes());
            code.extend([0x66, 0xef]);
        }
        if then == Then::AwaitButton {
            // mov dx,0x602; mov ax,0x100; out dx,ax: the button is of interest
            code.extend([0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef]);
            // again: mov dx,0x600; in ax,dx; test ax,0x100; jz again
            code.extend([0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01, 0x74, 0xf7]);
        }
        // mov dx,0x604; mov ax,0x2000; out dx,ax
        code.extend([0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef]);
    }
    // hlt; jmp to it
    code.extend([0xf4, 0xeb, 0xfd]);
    let text = u16::try_from(0x7c00 + code.len()).expect("small");
    code[6..8].copy_from_slice(&text.to_le_bytes());
    code.extend(word.as_bytes());
    code.push(0);
    code.resize(510, 0);
    code.extend([0x55, 0xaa]);
    code
}

async fn stack() -> Stack {
    let stack = Stack::start_with(|config| config.kubevirt = true).await;
    let crds: Api<CustomResourceDefinition> = Api::all(stack.client.clone());
    for crd in forklift_kubevirt_types::crds() {
        crds.create(&PostParams::default(), &crd).await.expect("a CRD");
    }
    stack
}

/// Makes a claim and puts a boot sector on its disk.
async fn disk(stack: &Stack, name: &str, mode: &str, sector: Vec<u8>) {
    stack
        .create::<PersistentVolumeClaim>(
            json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeMode": mode,
        "resources": {"requests": {"storage": "1Mi"}}}}),
        )
        .await;
    let claim = stack
        .until(name, |claim: &PersistentVolumeClaim| {
            claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
        })
        .await;
    let volume = claim.spec.and_then(|spec| spec.volume_name).expect("a volume");
    let mut image = sector;
    image.resize(1 << 20, 0);
    std::fs::write(stack.data().join("volumes").join(volume).join("disk.img"), image).expect("written");
}

fn machine(name: &str, claim: &str, bus: &str, strategy: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"runStrategy": strategy, "template": {"spec": {
            "terminationGracePeriodSeconds": 1,
            "domain": {"memory": {"guest": "64Mi"}, "devices": {
                "disks": [{"name": "root", "disk": {"bus": bus}}],
                "interfaces": [{"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:01"}]}},
            "networks": [{"name": "default", "pod": {}}],
            "volumes": [{"name": "root", "persistentVolumeClaim": {"claimName": claim}}]}}},
    })
}

fn printable(vm: &VirtualMachine) -> &str {
    vm.status.as_ref().and_then(|status| status.printable_status.as_deref()).unwrap_or_default()
}

async fn launcher(stack: &Stack, machine: &str) -> String {
    let params = ListParams::default().labels(&format!("kubevirt.io=virt-launcher,vm.kubevirt.io/name={machine}"));
    let pods = stack.api::<Pod>().list(&params).await.expect("pods");
    assert_eq!(pods.items.len(), 1, "one pod");
    pods.items[0].metadata.name.clone().expect("a name")
}

/// Follows the console until it has said a word.
async fn console(stack: &Stack, machine: &str, word: &str) {
    use futures::AsyncBufReadExt;
    let pod = launcher(stack, machine).await;
    let params =
        kube::api::LogParams { container: Some("guest-console-log".into()), follow: true, ..Default::default() };
    let said = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        let mut log = stack.api::<Pod>().log_stream(&pod, &params).await.expect("a log");
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains(word) {
            let part = log.fill_buf().await.expect("readable").to_vec();
            assert!(!part.is_empty(), "the console ended with {:?}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&part);
            log.consume_unpin(part.len());
        }
    });
    said.await.expect("the guest's word in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_boots_runs_and_is_stopped() {
    let mut stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("GUEST-IS-UP", Then::Halt)).await;
    stack.create::<VirtualMachine>(machine("web", "root", "virtio", "Always")).await;
    let vm = stack.until("web", |vm: &VirtualMachine| printable(vm) == "Running").await;
    let status = vm.status.expect("a status");
    assert_eq!((status.created, status.ready), (Some(true), Some(true)));
    // the word has no line end: it is seen all the same
    console(&stack, "web", "GUEST-IS-UP").await;
    let vmi = stack
        .until("web", |vmi: &VirtualMachineInstance| {
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
    assert!(!process_with("guest=default_web"), "QEMU outlives the node");
    stack.start_node();
    stack
        .until("web", |vmi: &VirtualMachineInstance| {
            vmi.metadata.uid != first
                && vmi.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
        })
        .await;

    let halt = json!({"spec": {"runStrategy": "Halted"}});
    stack.api::<VirtualMachine>().patch("web", &PatchParams::default(), &Patch::Merge(halt)).await.expect("patched");
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Stopped").await;
    stack.until_gone::<VirtualMachineInstance>("web").await;
    assert!(!process_with("guest=default_web"), "QEMU is left");
    stack.api::<VirtualMachine>().delete("web", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<VirtualMachine>("web").await;
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
