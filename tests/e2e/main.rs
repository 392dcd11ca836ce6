//! The promises, each shown once, with the programs as their users run them.

mod bad_input;
mod hooks;
mod migrate;
mod ova_cancel;
mod ova_cold;
mod ova_damage;
mod ova_plans;
mod snapshot;
mod vsphere;
mod vsphere_cold;
mod vsphere_failed;
mod vsphere_hosts;
mod vsphere_inspect;
mod vsphere_vddk;
mod vsphere_warm;

use std::path::{Path, PathBuf};
use std::time::Duration;

use forklift_testkit::stack::{Stack, has_condition};
use forklift_testkit::wait_for;
use serde_json::Value;

/// Namespace of the product's objects.
const NS: &str = "konveyor-forklift";
/// Time for what takes no copying or converting.
const SHORT: Duration = Duration::from_secs(180);
/// Time for the conversion of a guest without hardware virtualization.
const CONVERSION: Duration = Duration::from_secs(30 * 60);

/// Makes an OVA provider for a folder and waits until its inventory is there.
fn provider(stack: &Stack, name: &str, folder: &Path) {
    slow_provider(stack, name, folder, u64::MAX);
}

/// The same with a limit of bytes a second, so that a test can act while a disk is copied.
fn slow_provider(stack: &Stack, name: &str, folder: &Path, limit: u64) {
    let (folder, limit) = (folder.to_str().expect("UTF-8"), limit.to_string());
    stack.mtv(&["create", "provider", name, "--type", "ova", "--url", folder, "--bandwidth-limit", &limit, "-n", NS]);
    stack.wait("providers.forklift.konveyor.io", NS, name, SHORT, |provider| {
        has_condition(provider, "Ready") && has_condition(provider, "InventoryCreated")
    });
    appliances(stack, name, |list| !list.is_empty());
}

/// Waits until no appliance is being written any more, and `holds`; returns them.
fn appliances(stack: &Stack, provider: &str, mut holds: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
    wait_for("the appliances are read", SHORT, || {
        let text = stack.mtv(&["get", "inventory", "appliance", "--provider", provider, "-n", NS, "-o", "json"]);
        let list: Vec<Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let settled = list.iter().all(|appliance| appliance["state"] != "Copying");
        if settled && holds(&list) { Ok(list) } else { Err(text) }
    })
}

/// Waits for the plan to be ready.
fn ready(stack: &Stack, plan: &str) {
    stack.wait("plan", NS, plan, SHORT, |plan| has_condition(plan, "Ready"));
}

/// Returns one virtual machine of a plan's migration.
fn vm<'a>(plan: &'a Value, name: &str) -> Option<&'a Value> {
    plan["status"]["migration"]["vms"].as_array()?.iter().find(|vm| vm["name"] == name)
}

/// Returns a step of a virtual machine's pipeline.
fn step<'a>(vm: &'a Value, name: &str) -> Option<&'a Value> {
    vm["pipeline"].as_array()?.iter().find(|step| step["name"] == name)
}

/// Returns the disks that the embedded node keeps for a namespace's claims.
fn disks(stack: &Stack) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                walk(&path, found);
            } else if path.file_name().is_some_and(|name| name == "disk.img") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&stack.data().join("node"), &mut found);
    found
}

/// Returns what a virtual machine has printed on its serial console.
fn console(stack: &Stack, namespace: &str, vm: &str) -> String {
    let selector = format!("vm.kubevirt.io/name={vm}");
    let output = stack.try_kubectl(&["logs", "-n", namespace, "-l", &selector, "-c", "guest-console-log", "--tail=-1"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
