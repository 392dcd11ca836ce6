use serde_json::json;

use crate::Fixture;

#[tokio::test]
async fn tokens_and_rules_decide() {
    let f = Fixture::start().await;
    assert_eq!(f.send_as("wrong", "GET", "/api/v1/namespaces", "", None).await.0, 401);
    assert_eq!(f.http.get(format!("{}/readyz", f.server.url())).send().await.unwrap().status(), 200);
    // who shows nothing is anonymous, and may do little
    let anonymous = f.http.get(format!("{}/api/v1/pods", f.server.url())).send().await.unwrap();
    assert_eq!(anonymous.status(), 403);
    let status: serde_json::Value = serde_json::from_str(&anonymous.text().await.unwrap()).unwrap();
    assert_eq!(
        status["message"],
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
    assert_eq!(f.http.get(format!("{}/metrics", f.server.url())).send().await.unwrap().status(), 403);

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

#[tokio::test]
async fn who_may_impersonate_acts_as_another() {
    let f = Fixture::start().await;
    let ask = |token: String, headers: &[(&'static str, &'static str)]| {
        let headers = headers.to_vec();
        let url = format!("{}/apis/authentication.k8s.io/v1/selfsubjectreviews", f.server.url());
        let mut request = f.http.post(url).bearer_auth(token).header("content-type", "application/json").body("{}");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        async move {
            let response = request.send().await.unwrap();
            let code = response.status().as_u16();
            (code, serde_json::from_str::<serde_json::Value>(&response.text().await.unwrap()).unwrap())
        }
    };
    let admin = f.server.admin_token().to_string();
    let as_bob = [
        ("impersonate-user", "bob"),
        ("impersonate-group", "devs"),
        ("impersonate-group", "ops"),
        ("impersonate-extra-acme.com%2fteam", "a"),
    ];
    let (code, review) = ask(admin.clone(), &as_bob).await;
    assert_eq!(code, 201, "{review}");
    assert_eq!(
        review["status"]["userInfo"],
        json!({"username": "bob", "groups": ["devs", "ops", "system:authenticated"], "extra": {"acme.com/team": ["a"]}})
    );
    let (_, review) = ask(admin.clone(), &[("impersonate-user", "system:serviceaccount:a:b")]).await;
    assert_eq!(
        review["status"]["userInfo"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"])
    );
    assert_eq!(ask(admin, &[("impersonate-group", "devs")]).await.0, 500);

    let (_, request) = f.post("/api/v1/namespaces/default/serviceaccounts/default/token", &json!({"spec": {}})).await;
    let token = request["status"]["token"].as_str().unwrap().to_string();
    let (code, status) = ask(token.clone(), &[("impersonate-user", "bob")]).await;
    assert_eq!(code, 403);
    assert_eq!(
        status["message"],
        "users \"bob\" is forbidden: User \"system:serviceaccount:default:default\" cannot impersonate resource \"users\" in API group \"\" at the cluster scope"
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    f.post(&format!("{rbac}/clusterroles"), &json!({"metadata": {"name": "as-bob"}, "rules": [{"apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"]}]})).await;
    let subject = json!({"kind": "ServiceAccount", "name": "default", "namespace": "default"});
    f.post(&format!("{rbac}/clusterrolebindings"), &json!({"metadata": {"name": "as-bob"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "as-bob"}, "subjects": [subject]})).await;
    assert_eq!(ask(token.clone(), &[("impersonate-user", "bob")]).await.0, 201);
    assert_eq!(ask(token, &[("impersonate-user", "eve")]).await.0, 403);
}

#[tokio::test]
async fn client_certificates_name_users_and_groups() {
    let f = Fixture::start().await;
    let client = |certificate: &str, key: &str| {
        let identity = reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
        let ca = reqwest::Certificate::from_pem(f.server.ca_pem().as_bytes()).unwrap();
        reqwest::Client::builder().tls_certs_only([ca]).no_proxy().identity(identity).build().unwrap()
    };
    let pods = format!("{}/api/v1/namespaces/default/pods", f.server.url());
    let (certificate, key) = f.server.issue_client_certificate("root", Some("system:masters"), 1).unwrap();
    assert_eq!(client(&certificate, &key).get(&pods).send().await.unwrap().status(), 200);
    let (certificate, key) = f.server.issue_client_certificate("zoe", Some("devs"), 1).unwrap();
    let refused = client(&certificate, &key).get(&pods).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(refused.text().await.unwrap().contains("User \\\"zoe\\\" cannot list resource"));
    // a certificate of another authority is worth nothing
    let other = Fixture::start().await;
    let (certificate, key) = other.server.issue_client_certificate("root", Some("system:masters"), 1).unwrap();
    assert!(client(&certificate, &key).get(&pods).send().await.is_err());
    // a kubeconfig can carry one
    let config = kube::config::Kubeconfig::from_yaml(
        &f.server.kubeconfig_with_certificate("kube:admin", Some("system:masters"), 1).unwrap(),
    )
    .unwrap();
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(config, &options).await.unwrap();
    assert_eq!(kube::Client::try_from(config).unwrap().apiserver_version().await.unwrap().major, "1");
}
