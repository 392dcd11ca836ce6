//! Rules that users bring: a folder of `.rego` files, usually a mounted ConfigMap.
//!
//! The guide shows Rego of the older dialect (`concerns[flag] { … }`), OPA's
//! present default is the newer one: each file is tried as the newer, then as
//! the older. A file is taken only when the package still evaluates with it.

use std::path::Path;

use regorus::Engine;

use crate::{PACKAGE, hoist};

/// A rule file that was left out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct RuleError {
    /// The file's name in the folder.
    pub file: String,
    /// The line, 1 when it is not known.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl RuleError {
    /// Reads the place and the message out of the engine's report.
    pub(crate) fn from_engine(file: &str, report: &str) -> Self {
        let line = report
            .split("-->")
            .nth(1)
            .and_then(|rest| rest.lines().next())
            .and_then(|place| place.trim().strip_prefix(file))
            .and_then(|place| place.trim_start_matches(':').split(':').next())
            .and_then(|line| line.trim().parse().ok())
            .unwrap_or(1);
        let message = report
            .lines()
            .map(str::trim)
            .find_map(|l| l.strip_prefix("error:"))
            .map_or_else(|| report.lines().last().unwrap_or("cannot be read").trim(), str::trim);
        Self { file: file.to_owned(), line, message: message.to_owned() }
    }
}

pub(crate) struct RuleFile {
    pub name: String,
    pub text: String,
}

/// Reads the folder's files, ordered by name. A missing folder is an empty one.
pub(crate) fn read(folder: &Path) -> (Vec<RuleFile>, Vec<RuleError>) {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    let mut paths: Vec<_> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => return (files, errors),
    };
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        // a mounted ConfigMap keeps its versions in folders that begin with two dots
        if name.starts_with("..") || !name.ends_with(".rego") || name.ends_with("_test.rego") {
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push(RuleFile { name, text }),
            Err(error) => errors.push(RuleError { file: name, line: 1, message: format!("cannot be read: {error}") }),
        }
    }
    (files, errors)
}

/// Returns the provider part of the file's package, when it is one of ours.
pub(crate) fn package(text: &str) -> Option<&str> {
    let line = text.lines().find(|l| l.trim_start().starts_with("package "))?;
    let name = line.trim().strip_prefix("package ")?.split('#').next()?.trim();
    let provider = name.strip_prefix(PACKAGE)?.strip_prefix('.')?;
    (!provider.is_empty() && provider.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(provider)
}

pub(crate) fn package_line(text: &str) -> usize {
    text.lines().position(|l| l.trim_start().starts_with("package ")).map_or(1, |i| i + 1)
}

/// Returns the engine with the file added, or why that cannot be.
pub(crate) fn try_add(engine: &Engine, package: &str, file: &RuleFile) -> Result<Engine, RuleError> {
    let mut with_file = engine.clone();
    if let Err(newer) = with_file.add_policy(file.name.clone(), hoist::rewrite(&file.text)) {
        with_file = engine.clone();
        with_file.set_rego_v0(true);
        let older = with_file.add_policy(file.name.clone(), file.text.clone());
        with_file.set_rego_v0(false);
        if older.is_err() {
            return Err(RuleError::from_engine(&file.name, &newer.to_string()));
        }
    }
    // unknown names and conflicting definitions show only when evaluated, and
    // regorus tells them for the rule that is asked for, not for its package
    let mut probe = with_file.clone();
    probe.set_input(regorus::Value::new_object());
    for rule in ["concerns", "validate"] {
        if let Err(error) = probe.eval_query(format!("data.{PACKAGE}.{package}.{rule}"), false) {
            return Err(RuleError::from_engine(&file.name, &error.to_string()));
        }
    }
    Ok(with_file)
}

#[cfg(test)]
mod tests {
    use crate::Validator;
    use expect_test::expect;
    use serde_json::json;

    fn validator(files: &[(&str, &str)]) -> Validator {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("writable");
        }
        Validator::with_user_rules(folder.path())
    }

    fn ids(validator: &Validator) -> Vec<String> {
        let vm = json!({"name": "vm", "exportSource": "VMware", "nics": [{}, {}]});
        let found = validator.concerns("ova", &vm).expect("the rules hold");
        found.into_iter().map(|c| if c.id.is_empty() { c.label } else { c.id }).collect()
    }

    #[test]
    fn both_dialects_are_taken() {
        let validator = validator(&[
            (
                "new.rego",
                "package io.konveyor.forklift.ova\nimport rego.v1\nconcerns contains flag if {\n\tcount(input.nics) > 1\n\tflag := {\"id\": \"site.nics\", \"category\": \"Warning\", \"label\": \"l\", \"assessment\": \"a\"}\n}\n",
            ),
            (
                "old.rego",
                "package io.konveyor.forklift.ova\nmany_nics { count(input.nics) > 1 }\nconcerns[flag] {\n\tmany_nics\n\tflag := {\"category\": \"Information\", \"label\": \"without id\", \"assessment\": \"a\"}\n}\n",
            ),
        ]);
        assert_eq!(validator.rule_errors(), []);
        assert_eq!(ids(&validator), ["without id", "site.nics"]);
    }

    #[test]
    fn a_bad_file_is_named_and_the_others_hold() {
        let validator = validator(&[
            (
                "a.rego",
                "package io.konveyor.forklift.ova\nimport rego.v1\n\nconcerns contains flag if {\n\tflag := {\n}\n",
            ),
            ("b.rego", "package somewhere.else\n\np := 1\n"),
            (
                "c.rego",
                "package io.konveyor.forklift.ova\nimport rego.v1\nconcerns contains {\"id\": \"site.all\"} if true\n",
            ),
            (
                "d.rego",
                "package io.konveyor.forklift.ova\nimport rego.v1\nconcerns contains x if {\n\tx := nobody_knows\n}\n",
            ),
        ]);
        let errors: Vec<String> = validator.rule_errors().iter().map(|e| format!("{e}\n")).collect();
        expect![[r#"
            a.rego:7: expecting `}` while parsing query
            b.rego:1: the package is not one of io.konveyor.forklift.<provider>
            d.rego:4: var nobody_knows is unsafe (path ["io", "konveyor", "forklift", "ova", "nobody_knows"], scopes [{}])
        "#]].assert_eq(&errors.concat());
        assert_eq!(ids(&validator), ["site.all"]);
    }
}
