//! The volumes of a pod, made ready as directories and files of this machine.

mod claims;
mod owner;
mod payload;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, HostPathVolumeSource, Pod, Volume};
use kube::Client;

use super::env::Facts;
pub use sources::{config_map, mounted, secret};

/// A volume that can be mounted.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Whether the volume itself refuses writing.
    pub read_only: bool,
}

/// All volumes of a pod.
#[derive(Debug, Default)]
pub struct Prepared {
    /// By name.
    pub ready: BTreeMap<String, Ready>,
    /// When a token among them is to be replaced.
    pub renew: Option<Timestamp>,
}

/// What a pod waits for: text for its status.
pub type Wait = String;

/// Makes the volumes of one pod.
pub struct Preparer<'a> {
    /// The API.
    pub client: &'a Client,
    /// The pod.
    pub pod: &'a Pod,
    /// Where its own volumes live.
    pub dir: &'a Path,
    /// What the downward API tells.
    pub facts: &'a Facts,
    /// Whether this machine's mounts may be changed.
    pub root: bool,
}

impl Preparer<'_> {
    /// Makes all volumes, or says what the first one waits for. May be called again.
    pub async fn prepare(&self) -> Result<Prepared, Wait> {
        let mut prepared = Prepared::default();
        for volume in self.volumes() {
            let (ready, renew) =
                self.volume(volume).await.map_err(|wait| format!("volume \"{}\": {wait}", volume.name))?;
            prepared.ready.insert(volume.name.clone(), ready);
            prepared.renew = [prepared.renew, renew].into_iter().flatten().min();
        }
        Ok(prepared)
    }

    /// Writes the files that come from the API again where they have changed; returns when tokens are to be replaced.
    pub async fn refresh(&self) -> Result<Option<Timestamp>, Wait> {
        let mut renew = None;
        for volume in self.volumes() {
            if let Some(content) = self.content(volume).await? {
                self.write(volume, &content.files)?;
                renew = [renew, content.renew].into_iter().flatten().min();
            }
        }
        Ok(renew)
    }

    fn volumes(&self) -> impl Iterator<Item = &Volume> {
        self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    fn group(&self) -> Option<u32> {
        let group = self.pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
        u32::try_from(group).ok().filter(|_| self.root)
    }

    async fn volume(&self, volume: &Volume) -> Result<(Ready, Option<Timestamp>), Wait> {
        let made = |path: PathBuf, read_only: bool| Ok((Ready { path, read_only }, None));
        if let Some(claim) = &volume.persistent_volume_claim {
            let ready = self.claim(&claim.claim_name).await?;
            let read_only = ready.read_only || claim.read_only == Some(true);
            return made(ready.path, read_only);
        }
        if volume.ephemeral.is_some() {
            let ready = self.ephemeral(volume).await?;
            return made(ready.path, ready.read_only);
        }
        if let Some(host) = &volume.host_path {
            return made(host_path(host)?, false);
        }
        if let Some(nfs) = &volume.nfs {
            return made(self.nfs(nfs).await?, nfs.read_only == Some(true));
        }
        let own = self.dir.join(&volume.name);
        if let Some(content) = self.content(volume).await? {
            self.write(volume, &content.files)?;
            return Ok((Ready { path: own, read_only: false }, content.renew));
        }
        let Some(empty) = &volume.empty_dir else {
            return Err("this kind of volume is not offered by the embedded node; use a persistentVolumeClaim, \
                        emptyDir, configMap, secret, projected, downwardAPI, hostPath or nfs volume"
                .into());
        };
        self.empty(&own, empty)?;
        made(own, false)
    }

    fn write(&self, volume: &Volume, files: &[payload::File]) -> Result<(), Wait> {
        let own = self.dir.join(&volume.name);
        payload::write(&own, files, self.group())
            .map(|_| ())
            .map_err(|error| format!("cannot write {}: {error}", own.display()))
    }

    /// Makes an empty directory that everybody may use; in memory where that is asked and allowed.
    fn empty(&self, path: &Path, volume: &EmptyDirVolumeSource) -> Result<(), Wait> {
        use std::os::unix::fs::PermissionsExt;
        let failed = |error: std::io::Error| format!("cannot create {}: {error}", path.display());
        let fresh = !path.exists();
        std::fs::create_dir_all(path).map_err(failed)?;
        if volume.medium.as_deref() == Some("Memory") && self.root && !is_mount_point(path) {
            let limit = volume.size_limit.as_ref().and_then(|size| crate::quantity::bytes(&size.0));
            let options = limit.map_or_else(|| "mode=0777".to_owned(), |size| format!("mode=0777,size={size}"));
            let options = std::ffi::CString::new(options).map_err(|error| error.to_string())?;
            rustix::mount::mount(c"tmpfs", path, c"tmpfs", rustix::mount::MountFlags::NODEV, Some(options.as_c_str()))
                .map_err(|error| format!("cannot mount memory at {}: {error}", path.display()))?;
        }
        if fresh {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).map_err(failed)?;
        }
        self.group().map_or(Ok(()), |group| owner::give(path, group)).map_err(failed)
    }
}

/// Unmounts what [`Preparer::prepare`] mounted on this machine.
pub fn release(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        crate::nfs::forget(&entry.path());
        if is_mount_point(&entry.path())
            && let Err(error) = rustix::mount::unmount(entry.path(), rustix::mount::UnmountFlags::DETACH)
        {
            tracing::warn!(%error, path = %entry.path().display(), "cannot unmount a volume");
        }
    }
}

pub(crate) fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Joins a relative path that must not leave the directory.
pub fn inside(dir: &Path, relative: &str) -> Result<PathBuf, Wait> {
    let path = Path::new(relative);
    let safe =
        path.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir));
    if safe { Ok(dir.join(path)) } else { Err(format!("path {relative} must be relative and must not contain '..'")) }
}

fn existing(path: &Path) -> Result<PathBuf, Wait> {
    if path.exists() {
        Ok(path.to_owned())
    } else {
        Err(format!("path {} does not exist on this machine", path.display()))
    }
}

fn host_path(host: &HostPathVolumeSource) -> Result<PathBuf, Wait> {
    let path = Path::new(&host.path);
    match host.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" => {
            std::fs::create_dir_all(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?
        }
        "FileOrCreate" if !path.exists() => {
            std::fs::File::create(path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        }
        "Directory" if !path.is_dir() => return Err(format!("{} is not a directory of this machine", path.display())),
        "File" if !path.is_file() => return Err(format!("{} is not a file of this machine", path.display())),
        _ => {}
    }
    existing(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let dir = Path::new("/d");
        assert_eq!(inside(dir, "x/./y"), Ok(PathBuf::from("/d/x/./y")));
        assert!(inside(dir, "../out").is_err() && inside(dir, "/out").is_err() && inside(dir, "x/../y").is_err());
    }
}
