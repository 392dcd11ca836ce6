//! NBD, the network block device: disks that nbdkit, qemu-nbd or a hypervisor exports.
//!
//! ```text
//! worker ─► Client ─► a free connection (one, or several where the server allows it) ─► server
//!              └─ reconnects: reads go on; writes only where nothing is lost
//! ```
//!
//! The client speaks the fixed newstyle handshake with `GO` (older servers: `EXPORT_NAME`), TLS,
//! structured and simple replies, and `base:allocation`. Each read is cut into requests that are sent
//! ahead, so that one connection is busy while the server reads. A server is not trusted: what it
//! answers is compared with what was asked, and a reply that leaves bytes out is an error.
//!
//! [`serve`] is the other side: a disk, read-only, for programs that understand NBD (libguestfs, QEMU).

mod blocks;
pub mod serve;
mod stream;
mod uri;
mod wire;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use rustls::ClientConfig;

use crate::error::{Error, Result};
use crate::remote::{Access, changed};
use crate::source::Source;

use stream::Stream;
use wire::{Command, Connection, flag};

pub use uri::{Address, Uri};
pub use wire::Export;

/// Connections to a server that allows several.
const CONNECTIONS: usize = 8;
/// Bytes of one request; more of them are under way at once.
const REQUEST: usize = 256 << 10;
/// Pauses before the second, third … connection.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(3)];
/// Zeros are written in steps of this many bytes.
const ZEROES: u64 = 1 << 30;

/// A client of one export; calls come from several threads.
pub struct Client {
    uri: Uri,
    name: String,
    tls: Option<Arc<ClientConfig>>,
    export: Export,
    slots: Vec<Mutex<Option<Connection<Stream>>>>,
    /// How many of them the server takes.
    usable: AtomicUsize,
    turn: AtomicUsize,
    /// Bytes that are written and not flushed: lost if the server goes away.
    unflushed: AtomicU64,
    /// A connection went away while there were such bytes.
    lost: AtomicBool,
}

/// Returns whether the server answered: the connection is in step, and the same answer would come again.
fn answered(error: &io::Error) -> bool {
    let codes = [libc::EPERM, libc::EIO, libc::ENOMEM, libc::EINVAL, libc::ENOSPC, libc::EOVERFLOW, libc::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Returns whether another connection cannot help.
fn final_error(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::Unsupported | ErrorKind::PermissionDenied)
        || error.get_ref().is_some_and(|inner| inner.is::<crate::remote::Changed>())
}

impl Client {
    /// Connects to an export.
    pub fn connect(uri: &Uri, access: &Access) -> Result<Self> {
        let name = uri.to_string();
        let failed = |source| Error::Source { path: name.clone(), offset: 0, source };
        let tls = if uri.tls { Some(access.tls().map_err(failed)?) } else { None };
        let first = stream::connect(uri, tls.as_ref()).map_err(|error| match error.kind() {
            ErrorKind::Unsupported => Error::Unsupported { path: name.clone(), what: error.to_string() },
            _ => failed(error),
        })?;
        let export = first.export();
        let count = if export.multi_conn() { CONNECTIONS } else { 1 };
        let mut slots: Vec<Mutex<Option<Connection<Stream>>>> = vec![Mutex::new(Some(first))];
        slots.resize_with(count, Mutex::default);
        Ok(Self {
            uri: uri.clone(),
            name,
            tls,
            export,
            usable: AtomicUsize::new(slots.len()),
            slots,
            turn: AtomicUsize::new(0),
            unflushed: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        })
    }

    /// Returns what was negotiated.
    pub fn export(&self) -> Export {
        self.export
    }

    /// Returns the URI, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits for a connection; a free one first, else whose turn it is.
    fn slot(&self) -> (usize, MutexGuard<'_, Option<Connection<Stream>>>) {
        let usable = self.usable.load(Ordering::Relaxed).clamp(1, self.slots.len());
        let mut idle = None;
        for (index, slot) in self.slots.iter().enumerate().take(usable) {
            match slot.try_lock() {
                Ok(guard) if guard.is_some() => return (index, guard),
                Ok(guard) => idle = idle.or(Some((index, guard))),
                Err(TryLockError::Poisoned(guard)) => return (index, guard.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        if let Some(found) = idle {
            return found;
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % usable;
        (turn, self.slots[turn].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether the first connection is there: then one more is not a matter of life.
    fn alive(&self) -> bool {
        match self.slots[0].try_lock() {
            Ok(slot) => slot.is_some(),
            Err(_) => true,
        }
    }

    fn reconnect(&self) -> io::Result<Connection<Stream>> {
        let connection = stream::connect(&self.uri, self.tls.as_ref())?;
        let now = connection.export();
        if now.size != self.export.size {
            return Err(changed("size", self.export.size.to_string(), now.size.to_string()));
        }
        if now != self.export {
            return Err(changed("export", format!("{:?}", self.export), format!("{now:?}")));
        }
        Ok(connection)
    }

    /// Does something on a connection, on a new one if it breaks; `work` may be done again.
    fn with<T>(&self, mut work: impl FnMut(&mut Connection<Stream>) -> io::Result<T>) -> io::Result<T> {
        let mut pauses = PAUSES.iter();
        loop {
            let (index, mut slot) = self.slot();
            let further = slot.is_none() && index > 0;
            let result = match slot.as_mut() {
                Some(connection) => work(connection),
                None => self.reconnect().and_then(|connection| work(slot.insert(connection))),
            };
            let error = match result {
                Ok(value) => return Ok(value),
                Err(error) if answered(&error) => return Err(error),
                Err(error) => error,
            };
            if slot.take().is_some() && self.unflushed.load(Ordering::Acquire) > 0 {
                // the server may have forgotten what it had answered: the next flush must not succeed
                self.lost.store(true, Ordering::Release);
                return Err(io::Error::other(format!(
                    "the connection broke with writes that were not flushed: {error}"
                )));
            }
            drop(slot);
            if further && !final_error(&error) && self.alive() {
                // a server that says several and serves one after the other: do with those that there are
                tracing::debug!(server = self.name, %error, connections = index, "no further connection");
                self.usable.fetch_min(index, Ordering::Relaxed);
                continue;
            }
            let Some(pause) = pauses.next().filter(|_| !final_error(&error)) else {
                return Err(error);
            };
            tracing::warn!(server = self.name, %error, "the connection broke, trying another");
            std::thread::sleep(*pause);
        }
    }

    /// Fills `buf` from `offset`; what is not aligned to the server's blocks is read around.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.export.size);
        let end = end.ok_or(ErrorKind::UnexpectedEof)?;
        if buf.is_empty() {
            return Ok(());
        }
        let block = u64::from(self.export.block);
        if offset % block == 0 && end % block == 0 {
            return self.with(|connection| connection.read(buf, offset, REQUEST.max(block as usize)));
        }
        let start = offset / block * block;
        let mut whole = vec![0; (end.next_multiple_of(block).min(self.export.size) - start) as usize];
        self.with(|connection| connection.read(&mut whole, start, REQUEST.max(block as usize)))?;
        let skip = (offset - start) as usize;
        buf.copy_from_slice(&whole[skip..skip + buf.len()]);
        Ok(())
    }

    /// Writes bytes at `offset`; they are durable after [`flush`](Self::flush).
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.aligned(offset, bytes.len() as u64)?;
        let flags = self.durability();
        let mut at = offset;
        for part in bytes.chunks((4 << 20).min(self.export.max as usize)) {
            self.unflushed.fetch_add(part.len() as u64, Ordering::AcqRel);
            self.with(|connection| connection.command(Command::Write, flags, at, part.len() as u32, part))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Makes a range read as zeros; `thick` keeps it allocated.
    pub fn zero(&self, offset: u64, length: u64, thick: bool) -> io::Result<()> {
        self.aligned(offset, length)?;
        if !self.export.write_zeroes() {
            return self.write_zeros(offset, length);
        }
        let hole = if thick { flag::NO_HOLE } else { 0 } | self.durability();
        self.steps(offset, length, |at, step| {
            self.unflushed.fetch_add(step, Ordering::AcqRel);
            if self.export.fast_zero() {
                let flags = hole | flag::FAST_ZERO;
                match self.with(|connection| connection.command(Command::WriteZeroes, flags, at, step as u32, &[])) {
                    // slow there: still cheaper than to send zeros
                    Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                    other => return other,
                }
            }
            self.with(|connection| connection.command(Command::WriteZeroes, hole, at, step as u32, &[]))
        })
    }

    /// Gives a range back; what it then reads as is the server's choice.
    pub fn trim(&self, offset: u64, length: u64) -> io::Result<()> {
        self.aligned(offset, length)?;
        if !self.export.trim() {
            return Ok(());
        }
        self.steps(offset, length, |at, step| {
            self.with(|connection| connection.command(Command::Trim, 0, at, step as u32, &[]))
        })
    }

    /// Makes all that was written durable.
    pub fn flush(&self) -> io::Result<()> {
        let before = self.unflushed.load(Ordering::Acquire);
        if self.export.flush() {
            self.with(|connection| connection.command(Command::Flush, 0, 0, 0, &[]))?;
        }
        if self.lost.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "the connection broke before all was flushed: what the server kept is not known",
            ));
        }
        self.unflushed.fetch_sub(before, Ordering::AcqRel);
        Ok(())
    }

    /// Returns whether the server says that the first `size` bytes read as zeros; false where it is long-winded.
    pub fn reads_as_zeros(&self, size: u64) -> bool {
        /// Questions that are asked at most.
        const QUESTIONS: usize = 256;
        let mut window = Window::default();
        let mut at = 0;
        for _ in 0..QUESTIONS {
            if at >= size {
                return true;
            }
            match self.export.block_status().then(|| window.extent(self, at)) {
                Some(Ok((range, true))) => at = range.end,
                _ => return false,
            }
        }
        false
    }

    /// A server without a flush is asked for durability with each write.
    fn durability(&self) -> u16 {
        if !self.export.flush() && self.export.fua() { flag::FUA } else { 0 }
    }

    fn aligned(&self, offset: u64, length: u64) -> io::Result<()> {
        let (block, size) = (u64::from(self.export.block), self.export.size);
        let end = offset.checked_add(length).filter(|end| *end <= size).ok_or(ErrorKind::UnexpectedEof)?;
        // the end of an odd export counts as aligned
        if offset % block == 0 && (end % block == 0 || end == size) {
            return Ok(());
        }
        Err(io::Error::new(ErrorKind::InvalidInput, format!("the server takes blocks of {block} bytes only")))
    }

    fn steps(&self, offset: u64, length: u64, mut step: impl FnMut(u64, u64) -> io::Result<()>) -> io::Result<()> {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let now = ZEROES.min(end - at);
            step(at, now)?;
            at += now;
        }
        Ok(())
    }

    fn write_zeros(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; (1u64 << 20).min(length) as usize];
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let now = (zeros.len() as u64).min(end - at) as usize;
            self.write_at(&zeros[..now], at)?;
            at += now as u64;
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for slot in &self.slots {
            if let Ok(mut slot) = slot.try_lock()
                && let Some(connection) = slot.as_mut()
            {
                connection.disconnect();
            }
        }
    }
}

/// An export as a source. NBD tells nothing that changes with the bytes: only the size is compared.
pub struct NbdSource {
    client: Client,
    holes: Mutex<Window>,
}

/// What the last block status said.
#[derive(Default)]
struct Window {
    extents: VecDeque<(Range<u64>, bool)>,
    /// How much is asked for at once: more where the extents are long.
    ask: u64,
}

impl NbdSource {
    /// Connects to an export.
    pub fn open(uri: &Uri, access: &Access) -> Result<Self> {
        Ok(Self { client: Client::connect(uri, access)?, holes: Mutex::default() })
    }
}

impl Window {
    /// Returns the extent that holds `at`; asks the server where none is known.
    fn extent(&mut self, client: &Client, at: u64) -> io::Result<(Range<u64>, bool)> {
        const FIRST: u64 = 64 << 20;
        const MOST: u64 = 2 << 30;
        let known = self.extents.partition_point(|(range, _)| range.end <= at);
        if let Some((range, zero)) = self.extents.get(known).filter(|(range, _)| range.start <= at) {
            return Ok((range.clone(), *zero));
        }
        let block = u64::from(client.export.block);
        let start = at / block * block;
        let length = self.ask.clamp(FIRST, MOST).min(client.export.size - start);
        let found = client.with(|connection| connection.status(start, length as u32))?;
        self.ask = if found.len() < 1000 { length * 2 } else { FIRST };
        self.extents = found.into();
        match self.extents.front() {
            Some((range, zero)) => Ok((range.clone(), *zero)),
            None => Ok((at..client.export.size, false)),
        }
    }
}

impl Source for NbdSource {
    fn name(&self) -> &str {
        self.client.name()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.client.export.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.client.read_at(buf, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        let size = self.client.export.size;
        if offset >= size {
            return Ok(None);
        }
        if !self.client.export.block_status() {
            return Ok(Some(offset..size));
        }
        let mut window = self.holes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = offset;
        while at < size {
            let (range, zero) = window.extent(&self.client, at)?;
            if !zero {
                return Ok(Some(at.max(range.start)..range.end));
            }
            at = range.end;
        }
        Ok(None)
    }

    fn stamp(&self) -> io::Result<String> {
        Ok(format!("nbd:{}", self.client.export.size))
    }
}

/// For fuzzing: talks to a server whose whole output is given, and reads what it exports.
#[doc(hidden)]
pub fn hostile<S: io::Read + io::Write>(mut stream: S) -> io::Result<()> {
    let no_zeroes = wire::greet(&mut stream)?;
    let mut connection = Connection::open(stream, "export", no_zeroes)?;
    let export = connection.export();
    let length = export.size.min(100_000) as usize;
    let mut buf = vec![0; length];
    let results = [
        connection.read(&mut buf, 0, 30_000),
        connection.read(&mut buf[..length / 2], export.size - length as u64, 4096),
        if export.block_status() { connection.status(0, 1 << 20).map(drop) } else { Ok(()) },
        connection.command(Command::WriteZeroes, flag::FAST_ZERO, 0, 4096, &[]),
        connection.command(Command::Flush, 0, 0, 0, &[]),
    ];
    results.into_iter().find(|result| result.is_err()).unwrap_or(Ok(()))
}
