//! The syntax tree of a module, as the parser leaves it.

use std::sync::Arc;

use super::value::Value;

/// One file.
#[derive(Clone, Debug)]
pub struct Module {
    /// The file's name, as messages show it.
    pub file: Arc<str>,
    /// The package's path, without `data`.
    pub package: Vec<String>,
    pub imports: Vec<Import>,
    pub rules: Vec<Rule>,
}

/// `import data.a.b as c`, or `import input.x`.
#[derive(Clone, Debug)]
pub struct Import {
    pub path: Vec<String>,
    pub alias: String,
}

/// One definition of a rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub line: u32,
    pub kind: RuleKind,
}

#[derive(Clone, Debug)]
pub enum RuleKind {
    /// `default name := value`, `default f(_) := value`
    Default { args: Option<usize>, value: Expr },
    /// `name := value if …`, with its `else` branches
    Complete { branches: Vec<Branch> },
    /// `name contains key if …`
    Set { key: Expr, body: Vec<Statement> },
    /// `name[key] := value if …`
    Object { key: Expr, value: Expr, body: Vec<Statement> },
    /// `name(args) := value if …`, with its `else` branches
    Function { args: Vec<Expr>, branches: Vec<Branch> },
}

/// A value and the body under which it is given.
#[derive(Clone, Debug)]
pub struct Branch {
    pub value: Expr,
    pub body: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub struct Statement {
    pub line: u32,
    pub literal: Literal,
    pub with: Vec<(Expr, Expr)>,
}

#[derive(Clone, Debug)]
pub enum Literal {
    Expr(Expr),
    Not(Expr),
    /// `some x, y`
    Some(Vec<String>),
    /// `some k, v in collection`
    SomeIn {
        key: Option<Expr>,
        value: Expr,
        collection: Expr,
    },
    /// `every k, v in domain { … }`
    Every {
        key: Option<String>,
        value: String,
        domain: Expr,
        body: Vec<Statement>,
    },
}

#[derive(Clone, Debug)]
pub struct Expr {
    pub line: u32,
    pub kind: ExprKind,
}

#[derive(Clone, Debug)]
pub enum ExprKind {
    Const(Value),
    /// `_` is a variable of this name
    Var(String),
    /// `head.a[b]`: at least one part
    Ref(Box<Expr>, Vec<Expr>),
    /// A call of the function with this dotted name
    Call(Vec<String>, Vec<Expr>),
    Array(Vec<Expr>),
    Set(Vec<Expr>),
    Object(Vec<(Expr, Expr)>),
    ArrayCompr(Box<Expr>, Vec<Statement>),
    SetCompr(Box<Expr>, Vec<Statement>),
    ObjectCompr(Box<(Expr, Expr)>, Vec<Statement>),
    /// `a := b`
    Assign(Box<Expr>, Box<Expr>),
    /// `a = b` and `a == b`, which OPA treats alike
    Unify(Box<Expr>, Box<Expr>),
}
