//! Which requests a webhook or a policy sees.

use std::sync::Arc;

use serde_json::Value;

use super::Asked;
use super::hooks::{Match, Rule};
use crate::registry::Resource;
use crate::selector::label_selector_matches;
use crate::server::Server;
use crate::storage::Key;

/// The resource as the webhook or policy knows it, when it sees the request.
pub fn seen_as(server: &Server, when: &Match, asked: &Asked<'_>) -> Option<Arc<Resource>> {
    if !selected(server, when, asked) {
        return None;
    }
    let own = &asked.context.resource;
    if when.except.iter().any(|rule| fits(rule, own, asked)) {
        return None;
    }
    if when.rules.iter().any(|rule| fits(rule, own, asked)) {
        return Some(own.clone());
    }
    if !when.equivalent {
        return None;
    }
    // other versions of the same stored objects
    let all = server.registry.all();
    let others = all.iter().filter(|r| r.storage == own.storage && (r.version != own.version || r.group != own.group));
    others.into_iter().find(|r| when.rules.iter().any(|rule| fits(rule, r, asked))).cloned()
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn fits(rule: &Rule, resource: &Resource, asked: &Asked<'_>) -> bool {
    let subresource = &asked.context.target.subresource;
    let named = |pattern: &String| {
        let (plural, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
        (plural == "*" || plural == resource.plural)
            && (sub == "*" && (!subresource.is_empty() || plural == "*" || plural == resource.plural)
                || sub == subresource)
    };
    // a namespace is in the scope of the cluster
    let namespaced = resource.namespaced;
    let scope = match rule.scope.as_str() {
        "Namespaced" => namespaced,
        "Cluster" => !namespaced,
        _ => true,
    };
    let name = match asked.context.target.name.as_str() {
        "" => asked.object.map(crate::meta::name).unwrap_or_default(),
        name => name,
    };
    scope
        && any(&rule.operations, asked.operation.name())
        && any(&rule.groups, &resource.group)
        && any(&rule.versions, &resource.version)
        && rule.resources.iter().any(named)
        && (rule.names.is_empty() || rule.names.iter().any(|n| n == name))
}

/// Whether the selectors choose the request.
pub fn selected(server: &Server, when: &Match, asked: &Asked<'_>) -> bool {
    let labels = |value: Option<&Value>| value.and_then(|v| v.pointer("/metadata/labels")).cloned();
    if !is_empty(&when.objects) {
        let matches =
            |value: Option<&Value>| value.is_some() && label_selector_matches(&when.objects, labels(value).as_ref());
        if !matches(asked.object) && !matches(asked.old) {
            return false;
        }
    }
    if is_empty(&when.namespaces) {
        return true;
    }
    let context = asked.context;
    if context.resource.is("", "namespaces") {
        let value = asked.object.or(asked.old);
        return label_selector_matches(&when.namespaces, labels(value).as_ref());
    }
    if !context.resource.namespaced {
        return true;
    }
    let key = Key::new(&"/namespaces".into(), "", &context.target.namespace);
    let namespace = server.store.get(&key).map(|o| o.value());
    label_selector_matches(&when.namespaces, labels(namespace.as_ref()).as_ref())
}

fn is_empty(selector: &Value) -> bool {
    selector.as_object().is_none_or(serde_json::Map::is_empty)
}
