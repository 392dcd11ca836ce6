//! What a round of the soak makes.

use serde_json::{Value, json};

/// An image that the program knows; each pod gives its own command.
const IMAGE: &str = "quay.io/kubev2v/forklift:latest";

fn shell(name: &str, script: &str, more: Value) -> Value {
    let mut container = json!({"name": name, "image": IMAGE, "command": ["/bin/sh", "-c", script]});
    for (key, value) in more.as_object().into_iter().flatten() {
        container[key] = value.clone();
    }
    container
}

/// One of everything, in a namespace: documents as kubectl reads them, which it validates one by one.
pub fn all(namespace: &str) -> String {
    let list: Vec<String> = objects(namespace).iter().map(Value::to_string).collect();
    list.join("\n---\n")
}

fn objects(namespace: &str) -> Vec<Value> {
    let here = |name: &str| json!({"name": name, "namespace": namespace});
    let claim = |name: &str, mode: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": here(name), "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeMode": mode, "resources": {"requests": {"storage": "4Mi"}}}})
    };
    let web = shell(
        "web",
        "exec python3 -m http.server 8080 --bind $POD_IP --directory /config",
        json!({
            "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
            "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
            "lifecycle": {"preStop": {"exec": {"command": ["true"]}}},
            "volumeMounts": [{"name": "config", "mountPath": "/config"}],
            "resources": {"limits": {"memory": "256Mi", "cpu": "1"}},
        }),
    );
    let writer = shell(
        "writer",
        "set -e; echo x > /files/x; printf y | dd of=/dev/block conv=notrunc status=none; sync; echo written $(stat -Lc %s /dev/block)",
        json!({"volumeMounts": [{"name": "files", "mountPath": "/files"}],
               "volumeDevices": [{"name": "block", "devicePath": "/dev/block"}]}),
    );
    let job = |name: &str, spec: Value, container: Value| {
        let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": here(name), "spec": {
            "backoffLimit": 6, "template": {"spec": {"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1,
            "containers": [container]}}}});
        for (key, value) in spec.as_object().into_iter().flatten() {
            job["spec"][key] = value.clone();
        }
        job
    };
    let client = "for i in $(seq 100); do test \"$(curl -sf http://$WEB_SERVICE_HOST/word)\" = hello && exit 0; sleep 0.2; done; exit 1";
    let all = json!([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": here("config"), "data": {"word": "hello"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": here("web"), "spec": {
            "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": namespace, "labels": {"app": "web"}},
         "spec": {"terminationGracePeriodSeconds": 1, "containers": [web],
                  "volumes": [{"name": "config", "configMap": {"name": "config"}}]}},
        claim("files", "Filesystem"),
        claim("block", "Block"),
        {"apiVersion": "v1", "kind": "Pod", "metadata": here("writer"), "spec": {"restartPolicy": "Never",
            "containers": [writer], "volumes": [
                {"name": "files", "persistentVolumeClaim": {"claimName": "files"}},
                {"name": "block", "persistentVolumeClaim": {"claimName": "block"}}]}},
        job("indexed", json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}),
            shell("main", "echo $JOB_COMPLETION_INDEX", json!({}))),
        job("client", json!({}), shell("main", client, json!({}))),
        {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "metadata": here("machine"), "spec": {
            "runStrategy": "Always", "template": {"spec": {"terminationGracePeriodSeconds": 0, "domain": {
                "memory": {"guest": "32Mi"}, "devices": {}}}}}},
    ]);
    all.as_array().cloned().unwrap_or_default()
}
