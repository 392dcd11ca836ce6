//! The importer with a stand-in for the user's VDDK: order of calls, threads, buffers, failures and crashes.
//!
//! The process with the library is this test's own executable, run again: see [`vddk_helper`].

#[path = "vddk/library.rs"]
mod library;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Once;
use std::time::Duration;

use forklift_api::vddk::AIO;
use forklift_api::worker::{ImportOptions, ImportResult, ImportSource, ImportSpec, Verify, VolumeMode, VsphereDisk};
use forklift_providers::vsphere::vim::{Client, Endpoint, MoRef};
use forklift_testkit::peers::vcenter::{Options, Vcenter};
use forklift_workers::importer::{Setup, VddkHelper, import_with, serve_vddk};
use forklift_workers::vddk_check;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 40 * MIB + 512 * 77;
const VM: &str = "db";
/// Lines of the log that come often.
const OFTEN: [&str; 2] = ["ReadAsync", "config"];
/// Tells this executable that it is the process with the library.
const CHILD: &str = "FORKLIFT_TEST_VDDK_CHILD";

/// What the importer starts; in a run of the tests nothing.
#[test]
fn vddk_helper() {
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(serve_vddk(), ExitCode::SUCCESS);
    }
}

struct Source {
    vcenter: Vcenter,
    dir: tempfile::TempDir,
}

impl Source {
    fn start(flags: &[&str]) -> Option<Self> {
        Self::with(flags, true)
    }

    /// A source whose VM is `off`, or runs.
    fn with(flags: &[&str], off: bool) -> Option<Self> {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let vcenter =
            Vcenter::start(Options { names: vec![VM.into()], vms: 1, off, disk_size: SIZE, ..Options::default() })?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let secret = dir.path().join("secret");
        std::fs::create_dir(&secret).expect("makes the secret");
        for (key, value) in [("user", vcenter.user()), ("password", vcenter.password()), ("ca.crt", vcenter.ca())] {
            std::fs::write(secret.join(key), value).expect("writes the secret");
        }
        let raw = std::fs::File::create(dir.path().join("raw")).expect("makes it");
        raw.set_len(SIZE).expect("gives it a size");
        for chunk in [0u64, 1, 4, 6, 9] {
            use std::os::unix::fs::FileExt;
            let bytes: Vec<u8> = (0..3 * MIB).map(|at| (at.wrapping_mul(chunk + 11) >> 5) as u8 | 1).collect();
            raw.write_all_at(&bytes, chunk * 4 * MIB + 128 * 1024).expect("writes");
        }
        vcenter.put_disk(VM, 0, &dir.path().join("raw")).expect("puts the disk");
        library::build(&dir.path().join("vddk"), flags);
        std::fs::write(dir.path().join("vddk.conf"), AIO).expect("writes the configuration");
        Some(Self { vcenter, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Copies with the library and these variables; `target` names the target.
    async fn import(&self, target: &str, method: Option<&str>, env: &[(&str, &str)]) -> ImportResult {
        self.import_by(target, method, env, None, ImportOptions::default()).await
    }

    /// As [`Self::import`], over these transports and with these options.
    async fn import_by(
        &self,
        target: &str,
        method: Option<&str>,
        env: &[(&str, &str)],
        transports: Option<&str>,
        options: ImportOptions,
    ) -> ImportResult {
        for name in ["log", "log.crashed"] {
            let _ = std::fs::remove_file(self.path(name));
        }
        let machine = self.vcenter.machine(VM).expect("is there");
        let text = |value: &serde_json::Value| value.as_str().expect("is text").to_owned();
        let spec = ImportSpec {
            source: ImportSource::Vsphere(VsphereDisk {
                url: self.vcenter.url().into(),
                vm: text(&machine["id"]),
                instance_uuid: text(&machine["instanceUuid"]),
                key: 2000,
                method: method.map(Into::into),
                vddk: Some(self.path("vddk").to_str().expect("is text").into()),
                vddk_config: Some(self.path("vddk.conf").to_str().expect("is text").into()),
                vddk_transports: transports.map(Into::into),
                file: text(&machine["disks"][0]["base"]),
                ..VsphereDisk::default()
            }),
            target: self.path(target).to_str().expect("is text").into(),
            volume_mode: VolumeMode::Filesystem,
            virtual_size: Some(SIZE),
            identity: "vddk".into(),
            verify: Verify::Full,
            bandwidth: None,
            options,
        };
        let mut variables = vec![
            (CHILD.to_owned(), "1".to_owned()),
            ("STANDIN_DISK".to_owned(), self.path("raw").display().to_string()),
            ("STANDIN_LOG".to_owned(), self.path("log").display().to_string()),
            ("STANDIN_ACCOUNT".to_owned(), format!("{}/{}", self.vcenter.user(), self.vcenter.password())),
        ];
        variables.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let vddk = VddkHelper {
            program: std::env::current_exe().expect("is known"),
            args: ["--exact", "vddk_helper", "--nocapture"].map(Into::into).to_vec(),
            env: variables,
            answer: Duration::from_secs(if env.iter().any(|(_, value)| value.starts_with("hang")) { 3 } else { 60 }),
        };
        import_with(spec, &Setup { secret: self.path("secret"), vddk }, None, std::future::pending()).await
    }

    fn check(&self, target: &str, result: &ImportResult) {
        assert!(result.error.is_none() && result.verified, "{target}: {result:?}");
        let (found, wanted) =
            (std::fs::read(self.path(target)).expect("reads"), std::fs::read(self.path("raw")).expect("reads"));
        assert!(found == wanted, "{target} holds the disk");
    }

    fn no_violation(&self) {
        assert!(!self.log().contains("VIOLATION"), "{}", self.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_library_is_called_in_its_order_on_its_thread() {
    let Some(source) = Source::start(&[]) else { return };
    let result = source.import("disk.img", None, &[]).await;
    source.check("disk.img", &result);
    source.no_violation();
    let log = source.log();
    let calls: Vec<&str> =
        log.lines().filter_map(|line| line.split(' ').next()).filter(|call| !OFTEN.contains(call)).collect();
    let order =
        ["InitEx", "ConnectEx", "Open", "QueryAllocatedBlocks", "Close", "Disconnect", "FreeConnectParams", "Exit"];
    assert_eq!(calls, order, "{log}");
    let machine = source.vcenter.machine(VM).expect("is there");
    let id = machine["id"].as_str().expect("is text");
    // host, the thumbprint that our own rules trust, no snapshot, encrypted transport
    let port = source.vcenter.url().trim_end_matches("/sdk").rsplit(':').next().expect("has one");
    let connect = format!("ConnectEx moref={id} 127.0.0.1 {} - nbdssl port {port}", source.vcenter.thumbprint());
    assert!(log.contains(&connect), "{log}\n{connect}");
    let config = source.path("vddk.conf").display().to_string();
    assert!(log.contains(&format!("/vddk {config}\n")) && log.contains(" 4\n"), "{log}");
    assert!(log.contains("config VixDiskLib.nfcAio.Session.BufCount=4\n"), "{log}");
    assert!(log.contains("ReadAsync 4 under way"), "as many reads are under way as there are buffers: {log}");
    let reason = result.method_reason.as_deref().unwrap_or_default();
    assert_eq!((result.method.as_deref(), reason), (Some("vddk"), "the provider has VDDK; transport nbdssl"));
    // five of ten chunks were ever written
    assert!(result.bytes_read < 21 * MIB, "{result:?}");
    assert!(!log.contains(source.vcenter.password()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_library_cannot_do_is_done_without() {
    let Some(source) = Source::start(&["-DSTANDIN_OLD"]) else { return };
    // an older version: reads one by one, all of the disk
    source.check("old", &source.import("old", Some("vddk"), &[]).await);
    source.no_violation();
    let Some(source) = Source::start(&[]) else { return };
    source.check("blocks", &source.import("blocks", Some("vddk"), &[("STANDIN_FAIL", "blocks")]).await);
    source.check("sync", &source.import("sync", Some("vddk"), &[("STANDIN_SYNC", "1")]).await);
    source.no_violation();
    // a list of blocks that makes no sense: all of the disk is read
    for lie in ["blocks-order", "blocks-beyond"] {
        let result = source.import(lie, Some("vddk"), &[("STANDIN_FAIL", lie)]).await;
        source.check(lie, &result);
        assert!(result.bytes_read >= SIZE, "{lie}: {result:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_on_over_a_new_connection() {
    let Some(source) = Source::start(&[]) else { return };
    // a read that fails at once and one that fails later, a connection that broke off, a crash, a read that never ends
    for fail in ["read:1", "async:5", "lost:3", "once:6", "hang:4"] {
        let result = source.import(fail, Some("vddk"), &[("STANDIN_FAIL", fail), ("STANDIN_JITTER", "20000")]).await;
        source.check(fail, &result);
        source.no_violation();
        let starts = source.log().matches("InitEx").count();
        // (on a slow machine another read may take longer than it may, where that is short)
        assert!(starts == 2 || fail == "hang:4" && starts > 2, "{fail}: {}", source.log());
        assert!(result.retries > 0, "{fail}: {result:?}");
    }
    assert!(source.log().ends_with("Exit\n"), "{}", source.log());
    // and where the host is away for a while
    let told = [("STANDIN_FAIL", "lost:3"), ("STANDIN_OUTAGE", "2")];
    source.check("outage", &source.import("outage", Some("vddk"), &told).await);
    source.no_violation();
    assert_eq!(source.log().matches("InitEx").count(), 4, "{}", source.log());
}

/// As many seeds as `VDDK_SEEDS` says: where what fails, how long reads take, which buffers there are.
#[tokio::test(flavor = "multi_thread")]
async fn every_byte_arrives_whatever_fails_on_the_way() {
    let Some(source) = Source::start(&[]) else { return };
    let seeds = std::env::var("VDDK_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(3u64);
    for seed in 0..seeds {
        let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |end: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % end
        };
        let fault = ["async", "lost", "hang", "once", "none"][below(5) as usize];
        let fault = format!("{fault}:{}", 1 + below(9));
        let (jitter, buffers) = ((1 + below(30_000)).to_string(), 1 + below(8));
        let text = format!("VixDiskLib.nfcAio.Session.BufCount={buffers}\n");
        std::fs::write(source.path("vddk.conf"), text).expect("writes the configuration");
        let told = [("STANDIN_FAIL", fault.as_str()), ("STANDIN_JITTER", jitter.as_str())];
        let result = source.import(&format!("seed-{seed}"), Some("vddk"), &told).await;
        source.check(&format!("seed-{seed}"), &result);
        source.no_violation();
        let deeper = format!("ReadAsync {} under way", buffers + 1);
        assert!(!source.log().contains(&deeper), "seed {seed}, {fault}: {}", source.log());
        std::fs::remove_file(source.path(&format!("seed-{seed}"))).expect("removes the target");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transport_that_was_chosen_is_told() {
    let Some(source) = Source::start(&[]) else { return };
    for (asked, told) in
        [("san:hotadd:nbdssl:nbd", "transport nbdssl"), ("san:nbd", "transport nbd, which is not encrypted")]
    {
        let options = ImportOptions::default();
        let result = source.import_by(asked, Some("vddk"), &[], Some(asked), options).await;
        source.check(asked, &result);
        assert!(source.log().contains(&format!(" - {asked} port ")), "{}", source.log());
        let reason = result.method_reason.as_deref().unwrap_or_default();
        assert_eq!(reason, format!("as the provider's transferMethod says; {told}"));
    }
    // no storage network here: it is said, and without a way that was insisted on the copy goes on in another one
    let of = async |method, asked| source.import_by("san", method, &[], Some(asked), ImportOptions::default()).await;
    let error = of(Some("vddk"), "san").await.error.expect("there is no storage network");
    assert!(error.message.contains("VixDiskLib_ConnectEx: The operation is not supported (VDDK error 6)"), "{error:?}");
    let error = of(Some("vddk"), "pigeon").await.error.expect("there is no such way");
    assert_eq!(error.message, "vddkTransports: \"pigeon\" is none of nbdssl, nbd, san, hotadd");
    let result = of(None, "san").await;
    source.check("san", &result);
    let reason = result.method_reason.unwrap_or_default();
    assert!(result.method.as_deref() == Some("nfc") && reason.contains("VDDK cannot be used"), "{reason}");
    // the library's configuration is not there
    std::fs::remove_file(source.path("vddk.conf")).expect("removes it");
    let error = source.import("config", Some("vddk"), &[]).await.error.expect("no configuration");
    assert!(error.message.contains("VixDiskLib_InitEx: The file is not found"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_read_what_changed_at_their_snapshot() {
    let Some(source) = Source::with(&[], false) else { return };
    source.vcenter.reconfigure(VM, &serde_json::json!({"changeTrackingEnabled": true})).expect("switches tracking on");
    let secret = ["user", "password", "ca.crt"]
        .map(|key| (key.to_owned(), std::fs::read(source.path("secret").join(key)).expect("reads")));
    let endpoint = Endpoint::from_secret(source.vcenter.url(), &secret.into_iter().collect()).expect("is whole");
    let client = Client::connect(&endpoint).await.expect("logs in");
    let vm = MoRef::vm(source.vcenter.machine(VM).expect("is there")["id"].as_str().expect("is text"));
    let mut base: Option<String> = None;
    for round in 0..3u64 {
        for number in 0..round * 3 {
            let bytes = vec![(round * 7 + number + 1) as u8; 70_000];
            source.vcenter.write(VM, 0, (number * 5 + round) * MIB + 1234, &bytes).expect("the guest writes");
        }
        let name = format!("round-{round}");
        let task = client.create_snapshot(&vm, &name, "", false).await.expect("begins");
        let snapshot = client.wait_task(&task).await.expect("takes it").moref("").expect("names it");
        let props = client.properties(&snapshot, &["config.hardware.device"]).await.expect("reads");
        let devices = props.get("config.hardware.device").expect("has devices");
        let disk = devices.items().find(|device| device.is_a("VirtualDisk")).expect("has a disk");
        let change_id = disk.text("backing.changeId").expect("changes are tracked").to_owned();
        // the guest goes on; the library serves what the snapshot holds
        source.vcenter.write(VM, 0, 30 * MIB, &[0xee; 4096]).expect("the guest writes");
        source.vcenter.dump_disk(VM, 0, Some(&name), &source.path("raw")).expect("dumps");
        let options = ImportOptions {
            snapshot: Some(snapshot.value.clone()),
            change_id: Some(change_id.clone()),
            base_change_id: base.clone(),
            ..ImportOptions::default()
        };
        let fail = if round == 2 { "lost:2" } else { "" };
        let told = [("STANDIN_FAIL", fail), ("STANDIN_JITTER", "5000")];
        let result = source.import_by("rounds", None, &told, None, options).await;
        source.check("rounds", &result);
        source.no_violation();
        assert_eq!((result.method.as_deref(), result.change_id.as_deref()), (Some("vddk"), Some(change_id.as_str())));
        assert!(source.log().contains(&format!(" {} nbdssl port", snapshot.value)), "{}", source.log());
        assert!(round == 0 || result.bytes_read < 4 * MIB, "only what changed: {result:?}");
        source.vcenter.remove_snapshot(VM, &name).expect("removes it");
        base = Some(change_id);
    }
    client.logout().await;
}

#[test]
fn the_check_loads_the_library_as_a_copy_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |name: &str, flags: &[&str]| {
        let folder = folder.path().join(name);
        library::build(&folder, flags);
        vddk_check::check(&folder)
    };
    assert_eq!(check("good", &[]), Ok(folder.path().join("good/lib64/libvixDiskLib.so.8")));
    check("old", &["-DSTANDIN_OLD"]).expect("one without asynchronous reads can be used");
    let lacks = check("other", &["-DVixDiskLib_GetInfo=VixDiskLib_Other"]).expect_err("lacks a function");
    assert!(lacks.contains("has no VixDiskLib_GetInfo: this is not VMware's VDDK, or one before 6.5"), "{lacks}");
    let broken = check("broken", &["-DSTANDIN_BROKEN"]).expect_err("cannot be initialised");
    assert!(broken.ends_with("VixDiskLib_InitEx: One of the parameters was invalid (VDDK error 1)"), "{broken}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_that_fails_is_told_or_done_without() {
    let Some(source) = Source::start(&[]) else { return };
    for (fail, text) in [
        ("init", "VixDiskLib_InitEx"),
        ("connect", "Insufficient permissions (VDDK error 18000)"),
        ("open", "VixDiskLib_Open: The file is not found"),
        ("crash:1", "ended (a crash of the library?)"),
    ] {
        let error = source.import("failed", Some("vddk"), &[("STANDIN_FAIL", fail)]).await.error.expect(fail);
        assert!(error.message.contains(text) && error.retryable, "{fail}: {error:?}");
        source.no_violation();
    }
    // nobody insisted on the library
    let result = source.import("without", None, &[("STANDIN_FAIL", "connect")]).await;
    source.check("without", &result);
    std::fs::remove_dir_all(source.path("vddk")).expect("removes");
    let error = source.import("gone", Some("vddk"), &[]).await.error.expect("there is none");
    assert!(error.message.contains("no libvixDiskLib.so in"), "{error:?}");
}
