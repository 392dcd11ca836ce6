//! Values while an expression is evaluated. Cheap to copy.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::library::quantity::Quantity;
use super::library::semver::Semver;
use super::library::url::Url;

/// Key of a map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Truth.
    Bool(bool),
    /// A whole number, signed or not: 1 and 1u are the same key.
    Int(i128),
    /// Text.
    Text(Arc<str>),
}

/// A list; a schema may say that its order means nothing.
#[derive(Debug, Default, PartialEq)]
pub struct List {
    /// Its elements.
    pub items: Vec<Value>,
    /// How two such lists are compared and added.
    pub order: Order,
}

/// What the order of a list means.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Order {
    /// All of it.
    #[default]
    Matters,
    /// Nothing: `x-kubernetes-list-type: set`.
    Set,
    /// Nothing: elements are known by these fields.
    Keyed(Vec<String>),
}

/// A map or an object.
#[derive(Debug, Default, PartialEq)]
pub struct Map {
    /// Its entries.
    pub entries: BTreeMap<Key, Value>,
}

/// What the requester may do is asked while an expression is evaluated.
pub trait Authorizer: Send + Sync + std::fmt::Debug {
    /// Whether the user may do this; `account` instead of the requester where it is given.
    fn allowed(&self, question: &Question) -> bool;
}

/// The question that `authorizer…check(verb)` puts together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// Namespace and name of a service account, instead of the requester.
    pub account: Option<(String, String)>,
    /// Path that is no resource.
    pub path: String,
    /// API group.
    pub group: String,
    /// Resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Verb.
    pub verb: String,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`.
    Null,
    /// Truth.
    Bool(bool),
    /// Signed.
    Int(i64),
    /// Unsigned.
    Uint(u64),
    /// Floating point.
    Double(f64),
    /// Text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// A list.
    List(Arc<List>),
    /// A map or object.
    Map(Arc<Map>),
    /// A span of time.
    Duration(SignedDuration),
    /// A moment.
    Timestamp(Timestamp),
    /// A value or none.
    Optional(Option<Arc<Value>>),
    /// A type.
    Type(&'static str),
    /// A quantity such as `1Gi`.
    Quantity(Quantity),
    /// A URL.
    Url(Arc<Url>),
    /// An address.
    Ip(IpAddr),
    /// A network: address and length of the prefix.
    Cidr(IpAddr, u8),
    /// A semantic version.
    Semver(Arc<Semver>),
    /// A named format.
    Format(&'static str),
    /// The requester's rights, and the question so far.
    Rights(Arc<dyn Authorizer>, Arc<Question>),
    /// Whether something is allowed.
    Decision(bool),
}

impl Value {
    /// Text.
    pub fn text(text: impl AsRef<str>) -> Self {
        Self::Text(Arc::from(text.as_ref()))
    }

    /// A plain list.
    pub fn list(items: Vec<Value>) -> Self {
        Self::List(Arc::new(List { items, order: Order::Matters }))
    }

    /// A map.
    pub fn map(entries: BTreeMap<Key, Value>) -> Self {
        Self::Map(Arc::new(Map { entries }))
    }

    /// Something.
    pub fn some(value: Value) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    /// JSON without a schema.
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Null,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(n), _) => Self::Int(n),
                (None, n) => Self::Double(n.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Self::text(text),
            Json::Array(items) => Self::list(items.iter().map(Self::from_json).collect()),
            Json::Object(map) => {
                Self::map(map.iter().map(|(k, v)| (Key::Text(Arc::from(k.as_str())), Self::from_json(v))).collect())
            }
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::Text(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Rights(..) => "kubernetes.authorization.Authorizer",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// The value as key of a map.
    pub fn key(&self) -> Option<Key> {
        match self {
            Self::Bool(b) => Some(Key::Bool(*b)),
            Self::Int(n) => Some(Key::Int(i128::from(*n))),
            Self::Uint(n) => Some(Key::Int(i128::from(*n))),
            #[expect(clippy::cast_possible_truncation, reason = "whole numbers only")]
            Self::Double(n) if n.fract() == 0.0 && n.abs() < 1e18 => Some(Key::Int(*n as i128)),
            Self::Text(text) => Some(Key::Text(text.clone())),
            _ => None,
        }
    }

    /// How much there is to look at: characters, bytes, elements.
    pub fn size(&self) -> u64 {
        let size = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.items.len(),
            Self::Map(map) => map.entries.len(),
            _ => 1,
        };
        size as u64
    }

    /// Order of two values of one kind.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (a, b) => match (a.number()?, b.number()?) {
                (Number::Whole(a), Number::Whole(b)) => Some(a.cmp(&b)),
                (a, b) => a.double().partial_cmp(&b.double()),
            },
        }
    }

    fn number(&self) -> Option<Number> {
        match self {
            Self::Int(n) => Some(Number::Whole(i128::from(*n))),
            Self::Uint(n) => Some(Number::Whole(i128::from(*n))),
            Self::Double(n) => Some(Number::Double(*n)),
            _ => None,
        }
    }
}

enum Number {
    Whole(i128),
    Double(f64),
}

impl Number {
    #[expect(clippy::cast_precision_loss, reason = "as CEL compares them")]
    fn double(&self) -> f64 {
        match self {
            Self::Whole(n) => *n as f64,
            Self::Double(n) => *n,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => lists_equal(a, b),
            (Self::Map(a), Self::Map(b)) => a.entries == b.entries,
            (Self::Optional(a), Self::Optional(b)) => a == b,
            (Self::Type(a), Self::Type(b)) | (Self::Format(a), Self::Format(b)) => a == b,
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, n), Self::Cidr(b, m)) => a == b && n == m,
            (Self::Semver(a), Self::Semver(b)) => a.compare(b) == Ordering::Equal,
            (a, b) => a.compare(b) == Some(Ordering::Equal),
        }
    }
}

fn lists_equal(a: &List, b: &List) -> bool {
    if a.items.len() != b.items.len() {
        return false;
    }
    match &a.order {
        Order::Matters => a.items == b.items,
        Order::Set => a.items.iter().all(|x| b.items.contains(x)),
        Order::Keyed(keys) => a.items.iter().all(|x| b.items.iter().any(|y| same_keys(x, y, keys) && x == y)),
    }
}

/// Whether two elements have the same values in the fields that identify them.
pub fn same_keys(a: &Value, b: &Value, keys: &[String]) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else { return a == b };
    keys.iter().all(|k| {
        let key = Key::Text(Arc::from(k.as_str()));
        a.entries.get(&key) == b.entries.get(&key)
    })
}
