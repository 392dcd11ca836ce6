//! Label and field selectors.

mod labels;

use serde_json::Value;

use crate::error::{ApiError, ApiResult};
use crate::registry::Resource;
use crate::storage::Object;

#[derive(Clone, Debug, PartialEq)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    /// `key>3`: the label is a number above it.
    Above(i64),
    /// `key<3`.
    Below(i64),
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    operator: Operator,
}

/// Label and field requirements of one request.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Reads both selectors; unknown fields are refused, as Kubernetes does.
    pub fn parse(labels: &str, fields: &str, resource: &Resource) -> ApiResult<Self> {
        let fields = parse_fields(fields)?;
        for (path, _, _) in &fields {
            if !supported(resource, path) {
                return Err(ApiError::bad_request(format!("field label not supported: {path}")));
            }
        }
        Ok(Self { labels: labels::parse(labels)?, fields })
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the stored object matches.
    pub fn matches(&self, object: &Object) -> bool {
        self.labels.iter().all(|r| holds(r, object.label(&r.key))) && self.fields_match(object)
    }

    fn fields_match(&self, object: &Object) -> bool {
        let mut decoded: Option<Value> = None;
        self.fields.iter().all(|(path, wanted, equal)| {
            let found = match path.as_str() {
                "metadata.name" => object.key.name == *wanted,
                "metadata.namespace" => object.key.namespace == *wanted,
                _ => field(decoded.get_or_insert_with(|| object.value()), path) == *wanted,
            };
            found == *equal
        })
    }
}

/// Whether a `metav1.LabelSelector` in JSON matches the labels of an object.
pub fn label_selector_matches(selector: &Value, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let exact = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    if !exact.into_iter().all(|(k, v)| label(k) == v.as_str()) {
        return false;
    }
    let expressions = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    expressions.into_iter().all(|e| {
        let key = e.get("key").and_then(Value::as_str).unwrap_or_default().to_string();
        let values = e
            .get("values")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(String::from))
            .collect();
        let operator = match e.get("operator").and_then(Value::as_str) {
            Some("In") => Operator::In(values),
            Some("NotIn") => Operator::NotIn(values),
            Some("Exists") => Operator::Exists,
            _ => Operator::Absent,
        };
        let found = label(&key);
        holds(&Requirement { key, operator }, found)
    })
}

fn holds(requirement: &Requirement, value: Option<&str>) -> bool {
    let number = || value.and_then(|v| v.parse::<i64>().ok());
    match &requirement.operator {
        Operator::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
        Operator::NotIn(values) => value.is_none_or(|v| !values.iter().any(|w| w == v)),
        Operator::Exists => value.is_some(),
        Operator::Absent => value.is_none(),
        Operator::Above(limit) => number().is_some_and(|n| n > *limit),
        Operator::Below(limit) => number().is_some_and(|n| n < *limit),
    }
}

fn supported(resource: &Resource, path: &str) -> bool {
    if path == "metadata.name" || path == "metadata.namespace" && resource.namespaced {
        return true;
    }
    let known: &[&str] = match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("events.k8s.io", "events") => &[
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "reason",
            "type",
            "reportingController",
        ],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "secrets") => &["type"],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("batch", "jobs") => &["status.successful"],
        ("apiextensions.k8s.io", "customresourcedefinitions") => &[],
        _ => &[],
    };
    known.contains(&path) || resource.selectable.iter().any(|s| s.trim_start_matches('.') == path)
}

fn field(value: &Value, path: &str) -> String {
    let path = match path {
        // events.k8s.io objects are stored in the core form
        "status.successful" => "status.succeeded".into(),
        p if p.starts_with("regarding.") => p.replacen("regarding", "involvedObject", 1),
        "reportingController" => "reportingComponent".into(),
        p => p.into(),
    };
    let mut at = value;
    for step in path.split('.') {
        let Some(next) = at.get(step) else {
            return match path.as_str() {
                "spec.unschedulable" | "spec.hostNetwork" => "false".into(),
                "status.succeeded" => "0".into(),
                _ => String::new(),
            };
        };
        at = next;
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Object(map) => map.get("component").and_then(Value::as_str).unwrap_or_default().into(),
        other => other.to_string(),
    }
}

fn parse_fields(text: &str) -> ApiResult<Vec<(String, String, bool)>> {
    let mut fields = Vec::new();
    for part in terms(text) {
        let at = part.find(['=', '!']).unwrap_or(part.len());
        let (path, rest) = part.split_at(at);
        let (value, equal) = if let Some(value) = rest.strip_prefix("!=") {
            (value, false)
        } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
            (value, true)
        } else {
            return Err(ApiError::bad_request(format!("invalid selector: '{text}'; can't understand '{part}'")));
        };
        fields.push((path.to_string(), unescape(value)?, equal));
    }
    Ok(fields)
}

/// Splits at commas that no backslash stands before.
fn terms(text: &str) -> Vec<&str> {
    let (mut start, mut escaped, mut found) = (0, false, Vec::new());
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            found.push(&text[start..at]);
            start = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    found.push(&text[start..]);
    found.into_iter().filter(|p| !p.is_empty()).collect()
}

fn unescape(value: &str) -> ApiResult<String> {
    let mut text = String::new();
    let mut letters = value.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => text.push(escaped),
                _ => return Err(ApiError::bad_request("invalid field selector: invalid escape sequence in value")),
            },
            '=' | ',' => {
                let why = format!("invalid field selector: unescaped character in value: {}", u32::from(c));
                return Err(ApiError::bad_request(why));
            }
            plain => text.push(plain),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_of_every_form() {
        let labels = [("app", "a"), ("tier", "x"), ("size", "3")];
        let matches = |text: &str| {
            labels::parse(text).unwrap().iter().all(|r| holds(r, labels.iter().find(|l| l.0 == r.key).map(|l| l.1)))
        };
        for yes in ["app=a", "app==a,tier!=y", "app in (a, b),tier", "app notin (c)", "!gone", "size>2,size<4", ""] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["app=b", "gone", "!app", "app notin (a,b)", "app in (b)", "size>3", "app<1", "gone>1"] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn field_selectors_may_escape() {
        let parsed = parse_fields(r"a=x\,y,b!=c").unwrap();
        assert_eq!(parsed, [("a".into(), "x,y".into(), true), ("b".into(), "c".into(), false)]);
        assert!(parse_fields("a=b=c").is_err());
        assert!(parse_fields("a").is_err());
    }
}
