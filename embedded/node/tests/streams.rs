//! exec, attach and port-forward, as clients use them: through the API server.

mod common;

use common::Stack;
use futures::SinkExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, TerminalSize};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn text(mut from: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.expect("read");
    String::from_utf8(bytes).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_runs_inside_the_container() {
    let stack = Stack::start().await;
    let script = "echo from-main > /v/word; exec sleep 600";
    let pod = json!({
        "container": {"env": [{"name": "COLOUR", "value": "blue"}], "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        "volumes": [{"name": "v", "emptyDir": {}}],
    });
    stack.create::<Pod>(Stack::shell("p", script, pod)).await;
    stack.until_phase("p", "Running").await;
    let api = stack.api::<Pod>();
    // the volume, the environment and the processes are the container's
    let command = [
        "/bin/sh",
        "-c",
        "until cat /v/word; do sleep 0.1; done 2>/dev/null; echo $COLOUR; test -d /proc/1 && tr '\\0' ' ' < /proc/1/cmdline; echo; echo oops >&2; exit 3",
    ];
    let params = AttachParams::default().container("main").stderr(true);
    let mut process = api.exec("p", command, &params).await.expect("exec");
    let (out, err) = (process.stdout().expect("output"), process.stderr().expect("errors"));
    let status = process.take_status().expect("a status");
    let (out, err) = tokio::join!(text(out), text(err));
    let status = status.await.expect("a status");
    let first = if common::namespaces().await { "sleep 600 " } else { out.lines().nth(2).expect("three lines") };
    assert_eq!(out, format!("from-main\nblue\n{first}\n"));
    assert_eq!(err, "oops\n");
    let cause = status.details.and_then(|details| details.causes).expect("causes").remove(0);
    assert_eq!((cause.reason.as_deref(), cause.message.as_deref()), (Some("ExitCode"), Some("3")));

    let params = AttachParams::default().stdin(true).stderr(false);
    let mut process = api.exec("p", ["head", "-c", "5"], &params).await.expect("exec");
    process.stdin().expect("input").write_all(b"hello world").await.expect("written");
    let status = process.take_status().expect("a status");
    assert_eq!(text(process.stdout().expect("output")).await, "hello");
    assert_eq!(status.await.expect("a status").status.as_deref(), Some("Success"));

    let mut missing = api.exec("p", ["/no/such/program"], &AttachParams::default()).await.expect("exec");
    let status = missing.take_status().expect("a status").await.expect("a status");
    assert_eq!(status.status.as_deref(), Some("Failure"));
    assert!(status.message.expect("a message").contains("/no/such/program"));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_have_the_clients_size() {
    let stack = Stack::start().await;
    stack.create::<Pod>(Stack::shell("p", "exec sleep 600", json!({}))).await;
    stack.until_phase("p", "Running").await;
    let params = AttachParams::interactive_tty();
    let mut process = stack.api::<Pod>().exec("p", ["/bin/sh"], &params).await.expect("exec");
    let size = TerminalSize { width: 91, height: 37 };
    process.terminal_size().expect("a size").send(size).await.expect("sent");
    let mut input = process.stdin().expect("input");
    // the size is on its way beside the input
    input
        .write_all(b"until test \"$(stty size)\" = '37 91'; do sleep 0.1; done; tty | cut -c1-9; stty size; exit\n")
        .await
        .expect("written");
    let said = text(process.stdout().expect("output")).await;
    assert!(said.contains("/dev/pts/\r\n37 91\r\n"), "{said:?}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reads_and_writes_the_program_itself() {
    let stack = Stack::start().await;
    let script = "while read line; do echo got $line; test \"$line\" = end && exit 0; done; echo no more input";
    stack.create::<Pod>(Stack::shell("p", script, json!({"container": {"stdin": true}}))).await;
    stack.until_phase("p", "Running").await;
    let params = AttachParams::default().stdin(true).stderr(false);
    let mut first = stack.api::<Pod>().attach("p", &params).await.expect("attach");
    let mut input = first.stdin().expect("input");
    let mut output = first.stdout().expect("output");
    input.write_all(b"one\n").await.expect("written");
    let mut seen = [0; 8];
    output.read_exact(&mut seen).await.expect("read");
    assert_eq!(&seen, b"got one\n");
    input.write_all(b"end\n").await.expect("written");
    assert_eq!(text(output).await, "got end\n");
    stack.until_phase("p", "Succeeded").await;
    assert_eq!(stack.logs("p", "main", false).await, "got one\ngot end\n");
    let once = json!({"container": {"stdin": true, "stdinOnce": true}});
    stack.create::<Pod>(Stack::shell("once", script, once)).await;
    stack.until_phase("once", "Running").await;
    let session = stack.api::<Pod>().attach("once", &params).await.expect("attach");
    session.abort();
    stack.until_phase("once", "Succeeded").await;
    assert_eq!(stack.logs("once", "main", false).await, "no more input\n");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_to_the_pod() {
    let stack = Stack::start().await;
    stack.create::<Pod>(Stack::shell("p", "exec sleep 600", json!({}))).await;
    let pod = stack.until_phase("p", "Running").await;
    let ip = pod.status.and_then(|status| status.pod_ip).expect("an address");
    let listener = tokio::net::TcpListener::bind((ip.as_str(), 8123)).await.expect("a listener");
    let mut forwarder = stack.api::<Pod>().portforward("p", &[8123, 8124]).await.expect("a forward");
    let mut stream = forwarder.take_stream(8123).expect("a stream");
    let refused = forwarder.take_error(8124).expect("an error");
    let (mut server, _) = listener.accept().await.expect("a connection");
    stream.write_all(b"question").await.expect("written");
    let mut asked = [0; 8];
    server.read_exact(&mut asked).await.expect("read");
    assert_eq!(&asked, b"question");
    server.write_all(b"answer").await.expect("written");
    drop(server);
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).await.expect("read");
    assert_eq!(&answer, b"answer");
    let error = refused.await.expect("an error");
    assert!(error.contains("does the pod listen there?"), "{error}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_wants_its_token_and_a_websocket() {
    let stack = Stack::start().await;
    stack.create::<Pod>(Stack::shell("p", "exec sleep 600", json!({}))).await;
    stack.until_phase("p", "Running").await;
    let node: k8s_openapi::api::core::v1::Node =
        kube::Api::all(stack.client.clone()).get("test-node").await.expect("a node");
    let port = node.status.and_then(|status| status.daemon_endpoints?.kubelet_endpoint).expect("a port").port;
    let ask = async |path: &str, token: &str| {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port as u16)).await.expect("connected");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        text(stream).await.split(' ').nth(1).expect("a code").to_owned()
    };
    for path in ["/exec/default/p/main?command=true", "/attach/default/p/main", "/portForward/default/p?port=1"] {
        assert_eq!(ask(path, "wrong").await, "401", "{path}");
        assert_eq!(ask(path, common::TOKEN).await, "400", "{path}");
    }
    assert_eq!(ask("/exec/default/other/main?command=true", common::TOKEN).await, "404");
    stack.stop().await;
}
