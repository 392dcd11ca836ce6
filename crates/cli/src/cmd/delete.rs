//! `delete`: plans are archived first, so that what they left on the target is cleaned up.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::json;

use crate::cluster::Cluster;
use crate::condition;
use crate::output::line;

/// What to delete.
#[derive(Subcommand, Debug)]
pub(crate) enum Delete {
    /// Plans; they are archived first
    #[command(alias = "plans")]
    Plan {
        #[command(flatten)]
        which: Which,
        /// Delete at once, without archiving first
        #[arg(long)]
        skip_archive: bool,
        /// Delete the virtual machines of failed migrations, too
        #[arg(long)]
        clean_all: bool,
    },
    /// Providers
    #[command(alias = "providers")]
    Provider(Which),
    /// Network or storage maps
    #[command(subcommand, alias = "mappings")]
    Mapping(Mapping),
    /// Hooks
    #[command(alias = "hooks")]
    Hook(Which),
}

/// The two kinds of map.
#[derive(Subcommand, Debug)]
pub(crate) enum Mapping {
    /// Network maps
    Network(Which),
    /// Storage maps
    Storage(Which),
}

/// Which objects a command is about.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Name of the object
    pub name: Option<String>,
    /// Names, separated by commas
    #[arg(long = "name", short = 'M', value_name = "NAMES", value_delimiter = ',', alias = "names")]
    pub names: Vec<String>,
    /// All of the namespace
    #[arg(long)]
    pub all: bool,
}

impl Which {
    /// Returns the names meant.
    pub async fn names(&self, cluster: &Cluster, kind: &str) -> anyhow::Result<Vec<String>> {
        let given: Vec<_> = self
            .name
            .iter()
            .chain(&self.names)
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty())
            .collect();
        match (self.all, given.is_empty()) {
            (true, false) => anyhow::bail!("cannot use --name with --all"),
            (false, true) => anyhow::bail!("must specify --name or --all"),
            (false, false) => Ok(given),
            (true, true) => {
                let names: Vec<_> = cluster
                    .list(kind)
                    .await?
                    .iter()
                    .filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned))
                    .collect();
                if names.is_empty() {
                    line(&format!("No {}s found in namespace {}", kind.to_lowercase(), cluster.namespace))?;
                }
                Ok(names)
            }
        }
    }
}

/// How long an archived plan may take to clean up.
const ARCHIVE: Duration = Duration::from_secs(60);

impl Delete {
    /// Deletes the objects.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        match self {
            Delete::Plan { which, skip_archive, clean_all } => {
                for name in which.names(cluster, "Plan").await? {
                    plan(cluster, &name, *skip_archive, *clean_all).await?;
                }
                Ok(())
            }
            Delete::Provider(which) => objects(cluster, which, "Provider", "Provider").await,
            Delete::Mapping(Mapping::Network(which)) => objects(cluster, which, "NetworkMap", "Network mapping").await,
            Delete::Mapping(Mapping::Storage(which)) => objects(cluster, which, "StorageMap", "Storage mapping").await,
            Delete::Hook(which) => objects(cluster, which, "Hook", "Hook").await,
        }
    }
}

async fn objects(cluster: &Cluster, which: &Which, kind: &str, title: &str) -> anyhow::Result<()> {
    let namespace = &cluster.namespace;
    for name in which.names(cluster, kind).await? {
        cluster.delete(kind, namespace, &name).await?;
        line(&format!("{title} '{name}' deleted from namespace '{namespace}'"))?;
    }
    Ok(())
}

async fn plan(cluster: &Cluster, name: &str, skip_archive: bool, clean_all: bool) -> anyhow::Result<()> {
    let namespace = &cluster.namespace;
    if clean_all {
        cluster.patch("Plan", namespace, name, &json!({"spec": {"deleteVmOnFailMigration": true}})).await?;
    }
    if !skip_archive {
        cluster.patch("Plan", namespace, name, &json!({"spec": {"archived": true}})).await?;
        let start = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            if condition::is_true(&cluster.get("Plan", namespace, name).await?, "Archived") {
                break;
            }
            anyhow::ensure!(
                start.elapsed() < ARCHIVE,
                "timeout waiting for plan '{name}' to be archived after {} s: is the controller running? (--skip-archive deletes it without clean-up)",
                ARCHIVE.as_secs()
            );
        }
    }
    cluster.delete("Plan", namespace, name).await?;
    line(&format!("Plan '{name}' deleted from namespace '{namespace}'"))
}
