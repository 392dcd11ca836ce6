//! Lists: made piece by piece while they are sent, so that a list of any size needs little memory.
//!
//! ```text
//! records ─► pieces of 256 KiB ─► (gzip) ─► the client
//!                     └─ a list asked for again unchanged is kept: Cache, bounded
//! ```
//! Every list has a tag of its version; a client that shows it gets 304 and nothing is made.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_core::Stream;

use crate::{Record, Store, View};

/// Size of a piece, before compression.
const PIECE: usize = 256 * 1024;
/// Size of the pieces of a list that is kept.
const KEPT_PIECE: usize = 4 * 1024 * 1024;
/// Shorter answers are not worth compressing.
const SHORT: usize = 2 * 1024;
/// How much text of lists is kept at most.
const BUDGET: usize = 64 * 1024 * 1024;
/// How long a list is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(60);

/// A list's text: its pieces.
type Text = Arc<[Bytes]>;

/// Which list: its tag holds the version, the collection and the request.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub tag: String,
    pub gzip: bool,
}

struct Kept {
    /// `None` when it was only asked for once.
    text: Option<Text>,
    used: Instant,
}

/// Lists that were asked for again while nothing had changed.
#[derive(Default)]
pub(crate) struct Cache {
    lists: Mutex<HashMap<Key, Kept>>,
}

fn size(text: &Text) -> usize {
    text.iter().map(Bytes::len).sum()
}

impl Cache {
    /// Returns the list; else whether it is worth keeping, as it was asked for before.
    fn get(&self, key: &Key) -> (Option<Text>, bool) {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.retain(|_, kept| kept.used.elapsed() < KEPT);
        match lists.get_mut(key) {
            Some(kept) => {
                kept.used = Instant::now();
                (kept.text.clone(), true)
            }
            None => {
                lists.insert(key.clone(), Kept { text: None, used: Instant::now() });
                (None, false)
            }
        }
    }

    fn put(self: &Arc<Self>, key: &Key, text: Text) {
        if size(&text) > BUDGET {
            return;
        }
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = lists.values().all(|kept| kept.text.is_none());
        lists.insert(key.clone(), Kept { text: Some(text), used: Instant::now() });
        loop {
            let held: usize = lists.values().filter_map(|kept| kept.text.as_ref()).map(size).sum();
            let oldest = lists.iter().filter(|(_, kept)| kept.text.is_some()).min_by_key(|(_, kept)| kept.used);
            match oldest.map(|(key, _)| key.clone()) {
                Some(oldest) if held > BUDGET => lists.remove(&oldest),
                _ => break,
            };
        }
        drop(lists);
        // gives the memory back when nobody asks any more
        if begin && tokio::runtime::Handle::try_current().is_ok() {
            let cache = Arc::downgrade(self);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(KEPT / 2).await;
                    let Some(cache) = cache.upgrade() else { return };
                    let mut lists = cache.lists.lock().unwrap_or_else(PoisonError::into_inner);
                    lists.retain(|_, kept| kept.used.elapsed() < KEPT);
                    if lists.values().all(|kept| kept.text.is_none()) {
                        return;
                    }
                }
            });
        }
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        let lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        lists.values().filter_map(|kept| kept.text.as_ref()).map(size).sum()
    }
}

/// Records to be sent as a list.
pub(crate) struct List {
    pub store: Arc<Store>,
    pub kind: &'static str,
    pub records: Arc<[Arc<Record>]>,
    /// Which of the records: positions, or the page of all.
    pub detail: i64,
}

/// A list's pieces, made when they are asked for.
struct Pieces {
    list: List,
    next: usize,
    begun: bool,
    done: bool,
    gzip: Option<GzEncoder<Vec<u8>>>,
    /// Where they go when the list is worth keeping.
    keep: Option<(Arc<Cache>, Key, Vec<Bytes>)>,
    /// How long they are together.
    kept: usize,
}

impl Pieces {
    fn new(list: List, gzip: bool) -> Self {
        let gzip = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        Self { list, next: 0, begun: false, done: false, gzip, keep: None, kept: 0 }
    }

    /// Makes the next piece; `None` at the end.
    fn piece(&mut self) -> Option<Bytes> {
        while !self.done {
            let mut text = Vec::with_capacity(PIECE + 16 * 1024);
            let view: Option<View<'_>> = self.list.store.view(self.list.kind);
            if !std::mem::replace(&mut self.begun, true) {
                text.push(b'[');
            }
            while let (Some(record), Some(view)) = (self.list.records.get(self.next), view) {
                if self.next > 0 {
                    text.push(b',');
                }
                view.append(record, self.list.detail, &mut text);
                self.next += 1;
                if text.len() >= PIECE {
                    break;
                }
            }
            if self.next >= self.list.records.len() || view.is_none() {
                text.push(b']');
                self.done = true;
            }
            let piece = self.packed(text);
            if !piece.is_empty() {
                if let Some((_, _, pieces)) = &mut self.keep {
                    self.kept += piece.len();
                    pieces.push(piece.clone());
                }
                // what is larger than all that may be kept is not gathered to its end
                if self.kept > BUDGET {
                    self.keep = None;
                }
                if self.done {
                    self.put_away();
                }
                return Some(piece);
            }
        }
        None
    }

    fn packed(&mut self, text: Vec<u8>) -> Bytes {
        let Some(gzip) = &mut self.gzip else { return text.into() };
        // writing to memory does not fail
        let _ = gzip.write_all(&text);
        if self.done {
            return self.gzip.take().and_then(|gzip| gzip.finish().ok()).unwrap_or_default().into();
        }
        std::mem::take(gzip.get_mut()).into()
    }

    fn put_away(&mut self) {
        if let Some((cache, key, pieces)) = self.keep.take() {
            cache.put(&key, joined(&pieces));
        }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.piece().map(Ok))
    }
}

/// Puts pieces together to larger ones: the connection takes as much at once as it can.
fn joined(pieces: &[Bytes]) -> Text {
    let mut text: Vec<Bytes> = Vec::new();
    let mut large = Vec::new();
    for piece in pieces {
        if large.len() + piece.len() > KEPT_PIECE && !large.is_empty() {
            text.push(std::mem::take(&mut large).into());
        }
        if large.capacity() == 0 {
            large.reserve_exact(KEPT_PIECE.max(piece.len()));
        }
        large.extend_from_slice(piece);
    }
    large.shrink_to_fit();
    text.push(large.into());
    text.into()
}

/// The pieces of a list that is kept.
struct Again(Text, usize);

impl Stream for Again {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.1 += 1;
        Poll::Ready(self.0.get(self.1 - 1).cloned().map(Ok))
    }
}

/// Returns the `ETag` of an answer: weak, as it is the same packed or not.
pub(crate) fn etag(version: &str, request: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    request.hash(&mut hasher);
    format!("W/\"{version}-{:x}\"", hasher.finish())
}

/// Returns whether the client has the version of a tag.
pub(crate) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let tags = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    tags.flat_map(|tags| tags.split(',')).any(|tag| tag.trim() == "*" || strong(tag) == strong(etag))
}

/// Returns whether the client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut wanted = None;
    for coding in values.flat_map(|value| value.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let zero = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
        let refused = parts.any(|part| zero(&part.to_ascii_lowercase()));
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => wanted = Some(!refused),
            "*" => wanted = wanted.or(Some(!refused)),
            _ => {}
        }
    }
    wanted.unwrap_or(false)
}

fn described(response: &mut Response, etag: Option<&str>, gzip: bool) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    // may be kept by the client, and is to be asked for each time
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(value) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
        headers.insert(ETAG, value);
    }
}

/// Returns the answer to a client that has this version.
pub(crate) fn not_modified(etag: &str) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    described(&mut response, Some(etag), false);
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// Returns a JSON text as an answer.
pub(crate) fn answer(headers: &HeaderMap, etag: Option<&str>, text: Bytes) -> Response {
    let gzip = text.len() > SHORT && takes_gzip(headers);
    let body = if gzip {
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::fast());
        // writing to memory does not fail
        let _ = encoder.write_all(&text);
        encoder.finish().unwrap_or_default().into()
    } else {
        text
    };
    let mut response = body.into_response();
    described(&mut response, etag, gzip);
    response
}

/// Returns a list as an answer. With a tag, a list that was asked for before is kept.
pub(crate) fn stream(headers: &HeaderMap, cache: &Arc<Cache>, etag: Option<&str>, list: List) -> Response {
    // a few records are quicker made than managed
    if list.records.len() <= 32 {
        let text = Pieces::new(list, false).flatten_all();
        return answer(headers, etag, text.into());
    }
    let gzip = takes_gzip(headers);
    let key = etag.map(|etag| Key { tag: format!("{}/{etag}", list.kind), gzip });
    let (kept, again) = key.as_ref().map_or((None, false), |key| cache.get(key));
    let mut response = match kept {
        Some(text) => {
            let length = size(&text);
            let mut response = Body::from_stream(Again(text, 0)).into_response();
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
            response
        }
        None => {
            let mut pieces = Pieces::new(list, gzip);
            pieces.keep = key.filter(|_| again).map(|key| (cache.clone(), key, Vec::new()));
            Body::from_stream(pieces).into_response()
        }
    };
    described(&mut response, etag, gzip);
    response
}

impl Pieces {
    fn flatten_all(mut self) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some(piece) = self.piece() {
            text.extend_from_slice(&piece);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: axum::http::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn gzip_is_what_the_client_says() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("gzip;q=0, *", false),
            ("*", true),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(&headers(ACCEPT_ENCODING, value)), expected, "{value}");
        }
    }

    #[test]
    fn tags_are_compared_weakly() {
        let tag = etag("1-2", "x");
        let other = etag("1-2", "y");
        assert_ne!(tag, other);
        let sent = format!("{other}, {}", tag.trim_start_matches("W/"));
        let mut map = HeaderMap::new();
        map.insert(IF_NONE_MATCH, HeaderValue::from_str(&sent).expect("plain"));
        assert!(is_known(&map, &tag) && is_known(&map, &other) && !is_known(&map, &etag("1-3", "x")));
    }

    #[test]
    fn the_pieces_of_a_kept_list_are_large_and_say_the_same() {
        let pieces: Vec<Bytes> = (0..100_u8).map(|n| Bytes::from(vec![n; usize::from(n) * 2000])).collect();
        let text = joined(&pieces);
        assert_eq!(text.concat(), pieces.concat());
        assert_eq!(text.iter().map(|piece| piece.len() / 1_000_000).collect::<Vec<_>>(), [4, 4, 1]);
        assert!(joined(&[]).concat().is_empty());
    }

    #[tokio::test]
    async fn lists_are_kept_when_they_are_asked_for_again_and_no_more_than_fits() {
        let cache = Arc::new(Cache::default());
        let key = |n: usize| Key { tag: n.to_string(), gzip: false };
        let text = |length: usize| -> Text { Arc::new([Bytes::from(vec![0; length])]) };
        assert_eq!((cache.get(&key(1)).1, cache.get(&key(1)).1), (false, true));
        for n in 0..10 {
            cache.put(&key(n), text(BUDGET / 4));
        }
        assert_eq!(cache.held(), BUDGET);
        assert!(cache.get(&key(9)).0.is_some() && cache.get(&key(0)).0.is_none());
        cache.put(&key(99), text(BUDGET + 1));
        assert!(cache.get(&key(99)).0.is_none());
    }
}
