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
async fn indexed_jobs_know_their_places() {
    let stack = Stack::start().await;
    let indexed = |more: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    stack.create::<Job>(job("all", "echo $JOB_COMPLETION_INDEX $(hostname)", indexed(json!({})))).await;
    let partly = indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "1"}]}}));
    stack.create::<Job>(job("partly", "test $JOB_COMPLETION_INDEX = 1 || sleep 600", partly)).await;
    let limited = indexed(json!({"backoffLimitPerIndex": 0, "podFailurePolicy": {"rules": [
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [4]}}]}}));
    stack.create::<Job>(job("limited", "test $JOB_COMPLETION_INDEX = 2 || exit 4", limited)).await;
    for (name, kind, reason, completed, failed) in [
        ("all", "Complete", "CompletionsReached", "0-2", None),
        ("partly", "SuccessCriteriaMet", "SuccessPolicy", "1", None),
        ("limited", "Failed", "FailedIndexes", "2", Some("0,1")),
    ] {
        let job = stack.until(name, |job: &Job| ended(job).is_some()).await;
        assert_eq!(ended(&job), Some((kind.into(), reason.into())), "{name}");
        let status = job.status.expect("a status");
        assert_eq!((status.completed_indexes.as_deref(), status.failed_indexes.as_deref()), (Some(completed), failed));
    }
    let pods = stack.api::<Pod>().list(&ListParams::default().labels("job-name=all")).await.expect("pods");
    let mut said = Vec::new();
    for pod in pods.items {
        said.push(stack.logs(&pod.metadata.name.expect("a name"), "main", false).await);
    }
    said.sort();
    let host = |index: usize, text: &str| text.starts_with(&format!("{index} "));
    assert!(said.iter().enumerate().all(|(index, text)| host(index, text)), "{said:?}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_jobs_wait() {
    let stack = Stack::start().await;
    stack.create::<Job>(job("late", "sleep 600", json!({}))).await;
    stack.until("late", |job: &Job| job.status.as_ref().and_then(|status| status.ready) == Some(1)).await;
    let patch = |suspend: bool| kube::api::Patch::Merge(json!({"spec": {"suspend": suspend}}));
    let params = kube::api::PatchParams::default();
    stack.api::<Job>().patch("late", &params, &patch(true)).await.expect("patched");
    let is = |job: &Job, wanted: &str| {
        let mut conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions.any(|condition| condition.type_ == "Suspended" && condition.status == wanted)
    };
    let job = stack.until("late", |job: &Job| is(job, "True")).await;
    assert_eq!(job.status.and_then(|status| status.start_time), None);
    let pods = stack.api::<Pod>().list(&ListParams::default().labels("job-name=late")).await.expect("pods");
    for pod in pods.items {
        stack.until_gone::<Pod>(&pod.metadata.name.expect("a name")).await;
    }
    stack.api::<Job>().patch("late", &params, &patch(false)).await.expect("patched");
    let job = stack
        .until("late", |job: &Job| is(job, "False") && job.status.as_ref().and_then(|status| status.ready) == Some(1))
        .await;
    assert_eq!(job.status.and_then(|status| status.failed), None, "who was suspended has not failed");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_news_and_ended_pods_are_removed() {
    let keep = node::garbage::Keep { events: std::time::Duration::from_secs(1), ended_pods: 1 };
    let stack = Stack::start_with(|config| config.keep = keep).await;
    for name in ["first", "second", "third"] {
        stack.create::<Pod>(Stack::shell(name, "true", json!({}))).await;
    }
    let pods = stack.api::<Pod>();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let left = pods.list(&ListParams::default()).await.expect("pods").items.len();
        if left == 1 && stack.events().await.is_empty() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{left} pods, {:?}", stack.events().await);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn volumes_grow_and_those_that_are_too_full_are_told() {
    let stack = Stack::start_with(|config| config.usage_period = Some(std::time::Duration::from_millis(200))).await;
    stack.create::<PersistentVolumeClaim>(claim("device", "1Mi", json!({"volumeMode": "Block"}))).await;
    stack.create::<PersistentVolumeClaim>(claim("files", "1Mi", json!({}))).await;
    let bound = stack.until("device", is_bound).await;
    stack.until("files", is_bound).await;
    let patch = kube::api::Patch::Merge(json!({"spec": {"resources": {"requests": {"storage": "3Mi"}}}}));
    let claims = stack.api::<PersistentVolumeClaim>();
    claims.patch("device", &kube::api::PatchParams::default(), &patch).await.expect("patched");
    let size = |claim: &PersistentVolumeClaim| {
        let capacity = claim.status.as_ref().and_then(|status| status.capacity.clone()).unwrap_or_default();
        capacity.get("storage").and_then(|size| node::quantity::bytes(&size.0))
    };
    let grown = stack.until("device", |claim: &PersistentVolumeClaim| size(claim) == Some(3 << 20)).await;
    assert_eq!(grown.status.and_then(|status| status.conditions).unwrap_or_default(), Vec::new());
    let file = stack
        .data()
        .join("volumes")
        .join(bound.spec.and_then(|spec| spec.volume_name).expect("a volume"))
        .join("disk.img");
    assert_eq!(std::fs::metadata(file).expect("a file").len(), 3 << 20);
    let mount = json!({
        "container": {"volumeMounts": [{"name": "f", "mountPath": "/v"}]},
        "volumes": [{"name": "f", "persistentVolumeClaim": {"claimName": "files"}}],
    });
    stack.create::<Pod>(Stack::shell("writer", "head -c 2097152 /dev/urandom > /v/x", mount)).await;
    stack.until_phase("writer", "Succeeded").await;
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    while !stack
        .events()
        .await
        .iter()
        .any(|event| event.starts_with("VolumeOverCapacity: the volume holds 2.0Mi, more than its size of 1Mi"))
    {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", stack.events().await);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let limited = json!({
        "container": {"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
    });
    stack.create::<Pod>(Stack::shell("greedy", "head -c 2097152 /dev/urandom > /v/x; exec sleep 600", limited)).await;
    let pod = stack.until_phase("greedy", "Failed").await;
    assert_eq!(pod.status.and_then(|status| status.reason).as_deref(), Some("Evicted"));
    stack.until_event("Evicted: Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\".").await;
    stack.stop().await;
}
