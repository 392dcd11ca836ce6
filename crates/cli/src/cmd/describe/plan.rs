//! `describe plan`.

use anyhow::Context;
use serde_json::Value;

use super::Page;
use crate::cmd::get::pipeline;
use crate::condition;
use crate::output::{cell, time};

/// Writes the plan's sections.
pub fn run(page: &Page<'_>, plan: &Value, with_vms: bool, only: Option<&str>) -> anyhow::Result<()> {
    let spec = &plan["spec"];
    let machines: Vec<_> = plan["status"]["migration"]["vms"].as_array().cloned().unwrap_or_default();
    if let Some(name) = only {
        let listed = spec["vms"].as_array().into_iter().flatten().any(|vm| vm["name"] == name || vm["id"] == name);
        anyhow::ensure!(listed, "VM '{name}' is not part of plan '{}'", cell(&plan["metadata"]["name"]));
        let vm = machines.iter().find(|vm| vm["name"] == name || vm["id"] == name);
        return machine(
            page,
            vm.with_context(|| {
                format!(
                    "no migration found for plan '{}'; VM details will be available after the plan starts running",
                    cell(&plan["metadata"]["name"])
                )
            })?,
        );
    }
    page.field("Ready", &condition::is_true(plan, "Ready").to_string())?;
    page.field("Archived", &(spec["archived"] == true).to_string())?;
    page.field(
        "Status",
        condition::first_true(plan, &["Failed", "Succeeded", "Canceled", "Executing"]).unwrap_or("-"),
    )?;
    page.section("SPECIFICATION")?;
    page.field("Source", &cell(&spec["provider"]["source"]["name"]))?;
    page.field("Target", &cell(&spec["provider"]["destination"]["name"]))?;
    page.field("Target Namespace", &cell(&spec["targetNamespace"]))?;
    page.field("Migration Type", spec["type"].as_str().filter(|kind| !kind.is_empty()).unwrap_or("cold"))?;
    page.field(
        "Guest Conversion",
        if spec["skipGuestConversion"] == true { "skipped (raw copy)" } else { "virt-v2v" },
    )?;
    page.field("Network Map", &cell(&spec["map"]["network"]["name"]))?;
    page.field("Storage Map", &cell(&spec["map"]["storage"]["name"]))?;
    page.field("Description", &cell(&spec["description"]))?;
    if let Some(last) = plan["status"]["migration"]["history"].as_array().and_then(|history| history.last()) {
        let of = |kind: &str| machines.iter().filter(|vm| condition::is_true(vm, kind)).count();
        page.section(if condition::is_true(last, "Executing") { "RUNNING MIGRATION" } else { "LATEST MIGRATION" })?;
        page.field("Name", &cell(&last["migration"]["name"]))?;
        page.field(
            "VMs",
            &format!(
                "{} (succeeded {}, failed {}, canceled {})",
                machines.len(),
                of("Succeeded"),
                of("Failed"),
                of("Canceled")
            ),
        )?;
        page.field("Started", &time(&page.cluster.global, &plan["status"]["migration"]["started"]))?;
        page.field("Completed", &time(&page.cluster.global, &plan["status"]["migration"]["completed"]))?;
    }
    if with_vms {
        page.section("VIRTUAL MACHINES")?;
        for vm in &machines {
            machine(page, vm)?;
        }
    }
    Ok(())
}

/// Writes one machine: what it does, what it waits for, what went wrong.
fn machine(page: &Page<'_>, vm: &Value) -> anyhow::Result<()> {
    page.section(&format!("VM {}", cell(&vm["name"])))?;
    page.field("ID", &cell(&vm["id"]))?;
    page.field("Target Name", &cell(&vm["newName"]))?;
    page.field("Phase", &cell(&vm["phase"]))?;
    page.field(
        "Status",
        condition::first_true(vm, &["Succeeded", "Failed", "Canceled", "Pending"]).unwrap_or("Running"),
    )?;
    page.field("OS", &cell(&vm["operatingSystem"]))?;
    page.field("Started", &time(&page.cluster.global, &vm["started"]))?;
    page.field("Completed", &time(&page.cluster.global, &vm["completed"]))?;
    if let Some(message) = vm["waitingOn"]["message"].as_str() {
        page.field(
            "Waiting for",
            &format!("{message} (since {})", time(&page.cluster.global, &vm["waitingOn"]["since"])),
        )?;
    }
    let steps = vm["pipeline"].as_array().into_iter().flatten();
    for task in steps.flat_map(|step| step["tasks"].as_array().into_iter().flatten()) {
        let note = |key: &str| task["annotations"][key].as_str().filter(|text| !text.is_empty());
        if let Some(method) = note("transferMethod") {
            let why = note("transferReason").map(|why| format!(" ({why})")).unwrap_or_default();
            page.field("Disk", &format!("{} by {method}{why}", cell(&task["name"])))?;
        }
    }
    for reason in vm["error"]["reasons"].as_array().into_iter().flatten() {
        page.field("Error", &cell(reason))?;
    }
    page.table(&pipeline(page.cluster, vm))
}
