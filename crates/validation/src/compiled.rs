//! One state of the rules: the bundled ones and a user's files, compiled together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::engine::QueryError;
use crate::rego::ast::Module;
use crate::rego::document::Document;
use crate::rego::eval::{Evaluator, Failure};
use crate::rego::limits::{Limits, Stop};
use crate::rego::parse::{self, Dialect};
use crate::rego::plan::{Program, Term};
use crate::rego::value::Value;
use crate::user_rules::{self, RuleError, RuleFile};
use crate::{BUNDLED, PACKAGE};

/// How often a user's rule may exceed its limits before it is set aside until the rules change.
const STRIKES: u32 = 3;

/// One state of the rules.
pub(crate) struct Compiled {
    pub program: Arc<Program>,
    /// The user's files in use.
    pub files: Vec<RuleFile>,
    /// The bundled rules alone, when there are others.
    pub base: Option<Arc<Program>>,
    pub errors: Vec<RuleError>,
    /// Failures of users' rules while they were evaluated, by definition.
    pub struck: Mutex<HashMap<(usize, usize), (u32, Failure)>>,
}

impl Compiled {
    /// Refuses a definition that has exceeded its limits too often.
    pub fn admit(&self, definition: (usize, usize)) -> Option<Stop> {
        let struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        if struck.is_empty() {
            return None;
        }
        let (count, failure) = struck.get(&definition)?;
        (*count >= STRIKES)
            .then(|| Stop::Refused(format!("{}, {count} times: it is set aside until the rules change", failure.stop)))
    }

    pub fn strike(&self, failures: &[Failure]) {
        for failure in failures {
            let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = struck.entry(failure.definition).or_insert_with(|| (0, failure.clone()));
            if matches!(failure.stop, Stop::Time(_) | Stop::Memory(_) | Stop::Depth) {
                entry.0 += 1;
            }
        }
    }

    pub fn note(&self, error: &QueryError) {
        let failure = Failure {
            definition: (usize::MAX, error.line as usize),
            file: Arc::from(error.file.as_str()),
            line: error.line,
            stop: error.stop.clone(),
        };
        self.strike(&[failure]);
    }
}

/// Returns the version of a package's rules.
pub(crate) fn version(program: &Program, package: &str) -> Option<i64> {
    let rule = program.rule(&format!("{PACKAGE}.{package}"), "RULES_VERSION")?;
    let value = Evaluator::new(program, &program.layout, &Document::absent(), Limits::default()).rule(rule).ok()??;
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
pub(crate) fn compile(files: &[RuleFile], own: bool) -> Compiled {
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
    // a document is read once for both programs
    let program = program.filter(|program| program.places.begin_with(&base.places));
    debug_assert!(program.is_some() || users.is_empty(), "places of the bundled rules have other numbers");
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
            let document = Document::of(&program.layout, &Value::object(Vec::new()));
            let mut evaluator = Evaluator::new(program, &program.layout, &document, Limits::default());
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
