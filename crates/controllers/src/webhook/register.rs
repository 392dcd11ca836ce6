//! Registering the webhooks with the API server: one configuration for each of upstream's.
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::{Stage, WEBHOOKS, Webhook};
use crate::shell::apply::MANAGER;

/// How the API server reaches the webhooks.
#[derive(Clone, Debug)]
pub enum Reach {
    /// `https://host:port`.
    Url(String),
    /// Port 443 of a service.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Registers all webhooks, in place of what was registered before. `ca` is the PEM of the authority that the webhooks'
/// certificate is of.
pub async fn register(client: &Client, reach: &Reach, ca: &str) -> anyhow::Result<()> {
    let params = PatchParams::apply(MANAGER).force();
    for webhook in WEBHOOKS {
        let (name, config) = configuration(webhook, reach, ca);
        let applied = match webhook.stage {
            Stage::Mutating => {
                let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
                api.patch(&name, &params, &Patch::Apply(&config)).await.map(drop)
            }
            Stage::Validating => {
                let api: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
                api.patch(&name, &params, &Patch::Apply(&config)).await.map(drop)
            }
        };
        applied.with_context(|| format!("cannot register the webhook {}", webhook.path))?;
    }
    Ok(())
}

fn configuration(webhook: &Webhook, reach: &Reach, ca: &str) -> (String, Value) {
    let name = format!("forklift-api-{}", webhook.resource);
    let kind = match webhook.stage {
        Stage::Mutating => "MutatingWebhookConfiguration",
        Stage::Validating => "ValidatingWebhookConfiguration",
    };
    let mut client = json!({"caBundle": STANDARD.encode(ca)});
    match reach {
        Reach::Url(url) => client["url"] = json!(format!("{}{}", url.trim_end_matches('/'), webhook.path)),
        Reach::Service { namespace, name } => {
            client["service"] = json!({"namespace": namespace, "name": name, "path": webhook.path, "port": 443});
        }
    }
    let selector = match webhook.label {
        Some(label) => json!({"matchExpressions": [{"key": label, "operator": "Exists"}]}),
        None => json!({}),
    };
    let config = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "webhooks": [{
            "name": format!("{}.forklift.konveyor", webhook.resource),
            "admissionReviewVersions": ["v1"], "clientConfig": client,
            "failurePolicy": "Fail", "matchPolicy": "Equivalent", "sideEffects": "None", "timeoutSeconds": 30,
            "namespaceSelector": {}, "objectSelector": selector,
            "rules": [{
                "apiGroups": [webhook.group], "apiVersions": [webhook.version], "resources": [webhook.resource],
                "operations": ["CREATE", "UPDATE"],
            }],
        }],
    });
    (name, config)
}
