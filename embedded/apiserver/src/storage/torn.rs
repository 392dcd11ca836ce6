//! Power cuts: what the disk may hold after one, made from copies of the files as they were when each write was
//! acknowledged. What was written after the last fsync may be there, in part, garbled, or not at all; what was before
//! it is there. Whatever is left, the store opens and holds every acknowledged write and a prefix of the others.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::*;

/// Bytes of a page of the database: <https://www.sqlite.org/fileformat2.html>.
const PAGE: usize = 4096;
/// Objects that the writes go round.
const OBJECTS: u64 = 7;

fn key(n: u64) -> Key {
    Key::new(&Arc::from("/configmaps"), "default", &format!("m{}", n % OBJECTS))
}

fn value(n: u64, size: usize) -> Value {
    json!({"metadata": {"name": key(n).name, "namespace": "default", "uid": format!("uid-{n}")}, "data": {"n": n.to_string(), "text": "x".repeat(size)}})
}

/// The files of a store at one moment.
#[derive(Clone)]
struct Disk {
    database: Vec<u8>,
    log: Vec<u8>,
}

impl Disk {
    fn of(dir: &Path) -> Self {
        let read = |name: &str| std::fs::read(dir.join(name)).unwrap_or_default();
        Self { database: read("store.db"), log: read("store.db-wal") }
    }

    /// Opens a store on these files; returns its revision and the number that each object holds.
    fn open(&self) -> (u64, Vec<Option<u64>>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("store.db"), &self.database).unwrap();
        std::fs::write(dir.path().join("store.db-wal"), &self.log).unwrap();
        let store = Store::open(&dir.path().join("store.db"), 20).unwrap_or_else(|e| panic!("does not open: {e:#}"));
        let number = |n| store.get(&key(n)).map(|o| o.value()["data"]["n"].as_str().unwrap().parse().unwrap());
        (store.revision(), (0..OBJECTS).map(number).collect())
    }
}

/// What every object holds after the first `count` writes, write `n` being `n`'s version of its object.
fn after(count: u64) -> Vec<Option<u64>> {
    (0..OBJECTS).map(|m| (0..count).rev().find(|n| n % OBJECTS == m)).collect()
}

/// The state must be that after some number of writes, the acknowledged ones among them.
fn check(disk: &Disk, acknowledged: u64, made: u64, what: &str) {
    let (revision, found) = disk.open();
    assert!(revision >= acknowledged && revision <= made, "{what}: revision {revision}, {acknowledged} acknowledged");
    assert_eq!(found, after(revision), "{what}: revision {revision} is no state that was");
}

/// Writes one after the other; the files after each acknowledgement.
async fn disks(dir: &Path, writes: u64, size: usize) -> Vec<Disk> {
    let store = Store::open(&dir.join("store.db"), 20).unwrap();
    let mut disks = Vec::new();
    for n in 0..writes {
        let done = match store.get(&key(n)) {
            None => store.create(key(n), value(n, size)).await.unwrap(),
            Some(old) => store.replace(key(n), old.revision, value(n, size)).await.unwrap(),
        };
        assert_eq!(done.revision, n + 1);
        disks.push(Disk::of(dir));
    }
    disks
}

#[tokio::test]
async fn a_log_that_is_cut_anywhere_holds_every_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let disks = disks(dir.path(), 60, 300).await;
    let rng = &mut StdRng::seed_from_u64(1);
    for (at, (now, next)) in disks.iter().zip(disks.iter().skip(1)).enumerate() {
        let acknowledged = at as u64 + 1;
        let (from, to) = (now.log.len(), next.log.len());
        if from > to || now.log[..] != next.log[..from] {
            continue; // the log began anew; the next test is about that
        }
        check(now, acknowledged, acknowledged, "at the acknowledgement");
        for _ in 0..3 {
            let cut = rng.random_range(from..=to);
            let mut torn = Disk { database: now.database.clone(), log: next.log[..cut].to_vec() };
            check(&torn, acknowledged, acknowledged + 1, &format!("cut at {cut} of {from} to {to}"));
            // sectors of the new part that were not written hold zeros or what was there before
            let mut sector = from;
            torn.log = next.log.clone();
            while sector < to {
                let end = (sector / 512 + 1) * 512;
                if rng.random_bool(0.5) {
                    let junk: u8 = if rng.random_bool(0.5) { 0 } else { rng.random() };
                    torn.log[sector..end.min(to)].fill(junk);
                }
                sector = end;
            }
            check(&torn, acknowledged, acknowledged + 1, "sectors of the last write missing");
            let bit = rng.random_range(from..to.max(from + 1));
            let mut flipped = Disk { database: now.database.clone(), log: next.log.clone() };
            if let Some(byte) = flipped.log.get_mut(bit) {
                *byte ^= 1 << rng.random_range(0..8);
            }
            check(&flipped, acknowledged, acknowledged + 1, "a bit of the last write flipped");
        }
    }
}

#[tokio::test]
async fn pages_that_a_checkpoint_did_not_finish_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    // so large that the log is written back to the database several times
    let disks = disks(dir.path(), 160, 60_000).await;
    let rng = &mut StdRng::seed_from_u64(2);
    let mut checkpoints = 0;
    for (at, (now, next)) in disks.iter().zip(disks.iter().skip(1)).enumerate() {
        let acknowledged = at as u64 + 1;
        if now.database == next.database {
            continue;
        }
        checkpoints += 1;
        check(next, acknowledged + 1, acknowledged + 1, "after a checkpoint");
        // the whole log is on disk before the first page goes to the database: any of these pages may be old or new
        let whole =
            if next.log.len() >= now.log.len() && next.log[..now.log.len()] == now.log[..] { next } else { now };
        for _ in 0..6 {
            let mut mixed = Disk { database: next.database.clone(), log: whole.log.clone() };
            for (page, old) in now.database.chunks(PAGE).enumerate() {
                if rng.random_bool(0.5) {
                    mixed.database[page * PAGE..page * PAGE + old.len()].copy_from_slice(old);
                }
            }
            // pages are not written in one piece either
            let page = rng.random_range(0..now.database.len() / PAGE) * PAGE;
            mixed.database[page..page + 512].copy_from_slice(&now.database[page..page + 512]);
            check(&mixed, acknowledged, acknowledged + 1, "a checkpoint that was cut off");
        }
    }
    assert!(checkpoints > 1, "{checkpoints} checkpoints");
}
