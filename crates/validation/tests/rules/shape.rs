//! What an inventory document looks like, and random documents that look nearly like it.

use serde_json::{Map, Value, json};

use crate::random::{Rng, anything};

/// The shape of a value.
pub enum Shape {
    /// One of these.
    OneOf(Vec<Value>),
    /// A list of values; mostly short, rarely around the limit on disks.
    List(Box<Shape>),
    /// An object of which any field may be missing.
    Fields(Vec<(&'static str, Shape)>),
}

/// Returns the shape of one of these texts.
pub fn text(of: &[&str]) -> Shape {
    Shape::OneOf(of.iter().map(|text| json!(text)).collect())
}

/// Returns the shape of one of these numbers.
pub fn number(of: &[i64]) -> Shape {
    Shape::OneOf(of.iter().map(|number| json!(number)).collect())
}

pub fn flag() -> Shape {
    Shape::OneOf(vec![json!(true), json!(false)])
}

pub fn list(of: Shape) -> Shape {
    Shape::List(Box::new(of))
}

pub fn fields(of: Vec<(&'static str, Shape)>) -> Shape {
    Shape::Fields(of)
}

/// How far documents are from what the inventory writes, in thousandths of their values.
#[derive(Clone, Copy)]
pub struct Mood {
    missing: usize,
    odd: usize,
}

impl Mood {
    /// Some documents are as they should be, some lack fields, some are wild.
    pub fn any(rng: &mut Rng) -> Self {
        match rng.below(3) {
            0 => Self { missing: 10, odd: 0 },
            1 => Self { missing: 300, odd: 10 },
            _ => Self { missing: 150, odd: 120 },
        }
    }
}

/// Returns a document of this shape, or one that is not quite.
pub fn document(shape: &Shape, rng: &mut Rng) -> Value {
    if rng.chance(5) {
        return anything(rng, 3);
    }
    let mood = Mood::any(rng);
    proper(shape, mood, rng)
}

fn value(shape: &Shape, mood: Mood, rng: &mut Rng) -> Value {
    if !rng.chance(mood.odd) {
        return proper(shape, mood, rng);
    }
    match rng.below(8) {
        0 => Value::Null,
        // one where many are expected, and the other way round
        1 => json!([proper(shape, mood, rng)]),
        2 => json!({"0": proper(shape, mood, rng), "name": proper(shape, mood, rng)}),
        3 => match proper(shape, mood, rng) {
            Value::Array(items) => items.into_iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
            Value::Bool(flag) => json!(flag.to_string()),
            Value::Number(number) => json!(number.to_string()),
            Value::String(text) => json!(format!(" {text}é")),
            other => json!(other.to_string()),
        },
        _ => anything(rng, 2),
    }
}

fn proper(shape: &Shape, mood: Mood, rng: &mut Rng) -> Value {
    match shape {
        Shape::OneOf(values) => rng.one(values).clone(),
        Shape::List(of) => {
            let length = if rng.chance(4) { 164 + rng.below(4) } else { rng.below(4) };
            (0..length).map(|_| value(of, mood, rng)).collect()
        }
        Shape::Fields(of) => {
            let mut object = Map::new();
            for (name, shape) in of {
                if !rng.chance(mood.missing) {
                    object.insert((*name).to_owned(), value(shape, mood, rng));
                }
            }
            Value::Object(object)
        }
    }
}
