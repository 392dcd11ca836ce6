//! Shared caches: one watch per kind, a store that everybody reads, and a callback that turns changes into work.
//!
//! ```text
//! API server ──watch──► Store ──(after the store holds it)──► on_change ──► work queues of the reconcilers
//! ```
//! A kind that the cluster does not know (no KubeVirt, no Multus) is no error: its cache stays empty, and the watch
//! asks again now and then, so that an operator installed later is noticed.
use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

/// What happened to an object.
pub enum Change<'a, K> {
    /// It was found by a list: at the start, or after a watch was interrupted.
    Listed(&'a K),
    /// It was made or changed; the store holds it.
    Applied(&'a K),
    /// It is gone; the store does not hold it any more.
    Deleted(&'a K),
}

impl<'a, K> Change<'a, K> {
    /// Returns the object.
    pub fn object(&self) -> &'a K {
        match self {
            Change::Listed(object) | Change::Applied(object) | Change::Deleted(object) => object,
        }
    }
}

/// How long to wait before a watch is opened again after an error.
const RETRY: Duration = Duration::from_secs(2);
/// How long to wait when the server does not know the kind.
const RETRY_UNKNOWN_KIND: Duration = Duration::from_secs(15);

/// Opens a watch and keeps its cache; returns the reader. The task ends when `cancel` does.
pub fn watch<K, F>(api: Api<K>, config: watcher::Config, cancel: CancellationToken, on_change: F) -> Store<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync + Unpin,
    F: Fn(Change<'_, K>) + Send + Sync + 'static,
{
    let (reader, mut writer) = reflector::store::<K>();
    let store = reader.clone();
    tokio::spawn(async move {
        let mut stream = watcher::watcher(api, config).boxed();
        let mut listed: Vec<K> = Vec::new();
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                None => return,
                Some(Ok(event)) => publish(&store, &mut writer, &mut listed, event, &on_change),
                Some(Err(error)) => {
                    let wait = if unknown_kind(&error) { RETRY_UNKNOWN_KIND } else { RETRY };
                    tracing::debug!(kind = %K::kind(&Default::default()), %error, "watch interrupted");
                    if pause(&cancel, wait).await {
                        return;
                    }
                }
            }
        }
    });
    reader
}

/// Watches a kind without keeping it: `on_change` is told every object that is there, changed, or went. For kinds of which
/// only the change matters (`PartialObjectMeta`: nothing else is asked for). The task ends when `cancel` does.
pub fn notice<K, F>(api: Api<K>, config: watcher::Config, cancel: CancellationToken, on_change: F)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone + Send + Sync + Unpin,
    F: Fn(&K) + Send + Sync + 'static,
{
    tokio::spawn(async move {
        let mut stream = watcher::watcher(api, config).boxed();
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                None => return,
                Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
                Some(Ok(
                    watcher::Event::InitApply(object) | watcher::Event::Apply(object) | watcher::Event::Delete(object),
                )) => on_change(&object),
                Some(Err(error)) => {
                    let wait = if unknown_kind(&error) { RETRY_UNKNOWN_KIND } else { RETRY };
                    tracing::debug!(kind = %K::kind(&Default::default()), %error, "watch interrupted");
                    if pause(&cancel, wait).await {
                        return;
                    }
                }
            }
        }
    });
}

fn publish<K, F>(
    store: &Store<K>,
    writer: &mut reflector::store::Writer<K>,
    listed: &mut Vec<K>,
    event: watcher::Event<K>,
    on_change: &F,
) where
    K: Resource + Clone + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
    F: Fn(Change<'_, K>),
{
    match event {
        watcher::Event::Init => {
            listed.clear();
            writer.apply_watcher_event(&watcher::Event::Init);
        }
        watcher::Event::InitApply(mut object) => {
            slim(&mut object);
            listed.push(object.clone());
            writer.apply_watcher_event(&watcher::Event::InitApply(object));
        }
        watcher::Event::InitDone => {
            // What was deleted while nobody watched is noticed here: it was in the store and is not in the list.
            let before = store.state();
            writer.apply_watcher_event(&watcher::Event::InitDone);
            let now: HashSet<ObjectRef<K>> = listed.iter().map(ObjectRef::from_obj).collect();
            for gone in before.iter().filter(|old| !now.contains(&ObjectRef::from_obj(old.as_ref()))) {
                on_change(Change::Deleted(gone));
            }
            for object in listed.drain(..) {
                on_change(Change::Listed(&object));
            }
        }
        watcher::Event::Apply(mut object) => {
            slim(&mut object);
            writer.apply_watcher_event(&watcher::Event::Apply(object.clone()));
            on_change(Change::Applied(&object));
        }
        watcher::Event::Delete(object) => {
            writer.apply_watcher_event(&watcher::Event::Delete(object.clone()));
            on_change(Change::Deleted(&object));
        }
    }
}

/// Nobody here reads who manages which field, and it is the larger half of many objects.
fn slim<K: Resource>(object: &mut K) {
    object.meta_mut().managed_fields = None;
}

fn unknown_kind(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

/// Waits; returns true when the wait was cancelled.
async fn pause(cancel: &CancellationToken, wait: Duration) -> bool {
    tokio::select! {
        () = cancel.cancelled() => true,
        () = tokio::time::sleep(wait) => false,
    }
}
