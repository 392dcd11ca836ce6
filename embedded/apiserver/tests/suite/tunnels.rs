//! exec, attach, portforward and proxy: the bytes that a kubelet endpoint and a client exchange through the server.

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::Fixture;

/// Reads a request's head and returns its lines.
async fn head(stream: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let line = line.trim_end().to_string();
        if line.is_empty() {
            return lines;
        }
        lines.push(line);
    }
}

async fn pod_on_node(f: &Fixture, address: &str, port: u16) {
    let status = json!({"addresses": [{"type": "InternalIP", "address": address}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
    f.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).await;
    let (code, answer) = f
        .send("PATCH", "/api/v1/nodes/n/status", "application/merge-patch+json", Some(&json!({"status": status})))
        .await;
    assert_eq!(code, 200, "{answer}");
    let containers = json!([{"name": "main", "image": "x", "ports": [{"containerPort": port}]}]);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": containers}});
    f.post("/api/v1/namespaces/default/pods", &pod).await;
}

#[tokio::test]
async fn exec_is_a_tunnel_to_the_kubelet() {
    let f = Fixture::start_with(|config| config.kubelet_token = "kubelet-secret".into()).await;
    let kubelet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    pod_on_node(&f, "127.0.0.1", kubelet.local_addr().unwrap().port()).await;
    let url = format!(
        "{}/api/v1/namespaces/default/pods/p/exec?command=sh&command=-c&stdin=true&stdout=true",
        f.server.url()
    );
    let plain = f.http.get(&url).bearer_auth(f.server.admin_token()).send().await.unwrap();
    assert_eq!(plain.status(), 400);
    assert!(plain.text().await.unwrap().contains("Upgrade request required"));

    let served = tokio::spawn(async move {
        let (stream, _) = kubelet.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let lines = head(&mut stream).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(b"pong").await.unwrap();
        (lines, word)
    });
    let request = f
        .http
        .get(&url)
        .bearer_auth(f.server.admin_token())
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", "v5.channel.k8s.io");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    f.until_text(&format!("{}/metrics", f.server.url()), "subresource=\"exec\",verb=\"CONNECT\",version=\"v1\"} 1")
        .await;
    let mut tunnel = response.upgrade().await.unwrap();
    tunnel.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    tunnel.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"pong");
    let (lines, word) = served.await.unwrap();
    assert_eq!(&word, b"ping");
    assert_eq!(lines[0], "GET /exec/default/p/main?command=sh&command=-c&stdin=true&stdout=true HTTP/1.1");
    let has = |line: &str| lines.iter().any(|l| l.eq_ignore_ascii_case(line));
    assert!(
        has("authorization: Bearer kubelet-secret")
            && has("upgrade: websocket")
            && has("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="),
        "{lines:?}"
    );
    assert!(!lines.iter().any(|l| l.contains(f.server.admin_token())), "the user's token went to the node");
}

#[tokio::test]
async fn a_proxy_reaches_the_pod_and_nothing_of_the_machine() {
    let f = Fixture::start().await;
    let Ok(program) = TcpListener::bind("127.64.9.9:0").await else {
        panic!("cannot listen on an address of 127.0.0.0/8");
    };
    pod_on_node(&f, "127.0.0.1", program.local_addr().unwrap().port()).await;
    let address = |ip: &str| json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    let status = "/api/v1/namespaces/default/pods/p/status";
    let merge = "application/merge-patch+json";
    f.send("PATCH", status, merge, Some(&address("127.64.9.9"))).await;
    let served = tokio::spawn(async move {
        let (stream, _) = program.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let lines = head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
        lines
    });
    let path = "/api/v1/namespaces/default/pods/p/proxy/some/page?q=1";
    assert_eq!(f.get(path).await, (200, json!("hello")));
    let lines = served.await.unwrap();
    assert_eq!(lines[0], "GET /some/page?q=1 HTTP/1.1");
    assert!(!lines.iter().any(|l| l.to_lowercase().starts_with("authorization")), "{lines:?}");
    f.send("PATCH", status, merge, Some(&address("127.0.0.1"))).await;
    assert_eq!(f.get(path).await.0, 400);
}
