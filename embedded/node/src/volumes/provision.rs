//! Carries out what [`bind::decide`] says, and reclaims volumes whose claim is gone.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::bind::{self, Action, PROTECTION};
use super::{WAITS, store};
use crate::events::{Events, Kind};
use crate::quantity::human;

/// Keeps the object of a volume of ours until its data is removed.
const DATA: &str = "node.embedded/data";

/// Binds, makes and reclaims volumes.
pub struct Provisioner {
    client: Client,
    events: Events,
    base: PathBuf,
    node: String,
    quota: Option<u64>,
    told: HashMap<String, String>,
}

struct Stores {
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    classes: Store<StorageClass>,
    pods: Store<Pod>,
}

impl Provisioner {
    /// Makes a provisioner that keeps data below `base`, `quota` bytes in all.
    pub fn new(client: Client, base: PathBuf, node: String, quota: Option<u64>) -> Self {
        let events = Events::new(client.clone(), "persistentvolume-controller");
        Self { client, events, base, node, quota, told: HashMap::new() }
    }

    /// Works until shutdown.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (claims, claim_changes) = watch::<PersistentVolumeClaim>(&self.client);
        let (volumes, volume_changes) = watch::<PersistentVolume>(&self.client);
        let (classes, class_changes) = watch::<StorageClass>(&self.client);
        let (pods, pod_changes) = watch::<Pod>(&self.client);
        let stores = Stores { claims, volumes, classes, pods };
        let changes = futures::stream::select_all([claim_changes, volume_changes, class_changes, pod_changes]);
        futures::pin_mut!(changes);
        let mut again = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                change = changes.next() => if change.is_none() { return },
                () = tokio::time::sleep(Duration::from_secs(2)), if again => {}
            }
            // without a full picture nothing can be said to be gone
            let ready = futures::future::join4(
                stores.claims.wait_until_ready(),
                stores.volumes.wait_until_ready(),
                stores.classes.wait_until_ready(),
                stores.pods.wait_until_ready(),
            );
            if futures::FutureExt::now_or_never(ready).is_none() {
                continue;
            }
            again = self.pass(&stores).await;
        }
    }

    /// Looks at everything once; true when something failed or waits for space.
    async fn pass(&mut self, stores: &Stores) -> bool {
        let (volumes, classes, pods) = (stores.volumes.state(), stores.classes.state(), stores.pods.state());
        let mut again = false;
        let claims = stores.claims.state();
        self.told.retain(|uid, _| claims.iter().any(|claim| claim.metadata.uid.as_ref() == Some(uid)));
        for claim in claims {
            let action = bind::decide(&claim, &volumes, &classes, &pods);
            match self.carry_out(&claim, &action, &volumes, &classes).await {
                Ok(waits) => again |= waits,
                Err(error) => {
                    if !is_stale(&error) {
                        tracing::warn!(
                            error = format!("{error:#}"),
                            claim = claim.metadata.name,
                            ?action,
                            "claim not served"
                        );
                    }
                    again = true;
                }
            }
        }
        for volume in &volumes {
            if let Err(error) = self.reclaim(volume, &stores.claims).await {
                if !is_stale(&error) {
                    tracing::warn!(error = format!("{error:#}"), volume = volume.metadata.name, "volume not reclaimed");
                }
                again = true;
            }
        }
        again
    }

    fn claims(&self, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), claim.metadata.namespace.as_deref().unwrap_or("default"))
    }

    async fn carry_out(
        &mut self,
        claim: &PersistentVolumeClaim,
        action: &Action,
        volumes: &[Arc<PersistentVolume>],
        classes: &[Arc<StorageClass>],
    ) -> anyhow::Result<bool> {
        let name = claim.metadata.name.clone().unwrap_or_default();
        let api = self.claims(claim);
        let own = json!({"resourceVersion": claim.metadata.resource_version, "uid": claim.metadata.uid});
        let params = PatchParams::default();
        let merge = |mut patch: serde_json::Value, more: serde_json::Value| {
            // conditional on what was seen
            patch["metadata"] = own.clone();
            for (key, value) in more.as_object().into_iter().flatten() {
                patch["metadata"][key] = value.clone();
            }
            Patch::Merge(patch)
        };
        let finalizers = claim.metadata.finalizers.clone().unwrap_or_default();
        match action {
            Action::None => {}
            Action::SetClass(class) => {
                let patch = merge(json!({"spec": {"storageClassName": class}}), json!({}));
                api.patch(&name, &params, &patch).await?;
            }
            Action::Protect => {
                let all: Vec<&str> = finalizers.iter().map(String::as_str).chain([PROTECTION]).collect();
                api.patch(&name, &params, &merge(json!({}), json!({"finalizers": all}))).await?;
            }
            Action::Unprotect => {
                let rest: Vec<&String> = finalizers.iter().filter(|name| *name != PROTECTION).collect();
                api.patch(&name, &params, &merge(json!({}), json!({"finalizers": rest}))).await?;
            }
            Action::WaitForConsumer => {
                if super::Mode::remembered(claim).is_none() {
                    api.patch(&name, &params, &merge(json!({}), json!({"annotations": {WAITS: "true"}}))).await?;
                }
                self.tell(
                    claim,
                    Kind::Normal,
                    "WaitForFirstConsumer",
                    "waiting for first consumer to be created before binding",
                )
                .await;
                self.pending(claim).await?;
            }
            Action::Wait(reason, message) => {
                self.tell(claim, Kind::Normal, reason, message).await;
                self.pending(claim).await?;
            }
            Action::Provision { class, size } => {
                if let Some(message) = self.no_space(*size, volumes) {
                    self.tell(claim, Kind::Warning, "ProvisioningFailed", &message).await;
                    self.pending(claim).await?;
                    return Ok(true);
                }
                let class = classes.iter().find(|known| known.metadata.name.as_ref() == Some(class));
                self.provision(claim, class.map(AsRef::as_ref), *size).await?;
            }
            Action::Expand { volume, size } => {
                if let Some(message) = self.no_space(*size, volumes) {
                    self.tell(claim, Kind::Warning, "VolumeResizeFailed", &message).await;
                    return Ok(true);
                }
                let all: Api<PersistentVolume> = Api::all(self.client.clone());
                let now = jiff::Timestamp::now().to_string();
                let resizing = json!({"type": "Resizing", "status": "True", "lastTransitionTime": now});
                let patch = json!({"status": {"conditions": [resizing]}});
                api.patch_status(&name, &params, &Patch::Merge(patch)).await?;
                let patch = json!({"spec": {"capacity": {"storage": size.to_string()}}});
                let grown = all.patch(volume, &params, &Patch::Merge(patch)).await?;
                store::ensure(&grown)?;
                let patch = json!({"status": {"capacity": {"storage": size.to_string()}, "conditions": null}});
                api.patch_status(&name, &params, &Patch::Merge(patch)).await?;
                let message = format!("volume {volume} has {} now", human(*size));
                self.events.publish(claim, Kind::Normal, "VolumeResizeSuccessful", &message).await;
            }
            Action::Bind(volume) => {
                let volume = volumes.iter().find(|known| known.metadata.name.as_ref() == Some(volume));
                if let Some(volume) = volume {
                    self.bind(claim, volume).await?;
                }
            }
        }
        Ok(false)
    }

    /// Says why there is no room for so many bytes.
    fn no_space(&self, size: u64, volumes: &[Arc<PersistentVolume>]) -> Option<String> {
        let used: u64 =
            volumes.iter().filter(|volume| store::is_ours(volume)).map(|volume| bind::capacity(volume)).sum();
        if let Some(quota) = self.quota
            && used.saturating_add(size) > quota
        {
            let left = human(quota.saturating_sub(used));
            return Some(format!("no space: {} requested, {left} of {} left on this node", human(size), human(quota)));
        }
        let free = store::free(&self.base)?;
        (size > free)
            .then(|| format!("no space: {} requested, {} free below {}", human(size), human(free), self.base.display()))
    }

    async fn provision(
        &self,
        claim: &PersistentVolumeClaim,
        class: Option<&StorageClass>,
        size: u64,
    ) -> anyhow::Result<()> {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        let name = format!("pvc-{uid}");
        let spec = claim.spec.clone().unwrap_or_default();
        let block = spec.volume_mode.as_deref() == Some("Block");
        let dir = self.base.join(&name);
        let source = if block {
            json!({"local": {"path": dir.join("disk.img")}})
        } else {
            json!({"hostPath": {"path": dir, "type": "DirectoryOrCreate"}})
        };
        let mut volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": name, "annotations": {store::PROVISIONED_BY: store::PROVISIONER}, "finalizers": [DATA]},
            "spec": {
                "capacity": {"storage": size.to_string()},
                "accessModes": spec.access_modes,
                "volumeMode": if block { "Block" } else { "Filesystem" },
                "storageClassName": class.and_then(|class| class.metadata.name.clone()),
                "persistentVolumeReclaimPolicy": class.and_then(|class| class.reclaim_policy.clone()).unwrap_or_else(|| "Delete".into()),
                "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim.metadata.name, "namespace": claim.metadata.namespace, "uid": uid},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}]}]}},
            },
        });
        for (key, value) in source.as_object().into_iter().flatten() {
            volume["spec"][key] = value.clone();
        }
        let volume: PersistentVolume = serde_json::from_value(volume)?;
        let all: Api<PersistentVolume> = Api::all(self.client.clone());
        match all.create(&PostParams::default(), &volume).await {
            Ok(_) => {}
            // made before a crash, or not yet seen
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        store::ensure(&volume)?;
        self.bind(claim, &volume).await?;
        self.events
            .publish(claim, Kind::Normal, "ProvisioningSucceeded", &format!("Successfully provisioned volume {name}"))
            .await;
        Ok(())
    }

    /// Writes both sides of a binding; each write may find that it was made before.
    async fn bind(&self, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> anyhow::Result<()> {
        let all: Api<PersistentVolume> = Api::all(self.client.clone());
        let claims = self.claims(claim);
        let (name, volume_name) =
            (claim.metadata.name.clone().unwrap_or_default(), volume.metadata.name.clone().unwrap_or_default());
        let params = PatchParams::default();
        let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        if reference.is_none_or(|reference| reference.uid.is_none()) {
            let patch = json!({
                "metadata": {"resourceVersion": volume.metadata.resource_version},
                "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name,
                    "namespace": claim.metadata.namespace, "uid": claim.metadata.uid}},
            });
            all.patch(&volume_name, &params, &Patch::Merge(patch)).await?;
        }
        let patch = json!({"status": {"phase": "Bound"}});
        all.patch_status(&volume_name, &params, &Patch::Merge(patch)).await?;
        let patch = json!({
            "metadata": {"uid": claim.metadata.uid, "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": volume_name},
        });
        claims.patch(&name, &params, &Patch::Merge(patch)).await?;
        let spec = volume.spec.clone().unwrap_or_default();
        let patch = json!({"status": {"phase": "Bound", "accessModes": spec.access_modes, "capacity": spec.capacity}});
        claims.patch_status(&name, &params, &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn pending(&self, claim: &PersistentVolumeClaim) -> anyhow::Result<()> {
        if bind::phase(claim) != Some("Pending") {
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            let patch = json!({"status": {"phase": "Pending"}});
            self.claims(claim).patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        Ok(())
    }

    async fn tell(&mut self, claim: &PersistentVolumeClaim, kind: Kind, reason: &str, message: &str) {
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        if self.told.get(&uid).map(String::as_str) != Some(message) {
            self.told.insert(uid, message.to_owned());
            self.events.publish(claim, kind, reason, message).await;
        }
    }

    /// Gives a volume its phase; removes it and its data when its claim is gone and its policy says so.
    async fn reclaim(&self, volume: &PersistentVolume, known: &Store<PersistentVolumeClaim>) -> anyhow::Result<()> {
        let all: Api<PersistentVolume> = Api::all(self.client.clone());
        let spec = volume.spec.clone().unwrap_or_default();
        let name = volume.metadata.name.clone().unwrap_or_default();
        let phase = volume.status.as_ref().and_then(|status| status.phase.clone());
        let set = async |wanted: &str| -> anyhow::Result<()> {
            if phase.as_deref() != Some(wanted) {
                let patch = json!({"status": {"phase": wanted}});
                all.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
            Ok(())
        };
        let ours = store::is_ours(volume);
        let claim = spec.claim_ref.filter(|reference| reference.uid.is_some());
        if let Some(reference) = &claim {
            let (claim_name, namespace) =
                (reference.name.clone().unwrap_or_default(), reference.namespace.clone().unwrap_or_default());
            let key = reflector::ObjectRef::new(&claim_name).within(&namespace);
            let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid == reference.uid;
            if known.get(&key).is_some_and(|claim| is_it(&claim)) {
                return Ok(());
            }
            // data is at stake: ask the server, not only what was seen
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
            if claims.get_opt(&claim_name).await?.is_some_and(|claim| is_it(&claim)) {
                return Ok(());
            }
            if spec.persistent_volume_reclaim_policy.as_deref() != Some("Delete") || !ours {
                set("Released").await?;
                if volume.metadata.deletion_timestamp.is_none() {
                    return Ok(());
                }
            }
        } else if volume.metadata.deletion_timestamp.is_none() {
            return set("Available").await;
        }
        if !ours {
            return Ok(());
        }
        store::remove(&self.base, volume)?;
        if volume.metadata.deletion_timestamp.is_none() {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid: volume.metadata.uid.clone(), resource_version: None }),
                ..DeleteParams::default()
            };
            all.delete(&name, &params).await?;
        }
        let finalizers: Vec<&String> =
            volume.metadata.finalizers.iter().flatten().filter(|name| *name != DATA).collect();
        let patch = json!({"metadata": {"finalizers": finalizers, "uid": volume.metadata.uid}});
        all.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }
}

/// Somebody else was faster: the next change tells.
fn is_stale(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
}

/// Keeps a store of all objects of a kind, and a stream of its changes.
pub fn watch<K>(client: &Client) -> (Store<K>, futures::stream::BoxStream<'static, ()>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store::<K>();
    let stream = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .map(|_| ())
        .boxed();
    (store, stream)
}
