//! OpenShift's templates: what one says of a VirtualMachine beyond what is migrated (machine type, Hyper-V features,
//! timers, eviction) is the base of the target VM, where the target has no preference for its system.
//!
//! <https://docs.okd.io/latest/openshift_images/using-templates.html> is the format; only parameters in texts are
//! there in templates of VMs.
use serde_json::{Map, Value, json};

/// What a template says of the domain that the source knows better: left out, never merged.
const OF_THE_SOURCE: [&str; 4] = ["cpu", "memory", "resources", "firmware"];
/// Devices that are the source's.
const DEVICES: [&str; 4] = ["disks", "interfaces", "inputs", "tpm"];
/// An annotation with rules of the template's own editor.
const VALIDATIONS: &str = "vm.kubevirt.io/validations";

/// Returns the VirtualMachine of a template (`template.openshift.io/v1`) for a VM of this name; `None` when it has none.
/// All parameters but the name's are of no use for a VM that has its disks: they get the value `other`, as upstream's.
pub fn virtual_machine(template: &Value, name: &str) -> Option<Value> {
    let objects = template["objects"].as_array()?;
    let mut vm = objects.iter().find(|object| object["kind"] == "VirtualMachine")?.clone();
    for parameter in template["parameters"].as_array().into_iter().flatten() {
        let Some(known) = parameter["name"].as_str() else { continue };
        let value = if known == "NAME" { name } else { "other" };
        fill(&mut vm, known, value);
    }
    let mut leave_out = |at: &str, keys: &[&str]| {
        if let Some(Value::Object(map)) = vm.pointer_mut(at) {
            map.retain(|key, _| !keys.contains(&key.as_str()));
        }
    };
    leave_out("", &["status"]);
    leave_out("/metadata/annotations", &[VALIDATIONS]);
    leave_out("/spec", &["running", "runStrategy", "dataVolumeTemplates", "instancetype", "preference"]);
    leave_out("/spec/template/spec", &["volumes", "networks", "accessCredentials"]);
    leave_out("/spec/template/spec/domain", &OF_THE_SOURCE);
    leave_out("/spec/template/spec/domain/devices", &DEVICES);
    Some(vm)
}

/// Puts a parameter's value in all texts: `${NAME}`, and `${{NAME}}` for a text that is nothing else.
fn fill(value: &mut Value, name: &str, with: &str) {
    match value {
        Value::String(text) if *text == format!("${{{{{name}}}}}") => {
            *value = serde_json::from_str(with).unwrap_or_else(|_| json!(with));
        }
        Value::String(text) => *text = text.replace(&format!("${{{name}}}"), with),
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, name, with)),
        Value::Object(map) => map.values_mut().for_each(|item| fill(item, name, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns the object with what a template says beside it; what the object says counts.
pub fn upon(base: &Value, object: &Value) -> Value {
    let mut vm = merged(base, object);
    // a clock is in one zone
    if let Some(Value::Object(clock)) = vm.pointer_mut("/spec/template/spec/domain/clock")
        && clock.contains_key("timezone")
    {
        clock.remove("utc");
    }
    vm
}

fn merged(base: &Value, object: &Value) -> Value {
    match (base, object) {
        (Value::Object(base), Value::Object(object)) => {
            let mut both: Map<String, Value> = base.clone();
            for (key, value) in object {
                // an annotation that says nothing says it where nobody else does
                let silent = value == "" && both.get(key).is_some_and(|known| known != "");
                if !silent {
                    let value = both.get(key).map_or_else(|| value.clone(), |known| merged(known, value));
                    both.insert(key.clone(), value);
                }
            }
            Value::Object(both)
        }
        (_, object) => object.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn template() -> Value {
        json!({
            "apiVersion": "template.openshift.io/v1", "kind": "Template", "metadata": {"name": "windows2k22"},
            "parameters": [{"name": "NAME"}, {"name": "DATA_SOURCE_NAME"}, {"name": "CORES"}],
            "objects": [{
                "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine",
                "metadata": {"name": "${NAME}", "labels": {"vm.kubevirt.io/template": "windows2k22", "app": "${NAME}"},
                    "annotations": {"vm.kubevirt.io/validations": "[]", "note": "from ${DATA_SOURCE_NAME}"}},
                "spec": {
                    "runStrategy": "Halted",
                    "dataVolumeTemplates": [{"metadata": {"name": "${NAME}"}}],
                    "template": {
                        "metadata": {"annotations": {"vm.kubevirt.io/os": "windows2k22"},
                            "labels": {"kubevirt.io/domain": "${NAME}"}},
                        "spec": {
                            "evictionStrategy": "LiveMigrate",
                            "domain": {
                                "clock": {"timer": {"hyperv": {"present": true}}, "utc": {}},
                                "cpu": {"cores": 1, "sockets": 1, "threads": 1},
                                "memory": {"guest": "8Gi"},
                                "features": {"acpi": {}, "hyperv": {"relaxed": {}}},
                                "devices": {"disks": [{"name": "rootdisk"}], "rng": {}, "tpm": {"persistent": true}}
                            },
                            "networks": [{"name": "default", "pod": {}}],
                            "volumes": [{"name": "rootdisk"}]
                        }
                    }
                }
            }]
        })
    }

    #[test]
    fn a_template_gives_what_the_source_does_not_know() {
        let base = virtual_machine(&template(), "web").expect("it has a VM");
        let object = json!({
            "metadata": {"name": "web", "labels": {"plan": "u"}},
            "spec": {"runStrategy": "Always", "template": {
                "metadata": {"annotations": {"vm.kubevirt.io/os": "", "vm.kubevirt.io/flavor": ""}},
                "spec": {"domain": {"cpu": {"cores": 2}, "features": {"smm": {"enabled": true}},
                    "clock": {"timezone": "UTC"}, "devices": {"disks": [{"name": "vol-0"}]}}}
            }}
        });
        let text = serde_json::to_string_pretty(&upon(&base, &object)).unwrap_or_default();
        expect![[r#"
            {
              "apiVersion": "kubevirt.io/v1",
              "kind": "VirtualMachine",
              "metadata": {
                "name": "web",
                "labels": {
                  "vm.kubevirt.io/template": "windows2k22",
                  "app": "web",
                  "plan": "u"
                },
                "annotations": {
                  "note": "from other"
                }
              },
              "spec": {
                "template": {
                  "metadata": {
                    "annotations": {
                      "vm.kubevirt.io/os": "windows2k22",
                      "vm.kubevirt.io/flavor": ""
                    },
                    "labels": {
                      "kubevirt.io/domain": "web"
                    }
                  },
                  "spec": {
                    "evictionStrategy": "LiveMigrate",
                    "domain": {
                      "clock": {
                        "timer": {
                          "hyperv": {
                            "present": true
                          }
                        },
                        "timezone": "UTC"
                      },
                      "features": {
                        "acpi": {},
                        "hyperv": {
                          "relaxed": {}
                        },
                        "smm": {
                          "enabled": true
                        }
                      },
                      "devices": {
                        "rng": {},
                        "disks": [
                          {
                            "name": "vol-0"
                          }
                        ]
                      },
                      "cpu": {
                        "cores": 2
                      }
                    }
                  }
                },
                "runStrategy": "Always"
              }
            }"#]]
        .assert_eq(&text);
    }

    #[test]
    fn parameters_of_other_types_and_templates_of_other_things() {
        let mut value = json!({"a": "${{CORES}}", "b": ["x-${CORES}-${OTHER}"], "c": 1});
        fill(&mut value, "CORES", "4");
        assert_eq!(value, json!({"a": 4, "b": ["x-4-${OTHER}"], "c": 1}));
        assert_eq!(virtual_machine(&json!({"objects": [{"kind": "Pod"}]}), "web"), None);
        assert_eq!(virtual_machine(&json!({}), "web"), None);
    }
}
