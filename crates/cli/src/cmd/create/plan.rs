//! `create plan`: the maps it needs, then the plan.

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::mapping::map;
use super::{DryRun, pairs, reference};
use crate::cluster::{API_VERSION, Cluster};
use crate::inventory::Inventory;
use crate::output::{dry_run, line};
use crate::refs;

/// Options of `create plan`.
#[derive(Args, Debug)]
pub(crate) struct PlanArgs {
    /// Name of the plan
    name: Option<String>,
    /// Name of the plan
    #[arg(long = "name", short = 'M', value_name = "NAME")]
    flag: Option<String>,
    /// Source provider, NAME or NAMESPACE/NAME
    #[arg(long, short = 'S', alias = "source-provider")]
    source: String,
    /// Target provider [default: the local cluster's]
    #[arg(long, short = 't', alias = "target-provider")]
    target: Option<String>,
    /// Machines: names or ids separated by commas, or @FILE with a list in YAML or JSON
    #[arg(long)]
    vms: String,
    /// Namespace of the migrated machines [default: the plan's]
    #[arg(long)]
    target_namespace: Option<String>,
    /// Existing network map
    #[arg(long, conflicts_with = "network_pairs")]
    network_mapping: Option<String>,
    /// Existing storage map
    #[arg(long, conflicts_with = "storage_pairs")]
    storage_mapping: Option<String>,
    /// Network pairs `source:target`
    #[arg(long)]
    network_pairs: Option<String>,
    /// Storage pairs `source:class`
    #[arg(long)]
    storage_pairs: Option<String>,
    /// Target of the first network that no pair names
    #[arg(long, short = 'N')]
    default_target_network: Option<String>,
    /// Storage class of the storages that no pair names
    #[arg(long)]
    default_target_storage_class: Option<String>,
    /// Hook before each machine's migration
    #[arg(long)]
    pre_hook: Option<String>,
    /// Hook after each machine's migration
    #[arg(long)]
    post_hook: Option<String>,
    /// Kind of migration
    #[arg(long, short = 'm', value_parser = ["cold", "warm", "live", "conversion"])]
    migration_type: Option<String>,
    /// What the plan is for
    #[arg(long)]
    description: Option<String>,
    /// Copy the disks without converting the guests
    #[arg(long)]
    skip_guest_conversion: bool,
    /// With a raw copy: devices that every guest knows
    #[arg(long, action = clap::ArgAction::Set, num_args = 1, value_parser = clap::builder::BoolishValueParser::new())]
    use_compatibility_mode: Option<bool>,
    /// Keep the guests' static addresses
    #[arg(long, action = clap::ArgAction::Set, num_args = 1, value_parser = clap::builder::BoolishValueParser::new())]
    preserve_static_ips: Option<bool>,
    /// Delete the target machine when a migration fails
    #[arg(long, action = clap::ArgAction::Set, num_args = 1, value_parser = clap::builder::BoolishValueParser::new())]
    delete_vm_on_fail_migration: Option<bool>,
    /// Delete the conversion pod after success
    #[arg(long)]
    delete_guest_conversion_pod: bool,
    /// Network of the transfer, an attachment definition NAME or NAMESPACE/NAME
    #[arg(long)]
    transfer_network: Option<String>,
    /// Service account of the migration's pods
    #[arg(long)]
    service_account: Option<String>,
    /// Image of the conversion pod
    #[arg(long)]
    virt_v2v_image: Option<String>,
    /// Template of the claims' names
    #[arg(long)]
    pvc_name_template: Option<String>,
    /// Labels of the migrated machines, KEY=VALUE separated by commas
    #[arg(long, short = 'L', value_delimiter = ',')]
    target_labels: Vec<String>,
    /// Labels of the nodes where the machines may run, KEY=VALUE
    #[arg(long, value_delimiter = ',')]
    target_node_selector: Vec<String>,
    /// Power state after the migration
    #[arg(long, value_parser = ["on", "off", "auto"])]
    target_power_state: Option<String>,
    #[command(flatten)]
    dry: DryRun,
}

/// Creates the plan and its maps.
pub async fn run(cluster: &Cluster, args: &PlanArgs) -> anyhow::Result<()> {
    let name = refs::name(&args.name, &args.flag)?;
    let namespace = cluster.namespace.clone();
    let mut vms = machines(&args.vms)?;
    if !args.dry.dry_run && cluster.find("Plan", &namespace, &name).await?.is_some() {
        bail!("plan '{name}' already exists in namespace '{namespace}'");
    }
    let (source_namespace, source) = refs::qualified(&args.source, &namespace);
    let target = match &args.target {
        Some(target) => target.clone(),
        None => {
            let target = default_target(cluster).await.context("failed to get default target provider")?;
            eprintln!("No target provider specified, using default OpenShift provider: {target}");
            target
        }
    };
    let (target_namespace, target) = refs::qualified(&target, &namespace);
    let inventory =
        Inventory::open(cluster, source_namespace, source).await.context("failed to read the source's inventory")?;
    let known = inventory.list("vms").await?;
    let chosen = resolve(&mut vms, &known)?;
    add_hooks(&mut vms, args, &namespace);

    let providers =
        || (reference("Provider", source_namespace, source), reference("Provider", target_namespace, target));
    let guests = args.target_namespace.clone().unwrap_or_else(|| namespace.clone());
    let mut objects = Vec::new();
    let network = match (&args.network_mapping, &args.network_pairs) {
        (Some(existing), _) => existing.clone(),
        (None, written) => {
            let (made, rows) = match written {
                Some(written) => (format!("{name}-network"), pairs::networks(&inventory, written, &namespace).await?),
                None => (
                    format!("{name}-network-map"),
                    pairs::automatic_networks(&inventory, &chosen, args.default_target_network.as_deref(), &namespace)
                        .await?,
                ),
            };
            objects.push(map("NetworkMap", &namespace, &made, providers().0, providers().1, rows));
            made
        }
    };
    let storage = match (&args.storage_mapping, &args.storage_pairs) {
        (Some(existing), _) => existing.clone(),
        (None, written) => {
            let (made, rows) = match written {
                Some(written) => (format!("{name}-storage"), pairs::storages(&inventory, written).await?),
                None => {
                    let class = args.default_target_storage_class.as_deref();
                    (
                        format!("{name}-storage-map"),
                        pairs::automatic_storages(cluster, &inventory, (target_namespace, target), class).await?,
                    )
                }
            };
            objects.push(map("StorageMap", &namespace, &made, providers().0, providers().1, rows));
            made
        }
    };
    let mut spec = spec(args)?;
    spec.insert("targetNamespace".into(), json!(guests));
    spec.insert("provider".into(), json!({"source": providers().0, "destination": providers().1}));
    spec.insert("map".into(), json!({"network": reference("NetworkMap", &namespace, &network), "storage": reference("StorageMap", &namespace, &storage)}));
    spec.insert("vms".into(), json!(vms));
    let plan = json!({"apiVersion": API_VERSION, "kind": "Plan", "metadata": {"name": name, "namespace": namespace}, "spec": spec});
    if args.dry.dry_run {
        objects.push(plan);
        return dry_run(&objects, args.dry.output);
    }
    let mut made = Vec::new();
    let outcome = async {
        for object in &objects {
            cluster.create(object).await?;
            made.push((
                object["kind"].as_str().unwrap_or_default(),
                object["metadata"]["name"].as_str().unwrap_or_default(),
            ));
        }
        cluster.create(&plan).await
    };
    let plan = match outcome.await {
        Ok(plan) => plan,
        Err(error) => {
            for (kind, name) in made {
                let _ = cluster.delete(kind, &namespace, name).await;
            }
            return Err(error);
        }
    };
    // the maps made here end with the plan
    let owner = json!({"metadata": {"ownerReferences": [{"apiVersion": API_VERSION, "kind": "Plan", "name": name, "uid": plan["metadata"]["uid"], "controller": true}]}});
    for (kind, map) in made {
        cluster.patch(kind, &namespace, map, &owner).await?;
        line(&format!("{}/{map} created", kind.to_lowercase()))?;
    }
    line(&format!("plan/{name} created"))
}

/// Reads `--vms`: names, or a file of entries. Both spellings of entries are known: flat, and with the reference nested.
fn machines(text: &str) -> anyhow::Result<Vec<Value>> {
    let Some(path) = text.strip_prefix('@') else {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let vms: Vec<_> = names.map(|name| json!({"name": name})).collect();
        ensure!(!vms.is_empty(), "--vms names no virtual machine");
        return Ok(vms);
    };
    let text = if path == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(path).with_context(|| format!("failed to read {path}"))?
    };
    let entries: Vec<Value> =
        serde_saphyr::from_str(&text).with_context(|| format!("{path} is not a list of virtual machines"))?;
    entries
        .into_iter()
        .map(|entry| match entry {
            Value::String(name) => Ok(json!({"name": name})),
            Value::Object(mut fields) => {
                if let Some(Value::Object(reference)) = fields.remove("ref") {
                    fields.extend(reference);
                }
                for (lower, camel) in [
                    ("targetname", "targetName"),
                    ("rootdisk", "rootDisk"),
                    ("pvcnametemplate", "pvcNameTemplate"),
                    ("instancetype", "instanceType"),
                    ("targetpowerstate", "targetPowerState"),
                ] {
                    if let Some(value) = fields.remove(lower) {
                        fields.insert(camel.into(), value);
                    }
                }
                fields.retain(|_, value| !(value.is_null() || *value == json!("")));
                Ok(Value::Object(fields))
            }
            other => bail!("{path}: '{other}' is not a virtual machine"),
        })
        .collect()
}

/// Fills in ids and names from the inventory and returns the machines as the inventory has them.
fn resolve(vms: &mut [Value], known: &[Value]) -> anyhow::Result<Vec<Value>> {
    let mut chosen = Vec::new();
    for vm in vms.iter_mut() {
        let wanted = vm["id"].as_str().or(vm["name"].as_str()).unwrap_or_default().to_owned();
        let by_id = known.iter().filter(|known| known["id"] == wanted.as_str());
        let found: Vec<_> = by_id.chain(known.iter().filter(|known| known["name"] == wanted.as_str())).collect();
        match found.as_slice() {
            [] => {
                let names: Vec<_> = known.iter().filter_map(|known| known["name"].as_str()).take(20).collect();
                bail!(
                    "virtual machine '{wanted}' not found in the source provider: it has {}",
                    if names.is_empty() { "none".into() } else { names.join(", ") }
                );
            }
            [one] => {
                vm["id"] = one["id"].clone();
                vm["name"] = one["name"].clone();
                chosen.push((*one).clone());
            }
            several => {
                let ids: Vec<_> = several.iter().filter_map(|vm| vm["id"].as_str()).collect();
                bail!("several virtual machines are called '{wanted}': name the one by its id ({})", ids.join(", "));
            }
        }
    }
    Ok(chosen)
}

fn add_hooks(vms: &mut [Value], args: &PlanArgs, namespace: &str) {
    for (step, hook) in [("PreHook", &args.pre_hook), ("PostHook", &args.post_hook)] {
        let Some(hook) = hook else { continue };
        for vm in vms.iter_mut() {
            let entry = json!({"step": step, "hook": reference("Hook", namespace, hook)});
            match vm["hooks"].as_array_mut() {
                Some(hooks) => hooks.push(entry),
                None => vm["hooks"] = json!([entry]),
            }
        }
    }
}

/// Prefers the provider of the local cluster.
async fn default_target(cluster: &Cluster) -> anyhow::Result<String> {
    let providers = cluster.list("Provider").await?;
    let targets: Vec<_> = providers.iter().filter(|provider| provider["spec"]["type"] == "openshift").collect();
    let local = targets.iter().find(|provider| provider["spec"]["url"].as_str().unwrap_or_default().is_empty());
    let chosen = local
        .or(targets.first())
        .with_context(|| format!("no OpenShift provider found in namespace '{}'", cluster.namespace))?;
    Ok(chosen["metadata"]["name"].as_str().unwrap_or_default().to_owned())
}

/// Returns the fields that flags set; what is not given is left to the defaults of the definition.
fn spec(args: &PlanArgs) -> anyhow::Result<Map<String, Value>> {
    let mut spec = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(key.into(), value);
        }
    };
    set("type", args.migration_type.as_ref().map(|kind| json!(kind)));
    set("warm", (args.migration_type.as_deref() == Some("warm")).then(|| json!(true)));
    set("description", args.description.as_ref().map(|text| json!(text)));
    set("skipGuestConversion", args.skip_guest_conversion.then(|| json!(true)));
    set("useCompatibilityMode", args.use_compatibility_mode.map(|on| json!(on)));
    set("preserveStaticIPs", args.preserve_static_ips.map(|on| json!(on)));
    set("deleteVmOnFailMigration", args.delete_vm_on_fail_migration.map(|on| json!(on)));
    set("deleteGuestConversionPod", args.delete_guest_conversion_pod.then(|| json!(true)));
    set("serviceAccount", args.service_account.as_ref().map(|account| json!(account)));
    set("virtV2vImage", args.virt_v2v_image.as_ref().map(|image| json!(image)));
    set("pvcNameTemplate", args.pvc_name_template.as_ref().map(|template| json!(template)));
    set("targetPowerState", args.target_power_state.as_ref().map(|state| json!(state)));
    set("targetLabels", labels(&args.target_labels, "target label")?);
    set("targetNodeSelector", labels(&args.target_node_selector, "target node selector")?);
    if let Some(network) = &args.transfer_network {
        let (namespace, name) = network.split_once('/').unwrap_or(("", network));
        let mut reference =
            json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition", "name": name});
        if !namespace.is_empty() {
            reference["namespace"] = json!(namespace);
        }
        set("transferNetwork", Some(reference));
    }
    Ok(spec)
}

fn labels(pairs: &[String], what: &str) -> anyhow::Result<Option<Value>> {
    if pairs.is_empty() {
        return Ok(None);
    }
    let mut map = Map::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else { bail!("invalid {what}: {pair}") };
        map.insert(key.trim().into(), json!(value.trim()));
    }
    Ok(Some(Value::Object(map)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_found_by_name_or_id_and_never_guessed() {
        let known =
            [json!({"id": "1", "name": "web"}), json!({"id": "2", "name": "db"}), json!({"id": "3", "name": "db"})];
        let mut vms = machines("web, 2").expect("a list");
        let chosen = resolve(&mut vms, &known).expect("both are there");
        assert_eq!(vms, [json!({"name": "web", "id": "1"}), json!({"name": "db", "id": "2"})]);
        assert_eq!(chosen.len(), 2);
        let ambiguous =
            resolve(&mut machines("db").expect("a list"), &known).expect_err("two have the name").to_string();
        assert!(ambiguous.contains("(2, 3)"), "{ambiguous}");
        let missing =
            resolve(&mut machines("mail").expect("a list"), &known).expect_err("none has the name").to_string();
        assert!(missing.contains("it has web, db"), "{missing}");
    }
}
