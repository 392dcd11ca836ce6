//! What a plan asks of its VMs: looked up here, checked by `forklift_core::check`.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition, Plan, Provider, Ref, labels};
use forklift_core::check;
use forklift_core::machine::Machine;
use forklift_core::plan::{PlanFacts, PlanVm};
use forklift_core::source::{Source, SourceError};
use kube::ResourceExt;

use super::facts::{Named, resolve_vm};
use super::sight::Sight;
use super::{stale, target};
use crate::caches::VirtualMachine;
use crate::context::Context;
use crate::ports::{Found, Thing};
use crate::shell::status::{Pass, ReconcileError};

/// Checks the VMs. What nobody can tell at the moment keeps the plan from being ready; it is not called missing.
pub async fn check_vms(
    context: &Context,
    pass: &Pass<'_, Plan>,
    named: &Named,
    facts: &PlanFacts,
) -> Result<Vec<Condition>, ReconcileError> {
    let source = named.source.as_deref();
    let port = source.and_then(|source| context.providers().source(source).ok());
    let mut looked_up: Vec<(PlanVm, Result<Machine, Lookup>, bool, bool)> = Vec::new();
    let mut seen = Vec::with_capacity(pass.object.spec.vms.len());
    for vm in &pass.object.spec.vms {
        let known = pass.status.migration.find_vm(&vm.reference);
        let succeeded = known.is_some_and(|vm| vm.conditions.has(types::SUCCEEDED));
        let planned = resolve_vm(context, pass.object, source, vm).await;
        let machine = look_up(context, source, port.as_deref(), &vm.reference).await;
        seen.push((vm.reference.clone(), Sight::of(&machine)));
        looked_up.push((planned, machine, succeeded, known.is_some()));
    }
    context.plan_memory(&facts.uid).saw(seen);
    let unread: Vec<String> = looked_up
        .iter()
        .filter(|(_, machine, ..)| matches!(machine, Err(Lookup::Unknown)))
        .map(|(vm, ..)| if vm.name.is_empty() { vm.id.clone() } else { vm.name.clone() })
        .collect();
    let vms: Vec<check::VmFacts<'_>> = looked_up
        .iter()
        .filter_map(|(spec, machine, succeeded, started)| {
            let found = match machine {
                Ok(machine) => check::Found::Machine(machine),
                Err(Lookup::NotSet) => check::Found::NotSet,
                Err(Lookup::Missing) => check::Found::Missing,
                Err(Lookup::Ambiguous) => check::Found::Ambiguous,
                Err(Lookup::Unknown) => return None,
            };
            Some(check::VmFacts { spec, found, succeeded: *succeeded, started: *started })
        })
        .collect();
    let target_vms: Vec<check::TargetVm> =
        context.caches.machines.state().iter().map(|machine| target_vm(machine)).collect();
    let target_claims = target::claims(context, &facts.target_namespace).await?;
    let mut facts = facts.clone();
    if looked_up.iter().any(|(vm, ..)| vm.instance_type.is_some()) {
        facts.instance_types = context.preferences.instance_types(context, &facts.target_namespace).await;
    }
    target::user_defined_networks(&context.client, &mut facts).await?;
    if let (true, Some(port)) = (stale::wanted(pass.object), &port) {
        let pending = vms.iter().filter(|vm| !vm.started).filter_map(|vm| match vm.found {
            check::Found::Machine(machine) => Some(machine),
            check::Found::NotSet | check::Found::Missing | check::Found::Ambiguous => None,
        });
        stale::remove(context, port.as_ref(), pending).await;
    }
    let found = check::Facts { plan: &facts, vms: &vms, target_vms: &target_vms, target_claims: &target_claims };
    let mut conditions = check::check(&found);
    if !unread.is_empty() {
        // Neither found nor missing: the plan is not ready as long as nobody knows.
        let message = "The inventory cannot tell about some VMs at the moment.";
        conditions.push(
            Condition::new(types::SOURCE_PROVIDER_NOT_READY, Category::Critical, message)
                .reason(reasons::NOT_FOUND)
                .items(unread),
        );
    }
    Ok(conditions)
}

/// Looks a VM up in the inventory.
pub async fn look_up(
    context: &Context,
    source: Option<&Provider>,
    port: Option<&dyn Source>,
    reference: &Ref,
) -> Result<Machine, Lookup> {
    if reference.id.is_empty() && reference.name.is_empty() {
        return Err(Lookup::NotSet);
    }
    let (Some(source), Some(port)) = (source, port) else { return Err(Lookup::Unknown) };
    let id = match context.providers().find(source, Thing::Vm, reference).await {
        Found::One(found) => found.id,
        Found::None => return Err(Lookup::Missing),
        Found::Many => return Err(Lookup::Ambiguous),
        Found::NotLoaded => return Err(Lookup::Unknown),
    };
    port.machine(&id).await.map_err(|error| match error {
        SourceError::NotFound(_) => Lookup::Missing,
        _ => Lookup::Unknown,
    })
}

/// What the look-up of a VM led to, if not to a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// Neither id nor name is given.
    NotSet,
    /// There is no such VM.
    Missing,
    /// There are several.
    Ambiguous,
    /// Nobody knows at the moment.
    Unknown,
}

fn target_vm(machine: &VirtualMachine) -> check::TargetVm {
    let label = |key: &str| machine.labels().get(key).cloned().unwrap_or_default();
    check::TargetVm {
        namespace: machine.namespace().unwrap_or_default(),
        name: machine.name_any(),
        macs: machine.macs().map(str::to_ascii_lowercase).collect(),
        plan_uid: label(labels::PLAN),
        vm_id: label(labels::VM_ID),
    }
}
