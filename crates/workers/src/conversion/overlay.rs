//! The overlays that a conversion writes to, and the steps by which they become the disks.
//!
//! Whatever kills the worker, each disk is either as it was copied, or fully converted, or can be made so:
//!
//! ```text
//! (nothing) ──► disk.img.overlay.qcow2 ──► + disk.img.converting.json ──► disk.img.converted.json
//!    ▲            virt-v2v writes here        fsynced, "commit": from here      overlays committed and
//!    └── killed or failed: overlay dropped,   on the overlays are written       fsynced; a re-run returns
//!        the disk is byte for byte the copy   to the disks, again if need be    the kept result
//! ```
//!
//! `qemu-img commit -d` leaves the overlay whole, so that doing it again after a crash gives the same disk. The two
//! state files are in the first disk's volume and speak for all disks of the VM.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use forklift_api::worker::ConversionResult;
use serde::{Deserialize, Serialize};

use super::disks::Disk;
use super::error::ConversionError;
use super::tool::Tools;

/// What is kept beside the first disk.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    /// The importer's manifests of all disks: other copies make this state void.
    copies: Vec<Option<String>>,
    /// What the conversion found.
    result: ConversionResult,
}

/// Where an earlier run has got to.
#[derive(Debug)]
pub enum Found {
    /// Nothing that counts: convert.
    Nothing,
    /// Converted and checked, but not all written to the disks.
    Committing(Box<ConversionResult>),
    /// All done.
    Done(Box<ConversionResult>),
}

fn committing(disks: &[Disk]) -> PathBuf {
    disks[0].beside("converting.json")
}

fn converted(disks: &[Disk]) -> PathBuf {
    disks[0].beside("converted.json")
}

/// Looks for what an earlier run has left. State of an earlier copy of the disks is removed.
pub fn find(disks: &[Disk]) -> Result<Found, ConversionError> {
    for (path, done) in [(converted(disks), true), (committing(disks), false)] {
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(ConversionError::io(format!("read {}", path.display()))(error));
            }
        };
        // renamed into place when whole, so what cannot be read is not ours
        let state: State = serde_json::from_slice(&text)
            .map_err(|e| ConversionError::io(format!("read {}", path.display()))(io::Error::other(e)))?;
        if state.copies != copies(disks) {
            tracing::info!(path = %path.display(), "the disks were copied again: the earlier conversion does not count");
            remove(&path)?;
            continue;
        }
        if done {
            return Ok(Found::Done(Box::new(state.result)));
        }
        if let Some(disk) = disks.iter().find(|d| !d.overlay().exists()) {
            return Err(ConversionError::CommitLost(disk.path.display().to_string()));
        }
        return Ok(Found::Committing(Box::new(state.result)));
    }
    Ok(Found::Nothing)
}

/// The importer's manifest tells one copy from the next.
fn copies(disks: &[Disk]) -> Vec<Option<String>> {
    disks.iter().map(|d| fs::read_to_string(d.beside("manifest.json")).ok()).collect()
}

/// Makes an empty overlay over each disk, in place of those of a run that was cut off.
pub async fn create(tools: &Tools, disks: &[Disk]) -> Result<(), ConversionError> {
    discard(disks)?;
    for disk in disks {
        let overlay = disk.overlay();
        fs::create_dir_all(&disk.state_dir)
            .map_err(ConversionError::io(format!("create {}", disk.state_dir.display())))?;
        // beside the disk, its bare name also holds when the volume is mounted elsewhere the next time
        let backing = if disk.state_is_durable() {
            OsString::from(disk.path.file_name().unwrap_or_default())
        } else {
            disk.path.clone().into_os_string()
        };
        let args = [
            OsString::from("create"),
            "-q".into(),
            "-f".into(),
            "qcow2".into(),
            "-F".into(),
            "raw".into(),
            "-b".into(),
            backing,
            overlay.into(),
        ];
        tools.run(&tools.qemu_img, &args).await?;
    }
    Ok(())
}

/// Drops the overlays: the disks are as they were copied.
pub fn discard(disks: &[Disk]) -> Result<(), ConversionError> {
    disks.iter().try_for_each(|disk| remove(&disk.overlay()))
}

/// Notes, durably, that the overlays hold a conversion that is good: from now on it goes forward only.
pub fn seal(disks: &[Disk], result: &ConversionResult) -> Result<(), ConversionError> {
    for disk in disks {
        sync(&disk.overlay())?;
        sync(&disk.state_dir)?;
    }
    write_state(&committing(disks), disks, result)
}

/// Writes the overlays to the disks and notes that it is done. Repeating it after a crash is harmless.
pub async fn commit(
    tools: &Tools,
    disks: &[Disk],
    result: &ConversionResult,
    mut done: impl FnMut(usize),
) -> Result<(), ConversionError> {
    for (index, disk) in disks.iter().enumerate() {
        let args =
            [OsString::from("commit"), "-q".into(), "-d".into(), "-f".into(), "qcow2".into(), disk.overlay().into()];
        tools.run(&tools.qemu_img, &args).await?;
        sync(&disk.path)?;
        done(index + 1);
    }
    write_state(&converted(disks), disks, result)?;
    remove(&committing(disks))?;
    discard(disks)
}

fn write_state(path: &Path, disks: &[Disk], result: &ConversionResult) -> Result<(), ConversionError> {
    let state = State { copies: copies(disks), result: result.clone() };
    let write = || -> io::Result<()> {
        let new = path.with_extension("json.new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&state)?)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(ConversionError::io(format!("write {}", path.display())))
}

fn sync(path: &Path) -> Result<(), ConversionError> {
    File::open(path).and_then(|f| f.sync_all()).map_err(ConversionError::io(format!("flush {}", path.display())))
}

fn remove(path: &Path) -> Result<(), ConversionError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ConversionError::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}
