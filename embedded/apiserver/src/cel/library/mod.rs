//! What the functions do. One file per library; `call` asks them in turn, for a name has overloads in several.

mod convert;
mod format;
mod lists;
mod net;
mod operators;
pub mod quantity;
mod rights;
pub mod semver;
mod strings;
mod time;
pub mod url;

pub use strings::pattern;
pub use time::{parse_moment, parse_span};

use super::eval::{Budget, Fault};
use super::value::Value;

/// What a library says about a call: None when it has no overload for these arguments.
type Answer = Option<Result<Value, Fault>>;

/// Calls a function; a target is the first argument.
pub fn call(name: &str, member: bool, args: &[Value], budget: &mut Budget) -> Result<Value, Fault> {
    // whatever reads a whole text or list pays for its length
    for arg in args {
        budget.traverse(arg.size())?;
    }
    let answer = operators::call(name, args, budget)
        .or_else(|| convert::call(name, args))
        .or_else(|| strings::call(name, member, args))
        .or_else(|| lists::call(name, args, budget))
        .or_else(|| format::call(name, args))
        .or_else(|| time::call(name, args))
        .or_else(|| quantity::call(name, args))
        .or_else(|| net::call(name, args))
        .or_else(|| url::call(name, args))
        .or_else(|| semver::call(name, args))
        .or_else(|| rights::call(name, args));
    let result = answer.unwrap_or_else(|| Fault::new("no such overload"))?;
    // what is made is paid for too, so that no loop of additions fills the memory
    budget.traverse(result.size())?;
    Ok(result)
}

fn truth(value: bool) -> Answer {
    Some(Ok(Value::Bool(value)))
}

fn failed(why: impl Into<String>) -> Answer {
    Some(Fault::new(why))
}
