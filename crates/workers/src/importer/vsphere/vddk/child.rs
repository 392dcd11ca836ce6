//! The process with the library: a crash of it is an error of the copy and not its end.
//!
//! ```text
//! stdin   socket: Open, then Ask …   ─► reader thread ─► this thread ─► library ─► its threads
//!                 Opened, then Answer ◄──────────────────────┴─── what failed ◄───────┤
//!                              Answer ◄───────────────────────────────────────────────┘
//! stdout  shared memory, SLOTS places of SLOT bytes, page-aligned: the library reads into it
//! ```
//!
//! All calls come from one thread, as the library wants it. The end of the socket is the end of the order: what is
//! open is closed in its order, also when the importer was killed.

#![expect(unsafe_code, reason = "shared memory is mapped, and the library reads into it")]

use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::library::{Disk, Library};
use super::wire::{Answer, Ask, Failure, Open, Opened, SECTOR, SLOT, SLOTS};

/// Serves one disk until the socket at the standard input ends.
pub fn serve() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the process with the library ends");
            ExitCode::FAILURE
        }
    }
}

/// The socket's writing end, for all threads.
#[derive(Clone)]
struct Line(Arc<Mutex<UnixStream>>);

impl Line {
    fn say(&self, what: &impl serde::Serialize) {
        let Ok(mut text) = serde_json::to_vec(what) else { return };
        text.push(b'\n');
        // nobody listens any more: the end of the socket is seen elsewhere
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text);
    }
}

fn run() -> std::io::Result<()> {
    let memory = Memory::map(std::io::stdout().as_fd().try_clone_to_owned()?)?;
    // what the library prints must not get into the memory's file
    // SAFETY: both are descriptors of this process, which stay open
    if unsafe { libc::dup2(libc::STDERR_FILENO, libc::STDOUT_FILENO) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let line = Line(Arc::new(Mutex::new(socket.try_clone()?)));
    let mut lines = BufReader::new(socket).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(());
    };
    let order: Open = serde_json::from_str(&first)?;
    drop(first);
    let refuse = |error: Failure| {
        line.say(&Opened { size: 0, transport: String::new(), asynchronous: false, error: Some(error) });
        Ok(())
    };
    let library = match Library::load(Path::new(&order.folder), order.config.as_deref()) {
        Ok(library) => library,
        Err(error) => return refuse(error),
    };
    let opened = library.open(&order);
    drop(order);
    match opened {
        Err(error) => refuse(error)?,
        Ok(disk) => {
            let (size, transport) = (disk.size, disk.transport.clone());
            line.say(&Opened { size, transport, asynchronous: library.is_asynchronous(), error: None });
            let (send, work) = channel();
            let asks = send.clone();
            // a thread reads, so that this one is the library's alone
            std::thread::spawn(move || {
                let read = |text: std::io::Result<String>| serde_json::from_str::<Ask>(&text.ok()?).ok();
                for ask in lines.map_while(read) {
                    if asks.send(Work::Ask(ask)).is_err() {
                        return;
                    }
                }
                let _ = asks.send(Work::End);
            });
            for work in work {
                match work {
                    Work::Ask(ask) => answer(&library, &disk, &memory, ask, &line, &send),
                    Work::Failed { id, code } => {
                        let error = library.failed("VixDiskLib_ReadAsync", code);
                        line.say(&Answer { id, error: Some(error), allocated: Vec::new() });
                    }
                    Work::End => break,
                }
            }
        }
    }
    library.exit();
    Ok(())
}

/// What the library's thread is to do.
enum Work {
    Ask(Ask),
    /// Says why a read failed that was begun: the text of the number needs the library's thread.
    Failed {
        id: u64,
        code: u64,
    },
    /// Nobody asks any more.
    End,
}

fn answer(library: &Library, disk: &Disk<'_>, memory: &Memory, ask: Ask, line: &Line, send: &Sender<Work>) {
    let reply = |id, result: Result<(), Failure>| Answer { id, error: result.err(), allocated: Vec::new() };
    match ask {
        Ask::Allocated { id } => match disk.allocated() {
            Ok(allocated) => line.say(&Answer { id, error: None, allocated }),
            Err(error) => line.say(&reply(id, Err(error))),
        },
        Ask::Read { id, slot, offset, length } => {
            let within = offset.checked_add(length).is_some_and(|end| end <= disk.size);
            let fits = slot < SLOTS && length <= SLOT && length > 0;
            if !within || !fits || !offset.is_multiple_of(SECTOR) || !length.is_multiple_of(SECTOR) {
                let text = format!("{length} bytes at {offset} are out of range");
                return line.say(&reply(id, Err(Failure { call: "read".into(), code: 0, text })));
            }
            if library.is_asynchronous() {
                let (then, failed) = (line.clone(), send.clone());
                let then = Box::new(move |result: Result<(), u64>| match result {
                    Ok(()) => then.say(&Answer { id, error: None, allocated: Vec::new() }),
                    // it is not heard once the socket ended
                    Err(code) => drop(failed.send(Work::Failed { id, code })),
                });
                // SAFETY: the slot has room for the length, and is the asker's alone until it is answered
                unsafe { disk.read(offset / SECTOR, length / SECTOR, memory.slot(slot), then) };
                return;
            }
            let (send, code) = channel();
            let then = Box::new(move |result: Result<(), u64>| {
                let _ = send.send(result);
            });
            // SAFETY: as above
            unsafe { disk.read(offset / SECTOR, length / SECTOR, memory.slot(slot), then) };
            let result = code.recv().unwrap_or(Err(1)).map_err(|code| library.failed("VixDiskLib_Read", code));
            line.say(&reply(id, result));
        }
    }
}

/// The shared memory, mapped.
struct Memory(*mut u8);

impl Memory {
    fn map(file: OwnedFd) -> std::io::Result<Self> {
        let length = SLOT as usize * SLOTS;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place that the kernel chooses; it lasts as long as the process
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED { Err(std::io::Error::last_os_error()) } else { Ok(Self(start.cast())) }
    }

    /// Returns where a slot begins; the caller has compared the number.
    fn slot(&self, number: usize) -> *mut u8 {
        self.0.wrapping_add(number * SLOT as usize)
    }
}
