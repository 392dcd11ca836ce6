//! Audit, metrics, health, limits, compression and the end of a server.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Fixture;

fn audit_lines(f: &Fixture) -> Vec<Value> {
    let text = std::fs::read_to_string(f.dir.path().join("audit.log")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

async fn audited(f: &Fixture, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(event) = audit_lines(f).into_iter().find(|e| holds(e)) {
            return event;
        }
        assert!(std::time::Instant::now() < deadline, "no audit event: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn changes_are_audited_and_secrets_bodies_are_not() {
    let policy = "rules: [{level: Request, verbs: [create, delete]}, {level: Metadata, verbs: [watch]}]";
    let f = Fixture::start_with(|config| {
        let policy = apiserver::Policy::parse(policy).unwrap();
        config.audit = Some(apiserver::AuditConfig { policy, ..apiserver::AuditConfig::default() });
    })
    .await;
    f.post("/api/v1/namespaces/default/secrets", &json!({"metadata": {"name": "s"}, "stringData": {"k": "hunter2"}}))
        .await;
    f.post("/api/v1/namespaces/default/limitranges", &json!({"metadata": {"name": "l"}, "spec": {"limits": []}})).await;
    f.get("/api/v1/namespaces/default/secrets/s").await;
    let of = |resource: &'static str| move |e: &Value| e["objectRef"]["resource"] == resource;
    let secret = audited(&f, "the secret", of("secrets")).await;
    assert_eq!(
        (&secret["level"], &secret["stage"], &secret["verb"], &secret["responseStatus"]["code"]),
        (&json!("Request"), &json!("ResponseComplete"), &json!("create"), &json!(201))
    );
    assert_eq!(secret["user"]["username"], "kubernetes-admin");
    assert_eq!(secret["sourceIPs"], json!(["127.0.0.1"]));
    assert_eq!(secret["annotations"]["authorization.k8s.io/decision"], "allow");
    assert!(secret.get("requestObject").is_none());
    let limits = audited(&f, "the limit range", of("limitranges")).await;
    assert_eq!(limits["requestObject"]["metadata"]["name"], "l");
    // a watch: once when it opens, once when it ends
    f.get("/api/v1/services?watch=1&timeoutSeconds=1").await;
    for stage in ["ResponseStarted", "ResponseComplete"] {
        let event = audited(&f, stage, |e| e["verb"] == "watch" && e["stage"] == stage).await;
        assert_eq!(event["responseStatus"]["code"], 200);
    }
    assert!(audit_lines(&f).iter().all(|e| !e.to_string().contains("hunter2") && e["verb"] != "get"));
}

#[tokio::test]
async fn requests_are_counted_under_the_usual_names() {
    let f = Fixture::start().await;
    f.get("/api/v1/namespaces/default/pods").await;
    f.get("/api/v1/namespaces/default/pods/none").await;
    f.get("/api/v1/namespaces?watch=1&timeoutSeconds=1").await;
    let open = f.http.get(format!("{}/api/v1/nodes?watch=1", f.server.url())).bearer_auth(f.server.admin_token());
    let open = open.send().await.unwrap();
    let (code, text) = f.get("/metrics").await;
    assert_eq!(code, 200);
    let text = text.as_str().unwrap();
    let value = |start: &str| text.lines().find_map(|l| l.strip_prefix(start)).map(str::trim);
    let common = "component=\"apiserver\",dry_run=\"\",group=\"\"";
    let line = |code: &str, resource: &str, scope: &str, verb: &str| {
        format!(
            "apiserver_request_total{{code=\"{code}\",{common},resource=\"{resource}\",scope=\"{scope}\",subresource=\"\",verb=\"{verb}\",version=\"v1\"}}"
        )
    };
    assert_eq!(value(&line("200", "pods", "namespace", "LIST")), Some("1"));
    assert_eq!(value(&line("404", "pods", "resource", "GET")), Some("1"));
    assert_eq!(value(&line("200", "namespaces", "cluster", "WATCH")), Some("1"), "{text}");
    assert_eq!(value("apiserver_watch_events_total{group=\"\",kind=\"Namespace\",version=\"v1\"}"), Some("4"));
    assert_eq!(
        value(&format!(
            "apiserver_longrunning_requests{{{common},resource=\"nodes\",scope=\"cluster\",subresource=\"\",verb=\"WATCH\",version=\"v1\"}}"
        )),
        Some("1")
    );
    assert_eq!(value("apiserver_storage_objects{resource=\"namespaces\"}"), Some("4"));
    // this very request
    assert_eq!(value("apiserver_current_inflight_requests{request_kind=\"readOnly\"}"), Some("1"));
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_start_time_seconds"] {
        assert!(value(name).is_some_and(|v| v.parse::<f64>().unwrap() > 0.0), "{name}");
    }
    drop(open);
}

#[tokio::test]
async fn health_tells_its_checks() {
    let f = Fixture::start().await;
    assert_eq!(f.get("/readyz").await, (200, json!("ok")));
    assert_eq!(f.get("/livez/ping").await, (200, json!("ok")));
    assert_eq!(f.get("/livez/none").await.0, 404);
    let (_, text) = f.get("/readyz?verbose&exclude=etcd").await;
    let text = text.as_str().unwrap();
    assert!(text.starts_with("[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\n"), "{text}");
    assert!(text.contains("[+]shutdown ok\n") && text.ends_with("readyz check passed\n"), "{text}");
}

#[tokio::test]
async fn large_answers_are_compressed_when_the_client_can() {
    let f = Fixture::start().await;
    let big = "x".repeat(200_000);
    f.post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "big"}, "data": {"k": big}})).await;
    let get = |path: &str, encoding: &str| {
        let request = f.http.get(format!("{}{path}", f.server.url())).bearer_auth(f.server.admin_token());
        request.header("accept-encoding", encoding).send()
    };
    let packed = get("/api/v1/namespaces/default/configmaps/big", "gzip").await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let bytes = packed.bytes().await.unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let object: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(object["data"]["k"].as_str().unwrap().len(), 200_000);
    for (path, encoding) in
        [("/api/v1/namespaces/default/configmaps/big", "identity"), ("/api/v1/namespaces/default", "gzip")]
    {
        let plain = get(path, encoding).await.unwrap();
        assert!(plain.headers().get("content-encoding").is_none(), "{path}");
    }
}

#[tokio::test]
async fn bodies_and_watches_have_bounds() {
    let f = Fixture::start_with(|config| config.limits.long_running = 2).await;
    let (code, status) = f
        .post(
            "/api/v1/namespaces/default/configmaps",
            &json!({"metadata": {"name": "c"}, "data": {"k": "x".repeat(3 << 20)}}),
        )
        .await;
    assert_eq!((code, &status["reason"]), (413, &json!("RequestEntityTooLarge")));
    assert_eq!(status["message"], "Request entity too large: limit is 3145728");
    let watch =
        || f.http.get(format!("{}/api/v1/pods?watch=1", f.server.url())).bearer_auth(f.server.admin_token()).send();
    let (first, _second) = (watch().await.unwrap(), watch().await.unwrap());
    let third = watch().await.unwrap();
    assert_eq!((third.status().as_u16(), third.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    // other requests of the same user go on, and a closed watch makes room
    assert_eq!(f.get("/api/v1/pods").await.0, 200);
    drop(first);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while watch().await.unwrap().status() != 200 {
        assert!(std::time::Instant::now() < deadline, "the closed watch is still counted");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn at_the_end_watches_end_cleanly_and_requests_finish() {
    let f = Fixture::start().await;
    let url = f.server.url();
    let watch =
        f.http.get(format!("{url}/api/v1/pods?watch=1")).bearer_auth(f.server.admin_token()).send().await.unwrap();
    // a request whose body is still on its way when the server is told to go
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let stream = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|item| (item, r)) });
    let slow = f
        .http
        .post(format!("{url}/api/v1/namespaces/default/configmaps"))
        .bearer_auth(f.server.admin_token())
        .header("content-type", "application/json")
        .body(reqwest::Body::wrap_stream(stream));
    let slow = tokio::spawn(slow.send());
    sender.send(Ok("{\"metadata\": ".into())).await.unwrap();
    let metrics = format!("{url}/metrics");
    f.until_text(&metrics, "apiserver_current_inflight_requests{request_kind=\"mutating\"} 1").await;
    let Fixture { server, dir, .. } = f;
    let ending = tokio::spawn(server.shutdown());
    // the watch ends as an answer ends, not as a broken connection
    assert_eq!(watch.text().await.unwrap(), "");
    sender.send(Ok("{\"name\": \"late\"}}".into())).await.unwrap();
    drop(sender);
    assert_eq!(slow.await.unwrap().unwrap().status(), 201);
    ending.await.unwrap();
    let again = apiserver::start(apiserver::Config::new(dir.path())).await.unwrap();
    let http = crate::http_client(&again);
    let f = Fixture { server: again, http, dir };
    assert_eq!(f.get("/api/v1/namespaces/default/configmaps/late").await.0, 200);
}
