//! Which network and storage of the target stands for which of the source: the plan's maps, applied.
use crate::machine::{Disk, Machine, ResourceRef};
use crate::plan::world::{NetworkDestination, NetworkPair, PlanFacts, StorageClassFacts, StoragePair};

/// What a NIC is attached to on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment<'a> {
    /// Index in [`Machine::nics`].
    pub nic: usize,
    /// Network on the target.
    pub destination: &'a NetworkDestination,
}

/// Returns the attachments of a machine's NICs. Unmapped NICs, those mapped to nothing, and those for which no network
/// of a pool is left, are not among them.
///
/// Rows with the same source are a pool: a pod row wins at once, a single row is used for every NIC, several networks
/// are handed out in order, each once.
pub fn attachments<'a>(machine: &Machine, map: &'a [NetworkPair]) -> Vec<Attachment<'a>> {
    let mut used: Vec<&NetworkDestination> = Vec::new();
    let mut attached = Vec::new();
    for (nic, network) in machine.nics.iter().enumerate().map(|(i, n)| (i, &n.network)) {
        let rows = || map.iter().filter(|row| row.source.matches(network)).map(|row| &row.destination);
        let multus = |d: &NetworkDestination| matches!(d, NetworkDestination::Multus { .. });
        let chosen = match (rows().find(|d| !multus(d)), rows().count()) {
            (Some(other), _) => Some(other),
            (None, 1) => rows().next(),
            (None, _) => rows().find(|d| !used.contains(d)),
        };
        match chosen {
            None | Some(NetworkDestination::Ignored) => {}
            Some(destination @ (NetworkDestination::Pod | NetworkDestination::Multus { .. })) => {
                used.push(destination);
                attached.push(Attachment { nic, destination });
            }
        }
    }
    attached
}

/// Returns the networks of a machine that have no row.
pub fn unmapped_networks<'a>(machine: &'a Machine, map: &[NetworkPair]) -> Vec<&'a ResourceRef> {
    let mut missing: Vec<&ResourceRef> = Vec::new();
    for network in machine.nics.iter().map(|nic| &nic.network) {
        if !map.iter().any(|row| row.source.matches(network)) && !missing.contains(&network) {
            missing.push(network);
        }
    }
    missing
}

/// Returns the row for a disk's storage.
pub fn storage_row<'a>(disk: &Disk, map: &'a [StoragePair]) -> Option<&'a StoragePair> {
    map.iter().find(|row| row.source.matches(&disk.storage))
}

/// Returns the storages of a machine that have no row.
pub fn unmapped_storage<'a>(machine: &'a Machine, map: &[StoragePair]) -> Vec<&'a ResourceRef> {
    let mut missing: Vec<&ResourceRef> = Vec::new();
    for disk in &machine.disks {
        if storage_row(disk, map).is_none() && !missing.contains(&&disk.storage) {
            missing.push(&disk.storage);
        }
    }
    missing
}

/// How a disk's volume is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Storage class; `None` for the cluster's default.
    pub storage_class: Option<String>,
    /// Access mode.
    pub access_mode: String,
    /// `Filesystem` or `Block`.
    pub volume_mode: String,
    /// Share of a file system that the image cannot use.
    pub overhead: f64,
}

/// Share of a file system kept free where nothing is known about the class: CDI's default.
pub const DEFAULT_OVERHEAD: f64 = 0.055;

/// Returns how a disk's volume is made: what the map says, else the storage class's profile, else a file system for
/// one node.
pub fn volume(disk: &Disk, plan: &PlanFacts) -> Volume {
    let row = storage_row(disk, &plan.storage).cloned().unwrap_or_default();
    let named = |class: &&StorageClassFacts| {
        if row.storage_class.is_empty() { class.default } else { class.name == row.storage_class }
    };
    let class = plan.storage_classes.iter().find(named).cloned().unwrap_or_default();
    let first = |a: Option<String>, b: Option<String>, c: &str| {
        a.or(b).filter(|v| !v.is_empty()).unwrap_or_else(|| c.to_owned())
    };
    Volume {
        storage_class: Some(row.storage_class).filter(|c| !c.is_empty()),
        access_mode: first(row.access_mode, class.access_mode, "ReadWriteOnce"),
        volume_mode: first(row.volume_mode, class.volume_mode, "Filesystem"),
        overhead: class.overhead.filter(|o| (0.0..1.0).contains(o)).unwrap_or(DEFAULT_OVERHEAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Nic;

    fn machine(nics: usize) -> Machine {
        let nic = Nic { network: ResourceRef::new("n1", "VM Network"), ..Nic::default() };
        Machine { nics: vec![nic; nics], ..Machine::default() }
    }

    fn nad(name: &str) -> NetworkDestination {
        NetworkDestination::Multus { namespace: "t".into(), name: name.into() }
    }

    fn check(rows: &[NetworkDestination], nics: usize, expected: &[NetworkDestination]) {
        let source = ResourceRef::new("n1", "");
        let map: Vec<_> = rows.iter().map(|d| NetworkPair { source: source.clone(), destination: d.clone() }).collect();
        let got: Vec<_> = attachments(&machine(nics), &map).into_iter().map(|a| a.destination.clone()).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn pools_of_networks() {
        check(&[nad("a")], 2, &[nad("a"), nad("a")]);
        check(&[nad("a"), nad("b")], 2, &[nad("a"), nad("b")]);
        check(&[nad("a"), nad("b")], 3, &[nad("a"), nad("b")]);
        check(&[nad("a"), NetworkDestination::Pod], 1, &[NetworkDestination::Pod]);
        check(&[NetworkDestination::Pod], 2, &[NetworkDestination::Pod, NetworkDestination::Pod]);
        check(&[NetworkDestination::Ignored], 1, &[]);
        check(&[], 1, &[]);
    }

    #[test]
    fn what_is_not_mapped_is_named_once() {
        assert_eq!(unmapped_networks(&machine(2), &[]).len(), 1);
        let disk = Disk { storage: ResourceRef::new("", "ds1"), ..Disk::default() };
        let machine = Machine { disks: vec![disk.clone(), disk], ..Machine::default() };
        assert_eq!(unmapped_storage(&machine, &[])[0].display(), "ds1");
    }

    #[test]
    fn the_map_comes_before_the_profile() {
        let disk = Disk { storage: ResourceRef::new("ds1", ""), ..Disk::default() };
        let row =
            StoragePair { source: disk.storage.clone(), volume_mode: Some("Block".into()), ..StoragePair::default() };
        let class = StorageClassFacts {
            name: "standard".into(),
            default: true,
            access_mode: Some("ReadWriteMany".into()),
            volume_mode: Some("Filesystem".into()),
            ..StorageClassFacts::default()
        };
        let plan = PlanFacts { storage: vec![row], storage_classes: vec![class], ..PlanFacts::default() };
        let volume = volume(&disk, &plan);
        assert_eq!(
            (volume.storage_class, volume.access_mode.as_str(), volume.volume_mode.as_str()),
            (None, "ReadWriteMany", "Block")
        );
    }
}
