//! Writers of what qemu-img cannot make: VHD with clear sector bits and parents, VHDX with parents
//! and with logs. They follow the specifications, not the readers.

#![allow(dead_code, reason = "each user takes its part")]

use std::collections::BTreeMap;

/// Bytes of a sector in bitmaps.
pub const SECTOR: usize = 512;

/// What a disk of a chain stores: none for a sector that is not written here.
pub type Sectors = BTreeMap<u64, [u8; SECTOR]>;

/// A VHD to write.
pub struct Vhd<'a> {
    pub size: u64,
    /// Bytes of a block, a power of two.
    pub block: u64,
    pub sectors: &'a Sectors,
    pub id: [u8; 16],
    /// Path and identity of the parent.
    pub parent: Option<(&'a str, [u8; 16])>,
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    bytes[at..at + part.len()].copy_from_slice(part);
}

fn complement(bytes: &[u8]) -> u32 {
    !bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()
}

fn footer(disk: &Vhd<'_>) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    put(&mut bytes, 0, b"conectix");
    put(&mut bytes, 8, &2u32.to_be_bytes());
    put(&mut bytes, 12, &0x1_0000u32.to_be_bytes());
    put(&mut bytes, 16, &512u64.to_be_bytes());
    put(&mut bytes, 28, b"win \0\x06\0\x01Wi2k");
    put(&mut bytes, 40, &disk.size.to_be_bytes());
    put(&mut bytes, 48, &disk.size.to_be_bytes());
    put(&mut bytes, 60, &(if disk.parent.is_some() { 4u32 } else { 3 }).to_be_bytes());
    put(&mut bytes, 68, &disk.id);
    let sum = complement(&bytes);
    put(&mut bytes, 64, &sum.to_be_bytes());
    bytes
}

/// Writes a dynamic or differencing VHD; bits are set for what is stored only.
pub fn vhd(disk: &Vhd<'_>) -> Vec<u8> {
    let blocks = disk.size.div_ceil(disk.block);
    let mut header = vec![0; 1024];
    put(&mut header, 0, b"cxsparse");
    put(&mut header, 8, &u64::MAX.to_be_bytes());
    put(&mut header, 16, &1536u64.to_be_bytes());
    put(&mut header, 24, &0x1_0000u32.to_be_bytes());
    put(&mut header, 28, &(blocks as u32).to_be_bytes());
    put(&mut header, 32, &(disk.block as u32).to_be_bytes());
    if let Some((path, id)) = disk.parent {
        put(&mut header, 40, &id);
        let name: Vec<u8> = path.encode_utf16().flat_map(u16::to_be_bytes).collect();
        put(&mut header, 64, &name);
    }
    let sum = complement(&header);
    put(&mut header, 36, &sum.to_be_bytes());
    let bitmap = (disk.block as usize / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    let mut table = vec![0xff; (blocks as usize * 4).next_multiple_of(SECTOR)];
    let start = 1536 + table.len();
    let mut data: Vec<u8> = Vec::new();
    let per_block = disk.block / SECTOR as u64;
    for block in 0..blocks {
        let stored: Vec<_> = disk.sectors.range(block * per_block..(block + 1) * per_block).collect();
        if stored.is_empty() {
            continue;
        }
        put(&mut table, block as usize * 4, &(((start + data.len()) / SECTOR) as u32).to_be_bytes());
        // what is not written is full of rubbish: nobody may read it
        let mut bytes = vec![0xee; bitmap + disk.block as usize];
        bytes[..bitmap].fill(0);
        for (sector, content) in stored {
            let index = (sector % per_block) as usize;
            bytes[index / 8] |= 0x80 >> (index % 8);
            put(&mut bytes, bitmap + index * SECTOR, content);
        }
        data.extend(bytes);
    }
    [footer(disk), header, table, data, footer(disk)].concat()
}

/// A VHDX to write.
pub struct Vhdx<'a> {
    pub size: u64,
    /// Bytes of a block, 1 MiB at least.
    pub block: u64,
    pub sectors: &'a Sectors,
    /// Identity of the data, as bytes of a GUID.
    pub id: [u8; 16],
    /// Path and identity of the parent.
    pub parent: Option<(&'a str, [u8; 16])>,
    /// Leave the block table to a log that has to be replayed.
    pub log: bool,
    /// Bytes of a logical sector: 512, or 4096 without a parent.
    pub logical: u32,
}

const MIB: usize = 1 << 20;
const LOG: usize = MIB;
const METADATA: usize = 2 * MIB;
const TABLE: usize = 3 * MIB;
const DATA: usize = 4 * MIB;
const LOG_ID: [u8; 16] = [0x5a; 16];

/// Bit by bit, unlike the reader's table.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

/// Writes the checksum of a structure whose own is at offset 4.
pub fn seal(bytes: &mut [u8]) {
    put(bytes, 4, &[0; 4]);
    let sum = crc32c(bytes);
    put(bytes, 4, &sum.to_le_bytes());
}

/// A GUID from its text.
pub fn guid(text: &str) -> [u8; 16] {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut bytes = [0; 16];
    for (at, pair) in digits.chunks_exact(2).enumerate() {
        bytes[at] = u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("digits");
    }
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    bytes
}

/// A GUID as text in braces.
pub fn guid_text(bytes: &[u8; 16]) -> String {
    let mut b = *bytes;
    b[..4].reverse();
    b[4..6].reverse();
    b[6..8].reverse();
    let hex: String = b.iter().map(|byte| format!("{byte:02X}")).collect();
    format!("{{{}-{}-{}-{}-{}}}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn front(disk: &Vhdx<'_>) -> Vec<u8> {
    let mut bytes = vec![0; MIB];
    put(&mut bytes, 0, b"vhdxfile");
    for (number, at) in [(1u64, 64 << 10), (2, 128 << 10)] {
        let mut header = vec![0; 4096];
        put(&mut header, 0, b"head");
        put(&mut header, 8, &number.to_le_bytes());
        put(&mut header, 16, &[1; 16]);
        put(&mut header, 32, &disk.id);
        put(&mut header, 48, &if disk.log { LOG_ID } else { [0; 16] });
        put(&mut header, 66, &1u16.to_le_bytes());
        put(&mut header, 68, &(MIB as u32).to_le_bytes());
        put(&mut header, 72, &(LOG as u64).to_le_bytes());
        seal(&mut header);
        put(&mut bytes, at, &header);
    }
    let mut regions = vec![0; 64 << 10];
    put(&mut regions, 0, b"regi");
    put(&mut regions, 8, &2u32.to_le_bytes());
    let entries = [("2DC27766-F623-4200-9D64-115E9BFD4A08", TABLE), ("8B7CA206-4790-4B9A-B8FE-575F050F886E", METADATA)];
    for (number, (id, at)) in entries.iter().enumerate() {
        let entry = 16 + number * 32;
        put(&mut regions, entry, &guid(id));
        put(&mut regions, entry + 16, &(*at as u64).to_le_bytes());
        put(&mut regions, entry + 24, &(MIB as u32).to_le_bytes());
        put(&mut regions, entry + 28, &1u32.to_le_bytes());
    }
    seal(&mut regions);
    put(&mut bytes, 192 << 10, &regions);
    put(&mut bytes, 256 << 10, &regions);
    bytes
}

fn metadata(disk: &Vhdx<'_>) -> Vec<u8> {
    let mut items: Vec<(&str, Vec<u8>)> = vec![
        (
            "CAA16737-FA36-4D43-B3B6-33F0AA44E76B",
            [(disk.block as u32).to_le_bytes(), (if disk.parent.is_some() { 2u32 } else { 0 }).to_le_bytes()].concat(),
        ),
        ("2FA54224-CD1B-4876-B211-5DBED83BF4B8", disk.size.to_le_bytes().to_vec()),
        ("BECA12AB-B2E6-4523-93EF-C309E000C746", vec![9; 16]),
        ("8141BF1D-A96F-4709-BA47-F233A8FAAB5F", disk.logical.to_le_bytes().to_vec()),
        ("CDA348C7-445D-4471-9CC9-E9885251C556", 4096u32.to_le_bytes().to_vec()),
    ];
    if let Some((path, id)) = disk.parent {
        items.push(("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C", locator(path, id)));
    }
    let mut bytes = vec![0; MIB];
    put(&mut bytes, 0, b"metadata");
    put(&mut bytes, 10, &(items.len() as u16).to_le_bytes());
    let mut at = 64 << 10;
    for (number, (id, item)) in items.iter().enumerate() {
        let entry = 32 + number * 32;
        put(&mut bytes, entry, &guid(id));
        put(&mut bytes, entry + 16, &(at as u32).to_le_bytes());
        put(&mut bytes, entry + 20, &(item.len() as u32).to_le_bytes());
        put(&mut bytes, entry + 24, &4u32.to_le_bytes());
        put(&mut bytes, at, item);
        at += item.len().next_multiple_of(8);
    }
    bytes
}

fn locator(path: &str, id: [u8; 16]) -> Vec<u8> {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let pairs = [("parent_linkage", guid_text(&id)), ("relative_path", path.to_owned())];
    let mut bytes = guid("B04AEFB7-D19E-4A81-B789-25B8E9445913").to_vec();
    bytes.extend([0, 0, pairs.len() as u8, 0]);
    let mut texts = Vec::new();
    let start = 20 + pairs.len() * 12;
    for (key, value) in &pairs {
        let (key, value) = (utf16(key), utf16(value));
        let at = start + texts.len();
        bytes.extend((at as u32).to_le_bytes());
        bytes.extend(((at + key.len()) as u32).to_le_bytes());
        bytes.extend((key.len() as u16).to_le_bytes());
        bytes.extend((value.len() as u16).to_le_bytes());
        texts.extend(key);
        texts.extend(value);
    }
    bytes.extend(texts);
    bytes
}

/// Writes a dynamic or differencing VHDX.
pub fn vhdx(disk: &Vhdx<'_>) -> Vec<u8> {
    let blocks = disk.size.div_ceil(disk.block);
    let chunk = (u64::from(disk.logical) << 23) / disk.block;
    let mut table = vec![0; MIB];
    let mut data: Vec<u8> = Vec::new();
    let per_block = disk.block / SECTOR as u64;
    let mut bitmaps: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for block in 0..blocks {
        let stored: Vec<_> = disk.sectors.range(block * per_block..(block + 1) * per_block).collect();
        if stored.is_empty() {
            continue;
        }
        let at = (DATA + data.len()) as u64;
        let partial = disk.parent.is_some() && (stored.len() as u64) < per_block;
        put(&mut table, ((block + block / chunk) * 8) as usize, &(at | if partial { 7 } else { 6 }).to_le_bytes());
        // without a parent what is not written is zeros, with one it is rubbish that nobody may read
        let mut bytes = vec![if partial { 0xee } else { 0 }; disk.block as usize];
        for (sector, content) in stored {
            put(&mut bytes, (sector % per_block) as usize * SECTOR, content);
            if partial {
                let bit = (sector - block / chunk * chunk * per_block) as usize;
                bitmaps.entry(block / chunk).or_insert_with(|| vec![0; MIB])[bit / 8] |= 1 << (bit % 8);
            }
        }
        data.extend(bytes);
    }
    for (number, bitmap) in bitmaps {
        let at = (DATA + data.len()) as u64;
        put(&mut table, ((number * (chunk + 1) + chunk) * 8) as usize, &(at | 6).to_le_bytes());
        data.extend(bitmap);
    }
    let (log, stored) = if disk.log {
        // the newest entries bring the table; the file itself has rubbish there
        (log(&table, (DATA + data.len()) as u64), vec![0xee; 8192].into_iter().chain(vec![0; MIB - 8192]).collect())
    } else {
        (vec![0; MIB], table)
    };
    [front(disk), log, metadata(disk), stored, data].concat()
}

/// A log whose last sequence of two entries writes the table: the first zeroes its first pages, the
/// second brings the pages that hold anything. It wraps around the log's end, behind an older sequence.
fn log(table: &[u8], file: u64) -> Vec<u8> {
    let mut log = vec![0; MIB];
    let old = entry(7, 0, file, &[(TABLE as u64, None, 4096)]);
    put(&mut log, 0, &old);
    let tail = MIB - 4096;
    let first = entry(20, tail as u32, file, &[(TABLE as u64, None, MIB as u64)]);
    put(&mut log, tail, &first);
    let pages = table.chunks(4096).enumerate().filter(|(_, page)| page.iter().any(|byte| *byte != 0));
    let pages: Vec<_> = pages.map(|(number, page)| ((TABLE + number * 4096) as u64, Some(page), 0)).collect();
    let second = entry(21, tail as u32, file, &pages);
    put(&mut log, 0, &second);
    log
}

fn entry(sequence: u64, tail: u32, file: u64, writes: &[(u64, Option<&[u8]>, u64)]) -> Vec<u8> {
    let sectors = writes.iter().filter(|(_, data, _)| data.is_some()).count();
    let mut bytes = vec![0; 4096 * (1 + sectors)];
    let length = bytes.len() as u32;
    put(&mut bytes, 0, b"loge");
    put(&mut bytes, 8, &length.to_le_bytes());
    put(&mut bytes, 12, &tail.to_le_bytes());
    put(&mut bytes, 16, &sequence.to_le_bytes());
    put(&mut bytes, 24, &(writes.len() as u32).to_le_bytes());
    put(&mut bytes, 32, &LOG_ID);
    put(&mut bytes, 48, &file.to_le_bytes());
    put(&mut bytes, 56, &file.to_le_bytes());
    let mut next = 4096;
    for (number, (offset, data, zeros)) in writes.iter().enumerate() {
        let at = 64 + number * 32;
        match data {
            None => {
                put(&mut bytes, at, b"zero");
                put(&mut bytes, at + 8, &zeros.to_le_bytes());
            }
            Some(data) => {
                put(&mut bytes, at, b"desc");
                put(&mut bytes, at + 4, &data[4092..]);
                put(&mut bytes, at + 8, &data[..8]);
                put(&mut bytes, next, b"data");
                put(&mut bytes, next + 4, &((sequence >> 32) as u32).to_le_bytes());
                put(&mut bytes, next + 8, &data[8..4092]);
                put(&mut bytes, next + 4092, &(sequence as u32).to_le_bytes());
                next += 4096;
            }
        }
        put(&mut bytes, at + 16, &offset.to_le_bytes());
        put(&mut bytes, at + 24, &sequence.to_le_bytes());
    }
    seal(&mut bytes);
    bytes
}
