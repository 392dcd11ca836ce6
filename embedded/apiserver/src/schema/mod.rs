//! Structural schemas: what the server knows about the shape of an object.
//!
//! One form serves built-in kinds (made from their published definitions) and custom resources (made from the CRD):
//! unknown fields are found and pruned, defaults filled in, values checked, lists merged by their keys.

pub mod builtin;
mod check;
mod default;
mod parse;
mod prune;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::cel::rules::Rule;

pub use default::{apply_defaults, drop_nulls};
pub use parse::strings;
pub use prune::prune;
pub use validate::{join, validate};

/// JSON type of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Not said: anything.
    #[default]
    Any,
    /// Object or map.
    Object,
    /// Array.
    Array,
    /// String.
    String,
    /// Whole number.
    Integer,
    /// Number.
    Number,
    /// true or false.
    Boolean,
}

/// How a list is merged by server-side apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// As one value.
    #[default]
    Atomic,
    /// By the elements' values.
    Set,
    /// By these fields of the elements.
    Map(Vec<String>),
}

/// How strategic merge patches treat a field of a built-in kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategy {
    /// Field by which elements are merged; None merges plain values.
    pub key: Option<String>,
    /// Whether `$retainKeys` is understood.
    pub retain_keys: bool,
}

/// The shape of one value.
#[derive(Debug, Default)]
pub struct Schema {
    /// Its type.
    pub kind: Type,
    /// Whether null is a value.
    pub nullable: bool,
    /// Known fields.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// Shape of the values of other fields.
    pub additional: Option<Arc<Schema>>,
    /// Shape of list elements.
    pub items: Option<Arc<Schema>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Value when absent.
    pub default: Option<Value>,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve_unknown: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-list-type` and its keys.
    pub list: ListKind,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// Strategic merge, built-in kinds only.
    pub strategy: Option<Strategy>,
    /// Everything that only restricts values.
    pub checks: Option<Box<check::Checks>>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
    /// Whether there are rules here or below.
    pub has_rules: bool,
}

impl Schema {
    /// Anything goes.
    pub fn any() -> Arc<Self> {
        static ANY: std::sync::LazyLock<Arc<Schema>> =
            std::sync::LazyLock::new(|| Arc::new(Schema { preserve_unknown: true, ..Schema::default() }));
        ANY.clone()
    }

    /// Reads a JSON schema (OpenAPI v3 as in CRDs) of a whole object; the metadata's shape is put in.
    pub fn root(schema: &Value) -> Result<Arc<Self>, String> {
        Ok(Arc::new(parse::root(schema, "openAPIV3Schema")?))
    }

    /// Reads a JSON schema of any value.
    #[cfg(test)]
    pub fn parse(schema: &Value) -> Result<Self, String> {
        parse::parse(schema, "")
    }

    /// Shape of the field `name` of an object.
    pub fn field(&self, name: &str) -> Option<&Arc<Schema>> {
        self.properties.get(name).or(self.additional.as_ref())
    }

    /// Whether a string may also be written as another plain value: a date and time.
    pub fn is_loose_text(&self) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.format.as_deref() == Some("date-time"))
    }

    pub(crate) fn take_in_metadata(&mut self) {
        let text = || Arc::new(Schema { kind: Type::String, ..Schema::default() });
        self.properties.insert("apiVersion".into(), text());
        self.properties.insert("kind".into(), text());
        self.properties.insert("metadata".into(), builtin::object_meta());
    }
}

#[cfg(test)]
mod tests;
