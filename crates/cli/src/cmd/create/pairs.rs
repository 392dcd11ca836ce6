//! Maps as users write them: `source:target` pairs, or made from what the machines use.

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::inventory::Inventory;

/// One network pair: source name, VLAN, target.
#[derive(Debug, PartialEq, Eq)]
struct Pair<'a> {
    source: &'a str,
    vlan: Option<u16>,
    target: &'a str,
}

fn pair(text: &str) -> anyhow::Result<Pair<'_>> {
    let Some((source, target)) = text.split_once(':') else {
        bail!(
            "invalid network pair format '{text}': expected 'source:target-namespace/target-network', 'source:target-network', 'source:default', or 'source:ignored'"
        );
    };
    let (source, target) = (source.trim(), target.trim());
    let (source, vlan) = match source.rsplit_once('@') {
        None => (source, None),
        Some(("", _)) => bail!("source network name cannot be empty before @vlan"),
        Some((_, "")) => bail!("VLAN value cannot be empty after @"),
        Some((name, vlan)) => {
            let number: u16 =
                vlan.parse().ok().with_context(|| format!("VLAN must be a number (1-4094), got '{vlan}'"))?;
            ensure!((1..=4094).contains(&number), "VLAN must be in range 1-4094, got {number}");
            (name, Some(number))
        }
    };
    Ok(Pair { source, vlan, target })
}

/// Turns a target of a network pair into a destination.
pub fn network_destination(target: &str, namespace: &str) -> Value {
    match target {
        "default" => json!({"type": "pod"}),
        "ignored" => json!({"type": "ignored"}),
        _ => {
            let (namespace, name) = crate::refs::qualified(target, namespace);
            json!({"type": "multus", "namespace": if namespace.is_empty() { target } else { namespace }, "name": name})
        }
    }
}

/// Returns the rows of a network map from `--network-pairs`.
pub async fn networks(inventory: &Inventory, pairs: &str, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let known = inventory.list("networks").await?;
    let mut rows = Vec::new();
    let mut pods = 0;
    for text in pairs.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let pair = pair(text)?;
        pods += usize::from(pair.target == "default");
        ensure!(
            pods < 2,
            "invalid network mapping: Pod network ('default') can only be mapped once. Found duplicate mapping to 'default' in '{text}'. Use '{}:ignored' to leave it out",
            pair.source
        );
        let matches: Vec<_> = known.iter().filter(|network| network["name"] == pair.source).collect();
        ensure!(
            !matches.is_empty(),
            "network '{}' not found in virtualization provider inventory: it has {}",
            pair.source,
            listed(&known)
        );
        for network in matches {
            let mut source = json!({"id": network["id"]});
            if let Some(vlan) = pair.vlan {
                source["vlan"] = json!(vlan.to_string());
            }
            rows.push(json!({"source": source, "destination": network_destination(pair.target, namespace)}));
        }
    }
    Ok(rows)
}

/// Returns the rows of a storage map from `--storage-pairs`.
pub async fn storages(inventory: &Inventory, pairs: &str) -> anyhow::Result<Vec<Value>> {
    let known = inventory.list(inventory.storages()).await?;
    let mut rows = Vec::new();
    for text in pairs.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let Some((source, target)) = text.split_once(':') else {
            bail!("invalid storage pair format '{text}': expected 'source:storage-class'")
        };
        let mut parts = target.split(';').map(str::trim);
        let class = parts.next().unwrap_or_default();
        let class = class.rsplit_once('/').map_or(class, |(_, class)| class);
        ensure!(!class.is_empty(), "invalid target format '{target}': storage class must be specified");
        let mut destination = json!({"storageClass": class});
        for option in parts.filter(|part| !part.is_empty()) {
            let Some((key, value)) = option.split_once('=') else {
                bail!("invalid option format '{option}': expected 'key=value'")
            };
            let allowed: &[&str] = match key {
                "volumeMode" => &["Filesystem", "Block"],
                "accessMode" => &["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
                _ => bail!("unknown option '{key}' in storage pair"),
            };
            ensure!(allowed.contains(&value), "invalid {key} '{value}': must be one of: {}", allowed.join(", "));
            destination[key] = json!(value);
        }
        let matches: Vec<_> = known.iter().filter(|storage| storage["name"] == source.trim()).collect();
        ensure!(
            !matches.is_empty(),
            "storage '{}' not found in virtualization provider inventory: it has {}",
            source.trim(),
            listed(&known)
        );
        rows.extend(matches.into_iter().map(
            |storage| json!({"source": {"id": storage["id"], "name": storage["name"]}, "destination": destination}),
        ));
    }
    Ok(rows)
}

/// Maps the networks that the machines use: the first to `target`, the others to nothing.
pub async fn automatic_networks(
    inventory: &Inventory,
    vms: &[Value],
    target: Option<&str>,
    namespace: &str,
) -> anyhow::Result<Vec<Value>> {
    let mut used: Vec<Value> = Vec::new();
    for id in vms.iter().flat_map(|vm| vm["networks"].as_array().into_iter().flatten()).map(id) {
        if !id.is_null() && !used.contains(id) {
            used.push(id.clone());
        }
    }
    if used.is_empty() {
        return Ok(vec![json!({"source": {"type": "pod"}, "destination": {"type": "pod"}})]);
    }
    let _ = inventory;
    let first = network_destination(target.unwrap_or("default"), namespace);
    Ok(used.into_iter().enumerate().map(|(index, id)| json!({"source": {"id": id}, "destination": if index == 0 { first.clone() } else { json!({"type": "ignored"}) }})).collect())
}

/// Maps the storages that the machines use to one class: the given one, else the target's default.
pub async fn automatic_storages(
    cluster: &Cluster,
    inventory: &Inventory,
    target: (&str, &str),
    class: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let class = match class {
        Some(class) => class.to_owned(),
        None => default_class(&Inventory::open(cluster, target.0, target.1).await?.list("storageclasses").await?)?,
    };
    let known = inventory.list(inventory.storages()).await?;
    Ok(known.into_iter().map(|storage| json!({"source": {"id": storage["id"], "name": storage["name"]}, "destination": {"storageClass": class}})).collect())
}

/// Chooses the class for virtual machines' disks.
fn default_class(classes: &[Value]) -> anyhow::Result<String> {
    let annotated = |key: &str| classes.iter().find(|class| class["object"]["metadata"]["annotations"][key] == "true");
    let virtualization = || {
        classes
            .iter()
            .find(|class| class["name"].as_str().is_some_and(|name| name.to_lowercase().contains("virtualization")))
    };
    let chosen = annotated("storageclass.kubevirt.io/is-default-virt-class")
        .or_else(|| annotated("storageclass.kubernetes.io/is-default-class"))
        .or_else(virtualization)
        .or(classes.first());
    Ok(chosen
        .and_then(|class| class["name"].as_str())
        .context("no storage classes found on the target: make one, or name one with --default-target-storage-class")?
        .to_owned())
}

/// Networks of a machine are references, spelled `id` or `ID`.
fn id(reference: &Value) -> &Value {
    if reference["id"].is_null() { &reference["ID"] } else { &reference["id"] }
}

fn listed(known: &[Value]) -> String {
    let names: Vec<_> = known.iter().filter_map(|item| item["name"].as_str()).map(|name| format!("'{name}'")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_written() {
        assert_eq!(
            pair("VM Network:default").expect("a pair"),
            Pair { source: "VM Network", vlan: None, target: "default" }
        );
        assert_eq!(
            pair("trunk@12: net/blue ").expect("a pair"),
            Pair { source: "trunk", vlan: Some(12), target: "net/blue" }
        );
        for (text, message) in [
            ("x", "invalid network pair format"),
            ("@1:default", "cannot be empty before"),
            ("a@:default", "cannot be empty after"),
            ("a@x:default", "got 'x'"),
            ("a@4095:default", "range 1-4094"),
        ] {
            let error = pair(text).expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn targets_become_destinations() {
        assert_eq!(network_destination("blue", "ns"), json!({"type": "multus", "namespace": "ns", "name": "blue"}));
        assert_eq!(
            network_destination("other/blue", "ns"),
            json!({"type": "multus", "namespace": "other", "name": "blue"})
        );
        assert_eq!(network_destination("default", "ns"), json!({"type": "pod"}));
    }

    #[test]
    fn the_class_for_virtual_machines_comes_first() {
        let class =
            |name: &str, key: &str| json!({"name": name, "object": {"metadata": {"annotations": {key: "true"}}}});
        let classes = [
            class("a", "x"),
            class("b", "storageclass.kubernetes.io/is-default-class"),
            class("c", "storageclass.kubevirt.io/is-default-virt-class"),
        ];
        assert_eq!(default_class(&classes).expect("a class"), "c");
        assert_eq!(default_class(&classes[..2]).expect("a class"), "b");
        assert!(default_class(&[]).is_err());
    }
}
