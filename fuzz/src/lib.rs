//! What the fuzz targets share: images in memory, and a reader that behaves as a copy does.
//!
//! A target takes bytes, opens them as its format and reads what there is. A finding is a panic, an
//! overflow (the build checks them), a read that takes longer than ten seconds, or memory beyond
//! 512 MiB; an error is none.

use std::io;
use std::sync::Arc;

use forklift_disk::extents::Extents;
use forklift_disk::open::Options;
use forklift_disk::source::Source;
use forklift_disk::{Disk, Error, Format};

/// Bytes in memory as a source.
pub struct Memory(pub Vec<u8>);

impl Source for Memory {
    fn name(&self) -> &str {
        "input"
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let part = start.checked_add(buf.len()).and_then(|end| self.0.get(start..end));
        buf.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn stamp(&self) -> io::Result<String> {
        Ok(String::new())
    }
}

/// Opens bytes as a disk and reads its start, its end and ranges between, aligned and not.
pub fn read_disk(bytes: Vec<u8>, format: Option<Format>, gzip: bool) {
    let options = Options { format, gzip, ..Options::default() };
    match Disk::over(Arc::new(Memory(bytes)), &options) {
        Ok(disk) => read_ranges(&disk),
        Err(error) => check_error(&error),
    }
}

/// Reads ranges of an open disk.
pub fn read_ranges(disk: &Disk) {
    const STEP: u64 = 256 << 10;
    let mut buf = vec![0; STEP as usize];
    let mut extents = Extents::default();
    let size = disk.size();
    for at in [0, STEP, 2 * STEP + 1, size / 2, size.saturating_sub(STEP), size.saturating_sub(513)] {
        let at = at.min(size);
        let length = STEP.min(size - at) as usize;
        extents.clear();
        match disk.image().extents(at..at + length as u64, &mut extents) {
            Ok(()) => {
                let mut next = at;
                for extent in extents.as_slice() {
                    assert_eq!(extent.start, next, "extents touch each other");
                    next = extent.end();
                }
                assert_eq!(next, at + length as u64, "extents cover the range");
            }
            Err(error) => check_error(&error),
        }
        if let Err(error) = disk.image().read_at(&mut buf[..length], at) {
            check_error(&error);
        }
    }
    let _ = disk.image().details();
}

/// Every error names something and says what to do.
pub fn check_error(error: &Error) {
    assert!(!error.chain().is_empty() && !error.hint().is_empty());
    if let Error::Malformed(place) = error {
        assert!(!place.path.is_empty() && !place.field.is_empty() && !place.reason.is_empty());
    }
}

/// Lends `work` a file with these bytes, in memory where the system has a place for it.
pub fn with_file(bytes: &[u8], work: impl FnOnce(&std::path::Path)) {
    use std::path::Path;
    let base = Some(Path::new("/dev/shm")).filter(|path| path.is_dir()).map(Path::to_owned);
    let folder = tempfile::tempdir_in(base.unwrap_or_else(std::env::temp_dir)).expect("a folder");
    let path = folder.path().join("input");
    std::fs::write(&path, bytes).expect("writes the input");
    work(&path);
}
