//! What a provider's inventory consists of: a table that the provider's folder holds.

use serde_json::{Map, Value};

/// A provider type's collections and how they are shown.
#[derive(Debug)]
pub struct ProviderSpec {
    /// The provider type, as in `spec.type` and in paths.
    pub provider_type: &'static str,
    /// The collections.
    pub kinds: &'static [KindSpec],
    /// The collection of VMs that `workloads/:vm` shows; `None` without workloads.
    pub workloads: Option<&'static str>,
    /// Keys of the provider resource that upstream shows and that stay empty.
    pub blanks: &'static [&'static str],
    /// The provider resource's counts.
    pub counts: &'static [Count],
}

/// One count of the provider resource.
#[derive(Debug)]
pub struct Count {
    /// The JSON key.
    pub key: &'static str,
    /// The collection that is counted.
    pub kind: &'static str,
    /// Added to the count (openshift counts the pod network too).
    pub plus: i64,
}

/// One collection.
#[derive(Debug)]
pub struct KindSpec {
    /// The collection's name in paths.
    pub name: &'static str,
    /// The keys at detail 0, in order; a key that a record lacks is left out.
    pub base: &'static [&'static str],
    /// The keys at detail 1 where that differs from the full resource.
    pub summary: Option<&'static [Field]>,
    /// How a `name` with slashes is compared with paths.
    pub path_match: PathMatch,
    /// Whether its records are checked by the rules.
    pub validated: bool,
    /// Whether a reference by name needs a namespace too.
    pub namespaced: bool,
}

impl KindSpec {
    /// A collection without specialities; for `..KindSpec::PLAIN`.
    pub const PLAIN: Self =
        Self { name: "", base: &[], summary: None, path_match: PathMatch::None, validated: false, namespaced: false };

    /// Returns what a detail level shows of a full resource.
    pub fn render(&self, full: &Value, detail: i64) -> Value {
        match (detail, self.summary) {
            (..=0, _) => Value::Object(self.base.iter().filter_map(|key| copy(full, key)).collect()),
            (1, Some(fields)) => Value::Object(
                fields
                    .iter()
                    .filter_map(|field| match field {
                        Field::Of(key) => copy(full, key),
                        Field::Null(key) => Some(((*key).to_owned(), Value::Null)),
                    })
                    .collect::<Map<_, _>>(),
            ),
            _ => full.clone(),
        }
    }
}

fn copy(full: &Value, key: &str) -> Option<(String, Value)> {
    full.get(key).map(|value| (key.to_owned(), value.clone()))
}

/// A key of the summary level.
#[derive(Clone, Copy, Debug)]
pub enum Field {
    /// Copied from the full resource.
    Of(&'static str),
    /// Shown as `null`, as upstream does not fill it at this level.
    Null(&'static str),
}

/// How a `name` query that contains slashes is compared with a record's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// Only the last segment counts, as the name.
    None,
    /// The path ends with it.
    Suffix,
    /// The first segments are equal.
    Root,
}

impl PathMatch {
    /// Returns whether a path is meant by a name that contains slashes.
    pub fn matches(self, path: &str, name: &str) -> bool {
        let (path, name) = (path.trim_start_matches('/'), name.trim_start_matches('/'));
        match self {
            Self::None => true,
            Self::Root => path.split('/').next() == name.split('/').next(),
            Self::Suffix => {
                let (mut path, mut name) = (path.rsplit('/'), name.rsplit('/'));
                name.all(|wanted| path.next() == Some(wanted))
            }
        }
    }
}

impl ProviderSpec {
    /// Returns a collection by its name in paths.
    pub fn kind(&self, name: &str) -> Option<&'static KindSpec> {
        self.kinds.iter().find(|k| k.name == name)
    }

    /// Returns the `selfLink` of a provider.
    pub fn link(&self, uid: &str) -> String {
        format!("providers/{}/{uid}", self.provider_type)
    }

    /// Returns the `selfLink` of one of its resources.
    pub fn resource_link(&self, uid: &str, kind: &str, id: &str) -> String {
        format!("providers/{}/{uid}/{kind}/{id}", self.provider_type)
    }
}

#[cfg(test)]
mod tests {
    use super::PathMatch;

    #[test]
    fn paths_match_by_suffix_or_by_root() {
        for (kind, path, name, expected) in [
            (PathMatch::Suffix, "/DC/vm/folder/web", "folder/web", true),
            (PathMatch::Suffix, "/DC/vm/folder/web", "/DC/vm/folder/web", true),
            (PathMatch::Suffix, "web", "folder/web", false),
            (PathMatch::Suffix, "/DC/vm/other/web", "folder/web", false),
            (PathMatch::Root, "/DC/network/net", "DC/net", true),
            (PathMatch::Root, "/DC2/network/net", "DC/net", false),
            (PathMatch::None, "x", "a/b", true),
        ] {
            assert_eq!(kind.matches(path, name), expected, "{kind:?} {path} {name}");
        }
    }
}
