//! Authorization by the stored RBAC objects. Members of `system:masters` may do everything.

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

fn applies_to(binding: &Value, user: &User) -> bool {
    let namespace = crate::meta::namespace(binding);
    binding.get("subjects").and_then(Value::as_array).into_iter().flatten().any(|subject| {
        let text = |field: &str| subject.get(field).and_then(Value::as_str).unwrap_or_default();
        match text("kind") {
            "User" => text("name") == user.name,
            "Group" => user.groups.iter().any(|g| g == text("name")),
            "ServiceAccount" => {
                let namespace = if text("namespace").is_empty() { namespace } else { text("namespace") };
                user.name == format!("system:serviceaccount:{namespace}:{}", text("name"))
            }
            _ => false,
        }
    })
}

/// Rules of a role; those of an aggregated cluster role are gathered from the roles that it selects.
fn rules(store: &Store, kind: &str, namespace: &str, name: &str) -> Vec<Value> {
    let (resource, namespace) = if kind == "Role" { ("roles", namespace) } else { ("clusterroles", "") };
    let resource: Arc<str> = format!("{GROUP}/{resource}").into();
    let Some(role) = store.get(&Key::new(&resource, namespace, name)) else { return Vec::new() };
    let role = role.value();
    let mut found = role.get("rules").and_then(Value::as_array).cloned().unwrap_or_default();
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
    for selector in selectors.into_iter().flatten() {
        for other in store.list(&resource, None).0 {
            let other = other.value();
            if crate::meta::name(&other) != name
                && crate::selector::label_selector_matches(selector, other.pointer("/metadata/labels"))
            {
                found.extend(other.get("rules").and_then(Value::as_array).cloned().unwrap_or_default());
            }
        }
    }
    found
}

/// All rules that hold for the user in the namespace.
pub fn rules_for(store: &Store, user: &User, namespace: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut gather = |binding: &Value, namespace: &str| {
        if applies_to(binding, user) {
            let role = |field: &str| crate::meta::text(binding, &format!("/roleRef/{field}"));
            found.extend(rules(store, role("kind"), namespace, role("name")));
        }
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

/// Whether the user may do it.
pub fn allowed(store: &Store, user: &User, wanted: &Attributes) -> bool {
    if user.is_admin() {
        return true;
    }
    if let Some(path) = wanted.path
        && (path.starts_with("/api")
            || path.starts_with("/openapi")
            || path == "/version"
            || path.starts_with("/healthz"))
    {
        // discovery is open to everybody who is authenticated, as by system:discovery
        return true;
    }
    rules_for(store, user, wanted.namespace).iter().any(|rule| rule_allows(rule, wanted))
}

/// The reason given with a refusal.
pub fn refusal(user: &User, wanted: &Attributes) -> String {
    let mut text = format!("User \"{}\" cannot {} resource \"", user.name, wanted.verb);
    text += wanted.resource;
    if !wanted.subresource.is_empty() {
        text += &format!("/{}", wanted.subresource);
    }
    text += &format!("\" in API group \"{}\"", wanted.group);
    if wanted.namespace.is_empty() {
        text + " at the cluster scope"
    } else {
        text + &format!(" in the namespace \"{}\"", wanted.namespace)
    }
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
