//! The formats. Each folder or file reads one, and its module doc draws the layout and names where
//! the facts come from; none of them trusts a number that it has not compared with the file's size.

pub mod chain;
mod pieces;
pub mod qcow2;
pub mod raw;
pub mod vhd;
pub mod vhdx;
pub mod vmdk;
pub(crate) mod within;

/// Reads integers at fixed offsets of a header; a header is read whole, so that these never fail
/// on input, only on a wrong constant (they read zeros then).
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
    }

    pub(crate) fn u16_le(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u32_le(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u64_le(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u32_be(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes(at))
    }

    pub(crate) fn u64_be(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.bytes(at))
    }
}
