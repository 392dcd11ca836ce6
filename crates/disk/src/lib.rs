//! Disks: what formats hold, and how a disk gets from its source to a target, whole.
//!
//! This crate knows nothing of Kubernetes or of Forklift. Bytes flow like this:
//!
//! ```text
//! archive/file ─► source ─► [gzip] ─► format (raw, qcow2, vmdk, …) ─► copy ─► target
//!                                          │                           │ ▲
//!                                       extents                chunk map │ resume
//!                                                                      ▼
//!                                                   verify ◄── chunk digests ──► manifest
//! ```
//!
//! Start reading at [`job`] (the whole way of one disk), then [`copy`] (the engine) and [`image`]
//! (what every format offers). What holds everywhere:
//!
//! - a chunk is marked as copied only after its bytes are durable;
//! - a number read from an image is never used before it was compared with what is there;
//! - memory does not grow with the size of the disk, apart from 40 bytes for each chunk of 4 MiB
//!   and the first level of the formats' tables.

pub mod archive;
mod cache;
pub mod cancel;
pub mod changed;
pub mod chunk_map;
pub mod cli;
pub mod copy;
pub mod digest;
mod direct;
pub mod error;
pub mod extents;
pub mod format;
mod forward;
pub mod gzip;
pub mod http;
pub mod image;
mod inflate;
pub mod job;
pub mod limit;
pub mod location;
pub mod manifest;
pub mod nbd;
pub mod open;
pub mod patience;
pub mod place;
mod probe;
pub mod progress;
pub mod remote;
pub mod source;
pub mod stream;
pub mod target;
pub mod verify;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use image::{Format, Image};
pub use job::{Job, Origin, Outcome, Phase, Resume, Watch};
pub use manifest::Manifest;
pub use open::Disk;
