//! `forklift`: one program that serves, controls and moves data. It composes the crates and decides nothing itself.

mod controller;
mod live;
mod migrate;
mod policy;
mod snapshot;
mod stack;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Migrates virtual machines to KubeVirt
#[derive(Parser)]
#[command(name = "forklift", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole product on this machine: API server, inventory, validation, controllers and a local node
    Up(stack::UpArgs),
    /// Write every object of the stack in a data folder to a file, whether the stack runs or not
    Snapshot(snapshot::SnapshotArgs),
    /// Migrate one appliance on this machine and leave its disks and VirtualMachine manifest in a folder
    Migrate(migrate::MigrateArgs),
    /// Run the controllers against the cluster of the kubeconfig (or of the pod's service account)
    Controller(controller::ControllerArgs),
    /// Test, try and compare validation rules, and serve them
    Policy(forklift_validation::cli::PolicyArgs),
    /// Print the CustomResourceDefinitions as YAML, for `kubectl apply -f -`
    Crds,
    /// Inspect, copy, map and verify disk images
    Disk(forklift_disk::cli::DiskArgs),
    /// Compare a copied disk with its manifest
    Verify(forklift_disk::cli::VerifyArgs),
    /// Run one of the programs that the controllers start in pods
    #[command(hide = true)]
    Worker {
        /// Name of the worker
        name: worker::Name,
        /// What the pod's command asks the worker for; workers read it themselves
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // ring is the one provider in the tree; a second installation is harmless
    let _ = rustls::crypto::ring::default_provider().install_default();
    let quiet = matches!(
        cli.command,
        Command::Migrate(_) | Command::Disk(_) | Command::Verify(_) | Command::Crds | Command::Snapshot(_)
    );
    start_logging(quiet);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("forklift: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = match cli.command {
        Command::Up(args) => runtime.block_on(stack::up(args)),
        Command::Snapshot(args) => snapshot::take(&args),
        Command::Migrate(args) => runtime.block_on(migrate::run(args)),
        Command::Controller(args) => runtime.block_on(controller::run(args)),
        Command::Policy(args) => return policy::run(&args, &runtime),
        Command::Crds => print_crds(),
        Command::Disk(args) => return forklift_disk::cli::run(args),
        Command::Verify(args) => return forklift_disk::cli::run_verify(args),
        Command::Worker { name, .. } => return runtime.block_on(name.run()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forklift: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs to stderr; `RUST_LOG` chooses what, as usual.
fn start_logging(quiet: bool) {
    let default = if quiet { "error" } else { "info,kube=warn,hyper=warn,tower=warn" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

fn print_crds() -> anyhow::Result<()> {
    for crd in forklift_api::crds() {
        println!("---\n{}", serde_saphyr::to_string(&crd)?);
    }
    Ok(())
}

/// Returns the folder where `forklift up` keeps its state: `$XDG_DATA_HOME/forklift`.
fn default_data_dir() -> PathBuf {
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| ".".into())).join(".local/share"));
    base.join("forklift")
}
