//! An NBD export as a target: what a hypervisor, qemu-nbd or nbdkit lets us write to.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::Format;
use crate::nbd::{Client, Uri};
use crate::open::{Disk, Options};
use crate::remote::Access;

use super::Sink;

/// An export that is written.
pub struct NbdTarget {
    client: Client,
    path: PathBuf,
    access: Access,
    zeroed: bool,
}

impl NbdTarget {
    /// Connects to an export that holds a disk of `size` bytes.
    pub fn open(uri: &Uri, access: &Access, size: u64) -> Result<Self> {
        let path = PathBuf::from(uri.to_string());
        let client = Client::connect(uri, access).map_err(|error| match error {
            Error::Source { source, .. } => {
                Error::Target { path: path.clone(), action: "connect to the server".into(), source }
            }
            other => other,
        })?;
        if client.export().read_only() {
            let source = io::ErrorKind::ReadOnlyFilesystem.into();
            return Err(Error::Target { path, action: "write: the export is read-only".into(), source });
        }
        if client.export().size < size {
            return Err(Error::TargetTooSmall { path, needed: size, have: client.export().size });
        }
        Ok(Self { client, path, access: access.clone(), zeroed: false })
    }
}

impl Sink for NbdTarget {
    fn path(&self) -> &Path {
        &self.path
    }

    fn prepare(&mut self, size: u64, anew: bool) -> Result<()> {
        // a new export is one hole, as its server says: zeros need not be written then
        self.zeroed = anew && self.client.reads_as_zeros(size);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.client.write_at(bytes, offset)
    }

    fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        self.client.zero(offset, length, false)
    }

    fn sync(&self) -> io::Result<()> {
        self.client.flush()
    }

    fn available(&self) -> Option<u64> {
        None
    }

    fn starts_zeroed(&self) -> bool {
        self.zeroed
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.client.read_at(buf, offset)
    }

    fn read_back(&self) -> Result<Option<Disk>> {
        let options = Options { format: Some(Format::Raw), access: self.access.clone(), ..Options::default() };
        Disk::open(&self.path, &options).map(Some)
    }
}
