//! A gzip stream as a source: what OVF 1.x calls a compressed reference.
//!
//! A stream can only be read forwards, so one cursor inflates into a window of the last bytes; a
//! read before the window starts the stream again. Formats with tables [pin](Source::pin) these
//! first, in one pass, and the copy engine then reads a disk of a sequential source in order with
//! one reader: three passes over the stream in the worst case, and memory for the window and the
//! tables only.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use flate2::bufread::MultiGzDecoder;

use crate::source::Source;

/// How much of what was inflated stays readable behind the cursor.
const WINDOW: usize = 4 << 20;
/// How much is inflated at once.
const STEP: usize = 1 << 20;
/// The most that may be pinned: tables of a disk of 1 TiB with 64 KiB grains.
const PINNED: u64 = 64 << 20;

/// The inflated bytes of a gzip source.
pub struct GzipSource {
    packed: Arc<dyn Source>,
    name: String,
    length: OnceLock<u64>,
    cursor: Mutex<Option<Cursor>>,
    pinned: Mutex<BTreeMap<u64, Vec<u8>>>,
}

/// The stream, inflated up to `base + window.len()`.
struct Cursor {
    stream: MultiGzDecoder<io::BufReader<Sequential>>,
    base: u64,
    window: Vec<u8>,
}

/// Reads a source from front to back.
struct Sequential {
    source: Arc<dyn Source>,
    at: u64,
    length: u64,
}

impl Read for Sequential {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.length.saturating_sub(self.at).min(buf.len() as u64) as usize;
        let Some(part) = buf.get_mut(..n) else {
            return Ok(0);
        };
        self.source.read_at(part, self.at)?;
        crate::patience::alive();
        self.at += n as u64;
        Ok(n)
    }
}

impl GzipSource {
    /// Wraps a source whose bytes are a gzip stream.
    pub fn new(packed: Arc<dyn Source>) -> Self {
        let name = format!("{} (gzip)", packed.name());
        Self { packed, name, length: OnceLock::new(), cursor: Mutex::default(), pinned: Mutex::default() }
    }

    fn start(&self) -> io::Result<MultiGzDecoder<io::BufReader<Sequential>>> {
        let length = self.packed.len()?;
        let bytes = Sequential { source: self.packed.clone(), at: 0, length };
        Ok(MultiGzDecoder::new(io::BufReader::with_capacity(256 << 10, bytes)))
    }

    fn from_pinned(&self, buf: &mut [u8], offset: u64) -> bool {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((start, bytes)) = pinned.range(..=offset).next_back() else {
            return false;
        };
        let skip = (offset - start) as usize;
        match skip.checked_add(buf.len()).and_then(|end| bytes.get(skip..end)) {
            Some(part) => {
                buf.copy_from_slice(part);
                true
            }
            None => false,
        }
    }
}

impl Cursor {
    /// Inflates the next step; returns false at the end of the stream.
    fn advance(&mut self) -> io::Result<bool> {
        if self.window.len() > WINDOW {
            let gone = self.window.len() - WINDOW / 2;
            self.window.drain(..gone);
            self.base += gone as u64;
        }
        let before = self.window.len();
        (&mut self.stream).take(STEP as u64).read_to_end(&mut self.window)?;
        Ok(self.window.len() > before)
    }
}

impl Source for GzipSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> io::Result<u64> {
        if let Some(length) = self.length.get() {
            return Ok(*length);
        }
        // the trailer's size is modulo 4 GiB: only a pass over the stream knows, and it checks the CRC
        let length = io::copy(&mut self.start()?, &mut io::sink())?;
        Ok(*self.length.get_or_init(|| length))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if self.from_pinned(buf, offset) {
            return Ok(());
        }
        let mut guard = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cursor = match guard.take() {
            Some(cursor) if cursor.base <= offset => cursor,
            _ => Cursor { stream: self.start()?, base: 0, window: Vec::new() },
        };
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let skip = (at - cursor.base).min(cursor.window.len() as u64) as usize;
            let ready = cursor.window.get(skip..).unwrap_or_default();
            if cursor.base + (skip as u64) < at || ready.is_empty() {
                if !cursor.advance()? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            let n = ready.len().min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&ready[..n]);
            done += n;
        }
        *guard = Some(cursor);
        Ok(())
    }

    fn sequential(&self) -> bool {
        true
    }

    fn pin(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        let total: u64 = ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        if total > PINNED {
            return Err(io::Error::other(format!("{total} bytes of tables in a gzip stream are too many")));
        }
        let length = self.len()?;
        let mut ranges: Vec<_> = ranges.iter().filter(|range| range.start < range.end && range.end <= length).collect();
        ranges.sort_by_key(|range| range.start);
        for range in ranges {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            self.read_at(&mut bytes, range.start)?;
            self.pinned.lock().unwrap_or_else(PoisonError::into_inner).insert(range.start, bytes);
        }
        Ok(())
    }

    fn stamp(&self) -> io::Result<String> {
        self.packed.stamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileRange;
    use std::io::Write;

    #[test]
    fn reads_anywhere_even_backwards_and_across_windows() {
        let bytes: Vec<u8> = (0..9_000_000u32).map(|i| (i / 7 % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a temporary file");
        // two members, as `cat a.gz b.gz` makes
        for part in bytes.chunks(5_000_000) {
            let mut packer = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
            packer.write_all(part).expect("packs");
            packer.finish().expect("packs");
        }
        let packed = FileRange::whole(Arc::new(file), "a.gz".into()).expect("opens");
        let source = GzipSource::new(Arc::new(packed));
        assert_eq!(source.len().expect("length"), 9_000_000);
        source.pin(&[8_999_000..9_000_000, 10..20]).expect("pins");
        for offset in [0usize, 15, 8_999_500, 4_999_990, 4_000_000, 8_900_000, 1] {
            let mut buf = vec![0; 500];
            source.read_at(&mut buf, offset as u64).expect("reads");
            assert_eq!(buf, bytes[offset..offset + 500], "offset {offset}");
        }
        let error = source.read_at(&mut [0; 10], 8_999_995).expect_err("past the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
