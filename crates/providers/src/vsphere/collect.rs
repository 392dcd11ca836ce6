//! Keeps the inventory equal to the vCenter.
//!
//! ```text
//! connect ─► Watch ─► full set ─► World ─► Writer: begin … apply, loaded
//!   ▲          │ ◄──── changes ─► World ─► Writer: apply, revalidate
//!   │          │ ◄──── somebody asks for VMs: read at once ─► World ─► Writer ─► answer
//!   │          │ the server is busy: noted, the same watch goes on after a while
//!   └──────────┘ any other failure: a new watch, and a full set that makes up for what was missed and removes
//!                what is gone
//! ```

use std::time::Duration;

use async_trait::async_trait;
use forklift_inventory::{Ask, Look, Refresh, Writer};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::model::Host;
use super::properties;
use super::tagging::{self, News};
use super::vim::{Client, FilterSpec, MoRef, ObjectUpdate, UpdateKind, UpdateSet, VimError, Watch};
use super::world::{Reread, World};
use crate::{Collector, ConnectError};

/// How long the server may hold a question for changes.
const WAIT: Duration = Duration::from_secs(60);
/// The first and the longest pause after a failure; each is twice the one before.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long the server may take to take the watch down.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long the server may take for VMs that somebody waits for.
const AT_ONCE: Duration = Duration::from_secs(15);
/// How many of them are asked for at a time.
const TOGETHER: usize = 100;
/// The type of VMs.
const VM: &str = "VirtualMachine";

/// Gives the session, logged in.
pub type Connect = Box<dyn Fn() -> BoxFuture<'static, Result<Client, VimError>> + Send + Sync>;

/// The collector of a vSphere provider.
pub struct Collect {
    connect: Connect,
}

/// Why following the vCenter ended.
enum Ended {
    Cancelled,
    /// Nothing arrived.
    Failed(VimError),
    /// Something arrived and was taken in part only: a full set has to make up for the rest.
    Behind(VimError),
}

impl Collect {
    /// Returns a collector over a session; the session stays open when the collector ends.
    pub fn new(connect: Connect) -> Self {
        Self { connect }
    }
}

#[async_trait]
impl Collector for Collect {
    async fn run(self: Box<Self>, store: Writer, cancel: CancellationToken) -> Result<(), ConnectError> {
        let (world, asks) = (World::restored(store.store()), store.asks());
        let mut follower = Follower { world, store, asks, cancel, failures: 0, told: false, early: None };
        loop {
            match follower.follow(&self.connect).await {
                Ended::Cancelled => return Ok(()),
                Ended::Failed(error @ VimError::InvalidLogin(_)) | Ended::Behind(error @ VimError::InvalidLogin(_)) => {
                    return Err(ConnectError::Auth(error.to_string()));
                }
                Ended::Failed(error) | Ended::Behind(error) => {
                    if follower.pause(&error).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}

struct Follower {
    world: World,
    store: Writer,
    /// Those who want VMs read at once.
    asks: mpsc::UnboundedReceiver<Ask>,
    cancel: CancellationToken,
    /// Failures since the last success.
    failures: u32,
    /// A full set was told since tags are read.
    told: bool,
    /// Tags that came before the full set was complete.
    early: Option<News>,
}

impl Follower {
    /// Follows the vCenter until that fails or is cancelled.
    async fn follow(&mut self, connect: &Connect) -> Ended {
        let cancel = self.cancel.clone();
        let begun = tokio::select! {
            () = cancel.cancelled() => return Ended::Cancelled,
            begun = begin(connect) => begun,
        };
        let (client, mut watch) = match begun {
            Ok(begun) => begun,
            Err(error) => return Ended::Failed(error),
        };
        let about = client.about();
        let text = |value: &str| Value::from(value);
        self.store.facts(vec![
            ("apiVersion", text(&about.api_version)),
            ("product", text(&about.license_product)),
            ("instanceUuid", text(&about.instance_uuid)),
        ]);
        let ended = loop {
            match self.watch(&client, &mut watch).await {
                Ended::Failed(error) if goes_on(&error) => {
                    if self.pause(&error).await.is_err() {
                        break Ended::Cancelled;
                    }
                }
                ended => break ended,
            }
        };
        if tokio::time::timeout(FAREWELL, watch.close()).await.is_err() {
            tracing::debug!(provider = self.store.provider_uid(), "the watch was not taken down in time");
        }
        ended
    }

    async fn watch(&mut self, client: &Client, watch: &mut Watch) -> Ended {
        let cancel = self.cancel.clone();
        let mut tagging = tagging::start(client);
        let paths = watch.paths(VM);
        self.told = self.world.is_complete();
        loop {
            // polled to its end, whatever comes in between: an answer that is dropped would have to be told again
            let mut next = Box::pin(watch.next(WAIT));
            let set = loop {
                tokio::select! {
                    () = cancel.cancelled() => return Ended::Cancelled,
                    Some(news) = tagging.news.recv() => self.tag(news),
                    Some(ask) = self.asks.recv() => match ask {
                        Ask::Refresh(refresh) => self.refresh(client, &paths, refresh).await,
                        Ask::Look(look) => self.look(client, look),
                    },
                    set = &mut next => break set,
                }
            };
            drop(next);
            match set {
                Ok(Some(set)) => {
                    if let Err(error) = self.take(client, set, &tagging.questions).await {
                        return Ended::Behind(error);
                    }
                }
                Ok(None) => {}
                Err(error) => return Ended::Failed(error),
            }
            self.failures = 0;
            if self.store.store().has_parity() && self.store.store().failure().is_some() {
                self.store.loaded();
            }
        }
    }

    /// Takes a set; tells the store when it is complete.
    async fn take(
        &mut self,
        client: &Client,
        set: UpdateSet,
        tags: &mpsc::UnboundedSender<Vec<MoRef>>,
    ) -> Result<(), VimError> {
        if set.first {
            self.world.begin();
            self.store.begin();
        }
        // a full set names all VMs: those that are new have no tags yet
        let mut entered = Vec::new();
        for update in &set.objects {
            let is_vm = update.kind == UpdateKind::Enter && update.object.kind == VM;
            if is_vm && self.store.store().get(super::spec::kinds::VMS, &update.object.value).is_none() {
                entered.push(update.object.clone());
            }
            for reread in self.world.apply(update) {
                self.reread(client, reread).await?;
            }
        }
        if self.told && !entered.is_empty() {
            // the receiver lives as long as this session's tagging; without it there are no tags to be had
            let _ = tags.send(entered);
        }
        if set.truncated {
            return Ok(());
        }
        if set.full {
            self.world.end();
        }
        if let Some(news) = self.early.take() {
            self.world.set_tags(news.of.as_deref(), &news.tags);
        }
        self.tell();
        if set.full {
            self.told = true;
            self.store.loaded();
        }
        Ok(())
    }

    fn tell(&mut self) {
        let changes = self.world.changes();
        if !changes.actions.is_empty() {
            self.store.apply(changes.actions);
        }
        if !changes.stale.is_empty() {
            self.store.revalidate(super::spec::kinds::VMS, &changes.stale);
        }
    }

    fn tag(&mut self, news: News) {
        if self.world.is_complete() {
            self.world.set_tags(news.of.as_deref(), &news.tags);
            self.tell();
        } else {
            // not all VMs are known yet: the tags wait for the last of them
            self.early = Some(news);
        }
    }

    /// Reads VMs that somebody is about to act on. What the watch tells later is newer, or the same again: at worst a
    /// value is seen going back for a moment, when the watch had it under way.
    async fn refresh(&mut self, client: &Client, paths: &[String], ask: Refresh) {
        if !self.world.is_complete() {
            return ask.answer(Err("the inventory is being read".to_owned()));
        }
        let mut read = Ok(());
        // a large plan takes its time; what counts is that the server goes on answering
        for ids in ask.ids.chunks(TOGETHER) {
            let answered = tokio::time::timeout(AT_ONCE, self.read(client, paths, ids)).await;
            read = answered.unwrap_or_else(|_| Err(format!("no answer within {} s", AT_ONCE.as_secs())));
            if read.is_err() {
                break;
            }
        }
        self.tell();
        ask.answer(read);
    }

    async fn read(&mut self, client: &Client, paths: &[String], ids: &[String]) -> Result<(), String> {
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mut wanted: Vec<MoRef> = ids.iter().map(|id| MoRef::vm(id.as_str())).collect();
        let found = loop {
            if wanted.is_empty() {
                return Ok(());
            }
            let filter = wanted.iter().fold(FilterSpec::of(VM, &paths), |filter, vm| filter.object(vm));
            match client.retrieve(filter).await {
                Ok(found) => break found,
                // one that is gone fails them all
                Err(error) => {
                    let gone = error.fault().filter(|fault| fault.kind == "ManagedObjectNotFound");
                    let gone = gone.and_then(|fault| fault.detail.moref("obj")).filter(|gone| wanted.contains(gone));
                    let Some(gone) = gone else { return Err(error.to_string()) };
                    wanted.retain(|vm| *vm != gone);
                    let update =
                        ObjectUpdate { kind: UpdateKind::Leave, object: gone, changes: vec![], missing: vec![] };
                    self.world.apply(&update);
                }
            }
        };
        for content in found {
            let missing: Vec<String> = content.props.missing.iter().map(|(path, _)| path.clone()).collect();
            let told = paths.iter().filter(|path| !missing.iter().any(|missing| missing == *path));
            let changes = told.map(|path| ((*path).to_owned(), content.props.get(path).cloned())).collect();
            let update = ObjectUpdate { kind: UpdateKind::Modify, object: content.object, changes, missing };
            for reread in self.world.apply(&update) {
                self.reread(client, reread).await.map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Asks a host for one of its advanced options, beside everything else.
    fn look(&self, client: &Client, look: Look) {
        let store = self.store.store().clone();
        let client = client.clone();
        tokio::spawn(async move {
            let host = store.get(look.kind, &look.id);
            let manager = host.as_ref().and_then(|record| record.native::<Host>()).map(|host| &host.advanced_options);
            let manager = manager.filter(|manager| !manager.id.is_empty());
            let found = match manager.map(|manager| MoRef::new(manager.kind.to_string(), manager.id.to_string())) {
                None => Err("the host has no advanced options, or they cannot be seen".to_owned()),
                Some(manager) => {
                    let asked = tokio::time::timeout(AT_ONCE, client.option(&manager, &look.key)).await;
                    let shown = |value| json!([{"key": look.key, "value": value}]);
                    match asked {
                        Ok(Ok(value)) => Ok(value.map_or(Value::Null, shown)),
                        Ok(Err(error)) => Err(error.to_string()),
                        Err(_) => Err(format!("no answer within {} s", AT_ONCE.as_secs())),
                    }
                }
            };
            look.answer(found);
        });
    }

    async fn reread(&mut self, client: &Client, reread: Reread) -> Result<(), VimError> {
        let Reread { object, property } = reread;
        let props = match client.properties(&object, &[&property]).await {
            Ok(props) => props,
            // gone meanwhile: that is told next
            Err(error) if error.is_fault("ManagedObjectNotFound") => return Ok(()),
            Err(error) => return Err(error),
        };
        let changes = vec![(property.clone(), props.get(&property).cloned())];
        let update = ObjectUpdate { kind: UpdateKind::Modify, object, changes, missing: Vec::new() };
        self.world.apply(&update);
        Ok(())
    }

    /// Notes a failure and waits; `Err` when cancelled meanwhile.
    async fn pause(&mut self, error: &VimError) -> Result<(), Cancelled> {
        tracing::warn!(provider = self.store.provider_uid(), %error, "the inventory is not refreshed");
        self.store.failed(&error.to_string());
        let pause = PAUSE.0.saturating_mul(1 << self.failures.min(16)).min(PAUSE.1);
        self.failures = self.failures.saturating_add(1);
        let over = tokio::time::sleep(pause);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Cancelled),
                () = &mut over => return Ok(()),
                Some(ask) = self.asks.recv() => ask.refuse(error.to_string()),
            }
        }
    }
}

struct Cancelled;

/// Whether the same watch can go on: somebody answered that the question was not taken. Where no answer arrived, it
/// may have been lost on its way with what it told. Servers promise to tell it again to whoever asks for the same
/// version; a full set does not depend on that promise.
fn goes_on(error: &VimError) -> bool {
    matches!(error, VimError::Http { .. }) && error.is_transient()
}

async fn begin(connect: &Connect) -> Result<(Client, Watch), VimError> {
    let client = connect().await?;
    let mut paths = properties::paths(client.about());
    loop {
        let specs: Vec<(&str, &[&str])> = paths.iter().map(|(kind, paths)| (*kind, paths.as_slice())).collect();
        match Watch::new(&client, &specs).await {
            Ok(watch) => return Ok((client, watch)),
            // an old server: what it does not know is not there
            Err(error) => match error.fault().filter(|fault| fault.kind == "InvalidProperty") {
                Some(fault) if leave_out(&mut paths, fault.detail.text("name").unwrap_or_default()) => {
                    tracing::warn!(host = client.endpoint().host(), %error, "a property is left out");
                }
                _ => return Err(error),
            },
        }
    }
}

/// Takes a path out of all types, with those below it; returns whether there was one.
fn leave_out(paths: &mut [(&'static str, Vec<&'static str>)], path: &str) -> bool {
    let is_below = |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let mut found = false;
    for (_, known) in paths {
        let before = known.len();
        known.retain(|known| path.is_empty() || !is_below(known));
        found |= known.len() < before;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_old_server_does_not_know_is_left_out() {
        let mut paths =
            vec![("VirtualMachine", vec!["name", "config.keyId", "config.keyIdent"]), ("Folder", vec!["name"])];
        assert!(leave_out(&mut paths, "config.keyId"));
        assert_eq!(paths[0].1, ["name", "config.keyIdent"]);
        assert!(!leave_out(&mut paths, "config.keyId") && !leave_out(&mut paths, ""));
        assert!(leave_out(&mut paths, "config"));
        assert_eq!((paths[0].1.len(), paths[1].1.len()), (1, 1));
    }

    #[test]
    fn a_lost_connection_wants_a_full_set_and_a_busy_server_does_not() {
        let busy = VimError::Http { status: 503, url: "u".into(), message: String::new() };
        let lost = VimError::Unreachable { host: "h".into(), reason: "closed".into() };
        let refused = VimError::Http { status: 403, url: "u".into(), message: String::new() };
        assert_eq!([goes_on(&busy), goes_on(&lost), goes_on(&refused)], [true, false, false]);
    }
}
