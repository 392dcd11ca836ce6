//! `get inventory`: what a provider has.

use clap::Args;
use serde_json::{Value, json};

use crate::Format;
use crate::cluster::Cluster;
use crate::inventory::Inventory;
use crate::output::{cell, print};

/// Options of `get inventory`.
#[derive(Args, Debug)]
pub(crate) struct InventoryArgs {
    /// What to list
    #[arg(value_enum)]
    pub kind: Kind,
    /// The provider
    #[arg(long, short)]
    pub provider: String,
    /// Format
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Repeat every few seconds
    #[arg(long, short)]
    pub watch: bool,
}

/// Kinds that an inventory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Virtual machines
    #[value(alias = "vms")]
    Vm,
    /// Networks
    #[value(alias = "networks")]
    Network,
    /// Storages, datastores, storage classes
    #[value(alias = "storages")]
    Storage,
    /// Disks
    #[value(alias = "disks")]
    Disk,
    /// Namespaces of a cluster
    #[value(alias = "namespaces")]
    Namespace,
    /// Appliances, with the reason where one cannot be read
    #[value(alias = "appliances")]
    Appliance,
}

/// Prints a collection.
pub async fn run(cluster: &Cluster, args: &InventoryArgs) -> anyhow::Result<()> {
    let inventory = Inventory::open(cluster, &cluster.namespace, &args.provider).await?;
    let items = inventory.list(collection(&inventory, args.kind)).await?;
    let items: Vec<_> = items.into_iter().map(augmented).collect();
    let columns = columns(args.kind);
    let titles: Vec<_> = columns.iter().map(|(title, _)| *title).collect();
    let row = |item: &Value| {
        columns.iter().map(|(_, path)| path.split('.').fold(item, |value, key| &value[key])).map(cell).collect()
    };
    let empty = format!("No {} found for provider {}", collection(&inventory, args.kind), inventory.name);
    print(&cluster.global, args.output, &items, &titles, row, &empty)
}

fn collection(inventory: &Inventory, kind: Kind) -> &'static str {
    match (kind, inventory.kind.as_str()) {
        (Kind::Vm, _) => "vms",
        (Kind::Network, "openshift") => "networkattachmentdefinitions",
        (Kind::Network, _) => "networks",
        (Kind::Storage, _) => inventory.storages(),
        (Kind::Disk, "openstack") => "volumes",
        (Kind::Disk, _) => "disks",
        (Kind::Namespace, "openstack") => "projects",
        (Kind::Namespace, _) => "namespaces",
        (Kind::Appliance, _) => "appliances",
    }
}

fn columns(kind: Kind) -> &'static [(&'static str, &'static str)] {
    match kind {
        Kind::Vm => &[
            ("NAME", "name"),
            ("ID", "id"),
            ("POWER", "powerStateHuman"),
            ("CPU", "cpuCount"),
            ("MEMORY", "memoryGB"),
            ("DISK", "diskCapacity"),
            ("GUEST OS", "guest"),
            ("CONCERNS (C/W/I)", "concernsHuman"),
        ],
        Kind::Network | Kind::Storage => &[("NAME", "name"), ("ID", "id"), ("VARIANT", "variant")],
        Kind::Disk => &[("NAME", "name"), ("ID", "id"), ("PATH", "FilePath"), ("SIZE", "sizeHuman")],
        Kind::Namespace => &[("NAME", "name"), ("ID", "id")],
        Kind::Appliance => &[("FILE", "file"), ("STATE", "state"), ("REASON", "error")],
    }
}

/// Adds the fields that people read.
fn augmented(mut item: Value) -> Value {
    let concerns: Vec<_> = item["concerns"].as_array().cloned().unwrap_or_default();
    let of = |category: &str| concerns.iter().filter(|concern| concern["category"] == category).count();
    let (critical, warning, info) = (of("Critical"), of("Warning"), of("Information"));
    if item["concerns"].is_array() {
        item["criticalConcerns"] = json!(critical);
        item["warningConcerns"] = json!(warning);
        item["infoConcerns"] = json!(info);
        item["concernsHuman"] = json!(format!("{critical}/{warning}/{info}{}", if critical > 0 { " (*)" } else { "" }));
    }
    if let Some(memory) = item["memoryMB"].as_f64() {
        item["memoryGB"] = json!(format!("{:.1} GB", memory / 1024.0));
    }
    if let Some(disks) = item["disks"].as_array() {
        let capacity: f64 = disks.iter().filter_map(bytes).fold(0.0, |sum, size| sum + size);
        item["diskCapacity"] = json!(format!("{:.1} GB", capacity / f64::from(1 << 30)));
    }
    if let Some(size) = bytes(&item) {
        item["sizeHuman"] = json!(format!("{:.1} GB", size / f64::from(1 << 30)));
    }
    if let Some(power) = item["powerState"].as_str().map(str::to_lowercase) {
        item["powerStateHuman"] =
            json!(if ["on", "up", "running"].iter().any(|word| power.contains(word)) { "On" } else { "Off" });
    }
    item["guest"] = item["guestId"].as_str().or(item["osType"].as_str()).map(Into::into).unwrap_or_default();
    item
}

/// Returns the size of a disk: bytes where the source counts them, an appliance's number times its unit
/// ("byte * 2^20", DSP0243 annex C) otherwise.
fn bytes(disk: &Value) -> Option<f64> {
    if let Some(size) = disk["capacity"].as_f64() {
        return Some(size);
    }
    let unit = disk["CapacityAllocationUnits"].as_str()?.replace(' ', "").to_lowercase();
    let factor = match unit.as_str() {
        "" | "byte" | "bytes" => 1.0,
        "kilobytes" | "kb" => 1024.0,
        "megabytes" | "mb" => f64::from(1 << 20),
        "gigabytes" | "gb" => f64::from(1 << 30),
        power => power.strip_prefix("byte*2^")?.parse::<i32>().ok().map(|exponent| 2f64.powi(exponent))?,
    };
    Some(disk["Capacity"].as_f64()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_gigabytes_and_counts() {
        let vm = augmented(
            json!({"memoryMB": 1536, "disks": [{"capacity": 1u64 << 31}, {"capacity": 1u64 << 30}], "concerns": [{"category": "Critical"}, {"category": "Warning"}]}),
        );
        assert_eq!(
            (&vm["memoryGB"], &vm["diskCapacity"], &vm["concernsHuman"]),
            (&json!("1.5 GB"), &json!("3.0 GB"), &json!("1/1/0 (*)"))
        );
        let disk = augmented(json!({"Capacity": 1024, "CapacityAllocationUnits": "byte * 2^20"}));
        assert_eq!(disk["sizeHuman"], "1.0 GB");
    }
}
