//! Reading and writing the fields that every object has.

use serde_json::{Map, Value};

/// Text at a JSON pointer, empty when absent.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`.
pub fn name(value: &Value) -> &str {
    text(value, "/metadata/name")
}

/// `metadata.namespace`.
pub fn namespace(value: &Value) -> &str {
    text(value, "/metadata/namespace")
}

/// The object below `field`, made when absent or of another type.
pub fn object_mut<'a>(value: &'a mut Value, field: &str) -> &'a mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else { unreachable!("made an object above") };
    let child = map.entry(field.to_string()).or_insert_with(|| Value::Object(Map::new()));
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    let Value::Object(child) = child else { unreachable!("made an object above") };
    child
}

/// `metadata`, made when absent.
pub fn metadata_mut(value: &mut Value) -> &mut Map<String, Value> {
    object_mut(value, "metadata")
}

/// Names in `metadata.finalizers`.
pub fn finalizers(value: &Value) -> Vec<String> {
    value
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|f| f.as_str().map(String::from))
        .collect()
}

/// Sets `metadata.finalizers`, which is left out when empty.
pub fn set_finalizers(value: &mut Value, names: Vec<String>) {
    let meta = metadata_mut(value);
    if names.is_empty() {
        meta.shift_remove("finalizers");
    } else {
        meta.insert("finalizers".into(), names.into());
    }
}

/// Whether the object is on its way out.
pub fn is_deleting(value: &Value) -> bool {
    value.pointer("/metadata/deletionTimestamp").is_some_and(|t| !t.is_null())
}

/// Now, to the second, as Kubernetes writes it.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A moment in the future, as Kubernetes writes it.
pub fn after(seconds: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Five random letters for `generateName`.
pub fn suffix() -> String {
    use rand::Rng as _;
    // no vowels and nothing that looks alike, as Kubernetes does
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
