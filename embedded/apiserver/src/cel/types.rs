//! Types of expressions.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The fields of an object that a schema describes.
#[derive(Debug, PartialEq)]
pub struct ObjectType {
    /// Name for messages.
    pub name: String,
    /// Fields by their names in CEL.
    pub fields: BTreeMap<String, Type>,
}

/// The type of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything; known when it is evaluated.
    Dyn,
    /// `null`.
    Null,
    /// Truth.
    Bool,
    /// 64 bits, signed.
    Int,
    /// 64 bits, unsigned.
    Uint,
    /// Floating point.
    Double,
    /// Text.
    String,
    /// Bytes.
    Bytes,
    /// A span of time.
    Duration,
    /// A moment.
    Timestamp,
    /// A type itself.
    Type,
    /// A type of a library.
    Opaque(&'static str),
    /// A list.
    List(Arc<Type>),
    /// A map.
    Map(Arc<Type>, Arc<Type>),
    /// An object with known fields.
    Object(Arc<ObjectType>),
    /// A value that may be missing.
    Optional(Arc<Type>),
    /// Any one type, in the signature of a function.
    Param(char),
}

impl Type {
    /// A list of these.
    pub fn list(of: Type) -> Self {
        Self::List(Arc::new(of))
    }

    /// A map with text as keys.
    pub fn map(of: Type) -> Self {
        Self::Map(Arc::new(Type::String), Arc::new(of))
    }

    /// One of these or nothing.
    pub fn optional(of: Type) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// Whether a value of the type `other` fits here. What is not known before evaluation fits.
    pub fn takes(&self, other: &Type) -> bool {
        match (self, other) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::List(a), Self::List(b)) | (Self::Optional(a), Self::Optional(b)) => a.takes(b),
            (Self::Map(k, v), Self::Map(l, w)) => k.takes(l) && v.takes(w),
            // null stands for absent objects and for what libraries wrap
            (Self::Object(_) | Self::Duration | Self::Timestamp | Self::Opaque(_), Self::Null)
            | (Self::Null, Self::Object(_) | Self::Duration | Self::Timestamp | Self::Opaque(_)) => true,
            (a, b) => a == b,
        }
    }

    /// The more general of two types that fit each other.
    pub fn join(&self, other: &Type) -> Type {
        if self == other { self.clone() } else { Type::Dyn }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Duration => f.write_str("google.protobuf.Duration"),
            Self::Timestamp => f.write_str("google.protobuf.Timestamp"),
            Self::Type => f.write_str("type"),
            Self::Opaque(name) => f.write_str(name),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(key, value) => write!(f, "map({key}, {value})"),
            Self::Object(object) => f.write_str(&object.name),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Param(name) => write!(f, "{name}"),
        }
    }
}
