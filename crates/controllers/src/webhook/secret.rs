//! Secrets of providers and hosts: what is filled in, and credentials that are tried before they are stored.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forklift_api::provider::{ProviderSpec, secret_key, setting};
use forklift_api::settings::parse_bool;
use forklift_api::{Provider, ProviderType, Ref, labels};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Webhooks;
use super::plan::read;
use super::review::{Answer, PatchOperation, Request};
use crate::context::secret_data;
use crate::ports::{ConnectError, Endpoint, FoundHost, HostEndpoint};

/// How long an engine may take to show its authority.
const ENGINE: Duration = Duration::from_secs(10);
/// Where an engine shows its authority.
const ENGINE_CA: &str = "/ovirt-engine/services/pki-resource?resource=ca-certificate&format=X509-PEM-CA";

type Data = BTreeMap<String, Vec<u8>>;

/// Fills in what a secret does not say.
pub async fn mutate(hooks: &Webhooks, request: &Request) -> Answer {
    let secret = match request.object::<Secret>() {
        Ok(secret) => secret,
        Err(answer) => return answer,
    };
    let before = merged(&secret);
    let mut data = before.clone();
    let filled = match label(&secret, labels::CREATED_FOR_RESOURCE_TYPE) {
        "providers" => provider(&secret, &mut data).await,
        "hosts" if !label(&secret, labels::CREATED_FOR_RESOURCE).is_empty() => {
            host(hooks, &secret.namespace().unwrap_or_else(|| request.namespace.clone()), &mut data).await
        }
        _ => Ok(false),
    };
    match filled {
        Ok(marked) => Answer::patch(changes(request, &before, &data, marked)),
        Err(answer) => answer,
    }
}

/// Returns the patch that turns the data of a secret into another. What a client wrote as text wins when the server
/// merges it, so it is changed where it stands.
fn changes(request: &Request, before: &Data, after: &Data, marked: bool) -> Vec<PatchOperation> {
    let written = |key: &str| request.object["stringData"].get(key).is_some();
    let stored = |key: &str| request.object["data"].get(key).is_some();
    let changed: Vec<_> = after.iter().filter(|(key, value)| before.get(*key) != Some(value)).collect();
    let mut patch = Vec::new();
    if changed.iter().any(|(key, _)| !written(key)) && !request.object["data"].is_object() {
        patch.push(PatchOperation::set(&["data"], json!({})));
    }
    for (key, value) in changed {
        patch.push(if written(key) {
            PatchOperation::set(&["stringData", key], json!(String::from_utf8_lossy(value)))
        } else {
            PatchOperation::set(&["data", key], json!(STANDARD.encode(value)))
        });
    }
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.extend(written(key).then(|| PatchOperation::remove(&["stringData", key])));
        patch.extend(stored(key).then(|| PatchOperation::remove(&["data", key])));
    }
    if marked {
        patch.push(PatchOperation::set(&["metadata", "labels", labels::CA_CERT_UPDATED], json!(labels::TRUE)));
    }
    patch
}

/// Fills in a provider's secret; returns whether its authorities were added to.
async fn provider(secret: &Secret, data: &mut Data) -> Result<bool, Answer> {
    let insecure = match text(data, secret_key::INSECURE) {
        None => {
            data.insert(secret_key::INSECURE.to_owned(), b"false".to_vec());
            false
        }
        Some(value) => parse_bool(value)
            .ok_or_else(|| Answer::bad(format!("invalid value {value:?} of `{}`", secret_key::INSECURE)))?,
    };
    if label(secret, labels::CREATED_FOR_PROVIDER_TYPE) != ProviderType::OVirt.as_str() || insecure {
        return Ok(false);
    }
    let given = |key: &str| data.get(key).filter(|value| !value.trim_ascii().is_empty());
    let Some(bundle) = given(secret_key::CA).or_else(|| given(secret_key::CA_CERT)).cloned() else {
        return Err(Answer::bad(
            "CA certificate is required for oVirt provider in secure mode (insecureSkipVerify=false).",
        ));
    };
    let engine = engine_authority(text(data, "url").unwrap_or_default(), &bundle).await?;
    let packed = |pem: &[u8]| pem.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>();
    let (known, wanted) = (packed(&bundle), packed(&engine));
    if wanted.is_empty() || known.windows(wanted.len()).any(|part| part == wanted) {
        return Ok(false);
    }
    let mut both = bundle;
    if !both.ends_with(b"\n") {
        both.push(b'\n');
    }
    both.extend(engine);
    data.insert(secret_key::CA.to_owned(), both);
    data.remove(secret_key::CA_CERT);
    Ok(true)
}

/// Reads the authority that an oVirt engine itself was made with.
async fn engine_authority(url: &str, bundle: &[u8]) -> Result<Vec<u8>, Answer> {
    let not_valid = || Answer::bad("The certificate is not valid, can't proceed.");
    let certificates = reqwest::Certificate::from_pem_bundle(bundle).map_err(|_| not_valid())?;
    if certificates.is_empty() {
        return Err(not_valid());
    }
    let parsed = reqwest::Url::parse(url.trim()).ok().filter(|parsed| parsed.scheme() == "https" && parsed.has_host());
    let parsed = parsed.ok_or_else(|| Answer::bad(format!("the URL {url:?} is not an https address")))?;
    let address = parsed.join(ENGINE_CA).map_err(|error| Answer::bad(error.to_string()))?;
    let cannot = |error: reqwest::Error| {
        Answer::bad(format!("the engine's CA certificate cannot be read from {address}: {}", root_cause(&error)))
    };
    let client = reqwest::Client::builder()
        .tls_certs_only(certificates)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ENGINE)
        .build()
        .map_err(cannot)?;
    let answer =
        client.get(address.clone()).send().await.and_then(reqwest::Response::error_for_status).map_err(cannot)?;
    let pem = answer.bytes().await.map_err(cannot)?.to_vec();
    let certificate = reqwest::Certificate::from_pem_bundle(&pem).is_ok_and(|found| !found.is_empty());
    if certificate { Ok(pem) } else { Err(Answer::bad(format!("{address} does not answer with a certificate"))) }
}

/// Fills in a host's secret from its provider's.
async fn host(hooks: &Webhooks, namespace: &str, data: &mut Data) -> Result<bool, Answer> {
    let no_user = text(data, secret_key::USER).is_none_or(str::is_empty);
    let unsaid = !data.contains_key(secret_key::INSECURE);
    if !no_user && !unsaid {
        return Ok(false);
    }
    let owner: Provider = read(&hooks.client, &owner(namespace, data), "provider of the host").await?;
    let esxi = owner.setting(setting::SDK_ENDPOINT) == Some(setting::ESXI);
    if !unsaid && !esxi {
        return Ok(false);
    }
    let own: Secret = read(&hooks.client, &owner.spec.secret, "secret of the host's provider").await?;
    let own = secret_data(&own);
    let mut copied = Vec::new();
    if no_user && esxi {
        copied.extend([secret_key::USER, secret_key::PASSWORD]);
    }
    if unsaid {
        copied.push(secret_key::INSECURE);
    }
    for key in copied {
        if let Some(value) = own.get(key) {
            data.insert(key.to_owned(), value.clone());
        }
    }
    Ok(false)
}

fn owner(namespace: &str, data: &Data) -> ObjectReference {
    let name = text(data, "provider").unwrap_or_default().to_owned();
    ObjectReference { namespace: Some(namespace.to_owned()), name: Some(name), ..ObjectReference::default() }
}

/// Judges a secret.
pub async fn validate(hooks: &Webhooks, request: &Request) -> Answer {
    let secret = match request.object::<Secret>() {
        Ok(secret) => secret,
        Err(answer) => return answer,
    };
    let data = merged(&secret);
    if !request.creates() && is_same(request, &secret, &data) {
        return Answer::allow();
    }
    match label(&secret, labels::CREATED_FOR_RESOURCE_TYPE) {
        "providers" => judge_provider(hooks, request, &secret, data).await,
        "hosts" => judge_host(hooks, request, &secret, data).await,
        _ => Answer::allow(),
    }
}

/// Whether an update leaves alone what is tried: an owner or a finalizer is no reason to log in, and must be let through
/// where the source would refuse the password by now.
fn is_same(request: &Request, secret: &Secret, data: &Data) -> bool {
    let old: Secret = serde_json::from_value(request.old_object.clone()).unwrap_or_default();
    let tells = [labels::CREATED_FOR_RESOURCE_TYPE, labels::CREATED_FOR_RESOURCE, labels::CREATED_FOR_PROVIDER_TYPE];
    merged(&old) == *data && tells.iter().all(|key| label(&old, key) == label(secret, key))
}

async fn judge_provider(hooks: &Webhooks, request: &Request, secret: &Secret, data: Data) -> Answer {
    let has_ca =
        [secret_key::CA, secret_key::CA_CERT].iter().any(|key| text(&data, key).is_some_and(|v| !v.is_empty()));
    // a key of old clients; the one that counts is `insecureSkipVerify`
    match text(&data, "insecure").map(parse_bool) {
        Some(None) => return Answer::bad("invalid value for 'insecure' field"),
        Some(Some(true)) if has_ca => {
            return Answer::bad("received a request to add insecure provider with a CA certificate");
        }
        Some(Some(_)) | None => {}
    }
    let named = label(secret, labels::CREATED_FOR_PROVIDER_TYPE);
    if named.is_empty() {
        return Answer::bad(
            "provider secret is labeled with 'createdForResourceType' but without 'createdForProviderType'",
        );
    }
    let Ok(type_) = named.parse::<ProviderType>() else {
        let options: Vec<&str> = ProviderType::ALL.iter().map(|type_| type_.as_str()).collect();
        return Answer::bad(format!("incorrect 'createdForProviderType' value. Options {options:?}"));
    };
    if type_ == ProviderType::Ova && !request.creates() {
        let old: Secret = serde_json::from_value(request.old_object.clone()).unwrap_or_default();
        if merged(&old).get("url") != data.get("url") {
            return Answer::bad("Updating the URL field of an existing OVA provider is forbidden.");
        }
        return Answer::allow();
    }
    let insecure = text(&data, secret_key::INSECURE).and_then(parse_bool).unwrap_or(false);
    let mut warnings = Vec::new();
    if insecure && has_ca {
        warnings.push(format!("`{}` is true: the certificate in the secret does not count", secret_key::INSECURE));
    }
    let settings =
        [setting::SDK_ENDPOINT].iter().filter_map(|key| Some(((*key).to_owned(), text(&data, key)?.to_owned())));
    let spec = ProviderSpec {
        type_: type_.as_str().to_owned(),
        url: text(&data, "url").unwrap_or_default().to_owned(),
        settings: settings.collect(),
        ..ProviderSpec::default()
    };
    let mut provider = Provider::new(&secret.name_any(), spec);
    provider.metadata.namespace = secret.namespace();
    let endpoint = Endpoint { provider: Arc::new(provider), secret: data, server: None, hosts: Default::default() };
    let testable = !request.dry_run.unwrap_or(false) && hooks.providers.check(&endpoint).is_empty();
    if testable && let Err(error) = hooks.providers.examine(&endpoint).await {
        if matches!(error, ConnectError::Auth(_)) {
            return Answer::forbidden("Invalid credentials");
        }
        tracing::info!(secret = secret.name_any(), %error, "the connection could not be tested; the secret passes");
    }
    Answer::Allow { patch: Vec::new(), warnings }
}

async fn judge_host(hooks: &Webhooks, request: &Request, secret: &Secret, mut data: Data) -> Answer {
    let id = label(secret, labels::CREATED_FOR_RESOURCE).to_owned();
    if id.is_empty() {
        return Answer::bad("host secret is labeled with 'createdForResourceType' but without 'createdForResource'");
    }
    if !data.contains_key(secret_key::USER) {
        return Answer::bad("missing credentials on Host secret");
    }
    if request.dry_run.unwrap_or(false) {
        return Answer::allow();
    }
    let namespace = secret.namespace().unwrap_or_else(|| request.namespace.clone());
    let api: Api<Provider> = Api::namespaced(hooks.client.clone(), &namespace);
    let Ok(Some(owner)) = api.get_opt(text(&data, "provider").unwrap_or_default()).await else {
        return Answer::allow();
    };
    if !owner.provider_type().is_ok_and(|type_| hooks.providers.has_hosts(type_)) {
        return Answer::allow();
    }
    // an inventory that is not there yet is no reason to refuse
    let FoundHost::One(facts) = hooks.providers.host(&owner, &Ref::by_id(id.as_str())).await else {
        return Answer::allow();
    };
    if let Err(answer) = host(hooks, &namespace, &mut data).await {
        return answer;
    }
    let url = format!("https://{}/sdk", text(&data, "ip").unwrap_or_default());
    let endpoint = HostEndpoint { id, url, secret: data, thumbprint: facts.thumbprint, secret_name: String::new() };
    match hooks.providers.test_host(&owner, &endpoint).await {
        Ok(()) => Answer::allow(),
        Err(error) => Answer::forbidden(error.to_string()),
    }
}

/// Returns the data of a secret; what a client wrote as text (`stringData`) is not merged yet while it is reviewed.
fn merged(secret: &Secret) -> Data {
    let mut data = secret_data(secret);
    for (key, value) in secret.string_data.iter().flatten() {
        data.insert(key.clone(), value.clone().into_bytes());
    }
    data
}

fn label<'a>(secret: &'a Secret, key: &str) -> &'a str {
    secret.labels().get(key).map_or("", String::as_str)
}

fn text<'a>(data: &'a Data, key: &str) -> Option<&'a str> {
    data.get(key).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(below) = cause.source() {
        cause = below;
    }
    cause.to_string()
}
