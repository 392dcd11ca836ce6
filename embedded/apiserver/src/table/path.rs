//! The part of JSONPath that printer columns use: fields, indices, wildcards, and filters on one field.

use serde_json::Value;

enum Step {
    Field(String),
    Index(i64),
    All,
    Filter(Vec<String>, String, String),
}

/// The values at the path.
pub fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in parse(path) {
        found = found.into_iter().flat_map(|v| take(v, &step)).collect();
    }
    found.into_iter().filter(|v| !v.is_null()).collect()
}

fn take<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::Index(index) => {
            let Value::Array(list) = value else { return Vec::new() };
            let at = if *index < 0 {
                list.len().checked_sub(index.unsigned_abs() as usize)
            } else {
                usize::try_from(*index).ok()
            };
            at.and_then(|i| list.get(i)).into_iter().collect()
        }
        Step::All => match value {
            Value::Array(list) => list.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        },
        Step::Filter(fields, operator, wanted) => {
            let holds = |item: &&Value| {
                let mut at = Some(*item);
                for field in fields {
                    at = at.and_then(|v| v.get(field));
                }
                let text = at.map(|v| v.as_str().map_or_else(|| v.to_string(), String::from));
                match operator.as_str() {
                    "==" => text.as_deref() == Some(wanted),
                    "!=" => text.as_deref() != Some(wanted),
                    _ => text.is_some(),
                }
            };
            value.as_array().into_iter().flatten().filter(holds).collect()
        }
    }
}

fn parse(path: &str) -> Vec<Step> {
    let text = path.trim().trim_start_matches('{').trim_end_matches('}');
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '[' {
            let end = bracket_end(rest);
            steps.push(bracket(rest.get(1..end).unwrap_or_default()));
            rest = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        if first == '.' {
            rest = &rest[1..];
        }
        let mut name = String::new();
        let mut length = 0;
        let mut escaped = false;
        for c in rest.chars() {
            if !escaped && (c == '.' || c == '[') {
                break;
            }
            length += c.len_utf8();
            if !escaped && c == '\\' {
                escaped = true;
                continue;
            }
            escaped = false;
            name.push(c);
        }
        rest = &rest[length..];
        match name.as_str() {
            "" => {}
            "*" => steps.push(Step::All),
            _ => steps.push(Step::Field(name)),
        }
    }
    steps
}

/// The closing bracket, not looking into quotes and parentheses.
fn bracket_end(text: &str) -> usize {
    let (mut quote, mut depth) = (None, 0);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')') => depth -= 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    text.len()
}

fn bracket(inner: &str) -> Step {
    let inner = inner.trim();
    let unquote = |t: &str| t.trim().trim_matches(['\'', '"']).to_string();
    if inner == "*" {
        return Step::All;
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        let (left, operator, right) = match (filter.split_once("=="), filter.split_once("!=")) {
            (Some((l, r)), _) => (l, "==", unquote(r)),
            (None, Some((l, r))) => (l, "!=", unquote(r)),
            (None, None) => (filter, "", String::new()),
        };
        let fields =
            left.trim().trim_start_matches('@').split('.').filter(|f| !f.is_empty()).map(String::from).collect();
        return Step::Filter(fields, operator.to_string(), right);
    }
    match inner.parse() {
        Ok(index) => Step::Index(index),
        Err(_) => Step::Field(unquote(inner)),
    }
}
