//! The collections of a vSphere provider, its trees and workloads.

use std::collections::HashMap;
use std::sync::Arc;

use forklift_inventory::{
    Asked, Count, Field, KindSpec, Node, PathMatch, ProviderSpec, Record, Resource, Store, Tree, restore,
};
use serde_json::{Map, Value};

use super::model::{Cluster, Datacenter, Datastore, Folder, Host, Network, Ref, Vm};

/// Names of the collections.
pub mod kinds {
    /// Datacenters.
    pub const DATACENTERS: &str = "datacenters";
    /// Folders.
    pub const FOLDERS: &str = "folders";
    /// Clusters.
    pub const CLUSTERS: &str = "clusters";
    /// Hosts.
    pub const HOSTS: &str = "hosts";
    /// Networks.
    pub const NETWORKS: &str = "networks";
    /// Datastores.
    pub const DATASTORES: &str = "datastores";
    /// VMs and templates.
    pub const VMS: &str = "vms";
}

use kinds::{CLUSTERS, DATACENTERS, DATASTORES, FOLDERS, HOSTS, NETWORKS, VMS};

/// The inventory of a vSphere provider.
pub static SPEC: ProviderSpec = ProviderSpec {
    provider_type: "vsphere",
    kinds: &[
        kind(DATACENTERS, PathMatch::None, restore::<Datacenter>),
        kind(FOLDERS, PathMatch::None, restore::<Folder>),
        // compute resources of single hosts are shown one by one and in trees only, as upstream does
        KindSpec { hidden: Some(is_standalone), ..kind(CLUSTERS, PathMatch::Root, restore::<Cluster>) },
        KindSpec {
            asked: Some(Asked { parameter: "advancedOption", key: "advancedOptions" }),
            ..kind(HOSTS, PathMatch::Root, restore::<Host>)
        },
        kind(NETWORKS, PathMatch::Root, restore::<Network>),
        kind(DATASTORES, PathMatch::Root, restore::<Datastore>),
        KindSpec {
            summary: Some(&VM_SUMMARY),
            validated: true,
            full_lists: true,
            hidden: Some(is_hidden),
            ..kind(VMS, PathMatch::Suffix, restore::<Vm>)
        },
    ],
    workloads: Some(VMS),
    workload: Some(workload),
    trees: &[Tree { name: "host", build: host_tree }, Tree { name: "vm", build: vm_tree }],
    blanks: &["apiVersion", "product", "instanceUuid"],
    counts: &[
        Count { key: "datacenterCount", kind: DATACENTERS, plus: 0 },
        Count { key: "clusterCount", kind: CLUSTERS, plus: 0 },
        Count { key: "hostCount", kind: HOSTS, plus: 0 },
        Count { key: "vmCount", kind: VMS, plus: 0 },
        Count { key: "networkCount", kind: NETWORKS, plus: 0 },
        Count { key: "datastoreCount", kind: DATASTORES, plus: 0 },
    ],
};

const BASE: [Field; 7] = Field::all(["id", "variant", "parent", "path", "revision", "name", "selfLink"]);
const VM_SUMMARY: [Field; 14] = Field::all([
    "id",
    "variant",
    "parent",
    "path",
    "revision",
    "name",
    "selfLink",
    "revisionValidated",
    "isTemplate",
    "powerState",
    "host",
    "networks",
    "disks",
    "concerns",
]);

const fn kind(name: &'static str, path_match: PathMatch, restore: fn(&str) -> Option<Arc<dyn Resource>>) -> KindSpec {
    KindSpec { name, base: &BASE, path_match, restore: Some(restore), ..KindSpec::PLAIN }
}

fn is_standalone(record: &Record) -> bool {
    record.native::<Cluster>().is_some_and(|cluster| cluster.standalone)
}

/// Templates, and VMs that are registered nowhere and have no identity.
fn is_hidden(record: &Record) -> bool {
    record.native::<Vm>().is_some_and(|vm| vm.is_template || vm.is_ghost())
}

/// Returns a VM's workload: the VM with its host, and that with its cluster.
fn workload(store: &Store, record: &Record) -> Result<Value, String> {
    let vm = record.native::<Vm>().ok_or_else(|| format!("{} is no VM", record.name))?;
    let unseen = |what: &str, id: &str| {
        format!(
            "{what} {id} of VM {} is not in the inventory: the provider's user may not be allowed to see it",
            record.name
        )
    };
    let host = store.get(HOSTS, &vm.host).ok_or_else(|| unseen("host", &vm.host))?;
    let cluster_id = host.native::<Host>().map(|host| host.parent.id.clone()).unwrap_or_default();
    let cluster = store.get(CLUSTERS, &cluster_id).ok_or_else(|| unseen("cluster", &cluster_id))?;

    let mut cluster_json = full(store, CLUSTERS, &cluster);
    // upstream has the key and never fills it
    cluster_json.insert("datacenter".to_owned(), Value::Null);
    let mut host_json = full(store, HOSTS, &host);
    host_json.shift_remove("cluster");
    host_json.insert("cluster".to_owned(), cluster_json.into());

    let mut document = Map::new();
    let link = SPEC.resource_link(store.provider_uid(), "workloads", &record.id);
    document.insert("selfLink".to_owned(), link.into());
    let own = full(store, VMS, record);
    document.extend(own.into_iter().filter(|(key, _)| key != "selfLink" && key != "host"));
    document.insert("host".to_owned(), host_json.into());
    Ok(document.into())
}

fn full(store: &Store, kind: &str, record: &Record) -> Map<String, Value> {
    match store.view(kind).map(|view| view.value(record, i64::MAX)) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Records by what they are in.
type Branches = HashMap<Box<str>, Vec<Node>>;

/// Groups a collection by the id of what its records are in.
fn branches(
    store: &Store,
    kind: &'static str,
    node_kind: &'static str,
    detail: i64,
    of: fn(&Record) -> &str,
) -> Branches {
    let mut found = Branches::new();
    for record in store.list(kind).iter() {
        let node = Node::new(node_kind, kind, record.clone(), detail);
        found.entry(of(record).into()).or_default().push(node);
    }
    found
}

fn folder_of(record: &Record) -> &str {
    let parent = record
        .native::<Folder>()
        .map(|folder| &folder.parent)
        .or_else(|| record.native::<Cluster>().map(|cluster| &cluster.parent))
        .or_else(|| record.native::<Vm>().map(|vm| &vm.parent));
    parent.map_or("", |parent| parent.id.as_str())
}

fn cluster_of(record: &Record) -> &str {
    record.native::<Host>().map_or("", |host| host.parent.id.as_str())
}

fn host_of(record: &Record) -> &str {
    record.native::<Vm>().map_or("", |vm| vm.host.as_str())
}

/// Datacenter → folders → VMs.
fn vm_tree(store: &Store, detail: i64) -> Vec<Node> {
    let mut levels = [branches(store, FOLDERS, "Folder", 0, folder_of), branches(store, VMS, "VM", detail, folder_of)];
    datacenters(store, |datacenter| &datacenter.vms, &mut levels)
}

/// Datacenter → folders → clusters → hosts → VMs.
fn host_tree(store: &Store, detail: i64) -> Vec<Node> {
    let mut levels = [
        branches(store, FOLDERS, "Folder", 0, folder_of),
        branches(store, CLUSTERS, "Cluster", 0, folder_of),
        branches(store, HOSTS, "Host", 0, cluster_of),
        branches(store, VMS, "VM", detail, host_of),
    ];
    datacenters(store, |datacenter| &datacenter.clusters, &mut levels)
}

/// Returns the datacenters, each with what is below one of its root folders; that folder itself is left out.
fn datacenters(store: &Store, root: fn(&Datacenter) -> &Ref, levels: &mut [Branches]) -> Vec<Node> {
    let node = |record: &Arc<Record>| {
        let datacenter = record.native::<Datacenter>()?;
        // upstream shows datacenters in full at every detail level
        let mut node = Node::new("Datacenter", DATACENTERS, record.clone(), i64::MAX);
        node.children = children(&root(datacenter).id, levels);
        Some(node)
    };
    store.list(DATACENTERS).iter().filter_map(node).collect()
}

/// Returns what is in a thing, each with what is in it. What is taken is taken out, so that no loop of parents, which
/// no server should tell, ends never.
fn children(id: &str, levels: &mut [Branches]) -> Vec<Node> {
    if id.is_empty() {
        return Vec::new();
    }
    let mut found: Vec<Node> = levels.iter_mut().filter_map(|level| level.remove(id)).flatten().collect();
    for node in &mut found {
        let id = node.record.id.clone();
        node.children = children(&id, levels);
    }
    found
}
