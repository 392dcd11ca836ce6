//! The vCenter as it was told so far, and what of it the store does not know yet.
//!
//! ```text
//! ObjectUpdate ── apply ──► tables of records ── changes ──► Actions for the store
//!                              │ derived across records:        + VMs to be judged again
//!                              └ paths, shared disks, adapters of hosts, tags
//! ```
//! Records are shared with the store; a change makes a new one. A full set
//! (`begin` … `end`) forgets what it does not tell.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use forklift_inventory::{Action, Draft, Store};

use super::adapters::{Networks, adapters};
use super::model::{Cluster, Datacenter, Datastore, Folder, Host, Network, Ref, Tag, Vm, datastore_id};
use super::spec::kinds::{CLUSTERS, DATACENTERS, DATASTORES, FOLDERS, HOSTS, NETWORKS, VMS};
use super::table::{Row, Rows, Table};
use super::vim::{self, MoRef, ObjectUpdate, UpdateKind};

/// Parents that a path is followed over; more is a loop.
const DEPTH: usize = 64;
/// The property of all devices.
const DEVICES: &str = "config.hardware.device";
/// What the properties of a host's networking begin with.
const NETWORKING: &str = "config.network.";
/// The collections, containers first: VMs find their hosts.
const KINDS: [&str; 7] = [DATACENTERS, FOLDERS, CLUSTERS, HOSTS, NETWORKS, DATASTORES, VMS];

/// Everything that the vCenter told.
#[derive(Default)]
pub struct World {
    datacenters: Table<Datacenter>,
    folders: Table<Folder>,
    clusters: Table<Cluster>,
    hosts: Table<Host>,
    networks: Table<Network>,
    datastores: Table<Datastore>,
    vms: Table<Vm>,
    /// VMs by the files of their disks.
    files: HashMap<Box<str>, Vec<Arc<str>>>,
    tags: HashMap<Box<str>, Arc<Tag>>,
    /// Counts the full sets.
    pass: u32,
    complete: bool,
    /// Records that the store may not have as they are, in the order in which they were told.
    touched: Vec<(&'static str, Arc<str>)>,
    gone: Vec<(&'static str, Arc<str>)>,
    /// Things whose name or parent changed: paths lead over them.
    moved: HashSet<Arc<str>>,
    /// Files whose VMs changed.
    recount: HashSet<Box<str>>,
    /// Hosts whose networking changed.
    rewired: HashSet<Arc<str>>,
    /// Networks changed, to which adapters of any host may lead.
    networks_changed: bool,
}

/// What the store has to be told.
#[derive(Debug, Default)]
pub struct Changes {
    /// New, changed and removed records: containers first, so that VMs find their hosts.
    pub actions: Vec<Action>,
    /// VMs that did not change, but whose host or cluster did.
    pub stale: Vec<String>,
}

/// A property that has to be read as a whole, because only a part of it was told that does not fit on what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reread {
    /// The object.
    pub object: MoRef,
    /// The property's path.
    pub property: String,
}

impl World {
    /// Returns the world as an earlier run left it in the store: facts that guests reported survive a restart.
    pub fn restored(store: &Store) -> Self {
        let mut world = Self::default();
        for kind in [HOSTS, VMS] {
            world.table_mut(kind).restore(store, kind);
        }
        world
    }

    /// Returns whether a full set was told to its end, and none has begun since.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Begins a full set.
    pub fn begin(&mut self) {
        self.complete = false;
        self.pass = self.pass.wrapping_add(1);
    }

    /// Ends a full set: what it did not tell is gone.
    pub fn end(&mut self) {
        self.complete = true;
        for kind in KINDS {
            for id in self.table(kind).not_in(self.pass) {
                self.remove(kind, &id);
            }
        }
    }

    fn table(&self, kind: &str) -> &dyn Rows {
        match kind {
            DATACENTERS => &self.datacenters,
            FOLDERS => &self.folders,
            CLUSTERS => &self.clusters,
            HOSTS => &self.hosts,
            NETWORKS => &self.networks,
            DATASTORES => &self.datastores,
            _ => &self.vms,
        }
    }

    fn table_mut(&mut self, kind: &str) -> &mut dyn Rows {
        match kind {
            DATACENTERS => &mut self.datacenters,
            FOLDERS => &mut self.folders,
            CLUSTERS => &mut self.clusters,
            HOSTS => &mut self.hosts,
            NETWORKS => &mut self.networks,
            DATASTORES => &mut self.datastores,
            _ => &mut self.vms,
        }
    }

    /// Takes what is told of one object. Types that the inventory does not have are left alone.
    pub fn apply(&mut self, update: &ObjectUpdate) -> Vec<Reread> {
        let MoRef { kind: managed_type, value: id } = &update.object;
        let (kind, id) = match managed_type.as_str() {
            "Folder" | "StoragePod" => (FOLDERS, id.as_str().into()),
            "Datacenter" => (DATACENTERS, id.as_str().into()),
            "ComputeResource" | "ClusterComputeResource" => (CLUSTERS, id.as_str().into()),
            "HostSystem" => (HOSTS, id.as_str().into()),
            "Network"
            | "OpaqueNetwork"
            | "DistributedVirtualPortgroup"
            | "DistributedVirtualSwitch"
            | "VmwareDistributedVirtualSwitch" => (NETWORKS, id.as_str().into()),
            "Datastore" => (DATASTORES, Arc::from(datastore_id(id).as_str())),
            "VirtualMachine" => (VMS, id.as_str().into()),
            other => {
                tracing::trace!(kind = other, id, "not in the inventory");
                return Vec::new();
            }
        };
        if !update.missing.is_empty() {
            tracing::debug!(%update.object, paths = ?update.missing, "properties that cannot be read");
        }
        if update.kind == UpdateKind::Leave {
            self.remove(kind, &id);
            return Vec::new();
        }
        let rewrites_disks = kind == VMS
            && (update.kind == UpdateKind::Enter || update.changes.iter().any(|(path, _)| path.starts_with(DEVICES)));
        let before = if rewrites_disks { self.files_of(&id) } else { HashSet::new() };
        let pass = self.pass;
        let partial = self.table_mut(kind).apply(&id, update, pass);
        if rewrites_disks {
            let after = self.files_of(&id);
            self.count_files(&id, &before, &after);
        }
        self.networks_changed |= kind == NETWORKS;
        if kind == HOSTS
            && (update.kind == UpdateKind::Enter || update.changes.iter().any(|(path, _)| path.starts_with(NETWORKING)))
        {
            self.rewired.insert(id.clone());
        }
        if matches!(kind, FOLDERS | DATACENTERS | CLUSTERS | HOSTS)
            && update.changes.iter().any(|(path, _)| path == "name" || path == "parent")
        {
            self.moved.insert(id.clone());
        }
        self.touch(kind, &id);
        let object = || update.object.clone();
        partial.into_iter().map(|partial| Reread { object: object(), property: partial.property }).collect()
    }

    /// Returns the files of a VM's disks.
    fn files_of(&self, id: &str) -> HashSet<Box<str>> {
        let disks = self.vms.get(id).map(|row| &row.it.disks);
        disks.into_iter().flatten().map(|disk| disk.file.clone()).collect()
    }

    fn count_files(&mut self, id: &Arc<str>, before: &HashSet<Box<str>>, after: &HashSet<Box<str>>) {
        for file in before.difference(after) {
            if let Some(users) = self.files.get_mut(file) {
                users.retain(|user| user != id);
                if users.is_empty() {
                    self.files.remove(file);
                }
            }
            self.recount.insert(file.clone());
        }
        for file in after.iter().filter(|file| !file.is_empty()) {
            let users = self.files.entry(file.clone()).or_default();
            if !users.contains(id) {
                users.push(id.clone());
            }
            if users.len() > 1 {
                self.recount.insert(file.clone());
            }
        }
    }

    fn remove(&mut self, kind: &'static str, id: &Arc<str>) {
        if kind == VMS {
            let files = self.files_of(id);
            self.count_files(id, &files, &HashSet::new());
        }
        self.networks_changed |= kind == NETWORKS;
        if self.table_mut(kind).remove(id) {
            self.gone.push((kind, id.clone()));
        }
    }

    fn touch(&mut self, kind: &'static str, id: &Arc<str>) {
        if self.table_mut(kind).touch(id) {
            self.touched.push((kind, id.clone()));
        }
    }

    /// Takes the tags of VMs: of these, or of all.
    pub fn set_tags(&mut self, of: Option<&[MoRef]>, found: &BTreeMap<MoRef, Vec<vim::Tag>>) {
        let ids: Vec<Arc<str>> = match of {
            Some(objects) => objects.iter().map(|object| object.value.as_str().into()).collect(),
            None => self.vms.iter().map(|(id, _)| id.clone()).collect(),
        };
        for id in ids {
            let tags = found.get(&MoRef::vm(&*id)).map(Vec::as_slice).unwrap_or_default();
            let tags: Box<[Arc<Tag>]> = tags.iter().map(|tag| self.shared_tag(tag)).collect();
            let Some(row) = self.vms.get_mut(&id).filter(|row| row.it.tags != tags) else { continue };
            Arc::make_mut(&mut row.it).tags = tags;
            self.touch(VMS, &id);
        }
    }

    fn shared_tag(&mut self, tag: &vim::Tag) -> Arc<Tag> {
        let tag = Tag {
            id: tag.id.as_str().into(),
            description: tag.description.as_str().into(),
            name: tag.name.as_str().into(),
            category_id: tag.category_id.as_str().into(),
            used_by: tag.used_by.iter().map(|user| user.as_str().into()).collect(),
        };
        match self.tags.get(&tag.id).filter(|known| ***known == tag) {
            Some(known) => known.clone(),
            None => {
                let tag = Arc::new(tag);
                self.tags.insert(tag.id.clone(), tag.clone());
                tag
            }
        }
    }

    /// Returns what the store has to be told, and takes it for told.
    pub fn changes(&mut self) -> Changes {
        self.share_disks();
        self.wire_hosts();
        self.move_paths();
        let mut changes = Changes::default();
        // hosts and clusters that changed, came or went
        let mut around: HashSet<Arc<str>> = HashSet::new();
        for (kind, id) in std::mem::take(&mut self.gone) {
            if self.table(kind).contains(&id) {
                continue;
            }
            changes.actions.push(Action::Delete(kind, id.to_string()));
            if matches!(kind, CLUSTERS | HOSTS) {
                around.insert(id);
            }
        }
        let touched = std::mem::take(&mut self.touched);
        let mut changed_vms: HashSet<&str> = HashSet::new();
        for kind in KINDS {
            for (_, id) in touched.iter().filter(|(of, _)| *of == kind) {
                let Some(draft) = self.draft(kind, id) else { continue };
                if self.table_mut(kind).told(id) && matches!(kind, CLUSTERS | HOSTS) {
                    around.insert(id.clone());
                }
                if kind == VMS {
                    changed_vms.insert(id);
                }
                changes.actions.push(Action::Upsert(kind, draft));
            }
        }
        if !around.is_empty() {
            let host_of = |vm: &Row<Vm>| self.hosts.get(&vm.it.host);
            let is_around = |vm: &Row<Vm>| {
                around.contains(vm.it.host.as_str())
                    || host_of(vm).is_some_and(|host| around.contains(host.it.parent.id.as_str()))
            };
            let concerned = self.vms.iter().filter(|(id, vm)| is_around(vm) && !changed_vms.contains(&***id));
            changes.stale = concerned.map(|(id, _)| id.to_string()).collect();
        }
        changes
    }

    /// Sets which disks are shared, of VMs that were told and of those that share with them.
    fn share_disks(&mut self) {
        let recount = std::mem::take(&mut self.recount);
        let users = recount.iter().filter_map(|file| self.files.get(file)).flatten().cloned();
        // also VMs that left a file to one last user
        let mut vms: Vec<Arc<str>> = users.collect();
        vms.extend(self.touched.iter().filter(|(kind, _)| *kind == VMS).map(|(_, id)| id.clone()));
        for id in vms {
            let Some(row) = self.vms.get_mut(&id) else { continue };
            let is_shared = |file: &str| self.files.get(file).is_some_and(|users| users.len() > 1);
            if row.it.disks.iter().all(|disk| disk.shared == is_shared(&disk.file)) {
                continue;
            }
            for disk in &mut Arc::make_mut(&mut row.it).disks {
                disk.shared = self.files.get(&disk.file).is_some_and(|users| users.len() > 1);
            }
            self.touch(VMS, &id);
        }
    }

    /// Derives the adapters of hosts from their networking and that of the distributed switches.
    fn wire_hosts(&mut self) {
        let rewired = std::mem::take(&mut self.rewired);
        let all = std::mem::take(&mut self.networks_changed);
        if rewired.is_empty() && !all {
            return;
        }
        let networks = Networks::new(self.networks.iter().map(|(id, row)| (&**id, &*row.it)));
        let concerned = self.hosts.iter().filter(|(id, _)| all || rewired.contains(*id));
        let derived: Vec<_> = concerned
            .map(|(id, row)| (id.clone(), adapters(id, &row.it, &networks), &row.it.adapters))
            .filter(|(_, found, before)| found != *before)
            .map(|(id, found, _)| (id, found))
            .collect();
        for (id, found) in derived {
            if let Some(row) = self.hosts.get_mut(&id) {
                Arc::make_mut(&mut row.it).adapters = found;
                self.touch(HOSTS, &id);
            }
        }
    }

    /// Touches everything whose path leads over something that was renamed or moved.
    fn move_paths(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        if moved.is_empty() {
            return;
        }
        let below = |parent: &Ref| self.ancestors(parent).any(|id| moved.contains(id));
        let found: Vec<_> =
            KINDS.iter().flat_map(|kind| self.table(kind).below(&below).into_iter().map(|id| (*kind, id))).collect();
        for (kind, id) in found {
            self.touch(kind, &id);
        }
    }

    /// Returns name and parent of what a reference means.
    fn place(&self, of: &Ref) -> Option<(&str, &Ref)> {
        let id = of.id.as_str();
        match of.kind.as_str() {
            "Folder" => self.folders.place(id),
            "Datacenter" => self.datacenters.place(id),
            "Cluster" => self.clusters.place(id),
            "Host" => self.hosts.place(id),
            _ => None,
        }
    }

    fn ancestors<'a>(&'a self, parent: &'a Ref) -> impl Iterator<Item = &'a str> {
        let next = |at: &&'a Ref| self.place(at).map(|(_, parent)| parent);
        std::iter::successors(Some(parent), next).take(DEPTH).map(|at| at.id.as_str())
    }

    /// Returns a path from the datacenter on: `/DC/vm/folder/name`. The root folder has no part in it.
    fn path(&self, name: &str, parent: &Ref) -> String {
        let mut parts = vec![name];
        let mut at = parent;
        while let Some((name, parent)) = self.place(at) {
            let is_root = at.kind == "Folder" && parent.is_empty();
            if is_root || parts.len() >= DEPTH {
                break;
            }
            parts.push(name);
            at = parent;
        }
        parts.iter().rev().flat_map(|part| ["/", *part]).collect()
    }

    /// Returns a record for the store.
    fn draft(&self, kind: &str, id: &str) -> Option<Draft> {
        let table = self.table(kind);
        let (name, parent) = table.place(id)?;
        let (name, path) = (name.to_owned(), self.path(name, parent));
        Some(Draft { id: id.to_owned(), name, path, resource: table.resource(id)? })
    }
}
