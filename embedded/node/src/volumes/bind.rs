//! Which volume a claim gets: pure decisions.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::store::PROVISIONER;
use super::{Mode, used_claims};
use crate::quantity;

/// Marks the default class.
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Keeps a claim while a pod uses it.
pub const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// What a claim needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// It names no class: give it the default one.
    SetClass(String),
    /// It is to be kept while pods use it.
    Protect,
    /// It is being deleted and no pod uses it.
    Unprotect,
    /// Bind it to this volume, or finish a binding that was begun.
    Bind(String),
    /// Make a volume for it.
    Provision {
        /// Its class.
        class: String,
        /// Bytes that it asks for.
        size: u64,
    },
    /// Make its volume larger.
    Expand {
        /// Its volume.
        volume: String,
        /// Bytes that it asks for.
        size: u64,
    },
    /// It waits for the first pod that uses it.
    WaitForConsumer,
    /// It waits: reason and message of the event.
    Wait(&'static str, String),
}

/// Decides about one claim.
pub fn decide(
    claim: &PersistentVolumeClaim,
    volumes: &[impl AsRef<PersistentVolume>],
    classes: &[impl AsRef<StorageClass>],
    pods: &[impl AsRef<Pod>],
) -> Action {
    let spec = claim.spec.clone().unwrap_or_default();
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    let protected = finalizers.iter().any(|name| name == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() {
        let used = pods.iter().any(|pod| is_alive(pod.as_ref()) && uses(pod.as_ref(), claim));
        return if protected && !used { Action::Unprotect } else { Action::None };
    }
    if !protected {
        return Action::Protect;
    }
    let wanted = requested(claim);
    if phase(claim) == Some("Bound") {
        let volume = spec.volume_name.clone().unwrap_or_default();
        let found = volumes.iter().map(AsRef::as_ref).find(|known| known.metadata.name.as_ref() == Some(&volume));
        let size = found.map_or(0, capacity);
        let class = spec.storage_class_name.as_deref().and_then(|name| find_class(classes, name));
        let grows = class.is_some_and(|class| class.allow_volume_expansion == Some(true));
        let ours = found.is_some_and(super::store::is_ours);
        return if grows && ours && wanted > size { Action::Expand { volume, size: wanted } } else { Action::None };
    }
    if let Some(name) = spec.volume_name.as_deref().filter(|name| !name.is_empty()) {
        return named(claim, name, volumes);
    }
    let Some(class_name) = spec.storage_class_name.clone() else {
        return match classes.iter().map(AsRef::as_ref).find(|class| is_default(class)) {
            Some(class) => Action::SetClass(class.metadata.name.clone().unwrap_or_default()),
            None => Action::Wait(
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set".into(),
            ),
        };
    };
    if let Some(found) = best(claim, &class_name, volumes) {
        return Action::Bind(found);
    }
    let custom_source = spec
        .data_source_ref
        .as_ref()
        .is_some_and(|source| source.api_group.as_deref().is_some_and(|group| !group.is_empty()));
    if custom_source {
        return Action::Wait("ExternalPopulating", "waiting for the volume populator of spec.dataSourceRef".into());
    }
    if class_name.is_empty() {
        return Action::Wait(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set".into(),
        );
    }
    let Some(class) = find_class(classes, &class_name) else {
        return Action::Wait("ProvisioningFailed", format!("storageclass.storage.k8s.io \"{class_name}\" not found"));
    };
    if class.provisioner != PROVISIONER {
        return Action::Wait(
            "ExternalProvisioning",
            format!("waiting for a volume to be created by the provisioner \"{}\"", class.provisioner),
        );
    }
    let mode = match class.volume_binding_mode.as_deref() {
        Some("WaitForFirstConsumer") => Mode::WaitForFirstConsumer,
        _ => Mode::Immediate,
    };
    let scheduled = pods
        .iter()
        .map(AsRef::as_ref)
        .any(|pod| is_alive(pod) && uses(pod, claim) && pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
    if mode == Mode::WaitForFirstConsumer && !scheduled {
        return Action::WaitForConsumer;
    }
    Action::Provision { class: class_name, size: wanted }
}

fn named(claim: &PersistentVolumeClaim, name: &str, volumes: &[impl AsRef<PersistentVolume>]) -> Action {
    let found = volumes.iter().map(AsRef::as_ref).find(|volume| volume.metadata.name.as_deref() == Some(name));
    match found {
        None => Action::Wait("FailedBinding", format!("volume \"{name}\" does not exist")),
        Some(volume) if !is_free_for(volume, claim) => {
            Action::Wait("FailedBinding", format!("volume \"{name}\" already bound to a different claim."))
        }
        Some(volume) if mode(volume) != claim_mode(claim) => Action::Wait(
            "VolumeMismatch",
            format!("Cannot bind to requested volume \"{name}\": incompatible volumeMode"),
        ),
        Some(volume) if capacity(volume) < requested(claim) => Action::Wait(
            "VolumeMismatch",
            format!("Cannot bind to requested volume \"{name}\": requested PV is too small"),
        ),
        Some(_) => Action::Bind(name.into()),
    }
}

/// The smallest volume that fits, one that was made for the claim first.
fn best(claim: &PersistentVolumeClaim, class: &str, volumes: &[impl AsRef<PersistentVolume>]) -> Option<String> {
    let spec = claim.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default().match_labels.unwrap_or_default();
    let modes = spec.access_modes.unwrap_or_default();
    let fitting = volumes.iter().map(AsRef::as_ref).filter(|volume| {
        let known = volume.spec.clone().unwrap_or_default();
        let labels = volume.metadata.labels.clone().unwrap_or_default();
        let offered = known.access_modes.unwrap_or_default();
        let reserved = known.claim_ref.is_some();
        volume.metadata.deletion_timestamp.is_none()
            && is_free_for(volume, claim)
            && mode(volume) == claim_mode(claim)
            && capacity(volume) >= requested(claim)
            && known.storage_class_name.as_deref().unwrap_or_default() == class
            && (reserved || modes.iter().all(|mode| offered.contains(mode)))
            && (reserved || matches_labels(&selector, &labels))
    });
    let chosen = fitting.min_by_key(|volume| {
        let reserved = volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
        (!reserved, capacity(volume), volume.metadata.name.clone())
    })?;
    chosen.metadata.name.clone()
}

fn matches_labels(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn is_free_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return true };
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (reference.uid.is_none() || reference.uid == claim.metadata.uid)
}

/// The phase of a claim.
pub fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

/// Bytes that a claim asks for.
pub fn requested(claim: &PersistentVolumeClaim) -> u64 {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests.and_then(|requests| quantity::bytes(&requests.get("storage")?.0)).unwrap_or(0)
}

/// Bytes that a volume has.
pub fn capacity(volume: &PersistentVolume) -> u64 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    capacity.and_then(|capacity| quantity::bytes(&capacity.get("storage")?.0)).unwrap_or(0)
}

fn mode(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem")
}

fn claim_mode(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem")
}

fn find_class<'a>(classes: &'a [impl AsRef<StorageClass>], name: &str) -> Option<&'a StorageClass> {
    classes.iter().map(AsRef::as_ref).find(|class| class.metadata.name.as_deref() == Some(name))
}

fn is_default(class: &StorageClass) -> bool {
    class.metadata.annotations.iter().flatten().any(|(key, value)| key == DEFAULT_CLASS && value == "true")
}

fn is_alive(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    pod.metadata.namespace == claim.metadata.namespace
        && used_claims(pod).iter().any(|name| claim.metadata.name.as_ref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn make<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).expect("an object"))
    }

    fn claim(spec: Value) -> Arc<PersistentVolumeClaim> {
        let mut whole = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        for (key, value) in spec.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        make(
            json!({"metadata": {"name": "c", "namespace": "n", "uid": "u", "finalizers": [PROTECTION]}, "spec": whole}),
        )
    }

    fn volume(name: &str, spec: Value) -> Arc<PersistentVolume> {
        let mut whole =
            json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/x"}});
        for (key, value) in spec.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        make(json!({"metadata": {"name": name}, "spec": whole}))
    }

    fn class(name: &str, mode: &str, default: bool) -> Arc<StorageClass> {
        make(json!({"metadata": {"name": name, "annotations": {DEFAULT_CLASS: default.to_string()}},
                    "provisioner": PROVISIONER, "volumeBindingMode": mode}))
    }

    fn pod(node: Option<&str>) -> Arc<Pod> {
        make(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": node, "containers": [],
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}}))
    }

    #[test]
    fn claims_are_provisioned_by_class() {
        let classes = [class("standard", "Immediate", true), class("late", "WaitForFirstConsumer", false)];
        let no_volumes: [Arc<PersistentVolume>; 0] = [];
        let decide = |spec, pods: &[Arc<Pod>]| decide(&claim(spec), &no_volumes, &classes, pods);
        let provision = |class: &str| Action::Provision { class: class.into(), size: 1 << 30 };
        assert_eq!(decide(json!({}), &[]), Action::SetClass("standard".into()));
        assert_eq!(decide(json!({"storageClassName": "standard"}), &[]), provision("standard"));
        assert_eq!(decide(json!({"storageClassName": "late"}), &[pod(None)]), Action::WaitForConsumer);
        assert_eq!(decide(json!({"storageClassName": "late"}), &[pod(Some("here"))]), provision("late"));
        assert!(matches!(decide(json!({"storageClassName": "none"}), &[]), Action::Wait("ProvisioningFailed", _)));
        assert!(matches!(decide(json!({"storageClassName": ""}), &[]), Action::Wait("FailedBinding", _)));
        let populated =
            json!({"storageClassName": "standard", "dataSourceRef": {"apiGroup": "x.io", "kind": "P", "name": "p"}});
        assert!(matches!(decide(populated, &[]), Action::Wait("ExternalPopulating", _)));
    }

    #[test]
    fn static_volumes_are_matched() {
        let classes = [class("standard", "Immediate", true)];
        let no_pods: [Arc<Pod>; 0] = [];
        let decide = |spec, volumes: &[Arc<PersistentVolume>]| decide(&claim(spec), volumes, &classes, &no_pods);
        let bare = json!({"storageClassName": ""});
        let mine = json!({"claimRef": {"name": "c", "namespace": "n"}});
        let other = json!({"claimRef": {"name": "d", "namespace": "n"}});
        let small = json!({"capacity": {"storage": "1Mi"}});
        let large = json!({"capacity": {"storage": "9Gi"}});
        let bind = |name: &str| Action::Bind(name.into());
        assert_eq!(decide(bare.clone(), &[volume("a", large), volume("b", json!({}))]), bind("b"));
        assert_eq!(decide(bare.clone(), &[volume("a", json!({})), volume("b", mine.clone())]), bind("b"));
        assert!(matches!(
            decide(bare.clone(), &[volume("a", other.clone()), volume("s", small.clone())]),
            Action::Wait("FailedBinding", _)
        ));
        assert!(matches!(
            decide(bare, &[volume("a", json!({"volumeMode": "Block"}))]),
            Action::Wait("FailedBinding", _)
        ));
        let named = json!({"storageClassName": "", "volumeName": "a"});
        assert_eq!(decide(named.clone(), &[volume("a", mine)]), bind("a"));
        assert!(matches!(decide(named.clone(), &[volume("a", other)]), Action::Wait("FailedBinding", _)));
        assert!(matches!(decide(named, &[volume("a", small)]), Action::Wait("VolumeMismatch", _)));
    }

    #[test]
    fn claims_in_use_are_kept() {
        let mut doomed = (*claim(json!({}))).clone();
        doomed.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        let volumes: [Arc<PersistentVolume>; 0] = [];
        let classes: [Arc<StorageClass>; 0] = [];
        assert_eq!(decide(&doomed, &volumes, &classes, &[pod(None)]), Action::None);
        let none: [Arc<Pod>; 0] = [];
        assert_eq!(decide(&doomed, &volumes, &classes, &none), Action::Unprotect);
        doomed.metadata.deletion_timestamp = None;
        doomed.metadata.finalizers = None;
        assert_eq!(decide(&doomed, &volumes, &classes, &none), Action::Protect);
    }
}
