//! What can go wrong with a disk, one variant per decision that a caller takes.
//!
//! Each error has a stable [code](Error::code) (it ends up in a worker's termination message), a
//! message that names what failed and on what, a [hint](Error::hint) that says what to do next, and
//! whether trying again [may help](Error::retryable).

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of reading, copying or verifying a disk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes of an image, archive or manifest break the rules of their format.
    #[error("{0}")]
    Malformed(Malformed),
    /// The image is well formed and uses something that is not read here.
    #[error("{path}: {what}")]
    Unsupported {
        /// File or archive member.
        path: String,
        /// What is not supported.
        what: String,
    },
    /// The source cannot be opened or read.
    #[error("{path}: cannot read at offset {offset}")]
    Source {
        /// File or archive member.
        path: String,
        /// Offset in it.
        offset: u64,
        /// The system's answer.
        source: io::Error,
    },
    /// The source takes reads and does not answer them.
    #[error("{path}: no answer to a read for {seconds} s")]
    Stalled {
        /// File or archive member.
        path: String,
        /// How long the read hung.
        seconds: u64,
    },
    /// The archive has no such member, or a part of the image is not beside it.
    #[error("{path}: no member {member:?}")]
    MemberNotFound {
        /// Archive or folder.
        path: String,
        /// Name looked for.
        member: String,
    },
    /// The source is not the one that the copy began with.
    #[error("{path}: the source changed: {field} was {was:?}, now {now:?}")]
    SourceChanged {
        /// Target whose copy was begun, or the source that changed during the copy.
        path: String,
        /// What differs: identity, size, stamp.
        field: &'static str,
        /// What was recorded.
        was: String,
        /// What is there now.
        now: String,
    },
    /// The target does not hold the state that a round of changed ranges begins from.
    #[error("{path}: the changes are those since {wanted:?}, the target {found}")]
    BaseMismatch {
        /// Target.
        path: PathBuf,
        /// The state that the round begins from.
        wanted: String,
        /// What the target holds.
        found: String,
    },
    /// The target does not hold what its chunk map or manifest says.
    #[error("{path}: the chunk at offset {offset} is not as it was copied")]
    TargetChanged {
        /// Target.
        path: PathBuf,
        /// Offset of a chunk that differs.
        offset: u64,
    },
    /// A signature is missing, does not fit, or cannot be made.
    #[error("{path}: {reason}")]
    Signature {
        /// Manifest or key.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// An option makes no sense together with what it is used on.
    #[error("{what}")]
    Usage {
        /// What does not fit, and with what.
        what: String,
    },
    /// The bytes of the source do not have the digest that its manifest promises.
    #[error("{path}: {algorithm} digest is {actual}, its manifest says {expected}")]
    DigestMismatch {
        /// File or archive member.
        path: String,
        /// SHA1, SHA256 or SHA512.
        algorithm: &'static str,
        /// Digest of the manifest.
        expected: String,
        /// Digest of the bytes.
        actual: String,
    },
    /// The target cannot be opened, written or made durable.
    #[error("{path}: cannot {action}")]
    Target {
        /// Target file or device, or a file beside it.
        path: PathBuf,
        /// What was tried.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The target's file system is full.
    #[error("{path}: no space: {needed} more bytes needed, {available} available")]
    NoSpace {
        /// Target.
        path: PathBuf,
        /// Bytes that are still to be stored (at most).
        needed: u64,
        /// Bytes that the file system offers.
        available: u64,
    },
    /// The target volume is smaller than the virtual disk.
    #[error("{path}: the target has {have} bytes, the disk needs {needed}")]
    TargetTooSmall {
        /// Target.
        path: PathBuf,
        /// Virtual size of the source.
        needed: u64,
        /// Size of the target.
        have: u64,
    },
    /// Another process copies to the same target.
    #[error("{path}: another copy is writing here")]
    TargetBusy {
        /// Target.
        path: PathBuf,
    },
    /// What was read back is not what was written.
    #[error("{path}: verification failed at offset {offset} (chunk of {length} bytes at {chunk}): {reason}")]
    VerifyFailed {
        /// Target.
        path: PathBuf,
        /// First differing offset; that of the chunk where the source is not at hand.
        offset: u64,
        /// Offset of the chunk that differs.
        chunk: u64,
        /// Its length.
        length: u64,
        /// What was expected and found.
        reason: String,
    },
    /// The caller cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Where and how an image breaks the rules of its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// File or archive member.
    pub path: String,
    /// Offset of the field in it.
    pub offset: u64,
    /// Name of the field, as the format's description has it.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, field, reason } = self;
        write!(f, "{path}: {field} at offset {offset}: {reason}")
    }
}

impl Error {
    /// Returns the stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed",
            Self::Unsupported { .. } => "UnsupportedFormat",
            Self::Source { .. } | Self::MemberNotFound { .. } => "SourceUnreadable",
            Self::Stalled { .. } => "SourceStalled",
            Self::BaseMismatch { .. } => "BaseMismatch",
            Self::TargetChanged { .. } => "TargetChanged",
            Self::Signature { .. } => "SignatureInvalid",
            Self::Usage { .. } => "Usage",
            Self::SourceChanged { .. } => "SourceChanged",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::Target { .. } => "TargetFailed",
            Self::NoSpace { .. } => "NoSpace",
            Self::TargetTooSmall { .. } => "TargetTooSmall",
            Self::TargetBusy { .. } => "TargetBusy",
            Self::VerifyFailed { .. } => "VerifyFailed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Returns what the reader of the message does next.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "export the appliance again: the file is damaged or truncated",
            Self::Unsupported { .. } => {
                "convert the disk first, e.g. qemu-img convert -O qcow2, or export it as streamOptimized VMDK"
            }
            Self::Source { .. } => "check that the source is reachable and that its storage answers",
            Self::MemberNotFound { .. } => {
                "check that the archive or folder is complete and that the names in the descriptor are spelt as its members are"
            }
            Self::SourceChanged { .. } => "start over: bytes of the old and the new source are never mixed",
            Self::Stalled { .. } => {
                "check the source's storage or network, then start again: the copy goes on where it was"
            }
            Self::BaseMismatch { .. } => {
                "give the changes since the state that the target holds, or copy the whole disk (start over)"
            }
            Self::TargetChanged { .. } => {
                "something else wrote to the target, or it is another one: check that, then start over"
            }
            Self::Signature { .. } => {
                "check which key signed and that nobody changed the manifest; keys are PEM files of Ed25519 (openssl genpkey -algorithm ed25519)"
            }
            Self::Usage { .. } => "see --help",
            Self::DigestMismatch { .. } => {
                "download or export the appliance again: its bytes are not those that were packed"
            }
            Self::Target { .. } => "check the target volume: its storage refused",
            Self::NoSpace { .. } => "free space on the target or choose a larger volume, then restart",
            Self::TargetTooSmall { .. } => "choose a target volume at least as large as the virtual disk",
            Self::TargetBusy { .. } => "wait for the other copy to end, or end it",
            Self::VerifyFailed { .. } => "check the target's storage for faults, then restart: the disk is copied anew",
            Self::Cancelled => "start again: the copy goes on where it was",
        }
    }

    /// Returns whether the same call may succeed later without anyone's help.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Source { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            Self::Target { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            Self::SourceChanged { .. } | Self::TargetBusy { .. } | Self::Stalled { .. } | Self::Cancelled => true,
            Self::Malformed(_)
            | Self::Unsupported { .. }
            | Self::MemberNotFound { .. }
            | Self::DigestMismatch { .. }
            | Self::BaseMismatch { .. }
            | Self::TargetChanged { .. }
            | Self::Signature { .. }
            | Self::Usage { .. }
            | Self::NoSpace { .. }
            | Self::TargetTooSmall { .. }
            | Self::VerifyFailed { .. } => false,
        }
    }

    /// Returns the message with its causes, for one line of text.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
