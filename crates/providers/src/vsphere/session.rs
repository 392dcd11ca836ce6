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
    current: tokio::sync::Mutex<Logins>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Logins {
    session: Option<(vim::Endpoint, Client)>,
    /// What was refused. Who still has old credentials does not try them again, and does not end the new session.
    refused: Vec<(vim::Endpoint, Fault)>,
}

/// How many refused endpoints are remembered.
const REFUSED: usize = 16;

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
        let mut logins = self.current.lock().await;
        if let Some((_, fault)) = logins.refused.iter().find(|(refused, _)| refused == endpoint) {
            return Err(VimError::InvalidLogin(fault.clone()));
        }
        let known = logins.session.as_ref().filter(|(of, client)| of == endpoint && !client.is_closed());
        let refusal = match known {
            Some((_, client)) => match client.refusal() {
                None => return Ok(client.clone()),
                Some(fault) => fault,
            },
            None => match Client::connect(endpoint).await {
                Ok(client) => {
                    logins.session = Some((endpoint.clone(), client.clone()));
                    return Ok(client);
                }
                Err(VimError::InvalidLogin(fault)) => fault,
                Err(error) => return Err(error),
            },
        };
        if logins.refused.len() >= REFUSED {
            logins.refused.remove(0);
        }
        logins.refused.push((endpoint.clone(), refusal.clone()));
        Err(VimError::InvalidLogin(refusal))
    }

    /// Forgets that an endpoint was refused: somebody looked, and it is good now.
    pub async fn forgive(&self, endpoint: &vim::Endpoint) {
        let mut logins = self.current.lock().await;
        logins.refused.retain(|(refused, _)| refused != endpoint);
        logins.session.take_if(|(of, client)| of == endpoint && client.refusal().is_some());
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
            let session = self.current.lock().await.session.take();
            if let Some((_, client)) = session {
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
