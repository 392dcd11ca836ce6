//! Changed ranges: what a warm round copies onto a target that holds an earlier state of the disk.
//!
//! ```json
//! { "baseChangeId": "52 de…/4", "changeId": "52 de…/9", "size": 1073741824,
//!   "ranges": [ { "start": 0, "length": 65536 }, { "start": 4194304, "length": 131072 } ] }
//! ```
//!
//! ```text
//! state 4 on the target (manifest) ─► only the ranges are read ─► state 9 (manifest)
//!                                     a chunk that is changed in part: what stays is read from the target
//! ```
//!
//! A round that was interrupted leaves chunks that are neither the old nor the new state. They are
//! found by their digest, and copied whole from the source: at most the engine's window of them.

use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::chunk_map::Copied;
use crate::digest::CHUNK;
use crate::error::{Error, Malformed, Result};

/// The largest file with ranges that is read.
const BYTES: u64 = 512 << 20;

/// What changed between two states of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChangedRanges {
    /// The state that the target has to hold.
    pub base_change_id: String,
    /// The state that it holds afterwards.
    pub change_id: String,
    /// Size of the disk, where the source tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The ranges, in any order; they may overlap.
    pub ranges: Vec<ChangedRange>,
}

/// A range of the virtual disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedRange {
    /// Offset in bytes.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
}

impl ChangedRanges {
    /// Reads a file with ranges.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |source| Error::Source { path: path.display().to_string(), offset: 0, source };
        let length = std::fs::metadata(path).map_err(unreadable)?.len();
        if length > BYTES {
            return Err(malformed(path, "ranges", format!("{length} bytes are too many")));
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        serde_json::from_slice(&text).map_err(|error| malformed(path, "ranges", error.to_string()))
    }

    /// Returns the ranges in order, merged, within a disk of `size` bytes.
    pub fn merged(&self, size: u64) -> Result<Vec<Range<u64>>> {
        let wrong = |reason| malformed(Path::new("changed ranges"), "ranges", reason);
        if self.size.is_some_and(|told| told != size) {
            return Err(wrong(format!("are of a disk of {} bytes, this one has {size}", self.size.unwrap_or(0))));
        }
        let mut ranges = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.iter().filter(|range| range.length > 0) {
            match range.start.checked_add(range.length) {
                Some(end) if end <= size => ranges.push(range.start..end),
                _ => {
                    let ChangedRange { start, length } = range;
                    return Err(wrong(format!("{length} bytes at {start} are beyond the disk's {size}")));
                }
            }
        }
        Ok(merge(ranges))
    }

    /// Returns what tells this round from any other.
    pub(crate) fn stamp(&self, ranges: &[Range<u64>]) -> String {
        let mut hasher = blake3::Hasher::new();
        for range in ranges {
            hasher.update(&range.start.to_le_bytes()).update(&range.end.to_le_bytes());
        }
        format!("round {:?} to {:?} {}", self.base_change_id, self.change_id, hasher.finalize().to_hex())
    }
}

fn malformed(path: &Path, field: &str, reason: String) -> Error {
    Error::Malformed(Malformed { path: path.display().to_string(), offset: 0, field: field.into(), reason })
}

/// Sorts ranges and joins those that touch.
fn merge(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// A round as the engine sees it.
#[derive(Debug, Clone, Default)]
pub struct Round {
    ranges: Vec<Range<u64>>,
    base: Vec<Copied>,
}

impl Round {
    /// Returns the round of these merged ranges, over a target with these chunks.
    pub fn new(ranges: Vec<Range<u64>>, base: Vec<Copied>) -> Self {
        Self { ranges: merge(ranges), base }
    }

    /// Returns the changed parts of a range, in order.
    pub fn parts(&self, within: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.ranges.partition_point(|range| range.end <= within.start);
        let rest = self.ranges.get(first..).unwrap_or_default().iter();
        let (start, end) = (within.start, within.end);
        rest.take_while(move |range| range.start < end).map(move |range| range.start.max(start)..range.end.min(end))
    }

    /// Returns how many bytes of a range changed.
    pub fn bytes(&self, within: Range<u64>) -> u64 {
        self.parts(within).map(|part| part.end - part.start).sum()
    }

    /// Returns what a chunk held before.
    pub fn base(&self, index: u64) -> Option<&Copied> {
        self.base.get(usize::try_from(index).ok()?)
    }

    /// Returns what the target held before, chunk by chunk.
    pub fn into_base(self) -> Vec<Copied> {
        self.base
    }

    /// Returns the chunks that no range touches, with what they hold: they need no copy.
    pub fn untouched(&self, size: u64) -> Vec<(u64, Copied)> {
        let chunks = (0u64..).zip(&self.base);
        let same = chunks.filter(|(index, _)| {
            let start = index * CHUNK;
            self.parts(start..size.min(start + CHUNK)).next().is_none()
        });
        same.map(|(index, chunk)| (index, *chunk)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Blake3;
    use proptest::prelude::*;

    fn changed(ranges: &[(u64, u64)]) -> ChangedRanges {
        let ranges = ranges.iter().map(|(start, length)| ChangedRange { start: *start, length: *length }).collect();
        ChangedRanges { base_change_id: "a".into(), change_id: "b".into(), size: None, ranges }
    }

    #[test]
    fn ranges_are_merged_and_kept_within_the_disk() {
        let list = changed(&[(100, 50), (0, 10), (10, 5), (120, 80), (300, 0)]);
        assert_eq!(list.merged(200).expect("fits"), [0..15, 100..200]);
        for (start, length) in [(100, 101), (u64::MAX, 2), (201, 1)] {
            let error = changed(&[(start, length)]).merged(200).expect_err("beyond the end");
            assert!(error.to_string().contains("beyond the disk's 200"), "{error}");
        }
        let other = ChangedRanges { size: Some(7), ..changed(&[]) };
        assert!(other.merged(200).is_err());
    }

    #[test]
    fn untouched_chunks_need_no_copy() {
        let chunk = |byte| Copied { digest: Blake3([byte; 32]), zero: false };
        let round = Round::new(vec![CHUNK - 1..CHUNK + 1], vec![chunk(0), chunk(1), chunk(2)]);
        assert_eq!(round.untouched(2 * CHUNK + 9), [(2, chunk(2))]);
        assert_eq!(round.bytes(0..CHUNK), 1);
    }

    proptest! {
        #[test]
        fn parts_are_the_ranges_within(
            ranges in prop::collection::vec((0u64..500, 1u64..60), 0..30),
            start in 0u64..500,
            length in 1u64..100,
        ) {
            let list: Vec<_> = ranges.iter().map(|(start, length)| *start..start + length).collect();
            let round = Round::new(list.clone(), Vec::new());
            let parts: Vec<_> = round.parts(start..start + length).collect();
            for at in 0..600 {
                let want = (start..start + length).contains(&at) && list.iter().any(|range| range.contains(&at));
                prop_assert_eq!(parts.iter().filter(|part| part.contains(&at)).count(), usize::from(want));
            }
            prop_assert!(parts.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }
}
