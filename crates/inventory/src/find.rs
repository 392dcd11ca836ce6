//! References of maps and plans, resolved: by id, or by name or path.

use std::sync::Arc;

use crate::{KindSpec, LiveQuery, ProviderEntry, Record, Store};

/// A reference as users write it: an id, or a name (with its path where names repeat).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reference<'a> {
    /// The id; when it is there, nothing else counts.
    pub id: Option<&'a str>,
    /// The name, or a path that ends with it, or `namespace/name`.
    pub name: Option<&'a str>,
    /// The namespace, for Kubernetes objects.
    pub namespace: Option<&'a str>,
}

impl std::fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.id.filter(|id| !id.is_empty()), self.namespace.filter(|n| !n.is_empty())) {
            (Some(id), _) => write!(f, "id {id}"),
            (None, Some(namespace)) => write!(f, "{namespace}/{}", self.name.unwrap_or_default()),
            (None, None) => write!(f, "{}", self.name.unwrap_or_default()),
        }
    }
}

/// Why a reference does not lead to one record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The inventory is not loaded yet: try again.
    #[error("the inventory of provider {provider} is not ready")]
    NotReady {
        /// The provider's name.
        provider: String,
    },
    /// There is no such thing.
    #[error("{kind}: {reference} not found")]
    NotFound {
        /// The collection.
        kind: String,
        /// The reference.
        reference: String,
    },
    /// There are several.
    #[error("{kind}: {reference} matches several: {}", candidates.join(", "))]
    Ambiguous {
        /// The collection.
        kind: String,
        /// The reference.
        reference: String,
        /// The ids that match; empty when a namespace is needed to choose.
        candidates: Vec<String>,
    },
    /// A live source could not be read: try again.
    #[error("{message}")]
    Unreachable {
        /// What went wrong.
        message: String,
    },
}

impl ProviderEntry {
    /// Resolves a reference in one of the provider's collections.
    pub async fn find(&self, kind: &str, reference: Reference<'_>) -> Result<Arc<Record>, FindError> {
        let not_found = || FindError::NotFound { kind: kind.to_owned(), reference: reference.to_string() };
        let spec = self.spec().kind(kind).ok_or_else(not_found)?;
        if !self.store().has_parity() {
            return Err(FindError::NotReady { provider: self.name() });
        }
        let mut found = if self.live_source().is_some() {
            self.find_live(spec, reference).await?
        } else if let Some(id) = given(reference.id) {
            self.store().get(kind, id).into_iter().collect()
        } else {
            let name = given(reference.name).ok_or_else(not_found)?;
            by_name(spec, self.store(), name)
        };
        match found.len() {
            0 => Err(not_found()),
            1 => Ok(found.remove(0)),
            _ => Err(FindError::Ambiguous {
                kind: kind.to_owned(),
                reference: reference.to_string(),
                candidates: found.iter().map(|r| r.id.to_string()).collect(),
            }),
        }
    }

    async fn find_live(&self, spec: &KindSpec, reference: Reference<'_>) -> Result<Vec<Arc<Record>>, FindError> {
        let Some(live) = self.live_source() else {
            return Ok(Vec::new());
        };
        let mut query = LiveQuery { kind: spec.name, ..LiveQuery::default() };
        let id = given(reference.id);
        if id.is_none() {
            let name = given(reference.name).unwrap_or_default();
            (query.namespace, query.name) = match (given(reference.namespace), name.rsplit_once('/')) {
                (Some(namespace), _) => (Some(namespace), Some(name)),
                (None, Some((namespace, name))) if spec.namespaced => (Some(namespace), Some(name)),
                (None, _) => (None, Some(name)),
            };
            if spec.namespaced && query.namespace.is_none() {
                return Err(FindError::Ambiguous {
                    kind: spec.name.to_owned(),
                    reference: reference.to_string(),
                    candidates: Vec::new(),
                });
            }
        }
        let list = live.list(query).await.map_err(|e| FindError::Unreachable { message: e.to_string() })?;
        Ok(list.into_iter().filter(|r| id.is_none_or(|id| *r.id == *id)).collect())
    }
}

fn given(value: Option<&str>) -> Option<&str> {
    value.filter(|v| !v.is_empty())
}

/// Returns the records that a name means: the last segment is the name, and
/// where several have it, the path decides.
pub(crate) fn by_name(spec: &KindSpec, store: &Store, name: &str) -> Vec<Arc<Record>> {
    let last = name.rsplit('/').next().unwrap_or(name);
    if !name.contains('/') {
        return store.named(spec.name, last);
    }
    // a name that itself holds slashes is meant as it stands
    let exact = store.named(spec.name, name);
    if !exact.is_empty() {
        return exact;
    }
    let mut found = store.named(spec.name, last);
    if found.len() > 1 {
        found.retain(|r| spec.path_match.matches(&r.path, name));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Draft, PathMatch, ProviderSpec, Writer};
    use serde_json::json;

    static SPEC: ProviderSpec = ProviderSpec {
        provider_type: "test",
        kinds: &[KindSpec { name: "vms", path_match: PathMatch::Suffix, ..KindSpec::PLAIN }],
        ..ProviderSpec::PLAIN
    };

    fn entry(loaded: bool) -> ProviderEntry {
        let object = json!({"metadata": {"uid": "u", "name": "p", "namespace": "n"}});
        let entry = ProviderEntry::collected(&SPEC, object);
        let writer = Writer::new(entry.store().clone(), None);
        for (id, name, path) in [("1", "a", "/x/a"), ("2", "b", "/x/b"), ("3", "b", "/y/b")] {
            let draft = Draft { id: id.into(), name: name.into(), path: path.into(), ..Draft::default() };
            writer.upsert("vms", draft);
        }
        if loaded {
            writer.loaded();
        }
        entry
    }

    async fn found(kind: &str, reference: Reference<'_>) -> String {
        match entry(true).find(kind, reference).await {
            Ok(record) => record.id.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_reference_is_an_id_or_a_name_or_a_path() {
        let name = |name| Reference { name: Some(name), ..Reference::default() };
        assert_eq!(found("vms", Reference { id: Some("2"), name: Some("wrong"), namespace: None }).await, "2");
        assert_eq!(found("vms", name("a")).await, "1");
        assert_eq!(found("vms", name("y/b")).await, "3");
        assert_eq!(found("vms", name("b")).await, "vms: b matches several: 2, 3");
        assert_eq!(found("vms", name("c")).await, "vms: c not found");
        assert_eq!(found("vms", Reference { id: Some("9"), ..Reference::default() }).await, "vms: id 9 not found");
        assert_eq!(found("hosts", name("a")).await, "hosts: a not found");
    }

    #[tokio::test]
    async fn an_inventory_that_is_not_loaded_is_not_ready() {
        let error = entry(false).find("vms", Reference { id: Some("1"), ..Reference::default() }).await;
        assert_eq!(error.expect_err("not loaded"), FindError::NotReady { provider: "p".into() });
    }
}
