//! KubeVirt's own Go types know every field that ours name, by strict decoding.
#![recursion_limit = "1024"]

use std::io::Write;
use std::process::{Command, Stdio};

use forklift_kubevirt_types::{
    VirtualMachine, VirtualMachineClusterInstancetype, VirtualMachineInstance, VirtualMachinePreference,
};
use serde_json::{Value, json};

/// An instance's specification with every field that we name.
fn spec() -> Value {
    json!({
        "architecture": "amd64", "nodeSelector": {"a": "b"}, "affinity": {}, "terminationGracePeriodSeconds": 30,
        "hostname": "h", "subdomain": "s", "evictionStrategy": "None", "startStrategy": "Paused",
        "accessCredentials": [{"sshPublicKey": {"source": {"secret": {"secretName": "k"}}, "propagationMethod": {"noCloud": {}}}}],
        "tolerations": [{"key": "k"}], "schedulerName": "x", "priorityClassName": "p",
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "k", "whenUnsatisfiable": "DoNotSchedule"}],
        "livenessProbe": {"tcpSocket": {"port": 22}}, "readinessProbe": {"httpGet": {"port": 80}},
        "dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "domain": {
            "chassis": {"manufacturer": "m", "version": "v", "serial": "s", "asset": "a", "sku": "k"},
            "ioThreadsPolicy": "auto", "ioThreads": {"supplementalPoolThreadCount": 1}, "launchSecurity": {"sev": {}},
            "cpu": {"sockets": 1, "cores": 2, "threads": 1, "maxSockets": 4, "model": "host-model",
                    "features": [{"name": "vmx", "policy": "require"}], "dedicatedCpuPlacement": true,
                    "isolateEmulatorThread": true, "numa": {}, "realtime": {}},
            "memory": {"guest": "1Gi", "maxGuest": "2Gi", "hugepages": {"pageSize": "2Mi"}},
            "machine": {"type": "q35"},
            "firmware": {"bootloader": {"bios": {"useSerial": true}, "efi": {"secureBoot": true, "persistent": true}},
                         "uuid": "11111111-2222-3333-4444-555555555555", "serial": "s",
                         "kernelBoot": {"kernelArgs": "a"}, "acpi": {"slicNameRef": "v"}},
            "clock": {"timezone": "Europe/Berlin", "utc": {"offsetSeconds": 60}, "timer": {
                "hpet": {"present": false, "tickPolicy": "delay"}, "kvm": {"present": true},
                "pit": {"tickPolicy": "delay"}, "rtc": {"tickPolicy": "catchup"}, "hyperv": {"present": true}}},
            "features": {"acpi": {"enabled": true}, "smm": {}, "apic": {}, "hyperv": {"relaxed": {}},
                         "hypervPassthrough": {"enabled": true}, "kvm": {"hidden": true}, "pvspinlock": {}},
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
            "devices": {
                "disks": [
                    {"name": "a", "disk": {"bus": "virtio", "readonly": true, "pciAddress": "0000:01:00.0"}, "bootOrder": 1,
                     "serial": "s", "cache": "none", "io": "native", "tag": "t", "errorPolicy": "stop", "shareable": true,
                     "dedicatedIOThread": true, "blockSize": {"custom": {"logical": 512, "physical": 4096}, "matchVolume": {"enabled": true}}},
                    {"name": "b", "lun": {"bus": "scsi", "readonly": true, "reservation": true}},
                    {"name": "c", "cdrom": {"bus": "sata", "readonly": true, "tray": "open"}}],
                "interfaces": [
                    {"name": "a", "model": "virtio", "macAddress": "02:00:00:00:00:01", "bootOrder": 1,
                     "pciAddress": "0000:01:00.0", "masquerade": {}, "ports": [{"name": "p", "protocol": "TCP", "port": 80}],
                     "state": "up", "tag": "t", "acpiIndex": 3, "dhcpOptions": {"tftpServerName": "x"}},
                    {"name": "b", "bridge": {}}, {"name": "c", "sriov": {}}, {"name": "d", "binding": {"name": "passt"}}],
                "inputs": [{"name": "i", "type": "tablet", "bus": "usb"}], "tpm": {"enabled": true, "persistent": true},
                "rng": {}, "autoattachGraphicsDevice": true, "autoattachSerialConsole": true, "logSerialConsole": true,
                "autoattachPodInterface": true, "networkInterfaceMultiqueue": true, "disableHotplug": true,
                "blockMultiQueue": true, "autoattachMemBalloon": true, "autoattachInputDevice": true, "autoattachVSOCK": true,
                "video": {"type": "vga"}, "sound": {"name": "s", "model": "ich9"},
                "watchdog": {"name": "w", "i6300esb": {"action": "reset"}, "diag288": {"action": "reset"}},
                "useVirtioTransitional": true, "gpus": [{"name": "g", "deviceName": "d"}],
                "hostDevices": [{"name": "h", "deviceName": "d"}], "filesystems": [{"name": "f"}],
                "panicDevices": [{"model": "pvpanic"}], "clientPassthrough": {}, "downwardMetrics": {},
            },
        },
        "networks": [{"name": "a", "pod": {"vmNetworkCIDR": "10.0.2.0/24"}},
                     {"name": "b", "multus": {"networkName": "n", "default": true}}],
        "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "c", "readOnly": true, "hotpluggable": true}},
            {"name": "b", "dataVolume": {"name": "d", "hotpluggable": true}},
            {"name": "c", "containerDisk": {"image": "i", "path": "p", "imagePullPolicy": "Always", "imagePullSecret": "s"}},
            {"name": "d", "cloudInitNoCloud": {"secretRef": {"name": "s"}, "userData": "u", "userDataBase64": "dQ==",
             "networkDataSecretRef": {"name": "s"}, "networkData": "n", "networkDataBase64": "bg=="}},
            {"name": "e", "cloudInitConfigDrive": {"secretRef": {"name": "s"}}},
            {"name": "f", "sysprep": {"configMap": {"name": "m"}, "secret": {"name": "s"}}},
            {"name": "g", "emptyDisk": {"capacity": "1Gi"}},
            {"name": "h", "ephemeral": {"persistentVolumeClaim": {"claimName": "c"}}},
            {"name": "i", "hostDisk": {"path": "/p", "type": "DiskOrCreate", "capacity": "1Gi", "shared": true}},
            {"name": "j", "configMap": {"name": "m", "optional": true, "volumeLabel": "l"}},
            {"name": "k", "secret": {"secretName": "s", "optional": true, "volumeLabel": "l"}},
            {"name": "l", "downwardAPI": {"fields": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}], "volumeLabel": "l"}},
            {"name": "m", "serviceAccount": {"serviceAccountName": "a"}}],
    })
}

fn condition() -> Value {
    json!({"type": "Ready", "status": "True", "reason": "r", "message": "m",
           "lastTransitionTime": "2026-01-01T00:00:00Z", "lastProbeTime": "2026-01-01T00:00:00Z"})
}

fn objects() -> Vec<Value> {
    let reference = json!({"name": "n", "kind": "k", "controllerRevisionRef": {"name": "r"}, "inferFromVolume": "v"});
    let matcher = json!({"name": "n", "kind": "k", "revisionName": "r", "inferFromVolume": "v", "inferFromVolumeFailurePolicy": "Ignore"});
    vec![
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": {"name": "m"},
            "spec": {"running": true, "runStrategy": "Always", "instancetype": matcher, "preference": matcher,
                     "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec()},
                     "dataVolumeTemplates": [{"metadata": {"name": "d"}, "spec": {"source": {"blank": {}}}}]},
            "status": {"created": true, "ready": true, "printableStatus": "Running", "runStrategy": "Always",
                       "conditions": [condition()],
                       "startFailure": {"consecutiveFailCount": 1, "lastFailedVMIUID": "u", "retryAfterTimestamp": "2026-01-01T00:00:00Z"},
                       "stateChangeRequests": [{"action": "Start", "data": {"paused": "true"}, "uid": "u"}],
                       "instancetypeRef": reference, "preferenceRef": reference,
                       "observedGeneration": 1, "desiredGeneration": 1}}),
        json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "m"}, "spec": spec(),
            "status": {"phase": "Running", "reason": "r", "nodeName": "n", "conditions": [condition()],
                "interfaces": [{"name": "a", "ipAddress": "1.2.3.4", "ipAddresses": ["1.2.3.4"], "mac": "m", "interfaceName": "e",
                                "infoSource": "domain", "queueCount": 1, "podInterfaceName": "eth0", "linkState": "up"}],
                "guestOSInfo": {"id": "debian", "name": "n", "prettyName": "p", "version": "v", "versionId": "i",
                                "kernelRelease": "k", "kernelVersion": "k", "machine": "m"},
                "phaseTransitionTimestamps": [{"phase": "Running", "phaseTransitionTimestamp": "2026-01-01T00:00:00Z"}],
                "activePods": {"u": "n"}, "machine": {"type": "q35"}, "qosClass": "BestEffort", "runtimeUser": 107,
                "launcherContainerImageVersion": "v", "migrationMethod": "LiveMigration", "fsFreezeStatus": "frozen",
                "currentCPUTopology": {"cores": 1, "sockets": 1, "threads": 1},
                "memory": {"guestAtBoot": "1Gi", "guestCurrent": "1Gi", "guestRequested": "1Gi"},
                "volumeStatus": [{"name": "a", "target": "vda", "size": 1, "phase": "Ready", "reason": "r", "message": "m",
                    "hotplugVolume": {"attachPodName": "p", "attachPodUID": "u"},
                    "persistentVolumeClaimInfo": {"claimName": "c", "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
                        "requests": {"storage": "1Gi"}, "capacity": {"storage": "1Gi"}}}]}}),
        json!({"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachineClusterInstancetype", "metadata": {"name": "i"},
            "spec": {"cpu": {"guest": 2}, "memory": {"guest": "1Gi"}}}),
        json!({"apiVersion": "instancetype.kubevirt.io/v1beta1", "kind": "VirtualMachinePreference", "metadata": {"name": "p"},
            "spec": {"cpu": {"preferredCPUTopology": "cores"}, "features": {"preferredAcpi": {}},
                     "firmware": {"preferredUseBios": true}, "clock": {"preferredClockOffset": {"utc": {}}},
                     "machine": {"preferredMachineType": "q35"}, "requirements": {"cpu": {"guest": 1}},
                     "devices": {"preferredDiskBus": "virtio", "preferredInterfaceModel": "virtio", "preferredCdromBus": "sata",
                                 "preferredInputBus": "usb", "preferredInputType": "tablet"}}}),
    ]
}

/// The object as our types write it after reading; nothing of it may be unknown to them.
fn through_ours(object: &Value) -> Value {
    fn one<T: serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug>(object: &Value) -> (Value, String) {
        let read: T = serde_json::from_value(object.clone()).expect("ours");
        (serde_json::to_value(&read).expect("JSON"), format!("{read:?}"))
    }
    let (value, shown) = match object["kind"].as_str().expect("a kind") {
        "VirtualMachine" => one::<VirtualMachine>(object),
        "VirtualMachineInstance" => one::<VirtualMachineInstance>(object),
        "VirtualMachineClusterInstancetype" => one::<VirtualMachineClusterInstancetype>(object),
        _ => one::<VirtualMachinePreference>(object),
    };
    if let Some(at) = shown.find("other: {\"") {
        panic!("not a field of ours: {}", &shown[at..(at + 80).min(shown.len())]);
    }
    value
}

#[test]
fn kubevirts_own_types_know_our_fields() {
    let Some(program) = forklift_testkit::peers::go("kubevirt-types", "kubevirt-types") else { return };
    let objects = objects();
    let lines: String = objects.iter().map(|object| format!("{}\n", through_ours(object))).collect();
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer");
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("written");
    let said = String::from_utf8(child.wait_with_output().expect("its end").stdout).expect("text");
    assert_eq!(said, "ok\n".repeat(objects.len()));
}
