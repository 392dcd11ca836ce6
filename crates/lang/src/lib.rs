//! The languages that users type: so far TSL, the tree search language of kubectl-mtv, and the query around it.
//!
//! ```text
//! query  select … where EXPRESSION order by … limit …     query::Query
//!                          └─ lexer ─► parse ─► Expression ─ eval ─► Value
//! item   JSON ── path ──────────────────────────────────────┘
//! ```
//! Pure: text and JSON in, values out. The language is that of the Go module
//! `github.com/yaacov/tree-search-language/v6`, which the tests run beside it.

mod error;
mod eval;
mod expression;
mod lexer;
mod order;
mod parse;
mod path;
mod pattern;
mod query;
mod time;
mod value;

pub use error::{EvalError, SyntaxError};
pub use expression::Expression;
pub use order::{Order, SortKey, parse_orders};
pub use path::{Item, Path};
pub use query::{Outcome, Query, Reducer, Selected};
pub use time::Instant;
pub use value::Value;
