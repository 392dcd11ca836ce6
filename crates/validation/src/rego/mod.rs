//! Rego: parser, compiler and evaluator.
//!
//! ```text
//! text ─lex─► tokens ─parse─► Module ─compile─► Program (steps over slots) ──┬─eval─► Value
//!                                      JSON ─Layout: what rules read─► Document ┘
//! ```
//!
//! Why an engine of our own: rules run for every change of every VM of an estate,
//! so a VM has to take tens of microseconds; users' rules need bounds on time
//! **and** memory and must fail one by one; and negation has to treat undefined
//! arguments as OPA does. regorus, the well-kept Rust implementation, has none of
//! the three; it still provides the rarer built-in functions, and the tests compare
//! both engines.

pub mod ast;
mod builtins;
pub mod compile;
pub mod document;
pub mod eval;
mod letters;
mod lex;
pub mod limits;
pub mod parse;
mod pattern;
pub mod places;
pub mod plan;
mod sprintf;
pub mod value;

/// An error in a file's text or in what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Line, from 1.
    pub line: u32,
    pub message: String,
}
