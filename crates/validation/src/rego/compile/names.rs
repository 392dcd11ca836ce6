//! What names stand for: variables, rules, imports, functions.

use super::symbols::{Lowered, Lowering, Meaning, SymBase, fail, names, text, variables};
use crate::rego::ast::{Expr, ExprKind, Literal, Statement};
use crate::rego::builtins;
use crate::rego::plan::{Function, Kind, Term};
use crate::rego::value::Value;

impl Lowering<'_> {
    pub(super) fn slot(&mut self, name: Option<&str>) -> usize {
        self.slots.push(name.map(str::to_owned));
        self.slots.len() - 1
    }

    pub(super) fn declare(&mut self, name: &str) {
        if name == "_" {
            return;
        }
        let slot = self.slot(Some(name));
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.entry(name.to_owned()).or_insert(slot);
        }
    }

    /// Gives the names that a body declares, and those it only uses, their slots.
    pub(super) fn declare_all(&mut self, body: &[Statement], heads: &[&Expr]) {
        let mut declared = Vec::new();
        for statement in body {
            match &statement.literal {
                Literal::Some(names) => declared.extend(names.iter().cloned()),
                Literal::SomeIn { key, value, .. } => {
                    key.iter().for_each(|key| variables(key, &mut declared));
                    variables(value, &mut declared);
                }
                Literal::Expr(Expr { kind: ExprKind::Assign(left, _), .. }) => variables(left, &mut declared),
                _ => {}
            }
        }
        declared.iter().for_each(|name| self.declare(name));
        let mut used = Vec::new();
        for statement in body {
            match &statement.literal {
                Literal::Expr(expr) | Literal::Not(expr) => names(expr, &mut used),
                Literal::SomeIn { collection: expr, .. } | Literal::Every { domain: expr, .. } => {
                    names(expr, &mut used)
                }
                Literal::Some(_) => {}
            }
            statement.with.iter().for_each(|(_, value)| names(value, &mut used));
        }
        heads.iter().for_each(|head| names(head, &mut used));
        for name in used {
            let known = self.scopes.iter().any(|scope| scope.names.contains_key(&name));
            if !known && !self.is_global(&name) {
                self.declare(&name);
            }
        }
    }

    pub(super) fn is_global(&self, name: &str) -> bool {
        matches!(name, "input" | "data")
            || self.module.imports.iter().any(|import| import.alias == name)
            || self.program.rule(self.package, name).is_some()
    }

    pub(super) fn meaning(&mut self, name: &str, line: u32) -> Lowered<Meaning> {
        if name == "_" {
            return Ok(Meaning::Slot(self.slot(Some("_"))));
        }
        let found = self.scopes.iter().enumerate().rev().find_map(|(at, s)| s.names.get(name).map(|slot| (at, *slot)));
        if let Some((at, slot)) = found {
            for scope in self.scopes.iter_mut().skip(at + 1) {
                scope.captured.insert(slot);
            }
            return Ok(Meaning::Slot(slot));
        }
        if name == "input" {
            return Ok(Meaning::Base(SymBase::Input, Vec::new()));
        }
        if name == "data" {
            return Ok(Meaning::Base(SymBase::Data, Vec::new()));
        }
        if let Some(import) = self.module.imports.iter().find(|import| import.alias == name) {
            let path: Vec<Term> = import.path.iter().skip(1).map(|part| text(part)).collect();
            return Ok(match import.path.first().map(String::as_str) {
                Some("input") => Meaning::Base(SymBase::Input, path),
                _ => Meaning::Base(SymBase::Data, path),
            });
        }
        match self.program.rule(self.package, name) {
            Some(rule) => Ok(Meaning::Base(SymBase::Rule(rule), Vec::new())),
            None => fail(line, format!("var {name} is unsafe: nothing gives it a value")),
        }
    }

    /// Finds the rule that a path below `data` begins with.
    pub(super) fn resolve(&self, base: SymBase, path: Vec<Term>, line: u32) -> Lowered<(SymBase, Vec<Term>)> {
        if !matches!(base, SymBase::Data) {
            return Ok((base, path));
        }
        let mut package = String::new();
        for (at, part) in path.iter().enumerate() {
            let Term::Const(Value::String(name)) = part else { break };
            if let Some(rule) = self.program.rule(&package, name) {
                return Ok((SymBase::Rule(rule), path[at + 1..].to_vec()));
            }
            if !package.is_empty() {
                package.push('.');
            }
            package.push_str(name);
        }
        let inside = |known: &String| known == &package || known.starts_with(&format!("{package}."));
        if package.is_empty()
            || self.program.packages.keys().any(inside) && !self.program.packages.contains_key(&package)
        {
            return fail(line, "a reference to several packages at once is not supported: name the package and rule");
        }
        Ok((SymBase::Data, path))
    }

    /// Finds a function; the flag says that the last argument is its result.
    pub(super) fn function(&self, name: &[String], arguments: &[Term], line: u32) -> Lowered<(Function, bool)> {
        let dotted = name.join(".");
        let (function, arity) = match self.function_named(name) {
            Named::Function(function, arity) => (function, arity),
            Named::Rule => return fail(line, format!("`{dotted}` is a rule, not a function")),
            Named::Nothing => return fail(line, format!("unknown function {dotted}")),
        };
        let count = arguments.len();
        if count != arity && count != arity + 1 {
            return fail(line, format!("`{dotted}` takes {arity} arguments, not {count}"));
        }
        self.fitting(function, arguments, line)?;
        Ok((function, count > arity))
    }

    /// Finds what a dotted name that is called stands for.
    pub(super) fn function_named(&self, name: &[String]) -> Named {
        let rule = match name {
            [single] => self.program.rule(self.package, single).or_else(|| {
                // an imported function
                let import = self.module.imports.iter().find(|import| import.alias == *single)?;
                let (last, path) = import.path.split_last()?;
                self.program.rule(&path.get(1..)?.join("."), last)
            }),
            [head, middle @ .., last] if head == "data" => self.program.rule(&middle.join("."), last),
            [head, middle @ .., last] => {
                self.module.imports.iter().find(|import| import.alias == *head).and_then(|i| {
                    let path: Vec<&str> = i.path.iter().skip(1).chain(middle).map(String::as_str).collect();
                    self.program.rule(&path.join("."), last)
                })
            }
            [] => None,
        };
        if let Some(rule) = rule {
            return match self.program.rules[rule].kind {
                Kind::Function(arity) => Named::Function(Function::Rule(rule), arity),
                _ => Named::Rule,
            };
        }
        match builtins::find(&name.join(".")) {
            Some(builtin) => Named::Function(Function::Builtin(builtin), builtin.arity),
            None => Named::Nothing,
        }
    }
}

/// What a name that is called stands for.
pub(super) enum Named {
    /// A function, with the number of its arguments.
    Function(Function, usize),
    Rule,
    Nothing,
}
