//! A raw file or block device.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::direct::Direct;
use crate::error::{Error, Result};
use crate::source::file_length;

use super::zero::Zeroer;
use super::{Sink, Volume};

/// A file or device, locked against a second copy.
///
/// Aligned writes go past the page cache where the file system lets them: see `direct.rs`.
#[derive(Debug)]
pub struct FileTarget {
    file: File,
    direct: Option<Direct>,
    zeroer: Zeroer,
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
            direct: Direct::open(path, OpenOptions::new().read(true).write(true)),
            zeroer: Zeroer::new(&file),
            file,
            path: path.to_owned(),
            volume,
            zeroed: false,
        })
    }

    /// Writes through the page cache: for measurements.
    pub fn without_direct(mut self) -> Self {
        self.direct = None;
        self
    }
}

impl Sink for FileTarget {
    fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&mut self, size: u64, anew: bool) -> Result<()> {
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

    fn tag(&self) -> u64 {
        let Ok(meta) = self.file.metadata() else {
            return 0;
        };
        if meta.file_type().is_block_device() { meta.rdev() } else { meta.ino() }
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
        self.zeroer.zero(&self.file, offset, length)
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

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.direct {
            Some(direct) if direct.read_at(buf, offset)? => Ok(()),
            _ => self.file.read_exact_at(buf, offset),
        }
    }
}
