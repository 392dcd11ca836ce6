use std::sync::Arc;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{apply as apply_sent, *};
use crate::registry::Registry;

fn context(plural: &str, manager: &str) -> Context {
    let registry = Registry::default();
    let resource = registry.find(if plural == "deployments" { "apps" } else { "" }, "v1", plural).unwrap();
    let mut context = Context::internal(resource, "default", "x");
    context.manager = manager.into();
    context
}

fn apply(context: &Context, live: Option<&Value>, config: &Value, force: bool) -> ApiResult<Value> {
    apply_sent(context, live, config, config, force)
}

fn owners(value: &Value) -> String {
    let mut text = String::new();
    for owner in Managers::decode(value).unwrap().owners.list {
        let paths: Vec<String> = owner.fields.paths().iter().map(|path| set::show(path)).collect();
        let operation = if owner.applied { "Apply" } else { "Update" };
        text += &format!("{operation} {}: {}\n", owner.name.manager, paths.join(" "));
    }
    text
}

fn shown(mut value: Value, expected: &Expect) {
    let owners = owners(&value);
    meta::metadata_mut(&mut value).shift_remove("managedFields");
    expected.assert_eq(&format!("{value}\n{owners}"));
}

fn cm(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": data})
}

#[test]
fn applying_merges_and_takes_back() {
    let (a, b) = (context("configmaps", "a"), context("configmaps", "b"));
    let live = apply(&a, None, &cm(json!({"k": "1", "gone": "1"})), false).unwrap();
    let live = apply(&b, Some(&live), &cm(json!({"l": "2"})), false).unwrap();
    shown(
        live.clone(),
        &expect![[r#"
        {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"k":"1","gone":"1","l":"2"}}
        Apply a: .data.gone .data.k
        Apply b: .data.l
    "#]],
    );
    let live = apply(&a, Some(&live), &cm(json!({"k": "1"})), false).unwrap();
    shown(
        live,
        &expect![[r#"
        {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"k":"1","l":"2"}}
        Apply a: .data.k
        Apply b: .data.l
    "#]],
    );
}

#[test]
fn conflicts_are_told_and_can_be_forced() {
    let (a, b) = (context("configmaps", "a"), context("configmaps", "b"));
    let live = apply(&a, None, &cm(json!({"k": "1", "l": "1"})), false).unwrap();
    let error = apply(&b, Some(&live), &cm(json!({"k": "2"})), false).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (409, "Apply failed with 1 conflict: conflict with \"a\": .data.k")
    );
    let error = apply(&b, Some(&live), &cm(json!({"k": "2", "l": "2"})), false).unwrap_err();
    assert_eq!(error.message, "Apply failed with 2 conflicts: conflicts with \"a\":\n- .data.k\n- .data.l");
    // the same value is shared, not fought over
    let shared = apply(&b, Some(&live), &cm(json!({"k": "1"})), false).unwrap();
    let forced = apply(&b, Some(&shared), &cm(json!({"k": "2"})), true).unwrap();
    assert_eq!(forced["data"]["k"], "2");
    assert_eq!(owners(&forced), "Apply a: .data.l\nApply b: .data.k\n");
}

#[test]
fn updates_take_ownership() {
    let (a, b) = (context("configmaps", "a"), context("configmaps", "kubectl"));
    let live = apply(&a, None, &cm(json!({"k": "1"})), false).unwrap();
    let mut new = live.clone();
    new["data"] = json!({"k": "2", "m": "1"});
    track_update(&b, &live, &mut new);
    assert_eq!(owners(&new), "Update kubectl: .data.k .data.m\n");
    let error = apply(&a, Some(&new), &cm(json!({"k": "1"})), false).unwrap_err();
    assert!(
        error.message.starts_with("Apply failed with 1 conflict: conflict with \"kubectl\" using v1: .data.k"),
        "{}",
        error.message
    );
    let mut less = new.clone();
    less["data"] = json!({"k": "2"});
    track_update(&context("configmaps", "c"), &new, &mut less);
    assert_eq!(owners(&less), "Update kubectl: .data.k\n");
}

#[test]
fn lists_merge_by_their_keys() {
    let (a, b) = (context("deployments", "a"), context("deployments", "b"));
    let deployment = |containers: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": containers}}}});
    let live =
        apply(&a, None, &deployment(json!([{"name": "one", "image": "1", "ports": [{"containerPort": 80}]}])), false)
            .unwrap();
    let live = apply(&b, Some(&live), &deployment(json!([{"name": "two", "image": "2"}])), false).unwrap();
    assert_eq!(live.pointer("/spec/template/spec/containers").unwrap().as_array().unwrap().len(), 2);
    expect![[r#"
        Apply a: .spec.template.spec.containers[name="one"] .spec.template.spec.containers[name="one"].image .spec.template.spec.containers[name="one"].name .spec.template.spec.containers[name="one"].ports[containerPort=80,protocol="TCP"] .spec.template.spec.containers[name="one"].ports[containerPort=80,protocol="TCP"].containerPort
        Apply b: .spec.template.spec.containers[name="two"] .spec.template.spec.containers[name="two"].image .spec.template.spec.containers[name="two"].name
    "#]].assert_eq(&owners(&live));
    let live = apply(&a, Some(&live), &deployment(json!([])), false).unwrap();
    let names: Vec<&str> = live
        .pointer("/spec/template/spec/containers")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|c| meta::text(c, "/name"))
        .collect();
    assert_eq!(names, ["two"]);
}

#[test]
fn fields_survive_the_wire() {
    let fields = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {".": {}, "v:\"x\"": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}});
    assert_eq!(FieldSet::decode(&fields).unwrap().encode(), fields);
    assert!(Arc::ptr_eq(&crate::schema::Schema::any(), &crate::schema::Schema::any()));
}
