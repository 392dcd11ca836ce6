//! Taking single keys out of a value while it is serialised: what is not wanted is not even visited.

use serde::ser::{Error as _, Impossible, SerializeMap, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::{Error, Map, Value};

use crate::Field;

/// What was taken.
pub(crate) enum Picked<'a> {
    /// Position in the table and text of each key.
    Texts(Vec<(usize, std::ops::Range<usize>)>, Vec<u8>),
    /// The values by key.
    Values(&'a mut Map<String, Value>),
}

impl Picked<'_> {
    fn take<T: Serialize + ?Sized>(&mut self, position: usize, key: &str, value: &T) -> Result<(), Error> {
        match self {
            Self::Texts(ranges, text) => {
                let begin = text.len();
                serde_json::to_writer(&mut *text, value)?;
                ranges.push((position, begin..text.len()));
            }
            Self::Values(map) => {
                map.insert(key.to_owned(), serde_json::to_value(value)?);
            }
        }
        Ok(())
    }

    /// Writes the texts as an object, in the table's order.
    pub(crate) fn write(&self, fields: &[Field], out: &mut Vec<u8>) {
        let Self::Texts(ranges, text) = self else { return };
        out.push(b'{');
        let begin = out.len();
        for (at, field) in fields.iter().enumerate() {
            let value = match field {
                Field::Null(_) => b"null",
                Field::Of(_) => match ranges.iter().find(|(position, _)| *position == at) {
                    Some((_, range)) => text.get(range.clone()).unwrap_or(b"null"),
                    None => continue,
                },
            };
            if out.len() > begin {
                out.push(b',');
            }
            out.push(b'"');
            // names of the tables, which need no escapes
            out.extend_from_slice(field.name().as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(value);
        }
        out.push(b'}');
    }
}

/// A serializer of an object that keeps the keys which have a position.
pub(crate) struct Projection<'a, 'b> {
    /// Returns a key's place among those wanted.
    pub position: &'a dyn Fn(&str) -> Option<usize>,
    /// Where they go.
    pub picked: &'a mut Picked<'b>,
}

pub(crate) struct Entries<'a, 'b> {
    projection: Projection<'a, 'b>,
    key: String,
}

impl<'a, 'b> Projection<'a, 'b> {
    fn entries(self) -> Entries<'a, 'b> {
        Entries { projection: self, key: String::new() }
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        match (self.position)(key) {
            Some(position) => self.picked.take(position, key, value),
            None => Ok(()),
        }
    }
}

fn no_object<T>() -> Result<T, Error> {
    Err(Error::custom("a resource is an object"))
}

impl<'a, 'b> Serializer for Projection<'a, 'b> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Entries<'a, 'b>;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        Ok(self.entries())
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    // null has no keys
    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_bool(self, _: bool) -> Result<(), Error> {
        no_object()
    }
    fn serialize_i8(self, _: i8) -> Result<(), Error> {
        no_object()
    }
    fn serialize_i16(self, _: i16) -> Result<(), Error> {
        no_object()
    }
    fn serialize_i32(self, _: i32) -> Result<(), Error> {
        no_object()
    }
    fn serialize_i64(self, _: i64) -> Result<(), Error> {
        no_object()
    }
    fn serialize_u8(self, _: u8) -> Result<(), Error> {
        no_object()
    }
    fn serialize_u16(self, _: u16) -> Result<(), Error> {
        no_object()
    }
    fn serialize_u32(self, _: u32) -> Result<(), Error> {
        no_object()
    }
    fn serialize_u64(self, _: u64) -> Result<(), Error> {
        no_object()
    }
    fn serialize_f32(self, _: f32) -> Result<(), Error> {
        no_object()
    }
    fn serialize_f64(self, _: f64) -> Result<(), Error> {
        no_object()
    }
    fn serialize_char(self, _: char) -> Result<(), Error> {
        no_object()
    }
    fn serialize_str(self, _: &str) -> Result<(), Error> {
        no_object()
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        no_object()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        no_object()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Error> {
        no_object()
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        no_object()
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, Error> {
        no_object()
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        no_object()
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTupleStruct, Error> {
        no_object()
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        no_object()
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        no_object()
    }
}

impl SerializeStruct for Projection<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.field(key, value)
    }
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl SerializeMap for Entries<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let Value::String(key) = serde_json::to_value(key)? else {
            return Err(Error::custom("a key is text"));
        };
        self.key = key;
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = std::mem::take(&mut self.key);
        self.projection.field(&key, value)
    }
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
