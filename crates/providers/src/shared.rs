//! What the parts of a provider share for as long as the provider is known: a session with its source.
//!
//! ```text
//! test, collector, source ── Context::shared.of::<T>(uid) ──► one T per provider
//!                                        │ provider forgotten, or program ends
//!                                        └► release: the session is logged out
//! ```
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join_all};

/// Something that holds on to a source and has to let go of it.
pub trait Held: Any + Send + Sync {
    /// Lets go: what is used later begins anew.
    fn release(&self) -> BoxFuture<'_, ()>;
}

/// Holds one thing per provider.
#[derive(Clone, Default)]
pub struct Shared {
    held: Arc<Mutex<BTreeMap<String, Arc<dyn Held>>>>,
}

impl Shared {
    /// Returns what is held for a provider's UID, made now when there is nothing of this type.
    pub fn of<T: Held + Default>(&self, uid: &str) -> Arc<T> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = held.get(uid) {
            let known: Arc<dyn Any + Send + Sync> = known.clone();
            if let Ok(known) = known.downcast::<T>() {
                return known;
            }
        }
        let new = Arc::new(T::default());
        held.insert(uid.to_owned(), new.clone());
        new
    }

    /// Drops what is held for a provider; what still runs with it goes on with it.
    pub fn forget(&self, uid: &str) {
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(uid));
    }

    /// Releases everything; gives up after some seconds.
    pub async fn release(&self) {
        let all = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        let released = join_all(all.values().map(|held| held.release()));
        if tokio::time::timeout(Duration::from_secs(5), released).await.is_err() {
            tracing::warn!("not all sessions with sources were ended in time");
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Session(AtomicU32);

    impl Held for Session {
        fn release(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {
                self.0.fetch_add(100, Ordering::SeqCst);
            })
        }
    }

    #[tokio::test]
    async fn each_provider_has_one_until_it_is_released() {
        let shared = Shared::default();
        shared.of::<Session>("a").0.store(1, Ordering::SeqCst);
        let a = shared.clone().of::<Session>("a");
        assert_eq!((a.0.load(Ordering::SeqCst), shared.of::<Session>("b").0.load(Ordering::SeqCst)), (1, 0));
        shared.release().await;
        assert_eq!(a.0.load(Ordering::SeqCst), 101);
        assert_eq!(shared.of::<Session>("a").0.load(Ordering::SeqCst), 0);
        shared.of::<Session>("a").0.store(2, Ordering::SeqCst);
        shared.forget("a");
        assert_eq!(shared.of::<Session>("a").0.load(Ordering::SeqCst), 0);
    }
}
