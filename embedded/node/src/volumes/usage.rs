//! How full volumes are: where the file system does not hold them to their size, their owner is told.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume};
use kube::api::ListParams;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::{bind, store};
use crate::events::{Events, Kind};
use crate::quantity::human;

/// How often is looked.
const PERIOD: Duration = Duration::from_secs(60);

/// Bytes that a tree takes on the disk; what cannot be read counts nothing.
pub fn used(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| used(&entry.path())).sum::<u64>()
}

/// Tells the claims of volumes that hold more than their size, until shutdown.
pub async fn watch(client: Client, period: Option<Duration>, shutdown: CancellationToken) {
    let events = Events::new(client.clone(), "persistentvolume-controller");
    let mut told: HashSet<String> = HashSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(period.unwrap_or(PERIOD)) => {}
        }
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        let Ok(list) = volumes.list(&ListParams::default()).await else { continue };
        let mut over = HashSet::new();
        for volume in list.items.iter().filter(|volume| is_directory(volume)) {
            let Some(path) = store::path(volume) else { continue };
            let Ok(used) = tokio::task::spawn_blocking(move || used(&path)).await else { continue };
            let (size, uid) = (bind::capacity(volume), volume.metadata.uid.clone().unwrap_or_default());
            let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone());
            if let Some(claim) = claim.filter(|_| used > size) {
                if !told.contains(&uid) {
                    events.publish_about(about(claim), Kind::Warning, "VolumeOverCapacity", &message(used, size)).await;
                }
                over.insert(uid);
            }
        }
        told = over;
    }
}

fn is_directory(volume: &PersistentVolume) -> bool {
    let mode = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    store::is_ours(volume) && mode != Some("Block")
}

fn about(claim: ObjectReference) -> ObjectReference {
    ObjectReference {
        kind: Some("PersistentVolumeClaim".into()),
        api_version: Some("v1".into()),
        resource_version: None,
        ..claim
    }
}

fn message(used: u64, size: u64) -> String {
    format!(
        "the volume holds {}, more than its size of {}: the embedded node does not enforce it",
        human(used),
        human(size)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_counted_not_lengths() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(dir.path().join("sparse")).expect("a file");
        file.set_len(1 << 30).expect("extended");
        let empty = used(dir.path());
        assert!(empty < 1 << 20, "{empty}");
        std::fs::create_dir(dir.path().join("deep")).expect("made");
        std::fs::write(dir.path().join("deep/full"), vec![1; 1 << 20]).expect("written");
        assert!(used(dir.path()) >= empty + (1 << 20));
        assert_eq!(used(&dir.path().join("none")), 0);
    }
}
