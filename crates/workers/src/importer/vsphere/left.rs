//! The session of a copy that was killed: it would live on for half an hour, and the lease that hangs on it would lock the
//! VM until its time is out.
//!
//! ```text
//! log in ─► was a session noted beside the target? ─► of our user and program: ended, with its lease ─► note our own
//! log out ─► the note goes
//! ```
//!
//! The note has the key by which the server lists the session, with which nobody can log in. One importer has a target
//! at a time; one that lives all the same logs in again. A block volume has no place for the note.

use std::path::PathBuf;

use forklift_api::worker::{ImportSpec, VolumeMode};
use forklift_providers::vsphere::vim::Client;
use tokio::task::JoinHandle;

/// Follows the session; ends when dropped.
pub(super) struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The note beside a target.
pub(super) struct Note(Option<PathBuf>);

impl Note {
    /// Returns the note of an order's target.
    pub(super) fn of(spec: &ImportSpec) -> Self {
        Self((spec.volume_mode == VolumeMode::Filesystem).then(|| format!("{}.session", spec.target).into()))
    }

    /// Ends the session that was noted, and notes this one, and those that take its place, until the answer is dropped.
    pub(super) async fn take_over(&self, client: &Client) -> Option<Following> {
        let path = self.0.clone()?;
        let host = client.endpoint().host();
        let noted = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some((of, key)) = noted.trim().split_once(' ')
            && of == host
        {
            match client.end_left_behind(key).await {
                Ok(true) => tracing::info!(host, "the session of a copy that was killed is ended"),
                Ok(false) => {}
                // without the privilege it is left to the server
                Err(error) => tracing::info!(host, %error, "the session of a copy that was killed stays"),
            }
        }
        let client = client.clone();
        Some(Following(tokio::spawn(async move {
            let mut logins = client.logins();
            loop {
                if let Err(error) = std::fs::write(&path, format!("{host} {}\n", client.session_key())) {
                    tracing::debug!(%error, "the session is not noted");
                }
                if logins.changed().await.is_err() {
                    return;
                }
            }
        })))
    }

    /// Forgets the session, which was ended.
    pub(super) async fn forget(&self, following: Option<Following>) {
        if let Some(mut following) = following {
            following.0.abort();
            // it may be writing just now
            let _ = (&mut following.0).await;
        }
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
