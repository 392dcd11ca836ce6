//! Where an identifier leads in an item.
//!
//! `a.b[0].c`, `a[*].b`, `a.b` through a list (each element's `b`), and
//! `annotations[a.b/c]` for keys with dots. What leads nowhere is null; lists
//! that are gone through drop nulls and are flattened by one level.

use std::borrow::Cow;

use serde_json::{Map, Value as Json};

/// Something with named values.
pub trait Item {
    /// Returns the value of a key.
    fn member(&self, key: &str) -> Option<&Json>;
}

impl Item for Map<String, Json> {
    fn member(&self, key: &str) -> Option<&Json> {
        self.get(key)
    }
}

impl Item for Json {
    fn member(&self, key: &str) -> Option<&Json> {
        self.get(key)
    }
}

/// A path, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    name: String,
    index: Option<Index>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Index {
    All,
    At(usize),
    Key(String),
}

impl Path {
    /// Takes a path apart. Every text is a path.
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix("{{").unwrap_or(text);
        let text = text.strip_suffix("}}").unwrap_or(text).trim();
        let text = text.strip_prefix('.').unwrap_or(text);
        let mut steps = Vec::new();
        let (mut depth, mut begin) = (0_usize, 0);
        for (at, c) in text.char_indices() {
            match c {
                '[' => depth += 1,
                ']' => depth = depth.saturating_sub(1),
                '.' if depth == 0 => {
                    steps.push(Step::new(text.get(begin..at).unwrap_or_default()));
                    begin = at + 1;
                }
                _ => {}
            }
        }
        steps.push(Step::new(text.get(begin..).unwrap_or_default()));
        Self { steps }
    }

    /// Returns the item's key at which it begins.
    pub fn root(&self) -> &str {
        self.steps.first().map(|step| step.name.as_str()).unwrap_or_default()
    }

    /// Returns what is there in an item.
    pub fn find<'a>(&self, item: &'a dyn Item) -> Cow<'a, Json> {
        let found = self.steps.split_first().and_then(|(first, rest)| {
            // an item is an object: a key that it lacks is null
            let value = item.member(&first.name)?;
            first.within(Cow::Borrowed(value), rest)
        });
        found.unwrap_or(Cow::Owned(Json::Null))
    }
}

impl Step {
    fn new(text: &str) -> Self {
        let indexed = text.strip_suffix(']').and_then(|inner| inner.rsplit_once('['));
        let Some((name, index)) = indexed else {
            return Self { name: text.to_owned(), index: None };
        };
        let quoted = |quote: char| index.strip_prefix(quote).and_then(|i| i.strip_suffix(quote));
        let index = match index {
            "*" => Index::All,
            // beyond what a list can hold: leads nowhere
            digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                Index::At(digits.parse().unwrap_or(usize::MAX))
            }
            key => Index::Key(quoted('\'').or_else(|| quoted('"')).unwrap_or(key).to_owned()),
        };
        Self { name: name.to_owned(), index: Some(index) }
    }

    /// Follows the index and the remaining steps from the value of the step's name.
    fn within<'a>(&self, value: Cow<'a, Json>, rest: &[Step]) -> Option<Cow<'a, Json>> {
        match &self.index {
            None => follow(value, rest),
            Some(Index::At(at)) => follow(element(value, *at)?, rest),
            Some(Index::Key(key)) => follow(member(value, key)?, rest),
            Some(Index::All) => match value {
                Cow::Borrowed(Json::Array(list)) => Some(collect(list.iter().map(Cow::Borrowed), rest)),
                Cow::Owned(Json::Array(list)) => Some(collect(list.into_iter().map(Cow::Owned), rest)),
                _ => None,
            },
        }
    }
}

fn follow<'a>(value: Cow<'a, Json>, steps: &[Step]) -> Option<Cow<'a, Json>> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(value);
    };
    match value {
        Cow::Borrowed(Json::Array(list)) => Some(collect(list.iter().map(Cow::Borrowed), steps)),
        Cow::Owned(Json::Array(list)) => Some(collect(list.into_iter().map(Cow::Owned), steps)),
        object => step.within(member(object, &step.name)?, rest),
    }
}

fn member<'a>(value: Cow<'a, Json>, key: &str) -> Option<Cow<'a, Json>> {
    match value {
        Cow::Borrowed(Json::Object(object)) => Some(object.get(key).map_or(Cow::Owned(Json::Null), Cow::Borrowed)),
        Cow::Owned(Json::Object(mut object)) => Some(Cow::Owned(object.remove(key).unwrap_or_default())),
        _ => None,
    }
}

fn element<'a>(value: Cow<'a, Json>, at: usize) -> Option<Cow<'a, Json>> {
    match value {
        Cow::Borrowed(Json::Array(list)) => list.get(at).map(Cow::Borrowed),
        Cow::Owned(Json::Array(mut list)) if at < list.len() => Some(Cow::Owned(list.swap_remove(at))),
        _ => None,
    }
}

fn collect<'a>(elements: impl Iterator<Item = Cow<'a, Json>>, steps: &[Step]) -> Cow<'a, Json> {
    let mut list = Vec::new();
    for element in elements {
        match follow(element, steps).map(Cow::into_owned) {
            None | Some(Json::Null) => {}
            Some(Json::Array(inner)) => list.extend(inner),
            Some(value) => list.push(value),
        }
    }
    Cow::Owned(Json::Array(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_through_objects_lists_and_odd_keys() {
        let item = json!({
            "name": "web", "annotations": {"a.b/c": "x"}, "deep": [[{"a": 1}], [{"a": 2}]],
            "disks": [{"key": 1, "tags": ["a", "b"]}, {"key": 2}, {"tags": ["c"]}, null],
        });
        for (path, expected) in [
            ("name", json!("web")),
            ("{{ .name }}", json!("web")),
            ("name.x", json!(null)),
            ("disks[1].key", json!(2)),
            ("disks[9].key", json!(null)),
            ("disks[-1].key", json!(null)),
            ("disks.key", json!([1, 2])),
            ("disks[*].tags", json!(["a", "b", "c"])),
            ("disks[*]", json!([{"key": 1, "tags": ["a", "b"]}, {"key": 2}, {"tags": ["c"]}])),
            ("disks[0].tags[1]", json!("b")),
            ("disks[0][0]", json!(null)),
            ("deep.a", json!([1, 2])),
            ("annotations[a.b/c]", json!("x")),
            ("annotations['a.b/c']", json!("x")),
            ("annotations[x]", json!(null)),
            ("name[*]", json!(null)),
        ] {
            assert_eq!(*Path::new(path).find(&item), expected, "{path}");
        }
    }
}
