//! Who may read what.
//!
//! A caller shows a bearer token. Reading one provider's inventory needs `get`
//! on that Provider object, listing providers needs `list` in the namespace of
//! the query (all namespaces without one). Missing or unknown token: 401; known
//! but not allowed: 403 with the reason in `forklift-error-message`.

use async_trait::async_trait;
use axum::http::{HeaderMap, header};

/// A caller, as the token review names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// The name.
    pub name: String,
    /// The UID.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Further facts, by key.
    pub extra: std::collections::BTreeMap<String, Vec<String>>,
}

/// What a caller wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Read the inventory of one Provider.
    Provider {
        /// The Provider's namespace.
        namespace: String,
        /// The Provider's name.
        name: String,
    },
    /// List Providers of a namespace; of all when it is empty.
    List {
        /// The namespace.
        namespace: String,
    },
}

/// Why a caller is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token, or one that nobody knows.
    #[error("the token is missing or not valid")]
    Unauthenticated,
    /// The caller is known and may not.
    #[error("{0}")]
    Forbidden(String),
    /// It could not be found out.
    #[error("cannot check the token: {0}")]
    Failed(String),
}

/// Decides on callers. Implementations may remember answers for a few seconds.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// Returns whose token it is.
    async fn authenticate(&self, token: Option<&str>) -> Result<User, Denied>;

    /// Decides whether the user may.
    async fn permit(&self, user: &User, access: &Access) -> Result<(), Denied>;
}

/// Lets everybody in: for `feature_auth_required: false` and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

#[async_trait]
impl Authorizer for Open {
    async fn authenticate(&self, _: Option<&str>) -> Result<User, Denied> {
        Ok(User::default())
    }

    async fn permit(&self, _: &User, _: &Access) -> Result<(), Denied> {
        Ok(())
    }
}

/// Returns the bearer token of a request: exactly two words, the first `Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut words = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some("Bearer"), Some(token), None) => Some(token),
        _ => None,
    }
}
