//! What a pod's task tells the API server, and what it cleans up.

use jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::Worker;
use crate::kubelet::status::{self, Shown, Whole};
use crate::kubelet::volumes;

impl Worker {
    /// Writes the status if it differs from what was written; false: try again.
    pub(super) async fn write_status(&mut self) -> bool {
        if self.gone {
            return true;
        }
        let shown: Vec<Shown<'_>> = self
            .slots
            .iter()
            .map(|slot| Shown {
                role: slot.role,
                container: &slot.container,
                record: &slot.record,
                waiting: slot.waiting.as_ref(),
                up: slot.is_up(),
                ready: slot.ready && slot.is_up(),
            })
            .collect();
        let whole = Whole {
            pod_ip: self.record.ip.map(|ip| ip.to_string()),
            host_ip: self.kubelet.facts.host_ip.clone(),
            start: self.record.start,
            failed: self.record.failed.clone(),
        };
        let status = status::compute(&self.pod, &shown, &whole, Timestamp::now());
        let Ok(value) = serde_json::to_value(&status) else { return true };
        if self.written.as_ref() == Some(&value) {
            return true;
        }
        // conditions keep their times from one write to the next
        self.pod.status = Some(status);
        let patch = json!({"metadata": {"uid": self.uid()}, "status": value});
        match self.api().patch_status(&self.record.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                self.written = Some(value);
                true
            }
            // gone, or another pod of that name: the watch will tell
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => true,
            Err(error) => {
                tracing::warn!(%error, pod = self.record.name, "pod status not written");
                false
            }
        }
    }

    /// Removes the object once nothing of the pod runs; true when this task has nothing left.
    pub(super) async fn finish_deletion(&self) -> bool {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid().to_owned()), resource_version: None }),
            ..DeleteParams::default()
        };
        if let Err(error) = self.api().delete(&self.record.name, &params).await
            && !matches!(&error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
        {
            tracing::warn!(%error, pod = self.record.name, "pod not removed");
        }
        // finalizers may keep the object: the watch tells when it is gone
        false
    }

    /// Gives back what a finished pod needs no more; its logs stay.
    pub(super) fn release(&mut self) {
        if std::mem::replace(&mut self.released, true) {
            return;
        }
        self.kubelet.addresses.release(self.uid());
        volumes::release(&self.dir.join("volumes"));
    }

    /// Removes the files of a pod that exists no more.
    pub(super) fn forget(&self) {
        self.kubelet.addresses.release(self.uid());
        if let Err(error) = std::fs::remove_dir_all(&self.dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, dir = %self.dir.display(), "files of a removed pod are left");
        }
    }
}
