//! Patches: JSON, merge and strategic merge with its directives, and what is no patch.

use serde_json::{Value, json};

use crate::Answer;
use crate::case::{Case, Chapter, case, deployment};

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = json_patches();
    cases.extend(merge_patches());
    cases.extend(strategic_patches());
    cases.extend(directives());
    cases.extend(refusals());
    Chapter { name: "patches", cases }
}

/// Makes a config map with the data and patches it.
async fn patched(c: &Case, data: Value, kind: &str, patch: &Value) -> anyhow::Result<Answer> {
    c.config_map("a", data).await?;
    c.patch(&c.core("configmaps/a"), kind, patch).await
}

const JSON: &str = "json-patch+json";
const MERGE: &str = "merge-patch+json";
const STRATEGIC: &str = "strategic-merge-patch+json";

fn json_patches() -> Vec<crate::Test> {
    vec![
        case("JSON patch: add, replace, remove, move, copy and test", |c| async move {
            let patch = json!([
                {"op": "test", "path": "/data/a", "value": "1"},
                {"op": "add", "path": "/data/b", "value": "2"},
                {"op": "copy", "from": "/data/a", "path": "/data/c"},
                {"op": "move", "from": "/data/b", "path": "/data/d"},
                {"op": "replace", "path": "/data/a", "value": "3"},
                {"op": "remove", "path": "/data/e"},
            ]);
            let a = patched(&c, json!({"a": "1", "e": "5"}), JSON, &patch).await?;
            a.status(200)?.is("/data", json!({"a": "3", "c": "1", "d": "2"}))?;
            Ok(())
        }),
        case("JSON patch: array elements by index and at the end", |c| async move {
            let path = c.core("configmaps/a");
            c.config_map("a", json!({})).await?;
            let patch = json!([{"op": "add", "path": "/metadata/finalizers", "value": ["x.io/a", "x.io/c"]}]);
            c.patch(&path, JSON, &patch).await?.status(200)?;
            let patch = json!([
                {"op": "add", "path": "/metadata/finalizers/1", "value": "x.io/b"},
                {"op": "add", "path": "/metadata/finalizers/-", "value": "x.io/d"},
                {"op": "remove", "path": "/metadata/finalizers/0"},
            ]);
            let a = c.patch(&path, JSON, &patch).await?;
            a.status(200)?.is("/metadata/finalizers", json!(["x.io/b", "x.io/c", "x.io/d"]))?;
            c.merge(&path, &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case("JSON patch: escaped keys", |c| async move {
            c.config_map("a", json!({})).await?;
            let patch = json!([{"op": "add", "path": "/metadata/annotations", "value": {}}, {"op": "add", "path": "/metadata/annotations/x.io~1a", "value": "1"}]);
            let a = c.patch(&c.core("configmaps/a"), JSON, &patch).await?;
            a.status(200)?.is("/metadata/annotations", json!({"x.io/a": "1"}))?;
            Ok(())
        }),
        case("JSON patch: a failed test answers 422 and changes nothing", |c| async move {
            let patch = json!([{"op": "replace", "path": "/data/a", "value": "2"}, {"op": "test", "path": "/data/a", "value": "9"}]);
            let a = patched(&c, json!({"a": "1"}), JSON, &patch).await?;
            a.failed(422, "Invalid")?
                .contains("/message", "the server rejected our request due to an error in our request")?;
            a.is("/details", json!({}))?;
            c.get(&c.core("configmaps/a")).await?.is("/data/a", "1")?;
            Ok(())
        }),
        case("JSON patch: a path that is not there answers 422", |c| async move {
            for patch in [
                json!([{"op": "remove", "path": "/data/none"}]),
                json!([{"op": "replace", "path": "/none/below", "value": 1}]),
                json!([{"op": "add", "path": "/metadata/finalizers/7", "value": "x"}]),
            ] {
                let name = c.name("a");
                c.config_map(&name, json!({"a": "1"})).await?;
                let a = c.patch(&c.core(&format!("configmaps/{name}")), JSON, &patch).await?;
                a.failed(422, "Invalid")?;
            }
            Ok(())
        }),
        case("JSON patch: what is no list of operations answers 400", |c| async move {
            c.config_map("a", json!({})).await?;
            for patch in [json!({"op": "add"}), json!("x"), json!([1])] {
                let a = c.patch(&c.core("configmaps/a"), JSON, &patch).await?;
                a.failed(400, "BadRequest")?;
            }
            Ok(())
        }),
    ]
}

fn merge_patches() -> Vec<crate::Test> {
    vec![
        case("merge patch: null takes a key away, other keys stay", |c| async move {
            let a = patched(&c, json!({"a": "1", "b": "2"}), MERGE, &json!({"data": {"a": null, "c": "3"}})).await?;
            a.status(200)?.is("/data", json!({"b": "2", "c": "3"}))?;
            Ok(())
        }),
        case("merge patch: lists are replaced whole", |c| async move {
            let path = c.group("apps/v1", "deployments/a");
            c.make(&c.group("apps/v1", "deployments"), &deployment("a")).await?;
            let containers = json!([{"name": "other", "image": "i"}]);
            let a = c.merge(&path, &json!({"spec": {"template": {"spec": {"containers": containers}}}})).await?;
            a.status(200)?.is("/spec/template/spec/containers/0/name", "other")?;
            a.lacks("/spec/template/spec/containers/1")?;
            Ok(())
        }),
        case("merge patch: an empty patch changes nothing", |c| async move {
            let made = c.config_map("a", json!({"k": "v"})).await?;
            let a = c.merge(&c.core("configmaps/a"), &json!({})).await?;
            a.status(200)?.is("/metadata/resourceVersion", made["metadata"]["resourceVersion"].clone())?;
            Ok(())
        }),
        case("merge patch: a value of the wrong type answers 400", |c| async move {
            let a = patched(&c, json!({"k": "v"}), MERGE, &json!({"data": {"k": 1}})).await?;
            a.holds(a.status == 400 || a.status == 422, "a refusal")?;
            Ok(())
        }),
        case("merge patch: an invalid result answers 422", |c| async move {
            let a = patched(&c, json!({}), MERGE, &json!({"data": {"not a key": "v"}})).await?;
            a.invalid("data[not a key]", "FieldValueInvalid")?;
            Ok(())
        }),
        case("merge patch: a custom resource takes it as well", |c| async move {
            let path = widgets(&c).await?;
            c.make(&path, &json!({"apiVersion": version(&c), "kind": "Widget", "metadata": {"name": "a"}, "spec": {"x": 1, "y": [1]}})).await?;
            let a = c.merge(&format!("{path}/a"), &json!({"spec": {"x": null, "y": [2, 3]}})).await?;
            a.status(200)?.is("/spec", json!({"y": [2, 3]}))?;
            Ok(())
        }),
    ]
}

/// A CRD of the case's own whose objects take any fields in `spec`; returns the path of its collection.
async fn widgets(c: &Case) -> anyhow::Result<String> {
    let group = format!("{}.example.com", c.ns());
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    });
    c.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await?;
    let path = c.group(&version(c), "widgets");
    c.until(&path, "the resource is served", |a| a.status == 200).await?;
    Ok(path)
}

fn version(c: &Case) -> String {
    format!("{}.example.com/v1", c.ns())
}

/// Makes a deployment with two containers and a volume each, and patches it strategically.
async fn strategic(c: &Case, patch: &Value) -> anyhow::Result<Answer> {
    let mut body = deployment("a");
    body["spec"]["template"]["spec"] = json!({
        "containers": [
            {"name": "one", "image": "i1", "args": ["x"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
             "ports": [{"containerPort": 80, "name": "web"}]},
            {"name": "two", "image": "i2"},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "emptyDir": {}}],
        "nodeSelector": {"a": "1", "b": "2"},
    });
    c.make(&c.group("apps/v1", "deployments"), &body).await?;
    c.patch(&c.group("apps/v1", "deployments/a"), STRATEGIC, &json!({"spec": {"template": {"spec": patch}}})).await
}

/// Names of a list's elements below the pod template's spec.
fn names(a: &Answer, list: &str) -> Vec<String> {
    let list = a.at(&format!("/spec/template/spec/{list}")).as_array().cloned().unwrap_or_default();
    list.iter().map(|e| e["name"].as_str().unwrap_or_default().to_string()).collect()
}

fn strategic_patches() -> Vec<crate::Test> {
    vec![
        case("strategic patch: elements with the same key are merged", |c| async move {
            let a = strategic(&c, &json!({"containers": [{"name": "two", "image": "i3"}]})).await?;
            a.status(200)?.holds(names(&a, "containers") == ["one", "two"], "both containers")?;
            a.is("/spec/template/spec/containers/1/image", "i3")?.is("/spec/template/spec/containers/0/image", "i1")?;
            Ok(())
        }),
        case("strategic patch: elements with a new key are added", |c| async move {
            let a = strategic(&c, &json!({"containers": [{"name": "three", "image": "i3"}]})).await?;
            a.status(200)?;
            let mut found = names(&a, "containers");
            found.sort();
            a.holds(found == ["one", "three", "two"], "three containers")?;
            Ok(())
        }),
        case("strategic patch: lists within lists are merged by their own key", |c| async move {
            let patch = json!({"containers": [{"name": "one", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]});
            let a = strategic(&c, &patch).await?;
            let env = a.status(200)?.at("/spec/template/spec/containers/0/env").as_array().cloned().unwrap_or_default();
            let value =
                |name: &str| env.iter().find(|e| e["name"] == name).map(|e| e["value"].clone()).unwrap_or_default();
            a.holds(value("A") == "1" && value("B") == "3" && value("C") == "4", "A stays, B changes, C is new")?;
            Ok(())
        }),
        case("strategic patch: lists without a key are replaced", |c| async move {
            let a = strategic(&c, &json!({"containers": [{"name": "one", "args": ["y", "z"]}]})).await?;
            a.status(200)?.is("/spec/template/spec/containers/0/args", json!(["y", "z"]))?;
            Ok(())
        }),
        case("strategic patch: ports are merged by containerPort", |c| async move {
            let patch = json!({"containers": [{"name": "one", "ports": [{"containerPort": 80, "name": "http"}, {"containerPort": 81}]}]});
            let a = strategic(&c, &patch).await?;
            let ports =
                a.status(200)?.at("/spec/template/spec/containers/0/ports").as_array().cloned().unwrap_or_default();
            a.holds(ports.len() == 2, "two ports")?;
            a.holds(ports.iter().any(|p| p["containerPort"] == 80 && p["name"] == "http"), "port 80 is renamed")?;
            Ok(())
        }),
        case("strategic patch: null takes a field away", |c| async move {
            let a = strategic(&c, &json!({"nodeSelector": {"a": null}, "volumes": null})).await?;
            a.status(200)?
                .is("/spec/template/spec/nodeSelector", json!({"b": "2"}))?
                .lacks("/spec/template/spec/volumes")?;
            Ok(())
        }),
        case("strategic patch: finalizers are a set", |c| async move {
            let path = c.core("configmaps/a");
            c.config_map("a", json!({})).await?;
            for (add, wanted) in
                [("x.io/a", vec!["x.io/a"]), ("x.io/b", vec!["x.io/a", "x.io/b"]), ("x.io/a", vec!["x.io/a", "x.io/b"])]
            {
                let a = c.patch(&path, STRATEGIC, &json!({"metadata": {"finalizers": [add]}})).await?;
                a.status(200)?;
                let mut found: Vec<String> = serde_json::from_value(a.at("/metadata/finalizers").clone())?;
                found.sort();
                a.holds(found == wanted, format_args!("{wanted:?} expected"))?;
            }
            c.merge(&path, &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case("strategic patch: owner references are merged by uid", |c| async move {
            let path = c.core("configmaps/a");
            c.config_map("a", json!({})).await?;
            let owner = c.config_map("o", json!({})).await?;
            let reference = |more: bool| {
                let mut r =
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": owner["metadata"]["uid"]});
                if more {
                    r["blockOwnerDeletion"] = true.into();
                }
                json!({"metadata": {"ownerReferences": [r]}})
            };
            c.patch(&path, STRATEGIC, &reference(false)).await?.status(200)?;
            let a = c.patch(&path, STRATEGIC, &reference(true)).await?;
            a.status(200)?
                .is("/metadata/ownerReferences/0/blockOwnerDeletion", true)?
                .lacks("/metadata/ownerReferences/1")?;
            Ok(())
        }),
        case("strategic patch: tolerations, having no key, are replaced", |c| async move {
            strategic(&c, &json!({"tolerations": [{"key": "a", "operator": "Exists"}]})).await?.status(200)?;
            let patch = json!({"spec": {"template": {"spec": {"tolerations": [{"key": "b", "operator": "Exists"}]}}}});
            let a = c.patch(&c.group("apps/v1", "deployments/a"), STRATEGIC, &patch).await?;
            a.status(200)?.is("/spec/template/spec/tolerations", json!([{"key": "b", "operator": "Exists"}]))?;
            Ok(())
        }),
    ]
}

fn directives() -> Vec<crate::Test> {
    vec![
        case("$patch delete takes an element away", |c| async move {
            let a = strategic(&c, &json!({"containers": [{"name": "one", "$patch": "delete"}]})).await?;
            a.status(200)?.holds(names(&a, "containers") == ["two"], "only the other container")?;
            Ok(())
        }),
        case("$patch replace replaces a list", |c| async move {
            let a =
                strategic(&c, &json!({"containers": [{"$patch": "replace"}, {"name": "new", "image": "i"}]})).await?;
            a.status(200)?.holds(names(&a, "containers") == ["new"], "only the new container")?;
            Ok(())
        }),
        case("$patch replace replaces a map", |c| async move {
            let a = strategic(&c, &json!({"nodeSelector": {"$patch": "replace", "c": "3"}})).await?;
            a.status(200)?.is("/spec/template/spec/nodeSelector", json!({"c": "3"}))?;
            Ok(())
        }),
        case("$patch delete empties a map", |c| async move {
            let a = strategic(&c, &json!({"nodeSelector": {"$patch": "delete"}})).await?;
            a.status(200)?.lacks("/spec/template/spec/nodeSelector")?;
            Ok(())
        }),
        case("$retainKeys keeps the named keys only", |c| async move {
            let patch =
                json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "x"}}]});
            let a = strategic(&c, &patch).await?;
            let volumes = a.status(200)?.at("/spec/template/spec/volumes").as_array().cloned().unwrap_or_default();
            let v = volumes.iter().find(|v| v["name"] == "v").cloned().unwrap_or_default();
            a.holds(v["configMap"]["name"] == "x" && v.get("emptyDir").is_none(), "one source of the volume")?;
            Ok(())
        }),
        case("$setElementOrder orders a keyed list", |c| async move {
            let patch = json!({
                "$setElementOrder/containers": [{"name": "two"}, {"name": "new"}, {"name": "one"}],
                "containers": [{"name": "new", "image": "i"}],
            });
            let a = strategic(&c, &patch).await?;
            a.status(200)?.holds(names(&a, "containers") == ["two", "new", "one"], "the wanted order")?;
            Ok(())
        }),
        case("$setElementOrder may come without elements", |c| async move {
            let a = strategic(&c, &json!({"$setElementOrder/containers": [{"name": "two"}, {"name": "one"}]})).await?;
            a.status(200)?.holds(names(&a, "containers") == ["two", "one"], "the wanted order")?;
            Ok(())
        }),
        case("$deleteFromPrimitiveList takes elements of a set away", |c| async move {
            let path = c.core("configmaps/a");
            c.config_map("a", json!({})).await?;
            c.merge(&path, &json!({"metadata": {"finalizers": ["x.io/a", "x.io/b"]}})).await?.status(200)?;
            let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.io/a"]}});
            let a = c.patch(&path, STRATEGIC, &patch).await?;
            a.status(200)?.is("/metadata/finalizers", json!(["x.io/b"]))?;
            c.merge(&path, &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case("an unknown directive is refused", |c| async move {
            let a = strategic(&c, &json!({"nodeSelector": {"$patch": "nonsense"}})).await?;
            a.holds(a.status >= 400, "a refusal")?;
            Ok(())
        }),
        case("an element without its key is refused", |c| async move {
            let a = strategic(&c, &json!({"containers": [{"image": "i"}]})).await?;
            a.holds(a.status >= 400, "a refusal")?.contains("/message", "does not contain declared merge key: name")?;
            Ok(())
        }),
        case("what kubectl apply sends for a removed container works", |c| async move {
            let patch = json!({
                "$setElementOrder/containers": [{"name": "two"}],
                "containers": [{"$patch": "delete", "name": "one"}, {"name": "two", "image": "i9"}],
            });
            let a = strategic(&c, &patch).await?;
            a.status(200)?.holds(names(&a, "containers") == ["two"], "one container")?;
            a.is("/spec/template/spec/containers/0/image", "i9")?;
            Ok(())
        }),
    ]
}

fn refusals() -> Vec<crate::Test> {
    vec![
        case("a patch of an unknown type answers 415", |c| async move {
            c.config_map("a", json!({})).await?;
            for kind in ["json", "nonsense"] {
                let a = c.patch(&c.core("configmaps/a"), kind, &json!({})).await?;
                a.failed(415, "UnsupportedMediaType")?;
            }
            Ok(())
        }),
        case("a strategic patch of a custom resource answers 415 and lists the types", |c| async move {
            let path = widgets(&c).await?;
            c.make(&path, &json!({"apiVersion": version(&c), "kind": "Widget", "metadata": {"name": "a"}})).await?;
            let a = c.patch(&format!("{path}/a"), STRATEGIC, &json!({})).await?;
            a.failed(415, "UnsupportedMediaType")?;
            a.contains("/message", "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml")?;
            Ok(())
        }),
        case("a patch of an object that does not exist answers 404", |c| async move {
            for kind in [JSON, MERGE, STRATEGIC] {
                let patch = if kind == JSON { json!([]) } else { json!({}) };
                c.patch(&c.core("configmaps/none"), kind, &patch).await?.failed(404, "NotFound")?;
            }
            Ok(())
        }),
        case("a patch that is no JSON answers 400", |c| async move {
            c.config_map("a", json!({})).await?;
            for kind in [JSON, MERGE, STRATEGIC] {
                let a = c
                    .request("PATCH", &c.core("configmaps/a"))
                    .body(&format!("application/{kind}"), "{not json")
                    .send()
                    .await?;
                a.failed(400, "BadRequest")?;
            }
            Ok(())
        }),
        case("a patch cannot rename an object", |c| async move {
            c.config_map("a", json!({})).await?;
            let a = c.merge(&c.core("configmaps/a"), &json!({"metadata": {"name": "b"}})).await?;
            a.failed(400, "BadRequest")?
                .contains("/message", "the name of the object (b) does not match the name on the URL (a)")?;
            Ok(())
        }),
        case("a patch cannot change the kind", |c| async move {
            c.config_map("a", json!({})).await?;
            let a = c.merge(&c.core("configmaps/a"), &json!({"kind": "Secret"})).await?;
            a.holds(matches!(a.status, 400 | 422), "a refusal")?;
            Ok(())
        }),
        case("a patch with dryRun shows the result and stores nothing", |c| async move {
            c.config_map("a", json!({"k": "1"})).await?;
            let a = c.merge(&format!("{}?dryRun=All", c.core("configmaps/a")), &json!({"data": {"k": "2"}})).await?;
            a.status(200)?.is("/data/k", "2")?;
            c.get(&c.core("configmaps/a")).await?.is("/data/k", "1")?;
            Ok(())
        }),
    ]
}
