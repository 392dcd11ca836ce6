//! Requests: what an apply must have and may not have, bodies, versions, names.

use serde_json::{Value, json};

use super::{deployment, map, owned_by, owns, path};
use crate::case::{Case, Request, Test, case};

fn apply(c: &Case, query: &str, body: impl Into<String>) -> Request {
    c.request("PATCH", &format!("{}{query}", path(c))).body("application/apply-patch+yaml", body.into())
}

/// The cases.
pub fn cases() -> Vec<Test> {
    vec![
        case("a field manager is required", |c| async move {
            let a = apply(&c, "", map(json!({})).to_string()).send().await?;
            a.invalid("fieldManager", "FieldValueRequired")?.says(
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            )?;
            Ok(())
        }),
        case("a field manager has at most 128 characters", |c| async move {
            let a = apply(&c, &format!("?fieldManager={}", "x".repeat(129)), map(json!({})).to_string()).send().await?;
            a.invalid("fieldManager", "FieldValueTooLong")?;
            Ok(())
        }),
        case("force belongs to apply alone", |c| async move {
            c.config_map("a", json!({})).await?;
            let a = c.merge(&format!("{}?force=true", path(&c)), &json!({"data": {"k": "1"}})).await?;
            a.invalid("force", "FieldValueForbidden")?;
            Ok(())
        }),
        case("the body may be YAML with comments", |c| async move {
            let body = "# a comment\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: |\n    two\n    lines\n";
            let a = apply(&c, "?fieldManager=m", body).send().await?;
            a.status(201)?.is("/data/k", "two\nlines\n")?;
            Ok(())
        }),
        case("a body that is not YAML is refused", |c| async move {
            let a = apply(&c, "?fieldManager=m", "{a: [").send().await?;
            a.failed(400, "BadRequest")?.contains("/message", "error decoding YAML")?;
            Ok(())
        }),
        case("a body without a kind is refused", |c| async move {
            let a = apply(&c, "?fieldManager=m", json!({"apiVersion": "v1", "data": {}}).to_string()).send().await?;
            a.status(400)?;
            let a = apply(&c, "?fieldManager=m", json!({"kind": "ConfigMap", "data": {}}).to_string()).send().await?;
            a.status(400)?;
            Ok(())
        }),
        case("a body of another kind or version is refused", |c| async move {
            let mut body = map(json!({}));
            body["kind"] = "Secret".into();
            apply(&c, "?fieldManager=m", body.to_string()).send().await?.failed(400, "BadRequest")?;
            body = map(json!({}));
            body["apiVersion"] = "v2".into();
            apply(&c, "?fieldManager=m", body.to_string()).send().await?.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("another name than the path's is refused", |c| async move {
            let mut body = map(json!({}));
            body["metadata"]["name"] = "b".into();
            apply(&c, "?fieldManager=m", body.to_string()).send().await?.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("a name may not be left out, though it is in the path", |c| async move {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "1"}});
            let a = apply(&c, "?fieldManager=m", body.to_string()).send().await?;
            a.failed(400, "BadRequest")?
                .says("the name of the object (a based on URL) was undeterminable: name must be provided")?;
            Ok(())
        }),
        case("a name may be left out where the object is there", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?.status(201)?;
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "2"}});
            let a = apply(&c, "?fieldManager=m", body.to_string()).send().await?;
            a.status(200)?.is("/data/k", "2")?;
            Ok(())
        }),
        case("a configuration may not bring managed fields", |c| async move {
            let made = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            let mut body = map(json!({"k": "1"}));
            body["metadata"]["managedFields"] = made.at("/metadata/managedFields").clone();
            let a = c.apply(&path(&c), "m", &body).await?;
            a.failed(400, "BadRequest")?.says("metadata.managedFields must be nil")?;
            Ok(())
        }),
        case("an older resource version is refused, the present one is not", |c| async move {
            let made = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            c.apply(&path(&c), "m", &map(json!({"k": "2"}))).await?.status(200)?;
            let mut body = map(json!({"k": "3"}));
            body["metadata"]["resourceVersion"] = made.version().into();
            c.apply(&path(&c), "m", &body).await?.failed(409, "Conflict")?.says(
                "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
            )?;
            body["metadata"]["resourceVersion"] = c.get(&path(&c)).await?.version().into();
            c.apply(&path(&c), "m", &body).await?.status(200)?.is("/data/k", "3")?;
            Ok(())
        }),
        case("an apply with a UID makes no object", |c| async move {
            let mut body = map(json!({"k": "1"}));
            body["metadata"]["uid"] = "b6f4d1f2-0f5c-4b4e-9d53-1f4b1ad2a9f1".into();
            c.apply(&path(&c), "m", &body).await?.failed(409, "Conflict")?;
            c.get(&path(&c)).await?.status(404)?;
            Ok(())
        }),
        case("a resource version is nothing to an object that is not there", |c| async move {
            let mut body = map(json!({"k": "1"}));
            body["metadata"]["resourceVersion"] = "1".into();
            c.apply(&path(&c), "m", &body).await?.status(201)?.is("/data/k", "1")?;
            Ok(())
        }),
        case("a dry run makes no object", |c| async move {
            let a = apply(&c, "?fieldManager=m&dryRun=All", map(json!({"k": "1"})).to_string()).send().await?;
            owned_by(a.status(201)?.is("/data/k", "1")?, &["m Apply"])?;
            c.get(&path(&c)).await?.status(404)?;
            Ok(())
        }),
        case("an unknown field is refused with its path", |c| async move {
            let mut body = deployment(json!([{"name": "c", "image": "i"}]));
            body["spec"]["oops"] = 1.into();
            let a = c.apply(&c.group("apps/v1", "deployments/a"), "m", &body).await?;
            a.status(500)?.contains("/message", ".spec.oops: field not declared in schema")?;
            a.says("failed to create typed patch object (/a; apps/v1, Kind=Deployment): .spec.oops: field not declared in schema")?;
            Ok(())
        }),
        case("a value of the wrong type is refused with its path", |c| async move {
            let mut body = deployment(json!([{"name": "c", "image": "i"}]));
            body["spec"]["replicas"] = "three".into();
            let a = c.apply(&c.group("apps/v1", "deployments/a"), "m", &body).await?;
            a.status(500)?.contains("/message", ".spec.replicas: expected numeric (int or float), got string")?;
            Ok(())
        }),
        case("what validation refuses is refused", |c| async move {
            let body =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a b": "1"}});
            c.apply(&path(&c), "m", &body).await?.failed(422, "Invalid")?;
            let a = c
                .apply(
                    &c.core("configmaps/A_B"),
                    "m",
                    &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "A_B"}}),
                )
                .await?;
            a.invalid("metadata.name", "FieldValueInvalid")?;
            Ok(())
        }),
        case("the status of an object that is not there cannot be applied", |c| async move {
            let status =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {"message": "x"}});
            c.apply(&c.core("pods/a/status"), "m", &status).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("an object's own path leaves the status alone", |c| async move {
            let mut pod = crate::case::pod("a");
            pod["status"] = json!({"message": "mine"});
            let a = c.apply(&c.core("pods/a"), "m", &pod).await?;
            a.status(201)?.lacks("/status/message")?;
            a.holds(!a.at("/metadata/managedFields").to_string().contains("f:status"), "no status owned")?;
            Ok(())
        }),
        case("a null in the configuration leaves a field of the type's default out", |c| async move {
            let mut body = map(json!({"k": "1"}));
            body["immutable"] = Value::Null;
            let a = c.apply(&path(&c), "m", &body).await?;
            a.status(201)?.lacks("/immutable")?;
            owns(&a, "m Apply", &json!({"f:data": {"f:k": {}}, "f:immutable": {}}))?;
            Ok(())
        }),
        case("an object that was deleted is made again as a new one", |c| async move {
            let first = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            c.delete(&path(&c)).await?.status(200)?;
            c.until_gone(&path(&c)).await?;
            let a = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            a.status(201)?.holds(a.at("/metadata/uid") != first.at("/metadata/uid"), "another UID")?;
            Ok(())
        }),
        case("an apply in another namespace than the path's is refused", |c| async move {
            let mut body = map(json!({}));
            body["metadata"]["namespace"] = "default".into();
            apply(&c, "?fieldManager=m", body.to_string()).send().await?.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("an apply to a namespace that is not there is refused", |c| async move {
            let a = c.apply("/api/v1/namespaces/none-such/configmaps/a", "m", &map(json!({}))).await?;
            a.failed(404, "NotFound")?.says("namespaces \"none-such\" not found")?;
            Ok(())
        }),
        case("a generated name cannot be applied", |c| async move {
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}});
            let a = c.request("PATCH", &c.core("configmaps?fieldManager=m"));
            a.body("application/apply-patch+yaml", body.to_string()).send().await?.status(405)?;
            Ok(())
        }),
    ]
}
