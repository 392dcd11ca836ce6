//! Importers of a simulated vCenter are killed with SIGKILL at random moments and gone on with: the target is equal
//! byte for byte in the end, and a kill costs at most the engine's window.
//!
//! The importer is this test's own executable, run again with a variable that names the case's folder; so is its
//! process with the stand-in for VDDK. What an importer wrote is what the kernel counted for it (`wchar`). How many
//! kills: `FORKLIFT_IMPORTER_KILLS` (12 by default).

#[path = "vddk/library.rs"]
mod library;

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use forklift_api::worker::{ImportOptions, ImportResult, ImportSource, ImportSpec, Verify, VolumeMode, VsphereDisk};
use forklift_disk::chunk_map::{ChunkMap, Place};
use forklift_disk::copy::WINDOW;
use forklift_providers::vsphere::vim::{Client, Endpoint, MoRef};
use forklift_testkit::peers::vcenter::{Fault, Options, Vcenter};
use forklift_testkit::wait_for;
use forklift_workers::importer::{Setup, VddkHelper, import_with, serve_vddk};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const MIB: u64 = 1 << 20;
const CHUNK: u64 = 4 * MIB;
/// What is left out of a write where it is zeros.
const BLOCK: u64 = 64 << 10;
/// More than one window of data.
const SIZE: u64 = 144 * MIB;
const VM: &str = "web";
/// What an importer writes besides the disk: its chunk map, which is small, and what the test harness prints.
const ELSE: u64 = 256 << 10;
/// Names the folder of a case to an importer.
const FOLDER: &str = "FORKLIFT_TEST_IMPORT_FOLDER";
/// Tells this executable that it is the process with the library.
const LIBRARY: &str = "FORKLIFT_TEST_VDDK_CHILD";
/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(180);

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The disk of a VM that is off.
    Cold,
    /// What changed between two snapshots.
    Round,
}

const CASES: [(&str, Kind); 6] = [
    ("nfc", Kind::Cold),
    ("ranges", Kind::Cold),
    ("vddk", Kind::Cold),
    ("nfc", Kind::Round),
    ("ranges", Kind::Round),
    ("vddk", Kind::Round),
];

/// What the importer starts; in a run of the tests nothing.
#[test]
fn vddk_helper() {
    if std::env::var_os(LIBRARY).is_some() {
        assert_eq!(serve_vddk(), ExitCode::SUCCESS);
    }
}

/// The importer; in a run of the tests nothing.
#[tokio::test(flavor = "multi_thread")]
async fn importer() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    provider();
    let result = import(&folder).await;
    std::fs::write(folder.join("result"), serde_json::to_vec(&result).expect("is JSON")).expect("writes");
    assert!(result.error.is_none() && result.verified, "{result:?}");
}

/// Runs a case's order to its end, in this process.
async fn import(folder: &Path) -> ImportResult {
    let spec = std::fs::read(folder.join("spec")).expect("reads");
    let spec: ImportSpec = serde_json::from_slice(&spec).expect("is an order");
    let account = std::fs::read_to_string(folder.join("account")).expect("reads");
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let vddk = VddkHelper {
        program: std::env::current_exe().expect("is known"),
        args: ["--exact", "vddk_helper", "--nocapture"].map(Into::into).to_vec(),
        env: vec![
            variable(LIBRARY, "1".into()),
            variable("STANDIN_DISK", folder.join("wanted").display().to_string()),
            variable("STANDIN_LOG", folder.join("log").display().to_string()),
            variable("STANDIN_ACCOUNT", account),
            // slow enough to be killed
            variable("STANDIN_MILLIS", "25".into()),
        ],
        ..VddkHelper::default()
    };
    let setup = Setup { secret: folder.join("secret"), vddk };
    import_with(spec, &setup, None, std::future::pending()).await
}

fn provider() {
    static TLS: Once = Once::new();
    TLS.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// A copy that is killed.
struct Case {
    vcenter: Vcenter,
    dir: tempfile::TempDir,
    /// What the target has to be in the end.
    wanted: Vec<u8>,
    /// The most bytes that are written for each chunk.
    most: Vec<u64>,
}

impl Case {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a disk that is two thirds data, and the order for it.
    async fn make(method: &str, kind: Kind, seed: u64) -> Option<Self> {
        let vcenter = Vcenter::start(Options {
            names: vec![VM.into()],
            vms: 1,
            disk_size: SIZE,
            off: kind == Kind::Cold,
            // a lease that nobody ends holds the VM
            lease_timeout: Duration::from_secs(1),
            ..Options::default()
        })?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut case = Self { vcenter, dir, wanted: Vec::new(), most: Vec::new() };
        let (user, password) = (case.vcenter.user(), case.vcenter.password());
        std::fs::create_dir(case.path("secret")).expect("makes the secret");
        for (key, value) in [("user", user), ("password", password), ("ca.crt", case.vcenter.ca())] {
            std::fs::write(case.path("secret").join(key), value).expect("writes the secret");
        }
        std::fs::write(case.path("account"), format!("{user}/{password}")).expect("writes");
        library::build(&case.path("vddk"), &[]);

        let mut random = StdRng::seed_from_u64(seed);
        let file = std::fs::File::create(case.path("content")).expect("makes it");
        file.set_len(SIZE).expect("gives it a size");
        for chunk in (0..SIZE / CHUNK).filter(|chunk| chunk % 3 != 2) {
            let mut bytes = vec![0; (CHUNK - BLOCK) as usize];
            // half of it packs well
            bytes.chunks_mut(16).for_each(|part| random.fill(&mut part[..8]));
            file.write_all_at(&bytes, chunk * CHUNK + BLOCK / 2).expect("writes");
        }
        case.vcenter.put_disk(VM, 0, &case.path("content")).expect("puts the disk");
        match kind {
            Kind::Cold => {
                case.order(method, ImportOptions::default());
                case.dump(None);
                let data = |block: &&[u8]| block.iter().any(|byte| *byte != 0);
                let length = |block: &[u8]| block.len() as u64;
                let bytes = |chunk: &[u8]| chunk.chunks(BLOCK as usize).filter(data).map(length).sum();
                case.most = case.wanted.chunks(CHUNK as usize).map(bytes).collect();
            }
            Kind::Round => case.round(method, &mut random).await,
        }
        Some(case)
    }

    /// Brings the target to a first state and makes the order for the second one.
    async fn round(&mut self, method: &str, random: &mut StdRng) {
        let tracking = serde_json::json!({"changeTrackingEnabled": true});
        self.vcenter.reconfigure(VM, &tracking).expect("switches tracking on");
        let (snapshot, base) = self.snapshot("1").await;
        let state = |snapshot: &str, change_id: &str| ImportOptions {
            snapshot: Some(snapshot.into()),
            change_id: Some(change_id.into()),
            ..ImportOptions::default()
        };
        self.order("ranges", state(&snapshot, &base));
        let first = import(self.dir.path()).await;
        assert!(first.error.is_none(), "{first:?}");
        self.vcenter.remove_snapshot(VM, "1").expect("removes it");
        // in all chunks, so that a round by any way has more than a window to write
        let mut changed: Vec<Range<u64>> = Vec::new();
        for chunk in 0..SIZE / CHUNK {
            let mut at = chunk * CHUNK + random.random_range(0..4) * BLOCK;
            while at < (chunk + 1) * CHUNK {
                let length = BLOCK * random.random_range(8..24);
                let end = (at + length).min((chunk + 1) * CHUNK);
                let mut bytes = vec![0; (end - at) as usize];
                random.fill(&mut bytes[..]);
                self.vcenter.write(VM, 0, at, &bytes).expect("the guest writes");
                changed.push(at..end);
                at = end + BLOCK * random.random_range(1..8);
            }
        }
        let (snapshot, change_id) = self.snapshot("2").await;
        self.order(method, ImportOptions { base_change_id: Some(base), ..state(&snapshot, &change_id) });
        self.dump(Some("2"));
        let within = |chunk: u64| changed.iter().filter(move |range| range.start / CHUNK == chunk);
        let bytes = |chunk| within(chunk).map(|range| range.end - range.start).sum::<u64>();
        // a chunk between two states is copied whole, after its changed parts; a lease has whole chunks only
        let most = |chunk: u64| CHUNK + if method == "nfc" { 0 } else { bytes(chunk) };
        self.most = (0..SIZE / CHUNK).map(most).collect();
    }

    fn dump(&mut self, snapshot: Option<&str>) {
        self.vcenter.dump_disk(VM, 0, snapshot, &self.path("wanted")).expect("dumps");
        self.wanted = std::fs::read(self.path("wanted")).expect("reads");
    }

    /// Takes a snapshot; returns its reference and the disk's change ID.
    async fn snapshot(&self, name: &str) -> (String, String) {
        let secret = ["user", "password", "ca.crt"]
            .map(|key| (key.to_owned(), std::fs::read(self.path("secret").join(key)).expect("reads")));
        let endpoint = Endpoint::from_secret(self.vcenter.url(), &secret.into_iter().collect()).expect("is whole");
        let client = Client::connect(&endpoint).await.expect("logs in");
        let vm = MoRef::vm(self.vcenter.machine(VM).expect("is there")["id"].as_str().expect("is text"));
        let task = client.create_snapshot(&vm, name, "", false).await.expect("begins");
        let snapshot = client.wait_task(&task).await.expect("takes it").moref("").expect("names it");
        let props = client.properties(&snapshot, &["config.hardware.device"]).await.expect("reads");
        let devices = props.get("config.hardware.device").expect("has devices");
        let disk = devices.items().find(|device| device.is_a("VirtualDisk")).expect("has a disk");
        client.logout().await;
        (snapshot.value, disk.text("backing.changeId").unwrap_or_default().to_owned())
    }

    fn order(&self, method: &str, options: ImportOptions) {
        let machine = self.vcenter.machine(VM).expect("is there");
        let text = |value: &serde_json::Value| value.as_str().expect("is text").to_owned();
        let disk = &machine["disks"][0];
        let spec = ImportSpec {
            source: ImportSource::Vsphere(VsphereDisk {
                url: self.vcenter.url().into(),
                vm: text(&machine["id"]),
                instance_uuid: text(&machine["instanceUuid"]),
                key: i32::try_from(disk["key"].as_i64().expect("a number")).expect("fits"),
                file: text(&disk["base"]),
                method: Some(method.into()),
                vddk: Some(self.path("vddk").display().to_string()),
                ..VsphereDisk::default()
            }),
            target: self.path("disk.img").display().to_string(),
            volume_mode: VolumeMode::Filesystem,
            virtual_size: Some(SIZE),
            identity: "vsphere web disk".into(),
            verify: Verify::Full,
            bandwidth: None,
            options,
        };
        std::fs::write(self.path("spec"), serde_json::to_vec(&spec).expect("is JSON")).expect("writes");
    }

    /// Returns the most bytes that were written for the chunks that are durable.
    fn durable(&self) -> u64 {
        let place = Place::File(self.path("disk.img.chunks"));
        let Some(key) = ChunkMap::peek(&place).expect("reads") else { return 0 };
        let map = ChunkMap::open_at(&place, &key).expect("opens");
        let marked = map.chunks().iter().zip(&self.most).filter(|(chunk, _)| chunk.is_some());
        marked.map(|(_, most)| most).sum()
    }

    fn start(&self) -> Child {
        let _ = std::fs::remove_file(self.path("result"));
        Command::new(std::env::current_exe().expect("is running"))
            .args(["--exact", "importer", "--quiet", "--nocapture"])
            .env(FOLDER, self.dir.path())
            .stdout(Stdio::null())
            .stderr(std::fs::File::options().create(true).append(true).open(self.path("stderr")).expect("opens"))
            .spawn()
            .expect("starts")
    }

    /// Kills importers until one comes through or there were `kills`; returns how many, and the most that one lost.
    fn kill(&self, random: &mut StdRng, kills: u32) -> (u32, u64) {
        let (mut killed, mut worst) = (0, 0);
        while killed < kills {
            let before = self.durable();
            let mut child = self.start();
            let least = random.random_range(1..WINDOW * 5 / 4);
            let ended = reaches(&mut child, least);
            child.kill().expect("can be killed");
            // a process that is dead and not waited for has its figures still
            let written = written(child.id()).unwrap_or(0);
            let status = child.wait().expect("ends");
            self.library_ends();
            if ended {
                assert!(status.success(), "{}", std::fs::read_to_string(self.path("stderr")).unwrap_or_default());
                return (killed, worst);
            }
            killed += 1;
            let kept = self.durable().saturating_sub(before);
            let lost = written.saturating_sub(kept);
            println!("  killed after {} KiB written, {} KiB of them durable", written >> 10, kept >> 10);
            assert!(lost <= WINDOW + ELSE, "{written} bytes were written, {kept} of them are durable");
            worst = worst.max(lost);
        }
        // the last one comes through, and writes nothing again that is durable
        let left: u64 = self.most.iter().sum::<u64>() - self.durable();
        let mut child = self.start();
        let status = reaches(&mut child, u64::MAX);
        assert!(status, "it ends by itself");
        let written = written(child.id()).unwrap_or(0);
        let status = child.wait().expect("ends");
        assert!(status.success(), "{}", std::fs::read_to_string(self.path("stderr")).unwrap_or_default());
        assert!(written <= left + ELSE, "{written} bytes were written, {left} were missing");
        let result: ImportResult =
            serde_json::from_slice(&std::fs::read(self.path("result")).expect("reads")).expect("is a result");
        println!("  went on: {} KiB written, {} KiB were there", written >> 10, result.bytes_resumed >> 10);
        assert!(result.bytes_written <= left, "{result:?}, {left} were missing");
        (killed, worst)
    }

    /// Waits until the process with the library has closed everything: nobody tells it but the end of its socket.
    fn library_ends(&self) {
        wait_for("the library's process ends", LIMIT, || {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(!log.contains("VIOLATION"), "{log}");
            let count = |call: &str| log.lines().filter(|line| line.starts_with(call)).count();
            if count("InitEx") == count("Exit") { Ok(()) } else { Err(log) }
        });
    }

    fn check(&self, what: &str) {
        let found = std::fs::read(self.path("disk.img")).expect("reads");
        assert_eq!(found.len(), self.wanted.len(), "{what}");
        let differs = found.iter().zip(&self.wanted).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{what}: the first byte that differs");
        assert!(!self.path("disk.img.chunks").exists(), "{what}: the chunk map is gone");
        let calls = self.vcenter.calls().expect("answers");
        wait_for("the leases are over", LIMIT, || match self.vcenter.calls().expect("answers").leases() {
            0 => Ok(()),
            leases => Err(format!("{leases} leases")),
        });
        // each importer ended the session of the one that was killed before it
        assert_eq!(calls.sessions(), 0, "{what}: all sessions are over");
        assert!(!self.path("disk.img.session").exists(), "{what}: none is noted any more");
        assert_eq!(calls.of("PowerOffVM_Task") + calls.of("RemoveSnapshot_Task"), 0, "{:?}", calls.methods());
    }
}

/// Returns what a process has written so far, bytes; as long as nobody has waited for it also when it is dead.
fn written(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok())
}

/// Waits until the importer has written `least` bytes; returns whether it ended before.
fn reaches(child: &mut Child, least: u64) -> bool {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        // not by `try_wait`, which would take its figures away
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        let state = stat.rsplit_once(')').map_or("Z", |(_, rest)| rest.trim_start());
        if state.starts_with('Z') {
            return true;
        }
        if written(child.id()).is_some_and(|written| written >= least) {
            return false;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let _ = child.kill();
    panic!("the importer neither writes nor ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_importers_go_on() {
    provider();
    let wanted: u32 = std::env::var("FORKLIFT_IMPORTER_KILLS").map_or(12, |text| text.parse().expect("a number"));
    let seed: u64 = std::env::var("FORKLIFT_IMPORTER_SEED").map_or(1, |text| text.parse().expect("a number"));
    let mut random = StdRng::seed_from_u64(seed);
    let (mut kills, mut worst, mut copies) = (0, 0, 0);
    let mut table = BTreeMap::<String, (u32, u64)>::new();
    while kills < wanted {
        let (method, kind) = CASES[copies % CASES.len()];
        let what = format!("{kind:?} by {method}");
        let Some(case) = Case::make(method, kind, seed * 1000 + copies as u64).await else { return };
        // slow enough for a kill to meet a copy, on any machine
        case.vcenter.fault(&Fault::SlowHost(None, 64 * MIB, 0)).expect("slows down");
        println!("{what}:");
        // each case its share of the kills that are left, so that a handful meets them all
        let share = (wanted - kills).div_ceil((CASES.len() - copies % CASES.len()) as u32).min(4);
        let (more, lost) = tokio::task::block_in_place(|| case.kill(&mut random, share));
        case.check(&what);
        let line = table.entry(what).or_default();
        *line = (line.0 + more, line.1.max(lost));
        (kills, worst, copies) = (kills + more, worst.max(lost), copies + 1);
        assert!(copies < 20 + wanted as usize, "copies end before they can be killed");
    }
    println!("{kills} kills of {copies} copies, the worst lost {worst} bytes (window {WINDOW}); {table:#?}");
}
