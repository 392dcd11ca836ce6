//! Copies are killed at random moments and gone on with: the target is identical in the end, and a
//! kill costs at most the engine's window.
//!
//! The child is this test's own executable, run again with a variable that names the folder. How
//! many kills: `FORKLIFT_KILLS` (20 by default; the full campaign is 1,000).

mod support;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forklift_disk::changed::Round;
use forklift_disk::chunk_map::{ChunkMap, Copied, Key, Place};
use forklift_disk::copy::{Options, WINDOW, copy, copy_changed};
use forklift_disk::digest::Blake3;
use forklift_disk::limit::Limit;
use forklift_disk::open;
use forklift_disk::progress::Progress;
use forklift_disk::target::{FileTarget, Sink, Volume};
use forklift_disk::{Cancel, Disk, Error, Job, Watch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::*;

const VARIABLE: &str = "FORKLIFT_DISK_TEST_FOLDER";
const CHUNK: u64 = 4 * MIB;

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
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_at(buf, offset)
    }
}

/// How the source is packed; qemu-img makes what this test does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packed {
    Raw,
    Stream,
    Qemu(&'static str, &'static str),
}

const SOURCES: [Packed; 6] = [
    Packed::Raw,
    Packed::Stream,
    Packed::Qemu("qcow2", ""),
    Packed::Qemu("qcow2", "compress"),
    Packed::Qemu("vmdk", "subformat=monolithicSparse"),
    Packed::Qemu("vhdx", ""),
];

/// Where the copy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// A file that is made, the map beside it.
    File,
    /// A volume full of rubbish that is larger than the disk, the map behind the disk.
    Tail,
    /// A file that holds an earlier state; a round of changes goes onto it.
    Round,
}

const TARGETS: [Target; 3] = [Target::File, Target::Tail, Target::Round];

/// A copy that is killed, as its folder describes it: parent and child read the same files.
struct Case {
    folder: PathBuf,
    disk: Arc<Disk>,
    target: Target,
}

impl Case {
    fn open(folder: &Path) -> Self {
        let disk = Disk::open(&folder.join("source"), &open::Options::default()).expect("opens");
        let name = std::fs::read_to_string(folder.join("case")).expect("reads");
        let target = *TARGETS.iter().find(|target| format!("{target:?}") == name).expect("a target");
        Self { folder: folder.to_owned(), disk: Arc::new(disk), target }
    }

    fn make(folder: &Path, packed: Packed, target: Target, size: u64, seed: u64) -> (Self, Vec<u8>) {
        let (raw, source) = (folder.join("raw"), folder.join("source"));
        let mut bytes = pattern(&raw, size, seed);
        let mut random = StdRng::seed_from_u64(seed);
        if target == Target::Round {
            std::fs::copy(&raw, folder.join("disk.img")).expect("copies");
            let chunks: Vec<u8> =
                bytes.chunks(CHUNK as usize).flat_map(|chunk| *blake3::hash(chunk).as_bytes()).collect();
            std::fs::write(folder.join("base"), chunks).expect("writes");
            let file = OpenOptions::new().write(true).open(&raw).expect("opens");
            let mut ranges = Vec::new();
            for _ in 0..random.random_range(20..60) {
                let start = random.random_range(0..size / 512) * 512;
                let length = (random.random_range(1..12_000u64) * 512).min(size - start);
                let part = &mut bytes[start as usize..(start + length) as usize];
                random.fill(part);
                file.write_all_at(part, start).expect("writes");
                ranges.extend([start.to_le_bytes(), (start + length).to_le_bytes()]);
            }
            std::fs::write(folder.join("ranges"), ranges.concat()).expect("writes");
        }
        if target == Target::Tail {
            let rubbish = vec![0xaa; (size + 3 * MIB) as usize];
            std::fs::write(folder.join("disk.img"), rubbish).expect("writes");
        }
        match packed {
            Packed::Raw => std::fs::rename(&raw, &source).expect("renames"),
            Packed::Stream => drop(write_stream(&source, &bytes, Stream { level: 1, padding: 0 })),
            Packed::Qemu(format, option) => {
                let mut args = vec!["convert", "-f", "raw", "-O", format];
                match option {
                    "" => {}
                    "compress" => args.push("-c"),
                    option => args.extend(["-o", option]),
                }
                args.extend([text(&raw), text(&source)]);
                run("qemu-img", &args);
            }
        }
        let _ = std::fs::remove_file(&raw);
        std::fs::write(folder.join("case"), format!("{target:?}")).expect("writes");
        // what a format rounds the size up to reads as zeros
        let case = Self::open(folder);
        bytes.resize(case.disk.size() as usize, 0);
        (case, bytes)
    }

    fn place(&self) -> Place {
        let target = self.folder.join("disk.img");
        match self.target {
            Target::File | Target::Round => Place::File(self.folder.join("disk.img.chunks")),
            Target::Tail => {
                let length = std::fs::metadata(&target).expect("is there").len();
                Place::behind(&target, self.disk.size(), length).expect("there is room")
            }
        }
    }

    fn volume(&self) -> Volume {
        if self.target == Target::Tail { Volume::Device } else { Volume::File }
    }

    fn sink(&self) -> FileTarget {
        FileTarget::open(&self.folder.join("disk.img"), self.volume(), self.disk.size()).expect("opens")
    }

    fn map(&self, sink: &FileTarget) -> ChunkMap {
        let stamp = self.disk.stamp().expect("has a stamp");
        let key = Key { identity: "test".into(), stamp, size: self.disk.size(), inode: sink.tag() };
        ChunkMap::open_at(&self.place(), &key).expect("opens")
    }

    fn round(&self) -> Option<Round> {
        let ranges = std::fs::read(self.folder.join("ranges")).ok()?;
        let numbers: Vec<u64> = ranges.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let ranges = numbers.chunks(2).map(|pair| pair[0]..pair[1]).collect();
        let base = std::fs::read(self.folder.join("base")).expect("is beside it");
        let digest = |digest: &[u8; 32]| Copied { digest: Blake3(*digest), zero: false };
        Some(Round::new(ranges, base.as_chunks::<32>().0.iter().map(digest).collect()))
    }

    /// Copies as a job does, with the journal between.
    fn copy(&self) -> ChunkMap {
        let mut target = self.sink();
        let mut map = self.map(&target);
        let fresh = map.chunks().iter().all(Option::is_none);
        let round = self.round();
        target.prepare(self.disk.size(), fresh && round.is_none()).expect("prepares");
        let journal = OpenOptions::new().append(true).create(true).open(self.folder.join("journal")).expect("opens");
        let sink: Arc<dyn Sink> = Arc::new(Journal { inner: target, journal });
        let options = Options { workers: Some(3), ..Options::default() };
        let (progress, cancel) = (Progress::new(), Cancel::new());
        match round {
            None => copy(&self.disk, &sink, &mut map, &options, &progress, &cancel),
            Some(round) => {
                if fresh {
                    map.mark(round.untouched(self.disk.size())).expect("marks");
                }
                copy_changed(&self.disk, &sink, &mut map, round, &options, &progress, &cancel)
            }
        }
        .expect("copies");
        map
    }

    /// Returns the most bytes that were written for the chunks that are marked.
    fn marked(&self) -> u64 {
        let map = self.map(&self.sink());
        let round = self.round();
        let marked = (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_some());
        let bytes = |index| match &round {
            None => self.disk.data_bytes(map.range(index)).expect("maps"),
            Some(round) => match round.bytes(map.range(index)) {
                0 => 0,
                // at most its changed parts and then all of it
                changed => changed + map.range(index).end - map.range(index).start,
            },
        };
        marked.map(|(index, _)| bytes(index)).sum()
    }

    /// Returns how many bytes were written since the journal had `from` bytes, and its length.
    fn journal(&self, from: u64) -> (u64, u64) {
        let bytes = std::fs::read(self.folder.join("journal")).unwrap_or_default();
        let lines = bytes[from as usize..].chunks_exact(16);
        let written = lines.map(|line| u64::from_le_bytes(line[8..].try_into().expect("eight bytes"))).sum();
        (written, bytes.len() as u64)
    }
}

/// The child's entry; without the variable a copy in one go.
#[test]
fn copies_in_one_go() {
    let own = tempfile::tempdir().expect("a temporary folder");
    let case = match std::env::var_os(VARIABLE) {
        Some(folder) => Case::open(Path::new(&folder)),
        None => Case::make(own.path(), Packed::Raw, Target::File, 20 * MIB, 1).0,
    };
    let map = case.copy();
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

/// When the child dies.
enum Moment {
    /// When it has written so many bytes more.
    Bytes(u64),
    /// So much after its start.
    Time(Duration),
}

/// Waits for the moment; returns whether the child runs still.
fn wait_for(child: &mut Child, case: &Case, from: u64, moment: Moment) -> bool {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(120) {
        if child.try_wait().expect("can be asked").is_some() {
            return false;
        }
        let come = match moment {
            Moment::Bytes(bytes) => case.journal(from).0 >= bytes,
            Moment::Time(time) => started.elapsed() >= time,
        };
        if come {
            return true;
        }
        std::thread::yield_now();
    }
    panic!("the child neither writes nor ends");
}

/// Kills copies of one source until one gets through or there were enough; returns the number of
/// kills and the most bytes that one of them cost.
fn kill(case: &Case, wanted: &[u8], random: &mut StdRng, most: u32) -> (u32, u64) {
    let (mut kills, mut cost) = (0, 0);
    let mut longest = Duration::from_millis(400);
    let mut running = true;
    while running && kills < most {
        let from = case.journal(0).1;
        let marked = if from == 0 && kills == 0 { 0 } else { case.marked() };
        let started = Instant::now();
        let mut child = start_child(&case.folder);
        // some kills come before the first commit of a run, some after several, some within one
        let moment = match random.random_range(0..3) {
            0 => Moment::Time(longest.mul_f64(random.random_range(0.05..1.0))),
            1 => Moment::Bytes(random.random_range(1..WINDOW / 4)),
            _ => Moment::Bytes(random.random_range(1..2 * WINDOW)),
        };
        running = wait_for(&mut child, case, from, moment);
        child.kill().expect("can be killed");
        let status = child.wait().expect("ends");
        if !running {
            assert!(status.success(), "the child failed by itself: {status}");
            longest = started.elapsed();
            continue;
        }
        kills += 1;
        // a run that had not come to its map yet marked nothing
        let (written, _) = case.journal(from);
        let kept = case.marked().saturating_sub(marked);
        let lost = written.saturating_sub(kept);
        assert!(lost <= WINDOW, "kill {kills}: {written} bytes written, {kept} kept");
        cost = cost.max(lost);
    }
    if running {
        case.copy();
    }
    let bytes = std::fs::read(case.folder.join("disk.img")).expect("reads");
    assert_same(&bytes[..wanted.len()], wanted, "after kills");
    let map = case.map(&case.sink());
    for (chunk, copied) in wanted.chunks(CHUNK as usize).zip(map.chunks()) {
        let digest = copied.expect("all chunks are marked").digest;
        assert_eq!(digest.0, *blake3::hash(chunk).as_bytes(), "a chunk's digest");
    }
    drop(map);
    ChunkMap::discard(&case.place(), case.disk.size()).expect("discards");
    (kills, cost)
}

/// After the kills of a plain copy: the job that finishes it, and a changed source that is refused.
fn refuse_changed(case: &Case) {
    let source = case.folder.join("source");
    let mut job = Job { volume: case.volume(), ..job(&source, &case.folder.join("disk.img")) };
    job.copy.limit = Limit::rate(64);
    let watch = Watch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run(&watch));
        while watch.copy().snapshot().done < MIB && !running.is_finished() {
            std::thread::yield_now();
        }
        watch.cancel().cancel();
        running.join().expect("no panic").expect_err("was cancelled");
    });
    let file = File::options().write(true).open(&source).expect("opens");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("changes the time");
    job.copy.limit = Limit::default();
    let error = job.run(&Watch::new()).expect_err("is refused");
    assert!(matches!(error, Error::SourceChanged { field: "stamp", .. }), "{error}");
    assert_eq!(job.run(&Watch::new()).expect_err("is refused again").code(), "SourceChanged");
}

#[test]
fn killed_copies_go_on() {
    let wanted: u32 = std::env::var("FORKLIFT_KILLS").map_or(20, |text| text.parse().expect("a number"));
    let mut random = StdRng::seed_from_u64(u64::from(wanted));
    let (mut kills, mut cost, mut copies, mut refused) = (0, 0, 0, 0);
    let mut by_case = std::collections::BTreeMap::<String, u32>::new();
    while kills < wanted {
        let packed = SOURCES[copies % SOURCES.len()];
        // every source meets every target
        let target = TARGETS[(copies + copies / SOURCES.len()) % TARGETS.len()];
        // below and above one window
        let size = random.random_range(20 * MIB / 512..260 * MIB / 512) * 512;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (case, bytes) = Case::make(dir.path(), packed, target, size, 100 + copies as u64);
        let (more, most) = kill(&case, &bytes, &mut random, wanted - kills);
        if target != Target::Round && copies % 3 == 0 {
            refuse_changed(&case);
            refused += 1;
        }
        copies += 1;
        kills += more;
        cost = cost.max(most);
        println!("{kills} kills so far, {packed:?} to {target:?} of {size} bytes: {more}, the worst lost {most} bytes");
        *by_case.entry(format!("{packed:?} to {target:?}")).or_default() += more;
        assert!(copies < 40 + wanted as usize, "copies end before they can be killed");
    }
    println!("{kills} kills of {copies} copies, the worst lost {cost} bytes; {refused} changed sources were refused");
    println!("{by_case:#?}");
}
