//! Hook: what runs before or after a VM's migration.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::wire::unset;

/// What a hook runs: an image of its own, or a job of the Ansible Automation Platform.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "Hook",
    namespaced,
    status = "HookStatus",
    derive = "PartialEq",
    doc = "What runs before or after a virtual machine's migration.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HookSpec {
    /// The service account of the hook's pod.
    #[serde(default, skip_serializing_if = "unset")]
    pub service_account: String,
    /// The image that runs; none for `aap`.
    #[serde(default, skip_serializing_if = "unset")]
    pub image: String,
    /// An Ansible playbook in base64, run by ansible-runner in the image. Unset: the image's own command runs.
    #[serde(default, skip_serializing_if = "unset")]
    pub playbook: String,
    /// After how many seconds the hook is stopped.
    #[serde(default, skip_serializing_if = "unset")]
    pub deadline: i64,
    /// Run a job of the Ansible Automation Platform instead.
    #[serde(default, skip_serializing_if = "unset")]
    pub aap: Option<AapConfig>,
}

/// A job of the Ansible Automation Platform.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AapConfig {
    /// The id of the job's template.
    #[schemars(schema_with = "crate::schema::integer")]
    pub job_template_id: i64,
    /// Where the platform is. Counts together with `tokenSecret`; unset: the controller's setting.
    #[serde(default, skip_serializing_if = "unset")]
    pub url: String,
    /// The secret with the token, under the key `token`, in the plan's namespace.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub token_secret: Option<ObjectReference>,
    /// How many seconds the job may take.
    #[serde(default, skip_serializing_if = "unset")]
    pub timeout: i64,
}

/// What was found out about a hook.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

impl HookSpec {
    /// Whether it says one way of running, and enough about it: a job's template, or an image.
    pub fn is_runnable(&self) -> bool {
        let local = !self.image.trim().is_empty() || !self.playbook.trim().is_empty();
        match &self.aap {
            Some(aap) => !local && aap.job_template_id > 0,
            None => !self.image.trim().is_empty(),
        }
    }

    /// Whether a job's platform is known: by the hook itself, or by the controller's settings.
    pub fn knows_platform(&self, cluster_url: &str, cluster_token_secret: &str) -> bool {
        let Some(aap) = &self.aap else { return true };
        let secret = aap.token_secret.as_ref().and_then(|secret| secret.name.as_deref()).unwrap_or_default();
        let known = |url: &str, secret: &str| !url.trim().is_empty() && !secret.trim().is_empty();
        aap.job_template_id > 0 && (known(&aap.url, secret) || known(cluster_url, cluster_token_secret))
    }
}
