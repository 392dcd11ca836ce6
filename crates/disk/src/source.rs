//! Where the bytes of an image come from: positioned reads over a byte range.
//!
//! ```text
//! file      [....................................]      FileRange
//! archive   [ hdr | member bytes ...... | hdr |..]      Part { start: after hdr, length: member }
//! gzip      [ any of them ] ──inflate──► bytes          gzip::GzipSource
//! ```
//!
//! [`Input`] is what the formats read from: it checks bounds (a read past the end names the field
//! and is [`Malformed`], not an I/O error), tries transient errors again and counts the bytes read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Advice, SeekFrom};

use crate::error::{Error, Malformed, Result};
use crate::remote::Changed;

/// Positioned, thread-safe reads over a range of bytes.
pub trait Source: Send + Sync {
    /// Returns the name that errors show: the path, or `archive(member)`.
    fn name(&self) -> &str;

    /// Returns how many bytes there are.
    fn len(&self) -> io::Result<u64>;

    /// Returns whether there are no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buf` from `offset`; fewer bytes are an error.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Returns whether reads in ascending order are the only cheap ones.
    fn sequential(&self) -> bool {
        false
    }

    /// Announces ranges that will be read again and again, ascending and apart.
    fn pin(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        let _ = ranges;
        Ok(())
    }

    /// Returns the data range at or after `offset`, where the source knows its holes.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let length = self.len()?;
        Ok((offset < length).then_some(offset..length))
    }

    /// Returns what changes when the bytes change: size and time of the file beneath.
    fn stamp(&self) -> io::Result<String>;
}

/// A file or block device.
#[derive(Debug)]
pub struct FileRange {
    file: Arc<File>,
    name: String,
    length: u64,
}

impl FileRange {
    /// Returns the whole of a file or block device.
    pub fn whole(file: Arc<File>, name: String) -> io::Result<Self> {
        let length = file_length(&file)?;
        Ok(Self { file, name, length })
    }
}

impl Source for FileRange {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.length {
            return Ok(None);
        }
        let end = self.length;
        let data = match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) if data >= end => return Ok(None),
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // a device or file system that does not tell: all is data
            Err(_) => return Ok(Some(offset..self.length)),
        };
        let hole = rustix::fs::seek(&self.file, SeekFrom::Hole(data)).unwrap_or(end).clamp(data, end);
        Ok(Some(data..hole))
    }

    fn stamp(&self) -> io::Result<String> {
        let meta = self.file.metadata()?;
        Ok(format!("{}:{}.{:09}", meta.len(), meta.mtime(), meta.mtime_nsec()))
    }
}

/// A range of another source: a member of an archive.
pub struct Part {
    whole: Arc<dyn Source>,
    name: String,
    start: u64,
    length: u64,
}

impl Part {
    /// Returns `length` bytes of `whole` from `start`; the caller knows that they lie within.
    pub fn new(whole: Arc<dyn Source>, name: String, start: u64, length: u64) -> Self {
        Self { whole, name, start, length }
    }
}

impl Source for Part {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.length)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.whole.read_at(buf, self.start + offset)
    }

    fn sequential(&self) -> bool {
        self.whole.sequential()
    }

    fn pin(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        let shifted = ranges.iter().map(|range| range.start + self.start..range.end + self.start);
        self.whole.pin(&shifted.collect::<Vec<_>>())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset >= self.length {
            return Ok(None);
        }
        let end = self.start + self.length;
        let data = self.whole.next_data(self.start + offset)?.filter(|data| data.start < end);
        Ok(data.map(|data| data.start.max(self.start) - self.start..data.end.min(end) - self.start))
    }

    fn stamp(&self) -> io::Result<String> {
        self.whole.stamp()
    }
}

/// Returns the length of a file or block device.
pub(crate) fn file_length(file: &File) -> io::Result<u64> {
    use std::os::unix::fs::FileTypeExt;
    let meta = file.metadata()?;
    if meta.file_type().is_block_device() {
        return Ok(rustix::fs::seek(file, SeekFrom::End(0))?);
    }
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(meta.len())
}

/// A source as the formats use it.
#[derive(Clone)]
pub struct Input {
    source: Arc<dyn Source>,
    length: u64,
    read: Arc<AtomicU64>,
}

impl Input {
    /// Wraps a source; `read` counts the bytes read.
    pub fn new(source: Arc<dyn Source>, read: Arc<AtomicU64>) -> Result<Self> {
        let length = source.len().map_err(|error| failed(source.name(), 0, error))?;
        Ok(Self { source, length, read })
    }

    /// Returns the name for messages.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// Returns the number of bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the source itself.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Returns the counter of bytes read, to be shared with parts of the same disk.
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.read.clone()
    }

    /// Returns an error that names the field and what is wrong with it.
    pub fn malformed(&self, offset: u64, field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Malformed(Malformed { path: self.name().to_owned(), offset, field: field.into(), reason: reason.into() })
    }

    /// Returns an error that names what is not read here.
    pub fn unsupported(&self, what: impl Into<String>) -> Error {
        Error::Unsupported { path: self.name().to_owned(), what: what.into() }
    }

    /// Fails unless `length` bytes of `field` lie at `offset`.
    pub fn check(&self, offset: u64, length: u64, field: &str) -> Result<()> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(self.malformed(
                offset,
                field,
                format!("{length} bytes do not fit: the file ends at {} (truncated?)", self.length),
            )),
        }
    }

    /// Fills `buf` with the bytes of `field` at `offset`.
    pub fn read(&self, buf: &mut [u8], offset: u64, field: &str) -> Result<()> {
        self.check(offset, buf.len() as u64, field)?;
        crate::patience::retry(self.name(), offset, || self.source.read_at(buf, offset))
            .map_err(|error| failed(self.name(), offset, error))?;
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Returns the data range at or after `offset`, where the source knows its holes.
    pub fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        self.source.next_data(offset).map_err(|error| failed(self.name(), offset, error))
    }

    /// Returns the bytes of `field`, at most `limit` of them.
    pub fn read_vec(&self, offset: u64, length: u64, limit: u64, field: &str) -> Result<Vec<u8>> {
        self.check(offset, length, field)?;
        if length > limit {
            return Err(self.malformed(offset, field, format!("{length} bytes are more than the {limit} allowed")));
        }
        let mut bytes = vec![0; length as usize];
        self.read(&mut bytes, offset, field)?;
        Ok(bytes)
    }
}

/// Returns the error of a read of the source `name`.
pub(crate) fn failed(name: &str, offset: u64, error: io::Error) -> Error {
    let path = name.to_owned();
    if error.get_ref().is_some_and(|inner| inner.is::<Changed>()) {
        return match error.downcast::<Changed>() {
            Ok(Changed { field, was, now }) => Error::SourceChanged { path, field, was, now },
            Err(source) => Error::Source { path, offset, source },
        };
    }
    match error.kind() {
        // a stream that is not what it should be: reading it again gives the same
        io::ErrorKind::InvalidData => {
            Error::Malformed(Malformed { path, offset, field: "stream".into(), reason: error.to_string() })
        }
        _ => Error::Source { path, offset, source: error },
    }
}

/// Tells the system that a file will be read from front to back.
pub(crate) fn advise_sequential(file: &File) {
    // only a hint: nothing depends on it
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Sequential);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Fails the first reads with the given errors.
    struct Flaky(Mutex<Vec<i32>>);

    impl Source for Flaky {
        fn name(&self) -> &str {
            "flaky"
        }
        fn len(&self) -> io::Result<u64> {
            Ok(100)
        }
        fn read_at(&self, buf: &mut [u8], _offset: u64) -> io::Result<()> {
            match self.0.lock().expect("no test panics with it").pop() {
                Some(code) => Err(io::Error::from_raw_os_error(code)),
                None => {
                    buf.fill(7);
                    Ok(())
                }
            }
        }
        fn stamp(&self) -> io::Result<String> {
            Ok(String::new())
        }
    }

    fn read(errors: Vec<i32>) -> Result<u8> {
        let input = Input::new(Arc::new(Flaky(Mutex::new(errors))), Arc::default())?;
        let mut byte = [0];
        input.read(&mut byte, 3, "byte")?;
        Ok(byte[0])
    }

    #[test]
    fn transient_errors_are_tried_again() {
        assert_eq!(read(vec![libc::EIO, libc::EINTR, libc::ETIMEDOUT]).expect("succeeds in the end"), 7);
    }

    #[test]
    fn lasting_errors_name_source_and_offset() {
        let error = read(vec![libc::EACCES]).expect_err("no second try");
        assert_eq!(error.chain(), "flaky: cannot read at offset 3: Permission denied (os error 13)");
        assert!(!error.retryable());
        let error = read(vec![libc::EIO, libc::ENOSPC, libc::EIO]).expect_err("the second error is for good");
        assert_eq!(error.code(), "SourceUnreadable");
    }

    #[test]
    fn reads_past_the_end_name_the_field() {
        let input = Input::new(Arc::new(Flaky(Mutex::default())), Arc::default()).expect("opens");
        for offset in [97, 101, u64::MAX] {
            let error = input.read(&mut [0; 4], offset, "grain").expect_err("past the end");
            assert_eq!(error.code(), "Malformed");
            assert!(error.to_string().contains(&format!("grain at offset {offset}")), "{error}");
        }
    }
}
