//! An answer of the server with the request that led to it, and what cases expect of one.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

/// Longest part of a body in a failure's text, in characters.
const SHOWN: usize = 3000;

/// Status, headers and body of an answer; knows its request, so that a failure shows both.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method, path and body of the request, for failures.
    pub request: String,
    /// HTTP status code.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as it came.
    pub bytes: bytes::Bytes,
    /// The body as JSON, null where it is none.
    pub json: Value,
}

impl Answer {
    /// The value at a JSON pointer, null when absent.
    pub fn at(&self, pointer: &str) -> &Value {
        self.json.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The text at a JSON pointer, empty when absent or not a string.
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// The elements of `items`.
    pub fn items(&self) -> &[Value] {
        self.at("/items").as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Names of the elements of `items`, in their order. The config map of every namespace is left out: a controller makes
    /// it at an unknown time.
    pub fn names(&self) -> Vec<&str> {
        let names = self.items().iter().filter_map(|i| i.pointer("/metadata/name")?.as_str());
        names.filter(|name| *name != "kube-root-ca.crt").collect()
    }

    /// `metadata.resourceVersion`.
    pub fn version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    /// A header's text, empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }

    /// Request and answer, for a failure.
    pub fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let cut: String = text.chars().take(SHOWN).collect();
        let dots = if cut.len() < text.len() { "…" } else { "" };
        format!("    request: {}\n    answer:  {} {cut}{dots}", self.request, self.status)
    }

    /// Fails with `what`, the request and the answer.
    pub fn fail<T>(&self, what: impl std::fmt::Display) -> Result<T> {
        bail!("{what}\n{}", self.shown())
    }

    /// Fails with `what` unless the condition holds.
    pub fn holds(&self, condition: bool, what: impl std::fmt::Display) -> Result<&Self> {
        if condition { Ok(self) } else { self.fail(what) }
    }

    /// Expects the HTTP status.
    pub fn status(&self, wanted: u16) -> Result<&Self> {
        self.holds(self.status == wanted, format_args!("status {wanted} expected, got {}", self.status))
    }

    /// Expects the value at the JSON pointer.
    pub fn is(&self, pointer: &str, wanted: impl Into<Value>) -> Result<&Self> {
        let wanted = wanted.into();
        let found = self.at(pointer);
        self.holds(*found == wanted, format_args!("{pointer}: {wanted} expected, got {found}"))
    }

    /// Expects something other than null at the JSON pointer.
    pub fn has(&self, pointer: &str) -> Result<&Self> {
        self.holds(!self.at(pointer).is_null(), format_args!("{pointer}: a value expected, got none"))
    }

    /// Expects null or nothing at the JSON pointer.
    pub fn lacks(&self, pointer: &str) -> Result<&Self> {
        let found = self.at(pointer);
        self.holds(found.is_null(), format_args!("{pointer}: nothing expected, got {found}"))
    }

    /// Expects the text at the JSON pointer to contain a fragment.
    pub fn contains(&self, pointer: &str, fragment: &str) -> Result<&Self> {
        let found = self.text(pointer);
        self.holds(found.contains(fragment), format_args!("{pointer}: text with {fragment:?} expected, got {found:?}"))
    }

    /// Expects the names of the list's elements, in this order.
    pub fn lists(&self, wanted: &[&str]) -> Result<&Self> {
        let found = self.names();
        self.status(200)?.holds(found == wanted, format_args!("items {wanted:?} expected, got {found:?}"))
    }

    /// Expects a header whose text starts as given.
    pub fn header_starts(&self, name: &str, start: &str) -> Result<&Self> {
        let found = self.header(name);
        self.holds(found.starts_with(start), format_args!("header {name}: {start:?} expected, got {found:?}"))
    }

    /// Expects a `metav1.Status` of a failure: code in the status line and the body, and the reason.
    pub fn failed(&self, code: u16, reason: &str) -> Result<&Self> {
        self.status(code)?
            .is("/kind", "Status")?
            .is("/apiVersion", "v1")?
            .is("/status", "Failure")?
            .is("/reason", reason)?
            .is("/code", code)
    }

    /// Expects the Status' message, whole.
    pub fn says(&self, message: &str) -> Result<&Self> {
        self.is("/message", message)
    }

    /// Expects one of the Status' causes to have this field and reason.
    pub fn cause(&self, field: &str, reason: &str) -> Result<&Self> {
        let causes = self.at("/details/causes").as_array().cloned().unwrap_or_default();
        let found = causes.iter().any(|c| c["field"] == field && c["reason"] == reason);
        self.holds(found, format_args!("a cause {reason} for {field} expected, got {causes:?}"))
    }

    /// Expects 422 `Invalid` with a cause for the field.
    pub fn invalid(&self, field: &str, reason: &str) -> Result<&Self> {
        self.failed(422, "Invalid")?.cause(field, reason)
    }
}

/// Expects two values to be equal; `what` says which.
pub fn same(what: &str, found: &Value, wanted: &Value) -> Result<()> {
    ensure!(found == wanted, "{what}: {wanted} expected, got {found}");
    Ok(())
}
