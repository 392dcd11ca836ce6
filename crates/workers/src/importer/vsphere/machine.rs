//! The VM and the disk that an order names: whose they are, which file holds the state that is read.
//!
//! ```text
//! order: vm, instance UUID ──► VM ──► its UUID is compared, before anything is read; a host has references of its own
//!        snapshot, its name ─► the snapshot's own hardware: files as they were frozen, change IDs
//!        key, file ──────────► disk ─► file, parents, capacity, change ID, place on its controller
//! ```

use forklift_api::worker::{VsphereDisk, WorkerError};
use forklift_providers::vsphere::vim::{Client, DeviceUrl, Element, MoRef, VimError};

use super::refused;

/// The disk as it is read.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub vm: MoRef,
    /// The snapshot that is read; none for the disk of a VM that is off.
    pub snapshot: Option<MoRef>,
    /// Key of the device.
    pub key: i32,
    /// Bytes of the disk.
    pub capacity: u64,
    /// `[datastore] folder/file.vmdk` of the state that is read, then its parents.
    pub files: Vec<String>,
    /// The state's change ID, where changes are tracked.
    pub change_id: Option<String>,
    /// What keeps the file from being read as a file.
    pub obstacle: Option<String>,
    place: Place,
    /// How many disks come before this one.
    number: usize,
}

/// Where a disk is attached.
#[derive(Debug, Clone, Default)]
struct Place {
    /// Type of the controller, `VirtualLsiLogicController`.
    controller: String,
    bus: i64,
    unit: i64,
}

/// What is read of a VM.
const VM: &[&str] =
    &["config.instanceUuid", "config.uuid", "config.hardware.device", "runtime.powerState", "name", "snapshot"];

/// The snapshot that an order names.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wanted<'a> {
    /// Its id at the server where it was taken.
    pub id: Option<&'a str>,
    /// Its name; an id of another server counts for nothing where the VM has a snapshot of this name.
    pub name: Option<&'a str>,
}

impl Wanted<'_> {
    /// Returns the snapshot's reference at the server that tells this tree.
    fn find(&self, tree: Option<&Element>) -> Option<MoRef> {
        let id = self.id.map(|id| MoRef::new("VirtualMachineSnapshot", id));
        let (Some(name), Some(tree)) = (self.name.filter(|_| id.is_some()), tree) else { return id };
        let mut named = Vec::new();
        let mut rest: Vec<&Element> = tree.all("rootSnapshotList").collect();
        while let Some(snapshot) = rest.pop() {
            if snapshot.text("name") == Some(name) {
                named.extend(snapshot.moref("snapshot"));
            }
            rest.extend(snapshot.all("childSnapshotList"));
        }
        if named.iter().any(|found| Some(found) == id.as_ref()) {
            return id;
        }
        named.into_iter().next().or(id)
    }
}

/// Finds the VM and its disk, and makes sure that they are the ones that the order means.
pub(super) async fn find(client: &Client, disk: &VsphereDisk, snapshot: Wanted<'_>) -> Result<Machine, WorkerError> {
    let (vm, props) = vm(client, disk).await?;
    let snapshot = snapshot.find(props.get("snapshot"));
    let frozen = match &snapshot {
        Some(snapshot) => {
            Some(client.properties(snapshot, &["config.hardware.device", "vm"]).await.map_err(|error| {
                if error.is_fault("ManagedObjectNotFound") {
                    let hint = "the snapshot was removed: the next round makes a new one";
                    return WorkerError::new(
                        "SnapshotMissing",
                        format!("{vm} has no snapshot {} any more", snapshot.value),
                        hint,
                        false,
                    );
                }
                refused(&format!("{vm}, snapshot {}", snapshot.value), &error)
            })?)
        }
        None => None,
    };
    if let (Some(frozen), Some(snapshot)) = (&frozen, &snapshot)
        && frozen.moref("vm").is_some_and(|owner| owner != vm)
    {
        let text = format!("snapshot {} is not one of {vm}", snapshot.value);
        return Err(WorkerError::new("SourceChanged", text, "this is a mistake of the controller: report it", false));
    }
    if snapshot.is_none() && props.text("runtime.powerState") != Some("poweredOff") {
        let state = props.text("runtime.powerState").unwrap_or("in an unknown state");
        let text = format!("{} ({vm}) is {state}, and no snapshot is named: its disks change", name(&props));
        return Err(WorkerError::new("SourceRunning", text, "shut the VM down, or migrate it warm", true));
    }
    let devices = frozen.as_ref().unwrap_or(&props).get("config.hardware.device").cloned().unwrap_or_default();
    let disks: Vec<&Element> = devices.items().filter(|device| device.is_a("VirtualDisk")).collect();
    let is_file = |device: &&&Element| {
        disk.file.is_empty() || device.text("backing.fileName").is_some_and(|file| trimmed(file) == disk.file)
    };
    let by_key = disks.iter().find(|device| device.int("key") == Some(disk.key.into())).filter(is_file);
    // on a host that is asked directly, or after a device was moved, the key may be another one
    let by_file = || disks.iter().find(|device| !disk.file.is_empty() && is_file(device));
    // and a host may call the datastore otherwise than its vCenter
    let direct = !client.about().is_vcenter();
    let is_path = |device: &&&Element| {
        let path = |file: &str| Machine::split(file).map(|(_, path)| path.to_owned());
        direct && device.text("backing.fileName").is_some_and(|file| path(&trimmed(file)) == path(&disk.file))
    };
    let by_path = || disks.iter().find(|device| device.int("key") == Some(disk.key.into())).filter(is_path);
    let Some(found) = by_key.or_else(by_file).or_else(by_path) else {
        let text = format!("{} ({vm}) has no disk {} with the file {:?}", name(&props), disk.key, disk.file);
        return Err(WorkerError::new("SourceChanged", text, "the VM's disks changed: start the plan anew", false));
    };
    Machine::read(vm, snapshot, found, &devices).ok_or_else(|| {
        WorkerError::new("SourceUnreadable", format!("disk {} has no size or file", disk.key), "report this", false)
    })
}

fn name(props: &forklift_providers::vsphere::vim::Props) -> &str {
    props.text("name").unwrap_or("the VM")
}

/// Returns the VM whose instance UUID is the order's.
async fn vm(
    client: &Client,
    disk: &VsphereDisk,
) -> Result<(MoRef, forklift_providers::vsphere::vim::Props), WorkerError> {
    let told = (!disk.vm.is_empty()).then(|| MoRef::vm(disk.vm.as_str()));
    let mut found = None;
    if let Some(vm) = told {
        match client.properties(&vm, VM).await {
            Ok(props) => found = Some((vm, props)),
            Err(error) if error.is_fault("ManagedObjectNotFound") => {}
            Err(error) => return Err(refused(&vm.to_string(), &error)),
        }
    }
    let uuid = |props: &forklift_providers::vsphere::vim::Props| {
        let filled = |path: &str| props.text(path).filter(|uuid| !uuid.is_empty());
        filled("config.instanceUuid").or_else(|| filled("config.uuid")).unwrap_or_default().to_ascii_lowercase()
    };
    let wanted = disk.instance_uuid.to_ascii_lowercase();
    if let Some((vm, props)) = found {
        if wanted.is_empty() || uuid(&props) == wanted {
            return Ok((vm, props));
        }
        let text = format!("{vm} has the instance UUID {:?}, the order is for {wanted:?}", uuid(&props));
        tracing::warn!("{text}: looking for it");
    }
    // a host that is asked directly has ids of its own
    let mut found = None;
    for instance in [true, false] {
        if found.is_none() && !wanted.is_empty() {
            found = client.find_vm(&wanted, instance).await.map_err(|error| refused("the VM", &error))?;
        }
    }
    let Some(vm) = found else {
        if !client.about().is_vcenter() && disk.vm.is_empty() {
            // the copy is ordered anew, from where the VM is then
            let text = format!("host {} has no VM with the UUID {wanted:?} (any more)", client.endpoint().host());
            return Err(WorkerError::new(
                "VmMoved",
                text,
                "the next attempt reads from the host that the VM is on then",
                true,
            ));
        }
        let text = format!("no VM {:?} with the instance UUID {wanted:?} at {}", disk.vm, disk.url);
        return Err(WorkerError::new(
            "SourceChanged",
            text,
            "the VM was removed or replaced: start the plan anew",
            false,
        ));
    };
    let props = client.properties(&vm, VM).await.map_err(|error| refused(&vm.to_string(), &error))?;
    if uuid(&props) != wanted {
        let text = format!("{vm} has the instance UUID {:?}, the order is for {wanted:?}", uuid(&props));
        return Err(WorkerError::new("SourceChanged", text, "the VM was replaced: start the plan anew", false));
    }
    Ok((vm, props))
}

impl Machine {
    fn read(vm: MoRef, snapshot: Option<MoRef>, disk: &Element, devices: &Element) -> Option<Self> {
        let backing = disk.get("backing")?;
        let mut files = Vec::new();
        let mut next = Some(backing);
        while let Some(file) = next.filter(|_| files.len() < 64) {
            files.push(file.text("fileName")?.to_owned());
            next = file.get("parent");
        }
        let bytes = disk.int("capacityInBytes").filter(|bytes| *bytes > 0);
        let bytes = bytes.or_else(|| disk.int("capacityInKB")?.checked_mul(1024))?;
        let kind = backing.xsi_type.as_deref().unwrap_or_default();
        let obstacle = if kind.contains("RawDiskMapping") {
            Some("it is a raw device mapping".to_owned())
        } else {
            backing.get("keyId").map(|_| "it is encrypted".to_owned())
        };
        let controller = devices.items().find(|device| device.int("key") == disk.int("controllerKey"));
        let place = Place {
            controller: controller.and_then(|found| found.xsi_type.as_deref()).unwrap_or_default().to_owned(),
            bus: controller.and_then(|found| found.int("busNumber")).unwrap_or(0),
            unit: disk.int("unitNumber").unwrap_or(0),
        };
        let before = devices.items().filter(|device| device.is_a("VirtualDisk")).take_while(|device| *device != disk);
        Some(Self {
            key: i32::try_from(disk.int("key")?).ok()?,
            capacity: u64::try_from(bytes).ok()?,
            files,
            change_id: backing.text("changeId").filter(|id| !id.is_empty()).map(str::to_owned),
            obstacle,
            place,
            number: before.count(),
            vm,
            snapshot,
        })
    }

    /// Returns a disk with these files, for tests.
    #[cfg(test)]
    pub(super) fn with_files(files: &[&str]) -> Self {
        Self {
            vm: MoRef::vm("vm-1"),
            snapshot: None,
            key: 2000,
            capacity: 0,
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            change_id: None,
            obstacle: None,
            place: Place::default(),
            number: 0,
        }
    }

    /// Returns the file that is read.
    pub(super) fn file(&self) -> &str {
        self.files.first().map_or("", String::as_str)
    }

    /// Returns the disk's file among those of a lease: by its place on the controller, else by its number.
    pub(super) fn of_lease<'a>(&self, devices: &'a [DeviceUrl]) -> Option<&'a DeviceUrl> {
        let disks: Vec<&DeviceUrl> = devices.iter().filter(|device| device.disk).collect();
        let at = format!("{}:{}", self.place.bus, self.place.unit);
        let whole = format!("{}{at}", self.place.controller);
        let last = |device: &&&DeviceUrl| device.key.rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(found) = disks.iter().find(|device| last(device) == whole) {
            return Some(found);
        }
        // the server may call the controller by another type of the same family
        let placed = |device: &&&DeviceUrl| {
            last(device).strip_suffix(&at).is_some_and(|name| !name.ends_with(|c: char| c.is_ascii_digit()))
        };
        let mut same = disks.iter().filter(placed);
        match (same.next(), same.next()) {
            (Some(only), None) => Some(only),
            _ => disks.get(self.number).copied(),
        }
    }

    /// Returns what tells the state that is read: a snapshot is frozen, a VM that is off is asked.
    pub(super) async fn state(&self, client: &Client) -> Result<String, VimError> {
        if let Some(snapshot) = &self.snapshot {
            return Ok(self.change_id.clone().unwrap_or_else(|| format!("snapshot {}", snapshot.value)));
        }
        let found = client.properties(&self.vm, &["config.changeVersion", "runtime.powerState"]).await?;
        let text = |path: &str| found.text(path).unwrap_or_default().to_owned();
        Ok(format!("{} {}", text("runtime.powerState"), text("config.changeVersion")))
    }

    /// Returns the datastore's name and the path in it of a file.
    pub(super) fn split(file: &str) -> Option<(&str, &str)> {
        file.strip_prefix('[')?.split_once(']').map(|(store, path)| (store, path.trim_start()))
    }

    /// Returns the path of the datacenter that a datastore of the VM lies in, as URLs of files have it.
    pub(super) async fn datacenter(&self, client: &Client, store: &str) -> Result<Option<String>, VimError> {
        let stores = client.properties(&self.vm, &["datastore"]).await?.morefs("datastore");
        for datastore in stores {
            if client.properties(&datastore, &["name"]).await?.text("name").map(decoded).as_deref() == Some(store) {
                return path_of_datacenter(client, datastore).await;
            }
        }
        Ok(None)
    }
}

/// Climbs to the datacenter, and on to the root, whose name does not count.
async fn path_of_datacenter(client: &Client, from: MoRef) -> Result<Option<String>, VimError> {
    let mut names = Vec::new();
    let mut next = Some(from);
    while let Some(object) = next.take() {
        let found = client.properties(&object, &["name", "parent"]).await?;
        next = found.moref("parent");
        let inside = object.kind == "Datacenter" || !names.is_empty();
        if inside && next.is_some() {
            names.push(decoded(found.text("name").unwrap_or_default()));
        }
    }
    names.reverse();
    Ok((!names.is_empty()).then(|| names.join("/")))
}

/// Names in vSphere have `%`, `/` and `\` escaped.
fn decoded(name: &str) -> String {
    let mut text = name.to_owned();
    for (escaped, plain) in [("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\"), ("%25", "%")] {
        text = text.replace(escaped, plain);
    }
    text
}

/// Returns a disk's base file: deltas have six digits before the extension.
fn trimmed(file: &str) -> String {
    let Some(stem) = file.strip_suffix(".vmdk") else {
        return file.to_owned();
    };
    match stem.rsplit_once('-') {
        Some((base, digits)) if digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            format!("{base}.vmdk")
        }
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = r#"<val xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
        <VirtualDevice xsi:type="ParaVirtualSCSIController"><key>1000</key><busNumber>0</busNumber></VirtualDevice>
        <VirtualDevice xsi:type="VirtualDisk"><key>2000</key><controllerKey>1000</controllerKey><unitNumber>0</unitNumber>
          <capacityInKB>8</capacityInKB><backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[a] v/v.vmdk</fileName></backing></VirtualDevice>
        <VirtualDevice xsi:type="VirtualDisk"><key>2001</key><controllerKey>1000</controllerKey><unitNumber>1</unitNumber>
          <capacityInKB>8</capacityInKB><capacityInBytes>8704</capacityInBytes>
          <backing xsi:type="VirtualDiskFlatVer2BackingInfo"><fileName>[a] v/v_1-000002.vmdk</fileName><changeId>52 aa/3</changeId>
            <parent><fileName>[a] v/v_1.vmdk</fileName></parent></backing></VirtualDevice></val>"#;

    fn second() -> Machine {
        let devices = Element::parse(DEVICES, Default::default()).expect("well-formed");
        let disk = devices.items().nth(2).expect("is there").clone();
        Machine::read(MoRef::vm("vm-1"), None, &disk, &devices).expect("has all")
    }

    #[test]
    fn a_disk_its_files_and_its_place() {
        let disk = second();
        assert_eq!((disk.key, disk.capacity, disk.number), (2001, 8704, 1));
        assert_eq!(disk.files, ["[a] v/v_1-000002.vmdk", "[a] v/v_1.vmdk"]);
        assert_eq!(disk.change_id.as_deref(), Some("52 aa/3"));
        assert_eq!(Machine::split(disk.file()), Some(("a", "v/v_1-000002.vmdk")));
    }

    #[test]
    fn the_file_of_a_lease_is_found_by_its_place() {
        let device = |key: &str, disk| DeviceUrl { key: key.into(), disk, ..DeviceUrl::default() };
        let pick = |keys: &[&str]| {
            let devices: Vec<_> = keys.iter().map(|key| device(key, !key.ends_with("nvram"))).collect();
            second().of_lease(&devices).map(|found| found.key.clone())
        };
        let names = ["/vm-1/ParaVirtualSCSIController0:0", "/vm-1/nvram", "/vm-1/ParaVirtualSCSIController0:1"];
        assert_eq!(pick(&names).as_deref(), Some(names[2]));
        assert_eq!(
            pick(&["/vm-1/VirtualSCSIController0:1", "/vm-1/VirtualSCSIController0:0"]).as_deref(),
            Some("/vm-1/VirtualSCSIController0:1")
        );
        assert_eq!(pick(&["/vm-1/x10:1", "/vm-1/y10:1"]).as_deref(), Some("/vm-1/y10:1"), "by its number");
        assert_eq!(pick(&["/vm-1/nvram"]), None);
    }

    #[test]
    fn base_files_have_no_number_of_a_delta() {
        for (file, base) in [
            ("[a] v/v-000001.vmdk", "[a] v/v.vmdk"),
            ("[a] v/v-00001.vmdk", "[a] v/v-00001.vmdk"),
            ("[a] v/v_1.vmdk", "[a] v/v_1.vmdk"),
            ("[a] v/2024-123456.vmdk", "[a] v/2024.vmdk"),
        ] {
            assert_eq!(trimmed(file), base);
        }
        assert_eq!(decoded("a%2fb%25"), "a/b%");
    }
}
