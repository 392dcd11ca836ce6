//! Machines on a Multus network.

use forklift_kubevirt_types::{NetworkAttachmentDefinition, VirtualMachine, VirtualMachineInstance};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::guests::{Then, boot_sector, there};
use crate::{condition, disk, machine, printable, stack};

#[tokio::test(flavor = "multi_thread")]
async fn guests_speak_on_their_network() {
    if !there("/usr/lib/ipxe/qemu/efi-virtio.rom") {
        return;
    }
    let stack = stack().await;
    disk(&stack, "root", "Filesystem", boot_sector("UP", Then::Halt)).await;
    let mut vm = machine("web", "root", "virtio", "Always");
    let spec = &mut vm["spec"]["template"]["spec"];
    spec["domain"]["devices"]["disks"][0]["bootOrder"] = json!(2);
    spec["domain"]["devices"]["interfaces"] =
        json!([{"name": "lan", "bridge": {}, "macAddress": "02:00:00:00:00:0b", "bootOrder": 1}]);
    spec["networks"] = json!([{"name": "lan", "multus": {"networkName": "lan"}}]);
    stack.create::<VirtualMachine>(vm).await;
    // a network that nobody defined is waited for
    stack
        .until("web", |vmi: &VirtualMachineInstance| {
            condition(vmi, "Synchronized")
                .is_some_and(|(_, _, message)| message.contains("network-attachment-definition \"lan\""))
        })
        .await;
    stack.create::<NetworkAttachmentDefinition>(json!({"metadata": {"name": "lan"}, "spec": {"config": "{}"}})).await;
    stack.until("web", |vm: &VirtualMachine| printable(vm) == "Running").await;
    let switches = std::fs::read_dir(stack.data().join("networks")).expect("switches");
    let socket = switches.flatten().next().expect("one").path().join("switch.sock");
    let mut port = UnixStream::connect(socket).await.expect("connected");
    // its firmware looks for somebody to boot from
    let hear = async {
        loop {
            let mut frame = vec![0; port.read_u32().await.expect("a length") as usize];
            port.read_exact(&mut frame).await.expect("a frame");
            if frame[..6] == [0xff; 6] && frame[6..12] == [2, 0, 0, 0, 0, 0xb] {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(90), hear).await.expect("the guest's broadcast");
    stack.stop().await;
}
