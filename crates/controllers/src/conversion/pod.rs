//! The pod of a conversion: core builds it from the spec; here comes what belongs to the cluster (limits, secrets).
use forklift_api::conversion::ConversionType;
use forklift_api::{Conversion, Settings, labels};
use forklift_core::build::conversion::conversion_pod;
use forklift_core::build::inspection::inspection_pod;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use crate::shell::apply::owner;
use crate::shell::status::ReconcileError;

/// Name of the container.
pub const CONTAINER: &str = "virt-v2v";
/// The annotation that ties the pod to its conversion across namespaces.
const CONVERSION_UID: &str = "forklift.konveyor.io/conversion-uid";

/// Returns the name of a conversion's pod: derived, so that it is made once.
pub fn name(conversion: &Conversion) -> String {
    let name = conversion.name_any();
    let unique: String =
        conversion.uid().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(5).collect();
    let room = 63 - unique.len() - 1;
    format!("{}-{unique}", name.chars().take(room).collect::<String>().trim_end_matches('-'))
}

/// Whether a pod was made for the conversion with this UID.
pub fn belongs(pod: &Pod, uid: Option<&str>) -> bool {
    uid.is_some() && pod.annotations().get(CONVERSION_UID).map(String::as_str) == uid
}

/// Returns the pod of an inspection of this snapshot.
pub fn inspector(conversion: &Conversion, settings: &Settings, snapshot: &str) -> Result<Pod, ReconcileError> {
    let mut spec = conversion.spec.clone();
    if spec.image.is_empty() {
        spec.image.clone_from(&settings.importer_image);
    }
    spec.pod_settings.request_kvm &= !settings.virt_v2v_dont_request_kvm;
    let own: Map<String, Value> = conversion.labels().iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let same_namespace = conversion.namespace().as_deref() == Some(spec.target_namespace.as_str());
    let owner = owner(conversion, true, true).filter(|_| same_namespace).map(|owner| json!(owner));
    let pod = inspection_pod(&name(conversion), &spec, snapshot, &own, owner).json;
    finish(pod, conversion, settings)
}

/// Returns the pod.
pub fn build(conversion: &Conversion, settings: &Settings) -> Result<Pod, ReconcileError> {
    let mut spec = conversion.spec.clone();
    if spec.image.is_empty() {
        let image = if spec.xfs_compatibility { &settings.virt_v2v_image_xfs } else { &settings.virt_v2v_image };
        spec.image.clone_from(image);
    }
    spec.pod_settings.request_kvm &= !settings.virt_v2v_dont_request_kvm;
    let vm = if spec.vm.name.is_empty() { spec.vm.id.clone() } else { spec.vm.name.clone() };
    let mut default = |key: &str, value: &str| {
        spec.settings.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    };
    default("V2V_vmName", &vm);
    default("LOCAL_MIGRATION", if conversion.spec.local_migration { "true" } else { "false" });
    if conversion.spec.xfs_compatibility {
        default("V2V_xfsCompatibility", "true");
    }
    let app = match spec.type_ {
        ConversionType::InPlace | ConversionType::Remote => labels::APP_VIRT_V2V,
        ConversionType::Inspection => {
            default("V2V_remoteInspection", "true");
            labels::APP_VIRT_V2V_INSPECTION
        }
        // it has a pod of its own: `inspector`
        ConversionType::DeepInspection => labels::APP_DEEP_INSPECTION,
    };
    let own: Map<String, Value> = conversion.labels().iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let same_namespace = conversion.namespace().as_deref() == Some(spec.target_namespace.as_str());
    let owner = owner(conversion, true, true).filter(|_| same_namespace).map(|owner| json!(owner));
    let mut pod = conversion_pod(&name(conversion), &spec, &own, owner).json;

    pod["metadata"]["labels"][labels::APP] = json!(app);
    let container = &mut pod["spec"]["containers"][0];
    container["name"] = json!(CONTAINER);
    // In place nothing is read from the source: its credentials stay out of the pod.
    let secret = spec.connection.secret.name.as_deref().filter(|name| !name.is_empty());
    if let Some(secret) = secret.filter(|_| spec.type_ != ConversionType::InPlace) {
        container["envFrom"] = json!([{"prefix": "V2V_", "secretRef": {"name": secret}}]);
        push(
            &mut container["volumeMounts"],
            json!({"name": "secret-volume", "mountPath": "/etc/secret", "readOnly": true}),
        );
        push(&mut pod["spec"]["volumes"], json!({"name": "secret-volume", "secret": {"secretName": secret}}));
    }
    finish(pod, conversion, settings)
}

/// Adds what belongs to the cluster, and what ties the pod to its conversion.
fn finish(mut pod: Value, conversion: &Conversion, settings: &Settings) -> Result<Pod, ReconcileError> {
    // The label holds the conversion's name, not the pod's: watches find the way back by it.
    pod["metadata"]["labels"][labels::CONVERSION] = json!(conversion.name_any());
    pod["metadata"]["annotations"][CONVERSION_UID] = json!(conversion.uid());
    let container = &mut pod["spec"]["containers"][0];
    for (kind, cpu, memory) in [
        ("limits", &settings.virt_v2v_limits_cpu, &settings.virt_v2v_limits_memory),
        ("requests", &settings.virt_v2v_requests_cpu, &settings.virt_v2v_requests_memory),
    ] {
        container["resources"][kind]["cpu"] = json!(cpu);
        container["resources"][kind]["memory"] = json!(memory);
    }
    if pod["spec"]["serviceAccountName"].is_null() && !settings.migration_service_account.is_empty() {
        pod["spec"]["serviceAccountName"] = json!(settings.migration_service_account);
    }
    serde_json::from_value(pod)
        .map_err(|error| ReconcileError::retry(format!("building the conversion's pod: {error}")))
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        other => *other = json!([item]),
    }
}
