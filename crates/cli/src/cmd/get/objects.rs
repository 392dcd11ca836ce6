//! `get provider`, `mapping`, `hook`, `conversion`.

use serde_json::{Value, json};

use super::{List, nothing, placed, select, titles};
use crate::cluster::Cluster;
use crate::output::{cell, print, time, with_object};
use crate::{condition, inventory};

/// Lists providers with what their inventories count.
pub async fn providers(cluster: &Cluster, list: &List) -> anyhow::Result<()> {
    let objects = select(cluster, "Provider", list).await?;
    // the list is worth printing without its counts
    let counted = inventory::providers(cluster).await.unwrap_or_default();
    let items: Vec<_> = objects
        .iter()
        .map(|provider| {
            let counts = counted.iter().find(|counts| counts["uid"] == provider["metadata"]["uid"]);
            let status = |kind: &str| {
                condition::find(provider, kind)
                    .map_or("False", |condition| condition["status"].as_str().unwrap_or("Unknown"))
                    .to_owned()
            };
            let mut item = json!({
                "metadata": {"name": provider["metadata"]["name"], "namespace": provider["metadata"]["namespace"]},
                "spec": provider["spec"],
                "status": {"phase": provider["status"]["phase"]},
                "conditionStatuses": {
                    "ConnectionStatus": status("ConnectionTestSucceeded"), "ValidationStatus": status("Validated"),
                    "InventoryStatus": status("InventoryCreated"), "ReadyStatus": status("Ready"),
                },
            });
            for (key, value) in
                counts.and_then(Value::as_object).into_iter().flatten().filter(|(key, _)| key.ends_with("Count"))
            {
                item[key] = value.clone();
            }
            with_object(item, provider)
        })
        .collect();
    let row = |item: &Value| {
        let statuses = &item["conditionStatuses"];
        placed(
            cluster,
            vec![
                cell(&item["metadata"]["name"]),
                cell(&item["spec"]["type"]),
                cell(&item["spec"]["url"]),
                cell(&item["status"]["phase"]),
                cell(&statuses["ConnectionStatus"]),
                cell(&statuses["InventoryStatus"]),
                cell(&statuses["ReadyStatus"]),
                cell(&item["vmCount"]),
                cell(&item["networkCount"]),
            ],
            item,
        )
    };
    let titles =
        titles(cluster, &["NAME", "TYPE", "URL", "STATUS", "CONNECTED", "INVENTORY", "READY", "VMS", "NETWORKS"]);
    print(&cluster.global, list.output, &items, &titles, row, &nothing(cluster, "providers"))
}

/// Lists maps.
pub async fn mappings(cluster: &Cluster, list: &List, kinds: &[&str]) -> anyhow::Result<()> {
    let mut items = Vec::new();
    for kind in kinds {
        let found = match (select(cluster, kind, list).await, kinds.len()) {
            // a name is looked for among both kinds
            (Err(_), 2) if list.wanted()?.is_some() => continue,
            (found, _) => found?,
        };
        items.extend(found.iter().map(|map| {
            let status = match condition::find(map, "Ready") {
                Some(ready) if ready["status"] == "True" => "Ready",
                _ if map["status"].is_null() => "",
                _ => "Not Ready",
            };
            with_object(json!({
                "name": map["metadata"]["name"], "namespace": map["metadata"]["namespace"], "type": kind,
                "source": map["spec"]["provider"]["source"]["name"], "target": map["spec"]["provider"]["destination"]["name"],
                "status": status, "owner": map["metadata"]["ownerReferences"][0]["name"],
                "created": time(&cluster.global, &map["metadata"]["creationTimestamp"]),
                "metadata": {"namespace": map["metadata"]["namespace"]},
            }), map)
        }));
    }
    let row = |item: &Value| {
        placed(
            cluster,
            ["name", "type", "source", "target", "status", "owner", "created"].map(|key| cell(&item[key])).to_vec(),
            item,
        )
    };
    let titles = titles(cluster, &["NAME", "TYPE", "SOURCE", "TARGET", "STATUS", "OWNER", "CREATED"]);
    print(&cluster.global, list.output, &items, &titles, row, &nothing(cluster, "mappings"))
}

/// Lists hooks.
pub async fn hooks(cluster: &Cluster, list: &List) -> anyhow::Result<()> {
    let items: Vec<_> = select(cluster, "Hook", list).await?.iter().map(|hook| {
        let spec = &hook["spec"];
        let yes = |value: &Value| if value.as_str().is_some_and(|text| !text.is_empty()) { "Yes" } else { "No" };
        with_object(json!({
            "name": hook["metadata"]["name"], "namespace": hook["metadata"]["namespace"], "image": spec["image"],
            "serviceAccount": spec["serviceAccount"], "deadline": spec["deadline"], "playbook": yes(&spec["playbook"]),
            "status": if condition::is_true(hook, "Ready") { "Ready" } else { "Not Ready" },
            "created": time(&cluster.global, &hook["metadata"]["creationTimestamp"]),
            "metadata": {"namespace": hook["metadata"]["namespace"]},
        }), hook)
    }).collect();
    let row = |item: &Value| {
        placed(
            cluster,
            ["name", "image", "serviceAccount", "deadline", "playbook", "status", "created"]
                .map(|key| cell(&item[key]))
                .to_vec(),
            item,
        )
    };
    let titles = titles(cluster, &["NAME", "IMAGE", "SERVICE ACCOUNT", "DEADLINE", "PLAYBOOK", "STATUS", "CREATED"]);
    print(&cluster.global, list.output, &items, &titles, row, &nothing(cluster, "hooks"))
}

/// Lists conversions.
pub async fn conversions(cluster: &Cluster, list: &List) -> anyhow::Result<()> {
    let items: Vec<_> = select(cluster, "Conversion", list).await?.iter().map(|conversion| {
        let vm = &conversion["spec"]["vm"];
        with_object(json!({
            "name": conversion["metadata"]["name"], "namespace": conversion["metadata"]["namespace"], "type": conversion["spec"]["type"],
            "vm": vm["name"].as_str().or(vm["id"].as_str()), "phase": conversion["status"]["phase"], "stage": conversion["status"]["stage"],
            "created": time(&cluster.global, &conversion["metadata"]["creationTimestamp"]),
            "metadata": {"namespace": conversion["metadata"]["namespace"]},
        }), conversion)
    }).collect();
    let row = |item: &Value| {
        placed(cluster, ["name", "type", "vm", "phase", "stage", "created"].map(|key| cell(&item[key])).to_vec(), item)
    };
    let titles = titles(cluster, &["NAME", "TYPE", "VM", "PHASE", "STAGE", "CREATED"]);
    print(&cluster.global, list.output, &items, &titles, row, &nothing(cluster, "conversions"))
}
