//! Host: an ESXi host that disks are read from directly, over an address and with credentials of its own.
//!
//! ```text
//! provider ─► host in its inventory ─► address ─► secret ─► state of the host ─► log in, certificate pinned ─► Ready
//! ```
//! A host that is ready is made known to the source ([`Providers::set_direct`]); one that is not, or is gone, is taken
//! back at once. Refused credentials are not tried again until host or secret change.
//!
//! [`Providers::set_direct`]: crate::ports::Providers::set_direct
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use forklift_api::condition::{reasons, types};
use forklift_api::provider::{secret_key, setting};
use forklift_api::{Category, Condition, Host, Provider};
use kube::ResourceExt;
use kube::runtime::controller::Action;

use crate::context::{Context, is_set, secret_data};
use crate::ports::{FoundHost, HostEndpoint, HostError, HostFacts};
use crate::shell::status::{LONG, Pass, ReconcileError, SLOW};

/// How long a login that went well counts.
const HOLDS: Duration = Duration::from_secs(600);

/// What is remembered of hosts between two passes, by the UID of their object.
#[derive(Default)]
pub struct DirectHosts {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Default)]
struct Known {
    /// The UID of the provider and the id of the host that were made known to the source.
    told: Option<(String, String)>,
    /// The last login: for what, when, how it went.
    tested: Option<(String, Instant, Result<(), HostError>)>,
}

impl DirectHosts {
    /// Returns how the last login with this went, as long as that counts: refused credentials for ever.
    fn tested(&self, uid: &str, key: &str) -> Option<Result<(), HostError>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, at, result) = known.get(uid)?.tested.as_ref()?;
        let counts = match result {
            Ok(()) => at.elapsed() < HOLDS,
            Err(HostError::Auth(_)) => true,
            Err(HostError::Certificate(_) | HostError::Failed(_)) => false,
        };
        (of == key && counts).then(|| result.clone())
    }

    fn remember(&self, uid: &str, key: &str, result: &Result<(), HostError>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(uid.to_owned()).or_default().tested = Some((key.to_owned(), Instant::now(), result.clone()));
    }

    /// Tells the source about a host, or takes back what it was told.
    fn tell(&self, context: &Context, uid: &str, now: Option<(String, HostEndpoint)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.entry(uid.to_owned()).or_default();
        let next = now.as_ref().map(|(provider, host)| (provider.clone(), host.id.clone()));
        if let Some((provider, id)) = known.told.take().filter(|old| next.as_ref() != Some(old)) {
            context.providers().set_direct(&provider, &id, None);
        }
        if let Some((provider, host)) = now {
            let id = host.id.clone();
            context.providers().set_direct(&provider, &id, Some(host));
        }
        known.told = next;
    }
}

/// Takes back what the source was told about a host that is gone.
pub fn forget(context: &Context, host: &Host) {
    let uid = host.uid().unwrap_or_default();
    context.hosts.tell(context, &uid, None);
    context.hosts.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
}

/// Looks at a host.
pub async fn reconcile(host: Arc<Host>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    if host.metadata.deletion_timestamp.is_some() {
        forget(&context, &host);
        return Ok(Action::await_change());
    }
    let mut pass = Pass::begin(&context.client, host.as_ref(), jiff::Timestamp::now());
    let result = look(&context, &mut pass).await;
    pass.finish(result).await
}

async fn look(context: &Context, pass: &mut Pass<'_, Host>) -> Result<Action, ReconcileError> {
    let host = pass.object;
    let uid = host.uid().unwrap_or_default();
    let provider = check_provider(context, pass);
    let facts = check_reference(context, pass, provider.as_deref()).await;
    if let Some(condition) = check_address(&host.spec.ip_address) {
        pass.set(condition);
    }
    let secret = check_secret(context, pass, provider.as_deref()).await?;
    let message = "The host's reference, address and credentials have been looked at.";
    pass.set(Condition::new(types::VALIDATED, Category::Advisory, message).reason(reasons::COMPLETED));
    let (Some(provider), Some(facts), Some(credentials), false) =
        (provider, facts, secret, pass.conditions().has_blocker())
    else {
        context.hosts.tell(context, &uid, None);
        return Ok(Action::requeue(SLOW));
    };
    check_state(&facts).into_iter().for_each(|condition| pass.set(condition));
    let endpoint = HostEndpoint {
        id: facts.id.clone(),
        url: address(&host.spec.ip_address),
        secret: credentials.data,
        thumbprint: facts.thumbprint.clone(),
        secret_name: credentials.name,
    };
    let key = format!("{} {} {}", endpoint.url, endpoint.thumbprint, credentials.version);
    let tested = match context.hosts.tested(&uid, &key) {
        Some(result) => result,
        None => {
            let result = context.providers().test_host(&provider, &endpoint).await;
            context.hosts.remember(&uid, &key, &result);
            result
        }
    };
    pass.set(test_condition(&tested));
    if pass.conditions().has_blocker() {
        context.hosts.tell(context, &uid, None);
        let again = matches!(tested, Err(HostError::Auth(_)));
        return Ok(if again { Action::await_change() } else { Action::requeue(SLOW) });
    }
    pass.set(Condition::new(types::READY, Category::Required, "The host is ready."));
    let here = host.namespace() == provider.namespace();
    context.hosts.tell(context, &uid, here.then(|| (provider.uid().unwrap_or_default(), endpoint)));
    Ok(Action::requeue(LONG))
}

fn check_provider(context: &Context, pass: &mut Pass<'_, Host>) -> Option<Arc<Provider>> {
    let reference = &pass.object.spec.provider;
    let critical =
        |type_: &str, reason: &str, message: String| Condition::new(type_, Category::Critical, message).reason(reason);
    if !is_set(reference) {
        pass.set(critical(types::PROVIDER_NOT_VALID, reasons::NOT_SET, "The provider is not set.".to_owned()));
        return None;
    }
    let Some(provider) = context.caches.provider(reference) else {
        let name = reference.name.as_deref().unwrap_or_default();
        let message = format!("The provider {name} was not found.");
        pass.set(critical(types::PROVIDER_NOT_VALID, reasons::NOT_FOUND, message));
        return None;
    };
    if !provider.provider_type().is_ok_and(|type_| context.providers().has_hosts(type_)) {
        let message = format!("Providers of type {:?} have no hosts that are reached directly.", provider.spec.type_);
        pass.set(critical(types::TYPE_NOT_VALID, reasons::TYPE_ERR, message));
        return None;
    }
    if !provider.status.as_ref().is_some_and(|status| status.conditions.is_ready()) {
        let message = format!("The provider {} does not have the Ready condition.", provider.name_any());
        pass.set(critical(types::PROVIDER_NOT_READY, reasons::NOT_FOUND, message));
    }
    Some(provider)
}

async fn check_reference(
    context: &Context,
    pass: &mut Pass<'_, Host>,
    provider: Option<&Provider>,
) -> Option<HostFacts> {
    let reference = &pass.object.spec.reference;
    let wrong =
        |reason: &str, message: &str| Condition::new(types::REF_NOT_VALID, Category::Critical, message).reason(reason);
    if reference.id.is_empty() && reference.name.is_empty() {
        pass.set(wrong(reasons::NOT_SET, "Either `id` or `name` of the host must be set."));
        return None;
    }
    let condition = match context.providers().host(provider?, reference).await {
        FoundHost::One(facts) => return Some(facts),
        FoundHost::None => wrong(reasons::NOT_FOUND, "Referenced host not found."),
        FoundHost::Many => wrong(reasons::AMBIGUOUS, "Host reference is ambiguous: name it by id."),
        // Neither found nor missing: the provider is not ready, or will not be for long.
        FoundHost::NotLoaded => {
            Condition::new(types::PROVIDER_NOT_READY, Category::Critical, "The inventory is being loaded.")
                .reason(reasons::STARTED)
        }
    };
    pass.set(condition);
    None
}

/// Returns what is wrong with the address of a host.
pub fn check_address(address: &str) -> Option<Condition> {
    let wrong =
        |reason: &str, message: String| Condition::new(types::IP_NOT_VALID, Category::Critical, message).reason(reason);
    match address.trim() {
        "" => Some(wrong(reasons::NOT_SET, "The `ipAddress` is not set.".to_owned())),
        text if host_of(text).is_none() => {
            Some(wrong(reasons::MALFORMED, format!("The `ipAddress` {text:?} is neither an address nor a host name.")))
        }
        _ => None,
    }
}

/// Returns the host part of an address as it stands in a URL.
fn host_of(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
    }
    // a port may follow, as hosts behind a translation have one
    let (name, port) = text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let named = !name.is_empty()
        && name.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        });
    (named && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))).then(|| text.to_owned())
}

fn address(ip: &str) -> String {
    format!("https://{}/sdk", host_of(ip.trim()).unwrap_or_default())
}

/// What a host is logged in to with.
struct Credentials {
    data: BTreeMap<String, Vec<u8>>,
    /// Changes with the data.
    version: String,
    /// Name of the secret that importers get a copy of.
    name: String,
}

/// Reads the secret; hosts of a provider that is itself a host take what they lack from the provider's.
async fn check_secret(
    context: &Context,
    pass: &mut Pass<'_, Host>,
    provider: Option<&Provider>,
) -> Result<Option<Credentials>, ReconcileError> {
    let reference = &pass.object.spec.secret;
    let wrong = |reason: &str, message: &str| {
        Condition::new(types::SECRET_NOT_VALID, Category::Critical, message).reason(reason)
    };
    if !is_set(reference) {
        pass.set(wrong(reasons::NOT_SET, "The `secret` is not set."));
        return Ok(None);
    }
    if reference.namespace != pass.object.metadata.namespace {
        // who may make hosts need not be allowed to read the secrets of other namespaces: its data goes to the address
        pass.set(wrong(reasons::DATA_ERR, "The `secret` must be in the namespace of the host."));
        return Ok(None);
    }
    let Some(secret) = context.secret(reference).await? else {
        pass.set(wrong(reasons::NOT_FOUND, "The `secret` was not found."));
        return Ok(None);
    };
    let mut version = secret.resource_version().unwrap_or_default();
    let mut data = secret_data(&secret);
    let mut name = secret.name_any();
    let lacks = |data: &BTreeMap<String, Vec<u8>>, key: &str| data.get(key).is_none_or(|v| v.trim_ascii().is_empty());
    let esxi = provider.is_some_and(|provider| provider.setting(setting::SDK_ENDPOINT) == Some(setting::ESXI));
    if let (true, Some(provider), true) = (esxi, provider, lacks(&data, secret_key::USER))
        && let Some(own) = context.secret(&provider.spec.secret).await?
    {
        version = format!("{version} {}", own.resource_version().unwrap_or_default());
        name = own.name_any();
        let own = secret_data(&own);
        for key in [secret_key::USER, secret_key::PASSWORD, secret_key::INSECURE] {
            if let (true, Some(value)) = (lacks(&data, key), own.get(key)) {
                data.insert(key.to_owned(), value.clone());
            }
        }
    }
    let missing: Vec<&str> =
        [secret_key::USER, secret_key::PASSWORD].into_iter().filter(|key| lacks(&data, key)).collect();
    if !missing.is_empty() {
        pass.set(wrong(reasons::DATA_ERR, "The `secret` lacks required data.").items(missing));
        return Ok(None);
    }
    Ok(Some(Credentials { data, version, name }))
}

/// Returns what the inventory says against using a host.
pub fn check_state(facts: &HostFacts) -> Vec<Condition> {
    let state = |type_: &str, category, message: String| {
        Condition::new(type_, category, message).reason(reasons::STATE_EVALUATED)
    };
    let mut found = Vec::new();
    if facts.in_maintenance {
        found.push(state(types::IN_MAINTENANCE, Category::Critical, "The host is in maintenance mode.".to_owned()));
    }
    if facts.status != "green" {
        let message = format!("The host's overall status is {:?}, expected green.", facts.status);
        found.push(state(types::HOST_STATUS_NOT_GREEN, Category::Warn, message));
    }
    if facts.status == "red" {
        found.push(state(types::NOT_HEALTHY, Category::Critical, "The host's overall status is red.".to_owned()));
    }
    found
}

fn test_condition(tested: &Result<(), HostError>) -> Condition {
    match tested {
        Ok(()) => {
            Condition::new(types::CONNECTION_TEST_SUCCEEDED, Category::Required, "Connection test, succeeded.")
                .reason(reasons::TESTED)
        }
        Err(HostError::Certificate(message)) => {
            Condition::new(types::SECRET_NOT_VALID, Category::Critical, message.clone())
                .reason(reasons::DATA_ERR)
                .suggestion("Put the certificate of the host's authority into the secret, or wait until the inventory knows the host's new certificate.")
        }
        Err(HostError::Auth(message)) => {
            let message = format!("The host refused the credentials: {message}.");
            Condition::new(types::CONNECTION_TEST_FAILED, Category::Critical, message)
                .reason(reasons::TESTED)
                .suggestion("Correct the credentials in the host's secret; they are not tried again before.")
        }
        Err(HostError::Failed(message)) => {
            let message = format!("Could not connect to the host: {message}.");
            Condition::new(types::CONNECTION_TEST_FAILED, Category::Critical, message)
                .reason(reasons::TESTED)
                .suggestion("Check the host's address and that its port 443 can be reached from the cluster.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_hosts() {
        for (text, url) in [
            ("10.0.0.1", "https://10.0.0.1/sdk"),
            ("fd00::1", "https://[fd00::1]/sdk"),
            (" esxi-1.example.org ", "https://esxi-1.example.org/sdk"),
            ("127.0.0.1:8989", "https://127.0.0.1:8989/sdk"),
        ] {
            assert!(check_address(text).is_none(), "{text}");
            assert_eq!(address(text), url);
        }
        for wrong in ["https://esxi", "a b", "esxi/../x", "esxi:0", "esxi:port", "user@esxi", "-a", "[::1]"] {
            let found = check_address(wrong).map(|condition| (condition.type_, condition.reason));
            assert_eq!(found, Some(("IpNotValid".to_owned(), "Malformed".to_owned())), "{wrong}");
        }
    }

    #[test]
    fn refused_credentials_are_remembered_for_ever_and_failures_never() {
        let hosts = DirectHosts::default();
        hosts.remember("u", "k", &Err(HostError::Failed("x".into())));
        assert_eq!(hosts.tested("u", "k"), None);
        hosts.remember("u", "k", &Err(HostError::Auth("x".into())));
        assert_eq!(hosts.tested("u", "k"), Some(Err(HostError::Auth("x".into()))));
        assert_eq!(hosts.tested("u", "other"), None);
        hosts.remember("u", "k", &Ok(()));
        assert_eq!(hosts.tested("u", "k"), Some(Ok(())));
    }
}
