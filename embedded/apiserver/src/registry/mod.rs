//! The resources that are served: built-in ones from a table, custom ones from their definitions.

mod builtin;
pub mod crd;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock, RwLock};

use serde_json::Value;

use crate::schema::builtin::SchemaFn;
use crate::schema::{self, Schema};

/// A column of `kubectl get` that a CRD declares.
#[derive(Clone, Debug)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// OpenAPI type.
    pub kind: String,
    /// OpenAPI format.
    pub format: String,
    /// Help.
    pub description: String,
    /// 0 is shown always.
    pub priority: i64,
    /// Where the value is.
    pub path: String,
}

/// Where the scale subresource finds its numbers.
#[derive(Clone, Debug)]
pub struct Scale {
    /// JSON path of the wanted count.
    pub spec: String,
    /// JSON path of the actual count.
    pub status: String,
    /// JSON path of the selector, a string.
    pub selector: Option<String>,
}

/// What may be done with a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Stored objects: everything.
    Stored,
    /// A question that is answered and not stored, such as a TokenReview.
    Ask,
}

enum Shape {
    Builtin(SchemaFn),
    Custom(Arc<Schema>),
}

/// One resource in one version.
pub struct Resource {
    /// API group, empty for the core group.
    pub group: String,
    /// Version.
    pub version: String,
    /// Plural, as in paths.
    pub plural: String,
    /// Singular.
    pub singular: String,
    /// Kind.
    pub kind: String,
    /// Kind of lists.
    pub list_kind: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories such as `all`.
    pub categories: Vec<String>,
    /// Whether objects are in namespaces.
    pub namespaced: bool,
    /// What may be done.
    pub access: Access,
    /// Whether there is a status subresource.
    pub status: bool,
    /// The scale subresource.
    pub scale: Option<Scale>,
    /// Whether `metadata.generation` counts changes.
    pub generation: bool,
    /// Other subresources: name and kind.
    pub subresources: &'static [(&'static str, &'static str)],
    /// Name in the store, shared by all versions.
    pub storage: Arc<str>,
    /// `apiVersion` in the store.
    pub storage_version: String,
    /// Whether it comes from a CRD.
    pub custom: bool,
    /// Printer columns of a CRD.
    pub columns: Vec<Column>,
    /// JSON paths usable as field selectors.
    pub selectable: Vec<String>,
    /// The CRD's schema as given.
    pub published: Value,
    /// Revision from which on stored objects were written with this schema.
    pub since: u64,
    /// The schema of the stored version, by which a custom resource is read.
    pub stored_schema: Option<Arc<Schema>>,
    /// The webhook that converts between versions.
    pub conversion: Option<Arc<crate::convert::Conversion>>,
    shape: Shape,
    schema: OnceLock<Arc<Schema>>,
}

impl Resource {
    /// `apiVersion` as objects carry it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The schema; a built-in kind's is made at first use.
    pub fn schema(&self) -> &Arc<Schema> {
        self.schema.get_or_init(|| match &self.shape {
            Shape::Builtin(make) => schema::builtin::kind_schema(&self.kind, *make),
            Shape::Custom(schema) => schema.clone(),
        })
    }

    /// Generator of a built-in kind's published definition.
    pub fn published_builtin(&self) -> Option<SchemaFn> {
        match &self.shape {
            Shape::Builtin(make) => Some(*make),
            Shape::Custom(_) => None,
        }
    }

    /// Whether this is the built-in resource `plural` of `group`.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }
}

type Path = (String, String, String);

#[derive(Default)]
struct Tables {
    by_path: BTreeMap<Path, Arc<Resource>>,
    custom: HashMap<String, Vec<Path>>,
    changes: u64,
}

/// All resources that are served now.
pub struct Registry {
    tables: RwLock<Tables>,
}

/// A group with its versions, best first.
pub struct Group {
    /// Group name.
    pub name: String,
    /// Versions with their resources.
    pub versions: Vec<(String, Vec<Arc<Resource>>)>,
}

impl Default for Registry {
    fn default() -> Self {
        let mut tables = Tables::default();
        for resource in builtin::resources() {
            tables.by_path.insert(
                (resource.group.clone(), resource.version.clone(), resource.plural.clone()),
                Arc::new(resource),
            );
        }
        Self { tables: RwLock::new(tables) }
    }
}

impl Registry {
    fn read<T>(&self, look: impl FnOnce(&Tables) -> T) -> T {
        look(&self.tables.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Whether anything of the group is served.
    pub fn knows_group(&self, group: &str) -> bool {
        self.read(|t| t.by_path.keys().any(|(g, _, _)| g == group))
    }

    /// The resource at a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.read(|t| t.by_path.get(&(group.to_string(), version.to_string(), plural.to_string())).cloned())
    }

    /// Any version of the resource with this name in the store.
    pub fn stored(&self, storage: &str) -> Option<Arc<Resource>> {
        let (group, plural) = storage.split_once('/')?;
        self.read(|t| {
            let all = t.by_path.values().filter(|r| r.group == group && r.plural == plural && &*r.storage == storage);
            let mut all: Vec<_> = all.cloned().collect();
            let best = all.iter().position(|r| r.api_version() == r.storage_version).unwrap_or(0);
            (best < all.len()).then(|| all.swap_remove(best))
        })
    }

    /// Whether some resource has this group and kind.
    pub fn knows_kind(&self, group: &str, kind: &str) -> bool {
        self.read(|t| t.by_path.values().any(|r| r.group == group && r.kind == kind))
    }

    /// All resources.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.read(|t| t.by_path.values().cloned().collect())
    }

    /// Grows with every change of the set.
    pub fn changes(&self) -> u64 {
        self.read(|t| t.changes)
    }

    /// Groups in name order, versions best first.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: BTreeMap<String, BTreeMap<String, Vec<Arc<Resource>>>> = BTreeMap::new();
        for resource in self.all() {
            groups
                .entry(resource.group.clone())
                .or_default()
                .entry(resource.version.clone())
                .or_default()
                .push(resource);
        }
        let group = |(name, versions): (String, BTreeMap<String, Vec<Arc<Resource>>>)| {
            let mut versions: Vec<_> = versions.into_iter().collect();
            versions.sort_by_key(|(v, _)| std::cmp::Reverse(version_rank(v)));
            Group { name, versions }
        };
        groups.into_iter().map(group).collect()
    }

    /// Serves what the CRD `name` declares instead of what it declared before.
    pub fn set_custom(&self, name: &str, resources: Vec<Resource>) {
        let mut tables = self.tables.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        for path in tables.custom.remove(name).unwrap_or_default() {
            tables.by_path.remove(&path);
        }
        let mut paths = Vec::new();
        for resource in resources {
            let path = (resource.group.clone(), resource.version.clone(), resource.plural.clone());
            paths.push(path.clone());
            tables.by_path.insert(path, Arc::new(resource));
        }
        if !paths.is_empty() {
            tables.custom.insert(name.to_string(), paths);
        }
        tables.changes += 1;
    }
}

/// The schema at a JSON path of fields and map keys (`.spec.a['b']`); None when there is none.
pub fn field_path<'a>(path: &str, schema: &'a Schema) -> Option<&'a Schema> {
    let (mut rest, mut at) = (path, schema);
    while !rest.is_empty() {
        let name;
        (name, rest) = if let Some(tail) = rest.strip_prefix("['") {
            tail.split_once("']")?
        } else {
            let tail = rest.strip_prefix('.')?;
            tail.split_at(tail.find(['.', '[']).unwrap_or(tail.len()))
        };
        at = at.properties.get(name).or(at.additional.as_ref().filter(|_| at.properties.is_empty()))?;
    }
    Some(at)
}

/// Orders versions as Kubernetes does: v2 > v1 > v1beta1 > v1alpha1 > anything else.
pub fn version_rank(version: &str) -> (u8, u32, u32) {
    let parse = || -> Option<(u8, u32, u32)> {
        let rest = version.strip_prefix('v')?;
        for (stage, mark) in [(2, "beta"), (1, "alpha")] {
            if let Some((major, minor)) = rest.split_once(mark) {
                return Some((stage, major.parse().ok()?, minor.parse().ok()?));
            }
        }
        Some((3, rest.parse().ok()?, 0))
    };
    parse().unwrap_or((0, 0, 0))
}
