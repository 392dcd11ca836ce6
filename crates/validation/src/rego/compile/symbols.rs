//! Statements between the syntax tree and the plan: lowered, not yet in order.

use std::collections::{BTreeSet, HashMap};

use crate::rego::SyntaxError;
use crate::rego::ast::{Expr, ExprKind, Module};
use crate::rego::plan::{Function, Kind, New, Pattern, Program, Target, Term};
use crate::rego::value::Value;

/// A statement before it is put in order.
#[derive(Debug)]
pub(super) struct Sym {
    pub line: u32,
    pub op: SymOp,
}

#[derive(Debug)]
pub(super) enum SymOp {
    Walk { base: SymBase, path: Vec<Term>, out: Option<Term> },
    Call { function: Function, arguments: Vec<Term>, out: Option<Term> },
    Holds(Term),
    Unify(Term, Term),
    Build { slot: usize, kind: Kind, key: Term, value: Term, body: Vec<Sym>, captured: BTreeSet<usize> },
    Not(Vec<Sym>),
    Every { domain: Term, key: Option<usize>, value: usize, body: Vec<Sym>, captured: BTreeSet<usize> },
    Each { collection: Term, key: Option<Term>, value: Term },
    Descend { term: Term, out: Term },
    With { changes: Vec<(Target, New)>, body: Vec<Sym> },
}

#[derive(Clone, Debug)]
pub(super) enum SymBase {
    Input,
    Slot(usize),
    Rule(usize),
    Data,
}

#[derive(Default)]
pub(super) struct Scope {
    pub names: HashMap<String, usize>,
    /// Slots of outer scopes that are used inside.
    pub captured: BTreeSet<usize>,
}

/// What a name stands for.
pub(super) enum Meaning {
    Slot(usize),
    Base(SymBase, Vec<Term>),
}

pub(super) struct Lowering<'a> {
    pub program: &'a Program,
    pub module: &'a Module,
    pub package: &'a str,
    pub scopes: Vec<Scope>,
    /// For each slot the name it has in the rule; `None` for results of nested calls.
    pub slots: Vec<Option<String>>,
    /// What the results of calls can be, by their slots.
    pub results: HashMap<usize, u8>,
}

pub(super) type Lowered<T> = Result<T, SyntaxError>;

pub(super) fn fail<T>(line: u32, message: impl Into<String>) -> Lowered<T> {
    Err(SyntaxError { line, message: message.into() })
}

pub(super) fn text(part: &str) -> Term {
    Term::Const(Value::string(part))
}

/// Turns a term into a pattern that binds what is not bound; `None` for sets with unbound members.
pub(super) fn pattern(term: &Term, bound: &mut BTreeSet<usize>) -> Option<Pattern> {
    let mut free = false;
    term.slots(&mut |slot| free |= !bound.contains(&slot));
    if !free {
        return Some(Pattern::Equal(term.clone()));
    }
    match term {
        Term::Slot(slot) => {
            bound.insert(*slot);
            Some(Pattern::Bind(*slot))
        }
        Term::Array(items) => items.iter().map(|item| pattern(item, bound)).collect::<Option<_>>().map(Pattern::Array),
        Term::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let mut free = false;
                key.slots(&mut |slot| free |= !bound.contains(&slot));
                if free { None } else { Some((key.clone(), pattern(value, bound)?)) }
            })
            .collect::<Option<_>>()
            .map(Pattern::Object),
        Term::Set(_) | Term::Const(_) => None,
    }
}

/// Makes a composite of constants a constant.
pub(super) fn folded(term: Term) -> Term {
    let constant = |term: &Term| match term {
        Term::Const(value) => Some(value.clone()),
        _ => None,
    };
    match &term {
        Term::Array(items) => items.iter().map(constant).collect::<Option<_>>().map(Value::array),
        Term::Set(items) => items.iter().map(constant).collect::<Option<_>>().map(Value::set),
        Term::Object(members) => members
            .iter()
            .map(|(key, value)| Some((constant(key)?, constant(value)?)))
            .collect::<Option<_>>()
            .map(Value::object),
        _ => None,
    }
    .map_or(term, Term::Const)
}

/// The variables of a pattern.
pub(super) fn variables(expr: &Expr, out: &mut Vec<String>) {
    match &expr.kind {
        ExprKind::Var(name) => out.push(name.clone()),
        ExprKind::Array(items) | ExprKind::Set(items) => items.iter().for_each(|item| variables(item, out)),
        ExprKind::Object(members) => members.iter().for_each(|(_, value)| variables(value, out)),
        _ => {}
    }
}

/// The names used in an expression, those inside comprehensions left out.
pub(super) fn names(expr: &Expr, out: &mut Vec<String>) {
    match &expr.kind {
        ExprKind::Const(_) | ExprKind::ArrayCompr(..) | ExprKind::SetCompr(..) | ExprKind::ObjectCompr(..) => {}
        ExprKind::Var(name) => out.push(name.clone()),
        ExprKind::Ref(head, parts) => {
            names(head, out);
            parts.iter().for_each(|part| names(part, out));
        }
        ExprKind::Call(_, items) | ExprKind::Array(items) | ExprKind::Set(items) => {
            items.iter().for_each(|item| names(item, out));
        }
        ExprKind::Object(members) => members.iter().for_each(|(key, value)| {
            names(key, out);
            names(value, out);
        }),
        ExprKind::Assign(left, right) | ExprKind::Unify(left, right) => {
            names(left, out);
            names(right, out);
        }
    }
}
