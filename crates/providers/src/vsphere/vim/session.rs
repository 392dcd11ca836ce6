//! Keeping a session alive: vCenter forgets one that is idle for half an hour.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::client::{AGENT, Inner};
use super::{Arg, Client, Element, MoRef, VimError};

/// A third of vCenter's idle time, so that two calls may fail.
const INTERVAL: Duration = Duration::from_secs(600);

/// Asks for the time now and then, as long as somebody holds the client.
pub(super) fn keep_alive(inner: &Arc<Inner>) {
    keep_alive_every(inner, INTERVAL);
}

fn keep_alive_every(inner: &Arc<Inner>, pause: Duration) {
    let inner: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(pause).await;
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
    /// Keeps the session alive more often than usual, at a server that forgets sessions earlier.
    pub fn keep_alive_every(&self, pause: Duration) {
        keep_alive_every(self.shared(), pause);
    }

    /// Returns the key by which the server knows the session; no secret, and nothing to log in with.
    pub fn session_key(&self) -> String {
        self.inner().user_session().0
    }

    /// Ends a session that an earlier process left behind, with the leases that hang on it. Only one of this user and
    /// this program is ended; returns whether there was one. A vCenter wants the privilege `Sessions.TerminateSession`.
    pub async fn end_left_behind(&self, key: &str) -> Result<bool, VimError> {
        let (own, user) = self.inner().user_session();
        if key.is_empty() || key == own {
            return Ok(false);
        }
        let manager = &self.content().session_manager;
        let list = self.properties(manager, &["sessionList"]).await?;
        let ours = |session: &&Element| {
            session.text("key") == Some(key)
                && session.text("userName") == Some(user.as_str())
                && session.text("userAgent") == Some(AGENT)
        };
        if !list.get("sessionList").is_some_and(|list| list.items().any(|session| ours(&session))) {
            return Ok(false);
        }
        match self.call("TerminateSession", manager, &[Arg::text("sessionId", key.to_owned())]).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_fault("NotFound") => Ok(false),
            Err(error) => Err(error),
        }
    }

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
