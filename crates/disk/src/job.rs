//! One disk from its source to a verified target: what an importer and `disk copy` do.
//!
//! ```text
//!            ┌─ finished before (manifest of this state) ─► done at once
//! Waiting ─► Preparing ─► Copying ──────────────► Verifying ─► manifest ─► chunk map removed ─► Done
//! for a slot               ║ digest of the stored bytes, where the appliance promises one
//! ```
//!
//! Crash after any arrow: the next run goes on from the chunk map, or finds the manifest. A round of
//! changed ranges begins from the manifest of its base; its chunk map, made before the first write,
//! says that the target is between two states until the new manifest is there. So does the map of a
//! [comparison](Job::compare), which brings any state of the disk to another one: its base are the digests of the
//! manifest, or the target's bytes where these cannot be trusted.

mod opened;
mod run;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::cancel::Cancel;
use crate::changed::ChangedRanges;
use crate::chunk_map::{Place, beside};
use crate::copy;
use crate::digest::{Algorithm, Blake3};
use crate::error::{Error, Result};
use crate::image::Format;
use crate::limit::Gate;
use crate::location::Location;
use crate::manifest::sign::SignKey;
use crate::open::{self, Disk};
use crate::progress::Progress;
use crate::source::file_length;
use crate::stream::Export;
use crate::target::Volume;
use crate::verify::Scope;

/// What to copy, and how.
#[derive(Debug, Clone, Default)]
pub struct Job {
    /// The source file or archive.
    pub source: PathBuf,
    /// How to open it.
    pub open: open::Options,
    /// What opens the source, where it is no path or URL: `source` is its name then.
    pub origin: Option<Origin>,
    /// Stable name of the source's content; a copy goes on only for the same one.
    pub identity: String,
    /// State of the source (change ID), where it has names for its states; a round brings its own.
    pub change_id: Option<String>,
    /// What changed since the state that the target holds: only this is read.
    pub changed: Option<ChangedRanges>,
    /// Whether a target that holds another state of the disk is brought to the new one by writing only what differs.
    pub compare: bool,
    /// Digest that the stored bytes must have.
    pub digest: Option<(Algorithm, String)>,
    /// The target file or device.
    pub target: PathBuf,
    /// What the target is.
    pub volume: Volume,
    /// Format of the target; raw by default.
    pub target_format: Option<Format>,
    /// The size that the volume was made for, where it is known: a larger disk is refused.
    pub room: Option<u64>,
    /// Where the manifest lies; by default beside a target file.
    pub manifest_at: Option<PathBuf>,
    /// Where the chunk map lies; by default beside the manifest, or behind the disk on a device.
    pub map_at: Option<PathBuf>,
    /// What is read back after the copy; none to trust the writes.
    pub verify: Option<Scope>,
    /// Signs the manifest.
    pub sign: Option<Arc<SignKey>>,
    /// Whether a copy that was begun is gone on with.
    pub resume: Resume,
    /// Whether a changed source begins anew instead of [`Error::SourceChanged`].
    pub start_over: bool,
    /// What limits the copies of this source together.
    pub gate: Option<Gate>,
    /// How to copy.
    pub copy: copy::Options,
}

/// A source that the caller opens.
#[derive(Clone)]
pub enum Origin {
    /// A disk with random access.
    Disk(Arc<dyn Fn() -> Result<Disk> + Send + Sync>),
    /// A disk that comes from front to back.
    Stream(Arc<dyn Export>),
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Disk(_) => "Disk",
            Self::Stream(_) => "Stream",
        })
    }
}

/// Whether a copy that was begun is gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// Where there is one.
    #[default]
    Auto,
    /// There has to be one.
    Only,
    /// All is copied anew.
    Never,
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Other copies of the source run.
    Waiting,
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
    disk: OnceLock<opened::Seen>,
}

/// As the counter of phases has them; a job begins at the first.
const PHASES: [Phase; 6] =
    [Phase::Preparing, Phase::Waiting, Phase::Copying, Phase::Verifying, Phase::Done, Phase::Failed];

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
        self.0.disk.get().map_or(0, opened::Seen::bytes_read)
    }

    fn enter(&self, phase: Phase) {
        tracing::info!(?phase, "disk copy");
        let number = PHASES.iter().position(|other| *other == phase).unwrap_or(0);
        self.0.phase.store(number as u8, Ordering::Release);
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
    /// State of the source that the target holds now.
    pub change_id: Option<String>,
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

    /// Returns what an earlier run did that left the target in the wanted state; nothing is opened for it.
    pub fn finished(&self) -> Result<Option<Outcome>> {
        self.finished_before()
    }

    /// Returns the file of the chunk map; none where it is on the device, or only in memory.
    pub fn chunk_map(&self) -> Option<PathBuf> {
        if self.map_at.is_some() {
            return self.map_at.clone();
        }
        match &self.manifest_at {
            Some(manifest) => Some(beside(manifest, "chunks")),
            None => self.beside("chunks"),
        }
    }

    /// Returns where the manifest lies; none beside a true device.
    pub fn manifest(&self) -> Option<PathBuf> {
        self.manifest_at.clone().or_else(|| self.beside("manifest.json"))
    }

    /// Returns where the chunk map of a disk of `size` bytes lies.
    fn place(&self, size: u64) -> Result<Option<Place>> {
        if let Some(path) = self.chunk_map() {
            return Ok(Some(Place::File(path)));
        }
        // behind a server there is no place: a copy that breaks off begins anew
        if self.is_remote() {
            return Ok(None);
        }
        let length = std::fs::File::open(&self.target).and_then(|file| file_length(&file));
        let length = length.map_err(|source| Error::Target {
            path: self.target.clone(),
            action: "find the size".into(),
            source,
        })?;
        Ok(Place::behind(&self.target, size, length))
    }

    /// Returns whether the target is a server's, with nothing beside it.
    fn is_remote(&self) -> bool {
        !matches!(Location::of(&self.target), Ok(Location::File(_)))
    }

    fn beside(&self, suffix: &str) -> Option<PathBuf> {
        if self.is_remote() {
            return None;
        }
        if self.volume == Volume::File {
            return Some(beside(&self.target, suffix));
        }
        // a file that stands for a device has a folder where state outlives this process
        let real = self.target.canonicalize().ok()?;
        (real.is_file() && !real.starts_with("/dev")).then(|| beside(&real, suffix))
    }

    /// Returns the state that the target holds in the end.
    fn state(&self) -> Option<&str> {
        match &self.changed {
            Some(changed) => Some(&changed.change_id),
            None => self.change_id.as_deref(),
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).map_err(|source| Error::Target {
        path: path.to_owned(),
        action: "remove the old manifest".into(),
        source,
    })
}
