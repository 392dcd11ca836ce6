//! Jobs and storage, seen through the API.

mod common;

use common::{IMAGE, Stack, eventually, namespaces};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

fn job(name: &str, script: &str, spec: Value) -> Value {
    let mut job = json!({
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": IMAGE, "args": [script]}]}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        job["spec"][key] = value.clone();
    }
    job
}

fn ended(job: &Job) -> Option<(String, String)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let last = conditions.iter().find(|condition| condition.status == "True")?;
    Some((last.type_.clone(), last.reason.clone().unwrap_or_default()))
}

fn claim(name: &str, size: &str, spec: Value) -> Value {
    let mut claim = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        claim["spec"][key] = value.clone();
    }
    claim
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_complete_retry_and_fail() {
    let stack = Stack::start().await;
    stack.create::<Job>(job("many", "true", json!({"completions": 3, "parallelism": 2}))).await;
    stack.create::<Job>(job("hopeless", "exit 1", json!({"backoffLimit": 0}))).await;
    stack
        .create::<Job>(job(
            "refused",
            "exit 3",
            json!({"backoffLimit": 5, "podFailurePolicy": {"rules": [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}}]}}),
        ))
        .await;
    stack.create::<Job>(job("long", "sleep 600", json!({"activeDeadlineSeconds": 1}))).await;
    stack
        .create::<Job>(job(
            "restarting",
            "exit 1",
            json!({"backoffLimit": 1, "template": {"spec": {"restartPolicy": "OnFailure",
        "containers": [{"name": "main", "image": IMAGE, "args": ["exit 1"]}]}}}),
        ))
        .await;
    stack.create::<Job>(job("brief", "true", json!({"ttlSecondsAfterFinished": 0}))).await;
    for (name, kind, reason) in [
        ("many", "Complete", "CompletionsReached"),
        ("hopeless", "Failed", "BackoffLimitExceeded"),
        ("refused", "Failed", "PodFailurePolicy"),
        ("long", "Failed", "DeadlineExceeded"),
        ("restarting", "Failed", "BackoffLimitExceeded"),
    ] {
        let job = stack.until(name, |job: &Job| ended(job).is_some()).await;
        assert_eq!(ended(&job), Some((kind.into(), reason.into())), "{name}");
    }
    let many = stack.api::<Job>().get("many").await.expect("a job");
    assert_eq!(many.status.and_then(|status| status.succeeded), Some(3));
    let pods = stack.api::<Pod>().list(&ListParams::default().labels("job-name=many")).await.expect("pods");
    assert_eq!(pods.items.len(), 3);
    stack.until_gone::<Job>("brief").await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_get_directories_and_files() {
    let stack = Stack::start().await;
    stack.create::<PersistentVolumeClaim>(claim("files", "10Mi", json!({}))).await;
    stack.create::<PersistentVolumeClaim>(claim("device", "10Mi", json!({"volumeMode": "Block"}))).await;
    let write = "set -e; echo kept > /mnt/disk/disk.img; printf XYZ | dd of=/dev/block bs=1 seek=4096 conv=notrunc 2>/dev/null; stat -c %s /dev/block";
    let volumes = json!({
        "container": {"volumeMounts": [{"name": "f", "mountPath": "/mnt/disk"}], "volumeDevices": [{"name": "d", "devicePath": "/dev/block"}]},
        "volumes": [{"name": "f", "persistentVolumeClaim": {"claimName": "files"}}, {"name": "d", "persistentVolumeClaim": {"claimName": "device"}}],
    });
    stack.create::<Pod>(Stack::shell("writer", write, volumes.clone())).await;
    stack.until_phase("writer", "Succeeded").await;
    assert_eq!(stack.logs("writer", "main", false).await, "10485760\n");
    let read = "cat /mnt/disk/disk.img; dd if=/dev/block bs=1 skip=4096 count=3 2>/dev/null";
    stack.create::<Pod>(Stack::shell("reader", read, volumes)).await;
    stack.until_phase("reader", "Succeeded").await;
    assert_eq!(stack.logs("reader", "main", false).await, "kept\nXYZ");

    let bound = stack.until("files", is_bound).await;
    let volume = bound.spec.and_then(|spec| spec.volume_name).expect("a volume");
    let dir = stack.data().join("volumes").join(&volume);
    assert!(dir.join("disk.img").exists());
    stack.api::<PersistentVolumeClaim>().delete("files", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<PersistentVolumeClaim>("files").await;
    eventually("the data is removed", || !dir.exists()).await;
    let all: Api<PersistentVolume> = Api::all(stack.client.clone());
    let gone = kube::runtime::wait::await_condition(all, &volume, |found: Option<&PersistentVolume>| found.is_none());
    tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("in time").expect("watched");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_wait_when_they_have_to() {
    let stack = Stack::start_with(|config| config.storage_quota = Some(20 << 20)).await;
    let classes: Api<StorageClass> = Api::all(stack.client.clone());
    let late: StorageClass = serde_json::from_value(json!({"metadata": {"name": "late"}, "provisioner": "node.embedded/directory", "volumeBindingMode": "WaitForFirstConsumer"})).expect("a class");
    classes.create(&PostParams::default(), &late).await.expect("created");
    stack.create::<PersistentVolumeClaim>(claim("late", "1Mi", json!({"storageClassName": "late"}))).await;
    stack.create::<PersistentVolumeClaim>(claim("huge", "1Gi", json!({}))).await;
    let phase = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|status| status.phase.clone());
    stack.until("huge", |claim: &PersistentVolumeClaim| phase(claim).as_deref() == Some("Pending")).await;
    stack.until_event("ProvisioningFailed: no space: 1Gi requested, 20Mi of 20Mi left on this node").await;
    stack.until("late", |claim: &PersistentVolumeClaim| phase(claim).as_deref() == Some("Pending")).await;
    stack
        .create::<Pod>(Stack::shell(
            "consumer",
            "echo x > /v/x",
            json!({
                "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "late"}}],
            }),
        ))
        .await;
    stack.until_phase("consumer", "Succeeded").await;
    assert!(is_bound(&stack.api::<PersistentVolumeClaim>().get("late").await.expect("a claim")));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn static_volumes_are_bound_and_kept() {
    let stack = Stack::start().await;
    let store = stack.dir.path().join("store");
    std::fs::create_dir(&store).expect("made");
    std::fs::write(store.join("app.ova"), "appliance").expect("written");
    let volume: PersistentVolume = serde_json::from_value(json!({
        "metadata": {"name": "ova-store"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "hostPath": {"path": store}, "storageClassName": "",
                 "persistentVolumeReclaimPolicy": "Retain"},
    }))
    .expect("a volume");
    let all: Api<PersistentVolume> = Api::all(stack.client.clone());
    all.create(&PostParams::default(), &volume).await.expect("created");
    stack
        .create::<PersistentVolumeClaim>(claim(
            "store",
            "1Gi",
            json!({"storageClassName": "", "volumeName": "ova-store", "accessModes": ["ReadOnlyMany"]}),
        ))
        .await;
    let script = "cat /ova/app.ova; touch /ova/new 2>/dev/null || echo refused";
    stack
        .create::<Pod>(Stack::shell(
            "reader",
            script,
            json!({
                "container": {"volumeMounts": [{"name": "v", "mountPath": "/ova", "readOnly": true}]},
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "store"}}],
            }),
        ))
        .await;
    stack.until_phase("reader", "Succeeded").await;
    let said = stack.logs("reader", "main", false).await;
    // without mounts nothing stands in the way of writing
    assert_eq!(said, if namespaces().await { "appliancerefused\n" } else { "appliance" });
    stack.api::<PersistentVolumeClaim>().delete("store", &DeleteParams::default()).await.expect("deleted");
    stack.until_gone::<PersistentVolumeClaim>("store").await;
    let released = kube::runtime::wait::await_condition(all, "ova-store", |found: Option<&PersistentVolume>| {
        found.and_then(|volume| volume.status.as_ref()?.phase.as_deref()) == Some("Released")
    });
    tokio::time::timeout(std::time::Duration::from_secs(30), released).await.expect("in time").expect("watched");
    assert!(store.join("app.ova").exists());
    stack.stop().await;
}
