//! The user's VDDK: checked once for a plan and an image, by a Job in the target namespace that loads it.
//!
//! ```text
//! no Job ─► create it ─► runs, image is fetched ─┬─ Complete: importers use VDDK
//!                    (the plan waits, at most    ├─ Failed: VDDKInvalid, a warning
//!                     VDDK_JOB_ACTIVE_DEADLINE)  └─ too long: VDDKInitImageUnavailable, a warning
//! ```
//! A migration can do without VDDK. So what is wrong with it is a warning, and importers are given VDDK only when the Job
//! has shown that it works: one that cannot be pulled would keep their pods from starting.
use forklift_api::condition::{reasons, types};
use forklift_api::vddk::{Transports, config};
use forklift_api::{Category, Condition, Plan, Provider, labels};
use forklift_core::build::namespace::namespace;
use forklift_core::build::vddk::{check_job, check_name, label};
use forklift_core::plan::{Effect, PlanFacts};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::apply::Target;
use crate::context::Context;
use crate::shell::apply::delete;
use crate::shell::status::{Pass, ReconcileError};

/// What becomes of a migration whose VDDK cannot be used.
const WITHOUT: &str = "Disks are read without VDDK.";
/// The kubelet's reason for a name that is none of an image.
const INVALID_NAME: &str = "InvalidImageName";

/// How the check of an image stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The image was loaded.
    Good,
    /// It is no VDDK; what the check said.
    Bad(String),
    /// The check runs, or its image is being fetched: reason and message of the wait, seconds since its beginning.
    Running {
        /// What its pod waits for, when it does.
        waits: Option<(String, String)>,
        /// How long, seconds.
        seconds: i64,
    },
}

/// Returns whether importers may use this image: its check has gone well.
pub fn usable(context: &Context, plan: &PlanFacts, image: &str) -> bool {
    job(context, plan, image).is_some_and(|job| has(&job, "Complete"))
}

/// Returns the configuration file and the transports that a provider asks for; what is not valid does not count, as the
/// provider's condition says.
pub fn settings(provider: &Provider) -> (Option<String>, Option<String>) {
    let transports = Transports::of(provider).unwrap_or_default();
    (config(provider).unwrap_or_default(), Some(transports.to_string()).filter(|_| transports != Transports::default()))
}

/// Checks the image, and says how that stands. Jobs for another image of the plan are removed.
pub async fn check(
    context: &Context,
    pass: &mut Pass<'_, Plan>,
    facts: &PlanFacts,
    image: &str,
) -> Result<(), ReconcileError> {
    remove_others(context, facts, image).await?;
    let Some(job) = job(context, facts, image) else {
        let target = Target { context, plan: pass.object, source: None };
        for object in [namespace(&facts.target_namespace), check_job(facts, image)] {
            let effect = Effect::Ensure(Box::new(object));
            target.apply(&effect).await.map_err(|error| {
                ReconcileError::retry(format!("the check of the VDDK image cannot be started: {error}"))
            })?;
        }
        pass.set(running());
        return Ok(());
    };
    let pod =
        context.caches.pods.state().into_iter().find(|pod| {
            pod.namespace() == job.namespace() && pod.labels().get("job-name") == job.metadata.name.as_ref()
        });
    let deadline = i64::try_from(context.config.settings.vddk_job_active_deadline.get()).unwrap_or(i64::MAX);
    let state = state(&job, pod.as_deref(), pass.now);
    judge(&state, image, &job.name_any(), deadline).into_iter().for_each(|condition| pass.set(condition));
    Ok(())
}

fn job(context: &Context, plan: &PlanFacts, image: &str) -> Option<std::sync::Arc<Job>> {
    let name = check_name(plan, image);
    context.caches.jobs.get(&ObjectRef::new(&name).within(&plan.target_namespace))
}

/// Removes the checks of images that the plan does not use any more: they might wait for their image for ever.
async fn remove_others(context: &Context, plan: &PlanFacts, image: &str) -> Result<(), ReconcileError> {
    let current = label(image);
    let others = context.caches.jobs.state().into_iter().filter(|job| {
        let of_plan = job.labels().get(labels::PLAN).is_some_and(|uid| *uid == plan.uid);
        of_plan && job.labels().get(labels::VDDK).is_some_and(|vddk| *vddk != current)
    });
    for job in others {
        let api: Api<Job> = Api::namespaced(context.client.clone(), &job.namespace().unwrap_or_default());
        delete(&api, &job.name_any(), job.metadata.uid.as_deref()).await?;
    }
    Ok(())
}

fn has(job: &Job, type_: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}

fn state(job: &Job, pod: Option<&Pod>, now: Timestamp) -> Check {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let containers = |of: fn(&k8s_openapi::api::core::v1::PodStatus) -> &Option<Vec<ContainerStatus>>| {
        status.and_then(|status| of(status).as_ref()).into_iter().flatten()
    };
    let all = || containers(|s| &s.init_container_statuses).chain(containers(|s| &s.container_statuses));
    if has(job, "Complete") {
        return Check::Good;
    }
    if has(job, "Failed") {
        let ended = |container: &ContainerStatus| {
            let states = [&container.state, &container.last_state];
            let message = states.iter().find_map(|state| state.as_ref()?.terminated.as_ref()?.message.clone());
            message.filter(|message| !message.trim().is_empty())
        };
        return Check::Bad(all().find_map(ended).unwrap_or_default().trim().to_owned());
    }
    let waiting = |container: &ContainerStatus| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone().filter(|reason| reason != "PodInitializing")?;
        Some((reason, waiting.message.clone().unwrap_or_default()))
    };
    // a pod that no node takes waits as well
    let unscheduled = || {
        let conditions = status?.conditions.as_ref()?;
        let found =
            conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
        Some((found.reason.clone()?, found.message.clone().unwrap_or_default()))
    };
    let begun =
        job.status.as_ref().and_then(|status| status.start_time.as_ref()).or(job.metadata.creation_timestamp.as_ref());
    let seconds = begun.map_or(0, |begun| now.as_second() - begun.0.as_second());
    Check::Running { waits: all().find_map(waiting).or_else(unscheduled), seconds }
}

fn running() -> Condition {
    Condition::new(types::VALIDATING_VDDK, Category::Advisory, "Validating the VDDK image.").reason(reasons::STARTED)
}

/// Returns what there is to say.
fn judge(state: &Check, image: &str, job: &str, deadline: i64) -> Vec<Condition> {
    match state {
        Check::Good => Vec::new(),
        Check::Bad(why) => {
            let why = if why.is_empty() { "its check failed" } else { why.trim_end_matches('.') };
            let message = format!("The VDDK image {image} is not valid: {why}. {WITHOUT}");
            let suggestion = format!(
                "Correct vddkInitImage of the provider; delete the Job {job} to have the same image checked again."
            );
            let condition = Condition::new(types::VDDK_INVALID, Category::Warn, message);
            vec![condition.reason(reasons::NOT_VALID).suggestion(suggestion)]
        }
        Check::Running { waits, seconds } if *seconds >= deadline => {
            let (reason, why) = waits.clone().unwrap_or_else(|| ("DeadlineExceeded".to_owned(), String::new()));
            vec![unavailable(&format!("The VDDK image {image} is not there after {seconds} s"), reason, &why)]
        }
        // this does not pass
        Check::Running { waits: Some((reason, why)), .. } if reason == INVALID_NAME => {
            vec![unavailable(&format!("The VDDK image {image} cannot be fetched"), reason.clone(), why)]
        }
        Check::Running { waits, .. } => {
            let fetching = waits.as_ref().map(|(reason, message)| {
                let message =
                    if message.is_empty() { format!("Waiting for the VDDK image {image}.") } else { message.clone() };
                Condition::new(types::VDDK_INIT_IMAGE_NOT_READY, Category::Advisory, message).reason(reason.clone())
            });
            fetching.into_iter().chain([running()]).collect()
        }
    }
}

fn unavailable(what: &str, reason: String, why: &str) -> Condition {
    let why: String = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let why = why.trim_end_matches('.');
    let why = if why.is_empty() { String::new() } else { format!(": {why}") };
    let message = format!("{what}{why}. {WITHOUT}");
    let condition = Condition::new(types::VDDK_INIT_IMAGE_UNAVAILABLE, Category::Warn, message).reason(reason);
    let advice = match condition.reason.as_str() {
        "Unschedulable" => {
            "See why no node takes the pod of the check: its nodes, and the quotas of the target namespace."
        }
        _ => "Check the name of the image and that the target namespace may pull it.",
    };
    condition.suggestion(advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job(status: serde_json::Value) -> Job {
        let status = json!({"metadata": {"name": "j"}, "status": status});
        serde_json::from_value(status).expect("a Job")
    }

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).expect("a pod")
    }

    fn raises(job: &Job, pod: Option<&Pod>, seconds: i64) -> Vec<(String, String, String)> {
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let now = began + jiff::SignedDuration::from_secs(seconds);
        let found = judge(&state(job, pod, now), "registry/vddk:8", "j", 300);
        found.into_iter().map(|c| (c.type_, c.reason, c.category.to_string())).collect()
    }

    fn is(found: &[(String, String, String)], wanted: &[(&str, &str, &str)]) {
        let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn an_image_is_fetched_checked_and_never_blocks() {
        let running = job(json!({"active": 1, "startTime": "2026-01-01T00:00:00Z"}));
        is(&raises(&running, None, 1), &[("ValidatingVDDK", "Started", "Advisory")]);
        let waiting = |reason: &str| {
            pod(json!({"initContainerStatuses": [{"name": "i", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": reason, "message": "m"}}}]}))
        };
        is(
            &raises(&running, Some(&waiting("ContainerCreating")), 5),
            &[("VDDKInitImageNotReady", "ContainerCreating", "Advisory"), ("ValidatingVDDK", "Started", "Advisory")],
        );
        is(
            &raises(&running, Some(&waiting("ErrImagePull")), 301),
            &[("VDDKInitImageUnavailable", "ErrImagePull", "Warn")],
        );
        is(&raises(&running, None, 400), &[("VDDKInitImageUnavailable", "DeadlineExceeded", "Warn")]);
        // nobody waits for a name that is none
        is(
            &raises(&running, Some(&waiting("InvalidImageName")), 1),
            &[("VDDKInitImageUnavailable", "InvalidImageName", "Warn")],
        );
        let failed = job(json!({"conditions": [{"type": "Failed", "status": "True"}]}));
        is(&raises(&failed, None, 9), &[("VDDKInvalid", "NotValid", "Warn")]);
        let good = job(json!({"conditions": [{"type": "Complete", "status": "True"}]}));
        is(&raises(&good, None, 9), &[]);
    }

    #[test]
    fn messages_say_what_is_wrong_and_what_follows() {
        let told = |state: &Check| {
            let found = judge(state, "registry/vddk:8", "j", 300).remove(0);
            format!("{} {}", found.message, found.suggestion)
        };
        assert_eq!(
            told(&Check::Bad("no libvixDiskLib.so in /opt.".into())),
            "The VDDK image registry/vddk:8 is not valid: no libvixDiskLib.so in /opt. Disks are read without VDDK. \
             Correct vddkInitImage of the provider; delete the Job j to have the same image checked again."
        );
        let waits = |reason: &str, message: &str| Check::Running {
            waits: Some((reason.to_owned(), message.to_owned())),
            seconds: 301,
        };
        assert_eq!(
            told(&waits("ErrImagePull", "unauthorized:\n  no such secret")),
            "The VDDK image registry/vddk:8 is not there after 301 s: unauthorized: no such secret. Disks are read without \
             VDDK. Check the name of the image and that the target namespace may pull it."
        );
        let pending = pod(json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/3 nodes are available"}]}));
        let active = job(json!({"active": 1, "startTime": "2026-01-01T00:00:00Z"}));
        let now = "2026-01-01T00:10:00Z".parse().expect("a time");
        assert_eq!(
            told(&state(&active, Some(&pending), now)),
            "The VDDK image registry/vddk:8 is not there after 600 s: 0/3 nodes are available. Disks are read without VDDK. \
             See why no node takes the pod of the check: its nodes, and the quotas of the target namespace."
        );
    }

    #[test]
    fn the_checks_own_words_are_shown() {
        let ended = pod(json!({"containerStatuses": [{"name": "v", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 3, "message": "no libvixDiskLib.so in /opt\n"}}}]}));
        let failed = job(json!({"conditions": [{"type": "Failed", "status": "True"}]}));
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(state(&failed, Some(&ended), now), Check::Bad("no libvixDiskLib.so in /opt".into()));
        // or those of the image's own program, which could not copy
        let ended =
            pod(json!({"initContainerStatuses": [{"name": "vddk-side-car", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": {"terminated": {"exitCode": 1, "message": "cp: cannot stat '/vmware'"}}}]}));
        assert_eq!(state(&failed, Some(&ended), now), Check::Bad("cp: cannot stat '/vmware'".into()));
    }

    #[test]
    fn every_condition_about_vddk_is_named_by_a_test() {
        let text: String = include_str!("vddk.rs").chars().filter(|c| !c.is_whitespace()).collect();
        for (type_, reasons) in forklift_api::condition::vsphere::VDDK {
            for reason in *reasons {
                assert!(text.contains(&format!("(\"{type_}\",\"{reason}\"")), "{type_} {reason}");
            }
        }
    }
}
