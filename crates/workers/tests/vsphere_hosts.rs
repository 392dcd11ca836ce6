//! The importer at an ESXi host's own address: the host's account and certificate, its references, bytes that it serves.

use std::path::PathBuf;
use std::sync::Once;

use forklift_api::worker::{
    ImportOptions, ImportResult, ImportSource, ImportSpec, Verify, VolumeMode, VsphereDisk, WorkerError,
};
use forklift_providers::vsphere::vim::{Client, Endpoint, MoRef};
use forklift_testkit::peers::vcenter::{HostAddress, Options, Vcenter};
use forklift_workers::importer::{Setup, import_with};
use serde_json::json;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 16 * MIB;
const VM: &str = "web";

/// A vCenter whose hosts have addresses of their own, and the secret of the host that has the VM.
struct Source {
    vcenter: Vcenter,
    host: HostAddress,
    dir: tempfile::TempDir,
}

impl Source {
    fn start(off: bool) -> Option<Self> {
        static TLS: Once = Once::new();
        TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let names = vec![VM.into()];
        let options = Options { vms: 1, names, disk_size: SIZE, host_addresses: true, off, ..Options::default() };
        let vcenter = Vcenter::start(options)?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let machine = vcenter.machine(VM).expect("the VM");
        let hosts = vcenter.hosts().expect("hosts");
        let host = hosts.into_iter().find(|host| machine["host"] == host.name.as_str()).expect("its host");
        let source = Self { vcenter, host, dir };
        let raw = source.dir.path().join("content");
        let bytes: Vec<u8> = (0..SIZE).map(|at| ((at / 4096) * 31 + at % 251) as u8).collect();
        std::fs::write(&raw, bytes).expect("writes");
        source.vcenter.put_disk(VM, 0, &raw).expect("puts the disk");
        source.secret(&source.host.user, &source.host.password);
        Some(source)
    }

    fn secret(&self, user: &str, password: &str) {
        let folder = self.dir.path().join("secret");
        std::fs::create_dir_all(&folder).expect("makes the secret");
        std::fs::write(folder.join("user"), user).expect("writes");
        std::fs::write(folder.join("password"), password).expect("writes");
    }

    async fn import(&self, target: &str, change: impl FnOnce(&mut VsphereDisk, &mut ImportOptions)) -> ImportResult {
        let machine = self.vcenter.machine(VM).expect("the VM");
        let mut disk = VsphereDisk {
            url: self.host.url.clone(),
            instance_uuid: machine["instanceUuid"].as_str().expect("a UUID").into(),
            key: 2000,
            file: machine["disks"][0]["base"].as_str().expect("a file").into(),
            thumbprint: Some(self.vcenter.host_thumbprint().into()),
            ..VsphereDisk::default()
        };
        let mut options = ImportOptions::default();
        change(&mut disk, &mut options);
        let spec = ImportSpec {
            source: ImportSource::Vsphere(disk),
            target: self.target(target).to_str().expect("UTF-8").into(),
            volume_mode: VolumeMode::Filesystem,
            virtual_size: Some(SIZE),
            identity: "vsphere web disk".into(),
            verify: Verify::Full,
            bandwidth: None,
            options,
        };
        let setup = Setup { secret: self.dir.path().join("secret"), ..Setup::default() };
        import_with(spec, &setup, None, std::future::pending()).await
    }

    fn target(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn check(&self, target: &str, snapshot: Option<&str>) {
        let wanted = self.dir.path().join("wanted");
        self.vcenter.dump_disk(VM, 0, snapshot, &wanted).expect("dumps");
        let (found, wanted) = (std::fs::read(self.target(target)), std::fs::read(wanted));
        assert!(found.expect("reads") == wanted.expect("reads"), "{target} differs");
    }

    /// Takes a snapshot at the vCenter; returns its id there, and the disk's change ID.
    async fn snapshot(&self, name: &str) -> (String, String) {
        let secret =
            [("user", self.vcenter.user()), ("password", self.vcenter.password()), ("ca.crt", self.vcenter.ca())];
        let secret = secret.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).into();
        let endpoint = Endpoint::from_secret(self.vcenter.url(), &secret).expect("is whole");
        let client = Client::connect(&endpoint).await.expect("logs in");
        let vm = MoRef::vm(self.vcenter.machine(VM).expect("the VM")["id"].as_str().expect("an id"));
        let task = client.create_snapshot(&vm, name, "", false).await.expect("begins");
        let snapshot = client.wait_task(&task).await.expect("takes it").moref("").expect("names it");
        let props = client.properties(&snapshot, &["config.hardware.device"]).await.expect("reads");
        let devices = props.get("config.hardware.device").expect("has devices");
        let disk = devices.items().find(|device| device.is_a("VirtualDisk")).expect("has a disk");
        client.logout().await;
        (snapshot.value, disk.text("backing.changeId").unwrap_or_default().to_owned())
    }

    async fn refused(&self, change: impl FnOnce(&mut VsphereDisk, &mut ImportOptions)) -> WorkerError {
        self.import("none", change).await.error.expect("refused")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_serves_the_bytes_of_a_vm_that_is_off() {
    let Some(source) = Source::start(true) else { return };
    for method in ["nfc", "ranges"] {
        source.vcenter.reset_calls().expect("counts anew");
        let result = source.import(method, |disk, _| disk.method = Some(method.into())).await;
        assert!(result.error.is_none() && result.verified, "{method}: {result:?}");
        source.check(method, None);
        let calls = source.vcenter.calls().expect("counters");
        let host = calls.at_host(&source.host.name);
        assert_eq!((host.logins, host.invalid_logins), (1, 0), "{method}");
        let served = calls.lease_bytes("") + calls.range_bytes("");
        assert!(host.bytes >= served && served > 0, "{method}: {} of {served} bytes", host.bytes);
        assert_eq!((calls.leases(), calls.sessions()), (0, 0), "{method}: all is given back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rounds_go_through_the_host_by_the_names_of_their_snapshots() {
    let Some(source) = Source::start(false) else { return };
    source.vcenter.reconfigure(VM, &json!({"changeTrackingEnabled": true})).expect("switches tracking on");
    for method in ["nfc", "ranges"] {
        let mut base: Option<String> = None;
        for round in 0..3u64 {
            let at = round * 3 * MIB + 100;
            source.vcenter.write(VM, 0, at, &[round as u8 + 1; 70_000]).expect("the guest writes");
            let name = format!("{method}-{round}");
            // the id is the vCenter's, and means nothing to the host
            let (id, change_id) = source.snapshot(&name).await;
            source.vcenter.write(VM, 0, 9 * MIB, &[99; 5000]).expect("the guest goes on");
            source.vcenter.reset_calls().expect("counts anew");
            let result = source
                .import(method, |disk, options| {
                    disk.method = Some(method.into());
                    options.snapshot = Some(id);
                    options.snapshot_name = Some(name.clone());
                    options.change_id = Some(change_id.clone());
                    options.base_change_id = base.clone();
                })
                .await;
            assert!(result.error.is_none() && result.verified, "{name}: {result:?}");
            source.check(method, Some(&name));
            let calls = source.vcenter.calls().expect("counters");
            let host = calls.at_host(&source.host.name);
            assert!(host.bytes >= calls.lease_bytes("") + calls.range_bytes(""), "{name}");
            assert!(round == 0 || host.of("QueryChangedDiskAreas") > 0, "{name}: {:?}", host.methods);
            assert!(round == 0 || result.bytes_written <= 8 * MIB, "{name}: {result:?}");
            source.vcenter.remove_snapshot(VM, &name).expect("removes it");
            base = Some(change_id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_another_or_refuses_is_told_with_its_reason() {
    let Some(source) = Source::start(true) else { return };
    let error = source.refused(|disk, _| disk.thumbprint = Some("AB".repeat(20))).await;
    assert!(error.code == "CertificateInvalid" && !error.retryable, "{error:?}");
    assert!(error.message.contains("another one than the pinned"), "{error:?}");
    assert_eq!(
        source.vcenter.calls().expect("counters").at_host(&source.host.name).of("Login"),
        0,
        "no password is sent"
    );
    // the vCenter's own account is none of the host's
    source.secret(source.vcenter.user(), source.vcenter.password());
    let error = source.refused(|_, _| {}).await;
    assert!(error.code == "LoginFailed" && !error.retryable, "{error:?}");
    assert!(error.hint.unwrap_or_default().contains("Host"), "the secret to look at is named");
    assert_eq!(source.vcenter.calls().expect("counters").at_host(&source.host.name).invalid_logins, 1);
    // the VM was moved to another host: that passes, as the next order names the other one
    let hosts = source.vcenter.hosts().expect("hosts");
    let other = hosts.iter().find(|host| host.id != source.host.id).expect("another host");
    source.secret(&other.user, &other.password);
    let error = source.refused(|disk, _| disk.url = other.url.clone()).await;
    assert!(error.code == "VmMoved" && error.retryable, "{error:?}");
    source.secret(&source.host.user, &source.host.password);
    let result = source.import("disk.img", |_, _| {}).await;
    assert!(result.error.is_none(), "{result:?}");
    source.check("disk.img", None);
    // a datastore that the host calls otherwise
    let error = source.refused(|disk, _| disk.file = "[LocalDS_0] other/other.vmdk".into()).await;
    assert!(error.code == "SourceChanged", "{error:?}");
    let result = source
        .import("renamed", |disk, _| disk.file = format!("[renamed]{}", disk.file.split_once(']').expect("a path").1))
        .await;
    assert!(result.error.is_none(), "{result:?}");
}
