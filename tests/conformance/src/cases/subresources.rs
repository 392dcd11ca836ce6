//! Subresources: status, scale, eviction, binding, token.

use serde_json::json;

use crate::case::{Case, Chapter, case, deployment, pod};

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = status();
    cases.extend(scale());
    cases.extend(pods());
    cases.extend(tokens());
    Chapter { name: "subresources", cases }
}

async fn deployed(c: &Case) -> anyhow::Result<serde_json::Value> {
    c.make(&c.group("apps/v1", "deployments"), &deployment("a")).await
}

fn status() -> Vec<crate::Test> {
    vec![
        case("status on create is dropped", |c| async move {
            let mut body = deployment("a");
            body["status"] = json!({"replicas": 7});
            let a = c.post(&c.group("apps/v1", "deployments"), &body).await?;
            a.status(201)?.lacks("/status/replicas")?;
            Ok(())
        }),
        case("an update of the object leaves the status as it is", |c| async move {
            deployed(&c).await?;
            let path = c.group("apps/v1", "deployments/a");
            c.merge(&format!("{path}/status"), &json!({"status": {"replicas": 3}})).await?.status(200)?;
            let a = c.merge(&path, &json!({"spec": {"replicas": 2}, "status": {"replicas": 9}})).await?;
            a.status(200)?.is("/spec/replicas", 2)?.is("/status/replicas", 3)?;
            Ok(())
        }),
        case("an update of the status leaves spec and labels as they are", |c| async move {
            let mut made = deployed(&c).await?;
            made["spec"]["replicas"] = 9.into();
            made["metadata"]["labels"] = json!({"x": "y"});
            made["status"] = json!({"observedGeneration": 1, "replicas": 1});
            let a = c.put(&c.group("apps/v1", "deployments/a/status"), &made).await?;
            a.status(200)?.is("/spec/replicas", 1)?.lacks("/metadata/labels")?;
            a.is("/status/replicas", 1)?.is("/status/observedGeneration", 1)?;
            Ok(())
        }),
        case("get of the status answers the whole object", |c| async move {
            deployed(&c).await?;
            let a = c.get(&c.group("apps/v1", "deployments/a/status")).await?;
            a.status(200)?.is("/kind", "Deployment")?.has("/spec/template")?.has("/status")?;
            Ok(())
        }),
        case("a status path has neither create nor delete", |c| async move {
            let made = deployed(&c).await?;
            let path = c.group("apps/v1", "deployments/a/status");
            c.post(&path, &made).await?.failed(405, "MethodNotAllowed")?;
            c.delete(&path).await?.failed(405, "MethodNotAllowed")?;
            Ok(())
        }),
        case("conditions are merged by type in a strategic patch of the status", |c| async move {
            c.pod(&pod("a")).await?;
            let path = c.core("pods/a/status");
            let condition =
                |kind: &str, value: &str| json!({"status": {"conditions": [{"type": kind, "status": value}]}});
            c.patch(&path, "strategic-merge-patch+json", &condition("Ready", "False")).await?.status(200)?;
            c.patch(&path, "strategic-merge-patch+json", &condition("Custom", "True")).await?.status(200)?;
            let a = c.patch(&path, "strategic-merge-patch+json", &condition("Ready", "True")).await?;
            let list = a.status(200)?.at("/status/conditions").as_array().cloned().unwrap_or_default();
            let value =
                |kind: &str| list.iter().find(|x| x["type"] == kind).map(|x| x["status"].clone()).unwrap_or_default();
            a.holds(list.len() == 2 && value("Ready") == "True" && value("Custom") == "True", "two conditions")?;
            Ok(())
        }),
        case("finalizers of an object can be changed through its status path too", |c| async move {
            deployed(&c).await?;
            let path = c.group("apps/v1", "deployments/a/status");
            let a = c.merge(&path, &json!({"metadata": {"finalizers": ["x.io/a"], "annotations": {"a": "b"}}})).await?;
            a.status(200)?.lacks("/metadata/labels")?;
            c.merge(&c.group("apps/v1", "deployments/a"), &json!({"metadata": {"finalizers": null}}))
                .await?
                .status(200)?;
            Ok(())
        }),
    ]
}

fn scale() -> Vec<crate::Test> {
    vec![
        case("get of the scale shows wanted and actual count and the selector", |c| async move {
            deployed(&c).await?;
            let path = c.group("apps/v1", "deployments/a");
            c.merge(&format!("{path}/status"), &json!({"status": {"replicas": 1}})).await?.status(200)?;
            let a = c.get(&format!("{path}/scale")).await?;
            a.status(200)?.is("/kind", "Scale")?.is("/apiVersion", "autoscaling/v1")?.is("/metadata/name", "a")?;
            a.is("/spec", json!({"replicas": 1}))?.is("/status", json!({"replicas": 1, "selector": "app=a"}))?;
            let whole = c.get(&path).await?;
            a.is("/metadata/uid", whole.at("/metadata/uid").clone())?;
            a.is("/metadata/resourceVersion", whole.version())?;
            Ok(())
        }),
        case("an update of the scale changes the object's count", |c| async move {
            deployed(&c).await?;
            let path = c.group("apps/v1", "deployments/a");
            let mut scale = c.get(&format!("{path}/scale")).await?.json;
            scale["spec"]["replicas"] = 5.into();
            c.put(&format!("{path}/scale"), &scale).await?.status(200)?.is("/spec/replicas", 5)?;
            c.get(&path).await?.is("/spec/replicas", 5)?.is("/metadata/generation", 2)?;
            c.put(&format!("{path}/scale"), &scale).await?.failed(409, "Conflict")?;
            Ok(())
        }),
        case("a merge patch of the scale changes the object's count", |c| async move {
            deployed(&c).await?;
            let path = c.group("apps/v1", "deployments/a");
            c.merge(&format!("{path}/scale"), &json!({"spec": {"replicas": 3}}))
                .await?
                .status(200)?
                .is("/spec/replicas", 3)?;
            c.get(&path).await?.is("/spec/replicas", 3)?;
            Ok(())
        }),
        case("a negative count answers 422", |c| async move {
            deployed(&c).await?;
            let a = c.merge(&c.group("apps/v1", "deployments/a/scale"), &json!({"spec": {"replicas": -1}})).await?;
            a.invalid("spec.replicas", "FieldValueInvalid")?;
            Ok(())
        }),
        case("the scale of an object that does not exist answers 404", |c| async move {
            c.get(&c.group("apps/v1", "deployments/none/scale")).await?.failed(404, "NotFound")?;
            Ok(())
        }),
    ]
}

fn pods() -> Vec<crate::Test> {
    vec![
        case("a binding gives a pod its node", |c| async move {
            c.pod(&pod("a")).await?;
            let body = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
            let a = c.post(&c.core("pods/a/binding"), &body).await?;
            a.status(201)?.is("/kind", "Status")?.is("/status", "Success")?;
            let bound = c.get(&c.core("pods/a")).await?;
            bound.is("/spec/nodeName", "n1")?;
            let scheduled = bound.at("/status/conditions").as_array().cloned().unwrap_or_default();
            bound.holds(
                scheduled.iter().any(|x| x["type"] == "PodScheduled" && x["status"] == "True"),
                "PodScheduled",
            )?;
            c.delete_with(&c.core("pods/a"), &json!({"gracePeriodSeconds": 0})).await?.status(200)?;
            Ok(())
        }),
        case("a second binding answers 409", |c| async move {
            c.pod(&pod("a")).await?;
            let body = |node: &str| json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": node}});
            c.post(&c.core("pods/a/binding"), &body("n1")).await?.status(201)?;
            let a = c.post(&c.core("pods/a/binding"), &body("n2")).await?;
            a.failed(409, "Conflict")?.contains("/message", "pod a is already assigned to node \"n1\"")?;
            c.delete_with(&c.core("pods/a"), &json!({"gracePeriodSeconds": 0})).await?.status(200)?;
            Ok(())
        }),
        case("an eviction deletes the pod", |c| async move {
            c.pod(&pod("a")).await?;
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
            let a = c.post(&c.core("pods/a/eviction"), &body).await?;
            a.status(201)?.is("/kind", "Status")?.is("/status", "Success")?.is("/code", 201)?;
            c.until_gone(&c.core("pods/a")).await
        }),
        case("an eviction of a pod that does not exist answers 404", |c| async move {
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "none"}});
            c.post(&c.core("pods/none/eviction"), &body).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("an eviction that a disruption budget forbids answers 429", |c| async move {
            let mut body = pod("a");
            body["metadata"]["labels"] = json!({"app": "a"});
            c.pod(&body).await?;
            // budgets guard pods that run and are ready
            let bind = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
            c.post(&c.core("pods/a/binding"), &bind).await?.status(201)?;
            let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
            c.patch(&c.core("pods/a/status"), "strategic-merge-patch+json", &status).await?.status(200)?;
            let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
            let path = c.group("policy/v1", "poddisruptionbudgets");
            c.make(&path, &budget).await?;
            // where no controller looks after budgets their status says as much
            let known = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
            c.merge(&format!("{path}/b/status"), &known).await?.status(200)?;
            let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}});
            let a = c.post(&c.core("pods/a/eviction"), &body).await?;
            a.failed(429, "TooManyRequests")?
                .says("Cannot evict pod as it would violate the pod's disruption budget.")?;
            a.is("/details/causes/0/reason", "DisruptionBudget")?;
            c.delete_with(&c.core("pods/a"), &json!({"gracePeriodSeconds": 0})).await?.status(200)?;
            Ok(())
        }),
        case("ephemeral containers are added through their own path", |c| async move {
            c.pod(&pod("a")).await?;
            let patch = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "i", "targetContainerName": "main"}]}});
            let a = c.patch(&c.core("pods/a"), "strategic-merge-patch+json", &patch).await?;
            a.failed(422, "Invalid")?;
            let a = c.patch(&c.core("pods/a/ephemeralcontainers"), "strategic-merge-patch+json", &patch).await?;
            a.status(200)?.is("/spec/ephemeralContainers/0/name", "debug")?;
            Ok(())
        }),
    ]
}

fn tokens() -> Vec<crate::Test> {
    vec![
        case("a token is made for a service account", |c| async move {
            let account = c.core("serviceaccounts/default");
            c.until(&account, "the account is there", |a| a.status == 200).await?;
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
            let a = c.post(&format!("{account}/token"), &body).await?;
            a.status(201)?
                .is("/kind", "TokenRequest")?
                .is("/spec/expirationSeconds", 600)?
                .has("/status/expirationTimestamp")?;
            a.has("/spec/audiences/0")?.is("/metadata/name", "default")?.is("/metadata/namespace", c.ns())?;
            let token = a.text("/status/token").to_string();
            a.holds(token.split('.').count() == 3, "a JSON web token")?;
            let review =
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
            let a = c.post("/apis/authentication.k8s.io/v1/tokenreviews", &review).await?;
            a.status(201)?.is("/status/authenticated", true)?;
            a.is("/status/user/username", format!("system:serviceaccount:{}:default", c.ns()))?;
            Ok(())
        }),
        case("a token for less than ten minutes answers 422", |c| async move {
            let account = c.core("serviceaccounts/default");
            c.until(&account, "the account is there", |a| a.status == 200).await?;
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 60}});
            let a = c.post(&format!("{account}/token"), &body).await?;
            a.invalid("spec.expirationSeconds", "FieldValueInvalid")?;
            Ok(())
        }),
        case("a token for an account that does not exist answers 404", |c| async move {
            let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
            c.post(&c.core("serviceaccounts/none/token"), &body).await?.failed(404, "NotFound")?;
            Ok(())
        }),
    ]
}
