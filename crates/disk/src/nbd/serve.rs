//! A disk as a read-only NBD export on a Unix socket, for programs on the same machine.
//!
//! ```text
//! libguestfs ─► socket ─► connection ─► its threads ─► blocks ─► disk, wherever it lies
//! ```
//!
//! One export, with the empty name. Clients see it as read-only, a write is answered with EPERM. Facts: the NBD project's
//! `doc/proto.md` (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>). Clients are not trusted: what is
//! too long or out of step ends their connection, and nothing of it is kept.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::blocks::Blocks;
use super::wire::{
    FIXED_NEWSTYLE, IHAVEOPT, MAX_REQUEST, NBDMAGIC, NO_ZEROES, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPTION_REPLY,
    REP_ACK, REP_ERROR, REP_INFO, REP_UNSUP, REQUEST, SIMPLE, TEXT, u16_at, u32_at, u64_at,
};
use crate::image::Image;

const OPT_LIST: u32 = 3;
const OPT_INFO: u32 = 6;
const REP_SERVER: u32 = 2;
const REP_INVALID: u32 = REP_ERROR | 3;
const REP_UNKNOWN: u32 = REP_ERROR | 6;
/// HAS_FLAGS, READ_ONLY, CAN_MULTI_CONN.
const FLAGS: u16 = 1 | 1 << 1 | 1 << 8;
const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISCONNECT: u16 = 2;
const CMD_FLUSH: u16 = 3;
const CMD_CACHE: u16 = 5;
const EPERM: u32 = 1;
const EIO: u32 = 5;
const EINVAL: u32 = 22;
/// Reads of one connection at a time: each waits for the source most of the time.
const THREADS: usize = 6;
/// Options that one client may send before it has to choose the export.
const OPTIONS: usize = 64;

/// A running server; it ends when it is dropped.
pub struct Server {
    path: PathBuf,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

struct Shared {
    blocks: Blocks,
    stop: AtomicBool,
    served: AtomicU64,
    /// The other ends of what is being served, by number.
    connections: Mutex<HashMap<u64, UnixStream>>,
    failure: Mutex<Option<String>>,
}

impl Server {
    /// Offers the disk on a new socket at `path`, whose folder says who may connect.
    pub fn start(path: &Path, image: Arc<dyn Image>) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        let shared = Arc::new(Shared {
            blocks: Blocks::new(image),
            stop: AtomicBool::new(false),
            served: AtomicU64::new(0),
            connections: Mutex::default(),
            failure: Mutex::default(),
        });
        let of_thread = shared.clone();
        let accept = std::thread::Builder::new().name("nbd".into()).spawn(move || accept(&listener, &of_thread))?;
        Ok(Self { path: path.to_owned(), shared, accept: Some(accept) })
    }

    /// Returns the address as QEMU, libguestfs and libnbd write it.
    pub fn uri(&self) -> String {
        format!("nbd://?socket={}", self.path.display())
    }

    /// Returns the bytes that clients were given.
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Returns why the disk could not be read, when a client met that.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (_, connection) in self.shared.connections().drain() {
            // one that has ended is what is wanted
            let _ = connection.shutdown(Shutdown::Both);
        }
        // wakes the thread that waits for clients; where nobody listens any more there is none to wake
        let _ = UnixStream::connect(&self.path);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u64, UnixStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for (number, stream) in (0..).zip(listener.incoming()) {
        if shared.stop.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        match stream.try_clone() {
            Ok(twin) => drop(shared.connections().insert(number, twin)),
            Err(_) => continue,
        }
        // the server may have been dropped between the two lines above: then nobody else shuts this one down
        if shared.stop.load(Ordering::SeqCst) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let shared = shared.clone();
        threads.retain(|thread: &JoinHandle<()>| !thread.is_finished());
        threads.push(std::thread::spawn(move || {
            let served = serve(&stream, &shared);
            // its twin would keep it open
            let _ = stream.shutdown(Shutdown::Both);
            shared.connections().remove(&number);
            if let Err(error) = served
                && !matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                )
            {
                tracing::debug!(%error, "a client of the disk is out of step");
            }
        }));
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Talks to one client until it has enough.
fn serve(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let mut stream = stream.try_clone()?;
    if !negotiate(&mut stream, shared.blocks.size())? {
        return Ok(());
    }
    let writer = Mutex::new(stream.try_clone()?);
    let (send, receive) = sync_channel::<Wanted>(THREADS * 2);
    let receive = Mutex::new(receive);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| answer(&receive, &writer, shared));
        }
        let result = requests(&mut stream, shared.blocks.size(), &writer, |wanted| {
            send.send(wanted).map_err(|_| io::Error::from(ErrorKind::BrokenPipe))
        });
        drop(send);
        result
    })
}

/// A read that waits for a thread.
struct Wanted {
    cookie: u64,
    offset: u64,
    length: u32,
}

/// Takes requests until the client goes.
fn requests(
    stream: &mut UnixStream,
    size: u64,
    writer: &Mutex<UnixStream>,
    read: impl Fn(Wanted) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        let mut head = [0; 28];
        stream.read_exact(&mut head)?;
        if u32_at(&head, 0) != REQUEST {
            return Err(out_of_step("a request has another magic"));
        }
        let (command, cookie) = (u16_at(&head, 6), u64_at(&head, 8));
        let (offset, length) = (u64_at(&head, 16), u32_at(&head, 24));
        let inside = offset.checked_add(u64::from(length)).is_some_and(|end| end <= size) && length <= MAX_REQUEST;
        match command {
            CMD_READ if inside && length > 0 => read(Wanted { cookie, offset, length })?,
            CMD_DISCONNECT => return Ok(()),
            CMD_FLUSH => reply(writer, cookie, 0, &[])?,
            CMD_CACHE if inside => reply(writer, cookie, 0, &[])?,
            CMD_WRITE => {
                // its bytes follow, and are thrown away
                if length > MAX_REQUEST {
                    return Err(out_of_step("a write is too long"));
                }
                io::copy(&mut stream.take(length.into()), &mut io::sink())?;
                reply(writer, cookie, EPERM, &[])?;
            }
            CMD_READ | CMD_CACHE => reply(writer, cookie, EINVAL, &[])?,
            // trim and zeros change bytes, the others are not known
            4 | 6 => reply(writer, cookie, EPERM, &[])?,
            _ => reply(writer, cookie, EINVAL, &[])?,
        }
    }
}

/// Reads what was asked for, until nobody asks any more.
fn answer(receive: &Mutex<Receiver<Wanted>>, writer: &Mutex<UnixStream>, shared: &Shared) {
    let mut buffer = Vec::new();
    loop {
        let wanted = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(wanted) = wanted else { return };
        buffer.resize(wanted.length as usize, 0);
        let answered = match shared.blocks.read(&mut buffer, wanted.offset) {
            Ok(()) => {
                shared.served.fetch_add(wanted.length.into(), Ordering::Relaxed);
                reply(writer, wanted.cookie, 0, &buffer)
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "a read of the disk failed");
                shared.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.chain());
                reply(writer, wanted.cookie, EIO, &[])
            }
        };
        if answered.is_err() {
            // the client is gone: the thread that takes its requests hears of it, and ends the others
            let _ = writer.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
        }
    }
}

fn reply(writer: &Mutex<UnixStream>, cookie: u64, error: u32, data: &[u8]) -> io::Result<()> {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&SIMPLE.to_be_bytes());
    head[4..8].copy_from_slice(&error.to_be_bytes());
    head[8..].copy_from_slice(&cookie.to_be_bytes());
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    writer.write_all(&head)?;
    writer.write_all(data)
}

fn out_of_step(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("NBD protocol: {what}"))
}

/// Shakes hands; returns whether the client has chosen the export.
fn negotiate(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    let mut hello = Vec::new();
    hello.extend_from_slice(&NBDMAGIC.to_be_bytes());
    hello.extend_from_slice(&IHAVEOPT.to_be_bytes());
    hello.extend_from_slice(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&hello)?;
    let mut flags = [0; 4];
    stream.read_exact(&mut flags)?;
    let no_zeroes = u32_at(&flags, 0) & u32::from(NO_ZEROES) != 0;
    for _ in 0..OPTIONS {
        let mut head = [0; 16];
        stream.read_exact(&mut head)?;
        if u64_at(&head, 0) != IHAVEOPT {
            return Err(out_of_step("an option has another magic"));
        }
        let (option, length) = (u32_at(&head, 8), u32_at(&head, 12));
        if length > TEXT {
            return Err(out_of_step("an option is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPT_EXPORT_NAME if data.is_empty() => {
                let mut told = size.to_be_bytes().to_vec();
                told.extend_from_slice(&FLAGS.to_be_bytes());
                if !no_zeroes {
                    told.resize(told.len() + 124, 0);
                }
                stream.write_all(&told)?;
                return Ok(true);
            }
            // the older option has no way to say no
            OPT_EXPORT_NAME => return Ok(false),
            OPT_ABORT => {
                option_reply(stream, option, REP_ACK, &[])?;
                return Ok(false);
            }
            OPT_LIST => {
                option_reply(stream, option, REP_SERVER, &0u32.to_be_bytes())?;
                option_reply(stream, option, REP_ACK, &[])?;
            }
            OPT_GO | OPT_INFO if data.len() < 6 => option_reply(stream, option, REP_INVALID, &[])?,
            OPT_GO | OPT_INFO if u32_at(&data, 0) != 0 => option_reply(stream, option, REP_UNKNOWN, &[])?,
            OPT_GO | OPT_INFO => {
                let mut export = 0u16.to_be_bytes().to_vec();
                export.extend_from_slice(&size.to_be_bytes());
                export.extend_from_slice(&FLAGS.to_be_bytes());
                option_reply(stream, option, REP_INFO, &export)?;
                let mut blocks = 3u16.to_be_bytes().to_vec();
                for bytes in [1, 4096, MAX_REQUEST] {
                    blocks.extend_from_slice(&bytes.to_be_bytes());
                }
                option_reply(stream, option, REP_INFO, &blocks)?;
                option_reply(stream, option, REP_ACK, &[])?;
                if option == OPT_GO {
                    return Ok(true);
                }
            }
            _ => option_reply(stream, option, REP_UNSUP, &[])?,
        }
    }
    Err(out_of_step("a client that never chooses the export"))
}

fn option_reply(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = OPTION_REPLY.to_be_bytes().to_vec();
    bytes.extend_from_slice(&option.to_be_bytes());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    stream.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::super::{Client, Uri};
    use super::*;
    use crate::error::{Error, Result};
    use crate::extents::Extents;
    use crate::image::Format;
    use crate::remote::Access;

    const SIZE: u64 = (1 << 20) + 512;

    /// Bytes by their offsets; some cannot be read.
    struct Made {
        reads: AtomicUsize,
        bad: Range<u64>,
    }

    impl Image for Made {
        fn format(&self) -> Format {
            Format::Raw
        }

        fn size(&self) -> u64 {
            SIZE
        }

        fn extents(&self, _range: Range<u64>, _extents: &mut Extents) -> Result<()> {
            Ok(())
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            if offset < self.bad.end && self.bad.start < offset + buf.len() as u64 {
                return Err(Error::Usage { what: "a bad sector".into() });
            }
            for (byte, at) in buf.iter_mut().zip(offset..) {
                *byte = byte_at(at);
            }
            Ok(())
        }
    }

    fn byte_at(offset: u64) -> u8 {
        (offset.wrapping_mul(0x9E37_79B9) >> 13) as u8
    }

    fn start(bad: Range<u64>) -> (tempfile::TempDir, Arc<Made>, Server) {
        let folder = tempfile::tempdir().expect("a folder");
        let image = Arc::new(Made { reads: AtomicUsize::new(0), bad });
        let server = Server::start(&folder.path().join("s"), image.clone()).expect("it listens");
        (folder, image, server)
    }

    fn connect(server: &Server) -> Client {
        let uri: Uri = format!("nbd+unix:///?socket={}", server.path.display()).parse().expect("a URI");
        Client::connect(&uri, &Access::default()).unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    #[test]
    fn bytes_come_as_they_are_and_blocks_are_read_once() {
        let (_folder, image, server) = start(0..0);
        let client = connect(&server);
        assert_eq!(client.export().size, SIZE);
        assert!(client.export().read_only() && client.export().multi_conn());
        for (offset, length) in [(0u64, 1usize), (511, 2), (131_000, 200), (0, SIZE as usize), (SIZE - 1, 1)] {
            let mut buf = vec![0; length];
            client.read_at(&mut buf, offset).expect("reads");
            let expected: Vec<u8> = (offset..offset + length as u64).map(byte_at).collect();
            assert!(buf == expected, "{length} bytes at {offset}");
        }
        assert_eq!(image.reads.load(Ordering::Relaxed), 9, "blocks of the disk");
        assert!(server.served() > SIZE);
        assert!(client.write_at(&[1; 512], 0).is_err(), "read-only");
        assert_eq!(server.failure(), None);
    }

    #[test]
    fn a_read_that_fails_is_an_error_and_the_others_go_on() {
        let (_folder, _, server) = start(300_000..300_001);
        let client = connect(&server);
        let mut buf = vec![0; 512];
        assert!(client.read_at(&mut buf, 299_520).is_err());
        client.read_at(&mut buf, 0).expect("the rest can be read");
        assert!(server.failure().is_some_and(|why| why.contains("a bad sector")));
    }

    /// Sends bytes after the greeting; returns how the server's answer ends.
    fn throw(server: &Server, bytes: &[u8]) -> Vec<u8> {
        let mut stream = UnixStream::connect(&server.path).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        let mut hello = [0; 18];
        stream.read_exact(&mut hello).expect("a greeting");
        // a server that has heard enough leaves what it has not read, which the kernel tells as a reset
        let ended = |error: &std::io::Error| matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
        if let Err(error) = stream.write_all(bytes) {
            assert!(ended(&error), "{error}");
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert!(ended(&error), "{error}");
        }
        answer
    }

    fn option(number: u32, length: u32, data: &[u8]) -> Vec<u8> {
        [&IHAVEOPT.to_be_bytes()[..], &number.to_be_bytes(), &length.to_be_bytes(), data].concat()
    }

    #[test]
    fn clients_out_of_step_are_left() {
        let (_folder, _, server) = start(0..0);
        let flags = [0, 0, 0, 3];
        for (what, bytes) in [
            ("no option", vec![]),
            ("another magic", vec![7; 16]),
            ("a long option", option(7, u32::MAX, &[])),
            ("another export", option(OPT_EXPORT_NAME, 1, b"x")),
            ("a bad request", [option(OPT_EXPORT_NAME, 0, &[]), vec![9; 28]].concat()),
            ("options without end", option(99, 0, &[]).repeat(OPTIONS + 1)),
        ] {
            let answer = throw(&server, &[&flags[..], &bytes].concat());
            assert!(answer.len() < 4096, "{what}: {} bytes", answer.len());
        }
        let unknown = throw(&server, &[&flags[..], &option(OPT_GO, 7, &[0, 0, 0, 1, b'x', 0, 0])].concat());
        assert_eq!(u32_at(&unknown, 12), REP_UNKNOWN);
        connect(&server).read_at(&mut [0; 8], 0).expect("others are served");
    }

    #[test]
    fn requests_past_the_end_are_refused() {
        let (_folder, _, server) = start(0..0);
        let request = |command: u16, offset: u64, length: u32, data: &[u8]| {
            let mut bytes = REQUEST.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&command.to_be_bytes());
            bytes.extend_from_slice(&7u64.to_be_bytes());
            bytes.extend_from_slice(&offset.to_be_bytes());
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(data);
            bytes
        };
        for (bytes, code) in [
            (request(CMD_READ, SIZE - 1, 2, &[]), EINVAL),
            (request(CMD_READ, u64::MAX, 2, &[]), EINVAL),
            (request(CMD_READ, 0, MAX_REQUEST + 1, &[]), EINVAL),
            (request(CMD_READ, 0, 0, &[]), EINVAL),
            (request(CMD_WRITE, 0, 4, b"data"), EPERM),
            (request(4, 0, 4, &[]), EPERM),
            (request(7, 0, 4, &[]), EINVAL),
            (request(CMD_FLUSH, 0, 0, &[]), 0),
        ] {
            let answer = throw(&server, &[&[0, 0, 0, 3][..], &option(OPT_EXPORT_NAME, 0, &[]), &bytes].concat());
            let reply = &answer[10..];
            assert_eq!((reply.len(), u32_at(reply, 0), u32_at(reply, 4), u64_at(reply, 8)), (16, SIMPLE, code, 7));
        }
    }

    #[test]
    fn dropping_the_server_ends_its_connections() {
        let (_folder, _, server) = start(0..0);
        let path = server.path.clone();
        let mut stream = UnixStream::connect(&path).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
        stream.read_exact(&mut [0; 18]).expect("a greeting");
        drop(server);
        assert_eq!(stream.read(&mut [0; 1]).expect("the end"), 0);
        assert!(!path.exists());
    }
}
