//! The volumes of a pod, made ready as directories and files of this machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, NFSVolumeSource, PersistentVolume,
    PersistentVolumeClaim, Pod, Secret, ServiceAccount, ServiceAccountTokenProjection, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client, Resource};

use super::env::{self, Facts};
use crate::volumes::store;

/// A volume that can be mounted.
#[derive(Clone, Debug, PartialEq)]
pub struct Ready {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Whether the volume itself refuses writing.
    pub read_only: bool,
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
}

const MOUNT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

impl Preparer<'_> {
    /// Makes all volumes, or says what the first one waits for. May be called again.
    pub async fn prepare(&self) -> Result<BTreeMap<String, Ready>, Wait> {
        let mut ready = BTreeMap::new();
        for volume in self.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let made = self.volume(volume).await.map_err(|wait| format!("volume \"{}\": {wait}", volume.name))?;
            ready.insert(volume.name.clone(), made);
        }
        Ok(ready)
    }

    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    async fn volume(&self, volume: &Volume) -> Result<Ready, Wait> {
        let own = self.dir.join(&volume.name);
        let made = |path: PathBuf, read_only: bool| Ok(Ready { path, read_only });
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
        std::fs::create_dir_all(&own).map_err(|error| format!("cannot create {}: {error}", own.display()))?;
        if let Some(source) = &volume.config_map {
            let data = self.config_map(&source.name, source.optional).await?;
            write(&own, select(&data, source.items.as_deref(), source.optional)?, source.default_mode)?;
        } else if let Some(source) = &volume.secret {
            let name = source.secret_name.as_deref().unwrap_or_default();
            let data = self.secret(name, source.optional).await?;
            write(&own, select(&data, source.items.as_deref(), source.optional)?, source.default_mode)?;
        } else if let Some(source) = &volume.downward_api {
            write(&own, self.downward(source.items.as_deref().unwrap_or_default())?, source.default_mode)?;
        } else if let Some(source) = &volume.projected {
            for projection in source.sources.iter().flatten() {
                let mode = source.default_mode;
                if let Some(part) = &projection.config_map {
                    let data = self.config_map(&part.name, part.optional).await?;
                    write(&own, select(&data, part.items.as_deref(), part.optional)?, mode)?;
                } else if let Some(part) = &projection.secret {
                    let data = self.secret(&part.name, part.optional).await?;
                    write(&own, select(&data, part.items.as_deref(), part.optional)?, mode)?;
                } else if let Some(part) = &projection.downward_api {
                    write(&own, self.downward(part.items.as_deref().unwrap_or_default())?, mode)?;
                } else if let Some(part) = &projection.service_account_token {
                    write(&own, vec![(part.path.clone(), self.token(part).await?)], Some(0o600))?;
                }
            }
        } else if volume.empty_dir.is_none() {
            return Err("this kind of volume is not offered by the embedded node; use a persistentVolumeClaim, \
                        emptyDir, configMap, secret, projected, downwardAPI, hostPath or nfs volume"
                .into());
        }
        made(own, false)
    }

    async fn claim(&self, name: &str) -> Result<Ready, Wait> {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), self.namespace());
        let claim = claims
            .get_opt(name)
            .await
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
        let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        let Some(volume_name) = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|_| bound)
        else {
            return Err(format!("persistentvolumeclaim \"{name}\" is not bound yet"));
        };
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = volumes
            .get_opt(volume_name)
            .await
            .map_err(|error| error.to_string())?
            .ok_or_else(|| format!("persistentvolume \"{volume_name}\" not found"))?;
        let spec = volume.spec.clone().unwrap_or_default();
        if let Some(nfs) = &spec.nfs {
            let path = self.nfs(nfs).await?;
            return Ok(Ready { path, read_only: nfs.read_only == Some(true) });
        }
        if store::is_ours(&volume) {
            let path = store::ensure(&volume).map_err(|error| error.to_string())?;
            return Ok(Ready { path, read_only: false });
        }
        let path = if let Some(host) = &spec.host_path {
            host_path(host)?
        } else if let Some(local) = &spec.local {
            existing(Path::new(&local.path))?
        } else {
            return Err(format!(
                "persistentvolume \"{volume_name}\" has a source that the embedded node does not offer; \
                 use hostPath, local or nfs"
            ));
        };
        Ok(Ready { path, read_only: false })
    }

    async fn ephemeral(&self, volume: &Volume) -> Result<Ready, Wait> {
        let name = format!("{}-{}", self.pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), self.namespace());
        if claims.get_opt(&name).await.map_err(|error| error.to_string())?.is_none() {
            let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.clone());
            let Some(template) = template else { return Err("no volumeClaimTemplate".into()) };
            let meta = template.metadata.unwrap_or_default();
            let claim = PersistentVolumeClaim {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    labels: meta.labels,
                    annotations: meta.annotations,
                    owner_references: self.pod.controller_owner_ref(&()).map(|owner| vec![owner]),
                    ..ObjectMeta::default()
                },
                spec: Some(template.spec),
                status: None,
            };
            match claims.create(&PostParams::default(), &claim).await {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.to_string()),
                Ok(_) => {}
            }
        }
        self.claim(&name).await
    }

    /// Mounts an export: with the kernel's client, else with our own through FUSE.
    async fn nfs(&self, nfs: &NFSVolumeSource) -> Result<PathBuf, Wait> {
        let source = format!("{}:{}", nfs.server, nfs.path);
        let target = self.dir.join(format!("nfs-{}", crate::events::short_hash(&source)));
        std::fs::create_dir_all(&target).map_err(|error| error.to_string())?;
        let late = |_| format!("cannot mount {source}: no answer; is the server up?");
        if !crate::nfs::kernel_client() {
            let (server, path, at) = (nfs.server.clone(), nfs.path.clone(), target.clone());
            let mounting = tokio::task::spawn_blocking(move || crate::nfs::keep(&server, &path, &at));
            return match tokio::time::timeout(MOUNT_DEADLINE, mounting).await.map_err(late)? {
                Ok(mounted) => mounted.map(|()| target).map_err(|error| error.to_string()),
                Err(error) => Err(format!("cannot mount {source}: {error}")),
            };
        }
        if is_mount_point(&target) {
            return Ok(target);
        }
        let mut mount = tokio::process::Command::new("mount");
        mount.args(["-t", "nfs", "-o", "soft,timeo=100"]).arg(&source).arg(&target).kill_on_drop(true);
        let output = tokio::time::timeout(MOUNT_DEADLINE, mount.output())
            .await
            .map_err(late)?
            .map_err(|error| format!("cannot run mount for {source}: {error}; install nfs-common"))?;
        if output.status.success() && is_mount_point(&target) {
            return Ok(target);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("cannot mount {source}: {}", said.trim()))
    }

    async fn config_map(&self, name: &str, optional: Option<bool>) -> Result<BTreeMap<String, Vec<u8>>, Wait> {
        match config_map(self.client, self.namespace(), name).await? {
            Some(data) => Ok(data),
            None if optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(format!("configmap \"{name}\" not found")),
        }
    }

    async fn secret(&self, name: &str, optional: Option<bool>) -> Result<BTreeMap<String, Vec<u8>>, Wait> {
        match secret(self.client, self.namespace(), name).await? {
            Some(data) => Ok(data),
            None if optional == Some(true) => Ok(BTreeMap::new()),
            None => Err(format!("secret \"{name}\" not found")),
        }
    }

    fn downward(&self, items: &[DownwardAPIVolumeFile]) -> Result<Vec<(String, Vec<u8>)>, Wait> {
        items
            .iter()
            .map(|item| {
                let value = if let Some(field) = &item.field_ref {
                    env::pod_field(self.pod, &field.field_path, self.facts).map_err(|error| error.to_string())?
                } else if let Some(field) = &item.resource_field_ref {
                    let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
                    let name = field.container_name.as_deref().unwrap_or_default();
                    containers
                        .filter(|container| container.name == name)
                        .map(|container| env::resource_field(container, &field.resource, self.facts))
                        .next()
                        .unwrap_or_default()
                } else {
                    String::new()
                };
                Ok((item.path.clone(), value.into_bytes()))
            })
            .collect()
    }

    async fn token(&self, projection: &ServiceAccountTokenProjection) -> Result<Vec<u8>, Wait> {
        let account = self.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), self.namespace());
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: projection.audience.iter().cloned().collect(),
                expiration_seconds: projection.expiration_seconds,
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let token = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|error| format!("no token for service account {account}: {error}"))?;
        Ok(token.status.map(|status| status.token).unwrap_or_default().into_bytes())
    }
}

/// Unmounts what [`Preparer::prepare`] mounted on this machine.
pub fn release(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if is_mount_point(&entry.path())
            && let Err(error) = rustix::mount::unmount(entry.path(), rustix::mount::UnmountFlags::DETACH)
        {
            tracing::warn!(%error, path = %entry.path().display(), "cannot unmount a volume");
        }
    }
}

fn is_mount_point(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

/// Reads the data of a ConfigMap.
pub async fn config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, Vec<u8>>>, Wait> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
    Ok(found.map(|object| {
        let text = object.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        let binary = object.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
        text.chain(binary).collect()
    }))
}

/// Reads the data of a Secret.
pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, Wait> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(name).await.map_err(|error| error.to_string())?;
    Ok(found.map(|object| {
        let data = object.data.into_iter().flatten().map(|(key, value)| (key, value.0));
        let text = object.string_data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
        data.chain(text).collect()
    }))
}

/// Takes the listed keys under their paths, or all keys.
fn select(
    data: &BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
) -> Result<Vec<(String, Vec<u8>)>, Wait> {
    let Some(items) = items else {
        return Ok(data.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
    };
    let mut files = Vec::new();
    for item in items {
        match data.get(&item.key) {
            Some(value) => files.push((item.path.clone(), value.clone())),
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent key \"{}\"", item.key)),
        }
    }
    Ok(files)
}

fn write(dir: &Path, files: Vec<(String, Vec<u8>)>, mode: Option<i32>) -> Result<(), Wait> {
    use std::os::unix::fs::PermissionsExt;
    for (name, content) in files {
        let path = inside(dir, &name)?;
        let attempt = || -> std::io::Result<()> {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            let fresh = path.with_extension("fresh~");
            std::fs::write(&fresh, &content)?;
            let mode = u32::try_from(mode.unwrap_or(0o644)).unwrap_or(0o644);
            std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
            std::fs::rename(&fresh, &path)
        };
        attempt().map_err(|error| format!("cannot write {name}: {error}"))?;
    }
    Ok(())
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
    fn keys_are_selected_and_paths_stay_inside() {
        let data: BTreeMap<String, Vec<u8>> = [("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())].into();
        let item = |key: &str, path: &str| KeyToPath { key: key.into(), path: path.into(), mode: None };
        assert_eq!(select(&data, None, None).expect("all").len(), 2);
        assert_eq!(select(&data, Some(&[item("b", "x/y")]), None), Ok(vec![("x/y".to_owned(), b"2".to_vec())]));
        assert_eq!(select(&data, Some(&[item("c", "x")]), None), Err("references non-existent key \"c\"".to_owned()));
        let dir = tempfile::tempdir().expect("a directory");
        write(dir.path(), vec![("x/y".into(), b"2".to_vec())], Some(0o400)).expect("written");
        assert_eq!(std::fs::read(dir.path().join("x/y")).expect("read"), b"2");
        assert!(write(dir.path(), vec![("../out".into(), Vec::new())], None).is_err());
    }
}
