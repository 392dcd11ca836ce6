//! Objects as rows, the way `kubectl get` shows them.

mod columns;
pub mod path;

use serde_json::{Value, json};

use crate::meta;
use crate::registry::Resource;
use columns::{Cell, Column};

/// A table of the objects. `include` is the request's `includeObject`.
pub fn of(resource: &Resource, objects: &[Value], include: &str, metadata: Value, definitions: bool) -> Value {
    let columns = columns::of(resource);
    let shown = |c: &Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    let rows: Vec<Value> = objects.iter().map(|object| row(&columns, object, include)).collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": if definitions { columns.iter().map(shown).collect() } else { Vec::new() },
        "rows": rows,
    })
}

fn row(columns: &[Column], object: &Value, include: &str) -> Value {
    let cells: Vec<Value> = columns
        .iter()
        .map(|c| match &c.cell {
            Cell::Of(make) => make(object),
            Cell::Path(path) => by_path(object, path, &c.kind),
        })
        .collect();
    let object = match include {
        "None" => Value::Null,
        "Object" => object.clone(),
        _ => crate::table::partial(object),
    };
    json!({"cells": cells, "object": object})
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata")})
}

fn by_path(object: &Value, path: &str, kind: &str) -> Value {
    let found = path::find(object, path);
    let Some(first) = found.first() else { return Value::Null };
    match kind {
        "date" => match first.as_str() {
            Some(text) => age(text).into(),
            None => "<unknown>".into(),
        },
        "integer" => first.as_i64().map_or(Value::Null, Value::from),
        "number" | "boolean" => (*first).clone(),
        _ => {
            let texts: Vec<String> =
                found.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), String::from)).collect();
            texts.join(",").into()
        }
    }
}

/// How long ago, as short as `kubectl` says it.
pub fn age(timestamp: &str) -> String {
    let Ok(then) = timestamp.parse::<jiff::Timestamp>() else { return "<unknown>".into() };
    duration(jiff::Timestamp::now().as_second() - then.as_second())
}

/// A duration in at most two units.
pub fn duration(seconds: i64) -> String {
    let (s, m, h, d) = (seconds, seconds / 60, seconds / 3600, seconds / 86400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".into(),
        -1..=0 => "0s".into(),
        1..120 => format!("{s}s"),
        120..600 => two(m, "m", s % 60, "s"),
        600..10_800 => format!("{m}m"),
        10_800..28_800 => two(h, "h", m % 60, "m"),
        28_800..172_800 => format!("{h}h"),
        172_800..691_200 => two(d, "d", h % 24, "h"),
        691_200..63_072_000 => format!("{d}d"),
        63_072_000..252_288_000 => two(d / 365, "y", d % 365, "d"),
        _ => format!("{}y", d / 365),
    }
}

/// Age of an object.
pub fn object_age(object: &Value) -> Value {
    age(meta::text(object, "/metadata/creationTimestamp")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_kubectl() {
        let shown: Vec<String> = [0, 5, 119, 120, 125, 700, 10_900, 90_000, 200_000, 800_000, 70_000_000]
            .iter()
            .map(|s| duration(*s))
            .collect();
        assert_eq!(shown, ["0s", "5s", "119s", "2m", "2m5s", "11m", "3h1m", "25h", "2d7h", "9d", "2y80d"]);
    }

    #[test]
    fn paths_find_values() {
        let object = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}], "list": [1, 2]}, "metadata": {"annotations": {"a.b/c": "x"}}});
        let find = |p: &str| path::find(&object, p).into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(find(".status.conditions[?(@.type==\"Ready\")].status"), [json!("True")]);
        assert_eq!(find(".status.conditions[?(@.type=='Other')].status"), [json!("False")]);
        assert_eq!(find(".status.list[0]"), [json!(1)]);
        assert_eq!(find(".status.list[*]"), [json!(1), json!(2)]);
        assert_eq!(find(".metadata.annotations.a\\.b/c"), [json!("x")]);
        assert_eq!(find("{.metadata.annotations['a.b/c']}"), [json!("x")]);
        assert!(find(".status.none.below").is_empty());
    }
}
