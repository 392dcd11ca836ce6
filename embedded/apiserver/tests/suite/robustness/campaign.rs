//! Writers and watchers that live on while the server is killed and started again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::checker::check;
use super::history::{Action, Event, History, Item, Kind, Operation, Outcome, Seen, Time, Tokens, Watch};
use crate::durability::Child;

const WRITERS: u64 = 6;
/// Longest time for any one thing, such as a start or an answer.
const PATIENCE: Duration = Duration::from_secs(60);

struct Resource {
    name: &'static str,
    path: &'static str,
    api_version: &'static str,
    kind: &'static str,
    status: bool,
}

static RESOURCES: [Resource; 3] = [
    Resource {
        name: "configmaps",
        path: "/api/v1/namespaces/default/configmaps",
        api_version: "v1",
        kind: "ConfigMap",
        status: false,
    },
    Resource {
        name: "leases",
        path: "/apis/coordination.k8s.io/v1/namespaces/default/leases",
        api_version: "coordination.k8s.io/v1",
        kind: "Lease",
        status: false,
    },
    Resource {
        name: "gadgets",
        path: "/apis/ex.io/v1/namespaces/default/gadgets",
        api_version: "ex.io/v1",
        kind: "Gadget",
        status: true,
    },
];

fn definition() -> Value {
    let text = json!({"type": "object", "properties": {"w": {"type": "string"}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "gadgets.ex.io"},
        "spec": {"group": "ex.io", "scope": "Namespaced", "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": text, "status": text}}}}]},
    })
}

impl Resource {
    fn object(&self, name: &str, token: &str) -> Value {
        let mut object = json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": name}});
        match self.name {
            "configmaps" => object["data"] = json!({"w": token}),
            "leases" => object["spec"] = json!({"holderIdentity": token}),
            _ => object["spec"] = json!({"w": token}),
        }
        object
    }

    fn tokens(object: &Value) -> Tokens {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_string();
        let main = ["/data/w", "/spec/holderIdentity", "/spec/w"].into_iter().map(text).find(|t| !t.is_empty());
        Tokens { main: main.unwrap_or_default(), status: text("/status/w") }
    }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or(0)
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_string()
}

fn ours(object: &Value) -> bool {
    name(object).starts_with("o-")
}

fn items(list: &Value) -> Vec<Item> {
    let items = list["items"].as_array().into_iter().flatten().filter(|item| ours(item));
    items.map(|i| Item { name: name(i), revision: revision(i), tokens: Resource::tokens(i) }).collect()
}

/// What all clients share.
struct World {
    began: Instant,
    http: reqwest::Client,
    token: String,
    /// Where the server is; empty while it is down.
    url: watch::Receiver<String>,
    acknowledged: AtomicU64,
    writing: AtomicBool,
    ending: AtomicBool,
    operations: Mutex<Vec<Operation>>,
    /// Newest versions that a client saw, for conditional writes.
    versions: Mutex<HashMap<(&'static str, String), u64>>,
}

impl World {
    fn now(&self) -> Time {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    /// The server's address, as soon as it is up.
    async fn up(&self) -> String {
        let mut url = self.url.clone();
        let up = url.wait_for(|url| !url.is_empty()).await;
        up.map(|url| url.clone()).unwrap_or_default()
    }

    async fn send(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let url = self.up().await;
        let mut request = self.http.request(method.parse().unwrap(), format!("{url}{path}")).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", kind).body(body.to_string());
        }
        let response = request.timeout(PATIENCE).send().await.ok()?;
        let code = response.status().as_u16();
        let text = response.bytes().await.ok()?;
        Some((code, serde_json::from_slice(&text).ok()?))
    }

    /// Makes one request and writes down how it went.
    async fn operate(&self, resource: &'static Resource, name: &str, action: Action, token: &str) {
        let path = format!("{}/{name}", resource.path);
        let object = resource.object(name, token);
        let merge = "application/merge-patch+json";
        self.up().await;
        let invoked = self.now();
        let answer = match action {
            Action::Create => self.send("POST", resource.path, "application/json", Some(&object)).await,
            Action::Update { expected } => {
                let mut object = object;
                object["metadata"]["resourceVersion"] = expected.to_string().into();
                self.send("PUT", &path, "application/json", Some(&object)).await
            }
            Action::Patch => {
                let mut patch = object;
                patch.as_object_mut().unwrap().retain(|field, _| field == "data" || field == "spec");
                self.send("PATCH", &path, merge, Some(&patch)).await
            }
            Action::Status => {
                let patch = json!({"status": {"w": token}});
                self.send("PATCH", &format!("{path}/status"), merge, Some(&patch)).await
            }
            Action::Apply => {
                let path = format!("{path}?fieldManager=m&force=true");
                self.send("PATCH", &path, "application/apply-patch+yaml", Some(&object)).await
            }
            Action::Delete => self.send("DELETE", &path, "application/json", None).await,
            Action::Get => self.send("GET", &path, "", None).await,
            Action::List => self.send("GET", resource.path, "", None).await,
        };
        let returned = self.now();
        let outcome = outcome(action, answer);
        if let Outcome::Written { revision } | Outcome::Found { revision, .. } = &outcome {
            self.versions.lock().unwrap().insert((resource.name, name.to_string()), *revision);
        }
        if matches!(outcome, Outcome::Written { .. } | Outcome::Deleted { .. }) {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        let name = if action == Action::List { String::new() } else { name.to_string() };
        let token = token.to_string();
        let done = Operation { resource: resource.name, name, action, token, invoked, returned, outcome };
        self.operations.lock().unwrap().push(done);
    }
}

fn outcome(action: Action, answer: Option<(u16, Value)>) -> Outcome {
    match (action, answer) {
        (_, None) => Outcome::Unknown,
        (Action::Get, Some((200, found))) => {
            Outcome::Found { revision: revision(&found), tokens: Resource::tokens(&found) }
        }
        (Action::Get, Some((404, _))) => Outcome::Absent,
        (Action::List, Some((200, list))) => Outcome::Listed { revision: revision(&list), items: items(&list) },
        (Action::Delete, Some((200, status))) => {
            Outcome::Deleted { uid: status["details"]["uid"].as_str().unwrap_or_default().to_string() }
        }
        (Action::Get | Action::List, Some(_)) => Outcome::Unknown,
        (_, Some((200 | 201, made))) => Outcome::Written { revision: revision(&made) },
        (_, Some((400..=499, _))) => Outcome::Refused,
        (_, Some(_)) => Outcome::Unknown,
    }
}

async fn writer(world: Arc<World>, number: u64, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed + number);
    for count in 0_u64.. {
        if !world.writing.load(Ordering::Relaxed) {
            return;
        }
        let resource = RESOURCES.choose(&mut rng).unwrap();
        let name = format!("o-{}", rng.random_range(0..6));
        let version = world.versions.lock().unwrap().get(&(resource.name, name.clone())).copied();
        let action = match rng.random_range(0..100) {
            0..20 => Action::Create,
            20..40 if version.is_some() => Action::Update { expected: version.unwrap_or(0) },
            40..52 => Action::Patch,
            52..60 if resource.status => Action::Status,
            60..70 => Action::Apply,
            70..80 => Action::Delete,
            80..96 => Action::Get,
            _ => Action::List,
        };
        let writes = !matches!(action, Action::Get | Action::List | Action::Delete);
        let token = if writes { format!("{number}.{count}") } else { String::new() };
        world.operate(resource, &name, action, &token).await;
    }
}

/// A watcher and how far it has come.
struct Watcher {
    resource: &'static Resource,
    seen: Mutex<Vec<Seen>>,
    at: AtomicU64,
    /// Stays away now and then until the server was killed a few times more.
    lazy: bool,
}

impl Watcher {
    fn saw(&self, seen: Seen, at: u64) {
        self.seen.lock().unwrap().push(seen);
        self.at.store(at, Ordering::Relaxed);
    }

    async fn list(&self, world: &World) -> Option<u64> {
        let (code, list) = world.send("GET", self.resource.path, "", None).await?;
        if code != 200 {
            return None;
        }
        let at = revision(&list);
        self.saw(Seen::Listed { revision: at, items: items(&list) }, at);
        Some(at)
    }

    async fn run(self: Arc<Self>, world: Arc<World>, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut from = None;
        while !world.ending.load(Ordering::Relaxed) {
            from = match from {
                None => self.list(&world).await,
                Some(from) => self.follow(&world, from).await,
            };
            if self.lazy && world.writing.load(Ordering::Relaxed) && rng.random_bool(0.3) {
                let mut url = world.url.clone();
                for _ in 0..rng.random_range(1..12) {
                    if url.changed().await.is_err() || !world.writing.load(Ordering::Relaxed) {
                        break;
                    }
                }
            }
        }
    }

    /// Watches until the connection ends; returns where to go on, nothing after 410.
    async fn follow(&self, world: &World, mut from: u64) -> Option<u64> {
        let url = world.up().await;
        let path = self.resource.path;
        let path = format!("{url}{path}?watch=true&allowWatchBookmarks=true&resourceVersion={from}");
        let Ok(mut response) = world.http.get(path).bearer_auth(&world.token).send().await else { return Some(from) };
        let mut buffer = Vec::new();
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk,
                () = ended(world) => return Some(from),
            };
            let Ok(Some(chunk)) = chunk else { return Some(from) };
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let Ok(event) = serde_json::from_slice::<Value>(&line) else { return Some(from) };
                let object = &event["object"];
                let kind = match event["type"].as_str() {
                    Some("ADDED") => Kind::Added,
                    Some("MODIFIED") => Kind::Modified,
                    Some("DELETED") => Kind::Deleted,
                    Some("BOOKMARK") => {
                        from = revision(object);
                        self.saw(Seen::Bookmark(from), from);
                        continue;
                    }
                    _ if object["code"] == 410 => {
                        self.saw(Seen::Gone, 0);
                        return None;
                    }
                    _ => panic!("a watch of {} shows {event}", self.resource.name),
                };
                if ours(object) {
                    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_string();
                    let (revision, tokens) = (revision(object), Resource::tokens(object));
                    let event = Event { kind, revision, name: name(object), uid, tokens };
                    from = revision;
                    self.saw(Seen::Event(event, world.now()), from);
                }
            }
        }
    }
}

async fn ended(world: &World) {
    let mut url = world.url.clone();
    while !world.ending.load(Ordering::Relaxed) {
        // the address changes once more at the end
        if url.changed().await.is_err() {
            return;
        }
    }
}

async fn wait(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::task::yield_now().await;
    }
}

/// Runs the campaign in a directory of its own and returns all that clients saw.
async fn run(kills: u64, seed: u64) -> History {
    let folder = tempfile::Builder::new().prefix("apiserver-durability-").tempdir().unwrap();
    let dir: PathBuf = folder.path().to_path_buf();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut child = Child::start(&dir).await;
    let (publish, url) = watch::channel(child.url.clone());
    let world = Arc::new(World {
        began: Instant::now(),
        http: crate::http_client_for(&std::fs::read_to_string(dir.join("ca.crt")).unwrap()),
        token: std::fs::read_to_string(dir.join("admin.token")).unwrap(),
        url,
        acknowledged: AtomicU64::new(0),
        writing: AtomicBool::new(true),
        ending: AtomicBool::new(false),
        operations: Mutex::default(),
        versions: Mutex::default(),
    });
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(world.send("POST", definitions, "application/json", Some(&definition())).await.unwrap().0, 201);
    let mut watchers = Vec::new();
    for resource in &RESOURCES {
        for lazy in [false, true] {
            let (seen, at) = (Mutex::default(), AtomicU64::new(0));
            watchers.push(Arc::new(Watcher { resource, seen, at, lazy }));
        }
    }
    let follow = |n: usize, w: &Arc<Watcher>| tokio::spawn(w.clone().run(world.clone(), seed + 100 + n as u64));
    let following: Vec<_> = watchers.iter().enumerate().map(|(n, w)| follow(n, w)).collect();
    wait("every watcher has a list", || watchers.iter().all(|w| !w.seen.lock().unwrap().is_empty())).await;
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(writer(world.clone(), n, seed))).collect();
    for kill in 1..=kills {
        let wanted = world.acknowledged.load(Ordering::Relaxed) + rng.random_range(1..120);
        wait("writes are acknowledged", || world.acknowledged.load(Ordering::Relaxed) >= wanted).await;
        child.process.start_kill().unwrap();
        publish.send_replace(String::new());
        child.process.wait().await.unwrap();
        child = Child::start(&dir).await;
        publish.send_replace(child.url.clone());
        if kill % 100 == 0 {
            println!(
                "{kill} kills, {} writes, {:?}",
                world.acknowledged.load(Ordering::Relaxed),
                world.began.elapsed()
            );
        }
    }
    world.writing.store(false, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    // a last write of each resource that every watcher has to see
    for resource in &RESOURCES {
        world.operate(resource, "o-last", Action::Create, &format!("last.{}", resource.name)).await;
    }
    publish.send_replace(child.url.clone());
    let newest = |r: &'static str| world.versions.lock().unwrap().get(&(r, "o-last".to_string())).copied().unwrap();
    let targets: HashMap<&str, u64> = RESOURCES.iter().map(|r| (r.name, newest(r.name))).collect();
    wait("every watcher sees the last write", || {
        watchers.iter().all(|w| w.at.load(Ordering::Relaxed) >= targets[w.resource.name])
    })
    .await;
    world.ending.store(true, Ordering::Relaxed);
    publish.send_replace(child.url.clone());
    for watcher in following {
        watcher.await.unwrap();
    }
    child.process.start_kill().unwrap();
    child.process.wait().await.unwrap();
    let operations = std::mem::take(&mut *world.operations.lock().unwrap());
    let seen = |w: &Arc<Watcher>| Watch { resource: w.resource.name, seen: w.seen.lock().unwrap().clone() };
    History { operations, watches: watchers.iter().map(seen).collect() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_server_is_killed() {
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse::<u64>().unwrap());
    let (kills, seed) = (number("DURABILITY_KILLS", 12), number("DURABILITY_SEED", 1));
    let began = Instant::now();
    let history = run(kills, seed).await;
    let (violations, counts) = check(&history);
    println!("{kills} kills in {:?}: {counts:?}, {} violations", began.elapsed(), violations.len());
    let shown: Vec<String> = violations.iter().take(10).map(|v| format!("{v:?}")).collect();
    assert!(violations.is_empty(), "{} violations, such as\n{}", violations.len(), shown.join("\n"));
    assert!(counts.acknowledged as u64 >= kills && counts.reads > 0 && counts.events > 0, "{counts:?}");
}
