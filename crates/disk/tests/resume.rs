//! A copy is killed at random moments and gone on with: the target is identical in the end, and
//! each kill costs at most the engine's window.
//!
//! The child is this test's own executable, run again with a variable that names the folder.

mod support;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forklift_disk::chunk_map::{ChunkMap, Key};
use forklift_disk::copy::{Options, WINDOW, copy};
use forklift_disk::open;
use forklift_disk::progress::Progress;
use forklift_disk::target::{FileTarget, Sink, Volume};
use forklift_disk::{Cancel, Disk, Error, Watch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::*;

const VARIABLE: &str = "FORKLIFT_DISK_TEST_FOLDER";
const SIZE: u64 = 400 * MIB + 512;

/// Writes through, and adds a line of what it writes to a journal that survives the kill.
struct Journal {
    inner: FileTarget,
    journal: File,
}

impl Sink for Journal {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut line = [0; 16];
        line[..8].copy_from_slice(&offset.to_le_bytes());
        line[8..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        (&self.journal).write_all(&line)?;
        self.inner.write_at(bytes, offset)
    }
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.zero(offset, length)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
    fn available(&self) -> Option<u64> {
        self.inner.available()
    }
    fn starts_zeroed(&self) -> bool {
        self.inner.starts_zeroed()
    }
}

fn key(disk: &Disk, target: &FileTarget) -> Key {
    let stamp = disk.stamp().expect("has a stamp");
    Key { identity: "test".into(), stamp, size: disk.size(), inode: target.inode() }
}

/// Copies `source` in a folder to its `disk.img`, as a job does, with the journal between.
fn copy_in(folder: &Path) -> ChunkMap {
    let disk = Disk::open(&folder.join("source"), &open::Options::default()).expect("opens");
    let mut target = FileTarget::open(&folder.join("disk.img"), Volume::File, disk.size()).expect("opens");
    let mut map = ChunkMap::open(&folder.join("disk.img.chunks"), &key(&disk, &target)).expect("opens");
    target.prepare(disk.size(), map.chunks().iter().all(Option::is_none)).expect("prepares");
    let journal = OpenOptions::new().append(true).create(true).open(folder.join("journal")).expect("opens");
    let sink = Journal { inner: target, journal };
    let options = Options { workers: Some(3), bandwidth: None };
    copy(&disk, &sink, &mut map, &options, &Progress::new(), &Cancel::new()).expect("copies");
    map
}

/// The child's entry; without the variable a copy in one go.
#[test]
fn copies_in_one_go() {
    let own = tempfile::tempdir().expect("a temporary folder");
    let folder = match std::env::var_os(VARIABLE) {
        Some(folder) => folder.into(),
        None => {
            pattern(&own.path().join("source"), 20 * MIB, 1);
            own.path().to_owned()
        }
    };
    let map = copy_in(&folder);
    assert!(map.chunks().iter().all(Option::is_some), "all chunks are marked");
}

fn start_child(folder: &Path) -> Child {
    Command::new(std::env::current_exe().expect("is running"))
        .args(["--exact", "copies_in_one_go", "--quiet"])
        .env(VARIABLE, folder)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts")
}

fn journal_bytes(folder: &Path, from: u64) -> (u64, u64) {
    let bytes = std::fs::read(folder.join("journal")).unwrap_or_default();
    let lines = bytes[from as usize..].chunks_exact(16);
    let written = lines.map(|line| u64::from_le_bytes(line[8..].try_into().expect("eight bytes"))).sum();
    (written, bytes.len() as u64)
}

/// Waits until the child wrote `bytes` more or ended; returns whether it runs.
fn wait_for(child: &mut Child, folder: &Path, from: u64, bytes: u64) -> bool {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        if child.try_wait().expect("can be asked").is_some() {
            return false;
        }
        if journal_bytes(folder, from).0 >= bytes {
            return true;
        }
        std::thread::yield_now();
    }
    panic!("the child neither writes nor ends");
}

fn marked_bytes(folder: &Path) -> u64 {
    let disk = Disk::open(&folder.join("source"), &open::Options::default()).expect("opens");
    let target = FileTarget::open(&folder.join("disk.img"), Volume::File, disk.size()).expect("opens");
    let map = ChunkMap::open(&folder.join("disk.img.chunks"), &key(&disk, &target)).expect("opens");
    let marked = (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_some());
    marked.map(|(index, _)| disk.data_bytes(map.range(index)).expect("maps")).sum()
}

/// Kills copies of one source until one gets through; returns the number of kills.
fn kill_until_done(source: impl FnOnce(&Path) -> Vec<u8>, seed: u64) -> u32 {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = dir.path();
    let wanted = source(folder);
    let mut random = StdRng::seed_from_u64(seed);
    let mut kills = 0;
    loop {
        let from = journal_bytes(folder, 0).1;
        let marked = if from == 0 { 0 } else { marked_bytes(folder) };
        let mut child = start_child(folder);
        // up to two windows: some kills come before the first commit of a run, some after several
        let running = wait_for(&mut child, folder, from, random.random_range(1..2 * WINDOW));
        child.kill().expect("can be killed");
        let status = child.wait().expect("ends");
        let (written, _) = journal_bytes(folder, from);
        if !running {
            assert!(status.success(), "the child failed by itself: {status}");
            break;
        }
        kills += 1;
        let kept = marked_bytes(folder) - marked;
        assert!(written <= kept + WINDOW, "kill {kills}: {written} bytes written, {kept} kept");
        assert!(kills < 200, "there is no progress");
    }
    // the job finds the map complete, verifies and finishes
    let mut job = job(&folder.join("source"), &folder.join("disk.img"));
    let outcome = job.run(&Watch::new()).expect("finishes");
    assert_eq!((outcome.written, outcome.resumed), (0, wanted.len() as u64));
    assert_same(&std::fs::read(&job.target).expect("reads"), &wanted, "after kills");
    // another source is refused, and copied anew where that is wanted
    job.identity = "another".into();
    job.start_over = true;
    let outcome = job.run(&Watch::new()).expect("copies anew");
    assert_eq!(outcome.resumed, 0);
    kills
}

#[test]
fn killed_copies_of_raw_disks_go_on() {
    let kills: u32 =
        (0..3).map(|seed| kill_until_done(|folder| pattern(&folder.join("source"), SIZE, 30 + seed), seed)).sum();
    assert!(kills >= 3, "only {kills} kills hit a running copy");
}

#[test]
fn killed_copies_of_streams_go_on() {
    let source = |folder: &Path| {
        let bytes = pattern(&folder.join("raw"), SIZE, 40);
        write_stream(&folder.join("source"), &bytes, Stream { level: 1, padding: 0 });
        bytes
    };
    let kills = kill_until_done(source, 5);
    assert!(kills >= 1, "no kill hit a running copy");
}

#[test]
fn a_changed_source_is_not_gone_on_with() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = dir.path().join("source");
    let mut wanted = pattern(&source, 20 * MIB, 50);
    let mut job = job(&source, &dir.path().join("disk.img"));
    // a copy that ends early: its second chunk has to wait for hours
    job.copy.bandwidth = Some(64);
    let watch = Watch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run(&watch));
        let deadline = Instant::now() + Duration::from_secs(60);
        while watch.copy().snapshot().done < 4 * MIB && Instant::now() < deadline {
            std::thread::yield_now();
        }
        watch.cancel().cancel();
        let error = running.join().expect("no panic").expect_err("was cancelled");
        assert!(matches!(error, Error::Cancelled), "{error}");
    });
    job.copy.bandwidth = None;
    // one byte and the time of the file
    wanted[5] ^= 0xff;
    std::fs::write(&source, &wanted).expect("changes the source");
    let error = job.run(&Watch::new()).expect_err("is refused");
    assert!(matches!(error, Error::SourceChanged { field: "stamp", .. }), "{error}");
    job.start_over = true;
    copy_and_compare(&job, &wanted, "copied anew");
}
