use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

fn crd() -> Arc<Schema> {
    Schema::root(&json!({
        "type": "object", "required": ["spec"],
        "properties": {"spec": {
            "type": "object", "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1},
                "mode": {"type": "string", "enum": ["cold", "warm"], "default": "cold"},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "name": {"type": "string", "pattern": "^[a-z]+$"},
                "disks": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                          "items": {"type": "object", "properties": {"id": {"type": "string"}, "fast": {"type": "boolean", "default": true}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }},
    }))
    .unwrap()
}

fn check(value: Value, expected: Expect) {
    let mut value = value;
    let schema = crd();
    let unknown = prune(&mut value, &schema);
    apply_defaults(&mut value, &schema);
    let mut text = format!("{value}\n");
    for path in unknown {
        text += &format!("pruned {path}\n");
    }
    for cause in validate(&value, &schema, "") {
        text += &format!("{}: {}\n", cause.field, cause.message);
    }
    expected.assert_eq(&text);
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    check(
        json!({"spec": {"size": 2, "oops": 1, "free": {"a": {"b": 1}}, "disks": [{"id": "a", "x": 0}], "labels": {"k": "v"}}}),
        expect![[r#"
            {"spec":{"size":2,"free":{"a":{"b":1}},"disks":[{"id":"a","fast":true}],"labels":{"k":"v"},"mode":"cold"}}
            pruned spec.oops
            pruned spec.disks[0].x
        "#]],
    );
}

#[test]
fn wrong_values_are_named_as_kubernetes_does() {
    check(
        json!({"spec": {"size": 0, "mode": "hot", "port": true, "name": "A1", "disks": [{"id": "a"}, {"id": "a"}], "labels": {"k": 1}}}),
        expect![[r#"
            {"spec":{"size":0,"mode":"hot","port":true,"name":"A1","disks":[{"id":"a","fast":true},{"id":"a","fast":true}],"labels":{"k":1}}}
            spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1
            spec.mode: Unsupported value: "hot": supported values: "cold", "warm"
            spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean"
            spec.name: Invalid value: "A1": spec.name in body should match '^[a-z]+$'
            spec.disks[1]: Duplicate value: map[string]interface {}{"id":"a"}
            spec.labels.k: Invalid value: "integer": spec.labels.k in body must be of type string: "integer"
        "#]],
    );
    check(
        json!({"metadata": {"name": "x"}}),
        expect![[r#"
            {"metadata":{"name":"x"}}
            spec: Required value
        "#]],
    );
}

#[test]
fn builtin_kinds_have_their_shape() {
    let pod = builtin::of::<k8s_openapi::api::core::v1::Pod>("Pod");
    let mut value = json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "b", "nope": 1, "resources": {"limits": {"cpu": 1}}}]}});
    assert_eq!(prune(&mut value, &pod), ["spec.containers[0].nope"]);
    assert_eq!(validate(&value, &pod, ""), []);
    let containers = pod.field("spec").unwrap().field("containers").unwrap();
    assert_eq!(containers.list, ListKind::Map(vec!["name".into()]));
    let ports = containers.items.as_ref().unwrap().field("ports").unwrap();
    assert_eq!(ports.list, ListKind::Map(vec!["containerPort".into(), "protocol".into()]));
    assert_eq!(ports.strategy.as_ref().unwrap().key.as_deref(), Some("containerPort"));
}
