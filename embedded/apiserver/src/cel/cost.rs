//! What a rule may cost at most, by the limits that its schema sets.
//!
//! kube-apiserver refuses a definition whose rules may cost more than a budget. The estimate here is coarser, and speaks
//! only where the budget is exceeded by far: loops within loops over lists without `maxItems`, texts without `maxLength`.

#![expect(clippy::cast_precision_loss, reason = "estimates")]

use super::Program;
use super::ast::{Expr, Fold, Kind, Literal};
use super::schema::escape;
use crate::schema::{Schema, Type as Shape};

/// Largest request in bytes, as kube-apiserver assumes it.
const REQUEST: f64 = 3_145_728.0;
/// Budget of one expression.
const BUDGET: f64 = 10_000_000.0;
/// Above this many budgets the estimate counts.
const FAR: f64 = 100.0;

/// Why the expression is refused; `what` is `rule` or `messageExpression`, `times` how often its place may occur, if
/// that is known.
pub fn excess(program: &Program, schema: &Schema, what: &str, times: Option<f64>) -> Option<String> {
    let found = Estimate { root: schema, scope: Vec::new() }.of(&program.expr);
    let times = times.unwrap_or_else(|| REQUEST / (smallest(schema) + 1.0));
    let too_much = found.cost * times > BUDGET * FAR;
    too_much.then(|| {
        format!(
            "estimated {what} cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding \
             maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
        )
    })
}

/// How often the elements of a list or the values of a map may occur; None when the schema does not say.
pub fn times(schema: &Schema, outside: Option<f64>) -> Option<f64> {
    let checks = schema.checks.as_ref();
    let most = match schema.kind {
        Shape::Array => checks.and_then(|c| c.max_items),
        _ => checks.and_then(|c| c.max_properties),
    };
    Some(outside? * most? as f64)
}

/// Least bytes of a value in JSON.
fn smallest(schema: &Schema) -> f64 {
    match schema.kind {
        Shape::Boolean => 4.0,
        Shape::String | Shape::Array => 2.0,
        Shape::Object => {
            let required = schema.required.iter().filter_map(|name| Some((name, schema.properties.get(name)?)));
            let counted = required.filter(|(_, child)| child.default.is_none());
            counted.map(|(name, child)| name.len() as f64 + smallest(child) + 4.0).sum::<f64>() + 2.0
        }
        _ => 1.0,
    }
}

/// Most characters or elements of a value.
fn largest(schema: &Schema) -> f64 {
    let checks = schema.checks.as_ref();
    let limit = |found: Option<u64>| found.map(|n| n as f64);
    match schema.kind {
        Shape::String => {
            let formats = checks.and_then(|c| c.format.as_deref());
            if matches!(formats, Some("date" | "date-time" | "duration")) {
                return 40.0;
            }
            let words = checks.map(|c| c.one_of_values.as_slice()).unwrap_or_default();
            let longest = words.iter().filter_map(|w| w.as_str()).map(str::len).max();
            limit(checks.and_then(|c| c.max_length)).map(|n| n * 4.0).or(longest.map(|n| n as f64)).unwrap_or(REQUEST)
        }
        Shape::Array => {
            let least = schema.items.as_ref().map_or(1.0, |items| smallest(items));
            limit(checks.and_then(|c| c.max_items)).unwrap_or(REQUEST / (least + 1.0))
        }
        Shape::Object if schema.additional.is_some() => {
            let least = schema.additional.as_ref().map_or(1.0, |values| smallest(values));
            limit(checks.and_then(|c| c.max_properties)).unwrap_or(REQUEST / (least + 6.0))
        }
        _ if schema.int_or_string => REQUEST,
        _ => 1.0,
    }
}

#[derive(Clone, Copy)]
struct Cost<'a> {
    cost: f64,
    size: f64,
    shape: Option<&'a Schema>,
}

struct Estimate<'a> {
    root: &'a Schema,
    scope: Vec<(&'a str, Cost<'a>)>,
}

fn shaped(cost: f64, shape: Option<&Schema>) -> Cost<'_> {
    Cost { cost, size: shape.map_or(1.0, largest), shape }
}

impl<'a> Estimate<'a> {
    fn of(&mut self, expr: &'a Expr) -> Cost<'a> {
        let plain = |cost: f64, size: f64| Cost { cost, size, shape: None };
        match &expr.kind {
            Kind::Literal(literal) => match literal {
                Literal::Text(text) => plain(0.0, text.len() as f64),
                Literal::Bytes(bytes) => plain(0.0, bytes.len() as f64),
                _ => plain(0.0, 1.0),
            },
            Kind::Ident(name) => match self.scope.iter().rev().find(|(n, _)| n == name) {
                Some((_, known)) => Cost { cost: 1.0, ..*known },
                None if name == "self" || name == "oldSelf" => shaped(1.0, Some(self.root)),
                None => plain(1.0, 1.0),
            },
            Kind::Select { operand, field, .. } => {
                let of = self.of(operand);
                let child = of.shape.and_then(|s| {
                    let named = s.properties.iter().find(|(name, _)| escape(name).as_deref() == Some(field));
                    named.map(|(_, child)| child).or(s.additional.as_ref())
                });
                shaped(of.cost + 1.0, child.map(|c| &**c))
            }
            Kind::Has { operand, .. } => plain(self.of(operand).cost, 1.0),
            Kind::Index { operand, index, .. } => {
                let (of, by) = (self.of(operand), self.of(index));
                let child = of.shape.and_then(|s| s.items.as_ref().or(s.additional.as_ref()));
                shaped(of.cost + by.cost + 1.0, child.map(|c| &**c))
            }
            Kind::And(a, b) | Kind::Or(a, b) => plain(self.of(a).cost + self.of(b).cost, 1.0),
            Kind::Choose(condition, yes, no) => {
                let (c, y, n) = (self.of(condition), self.of(yes), self.of(no));
                Cost { cost: c.cost + y.cost.max(n.cost), size: y.size.max(n.size), shape: y.shape.or(n.shape) }
            }
            Kind::List(items) => {
                let cost: f64 = items.iter().map(|(item, _)| self.of(item).cost).sum();
                plain(cost + 10.0, items.len() as f64)
            }
            Kind::Map(entries) => {
                let cost: f64 = entries.iter().map(|(k, v, _)| self.of(k).cost + self.of(v).cost).sum();
                plain(cost + 30.0, entries.len() as f64)
            }
            Kind::Fold { fold, range, vars, args } => self.fold(*fold, range, vars, args),
            Kind::OptMap { operand, var, body, .. } => {
                let of = self.of(operand);
                self.scope.push((var, of));
                let made = self.of(body);
                self.scope.pop();
                Cost { cost: of.cost + made.cost, ..made }
            }
            Kind::Call { name, args, .. } => {
                let args: Vec<Cost<'a>> = args.iter().map(|a| self.of(a)).collect();
                call(name, &args)
            }
        }
    }

    fn fold(&mut self, fold: Fold, range: &'a Expr, vars: &'a [String], args: &'a [Expr]) -> Cost<'a> {
        let of = self.of(range);
        let element = of.shape.and_then(|s| s.items.as_ref().or(s.additional.as_ref())).map(|c| &**c);
        let is_map = of.shape.is_some_and(|s| s.items.is_none());
        let key = Cost { cost: 1.0, size: REQUEST, shape: None };
        let item = shaped(1.0, element);
        let depth = self.scope.len();
        match vars {
            [one] => self.scope.push((one, if is_map { key } else { item })),
            [one, two] => {
                self.scope.push((one, if is_map { key } else { Cost { size: 1.0, ..key } }));
                self.scope.push((two, item));
            }
            _ => {}
        }
        let each: f64 = args.iter().map(|a| self.of(a).cost).sum();
        self.scope.truncate(depth);
        let cost = of.cost + of.size * (each + 1.0);
        Cost { cost, size: of.size, shape: of.shape.filter(|_| fold == Fold::Filter) }
    }
}

fn call<'a>(name: &str, args: &[Cost<'a>]) -> Cost<'a> {
    let paid: f64 = args.iter().map(|a| a.cost).sum::<f64>() + 1.0;
    let size = |n: usize| args.get(n).map_or(1.0, |a| a.size);
    let first = args.first().and_then(|a| a.shape);
    let (cost, made, shape) = match name {
        "startsWith" | "endsWith" => (size(1) * 0.1, 1.0, None),
        "contains" => (size(0) * 0.1 * (size(1) * 0.1).max(1.0), 1.0, None),
        "matches" | "find" | "findAll" => (size(0) * 0.1 * (size(1) * 0.25).max(1.0), size(0), None),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => (size(0).min(size(1)) * 0.1, 1.0, None),
        "_+_" => ((size(0) + size(1)) * 0.1, size(0) + size(1), first),
        "@in" => (size(1), 1.0, None),
        "lowerAscii" | "upperAscii" | "trim" | "split" | "join" | "charAt" | "substring" => {
            (size(0) * 0.1, size(0), None)
        }
        "replace" => (size(0) * 0.1, size(0) * size(2).max(1.0), None),
        "isSorted" | "sum" | "indexOf" | "lastIndexOf" => (size(0), 1.0, None),
        "min" | "max" => (size(0), 1.0, None),
        "sets.contains" | "sets.equivalent" | "sets.intersects" => (size(0) * size(1), 1.0, None),
        "quantity" | "isQuantity" | "url" | "isURL" | "ip" | "isIP" | "cidr" | "isCIDR" => (size(0) * 0.1, 1.0, None),
        // how long the text of a value is nobody knows
        "string" if first.is_none_or(|s| s.kind != Shape::String) => (0.0, f64::INFINITY, None),
        "string" | "dyn" | "orValue" | "value" | "or" | "optional.of" => (0.0, size(0).max(size(1)), first),
        _ => (0.0, 1.0, None),
    };
    Cost { cost: paid + cost, size: made, shape }
}
