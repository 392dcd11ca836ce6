//! A hook: the Job that runs it and the ConfigMap with what it is given, both in the plan's namespace.
use forklift_api::labels;
use serde_json::{Map, Value, json};

use super::{plan_labels, put};
use crate::names::{self, Kind};
use crate::plan::effect::TargetObject;
use crate::plan::phase::Phase;
use crate::plan::world::{HookSpec, PlanFacts, PlanVm};

const MOUNT: &str = "/tmp/hook";

/// Returns the name of a hook's Job and ConfigMap.
pub fn name(plan: &PlanFacts, vm: &PlanVm, phase: Phase) -> String {
    names::derived(plan, vm, Kind::Hook, usize::from(phase == Phase::PostHook))
}

/// Builds the ConfigMap and the Job of a hook, in this order.
pub fn hook(plan: &PlanFacts, vm: &PlanVm, hook: &HookSpec, phase: Phase) -> Vec<TargetObject> {
    let name = name(plan, vm, phase);
    let labels = hook_labels(plan, vm, hook, phase);
    let owner = json!([{
        "apiVersion": format!("{}/{}", forklift_api::GROUP, forklift_api::VERSION), "kind": "Plan",
        "name": plan.name, "uid": plan.uid
    }]);
    let metadata = json!({"name": name, "namespace": plan.namespace, "labels": labels, "ownerReferences": owner});
    let mut data = Map::new();
    data.insert("workload.yml".into(), json!(hook.workload));
    data.insert("plan.yml".into(), json!(hook.plan));
    if !hook.playbook.is_empty() {
        data.insert("playbook.yml".into(), json!(hook.playbook));
    }
    let mut container = json!({
        "name": "hook", "image": hook.image, "imagePullPolicy": "IfNotPresent",
        "volumeMounts": [{"name": "hook", "mountPath": MOUNT}],
        "terminationMessagePolicy": "FallbackToLogsOnError"
    });
    if !hook.playbook.is_empty() {
        let playbook = format!("{MOUNT}/playbook.yml");
        container["command"] = json!(["/bin/entrypoint", "ansible-runner", "run", "/tmp/runner", "-p", playbook]);
    }
    let mut pod = json!({
        "restartPolicy": "Never", "containers": [container],
        "volumes": [{"name": "hook", "configMap": {"name": name}}]
    });
    let account = hook.service_account.clone().or_else(|| plan.options.service_account.clone());
    put(&mut pod, "serviceAccountName", account);
    let mut spec = json!({"backoffLimit": 1, "template": {"metadata": {"labels": labels}, "spec": pod}});
    if hook.deadline > 0 {
        spec["activeDeadlineSeconds"] = json!(hook.deadline);
    }
    vec![
        TargetObject::new(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})),
        TargetObject::new(json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})),
    ]
}

fn hook_labels(plan: &PlanFacts, vm: &PlanVm, hook: &HookSpec, phase: Phase) -> Map<String, Value> {
    let mut map = plan_labels(plan);
    map.insert(labels::VM_ID.into(), json!(vm.id));
    map.insert(labels::STEP.into(), json!(phase.as_str()));
    map.insert(labels::HOOK.into(), json!(hook.uid));
    map.insert(labels::RESOURCE.into(), json!(labels::RESOURCE_HOOK_CONFIG));
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_playbook_is_run_by_ansible_runner() {
        let plan = PlanFacts { name: "p".into(), namespace: "ns".into(), uid: "u".into(), ..PlanFacts::default() };
        let vm = PlanVm { id: "vm-1".into(), ..PlanVm::default() };
        let spec = HookSpec {
            uid: "h".into(),
            image: "i".into(),
            playbook: "- hosts: localhost".into(),
            deadline: 60,
            ..HookSpec::default()
        };
        let objects = hook(&plan, &vm, &spec, Phase::PreHook);
        let [config, job] = objects.as_slice() else { panic!("two objects") };
        assert_eq!(config.json["data"]["playbook.yml"], "- hosts: localhost");
        assert_eq!(job.json["spec"]["activeDeadlineSeconds"], 60);
        assert_eq!(job.json["spec"]["template"]["spec"]["containers"][0]["command"][1], "ansible-runner");
        assert_eq!((job.label("step"), job.namespace.as_deref()), (Some("PreHook"), Some("ns")));
        assert_ne!(job.name, name(&plan, &vm, Phase::PostHook));
    }
}
