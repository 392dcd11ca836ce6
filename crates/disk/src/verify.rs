//! Verification: what the target really holds against the digests of what was copied.
//!
//! The bytes come from the storage: direct reads where the file system has them, else the page cache
//! is dropped first. A target that is not raw is read through its format. Chunks are read by several
//! workers in ascending order; the first that differs is reported. A digest can only name the chunk:
//! [`locate`] compares it with the source, where that is at hand, and names the byte.

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
    /// The chunks that the last run copied: all, after a whole copy.
    Copied,
}

/// What is read back.
#[derive(Clone, Copy)]
pub enum Stored<'a> {
    /// Raw bytes in a file or on a device.
    Raw(&'a Path),
    /// What a format or protocol gives.
    Disk(&'a Disk, &'a Path),
}

impl<'a> Stored<'a> {
    /// Returns the path for messages.
    pub fn path(self) -> &'a Path {
        match self {
            Self::Raw(path) | Self::Disk(_, path) => path,
        }
    }
}

impl Scope {
    fn takes(self, index: usize, count: usize, chunk: &Copied) -> bool {
        // the digest is as good as random, and the same chunks are read when it is repeated
        self != Self::Sampled || index == 0 || index + 1 == count || chunk.digest.0[0].is_multiple_of(16)
    }
}

/// Bytes that are read at once.
const PIECE: usize = 2 << 20;

struct Run<'a> {
    stored: Stored<'a>,
    size: u64,
    chunks: &'a [(u64, Copied)],
    next: AtomicUsize,
    found: Mutex<Option<(u64, Error)>>,
    zeros: Blake3,
    progress: &'a Progress,
    cancel: &'a Cancel,
}

/// Reads the target back and compares it with the digests of its chunks; `copied` are the chunks that
/// [`Scope::Copied`] reads, none for all.
pub fn read_back(
    stored: Stored<'_>,
    size: u64,
    chunks: &[Copied],
    copied: Option<&[u64]>,
    scope: Scope,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let have = prepare(stored)?;
    if have < size {
        let (path, reason) = (stored.path().to_owned(), format!("the target ends at {have}, the disk at {size}"));
        return Err(Error::VerifyFailed { path, offset: have, chunk: have, length: 0, reason });
    }
    let count = chunks.len();
    let wanted =
        |index: u64| scope != Scope::Copied || copied.is_none_or(|copied| copied.binary_search(&index).is_ok());
    let taken: Vec<(u64, Copied)> = (0u64..)
        .zip(chunks.iter().copied())
        .filter(|(index, chunk)| scope.takes(*index as usize, count, chunk) && wanted(*index))
        .collect();
    progress.start(taken.iter().map(|(index, _)| chunk_length(size, *index)).sum(), 0);
    let run = Run {
        stored,
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

/// Makes sure that the bytes come from the storage; returns how many there are.
fn prepare(stored: Stored<'_>) -> Result<u64> {
    let path = match stored {
        Stored::Disk(disk, _) => return Ok(disk.size()),
        Stored::Raw(path) => path,
    };
    let unreadable = |source| Error::Target { path: path.to_owned(), action: "read back".into(), source };
    let file = File::open(path).map_err(unreadable)?;
    let have = file_length(&file).map_err(unreadable)?;
    drop_cache(&file).map_err(unreadable)?;
    Ok(have)
}

/// Drops a file's pages from memory, so that the next read is one of the storage.
pub fn drop_cache(file: &File) -> std::io::Result<()> {
    // only clean pages go
    file.sync_data()?;
    let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
    Ok(())
}

/// Reads the target back against a manifest; its own digests are checked first.
pub fn verify(
    stored: Stored<'_>,
    manifest: &Manifest,
    scope: Scope,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<()> {
    let chunks = manifest.chunks(stored.path())?;
    read_back(stored, manifest.size, &chunks, None, scope, progress, cancel)
}

/// Names the first byte of a failed chunk that differs from the source.
pub fn locate(error: Error, stored: Stored<'_>, source: &Disk) -> Error {
    let Error::VerifyFailed { path, chunk, length, reason, offset } = error else {
        return error;
    };
    let exact = || -> Option<u64> {
        let (mut ours, mut theirs) = (vec![0; length as usize], vec![0; length as usize]);
        match stored {
            Stored::Raw(path) => File::open(path).ok()?.read_exact_at(&mut ours, chunk).ok()?,
            Stored::Disk(disk, _) => disk.image().read_at(&mut ours, chunk).ok()?,
        }
        source.image().read_at(&mut theirs, chunk).ok()?;
        ours.iter().zip(&theirs).position(|(a, b)| a != b).map(|at| chunk + at as u64)
    };
    let offset = exact().unwrap_or(offset);
    Error::VerifyFailed { path, chunk, length, reason, offset }
}

/// One worker's way to the bytes.
enum Reader<'a> {
    Raw { file: File, direct: Option<Direct>, path: &'a Path },
    Disk(&'a Disk),
}

impl<'a> Reader<'a> {
    fn open(stored: Stored<'a>) -> Result<Self> {
        let path = match stored {
            Stored::Disk(disk, _) => return Ok(Self::Disk(disk)),
            Stored::Raw(path) => path,
        };
        let unreadable = |source| Error::Target { path: path.to_owned(), action: "read back".into(), source };
        // a descriptor of its own, so that read-ahead follows this worker alone
        let file = File::open(path).map_err(unreadable)?;
        Ok(Self::Raw { file, direct: Direct::open(path, OpenOptions::new().read(true)), path })
    }

    /// Returns whether nothing is stored in a range; a device has no holes.
    fn is_hole(&self, start: u64, length: u64) -> Result<bool> {
        match self {
            Self::Raw { file, .. } => Ok(match rustix::fs::seek(file, SeekFrom::Data(start)) {
                Ok(data) => data >= start + length,
                Err(rustix::io::Errno::NXIO) => file.metadata().is_ok_and(|meta| meta.is_file()),
                Err(_) => false,
            }),
            Self::Disk(disk) => Ok(disk.data_bytes(start..start + length)? == 0),
        }
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let (file, direct, path) = match self {
            Self::Disk(disk) => return disk.image().read_at(buf, offset),
            Self::Raw { file, direct, path } => (file, direct, path),
        };
        let read = match direct.as_ref().map(|direct| direct.read_at(buf, offset)) {
            Some(Ok(true)) => Ok(()),
            None | Some(Ok(false)) => file.read_exact_at(buf, offset),
            Some(Err(error)) => Err(error),
        };
        let action = || format!("read back at offset {offset}");
        read.map_err(|source| Error::Target { path: (*path).to_owned(), action: action(), source })
    }
}

fn chunk_length(size: u64, index: u64) -> u64 {
    CHUNK.min(size.saturating_sub(index.saturating_mul(CHUNK)))
}

impl Run<'_> {
    fn work(&self) {
        let reader = match Reader::open(self.stored) {
            Ok(reader) => reader,
            Err(error) => return self.failed(0, error),
        };
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
            if let Err(error) = self.check(&reader, *index, chunk, buf) {
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

    fn check(&self, reader: &Reader<'_>, index: u64, chunk: &Copied, buf: &mut [u8]) -> Result<()> {
        let start = index * CHUNK;
        let length = chunk_length(self.size, index);
        let digest = if reader.is_hole(start, length)? {
            if length == CHUNK { self.zeros } else { Blake3::of_zeros(length) }
        } else {
            self.digest(reader, start, length, buf)?
        };
        if digest != chunk.digest {
            return Err(Error::VerifyFailed {
                path: self.stored.path().to_owned(),
                offset: start,
                chunk: start,
                length,
                reason: format!("its digest is {digest}, {} was written", chunk.digest),
            });
        }
        self.progress.add(length, 0);
        Ok(())
    }

    fn digest(&self, reader: &Reader<'_>, start: u64, length: u64, buf: &mut [u8]) -> Result<Blake3> {
        let mut hasher = blake3::Hasher::new();
        let mut at = start;
        while at < start + length {
            let step = (buf.len() as u64).min(start + length - at) as usize;
            let part = buf.get_mut(..step).unwrap_or_default();
            reader.read(part, at)?;
            hasher.update(part);
            at += step as u64;
        }
        Ok(Blake3(*hasher.finalize().as_bytes()))
    }
}
