//! The importer with a stand-in for the user's VDDK: order of calls, threads, buffers, failures and crashes.
//!
//! The process with the library is this test's own executable, run again: see [`vddk_helper`].

#[path = "vddk/library.rs"]
mod library;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Once;

use forklift_api::worker::{ImportOptions, ImportResult, ImportSource, ImportSpec, Verify, VolumeMode, VsphereDisk};
use forklift_testkit::peers::vcenter::{Options, Vcenter};
use forklift_workers::importer::{Setup, VddkHelper, import_with, serve_vddk};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 40 * MIB + 512 * 77;
const VM: &str = "db";
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
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let vcenter = Vcenter::start(Options {
            names: vec![VM.into()],
            vms: 1,
            off: true,
            disk_size: SIZE,
            ..Options::default()
        })?;
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
        Some(Self { vcenter, dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Copies with the library and these variables; `target` names target and log.
    async fn import(&self, target: &str, method: Option<&str>, env: &[(&str, &str)]) -> ImportResult {
        let _ = std::fs::remove_file(self.path("log"));
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
                vddk_config: Some("/etc/vddk.conf".into()),
                file: text(&machine["disks"][0]["base"]),
                ..VsphereDisk::default()
            }),
            target: self.path(target).to_str().expect("is text").into(),
            volume_mode: VolumeMode::Filesystem,
            virtual_size: Some(SIZE),
            identity: "vddk".into(),
            verify: Verify::Full,
            bandwidth: None,
            options: ImportOptions::default(),
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
        log.lines().filter_map(|line| line.split(' ').next()).filter(|call| *call != "ReadAsync").collect();
    let order =
        ["InitEx", "ConnectEx", "Open", "QueryAllocatedBlocks", "Close", "Disconnect", "FreeConnectParams", "Exit"];
    assert_eq!(calls, order, "{log}");
    let machine = source.vcenter.machine(VM).expect("is there");
    let id = machine["id"].as_str().expect("is text");
    // host, the thumbprint that our own rules trust, no snapshot, encrypted transport
    let port = source.vcenter.url().trim_end_matches("/sdk").rsplit(':').next().expect("has one");
    let connect = format!("ConnectEx moref={id} 127.0.0.1 {} - nbdssl port {port}", source.vcenter.thumbprint());
    assert!(log.contains(&connect), "{log}\n{connect}");
    assert!(log.contains("/vddk /etc/vddk.conf") && log.contains(" 4\n"), "{log}");
    assert!(log.contains("ReadAsync"), "reads are under way together: {log}");
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
    // a read that fails once, and a library that dies in the middle: the copy goes on
    source.check("read", &source.import("read", Some("vddk"), &[("STANDIN_FAIL", "read:5")]).await);
    source.no_violation();
    let result = source.import("crash", Some("vddk"), &[("STANDIN_FAIL", "once:6")]).await;
    source.check("crash", &result);
    assert_eq!(source.log().matches("InitEx").count(), 2, "{}", source.log());
    assert!(source.log().ends_with("Exit\n"), "{}", source.log());
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
