//! Plans from their checks to the created VM, against the embedded API server over real HTTP.
use crate::cluster::{Cluster, NS, TARGET, background, condition, has};
use forklift_api::annotations::DISK_SOURCE;
use forklift_api::{Conversion, Migration, Plan};
use forklift_controllers::caches::VirtualMachine;
use forklift_core::machine::PowerState;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

async fn names<K>(api: Api<K>) -> Vec<String>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let list = api.list(&ListParams::default()).await.expect("a list");
    list.items.iter().map(ResourceExt::name_any).collect()
}

fn vm<'a>(plan: &'a Plan, id: &str) -> &'a forklift_api::plan::VMStatus {
    let status = plan.status.as_ref().expect("a status");
    status.migration.vms.iter().find(|vm| vm.reference().id == id).expect("the VM")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_broken_disk_fails_one_vm_and_a_restart_migrates_only_that_one() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "Good VM", &["good-0", "good-1"]);
    cluster.source.add("vm-2", "bad", &["bad-0"]);
    cluster.fate.breaks("bad-0", "the disk's file ends before its last grain");
    cluster.plan(&["vm-1", "vm-2"]).await;
    cluster.migrate("first").await;

    let plan = cluster.until("plan", |plan: Option<&Plan>| has(plan, "Failed") && !has(plan, "Executing")).await;
    let good = vm(&plan, "vm-1");
    assert!(good.conditions.has("Succeeded") && good.timed.is_completed(), "{good:?}");
    assert_eq!(good.new_name, "good-vm");
    let bad = vm(&plan, "vm-2");
    assert!(bad.conditions.has("Failed"), "{bad:?}");
    let reasons = bad.error.as_ref().expect("an error").reasons.join(" ");
    assert!(
        reasons.contains("ends before its last grain") && reasons.contains("export the appliance again"),
        "{reasons}"
    );
    let machines: Api<VirtualMachine> = Api::namespaced(cluster.client.clone(), TARGET);
    assert_eq!(names(machines.clone()).await, ["good-vm"]);
    assert_eq!(cluster.source.power("vm-1"), PowerState::Off);
    assert_eq!(cluster.source.power("vm-2"), PowerState::On, "a failed VM runs again as it was found");
    let first = cluster.until("first", |m: Option<&Migration>| has(m, "Failed")).await;
    assert_eq!(first.status.map(|status| status.vms.len()), Some(2));

    cluster.fate.repair("bad-0");
    cluster.migrate("second").await;
    let plan = cluster.until("plan", |plan: Option<&Plan>| has(plan, "Succeeded") && !has(plan, "Executing")).await;
    assert!(vm(&plan, "vm-2").conditions.has("Succeeded"));
    assert_eq!(plan.status.as_ref().map(|status| status.migration.history.len()), Some(2));
    let mut made = names(machines).await;
    made.sort();
    assert_eq!(made, ["bad", "good-vm"]);
    let copies = cluster.fate.copied();
    assert_eq!(copies.iter().filter(|disk| disk.starts_with("good")).count(), 2, "{copies:?}");
    assert_eq!(copies.iter().filter(|disk| disk.starts_with("bad")).count(), 2, "{copies:?}");
    cluster.until("second", |m: Option<&Migration>| has(m, "Succeeded")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_vm_leaves_nothing_and_its_source_runs_again() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["stuck"]);
    cluster.fate.sticks("stuck");
    cluster.plan(&["vm-1"]).await;
    cluster.migrate("run").await;
    let waits = |plan: Option<&Plan>| {
        plan.is_some_and(|plan| {
            let vms = plan.status.iter().flat_map(|status| &status.migration.vms);
            vms.filter_map(|vm| vm.waiting_on.as_ref()).any(|waiting| waiting.code == "Copy")
        })
    };
    cluster.until("plan", waits).await;
    assert_eq!(cluster.source.power("vm-1"), PowerState::Off);

    let cancel = json!({"spec": {"cancel": [{"id": "vm-1"}]}});
    let migrations: Api<Migration> = cluster.api();
    migrations.patch("run", &PatchParams::default(), &Patch::Merge(&cancel)).await.expect("is changed");
    let plan = cluster.until("plan", |plan: Option<&Plan>| has(plan, "Canceled")).await;
    assert!(vm(&plan, "vm-1").conditions.has("Canceled"));
    assert_eq!(cluster.source.power("vm-1"), PowerState::On);
    assert!(names(Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), TARGET)).await.is_empty());
    assert!(names(Api::<Job>::namespaced(cluster.client.clone(), TARGET)).await.is_empty());
    cluster.until("run", |m: Option<&Migration>| has(m, "Canceled")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn importers_get_the_credentials_and_no_copy_of_them_stays() {
    let cluster = Cluster::start().await;
    let originals: Api<Secret> = Api::namespaced(cluster.client.clone(), NS);
    let data = json!({"stringData": {"user": "administrator", "password": "first"}});
    originals.patch("credentials", &PatchParams::default(), &Patch::Merge(&data)).await.expect("is patched");
    cluster.source.add("vm-1", "one", &["remote-broken", "remote-good"]);
    cluster.source.add("vm-2", "two", &["remote-stuck"]);
    cluster.fate.breaks("remote-broken", "the server refused the session");
    cluster.fate.sticks("remote-stuck");
    cluster.plan(&["vm-1", "vm-2"]).await;
    cluster.migrate("first").await;

    let copies: Api<Secret> = Api::namespaced(cluster.client.clone(), TARGET);
    let jobs: Api<Job> = Api::namespaced(cluster.client.clone(), TARGET);
    // the VM that failed leaves none while the other one still reads with its own
    let ended = |plan: &Plan, id: &str, phase: &str| {
        let vms = plan.status.iter().flat_map(|status| &status.migration.vms);
        vms.filter(|vm| vm.reference().id == id).any(|vm| vm.timed.is_completed() || vm.phase.as_str() == phase)
    };
    let both = |plan: &Plan| ended(plan, "vm-1", "none") && ended(plan, "vm-2", "CopyDisks");
    let plan = cluster.until("plan", |plan: Option<&Plan>| plan.is_some_and(both)).await;
    assert!(vm(&plan, "vm-1").conditions.has("Failed"));
    let left = copies.list(&ListParams::default()).await.expect("a list").items;
    let [copy] = left.as_slice() else { panic!("{:?}", left.iter().map(ResourceExt::name_any).collect::<Vec<_>>()) };
    let text = |key: &str| copy.data.as_ref().and_then(|data| data.get(key)).map(|value| value.0.clone());
    assert_eq!(text("password").as_deref(), Some(b"first".as_slice()));
    assert_eq!(text("user").as_deref(), Some(b"administrator".as_slice()));
    let reader = jobs.list(&ListParams::default()).await.expect("a list").items;
    let reader = reader.iter().find(|job| job.annotations()[DISK_SOURCE] == "remote-stuck").expect("the importer");
    let spec = serde_json::to_value(&reader.spec).expect("JSON");
    assert_eq!(
        spec.pointer("/template/spec/volumes/1/secret/secretName").and_then(|name| name.as_str()),
        Some(copy.name_any().as_str()),
        "{spec:#}"
    );
    assert!(!spec.to_string().contains("first"), "a password in the Job: {spec}");

    let cancel = json!({"spec": {"cancel": [{"id": "vm-2"}]}});
    let migrations: Api<Migration> = Api::namespaced(cluster.client.clone(), NS);
    migrations.patch("first", &PatchParams::default(), &Patch::Merge(&cancel)).await.expect("is patched");
    cluster.until("plan", |plan: Option<&Plan>| plan.is_some() && !has(plan, "Executing")).await;
    assert_eq!(names(copies).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_deleted_while_it_runs_leaves_nothing() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["stuck"]);
    cluster.fate.sticks("stuck");
    cluster.plan(&["vm-1"]).await;
    cluster.migrate("run").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), TARGET);
    cluster.eventually("the importer runs", || async { !names(pods.clone()).await.is_empty() }).await;

    cluster.api::<Plan>().delete("plan", &background()).await.expect("is deleted");
    let (claims, jobs) = (
        Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), TARGET),
        Api::<Job>::namespaced(cluster.client.clone(), TARGET),
    );
    cluster
        .eventually("everything is gone", || async {
            names(claims.clone()).await.is_empty()
                && names(jobs.clone()).await.is_empty()
                && names(pods.clone()).await.is_empty()
        })
        .await;
    let migrations: Api<Migration> = cluster.api();
    cluster.eventually("its migration is gone", || async { names(migrations.clone()).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_that_were_stopped_go_on_where_they_were() {
    let mut cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.plan(&["vm-1"]).await;
    cluster.migrate("run").await;
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Executing")).await;
    cluster.stop_controllers().await;
    cluster.run_controllers();
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Succeeded")).await;
    assert_eq!(cluster.fate.copied(), ["disk"], "nothing is copied twice");
    assert_eq!(names(Api::<VirtualMachine>::namespaced(cluster.client.clone(), TARGET)).await, ["one"]);
    assert!(names(Api::<Conversion>::namespaced(cluster.client.clone(), NS)).await.len() <= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_what_it_lacks() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.plan(&["vm-1"]).await;
    let plans: Api<Plan> = cluster.api();
    let change = json!({"spec": {"map": {"network": {"name": "nowhere"}}}});
    plans.patch("plan", &PatchParams::default(), &Patch::Merge(&change)).await.expect("is changed");
    let plan = cluster.until("plan", |plan: Option<&Plan>| has(plan, "NetworkMapRefNotValid")).await;
    assert!(!has(Some(&plan), "Ready"));
    assert_eq!(condition(Some(&plan), "NetworkMapRefNotValid").map(|c| c["reason"].clone()), Some(json!("NotFound")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_beyond_the_limit_wait_and_say_so() {
    let mut cluster = Cluster::start().await;
    cluster.stop_controllers().await;
    cluster.run_controllers_with(&[("MAX_VM_INFLIGHT", "1")]);
    cluster.source.add("vm-1", "one", &["stuck"]);
    cluster.source.add("vm-2", "two", &["disk"]);
    cluster.fate.sticks("stuck");
    cluster.plan(&["vm-1", "vm-2"]).await;
    cluster.migrate("run").await;
    let copies = |plan: &Plan| {
        plan.status.as_ref().is_some_and(|status| {
            status
                .migration
                .vms
                .first()
                .is_some_and(|vm| vm.waiting_on.as_ref().is_some_and(|waiting| waiting.code == "Copy"))
        })
    };
    let plan = cluster.until("plan", |plan: Option<&Plan>| plan.is_some_and(copies)).await;
    let waiting = vm(&plan, "vm-2");
    assert!(!waiting.timed.is_started());
    let pending = waiting.conditions.find("Pending").map(|condition| condition.message.as_str());
    assert_eq!(pending, Some("Waiting to start migration: in-flight limit reached (max 1)."));
    let ready = condition(Some(&plan), "Ready").map(|ready| ready["message"].clone());
    assert_eq!(ready, Some(json!("1 VM(s) waiting to start migration (in-flight limit: 1).")));
}

/// `PLAN_VMS=500` measures a larger plan: the times are printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_vms_at_a_time() {
    let count: usize = std::env::var("PLAN_VMS").ok().and_then(|count| count.parse().ok()).unwrap_or(40);
    let mut cluster = Cluster::start().await;
    cluster.stop_controllers().await;
    cluster.run_controllers_with(&[("MAX_VM_INFLIGHT", "10000")]);
    let ids: Vec<String> = (0..count).map(|index| format!("vm-{index}")).collect();
    for id in &ids {
        cluster.source.add(id, &format!("machine-{id}"), &[&format!("{id}-disk")]);
    }
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    cluster.plan(&ids).await;
    let begun = std::time::Instant::now();
    cluster.migrate("run").await;
    let jobs: Api<Job> = Api::namespaced(cluster.client.clone(), TARGET);
    cluster
        .eventually("all importers were made", || async {
            names(jobs.clone()).await.len() == count || cluster.fate.copied().len() == count
        })
        .await;
    println!("{count} VMs scheduled after {:?}", begun.elapsed());
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Succeeded")).await;
    println!("{count} VMs migrated after {:?}", begun.elapsed());
    assert_eq!(names(Api::<VirtualMachine>::namespaced(cluster.client.clone(), TARGET)).await.len(), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_names_the_vms_that_cannot_be_migrated() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.draft(&["vm-1", "vm-9"]).await;
    let plan = cluster.until("plan", |plan: Option<&Plan>| has(plan, "VMNotFound")).await;
    assert!(!has(Some(&plan), "Ready"));
    let items = condition(Some(&plan), "VMNotFound").map(|c| c["items"].to_string()).unwrap_or_default();
    assert!(items.contains("vm-9") && !items.contains("vm-1"), "{items}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archived_plan_keeps_only_what_was_migrated() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.plan(&["vm-1"]).await;
    cluster.migrate("run").await;
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Succeeded") && !has(plan, "Executing")).await;
    let archive = json!({"spec": {"archived": true}});
    cluster.api::<Plan>().patch("plan", &PatchParams::default(), &Patch::Merge(&archive)).await.expect("is changed");
    let plan = cluster.until("plan", |plan: Option<&Plan>| has(plan, "Archived")).await;
    assert!(!has(Some(&plan), "Ready") && has(Some(&plan), "Succeeded"));
    let conversions: Api<Conversion> = cluster.api();
    cluster.eventually("the conversion is gone", || async { names(conversions.clone()).await.is_empty() }).await;
    assert_eq!(names(Api::<VirtualMachine>::namespaced(cluster.client.clone(), TARGET)).await, ["one"]);
    assert_eq!(names(Api::<PersistentVolumeClaim>::namespaced(cluster.client.clone(), TARGET)).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_snapshots_is_not_migrated_warm() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.plan(&["vm-1"]).await;
    let warm = json!({"spec": {"type": "warm"}});
    cluster.api::<Plan>().patch("plan", &PatchParams::default(), &Patch::Merge(&warm)).await.expect("is changed");
    let found = cluster.raises::<Plan>("plan", "WarmMigrationNotReady", "NotSupported").await;
    assert_eq!(found["category"], "Critical");
    cluster.migrate("run").await;
    cluster.raises::<Migration>("run", "PlanNotReady", "NotFound").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_says_what_it_waits_for() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["stuck"]);
    cluster.fate.sticks("stuck");
    cluster.draft(&["vm-1", "vm-2"]).await;
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "VMNotFound")).await;
    cluster.migrate("first").await;
    let waits = cluster.raises::<Migration>("first", "PlanNotReady", "NotFound").await;
    assert_eq!((&waits["category"], &waits["items"]), (&json!("Critical"), &json!(["VMNotFound"])));
    assert!(waits["message"].as_str().is_some_and(|text| text.starts_with("The plan is not ready: ")), "{waits}");

    // it begins once the plan is ready, and the next one waits for its end
    let change = json!({"spec": {"vms": [{"id": "vm-1"}]}});
    cluster.api::<Plan>().patch("plan", &PatchParams::default(), &Patch::Merge(&change)).await.expect("is changed");
    cluster.until("first", |m: Option<&Migration>| has(m, "Running") && !has(m, "PlanNotReady")).await;
    cluster.migrate("second").await;
    let waits = cluster.raises::<Migration>("second", "Pending", "").await;
    assert_eq!(waits["message"], "The plan is executing migration first; this one begins when that has ended.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_scripts_are_brought_to_the_conversion() {
    let cluster = Cluster::start().await;
    cluster.source.add("vm-1", "one", &["disk"]);
    cluster.plan(&["vm-1"]).await;
    let (name, namespace) = ("scripts", NS);
    let change = json!({"spec": {"customizationScripts": {"name": name, "namespace": namespace},
        "vms": [{"id": "vm-1", "luks": {"name": "keys"}}]}});
    cluster.api::<Plan>().patch("plan", &PatchParams::default(), &Patch::Merge(&change)).await.expect("is changed");
    cluster.secret("keys", &[("key", "secret words")]).await;
    cluster.migrate("run").await;
    let waits = |plan: Option<&Plan>| {
        plan.and_then(|plan| plan.status.as_ref()).is_some_and(|status| {
            let waiting = status.migration.vms.iter().filter_map(|vm| vm.waiting_on.as_ref());
            waiting.into_iter().any(|waiting| waiting.message.contains("ConfigMap konveyor-forklift/scripts"))
        })
    };
    cluster.until("plan", waits).await;
    let scripts = json!({"metadata": {"name": name}, "data": {"01_linux_run_x.sh": "true"}});
    let scripts: ConfigMap = serde_json::from_value(scripts).expect("a config map");
    cluster.create(scripts).await;
    cluster.until("plan", |plan: Option<&Plan>| has(plan, "Succeeded")).await;
    let conversions = cluster.api::<Conversion>().list(&ListParams::default()).await.expect("a list").items;
    let spec = serde_json::to_value(&conversions[0].spec).expect("JSON");
    assert_eq!(spec["diskEncryption"]["secret"]["namespace"], TARGET);
    assert_ne!(spec["diskEncryption"]["secret"]["name"], "keys");
    assert_ne!(spec["extraVolumes"][0]["configMap"]["name"], "scripts");
    // no copy of the keys stays
    let copies: Api<Secret> = Api::namespaced(cluster.client.clone(), TARGET);
    assert_eq!(names(copies).await, Vec::<String>::new());
}
