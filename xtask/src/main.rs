//! Chores of the project: generated files, the check of the architecture, benches and peers.
//!
//! `cargo run -p xtask -- gen` writes what is generated, `gen --check` says what is stale, `arch` compares the
//! dependencies between crates with the agreed table, `arch --update` writes that table anew, `bench` measures beside
//! the peers, `estate` follows a simulated vCenter with the whole stack, `peers` builds those that come as Go
//! modules, `test` runs all tests.

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
    /// Run benches beside their peers; without names all of them
    Bench {
        names: Vec<String>,
        /// Where inputs and outputs are made; several GiB
        #[arg(long)]
        folder: Option<std::path::PathBuf>,
        /// Number of pairs, instead of each bench's own
        #[arg(long)]
        pairs: Option<usize>,
    },
    /// Follow a simulated vCenter with `forklift up` and tell times, memory and latencies
    Estate(xtask::estate::Options),
    /// Run all tests; a few that failed are run once more, alone, and named
    Test,
    /// Build the peers that come as Go modules into the user's cache
    Peers,
}

fn main() -> ExitCode {
    let root = xtask::root();
    let done = match Arguments::parse().chore {
        Chore::Gen { check: true } => xtask::generate::check(&root),
        Chore::Gen { check: false } => xtask::generate::write(&root),
        Chore::Arch { update: false } => xtask::arch::check(&root),
        Chore::Arch { update: true } => xtask::arch::update(&root),
        Chore::Bench { names, folder, pairs } => xtask::bench::run(&names, folder, pairs),
        Chore::Estate(options) => xtask::estate::run(&options),
        Chore::Test => xtask::tests::run(),
        Chore::Peers => forklift_testkit::peers::build_all(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
