//! The bundled rules and the engine beside the Open Policy Agent that upstream's validation service is.
//!
//! The peer is built by `./x peers`; without it the comparisons are skipped.

mod campaign;
mod functions;
mod inputs;
mod random;
mod shape;
mod suite;
mod users;

use std::path::PathBuf;

/// Returns the folder of the bundled rules.
fn bundled() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/rules"))
}

/// Returns a number from the environment.
fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number, not {text:?}")),
        Err(_) => default,
    }
}
