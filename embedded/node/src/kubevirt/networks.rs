//! Multus networks: an Ethernet switch each, in the node itself.
//!
//! ```text
//! QEMU ─ -netdev stream ─┐
//! QEMU ─ -netdev stream ─┴─ switch.sock ─ learns which address is where, forwards, floods
//! ```
//! Machines on the same network reach each other whatever the node may do with the kernel's network; nothing
//! else is on it. QEMU sends each frame after its length in four bytes, big-endian (net/stream.c).

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::events::short_hash;

/// Longest frame that is taken: QEMU's own limit (NET_BUFSIZE) with its header.
const LONGEST: usize = 4096 + 65536;
/// Frames that wait for a slow guest; what comes beyond is lost, as on a wire.
const WAITING: usize = 512;

/// The switches of the node.
#[derive(Debug)]
pub struct Networks {
    dir: PathBuf,
    switches: Mutex<HashMap<String, tokio::task::JoinHandle<()>>>,
}

impl Drop for Networks {
    fn drop(&mut self) {
        let switches = self.switches.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        switches.values().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Networks {
    /// Keeps the sockets below a directory; what an earlier node left there is removed.
    pub fn new(dir: PathBuf) -> Self {
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, dir = %dir.display(), "old network sockets are left");
            }
            _ => {}
        }
        Self { dir, switches: Mutex::default() }
    }

    /// Makes sure that a network's switch runs; returns the directory of its socket.
    pub async fn segment(&self, network: &str) -> std::io::Result<String> {
        let dir = self.dir.join(short_hash(network));
        let text = dir.to_str().ok_or_else(|| std::io::Error::other("the data directory is not UTF-8"))?.to_owned();
        let mut switches = self.switches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if switches.get(network).is_none_or(tokio::task::JoinHandle::is_finished) {
            std::fs::create_dir_all(&dir)?;
            let listener = listen(&dir)?;
            switches.insert(network.to_owned(), tokio::spawn(run(listener)));
        }
        Ok(text)
    }

    /// Ends the switches of networks that no machine is on.
    pub fn retain(&self, used: impl Fn(&str) -> bool) {
        let mut switches = self.switches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        switches.retain(|network, task| {
            let keep = used(network);
            if !keep {
                task.abort();
                // a new switch makes its own
                let _ = std::fs::remove_dir_all(self.dir.join(short_hash(network)));
            }
            keep
        });
    }
}

/// Binds by way of the directory: a socket's path takes only 107 bytes.
fn listen(dir: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(dir.join("switch.sock")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let handle = std::fs::File::open(dir)?;
    UnixListener::bind(Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string()).join("switch.sock"))
}

/// Where frames go: ports by number, and which address was last seen at which.
#[derive(Default)]
struct Table {
    next: u64,
    ports: HashMap<u64, mpsc::Sender<Bytes>>,
    learned: HashMap<[u8; 6], u64>,
}

impl Table {
    /// The ports that a frame from one of them goes to.
    fn route(&mut self, from: u64, frame: &[u8]) -> Vec<u64> {
        let address =
            |range: std::ops::Range<usize>| frame.get(range).and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        let (Some(to), Some(source)) = (address(0..6), address(6..12)) else { return Vec::new() };
        // a group's address (lowest bit of the first byte) is nobody's own
        if source[0] & 1 == 0 {
            self.learned.insert(source, from);
        }
        match self.learned.get(&to).filter(|_| to[0] & 1 == 0) {
            Some(&port) if port == from => Vec::new(),
            Some(&port) => vec![port],
            None => self.ports.keys().copied().filter(|&port| port != from).collect(),
        }
    }

    fn remove(&mut self, port: u64) {
        self.ports.remove(&port);
        self.learned.retain(|_, at| *at != port);
    }
}

async fn run(listener: UnixListener) {
    let table = Arc::new(Mutex::new(Table::default()));
    // ends with the switch, which drops it
    let mut guests = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    guests.spawn(guest(stream, table.clone()));
                }
                Err(error) => return tracing::warn!(%error, "a network's switch ended"),
            },
            Some(_) = guests.join_next() => {}
        }
    }
}

async fn guest(stream: UnixStream, table: Arc<Mutex<Table>>) {
    let (read, write) = stream.into_split();
    let (sender, frames) = mpsc::channel(WAITING);
    let port = {
        let mut table = table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        table.next += 1;
        let port = table.next;
        table.ports.insert(port, sender);
        port
    };
    tokio::select! {
        result = take(read, port, &table) => if let Err(error) = result {
            tracing::debug!(%error, "a machine left its network");
        },
        result = give(write, frames) => if let Err(error) = result {
            tracing::debug!(%error, "a machine left its network");
        },
    }
    table.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).remove(port);
}

async fn take(read: OwnedReadHalf, port: u64, table: &Mutex<Table>) -> std::io::Result<()> {
    let mut read = BufReader::new(read);
    loop {
        let length = read.read_u32().await? as usize;
        if length > LONGEST {
            return Err(std::io::Error::other(format!("a frame of {length} bytes is longer than any")));
        }
        let mut frame = vec![0; length];
        read.read_exact(&mut frame).await?;
        let frame = Bytes::from(frame);
        let mut table = table.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for to in table.route(port, &frame) {
            if let Some(sender) = table.ports.get(&to) {
                // a full queue loses the frame
                let _ = sender.try_send(frame.clone());
            }
        }
    }
}

async fn give(write: OwnedWriteHalf, mut frames: mpsc::Receiver<Bytes>) -> std::io::Result<()> {
    let mut write = BufWriter::new(write);
    while let Some(frame) = frames.recv().await {
        write.write_u32(frame.len() as u32).await?;
        write.write_all(&frame).await?;
        if frames.is_empty() {
            write.flush().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn join(dir: &str) -> UnixStream {
        UnixStream::connect(Path::new(dir).join("switch.sock")).await.expect("connected")
    }

    async fn send(stream: &mut UnixStream, frame: &[u8]) {
        stream.write_u32(frame.len() as u32).await.expect("sent");
        stream.write_all(frame).await.expect("sent");
    }

    async fn receive(stream: &mut UnixStream) -> Vec<u8> {
        let receive = async {
            let mut frame = vec![0; stream.read_u32().await.expect("a length") as usize];
            stream.read_exact(&mut frame).await.expect("a frame");
            frame
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), receive).await.expect("in time")
    }

    fn frame(to: u8, from: u8, text: &str) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, to], &[2, 0, 0, 0, 0, from], text.as_bytes()].concat()
    }

    #[tokio::test]
    async fn frames_reach_whom_they_are_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let networks = Networks::new(dir.path().join("networks"));
        let place = networks.segment("apps/lan").await.expect("a switch");
        let elsewhere = networks.segment("apps/other").await.expect("a switch");
        assert_eq!(networks.segment("apps/lan").await.expect("the same"), place);
        let (mut a, mut b, mut c, mut stranger) =
            (join(&place).await, join(&place).await, join(&place).await, join(&elsewhere).await);
        // nobody knows b yet: all of the network hear it
        send(&mut a, &frame(0xb, 0xa, "first")).await;
        assert_eq!(receive(&mut b).await, frame(0xb, 0xa, "first"));
        assert_eq!(receive(&mut c).await, frame(0xb, 0xa, "first"));
        // b answers: a is known, c does not hear it but the next
        send(&mut b, &frame(0xa, 0xb, "answer")).await;
        assert_eq!(receive(&mut a).await, frame(0xa, 0xb, "answer"));
        send(
            &mut b,
            &frame(0xff, 0xb, "to all").iter().map(|&byte| if byte == 2 { 3 } else { byte }).collect::<Vec<u8>>(),
        )
        .await;
        assert_eq!(&receive(&mut c).await[12..], b"to all");
        assert_eq!(&receive(&mut a).await[12..], b"to all");
        // another network heard nothing of it all
        send(&mut join(&elsewhere).await, &frame(0xff, 0xd, "here")).await;
        assert_eq!(&receive(&mut stranger).await[12..], b"here");
        networks.retain(|network| network == "apps/lan");
        assert!(!Path::new(&elsewhere).exists() && Path::new(&place).exists());
    }
}
