//! Faults between the source and the target: never a success with wrong bytes, and every error
//! says what and where.

mod support;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use forklift_disk::chunk_map::{ChunkMap, Copied};
use forklift_disk::copy::{Options, copy};
use forklift_disk::limit::Limit;
use forklift_disk::open;
use forklift_disk::patience::Patience;
use forklift_disk::progress::Progress;
use forklift_disk::source::{FileRange, Source};
use forklift_disk::target::{FileTarget, Sink, Volume};
use forklift_disk::verify::{Scope, Stored, locate, read_back, verify};
use forklift_disk::{Cancel, Disk, Error, Format, Manifest, Watch};
use support::*;

const SIZE: u64 = 30 * MIB;

/// What goes wrong on the way to the target.
enum Fault {
    /// This byte is stored with a bit flipped.
    Flip(u64),
    /// The target is full after so many bytes.
    Full(AtomicU64),
    /// Making durable fails.
    Sync,
}

struct Faulty {
    inner: FileTarget,
    fault: Fault,
}

impl Sink for Faulty {
    fn path(&self) -> &Path {
        self.inner.path()
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match &self.fault {
            Fault::Flip(at) if (offset..offset + bytes.len() as u64).contains(at) => {
                let mut bytes = bytes.to_vec();
                bytes[(at - offset) as usize] ^= 0x10;
                self.inner.write_at(&bytes, offset)
            }
            Fault::Full(room) => {
                let length = bytes.len() as u64;
                let take = |room: u64| room.checked_sub(length);
                match room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                    Ok(_) => self.inner.write_at(bytes, offset),
                    Err(_) => Err(io::ErrorKind::StorageFull.into()),
                }
            }
            _ => self.inner.write_at(bytes, offset),
        }
    }
    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.inner.zero(offset, length)
    }
    fn sync(&self) -> io::Result<()> {
        match self.fault {
            Fault::Sync => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => self.inner.sync(),
        }
    }
    fn available(&self) -> Option<u64> {
        Some(4711)
    }
    fn starts_zeroed(&self) -> bool {
        self.inner.starts_zeroed()
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    disk: Arc<Disk>,
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let bytes = pattern(&dir.path().join("source"), SIZE, seed);
        let disk = Disk::open(&dir.path().join("source"), &open::Options::default()).expect("opens");
        let disk = Arc::new(disk);
        Self { dir, bytes, disk }
    }

    fn target(&self) -> std::path::PathBuf {
        self.dir.path().join("disk.img")
    }

    fn copy(&self, fault: Fault) -> (ChunkMap, Result<(), Error>) {
        let mut inner = FileTarget::open(&self.target(), Volume::File, SIZE).expect("opens");
        inner.prepare(SIZE, true).expect("prepares");
        let mut map = ChunkMap::in_memory(SIZE);
        let options = Options { workers: Some(2), ..Options::default() };
        let sink: Arc<dyn Sink> = Arc::new(Faulty { inner, fault });
        let result = copy(&self.disk, &sink, &mut map, &options, &Progress::new(), &Cancel::new());
        (map, result)
    }

    /// Returns an offset after the middle whose byte is data.
    fn data_byte(&self) -> u64 {
        let half = self.bytes.len() / 2;
        (half + self.bytes[half..].iter().position(|byte| *byte != 0).expect("has data")) as u64
    }
}

fn digests(map: &ChunkMap) -> Vec<Copied> {
    map.chunks().iter().map(|chunk| chunk.expect("is copied")).collect()
}

#[test]
fn a_bit_flipped_on_the_way_fails_the_verification_at_its_byte() {
    let fixture = Fixture::new(60);
    let at = fixture.data_byte();
    let (map, result) = fixture.copy(Fault::Flip(at));
    result.expect("the copy does not notice");
    let (path, progress, cancel) = (fixture.target(), Progress::new(), Cancel::new());
    let stored = Stored::Raw(&path);
    let check = read_back(stored, SIZE, &digests(&map), None, Scope::Full, &progress, &cancel);
    let error = check.expect_err("the verification does");
    let chunk = at / (4 * MIB) * 4 * MIB;
    assert!(matches!(error, Error::VerifyFailed { offset, .. } if offset == chunk), "{error}");
    let error = locate(error, stored, &fixture.disk);
    assert!(matches!(error, Error::VerifyFailed { offset, .. } if offset == at), "{error} is not at {at}");
    assert!(!error.retryable());
}

#[test]
fn a_target_changed_later_no_longer_fits_its_manifest() {
    let fixture = Fixture::new(61);
    let job = job(&fixture.dir.path().join("source"), &fixture.target());
    job.run(&Watch::new()).expect("copies");
    let path = job.manifest().expect("a file has one");
    let manifest = Manifest::read(&path).expect("reads").expect("is there");
    let check = |scope| verify(Stored::Raw(&job.target), &manifest, scope, &Progress::new(), &Cancel::new());
    check(Scope::Full).expect("fits");
    let target = OpenOptions::new().write(true).open(&job.target).expect("opens");
    // a hole that is no hole any more, the last byte, the first byte: each is found, the lowest is told
    let hole = fixture.bytes.windows(512).position(|w| w.iter().all(|b| *b == 0)).expect("has zeros") as u64;
    for at in [SIZE - 1, hole, 0] {
        target.write_all_at(&[fixture.bytes[at as usize] ^ 1], at).expect("flips a bit");
        let error = check(Scope::Full).expect_err("differs");
        let chunk = at / (4 * MIB) * 4 * MIB;
        assert!(matches!(error, Error::VerifyFailed { offset, .. } if offset == chunk), "{at}: {error}");
    }
    assert_eq!(check(Scope::Sampled).expect_err("the first is in the sample").code(), "VerifyFailed");
    target.set_len(SIZE - 1).expect("cuts");
    assert_eq!(check(Scope::Full).expect_err("is short").code(), "VerifyFailed");
}

#[test]
fn a_byte_changed_between_two_runs_fails_the_job() {
    let fixture = Fixture::new(62);
    let (map, result) = fixture.copy(Fault::Full(AtomicU64::new(6 * MIB)));
    assert_eq!(result.expect_err("is full").code(), "NoSpace");
    assert!(map.copied_bytes() > 0, "what is durable is marked even then");
    // the same with a durable map, and a byte of a marked chunk changed before the second run
    let mut job = job(&fixture.dir.path().join("source"), &fixture.target());
    job.copy.limit = Limit::rate(64);
    job.copy.workers = Some(1);
    let watch = Watch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run(&watch));
        while watch.copy().snapshot().done < 4 * MIB && !running.is_finished() {
            std::thread::yield_now();
        }
        watch.cancel().cancel();
        assert_eq!(running.join().expect("no panic").expect_err("was cancelled").code(), "Cancelled");
    });
    let target = OpenOptions::new().write(true).open(&job.target).expect("opens");
    target.write_all_at(&[fixture.bytes[1000] ^ 1], 1000).expect("flips a bit");
    job.copy.limit = Limit::default();
    let error = job.run(&Watch::new()).expect_err("is not gone on with");
    assert!(matches!(error, Error::TargetChanged { offset: 0, .. }), "{error}");
    assert!(!job.manifest().expect("a path").exists(), "no manifest of a bad copy");
    job.start_over = true;
    copy_and_compare(&job, &fixture.bytes, "copied anew");
}

#[test]
fn a_full_target_tells_what_is_missing() {
    let fixture = Fixture::new(63);
    let (map, result) = fixture.copy(Fault::Full(AtomicU64::new(3 * MIB)));
    let error = result.expect_err("is full");
    let missing: u64 = (0u64..)
        .zip(map.chunks())
        .filter(|(_, chunk)| chunk.is_none())
        .map(|(index, _)| fixture.disk.data_bytes(map.range(index)).expect("maps"))
        .sum();
    assert!(
        matches!(&error, Error::NoSpace { needed, available: 4711, .. } if *needed == missing && missing > 0),
        "{error}"
    );
}

#[test]
fn nothing_is_marked_that_is_not_durable() {
    let (map, result) = Fixture::new(64).copy(Fault::Sync);
    let error = result.expect_err("cannot be made durable");
    assert_eq!(error.code(), "TargetFailed");
    assert!(error.chain().contains("make written bytes durable"), "{}", error.chain());
    assert_eq!(map.copied_bytes(), 0);
}

/// The child's entry: copies into a file system that is too small. By itself: into one that is not.
#[test]
fn a_file_system_that_is_full_is_an_error_with_figures() {
    const VARIABLE: &str = "FORKLIFT_DISK_TEST_SMALL";
    let dir = tempfile::tempdir().expect("a temporary folder");
    if let Some(small) = std::env::var_os(VARIABLE) {
        let source = dir.path().join("source");
        pattern(&source, SIZE, 65);
        let error = job(&source, &Path::new(&small).join("disk.img")).run(&Watch::new()).expect_err("is full");
        println!("{}|{}", error.code(), error.chain());
        return;
    }
    let test = std::env::current_exe().expect("is running");
    // a mount namespace of its own: the mount goes with the process
    let script = "mount -t tmpfs -o size=4m none \"$1\" && exec \"$0\" --exact \
                  a_file_system_that_is_full_is_an_error_with_figures --nocapture";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, text(&test), text(dir.path())]);
    let output = command.env(VARIABLE, dir.path()).output().expect("util-linux is there");
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        assert!(said.contains("NoSpace|") && said.contains("more bytes needed"), "{said}");
    } else {
        // no namespaces for this user: the limit on a file's size is the next best thing
        let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact \
                      a_file_system_that_is_full_is_an_error_with_figures --nocapture";
        let mut command = Command::new("sh");
        command.args(["-c", script, text(&test)]).env(VARIABLE, dir.path());
        let output = command.output().expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("TargetFailed|"), "{said}");
    }
}

#[test]
fn two_copies_to_one_target_are_refused() {
    let fixture = Fixture::new(66);
    let _first = FileTarget::open(&fixture.target(), Volume::File, SIZE).expect("opens");
    let job = job(&fixture.dir.path().join("source"), &fixture.target());
    let error = job.run(&Watch::new()).expect_err("is busy");
    assert_eq!((error.code(), error.retryable()), ("TargetBusy", true));
}

/// Fails now and then, as a network does, and for good from some read on.
struct Network {
    inner: FileRange,
    reads: AtomicU64,
    dead_after: u64,
}

impl Source for Network {
    fn name(&self) -> &str {
        "network"
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        if number > self.dead_after || number % 3 == 2 {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.inner.read_at(buf, offset)
    }
    fn stamp(&self) -> io::Result<String> {
        self.inner.stamp()
    }
}

#[test]
fn a_source_that_stumbles_is_read_and_one_that_dies_is_named() {
    let fixture = Fixture::new(67);
    for dead_after in [u64::MAX, 20] {
        let file = Arc::new(std::fs::File::open(fixture.dir.path().join("source")).expect("opens"));
        let inner = FileRange::whole(file, "source".into()).expect("opens");
        let source = Network { inner, reads: AtomicU64::new(0), dead_after };
        let disk = Arc::new(Disk::over(Arc::new(source), &open::Options::default()).expect("opens"));
        let mut target = FileTarget::open(&fixture.target(), Volume::File, SIZE).expect("opens");
        target.prepare(SIZE, true).expect("prepares");
        let mut map = ChunkMap::in_memory(SIZE);
        let tries = if dead_after == u64::MAX { 12 } else { 4 };
        let patience = Patience { tries, ..Patience::default() };
        let options = Options { workers: Some(2), patience, ..Options::default() };
        let (sink, progress): (Arc<dyn Sink>, _) = (Arc::new(target), Progress::new());
        let result = copy(&disk, &sink, &mut map, &options, &progress, &Cancel::new());
        if dead_after == u64::MAX {
            result.expect("copies");
            assert!(progress.snapshot().retries > 0, "tries are counted");
            assert_same(&std::fs::read(fixture.target()).expect("reads"), &fixture.bytes, "over the network");
        } else {
            let error = result.expect_err("the source is dead");
            assert_eq!((error.code(), error.retryable()), ("SourceUnreadable", true));
            assert!(error.chain().starts_with("network: cannot read at offset"), "{}", error.chain());
        }
    }
}

/// Answers all but one read, and that one only when it is told to.
struct Hung {
    inner: FileRange,
    hangs: AtomicU64,
    release: Arc<(Mutex<bool>, Condvar)>,
}

impl Source for Hung {
    fn name(&self) -> &str {
        "hung"
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset >= SIZE / 2 && self.hangs.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut released = self.release.0.lock().expect("no panic");
            while !*released {
                released = self.release.1.wait(released).expect("no panic");
            }
            drop(released);
            // an answer that comes too late, and is wrong
            buf.fill(0xee);
            return Ok(());
        }
        self.inner.read_at(buf, offset)
    }
    fn stamp(&self) -> io::Result<String> {
        self.inner.stamp()
    }
}

#[test]
fn a_source_that_hangs_is_left_behind_and_its_late_answer_is_not_written() {
    let fixture = Fixture::new(68);
    let file = Arc::new(std::fs::File::open(fixture.dir.path().join("source")).expect("opens"));
    let inner = FileRange::whole(file, "source".into()).expect("opens");
    let release = Arc::new((Mutex::new(false), Condvar::new()));
    let source = Hung { inner, hangs: AtomicU64::new(0), release: release.clone() };
    // its format is told: nothing is read before the copy
    let raw = open::Options { format: Some(Format::Raw), ..open::Options::default() };
    let disk = Arc::new(Disk::over(Arc::new(source), &raw).expect("opens"));
    let mut target = FileTarget::open(&fixture.target(), Volume::File, SIZE).expect("opens");
    target.prepare(SIZE, true).expect("prepares");
    let sink: Arc<dyn Sink> = Arc::new(target);
    let mut map = ChunkMap::in_memory(SIZE);
    let patience = Patience { stalled: Duration::from_millis(300), ..Patience::default() };
    let options = Options { workers: Some(2), patience, ..Options::default() };
    let result = copy(&disk, &sink, &mut map, &options, &Progress::new(), &Cancel::new());
    let error = result.expect_err("the source hangs");
    assert_eq!((error.code(), error.retryable()), ("SourceStalled", true));
    assert!(error.to_string().starts_with("hung: no answer to a read for"), "{error}");
    // the answer comes now; the worker that waited for it ends without a word
    *release.0.lock().expect("no panic") = true;
    release.1.notify_all();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Arc::strong_count(&sink) > 1 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(Arc::strong_count(&sink), 1, "the worker is gone");
    let bytes = std::fs::read(fixture.target()).expect("reads");
    let late = bytes.windows(4096).step_by(4096).position(|page| page.iter().all(|byte| *byte == 0xee));
    assert_eq!(late, None, "nothing of the late answer is on the target");
    for (index, chunk) in (0u64..).zip(map.chunks()).filter(|(_, chunk)| chunk.is_some()) {
        let range = map.range(index);
        let same =
            bytes[range.start as usize..range.end as usize] == fixture.bytes[range.start as usize..range.end as usize];
        assert!(same, "marked chunk {index} ({chunk:?}) is right");
    }
}
