//! The running collectors, and what is remembered of each provider between two passes.
//!
//! ```text
//! place  (type, url, settings that matter)  changed: the records go, a new collector starts
//! access (what the secret says, server)     changed: the records stay, a new collector starts with a new session
//! anything else of spec and secret          changed: nothing happens
//! ```
//! A new collector starts when the one before has ended: two would write into one store at once.
//!
//! Credentials that the source refused are remembered: nobody tries them again, whatever makes a pass run.
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_api::Provider;
use forklift_api::provider::setting;
use futures::stream::BoxStream;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::plan::sight;
use crate::ports::{Changed, ConnectError, Endpoint, Examination};

/// How long a collector that failed rests before it starts again.
const REST: Duration = Duration::from_secs(10);

/// How often it is looked whether the inventory is complete, and whether it is in trouble.
const LOOK_WHILE_LOADING: Duration = Duration::from_millis(250);
/// The same once it is complete.
const LOOK: Duration = Duration::from_secs(1);
/// How long a collector that was cancelled may take to end.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a provider is reached with.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Where: type, address and the settings that say what is there.
    place: String,
    /// By what: the secret's content, whose labels and owners may change meanwhile; shown nowhere.
    secret: BTreeMap<String, Vec<u8>>,
    /// Address of the server.
    server: Option<String>,
}

impl Key {
    /// Returns the key of a provider's endpoint.
    pub fn of(endpoint: &Endpoint) -> Self {
        Self { place: place(&endpoint.provider), secret: endpoint.secret.clone(), server: endpoint.server.clone() }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("place", &self.place).finish_non_exhaustive()
    }
}

fn place(provider: &Provider) -> String {
    let spec = &provider.spec;
    let settings: Vec<_> =
        spec.settings.iter().filter(|(key, _)| !setting::NOT_INVENTORY.contains(&key.as_str())).collect();
    format!("{} {} {settings:?}", spec.type_, spec.url.trim())
}

/// What is known of the providers, by their UID.
#[derive(Default)]
pub struct Collectors {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Default)]
struct Known {
    /// The place that the inventory is of.
    place: Option<String>,
    running: Option<(Key, CancellationToken)>,
    /// The last collector that was started; it may have been cancelled and be about to end.
    last: Option<JoinHandle<()>>,
    /// What the source refused, and its words.
    refused: Option<(Key, String)>,
    /// The last look that went well.
    examined: Option<(Key, Instant, Examination)>,
}

impl Collectors {
    /// Forgets a provider; its collector ends.
    pub fn forget(&self, uid: &str) {
        if let Some((_, cancel)) = self.lock().remove(uid).and_then(|known| known.running) {
            cancel.cancel();
        }
    }

    /// Ends the collector of a provider. What it collected stays.
    pub fn stop(&self, uid: &str) {
        let mut all = self.lock();
        let Some(known) = all.get_mut(uid) else { return };
        known.examined = None;
        if let Some((_, cancel)) = known.running.take() {
            cancel.cancel();
        }
    }

    /// Returns the source's words when it refused exactly this.
    pub fn refused(&self, uid: &str, key: &Key) -> Option<String> {
        let all = self.lock();
        let (refused, message) = all.get(uid)?.refused.as_ref()?;
        (refused == key).then(|| message.clone())
    }

    /// Remembers that the source refused this; the collector ends.
    pub fn refuse(&self, uid: &str, key: Key, message: &str) {
        self.lock().entry(uid.to_owned()).or_default().refused = Some((key, message.to_owned()));
        self.stop(uid);
    }

    /// Returns what the last look found, as long as it holds.
    pub fn examined(&self, uid: &str, key: &Key) -> Option<Examination> {
        let all = self.lock();
        let (of, at, found) = all.get(uid)?.examined.as_ref()?;
        (of == key && at.elapsed() < found.holds).then(|| found.clone())
    }

    /// Remembers what a look found.
    pub fn remember(&self, uid: &str, key: Key, found: &Examination) {
        let mut all = self.lock();
        let known = all.entry(uid.to_owned()).or_default();
        known.refused = None;
        known.examined = Some((key, Instant::now(), found.clone()));
    }

    /// Starts a collector unless the same one runs, or the provider is gone.
    pub fn ensure(&self, context: &Arc<Context>, endpoint: &Endpoint, key: Key) {
        let provider = &endpoint.provider;
        let uid = provider.uid().unwrap_or_default();
        let mut all = self.lock();
        // It may have been deleted while this pass looked at it. Who deletes takes it out of the cache first and forgets
        // it then, for which it needs the lock.
        let stored = context.caches.providers.get(&ObjectRef::from_obj(provider.as_ref()));
        if stored.is_none_or(|stored| stored.uid() != provider.uid()) {
            return;
        }
        let known = all.entry(uid).or_default();
        match known.running.take() {
            Some((same, cancel)) if same == key => {
                known.running = Some((same, cancel));
                return;
            }
            Some((_, cancel)) => cancel.cancel(),
            None => {}
        }
        if known.place.as_ref().is_some_and(|place| *place != key.place) {
            context.providers().forget(provider);
        }
        known.place = Some(key.place.clone());
        let cancel = CancellationToken::new();
        known.running = Some((key.clone(), cancel.clone()));
        let before = known.last.take();
        let (context, endpoint) = (context.clone(), endpoint.clone());
        known.last = Some(tokio::spawn(async move {
            if let Some(before) = before
                && let Err(error) = before.await
            {
                tracing::error!(%error, "a collector panicked");
            }
            keep_collecting(context, endpoint, key, cancel).await;
        }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn keep_collecting(context: Arc<Context>, endpoint: Endpoint, key: Key, cancel: CancellationToken) {
    let provider = endpoint.provider.clone();
    let (namespace, name) = (provider.namespace().unwrap_or_default(), provider.name_any());
    while !cancel.is_cancelled() {
        let collecting = context.providers().collect(endpoint.clone(), cancel.child_token());
        tokio::pin!(collecting);
        let mut seen = (false, false);
        // ends with the collector, and with the inventory that it follows
        let mut followed: Option<AbortOnDrop> = None;
        let ended = loop {
            tokio::select! {
                ended = &mut collecting => break ended,
                // it takes its watch down; a source that is away must not hold up the next collector
                () = cancel.cancelled() => break tokio::time::timeout(FAREWELL, &mut collecting).await.unwrap_or(Ok(())),
                () = tokio::time::sleep(if seen.0 { LOOK } else { LOOK_WHILE_LOADING }) => {
                    let now =
                        (context.providers().loaded(&provider), context.providers().failure(&provider).is_some());
                    if now != seen {
                        seen = now;
                        context.queues.providers.push(&namespace, &name);
                    }
                    if followed.as_ref().is_none_or(|task| task.0.is_finished()) {
                        let changes = context.providers().changes(&provider);
                        followed = changes.map(|changes| follow(context.clone(), provider.clone(), changes));
                    }
                }
            }
        };
        match ended {
            Err(ConnectError::Auth(message)) if !cancel.is_cancelled() => {
                tracing::warn!(provider = name, namespace, message, "the source refused the credentials");
                context.collectors.refuse(&provider.uid().unwrap_or_default(), key, &message);
                context.queues.providers.push(&namespace, &name);
                return;
            }
            Err(error) => tracing::warn!(provider = name, namespace, %error, "collector ended"),
            Ok(()) => {}
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// A task that ends when nobody wants it any more.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn follow(context: Arc<Context>, provider: Arc<Provider>, changes: BoxStream<'static, Changed>) -> AbortOnDrop {
    AbortOnDrop(tokio::spawn(async move { sight::follow(&context, &provider, changes).await }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forklift_api::provider::ProviderSpec;

    fn key(settings: &[(&str, &str)], url: &str, password: &str) -> Key {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let spec = ProviderSpec { type_: "vsphere".into(), url: url.into(), settings, ..ProviderSpec::default() };
        let provider = Arc::new(Provider::new("p", spec));
        let secret = [("password".to_owned(), password.as_bytes().to_vec())].into();
        Key::of(&Endpoint { provider, secret, server: None, hosts: Default::default() })
    }

    #[test]
    fn only_what_says_where_and_by_what_matters_to_a_collector() {
        let plain = key(&[], "https://vc/sdk", "1");
        assert_eq!(key(&[("bandwidthLimit", "1000"), ("vddkInitImage", "i")], "https://vc/sdk", "1"), plain);
        assert_ne!(key(&[("sdkEndpoint", "esxi")], "https://vc/sdk", "1").place, plain.place);
        assert_ne!(key(&[], "https://other/sdk", "1").place, plain.place);
        let rotated = key(&[], "https://vc/sdk", "2");
        assert_eq!(rotated.place, plain.place);
        assert_ne!(rotated, plain);
        assert!(!format!("{:?}", key(&[], "https://vc/sdk", "a secret")).contains("secret"));
    }

    #[test]
    fn refused_credentials_are_refused_until_they_change() {
        let collectors = Collectors::default();
        let (old, new) = (key(&[], "https://vc/sdk", "1"), key(&[], "https://vc/sdk", "2"));
        collectors.refuse("u", old.clone(), "wrong password");
        assert_eq!(collectors.refused("u", &old).as_deref(), Some("wrong password"));
        assert_eq!(collectors.refused("u", &new), None);
        collectors.stop("u");
        assert!(collectors.refused("u", &old).is_some(), "a stopped collector makes nobody try again");
        collectors.remember("u", new, &Examination::default());
        assert_eq!(collectors.refused("u", &old), None);
    }

    #[test]
    fn a_look_holds_as_long_as_it_says() {
        let collectors = Collectors::default();
        let at = key(&[], "https://vc/sdk", "1");
        collectors.remember("u", at.clone(), &Examination::default());
        assert!(collectors.examined("u", &at).is_none(), "one that holds for no time is looked at again");
        let long = Examination { holds: Duration::from_secs(600), ..Examination::default() };
        collectors.remember("u", at.clone(), &long);
        assert!(collectors.examined("u", &at).is_some());
        assert!(collectors.examined("u", &key(&[], "https://vc/sdk", "2")).is_none());
        collectors.stop("u");
        assert!(collectors.examined("u", &at).is_none());
    }
}
