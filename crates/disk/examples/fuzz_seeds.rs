//! Writes a starting corpus for each target: small valid images of every kind, made by qemu-img and
//! tar on this machine, so that no binary is committed.
//!
//! `seeds FOLDER` makes `FOLDER/<target>/<seed>`.

#[path = "../tests/support/hyperv.rs"]
mod hyperv;

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
    hyper_v(&folder);
    fs::write(seed(&folder, "nbd", "structured"), server(true)).expect("writes");
    fs::write(seed(&folder, "nbd", "simple"), server(false)).expect("writes");
    let chain = |name: &str, first: &[u8], second: &[u8]| {
        let bytes = [&(first.len() as u16).to_le_bytes(), first, second].concat();
        fs::write(seed(&folder, "chain", name), bytes).expect("writes");
    };
    let extent = |kind: &str| format!("{}RW 64 {kind} \"b.vmdk\"\n", &lines[..lines.find("RW").unwrap_or(0)]);
    chain("flat", extent("FLAT").as_bytes(), &pattern()[..40_000]);
    let sparse = fs::read(folder.join("vmdk/sparse")).expect("reads");
    chain("sparse", extent("SPARSE").as_bytes(), &sparse[..sparse.len().min(150_000)]);
    let overlay = work.path().join("overlay");
    let base = ["-b", "b.qcow2", "-F", "qcow2", text(&overlay), "64k"];
    run("qemu-img", &[&["create", "-q", "-u", "-f", "qcow2", "-o", "cluster_size=512"], &base[..]].concat());
    let v2 = fs::read(folder.join("qcow2/v2")).expect("reads");
    chain("qcow2", &fs::read(&overlay).expect("reads"), &v2);
}

/// VHDs, and changes to VHDX images that the target makes itself.
fn hyper_v(folder: &Path) {
    let sectors: hyperv::Sectors = [0u64, 1, 9, 100, 131].map(|at| (at, [at as u8 | 1; 512])).into();
    for (name, parent) in [("dynamic", None), ("differencing", Some(("..\\base.vhd", [4; 16])))] {
        let disk = hyperv::Vhd { size: 140 * 512, block: 4096, sectors: &sectors, id: [3; 16], parent };
        fs::write(seed(folder, "vhd", name), hyperv::vhd(&disk)).expect("writes");
    }
    for kind in 0u8..4 {
        let change = [7u8, 0, 0, 6, 0, 0x40, 0, 0, 0, 0, 0];
        fs::write(seed(folder, "vhdx", &format!("kind{kind}")), [&[kind][..], &change].concat()).expect("writes");
    }
}

/// What a server sends for an export of 64 KiB, from its greeting on.
fn server(structured: bool) -> Vec<u8> {
    let mut out = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    let option = |option: u32, kind: u32, data: &[u8]| {
        let numbers = [option, kind, data.len() as u32].map(u32::to_be_bytes).concat();
        [&0x0003_e889_0455_65a9u64.to_be_bytes()[..], &numbers, data].concat()
    };
    out.extend(option(8, if structured { 1 } else { (1 << 31) + 1 }, &[]));
    if structured {
        out.extend(option(10, 4, b"\0\0\0\x01base:allocation"));
        out.extend(option(10, 1, &[]));
    }
    out.extend(option(7, 3, &[&[0, 0][..], &65_536u64.to_be_bytes(), &0x0d6du16.to_be_bytes()].concat()));
    out.extend(option(7, 3, &[&[0, 3][..], &[1u32, 4096, 1 << 25].map(u32::to_be_bytes).concat()].concat()));
    out.extend(option(7, 1, &[]));
    let mut cookie = 0u64;
    let mut reply = |kind: u16, payload: &[u8]| {
        cookie += 1;
        if !structured {
            return [&[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0][..], &cookie.to_be_bytes(), payload].concat();
        }
        let head = [&[0x66, 0x8e, 0x33, 0xef, 0, 1][..], &kind.to_be_bytes(), &cookie.to_be_bytes()].concat();
        [&head[..], &(payload.len() as u32).to_be_bytes(), payload].concat()
    };
    let mut read = |offset: u64, length: usize| {
        let data = vec![7; length];
        let payload = if structured { [&offset.to_be_bytes()[..], &data].concat() } else { data };
        out.extend(reply(1, &payload));
    };
    [(0, 30_000), (30_000, 30_000), (60_000, 5536)].into_iter().for_each(|(at, length)| read(at, length));
    (0..8u64).for_each(|number| read(number * 4096, 4096));
    if structured {
        out.extend(reply(5, &[1u32, 30_000, 0, 35_536, 3].map(u32::to_be_bytes).concat()));
    }
    out.extend(reply(0, &[]));
    out.extend(reply(0, &[]));
    out
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
