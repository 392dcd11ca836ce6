//! What the chores are made of, so that tests can call it.

pub mod arch;
pub mod bench;
pub mod estate;
pub mod generate;
pub mod tests;

use std::path::{Path, PathBuf};

/// Returns the folder of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
