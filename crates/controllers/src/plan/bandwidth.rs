//! Bandwidth that importers share: divided over those that run, of all plans, and handed to each in a config map.
//!
//! ```text
//! config maps of importers that run ─► limits as provider and settings have them now ─► shares ─► those that changed
//! ```
//! Every pass of a plan does it, and so an importer that comes or goes brings it. A kubelet looks at the config maps of a
//! pod about once a minute, but at once when the pod itself changes: each new share is written on the pod too. Until it
//! has arrived the sum may be above the limit.
use std::collections::BTreeSet;
use std::sync::Arc;

use forklift_api::provider::setting;
use forklift_api::settings::BytesPerSecond;
use forklift_api::worker::LIMIT_FILE;
use forklift_api::{Provider, annotations, labels};
use forklift_core::build::importer_limit;
use forklift_core::plan::bandwidth::{Limits, Transfer, shares};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::observe::finished;
use crate::context::Context;
use crate::worker;

/// Returns a provider's setting as a limit; one that cannot be read limits nothing, the provider's conditions say so.
fn setting(provider: Option<&Provider>, key: &str) -> Option<BytesPerSecond> {
    BytesPerSecond::parse(provider?.spec.settings.get(key)?)
}

/// Returns what each importer of a provider may read by itself, bytes a second.
pub fn own(context: &Context, provider: Option<&Provider>) -> Option<u64> {
    setting(provider, setting::BANDWIDTH_LIMIT).and_then(BytesPerSecond::limit).or(context.config.bandwidth)
}

/// Returns the limits that the importers of a provider share: a 0 of the provider lifts that of the settings.
pub fn limits(context: &Context, provider: Option<&Provider>) -> Limits {
    let settings = &context.config.settings;
    let of = |key: &str, default: BytesPerSecond| setting(provider, key).unwrap_or(default).limit();
    Limits {
        all: settings.bandwidth_limit.limit(),
        host: of(setting::HOST_BANDWIDTH_LIMIT, settings.host_bandwidth_limit),
        datastore: of(setting::DATASTORE_BANDWIDTH_LIMIT, settings.datastore_bandwidth_limit),
    }
}

/// Divides the bandwidth over the importers that run, and tells those whose share is another one now.
pub async fn divide(context: &Context) {
    let maps: Vec<Arc<ConfigMap>> = running(context);
    let providers = context.caches.providers.state();
    let transfer = |map: &Arc<ConfigMap>| {
        let note = |key: &str| map.annotations().get(key).cloned().unwrap_or_default();
        let uid = note(annotations::TRANSFER_PROVIDER);
        let provider = providers.iter().find(|provider| provider.uid().as_deref() == Some(uid.as_str()));
        Transfer {
            own: own(context, provider.map(Arc::as_ref)),
            limits: limits(context, provider.map(Arc::as_ref)),
            provider: uid,
            host: note(annotations::TRANSFER_HOST),
            datastore: note(annotations::TRANSFER_DATASTORE),
        }
    };
    let transfers: Vec<Transfer> = maps.iter().map(transfer).collect();
    for (map, share) in maps.iter().zip(shares(&transfers)) {
        let text = importer_limit::text(share);
        if map.data.as_ref().and_then(|data| data.get(LIMIT_FILE)) == Some(&text) {
            continue;
        }
        let (namespace, name) = (map.namespace().unwrap_or_default(), map.name_any());
        let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
        // by UID: one that was made anew meanwhile has its own pass
        let change = json!({"metadata": {"uid": map.uid()}, "data": {LIMIT_FILE: text}});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&change)).await {
            Ok(_) => {
                tracing::info!(namespace, name, share = text, "another share of the bandwidth");
                hurry(context, &namespace, &name, &text).await;
            }
            // gone, or changed by another pass: the next one looks again
            Err(error) => tracing::debug!(namespace, name, %error, "a share could not be written"),
        }
    }
}

/// Changes the pods that read a share, so that their kubelets do not wait for the next minute to hand it over.
async fn hurry(context: &Context, namespace: &str, share: &str, text: &str) {
    let pods = context.caches.pods.state();
    let reads = |pod: &&Arc<Pod>| {
        pod.namespace().as_deref() == Some(namespace)
            && pod.annotations().get(annotations::IMPORT_LIMIT).is_some_and(|name| name == share)
            && pod.metadata.deletion_timestamp.is_none()
            && matches!(worker::phase(pod), "Pending" | "Running")
    };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    for pod in pods.iter().filter(reads) {
        let change = json!({"metadata": {"uid": pod.uid(), "annotations": {annotations::TRANSFER_SHARE: text}}});
        // without it the share arrives all the same, later
        if let Err(error) = api.patch(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&change)).await {
            tracing::debug!(namespace, pod = pod.name_any(), %error, "a pod could not be told of its share");
        }
    }
}

/// Returns the shares of the importers that have not ended, in the order of their names.
fn running(context: &Context) -> Vec<Arc<ConfigMap>> {
    let mut maps = context.caches.config_maps.state();
    maps.retain(|map| map.labels().get(labels::APP).is_some_and(|app| app == labels::APP_IMPORTER_LIMIT));
    if maps.is_empty() {
        return maps;
    }
    let jobs = context.caches.jobs.state();
    let share_of = |job: &Arc<Job>| {
        let ended = finished(job) || job.metadata.deletion_timestamp.is_some();
        let name = job.annotations().get(annotations::IMPORT_LIMIT).filter(|_| !ended)?;
        Some((job.namespace().unwrap_or_default(), name.clone()))
    };
    let used: BTreeSet<(String, String)> = jobs.iter().filter_map(share_of).collect();
    maps.retain(|map| used.contains(&(map.namespace().unwrap_or_default(), map.name_any())));
    maps.sort_by_key(|map| (map.namespace(), map.name_any()));
    maps
}
