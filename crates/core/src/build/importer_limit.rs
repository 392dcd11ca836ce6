//! An importer's share of the bandwidth: a config map whose file it follows while it copies.
use forklift_api::worker::LIMIT_FILE;
use forklift_api::{annotations, labels};
use serde_json::json;

use super::vm_labels;
use crate::names::{self, Kind};
use crate::plan::bandwidth::{Transfer, shares};
use crate::plan::effect::TargetObject;
use crate::plan::world::{PlanFacts, PlanVm};
use crate::source::DiskSource;

/// Returns the share of a disk's importers as it is before anybody shares; none where nothing is shared.
pub fn importer_limit(plan: &PlanFacts, vm: &PlanVm, index: usize, source: &DiskSource) -> Option<TargetObject> {
    if plan.limits.is_none() {
        return None;
    }
    let transfer = Transfer {
        provider: plan.provider.uid.clone(),
        host: source.host.clone(),
        datastore: source.datastore.clone(),
        own: plan.bandwidth,
        limits: plan.limits,
    };
    let alone = shares(std::slice::from_ref(&transfer)).into_iter().next().flatten();
    let mut labels = vm_labels(plan, vm);
    labels.insert(labels::APP.into(), json!(labels::APP_IMPORTER_LIMIT));
    Some(TargetObject::new(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": name(plan, vm, index), "namespace": plan.target_namespace, "labels": labels,
            "annotations": {
                annotations::TRANSFER_PROVIDER: transfer.provider, annotations::TRANSFER_HOST: transfer.host,
                annotations::TRANSFER_DATASTORE: transfer.datastore
            }
        },
        "data": {LIMIT_FILE: text(alone)}
    })))
}

/// Returns the name of the share of a disk's importers.
pub fn name(plan: &PlanFacts, vm: &PlanVm, index: usize) -> String {
    names::derived(plan, vm, Kind::Limit, index)
}

/// Returns a share as importers read it.
pub fn text(share: Option<u64>) -> String {
    share.map_or_else(|| "unlimited".to_owned(), |share| format!("{}/s", share.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::bandwidth::Limits;
    use forklift_api::worker::{ImportSource, VsphereDisk};

    #[test]
    fn a_share_is_made_where_something_is_shared() {
        let source = DiskSource {
            source: ImportSource::Vsphere(VsphereDisk::default()),
            identity: String::new(),
            virtual_size: None,
            secret: None,
            host: "host-9".into(),
            datastore: "fast".into(),
        };
        let vm = PlanVm { id: "vm-1".into(), ..PlanVm::default() };
        let mut plan = PlanFacts { bandwidth: Some(500), ..PlanFacts::default() };
        assert_eq!(importer_limit(&plan, &vm, 0, &source), None, "its own limit is no reason");
        plan.limits = Limits { host: Some(300), ..Limits::default() };
        let map = importer_limit(&plan, &vm, 0, &source).expect("a share").json;
        assert_eq!(map["data"], json!({"limit": "300/s"}));
        assert_eq!(map["metadata"]["annotations"][annotations::TRANSFER_HOST], "host-9");
        assert_eq!((text(None), text(Some(0))), ("unlimited".to_owned(), "1/s".to_owned()));
    }
}
