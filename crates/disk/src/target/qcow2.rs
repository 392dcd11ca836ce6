//! A qcow2 image as a target: sparse, whole at every moment, and gone on with after a crash.
//!
//! ```text
//! cluster 0   1 …              …                  then, as they are needed, never used twice
//! header      L1 table         refcount table     data, L2 tables; the first cluster of each 2 GiB
//!                                                 of the file is the refcount block of that range
//! ```
//!
//! Clusters are only ever appended, so that no order of writes can make two tables share one. A sync
//! first makes data and refcounts durable, then the tables that point at them: a crash between
//! leaves clusters that nothing points at, which `qemu-img check` does not even call leaked. Version 3,
//! 64 KiB clusters, 16-bit refcounts, no compression. Tables are in memory while they are written
//! to (64 KiB for 512 MiB of disk), the first level always.
//!
//! Facts: QEMU's `docs/interop/qcow2.rst`, as for the [reader](crate::format::qcow2).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::Advice;

use crate::error::{Error, Result};
use crate::image::Format;
use crate::open::{Disk, Options};

use super::Sink;
use super::zero::Zeroer;

const CLUSTER: u64 = 64 << 10;
/// Entries of an L2 table.
const ENTRIES: u64 = CLUSTER / 8;
/// Clusters that one refcount block counts.
const COUNTED: u64 = CLUSTER / 2;
/// The one reference that an entry's cluster has is the entry's.
const COPIED: u64 = 1 << 63;
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Clean tables that stay in memory.
const KEPT: usize = 16;

/// A qcow2 file that is written.
pub struct Qcow2Target {
    file: File,
    zeroer: Zeroer,
    path: PathBuf,
    layout: Layout,
    state: Mutex<State>,
    syncing: Mutex<()>,
    fresh: bool,
    /// Whether the file is the image that this layout describes.
    ready: bool,
}

/// Where the fixed parts lie, in clusters.
#[derive(Debug, Clone, Copy)]
struct Layout {
    size: u64,
    l1: u64,
    counts: u64,
    /// Clusters of the refcount table.
    counts_length: u64,
    /// The first refcount block.
    block: u64,
}

#[derive(Default)]
struct State {
    /// Offset of each L2 table, 0 where there is none.
    l1: Vec<u64>,
    dirty_l1: BTreeSet<usize>,
    tables: BTreeMap<usize, Table>,
    /// The next cluster of the file that was never used.
    next: u64,
    /// All clusters before it have their refcounts written.
    counted: u64,
    /// Refcount blocks that the refcount table names.
    blocks: u64,
}

struct Table {
    entries: Vec<u64>,
    dirty: bool,
}

/// A part of a range: its offset in the file, or nothing; and its length.
type Piece = (Option<u64>, u64);

impl Layout {
    fn of(size: u64) -> Self {
        let l1_entries = size.div_ceil(CLUSTER * ENTRIES);
        let l1 = 1;
        let counts = l1 + (l1_entries * 8).div_ceil(CLUSTER).max(1);
        // data, tables, and room for what crashes leave unused
        let clusters = (size.div_ceil(CLUSTER) + l1_entries) * 5 / 4 + 65_536;
        let counts_length = (clusters.div_ceil(COUNTED) * 8).div_ceil(CLUSTER);
        Self { size, l1, counts, counts_length, block: counts + counts_length }
    }

    fn l1_entries(&self) -> u64 {
        self.size.div_ceil(CLUSTER * ENTRIES)
    }

    /// The cluster of a refcount block.
    fn block_of(&self, number: u64) -> u64 {
        if number == 0 { self.block } else { number * COUNTED }
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(112);
        bytes.extend_from_slice(b"QFI\xfb\0\0\0\x03");
        // no backing file
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&16u32.to_be_bytes());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        // not encrypted
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(self.l1_entries() as u32).to_be_bytes());
        bytes.extend_from_slice(&(self.l1 * CLUSTER).to_be_bytes());
        bytes.extend_from_slice(&(self.counts * CLUSTER).to_be_bytes());
        bytes.extend_from_slice(&(self.counts_length as u32).to_be_bytes());
        // no snapshots, no features
        bytes.extend_from_slice(&[0; 4 + 8 + 24]);
        // refcounts have 16 bits
        bytes.extend_from_slice(&4u32.to_be_bytes());
        bytes.extend_from_slice(&104u32.to_be_bytes());
        // the end of the extensions
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }
}

impl State {
    /// Takes a cluster that was never used.
    fn take(&mut self, layout: &Layout) -> io::Result<u64> {
        if self.next % COUNTED == 0 {
            self.next += 1;
        }
        if self.next >= layout.counts_length * (CLUSTER / 8) * COUNTED {
            return Err(io::Error::other("the refcount table is full: start over"));
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Returns a table for reading; none where it does not exist.
    fn table(&mut self, file: &File, index: usize) -> io::Result<Option<&mut Table>> {
        let at = self.l1.get(index).copied().unwrap_or(0);
        if at == 0 {
            return Ok(None);
        }
        if !self.tables.contains_key(&index) {
            let mut bytes = vec![0; CLUSTER as usize];
            file.read_exact_at(&mut bytes, at)?;
            let entries = bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry)).collect();
            self.tables.insert(index, Table { entries, dirty: false });
        }
        Ok(self.tables.get_mut(&index))
    }
}

impl Qcow2Target {
    /// Opens or makes the file for a disk of `size` bytes; what it holds is not touched yet.
    pub fn open(path: &Path, size: u64) -> Result<Self> {
        let failed = |action: &str, source| Error::Target { path: path.to_owned(), action: action.into(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| failed("open for writing", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::TargetBusy { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => tracing::debug!(%error, "the target cannot be locked"),
        }
        let layout = Layout::of(size);
        let mut target = Self {
            zeroer: Zeroer::new(&file),
            file,
            path: path.to_owned(),
            layout,
            state: Mutex::default(),
            syncing: Mutex::default(),
            fresh: false,
            ready: false,
        };
        // what an earlier run left may be looked at before it is gone on with
        target.ready = target.take_up().is_ok();
        Ok(target)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create(&mut self) -> io::Result<()> {
        let layout = self.layout;
        self.file.set_len(0)?;
        self.file.set_len((layout.block + 1) * CLUSTER)?;
        self.file.write_all_at(&layout.header(), 0)?;
        *self.lock() = State { l1: vec![0; layout.l1_entries() as usize], next: layout.block + 1, ..State::default() };
        self.fresh = true;
        self.sync()?;
        self.file.sync_all()
    }

    /// Takes up a file that an earlier run left.
    fn take_up(&mut self) -> io::Result<()> {
        let layout = self.layout;
        let wanted = layout.header();
        let mut found = vec![0; wanted.len()];
        self.file.read_exact_at(&mut found, 0)?;
        if found != wanted {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not the image that the copy began"));
        }
        let mut bytes = vec![0; layout.l1_entries() as usize * 8];
        self.file.read_exact_at(&mut bytes, layout.l1 * CLUSTER)?;
        let l1: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|entry| u64::from_be_bytes(*entry) & OFFSET).collect();
        // behind its end nothing was ever pointed at: a sync sets the length before it writes tables
        let next = self.file.metadata()?.len().div_ceil(CLUSTER).max(layout.block + 1);
        let beyond = |at: &u64| *at != 0 && (*at / CLUSTER < layout.block || *at / CLUSTER >= next);
        if l1.iter().any(beyond) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its tables point beyond its end"));
        }
        let blocks = self.stored_blocks(next)?;
        *self.lock() = State { l1, next, counted: next, blocks, ..State::default() };
        Ok(())
    }

    /// Returns how many refcount blocks the table names, without a gap.
    fn stored_blocks(&self, next: u64) -> io::Result<u64> {
        let mut bytes = vec![0; next.div_ceil(COUNTED) as usize * 8];
        self.file.read_exact_at(&mut bytes, self.layout.counts * CLUSTER)?;
        Ok(bytes.as_chunks::<8>().0.iter().take_while(|entry| **entry != [0; 8]).count() as u64)
    }

    /// Finds where a range lies; `allocate` gives clusters to what has none.
    fn pieces(&self, offset: u64, length: u64, allocate: bool) -> io::Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut state = self.lock();
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let index = at / CLUSTER;
            let (table, slot) = ((index / ENTRIES) as usize, (index % ENTRIES) as usize);
            let step = (CLUSTER - at % CLUSTER).min(end - at);
            let mut entry = match state.table(&self.file, table)? {
                Some(found) => found.entries.get(slot).copied().unwrap_or(0) & OFFSET,
                None => 0,
            };
            if entry == 0 && allocate {
                entry = self.allocate(&mut state, table, slot)?;
            }
            let host = (entry != 0).then(|| entry + at % CLUSTER);
            match (pieces.last_mut(), host) {
                (Some((Some(start), length)), Some(host)) if *start + *length == host => *length += step,
                (Some((None, length)), None) => *length += step,
                _ => pieces.push((host, step)),
            }
            at += step;
        }
        Ok(pieces)
    }

    fn allocate(&self, state: &mut State, table: usize, slot: usize) -> io::Result<u64> {
        if state.l1.get(table) == Some(&0) {
            let at = state.take(&self.layout)? * CLUSTER;
            if let Some(entry) = state.l1.get_mut(table) {
                *entry = at;
            }
            state.dirty_l1.insert(table);
            state.tables.insert(table, Table { entries: vec![0; ENTRIES as usize], dirty: true });
        }
        let at = state.take(&self.layout)? * CLUSTER;
        if let Some(table) = state.table(&self.file, table)?
            && let Some(entry) = table.entries.get_mut(slot)
        {
            (*entry, table.dirty) = (at | COPIED, true);
        }
        Ok(at)
    }

    /// Writes the refcounts of clusters that were taken since the last sync.
    fn write_counts(&self, state: &mut State) -> io::Result<()> {
        let layout = &self.layout;
        // before anything points at them, so that the next run does not give them away again
        if self.file.metadata()?.len() < state.next * CLUSTER {
            self.file.set_len(state.next * CLUSTER)?;
        }
        let blocks = state.next.div_ceil(COUNTED);
        for number in state.counted / COUNTED..blocks {
            let (first, last) = (state.counted.max(number * COUNTED), state.next.min((number + 1) * COUNTED));
            let at = layout.block_of(number) * CLUSTER + first % COUNTED * 2;
            self.file.write_all_at(&[0u8, 1].repeat(last.saturating_sub(first) as usize), at)?;
        }
        for number in state.blocks..blocks {
            let at = layout.block_of(number) * CLUSTER;
            // a block counts itself also where an earlier run had taken its cluster
            self.file.write_all_at(&1u16.to_be_bytes(), at + layout.block_of(number) % COUNTED * 2)?;
            self.file.write_all_at(&at.to_be_bytes(), layout.counts * CLUSTER + number * 8)?;
        }
        (state.counted, state.blocks) = (state.next, blocks);
        Ok(())
    }
}

impl Sink for Qcow2Target {
    fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&mut self, size: u64, anew: bool) -> Result<()> {
        self.layout = Layout::of(size);
        let result = if anew { self.create() } else { self.take_up() };
        self.ready = result.is_ok();
        result.map_err(|source| Error::Target {
            path: self.path.clone(),
            action: if anew { "make the image" } else { "go on with the image" }.into(),
            source,
        })
    }

    fn tag(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.ino())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut rest = bytes;
        for (host, length) in self.pieces(offset, bytes.len() as u64, true)? {
            let (now, later) = rest.split_at(length as usize);
            rest = later;
            let host = host.ok_or_else(|| io::Error::other("a cluster was not allocated"))?;
            self.file.write_all_at(now, host)?;
        }
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        // what has no cluster reads as zeros
        for (host, length) in self.pieces(offset, length, false)? {
            if let Some(host) = host {
                self.zeroer.zero(&self.file, host, length)?;
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let _one = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (tables, entries) = {
            let mut state = self.lock();
            self.write_counts(&mut state)?;
            let mut tables: Vec<(u64, Vec<u8>)> = Vec::new();
            let places = state.l1.clone();
            for (index, table) in state.tables.iter_mut().filter(|(_, table)| table.dirty) {
                table.dirty = false;
                let at = places.get(*index).copied().unwrap_or(0);
                tables.push((at, table.entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()));
            }
            let dirty = std::mem::take(&mut state.dirty_l1);
            let entries: Vec<(usize, u64)> =
                dirty.into_iter().map(|index| (index, places.get(index).copied().unwrap_or(0))).collect();
            (tables, entries)
        };
        self.file.sync_data()?;
        for (at, bytes) in &tables {
            self.file.write_all_at(bytes, *at)?;
        }
        for (index, at) in &entries {
            self.file.write_all_at(&(at | COPIED).to_be_bytes(), self.layout.l1 * CLUSTER + *index as u64 * 8)?;
        }
        self.file.sync_data()?;
        let mut state = self.lock();
        let clean: Vec<usize> =
            state.tables.iter().filter(|(_, table)| !table.dirty).map(|(index, _)| *index).collect();
        for index in clean.iter().take(clean.len().saturating_sub(KEPT)) {
            state.tables.remove(index);
        }
        Ok(())
    }

    fn available(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn starts_zeroed(&self) -> bool {
        self.fresh
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if !self.ready {
            // as one that was cut: what the chunk map says of it is not there
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut rest = buf;
        for (host, length) in self.pieces(offset, rest.len() as u64, false)? {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(length as usize);
            rest = later;
            match host {
                Some(host) => self.file.read_exact_at(now, host)?,
                None => now.fill(0),
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        self.sync()?;
        self.file.sync_all()
    }

    fn read_back(&self) -> Result<Option<Disk>> {
        // clean pages only: what was written is durable
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
        let options = Options { format: Some(Format::Qcow2), ..Options::default() };
        Disk::open(&self.path, &options).map(Some)
    }
}
