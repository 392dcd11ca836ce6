//! What a compiled rule set looks like: rules as lists of steps over numbered slots.
//!
//! ```text
//! concerns contains flag if {            Walk  input.disks[0:bind] . mode  → 1
//!     input.disks[i].mode in modes       Walk  rule modes              → 2
//!     flag := {"id": …}                  Call  member_2(1, 2)          holds
//! }                                      Match {"id": …} → 3           key: 3
//! ```
//!
//! The steps of a body are in the order in which they can run: what each needs
//! is bound by those before it. A step that finds nothing fails the body.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::builtins::Builtin;
use super::places::{Layout, Places};
use super::value::Value;

/// A compiled rule set: every package of a set of files.
#[derive(Debug, Default)]
pub struct Program {
    pub rules: Vec<RuleSet>,
    /// Package, with dots, to its rules by name.
    pub packages: BTreeMap<String, HashMap<String, usize>>,
    pub files: Vec<Arc<str>>,
    /// Files from this index on are the user's.
    pub users: usize,
    /// Where the input is looked at.
    pub places: Places,
    /// What the rules of each package read of the input.
    pub layouts: BTreeMap<String, Layout>,
    /// What all rules read.
    pub layout: Layout,
}

impl Program {
    /// Returns the number of a rule.
    pub fn rule(&self, package: &str, name: &str) -> Option<usize> {
        self.packages.get(package)?.get(name).copied()
    }

    /// Returns what of the input the document at a path may need; the path without `data`.
    pub fn layout_of(&self, path: &[&str]) -> &Layout {
        let packages = (1..=path.len()).rev().map(|end| path[..end].join("."));
        packages.filter_map(|package| self.layouts.get(&package)).next().unwrap_or(&self.layout)
    }
}

/// All definitions of one name in one package.
#[derive(Debug)]
pub struct RuleSet {
    pub package: String,
    pub name: String,
    pub kind: Kind,
    pub default: Option<Value>,
    pub definitions: Vec<Definition>,
    /// Whether a failing definition of the user is left out instead of failing the whole.
    pub isolated: bool,
    /// Whether all definitions have the same constant value: one that holds says all.
    pub uniform: bool,
}

impl RuleSet {
    /// Returns the value of a rule that always has the same one.
    pub fn constant(&self) -> Option<&Value> {
        match (self.kind, self.definitions.as_slice()) {
            (Kind::Complete, [Definition { branches, .. }]) => match branches.first()? {
                BranchPlan { steps, value: Term::Const(value), .. } if steps.is_empty() => Some(value),
                _ => None,
            },
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Complete,
    Set,
    Object,
    Function(usize),
}

/// One definition: its place, its parameters, its branches (`else`).
#[derive(Debug)]
pub struct Definition {
    /// Index in [`Program::files`].
    pub file: u32,
    pub line: u32,
    /// Number of slots.
    pub slots: usize,
    pub parameters: Vec<Pattern>,
    pub branches: Vec<BranchPlan>,
}

#[derive(Debug)]
pub struct BranchPlan {
    pub line: u32,
    pub steps: Vec<Step>,
    /// The member of a set, the key of an object.
    pub key: Term,
    /// The value of anything but a set.
    pub value: Term,
    /// Whether one solution says all.
    pub once: bool,
}

#[derive(Debug)]
pub struct Step {
    pub line: u32,
    pub op: Op,
}

#[derive(Debug)]
pub enum Op {
    /// Follows a reference; unbound keys iterate.
    Walk {
        base: Base,
        path: Vec<Key>,
        out: Pattern,
    },
    Call {
        function: Function,
        arguments: Vec<Term>,
        out: Pattern,
    },
    Match {
        term: Term,
        out: Pattern,
    },
    /// A comprehension into a slot.
    Build {
        slot: usize,
        kind: Kind,
        key: Term,
        value: Term,
        body: Vec<Step>,
    },
    Not(Vec<Step>),
    Every {
        domain: Term,
        key: Option<usize>,
        value: usize,
        body: Vec<Step>,
    },
    /// `some key, value in collection`
    Each {
        collection: Term,
        key: Option<Pattern>,
        value: Pattern,
    },
    /// The relation `walk(term, out)`
    Descend {
        term: Term,
        out: Pattern,
    },
    /// Runs the body with other documents, then goes on with what it has bound.
    With {
        changes: Vec<(Target, New)>,
        body: Vec<Step>,
        bound: Vec<usize>,
    },
}

/// What `with` replaces.
#[derive(Clone, Debug)]
pub enum Target {
    Input(Vec<Value>),
    Rule(usize),
    Data(Vec<Value>),
    Function(Function),
}

/// What `with` puts in its place.
#[derive(Clone, Debug)]
pub enum New {
    Value(Term),
    /// Another function, for a function.
    Function(Function),
}

#[derive(Debug)]
pub enum Base {
    /// A place in the input.
    Place(usize),
    Slot(usize),
    Rule(usize),
    /// A document below `data` that no rule defines.
    Data,
}

#[derive(Debug)]
pub enum Key {
    Const(Value),
    Term(Term),
    Bind(usize),
    Pattern(Pattern),
}

#[derive(Clone, Debug)]
pub enum Term {
    Const(Value),
    Slot(usize),
    Array(Vec<Term>),
    Set(Vec<Term>),
    Object(Vec<(Term, Term)>),
}

impl Term {
    /// Calls `each` for every slot of the term.
    pub fn slots(&self, each: &mut dyn FnMut(usize)) {
        match self {
            Term::Const(_) => {}
            Term::Slot(slot) => each(*slot),
            Term::Array(items) | Term::Set(items) => items.iter().for_each(|item| item.slots(each)),
            Term::Object(members) => members.iter().for_each(|(key, value)| {
                key.slots(each);
                value.slots(each);
            }),
        }
    }
}

/// What a value has to be, and what it binds.
#[derive(Clone, Debug)]
pub enum Pattern {
    /// Anything but `false`.
    Holds,
    Bind(usize),
    Equal(Term),
    Array(Vec<Pattern>),
    /// An object with exactly these keys.
    Object(Vec<(Term, Pattern)>),
}

#[derive(Clone, Copy, Debug)]
pub enum Function {
    Builtin(&'static Builtin),
    Rule(usize),
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Function::Builtin(a), Function::Builtin(b)) => a.name == b.name,
            (Function::Rule(a), Function::Rule(b)) => a == b,
            _ => false,
        }
    }
}
