//! What grows if nobody removes it: old events, and pods that have ended long ago.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::{Api, Client, Resource};
use tokio_util::sync::CancellationToken;

/// How often is looked.
const PERIOD: Duration = Duration::from_secs(60);
/// Events of one page of a list.
const PAGE: u32 = 500;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    /// How long an event is news: kube-apiserver's `--event-ttl`.
    pub events: Duration,
    /// Ended pods that are kept: kube-controller-manager's `--terminated-pod-gc-threshold`.
    pub ended_pods: usize,
}

impl Default for Keep {
    /// An hour, as with kube-apiserver; and 1,000 pods, as many as the node takes.
    fn default() -> Self {
        Self { events: Duration::from_secs(3600), ended_pods: 1000 }
    }
}

/// Removes what is too old or too much, until shutdown.
pub async fn run(client: Client, keep: Keep, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD.min(keep.events.max(Duration::from_millis(200)))) => {}
        }
        for result in [expire_events(&client, keep.events).await, remove_ended(&client, keep.ended_pods).await] {
            if let Err(error) = result {
                tracing::debug!(%error, "garbage is left for the next time");
            }
        }
    }
}

async fn expire_events(client: &Client, age: Duration) -> kube::Result<()> {
    let limit = Timestamp::now().checked_sub(SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX));
    let Ok(limit) = limit else { return Ok(()) };
    let all: Api<Event> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = all.list(&params).await?;
        for event in page.items.iter().filter(|event| last_seen(event).is_some_and(|seen| seen < limit)) {
            remove(client, event).await?;
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let plain = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref()).map(|time| time.0);
    let precise = event.event_time.as_ref().map(|time| time.0);
    [series, plain, precise, event.metadata.creation_timestamp.as_ref().map(|time| time.0)].into_iter().flatten().max()
}

/// Removes the oldest ended pods beyond a number.
async fn remove_ended(client: &Client, most: usize) -> kube::Result<()> {
    let all: Api<Pod> = Api::all(client.clone());
    let mut ended = Vec::new();
    for phase in ["Succeeded", "Failed"] {
        ended.extend(all.list(&ListParams::default().fields(&format!("status.phase={phase}"))).await?.items);
    }
    ended.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    for pod in surplus(ended, most) {
        tracing::info!(pod = pod.metadata.name, "an ended pod is removed: there are too many");
        remove(client, &pod).await?;
    }
    Ok(())
}

fn surplus(mut ended: Vec<Pod>, most: usize) -> Vec<Pod> {
    ended.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
    ended.truncate(ended.len().saturating_sub(most));
    ended
}

async fn remove<K>(client: &Client, object: &K) -> kube::Result<()>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
{
    let meta = object.meta();
    let api: Api<K> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or("default"));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(meta.name.as_deref().unwrap_or_default(), &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_oldest_ended_pods_go_first() {
        let pod = |name: &str, second: i64| -> Pod {
            let created = Timestamp::from_second(second).expect("a time").to_string();
            serde_json::from_value(json!({"metadata": {"name": name, "creationTimestamp": created}})).expect("a pod")
        };
        let list = vec![pod("b", 20), pod("a", 10), pod("c", 30)];
        let names: Vec<String> = surplus(list.clone(), 1).into_iter().filter_map(|pod| pod.metadata.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(surplus(list, 3).is_empty());
    }
}
