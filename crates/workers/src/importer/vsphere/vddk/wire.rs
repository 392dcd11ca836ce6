//! What the importer and the process with the library say to each other: a line of JSON each, over a socket. Bytes of
//! the disk go through shared memory.

use serde::{Deserialize, Serialize};

/// Bytes of one read at most, and of its place in the shared memory: a multiple of every page.
pub(super) const SLOT: u64 = 2 << 20;
/// Places in the shared memory, and so reads at once.
pub(super) const SLOTS: usize = 8;
/// Bytes of a sector, in which the library counts.
pub(super) const SECTOR: u64 = 512;

/// What to open. The first line; it is never shown, because it holds the password.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::importer::vsphere) struct Open {
    /// Folder of the distribution.
    pub folder: String,
    /// Configuration file of the library.
    pub config: Option<String>,
    /// Host of the server, without a port.
    pub server: String,
    /// Port, where it is not 443.
    pub port: u32,
    pub user: String,
    pub password: String,
    /// SHA-1 thumbprint of the server's certificate, upper case with colons.
    pub thumbprint: String,
    /// `moref=vm-42`.
    pub vm: String,
    /// Reference of the snapshot; none for the VM's own disk.
    pub snapshot: Option<String>,
    /// `[datastore] folder/file.vmdk`.
    pub file: String,
    /// Ways to the bytes, by colons in the order in which the library tries them: `nbdssl`.
    pub transports: String,
}

/// What the disk is, or why it cannot be opened. The answer to [`Open`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Opened {
    /// Bytes of the disk.
    pub size: u64,
    /// The way that the library chose.
    pub transport: String,
    /// Whether reads are asynchronous.
    pub asynchronous: bool,
    pub error: Option<Failure>,
}

/// A call of the library that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failure {
    /// The function, or what was tried.
    pub call: String,
    /// The library's number; 0 for errors of ours.
    pub code: u64,
    pub text: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.call, self.text)?;
        if self.code == 0 { Ok(()) } else { write!(f, " (VDDK error {})", self.code) }
    }
}

/// A question about the open disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Ask {
    /// Read `length` bytes at `offset` into a place of the shared memory; both are multiples of a sector.
    Read { id: u64, slot: usize, offset: u64, length: u64 },
    /// Say which parts of the disk were ever written.
    Allocated { id: u64 },
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Start and length in bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocated: Vec<(u64, u64)>,
}
