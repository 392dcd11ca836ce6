//! What changed in a store, for those who made something of its records and have to look again.
//!
//! ```text
//! Store ── each change ──► Feed ── what changed within a moment, once ──► who looks again
//! ```
//! A feed costs nothing while nothing changes, and one [`News`] a moment while everything does.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::{Change, Event, Record};

/// How long changes are gathered after the first one: a change of a VM and what the rules find about it come together.
const MOMENT: Duration = Duration::from_millis(500);

/// What changed in a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// The ids of what came, changed or went.
    pub ids: HashSet<Arc<str>>,
    /// Their names, the old ones too.
    pub names: HashSet<Arc<str>>,
    /// Something came, went, or bears another name or path: references may lead elsewhere.
    pub identities: bool,
}

/// What changed in a store within a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// More happened than could be told: anything may have changed.
    pub all: bool,
    /// What changed, by collection.
    pub kinds: HashMap<&'static str, Touched>,
}

impl News {
    /// Returns whether references to things of a collection may lead elsewhere now.
    pub fn renames(&self, kind: &str) -> bool {
        self.all || self.kinds.get(kind).is_some_and(|touched| touched.identities)
    }

    fn add(&mut self, event: &Event) {
        // the rules have seen it, and found what they had found before
        if let (true, Change::Updated(old, new)) = (event.validation, &event.change)
            && old.verdict.concerns == new.verdict.concerns
        {
            return;
        }
        let touched = self.kinds.entry(event.kind).or_default();
        let mut name = |record: &Record| {
            touched.ids.insert(record.id.clone());
            touched.names.insert(record.name.clone());
        };
        match &event.change {
            Change::Created(record) | Change::Deleted(record) => {
                name(record);
                touched.identities = true;
            }
            Change::Updated(old, new) => {
                name(old);
                name(new);
                touched.identities |= old.name != new.name || old.path != new.path;
            }
        }
    }

    fn take(&mut self, received: Result<Event, RecvError>) -> bool {
        match received {
            Ok(event) => self.add(&event),
            Err(RecvError::Lagged(_)) => self.all = true,
            Err(RecvError::Closed) => return false,
        }
        true
    }

    fn is_empty(&self) -> bool {
        !self.all && self.kinds.is_empty()
    }
}

/// The changes of a store from a moment on.
pub struct Feed {
    events: broadcast::Receiver<Event>,
}

impl Feed {
    pub(crate) fn new(events: broadcast::Receiver<Event>) -> Self {
        Self { events }
    }

    /// Waits for changes and returns those of a moment; `None` when the store is gone. What came before a call that is
    /// dropped may be lost with it.
    pub async fn next(&mut self) -> Option<News> {
        let mut news = News::default();
        while news.is_empty() {
            if !news.take(self.events.recv().await) {
                return None;
            }
        }
        let moment = tokio::time::sleep(MOMENT);
        tokio::pin!(moment);
        loop {
            tokio::select! {
                biased;
                () = &mut moment => return Some(news),
                received = self.events.recv() => if !news.take(received) {
                    return Some(news);
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{Draft, Json, KindSpec, ProviderSpec, Rules, Store, Writer};

    static SPEC: ProviderSpec = ProviderSpec {
        provider_type: "test",
        kinds: &[
            KindSpec { name: "vms", validated: true, ..KindSpec::PLAIN },
            KindSpec { name: "networks", ..KindSpec::PLAIN },
        ],
        workloads: Some("vms"),
        ..ProviderSpec::PLAIN
    };

    /// Finds the same in each machine but in those that grew.
    struct Size;
    impl Rules for Size {
        fn version(&self, _: &str) -> i64 {
            1
        }
        fn concerns(&self, _: &str, workload: &Value) -> Result<Vec<Value>, String> {
            Ok((workload["size"].as_i64() > Some(9)).then(|| json!({"id": "large"})).into_iter().collect())
        }
    }

    fn draft(id: &str, name: &str, size: i64) -> Draft {
        Draft::new(id, name, "", Json(json!({"id": id, "name": name, "size": size})))
    }

    fn sorted(names: &HashSet<Arc<str>>) -> Vec<&str> {
        let mut names: Vec<&str> = names.iter().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn changes_of_a_moment_come_once() {
        let writer = Writer::new(Arc::new(Store::new(&SPEC, "uid")), None);
        writer.upsert("vms", draft("1", "web", 1));
        let mut feed = writer.store().feed();
        writer.upsert("vms", draft("1", "web", 2));
        writer.upsert("vms", draft("1", "www", 3));
        writer.upsert("vms", draft("2", "db", 1));
        writer.upsert("networks", draft("9", "lan", 1));
        let news = feed.next().await.expect("the store is there");
        assert_eq!(sorted(&news.kinds["vms"].ids), ["1", "2"]);
        assert_eq!(sorted(&news.kinds["vms"].names), ["db", "web", "www"]);
        assert!(news.renames("networks") && news.renames("vms") && !news.renames("disks") && !news.all);

        writer.upsert("networks", draft("9", "lan", 2));
        let news = feed.next().await.expect("the store is there");
        assert_eq!(sorted(&news.kinds["networks"].ids), ["9"]);
        assert!(!news.renames("networks") && !news.kinds.contains_key("vms"));
    }

    #[tokio::test]
    async fn what_the_rules_find_is_a_change_and_that_they_looked_is_none() {
        let store = Arc::new(Store::new(&SPEC, "uid"));
        let writer = Writer::new(store.clone(), Some(Arc::new(Size)));
        writer.upsert("vms", draft("1", "web", 1));
        store.settled("vms", "1", Duration::from_secs(20)).await;
        let mut feed = store.feed();
        // judged again, with the same result
        writer.revalidate("vms", &["1".to_owned()]);
        store.settled("vms", "1", Duration::from_secs(20)).await;
        writer.upsert("networks", draft("9", "lan", 1));
        let news = feed.next().await.expect("the store is there");
        assert_eq!(news.kinds.keys().copied().collect::<Vec<_>>(), ["networks"]);
        writer.upsert("vms", draft("1", "web", 10));
        store.settled("vms", "1", Duration::from_secs(20)).await;
        assert!(feed.next().await.expect("the store is there").kinds.contains_key("vms"));
    }

    #[tokio::test]
    async fn who_is_too_slow_looks_at_everything_and_the_end_is_told() {
        let writer = Writer::new(Arc::new(Store::new(&SPEC, "uid")), None);
        let mut feed = writer.store().feed();
        for size in 0..40_000 {
            writer.upsert("vms", draft("1", "web", size));
        }
        assert!(feed.next().await.expect("the store is there").all);
        drop(writer);
        // what was left is told, then the end
        while feed.next().await.is_some() {}
    }
}
