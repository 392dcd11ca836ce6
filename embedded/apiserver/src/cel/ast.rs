//! Expressions as they are written. Macros stay macros: the checker and the evaluator know them.

/// One node and where it is in the source (a count of characters).
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// Character at which messages about this node point.
    pub at: usize,
    /// What it is.
    pub kind: Kind,
    /// How many expressions are within each other here.
    pub depth: usize,
}

impl Expr {
    /// Puts an expression together.
    pub fn new(at: usize, kind: Kind) -> Self {
        let deepest = |items: &[Expr]| items.iter().map(|e| e.depth).max().unwrap_or(0);
        let below = match &kind {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select { operand, .. } | Kind::Has { operand, .. } => operand.depth,
            Kind::Index { operand: a, index: b, .. }
            | Kind::And(a, b)
            | Kind::Or(a, b)
            | Kind::OptMap { operand: a, body: b, .. } => a.depth.max(b.depth),
            Kind::Call { args, .. } => deepest(args),
            Kind::Choose(a, b, c) => a.depth.max(b.depth).max(c.depth),
            Kind::List(items) => items.iter().map(|(e, _)| e.depth).max().unwrap_or(0),
            Kind::Map(entries) => entries.iter().map(|(k, v, _)| k.depth.max(v.depth)).max().unwrap_or(0),
            Kind::Fold { range, args, .. } => range.depth.max(deepest(args)),
        };
        Self { at, kind, depth: below + 1 }
    }
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `null`.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// `1`, `0x1`.
    Int(i64),
    /// `1u`.
    Uint(u64),
    /// `1.5`.
    Double(f64),
    /// `'text'`.
    Text(String),
    /// `b'bytes'`.
    Bytes(Vec<u8>),
}

/// The macros that walk over a list or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fold {
    /// All elements satisfy.
    All,
    /// Some element satisfies.
    Exists,
    /// Exactly one element satisfies.
    ExistsOne,
    /// `map`, `transformList`: a list of what the last argument gives, of those that satisfy the one before it.
    Map,
    /// Elements that satisfy.
    Filter,
    /// `transformMap`.
    TransformMap,
}

/// What an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A constant.
    Literal(Literal),
    /// A variable or the name of a type.
    Ident(String),
    /// `operand.field`, `operand.?field`.
    Select { operand: Box<Expr>, field: String, optional: bool },
    /// `has(operand.field)`.
    Has { operand: Box<Expr>, field: String },
    /// `operand[index]`, `operand[?index]`.
    Index { operand: Box<Expr>, index: Box<Expr>, optional: bool },
    /// A function or an operator (named as CEL names operators: `_+_`); a target is the first argument.
    Call { name: String, member: bool, args: Vec<Expr> },
    /// `a && b`.
    And(Box<Expr>, Box<Expr>),
    /// `a || b`.
    Or(Box<Expr>, Box<Expr>),
    /// `condition ? yes : no`.
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    /// `[a, ?b]`.
    List(Vec<(Expr, bool)>),
    /// `{k: v, ?k: v}`.
    Map(Vec<(Expr, Expr, bool)>),
    /// A macro over the elements of `range`; one variable, or index and value.
    Fold { fold: Fold, range: Box<Expr>, vars: Vec<String>, args: Vec<Expr> },
    /// `operand.optMap(variable, body)`, `optFlatMap`.
    OptMap { operand: Box<Expr>, var: String, body: Box<Expr>, flat: bool },
}
