//! Volumes that outlive their pod: claims, claims made for the pod, NFS exports.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{NFSVolumeSource, PersistentVolume, PersistentVolumeClaim, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Resource};

use super::{Preparer, Ready, Wait, existing, host_path, is_mount_point};
use crate::volumes::store;

const MOUNT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

impl Preparer<'_> {
    pub(super) async fn claim(&self, name: &str) -> Result<Ready, Wait> {
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
            if let Some(group) = self.group() {
                super::owner::give(&path, group)
                    .map_err(|error| format!("cannot give {} to group {group}: {error}", path.display()))?;
            }
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

    pub(super) async fn ephemeral(&self, volume: &Volume) -> Result<Ready, Wait> {
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
    pub(super) async fn nfs(&self, nfs: &NFSVolumeSource) -> Result<PathBuf, Wait> {
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
}
