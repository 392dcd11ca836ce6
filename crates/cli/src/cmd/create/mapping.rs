//! `create mapping network` and `create mapping storage`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{DryRun, pairs, reference};
use crate::cluster::{API_VERSION, Cluster};
use crate::inventory::Inventory;
use crate::output::{dry_run, line};
use crate::refs;

/// The two kinds of map.
#[derive(Subcommand, Debug)]
pub(crate) enum Mapping {
    /// Which source network becomes which target network
    Network(NetworkArgs),
    /// Which source storage becomes which storage class
    Storage(StorageArgs),
}

/// Options of both.
#[derive(Args, Debug)]
pub(crate) struct Common {
    /// Name of the map
    name: Option<String>,
    /// Name of the map
    #[arg(long = "name", short = 'M', value_name = "NAME")]
    flag: Option<String>,
    /// Source provider, NAME or NAMESPACE/NAME
    #[arg(long, short = 'S', alias = "source-provider")]
    source: String,
    /// Target provider, NAME or NAMESPACE/NAME
    #[arg(long, short = 'T', alias = "target-provider")]
    target: String,
    #[command(flatten)]
    dry: DryRun,
}

/// Options of `create mapping network`.
#[derive(Args, Debug)]
pub(crate) struct NetworkArgs {
    #[command(flatten)]
    common: Common,
    /// Pairs `source:target`; a target is `default`, `ignored`, NAME or NAMESPACE/NAME of an attachment definition
    #[arg(long)]
    network_pairs: String,
}

/// Options of `create mapping storage`.
#[derive(Args, Debug)]
pub(crate) struct StorageArgs {
    #[command(flatten)]
    common: Common,
    /// Pairs `source:class[;volumeMode=…][;accessMode=…]`
    #[arg(long)]
    storage_pairs: String,
}

/// Creates the map.
pub async fn run(cluster: &Cluster, args: &Mapping) -> anyhow::Result<()> {
    let (common, kind) = match args {
        Mapping::Network(args) => (&args.common, "NetworkMap"),
        Mapping::Storage(args) => (&args.common, "StorageMap"),
    };
    let name = refs::name(&common.name, &common.flag)?;
    let (source_namespace, source) = refs::qualified(&common.source, &cluster.namespace);
    let (target_namespace, target) = refs::qualified(&common.target, &cluster.namespace);
    let inventory = Inventory::open(cluster, source_namespace, source).await?;
    let rows = match args {
        Mapping::Network(args) => pairs::networks(&inventory, &args.network_pairs, &cluster.namespace).await?,
        Mapping::Storage(args) => pairs::storages(&inventory, &args.storage_pairs).await?,
    };
    let object = map(
        kind,
        &cluster.namespace,
        &name,
        reference("Provider", source_namespace, source),
        reference("Provider", target_namespace, target),
        rows,
    );
    if common.dry.dry_run {
        return dry_run(&[object], common.dry.output);
    }
    cluster.create(&object).await?;
    line(&format!("{}/{name} created", kind.to_lowercase()))
}

/// Returns a map object.
pub fn map(kind: &str, namespace: &str, name: &str, source: Value, destination: Value, rows: Vec<Value>) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": namespace},
        "spec": {"provider": {"source": source, "destination": destination}, "map": rows},
    })
}
