//! `get plan`: the list, and the views of one plan's virtual machines and disks.

use clap::Args;
use serde_json::{Value, json};

use super::{List, nothing, placed, select, titles};
use crate::cluster::Cluster;
use crate::output::{Table, cell, coloured, line, print, render, time, with_object};
use crate::{Format, condition};

/// Options of `get plan`.
#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub list: List,
    /// Show the pipeline of each virtual machine
    #[arg(long)]
    pub vms: bool,
    /// Show the disks of each virtual machine
    #[arg(long)]
    pub disk: bool,
}

/// Prints plans.
pub async fn run(cluster: &Cluster, args: &PlanArgs) -> anyhow::Result<()> {
    let wanted = args.list.wanted()?;
    if args.vms || args.disk {
        let flag = match (args.vms, args.disk) {
            (true, true) => "--vms and --disk flags",
            (true, false) => "--vms flag",
            _ => "--disk flag",
        };
        let Some(name) = wanted else { anyhow::bail!("plan NAME is required when using {flag}") };
        let plan = cluster.get("Plan", &cluster.namespace, &name).await?;
        return machines(cluster, &plan, args);
    }
    let plans = select(cluster, "Plan", &args.list).await?;
    let items: Vec<_> = plans.iter().map(|plan| with_object(derived(cluster, plan), plan)).collect();
    let keys = ["source", "target", "vms", "ready", "status", "progress", "cutover", "archived", "created"];
    let row = |item: &Value| {
        let mut row = vec![cell(&item["metadata"]["name"])];
        row.extend(keys.map(|key| cell(&item[key])));
        placed(cluster, row, item)
    };
    let titles = titles(
        cluster,
        &["NAME", "SOURCE", "TARGET", "VMS", "READY", "STATUS", "PROGRESS", "CUTOVER", "ARCHIVED", "CREATED"],
    );
    print(&cluster.global, args.list.output, &items, &titles, row, &nothing(cluster, "plans"))
}

fn derived(cluster: &Cluster, plan: &Value) -> Value {
    let spec = &plan["spec"];
    let running = condition::is_true(plan, "Executing");
    let status = condition::first_true(plan, &["Failed", "Succeeded", "Canceled", "Running", "Executing"]);
    let kind = spec["type"].as_str().filter(|kind| !kind.is_empty()).unwrap_or(if spec["warm"] == true {
        "warm"
    } else {
        "cold"
    });
    json!({
        "metadata": {"name": plan["metadata"]["name"], "namespace": plan["metadata"]["namespace"]},
        "source": spec["provider"]["source"]["name"], "target": spec["provider"]["destination"]["name"],
        "vms": vms(plan, running), "ready": condition::is_true(plan, "Ready").to_string(), "running": running.to_string(),
        "status": status.unwrap_or("-"), "progress": if running { progress(plan) } else { "-".into() }, "cutover": kind,
        "archived": (spec["archived"] == true).to_string(), "created": time(&cluster.global, &plan["metadata"]["creationTimestamp"]),
    })
}

/// While a migration runs: how many ended, and how.
fn vms(plan: &Value, running: bool) -> String {
    let count = plan["spec"]["vms"].as_array().map_or(0, Vec::len);
    if !running {
        return count.to_string();
    }
    let migrated: Vec<_> = plan["status"]["migration"]["vms"].as_array().into_iter().flatten().collect();
    let of = |kind: &str| migrated.iter().filter(|vm| condition::is_true(vm, kind)).count();
    let done = migrated.iter().filter(|vm| !vm["completed"].is_null()).count();
    format!("{done}/{count} (S:{}/F:{}/C:{})", of("Succeeded"), of("Failed"), of("Canceled"))
}

/// Sum of the disk transfers, which count in MiB.
fn progress(plan: &Value) -> String {
    let vms = plan["status"]["migration"]["vms"].as_array().into_iter().flatten();
    let steps = vms.flat_map(|vm| vm["pipeline"].as_array().into_iter().flatten());
    let transfers = steps.filter(|step| step["name"].as_str().is_some_and(|name| name.starts_with("DiskTransfer")));
    let (done, total) = transfers.fold((0.0, 0.0), |(done, total), step| {
        let of = |key: &str| step["progress"][key].as_f64().unwrap_or(0.0);
        (done + of("completed"), total + of("total"))
    });
    if total == 0.0 {
        return "-".into();
    }
    format!("{:.1}% ({:.1}/{:.1} GB)", done * 100.0 / total, done / 1024.0, total / 1024.0)
}

/// Prints the virtual machines of one plan.
fn machines(cluster: &Cluster, plan: &Value, args: &PlanArgs) -> anyhow::Result<()> {
    let migrated = plan["status"]["migration"]["vms"].as_array().cloned().unwrap_or_default();
    match args.list.output {
        Format::Json => return line(&serde_json::to_string_pretty(&migrated)?),
        Format::Yaml => return line(serde_saphyr::to_string(&migrated)?.trim_end()),
        Format::Table | Format::Markdown => {}
    }
    let name = cell(&plan["metadata"]["name"]);
    let history = plan["status"]["migration"]["history"].as_array().and_then(|history| history.last());
    line(&format!("Plan: {name}"))?;
    let Some(migration) = history.map(|snapshot| cell(&snapshot["migration"]["name"])) else {
        line("No migration has been started yet\n")?;
        let rows = plan["spec"]["vms"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|vm| vec![cell(&vm["name"]), cell(&vm["id"])])
            .collect();
        return line(render(&Table { titles: vec!["NAME", "ID"], rows }, coloured(&cluster.global)).trim_end());
    };
    line(&format!("Migration: {migration}"))?;
    for vm in &migrated {
        line(&format!("\nVM: {} ({})", cell(&vm["name"]), cell(&vm["id"])))?;
        let status = condition::first_true(vm, &["Succeeded", "Failed", "Canceled", "Pending"]).unwrap_or("Running");
        line(&format!("Phase: {}   Status: {status}", cell(&vm["phase"])))?;
        if let Some(message) = vm["waitingOn"]["message"].as_str() {
            line(&format!("Waiting: {message} (since {})", time(&cluster.global, &vm["waitingOn"]["since"])))?;
        }
        for reason in vm["error"]["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            line(&format!("Error: {reason}"))?;
        }
        if args.vms {
            line(render(&pipeline(cluster, vm), coloured(&cluster.global)).trim_end())?;
        }
        if args.disk {
            line(render(&disks(cluster, vm), coloured(&cluster.global)).trim_end())?;
        }
    }
    Ok(())
}

/// Returns the pipeline of a virtual machine as a table.
pub fn pipeline(cluster: &Cluster, vm: &Value) -> Table<'static> {
    let steps = vm["pipeline"].as_array().into_iter().flatten();
    let rows = steps.map(|step| {
        vec![
            cell(&step["phase"]),
            cell(&step["name"]),
            time(&cluster.global, &step["started"]),
            time(&cluster.global, &step["completed"]),
            percent(step),
        ]
    });
    Table { titles: vec!["PHASE", "NAME", "STARTED", "COMPLETED", "PROGRESS"], rows: rows.collect() }
}

fn disks(cluster: &Cluster, vm: &Value) -> Table<'static> {
    let steps = vm["pipeline"].as_array().into_iter().flatten();
    let transfers = steps.filter(|step| step["name"].as_str().is_some_and(|name| name.starts_with("DiskTransfer")));
    let tasks = transfers.flat_map(|step| step["tasks"].as_array().into_iter().flatten());
    let rows = tasks.map(|task| {
        let size =
            task["progress"]["total"].as_f64().map(|total| format!("{:.1} GB", total / 1024.0)).unwrap_or_default();
        let number = |key: &str| task["annotations"][key].as_str().and_then(|text| text.parse::<f64>().ok());
        let rate = number("rate")
            .filter(|_| task["completed"].is_null())
            .map(|rate| format!("{:.0} MB/s", rate / 1048576.0))
            .unwrap_or_default();
        let eta =
            number("eta").filter(|_| task["completed"].is_null()).map(|eta| duration(eta as u64)).unwrap_or_default();
        vec![
            cell(&task["name"]),
            cell(&task["phase"]),
            percent(task),
            size,
            cell(&task["annotations"]["transferMethod"]),
            rate,
            eta,
            time(&cluster.global, &task["started"]),
            time(&cluster.global, &task["completed"]),
        ]
    });
    Table {
        titles: vec!["NAME", "PHASE", "PROGRESS", "SIZE", "METHOD", "RATE", "LEFT", "STARTED", "COMPLETED"],
        rows: rows.collect(),
    }
}

fn percent(task: &Value) -> String {
    if !task["completed"].is_null() && task["error"].is_null() {
        return "100.0%".into();
    }
    match (task["progress"]["completed"].as_f64(), task["progress"]["total"].as_f64()) {
        (Some(done), Some(total)) if total > 0.0 => format!("{:.1}%", done * 100.0 / total),
        _ => "-".into(),
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_sum_of_the_disks() {
        let plan = json!({"status": {"migration": {"vms": [
            {"pipeline": [{"name": "DiskTransfer", "progress": {"completed": 512, "total": 1024}}, {"name": "Initialize", "progress": {"completed": 1, "total": 1}}]},
            {"pipeline": [{"name": "DiskTransferV2v", "progress": {"completed": 0, "total": 1024}}]},
        ]}}});
        assert_eq!(progress(&plan), "25.0% (0.5/2.0 GB)");
        assert_eq!(progress(&json!({})), "-");
    }
}
