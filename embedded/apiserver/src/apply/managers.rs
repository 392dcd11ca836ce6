//! `metadata.managedFields`: who manages which fields.

use serde_json::{Value, json};

use super::set::FieldSet;
use crate::meta;
use crate::request::Context;

/// One entry.
#[derive(Clone, Debug)]
pub struct Manager {
    /// Name.
    pub name: String,
    /// Apply or Update.
    pub operation: String,
    /// Version of the object it wrote.
    pub api_version: String,
    /// When.
    pub time: String,
    /// Path it used, such as `status`.
    pub subresource: String,
    /// Its fields.
    pub fields: FieldSet,
}

impl Manager {
    fn new(context: &Context, name: &str, operation: &str) -> Self {
        Self {
            name: name.to_string(),
            operation: operation.to_string(),
            api_version: context.resource.api_version(),
            time: meta::now(),
            subresource: context.target.subresource.clone(),
            fields: FieldSet::default(),
        }
    }

    /// The maker of this request, as updater.
    pub fn update(context: &Context) -> Self {
        Self::new(context, &context.manager, "Update")
    }

    /// The maker of this request, as applier.
    pub fn apply(context: &Context) -> Self {
        Self::new(context, &context.manager, "Apply")
    }

    /// The owner of what was there before the first apply.
    pub fn before_first_apply(context: &Context) -> Self {
        Self { subresource: String::new(), ..Self::new(context, "before-first-apply", "Update") }
    }

    /// Whether both are one manager: appliers by name and path, updaters by version too.
    pub fn same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == "Apply" || self.api_version == other.api_version)
    }

    /// As conflicts name it.
    pub fn show(&self) -> String {
        let mut text = format!("\"{}\"", self.name);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource \"{}\"", self.subresource);
        }
        if self.operation == "Update" {
            text += &format!(" using {}", self.api_version);
            if !self.time.is_empty() {
                text += &format!(" at {}", self.time);
            }
        }
        text
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub struct Managers {
    /// The entries.
    pub list: Vec<Manager>,
}

impl Managers {
    /// Reads them from an object.
    pub fn decode(object: &Value) -> Self {
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let entry = |e: &Value| {
            let text = |field: &str| e.get(field).and_then(Value::as_str).unwrap_or_default().to_string();
            Manager {
                name: text("manager"),
                operation: text("operation"),
                api_version: text("apiVersion"),
                time: text("time"),
                subresource: text("subresource"),
                fields: FieldSet::decode(e.get("fieldsV1").unwrap_or(&Value::Null)),
            }
        };
        Self { list: entries.into_iter().flatten().filter(|e| e.get("fieldsV1").is_some()).map(entry).collect() }
    }

    /// Adds fields to a manager.
    pub fn add(&mut self, manager: Manager, fields: &FieldSet) {
        match self.list.iter_mut().find(|m| m.same(&manager)) {
            Some(known) => {
                let all = known.fields.union(fields);
                if all != known.fields {
                    known.fields = all;
                }
                known.time = manager.time;
            }
            None => self.list.push(Manager { fields: fields.clone(), ..manager }),
        }
    }

    /// Sets a manager's fields; its time changes only when they do.
    pub fn set(&mut self, manager: Manager, fields: FieldSet) {
        match self.list.iter_mut().find(|m| m.same(&manager)) {
            Some(known) => {
                if known.fields != fields || known.api_version != manager.api_version {
                    *known = Manager { fields, ..manager };
                }
            }
            None => self.list.push(Manager { fields, ..manager }),
        }
    }

    /// Puts the oldest updaters together when there are more than `most`.
    pub fn cap(&mut self, most: usize) {
        loop {
            let mut updaters: Vec<usize> =
                (0..self.list.len()).filter(|i| self.list[*i].operation == "Update").collect();
            if updaters.len() <= most {
                return;
            }
            updaters.sort_by(|a, b| self.list[*a].time.cmp(&self.list[*b].time));
            let (first, second) = (updaters[0].min(updaters[1]), updaters[0].max(updaters[1]));
            let newer = self.list.remove(second);
            let older = self.list.remove(first);
            self.list.push(Manager {
                name: "ancient-changes".into(),
                fields: older.fields.union(&newer.fields),
                time: newer.time.clone(),
                ..older
            });
        }
    }

    /// Writes them into an object.
    pub fn encode(&self, object: &mut Value) {
        let mut list: Vec<&Manager> = self.list.iter().filter(|m| !m.fields.is_empty()).collect();
        // appliers first, then by time, as Kubernetes sorts them
        list.sort_by(|a, b| (&a.operation, &a.time, &a.name).cmp(&(&b.operation, &b.time, &b.name)));
        let entry = |m: &&Manager| {
            let mut entry = json!({
                "manager": m.name, "operation": m.operation, "apiVersion": m.api_version, "time": m.time,
                "fieldsType": "FieldsV1", "fieldsV1": m.fields.encode(),
            });
            if !m.subresource.is_empty() {
                entry["subresource"] = m.subresource.clone().into();
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
