//! Server-side apply: who owns what, conflicts, taking fields back, lists by their keys, custom resources.

mod conflicts;
mod custom;
mod lists;
mod owners;
mod requests;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::case::{Case, Chapter};

/// The chapter.
pub fn chapter() -> Chapter {
    let parts = [owners::cases(), conflicts::cases(), lists::cases(), custom::cases(), requests::cases()];
    Chapter { name: "apply", cases: parts.into_iter().flatten().collect() }
}

/// Who manages the object, in the order of `managedFields`: `manager Apply`, `manager Update status`.
fn owners(answer: &Answer) -> Vec<String> {
    let entries = answer.at("/metadata/managedFields").as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_string();
    entries
        .iter()
        .map(|e| {
            format!("{} {} {}", text(e, "manager"), text(e, "operation"), text(e, "subresource")).trim().to_string()
        })
        .collect()
}

/// The fields of one entry, named as by [`owners`].
fn fields(answer: &Answer, owner: &str) -> Result<Value> {
    let at = owners(answer).iter().position(|o| o == owner);
    let at = at.with_context(|| format!("no entry {owner:?} among {:?}\n{}", owners(answer), answer.shown()))?;
    Ok(answer.at(&format!("/metadata/managedFields/{at}/fieldsV1")).clone())
}

/// Expects these owners and no others.
fn owned_by(answer: &Answer, wanted: &[&str]) -> Result<()> {
    let found = owners(answer);
    answer.holds(found == wanted, format_args!("managers {wanted:?} expected, got {found:?}")).map(|_| ())
}

/// Expects an entry to have exactly these fields.
fn owns(answer: &Answer, owner: &str, wanted: &Value) -> Result<()> {
    let found = fields(answer, owner)?;
    answer.holds(found == *wanted, format_args!("{owner}: {wanted} expected, got {found}")).map(|_| ())
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

/// Path of the config map `a`.
fn path(c: &Case) -> String {
    c.core("configmaps/a")
}

/// A deployment `a` with these containers.
fn deployment(containers: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {
            "metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers}}},
    })
}

/// A deployment `a` that only says something of these containers.
fn part(containers: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"template": {"spec": {"containers": containers}}},
    })
}
