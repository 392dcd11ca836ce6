//! What a schema says to server-side apply: which shapes a value may have, how lists and maps are taken apart.
//!
//! The rules by which a published schema becomes such a type:
//! <https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy>. A value without a schema is
//! "deduced": its maps are taken apart, its lists are one value.

use serde_json::Value;

use super::step::{Scalar as StepScalar, Step};
use crate::schema::{ListKind, Schema};

/// The type of one value.
#[derive(Clone, Copy, Debug)]
pub enum Type<'a> {
    /// As a schema says; true when undeclared fields are kept here and below.
    Known(&'a Schema, bool),
    /// Whatever the value is; maps are taken apart.
    Deduced,
    /// Whatever the value is, as one value.
    Untyped,
    /// Not to be there at all.
    Undeclared,
}

/// Kinds of plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Number.
    Number,
    /// Text.
    Text,
    /// true or false.
    Truth,
    /// Any of them.
    Any,
}

/// A list.
#[derive(Clone, Copy, Debug)]
pub struct List<'a> {
    /// Type of the elements.
    pub element: Type<'a>,
    /// How elements are told apart.
    pub kind: &'a ListKind,
}

/// An object.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    schema: Option<&'a Schema>,
    preserve: bool,
    /// Type of fields that are not declared.
    pub element: Type<'a>,
    /// Whether it is one value.
    pub atomic: bool,
}

/// The shapes a value may have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Atom<'a> {
    /// A plain value.
    pub scalar: Option<Scalar>,
    /// A list.
    pub list: Option<List<'a>>,
    /// An object.
    pub map: Option<Map<'a>>,
}

/// The one shape by which a value is handled.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// An object.
    Map(Map<'a>),
    /// A plain value.
    Scalar(Scalar),
    /// A list.
    List(List<'a>),
    /// None: the schema has no place for it.
    None,
}

static ONE_VALUE: ListKind = ListKind::Atomic;

impl<'a> Map<'a> {
    /// Type of a declared field.
    pub fn field(&self, name: &str) -> Option<Type<'a>> {
        self.schema?.properties.get(name).map(|s| Type::Known(s, self.preserve))
    }

    /// Type of a field, declared or not.
    pub fn child(&self, name: &str) -> Type<'a> {
        self.field(name).unwrap_or(self.element)
    }

    /// Whether it is an object of whose fields nothing is known.
    pub fn is_deduced(&self) -> bool {
        let loose = match self.element {
            Type::Deduced => true,
            Type::Known(..) => self.element.atom().scalar == Some(Scalar::Any),
            Type::Untyped | Type::Undeclared => false,
        };
        loose && self.schema.is_none_or(|s| s.properties.is_empty())
    }
}

impl<'a> List<'a> {
    /// Whether it is one value.
    pub fn is_atomic(&self) -> bool {
        *self.kind == ListKind::Atomic
    }

    /// The step of an element.
    pub fn step(&self, item: &Value) -> Result<Step, String> {
        match (self.kind, item) {
            (ListKind::Atomic, _) => Err("invalid indexing of non-associative list".into()),
            (ListKind::Map(keys), Value::Object(fields)) => {
                let mut found = Vec::with_capacity(keys.len());
                for key in keys {
                    let default = || match self.element {
                        Type::Known(schema, _) => schema.properties.get(key).and_then(|s| s.default.as_ref()),
                        Type::Deduced | Type::Untyped | Type::Undeclared => None,
                    };
                    // an element that lacks a key is another one than those that have it
                    if let Some(value) = fields.get(key).or_else(default) {
                        found.push((key.as_str().into(), value.into()));
                    }
                }
                if found.is_empty() {
                    return Err(format!(
                        "associative list with keys has an element that omits all key fields {keys:?} (and doesn't have default values for any key fields)"
                    ));
                }
                Ok(Step::keys(found))
            }
            (ListKind::Map(_), Value::Null) => Err("associative list with keys may not have a null element".into()),
            (ListKind::Map(_), _) => Err("associative list with keys may not have non-map elements".into()),
            (ListKind::Set, Value::Object(_)) => {
                Err("associative list without keys has an element that's a map type".into())
            }
            (ListKind::Set, Value::Array(_)) => Err("not supported: associative list with lists as elements".into()),
            (ListKind::Set, Value::Null) => {
                Err("associative list without keys has an element that's an explicit null".into())
            }
            (ListKind::Set, value) => Ok(Step::Value(StepScalar::from(value))),
        }
    }
}

impl<'a> Atom<'a> {
    /// Narrows the shapes to that of the value; a value of a shape that is not foreseen leaves all of them.
    pub fn of(self, value: Option<&Value>) -> Self {
        match value {
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) if self.scalar.is_some() => {
                Self { scalar: self.scalar, ..Self::default() }
            }
            Some(Value::Array(_)) if self.list.is_some() => Self { list: self.list, ..Self::default() },
            Some(Value::Object(_)) if self.map.is_some() => Self { map: self.map, ..Self::default() },
            _ => self,
        }
    }

    /// Whether both narrowed forms of one atom are the same.
    pub fn same(&self, other: &Self) -> bool {
        self.scalar.is_some() == other.scalar.is_some()
            && self.list.is_some() == other.list.is_some()
            && self.map.is_some() == other.map.is_some()
    }

    /// The shape that decides: an object before a plain value before a list.
    pub fn shape(&self) -> Shape<'a> {
        match (self.map, self.scalar, self.list) {
            (Some(map), _, _) => Shape::Map(map),
            (None, Some(scalar), _) => Shape::Scalar(scalar),
            (None, None, Some(list)) => Shape::List(list),
            (None, None, None) => Shape::None,
        }
    }
}

impl<'a> Type<'a> {
    /// The type of a whole object.
    pub fn root(schema: &'a Schema) -> Self {
        Self::Known(schema, false)
    }

    /// The shapes that values may have.
    pub fn atom(self) -> Atom<'a> {
        match self {
            Self::Undeclared => Atom::default(),
            Self::Deduced | Self::Untyped => Atom {
                scalar: Some(Scalar::Any),
                list: Some(List { element: Type::Untyped, kind: &ONE_VALUE }),
                map: Some(Map { schema: None, preserve: true, element: self, atomic: matches!(self, Self::Untyped) }),
            },
            Self::Known(schema, preserve) => {
                let preserve = preserve || schema.preserve_unknown;
                let list = || List {
                    element: schema.items.as_ref().map_or(Type::Untyped, |items| Type::Known(items, preserve)),
                    kind: &schema.list,
                };
                let map = || Map {
                    schema: Some(schema),
                    preserve,
                    element: match &schema.additional {
                        Some(additional) => Type::Known(additional, preserve),
                        None if preserve || schema.properties.is_empty() => Type::Deduced,
                        None => Type::Undeclared,
                    },
                    atomic: schema.atomic,
                };
                let only = |scalar| Atom { scalar: Some(scalar), ..Atom::default() };
                use crate::schema::Type as Kind;
                match schema.kind {
                    Kind::Object => Atom { map: Some(map()), ..Atom::default() },
                    Kind::Array => Atom { list: Some(list()), ..Atom::default() },
                    Kind::String if schema.int_or_string || schema.is_loose_text() => only(Scalar::Any),
                    Kind::String => only(Scalar::Text),
                    Kind::Integer | Kind::Number => only(Scalar::Number),
                    Kind::Boolean => only(Scalar::Truth),
                    Kind::Any => Atom { scalar: Some(Scalar::Any), list: Some(list()), map: Some(map()) },
                }
            }
        }
    }
}
