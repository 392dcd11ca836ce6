//! Writes a starting corpus for each target: small valid images of every kind, made by qemu-img and
//! tar on this machine, so that no binary is committed.
//!
//! `seeds FOLDER` makes `FOLDER/<target>/<seed>`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Sizes that end at no border of a grain or cluster.
const RAW_BYTES: usize = 300 * 512;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: seeds FOLDER");
        std::process::exit(2);
    };
    let folder = PathBuf::from(folder);
    let work = tempfile::tempdir().expect("a temporary folder");
    let raw = work.path().join("raw");
    fs::write(&raw, pattern()).expect("writes the raw disk");
    let convert = |target: &str, name: &str, options: &[&str]| {
        let out = seed(&folder, target, name);
        let mut all = vec!["convert", "-f", "raw"];
        all.extend_from_slice(options);
        all.extend([text(&raw), text(&out)]);
        run("qemu-img", &all);
    };
    convert("qcow2", "v2", &["-O", "qcow2", "-o", "compat=0.10,cluster_size=512"]);
    convert("qcow2", "v3", &["-O", "qcow2", "-o", "cluster_size=4k"]);
    convert("qcow2", "deflate", &["-c", "-O", "qcow2", "-o", "cluster_size=4k"]);
    convert("qcow2", "zstd", &["-c", "-O", "qcow2", "-o", "cluster_size=16k,compression_type=zstd"]);
    convert("qcow2", "subclusters", &["-O", "qcow2", "-o", "cluster_size=16k,extended_l2=on"]);
    convert("vmdk", "sparse", &["-O", "vmdk", "-o", "subformat=monolithicSparse"]);
    convert("vmdk", "zeroed", &["-O", "vmdk", "-o", "subformat=monolithicSparse,zeroed_grain=on"]);
    convert("vmdk", "stream", &["-O", "vmdk", "-o", "subformat=streamOptimized"]);
    let lines = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"custom\"\n\
                 RW 100 ZERO\nRW 63 FLAT \"a.vmdk\" 0\nRW 128 SPARSE \"b.vmdk\"\n";
    fs::write(seed(&folder, "vmdk", "descriptor"), lines).expect("writes");

    for (name, format) in [("gnu", "gnu"), ("pax", "pax"), ("ustar", "ustar")] {
        let long = format!("{}-disk.vmdk", "long".repeat(if format == "ustar" { 10 } else { 40 }));
        fs::write(work.path().join("a.ovf"), "<Envelope/>").expect("writes");
        fs::copy(&raw, work.path().join(&long)).expect("copies");
        let out = seed(&folder, "archive", name);
        let format = format!("--format={format}");
        run("tar", &["-C", text(work.path()), &format, "-cf", text(&out), "a.ovf", &long]);
    }
    for image in ["qcow2/v3", "vmdk/stream"] {
        let packed = Command::new("gzip").args(["-c", text(&folder.join(image))]).output().expect("gzip runs");
        fs::write(seed(&folder, "gzip", &image.replace('/', "-")), packed.stdout).expect("writes");
    }
    records(&folder);
}

/// A chunk map and a manifest, by the crate's own writers.
fn records(folder: &Path) {
    use forklift_disk::Manifest;
    use forklift_disk::chunk_map::{ChunkMap, Copied, Key};
    use forklift_disk::digest::Blake3;
    let size = 13 << 20;
    let key = Key { identity: "test".into(), stamp: "5:1.0".into(), size, inode: 7 };
    let path = seed(folder, "chunk_map", "half");
    let _ = fs::remove_file(&path);
    let data = Copied { digest: Blake3([7; 32]), zero: false };
    let zero = |length| Copied { digest: Blake3::of_zeros(length), zero: true };
    let mut map = ChunkMap::open(&path, &key).expect("makes a chunk map");
    map.mark(vec![(1, data), (3, zero(1 << 20))]).expect("marks");
    let chunks = [zero(4 << 20), data, data, zero(1 << 20)];
    let manifest = Manifest::new("test", "raw", size, &chunks, std::time::SystemTime::UNIX_EPOCH);
    manifest.write(&seed(folder, "manifest", "whole")).expect("writes a manifest");
}

fn seed(folder: &Path, target: &str, name: &str) -> PathBuf {
    let folder = folder.join(target);
    fs::create_dir_all(&folder).expect("makes the corpus folder");
    folder.join(name)
}

/// Bytes, repetitions and zeros in turn.
fn pattern() -> Vec<u8> {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..RAW_BYTES)
        .map(|at| match at / 20_480 % 4 {
            0 => next(),
            1 => (at / 97) as u8,
            _ => 0,
        })
        .collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths are text")
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(status.success(), "{program} {arguments:?}");
}
