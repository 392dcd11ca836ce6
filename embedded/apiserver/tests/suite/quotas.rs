use serde_json::{Value, json};

use crate::Fixture;

fn pod(name: &str, resources: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "i", "resources": resources}]}})
}

async fn namespace(f: &Fixture) {
    let (code, made) = f.post("/api/v1/namespaces", &json!({"metadata": {"name": "small"}})).await;
    assert_eq!(code, 201, "{made}");
}

#[tokio::test]
async fn a_quota_holds_however_many_ask_at_once_and_shows_what_is_used() {
    let f = Fixture::start().await;
    namespace(&f).await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "3", "requests.storage": "3Gi", "count/leases.coordination.k8s.io": "1"}}});
    f.post("/api/v1/namespaces/small/resourcequotas", &quota).await;
    let pods = "/api/v1/namespaces/small/pods";
    let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    let bodies: Vec<Value> = names.iter().map(|name| pod(name, json!({}))).collect();
    let answers = futures::future::join_all(bodies.iter().map(|body| f.post(pods, body))).await;
    assert_eq!(answers.iter().filter(|a| a.0 == 201).count(), 3);
    let (code, refusal) = f.post(pods, &pod("more", json!({}))).await;
    assert_eq!(
        (code, refusal["message"].as_str()),
        (403, Some("pods \"more\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"))
    );
    let claim = |name: &str, size: &str| json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    let claims = "/api/v1/namespaces/small/persistentvolumeclaims";
    assert_eq!(f.post(claims, &claim("a", "2Gi")).await.0, 201);
    let (code, refusal) = f.post(claims, &claim("b", "2Gi")).await;
    assert_eq!(code, 403);
    assert!(
        refusal["message"]
            .as_str()
            .unwrap()
            .ends_with("requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: requests.storage=3Gi"),
        "{refusal}"
    );
    let shown = f
        .until("/api/v1/namespaces/small/resourcequotas/q", "what is used is shown", |_, q| {
            q["status"]["used"]["pods"] == "3" && q["status"]["used"]["requests.storage"] == "2Gi"
        })
        .await;
    assert_eq!(shown["status"]["hard"]["pods"], "3");
    let gone = answers.iter().find(|a| a.0 == 201).unwrap().1["metadata"]["name"].as_str().unwrap().to_string();
    f.delete(&format!("{pods}/{gone}")).await;
    assert_eq!(f.post(pods, &pod("after", json!({}))).await.0, 201);
}

#[tokio::test]
async fn a_limit_range_gives_what_is_not_said_and_refuses_what_is_too_much() {
    let f = Fixture::start().await;
    namespace(&f).await;
    let range = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "max": {"cpu": "2"}, "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "500m"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    ]}});
    let (_, made) = f.post("/api/v1/namespaces/small/limitranges", &range).await;
    assert_eq!(made["spec"]["limits"][0]["default"], json!({"memory": "1Gi", "cpu": "2"}), "{made}");
    let pods = "/api/v1/namespaces/small/pods";
    let (code, made) = f.post(pods, &pod("a", json!({}))).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}})
    );
    let (code, refusal) = f.post(pods, &pod("b", json!({"limits": {"cpu": "3"}}))).await;
    assert_eq!(code, 403);
    assert_eq!(refusal["message"], "pods \"b\" is forbidden: maximum cpu usage per Container is 2, but limit is 3");
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}});
    let (code, refusal) = f.post("/api/v1/namespaces/small/persistentvolumeclaims", &claim).await;
    assert_eq!(
        (code, refusal["message"].as_str()),
        (
            403,
            Some(
                "persistentvolumeclaims \"c\" is forbidden: maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"
            )
        )
    );
}
