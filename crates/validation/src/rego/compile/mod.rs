//! From syntax trees to plans, by the rules of OPA's compiler.
//!
//! Three of its rewrites decide what a rule means and are done the same way here:
//!
//! - nested calls, and references that are arguments of calls, become statements of
//!   their own **before** the one they stand in. Hence `not f(input.x)` is undefined
//!   when `input.x` is, although `not input.x` and `not input.x == 1` hold then;
//! - `a == b` is unification, `!=`, `<`, `in` … are calls;
//! - the statements of a body are put into an order in which each finds its
//!   variables bound; when there is none, a variable is "unsafe".

mod cycles;
mod definition;
mod names;
mod order;
mod statements;
mod symbols;
mod terms;
mod types;

use std::sync::Arc;

use super::SyntaxError;
use super::ast::{Module, RuleKind};
use super::places::Layout;
use super::plan::{Definition, Kind, Program, RuleSet, Term};
use super::value::Value;
use symbols::Lowering;

/// An error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    pub file: Arc<str>,
    pub line: u32,
    pub message: String,
}

/// Compiles modules into a program; the first error ends it.
///
/// Files from index `users` on are the user's.
pub fn program(modules: &[Module], users: usize) -> Result<Program, CompileError> {
    let mut program = Program { users, ..Program::default() };
    for module in modules {
        declare(&mut program, module)?;
    }
    let mut definitions: Vec<(usize, Definition)> = Vec::new();
    for (file, module) in modules.iter().enumerate() {
        let package = module.package.join(".");
        for rule in &module.rules {
            let at = |error: SyntaxError| CompileError {
                file: module.file.clone(),
                line: error.line,
                message: error.message,
            };
            let Some(index) = program.rule(&package, &rule.name) else { continue };
            let mut lowering = Lowering::new(&program, module, &package);
            match &rule.kind {
                RuleKind::Default { value, .. } => {
                    let value = lowering.constant(value).map_err(at)?;
                    if program.rules[index].default.as_ref().is_some_and(|other| *other != value) {
                        return Err(at(SyntaxError {
                            line: rule.line,
                            message: format!("`{}` has another default value already", rule.name),
                        }));
                    }
                    program.rules[index].default = Some(value);
                }
                _ => {
                    let mut definition = lowering.definition(rule).map_err(at)?;
                    definition.file = file as u32;
                    definitions.push((index, definition));
                }
            }
        }
    }
    for (index, mut definition) in definitions {
        // files come in their order, so places of the first ones have the same numbers whatever follows
        program.places.settle(&mut definition);
        program.rules[index].definitions.push(definition);
    }
    cycles::acyclic(&program)?;
    for set in &mut program.rules {
        set.uniform = is_uniform(set);
    }
    program.layout = Layout::of(&program, 0..program.rules.len());
    let packages = program.packages.iter();
    program.layouts =
        packages.map(|(package, rules)| (package.clone(), Layout::of(&program, rules.values().copied()))).collect();
    Ok(program)
}

/// Whether whatever holds gives the same value.
fn is_uniform(set: &RuleSet) -> bool {
    let mut values =
        set.definitions.iter().flat_map(|definition| &definition.branches).map(|branch| match &branch.value {
            Term::Const(value) => Some(value),
            _ => None,
        });
    let Some(Some(first)): Option<Option<&Value>> = values.next() else { return false };
    matches!(set.kind, Kind::Complete | Kind::Function(_)) && values.all(|value| value == Some(first))
}

/// Enters the names of a module's rules, with their kinds.
fn declare(program: &mut Program, module: &Module) -> Result<(), CompileError> {
    program.files.push(module.file.clone());
    let package = module.package.join(".");
    for rule in &module.rules {
        let kind = match &rule.kind {
            RuleKind::Default { args: Some(count), .. } => Kind::Function(*count),
            RuleKind::Default { args: None, .. } | RuleKind::Complete { .. } => Kind::Complete,
            RuleKind::Set { .. } => Kind::Set,
            RuleKind::Object { .. } => Kind::Object,
            RuleKind::Function { args, .. } => Kind::Function(args.len()),
        };
        let names = program.packages.entry(package.clone()).or_default();
        match names.get(&rule.name) {
            Some(index) if program.rules[*index].kind != kind => {
                return Err(CompileError {
                    file: module.file.clone(),
                    line: rule.line,
                    message: format!("`{}` is defined as something else already (conflicting rules)", rule.name),
                });
            }
            Some(_) => {}
            None => {
                names.insert(rule.name.clone(), program.rules.len());
                program.rules.push(RuleSet {
                    package: package.clone(),
                    name: rule.name.clone(),
                    kind,
                    default: None,
                    definitions: Vec::new(),
                    uniform: false,
                    isolated: rule.name == "concerns" && kind == Kind::Set,
                });
            }
        }
    }
    Ok(())
}
