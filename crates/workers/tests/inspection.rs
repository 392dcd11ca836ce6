//! The inspection of guests before they are copied, with libguestfs and the readers of the importer: LVM over several
//! disks, encrypted disks, Windows through the user's VDDK, and a source whose disks can be exported only.

#[path = "inspection/guests.rs"]
mod guests;
#[path = "inspection/hive.rs"]
mod hive;
#[path = "vddk/library.rs"]
mod library;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Once;

use forklift_api::vddk::AIO;
use forklift_api::worker::{InspectionReport, ReportedMountpoint, VsphereDisk, WorkerError};
use forklift_providers::vsphere::vim::{Client, Endpoint, MoRef};
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use forklift_workers::conversion::Tools;
use forklift_workers::importer::{VddkHelper, serve_vddk};
use forklift_workers::inspection::{Config, Shared, inspect};

const MIB: u64 = 1 << 20;
const VM: &str = "guest";
const SNAPSHOT: &str = "forklift-migration-precopy-1";
/// Tells this executable that it is the process with the library.
const CHILD: &str = "FORKLIFT_TEST_VDDK_CHILD";

/// What the inspection starts; in a run of the tests nothing.
#[test]
fn vddk_helper() {
    if std::env::var_os(CHILD).is_some() {
        assert_eq!(serve_vddk(), ExitCode::SUCCESS);
    }
}

/// A vCenter with one VM that runs and has a snapshot.
struct Source {
    vcenter: Vcenter,
    dir: tempfile::TempDir,
    snapshot: String,
}

impl Source {
    async fn start(disks: &[PathBuf]) -> Option<Self> {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let count = u32::try_from(disks.len()).expect("few disks");
        let vcenter = Vcenter::start(Options { names: vec![VM.into()], vms: 1, disks: count, ..Options::default() })?;
        for (number, disk) in disks.iter().enumerate() {
            vcenter.put_disk(VM, number, disk).expect("puts the disk");
        }
        let dir = tempfile::tempdir().expect("a temporary folder");
        for folder in ["secret", "luks"] {
            std::fs::create_dir(dir.path().join(folder)).expect("makes a folder");
        }
        let secret = dir.path().join("secret");
        let account = [("user", vcenter.user()), ("password", vcenter.password()), ("ca.crt", vcenter.ca())];
        for (key, value) in account {
            std::fs::write(secret.join(key), value).expect("writes the secret");
        }
        let account = account.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into_iter().collect();
        let endpoint = Endpoint::from_secret(vcenter.url(), &account).expect("is whole");
        let client = Client::connect(&endpoint).await.expect("logs in");
        let vm = MoRef::vm(vcenter.machine(VM).expect("is there")["id"].as_str().expect("is text"));
        let task = client.create_snapshot(&vm, SNAPSHOT, "", false).await.expect("begins");
        let snapshot = client.wait_task(&task).await.expect("takes it").moref("").expect("names it");
        client.logout().await;
        Some(Self { vcenter, dir, snapshot: snapshot.value })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self) -> Config {
        let machine = self.vcenter.machine(VM).expect("is there");
        let text = |value: &serde_json::Value| value.as_str().expect("is text").to_owned();
        Config {
            order: VsphereDisk {
                url: self.vcenter.url().into(),
                vm: text(&machine["id"]),
                instance_uuid: text(&machine["instanceUuid"]),
                ..VsphereDisk::default()
            },
            snapshot: self.snapshot.clone(),
            secret: self.path("secret"),
            root_disk: None,
            luks_dir: self.path("luks"),
            clevis: false,
        }
    }

    async fn inspect(&self, config: &Config, helper: &VddkHelper) -> Result<InspectionReport, WorkerError> {
        let tools = Tools { env: guests::libguestfs(), ..Tools::on_path() };
        inspect(config, &tools, helper, &Shared::default()).await
    }

    /// Nothing is held at the source any more.
    fn left(&self) {
        let calls = self.vcenter.calls().expect("answers");
        assert_eq!((calls.sessions(), calls.leases()), (0, 0));
    }
}

fn lines(report: &InspectionReport) -> Vec<String> {
    report
        .all_concerns
        .iter()
        .map(|concern| format!("{} {}: {}", concern.category, concern.id, concern.message))
        .collect()
}

fn disk(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.raw"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_over_two_disks_and_disks_with_and_without_their_key() {
    let Some(folder) = guests::folder() else { return };
    let disks = ["lvm-a", "lvm-b", "luks-right", "luks-wrong"].map(|name| disk(&folder, name));
    let Some(source) = Source::start(&disks).await else { return };
    std::fs::write(source.path("luks").join("0"), guests::PASSPHRASE).expect("writes the key");
    source.vcenter.reset_calls().expect("counts anew");
    let report = source.inspect(&source.config(), &VddkHelper::default()).await.expect("is inspected");
    let os = report.os_info.as_ref().expect("a system");
    assert_eq!((os.distro.as_str(), os.major_version.as_str(), os.architecture.as_str()), ("debian", "12", "x86_64"));
    let at = |device: &str, point: &str| ReportedMountpoint { device: device.into(), mount_point: point.into() };
    let by_path = "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:2:0-part1";
    assert_eq!(report.mountpoints, [at("/dev/vg/root", "/"), at(by_path, "/srv"), at("/dev/vg/data", "/var")]);
    // the key opened its disk: what is in it is seen
    let kinds: Vec<_> = report.filesystems.iter().map(|found| (found.device.as_str(), found.type_.as_str())).collect();
    for wanted in [("/dev/vg/root", "ext4"), ("/dev/vg/data", "ext4"), ("/dev/mapper/opened2", "ext4")] {
        assert!(kinds.contains(&wanted), "{kinds:?}");
    }
    let found = lines(&report);
    println!("{found:#?}");
    let says = |text: &str| found.iter().any(|line| line.contains(text));
    assert!(
        says("Critical fstab-by-path: /etc/fstab mounts /srv from /dev/disk/by-path/pci-0000:03:00.0"),
        "{found:#?}"
    );
    assert!(says("Critical disk-encrypted: /dev/sdd is encrypted with LUKS and none of the keys"), "{found:#?}");
    assert!(says("Information fstab-device-missing: /etc/fstab mounts /old from UUID=0000"), "{found:#?}");
    assert!(!says("/dev/sdc is encrypted") && !says("filesystem-damaged"), "{found:#?}");
    // little was read of it
    assert!(report.bytes_read > MIB / 4 && report.bytes_read < 100 * MIB, "{}", report.bytes_read);
    let served = source.vcenter.calls().expect("answers").range_bytes("");
    assert!(served >= report.bytes_read / 2, "{served} bytes were served, {} are said to be read", report.bytes_read);
    source.left();
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_through_a_library_whose_connection_breaks_off() {
    let Some(folder) = guests::folder() else { return };
    let Some(source) = Source::start(&[disk(&folder, "windows")]).await else { return };
    // nothing but VDDK can read this disk
    source.vcenter.fault(&Fault::NoRanges(vec!["VMFS".into(), "OTHER".into()])).expect("refuses");
    library::build(&source.path("vddk"), &[]);
    std::fs::write(source.path("vddk.conf"), AIO).expect("writes the configuration");
    let mut config = source.config();
    config.order.vddk = Some(source.path("vddk").display().to_string());
    config.order.vddk_config = Some(source.path("vddk.conf").display().to_string());
    let variables = [
        (CHILD, "1".to_owned()),
        ("STANDIN_DISK", disk(&folder, "windows").display().to_string()),
        ("STANDIN_LOG", source.path("log").display().to_string()),
        ("STANDIN_ACCOUNT", format!("{}/{}", source.vcenter.user(), source.vcenter.password())),
        ("STANDIN_FAIL", "lost:20".to_owned()),
    ];
    let helper = VddkHelper {
        program: std::env::current_exe().expect("is known"),
        args: ["--exact", "vddk_helper", "--nocapture"].map(Into::into).to_vec(),
        env: variables.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        ..VddkHelper::default()
    };
    let report = source.inspect(&config, &helper).await.expect("is inspected");
    let log = std::fs::read_to_string(source.path("log")).expect("the library was called");
    assert!(!log.contains("VIOLATION") && log.ends_with("Exit\n"), "{log}");
    assert_eq!(log.matches("InitEx").count(), 2, "{log}");
    assert!(log.contains(&format!(" {} nbdssl port", source.snapshot)), "{log}");
    let os = report.os_info.as_ref().expect("a system");
    assert_eq!(
        (os.name.as_str(), os.distro.as_str(), os.major_version.as_str(), os.architecture.as_str()),
        ("Windows Server 2019 Standard", "windows", "10", "x86_64")
    );
    assert_eq!(report.mountpoints, [ReportedMountpoint { device: "/dev/sda1".into(), mount_point: "/".into() }]);
    assert_eq!((lines(&report), report.passed), (Vec::new(), true));
    source.left();
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_can_only_be_exported_are_named_and_hold_nothing_up() {
    let Some(folder) = guests::folder() else { return };
    let Some(source) = Source::start(&[disk(&folder, "lvm-a"), disk(&folder, "lvm-b")]).await else { return };
    let exported = |report: &InspectionReport, why: &str| {
        let found = lines(report);
        let of_disks = found.iter().filter(|line| line.starts_with("Information disk-not-inspected"));
        assert_eq!(of_disks.filter(|line| line.contains(why)).count(), 2, "{found:#?}");
        assert!(found[2].starts_with("Information os-not-seen"), "{found:#?}");
        assert_eq!((report.bytes_read, report.passed, found.len()), (0, false, 3));
    };
    // the provider wants leases
    let mut config = source.config();
    config.order.method = Some("nfc".into());
    let report = source.inspect(&config, &VddkHelper::default()).await.expect("goes on without");
    exported(&report, "the provider lets disks be exported only, as a stream");
    // the datastore has no files, and there is no VDDK
    source.vcenter.fault(&Fault::NoRanges(vec!["VMFS".into(), "OTHER".into()])).expect("refuses");
    let report = source.inspect(&source.config(), &VddkHelper::default()).await.expect("goes on without");
    exported(&report, "404");
    let calls = source.vcenter.calls().expect("answers");
    assert_eq!(calls.of("ExportSnapshot"), 0, "no lease was taken for a look");
    source.left();
}
