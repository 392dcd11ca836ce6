//! What a plan asks of its VMs: looked up here, checked by `forklift_core::check`.
use forklift_api::plan::PlanVM;
use forklift_api::{Plan, Provider};
use forklift_core::check::{self, Facts, Found, TargetVm, VmFacts};
use forklift_core::machine::Machine;
use forklift_core::plan::PlanVm;
use kube::api::{DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::{Api, ResourceExt};

use super::facts::{Named, resolve, resolve_vm};
use super::record;
use crate::caches::VirtualMachine;
use crate::context::Context;
use crate::ports;
use crate::shell::status::{Pass, ReconcileError};

/// A VM as far as it was looked up.
struct Looked {
    spec: PlanVm,
    machine: Option<Machine>,
    found: ports::Found,
    succeeded: bool,
    started: bool,
}

/// Checks the VMs. A run that has begun is not disturbed: what it lacks its own steps say.
pub async fn check_vms(context: &Context, pass: &mut Pass<'_, Plan>, named: &Named) -> Result<(), ReconcileError> {
    let Some(source) = named.source.as_deref() else { return Ok(()) };
    if record::running(&pass.status.migration).is_some() {
        return Ok(());
    }
    let plan = pass.object;
    let mut looked = Vec::with_capacity(plan.spec.vms.len());
    for vm in &plan.spec.vms {
        let one = look(context, pass, source, vm).await;
        // The inventory is incomplete: nobody knows which VMs there are, and the provider's condition says so.
        if one.found == ports::Found::NotLoaded {
            return Ok(());
        }
        looked.push(one);
    }
    let facts = resolve(context, plan, named, None).await;
    let vms: Vec<VmFacts<'_>> = looked
        .iter()
        .map(|one| VmFacts {
            spec: &one.spec,
            found: match (&one.machine, &one.found) {
                (Some(machine), _) => Found::Machine(machine),
                (None, ports::Found::Many) => Found::Ambiguous,
                (None, _) if one.spec.id.is_empty() && one.spec.name.is_empty() => Found::NotSet,
                (None, ports::Found::One(_) | ports::Found::None | ports::Found::NotLoaded) => Found::Missing,
            },
            succeeded: one.succeeded,
            started: one.started,
        })
        .collect();
    let target_vms = if vms.iter().all(|vm| vm.succeeded) { Vec::new() } else { target_vms(context).await? };
    for condition in check::check(&Facts { plan: &facts, vms: &vms, target_vms: &target_vms }) {
        pass.set(condition);
    }
    Ok(())
}

async fn look(context: &Context, pass: &Pass<'_, Plan>, source: &Provider, vm: &PlanVM) -> Looked {
    let found = context.providers().find(source, ports::Thing::Vm, &vm.reference).await;
    let spec = resolve_vm(context, pass.object, Some(source), vm).await;
    let machine = match (&found, context.providers().source(source)) {
        (ports::Found::One(_), Ok(port)) => port.machine(&spec.id).await.ok(),
        (ports::Found::One(_), Err(_)) | (ports::Found::None | ports::Found::Many | ports::Found::NotLoaded, _) => None,
    };
    let before = pass.status.migration.vms.iter().find(|status| {
        let reference = status.reference();
        if reference.id.is_empty() { reference.name == spec.name } else { reference.id == spec.id }
    });
    Looked {
        succeeded: before.is_some_and(|status| status.conditions.has(forklift_api::condition::types::SUCCEEDED)),
        started: before.is_some(),
        spec,
        machine,
        found,
    }
}

/// The VMs of the target cluster. Without KubeVirt there are none.
async fn target_vms(context: &Context) -> Result<Vec<TargetVm>, ReconcileError> {
    // whole objects: the watched slice of a VM has no interfaces
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &ApiResource::erase::<VirtualMachine>(&()));
    let list = match api.list(&ListParams::default()).await {
        Ok(list) => list.items,
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let label = |vm: &DynamicObject, key: &str| vm.labels().get(key).cloned().unwrap_or_default();
    Ok(list
        .iter()
        .map(|vm| TargetVm {
            namespace: vm.namespace().unwrap_or_default(),
            name: vm.name_any(),
            macs: macs(vm),
            plan_uid: label(vm, forklift_api::labels::PLAN),
            vm_id: label(vm, forklift_api::labels::VM_ID),
        })
        .collect())
}

/// The MAC addresses that a VM asks for.
fn macs(vm: &DynamicObject) -> Vec<String> {
    let interfaces = vm.data.pointer("/spec/template/spec/domain/devices/interfaces").and_then(|list| list.as_array());
    let macs = interfaces.into_iter().flatten().filter_map(|interface| interface["macAddress"].as_str());
    macs.filter(|mac| !mac.is_empty()).map(str::to_owned).collect()
}
