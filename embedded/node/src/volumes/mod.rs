//! Storage: claims are bound to volumes, volumes are made from directories and sparse files.

pub mod bind;
pub mod provision;
pub mod store;
pub mod usage;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

/// Says on a claim that it is bound when its first pod is scheduled; the scheduler reads it.
pub const WAITS: &str = "node.embedded/waits-for-consumer";

/// When a claim is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As soon as it exists.
    Immediate,
    /// Once a pod that uses it is on the node.
    WaitForFirstConsumer,
}

impl Mode {
    /// The mode that was written on a claim, if it waits.
    pub fn remembered(claim: &PersistentVolumeClaim) -> Option<Self> {
        let waits = claim.metadata.annotations.iter().flatten().any(|(key, _)| key == WAITS);
        waits.then_some(Self::WaitForFirstConsumer)
    }
}

/// The phase of a claim; empty while nobody has looked at it.
pub fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Names of the claims that a pod mounts.
pub fn claim_names(pod: &Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim.as_ref()?.claim_name.clone())).collect()
}

/// Names of the claims that a pod keeps alive: also those made for it.
pub fn used_claims(pod: &Pod) -> Vec<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let own = volumes.filter(|volume| volume.ephemeral.is_some()).map(|volume| format!("{name}-{}", volume.name));
    claim_names(pod).into_iter().chain(own).collect()
}
