//! Judging changed VMs: in threads of their own, so that no collector waits for the rules.
//!
//! ```text
//! Writer ─ submit ─► queue ─► worker threads: workload ─► Rules ─► Store::stamp (if unchanged meanwhile)
//! ```
//! A VM that changes while it waits is judged once, as it is then. Threads start
//! with the work and end after a while without.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{Record, Rules, Store, Verdict};

/// How many VMs a thread takes at a time; their results are written in one step.
const BATCH: usize = 16;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);

struct Job {
    store: Weak<Store>,
    kind: &'static str,
    id: Arc<str>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// The rules with their queue; one for all stores of an inventory.
pub(crate) struct Validation {
    rules: Arc<dyn Rules>,
    queue: Mutex<Queue>,
    more: Condvar,
    most: usize,
}

impl Validation {
    pub fn new(rules: Arc<dyn Rules>) -> Arc<Self> {
        let most = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        Arc::new(Self { rules, queue: Mutex::default(), more: Condvar::new(), most })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes records to judge; the caller has counted them with [`Store::wait_for_rules`]. Returns at once.
    pub fn submit(self: &Arc<Self>, store: &Arc<Store>, records: Vec<(&'static str, Arc<str>)>) {
        if records.is_empty() {
            return;
        }
        let mut queue = self.lock();
        let jobs = records.into_iter().map(|(kind, id)| Job { store: Arc::downgrade(store), kind, id });
        queue.jobs.extend(jobs);
        let wanted = queue.jobs.len().div_ceil(BATCH).min(self.most);
        while queue.threads < wanted.max(1) && queue.idle == 0 {
            let this = self.clone();
            let started = std::thread::Builder::new().name("validation".to_owned()).spawn(move || this.work());
            match started {
                Ok(_) => queue.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "cannot start a thread for the rules");
                    break;
                }
            }
        }
        self.more.notify_all();
    }

    /// Submits all records of a store that these rules have not seen as they are.
    pub fn sweep(self: &Arc<Self>, store: &Arc<Store>) {
        let version = self.rules.version(store.spec().provider_type);
        for kind in store.spec().kinds.iter().filter(|kind| kind.validated) {
            let records = store.list(kind.name);
            let stale = records.iter().filter(|record| !record.is_validated(version));
            let stale: Vec<_> = stale.map(|record| (kind.name, record.id.clone())).collect();
            store.wait_for_rules(stale.len());
            self.submit(store, stale);
        }
    }

    fn work(&self) {
        loop {
            let mut queue = self.lock();
            while queue.jobs.is_empty() {
                queue.idle += 1;
                let (woken, waited) = self.more.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
                queue = woken;
                queue.idle -= 1;
                if waited.timed_out() && queue.jobs.is_empty() {
                    queue.threads -= 1;
                    return;
                }
            }
            let count = queue.jobs.len().div_ceil(self.most).clamp(1, BATCH);
            let batch: Vec<Job> = queue.jobs.drain(..count).collect();
            drop(queue);
            self.judge_batch(&batch);
        }
    }

    fn judge_batch(&self, batch: &[Job]) {
        // neighbours in the queue mostly belong together
        for jobs in batch.chunk_by(|a, b| a.kind == b.kind && Weak::ptr_eq(&a.store, &b.store)) {
            let Some((store, kind)) = jobs.first().and_then(|job| Some((job.store.upgrade()?, job.kind))) else {
                continue;
            };
            let version = self.rules.version(store.spec().provider_type);
            let judged = jobs.iter().filter_map(|job| {
                let record = store.get(kind, &job.id).filter(|record| !record.is_validated(version))?;
                let verdict = self.judge(&store, &record, version)?;
                Some((record, verdict))
            });
            let judged: Vec<(Arc<Record>, Verdict)> = judged.collect();
            store.stamp(kind, judged);
            store.seen_by_rules(jobs.len());
        }
    }

    fn judge(&self, store: &Store, record: &Record, version: i64) -> Option<Verdict> {
        let workload = match store.workload(record) {
            Ok(workload) => workload,
            // a host that cannot be seen is told in the place where users look
            Err(error) => return Some(self.verdict(store, record, version, vec![unreadable(&error)])),
        };
        let provider_type = store.spec().provider_type;
        // rules that users wrote may fail in any way; the others must go on
        let found =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.rules.concerns(provider_type, &workload)));
        match found.unwrap_or_else(|_| Err("the rules panicked".to_owned())) {
            Ok(concerns) => Some(self.verdict(store, record, version, concerns)),
            Err(error) => {
                tracing::warn!(vm = &*record.name, error, "the VM stays unvalidated");
                None
            }
        }
    }

    fn verdict(&self, store: &Store, record: &Record, version: i64, concerns: Vec<Value>) -> Verdict {
        let concerns = store.shared_concerns(concerns);
        Verdict { revision: record.revision, policy_version: version, concerns }
    }
}

/// The concern of a VM whose workload cannot be put together, as upstream makes it.
fn unreadable(error: &str) -> Value {
    json!({"id": "", "label": error, "category": "Critical", "assessment": error})
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Draft, Json, KindSpec, ProviderSpec, Writer};

    static SPEC: ProviderSpec = ProviderSpec {
        provider_type: "test",
        kinds: &[KindSpec { name: "vms", validated: true, ..KindSpec::PLAIN }],
        workloads: Some("vms"),
        workload: Some(|_, record| match &*record.name {
            "lost" => Err("host h is not found".to_owned()),
            name => Ok(json!({"name": name})),
        }),
        ..ProviderSpec::PLAIN
    };

    #[derive(Default)]
    struct Counting(AtomicUsize);
    impl Rules for Counting {
        fn version(&self, _: &str) -> i64 {
            1
        }
        fn concerns(&self, _: &str, workload: &Value) -> Result<Vec<Value>, String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            match workload["name"].as_str() {
                Some("panic") => panic!("as some rule may"),
                name => Ok(vec![json!({"id": name})]),
            }
        }
    }

    fn draft(id: usize, name: &str) -> Draft {
        Draft::new(&id.to_string(), name, "", Json(Value::Null))
    }

    async fn all_seen(store: &Store) {
        let mut left = store.unvalidated.subscribe();
        let seen = tokio::time::timeout(Duration::from_secs(20), left.wait_for(|left| *left == 0)).await;
        seen.expect("in time").expect("the store is there");
    }

    #[tokio::test]
    async fn each_changed_vm_is_judged_and_no_other() {
        let rules = Arc::new(Counting::default());
        let writer = Writer::new(Arc::new(Store::new(&SPEC, "u")), Some(rules.clone()));
        for id in 0..1000 {
            writer.upsert("vms", draft(id, "a"));
        }
        let store = writer.store();
        all_seen(store).await;
        assert!(store.list("vms").iter().all(|vm| vm.is_validated(1)));
        assert_eq!(rules.0.load(Ordering::SeqCst), 1000);
        writer.upsert("vms", draft(7, "b"));
        writer.upsert("vms", draft(8, "a"));
        all_seen(store).await;
        assert_eq!(rules.0.load(Ordering::SeqCst), 1001);
        assert_eq!(*store.get("vms", "7").expect("stored").verdict.concerns, [json!({"id": "b"})]);
    }

    #[tokio::test]
    async fn what_cannot_be_judged_does_not_stop_the_others() {
        let writer = Writer::new(Arc::new(Store::new(&SPEC, "u")), Some(Arc::new(Counting::default())));
        for (id, name) in ["panic", "lost", "a"].into_iter().enumerate() {
            writer.upsert("vms", draft(id, name));
        }
        all_seen(writer.store()).await;
        let verdict = |id: &str| writer.store().get("vms", id).expect("stored").verdict.clone();
        assert_eq!(verdict("0"), Verdict::default());
        assert_eq!(verdict("1").concerns[0]["label"], "host h is not found");
        assert_eq!(verdict("1").concerns[0]["category"], "Critical");
        assert_eq!(*verdict("2").concerns, [json!({"id": "a"})]);
    }
}
