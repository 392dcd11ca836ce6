//! The read-only volume with the appliances of an OVA provider: a PV on a directory or an NFS export, and its claim in
//! the target namespace.
use forklift_api::labels;
use serde_json::{Value, json};

use super::plan_labels;
use crate::names;
use crate::plan::effect::TargetObject;
use crate::plan::world::{PlanFacts, StoreFacts};

/// Where the store is mounted.
pub const MOUNT: &str = "/ova";

/// Returns the name of the store's claim; the volume is called after it.
pub fn claim_name(plan: &PlanFacts) -> String {
    let suffix = names::short(&[&plan.uid, &plan.migration_uid]);
    let base: String =
        format!("ova-store-pvc-{}-{}", plan.provider.name, plan.name).chars().take(names::MAX - 9).collect();
    format!("{}-{suffix}", base.trim_end_matches(['-', '.']))
}

/// Returns the name of the store's volume. It is cluster-wide and therefore carries the target namespace's digest.
pub fn volume_name(plan: &PlanFacts) -> String {
    claim_name(plan).replacen("ova-store-pvc-", "ova-store-pv-", 1)
}

/// Builds volume and claim, in this order; nothing for a source that is not one of files.
pub fn store(plan: &PlanFacts) -> Vec<TargetObject> {
    let Some(facts) = &plan.store else { return Vec::new() };
    let labelled = |value: &str| {
        let mut map = plan_labels(plan);
        map.insert(labels::OVA.into(), json!(value));
        map
    };
    let claim = claim_name(plan);
    vec![
        TargetObject::new(persistent_volume(
            &volume_name(plan),
            labelled(labels::OVA_PV),
            facts,
            &plan.target_namespace,
            &claim,
        )),
        TargetObject::new(persistent_volume_claim(
            &claim,
            labelled(labels::OVA_PVC),
            &plan.target_namespace,
            &volume_name(plan),
        )),
    ]
}

/// A persistent volume on a store.
pub(super) fn persistent_volume(
    name: &str,
    labels: serde_json::Map<String, Value>,
    store: &StoreFacts,
    namespace: &str,
    claim: &str,
) -> Value {
    let mut object = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "", "volumeMode": "Filesystem",
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": claim}
        }
    });
    match store {
        StoreFacts::HostPath { path } => object["spec"]["hostPath"] = json!({"path": path, "type": "Directory"}),
        StoreFacts::Nfs { server, path } => {
            object["spec"]["nfs"] = json!({"server": server, "path": path, "readOnly": true})
        }
    }
    object
}

/// The claim of a store's volume.
pub(super) fn persistent_volume_claim(
    name: &str,
    labels: serde_json::Map<String, Value>,
    namespace: &str,
    volume: &str,
) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "accessModes": ["ReadOnlyMany"], "storageClassName": "", "volumeName": volume,
            "resources": {"requests": {"storage": "1Gi"}}
        }
    })
}

/// The store as a volume of a pod.
pub(super) fn volume(plan: &PlanFacts) -> Value {
    json!({"name": "ova-store", "persistentVolumeClaim": {"claimName": claim_name(plan), "readOnly": true}})
}

/// The store's mount in a container.
pub(super) fn mount() -> Value {
    json!({"name": "ova-store", "mountPath": MOUNT, "readOnly": true})
}
