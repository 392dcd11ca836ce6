//! `get`: lists.

mod inventory;
mod objects;
mod plan;

pub(crate) use plan::pipeline;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::Format;
use crate::cluster::Cluster;

/// What to list.
#[derive(Subcommand, Debug)]
pub(crate) enum Get {
    /// Plans, or the progress of one
    #[command(alias = "plans")]
    Plan(plan::PlanArgs),
    /// Providers
    #[command(alias = "providers")]
    Provider(List),
    /// Network and storage maps
    #[command(alias = "mappings", args_conflicts_with_subcommands = true)]
    Mapping {
        /// One kind of map only
        #[command(subcommand)]
        kind: Option<MappingKind>,
        #[command(flatten)]
        list: List,
    },
    /// Hooks
    #[command(alias = "hooks")]
    Hook(List),
    /// Conversions
    #[command(alias = "conversions")]
    Conversion(List),
    /// What a provider has
    Inventory(inventory::InventoryArgs),
}

/// The two kinds of map.
#[derive(Subcommand, Debug)]
pub(crate) enum MappingKind {
    /// Network maps
    Network(List),
    /// Storage maps
    Storage(List),
}

/// Options of a list.
#[derive(Args, Debug, Clone)]
pub(crate) struct List {
    /// Name of one object
    pub name: Option<String>,
    /// Name of one object
    #[arg(long = "name", short = 'M', value_name = "NAME")]
    pub flag: Option<String>,
    /// Format
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Repeat every few seconds
    #[arg(long, short)]
    pub watch: bool,
}

impl List {
    fn wanted(&self) -> anyhow::Result<Option<String>> {
        match (&self.name, &self.flag) {
            (None, None) => Ok(None),
            (name, flag) => crate::refs::name(name, flag).map(Some),
        }
    }
}

/// How often a watched list is renewed.
const RENEW: Duration = Duration::from_secs(2);

impl Get {
    /// Prints the list; with `--watch` until interrupted.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let (watch, output) = self.watching();
        if !watch {
            return self.once(cluster).await;
        }
        anyhow::ensure!(output == Format::Table, "watch mode only supports table output format");
        let mut tick = tokio::time::interval(RENEW);
        loop {
            tick.tick().await;
            if std::io::IsTerminal::is_terminal(&std::io::stdout()) {
                // home, then clear to the end: no flicker
                print!("\x1b[H\x1b[J");
            }
            self.once(cluster).await?;
        }
    }

    fn watching(&self) -> (bool, Format) {
        match self {
            Get::Plan(args) => (args.list.watch, args.list.output),
            Get::Provider(list) | Get::Hook(list) | Get::Conversion(list) => (list.watch, list.output),
            Get::Mapping { kind: Some(MappingKind::Network(list) | MappingKind::Storage(list)), .. }
            | Get::Mapping { kind: None, list } => (list.watch, list.output),
            Get::Inventory(args) => (args.watch, args.output),
        }
    }

    async fn once(&self, cluster: &Cluster) -> anyhow::Result<()> {
        match self {
            Get::Plan(args) => plan::run(cluster, args).await,
            Get::Provider(list) => objects::providers(cluster, list).await,
            Get::Mapping { kind: None, list } => objects::mappings(cluster, list, &["NetworkMap", "StorageMap"]).await,
            Get::Mapping { kind: Some(MappingKind::Network(list)), .. } => {
                objects::mappings(cluster, list, &["NetworkMap"]).await
            }
            Get::Mapping { kind: Some(MappingKind::Storage(list)), .. } => {
                objects::mappings(cluster, list, &["StorageMap"]).await
            }
            Get::Hook(list) => objects::hooks(cluster, list).await,
            Get::Conversion(list) => objects::conversions(cluster, list).await,
            Get::Inventory(args) => inventory::run(cluster, args).await,
        }
    }
}

/// Lists a kind, or the one object that was named.
async fn select(cluster: &Cluster, kind: &str, list: &List) -> anyhow::Result<Vec<serde_json::Value>> {
    match list.wanted()? {
        Some(name) => Ok(vec![cluster.get(kind, &cluster.namespace, &name).await?]),
        None => cluster.list(kind).await,
    }
}

/// Returns titles with NAMESPACE after the name when all namespaces are listed.
fn titles(cluster: &Cluster, titles: &[&'static str]) -> Vec<&'static str> {
    let mut all = titles.to_vec();
    if cluster.all {
        all.insert(1, "NAMESPACE");
    }
    all
}

/// Puts the namespace into a row where its title is.
fn placed(cluster: &Cluster, mut row: Vec<String>, object: &serde_json::Value) -> Vec<String> {
    if cluster.all {
        row.insert(1, crate::output::cell(&object["metadata"]["namespace"]));
    }
    row
}

/// Says where nothing was found.
fn nothing(cluster: &Cluster, what: &str) -> String {
    if cluster.all {
        format!("No {what} found in any namespace")
    } else {
        format!("No {what} found in namespace {}", cluster.namespace)
    }
}
