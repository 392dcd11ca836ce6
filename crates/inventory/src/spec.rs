//! What a provider's inventory consists of: a table that the provider's folder holds.

use std::sync::Arc;

use serde_json::Value;

use crate::{Node, Record, Resource, Store};

/// A provider type's collections and how they are shown.
#[derive(Debug)]
pub struct ProviderSpec {
    /// The provider type, as in `spec.type` and in paths.
    pub provider_type: &'static str,
    /// The collections.
    pub kinds: &'static [KindSpec],
    /// The collection of VMs that `workloads/:vm` shows; `None` without workloads.
    pub workloads: Option<&'static str>,
    /// Makes a VM's workload document; `None` is the VM under its workloads link.
    pub workload: Option<Workload>,
    /// The trees below `tree/`.
    pub trees: &'static [Tree],
    /// Keys of the provider resource that the collector fills with [`crate::Writer::facts`]; empty text until then.
    pub blanks: &'static [&'static str],
    /// The provider resource's counts.
    pub counts: &'static [Count],
}

/// Makes a VM's workload document out of the store. An error is a reference that
/// leads nowhere: it is shown with 500 and becomes a Critical concern.
pub type Workload = fn(&Store, &Record) -> Result<Value, String>;

/// One tree of a provider.
#[derive(Debug)]
pub struct Tree {
    /// The name in paths.
    pub name: &'static str,
    /// Returns the root's children, for a detail level of the request.
    pub build: fn(&Store, i64) -> Vec<Node>,
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
    pub base: &'static [Field],
    /// The keys at detail 1 where that differs from the full resource.
    pub summary: Option<&'static [Field]>,
    /// How a `name` with slashes is compared with paths.
    pub path_match: PathMatch,
    /// Whether its records are checked by the rules.
    pub validated: bool,
    /// Whether a reference by name needs a namespace too.
    pub namespaced: bool,
    /// Whether lists show the full resource at every detail level (VMs of vSphere).
    pub full_lists: bool,
    /// Says which records lists leave out (templates); they can still be read one by one.
    pub hidden: Option<fn(&Record) -> bool>,
    /// What of a single record is asked of the source, when a request wants it.
    pub asked: Option<Asked>,
    /// Reads a record back from a snapshot on disk; without it the collection is not kept.
    pub restore: Option<fn(&str) -> Option<Arc<dyn Resource>>>,
}

/// What of a record is asked of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The query parameter that wants it, and says what.
    pub parameter: &'static str,
    /// The key of the record's JSON under which it is shown.
    pub key: &'static str,
}

impl KindSpec {
    /// A collection without specialities; for `..KindSpec::PLAIN`.
    pub const PLAIN: Self = Self {
        name: "",
        base: &[],
        summary: None,
        path_match: PathMatch::None,
        validated: false,
        namespaced: false,
        full_lists: false,
        hidden: None,
        asked: None,
        restore: None,
    };

    /// Returns the keys of a detail level; `None` is the full resource.
    pub fn level(&self, detail: i64) -> Option<&'static [Field]> {
        match detail {
            ..=0 => Some(self.base),
            1 => self.summary,
            _ => None,
        }
    }

    /// Returns the detail level at which a list shows its records.
    pub fn list_detail(&self, detail: i64) -> i64 {
        if self.full_lists { i64::MAX } else { detail }
    }
}

/// A key of a detail level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Copied from the full resource.
    Of(&'static str),
    /// Shown as `null`, as upstream does not fill it at this level.
    Null(&'static str),
}

impl Field {
    /// Returns fields for keys that are all copied; for `const` tables.
    pub const fn all<const N: usize>(keys: [&'static str; N]) -> [Self; N] {
        let mut fields = [Self::Null(""); N];
        let mut at = 0;
        while at < N {
            fields[at] = Self::Of(keys[at]);
            at += 1;
        }
        fields
    }

    /// Returns the key.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Of(name) | Self::Null(name) => name,
        }
    }

    /// Returns the key of the full resource that it shows.
    pub(crate) fn source(&self) -> Option<&'static str> {
        match self {
            Self::Of(name) => Some(name),
            Self::Null(_) => None,
        }
    }
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
    /// A provider without anything; for `..ProviderSpec::PLAIN`.
    pub const PLAIN: Self =
        Self { provider_type: "", kinds: &[], workloads: None, workload: None, trees: &[], blanks: &[], counts: &[] };

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
