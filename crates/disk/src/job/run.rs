//! The steps of a job.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, SystemTime};

use crate::cancel::Cancel;
use crate::changed::Round;
use crate::chunk_map::{ChunkMap, Copied, Key, Place, sync_folder};
use crate::copy::{self, Before, copy, copy_changed, copy_compared, copy_stream};
use crate::digest::{CHUNK, check_stored, root};
use crate::error::{Error, Result};
use crate::image::Format;
use crate::manifest::Manifest;
use crate::open::{self, Disk};
use crate::patience::{self, Beat};
use crate::source::file_length;
use crate::stream::Stream;
use crate::target::{self, Sink};
use crate::verify::{Stored, locate, read_back};

use super::opened::Opened;
use super::{Job, Origin, Outcome, Phase, Resume, Watch, remove};

/// How often the opening of a source looks whether it was cancelled.
const LOOK: Duration = Duration::from_millis(100);
/// What the stamp of a comparison's chunk map begins with.
const COMPARE: &str = "compare with ";
/// So many chunks of an earlier run are compared before it is gone on with.
const SAMPLE: usize = 4;

/// What a run works on.
struct Work {
    disk: Opened,
    stamp: String,
    sink: Arc<dyn Sink>,
    map: ChunkMap,
    place: Option<Place>,
    round: Option<Round>,
    before: Before,
    /// Chunks that are copied by this job, this run or an earlier one; none for all.
    copied: Option<Vec<u64>>,
}

impl Job {
    pub(super) fn steps(&self, watch: &Watch) -> Result<Outcome> {
        let _slot = match &self.gate {
            Some(gate) => Some(gate.enter(watch.cancel(), || watch.enter(Phase::Waiting))?),
            None => None,
        };
        watch.enter(Phase::Preparing);
        if let Some(outcome) = self.finished_before()? {
            return Ok(outcome);
        }
        let disk = self.open_source(watch)?;
        let _ = watch.0.disk.set(disk.seen());
        if let Some(room) = self.room
            && disk.size() > room.next_multiple_of(1 << 20)
        {
            return Err(Error::TargetTooSmall { path: self.target.clone(), needed: disk.size(), have: room });
        }
        let mut work = self.prepare(disk)?;
        let resumed = match &work.round {
            None => work.map.copied_bytes(),
            Some(round) => {
                let kept = (0u64..).zip(work.map.chunks()).filter(|(_, chunk)| chunk.is_some());
                kept.map(|(index, _)| round.bytes(work.map.range(index))).sum()
            }
        };

        watch.enter(Phase::Copying);
        self.copy_and_digest(&mut work, watch)?;
        let now = work.disk.stamp()?;
        if now != work.stamp {
            let (path, was) = (work.disk.name().to_owned(), work.stamp);
            return Err(Error::SourceChanged { path, field: "stamp", was, now });
        }
        let failed = |source| Error::Target { path: self.target.clone(), action: "complete the target".into(), source };
        work.sink.finish().map_err(failed)?;
        let chunks: Vec<Copied> = work.map.chunks().iter().copied().flatten().collect();
        self.verify(&work, &chunks, watch)?;
        self.leave_manifest(&work, &chunks)?;
        if let Some(place) = &work.place {
            ChunkMap::discard(place, work.disk.size())?;
        }
        Ok(Outcome {
            size: work.disk.size(),
            written: watch.copy().snapshot().written,
            resumed,
            read: work.disk.bytes_read(),
            root: root(work.disk.size(), CHUNK, chunks.iter().map(|chunk| &chunk.digest)),
            change_id: self.state().map(Into::into),
            verified: self.verify.is_some(),
            finished_before: false,
        })
    }

    /// Opens the source without being held up by one that hangs.
    fn open_source(&self, watch: &Watch) -> Result<Opened> {
        let patience = self.copy.patience;
        let shared = Arc::new(patience::Shared::new(patience, watch.cancel().clone(), watch.copy().clone()));
        let beat = Arc::<Beat>::default();
        let (send, opened) = channel();
        let (source, options, reader, sign) = (self.source.clone(), self.open.clone(), shared.clone(), beat.clone());
        let origin = self.origin.clone();
        std::thread::spawn(move || {
            patience::enter(&reader, &sign);
            if let Some(result) = patience::watched(|| open(origin, &source, &options)) {
                // nobody listens any more after a cancel
                let _ = send.send(result);
            }
        });
        loop {
            match opened.recv_timeout(LOOK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Timeout) => {
                    watch.cancel().check()?;
                    if let Some(hung) = beat.abandon(&shared) {
                        let path = self.source.display().to_string();
                        return Err(Error::Stalled { path, seconds: hung.as_secs() });
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let source = std::io::Error::other("reading its tables broke off: report this as a bug");
                    return Err(Error::Source { path: self.source.display().to_string(), offset: 0, source });
                }
            }
        }
    }

    /// Looks for the manifest of an earlier run that left the target in the wanted state.
    pub(super) fn finished_before(&self) -> Result<Option<Outcome>> {
        let Some(path) = self.manifest() else {
            return Ok(None);
        };
        let manifest = match Manifest::read(&path) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(None),
            // damaged: it says nothing
            Err(Error::Malformed(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let between = match self.chunk_map() {
            Some(map) => ChunkMap::peek(&Place::File(map))?.filter(|key| between(key, &manifest)),
            None => None,
        };
        let wanted = manifest.identity == self.identity
            && (self.state().is_none() || self.state() == manifest.change_id.as_deref())
            && between.is_none()
            && self.resume != Resume::Never;
        if !wanted {
            return Ok(None);
        }
        let length = std::fs::File::open(&self.target).and_then(|file| file_length(&file));
        let (Ok(length), Ok(chunks)) = (length, manifest.chunks(&path)) else {
            return Ok(None);
        };
        if length < manifest.size && manifest.target_format.is_none() {
            return Ok(None);
        }
        if let Some(map) = self.chunk_map() {
            ChunkMap::discard(&Place::File(map), manifest.size)?;
        }
        Ok(Some(Outcome {
            size: manifest.size,
            written: 0,
            resumed: manifest.size,
            read: 0,
            root: root(manifest.size, manifest.chunk_size, chunks.iter().map(|chunk| &chunk.digest)),
            change_id: manifest.change_id.clone(),
            verified: self.verify.is_some(),
            finished_before: true,
        }))
    }

    fn prepare(&self, disk: Opened) -> Result<Work> {
        let stamp = disk.stamp()?;
        // a refused round leaves no empty file behind
        let round = self.round(&disk)?;
        let format = self.target_format.unwrap_or(Format::Raw);
        let mut sink = target::open(&self.target, self.volume, format, &self.open.access, disk.size())?;
        let place = self.place(disk.size())?;
        let mut key = Key {
            identity: self.identity.clone(),
            stamp: match &round {
                Some((_, round)) => format!("{round} {stamp}"),
                None => stamp.clone(),
            },
            size: disk.size(),
            inode: sink.tag(),
        };
        let mut before = Before::Nothing;
        if self.compare && round.is_none() && self.holds_something() {
            // a whole copy that was begun is gone on with as such
            let begun = place.as_ref().map(ChunkMap::peek).transpose()?.flatten();
            if !begun.is_some_and(|begun| begun.is(&key)) {
                before = self.before(&*sink, place.as_ref(), &mut key)?;
            }
        }
        let comparing = !matches!(before, Before::Nothing);
        let mut map = self.open_map(place.as_ref(), &key)?;
        let mut copied = None;
        if let Some((round, _)) = &round {
            let untouched = round.untouched(disk.size());
            let mut all: Vec<bool> = vec![true; map.chunks().len()];
            untouched.iter().for_each(|(index, _)| all[*index as usize] = false);
            copied = Some((0u64..).zip(&all).filter(|(_, copied)| **copied).map(|(index, _)| index).collect());
            if map.chunks().iter().all(Option::is_none) {
                map.mark(untouched)?;
            }
        }
        let mut anew = round.is_none() && !comparing && map.chunks().iter().all(Option::is_none);
        if !anew && let Err(error) = compare_sample(&*sink, &map) {
            if !(self.start_over && matches!(error, Error::TargetChanged { .. }) && round.is_none()) {
                return Err(error);
            }
            tracing::warn!(error = error.chain(), "starting over");
            map = self.fresh_map(place.as_ref(), &key)?;
            anew = !comparing;
        }
        // a comparison needs it until its end, as a round does
        if round.is_none()
            && !comparing
            && let Some(path) = self.manifest().filter(|path| path.exists())
        {
            // of another state, which the target will not hold any more; a round needs it until its end
            remove(&path)?;
        }
        sink.prepare(disk.size(), anew)?;
        check_space(&disk, &*sink, &map)?;
        let round = round.map(|(round, _)| round);
        Ok(Work { disk, stamp, sink: Arc::from(sink), map, place, round, before, copied })
    }

    /// Returns the round of changed ranges and its stamp, after a look at what the target holds.
    fn round(&self, disk: &Opened) -> Result<Option<(Round, String)>> {
        let Some(changed) = &self.changed else {
            return Ok(None);
        };
        let mismatch = |found: String| {
            let (path, wanted) = (self.target.clone(), changed.base_change_id.clone());
            Error::BaseMismatch { path, wanted, found }
        };
        let path = self.manifest().ok_or_else(|| {
            mismatch("is a device whose state is not recorded: name the manifest of its last copy (--manifest)".into())
        })?;
        let ranges = changed.merged(disk.size())?;
        let manifest = Manifest::read(&path)?.ok_or_else(|| mismatch("has no manifest of an earlier copy".into()))?;
        if manifest.identity != self.identity {
            return Err(mismatch(format!("is a copy of {:?}, not of {:?}", manifest.identity, self.identity)));
        }
        match &manifest.change_id {
            Some(found) if *found == changed.base_change_id => {}
            Some(found) => return Err(mismatch(format!("holds {found:?}"))),
            None => return Err(mismatch("does not say which state it holds".into())),
        }
        if manifest.size != disk.size() {
            let (was, now) = (manifest.size.to_string(), disk.size().to_string());
            return Err(Error::SourceChanged { path: path.display().to_string(), field: "size", was, now });
        }
        let stamp = changed.stamp(&ranges);
        Ok(Some((Round::new(ranges, manifest.chunks(&path)?), stamp)))
    }

    /// Returns whether there is a target that may hold a state of the disk.
    fn holds_something(&self) -> bool {
        let length = std::fs::File::open(&self.target).and_then(|file| file_length(&file));
        length.is_ok_and(|length| length > 0)
    }

    /// Returns what a comparison may take for granted, and makes `key` that of the comparison.
    fn before(&self, sink: &dyn Sink, place: Option<&Place>, key: &mut Key) -> Result<Before> {
        let stamp =
            |base: &str, source: &str| format!("{COMPARE}{base} to {:?} {source}", self.state().unwrap_or_default());
        let source = std::mem::take(&mut key.stamp);
        let manifest = self.manifest().map(|path| Ok((Manifest::read(&path)?, path))).transpose();
        let known = match manifest {
            Ok(Some((Some(manifest), path))) => manifest.chunks(&path).ok().map(|chunks| (manifest, chunks)),
            Ok(_) | Err(Error::Malformed(_)) => None,
            Err(error) => return Err(error),
        };
        let known = known.filter(|(manifest, _)| manifest.identity == self.identity && manifest.size == key.size);
        if let Some((manifest, chunks)) = known {
            key.stamp = stamp(&manifest.root, &source);
            let found = place.map(ChunkMap::peek).transpose()?.flatten();
            // what a map of something else tells is that the target is between two states
            let own = found.as_ref().is_none_or(|found| found.is(key));
            if own && (found.is_some() || compare_some(sink, key.size, chunks.iter().copied().enumerate()).is_ok()) {
                return Ok(Before::Known(chunks));
            }
            tracing::warn!(target = %self.target.display(), "its manifest is not trusted: all of it is read");
        }
        // first of all: it would be believed by the next run
        if let Some(path) = self.manifest().filter(|path| path.exists()) {
            remove(&path)?;
            sync_folder(&path).map_err(|source| Error::Target {
                path: path.clone(),
                action: "remove the old manifest".into(),
                source,
            })?;
        }
        key.stamp = stamp("the target", &source);
        Ok(Before::Unknown)
    }

    fn open_map(&self, place: Option<&Place>, key: &Key) -> Result<ChunkMap> {
        let Some(place) = place else {
            return match self.resume {
                Resume::Only => Err(nothing_to_resume(&self.target)),
                _ => Ok(ChunkMap::in_memory(key.size)),
            };
        };
        let found = ChunkMap::peek(place)?;
        match self.resume {
            Resume::Never if self.changed.is_none() => return self.fresh_map(Some(place), key),
            Resume::Only if found.is_none() => return Err(nothing_to_resume(&self.target)),
            _ => {}
        }
        match ChunkMap::open_at(place, key) {
            // what a round left half done is no base for another one
            Err(error @ Error::SourceChanged { .. }) if (self.start_over || self.compare) && self.changed.is_none() => {
                tracing::warn!(error = error.chain(), "starting over");
                self.fresh_map(Some(place), key)
            }
            other => other,
        }
    }

    fn fresh_map(&self, place: Option<&Place>, key: &Key) -> Result<ChunkMap> {
        let Some(place) = place else {
            return Ok(ChunkMap::in_memory(key.size));
        };
        ChunkMap::discard(place, key.size)?;
        ChunkMap::open_at(place, key)
    }

    /// Copies, and digests the stored bytes beside it; the first failure ends both.
    fn copy_and_digest(&self, work: &mut Work, watch: &Watch) -> Result<()> {
        let Some((algorithm, expected)) = &self.digest else {
            return self.copy(work, watch, watch.cancel());
        };
        // a flag of its own: a digest that differs ends the copy, not the caller's other work
        let stop = Cancel::new();
        let Some(stored) = work.disk.stored().cloned() else {
            return Err(Error::Usage { what: format!("{}: a stream has no digest of stored bytes", work.disk.name()) });
        };
        std::thread::scope(|scope| {
            let digest = scope.spawn(|| {
                let result = check_stored(&stored, *algorithm, expected, &watch.cancel().or(&stop));
                if result.is_err() {
                    stop.cancel();
                }
                result
            });
            let copied = self.copy(work, watch, &watch.cancel().or(&stop));
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

    fn copy(&self, work: &mut Work, watch: &Watch, cancel: &Cancel) -> Result<()> {
        let Work { disk, sink, map, round, before, .. } = work;
        let mut options = self.copy.clone();
        if let Some(gate) = &self.gate {
            options.limit = options.limit.shared(gate.clone());
        }
        let before = std::mem::take(before);
        match (&*disk, round.take()) {
            (Opened::Disk(disk), None) => match before {
                Before::Nothing => copy(disk, sink, map, &options, watch.copy(), cancel),
                before => copy_compared(disk, sink, map, before, &options, watch.copy(), cancel),
            },
            (Opened::Disk(disk), Some(round)) => copy_changed(disk, sink, map, round, &options, watch.copy(), cancel),
            // what a round does not touch is marked: the other chunks come whole, and are compared with the base
            (Opened::Stream(stream), Some(round)) => {
                let before = Before::Known(round.into_base());
                copy_stream(stream, sink, map, before, &options, watch.copy(), cancel)
            }
            (Opened::Stream(stream), None) => copy_stream(stream, sink, map, before, &options, watch.copy(), cancel),
        }
    }

    fn verify(&self, work: &Work, chunks: &[Copied], watch: &Watch) -> Result<()> {
        let Some(scope) = self.verify else {
            return Ok(());
        };
        watch.enter(Phase::Verifying);
        let own = work.sink.read_back()?;
        let stored = match &own {
            Some(disk) => Stored::Disk(disk, &self.target),
            None => Stored::Raw(&self.target),
        };
        let copied = work.copied.as_deref();
        read_back(stored, work.disk.size(), chunks, copied, scope, watch.verify(), watch.cancel())
            .map_err(|error| self.not_verified(error, stored, work))
    }

    /// Drops what says that the target is right, so that the next run copies all anew, and names the byte.
    fn not_verified(&self, error: Error, stored: Stored<'_>, work: &Work) -> Error {
        if !matches!(error, Error::VerifyFailed { .. }) {
            return error;
        }
        let map = work.place.as_ref().map_or(Ok(()), |place| ChunkMap::discard(place, work.disk.size()));
        let manifest = match self.manifest() {
            // that of a round's base
            Some(path) if path.exists() => remove(&path),
            _ => Ok(()),
        };
        if let Err(error) = map.and(manifest) {
            tracing::error!(error = error.chain(), "the state of a failed verification stays");
        }
        match &work.disk {
            Opened::Disk(disk) => locate(error, stored, disk),
            // a stream cannot be asked for one chunk
            Opened::Stream(_) => error,
        }
    }

    fn leave_manifest(&self, work: &Work, chunks: &[Copied]) -> Result<()> {
        let Some(path) = self.manifest() else {
            return Ok(());
        };
        let disk = &work.disk;
        let mut manifest = Manifest::new(&self.identity, disk.format().name(), disk.size(), chunks, SystemTime::now());
        manifest.change_id = self.state().map(Into::into);
        manifest.target_format =
            self.target_format.filter(|format| *format != Format::Raw).map(|format| format.name().to_owned());
        manifest.base_change_id = self.changed.as_ref().map(|changed| changed.base_change_id.clone());
        if let Some(key) = &self.sign {
            key.sign(&mut manifest);
        }
        manifest.write(&path)
    }
}

/// Opens the source, wherever it is.
fn open(origin: Option<Origin>, source: &Path, options: &open::Options) -> Result<Opened> {
    match origin {
        None => Disk::open(source, options).map(Arc::new).map(Opened::Disk),
        Some(Origin::Disk(open)) => open().map(Arc::new).map(Opened::Disk),
        Some(Origin::Stream(export)) => Stream::open(export).map(Arc::new).map(Opened::Stream),
    }
}

/// Returns whether the map is that of a round which did not reach its end: the target holds neither state.
fn between(key: &Key, manifest: &Manifest) -> bool {
    let reached = manifest.change_id.as_ref().map(|id| format!(" to {id:?} "));
    (key.stamp.starts_with("round ") || key.stamp.starts_with(COMPARE))
        && !reached.is_some_and(|reached| key.stamp.contains(&reached))
}

fn nothing_to_resume(target: &Path) -> Error {
    Error::Usage { what: format!("{}: there is no copy to go on with", target.display()) }
}

/// Compares some chunks of an earlier run with what the target holds: a volume may have been replaced.
fn compare_sample(sink: &dyn Sink, map: &ChunkMap) -> Result<()> {
    compare_some(
        sink,
        map.size(),
        map.chunks().iter().enumerate().filter_map(|(index, chunk)| Some((index, (*chunk)?))),
    )
}

/// Compares some of these chunks with what the target holds.
fn compare_some(sink: &dyn Sink, size: u64, chunks: impl Iterator<Item = (usize, Copied)>) -> Result<()> {
    let data: Vec<(usize, Copied)> = chunks.filter(|(_, chunk)| !chunk.zero).collect();
    let step = data.len().div_ceil(SAMPLE).max(1);
    let mut memory = crate::direct::Aligned::new(CHUNK as usize);
    for (index, chunk) in data.iter().step_by(step).chain(data.last()) {
        let start = *index as u64 * CHUNK;
        let buf = memory.bytes().get_mut(..CHUNK.min(size.saturating_sub(start)) as usize).unwrap_or_default();
        let same = match sink.read_at(buf, start) {
            Ok(()) => blake3::hash(buf).as_bytes() == &chunk.digest.0,
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(()),
            // shorter than it was
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => false,
            Err(source) => {
                let action = format!("read at offset {start}");
                return Err(Error::Target { path: sink.path().to_owned(), action, source });
            }
        };
        if !same {
            return Err(Error::TargetChanged { path: sink.path().to_owned(), offset: start });
        }
    }
    Ok(())
}

/// Refuses early where the format says exactly what will be stored: a raw file may be full of zeros.
fn check_space(disk: &Opened, sink: &dyn Sink, map: &ChunkMap) -> Result<()> {
    let Some(available) = sink.available() else {
        return Ok(());
    };
    let mut needed = 0u64;
    for (index, chunk) in (0u64..).zip(map.chunks()) {
        if chunk.is_none() {
            let Some(stored) = disk.stored_bytes(map.range(index))? else {
                return Ok(());
            };
            needed += stored;
        }
    }
    // what an unfinished run wrote beyond its marks is written again in place
    if needed > available.saturating_add(copy::WINDOW) {
        return Err(Error::NoSpace { path: sink.path().to_owned(), needed, available });
    }
    Ok(())
}
