//! An expression, parsed once and evaluated for many items.

use std::collections::BTreeSet;

use crate::eval::{Mode, evaluate};
use crate::parse::parse;
use crate::path::{Item, Path};
use crate::pattern::Pattern;
use crate::value::Value;
use crate::{EvalError, SyntaxError};

/// An expression of the language.
#[derive(Clone, Debug)]
pub struct Expression {
    pub(crate) root: Node,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub kind: NodeKind,
    /// Characters from the beginning.
    pub position: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum NodeKind {
    Literal(Value),
    Name(Path, String),
    List(Vec<Node>),
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    /// A match against a pattern that does not depend on the item.
    Matches {
        negated: bool,
        value: Box<Node>,
        pattern: Pattern,
    },
    Between(Box<Node>, Box<Node>, Box<Node>),
    IsNull(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Not,
    Minus,
    Len,
    Any,
    All,
    Sum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Regex,
    NotRegex,
    Like,
    Ilike,
    In,
    And,
    Or,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Expression {
    /// Parses an expression.
    ///
    /// # Errors
    /// What is not in the language, with its place.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        parse(text).map(|root| Self { root }).map_err(|error| error.within(text, 0))
    }

    /// Returns the expression's value for an item, as a user means it.
    ///
    /// Beyond the original: `and` and `or` need not look at their right side when
    /// the left decides; `len`, `sum`, `any` and `all` of nothing are 0 and false;
    /// dates fit into `between` and `in`.
    ///
    /// # Errors
    /// Values that do not fit their operators.
    pub fn evaluate(&self, item: &dyn Item) -> Result<Value, EvalError> {
        evaluate(&self.root, item, Mode::Lenient)
    }

    /// Returns the value exactly as the original has it.
    ///
    /// # Errors
    /// Where the original has no value.
    pub fn evaluate_strictly(&self, item: &dyn Item) -> Result<Value, EvalError> {
        evaluate(&self.root, item, Mode::Strict)
    }

    /// Returns the items' keys that it looks at.
    pub fn roots(&self) -> BTreeSet<&str> {
        let mut roots = BTreeSet::new();
        collect_roots(&self.root, &mut roots);
        roots
    }

    /// Returns the names in it, as they are written.
    pub fn names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        collect(&self.root, &mut |_, text| {
            names.insert(text);
        });
        names
    }
}

fn collect_roots<'a>(node: &'a Node, roots: &mut BTreeSet<&'a str>) {
    collect(node, &mut |path, _| {
        roots.insert(path.root());
    });
}

fn collect<'a>(node: &'a Node, found: &mut dyn FnMut(&'a Path, &'a str)) {
    match &node.kind {
        NodeKind::Literal(_) => {}
        NodeKind::Name(path, text) => found(path, text),
        NodeKind::List(nodes) => nodes.iter().for_each(|node| collect(node, found)),
        NodeKind::Unary(_, value) | NodeKind::IsNull(value) | NodeKind::Matches { value, .. } => collect(value, found),
        NodeKind::Binary(_, left, right) => {
            collect(left, found);
            collect(right, found);
        }
        NodeKind::Between(value, low, high) => {
            collect(value, found);
            collect(low, found);
            collect(high, found);
        }
    }
}
