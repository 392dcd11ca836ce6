//! The user's VDDK, where there is one: the library runs in a process of its own.
//!
//! ```text
//! copy's threads ─► free slot ─► Ask ══socket══► child ─► libvixDiskLib ─► ESXi
//!        ▲            bytes ◄── shared memory ◄────┘
//!        └─ a read failed, the child died or does not answer: the next read starts another child
//! ```
//! A connection of the library that broke off stays broken, so that a read that failed is tried again over a new one.
//!
//! The password goes over the socket, never into arguments or the environment. The VM is not kept from being moved
//! (`VixDiskLib_PrepareForAccess`): a copy that is killed would leave it so, and one whose VM was moved goes on with a
//! new connection.

mod child;
mod library;
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use forklift_api::vddk::Transport;
use forklift_disk::source::Source;

pub use child::serve;
pub(crate) use library::{Library, find};
pub(super) use wire::Open;
use wire::{Answer, Ask, Opened, SECTOR, SLOT, SLOTS};

/// How long the library may take to close the disk before its process is ended.
const CLOSE: Duration = Duration::from_secs(20);
/// How long it may take to connect and open the disk: above the 180 s for which it waits for a host by itself.
const CONNECT: Duration = Duration::from_secs(240);
/// How long a read may take: above the library's own 60 s, and below the time after which a copy counts as stalled.
const ANSWER: Duration = Duration::from_secs(90);
/// Reads that are under way at once.
pub(super) const READS: usize = SLOTS;

/// How the process with the library is started.
#[derive(Debug, Clone)]
pub struct Helper {
    /// The program; it calls [`serve`].
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Additions to its environment.
    pub env: Vec<(String, String)>,
    /// How long a read may take before the process is ended.
    pub answer: Duration,
}

impl Default for Helper {
    fn default() -> Self {
        let program = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        Self { program, args: vec!["worker".into(), "vddk".into()], env: Vec::new(), answer: ANSWER }
    }
}

/// A disk that the library reads.
pub(super) struct Vddk {
    helper: Helper,
    order: Open,
    name: String,
    state: String,
    process: Mutex<Option<Arc<Process>>>,
    opened: Opened,
}

impl Vddk {
    /// Starts the library and opens the disk.
    pub(super) fn open(helper: Helper, order: Open, state: String) -> io::Result<Self> {
        let (process, opened) = Process::start(&helper, &order)?;
        let name = format!("{} (VDDK)", order.file);
        Ok(Self { helper, order, name, state, process: Mutex::new(Some(Arc::new(process))), opened })
    }

    /// Returns how the bytes come, for people.
    pub(super) fn way(&self) -> String {
        let reads = if self.opened.asynchronous { "asynchronous" } else { "one by one" };
        format!("VDDK, {}, {reads}", self.opened.transport)
    }

    /// Returns the transport that the library chose, for people.
    pub(super) fn transport(&self) -> String {
        let plain = if self.opened.transport == Transport::Nbd.word() { ", which is not encrypted" } else { "" };
        format!("transport {}{plain}", self.opened.transport)
    }

    /// Returns which parts of the disk were ever written.
    pub(super) fn allocated(&self) -> io::Result<Vec<Range<u64>>> {
        let process = self.process()?;
        // a large disk takes many questions of the library
        let answer = process.ask(CONNECT, |id| Ask::Allocated { id })?;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (start, length) in answer.allocated {
            match ranges.last_mut() {
                _ if start.checked_add(length).is_none_or(|end| end > self.opened.size) => {
                    return Err(io::Error::other("the library's list of blocks goes beyond the disk"));
                }
                Some(last) if last.end == start => last.end = start + length,
                Some(last) if last.end > start => {
                    return Err(io::Error::other("the library's list of blocks is out of order"));
                }
                _ => ranges.push(start..start + length),
            }
        }
        Ok(ranges)
    }

    /// Returns the running process, or a new one after a crash.
    fn process(&self) -> io::Result<Arc<Process>> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = process.as_ref().filter(|process| !process.is_dead()) {
            return Ok(running.clone());
        }
        *process = None;
        tracing::warn!("the process with the library is started anew");
        // the disk was there: a host that is away for a while is waited for
        let again = |error: io::Error| io::Error::new(io::ErrorKind::ResourceBusy, error.to_string());
        let (started, opened) = Process::start(&self.helper, &self.order).map_err(again)?;
        if opened.size != self.opened.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the disk has another size now"));
        }
        Ok(process.insert(Arc::new(started)).clone())
    }

    /// Leaves a process behind whose connection may be broken: the next read starts another one.
    fn retire(&self, failed: &Arc<Process>) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let old = process.take_if(|current| Arc::ptr_eq(current, failed));
        drop(process);
        // whoever still reads from it holds it as well; the last one closes it
        drop(old);
    }

    /// Reads whole sectors.
    fn read_sectors(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        for (number, part) in buf.chunks_mut(SLOT as usize).enumerate() {
            let (at, length) = (offset + number as u64 * SLOT, part.len() as u64);
            let process = self.process()?;
            let slot = process.slots.take();
            let read = process.ask(self.helper.answer, |id| Ask::Read { id, slot: slot.0, offset: at, length });
            if let Err(error) = read {
                drop(slot);
                self.retire(&process);
                return Err(error);
            }
            process.memory.read_exact_at(part, slot.0 as u64 * SLOT)?;
        }
        Ok(())
    }
}

impl Source for Vddk {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.opened.size)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset + buf.len() as u64;
        if end > self.opened.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if offset.is_multiple_of(SECTOR) && end.is_multiple_of(SECTOR) {
            return self.read_sectors(buf, offset);
        }
        let start = offset / SECTOR * SECTOR;
        let mut whole = vec![0; (end.next_multiple_of(SECTOR) - start) as usize];
        self.read_sectors(&mut whole, start)?;
        let skip = (offset - start) as usize;
        buf.copy_from_slice(whole.get(skip..skip + buf.len()).unwrap_or_default());
        Ok(())
    }

    fn stamp(&self) -> io::Result<String> {
        Ok(format!("vddk:{}:{}", self.opened.size, self.state))
    }
}

/// Slots of the shared memory that are free.
#[derive(Default)]
struct Slots {
    free: Mutex<Vec<usize>>,
    changed: Condvar,
}

/// A slot, given back when dropped.
struct Slot<'a>(usize, &'a Slots);

impl Slots {
    fn take(&self) -> Slot<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(slot) = free.pop() {
                return Slot(slot, self);
            }
            free = self.changed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.1.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
        self.1.changed.notify_one();
    }
}

/// Who waits for which answer; none once the process is gone.
type Waiting = Arc<Mutex<Option<HashMap<u64, Sender<Answer>>>>>;

/// A process with the library.
struct Process {
    child: Mutex<Child>,
    socket: Mutex<UnixStream>,
    memory: File,
    slots: Slots,
    waiting: Waiting,
    next: AtomicU64,
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Option<HashMap<u64, Sender<Answer>>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the process with the VDDK library ended (a crash of the library?)",
    )
}

impl Process {
    fn start(helper: &Helper, order: &Open) -> io::Result<(Self, Opened)> {
        let memory = File::from(rustix::fs::memfd_create("forklift-vddk", rustix::fs::MemfdFlags::CLOEXEC)?);
        memory.set_len(SLOT * SLOTS as u64)?;
        let (ours, theirs) = UnixStream::pair()?;
        let libraries = find(Path::new(&order.folder)).ok().and_then(|file| file.parent().map(Path::to_owned));
        let mut command = Command::new(&helper.program);
        command.args(&helper.args).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::from(memory.try_clone()?));
        if let Some(folder) = libraries {
            // the library brings its own OpenSSL and others
            command.env("LD_LIBRARY_PATH", folder);
        }
        let child = command.envs(helper.env.iter().cloned()).spawn()?;
        // the command holds the other end
        drop(command);
        let process = Self {
            child: Mutex::new(child),
            socket: Mutex::new(ours.try_clone()?),
            memory,
            slots: Slots { free: Mutex::new((0..SLOTS).collect()), changed: Condvar::new() },
            waiting: Arc::new(Mutex::new(Some(HashMap::new()))),
            next: AtomicU64::new(0),
        };
        // both ends of ours are one socket
        ours.set_read_timeout(Some(CONNECT))?;
        process.say(order)?;
        let mut lines = BufReader::new(ours).lines();
        let first = lines.next().transpose().map_err(|error| process.silent(error, CONNECT))?.ok_or_else(gone)?;
        process.socket.lock().unwrap_or_else(PoisonError::into_inner).set_read_timeout(None)?;
        let opened: Opened = serde_json::from_str(&first)?;
        if let Some(error) = &opened.error {
            // the library's words are all that there is to judge by: a second attempt costs little
            return Err(io::Error::other(error.to_string()));
        }
        let waiting = process.waiting.clone();
        std::thread::spawn(move || {
            for line in lines {
                let answer = line.ok().and_then(|line| serde_json::from_str::<Answer>(&line).ok());
                let Some(answer) = answer else { break };
                if let Some(asker) = lock(&waiting).as_mut().and_then(|waiting| waiting.remove(&answer.id)) {
                    // one that was left behind does not listen any more
                    let _ = asker.send(answer);
                }
            }
            // whoever waits hears that nobody answers
            *lock(&waiting) = None;
        });
        Ok((process, opened))
    }

    fn say(&self, what: &impl serde::Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(what)?;
        text.push(b'\n');
        self.socket.lock().unwrap_or_else(PoisonError::into_inner).write_all(&text).map_err(|_| gone())
    }

    fn is_dead(&self) -> bool {
        lock(&self.waiting).is_none()
    }

    /// Ends a process that does not answer, and says so; other errors stay as they are.
    fn silent(&self, error: io::Error, after: Duration) -> io::Error {
        if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
            return error;
        }
        let text = format!("VDDK did not answer for {} s; its process was ended", after.as_secs());
        tracing::warn!("{text}");
        // what it may still do with the shared memory ends with it
        let _ = self.child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        io::Error::new(io::ErrorKind::TimedOut, text)
    }

    fn ask(&self, within: Duration, ask: impl FnOnce(u64) -> Ask) -> io::Result<Answer> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (send, answer) = channel();
        lock(&self.waiting).as_mut().ok_or_else(gone)?.insert(id, send);
        self.say(&ask(id))?;
        let answer = answer.recv_timeout(within).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.silent(io::ErrorKind::TimedOut.into(), within),
            RecvTimeoutError::Disconnected => gone(),
        })?;
        match answer.error {
            None => Ok(answer),
            // what the library calls a failed read may well be a lost connection
            Some(error) => Err(io::Error::new(io::ErrorKind::ResourceBusy, error.to_string())),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // the child closes what is open, in order
        let _ = self.socket.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let deadline = Instant::now() + CLOSE;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
