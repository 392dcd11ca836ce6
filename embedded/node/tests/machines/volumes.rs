//! Disks that are made for the guest, and images behind names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::{Value, json};

use crate::common::Stack;
use crate::guests::{Then, boot_sector, there};
use crate::{condition, console, launcher, printable, stack_with};

/// The files of an ISO image by their path, and its label.
fn files(image: &Path) -> (String, BTreeMap<String, String>) {
    let bytes = std::fs::read(image).expect("an image");
    let label = String::from_utf8_lossy(&bytes[0x8028..0x8048]).trim_end().to_owned();
    let dir = tempfile::tempdir().expect("a directory");
    let output = Command::new("xorriso")
        .args(["-osirrox", "on", "-indev"])
        .arg(image)
        .args(["-extract", "/"])
        .arg(dir.path().join("all"))
        .output()
        .expect("xorriso");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::new();
    let mut left: Vec<PathBuf> = vec![dir.path().join("all")];
    while let Some(place) = left.pop() {
        for entry in std::fs::read_dir(place).expect("a directory").flatten() {
            if entry.path().is_dir() {
                left.push(entry.path());
            } else {
                let name = entry.path().strip_prefix(dir.path().join("all")).expect("inside").display().to_string();
                found.insert(name, std::fs::read_to_string(entry.path()).expect("text"));
            }
        }
    }
    // what was extracted can only be read
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(dir.path()).status();
    (label, found)
}

async fn private(stack: &Stack, machine: &str) -> PathBuf {
    let pod = launcher(stack, machine).await;
    let pod = stack.api::<Pod>().get(&pod).await.expect("a pod");
    stack.data().join("pods").join(pod.metadata.uid.expect("a uid")).join("volumes/private")
}

fn vm(name: &str, disks: Value, volumes: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"runStrategy": "Always", "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "domain": {"memory": {"guest": "64Mi"}, "devices": {"disks": disks}}, "volumes": volumes}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_finds_what_was_put_on_its_disks() {
    if !["xorriso", "qemu-img"].iter().all(|what| there(what)) {
        return;
    }
    let images = tempfile::tempdir().expect("a directory");
    let raw = images.path().join("demo.raw");
    let mut sector = boot_sector("FROM-THE-IMAGE", Then::Halt);
    sector.resize(1 << 20, 0);
    std::fs::write(&raw, &sector).expect("written");
    let demo = images.path().join("demo.qcow2");
    let made =
        Command::new("qemu-img").args(["convert", "-O", "qcow2"]).args([&raw, &demo]).status().expect("qemu-img");
    assert!(made.success());
    let stack =
        stack_with(|config| config.images = config.images.clone().with_disk("quay.io/disks/demo:*", &demo)).await;
    let host = images.path().join("made/on the host.img");
    stack
        .create::<Secret>(json!({"metadata": {"name": "user"}, "stringData": {"userdata": "#cloud-config\n{}\n"}}))
        .await;
    stack
        .create::<ConfigMap>(
            json!({"metadata": {"name": "settings"}, "data": {"mode": "fast", "autounattend.xml": "<x/>"}}),
        )
        .await;
    let names = ["root", "plain", "drive", "map", "secret", "down", "account", "answers", "empty", "host"];
    let disks: Vec<Value> = names.iter().map(|name| json!({"name": name, "disk": {"bus": "virtio"}})).collect();
    let volumes = json!([
        {"name": "root", "containerDisk": {"image": "quay.io/disks/demo:latest"}},
        {"name": "plain", "cloudInitNoCloud": {"userData": "#!/bin/sh\necho hi\n", "networkData": "version: 2\n"}},
        {"name": "drive", "cloudInitConfigDrive": {"secretRef": {"name": "user"}}},
        {"name": "map", "configMap": {"name": "settings", "volumeLabel": "SETTINGS"}},
        {"name": "secret", "secret": {"secretName": "user"}},
        {"name": "down", "downwardAPI": {"fields": [{"path": "app", "fieldRef": {"fieldPath": "metadata.labels['app']"}}]}},
        {"name": "account", "serviceAccount": {"serviceAccountName": "default"}},
        {"name": "answers", "sysprep": {"configMap": {"name": "settings"}}},
        {"name": "empty", "emptyDisk": {"capacity": "3Mi"}},
        {"name": "host", "hostDisk": {"path": host, "type": "DiskOrCreate", "capacity": "2Mi"}},
    ]);
    stack.create::<VirtualMachine>(vm("shop", json!(disks), volumes)).await;
    stack.until("shop", |vm: &VirtualMachine| printable(vm) == "Running").await;
    console(&stack, "shop", "FROM-THE-IMAGE").await;
    let dir = private(&stack, "shop").await;
    let (label, plain) = files(&dir.join("plain.iso"));
    assert_eq!(
        (label.as_str(), plain["user-data"].as_str(), plain["network-data"].as_str()),
        ("cidata", "#!/bin/sh\necho hi\n", "version: 2\n")
    );
    let meta: Value = serde_json::from_str(&plain["meta-data"]).expect("JSON");
    assert_eq!(meta["local-hostname"], "shop");
    let (label, drive) = files(&dir.join("drive.iso"));
    assert_eq!((label.as_str(), drive["openstack/latest/user_data"].as_str()), ("config-2", "#cloud-config\n{}\n"));
    assert!(drive.contains_key("openstack/latest/meta_data.json"), "{drive:?}");
    let (label, map) = files(&dir.join("map.iso"));
    assert_eq!((label.as_str(), map["mode"].as_str()), ("SETTINGS", "fast"));
    let (label, secret) = files(&dir.join("secret.iso"));
    assert_eq!((label.as_str(), secret.len()), ("cfgdata", 1));
    assert_eq!(files(&dir.join("down.iso")).1["app"], "shop");
    let account = files(&dir.join("account.iso")).1;
    assert_eq!(account["namespace"], "default");
    assert!(account["token"].split('.').count() == 3 && account["ca.crt"].contains("BEGIN CERTIFICATE"));
    assert_eq!(files(&dir.join("answers.iso")).0, "unattendCD");
    assert_eq!(std::fs::metadata(dir.join("empty-empty.img")).expect("a file").len(), 3 << 20);
    assert_eq!(std::fs::metadata(&host).expect("a file").len(), 2 << 20);
    // no user data where everybody reads it
    let pod = stack.api::<Pod>().get(&launcher(&stack, "shop").await).await.expect("a pod");
    assert!(!serde_json::to_string(&pod).expect("JSON").contains("echo hi"));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named() {
    let stack = stack_with(|_| {}).await;
    let disk = |name: &str| json!([{"name": name, "disk": {"bus": "virtio"}}]);
    let far = json!([{"name": "far", "containerDisk": {"image": "quay.io/far/away:1"}}]);
    stack.create::<VirtualMachine>(vm("far", disk("far"), far)).await;
    stack.until("far", |vm: &VirtualMachine| printable(vm) == "ErrImagePull").await;
    let vmi = stack.api::<VirtualMachineInstance>().get("far").await.expect("an instance");
    let (status, reason, message) = condition(&vmi, "Synchronized").expect("a condition");
    assert_eq!((status.as_str(), reason.as_str()), ("False", "ErrImagePull"));
    assert!(message.contains("quay.io/far/away:1") && message.contains("image table"), "{message}");

    let secret = json!([{"name": "init", "cloudInitNoCloud": {"secretRef": {"name": "user"}}}]);
    stack.create::<VirtualMachine>(vm("late", disk("init"), secret)).await;
    stack
        .until("late", |vmi: &VirtualMachineInstance| {
            condition(vmi, "Synchronized").is_some_and(|(_, reason, _)| reason == "FailedMount")
        })
        .await;
    // it comes up when the secret does
    stack.create::<Secret>(json!({"metadata": {"name": "user"}, "stringData": {"userdata": "#!/bin/sh\n"}})).await;
    if there("xorriso") {
        stack.until("late", |vm: &VirtualMachine| printable(vm) == "Running").await;
    }

    // what is left out is said by name
    let mut odd = vm("odd", json!([]), json!([]));
    let domain = &mut odd["spec"]["template"]["spec"]["domain"];
    domain["devices"]["sound"] = json!({"name": "s"});
    domain["cpu"] = json!({"cores": 1, "dedicatedCpuPlacement": true});
    domain["memory"]["hugepages"] = json!({"pageSize": "2Mi"});
    stack.create::<VirtualMachine>(odd).await;
    let vmi =
        stack.until("odd", |vmi: &VirtualMachineInstance| condition(vmi, "node.embedded/NotOffered").is_some()).await;
    let (_, _, message) = condition(&vmi, "node.embedded/NotOffered").expect("a condition");
    for name in ["devices.sound", "cpu.dedicatedCpuPlacement", "memory.hugepages"] {
        assert!(message.contains(name), "{name} in {message}");
    }
    stack
        .until_event("NotOffered: devices.sound is not offered by the embedded node: the guest has no sound card")
        .await;
    stack.stop().await;
}
