//! The catalogue: a folder of appliances, scanned again and again.
//!
//! Depths are upstream's: `.ova` in the folder and its subfolders, `.ovf` one
//! level deeper. A file is opened again only when it, or something beside its
//! descriptor, changed. A file that is young and not whole yet is shown as being
//! copied; one that cannot be used is shown with the reason.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use super::appliance::{self, Contents, has_extension, nanoseconds, relative};
use super::ids;
use super::wire::{Appliance, ApplianceState, SystemReference, Vm, VmDisk, VmNetwork};

/// How deep `.ova` files are looked for; `.ovf` one deeper.
const OVA_DEPTH: usize = 2;
/// How long a file that is not whole counts as being copied.
const COPYING: Duration = Duration::from_secs(30);

/// What the catalogue holds at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Raised with each change.
    pub generation: u64,
    /// All appliances, by path.
    pub appliances: Vec<Appliance>,
    /// The VMs of those that can be used.
    pub vms: Vec<Vm>,
}

impl Snapshot {
    /// Returns all disks, each once.
    pub fn disks(&self) -> Vec<VmDisk> {
        let mut disks: Vec<VmDisk> = Vec::new();
        for disk in self.vms.iter().flat_map(|vm| &vm.disks) {
            if !disks.iter().any(|d| d.id == disk.id) {
                disks.push(disk.clone());
            }
        }
        disks
    }

    /// Returns all networks, each name once.
    pub fn networks(&self) -> Vec<VmNetwork> {
        let mut networks: Vec<VmNetwork> = Vec::new();
        for network in self.vms.iter().flat_map(|vm| &vm.networks) {
            match networks.iter_mut().find(|n| n.id == network.id) {
                Some(known) if known.description.is_empty() => known.description.clone_from(&network.description),
                Some(_) => {}
                None => networks.push(network.clone()),
            }
        }
        networks
    }
}

/// A folder of appliances.
#[derive(Debug)]
pub struct Catalog {
    root: PathBuf,
    settle: Duration,
    known: HashMap<PathBuf, Known>,
    snapshot: Snapshot,
}

#[derive(Debug)]
struct Known {
    signature: Vec<(PathBuf, u64, i64)>,
    since: Instant,
    opened: Option<Opened>,
}

#[derive(Clone, Debug)]
enum Opened {
    Usable(Contents),
    Copying,
    Broken(String),
}

impl Catalog {
    /// Returns a catalogue over a folder, or over one file; a file has to be
    /// unchanged for `settle` before it is opened.
    pub fn new(root: &Path, settle: Duration) -> Self {
        Self { root: root.to_owned(), settle, known: HashMap::new(), snapshot: Snapshot::default() }
    }

    /// Looks at the folder again and returns what it holds. Fails only when the
    /// folder itself cannot be read; single files are told in their appliances.
    pub fn scan(&mut self) -> std::io::Result<&Snapshot> {
        let paths = find(&self.root)?;
        let mut known = HashMap::new();
        for path in &paths {
            let old = self.known.remove(path);
            known.insert(path.clone(), self.look(path, old));
        }
        self.known = known;
        let mut next = self.assemble(&paths);
        next.generation = self.snapshot.generation;
        if next != self.snapshot {
            next.generation += 1;
            self.snapshot = next;
        }
        Ok(&self.snapshot)
    }

    /// Opens a file when it is new or changed and has settled.
    fn look(&self, path: &Path, old: Option<Known>) -> Known {
        let signature = signature(path);
        let mut known = match old {
            Some(old) if old.signature == signature => old,
            _ => Known { signature, since: Instant::now(), opened: None },
        };
        let age = known.age();
        if matches!(known.opened, Some(Opened::Usable(_) | Opened::Broken(_))) {
            return known;
        }
        if age < self.settle {
            known.opened = Some(Opened::Copying);
            return known;
        }
        let root = if self.root.is_file() { self.root.parent().unwrap_or(&self.root) } else { &self.root };
        known.opened = Some(match appliance::open(root, path) {
            Ok(contents) => Opened::Usable(contents),
            Err(error) if error.may_be_incomplete() && age < COPYING => Opened::Copying,
            Err(error) => Opened::Broken(error.to_string()),
        });
        known
    }

    fn assemble(&self, paths: &[PathBuf]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for path in paths {
            let Some(known) = self.known.get(path) else {
                continue;
            };
            let (size, modified) = known.signature.first().map_or((0, 0), |(_, size, modified)| (*size, *modified));
            let mut shown = Appliance {
                file: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
                path: relative(&self.root, path),
                size,
                modified: timestamp(modified),
                ..Appliance::default()
            };
            match &known.opened {
                Some(Opened::Usable(contents)) => {
                    shown.source.clone_from(&contents.exporter);
                    shown.warnings.clone_from(&contents.warnings);
                    for vm in &contents.vms {
                        let vm = with_free_id(vm, &snapshot.vms, &mut shown, &self.root);
                        shown.virtual_systems.push(SystemReference { name: vm.name.clone(), id: vm.uuid.clone() });
                        snapshot.vms.push(vm);
                    }
                }
                Some(Opened::Broken(reason)) => {
                    shown.state = ApplianceState::Broken;
                    shown.error.clone_from(reason);
                }
                Some(Opened::Copying) | None => shown.state = ApplianceState::Copying,
            }
            snapshot.appliances.push(shown);
        }
        snapshot
    }
}

/// Two copies of one export carry the same UUID: the later path gets an id of its own.
fn with_free_id(vm: &Vm, taken: &[Vm], shown: &mut Appliance, root: &Path) -> Vm {
    let mut vm = vm.clone();
    if let Some(other) = taken.iter().find(|t| t.uuid == vm.uuid) {
        let place = relative(root, Path::new(&other.ovf_path));
        shown.warnings.push(format!("{} has the UUID of {} in {place}", vm.name, other.name));
        vm.uuid = ids::vm(&shown.path, &vm.uuid);
    }
    vm
}

impl Known {
    /// How long the file has been as it is: by its time, or by our watch when its time lies ahead.
    fn age(&self) -> Duration {
        let newest = self.signature.iter().map(|(_, _, modified)| *modified).max().unwrap_or(0);
        let by_time = nanoseconds(SystemTime::now()).saturating_sub(newest);
        let by_time = Duration::from_nanos(u64::try_from(by_time).unwrap_or(0));
        by_time.max(self.since.elapsed())
    }
}

/// What of a file is compared to know that it changed. For a descriptor, all files of its folder.
fn signature(path: &Path) -> Vec<(PathBuf, u64, i64)> {
    let fact = |path: &Path| {
        let metadata = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((path.to_owned(), metadata.len(), nanoseconds(metadata.modified().ok()?)))
    };
    let mut facts: Vec<_> = fact(path).into_iter().collect();
    if has_extension(path, "ovf")
        && let Some(entries) = path.parent().and_then(|folder| folder.read_dir().ok())
    {
        let mut beside: Vec<_> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p != path && !has_extension(p, "ova") && !has_extension(p, "ovf"))
            .filter_map(|p| fact(&p))
            .collect();
        beside.sort();
        facts.extend(beside);
    }
    facts
}

/// Finds the appliances, ordered by path. Folders below that cannot be read are passed over.
fn find(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    if root.is_file() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![(root.to_owned(), 1)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if folder == root => return Err(error),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "passed over");
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // the entry's own type for folders, so that a link cannot lead in circles
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                if depth <= OVA_DEPTH {
                    folders.push((path, depth + 1));
                }
                continue;
            }
            let wanted = (depth <= OVA_DEPTH && has_extension(&path, "ova"))
                || (depth <= OVA_DEPTH + 1 && has_extension(&path, "ovf"));
            if wanted && path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn timestamp(nanoseconds: i64) -> Option<String> {
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).ok()?;
    Some(time.to_string())
}
