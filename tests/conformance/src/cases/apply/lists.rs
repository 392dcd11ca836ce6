//! Lists and maps of built-in kinds: by keys, as sets, as one value.

use serde_json::json;

use super::{deployment, fields, map, owns, part, path};
use crate::case::{Test, case};

const CONTAINERS: &str = "/spec/template/spec/containers";

/// The cases.
pub fn cases() -> Vec<Test> {
    vec![
        case("containers of two managers stand side by side", |c| async move {
            let path = c.group("apps/v1", "deployments/a");
            c.apply(&path, "m", &deployment(json!([{"name": "one", "image": "1"}]))).await?.status(201)?;
            let a = c.apply(&path, "n", &part(json!([{"name": "two", "image": "2"}]))).await?;
            a.status(200)?.is(&format!("{CONTAINERS}/0/name"), "one")?.is(&format!("{CONTAINERS}/1/name"), "two")?;
            let two = json!({"k:{\"name\":\"two\"}": {".": {}, "f:image": {}, "f:name": {}}});
            owns(&a, "n Apply", &json!({"f:spec": {"f:template": {"f:spec": {"f:containers": two}}}}))?;
            let a = c
                .apply(&path, "n", &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}))
                .await?;
            a.status(200)?.is(&format!("{CONTAINERS}/0/name"), "one")?.lacks(&format!("{CONTAINERS}/1"))?;
            Ok(())
        }),
        case("a container's image conflicts by the container's name", |c| async move {
            let path = c.group("apps/v1", "deployments/a");
            c.apply(&path, "m", &deployment(json!([{"name": "one", "image": "1"}]))).await?.status(201)?;
            let a = c.apply(&path, "n", &part(json!([{"name": "one", "image": "2"}]))).await?;
            a.failed(409, "Conflict")?
                .says("Apply failed with 1 conflict: conflict with \"m\": .spec.template.spec.containers[name=\"one\"].image")?
                .cause(".spec.template.spec.containers[name=\"one\"].image", "FieldManagerConflict")?;
            Ok(())
        }),
        case("environment variables merge by name and keep their order", |c| async move {
            let path = c.group("apps/v1", "deployments/a");
            let env = |names: &[&str]| names.iter().map(|n| json!({"name": n, "value": n})).collect::<Vec<_>>();
            let body = deployment(json!([{"name": "c", "image": "i", "env": env(&["A", "B", "C"])}]));
            c.apply(&path, "m", &body).await?.status(201)?;
            let a = c.apply(&path, "n", &part(json!([{"name": "c", "env": env(&["D", "B"])}]))).await?;
            let names: Vec<_> = a
                .status(200)?
                .at(&format!("{CONTAINERS}/0/env"))
                .as_array()
                .into_iter()
                .flatten()
                .map(|e| e["name"].clone())
                .collect();
            a.holds(names == ["A", "D", "B", "C"], format_args!("A D B C expected, got {names:?}"))?;
            Ok(())
        }),
        case("a pod's ports are told apart by number and protocol, TCP when left out", |c| async move {
            let ports = json!([{"containerPort": 53}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 80, "name": "web"}]);
            let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c", "image": "i", "ports": ports}]}});
            let a = c.apply(&c.core("pods/a"), "m", &body).await?;
            let found = fields(a.status(201)?, "m Apply")?;
            let wanted = json!({
                "k:{\"containerPort\":53,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
                "k:{\"containerPort\":53,\"protocol\":\"UDP\"}": {".": {}, "f:containerPort": {}, "f:protocol": {}},
                "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}},
            });
            let ports = &found["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"]["f:ports"];
            a.holds(*ports == wanted, format_args!("{wanted} expected, got {ports}"))?;
            Ok(())
        }),
        case("arguments are one value", |c| async move {
            let path = c.group("apps/v1", "deployments/a");
            c.apply(&path, "m", &deployment(json!([{"name": "c", "image": "i", "args": ["x", "y"]}])))
                .await?
                .status(201)?;
            let a = c.apply(&path, "n", &part(json!([{"name": "c", "args": ["x"]}]))).await?;
            a.failed(409, "Conflict")?.says(
                "Apply failed with 1 conflict: conflict with \"m\": .spec.template.spec.containers[name=\"c\"].args",
            )?;
            Ok(())
        }),
        case("a service's selector is one value", |c| async move {
            let service = |selector| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}], "selector": selector}});
            c.apply(&c.core("services/a"), "m", &service(json!({"x": "1"}))).await?.status(201)?;
            let a = c.apply(&c.core("services/a"), "n", &service(json!({"y": "1"}))).await?;
            a.failed(409, "Conflict")?.says("Apply failed with 1 conflict: conflict with \"m\": .spec.selector")?;
            Ok(())
        }),
        case("volumes merge by name, and what a volume is changes as one", |c| async move {
            let path = c.group("apps/v1", "deployments/a");
            let mut body = deployment(json!([{"name": "c", "image": "i"}]));
            body["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
            c.apply(&path, "m", &body).await?.status(201)?;
            let mut other = part(json!([]));
            other["spec"]["template"]["spec"] = json!({"volumes": [{"name": "w", "configMap": {"name": "x"}}]});
            let a = c.apply(&path, "n", &other).await?;
            let volumes = a.status(200)?.at("/spec/template/spec/volumes").as_array().map_or(0, Vec::len);
            a.holds(volumes == 2, "two volumes")?;
            body["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "y"}}]);
            let a = c.apply(&path, "m", &body).await?;
            a.status(200)?.lacks("/spec/template/spec/volumes/0/emptyDir")?;
            Ok(())
        }),
        case("a list with one key twice is refused", |c| async move {
            let body = deployment(json!([{"name": "c", "image": "1"}, {"name": "c", "image": "2"}]));
            let a = c.apply(&c.group("apps/v1", "deployments/a"), "m", &body).await?;
            a.status(500)?
                .contains("/message", ".spec.template.spec.containers: duplicate entries for key [name=\"c\"]")?;
            Ok(())
        }),
        case("conditions of a status merge by type", |c| async move {
            c.make(&c.core("pods"), &crate::case::pod("a")).await?;
            let status = |kind: &str| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {"conditions": [{"type": kind, "status": "True"}]}});
            c.apply(&c.core("pods/a/status"), "m", &status("ex.io/one")).await?.status(200)?;
            let a = c.apply(&c.core("pods/a/status"), "n", &status("ex.io/two")).await?;
            let kinds: Vec<_> = a
                .status(200)?
                .at("/status/conditions")
                .as_array()
                .into_iter()
                .flatten()
                .map(|e| e["type"].clone())
                .collect();
            a.holds(
                kinds.contains(&json!("ex.io/one")) && kinds.contains(&json!("ex.io/two")),
                format_args!("both, got {kinds:?}"),
            )?;
            Ok(())
        }),
        case("an empty map and an empty list are owned themselves", |c| async move {
            let a = c.apply(&path(&c), "m", &map(json!({}))).await?;
            owns(a.status(201)?, "m Apply", &json!({"f:data": {}}))?;
            let mut body = deployment(json!([{"name": "c", "image": "i"}]));
            body["spec"]["template"]["spec"]["securityContext"] = json!({});
            let a = c.apply(&c.group("apps/v1", "deployments/a"), "m", &body).await?;
            let found = fields(a.status(201)?, "m Apply")?;
            let context = &found["f:spec"]["f:template"]["f:spec"]["f:securityContext"];
            a.holds(*context == json!({}), format_args!("an owned security context, got {context}"))?;
            Ok(())
        }),
        case("owner references merge by UID", |c| async move {
            let owner = c.config_map("owner", json!({})).await?;
            let reference = |uid: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid});
            let uid = owner["metadata"]["uid"].as_str().unwrap_or_default();
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "ownerReferences": [reference(uid)]}});
            let a = c.apply(&path(&c), "m", &body).await?;
            let wanted = json!({"f:metadata": {"f:ownerReferences": {format!("k:{{\"uid\":\"{uid}\"}}"): {}}}});
            owns(a.status(201)?, "m Apply", &wanted)?;
            Ok(())
        }),
    ]
}
