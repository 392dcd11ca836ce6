//! Waiting for a task of the server.

use std::time::Duration;

use super::{Client, Element, Fault, MoRef, VimError};

/// What is read of a task.
const PATHS: [&str; 3] = ["info.state", "info.error", "info.result"];
/// The first pause between two looks, and the longest; each is twice the one before.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl Client {
    /// Waits until a task is done; returns its result (empty where it has none), or its fault. Dropping the future
    /// ends the wait and not the task, and leaves nothing behind in the session, as a filter of its own would. A new
    /// login in between does not matter.
    pub async fn wait_task(&self, task: &MoRef) -> Result<Element, VimError> {
        let mut pause = PAUSE.0;
        loop {
            if let Some(result) = self.task_result(task).await? {
                return Ok(result);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Returns the result of a task that is done; `None` while it runs.
    pub async fn task_result(&self, task: &MoRef) -> Result<Option<Element>, VimError> {
        let info = self.properties(task, &PATHS).await?;
        match info.text("info.state") {
            Some("success") => Ok(Some(info.get("info.result").cloned().unwrap_or_default())),
            Some("error") => Err(VimError::Fault(info.get("info.error").map(Fault::localized).unwrap_or_default())),
            Some(_) => Ok(None),
            None => Err(VimError::Malformed { what: format!("the state of {task}"), reason: "it has none".to_owned() }),
        }
    }
}
