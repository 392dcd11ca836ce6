//! Metrics under upstream's names, in Prometheus' text format.
//!
//! Counters count each migration (and each of its VMs) once, by UID and outcome; gauges are computed anew from the
//! caches, so that a combination which no longer occurs goes to 0.
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forklift_api::condition::types;
use forklift_api::plan::MigrationType;
use forklift_api::step::{DISK_TRANSFER, DISK_TRANSFER_V2V};
use forklift_api::{Migration, Plan};
use kube::ResourceExt;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::caches::named;
use crate::context::Context;

/// How often the gauges are computed.
const EVERY: Duration = Duration::from_secs(10);
/// 1, 2, 5, 10, 24 and 48 hours.
const DURATIONS: [f64; 6] = [3600.0, 7200.0, 18000.0, 36000.0, 86400.0, 172_800.0];

type Labels = Vec<(String, String)>;

/// All metrics of the controllers.
pub struct Metrics {
    registry: Registry,
    migrations: Family<Labels, Counter>,
    workloads: Family<Labels, Counter>,
    plans: Family<Labels, Gauge>,
    planned_vms: Family<Labels, Counter>,
    migrated_vms: Family<Labels, Counter>,
    duration: Family<Labels, Gauge>,
    durations: Family<Labels, Histogram>,
    transferred: Family<Labels, Gauge>,
    seen: Mutex<HashSet<String>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            migrations: Family::default(),
            workloads: Family::default(),
            plans: Family::default(),
            planned_vms: Family::default(),
            migrated_vms: Family::default(),
            duration: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            transferred: Family::default(),
            seen: Mutex::default(),
        };
        let registry = &mut metrics.registry;
        // The encoder adds `_total` to counters.
        registry.register(
            "mtv_migrations_status",
            "VM Migrations sorted by status, provider, mode and destination",
            metrics.migrations.clone(),
        );
        registry.register(
            "mtv_workload_migrations_status",
            "VM Migrations status by provider, mode, destination and plan",
            metrics.workloads.clone(),
        );
        registry.register(
            "mtv_plans_status",
            "VM migration Plans sorted by status and provider",
            metrics.plans.clone(),
        );
        registry.register(
            "mtv_planned_vms",
            "VMs of plans by provider, mode and destination",
            metrics.planned_vms.clone(),
        );
        registry.register("mtv_migrated_vms", "VMs that were migrated, by outcome", metrics.migrated_vms.clone());
        registry.register(
            "mtv_migration_duration_seconds",
            "Duration of VM migrations in seconds",
            metrics.duration.clone(),
        );
        registry.register(
            "mtv_migrations_duration_seconds",
            "Histogram of VM migrations duration in seconds",
            metrics.durations.clone(),
        );
        registry.register(
            "mtv_migration_data_transferred_bytes",
            "Total data transferred during VM migrations in bytes",
            metrics.transferred.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Returns the metrics as Prometheus reads them.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Whether this is seen for the first time.
    fn first(&self, key: String) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    fn observe_migration(&self, migration: &Migration, plan: &Plan, labels: &Labels) {
        let Some(status) = &migration.status else { return };
        let uid = migration.uid().unwrap_or_default();
        let with_plan = || with(labels, &[("plan", plan.uid().unwrap_or_default())]);
        for outcome in [types::SUCCEEDED, types::FAILED, types::CANCELED] {
            let outcome_label = || ("status", outcome.to_owned());
            if status.conditions.has(outcome) && self.first(format!("{uid}/{outcome}")) {
                self.migrations.get_or_create(&with(labels, &[outcome_label()])).inc();
                self.workloads.get_or_create(&with(&with_plan(), &[outcome_label()])).inc();
                if let (types::SUCCEEDED, Some(started), Some(completed)) =
                    (outcome, &status.timed.started, &status.timed.completed)
                {
                    let seconds = completed.0.as_second() - started.0.as_second();
                    self.duration.get_or_create(&with_plan()).set(seconds);
                    self.durations.get_or_create(labels).observe(seconds as f64);
                }
            }
            for vm in status.vms.iter().filter(|vm| vm.conditions.has(outcome)) {
                if self.first(format!("{uid}/{}/{outcome}", vm.reference().id)) {
                    self.migrated_vms.get_or_create(&with(labels, &[outcome_label()])).inc();
                }
            }
        }
        let steps = status.vms.iter().flat_map(|vm| &vm.pipeline);
        let megabytes: i64 = steps
            .filter(|step| [DISK_TRANSFER, DISK_TRANSFER_V2V].contains(&step.task.name.as_str()))
            .flat_map(|step| &step.tasks)
            .map(|task| task.progress.completed)
            .sum();
        self.transferred.get_or_create(&with_plan()).set(megabytes << 20);
    }
}

fn with(labels: &Labels, more: &[(&str, String)]) -> Labels {
    let more = more.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    labels.iter().cloned().chain(more).collect()
}

/// Keeps the metrics current.
pub async fn refresh(context: Arc<Context>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => compute(&context),
        }
    }
}

/// Computes the metrics from the caches.
pub fn compute(context: &Context) {
    let metrics = &context.config.metrics;
    let mut by_status: BTreeMap<Labels, i64> = BTreeMap::new();
    for plan in context.caches.plans.state() {
        let labels = labels(context, &plan);
        for vm in &plan.spec.vms {
            if metrics.first(format!("{}/{}/{}", plan.uid().unwrap_or_default(), vm.reference.id, vm.reference.name)) {
                metrics.planned_vms.get_or_create(&labels).inc();
            }
        }
        *by_status.entry(with(&labels, &[("status", status(&plan).to_owned())])).or_default() += 1;
    }
    metrics.plans.clear();
    for (labels, count) in by_status {
        metrics.plans.get_or_create(&labels).set(count);
    }
    for migration in context.caches.migrations.state() {
        if let Some(plan) = named(&context.caches.plans, &migration.spec.plan) {
            metrics.observe_migration(&migration, &plan, &labels(context, &plan));
        }
    }
}

fn labels(context: &Context, plan: &Plan) -> Labels {
    let provider = context.caches.provider(&plan.spec.provider.source);
    let destination = context.caches.provider(&plan.spec.provider.destination);
    let mode = match plan.spec.migration_type() {
        MigrationType::Warm => "Warm",
        MigrationType::Live => "Live",
        MigrationType::Cold | MigrationType::Conversion => "Cold",
    };
    let target = if destination.is_some_and(|provider| provider.is_host()) { "Local" } else { "Remote" };
    vec![
        ("provider".to_owned(), provider.map(|provider| provider.spec.type_.clone()).unwrap_or_default()),
        ("mode".to_owned(), mode.to_owned()),
        ("target".to_owned(), target.to_owned()),
    ]
}

fn status(plan: &Plan) -> &'static str {
    let order = [
        types::DELETED,
        types::BLOCKED,
        types::EXECUTING,
        types::FAILED,
        types::CANCELED,
        types::SUCCEEDED,
        types::PENDING,
    ];
    let Some(status) = &plan.status else { return types::PENDING };
    if plan.metadata.deletion_timestamp.is_some() {
        return types::DELETED;
    }
    if status.conditions.has_blocker() {
        return types::BLOCKED;
    }
    order.into_iter().find(|type_| status.conditions.has(type_)).unwrap_or(types::PENDING)
}
