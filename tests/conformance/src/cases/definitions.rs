//! What several chapters need of custom resource definitions: making one and waiting until it is served.

use anyhow::Result;
use serde_json::{Value, json};

use crate::case::Case;

/// Path of the definitions.
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition in a group of its own, made of the case's namespace.
pub struct Definition {
    /// The object.
    pub json: Value,
    /// API group.
    pub group: String,
}

impl Definition {
    /// `things` of a new group, namespaced, with one version `v1` whose `spec` has this schema.
    pub fn new(c: &Case, spec: Value) -> Self {
        let group = format!("{}.example.com", c.name("g"));
        let json = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("things.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
                }],
            },
        });
        Self { json, group }
    }

    /// The only version, to be changed.
    pub fn version(&mut self) -> &mut Value {
        &mut self.json["spec"]["versions"][0]
    }

    /// Takes further fields of the version.
    pub fn with(mut self, fields: Value) -> Self {
        for (name, value) in fields.as_object().cloned().unwrap_or_default() {
            self.version()[name] = value;
        }
        self
    }

    /// Path of the definition.
    pub fn path(&self) -> String {
        format!("{DEFINITIONS}/things.{}", self.group)
    }

    /// Path of the objects, `rest` below.
    pub fn things(&self, c: &Case, rest: &str) -> String {
        let path = c.group(&format!("{}/v1", self.group), "things");
        if rest.is_empty() { path } else { format!("{path}/{rest}") }
    }

    /// An object `a` with this spec.
    pub fn thing(&self, spec: Value) -> Value {
        self.named("a", spec)
    }

    /// An object with this name and spec.
    pub fn named(&self, name: &str, spec: Value) -> Value {
        json!({"apiVersion": format!("{}/v1", self.group), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
    }

    /// Makes the definition and waits until its objects are served.
    pub async fn serve(self, c: &Case) -> Result<Self> {
        c.make(DEFINITIONS, &self.json).await?;
        self.served(c).await?;
        Ok(self)
    }

    /// Waits until the definition is established and its objects are served.
    pub async fn served(&self, c: &Case) -> Result<()> {
        c.until(&self.path(), "the definition is established", |a| condition(&a.json, "Established") == "True").await?;
        c.until(&self.things(c, ""), "the objects are served", |a| a.status == 200).await?;
        Ok(())
    }
}

/// Status of a condition, empty when it is not there.
pub fn condition(object: &Value, kind: &str) -> String {
    let all = object.pointer("/status/conditions").and_then(Value::as_array);
    let found = all.into_iter().flatten().find(|c| c["type"] == kind);
    found.and_then(|c| c["status"].as_str()).unwrap_or_default().to_string()
}
