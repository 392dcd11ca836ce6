//! Functions of regorus, called with plain values: one small module a function.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use regorus::Engine;

use super::{Builtin, Outcome, Run};
use crate::rego::limits::Budget;
use crate::rego::value::{Number, Value};

const fn bridged(name: &'static str, arity: usize) -> Builtin {
    Builtin { name, arity, run: Run::Bridged }
}

const fn refused(name: &'static str, arity: usize) -> Builtin {
    Builtin { name, arity, run: Run::Refused }
}

pub const ALL: &[Builtin] = &[
    bridged("glob.match", 3),
    bridged("glob.quote_meta", 1),
    bridged("graph.reachable", 2),
    bridged("regex.globs_match", 2),
    bridged("regex.template_match", 4),
    bridged("time.add_date", 4),
    bridged("time.clock", 1),
    bridged("time.date", 1),
    bridged("time.diff", 2),
    bridged("time.format", 1),
    bridged("time.parse_duration_ns", 1),
    bridged("time.parse_ns", 2),
    bridged("time.parse_rfc3339_ns", 1),
    bridged("time.weekday", 1),
    bridged("units.parse", 1),
    bridged("units.parse_bytes", 1),
    bridged("uuid.parse", 1),
    refused("http.send", 1),
    refused("net.lookup_ip_addr", 1),
    refused("rand.intn", 2),
    refused("uuid.rfc4122", 1),
];

thread_local! {
    static ENGINES: RefCell<HashMap<&'static str, Engine>> = RefCell::new(HashMap::new());
}

pub fn call(builtin: &'static Builtin, budget: &mut Budget, arguments: &[&Value]) -> Outcome {
    // what comes back is about as large as what goes in, twice over for encodings
    let size: usize = arguments.iter().map(|argument| deep_weight(argument)).sum();
    budget.charge(size.saturating_mul(4))?;
    let result = ENGINES.with_borrow_mut(|engines| {
        let engine = match engines.entry(builtin.name) {
            std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => free.insert(engine(builtin)?),
        };
        let input = arguments.iter().map(|argument| to_regorus(argument)).collect::<Vec<_>>();
        engine.set_input(regorus::Value::from(input));
        // some of its functions panic on arguments that nobody thought of; a rule must not end the service by them
        let result = catch_unwind(AssertUnwindSafe(|| engine.eval_rule("data.bridge.result".to_owned()).ok()));
        if result.is_err() {
            engines.remove(builtin.name);
        }
        result.ok().flatten()
    });
    Ok(result.as_ref().and_then(from_regorus))
}

fn engine(builtin: &Builtin) -> Option<Engine> {
    let arguments: Vec<String> = (0..builtin.arity).map(|i| format!("input[{i}]")).collect();
    let text = format!("package bridge\nimport rego.v1\nresult := {}({})\n", builtin.name, arguments.join(", "));
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(false);
    engine.add_policy(format!("{}.rego", builtin.name), text).ok()?;
    Some(engine)
}

fn deep_weight(value: &Value) -> usize {
    value.weight()
        + match value {
            Value::Array(items) | Value::Set(items) => items.iter().map(deep_weight).sum(),
            Value::Object(members) => members.iter().map(|(k, v)| deep_weight(k) + deep_weight(v)).sum(),
            _ => 0,
        }
}

fn to_regorus(value: &Value) -> regorus::Value {
    match value {
        Value::Null => regorus::Value::Null,
        Value::Bool(value) => regorus::Value::from(*value),
        Value::Number(Number::Int(value)) => regorus::Value::from(*value),
        Value::Number(other) => regorus::Value::from(other.float()),
        Value::String(text) => regorus::Value::from(&**text),
        Value::Array(items) => regorus::Value::from(items.iter().map(to_regorus).collect::<Vec<_>>()),
        Value::Set(items) => {
            regorus::Value::from(items.iter().map(to_regorus).collect::<std::collections::BTreeSet<_>>())
        }
        Value::Object(members) => regorus::Value::from(
            members.iter().map(|(k, v)| (to_regorus(k), to_regorus(v))).collect::<std::collections::BTreeMap<_, _>>(),
        ),
    }
}

fn from_regorus(value: &regorus::Value) -> Option<Value> {
    Some(match value {
        regorus::Value::Null => Value::Null,
        regorus::Value::Bool(value) => Value::Bool(*value),
        regorus::Value::Number(_) => {
            let json = serde_json::to_value(value).ok()?;
            Value::from(&json)
        }
        regorus::Value::String(text) => Value::string(text.as_ref()),
        regorus::Value::Array(items) => Value::array(items.iter().map(from_regorus).collect::<Option<_>>()?),
        regorus::Value::Set(items) => Value::set(items.iter().map(from_regorus).collect::<Option<_>>()?),
        regorus::Value::Object(members) => Value::object(
            members.iter().map(|(k, v)| Some((from_regorus(k)?, from_regorus(v)?))).collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}
