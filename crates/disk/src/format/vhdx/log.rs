//! The log of a VHDX: what a crash left unfinished, laid over the file in memory.
//!
//! ```text
//! log     …│ entry n │ entry n+1 │ entry n+2 │…      circular, 4 KiB steps; the newest whole sequence
//! entry   "loge" checksum length tail sequence │ descriptors │ data sectors     counts
//! descriptor   "zero": length, file offset     "desc": file offset, first 8 and last 4 bytes
//! data sector  "data", sequence high │ the 4,084 bytes between │ sequence low
//! ```
//!
//! The active sequence is the longest run of valid entries with rising numbers whose last entry's
//! tail lies in it; of several, that with the highest number. Its entries from the tail on are
//! applied in order. Reads then see the file as it will be once Hyper-V has replayed the log.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::format::Fields;
use crate::source::{Input, Source};

use super::header::{Header, checksum};

const SECTOR: u64 = 4096;
/// The largest log that is read into memory; Hyper-V writes 1 MiB.
const LOG: u64 = 32 << 20;

/// What lies over the file.
#[derive(Debug, Default)]
struct Patches {
    pages: BTreeMap<u64, Box<[u8; SECTOR as usize]>>,
    zeros: Vec<Range<u64>>,
    /// What the file has to have at least, and what it is extended to.
    flushed: u64,
    last: u64,
}

/// A valid entry.
#[derive(Debug)]
struct Entry {
    at: u64,
    bytes: Vec<u8>,
    tail: u64,
    sequence: u64,
}

/// Returns the input with the log applied, and how many entries were.
pub(super) fn replay(input: Input, header: &Header) -> Result<(Input, u64)> {
    let Some(id) = header.log_id else {
        return Ok((input, 0));
    };
    let (at, length) = header.log;
    let dirty = |reason: &str| {
        input.unsupported(format!(
            "dirty log: {reason}; start and stop the VM once, or open it with qemu-img check -r all"
        ))
    };
    if length % SECTOR != 0 || length == 0 {
        return Err(input.malformed(at, "log length", format!("{length} is no multiple of {SECTOR}")));
    }
    if length > LOG {
        return Err(dirty(&format!("{length} bytes of log are more than the {LOG} that are read")));
    }
    let log = input.read_vec(at, length, LOG, "log")?;
    let sequence =
        active(&log, &id).ok_or_else(|| dirty("it is damaged or cut off, no sequence of entries is whole"))?;
    let mut patches = Patches::default();
    let count = sequence.len() as u64;
    for entry in sequence {
        patches.apply(&entry).map_err(|reason| input.malformed(at + entry.at, "dirty log: log entry", reason))?;
    }
    if input.length() < patches.flushed {
        let reason = format!("the file has {} bytes, the log was written over {}", input.length(), patches.flushed);
        return Err(input.malformed(input.length(), "file size", reason));
    }
    let source = Patched { under: input.source().clone(), stored: input.length(), patches };
    Ok((Input::new(Arc::new(source), input.counter())?, count))
}

/// Finds the active sequence, from its tail to its head.
fn active(log: &[u8], id: &[u8; 16]) -> Option<Vec<Entry>> {
    // entries of hostile logs could each claim all of it: the work is bounded by what is checked
    let mut budget = log.len() as u64 * 8;
    let mut best: Option<Vec<Entry>> = None;
    let mut start = 0;
    while start < log.len() as u64 {
        let mut run: Vec<Entry> = Vec::new();
        let mut covered = 0;
        while covered < log.len() as u64 {
            let at = (start + covered) % log.len() as u64;
            let Some(entry) = entry(log, at, id, &mut budget) else { break };
            if run.last().is_some_and(|last| Some(entry.sequence) != last.sequence.checked_add(1)) {
                break;
            }
            covered += entry.bytes.len() as u64;
            run.push(entry);
        }
        start += covered.max(SECTOR);
        let Some(head) = run.last() else { continue };
        let Some(tail) = run.iter().position(|entry| entry.at == head.tail) else { continue };
        let newest = best.as_ref().and_then(|best| best.last()).is_none_or(|last| last.sequence < head.sequence);
        if newest {
            best = Some(run.split_off(tail));
        }
    }
    best
}

/// Reads the entry at an offset of the log, where there is a valid one.
fn entry(log: &[u8], at: u64, id: &[u8; 16], budget: &mut u64) -> Option<Entry> {
    let head = log.get(at as usize..)?.get(..64)?;
    let fields = Fields(head);
    let (length, tail, sequence) = (u64::from(fields.u32_le(8)), u64::from(fields.u32_le(12)), fields.u64_le(16));
    let plausible = head.starts_with(b"loge")
        && head.get(32..48) == Some(id)
        && length % SECTOR == 0
        && (SECTOR..=log.len() as u64).contains(&length)
        && tail % SECTOR == 0
        && sequence != 0;
    if !plausible {
        return None;
    }
    *budget = budget.checked_sub(length)?;
    // an entry may go on at the log's start
    let first = log.get(at as usize..)?;
    let mut bytes = first.get(..length as usize).unwrap_or(first).to_vec();
    bytes.extend_from_slice(log.get(..length as usize - bytes.len())?);
    (checksum(&bytes) == fields.u32_le(4)).then_some(Entry { at, bytes, tail, sequence })
}

impl Patches {
    fn apply(&mut self, entry: &Entry) -> Result<(), String> {
        let fields = Fields(&entry.bytes);
        let count = u64::from(fields.u32_le(24));
        let start = (64 + count * 32).next_multiple_of(SECTOR);
        let mut data = entry.bytes.get(start as usize..).unwrap_or_default().chunks_exact(SECTOR as usize);
        (self.flushed, self.last) = (fields.u64_le(48), self.last.max(fields.u64_le(56)));
        if start > entry.bytes.len() as u64 || self.last > i64::MAX as u64 {
            return Err(format!("{count} descriptors do not fit, or the file's size is absurd"));
        }
        for number in 0..count {
            let at = (64 + number * 32) as usize;
            let descriptor = entry.bytes.get(at..at + 32).unwrap_or_default();
            let fields = Fields(descriptor);
            let offset = fields.u64_le(16);
            if fields.u64_le(24) != entry.sequence || offset % SECTOR != 0 || offset > i64::MAX as u64 {
                return Err(format!("descriptor {number} is of another entry or not aligned"));
            }
            match descriptor.get(..4) {
                Some(b"zero") => {
                    let length = fields.u64_le(8);
                    let end =
                        offset.checked_add(length).filter(|_| length % SECTOR == 0).ok_or("a length is absurd")?;
                    self.pages.retain(|page, _| !(offset..end).contains(page));
                    self.zeros.push(offset..end);
                }
                Some(b"desc") => {
                    let sector = data.next().ok_or("a data sector is missing")?;
                    let whole = Fields(sector).u32_le(4) == (entry.sequence >> 32) as u32
                        && Fields(sector).u32_le(4092) == entry.sequence as u32;
                    if !sector.starts_with(b"data") || !whole {
                        return Err("a data sector is of another entry".into());
                    }
                    let mut page = Box::new([0; SECTOR as usize]);
                    page.copy_from_slice(sector);
                    page[..8].copy_from_slice(descriptor.get(8..16).unwrap_or_default());
                    page[4092..].copy_from_slice(descriptor.get(4..8).unwrap_or_default());
                    self.pages.insert(offset, page);
                }
                _ => return Err(format!("descriptor {number} is of no known kind")),
            }
        }
        Ok(())
    }
}

/// A file with patches over it.
struct Patched {
    under: Arc<dyn Source>,
    stored: u64,
    patches: Patches,
}

impl Source for Patched {
    fn name(&self) -> &str {
        self.under.name()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.stored.max(self.patches.last))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        let below = self.stored.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (stored, beyond) = buf.split_at_mut(below);
        if !stored.is_empty() {
            self.under.read_at(stored, offset)?;
        }
        beyond.fill(0);
        // zeros first: the pages that are kept are newer
        for zeros in &self.patches.zeros {
            let (start, stop) = (zeros.start.max(offset), zeros.end.min(end));
            if start < stop {
                buf.get_mut((start - offset) as usize..(stop - offset) as usize).unwrap_or_default().fill(0);
            }
        }
        for (at, page) in self.patches.pages.range(offset.saturating_sub(SECTOR - 1)..end) {
            let (start, stop) = ((*at).max(offset), (at + SECTOR).min(end));
            let from = page.get((start - at) as usize..(stop - at) as usize).unwrap_or_default();
            buf.get_mut((start - offset) as usize..(stop - offset) as usize).unwrap_or_default().copy_from_slice(from);
        }
        Ok(())
    }

    fn sequential(&self) -> bool {
        self.under.sequential()
    }

    fn pin(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        self.under.pin(ranges)
    }

    fn stamp(&self) -> io::Result<String> {
        self.under.stamp()
    }
}
