//! Providers: what is filled in and what is refused.
use forklift_api::annotations::{HYPERV_PROVIDER_FINALIZER, OVA_PROVIDER_FINALIZER};
use forklift_api::provider::setting;
use forklift_api::{Provider, ProviderType};
use serde_json::json;

use super::Webhooks;
use super::access::{Action, permit};
use super::review::{Answer, PatchOperation, Request};

/// Fills in what a provider does not say.
pub fn mutate(request: &Request) -> Answer {
    let provider = match request.object::<Provider>() {
        Ok(provider) => provider,
        Err(answer) => return answer,
    };
    let mut patch = Vec::new();
    if provider.is(ProviderType::VSphere) && provider.setting(setting::SDK_ENDPOINT).is_none() {
        if request.object["spec"]["settings"].is_object() {
            patch.push(PatchOperation::set(&["spec", "settings", setting::SDK_ENDPOINT], json!(setting::VCENTER)));
        } else {
            patch.push(PatchOperation::set(&["spec", "settings"], json!({setting::SDK_ENDPOINT: setting::VCENTER})));
        }
    }
    let finalizer = match provider.provider_type() {
        Ok(ProviderType::Ova) => Some(OVA_PROVIDER_FINALIZER),
        Ok(ProviderType::HyperV) => Some(HYPERV_PROVIDER_FINALIZER),
        Ok(_) | Err(_) => None,
    };
    if let Some(finalizer) = finalizer.filter(|_| request.creates()) {
        let mut finalizers = provider.metadata.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|known| known == finalizer) {
            finalizers.push(finalizer.to_owned());
            patch.push(PatchOperation::set(&["metadata", "finalizers"], json!(finalizers)));
        }
    }
    Answer::patch(patch)
}

/// Judges a provider.
pub async fn validate(hooks: &Webhooks, request: &Request) -> Answer {
    judged(hooks, request).await.map_or_else(|answer| answer, |()| Answer::allow())
}

async fn judged(hooks: &Webhooks, request: &Request) -> Result<(), Answer> {
    let provider: Provider = request.object()?;
    meant(&provider)?;
    let Some((namespace, name)) = foreign_secret(request, &provider) else { return Ok(()) };
    permit(&hooks.client, request, Action { verb: "get", group: "", resource: "secrets", namespace, name }).await
}

/// Returns namespace and name of the secret whose content the user of a request would send somewhere, where it is not
/// of the provider's own namespace. Who may not read it may not have it sent to an address of their choice either.
fn foreign_secret<'a>(request: &'a Request, provider: &'a Provider) -> Option<(&'a str, &'a str)> {
    let secret = &provider.spec.secret;
    let (namespace, name) = (secret.namespace.as_deref()?, secret.name.as_deref()?);
    if namespace.is_empty() || namespace == request.namespace {
        return None;
    }
    let (new, old) = (&request.object["spec"], &request.old_object["spec"]);
    let same = !request.creates() && new["secret"] == old["secret"] && new["url"] == old["url"];
    (!same).then_some((namespace, name))
}

/// Refuses what cannot be meant.
fn meant(provider: &Provider) -> Result<(), Answer> {
    let known = [setting::VCENTER, setting::ESXI];
    match provider.setting(setting::SDK_ENDPOINT) {
        Some(endpoint) if provider.is(ProviderType::VSphere) && !known.contains(&endpoint) => {
            Err(Answer::bad(format!(
                "vSphere provider is set with an invalid SDK endpoint type: {endpoint:?}, expected {} or {}",
                setting::VCENTER,
                setting::ESXI
            )))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn request(operation: &str, spec: Value) -> Request {
        let review = json!({"request": {"uid": "u", "operation": operation, "object": {
            "apiVersion": "forklift.konveyor.io/v1beta1", "kind": "Provider", "metadata": {"name": "p"}, "spec": spec,
        }}});
        Request::read(review).expect("a review")
    }

    fn patch(answer: Answer) -> Value {
        match answer {
            Answer::Allow { patch, .. } => serde_json::to_value(patch).unwrap_or_default(),
            Answer::Deny { message, .. } => panic!("{message}"),
        }
    }

    #[test]
    fn a_vsphere_provider_is_a_vcenter_unless_it_says_otherwise() {
        let bare = json!({"type": "vsphere", "url": "u", "secret": {}});
        let path = |answer| patch(answer)[0]["path"].clone();
        assert_eq!(path(mutate(&request("CREATE", bare.clone()))), "/spec/settings");
        let with = |settings: Value| {
            let mut spec = bare.clone();
            spec["settings"] = settings;
            request("UPDATE", spec)
        };
        assert_eq!(path(mutate(&with(json!({"vddkInitImage": "i"})))), "/spec/settings/sdkEndpoint");
        assert_eq!(patch(mutate(&with(json!({"sdkEndpoint": "esxi"})))), json!([]));
        let meant = |settings: Value| meant(&with(settings).object().expect("a provider"));
        assert_eq!(meant(json!({"sdkEndpoint": "esxi"})), Ok(()));
        assert!(matches!(meant(json!({"sdkEndpoint": "vsphere"})), Err(Answer::Deny { code: 400, .. })));
    }

    #[test]
    fn only_what_sends_a_secret_of_another_namespace_needs_leave() {
        let spec = |namespace: &str, url: &str| json!({"type": "vsphere", "url": url, "secret": {"namespace": namespace, "name": "s"}});
        let asks = |operation: &str, new: &Value, old: &Value| {
            let review = json!({"request": {"uid": "u", "operation": operation, "namespace": "mine",
                "object": {"metadata": {"name": "p"}, "spec": new}, "oldObject": {"spec": old}}});
            let request = Request::read(review).expect("a review");
            let provider = request.object().expect("a provider");
            foreign_secret(&request, &provider).map(|(namespace, name)| format!("{namespace}/{name}"))
        };
        let (own, foreign) = (spec("mine", "u"), spec("theirs", "u"));
        assert_eq!(asks("CREATE", &own, &Value::Null), None);
        assert_eq!(asks("CREATE", &spec("", "u"), &Value::Null), None);
        assert_eq!(asks("CREATE", &foreign, &Value::Null).as_deref(), Some("theirs/s"));
        assert_eq!(asks("UPDATE", &foreign, &foreign), None, "whoever writes labels or finalizers sends nothing");
        assert_eq!(asks("UPDATE", &foreign, &own).as_deref(), Some("theirs/s"));
        assert_eq!(asks("UPDATE", &spec("theirs", "evil"), &foreign).as_deref(), Some("theirs/s"));
    }

    #[test]
    fn types_with_a_server_get_their_finalizer_once() {
        let ova = json!({"type": "ova", "url": "h:/e", "secret": {}});
        assert_eq!(patch(mutate(&request("CREATE", ova.clone())))[0]["value"], json!(["forklift/ova-provider"]));
        assert_eq!(patch(mutate(&request("UPDATE", ova))), json!([]));
    }
}
