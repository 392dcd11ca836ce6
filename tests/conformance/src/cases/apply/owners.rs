//! Entries of `managedFields`: by apply, update, patch and subresource; how they come, go and are put together.

use serde_json::json;

use super::{deployment, map, owned_by, owners, owns, path};
use crate::case::{Test, case, config_map};

/// The cases.
pub fn cases() -> Vec<Test> {
    vec![
        case("apply makes an object that is not there and owns what it says", |c| async move {
            let a = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            a.status(201)?.is("/data", json!({"k": "1"}))?;
            owned_by(&a, &["m Apply"])?;
            owns(&a, "m Apply", &json!({"f:data": {"f:k": {}}}))?;
            a.is("/metadata/managedFields/0/apiVersion", "v1")?
                .is("/metadata/managedFields/0/fieldsType", "FieldsV1")?
                .has("/metadata/managedFields/0/time")?;
            Ok(())
        }),
        case("the same apply again changes nothing", |c| async move {
            let first = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            let again = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            again.status(200)?.is("/metadata", first.at("/metadata").clone())?;
            Ok(())
        }),
        case("a field that is applied no more is taken back", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1", "l": "2"}))).await?.status(201)?;
            let a = c.apply(&path(&c), "m", &map(json!({"l": "2"}))).await?;
            a.status(200)?.is("/data", json!({"l": "2"}))?;
            owns(&a, "m Apply", &json!({"f:data": {"f:l": {}}}))?;
            Ok(())
        }),
        case("a field that another manager applies too stays when one lets it go", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1", "l": "2"}))).await?.status(201)?;
            c.apply(&path(&c), "n", &map(json!({"k": "1"}))).await?.status(200)?;
            let a = c.apply(&path(&c), "m", &map(json!({"l": "2"}))).await?;
            a.status(200)?.is("/data", json!({"k": "1", "l": "2"}))?;
            owns(&a, "n Apply", &json!({"f:data": {"f:k": {}}}))?;
            Ok(())
        }),
        case("a field that an update made stays when an applier never had it", |c| async move {
            c.config_map("a", json!({"k": "1"})).await?;
            c.apply(&path(&c), "m", &map(json!({"l": "2"}))).await?.status(200)?;
            let a = c.apply(&path(&c), "m", &map(json!({}))).await?;
            a.status(200)?.is("/data", json!({"k": "1"}))?;
            Ok(())
        }),
        case("a manager that applies nothing owns nothing", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?.status(201)?;
            c.apply(&path(&c), "n", &map(json!({"l": "1"}))).await?.status(200)?;
            let bare = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
            let a = c.apply(&path(&c), "n", &bare).await?;
            a.status(200)?.is("/data", json!({"k": "1"}))?;
            owned_by(&a, &["m Apply"])?;
            Ok(())
        }),
        case("create notes its maker as an updater", |c| async move {
            let a = c.post(&c.core("configmaps?fieldManager=m"), &config_map("a", json!({"k": "1"}))).await?;
            owned_by(a.status(201)?, &["m Update"])?;
            owns(&a, "m Update", &json!({"f:data": {".": {}, "f:k": {}}}))?;
            Ok(())
        }),
        case("without a field manager the program in the user agent is the manager", |c| async move {
            let request = c.request("POST", &c.core("configmaps")).header("user-agent", "prog/v1.2 (linux)");
            let a = request.json(&config_map("a", json!({"k": "1"}))).send().await?;
            owned_by(a.status(201)?, &["prog Update"])?;
            Ok(())
        }),
        case("an update takes what it changes from the applier", |c| async move {
            let made = c.apply(&path(&c), "m", &map(json!({"k": "1", "l": "1"}))).await?;
            let mut object = made.json.clone();
            object["data"]["k"] = "2".into();
            let a = c.put(&format!("{}?fieldManager=u", path(&c)), &object).await?;
            owned_by(a.status(200)?, &["m Apply", "u Update"])?;
            owns(&a, "m Apply", &json!({"f:data": {"f:l": {}}}))?;
            owns(&a, "u Update", &json!({"f:data": {"f:k": {}}}))?;
            Ok(())
        }),
        case("what an update removes belongs to nobody", |c| async move {
            let made = c.apply(&path(&c), "m", &map(json!({"k": "1", "l": "1"}))).await?;
            let mut object = made.json.clone();
            object["data"] = json!({"l": "1"});
            let a = c.put(&format!("{}?fieldManager=u", path(&c)), &object).await?;
            owned_by(a.status(200)?, &["m Apply"])?;
            owns(&a, "m Apply", &json!({"f:data": {"f:l": {}}}))?;
            Ok(())
        }),
        case("patches of a manager add to its entry", |c| async move {
            c.config_map("a", json!({"k": "1"})).await?;
            let path = format!("{}?fieldManager=u", path(&c));
            c.merge(&path, &json!({"data": {"l": "1"}})).await?.status(200)?;
            let a = c.patch(&path, "json-patch+json", &json!([{"op": "add", "path": "/data/m", "value": "1"}])).await?;
            owns(a.status(200)?, "u Update", &json!({"f:data": {"f:l": {}, "f:m": {}}}))?;
            Ok(())
        }),
        case("labels, annotations and finalizers are owned one by one", |c| async move {
            let meta = json!({"name": "a", "labels": {"x": "1"}, "annotations": {"y": "1"}, "finalizers": ["ex.io/f"]});
            let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta});
            let a = c.apply(&path(&c), "m", &body).await?;
            let wanted = json!({"f:metadata": {
                "f:annotations": {"f:y": {}}, "f:finalizers": {"v:\"ex.io/f\"": {}}, "f:labels": {"f:x": {}}}});
            owns(a.status(201)?, "m Apply", &wanted)?;
            let body =
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "finalizers": ["ex.io/g"]}});
            let a = c.apply(&path(&c), "n", &body).await?;
            a.status(200)?.is("/metadata/finalizers", json!(["ex.io/f", "ex.io/g"]))?;
            let a = c.apply(&path(&c), "m", &map(json!({}))).await?;
            a.status(200)?.is("/metadata/finalizers", json!(["ex.io/g"]))?.lacks("/metadata/labels")?;
            c.merge(&path(&c), &json!({"metadata": {"finalizers": null}})).await?.status(200)?;
            Ok(())
        }),
        case(
            "what the server fills in belongs to the manager that makes the object by create, not by apply",
            |c| async move {
                let service = |name: &str| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
                let a = c.post(&c.core("services?fieldManager=u"), &service("a")).await?;
                let wanted = json!({"f:spec": {
                "f:internalTrafficPolicy": {}, "f:selector": {}, "f:sessionAffinity": {}, "f:type": {},
                "f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:protocol": {}, "f:targetPort": {}}}}});
                owns(a.status(201)?, "u Update", &wanted)?;
                let a = c.apply(&c.core("services/b"), "m", &service("b")).await?;
                let wanted = json!({"f:spec": {"f:selector": {}, "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}});
                owns(a.status(201)?, "m Apply", &wanted)?;
                Ok(())
            },
        ),
        case("a deployment's entry by create has the fields that the server filled in", |c| async move {
            let body = deployment(json!([{"name": "c", "image": "i"}]));
            let a = c.post(&c.group("apps/v1", "deployments?fieldManager=u"), &body).await?;
            let wanted = json!({"f:spec": {
                "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
                "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
                    "f:containers": {"k:{\"name\":\"c\"}": {
                        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
                        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}}},
                    "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {}, "f:securityContext": {},
                    "f:terminationGracePeriodSeconds": {}}}}});
            owns(a.status(201)?, "u Update", &wanted)?;
            Ok(())
        }),
        case("the status path has an entry of its own", |c| async move {
            let pod = crate::case::pod("a");
            c.make(&c.core("pods"), &pod).await?;
            let status =
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {"message": "hi"}});
            let a = c.apply(&c.core("pods/a/status"), "m", &status).await?;
            a.status(200)?.is("/status/message", "hi")?;
            owns(&a, "m Apply status", &json!({"f:status": {"f:message": {}}}))?;
            a.holds(owners(&a).len() == 2, "the creator and the applier")?;
            Ok(())
        }),
        case("the scale path's update is noted under scale", |c| async move {
            let mut body = deployment(json!([{"name": "c", "image": "i"}]));
            body["spec"]["replicas"] = 1.into();
            c.apply(&c.group("apps/v1", "deployments/a"), "m", &body).await?.status(201)?;
            let scale = c.group("apps/v1", "deployments/a/scale?fieldManager=u");
            c.merge(&scale, &json!({"spec": {"replicas": 3}})).await?.status(200)?;
            let a = c.get(&c.group("apps/v1", "deployments/a")).await?;
            owns(&a, "u Update scale", &json!({"f:spec": {"f:replicas": {}}}))?;
            Ok(())
        }),
        case("a list of one empty entry resets who manages what", |c| async move {
            c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?.status(201)?;
            let a = c.merge(&path(&c), &json!({"metadata": {"managedFields": [{}]}})).await?;
            a.status(200)?.lacks("/metadata/managedFields")?;
            let a = c.merge(&path(&c), &json!({"data": {"l": "1"}})).await?;
            a.status(200)?.lacks("/metadata/managedFields")?;
            Ok(())
        }),
        case("an update with an empty list resets who manages what", |c| async move {
            let made = c.apply(&path(&c), "m", &map(json!({"k": "1"}))).await?;
            let mut object = made.json.clone();
            object["metadata"]["managedFields"] = json!([]);
            c.put(&path(&c), &object).await?.status(200)?.lacks("/metadata/managedFields")?;
            Ok(())
        }),
        case("the first apply to an untracked object leaves its fields to before-first-apply", |c| async move {
            c.config_map("a", json!({"k": "1"})).await?;
            c.merge(&path(&c), &json!({"metadata": {"managedFields": [{}]}})).await?.status(200)?;
            let a = c.apply(&path(&c), "m", &map(json!({"l": "1"}))).await?;
            owned_by(a.status(200)?, &["m Apply", "before-first-apply Update"])?;
            owns(&a, "before-first-apply Update", &json!({"f:data": {".": {}, "f:k": {}}}))?;
            Ok(())
        }),
        case("a client may write the entries itself", |c| async move {
            let made = c.config_map("a", json!({"k": "1"})).await?;
            let mut entries = made["metadata"]["managedFields"].clone();
            entries[0]["manager"] = "other".into();
            entries[0]["operation"] = "Apply".into();
            let patch = json!([{"op": "replace", "path": "/metadata/managedFields", "value": entries}]);
            let a = c.patch(&path(&c), "json-patch+json", &patch).await?;
            owned_by(a.status(200)?, &["other Apply"])?;
            let a = c.apply(&path(&c), "other", &map(json!({}))).await?;
            a.status(200)?.lacks("/data")?;
            Ok(())
        }),
        case("of more than ten updaters the oldest are put together", |c| async move {
            c.config_map("a", json!({"k": "1"})).await?;
            for n in 0..12 {
                let path = format!("{}?fieldManager=u{n:02}", path(&c));
                c.merge(&path, &json!({"data": {format!("k{n:02}"): "1"}})).await?.status(200)?;
            }
            let a = c.get(&path(&c)).await?;
            let owners = owners(&a);
            a.holds(
                owners.len() == 10 && owners.contains(&"ancient-changes Update".to_string()),
                format_args!("ten managers, got {owners:?}"),
            )?;
            Ok(())
        }),
    ]
}
