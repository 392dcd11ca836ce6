//! Evaluation, step by step, each of which costs.

use std::collections::BTreeMap;

use super::ast::{Expr, Fold, Kind, Literal};
use super::check::dotted;
use super::signatures::TYPE_NAMES;
use super::value::{Key, List, Order, Value};
use super::{PER_CALL, library};

/// Why there is no value.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The expression failed: no such key, division by zero, …
    Failed(String),
    /// It cost too much.
    TooExpensive,
}

impl Fault {
    /// A failure with this text.
    pub fn new<T>(text: impl Into<String>) -> Result<T, Self> {
        Err(Self::Failed(text.into()))
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(text) => f.write_str(text),
            Self::TooExpensive => f.write_str("operation cancelled: actual cost limit exceeded"),
        }
    }
}

/// What may still be spent, by one expression and by all of a request.
#[derive(Debug)]
pub struct Budget {
    /// Left for all.
    pub total: u64,
    spent: u64,
}

impl Budget {
    /// A budget for several expressions.
    pub fn new(total: u64) -> Self {
        Self { total, spent: 0 }
    }

    /// Begins the next expression.
    pub fn start(&mut self) {
        self.spent = 0;
    }

    /// Spends; fails when one expression has spent more than it may.
    pub fn spend(&mut self, cost: u64) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(cost);
        self.total = self.total.saturating_sub(cost);
        if self.spent > PER_CALL { Err(Fault::TooExpensive) } else { Ok(()) }
    }

    /// Spends for looking at all of a text: a tenth for each byte.
    pub fn traverse(&mut self, size: u64) -> Result<(), Fault> {
        self.spend(size.div_ceil(10))
    }
}

type Result_ = Result<Value, Fault>;

/// Evaluates with these variables.
pub fn run(expr: &Expr, variables: &[(&str, Value)], budget: &mut Budget) -> Result_ {
    budget.start();
    let scope = variables.iter().map(|(name, value)| (*name, value.clone())).collect();
    Run { scope, budget }.value(expr)
}

struct Run<'a> {
    scope: Vec<(&'a str, Value)>,
    budget: &'a mut Budget,
}

fn truth(value: Result_) -> Result<bool, Fault> {
    match value? {
        Value::Bool(b) => Ok(b),
        _ => Fault::new("no such overload"),
    }
}

impl<'a> Run<'a> {
    fn value(&mut self, expr: &'a Expr) -> Result_ {
        match &expr.kind {
            Kind::Literal(literal) => Ok(of_literal(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, optional } => {
                if let Some(name) = dotted(expr)
                    && let Some(found) = TYPE_NAMES.iter().find(|n| **n == name)
                {
                    return Ok(Value::Type(found));
                }
                let of = self.value(operand)?;
                self.budget.spend(1)?;
                select(&of, field, *optional)
            }
            Kind::Has { operand, field } => Ok(Value::Bool(has(&self.value(operand)?, field)?)),
            Kind::Index { operand, index, optional } => {
                let (of, by) = (self.value(operand)?, self.value(index)?);
                self.budget.spend(1)?;
                at(&of, &by, *optional)
            }
            Kind::Call { name, member, args } => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    values.push(self.value(arg)?);
                }
                self.budget.spend(1)?;
                library::call(name, *member, &values, self.budget)
            }
            Kind::And(a, b) => self.logic(a, b, false),
            Kind::Or(a, b) => self.logic(a, b, true),
            Kind::Choose(condition, yes, no) => {
                if truth(self.value(condition))? {
                    self.value(yes)
                } else {
                    self.value(no)
                }
            }
            Kind::List(items) => {
                self.budget.spend(10)?;
                let mut values = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    values.extend(self.element(item, *optional)?);
                }
                Ok(Value::list(values))
            }
            Kind::Map(entries) => {
                self.budget.spend(30)?;
                let mut map = BTreeMap::new();
                for (key, value, optional) in entries {
                    let Some(key) = self.value(key)?.key() else { return Fault::new("unsupported key type") };
                    if let Some(value) = self.element(value, *optional)?
                        && map.insert(key.clone(), value).is_some()
                    {
                        return Fault::new(format!("insert failed: key {} already exists", show_key(&key)));
                    }
                }
                Ok(Value::map(map))
            }
            Kind::Fold { fold, range, vars, args } => self.fold(*fold, range, vars, args),
            Kind::OptMap { operand, var, body, flat } => match self.value(operand)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(inner)) => {
                    let made = self.within(&[(var, (*inner).clone())], body)?;
                    Ok(if *flat { made } else { Value::some(made) })
                }
                _ => Fault::new("no such overload"),
            },
        }
    }

    fn ident(&mut self, name: &str) -> Result_ {
        self.budget.spend(1)?;
        if let Some((_, value)) = self.scope.iter().rev().find(|(n, _)| *n == name) {
            return Ok(value.clone());
        }
        match TYPE_NAMES.iter().find(|n| **n == name) {
            Some(found) => Ok(Value::Type(found)),
            None => Fault::new(format!("no such attribute(s): {name}")),
        }
    }

    /// Either side may decide alone, even when the other fails.
    fn logic(&mut self, a: &'a Expr, b: &'a Expr, decides: bool) -> Result_ {
        let left = truth(self.value(a));
        match left {
            Ok(value) if value == decides => return Ok(Value::Bool(decides)),
            Err(Fault::TooExpensive) => return Err(Fault::TooExpensive),
            _ => {}
        }
        match truth(self.value(b)) {
            Ok(value) if value == decides => Ok(Value::Bool(decides)),
            Err(Fault::TooExpensive) => Err(Fault::TooExpensive),
            right => {
                left?;
                right.map(Value::Bool)
            }
        }
    }

    fn element(&mut self, item: &'a Expr, optional: bool) -> Result<Option<Value>, Fault> {
        let value = self.value(item)?;
        match value {
            Value::Optional(inner) if optional => Ok(inner.map(|v| (*v).clone())),
            value => Ok(Some(value)),
        }
    }

    fn within(&mut self, vars: &[(&'a str, Value)], body: &'a Expr) -> Result_ {
        let depth = self.scope.len();
        self.scope.extend(vars.iter().cloned());
        let value = self.value(body);
        self.scope.truncate(depth);
        value
    }

    fn fold(&mut self, fold: Fold, range: &'a Expr, vars: &'a [String], args: &'a [Expr]) -> Result_ {
        let range = self.value(range)?;
        let pairs: Vec<(Value, Value)> = match &range {
            Value::List(list) => {
                list.items.iter().enumerate().map(|(i, v)| (Value::Int(i as i64), v.clone())).collect()
            }
            Value::Map(map) => map.entries.iter().map(|(k, v)| (of_key(k), v.clone())).collect(),
            _ => return Fault::new("no such overload"),
        };
        let is_list = matches!(range, Value::List(_));
        let Some((body, conditions)) = args.split_last() else { return Fault::new("no such overload") };
        let (mut made, mut map, mut count) = (Vec::new(), BTreeMap::new(), 0);
        let mut failed = None;
        for (first, second) in pairs {
            self.budget.spend(1)?;
            let single = if is_list { second.clone() } else { first.clone() };
            let scope: Vec<(&'a str, Value)> = match vars {
                [one] => vec![(one, single.clone())],
                [one, two] => vec![(one, first.clone()), (two, second)],
                _ => return Fault::new("no such overload"),
            };
            if let Some(condition) = conditions.first()
                && !truth(self.within(&scope, condition))?
            {
                continue;
            }
            let value = self.within(&scope, body);
            if value == Err(Fault::TooExpensive) {
                return Err(Fault::TooExpensive);
            }
            match fold {
                // one element decides, whatever others fail at
                Fold::All | Fold::Exists => match truth(value) {
                    Ok(found) if found == (fold == Fold::Exists) => return Ok(Value::Bool(found)),
                    Ok(_) => {}
                    Err(fault) => {
                        failed.get_or_insert(fault);
                    }
                },
                Fold::ExistsOne => count += usize::from(truth(value)?),
                Fold::Filter => {
                    if truth(value)? {
                        made.push(single);
                    }
                }
                Fold::Map => made.push(value?),
                Fold::TransformMap => {
                    let Some(key) = first.key() else { return Fault::new("unsupported key type") };
                    map.insert(key, value?);
                }
            }
        }
        if let Some(fault) = failed {
            return Err(fault);
        }
        Ok(match fold {
            Fold::All => Value::Bool(true),
            Fold::Exists => Value::Bool(false),
            Fold::ExistsOne => Value::Bool(count == 1),
            Fold::Filter => {
                let order = match &range {
                    Value::List(list) => list.order.clone(),
                    _ => Order::Matters,
                };
                Value::List(std::sync::Arc::new(List { items: made, order }))
            }
            Fold::Map => Value::list(made),
            Fold::TransformMap => Value::map(map),
        })
    }
}

fn of_literal(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(b) => Value::Bool(*b),
        Literal::Int(n) => Value::Int(*n),
        Literal::Uint(n) => Value::Uint(*n),
        Literal::Double(n) => Value::Double(*n),
        Literal::Text(text) => Value::text(text),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

/// The key as value.
pub fn of_key(key: &Key) -> Value {
    match key {
        Key::Bool(b) => Value::Bool(*b),
        Key::Int(n) => {
            i64::try_from(*n).map_or_else(|_| Value::Uint(u64::try_from(*n).unwrap_or(u64::MAX)), Value::Int)
        }
        Key::Text(text) => Value::Text(text.clone()),
    }
}

fn show_key(key: &Key) -> String {
    match key {
        Key::Bool(b) => b.to_string(),
        Key::Int(n) => n.to_string(),
        Key::Text(text) => text.to_string(),
    }
}

fn select(of: &Value, field: &str, optional: bool) -> Result_ {
    let key = Key::Text(field.into());
    match of {
        Value::Map(map) => match map.entries.get(&key) {
            Some(found) if optional => Ok(Value::some(found.clone())),
            Some(found) => Ok(found.clone()),
            None if optional => Ok(Value::Optional(None)),
            None => Fault::new(format!("no such key: {field}")),
        },
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => select(inner, field, true),
        Value::Null if optional => Ok(Value::Optional(None)),
        _ => Fault::new("no such overload"),
    }
}

fn has(of: &Value, field: &str) -> Result<bool, Fault> {
    match of {
        Value::Map(map) => Ok(map.entries.contains_key(&Key::Text(field.into()))),
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(inner)) => has(inner, field),
        _ => Fault::new("no such overload"),
    }
}

fn at(of: &Value, by: &Value, optional: bool) -> Result_ {
    let found = match of {
        Value::List(list) => {
            let index = match by {
                Value::Int(n) => usize::try_from(*n).ok(),
                Value::Uint(n) => usize::try_from(*n).ok(),
                _ => return Fault::new("unsupported index type"),
            };
            let shown = match by {
                Value::Int(n) => n.to_string(),
                Value::Uint(n) => n.to_string(),
                _ => String::new(),
            };
            index.and_then(|i| list.items.get(i)).cloned().ok_or(format!("index out of bounds: {shown}"))
        }
        Value::Map(map) => {
            let Some(key) = by.key() else { return Fault::new("unsupported key type") };
            map.entries.get(&key).cloned().ok_or(format!("no such key: {}", show_key(&key)))
        }
        Value::Optional(None) => return Ok(Value::Optional(None)),
        Value::Optional(Some(inner)) => return at(inner, by, true),
        _ => return Fault::new("no such overload"),
    };
    match found {
        Ok(value) if optional => Ok(Value::some(value)),
        Err(_) if optional => Ok(Value::Optional(None)),
        Ok(value) => Ok(value),
        Err(why) => Fault::new(why),
    }
}
