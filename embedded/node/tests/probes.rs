//! Probes and lifecycle hooks, seen through the API.

mod common;

use common::{Stack, eventually};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::DeleteParams;
use serde_json::json;

fn status(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_liveness_probe_restarts_the_container() {
    let stack = Stack::start().await;
    let script = "trap 'echo asked; exit 0' TERM; echo run; touch /v/healthy; while :; do sleep 0.1; done";
    let probe = json!({"exec": {"command": ["/bin/sh", "-c", "test -e /v/healthy"]}, "periodSeconds": 1, "failureThreshold": 2});
    let pod = Stack::shell(
        "p",
        script,
        json!({
            "restartPolicy": "Always",
            "container": {"livenessProbe": probe, "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            "volumes": [{"name": "v", "emptyDir": {}}],
        }),
    );
    let pod = stack.create::<Pod>(pod).await;
    stack.until("p", |pod: &Pod| status(pod).is_some_and(|status| status.ready)).await;
    let file = stack.data().join("pods").join(pod.metadata.uid.expect("a uid")).join("volumes/v/healthy");
    eventually("the container runs", || file.exists()).await;
    std::fs::remove_file(file).expect("removed");
    let pod = stack.until("p", |pod: &Pod| status(pod).is_some_and(|status| status.restart_count == 1)).await;
    let last = status(&pod).and_then(|status| status.last_state.clone()?.terminated).expect("a last state");
    assert_eq!(last.exit_code, 0, "it was asked to end");
    stack.until_event("Killing: Container main failed liveness probe, will be restarted").await;
    stack.until_event("Unhealthy: Liveness probe failed: command exited with 1").await;
    assert_eq!(stack.logs("p", "main", true).await, "run\nasked\n");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_probes_hold_the_others_back() {
    let stack = Stack::start().await;
    let file = |name: &str| json!({"exec": {"command": ["test", "-e", format!("/v/{name}")]}, "periodSeconds": 1});
    let volume = json!([{"name": "v", "emptyDir": {}}]);
    let container = json!({
        "startupProbe": file("started"), "readinessProbe": file("ready"),
        // it would end the container at once, if it ran
        "livenessProbe": {"exec": {"command": ["test", "-e", "/v/started"]}, "periodSeconds": 1, "failureThreshold": 1},
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
    });
    let slow = Stack::shell("slow", "exec sleep 600", json!({"container": container, "volumes": volume}));
    let slow = stack.create::<Pod>(slow).await;
    let hopeless = json!({"startupProbe": {"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1}});
    stack.create::<Pod>(Stack::shell("hopeless", "exec sleep 600", json!({"container": hopeless}))).await;
    let dir = stack.data().join("pods").join(slow.metadata.uid.expect("a uid")).join("volumes/v");
    stack.until_event("Unhealthy: Startup probe failed: command exited with 1").await;
    stack.until("slow", |pod: &Pod| status(pod).is_some_and(|status| status.started == Some(false))).await;
    std::fs::write(dir.join("started"), "").expect("written");
    let pod = stack.until("slow", |pod: &Pod| status(pod).is_some_and(|status| status.started == Some(true))).await;
    assert!(!status(&pod).expect("a status").ready);
    std::fs::write(dir.join("ready"), "").expect("written");
    let pod = stack.until("slow", |pod: &Pod| status(pod).is_some_and(|status| status.ready)).await;
    assert_eq!(status(&pod).expect("a status").restart_count, 0);
    stack.until_phase("hopeless", "Failed").await;
    stack.until_event("Killing: Container main failed startup probe, will be restarted").await;
    stack.stop().await;
}

/// A gRPC server that says it serves, in as many bytes as that takes.
async fn health_server(address: (std::net::Ipv4Addr, u16)) -> tokio::task::JoinHandle<()> {
    use http_body_util::{BodyExt, Full, StreamBody};
    use hyper::body::{Bytes, Frame};
    let listener = tokio::net::TcpListener::bind(address).await.expect("a listener");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.expect("a body").to_bytes();
                let status = u8::from(asked.ends_with(b"good"));
                let mut trailers = hyper::HeaderMap::new();
                trailers.insert("grpc-status", hyper::header::HeaderValue::from_static("0"));
                let body =
                    Full::new(Bytes::from(vec![0, 0, 0, 0, 2, 8, status])).collect().await.expect("a body").to_bytes();
                let frames = [Ok::<_, std::convert::Infallible>(Frame::data(body)), Ok(Frame::trailers(trailers))];
                let answer = hyper::Response::builder().header("content-type", "application/grpc");
                answer.body(StreamBody::new(futures::stream::iter(frames)))
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
                    .serve_connection(io, service),
            );
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_probes_ask_the_health_service() {
    let stack = Stack::start().await;
    // the server is beside the pod: all share the machine's network
    let waiting = Stack::shell(
        "p",
        "exec sleep 600",
        json!({"container": {
        "readinessProbe": {"grpc": {"port": 9191, "service": "good"}, "periodSeconds": 1}}}),
    );
    stack.create::<Pod>(waiting).await;
    let bad = Stack::shell(
        "bad",
        "exec sleep 600",
        json!({"container": {
        "readinessProbe": {"grpc": {"port": 9191, "service": "other"}, "periodSeconds": 1}}}),
    );
    stack.create::<Pod>(bad).await;
    let mut servers = Vec::new();
    for name in ["p", "bad"] {
        let pod = stack.until_phase(name, "Running").await;
        let ip = pod.status.and_then(|status| status.pod_ip).expect("an address").parse().expect("an address");
        servers.push(health_server((ip, 9191)).await);
    }
    stack.until("p", |pod: &Pod| status(pod).is_some_and(|status| status.ready)).await;
    stack.until_event("Unhealthy: Readiness probe failed: service unhealthy (responded with status 0)").await;
    let bad = stack.api::<Pod>().get("bad").await.expect("a pod");
    assert!(!status(&bad).expect("a status").ready);
    servers.into_iter().for_each(|server| server.abort());
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_around_a_containers_life() {
    let stack = Stack::start().await;
    let hooks = json!({
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo begun > /v/begun"]}},
        "preStop": {"exec": {"command": ["/bin/sh", "-c", "echo stopping > /v/stopping; sleep 0.3"]}},
    });
    let script = "trap 'cat /v/begun /v/stopping; exit 0' TERM; while :; do sleep 0.1; done";
    let pod = Stack::shell(
        "p",
        script,
        json!({
            "terminationGracePeriodSeconds": 30,
            "container": {"lifecycle": hooks, "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            "volumes": [{"name": "v", "hostPath": {"path": stack.dir.path()}}],
        }),
    );
    stack.create::<Pod>(pod).await;
    stack.until("p", |pod: &Pod| status(pod).is_some_and(|status| status.ready)).await;
    let mut log = stack
        .api::<Pod>()
        .log_stream("p", &kube::api::LogParams { follow: true, ..Default::default() })
        .await
        .expect("a log");
    stack.api::<Pod>().delete("p", &DeleteParams::default()).await.expect("deleted");
    let mut text = String::new();
    futures::AsyncReadExt::read_to_string(&mut log, &mut text).await.expect("read");
    assert_eq!(text, "begun\nstopping\n", "the hook came before the signal");
    stack.until_gone::<Pod>("p").await;
    let bad = json!({"container": {"lifecycle": {"postStart": {"exec": {"command": ["false"]}}}}});
    stack.create::<Pod>(Stack::shell("bad", "exec sleep 600", bad)).await;
    stack.until_phase("bad", "Failed").await;
    stack.until_event("FailedPostStartHook: PostStartHook failed: command 'false' exited with 1, message: \"\"").await;
    let endless = json!({"container": {"lifecycle": {"preStop": {"sleep": {"seconds": 600}}}}});
    stack.create::<Pod>(Stack::shell("endless", "exec sleep 600", endless)).await;
    stack.until_phase("endless", "Running").await;
    stack.api::<Pod>().delete("endless", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<Pod>("endless").await;
    stack.until_event("FailedPreStopHook: PreStopHook failed: not done within 1 s").await;
    stack.stop().await;
}
