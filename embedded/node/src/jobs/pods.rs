//! The pods of a Job.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

use super::NUMBER;
use super::account::{INDEX, INDEX_FAILURES, Place};
use crate::events::short_hash;

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The pod of a Job for a place. Its name follows from the Job's uid and the running number.
pub fn pod(job: &Job, place: &Place) -> Pod {
    let number = place.number;
    let template = job.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let uid = job.metadata.uid.clone().unwrap_or_default();
    let name = job.metadata.name.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let mut labels = meta.labels.unwrap_or_default();
    for key in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
        labels.insert(key.into(), uid.clone());
    }
    for key in ["batch.kubernetes.io/job-name", "job-name"] {
        // a label takes 63 characters
        labels.insert(key.into(), name.chars().take(63).collect());
    }
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(NUMBER.into(), number.to_string());
    let hash = &short_hash(&format!("{uid}/{number}"))[..5];
    let mut spec = template.spec;
    let full = match place.index {
        Some(index) => {
            labels.insert(INDEX.into(), index.to_string());
            annotations.insert(INDEX.into(), index.to_string());
            annotations.insert(INDEX_FAILURES.into(), place.failures.to_string());
            if let Some(spec) = &mut spec {
                let all = spec.init_containers.iter_mut().flatten().chain(&mut spec.containers);
                all.for_each(tell_index);
                let base: String = name.chars().take(52).collect();
                spec.hostname.get_or_insert_with(|| format!("{base}-{index}"));
            }
            let base: String = name.chars().take(50).collect();
            format!("{base}-{index}-{hash}")
        }
        None => {
            let base: String = name.chars().take(57).collect();
            format!("{base}-{hash}")
        }
    };
    Pod {
        metadata: ObjectMeta {
            name: Some(full),
            namespace: job.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![OwnerReference {
                api_version: "batch/v1".into(),
                kind: "Job".into(),
                name,
                uid,
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

fn tell_index(container: &mut Container) {
    let env = container.env.get_or_insert_default();
    if !env.iter().any(|known| known.name == INDEX_VARIABLE) {
        let field =
            ObjectFieldSelector { field_path: format!("metadata.annotations['{INDEX}']"), ..Default::default() };
        let value_from = Some(EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() });
        env.insert(0, EnvVar { name: INDEX_VARIABLE.into(), value: None, value_from });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_place_gives_the_same_pod() {
        let job: Job = serde_json::from_value(json!({"metadata": {"name": "j", "uid": "u"},
            "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}))
        .expect("a job");
        let place = |number, index| Place { number, index, failures: 2 };
        assert_eq!(pod(&job, &place(1, None)).metadata.name, pod(&job, &place(1, None)).metadata.name);
        assert_ne!(pod(&job, &place(1, None)).metadata.name, pod(&job, &place(2, None)).metadata.name);
        let indexed = pod(&job, &place(3, Some(7)));
        let spec = indexed.spec.expect("a spec");
        assert_eq!(spec.hostname.as_deref(), Some("j-7"));
        assert_eq!(spec.containers[0].env.as_ref().expect("variables")[0].name, INDEX_VARIABLE);
        let annotations = indexed.metadata.annotations.expect("annotations");
        assert_eq!((annotations[INDEX].as_str(), annotations[INDEX_FAILURES].as_str()), ("7", "2"));
    }
}
