//! Copies to true block devices (loop devices; where they cannot be made the tests say so).

mod support;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use forklift_disk::chunk_map::{ChunkMap, Place};
use forklift_disk::limit::Limit;
use forklift_disk::target::Volume;
use forklift_disk::{Job, Manifest, Watch};
use support::*;

const SIZE: u64 = 33 * MIB + 512;

/// A loop device over a file full of rubbish.
struct Loop {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Loop {
    fn new(size: u64) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let back = dir.path().join("back");
        let mut file = File::create(&back).expect("makes");
        (0..size / MIB).for_each(|_| file.write_all(&vec![0xaa; MIB as usize]).expect("writes"));
        file.set_len(size).expect("sizes");
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&back).output();
        let output = output.ok().filter(|output| output.status.success());
        let Some(output) = output else {
            eprintln!("skipped: no loop device can be made here");
            return None;
        };
        let path = String::from_utf8(output.stdout).expect("is a path").trim().into();
        Some(Self { path, _dir: dir })
    }

    fn read(&self, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, 0)).expect("reads the device");
        bytes
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

fn device_job(source: &Path, device: &Loop) -> Job {
    Job { volume: Volume::Device, ..job(source, &device.path) }
}

/// Begins a copy that ends early.
fn begin(job: &Job) {
    let job = Job { copy: forklift_disk::copy::Options { limit: Limit::rate(64), ..job.copy.clone() }, ..job.clone() };
    let watch = Watch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| job.run(&watch));
        while watch.copy().snapshot().done < 4 * MIB && !running.is_finished() {
            std::thread::yield_now();
        }
        watch.cancel().cancel();
        assert_eq!(running.join().expect("no panic").expect_err("was cancelled").code(), "Cancelled");
    });
}

#[test]
fn a_device_holds_the_disk_and_its_end_is_clean() {
    let Some(device) = Loop::new(36 * MIB) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    // a whole chunk of data first: it is marked before the copy is cancelled
    let mut bytes = pattern(&dir.path().join("source"), SIZE, 90);
    bytes[..4 * MIB as usize].fill(0x5a);
    std::fs::write(dir.path().join("source"), &bytes).expect("writes");
    let job = Job { copy: Default::default(), ..device_job(&dir.path().join("source"), &device) };
    begin(&job);
    let place = Place::behind(&device.path, SIZE, 36 * MIB).expect("there is room");
    assert!(ChunkMap::peek(&place).expect("reads").is_some(), "the map is behind the disk");
    let outcome = job.run(&Watch::new()).expect("goes on");
    assert!(outcome.resumed >= 4 * MIB && outcome.verified, "{outcome:?}");
    let found = device.read(36 * MIB);
    assert_same(&found[..SIZE as usize], &bytes, "on the device");
    let Place::Device(_, at) = place else { panic!("is on the device") };
    let map = 4096 + SIZE.div_ceil(4 * MIB) * 40;
    let (map, after) = found[at as usize..].split_at(map as usize);
    assert!(map.iter().all(|byte| *byte == 0), "the map is gone");
    assert!(after.iter().all(|byte| *byte == 0xaa), "what lies behind it is as it was");
}

#[test]
fn a_full_device_keeps_its_state_in_files_that_are_named() {
    let Some(device) = Loop::new(SIZE) else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bytes = pattern(&dir.path().join("source"), SIZE, 91);
    let mut job = device_job(&dir.path().join("source"), &device);
    let without = job.run(&Watch::new()).expect("copies without any state");
    assert_eq!(job.manifest(), None);
    job.manifest_at = Some(dir.path().join("state.json"));
    begin(&job);
    assert!(dir.path().join("state.json.chunks").exists(), "the map is beside the manifest");
    let outcome = job.run(&Watch::new()).expect("goes on");
    assert_eq!(outcome.root, without.root);
    assert_same(&device.read(SIZE), &bytes, "on the device");
    let manifest = Manifest::read(&dir.path().join("state.json")).expect("reads").expect("is there");
    assert_eq!(manifest.root, outcome.root.hex());
    assert!(job.run(&Watch::new()).expect("is done").finished_before);
    let small = Loop::new(16 * MIB).expect("a second one");
    let error = device_job(&dir.path().join("source"), &small).run(&Watch::new()).expect_err("is too small");
    assert_eq!((error.code(), error.retryable()), ("TargetTooSmall", false));
}
