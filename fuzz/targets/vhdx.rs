//! A VHDX that is changed at the places that the input names, with its checksums made right again.
//!
//! Whole images are megabytes: the input is a list of changes `{ region u8, offset u16, value u8 × 8 }`
//! to one of the valid images (first byte), so that each byte of it means something.
#![no_main]

use std::sync::OnceLock;

#[path = "../../crates/disk/tests/support/hyperv.rs"]
mod hyperv;

const MIB: usize = 1 << 20;

/// Valid images: dynamic, with a log, differencing, without the bytes of blocks (they are not parsed).
fn images() -> &'static [Vec<u8>] {
    static IMAGES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let sectors: hyperv::Sectors = [0u64, 1, 9, 2047, 2048, 5000].map(|at| (at, [at as u8 | 1; 512])).into();
        let parent = Some(("..\\base.vhdx", [4; 16]));
        let kinds = [(None, false), (None, true), (parent, false), (parent, true)];
        kinds
            .map(|(parent, log)| {
                hyperv::vhdx(&hyperv::Vhdx {
                    size: 3 << 20,
                    block: 1 << 20,
                    sectors: &sectors,
                    id: [3; 16],
                    parent,
                    log,
                    logical: 512,
                })
            })
            .into()
    })
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, changes)) = input.split_first() else { return };
    let mut bytes = images()[usize::from(*kind) % 4].clone();
    for change in changes.chunks_exact(11) {
        // where structures lie: headers, region tables, log, metadata, block table, bitmaps
        let base = [64 << 10, 128 << 10, 192 << 10, MIB, 2 * MIB - 4096, 2 * MIB, 2 * MIB + (64 << 10), 3 * MIB];
        let start = base[usize::from(change[0]) % base.len()];
        let at = start + usize::from(u16::from_le_bytes([change[1], change[2]]));
        bytes[at..at + 8].copy_from_slice(&change[3..]);
    }
    for at in [64 << 10, 128 << 10, 2 * MIB - 4096] {
        hyperv::seal(&mut bytes[at..at + 4096]);
    }
    // the second entry of the log has sectors of data: as many as it says
    let length = u32::from_le_bytes([bytes[MIB + 8], bytes[MIB + 9], bytes[MIB + 10], bytes[MIB + 11]]) as usize;
    hyperv::seal(&mut bytes[MIB..MIB + length.clamp(4096, 64 << 10)]);
    hyperv::seal(&mut bytes[192 << 10..256 << 10]);
    forklift_fuzz::read_disk(bytes, Some(forklift_disk::Format::Vhdx), false);
});
