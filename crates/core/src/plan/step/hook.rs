//! Hooks: a Job before, a Job after.
use super::Turn;
use crate::build::hook_job;
use crate::plan::Transition;
use crate::plan::effect::Effect;
use crate::plan::phase::Phase;
use crate::plan::state::WaitCode;
use crate::plan::world::JobState;

/// Runs the hook of the phase and waits for it.
pub(super) fn run(turn: &Turn<'_>) -> Transition {
    let (state, world) = (turn.state, turn.world);
    let hook = if state.phase == Phase::PreHook { &world.vm.pre_hook } else { &world.vm.post_hook };
    // the hook was taken out of the plan while it was to run
    let Some(hook) = hook else { return turn.go(state.clone()) };
    if hook.aap {
        return turn.fail([format!(
            "hook {} is a job template of Ansible Automation Platform, which this version does not run; use a playbook",
            hook.name
        )]);
    }
    let job = world.target.hooks.iter().find(|h| {
        h.step == state.phase.as_str() && h.seen.is_of(world.plan, world.vm) && h.seen.is_current(world.plan)
    });
    let Some(job) = job else {
        let objects = hook_job::hook(world.plan, world.vm, hook, state.phase);
        let effects = objects.into_iter().map(|object| Effect::Ensure(Box::new(object))).collect();
        return turn.stay(state.clone(), effects, WaitCode::Hook, format!("the Job of hook {} to appear", hook.name));
    };
    match job.state {
        JobState::Succeeded => {
            // the ConfigMap goes with its Job
            let config = world.target.labelled.iter().find(|o| {
                o.object.kind == "ConfigMap" && o.object.name == job.seen.object.name && o.is_of(world.plan, world.vm)
            });
            let mut transition = turn.go(state.clone());
            transition.effects.extend(
                config.map(|config| Effect::Adopt { object: config.object.clone(), owner: job.seen.object.clone() }),
            );
            transition
        }
        JobState::Failed => turn.fail([format!(
            "hook {} failed: {}",
            hook.name,
            job.message.as_deref().filter(|m| !m.is_empty()).unwrap_or("see the log of its Job's pod")
        )]),
        JobState::Pending | JobState::Running if job.failed > world.plan.worker_retries => {
            turn.fail([format!("hook {}: retry limit exceeded", hook.name)])
        }
        JobState::Pending => turn.wait(WaitCode::Hook, format!("a pod for hook {}", hook.name)),
        JobState::Running => turn.wait(WaitCode::Hook, format!("hook {} to finish", hook.name)),
    }
}
