//! Checking a value against its schema, with the messages that Kubernetes gives.

use std::collections::HashSet;

use serde_json::Value;

use super::check::Checks;
use super::{ListKind, Schema, Type};
use crate::error::Cause;

/// Returns what is wrong with `value`, whose path is `path`.
pub fn validate(value: &Value, schema: &Schema, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(value, schema, path, &mut causes);
    causes
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn wanted(kind: Type) -> &'static str {
    match kind {
        Type::Any => "any",
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
    }
}

fn right_type(value: &Value, schema: &Schema) -> bool {
    if value.is_null() {
        return schema.nullable || schema.kind == Type::Any && !schema.int_or_string;
    }
    if schema.int_or_string {
        return value.is_string() || value.is_number();
    }
    match schema.kind {
        Type::Any => true,
        Type::Object => value.is_object(),
        Type::Array => value.is_array(),
        Type::String => value.is_string(),
        Type::Integer => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|f| f.fract() == 0.0),
        Type::Number => value.is_number(),
        Type::Boolean => value.is_boolean(),
    }
}

/// The child's path.
pub fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_string() } else { format!("{path}.{field}") }
}

fn check(value: &Value, schema: &Schema, path: &str, causes: &mut Vec<Cause>) {
    if !right_type(value, schema) {
        let kind = if schema.int_or_string { "integer,string" } else { wanted(schema.kind) };
        let shown = if path.is_empty() { "<nil>" } else { path };
        causes.push(Cause::type_invalid(
            shown,
            type_name(value),
            &format!("{shown} in body must be of type {kind}: \"{}\"", type_name(value)),
        ));
        return;
    }
    if value.is_null() {
        return;
    }
    if let Some(checks) = &schema.checks {
        restrict(value, schema, checks, path, causes);
    }
    match value {
        Value::Object(map) => {
            if schema.embedded {
                for name in ["apiVersion", "kind"] {
                    if map.get(name).and_then(Value::as_str).is_none_or(str::is_empty) {
                        causes.push(Cause::required(join(path, name), "must not be empty"));
                    }
                }
            }
            for name in &schema.required {
                if !map.contains_key(name) {
                    causes.push(Cause::required(join(path, name), ""));
                }
            }
            for (name, item) in map {
                if let Some(child) = schema.field(name) {
                    let at = if schema.properties.contains_key(name) { join(path, name) } else { map_path(path, name) };
                    check(item, child, &at, causes);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = &schema.items {
                for (index, item) in list.iter().enumerate() {
                    check(item, items, &format!("{path}[{index}]"), causes);
                }
            }
            unique(list, &schema.list, path, causes);
        }
        _ => {}
    }
}

/// A value as Go prints it, which is how Kubernetes shows the keys of a list's element.
fn go_value(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn map_path(path: &str, name: &str) -> String {
    join(path, name)
}

fn unique(list: &[Value], kind: &ListKind, path: &str, causes: &mut Vec<Cause>) {
    let mut seen = HashSet::new();
    for (index, item) in list.iter().enumerate() {
        let key = match kind {
            ListKind::Atomic => return,
            ListKind::Set => item.clone(),
            ListKind::Map(keys) => {
                Value::Object(keys.iter().filter_map(|k| Some((k.clone(), item.get(k)?.clone()))).collect())
            }
        };
        if !seen.insert(key.to_string()) {
            causes.push(Cause::duplicate_shown(format!("{path}[{index}]"), &go_value(&key)));
        }
    }
}

fn restrict(value: &Value, schema: &Schema, checks: &Checks, path: &str, causes: &mut Vec<Cause>) {
    let wrong = |causes: &mut Vec<Cause>, detail: String| causes.push(Cause::invalid(path, value, &detail));
    if let Some(number) = value.as_f64() {
        if let Some((limit, exclusive)) = checks.minimum
            && (number < limit || exclusive && number == limit)
        {
            wrong(
                causes,
                format!("{path} in body should be greater than {}{limit}", if exclusive { "" } else { "or equal to " }),
            );
        }
        if let Some((limit, exclusive)) = checks.maximum
            && (number > limit || exclusive && number == limit)
        {
            wrong(
                causes,
                format!("{path} in body should be less than {}{limit}", if exclusive { "" } else { "or equal to " }),
            );
        }
        if let Some(factor) = checks.multiple_of
            && factor > 0.0
            && (number / factor).fract() != 0.0
        {
            wrong(causes, format!("{path} in body should be a multiple of {factor}"));
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if checks.min_length.is_some_and(|min| length < min) {
            wrong(causes, format!("{path} in body should be at least {} chars long", checks.min_length.unwrap_or(0)));
        }
        if checks.max_length.is_some_and(|max| length > max) {
            causes.push(Cause::too_long(path, checks.max_length.unwrap_or(0)));
        }
        if let Some((source, regex)) = &checks.pattern
            && !regex.is_match(text)
        {
            wrong(causes, format!("{path} in body should match '{source}'"));
        }
        if let Some(format) = &checks.format
            && !format_holds(format, text)
        {
            causes.push(Cause::type_invalid(
                path,
                text,
                &format!("{path} in body must be of type {format}: \"{text}\""),
            ));
        }
    }
    if let Value::Array(list) = value {
        let count = list.len() as u64;
        if checks.min_items.is_some_and(|min| count < min) {
            let why = format!("{path} in body should have at least {} items", checks.min_items.unwrap_or(0));
            causes.push(Cause::invalid(path, &count.into(), &why));
        }
        if checks.max_items.is_some_and(|max| count > max) {
            causes.push(Cause::too_many(path, count, checks.max_items.unwrap_or(0)));
        }
        let texts: HashSet<String> = list.iter().map(Value::to_string).collect();
        if checks.unique_items && texts.len() < list.len() {
            causes.push(Cause::invalid(path, value, &format!("{path} in body shouldn't contain duplicates")));
        }
    }
    if let Value::Object(map) = value {
        let count = map.len() as u64;
        if checks.min_properties.is_some_and(|min| count < min) {
            let why = format!("{path} in body should have at least {} properties", checks.min_properties.unwrap_or(0));
            causes.push(Cause::invalid(path, &count.into(), &why));
        }
        if checks.max_properties.is_some_and(|max| count > max) {
            causes.push(Cause::too_many(path, count, checks.max_properties.unwrap_or(0)));
        }
    }
    if !checks.one_of_values.is_empty() && !checks.one_of_values.contains(value) {
        let allowed: Vec<String> =
            checks.one_of_values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), String::from)).collect();
        causes.push(Cause::unsupported(path, value, &allowed));
    }
    combine(value, schema, checks, path, causes);
}

fn combine(value: &Value, schema: &Schema, checks: &Checks, path: &str, causes: &mut Vec<Cause>) {
    let fits = |child: &Schema| validate(value, child, path).is_empty();
    // of a combination Kubernetes names the place in the text only
    let whole = |why: String| Cause::invalid("<nil>", &"".into(), &format!("\"{path}\" {why}"));
    let kept = checks.all_of.iter().filter(|c| fits(c)).count();
    for child in &checks.all_of {
        check(value, child, path, causes);
    }
    if kept < checks.all_of.len() {
        let none = if kept == 0 { ". None validated" } else { "" };
        causes.push(whole(format!("must validate all the schemas (allOf){none}")));
    }
    // int-or-string schemas carry anyOf {integer, string}, which the type check has covered
    if !checks.any_of.is_empty() && !schema.int_or_string && !checks.any_of.iter().any(|c| fits(c)) {
        causes.push(whole("must validate at least one schema (anyOf)".into()));
        // the first alternative tells what is missing
        let best = checks.any_of.iter().map(|c| validate(value, c, path)).min_by_key(Vec::len);
        causes.extend(best.unwrap_or_default());
    }
    let fitting = checks.one_of.iter().filter(|c| fits(c)).count();
    if !checks.one_of.is_empty() && fitting != 1 {
        let found = if fitting == 0 { "none valid".to_string() } else { format!("{fitting} valid alternatives") };
        causes.push(whole(format!("must validate one and only one schema (oneOf). Found {found}")));
    }
    if checks.not.as_ref().is_some_and(|c| fits(c)) {
        causes.push(whole("must not validate the schema (not)".into()));
    }
}

fn format_holds(format: &str, text: &str) -> bool {
    match format {
        "date-time" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "uuid" => uuid::Uuid::parse_str(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        // formats that Kubernetes does not know restrict nothing
        _ => true,
    }
}
