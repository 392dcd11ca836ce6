//! Definitions of rules: their parameters, their branches, what they give.

use std::collections::{BTreeSet, HashMap};

use super::symbols::{Lowered, Lowering, Scope, fail, pattern, variables};
use crate::rego::SyntaxError;
use crate::rego::ast::{Branch, Expr, ExprKind, Module, Rule, RuleKind, Statement};
use crate::rego::plan::{BranchPlan, Definition, Program, Term};
use crate::rego::value::Value;

impl<'a> Lowering<'a> {
    pub(super) fn new(program: &'a Program, module: &'a Module, package: &'a str) -> Self {
        Self { program, module, package, scopes: vec![Scope::default()], slots: Vec::new(), results: HashMap::new() }
    }

    pub(super) fn constant(&mut self, expr: &Expr) -> Lowered<Value> {
        let mut before = Vec::new();
        match (self.argument(expr, &mut before)?, before.is_empty()) {
            (Term::Const(value), true) => Ok(value),
            _ => fail(expr.line, "a default value is a constant"),
        }
    }

    pub(super) fn definition(&mut self, rule: &Rule) -> Lowered<Definition> {
        let mut parameters = Vec::new();
        let mut bound = BTreeSet::new();
        let truth = Expr { line: rule.line, kind: ExprKind::Const(Value::Bool(true)) };
        let mut branches = Vec::new();
        match &rule.kind {
            RuleKind::Function { args, branches: bodies } => {
                for arg in args {
                    let mut names = Vec::new();
                    variables(arg, &mut names);
                    names.iter().for_each(|name| self.declare(name));
                }
                for arg in args {
                    let mut before = Vec::new();
                    let term = self.argument(arg, &mut before)?;
                    if !before.is_empty() {
                        return fail(arg.line, "a parameter is a name, a constant or a pattern of these");
                    }
                    let Some(pattern) = pattern(&term, &mut bound) else {
                        return fail(arg.line, "a parameter cannot be a set with names");
                    };
                    parameters.push(pattern);
                }
                for branch in bodies {
                    branches.push(self.branch(&truth, &branch.value, &branch.body, &bound, branch)?);
                }
            }
            RuleKind::Complete { branches: bodies } => {
                for branch in bodies {
                    branches.push(self.branch(&truth, &branch.value, &branch.body, &bound, branch)?);
                }
            }
            RuleKind::Set { key, body } => branches.push(self.body(key, &truth, body, &bound, rule.line)?),
            RuleKind::Object { key, value, body } => branches.push(self.body(key, value, body, &bound, rule.line)?),
            RuleKind::Default { .. } => {}
        }
        Ok(Definition { file: 0, line: rule.line, slots: self.slots.len(), parameters, branches })
    }

    pub(super) fn branch(
        &mut self,
        key: &Expr,
        value: &Expr,
        body: &[Statement],
        bound: &BTreeSet<usize>,
        branch: &Branch,
    ) -> Lowered<BranchPlan> {
        self.body(key, value, body, bound, branch.value.line)
    }

    pub(super) fn body(
        &mut self,
        key: &Expr,
        value: &Expr,
        body: &[Statement],
        bound: &BTreeSet<usize>,
        line: u32,
    ) -> Lowered<BranchPlan> {
        self.scopes.push(Scope::default());
        self.declare_all(body, &[key, value]);
        let mut symbols = Vec::new();
        for statement in body {
            self.statement(statement, &mut symbols)?;
        }
        let key_term = self.argument(key, &mut symbols)?;
        let value_term = self.argument(value, &mut symbols)?;
        self.scopes.pop();
        let mut bound = bound.clone();
        let steps = self.try_order(&symbols, &mut bound)?;
        for term in [&key_term, &value_term] {
            self.all_bound(term, &bound, line)?;
        }
        let once = matches!((&key_term, &value_term), (Term::Const(_), Term::Const(_)));
        Ok(BranchPlan { line, steps, key: key_term, value: value_term, once })
    }

    pub(super) fn all_bound(&self, term: &Term, bound: &BTreeSet<usize>, line: u32) -> Lowered<()> {
        let mut unbound = None;
        term.slots(&mut |slot| {
            if !bound.contains(&slot) {
                unbound = Some(slot);
            }
        });
        unbound.map_or(Ok(()), |slot| Err(self.unsafe_variable(slot, line)))
    }

    pub(super) fn unsafe_variable(&self, slot: usize, line: u32) -> SyntaxError {
        let name = self.slots.get(slot).and_then(Option::as_deref).unwrap_or("_");
        SyntaxError { line, message: format!("var {name} is unsafe: nothing gives it a value") }
    }
}
