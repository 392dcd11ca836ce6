//! Tables: server-side printing for built-in kinds, and objects that are only their metadata.

use serde_json::{Value, json};

use crate::Answer;
use crate::case::{Case, Chapter, case, deployment, pod};

const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// The chapter.
pub fn chapter() -> Chapter {
    let mut cases = form();
    cases.extend(kinds());
    cases.extend(partial());
    Chapter { name: "tables", cases }
}

/// Names of the columns that are shown without `-o wide`, and of those that are not.
fn columns(a: &Answer) -> (Vec<String>, Vec<String>) {
    let all = a.at("/columnDefinitions").as_array().cloned().unwrap_or_default();
    let named = |wide: bool| {
        let some = all.iter().filter(|c| (c["priority"] == 0) != wide);
        some.map(|c| c["name"].as_str().unwrap_or_default().to_string()).collect()
    };
    (named(false), named(true))
}

/// The cells of the first row, without the age.
fn cells(a: &Answer) -> Vec<Value> {
    let all = a.at("/columnDefinitions").as_array().cloned().unwrap_or_default();
    let row = a.at("/rows/0/cells").as_array().cloned().unwrap_or_default();
    all.iter().zip(row).filter(|(c, _)| c["name"] != "Age").map(|(_, cell)| cell).collect()
}

/// Makes the object and reads it as a table; expects the columns (shown, wide) and the cells without the age.
async fn shows(
    c: &Case,
    collection: &str,
    body: &Value,
    shown: &[&str],
    wide: &[&str],
    wanted: Value,
) -> anyhow::Result<()> {
    c.make(collection, body).await?;
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    let a = c.get_as(&format!("{collection}/{name}"), TABLE).await?;
    expect(&a, shown, wide, wanted)
}

fn expect(a: &Answer, shown: &[&str], wide: &[&str], wanted: Value) -> anyhow::Result<()> {
    let (found, found_wide) = columns(a);
    a.status(200)?.holds(found == shown, format_args!("columns {shown:?} expected, got {found:?}"))?;
    a.holds(found_wide == wide, format_args!("wide columns {wide:?} expected, got {found_wide:?}"))?;
    let cells = Value::from(cells(a));
    a.holds(cells == wanted, format_args!("cells {wanted} expected, got {cells}"))?;
    Ok(())
}

fn form() -> Vec<crate::Test> {
    vec![
        case("a list as a table has columns, rows and the list's revision", |c| async move {
            for name in ["a", "b"] {
                c.make(&c.core("secrets"), &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}))
                    .await?;
            }
            let a = c.get_as(&c.core("secrets"), TABLE).await?;
            a.status(200)?
                .is("/kind", "Table")?
                .is("/apiVersion", "meta.k8s.io/v1")?
                .has("/metadata/resourceVersion")?;
            a.is("/rows/0/cells/0", "a")?.is("/rows/1/cells/0", "b")?.lacks("/rows/2")?;
            a.is("/columnDefinitions/0/name", "Name")?.is("/columnDefinitions/0/type", "string")?;
            a.is("/columnDefinitions/0/format", "name")?.is("/columnDefinitions/0/priority", 0)?;
            Ok(())
        }),
        case("rows carry the objects' metadata", |c| async move {
            c.config_map("a", json!({"k": "v"})).await?;
            let a = c.get_as(&c.core("configmaps/a"), TABLE).await?;
            a.is("/rows/0/object/kind", "PartialObjectMetadata")?.is("/rows/0/object/apiVersion", "meta.k8s.io/v1")?;
            a.is("/rows/0/object/metadata/name", "a")?.lacks("/rows/0/object/data")?;
            Ok(())
        }),
        case("includeObject chooses what rows carry", |c| async move {
            c.config_map("a", json!({"k": "v"})).await?;
            let path = c.core("configmaps/a");
            let a = c.get_as(&format!("{path}?includeObject=Object"), TABLE).await?;
            a.is("/rows/0/object/kind", "ConfigMap")?.is("/rows/0/object/data/k", "v")?;
            c.get_as(&format!("{path}?includeObject=None"), TABLE).await?.status(200)?.lacks("/rows/0/object")?;
            c.get_as(&format!("{path}?includeObject=Some"), TABLE).await?.failed(400, "BadRequest")?;
            Ok(())
        }),
        case("a table of pages has continue and remaining count", |c| async move {
            for name in ["a", "b", "c"] {
                c.make(&c.core("secrets"), &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}}))
                    .await?;
            }
            let a = c.get_as(&format!("{}?limit=1", c.core("secrets")), TABLE).await?;
            a.has("/metadata/continue")?.is("/metadata/remainingItemCount", 2)?.lacks("/rows/1")?;
            Ok(())
        }),
        case("an empty list is a table without rows", |c| async move {
            let a = c.get_as(&c.core("secrets"), TABLE).await?;
            a.status(200)?.is("/rows", json!([]))?.has("/columnDefinitions/0")?;
            Ok(())
        }),
        case("an error is a Status in spite of the table", |c| async move {
            c.get_as(&c.core("secrets/none"), TABLE).await?.failed(404, "NotFound")?;
            Ok(())
        }),
        case("a created object can be answered as a table", |c| async move {
            let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
            let a = c.request("POST", &c.core("secrets")).header("accept", TABLE).json(&body).send().await?;
            a.status(201)?.is("/kind", "Table")?.is("/rows/0/cells/0", "a")?;
            Ok(())
        }),
    ]
}

fn kinds() -> Vec<crate::Test> {
    vec![
        case("config maps", |c| async move {
            c.config_map("a", json!({"x": "1", "y": "2"})).await?;
            let a = c.get_as(&c.core("configmaps/a"), TABLE).await?;
            expect(&a, &["Name", "Data", "Age"], &[], json!(["a", 2]))
        }),
        case("secrets", |c| async move {
            let body =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"x": "1"}});
            shows(&c, &c.core("secrets"), &body, &["Name", "Type", "Data", "Age"], &[], json!(["a", "Opaque", 1])).await
        }),
        case("pods", |c| async move {
            c.pod(&pod("a")).await?;
            let a = c.get_as(&c.core("pods/a"), TABLE).await?;
            let wide = ["IP", "Node", "Nominated Node", "Readiness Gates"];
            let wanted = json!(["a", "0/1", "Pending", "0", "<none>", "<none>", "<none>", "<none>"]);
            expect(&a, &["Name", "Ready", "Status", "Restarts", "Age"], &wide, wanted)
        }),
        case("pods that run, restart, fail and end", |c| async move {
            c.pod(&pod("a")).await?;
            let state = |phase: &str, ready: bool, restarts: u8, state: Value| {
                json!({"status": {"phase": phase, "containerStatuses": [
                    {"name": "main", "ready": ready, "restartCount": restarts, "image": "i", "imageID": "", "state": state},
                ]}})
            };
            let started = json!({"running": {"startedAt": "2020-01-01T00:00:00Z"}});
            for (status, ready, shown) in [
                (state("Running", true, 0, started.clone()), "1/1", "Running"),
                (
                    state("Running", false, 3, json!({"waiting": {"reason": "CrashLoopBackOff"}})),
                    "0/1",
                    "CrashLoopBackOff",
                ),
                (state("Failed", false, 3, json!({"terminated": {"exitCode": 2, "reason": "Error"}})), "0/1", "Error"),
                (
                    state("Succeeded", false, 0, json!({"terminated": {"exitCode": 0, "reason": "Completed"}})),
                    "0/1",
                    "Completed",
                ),
            ] {
                c.merge(&c.core("pods/a/status"), &status).await?.status(200)?;
                let a = c.get_as(&c.core("pods/a"), TABLE).await?;
                a.is("/rows/0/cells/1", ready)?.is("/rows/0/cells/2", shown)?;
            }
            Ok(())
        }),
        case("a pod that is being deleted shows Terminating", |c| async move {
            c.pod(&pod("a")).await?;
            let body = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}});
            c.post(&c.core("pods/a/binding"), &body).await?.status(201)?;
            c.delete(&c.core("pods/a")).await?.status(200)?;
            c.get_as(&c.core("pods/a"), TABLE).await?.is("/rows/0/cells/2", "Terminating")?;
            c.delete_with(&c.core("pods/a"), &json!({"gracePeriodSeconds": 0})).await?.status(200)?;
            Ok(())
        }),
        case("services", |c| async move {
            let body = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
                "spec": {"clusterIP": "None", "selector": {"app": "x"}, "ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "name": "dns"}]}});
            let mut body = body;
            body["spec"]["ports"][0]["name"] = "web".into();
            let shown = ["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"];
            let wanted = json!(["a", "ClusterIP", "None", "<none>", "80/TCP,53/UDP", "app=x"]);
            shows(&c, &c.core("services"), &body, &shown, &["Selector"], wanted).await
        }),
        case("deployments", |c| async move {
            let shown = ["Name", "Ready", "Up-to-date", "Available", "Age"];
            let wanted = json!(["a", "0/1", 0, 0, "main", "example/main:1", "app=a"]);
            shows(
                &c,
                &c.group("apps/v1", "deployments"),
                &deployment("a"),
                &shown,
                &["Containers", "Images", "Selector"],
                wanted,
            )
            .await
        }),
        case("stateful sets", |c| async move {
            let mut body = deployment("a");
            body["kind"] = "StatefulSet".into();
            body["spec"]["serviceName"] = "s".into();
            let wanted = json!(["a", "0/1", "main", "example/main:1"]);
            shows(
                &c,
                &c.group("apps/v1", "statefulsets"),
                &body,
                &["Name", "Ready", "Age"],
                &["Containers", "Images"],
                wanted,
            )
            .await
        }),
        case("jobs", |c| async move {
            let body = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": {"completions": 2, "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}}}});
            let path = c.group("batch/v1", "jobs");
            c.make(&path, &body).await?;
            let a = c.get_as(&format!("{path}/a"), TABLE).await?;
            let (shown, wide) = columns(&a);
            a.holds(shown == ["Name", "Status", "Completions", "Duration", "Age"], "the columns")?;
            a.holds(wide == ["Containers", "Images", "Selector"], "the wide columns")?;
            a.is("/rows/0/cells/1", "Running")?.is("/rows/0/cells/2", "0/2")?.is("/rows/0/cells/3", "")?;
            Ok(())
        }),
        case("cron jobs", |c| async move {
            let body = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "a"}, "spec": {"schedule": "5 * * * *", "jobTemplate": {"spec": {
                "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}}}}}});
            let shown = ["Name", "Schedule", "Timezone", "Suspend", "Active", "Last Schedule", "Age"];
            let wanted = json!(["a", "5 * * * *", "<none>", "False", 0, "<none>", "m", "i", "<none>"]);
            shows(&c, &c.group("batch/v1", "cronjobs"), &body, &shown, &["Containers", "Images", "Selector"], wanted)
                .await
        }),
        case("claims", |c| async move {
            let body = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a"},
                "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
            let shown = [
                "Name",
                "Status",
                "Volume",
                "Capacity",
                "Access Modes",
                "StorageClass",
                "VolumeAttributesClass",
                "Age",
            ];
            let wanted = json!(["a", "Pending", "", "", "", "fast", "<unset>", "Filesystem"]);
            shows(&c, &c.core("persistentvolumeclaims"), &body, &shown, &["VolumeMode"], wanted).await
        }),
        case("storage classes", |c| async move {
            let name = c.name("sc");
            let body = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}, "provisioner": "x.io/p"});
            let shown = ["Name", "Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"];
            let wanted = json!([name, "x.io/p", "Delete", "Immediate", false]);
            shows(&c, "/apis/storage.k8s.io/v1/storageclasses", &body, &shown, &[], wanted).await
        }),
        case("namespaces", |c| async move {
            let a = c.get_as(&format!("/api/v1/namespaces/{}", c.ns()), TABLE).await?;
            expect(&a, &["Name", "Status", "Age"], &[], json!([c.ns(), "Active"]))
        }),
        case("nodes", |c| async move {
            let name = c.name("node");
            let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"node-role.kubernetes.io/worker": ""}}});
            c.make("/api/v1/nodes", &body).await?;
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.33.0",
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "6", "osImage": "os", "containerRuntimeVersion": "cri", "kubeProxyVersion": "", "operatingSystem": "", "architecture": ""},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
            c.merge(&format!("/api/v1/nodes/{name}/status"), &status).await?.status(200)?;
            let a = c.get_as(&format!("/api/v1/nodes/{name}"), TABLE).await?;
            let wide = ["Internal-IP", "External-IP", "OS-Image", "Kernel-Version", "Container-Runtime"];
            let wanted = json!([name, "Ready", "worker", "v1.33.0", "10.0.0.1", "<none>", "os", "6", "cri"]);
            expect(&a, &["Name", "Status", "Roles", "Age", "Version"], &wide, wanted)
        }),
        case("events", |c| async move {
            let body = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a", "namespace": c.ns()}, "type": "Normal", "reason": "Made", "message": "all well",
                "involvedObject": {"kind": "Pod", "name": "p", "namespace": c.ns()}, "count": 3, "source": {"component": "me"},
                "firstTimestamp": "2020-01-01T00:00:00Z", "lastTimestamp": "2020-01-01T00:00:00Z"});
            c.make(&c.core("events"), &body).await?;
            let a = c.get_as(&c.core("events/a"), TABLE).await?;
            let (shown, wide) = columns(&a);
            a.holds(
                shown == ["Last Seen", "Type", "Reason", "Object", "Message"],
                format_args!("the columns, got {shown:?}"),
            )?;
            a.holds(
                wide == ["Subobject", "Source", "First Seen", "Count", "Name"],
                format_args!("the wide columns, got {wide:?}"),
            )?;
            a.is("/rows/0/cells/1", "Normal")?.is("/rows/0/cells/2", "Made")?.is("/rows/0/cells/3", "pod/p")?;
            a.is("/rows/0/cells/5", "me")?.is("/rows/0/cells/6", "all well")?;
            Ok(())
        }),
        case("leases and service accounts", |c| async move {
            let body = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {"holderIdentity": "me"}});
            shows(
                &c,
                &c.group("coordination.k8s.io/v1", "leases"),
                &body,
                &["Name", "Holder", "Age"],
                &[],
                json!(["a", "me"]),
            )
            .await?;
            let body = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}});
            shows(&c, &c.core("serviceaccounts"), &body, &["Name", "Secrets", "Age"], &[], json!(["a", 0])).await
        }),
        case("roles and bindings", |c| async move {
            let rbac = "rbac.authorization.k8s.io/v1";
            let body = json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": {"name": "a"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "eve"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
            let wanted = json!(["a", "ClusterRole/view", "eve", "", "n/s"]);
            shows(
                &c,
                &c.group(rbac, "rolebindings"),
                &body,
                &["Name", "Role", "Age"],
                &["Users", "Groups", "ServiceAccounts"],
                wanted,
            )
            .await?;
            let body = json!({"apiVersion": rbac, "kind": "Role", "metadata": {"name": "a"}, "rules": []});
            c.make(&c.group(rbac, "roles"), &body).await?;
            let a = c.get_as(&c.group(rbac, "roles/a"), TABLE).await?;
            let (shown, _) = columns(&a);
            a.holds(shown == ["Name", "Created At"], format_args!("the columns, got {shown:?}"))?;
            Ok(())
        }),
    ]
}

fn partial() -> Vec<crate::Test> {
    vec![
        case("an object as its metadata", |c| async move {
            c.config_map("a", json!({"k": "v"})).await?;
            let a = c.get_as(&c.core("configmaps/a"), PARTIAL).await?;
            a.status(200)?.is("/kind", "PartialObjectMetadata")?.is("/apiVersion", "meta.k8s.io/v1")?;
            a.is("/metadata/name", "a")?.has("/metadata/uid")?.lacks("/data")?;
            Ok(())
        }),
        case("a list as metadata: items carry kind and version", |c| async move {
            c.make(&c.core("secrets"), &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}))
                .await?;
            let a = c.get_as(&c.core("secrets"), PARTIAL_LIST).await?;
            a.lists(&["a"])?.is("/kind", "PartialObjectMetadataList")?.has("/metadata/resourceVersion")?;
            a.is("/items/0/kind", "PartialObjectMetadata")?.is("/items/0/apiVersion", "meta.k8s.io/v1")?;
            Ok(())
        }),
        case("a single object is no list: PartialObjectMetadataList of it answers 406", |c| async move {
            c.config_map("a", json!({})).await?;
            c.get_as(&c.core("configmaps/a"), PARTIAL_LIST).await?.failed(406, "NotAcceptable")?;
            Ok(())
        }),
        case("a patch can be answered as metadata", |c| async move {
            c.config_map("a", json!({})).await?;
            let a = c
                .request("PATCH", &c.core("configmaps/a"))
                .header("accept", PARTIAL)
                .body("application/merge-patch+json", r#"{"metadata":{"labels":{"x":"y"}}}"#)
                .send()
                .await?;
            a.status(200)?.is("/kind", "PartialObjectMetadata")?.is("/metadata/labels/x", "y")?;
            Ok(())
        }),
    ]
}
