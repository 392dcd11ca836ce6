//! `metadata.managedFields`: the wire form of who owns which fields.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::owners::{Owner, Owners};
use super::set::FieldSet;
use crate::meta;
use crate::request::Context;

/// Most managers that came by update; older ones are put together.
const MOST_UPDATERS: usize = 10;

/// Who: a manager by name, operation and path; an updater by the version it wrote, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Name.
    pub manager: String,
    /// Whether it applies; else it updates.
    pub applies: bool,
    /// Version of the objects it writes; empty for appliers.
    pub api_version: String,
    /// Path it uses, such as `status`.
    pub subresource: String,
}

impl Name {
    /// The maker of a request as updater.
    pub fn updater(context: &Context, manager: &str) -> Self {
        Self {
            manager: if manager.is_empty() { "unknown" } else { manager }.to_string(),
            applies: false,
            api_version: context.resource.api_version(),
            subresource: context.target.subresource.clone(),
        }
    }

    /// The maker of a request as applier.
    pub fn applier(context: &Context, manager: &str) -> Self {
        Self { applies: true, api_version: String::new(), ..Self::updater(context, manager) }
    }

    /// A name that no request can have, for what the present one does before it is put with its maker's.
    pub fn present() -> Self {
        Self { manager: String::new(), applies: false, api_version: String::new(), subresource: String::new() }
    }
}

/// As conflicts name it.
impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        if !self.applies {
            write!(f, " using {}", self.api_version)?;
        }
        Ok(())
    }
}

/// What is noted of a manager beside its fields.
#[derive(Clone, Debug, Default)]
struct Note {
    api_version: String,
    time: Option<String>,
}

/// All managers of an object.
#[derive(Clone, Debug)]
pub struct Managers {
    /// Who owns what.
    pub owners: Owners<Name>,
    notes: BTreeMap<Name, Note>,
}

impl Managers {
    /// Nobody.
    pub fn none() -> Self {
        Self { owners: Owners { list: Vec::new() }, notes: BTreeMap::new() }
    }

    /// Reads them from an object.
    pub fn decode(object: &Value) -> Result<Self, String> {
        let mut managers = Self::none();
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        for (at, entry) in entries.into_iter().flatten().enumerate() {
            let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default().to_string();
            let applies = match text("operation").as_str() {
                "Apply" => true,
                "Update" => false,
                _ => return Err("operation must be `Apply` or `Update`".into()),
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".into());
            }
            match text("fieldsType").as_str() {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {at}")),
            }
            let fields = FieldSet::decode(entry.get("fieldsV1").unwrap_or(&Value::Null))?;
            let name = Name {
                manager: text("manager"),
                applies,
                api_version: if applies { String::new() } else { api_version.clone() },
                subresource: text("subresource"),
            };
            let time = entry.get("time").and_then(Value::as_str).map(String::from);
            // of two entries of one manager the last one counts
            managers.owners.list.retain(|owner| owner.name != name);
            managers.owners.list.push(Owner { name: name.clone(), fields, applied: applies });
            managers.notes.insert(name, Note { api_version, time });
        }
        Ok(managers)
    }

    /// Whether nobody manages anything.
    pub fn is_empty(&self) -> bool {
        self.owners.list.is_empty()
    }

    /// Gives what the present update did to its maker, now.
    pub fn take_present(&mut self, maker: &Name) {
        let Some(fields) = self.owners.of(&Name::present()).cloned() else { return };
        self.owners.set(&Name::present(), FieldSet::default(), false);
        let all = self.owners.of(maker).map_or(fields.clone(), |known| known.union(&fields));
        self.owners.set(maker, all, false);
        self.notes.insert(maker.clone(), Note { api_version: maker.api_version.clone(), time: Some(meta::now()) });
    }

    /// Notes that the applier wrote this version; `changed` when the object is another one now.
    pub fn applied(&mut self, applier: &Name, api_version: &str, changed: bool) {
        let note = self.notes.entry(applier.clone()).or_default();
        note.api_version = api_version.to_string();
        if changed {
            note.time = Some(meta::now());
        }
    }

    /// Takes fields that nobody manages from a manager.
    pub fn strip(&mut self, name: &Name, unmanaged: &FieldSet) {
        if let Some(owner) = self.owners.list.iter_mut().find(|owner| owner.name == *name) {
            owner.fields = owner.fields.difference(unmanaged);
        }
        self.owners.list.retain(|owner| !owner.fields.is_empty());
    }

    /// Puts the oldest updaters of a version together when there are too many.
    pub fn cap(&mut self) {
        let mut updaters: Vec<Name> =
            self.owners.list.iter().filter(|owner| !owner.applied).map(|owner| owner.name.clone()).collect();
        let mut count = updaters.len();
        if count <= MOST_UPDATERS {
            return;
        }
        updaters.sort_by_key(|name| (self.notes.get(name).and_then(|note| note.time.clone()), name.clone()));
        let mut first: BTreeMap<String, Name> = BTreeMap::new();
        for name in updaters {
            if count <= MOST_UPDATERS {
                return;
            }
            let version = name.api_version.clone();
            let Some(oldest) = first.get(&version).cloned() else {
                first.insert(version, name);
                continue;
            };
            let bucket = Name {
                manager: "ancient-changes".into(),
                applies: false,
                api_version: version.clone(),
                subresource: String::new(),
            };
            if self.owners.of(&bucket).is_none() {
                let fields = self.owners.of(&oldest).cloned().unwrap_or_default();
                self.owners.set(&oldest, FieldSet::default(), false);
                self.owners.set(&bucket, fields, false);
            }
            let mut all = self.owners.of(&name).cloned().unwrap_or_default();
            let time = self.notes.get(&name).and_then(|note| note.time.clone());
            all.extend(&self.owners.of(&bucket).cloned().unwrap_or_default());
            self.owners.set(&name, FieldSet::default(), false);
            self.owners.set(&bucket, all, false);
            self.notes.insert(bucket, Note { api_version: version, time });
            count -= 1;
        }
    }

    /// Writes them into an object.
    pub fn encode(&self, object: &mut Value) {
        let none = Note::default();
        let note = |name: &Name| self.notes.get(name).unwrap_or(&none);
        let mut list: Vec<&Owner<Name>> = self.owners.list.iter().collect();
        // appliers first, then by time, as Kubernetes sorts them
        list.sort_by_key(|owner| {
            let note = note(&owner.name);
            (!owner.applied, &note.time, &owner.name.manager, &note.api_version, &owner.name.subresource)
        });
        let entry = |owner: &&Owner<Name>| {
            let note = note(&owner.name);
            let mut entry = json!({
                "manager": owner.name.manager, "operation": if owner.applied { "Apply" } else { "Update" },
                "apiVersion": note.api_version,
            });
            if let Some(time) = &note.time {
                entry["time"] = time.as_str().into();
            }
            entry["fieldsType"] = "FieldsV1".into();
            entry["fieldsV1"] = owner.fields.encode();
            if !owner.name.subresource.is_empty() {
                entry["subresource"] = owner.name.subresource.as_str().into();
            }
            entry
        };
        let entries: Vec<Value> = list.iter().map(entry).collect();
        let metadata = meta::metadata_mut(object);
        if entries.is_empty() {
            metadata.shift_remove("managedFields");
        } else {
            metadata.insert("managedFields".into(), entries.into());
        }
    }
}
