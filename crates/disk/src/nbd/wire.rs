//! One connection: handshake, requests, replies. Nothing that the server says is believed unchecked.
//!
//! ```text
//! server  NBDMAGIC IHAVEOPT flags            client  flags
//! client  STARTTLS? STRUCTURED_REPLY? SET_META_CONTEXT base:allocation? GO export
//! then    request { magic, flags, type, cookie, offset, length }
//!         reply   simple { magic, error, cookie } + data, or chunks { magic, flags, type, cookie, length } + payload
//! ```
//!
//! Facts: the NBD project's `doc/proto.md`
//! (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>).

use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;

pub(super) const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
pub(super) const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const OLDSTYLE: u64 = 0x0000_4202_8186_1253;
pub(super) const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
pub(super) const REQUEST: u32 = 0x2560_9513;
pub(super) const SIMPLE: u32 = 0x6744_6698;
const STRUCTURED: u32 = 0x668e_33ef;

pub(super) const FIXED_NEWSTYLE: u16 = 1;
pub(super) const NO_ZEROES: u16 = 2;

pub(super) const OPT_EXPORT_NAME: u32 = 1;
pub(super) const OPT_ABORT: u32 = 2;
const OPT_STARTTLS: u32 = 5;
pub(super) const OPT_GO: u32 = 7;
const OPT_STRUCTURED: u32 = 8;
const OPT_SET_META: u32 = 10;

pub(super) const REP_ACK: u32 = 1;
pub(super) const REP_INFO: u32 = 3;
const REP_META: u32 = 4;
pub(super) const REP_ERROR: u32 = 1 << 31;
pub(super) const REP_UNSUP: u32 = REP_ERROR | 1;
const REP_TLS_REQUIRED: u32 = REP_ERROR | 5;

const CONTEXT: &str = "base:allocation";
/// The longest option reply or error text that is taken in.
pub(super) const TEXT: u32 = 64 << 10;
/// The longest block status reply: 1 MiB of descriptors.
const STATUS: u32 = 1 << 20;
/// The most replies to one option, and disjoint chunks of one read.
const MANY: usize = 4096;
/// The largest request that every server takes, unless it says otherwise.
pub(super) const MAX_REQUEST: u32 = 32 << 20;

/// Commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Command {
    Read = 0,
    Write = 1,
    Disconnect = 2,
    Flush = 3,
    Trim = 4,
    WriteZeroes = 6,
    BlockStatus = 7,
}

/// Flags of a command.
pub(super) mod flag {
    /// The command's effect is durable when it is answered.
    pub const FUA: u16 = 1;
    /// Zeros are to be stored, not punched.
    pub const NO_HOLE: u16 = 2;
    /// Zeros only where that is faster than writing them.
    pub const FAST_ZERO: u16 = 16;
}

/// What the server offers for an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// Bytes.
    pub size: u64,
    /// Requests are aligned to this; 1 where the server does not care.
    pub block: u32,
    /// The longest request.
    pub max: u32,
    flags: u16,
    /// Whether replies are structured.
    pub structured: bool,
    /// Identifier of base:allocation, where the server tells its holes.
    context: Option<u32>,
}

impl Export {
    fn has(&self, bit: u16) -> bool {
        self.flags & 1 != 0 && self.flags >> bit & 1 != 0
    }

    /// Returns whether nothing can be written.
    pub fn read_only(&self) -> bool {
        self.has(1)
    }

    /// Returns whether the server has a flush.
    pub fn flush(&self) -> bool {
        self.has(2)
    }

    /// Returns whether a write can be made durable by itself.
    pub fn fua(&self) -> bool {
        self.has(3)
    }

    /// Returns whether ranges can be given back.
    pub fn trim(&self) -> bool {
        self.has(5)
    }

    /// Returns whether zeros can be written without sending them.
    pub fn write_zeroes(&self) -> bool {
        self.has(6)
    }

    /// Returns whether several connections see each other's writes.
    pub fn multi_conn(&self) -> bool {
        self.has(8)
    }

    /// Returns whether the server can say that zeros would be slow.
    pub fn fast_zero(&self) -> bool {
        self.has(11)
    }

    /// Returns whether the server tells its holes.
    pub fn block_status(&self) -> bool {
        self.context.is_some()
    }
}

/// A server that breaks the protocol, or a connection that it ended.
fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("NBD protocol: {}", what.into()))
}

/// What the server refuses, in its words.
fn refused(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, what.into())
}

/// The end of the stream is a lost connection here.
fn lost(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::new(ErrorKind::ConnectionAborted, "the server ended the connection"),
        // a socket's read time-out
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "the server does not answer"),
        _ => error,
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |field| u16::from_be_bytes(*field))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |field| u32::from_be_bytes(*field))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |field| u64::from_be_bytes(*field))
}

/// A part of a read that waits for its reply.
struct Pending {
    cookie: u64,
    range: Range<usize>,
    /// Received so far, disjoint, ascending.
    got: Vec<Range<usize>>,
    error: Option<i32>,
    done: bool,
}

impl Pending {
    /// Notes bytes that came; a chunk that overlaps another is refused, so that the sum counts.
    fn receive(&mut self, range: Range<usize>) -> io::Result<()> {
        if range.start < self.range.start || range.end > self.range.end {
            return Err(broken("a chunk lies outside of what was asked for"));
        }
        let at = self.got.partition_point(|other| other.end <= range.start);
        if self.got.get(at).is_some_and(|other| other.start < range.end) {
            return Err(broken("two chunks of a reply overlap"));
        }
        match at.checked_sub(1).and_then(|before| self.got.get_mut(before)) {
            Some(before) if before.end == range.start => before.end = range.end,
            _ => self.got.insert(at, range),
        }
        if self.got.len() > MANY {
            return Err(broken("a reply is cut into too many pieces"));
        }
        Ok(())
    }

    fn whole(&self) -> bool {
        self.got.iter().map(|range| range.len()).sum::<usize>() == self.range.len()
    }
}

/// One connection over any stream.
pub(super) struct Connection<S> {
    stream: S,
    export: Export,
    cookie: u64,
}

/// The first words of a server, before anything is asked.
pub(super) fn greet<S: Read + Write>(stream: &mut S) -> io::Result<bool> {
    let mut bytes = [0; 18];
    stream.read_exact(&mut bytes[..16]).map_err(lost)?;
    if u64_at(&bytes, 0) != NBDMAGIC {
        return Err(broken("the server does not begin with NBDMAGIC: it is no NBD server"));
    }
    match u64_at(&bytes, 8) {
        IHAVEOPT => {}
        OLDSTYLE => return Err(refused("the server speaks the oldstyle handshake only; start it with an export name")),
        _ => return Err(broken("the server's handshake is not known")),
    }
    stream.read_exact(&mut bytes[16..]).map_err(lost)?;
    let flags = u16_at(&bytes, 16);
    if flags & FIXED_NEWSTYLE == 0 {
        return Err(refused("the server does not speak the fixed newstyle handshake"));
    }
    let ours = u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES));
    stream.write_all(&ours.to_be_bytes())?;
    stream.flush()?;
    Ok(flags & NO_ZEROES != 0)
}

fn send_option<S: Write>(stream: &mut S, option: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(16 + data.len());
    bytes.extend_from_slice(&IHAVEOPT.to_be_bytes());
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    stream.write_all(&bytes)?;
    stream.flush()
}

fn option_reply<S: Read>(stream: &mut S, option: u32) -> io::Result<(u32, Vec<u8>)> {
    let mut head = [0; 20];
    stream.read_exact(&mut head).map_err(lost)?;
    if u64_at(&head, 0) != OPTION_REPLY || u32_at(&head, 8) != option {
        return Err(broken("the reply to an option is of another one"));
    }
    let length = u32_at(&head, 16);
    if length > TEXT {
        return Err(broken(format!("{length} bytes of a reply to an option are too many")));
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data).map_err(lost)?;
    Ok((u32_at(&head, 12), data))
}

/// Words for an option that the server refuses.
fn why(kind: u32, data: &[u8]) -> String {
    let name = match kind & !REP_ERROR {
        1 => "does not know the request",
        2 => "forbids it",
        3 => "calls the request invalid",
        4 => "cannot do it on its platform",
        5 => "wants TLS first: write nbds:// instead of nbd://",
        6 => "has no such export",
        7 => "shuts down",
        8 => "wants its block sizes honoured",
        9 => "finds the request too large",
        _ => "refuses",
    };
    let text: String = String::from_utf8_lossy(data).chars().filter(|c| !c.is_control()).take(200).collect();
    if text.is_empty() { format!("the server {name}") } else { format!("the server {name}: {text}") }
}

/// Asks for TLS on a stream that was greeted; the caller then wraps it.
pub(super) fn start_tls<S: Read + Write>(stream: &mut S) -> io::Result<()> {
    send_option(stream, OPT_STARTTLS, &[])?;
    match option_reply(stream, OPT_STARTTLS)? {
        (REP_ACK, _) => Ok(()),
        (kind, data) => Err(refused(format!("no TLS: {}", why(kind, &data)))),
    }
}

impl<S: Read + Write> Connection<S> {
    /// Negotiates the export on a stream that was greeted.
    pub(super) fn open(mut stream: S, name: &str, no_zeroes: bool) -> io::Result<Self> {
        if name.len() > 4096 {
            return Err(refused("an export's name has 4096 bytes at most"));
        }
        send_option(&mut stream, OPT_STRUCTURED, &[])?;
        let structured = match option_reply(&mut stream, OPT_STRUCTURED)? {
            (REP_ACK, _) => true,
            (REP_TLS_REQUIRED, data) => return Err(refused(why(REP_TLS_REQUIRED, &data))),
            (kind, _) if kind & REP_ERROR != 0 => false,
            _ => return Err(broken("an unexpected answer to structured replies")),
        };
        let context = if structured { Self::negotiate_context(&mut stream, name)? } else { None };
        let mut export = Self::go(&mut stream, name, no_zeroes)?;
        (export.structured, export.context) = (structured, context);
        if export.size > i64::MAX as u64 {
            return Err(broken(format!("an export of {} bytes is absurd", export.size)));
        }
        if !export.block.is_power_of_two() || export.block > 64 << 10 || export.max < export.block {
            return Err(broken(format!("blocks of {} to {} bytes are absurd", export.block, export.max)));
        }
        Ok(Self { stream, export, cookie: 0 })
    }

    fn negotiate_context(stream: &mut S, name: &str) -> io::Result<Option<u32>> {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(&1u32.to_be_bytes());
        data.extend_from_slice(&(CONTEXT.len() as u32).to_be_bytes());
        data.extend_from_slice(CONTEXT.as_bytes());
        send_option(stream, OPT_SET_META, &data)?;
        let mut context = None;
        for _ in 0..MANY {
            match option_reply(stream, OPT_SET_META)? {
                (REP_ACK, _) => return Ok(context),
                (REP_META, data) if data.get(4..) == Some(CONTEXT.as_bytes()) => context = Some(u32_at(&data, 0)),
                (REP_META, _) => {}
                (kind, _) if kind & REP_ERROR != 0 => return Ok(None),
                _ => return Err(broken("an unexpected answer to metadata contexts")),
            }
        }
        Err(broken("the list of metadata contexts does not end"))
    }

    fn go(stream: &mut S, name: &str, no_zeroes: bool) -> io::Result<Export> {
        let mut data = (name.len() as u32).to_be_bytes().to_vec();
        data.extend_from_slice(name.as_bytes());
        // we ask for the block sizes
        data.extend_from_slice(&[0, 1, 0, 3]);
        send_option(stream, OPT_GO, &data)?;
        let mut export = Export { size: 0, block: 1, max: MAX_REQUEST, flags: 0, structured: false, context: None };
        let mut told = false;
        for _ in 0..MANY {
            match option_reply(stream, OPT_GO)? {
                (REP_ACK, _) if told => return Ok(export),
                (REP_ACK, _) => return Err(broken("the server did not tell the export's size")),
                (REP_INFO, data) => match (u16_at(&data, 0), data.len()) {
                    (0, 12) => {
                        (export.size, export.flags, told) = (u64_at(&data, 2), u16_at(&data, 10), true);
                    }
                    (3, 14) => (export.block, export.max) = (u32_at(&data, 2), u32_at(&data, 10).min(MAX_REQUEST)),
                    (0 | 3, length) => {
                        return Err(broken(format!("{length} bytes of information are too few or many")));
                    }
                    _ => {}
                },
                (REP_UNSUP, _) => return Self::export_name(stream, name, no_zeroes),
                (kind, data) if kind & REP_ERROR != 0 => {
                    // politely, and without waiting for an answer
                    let _ = send_option(stream, OPT_ABORT, &[]);
                    return Err(refused(format!("export {name:?}: {}", why(kind, &data))));
                }
                _ => return Err(broken("an unexpected answer to the export")),
            }
        }
        Err(broken("the information on the export does not end"))
    }

    /// The older way to choose an export: a server ends the connection where there is none.
    fn export_name(stream: &mut S, name: &str, no_zeroes: bool) -> io::Result<Export> {
        send_option(stream, OPT_EXPORT_NAME, name.as_bytes())?;
        let mut bytes = [0; 10 + 124];
        let length = if no_zeroes { 10 } else { bytes.len() };
        stream.read_exact(&mut bytes[..length]).map_err(|error| match lost(error) {
            error if error.kind() == ErrorKind::ConnectionAborted => refused(format!("export {name:?}: there is none")),
            error => error,
        })?;
        let (size, flags) = (u64_at(&bytes, 0), u16_at(&bytes, 8));
        Ok(Export { size, block: 1, max: MAX_REQUEST, flags, structured: false, context: None })
    }

    /// Returns the stream beneath.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// Returns what was negotiated.
    pub(super) fn export(&self) -> Export {
        self.export
    }

    fn request(&mut self, command: Command, flags: u16, offset: u64, length: u32) -> (u64, [u8; 28]) {
        self.cookie += 1;
        let mut bytes = [0; 28];
        bytes[..4].copy_from_slice(&REQUEST.to_be_bytes());
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        bytes[6..8].copy_from_slice(&(command as u16).to_be_bytes());
        bytes[8..16].copy_from_slice(&self.cookie.to_be_bytes());
        bytes[16..24].copy_from_slice(&offset.to_be_bytes());
        bytes[24..].copy_from_slice(&length.to_be_bytes());
        (self.cookie, bytes)
    }

    /// Fills `buf` from `offset`: requests of `piece` bytes are sent ahead, replies come in any order.
    pub(super) fn read(&mut self, buf: &mut [u8], offset: u64, piece: usize) -> io::Result<()> {
        let piece = piece.min(self.export.max as usize).max(1);
        let mut requests = Vec::new();
        let mut pending = Vec::new();
        let mut start = 0;
        while start < buf.len() {
            let end = (start + piece).min(buf.len());
            let (cookie, bytes) = self.request(Command::Read, 0, offset + start as u64, (end - start) as u32);
            requests.extend_from_slice(&bytes);
            pending.push(Pending { cookie, range: start..end, got: Vec::new(), error: None, done: false });
            start = end;
        }
        self.stream.write_all(&requests)?;
        self.stream.flush()?;
        // empty chunks are allowed and mean nothing: without a bound a server could send them for ever
        let mut chunks = buf.len() / 512 + MANY;
        while pending.iter().any(|part| !part.done) {
            chunks = chunks.checked_sub(1).ok_or_else(|| broken("a reply does not end"))?;
            self.read_reply(&mut pending, buf, offset)?;
        }
        // only now: the stream is in step again, and the connection stays usable
        match pending.iter().find_map(|part| part.error) {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => Ok(()),
        }
    }

    fn read_reply(&mut self, pending: &mut [Pending], buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut head = [0; 20];
        self.stream.read_exact(&mut head[..16]).map_err(lost)?;
        let magic = u32_at(&head, 0);
        let part = pending.iter_mut().find(|part| part.cookie == u64_at(&head, 8) && !part.done);
        let part = part.ok_or_else(|| broken("a reply has the cookie of no request"))?;
        if magic == SIMPLE && !self.export.structured {
            part.done = true;
            match u32_at(&head, 4) {
                0 => {
                    let target = buf.get_mut(part.range.clone()).unwrap_or_default();
                    return self.stream.read_exact(target).map_err(lost);
                }
                error => part.error = Some(errno(error)),
            }
            return Ok(());
        }
        if magic != STRUCTURED || !self.export.structured {
            return Err(broken("a reply has another magic"));
        }
        self.stream.read_exact(&mut head[16..]).map_err(lost)?;
        let (flags, kind, length) = (u16_at(&head, 4), u16_at(&head, 6), u32_at(&head, 16));
        // an offset on the export as an offset of the buffer
        let place = |at: u64, length: u64| {
            let start = at.checked_sub(offset).and_then(|start| usize::try_from(start).ok());
            let end = start.and_then(|start| start.checked_add(usize::try_from(length).ok()?));
            start.zip(end).map(|(start, end)| start..end).ok_or_else(|| broken("a chunk's offset is absurd"))
        };
        match kind {
            0 if length == 0 => {}
            1 if length > 8 => {
                let mut at = [0; 8];
                self.stream.read_exact(&mut at).map_err(lost)?;
                let range = place(u64_at(&at, 0), u64::from(length - 8))?;
                part.receive(range.clone())?;
                let target = buf.get_mut(range).ok_or_else(|| broken("a chunk lies outside of the buffer"))?;
                self.stream.read_exact(target).map_err(lost)?;
            }
            2 if length == 12 => {
                let mut hole = [0; 12];
                self.stream.read_exact(&mut hole).map_err(lost)?;
                let range = place(u64_at(&hole, 0), u64::from(u32_at(&hole, 8)))?;
                part.receive(range.clone())?;
                buf.get_mut(range).ok_or_else(|| broken("a hole lies outside of the buffer"))?.fill(0);
            }
            kind if kind >> 15 == 1 => {
                let payload = self.payload(length, TEXT)?;
                part.error = part.error.or(Some(errno(u32_at(&payload, 0))));
            }
            other => return Err(broken(format!("a chunk of type {other} with {length} bytes answers a read"))),
        }
        if flags & 1 != 0 {
            part.done = true;
            if part.error.is_none() && !part.whole() {
                return Err(broken("a reply ends before all bytes came"));
            }
        }
        Ok(())
    }

    fn payload(&mut self, length: u32, limit: u32) -> io::Result<Vec<u8>> {
        if length > limit {
            return Err(broken(format!("{length} bytes of a chunk are too many")));
        }
        let mut bytes = vec![0; length as usize];
        self.stream.read_exact(&mut bytes).map_err(lost)?;
        Ok(bytes)
    }

    /// Sends a command with its data and waits until it is done.
    pub(super) fn command(
        &mut self,
        command: Command,
        flags: u16,
        offset: u64,
        length: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let (cookie, head) = self.request(command, flags, offset, length);
        self.stream.write_all(&head)?;
        self.stream.write_all(data)?;
        self.stream.flush()?;
        self.answer(cookie, |_, _| Ok(()))
    }

    /// Waits for the answer to one command; `status` gets the payload of block status chunks.
    fn answer(&mut self, cookie: u64, mut status: impl FnMut(u32, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut failed = None;
        for _ in 0..MANY {
            let mut head = [0; 20];
            self.stream.read_exact(&mut head[..16]).map_err(lost)?;
            if u64_at(&head, 8) != cookie {
                return Err(broken("a reply has the cookie of no request"));
            }
            match u32_at(&head, 0) {
                SIMPLE => {
                    return match u32_at(&head, 4) {
                        0 => Ok(()),
                        error => Err(io::Error::from_raw_os_error(errno(error))),
                    };
                }
                STRUCTURED if self.export.structured => {}
                _ => return Err(broken("a reply has another magic")),
            }
            self.stream.read_exact(&mut head[16..]).map_err(lost)?;
            let (flags, kind, length) = (u16_at(&head, 4), u16_at(&head, 6), u32_at(&head, 16));
            let payload = self.payload(length, STATUS)?;
            match kind {
                0 => {}
                5 => status(u32_at(&payload, 0), payload.get(4..).unwrap_or_default())?,
                kind if kind >> 15 == 1 => failed = failed.or(Some(errno(u32_at(&payload, 0)))),
                other => return Err(broken(format!("a chunk of type {other} answers a command"))),
            }
            if flags & 1 != 0 {
                return failed.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)));
            }
        }
        Err(broken("a reply does not end"))
    }

    /// Returns ranges from `offset` on and whether each reads as zeros; it covers a part of what was asked.
    pub(super) fn status(&mut self, offset: u64, length: u32) -> io::Result<Vec<(Range<u64>, bool)>> {
        const ZERO: u32 = 2;
        let (cookie, head) = self.request(Command::BlockStatus, 0, offset, length);
        self.stream.write_all(&head)?;
        self.stream.flush()?;
        let (context, size) = (self.export.context, self.export.size);
        let mut found: Vec<(Range<u64>, bool)> = Vec::new();
        let mut at = offset;
        self.answer(cookie, |id, descriptors| {
            if Some(id) != context || !found.is_empty() {
                return Err(broken("block status of another context, or twice"));
            }
            for descriptor in descriptors.as_chunks::<8>().0 {
                let (length, flags) = (u64::from(u32_at(descriptor, 0)), u32_at(descriptor, 4));
                let end = (at + length).min(size);
                // the last extent may go beyond the request, none is empty
                if length == 0 || at >= size {
                    return Err(broken("a block status extent is empty or beyond the export"));
                }
                found.push((at..end, flags & ZERO != 0));
                at = end;
            }
            Ok(())
        })?;
        if found.is_empty() {
            return Err(broken("the block status has no extents"));
        }
        Ok(found)
    }

    /// Says good-bye; the server need not answer.
    pub(super) fn disconnect(&mut self) {
        let (_, head) = self.request(Command::Disconnect, 0, 0, 0);
        let _ = self.stream.write_all(&head).and_then(|()| self.stream.flush());
    }
}

/// NBD's error numbers are those of Linux; what is none of them is EINVAL.
fn errno(error: u32) -> i32 {
    match error {
        1 => libc::EPERM,
        5 => libc::EIO,
        12 => libc::ENOMEM,
        28 => libc::ENOSPC,
        75 => libc::EOVERFLOW,
        95 => libc::EOPNOTSUPP,
        108 => libc::ESHUTDOWN,
        _ => libc::EINVAL,
    }
}
