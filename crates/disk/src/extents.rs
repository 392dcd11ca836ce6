//! What the ranges of a virtual disk hold.
//!
//! An image answers for a range with extents that lie in order, touch each other and cover exactly
//! the range:
//!
//! ```text
//! range     |--------------------------------------|
//! extents   [ Data      ][ Unallocated ][ Zero ][D ]
//! ```

use std::ops::Range;

/// What an extent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Bytes stored in the image; they may still be zeros.
    Data,
    /// Zeros, and the image says so.
    Zero,
    /// Nothing is stored: the backing image shows through, or zeros where there is none.
    Unallocated,
}

/// A range of the virtual disk of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Extent {
    /// Offset on the virtual disk.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// What it holds.
    pub kind: Kind,
}

impl Extent {
    /// Returns the offset after its last byte.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// Returns it as a range of offsets.
    pub fn range(&self) -> Range<u64> {
        self.start..self.end()
    }
}

/// Extents under construction: neighbours of one kind are merged.
#[derive(Debug, Default, Clone)]
pub struct Extents(Vec<Extent>);

impl Extents {
    /// Appends a range; ranges come in order.
    pub fn push(&mut self, start: u64, length: u64, kind: Kind) {
        if length == 0 {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.kind == kind && last.end() == start => last.length += length,
            _ => self.0.push(Extent { start, length, kind }),
        }
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the extents.
    pub fn as_slice(&self) -> &[Extent] {
        &self.0
    }

    /// Returns whether nothing but zeros can be read from the extents.
    pub fn no_data(&self) -> bool {
        self.0.iter().all(|extent| extent.kind != Kind::Data)
    }

    /// Returns how many bytes are data.
    pub fn data_bytes(&self) -> u64 {
        self.0.iter().filter(|extent| extent.kind == Kind::Data).map(|extent| extent.length).sum()
    }
}

/// Returns the part of `range` that lies in the unit (grain, cluster, block) `index` of `unit` bytes.
pub(crate) fn unit_part(range: &Range<u64>, index: u64, unit: u64) -> Range<u64> {
    let start = index.saturating_mul(unit);
    range.start.max(start)..range.end.min(start.saturating_add(unit))
}

/// Returns whether all bytes are zero; stops early.
pub fn is_zero(bytes: &[u8]) -> bool {
    // 64 bytes a step: the compiler turns the fold into vector instructions, and real data mostly
    // differs within the first step
    let (blocks, rest) = bytes.as_chunks::<64>();
    blocks.iter().all(|block| block.iter().fold(0u8, |acc, byte| acc | byte) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_kind_are_merged() {
        let mut extents = Extents::default();
        extents.push(0, 10, Kind::Data);
        extents.push(10, 5, Kind::Data);
        extents.push(15, 0, Kind::Zero);
        extents.push(15, 5, Kind::Zero);
        let want =
            [Extent { start: 0, length: 15, kind: Kind::Data }, Extent { start: 15, length: 5, kind: Kind::Zero }];
        assert_eq!(extents.as_slice(), want);
        assert_eq!(extents.data_bytes(), 15);
    }

    #[test]
    fn one_bit_anywhere_is_not_zero() {
        let mut bytes = vec![0u8; 4099];
        assert!(is_zero(&bytes));
        for at in [0, 63, 64, 4095, 4096, 4098] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "byte {at}");
            bytes[at] = 0;
        }
    }
}
