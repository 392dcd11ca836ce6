//! Inspections that take their own snapshot: it goes again, whatever becomes of them.
use std::collections::BTreeMap;

use forklift_api::Conversion;
use forklift_api::conversion::{ConversionPhase, ConversionStage};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::{Cluster, NS, has};

/// Makes a connection secret and an inspection of `vm-7`.
async fn inspect(cluster: &Cluster, settings: Value) {
    let secret = Secret {
        metadata: kube::api::ObjectMeta { name: Some("connection".into()), ..Default::default() },
        string_data: Some(BTreeMap::from([("url".to_owned(), "https://vc/sdk".to_owned())])),
        ..Secret::default()
    };
    let _ = cluster.api::<Secret>().create(&PostParams::default(), &secret).await;
    let conversion: Conversion = serde_json::from_value(json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Conversion", "metadata": {"name": "look"},
        "spec": {
            "type": "DeepInspection", "targetNamespace": NS, "vm": {"id": "vm-7"}, "settings": settings,
            "connection": {"secret": {"name": "connection", "namespace": NS}}
        }
    }))
    .expect("a conversion");
    cluster.api::<Conversion>().create(&PostParams::default(), &conversion).await.expect("is created");
}

async fn until(cluster: &Cluster, holds: impl Fn(&Conversion) -> bool) -> Conversion {
    cluster.until("look", |found: Option<&Conversion>| found.is_some_and(&holds)).await
}

async fn gone(cluster: &Cluster) {
    let api: Api<Conversion> = cluster.api();
    cluster.eventually("it is gone", || async { api.get_opt("look").await.is_ok_and(|found| found.is_none()) }).await;
}

fn phase(conversion: &Conversion) -> Option<ConversionPhase> {
    conversion.status.as_ref()?.phase
}

/// Waits for the inspection's pod and sets its status.
async fn pod(cluster: &Cluster, status: Value) -> Pod {
    let found = until(cluster, |c| c.status.as_ref().is_some_and(|status| status.pod.name.is_some())).await;
    let name = found.status.and_then(|status| status.pod.name).expect("a pod");
    let api: Api<Pod> = cluster.api();
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.expect("a pod")
}

fn snapshots(cluster: &Cluster) -> usize {
    cluster.source.door(|door| door.snapshots.len())
}

/// Answers as an inspection that has ended.
async fn serve(address: &str, results: Value) {
    let listener = tokio::net::TcpListener::bind((address, 8080)).await.expect("a loopback address of its own");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap_or(0);
            let path = String::from_utf8_lossy(&request[..read]).split(' ').nth(1).unwrap_or_default().to_owned();
            let body = if path == "/results" { results.to_string() } else { "ok".into() };
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inspection_takes_one_snapshot_and_removes_it_after_its_results() {
    let cluster = Cluster::start().await;
    let address = "127.77.3.1";
    serve(
        address,
        json!({
            "passed": false, "bytes_read": 4096,
            "all_concerns": [{"id": "fstab-by-path", "category": "Critical", "label": "l", "message": "m"}],
            "os_info": {"name": "Debian", "distro": "debian", "major_version": "12", "architecture": "x86_64"},
            "filesystems": [{"device": "/dev/sda1", "type": "ext4", "uuid": "u"}],
            "mountpoints": [{"device": "/dev/sda1", "mount_point": "/"}], "more": "is left out"
        }),
    )
    .await;
    inspect(&cluster, json!({})).await;
    let made = pod(&cluster, json!({"phase": "Running", "podIP": address})).await;
    let env = made.spec.as_ref().and_then(|spec| spec.containers[0].env.clone()).unwrap_or_default();
    let snapshot = env.iter().find(|variable| variable.name == "SNAPSHOT_MOREF").and_then(|v| v.value.clone());
    assert_eq!(snapshot.as_deref(), Some("snapshot-9"));
    let done = until(&cluster, |c| phase(c) == Some(ConversionPhase::Succeeded)).await;
    let status = done.status.expect("a status");
    let found = status.inspection_result.expect("a result");
    assert_eq!(status.stage, Some(ConversionStage::Finished));
    assert_eq!(
        (found.concerns[0].id.as_str(), found.bytes_read, found.all_checks_passed),
        ("fstab-by-path", 4096, false)
    );
    assert_eq!(
        (found.os_info.map(|os| os.version), found.mountpoints[0].mount_point.as_str()),
        (Some("12".into()), "/")
    );
    assert!(status.snapshot.is_none());
    assert_eq!((snapshots(&cluster), cluster.source.door(|door| door.snapshots_taken)), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inspection_that_fails_leaves_no_snapshot() {
    let cluster = Cluster::start().await;
    inspect(&cluster, json!({})).await;
    let message = json!({"error": {"code": "ToolMissing", "message": "guestfish is not installed"}}).to_string();
    let ended = json!({"terminated": {"exitCode": 3, "message": message}});
    let container = json!({"name": "deep-inspection", "ready": false, "restartCount": 0, "image": "", "imageID": "", "state": ended});
    pod(&cluster, json!({"phase": "Failed", "containerStatuses": [container]})).await;
    let failed = until(&cluster, |c| phase(c) == Some(ConversionPhase::Failed)).await;
    assert!(has(Some(&failed), "ConversionFailed"));
    let status = failed.status.expect("a status");
    let error = status.result.and_then(|result| result.error).expect("an error");
    assert_eq!(error.code, "ToolMissing");
    assert!(status.message.contains("guestfish is not installed"), "{}", status.message);
    assert_eq!((snapshots(&cluster), cluster.source.door(|door| door.snapshots_taken)), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inspection_that_is_canceled_or_deleted_leaves_no_snapshot() {
    let cluster = Cluster::start().await;
    let api: Api<Conversion> = cluster.api();
    inspect(&cluster, json!({})).await;
    pod(&cluster, json!({"phase": "Running", "podIP": "127.77.3.2"})).await;
    assert_eq!(snapshots(&cluster), 1);
    let canceled = Patch::Merge(json!({"status": {"phase": "Canceled"}}));
    api.patch_status("look", &PatchParams::default(), &canceled).await.expect("is changed");
    let done = until(&cluster, |c| c.status.as_ref().is_some_and(|status| status.completion_time.is_some())).await;
    assert!(phase(&done) == Some(ConversionPhase::Canceled) && has(Some(&done), "ConversionCanceled"));
    assert_eq!(snapshots(&cluster), 0);

    api.delete("look", &DeleteParams::default()).await.expect("is deleted");
    gone(&cluster).await;
    inspect(&cluster, json!({})).await;
    pod(&cluster, json!({"phase": "Pending"})).await;
    assert_eq!(snapshots(&cluster), 1);
    api.delete("look", &DeleteParams::default()).await.expect("is deleted");
    gone(&cluster).await;
    assert_eq!(snapshots(&cluster), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_given_is_left_alone_and_a_missing_secret_is_told() {
    let cluster = Cluster::start().await;
    let api: Api<Conversion> = cluster.api();
    inspect(&cluster, json!({"SNAPSHOT_MOREF": "snapshot-3"})).await;
    let ended = json!({"phase": "Failed", "message": "evicted by hand"});
    pod(&cluster, ended).await;
    let failed = until(&cluster, |c| phase(c) == Some(ConversionPhase::Failed)).await;
    assert!(failed.finalizers().is_empty());
    assert_eq!(cluster.source.door(|door| door.snapshots_taken), 0);

    api.delete("look", &DeleteParams::default()).await.expect("is deleted");
    gone(&cluster).await;
    cluster.api::<Secret>().delete("connection", &DeleteParams::default()).await.expect("is deleted");
    let conversion: Conversion = serde_json::from_value(json!({
        "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Conversion", "metadata": {"name": "look"},
        "spec": {
            "type": "DeepInspection", "targetNamespace": NS, "vm": {"id": "vm-7"},
            "connection": {"secret": {"name": "connection", "namespace": NS}}
        }
    }))
    .expect("a conversion");
    api.create(&PostParams::default(), &conversion).await.expect("is created");
    let failed = until(&cluster, |c| phase(c) == Some(ConversionPhase::Failed)).await;
    assert!(has(Some(&failed), "ConnectionSecretNotSet") && has(Some(&failed), "ConversionFailed"));
}
