//! Filling in defaults, as a structural schema says.

use serde_json::Value;

use super::Schema;

/// Sets absent fields that have a default; a null that is not allowed is replaced by the default too.
pub fn apply_defaults(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            for (name, child) in &schema.properties {
                let Some(default) = &child.default else { continue };
                let missing = match map.get(name) {
                    None => true,
                    Some(Value::Null) => !child.nullable,
                    Some(_) => false,
                };
                if missing {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, item) in map.iter_mut() {
                if let Some(child) = schema.field(name) {
                    apply_defaults(item, child);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    apply_defaults(item, items);
                }
            }
        }
        _ => {}
    }
}

/// Removes nulls that the schema does not allow: they mean "absent".
pub fn drop_nulls(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(map) => {
            map.retain(|name, item| {
                !(item.is_null() && schema.field(name).is_some_and(|s| !s.nullable && !s.preserve_unknown))
            });
            for (name, item) in map.iter_mut() {
                if let Some(child) = schema.field(name) {
                    drop_nulls(item, child);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for item in list {
                    drop_nulls(item, items);
                }
            }
        }
        _ => {}
    }
}
