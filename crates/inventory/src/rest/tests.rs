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
    check(
        "/providers/ova/u1/vms?detail=much",
        expect![[r#"
        400
        forklift-error-message: detail=much is not a whole numberdetail=much is not a whole number"#]],
    )
    .await;
    check(
        "/providers/ova/u1/vms?limit=-1",
        expect![[r#"
        400
        forklift-error-message: limit=-1 is not a whole numberlimit=-1 is not a whole number"#]],
    )
    .await;
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

/// Asks with headers; returns the status, the headers asked for, and the body.
async fn ask(service: &Router, path: &str, headers: &[(&str, &str)], wanted: &[&str]) -> (String, Vec<u8>) {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a valid request");
    let response = service.clone().oneshot(request).await.expect("infallible");
    let told = |name: &&str| response.headers().get(*name).map(|v| format!("{name}: {}", v.to_str().unwrap_or("?")));
    let lines: Vec<String> =
        [response.status().as_u16().to_string()].into_iter().chain(wanted.iter().filter_map(told)).collect();
    let body = axum::body::to_bytes(response.into_body(), 1 << 30).await.expect("a body");
    (lines.join(", "), body.to_vec())
}

fn etag(head: &str) -> &str {
    head.split("etag: ").nth(1).expect("a tag").split(',').next().expect("not empty")
}

fn unpacked(body: &[u8]) -> Vec<u8> {
    use std::io::Read;
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(body).read_to_end(&mut text).expect("gzip");
    text
}

#[tokio::test]
async fn queries_filter_sort_and_cut_in_the_server() {
    let service = router(inventory(), Arc::new(Open));
    let told = async |parameters: &str| {
        let (head, body) =
            ask(&service, &format!("/providers/ova/u1/vms?{parameters}"), &[], &["x-total-count", "forklift-warning"])
                .await;
        format!("{head}\n{}", String::from_utf8_lossy(&body))
    };
    expect![[r#"
        200, x-total-count: 2
        [{"id":"2","name":"db","selfLink":"providers/ova/u1/vms/2"}]"#]]
    .assert_eq(&told("query=where%20name%20=%20'db'%20limit%201").await);
    expect![[r#"
        200, x-total-count: 3
        [{"id":"3","name":"db","selfLink":"providers/ova/u1/vms/3"},{"id":"2","name":"db","selfLink":"providers/ova/u1/vms/2"}]"#]]
    .assert_eq(&told("sort=name,-uuid&limit=2").await);
    expect![[r#"
        200, x-total-count: 3
        [{"id":"2","name":"db","selfLink":"providers/ova/u1/vms/2"}]"#]]
    .assert_eq(&told("offset=1&limit=1").await);
    expect![[r#"
        200, x-total-count: 1
        [{"n":"web","c":1}]"#]]
    .assert_eq(&told("query=select+name+as+n,+len(networks)+as+c+where+id+in+['1']").await);
    expect![[r#"
        200, x-total-count: 0, forklift-warning: 3 items do not fit the query and are left out: type mismatch: a number is expected, not a string (position 0 of the expression)
        []"#]]
    .assert_eq(&told("query=name+%2B+1+%3E+2").await);
    expect!["400\n3 items do not fit the query and are left out: type mismatch: a number is expected, not a string (position 0 of the expression)"]
        .assert_eq(&told("query=name+%2B+1+%3E+2&strict=true").await);
    expect![[r#"
        400
        syntax error: a number where an operator or the end is expected at position 5
        name 1
             ^"#]]
    .assert_eq(&told("query=name+1").await);
    expect!["400\na field to sort by is missing at position 0\n,\n^"].assert_eq(&told("sort=,").await);
}

#[tokio::test]
async fn a_client_that_has_the_version_gets_nothing_anew() {
    let inventory = inventory();
    let service = router(inventory.clone(), Arc::new(Open));
    for path in ["/providers/ova/u1/vms?detail=4", "/providers/ova/u1/vms/1"] {
        let (head, _) = ask(&service, path, &[], &["cache-control", "vary", "etag"]).await;
        assert!(head.starts_with("200, cache-control: private, no-cache, vary: Accept-Encoding, etag: W/"), "{head}");
        let tag = etag(&head);
        let (again, body) = ask(&service, path, &[("If-None-Match", tag)], &["etag"]).await;
        assert_eq!((again, body.len()), (format!("304, etag: {tag}"), 0));
        let entry = inventory.get("u1").expect("inserted");
        let json = json!({"id": "1", "name": path});
        inventory.writer(&entry).upsert("vms", Draft::new("1", path, "", Json(json)));
        let (changed, _) = ask(&service, path, &[("If-None-Match", tag)], &[]).await;
        assert_eq!(changed, "200");
    }
    let (one, _) = ask(&service, "/providers/ova/u1/vms?detail=4", &[], &["etag"]).await;
    let (other, _) = ask(&service, "/providers/ova/u1/vms?detail=1", &[], &["etag"]).await;
    assert_ne!(etag(&one), etag(&other), "each request has a tag of its own");
}

#[tokio::test]
async fn a_long_list_comes_in_pieces_packed_and_from_memory() {
    let inventory = inventory();
    let entry = inventory.get("u1").expect("inserted");
    let writer = inventory.writer(&entry);
    let draft = |id: usize| {
        let json = json!({"id": id, "text": "x".repeat(2000)});
        crate::Action::Upsert("vms", Draft::new(&id.to_string(), "many", "", Json(json)))
    };
    writer.apply((0..1000).map(draft).collect());
    let service = router(inventory.clone(), Arc::new(Open));
    let path = "/providers/ova/u1/vms?detail=all";
    let gzip = [("Accept-Encoding", "gzip")];
    let mut plain = Vec::new();
    // made, made and kept, from memory
    for round in 0..3 {
        let (head, body) = ask(&service, path, &[], &["content-encoding", "content-length", "x-total-count"]).await;
        let length = if round == 2 { format!(", content-length: {}", body.len()) } else { String::new() };
        assert_eq!(head, format!("200{length}, x-total-count: 1000"));
        let list: Vec<serde_json::Value> = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(list.len(), 1000);
        assert!(plain.is_empty() || plain == body);
        plain = body;
        let (head, packed) = ask(&service, path, &gzip, &["content-encoding"]).await;
        assert_eq!(head, "200, content-encoding: gzip");
        assert!(packed.len() * 20 < plain.len() && unpacked(&packed) == plain, "round {round}");
    }
    writer.apply(vec![crate::Action::Delete("vms", "5".to_owned())]);
    let (_, body) = ask(&service, path, &gzip, &[]).await;
    let list: Vec<serde_json::Value> = serde_json::from_slice(&unpacked(&body)).expect("JSON");
    assert_eq!(list.len(), 999, "what is kept is of one version");
}

#[tokio::test]
async fn what_the_last_run_knew_is_shown_as_what_it_is() {
    let inventory = inventory();
    let entry = inventory.get("u2").expect("inserted");
    let record = crate::Record::new(Draft::new("1", "web", "", Json(json!({"id": "1", "name": "web"}))), 1);
    let taken = std::time::SystemTime::now() - Duration::from_secs(90);
    entry.store().restore(taken, vec![("vms", record)], serde_json::Map::new());
    let service = router_with(inventory.clone(), Arc::new(Open), Duration::from_millis(10));
    for path in ["/providers/ova/u2/vms?stale=true", "/providers/ova/u2/vms"] {
        let (head, body) = ask(&service, path, &[], &["age", "etag"]).await;
        assert!(head.starts_with("206, age: 9") && !head.contains("etag"), "{head}");
        assert_eq!(String::from_utf8_lossy(&body), r#"[{"id":"1","name":"web"}]"#);
    }
    let (head, body) = ask(&service, "/providers/ova/u2/vms/1", &[], &[]).await;
    assert_eq!((head.as_str(), body.len() > 2), ("206", true));
    // the source is read, and has nothing
    inventory.writer(&entry).loaded();
    let (head, body) = ask(&service, "/providers/ova/u2/vms", &[], &["age"]).await;
    assert_eq!((head, body), ("200".to_owned(), b"[]".to_vec()));
}

#[tokio::test]
async fn the_service_counts_its_own_work() {
    let service = router_with(inventory(), Arc::new(Two), Duration::from_millis(10));
    ask(&service, "/providers/ova/u1/vms/", &[("Authorization", "Bearer admin")], &[]).await;
    ask(&service, "/providers/ova/u1/vms", &[], &[]).await;
    let (head, body) = ask(&service, "/metrics", &[], &[]).await;
    let text = String::from_utf8(body).expect("text");
    assert_eq!(head, "200");
    for line in [
        r#"forklift_inventory_requests_total{route="/providers/{type}/{uid}/{collection}",code="200"} 1"#,
        r#"forklift_inventory_requests_total{route="/providers/{type}/{uid}/{collection}",code="401"} 1"#,
        r#"forklift_inventory_records{type="ova",collection="vms"} 3"#,
        "forklift_inventory_loading 1",
        "forklift_inventory_watches 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("p1"), "no names");
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

#[tokio::test]
async fn a_slow_watcher_loses_nothing_and_holds_up_nobody() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let inventory = inventory();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let service = router(inventory.clone(), Arc::new(Open));
    tokio::spawn(async move { axum::serve(listener, service).await });
    let mut request = format!("ws://{address}/providers/ova/u1/vms").into_client_request().expect("a URL");
    request.headers_mut().insert("X-Watch", "changes".parse().expect("a value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("upgraded");
    assert_eq!(frames(&mut socket, 1).await, ["0 - - null", "1 - - null"]);

    // many times what the sockets hold, while nobody reads
    let entry = inventory.get("u1").expect("inserted");
    let writer = inventory.writer(&entry);
    let (rounds, vms) = (100, 50);
    for round in 0..rounds {
        let draft = |vm: usize| {
            let name = format!("{vm}-{round}");
            let json = json!({"id": vm, "name": name, "text": "x".repeat(20_000)});
            crate::Action::Upsert("vms", Draft::new(&format!("new{vm}"), &name, "", Json(json)))
        };
        writer.apply((0..vms).map(draft).collect());
        tokio::task::yield_now().await;
    }
    let mut last = std::collections::BTreeMap::new();
    let mut frames_seen = 0;
    while last.len() < vms || last.values().any(|name: &String| !name.ends_with(&format!("-{}", rounds - 1))) {
        use futures::StreamExt;
        let frame = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.expect("a frame in time");
        let text = frame.expect("not closed").expect("no error").into_text().expect("text");
        let frame: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let old = frame["Resource"]["name"].as_str().unwrap_or_default().to_owned();
        let (id, new) = match frame["Action"].as_i64() {
            Some(16) => (frame["Resource"]["id"].to_string(), old),
            Some(32) => {
                let id = frame["Resource"]["id"].to_string();
                assert_eq!(last.get(&id), Some(&old), "an update begins where the last one ended");
                (id, frame["Updated"]["name"].as_str().unwrap_or_default().to_owned())
            }
            other => panic!("{other:?}"),
        };
        last.insert(id, new);
        frames_seen += 1;
    }
    assert!(frames_seen < rounds * vms, "changes that waited became one: {frames_seen}");
}

#[tokio::test]
async fn what_is_not_kept_is_asked_of_the_source() {
    static HOSTS: ProviderSpec = ProviderSpec {
        provider_type: "ova",
        kinds: &[KindSpec {
            name: "hosts",
            asked: Some(crate::Asked { parameter: "advancedOption", key: "advancedOptions" }),
            ..KindSpec::PLAIN
        }],
        ..ProviderSpec::PLAIN
    };
    let inventory = Inventory::new(None);
    let object = json!({"metadata": {"uid": "u", "name": "p", "namespace": "ns"}, "spec": {"type": "ova"}});
    let entry = inventory.insert(ProviderEntry::collected(&HOSTS, object));
    let writer = inventory.writer(&entry);
    writer.upsert("hosts", Draft::new("h", "h", "", Json(json!({"id": "h", "advancedOptions": null}))));
    writer.loaded();
    let mut asks = writer.asks();
    tokio::spawn(async move {
        while let Some(crate::Ask::Look(look)) = asks.recv().await {
            let found = match look.key.as_str() {
                "level" => Ok(json!([{"key": "level", "value": look.id}])),
                _ => Err("the host does not answer".to_owned()),
            };
            look.answer(found);
        }
    });
    let service = router_with(inventory, Arc::new(Open), Duration::from_millis(10));
    for (query, body, warning) in [
        ("", r#"{"id":"h","advancedOptions":null}"#, None),
        ("?advancedOption=", r#"{"id":"h","advancedOptions":null}"#, None),
        ("?advancedOption=level", r#"{"id":"h","advancedOptions":[{"key":"level","value":"h"}]}"#, None),
        (
            "?advancedOption=x",
            r#"{"id":"h","advancedOptions":null}"#,
            Some("advancedOption=x: the host does not answer"),
        ),
    ] {
        let request = Request::builder().uri(format!("/providers/ova/u/hosts/h{query}")).body(Body::empty());
        let response = service.clone().oneshot(request.expect("a request")).await.expect("infallible");
        let told = response.headers().get("forklift-warning").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a small body");
        assert_eq!((std::str::from_utf8(&text), told.as_deref()), (Ok(body), warning), "{query}");
    }
}
