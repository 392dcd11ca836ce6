//! A collector's end of a store.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use crate::validate::Validation;
use crate::{Action, Ask, Draft, Rules, Store, fresh};

/// A collector's end of a store; one per store. Cloning shares it.
#[derive(Clone)]
pub struct Writer {
    store: Arc<Store>,
    validation: Option<Arc<Validation>>,
}

impl Writer {
    /// Returns a writer whose VMs are validated by the rules, when there are any.
    pub fn new(store: Arc<Store>, rules: Option<Arc<dyn Rules>>) -> Self {
        Self { store, validation: rules.map(Validation::new) }
    }

    pub(crate) fn shared(store: Arc<Store>, validation: Option<Arc<Validation>>) -> Self {
        Self { store, validation }
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns the provider's UID, for links.
    pub fn provider_uid(&self) -> &str {
        self.store.provider_uid()
    }

    /// Adds or changes a record. A draft that says nothing new changes nothing.
    ///
    /// Kinds that are not in the provider's table are refused with a log line.
    pub fn upsert(&self, kind: &str, draft: Draft) {
        if let Some(spec) = self.store.spec().kind(kind) {
            self.apply(vec![Action::Upsert(spec.name, draft)]);
        } else {
            unknown(kind);
        }
    }

    /// Removes a record; returns whether it was there.
    pub fn delete(&self, kind: &str, id: &str) -> bool {
        let Some(spec) = self.store.spec().kind(kind) else { return false };
        let there = self.store.get(spec.name, id).is_some();
        self.apply(vec![Action::Delete(spec.name, id.to_owned())]);
        there
    }

    /// Takes actions in order and in one step: readers see all of them or none.
    /// Changed VMs are given to the rules, which work on their own.
    pub fn apply(&self, actions: Vec<Action>) {
        let mut known = Vec::with_capacity(actions.len());
        for action in actions {
            let (kind, draft, id) = match action {
                Action::Upsert(kind, draft) => (kind, Some(draft), String::new()),
                Action::Delete(kind, id) => (kind, None, id),
            };
            match self.store.spec().kind(kind) {
                Some(spec) => known.push((spec, draft, id)),
                None => unknown(kind),
            }
        }
        let Some(validation) = &self.validation else {
            self.store.apply(known);
            return;
        };
        // counted before they can be read, so that nobody takes them for judged
        let most = known.iter().filter(|(kind, draft, _)| kind.validated && draft.is_some()).count();
        self.store.wait_for_rules(most);
        let fresh = self.store.apply(known);
        let fresh = fresh.into_iter().filter(|(kind, _)| kind.validated);
        let fresh: Vec<_> = fresh.map(|(kind, record)| (kind.name, record.id.clone())).collect();
        self.store.seen_by_rules(most - fresh.len());
        validation.submit(&self.store, fresh);
    }

    /// Makes a collection equal to the drafts: what is not among them goes.
    pub fn replace(&self, kind: &str, drafts: Vec<Draft>) {
        let Some(spec) = self.store.spec().kind(kind) else {
            unknown(kind);
            return;
        };
        let kept: HashSet<String> = drafts.iter().map(|d| d.id.clone()).collect();
        let mut actions: Vec<Action> = drafts.into_iter().map(|draft| Action::Upsert(spec.name, draft)).collect();
        let listed = self.store.list(spec.name);
        let gone = listed.iter().filter(|record| !kept.contains(&*record.id));
        actions.extend(gone.map(|record| Action::Delete(spec.name, record.id.to_string())));
        self.apply(actions);
    }

    /// Begins to read the source anew: at the next [`Writer::loaded`] everything is
    /// removed that was not written since. Until then it stays readable.
    pub fn begin(&self) {
        self.store.begin_pass();
    }

    /// Says that the store holds what the source holds. A later failure does not
    /// take that back: what is known stays readable.
    ///
    /// VMs that these rules have not seen as they are (kept from the last run,
    /// or not judged because the rules failed) are judged now.
    pub fn loaded(&self) {
        self.store.end_pass();
        if let Some(validation) = &self.validation {
            validation.sweep(&self.store);
        }
    }

    /// Notes why the source could not be read.
    pub fn failed(&self, reason: &str) {
        self.store.note_failure(reason);
    }

    /// Returns what the collector is asked to read at once, from now on; whoever took them before gets no more.
    pub fn asks(&self) -> mpsc::UnboundedReceiver<Ask> {
        let (sender, receiver) = fresh::channel();
        self.store.set_asks(sender);
        receiver
    }

    /// Tells facts about the provider itself, as `product`; keys as in the provider's `blanks`.
    pub fn facts(&self, facts: Vec<(&str, Value)>) {
        self.store.set_facts(facts);
    }

    /// Has records judged again whose surroundings changed (their host or cluster).
    /// Their revision stays; the last result stays visible until then.
    pub fn revalidate(&self, kind: &str, ids: &[String]) {
        if let (Some(spec), Some(validation)) = (self.store.spec().kind(kind), &self.validation) {
            self.store.wait_for_rules(ids.len());
            let records = self.store.unstamp(spec.name, ids);
            self.store.seen_by_rules(ids.len() - records.len());
            validation.submit(&self.store, records.iter().map(|record| (spec.name, record.id.clone())).collect());
        }
    }
}

fn unknown(kind: &str) {
    tracing::error!(kind, "the provider's table has no such collection");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::{Change, Field, Json, KindSpec, ProviderSpec};

    static SPEC: ProviderSpec = ProviderSpec {
        provider_type: "test",
        kinds: &[
            KindSpec { name: "vms", validated: true, base: &Field::all(["id", "name"]), ..KindSpec::PLAIN },
            KindSpec { name: "networks", ..KindSpec::PLAIN },
        ],
        workloads: Some("vms"),
        ..ProviderSpec::PLAIN
    };

    struct Named;
    impl Rules for Named {
        fn version(&self, _: &str) -> i64 {
            7
        }
        fn concerns(&self, _: &str, workload: &Value) -> Result<Vec<Value>, String> {
            match workload["name"].as_str() {
                Some("bad") => Err("no".to_owned()),
                name => Ok(vec![json!({"id": name})]),
            }
        }
    }

    fn draft(id: &str, name: &str) -> Draft {
        let json = json!({"id": id, "name": name, "revisionValidated": 0, "policyVersion": 0, "concerns": []});
        Draft::new(id, name, "", Json(json))
    }

    fn writer() -> Writer {
        Writer::new(Arc::new(Store::new(&SPEC, "uid")), Some(Arc::new(Named)))
    }

    async fn judged(writer: &Writer, id: &str) -> Arc<crate::Record> {
        writer.store().settled("vms", id, Duration::from_secs(20)).await.expect("stored")
    }

    #[tokio::test]
    async fn a_change_raises_the_revision_and_validation_does_not() {
        let writer = writer();
        writer.upsert("vms", draft("1", "a"));
        writer.upsert("vms", draft("1", "a"));
        let record = judged(&writer, "1").await;
        assert_eq!((record.revision, record.is_validated(7)), (1, true));
        assert_eq!(*record.verdict.concerns, [json!({"id": "a"})]);
        let shown = writer.store().view("vms").expect("a collection").value(&record, 9);
        assert_eq!(
            shown,
            json!({"id": "1", "name": "a", "revisionValidated": 1, "policyVersion": 7, "concerns": [{"id": "a"}]})
        );

        writer.upsert("vms", draft("1", "bad"));
        let record = judged(&writer, "1").await;
        assert_eq!((record.revision, record.is_validated(7)), (2, false));
        assert_eq!(*record.verdict.concerns, [json!({"id": "a"})], "the last result stays visible");
    }

    #[tokio::test]
    async fn records_are_judged_again_when_their_surroundings_changed() {
        let writer = writer();
        writer.upsert("vms", draft("1", "a"));
        judged(&writer, "1").await;
        let (_, mut events) = writer.store().watch("vms");
        writer.revalidate("vms", &["1".to_owned(), "unknown".to_owned()]);
        let record = judged(&writer, "1").await;
        assert_eq!((record.revision, record.is_validated(7)), (1, true));
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            seen.push((event.validation, event.change.record().verdict.revision));
        }
        assert_eq!(seen, [(true, 0), (true, 1)]);
    }

    #[test]
    fn equal_concerns_are_kept_once() {
        let store = Store::new(&SPEC, "uid");
        let (one, two) = (store.shared_concerns(vec![json!({"id": 1})]), store.shared_concerns(vec![json!({"id": 1})]));
        assert!(Arc::ptr_eq(&one, &two));
        assert_ne!(*store.shared_concerns(vec![json!({"id": 2})]), *one);
    }

    fn ids(writer: &Writer, kind: &str) -> Vec<String> {
        writer.store().list(kind).iter().map(|r| r.id.to_string()).collect()
    }

    #[test]
    fn replacing_a_collection_removes_what_is_gone() {
        let writer = writer();
        writer.replace("networks", vec![draft("1", "a"), draft("2", "b")]);
        writer.replace("networks", vec![draft("2", "b"), draft("3", "c")]);
        assert_eq!(ids(&writer, "networks"), ["2", "3"]);
    }

    #[test]
    fn a_new_pass_removes_what_it_did_not_find_again() {
        let writer = writer();
        writer.apply(vec![
            Action::Upsert("networks", draft("1", "a")),
            Action::Upsert("networks", draft("2", "b")),
            Action::Upsert("networks", draft("3", "c")),
        ]);
        writer.loaded();
        writer.begin();
        // the same, changed, and gone
        writer.upsert("networks", draft("1", "a"));
        writer.upsert("networks", draft("2", "bb"));
        assert_eq!(ids(&writer, "networks"), ["1", "2", "3"], "readable until the pass is over");
        writer.loaded();
        assert_eq!(ids(&writer, "networks"), ["1", "2"]);
        // without a new pass nothing is swept
        writer.loaded();
        assert_eq!(ids(&writer, "networks"), ["1", "2"]);
    }

    #[test]
    fn a_watcher_gets_the_records_and_then_each_change_once() {
        let writer = writer();
        writer.upsert("networks", draft("1", "a"));
        let (records, mut events) = writer.store().watch("networks");
        assert_eq!(records.len(), 1);
        writer.upsert("networks", draft("1", "b"));
        writer.upsert("networks", draft("1", "b"));
        writer.delete("networks", "1");
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            seen.push(match event.change {
                Change::Created(r) => format!("created {}", r.name),
                Change::Updated(old, new) => format!("updated {} {}", old.name, new.name),
                Change::Deleted(r) => format!("deleted {}", r.name),
            });
        }
        assert_eq!(seen, ["updated a b", "deleted b"]);
    }
}
