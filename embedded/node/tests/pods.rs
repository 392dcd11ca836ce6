//! Pods as processes, seen through the API.

mod common;

use common::{IMAGE, Stack, eventually, namespaces, process_with};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStateTerminated, Pod, Secret};
use kube::api::DeleteParams;
use serde_json::json;

fn terminated(pod: &Pod, position: usize) -> ContainerStateTerminated {
    let status = pod.status.clone().expect("a status");
    let container = status.container_statuses.expect("statuses")[position].clone();
    container.state.and_then(|state| state.terminated).expect("a terminated container")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_its_logs_are_read() {
    let stack = Stack::start().await;
    stack.create::<ConfigMap>(json!({"metadata": {"name": "config"}, "data": {"colour": "blue", "size": "7"}})).await;
    stack.create::<Secret>(json!({"metadata": {"name": "login"}, "stringData": {"token": "s3cret"}})).await;
    let script = "set -e; echo ip=$POD_IP; echo colour=$C_colour; echo token=$TOKEN; echo arg=$0; cat /cfg/deep/colour /sec/token; \
                  echo warn >&2; echo done > /dev/termination-log; touch /shared/main; test -e /shared/first";
    // the first process of its own
    let script = &if namespaces().await { format!("{script}; test $$$$ = 1") } else { script.to_owned() };
    stack
        .create::<Pod>(Stack::shell(
            "p",
            script,
            json!({
                "initContainers": [{"name": "first", "image": IMAGE, "args": ["echo from-init; touch /shared/first"],
                    "volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}],
                "container": {
                    "args": [script, "$(TOKEN)-$(UNKNOWN)"],
                    "envFrom": [{"prefix": "C_", "configMapRef": {"name": "config"}}],
                    "env": [
                        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "login", "key": "token"}}},
                    ],
                    "volumeMounts": [
                        {"name": "shared", "mountPath": "/shared"},
                        {"name": "config", "mountPath": "/cfg/deep"},
                        {"name": "login", "mountPath": "/sec", "readOnly": true},
                    ],
                },
                "volumes": [
                    {"name": "shared", "emptyDir": {}},
                    {"name": "config", "configMap": {"name": "config"}},
                    {"name": "login", "secret": {"secretName": "login"}},
                ],
            }),
        ))
        .await;
    let pod = stack
        .until("p", |pod: &Pod| {
            matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"))
        })
        .await;
    let log = stack.logs("p", "main", false).await;
    let end = terminated(&pod, 0);
    assert_eq!(
        (end.exit_code, end.message.as_deref(), end.reason.as_deref()),
        (0, Some("done\n"), Some("Completed")),
        "{log}"
    );
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).expect("an address");
    let octets: std::net::Ipv4Addr = ip.parse().expect("an address");
    assert!(octets.octets()[0] == 127 && octets.octets()[1] >= 64, "{ip}");
    for line in [
        format!("ip={ip}\n"),
        "colour=blue\n".into(),
        "token=s3cret\n".into(),
        "arg=s3cret-$(UNKNOWN)\n".into(),
        "blues3cret".into(),
        "warn\n".into(),
    ] {
        assert!(log.contains(&line), "{line:?} in {log:?}");
    }
    assert_eq!(stack.logs("p", "first", false).await, "from-init\n");
    for path in ["/shared", "/cfg", "/sec"] {
        assert!(!std::path::Path::new(path).exists(), "{path} on the machine");
    }
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_restarted_or_reported() {
    let stack = Stack::start().await;
    let counting = "echo run >> /v/runs; n=$(wc -l < /v/runs); echo this is run $n; test $n -ge 3";
    let volume = json!({"container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, "volumes": [{"name": "v", "emptyDir": {}}], "restartPolicy": "OnFailure"});
    stack.create::<Pod>(Stack::shell("retried", counting, volume)).await;
    stack
        .create::<Pod>(Stack::shell(
            "failing",
            "echo last words; exit 3",
            json!({"container": {"terminationMessagePolicy": "FallbackToLogsOnError"}}),
        ))
        .await;
    stack.create::<Pod>(Stack::shell("late", "sleep 600", json!({"activeDeadlineSeconds": 1}))).await;
    stack.create::<Pod>(Stack::shell("unknown", "true", json!({"container": {"image": "tests/none"}}))).await;
    stack.create::<Pod>(Stack::shell("broken", "true", json!({"container": {"command": ["/no/such/program"]}}))).await;

    let retried = stack.until_phase("retried", "Succeeded").await;
    let status = retried.status.expect("a status").container_statuses.expect("statuses")[0].clone();
    assert_eq!(status.restart_count, 2);
    assert_eq!(status.last_state.and_then(|state| state.terminated).map(|end| end.exit_code), Some(1));
    assert_eq!(stack.logs("retried", "main", false).await, "this is run 3\n");
    assert_eq!(stack.logs("retried", "main", true).await, "this is run 2\n");

    let failing = stack.until_phase("failing", "Failed").await;
    let end = terminated(&failing, 0);
    assert_eq!((end.exit_code, end.message.as_deref()), (3, Some("last words\n")));

    let late = stack.until_phase("late", "Failed").await;
    assert_eq!(late.status.and_then(|status| status.reason).as_deref(), Some("DeadlineExceeded"));

    let unknown = stack
        .until("unknown", |pod: &Pod| {
            let waiting = pod
                .status
                .as_ref()
                .and_then(|status| status.container_statuses.as_ref()?[0].state.as_ref()?.waiting.as_ref());
            waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("ErrImagePull"))
        })
        .await;
    let message = unknown
        .status
        .and_then(|status| status.container_statuses?[0].state.clone()?.waiting?.message)
        .expect("a message");
    assert!(message.contains("tests/none") && message.contains(IMAGE), "{message}");

    let broken = stack.until_phase("broken", "Failed").await;
    let end = terminated(&broken, 0);
    assert_eq!((end.exit_code, end.reason.as_deref()), (128, Some("StartError")));
    assert!(end.message.is_some_and(|message| message.contains("/no/such/program")));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_is_graceful_and_leaves_nothing() {
    let stack = Stack::start().await;
    let polite = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    stack.create::<Pod>(Stack::shell("polite", polite, json!({"terminationGracePeriodSeconds": 30}))).await;
    let stubborn = "trap '' TERM; echo stubborn-child; sleep 987654 & wait; sleep 987654";
    stack.create::<Pod>(Stack::shell("stubborn", stubborn, json!({}))).await;
    for name in ["polite", "stubborn"] {
        stack.until_phase(name, "Running").await;
    }
    eventually("the child runs", || process_with("987654")).await;
    let began = std::time::Instant::now();
    stack.api::<Pod>().delete("polite", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<Pod>("polite").await;
    assert!(began.elapsed().as_secs() < 20, "the whole grace period was used");
    stack.api::<Pod>().delete("stubborn", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<Pod>("stubborn").await;
    eventually("all processes are gone", || !process_with("sleep\u{0}987654")).await;
    let pods = stack.data().join("pods");
    eventually("all files are gone", || std::fs::read_dir(&pods).expect("a directory").count() == 0).await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_come_back_after_the_node() {
    let mut stack = Stack::start().await;
    let script = "echo started; sleep 600";
    stack.create::<Pod>(Stack::shell("always", script, json!({"restartPolicy": "Always"}))).await;
    stack.create::<Pod>(Stack::shell("never", script, json!({}))).await;
    for name in ["always", "never"] {
        stack.until_phase(name, "Running").await;
    }
    stack.create::<Pod>(Stack::shell("removed", script, json!({}))).await;
    stack.until_phase("removed", "Running").await;
    stack.stop_node().await;
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    stack.api::<Pod>().delete("removed", &params).await.expect("deleted");
    let left = std::fs::read_dir(stack.data().join("pods")).expect("a directory").count();
    assert_eq!(left, 3);
    stack.start_node();
    let always = stack
        .until("always", |pod: &Pod| {
            let status = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()?.first());
            status.is_some_and(|status| status.restart_count == 1 && status.ready)
        })
        .await;
    let last = always
        .status
        .and_then(|status| status.container_statuses?[0].last_state.clone()?.terminated)
        .expect("a last state");
    assert_eq!((last.exit_code, last.reason.as_deref()), (137, Some("NodeLost")));
    let never = stack.until_phase("never", "Failed").await;
    assert_eq!(never.status.and_then(|status| status.reason).as_deref(), Some("NodeLost"));
    let pods = stack.data().join("pods");
    eventually("files of the removed pod are gone", || std::fs::read_dir(&pods).expect("a directory").count() == 2)
        .await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_users_get_paths_instead_of_mounts() {
    let stack = Stack::start_with(|config| config.namespaces = Some(false)).await;
    let script = "echo hello > /vol/file; echo $WHERE; echo fine > $TERMINATION_LOG";
    stack
        .create::<Pod>(Stack::shell(
            "p",
            script,
            json!({
                "container": {
                    "env": [{"name": "WHERE", "value": "/vol/file"}],
                    "volumeMounts": [{"name": "v", "mountPath": "/vol"}],
                },
                "volumes": [{"name": "v", "emptyDir": {}}],
            }),
        ))
        .await;
    let pod = stack.until_phase("p", "Succeeded").await;
    assert_eq!(terminated(&pod, 0).message.as_deref(), Some("fine\n"));
    let said = stack.logs("p", "main", false).await;
    assert_eq!(std::fs::read_to_string(said.trim()).expect("the file"), "hello\n");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_follows_the_probe() {
    let stack = Stack::start().await;
    // a port is open on the pod's own address only
    let script = "exec python3 -m http.server 8080 --bind $POD_IP";
    stack
        .create::<Pod>(Stack::shell(
            "web",
            script,
            json!({"container": {
                "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "readinessProbe": {"httpGet": {"path": "/etc/", "port": 8080}, "periodSeconds": 1},
            }}),
        ))
        .await;
    let is_ready = |pod: &Pod, wanted: &str| {
        let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == wanted)
    };
    stack.until("web", |pod: &Pod| is_ready(pod, "False")).await;
    let pod = stack.until("web", |pod: &Pod| is_ready(pod, "True")).await;
    let ip = pod.status.and_then(|status| status.pod_ip).expect("an address");
    assert!(std::net::TcpStream::connect((ip, 8080)).is_ok());
    stack.stop().await;
}
