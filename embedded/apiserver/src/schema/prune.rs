//! Removing fields that the schema does not know, and telling which they were.

use serde_json::Value;

use super::{Schema, Type};

/// Removes unknown fields; returns their paths (`spec.template.foo`).
pub fn prune(value: &mut Value, schema: &Schema) -> Vec<String> {
    let mut unknown = Vec::new();
    walk(value, schema, schema.preserve_unknown, &mut String::new(), &mut unknown);
    unknown
}

fn walk(value: &mut Value, schema: &Schema, preserve: bool, path: &mut String, unknown: &mut Vec<String>) {
    let preserve = preserve || schema.preserve_unknown;
    match value {
        Value::Object(map) => {
            if schema.int_or_string
                || matches!(schema.kind, Type::String | Type::Integer | Type::Number | Type::Boolean | Type::Array)
            {
                return;
            }
            map.retain(|name, item| {
                let length = path.len();
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                let keep = match schema.field(name) {
                    Some(child) => {
                        // a known child decides for itself whether what is unknown below it stays
                        walk(item, child, false, path, unknown);
                        true
                    }
                    None if preserve => true,
                    None => {
                        unknown.push(path.clone());
                        false
                    }
                };
                path.truncate(length);
                keep
            });
        }
        Value::Array(list) => {
            let Some(items) = &schema.items else { return };
            for (index, item) in list.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                walk(item, items, false, path, unknown);
                path.truncate(length);
            }
        }
        _ => {}
    }
}
