//! `start`, `cutover`, `cancel`, `archive`, `unarchive`.

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::delete::Which;
use crate::cluster::{API_VERSION, Cluster};
use crate::output::{dry_run, line};
use crate::{Format, condition, refs};

/// What to start.
#[derive(Subcommand, Debug)]
pub(crate) enum Start {
    /// Migrate the virtual machines of plans
    #[command(alias = "plans")]
    Plan(StartPlan),
}

/// Options of `start plan`.
#[derive(Args, Debug)]
pub(crate) struct StartPlan {
    #[command(flatten)]
    which: Which,
    /// When a warm migration cuts over, RFC 3339
    #[arg(long, short)]
    cutover: Option<String>,
    /// Print what would be made
    #[arg(long)]
    dry_run: bool,
    /// Format of --dry-run
    #[arg(long, short, value_enum, requires = "dry_run")]
    output: Option<Format>,
}

/// What to cut over.
#[derive(Subcommand, Debug)]
pub(crate) enum Cutover {
    /// Warm migrations of plans
    #[command(alias = "plans")]
    Plan(CutoverPlan),
}

/// Options of `cutover plan`.
#[derive(Args, Debug)]
pub(crate) struct CutoverPlan {
    #[command(flatten)]
    which: Which,
    /// When, RFC 3339 [default: now]
    #[arg(long, short)]
    cutover: Option<String>,
}

/// What to cancel.
#[derive(Subcommand, Debug)]
pub(crate) enum Cancel {
    /// Cancel virtual machines of a plan's running migration
    #[command(alias = "plans")]
    Plan {
        /// Name of the plan
        name: Option<String>,
        /// Name of the plan
        #[arg(long = "name", short = 'M', value_name = "NAME")]
        flag: Option<String>,
        /// Names of the machines separated by commas, or @FILE with a list
        #[arg(long, required_unless_present = "all")]
        vms: Option<String>,
        /// All machines of the plan
        #[arg(long, conflicts_with = "vms")]
        all: bool,
    },
}

/// What to archive.
#[derive(Subcommand, Debug)]
pub(crate) enum Archive {
    /// Plans
    #[command(alias = "plans")]
    Plan(Which),
}

impl Start {
    /// Starts the plans.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let Start::Plan(args) = self;
        for name in args.which.names(cluster, "Plan").await? {
            start(cluster, &name, args).await.with_context(|| format!("failed to start plan '{name}'"))?;
        }
        Ok(())
    }
}

async fn start(cluster: &Cluster, name: &str, args: &StartPlan) -> anyhow::Result<()> {
    let namespace = &cluster.namespace;
    let plan = cluster.get("Plan", namespace, name).await?;
    let blockers = condition::blockers(&plan);
    ensure!(
        condition::is_true(&plan, "Ready"),
        "migration plan '{name}' is not ready{}{}",
        if blockers.is_empty() { "" } else { ": " },
        blockers.join("; ")
    );
    ensure!(running(cluster, &plan).await?.is_none(), "migration plan '{name}' already has a running migration");
    ensure!(!condition::is_true(&plan, "Succeeded"), "migration plan '{name}' has already succeeded");
    let warm = plan["spec"]["type"] == "warm" || plan["spec"]["warm"] == true;
    let mut spec = json!({"plan": {"name": name, "namespace": namespace, "uid": plan["metadata"]["uid"]}});
    match (&args.cutover, warm) {
        (Some(time), true) => spec["cutover"] = json!(instant(time)?.to_string()),
        (None, true) => {
            let cutover = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
            eprintln!("Warning: no cutover time given, cutting over in one hour");
            spec["cutover"] = json!(cutover.to_string());
        }
        (Some(_), false) => eprintln!("Warning: the cutover time is ignored: plan '{name}' is not warm"),
        (None, false) => {}
    }
    let migration = json!({
        "apiVersion": API_VERSION, "kind": "Migration",
        "metadata": {
            "generateName": format!("{name}-"), "namespace": namespace,
            "ownerReferences": [{"apiVersion": API_VERSION, "kind": "Plan", "name": name, "uid": plan["metadata"]["uid"]}],
        },
        "spec": spec,
    });
    if args.dry_run {
        return dry_run(&[migration], args.output);
    }
    let made = cluster.create(&migration).await?;
    line(&format!("Migration '{}' of plan '{name}' started", made["metadata"]["name"].as_str().unwrap_or_default()))
}

impl Cutover {
    /// Sets the time at which the running migrations cut over.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let Cutover::Plan(args) = self;
        let time = args.cutover.as_deref().map(instant).transpose()?.unwrap_or_else(jiff::Timestamp::now);
        for name in args.which.names(cluster, "Plan").await? {
            let plan = cluster.get("Plan", &cluster.namespace, &name).await?;
            let warm = plan["spec"]["type"] == "warm" || plan["spec"]["warm"] == true;
            ensure!(warm, "plan '{name}' is not configured for warm migration");
            let Some(migration) = running(cluster, &plan).await? else {
                bail!("no running migration found for plan '{name}'")
            };
            let migration = migration["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let patch = json!({"spec": {"cutover": time.to_string()}});
            cluster.patch("Migration", &cluster.namespace, &migration, &patch).await?;
            line(&format!("Plan '{name}' cuts over at {time}"))?;
        }
        Ok(())
    }
}

/// Parses a time of a flag.
fn instant(text: &str) -> anyhow::Result<jiff::Timestamp> {
    text.parse().with_context(|| format!("failed to parse cutover time '{text}': write it as 2026-12-31T23:00:00Z"))
}

/// Returns the plan's running migration.
async fn running(cluster: &Cluster, plan: &Value) -> anyhow::Result<Option<Value>> {
    let namespace = plan["metadata"]["namespace"].as_str().unwrap_or(&cluster.namespace);
    let list = cluster.api("Migration", namespace).list(&Default::default()).await?;
    let migrations = list.items.into_iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
    let ours = |migration: &Value| {
        migration["spec"]["plan"]["name"] == plan["metadata"]["name"] && condition::is_true(migration, "Running")
    };
    Ok(migrations.into_iter().find(ours))
}

impl Cancel {
    /// Cancels the machines.
    pub async fn run(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let Cancel::Plan { name, flag, vms, all } = self;
        let name = refs::name(name, flag)?;
        let plan = cluster.get("Plan", &cluster.namespace, &name).await?;
        let Some(migration) = running(cluster, &plan).await? else {
            bail!("no running migration found for plan '{name}'")
        };
        let known: Vec<_> = plan["status"]["migration"]["vms"]
            .as_array()
            .or(plan["spec"]["vms"].as_array())
            .cloned()
            .unwrap_or_default();
        let wanted = match vms {
            _ if *all => known.iter().filter_map(|vm| vm["name"].as_str().map(str::to_owned)).collect(),
            Some(text) => names(text)?,
            None => Vec::new(),
        };
        let missing: Vec<_> =
            wanted.iter().filter(|name| !known.iter().any(|vm| vm["name"] == **name)).cloned().collect();
        ensure!(missing.is_empty(), "the following VMs were not found in plan '{name}': [{}]", missing.join(", "));
        let mut cancel: Vec<_> = migration["spec"]["cancel"].as_array().cloned().unwrap_or_default();
        for vm in known.iter().filter(|vm| wanted.iter().any(|name| vm["name"] == **name)) {
            if !cancel.iter().any(|entry| entry["id"] == vm["id"]) {
                cancel.push(json!({"id": vm["id"], "name": vm["name"]}));
            }
        }
        let migration = migration["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        cluster.patch("Migration", &cluster.namespace, &migration, &json!({"spec": {"cancel": cancel}})).await?;
        line(&format!("Canceled {} of plan '{name}'", wanted.join(", ")))
    }
}

/// Reads names from the flag, or from a file with a YAML or JSON list.
fn names(text: &str) -> anyhow::Result<Vec<String>> {
    match text.strip_prefix('@') {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?;
            serde_saphyr::from_str(&text).with_context(|| format!("{path} is not a list of names"))
        }
        None => Ok(text.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()),
    }
}

impl Archive {
    /// Sets or clears `spec.archived`.
    pub async fn run(&self, cluster: &Cluster, archived: bool) -> anyhow::Result<()> {
        let Archive::Plan(which) = self;
        for name in which.names(cluster, "Plan").await? {
            cluster.patch("Plan", &cluster.namespace, &name, &json!({"spec": {"archived": archived}})).await?;
            line(&format!("Plan '{name}' {}", if archived { "archived" } else { "unarchived" }))?;
        }
        Ok(())
    }
}
