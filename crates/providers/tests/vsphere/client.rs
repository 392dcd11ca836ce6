//! The client: sessions, watches, operations, TLS, tags.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use forklift_providers::vsphere::vim::{
    Client, Endpoint, MoRef, Secret, Tags, Tls, UpdateKind, VimError, Watch, peer_certificate, thumbprints,
};
use forklift_testkit::peers::{
    self,
    vcenter::{Fault, Options, Vcenter},
};
use serde_json::json;

use crate::{connect, endpoint, start, vm};

const SPECS: &[(&str, &[&str])] = &[
    ("Folder", &["name", "parent"]),
    ("HostSystem", &["name"]),
    ("Datastore", &["name"]),
    ("Network", &["name"]),
    ("VirtualMachine", &["name", "runtime.powerState", "config.hardware.device"]),
];

/// Reads one full set to its end; returns what is in it.
async fn full_set(watch: &mut Watch) -> BTreeSet<MoRef> {
    let mut found = BTreeSet::new();
    let mut first = true;
    loop {
        let set = watch.next(Duration::from_secs(5)).await.expect("a set").expect("the full set");
        assert_eq!((set.full, set.first), (true, first));
        first = false;
        for object in set.objects {
            assert_eq!(object.kind, UpdateKind::Enter);
            found.insert(object.object);
        }
        if !set.truncated {
            return found;
        }
    }
}

#[tokio::test]
async fn a_session_reads_what_is_there() {
    let Some(vcenter) = start(&["web"]) else { return };
    let client = connect(&vcenter).await;
    let about = client.about();
    assert!(about.is_vcenter() && about.is_at_least(8, 0), "{about:?}");
    assert_eq!(about.instance_uuid, vcenter.instance_uuid());
    assert_eq!(client.is_session_active().await, Ok(true));
    let root = client.content().root_folder.clone();
    let found = client.properties(&root, &["name", "childEntity"]).await.expect("the root folder");
    assert_eq!(found.text("name"), Some("Datacenters"));
    assert_eq!(found.morefs("childEntity").len(), 1);
    let gone = client.properties(&MoRef::vm("vm-none"), &["name"]).await.expect_err("no such VM");
    assert!(gone.is_fault("ManagedObjectNotFound"), "{gone}");
    assert_eq!(vcenter.calls().expect("counters").sessions(), 1);
    client.logout().await;
    assert!(matches!(client.properties(&root, &["name"]).await, Err(VimError::Parameters(_))));
    assert_eq!(vcenter.calls().expect("counters").sessions(), 0);
}

#[tokio::test]
async fn the_last_clone_logs_out() {
    let Some(vcenter) = start(&["web"]) else { return };
    drop(connect(&vcenter).await);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while vcenter.calls().expect("counters").sessions() > 0 {
        assert!(std::time::Instant::now() < deadline, "the session is still there");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_nobody_waits_for_leaves_no_session() {
    let Some(vcenter) = start(&["web"]) else { return };
    vcenter.fault(&Fault::Delay("Login".into(), 1000)).expect("a switch");
    let endpoint = endpoint(&vcenter);
    let connecting = Client::connect(&endpoint);
    assert!(tokio::time::timeout(Duration::from_millis(500), connecting).await.is_err(), "it takes a second");
    let ended = async {
        loop {
            let calls = vcenter.calls().expect("counters");
            if (calls.logins(), calls.of("Logout"), calls.sessions()) == (1, 1, 0) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await;
    assert!(ended.is_ok(), "{} sessions", vcenter.calls().expect("counters").sessions());
}

#[tokio::test]
async fn a_watch_brings_everything_then_changes_and_everything_again_after_the_session_is_lost() {
    let Some(vcenter) = start(&["web"]) else { return };
    let client = connect(&vcenter).await;
    let web = vm(&vcenter, "web");
    let mut watch = Watch::new(&client, SPECS).await.expect("a watch");
    let found = full_set(&mut watch).await;
    for (kind, _) in SPECS {
        assert!(found.iter().any(|object| object.kind == *kind), "{kind}");
    }
    assert_eq!(watch.next(Duration::from_secs(1)).await, Ok(None));
    vcenter.power("web", false).expect("off");
    let set = watch.next(Duration::from_secs(20)).await.expect("a set").expect("a change");
    assert!(!set.full);
    let changed = set.objects.iter().find(|update| update.object == web).expect("the VM");
    assert_eq!(changed.kind, UpdateKind::Modify);
    let power = changed.changes.iter().find(|(path, _)| path == "runtime.powerState").expect("its power");
    assert_eq!(power.1.as_ref().map(|value| value.text.as_str()), Some("poweredOff"));
    // nothing is lost: all of it comes again, and then changes
    vcenter.fault(&Fault::ExpireSessions).expect("expired");
    assert_eq!(full_set(&mut watch).await, found);
    vcenter.power("web", true).expect("on");
    let set = watch.next(Duration::from_secs(20)).await.expect("a set").expect("a change");
    assert!(!set.full && set.objects.iter().any(|update| update.object == web));
    assert_eq!(vcenter.calls().expect("counters").logins(), 2);
    watch.close().await;
}

#[tokio::test]
async fn a_session_that_expires_during_the_wait_is_replaced_too() {
    let Some(vcenter) = start(&["web"]) else { return };
    let client = connect(&vcenter).await;
    let mut watch = Watch::new(&client, SPECS).await.expect("a watch");
    let found = full_set(&mut watch).await;
    let asked = || vcenter.calls().expect("counters").of("WaitForUpdatesEx");
    let before = asked();
    let waits = tokio::spawn(async move { (watch.next(Duration::from_secs(30)).await, watch) });
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while asked() == before {
        assert!(std::time::Instant::now() < deadline, "it does not ask");
        tokio::task::yield_now().await;
    }
    vcenter.fault(&Fault::ExpireSessions).expect("expired");
    let (set, _watch) = waits.await.expect("no panic");
    let set = set.expect("an answer").expect("the full set");
    assert!(set.full && set.first);
    assert_eq!(set.objects.len(), found.len());
}

#[tokio::test]
async fn many_callers_log_in_once_when_their_session_expires() {
    let Some(vcenter) = start(&["web"]) else { return };
    let client = connect(&vcenter).await;
    let root = client.content().root_folder.clone();
    vcenter.fault(&Fault::ExpireSessions).expect("expired");
    let calls = (0..16).map(|_| client.properties(&root, &["name"]));
    for found in futures::future::join_all(calls).await {
        assert_eq!(found.expect("answered").text("name"), Some("Datacenters"));
    }
    assert_eq!(vcenter.calls().expect("counters").logins(), 2);
}

#[tokio::test]
async fn refused_credentials_are_never_sent_again() {
    let Some(vcenter) = start(&["web"]) else { return };
    let wrong = Endpoint { password: Secret::new("wrong"), ..endpoint(&vcenter) };
    let refused = Client::connect(&wrong).await.expect_err("refused");
    assert!(matches!(refused, VimError::InvalidLogin(_)), "{refused}");
    assert_eq!(vcenter.calls().expect("counters").invalid_logins(), 1);
    // and of a session whose password is changed meanwhile
    let client = connect(&vcenter).await;
    vcenter.fault(&Fault::Password("new".into())).expect("changed");
    vcenter.fault(&Fault::ExpireSessions).expect("expired");
    let root = client.content().root_folder.clone();
    for _ in 0..3 {
        let calls = (0..4).map(|_| client.properties(&root, &["name"]));
        for found in futures::future::join_all(calls).await {
            assert!(matches!(found, Err(VimError::InvalidLogin(_))));
        }
    }
    assert!(client.refusal().is_some());
    assert_eq!(vcenter.calls().expect("counters").invalid_logins(), 2);
}

#[tokio::test]
async fn whom_a_client_trusts() {
    let Some(vcenter) = start(&["web"]) else { return };
    let with = |tls: Tls| Endpoint { tls, ..endpoint(&vcenter) };
    let connected = |tls: Tls| async move { Client::connect(&with(tls)).await };
    let pinned = |thumbprint: &str| Tls { thumbprint: Some(thumbprint.to_owned()), ..Tls::default() };
    let shown = peer_certificate(&endpoint(&vcenter).url, Duration::from_secs(20)).await.expect("a certificate");
    let prints = thumbprints(&shown);
    assert_eq!(prints.sha1, vcenter.thumbprint().to_uppercase());
    assert!(connected(pinned(&prints.sha1)).await.is_ok());
    assert!(connected(pinned(&prints.sha256.to_lowercase())).await.is_ok());
    assert!(connected(Tls { insecure: true, ..Tls::default() }).await.is_ok());
    assert!(connected(Tls { ca_pem: Some(vcenter.ca().into()), ..Tls::default() }).await.is_ok());
    // the server's own certificate in the place of an authority's
    let own = rcgen_pem(&shown);
    assert!(connected(Tls { ca_pem: Some(own.into()), ..Tls::default() }).await.is_ok());
    let other = prints.sha1.replace(|c: char| c.is_ascii_digit(), "A");
    for (tls, hint) in [(pinned(&other), "set the new thumbprint"), (Tls::default(), "as `ca.crt`")] {
        let error = connected(tls).await.expect_err("not trusted");
        assert!(matches!(&error, VimError::Tls { .. }) && error.to_string().contains(hint), "{error}");
    }
    // a name that the certificate does not have
    let mut elsewhere = endpoint(&vcenter);
    elsewhere.url.set_host(Some("127.0.0.2")).expect("an address");
    let error = Client::connect(&elsewhere).await.expect_err("another name").to_string();
    assert!(error.contains("127.0.0.2"), "{error}");
}

fn rcgen_pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn a_vm_is_tracked_snapshot_exported_and_switched() {
    let Some(vcenter) = start(&["web"]) else { return };
    let client = connect(&vcenter).await;
    let vm = vm(&vcenter, "web");
    let props = client.properties(&vm, &["config.instanceUuid"]).await.expect("properties");
    let uuid = props.text("config.instanceUuid").expect("a UUID").to_owned();
    assert_eq!(client.find_vm(&uuid, true).await, Ok(Some(vm.clone())));
    assert_eq!(client.find_vm("502d4a5e-0000-0000-0000-000000000000", true).await, Ok(None));
    let task = client.set_change_tracking(&vm, true).await.expect("a task");
    client.wait_task(&task).await.expect("reconfigured");
    let task = client.create_snapshot(&vm, "one", "first", false).await.expect("a task");
    let first = client.wait_task(&task).await.expect("a snapshot").moref("").expect("its reference");
    vcenter.write("web", 0, 1 << 20, &[7; 100_000]).expect("written");
    let task = client.create_snapshot(&vm, "two", "second", false).await.expect("a task");
    let second = client.wait_task(&task).await.expect("a snapshot").moref("").expect("its reference");
    let disk = |snapshot: MoRef| {
        let client = client.clone();
        async move {
            let config = client.properties(&snapshot, &["config.hardware.device"]).await.expect("its devices");
            let devices = config.get("config.hardware.device").expect("devices").clone();
            devices.items().find(|device| device.is_a("VirtualDisk")).expect("a disk").clone()
        }
    };
    let (before, after) = (disk(first.clone()).await, disk(second.clone()).await);
    let key = i32::try_from(after.int("key").expect("a key")).expect("small");
    let since = before.text("backing.changeId").expect("a change ID");
    let areas = client.changed_areas(&vm, Some(&second), key, 16 << 20, since).await.expect("areas");
    let (start, end) = (1 << 20, (1 << 20) + 100_000);
    assert!(areas.iter().any(|(s, l)| *s <= start && s + l >= end), "{areas:?}");
    assert!(areas.iter().map(|(_, length)| length).sum::<u64>() < 1 << 20, "{areas:?}");
    vcenter.fault(&Fault::ResetCbt("web".into())).expect("reset");
    assert!(client.changed_areas(&vm, Some(&second), key, 16 << 20, since).await.is_err());

    let lease = client.export_snapshot(&first).await.expect("a lease");
    let info = lease.ready(Duration::from_secs(20)).await.expect("ready");
    let [device] = &info.devices.iter().filter(|device| device.disk).collect::<Vec<_>>()[..] else {
        panic!("one disk")
    };
    assert!(device.url.starts_with("https://127.0.0.1:"), "{device:?}");
    lease.progress(50).await.expect("progress");
    lease.abort("enough").await.expect("aborted");
    lease.abort("again").await.expect("gone already");
    for snapshot in [&second, &first] {
        let task = client.remove_snapshot(snapshot).await.expect("a task");
        client.wait_task(&task).await.expect("removed");
    }
    assert_eq!(vcenter.snapshots("web").expect("snapshots"), [""; 0]);
    let twice = client.remove_snapshot(&first).await.expect_err("gone");
    assert!(twice.is_fault("ManagedObjectNotFound"), "{twice}");

    let task = client.power_off(&vm).await.expect("a task");
    client.wait_task(&task).await.expect("off");
    let task = client.power_off(&vm).await.expect("a task");
    let again = client.wait_task(&task).await.expect_err("off already");
    assert!(again.is_fault("InvalidPowerState"), "{again}");
    let lease = client.export_vm(&vm).await.expect("a lease");
    lease.ready(Duration::from_secs(20)).await.expect("ready");
    lease.complete().await.expect("complete");
    for ending in [Fault::AbortLeases, Fault::ExpireSessions] {
        let lease = client.export_vm(&vm).await.expect("a lease");
        vcenter.fault(&ending).expect("ends");
        // it may have got ready before
        let ended = async {
            loop {
                if let Err(error) = lease.ready(Duration::from_secs(20)).await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it is told");
        assert!(error.is_transient(), "{ending:?}: another lease would do, not so: {error}");
    }
    // the last one goes a moment after its end was told
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while vcenter.calls().expect("counters").leases() > 0 {
        assert!(std::time::Instant::now() < deadline, "a lease is still open");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_changed_areas_of_several_pages_are_put_together() {
    let options =
        Options { vms: 1, names: vec!["web".into()], disk_size: 16 << 20, areas_page: 3, ..Options::default() };
    let Some(vcenter) = Vcenter::start(options) else { return };
    let client = connect(&vcenter).await;
    let vm = vm(&vcenter, "web");
    let task = client.set_change_tracking(&vm, true).await.expect("a task");
    client.wait_task(&task).await.expect("reconfigured");
    let task = client.create_snapshot(&vm, "one", "", false).await.expect("a task");
    let first = client.wait_task(&task).await.expect("a snapshot").moref("").expect("its reference");
    let config = client.properties(&first, &["config.hardware.device"]).await.expect("its devices");
    let disk = config.get("config.hardware.device").expect("devices").items().find(|d| d.is_a("VirtualDisk"));
    let since = disk.and_then(|disk| disk.text("backing.changeId")).expect("a change ID");
    let wanted: Vec<u64> = (0..10).map(|n| n << 20).collect();
    for at in &wanted {
        vcenter.write("web", 0, *at, &[1; 10]).expect("written");
    }
    let task = client.create_snapshot(&vm, "two", "", false).await.expect("a task");
    let second = client.wait_task(&task).await.expect("a snapshot").moref("").expect("its reference");
    let key = disk.and_then(|disk| disk.int("key")).and_then(|key| i32::try_from(key).ok()).expect("a key");
    let areas = client.changed_areas(&vm, Some(&second), key, 16 << 20, since).await.expect("areas");
    assert_eq!(areas.iter().map(|(start, _)| *start).collect::<Vec<_>>(), wanted);
    assert!(vcenter.calls().expect("counters").of("QueryChangedDiskAreas") > 3);
}

#[tokio::test]
async fn the_ends_of_tasks_and_missing_rights_are_told() {
    let Some(vcenter) = start(&["web"]) else { return };
    let client = connect(&vcenter).await;
    let vm = vm(&vcenter, "web");
    vcenter.fault(&Fault::FailTask("CreateSnapshot_Task".into(), "SnapshotFault".into())).expect("a rule");
    let task = client.create_snapshot(&vm, "one", "", false).await.expect("a task");
    let error = client.wait_task(&task).await.expect_err("failed");
    assert!(error.is_fault("SnapshotFault"), "{error}");
    // a login in the middle of the wait: the task is not lost
    vcenter.fault(&Fault::TaskDelay(vec![("createSnapshot".into(), 1500)])).expect("a delay");
    let task = client.create_snapshot(&vm, "two", "", false).await.expect("a task");
    let waits = client.wait_task(&task);
    let expires = async { vcenter.fault(&Fault::ExpireSessions) };
    let (done, expired) = futures::future::join(waits, expires).await;
    expired.expect("expired");
    assert!(done.expect("done").moref("").is_some());
    vcenter.fault(&Fault::Deny(vec!["VirtualMachine.State.CreateSnapshot".into()])).expect("denied");
    let root = client.content().root_folder.clone();
    let asked = ["VirtualMachine.State.CreateSnapshot", "Datastore.Browse"];
    let missing = client.missing_privileges(&root, &asked).await;
    assert_eq!(missing, Ok(vec!["VirtualMachine.State.CreateSnapshot".to_owned()]));
}

#[tokio::test]
async fn tags_are_read_in_batches_and_named_once() {
    let Some(vcenter) = start(&["web", "db"]) else { return };
    let client = connect(&vcenter).await;
    let (web, db) = (vm(&vcenter, "web"), vm(&vcenter, "db"));
    let made = Tagging::open(&vcenter).await;
    let category = made
        .post(
            "category",
            json!({"create_spec": {"name": "team", "description": "",
        "cardinality": "MULTIPLE", "associable_types": ["VirtualMachine"]}}),
        )
        .await;
    for name in ["blue", "green"] {
        let spec =
            json!({"create_spec": {"name": name, "description": format!("{name} team"), "category_id": category}});
        let tag = made.post("tag", spec).await;
        let id = tag.as_str().expect("an id");
        let objects = if name == "blue" { vec![&web, &db] } else { vec![&web] };
        for object in objects {
            let body = json!({"object_id": {"id": object.value, "type": object.kind}});
            made.post(&format!("tag-association/id:{id}?~action=attach"), body).await;
        }
    }
    let mut tags = Tags::open(&client).await.expect("a session").expect("a vCenter");
    let all = tags.all().await.expect("tags");
    let names = |object: &MoRef| {
        let mut names: Vec<_> =
            all[object].iter().map(|t| format!("{}/{} ({})", t.category, t.name, t.description)).collect();
        names.sort();
        names
    };
    assert_eq!(names(&web), ["team/blue (blue team)", "team/green (green team)"]);
    assert_eq!(names(&db), ["team/blue (blue team)"]);
    let of = tags.of(std::slice::from_ref(&db)).await.expect("tags");
    assert_eq!(of, std::iter::once((db.clone(), all[&db].clone())).collect());
    assert_eq!(tags.of(&[]).await, Ok(Default::default()));
    tags.close().await;
}

/// Makes tags, which the product never does.
struct Tagging {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Tagging {
    async fn open(vcenter: &Vcenter) -> Self {
        let client = connect(vcenter).await;
        let base = vcenter.url().replace("/sdk", "/rest/com/vmware/cis");
        let http = client.http().clone();
        let request = http.post(format!("{base}/session")).basic_auth(vcenter.user(), Some(vcenter.password()));
        let answer: serde_json::Value = request.send().await.expect("sent").json().await.expect("JSON");
        Self { http, base, token: answer["value"].as_str().expect("a session").to_owned() }
    }

    async fn post(&self, path: &str, body: serde_json::Value) -> serde_json::Value {
        let request =
            self.http.post(format!("{}/tagging/{path}", self.base)).header("vmware-api-session-id", &self.token);
        let answer = request.json(&body).send().await.expect("sent");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        let answer: serde_json::Value =
            serde_json::from_slice(&answer.bytes().await.expect("a body")).unwrap_or_default();
        answer["value"].clone()
    }
}

#[tokio::test]
async fn a_server_of_old_tls_is_told_apart() {
    let Some(openssl) = peers::program("openssl") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (key, cert) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
    let made = Command::new(&openssl)
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-keyout"])
        .args([key.as_os_str(), "-out".as_ref(), cert.as_os_str()])
        .stderr(Stdio::null())
        .status();
    assert!(made.expect("openssl runs").success());
    let port = peers::free_port().expect("a port");
    let mut server = Command::new(&openssl)
        .args(["s_server", "-quiet", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0", "-accept", &format!("127.0.0.1:{port}")])
        .args(["-key".as_ref(), key.as_os_str(), "-cert".as_ref(), cert.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl runs");
    let url = format!("https://127.0.0.1:{port}/sdk");
    let secret = [("user", "u"), ("password", "p"), ("insecureSkipVerify", "true")];
    let secret = secret.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    let old = Endpoint::from_secret(&url, &secret).expect("complete");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    let error = loop {
        match Client::connect(&old).await.expect_err("too old") {
            VimError::Unreachable { .. } if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            error => break error.to_string(),
        }
    };
    let _ = server.kill();
    let _ = server.wait();
    assert!(error.contains("only TLS 1.0/1.1"), "{error}");
}
