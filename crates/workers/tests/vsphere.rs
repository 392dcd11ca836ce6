//! The importer against a simulated vCenter with real bytes: cold and warm, by leases and by datastore ranges, with the
//! faults that a source has.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use forklift_api::worker::{ImportOptions, ImportResult, ImportSource, ImportSpec, Verify, VolumeMode, VsphereDisk};
use forklift_providers::vsphere::vim::{Client, Endpoint, MoRef};
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use forklift_workers::importer::{Setup, import_with};
use serde_json::Value;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 48 * MIB;
const VM: &str = "web";

/// A vCenter with one VM, its credentials and a folder for targets.
struct Source {
    vcenter: Vcenter,
    dir: tempfile::TempDir,
}

/// What a copy is told beyond the disk.
#[derive(Clone, Default)]
struct Told<'a> {
    method: Option<&'a str>,
    snapshot: Option<&'a str>,
    base: Option<&'a str>,
    target: Option<&'a str>,
}

impl Source {
    fn start(options: Options) -> Option<Self> {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let vcenter = Vcenter::start(Options { names: vec![VM.into()], vms: 1, disk_size: SIZE, ..options })?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let source = Self { vcenter, dir };
        std::fs::create_dir(source.secret()).expect("makes the secret");
        let user = source.vcenter.user();
        for (key, value) in [("user", user), ("password", source.vcenter.password()), ("ca.crt", source.vcenter.ca())] {
            std::fs::write(source.secret().join(key), value).expect("writes the secret");
        }
        // data in two thirds of the chunks, the rest was never written
        let raw = source.dir.path().join("content");
        let file = std::fs::File::create(&raw).expect("makes it");
        file.set_len(SIZE).expect("gives it a size");
        for chunk in (0..SIZE / (4 * MIB)).filter(|chunk| chunk % 3 != 2) {
            use std::os::unix::fs::FileExt;
            file.write_all_at(&noise(chunk, 3 * MIB as usize), chunk * 4 * MIB + 64 * 1024).expect("writes");
        }
        source.vcenter.put_disk(VM, 0, &raw).expect("puts the disk");
        Some(source)
    }

    fn secret(&self) -> PathBuf {
        self.dir.path().join("secret")
    }

    fn setup(&self) -> Setup {
        Setup { secret: self.secret(), ..Setup::default() }
    }

    fn target(&self, told: &Told<'_>) -> PathBuf {
        self.dir.path().join(told.target.unwrap_or("disk.img"))
    }

    fn machine(&self) -> Value {
        self.vcenter.machine(VM).expect("is there")
    }

    /// Takes a snapshot; returns its reference and the disk's change ID.
    async fn snapshot(&self, name: &str) -> (String, String) {
        let secret = ["user", "password", "ca.crt"]
            .map(|key| (key.to_owned(), std::fs::read(self.secret().join(key)).expect("reads")));
        let endpoint = Endpoint::from_secret(self.vcenter.url(), &secret.into_iter().collect()).expect("is whole");
        let client = Client::connect(&endpoint).await.expect("logs in");
        let vm = MoRef::vm(self.machine()["id"].as_str().expect("is text"));
        let task = client.create_snapshot(&vm, name, "", false).await.expect("begins");
        let snapshot = client.wait_task(&task).await.expect("takes it").moref("").expect("names it");
        let props = client.properties(&snapshot, &["config.hardware.device"]).await.expect("reads");
        let devices = props.get("config.hardware.device").expect("has devices");
        let disk = devices.items().find(|device| device.is_a("VirtualDisk")).expect("has a disk");
        client.logout().await;
        (snapshot.value, disk.text("backing.changeId").unwrap_or_default().to_owned())
    }

    fn spec(&self, told: &Told<'_>, change_id: Option<&str>) -> ImportSpec {
        let machine = self.machine();
        let text = |value: &Value| value.as_str().expect("is text").to_owned();
        let disk = &machine["disks"][0];
        ImportSpec {
            source: ImportSource::Vsphere(VsphereDisk {
                url: self.vcenter.url().into(),
                vm: text(&machine["id"]),
                instance_uuid: text(&machine["instanceUuid"]),
                key: i32::try_from(disk["key"].as_i64().expect("a number")).expect("fits"),
                file: text(&disk["base"]),
                method: told.method.map(Into::into),
                ..VsphereDisk::default()
            }),
            target: self.target(told).to_str().expect("is text").into(),
            volume_mode: VolumeMode::Filesystem,
            virtual_size: Some(SIZE),
            identity: "vsphere vm-1 disk".into(),
            verify: Verify::Full,
            bandwidth: None,
            options: ImportOptions {
                snapshot: told.snapshot.map(Into::into),
                change_id: change_id.map(Into::into),
                base_change_id: told.base.map(Into::into),
                ..ImportOptions::default()
            },
        }
    }

    async fn import(&self, told: &Told<'_>, change_id: Option<&str>) -> ImportResult {
        self.run(self.spec(told, change_id)).await
    }

    async fn run(&self, spec: ImportSpec) -> ImportResult {
        import_with(spec, &self.setup(), None, std::future::pending()).await
    }

    /// Compares a target with the disk as it is, or was at a snapshot.
    fn check(&self, told: &Told<'_>, snapshot: Option<&str>, what: &str) {
        let wanted = self.dir.path().join("wanted");
        self.vcenter.dump_disk(VM, 0, snapshot, &wanted).expect("dumps");
        same(&self.target(told), &wanted, what);
    }

    fn leases(&self) -> u64 {
        self.vcenter.calls().expect("answers").leases()
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // half of it packs well
    (0..length / 16).flat_map(|_| [next().to_le_bytes(), [7; 8]].concat()).collect()
}

fn same(found: &Path, wanted: &Path, what: &str) {
    let (found, wanted) = (std::fs::read(found).expect("reads"), std::fs::read(wanted).expect("reads"));
    assert_eq!(found.len(), wanted.len(), "{what}");
    let differs = found.iter().zip(&wanted).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{what}: the first byte that differs");
}

fn whole(result: &ImportResult, what: &str) {
    assert!(result.error.is_none(), "{what}: {:?}", result.error);
    assert!(result.verified, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_off_is_copied_by_each_way() {
    let Some(source) = Source::start(Options { off: true, ..Options::default() }) else { return };
    for method in ["nfc", "ranges"] {
        let told = Told { method: Some(method), target: Some(method), ..Told::default() };
        source.vcenter.reset_calls().expect("counts anew");
        let result = source.import(&told, None).await;
        whole(&result, method);
        source.check(&told, None, method);
        let calls = source.vcenter.calls().expect("answers");
        let (leased, ranged) = (calls.lease_bytes(""), calls.range_bytes(""));
        assert_eq!((leased > 0, ranged > 0), (method == "nfc", method == "ranges"), "{leased} {ranged}");
        assert_eq!(calls.of("HttpNfcLeaseComplete"), u64::from(method == "nfc"));
        assert_eq!((calls.leases(), calls.sessions()), (0, 0), "{method}: all is given back");
        // what was read is what the copy says that it read
        assert!(result.bytes_read >= leased + ranged, "{result:?}");
        // again: nobody is asked
        source.vcenter.reset_calls().expect("counts anew");
        let again = source.import(&told, None).await;
        whole(&again, method);
        assert_eq!((again.bytes_read, source.vcenter.calls().expect("answers").logins()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_read_is_made_sure_of_first() {
    let Some(source) = Source::start(Options { off: true, ..Options::default() }) else { return };
    let refused = async |change: &dyn Fn(&mut VsphereDisk), options: ImportOptions, code: &str, text: &str| {
        let mut spec = source.spec(&Told { target: Some("none"), ..Told::default() }, None);
        spec.options = options;
        if let ImportSource::Vsphere(disk) = &mut spec.source {
            change(disk);
        }
        let error = source.run(spec).await.error.expect(text);
        assert!(error.code == code && error.message.contains(text), "{error:?}");
        assert_eq!(source.leases(), 0);
    };
    let none = ImportOptions::default;
    refused(&|disk| disk.instance_uuid = "00-11".into(), none(), "SourceChanged", "no VM").await;
    refused(&|disk| disk.file = "[LocalDS_0] other/other.vmdk".into(), none(), "SourceChanged", "has no disk").await;
    refused(&|disk| disk.method = Some("fax".into()), none(), "Usage", "\"fax\"").await;
    let gone = ImportOptions { snapshot: Some("snapshot-999".into()), ..none() };
    refused(&|_| {}, gone, "SnapshotMissing", "snapshot-999").await;
    // the id is another VM's, or of another server: the UUID counts
    let mut spec = source.spec(&Told::default(), None);
    if let ImportSource::Vsphere(disk) = &mut spec.source {
        disk.vm = "vm-99999".into();
        disk.key = 7;
        disk.thumbprint = Some(source.vcenter.thumbprint().into());
    }
    std::fs::remove_file(source.secret().join("ca.crt")).expect("removes");
    refused(&|disk| disk.thumbprint = Some("AB".repeat(20)), none(), "CertificateInvalid", "no TLS").await;
    whole(&source.run(spec).await, "found by its UUID and file, with a pinned certificate");
    source.check(&Told::default(), None, "found by its UUID");
    // a disk that somebody writes to is not read
    source.vcenter.power(VM, true).expect("starts");
    refused(&|disk| disk.thumbprint = Some(source.vcenter.thumbprint().into()), none(), "SourceRunning", "no snapshot")
        .await;
    std::fs::write(source.secret().join("password"), "wrong").expect("writes");
    refused(&|disk| disk.thumbprint = Some(source.vcenter.thumbprint().into()), none(), "LoginFailed", "credentials")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_read_what_changed_by_ranges_and_write_what_changed_by_leases() {
    let Some(source) = Source::start(Options { areas_page: 3, ..Options::default() }) else { return };
    let tracking = serde_json::json!({"changeTrackingEnabled": true});
    source.vcenter.reconfigure(VM, &tracking).expect("switches tracking on");
    for method in ["ranges", "nfc"] {
        let mut base: Option<String> = None;
        for round in 0..4u64 {
            for number in 0..round * 4 {
                let at = (number * 7 + round) % 47 * MIB + 70_000;
                source.vcenter.write(VM, 0, at, &noise(round * 100 + number, 9000)).expect("the guest writes");
            }
            let name = format!("{method}-{round}");
            let (snapshot, change_id) = source.snapshot(&name).await;
            let told =
                Told { method: Some(method), snapshot: Some(&snapshot), base: base.as_deref(), target: Some(method) };
            // the guest goes on
            source.vcenter.write(VM, 0, 5 * MIB, &noise(round, 70_000)).expect("the guest writes");
            source.vcenter.reset_calls().expect("counts anew");
            let result = source.import(&told, Some(&change_id)).await;
            let what = format!("{method}, round {round}");
            whole(&result, &what);
            source.check(&told, Some(&name), &what);
            assert_eq!(result.change_id.as_deref(), Some(change_id.as_str()));
            let calls = source.vcenter.calls().expect("answers");
            assert!(round == 0 || calls.of("QueryChangedDiskAreas") > u64::from(round > 1), "{what}: page by page");
            if method == "ranges" && round == 0 {
                assert!(result.bytes_read < SIZE * 3 / 4, "what was never written is not read: {result:?}");
            }
            if round > 0 {
                assert!(
                    result.bytes_written <= 20 * 64 * 1024 * if method == "nfc" { 64 } else { 1 },
                    "{what}: {result:?}"
                );
                assert!(method == "nfc" || result.bytes_read < 3 * MIB, "{what}: {result:?}");
            }
            source.vcenter.remove_snapshot(VM, &name).expect("removes it");
            // the snapshot is gone, the round is done
            let again = source.import(&told, Some(&change_id)).await;
            whole(&again, &what);
            assert_eq!(again.bytes_written, 0);
            base = Some(change_id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_was_renewed_is_trusted_by_what_the_secret_says() {
    let Some(source) = Source::start(Options { off: true, ..Options::default() }) else { return };
    let mut spec = source.spec(&Told::default(), None);
    if let ImportSource::Vsphere(disk) = &mut spec.source {
        disk.thumbprint = Some(source.vcenter.thumbprint().into());
    }
    source.vcenter.renew_certificate().expect("renews");
    // nobody but the pin vouches for it: the password stays here
    std::fs::rename(source.secret().join("ca.crt"), source.dir.path().join("ca")).expect("moves");
    std::fs::write(source.secret().join("insecureSkipVerify"), "true").expect("writes");
    let error = source.run(spec.clone()).await.error.expect("is another one than the pinned");
    assert!(error.code == "CertificateInvalid" && error.message.contains("than the pinned"), "{error:?}");
    assert_eq!(source.vcenter.calls().expect("answers").of("Login"), 0);
    // its authority does
    std::fs::remove_file(source.secret().join("insecureSkipVerify")).expect("removes");
    std::fs::rename(source.dir.path().join("ca"), source.secret().join("ca.crt")).expect("moves");
    whole(&source.run(spec).await, "signed by the authority of the secret");
    source.check(&Told::default(), None, "signed by the authority of the secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_never_lost_when_nobody_knows_what_changed() {
    let Some(source) = Source::start(Options::default()) else { return };
    let tracking = serde_json::json!({"changeTrackingEnabled": true});
    source.vcenter.reconfigure(VM, &tracking).expect("switches tracking on");
    let (snapshot, first) = source.snapshot("1").await;
    for method in ["ranges", "nfc"] {
        let told = Told { method: Some(method), snapshot: Some(&snapshot), target: Some(method), ..Told::default() };
        whole(&source.import(&told, Some(&first)).await, method);
    }
    source.vcenter.remove_snapshot(VM, "1").expect("removes it");
    // tracking begins anew: the changes before it are known to nobody
    source.vcenter.write(VM, 0, 13 * MIB, &noise(77, 200_000)).expect("the guest writes");
    source.vcenter.fault(&Fault::ResetCbt(VM.into())).expect("resets");
    source.vcenter.write(VM, 0, 30 * MIB, &noise(78, 1000)).expect("the guest writes");
    let (snapshot, second) = source.snapshot("2").await;
    for method in ["ranges", "nfc"] {
        let told = Told { method: Some(method), snapshot: Some(&snapshot), base: Some(&first), target: Some(method) };
        let result = source.import(&told, Some(&second)).await;
        whole(&result, method);
        source.check(&told, Some("2"), &format!("{method} after a reset"));
        assert!(result.bytes_written <= 3 * 4 * MIB, "only chunks that differ: {result:?}");
    }
    source.vcenter.remove_snapshot(VM, "2").expect("removes it");
    // a fault in spite of a good ID, and a target that holds another state than the order builds on
    source.vcenter.write(VM, 0, 9 * MIB, &noise(79, 5000)).expect("the guest writes");
    let (snapshot, third) = source.snapshot("3").await;
    let told = Told { method: Some("ranges"), snapshot: Some(&snapshot), base: Some(&second), target: Some("ranges") };
    source.vcenter.fault(&Fault::FailNext("QueryChangedDiskAreas".into(), "FileFault".into())).expect("fails");
    whole(&source.import(&told, Some(&third)).await, "FileFault");
    source.check(&told, Some("3"), "FileFault");
    source.vcenter.remove_snapshot(VM, "3").expect("removes it");
    source.vcenter.write(VM, 0, 17 * MIB, &noise(80, 5000)).expect("the guest writes");
    let (snapshot, fourth) = source.snapshot("4").await;
    // this target was not brought to the third state
    let told = Told { method: Some("nfc"), snapshot: Some(&snapshot), base: Some(&third), target: Some("nfc") };
    whole(&source.import(&told, Some(&fourth)).await, "another base");
    source.check(&told, Some("4"), "another base");
    // and this one is new
    let told = Told { target: Some("new"), ..told };
    whole(&source.import(&told, Some(&fourth)).await, "no base");
    source.check(&told, Some("4"), "no base");
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_that_are_no_files_are_exported() {
    let Some(source) = Source::start(Options { off: true, ..Options::default() }) else { return };
    // vcsim's datastores are of the type OTHER
    source.vcenter.fault(&Fault::NoRanges(vec!["VMFS".into(), "OTHER".into()])).expect("refuses");
    let result = source.import(&Told::default(), None).await;
    whole(&result, "probed");
    source.check(&Told::default(), None, "probed");
    assert!(source.vcenter.calls().expect("answers").lease_bytes("") > 0);
    let told = Told { method: Some("ranges"), target: Some("ranges"), ..Told::default() };
    let error = source.import(&told, None).await.error.expect("is not read by ranges");
    assert!(error.message.contains("404"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_is_chosen_by_what_is_known_of_the_disk() {
    let Some(source) = Source::start(Options { off: true, ..Options::default() }) else { return };
    let copy = async |target: &'static str| {
        source.vcenter.reset_calls().expect("counts anew");
        let told = Told { target: Some(target), ..Told::default() };
        let result = source.import(&told, None).await;
        whole(&result, target);
        source.check(&told, None, target);
        let calls = source.vcenter.calls().expect("answers");
        (result, calls.lease_bytes(""), calls.range_bytes(""))
    };
    let (untracked, leased, ranged) = copy("untracked").await;
    assert_eq!((untracked.method.as_deref(), ranged), (Some("nfc"), 0), "{untracked:?}");
    assert!(untracked.method_reason.expect("a reason").contains("without change tracking"));
    // a third was never written, and half of the rest packs
    assert!(leased < SIZE / 2, "{leased}");
    source.vcenter.reconfigure(VM, &serde_json::json!({"changeTrackingEnabled": true})).expect("switches tracking on");
    // it begins with the next stun
    source.vcenter.snapshot(VM, "stun").expect("takes it");
    source.vcenter.remove_snapshot(VM, "stun").expect("removes it");
    let (tracked, leased, ranged) = copy("tracked").await;
    assert_eq!((tracked.method.as_deref(), leased), (Some("ranges"), 0), "{tracked:?}");
    assert!(tracked.method_reason.expect("a reason").contains("change tracking knows"));
    assert!(ranged < SIZE * 3 / 4, "{ranged}");
    // where the way of choice is closed, the other one is taken, and told
    source.vcenter.fault(&Fault::NoRanges(vec!["OTHER".into()])).expect("refuses");
    let (exported, leased, _) = copy("exported").await;
    assert_eq!(exported.method.as_deref(), Some("nfc"), "{exported:?}");
    assert!(leased > 0 && exported.method_reason.expect("a reason").contains("datastore ranges cannot be used"));
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_source_cost_only_time() {
    let Some(source) =
        Source::start(Options { off: true, lease_timeout: Duration::from_secs(2), ..Options::default() })
    else {
        return;
    };
    // slow enough for the faults to hit a copy that runs, and longer than a lease lives without progress
    source.vcenter.fault(&Fault::SlowHost(None, 12 * MIB, 0)).expect("slows down");
    for (method, fault) in [
        ("nfc", Fault::AbortLeases),
        ("nfc", Fault::ExpireSessions),
        ("ranges", Fault::ExpireSessions),
        ("ranges", Fault::Close("/folder".into())),
        ("nfc", Fault::Status("/nfc".into(), 503)),
        ("ranges", Fault::Status("/folder".into(), 503)),
    ] {
        let what = format!("{method}: {fault:?}");
        let told = Told { method: Some(method), target: Some("faulty"), ..Told::default() };
        source.vcenter.reset_calls().expect("counts anew");
        let copy = source.import(&told, None);
        let disturb = async {
            // once bytes flow
            let begun = async {
                while source.vcenter.calls().expect("answers").requests(if method == "nfc" {
                    "/nfc"
                } else {
                    "/folder"
                }) < 3
                    && source.vcenter.calls().expect("answers").lease_bytes("") < MIB
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(60), begun).await.expect("the copy begins");
            source.vcenter.fault(&fault).expect("disturbs");
        };
        let (result, ()) = tokio::join!(copy, disturb);
        whole(&result, &what);
        source.check(&told, None, &what);
        assert_eq!(source.leases(), 0, "{what}");
        for name in ["faulty", "faulty.manifest.json"] {
            std::fs::remove_file(source.dir.path().join(name)).expect("removes");
        }
    }
    source.vcenter.fault(&Fault::Clear).expect("clears");
    // another export holds the VM for a while
    source.vcenter.fault(&Fault::Fail("ExportVm".into(), "TaskInProgress".into(), 2, 0)).expect("fails");
    let told = Told { method: Some("nfc"), target: Some("waited"), ..Told::default() };
    whole(&source.import(&told, None).await, "waited");
    source.check(&told, None, "waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_asked_to_end_goes_on_later() {
    let Some(source) = Source::start(Options { off: true, ..Options::default() }) else { return };
    source.vcenter.fault(&Fault::SlowHost(None, 10 * MIB, 0)).expect("slows down");
    for method in ["nfc", "ranges"] {
        let told = Told { method: Some(method), target: Some(method), ..Told::default() };
        let map = source.dir.path().join(format!("{method}.chunks"));
        let marked = async {
            // a chunk with data is marked: state 1 of an entry, after the header
            let data = |map: Vec<u8>| {
                map.get(4096..).is_some_and(|entries| entries.chunks(40).any(|entry| entry.get(32) == Some(&1)))
            };
            let some = || std::fs::read(&map).is_ok_and(data);
            while !some() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let stop = async { tokio::time::timeout(Duration::from_secs(60), marked).await.expect("a chunk is marked") };
        let first = import_with(source.spec(&told, None), &source.setup(), None, stop).await;
        assert_eq!(first.error.as_ref().map(|error| error.code.as_str()), Some("Cancelled"), "{first:?}");
        assert_eq!(source.leases(), 0, "{method}: the VM is free");
        let second = source.import(&told, None).await;
        whole(&second, method);
        assert!(second.bytes_resumed > 0, "{second:?}");
        source.check(&told, None, method);
    }
}
