//! Values as rules see them: JSON plus sets, in OPA's total order.
//!
//! Cloning is cheap: strings and collections are shared. Objects and sets are
//! sorted vectors, so that results come out in the order in which OPA writes
//! them. Numbers are exact integers where they can be, else 64-bit floats.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number: `Wide` only holds what does not fit into 64 bits.
#[derive(Clone, Debug)]
pub enum Number {
    Int(i64),
    Wide(Box<i128>),
    Float(f64),
}

impl Number {
    /// Returns the integer in its narrowest form.
    pub fn wide(value: i128) -> Self {
        i64::try_from(value).map_or_else(|_| Number::Wide(Box::new(value)), Number::Int)
    }

    /// Returns a result of arithmetic: integral floats are integers, as OPA prints them.
    pub fn computed(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        if value.fract() == 0.0 && value.abs() < 1e18 {
            return Some(Number::Int(value as i64));
        }
        Some(Number::Float(value))
    }

    pub fn integer(&self) -> Option<i128> {
        match self {
            Number::Int(i) => Some(i128::from(*i)),
            Number::Wide(i) => Some(**i),
            Number::Float(_) => None,
        }
    }

    /// Returns the integer that this number equals, 2.0 included.
    pub fn integral(&self) -> Option<i128> {
        match self {
            Number::Float(f) if f.fract() == 0.0 && f.abs() < 1e30 => Some(*f as i128),
            other => other.integer(),
        }
    }

    pub fn float(&self) -> f64 {
        match self {
            Number::Int(i) => *i as f64,
            Number::Wide(i) => **i as f64,
            Number::Float(f) => *f,
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Number {}
impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Number::Int(a), Number::Int(b)) => a.cmp(b),
            _ => match (self.integral(), other.integral()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => self.float().total_cmp(&other.float()),
            },
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Int(i) => write!(f, "{i}"),
            Number::Wide(i) => write!(f, "{i}"),
            // OPA keeps the text that it has read: `1.0`, not `1`
            Number::Float(x) => match serde_json::Number::from_f64(*x) {
                Some(number) => write!(f, "{number}"),
                None => write!(f, "{x}"),
            },
        }
    }
}

/// A value of Rego.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(Arc<str>),
    Array(Arc<Vec<Value>>),
    /// Sorted by key, each key once.
    Object(Arc<Vec<(Value, Value)>>),
    /// Sorted, each member once.
    Set(Arc<Vec<Value>>),
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::String(a), Value::String(b)) => match Arc::ptr_eq(a, b) {
                true => Ordering::Equal,
                false => a.cmp(b),
            },
            (Value::Number(a), Value::Number(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Array(a), Value::Array(b)) | (Value::Set(a), Value::Set(b)) => {
                if Arc::ptr_eq(a, b) {
                    return Ordering::Equal;
                }
                a.cmp(b)
            }
            (Value::Object(a), Value::Object(b)) => {
                if Arc::ptr_eq(a, b) {
                    return Ordering::Equal;
                }
                a.cmp(b)
            }
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Value {
    /// The place of the value's type in OPA's order.
    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Number(_) => 2,
            Value::String(_) => 3,
            Value::Array(_) => 4,
            Value::Object(_) => 5,
            Value::Set(_) => 6,
        }
    }

    /// The type's name, as `type_name` gives it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Set(_) => "set",
        }
    }

    pub fn string(text: impl Into<Arc<str>>) -> Self {
        Value::String(text.into())
    }

    pub fn int(value: i64) -> Self {
        Value::Number(Number::Int(value))
    }

    pub fn unsigned(value: u64) -> Self {
        Value::Number(Number::wide(i128::from(value)))
    }

    pub fn float(value: f64) -> Self {
        Value::Number(Number::Float(value))
    }

    pub fn array(items: Vec<Value>) -> Self {
        Value::Array(Arc::new(items))
    }

    pub fn set(mut items: Vec<Value>) -> Self {
        items.sort();
        items.dedup();
        Value::Set(Arc::new(items))
    }

    /// Returns the object with these members; of a repeated key the last counts, as in JSON.
    pub fn object(mut members: Vec<(Value, Value)>) -> Self {
        let ordered = members.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !ordered {
            members.reverse();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            members.dedup_by(|later, first| later.0 == first.0);
        }
        Value::Object(Arc::new(members))
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the member of an object under a text key.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let Value::Object(members) = self else { return None };
        let at = members
            .binary_search_by(|(key, _)| match key {
                Value::String(key) => key.as_ref().cmp(name),
                other => other.rank().cmp(&3),
            })
            .ok()?;
        members.get(at).map(|(_, value)| value)
    }

    /// Returns what a reference with this key finds: an element, a member, or the set's member itself.
    pub fn get(&self, key: &Value) -> Option<&Value> {
        match self {
            Value::Object(members) => {
                if let Value::String(name) = key {
                    return self.field(name);
                }
                let at = members.binary_search_by(|(k, _)| k.cmp(key)).ok()?;
                members.get(at).map(|(_, value)| value)
            }
            Value::Array(items) => {
                let Value::Number(number) = key else { return None };
                // 1.0 is no index in OPA
                items.get(usize::try_from(number.integer()?).ok()?)
            }
            Value::Set(items) => items.binary_search(key).ok().and_then(|at| items.get(at)),
            _ => None,
        }
    }

    /// Whether a statement with this value holds.
    pub fn holds(&self) -> bool {
        !matches!(self, Value::Bool(false))
    }

    /// A rough size in bytes, of this node alone.
    pub fn weight(&self) -> usize {
        32 + match self {
            Value::String(text) => text.len(),
            Value::Array(items) | Value::Set(items) => items.len() * 24,
            Value::Object(members) => members.len() * 48,
            _ => 0,
        }
    }
}

/// The text of the value as OPA prints it, for instance in `sprintf("%v", …)`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(value) => write!(f, "{value}"),
            Value::String(text) => f.write_str(&super::sprintf::quoted(text)),
            Value::Array(items) => sequence(f, "[", items, "]"),
            Value::Set(items) if items.is_empty() => f.write_str("set()"),
            Value::Set(items) => sequence(f, "{", items, "}"),
            Value::Object(members) => {
                f.write_char('{')?;
                for (i, (key, value)) in members.iter().enumerate() {
                    write!(f, "{}{key}: {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_char('}')
            }
        }
    }
}

fn sequence(f: &mut fmt::Formatter<'_>, open: &str, items: &[Value], close: &str) -> fmt::Result {
    f.write_str(open)?;
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    f.write_str(close)
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Number(Number::Int(value)) => serializer.serialize_i64(*value),
            Value::Number(Number::Wide(value)) => match u64::try_from(**value) {
                Ok(value) => serializer.serialize_u64(value),
                Err(_) => serializer.serialize_f64(**value as f64),
            },
            Value::Number(Number::Float(value)) => serializer.serialize_f64(*value),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) | Value::Set(items) => {
                let mut sequence = serializer.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    sequence.serialize_element(item)?;
                }
                sequence.end()
            }
            Value::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (key, value) in members.iter() {
                    match key {
                        Value::String(key) => map.serialize_entry(&**key, value)?,
                        other => map.serialize_entry(&other.to_string(), value)?,
                    }
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Json;
        impl<'de> Visitor<'de> for Json {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_none<E: de::Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }
            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
                Value::deserialize(deserializer)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
                Ok(Value::int(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
                Ok(Value::Number(Number::wide(i128::from(value))))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Number(Number::Float(value)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::string(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
                let mut items = Vec::with_capacity(sequence.size_hint().unwrap_or(0).min(1024));
                while let Some(item) = sequence.next_element()? {
                    items.push(item);
                }
                Ok(Value::array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut members = Vec::with_capacity(map.size_hint().unwrap_or(0).min(1024));
                while let Some(key) = map.next_key::<Key>()? {
                    members.push((key.0, map.next_value()?));
                }
                Ok(Value::object(members))
            }
        }
        deserializer.deserialize_any(Json)
    }
}

/// The key of an object: always a text, read without asking what it is.
struct Key(Value);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key, E> {
                Ok(Key(Value::string(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::Number(value) => Value::Number(number(value)),
            serde_json::Value::String(text) => Value::string(text.as_str()),
            serde_json::Value::Array(items) => Value::array(items.iter().map(Value::from).collect()),
            serde_json::Value::Object(members) => {
                Value::object(members.iter().map(|(key, value)| (Value::string(key.as_str()), value.into())).collect())
            }
        }
    }
}

fn number(value: &serde_json::Number) -> Number {
    if let Some(value) = value.as_i64() {
        return Number::Int(value);
    }
    if let Some(value) = value.as_u64() {
        return Number::wide(i128::from(value));
    }
    Number::Float(value.as_f64().unwrap_or_default())
}

impl From<&Value> for serde_json::Value {
    fn from(value: &Value) -> Self {
        serde_json::to_value(value).unwrap_or_default()
    }
}
