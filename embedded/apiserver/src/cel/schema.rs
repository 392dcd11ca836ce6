//! Structural schemas as CEL sees them: the type that a schema declares, and values read by it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::library;
use super::types::{ObjectType, Type};
use super::value::{Key, List, Map, Order, Value};
use crate::schema::{ListKind, Schema, Type as Shape};

const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The field's name in CEL (`foo-bar` is `foo__dash__bar`); None when it has none.
pub fn escape(name: &str) -> Option<String> {
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut chars = name.chars().peekable();
    if !chars.peek().is_some_and(|c| c.is_ascii_alphabetic() || *c == '_') {
        return None;
    }
    let mut out = String::new();
    while let Some(c) = chars.next() {
        match c {
            '_' if chars.next_if_eq(&'_').is_some() => out.push_str("__underscores__"),
            '.' => out.push_str("__dot__"),
            '-' => out.push_str("__dash__"),
            '/' => out.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => out.push(c),
            _ => return None,
        }
    }
    Some(out)
}

fn format_of(schema: &Schema) -> &str {
    schema.checks.as_ref().and_then(|c| c.format.as_deref()).unwrap_or_default()
}

/// What of a resource's metadata rules can see.
const METADATA: &[&str] = &["name", "generateName"];

/// The type that a schema declares; None where rules see nothing. `root` for whole resources, whose metadata is known.
pub fn declared(schema: &Schema, root: bool, name: &str) -> Option<Type> {
    if schema.int_or_string {
        return Some(Type::Dyn);
    }
    match schema.kind {
        Shape::Array => {
            let items = schema.items.as_ref()?;
            Some(Type::list(declared(items, items.embedded, &format!("{name}.@idx"))?))
        }
        Shape::Object => {
            if let Some(values) = schema.additional.as_ref().filter(|_| schema.properties.is_empty()) {
                return Some(Type::map(declared(values, values.embedded, &format!("{name}.@elem"))?));
            }
            let mut fields = BTreeMap::new();
            for (field, child) in &schema.properties {
                let Some(escaped) = escape(field) else { continue };
                let inner = format!("{name}.{escaped}");
                let kind = match field.as_str() {
                    "metadata" if root => {
                        let texts = METADATA.iter().map(|f| ((*f).to_string(), Type::String)).collect();
                        Some(Type::Object(Arc::new(ObjectType { name: inner, fields: texts })))
                    }
                    _ => declared(child, child.embedded, &inner),
                };
                if let Some(kind) = kind {
                    fields.insert(escaped, kind);
                }
            }
            Some(Type::Object(Arc::new(ObjectType { name: name.into(), fields })))
        }
        Shape::String => Some(match format_of(schema) {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::String,
        }),
        Shape::Boolean => Some(Type::Bool),
        Shape::Number => Some(Type::Double),
        Shape::Integer => Some(Type::Int),
        Shape::Any => None,
    }
}

/// Reads JSON by its schema; what does not fit is read without.
pub fn value(json: &Json, schema: &Schema, root: bool) -> Value {
    match json {
        Json::Array(items) => {
            let Some(shape) = &schema.items else { return Value::from_json(json) };
            let items = items.iter().map(|i| value(i, shape, shape.embedded)).collect();
            let order = match &schema.list {
                ListKind::Atomic => Order::Matters,
                ListKind::Set => Order::Set,
                ListKind::Map(keys) => Order::Keyed(keys.iter().filter_map(|k| escape(k)).collect()),
            };
            Value::List(Arc::new(List { items, order }))
        }
        Json::Object(map) if !schema.int_or_string => {
            let mut entries = BTreeMap::new();
            for (name, item) in map {
                let (key, item) = match (schema.properties.get(name), &schema.additional) {
                    (Some(_), _) if root && name == "metadata" => ("metadata".to_string(), metadata(item)),
                    (Some(shape), _) => {
                        let Some(key) = escape(name) else { continue };
                        (key, value(item, shape, shape.embedded))
                    }
                    (None, Some(shape)) => (name.clone(), value(item, shape, shape.embedded)),
                    // what no schema describes is not seen
                    (None, None) => continue,
                };
                entries.insert(Key::Text(Arc::from(key)), item);
            }
            Value::Map(Arc::new(Map { entries }))
        }
        Json::String(text) if schema.kind == Shape::String => of_text(text, format_of(schema)),
        #[expect(clippy::cast_possible_truncation, reason = "a whole number by its schema")]
        Json::Number(number) => match schema.kind {
            Shape::Number => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            Shape::Integer => Value::Int(number.as_i64().unwrap_or_else(|| number.as_f64().unwrap_or(0.0) as i64)),
            _ => Value::from_json(json),
        },
        json => Value::from_json(json),
    }
}

fn metadata(json: &Json) -> Value {
    let seen = METADATA.iter().filter_map(|f| Some((Key::Text(Arc::from(*f)), Value::from_json(json.get(f)?))));
    Value::map(seen.collect())
}

fn of_text(text: &str, format: &str) -> Value {
    use base64::Engine as _;
    let read = match format {
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).ok().map(|b| Value::Bytes(b.into())),
        "duration" => library::parse_span(text).map(Value::Duration),
        "date-time" => library::parse_moment(text).map(Value::Timestamp),
        "date" => library::parse_moment(&format!("{text}T00:00:00Z")).map(Value::Timestamp),
        _ => None,
    };
    read.unwrap_or_else(|| Value::text(text))
}
