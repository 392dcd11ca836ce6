//! Digests: BLAKE3 of a disk by chunks, and the digests that OVF manifests have.
//!
//! ```text
//! chunk digest   BLAKE3 of the chunk's bytes, 4 MiB each, the last one shorter
//! root           BLAKE3 of: size (8 bytes, little endian), chunk size (8 bytes), all chunk digests
//! ```
//!
//! Anyone can check a chunk with `dd` and `b3sum`. The digest of a chunk of zeros is computed once.

use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::source::{Input, Source};
use std::sync::Arc;

/// Bytes of a chunk.
pub const CHUNK: u64 = 4 << 20;

/// A BLAKE3 digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Blake3(pub [u8; 32]);

impl Blake3 {
    /// Returns the digest in hexadecimal.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Parses 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }

    /// Returns the digest of `length` zeros.
    pub fn of_zeros(length: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        update_zeros(&mut hasher, length);
        Self(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Display for Blake3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

/// Feeds zeros.
pub(crate) fn update_zeros(hasher: &mut blake3::Hasher, mut length: u64) {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    while length > 0 {
        let step = length.min(ZEROS.len() as u64);
        hasher.update(ZEROS.get(..step as usize).unwrap_or_default());
        length -= step;
    }
}

/// Returns the root of a disk of `size` bytes with these chunk digests.
pub fn root<'a>(size: u64, chunk: u64, digests: impl Iterator<Item = &'a Blake3>) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    hasher.update(&chunk.to_le_bytes());
    for digest in digests {
        hasher.update(&digest.0);
    }
    Blake3(*hasher.finalize().as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest algorithm of OVF manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1, the first OVF versions.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// Parses a manifest's name of the algorithm: `SHA256`, `sha-256`.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().replace('-', "").as_str() {
            "SHA1" => Some(Self::Sha1),
            "SHA256" => Some(Self::Sha256),
            "SHA512" => Some(Self::Sha512),
            _ => None,
        }
    }

    /// Returns the manifest's name of the algorithm.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }
}

/// Compares the digest of all stored bytes with the one that the appliance's manifest promises.
pub fn check_stored(stored: &Arc<dyn Source>, algorithm: Algorithm, expected: &str, cancel: &Cancel) -> Result<()> {
    let actual = match algorithm {
        Algorithm::Sha1 => stored_digest::<Sha1>(stored, cancel)?,
        Algorithm::Sha256 => stored_digest::<Sha256>(stored, cancel)?,
        Algorithm::Sha512 => stored_digest::<Sha512>(stored, cancel)?,
    };
    if actual.eq_ignore_ascii_case(expected.trim()) {
        return Ok(());
    }
    Err(Error::DigestMismatch {
        path: stored.name().to_owned(),
        algorithm: algorithm.name(),
        expected: expected.trim().to_ascii_lowercase(),
        actual,
    })
}

fn stored_digest<D: sha2::Digest>(stored: &Arc<dyn Source>, cancel: &Cancel) -> Result<String> {
    const STEP: u64 = 512 << 10;
    let input = Input::new(stored.clone(), Arc::default())?;
    let mut hasher = D::new();
    let mut buf = vec![0; STEP as usize];
    let mut at = 0;
    while at < input.length() {
        cancel.check()?;
        let length = STEP.min(input.length() - at);
        let part = buf.get_mut(..length as usize).unwrap_or_default();
        input.read(part, at, "stored bytes")?;
        hasher.update(&*part);
        at += length;
    }
    Ok(hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_the_digest_of_zeros() {
        for length in [0, 1, 65_536, 200_000] {
            assert_eq!(Blake3::of_zeros(length).0, *blake3::hash(&vec![0; length as usize]).as_bytes());
        }
        let digest = Blake3::of_zeros(5);
        assert_eq!(Blake3::parse(&digest.hex()), Some(digest));
        assert_eq!(Blake3::parse("00"), None);
    }

    #[test]
    fn names_of_algorithms() {
        assert_eq!(Algorithm::parse("sha-256"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::parse("SHA1").map(Algorithm::name), Some("SHA1"));
        assert_eq!(Algorithm::parse("MD5"), None);
    }
}
