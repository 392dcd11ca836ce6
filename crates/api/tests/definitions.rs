//! The definitions of our kinds, where they matter to people and to the API server.

use expect_test::expect;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

fn definition(plural: &str) -> CustomResourceDefinition {
    forklift_api::crds().into_iter().find(|crd| crd.spec.names.plural == plural).expect("a kind of ours")
}

fn field(plural: &str, path: &[&str]) -> Value {
    let schema = serde_json::to_value(&definition(plural).spec.versions[0].schema).expect("serialises");
    let mut here = &schema["openAPIV3Schema"];
    for name in path {
        here = if *name == "[]" { &here["items"] } else { &here["properties"][name] };
    }
    let mut field = here.clone();
    if let Some(field) = field.as_object_mut() {
        field.remove("description");
        field.remove("properties");
    }
    field
}

#[test]
fn kinds_have_their_columns_short_names_and_subresources() {
    let lines: Vec<String> = forklift_api::crds()
        .iter()
        .map(|crd| {
            let version = &crd.spec.versions[0];
            let columns: Vec<&str> =
                version.additional_printer_columns.iter().flatten().map(|column| column.name.as_str()).collect();
            format!(
                "{} [{}] {} {}",
                crd.spec.names.kind,
                crd.spec.names.short_names.clone().unwrap_or_default().join(","),
                if version.subresources.is_some() { "status" } else { "-" },
                columns.join(" ")
            )
            .trim_end()
            .to_owned()
        })
        .collect();
    expect![[r#"
        Conversion [] status TYPE PHASE STAGE READY AGE
        ForkliftController [] status
        Hook [] status Ready Image Age
        Host [] status READY CONNECTED AGE
        HyperVProviderServer [] status PHASE SERVICE
        Migration [] status READY RUNNING SUCCEEDED FAILED AGE
        NetworkMap [] status READY AGE
        OpenstackVolumePopulator [osvp,osvps] -
        OVAProviderServer [] status
        OvirtVolumePopulator [ovvp,ovvps] -
        Plan [] status READY EXECUTING SUCCEEDED FAILED AGE
        Provider [] status TYPE STATUS READY CONNECTED INVENTORY URL AGE
        StorageMap [] status READY AGE
        VSphereXcopyVolumePopulator [vxvp,vxvps] -"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn fields_are_validated_as_upstream_does() {
    assert_eq!(field("plans", &["spec"])["required"], json!(["map", "provider", "targetNamespace", "vms"]));
    assert_eq!(field("plans", &[])["required"], json!(["spec"]));
    assert_eq!(field("hooks", &[]), json!({ "type": "object" }));
    assert_eq!(field("hooks", &["spec"]), json!({ "type": "object", "default": {} }));
    assert_eq!(field("plans", &["spec", "preserveStaticIPs"]), json!({ "type": "boolean", "default": true }));
    assert_eq!(
        field("plans", &["spec", "type"]),
        json!({ "type": "string", "enum": ["cold", "warm", "live", "conversion"] })
    );
    assert_eq!(
        field("plans", &["spec", "serviceAccount"]),
        json!({ "type": "string", "maxLength": 253, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$" })
    );
    assert_eq!(
        field("plans", &["spec", "transferNetwork"]),
        json!({ "type": "object", "x-kubernetes-map-type": "atomic" })
    );
    assert_eq!(field("migrations", &["spec", "vmCutover", "[]", "id"]), json!({ "type": "string", "minLength": 1 }));
    assert_eq!(
        field("forkliftcontrollers", &["spec", "controller_max_vm_inflight"]),
        json!({ "type": "integer", "format": "int32", "minimum": 1.0, "default": 20 })
    );
    assert_eq!(
        field("forkliftcontrollers", &["status"]),
        json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    );
    assert_eq!(
        field("ovaproviderservers", &["spec", "provider"])["x-kubernetes-validations"],
        json!([{
            "message": "spec.provider is immutable",
            "rule": "oldSelf == null || oldSelf.name == '' || self == oldSelf"
        }])
    );
}

#[test]
fn nothing_may_be_null_and_everything_is_structural() {
    fn walk(schema: &Value, path: &str) {
        assert_ne!(schema["nullable"], json!(true), "{path} may be null");
        let int_or_string = schema["x-kubernetes-int-or-string"] == json!(true);
        assert!(schema["type"].is_string() || int_or_string, "{path} has no type");
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            walk(field, &format!("{path}.{name}"));
        }
        for part in ["items", "additionalProperties"] {
            if schema[part].is_object() {
                walk(&schema[part], &format!("{path}[]"));
            }
        }
    }
    for crd in forklift_api::crds() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("serialises");
        walk(&schema["openAPIV3Schema"], &crd.spec.names.kind);
    }
}
