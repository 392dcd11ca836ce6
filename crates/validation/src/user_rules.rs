//! Rules that users bring: a folder of `.rego` files, usually a mounted ConfigMap.
//!
//! The guide shows Rego of the older dialect (`concerns[flag] { … }`), OPA's
//! present default is the newer one: each file is tried as the newer, then as
//! the older. A file that cannot be used is left out and named.

use std::path::Path;

use crate::PACKAGE;
use crate::rego::ast::Module;
use crate::rego::parse;

/// A rule file that was left out, or a rule that failed.
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

/// A file of a user's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFile {
    /// Its name, as messages show it.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl RuleFile {
    /// Returns the file of this name and text.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }
}

/// The largest rule file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Reads the folder's rule files, tests left out, ordered by name. A missing folder is an empty one.
pub fn read(folder: &Path) -> (Vec<RuleFile>, Vec<RuleError>) {
    let mut files = Vec::new();
    let mut errors = Vec::new();
    let mut paths: Vec<_> = match std::fs::read_dir(folder) {
        Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
        Err(_) => return (files, errors),
    };
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !is_rule(&name) {
            continue;
        }
        let text = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.len() > LARGEST => Err(format!("is larger than {} KiB", LARGEST >> 10)),
            _ => std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}")),
        };
        match text {
            Ok(text) => files.push(RuleFile { name, text }),
            Err(message) => errors.push(RuleError { file: name, line: 1, message }),
        }
    }
    (files, errors)
}

/// Reads all `.rego` files below a folder, tests too, or one file; names are relative to it.
pub fn read_tree(path: &Path) -> std::io::Result<Vec<RuleFile>> {
    fn collect(root: &Path, path: &Path, files: &mut Vec<RuleFile>) -> std::io::Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(path)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::path);
        for entry in entries {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                collect(root, &path, files)?;
            } else if name.ends_with(".rego") {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                files.push(RuleFile { name, text: std::fs::read_to_string(&path)? });
            }
        }
        Ok(())
    }
    if path.is_file() {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(vec![RuleFile { name, text: std::fs::read_to_string(path)? }]);
    }
    let mut files = Vec::new();
    collect(path, path, &mut files)?;
    Ok(files)
}

/// Whether a file or a key of a ConfigMap holds rules.
///
/// A mounted ConfigMap keeps its versions in folders that begin with two dots.
pub fn is_rule(name: &str) -> bool {
    name.ends_with(".rego") && !name.starts_with("..") && !name.ends_with("_test.rego")
}

/// Parses files whose packages are ours; the others are named.
pub(crate) fn parse(files: &[RuleFile]) -> (Vec<Module>, Vec<RuleError>) {
    let mut modules = Vec::new();
    let mut errors = Vec::new();
    for file in files {
        match parse::either(&file.name, &file.text) {
            Ok((module, _)) if is_ours(&module.package) => modules.push(module),
            Ok(_) => errors.push(RuleError {
                file: file.name.clone(),
                line: package_line(&file.text),
                message: format!("the package is not one of {PACKAGE}.<provider>"),
            }),
            Err(error) => {
                errors.push(RuleError { file: file.name.clone(), line: error.line as usize, message: error.message })
            }
        }
    }
    (modules, errors)
}

fn is_ours(package: &[String]) -> bool {
    let prefix: Vec<&str> = PACKAGE.split('.').collect();
    package.len() == prefix.len() + 1 && package.iter().zip(prefix).all(|(a, b)| a == b)
}

fn package_line(text: &str) -> usize {
    text.lines().position(|l| l.trim_start().starts_with("package ")).map_or(1, |i| i + 1)
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
            ("e.rego", "package io.konveyor.forklift.ova\n\nRULES_VERSION := 6\n"),
            ("f.rego", "package io.konveyor.forklift.ova\n\ndefault valid_vm_name := true\n"),
        ]);
        let errors: Vec<String> = validator.rule_errors().iter().map(|e| format!("{e}\n")).collect();
        expect![[r#"
            a.rego:7: expected `}`, found the end of the file
            b.rego:1: the package is not one of io.konveyor.forklift.<provider>
            d.rego:4: var nobody_knows is unsafe: nothing gives it a value
            e.rego:3: complete rules must not produce multiple outputs: `RULES_VERSION` is 5 and 6
            f.rego:3: `valid_vm_name` has another default value already
        "#]]
        .assert_eq(&errors.concat());
        assert_eq!(ids(&validator), ["site.all"]);
    }
}
