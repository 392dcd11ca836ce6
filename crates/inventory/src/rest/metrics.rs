//! The service's own metrics, in Prometheus' text format. No names of providers or VMs: they are read without a token.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::Inventory;

/// From 100 µs to 10 s.
const SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];

/// The route as it is written in the table, and the status.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels {
    route: Option<Route>,
    code: u16,
}

/// A route of the table; its text is shared with the router.
#[derive(Clone, Debug)]
struct Route(MatchedPath);

impl Route {
    fn text(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
impl Eq for Route {}
impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl EncodeLabelSet for Labels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        let route = self.route.as_ref().map_or("none", Route::text);
        ("route", route).encode(encoder.encode_label())?;
        ("code", u32::from(self.code)).encode(encoder.encode_label())
    }
}

type TypeLabels = [(&'static str, String); 2];

/// What is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    seconds: Histogram,
    /// Watches that are open.
    pub watches: Gauge,
    /// Frames that were sent to watches.
    pub frames: Counter,
    records: Family<TypeLabels, Gauge>,
    unvalidated: Gauge,
    loading: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let seconds = Histogram::new(SECONDS);
        let (watches, frames) = (Gauge::default(), Counter::default());
        let (records, unvalidated, loading) = (Family::default(), Gauge::default(), Gauge::default());
        registry.register("forklift_inventory_requests", "Requests by route and status", requests.clone());
        let text = "Time until an answer begins, in seconds";
        registry.register("forklift_inventory_request_seconds", text, seconds.clone());
        registry.register("forklift_inventory_watches", "Open watches", watches.clone());
        registry.register("forklift_inventory_watch_frames", "Frames sent to watches", frames.clone());
        registry.register("forklift_inventory_records", "Records by provider type and collection", records.clone());
        registry.register("forklift_inventory_unvalidated", "VMs that wait for the rules", unvalidated.clone());
        registry.register("forklift_inventory_loading", "Providers whose inventory is not current", loading.clone());
        Self { registry, requests, seconds, watches, frames, records, unvalidated, loading }
    }
}

impl Metrics {
    /// Returns the metrics as Prometheus reads them; gauges as the inventory is now.
    pub fn text(&self, inventory: &Inventory) -> String {
        self.records.clear();
        let (mut unvalidated, mut loading) = (0, 0);
        for entry in inventory.list() {
            unvalidated += entry.store().unvalidated();
            loading += i64::from(!entry.store().has_parity());
            for kind in entry.spec().kinds.iter().filter(|_| entry.live_source().is_none()) {
                let labels = [("type", entry.spec().provider_type.to_owned()), ("collection", kind.name.to_owned())];
                let count = i64::try_from(entry.store().count(kind.name)).unwrap_or(i64::MAX);
                self.records.get_or_create(&labels).inc_by(count);
            }
        }
        self.unvalidated.set(i64::try_from(unvalidated).unwrap_or(i64::MAX));
        self.loading.set(loading);
        let mut text = String::new();
        // writing to a String does not fail
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Counts a request; the layer of all routes.
pub(crate) async fn count(
    State(metrics): State<Arc<Metrics>>,
    path: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let response = next.run(request).await;
    let labels = Labels { route: path.map(Route), code: response.status().as_u16() };
    metrics.requests.get_or_create(&labels).inc();
    metrics.seconds.observe(begun.elapsed().as_secs_f64());
    response
}
