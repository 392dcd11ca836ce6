//! One disk from its source to a verified target: what an importer and `disk copy` do.
//!
//! ```text
//!            ┌─ finished before (manifest of this identity) ─► done at once
//! Preparing ─┴─► Copying ──────────────► Verifying ─► manifest ─► chunk map removed ─► Done
//!                  ║ digest of the stored bytes, where the appliance promises one
//! ```
//!
//! Crash after any arrow: the next run goes on from the chunk map, or finds the manifest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::SystemTime;

use crate::cancel::Cancel;
use crate::chunk_map::{ChunkMap, Copied, Key, beside};
use crate::copy::{self, copy};
use crate::digest::{Algorithm, Blake3, check_stored};
use crate::error::{Error, Result};
use crate::image::Format;
use crate::manifest::Manifest;
use crate::open::{self, Disk};
use crate::progress::Progress;
use crate::target::{FileTarget, Sink, Volume};
use crate::verify::{Scope, locate, read_back};

/// What to copy, and how.
#[derive(Debug, Clone)]
pub struct Job {
    /// The source file or archive.
    pub source: PathBuf,
    /// How to open it.
    pub open: open::Options,
    /// Stable name of the source's content; a copy goes on only for the same one.
    pub identity: String,
    /// Digest that the stored bytes must have.
    pub digest: Option<(Algorithm, String)>,
    /// The target file or device.
    pub target: PathBuf,
    /// What the target is.
    pub volume: Volume,
    /// The size that the volume was made for, where it is known: a larger disk is refused.
    pub room: Option<u64>,
    /// What is read back after the copy; none to trust the writes.
    pub verify: Option<Scope>,
    /// Whether a changed source begins anew instead of [`Error::SourceChanged`].
    pub start_over: bool,
    /// How to copy.
    pub copy: copy::Options,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Opening source and target.
    Preparing,
    /// Copying.
    Copying,
    /// Reading back.
    Verifying,
    /// Ended well.
    Done,
    /// Ended with an error.
    Failed,
}

/// A window into a running job; clones look at the same job.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<State>);

#[derive(Debug, Default)]
struct State {
    phase: AtomicU8,
    copy: Progress,
    verify: Progress,
    cancel: Cancel,
    disk: OnceLock<Weak<Disk>>,
}

const PHASES: [Phase; 5] = [Phase::Preparing, Phase::Copying, Phase::Verifying, Phase::Done, Phase::Failed];

impl Watch {
    /// Returns a window for a job that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns where the job is.
    pub fn phase(&self) -> Phase {
        PHASES.get(usize::from(self.0.phase.load(Ordering::Acquire))).copied().unwrap_or(Phase::Failed)
    }

    /// Returns the counters of the copy.
    pub fn copy(&self) -> &Progress {
        &self.0.copy
    }

    /// Returns the counters of the verification.
    pub fn verify(&self) -> &Progress {
        &self.0.verify
    }

    /// Returns the flag that ends the job.
    pub fn cancel(&self) -> &Cancel {
        &self.0.cancel
    }

    /// Returns how many bytes of the source were read for the copy.
    pub fn bytes_read(&self) -> u64 {
        self.0.disk.get().and_then(Weak::upgrade).map_or(0, |disk| disk.bytes_read())
    }

    fn enter(&self, phase: Phase) {
        tracing::info!(?phase, "disk copy");
        self.0.phase.store(phase as u8, Ordering::Release);
    }
}

/// What a job did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes of the virtual disk.
    pub size: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes that an earlier run had copied.
    pub resumed: u64,
    /// Bytes of the source that were read.
    pub read: u64,
    /// Root digest of the disk.
    pub root: Blake3,
    /// Whether the target was read back.
    pub verified: bool,
    /// Whether an earlier run had finished.
    pub finished_before: bool,
}

impl Job {
    /// Runs to the end. An error leaves what was copied for the next run.
    pub fn run(&self, watch: &Watch) -> Result<Outcome> {
        let result = self.steps(watch);
        watch.enter(if result.is_ok() { Phase::Done } else { Phase::Failed });
        result
    }

    /// Returns where the chunk map lies; none beside a true device.
    pub fn chunk_map(&self) -> Option<PathBuf> {
        self.beside("chunks")
    }

    /// Returns where the manifest lies; none beside a true device.
    pub fn manifest(&self) -> Option<PathBuf> {
        self.beside("manifest.json")
    }

    fn beside(&self, suffix: &str) -> Option<PathBuf> {
        if self.volume == Volume::File {
            return Some(beside(&self.target, suffix));
        }
        // a file that stands for a device has a folder where state outlives this process
        let real = self.target.canonicalize().ok()?;
        (real.is_file() && !real.starts_with("/dev")).then(|| beside(&real, suffix))
    }

    fn steps(&self, watch: &Watch) -> Result<Outcome> {
        watch.enter(Phase::Preparing);
        if let Some(outcome) = self.finished_before()? {
            return Ok(outcome);
        }
        let disk = Arc::new(Disk::open(&self.source, &self.open)?);
        let _ = watch.0.disk.set(Arc::downgrade(&disk));
        let stamp = disk.stamp()?;
        if let Some(room) = self.room
            && disk.size() > room.next_multiple_of(1 << 20)
        {
            return Err(Error::TargetTooSmall { path: self.target.clone(), needed: disk.size(), have: room });
        }
        let (sink, mut map) = self.prepare(&disk, &stamp)?;
        let resumed = map.copied_bytes();

        watch.enter(Phase::Copying);
        self.copy_and_digest(&disk, &sink, &mut map, watch)?;
        let now = disk.stamp()?;
        if now != stamp {
            let (path, was) = (disk.name().to_owned(), stamp);
            return Err(Error::SourceChanged { path, field: "stamp", was, now });
        }
        let chunks: Vec<Copied> = map.chunks().iter().copied().flatten().collect();
        if let Some(scope) = self.verify {
            watch.enter(Phase::Verifying);
            read_back(&self.target, disk.size(), &chunks, scope, watch.verify(), watch.cancel())
                .map_err(|error| self.not_verified(error, &disk))?;
        }
        let manifest = Manifest::new(&self.identity, disk.format().name(), disk.size(), &chunks, SystemTime::now());
        if let Some(path) = self.manifest() {
            manifest.write(&path)?;
        }
        if let Some(path) = self.chunk_map() {
            ChunkMap::discard(&path)?;
        }
        Ok(Outcome {
            size: disk.size(),
            written: watch.copy().snapshot().written,
            resumed,
            read: disk.bytes_read(),
            root: crate::digest::root(disk.size(), crate::digest::CHUNK, chunks.iter().map(|chunk| &chunk.digest)),
            verified: self.verify.is_some(),
            finished_before: false,
        })
    }

    /// Looks for the manifest of an earlier run of the same identity.
    fn finished_before(&self) -> Result<Option<Outcome>> {
        let Some(path) = self.manifest() else {
            return Ok(None);
        };
        let manifest = match Manifest::read(&path) {
            Ok(Some(manifest)) if manifest.identity == self.identity => manifest,
            Ok(None) => return Ok(None),
            // of another source, or damaged: it says nothing about what is copied now
            Ok(Some(_)) | Err(Error::Malformed(_)) => {
                return remove(&path).map(|()| None);
            }
            Err(error) => return Err(error),
        };
        let length = std::fs::File::open(&self.target).and_then(|file| crate::source::file_length(&file));
        let (Ok(length), Ok(chunks)) = (length, manifest.chunks(&path)) else {
            return remove(&path).map(|()| None);
        };
        if length < manifest.size {
            return remove(&path).map(|()| None);
        }
        if let Some(map) = self.chunk_map() {
            ChunkMap::discard(&map)?;
        }
        Ok(Some(Outcome {
            size: manifest.size,
            written: 0,
            resumed: manifest.size,
            read: 0,
            root: crate::digest::root(manifest.size, manifest.chunk_size, chunks.iter().map(|chunk| &chunk.digest)),
            verified: self.verify.is_some(),
            finished_before: true,
        }))
    }

    fn prepare(&self, disk: &Disk, stamp: &str) -> Result<(FileTarget, ChunkMap)> {
        let mut sink = FileTarget::open(&self.target, self.volume, disk.size())?;
        let key =
            Key { identity: self.identity.clone(), stamp: stamp.to_owned(), size: disk.size(), inode: sink.inode() };
        let map = match self.chunk_map() {
            None => ChunkMap::in_memory(disk.size()),
            Some(path) => match ChunkMap::open(&path, &key) {
                Err(error @ Error::SourceChanged { .. }) if self.start_over => {
                    tracing::warn!(error = error.chain(), "starting over");
                    ChunkMap::discard(&path)?;
                    ChunkMap::open(&path, &key)?
                }
                other => other?,
            },
        };
        let anew = map.chunks().iter().all(Option::is_none);
        sink.prepare(disk.size(), anew)?;
        check_space(disk, &sink, &map)?;
        Ok((sink, map))
    }

    /// Copies, and digests the stored bytes beside it; the first failure ends both.
    fn copy_and_digest(&self, disk: &Disk, sink: &FileTarget, map: &mut ChunkMap, watch: &Watch) -> Result<()> {
        let Some((algorithm, expected)) = &self.digest else {
            return copy(disk, sink, map, &self.copy, watch.copy(), watch.cancel());
        };
        // a flag of its own: a digest that differs ends the copy, not the caller's other work
        let stop = Cancel::new();
        std::thread::scope(|scope| {
            let digest = scope.spawn(|| {
                let result = check_stored(disk.stored(), *algorithm, expected, &watch.cancel().or(&stop));
                if result.is_err() {
                    stop.cancel();
                }
                result
            });
            let copied = copy(disk, sink, map, &self.copy, watch.copy(), &watch.cancel().or(&stop));
            if copied.is_err() {
                stop.cancel();
            }
            let digested = digest.join().unwrap_or(Err(Error::Cancelled));
            match (copied, digested) {
                // whoever was merely cancelled was so because of the other
                (Err(Error::Cancelled), Err(error)) => Err(error),
                (Err(error), _) | (Ok(()), Err(error)) => Err(error),
                (Ok(()), Ok(())) => Ok(()),
            }
        })
    }

    /// Drops the chunk map, so that the next run copies all anew, and names the byte.
    fn not_verified(&self, error: Error, disk: &Disk) -> Error {
        if !matches!(error, Error::VerifyFailed { .. }) {
            return error;
        }
        if let Some(path) = self.chunk_map()
            && let Err(error) = ChunkMap::discard(&path)
        {
            tracing::error!(error = error.chain(), "the chunk map of a failed verification stays");
        }
        locate(error, disk)
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|source| Error::Target {
        path: path.to_owned(),
        action: "remove the old manifest".into(),
        source,
    })
}

/// Refuses early where the format says exactly what will be stored: a raw file may be full of zeros.
fn check_space(disk: &Disk, sink: &FileTarget, map: &ChunkMap) -> Result<()> {
    if disk.format() != Format::StreamOptimized || disk.sequential() {
        return Ok(());
    }
    let Some(available) = sink.available() else {
        return Ok(());
    };
    let mut needed = 0u64;
    for (index, chunk) in (0u64..).zip(map.chunks()) {
        if chunk.is_none() {
            needed += disk.data_bytes(map.range(index))?;
        }
    }
    // what an unfinished run wrote beyond its marks is written again in place
    if needed > available.saturating_add(copy::WINDOW) {
        return Err(Error::NoSpace { path: sink.path().to_owned(), needed, available });
    }
    Ok(())
}
