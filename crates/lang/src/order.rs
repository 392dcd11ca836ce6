//! What `order by` sorts by.

use std::cmp::Ordering;

use serde_json::Value as Json;

use crate::SyntaxError;
use crate::path::{Item, Path};
use crate::query::Reducer;

/// One key to sort by.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// As it is written.
    pub name: String,
    pub(crate) path: Path,
    pub(crate) reducer: Option<Reducer>,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Order {
    /// Returns an order by a path.
    pub fn by(name: &str, descending: bool) -> Self {
        Self { name: name.to_owned(), path: Path::new(name), reducer: None, descending }
    }

    /// Returns the item's key at which it begins.
    pub fn root(&self) -> &str {
        self.path.root()
    }

    /// Returns an item's key.
    pub fn key(&self, item: &dyn Item) -> SortKey {
        let found = self.path.find(item);
        match self.reducer {
            Some(reducer) => SortKey::of(&reducer.reduce(&found)),
            None => SortKey::of(&found),
        }
    }

    /// Compares two keys of it.
    pub fn compare(&self, left: &SortKey, right: &SortKey) -> Ordering {
        let order = left.cmp(right);
        if self.descending { order.reverse() } else { order }
    }
}

/// Reads `name,-memoryMB` or `name, memoryMB desc`, the form of the REST parameter `sort`.
///
/// # Errors
/// An empty name, or a word that is no direction.
pub fn parse_orders(text: &str) -> Result<Vec<Order>, SyntaxError> {
    let mut offset = 0;
    let mut orders = Vec::new();
    for part in text.split(',') {
        let wrong = |message: &str| SyntaxError::new(message, offset).within(text, 0);
        let mut words = part.split_whitespace();
        let name = words.next().ok_or_else(|| wrong("a field to sort by is missing"))?;
        let (name, minus) = match name.strip_prefix('-') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let descending = match words.next().map(str::to_ascii_lowercase).as_deref() {
            None | Some("asc") => minus,
            Some("desc") => !minus,
            Some(_) => return Err(wrong("a sort direction is asc or desc")),
        };
        if name.is_empty() || words.next().is_some() {
            return Err(wrong("a sort field is written as name, -name or name desc"));
        }
        orders.push(Order::by(name, descending));
        offset += part.chars().count() + 1;
    }
    Ok(orders)
}

/// What items are compared by: nothing, then booleans, numbers (also in texts), texts, and all else by its JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum SortKey {
    /// The item has no such value.
    Nothing,
    /// A number, or a text that is one.
    Number(f64),
    /// Anything else, as text.
    Text(String),
}

impl Eq for SortKey {}

impl SortKey {
    fn of(value: &Json) -> Self {
        match value {
            Json::Null => Self::Nothing,
            Json::Number(number) => Self::Number(number.as_f64().unwrap_or(f64::NAN)),
            Json::String(text) => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Self::Number(number),
                _ => Self::Text(text.clone()),
            },
            other => Self::Text(other.to_string()),
        }
    }
}

impl PartialOrd for SortKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SortKey {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => Ordering::Equal,
            (Self::Nothing, _) => Ordering::Less,
            (_, Self::Nothing) => Ordering::Greater,
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            // a total order: numbers before texts
            (Self::Number(..), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Number(..)) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_comes_first_and_numbers_are_compared_as_numbers() {
        let order = Order::by("v", false);
        let mut keys: Vec<SortKey> = [json!("b"), json!(10), json!("9.5"), json!(null), json!("a"), json!(true)]
            .into_iter()
            .map(|v| order.key(&json!({"v": v})))
            .collect();
        keys.sort();
        let text = |text: &str| SortKey::Text(text.to_owned());
        let expected =
            [SortKey::Nothing, SortKey::Number(9.5), SortKey::Number(10.0), text("a"), text("b"), text("true")];
        assert_eq!(keys, expected);
    }

    #[test]
    fn the_rest_parameter() {
        let orders = parse_orders("name,-memoryMB, host desc").expect("well-formed");
        let told: Vec<_> = orders.iter().map(|o| (o.name.as_str(), o.descending)).collect();
        assert_eq!(told, [("name", false), ("memoryMB", true), ("host", true)]);
        let error = parse_orders("name,,x").expect_err("an empty field").to_string();
        assert_eq!(error, "a field to sort by is missing at position 5\nname,,x\n     ^");
    }
}
