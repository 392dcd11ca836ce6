//! Services by name, and mounted objects that change.

mod common;

use common::{Stack, eventually, namespaces};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, LogParams, Patch, PatchParams};
use node::kubelet::logs::Rotation;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Answers every connection with a word.
async fn word_server(ip: &str, port: u16, word: &'static str) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind((ip, port)).await.expect("a listener");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // a client may leave early
            let _ = stream.write_all(word.as_bytes()).await;
        }
    })
}

async fn read_word(ip: &str, port: u16) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect((ip, port)).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text).filter(|text| !text.is_empty())
}

fn ready_when(file: &str) -> Value {
    json!({"readinessProbe": {"exec": {"command": ["test", "-e", format!("/v/{file}")]}, "periodSeconds": 1},
           "volumeMounts": [{"name": "v", "mountPath": "/v"}]})
}

async fn endpoints(stack: &Stack, service: &str) -> Vec<(String, bool)> {
    let slices = stack
        .api::<EndpointSlice>()
        .list(&ListParams::default().labels(&format!("kubernetes.io/service-name={service}")))
        .await
        .expect("slices");
    let all = slices.items.into_iter().flat_map(|slice| slice.endpoints);
    all.map(|endpoint| (endpoint.addresses[0].clone(), endpoint.conditions.and_then(|known| known.ready) == Some(true)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_lead_to_ready_pods_by_address_and_name() {
    let stack = Stack::start().await;
    let spec = json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 18080, "targetPort": 8080}]});
    let service = stack.create::<Service>(json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let headless = json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 8080}]});
    stack.create::<Service>(json!({"metadata": {"name": "all"}, "spec": headless})).await;
    let cluster_ip = service.spec.and_then(|spec| spec.cluster_ip).expect("an address");
    let mut servers = Vec::new();
    for (name, word) in [("one", "first"), ("two", "second")] {
        let volumes = json!([{"name": "v", "hostPath": {"path": stack.dir.path()}}]);
        let mut pod = Stack::shell(name, "exec sleep 600", json!({"container": ready_when(name), "volumes": volumes}));
        pod["metadata"]["labels"] = json!({"app": "web"});
        stack.create::<Pod>(pod).await;
        let pod = stack.until_phase(name, "Running").await;
        let ip = pod.status.and_then(|status| status.pod_ip).expect("an address");
        servers.push((ip.clone(), word_server(&ip, 8080, word).await));
    }
    assert_eq!(read_word(&cluster_ip, 18080).await, None, "nobody is ready");
    std::fs::write(stack.dir.path().join("one"), "").expect("written");
    let first = servers[0].0.clone();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while read_word(&cluster_ip, 18080).await.as_deref() != Some("first") {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", endpoints(&stack, "web").await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(endpoints(&stack, "web").await.contains(&(first.clone(), true)));
    // in turn
    std::fs::write(stack.dir.path().join("two"), "").expect("written");
    let mut words = std::collections::BTreeSet::new();
    while words.len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "{words:?}");
        words.extend(read_word(&cluster_ip, 18080).await);
    }
    if namespaces().await {
        let script = "echo $WEB_SERVICE_HOST:$WEB_SERVICE_PORT $WEB_PORT; getent hosts web | tr -s ' '; \
                      getent ahostsv4 all | awk '{print $1}' | sort -u; getent hosts $(hostname) | awk '{print $1}'";
        stack.create::<Pod>(Stack::shell("client", script, json!({}))).await;
        let client = stack.until_phase("client", "Succeeded").await;
        let own = client.status.and_then(|status| status.pod_ip).expect("an address");
        let said = stack.logs("client", "main", false).await;
        let named = format!("{cluster_ip}:18080 tcp://{cluster_ip}:18080\n{cluster_ip} web.default.svc.cluster.local");
        assert!(said.starts_with(&named), "{said}");
        assert!(said.ends_with(&format!("{own}\n")), "{said}");
        if rustix::process::geteuid().is_root() {
            assert!(servers.iter().all(|(ip, _)| said.contains(&format!("\n{ip}\n"))), "{said}");
        }
    }
    std::fs::remove_file(stack.dir.path().join("one")).expect("removed");
    while endpoints(&stack, "web").await.contains(&(first.clone(), true)) {
        assert!(tokio::time::Instant::now() < deadline, "still ready");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(read_word(&cluster_ip, 18080).await.as_deref(), Some("second"));
    servers.into_iter().for_each(|(_, server)| server.abort());
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_services_answer() {
    let stack = Stack::start().await;
    stack
        .create::<Pod>({
            let mut pod = Stack::shell("echo", "exec sleep 600", json!({}));
            pod["metadata"]["labels"] = json!({"app": "echo"});
            pod
        })
        .await;
    let spec = json!({"selector": {"app": "echo"}, "ports": [{"port": 18053, "protocol": "UDP", "targetPort": 5353}]});
    let service = stack.create::<Service>(json!({"metadata": {"name": "echo"}, "spec": spec})).await;
    let cluster_ip = service.spec.and_then(|spec| spec.cluster_ip).expect("an address");
    let pod = stack.until_phase("echo", "Running").await;
    let ip = pod.status.and_then(|status| status.pod_ip).expect("an address");
    let server = tokio::net::UdpSocket::bind((ip.as_str(), 5353)).await.expect("a socket");
    let serving = tokio::spawn(async move {
        let mut buffer = [0; 100];
        while let Ok((count, from)) = server.recv_from(&mut buffer).await {
            // lost like any datagram
            let _ = server.send_to(&buffer[..count], from).await;
        }
    });
    let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let mut buffer = [0; 100];
    let answered = async {
        loop {
            // the proxy may not listen yet
            let _ = client.send_to(b"ping", (cluster_ip.as_str(), 18053)).await;
            let wait = std::time::Duration::from_millis(200);
            if let Ok(Ok((count, _))) = tokio::time::timeout(wait, client.recv_from(&mut buffer)).await {
                return buffer[..count].to_vec();
            }
        }
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(30), answered).await.expect("in time");
    assert_eq!(answer, b"ping");
    serving.abort();
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_objects_follow_their_changes() {
    let stack = Stack::start().await;
    stack.create::<ConfigMap>(json!({"metadata": {"name": "config"}, "data": {"a": "1", "b": "1"}})).await;
    stack.create::<Secret>(json!({"metadata": {"name": "login"}, "stringData": {"token": "old"}})).await;
    let pod = Stack::shell(
        "p",
        "exec sleep 600",
        json!({"volumes": [
            {"name": "config", "configMap": {"name": "config"}},
            {"name": "all", "projected": {"sources": [
                {"secret": {"name": "login"}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"serviceAccountToken": {"path": "account", "expirationSeconds": 600}}]}}]}),
    );
    let pod = stack.create::<Pod>(pod).await;
    stack.until_phase("p", "Running").await;
    let dir = stack.data().join("pods").join(pod.metadata.uid.expect("a uid")).join("volumes");
    let read = |path: &str| std::fs::read_to_string(dir.join(path)).unwrap_or_default();
    assert_eq!((read("config/a"), read("all/token")), ("1".into(), "old".into()));
    assert!(read("all/account").split('.').count() == 3, "a signed token");
    let merge = |patch: Value| Patch::Merge(patch);
    let params = PatchParams::default();
    stack
        .api::<ConfigMap>()
        .patch("config", &params, &merge(json!({"data": {"a": "2", "b": null}})))
        .await
        .expect("patched");
    eventually("the config map is new", || read("config/a") == "2" && !dir.join("config/b").exists()).await;
    stack
        .api::<Secret>()
        .patch("login", &params, &merge(json!({"stringData": {"token": "new"}})))
        .await
        .expect("patched");
    eventually("the secret is new", || read("all/token") == "new").await;
    stack
        .api::<Pod>()
        .patch("p", &params, &merge(json!({"metadata": {"labels": {"tier": "back"}}})))
        .await
        .expect("patched");
    eventually("the labels are new", || read("all/labels").contains("tier=\"back\"")).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_read_over_a_rotation() {
    let stack = Stack::start_with(|config| config.log_rotation = Rotation { max_bytes: 600, max_files: 20 }).await;
    let script = "until test -e /v/go; do sleep 0.1; done; for i in $(seq 1 30); do echo line $i; done; echo run $(wc -l < /v/runs); \
                  echo x >> /v/runs; until test -e /v/end; do sleep 0.1; done; test $(wc -l < /v/runs) -ge 2";
    let volumes = json!([{"name": "v", "hostPath": {"path": stack.dir.path()}}]);
    let pod = json!({"restartPolicy": "OnFailure", "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, "volumes": volumes});
    std::fs::write(stack.dir.path().join("runs"), "").expect("written");
    stack.create::<Pod>(Stack::shell("p", script, pod)).await;
    stack.until_phase("p", "Running").await;
    let params = LogParams { follow: true, ..LogParams::default() };
    let mut log = stack.api::<Pod>().log_stream("p", &params).await.expect("a log");
    std::fs::write(stack.dir.path().join("go"), "").expect("written");
    let mut seen = String::new();
    while !seen.contains("run 0\n") {
        let mut buffer = [0; 512];
        let count = futures::AsyncReadExt::read(&mut log, &mut buffer).await.expect("read");
        assert!(count > 0, "{seen}");
        seen += std::str::from_utf8(&buffer[..count]).expect("text");
    }
    let expected: String = (1..=30).map(|number| format!("line {number}\n")).collect();
    assert_eq!(seen, format!("{expected}run 0\n"));
    std::fs::write(stack.dir.path().join("end"), "").expect("written");
    stack.until_phase("p", "Succeeded").await;
    let previous = stack.logs("p", "main", true).await;
    assert_eq!(previous, seen, "all files of the run before");
    assert!(stack.logs("p", "main", false).await.ends_with("line 30\nrun 1\n"));
    let last = LogParams { tail_lines: Some(2), ..LogParams::default() };
    assert_eq!(stack.api::<Pod>().logs("p", &last).await.expect("logs"), "line 30\nrun 1\n");
    stack.stop().await;
}
