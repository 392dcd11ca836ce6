//! Texts that occur in many records, kept once.
//!
//! Ten thousand VMs name a few hundred hosts, folders, networks, guest systems
//! and states. A [`Word`] shares the text; the empty one costs nothing.

use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that many records have.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(Option<Arc<str>>);

/// All words in use, and some that were.
#[derive(Default)]
struct Words {
    known: HashSet<Arc<str>>,
    /// How many there may be before those that nobody uses are dropped.
    limit: usize,
}

static WORDS: LazyLock<Mutex<Words>> = LazyLock::new(Mutex::default);

impl Word {
    /// Returns the shared copy of a text.
    pub fn new(text: &str) -> Self {
        if text.is_empty() {
            return Self(None);
        }
        let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = words.known.get(text) {
            return Self(Some(known.clone()));
        }
        if words.known.len() >= words.limit {
            words.known.retain(|word| Arc::strong_count(word) > 1);
            words.limit = (words.known.len() * 2).max(4096);
        }
        let word: Arc<str> = text.into();
        words.known.insert(word.clone());
        Self(Some(word))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Deref for Word {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl PartialEq<str> for Word {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Word {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Word;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word::new(text))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_are_one_text() {
        let (a, b) = (Word::new("host-1"), Word::new(&String::from("host-1")));
        assert_eq!(a.as_str().as_ptr(), b.as_str().as_ptr());
        let read: Word = serde_json::from_str("\"host-1\"").expect("text");
        assert_eq!(a.as_str().as_ptr(), read.as_str().as_ptr());
        assert_eq!(Word::default(), Word::new(""));
    }
}
