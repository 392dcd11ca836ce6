//! Metrics in Prometheus' text form, with kube-apiserver's names where dashboards and alerts read them.
//! <https://kubernetes.io/docs/reference/instrumentation/metrics/>
//!
//! Written by hand: `prometheus-client` speaks OpenMetrics, in which counters have other family names than the ones
//! that kube-apiserver's users scrape.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::request::Info;
use crate::server::Server;

/// Upper bounds of the duration's buckets in seconds, kube-apiserver's.
const BUCKETS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// What requests are told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    group: String,
    resource: String,
    scope: &'static str,
    subresource: String,
    verb: &'static str,
    version: String,
    dry_run: &'static str,
}

impl Labels {
    /// Of a request; paths that nobody serves share one set of labels, whatever clients make up.
    pub fn of(info: &Info, known: bool, apply: bool) -> Self {
        let verb = match info.verb {
            "get" if info.target.as_ref().is_some_and(|t| crate::handlers::is_connect(t)) => "CONNECT",
            "create" if info.target.as_ref().is_some_and(|t| crate::handlers::is_connect(t)) => "CONNECT",
            "get" => "GET",
            "list" => "LIST",
            "watch" => "WATCH",
            "create" | "post" => "POST",
            "update" | "put" => "PUT",
            "patch" if apply => "APPLY",
            "patch" => "PATCH",
            "delete" => "DELETE",
            "deletecollection" => "DELETECOLLECTION",
            _ => "other",
        };
        let dry_run = if info.dry_run { "All" } else { "" };
        let Some(target) = info.target.as_ref().filter(|_| known) else {
            return Self { verb, dry_run, ..Self::default() };
        };
        let scope = match (target.name.is_empty(), target.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) if target.group.is_empty() && target.plural == "namespaces" => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        };
        let subresource = target.subresource.split('/').next().unwrap_or_default();
        let plain = subresource.len() <= 32 && subresource.bytes().all(|b| b.is_ascii_alphanumeric());
        let subresource = if plain { subresource } else { "" };
        Self {
            group: target.group.clone(),
            resource: target.plural.clone(),
            scope,
            subresource: subresource.to_string(),
            verb,
            version: target.version.clone(),
            dry_run,
        }
    }

    fn write(&self, out: &mut String) {
        let _ = write!(
            out,
            "component=\"apiserver\",dry_run=\"{}\",group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
            self.dry_run, self.group, self.resource, self.scope, self.subresource, self.verb, self.version
        );
    }
}

#[derive(Default)]
struct Series {
    codes: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    seconds: f64,
    count: u64,
}

type WatchedKind = (String, String, String);

/// All counters.
#[derive(Default)]
pub struct Metrics {
    requests: Mutex<HashMap<Labels, Series>>,
    long_running: Mutex<BTreeMap<Labels, i64>>,
    watch_events: Mutex<BTreeMap<WatchedKind, Arc<AtomicU64>>>,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
    /// Changing requests in flight.
    pub mutating: AtomicI64,
    /// Other requests in flight.
    pub read_only: AtomicI64,
    /// Open connections.
    pub connections: AtomicI64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Metrics {
    /// Counts a request that was answered.
    pub fn answered(&self, labels: Labels, code: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut requests = lock(&self.requests);
        let series = requests.entry(labels).or_default();
        *series.codes.entry(code).or_default() += 1;
        series.seconds += seconds;
        series.count += 1;
        for (count, _) in series.buckets.iter_mut().zip(BUCKETS).filter(|(_, bound)| seconds <= *bound) {
            *count += 1;
        }
    }

    /// Counts a long-running request that begins (1) or ends (-1).
    pub fn long_running(&self, labels: &Labels, change: i64) {
        let mut open = lock(&self.long_running);
        match open.get_mut(labels) {
            Some(count) => *count += change,
            None => {
                open.insert(labels.clone(), change);
            }
        }
    }

    /// Counts a request that got no seat.
    pub fn rejected(&self, reason: &'static str) {
        *lock(&self.rejected).entry(reason).or_default() += 1;
    }

    /// Counter of the events sent to watchers of a kind.
    pub fn watch_events(&self, group: &str, version: &str, kind: &str) -> Arc<AtomicU64> {
        lock(&self.watch_events).entry((group.into(), version.into(), kind.into())).or_default().clone()
    }

    /// Everything, as text.
    pub fn render(&self, server: &Server) -> String {
        let mut out = String::with_capacity(64 << 10);
        self.render_requests(&mut out);
        family(&mut out, "apiserver_current_inflight_requests", "gauge", "Requests that are being served, by kind.");
        for (kind, count) in [("mutating", &self.mutating), ("readOnly", &self.read_only)] {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"{kind}\"}} {count}");
        }
        family(
            &mut out,
            "apiserver_longrunning_requests",
            "gauge",
            "Watches, log followers and tunnels that are open.",
        );
        for (labels, count) in lock(&self.long_running).iter() {
            out.push_str("apiserver_longrunning_requests{");
            labels.write(&mut out);
            let _ = writeln!(out, "}} {count}");
        }
        family(&mut out, "apiserver_watch_events_total", "counter", "Events sent to watchers.");
        for ((group, version, kind), count) in lock(&self.watch_events).iter() {
            let count = count.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "apiserver_watch_events_total{{group=\"{group}\",kind=\"{kind}\",version=\"{version}\"}} {count}"
            );
        }
        family(&mut out, "apiserver_flowcontrol_rejected_requests_total", "counter", "Requests that got no seat.");
        for (reason, count) in lock(&self.rejected).iter() {
            let _ = writeln!(out, "apiserver_flowcontrol_rejected_requests_total{{reason=\"{reason}\"}} {count}");
        }
        render_store(&mut out, server);
        render_audit(&mut out, server);
        single(&mut out, "apiserver_open_connections", "gauge", "Open client connections.", || {
            self.connections.load(Ordering::Relaxed).to_string()
        });
        render_process(&mut out);
        out
    }

    fn render_requests(&self, out: &mut String) {
        let requests = lock(&self.requests);
        let mut sorted: Vec<_> = requests.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(b.0));
        family(out, "apiserver_request_total", "counter", "Requests that were answered, by verb, resource and code.");
        for (labels, series) in &sorted {
            for (code, count) in &series.codes {
                let _ = write!(out, "apiserver_request_total{{code=\"{code}\",");
                labels.write(out);
                let _ = writeln!(out, "}} {count}");
            }
        }
        family(out, "apiserver_request_duration_seconds", "histogram", "How long answers took.");
        for (labels, series) in &sorted {
            let mut line = |ending: &str, le: Option<String>, value: String| {
                let _ = write!(out, "apiserver_request_duration_seconds{ending}{{");
                labels.write(out);
                if let Some(le) = le {
                    let _ = write!(out, ",le=\"{le}\"");
                }
                let _ = writeln!(out, "}} {value}");
            };
            for (bound, count) in BUCKETS.iter().zip(series.buckets) {
                line("_bucket", Some(bound.to_string()), count.to_string());
            }
            line("_bucket", Some("+Inf".into()), series.count.to_string());
            line("_sum", None, series.seconds.to_string());
            line("_count", None, series.count.to_string());
        }
    }
}

fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: impl FnOnce() -> String) {
    family(out, name, kind, help);
    let _ = writeln!(out, "{name} {}", value());
}

fn render_store(out: &mut String, server: &Server) {
    let counts: BTreeMap<_, _> = server.store.counts().into_iter().collect();
    family(out, "apiserver_storage_objects", "gauge", "Stored objects, by resource.");
    for (resource, count) in counts {
        let (group, plural) = resource.split_once('/').unwrap_or(("", &resource));
        let shown = crate::error::qualified(plural, group);
        let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{shown}\"}} {count}");
    }
    family(out, "apiserver_storage_size_bytes", "gauge", "Size of the store on disk.");
    let bytes: u64 = ["store.db", "store.db-wal"]
        .iter()
        .filter_map(|file| std::fs::metadata(server.data_dir.join(file)).ok())
        .map(|m| m.len())
        .sum();
    let _ = writeln!(out, "apiserver_storage_size_bytes{{storage_cluster_id=\"store-0\"}} {bytes}");
    single(out, "apiserver_storage_revision", "counter", "The newest revision.", || {
        server.store.revision().to_string()
    });
}

fn render_audit(out: &mut String, server: &Server) {
    let (written, dropped) = server
        .audit
        .as_ref()
        .map_or((0, 0), |log| (log.written.load(Ordering::Relaxed), log.dropped.load(Ordering::Relaxed)));
    single(out, "apiserver_audit_event_total", "counter", "Audit events.", || written.to_string());
    family(out, "apiserver_audit_error_total", "counter", "Audit events that were dropped.");
    let _ = writeln!(out, "apiserver_audit_error_total{{plugin=\"log\"}} {dropped}");
}

/// From /proc, as the Go client's process collector does it; what cannot be read is left out.
fn render_process(out: &mut String) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // after the program's name in parentheses, which may hold spaces
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let number = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok());
    let ticks = 100.0;
    let boot = std::fs::read_to_string("/proc/stat")
        .ok()
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse::<f64>().ok()));
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|d| d.count() as f64);
    let most = std::fs::read_to_string("/proc/self/limits").ok().and_then(|text| {
        text.lines().find_map(|l| l.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<f64>().ok())
    });
    let values = [
        (
            "process_cpu_seconds_total",
            "counter",
            number(11).zip(number(12)).map(|(user, kernel)| (user + kernel) / ticks),
        ),
        ("process_open_fds", "gauge", open),
        ("process_max_fds", "gauge", most),
        ("process_virtual_memory_bytes", "gauge", number(20)),
        ("process_resident_memory_bytes", "gauge", number(21).map(|pages| pages * 4096.0)),
        ("process_start_time_seconds", "gauge", boot.zip(number(19)).map(|(boot, start)| boot + start / ticks)),
        ("process_threads", "gauge", number(17)),
    ];
    for (name, kind, value) in values {
        if let Some(value) = value {
            single(out, name, kind, "Of this process.", || value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_as_kube_apiserver_does() {
        let labels = |method: http::Method, path: &str, known| {
            let mut text = String::new();
            Labels::of(&Info::of(&method, &path.parse().unwrap()), known, false).write(&mut text);
            text
        };
        assert_eq!(
            labels(http::Method::GET, "/api/v1/namespaces/a/pods/p/log?follow=1", true),
            "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"pods\",scope=\"resource\",subresource=\"log\",verb=\"GET\",version=\"v1\""
        );
        assert_eq!(
            labels(http::Method::POST, "/apis/apps/v1/namespaces/a/deployments?dryRun=All", true),
            "component=\"apiserver\",dry_run=\"All\",group=\"apps\",resource=\"deployments\",scope=\"namespace\",subresource=\"\",verb=\"POST\",version=\"v1\""
        );
        assert_eq!(
            labels(http::Method::GET, "/apis/made/up/thing", false),
            "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"\",scope=\"\",subresource=\"\",verb=\"LIST\",version=\"\""
        );
    }

    #[test]
    fn durations_fall_into_buckets() {
        let metrics = Metrics::default();
        metrics.answered(Labels { verb: "GET", ..Labels::default() }, 200, Duration::from_millis(30));
        metrics.answered(Labels { verb: "GET", ..Labels::default() }, 404, Duration::from_secs(100));
        let mut text = String::new();
        metrics.render_requests(&mut text);
        let has = |part: &str| text.lines().any(|l| l.contains(part));
        assert!(has("apiserver_request_total{code=\"404\","), "{text}");
        assert!(
            has("le=\"0.025\"} 0") && has("le=\"0.05\"} 1") && has("le=\"60\"} 1") && has("le=\"+Inf\"} 2"),
            "{text}"
        );
    }
}
