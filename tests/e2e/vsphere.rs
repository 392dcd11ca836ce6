//! What the tests of vSphere share: a simulated vCenter as a provider, plans, disks compared byte for byte.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use forklift_testkit::peers::vcenter::Vcenter;
use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;
use serde_json::Value;

use crate::{NS, SHORT};

/// What all snapshots of migrations are called.
pub const SNAPSHOT: &str = "forklift-migration-precopy";

/// Makes a provider of a simulated vCenter and waits until its inventory is there.
pub fn provider(stack: &Stack, name: &str, vcenter: &Vcenter, folder: &Path, limit: Option<u64>) {
    let (ca, password) = (folder.join(format!("{name}.ca")), folder.join(format!("{name}.password")));
    std::fs::write(&ca, vcenter.ca()).expect("the authority can be written");
    std::fs::write(&password, vcenter.password()).expect("the password can be written");
    let (ca, password) = (format!("@{}", ca.display()), format!("@{}", password.display()));
    let limit = limit.map(|limit| limit.to_string());
    let mut args = vec!["create", "provider", name, "--type", "vsphere", "--url", vcenter.url()];
    args.extend(["--username", vcenter.user(), "--password", &password, "--cacert", &ca, "-n", NS]);
    if let Some(limit) = &limit {
        args.extend(["--bandwidth-limit", limit]);
    }
    stack.mtv(&args);
    for name in [name, "host"] {
        stack.wait("providers.forklift.konveyor.io", NS, name, SHORT, |provider| {
            has_condition(provider, "Ready") && has_condition(provider, "InventoryCreated")
        });
    }
    wait_for("machines are in the inventory", SHORT, || {
        let text = stack.mtv(&["get", "inventory", "vm", "--provider", name, "-n", NS, "-o", "json"]);
        let list: Vec<Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if list.is_empty() { Err("none yet".to_owned()) } else { Ok(()) }
    });
}

/// Makes a plan for one machine and waits until it is ready; `more` are further arguments.
pub fn plan(stack: &Stack, name: &str, provider: &str, vm: &str, more: &[&str]) {
    let mut args = vec!["create", "plan", name, "--source", provider, "--target", "host", "--vms", vm];
    args.extend(["--target-namespace", name, "-n", NS]);
    args.extend(more);
    stack.mtv(&args);
    crate::ready(stack, name);
}

/// Waits for the end of a plan and returns it; panics where it did not succeed.
pub fn succeeded(stack: &Stack, plan: &str, deadline: std::time::Duration) -> Value {
    let done = |plan: &Value| has_condition(plan, "Succeeded") || has_condition(plan, "Failed");
    let plan = stack.wait("plan", NS, plan, deadline, done);
    assert!(has_condition(&plan, "Succeeded"), "{plan:#}");
    plan
}

/// Returns the copy of a machine's disk: the image behind the claim that is annotated with the disk's file.
pub fn copy(stack: &Stack, namespace: &str, file: &str) -> PathBuf {
    let claims = stack.list("persistentvolumeclaims", namespace);
    let is_of = |claim: &&Value| {
        let annotations = claim["metadata"]["annotations"].as_object();
        annotations.is_some_and(|map| map.values().any(|value| value == file))
    };
    let found: Vec<&Value> = claims.iter().filter(is_of).collect();
    let [claim] = found.as_slice() else { panic!("{} claims of {file} among {claims:#?}", found.len()) };
    let volume = claim["spec"]["volumeName"].as_str().expect("the claim is bound");
    let volume = stack.get("persistentvolume", namespace, volume).expect("the volume is there");
    let path = ["local", "hostPath"].into_iter().find_map(|kind| volume["spec"][kind]["path"].as_str());
    let path = PathBuf::from(path.unwrap_or_else(|| panic!("{volume:#}")));
    if path.is_dir() { path.join("disk.img") } else { path }
}

/// Panics with the first difference of two files; the shorter one counts as zeros behind its end.
pub fn assert_equal(left: &Path, right: &Path) {
    let (a, b) = (File::open(left).expect("a file"), File::open(right).expect("a file"));
    let length = |file: &File| file.metadata().expect("a length").len();
    let end = length(&a).max(length(&b));
    let (mut p, mut q) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    while at < end {
        let read = |file: &File, buffer: &mut Vec<u8>| {
            buffer.fill(0);
            let mut done = 0;
            while done < buffer.len() {
                match file.read_at(&mut buffer[done..], at + done as u64).expect("a file can be read") {
                    0 => break,
                    n => done += n,
                }
            }
        };
        read(&a, &mut p);
        read(&b, &mut q);
        if p != q {
            let first = p.iter().zip(&q).position(|(x, y)| x != y).unwrap_or(0);
            let wrong = p.iter().zip(&q).filter(|(x, y)| x != y).count();
            panic!(
                "{} and {} differ: first at {}, {wrong} bytes of this mebibyte",
                left.display(),
                right.display(),
                at + first as u64
            );
        }
        at += 1 << 20;
    }
}

/// Returns the file name of a machine's disk, by which the simulator counts bytes.
pub fn base(vcenter: &Vcenter, vm: &str, disk: usize) -> String {
    vcenter.machine(vm).expect("the machine is there")["disks"][disk]["base"].as_str().unwrap_or_default().to_owned()
}

/// Returns the snapshots of migrations that a machine has.
pub fn left(vcenter: &Vcenter, vm: &str) -> Vec<String> {
    let mut names = vcenter.snapshots(vm).expect("the machine is there");
    names.retain(|name| name.starts_with(SNAPSHOT));
    names
}

/// Waits until no importer and no controller holds a lease.
pub fn no_lease(vcenter: &Vcenter) {
    wait_for("the leases are given back", SHORT, || {
        let leases = vcenter.calls().map_err(|error| error.to_string())?.leases();
        if leases == 0 { Ok(()) } else { Err(format!("{leases} leases")) }
    });
}
