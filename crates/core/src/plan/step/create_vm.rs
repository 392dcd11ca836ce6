//! The target VM, and the disks becoming its own.
use super::Turn;
use super::convert::claims;
use crate::build::virtual_machine::virtual_machine;
use crate::machine::{Machine, PowerState};
use crate::plan::Transition;
use crate::plan::effect::Effect;
use crate::plan::state::WaitCode;

/// Creates the VirtualMachine, then makes it the owner of its PVCs.
pub(super) fn create(turn: &Turn<'_>) -> Transition {
    let (state, world) = (turn.state, turn.world);
    let claims = match claims(turn) {
        Ok(claims) => claims,
        Err(reason) => return turn.fail([reason]),
    };
    if let Some(found) = &world.target.vm {
        if !found.seen.is_of(world.plan, world.vm) || !found.seen.is_current(world.plan) {
            return turn.fail([format!(
                "{} exists and does not belong to this migration; it was not touched: set another targetName of the VM in the plan, or remove it",
                found.seen.object
            )]);
        }
        let orphans = claims.iter().filter(|claim| !claim.owners.contains(&found.seen.object.uid));
        let effects: Vec<_> = orphans
            .map(|claim| Effect::Adopt { object: claim.seen.object.clone(), owner: found.seen.object.clone() })
            .collect();
        return if effects.is_empty() {
            turn.go(state.clone())
        } else {
            turn.stay(state.clone(), effects, WaitCode::TargetVm, "the disks to become the VM's own")
        };
    }
    // whoever switched the source on again has data there that the copy lacks, and both sides would run
    if world.plan.source.power && !world.plan.resume_conversion {
        if let Some(away) = turn.source_away() {
            return away;
        }
        match world.source.power {
            PowerState::Off => {}
            PowerState::On => {
                return turn.fail([format!(
                    "source VM {} was switched on after its disks were copied; the target is not created",
                    world.vm.name
                )]);
            }
            PowerState::Unknown => {
                return turn.wait(WaitCode::Provider, "the power state of the source VM is not known");
            }
        }
    } else if world.plan.source.power {
        match (world.source.power, &world.source.unreachable) {
            (PowerState::Off, None) => {}
            (PowerState::On | PowerState::Unknown | PowerState::Off, _) => {
                return turn.wait(WaitCode::PowerOff, "the source VM to be off, so that both sides never run");
            }
        }
    }
    let Some(machine): Option<&Machine> = world.machine else {
        return turn.fail([format!("VM {} is not in the source's inventory any more", world.vm.name)]);
    };
    let names: Vec<_> = claims.iter().map(|claim| claim.seen.object.name.clone()).collect();
    let object = virtual_machine(world.plan, world.vm, machine, state, &names, &turn.target_name());
    let message = format!("VirtualMachine {} to appear", object.name);
    turn.stay(state.clone(), vec![Effect::Ensure(Box::new(object))], WaitCode::TargetVm, message)
}
