//! Deployments, replica sets, stateful sets, daemon sets: defaults, selectors, generation; claims and budgets.

use serde_json::{Value, json};

use crate::case::{Case, Chapter, case, deployment};

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = workloads();
    cases.extend(claims());
    Chapter { name: "workloads", cases }
}

fn of_kind(kind: &str) -> Value {
    let mut body = deployment("a");
    body["kind"] = kind.into();
    body
}

fn workloads() -> Vec<crate::Test> {
    vec![
        case("a deployment gets its defaults", |c| async move {
            let mut body = deployment("a");
            body["spec"].as_object_mut().map(|s| s.remove("replicas"));
            let a = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            a.status(201)?
                .is("/spec/replicas", 1)?
                .is("/spec/revisionHistoryLimit", 10)?
                .is("/spec/progressDeadlineSeconds", 600)?;
            a.is(
                "/spec/strategy",
                json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}),
            )?;
            a.is("/spec/template/metadata", json!({"creationTimestamp": null, "labels": {"app": "a"}}))
                .or_else(|_| a.is("/spec/template/metadata", json!({"labels": {"app": "a"}})))?;
            a.is("/status", json!({}))?.is("/metadata/generation", 1)?;
            Ok(())
        }),
        case("a strategy Recreate has no rolling part", |c| async move {
            let mut body = deployment("a");
            body["spec"]["strategy"] = json!({"type": "Recreate"});
            let a = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            a.status(201)?.is("/spec/strategy", json!({"type": "Recreate"}))?;
            Ok(())
        }),
        case("a selector has to match the template's labels", |c| async move {
            for (kind, plural) in [
                ("Deployment", "deployments"),
                ("ReplicaSet", "replicasets"),
                ("StatefulSet", "statefulsets"),
                ("DaemonSet", "daemonsets"),
            ] {
                let mut body = of_kind(kind);
                if kind == "DaemonSet" {
                    body["spec"].as_object_mut().map(|s| s.remove("replicas"));
                }
                body["spec"]["template"]["metadata"]["labels"] = json!({"app": "b"});
                let a = c.post(&c.group("apps/v1", plural), &body).await?;
                a.invalid("spec.template.metadata.labels", "FieldValueInvalid")?;
                a.contains("/message", "`selector` does not match template `labels`")?;
            }
            Ok(())
        }),
        case("a selector is required and not empty", |c| async move {
            let mut body = deployment("a");
            body["spec"].as_object_mut().map(|s| s.remove("selector"));
            let a = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            a.invalid("spec.selector", "FieldValueRequired")?;
            let mut body = deployment("a");
            body["spec"]["selector"] = json!({});
            let a = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            a.invalid("spec.selector", "FieldValueInvalid")?;
            Ok(())
        }),
        case("a selector cannot be changed", |c| async move {
            for (kind, plural) in [("Deployment", "deployments"), ("ReplicaSet", "replicasets")] {
                c.make(&c.group("apps/v1", plural), &of_kind(kind)).await?;
                let patch = json!({"spec": {"selector": {"matchLabels": {"app": "b"}}, "template": {"metadata": {"labels": {"app": "b"}}}}});
                let a = c.merge(&c.group("apps/v1", &format!("{plural}/a")), &patch).await?;
                a.invalid("spec.selector", "FieldValueInvalid")?.contains("/message", "field is immutable")?;
            }
            Ok(())
        }),
        case("of a stateful set only some fields can be changed", |c| async move {
            let mut body = of_kind("StatefulSet");
            body["spec"]["serviceName"] = "s".into();
            c.make(&c.group("apps/v1", "statefulsets"), &body).await?;
            let path = c.group("apps/v1", "statefulsets/a");
            c.merge(&path, &json!({"spec": {"replicas": 3}})).await?.status(200)?.is("/metadata/generation", 2)?;
            let a = c.merge(&path, &json!({"spec": {"serviceName": "t"}})).await?;
            a.invalid("spec", "FieldValueForbidden")?
                .contains("/message", "updates to statefulset spec for fields other than")?;
            Ok(())
        }),
        case("a stateful set gets its defaults", |c| async move {
            let mut body = of_kind("StatefulSet");
            body["spec"]["serviceName"] = "s".into();
            let a = c.post(&c.group("apps/v1", "statefulsets"), &body).await?;
            a.status(201)?.is("/spec/podManagementPolicy", "OrderedReady")?;
            a.is("/spec/updateStrategy", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}))?;
            Ok(())
        }),
        case("a daemon set has no count and gets its strategy", |c| async move {
            let mut body = of_kind("DaemonSet");
            body["spec"].as_object_mut().map(|s| s.remove("replicas"));
            let a = c.post(&c.group("apps/v1", "daemonsets"), &body).await?;
            a.status(201)?.lacks("/spec/replicas")?.is("/spec/updateStrategy/type", "RollingUpdate")?;
            c.get(&c.group("apps/v1", "daemonsets/a/scale")).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("negative counts answer 422", |c| async move {
            let mut body = deployment("a");
            body["spec"]["replicas"] = (-1).into();
            let a = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            a.invalid("spec.replicas", "FieldValueInvalid")?
                .contains("/message", "must be greater than or equal to 0")?;
            Ok(())
        }),
        case("a template restarts its pods always", |c| async move {
            let mut body = deployment("a");
            body["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
            let a = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            a.invalid("spec.template.spec.restartPolicy", "FieldValueNotSupported")?;
            Ok(())
        }),
    ]
}

fn claim(c: &Case, spec: Value) -> (String, Value) {
    let path = c.core("persistentvolumeclaims");
    (path, json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a"}, "spec": spec}))
}

fn claims() -> Vec<crate::Test> {
    vec![
        case("a claim is pending, of mode Filesystem", |c| async move {
            let (path, body) = claim(
                &c,
                json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "resources": {"requests": {"storage": "1Gi"}}}),
            );
            let a = c.post(&path, &body).await?;
            a.status(201)?.is("/status", json!({"phase": "Pending"}))?.is("/spec/volumeMode", "Filesystem")?;
            Ok(())
        }),
        case("a claim needs modes and a size", |c| async move {
            let (path, body) = claim(&c, json!({"resources": {"requests": {"storage": "1Gi"}}}));
            c.post(&path, &body).await?.invalid("spec.accessModes", "FieldValueRequired")?;
            let (path, body) = claim(&c, json!({"accessModes": ["ReadWriteOnce"]}));
            c.post(&path, &body).await?.invalid("spec.resources[storage]", "FieldValueRequired")?;
            let (path, body) =
                claim(&c, json!({"accessModes": ["Nonsense"], "resources": {"requests": {"storage": "1Gi"}}}));
            c.post(&path, &body).await?.invalid("spec.accessModes", "FieldValueNotSupported")?;
            Ok(())
        }),
        case("a claim's class and modes cannot be changed", |c| async move {
            let (path, body) = claim(
                &c,
                json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "resources": {"requests": {"storage": "1Gi"}}}),
            );
            c.make(&path, &body).await?;
            let a = c.merge(&format!("{path}/a"), &json!({"spec": {"storageClassName": "y"}})).await?;
            a.invalid("spec", "FieldValueForbidden")?
                .contains("/message", "spec is immutable after creation except resources.requests")?;
            let a = c.merge(&format!("{path}/a"), &json!({"spec": {"accessModes": ["ReadWriteMany"]}})).await?;
            a.invalid("spec", "FieldValueForbidden")?;
            Ok(())
        }),
        case("a claim that is used no more goes at once", |c| async move {
            let (path, body) = claim(
                &c,
                json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "x", "resources": {"requests": {"storage": "1Gi"}}}),
            );
            c.make(&path, &body).await?;
            c.delete(&format!("{path}/a")).await?.status(200)?;
            c.until_gone(&format!("{path}/a")).await
        }),
        case("a budget has one of two forms", |c| async move {
            let path = c.group("policy/v1", "poddisruptionbudgets");
            let body = |spec: Value| json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"}, "spec": spec});
            let both = json!({"minAvailable": 1, "maxUnavailable": 1, "selector": {"matchLabels": {"a": "b"}}});
            c.post(&path, &body(both))
                .await?
                .failed(422, "Invalid")?
                .contains("/message", "minAvailable and maxUnavailable cannot be both set")?;
            let a =
                c.post(&path, &body(json!({"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}))).await?;
            a.status(201)?.is("/metadata/generation", 1)?;
            Ok(())
        }),
    ]
}
