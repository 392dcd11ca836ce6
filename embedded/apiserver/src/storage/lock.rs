//! One server, or one restore, at a time on a store: a lock on the file `<store>.lock`, which ends with its process.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};

/// Takes the store in `path` for this process until the file is dropped.
pub fn take(path: &Path) -> anyhow::Result<File> {
    let path = path.with_extension("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let owner = std::fs::read_to_string(&path).unwrap_or_default();
            let (owner, folder) = (owner.trim(), path.parent().unwrap_or(&path).display());
            bail!("another server (process {owner}) is running on {folder}: stop it, or choose another directory");
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}
