//! Talking to workers in pods: progress while they run, the result in the termination message when they are done.
use std::time::Duration;

use forklift_api::worker::{ConversionProgress, ImportProgress, PORT, PROGRESS_PATH};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use serde::de::DeserializeOwned;

/// A worker on the same network answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks workers over HTTP. Every answer may be missing: progress is never waited for.
#[derive(Clone, Default)]
pub struct WorkerClient {
    http: std::sync::OnceLock<Option<reqwest::Client>>,
}

impl WorkerClient {
    /// Returns how far an importer is.
    pub async fn import_progress(&self, pod_ip: &str) -> Option<ImportProgress> {
        self.get(pod_ip, PROGRESS_PATH).await
    }

    /// Returns how far a conversion is.
    pub async fn conversion_progress(&self, pod_ip: &str) -> Option<ConversionProgress> {
        self.get(pod_ip, PROGRESS_PATH).await
    }

    /// Tells a conversion that its results were read and it may end. Returns whether it understood.
    pub async fn shut_down(&self, pod_ip: &str) -> bool {
        let Some(http) = self.http() else { return false };
        let url = format!("http://{}:{PORT}/shutdown", host(pod_ip));
        http.post(url).timeout(PATIENCE).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Returns whether the worker answers a path with success.
    pub async fn answers(&self, pod_ip: &str, path: &str) -> bool {
        let Some(http) = self.http() else { return false };
        let url = format!("http://{}:{PORT}{path}", host(pod_ip));
        http.get(url).timeout(PATIENCE).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Returns a text that the worker gives; `None` when it gives none.
    pub async fn text(&self, pod_ip: &str, path: &str) -> Option<String> {
        let url = format!("http://{}:{PORT}{path}", host(pod_ip));
        let answer = self.http()?.get(url).timeout(PATIENCE).send().await.ok()?;
        if answer.status() != reqwest::StatusCode::OK {
            return None;
        }
        answer.text().await.ok()
    }

    async fn get<T: DeserializeOwned>(&self, pod_ip: &str, path: &str) -> Option<T> {
        serde_json::from_str(&self.text(pod_ip, path).await?).ok()
    }

    fn http(&self) -> Option<&reqwest::Client> {
        let make = || {
            // The program may have chosen a provider already; then that one holds.
            let _ = rustls::crypto::ring::default_provider().install_default();
            match reqwest::Client::builder().connect_timeout(PATIENCE).no_proxy().build() {
                Ok(client) => Some(client),
                Err(error) => {
                    tracing::error!(%error, "no HTTP client: progress of workers is not shown");
                    None
                }
            }
        };
        self.http.get_or_init(make).as_ref()
    }
}

/// Writes an address as it stands in a URL.
pub fn host(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

/// Returns the status of a pod's container: the named one, else the first.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    all.iter().find(|status| status.name == name).or_else(|| all.first())
}

/// Returns the last termination message of a container, whether it runs again or not.
pub fn termination_message<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let status = container(pod, name)?;
    let of = |state: &'a Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref()?.terminated.as_ref()?.message.as_deref()
    };
    of(&status.state).or_else(|| of(&status.last_state))
}

/// Returns the phase of a pod.
pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// Returns the address of a pod that runs.
pub fn running_ip(pod: &Pod) -> Option<&str> {
    if phase(pod) != "Running" {
        return None;
    }
    pod.status.as_ref()?.pod_ip.as_deref().filter(|ip| !ip.is_empty())
}

/// Whether the pod's condition `Ready` holds.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Returns why a pod does not run, as `(reason, message)`: not scheduled, or a container that waits.
pub fn waiting(pod: &Pod) -> Option<(String, String)> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
    let of_container = containers
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref())
        .find(|waiting| !matches!(waiting.reason.as_deref(), None | Some("ContainerCreating" | "PodInitializing")))
        .map(|waiting| (waiting.reason.clone().unwrap_or_default(), waiting.message.clone().unwrap_or_default()));
    of_container.or_else(|| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
            .map(|condition| {
                (condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default())
            })
    })
}
