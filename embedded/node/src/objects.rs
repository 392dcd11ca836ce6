//! All objects of a kind, kept up to date, and which of them have changed.

use futures::StreamExt;
use futures::stream::BoxStream;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client};

/// What has changed.
#[derive(Clone, Debug)]
pub enum Touched<K> {
    /// This object came, changed or went.
    One(Box<K>),
    /// Anything may have changed: a list was read.
    All,
}

/// Keeps a store of all objects of a kind, and tells which have changed. The store is filled by polling the stream.
pub fn touched<K>(client: &Client) -> (Store<K>, BoxStream<'static, Touched<K>>)
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store::<K>();
    let stream = watch_objects(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .filter_map(|event| {
            std::future::ready(match event {
                Ok(Event::Apply(object) | Event::Delete(object)) => Some(Touched::One(Box::new(object))),
                Ok(Event::InitDone) => Some(Touched::All),
                Ok(Event::Init | Event::InitApply(_)) | Err(_) => None,
            })
        })
        .boxed();
    (store, stream)
}

/// Says whether a store has been filled.
pub fn filled<K>(store: &Store<K>) -> bool
where
    K: kube::runtime::reflector::Lookup + Clone + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone,
{
    futures::FutureExt::now_or_never(store.wait_until_ready()).is_some()
}
