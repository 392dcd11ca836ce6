//! Container logs: written line by line with time and stream, read as `kubectl logs` asks.
//!
//! The file has the container runtimes' format, `<time> <stream> <F|P> <text>`: F closes a
//! line, P is a part of one. A part is also written when a program prints without a line end
//! and then pauses, so that a guest's `login:` is seen.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};

/// A program that paused this long has its unfinished line written.
const PARTIAL_AFTER: Duration = Duration::from_millis(150);
/// Longer lines are written in parts.
const LONGEST: usize = 16 * 1024;

/// The logs that are being written; readers that follow wait here.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    open: Arc<Mutex<HashMap<PathBuf, watch::Receiver<u64>>>>,
}

impl Logs {
    /// Copies a program's output into a file until both streams end.
    pub async fn record(
        &self,
        path: PathBuf,
        out: impl AsyncRead + Unpin,
        err: impl AsyncRead + Unpin,
    ) -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        let (written, watcher) = watch::channel(0);
        self.lock().insert(path.clone(), watcher);
        let sink = Mutex::new(Sink { file, written });
        let result = tokio::try_join!(copy("stdout", out, &sink), copy("stderr", err, &sink));
        self.lock().remove(&path);
        result.map(|_| ())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, watch::Receiver<u64>>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads a log as asked; the channel closes at its end, or when the container ends.
    pub fn read(&self, path: PathBuf, options: Options) -> mpsc::Receiver<std::io::Result<Bytes>> {
        let (sender, receiver) = mpsc::channel(16);
        let watcher = self.lock().get(&path).cloned();
        tokio::spawn(async move {
            if let Err(error) = send(&path, &options, watcher, &sender).await {
                // the reader may be gone: nobody to tell then
                let _ = sender.send(Err(error)).await;
            }
        });
        receiver
    }
}

/// What a reader wants to see.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Go on with what comes.
    pub follow: bool,
    /// Only this many lines from the end.
    pub tail: Option<usize>,
    /// Only lines since then.
    pub since: Option<Timestamp>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Stop after this many bytes.
    pub limit: Option<usize>,
}

struct Sink {
    file: std::fs::File,
    written: watch::Sender<u64>,
}

async fn copy(stream: &str, mut from: impl AsyncRead + Unpin, sink: &Mutex<Sink>) -> std::io::Result<()> {
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
            Err(error) => return Err(error),
        };
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

fn append(sink: &Mutex<Sink>, stream: &str, lines: &[(&[u8], char)]) -> std::io::Result<()> {
    let time = Timestamp::now();
    let mut text = Vec::new();
    for (line, tag) in lines {
        write!(text, "{time:.9} {stream} {tag} ")?;
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    let mut sink = sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    sink.file.write_all(&text)?;
    sink.written.send_modify(|written| *written += text.len() as u64);
    Ok(())
}

/// One record of the file.
struct Entry {
    time: Timestamp,
    whole: bool,
    text: Vec<u8>,
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let _stream = fields.next()?;
        let whole = fields.next()? == b"F";
        Some(Self { time, whole, text: fields.next()?.to_vec() })
    }
}

async fn send(
    path: &Path,
    options: &Options,
    mut watcher: Option<watch::Receiver<u64>>,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let mut output = Output { sender, left: options.limit, at_start: true, times: options.timestamps };
    let mut position = match options.tail {
        Some(lines) => tail(path, lines, options.since)?,
        None => 0,
    };
    loop {
        // seen before reading, so that what is written meanwhile wakes the wait below
        let open = match &mut watcher {
            Some(watcher) => {
                watcher.borrow_and_update();
                watcher.has_changed().is_ok()
            }
            None => false,
        };
        let (entries, end) = read_from(path, position)?;
        let grew = end > position;
        position = end;
        for entry in entries {
            if options.since.is_some_and(|since| entry.time < since) {
                continue;
            }
            if !output.entry(&entry).await {
                return Ok(());
            }
        }
        if grew {
            continue;
        }
        match &mut watcher {
            Some(watcher) if options.follow && open => {
                tokio::select! {
                    // an error means that the writer has ended: read once more, then stop
                    _ = watcher.changed() => {}
                    () = sender.closed() => return Ok(()),
                }
            }
            _ => return Ok(()),
        }
    }
}

/// Reads up to 1 MiB of whole records from a position.
fn read_from(path: &Path, position: u64) -> std::io::Result<(Vec<Entry>, u64)> {
    let mut file = std::fs::File::open(path)?;
    file.seek(SeekFrom::Start(position))?;
    let mut reader = BufReader::new(file);
    let (mut entries, mut end) = (Vec::new(), position);
    let mut line = Vec::new();
    while end - position < 1 << 20 {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            break;
        }
        end += count as u64;
        entries.extend(Entry::parse(&line));
    }
    Ok((entries, end))
}

/// Finds where the last lines begin.
fn tail(path: &Path, lines: usize, since: Option<Timestamp>) -> std::io::Result<u64> {
    let mut starts: VecDeque<u64> = VecDeque::new();
    let mut reader = BufReader::new(std::fs::File::open(path)?);
    let (mut position, mut in_line) = (0, false);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            break;
        }
        if let Some(entry) = Entry::parse(&line)
            && since.is_none_or(|since| entry.time >= since)
        {
            if !in_line {
                starts.push_back(position);
                if starts.len() > lines {
                    starts.pop_front();
                }
            }
            in_line = !entry.whole;
        }
        position += count as u64;
    }
    Ok(starts.front().copied().unwrap_or(position))
}

struct Output<'a> {
    sender: &'a mpsc::Sender<std::io::Result<Bytes>>,
    left: Option<usize>,
    at_start: bool,
    times: bool,
}

impl Output<'_> {
    /// Sends a record; false when the reader has gone or has enough.
    async fn entry(&mut self, entry: &Entry) -> bool {
        let mut text = Vec::with_capacity(entry.text.len() + 40);
        if self.times && self.at_start {
            // writing to a vector cannot fail
            let _ = write!(text, "{:.9} ", entry.time);
        }
        text.extend_from_slice(&entry.text);
        if entry.whole {
            text.push(b'\n');
        }
        self.at_start = entry.whole;
        if let Some(left) = &mut self.left {
            text.truncate(*left);
            *left -= text.len();
        }
        let sent = self.sender.send(Ok(text.into())).await.is_ok();
        sent && self.left != Some(0)
    }
}

/// Reads the end of a log for a termination message: at most 80 lines and 2048 bytes.
pub fn last_words(path: &Path) -> Option<String> {
    let start = tail(path, 80, None).ok()?;
    let mut text = Vec::new();
    let mut position = start;
    loop {
        let (entries, end) = read_from(path, position).ok()?;
        if end == position {
            break;
        }
        for entry in entries {
            text.extend_from_slice(&entry.text);
            if entry.whole {
                text.push(b'\n');
            }
        }
        position = end;
    }
    let from = text.len().saturating_sub(2048);
    let words = String::from_utf8_lossy(&text[from..]).into_owned();
    (!words.is_empty()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn all(mut receiver: mpsc::Receiver<std::io::Result<Bytes>>) -> String {
        let mut text = Vec::new();
        while let Some(part) = receiver.recv().await {
            text.extend_from_slice(&part.expect("readable"));
        }
        String::from_utf8(text).expect("text")
    }

    #[tokio::test]
    async fn lines_are_kept_and_read_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        let logs = Logs::default();
        logs.record(path.clone(), &b"one\ntwo\n\nlogin: "[..], &b"oops\n"[..]).await.expect("written");
        let read = |options| all(logs.read(path.clone(), options));
        let whole = read(Options::default()).await;
        assert!(whole.contains("one\ntwo\n\n") && whole.contains("login: ") && whole.contains("oops\n"), "{whole:?}");
        let last = read(Options { tail: Some(1), ..Options::default() }).await;
        assert!(["login: ", "oops\n", "login: oops\n"].contains(&last.as_str()), "{last:?}");
        assert_eq!(read(Options { tail: Some(0), ..Options::default() }).await, "");
        assert_eq!(read(Options { limit: Some(3), ..Options::default() }).await.len(), 3);
        let later = Timestamp::now() + jiff::SignedDuration::from_secs(60);
        assert_eq!(read(Options { since: Some(later), ..Options::default() }).await, "");
        let stamped = read(Options { timestamps: true, ..Options::default() }).await;
        let first = stamped.split(' ').next().expect("a time");
        assert!(first.parse::<Timestamp>().is_ok(), "{stamped:?}");
        assert!(last_words(&path).expect("words").contains("two"));
    }

    #[tokio::test]
    async fn followers_see_prompts_and_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        let logs = Logs::default();
        let (mut program, out) = tokio::io::duplex(64);
        let writer = tokio::spawn({
            let (logs, path) = (logs.clone(), path.clone());
            async move { logs.record(path, out, tokio::io::empty()).await }
        });
        program.write_all(b"hello\nlogin: ").await.expect("written");
        tokio::time::timeout(Duration::from_secs(10), async {
            while !logs.lock().contains_key(&path) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("opened");
        let mut reader = logs.read(path.clone(), Options { follow: true, ..Options::default() });
        let mut seen = String::new();
        while !seen.ends_with("login: ") {
            let part = tokio::time::timeout(Duration::from_secs(10), reader.recv()).await;
            seen += std::str::from_utf8(&part.expect("in time").expect("open").expect("readable")).expect("text");
        }
        drop(program);
        writer.await.expect("no panic").expect("written");
        assert_eq!(all(reader).await, "");
        assert_eq!(seen, "hello\nlogin: ");
    }
}
