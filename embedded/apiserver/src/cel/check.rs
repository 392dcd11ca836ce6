//! Types of an expression, found before it is accepted. Messages are those of cel-go.

use std::collections::HashMap;
use std::sync::Arc;

use super::ast::{Expr, Fold, Kind, Literal};
use super::signatures::{self, Signature};
use super::types::Type;
use super::{Issue, library};

/// What the check found.
pub struct Checked {
    /// Type of the whole.
    pub output: Type,
    /// What is wrong.
    pub issues: Vec<Issue>,
    /// Variables that are read.
    pub reads: Vec<String>,
}

/// Checks an expression over these variables.
pub fn check(expr: &Expr, variables: &[(&str, Type)]) -> Checked {
    let scope = variables.iter().map(|(name, kind)| ((*name).to_string(), kind.clone())).collect();
    let mut checker = Checker { scope, outer: variables.len(), issues: Vec::new(), reads: Vec::new() };
    let output = checker.kind(expr);
    Checked { output, issues: checker.issues, reads: checker.reads }
}

struct Checker {
    scope: Vec<(String, Type)>,
    outer: usize,
    issues: Vec<Issue>,
    reads: Vec<String>,
}

/// The dotted name that a chain of selections spells.
pub fn dotted(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.clone()),
        Kind::Select { operand, field, optional: false } => Some(format!("{}.{field}", dotted(operand)?)),
        _ => None,
    }
}

impl Checker {
    /// Notes a fault; the result has a type that fits everywhere, so that one fault is not told twice.
    fn wrong(&mut self, at: usize, message: impl Into<String>) -> Type {
        self.issues.push(Issue::new(at, message));
        Type::Dyn
    }

    fn kind(&mut self, expr: &Expr) -> Type {
        match &expr.kind {
            Kind::Literal(literal) => of_literal(literal),
            Kind::Ident(name) => self.ident(expr.at, name),
            Kind::Select { operand, field, optional } => self.select(expr, operand, field, *optional),
            Kind::Has { operand, field } => {
                let operand = self.kind(operand);
                self.field(expr.at, &operand, field);
                Type::Bool
            }
            Kind::Index { operand, index, optional } => {
                let (of, by) = (self.kind(operand), self.kind(index));
                self.index(expr.at, &of, &by, *optional)
            }
            Kind::Call { name, member, args } => self.call(expr.at, name, *member, args),
            Kind::And(a, b) => self.logic(expr.at, "_&&_", a, b),
            Kind::Or(a, b) => self.logic(expr.at, "_||_", a, b),
            Kind::Choose(condition, yes, no) => {
                let (c, y, n) = (self.kind(condition), self.kind(yes), self.kind(no));
                if !Type::Bool.takes(&c) || !y.takes(&n) {
                    return self.wrong(
                        expr.at,
                        format!("found no matching overload for '_?_:_' applied to '({c}, {y}, {n})'"),
                    );
                }
                y.join(&n)
            }
            Kind::List(items) => {
                let mut of = None;
                for (item, optional) in items {
                    let kind = self.element(item, *optional);
                    of = Some(self.same(item.at, of, kind));
                }
                Type::list(of.unwrap_or(Type::Dyn))
            }
            Kind::Map(entries) => {
                let (mut keys, mut values) = (None, None);
                for (key, value, optional) in entries {
                    let kind = self.kind(key);
                    keys = Some(self.same(key.at, keys, kind));
                    let kind = self.element(value, *optional);
                    values = Some(self.same(value.at, values, kind));
                }
                Type::Map(Arc::new(keys.unwrap_or(Type::Dyn)), Arc::new(values.unwrap_or(Type::Dyn)))
            }
            Kind::Fold { fold, range, vars, args } => self.fold(expr, *fold, range, vars, args),
            Kind::OptMap { operand, var, body, flat } => {
                let inner = match self.kind(operand) {
                    Type::Optional(inner) => (*inner).clone(),
                    Type::Dyn => Type::Dyn,
                    other => {
                        return self.wrong(expr.at, format!("expected type 'optional_type(dyn)' but found '{other}'"));
                    }
                };
                let made = self.within(&[(var.clone(), inner)], body);
                if *flat { made } else { Type::optional(made) }
            }
        }
    }

    fn ident(&mut self, at: usize, name: &str) -> Type {
        if let Some(found) = self.scope.iter().rposition(|(n, _)| n == name) {
            if found < self.outer && !self.reads.iter().any(|r| r == name) {
                self.reads.push(name.to_string());
            }
            return self.scope[found].1.clone();
        }
        if signatures::TYPE_NAMES.contains(&name) {
            return Type::Type;
        }
        self.wrong(at, format!("undeclared reference to '{name}' (in container '')"))
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, optional: bool) -> Type {
        if let Some(name) = dotted(expr)
            && signatures::TYPE_NAMES.contains(&name.as_str())
        {
            return Type::Type;
        }
        let operand = self.kind(operand);
        let maybe = optional || matches!(operand, Type::Optional(_));
        let found = self.field(expr.at, &operand, field);
        if maybe && !matches!(found, Type::Optional(_)) { Type::optional(found) } else { found }
    }

    /// Type of a field; the operand may be an optional one.
    fn field(&mut self, at: usize, operand: &Type, field: &str) -> Type {
        match operand {
            Type::Object(object) => match object.fields.get(field) {
                Some(kind) => kind.clone(),
                None => self.wrong(at, format!("undefined field '{field}'")),
            },
            Type::Map(_, value) => (**value).clone(),
            Type::Optional(inner) => self.field(at, inner, field),
            Type::Dyn => Type::Dyn,
            other => self.wrong(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn index(&mut self, at: usize, of: &Type, by: &Type, optional: bool) -> Type {
        let found = match of {
            Type::List(item) if Type::Int.takes(by) => (**item).clone(),
            Type::Map(key, value) if key.takes(by) => (**value).clone(),
            Type::Optional(inner) => return Type::optional(self.index(at, inner, by, false)),
            Type::Dyn => Type::Dyn,
            _ => return self.wrong(at, format!("found no matching overload for '_[_]' applied to '({of}, {by})'")),
        };
        if optional { Type::optional(found) } else { found }
    }

    fn logic(&mut self, at: usize, name: &str, a: &Expr, b: &Expr) -> Type {
        let (left, right) = (self.kind(a), self.kind(b));
        if Type::Bool.takes(&left) && Type::Bool.takes(&right) {
            return Type::Bool;
        }
        self.wrong(at, format!("found no matching overload for '{name}' applied to '({left}, {right})'"))
    }

    /// Type of an element that may be given by an optional value.
    fn element(&mut self, item: &Expr, optional: bool) -> Type {
        let kind = self.kind(item);
        match kind {
            Type::Optional(inner) if optional => (*inner).clone(),
            Type::Dyn => Type::Dyn,
            other if optional => self.wrong(item.at, format!("expected type 'optional_type(dyn)' but found '{other}'")),
            other => other,
        }
    }

    /// All elements of a literal have one type.
    fn same(&mut self, at: usize, before: Option<Type>, now: Type) -> Type {
        match before {
            None => now,
            Some(before) if before.takes(&now) => before.join(&now),
            Some(before) => self.wrong(at, format!("expected type '{before}' but found '{now}'")),
        }
    }

    fn within(&mut self, vars: &[(String, Type)], body: &Expr) -> Type {
        let depth = self.scope.len();
        self.scope.extend(vars.iter().cloned());
        let kind = self.kind(body);
        self.scope.truncate(depth);
        kind
    }

    fn fold(&mut self, expr: &Expr, fold: Fold, range: &Expr, vars: &[String], args: &[Expr]) -> Type {
        let of = self.kind(range);
        let (first, second) = match &of {
            Type::List(item) => (Type::Int, (**item).clone()),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn => (Type::Dyn, Type::Dyn),
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                return self.wrong(range.at, message);
            }
        };
        let single = if matches!(of, Type::List(_)) { second.clone() } else { first.clone() };
        let scope: Vec<(String, Type)> = match vars {
            [one] => vec![(one.clone(), single.clone())],
            [one, two] => vec![(one.clone(), first.clone()), (two.clone(), second.clone())],
            _ => return self.wrong(expr.at, "a comprehension has one or two variables"),
        };
        let Some((last, conditions)) = args.split_last() else {
            return self.wrong(expr.at, "a comprehension needs a body");
        };
        for condition in conditions {
            let kind = self.within(&scope, condition);
            self.condition(expr.at, "_?_:_", &kind);
        }
        let body = self.within(&scope, last);
        match fold {
            Fold::All => self.condition(expr.at, "_&&_", &body),
            Fold::Exists => self.condition(expr.at, "_||_", &body),
            Fold::ExistsOne => self.condition(expr.at, "_?_:_", &body),
            Fold::Filter => {
                self.condition(expr.at, "_?_:_", &body);
                Type::list(single)
            }
            Fold::Map => Type::list(body),
            Fold::TransformMap => Type::Map(Arc::new(first), Arc::new(body)),
        }
    }

    fn condition(&mut self, at: usize, name: &str, kind: &Type) -> Type {
        if Type::Bool.takes(kind) {
            return Type::Bool;
        }
        let message = match name {
            "_?_:_" => format!("found no matching overload for '_?_:_' applied to '({kind}, int, int)'"),
            _ => format!("found no matching overload for '{name}' applied to '(bool, {kind})'"),
        };
        self.wrong(at, message)
    }

    /// A literal list of values to format may mix types.
    fn argument(&mut self, name: &str, arg: &Expr) -> Type {
        match &arg.kind {
            Kind::List(items) if name == "format" => {
                items.iter().for_each(|(item, optional)| {
                    self.element(item, *optional);
                });
                Type::list(Type::Dyn)
            }
            _ => self.kind(arg),
        }
    }

    /// Constants are read at once.
    fn literals(&mut self, name: &str, args: &[Expr]) {
        let at = if name == "matches" { args.get(1) } else { args.first() };
        let Some(Expr { at, kind: Kind::Literal(Literal::Text(text)), .. }) = at else { return };
        let sound = match name {
            "matches" => library::pattern(text).is_ok(),
            "duration" => library::parse_span(text).is_some(),
            "timestamp" => library::parse_moment(text).is_some(),
            _ => true,
        };
        if !sound {
            self.wrong(*at, format!("invalid {name} argument"));
        }
    }

    fn call(&mut self, at: usize, name: &str, member: bool, args: &[Expr]) -> Type {
        self.literals(name, args);
        let kinds: Vec<Type> = args.iter().map(|a| self.argument(name, a)).collect();
        let Some(overloads) = signatures::of(name) else {
            return self.wrong(at, format!("undeclared reference to '{name}' (in container '')"));
        };
        let mut result: Option<Type> = None;
        for overload in overloads.iter().filter(|o| o.member == member) {
            if let Some(kind) = matches(overload, &kinds) {
                result = Some(result.map_or(kind.clone(), |before| before.join(&kind)));
            }
        }
        if let Some(kind) = result {
            return kind;
        }
        let shown: Vec<String> = kinds.iter().map(Type::to_string).collect();
        let shown = match shown.split_first() {
            Some((target, rest)) if member => format!("{target}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.wrong(at, format!("found no matching overload for '{name}' applied to '{shown}'"))
    }
}

fn of_literal(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::Text(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// The type of the result when the arguments fit.
fn matches(signature: &Signature, args: &[Type]) -> Option<Type> {
    if signature.args.len() != args.len() {
        return None;
    }
    let mut bound = HashMap::new();
    for (wanted, given) in signature.args.iter().zip(args) {
        if !bind(wanted, given, &mut bound) {
            return None;
        }
    }
    Some(substitute(&signature.result, &bound))
}

fn bind(wanted: &Type, given: &Type, bound: &mut HashMap<char, Type>) -> bool {
    match (wanted, given) {
        (Type::Param(name), given) => match bound.get(name) {
            None => {
                bound.insert(*name, given.clone());
                true
            }
            Some(before) if before.takes(given) => {
                // the known type says more than `dyn`
                if *before == Type::Dyn {
                    bound.insert(*name, given.clone());
                }
                true
            }
            Some(_) => false,
        },
        (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => bind(a, b, bound),
        (Type::Map(k, v), Type::Map(l, w)) => bind(k, l, bound) && bind(v, w, bound),
        // objects are maps where a function takes any map
        (Type::List(_) | Type::Map(..) | Type::Optional(_), Type::Dyn) => true,
        (wanted, given) => wanted.takes(given),
    }
}

fn substitute(kind: &Type, bound: &HashMap<char, Type>) -> Type {
    match kind {
        Type::Param(name) => bound.get(name).cloned().unwrap_or(Type::Dyn),
        Type::List(of) => Type::list(substitute(of, bound)),
        Type::Optional(of) => Type::optional(substitute(of, bound)),
        Type::Map(k, v) => Type::Map(Arc::new(substitute(k, bound)), Arc::new(substitute(v, bound))),
        other => other.clone(),
    }
}
