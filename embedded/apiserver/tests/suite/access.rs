use serde_json::json;

use crate::Fixture;

#[tokio::test]
async fn tokens_and_rules_decide() {
    let f = Fixture::start().await;
    assert_eq!(f.send_as("wrong", "GET", "/api/v1/namespaces", "", None).await.0, 401);
    assert_eq!(f.http.get(format!("{}/readyz", f.server.url())).send().await.unwrap().status(), 200);
    assert_eq!(f.http.get(format!("{}/api/v1/pods", f.server.url())).send().await.unwrap().status(), 401);

    let (code, request) = f
        .post("/api/v1/namespaces/default/serviceaccounts/default/token", &json!({"spec": {"expirationSeconds": 600}}))
        .await;
    assert_eq!(code, 201, "{request}");
    let token = request["status"]["token"].as_str().unwrap();
    let (code, status) = f.send_as(token, "GET", "/api/v1/namespaces/default/pods", "", None).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    f.post(
        &format!("{rbac}/roles"),
        &json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}),
    )
    .await;
    let subject = json!({"kind": "ServiceAccount", "name": "default", "namespace": "default"});
    f.post(&format!("{rbac}/rolebindings"), &json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}, "subjects": [subject]})).await;
    assert_eq!(f.send_as(token, "GET", "/api/v1/namespaces/default/pods", "", None).await.0, 200);
    assert_eq!(f.send_as(token, "GET", "/api/v1/namespaces/kube-system/pods", "", None).await.0, 403);

    let (_, review) = f.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": token}})).await;
    assert_eq!(
        (&review["status"]["authenticated"], &review["status"]["user"]["username"]),
        (&json!(true), &json!("system:serviceaccount:default:default"))
    );
    let ask = |verb: &str| json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "default"}}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(
        f.send_as(token, "POST", reviews, "application/json", Some(&ask("list"))).await.1["status"]["allowed"],
        true
    );
    assert_eq!(
        f.send_as(token, "POST", reviews, "application/json", Some(&ask("delete"))).await.1["status"]["allowed"],
        false
    );
    // the account is gone, and its tokens with it
    f.delete("/api/v1/namespaces/default/serviceaccounts/default").await;
    assert_eq!(f.send_as(token, "GET", "/api/v1/namespaces/default/pods", "", None).await.0, 401);
}

#[tokio::test]
async fn token_secrets_are_filled_in() {
    let f = Fixture::start().await;
    let secret = json!({"metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "default"}}, "type": "kubernetes.io/service-account-token"});
    let (_, made) = f.post("/api/v1/namespaces/default/secrets", &secret).await;
    let token = made["data"]["token"].as_str().unwrap();
    use base64::Engine as _;
    let token = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(token).unwrap()).unwrap();
    let (_, review) = f.post("/apis/authentication.k8s.io/v1/tokenreviews", &json!({"spec": {"token": token}})).await;
    assert_eq!(review["status"]["authenticated"], true, "{review}");
}

#[tokio::test]
async fn the_program_adds_routes_behind_authentication() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = apiserver::Config::new(dir.path());
    let who = axum::routing::get(|axum::Extension(user): axum::Extension<apiserver::User>| async move { user.name });
    config.extra_routes = axum::Router::new().route("/apis/subresources.x.io/v1/who", who);
    let server = apiserver::start(config).await.unwrap();
    let http = crate::http_client(&server);
    let f = Fixture { server, http, dir };
    assert_eq!(f.get("/apis/subresources.x.io/v1/who").await, (200, json!("kubernetes-admin")));
    assert_eq!(f.send_as("wrong", "GET", "/apis/subresources.x.io/v1/who", "", None).await.0, 401);
    assert_eq!(f.get("/api/v1/namespaces/default").await.0, 200);
    let (certificate, key) = f.server.issue_certificate(&["localhost".into(), "127.0.0.1".into()]).unwrap();
    assert!(certificate.contains("BEGIN CERTIFICATE") && key.contains("PRIVATE KEY"));
}
