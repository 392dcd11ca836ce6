//! vSphere: vCenter and ESXi.

pub mod examine;
pub mod vim;

mod adapters;
mod collect;
mod machine;
pub mod model;
pub mod os;
mod properties;
mod spec;
mod tagging;
mod world;

#[cfg(test)]
mod tests;

pub use collect::{Collect, Connect};
pub use machine::machine;
pub use spec::{SPEC, kinds};
