//! Chores of the project: generated files and the check of the architecture.
//!
//! `cargo run -p xtask -- gen` writes what is generated, `gen --check` says what is stale, `arch` compares the
//! dependencies between crates with the agreed table, `arch --update` writes that table anew.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Chores of the project")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Write the generated files: CRDs and references
    Gen {
        /// Write nothing, and fail when a file is stale
        #[arg(long)]
        check: bool,
    },
    /// Compare the dependencies between crates with docs/architecture.snap
    Arch {
        /// Write the table instead; the change is then seen in review
        #[arg(long)]
        update: bool,
    },
}

fn main() -> ExitCode {
    let root = xtask::root();
    let done = match Arguments::parse().chore {
        Chore::Gen { check: true } => xtask::generate::check(&root),
        Chore::Gen { check: false } => xtask::generate::write(&root),
        Chore::Arch { update: false } => xtask::arch::check(&root),
        Chore::Arch { update: true } => xtask::arch::update(&root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
