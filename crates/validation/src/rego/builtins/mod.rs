//! Built-in functions.
//!
//! Those that rules about VMs use are ours, and charge for what they make; the
//! rarer ones (time, glob, graph, …) are regorus's, called with plain values
//! through [`bridge`]. An error in a function makes its statement undefined, as in
//! OPA. What reaches outside (`http.send`, …) or is random is refused.

mod bridge;
mod collections;
mod encodings;
mod networks;
mod numbers;
mod paths;
mod strings;
mod versions;

use super::limits::{Budget, Stop};
use super::value::Value;

/// A function's result: `None` is undefined.
pub type Outcome = Result<Option<Value>, Stop>;

/// A built-in function.
pub struct Builtin {
    pub name: &'static str,
    pub arity: usize,
    pub run: Run,
}

/// How a function is called.
pub enum Run {
    Ours(fn(&mut Budget, &[&Value]) -> Outcome),
    /// By name, through regorus.
    Bridged,
    /// Known to OPA, and not allowed here.
    Refused,
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

pub(super) const fn ours(name: &'static str, arity: usize, run: fn(&mut Budget, &[&Value]) -> Outcome) -> Builtin {
    Builtin { name, arity, run: Run::Ours(run) }
}

const OTHER: &[Builtin] = &[
    ours("equal", 2, |_, a| yes(a[0] == a[1])),
    ours("neq", 2, |_, a| yes(a[0] != a[1])),
    ours("lt", 2, |_, a| yes(a[0] < a[1])),
    ours("lte", 2, |_, a| yes(a[0] <= a[1])),
    ours("gt", 2, |_, a| yes(a[0] > a[1])),
    ours("gte", 2, |_, a| yes(a[0] >= a[1])),
    ours("is_array", 1, |_, a| yes(matches!(a[0], Value::Array(_)))),
    ours("is_boolean", 1, |_, a| yes(matches!(a[0], Value::Bool(_)))),
    ours("is_null", 1, |_, a| yes(matches!(a[0], Value::Null))),
    ours("is_number", 1, |_, a| yes(matches!(a[0], Value::Number(_)))),
    ours("is_object", 1, |_, a| yes(matches!(a[0], Value::Object(_)))),
    ours("is_set", 1, |_, a| yes(matches!(a[0], Value::Set(_)))),
    ours("is_string", 1, |_, a| yes(matches!(a[0], Value::String(_)))),
    ours("type_name", 1, |_, a| Ok(Some(Value::string(a[0].type_name())))),
    ours("print", 1, |_, _| yes(true)),
    ours("trace", 1, |_, _| yes(true)),
    ours("time.now_ns", 0, |_, _| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Some(Value::int(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))))
    }),
    ours("opa.runtime", 0, |_, _| Ok(Some(Value::object(Vec::new())))),
];

pub(super) fn yes(value: bool) -> Outcome {
    Ok(Some(Value::Bool(value)))
}

/// Finds a function by its dotted name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    let name = match name {
        // names of older releases
        "all" | "any" | "count" => name,
        "re_match" => "regex.match",
        "cast_array" | "cast_set" | "cast_string" | "cast_boolean" | "cast_null" | "cast_object" => return None,
        "set_diff" => "minus",
        other => other,
    };
    [
        OTHER,
        strings::ALL,
        collections::ALL,
        numbers::ALL,
        encodings::ALL,
        versions::ALL,
        networks::ALL,
        paths::ALL,
        bridge::ALL,
    ]
    .into_iter()
    .flatten()
    .find(|builtin| builtin.name == name)
}

/// Calls a function.
pub fn call(builtin: &'static Builtin, budget: &mut Budget, arguments: &[&Value]) -> Outcome {
    match builtin.run {
        Run::Ours(run) => run(budget, arguments),
        Run::Bridged => bridge::call(builtin, budget, arguments),
        Run::Refused => Err(Stop::Refused(format!("`{}` is not allowed in validation rules", builtin.name))),
    }
}
