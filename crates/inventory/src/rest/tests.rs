use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::Request;
use expect_test::{Expect, expect};
use serde_json::json;
use tower::ServiceExt;

use super::*;
use crate::{Count, Draft, Field, Json, KindSpec, PathMatch, ProviderEntry, ProviderSpec};

static SPEC: ProviderSpec = ProviderSpec {
    provider_type: "ova",
    kinds: &[KindSpec {
        name: "vms",
        base: &Field::all(["id", "name", "selfLink"]),
        summary: Some(&[Field::Of("id"), Field::Null("networks"), Field::Of("concerns")]),
        path_match: PathMatch::Suffix,
        validated: true,
        ..KindSpec::PLAIN
    }],
    workloads: Some("vms"),
    blanks: &["product"],
    counts: &[Count { key: "vmCount", kind: "vms", plus: 0 }],
    ..ProviderSpec::PLAIN
};

fn inventory() -> Inventory {
    let inventory = Inventory::new(None);
    let object = |uid: &str, name: &str| json!({"metadata": {"uid": uid, "name": name, "namespace": "ns", "resourceVersion": "7"}, "spec": {"type": "ova"}});
    let entry = inventory.insert(ProviderEntry::collected(&SPEC, object("u1", "p1")));
    let writer = inventory.writer(&entry);
    for (id, name) in [("1", "web"), ("2", "db"), ("3", "db")] {
        let json = json!({"id": id, "name": name, "selfLink": SPEC.resource_link("u1", "vms", id),
            "concerns": [], "uuid": id, "networks": [{"ID": "n"}]});
        writer.upsert("vms", Draft::new(id, name, &format!("/x{id}/{name}"), Json(json)));
    }
    writer.loaded();
    inventory.insert(ProviderEntry::collected(&SPEC, object("u2", "loading")));
    inventory
}

/// Knows `admin`, who may everything, and `guest`, who may nothing.
struct Two;

#[async_trait]
impl Authorizer for Two {
    async fn authenticate(&self, token: Option<&str>) -> Result<User, Denied> {
        match token {
            Some(name @ ("admin" | "guest")) => Ok(User { name: name.into(), ..User::default() }),
            _ => Err(Denied::Unauthenticated),
        }
    }

    async fn permit(&self, user: &User, access: &Access) -> Result<(), Denied> {
        match user.name.as_str() {
            "admin" => Ok(()),
            name => Err(Denied::Forbidden(format!("{name} may not: {access:?}"))),
        }
    }
}

async fn check_as(token: Option<&str>, path: &str, expected: Expect) {
    let mut request = Request::builder().uri(path);
    if let Some(token) = token {
        request = request.header("Authorization", token);
    }
    let service = router_with(inventory(), Arc::new(Two), Duration::from_millis(10));
    let request = request.body(Body::empty()).expect("a valid request");
    let response = service.oneshot(request).await.expect("infallible");
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).map(|v| format!("\n{name}: {}", v.to_str().unwrap_or("?")));
    let headers = [header("X-Reason"), header("forklift-error-message")].into_iter().flatten().collect::<String>();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a small body");
    let body = match serde_json::from_slice::<serde_json::Value>(&body) {
        Ok(json) => format!("\n{json}"),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    expected.assert_eq(&format!("{status}{headers}{body}"));
}

async fn check(path: &str, expected: Expect) {
    check_as(Some("Bearer admin"), path, expected).await;
}

#[tokio::test]
async fn providers_are_listed_by_type_and_level() {
    check("/providers", expect![[r#"
        200
        {"openshift":[],"vsphere":[],"ovirt":[],"openstack":[],"ova":[{"uid":"u2","version":"7","namespace":"ns","name":"loading","selfLink":"providers/ova/u2","id":"u2"},{"uid":"u1","version":"7","namespace":"ns","name":"p1","selfLink":"providers/ova/u1","id":"u1"}],"ec2":[],"hyperv":[]}"#]]).await;
    check("/providers/ova/?detail=1&limit=1&offset=1", expect![[r#"
        200
        [{"uid":"u1","version":"7","namespace":"ns","name":"p1","selfLink":"providers/ova/u1","id":"u1","type":"ova","object":{"metadata":{"uid":"u1","name":"p1","namespace":"ns","resourceVersion":"7"},"spec":{"type":"ova"}},"product":"","vmCount":3}]"#]]).await;
    check(
        "/providers/vsphere?namespace=ns",
        expect![[r#"
        200
        []"#]],
    )
    .await;
    check(
        "/providers/ova?namespace=other",
        expect![[r#"
        200
        []"#]],
    )
    .await;
    check("/providers/ova/u2", expect!["206"]).await;
    check("/providers/nothing", expect!["404"]).await;
}

#[tokio::test]
async fn a_collection_is_shown_at_three_levels() {
    check("/providers/ova/u1/vms", expect![[r#"
        200
        [{"id":"1","name":"web","selfLink":"providers/ova/u1/vms/1"},{"id":"2","name":"db","selfLink":"providers/ova/u1/vms/2"},{"id":"3","name":"db","selfLink":"providers/ova/u1/vms/3"}]"#]]).await;
    check(
        "/providers/ova/u1/vms/?detail=1&limit=1",
        expect![[r#"
        200
        [{"id":"1","networks":null,"concerns":[]}]"#]],
    )
    .await;
    check("/providers/ova/u1/vms?detail=all&name=web", expect![[r#"
        200
        [{"id":"1","name":"web","selfLink":"providers/ova/u1/vms/1","concerns":[],"uuid":"1","networks":[{"ID":"n"}]}]"#]]).await;
    check(
        "/providers/ova/u1/vms?name=db&limit=0",
        expect![[r#"
        200
        []"#]],
    )
    .await;
    check(
        "/providers/ova/u1/vms?name=x3/db",
        expect![[r#"
        200
        [{"id":"3","name":"db","selfLink":"providers/ova/u1/vms/3"}]"#]],
    )
    .await;
    check(
        "/providers/ova/u1/vms?name=nobody",
        expect![[r#"
        200
        []"#]],
    )
    .await;
}

#[tokio::test]
async fn a_resource_is_shown_in_full() {
    check("/providers/ova/u1/vms/1", expect![[r#"
        200
        {"id":"1","name":"web","selfLink":"providers/ova/u1/vms/1","concerns":[],"uuid":"1","networks":[{"ID":"n"}]}"#]]).await;
    check("/providers/ova/u1/workloads/1", expect![[r#"
        200
        {"selfLink":"providers/ova/u1/workloads/1","id":"1","name":"web","concerns":[],"uuid":"1","networks":[{"ID":"n"}]}"#]]).await;
    check("/providers/ova/u1/vms/9", expect!["404"]).await;
    check("/providers/ova/u1/hosts", expect!["404"]).await;
    check("/providers/ova/u1/tree/vm", expect!["404"]).await;
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    check("/providers/ova/u1/vms?detail=much", expect!["400"]).await;
    check("/providers/ova/u1/vms?limit=-1", expect!["400"]).await;
    check(
        "/providers/ova/u9/vms",
        expect![[r#"
        404
        X-Reason: ProviderNotFound"#]],
    )
    .await;
    check("/providers/vsphere/u1/vms", expect!["404"]).await;
    check("/providers/ova/u2/vms", expect!["206"]).await;
    check_as(
        None,
        "/providers/ova/u1/vms",
        expect![[r#"
        401
        forklift-error-message: the token is missing or not valid"#]],
    )
    .await;
    check_as(
        Some("admin"),
        "/providers",
        expect![[r#"
        401
        forklift-error-message: the token is missing or not valid"#]],
    )
    .await;
    check_as(
        Some("Bearer guest"),
        "/providers/ova/u1/vms",
        expect![[r#"
        403
        forklift-error-message: guest may not: Provider { namespace: "ns", name: "p1" }"#]],
    )
    .await;
    check_as(
        Some("Bearer guest"),
        "/providers?namespace=a",
        expect![[r#"
        403
        forklift-error-message: guest may not: List { namespace: "a" }"#]],
    )
    .await;
}

/// Reads frames until one of an action, each as `action name`.
async fn frames(socket: &mut Socket, last: i64) -> Vec<String> {
    use futures::StreamExt;
    let mut seen = Vec::new();
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("a frame in time");
        let text = frame.expect("not closed").expect("no error").into_text().expect("text");
        let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let name = |key: &str| frame[key]["name"].as_str().unwrap_or("-").to_owned();
        seen.push(format!("{} {} {} {}", frame["Action"], name("Resource"), name("Updated"), frame["Labels"]));
        if frame["Action"] == last {
            return seen;
        }
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_follows_each_change() {
    use futures::SinkExt;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let inventory = inventory();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = router(inventory.clone(), Arc::new(Open));
    tokio::spawn(async move { axum::serve(listener, service).await });
    let mut request = format!("ws://{address}/providers/ova/u1/vms").into_client_request().expect("a URL");
    request.headers_mut().insert("X-Watch", "snapshot".parse().expect("a value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("upgraded");
    let first = frames(&mut socket, 1).await;
    assert_eq!(first, ["0 - - null", "16 web - null", "16 db - null", "16 db - null", "1 - - null"]);

    let entry = inventory.get("u1").expect("inserted");
    let writer = inventory.writer(&entry);
    let json = json!({"id": "1", "name": "www"});
    writer.upsert("vms", Draft::new("1", "www", "", Json(json)));
    writer.delete("vms", "2");
    assert_eq!(frames(&mut socket, 64).await, ["32 web www null", "64 db - null"]);

    socket.send(json!({"Action": 4}).to_string().into()).await.expect("open");
    assert_eq!(frames(&mut socket, 4).await, ["4 - - null"]);
}

#[tokio::test]
async fn the_client_tells_what_to_do_next() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = router_with(inventory(), Arc::new(Two), Duration::from_millis(10));
    tokio::spawn(async move { axum::serve(listener, service).await });
    let told = async |token: Option<&str>, path: &str, query: &[(&str, &str)]| {
        let client = crate::client::InventoryClient::new(&format!("http://{address}/"), token, None, false);
        match client.expect("a client").get(path, query).await {
            Ok(value) => value.to_string(),
            Err(error) => format!("{error:?}: {error}").split(" { ").next().unwrap_or_default().to_owned(),
        }
    };
    let admin = Some("admin");
    assert_eq!(
        told(admin, "providers/ova/u1/vms", &[("name", "web"), ("detail", "1")]).await,
        r#"[{"id":"1","networks":null,"concerns":[]}]"#
    );
    assert_eq!(
        told(admin, "/providers/ova/u1/vms/9", &[]).await,
        "NotFound(\"/providers/ova/u1/vms/9\"): /providers/ova/u1/vms/9 is not in the inventory"
    );
    assert_eq!(told(admin, "/providers/ova/u9/vms", &[]).await, "NotReady: the provider's inventory is not ready");
    assert_eq!(told(admin, "/providers/ova/u2/vms", &[]).await, "NotReady: the provider's inventory is not ready");
    assert_eq!(told(None, "/providers", &[]).await, "Unauthorized: the inventory does not accept the token");
    assert!(told(Some("guest"), "/providers", &[]).await.starts_with("Forbidden"));
    assert!(told(admin, "/providers", &[("limit", "x")]).await.starts_with("Status"));
}
