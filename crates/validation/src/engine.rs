//! The rule engines, one per provider package.
//!
//! An engine is prepared once (parsed, analysed) and kept in a small pool, as
//! regorus evaluates with `&mut self`. Evaluation is bounded in time, so that a
//! user's rule cannot stop the inventory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use regorus::{Engine, Value};
use serde::{Deserialize, Serialize};

use crate::user_rules::{self, RuleError};
use crate::{BUNDLED, PACKAGE, hoist, package_of};

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
        /// The engine's message.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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

#[derive(Default)]
struct Pool {
    prototype: Mutex<Engine>,
    idle: Mutex<Vec<Engine>>,
}

impl Pool {
    fn with<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut engine = idle.unwrap_or_else(|| self.prototype.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let result = work(&mut engine);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(engine);
        result
    }
}

/// The compiled rules of all providers. Cloning shares them.
#[derive(Clone)]
pub struct Validator {
    packages: Arc<BTreeMap<String, Pool>>,
    errors: Arc<Vec<RuleError>>,
}

impl std::fmt::Debug for Validator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Validator").field("packages", &self.packages.keys()).field("errors", &self.errors).finish()
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
        Self::build(&[])
    }

    /// Returns a validator with the bundled rules and those in a folder.
    ///
    /// Files that cannot be used are left out; [`Self::rule_errors`] names them.
    pub fn with_user_rules(folder: &Path) -> Self {
        let (files, mut errors) = user_rules::read(folder);
        let mut validator = Self::build(&files);
        errors.extend(validator.errors.iter().cloned());
        validator.errors = Arc::new(errors);
        validator
    }

    fn build(user: &[user_rules::RuleFile]) -> Self {
        let mut engines: BTreeMap<String, Engine> = BTreeMap::new();
        let mut errors = Vec::new();
        for (name, text) in BUNDLED.iter().filter(|(name, _)| !name.ends_with("_test.rego")) {
            let package = package_of_path(name);
            let engine = engines.entry(package.to_owned()).or_insert_with(new_engine);
            if let Err(error) = engine.add_policy((*name).to_owned(), hoist::rewrite(text)) {
                errors.push(RuleError::from_engine(name, &error.to_string()));
            }
        }
        for file in user {
            match user_rules::package(&file.text) {
                Some(package) => {
                    let engine = engines.entry(package.to_owned()).or_insert_with(new_engine);
                    match user_rules::try_add(engine, package, file) {
                        Ok(with_file) => *engine = with_file,
                        Err(error) => errors.push(error),
                    }
                }
                None => errors.push(RuleError {
                    file: file.name.clone(),
                    line: user_rules::package_line(&file.text),
                    message: format!("the package is not one of {PACKAGE}.<provider>"),
                }),
            }
        }
        let packages = engines
            .into_iter()
            .map(|(name, engine)| (name, Pool { prototype: Mutex::new(engine), idle: Mutex::default() }))
            .collect();
        Self { packages: Arc::new(packages), errors: Arc::new(errors) }
    }

    /// Returns the rule files that were left out, and why.
    pub fn rule_errors(&self) -> &[RuleError] {
        &self.errors
    }

    /// Returns the version of a provider's rules; 0 when there are none.
    pub fn rules_version(&self, provider_type: &str) -> i64 {
        let package = package_of(provider_type);
        let document = self.query(&format!("{PACKAGE}.{package}.RULES_VERSION"), None);
        document.ok().flatten().and_then(|v| v.as_i64()).unwrap_or(0)
    }

    /// Evaluates a provider's rules on one VM; sorted by id, then label.
    ///
    /// A provider without rules has no concerns.
    pub fn concerns(&self, provider_type: &str, workload: &serde_json::Value) -> Result<Vec<Concern>, EvaluationError> {
        let package = package_of(provider_type);
        let result = self
            .query(&format!("{PACKAGE}.{package}.validate"), Some(workload))
            .map_err(|source| EvaluationError::Rules { package: package.to_owned(), source })?;
        let Some(result) = result else {
            return Ok(Vec::new());
        };
        let refused: Vec<&str> =
            result["errors"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
        if !refused.is_empty() {
            return Err(EvaluationError::Input { package: package.to_owned(), errors: refused.join("; ") });
        }
        let mut concerns: Vec<Concern> = result["concerns"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|value| serde_json::from_value(value.clone()).unwrap_or_else(|_| malformed(value)))
            .collect();
        concerns.sort();
        Ok(concerns)
    }

    /// Returns the document at a path such as `io.konveyor.forklift.ova.validate`; `None` when undefined.
    pub fn query(
        &self,
        path: &str,
        input: Option<&serde_json::Value>,
    ) -> Result<Option<serde_json::Value>, Box<dyn std::error::Error + Send + Sync>> {
        let parts: Vec<&str> = path.split('.').filter(|p| !p.is_empty()).collect();
        let known = parts.iter().all(|p| p.chars().all(|c| c.is_alphanumeric() || c == '_'));
        let prefix: Vec<&str> = PACKAGE.split('.').collect();
        let (true, Some(package)) = (known && parts.starts_with(&prefix), parts.get(prefix.len())) else {
            return Ok(None);
        };
        let Some(pool) = self.packages.get(*package) else {
            return Ok(None);
        };
        let input = input.map_or(Ok(Value::Undefined), to_value)?;
        pool.with(|engine| {
            engine.set_input(input);
            let results = engine.eval_query(format!("data.{}", parts.join(".")), false)?;
            let value =
                results.result.into_iter().next().and_then(|r| r.expressions.into_iter().next()).map(|e| e.value);
            match value {
                None | Some(Value::Undefined) => Ok(None),
                Some(value) => Ok(Some(serde_json::to_value(&value)?)),
            }
        })
    }
}

/// A user's rule may put anything into the set: it is shown rather than lost.
fn malformed(value: &serde_json::Value) -> Concern {
    Concern {
        category: "Warning".to_owned(),
        label: "A rule gave a malformed concern".to_owned(),
        assessment: value.to_string(),
        ..Concern::default()
    }
}

fn to_value(json: &serde_json::Value) -> Result<Value, serde_json::Error> {
    serde_json::from_value(json.clone())
}

fn package_of_path(name: &str) -> &str {
    name.rsplit('/').nth(1).unwrap_or_default()
}

pub(crate) fn new_engine() -> Engine {
    let mut engine = Engine::new();
    // a wrong argument makes the expression undefined, as in OPA, not the whole answer an error
    engine.set_strict_builtin_errors(false);
    // one VM takes about a millisecond; this is for users' rules that do not end
    engine.set_execution_timer_config(regorus::utils::limits::ExecutionTimerConfig {
        limit: std::time::Duration::from_secs(5),
        check_interval: std::num::NonZeroU32::new(1024).unwrap_or(std::num::NonZeroU32::MIN),
    });
    engine
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
}
