//! Waiting for a task of the server.

use std::time::Duration;

use super::{Arg, Client, Element, Fault, FilterSpec, MoRef, VimError};

/// What is read of a task.
const PATHS: [&str; 3] = ["info.state", "info.error", "info.result"];

impl Client {
    /// Waits until a task is done; returns its result (empty where it has none), or its fault. Dropping the future
    /// ends the wait and not the task.
    pub async fn wait_task(&self, task: &MoRef) -> Result<Element, VimError> {
        // a collector of its own, so that nobody else's filters wake it
        let made = self.call("CreatePropertyCollector", &self.content().property_collector, &[]).await?;
        let Some(collector) = made.moref("returnval") else { return self.poll_task(task).await };
        let filter = FilterSpec::of("Task", &["info.state"]).object(task).into_arg("spec");
        let waited = match self.call("CreateFilter", &collector, &[filter, Arg::bool("partialUpdates", false)]).await {
            Ok(_) => self.follow(task, &collector).await,
            Err(error) => Err(error),
        };
        let lost =
            |error: &VimError| error.is_fault("ManagedObjectNotFound") || error.is_fault("InvalidCollectorVersion");
        match waited {
            // a new login: the collector is gone with the old session, the task is not
            Err(error) if lost(&error) => self.poll_task(task).await,
            waited => {
                let _ = self.call("DestroyPropertyCollector", &collector, &[]).await;
                waited
            }
        }
    }

    async fn follow(&self, task: &MoRef, collector: &MoRef) -> Result<Element, VimError> {
        let mut version = String::new();
        loop {
            if let Some(result) = self.task_result(task).await? {
                return Ok(result);
            }
            let options = Arg::object("options", [Arg::int("maxWaitSeconds", 60)]);
            let args = [Arg::text("version", version.clone()), options];
            let limit = Duration::from_secs(180);
            let answer = self.call_within("WaitForUpdatesEx", collector, &args, limit).await?;
            if let Some(new) = answer.text("returnval.version") {
                version = new.to_owned();
            }
        }
    }

    async fn poll_task(&self, task: &MoRef) -> Result<Element, VimError> {
        loop {
            if let Some(result) = self.task_result(task).await? {
                return Ok(result);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
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
