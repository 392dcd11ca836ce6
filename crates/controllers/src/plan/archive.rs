//! What a plan leaves: removed when the plan is gone, or when it is archived.
//!
//! Volumes and machines of VMs that were migrated belong to the user and stay: a claim is ours to delete only while no
//! VirtualMachine owns it. The source is never touched here.
use std::collections::BTreeSet;
use std::sync::Arc;

use forklift_api::condition::types;
use forklift_api::{Plan, labels};
use forklift_core::plan::world::Observed;
use forklift_core::plan::{EffectError, ObjectRef};
use kube::{Resource, ResourceExt};

use super::apply::delete_object;
use super::observe::observed;
use crate::caches::Gone;
use crate::context::Context;

/// Attempts to remove what a plan left.
const ATTEMPTS: u32 = 10;

/// Finds objects of plans that were deleted while no controller ran, and has them removed.
pub fn sweep(context: &Context) {
    let mut plans: BTreeSet<(String, String, String)> = BTreeSet::new();
    macro_rules! collect {
        ($($store:ident),+) => {$(
            for object in context.caches.$store.state() {
                let label = |key: &str| object.labels().get(key).cloned();
                if let (Some(namespace), Some(name), Some(uid)) =
                    (label(labels::PLAN_NAMESPACE), label(labels::PLAN_NAME), label(labels::PLAN))
                {
                    plans.insert((namespace, name, uid));
                }
            }
        )+};
    }
    collect!(pods, jobs, claims, volumes, secrets, config_maps, conversions);
    let known: BTreeSet<String> = context.caches.plans.state().iter().filter_map(|plan| plan.uid()).collect();
    for (namespace, name, uid) in plans.into_iter().filter(|(_, _, uid)| !known.contains(uid)) {
        let mut plan = Plan::new(&name, forklift_api::plan::PlanSpec::default());
        plan.metadata.namespace = Some(namespace);
        plan.metadata.uid = Some(uid);
        let _ = context.queues.gone.send(Gone::Plan(Box::new(plan)));
    }
}

/// Removes what a deleted plan left; tries again while the API server does not answer.
pub async fn remove_orphans(context: &Arc<Context>, plan: &Plan) {
    let uid = plan.uid().unwrap_or_default();
    context.forget_plan(&uid);
    for attempt in 0..ATTEMPTS {
        // What is made by a pass that still ran when the plan went shows up in the caches a moment later.
        tokio::time::sleep(std::time::Duration::from_millis(200 << attempt.min(5))).await;
        let left = leftovers(context, &uid, true);
        if left.is_empty() && attempt > 1 {
            return;
        }
        for object in left.iter().filter(|object| !object.deleting) {
            if let Err(error) = delete_object(context, &object.object).await {
                tracing::warn!(plan = plan.name_any(), %error, "an object of a deleted plan could not be removed");
            }
        }
    }
}

/// Removes what helped an archived plan to migrate; disks of VMs that were not migrated go too.
pub async fn archive(context: &Context, plan: &Plan) -> Vec<EffectError> {
    let mut errors = Vec::new();
    let succeeded = plan.status.as_ref().is_some_and(|status| status.conditions.has(types::SUCCEEDED));
    for object in leftovers(context, &plan.uid().unwrap_or_default(), !succeeded) {
        if !object.deleting
            && let Err(error) = delete_object(context, &object.object).await
        {
            errors.push(error);
        }
    }
    errors
}

/// Returns the objects with the label of a plan that are not a migrated VM's.
fn leftovers(context: &Context, uid: &str, disks: bool) -> Vec<Observed> {
    let caches = &context.caches;
    let mut all = Vec::new();
    macro_rules! collect {
        ($($store:ident),+) => {$(
            all.extend(
                caches.$store.state().iter()
                    .filter(|object| object.labels().get(labels::PLAN).is_some_and(|plan| plan == uid))
                    .map(|object| observed(object.as_ref())),
            );
        )+};
    }
    collect!(conversions, jobs, pods, secrets, config_maps);
    for claim in caches.claims.state() {
        let ours = claim.labels().get(labels::PLAN).is_some_and(|plan| plan == uid);
        let of_a_machine = claim.owner_references().iter().any(|owner| owner.kind == "VirtualMachine");
        if ours && !of_a_machine && (disks || claim.labels().contains_key(labels::OVA)) {
            all.push(observed(claim.as_ref()));
        }
    }
    // The appliances' volume serves all VMs of the plan; removing it does not touch the folder behind it.
    all.extend(
        caches
            .volumes
            .state()
            .iter()
            .filter(|volume| volume.labels().get(labels::PLAN).is_some_and(|plan| plan == uid))
            .filter(|volume| {
                let spec = volume.spec.as_ref();
                spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()) == Some("Retain")
            })
            .map(|volume| observed(volume.as_ref())),
    );
    all
}

/// Returns the reference of an object.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectRef {
    observed(object).object
}
