//! Verification: what the target really holds against the digests of what was copied.
//!
//! The bytes come from the storage: direct reads where the file system has them, else the page cache
//! is dropped first. Chunks are read by
//! several workers in ascending order; the first that differs is reported. A digest can only name
//! the chunk: [`locate`] compares it with the source, where that is at hand, and names the byte.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Advice, SeekFrom};

use crate::cancel::Cancel;
use crate::chunk_map::Copied;
use crate::copy::workers;
use crate::digest::{Blake3, CHUNK};
use crate::direct::{Aligned, Direct};
use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::open::Disk;
use crate::progress::Progress;
use crate::source::file_length;

/// How much is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// All chunks.
    #[default]
    Full,
    /// The first, the last and one in sixteen between, chosen by their digests.
    Sampled,
}

impl Scope {
    fn takes(self, index: usize, count: usize, chunk: &Copied) -> bool {
        // the digest is as good as random, and the same chunks are read when it is repeated
        self == Self::Full || index == 0 || index + 1 == count || chunk.digest.0[0].is_multiple_of(16)
    }
}

/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

struct Run<'a> {
    path: &'a Path,
    size: u64,
    chunks: &'a [(u64, Copied)],
    next: AtomicUsize,
    found: Mutex<Option<(u64, Error)>>,
    zeros: Blake3,
    progress: &'a Progress,
    cancel: &'a Cancel,
}

/// Reads the target back and compares it with the digests of its chunks.
pub fn read_back(
    path: &Path,
    size: u64,
    chunks: &[Copied],
    scope: Scope,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let unreadable = |source| Error::Target { path: path.to_owned(), action: "read back".into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let have = file_length(&file).map_err(unreadable)?;
    if have < size {
        let reason = format!("the target ends at {have}, the disk at {size}");
        return Err(Error::VerifyFailed { path: path.to_owned(), offset: have, chunk: have, length: 0, reason });
    }
    // only clean pages go; the copy ended with fdatasync
    file.sync_data().map_err(unreadable)?;
    let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
    let count = chunks.len();
    let taken: Vec<(u64, Copied)> = (0u64..)
        .zip(chunks.iter().copied())
        .filter(|(index, chunk)| scope.takes(*index as usize, count, chunk))
        .collect();
    progress.start(taken.iter().map(|(index, _)| chunk_length(size, *index)).sum(), 0);
    let run = Run {
        path,
        size,
        chunks: &taken,
        next: AtomicUsize::new(0),
        found: Mutex::new(None),
        zeros: Blake3::of_zeros(CHUNK),
        progress,
        cancel,
    };
    std::thread::scope(|scope| {
        for _ in 0..workers(None) {
            scope.spawn(|| run.work());
        }
    });
    let found = run.found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    found.map_or(Ok(()), |(_, error)| Err(error))
}

/// Reads the target back against a manifest; its own digests are checked first.
pub fn verify(path: &Path, manifest: &Manifest, scope: Scope, progress: &Progress, cancel: &Cancel) -> Result<()> {
    let chunks = manifest.chunks(path)?;
    read_back(path, manifest.size, &chunks, scope, progress, cancel)
}

/// Names the first byte of a failed chunk that differs from the source.
pub fn locate(error: Error, disk: &Disk) -> Error {
    let Error::VerifyFailed { path, chunk, length, reason, offset } = error else {
        return error;
    };
    let exact = || -> Option<u64> {
        let file = File::open(&path).ok()?;
        let (mut ours, mut theirs) = (vec![0; length as usize], vec![0; length as usize]);
        file.read_exact_at(&mut ours, chunk).ok()?;
        disk.image().read_at(&mut theirs, chunk).ok()?;
        ours.iter().zip(&theirs).position(|(a, b)| a != b).map(|at| chunk + at as u64)
    };
    let offset = exact().unwrap_or(offset);
    Error::VerifyFailed { path, chunk, length, reason, offset }
}

fn chunk_length(size: u64, index: u64) -> u64 {
    CHUNK.min(size.saturating_sub(index.saturating_mul(CHUNK)))
}

impl Run<'_> {
    fn work(&self) {
        // a descriptor of its own, so that read-ahead follows this worker alone
        let file = match File::open(self.path) {
            Ok(file) => file,
            Err(source) => {
                return self
                    .failed(0, Error::Target { path: self.path.to_owned(), action: "read back".into(), source });
            }
        };
        let direct = Direct::open(self.path, OpenOptions::new().read(true));
        let mut memory = Aligned::new(PIECE);
        let buf = memory.bytes();
        while let Some((index, chunk)) = self.chunks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            if self.cancel.is_cancelled() {
                return self.failed(u64::MAX, Error::Cancelled);
            }
            // what lies behind a difference does not matter any more; what lies before it does
            if self.lock().as_ref().is_some_and(|(found, _)| found < index) {
                return;
            }
            if let Err(error) = self.check(&file, direct.as_ref(), *index, chunk, buf) {
                return self.failed(*index, error);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u64, Error)>> {
        self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Keeps the error of the lowest chunk.
    fn failed(&self, index: u64, error: Error) {
        let mut found = self.lock();
        if found.as_ref().is_none_or(|(other, _)| index < *other) {
            *found = Some((index, error));
        }
    }

    fn check(&self, file: &File, direct: Option<&Direct>, index: u64, chunk: &Copied, buf: &mut [u8]) -> Result<()> {
        let start = index * CHUNK;
        let length = chunk_length(self.size, index);
        let digest = if is_hole(file, start, length) {
            if length == CHUNK { self.zeros } else { Blake3::of_zeros(length) }
        } else {
            self.digest(file, direct, start, length, buf)?
        };
        if digest != chunk.digest {
            return Err(Error::VerifyFailed {
                path: self.path.to_owned(),
                offset: start,
                chunk: start,
                length,
                reason: format!("its digest is {digest}, {} was written", chunk.digest),
            });
        }
        self.progress.add(length, 0);
        Ok(())
    }

    fn digest(&self, file: &File, direct: Option<&Direct>, start: u64, length: u64, buf: &mut [u8]) -> Result<Blake3> {
        let mut hasher = blake3::Hasher::new();
        let mut at = start;
        while at < start + length {
            let step = (buf.len() as u64).min(start + length - at) as usize;
            let part = buf.get_mut(..step).unwrap_or_default();
            let read = match direct.map(|direct| direct.read_at(part, at)) {
                Some(Ok(true)) => Ok(()),
                None | Some(Ok(false)) => file.read_exact_at(part, at),
                Some(Err(error)) => Err(error),
            };
            read.map_err(|source| Error::Target {
                path: self.path.to_owned(),
                action: format!("read back at offset {at}"),
                source,
            })?;
            hasher.update(part);
            at += step as u64;
        }
        Ok(Blake3(*hasher.finalize().as_bytes()))
    }
}

/// Returns whether the file system stores nothing there; a device has no holes.
fn is_hole(file: &File, start: u64, length: u64) -> bool {
    match rustix::fs::seek(file, SeekFrom::Data(start)) {
        Ok(data) => data >= start + length,
        Err(rustix::io::Errno::NXIO) => file.metadata().is_ok_and(|meta| meta.is_file()),
        Err(_) => false,
    }
}
