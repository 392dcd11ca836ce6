//! What is on the target before a migration begins: claims and user-defined networks of the namespace.
use forklift_api::condition::types;
use forklift_api::{annotations, labels};
use forklift_core::check::TargetClaim;
use forklift_core::plan::PlanFacts;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;

use crate::context::Context;

/// The label of network attachment definitions that stand for a user-defined network.
const UDN: &str = "k8s.ovn.org/user-defined-network";
/// The network plug-in of OVN-Kubernetes.
const OVN: &str = "ovn-k8s-cni-overlay";

/// Returns the claims of a namespace, by their metadata.
pub async fn claims(context: &Context, namespace: &str) -> Result<Vec<TargetClaim>, kube::Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
    let listed = api.list_metadata(&ListParams::default()).await?;
    let claim = |claim: &kube::core::PartialObjectMeta<PersistentVolumeClaim>| {
        let label = |key: &str| claim.labels().get(key).cloned().unwrap_or_default();
        let shareable = label(labels::SHAREABLE) == "true";
        TargetClaim {
            name: claim.name_any(),
            unfinished: shareable && is_unfinished(context, &label(labels::PLAN), &label(labels::VM_ID)),
            plan_uid: label(labels::PLAN),
            vm_id: label(labels::VM_ID),
            vm_uuid: label(labels::VM_UUID),
            disk_source: claim.annotations().get(annotations::DISK_SOURCE).cloned().unwrap_or_default(),
            shareable,
            deleting: claim.metadata.deletion_timestamp.is_some(),
        }
    };
    Ok(listed.items.iter().map(claim).collect())
}

/// Whether the VM of a plan that a disk was copied for has not succeeded (yet). What no plan knows of is taken as it is.
pub fn is_unfinished(context: &Context, plan_uid: &str, vm_id: &str) -> bool {
    let plans = context.caches.plans.state();
    let plan = plans.iter().find(|plan| plan.metadata.uid.as_deref() == Some(plan_uid));
    let vms = plan.and_then(|plan| plan.status.as_ref()).map(|status| &status.migration.vms);
    let vm = vms.into_iter().flatten().find(|vm| vm.reference().id == vm_id);
    vm.is_some_and(|vm| !vm.conditions.has(types::SUCCEEDED))
}

/// The part of a network's configuration that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NetworkConfig {
    #[serde(rename = "type")]
    type_: String,
    topology: String,
    role: String,
    subnets: String,
    #[serde(rename = "allowPersistentIPs")]
    allow_persistent_ips: bool,
}

/// Fills in what the user-defined networks of the target namespace mean for its VMs.
pub async fn user_defined_networks(client: &Client, facts: &mut PlanFacts) -> Result<(), kube::Error> {
    let kind = GroupVersionKind::gvk("k8s.cni.cncf.io", "v1", "NetworkAttachmentDefinition");
    let resource = ApiResource::from_gvk_with_plural(&kind, "network-attachment-definitions");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &facts.target_namespace, &resource);
    let found = match api.list(&ListParams::default().labels(UDN)).await {
        Ok(found) => found.items,
        // a cluster without Multus
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error),
    };
    let configs = found.iter().filter_map(|nad| nad.data["spec"]["config"].as_str());
    let configs: Vec<NetworkConfig> = configs.filter_map(|text| serde_json::from_str(text).ok()).collect();
    let (unsupported, subnets) = judge(&configs);
    facts.udn_unsupported = unsupported;
    facts.udn_subnets = if facts.udn { subnets } else { Vec::new() };
    Ok(())
}

/// Whether a network is one that VMs cannot use; and the subnets of those that keep addresses.
fn judge(configs: &[NetworkConfig]) -> (bool, Vec<String>) {
    let ovn = || configs.iter().filter(|config| config.type_ == OVN);
    let unsupported = ovn().any(|config| config.topology == "layer3");
    let keeping = ovn().filter(|config| config.allow_persistent_ips && config.role == "primary");
    let subnets = keeping.flat_map(|config| config.subnets.split(',')).map(str::trim).filter(|text| !text.is_empty());
    (unsupported, subnets.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_3_is_unsupported_and_persistent_addresses_name_their_subnets() {
        let read = |text: &str| serde_json::from_str::<NetworkConfig>(text).expect("a configuration");
        let layer2 = r#"{"cniVersion":"1.0.0","name":"n","type":"ovn-k8s-cni-overlay","topology":"layer2","role":"primary",
            "subnets":"10.100.0.0/16, fd00::/64","allowPersistentIPs":true,"netAttachDefName":"vms/n"}"#;
        let layer3 = layer2.replace("layer2", "layer3").replace("true", "false");
        let bridge = r#"{"type":"bridge","topology":"layer3"}"#;
        assert_eq!(judge(&[read(layer2)]), (false, vec!["10.100.0.0/16".to_owned(), "fd00::/64".to_owned()]));
        assert_eq!(judge(&[read(&layer3), read(bridge)]), (true, Vec::new()));
        assert_eq!(judge(&[read(bridge)]), (false, Vec::new()));
    }
}
