//! The scheduler: one node, so it only asks whether a pod may run here yet.

use std::collections::BTreeMap;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, PersistentVolumeClaim, Pod};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::events::{Events, Kind};
use crate::volumes::{Mode, claim_names};

/// Why a pod stays unscheduled: None when it can be bound.
pub fn obstacle(
    pod: &Pod,
    labels: &BTreeMap<String, String>,
    claim: impl Fn(&str) -> Option<ClaimState>,
) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let unmet = spec.node_selector.iter().flatten().find(|(key, value)| labels.get(*key) != Some(*value));
    if let Some((key, value)) = unmet {
        return Some(format!(
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector ({key}={value})"
        ));
    }
    for name in claim_names(pod) {
        match claim(&name) {
            None => return Some(format!("persistentvolumeclaim \"{name}\" not found")),
            Some(ClaimState::Waiting) => {
                return Some(format!("pod has unbound immediate PersistentVolumeClaims ({name})"));
            }
            Some(ClaimState::Usable) => {}
        }
    }
    None
}

/// What the scheduler has to know of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    /// Bound, or bound once the pod is here.
    Usable,
    /// Has to be bound first.
    Waiting,
}

/// Binds pods to the node until shutdown.
pub async fn run(client: Client, node: String, labels: BTreeMap<String, String>, shutdown: CancellationToken) {
    let (pods, pod_writer) = reflector::store::<Pod>();
    let (claims, claim_writer) = reflector::store::<PersistentVolumeClaim>();
    let watch_pods = watcher(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(pod_writer)
        .map(|_| ());
    let watch_claims = watcher(Api::<PersistentVolumeClaim>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(claim_writer)
        .map(|_| ());
    let changes = futures::stream::select(watch_pods, watch_claims);
    futures::pin_mut!(changes);
    let events = Events::new(client.clone(), "default-scheduler");
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    let mut again = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.next() => if change.is_none() { return },
            () = tokio::time::sleep(std::time::Duration::from_secs(1)), if again => {}
        }
        again = false;
        let pending: Vec<_> = pods
            .state()
            .into_iter()
            .filter(|pod| {
                let spec = pod.spec.as_ref();
                let free = spec.is_some_and(|spec| spec.node_name.is_none());
                let ours =
                    spec.and_then(|spec| spec.scheduler_name.as_deref()).is_none_or(|name| name == "default-scheduler");
                free && ours && pod.metadata.deletion_timestamp.is_none()
            })
            .collect();
        told.retain(|uid, _| pending.iter().any(|pod| pod.metadata.uid.as_ref() == Some(uid)));
        for pod in pending {
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            let state = |name: &str| {
                let key = reflector::ObjectRef::new(name).within(&namespace);
                let claim = claims.get(&key)?;
                let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
                let waits = Mode::remembered(&claim) != Some(Mode::WaitForFirstConsumer);
                Some(if !bound && waits { ClaimState::Waiting } else { ClaimState::Usable })
            };
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let result = match obstacle(&pod, &labels, state) {
                None => {
                    let bound = bind(&client, &pod, &node).await;
                    if bound.is_ok() {
                        let name = pod.metadata.name.as_deref().unwrap_or_default();
                        let message = format!("Successfully assigned {namespace}/{name} to {node}");
                        let (events, pod) = (events.clone(), pod.clone());
                        // news do not hold the next pod up
                        tokio::spawn(
                            async move { events.publish(pod.as_ref(), Kind::Normal, "Scheduled", &message).await },
                        );
                    }
                    bound
                }
                Some(reason) if told.get(&uid) == Some(&reason) => Ok(()),
                Some(reason) => {
                    events.publish(pod.as_ref(), Kind::Warning, "FailedScheduling", &reason).await;
                    let result = tell(&client, &pod, &reason).await;
                    told.insert(uid, reason);
                    result
                }
            };
            if let Err(error) = result {
                tracing::warn!(%error, pod = pod.metadata.name, "pod not scheduled");
                again = true;
            }
        }
    }
}

async fn bind(client: &Client, pod: &Pod, node: &str) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let name = pod.metadata.name.clone().unwrap_or_default();
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.into()),
            api_version: Some("v1".into()),
            ..ObjectReference::default()
        },
    };
    let result: kube::Result<serde_json::Value> =
        api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
    match result {
        Ok(_) => Ok(()),
        // bound meanwhile, or gone: the watch tells
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => {
            match api.patch(&name, &PatchParams::default(), &Patch::Merge(json!({"spec": {"nodeName": node}}))).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(|_| ()),
            }
        }
        Err(error) => Err(error),
    }
}

async fn tell(client: &Client, pod: &Pod, reason: &str) -> kube::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let condition = json!({
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason,
        "lastTransitionTime": jiff::Timestamp::now().to_string(),
    });
    let patch = json!({"status": {"phase": "Pending", "conditions": [condition]}});
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_wait_for_their_claims() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"containers": [], "nodeSelector": {"zone": "a"},
                     "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]},
        }))
        .expect("a pod");
        let labels: BTreeMap<String, String> = [("zone".to_owned(), "a".to_owned())].into();
        let check = |labels: &BTreeMap<String, String>, state| obstacle(&pod, labels, |_| state);
        assert_eq!(check(&labels, Some(ClaimState::Usable)), None);
        assert_eq!(
            check(&labels, Some(ClaimState::Waiting)).as_deref(),
            Some("pod has unbound immediate PersistentVolumeClaims (c)")
        );
        assert_eq!(check(&labels, None).as_deref(), Some("persistentvolumeclaim \"c\" not found"));
        assert!(check(&BTreeMap::new(), Some(ClaimState::Usable)).is_some_and(|why| why.contains("selector")));
    }
}
