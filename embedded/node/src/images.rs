//! Image names and the local programs behind them.
//!
//! Nothing is pulled: an image is a row of this table. `command` in a pod replaces the
//! row's entry point and `args` are appended, as a container runtime does it with the
//! entry point stored in an image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// Maps image names to programs of this machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageTable {
    /// The rows; an exact name wins over a pattern, then the first match.
    #[serde(default, rename = "image")]
    entries: Vec<Image>,
}

/// One row of the table.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// An image name, or a pattern in which `*` stands for any characters.
    pub name: String,
    /// The entry point: a program and its first arguments. Empty: the pod has to give `command`.
    #[serde(default)]
    pub command: Vec<String>,
    /// Environment which the image brings along.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the entry point also stands before a pod's own `command`: for a program that
    /// takes the place of what the pod expects in the image.
    #[serde(default)]
    pub wraps: bool,
    /// Whether the program runs as the node does, whatever user and capabilities a pod asks for: for a program of this
    /// machine that needs what only the node's user may open.
    #[serde(default)]
    pub keeps_user: bool,
    /// A disk image of this machine, raw or qcow2: what the image holds for virtual machines (`containerDisk`).
    #[serde(default)]
    pub disk: Option<PathBuf>,
}

impl Image {
    /// What runs when a pod gives this `command`, or none.
    pub fn argv(&self, given: Option<Vec<String>>) -> Vec<String> {
        match given {
            Some(given) if self.wraps => self.command.iter().cloned().chain(given).collect(),
            Some(given) => given,
            None => self.command.clone(),
        }
    }
}

impl ImageTable {
    /// Makes a table of image names and entry points.
    pub fn new<N: Into<String>>(rows: impl IntoIterator<Item = (N, Vec<String>)>) -> Self {
        rows.into_iter().fold(Self::default(), |table, (name, command)| table.with(name, command))
    }

    /// Reads a table: `[[image]]` rows with `name`, `command` and `env`.
    pub fn from_toml(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Adds a row.
    pub fn with<S: Into<String>>(mut self, name: impl Into<String>, command: impl IntoIterator<Item = S>) -> Self {
        self.push(Image {
            name: name.into(),
            command: command.into_iter().map(Into::into).collect(),
            ..Image::default()
        });
        self
    }

    /// Adds a row whose entry point also stands before a pod's own `command`.
    pub fn wrapping<S: Into<String>>(mut self, name: impl Into<String>, command: impl IntoIterator<Item = S>) -> Self {
        self.push(Image {
            name: name.into(),
            command: command.into_iter().map(Into::into).collect(),
            wraps: true,
            ..Image::default()
        });
        self
    }

    /// Makes the programs of all rows run as the node does: see [`Image::keeps_user`].
    pub fn keeping_user(mut self) -> Self {
        self.entries.iter_mut().for_each(|image| image.keeps_user = true);
        self
    }

    /// Adds a row of a disk image, for `containerDisk` volumes.
    pub fn with_disk(mut self, name: impl Into<String>, disk: impl Into<PathBuf>) -> Self {
        self.push(Image { name: name.into(), disk: Some(disk.into()), ..Image::default() });
        self
    }

    /// Adds a row with its environment.
    pub fn push(&mut self, image: Image) {
        self.entries.push(image);
    }

    /// Finds the row of an image.
    pub fn resolve(&self, image: &str) -> Option<&Image> {
        self.entries
            .iter()
            .find(|entry| entry.name == image)
            .or_else(|| self.entries.iter().find(|entry| matches(&entry.name, image)))
    }

    /// Says which images there are, for the message about one that is not.
    pub fn describe(&self) -> String {
        if self.entries.is_empty() {
            return "the image table is empty".into();
        }
        let names: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        format!("known images: {}", names.join(", "))
    }
}

/// Compares a name with a pattern in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let tail: Vec<&str> = parts.collect();
    let Some((last, middle)) = tail.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_globs() {
        for (pattern, name, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("quay.io/*/forklift:*", "quay.io/kubev2v/forklift:latest", true),
            ("quay.io/*/forklift:*", "quay.io/kubev2v/forklift", false),
            ("*", "anything", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn an_entry_point_gives_way_to_the_pods_command_unless_it_wraps() {
        let table = ImageTable::default().with("plain", ["/bin/a"]).wrapping("wrapped", ["/bin/a", "-x"]);
        let argv = |name, given| table.resolve(name).map(|image| image.argv(given));
        let given = || Some(vec!["/bin/b".to_owned()]);
        assert_eq!(argv("plain", None), Some(vec!["/bin/a".into()]));
        assert_eq!(argv("plain", given()), Some(vec!["/bin/b".into()]));
        assert_eq!(argv("wrapped", given()), Some(vec!["/bin/a".into(), "-x".into(), "/bin/b".into()]));
    }

    #[test]
    fn exact_rows_win() -> Result<(), toml::de::Error> {
        let table = ImageTable::from_toml(
            r#"
            [[image]]
            name = "tools:*"
            command = ["/bin/sh"]
            [[image]]
            name = "tools:v2"
            command = ["/bin/bash", "-e"]
            env = { A = "1" }
            "#,
        )?;
        let command = |name| table.resolve(name).map(|image| image.command.clone());
        assert_eq!(command("tools:v1"), Some(vec!["/bin/sh".into()]));
        assert_eq!(command("tools:v2"), Some(vec!["/bin/bash".into(), "-e".into()]));
        assert_eq!(command("other"), None);
        assert_eq!(table.describe(), "known images: tools:*, tools:v2");
        Ok(())
    }
}
