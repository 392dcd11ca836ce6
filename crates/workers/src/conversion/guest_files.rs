//! Text files of a guest, read once, so that what they mean is decided by plain functions.

use std::collections::BTreeMap;

/// Files of the guest by their path in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFiles(BTreeMap<String, String>);

impl GuestFiles {
    /// Adds a file.
    pub fn insert(&mut self, path: impl Into<String>, content: impl Into<String>) {
        self.0.insert(path.into(), content.into());
    }

    /// The content of a file, if the guest has it.
    pub fn get(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// All files, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(p, c)| (p.as_str(), c.as_str()))
    }

    /// Files given as pairs of path and content.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect())
    }
}
