//! Deletion: finalizers, grace periods, preconditions, propagation, collections, and the garbage collector.

use serde_json::{Value, json};

use crate::case::{Case, Chapter, case, pod};

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = one();
    cases.extend(finalizers());
    cases.extend(owners());
    cases.extend(collections());
    Chapter { name: "deletion", cases }
}

fn map(name: &str, metadata: &Value) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    for (key, value) in metadata.as_object().into_iter().flatten() {
        body["metadata"][key] = value.clone();
    }
    body
}

fn owned_by(owner: &Value, block: bool) -> Value {
    json!({"ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "blockOwnerDeletion": block,
    }]})
}

fn one() -> Vec<crate::Test> {
    vec![
        case("a precondition on the uid that does not hold answers 409", |c| async move {
            c.config_map("a", json!({})).await?;
            let a = c.delete_with(&c.core("configmaps/a"), &json!({"preconditions": {"uid": "other"}})).await?;
            a.failed(409, "Conflict")?
                .contains("/message", "the UID in the precondition (other) does not match the UID in record (")?;
            c.get(&c.core("configmaps/a")).await?.status(200)?;
            Ok(())
        }),
        case("a precondition on the resource version that does not hold answers 409", |c| async move {
            let made = c.config_map("a", json!({})).await?;
            c.merge(&c.core("configmaps/a"), &json!({"data": {"k": "v"}})).await?.status(200)?;
            let options = json!({"preconditions": {"resourceVersion": made["metadata"]["resourceVersion"]}});
            let a = c.delete_with(&c.core("configmaps/a"), &options).await?;
            a.failed(409, "Conflict")?.contains("/message", "the ResourceVersion in the precondition (")?;
            Ok(())
        }),
        case("preconditions that hold let the deletion through", |c| async move {
            let made = c.config_map("a", json!({})).await?;
            let meta = &made["metadata"];
            let options = json!({"preconditions": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}});
            c.delete_with(&c.core("configmaps/a"), &options).await?.status(200)?;
            c.get(&c.core("configmaps/a")).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("a deletion with dryRun deletes nothing", |c| async move {
            c.config_map("a", json!({})).await?;
            c.delete(&format!("{}?dryRun=All", c.core("configmaps/a"))).await?.status(200)?;
            c.delete_with(&c.core("configmaps/a"), &json!({"dryRun": ["All"]})).await?.status(200)?;
            c.get(&c.core("configmaps/a")).await?.status(200)?;
            Ok(())
        }),
        case("a pod that nothing runs goes at once, and is answered", |c| async move {
            c.pod(&pod("a")).await?;
            let a = c.delete(&c.core("pods/a")).await?;
            a.status(200)?.is("/kind", "Pod")?.is("/metadata/name", "a")?;
            c.get(&c.core("pods/a")).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("a pod on a node is marked with its grace period and waits", |c| async move {
            bound(&c).await?;
            let a = c.delete(&c.core("pods/a")).await?;
            a.status(200)?.has("/metadata/deletionTimestamp")?.is("/metadata/deletionGracePeriodSeconds", 30)?;
            let again = c.get(&c.core("pods/a")).await?;
            again.status(200)?.has("/metadata/deletionTimestamp")?.is("/metadata/generation", 2)?;
            c.delete_with(&c.core("pods/a"), &json!({"gracePeriodSeconds": 0})).await?.status(200)?;
            c.get(&c.core("pods/a")).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("a shorter grace period may be asked for later, a longer one is not taken", |c| async move {
            bound(&c).await?;
            let path = c.core("pods/a");
            c.delete_with(&path, &json!({"gracePeriodSeconds": 20}))
                .await?
                .is("/metadata/deletionGracePeriodSeconds", 20)?;
            c.delete_with(&path, &json!({"gracePeriodSeconds": 50}))
                .await?
                .is("/metadata/deletionGracePeriodSeconds", 20)?;
            c.delete_with(&path, &json!({"gracePeriodSeconds": 5}))
                .await?
                .is("/metadata/deletionGracePeriodSeconds", 5)?;
            c.delete(&format!("{path}?gracePeriodSeconds=0")).await?.status(200)?;
            c.get(&path).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("an unknown propagation policy answers 422", |c| async move {
            c.config_map("a", json!({})).await?;
            let a = c.delete_with(&c.core("configmaps/a"), &json!({"propagationPolicy": "Sometimes"})).await?;
            a.invalid("propagationPolicy", "FieldValueNotSupported")?;
            Ok(())
        }),
        case("orphanDependents and propagationPolicy together answer 422", |c| async move {
            c.config_map("a", json!({})).await?;
            let a = c
                .delete_with(&c.core("configmaps/a"), &json!({"propagationPolicy": "Orphan", "orphanDependents": true}))
                .await?;
            a.failed(422, "Invalid")?;
            Ok(())
        }),
        case("kinds whose deletion answers the object, and kinds that answer a Status", |c| async move {
            let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
            c.make(&c.core("serviceaccounts"), &body).await?;
            c.delete(&c.core("serviceaccounts/a")).await?.status(200)?.is("/kind", "ServiceAccount")?;
            let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}});
            c.make(&c.core("services"), &body).await?;
            c.delete(&c.core("services/a")).await?.status(200)?.is("/kind", "Service")?;
            let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
            c.make(&c.core("secrets"), &body).await?;
            let a = c.delete(&c.core("secrets/a")).await?;
            a.status(200)?.is("/kind", "Status")?.is("/details/kind", "secrets")?;
            Ok(())
        }),
    ]
}

/// Makes pod `a` on a node.
async fn bound(c: &Case) -> anyhow::Result<()> {
    c.pod(&pod("a")).await?;
    let body = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
    c.post(&c.core("pods/a/binding"), &body).await?.status(201)?;
    Ok(())
}

fn finalizers() -> Vec<crate::Test> {
    vec![
        case("an object with finalizers is marked and waits for them", |c| async move {
            c.make(&c.core("configmaps"), &map("a", &json!({"finalizers": ["x.io/a", "x.io/b"]}))).await?;
            let path = c.core("configmaps/a");
            let a = c.delete(&path).await?;
            a.status(200)?.is("/kind", "ConfigMap")?.has("/metadata/deletionTimestamp")?;
            a.is("/metadata/deletionGracePeriodSeconds", 0)?;
            c.merge(&path, &json!({"metadata": {"finalizers": ["x.io/b"]}})).await?.status(200)?;
            c.get(&path).await?.status(200)?;
            let last = c.merge(&path, &json!({"metadata": {"finalizers": null}})).await?;
            last.status(200)?.lacks("/metadata/finalizers")?;
            c.get(&path).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("a second deletion of a waiting object keeps its time", |c| async move {
            c.make(&c.core("configmaps"), &map("a", &json!({"finalizers": ["x.io/a"]}))).await?;
            let path = c.core("configmaps/a");
            let first = c.delete(&path).await?;
            let second = c.delete(&path).await?;
            second.status(200)?.is("/metadata/deletionTimestamp", first.at("/metadata/deletionTimestamp").clone())?;
            c.merge(&path, &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case("no finalizer can be added to an object that is going away", |c| async move {
            c.make(&c.core("configmaps"), &map("a", &json!({"finalizers": ["x.io/a"]}))).await?;
            let path = c.core("configmaps/a");
            c.delete(&path).await?.status(200)?;
            let a = c.merge(&path, &json!({"metadata": {"finalizers": ["x.io/a", "x.io/b"]}})).await?;
            a.invalid("metadata.finalizers", "FieldValueForbidden")?;
            c.merge(&path, &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case("an object that is going away can be changed otherwise", |c| async move {
            c.make(&c.core("configmaps"), &map("a", &json!({"finalizers": ["x.io/a"]}))).await?;
            let path = c.core("configmaps/a");
            c.delete(&path).await?.status(200)?;
            c.merge(&path, &json!({"data": {"k": "v"}})).await?.status(200)?.is("/data/k", "v")?;
            c.merge(&path, &json!({"metadata": {"deletionTimestamp": null}}))
                .await?
                .status(200)?
                .has("/metadata/deletionTimestamp")?;
            c.merge(&path, &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case("the name is taken until the last finalizer is gone", |c| async move {
            c.make(&c.core("configmaps"), &map("a", &json!({"finalizers": ["x.io/a"]}))).await?;
            c.delete(&c.core("configmaps/a")).await?.status(200)?;
            let a = c.post(&c.core("configmaps"), &map("a", &json!({}))).await?;
            a.failed(409, "AlreadyExists")?
                .contains("/message", "object is being deleted: configmaps \"a\" already exists")?;
            c.merge(&c.core("configmaps/a"), &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            c.make(&c.core("configmaps"), &map("a", &json!({}))).await?;
            Ok(())
        }),
    ]
}

fn owners() -> Vec<crate::Test> {
    vec![
        case("background: the owner goes at once, its dependents afterwards", |c| async move {
            let owner = c.config_map("owner", json!({})).await?;
            c.make(&c.core("configmaps"), &map("child", &owned_by(&owner, true))).await?;
            c.delete_with(&c.core("configmaps/owner"), &json!({"propagationPolicy": "Background"}))
                .await?
                .status(200)?;
            c.get(&c.core("configmaps/owner")).await?.failed(404, "NotFound")?;
            c.until_gone(&c.core("configmaps/child")).await
        }),
        case("without a policy dependents go in the background", |c| async move {
            let owner = c.config_map("owner", json!({})).await?;
            c.make(&c.core("configmaps"), &map("child", &owned_by(&owner, false))).await?;
            c.delete(&c.core("configmaps/owner")).await?.status(200)?;
            c.until_gone(&c.core("configmaps/child")).await
        }),
        case("foreground: the owner waits for dependents that block it", |c| async move {
            let owner = c.config_map("owner", json!({})).await?;
            let mut metadata = owned_by(&owner, true);
            metadata["finalizers"] = json!(["x.io/a"]);
            c.make(&c.core("configmaps"), &map("child", &metadata)).await?;
            let a = c.delete_with(&c.core("configmaps/owner"), &json!({"propagationPolicy": "Foreground"})).await?;
            a.status(200)?
                .has("/metadata/deletionTimestamp")?
                .is("/metadata/finalizers", json!(["foregroundDeletion"]))?;
            let going = |a: &crate::Answer| !a.at("/metadata/deletionTimestamp").is_null();
            c.until(&c.core("configmaps/child"), "the dependent is being deleted", going).await?;
            c.get(&c.core("configmaps/owner")).await?.status(200)?;
            c.merge(&c.core("configmaps/child"), &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            c.until_gone(&c.core("configmaps/child")).await?;
            c.until_gone(&c.core("configmaps/owner")).await
        }),
        case("foreground: the owner does not wait for dependents that do not block it", |c| async move {
            let owner = c.config_map("owner", json!({})).await?;
            let mut metadata = owned_by(&owner, false);
            metadata["finalizers"] = json!(["x.io/a"]);
            c.make(&c.core("configmaps"), &map("child", &metadata)).await?;
            c.delete_with(&c.core("configmaps/owner"), &json!({"propagationPolicy": "Foreground"}))
                .await?
                .status(200)?;
            c.until_gone(&c.core("configmaps/owner")).await?;
            c.get(&c.core("configmaps/child")).await?.status(200)?;
            c.merge(&c.core("configmaps/child"), &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case("orphan: the dependents stay, without the owner", |c| async move {
            let owner = c.config_map("owner", json!({})).await?;
            c.make(&c.core("configmaps"), &map("child", &owned_by(&owner, true))).await?;
            let a = c.delete_with(&c.core("configmaps/owner"), &json!({"propagationPolicy": "Orphan"})).await?;
            a.status(200)?.is("/metadata/finalizers", json!(["orphan"]))?;
            c.until_gone(&c.core("configmaps/owner")).await?;
            let alone = |a: &crate::Answer| a.status == 200 && a.at("/metadata/ownerReferences").is_null();
            c.until(&c.core("configmaps/child"), "the dependent has no owner", alone).await.map(|_| ())
        }),
        case("the old orphanDependents still orphans", |c| async move {
            let owner = c.config_map("owner", json!({})).await?;
            c.make(&c.core("configmaps"), &map("child", &owned_by(&owner, true))).await?;
            c.delete_with(&c.core("configmaps/owner"), &json!({"orphanDependents": true})).await?.status(200)?;
            c.until_gone(&c.core("configmaps/owner")).await?;
            c.get(&c.core("configmaps/child")).await?.status(200)?;
            Ok(())
        }),
        case("a dependent of two owners stays until both are gone", |c| async move {
            let one = c.config_map("one", json!({})).await?;
            let two = c.config_map("two", json!({})).await?;
            let mut metadata = owned_by(&one, false);
            metadata["ownerReferences"] =
                json!([metadata["ownerReferences"][0], owned_by(&two, false)["ownerReferences"][0]]);
            c.make(&c.core("configmaps"), &map("child", &metadata)).await?;
            c.delete(&c.core("configmaps/one")).await?.status(200)?;
            let single = |a: &crate::Answer| a.status == 200 && a.at("/metadata/ownerReferences/1").is_null();
            c.until(&c.core("configmaps/child"), "one owner is left", single).await?;
            c.delete(&c.core("configmaps/two")).await?.status(200)?;
            c.until_gone(&c.core("configmaps/child")).await
        }),
        case("an object whose owner never was is collected", |c| async move {
            let owner = json!({"metadata": {"name": "never", "uid": "11111111-2222-3333-4444-555555555555"}});
            c.make(&c.core("configmaps"), &map("child", &owned_by(&owner, false))).await?;
            c.until_gone(&c.core("configmaps/child")).await
        }),
        case("dependents of dependents go too", |c| async move {
            let first = c.config_map("first", json!({})).await?;
            let second = c.make(&c.core("configmaps"), &map("second", &owned_by(&first, true))).await?;
            c.make(&c.core("configmaps"), &map("third", &owned_by(&second, true))).await?;
            c.delete_with(&c.core("configmaps/first"), &json!({"propagationPolicy": "Foreground"}))
                .await?
                .status(200)?;
            for name in ["third", "second", "first"] {
                c.until_gone(&c.core(&format!("configmaps/{name}"))).await?;
            }
            Ok(())
        }),
    ]
}

fn collections() -> Vec<crate::Test> {
    vec![
        case("deletecollection takes what the selector selects", |c| async move {
            for (name, labels) in [("a", json!({"x": "1"})), ("b", json!({"x": "1"})), ("c", json!({"x": "2"}))] {
                c.make(&c.core("configmaps"), &map(name, &json!({"labels": labels}))).await?;
            }
            let a = c.delete(&c.core("configmaps?labelSelector=x%3D1")).await?;
            a.lists(&["a", "b"])?.is("/kind", "ConfigMapList")?;
            c.get(&c.core("configmaps?labelSelector=x")).await?.lists(&["c"])?;
            Ok(())
        }),
        case("deletecollection by field selector", |c| async move {
            for name in ["a", "b"] {
                c.config_map(name, json!({})).await?;
            }
            c.delete(&c.core("configmaps?fieldSelector=metadata.name%3Db")).await?.lists(&["b"])?;
            c.get(&c.core("configmaps/a")).await?.status(200)?;
            c.get(&c.core("configmaps/b")).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("deletecollection leaves other namespaces alone", |c| async move {
            c.config_map("a", json!({})).await?;
            let other = c.name("other");
            c.make(
                "/api/v1/namespaces",
                &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}),
            )
            .await?;
            c.make(
                &format!("/api/v1/namespaces/{other}/secrets"),
                &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}),
            )
            .await?;
            c.delete(&c.core("secrets")).await?.status(200)?;
            c.get(&format!("/api/v1/namespaces/{other}/secrets/s")).await?.status(200)?;
            Ok(())
        }),
        case("deletecollection with dryRun deletes nothing", |c| async move {
            c.config_map("a", json!({})).await?;
            c.delete(&c.core("configmaps?dryRun=All")).await?.status(200)?;
            c.get(&c.core("configmaps/a")).await?.status(200)?;
            Ok(())
        }),
    ]
}
