//! One step of a field path, its order and its wire form in `FieldsV1`: `f:name` a field, `k:{…}` a list element by its
//! keys, `v:…` a list element by its value, `i:…` a list element by its place.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of an object.
    Field(Box<str>),
    /// A list element by its keys, sorted by name.
    Keys(Vec<(Box<str>, Scalar)>),
    /// A list element by its value.
    Value(Scalar),
    /// A list element by its place.
    Index(i64),
    /// A list element that has no key left. Only in sets of half-made values, never stored.
    Nothing,
}

/// A value that identifies a list element. Numbers come first, then text, truth values, anything else, null.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// A number; 1 and 1.0 are the same.
    Number(Numeric),
    /// Text.
    Text(Box<str>),
    /// true or false.
    Truth(bool),
    /// What cannot identify an element but may stand in a stored set, as JSON.
    Other(Box<str>),
    /// null.
    Null,
}

/// A number with an order.
#[derive(Clone, Copy, Debug)]
pub enum Numeric {
    /// Whole.
    Int(i64),
    /// Any other.
    Float(f64),
}

impl Numeric {
    fn of(number: &Number) -> Self {
        number.as_i64().map_or_else(|| Self::Float(number.as_f64().unwrap_or(0.0)), Self::Int)
    }

    #[expect(clippy::cast_precision_loss, reason = "a whole number meets a fraction as a fraction")]
    fn float(self) -> f64 {
        match self {
            Self::Int(n) => n as f64,
            Self::Float(f) => f,
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Int(n) => n.into(),
            #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
            Self::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => (f as i64).into(),
            Self::Float(f) => Number::from_f64(f).map_or(Value::Null, Value::Number),
        }
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (a, b) => a.float().partial_cmp(&b.float()).unwrap_or(Ordering::Equal),
        }
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numeric {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Numeric {}

impl From<&Value> for Scalar {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Truth(*truth),
            Value::Number(number) => Self::Number(Numeric::of(number)),
            Value::String(text) => Self::Text(text.as_str().into()),
            Value::Array(_) | Value::Object(_) => Self::Other(value.to_string().into()),
        }
    }
}

impl Scalar {
    fn json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Truth(truth) => (*truth).into(),
            Self::Number(number) => number.json(),
            Self::Text(text) => (&**text).into(),
            Self::Other(json) => serde_json::from_str(json).unwrap_or_default(),
        }
    }
}

/// Whether two JSON values are equal, 1 and 1.0 being the same.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => Numeric::of(a) == Numeric::of(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        (a, b) => a == b,
    }
}

impl Step {
    /// The step of a field.
    pub fn field(name: &str) -> Self {
        Self::Field(name.into())
    }

    /// Reads the wire form.
    pub fn decode(text: &str) -> Result<Self, String> {
        let wrong = |e: &dyn std::fmt::Display| format!("{text:?} is not a step of a field path: {e}");
        let Some((kind, rest)) = text.split_at_checked(2) else { return Err(wrong(&"it has no prefix")) };
        match kind {
            "f:" => Ok(Self::field(rest)),
            "v:" => Ok(Self::Value((&serde_json::from_str::<Value>(rest).map_err(|e| wrong(&e))?).into())),
            "i:" => rest.parse().map(Self::Index).map_err(|e| wrong(&e)),
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|e| wrong(&e))?;
                Ok(Self::keys(keys.iter().map(|(name, value)| (name.as_str().into(), value.into())).collect()))
            }
            _ => Err(wrong(&"the prefix is none of f: k: v: i:")),
        }
    }

    /// The step of a list element with these keys.
    pub fn keys(mut keys: Vec<(Box<str>, Scalar)>) -> Self {
        keys.sort();
        Self::Keys(keys)
    }

    /// Writes the wire form.
    pub fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(value) => format!("v:{}", value.json()),
            Self::Index(at) => format!("i:{at}"),
            Self::Nothing => String::new(),
            Self::Keys(keys) => {
                let keys: Map<String, Value> = keys.iter().map(|(k, v)| (k.to_string(), v.json())).collect();
                format!("k:{}", Value::Object(keys))
            }
        }
    }
}

/// As Kubernetes prints it in messages: `.name`, `[key="value"]`, `[="value"]`.
impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(value) => write!(f, "[={}]", value.json()),
            Self::Index(at) => write!(f, "[{at}]"),
            Self::Nothing => Ok(()),
            Self::Keys(keys) => {
                write!(f, "[")?;
                for (at, (name, value)) in keys.iter().enumerate() {
                    write!(f, "{}{name}={}", if at == 0 { "" } else { "," }, value.json())?;
                }
                write!(f, "]")
            }
        }
    }
}
