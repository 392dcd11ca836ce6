//! The file behind the audit log: written by a thread of its own, put aside when it grows too large.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context;
use serde_json::Value;

use super::{AuditConfig, Policy};

/// Events that wait for the disk; more are dropped.
const QUEUE: usize = 8192;

/// The open log.
pub struct Log {
    /// What is recorded.
    pub policy: Policy,
    /// Events taken.
    pub written: AtomicU64,
    /// Events dropped because the disk was too slow.
    pub dropped: AtomicU64,
    queue: Mutex<Option<SyncSender<Value>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log for appending.
    pub fn open(config: AuditConfig, data_dir: &Path) -> anyhow::Result<Self> {
        let path = config.path.unwrap_or_else(|| data_dir.join("audit.log"));
        let file = Rotated::open(path, config.max_bytes, config.keep)?;
        let (sender, inbox) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("audit-writer".into()).spawn(move || run(file, &inbox))?;
        Ok(Self {
            policy: config.policy,
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            queue: Some(sender).into(),
            thread: Some(thread).into(),
        })
    }

    /// Queues an event.
    pub fn write(&self, event: Value) {
        let guard = self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(queue) = guard.as_ref() else { return };
        match queue.try_send(event) {
            Ok(()) => self.written.fetch_add(1, Ordering::Relaxed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Writes what is queued and closes the file.
    pub fn close(&self) {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
            && thread.join().is_err()
        {
            tracing::error!("the audit log's writer ended with a panic");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

fn run(mut file: Rotated, inbox: &Receiver<Value>) {
    let mut broken = false;
    while let Ok(first) = inbox.recv() {
        let mut result = file.write(&first);
        while let Ok(next) = inbox.try_recv() {
            result = result.and(file.write(&next));
        }
        let result = result.and(file.out.flush());
        // said once until it works again
        match result {
            Ok(()) => broken = false,
            Err(error) if !broken => {
                tracing::error!(%error, path = %file.path.display(), "cannot write the audit log");
                broken = true;
            }
            Err(_) => {}
        }
    }
}

struct Rotated {
    path: PathBuf,
    out: BufWriter<File>,
    bytes: u64,
    max_bytes: u64,
    keep: usize,
}

impl Rotated {
    fn open(path: PathBuf, max_bytes: u64, keep: usize) -> anyhow::Result<Self> {
        let file = append(&path).with_context(|| format!("cannot open the audit log {}", path.display()))?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, out: BufWriter::new(file), bytes, max_bytes, keep })
    }

    fn write(&mut self, event: &Value) -> std::io::Result<()> {
        let mut line = event.to_string();
        line.push('\n');
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.bytes > 0 && self.bytes.saturating_add(length) > self.max_bytes {
            self.rotate()?;
        }
        self.bytes += length;
        self.out.write_all(line.as_bytes())
    }

    /// `audit.log` becomes `audit.log.1`, that one `audit.log.2`, and so on; the oldest goes.
    fn rotate(&mut self) -> std::io::Result<()> {
        self.out.flush()?;
        let aside = |number: usize| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.keep).rev().filter(|n| aside(*n).exists()) {
            std::fs::rename(aside(number), aside(number + 1))?;
        }
        if self.keep > 0 {
            std::fs::rename(&self.path, aside(1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        self.out = BufWriter::new(append(&self.path)?);
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let config = AuditConfig { path: Some(path.clone()), max_bytes: 30, keep: 2, ..AuditConfig::default() };
        let log = Log::open(config, dir.path()).unwrap();
        (1..=4).for_each(|n| log.write(json!({"event": n, "fill": "xxxx"})));
        log.close();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("audit.log"), "{\"event\":4,\"fill\":\"xxxx\"}\n");
        assert_eq!(read("audit.log.1"), "{\"event\":3,\"fill\":\"xxxx\"}\n");
        assert_eq!(read("audit.log.2"), "{\"event\":2,\"fill\":\"xxxx\"}\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
