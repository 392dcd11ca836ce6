//! Optimistic locking: writes that name the version they were made from, and writes that do not.

use serde_json::json;

use crate::case::{Chapter, case, config_map, deployment};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "locking",
        cases: vec![
            case("an update from an old version answers 409 Conflict", |c| async move {
                let made = c.config_map("a", json!({"k": "1"})).await?;
                let mut first = made.clone();
                first["data"]["k"] = "2".into();
                c.put(&c.core("configmaps/a"), &first).await?.status(200)?;
                let mut second = made;
                second["data"]["k"] = "3".into();
                let a = c.put(&c.core("configmaps/a"), &second).await?;
                a.failed(409, "Conflict")?.says(
                    "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                     changes to the latest version and try again",
                )?;
                a.is("/details", json!({"name": "a", "kind": "configmaps"}))?;
                c.get(&c.core("configmaps/a")).await?.is("/data/k", "2")?;
                Ok(())
            }),
            case("an update without a version overwrites", |c| async move {
                c.config_map("a", json!({"k": "1"})).await?;
                c.put(&c.core("configmaps/a"), &config_map("a", json!({"k": "2"})))
                    .await?
                    .status(200)?
                    .is("/data/k", "2")?;
                Ok(())
            }),
            case("an update of leases needs a version", |c| async move {
                let path = c.group("coordination.k8s.io/v1", "leases");
                let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}});
                c.make(&path, &body).await?;
                let a = c.put(&format!("{path}/a"), &body).await?;
                a.invalid("metadata.resourceVersion", "FieldValueInvalid")?;
                a.contains("/message", "must be specified for an update")?;
                Ok(())
            }),
            case("a patch with an old version answers 409", |c| async move {
                let made = c.config_map("a", json!({"k": "1"})).await?;
                let version = &made["metadata"]["resourceVersion"];
                let patch = json!({"metadata": {"resourceVersion": version}, "data": {"k": "2"}});
                c.merge(&c.core("configmaps/a"), &patch).await?.status(200)?;
                let patch = json!({"metadata": {"resourceVersion": version}, "data": {"k": "3"}});
                c.merge(&c.core("configmaps/a"), &patch).await?.failed(409, "Conflict")?;
                Ok(())
            }),
            case("a patch with another uid answers 422", |c| async move {
                c.config_map("a", json!({"k": "1"})).await?;
                let patch = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}});
                let a = c.merge(&c.core("configmaps/a"), &patch).await?;
                a.invalid("metadata.uid", "FieldValueInvalid")?.contains("/message", "field is immutable")?;
                Ok(())
            }),
            case("a JSON patch may test the version", |c| async move {
                let made = c.config_map("a", json!({"k": "1"})).await?;
                let patch = json!([
                    {"op": "test", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
                    {"op": "replace", "path": "/data/k", "value": "2"},
                ]);
                c.patch(&c.core("configmaps/a"), "json-patch+json", &patch).await?.status(200)?;
                c.patch(&c.core("configmaps/a"), "json-patch+json", &patch).await?.failed(422, "Invalid")?;
                Ok(())
            }),
            case("patches without a version that meet are all applied", |c| async move {
                c.config_map("a", json!({})).await?;
                let path = c.core("configmaps/a");
                let patches = (0..8).map(|n| {
                    let (c, path) = (c.clone(), path.clone());
                    async move { c.merge(&path, &json!({"data": {format!("k{n}"): "v"}})).await }
                });
                for answer in futures::future::join_all(patches).await {
                    answer?.status(200)?;
                }
                let a = c.get(&path).await?;
                a.holds(a.at("/data").as_object().is_some_and(|d| d.len() == 8), "eight keys")?;
                Ok(())
            }),
            case("of updates from one version exactly one wins", |c| async move {
                let made = c.config_map("a", json!({})).await?;
                let updates = (0..8).map(|n| {
                    let (c, mut next) = (c.clone(), made.clone());
                    async move {
                        next["data"] = json!({"k": n.to_string()});
                        c.put(&c.core("configmaps/a"), &next).await
                    }
                });
                let mut codes = Vec::new();
                for answer in futures::future::join_all(updates).await {
                    codes.push(answer?.status);
                }
                codes.sort_unstable();
                anyhow::ensure!(codes == [200, 409, 409, 409, 409, 409, 409, 409], "one 200 expected, got {codes:?}");
                Ok(())
            }),
            case("the status path compares versions too", |c| async move {
                let made = c.make(&c.group("apps/v1", "deployments"), &deployment("a")).await?;
                c.merge(&c.group("apps/v1", "deployments/a"), &json!({"metadata": {"labels": {"x": "y"}}})).await?;
                let mut next = made;
                next["status"] = json!({"replicas": 1});
                c.put(&c.group("apps/v1", "deployments/a/status"), &next).await?.failed(409, "Conflict")?;
                Ok(())
            }),
            case("a version that is no number is refused", |c| async move {
                let mut made = c.config_map("a", json!({})).await?;
                made["metadata"]["resourceVersion"] = "x".into();
                let a = c.put(&c.core("configmaps/a"), &made).await?;
                // kube-apiserver makes it 500, for want of a better error in its storage layer
                a.holds(a.status == 422 || a.status == 500, "a refusal")?;
                Ok(())
            }),
        ],
    }
}
