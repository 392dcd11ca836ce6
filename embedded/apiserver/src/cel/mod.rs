//! The Common Expression Language as Kubernetes uses it: rules of custom resources, match conditions of webhooks,
//! admission policies.
//!
//! ```text
//!   source ─► lex ─► parse ─► check (types, from a structural schema) ─► Program ─► eval (bounded cost) ─► Value
//!                                     │                                               │
//!                                     └── signatures: every function in one table     └── library: what they do
//! ```
//! An expression is checked against the types of its variables before it is accepted, and every step of an evaluation
//! costs: one that costs too much is ended (limits as in kube-apiserver), so that no rule can hold the server up.
//! Language: <https://github.com/google/cel-spec>; libraries: <https://kubernetes.io/docs/reference/using-api/cel/>.

mod ast;
mod check;
pub mod cost;
mod eval;
mod lex;
mod library;
mod parse;
pub mod rules;
mod schema;
mod signatures;
mod types;
mod value;

pub use eval::{Budget, Fault};
pub use library::quantity::Quantity;
pub use types::{ObjectType, Type};
pub use value::{Authorizer, Key, Question, Value};

/// Largest cost of one expression.
pub const PER_CALL: u64 = 1_000_000;

/// Something wrong in an expression, and the character it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Issue {
    /// Character.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

impl Issue {
    fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// As cel-go prints it: place, message, the line and a mark below it.
    fn show(&self, source: &str) -> String {
        let before: Vec<char> = source.chars().take(self.at).collect();
        let line = before.iter().filter(|c| **c == '\n').count();
        let column = before.iter().rev().take_while(|c| **c != '\n').count();
        let text = source.split('\n').nth(line).unwrap_or_default().replace('\t', " ");
        format!("ERROR: <input>:{}:{}: {}\n | {text}\n | {}^", line + 1, column + 1, self.message, ".".repeat(column))
    }
}

/// An expression that was checked.
#[derive(Debug)]
pub struct Program {
    expr: ast::Expr,
    /// Type of what it gives.
    pub output: Type,
    /// The variables that it reads.
    pub reads: Vec<String>,
}

impl Program {
    /// Reads and checks an expression over these variables; the error is the text that kube-apiserver shows.
    pub fn compile(source: &str, variables: &[(&str, Type)]) -> Result<Self, String> {
        let expr = parse::parse(source).map_err(|issue| issue.show(source))?;
        let checked = check::check(&expr, variables);
        if !checked.issues.is_empty() {
            return Err(checked.issues.iter().map(|i| i.show(source)).collect::<Vec<_>>().join("\n"));
        }
        Ok(Self { expr, output: checked.output, reads: checked.reads })
    }

    /// Evaluates with these values of the variables.
    pub fn run(&self, variables: &[(&str, Value)], budget: &mut Budget) -> Result<Value, Fault> {
        eval::run(&self.expr, variables, budget)
    }
}

#[cfg(test)]
mod tests;
