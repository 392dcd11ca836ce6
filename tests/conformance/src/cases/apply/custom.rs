//! Custom resources: list types and keys, atomic and granular maps, defaults, the status path.

use anyhow::Result;
use serde_json::{Value, json};

use super::{owned_by, owns};
use crate::case::{Case, Test, case};

/// Makes a definition with all list and map types and returns the path of its object `a` and the API version.
async fn kind(c: &Case) -> Result<(String, String)> {
    let group = format!("{}.ex.io", c.name("apply"));
    let item = json!({"type": "object", "required": ["host"], "properties": {
        "host": {"type": "string"}, "port": {"type": "integer", "default": 80}, "note": {"type": "string"}}});
    let text = json!({"type": "string"});
    let spec = json!({"type": "object", "properties": {
        "pairs": {"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["host", "port"]},
        "tags": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "steps": {"type": "array", "items": text},
        "fixed": {"type": "object", "additionalProperties": text, "x-kubernetes-map-type": "atomic"},
        "loose": {"type": "object", "additionalProperties": text},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "size": {"type": "integer", "default": 3},
        "either": {"x-kubernetes-int-or-string": true},
    }});
    let status = json!({"type": "object", "properties": {"phase": text, "conditions": {"type": "array",
        "items": {"type": "object", "required": ["type"], "properties": {"type": text, "status": text}},
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}}}]},
    });
    c.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await?;
    let version = format!("{group}/v1");
    c.until(&c.group(&version, "things"), "the definition is served", |a| a.status == 200).await?;
    Ok((c.group(&version, "things/a"), version))
}

fn thing(version: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": "Thing", "metadata": {"name": "a"}, "spec": spec})
}

/// The cases.
pub fn cases() -> Vec<Test> {
    vec![
        case("a custom list merges by two keys, one of them with a default", |c| async move {
            let (path, v) = kind(&c).await?;
            let a =
                c.apply(&path, "m", &thing(&v, json!({"pairs": [{"host": "x"}, {"host": "x", "port": 443}]}))).await?;
            let wanted = json!({"f:spec": {"f:pairs": {
                "k:{\"host\":\"x\",\"port\":443}": {".": {}, "f:host": {}, "f:port": {}},
                "k:{\"host\":\"x\",\"port\":80}": {".": {}, "f:host": {}}}}});
            owns(a.status(201)?, "m Apply", &wanted)?;
            a.is("/spec/pairs/0/port", 80)?.is("/spec/size", 3)?;
            let a = c.apply(&path, "n", &thing(&v, json!({"pairs": [{"host": "x", "port": 80, "note": "n"}]}))).await?;
            a.status(200)?.is("/spec/pairs/0/note", "n")?.is("/spec/pairs/1/port", 443)?.lacks("/spec/pairs/2")?;
            Ok(())
        }),
        case("an element that two managers have goes with the last of them", |c| async move {
            let (path, v) = kind(&c).await?;
            c.apply(&path, "m", &thing(&v, json!({"pairs": [{"host": "x", "note": "m"}]}))).await?.status(201)?;
            c.apply(&path, "n", &thing(&v, json!({"pairs": [{"host": "x"}]}))).await?.status(200)?;
            let a = c.apply(&path, "m", &thing(&v, json!({"pairs": []}))).await?;
            a.status(200)?.is("/spec/pairs", json!([{"host": "x", "port": 80}]))?;
            let a = c.apply(&path, "n", &thing(&v, json!({"pairs": []}))).await?;
            a.status(200)?.holds(a.at("/spec/pairs").as_array().is_none_or(Vec::is_empty), "no pairs are left")?;
            Ok(())
        }),
        case("a custom set merges by value", |c| async move {
            let (path, v) = kind(&c).await?;
            c.apply(&path, "m", &thing(&v, json!({"tags": ["a", "b"]}))).await?.status(201)?;
            let a = c.apply(&path, "n", &thing(&v, json!({"tags": ["b", "c"]}))).await?;
            a.status(200)?.is("/spec/tags", json!(["a", "b", "c"]))?;
            owns(&a, "n Apply", &json!({"f:spec": {"f:tags": {"v:\"b\"": {}, "v:\"c\"": {}}}}))?;
            let a = c.apply(&path, "m", &thing(&v, json!({"tags": []}))).await?;
            a.status(200)?.is("/spec/tags", json!(["b", "c"]))?;
            Ok(())
        }),
        case("a set with one value twice is refused", |c| async move {
            let (path, v) = kind(&c).await?;
            let a = c.apply(&path, "m", &thing(&v, json!({"tags": ["a", "a"]}))).await?;
            a.status(500)?.contains("/message", ".spec.tags: duplicate entries for key [=\"a\"]")?;
            Ok(())
        }),
        case("a list without a type is one value", |c| async move {
            let (path, v) = kind(&c).await?;
            c.apply(&path, "m", &thing(&v, json!({"steps": ["a", "b"]}))).await?.status(201)?;
            let a = c.apply(&path, "n", &thing(&v, json!({"steps": ["b"]}))).await?;
            a.failed(409, "Conflict")?.says("Apply failed with 1 conflict: conflict with \"m\": .spec.steps")?;
            Ok(())
        }),
        case("an atomic map is one value, another map is not", |c| async move {
            let (path, v) = kind(&c).await?;
            c.apply(&path, "m", &thing(&v, json!({"fixed": {"a": "1"}, "loose": {"a": "1"}}))).await?.status(201)?;
            let a = c.apply(&path, "n", &thing(&v, json!({"loose": {"b": "1"}}))).await?;
            a.status(200)?.is("/spec/loose", json!({"a": "1", "b": "1"}))?;
            let a = c.apply(&path, "n", &thing(&v, json!({"fixed": {"b": "1"}}))).await?;
            a.failed(409, "Conflict")?.says("Apply failed with 1 conflict: conflict with \"m\": .spec.fixed")?;
            Ok(())
        }),
        case("of fields without a schema maps are taken apart and lists are not", |c| async move {
            let (path, v) = kind(&c).await?;
            let a = c
                .apply(&path, "m", &thing(&v, json!({"any": {"x": {"y": 1}, "l": [{"z": 1}]}, "either": "50%"})))
                .await?;
            let wanted = json!({"f:spec": {"f:any": {"f:l": {}, "f:x": {".": {}, "f:y": {}}}, "f:either": {}}});
            owns(a.status(201)?, "m Apply", &wanted)?;
            let a = c.apply(&path, "n", &thing(&v, json!({"any": {"x": {"w": 1}}}))).await?;
            a.status(200)?.is("/spec/any/x", json!({"y": 1, "w": 1}))?;
            Ok(())
        }),
        case("an unknown field of a custom resource is refused", |c| async move {
            let (path, v) = kind(&c).await?;
            let a = c.apply(&path, "m", &thing(&v, json!({"oops": 1}))).await?;
            a.status(500)?.contains("/message", ".spec.oops: field not declared in schema")?;
            Ok(())
        }),
        case("a custom default is nobody's by apply and the creator's by create", |c| async move {
            let (path, v) = kind(&c).await?;
            let a = c.apply(&path, "m", &thing(&v, json!({"steps": ["a"]}))).await?;
            owns(a.status(201)?.is("/spec/size", 3)?, "m Apply", &json!({"f:spec": {"f:steps": {}}}))?;
            let mut other = thing(&v, json!({"steps": ["a"]}));
            other["metadata"]["name"] = "b".into();
            let things = path.trim_end_matches("/a");
            let a = c.post(&format!("{things}?fieldManager=u"), &other).await?;
            owns(a.status(201)?, "u Update", &json!({"f:spec": {".": {}, "f:size": {}, "f:steps": {}}}))?;
            Ok(())
        }),
        case("a custom status is applied under its path alone", |c| async move {
            let (path, v) = kind(&c).await?;
            let mut body = thing(&v, json!({"steps": ["a"]}));
            body["status"] = json!({"phase": "x"});
            c.apply(&path, "m", &body).await?.status(201)?.lacks("/status")?;
            body["spec"]["steps"] = json!(["b"]);
            let a = c.apply(&format!("{path}/status"), "s", &body).await?;
            a.status(200)?.is("/status/phase", "x")?.is("/spec/steps", json!(["a"]))?;
            owned_by(&a, &["m Apply", "s Apply status"])?;
            owns(&a, "s Apply status", &json!({"f:status": {"f:phase": {}}}))?;
            Ok(())
        }),
        case("the generation counts applies that change the specification", |c| async move {
            let (path, v) = kind(&c).await?;
            c.apply(&path, "m", &thing(&v, json!({"steps": ["a"]})))
                .await?
                .status(201)?
                .is("/metadata/generation", 1)?;
            c.apply(&path, "m", &thing(&v, json!({"steps": ["b"]})))
                .await?
                .status(200)?
                .is("/metadata/generation", 2)?;
            c.apply(&path, "m", &thing(&v, json!({"steps": ["b"]})))
                .await?
                .status(200)?
                .is("/metadata/generation", 2)?;
            let mut labelled = thing(&v, json!({"steps": ["b"]}));
            labelled["metadata"]["labels"] = json!({"x": "1"});
            c.apply(&path, "m", &labelled).await?.status(200)?.is("/metadata/generation", 2)?;
            Ok(())
        }),
    ]
}
