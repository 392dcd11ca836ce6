//! Kubernetes events from condition changes, as `kubectl describe` and `kubectl events` show them.
use forklift_api::Category;
use forklift_api::condition::Change;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client, Resource, ResourceExt};

/// The longest message that the API server takes.
const MESSAGE_LIMIT: usize = 1024;

/// Tells one event per condition that came, changed or went. Nobody waits for it, and a lost event is only logged.
pub fn publish<K>(client: &Client, object: &K, changes: &[Change])
where
    K: Resource<DynamicType = ()>,
{
    if changes.is_empty() {
        return;
    }
    let namespace = object.namespace().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
    let regarding = object.object_ref(&());
    let events: Vec<Event> =
        changes.iter().enumerate().map(|(index, change)| event(change, index, &regarding, Timestamp::now())).collect();
    tokio::spawn(async move {
        for event in events {
            if let Err(error) = api.create(&PostParams::default(), &event).await {
                tracing::debug!(%error, reason = event.reason, "event not stored");
            }
        }
    });
}

/// Tells one event of another kind.
pub fn tell<K>(client: &Client, object: &K, warning: bool, reason: &str, message: &str)
where
    K: Resource<DynamicType = ()>,
{
    let category = if warning { Category::Warn } else { Category::Advisory };
    publish(client, object, &[Change::Added(forklift_api::Condition::new(reason, category, message))]);
}

fn event(change: &Change, index: usize, regarding: &ObjectReference, now: Timestamp) -> Event {
    let (action, condition) = match change {
        Change::Added(condition) => ("ConditionAdded", condition),
        Change::Updated(condition) => ("ConditionUpdated", condition),
        Change::Deleted(condition) => ("ConditionDeleted", condition),
    };
    let warning = matches!(condition.category, Category::Critical | Category::Error | Category::Warn);
    let name = format!("{}.{:x}", regarding.name.as_deref().unwrap_or("object"), now.as_nanosecond() + index as i128);
    let mut message = condition.message.clone();
    message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: regarding.namespace.clone(), ..ObjectMeta::default() },
        involved_object: regarding.clone(),
        reason: Some(condition.type_.clone()),
        message: Some(message),
        action: Some(action.to_owned()),
        type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some("forklift-controller".to_owned()), host: None }),
        reporting_component: Some("forklift-controller".to_owned()),
        ..Event::default()
    }
}
