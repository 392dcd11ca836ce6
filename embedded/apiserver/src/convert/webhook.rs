//! Conversion of custom resources by a webhook of their definition (`apiextensions.k8s.io/v1` ConversionReview).
//!
//! Answers are kept by the revision of the object and the version: reading an object again asks nobody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::admission::{Clients, call_client};
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::storage::Store;

/// Objects that are kept converted.
const KEPT: usize = 8192;
/// Objects of one request to the webhook.
const BATCH: usize = 500;
/// How long a webhook may take, as kube-apiserver has it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The webhook of one definition, and what it said.
pub struct Conversion {
    client: Value,
    kind: String,
    store: Arc<Store>,
    clients: Arc<Clients>,
    kept: Mutex<HashMap<(String, String), Arc<Value>>>,
}

impl Conversion {
    /// The webhook of the definition; None when it needs none.
    pub fn of(crd: &Value, store: &Arc<Store>, clients: &Arc<Clients>) -> Option<Arc<Self>> {
        (meta::text(crd, "/spec/conversion/strategy") == "Webhook").then(|| {
            Arc::new(Self {
                client: crd.pointer("/spec/conversion/webhook/clientConfig").cloned().unwrap_or_default(),
                kind: meta::text(crd, "/spec/names/kind").to_string(),
                store: store.clone(),
                clients: clients.clone(),
                kept: Mutex::default(),
            })
        })
    }

    /// The stored object in the version, when it was asked for before.
    pub fn known(&self, revision: &str, version: &str) -> Option<Arc<Value>> {
        let kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        kept.get(&(revision.to_string(), version.to_string())).cloned()
    }

    /// Asks for stored objects in a version and keeps the answers.
    pub async fn learn(&self, objects: Vec<Value>, version: &str) -> ApiResult<()> {
        let revision = |value: &Value| meta::text(value, "/metadata/resourceVersion").to_string();
        let missing: Vec<Value> = objects
            .into_iter()
            .filter(|o| meta::text(o, "/apiVersion") != version && self.known(&revision(o), version).is_none())
            .collect();
        for batch in missing.chunks(BATCH) {
            let revisions: Vec<String> = batch.iter().map(revision).collect();
            let converted = self.convert(batch.to_vec(), version).await?;
            let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if kept.len() > KEPT {
                kept.clear();
            }
            kept.extend(
                revisions.into_iter().map(|r| (r, version.to_string())).zip(converted.into_iter().map(Arc::new)),
            );
        }
        Ok(())
    }

    /// Asks the webhook.
    pub async fn convert(&self, objects: Vec<Value>, version: &str) -> ApiResult<Vec<Value>> {
        let from = objects.first().map(|o| meta::text(o, "/apiVersion").to_string()).unwrap_or_default();
        let failed = |why: String| {
            let text = format!("conversion webhook for {from}, Kind={} failed: {why}", self.kind);
            let mut error = ApiError::internal("");
            error.message = text;
            error.reason = crate::error::NO_REASON;
            error
        };
        let uid = uuid::Uuid::new_v4().to_string();
        let review = json!({
            "kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "request": {"uid": uid, "desiredAPIVersion": version, "objects": objects},
        });
        let answer = call_client(&self.store, &self.clients, &self.client, &review, TIMEOUT).await.map_err(|why| {
            // the call's own words name the request already
            failed(why.strip_prefix("failed to call webhook: ").unwrap_or(&why).to_string())
        })?;
        let response = answer.get("response").filter(|r| r.is_object());
        let Some(response) = response else { return Err(failed("no response provided".into())) };
        if meta::text(response, "/uid") != uid {
            return Err(failed(format!("expected response.uid={uid:?}, got {:?}", meta::text(response, "/uid"))));
        }
        if meta::text(response, "/result/status") != "Success" {
            let message = meta::text(response, "/result/message");
            let message = if message.is_empty() { "no failure reason provided" } else { message };
            return Err(failed(message.to_string()));
        }
        let converted = response.get("convertedObjects").and_then(Value::as_array).cloned().unwrap_or_default();
        if converted.len() != objects.len() {
            let counts = format!("webhook returned {} objects, expected {}", converted.len(), objects.len());
            return Err(failed(counts));
        }
        let pairs = objects.iter().zip(converted);
        pairs.map(|(before, after)| self.settle(before, after, version).map_err(&failed)).collect()
    }

    /// A webhook changes anything but what the object is.
    fn settle(&self, before: &Value, mut after: Value, version: &str) -> Result<Value, String> {
        let found = meta::text(&after, "/apiVersion");
        if found != version {
            return Err(format!("webhook returned invalid object: expected apiVersion {version:?}, got {found:?}"));
        }
        for field in ["kind", "metadata/name", "metadata/namespace", "metadata/uid"] {
            let pointer = format!("/{field}");
            if before.pointer(&pointer) != after.pointer(&pointer) {
                let name = field.replace('/', ".");
                return Err(format!("webhook returned invalid object: {name} must not be changed"));
            }
        }
        // of the metadata, labels and annotations only
        let mut metadata = before.get("metadata").cloned().unwrap_or_default();
        for field in ["labels", "annotations"] {
            if let Value::Object(map) = &mut metadata {
                match after.pointer(&format!("/metadata/{field}")) {
                    Some(value) => map.insert(field.into(), value.clone()),
                    None => map.shift_remove(field),
                };
            }
        }
        after["metadata"] = metadata;
        Ok(after)
    }
}
