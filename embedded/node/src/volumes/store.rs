//! The data behind our PersistentVolumes: a directory each, or a sparse file for block mode.
//!
//! The PersistentVolume object comes first and the data goes first: a crash at any moment
//! leaves no data without an object that names it.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::PersistentVolume;
use thiserror::Error;

use crate::quantity;

/// The provisioner's name in StorageClasses and on PersistentVolumes.
pub const PROVISIONER: &str = "node.embedded/directory";
/// The annotation that names a volume's provisioner.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Why data could not be made or removed.
#[derive(Debug, Error)]
#[error("cannot {action} {path}")]
pub struct StoreError {
    action: &'static str,
    path: String,
    source: std::io::Error,
}

fn fail<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> StoreError + 'a {
    move |source| StoreError { action, path: path.display().to_string(), source }
}

/// Says whether we made a volume.
pub fn is_ours(volume: &PersistentVolume) -> bool {
    volume.metadata.annotations.iter().flatten().any(|(key, value)| key == PROVISIONED_BY && value == PROVISIONER)
}

/// Where a volume of ours keeps its data.
pub fn path(volume: &PersistentVolume) -> Option<PathBuf> {
    let spec = volume.spec.as_ref()?;
    let host = spec.host_path.as_ref().map(|host| &host.path);
    host.or(spec.local.as_ref().map(|local| &local.path)).map(PathBuf::from)
}

/// Makes the data of a volume of ours, if it is not there, and returns its path.
pub fn ensure(volume: &PersistentVolume) -> Result<PathBuf, StoreError> {
    let path = path(volume).unwrap_or_default();
    let spec = volume.spec.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() != Some("Block") {
        std::fs::create_dir_all(&path).map_err(fail("create", &path))?;
        return Ok(path);
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail("create", parent))?;
    }
    let size = spec
        .capacity
        .and_then(|capacity| capacity.get("storage").and_then(|size| quantity::bytes(&size.0)))
        .unwrap_or(0);
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(fail("create", &path))?;
    // grows, never shrinks: what was written stays
    if file.metadata().map_err(fail("inspect", &path))?.len() < size {
        file.set_len(size).map_err(fail("extend", &path))?;
    }
    Ok(path)
}

/// Removes the data of a volume of ours below `base`; gone already is fine.
pub fn remove(base: &Path, volume: &PersistentVolume) -> Result<(), StoreError> {
    let Some(name) = volume.metadata.name.as_deref() else { return Ok(()) };
    // by name below our own directory: an edited path in the object must not steer this
    let dir = base.join(name);
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(fail("remove", &dir)(error)),
        _ => Ok(()),
    }
}

/// Bytes that can still be written below a path.
pub fn free(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
