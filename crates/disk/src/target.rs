//! Where a disk is copied to: a sparse file, a block device, or what else implements [`Sink`].

mod file;
mod nbd;
mod qcow2;
mod zero;

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::image::Format;
use crate::location::Location;
use crate::open::Disk;
use crate::remote::Access;

pub use file::FileTarget;
pub use nbd::NbdTarget;
pub use qcow2::Qcow2Target;

/// What the copy engine writes to. Calls with an offset may come from several threads.
///
/// Order: `prepare` once; then writes, zeros and syncs; `finish` once all is durable; `read_back`.
/// After a crash the next run begins with `prepare` again.
pub trait Sink: Send + Sync {
    /// Returns the path for messages.
    fn path(&self) -> &Path;

    /// Gives the target its size; `anew` drops what it holds.
    fn prepare(&mut self, size: u64, anew: bool) -> Result<()> {
        let _ = (size, anew);
        Ok(())
    }

    /// Returns what tells this target from one that took its place (inode, device number), else 0.
    fn tag(&self) -> u64 {
        0
    }

    /// Writes all bytes at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeros, without storing them where that is possible.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes all that was written durable, so that a new process reads it after a crash.
    fn sync(&self) -> io::Result<()>;

    /// Returns how many more bytes can be stored, where that is known.
    fn available(&self) -> Option<u64>;

    /// Returns whether all that was never written reads as zeros.
    fn starts_zeroed(&self) -> bool;

    /// Fills `buf` with what the target holds; [`io::ErrorKind::Unsupported`] where it cannot be read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let _ = (buf, offset);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Completes the target (tables, headers) once all is written and durable.
    fn finish(&self) -> io::Result<()> {
        Ok(())
    }

    /// Opens what was written for the verification, past all caches; none for raw bytes at `path`.
    fn read_back(&self) -> Result<Option<Disk>> {
        Ok(None)
    }
}

/// How the target volume is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Volume {
    /// A file that is made, and has the size of the disk.
    #[default]
    File,
    /// A block device (or a file that stands for one): it exists and may be larger.
    Device,
}

/// Opens a target for a disk of `size` bytes: a file, a device, or a URL of NBD; raw or qcow2.
pub fn open(path: &Path, volume: Volume, format: Format, access: &Access, size: u64) -> Result<Box<dyn Sink>> {
    let unsupported = |what: String| Err(Error::Unsupported { path: path.display().to_string(), what });
    match (Location::of(path)?, format) {
        (Location::File(path), Format::Raw) => Ok(Box::new(FileTarget::open(&path, volume, size)?)),
        (Location::File(path), Format::Qcow2) if volume == Volume::File => {
            Ok(Box::new(Qcow2Target::open(&path, size)?))
        }
        (Location::Nbd(uri), Format::Raw) => Ok(Box::new(NbdTarget::open(&uri, access, size)?)),
        (Location::Http(_), _) => unsupported("an HTTP server is no target".into()),
        (_, format) => unsupported(format!("{format} is not written there; raw is, and qcow2 as a file")),
    }
}
