//! Providers: what is filled in and what is refused.
use forklift_api::annotations::{HYPERV_PROVIDER_FINALIZER, OVA_PROVIDER_FINALIZER};
use forklift_api::provider::setting;
use forklift_api::{Provider, ProviderType};
use serde_json::json;

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

/// Refuses what cannot be meant.
pub fn validate(request: &Request) -> Answer {
    let provider = match request.object::<Provider>() {
        Ok(provider) => provider,
        Err(answer) => return answer,
    };
    let known = [setting::VCENTER, setting::ESXI];
    match provider.setting(setting::SDK_ENDPOINT) {
        Some(endpoint) if provider.is(ProviderType::VSphere) && !known.contains(&endpoint) => Answer::bad(format!(
            "vSphere provider is set with an invalid SDK endpoint type: {endpoint:?}, expected {} or {}",
            setting::VCENTER,
            setting::ESXI
        )),
        Some(_) | None => Answer::allow(),
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
        assert_eq!(validate(&with(json!({"sdkEndpoint": "esxi"}))), Answer::allow());
        assert!(matches!(validate(&with(json!({"sdkEndpoint": "vsphere"}))), Answer::Deny { code: 400, .. }));
    }

    #[test]
    fn types_with_a_server_get_their_finalizer_once() {
        let ova = json!({"type": "ova", "url": "h:/e", "secret": {}});
        assert_eq!(patch(mutate(&request("CREATE", ova.clone())))[0]["value"], json!(["forklift/ova-provider"]));
        assert_eq!(patch(mutate(&request("UPDATE", ova))), json!([]));
    }
}
