//! The restricting part of a schema: bounds, patterns, enumerations, formats and their combinations.

use std::sync::Arc;

use regex::Regex;
use serde_json::{Map, Value};

use super::Schema;
use super::parse::parse;

/// What a value must satisfy beyond its type.
#[derive(Debug, Default)]
pub struct Checks {
    /// `enum`.
    pub one_of_values: Vec<Value>,
    /// `pattern`, with its source.
    pub pattern: Option<(String, Regex)>,
    /// `format`.
    pub format: Option<String>,
    /// `minimum` and whether it is excluded.
    pub minimum: Option<(f64, bool)>,
    /// `maximum` and whether it is excluded.
    pub maximum: Option<(f64, bool)>,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
    /// `minLength`.
    pub min_length: Option<u64>,
    /// `maxLength`.
    pub max_length: Option<u64>,
    /// `minItems`.
    pub min_items: Option<u64>,
    /// `maxItems`.
    pub max_items: Option<u64>,
    /// `uniqueItems`.
    pub unique_items: bool,
    /// `minProperties`.
    pub min_properties: Option<u64>,
    /// `maxProperties`.
    pub max_properties: Option<u64>,
    /// `allOf`.
    pub all_of: Vec<Arc<Schema>>,
    /// `anyOf`.
    pub any_of: Vec<Arc<Schema>>,
    /// `oneOf`.
    pub one_of: Vec<Arc<Schema>>,
    /// `not`.
    pub not: Option<Arc<Schema>>,
}

impl Checks {
    /// Reads the restricting keywords; None when there are none.
    pub fn parse(node: &Map<String, Value>, at: &str) -> Result<Option<Self>, String> {
        const KEYWORDS: &[&str] = &[
            "enum",
            "pattern",
            "format",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "uniqueItems",
            "minProperties",
            "maxProperties",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if !KEYWORDS.iter().any(|k| node.contains_key(*k)) {
            return Ok(None);
        }
        let count = |name: &str| node.get(name).and_then(Value::as_u64);
        let flag = |name: &str| node.get(name).and_then(Value::as_bool).unwrap_or(false);
        let bound =
            |name: &str, exclusive: &str| node.get(name).and_then(Value::as_f64).map(|limit| (limit, flag(exclusive)));
        let children = |name: &str| -> Result<Vec<Arc<Schema>>, String> {
            let list = node.get(name).and_then(Value::as_array).into_iter().flatten();
            list.enumerate().map(|(i, child)| parse(child, &format!("{at}.{name}[{i}]")).map(Arc::new)).collect()
        };
        let pattern = match node.get("pattern").and_then(Value::as_str) {
            None | Some("") => None,
            Some(source) => {
                let regex = Regex::new(source)
                    .map_err(|e| format!("{at}.pattern: {source:?} is not a regular expression: {e}"))?;
                Some((source.to_string(), regex))
            }
        };
        Ok(Some(Self {
            one_of_values: node.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
            pattern,
            format: node.get("format").and_then(Value::as_str).map(String::from),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: node.get("multipleOf").and_then(Value::as_f64),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag("uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            all_of: children("allOf")?,
            any_of: children("anyOf")?,
            one_of: children("oneOf")?,
            not: node.get("not").map(|n| parse(n, &format!("{at}.not")).map(Arc::new)).transpose()?,
        }))
    }
}
