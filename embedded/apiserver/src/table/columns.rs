//! The columns of each kind.

use serde_json::Value;

use super::{age, duration, object_age};
use crate::meta::text;
use crate::registry::Resource;

/// Where a cell comes from.
pub enum Cell {
    /// A function of the object.
    Of(fn(&Value) -> Value),
    /// A JSON path.
    Path(String),
}

/// One column.
pub struct Column {
    /// Heading.
    pub name: String,
    /// OpenAPI type.
    pub kind: String,
    /// OpenAPI format.
    pub format: String,
    /// Help.
    pub description: String,
    /// 0 is shown always, 1 in wide output.
    pub priority: i64,
    /// The value.
    pub cell: Cell,
}

type Row = (&'static str, i64, fn(&Value) -> Value);

const NAME: Row = ("Name", 0, |o| text(o, "/metadata/name").into());
const AGE: Row = ("Age", 0, object_age);

/// The columns of a resource.
pub fn of(resource: &Resource) -> Vec<Column> {
    if resource.custom && !resource.columns.is_empty() {
        let declared = resource.columns.iter().map(|c| Column {
            name: c.name.clone(),
            kind: c.kind.clone(),
            format: c.format.clone(),
            description: c.description.clone(),
            priority: c.priority,
            cell: Cell::Path(c.path.clone()),
        });
        return std::iter::once(plain(&NAME)).chain(declared).collect();
    }
    let rows: &[Row] = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => POD,
        ("", "services") => SERVICE,
        ("", "namespaces") => &[NAME, ("Status", 0, |o| text(o, "/status/phase").into()), AGE],
        ("", "configmaps") => &[NAME, ("Data", 0, |o| (size(o, "/data") + size(o, "/binaryData")).into()), AGE],
        ("", "secrets") => {
            &[NAME, ("Type", 0, |o| text(o, "/type").into()), ("Data", 0, |o| size(o, "/data").into()), AGE]
        }
        ("", "serviceaccounts") => &[NAME, ("Secrets", 0, |o| size(o, "/secrets").into()), AGE],
        ("", "nodes") => NODE,
        ("", "persistentvolumeclaims") => CLAIM,
        ("", "persistentvolumes") => VOLUME,
        ("" | "events.k8s.io", "events") => EVENT,
        ("", "endpoints") => &[NAME, ("Endpoints", 0, endpoints), AGE],
        ("batch", "jobs") => JOB,
        ("batch", "cronjobs") => CRON_JOB,
        ("apps", "deployments") => DEPLOYMENT,
        ("apps", "replicasets") => REPLICA_SET,
        ("apps", "statefulsets") => &[
            NAME,
            ("Ready", 0, |o| format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas")).into()),
            AGE,
            ("Containers", 1, containers),
            ("Images", 1, images),
        ],
        ("apps", "daemonsets") => DAEMON_SET,
        ("storage.k8s.io", "storageclasses") => CLASS,
        ("coordination.k8s.io", "leases") => &[NAME, ("Holder", 0, |o| text(o, "/spec/holderIdentity").into()), AGE],
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            &[NAME, ("Created At", 0, |o| text(o, "/metadata/creationTimestamp").into())]
        }
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => {
            &[NAME, ("Created At", 0, |o| text(o, "/metadata/creationTimestamp").into())]
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => ROLE_BINDING,
        ("policy", "poddisruptionbudgets") => BUDGET,
        ("scheduling.k8s.io", "priorityclasses") => {
            &[NAME, ("Value", 0, |o| o.get("value").cloned().unwrap_or_default()), AGE]
        }
        _ => &[NAME, AGE],
    };
    rows.iter().map(plain).collect()
}

fn plain(row: &Row) -> Column {
    let counts = matches!(
        row.0,
        "Data"
            | "Secrets"
            | "Desired"
            | "Current"
            | "Up-to-date"
            | "Available"
            | "Allowed Disruptions"
            | "Value"
            | "Active"
    );
    Column {
        name: row.0.into(),
        kind: if counts { "integer" } else { "string" }.into(),
        format: if row.0 == "Name" { "name" } else { "" }.into(),
        description: String::new(),
        priority: row.1,
        cell: Cell::Of(row.2),
    }
}

fn size(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

fn joined(object: &Value, pointer: &str) -> String {
    list(object, pointer).filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn images(object: &Value) -> Value {
    of_containers(object, "/spec/template", "/image")
}

fn containers(object: &Value) -> Value {
    of_containers(object, "/spec/template", "/name")
}

fn of_containers(object: &Value, template: &str, field: &str) -> Value {
    let containers = list(object, &format!("{template}/spec/containers"));
    containers.map(|container| text(container, field)).collect::<Vec<_>>().join(",").into()
}

fn selector(object: &Value) -> Value {
    let labels = object
        .pointer("/spec/selector/matchLabels")
        .or_else(|| object.pointer("/spec/selector"))
        .and_then(Value::as_object);
    let parts: Vec<String> =
        labels.into_iter().flatten().filter_map(|(k, v)| Some(format!("{k}={}", v.as_str()?))).collect();
    or_none(&parts.join(","))
}

const POD: &[Row] = &[
    NAME,
    ("Ready", 0, |o| {
        let ready = list(o, "/status/containerStatuses")
            .filter(|c| c.get("ready").and_then(Value::as_bool) == Some(true))
            .count();
        format!("{ready}/{}", size(o, "/spec/containers")).into()
    }),
    ("Status", 0, |o| pod_status(o).into()),
    ("Restarts", 0, |o| {
        let count: i64 = list(o, "/status/containerStatuses").map(|c| number(c, "/restartCount")).sum();
        let last = list(o, "/status/containerStatuses")
            .map(|c| text(c, "/lastState/terminated/finishedAt"))
            .max()
            .unwrap_or_default();
        if count > 0 && !last.is_empty() {
            format!("{count} ({} ago)", age(last)).into()
        } else {
            count.to_string().into()
        }
    }),
    AGE,
    ("IP", 1, |o| or_none(text(o, "/status/podIP"))),
    ("Node", 1, |o| or_none(text(o, "/spec/nodeName"))),
    ("Nominated Node", 1, |o| or_none(text(o, "/status/nominatedNodeName"))),
    ("Readiness Gates", 1, |_| "<none>".into()),
];

/// What a person wants to know of a pod in one word.
fn pod_status(pod: &Value) -> String {
    let mut status = text(pod, "/status/reason").to_string();
    if status.is_empty() {
        status = text(pod, "/status/phase").to_string();
    }
    let init_count = size(pod, "/spec/initContainers");
    let mut initializing = false;
    for (index, container) in list(pod, "/status/initContainerStatuses").enumerate() {
        let reason = text(container, "/state/terminated/reason");
        let waiting = text(container, "/state/waiting/reason");
        if container.pointer("/state/terminated").is_some() && number(container, "/state/terminated/exitCode") == 0 {
            continue;
        }
        status = if container.pointer("/state/terminated").is_some() {
            if reason.is_empty() {
                format!("Init:ExitCode:{}", number(container, "/state/terminated/exitCode"))
            } else {
                format!("Init:{reason}")
            }
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{init_count}")
        };
        initializing = true;
        break;
    }
    if !initializing {
        let mut running = false;
        for container in list(pod, "/status/containerStatuses") {
            let waiting = text(container, "/state/waiting/reason");
            let terminated = text(container, "/state/terminated/reason");
            if !waiting.is_empty() {
                status = waiting.to_string();
            } else if container.pointer("/state/terminated").is_some() {
                status = if terminated.is_empty() {
                    format!("ExitCode:{}", number(container, "/state/terminated/exitCode"))
                } else {
                    terminated.to_string()
                };
            } else if container.get("ready").and_then(Value::as_bool) == Some(true) {
                running = true;
            }
        }
        if running && status == "Completed" {
            status = "Running".into();
        }
    }
    let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if crate::meta::is_deleting(pod) && !over { "Terminating".into() } else { status }
}

const SERVICE: &[Row] = &[
    NAME,
    ("Type", 0, |o| text(o, "/spec/type").into()),
    ("Cluster-IP", 0, |o| or_none(text(o, "/spec/clusterIP"))),
    ("External-IP", 0, |o| or_none(text(o, "/spec/externalName"))),
    ("Port(s)", 0, |o| {
        or_none(
            &list(o, "/spec/ports")
                .map(|p| format!("{}/{}", number(p, "/port"), text(p, "/protocol")))
                .collect::<Vec<_>>()
                .join(","),
        )
    }),
    AGE,
    ("Selector", 1, selector),
];

fn endpoints(object: &Value) -> Value {
    let mut all = Vec::new();
    for subset in list(object, "/subsets") {
        for address in list(subset, "/addresses") {
            all.extend(list(subset, "/ports").map(|p| format!("{}:{}", text(address, "/ip"), number(p, "/port"))));
        }
    }
    or_none(&all.join(","))
}

const NODE: &[Row] = &[
    NAME,
    ("Status", 0, |o| {
        let ready = list(o, "/status/conditions").find(|c| text(c, "/type") == "Ready").map(|c| text(c, "/status"));
        let mut status = match ready {
            Some("True") => "Ready",
            Some(_) => "NotReady",
            None => "Unknown",
        }
        .to_string();
        if o.pointer("/spec/unschedulable").and_then(Value::as_bool) == Some(true) {
            status += ",SchedulingDisabled";
        }
        status.into()
    }),
    ("Roles", 0, |o| {
        let labels = o.pointer("/metadata/labels").and_then(Value::as_object);
        let roles: Vec<&str> =
            labels.into_iter().flatten().filter_map(|(k, _)| k.strip_prefix("node-role.kubernetes.io/")).collect();
        or_none(&roles.join(","))
    }),
    AGE,
    ("Version", 0, |o| text(o, "/status/nodeInfo/kubeletVersion").into()),
    ("Internal-IP", 1, |o| {
        or_none(
            list(o, "/status/addresses")
                .find(|a| text(a, "/type") == "InternalIP")
                .map(|a| text(a, "/address"))
                .unwrap_or_default(),
        )
    }),
    ("External-IP", 1, |o| {
        or_none(
            list(o, "/status/addresses")
                .find(|a| text(a, "/type") == "ExternalIP")
                .map(|a| text(a, "/address"))
                .unwrap_or_default(),
        )
    }),
    ("OS-Image", 1, |o| text(o, "/status/nodeInfo/osImage").into()),
    ("Kernel-Version", 1, |o| text(o, "/status/nodeInfo/kernelVersion").into()),
    ("Container-Runtime", 1, |o| text(o, "/status/nodeInfo/containerRuntimeVersion").into()),
];

fn modes(modes: String) -> Value {
    let short = |m: &str| match m {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "?",
    };
    modes.split(',').filter(|m| !m.is_empty()).map(short).collect::<Vec<_>>().join(",").into()
}

fn claim_status(object: &Value) -> Value {
    if crate::meta::is_deleting(object) { "Terminating".into() } else { text(object, "/status/phase").into() }
}

const CLAIM: &[Row] = &[
    NAME,
    ("Status", 0, claim_status),
    ("Volume", 0, |o| text(o, "/spec/volumeName").into()),
    ("Capacity", 0, |o| text(o, "/status/capacity/storage").into()),
    ("Access Modes", 0, |o| modes(joined(o, "/status/accessModes"))),
    ("StorageClass", 0, |o| text(o, "/spec/storageClassName").into()),
    ("VolumeAttributesClass", 0, |o| match text(o, "/spec/volumeAttributesClassName") {
        "" => "<unset>".into(),
        class => class.into(),
    }),
    AGE,
    ("VolumeMode", 1, |o| text(o, "/spec/volumeMode").into()),
];

const VOLUME: &[Row] = &[
    NAME,
    ("Capacity", 0, |o| text(o, "/spec/capacity/storage").into()),
    ("Access Modes", 0, |o| modes(joined(o, "/spec/accessModes"))),
    ("Reclaim Policy", 0, |o| text(o, "/spec/persistentVolumeReclaimPolicy").into()),
    ("Status", 0, claim_status),
    ("Claim", 0, |o| match text(o, "/spec/claimRef/name") {
        "" => "".into(),
        name => format!("{}/{name}", text(o, "/spec/claimRef/namespace")).into(),
    }),
    ("StorageClass", 0, |o| text(o, "/spec/storageClassName").into()),
    ("Reason", 0, |o| text(o, "/status/reason").into()),
    AGE,
    ("VolumeMode", 1, |o| text(o, "/spec/volumeMode").into()),
];

fn event_field<'a>(object: &'a Value, stored: &str, served: &str) -> &'a str {
    match text(object, stored) {
        "" => text(object, served),
        found => found,
    }
}

const EVENT: &[Row] = &[
    ("Last Seen", 0, |o| {
        let seen = [
            text(o, "/series/lastObservedTime"),
            event_field(o, "/lastTimestamp", "/deprecatedLastTimestamp"),
            text(o, "/eventTime"),
            text(o, "/metadata/creationTimestamp"),
        ];
        age(seen.into_iter().find(|t| !t.is_empty()).unwrap_or_default()).into()
    }),
    ("Type", 0, |o| text(o, "/type").into()),
    ("Reason", 0, |o| text(o, "/reason").into()),
    ("Object", 0, |o| {
        let kind = event_field(o, "/involvedObject/kind", "/regarding/kind").to_lowercase();
        format!("{kind}/{}", event_field(o, "/involvedObject/name", "/regarding/name")).into()
    }),
    ("Subobject", 1, |o| event_field(o, "/involvedObject/fieldPath", "/regarding/fieldPath").into()),
    ("Source", 1, |o| event_field(o, "/source/component", "/reportingController").into()),
    ("Message", 0, |o| event_field(o, "/message", "/note").trim().into()),
    ("First Seen", 1, |o| {
        let seen = [event_field(o, "/firstTimestamp", "/deprecatedFirstTimestamp"), text(o, "/eventTime")];
        seen.into_iter().find(|t| !t.is_empty()).map_or_else(|| "<unknown>".into(), age).into()
    }),
    ("Count", 1, |o| number(o, "/count").max(1).to_string().into()),
    ("Name", 1, |o| text(o, "/metadata/name").into()),
];

fn seconds_between(from: &str, to: &str) -> Option<i64> {
    let to = to.parse::<jiff::Timestamp>().unwrap_or_else(|_| jiff::Timestamp::now());
    Some(to.as_second() - from.parse::<jiff::Timestamp>().ok()?.as_second())
}

fn condition(object: &Value, kind: &str) -> bool {
    list(object, "/status/conditions").any(|c| text(c, "/type") == kind && text(c, "/status") == "True")
}

const JOB: &[Row] = &[
    NAME,
    ("Status", 0, |o| {
        let status = if condition(o, "Complete") {
            "Complete"
        } else if condition(o, "Failed") {
            "Failed"
        } else if crate::meta::is_deleting(o) {
            "Terminating"
        } else if condition(o, "Suspended") {
            "Suspended"
        } else {
            "Running"
        };
        status.into()
    }),
    ("Completions", 0, |o| match o.pointer("/spec/completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{}/{wanted}", number(o, "/status/succeeded")).into(),
        None => format!("{}/1 of {}", number(o, "/status/succeeded"), number(o, "/spec/parallelism")).into(),
    }),
    ("Duration", 0, |o| {
        seconds_between(text(o, "/status/startTime"), text(o, "/status/completionTime"))
            .map(duration)
            .unwrap_or_default()
            .into()
    }),
    AGE,
    ("Containers", 1, containers),
    ("Images", 1, images),
    ("Selector", 1, selector),
];

const CRON_JOB: &[Row] = &[
    NAME,
    ("Schedule", 0, |o| text(o, "/spec/schedule").into()),
    ("Timezone", 0, |o| or_none(text(o, "/spec/timeZone"))),
    ("Suspend", 0, |o| {
        if o.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) { "True".into() } else { "False".into() }
    }),
    ("Active", 0, |o| size(o, "/status/active").into()),
    ("Last Schedule", 0, |o| match text(o, "/status/lastScheduleTime") {
        "" => "<none>".into(),
        time => age(time).into(),
    }),
    AGE,
    ("Containers", 1, |o| of_containers(o, "/spec/jobTemplate/spec/template", "/name")),
    ("Images", 1, |o| of_containers(o, "/spec/jobTemplate/spec/template", "/image")),
    ("Selector", 1, |o| {
        let labels = o.pointer("/spec/jobTemplate/spec/selector/matchLabels").and_then(Value::as_object);
        let parts = labels.into_iter().flatten().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        or_none(&parts.collect::<Vec<_>>().join(","))
    }),
];

const DEPLOYMENT: &[Row] = &[
    NAME,
    ("Ready", 0, |o| format!("{}/{}", number(o, "/status/readyReplicas"), number(o, "/spec/replicas")).into()),
    ("Up-to-date", 0, |o| number(o, "/status/updatedReplicas").into()),
    ("Available", 0, |o| number(o, "/status/availableReplicas").into()),
    AGE,
    ("Containers", 1, containers),
    ("Images", 1, images),
    ("Selector", 1, selector),
];

const REPLICA_SET: &[Row] = &[
    NAME,
    ("Desired", 0, |o| number(o, "/spec/replicas").into()),
    ("Current", 0, |o| number(o, "/status/replicas").into()),
    ("Ready", 0, |o| number(o, "/status/readyReplicas").into()),
    AGE,
    ("Containers", 1, containers),
    ("Images", 1, images),
    ("Selector", 1, selector),
];

const DAEMON_SET: &[Row] = &[
    NAME,
    ("Desired", 0, |o| number(o, "/status/desiredNumberScheduled").into()),
    ("Current", 0, |o| number(o, "/status/currentNumberScheduled").into()),
    ("Ready", 0, |o| number(o, "/status/numberReady").into()),
    ("Up-to-date", 0, |o| number(o, "/status/updatedNumberScheduled").into()),
    ("Available", 0, |o| number(o, "/status/numberAvailable").into()),
    ("Node Selector", 0, |o| {
        let labels = o.pointer("/spec/template/spec/nodeSelector").and_then(Value::as_object);
        let parts = labels.into_iter().flatten().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?)));
        or_none(&parts.collect::<Vec<_>>().join(","))
    }),
    AGE,
    ("Containers", 1, containers),
    ("Images", 1, images),
    ("Selector", 1, selector),
];

const CLASS: &[Row] = &[
    ("Name", 0, |o| {
        let default = text(o, "/metadata/annotations/storageclass.kubernetes.io~1is-default-class") == "true";
        format!("{}{}", text(o, "/metadata/name"), if default { " (default)" } else { "" }).into()
    }),
    ("Provisioner", 0, |o| text(o, "/provisioner").into()),
    ("ReclaimPolicy", 0, |o| text(o, "/reclaimPolicy").into()),
    ("VolumeBindingMode", 0, |o| text(o, "/volumeBindingMode").into()),
    ("AllowVolumeExpansion", 0, |o| (o.get("allowVolumeExpansion").and_then(Value::as_bool) == Some(true)).into()),
    AGE,
];

/// Names of a binding's subjects of one kind.
fn subjects(object: &Value, kind: &str) -> Value {
    let some = list(object, "/subjects").filter(|s| text(s, "/kind") == kind);
    let name = |s: &Value| match text(s, "/namespace") {
        "" => text(s, "/name").to_string(),
        namespace => format!("{namespace}/{}", text(s, "/name")),
    };
    some.map(name).collect::<Vec<_>>().join(", ").into()
}

const ROLE_BINDING: &[Row] = &[
    NAME,
    ("Role", 0, |o| format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")).into()),
    AGE,
    ("Users", 1, |o| subjects(o, "User")),
    ("Groups", 1, |o| subjects(o, "Group")),
    ("ServiceAccounts", 1, |o| subjects(o, "ServiceAccount")),
];

const BUDGET: &[Row] = &[
    NAME,
    ("Min Available", 0, |o| {
        o.pointer("/spec/minAvailable").map_or_else(|| "N/A".into(), |v| v.to_string().trim_matches('"').into())
    }),
    ("Max Unavailable", 0, |o| {
        o.pointer("/spec/maxUnavailable").map_or_else(|| "N/A".into(), |v| v.to_string().trim_matches('"').into())
    }),
    ("Allowed Disruptions", 0, |o| number(o, "/status/disruptionsAllowed").into()),
    AGE,
];
