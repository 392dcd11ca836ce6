//! What an expression is worth.

use serde_json::Value as Json;

use crate::time::Instant;

/// A value of the language.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing: what an item lacks.
    Null,
    /// True or false.
    Bool(bool),
    /// A number; all are floating point.
    Number(f64),
    /// A text that is no time.
    Text(String),
    /// A point in time, or the text of one in an item.
    Time(Instant),
    /// A list.
    List(Vec<Value>),
    /// An object, with which nothing can be done.
    Object,
}

impl Value {
    /// Returns the value of JSON: texts that are dates or times become times.
    pub fn of(json: &Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => match Instant::parse(text) {
                Some(instant) => Self::Time(instant),
                None => Self::Text(text.clone()),
            },
            Json::Array(list) => Self::List(list.iter().map(Self::of).collect()),
            Json::Object(_) => Self::Object,
        }
    }

    /// Returns what users call this kind of value.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Time(_) => "a time",
            Self::List(_) => "a list",
            Self::Object => "an object",
        }
    }

    /// Returns the point in time that it is, or that its text means.
    pub(crate) fn instant(&self) -> Option<Instant> {
        match self {
            Self::Time(instant) => Some(*instant),
            Self::Text(text) => Instant::parse(text),
            _ => None,
        }
    }
}
