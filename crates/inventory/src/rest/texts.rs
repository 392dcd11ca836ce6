//! Texts of single records that were asked for lately: whoever watches a VM asks for it again and again.
//!
//! Two generations: what is asked for again moves into the younger one, the older one goes when that is full, or
//! after a while. So at most [`BUDGET`] bytes are held, and none when nobody asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;

/// How much text is held at most.
const BUDGET: usize = 32 * 1024 * 1024;
/// How long a text is held at least that nobody asks for.
const KEPT: Duration = Duration::from_secs(30);

/// Which record: its tag holds the version; the path tells apart what only looks alike.
type Key = (String, String);

#[derive(Default)]
struct Generations {
    young: HashMap<Key, Bytes>,
    old: HashMap<Key, Bytes>,
    /// Bytes of the younger ones.
    size: usize,
    watched: bool,
}

impl Generations {
    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.size = 0;
    }

    fn add(&mut self, key: Key, text: Bytes) {
        if self.size + text.len() > BUDGET / 2 {
            self.age();
        }
        self.size += text.len();
        self.young.insert(key, text);
    }
}

/// Texts that were asked for lately.
#[derive(Default)]
pub(crate) struct Texts(Mutex<Generations>);

impl Texts {
    /// Returns the text of a record's version, made anew when it is not held.
    pub fn text(self: &Arc<Self>, tag: &str, path: &str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        let key = (tag.to_owned(), path.to_owned());
        {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(text) = held.young.get(&key) {
                return text.clone();
            }
            if let Some(text) = held.old.remove(&key) {
                held.add(key, text.clone());
                return text;
            }
        }
        let mut text = make();
        text.shrink_to_fit();
        let text = Bytes::from(text);
        if text.len() > BUDGET / 16 {
            return text;
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.add(key, text.clone());
        let watched = std::mem::replace(&mut held.watched, true);
        drop(held);
        if !watched {
            self.watch();
        }
        text
    }

    /// Lets texts go that nobody asks for, until there are none.
    fn watch(self: &Arc<Self>) {
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let texts = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEPT).await;
                let Some(texts) = texts.upgrade() else { return };
                let mut held = texts.0.lock().unwrap_or_else(PoisonError::into_inner);
                held.age();
                if held.old.is_empty() {
                    held.watched = false;
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(texts: &Arc<Texts>, tag: &str, path: &str, length: usize) -> bool {
        let mut anew = false;
        let text = texts.text(tag, path, || {
            anew = true;
            vec![b'x'; length]
        });
        assert_eq!(text.len(), length);
        anew
    }

    #[test]
    fn a_text_is_made_once_for_a_version_of_a_record() {
        let texts = Arc::default();
        assert!(made(&texts, "1", "vms/a", 3) && !made(&texts, "1", "vms/a", 3));
        assert!(made(&texts, "2", "vms/a", 4) && made(&texts, "1", "vms/b", 5));
    }

    #[test]
    fn no_more_is_held_than_fits_and_what_is_asked_for_stays() {
        let texts = Arc::default();
        let length = BUDGET / 32;
        for number in 0..100 {
            made(&texts, "1", &number.to_string(), length);
            made(&texts, "1", "0", length);
            let held = texts.0.lock().expect("nobody panics with it");
            let bytes: usize = held.young.values().chain(held.old.values()).map(Bytes::len).sum();
            assert!(bytes <= BUDGET, "{bytes}");
        }
        assert!(!made(&texts, "1", "0", length) && !made(&texts, "1", "99", length) && made(&texts, "1", "1", length));
        assert!(made(&texts, "1", "large", BUDGET / 8) && made(&texts, "1", "large", BUDGET / 8));
    }

    #[test]
    fn texts_go_that_nobody_asks_for_between_two_looks() {
        let texts = Arc::default();
        assert!(made(&texts, "1", "a", 3) && made(&texts, "1", "b", 3));
        texts.0.lock().expect("nobody panics with it").age();
        assert!(!made(&texts, "1", "a", 3));
        texts.0.lock().expect("nobody panics with it").age();
        assert!(!made(&texts, "1", "a", 3) && made(&texts, "1", "b", 3));
    }
}
