//! Disks that come as a stream: read once from front to back, begun anew where they break off; and targets that are
//! brought from one state to another by writing only what differs.

mod support;

use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forklift_disk::changed::{ChangedRange, ChangedRanges};
use forklift_disk::patience::Patience;
use forklift_disk::stream::Export;
use forklift_disk::{Format, Job, Manifest, Origin, Outcome, Watch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::*;

const SIZE: u64 = 45 * MIB + 512;
const CHUNK: u64 = 4 * MIB;

/// A stream in memory that breaks off where it is told to, once for each place.
#[derive(Default)]
struct Lease {
    bytes: Mutex<Vec<u8>>,
    breaks: Mutex<Vec<usize>>,
    begun: AtomicUsize,
    stamp: Mutex<String>,
}

struct Broken(Cursor<Vec<u8>>, usize);

impl Read for Broken {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.1 - (self.0.position() as usize).min(self.1);
        match left {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            left => self.0.by_ref().take(left as u64).read(buf),
        }
    }
}

impl Export for Lease {
    fn name(&self) -> &str {
        "lease"
    }

    fn begin(&self) -> io::Result<Box<dyn Read + Send>> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let bytes = self.bytes.lock().expect("no panic").clone();
        let at = self.breaks.lock().expect("no panic").pop();
        Ok(match at {
            Some(at) => Box::new(Broken(Cursor::new(bytes), at)),
            None => Box::new(Cursor::new(bytes)),
        })
    }

    fn stamp(&self) -> io::Result<String> {
        Ok(self.stamp.lock().expect("no panic").clone())
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    disk: Vec<u8>,
    lease: Arc<Lease>,
}

impl Fixture {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let disk = pattern(&dir.path().join("source"), SIZE, seed);
        let fixture = Self { dir, disk, lease: Arc::default() };
        fixture.export("1");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the stream, and the raw file beside it, hold the disk of this state.
    fn export(&self, state: &str) {
        let path = write_stream(&self.path("s.vmdk"), &self.disk, Stream { level: 1, padding: 3 });
        *self.lease.bytes.lock().expect("no panic") = std::fs::read(path).expect("reads");
        *self.lease.stamp.lock().expect("no panic") = state.into();
        std::fs::write(self.path("source"), &self.disk).expect("writes");
    }

    fn streamed(&self, state: &str) -> Job {
        let origin = Some(Origin::Stream(self.lease.clone()));
        let mut job = Job { origin, ..job(&self.path("lease"), &self.path("disk.img")) };
        job.change_id = Some(state.into());
        job
    }

    fn check(&self, job: &Job, what: &str) -> Outcome {
        let outcome = job.run(&Watch::new()).unwrap_or_else(|error| panic!("{what}: {}", error.chain()));
        assert_same(&std::fs::read(self.path("disk.img")).expect("reads"), &self.disk, what);
        assert!(job.chunk_map().is_some_and(|map| !map.exists()), "{what}: the map goes at the end");
        outcome
    }

    /// Changes some bytes of these chunks; returns the ranges.
    fn change(&mut self, random: &mut StdRng, chunks: &[u64]) -> Vec<ChangedRange> {
        let change = |chunk: &u64| {
            let start = chunk * CHUNK + random.random_range(0..100) * 512;
            let part = &mut self.disk[start as usize..][..70 * 512];
            random.fill(part);
            ChangedRange { start, length: 70 * 512 }
        };
        chunks.iter().map(change).collect()
    }
}

#[test]
fn a_stream_is_copied_by_one_reader_and_goes_on_where_it_breaks_off() {
    for seed in 0..6 {
        let fixture = Fixture::new(seed);
        let mut random = StdRng::seed_from_u64(seed);
        let length = fixture.lease.bytes.lock().expect("no panic").len();
        let breaks: Vec<usize> = (0..seed).map(|_| random.random_range(0..length)).collect();
        *fixture.lease.breaks.lock().expect("no panic") = breaks.clone();
        let job = fixture.streamed("1");
        let outcome = fixture.check(&job, &format!("breaks at {breaks:?} of {length}"));
        assert_eq!(fixture.lease.begun.load(Ordering::Relaxed), 1 + seed as usize);
        assert_eq!(outcome.written + outcome.resumed, outcome.written, "nothing was there before");
        let manifest = Manifest::read(&job.manifest().expect("has one")).expect("reads").expect("is there");
        assert_eq!(manifest.format, Format::StreamOptimized.name());
        // the digests are those of a copy of the raw disk
        let raw = self::job(&fixture.path("source"), &fixture.path("raw.img"));
        assert_eq!(raw.run(&Watch::new()).expect("copies").root, outcome.root);
        assert!(job.run(&Watch::new()).expect("is done").finished_before);
    }
}

#[test]
fn a_run_that_failed_is_gone_on_with_and_writes_only_the_rest() {
    let fixture = Fixture::new(7);
    let length = fixture.lease.bytes.lock().expect("no panic").len();
    let mut job = fixture.streamed("1");
    job.copy.patience = Patience { tries: 1, ..Patience::default() };
    // what was read last may not be on the disk yet when the stream breaks, on a slow machine none of it
    let mut first = 0;
    for _ in 0..100 {
        *fixture.lease.breaks.lock().expect("no panic") = vec![length * 2 / 3];
        let watch = Watch::new();
        let error = job.run(&watch).expect_err("breaks off");
        assert_eq!((error.code(), error.retryable()), ("SourceUnreadable", true), "{}", error.chain());
        first = watch.copy().snapshot().written;
        if first > 0 {
            break;
        }
    }
    assert!(first > 0, "no run wrote anything");
    let outcome = fixture.check(&job, "second run");
    assert!(outcome.resumed > 0, "{outcome:?}");
    let all =
        { Job { target: fixture.path("b.img"), ..fixture.streamed("1") } }.run(&Watch::new()).expect("copies").written;
    // what was taken from the first stream and marked is not written again
    assert!(outcome.written < all && first + outcome.written <= all + CHUNK, "{first} + {} of {all}", outcome.written);
    // another state is another source
    *fixture.lease.breaks.lock().expect("no panic") = vec![length / 2];
    let mut again = Job { target: fixture.path("c.img"), ..job };
    again.run(&Watch::new()).expect_err("breaks off");
    *fixture.lease.stamp.lock().expect("no panic") = "2".into();
    assert_eq!(again.run(&Watch::new()).expect_err("changed").code(), "SourceChanged");
    again.start_over = true;
    assert_eq!(again.run(&Watch::new()).expect("copies anew").resumed, 0);
}

#[test]
fn streams_that_are_none_are_refused_by_what_is_wrong() {
    let fixture = Fixture::new(8);
    let whole = fixture.lease.bytes.lock().expect("no panic").clone();
    let refused = |change: &dyn Fn(&mut Vec<u8>), code: &str, text: &str| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        *fixture.lease.bytes.lock().expect("no panic") = bytes;
        let mut job = fixture.streamed("1");
        job.copy.patience = Patience { tries: 2, budget: Duration::from_millis(50), ..Patience::default() };
        let error = job.run(&Watch::new()).expect_err(text);
        assert!(error.code() == code && error.chain().contains(text), "{text}: {}", error.chain());
        let _ = std::fs::remove_file(job.chunk_map().expect("has one"));
    };
    refused(&|bytes| bytes[0] = 0, "Malformed", "is not a streamOptimized VMDK");
    refused(&|bytes| bytes[10] = 0, "Malformed", "no compressed grains");
    refused(&|bytes| bytes[12..20].fill(0xff), "Malformed", "capacity");
    refused(&|bytes| bytes[20] = 127, "Malformed", "no power of two");
    refused(&|bytes| bytes.truncate(bytes.len() - 10 * 512), "SourceUnreadable", "ends early");
    // the first grain's place, length, and stream
    let first = 128 * 512;
    refused(&|bytes| bytes[first..first + 8].fill(0xff), "Malformed", "out of range");
    refused(&|bytes| bytes[first + 8..first + 12].fill(0xff), "Malformed", "out of range");
    refused(&|bytes| bytes[first + 12..first + 40].fill(0xff), "Malformed", "the grain of disk offset");
    refused(&|bytes| bytes[first + 2] = 1, "Malformed", "out of order");
}

#[test]
fn a_second_export_writes_only_the_chunks_that_differ() {
    let mut fixture = Fixture::new(9);
    fixture.check(&fixture.streamed("1"), "first export");
    let mut random = StdRng::seed_from_u64(9);
    for (round, known) in [(2u64, false), (3, true), (4, false)] {
        let (from, to) = ((round - 1).to_string(), round.to_string());
        let ranges = fixture.change(&mut random, &[1, 4, 7]);
        // one chunk becomes zeros
        fixture.disk[round as usize * CHUNK as usize..][..CHUNK as usize].fill(0);
        fixture.export(&to);
        let mut job = fixture.streamed(&to);
        if known {
            let mut ranges = ranges;
            ranges.push(ChangedRange { start: round * CHUNK, length: CHUNK });
            job.changed = Some(ChangedRanges { base_change_id: from, change_id: to.clone(), size: Some(SIZE), ranges });
        } else {
            job.compare = true;
        }
        let outcome = fixture.check(&job, &format!("round {round}"));
        assert!(outcome.written > 0 && outcome.written <= 4 * CHUNK, "{outcome:?}");
        assert_eq!(outcome.change_id, Some(to));
    }
}

#[test]
fn a_comparison_trusts_nothing_that_a_lost_run_left() {
    let mut fixture = Fixture::new(10);
    let mut random = StdRng::seed_from_u64(10);
    fixture.check(&fixture.streamed("1"), "first");
    let raw = |state: &str, fixture: &Fixture| {
        let mut job = Job { compare: true, ..job(&fixture.path("source"), &fixture.path("disk.img")) };
        job.change_id = Some(state.into());
        job
    };
    // the manifest is right: only what differs is written, and the target is not read
    fixture.change(&mut random, &[2, 5]);
    fixture.export("2");
    let outcome = fixture.check(&raw("2", &fixture), "the manifest is right");
    assert!(outcome.written <= 2 * CHUNK && outcome.written > 0, "{outcome:?}");
    // somebody wrote to many chunks of the target
    let target = std::fs::File::options().write(true).open(fixture.path("disk.img")).expect("opens");
    (0..SIZE / CHUNK).for_each(|chunk| target.write_all_at(&[9; 100], chunk * CHUNK + 4096).expect("writes"));
    fixture.change(&mut random, &[3]);
    fixture.export("3");
    fixture.check(&raw("3", &fixture), "the target is not what its manifest says");
    // a round to another state was lost: the map says that the target is between two states
    let ranges = fixture.change(&mut random, &[0, 1, 2, 3, 4, 6, 8]);
    fixture.export("4");
    let changed = ChangedRanges { base_change_id: "3".into(), change_id: "4".into(), size: None, ranges };
    let watch = Watch::new();
    let mut round = Job { changed: Some(changed), compare: false, ..fixture.streamed("4") };
    round.copy.patience.tries = 1;
    let length = fixture.lease.bytes.lock().expect("no panic").len();
    *fixture.lease.breaks.lock().expect("no panic") = vec![length * 3 / 4];
    round.run(&watch).expect_err("breaks off");
    assert!(watch.copy().snapshot().written > 0);
    fixture.change(&mut random, &[10]);
    fixture.export("5");
    let mut compared = Job { compare: true, ..fixture.streamed("5") };
    compared.copy.patience.tries = 1;
    *fixture.lease.breaks.lock().expect("no panic") = vec![length / 2];
    compared.run(&Watch::new()).expect_err("is lost too");
    assert!(!compared.manifest().expect("has one").exists(), "what is not true any more is gone");
    assert!(!raw("3", &fixture).run(&Watch::new()).expect("copies").finished_before);
    let outcome = fixture.check(&compared, "after two lost runs");
    assert!(outcome.written < SIZE / 2, "{outcome:?}");
    // a whole copy that was begun goes on, even if a comparison would do
    let mut whole = Job { compare: true, target: fixture.path("new.img"), ..fixture.streamed("5") };
    whole.copy.patience.tries = 1;
    *fixture.lease.breaks.lock().expect("no panic") = vec![length * 2 / 3];
    whole.run(&Watch::new()).expect_err("breaks off");
    let outcome = whole.run(&Watch::new()).expect("goes on");
    assert!(outcome.resumed > 0, "{outcome:?}");
}
