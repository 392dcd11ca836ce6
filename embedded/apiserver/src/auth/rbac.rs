//! Authorization by the stored RBAC objects. Members of `system:masters` may do everything.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::User;
use crate::storage::{Key, Store};

const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    /// get, list, watch, create, update, patch, delete, deletecollection, or another verb.
    pub verb: &'a str,
    /// API group.
    pub group: &'a str,
    /// Plural.
    pub resource: &'a str,
    /// Subresource.
    pub subresource: &'a str,
    /// Namespace.
    pub namespace: &'a str,
    /// Object.
    pub name: &'a str,
    /// Path, when it is not about a resource.
    pub path: Option<&'a str>,
}

fn words<'a>(rule: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    rule.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn rule_allows(rule: &Value, wanted: &Attributes) -> bool {
    let any = |field: &str, value: &str| words(rule, field).any(|w| w == "*" || w == value);
    if !any("verbs", wanted.verb) {
        return false;
    }
    if let Some(path) = wanted.path {
        return words(rule, "nonResourceURLs")
            .any(|w| w == "*" || w == path || w.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix)));
    }
    let resource = if wanted.subresource.is_empty() {
        wanted.resource.to_string()
    } else {
        format!("{}/{}", wanted.resource, wanted.subresource)
    };
    let resource_fits = words(rule, "resources").any(|w| {
        w == "*"
            || w == resource
            || w.strip_prefix("*/").is_some_and(|sub| !wanted.subresource.is_empty() && sub == wanted.subresource)
    });
    let mut names = words(rule, "resourceNames").peekable();
    any("apiGroups", wanted.group)
        && resource_fits
        && (names.peek().is_none() || !wanted.name.is_empty() && names.any(|n| n == wanted.name))
}

/// The subject of the binding that means this user, as RBAC words it.
fn subject_of(binding: &Value, user: &User) -> Option<String> {
    let namespace = crate::meta::namespace(binding);
    binding.get("subjects").and_then(Value::as_array).into_iter().flatten().find_map(|subject| {
        let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = text("name");
        match text("kind") {
            "User" => (name == user.name).then(|| format!("User \"{name}\"")),
            "Group" => user.groups.iter().any(|g| g == name).then(|| format!("Group \"{name}\"")),
            "ServiceAccount" => {
                let namespace = if text("namespace").is_empty() { namespace } else { text("namespace") };
                (user.name == format!("system:serviceaccount:{namespace}:{name}"))
                    .then(|| format!("ServiceAccount \"{name}/{namespace}\""))
            }
            _ => None,
        }
    })
}

/// Rules of a role, None when it is not there; those of an aggregated cluster role are gathered from the roles that it
/// selects, which may be aggregated in turn.
fn rules(store: &Store, kind: &str, namespace: &str, name: &str) -> Option<Vec<Value>> {
    let (resource, namespace) = if kind == "Role" { ("roles", namespace) } else { ("clusterroles", "") };
    let resource: Arc<str> = format!("{GROUP}/{resource}").into();
    let role = store.get(&Key::new(&resource, namespace, name))?.value();
    let mut found = Vec::new();
    let mut seen = HashSet::from([name.to_string()]);
    let mut open = vec![role];
    while let Some(role) = open.pop() {
        found.extend(role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default());
        let selectors = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
        for selector in selectors.into_iter().flatten() {
            for other in store.list(&resource, None).0 {
                let other = other.value();
                if crate::selector::label_selector_matches(selector, other.pointer("/metadata/labels"))
                    && seen.insert(crate::meta::name(&other).to_string())
                {
                    open.push(other);
                }
            }
        }
    }
    Some(found)
}

/// All rules that hold for the user in the namespace.
pub fn rules_for(store: &Store, user: &User, namespace: &str) -> Vec<Value> {
    bound_rules(store, user, namespace).into_iter().flat_map(|bound| bound.rules).collect()
}

/// The rules that one binding gives, with the binding's own words for them.
struct Bound {
    rules: Vec<Value>,
    /// `ClusterRoleBinding "b" of ClusterRole "r" to Group "g"`.
    why: String,
    /// What is wrong with the binding, such as a role that is not there.
    error: Option<String>,
}

fn bound_rules(store: &Store, user: &User, namespace: &str) -> Vec<Bound> {
    let mut found = Vec::new();
    let mut gather = |binding: &Value, namespace: &str| {
        let Some(subject) = subject_of(binding, user) else { return };
        let role = |field: &str| crate::meta::text(binding, &format!("/roleRef/{field}"));
        let (kind, name) = if namespace.is_empty() {
            ("ClusterRoleBinding", crate::meta::name(binding).to_string())
        } else {
            ("RoleBinding", format!("{}/{namespace}", crate::meta::name(binding)))
        };
        let why = format!("{kind} \"{name}\" of {} \"{}\" to {subject}", role("kind"), role("name"));
        let (rules, error) = match rules(store, role("kind"), namespace, role("name")) {
            Some(rules) => (rules, None),
            None => {
                let what = role("kind").to_lowercase();
                (Vec::new(), Some(format!("{what}.{GROUP} \"{}\" not found", role("name"))))
            }
        };
        found.push(Bound { rules, why, error });
    };
    for binding in store.list(&format!("{GROUP}/clusterrolebindings"), None).0 {
        gather(&binding.value(), "");
    }
    if !namespace.is_empty() {
        for binding in store.list(&format!("{GROUP}/rolebindings"), Some(namespace)).0 {
            gather(&binding.value(), namespace);
        }
    }
    found
}

/// What was decided, and why.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// RBAC's words: the binding that allows it, or what is wrong with bindings that might have.
    pub reason: String,
}

/// Whether the user may do it.
pub fn decide(store: &Store, user: &User, wanted: &Attributes) -> Decision {
    if user.is_admin() {
        return Decision { allowed: true, reason: String::new() };
    }
    let bound = bound_rules(store, user, wanted.namespace);
    if let Some(by) = bound.iter().find(|b| b.rules.iter().any(|rule| rule_allows(rule, wanted))) {
        return Decision { allowed: true, reason: format!("RBAC: allowed by {}", by.why) };
    }
    let errors: Vec<String> = bound.into_iter().filter_map(|b| b.error).collect();
    let reason = match errors.as_slice() {
        [] => String::new(),
        [one] => format!("RBAC: {one}"),
        many => format!("RBAC: [{}]", many.join(", ")),
    };
    Decision { allowed: false, reason }
}

/// The text of a refusal.
pub fn refusal(user: &User, wanted: &Attributes, decision: &Decision) -> String {
    let mut text = if let Some(path) = wanted.path {
        format!("User \"{}\" cannot {} path \"{path}\"", user.name, wanted.verb)
    } else {
        let mut resource = wanted.resource.to_string();
        if !wanted.subresource.is_empty() {
            resource += &format!("/{}", wanted.subresource);
        }
        let place = if wanted.namespace.is_empty() {
            "at the cluster scope".to_string()
        } else {
            format!("in the namespace \"{}\"", wanted.namespace)
        };
        format!(
            "User \"{}\" cannot {} resource \"{resource}\" in API group \"{}\" {place}",
            user.name, wanted.verb, wanted.group
        )
    };
    if !decision.reason.is_empty() {
        text += &format!(": {}", decision.reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_match_as_rbac_does() {
        let rule = json!({"verbs": ["get", "list"], "apiGroups": ["", "x.io"], "resources": ["pods", "pods/log", "*/scale"], "resourceNames": ["a"]});
        let ask = |verb, group, resource, subresource, name| {
            rule_allows(&rule, &Attributes { verb, group, resource, subresource, name, ..Attributes::default() })
        };
        assert!(ask("get", "", "pods", "", "a"));
        assert!(ask("get", "", "pods", "log", "a"));
        assert!(ask("get", "x.io", "things", "scale", "a"));
        assert!(!ask("get", "", "pods", "", "b"));
        assert!(!ask("list", "", "pods", "", ""));
        assert!(!ask("delete", "", "pods", "", "a"));
        assert!(!ask("get", "", "pods", "exec", "a"));
        assert!(!ask("get", "y.io", "pods", "", "a"));
    }
}
