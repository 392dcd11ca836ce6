//! Events as `kubectl describe` shows them: the same event again counts up.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;

/// Writes events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    component: &'static str,
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something went as it should.
    Normal,
    /// Something needs attention.
    Warning,
}

impl Events {
    /// Makes a writer that signs as a component.
    pub fn new(client: Client, component: &'static str) -> Self {
        Self { client, component }
    }

    /// Writes an event about a typed object; a failure is logged, as events are only news.
    pub async fn publish<K>(&self, object: &K, kind: Kind, reason: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish_about(object.object_ref(&()), kind, reason, message).await;
    }

    /// Writes an event about any object.
    pub async fn publish_about(&self, about: ObjectReference, kind: Kind, reason: &str, message: &str) {
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = Time(jiff::Timestamp::now());
        let seed = format!("{:?}{reason}{message}", about.uid);
        let name = format!("{}.{}", about.name.clone().unwrap_or_default(), short_hash(&seed));
        let event = Event {
            metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..ObjectMeta::default() },
            involved_object: about,
            reason: Some(reason.into()),
            message: Some(message.into()),
            type_: Some(if kind == Kind::Warning { "Warning" } else { "Normal" }.into()),
            source: Some(EventSource { component: Some(self.component.into()), host: None }),
            reporting_component: Some(self.component.into()),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now.clone()),
            count: Some(1),
            ..Event::default()
        };
        let result = match api.create(&PostParams::default(), &event).await {
            Err(kube::Error::Api(status)) if status.code == 409 => match api.get(&name).await {
                Ok(old) => {
                    let count = old.count.unwrap_or(1) + 1;
                    let patch = json!({"count": count, "lastTimestamp": now});
                    api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await
                }
                Err(error) => Err(error),
            },
            other => other,
        };
        if let Err(error) = result {
            tracing::debug!(%error, reason, "event not written");
        }
    }
}

/// Makes a short, stable name part from any text.
pub fn short_hash(text: &str) -> String {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).simple().to_string()[..10].into()
}
