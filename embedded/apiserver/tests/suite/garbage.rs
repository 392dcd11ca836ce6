use serde_json::{Value, json};

use crate::Fixture;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn owner(f: &Fixture) -> Value {
    f.post(MAPS, &json!({"metadata": {"name": "owner"}})).await.1
}

async fn child(f: &Fixture, name: &str, owner: &Value) {
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"], "blockOwnerDeletion": true});
    let (code, made) = f.post(MAPS, &json!({"metadata": {"name": name, "ownerReferences": [reference]}})).await;
    assert_eq!(code, 201, "{made}");
}

#[tokio::test]
async fn dependents_follow_their_owner() {
    let f = Fixture::start().await;
    child(&f, "child", &owner(&f).await).await;
    f.delete(&format!("{MAPS}/owner")).await;
    f.until(&format!("{MAPS}/child"), "the dependent goes", |code, _| code == 404).await;
    // a dependent whose owner never was goes too
    child(&f, "late", &json!({"metadata": {"uid": "gone"}})).await;
    f.until(&format!("{MAPS}/late"), "the dependent goes", |code, _| code == 404).await;
}

#[tokio::test]
async fn foreground_waits_and_orphan_keeps() {
    let f = Fixture::start().await;
    child(&f, "child", &owner(&f).await).await;
    f.send(
        "PATCH",
        &format!("{MAPS}/child"),
        "application/merge-patch+json",
        Some(&json!({"metadata": {"finalizers": ["ex.io/wait"]}})),
    )
    .await;
    let (_, waiting) = f.delete(&format!("{MAPS}/owner?propagationPolicy=Foreground")).await;
    assert_eq!(waiting["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    f.until(&format!("{MAPS}/child"), "the dependent is being deleted", |_, v| {
        v["metadata"]["deletionTimestamp"].is_string()
    })
    .await;
    assert_eq!(f.get(&format!("{MAPS}/owner")).await.0, 200);
    f.send(
        "PATCH",
        &format!("{MAPS}/child"),
        "application/merge-patch+json",
        Some(&json!({"metadata": {"finalizers": null}})),
    )
    .await;
    f.until(&format!("{MAPS}/owner"), "the owner goes", |code, _| code == 404).await;
    assert_eq!(f.get(&format!("{MAPS}/child")).await.0, 404);

    child(&f, "kept", &owner(&f).await).await;
    f.delete(&format!("{MAPS}/owner?propagationPolicy=Orphan")).await;
    f.until(&format!("{MAPS}/owner"), "the owner goes", |code, _| code == 404).await;
    let (code, kept) = f.get(&format!("{MAPS}/kept")).await;
    assert_eq!((code, kept["metadata"].get("ownerReferences")), (200, None));
}

#[tokio::test]
async fn finalizers_hold_an_object() {
    let f = Fixture::start().await;
    f.post(MAPS, &json!({"metadata": {"name": "a", "finalizers": ["ex.io/hold"]}})).await;
    let (_, waiting) = f.delete(&format!("{MAPS}/a")).await;
    assert!(waiting["metadata"]["deletionTimestamp"].is_string());
    let (code, status) = f
        .send(
            "PATCH",
            &format!("{MAPS}/a"),
            "application/merge-patch+json",
            Some(&json!({"metadata": {"finalizers": ["ex.io/hold", "ex.io/new"]}})),
        )
        .await;
    assert_eq!(code, 422, "{status}");
    f.send(
        "PATCH",
        &format!("{MAPS}/a"),
        "application/merge-patch+json",
        Some(&json!({"metadata": {"finalizers": []}})),
    )
    .await;
    assert_eq!(f.get(&format!("{MAPS}/a")).await.0, 404);
}

#[tokio::test]
async fn a_namespace_goes_with_its_content() {
    let f = Fixture::start().await;
    f.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await;
    f.post(
        "/api/v1/namespaces/n/secrets",
        &json!({"metadata": {"name": "s", "finalizers": ["ex.io/hold"]}, "stringData": {"a": "b"}}),
    )
    .await;
    let (_, secret) = f.get("/api/v1/namespaces/n/secrets/s").await;
    assert_eq!((&secret["data"], secret.get("stringData")), (&json!({"a": "Yg=="}), None));
    f.delete("/api/v1/namespaces/n").await;
    let secret = f
        .until("/api/v1/namespaces/n/secrets/s", "the secret is being deleted", |_, v| {
            v["metadata"]["deletionTimestamp"].is_string()
        })
        .await;
    assert_eq!(f.get("/api/v1/namespaces/n").await.1["status"]["phase"], "Terminating");
    let (code, status) = f.post("/api/v1/namespaces/n/configmaps", &json!({"metadata": {"name": "late"}})).await;
    assert_eq!((code, status["details"]["causes"][0]["reason"].as_str()), (403, Some("NamespaceTerminating")));
    let mut free = secret.clone();
    free["metadata"]["finalizers"] = json!([]);
    f.put("/api/v1/namespaces/n/secrets/s", &free).await;
    f.until("/api/v1/namespaces/n", "the namespace goes", |code, _| code == 404).await;
}

#[tokio::test]
async fn running_pods_get_their_grace_period() {
    let f = Fixture::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    f.post(pods, &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "b"}]}})).await;
    let (code, _) = f
        .post(
            &format!("{pods}/p/binding"),
            &json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
        )
        .await;
    assert_eq!(code, 201);
    let (_, waiting) = f.delete(&format!("{pods}/p")).await;
    assert_eq!(waiting["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(f.get(&format!("{pods}/p")).await.0, 200);
    f.delete(&format!("{pods}/p?gracePeriodSeconds=0")).await;
    assert_eq!(f.get(&format!("{pods}/p")).await.0, 404);
}
