//! `kubectl-mtv`: creates, starts, watches and removes migrations.
//!
//! A client of the Kubernetes API and of the inventory's REST service, and nothing else. One file a command in `cmd/`.

mod cluster;
mod cmd;
mod condition;
mod inventory;
mod output;
mod refs;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Migrate virtual machines to KubeVirt
#[derive(Parser, Debug)]
#[command(name = "kubectl-mtv", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: cmd::Command,
}

/// Options of every command.
#[derive(Args, Debug, Clone)]
pub(crate) struct Global {
    /// Path of the kubeconfig
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<std::path::PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
    /// Namespace of the objects [default: the context's]
    #[arg(long, short = 'n', global = true)]
    namespace: Option<String>,
    /// List the objects of all namespaces (get)
    #[arg(long, short = 'A', global = true)]
    all_namespaces: bool,
    /// Base URL of the inventory service
    #[arg(long, short = 'i', global = true, env = "MTV_INVENTORY_URL")]
    inventory_url: Option<String>,
    /// Do not verify the inventory's certificate
    #[arg(long, global = true, env = "MTV_INVENTORY_INSECURE_SKIP_TLS", value_parser = clap::builder::BoolishValueParser::new(), num_args = 0..=1, default_missing_value = "true", default_value = "false")]
    inventory_insecure_skip_tls: bool,
    /// Print times in UTC instead of the local zone
    #[arg(long, global = true)]
    use_utc: bool,
    /// Print without colours
    #[arg(long, global = true, env = "NO_COLOR", value_parser = clap::builder::FalseyValueParser::new())]
    no_color: bool,
}

/// Formats of `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
    Markdown,
}

#[derive(Subcommand, Debug)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    // clap has its own exit code for usage errors; upstream's scripts know only 1
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result =
        runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(cli.command.run(&cli.global)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes the completion script of a shell.
fn completion(shell: &Shell) {
    use clap::CommandFactory;
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::Powershell => clap_complete::Shell::PowerShell,
    };
    clap_complete::generate(shell, &mut Cli::command(), "kubectl-mtv", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_tree_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
