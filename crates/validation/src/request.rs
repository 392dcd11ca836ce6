//! Reading what is asked: JSON texts, and the request that wraps an input.

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::question::Question;
use crate::rego::document::Document;

/// Reads the first JSON value of a text; as in OPA, what follows it is ignored.
pub(crate) fn first<'de, S: DeserializeSeed<'de>>(text: &'de [u8], seed: S) -> Result<S::Value, String> {
    let told = |error: serde_json::Error| match error.is_eof() {
        true => "unexpected EOF".to_owned(),
        false => error.to_string(),
    };
    // looking at all of the letters once is quicker than at those of each text
    match std::str::from_utf8(text) {
        Ok(text) => seed.deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(told),
        Err(_) => seed.deserialize(&mut serde_json::Deserializer::from_slice(text)).map_err(told),
    }
}

/// The body of a request for a document.
pub(crate) enum Body {
    /// `{"input": …}`, `{}` or `null`.
    Input(Option<Document>),
    /// Something else, by the name that Go has for it.
    Wrong(&'static str),
}

/// Reads `{"input": …}`; other members mean nothing.
pub(crate) struct Asked<'q>(pub &'q Question);

impl<'de> DeserializeSeed<'de> for Asked<'_> {
    type Value = Body;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Body, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Asked<'_> {
    type Value = Body;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: de::Error>(self) -> Result<Body, E> {
        Ok(Body::Input(None))
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Body, E> {
        Ok(Body::Wrong("bool"))
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Body, E> {
        Ok(Body::Wrong("number"))
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Body, E> {
        Ok(Body::Wrong("number"))
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Body, E> {
        Ok(Body::Wrong("number"))
    }
    fn visit_str<E: de::Error>(self, _: &str) -> Result<Body, E> {
        Ok(Body::Wrong("string"))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Body, A::Error> {
        IgnoredAny.visit_seq(sequence)?;
        Ok(Body::Wrong("array"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut input = None;
        while let Some(is_input) = map.next_key_seed(IsKey("input"))? {
            if is_input {
                input = Some(map.next_value_seed(self.0.reader())?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Body::Input(input))
    }
}

/// Whether a key is this one.
struct IsKey(&'static str);

impl<'de> DeserializeSeed<'de> for IsKey {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey {
    type Value = bool;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text")
    }
    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}
