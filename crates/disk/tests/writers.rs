//! Targets that are no raw files: qcow2 and NBD.

#[path = "support/server.rs"]
mod server;
mod support;

use std::path::Path;

use forklift_disk::nbd::Uri;
use forklift_disk::open::Options;
use forklift_disk::remote::Access;
use forklift_disk::target::{NbdTarget, Qcow2Target, Sink};
use forklift_disk::{Disk, Error, Format, Watch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use server::Server;
use support::*;

/// More than one L2 table, and an end at no cluster.
const SIZE: u64 = 600 * MIB + 3 * 512;

/// What a disk should hold, sparsely: 64 KiB blocks that are not zeros.
#[derive(Default, Clone)]
struct Model(std::collections::BTreeMap<u64, Vec<u8>>);

const BLOCK: u64 = 64 << 10;

impl Model {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (number, byte) in (offset..).zip(bytes) {
            let block = self.0.entry(number / BLOCK).or_insert_with(|| vec![0; BLOCK as usize]);
            block[(number % BLOCK) as usize] = *byte;
        }
    }

    fn check(&self, read: impl Fn(&mut [u8], u64), what: &str) {
        for (block, wanted) in &self.0 {
            let at = block * BLOCK;
            let length = BLOCK.min(SIZE - at) as usize;
            let mut found = vec![0xa5; length];
            read(&mut found, at);
            assert_same(&found, &wanted[..length], &format!("{what}, block at {at}"));
        }
        let mut between = vec![0xa5; 512];
        for at in [7 * MIB, 300 * MIB, SIZE - 600] {
            if !self.0.contains_key(&(at / BLOCK)) && !self.0.contains_key(&((at + 511) / BLOCK)) {
                read(&mut between, at);
                assert!(between.iter().all(|byte| *byte == 0), "{what}: nothing was written at {at}");
            }
        }
    }
}

/// One random write or range of zeros, on the target and in the model.
fn step(target: &dyn Sink, model: &mut Model, random: &mut StdRng) {
    let length = random.random_range(1..600u64) * 512;
    let near = [0, 511 * MIB, 512 * MIB, SIZE - 700 * 512][random.random_range(0..4)];
    let offset = (near + random.random_range(0..4000) * 512).min(SIZE - length);
    if random.random_range(0..5) == 0 {
        target.zero(offset, length).expect("zeroes");
        model.write(offset, &vec![0; length as usize]);
    } else {
        let bytes = vec![random.random_range(1..255); length as usize];
        target.write_at(&bytes, offset).expect("writes");
        model.write(offset, &bytes);
    }
}

fn opened(path: &Path, anew: bool) -> Qcow2Target {
    let mut target = Qcow2Target::open(path, SIZE).expect("opens");
    target.prepare(SIZE, anew).unwrap_or_else(|error| panic!("{}", error.chain()));
    target
}

/// qemu-img finds no error and nothing that leaked.
fn check(path: &Path) {
    run("qemu-img", &["check", "-q", "-U", "-f", "qcow2", text(path)]);
}

#[test]
fn a_qcow2_is_whole_at_every_sync_and_gone_on_with() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("disk.qcow2");
    let mut random = StdRng::seed_from_u64(5);
    let mut model = Model::default();
    for round in 0..6 {
        let target = opened(&path, round == 0);
        assert_eq!(target.starts_zeroed(), round == 0);
        model.check(|buf, at| target.read_at(buf, at).expect("reads"), "before");
        for _ in 0..8 {
            step(&target, &mut model, &mut random);
            if random.random_range(0..3) == 0 {
                target.sync().expect("syncs");
                check(&path);
            }
        }
        if round == 5 {
            target.finish().expect("finishes");
        } else {
            target.sync().expect("syncs");
            // what comes after the last sync may be lost, and does no harm
            target.write_at(&[0xcc; 70_000], 100 * MIB + round * MIB).expect("writes");
            check(&path);
        }
    }
    check(&path);
    let disk = Disk::open(&path, &Options::default()).expect("opens");
    assert_eq!(disk.size(), SIZE);
    model.check(|buf, at| disk.image().read_at(buf, at).expect("reads"), "our reader");
    let raw = dir.path().join("raw");
    run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text(&path), text(&raw)]);
    let theirs = Disk::open(&raw, &Options::default()).expect("opens");
    model.check(|buf, at| theirs.image().read_at(buf, at).expect("reads"), "qemu's reader");
    let stored = std::fs::metadata(&path).expect("is there").len();
    assert!(stored < 64 * MIB, "{stored} bytes for a few megabytes");
}

#[test]
fn several_threads_write_one_qcow2() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("disk.qcow2");
    let target = opened(&path, true);
    std::thread::scope(|scope| {
        for worker in 0..4u64 {
            let target = &target;
            scope.spawn(move || {
                for number in 0..40 {
                    // neighbours share clusters: pieces of 48 KiB
                    let at = (number * 4 + worker) * (48 << 10);
                    target.write_at(&vec![worker as u8 + 1; 48 << 10], at).expect("writes");
                    if number % 9 == 0 {
                        target.sync().expect("syncs");
                    }
                }
            });
        }
    });
    target.finish().expect("finishes");
    check(&path);
    let disk = target.read_back().expect("opens").expect("is no raw file");
    for number in 0..160u64 {
        let mut found = vec![0; 48 << 10];
        disk.image().read_at(&mut found, number * (48 << 10)).expect("reads");
        assert!(found.iter().all(|byte| u64::from(*byte) == number % 4 + 1), "piece {number}");
    }
}

#[test]
fn another_image_is_not_gone_on_with() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("disk.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&path), "600M"]);
    let mut target = Qcow2Target::open(&path, SIZE).expect("opens");
    let error = target.prepare(SIZE, false).expect_err("is another");
    assert!(error.chain().contains("not the image that the copy began"), "{}", error.chain());
    assert!(matches!(Qcow2Target::open(&path, SIZE), Err(Error::TargetBusy { .. })));
}

#[test]
fn an_export_is_a_target() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let image = dir.path().join("image.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&image), "600M"]);
    run("qemu-img", &["resize", "-q", "-f", "qcow2", text(&image), &SIZE.to_string()]);
    let kit = Server::nbdkit(dir.path(), &["memory", &SIZE.to_string()]);
    let qemu = Server::qemu_nbd(dir.path(), &["-f", "qcow2", "--discard=unmap", text(&image)]);
    for (name, server) in [("nbdkit", &kit), ("qemu-nbd", &qemu)] {
        let uri: Uri = text(&server.uri("")).parse().expect("a URI");
        let mut target = NbdTarget::open(&uri, &Access::default(), SIZE).expect("connects");
        target.prepare(SIZE, true).expect("prepares");
        assert!(target.starts_zeroed(), "{name} says that it is empty");
        let (mut model, mut random) = (Model::default(), StdRng::seed_from_u64(6));
        (0..40).for_each(|_| step(&target, &mut model, &mut random));
        target.sync().expect("flushes");
        target.finish().expect("finishes");
        model.check(|buf, at| target.read_at(buf, at).expect("reads"), name);
        let disk = target.read_back().expect("opens").expect("is no file");
        model.check(|buf, at| disk.image().read_at(buf, at).expect("reads"), &format!("{name} read back"));
        let mut again = NbdTarget::open(&uri, &Access::default(), SIZE).expect("connects");
        again.prepare(SIZE, true).expect("prepares");
        assert!(!again.starts_zeroed(), "{name} says that it is not empty any more");
        assert!(matches!(NbdTarget::open(&uri, &Access::default(), SIZE * 2), Err(Error::TargetTooSmall { .. })));
    }
    let locked = Server::nbdkit(dir.path(), &["-r", "memory", "1M"]);
    let uri: Uri = text(&locked.uri("")).parse().expect("a URI");
    let error = NbdTarget::open(&uri, &Access::default(), MIB).err().expect("is read-only");
    assert_eq!((error.code(), error.retryable()), ("TargetFailed", true), "{}", error.chain());
}

#[test]
fn the_engine_copies_to_qcow2_and_to_an_export() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (raw, source) = (dir.path().join("raw"), dir.path().join("source.vmdk"));
    let bytes = pattern(&raw, 21 * MIB + 512, 62);
    write_stream(&source, &bytes, Stream { level: 1, padding: 0 });
    let mut copy = job(&source, &dir.path().join("disk.qcow2"));
    copy.target_format = Some(Format::Qcow2);
    let outcome = copy.run(&Watch::new()).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert!(outcome.verified);
    check(&copy.target);
    run("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&copy.target)]);
    assert!(copy.run(&Watch::new()).expect("is done").finished_before, "its manifest says so");
    // a copy that was ended in the middle goes on, and what it left is whole
    let mut cut = job(&source, &dir.path().join("cut.qcow2"));
    cut.target_format = Some(Format::Qcow2);
    let map = cut.chunk_map().expect("a file's map lies beside it");
    let watch = Watch::new();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| cut.run(&watch));
        // the map is there once the copy has begun
        while !map.exists() && !running.is_finished() {
            std::thread::yield_now();
        }
        watch.cancel().cancel();
        let _ = running.join().expect("does not panic");
    });
    let outcome = cut.run(&Watch::new()).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert!(outcome.verified);
    check(&cut.target);
    run("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&cut.target)]);

    let image = dir.path().join("export.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", text(&image), &bytes.len().to_string()]);
    let mut server = Server::qemu_nbd(dir.path(), &["-f", "qcow2", text(&image)]);
    let copy = job(&source, &server.uri(""));
    let outcome = copy.run(&Watch::new()).unwrap_or_else(|error| panic!("{}", error.chain()));
    assert!(outcome.verified);
    assert!(copy.manifest().is_none() && copy.chunk_map().is_none(), "there is nothing beside an export");
    server.kill();
    run("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&image)]);
    let mut wrong = job(&source, Path::new("http://127.0.0.1:1/x"));
    assert_eq!(wrong.run(&Watch::new()).expect_err("no target").code(), "UnsupportedFormat");
    wrong = job(&source, &dir.path().join("x.vmdk"));
    wrong.target_format = Some(Format::Vmdk);
    assert_eq!(wrong.run(&Watch::new()).expect_err("is not written").code(), "UnsupportedFormat");
}
