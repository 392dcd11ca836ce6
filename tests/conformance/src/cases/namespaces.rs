//! Namespaces: what is in a new one, and their end.

use serde_json::{Value, json};

use crate::case::{Case, Chapter, case, config_map};

/// The chapter.
pub fn chapter() -> Chapter {
    Chapter {
        name: "namespaces",
        cases: vec![
            case("a new namespace is active, labelled and has its finalizer", |c| async move {
                let a = c.get(&format!("/api/v1/namespaces/{}", c.ns())).await?;
                a.status(200)?.is("/status/phase", "Active")?.is("/spec/finalizers", json!(["kubernetes"]))?;
                a.is("/metadata/labels/kubernetes.io~1metadata.name", c.ns())?;
                Ok(())
            }),
            case("the name label cannot be changed", |c| async move {
                let path = format!("/api/v1/namespaces/{}", c.ns());
                let a = c
                    .merge(&path, &json!({"metadata": {"labels": {"kubernetes.io/metadata.name": "x", "a": "b"}}}))
                    .await?;
                a.status(200)?
                    .is("/metadata/labels/kubernetes.io~1metadata.name", c.ns())?
                    .is("/metadata/labels/a", "b")?;
                Ok(())
            }),
            case("a new namespace gets a service account and the root certificate", |c| async move {
                c.until(&c.core("serviceaccounts/default"), "the account", |a| a.status == 200).await?;
                let a = c.until(&c.core("configmaps/kube-root-ca.crt"), "the certificate", |a| a.status == 200).await?;
                a.holds(a.text("/data/ca.crt").starts_with("-----BEGIN CERTIFICATE-----"), "a certificate")?;
                Ok(())
            }),
            case("the namespaces of every cluster exist", |c| async move {
                for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
                    c.until(&format!("/api/v1/namespaces/{name}"), "the namespace", |a| a.status == 200).await?;
                }
                Ok(())
            }),
            case("objects in a namespace that does not exist answer 404 about the namespace", |c| async move {
                let a = c.post("/api/v1/namespaces/no-such/configmaps", &config_map("a", json!({}))).await?;
                a.failed(404, "NotFound")?.says("namespaces \"no-such\" not found")?;
                a.is("/details", json!({"name": "no-such", "kind": "namespaces"}))?;
                Ok(())
            }),
            case("a body whose namespace differs from the path answers 400", |c| async move {
                let mut body = config_map("a", json!({}));
                body["metadata"]["namespace"] = "other".into();
                let a = c.post(&c.core("configmaps"), &body).await?;
                a.failed(400, "BadRequest")?.contains(
                    "/message",
                    "the namespace of the provided object does not match the namespace sent on the request",
                )?;
                Ok(())
            }),
            case("a deletion empties the namespace and then takes it away", |c| async move {
                let name = fresh(&c).await?;
                let path = format!("/api/v1/namespaces/{name}");
                c.make(&format!("{path}/configmaps"), &config_map("a", json!({}))).await?;
                let a = c.delete(&path).await?;
                a.status(200)?
                    .is("/kind", "Namespace")?
                    .is("/status/phase", "Terminating")?
                    .has("/metadata/deletionTimestamp")?;
                c.until_gone(&path).await?;
                c.get(&format!("{path}/configmaps/a")).await?.failed(404, "NotFound")?;
                Ok(())
            }),
            case("a namespace that is going away refuses new objects and waits for finalizers", |c| async move {
                let name = fresh(&c).await?;
                let path = format!("/api/v1/namespaces/{name}");
                let mut body = config_map("held", json!({}));
                body["metadata"]["finalizers"] = json!(["x.io/a"]);
                c.make(&format!("{path}/configmaps"), &body).await?;
                c.delete(&path).await?.status(200)?;
                let a = c
                    .post(
                        &format!("{path}/secrets"),
                        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
                    )
                    .await?;
                a.failed(403, "Forbidden")?.says(&format!(
                    "secrets \"s\" is forbidden: unable to create new content in namespace {name} because it is being terminated"
                ))?;
                a.is("/details/causes/0", json!({
                    "reason": "NamespaceTerminating", "message": format!("namespace {name} is being terminated"), "field": "metadata.namespace",
                }))?;
                let held = format!("{path}/configmaps/held");
                c.until(&held, "the object is being deleted", |a| !a.at("/metadata/deletionTimestamp").is_null())
                    .await?;
                c.get(&path).await?.status(200)?.is("/status/phase", "Terminating")?;
                c.merge(&held, &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
                c.until_gone(&path).await
            }),
            case("a namespace that is going away tells in conditions what is left", |c| async move {
                let name = fresh(&c).await?;
                let path = format!("/api/v1/namespaces/{name}");
                let mut body = config_map("held", json!({}));
                body["metadata"]["finalizers"] = json!(["x.io/a"]);
                c.make(&format!("{path}/configmaps"), &body).await?;
                c.delete(&path).await?.status(200)?;
                let told = |a: &crate::Answer| {
                    let list = a.at("/status/conditions").as_array().cloned().unwrap_or_default();
                    list.iter().any(|x| x["type"] == "NamespaceFinalizersRemaining" && x["status"] == "True")
                };
                c.until(&path, "a condition names the finalizer", told).await?;
                c.merge(&format!("{path}/configmaps/held"), &json!({"metadata": {"finalizers": null}}))
                    .await?
                    .status(200)?;
                c.until_gone(&path).await
            }),
            case("finalize changes the spec's finalizers, an update does not", |c| async move {
                let name = fresh(&c).await?;
                let path = format!("/api/v1/namespaces/{name}");
                let mut value = c.get(&path).await?.json;
                value["spec"]["finalizers"] = json!(["kubernetes", "x.io/a"]);
                c.put(&path, &value).await?.status(200)?.is("/spec/finalizers", json!(["kubernetes"]))?;
                let mut value = c.get(&path).await?.json;
                value["spec"]["finalizers"] = json!(["kubernetes", "x.io/a"]);
                let a = c.put(&format!("{path}/finalize"), &value).await?;
                a.status(200)?.is("/spec/finalizers", json!(["kubernetes", "x.io/a"]))?;
                let mut value = a.json;
                value["spec"]["finalizers"] = json!(["kubernetes"]);
                c.put(&format!("{path}/finalize"), &value).await?.status(200)?;
                c.delete(&path).await?.status(200)?;
                c.until_gone(&path).await
            }),
            case("some namespaces cannot be deleted", |c| async move {
                for name in ["default", "kube-system", "kube-public"] {
                    let a = c.delete(&format!("/api/v1/namespaces/{name}")).await?;
                    a.failed(403, "Forbidden")?.contains("/message", "this namespace may not be deleted")?;
                }
                Ok(())
            }),
            case("namespaces are selected by phase", |c| async move {
                let a = c.get("/api/v1/namespaces?fieldSelector=status.phase%3DActive").await?;
                a.status(200)?.holds(a.names().contains(&c.ns()), "the case's namespace")?;
                let a = c.get("/api/v1/namespaces?fieldSelector=status.phase%3DNone").await?;
                a.lists(&[])?;
                Ok(())
            }),
        ],
    }
}

async fn fresh(c: &Case) -> anyhow::Result<String> {
    let name = c.name("n");
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let made: Value = c.make("/api/v1/namespaces", &body).await?;
    Ok(made["metadata"]["name"].as_str().unwrap_or_default().to_string())
}
