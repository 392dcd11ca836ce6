//! Against a small server that answers as an API server does; no cluster is real here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use expect_test::expect;
use forklift_api::Provider;
use forklift_inventory::rest::{Access, Authorizer, Denied};
use forklift_inventory::{Live, LiveQuery};
use serde_json::{Value, json};

use super::model::full;
use super::{OpenShift, auth::ClusterAuthorizer};
use crate::{ConnectError, Context, Endpoint, Opened, ProviderKind, Shared};

/// What was asked of the server: method or verb, path, token.
type Asked = Arc<Mutex<Vec<String>>>;

fn object(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("{name}-uid"), "resourceVersion": "7"}, "spec": spec})
}

fn items(plural: &str) -> Option<Vec<Value>> {
    let nad = |name: &str, config: &str| object("apps", name, json!({"config": config}));
    Some(match plural {
        "namespaces" => {
            vec![object("", "apps", json!({})), object("", "empty", json!({})), object("", "other", json!({}))]
        }
        "storageclasses" => vec![object("", "standard", json!({}))],
        "virtualmachines" => vec![object("apps", "web", json!({"running": true})), object("other", "db", json!({}))],
        "virtualmachineinstances" => vec![object("apps", "web", json!({}))],
        "network-attachment-definitions" => vec![
            nad("bridge", r#"{"type":"bridge"}"#),
            nad("primary", r#"{"type":"ovn-k8s-cni-overlay","role":"primary","topology":"layer2"}"#),
            nad("routed", r#"{"type":"ovn-k8s-cni-overlay","role":"secondary","topology":"layer3"}"#),
            nad("flat", r#"{"type":"ovn-k8s-cni-overlay","role":"secondary","topology":"layer2"}"#),
            nad("odd", "not json"),
        ],
        _ => return None,
    })
}

async fn answer(
    State(asked): State<Asked>,
    Path(path): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let token = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or("-").to_owned();
    asked.lock().expect("no panic").push(format!("{path} {token}"));
    let status = |code: u16, reason: &str| {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": code});
        (StatusCode::from_u16(code).expect("valid"), Json(body)).into_response()
    };
    if token == "Bearer wrong" {
        return status(401, "Unauthorized");
    }
    let parts: Vec<&str> = path.split('/').collect();
    let (namespace, plural, name) = match parts.iter().position(|p| *p == "namespaces") {
        Some(i) if parts.len() == i + 3 => (parts[i + 1], parts[i + 2], None),
        Some(i) if parts.len() == i + 2 => ("", "namespaces", Some(parts[i + 1])),
        _ => ("", *parts.last().expect("a path"), None),
    };
    let Some(mut items) = items(plural) else {
        return status(404, "NotFound");
    };
    if let Some(name) = name {
        return match items.into_iter().find(|o| o["metadata"]["name"] == name) {
            Some(object) => Json(object).into_response(),
            None => status(404, "NotFound"),
        };
    }
    let wanted = query.get("fieldSelector").and_then(|s| s.strip_prefix("metadata.name="));
    items.retain(|o| namespace.is_empty() || o["metadata"]["namespace"] == namespace);
    items.retain(|o| wanted.is_none_or(|w| o["metadata"]["name"] == w));
    // in pages of one, to see that all are read
    let at: usize = query.get("continue").and_then(|c| c.parse().ok()).unwrap_or(0);
    let next = if at + 1 < items.len() { (at + 1).to_string() } else { String::new() };
    let page: Vec<Value> = items.into_iter().skip(at).take(1).collect();
    Json(json!({"kind": "List", "apiVersion": "v1", "metadata": {"continue": next}, "items": page})).into_response()
}

async fn review(State(asked): State<Asked>, Json(mut review): Json<Value>) -> Json<Value> {
    asked.lock().expect("no panic").push(review["kind"].as_str().unwrap_or_default().to_owned());
    let spec = review["spec"].clone();
    review["status"] = match review["kind"].as_str() {
        Some("TokenReview") => match spec["token"].as_str() {
            Some(name @ ("admin" | "guest")) => {
                json!({"authenticated": true, "user": {"username": name, "groups": ["g"]}})
            }
            _ => json!({"authenticated": false}),
        },
        _ => json!({"allowed": spec["user"] == "admin"}),
    };
    Json(review)
}

struct Fixture {
    url: String,
    asked: Asked,
}

impl Fixture {
    async fn start() -> Self {
        let asked = Asked::default();
        let routes = Router::new()
            .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
            .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", post(review))
            .route("/{*path}", get(answer))
            .with_state(asked.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, asked }
    }

    fn context(&self) -> Context {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = kube::Config::new(self.url.parse().expect("a URL"));
        let client = kube::Client::try_from(config.clone()).expect("a client");
        Context { client, config: Some(config), namespace: "konveyor-forklift".into(), shared: Shared::default() }
    }

    fn endpoint(&self, namespace: &str, url: &str, token: &str) -> Endpoint {
        let provider: Provider = serde_json::from_value(json!({
            "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider",
            "metadata": {"name": "p", "namespace": namespace, "uid": "u"},
            "spec": {"type": "openshift", "url": url, "secret": {}},
        }))
        .expect("a Provider");
        let secret = BTreeMap::from([("token".to_owned(), token.as_bytes().to_vec())]);
        Endpoint { provider: Arc::new(provider), secret, server: None, hosts: Default::default() }
    }

    fn live(&self, endpoint: &Endpoint) -> Arc<dyn Live> {
        match OpenShift.open(endpoint, &self.context()).expect("it opens") {
            Opened::Live(live) => live,
            Opened::Collected(_) => panic!("a cluster is not collected"),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }
}

async fn names(live: &Arc<dyn Live>, query: LiveQuery<'_>) -> Vec<String> {
    let list = live.list(query).await.expect("it lists");
    list.iter().map(|r| r.path.to_string()).collect()
}

fn kind(kind: &str) -> LiveQuery<'_> {
    LiveQuery { kind, ..LiveQuery::default() }
}

#[tokio::test]
async fn a_remote_cluster_is_listed_with_the_secrets_token() {
    let fixture = Fixture::start().await;
    let live = fixture.live(&fixture.endpoint("n", &fixture.url, "theirs"));
    assert_eq!(names(&live, kind("namespaces")).await, ["apps", "empty", "other"]);
    assert!(fixture.asked().iter().all(|line| line.ends_with("Bearer theirs")));
    assert_eq!(names(&live, kind("vms")).await, ["apps/web", "other/db"]);
    assert_eq!(names(&live, LiveQuery { namespace: Some("other"), ..kind("vms") }).await, ["other/db"]);
    assert_eq!(names(&live, LiveQuery { name: Some("web"), ..kind("vms") }).await, ["apps/web"]);
    assert_eq!(
        names(&live, kind("networkattachmentdefinitions")).await,
        ["apps/bridge", "apps/flat", "apps/odd"],
        "primary and routed user-defined networks are left out"
    );
    assert_eq!(names(&live, kind("datavolumes")).await, Vec::<String>::new(), "a kind that is not served has none");
}

#[tokio::test]
async fn a_vm_is_shown_with_its_instance_and_namespaces_as_a_tree() {
    let fixture = Fixture::start().await;
    let live = fixture.live(&fixture.endpoint("n", &fixture.url, "theirs"));
    let vms = live.list(kind("vms")).await.expect("it lists");
    expect![[r#"
        {"uid":"web-uid","version":"7","namespace":"apps","name":"web","selfLink":"providers/openshift/u/vms/web-uid","id":"web-uid","object":{"metadata":{"name":"web","namespace":"apps","resourceVersion":"7","uid":"web-uid"},"spec":{"running":true}},"instance":{"metadata":{"name":"web","namespace":"apps","resourceVersion":"7","uid":"web-uid"},"spec":{}}}
        {"uid":"db-uid","version":"7","namespace":"other","name":"db","selfLink":"providers/openshift/u/vms/db-uid","id":"db-uid","object":{"metadata":{"name":"db","namespace":"other","resourceVersion":"7","uid":"db-uid"},"spec":{}}}"#]].assert_eq(&format!("{}\n{}", full(&vms[0]), full(&vms[1])));
    let tree = live.tree("namespace", 0, None).await.expect("there is one").expect("it is built");
    expect![[r#"{"kind":"","object":null,"children":[{"kind":"Namespace","object":{"uid":"apps-uid","version":"7","namespace":"","name":"apps","selfLink":"providers/openshift/u/namespaces/apps-uid","id":"apps-uid","object":{"metadata":{"name":"apps","namespace":"","resourceVersion":"7","uid":"apps-uid"},"spec":{}},"path":"apps"},"children":[{"kind":"VM","object":{"uid":"web-uid","version":"7","namespace":"apps","name":"web","selfLink":"providers/openshift/u/vms/web-uid","path":"apps/web-uid","id":"web-uid"},"children":null}]},{"kind":"Namespace","object":{"uid":"other-uid","version":"7","namespace":"","name":"other","selfLink":"providers/openshift/u/namespaces/other-uid","id":"other-uid","object":{"metadata":{"name":"other","namespace":"","resourceVersion":"7","uid":"other-uid"},"spec":{}},"path":"other"},"children":[{"kind":"VM","object":{"uid":"db-uid","version":"7","namespace":"other","name":"db","selfLink":"providers/openshift/u/vms/db-uid","path":"other/db-uid","id":"db-uid"},"children":null}]}]}"#]].assert_eq(&tree.to_string());
    assert!(live.tree("vm", 0, None).await.is_none());
}

#[tokio::test]
async fn a_restricted_provider_sees_what_its_caller_sees_in_its_namespace() {
    let fixture = Fixture::start().await;
    let live = fixture.live(&fixture.endpoint("apps", "", "unused"));
    let caller = |query| LiveQuery { token: Some("caller"), ..query };
    assert_eq!(names(&live, caller(kind("vms"))).await, ["apps/web"]);
    assert_eq!(names(&live, caller(kind("namespaces"))).await, ["apps"]);
    assert_eq!(names(&live, caller(kind("storageclasses"))).await, ["standard"]);
    let other = LiveQuery { namespace: Some("other"), ..kind("vms") };
    assert_eq!(names(&live, caller(other)).await, Vec::<String>::new());
    assert!(fixture.asked().iter().all(|line| line.ends_with("Bearer caller")));
    let error = live.list(kind("vms")).await.expect_err("no token").to_string();
    assert_eq!(error, "cannot list vms: this provider needs the caller's token");
}

#[tokio::test]
async fn the_test_tells_a_refused_token_from_a_cluster_that_does_not_answer() {
    let fixture = Fixture::start().await;
    let test =
        async |url: &str, token: &str| OpenShift.test(&fixture.endpoint("n", url, token), &fixture.context()).await;
    assert_eq!(test(&fixture.url, "theirs").await, Ok(()));
    let refused = test(&fixture.url, "wrong").await;
    assert_eq!(refused, Err(ConnectError::Auth("the cluster refuses the token: Unauthorized".into())));
    let nobody = test("http://127.0.0.1:1", "theirs").await;
    assert!(matches!(&nobody, Err(ConnectError::Failed(m)) if m.starts_with("cannot list namespaces")), "{nobody:?}");
}

#[tokio::test]
async fn the_api_server_decides_who_reads_the_inventory() {
    let fixture = Fixture::start().await;
    let authorizer = ClusterAuthorizer::new(fixture.context().client);
    assert_eq!(authorizer.authenticate(None).await, Err(Denied::Unauthenticated));
    assert_eq!(authorizer.authenticate(Some("stranger")).await, Err(Denied::Unauthenticated));
    let admin = authorizer.authenticate(Some("admin")).await.expect("known");
    let guest = authorizer.authenticate(Some("guest")).await.expect("known");
    let access = Access::Provider { namespace: "n".into(), name: "p".into() };
    assert_eq!(authorizer.permit(&admin, &access).await, Ok(()));
    expect![[r#"providers.forklift.konveyor.io is forbidden: User "guest" cannot get resource "providers" in API group "forklift.konveyor.io" in the namespace "n""#]].assert_eq(
        &authorizer
            .permit(&guest, &access)
            .await
            .expect_err("may not")
            .to_string(),
    );
    fixture.asked();
    authorizer.authenticate(Some("admin")).await.expect("remembered");
    authorizer.permit(&admin, &access).await.expect("remembered");
    assert_eq!(fixture.asked(), Vec::<String>::new(), "good answers are remembered");
}
