//! The input as rules see it: values by the numbers of their places, read straight from JSON.
//!
//! What no rule reads is passed over without making anything of it; it has to be JSON all the same.

use std::sync::Arc;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::places::{Layout, Place, Shape, by_length};
use super::value::Value;

/// What rules read of one input.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// For each place the position of its value, counted from 1; 0 without one.
    positions: Vec<u32>,
    values: Vec<Value>,
    is_null: bool,
}

impl Document {
    /// Returns the document of an evaluation without input.
    pub fn absent() -> Self {
        Self::default()
    }

    /// Returns what a layout keeps of a value.
    pub fn of(layout: &Layout, input: &Value) -> Self {
        let mut document = Self::sized(layout);
        document.is_null = *input == Value::Null;
        document.fill(layout, 0, input);
        document
    }

    /// Whether the input was `null`.
    pub fn is_null(&self) -> bool {
        self.is_null
    }

    /// Returns what is at a place.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&Value> {
        let position = self.positions.get(place)?.checked_sub(1)?;
        self.values.get(position as usize)
    }

    fn sized(layout: &Layout) -> Self {
        Self { positions: vec![0; layout.0.len()], values: Vec::with_capacity(64), is_null: false }
    }

    fn put(&mut self, place: usize, value: Value) {
        self.values.push(value);
        if let Some(position) = self.positions.get_mut(place) {
            *position = u32::try_from(self.values.len()).unwrap_or_default();
        }
    }

    fn fill(&mut self, layout: &Layout, at: usize, value: &Value) {
        let Some(Place { shape, members }) = layout.0.get(at) else { return };
        if let Some(shape) = shape {
            self.put(at, shape.part(value));
        }
        for (name, place) in members {
            if let Some(member) = value.field(name) {
                self.fill(layout, *place, member);
            }
        }
    }

    /// Forgets a place and what is below it: of a repeated key the last counts.
    fn forget(&mut self, layout: &Layout, at: usize) {
        if let Some(position) = self.positions.get_mut(at) {
            *position = 0;
        }
        for (_, place) in layout.0.get(at).map(|place| place.members.as_slice()).unwrap_or_default() {
            self.forget(layout, *place);
        }
    }
}

/// Reads a document.
pub struct Reader<'l>(pub &'l Layout);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Document, D::Error> {
        let mut document = Document::sized(self.0);
        let kind = deserializer.deserialize_any(Filling { layout: self.0, document: &mut document, at: 0 })?;
        document.is_null = kind == Kind::Null;
        Ok(document)
    }
}

#[derive(PartialEq)]
enum Kind {
    Null,
    Other,
}

/// Puts a value into its place, its members into theirs.
struct Filling<'l, 'd> {
    layout: &'l Layout,
    document: &'d mut Document,
    at: usize,
}

impl<'l> Filling<'l, '_> {
    fn place(&self) -> Option<&'l Place> {
        self.layout.0.get(self.at)
    }

    fn scalar<E>(self, value: Value) -> Result<Kind, E> {
        let kind = if value == Value::Null { Kind::Null } else { Kind::Other };
        if self.place().is_some_and(|place| place.shape.is_some()) {
            self.document.put(self.at, value);
        }
        Ok(kind)
    }

    /// Puts in a value that was read with the shape of its place.
    fn whole(self, value: Value) -> Kind {
        for (name, place) in self.place().map(|place| place.members.as_slice()).unwrap_or_default() {
            if let Some(member) = value.field(name) {
                self.document.fill(self.layout, *place, member);
            }
        }
        self.document.put(self.at, value);
        Kind::Other
    }
}

impl<'de> DeserializeSeed<'de> for Filling<'_, '_> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Filling<'_, '_> {
    type Value = Kind;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Kind, E> {
        self.scalar(Value::Null)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Kind, E> {
        self.scalar(Value::Bool(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Kind, E> {
        self.scalar(Value::int(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Kind, E> {
        self.scalar(Value::unsigned(value))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        self.scalar(Value::float(value))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Kind, E> {
        match self.place() {
            Some(Place { shape: Some(_), .. }) => self.scalar(Value::string(text)),
            _ => Ok(Kind::Other),
        }
    }
    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Kind, A::Error> {
        match self.place() {
            Some(Place { shape: Some(shape), .. }) => {
                let value = Shaped(shape).visit_seq(sequence)?;
                self.document.put(self.at, value);
            }
            _ => drop(IgnoredAny.visit_seq(sequence)?),
        }
        Ok(Kind::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let Some(place) = self.place() else {
            IgnoredAny.visit_map(map)?;
            return Ok(Kind::Other);
        };
        if let Some(shape) = &place.shape {
            if place.members.is_empty() {
                let value = Shaped(shape).visit_map(map)?;
                self.document.put(self.at, value);
                return Ok(Kind::Other);
            }
            if !shape.is_type() {
                // rare: a value that is read as such and by paths through it
                let whole = Shape { whole: true, ..Shape::default() };
                let value = Shaped(&whole).visit_map(map)?;
                return Ok(self.whole(value));
            }
            self.document.put(self.at, Value::object(Vec::new()));
        }
        while let Some(member) = map.next_key_seed(Member(&place.members))? {
            match member {
                Some(at) => {
                    self.document.forget(self.layout, at);
                    map.next_value_seed(Filling { layout: self.layout, document: &mut *self.document, at })?;
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Kind::Other)
    }
}

/// Finds a key among the members that are read.
struct Member<'l>(&'l [(Arc<str>, usize)]);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Member<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Option<usize>, E> {
        let found = self.0.binary_search_by(|(name, _)| by_length(name, key)).ok();
        Ok(found.and_then(|at| self.0.get(at)).map(|(_, place)| *place))
    }
}

impl Shape {
    fn named(&self, name: &str) -> Option<&(Arc<str>, Shape)> {
        self.members.iter().find(|(known, _)| **known == *name)
    }

    /// What of an entry is read; `None` when the entry is not.
    fn entry(&self, name: &str) -> Option<&Shape> {
        self.named(name).map(|(_, shape)| shape).or(if self.entries { Some(self.every()) } else { None })
    }

    /// What of every entry is read.
    fn every(&self) -> &Shape {
        static TYPE: Shape = Shape { whole: false, entries: false, members: Vec::new(), each: None };
        self.each.as_deref().unwrap_or(&TYPE)
    }

    /// Returns the part of a value that is read.
    fn part(&self, value: &Value) -> Value {
        match value {
            _ if self.whole => value.clone(),
            Value::Array(items) if self.entries => {
                Value::array(items.iter().map(|item| self.every().part(item)).collect())
            }
            Value::Array(_) => Value::array(Vec::new()),
            Value::Object(members) => {
                let named = members.iter().filter_map(|(key, value)| {
                    let shape = match key {
                        Value::String(name) => self.entry(name)?,
                        _ if self.entries => self.every(),
                        _ => return None,
                    };
                    Some((key.clone(), shape.part(value)))
                });
                Value::object(named.collect())
            }
            // a member of a set is what it is
            other => other.clone(),
        }
    }
}

/// Reads the part of a value that is read.
struct Shaped<'l>(&'l Shape);

impl<'de> DeserializeSeed<'de> for Shaped<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0.whole {
            return de::Deserialize::deserialize(deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shaped<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::int(value))
    }
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::unsigned(value))
    }
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::float(value))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::string(text))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        if !self.0.whole && !self.0.entries {
            while sequence.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::array(items));
        }
        let shape = if self.0.whole { self.0 } else { self.0.every() };
        while let Some(item) = sequence.next_element_seed(Shaped(shape))? {
            items.push(item);
        }
        Ok(Value::array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::with_capacity(self.0.members.len());
        while let Some(name) = map.next_key_seed(Name(self.0))? {
            match name {
                Some((name, shape)) => members.push((Value::String(name), map.next_value_seed(Shaped(shape))?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::object(members))
    }
}

/// The key of a member that is read, with what is read of it.
struct Name<'l>(&'l Shape);

impl<'de, 'l> DeserializeSeed<'de> for Name<'l> {
    type Value = Option<(Arc<str>, &'l Shape)>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'l> Visitor<'_> for Name<'l> {
    type Value = Option<(Arc<str>, &'l Shape)>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        if self.0.whole {
            return Ok(Some((Arc::from(key), self.0)));
        }
        if let Some((name, shape)) = self.0.named(key) {
            return Ok(Some((name.clone(), shape)));
        }
        Ok(self.0.entry(key).map(|shape| (Arc::from(key), shape)))
    }
}
