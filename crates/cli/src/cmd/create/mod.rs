//! `create`: providers, maps, plans, hooks.

mod hook;
mod mapping;
mod pairs;
mod plan;
mod provider;

use clap::Subcommand;

use crate::Format;
use crate::cluster::{API_VERSION, Cluster};

/// What to create.
#[derive(Subcommand, Debug)]
pub(crate) enum Create {
    /// A source or target of migrations
    Provider(provider::ProviderArgs),
    /// A map from source to target networks or storages
    #[command(subcommand)]
    Mapping(mapping::Mapping),
    /// A plan: which machines go where, and how
    Plan(Box<plan::PlanArgs>),
    /// A playbook that runs before or after a migration
    Hook(hook::HookArgs),
}

/// Options for looking before leaping.
#[derive(clap::Args, Debug, Clone, Copy)]
pub(crate) struct DryRun {
    /// Print what would be made
    #[arg(long)]
    dry_run: bool,
    /// Format of --dry-run
    #[arg(long, short, value_enum, requires = "dry_run")]
    output: Option<Format>,
}

impl Create {
    /// Creates the object.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        match self {
            Create::Provider(args) => provider::run(cluster, args).await,
            Create::Mapping(args) => mapping::run(cluster, args).await,
            Create::Plan(args) => plan::run(cluster, args).await,
            Create::Hook(args) => hook::run(cluster, args).await,
        }
    }
}

/// Returns a reference to an object of ours.
fn reference(kind: &str, namespace: &str, name: &str) -> serde_json::Value {
    serde_json::json!({"apiVersion": API_VERSION, "kind": kind, "name": name, "namespace": namespace})
}

/// Reads a flag's value, or the file that `@FILE` names.
fn text_or_file(value: &str) -> anyhow::Result<String> {
    use anyhow::Context;
    match value.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("failed to read {path}")),
        None => Ok(value.to_owned()),
    }
}
