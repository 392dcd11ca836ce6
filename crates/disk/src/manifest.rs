//! The manifest of a copied disk: what it was copied from and the digests of its bytes.
//!
//! ```json
//! { "version": 1, "identity": "…", "format": "streamOptimized", "size": 1073741824,
//!   "algorithm": "blake3", "chunkSize": 4194304, "root": "<hex>", "created": "2026-11-21T04:00:00Z",
//!   "chunks": [ "<hex>", { "zeros": 12 }, "<hex>" ] }
//! ```
//!
//! A run of chunks of zeros is one entry, so that a thin disk has a short manifest. `changeId` is the
//! state of the source that the disk holds, `baseChangeId` the one before the last round of changes;
//! `signature` is described in [`sign`].

pub mod sign;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::chunk_map::{Copied, beside, sync_folder};
use crate::digest::{Blake3, CHUNK, root};
use crate::error::{Error, Malformed, Result};
use crate::open::SIZE;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this form: 1.
    pub version: u32,
    /// The source, as the one who ordered the copy named it.
    pub identity: String,
    /// Format of the source.
    pub format: String,
    /// Bytes of the virtual disk.
    pub size: u64,
    /// Algorithm of all digests: `blake3`.
    pub algorithm: String,
    /// Bytes of a chunk.
    pub chunk_size: u64,
    /// Digest over all chunk digests.
    pub root: String,
    /// When the copy was verified, RFC 3339.
    pub created: String,
    /// State of the source that the disk holds, where the source has names for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_id: Option<String>,
    /// State that the last round of changed ranges began from; none after a whole copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_change_id: Option<String>,
    /// Format of the target where it is not raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_format: Option<String>,
    /// Who vouches for all of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<sign::Signature>,
    /// Digests of the chunks in order.
    pub chunks: Vec<Entry>,
}

/// One digest, or a run of chunks of zeros.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Entry {
    /// Hexadecimal digest of one chunk.
    Digest(String),
    /// Chunks that are all zeros.
    Zeros {
        /// How many.
        zeros: u64,
    },
}

/// The largest manifest that is read: a full disk of 64 TiB has 16.8 million chunks.
const BYTES: u64 = 2 << 30;

impl Manifest {
    /// Makes the manifest of a disk of `size` bytes.
    pub fn new(identity: &str, format: &str, size: u64, chunks: &[Copied], now: SystemTime) -> Self {
        let mut entries: Vec<Entry> = Vec::new();
        for chunk in chunks {
            match (chunk.zero, entries.last_mut()) {
                (true, Some(Entry::Zeros { zeros })) => *zeros += 1,
                (true, _) => entries.push(Entry::Zeros { zeros: 1 }),
                (false, _) => entries.push(Entry::Digest(chunk.digest.hex())),
            }
        }
        Self {
            version: 1,
            identity: identity.to_owned(),
            format: format.to_owned(),
            size,
            algorithm: "blake3".into(),
            chunk_size: CHUNK,
            root: root(size, CHUNK, chunks.iter().map(|chunk| &chunk.digest)).hex(),
            created: rfc3339(now),
            change_id: None,
            base_change_id: None,
            target_format: None,
            signature: None,
            chunks: entries,
        }
    }

    /// Reads a manifest; none where there is no file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let unreadable = |source| Error::Source { path: path.display().to_string(), offset: 0, source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let length = file.metadata().map_err(unreadable)?.len();
        if length > BYTES {
            return Err(malformed(path, "manifest", format!("{length} bytes are too many")));
        }
        serde_json::from_reader(BufReader::new(file))
            .map(Some)
            .map_err(|error| malformed(path, "manifest", error.to_string()))
    }

    /// Writes the manifest durably: all of it or nothing.
    pub fn write(&self, path: &Path) -> Result<()> {
        let fresh = beside(path, "new");
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&fresh)?;
            let mut text = serde_json::to_vec_pretty(self)?;
            text.push(b'\n');
            file.write_all(&text)?;
            file.sync_all()?;
            std::fs::rename(&fresh, path)?;
            sync_folder(path)
        };
        write().map_err(|source| Error::Target { path: path.to_owned(), action: "write the manifest".into(), source })
    }

    /// Returns the chunks, after a check of the form, the count and the root; `path` is for messages.
    pub fn chunks(&self, path: &Path) -> Result<Vec<Copied>> {
        if self.version != 1 || self.algorithm != "blake3" || self.chunk_size != CHUNK {
            let what =
                format!("manifest version {} with {} over {} bytes", self.version, self.algorithm, self.chunk_size);
            return Err(Error::Unsupported { path: path.display().to_string(), what });
        }
        // a run of zeros is one short entry: without a bound, 40 bytes of text would fill the memory
        if self.size > SIZE {
            return Err(malformed(path, "size", format!("{} is more than the {SIZE} of any disk", self.size)));
        }
        let count = self.size.div_ceil(CHUNK);
        let zero = Blake3::of_zeros(CHUNK);
        let mut chunks: Vec<Copied> = Vec::new();
        for entry in &self.chunks {
            let room = count.saturating_sub(chunks.len() as u64);
            match entry {
                Entry::Digest(text) if room > 0 => {
                    let digest = Blake3::parse(text)
                        .ok_or_else(|| malformed(path, "chunks", format!("{text:?} is not a digest")))?;
                    chunks.push(Copied { digest, zero: false });
                }
                Entry::Zeros { zeros } if *zeros <= room => {
                    for _ in 0..*zeros {
                        let last = chunks.len() as u64 + 1 == count;
                        let digest = if last { Blake3::of_zeros(self.size - (count - 1) * CHUNK) } else { zero };
                        chunks.push(Copied { digest, zero: true });
                    }
                }
                _ => {
                    return Err(malformed(path, "chunks", format!("there are more than {count}")));
                }
            }
        }
        if chunks.len() as u64 != count {
            return Err(malformed(path, "chunks", format!("there are {}, the disk has {count}", chunks.len())));
        }
        let found = root(self.size, CHUNK, chunks.iter().map(|chunk| &chunk.digest)).hex();
        if found != self.root {
            return Err(malformed(path, "root", format!("is {}, the chunks give {found}", self.root)));
        }
        Ok(chunks)
    }
}

fn malformed(path: &Path, field: &str, reason: String) -> Error {
    Error::Malformed(Malformed { path: path.display().to_string(), offset: 0, field: field.into(), reason })
}

/// Returns the time in RFC 3339, to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // days to a date of the proleptic Gregorian calendar, years counted from March
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_795_219_199), "2026-11-20T23:59:59Z");
    }

    #[test]
    fn survives_the_disk_and_notices_changes() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("disk.img.manifest.json");
        let zero = |length| Copied { digest: Blake3::of_zeros(length), zero: true };
        let data = Copied { digest: Blake3([7; 32]), zero: false };
        let chunks = [zero(CHUNK), zero(CHUNK), data, zero(9)];
        let manifest = Manifest::new("id", "raw", 3 * CHUNK + 9, &chunks, UNIX_EPOCH);
        assert_eq!(manifest.chunks.len(), 3, "zeros are one entry");
        assert_eq!(Manifest::read(&path).expect("no file is no error"), None);
        manifest.write(&path).expect("writes");
        let read = Manifest::read(&path).expect("reads").expect("is there");
        assert_eq!(read, manifest);
        assert_eq!(read.chunks(&path).expect("is whole"), chunks);
        for (change, field) in [
            (Manifest { root: "0".repeat(64), ..manifest.clone() }, "root"),
            (Manifest { size: 99, ..manifest.clone() }, "chunks"),
            (Manifest { size: u64::MAX, chunks: vec![Entry::Zeros { zeros: 1 << 42 }], ..manifest.clone() }, "size"),
            (Manifest { chunks: vec![Entry::Zeros { zeros: u64::MAX }], ..manifest.clone() }, "chunks"),
        ] {
            let error = change.chunks(&path).expect_err("does not fit");
            assert!(error.to_string().contains(field), "{error}");
        }
    }
}
