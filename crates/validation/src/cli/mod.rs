//! `forklift policy`: rules tested, tried and compared without a cluster.
//!
//! | command | what it tells |
//! |---|---|
//! | `test DIR` | which tests of `_test.rego` hold, which lines they reach |
//! | `eval` | the concerns of VMs |
//! | `trace` | why a rule fires for a VM, or why not |
//! | `diff OLD NEW` | which VMs of an estate gain or lose which concern |
//! | `serve` | the rules over HTTP, as the validation service does |
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 all well, 1 a test
//! failed (or, with `--exit-code`, something differs), 2 the command could not do its work.

mod diff;
mod estate;
mod eval;
mod test;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

pub use estate::{EstateArgs, Live, PROVIDERS};

/// Options of `forklift policy`.
#[derive(clap::Args, Clone, Debug)]
pub struct PolicyArgs {
    /// What to do
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands.
#[derive(clap::Subcommand, Clone, Debug)]
pub enum PolicyCommand {
    /// Run the tests of validation rules: every rule named test_… in the .rego files of a folder
    Test(test::TestArgs),
    /// Show the concerns of virtual machines, from a saved file or a live inventory
    Eval(eval::EvalArgs),
    /// Show why rules fire for a virtual machine, statement by statement
    Trace(eval::TraceArgs),
    /// Compare two sets of rules over an estate: which machines gain or lose which concern
    Diff(diff::DiffArgs),
    /// Serve the rules over HTTP(S) as OPA's data API does
    Serve(ServeArgs),
}

/// Options of `forklift policy serve`.
#[derive(clap::Args, Clone, Debug)]
pub struct ServeArgs {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1:8181")]
    pub listen: std::net::SocketAddr,
    /// Serving certificate, PEM; without it plain HTTP is spoken
    #[arg(long, env = "TLS_CERT_FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Key of the serving certificate, PEM
    #[arg(long, env = "TLS_KEY_FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    /// Folder with rules of your own, read again when it changes
    #[arg(long, value_name = "DIR", env = "VALIDATION_RULES")]
    pub rules: Option<PathBuf>,
    /// Write this file once the service answers
    #[arg(long, hide = true)]
    pub ready_file: Option<PathBuf>,
}

/// How results are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people
    Table,
    /// For programs
    Json,
    /// For continuous integration; tests only
    Junit,
}

/// An error that ends the command, with what to do about it.
pub(crate) type Problem = Box<dyn std::error::Error + Send + Sync>;

/// Runs a command other than `serve`; `live` reads virtual machines from an inventory service.
pub fn run(args: &PolicyArgs, live: &dyn Fn(&Live) -> Result<Vec<serde_json::Value>, Problem>) -> ExitCode {
    let stdout = std::io::stdout();
    let mut out = std::io::BufWriter::new(stdout.lock());
    let code = write(args, live, &mut out);
    if out.flush().is_err() {
        return ExitCode::from(2);
    }
    ExitCode::from(code)
}

/// The same with another place for the results; returns the exit code.
pub fn write(
    args: &PolicyArgs,
    live: &dyn Fn(&Live) -> Result<Vec<serde_json::Value>, Problem>,
    out: &mut dyn Write,
) -> u8 {
    let result = match &args.command {
        PolicyCommand::Test(args) => test::run(args, out),
        PolicyCommand::Eval(args) => eval::run(args, live, out),
        PolicyCommand::Trace(args) => eval::trace(args, live, out),
        PolicyCommand::Diff(args) => diff::run(args, live, out),
        PolicyCommand::Serve(_) => Err("`serve` is not one of these".into()),
    };
    match result {
        Ok(code) => code,
        // the reader of a pipe has seen enough
        Err(error)
            if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            0
        }
        Err(error) => {
            eprintln!("forklift: {error}");
            2
        }
    }
}

/// Says `1 VM`, `2 VMs`.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
