//! `forklift disk` alone, for measurements and for use without the rest:
//! `cargo run --release -p forklift-disk --example disk -- copy a.vmdk a.img`

use std::process::ExitCode;

use clap::Parser;
use forklift_disk::cli::{DiskArgs, run};

/// Inspect, copy, map and verify disk images
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    disk: DiskArgs,
}

fn main() -> ExitCode {
    run(Arguments::parse().disk)
}
