//! What copies of one source share, also in several processes: how many run at once, and the debt
//! of their common limit. A folder holds it:
//!
//! ```text
//! FOLDER/slot.0 … slot.N-1   a copy that runs holds the lock of one of them
//! FOLDER/debt                bytes owed f64, moment u64 (nanoseconds since 1970), little endian; under its lock
//! ```
//!
//! Locks end with their process, so that a copy that is killed leaves nothing behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cancel::Cancel;
use crate::error::{Error, Result};

/// How often a full gate is tried.
const LOOK: Duration = Duration::from_millis(200);

/// The common door to a source.
#[derive(Debug, Clone)]
pub struct Gate {
    folder: PathBuf,
    slots: usize,
}

/// The right to read the source; its drop gives it back.
#[derive(Debug)]
pub struct Slot {
    _lock: File,
}

impl Gate {
    /// Returns the gate that is kept in `folder`, for `slots` copies at once (1 to 256).
    pub fn new(folder: &Path, slots: usize) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|source| Error::Target {
            path: folder.to_owned(),
            action: "make the folder that copies of one source share".into(),
            source,
        })?;
        Ok(Self { folder: folder.to_owned(), slots: slots.clamp(1, 256) })
    }

    /// Waits for a slot; `waiting` is called once if there is none at first.
    pub fn enter(&self, cancel: &Cancel, waiting: impl FnOnce()) -> Result<Slot> {
        let mut waiting = Some(waiting);
        loop {
            for number in 0..self.slots {
                if let Some(slot) = self.slot(number)? {
                    return Ok(slot);
                }
            }
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            if cancel.wait(LOOK) {
                return Err(Error::Cancelled);
            }
        }
    }

    fn slot(&self, number: usize) -> Result<Option<Slot>> {
        let path = self.folder.join(format!("slot.{number}"));
        let failed = |source| Error::Target { path: path.clone(), action: "lock".into(), source };
        let file = open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Slot { _lock: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Takes the bytes and returns zero, or how long to wait at this rate.
    pub(super) fn take(&self, bytes: u64, rate: u64) -> io::Result<Duration> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.take_at(bytes, rate, now)
    }

    fn take_at(&self, bytes: u64, rate: u64, now: Duration) -> io::Result<Duration> {
        let file = open(&self.folder.join("debt"))?;
        // held for two small accesses: nobody waits long
        file.lock()?;
        let mut state = [0; 16];
        let (mut debt, at) = match file.read_exact_at(&mut state, 0) {
            Ok(()) => {
                let (debt, at) = state.split_at(8);
                let number = |bytes: &[u8]| u64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default());
                (f64::from_bits(number(debt)), Duration::from_nanos(number(at)))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => (0.0, now),
            Err(error) => return Err(error),
        };
        // a clock that was set back, or a torn file, must not stop everything
        let most = 1e6 * rate as f64;
        debt = if debt.is_finite() { super::owed(debt.clamp(0.0, most), rate, now.saturating_sub(at)) } else { 0.0 };
        let wait = super::settle(&mut debt, bytes, rate);
        state[..8].copy_from_slice(&debt.to_bits().to_le_bytes());
        state[8..].copy_from_slice(&(now.as_nanos() as u64).to_le_bytes());
        file.write_all_at(&state, 0)?;
        Ok(wait)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_back() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (gate, other) = (Gate::new(dir.path(), 2).expect("a gate"), Gate::new(dir.path(), 2).expect("a gate"));
        let cancel = Cancel::new();
        let first = gate.enter(&cancel, || {}).expect("a slot");
        let _second = other.enter(&cancel, || {}).expect("a slot");
        let raised = Cancel::new();
        let mut told = false;
        let result = gate.enter(&raised, || {
            told = true;
            raised.cancel();
        });
        assert!(matches!(result, Err(Error::Cancelled)));
        assert!(told, "a wait is told");
        drop(first);
        other.enter(&cancel, || {}).expect("the slot is free again");
    }

    #[test]
    fn the_debt_is_common() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (gate, other) = (Gate::new(dir.path(), 2).expect("a gate"), Gate::new(dir.path(), 2).expect("a gate"));
        let now = Duration::from_secs(1_800_000_000);
        let take = |gate: &Gate, passed| gate.take_at(1000, 1000, now + Duration::from_millis(passed)).expect("takes");
        assert_eq!(take(&gate, 0), Duration::ZERO);
        assert_eq!(take(&other, 250), Duration::from_millis(750));
        assert_eq!(take(&other, 1000), Duration::ZERO);
        assert_eq!(take(&gate, 1000), Duration::from_secs(1));
        std::fs::write(dir.path().join("debt"), [0xff; 16]).expect("writes");
        assert_eq!(take(&gate, 9000), Duration::ZERO, "rubbish is no debt");
    }
}
