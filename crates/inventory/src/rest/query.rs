//! The query parameters that all collections share.

use axum::http::StatusCode;

/// A request's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub detail: i64,
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub limit: Option<usize>,
    pub offset: usize,
}

/// The detail level of `all`.
pub(crate) const MAX_DETAIL: i64 = 9;

impl Parameters {
    /// Reads the parameters; what is malformed is a bad request.
    pub fn read(pairs: &[(String, String)]) -> Result<Self, StatusCode> {
        let value = |key: &str| pairs.iter().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str());
        let number = |key: &str| value(key).map(str::parse::<usize>).transpose().map_err(|_| StatusCode::BAD_REQUEST);
        let detail = match value("detail") {
            None => 0,
            Some(all) if all.eq_ignore_ascii_case("all") => MAX_DETAIL,
            Some(text) => text.parse().map_err(|_| StatusCode::BAD_REQUEST)?,
        };
        Ok(Self {
            detail,
            name: value("name").map(str::to_owned),
            namespace: value("namespace").map(str::to_owned),
            limit: number("limit")?,
            offset: number("offset")?.unwrap_or(0),
        })
    }

    /// Returns the page of a list.
    pub fn page<T>(&self, list: Vec<T>) -> Vec<T> {
        list.into_iter().skip(self.offset).take(self.limit.unwrap_or(usize::MAX)).collect()
    }
}
