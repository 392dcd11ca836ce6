//! The user's VDDK: how pods get it and its configuration file, and the Job that finds out whether it is one.
//!
//! VDDK comes in an image of the user's whose program copies it to `/opt` (as upstream's documentation has it made), or,
//! where the name begins with `/`, in a folder of the node.
use forklift_api::labels;
use forklift_api::vddk::{CONFIG_FILE, CONFIG_MOUNT};
use forklift_api::worker::{VDDK_DIR_ENV, VDDK_MOUNT};
use serde_json::{Map, Value, json};

use super::{container_security, plan_labels, pod_security, put, vm_labels};
use crate::names::{self, Kind};
use crate::plan::effect::TargetObject;
use crate::plan::world::{PlanFacts, PlanVm};

/// Name of the volume.
const VOLUME: &str = "vddk-vol-mount";
/// Name of the volume with its configuration file.
const CONFIG_VOLUME: &str = "vddk-conf";
/// Where an image's program copies VDDK to.
const COPIED_TO: &str = "/opt";
/// Name of the container that copies.
pub const INIT_CONTAINER: &str = "vddk-side-car";

/// What a pod needs to have VDDK at [`VDDK_MOUNT`].
#[derive(Clone, Debug, PartialEq)]
pub struct Library {
    /// The volume.
    pub volume: Value,
    /// Its mount in the container that uses VDDK.
    pub mount: Value,
    /// The container that fills the volume; none for a folder.
    pub init_container: Option<Value>,
}

/// Returns how pods get VDDK from an image or a folder.
pub fn library(image: &str) -> Library {
    if image.starts_with('/') {
        return Library {
            volume: json!({"name": VOLUME, "hostPath": {"path": image, "type": "Directory"}}),
            mount: json!({"name": VOLUME, "mountPath": VDDK_MOUNT, "readOnly": true}),
            init_container: None,
        };
    }
    let mount = json!({"name": VOLUME, "mountPath": COPIED_TO});
    Library {
        volume: json!({"name": VOLUME, "emptyDir": {}}),
        init_container: Some(json!({
            "name": INIT_CONTAINER, "image": image, "imagePullPolicy": "IfNotPresent", "volumeMounts": [mount],
            // what its program says when it cannot copy is all that there is to tell
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "resources": resources(), "securityContext": container_security()
        })),
        mount,
    }
}

/// Returns the path of the configuration file in pods.
pub fn config_path() -> String {
    format!("{CONFIG_MOUNT}/{CONFIG_FILE}")
}

/// Builds the config map with VDDK's configuration file for a VM; none where the provider wants none, or there is no
/// VDDK. `namespace` is that of the pods.
pub fn config_map(plan: &PlanFacts, vm: &PlanVm, namespace: &str) -> Option<TargetObject> {
    let text = plan.vddk_config.as_deref().filter(|_| plan.vddk_image.is_some())?;
    let mut labels = vm_labels(plan, vm);
    labels.insert(labels::USE.into(), json!(labels::USE_VDDK_CONF));
    labels.insert(labels::RESOURCE.into(), json!(labels::RESOURCE_VDDK_CONFIG));
    Some(TargetObject::new(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": names::derived(plan, vm, Kind::VddkConfig, 0), "namespace": namespace, "labels": labels
        },
        "data": {CONFIG_FILE: text}
    })))
}

/// Returns the volume with the configuration file, and its mount.
pub fn config_volume(plan: &PlanFacts, vm: &PlanVm) -> Option<(Value, Value)> {
    plan.vddk_config.as_deref().filter(|_| plan.vddk_image.is_some())?;
    let volume = json!({"name": CONFIG_VOLUME, "configMap": {"name": names::derived(plan, vm, Kind::VddkConfig, 0)}});
    Some((volume, json!({"name": CONFIG_VOLUME, "mountPath": CONFIG_MOUNT, "readOnly": true})))
}

/// What the containers of the check take; namespaces with quotas demand that it is said.
fn resources() -> Value {
    json!({"requests": {"cpu": "100m", "memory": "150Mi"}, "limits": {"cpu": "1000m", "memory": "500Mi"}})
}

/// Returns the value of the label `vddk` for an image.
pub fn label(image: &str) -> String {
    names::hex(&[image])[..32].to_owned()
}

/// Returns the name of the Job that checks an image for a plan.
pub fn check_name(plan: &PlanFacts, image: &str) -> String {
    format!("vddk-validator-{}", names::short(&[&plan.uid, image]))
}

/// Builds the Job that loads VDDK from an image, as an importer of the plan would.
pub fn check_job(plan: &PlanFacts, image: &str) -> TargetObject {
    let library = library(image);
    let mut labels: Map<String, Value> = plan_labels(plan);
    labels.remove(labels::MIGRATION);
    labels.insert(labels::VDDK.into(), json!(label(image)));
    let annotations = json!({"provider": plan.provider.name, "vddk": image, "plan": plan.name});
    let container = json!({
        "name": "validator", "image": plan.image, "imagePullPolicy": "IfNotPresent", "args": ["worker", "vddk-check"],
        // the path is also said, so that a node without mount namespaces can say where it really is
        "env": [{"name": VDDK_DIR_ENV, "value": VDDK_MOUNT}],
        "volumeMounts": [library.mount], "resources": resources(), "securityContext": container_security(),
        "terminationMessagePolicy": "FallbackToLogsOnError"
    });
    let mut pod = json!({
        "restartPolicy": "Never", "securityContext": pod_security(), "containers": [container],
        "volumes": [library.volume]
    });
    put(&mut pod, "initContainers", library.init_container.map(|container| json!([container])));
    put(&mut pod, "serviceAccountName", plan.options.service_account.clone());
    TargetObject::new(json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": check_name(plan, image), "namespace": plan.target_namespace, "labels": labels,
            "annotations": annotations
        },
        "spec": {
            "backoffLimit": 2, "completions": 1,
            "template": {"metadata": {"labels": labels}, "spec": pod}
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> PlanFacts {
        PlanFacts { uid: "u".into(), target_namespace: "vms".into(), image: "ours".into(), ..PlanFacts::default() }
    }

    #[test]
    fn an_image_copies_itself_and_a_folder_is_mounted() {
        let job = check_job(&plan(), "registry/vddk:8").json;
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["initContainers"][0]["image"], "registry/vddk:8");
        assert_eq!(pod["initContainers"][0]["volumeMounts"], pod["containers"][0]["volumeMounts"]);
        assert!(VDDK_MOUNT.starts_with(pod["containers"][0]["volumeMounts"][0]["mountPath"].as_str().unwrap_or("?")));
        let folder = check_job(&plan(), "/srv/vddk").json;
        let pod = &folder["spec"]["template"]["spec"];
        assert!(pod.get("initContainers").is_none());
        assert_eq!(pod["volumes"][0]["hostPath"]["path"], "/srv/vddk");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], VDDK_MOUNT);
    }

    #[test]
    fn the_configuration_is_a_file_of_a_vm() {
        let vm = PlanVm { id: "vm-1".into(), ..PlanVm::default() };
        let mut plan = PlanFacts { name: "Plan.of-mine".into(), vddk_config: Some("a=1\n".into()), ..plan() };
        let both = (config_map(&plan, &vm, "vms"), config_volume(&plan, &vm));
        assert_eq!(both, (None, None), "there is no VDDK to configure");
        plan.vddk_image = Some("registry/vddk:8".into());
        let map = config_map(&plan, &vm, "vms").expect("a config map").json;
        let (volume, mount) = config_volume(&plan, &vm).expect("a volume");
        assert_eq!(map["data"], json!({"vddk-config-file": "a=1\n"}));
        assert_eq!(map["metadata"]["name"], volume["configMap"]["name"]);
        let labels = &map["metadata"]["labels"];
        assert_eq!((&labels["use"], &labels["resource"]), (&json!("vddk-conf"), &json!("vddk-config")));
        assert_eq!(
            (&labels["plan"], &labels["vmID"]),
            (&json!("u"), &json!("vm-1")),
            "it goes with the VM's other objects"
        );
        assert!(config_path().starts_with(mount["mountPath"].as_str().unwrap_or("?")));
    }

    #[test]
    fn another_image_is_another_job() {
        assert_ne!(check_name(&plan(), "a"), check_name(&plan(), "b"));
        assert_ne!(label("a"), label("b"));
        assert_eq!(check_job(&plan(), "a"), check_job(&plan(), "a"));
    }
}
