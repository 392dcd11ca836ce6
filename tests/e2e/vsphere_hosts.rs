//! Migration from vSphere through the ESXi hosts that Host objects name: snapshots and bytes are theirs, with accounts of
//! their own.

use std::path::Path;
use std::time::Duration;

use forklift_testkit::peers::vcenter::{Options, Vcenter};
use forklift_testkit::stack::{Stack, has_condition};
use serde_json::{Value, json};

use crate::vsphere::{assert_equal, base, copy, left, no_lease, plan, provider, succeeded};
use crate::{NS, SHORT, vm};

const MIB: u64 = 1 << 20;
const ROUND: Duration = Duration::from_secs(180);

/// Starts a vCenter whose hosts have addresses of their own, with a machine that has something on its disk.
fn start(name: &str, off: bool) -> Option<Vcenter> {
    let vcenter = Vcenter::start(Options {
        vms: 1,
        names: vec![name.into()],
        disk_size: 32 * MIB,
        lease_timeout: Duration::from_secs(10),
        host_addresses: true,
        ..Options::default()
    })?;
    for n in 0..60 {
        vcenter.write(name, 0, n * 500_009, &[n as u8 + 1; 20_000]).expect("a guest writes");
    }
    if off {
        vcenter.power(name, false).expect("it goes off");
    } else {
        let tracked = json!({"_typeName": "VirtualMachineConfigSpec", "changeTrackingEnabled": true});
        vcenter.reconfigure(name, &tracked).expect("a machine can be reconfigured");
    }
    Some(vcenter)
}

/// Makes a Host object of each host and waits until they are ready.
fn host_objects(stack: &Stack, vcenter: &Vcenter, provider: &str, folder: &Path) {
    for host in vcenter.hosts().expect("hosts") {
        let name = host.id.clone();
        let user = format!("--from-literal=user={}", host.user);
        let password = format!("--from-literal=password={}", host.password);
        stack.kubectl(&["create", "secret", "generic", &name, &user, &password, "-n", NS]);
        let address = host.url.trim_start_matches("https://").trim_end_matches("/sdk");
        let object = json!({
            "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Host",
            "metadata": {"name": name, "namespace": NS},
            "spec": {
                "id": host.id, "ipAddress": address, "provider": {"name": provider, "namespace": NS},
                "secret": {"name": name, "namespace": NS}
            }
        });
        let file = folder.join(format!("{name}.json"));
        std::fs::write(&file, object.to_string()).expect("can be written");
        stack.kubectl(&["apply", "-f", file.to_str().expect("UTF-8")]);
        stack.wait("hosts.forklift.konveyor.io", NS, &name, SHORT, |host| has_condition(host, "Ready"));
    }
}

fn host_of(vcenter: &Vcenter, name: &str) -> String {
    vcenter.machine(name).expect("it is there")["host"].as_str().unwrap_or_default().to_owned()
}

fn rounds(plan: &Value, name: &str) -> u64 {
    vm(plan, name).and_then(|vm| vm["warm"]["successes"].as_u64()).unwrap_or(0)
}

#[test]
fn a_warm_migration_goes_through_the_host() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = "through-host";
    let Some(vcenter) = start(name, false) else { return };
    let stack = Stack::start_env(folder.path(), &[("PRECOPY_INTERVAL_SECONDS", "2")]);
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    host_objects(&stack, &vcenter, "vcenter", folder.path());
    plan(&stack, name, "vcenter", name, &["--migration-type", "warm", "--skip-guest-conversion"]);
    vcenter.keep_writing(name, 0, 42, 16 * 1024, 32 * MIB, Duration::from_millis(50)).expect("it runs");
    vcenter.reset_calls().expect("counters");
    stack.mtv(&["start", "plan", name, "-n", NS]);
    stack.wait("plan", NS, name, ROUND * 2, |plan| {
        assert!(!has_condition(plan, "Failed"), "{plan:#}");
        rounds(plan, name) >= 2
    });
    stack.mtv(&["cutover", "plan", name, "-n", NS]);
    succeeded(&stack, name, ROUND * 2);
    let machine = vcenter.machine(name).expect("it is there");
    assert_eq!(machine["power"], "poweredOff", "{machine:#}");
    assert_eq!(left(&vcenter, name), Vec::<String>::new(), "a snapshot is left");
    no_lease(&vcenter);
    let source = folder.path().join("source.raw");
    vcenter.dump_disk(name, 0, None, &source).expect("the source's bytes");
    assert_equal(&source, &copy(&stack, name, &base(&vcenter, name, 0)));
    let calls = vcenter.calls().expect("counters");
    let host = calls.at_host(&host_of(&vcenter, name));
    let served = calls.lease_bytes("") + calls.range_bytes("");
    println!("{} of {served} bytes by the host; asked of it: {:?}", host.bytes, host.methods);
    assert!(host.bytes >= served && served > 0, "{} of {served} bytes are the host's", host.bytes);
    assert!(host.logins > 0 && host.invalid_logins == 0);
    for method in ["CreateSnapshot_Task", "RemoveSnapshot_Task", "QueryChangedDiskAreas"] {
        assert_eq!(host.of(method), calls.of(method), "{method} is asked of the host alone: {:?}", host.methods);
        assert!(host.of(method) > 0, "{method}");
    }
    assert_eq!(host.of("ShutdownGuest"), 0, "power is the vCenter's");
}

#[test]
fn a_host_whose_password_was_changed_fails_the_copy_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let name = "locked-out";
    let Some(vcenter) = start(name, true) else { return };
    let stack = Stack::start(folder.path());
    provider(&stack, "vcenter", &vcenter, folder.path(), None);
    host_objects(&stack, &vcenter, "vcenter", folder.path());
    plan(&stack, name, "vcenter", name, &["--skip-guest-conversion"]);
    let host = host_of(&vcenter, name);
    vcenter.host_password(&host, "another").expect("a change");
    vcenter.reset_calls().expect("counters");
    stack.mtv(&["start", "plan", name, "-n", NS]);
    let failed = stack.wait("plan", NS, name, SHORT, |plan| {
        assert!(!has_condition(plan, "Succeeded"), "{plan:#}");
        has_condition(plan, "Failed")
    });
    let said = vm(&failed, name).expect("the machine")["error"]["reasons"].to_string();
    assert!(said.contains("LoginFailed") && said.contains("Host"), "{said}");
    let calls = vcenter.calls().expect("counters").at_host(&host);
    assert_eq!((calls.logins, calls.bytes), (0, 0));
    assert!((1..=3).contains(&calls.invalid_logins), "the account is not locked: {}", calls.invalid_logins);

    // with the right password in its secret the host is used again
    let secret = vcenter.hosts().expect("hosts").into_iter().find(|found| found.name == host).expect("the host").id;
    let change = json!({"stringData": {"password": "another"}}).to_string();
    stack.kubectl(&["patch", "secret", &secret, "-n", NS, "--type", "merge", "-p", &change]);
    plan(&stack, "again", "vcenter", name, &["--skip-guest-conversion"]);
    stack.mtv(&["start", "plan", "again", "-n", NS]);
    succeeded(&stack, "again", SHORT);
    let source = folder.path().join("source.raw");
    vcenter.dump_disk(name, 0, None, &source).expect("the source's bytes");
    assert_equal(&source, &copy(&stack, "again", &base(&vcenter, name, 0)));
    assert!(vcenter.calls().expect("counters").at_host(&host).bytes > 0);
}
