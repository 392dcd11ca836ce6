//! The vCenter as it was told so far, and what of it the store does not know yet.
//!
//! ```text
//! ObjectUpdate ── apply ──► tables of records ── changes ──► Actions for the store
//!                              │ derived across records:        + VMs to be judged again
//!                              └ paths, shared disks, adapters of hosts, tags
//! ```
//! Records are shared with the store; a change makes a new one. A full set
//! (`begin` … `end`) forgets what it does not tell.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use forklift_inventory::{Action, Draft, Native, Store};

use super::adapters::{Networks, adapters};
use super::model::{
    Cluster, Datacenter, Datastore, Folder, Host, Network, Partial, Ref, Tag, Tracked, Vm, datastore_id,
};
use super::spec::kinds::{CLUSTERS, DATACENTERS, DATASTORES, FOLDERS, HOSTS, NETWORKS, VMS};
use super::vim::{self, MoRef, ObjectUpdate, UpdateKind};

/// Parents that a path is followed over; more is a loop.
const DEPTH: usize = 64;

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

struct Table<T> {
    rows: HashMap<Arc<str>, Row<T>>,
}

struct Row<T> {
    it: Arc<T>,
    /// What the store was given.
    published: Option<Arc<T>>,
    pass: u32,
    touched: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
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
        world.vms.restore(store, VMS);
        world.hosts.restore(store, HOSTS);
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
        let pass = self.pass;
        let gone = [
            (DATACENTERS, self.datacenters.not_in(pass)),
            (FOLDERS, self.folders.not_in(pass)),
            (CLUSTERS, self.clusters.not_in(pass)),
            (HOSTS, self.hosts.not_in(pass)),
            (NETWORKS, self.networks.not_in(pass)),
            (DATASTORES, self.datastores.not_in(pass)),
            (VMS, self.vms.not_in(pass)),
        ];
        for (kind, id) in gone.into_iter().flat_map(|(kind, ids)| ids.into_iter().map(move |id| (kind, id))) {
            self.remove(kind, &id);
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
        let pass = self.pass;
        let partial = match kind {
            FOLDERS => self.folders.apply(&id, update, pass, Folder::default),
            DATACENTERS => self.datacenters.apply(&id, update, pass, Datacenter::default),
            CLUSTERS => self.clusters.apply(&id, update, pass, || Cluster {
                standalone: managed_type == "ComputeResource",
                ..Cluster::default()
            }),
            HOSTS => self.hosts.apply(&id, update, pass, Host::default),
            NETWORKS => self.networks.apply(&id, update, pass, || Network {
                variant: Network::variant_of(managed_type).into(),
                ..Network::default()
            }),
            DATASTORES => self.datastores.apply(&id, update, pass, Datastore::default),
            _ => self.apply_vm(&id, update),
        };
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
        let reread = |partial: Partial| Reread { object: update.object.clone(), property: partial.property };
        partial.into_iter().map(reread).collect()
    }

    fn apply_vm(&mut self, id: &Arc<str>, update: &ObjectUpdate) -> Vec<Partial> {
        let pass = self.pass;
        let rewrites_disks =
            update.kind == UpdateKind::Enter || update.changes.iter().any(|(path, _)| path.starts_with(DEVICES));
        if !rewrites_disks {
            return self.vms.apply(id, update, pass, Vm::default);
        }
        let before = self.vms.files(id);
        let partial = self.vms.apply(id, update, pass, Vm::default);
        let after = self.vms.files(id);
        self.count_files(id, &before, &after);
        partial
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
        let there = match kind {
            FOLDERS => self.folders.rows.remove(id).is_some(),
            DATACENTERS => self.datacenters.rows.remove(id).is_some(),
            CLUSTERS => self.clusters.rows.remove(id).is_some(),
            HOSTS => self.hosts.rows.remove(id).is_some(),
            NETWORKS => self.networks.rows.remove(id).is_some(),
            DATASTORES => self.datastores.rows.remove(id).is_some(),
            _ => {
                let files = self.vms.files(id);
                self.count_files(id, &files, &HashSet::new());
                self.vms.rows.remove(id).is_some()
            }
        };
        self.networks_changed |= kind == NETWORKS;
        if there {
            self.gone.push((kind, id.clone()));
        }
    }

    fn touch(&mut self, kind: &'static str, id: &Arc<str>) {
        let fresh = match kind {
            FOLDERS => self.folders.touch(id),
            DATACENTERS => self.datacenters.touch(id),
            CLUSTERS => self.clusters.touch(id),
            HOSTS => self.hosts.touch(id),
            NETWORKS => self.networks.touch(id),
            DATASTORES => self.datastores.touch(id),
            _ => self.vms.touch(id),
        };
        if fresh {
            self.touched.push((kind, id.clone()));
        }
    }

    /// Takes the tags of VMs: of these, or of all.
    pub fn set_tags(&mut self, of: Option<&[MoRef]>, found: &BTreeMap<MoRef, Vec<vim::Tag>>) {
        let ids: Vec<Arc<str>> = match of {
            Some(objects) => objects.iter().map(|object| object.value.as_str().into()).collect(),
            None => self.vms.rows.keys().cloned().collect(),
        };
        for id in ids {
            let tags = found.get(&MoRef::vm(&*id)).map(Vec::as_slice).unwrap_or_default();
            let tags: Box<[Arc<Tag>]> = tags.iter().map(|tag| self.shared_tag(tag)).collect();
            let Some(row) = self.vms.rows.get_mut(&id).filter(|row| row.it.tags != tags) else { continue };
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
            let back = match kind {
                FOLDERS => self.folders.rows.contains_key(&id),
                DATACENTERS => self.datacenters.rows.contains_key(&id),
                CLUSTERS => self.clusters.rows.contains_key(&id),
                HOSTS => self.hosts.rows.contains_key(&id),
                NETWORKS => self.networks.rows.contains_key(&id),
                DATASTORES => self.datastores.rows.contains_key(&id),
                _ => self.vms.rows.contains_key(&id),
            };
            if !back {
                changes.actions.push(Action::Delete(kind, id.to_string()));
                if matches!(kind, CLUSTERS | HOSTS) {
                    around.insert(id);
                }
            }
        }
        let touched = std::mem::take(&mut self.touched);
        let mut changed_vms: HashSet<&Arc<str>> = HashSet::new();
        for kind in [DATACENTERS, FOLDERS, CLUSTERS, HOSTS, NETWORKS, DATASTORES, VMS] {
            for (_, id) in touched.iter().filter(|(of, _)| *of == kind) {
                let draft = match kind {
                    FOLDERS => draft(self, id, |world| &world.folders),
                    DATACENTERS => draft(self, id, |world| &world.datacenters),
                    CLUSTERS => draft(self, id, |world| &world.clusters),
                    HOSTS => draft(self, id, |world| &world.hosts),
                    NETWORKS => draft(self, id, |world| &world.networks),
                    DATASTORES => draft(self, id, |world| &world.datastores),
                    _ => draft(self, id, |world| &world.vms),
                };
                let Some(draft) = draft else { continue };
                let told = match kind {
                    FOLDERS => self.folders.told(id),
                    DATACENTERS => self.datacenters.told(id),
                    CLUSTERS => self.clusters.told(id),
                    HOSTS => self.hosts.told(id),
                    NETWORKS => self.networks.told(id),
                    DATASTORES => self.datastores.told(id),
                    _ => self.vms.told(id),
                };
                if told && matches!(kind, CLUSTERS | HOSTS) {
                    around.insert(id.clone());
                }
                if kind == VMS {
                    changed_vms.insert(id);
                }
                changes.actions.push(Action::Upsert(kind, draft));
            }
        }
        if !around.is_empty() {
            let host_of = |vm: &Row<Vm>| self.hosts.rows.get(vm.it.host.as_str());
            let is_around = |vm: &Row<Vm>| {
                around.contains(vm.it.host.as_str())
                    || host_of(vm).is_some_and(|host| around.contains(host.it.parent.id.as_str()))
            };
            let concerned = self.vms.rows.iter().filter(|(id, vm)| is_around(vm) && !changed_vms.contains(id));
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
            let Some(row) = self.vms.rows.get_mut(&id) else { continue };
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
        let networks = Networks::new(self.networks.rows.iter().map(|(id, row)| (&**id, &*row.it)));
        let concerned = self.hosts.rows.iter().filter(|(id, _)| all || rewired.contains(*id));
        let derived: Vec<_> = concerned
            .map(|(id, row)| (id.clone(), adapters(id, &row.it, &networks), &row.it.adapters))
            .filter(|(_, found, before)| found != *before)
            .map(|(id, found, _)| (id, found))
            .collect();
        for (id, found) in derived {
            if let Some(row) = self.hosts.rows.get_mut(&id) {
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
        let mut found: Vec<(&'static str, Arc<str>)> = Vec::new();
        found.extend(self.datacenters.below(DATACENTERS, &below));
        found.extend(self.folders.below(FOLDERS, &below));
        found.extend(self.clusters.below(CLUSTERS, &below));
        found.extend(self.hosts.below(HOSTS, &below));
        found.extend(self.networks.below(NETWORKS, &below));
        found.extend(self.datastores.below(DATASTORES, &below));
        found.extend(self.vms.below(VMS, &below));
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
}

/// The property of all devices.
const DEVICES: &str = "config.hardware.device";
/// What the properties of a host's networking begin with.
const NETWORKING: &str = "config.network.";

/// Returns a record for the store.
fn draft<T: Tracked + Native>(world: &World, id: &Arc<str>, table: fn(&World) -> &Table<T>) -> Option<Draft> {
    let row = table(world).rows.get(id)?;
    let (name, parent) = row.it.place();
    let path = world.path(name, parent);
    Some(Draft { id: id.to_string(), name: name.to_owned(), path, resource: row.it.clone() })
}

impl<T: Tracked + Native> Table<T> {
    fn restore(&mut self, store: &Store, kind: &str) {
        for record in store.list(kind).iter() {
            let known: Arc<dyn Any + Send + Sync> = record.resource().clone();
            if let Ok(it) = known.downcast::<T>() {
                self.rows.insert(record.id.clone(), Row { it, published: None, pass: 0, touched: false });
            }
        }
    }

    fn apply(&mut self, id: &Arc<str>, update: &ObjectUpdate, pass: u32, new: impl FnOnce() -> T) -> Vec<Partial> {
        let row = self.rows.entry(id.clone()).or_insert_with(|| Row {
            it: Arc::new(new()),
            published: None,
            pass,
            touched: false,
        });
        row.pass = pass;
        if update.kind == UpdateKind::Enter {
            row.it = Arc::new(row.it.entered());
        }
        let it = Arc::make_mut(&mut row.it);
        update.changes.iter().filter_map(|(path, value)| it.apply(path, value.as_ref()).err()).collect()
    }

    fn not_in(&self, pass: u32) -> Vec<Arc<str>> {
        self.rows.iter().filter(|(_, row)| row.pass != pass).map(|(id, _)| id.clone()).collect()
    }

    /// Marks a record; returns whether it was not marked before.
    fn touch(&mut self, id: &Arc<str>) -> bool {
        self.rows.get_mut(id).is_some_and(|row| !std::mem::replace(&mut row.touched, true))
    }

    /// Takes a record for told; returns whether it differs from what was told before.
    fn told(&mut self, id: &Arc<str>) -> bool {
        let Some(row) = self.rows.get_mut(id) else { return false };
        row.touched = false;
        let differs = row.published.as_ref().is_none_or(|before| **before != *row.it);
        row.published = Some(row.it.clone());
        differs
    }

    fn place(&self, id: &str) -> Option<(&str, &Ref)> {
        self.rows.get(id).map(|row| row.it.place())
    }

    fn below(&self, kind: &'static str, is_below: &impl Fn(&Ref) -> bool) -> Vec<(&'static str, Arc<str>)> {
        let rows = self.rows.iter().filter(|(_, row)| is_below(row.it.place().1));
        rows.map(|(id, _)| (kind, id.clone())).collect()
    }
}

impl Table<Vm> {
    fn files(&self, id: &Arc<str>) -> HashSet<Box<str>> {
        let disks = self.rows.get(id).map(|row| &row.it.disks);
        disks.into_iter().flatten().map(|disk| disk.file.clone()).collect()
    }
}
