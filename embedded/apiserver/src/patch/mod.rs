//! Patches that no library has.

pub mod strategic;
