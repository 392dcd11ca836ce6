//! What a failed pod means for its Job (podFailurePolicy), and when a part of its pods is enough (successPolicy).

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;

use super::indexes;

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counts against the limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The Job has failed: why.
    FailJob(String),
}

/// Applies the first rule that fits.
pub fn judge(pod: &Pod, spec: &JobSpec) -> Verdict {
    for rule in spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules) {
        let Some(why) = fits(pod, rule) else { continue };
        return match rule.action.as_str() {
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule")),
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn fits(pod: &Pod, rule: &PodFailurePolicyRule) -> Option<String> {
    let name = format!(
        "{}/{}",
        pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod.metadata.name.as_deref().unwrap_or_default()
    );
    if let Some(codes) = &rule.on_exit_codes {
        for (container, code, _) in terminations(pod).into_iter().filter(|(_, code, _)| *code != 0) {
            let named = codes.container_name.as_ref().is_none_or(|wanted| *wanted == container);
            if named && codes.values.contains(&code) == (codes.operator == "In") {
                return Some(format!("Container {container} for pod {name} failed with exit code {code}"));
            }
        }
        return None;
    }
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let wanted = rule.on_pod_conditions.iter().flatten();
    let mut found = wanted.filter(|pattern| {
        let mut known = conditions.into_iter().flatten();
        known.any(|known| known.type_ == pattern.type_ && known.status == pattern.status)
    });
    found.next().map(|pattern| format!("Pod {name} has condition {}", pattern.type_))
}

/// Says whether the pods that have succeeded are enough.
pub fn succeeded(spec: &JobSpec, completed: &BTreeSet<i32>) -> Option<String> {
    let rules = spec.success_policy.iter().flat_map(|policy| &policy.rules);
    for (number, rule) in rules.enumerate() {
        let listed = rule.succeeded_indexes.as_deref().map(indexes::parse);
        let fitting = listed.as_ref().map_or(completed.len(), |listed| listed.intersection(completed).count());
        let wanted = rule.succeeded_count.map_or_else(
            || listed.as_ref().map_or(usize::MAX, BTreeSet::len),
            |count| usize::try_from(count).unwrap_or(usize::MAX),
        );
        if fitting >= wanted {
            return Some(format!("Matched rules at index {number}"));
        }
    }
    None
}

/// All ends of containers that the status still shows: name, exit code, time.
pub fn terminations(pod: &Pod) -> Vec<(String, i32, Option<Timestamp>)> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.flat_map(|container| {
        [&container.state, &container.last_state].into_iter().filter_map(|state| {
            let end = state.as_ref()?.terminated.as_ref()?;
            Some((container.name.clone(), end.exit_code, end.finished_at.as_ref().map(|time| time.0)))
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let spec: JobSpec = serde_json::from_value(json!({"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}},
            {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "NotIn", "values": [1, 2]}},
            {"action": "Count", "onExitCodes": {"operator": "In", "values": [1]}}]}}))
        .expect("a spec");
        let verdict = |code: i32, condition: &str| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {
                "conditions": [{"type": condition, "status": "True"}],
                "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code}}}]}}))
            .expect("a pod");
            judge(&pod, &spec)
        };
        assert_eq!(verdict(7, "DisruptionTarget"), Verdict::Ignore);
        assert_eq!(verdict(42, "Ready"), Verdict::FailIndex);
        assert_eq!(verdict(2, "Ready"), Verdict::Count);
        let why = "Container c for pod n/p failed with exit code 7 matching FailJob rule";
        assert_eq!(verdict(7, "Ready"), Verdict::FailJob(why.into()));
    }

    #[test]
    fn a_part_of_the_indexes_may_be_enough() {
        let met = |rule: serde_json::Value, completed: &str| {
            let spec: JobSpec =
                serde_json::from_value(json!({"template": {}, "successPolicy": {"rules": [rule]}})).expect("a spec");
            succeeded(&spec, &indexes::parse(completed)).is_some()
        };
        assert!(met(json!({"succeededIndexes": "0,2"}), "0-2") && !met(json!({"succeededIndexes": "0,2"}), "0,1"));
        assert!(met(json!({"succeededCount": 2}), "5,7") && !met(json!({"succeededCount": 2}), "5"));
        let both = json!({"succeededIndexes": "0-3", "succeededCount": 1});
        assert!(met(both.clone(), "3") && !met(both, "4"));
    }
}
