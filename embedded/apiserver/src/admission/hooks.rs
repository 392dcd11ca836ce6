//! The webhooks that are configured, read and compiled once per version of their configuration.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::conditions::Condition;
use crate::meta;
use crate::schema::strings;
use crate::storage::Store;

/// One rule of what a webhook sees.
#[derive(Debug)]
pub struct Rule {
    /// Groups, `*` for all.
    pub groups: Vec<String>,
    /// Versions, `*` for all.
    pub versions: Vec<String>,
    /// Resources: `pods`, `pods/status`, `*`, `*/*`, `pods/*`, `*/scale`.
    pub resources: Vec<String>,
    /// Operations, `*` for all.
    pub operations: Vec<String>,
    /// `Namespaced`, `Cluster` or `*`.
    pub scope: String,
    /// Names; empty for all. Only policies have them.
    pub names: Vec<String>,
}

impl Rule {
    /// Reads a rule.
    pub fn read(json: &Value) -> Self {
        let list = |field: &str| strings(json.get(field));
        Self {
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources"),
            operations: list("operations"),
            scope: Some(meta::text(json, "/scope")).filter(|s| !s.is_empty()).unwrap_or("*").to_string(),
            names: list("resourceNames"),
        }
    }
}

/// What is looked at.
#[derive(Debug, Default)]
pub struct Match {
    /// Any of these.
    pub rules: Vec<Rule>,
    /// None of these.
    pub except: Vec<Rule>,
    /// Whether other versions of the resource count.
    pub equivalent: bool,
    /// Selects namespaces.
    pub namespaces: Value,
    /// Selects objects.
    pub objects: Value,
}

impl Match {
    /// Reads selectors and rules; the rules are in `rules` or `resourceRules`.
    pub fn read(json: &Value) -> Self {
        let rules =
            |field: &str| json.get(field).and_then(Value::as_array).into_iter().flatten().map(Rule::read).collect();
        let own: Vec<Rule> = rules("rules");
        Self {
            rules: if own.is_empty() { rules("resourceRules") } else { own },
            except: rules("excludeResourceRules"),
            equivalent: meta::text(json, "/matchPolicy") != "Exact",
            namespaces: json.get("namespaceSelector").cloned().unwrap_or_default(),
            objects: json.get("objectSelector").cloned().unwrap_or_default(),
        }
    }
}

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    /// Its name.
    pub name: String,
    /// What it sees.
    pub when: Match,
    /// Further conditions.
    pub conditions: Vec<Condition>,
    /// Where it is.
    pub client: Value,
    /// How long it may take.
    pub timeout: Duration,
    /// Whether a failure to call it lets the request through.
    pub ignore_failure: bool,
    /// Whether it may be called in a dry run.
    pub dry_run: bool,
    /// Whether it is called again when others changed the object after it.
    pub reinvoke: bool,
}

impl Hook {
    fn read(json: &Value) -> Self {
        let text = |field: &str| meta::text(json, &format!("/{field}"));
        let seconds = json.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(10);
        let conditions = json.get("matchConditions").and_then(Value::as_array).into_iter().flatten();
        Self {
            name: text("name").into(),
            when: Match::read(json),
            conditions: conditions.map(Condition::read).collect(),
            client: json.get("clientConfig").cloned().unwrap_or_default(),
            timeout: Duration::from_secs(seconds),
            ignore_failure: text("failurePolicy") == "Ignore",
            dry_run: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoke: text("reinvocationPolicy") == "IfNeeded",
        }
    }
}

/// Things read from stored objects, kept for as long as the object is the same.
pub struct Kept<T> {
    known: Mutex<HashMap<String, (u64, Arc<T>)>>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { known: Mutex::default() }
    }
}

impl<T> Kept<T> {
    /// What `read` makes of each object of the resource, in the order of their names.
    pub fn all(&self, store: &Store, resource: &str, read: impl Fn(&Value) -> T) -> Vec<Arc<T>> {
        let (objects, _) = store.list(resource, None);
        if objects.is_empty() {
            return Vec::new();
        }
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.retain(|name, _| objects.iter().any(|o| o.key.name == *name));
        let mut found = Vec::with_capacity(objects.len());
        for object in objects {
            let fresh = known.get(&object.key.name).filter(|(revision, _)| *revision == object.revision);
            let value = match fresh {
                Some((_, value)) => value.clone(),
                None => {
                    let value = Arc::new(read(&object.value()));
                    known.insert(object.key.name.clone(), (object.revision, value.clone()));
                    value
                }
            };
            found.push(value);
        }
        found
    }
}

/// All webhooks of one kind.
#[derive(Default)]
pub struct Hooks {
    kept: Kept<Vec<Hook>>,
}

impl Hooks {
    /// The webhooks in the configurations stored under `resource`, by the configurations' names.
    pub fn all(&self, store: &Store, resource: &str) -> Vec<Arc<Vec<Hook>>> {
        self.kept.all(store, resource, |configuration| {
            let hooks = configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten();
            hooks.map(Hook::read).collect()
        })
    }
}
