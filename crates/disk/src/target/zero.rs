//! Zeros without storing them: holes in files, the device's own zeroing.
//!
//! | target | first | then | at last |
//! |---|---|---|---|
//! | file | `FALLOC_FL_PUNCH_HOLE` | `FALLOC_FL_ZERO_RANGE` | zeros are written |
//! | device | the same: the kernel unmaps, and only where that reads as zeros | `BLKZEROOUT` | zeros are written |
//!
//! `BLKDISCARD` alone is not used: what a discarded range reads as is up to the device
//! (Linux, `block/fops.c` and `block/blk-lib.c`).

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// `_IO(0x12, 127)` of Linux, `include/uapi/linux/fs.h`.
const BLKZEROOUT: libc::Ioctl = 0x127f;
/// Device ranges are aligned to this where the device zeroes them.
const BLOCK: u64 = 4096;

/// The ways, the first that works is kept.
type Way = fn(&File, u64, u64) -> io::Result<()>;
const FILE: &[Way] = &[punch, zero_range, write];
const DEVICE: &[Way] = &[punch, zero_range, zero_out, write];

/// Zeroes ranges of a file or device.
#[derive(Debug)]
pub(super) struct Zeroer {
    device: bool,
    way: AtomicUsize,
}

impl Zeroer {
    pub(super) fn new(file: &File) -> Self {
        use std::os::unix::fs::FileTypeExt;
        let device = file.metadata().is_ok_and(|meta| meta.file_type().is_block_device());
        Self { device, way: AtomicUsize::new(0) }
    }

    pub(super) fn zero(&self, file: &File, offset: u64, length: u64) -> io::Result<()> {
        let ways = if self.device { DEVICE } else { FILE };
        if self.device && !(offset.is_multiple_of(BLOCK) && length.is_multiple_of(BLOCK)) {
            return self.ragged(file, offset, length);
        }
        let known = self.way.load(Ordering::Relaxed);
        for (number, way) in ways.iter().enumerate().skip(known) {
            match way(file, offset, length) {
                Err(error) if refused(&error) && number + 1 < ways.len() => {
                    self.way.fetch_max(number + 1, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        write(file, offset, length)
    }

    /// Writes the ends of a range that no device zeroes by itself, and zeroes the middle.
    fn ragged(&self, file: &File, offset: u64, length: u64) -> io::Result<()> {
        let end = offset.saturating_add(length);
        let from = offset.next_multiple_of(BLOCK).min(end);
        let to = (end / BLOCK * BLOCK).max(from);
        write(file, offset, from - offset)?;
        write(file, to, end - to)?;
        if from < to { self.zero(file, from, to - from) } else { Ok(()) }
    }
}

/// Returns whether another way may work.
fn refused(error: &io::Error) -> bool {
    let refusals = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::NOTTY, Errno::PERM];
    error.raw_os_error().is_some_and(|code| refusals.iter().any(|errno| errno.raw_os_error() == code))
}

fn punch(file: &File, offset: u64, length: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)?)
}

fn zero_range(file: &File, offset: u64, length: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length)?)
}

fn zero_out(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let range = [offset, length];
    #[expect(unsafe_code, reason = "no crate in the tree has this ioctl")]
    // SAFETY: BLKZEROOUT reads two u64 at the pointer, which outlives the call
    let result = unsafe { libc::ioctl(file.as_raw_fd(), BLKZEROOUT, range.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn write(file: &File, offset: u64, length: u64) -> io::Result<()> {
    static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
    let end = offset.saturating_add(length);
    let mut at = offset;
    while at < end {
        let step = (ZEROS.len() as u64).min(end - at);
        file.write_all_at(ZEROS.get(..step as usize).unwrap_or_default(), at)?;
        at += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_gives_zeros_and_touches_nothing_else() {
        for ways in [FILE.len() - 1, 1, 0] {
            for (offset, length) in [(0, 300_000), (4096, 8192), (5000, 10), (100, 270_001)] {
                let file = tempfile::tempfile().expect("a temporary file");
                file.write_all_at(&[7; 400_000], 0).expect("writes");
                let zeroer = Zeroer { device: offset == 5000, way: AtomicUsize::new(ways) };
                zeroer.zero(&file, offset, length).expect("zeroes");
                let mut bytes = vec![1; 400_000];
                file.read_exact_at(&mut bytes, 0).expect("reads");
                let wrong = (0u64..).zip(&bytes).find(|(at, byte)| {
                    let inside = (offset..offset + length).contains(at);
                    **byte != if inside { 0 } else { 7 }
                });
                assert_eq!(wrong, None, "way {ways}, {length} bytes at {offset}");
            }
        }
    }
}
