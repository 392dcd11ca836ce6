//! Label and field selectors.

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
        Ok(Self { labels: parse_labels(labels)?, fields })
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
    match &requirement.operator {
        Operator::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
        Operator::NotIn(values) => value.is_none_or(|v| !values.iter().any(|w| w == v)),
        Operator::Exists => value.is_some(),
        Operator::Absent => value.is_none(),
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
        p if p.starts_with("regarding.") => p.replacen("regarding", "involvedObject", 1),
        "reportingController" => "reportingComponent".into(),
        p => p.into(),
    };
    let mut at = value;
    for step in path.split('.') {
        let Some(next) = at.get(step) else {
            return if path == "spec.unschedulable" || path == "spec.hostNetwork" {
                "false".into()
            } else {
                String::new()
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
    for part in text.split(',').filter(|p| !p.trim().is_empty()) {
        let (path, value, equal) = if let Some((p, v)) = part.split_once("!=") {
            (p, v, false)
        } else if let Some((p, v)) = part.split_once("==") {
            (p, v, true)
        } else if let Some((p, v)) = part.split_once('=') {
            (p, v, true)
        } else {
            return Err(ApiError::bad_request(format!("invalid field selector: {part:?}; can't understand it")));
        };
        fields.push((path.trim().to_string(), value.trim().to_string(), equal));
    }
    Ok(fields)
}

/// Splits at commas that are not within parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found.into_iter().map(str::trim).filter(|p| !p.is_empty()).collect()
}

fn parse_labels(text: &str) -> ApiResult<Vec<Requirement>> {
    let wrong = |part: &str| ApiError::bad_request(format!("unable to parse requirement: {part:?}"));
    let mut requirements = Vec::new();
    for part in parts(text) {
        let set = |rest: &str| -> Option<Vec<String>> {
            let inner = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
            Some(inner.split(',').map(|v| v.trim().to_string()).collect())
        };
        let requirement = if let Some((key, rest)) = part.split_once(" notin") {
            (key, Operator::NotIn(set(rest).ok_or_else(|| wrong(part))?))
        } else if let Some((key, rest)) = part.split_once(" in") {
            (key, Operator::In(set(rest).ok_or_else(|| wrong(part))?))
        } else if let Some((key, value)) = part.split_once("!=") {
            (key, Operator::NotIn(vec![value.trim().to_string()]))
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (key, Operator::In(vec![value.trim().to_string()]))
        } else if let Some(key) = part.strip_prefix('!') {
            (key, Operator::Absent)
        } else {
            (part, Operator::Exists)
        };
        let key = requirement.0.trim();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return Err(wrong(part));
        }
        requirements.push(Requirement { key: key.to_string(), operator: requirement.1 });
    }
    Ok(requirements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_of_every_form() {
        let labels = [("app", "a"), ("tier", "x")];
        let matches = |text: &str| {
            parse_labels(text).unwrap().iter().all(|r| holds(r, labels.iter().find(|l| l.0 == r.key).map(|l| l.1)))
        };
        for yes in ["app=a", "app==a,tier!=y", "app in (a, b),tier", "app notin (c)", "!gone", ""] {
            assert!(matches(yes), "{yes}");
        }
        for no in ["app=b", "gone", "!app", "app notin (a,b)", "app in (b)"] {
            assert!(!matches(no), "{no}");
        }
        assert!(parse_labels("a b c").is_err());
    }
}
