//! Objects keep what we do not know, say what they are, and can be used with a client.

use expect_test::expect;
use forklift_kubevirt_types::kubevirt::{Disk, DiskTarget, VirtualMachineSpec, run_strategy};
use forklift_kubevirt_types::{DataVolume, StorageProfile, VirtualMachine, VirtualMachineInstance, crds};
use serde_json::{Value, json};

#[test]
fn unknown_fields_survive_at_every_level() {
    let stored = json!({
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": { "name": "web", "namespace": "shop", "labels": { "app": "web" } },
        "spec": {
            "futureField": { "a": 1 },
            "runStrategy": "Always",
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": {
                    "domain": {
                        "cpu": { "cores": 2, "sockets": 1, "numa": {} },
                        "memory": { "guest": "2Gi" },
                        "firmware": { "bootloader": { "efi": { "secureBoot": false, "later": "x" } } },
                        "devices": {
                            "disks": [{ "name": "vol-0", "disk": { "bus": "virtio", "pciAddress": "0000:81:01.0" }, "bootOrder": 1 }],
                            "interfaces": [{ "name": "net-0", "model": "virtio", "masquerade": {}, "acpiIndex": 3 }],
                            "rng": {}, "gpus": [{ "name": "g" }]
                        }
                    },
                    "networks": [{ "name": "net-0", "pod": {} }],
                    "volumes": [{ "name": "vol-0", "persistentVolumeClaim": { "claimName": "disk-0" } }, { "name": "x", "sysprep": {} }]
                }
            }
        },
        "status": { "printableStatus": "Running", "ready": true, "memoryDumpRequest": {} }
    });
    let vm: VirtualMachine = serde_json::from_value(stored.clone()).expect("a VM");
    assert_eq!(serde_json::to_value(&vm).expect("serialises"), stored);
    assert!(vm.wants_to_run());
}

#[test]
fn a_new_vm_holds_only_what_was_said() {
    let mut vm = VirtualMachine::new(Some("shop"), "web", VirtualMachineSpec::default());
    vm.spec.run_strategy = Some(run_strategy::HALTED.to_owned());
    vm.spec.template.spec.domain.devices.disks.push(Disk {
        name: "vol-0".to_owned(),
        disk: Some(DiskTarget { bus: Some("virtio".to_owned()), ..Default::default() }),
        ..Default::default()
    });
    let text = serde_json::to_string_pretty(&vm).expect("serialises");
    expect![[r#"
        {
          "apiVersion": "kubevirt.io/v1",
          "kind": "VirtualMachine",
          "metadata": {
            "name": "web",
            "namespace": "shop"
          },
          "spec": {
            "runStrategy": "Halted",
            "template": {
              "spec": {
                "domain": {
                  "devices": {
                    "disks": [
                      {
                        "name": "vol-0",
                        "disk": {
                          "bus": "virtio"
                        }
                      }
                    ]
                  }
                }
              }
            }
          }
        }"#]]
    .assert_eq(&text);
    assert!(!vm.wants_to_run());
}

#[test]
fn clients_find_the_kinds() {
    fn url<K: kube::Resource<DynamicType = ()>>(namespace: Option<&str>) -> String {
        K::url_path(&(), namespace)
    }
    let urls = [
        url::<VirtualMachine>(Some("shop")),
        url::<VirtualMachineInstance>(None),
        url::<DataVolume>(Some("shop")),
        url::<StorageProfile>(None),
        url::<forklift_kubevirt_types::NetworkAttachmentDefinition>(Some("shop")),
    ];
    expect![[r#"
        /apis/kubevirt.io/v1/namespaces/shop/virtualmachines
        /apis/kubevirt.io/v1/virtualmachineinstances
        /apis/cdi.kubevirt.io/v1beta1/namespaces/shop/datavolumes
        /apis/cdi.kubevirt.io/v1beta1/storageprofiles
        /apis/k8s.cni.cncf.io/v1/namespaces/shop/network-attachment-definitions"#]]
    .assert_eq(&urls.join("\n"));
}

#[test]
fn definitions_show_what_kubevirt_shows() {
    let lines: Vec<String> = crds()
        .iter()
        .map(|crd| {
            let names = &crd.spec.names;
            let columns: Vec<&str> = crd.spec.versions[0]
                .additional_printer_columns
                .iter()
                .flatten()
                .map(|column| column.name.as_str())
                .collect();
            format!(
                "{} {} [{}] {}",
                crd.metadata.name.as_deref().unwrap_or_default(),
                crd.spec.scope,
                names.short_names.clone().unwrap_or_default().join(","),
                columns.join(" ")
            )
        })
        .collect();
    expect![[r#"
        virtualmachines.kubevirt.io Namespaced [vm,vms] Age Status Ready
        virtualmachineinstances.kubevirt.io Namespaced [vmi,vmis] Age Phase IP NodeName Ready Live-Migratable Paused
        virtualmachineinstancetypes.instancetype.kubevirt.io Namespaced [vminstancetype,vminstancetypes,vmf,vmfs] 
        virtualmachineclusterinstancetypes.instancetype.kubevirt.io Cluster [vmclusterinstancetype,vmclusterinstancetypes,vmcf,vmcfs] 
        virtualmachinepreferences.instancetype.kubevirt.io Namespaced [vmpref,vmprefs,vmp,vmps] 
        virtualmachineclusterpreferences.instancetype.kubevirt.io Cluster [vmcp,vmcps] 
        network-attachment-definitions.k8s.cni.cncf.io Namespaced [net-attach-def] "#]]
    .assert_eq(&lines.join("\n"));
    let schema = serde_json::to_value(&crds()[0].spec.versions[0].schema).expect("serialises");
    assert_eq!(schema["openAPIV3Schema"]["x-kubernetes-preserve-unknown-fields"], Value::Bool(true));
}
