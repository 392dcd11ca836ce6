//! The pure middle of Forklift: values in, values out.
//!
//! What a source VM is ([`machine`]), what a source can do ([`source`]), how a migration goes on ([`plan`]), how things
//! are called ([`names`]). No client, no runtime, no clock, no randomness, no file: time and facts come in as values,
//! what is to be done goes out as [`plan::Effect`]s.
pub mod machine;
pub mod names;
pub mod plan;
pub mod source;
