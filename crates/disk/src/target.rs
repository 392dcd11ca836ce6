//! Where a disk is copied to: a sparse file or a block device.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::direct::Direct;
use crate::error::{Error, Result};
use crate::source::file_length;

/// What the copy engine writes to. All calls are positioned and may come from several threads.
pub trait Sink: Send + Sync {
    /// Returns the path for messages.
    fn path(&self) -> &Path;

    /// Writes all bytes at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes a range read as zeros, without storing them where that is possible.
    fn zero(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;

    /// Returns how many more bytes can be stored, where that is known.
    fn available(&self) -> Option<u64>;

    /// Returns whether all that was never written reads as zeros.
    fn starts_zeroed(&self) -> bool;
}

/// How the target volume is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// A file that is made, and has the size of the disk.
    File,
    /// A block device (or a file that stands for one): it exists and may be larger.
    Device,
}

/// A file or device, locked against a second copy.
///
/// Aligned writes go past the page cache where the file system lets them: see `direct.rs`.
#[derive(Debug)]
pub struct FileTarget {
    file: File,
    direct: Option<Direct>,
    path: PathBuf,
    volume: Volume,
    zeroed: bool,
}

impl FileTarget {
    /// Opens the target for a disk of `size` bytes; what it holds is not touched yet.
    pub fn open(path: &Path, volume: Volume, size: u64) -> Result<Self> {
        let failed = |action: &str, source| Error::Target { path: path.to_owned(), action: action.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(volume == Volume::File)
            .truncate(false)
            .open(path)
            .map_err(|error| failed("open for writing", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::TargetBusy { path: path.to_owned() });
            }
            // a file system without locks
            Err(TryLockError::Error(error)) => {
                tracing::debug!(%error, "the target cannot be locked")
            }
        }
        if volume == Volume::Device {
            let have = file_length(&file).map_err(|error| failed("find the size", error))?;
            if have < size {
                return Err(Error::TargetTooSmall { path: path.to_owned(), needed: size, have });
            }
        }
        Ok(Self {
            direct: Direct::open(path, OpenOptions::new().write(true)),
            file,
            path: path.to_owned(),
            volume,
            zeroed: false,
        })
    }

    /// Returns the inode that a chunk map is tied to; 0 for a device.
    pub fn inode(&self) -> u64 {
        match self.volume {
            Volume::File => self.file.metadata().map_or(0, |meta| meta.ino()),
            Volume::Device => 0,
        }
    }

    /// Gives the file its size; `anew` drops what it holds.
    pub fn prepare(&mut self, size: u64, anew: bool) -> Result<()> {
        if self.volume == Volume::Device {
            return Ok(());
        }
        let resize = || {
            if anew {
                self.file.set_len(0)?;
            }
            self.file.set_len(size)?;
            self.file.sync_all()
        };
        resize().map_err(|source| Error::Target {
            path: self.path.clone(),
            action: format!("give it a size of {size} bytes"),
            source,
        })?;
        self.zeroed = anew;
        Ok(())
    }
}

impl Sink for FileTarget {
    fn path(&self) -> &Path {
        &self.path
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Some(direct) = &self.direct
            && direct.write_at(bytes, offset)?
        {
            return Ok(());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        for flags in [FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, FallocateFlags::ZERO_RANGE] {
            match rustix::fs::fallocate(&self.file, flags, offset, length) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let zeros = vec![0; (256 << 10).min(length as usize)];
        let end = offset.saturating_add(length);
        let mut at = offset;
        while at < end {
            let step = (zeros.len() as u64).min(end - at);
            self.file.write_all_at(zeros.get(..step as usize).unwrap_or_default(), at)?;
            at += step;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn available(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.file).ok()?;
        (self.volume == Volume::File).then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn starts_zeroed(&self) -> bool {
        self.zeroed
    }
}
