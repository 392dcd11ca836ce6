//! Guests that boot by EFI, with and without secure boot; the BIOS is what all other tests boot by.

use std::path::Path;

use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::common::Stack;
use crate::guests::{efi_program, fat, there};
use crate::{claim, console, machine, printable, stack};

/// A machine of a FAT disk with EFI programs on it.
async fn efi_machine(stack: &Stack, name: &str, files: &[(&Path, &str)], domain: Value) {
    fat(&claim(stack, name, "Filesystem", "8Mi").await, 8 << 20, files);
    let mut vm = machine(name, name, "virtio", "Always");
    vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = json!("256Mi");
    for (key, value) in domain.as_object().into_iter().flatten() {
        if key == "tpm" {
            vm["spec"]["template"]["spec"]["domain"]["devices"]["tpm"] = value.clone();
        } else {
            vm["spec"]["template"]["spec"]["domain"][key] = value.clone();
        }
    }
    stack.create::<VirtualMachine>(vm).await;
    stack.until(name, |vm: &VirtualMachine| printable(vm) == "Running").await;
}

async fn set_strategy(stack: &Stack, name: &str, strategy: &str) {
    let patch = json!({"spec": {"runStrategy": strategy}});
    stack.api::<VirtualMachine>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
}

#[tokio::test(flavor = "multi_thread")]
async fn efi_variables_and_a_tpm_outlive_the_instance() {
    let needed = ["/usr/share/OVMF/OVMF_CODE_4M.fd", "mformat", "swtpm", "swtpm_setup"];
    if !needed.iter().all(|what| there(what)) {
        return;
    }
    let stack = stack().await;
    let program = stack.dir.path().join("program.efi");
    std::fs::write(&program, efi_program()).expect("written");
    let kept = json!({
        "firmware": {"bootloader": {"efi": {"secureBoot": false, "persistent": true}}}, "tpm": {"persistent": true},
    });
    efi_machine(&stack, "kept", &[(&program, "EFI/BOOT/BOOTX64.EFI")], kept).await;
    console(&stack, "kept", "EFI-GUEST-RUN-1-TPM-Y").await;
    let state = stack.until("persistent-state-for-kept", |_: &PersistentVolumeClaim| true).await;
    let volume = state.spec.and_then(|spec| spec.volume_name).expect("a volume");
    let dir = stack.data().join("volumes").join(volume);
    assert!(dir.join("nvram.fd").is_file() && dir.join("tpm/tpm2-00.permall").is_file(), "the state is in the volume");

    set_strategy(&stack, "kept", "Halted").await;
    stack.until_gone::<VirtualMachineInstance>("kept").await;
    set_strategy(&stack, "kept", "Always").await;
    stack.until("kept", |vm: &VirtualMachine| printable(vm) == "Running").await;
    console(&stack, "kept", "EFI-GUEST-RUN-2-TPM-Y").await;

    // a machine without persistence begins anew each time, and has no TPM that it did not ask for
    let plain = json!({"firmware": {"bootloader": {"efi": {"secureBoot": false}}}});
    efi_machine(&stack, "plain", &[(&program, "EFI/BOOT/BOOTX64.EFI")], plain).await;
    console(&stack, "plain", "EFI-GUEST-RUN-1-TPM-N").await;

    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secure_boot_refuses_what_nobody_signed() {
    if !["/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "mformat"].iter().all(|what| there(what)) {
        return;
    }
    let stack = stack().await;
    let program = stack.dir.path().join("program.efi");
    std::fs::write(&program, efi_program()).expect("written");
    let secure = json!({"firmware": {"bootloader": {"efi": {}}}, "features": {"smm": {"enabled": true}}});
    efi_machine(&stack, "unsigned", &[(&program, "EFI/BOOT/BOOTX64.EFI")], secure).await;
    let said = console(&stack, "unsigned", "Access Denied").await;
    assert!(!said.contains("EFI-GUEST-RUN"), "{said}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secure_boot_boots_what_is_signed() {
    let (shim, grub) = ("/usr/lib/shim/shimx64.efi.signed", "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed");
    if !["/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "mformat", shim, grub].iter().all(|what| there(what)) {
        return;
    }
    let stack = stack().await;
    let script = stack.dir.path().join("grub.cfg");
    let lines = "serial --unit=0\nterminal_output serial\necho SIGNED-GUEST-RUNS lockdown=$lockdown\nsleep 1000000\n";
    std::fs::write(&script, lines).expect("written");
    let files = [
        (Path::new(shim), "EFI/BOOT/BOOTX64.EFI"),
        (Path::new(grub), "EFI/BOOT/grubx64.efi"),
        (script.as_path(), "EFI/debian/grub.cfg"),
    ];
    let secure =
        json!({"firmware": {"bootloader": {"efi": {"secureBoot": true}}}, "features": {"smm": {"enabled": true}}});
    efi_machine(&stack, "signed", &files, secure).await;
    // GRUB locks itself down when the firmware says that secure boot is on
    console(&stack, "signed", "SIGNED-GUEST-RUNS lockdown=y").await;
    stack.stop().await;
}
