//! The rules in use: compiled once, shared by all threads, replaced as a whole when users change theirs.
//!
//! An evaluation works on the program that was current when it began. Nothing is
//! locked while rules run, so bulk evaluations scale with the cores.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};

use crate::compiled::{Compiled, compile, version};
use crate::question::Question;
use crate::rego::limits::{Limits, Stop};
use crate::rego::value::Value;
use crate::user_rules::{self, RuleError, RuleFile};
use crate::{BUNDLED, PACKAGE, package_of};

/// One finding of a rule about a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Concern {
    /// The rule's stable id; empty for users' rules that give none.
    #[serde(default)]
    pub id: String,
    /// The short text.
    #[serde(default)]
    pub label: String,
    /// `Critical`, `Warning` or `Information`.
    #[serde(default)]
    pub category: String,
    /// What it means and what can be done.
    #[serde(default)]
    pub assessment: String,
}

/// Why a workload could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// The rules themselves failed.
    #[error("cannot evaluate the rules of package {package}")]
    Rules {
        /// The package.
        package: String,
        /// Where and why.
        #[source]
        source: QueryError,
    },
    /// The rules refused the input.
    #[error("the rules of package {package} refuse the input: {errors}")]
    Input {
        /// The package.
        package: String,
        /// What the rules said.
        errors: String,
    },
}

/// An evaluation that was stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {stop}")]
pub struct QueryError {
    /// The rule's file.
    pub file: String,
    /// The line of the statement.
    pub line: u32,
    /// Why.
    pub stop: Stop,
}

impl QueryError {
    pub(crate) fn internal(message: &str) -> Self {
        Self { file: "rules".to_owned(), line: 0, stop: Stop::Refused(message.to_owned()) }
    }
}

/// The compiled rules of all providers. Cloning shares them.
#[derive(Clone)]
pub struct Validator {
    current: Arc<RwLock<Arc<Compiled>>>,
    limits: Limits,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let compiled = self.compiled();
        f.debug_struct("Validator")
            .field("packages", &compiled.program.packages.keys())
            .field("errors", &compiled.errors)
            .finish()
    }
}

impl Default for Validator {
    fn default() -> Self {
        Self::new()
    }
}

impl Validator {
    /// Returns a validator with the bundled rules only.
    pub fn new() -> Self {
        Self::with_files(&[])
    }

    /// Returns a validator with the bundled rules and those in a folder.
    ///
    /// Files that cannot be used are left out; [`Self::rule_errors`] names them.
    pub fn with_user_rules(folder: &Path) -> Self {
        let (files, errors) = user_rules::read(folder);
        let validator = Self::with_files(&files);
        validator.compiled_with(|compiled| drop(compiled.errors.splice(0..0, errors)));
        validator
    }

    /// Returns a validator with the bundled rules and these.
    pub fn with_files(files: &[RuleFile]) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(compile(files, false)))), limits: Limits::default() }
    }

    /// Returns a validator that shares these rules and bounds each of the users' otherwise.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Replaces the users' rules, for all clones; returns the files that were left out.
    ///
    /// What is being evaluated ends with the rules it began with.
    pub fn replace(&self, files: &[RuleFile]) -> Vec<RuleError> {
        let compiled = compile(files, false);
        let errors = compiled.errors.clone();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(compiled);
        errors
    }

    pub(crate) fn compiled(&self) -> Arc<Compiled> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn compiled_with<T>(&self, change: impl FnOnce(&mut Compiled) -> T) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = Arc::get_mut(&mut current) {
            change(compiled);
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// Returns a validator with these files: those of a package that has its own `RULES_VERSION` there take the place
    /// of the bundled ones, the others add to them.
    pub fn with_own(files: &[RuleFile]) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(compile(files, true)))), limits: Limits::default() }
    }

    /// Whether rules of users are in use.
    pub fn has_user_rules(&self) -> bool {
        self.compiled().base.is_some()
    }

    /// Returns the files in use, the bundled ones first.
    pub fn files(&self) -> Vec<RuleFile> {
        let compiled = self.compiled();
        let used = |(name, _): &&(&str, &str)| compiled.program.files.iter().any(|file| **file == **name);
        let bundled = BUNDLED.iter().filter(used).map(|(name, text)| RuleFile::new(*name, *text));
        bundled.chain(compiled.files.iter().cloned()).collect()
    }

    /// Returns the rule files that were left out, and the rules that failed while they were evaluated.
    pub fn rule_errors(&self) -> Vec<RuleError> {
        let compiled = self.compiled();
        let mut errors = compiled.errors.clone();
        let struck = compiled.struck.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = struck.values().map(|(_, failure)| RuleError {
            file: failure.file.to_string(),
            line: failure.line as usize,
            message: failure.stop.to_string(),
        });
        errors.extend(failed);
        errors.sort_by(|a, b| (&a.file, a.line, &a.message).cmp(&(&b.file, b.line, &b.message)));
        errors.dedup();
        errors
    }

    /// Returns the version of a provider's rules; 0 when there are none.
    ///
    /// With rules of users it is another number for every other set of theirs.
    pub fn rules_version(&self, provider_type: &str) -> i64 {
        let compiled = self.compiled();
        version(&compiled.program, package_of(provider_type)).unwrap_or(0)
    }

    /// Evaluates a provider's rules on one VM; sorted by id, then label.
    ///
    /// A provider without rules has no concerns.
    pub fn concerns(&self, provider_type: &str, workload: &serde_json::Value) -> Result<Vec<Concern>, EvaluationError> {
        let package = package_of(provider_type);
        let question = self.question(&validate_path(package));
        // a value is always a document
        let input = question.reader().deserialize(workload).ok();
        concerns_in(package, question.answer(input.as_ref()))
    }

    /// The same for a workload that was read as the rules see it.
    pub fn concerns_of(&self, provider_type: &str, workload: Value) -> Result<Vec<Concern>, EvaluationError> {
        let package = package_of(provider_type);
        concerns_in(package, self.value(&validate_path(package), Some(workload)))
    }

    /// Returns the document at a path such as `io.konveyor.forklift.ova.validate`, with dots or slashes; `None` when undefined.
    pub fn query(
        &self,
        path: &str,
        input: Option<&serde_json::Value>,
    ) -> Result<Option<serde_json::Value>, Box<dyn std::error::Error + Send + Sync>> {
        let question = self.question(&path.replace('.', "/"));
        let input = input.map(|input| question.reader().deserialize(input)).transpose()?;
        let value = question.answer(input.as_ref())?;
        Ok(value.map(|value| serde_json::to_value(&value)).transpose()?)
    }

    /// The same in the values of the rules; the path with slashes.
    pub fn value(&self, path: &str, input: Option<Value>) -> Result<Option<Value>, QueryError> {
        let question = self.question(path);
        let input = input.map(|input| question.document(&input));
        question.answer(input.as_ref())
    }

    /// Asks for the document at a path with slashes.
    pub(crate) fn question(&self, path: &str) -> Question {
        Question::new(self.compiled(), path, self.limits)
    }
}

/// The path of a package's answer, with slashes.
pub(crate) fn validate_path(package: &str) -> String {
    format!("{}/{package}/validate", PACKAGE.replace('.', "/"))
}

fn concerns_in(package: &str, answer: Result<Option<Value>, QueryError>) -> Result<Vec<Concern>, EvaluationError> {
    let answer = answer.map_err(|source| EvaluationError::Rules { package: package.to_owned(), source })?;
    let Some(result) = answer else {
        return Ok(Vec::new());
    };
    let list = |name: &str| match result.field(name) {
        Some(Value::Set(items) | Value::Array(items)) => items.to_vec(),
        _ => Vec::new(),
    };
    let refused = list("errors");
    if !refused.is_empty() {
        let errors: Vec<&str> = refused.iter().filter_map(Value::as_str).collect();
        return Err(EvaluationError::Input { package: package.to_owned(), errors: errors.join("; ") });
    }
    let mut concerns: Vec<Concern> = list("concerns").iter().map(concern).collect();
    concerns.sort();
    Ok(concerns)
}

pub(crate) fn concern(value: &Value) -> Concern {
    let text = |name: &str| match value.field(name) {
        None => Some(String::new()),
        Some(Value::String(text)) => Some(text.to_string()),
        Some(_) => None,
    };
    let read = || {
        let Value::Object(_) = value else { return None };
        Some(Concern {
            id: text("id")?,
            label: text("label")?,
            category: text("category")?,
            assessment: text("assessment")?,
        })
    };
    // a user's rule may put anything into the set: it is shown rather than lost
    read().unwrap_or_else(|| Concern {
        category: "Warning".to_owned(),
        label: "A rule gave a malformed concern".to_owned(),
        assessment: serde_json::to_string(value).unwrap_or_default(),
        ..Concern::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_vm_as_the_inventory_shows_it_gets_its_concerns() {
        let vm = json!({
            "selfLink": "providers/ova/uid/workloads/1", "id": "1", "name": "My_VM", "exportSource": "VirtualBox",
            "cpuHotAddEnabled": true, "cpuAffinity": [], "concerns": [],
            "disks": [{"FilePath": "/ova/a.ova", "Capacity": 0}],
        });
        let found = Validator::new().concerns("ova", &vm).expect("the rules hold");
        let lines: Vec<String> = found.iter().map(|c| format!("{} {}: {}\n", c.category, c.id, c.label)).collect();
        expect![[r#"
            Warning ova.cpu_memory.hotplug.enabled: CPU/Memory hotplug detected
            Critical ova.disk.capacity.invalid: Disk '/ova/a.ova' has an invalid capacity of 0 bytes
            Warning ova.name.invalid: Invalid VM Name
            Warning ova.source.unsupported: Unsupported OVA source
        "#]]
        .assert_eq(&lines.concat());
    }

    #[test]
    fn an_input_without_name_is_refused() {
        let error = Validator::new().concerns("ova", &json!({})).expect_err("there is no name");
        assert_eq!(error.to_string(), "the rules of package ova refuse the input: No VM name found in input body");
    }

    #[test]
    fn a_provider_without_rules_has_no_concerns() {
        assert_eq!(Validator::new().concerns("nutanix", &json!({"name": "x"})).expect("nothing to fail"), []);
        assert_eq!(Validator::new().rules_version("nutanix"), 0);
        assert_eq!(Validator::new().concerns("openshift", &json!({"name": "x"})).expect("nothing to fail"), []);
        assert_eq!(Validator::new().rules_version("openshift"), 1);
        assert_eq!(Validator::new().rules_version("ova"), 5);
    }

    #[test]
    fn packages_and_parts_of_values_are_documents_too() {
        let validator = Validator::new();
        let query = |path: &str| validator.query(path, Some(&json!({"name": "x"}))).expect("the rules hold");
        assert_eq!(query("io.konveyor.forklift.ova.validate.rules_version"), Some(json!(5)));
        let package = query("io/konveyor/forklift/openshift").expect("the package");
        assert_eq!((&package["RULES_VERSION"], &package["concerns"]), (&json!(1), &json!([])));
        assert_eq!(query("io.konveyor.forklift.openshift.nothing"), None);
        let all = query("io.konveyor").expect("there are packages");
        assert_eq!(all["forklift"]["ova"]["rules_version"], json!({"rules_version": 5}));
    }

    #[test]
    fn rules_are_replaced_for_all_clones_and_change_the_version() {
        let validator = Validator::new();
        let clone = validator.clone();
        let text = "package io.konveyor.forklift.ova\nimport rego.v1\nconcerns contains {\"id\": \"site\"} if true\n";
        assert_eq!(validator.replace(&[RuleFile::new("a.rego", text)]), []);
        let ids = |v: &Validator| -> Vec<String> {
            let vm = json!({"name": "vm", "exportSource": "VMware"});
            v.concerns("ova", &vm).expect("the rules hold").into_iter().map(|c| c.id).collect()
        };
        assert_eq!(ids(&clone), ["site"]);
        let first = clone.rules_version("ova");
        assert_eq!(first % 1000, 5, "the bundled version stays readable in {first}");
        assert_ne!(first, 5);
        assert_eq!(clone.rules_version("vsphere"), 5, "rules of another provider are as they were");
        validator.replace(&[RuleFile::new("a.rego", &format!("{text}# changed\n"))]);
        assert_ne!(clone.rules_version("ova"), first);
        validator.replace(&[]);
        assert_eq!((ids(&clone), clone.rules_version("ova")), (vec![], 5));
    }
}
