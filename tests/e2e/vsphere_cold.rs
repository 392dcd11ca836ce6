//! Cold migration from vSphere: through the export lease and, again, through datastore ranges.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use forklift_testkit::appliance::Appliance;
use forklift_testkit::peers::vcenter::{Options, Vcenter};
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;

use crate::vsphere::{assert_equal, base, copy, left, no_lease, plan, provider, succeeded};
use crate::{CONVERSION, NS, SHORT, console};

const MIB: u64 = 1 << 20;

/// Makes the simulated vCenter with a machine that boots from a small image and has a second disk of data.
fn small(folder: &std::path::Path, name: &str) -> Option<Vcenter> {
    let vcenter = Vcenter::start(Options {
        vms: 1,
        names: vec![name.into()],
        disks: 2,
        disk_size: 16 * MIB,
        guest: "other3xLinux64Guest".into(),
        lease_timeout: Duration::from_secs(30),
        ..Options::default()
    })?;
    let raw = folder.join("boot.raw");
    Appliance::new(name).write_disk(&raw).expect("a disk");
    vcenter.put_disk(name, 0, &raw).expect("the disk can be put");
    for n in 0..40 {
        vcenter.write(name, 1, n * 300_007, &[n as u8 + 1; 9000]).expect("a guest writes");
    }
    Some(vcenter)
}

/// Runs a raw cold migration of the small machine and checks everything that it should leave.
fn migrate(ranges: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let name = if ranges { "by-ranges" } else { "by-lease" };
    let Some(vcenter) = small(folder.path(), name) else { return };
    let stack = Stack::start(folder.path());
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    if ranges {
        by_ranges(&stack);
    }
    plan(&stack, name, "vcenter", name, &["--skip-guest-conversion", "--target-power-state", "on"]);
    vcenter.reset_calls().expect("counters");
    stack.mtv(&["start", "plan", name, "-n", NS]);
    let done = succeeded(&stack, name, SHORT);

    // the source: shut down through its tools, nothing else changed
    let machine = vcenter.machine(name).expect("it is there");
    assert_eq!(machine["power"], "poweredOff", "{machine:#}");
    assert_eq!(left(&vcenter, name), Vec::<String>::new());
    let calls = vcenter.calls().expect("counters");
    assert_eq!((calls.of("ShutdownGuest"), calls.of("PowerOffVM_Task")), (1, 0), "{:?}", calls.methods());
    assert_eq!(calls.of("Destroy_Task") + calls.of("UnregisterVM"), 0);
    no_lease(&vcenter);

    // the way that the bytes took, and what is told of it
    let disks = crate::vm(&done, name).and_then(|vm| crate::step(vm, "DiskTransfer"));
    let disks = disks.and_then(|step| step["tasks"].as_array()).expect("the pipeline has disks");
    for disk in disks {
        let told = |key: &str| disk["annotations"][key].as_str().unwrap_or_default().to_owned();
        let (method, reason) =
            if ranges { ("ranges", "transferMethod says") } else { ("nfc", "without change tracking") };
        assert!(told("transferMethod") == method && told("transferReason").contains(reason), "{disk:#}");
    }
    let page = stack.mtv(&["describe", "plan", name, "--with-vms", "-n", NS]);
    assert!(page.contains(if ranges { "by ranges (" } else { "by nfc (" }), "{page}");
    let (lease, range) = (calls.lease_bytes("/disk"), calls.range_bytes("/disk"));
    println!(
        "{name}: {lease} bytes by lease, {range} by ranges; {:#}",
        done["status"]["migration"]["vms"][0]["pipeline"]
    );
    if ranges {
        assert!(range > 8 * MIB && lease == 0, "{lease} bytes by lease, {range} by ranges");
    } else {
        assert!(lease > 8 * MIB && range == 0, "{lease} bytes by lease, {range} by ranges");
    }

    // the target: the same bytes, and it boots
    for index in 0..2 {
        let source = folder.path().join(format!("source-{index}.raw"));
        vcenter.dump_disk(name, index, None, &source).expect("the source's bytes");
        assert_equal(&source, &copy(&stack, name, &base(&vcenter, name, index)));
    }
    wait_for("the guest runs", SHORT, || {
        let text = console(&stack, name, name);
        if text.contains(&format!("{name} is running")) { Ok(()) } else { Err(text) }
    });
}

/// Has disks read by ranges, whatever is known of them.
fn by_ranges(stack: &Stack) {
    let change = r#"{"spec": {"settings": {"transferMethod": "ranges"}}}"#;
    let provider = "providers.forklift.konveyor.io";
    stack.kubectl(&["patch", provider, "vcenter", "-n", NS, "--type", "merge", "-p", change]);
    // the change is seen by what is asked next: a provider is not ready before its newest state was looked at
    stack.wait(provider, NS, "vcenter", SHORT, |provider| {
        provider["metadata"]["generation"] == provider["status"]["observedGeneration"]
            && has_condition(provider, "Ready")
    });
}

#[test]
fn a_machine_is_migrated_through_its_export_lease() {
    migrate(false);
}

#[test]
fn a_machine_is_migrated_through_datastore_ranges() {
    migrate(true);
}

/// Makes a raw disk of the sample appliance's, which the set-up makes.
pub fn sample(folder: &std::path::Path) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"));
    let ova = std::env::var_os("FORKLIFT_GUEST_OVA")
        .map_or_else(|| cache.join("forklift/guest/webserver01.ova"), PathBuf::from);
    assert!(ova.exists(), "{} is missing: `./x guest` makes the sample appliance", ova.display());
    let run = |program: &str, args: &[&str]| {
        let done = Command::new(program).args(args).current_dir(folder).status().expect("the program is installed");
        assert!(done.success(), "{program} {args:?}");
    };
    run("tar", &["-xf", ova.to_str().expect("UTF-8")]);
    let names = std::fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path());
    let disk = names.into_iter().find(|path| path.extension().is_some_and(|kind| kind == "vmdk"));
    let disk = disk.expect("the appliance has a disk");
    run("qemu-img", &["convert", "-O", "raw", disk.to_str().expect("UTF-8"), "guest.raw"]);
    std::fs::remove_file(disk).expect("the disk of the appliance");
    folder.join("guest.raw")
}

#[test]
fn a_real_guest_is_converted_and_reaches_its_login_prompt() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = "webserver01";
    let Some(vcenter) = Vcenter::start(Options {
        vms: 1,
        names: vec![name.into()],
        guest: "debian12_64Guest".into(),
        ..Options::default()
    }) else {
        return;
    };
    vcenter.put_disk(name, 0, &sample(folder.path())).expect("the disk can be put");
    let stack = Stack::start(folder.path());
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    if std::env::var_os("VSPHERE_GUEST_RANGES").is_some() {
        by_ranges(&stack);
    }
    plan(&stack, "web", "vcenter", name, &["--target-power-state", "on"]);
    stack.mtv(&["start", "plan", "web", "-n", NS]);
    succeeded(&stack, "web", CONVERSION);
    let calls = vcenter.calls().expect("counters");
    let file = base(&vcenter, name, 0);
    println!("{} bytes by lease, {} by ranges", calls.lease_bytes(&file), calls.range_bytes(&file));
    wait_for("the login prompt", CONVERSION, || {
        let text = console(&stack, "web", name);
        if text.contains(&format!("{name} login:")) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn copies_from_one_host_share_its_bandwidth() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["first", "second"];
    let options = Options {
        vms: 2,
        hosts: 1,
        names: names.map(Into::into).to_vec(),
        disk_size: 16 * MIB,
        off: true,
        ..Options::default()
    };
    let Some(vcenter) = Vcenter::start(options) else { return };
    let stack = Stack::start(folder.path());
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    // at this rate a disk would take longer than this test waits
    let limit = |text: &str| {
        let change =
            serde_json::json!({"spec": {"settings": {"hostBandwidthLimit": text, "transferMethod": "ranges"}}});
        let provider = "providers.forklift.konveyor.io";
        stack.kubectl(&["patch", provider, "vcenter", "-n", NS, "--type", "merge", "-p", &change.to_string()]);
        stack.wait(provider, NS, "vcenter", SHORT, |provider| {
            provider["metadata"]["generation"] == provider["status"]["observedGeneration"]
                && has_condition(provider, "Ready")
        });
    };
    let share = |name: &str, wanted: &str| {
        wait_for(&format!("{name} has {wanted}"), SHORT, || {
            let maps = stack.list("configmaps", name);
            let found = maps.iter().find_map(|map| map["data"]["limit"].as_str()).unwrap_or("none").to_owned();
            if found == wanted { Ok(()) } else { Err(found) }
        });
    };
    limit("40Ki");
    for name in names {
        plan(&stack, name, "vcenter", name, &["--skip-guest-conversion"]);
        stack.mtv(&["start", "plan", name, "-n", NS]);
    }
    share("first", "20480/s");
    share("second", "20480/s");
    stack.mtv(&["cancel", "plan", "first", "--vms", "first", "-n", NS]);
    share("second", "40960/s");
    // a running copy follows: it would not end in time otherwise (and its share goes with it, so nobody looks for that)
    limit("1Gi");
    succeeded(&stack, "second", SHORT);
    let source = folder.path().join("source.raw");
    vcenter.dump_disk("second", 0, None, &source).expect("the source's bytes");
    assert_equal(&source, &copy(&stack, "second", &base(&vcenter, "second", 0)));
}
