//! The query parameters that all collections share.

use forklift_lang::{Query, parse_orders};

use super::refusal::Refusal;

/// A request's parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parameters {
    pub detail: i64,
    pub name: Option<String>,
    pub namespace: Option<String>,
    /// `query`, with the order of `sort` when it has none of its own.
    pub query: Option<Query>,
    pub limit: Option<usize>,
    pub offset: usize,
    /// Whether records that the source has not confirmed yet are wanted at once.
    pub stale: bool,
    /// Whether an item that does not fit the query is an error.
    pub strict: bool,
}

/// The detail level of `all`.
pub(crate) const MAX_DETAIL: i64 = 9;
/// A longer query is refused.
const MAX_QUERY: usize = 64 * 1024;

impl Parameters {
    /// Reads the parameters; what is malformed is a bad request.
    pub fn read(pairs: &[(String, String)]) -> Result<Self, Refusal> {
        let value = |key: &str| pairs.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str());
        let wrong = |key: &str, text: &str| Refusal::bad(format!("{key}={text} is not a whole number"));
        let number = |key: &str| value(key).map(|text| text.parse::<usize>().map_err(|_| wrong(key, text))).transpose();
        let flag = |key: &str| value(key).is_some_and(|v| v.eq_ignore_ascii_case("true") || v == "1");
        let detail = match value("detail") {
            None => 0,
            Some(all) if all.eq_ignore_ascii_case("all") => MAX_DETAIL,
            Some(text) => text.parse().map_err(|_| wrong("detail", text))?,
        };
        Ok(Self {
            detail,
            name: value("name").map(str::to_owned),
            namespace: value("namespace").map(str::to_owned),
            query: query(value("query"), value("sort"))?,
            limit: number("limit")?,
            offset: number("offset")?.unwrap_or(0),
            stale: flag("stale"),
            strict: flag("strict"),
        })
    }

    /// Returns the page of a list.
    pub fn page<T>(&self, list: Vec<T>) -> Vec<T> {
        list.into_iter().skip(self.offset).take(self.limit.unwrap_or(usize::MAX)).collect()
    }
}

fn query(text: Option<&str>, sort: Option<&str>) -> Result<Option<Query>, Refusal> {
    if text.is_some_and(|text| text.len() > MAX_QUERY) {
        return Err(Refusal::bad(format!("query is longer than {MAX_QUERY} bytes")));
    }
    let told = |error: forklift_lang::SyntaxError| Refusal::bad(error.to_string());
    let mut query = text.map(Query::parse).transpose().map_err(told)?;
    if let Some(sort) = sort {
        let orders = parse_orders(sort).map_err(told)?;
        let query = query.get_or_insert_default();
        if query.order.is_empty() {
            query.order = orders;
        }
    }
    Ok(query)
}
