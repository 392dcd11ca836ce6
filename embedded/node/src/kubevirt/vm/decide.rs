//! What a machine needs next: a function of its run strategy, what was asked for, and its instance.

use forklift_kubevirt_types::kubevirt::{StateChangeRequest, action, printable_status, run_strategy};
use forklift_kubevirt_types::vmi::phase;
use forklift_kubevirt_types::{VirtualMachine, VirtualMachineInstance};
use jiff::Timestamp;

use super::{FINALIZER, World, start_request};
use crate::kubevirt::vmi;

/// An instance that lived this long clears the back-off.
const STABLE_SECONDS: i64 = 600;

/// What a machine needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// Add our finalizer.
    Protect,
    /// Remove our finalizer.
    Unprotect,
    /// Set the run strategy to Always: a halted machine is to start paused.
    RunAlways,
    /// Create the instance.
    Start {
        /// With its processors halted.
        paused: bool,
    },
    /// Delete the instance.
    Stop,
}

/// The answer about a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The one word for people.
    pub printable: &'static str,
    /// Failures in a row, and the uid of the instance that was counted last.
    pub failures: Option<(u32, String)>,
    /// When the next start may be.
    pub retry: Option<Timestamp>,
    /// What was asked for and is still to be done.
    pub requests: Vec<StateChangeRequest>,
}

/// The run strategy of a machine; the older `running` gives Always or Halted.
pub fn strategy(vm: &VirtualMachine) -> &str {
    match (&vm.spec.run_strategy, vm.spec.running) {
        (Some(strategy), _) => strategy,
        (None, Some(true)) => run_strategy::ALWAYS,
        (None, _) => run_strategy::HALTED,
    }
}

fn is_final(vmi: &VirtualMachineInstance) -> bool {
    matches!(state(vmi), phase::FAILED | phase::SUCCEEDED)
}

fn state(vmi: &VirtualMachineInstance) -> &str {
    vmi.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Requests without those at the front that are done.
fn open_requests(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>) -> Vec<StateChangeRequest> {
    let mut requests = vm.status.as_ref().map(|status| status.state_change_requests.clone()).unwrap_or_default();
    while let Some(first) = requests.first() {
        let done = match first.action.as_str() {
            action::STOP => vmi.is_none_or(|vmi| first.uid.is_none() || first.uid != vmi.metadata.uid),
            action::START => vmi.is_some_and(|vmi| vmi.metadata.deletion_timestamp.is_none() && !is_final(vmi)),
            // nobody knows what it means
            _ => true,
        };
        if !done {
            break;
        }
        requests.remove(0);
    }
    requests
}

/// Decides about a machine and the instance of its name.
pub fn decide(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>, world: &World, now: Timestamp) -> Decision {
    let strategy = strategy(vm);
    let protected = vm.metadata.finalizers.iter().flatten().any(|name| name == FINALIZER);
    let (failures, retry) = failures(vm, vmi, now);
    let requests = open_requests(vm, vmi);
    let first = requests.first().cloned();
    let answer = |action, printable| Decision {
        action,
        printable,
        failures: failures.clone(),
        retry: None,
        requests: requests.clone(),
    };
    if vm.metadata.deletion_timestamp.is_some() {
        let action = match vmi {
            Some(vmi) if vmi.metadata.deletion_timestamp.is_none() => Action::Stop,
            Some(_) => Action::None,
            None if protected => Action::Unprotect,
            None => Action::None,
        };
        return answer(action, printable_status::TERMINATING);
    }
    if !protected {
        return answer(Action::Protect, printable_status::STOPPED);
    }
    let asked = first.as_ref().is_some_and(|request| request.action == action::START);
    let paused =
        asked && first.as_ref().is_some_and(|request| request.data.get("paused").is_some_and(|it| it == "true"));
    let Some(vmi) = vmi else {
        let before = vm.status.as_ref().and_then(|status| status.run_strategy.as_deref());
        let wanted = match strategy {
            run_strategy::ALWAYS => true,
            // once begun, they start again when they are asked to only
            run_strategy::RERUN_ON_FAILURE | run_strategy::ONCE => asked || before != Some(strategy),
            run_strategy::HALTED if asked => return answer(Action::RunAlways, printable_status::STARTING),
            run_strategy::MANUAL => asked,
            _ => false,
        };
        return match retry {
            _ if !wanted => answer(Action::None, printable_status::STOPPED),
            Some(at) if at > now && !asked_by_hand(vm, strategy, asked) => {
                Decision { retry: Some(at), ..answer(Action::None, printable_status::CRASH_LOOP_BACK_OFF) }
            }
            _ => match &world.failure {
                Some(failure) => answer(Action::None, failure_word(failure.reason)),
                None => answer(
                    Action::Start { paused },
                    if world.unbound {
                        printable_status::WAITING_FOR_VOLUME_BINDING
                    } else {
                        printable_status::STARTING
                    },
                ),
            },
        };
    };
    if vmi.metadata.deletion_timestamp.is_some() {
        return answer(Action::None, printable_status::STOPPING);
    }
    let (failed, succeeded) = (state(vmi) == phase::FAILED, state(vmi) == phase::SUCCEEDED);
    let again = match strategy {
        run_strategy::ALWAYS => failed || succeeded,
        run_strategy::RERUN_ON_FAILURE => failed,
        _ => false,
    };
    if again {
        let printable = if failed { printable_status::CRASH_LOOP_BACK_OFF } else { printable_status::STOPPING };
        let mut decision = answer(Action::Stop, printable);
        if strategy == run_strategy::RERUN_ON_FAILURE
            && !decision.requests.iter().any(|one| one.action == action::START)
        {
            decision.requests.push(start_request(false));
        }
        return decision;
    }
    if first.is_some_and(|request| request.action == action::STOP) {
        return answer(Action::Stop, printable_status::STOPPING);
    }
    if failed || succeeded {
        return answer(Action::None, printable_status::STOPPED);
    }
    if strategy == run_strategy::HALTED {
        return answer(Action::Stop, printable_status::STOPPING);
    }
    answer(Action::None, word(vmi, world))
}

/// The back-off is for machines that start by themselves.
fn asked_by_hand(vm: &VirtualMachine, strategy: &str, asked: bool) -> bool {
    let by_itself = vm.status.as_ref().is_some_and(|status| status.start_failure.is_some());
    asked && !(strategy == run_strategy::RERUN_ON_FAILURE && by_itself)
}

fn failure_word(reason: &str) -> &'static str {
    if reason == "FailedDataVolumeCreate" { printable_status::DATA_VOLUME_ERROR } else { printable_status::STOPPED }
}

/// How an instance that has not ended is, in a word.
fn word(instance: &VirtualMachineInstance, world: &World) -> &'static str {
    let status = instance.status.clone().unwrap_or_default();
    let paused = status.conditions.iter().any(|one| one.type_ == "Paused" && one.status == "True");
    match (state(instance), status.reason.as_deref().unwrap_or_default()) {
        (phase::RUNNING, _) if paused => printable_status::PAUSED,
        (phase::RUNNING, _) => printable_status::RUNNING,
        (_, vmi::NO_CLAIM) => printable_status::PVC_NOT_FOUND,
        (_, vmi::REFUSED) => printable_status::UNSCHEDULABLE,
        (_, "ErrImagePull") => printable_status::ERR_IMAGE_PULL,
        _ if world.unbound => printable_status::WAITING_FOR_VOLUME_BINDING,
        _ => printable_status::STARTING,
    }
}

/// Failures in a row and when the next start may be.
fn failures(
    vm: &VirtualMachine,
    vmi: Option<&VirtualMachineInstance>,
    now: Timestamp,
) -> (Option<(u32, String)>, Option<Timestamp>) {
    let kept = vm.status.as_ref().and_then(|status| status.start_failure.as_ref());
    let text = |name: &str| kept.and_then(|kept| kept.get(name)?.as_str()).unwrap_or_default();
    let count = kept.and_then(|kept| kept.get("consecutiveFailCount")?.as_u64()).unwrap_or(0) as u32;
    let retry: Option<Timestamp> = text("retryAfterTimestamp").parse().ok();
    let last = text("lastFailedVMIUID").to_owned();
    let old = (count > 0).then_some((count, last.clone()));
    let Some(vmi) = vmi else { return (old, retry) };
    let Some(status) = &vmi.status else { return (old, retry) };
    let lived = vmi.metadata.creation_timestamp.as_ref().map_or(0, |time| now.duration_since(time.0).as_secs());
    let uid = vmi.metadata.uid.clone().unwrap_or_default();
    match status.phase.as_deref() {
        // an instance that went with the node is not the machine's failure
        Some(phase::FAILED) if status.reason.as_deref() == Some("NodeLost") => (None, None),
        Some(phase::FAILED) if uid != last && lived < STABLE_SECONDS => (Some((count + 1, uid)), None),
        Some(phase::RUNNING) if lived >= STABLE_SECONDS => (None, None),
        _ => (old, retry),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::{Value, json};

    fn vm(strategy: &str) -> VirtualMachine {
        serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "n", "uid": "u", "finalizers": [FINALIZER]},
            "spec": {"runStrategy": strategy, "template": {"spec": {"domain": {}}}},
        }))
        .expect("a machine")
    }

    fn vmi(phase: &str) -> VirtualMachineInstance {
        serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "n", "uid": "i", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"domain": {}}, "status": {"phase": phase},
        }))
        .expect("an instance")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn look(vm: &VirtualMachine, vmi: Option<&VirtualMachineInstance>, second: i64) -> Decision {
        decide(vm, vmi, &World::default(), at(second))
    }

    const START: Action = Action::Start { paused: false };

    #[test]
    fn run_strategies_are_kept() {
        for (strategy, phase, action, printable) in [
            ("Always", "", START, "Starting"),
            ("Always", "Scheduling", Action::None, "Starting"),
            ("Always", "Running", Action::None, "Running"),
            ("Always", "Succeeded", Action::Stop, "Stopping"),
            ("Always", "Failed", Action::Stop, "CrashLoopBackOff"),
            ("RerunOnFailure", "", START, "Starting"),
            ("RerunOnFailure", "Succeeded", Action::None, "Stopped"),
            ("RerunOnFailure", "Failed", Action::Stop, "CrashLoopBackOff"),
            ("Once", "", START, "Starting"),
            ("Once", "Failed", Action::None, "Stopped"),
            ("Manual", "", Action::None, "Stopped"),
            ("Manual", "Running", Action::None, "Running"),
            ("Halted", "", Action::None, "Stopped"),
            ("Halted", "Running", Action::Stop, "Stopping"),
            ("Halted", "Succeeded", Action::None, "Stopped"),
        ] {
            let vmi = (!phase.is_empty()).then(|| vmi(phase));
            let decision = look(&vm(strategy), vmi.as_ref(), 5);
            assert_eq!((decision.action, decision.printable), (action, printable), "{strategy} {phase}");
        }
    }

    #[test]
    fn requests_are_done_in_order_and_once() {
        let check = |strategy: &str, requests: Value, phase: &str| {
            let mut machine = vm(strategy);
            let status = json!({"runStrategy": strategy, "stateChangeRequests": requests});
            machine.status = serde_json::from_value(status).expect("a status");
            let vmi = (!phase.is_empty()).then(|| vmi(phase));
            let decision = look(&machine, vmi.as_ref(), 5);
            let left: Vec<String> = decision.requests.into_iter().map(|request| request.action).collect();
            format!("{:?} {}", decision.action, left.join(","))
        };
        let (stop, start) = (json!({"action": "Stop", "uid": "i"}), json!({"action": "Start"}));
        let restart = json!([stop, start]);
        assert_eq!(check("Manual", json!([start]), ""), "Start { paused: false } Start");
        assert_eq!(check("Manual", json!([start]), "Scheduling"), "None ", "started");
        assert_eq!(check("Manual", restart.clone(), "Running"), "Stop Stop,Start");
        assert_eq!(check("Manual", restart.clone(), ""), "Start { paused: false } Start");
        assert_eq!(check("Manual", json!([{"action": "Stop", "uid": "older"}]), "Running"), "None ");
        assert_eq!(check("Always", restart, "Running"), "Stop Stop,Start");
        assert_eq!(check("RerunOnFailure", json!([stop]), "Running"), "Stop Stop");
        assert_eq!(check("RerunOnFailure", json!([stop]), ""), "None ", "it stays stopped");
        assert_eq!(check("RerunOnFailure", json!([]), "Failed"), "Stop Start", "the next start is kept");
        assert_eq!(check("RerunOnFailure", json!([start]), ""), "Start { paused: false } Start");
        assert_eq!(check("Once", json!([]), ""), "None ", "once");
        let paused = json!([{"action": "Start", "data": {"paused": "true"}}]);
        assert_eq!(check("Manual", paused.clone(), ""), "Start { paused: true } Start");
        assert_eq!(check("Halted", paused.clone(), ""), "RunAlways Start");
        assert_eq!(check("Always", paused, ""), "Start { paused: true } Start");
    }

    #[test]
    fn words_tell_what_is_waited_for() {
        let machine = vm("Always");
        let mut running = vmi("Running");
        let paused = json!({"type": "Paused", "status": "True"});
        running.status.as_mut().expect("a status").conditions =
            vec![serde_json::from_value(paused).expect("a condition")];
        assert_eq!(look(&machine, Some(&running), 5).printable, "Paused");
        let waiting = World { unbound: true, ..World::default() };
        assert_eq!(decide(&machine, None, &waiting, at(5)).printable, "WaitingForVolumeBinding");
        assert_eq!(decide(&machine, Some(&vmi("Scheduled")), &waiting, at(5)).printable, "WaitingForVolumeBinding");
        for (reason, word) in [
            ("FailedPvcNotFound", "ErrorPvcNotFound"),
            ("Unschedulable", "ErrorUnschedulable"),
            ("ErrImagePull", "ErrImagePull"),
            ("DiskInUse", "Starting"),
        ] {
            let mut pending = vmi("Pending");
            pending.status.as_mut().expect("a status").reason = Some(reason.into());
            assert_eq!(look(&machine, Some(&pending), 5).printable, word);
        }
    }

    #[test]
    fn the_older_field_counts_too() {
        let mut machine = vm("");
        machine.spec.run_strategy = None;
        assert_eq!(strategy(&machine), "Halted");
        machine.spec.running = Some(true);
        assert_eq!(strategy(&machine), "Always");
    }

    #[test]
    fn failures_are_counted_once_and_waited_for() {
        let mut machine = vm("Always");
        let failed = vmi("Failed");
        assert_eq!(look(&machine, Some(&failed), 5).failures, Some((1, "i".into())));
        machine.status = serde_json::from_value(json!({"startFailure": {
            "consecutiveFailCount": 1, "lastFailedVMIUID": "i", "retryAfterTimestamp": "1970-01-01T00:00:15Z"}}))
        .expect("a status");
        assert_eq!(look(&machine, Some(&failed), 6).failures, Some((1, "i".into())));
        let waiting = look(&machine, None, 6);
        assert_eq!(
            (waiting.action, waiting.retry, waiting.printable),
            (Action::None, Some(at(15)), "CrashLoopBackOff")
        );
        assert_eq!(look(&machine, None, 15).action, START);
        let mut lost = failed;
        lost.metadata.uid = Some("other".into());
        lost.status.as_mut().expect("a status").reason = Some("NodeLost".into());
        assert_eq!(look(&machine, Some(&lost), 6).failures, None);
    }

    #[test]
    fn a_deleted_machine_takes_its_instance_along() {
        let mut machine = vm("Always");
        machine.metadata.deletion_timestamp = Some(Time(at(1)));
        assert_eq!(look(&machine, Some(&vmi("Running")), 5).action, Action::Stop);
        assert_eq!(look(&machine, None, 5).action, Action::Unprotect);
    }
}
