//! The writing side: lines into files, the next file when one is full.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{broadcast, watch};

use super::{Chunk, Rotation, Stream, segment, segments};

/// A program that paused this long has its unfinished line written.
const PARTIAL_AFTER: Duration = Duration::from_millis(150);
/// Longer lines are written in parts.
const LONGEST: usize = 16 * 1024;

/// Where a run's lines go.
pub(super) struct Sink {
    path: PathBuf,
    rotation: Rotation,
    number: u64,
    size: u64,
    file: std::fs::File,
    written: watch::Sender<u64>,
}

impl Sink {
    /// Opens the last file of a run, or its first.
    pub(super) fn open(path: PathBuf, rotation: Rotation, written: watch::Sender<u64>) -> std::io::Result<Self> {
        let number = segments(&path).last().copied().unwrap_or(0);
        let file = append_to(&path, number)?;
        let size = file.metadata()?.len();
        Ok(Self { path, rotation, number, size, file, written })
    }

    fn write(&mut self, text: &[u8]) -> std::io::Result<()> {
        if self.size > 0 && self.size + text.len() as u64 > self.rotation.max_bytes {
            self.number += 1;
            self.file = append_to(&self.path, self.number)?;
            self.size = 0;
            for old in segments(&self.path).into_iter().filter(|old| old + self.rotation.max_files <= self.number) {
                std::fs::remove_file(segment(&self.path, old))?;
            }
        }
        self.file.write_all(text)?;
        self.size += text.len() as u64;
        self.written.send_modify(|written| *written += text.len() as u64);
        Ok(())
    }
}

fn append_to(path: &std::path::Path, number: u64) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().create(true).append(true).open(segment(path, number))
}

/// Copies one stream until it ends.
pub(super) async fn copy(
    stream: Stream,
    mut from: impl AsyncRead + Unpin,
    sink: &Mutex<Sink>,
    tee: Option<&broadcast::Sender<Chunk>>,
) -> std::io::Result<()> {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let read = if pending.is_empty() {
            from.read(&mut buffer).await
        } else {
            match tokio::time::timeout(PARTIAL_AFTER, from.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    append(sink, stream, &[(&pending, 'P')])?;
                    pending.clear();
                    continue;
                }
            }
        };
        let count = match read {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            // a terminal says so when its last program has gone
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) => return Err(error),
        };
        if let Some(tee) = tee.filter(|tee| tee.receiver_count() > 0) {
            // who attached may leave at any time
            let _ = tee.send((stream, Bytes::copy_from_slice(&buffer[..count])));
        }
        pending.extend_from_slice(&buffer[..count]);
        let end = pending.iter().rposition(|byte| *byte == b'\n');
        if let Some(end) = end {
            let rest = pending.split_off(end + 1);
            let lines: Vec<(&[u8], char)> =
                pending[..end].split(|byte| *byte == b'\n').map(|line| (line, 'F')).collect();
            append(sink, stream, &lines)?;
            pending = rest;
        }
        if pending.len() >= LONGEST {
            append(sink, stream, &[(&pending, 'P')])?;
            pending.clear();
        }
    }
    if !pending.is_empty() {
        append(sink, stream, &[(&pending, 'P')])?;
    }
    Ok(())
}

fn append(sink: &Mutex<Sink>, stream: Stream, lines: &[(&[u8], char)]) -> std::io::Result<()> {
    let time = Timestamp::now();
    let mut text = Vec::new();
    for (line, tag) in lines {
        write!(text, "{time:.9} {} {tag} ", stream.name())?;
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).write(&text)
}
