//! Conditions of an object's status.

use serde_json::Value;

/// Returns the conditions of an object, or of a status of its own (a virtual machine in a plan).
fn all(object: &Value) -> impl Iterator<Item = &Value> {
    let list = object["status"]["conditions"].as_array().or(object["conditions"].as_array());
    list.into_iter().flatten()
}

/// Finds a condition by its type.
pub fn find<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    all(object).find(|condition| condition["type"] == kind)
}

/// Says whether a condition is there with status True.
pub fn is_true(object: &Value, kind: &str) -> bool {
    find(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Returns the messages of what blocks an object, with the items concerned.
pub fn blockers(object: &Value) -> Vec<String> {
    let critical = all(object).filter(|condition| {
        matches!(condition["category"].as_str(), Some("Critical" | "Error")) && condition["status"] == "True"
    });
    critical.map(message).collect()
}

/// Returns a condition's message with its items.
pub fn message(condition: &Value) -> String {
    let text = condition["message"].as_str().unwrap_or_default();
    let items: Vec<_> = condition["items"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if items.is_empty() { text.to_owned() } else { format!("{text} [{}]", items.join(", ")) }
}

/// Returns the first of these types that is True.
pub fn first_true<'a>(object: &Value, kinds: &[&'a str]) -> Option<&'a str> {
    all(object)
        .filter(|condition| condition["status"] == "True")
        .find_map(|condition| kinds.iter().find(|kind| condition["type"] == **kind).copied())
}
