//! The roles that every cluster has: who is not known may look at health and version, who is known may discover and ask
//! about himself, and `view`, `edit`, `admin` are gathered by label, so that others add to them.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#default-roles-and-role-bindings>

use serde_json::{Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Resources by group that `view` reads and `edit` changes.
const WORK: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "events",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
            "pods",
            "pods/log",
            "pods/status",
            "replicationcontrollers",
            "replicationcontrollers/scale",
            "replicationcontrollers/status",
            "resourcequotas",
            "resourcequotas/status",
            "limitranges",
            "serviceaccounts",
            "services",
            "services/status",
            "bindings",
            "namespaces",
            "namespaces/status",
        ],
    ),
    (
        "apps",
        &[
            "controllerrevisions",
            "daemonsets",
            "daemonsets/status",
            "deployments",
            "deployments/scale",
            "deployments/status",
            "replicasets",
            "replicasets/scale",
            "replicasets/status",
            "statefulsets",
            "statefulsets/scale",
            "statefulsets/status",
        ],
    ),
    ("autoscaling", &["horizontalpodautoscalers", "horizontalpodautoscalers/status"]),
    ("batch", &["cronjobs", "cronjobs/status", "jobs", "jobs/status"]),
    ("policy", &["poddisruptionbudgets", "poddisruptionbudgets/status"]),
    ("networking.k8s.io", &["ingresses", "ingresses/status", "networkpolicies"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("events.k8s.io", &["events"]),
];

/// What `edit` changes beside [`WORK`], with its verbs.
const EDIT: &[(&str, &[&str], &[&str])] = &[
    ("", &["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets", "services/proxy"], &["*"]),
    ("", &["pods/eviction", "serviceaccounts/token"], &["create"]),
    ("", &["serviceaccounts"], &["impersonate"]),
    ("coordination.k8s.io", &["leases"], &["*"]),
];

fn work(verbs: &[&str]) -> Vec<Value> {
    WORK.iter()
        .map(|(group, resources)| json!({"apiGroups": [group], "resources": resources, "verbs": verbs}))
        .collect()
}

fn all_but_impersonate() -> Vec<&'static str> {
    vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
}

fn labels(aggregate_to: &str) -> Value {
    let mut labels = json!({"kubernetes.io/bootstrapping": "rbac-defaults"});
    if !aggregate_to.is_empty() {
        labels[format!("{GROUP}/aggregate-to-{aggregate_to}")] = "true".into();
    }
    labels
}

fn gathered(name: &str, also_to: &str) -> (String, Value) {
    let selector = json!({"matchLabels": {format!("{GROUP}/aggregate-to-{name}"): "true"}});
    let role = json!({
        "metadata": {"labels": labels(also_to)}, "aggregationRule": {"clusterRoleSelectors": [selector]}, "rules": [],
    });
    (name.into(), role)
}

fn role(name: &str, aggregate_to: &str, rules: Vec<Value>) -> (String, Value) {
    (name.into(), json!({"metadata": {"labels": labels(aggregate_to)}, "rules": rules}))
}

/// Cluster roles: name and object.
pub fn cluster_roles() -> Vec<(String, Value)> {
    let paths = |paths: &[&str]| json!({"nonResourceURLs": paths, "verbs": ["get"]});
    let ask =
        |group: &str, resources: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": ["create"]});
    let everything = json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]});
    let read = work(&["get", "list", "watch"]);
    let mut edit = work(&["create", "delete", "deletecollection", "patch", "update"]);
    edit.extend(EDIT.iter().map(|(group, resources, verbs)| {
        let verbs = if *verbs == ["*"] { all_but_impersonate() } else { verbs.to_vec() };
        json!({"apiGroups": [group], "resources": resources, "verbs": verbs})
    }));
    let admin = vec![
        json!({"apiGroups": ["authorization.k8s.io"], "resources": ["localsubjectaccessreviews"], "verbs": ["create"]}),
        json!({"apiGroups": [GROUP], "resources": ["rolebindings", "roles"], "verbs": all_but_impersonate()}),
    ];
    vec![
        role("cluster-admin", "", vec![everything, json!({"nonResourceURLs": ["*"], "verbs": ["*"]})]),
        role(
            "system:basic-user",
            "",
            vec![
                ask("authorization.k8s.io", &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
                ask("authentication.k8s.io", &["selfsubjectreviews"]),
            ],
        ),
        role(
            "system:discovery",
            "",
            vec![paths(&[
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ])],
        ),
        role("system:public-info-viewer", "", vec![paths(&["/healthz", "/livez", "/readyz", "/version", "/version/"])]),
        role(
            "system:monitoring",
            "",
            vec![paths(&[
                "/healthz",
                "/healthz/*",
                "/livez",
                "/livez/*",
                "/metrics",
                "/metrics/slis",
                "/readyz",
                "/readyz/*",
            ])],
        ),
        role(
            "system:auth-delegator",
            "",
            vec![
                ask("authentication.k8s.io", &["tokenreviews"]),
                ask("authorization.k8s.io", &["subjectaccessreviews"]),
            ],
        ),
        gathered("view", "edit"),
        gathered("edit", "admin"),
        gathered("admin", ""),
        role("system:aggregate-to-view", "view", read),
        role("system:aggregate-to-edit", "edit", edit),
        role("system:aggregate-to-admin", "admin", admin),
    ]
}

/// Cluster role bindings: name and object.
pub fn cluster_role_bindings() -> Vec<(String, Value)> {
    let binding = |name: &str, groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|g| json!({"apiGroup": GROUP, "kind": "Group", "name": g})).collect();
        let role = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": name});
        (name.to_string(), json!({"metadata": {"labels": labels("")}, "roleRef": role, "subjects": subjects}))
    };
    vec![
        binding("cluster-admin", &["system:masters"]),
        binding("system:basic-user", &["system:authenticated"]),
        binding("system:discovery", &["system:authenticated"]),
        binding("system:public-info-viewer", &["system:authenticated", "system:unauthenticated"]),
        binding("system:monitoring", &["system:monitoring"]),
    ]
}
