//! `fsGroup`: the group that a pod's volumes belong to.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Gives a tree to a group that may read and write it; new files inherit the group. A tree whose top has the group
/// already was given before, and is left alone.
pub(super) fn give(path: &Path, group: u32) -> io::Result<()> {
    let top = std::fs::metadata(path)?;
    if top.gid() == group && top.mode() & 0o2060 == 0o2060 {
        return Ok(());
    }
    change(path, group, 0o660, 0o2000)
}

/// Makes a tree of read-only files belong to a group.
pub(super) fn own(path: &Path, group: u32) -> io::Result<()> {
    change(path, group, 0o440, 0)
}

fn change(path: &Path, group: u32, mode: u32, directory: u32) -> io::Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    lchown(path, None, Some(group))?;
    if meta.is_symlink() {
        return Ok(());
    }
    let more = if meta.is_dir() { mode | 0o110 | directory } else { mode };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(meta.mode() & 0o7777 | more))?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(path)? {
            change(&entry?.path(), group, mode, directory)?;
        }
    }
    Ok(())
}
