//! One session per provider, shared by the connection test, the collector and the source; and one with each ESXi host
//! that is reached directly, where snapshots are taken for the copies that read from it.
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
    /// Those with hosts, by the hosts' ids: each has a lock of its own, so that one that is away holds up no other.
    hosts: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Logins>>>>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Logins {
    session: Option<(vim::Endpoint, Client)>,
    /// What was refused. Who still has old credentials does not try them again, and does not end the new session.
    refused: Vec<(vim::Endpoint, Fault)>,
}

impl Logins {
    async fn client(&mut self, endpoint: &vim::Endpoint) -> Result<Client, VimError> {
        if let Some((_, fault)) = self.refused.iter().find(|(refused, _)| refused == endpoint) {
            return Err(VimError::InvalidLogin(fault.clone()));
        }
        let known = self.session.as_ref().filter(|(of, client)| of == endpoint && !client.is_closed());
        let refusal = match known {
            Some((_, client)) => match client.refusal() {
                None => return Ok(client.clone()),
                Some(fault) => fault,
            },
            None => match Client::connect(endpoint).await {
                Ok(client) => {
                    self.session = Some((endpoint.clone(), client.clone()));
                    return Ok(client);
                }
                Err(VimError::InvalidLogin(fault)) => fault,
                Err(error) => return Err(error),
            },
        };
        if self.refused.len() >= REFUSED {
            self.refused.remove(0);
        }
        self.refused.push((endpoint.clone(), refusal.clone()));
        Err(VimError::InvalidLogin(refusal))
    }
}

/// How many refused endpoints are remembered.
const REFUSED: usize = 16;

/// What is remembered between two looks at a VM; nothing is lost when it is.
#[derive(Default)]
struct Memory {
    /// When the guest of a VM was asked to shut down.
    shutdowns: HashMap<String, Instant>,
    /// When a host could not be asked.
    away: HashMap<String, Instant>,
    /// Change identities of snapshots, which never change, by server and reference.
    deltas: HashMap<String, Vec<DiskDelta>>,
}

impl Sessions {
    /// Returns the provider's session, logged in when there is none for this endpoint.
    pub async fn client(&self, endpoint: &vim::Endpoint) -> Result<Client, VimError> {
        self.current.lock().await.client(endpoint).await
    }

    /// Returns the session with a host, logged in when there is none for this endpoint.
    pub(super) async fn host(&self, id: &str, endpoint: &vim::Endpoint) -> Result<Client, VimError> {
        let logins =
            self.hosts.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default().clone();
        let mut logins = logins.lock().await;
        logins.client(endpoint).await
    }

    /// Lets the sessions with other hosts than these go; they end with their last user.
    pub(super) fn keep_hosts(&self, keep: impl Fn(&str) -> bool) {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| keep(id));
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

    /// Notes that a host could not be asked.
    pub(super) fn note_away(&self, host: &str) {
        self.memory().away.insert(host.to_owned(), Instant::now());
    }

    /// Returns whether a host could not be asked a moment ago.
    pub(super) fn is_away(&self, host: &str) -> bool {
        let mut memory = self.memory();
        memory.away.retain(|_, at| at.elapsed() < AWAY);
        memory.away.contains_key(host)
    }

    pub(super) fn deltas(&self, server: &str, snapshot: &str) -> Option<Vec<DiskDelta>> {
        self.memory().deltas.get(&format!("{server} {snapshot}")).cloned()
    }

    pub(super) fn keep_deltas(&self, server: &str, snapshot: &str, deltas: &[DiskDelta]) {
        let mut memory = self.memory();
        if memory.deltas.len() >= 1000 {
            memory.deltas.clear();
        }
        memory.deltas.insert(format!("{server} {snapshot}"), deltas.to_vec());
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a host that could not be asked is left alone where its vCenter will do.
const AWAY: Duration = Duration::from_secs(60);
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

impl Held for Sessions {
    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let hosts: Vec<_> = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).drain().collect();
            let mut open: Vec<Client> =
                self.current.lock().await.session.take().into_iter().map(|open| open.1).collect();
            for (_, logins) in hosts {
                open.extend(logins.lock().await.session.take().map(|open| open.1));
            }
            futures::future::join_all(open.iter().map(Client::logout)).await;
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
