//! The target VM, and the disks becoming its own.
use super::Turn;
use super::convert::claims;
use crate::build::virtual_machine::virtual_machine;
use crate::machine::{Machine, PowerState};
use crate::plan::Transition;
use crate::plan::effect::Effect;
use crate::plan::state::{VmState, WaitCode};

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
    let whole = with_shared(turn, machine, names);
    let mut next = state.clone();
    for warning in whole.warnings {
        if !next.warnings.contains(&warning) {
            next.warnings.push(warning);
        }
    }
    let shown = VmState { detected_boot_disk: whole.boot, ..next.clone() };
    let object = virtual_machine(world.plan, world.vm, &whole.machine, &shown, &whole.claims, &turn.target_name());
    let message = format!("VirtualMachine {} to appear", object.name);
    turn.stay(next, vec![Effect::Ensure(Box::new(object))], WaitCode::TargetVm, message)
}

/// A machine with all the disks that its target gets.
struct Whole {
    machine: Machine,
    claims: Vec<String>,
    /// The boot disk that the conversion found, among all disks.
    boot: Option<usize>,
    warnings: Vec<String>,
}

/// Puts the shared disks that were left out back to their places, each on the claim that holds it; preferred is one of
/// this plan. A disk that no claim holds is not attached, and the user is told.
fn with_shared(turn: &Turn<'_>, machine: &Machine, claims: Vec<String>) -> Whole {
    let mut whole =
        Whole { machine: machine.clone(), claims, boot: turn.state.detected_boot_disk, warnings: Vec::new() };
    for left in &machine.left_out {
        let holders = || turn.world.target.shared.iter().filter(|shared| shared.disk == left.disk.key);
        let ours = || holders().find(|shared| shared.plan_uid == turn.world.plan.uid);
        let Some(shared) = ours().or_else(|| holders().next()) else {
            whole.warnings.push(format!(
                "shared disk {} is not attached: no claim in {} holds it",
                left.disk.key, turn.world.plan.target_namespace
            ));
            continue;
        };
        let at = left.at.min(whole.machine.disks.len());
        whole.machine.disks.insert(at, left.disk.clone());
        whole.claims.insert(at, shared.claim.clone());
        whole.boot = whole.boot.map(|boot| if boot >= at { boot + 1 } else { boot });
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Disk;
    use crate::plan::step::Facets;
    use crate::plan::world::{PlanFacts, PlanVm, SharedFact, SourceFacts, TargetFacts, World};
    use jiff::Timestamp;

    #[test]
    fn shared_disks_come_back_to_their_places() {
        let disk = |key: &str, shared| Disk { key: key.into(), shared, ..Disk::default() };
        let machine = Machine {
            disks: vec![
                disk("quorum", true),
                disk("root", false),
                disk("data", true),
                disk("lost", true),
                disk("home", false),
            ],
            ..Machine::default()
        }
        .without_shared();
        assert_eq!(machine.disks.iter().map(|disk| disk.key.as_str()).collect::<Vec<_>>(), ["root", "home"]);
        let held = |disk: &str, claim: &str, plan: &str| SharedFact {
            disk: disk.into(),
            claim: claim.into(),
            plan_uid: plan.into(),
        };
        let target = TargetFacts {
            shared: vec![held("quorum", "other", "p2"), held("quorum", "own", "p1"), held("data", "data-claim", "p2")],
            ..TargetFacts::default()
        };
        let plan = PlanFacts { uid: "p1".into(), target_namespace: "ns".into(), ..PlanFacts::default() };
        let (vm, source) = (PlanVm::default(), SourceFacts::default());
        let world = World {
            now: Timestamp::UNIX_EPOCH,
            plan: &plan,
            vm: &vm,
            machine: Some(&machine),
            disk_sources: &[],
            source: &source,
            target: &target,
            cutover: None,
            canceled: None,
        };
        let state = VmState { detected_boot_disk: Some(0), ..VmState::new("", "") };
        let itinerary = &crate::plan::itinerary::COLD;
        let turn = Turn { state: &state, world: &world, facets: Facets::default(), itinerary };
        let whole = with_shared(&turn, &machine, vec!["root-claim".into(), "home-claim".into()]);
        let keys: Vec<_> = whole.machine.disks.iter().map(|disk| disk.key.as_str()).collect();
        assert_eq!(keys, ["quorum", "root", "data", "home"]);
        assert_eq!(whole.claims, ["own", "root-claim", "data-claim", "home-claim"]);
        assert_eq!(whole.boot, Some(1), "the conversion saw the root disk as its first");
        assert_eq!(whole.warnings, ["shared disk lost is not attached: no claim in ns holds it"]);
    }
}
