//! One session per provider, shared by the connection test, the collector and the source.
//!
//! ```text
//! endpoint as before, session open ──► the same session
//! endpoint changed (rotation)      ──► a new login; the old session ends with its last user
//! refused                          ──► the same refusal, until the endpoint changes: no account is locked
//! ```
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_core::source::DiskDelta;
use futures::future::BoxFuture;

use super::vim::{self, Client, Fault, VimError};
use crate::{Context, Endpoint, Held};

/// What is held for a provider.
#[derive(Default)]
pub struct Sessions {
    current: tokio::sync::Mutex<Option<Current>>,
    memory: Mutex<Memory>,
}

struct Current {
    endpoint: vim::Endpoint,
    session: Result<Client, Fault>,
}

/// What is remembered between two looks at a VM; nothing is lost when it is.
#[derive(Default)]
struct Memory {
    /// When the guest of a VM was asked to shut down.
    shutdowns: HashMap<String, Instant>,
    /// Change identities of snapshots, which never change.
    deltas: HashMap<String, Vec<DiskDelta>>,
}

impl Sessions {
    /// Returns the provider's session, logged in when there is none for this endpoint.
    pub async fn client(&self, endpoint: &vim::Endpoint) -> Result<Client, VimError> {
        let mut current = self.current.lock().await;
        if let Some(known) = current.as_ref().filter(|known| known.endpoint == *endpoint) {
            match &known.session {
                Ok(client) if !client.is_closed() => {
                    return client
                        .refusal()
                        .map_or_else(|| Ok(client.clone()), |fault| Err(VimError::InvalidLogin(fault)));
                }
                Ok(_) => {}
                Err(fault) => return Err(VimError::InvalidLogin(fault.clone())),
            }
        }
        let session = match Client::connect(endpoint).await {
            Ok(client) => Ok(client),
            Err(VimError::InvalidLogin(fault)) => Err(fault),
            Err(error) => return Err(error),
        };
        *current = Some(Current { endpoint: endpoint.clone(), session: session.clone() });
        session.map_err(VimError::InvalidLogin)
    }

    /// Notes that a guest was asked to shut down; returns how long ago it was asked first. Asked long ago counts as
    /// never: that was another migration.
    pub(super) fn shutdown_asked(&self, vm: &str) -> Option<Duration> {
        let mut memory = self.memory();
        memory.shutdowns.retain(|_, at| at.elapsed() < FORGOTTEN);
        let asked = memory.shutdowns.get(vm).map(Instant::elapsed);
        if asked.is_none() {
            memory.shutdowns.insert(vm.to_owned(), Instant::now());
        }
        asked
    }

    /// Forgets that a guest was asked to shut down.
    pub(super) fn shutdown_over(&self, vm: &str) {
        self.memory().shutdowns.remove(vm);
    }

    pub(super) fn deltas(&self, snapshot: &str) -> Option<Vec<DiskDelta>> {
        self.memory().deltas.get(snapshot).cloned()
    }

    pub(super) fn keep_deltas(&self, snapshot: &str, deltas: &[DiskDelta]) {
        let mut memory = self.memory();
        if memory.deltas.len() >= 1000 {
            memory.deltas.clear();
        }
        memory.deltas.insert(snapshot.to_owned(), deltas.to_vec());
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

impl Held for Sessions {
    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let current = self.current.lock().await.take();
            if let Some(Current { session: Ok(client), .. }) = current {
                client.logout().await;
            }
        })
    }
}

/// Returns the endpoint of a provider.
pub fn endpoint(endpoint: &Endpoint) -> Result<vim::Endpoint, VimError> {
    vim::Endpoint::from_secret(&endpoint.provider.spec.url, &endpoint.secret)
}

/// Returns what is held for a provider.
pub fn sessions(provider: &Endpoint, context: &Context) -> Arc<Sessions> {
    context.shared.of::<Sessions>(provider.provider.metadata.uid.as_deref().unwrap_or_default())
}
