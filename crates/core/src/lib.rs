//! The pure middle of Forklift: values in, values out.
//!
//! What a source VM is ([`machine`]), what a source can do ([`source`]), how a migration goes on ([`plan`]), whether it
//! may start ([`check`]), what is created on the target ([`build`], [`mapping`], [`names`], [`template`]), what must
//! never be done ([`safety`]). No client, no runtime, no clock, no randomness, no file: time and facts come in as
//! values, what is to be done goes out as [`plan::Effect`]s.
pub mod build;
pub mod check;
pub mod machine;
pub mod mapping;
pub mod names;
pub mod os;
pub mod plan;
pub mod safety;
pub mod source;
pub mod template;
