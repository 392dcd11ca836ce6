//! What the threads of a copy need of the session: its cookie, a new login, TLS by the endpoint's rules.

use std::io;
use std::sync::Arc;

use forklift_disk::remote::{Access, Login};
use forklift_providers::vsphere::vim::{Client, Tls, VimError};
use tokio::runtime::Handle;

/// The session, for threads that are not the runtime's.
#[derive(Clone)]
pub(super) struct Session {
    pub client: Client,
    runtime: Handle,
}

impl Session {
    /// Returns the session; called on the runtime.
    pub(super) fn new(client: Client) -> Self {
        Self { client, runtime: Handle::current() }
    }

    /// Waits for an answer; from a thread that is not the runtime's.
    pub(super) fn wait<T>(&self, answer: impl Future<Output = Result<T, VimError>>) -> io::Result<T> {
        self.runtime.block_on(answer).map_err(|error| io_error(&error))
    }

    /// Runs something beside the copy.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
        self.runtime.spawn(work)
    }

    /// Returns how files are read from the session's own server.
    pub(super) fn access(&self) -> Result<Access, VimError> {
        let mut access = self.access_with(&self.client.endpoint().tls)?;
        access.login = Some(Arc::new(self.clone()));
        Ok(access)
    }

    /// Returns how files are read from another host, which is not told the session.
    pub(super) fn access_with(&self, tls: &Tls) -> Result<Access, VimError> {
        let mut access = Access::default();
        access.tls = Some(Arc::new(tls.rules()?));
        Ok(access)
    }
}

impl Login for Session {
    fn headers(&self, refused: bool) -> io::Result<Vec<(String, String)>> {
        if refused {
            // any call that needs a session makes a new one, once for all threads
            let root = self.client.content().root_folder.clone();
            self.wait(self.client.properties(&root, &["name"]))?;
        }
        let cookie = self.client.session_cookie();
        let cookie = cookie.as_ref().and_then(|cookie| cookie.to_str().ok());
        Ok(cookie.map(|cookie| ("Cookie".to_owned(), cookie.to_owned())).into_iter().collect())
    }
}

/// Returns an error whose kind tells whether to try again.
pub(super) fn io_error(error: &VimError) -> io::Error {
    let kind = match error {
        VimError::Unreachable { .. } => io::ErrorKind::ConnectionAborted,
        VimError::InvalidLogin(_) => io::ErrorKind::PermissionDenied,
        error if error.is_transient() => io::ErrorKind::ResourceBusy,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error.to_string())
}
