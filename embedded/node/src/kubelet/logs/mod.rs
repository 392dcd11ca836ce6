//! Container logs: written line by line with time and stream, rotated by size, read as `kubectl logs` asks.
//!
//! A file has the container runtimes' format, `<time> <stream> <F|P> <text>`: F closes a
//! line, P is a part of one. A part is also written when a program prints without a line end
//! and then pauses, so that a guest's `login:` is seen.
//!
//! One run of a container is `<run>.log`, then `<run>.log.1`, `<run>.log.2` …: a file that is full is followed by the
//! next, and the oldest are removed. Nothing is renamed, so a reader that follows goes from one file to the next.

mod read;
mod write;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncRead;
use tokio::sync::{broadcast, mpsc, watch};

pub use read::last_words;

/// Which stream a program printed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its output.
    Out,
    /// Its error stream.
    Err,
}

/// What a program printed, as it came.
pub type Chunk = (Stream, Bytes);

/// How large logs get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which the next file is begun.
    pub max_bytes: u64,
    /// Files of one run that are kept.
    pub max_files: u64,
}

impl Default for Rotation {
    /// Kubelet's containerLogMaxSize and containerLogMaxFiles.
    fn default() -> Self {
        Self { max_bytes: 10 << 20, max_files: 5 }
    }
}

/// The logs that are being written; readers that follow wait here.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    rotation: Rotation,
    open: Arc<Mutex<HashMap<PathBuf, watch::Receiver<u64>>>>,
}

impl Logs {
    /// Makes logs of a size.
    pub fn new(rotation: Rotation) -> Self {
        Self { rotation, open: Arc::default() }
    }

    /// Copies a program's output into files, and to who attached, until both streams end.
    pub async fn record(
        &self,
        path: PathBuf,
        out: impl AsyncRead + Unpin,
        err: impl AsyncRead + Unpin,
        tee: Option<broadcast::Sender<Chunk>>,
    ) -> std::io::Result<()> {
        let (written, watcher) = watch::channel(0);
        let sink = Mutex::new(write::Sink::open(path.clone(), self.rotation, written)?);
        self.lock().insert(path.clone(), watcher);
        let tee = tee.as_ref();
        let result =
            tokio::try_join!(write::copy(Stream::Out, out, &sink, tee), write::copy(Stream::Err, err, &sink, tee));
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
            if let Err(error) = read::send(&path, &options, watcher, &sender).await {
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
    /// Only one stream.
    pub stream: Option<Stream>,
}

impl Stream {
    /// Its name in the file.
    fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// The path of a run's file with a number.
fn segment(path: &Path, number: u64) -> PathBuf {
    if number == 0 { path.to_owned() } else { PathBuf::from(format!("{}.{number}", path.display())) }
}

/// The numbers of a run's files, in order.
fn segments(path: &Path) -> Vec<u64> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| {
            let found = entry.file_name();
            match found.to_str()?.strip_prefix(name)? {
                "" => Some(0),
                rest => rest.strip_prefix('.')?.parse().ok(),
            }
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Says whether a run has a log.
pub fn exists(path: &Path) -> bool {
    !segments(path).is_empty()
}

/// Removes all files of a run.
pub fn remove(path: &Path) {
    for number in segments(path) {
        // gone already is as good
        let _ = std::fs::remove_file(segment(path, number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
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
        logs.record(path.clone(), &b"one\ntwo\n\nlogin: "[..], &b"oops\n"[..], None).await.expect("written");
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
            async move { logs.record(path, out, tokio::io::empty(), None).await }
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

    #[tokio::test]
    async fn a_full_file_is_followed_by_the_next() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("0.log");
        let logs = Logs::new(Rotation { max_bytes: 400, max_files: 3 });
        let (mut program, out) = tokio::io::duplex(64);
        let writer = tokio::spawn({
            let (logs, path) = (logs.clone(), path.clone());
            async move { logs.record(path, out, tokio::io::empty(), None).await }
        });
        program.write_all(b"line 0\n").await.expect("written");
        tokio::time::timeout(Duration::from_secs(10), async {
            while !exists(&path) || !logs.lock().contains_key(&path) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("opened");
        let mut reader = logs.read(path.clone(), Options { follow: true, ..Options::default() });
        let mut seen = String::new();
        for number in 1..=60 {
            let line = format!("line {number}\n");
            program.write_all(line.as_bytes()).await.expect("written");
            // the follower keeps up, so that no file is removed before it was read
            while !seen.contains(&line) {
                let part = tokio::time::timeout(Duration::from_secs(10), reader.recv()).await;
                seen += std::str::from_utf8(&part.expect("in time").expect("open").expect("readable")).expect("text");
            }
        }
        drop(program);
        writer.await.expect("no panic").expect("written");
        let expected: String = (0..=60).map(|number| format!("line {number}\n")).collect();
        assert_eq!(seen + &all(reader).await, expected);
        assert_eq!(segments(&path).len(), 3);
        let read = |options| all(logs.read(path.clone(), options));
        let kept = read(Options::default()).await;
        assert!(expected.ends_with(&kept) && kept.lines().count() > 15, "{kept:?}");
        let last = read(Options { tail: Some(12), ..Options::default() }).await;
        assert_eq!(
            last.lines().collect::<Vec<_>>(),
            kept.lines().rev().take(12).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>()
        );
        remove(&path);
        assert!(!exists(&path));
    }
}
