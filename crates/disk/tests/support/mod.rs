//! What the tests share: a pattern, qemu-img as oracle, a writer of streams as VMware writes them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use forklift_disk::copy;
use forklift_disk::verify::Scope;
use forklift_disk::{Disk, Job, Watch};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub const MIB: u64 = 1 << 20;

/// Makes a raw file with random, compressible and zero ranges and holes, none of them aligned to
/// much, and returns its bytes.
pub fn pattern(path: &Path, size: u64, seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = vec![0u8; size as usize];
    let file = File::create(path).expect("makes the pattern");
    file.set_len(size).expect("sizes the pattern");
    let mut at = 0usize;
    while at < bytes.len() {
        let length = (random.random_range(1..600) * 512).min(bytes.len() - at);
        let part = &mut bytes[at..at + length];
        match random.random_range(0..16) {
            0..7 => random.fill(part),
            7..12 => part.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i / 97) as u8 | 1),
            12..15 => {}
            // a long hole: whole clusters, grains and now and then a chunk
            _ => {
                at += length * random.random_range(1..40);
                continue;
            }
        }
        file.write_all_at(part, at as u64).expect("writes the pattern");
        at += length;
    }
    bytes
}

/// Runs a program of the distribution and expects it to succeed.
pub fn run(program: &str, args: &[&str]) -> String {
    let start = || Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut output = start();
    // qemu-img measures how fast it can derive a key of LUKS, and gives up where the clock is too coarse for it
    for _ in 0..20 {
        if !String::from_utf8_lossy(&output.stderr).contains("Unable to get accurate CPU usage") {
            break;
        }
        output = start();
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Returns a path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Reads all of a disk, in pieces that are aligned to nothing.
pub fn read_all(disk: &Disk, step: usize) -> Vec<u8> {
    let mut bytes = vec![0xa5; disk.size() as usize];
    for (number, part) in bytes.chunks_mut(step).enumerate() {
        disk.image().read_at(part, (number * step) as u64).expect("reads");
    }
    bytes
}

/// Fails with the first difference instead of megabytes of output.
pub fn assert_same(found: &[u8], wanted: &[u8], what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}: size");
    if let Some(at) = found.iter().zip(wanted).position(|(a, b)| a != b) {
        panic!("{what}: byte {at} is {:#x}, not {:#x}", found[at], wanted[at]);
    }
}

/// Returns a job with the tests' defaults.
pub fn job(source: &Path, target: &Path) -> Job {
    Job {
        source: source.to_owned(),
        identity: "test".into(),
        target: target.to_owned(),
        verify: Some(Scope::Full),
        copy: copy::Options { workers: Some(3), ..Default::default() },
        ..Job::default()
    }
}

/// Copies, and compares the target with `wanted`.
pub fn copy_and_compare(job: &Job, wanted: &[u8], what: &str) {
    let outcome = job.run(&Watch::new()).unwrap_or_else(|error| panic!("{what}: {}", error.chain()));
    assert!(outcome.verified, "{what}");
    let target = std::fs::read(&job.target).expect("reads the target");
    assert_same(&target, wanted, what);
    assert!(job.chunk_map().is_some_and(|map| !map.exists()), "{what}: the chunk map goes at the end");
}

/// How a stream is made.
#[derive(Clone, Copy, Default)]
pub struct Stream {
    /// Level of deflate, 0 for stored blocks.
    pub level: i32,
    /// Sectors of rubbish after the end-of-stream marker.
    pub padding: u64,
}

/// Writes a streamOptimized VMDK as VMware's tools do: markers, directory at the end, footer.
pub fn write_stream(path: &Path, disk: &[u8], options: Stream) -> PathBuf {
    const GRAIN: usize = 64 << 10;
    let capacity = disk.len() as u64 / 512;
    let descriptor = format!(
        "# Disk DescriptorFile\nversion=1\nCID=123a\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n\
         RW {capacity} SPARSE \"{}\"\n",
        path.file_name().expect("has a name").to_string_lossy()
    );
    let mut out = header(capacity, u64::MAX);
    out.extend_from_slice(descriptor.as_bytes());
    out.resize(128 * 512, 0);
    let level = libdeflater::CompressionLvl::new(options.level).expect("a level");
    let mut packer = libdeflater::Compressor::new(level);
    let (mut directory, mut table) = (Vec::new(), Vec::new());
    let grains = disk.len().div_ceil(GRAIN);
    for (index, grain) in disk.chunks(GRAIN).enumerate() {
        if grain.iter().all(|byte| *byte == 0) {
            table.push(0u32);
        } else {
            let mut whole = grain.to_vec();
            whole.resize(GRAIN, 0);
            let mut packed = vec![0; packer.zlib_compress_bound(GRAIN)];
            let length = packer.zlib_compress(&whole, &mut packed).expect("packs");
            table.push((out.len() / 512) as u32);
            out.extend_from_slice(&(index as u64 * 128).to_le_bytes());
            out.extend_from_slice(&(length as u32).to_le_bytes());
            out.extend_from_slice(&packed[..length]);
            pad(&mut out);
        }
        if table.len() == 512 || index + 1 == grains {
            if table.iter().all(|entry| *entry == 0) {
                directory.push(0);
            } else {
                marker(&mut out, 4, 1);
                directory.push((out.len() / 512) as u32);
                table.resize(512, 0);
                table.iter().for_each(|entry| out.extend_from_slice(&entry.to_le_bytes()));
            }
            table.clear();
        }
    }
    marker(&mut out, (directory.len() as u64 * 4).div_ceil(512), 2);
    let at = out.len() as u64 / 512;
    directory.iter().for_each(|entry: &u32| out.extend_from_slice(&entry.to_le_bytes()));
    pad(&mut out);
    marker(&mut out, 1, 3);
    out.extend_from_slice(&header(capacity, at));
    out.resize(out.len() + 512, 0);
    out.resize(out.len() + options.padding as usize * 512, 0);
    std::fs::write(path, out).expect("writes the stream");
    path.to_owned()
}

fn header(capacity: u64, directory: u64) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(b"KDMV");
    out.extend_from_slice(&3u32.to_le_bytes());
    out.extend_from_slice(&0x3_0001u32.to_le_bytes());
    for number in [capacity, 128, 1, 20] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&512u32.to_le_bytes());
    for number in [0, directory, 128] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(b"\0\n \r\n\x01\0");
    out.resize(512, 0);
    out
}

fn marker(out: &mut Vec<u8>, sectors: u64, kind: u32) {
    out.extend_from_slice(&sectors.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(512), 0);
}
