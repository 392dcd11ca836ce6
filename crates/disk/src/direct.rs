//! Reads and writes past the page cache.
//!
//! What is copied has to reach the storage before its chunk may be marked, and what is verified has
//! to come from there: the page cache only costs copies in memory. Measured on ext4 (2 GiB, three
//! quarters data): copies with `fdatasync` took 2 to 3 times as long through the page cache, with
//! twice the processor time. A file system that does not take direct accesses (tmpfs, some network
//! file systems) gets plain ones.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// What address, offset and length are aligned to: a multiple of every device's logical block.
const ALIGN: usize = 4096;

/// Bytes of a huge page on the machines that matter.
const HUGE: usize = 2 << 20;

/// A file that is opened for direct accesses.
#[derive(Debug)]
pub(crate) struct Direct {
    file: File,
    refused: AtomicBool,
}

impl Direct {
    /// Opens a file; none where the file system has no direct accesses.
    pub(crate) fn open(path: &Path, options: &mut OpenOptions) -> Option<Self> {
        let file = options.custom_flags(libc::O_DIRECT).open(path).ok()?;
        Some(Self { file, refused: AtomicBool::new(false) })
    }

    /// Writes all bytes, or returns false where the page cache has to be used.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<bool> {
        if !self.takes(bytes, offset) {
            return Ok(false);
        }
        self.judge(self.file.write_all_at(bytes, offset))
    }

    /// Fills the buffer, or returns false where the page cache has to be used.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        if !self.takes(buf, offset) {
            return Ok(false);
        }
        self.judge(self.file.read_exact_at(buf, offset))
    }

    fn takes(&self, bytes: &[u8], offset: u64) -> bool {
        bytes.as_ptr().addr().is_multiple_of(ALIGN)
            && bytes.len().is_multiple_of(ALIGN)
            && offset.is_multiple_of(ALIGN as u64)
            && !self.refused.load(Ordering::Relaxed)
    }

    fn judge(&self, result: io::Result<()>) -> io::Result<bool> {
        match result {
            Ok(()) => Ok(true),
            // the file system opens for direct accesses and then has rules of its own
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Memory that direct accesses take. A buffer of 2 MiB or more lies on huge pages where the system
/// gives some: a request to the device then is one piece of memory instead of hundreds of pages.
pub(crate) struct Aligned {
    memory: Vec<u8>,
    skip: usize,
    length: usize,
}

impl Aligned {
    pub(crate) fn new(length: usize) -> Self {
        let align = if length >= HUGE { HUGE } else { ALIGN };
        // what is never touched takes no memory
        let memory = vec![0; length + align];
        let skip = memory.as_ptr().align_offset(align).min(align);
        let mut aligned = Self { memory, skip, length };
        if align == HUGE {
            ask_for_huge_pages(aligned.bytes());
        }
        aligned
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.skip..self.skip + self.length).unwrap_or_default()
    }
}

fn ask_for_huge_pages(bytes: &mut [u8]) {
    let whole = bytes.len() / HUGE * HUGE;
    #[expect(unsafe_code, reason = "madvise has no safe wrapper")]
    // SAFETY: the range is memory of this process that the slice borrows; the advice changes no byte of it
    let _ = unsafe { libc::madvise(bytes.as_mut_ptr().cast(), whole, libc::MADV_HUGEPAGE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aligned_accesses_are_taken() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("file");
        std::fs::write(&path, [7; 3 * ALIGN]).expect("writes");
        let mut buf = Aligned::new(2 * ALIGN);
        assert!(buf.bytes().as_ptr().addr().is_multiple_of(ALIGN));
        // a file system without direct accesses has none to be tested
        if let Some(direct) = Direct::open(&path, OpenOptions::new().read(true).write(true)) {
            assert!(!direct.read_at(buf.bytes(), 512).expect("is not tried"));
            assert!(!direct.write_at(&buf.bytes()[..100], 0).expect("is not tried"));
            if direct.write_at(&buf.bytes()[..ALIGN], ALIGN as u64).expect("writes") {
                assert!(direct.read_at(buf.bytes(), 0).expect("reads"));
                assert_eq!((buf.bytes()[0], buf.bytes()[ALIGN]), (7, 0));
            }
        }
    }
}
