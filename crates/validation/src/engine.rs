//! The rules in use: compiled once, shared by all threads, replaced as a whole when users change theirs.
//!
//! An evaluation works on the program that was current when it began. Nothing is
//! locked while rules run, so bulk evaluations scale with the cores.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::rego::ast::Module;
use crate::rego::eval::{Evaluator, Failure};
use crate::rego::limits::{Limits, Stop};
use crate::rego::parse::{self, Dialect};
use crate::rego::plan::{Kind, Program};
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

/// How often a user's rule may exceed its limits before it is set aside until the rules change.
const STRIKES: u32 = 3;

/// One state of the rules.
pub(crate) struct Compiled {
    pub program: Arc<Program>,
    /// The user's files in use.
    files: Vec<RuleFile>,
    /// The bundled rules alone, when there are others.
    base: Option<Arc<Program>>,
    errors: Vec<RuleError>,
    /// Failures of users' rules while they were evaluated, by definition.
    struck: Mutex<HashMap<(usize, usize), (u32, Failure)>>,
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
        self.concerns_of(provider_type, Value::from(workload))
    }

    /// The same for a workload that was read as the rules see it.
    pub fn concerns_of(&self, provider_type: &str, workload: Value) -> Result<Vec<Concern>, EvaluationError> {
        let package = package_of(provider_type);
        let result = self
            .value(&[PACKAGE.replace('.', "/"), package.to_owned(), "validate".to_owned()].join("/"), Some(workload))
            .map_err(|source| EvaluationError::Rules { package: package.to_owned(), source })?;
        let Some(result) = result else {
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

    /// Returns the document at a path such as `io.konveyor.forklift.ova.validate`, with dots or slashes; `None` when undefined.
    pub fn query(
        &self,
        path: &str,
        input: Option<&serde_json::Value>,
    ) -> Result<Option<serde_json::Value>, Box<dyn std::error::Error + Send + Sync>> {
        let path = path.replace('.', "/");
        let value = self.value(&path, input.map(Value::from))?;
        Ok(value.map(|value| serde_json::to_value(&value)).transpose()?)
    }

    /// The same in the values of the rules; the path with slashes.
    pub fn value(&self, path: &str, input: Option<Value>) -> Result<Option<Value>, QueryError> {
        let compiled = self.compiled();
        let admission = |definition| compiled.admit(definition);
        let mut evaluator = Evaluator::new(&compiled.program, input.clone(), self.limits)
            .guarded(compiled.base.as_deref(), Some(&admission));
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let result = document(&compiled.program, &mut evaluator, &parts);
        compiled.strike(evaluator.failures());
        let stop = match result {
            Ok(value) => return Ok(value),
            Err(stop) => stop,
        };
        let (file, line) = evaluator.place().unwrap_or_else(|| (Arc::from("rules"), 0));
        let error = QueryError { file: file.to_string(), line, stop };
        // a definition of the user's broke a bundled rule: that is answered as if it were not there
        if let Some(base) = &compiled.base {
            let mut alone = Evaluator::new(base, input, self.limits);
            if let Ok(Some(value)) = document(base, &mut alone, &parts) {
                compiled.note(&error);
                return Ok(Some(value));
            }
        }
        Err(error)
    }
}

impl Compiled {
    /// Refuses a definition that has exceeded its limits too often.
    fn admit(&self, definition: (usize, usize)) -> Option<Stop> {
        let struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        if struck.is_empty() {
            return None;
        }
        let (count, failure) = struck.get(&definition)?;
        (*count >= STRIKES)
            .then(|| Stop::Refused(format!("{}, {count} times: it is set aside until the rules change", failure.stop)))
    }

    fn strike(&self, failures: &[Failure]) {
        for failure in failures {
            let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = struck.entry(failure.definition).or_insert_with(|| (0, failure.clone()));
            if matches!(failure.stop, Stop::Time(_) | Stop::Memory(_) | Stop::Depth) {
                entry.0 += 1;
            }
        }
    }

    fn note(&self, error: &QueryError) {
        let failure = Failure {
            definition: (usize::MAX, error.line as usize),
            file: Arc::from(error.file.as_str()),
            line: error.line,
            stop: error.stop.clone(),
        };
        self.strike(&[failure]);
    }
}

/// Evaluates what a path names: a rule or a part of its value, a package, or several packages.
fn document<'p>(program: &'p Program, evaluator: &mut Evaluator<'p>, path: &[&str]) -> Result<Option<Value>, Stop> {
    for split in (0..path.len()).rev() {
        let package = path[..split].join(".");
        let Some(rule) = program.rule(&package, path[split]) else { continue };
        if matches!(program.rules[rule].kind, Kind::Function(_)) {
            return Ok(None);
        }
        let Some(value) = evaluator.rule(rule)? else { return Ok(None) };
        return Ok(below(&value, &path[split + 1..]));
    }
    let name = path.join(".");
    let mut tree = BTreeMap::new();
    for (package, rules) in &program.packages {
        let rest = match package.strip_prefix(&name) {
            Some(rest) if name.is_empty() || rest.is_empty() || rest.starts_with('.') => rest.trim_start_matches('.'),
            _ => continue,
        };
        let mut members = Vec::new();
        for (name, rule) in rules {
            if matches!(program.rules[*rule].kind, Kind::Function(_)) {
                continue;
            }
            if let Some(value) = evaluator.rule(*rule)? {
                members.push((Value::string(name.as_str()), value));
            }
        }
        tree.insert(rest.to_owned(), Value::object(members));
    }
    if tree.is_empty() {
        return Ok(if path.is_empty() { Some(Value::object(Vec::new())) } else { None });
    }
    Ok(Some(nested(tree)))
}

fn below(value: &Value, path: &[&str]) -> Option<Value> {
    let Some((first, rest)) = path.split_first() else { return Some(value.clone()) };
    let next = match value {
        Value::Array(items) => items.get(first.parse::<usize>().ok()?)?,
        other => other.get(&Value::string(*first))?,
    };
    below(next, rest)
}

/// Puts packages, by the rest of their names, into one object.
fn nested(tree: BTreeMap<String, Value>) -> Value {
    let mut members: Vec<(Value, Value)> = Vec::new();
    let mut inner: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for (path, value) in tree {
        match path.split_once('.') {
            _ if path.is_empty() => {
                if let Value::Object(own) = value {
                    members.extend(own.iter().cloned());
                }
            }
            Some((first, rest)) => drop(inner.entry(first.to_owned()).or_default().insert(rest.to_owned(), value)),
            None => drop(inner.entry(path).or_default().insert(String::new(), value)),
        }
    }
    members.extend(inner.into_iter().map(|(name, tree)| (Value::string(name), nested(tree))));
    Value::object(members)
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

fn version(program: &Program, package: &str) -> Option<i64> {
    let rule = program.rule(&format!("{PACKAGE}.{package}"), "RULES_VERSION")?;
    let value = Evaluator::new(program, None, Limits::default()).rule(rule).ok()??;
    match value {
        Value::Number(number) => number.integer().and_then(|version| i64::try_from(version).ok()),
        _ => None,
    }
}

/// The bundled rules: parsed and compiled once in a process.
fn bundled() -> &'static (Vec<Module>, Arc<Program>) {
    static RULES: OnceLock<(Vec<Module>, Arc<Program>)> = OnceLock::new();
    RULES.get_or_init(|| {
        let files = BUNDLED.iter().filter(|(name, _)| !name.ends_with("_test.rego"));
        let modules = files.filter_map(|(name, text)| match parse::module(name, text, Dialect::V1) {
            Ok(module) => Some(module),
            Err(error) => {
                debug_assert!(false, "{name}:{}: {}", error.line, error.message);
                None
            }
        });
        let modules: Vec<Module> = modules.collect();
        let program = crate::rego::compile::program(&modules, modules.len());
        debug_assert!(program.is_ok(), "{:?}", program.err());
        (modules, Arc::new(program.unwrap_or_default()))
    })
}

/// Compiles the bundled rules with a user's files; those that cannot be used are left out and named.
///
/// With `own`, packages whose version the files define replace the bundled ones.
fn compile(files: &[RuleFile], own: bool) -> Compiled {
    let (modules, base) = bundled();
    let (mut users, mut errors) = user_rules::parse(files);
    let defines_version = |module: &&Module| module.rules.iter().any(|rule| rule.name == "RULES_VERSION");
    let replaced: Vec<Vec<String>> = match own {
        true => users.iter().filter(defines_version).map(|module| module.package.clone()).collect(),
        false => Vec::new(),
    };
    let kept: Vec<Module> = modules.iter().filter(|module| !replaced.contains(&module.package)).cloned().collect();
    let (modules, base) = match replaced.is_empty() {
        true => (modules, base.clone()),
        false => (&kept, Arc::new(crate::rego::compile::program(&kept, kept.len()).unwrap_or_default())),
    };
    let mut program = None;
    while !users.is_empty() {
        let all: Vec<Module> = modules.iter().cloned().chain(users.iter().cloned()).collect();
        let error = match crate::rego::compile::program(&all, modules.len()) {
            Ok(compiled) => match probe(&compiled, &users) {
                Ok(()) => {
                    program = Some(compiled);
                    break;
                }
                Err(error) => error,
            },
            Err(error) => RuleError { file: error.file.to_string(), line: error.line as usize, message: error.message },
        };
        // an error that shows in a bundled file comes of a user's, the last one if nothing tells which
        let culprit = users.iter().position(|module| *module.file == *error.file).unwrap_or(users.len() - 1);
        let module = users.remove(culprit);
        errors.push(match *module.file == *error.file {
            true => error,
            false => {
                // the rule of theirs that the message is about
                let about = module.rules.iter().find(|rule| error.message.contains(&format!("`{}`", rule.name)));
                let line = about.map_or(1, |rule| rule.line as usize);
                RuleError { file: module.file.to_string(), line, message: format!("it breaks {error}") }
            }
        });
    }
    errors.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    let Some(mut program) = program else {
        return Compiled { program: base, files: Vec::new(), base: None, errors, struck: Mutex::default() };
    };
    let added: Vec<Module> = users.iter().filter(|module| !replaced.contains(&module.package)).cloned().collect();
    renumber(&mut program, files, &added);
    let in_use = files.iter().filter(|file| users.iter().any(|module| *module.file == *file.name));
    Compiled {
        program: Arc::new(program),
        files: in_use.cloned().collect(),
        base: Some(base),
        errors,
        struck: Mutex::default(),
    }
}

/// Evaluates what a user's file could break for every VM: the rules of the answer.
fn probe(program: &Program, users: &[Module]) -> Result<(), RuleError> {
    for package in users.iter().map(|module| module.package.join(".")) {
        for name in ["rules_version", "validate"] {
            let Some(rule) = program.rule(&package, name) else { continue };
            let mut evaluator = Evaluator::new(program, Some(Value::object(Vec::new())), Limits::default());
            // only what the user's definitions conflict with: their own failures are left out one by one
            let Err(stop) = evaluator.rule(rule) else { continue };
            let (file, line) = evaluator.place().unwrap_or_else(|| (Arc::from(""), 1));
            return Err(RuleError { file: file.to_string(), line: line as usize, message: stop.to_string() });
        }
    }
    Ok(())
}

/// Gives packages with users' rules a version of their own, so that a change of these is seen.
fn renumber(program: &mut Program, files: &[RuleFile], users: &[Module]) {
    use crate::rego::plan::Term;
    for package in users.iter().map(|module| module.package.join(".")).collect::<std::collections::BTreeSet<_>>() {
        let used = |file: &&RuleFile| {
            users.iter().any(|module| *module.file == *file.name && module.package.join(".") == package)
        };
        // FNV-1a: stable from release to release, unlike the standard library's
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        for file in files.iter().filter(used) {
            for byte in file.name.bytes().chain([0]).chain(file.text.bytes()).chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        let Some(rule) = program.rule(&package, "RULES_VERSION") else { continue };
        for branch in program.rules[rule].definitions.iter_mut().flat_map(|d| &mut d.branches) {
            if let Term::Const(Value::Number(number)) = &branch.value {
                let own = number.integer().and_then(|own| i64::try_from(own).ok()).unwrap_or(0);
                branch.value = Term::Const(Value::int(own + 1000 * (1 + (hash % 1_000_000) as i64)));
            }
        }
    }
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
