//! Provider: is it described well, can it be reached, is its inventory complete?
//!
//! ```text
//! type ─► url ─► secret ─► (server of an OVA provider) ─► connection test ─► collector ─► inventory complete ─► Ready
//! ```
//! A change of where the provider is reads the inventory anew; changed credentials only log in anew ([`collectors`]).
//! Refused credentials are not tried again until something changes, so that no account is locked. The status is written
//! on every pass, whatever it found.
pub mod collectors;

use std::sync::Arc;

use forklift_api::annotations::OVA_PROVIDER_FINALIZER;
use forklift_api::condition::{reasons, types};
use forklift_api::provider::{ProviderPhase, secret_key};
use forklift_api::{Category, Condition, Provider, ProviderType};
use forklift_core::build::ova_server::parse_url;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};

pub use collectors::{Collectors, Key};

use crate::context::{Context, is_set, secret_data};
use crate::ova_server;
use crate::ports::{ConnectError, Endpoint, Examination};
use crate::shell::apply::set_finalizer;
use crate::shell::status::{LONG, Pass, ReconcileError, SLOW};

/// Stops what runs for a provider that is gone.
pub fn forget(context: &Context, provider: &Provider) {
    context.collectors.forget(&provider.uid().unwrap_or_default());
    context.providers().forget(provider);
}

/// Looks at a provider.
pub async fn reconcile(provider: Arc<Provider>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let namespace = provider.namespace().unwrap_or_default();
    let api: Api<Provider> = Api::namespaced(context.client.clone(), &namespace);
    if provider.metadata.deletion_timestamp.is_some() {
        forget(&context, &provider);
        if !ova_server::remove(&context, &provider).await? {
            return Ok(Action::requeue(SLOW));
        }
        set_finalizer(&api, provider.as_ref(), OVA_PROVIDER_FINALIZER, false).await?;
        return Ok(Action::await_change());
    }
    if provider.is(ProviderType::Ova) && set_finalizer(&api, provider.as_ref(), OVA_PROVIDER_FINALIZER, true).await? {
        // The change comes back as an event.
        return Ok(Action::requeue(SLOW));
    }
    context.providers().refresh(&provider);
    let mut pass = Pass::begin(&context.client, provider.as_ref(), jiff::Timestamp::now());
    pass.status.phase = Some(ProviderPhase::Staging);
    let result = look(&context, provider.clone(), &mut pass).await;
    pass.finish(result).await
}

async fn look(
    context: &Arc<Context>,
    provider: Arc<Provider>,
    pass: &mut Pass<'_, Provider>,
) -> Result<Action, ReconcileError> {
    for condition in check_spec(&provider) {
        pass.set(condition);
    }
    let secret = read_secret(context, &provider, pass).await?;
    if pass.conditions().has_blocker() {
        pass.status.phase = Some(ProviderPhase::ValidationFailed);
        context.collectors.stop(&provider.uid().unwrap_or_default());
        return Ok(Action::requeue(SLOW));
    }
    let (data, version) = secret.unwrap_or_default();
    let mut endpoint = Endpoint { provider: provider.clone(), secret: data, server: None, hosts: Default::default() };
    for condition in context.providers().check(&endpoint) {
        pass.set(condition);
    }
    if pass.conditions().has_blocker() {
        pass.status.phase = Some(ProviderPhase::ValidationFailed);
        context.collectors.stop(&provider.uid().unwrap_or_default());
        return Ok(Action::requeue(SLOW));
    }
    let data = &endpoint.secret;
    let insecure = data.get(secret_key::INSECURE).is_some_and(|value| value.trim_ascii() == b"true");
    if insecure && !provider.is(ProviderType::OpenShift) && !provider.is(ProviderType::OpenStack) {
        pass.set(
            Condition::new(types::CONNECTION_INSECURE, Category::Warn, "TLS certificates are not verified.")
                .reason(reasons::SKIP_TLS_VERIFICATION),
        );
    }
    if provider.is(ProviderType::Ova) {
        match ova_server::ensure(context, &provider).await? {
            ova_server::Server::Ready { url, service } => {
                endpoint.server = Some(url);
                pass.status.service = Some(service);
            }
            ova_server::Server::Starting(message) => {
                pass.set(starting(&message));
                return Ok(Action::requeue(SLOW));
            }
            ova_server::Server::Broken(message) => {
                pass.set(test_failed(&message));
                pass.status.phase = Some(ProviderPhase::ValidationFailed);
                return Ok(Action::requeue(SLOW));
            }
        }
    }
    let key = Key::of(&endpoint);
    pass.status.secret_resource_version.clone_from(&version);
    match connect(context, &endpoint, &key, &version).await {
        Ok(found) => {
            pass.set(
                Condition::new(types::CONNECTION_TEST_SUCCEEDED, Category::Required, "Connection test, succeeded.")
                    .reason(reasons::TESTED),
            );
            found.conditions.into_iter().for_each(|condition| pass.set(condition));
            pass.status.fingerprint = found.fingerprint.unwrap_or_default();
        }
        Err(ConnectError::Starting(message)) => {
            pass.set(starting(&message));
            return Ok(Action::requeue(SLOW));
        }
        Err(ConnectError::Failed(message)) => {
            pass.set(test_failed(&message));
            pass.status.phase = Some(ProviderPhase::ConnectionFailed);
            return Ok(Action::requeue(SLOW));
        }
        Err(ConnectError::Auth(message)) => {
            pass.set(
                Condition::new(types::CONNECTION_AUTH_FAILED, Category::Critical, message)
                    .reason(reasons::TESTED)
                    .suggestion("Correct the credentials in the provider's secret; they are not tried again before."),
            );
            pass.status.phase = Some(ProviderPhase::ConnectionFailed);
            return Ok(Action::await_change());
        }
    }
    context.collectors.ensure(context, &endpoint, key);
    pass.set(
        Condition::new(types::VALIDATED, Category::Advisory, "Validation has been completed.")
            .reason(reasons::COMPLETED),
    );
    if let Some(failure) = context.providers().failure(&provider) {
        pass.set(Condition::new(types::INVENTORY_ERROR, Category::Warn, failure));
    }
    if !context.providers().loaded(&provider) {
        pass.set(
            Condition::new(types::LOAD_INVENTORY, Category::Advisory, "Loading the inventory.")
                .reason(reasons::STARTED),
        );
        return Ok(Action::requeue(SLOW));
    }
    pass.set(
        Condition::new(types::INVENTORY_CREATED, Category::Required, "The inventory has been loaded.")
            .reason(reasons::COMPLETED),
    );
    pass.set(Condition::new(types::READY, Category::Required, "The provider is ready."));
    pass.status.phase = Some(ProviderPhase::Ready);
    Ok(Action::requeue(LONG))
}

/// Tests the connection, unless it was found good a while ago and the collector says nothing else, or the source refused
/// these very credentials.
async fn connect(
    context: &Context,
    endpoint: &Endpoint,
    key: &Key,
    version: &str,
) -> Result<Examination, ConnectError> {
    let provider = &endpoint.provider;
    let uid = provider.uid().unwrap_or_default();
    if let Some(message) = context.collectors.refused(&uid, key).or_else(|| refused_before(provider, version)) {
        context.collectors.refuse(&uid, key.clone(), &message);
        return Err(ConnectError::Auth(message));
    }
    if context.providers().failure(provider).is_none()
        && let Some(found) = context.collectors.examined(&uid, key)
    {
        return Ok(found);
    }
    match context.providers().examine(endpoint).await {
        Ok(found) => {
            context.collectors.remember(&uid, key.clone(), &found);
            Ok(found)
        }
        Err(error) => {
            if let ConnectError::Auth(message) = &error {
                context.collectors.refuse(&uid, key.clone(), message);
            }
            Err(error)
        }
    }
}

/// Returns the source's words when the stored status says that it refused this spec with this version of the secret: a
/// controller that starts is no reason to try again.
fn refused_before(provider: &Provider, version: &str) -> Option<String> {
    let status = provider.status.as_ref()?;
    let same = provider.has_reconciled() && status.secret_resource_version == version && !version.is_empty();
    let found = status.conditions.iter().find(|condition| condition.type_ == types::CONNECTION_AUTH_FAILED);
    found.filter(|condition| same && condition.is_true()).map(|condition| condition.message.clone())
}

fn starting(message: &str) -> Condition {
    Condition::new(types::WAITING_FOR_SERVICE, Category::Advisory, message).reason(reasons::STARTED)
}

fn test_failed(message: &str) -> Condition {
    Condition::new(types::CONNECTION_TEST_FAILED, Category::Critical, message).reason(reasons::TESTED)
}

/// Reads the secret; says what is wrong with it. Sources of files and the host need none.
async fn read_secret(
    context: &Context,
    provider: &Provider,
    pass: &mut Pass<'_, Provider>,
) -> Result<Option<(std::collections::BTreeMap<String, Vec<u8>>, String)>, ReconcileError> {
    let needed = !provider.is_host() && !provider.is(ProviderType::Ova);
    let not_valid = |reason: &str, message: String| {
        Condition::new(types::SECRET_NOT_VALID, Category::Critical, message).reason(reason)
    };
    let reference = &provider.spec.secret;
    if !is_set(reference) {
        if needed {
            pass.set(not_valid(reasons::NOT_SET, "The provider's secret is not set.".to_owned()));
        }
        return Ok(None);
    }
    match context.secret(reference).await? {
        Some(secret) => Ok(Some((secret_data(&secret), secret.resource_version().unwrap_or_default()))),
        None => {
            if needed {
                let name = format!(
                    "{}/{}",
                    reference.namespace.as_deref().unwrap_or(""),
                    reference.name.as_deref().unwrap_or("")
                );
                pass.set(not_valid(reasons::NOT_FOUND, format!("The provider's secret {name} was not found.")));
            }
            Ok(None)
        }
    }
}

/// Returns what is wrong with a provider's spec.
pub fn check_spec(provider: &Provider) -> Vec<Condition> {
    let Ok(type_) = provider.provider_type() else {
        let message = format!("The provider type {:?} is not supported.", provider.spec.type_);
        return vec![
            Condition::new(types::PROVIDER_TYPE_NOT_SUPPORTED, Category::Critical, message)
                .reason(reasons::NOT_SUPPORTED),
        ];
    };
    let url = provider.spec.url.trim();
    let not_valid = |reason: &str, message: String| {
        vec![Condition::new(types::URL_NOT_VALID, Category::Critical, message).reason(reason)]
    };
    match type_ {
        ProviderType::OpenShift if url.is_empty() => Vec::new(),
        _ if url.is_empty() => not_valid(reasons::NOT_SET, "The provider URL is not set.".to_owned()),
        ProviderType::Ova => match parse_url(url) {
            Ok(_) => Vec::new(),
            Err(error) => not_valid(reasons::MALFORMED, format!("The provider URL is not valid: {error}.")),
        },
        ProviderType::HyperV | ProviderType::Ec2 => Vec::new(),
        ProviderType::OpenShift
        | ProviderType::VSphere
        | ProviderType::OVirt
        | ProviderType::OpenStack
        | ProviderType::Nutanix => match reqwest::Url::parse(url) {
            Ok(parsed) if parsed.has_host() => Vec::new(),
            Ok(_) => not_valid(reasons::MALFORMED, format!("The provider URL {url:?} has no host.")),
            Err(error) => not_valid(reasons::MALFORMED, format!("The provider URL {url:?} is not valid: {error}.")),
        },
    }
}
