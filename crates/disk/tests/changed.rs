//! Rounds of changed ranges: only these are read, the target holds the new state in the end, and a
//! target that is not the base is refused.

mod support;

use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use forklift_disk::changed::{ChangedRange, ChangedRanges};
use forklift_disk::limit::Limit;
use forklift_disk::verify::Scope;
use forklift_disk::{Job, Manifest, Watch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::*;

const SIZE: u64 = 37 * MIB + 512;
const CHUNK: u64 = 4 * MIB;

struct Fixture {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Fixture {
    /// Returns a disk at state `1` and its copy.
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let bytes = pattern(&dir.path().join("source"), SIZE, seed);
        let fixture = Self { dir, bytes };
        let mut job = job(&fixture.path("source"), &fixture.path("disk.img"));
        job.change_id = Some("1".into());
        job.run(&Watch::new()).expect("copies");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Changes ranges of the source.
    fn change(&mut self, random: &mut StdRng, ranges: &[(u64, u64)]) {
        let file = std::fs::File::options().write(true).open(self.path("source")).expect("opens");
        for (start, length) in ranges {
            let part = &mut self.bytes[*start as usize..(start + length) as usize];
            // some become zeros
            if random.random_range(0..4) == 0 {
                part.fill(0)
            } else {
                random.fill(part)
            }
            file.write_all_at(part, *start).expect("writes");
        }
    }

    fn round(&self, from: &str, to: &str, ranges: &[(u64, u64)]) -> Job {
        let ranges = ranges.iter().map(|(start, length)| ChangedRange { start: *start, length: *length }).collect();
        let changed = ChangedRanges { base_change_id: from.into(), change_id: to.into(), size: Some(SIZE), ranges };
        Job { changed: Some(changed), ..job(&self.path("source"), &self.path("disk.img")) }
    }

    fn check(&self, job: &Job, state: &str) {
        assert_same(&std::fs::read(self.path("disk.img")).expect("reads"), &self.bytes, state);
        let manifest = Manifest::read(&job.manifest().expect("has one")).expect("reads").expect("is there");
        assert_eq!(manifest.change_id.as_deref(), Some(state));
        assert!(!job.chunk_map().expect("has one").exists(), "the map goes at the end");
    }
}

#[test]
fn rounds_read_what_changed_and_nothing_else() {
    let mut fixture = Fixture::new(80);
    let mut random = StdRng::seed_from_u64(80);
    for round in 1..6u64 {
        let ranges: Vec<(u64, u64)> = (0..random.random_range(1..12))
            .map(|_| {
                let start = random.random_range(0..SIZE / 512) * 512;
                (start, (random.random_range(1..2000u64) * 512).min(SIZE - start))
            })
            .collect();
        fixture.change(&mut random, &ranges);
        let mut job = fixture.round(&round.to_string(), &(round + 1).to_string(), &ranges);
        if round % 2 == 0 {
            job.verify = Some(Scope::Copied);
        }
        let outcome = job.run(&Watch::new()).expect("applies the round");
        let changed: u64 =
            job.changed.as_ref().expect("is one").merged(SIZE).expect("fits").iter().map(|r| r.end - r.start).sum();
        // besides a look at the first and last sector, which tell the format
        assert!(outcome.read <= changed + 1024, "round {round}: {} read, {changed} changed", outcome.read);
        assert!(outcome.written <= changed, "round {round}: {} written", outcome.written);
        fixture.check(&job, &(round + 1).to_string());
        let again = job.run(&Watch::new()).expect("is done");
        assert!(again.finished_before, "a round that was applied is not applied again");
    }
    // the digests are those of a whole copy
    let whole = Job { target: fixture.path("whole.img"), ..job(&fixture.path("source"), &fixture.path("disk.img")) };
    let root = whole.run(&Watch::new()).expect("copies").root.hex();
    let manifest = Manifest::read(&fixture.path("disk.img.manifest.json")).expect("reads").expect("is there");
    assert_eq!(manifest.root, root);
    assert_eq!(manifest.base_change_id.as_deref(), Some("5"));
}

#[test]
fn a_round_on_another_base_is_refused() {
    let fixture = Fixture::new(81);
    let ranges = [(0, CHUNK)];
    let refused = |job: &Job, text: &str| {
        let error = job.run(&Watch::new()).expect_err("is refused");
        assert_eq!((error.code(), error.retryable()), ("BaseMismatch", false), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    };
    refused(&fixture.round("7", "8", &ranges), "holds \"1\"");
    refused(&Job { identity: "another".into(), ..fixture.round("1", "2", &ranges) }, "is a copy of \"test\"");
    refused(&Job { target: fixture.path("new.img"), ..fixture.round("1", "2", &ranges) }, "has no manifest");
    // something wrote to the target since
    let target = std::fs::File::options().write(true).open(fixture.path("disk.img")).expect("opens");
    let first = fixture.bytes.chunks(CHUNK as usize).position(|chunk| chunk.iter().any(|byte| *byte != 0));
    let at = first.expect("has data") as u64 * CHUNK + 77;
    target.write_all_at(&[fixture.bytes[at as usize] ^ 1], at).expect("flips a bit");
    let error = fixture.round("1", "2", &[(SIZE - 512, 512)]).run(&Watch::new()).expect_err("is refused");
    assert_eq!(error.code(), "TargetChanged", "{error}");
    assert_eq!(fixture.round("1", "2", &[(SIZE, 512)]).run(&Watch::new()).expect_err("beyond").code(), "Malformed");
}

#[test]
fn an_interrupted_round_goes_on_and_no_other_begins_meanwhile() {
    let mut fixture = Fixture::new(82);
    let mut random = StdRng::seed_from_u64(82);
    // a part of every chunk
    let ranges: Vec<(u64, u64)> = (0..SIZE / CHUNK).map(|index| (index * CHUNK + 5 * 512, MIB)).collect();
    fixture.change(&mut random, &ranges);
    let mut job = fixture.round("1", "2", &ranges);
    job.copy.limit = Limit::rate(2 * MIB);
    let watch = Watch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run(&watch));
        while watch.copy().snapshot().done < 3 * MIB && !running.is_finished() {
            std::thread::yield_now();
        }
        watch.cancel().cancel();
        assert_eq!(running.join().expect("no panic").expect_err("was cancelled").code(), "Cancelled");
    });
    // neither another round nor a whole copy takes what is between two states for the base
    let other = fixture.round("1", "3", &ranges).run(&Watch::new()).expect_err("another round");
    assert_eq!(other.code(), "SourceChanged", "{other}");
    // a chunk that was written and not marked holds neither state
    let torn = std::fs::File::options().write(true).open(fixture.path("disk.img")).expect("opens");
    let last = ranges.last().expect("has one").0 as usize;
    torn.write_all_at(&fixture.bytes[last..last + 4096], last as u64).expect("writes a part of it");
    job.copy.limit = Limit::default();
    let outcome = job.run(&Watch::new()).expect("goes on");
    assert!(outcome.resumed >= MIB, "{outcome:?}");
    fixture.check(&job, "2");
}

#[test]
fn a_whole_copy_after_half_a_round_copies_all() {
    let mut fixture = Fixture::new(83);
    let ranges = [(CHUNK, 2 * CHUNK)];
    fixture.change(&mut StdRng::seed_from_u64(83), &ranges);
    let mut round = fixture.round("1", "2", &ranges);
    round.copy.limit = Limit::rate(64);
    round.copy.workers = Some(1);
    let watch = Watch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| round.run(&watch));
        while watch.copy().snapshot().done < CHUNK && !running.is_finished() {
            std::thread::yield_now();
        }
        watch.cancel().cancel();
        running.join().expect("no panic").expect_err("was cancelled");
    });
    let mut whole = job(&fixture.path("source"), &fixture.path("disk.img"));
    whole.change_id = Some("2".into());
    assert_eq!(whole.run(&Watch::new()).expect_err("is refused").code(), "SourceChanged");
    whole.start_over = true;
    let outcome = whole.run(&Watch::new()).expect("copies");
    assert_eq!((outcome.resumed, outcome.finished_before), (0, false));
    fixture.check(&whole, "2");
}
