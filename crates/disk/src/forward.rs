//! A source that can only be read forwards: a gzip stream, a server that knows no ranges.
//!
//! One cursor reads into a window of the last bytes; a read before the window starts the stream
//! again. Formats with tables [pin](Source::pin) these first, in one pass, and the copy engine then
//! reads a disk of a sequential source in order with one reader: three passes over the stream in the
//! worst case, and memory for the window and the tables only.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// How much of what was read stays readable behind the cursor.
const WINDOW: usize = 4 << 20;
/// How much is read at once.
const STEP: usize = 1 << 20;
/// The most that may be pinned: tables of a disk of 1 TiB with 64 KiB grains.
const PINNED: u64 = 64 << 20;

/// The cursor over a stream, its window, and what was pinned.
#[derive(Default)]
pub(crate) struct Forward {
    cursor: Mutex<Option<Cursor>>,
    pinned: Mutex<BTreeMap<u64, Vec<u8>>>,
}

/// A stream, read up to `base + window.len()`.
struct Cursor {
    stream: Box<dyn Read + Send>,
    base: u64,
    window: Vec<u8>,
}

impl Cursor {
    /// Reads the next step; returns false at the end of the stream.
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

impl Forward {
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

    /// Fills `buf` from `offset`; `start` begins the stream, where that is needed.
    pub(crate) fn read_at(
        &self,
        buf: &mut [u8],
        offset: u64,
        start: impl FnOnce() -> io::Result<Box<dyn Read + Send>>,
    ) -> io::Result<()> {
        if self.from_pinned(buf, offset) {
            return Ok(());
        }
        let mut guard = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cursor = match guard.take() {
            Some(cursor) if cursor.base <= offset => cursor,
            _ => Cursor { stream: start()?, base: 0, window: Vec::new() },
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

    /// Keeps ranges that will be read again and again; `read` reads one.
    pub(crate) fn pin(
        &self,
        ranges: &[Range<u64>],
        length: u64,
        read: impl Fn(&mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let total = ranges.iter().map(|range| range.end.saturating_sub(range.start)).fold(0u64, u64::saturating_add);
        if total > PINNED {
            return Err(io::Error::other(format!("{total} bytes of tables in a stream are too many")));
        }
        let mut ranges: Vec<_> = ranges.iter().filter(|range| range.start < range.end && range.end <= length).collect();
        ranges.sort_by_key(|range| range.start);
        for range in ranges {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            read(&mut bytes, range.start)?;
            self.pinned.lock().unwrap_or_else(PoisonError::into_inner).insert(range.start, bytes);
        }
        Ok(())
    }
}
