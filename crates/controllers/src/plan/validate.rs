//! Is the plan sound? What it names in the cluster is checked here; what it asks of its VMs by core.
use std::collections::BTreeSet;
use std::net::IpAddr;

use forklift_api::condition::{reasons, types};
use forklift_api::plan::MigrationType;
use forklift_api::step::{POST_HOOK, PRE_HOOK};
use forklift_api::{Category, Condition, Plan, Ref, annotations};
use forklift_core::names::subdomain_error;
use forklift_core::plan::PlanFacts;
use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::facts::{Named, vddk_image};
use super::vms::check_vms;
use super::{record, vddk};
use crate::caches;
use crate::context::{Context, is_set};
use crate::hook::image_reference;
use crate::map::{attachment, check_pair};
use crate::shell::status::{Pass, ReconcileError};

/// The label by which a namespace says how pods are held.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Checks the plan. Returns whether everything was checked; the first blockers keep the rest from being looked at.
pub async fn validate(
    context: &Context,
    pass: &mut Pass<'_, Plan>,
    named: &Named,
    facts: &PlanFacts,
) -> Result<bool, ReconcileError> {
    if !foundations(context, pass, named).await? {
        return Ok(false);
    }
    surroundings(context, pass).await?;
    if record::running(&pass.status.migration).is_none() {
        let image = named.source.as_deref().and_then(|source| vddk_image(context, source));
        if let Some(image) = image.filter(|_| !pass.conditions().has_blocker()) {
            vddk::check(context, pass, facts, &image).await?;
        }
        let conditions = check_vms(context, pass, named, facts).await?;
        conditions.into_iter().for_each(|condition| pass.set(condition));
    }
    Ok(true)
}

/// Checks providers, namespace and maps. Returns whether the rest can be checked.
pub async fn foundations(
    context: &Context,
    pass: &mut Pass<'_, Plan>,
    objects: &Named,
) -> Result<bool, ReconcileError> {
    let plan = pass.object;
    let (conditions, _) = check_pair(context, &plan.spec.provider);
    conditions.into_iter().for_each(|condition| pass.set(condition));
    if pass.conditions().has(types::SOURCE_PROVIDER_NOT_READY) {
        return Ok(false);
    }
    if let Some(why) = subdomain_error(&plan.spec.target_namespace) {
        let reason = if plan.spec.target_namespace.is_empty() { reasons::NOT_SET } else { reasons::NOT_VALID };
        let message = format!("Target namespace is not valid: {why}.");
        pass.set(Condition::new(types::NAMESPACE_NOT_VALID, Category::Critical, message).reason(reason));
    }
    let conversion_only = plan.spec.migration_type() == MigrationType::Conversion;
    let ready =
        |conditions: Option<&forklift_api::Conditions>| conditions.is_some_and(forklift_api::Conditions::is_ready);
    let network = objects.network_map.as_ref();
    map(
        pass,
        &plan.spec.map.network,
        network.map(|map| ready(map.status.as_ref().map(|status| &status.conditions))),
        ("network", types::NETWORK_MAP_REF_NOT_VALID, types::NETWORK_MAP_NOT_READY),
    );
    if !conversion_only {
        let storage = objects.storage_map.as_ref();
        map(
            pass,
            &plan.spec.map.storage,
            storage.map(|map| ready(map.status.as_ref().map(|status| &status.conditions))),
            ("storage", types::STORAGE_REF_NOT_VALID, types::STORAGE_MAP_NOT_READY),
        );
    }
    if let Some(map) = network {
        let foreign: Vec<String> = map
            .spec
            .map
            .iter()
            .map(|pair| &pair.destination)
            .filter(|destination| !destination.namespace.is_empty())
            .filter(|destination| {
                destination.namespace != plan.spec.target_namespace && destination.namespace != "default"
            })
            .map(|destination| format!("{}/{}", destination.namespace, destination.name))
            .collect();
        if !foreign.is_empty() {
            let message = "Networks (NAD) of the network map must be in the target namespace or in `default`.";
            pass.set(
                Condition::new(types::NET_MAP_DESTINATION_NAD_NOT_VALID, Category::Critical, message)
                    .reason(reasons::NOT_VALID)
                    .items(foreign),
            );
        }
    }
    Ok(!pass.conditions().has_blocker())
}

fn map(pass: &mut Pass<'_, Plan>, reference: &ObjectReference, ready: Option<bool>, names: (&str, &str, &str)) {
    let (what, not_valid, not_ready) = names;
    let condition = if !is_set(reference) {
        Condition::new(not_valid, Category::Critical, format!("Map.{what} is not set.")).reason(reasons::NOT_SET)
    } else {
        match ready {
            Some(true) => return,
            Some(false) => {
                let message = format!("Map.{what} does not have the Ready condition.");
                Condition::new(not_ready, Category::Critical, message).reason(reasons::NOT_FOUND)
            }
            None => {
                let name = reference.name.as_deref().unwrap_or_default();
                Condition::new(not_valid, Category::Critical, format!("Map.{what} {name} was not found."))
                    .reason(reasons::NOT_FOUND)
            }
        }
    };
    pass.set(condition);
}

/// Checks what else the plan names in the cluster: transfer network, service account, hooks, image.
pub async fn surroundings(context: &Context, pass: &mut Pass<'_, Plan>) -> Result<(), ReconcileError> {
    let plan = pass.object;
    let spec = &plan.spec;
    if let Some(network) = spec.transfer_network.as_ref().filter(|network| is_set(network)) {
        transfer_network(context, pass, network).await?;
    }
    if !spec.service_account.is_empty()
        && context.caches.namespaces.get(&kube::runtime::reflector::ObjectRef::new(&spec.target_namespace)).is_some()
    {
        let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &spec.target_namespace);
        if api.get_metadata_opt(&spec.service_account).await?.is_none() {
            let message = format!(
                "Service account {} was not found in namespace {}.",
                spec.service_account, spec.target_namespace
            );
            pass.set(
                Condition::new(types::SERVICE_ACCOUNT_NOT_VALID, Category::Critical, message)
                    .reason(reasons::NOT_FOUND),
            );
        }
    }
    hooks(context, pass);
    hook_accounts(context, pass).await?;
    pod_security(context, pass);
    if !spec.virt_v2v_image.is_empty() && !image_reference(&spec.virt_v2v_image) {
        let message = format!("The conversion image {:?} is not a valid image reference.", spec.virt_v2v_image);
        pass.set(
            Condition::new(types::VIRT_V2V_IMAGE_NOT_VALID, Category::Critical, message).reason(reasons::NOT_VALID),
        );
    }
    if spec.conversion_temp_storage_class.is_empty() != spec.conversion_temp_storage_size.is_empty() {
        let message = "conversionTempStorageClass and conversionTempStorageSize belong together: set both or none.";
        pass.set(Condition::new(types::NOT_VALID, Category::Critical, message).reason(reasons::NOT_VALID));
    }
    Ok(())
}

async fn transfer_network(
    context: &Context,
    pass: &mut Pass<'_, Plan>,
    network: &ObjectReference,
) -> Result<(), ReconcileError> {
    let (namespace, name) =
        (network.namespace.as_deref().unwrap_or_default(), network.name.as_deref().unwrap_or_default());
    let not_valid = |reason: &str, message: String| {
        Condition::new(types::TRANSFER_NETWORK_NOT_VALID, Category::Critical, message).reason(reason)
    };
    if namespace != pass.object.spec.target_namespace && namespace != "default" {
        let message = format!("Transfer network {namespace}/{name} must be in the target namespace or in `default`.");
        pass.set(not_valid(reasons::NOT_VALID, message));
        return Ok(());
    }
    let Some(found) = attachment(&context.client, namespace, name).await? else {
        let message = format!("Transfer network {namespace}/{name} was not found.");
        pass.set(not_valid(reasons::NOT_FOUND, message));
        return Ok(());
    };
    match found.annotations.unwrap_or_default().get(annotations::ROUTE).map(|route| route.trim()) {
        Some(annotations::ROUTE_NONE) => {}
        Some(route) if route.parse::<IpAddr>().is_ok() => {}
        Some(route) => {
            let message = format!(
                "The annotation {} of transfer network {namespace}/{name} is {route:?}: neither an address nor `{}`.",
                annotations::ROUTE,
                annotations::ROUTE_NONE
            );
            pass.set(not_valid(reasons::NOT_VALID, message));
        }
        None => {
            let message = format!("Transfer network {namespace}/{name} does not say where its default route leads.");
            let suggestion = format!(
                "Set its annotation {} to the gateway's address, or to `{}`.",
                annotations::ROUTE,
                annotations::ROUTE_NONE
            );
            pass.set(
                Condition::new(types::TRANSFER_NETWORK_MISSING_DEFAULT_ROUTE, Category::Warn, message)
                    .reason(reasons::NOT_VALID)
                    .suggestion(suggestion),
            );
        }
    }
    Ok(())
}

/// Says where pods are held to the restricted profile, which conversions and importers of block volumes do not fit in.
fn pod_security(context: &Context, pass: &mut Pass<'_, Plan>) {
    let plan = pass.object;
    let namespaces: BTreeSet<String> =
        [plan.spec.target_namespace.clone(), plan.namespace().unwrap_or_default()].into();
    let is_restricted = |name: &String| {
        let namespace = context.caches.namespaces.get(&ObjectRef::new(name));
        namespace
            .is_some_and(|namespace| namespace.labels().get(POD_SECURITY).is_some_and(|level| level == "restricted"))
    };
    let restricted: Vec<String> = namespaces.into_iter().filter(is_restricted).collect();
    if !restricted.is_empty() {
        let message = "Pod security is `restricted` where pods of the migration run: they may be refused.";
        let suggestion = format!("Label the namespaces {POD_SECURITY}=privileged while VMs are migrated.");
        pass.set(
            Condition::new(types::RESTRICTED_POD_SECURITY, Category::Warn, message)
                .suggestion(suggestion)
                .items(restricted),
        );
    }
}

async fn hook_accounts(context: &Context, pass: &mut Pass<'_, Plan>) -> Result<(), ReconcileError> {
    let plan = pass.object;
    let namespace = plan.namespace().unwrap_or_default();
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &namespace);
    let mut missing = BTreeSet::new();
    for vm in &plan.spec.vms {
        for used in &vm.hooks {
            let Some(hook) = caches::named(&context.caches.hooks, &used.hook) else { continue };
            // playbooks that AAP runs have no pod of ours
            let account = hook.spec.service_account.trim();
            if account.is_empty() || hook.spec.aap.is_some() || api.get_metadata_opt(account).await?.is_some() {
                continue;
            }
            let what = format!("hook {}: service account {account} in namespace {namespace}", hook.name_any());
            missing.insert(format!("VM {} step {}: {what}", display(&vm.reference), used.step));
        }
    }
    if !missing.is_empty() {
        pass.set(
            Condition::new(
                types::HOOK_SERVICE_ACCOUNT_NOT_VALID,
                Category::Critical,
                "A hook's service account was not found.",
            )
            .reason(reasons::NOT_FOUND)
            .items(missing),
        );
    }
    Ok(())
}

fn hooks(context: &Context, pass: &mut Pass<'_, Plan>) {
    let (mut not_set, mut missing, mut not_ready, mut steps) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for vm in &pass.object.spec.vms {
        for used in &vm.hooks {
            let item = |what: &str| format!("VM {} step {}: {what}", display(&vm.reference), used.step);
            let name = used.hook.name.clone().unwrap_or_default();
            if !is_set(&used.hook) {
                not_set.insert(item("no hook"));
            } else {
                match caches::named(&context.caches.hooks, &used.hook) {
                    None => drop(missing.insert(item(&name))),
                    Some(hook) if !hook.status.as_ref().is_some_and(|status| status.conditions.is_ready()) => {
                        not_ready.insert(item(&hook.name_any()));
                    }
                    Some(_) => {}
                }
            }
            if used.step != PRE_HOOK && used.step != POST_HOOK {
                steps.insert(item("the step must be PreHook or PostHook"));
            }
        }
    }
    let mut say = |type_: &str, reason: &str, message: &str, items: BTreeSet<String>| {
        if !items.is_empty() {
            pass.set(Condition::new(type_, Category::Critical, message).reason(reason).items(items));
        }
    };
    say(types::HOOK_NOT_VALID, reasons::NOT_SET, "A hook is not set.", not_set);
    say(types::HOOK_NOT_VALID, reasons::NOT_FOUND, "A hook was not found.", missing);
    say(types::HOOK_NOT_READY, reasons::NOT_FOUND, "A hook does not have the Ready condition.", not_ready);
    say(types::HOOK_STEP_NOT_VALID, reasons::NOT_VALID, "A hook's step is not valid.", steps);
}

fn display(reference: &Ref) -> &str {
    if reference.name.is_empty() { &reference.id } else { &reference.name }
}
