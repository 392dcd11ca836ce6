//! The `kubectl-mtv` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    forklift_cli::main()
}
