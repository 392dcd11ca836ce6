//! Objects: create, get, update, delete; the fields the server owns; the Status bodies of failures.

use serde_json::json;

use crate::case::{Chapter, case, config_map};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "objects",
        cases: vec![
            case("create answers 201 with the fields the server owns", |c| async move {
                let a = c.post(&c.core("configmaps"), &config_map("a", json!({"k": "v"}))).await?;
                a.status(201)?
                    .is("/kind", "ConfigMap")?
                    .is("/apiVersion", "v1")?
                    .is("/metadata/name", "a")?
                    .is("/metadata/namespace", c.ns())?
                    .has("/metadata/uid")?
                    .has("/metadata/resourceVersion")?
                    .has("/metadata/creationTimestamp")?
                    .lacks("/metadata/selfLink")?
                    .lacks("/metadata/generation")?
                    .is("/data/k", "v")?;
                Ok(())
            }),
            case("create of a name that exists answers 409 AlreadyExists", |c| async move {
                c.config_map("a", json!({})).await?;
                let a = c.post(&c.core("configmaps"), &config_map("a", json!({}))).await?;
                a.failed(409, "AlreadyExists")?
                    .says("configmaps \"a\" already exists")?
                    .is("/details", json!({"name": "a", "kind": "configmaps"}))?;
                Ok(())
            }),
            case("get of a name that does not exist answers 404 NotFound", |c| async move {
                let a = c.get(&c.core("configmaps/none")).await?;
                a.failed(404, "NotFound")?
                    .says("configmaps \"none\" not found")?
                    .is("/details", json!({"name": "none", "kind": "configmaps"}))?
                    .is("/metadata", json!({}))?;
                Ok(())
            }),
            case("a group's resource carries its group in messages and details", |c| async move {
                let a = c.get(&c.group("apps/v1", "deployments/none")).await?;
                a.failed(404, "NotFound")?
                    .says("deployments.apps \"none\" not found")?
                    .is("/details", json!({"name": "none", "group": "apps", "kind": "deployments"}))?;
                Ok(())
            }),
            case("generateName makes a name of the stem and five letters", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "stem-"}});
                let a = c.post(&c.core("configmaps"), &body).await?;
                a.status(201)?.is("/metadata/generateName", "stem-")?;
                let name = a.text("/metadata/name");
                a.holds(name.starts_with("stem-") && name.len() == 10, "a name of ten letters expected")?;
                Ok(())
            }),
            case("neither name nor generateName answers 422 with a cause", |c| async move {
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
                let a = c.post(&c.core("configmaps"), &body).await?;
                a.invalid("metadata.name", "FieldValueRequired")?.says(
                    "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
                )?;
                Ok(())
            }),
            case("a name that is no DNS subdomain answers 422 with a cause", |c| async move {
                let a = c.post(&c.core("configmaps"), &config_map("Not_A_Name", json!({}))).await?;
                a.invalid("metadata.name", "FieldValueInvalid")?
                    .is("/details/name", "Not_A_Name")?
                    .is("/details/kind", "ConfigMap")?;
                Ok(())
            }),
            case("update keeps uid and creation time and moves the resource version", |c| async move {
                let made = c.config_map("a", json!({"k": "1"})).await?;
                let mut next = made.clone();
                next["data"]["k"] = "2".into();
                let a = c.put(&c.core("configmaps/a"), &next).await?;
                a.status(200)?
                    .is("/data/k", "2")?
                    .is("/metadata/uid", made["metadata"]["uid"].clone())?
                    .is("/metadata/creationTimestamp", made["metadata"]["creationTimestamp"].clone())?
                    .holds(
                        a.at("/metadata/resourceVersion") != &made["metadata"]["resourceVersion"],
                        "a new version",
                    )?;
                Ok(())
            }),
            case("update without a change keeps the resource version", |c| async move {
                let made = c.config_map("a", json!({"k": "1"})).await?;
                let a = c.put(&c.core("configmaps/a"), &made).await?;
                a.status(200)?.is("/metadata/resourceVersion", made["metadata"]["resourceVersion"].clone())?;
                Ok(())
            }),
            case("update of a name that does not exist answers 404", |c| async move {
                let a = c.put(&c.core("configmaps/none"), &config_map("none", json!({}))).await?;
                a.failed(404, "NotFound")?;
                Ok(())
            }),
            case("update whose name differs from the path answers 400", |c| async move {
                c.config_map("a", json!({})).await?;
                let a = c.put(&c.core("configmaps/a"), &config_map("b", json!({}))).await?;
                a.failed(400, "BadRequest")?
                    .says("the name of the object (b) does not match the name on the URL (a)")?;
                Ok(())
            }),
            case("delete answers 200 with a Status that names the object", |c| async move {
                let made = c.config_map("a", json!({})).await?;
                let a = c.delete(&c.core("configmaps/a")).await?;
                a.status(200)?
                    .is("/kind", "Status")?
                    .is("/status", "Success")?
                    .is("/details", json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}))?;
                c.get(&c.core("configmaps/a")).await?.failed(404, "NotFound")?;
                Ok(())
            }),
            case("delete of a name that does not exist answers 404", |c| async move {
                c.delete(&c.core("configmaps/none")).await?.failed(404, "NotFound")?;
                Ok(())
            }),
        ],
    }
}
