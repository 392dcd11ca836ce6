//! The chunk map: which chunks of a target are durable, and their digests.
//!
//! ```text
//! 0     magic "FKCHUNK1"                          4096   chunk 0   digest [32] state [1] check [7]
//! 8     size u64, chunk size u64, inode u64       4136   chunk 1   …
//! 32    BLAKE3 of the header without this field            state: 0 not copied, 1 data, 2 zeros
//! 64    length u32 + identity, length u32 + stamp          check: BLAKE3 of index, state and digest, cut
//! ```
//!
//! It lies beside the target (`disk.img.chunks`) while a copy runs, in a file that the caller names,
//! or, on a block device that is larger than the disk, at the device's end (which is zeroed when the
//! copy is whole). Order of writes: the chunk's bytes, `fdatasync` of the target, the entry,
//! `fdatasync` of the map. A crash at any point leaves entries that are true; one torn by the crash
//! fails its check and counts as not copied.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::digest::{Blake3, CHUNK};
use crate::error::{Error, Result};
use crate::format::Fields;

const MAGIC: &[u8; 8] = b"FKCHUNK1";
const HEADER: u64 = 4096;
const ENTRY: usize = 40;
/// Longer identities and stamps are stored as their digest.
const TEXT: usize = 1900;

/// A chunk that is durable on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Digest of its bytes.
    pub digest: Blake3,
    /// Whether it is all zeros.
    pub zero: bool,
}

/// What a copy belongs to: a copy goes on only where all of it is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The caller's name of the source's content.
    pub identity: String,
    /// Sizes and times of the source's files.
    pub stamp: String,
    /// Bytes of the virtual disk.
    pub size: u64,
    /// Inode of a target file, number of a device: a target that was replaced is not gone on with.
    pub inode: u64,
}

impl Key {
    /// Returns whether a map with this key is one of `other`, whose texts may be too long to be stored.
    pub(crate) fn is(&self, other: &Self) -> bool {
        *self == Self { identity: short(&other.identity), stamp: short(&other.stamp), ..other.clone() }
    }
}

/// Where a chunk map lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file of its own.
    File(PathBuf),
    /// At this offset of a block device, behind the disk.
    Device(PathBuf, u64),
}

impl Place {
    /// Returns the place behind a disk of `size` bytes on a device of `length`, if there is room.
    pub fn behind(device: &Path, size: u64, length: u64) -> Option<Self> {
        let at = length.checked_sub(bytes(size))? / HEADER * HEADER;
        (at >= size).then(|| Self::Device(device.to_owned(), at))
    }

    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Device(path, _) => path,
        }
    }

    /// Opens the map's file; none where there is none yet.
    fn open(&self) -> io::Result<Option<(File, u64)>> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        match self {
            Self::File(path) => match open(path) {
                Ok(file) => Ok(Some((file, 0))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
            Self::Device(path, at) => Ok(Some((open(path)?, *at))),
        }
    }
}

/// Returns how many bytes the map of a disk of `size` bytes takes.
fn bytes(size: u64) -> u64 {
    HEADER + size.div_ceil(CHUNK) * ENTRY as u64
}

/// The chunk map of a copy.
#[derive(Debug)]
pub struct ChunkMap {
    file: Option<File>,
    /// Where the map begins in its file.
    base: u64,
    path: PathBuf,
    size: u64,
    chunks: Vec<Option<Copied>>,
}

impl ChunkMap {
    /// Returns a map that only lives in memory: the copy starts over after a crash.
    pub fn in_memory(size: u64) -> Self {
        let chunks = vec![None; size.div_ceil(CHUNK) as usize];
        Self { file: None, base: 0, path: PathBuf::new(), size, chunks }
    }

    /// Opens the map at `path`, or makes it. A map of another source is [`Error::SourceChanged`].
    pub fn open(path: &Path, key: &Key) -> Result<Self> {
        Self::open_at(&Place::File(path.to_owned()), key)
    }

    /// Opens the map at a place, or makes it. A map of another source is [`Error::SourceChanged`].
    pub fn open_at(place: &Place, key: &Key) -> Result<Self> {
        let key = Key { identity: short(&key.identity), stamp: short(&key.stamp), ..key.clone() };
        let path = place.path();
        let failed = |action: &str, source| target(path, action, source);
        if let Some((file, base)) = place.open().map_err(|error| failed("open the chunk map", error))? {
            let found = read_header(&file, base).map_err(|error| failed("read the chunk map", error))?;
            if let Some(found) = found {
                same(path, &found, &key)?;
                let chunks =
                    read_entries(&file, base, key.size).map_err(|error| failed("read the chunk map", error))?;
                return Ok(Self { file: Some(file), base, path: path.to_owned(), size: key.size, chunks });
            }
            if matches!(place, Place::File(_)) {
                tracing::warn!(path = %path.display(), "the chunk map is damaged: starting over");
            }
        }
        Self::create(place, &key).map_err(|error| failed("make the chunk map", error))
    }

    /// Returns what the map at a place belongs to, if there is one.
    pub fn peek(place: &Place) -> Result<Option<Key>> {
        let failed = |source| target(place.path(), "read the chunk map", source);
        match place.open().map_err(failed)? {
            Some((file, base)) => read_header(&file, base).map_err(failed),
            None => Ok(None),
        }
    }

    fn create(place: &Place, key: &Key) -> io::Result<Self> {
        let count = key.size.div_ceil(CHUNK);
        let (file, base) = match place {
            Place::File(path) => {
                let fresh = beside(path, "new");
                let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&fresh)?;
                file.write_all(&header(key))?;
                file.set_len(bytes(key.size))?;
                file.sync_all()?;
                std::fs::rename(&fresh, path)?;
                sync_folder(path)?;
                (file, 0)
            }
            Place::Device(path, at) => {
                let file = OpenOptions::new().read(true).write(true).open(path)?;
                // entries of an older map must not outlive its header
                clear(&file, *at, key.size)?;
                file.write_all_at(&header(key), *at)?;
                file.sync_data()?;
                (file, *at)
            }
        };
        let chunks = vec![None; count as usize];
        Ok(Self { file: Some(file), base, path: place.path().to_owned(), size: key.size, chunks })
    }

    /// Removes a map of a disk of `size` bytes, if there is one.
    pub fn discard(place: &Place, size: u64) -> Result<()> {
        let gone = match place {
            Place::File(path) => match std::fs::remove_file(path) {
                Ok(()) => sync_folder(path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            },
            Place::Device(..) => match place.open() {
                Ok(Some((file, base))) => clear(&file, base, size),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            },
        };
        gone.map_err(|error| target(place.path(), "remove the chunk map", error))
    }

    /// Returns all chunks in order, those that are not copied as `None`.
    pub fn chunks(&self) -> &[Option<Copied>] {
        &self.chunks
    }

    /// Returns the bytes of the virtual disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the range of the virtual disk that a chunk covers.
    pub fn range(&self, index: u64) -> std::ops::Range<u64> {
        let start = index.saturating_mul(CHUNK);
        start..start.saturating_add(CHUNK).min(self.size)
    }

    /// Returns how many bytes the copied chunks cover.
    pub fn copied_bytes(&self) -> u64 {
        let copied = self.chunks.iter().enumerate().filter(|(_, chunk)| chunk.is_some());
        copied.map(|(index, _)| self.range(index as u64)).map(|range| range.end - range.start).sum()
    }

    /// Marks chunks whose bytes are durable.
    pub fn mark(&mut self, mut copied: Vec<(u64, Copied)>) -> Result<()> {
        copied.sort_unstable_by_key(|(index, _)| *index);
        for (index, chunk) in &copied {
            if let Some(slot) = self.chunks.get_mut(*index as usize) {
                *slot = Some(*chunk);
            }
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        let write = || {
            // neighbours go out in one write
            for run in copied.chunk_by(|(a, _), (b, _)| a + 1 == *b) {
                let Some((first, _)) = run.first() else {
                    continue;
                };
                let bytes: Vec<u8> = run.iter().flat_map(|(index, chunk)| entry(*index, chunk)).collect();
                file.write_all_at(&bytes, self.base + HEADER + first * ENTRY as u64)?;
            }
            file.sync_data()
        };
        write().map_err(|error| target(&self.path, "write the chunk map", error))
    }
}

fn target(path: &Path, action: &str, source: io::Error) -> Error {
    Error::Target { path: path.to_owned(), action: action.to_owned(), source }
}

/// Returns the path with a suffix added.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes a rename or a removal durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn short(text: &str) -> String {
    if text.len() <= TEXT {
        return text.to_owned();
    }
    format!("blake3:{}", blake3::hash(text.as_bytes()))
}

fn same(path: &Path, was: &Key, now: &Key) -> Result<()> {
    let fields = [
        ("identity", was.identity.clone(), now.identity.clone()),
        ("size", was.size.to_string(), now.size.to_string()),
        ("stamp", was.stamp.clone(), now.stamp.clone()),
        ("target inode", was.inode.to_string(), now.inode.to_string()),
    ];
    match fields.into_iter().find(|(_, was, now)| was != now) {
        None => Ok(()),
        Some((field, was, now)) => Err(Error::SourceChanged { path: path.display().to_string(), field, was, now }),
    }
}

/// Zeroes the place of a map on a device, the header first.
fn clear(file: &File, base: u64, size: u64) -> io::Result<()> {
    let zeros = [0; HEADER as usize];
    let end = base + bytes(size);
    let mut at = base;
    while at < end {
        let step = HEADER.min(end - at);
        file.write_all_at(zeros.get(..step as usize).unwrap_or_default(), at)?;
        if at == base {
            file.sync_data()?;
        }
        at += step;
    }
    file.sync_data()
}

fn header(key: &Key) -> Vec<u8> {
    let mut bytes = vec![0; HEADER as usize];
    let mut at = 0;
    let mut put = |part: &[u8]| {
        if let Some(slot) = bytes.get_mut(at..at + part.len()) {
            slot.copy_from_slice(part);
        }
        at += part.len();
    };
    put(MAGIC);
    for number in [key.size, CHUNK, key.inode] {
        put(&number.to_le_bytes());
    }
    put(&[0; 32]);
    for text in [&key.identity, &key.stamp] {
        put(&(text.len() as u32).to_le_bytes());
        put(text.as_bytes());
    }
    let digest = blake3::hash(&bytes);
    bytes[32..64].copy_from_slice(digest.as_bytes());
    bytes
}

/// Reads the header; none when it is not whole.
fn read_header(file: &File, base: u64) -> io::Result<Option<Key>> {
    let mut bytes = vec![0; HEADER as usize];
    match file.read_exact_at(&mut bytes, base) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let stored: Vec<u8> = bytes[32..64].to_vec();
    bytes[32..64].fill(0);
    let fields = Fields(&bytes);
    if !bytes.starts_with(MAGIC) || blake3::hash(&bytes).as_bytes() != stored.as_slice() || fields.u64_le(16) != CHUNK {
        return Ok(None);
    }
    let mut at = 64;
    let mut text = || {
        let length = fields.u32_le(at) as usize;
        let text = bytes.get(at + 4..)?.get(..length)?;
        at += 4 + length;
        String::from_utf8(text.to_vec()).ok()
    };
    let (Some(identity), Some(stamp)) = (text(), text()) else {
        return Ok(None);
    };
    Ok(Some(Key { identity, stamp, size: fields.u64_le(8), inode: fields.u64_le(24) }))
}

fn check(index: u64, state: u8, digest: &Blake3) -> [u8; 7] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&index.to_le_bytes()).update(&[state]).update(&digest.0);
    let mut check = [0; 7];
    hasher.finalize_xof().fill(&mut check);
    check
}

fn entry(index: u64, chunk: &Copied) -> [u8; ENTRY] {
    let state = if chunk.zero { 2 } else { 1 };
    let mut bytes = [0; ENTRY];
    bytes[..32].copy_from_slice(&chunk.digest.0);
    bytes[32] = state;
    bytes[33..].copy_from_slice(&check(index, state, &chunk.digest));
    bytes
}

fn read_entries(file: &File, base: u64, size: u64) -> io::Result<Vec<Option<Copied>>> {
    let count = size.div_ceil(CHUNK) as usize;
    // a map cut short has no entries there
    let start = base + HEADER;
    let stored = crate::source::file_length(file)?.saturating_sub(start).min((count * ENTRY) as u64);
    let mut bytes = vec![0; stored as usize];
    file.read_exact_at(&mut bytes, start)?;
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    let mut chunks: Vec<_> = entries
        .iter()
        .enumerate()
        .map(|(index, bytes)| {
            let digest = Blake3(*bytes.first_chunk::<32>()?);
            let state = bytes[32];
            let whole = matches!(state, 1 | 2) && bytes[33..] == check(index as u64, state, &digest);
            whole.then_some(Copied { digest, zero: state == 2 })
        })
        .collect();
    chunks.resize(count, None);
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(identity: &str) -> Key {
        Key { identity: identity.into(), stamp: "5:1.0".into(), size: 3 * CHUNK + 5, inode: 7 }
    }

    fn copied(byte: u8) -> Copied {
        Copied { digest: Blake3([byte; 32]), zero: byte == 0 }
    }

    #[test]
    fn marks_survive_and_torn_entries_do_not_count() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("disk.img.chunks");
        let mut map = ChunkMap::open(&path, &key("a")).expect("makes it");
        map.mark(vec![(3, copied(9)), (0, copied(0)), (1, copied(4))]).expect("marks");
        drop(map);
        let map = ChunkMap::open(&path, &key("a")).expect("opens it");
        assert_eq!(map.chunks(), [Some(copied(0)), Some(copied(4)), None, Some(copied(9))]);
        assert_eq!(map.copied_bytes(), 2 * CHUNK + 5);
        drop(map);
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[HEADER as usize + ENTRY + 3] ^= 1;
        std::fs::write(&path, &bytes[..bytes.len() - 1]).expect("writes");
        let map = ChunkMap::open(&path, &key("a")).expect("opens it");
        assert_eq!(map.chunks(), [Some(copied(0)), None, None, None]);
    }

    #[test]
    fn a_map_behind_the_disk_leaves_no_trace() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("device");
        let size = 3 * CHUNK + 5;
        let length = size + 20_000;
        std::fs::write(&path, vec![7; length as usize]).expect("writes");
        assert_eq!(Place::behind(&path, size, size + 100), None, "there is no room");
        let place = Place::behind(&path, size, length).expect("there is room");
        assert_eq!(ChunkMap::peek(&place).expect("reads"), None);
        let mut map = ChunkMap::open_at(&place, &key("a")).expect("makes it");
        map.mark(vec![(3, copied(9))]).expect("marks");
        drop(map);
        let map = ChunkMap::open_at(&place, &key("a")).expect("opens it");
        assert_eq!(map.chunks(), [None, None, None, Some(copied(9))]);
        assert_eq!(ChunkMap::peek(&place).expect("reads"), Some(key("a")));
        ChunkMap::discard(&place, size).expect("clears");
        let bytes = std::fs::read(&path).expect("reads");
        assert!(
            bytes.len() as u64 == length && bytes[..size as usize].iter().all(|byte| *byte == 7),
            "the disk is whole"
        );
        assert_eq!(ChunkMap::open_at(&place, &key("b")).expect("makes it").copied_bytes(), 0);
    }

    #[test]
    fn another_source_is_refused_and_a_damaged_header_starts_over() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("disk.img.chunks");
        let long = "x".repeat(9000);
        let mut map = ChunkMap::open(&path, &key(&long)).expect("makes it");
        map.mark(vec![(2, copied(1))]).expect("marks");
        drop(map);
        let error = ChunkMap::open(&path, &key("b")).expect_err("another identity");
        assert!(matches!(error, Error::SourceChanged { field: "identity", .. }), "{error}");
        let error = ChunkMap::open(&path, &Key { size: 5, ..key(&long) }).expect_err("another size");
        assert!(matches!(error, Error::SourceChanged { field: "size", .. }), "{error}");
        let mut bytes = std::fs::read(&path).expect("reads");
        bytes[20] ^= 0x40;
        std::fs::write(&path, bytes).expect("writes");
        let map = ChunkMap::open(&path, &key(&long)).expect("makes it anew");
        assert_eq!(map.copied_bytes(), 0);
    }
}
