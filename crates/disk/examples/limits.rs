//! The machine's limits, for the benches: what one core copies, digests and inflates a second, and
//! what the storage of a folder takes: `limits FOLDER`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Instant;

const MIB: usize = 1 << 20;
const BYTES: usize = 256 * MIB;

/// Returns MiB a second for `bytes` in the time of `work`, the best of three.
fn rate(bytes: usize, mut work: impl FnMut()) -> f64 {
    let once = |_| {
        let started = Instant::now();
        work();
        bytes as f64 / MIB as f64 / started.elapsed().as_secs_f64()
    };
    (0..3).map(once).fold(0.0, f64::max)
}

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| ".".into()));
    let mut state = 0x9e37_79b9u32;
    let mut text = vec![0u8; BYTES];
    text.chunks_exact_mut(8).for_each(|word| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        word[..4].copy_from_slice(b"the ");
        word[4..].copy_from_slice(&(state >> 4 & 0x0f0f_0f0f | 0x6060_6060).to_le_bytes());
    });
    let mut other = vec![1u8; BYTES];
    let copy = rate(BYTES, || std::hint::black_box(&mut other).copy_from_slice(std::hint::black_box(&text)));
    let digest = rate(BYTES, || {
        let _ = std::hint::black_box(blake3::hash(&text));
    });
    let level = libdeflater::CompressionLvl::new(6).unwrap_or_default();
    let mut packer = libdeflater::Compressor::new(level);
    let grain = &text[..64 << 10];
    let mut packed = vec![0; packer.zlib_compress_bound(grain.len())];
    let length = packer.zlib_compress(grain, &mut packed).unwrap_or(0);
    let mut inflater = libdeflater::Decompressor::new();
    let mut out = vec![0; grain.len()];
    let inflate = rate(BYTES, || {
        for _ in 0..BYTES / grain.len() {
            // a failure would show as an absurd rate
            let _ = std::hint::black_box(inflater.zlib_decompress(&packed[..length], &mut out));
        }
    });
    let path = folder.join("limits.tmp");
    let write = |flags: i32| -> std::io::Result<f64> {
        let mut aligned = vec![0u8; 5 * MIB];
        let skip = aligned.as_ptr().align_offset(4096);
        aligned[skip..skip + 4 * MIB].copy_from_slice(&text[..4 * MIB]);
        let mut failed = Ok(());
        let rate = rate(BYTES, || {
            let run = || -> std::io::Result<()> {
                let _ = std::fs::remove_file(&path);
                let file: File =
                    OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&path)?;
                for at in (0..BYTES).step_by(4 * MIB) {
                    file.write_all_at(&aligned[skip..skip + 4 * MIB], at as u64)?;
                }
                file.sync_data()
            };
            if let Err(error) = run() {
                failed = Err(error);
            }
        });
        failed.map(|()| rate)
    };
    let cached = write(0)?;
    let direct = write(libc::O_DIRECT).map_or_else(|error| error.to_string(), |rate| format!("{rate:.0}"));
    std::fs::remove_file(&path)?;
    println!(
        "limits of this machine, MiB/s: one core copies {copy:.0}, digests (BLAKE3) {digest:.0}, inflates {inflate:.0} \
         (3:1, level 6); storage takes {direct} past the page cache, {cached:.0} through it with fdatasync"
    );
    Ok(())
}
