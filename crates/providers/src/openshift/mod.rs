//! OpenShift: any cluster with KubeVirt, as the destination of migrations.
//!
//! Nothing is collected: each request lists the cluster, so that storage classes
//! and networks are as they are. The provider without a URL is the cluster that
//! we run on; one of those outside the controllers' namespace is *restricted*:
//! it sees what the caller's own token sees, in its own namespace only.

pub mod auth;
mod live;
mod model;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forklift_api::provider::secret_key;
use forklift_core::source::{Capabilities, Source};
use forklift_inventory::{ProviderEntry, ProviderSpec};
use serde_json::json;

use crate::{ConnectError, Context, Endpoint, Opened, ProviderKind, Thing};

pub use model::SPEC;

/// The provider type.
pub struct OpenShift;

#[async_trait]
impl ProviderKind for OpenShift {
    fn spec(&self) -> &'static ProviderSpec {
        &SPEC
    }

    fn capabilities(&self) -> Option<Capabilities> {
        None
    }

    fn collection(&self, thing: Thing) -> &'static str {
        match thing {
            Thing::Vm => "vms",
            Thing::Network => "networkattachmentdefinitions",
            Thing::Storage => "storageclasses",
        }
    }

    async fn test(&self, endpoint: &Endpoint, context: &Context) -> Result<(), ConnectError> {
        live::test(&client(endpoint, context)?).await
    }

    fn open(&self, endpoint: &Endpoint, context: &Context) -> Result<Opened, ConnectError> {
        let provider = &endpoint.provider;
        let restricted = provider.is_restricted_host(&context.namespace);
        let access = if restricted {
            let namespace = provider.metadata.namespace.clone().unwrap_or_default();
            live::Access::Caller { config: context.config.clone().map(Box::new), namespace }
        } else {
            live::Access::Own(client(endpoint, context)?)
        };
        let uid = provider.metadata.uid.clone().unwrap_or_default();
        Ok(Opened::Live(Arc::new(live::Cluster::new(access, uid))))
    }

    fn source(&self, _: Arc<ProviderEntry>, _: &Endpoint, _: &Context) -> Option<Arc<dyn Source>> {
        None
    }
}

/// Returns a client of the provider's cluster.
fn client(endpoint: &Endpoint, context: &Context) -> Result<kube::Client, ConnectError> {
    if endpoint.provider.is_host() {
        return Ok(context.client.clone());
    }
    let failed = |e: &dyn std::fmt::Display| ConnectError::Failed(format!("cannot make a client of the cluster: {e}"));
    let ca = endpoint.secret.get("ca.crt").or_else(|| endpoint.secret.get(secret_key::CA_CERT));
    let insecure = endpoint.secret_text(secret_key::INSECURE).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    let token = endpoint.secret_text(secret_key::TOKEN).unwrap_or_default();
    let mut cluster = json!({"server": endpoint.provider.spec.url, "insecure-skip-tls-verify": insecure});
    if let (Some(ca), false) = (ca, insecure) {
        cluster["certificate-authority-data"] = STANDARD.encode(ca).into();
    }
    let kubeconfig = serde_json::from_value(json!({
        "current-context": "it", "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "clusters": [{"name": "it", "cluster": cluster}], "users": [{"name": "it", "user": {"token": token}}],
    }))
    .map_err(|e| failed(&e))?;
    let config = live::config(kubeconfig).map_err(|e| failed(&e))?;
    kube::Client::try_from(config).map_err(|e| failed(&e))
}
