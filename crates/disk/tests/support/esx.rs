//! Writers of ESX's sparse extents, which qemu-img reads and cannot make.

#![allow(dead_code, reason = "each test binary uses its part")]

use super::hyperv::{SECTOR, Sectors};

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

/// Returns the descriptor of a disk of one extent.
pub fn descriptor(kind: &str, create_type: &str, sectors: u64, file: &str, parent: Option<(&str, &str)>) -> String {
    let (id, hint) = match parent {
        Some((name, id)) => (id, format!("parentFileNameHint=\"{name}\"\n")),
        None => ("ffffffff", String::new()),
    };
    let offset = if kind == "FLAT" { " 0" } else { "" };
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=00c0ffee\nparentCID={id}\ncreateType=\"{create_type}\"\n{hint}\n\
         RW {sectors} {kind} \"{file}\"{offset}\n"
    )
}

/// Writes an extent of the older kind, with grains of one sector.
pub fn cowd(size: u64, stored: &Sectors) -> Vec<u8> {
    let sectors = size / SECTOR as u64;
    let tables = sectors.div_ceil(4096);
    let mut out = vec![0; 4 * SECTOR + (tables as usize * 4).next_multiple_of(SECTOR)];
    put(&mut out, 0, b"COWD");
    for (number, value) in [1, 3, sectors as u32, 1, 4, tables as u32].iter().enumerate() {
        put(&mut out, 4 + number * 4, &value.to_le_bytes());
    }
    for table in 0..tables {
        let content: Vec<_> = stored.range(table * 4096..(table + 1) * 4096).collect();
        if content.is_empty() {
            continue;
        }
        let at = out.len();
        put(&mut out, 4 * SECTOR + table as usize * 4, &((at / SECTOR) as u32).to_le_bytes());
        out.resize(at + 4096 * 4, 0);
        for (sector, bytes) in content {
            let grain = (out.len() / SECTOR) as u32;
            put(&mut out, at + (sector % 4096) as usize * 4, &grain.to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }
    out
}

/// Writes an extent of the newer kind: grains of 4 KiB, stored where any of its sectors is; `zeroed`
/// and `unmapped` are grains that say so.
pub fn sesparse(size: u64, stored: &Sectors, zeroed: u64, unmapped: u64) -> Vec<u8> {
    let (grains, per_table) = (size.div_ceil(4096), 4096u64);
    let tables = grains.div_ceil(per_table);
    let (directory, first_table) = (8u64, 16u64);
    let start = first_table + tables * 64;
    let mut out = vec![0; start as usize * SECTOR];
    let header = [
        (0, 0xcafe_babe),
        (8, 0x2_0000_0001),
        (16, size / 512),
        (24, 8),
        (32, 64),
        (80, 1),
        (88, 1),
        (128, directory),
        (136, (tables * 8).div_ceil(512)),
        (144, first_table),
        (152, tables * 64),
        (192, start),
        (200, grains * 8),
    ];
    header.iter().for_each(|(at, value): &(usize, u64)| put(&mut out, *at, &value.to_le_bytes()));
    put(&mut out, SECTOR, &0xcafe_cafe_u64.to_le_bytes());
    // the grains lie in the file in reverse, so that nobody takes their order for granted
    let mut used: Vec<u64> = stored.keys().map(|sector| sector / 8).collect();
    used.dedup();
    used.reverse();
    for table in 0..tables {
        put(&mut out, (directory * 512 + table * 8) as usize, &(0x1000_0000_0000_0000 | table).to_le_bytes());
    }
    for (number, grain) in (0u64..).zip(&used) {
        let entry = 3 << 60 | (number & 0xfff) << 48 | number >> 12;
        put(&mut out, (first_table * 512 + grain * 8) as usize, &entry.to_le_bytes());
        let mut bytes = [0; 4096];
        for (sector, content) in stored.range(grain * 8..grain * 8 + 8) {
            put(&mut bytes, (sector % 8) as usize * SECTOR, content);
        }
        out.extend_from_slice(&bytes);
    }
    for (grain, kind) in [(zeroed, 2u64), (unmapped, 1)] {
        put(&mut out, (first_table * 512 + grain * 8) as usize, &(kind << 60).to_le_bytes());
    }
    out
}
