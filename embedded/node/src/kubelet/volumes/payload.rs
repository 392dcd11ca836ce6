//! Files from the API, changed all at once: readers see the old set or the new one, never a mixture.
//!
//! ```text
//! volume/..2026_11_21_07_30_00.123   the files
//!        ..data      -> ..2026_11_21_07_30_00.123      replaced by a rename
//!        key         -> ..data/key                     what programs open
//! ```
//! The layout is kubelet's, which programs that watch for changes rely on.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use super::owner;

const DATA: &str = "..data";

/// A file of a volume.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct File {
    /// Its path in the volume.
    pub path: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
}

/// Writes the files of a volume unless they are there already; true when something changed.
pub(super) fn write(dir: &Path, files: &[File], group: Option<u32>) -> io::Result<bool> {
    std::fs::create_dir_all(dir)?;
    if same(dir, files)? {
        return Ok(false);
    }
    let old = std::fs::read_link(dir.join(DATA)).ok();
    let now = jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%9f");
    let name = format!("..{now}");
    let fresh = dir.join(&name);
    std::fs::create_dir(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755))?;
    let mut entries = BTreeSet::new();
    for file in files {
        let path = super::inside(&fresh, &file.path).map_err(io::Error::other)?;
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, &file.bytes)?;
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        let first = Path::new(&file.path).components().find_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            _ => None,
        });
        entries.extend(first);
    }
    if let Some(group) = group {
        owner::own(&fresh, group)?;
    }
    let link = dir.join("..data_tmp");
    remove_file(&link)?;
    symlink(&name, &link)?;
    std::fs::rename(&link, dir.join(DATA))?;
    for entry in &entries {
        let place = dir.join(entry);
        if std::fs::symlink_metadata(&place).is_err() {
            symlink(Path::new(DATA).join(entry), &place)?;
        }
    }
    for entry in std::fs::read_dir(dir)?.flatten() {
        let known = entry.file_name();
        let ours = known.to_string_lossy().starts_with("..");
        if !ours && !entries.contains(&known) {
            remove_file(&entry.path())?;
        }
    }
    if let Some(old) = old.filter(|old| *old != Path::new(&name)) {
        // a container that has a file of it mounted by itself keeps that file
        std::fs::remove_dir_all(dir.join(old))?;
    }
    Ok(true)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Says whether exactly these files are there.
fn same(dir: &Path, files: &[File]) -> io::Result<bool> {
    let data = dir.join(DATA);
    if !data.is_dir() {
        return Ok(false);
    }
    for file in files {
        let path = super::inside(&data, &file.path).map_err(io::Error::other)?;
        match std::fs::read(path) {
            Ok(found) if found == file.bytes => {}
            _ => return Ok(false),
        }
    }
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    Ok(count(&data)? == paths.len())
}

fn count(dir: &Path) -> io::Result<usize> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { count(&entry.path())? } else { 1 };
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.into(), bytes: text.into(), mode: 0o640 }
    }

    #[test]
    fn a_change_shows_all_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let volume = dir.path().join("v");
        let read = |name: &str| std::fs::read_to_string(volume.join(name)).ok();
        assert!(write(&volume, &[file("a", "1"), file("deep/b", "2")], None).expect("written"));
        assert_eq!((read("a"), read("deep/b")), (Some("1".into()), Some("2".into())));
        assert_eq!(std::fs::metadata(volume.join("a")).expect("a file").permissions().mode() & 0o777, 0o640);
        let before = std::fs::read_link(volume.join(DATA)).expect("a link");
        assert!(!write(&volume, &[file("a", "1"), file("deep/b", "2")], None).expect("unchanged"));
        assert_eq!(std::fs::read_link(volume.join(DATA)).expect("a link"), before);
        assert!(write(&volume, &[file("a", "3"), file("c", "4")], None).expect("written"));
        assert_eq!((read("a"), read("deep/b"), read("c")), (Some("3".into()), None, Some("4".into())));
        assert!(!volume.join(before).exists() && std::fs::symlink_metadata(volume.join("deep")).is_err());
        assert_eq!(std::fs::read_link(volume.join("a")).expect("a link"), Path::new("..data/a"));
        assert!(write(&volume, &[file("../out", "x")], None).is_err());
    }
}
