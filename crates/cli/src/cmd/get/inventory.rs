//! `get inventory`: what a provider has.

use clap::Args;
use forklift_lang::Query;
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
    /// Which, in which order, how many: `memoryMB > 4096 and name ~= 'web.*' order by name limit 10`
    #[arg(long, short, value_name = "TSL")]
    pub query: Option<String>,
    /// Fail when the query does not fit an item, instead of leaving that out
    #[arg(long)]
    pub strict_query: bool,
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
    /// Hosts
    #[value(alias = "hosts")]
    Host,
    /// Clusters
    #[value(alias = "clusters")]
    Cluster,
    /// Datacenters
    #[value(alias = "datacenters")]
    Datacenter,
    /// Folders
    #[value(alias = "folders")]
    Folder,
    /// Datastores
    #[value(alias = "datastores")]
    Datastore,
}

/// Prints a collection.
pub async fn run(cluster: &Cluster, args: &InventoryArgs) -> anyhow::Result<()> {
    let inventory = Inventory::open(cluster, &cluster.namespace, &args.provider).await?;
    let found = find(&inventory, collection(&inventory, args.kind), args.query.as_deref(), args.strict_query).await?;
    if let Some(warning) = &found.warning {
        eprintln!("warning: {warning}");
    }
    let columns: Vec<(&str, Vec<&str>)> = if found.selected.is_empty() {
        columns(args.kind).iter().map(|(title, path)| (*title, path.split('.').collect())).collect()
    } else {
        // what was selected is shown by the name that it was given
        found.selected.iter().map(|name| (name.as_str(), vec![name.as_str()])).collect()
    };
    let titles: Vec<_> = columns.iter().map(|(title, _)| *title).collect();
    let row = |item: &Value| {
        columns.iter().map(|(_, path)| path.iter().fold(item, |value, key| &value[*key])).map(cell).collect()
    };
    let empty = format!("No {} found for provider {}", collection(&inventory, args.kind), inventory.name);
    print(&cluster.global, args.output, &found.items, &titles, row, &empty)
}

/// What a query left of a collection.
struct Found {
    items: Vec<Value>,
    /// The names of the columns that were selected; empty for all.
    selected: Vec<String>,
    warning: Option<String>,
}

/// Asks for a collection. The service applies the query, unless it does not know queries or the query looks at fields
/// that are only made here.
async fn find(inventory: &Inventory, collection: &str, query: Option<&str>, strict: bool) -> anyhow::Result<Found> {
    let parsed = query.map(Query::parse).transpose()?.unwrap_or_default();
    let roots = parsed.roots();
    let text = query.filter(|_| !roots.iter().any(|root| DERIVED.contains(&root.as_str())));
    let answer = inventory.ask(collection, text, strict).await?;
    let selected = parsed.select.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    let done = |mut item: Value| {
        item["provider"] = json!(inventory.name);
        augmented(item)
    };
    if text.is_some() && answer.applied {
        // rows that were selected are what was asked for, and nothing else
        let items = if selected.is_empty() { answer.items.into_iter().map(done).collect() } else { answer.items };
        return Ok(Found { items, selected, warning: answer.warning });
    }
    let items: Vec<Value> = answer.items.into_iter().map(done).collect();
    let outcome = parsed.run(items.iter(), |item| item.as_object().cloned().unwrap_or_default());
    let warning = outcome.warning();
    if let (true, Some(warning)) = (strict, &warning) {
        anyhow::bail!("{warning}");
    }
    let items = match selected.is_empty() {
        true => outcome.items.into_iter().cloned().collect(),
        false => {
            let rows = outcome.items.into_iter().filter_map(Value::as_object);
            rows.map(|item| parsed.project(item).into()).collect()
        }
    };
    Ok(Found { items, selected, warning })
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
        (Kind::Host, _) => "hosts",
        (Kind::Cluster, _) => "clusters",
        (Kind::Datacenter, _) => "datacenters",
        (Kind::Folder, _) => "folders",
        (Kind::Datastore, _) => "datastores",
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
        Kind::Network => &[("NAME", "name"), ("ID", "id"), ("VARIANT", "variant"), ("VLAN", "vlanId")],
        Kind::Storage | Kind::Datastore => &[
            ("NAME", "name"),
            ("ID", "id"),
            ("TYPE", "type"),
            ("CAPACITY", "capacityHuman"),
            ("FREE", "freeHuman"),
            ("MAINTENANCE", "maintenance"),
        ],
        Kind::Host => &[
            ("NAME", "name"),
            ("ID", "id"),
            ("STATUS", "status"),
            ("VERSION", "productVersion"),
            ("MGMT IP", "managementServerIp"),
            ("CORES", "cpuCores"),
            ("SOCKETS", "cpuSockets"),
            ("MAINTENANCE", "inMaintenance"),
        ],
        Kind::Cluster => &[("NAME", "name"), ("ID", "id"), ("DRS", "drsEnabled"), ("HA", "dasEnabled")],
        Kind::Datacenter => &[("NAME", "name"), ("ID", "id"), ("PATH", "path")],
        Kind::Folder => &[("NAME", "name"), ("ID", "id"), ("PARENT", "parent.id"), ("PATH", "path")],
        Kind::Disk => &[("NAME", "name"), ("ID", "id"), ("PATH", "FilePath"), ("SIZE", "sizeHuman")],
        Kind::Namespace => &[("NAME", "name"), ("ID", "id")],
        Kind::Appliance => &[("FILE", "file"), ("STATE", "state"), ("REASON", "error")],
    }
}

/// The fields that [`augmented`] adds, and the provider's name: the service does not know them.
const DERIVED: [&str; 13] = [
    "provider",
    "criticalConcerns",
    "warningConcerns",
    "infoConcerns",
    "concernsHuman",
    "memoryGB",
    "storageUsedGB",
    "diskCapacity",
    "sizeHuman",
    "capacityHuman",
    "freeHuman",
    "powerStateHuman",
    "guest",
];

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
    let gigabytes = |size: f64| json!(format!("{:.1} GB", size / f64::from(1 << 30)));
    if let Some(size) = bytes(&item) {
        item["sizeHuman"] = gigabytes(size);
        item["capacityHuman"] = gigabytes(size);
    }
    for (key, shown) in [("free", "freeHuman"), ("storageUsed", "storageUsedGB")] {
        if let Some(size) = item[key].as_f64() {
            item[shown] = gigabytes(size);
        }
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
    use crate::inventory::tests::{serve, service};

    fn names(found: &Found) -> Vec<&str> {
        found.items.iter().filter_map(|item| item["name"].as_str()).collect()
    }

    /// Answers all VMs whatever is asked, as upstream's service does.
    async fn old_service() -> Inventory {
        let vms = json!([{"name": "web", "memoryMB": 1024}, {"name": "db", "memoryMB": 4096}]);
        let answer = move || {
            let vms = vms.clone();
            async move { axum::Json(vms) }
        };
        serve(axum::Router::new().route("/providers/ova/u/vms", axum::routing::get(answer))).await
    }

    #[tokio::test]
    async fn a_query_gives_the_same_wherever_it_is_applied() {
        for inventory in [service().await, old_service().await] {
            let wanted = Some("select name, memoryMB as mb where memoryMB < 2000");
            let found = find(&inventory, "vms", wanted, false).await.expect("an answer");
            assert_eq!(found.items, [json!({"name": "web", "mb": 1024})]);
            assert_eq!(found.selected, ["name", "mb"]);
            // fields that are made for people are known here only
            let found = find(&inventory, "vms", Some("memoryGB = '1.0 GB' and provider = 'p'"), false).await;
            let found = found.expect("an answer");
            assert_eq!((names(&found), found.selected.len()), (vec!["web"], 0));
            assert_eq!(found.items[0]["memoryGB"], "1.0 GB");
            let first =
                find(&inventory, "vms", Some("order by memoryMB desc limit 1"), false).await.expect("an answer");
            assert_eq!(first.items[0]["memoryMB"], 4096);
        }
        let wrong = find(&service().await, "vms", Some("where name ="), false).await.err().expect("an error");
        assert!(wrong.to_string().contains('^'), "{wrong}");
    }

    #[tokio::test]
    async fn items_that_do_not_fit_are_told() {
        let inventory = service().await;
        let found = find(&inventory, "vms", Some("where cpuCount > 1"), false).await.expect("an answer");
        assert_eq!(names(&found), ["web", "db's"]);
        assert!(found.warning.is_some());
        let both = Some("where cpuCount > 1 and memoryGB != ''");
        assert!(find(&inventory, "vms", both, false).await.expect("an answer").warning.is_some());
        for query in [both, Some("where cpuCount > 1")] {
            assert!(find(&inventory, "vms", query, true).await.is_err(), "{query:?}");
        }
    }

    #[test]
    fn every_field_that_is_added_is_named() {
        let plain = json!({"memoryMB": 1, "disks": [], "concerns": [], "capacity": 1, "free": 1, "storageUsed": 1,
            "powerState": "on", "guestId": "x"});
        let all = augmented(plain.clone());
        let added = all.as_object().into_iter().flatten().map(|(key, _)| key).filter(|key| plain.get(key).is_none());
        let mut added: Vec<&str> = added.map(String::as_str).chain(["provider"]).collect();
        let mut known = DERIVED;
        added.sort_unstable();
        known.sort_unstable();
        assert_eq!(added, known);
    }

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
