//! Rules that change while they are in use.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{RuleError, RuleFile, Validator, read_rules};

/// How often a folder is looked at. A mounted ConfigMap is itself up to a minute late.
pub const LOOK: Duration = Duration::from_secs(2);

/// A folder of rules and what was last read from it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    seen: Option<(Vec<RuleFile>, Vec<RuleError>)>,
}

impl Folder {
    /// Returns the folder, not read yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None }
    }

    /// Reads the folder; `true` when it is not as it was, or read for the first time.
    pub fn changed(&mut self) -> bool {
        let now = read_rules(&self.path);
        if self.seen.as_ref() == Some(&now) {
            return false;
        }
        self.seen = Some(now);
        true
    }

    /// Returns the files that were last read.
    pub fn files(&self) -> &[RuleFile] {
        self.seen.as_ref().map_or(&[], |(files, _)| files)
    }

    /// Returns the files that could not be read.
    pub fn errors(&self) -> &[RuleError] {
        self.seen.as_ref().map_or(&[], |(_, errors)| errors)
    }
}

/// Keeps a validator's rules as they are in a folder, for ever; `changed` is told of every change and its errors.
pub async fn follow_folder(validator: Validator, path: &Path, changed: impl Fn(&[RuleError])) {
    let mut folder = Folder::new(path);
    loop {
        if folder.changed() {
            let errors = validator.replace(folder.files());
            let all: Vec<RuleError> = folder.errors().iter().cloned().chain(errors).collect();
            changed(&all);
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_tells_of_changes_only() {
        let directory = tempfile::tempdir().expect("a temporary folder");
        let mut folder = Folder::new(directory.path());
        assert!(folder.changed(), "it is read for the first time");
        assert!(!folder.changed());
        std::fs::write(directory.path().join("a.rego"), "package a").expect("writable");
        assert!(folder.changed());
        assert_eq!(folder.files(), [RuleFile::new("a.rego", "package a")]);
        std::fs::write(directory.path().join("notes.txt"), "x").expect("writable");
        assert!(!folder.changed(), "other files do not matter");
        std::fs::remove_file(directory.path().join("a.rego")).expect("removable");
        assert!(folder.changed());
        assert_eq!(folder.files(), []);
    }
}
