//! Pods: defaults, validation, which fields may change, and their status.

use serde_json::{Value, json};

use crate::Answer;
use crate::case::{Case, Chapter, case, pod};

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = defaults();
    cases.extend(validation());
    cases.extend(changes());
    Chapter { name: "pods", cases }
}

/// Posts a pod with the changes in its spec, once the service account is there.
async fn posted(c: &Case, spec: &Value) -> anyhow::Result<Answer> {
    c.until(&c.core("serviceaccounts/default"), "the account is there", |a| a.status == 200).await?;
    let mut body = pod("a");
    for (field, value) in spec.as_object().into_iter().flatten() {
        body["spec"][field] = value.clone();
    }
    c.post(&c.core("pods"), &body).await
}

/// Expects a pod with the changes to be refused with a cause for the field.
async fn refused(c: &Case, spec: &Value, field: &str, reason: &str) -> anyhow::Result<()> {
    posted(c, spec).await?.invalid(field, reason)?;
    Ok(())
}

fn defaults() -> Vec<crate::Test> {
    vec![
        case("a pod gets its defaults", |c| async move {
            let a = posted(&c, &json!({})).await?;
            a.status(201)?.is("/spec/restartPolicy", "Always")?.is("/spec/dnsPolicy", "ClusterFirst")?;
            a.is("/spec/terminationGracePeriodSeconds", 30)?.is("/spec/schedulerName", "default-scheduler")?;
            a.is("/spec/serviceAccountName", "default")?.is("/spec/serviceAccount", "default")?;
            a.is("/spec/enableServiceLinks", true)?
                .is("/spec/preemptionPolicy", "PreemptLowerPriority")?
                .is("/spec/priority", 0)?;
            a.is("/spec/securityContext", json!({}))?;
            let container = json!({"name": "main", "image": "example/main:1", "resources": {}, "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"});
            a.is("/spec/containers/0", container)?;
            Ok(())
        }),
        case("a new pod is Pending with a class of quality", |c| async move {
            let a = posted(&c, &json!({})).await?;
            a.status(201)?.is("/status/phase", "Pending")?.is("/status/qosClass", "BestEffort")?;
            Ok(())
        }),
        case("tolerations of an unready node are added", |c| async move {
            let a = posted(&c, &json!({})).await?;
            let toleration =
                |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
            a.is(
                "/spec/tolerations",
                json!([toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")]),
            )?;
            Ok(())
        }),
        case("limits are requests where those are not given", |c| async move {
            let container = json!([{"name": "m", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}}]);
            let a = posted(&c, &json!({"containers": container})).await?;
            a.status(201)?.is("/spec/containers/0/resources/requests", json!({"cpu": "500m", "memory": "1Gi"}))?;
            a.is("/status/qosClass", "Burstable")?;
            Ok(())
        }),
        case("a pod whose limits are its requests is Guaranteed", |c| async move {
            let container =
                json!([{"name": "m", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]);
            posted(&c, &json!({"containers": container})).await?.is("/status/qosClass", "Guaranteed")?;
            Ok(())
        }),
        case("quantities are written in their canonical form", |c| async move {
            let container =
                json!([{"name": "m", "image": "i", "resources": {"requests": {"cpu": 0.5, "memory": "1024Mi"}}}]);
            let a = posted(&c, &json!({"containers": container})).await?;
            a.status(201)?.is("/spec/containers/0/resources/requests", json!({"cpu": "500m", "memory": "1Gi"}))?;
            Ok(())
        }),
        case("an image without a tag is pulled always", |c| async move {
            let containers = json!([{"name": "a", "image": "x"}, {"name": "b", "image": "x:latest"}, {"name": "c", "image": "h:5000/x:1"}]);
            let a = posted(&c, &json!({"containers": containers})).await?;
            a.is("/spec/containers/0/imagePullPolicy", "Always")?.is("/spec/containers/1/imagePullPolicy", "Always")?;
            a.is("/spec/containers/2/imagePullPolicy", "IfNotPresent")?;
            Ok(())
        }),
        case("volumes and probes get their defaults", |c| async move {
            let spec = json!({
                "volumes": [{"name": "v", "configMap": {"name": "x"}}, {"name": "s", "secret": {"secretName": "x"}}, {"name": "e"}],
                "containers": [{"name": "m", "image": "i", "livenessProbe": {"httpGet": {"port": 80}}}],
            });
            let a = posted(&c, &spec).await?;
            a.status(201)?
                .is("/spec/volumes/0/configMap/defaultMode", 420)?
                .is("/spec/volumes/1/secret/defaultMode", 420)?;
            a.is("/spec/volumes/2/emptyDir", json!({}))?;
            let probe = json!({"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3});
            a.is("/spec/containers/0/livenessProbe", probe)?;
            Ok(())
        }),
    ]
}

fn validation() -> Vec<crate::Test> {
    vec![
        case("a pod needs containers", |c| async move {
            refused(&c, &json!({"containers": []}), "spec.containers", "FieldValueRequired").await
        }),
        case("a container needs a name and an image", |c| async move {
            refused(&c, &json!({"containers": [{"image": "i"}]}), "spec.containers[0].name", "FieldValueRequired")
                .await?;
            refused(&c, &json!({"containers": [{"name": "m"}]}), "spec.containers[0].image", "FieldValueRequired").await
        }),
        case("container names are labels and unique", |c| async move {
            refused(
                &c,
                &json!({"containers": [{"name": "M", "image": "i"}]}),
                "spec.containers[0].name",
                "FieldValueInvalid",
            )
            .await?;
            let twice = json!({"containers": [{"name": "m", "image": "i"}, {"name": "m", "image": "i"}]});
            refused(&c, &twice, "spec.containers[1].name", "FieldValueDuplicate").await
        }),
        case("a restart policy is one of three", |c| async move {
            refused(&c, &json!({"restartPolicy": "Sometimes"}), "spec.restartPolicy", "FieldValueNotSupported").await
        }),
        case("mounts need their volume", |c| async move {
            let containers = json!([{"name": "m", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]);
            refused(
                &c,
                &json!({"containers": containers}),
                "spec.containers[0].volumeMounts[0].name",
                "FieldValueNotFound",
            )
            .await
        }),
        case("mounts need a path, and one path once", |c| async move {
            let volumes = json!([{"name": "v", "emptyDir": {}}]);
            let mounts = |mounts: Value| json!({"volumes": volumes, "containers": [{"name": "m", "image": "i", "volumeMounts": mounts}]});
            let none = mounts(json!([{"name": "v", "mountPath": ""}]));
            refused(&c, &none, "spec.containers[0].volumeMounts[0].mountPath", "FieldValueRequired").await?;
            let twice = mounts(json!([{"name": "v", "mountPath": "/x"}, {"name": "v", "mountPath": "/x"}]));
            refused(&c, &twice, "spec.containers[0].volumeMounts[1].mountPath", "FieldValueInvalid").await
        }),
        case("volume names are labels and unique", |c| async move {
            let twice = json!({"volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]});
            refused(&c, &twice, "spec.volumes[1].name", "FieldValueDuplicate").await?;
            refused(
                &c,
                &json!({"volumes": [{"name": "V", "emptyDir": {}}]}),
                "spec.volumes[0].name",
                "FieldValueInvalid",
            )
            .await
        }),
        case("a volume has one source", |c| async move {
            let both = json!({"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}]});
            refused(&c, &both, "spec.volumes[0].hostPath", "FieldValueForbidden").await
        }),
        case("environment variables need names", |c| async move {
            let containers = json!([{"name": "m", "image": "i", "env": [{"name": "", "value": "x"}]}]);
            refused(&c, &json!({"containers": containers}), "spec.containers[0].env[0].name", "FieldValueRequired")
                .await
        }),
        case("ports are in range and their names unique", |c| async move {
            let ports = |ports: Value| json!({"containers": [{"name": "m", "image": "i", "ports": ports}]});
            let far = ports(json!([{"containerPort": 70000}]));
            refused(&c, &far, "spec.containers[0].ports[0].containerPort", "FieldValueInvalid").await?;
            let twice = ports(json!([{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]));
            refused(&c, &twice, "spec.containers[0].ports[1].name", "FieldValueDuplicate").await
        }),
        case("a request may not be above its limit", |c| async move {
            let resources = json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}});
            let containers = json!([{"name": "m", "image": "i", "resources": resources}]);
            refused(
                &c,
                &json!({"containers": containers}),
                "spec.containers[0].resources.requests",
                "FieldValueInvalid",
            )
            .await
        }),
        case("a quantity that cannot be read answers 400", |c| async move {
            let containers = json!([{"name": "m", "image": "i", "resources": {"requests": {"cpu": "much"}}}]);
            posted(&c, &json!({"containers": containers})).await?.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("a pod of a service account that does not exist answers 403", |c| async move {
            let a = posted(&c, &json!({"serviceAccountName": "none"})).await?;
            a.failed(403, "Forbidden")?.contains("/message", "error looking up service account")?;
            Ok(())
        }),
    ]
}

fn changes() -> Vec<crate::Test> {
    vec![
        case("an image can be changed", |c| async move {
            c.pod(&pod("a")).await?;
            let patch = json!({"spec": {"containers": [{"name": "main", "image": "example/main:2"}]}});
            let a = c.patch(&c.core("pods/a"), "strategic-merge-patch+json", &patch).await?;
            a.status(200)?.is("/spec/containers/0/image", "example/main:2")?.is("/metadata/generation", 2)?;
            Ok(())
        }),
        case("other fields of the spec cannot be changed", |c| async move {
            c.pod(&pod("a")).await?;
            for patch in [
                json!({"spec": {"restartPolicy": "Never"}}),
                json!({"spec": {"containers": [{"name": "main", "command": ["x"]}]}}),
                json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
                json!({"spec": {"nodeSelector": {"a": "b"}}}),
            ] {
                let a = c.patch(&c.core("pods/a"), "strategic-merge-patch+json", &patch).await?;
                a.invalid("spec", "FieldValueForbidden")?;
                a.contains("/message", "pod updates may not change fields other than `spec.containers[*].image`")?;
            }
            Ok(())
        }),
        case("containers cannot be added or removed", |c| async move {
            c.pod(&pod("a")).await?;
            let patch = json!({"spec": {"containers": [{"name": "more", "image": "i"}]}});
            let a = c.patch(&c.core("pods/a"), "strategic-merge-patch+json", &patch).await?;
            a.invalid("spec.containers", "FieldValueForbidden")?
                .contains("/message", "pod updates may not add or remove containers")?;
            Ok(())
        }),
        case("a deadline can be set and made shorter", |c| async move {
            c.pod(&pod("a")).await?;
            let set = |seconds: u32| json!({"spec": {"activeDeadlineSeconds": seconds}});
            c.merge(&c.core("pods/a"), &set(100)).await?.status(200)?;
            c.merge(&c.core("pods/a"), &set(50)).await?.status(200)?;
            c.merge(&c.core("pods/a"), &set(90)).await?.invalid("spec.activeDeadlineSeconds", "FieldValueInvalid")?;
            Ok(())
        }),
        case("tolerations can be added, not taken away", |c| async move {
            let made = c.pod(&pod("a")).await?;
            let mut list = made["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
            list.push(json!({"key": "x", "operator": "Exists"}));
            c.merge(&c.core("pods/a"), &json!({"spec": {"tolerations": list}})).await?.status(200)?;
            c.merge(&c.core("pods/a"), &json!({"spec": {"tolerations": []}})).await?.failed(422, "Invalid")?;
            Ok(())
        }),
        case("the node cannot be set by an update", |c| async move {
            c.pod(&pod("a")).await?;
            let a = c.merge(&c.core("pods/a"), &json!({"spec": {"nodeName": "n1"}})).await?;
            a.failed(422, "Invalid")?;
            Ok(())
        }),
        case("labels can be changed", |c| async move {
            c.pod(&pod("a")).await?;
            let a = c.merge(&c.core("pods/a"), &json!({"metadata": {"labels": {"x": "y"}}})).await?;
            a.status(200)?.is("/metadata/labels", json!({"x": "y"}))?.is("/metadata/generation", 1)?;
            c.get(&c.core("pods?labelSelector=x%3Dy")).await?.lists(&["a"])?;
            Ok(())
        }),
        case("pods are selected by node, phase and policy", |c| async move {
            c.pod(&pod("a")).await?;
            for (selector, wanted) in [
                ("status.phase%3DPending", vec!["a"]),
                ("status.phase%3DRunning", vec![]),
                ("spec.restartPolicy%3DAlways", vec!["a"]),
                ("spec.nodeName%3D", vec!["a"]),
                ("spec.nodeName%3Dn1", vec![]),
                ("spec.serviceAccountName%3Ddefault,metadata.name%3Da", vec!["a"]),
            ] {
                c.get(&c.core(&format!("pods?fieldSelector={selector}"))).await?.lists(&wanted)?;
            }
            Ok(())
        }),
        case("a status patch changes the phase and conditions only", |c| async move {
            c.pod(&pod("a")).await?;
            let patch =
                json!({"spec": {"restartPolicy": "Never"}, "status": {"phase": "Running", "podIP": "10.1.2.3"}});
            let a = c.merge(&c.core("pods/a/status"), &patch).await?;
            a.status(200)?.is("/status/phase", "Running")?.is("/spec/restartPolicy", "Always")?;
            a.is("/status/podIPs", json!([{"ip": "10.1.2.3"}]))?;
            Ok(())
        }),
    ]
}
