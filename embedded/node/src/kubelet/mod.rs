//! The kubelet stand-in: pods of this node as processes of this machine.

pub mod cgroup;
pub mod container;
pub mod decide;
pub mod env;
pub mod hooks;
pub mod logs;
pub mod pod;
pub mod probe;
pub mod process;
pub mod rootfs;
pub mod running;
pub mod server;
pub mod state;
pub mod status;
pub mod streams;
pub mod volumes;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::events::Events;
use crate::images::ImageTable;
use crate::network::Addresses;
use pod::{Message, Worker};

/// What all pods of the node share.
pub struct Kubelet {
    /// The API.
    pub client: Client,
    /// The programs behind the images.
    pub images: ImageTable,
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
    /// What the endpoint's callers have to present.
    pub token: String,
    /// The node's part of what the downward API tells.
    pub facts: env::Facts,
    /// Which namespaces containers get.
    pub isolation: process::Isolation,
    /// Where limits of containers are set.
    pub groups: cgroup::Groups,
    /// The containers that run.
    pub running: running::Table,
    /// The services that pods can name.
    pub services: crate::services::Directory,
    /// The first wait before a container that keeps failing is started again.
    pub restart_backoff: Duration,
    /// How often empty directories with a limit are measured.
    pub usage_period: Duration,
    /// How long containers get to end when the node stops.
    pub shutdown_grace: Duration,
    /// Pod addresses.
    pub addresses: Addresses,
    /// Logs that are being written.
    pub logs: logs::Logs,
    /// Writes events.
    pub events: Events,
    /// The node is to stop.
    pub shutdown: CancellationToken,
    /// Which pod is which directory: (namespace, name) to uid.
    pub index: Mutex<HashMap<(String, String), String>>,
}

impl Kubelet {
    /// Where the pods' files are.
    pub fn pods_dir(&self) -> PathBuf {
        self.data_dir.join("pods")
    }

    /// The uid of a pod of this node.
    pub fn uid(&self, namespace: &str, pod: &str) -> Option<String> {
        let index = self.index.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        index.get(&(namespace.to_owned(), pod.to_owned())).cloned()
    }

    /// Where a container's files are, if its pod is on this node.
    pub fn container_dir(&self, namespace: &str, pod: &str, container: &str) -> Option<PathBuf> {
        let uid = self.uid(namespace, pod)?;
        let dir = self.pods_dir().join(uid).join("containers");
        // by listing, as names in a request must not become paths
        let found = std::fs::read_dir(dir).ok()?.flatten().find(|entry| entry.file_name() == container)?;
        Some(found.path())
    }

    fn set_index(&self, pod: &Pod, present: bool) {
        let meta = &pod.metadata;
        let key = (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
        let uid = meta.uid.clone().unwrap_or_default();
        let mut index = self.index.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if present {
            index.insert(key, uid);
        } else if index.get(&key) == Some(&uid) {
            index.remove(&key);
        }
    }
}

/// Watches the pods of this node and keeps a task for each.
pub async fn run(kubelet: Arc<Kubelet>) {
    let api: Api<Pod> = Api::all(kubelet.client.clone());
    let events = watcher::watcher(api, watcher::Config::default());
    futures::pin_mut!(events);
    let sources = sources(&kubelet.client);
    futures::pin_mut!(sources);
    let mut pods =
        Pods { kubelet: kubelet.clone(), inboxes: HashMap::new(), mounted: HashMap::new(), tasks: JoinSet::new() };
    let mut listed: HashSet<String> = HashSet::new();
    let mut first = true;
    loop {
        let event = tokio::select! {
            () = kubelet.shutdown.cancelled() => break,
            Some(_) = pods.tasks.join_next() => continue,
            Some(source) = sources.next() => {
                pods.source_changed(&source);
                continue;
            }
            event = events.next() => event,
        };
        match event {
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(pod))) => {
                listed.extend(pod.metadata.uid.clone());
                pods.changed(pod);
            }
            Some(Ok(Event::InitDone)) => {
                pods.keep_only(&listed);
                if std::mem::replace(&mut first, false) {
                    sweep(&kubelet, &listed);
                }
            }
            Some(Ok(Event::Apply(pod))) => pods.changed(pod),
            Some(Ok(Event::Delete(pod))) => pods.gone(&pod),
            Some(Err(error)) => {
                tracing::debug!(%error, "watch of pods interrupted");
                // the watcher itself goes on with a new list
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            None => break,
        }
    }
    // the tasks see the same signal
    while pods.tasks.join_next().await.is_some() {}
}

/// A ConfigMap or Secret: kind, namespace, name.
type Source = (&'static str, String, String);

/// Tells which ConfigMaps and Secrets have changed; nothing of them is kept.
fn sources(client: &Client) -> impl futures::Stream<Item = Source> + Send + 'static {
    futures::stream::select(changes::<ConfigMap>(client, "ConfigMap"), changes::<Secret>(client, "Secret"))
}

fn changes<K>(client: &Client, kind: &'static str) -> impl futures::Stream<Item = Source> + Send + use<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let events = watcher::watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), watcher::Config::default());
    events.default_backoff().filter_map(move |event| {
        let meta = match event {
            Ok(Event::Apply(object)) => Some(object.metadata),
            // the first list tells nothing new; after an interruption it may
            Ok(Event::InitApply(object)) => Some(object.metadata),
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) | Err(_) => None,
        };
        std::future::ready(meta.and_then(|meta| Some((kind, meta.namespace?, meta.name?))))
    })
}

struct Pods {
    kubelet: Arc<Kubelet>,
    inboxes: HashMap<String, mpsc::UnboundedSender<Message>>,
    /// Which pods have mounted what.
    mounted: HashMap<Source, HashSet<String>>,
    tasks: JoinSet<()>,
}

impl Pods {
    fn changed(&mut self, pod: Pod) {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let Some(uid) = pod.metadata.uid.clone().filter(|_| node == Some(&self.kubelet.facts.node_name)) else {
            return;
        };
        self.kubelet.set_index(&pod, true);
        if let Some(inbox) = self.inboxes.get(&uid) {
            // a task that has ended is replaced when its pod shows up again
            match inbox.send(Message::Changed(Box::new(pod))) {
                Ok(()) => return,
                Err(mpsc::error::SendError(Message::Changed(pod))) => return self.take_on(uid, *pod),
                Err(_) => return,
            }
        }
        self.take_on(uid, pod);
    }

    fn source_changed(&self, source: &Source) {
        for inbox in self.mounted.get(source).into_iter().flatten().filter_map(|uid| self.inboxes.get(uid)) {
            // its task may have ended already
            let _ = inbox.send(Message::Stale);
        }
    }

    /// Notes what a pod has mounted.
    fn note_sources(&mut self, uid: &str, pod: &Pod) {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        for (kind, name) in volumes::mounted(pod) {
            self.mounted.entry((kind, namespace.clone(), name)).or_default().insert(uid.to_owned());
        }
    }

    fn forget_sources(&mut self) {
        let known = &self.inboxes;
        self.mounted.retain(|_, pods| {
            pods.retain(|uid| known.contains_key(uid));
            !pods.is_empty()
        });
    }

    fn take_on(&mut self, uid: String, pod: Pod) {
        self.note_sources(&uid, &pod);
        let (sender, inbox) = mpsc::unbounded_channel();
        let name = pod.metadata.name.clone().unwrap_or_default();
        match Worker::new(self.kubelet.clone(), pod, sender.clone()) {
            Ok(worker) => {
                self.inboxes.insert(uid, sender);
                self.tasks.spawn(worker.run(inbox));
            }
            Err(error) => tracing::error!(%error, pod = name, "cannot make room for a pod"),
        }
    }

    fn gone(&mut self, pod: &Pod) {
        self.kubelet.set_index(pod, false);
        if let Some(inbox) = pod.metadata.uid.as_ref().and_then(|uid| self.inboxes.remove(uid)) {
            // its task may have ended already
            let _ = inbox.send(Message::Gone);
            self.forget_sources();
        }
    }

    fn keep_only(&mut self, listed: &HashSet<String>) {
        self.inboxes.retain(|uid, inbox| {
            let keep = listed.contains(uid);
            if !keep {
                // its task may have ended already
                let _ = inbox.send(Message::Gone);
            }
            keep
        });
        self.forget_sources();
        let mut index = self.kubelet.index.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        index.retain(|_, uid| listed.contains(uid));
    }
}

/// Removes what an earlier node left of pods that exist no more.
fn sweep(kubelet: &Kubelet, listed: &HashSet<String>) {
    for entry in std::fs::read_dir(kubelet.pods_dir()).into_iter().flatten().flatten() {
        let Ok(uid) = entry.file_name().into_string() else { continue };
        if listed.contains(&uid) {
            continue;
        }
        for container in std::fs::read_dir(entry.path().join("containers")).into_iter().flatten().flatten() {
            if let state::State::Running { pid, ticks, .. } =
                state::Record::load(&container.path().join("record.json")).state
            {
                process::kill_leftover(pid, ticks);
            }
        }
        volumes::release(&entry.path().join("volumes"));
        if let Err(error) = std::fs::remove_dir_all(entry.path()) {
            tracing::warn!(%error, dir = %entry.path().display(), "files of a removed pod are left");
        }
    }
}
