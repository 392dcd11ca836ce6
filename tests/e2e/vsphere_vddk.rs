//! A provider with VDDK: its check, its configuration file, and a copy by the stand-in for VMware's library.

#[path = "../../crates/workers/tests/vddk/library.rs"]
mod library;

use forklift_testkit::peers::vcenter::{Options, Vcenter};
use forklift_testkit::stack::{Stack, has_condition};
use serde_json::json;

use crate::vsphere::{assert_equal, base, copy, plan, provider, succeeded};
use crate::{NS, SHORT, step, vm};

const NAME: &str = "database";
const MIB: u64 = 1 << 20;

#[test]
fn disks_are_read_by_the_users_vddk_as_the_provider_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { vms: 1, names: vec![NAME.into()], disk_size: 16 * MIB, off: true, ..Options::default() };
    let Some(vcenter) = Vcenter::start(options) else { return };
    let source = folder.path().join("source.raw");
    let bytes: Vec<u8> = (0..11 * MIB).map(|at| (at >> 9) as u8 ^ at as u8).collect();
    std::fs::write(&source, bytes).expect("the source's bytes");
    std::fs::File::options().write(true).open(&source).expect("is there").set_len(16 * MIB).expect("gets its size");
    vcenter.put_disk(NAME, 0, &source).expect("the disk can be put");
    let vddk = folder.path().join("vddk");
    library::build(&vddk, &[]);
    // the library's folder is all that its pods see of this machine
    std::fs::copy(&source, vddk.join("lib64/disk.raw")).expect("the disk is copied");
    let account = format!("{}/{}", vcenter.user(), vcenter.password());
    let config = "VixDiskLib.nfcAio.Session.BufSizeIn64KB=8";
    let told = format!(
        "STANDIN_DISK=disk.raw\nSTANDIN_ACCOUNT={account}\nSTANDIN_CONFIG={config}\nSTANDIN_MODES=hotadd:nbd\n"
    );
    std::fs::write(vddk.join("lib64/standin.conf"), told).expect("the stand-in is told");

    let stack = Stack::start(folder.path());
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    // as kubectl-mtv writes the configuration
    let settings = json!({
        "vddkInitImage": vddk, "vddkTransports": "san:nbd",
        "vddkConfig": "|\nVixDiskLib.nfcAio.Session.BufSizeIn64K=8\nVixDiskLib.nfcAio.Session.BufCount=2"
    });
    let change = json!({"spec": {"settings": settings}}).to_string();
    stack.kubectl(&["patch", "providers.forklift.konveyor.io", "vcenter", "-n", NS, "--type", "merge", "-p", &change]);
    stack.wait("providers.forklift.konveyor.io", NS, "vcenter", SHORT, |provider| {
        provider["metadata"]["generation"] == provider["status"]["observedGeneration"]
            && has_condition(provider, "Ready")
    });
    plan(&stack, NAME, "vcenter", NAME, &["--skip-guest-conversion"]);
    stack.mtv(&["start", "plan", NAME, "-n", NS]);
    let done = succeeded(&stack, NAME, SHORT);

    assert_equal(&source, &copy(&stack, NAME, &base(&vcenter, NAME, 0)));
    let shown = &step(vm(&done, NAME).expect("the machine"), "DiskTransfer").expect("the step")["tasks"][0];
    let notes = &shown["annotations"];
    assert_eq!(
        (&notes["transferMethod"], &notes["transferReason"]),
        (&json!("vddk"), &json!("the provider has VDDK; transport nbd, which is not encrypted")),
        "{shown:#}"
    );
}
