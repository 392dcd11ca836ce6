//! Keeping a session alive: vCenter forgets one that is idle for half an hour.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::client::Inner;
use super::{Arg, Client, MoRef, VimError};

/// A third of vCenter's idle time, so that two calls may fail.
const INTERVAL: Duration = Duration::from_secs(600);

/// Asks for the time now and then, as long as somebody holds the client.
pub(super) fn keep_alive(inner: &Arc<Inner>) {
    let inner: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some(inner) = inner.upgrade().filter(|inner| !inner.is_closed()) else { return };
            let this = MoRef::new("ServiceInstance", "ServiceInstance");
            match inner.call("CurrentTime", &this, &[], Duration::from_secs(60)).await {
                Ok(_) => {}
                // the credentials were changed: whoever uses the client is told at its next call
                Err(VimError::InvalidLogin(_)) => return,
                Err(error) => tracing::debug!(host = inner.endpoint().host(), %error, "the session was not kept alive"),
            }
        }
    });
}

impl Client {
    /// Returns whether the server still knows the session; does not log in again. A vCenter wants the privilege
    /// `Sessions.ValidateSession` for the question.
    pub async fn is_session_active(&self) -> Result<bool, VimError> {
        let (key, user) = self.inner().user_session();
        let args = [Arg::text("sessionID", key), Arg::text("userName", user)];
        let limit = Duration::from_secs(60);
        match self.inner().post("SessionIsActive", &self.content().session_manager, &args, limit).await {
            Ok(answer) => Ok(answer.bool("returnval").unwrap_or(false)),
            Err(error) if error.is_fault("NotAuthenticated") => Ok(false),
            Err(error) => Err(error),
        }
    }
}
