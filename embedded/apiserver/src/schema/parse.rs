//! From the JSON form of a schema to [`Schema`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::check::Checks;
use super::{ListKind, Schema, Type};
use crate::cel::rules::Rule;

/// Reads the schema of a whole object.
pub fn root(json: &Value, at: &str) -> Result<Schema, String> {
    node(json, at, true)
}

/// Reads one schema node.
pub fn parse(json: &Value, at: &str) -> Result<Schema, String> {
    node(json, at, false)
}

fn node(json: &Value, at: &str, root: bool) -> Result<Schema, String> {
    let node = match json {
        Value::Object(node) => node,
        Value::Bool(true) => return Ok(Schema { preserve_unknown: true, ..Schema::default() }),
        other => return Err(format!("{at}: a schema must be an object, not {other}")),
    };
    let flag = |name: &str| node.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mut schema = Schema {
        kind: kind(node, at)?,
        nullable: flag("nullable"),
        default: node.get("default").cloned(),
        preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
        int_or_string: flag("x-kubernetes-int-or-string"),
        embedded: flag("x-kubernetes-embedded-resource"),
        atomic: node.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        required: strings(node.get("required")),
        list: list_kind(node),
        ..Schema::default()
    };
    if let Some(properties) = node.get("properties").and_then(Value::as_object) {
        let mut parsed = BTreeMap::new();
        for (name, child) in properties {
            parsed.insert(name.clone(), Arc::new(parse(child, &format!("{at}.properties[{name}]"))?));
        }
        schema.properties = parsed;
    }
    match node.get("additionalProperties") {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) => schema.additional = Some(Schema::any()),
        Some(child) => schema.additional = Some(Arc::new(parse(child, &format!("{at}.additionalProperties"))?)),
    }
    if let Some(items) = node.get("items") {
        schema.items = Some(Arc::new(parse(items, &format!("{at}.items"))?));
    }
    if root {
        schema.kind = Type::Object;
    }
    if schema.embedded || root {
        schema.take_in_metadata();
    }
    schema.checks = Checks::parse(node, at)?.map(Box::new);
    let rules = node.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
    schema.rules = rules.map(|rule| Rule::compile(rule, &schema, schema.embedded || root)).collect();
    let below = schema.properties.values().chain(&schema.items).chain(&schema.additional);
    schema.has_rules = !schema.rules.is_empty() || below.into_iter().any(|child| child.has_rules);
    Ok(schema)
}

fn kind(node: &Map<String, Value>, at: &str) -> Result<Type, String> {
    let Some(kind) = node.get("type") else { return Ok(Type::Any) };
    match kind.as_str() {
        Some("object") => Ok(Type::Object),
        Some("array") => Ok(Type::Array),
        Some("string") => Ok(Type::String),
        Some("integer") => Ok(Type::Integer),
        Some("number") => Ok(Type::Number),
        Some("boolean") => Ok(Type::Boolean),
        Some("") => Ok(Type::Any),
        _ => Err(format!("{at}.type: {kind} is not one of object, array, string, integer, number, boolean")),
    }
}

fn list_kind(node: &Map<String, Value>) -> ListKind {
    match node.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(strings(node.get("x-kubernetes-list-map-keys"))),
        _ => ListKind::Atomic,
    }
}

/// The strings of a JSON array.
pub fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}
