//! Builds the stand-in for VMware's library.

use std::path::Path;
use std::process::Command;

/// Its source.
const STANDIN: &str = include_str!("standin.c");

/// Builds the stand-in into a folder that looks like VMware's distribution; `flags` are the compiler's.
pub fn build(distribution: &Path, flags: &[&str]) {
    let folder = distribution.join("lib64");
    std::fs::create_dir_all(&folder).expect("makes the distribution");
    let source = distribution.join("standin.c");
    std::fs::write(&source, STANDIN).expect("writes the source");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-pthread"])
        .args(flags)
        .arg("-o")
        .arg(folder.join("libvixDiskLib.so.8"))
        .arg(&source)
        .status();
    assert!(built.expect("cc runs").success(), "the stand-in is built");
}
