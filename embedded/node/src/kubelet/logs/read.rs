//! The reading side: from a place in a run's files, line by line, to who asked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use super::{Options, Stream, segment, segments};

/// One record of the file.
struct Entry {
    time: Timestamp,
    stream: Stream,
    whole: bool,
    text: Vec<u8>,
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let stream = if fields.next()? == b"stderr" { Stream::Err } else { Stream::Out };
        let whole = fields.next()? == b"F";
        Some(Self { time, stream, whole, text: fields.next()?.to_vec() })
    }
}

/// A place in a run's log: a file's number, and bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    number: u64,
    at: u64,
}

impl Options {
    fn wants(&self, entry: &Entry) -> bool {
        self.since.is_none_or(|since| entry.time >= since) && self.stream.is_none_or(|stream| entry.stream == stream)
    }
}

/// Sends what is asked for; with `follow` until the writer ends.
pub(super) async fn send(
    path: &Path,
    options: &Options,
    mut watcher: Option<watch::Receiver<u64>>,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let mut output = Output { sender, left: options.limit, at_start: true, times: options.timestamps };
    let mut place = match options.tail {
        Some(lines) => tail(path, lines, options)?,
        None => first(path),
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
        // the next file is there before the last byte of this one has been read: look in this order
        let next = segments(path).into_iter().find(|number| *number > place.number);
        let (entries, end) = read_from(path, place)?;
        let grew = end > place;
        place = end;
        for entry in entries.iter().filter(|entry| options.wants(entry)) {
            if !output.entry(entry).await {
                return Ok(());
            }
        }
        if grew {
            continue;
        }
        if let Some(number) = next {
            place = Place { number, at: 0 };
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

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self.number, self.at).partial_cmp(&(other.number, other.at))
    }
}

fn first(path: &Path) -> Place {
    Place { number: segments(path).first().copied().unwrap_or(0), at: 0 }
}

/// Reads up to 1 MiB of whole records from a place. A file that was rotated away has no more.
fn read_from(path: &Path, place: Place) -> std::io::Result<(Vec<Entry>, Place)> {
    let mut file = match std::fs::File::open(segment(path, place.number)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), place)),
        other => other?,
    };
    file.seek(SeekFrom::Start(place.at))?;
    let mut reader = BufReader::new(file);
    let (mut entries, mut end) = (Vec::new(), place.at);
    let mut line = Vec::new();
    while end - place.at < 1 << 20 {
        line.clear();
        let count = reader.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            break;
        }
        end += count as u64;
        entries.extend(Entry::parse(&line));
    }
    Ok((entries, Place { at: end, ..place }))
}

/// Finds where the last lines begin, from the last file backwards.
fn tail(path: &Path, lines: usize, options: &Options) -> std::io::Result<Place> {
    let numbers = segments(path);
    let mut left = lines;
    let mut place = Place { number: numbers.last().copied().unwrap_or(0), at: u64::MAX };
    for number in numbers.into_iter().rev() {
        let (starts, end) = starts(&segment(path, number), left, options)?;
        if place.at == u64::MAX {
            place.at = end;
        }
        if let Some(at) = starts.front() {
            place = Place { number, at: *at };
        }
        left -= starts.len();
        if left == 0 {
            break;
        }
    }
    Ok(if place.at == u64::MAX { Place { at: 0, ..place } } else { place })
}

/// Where the last lines of one file begin, and where it ends.
fn starts(path: &Path, lines: usize, options: &Options) -> std::io::Result<(VecDeque<u64>, u64)> {
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
        if let Some(entry) = Entry::parse(&line).filter(|entry| options.wants(entry)) {
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
    Ok((starts, position))
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
    let mut position = tail(path, 80, &Options::default()).ok()?;
    let mut text = Vec::new();
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
