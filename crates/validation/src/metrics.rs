//! What the service counts, in Prometheus' text format.

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Validator;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Request {
    code: u16,
    handler: &'static str,
    method: &'static str,
}

/// Counters and histograms of one service. `http_request_duration_seconds` has OPA's name and labels.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<Request, Histogram, fn() -> Histogram>,
    workloads: Counter,
    left_out: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests: Family<Request, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| {
            Histogram::new([1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 0.01, 0.1, 1.0, 10.0])
        });
        let (workloads, left_out) = (Counter::default(), Gauge::default());
        registry.register("http_request_duration_seconds", "Time from a request to its answer", requests.clone());
        registry.register("forklift_validation_workloads", "VMs that were evaluated", workloads.clone());
        registry.register(
            "forklift_validation_rules_left_out",
            "Files and rules of users that are left out",
            left_out.clone(),
        );
        Self { registry: Arc::new(registry), requests, workloads, left_out }
    }
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn answered(&self, handler: &'static str, method: &'static str, code: u16, since: Instant) {
        let labels = Request { code, handler, method };
        self.requests.get_or_create(&labels).observe(since.elapsed().as_secs_f64());
    }

    /// Counts evaluated VMs.
    pub fn evaluated(&self, workloads: usize) {
        self.workloads.inc_by(workloads as u64);
    }

    /// Returns the text that Prometheus reads.
    pub fn text(&self, validator: &Validator) -> String {
        self.left_out.set(i64::try_from(validator.rule_errors().len()).unwrap_or(i64::MAX));
        let mut text = String::new();
        // writing to a string does not fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}
