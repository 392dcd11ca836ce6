//! Property changes on a VM.
//!
//! Three kinds of properties differ in what an unset value means:
//! - what every VM has (`config.uuid`, devices …): unset only while the host does not answer, so the last value stays;
//! - what a VM may have (affinity, fault tolerance …): unset means that it has it no more;
//! - what the guest reports: unset when it stops, and the last report stays, because migrations of stopped VMs need
//!   its addresses.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use forklift_core::names::SNAPSHOT_NAME;

use super::places::{set_name, truth, unknown, word};
use super::vm::{CustomField, CustomValue, Snapshots};
use super::{Extra, Partial, Ref, Tracked, Vm, Word, guest};
use crate::vsphere::properties::Path;
use crate::vsphere::vim::Element;

impl Tracked for Vm {
    fn apply(&mut self, path: &str, value: Option<&Element>) -> Result<(), Partial> {
        let path = Path::parse(path);
        if let Some(key) = path.key {
            return self.apply_element(path, key, value);
        }
        let is_on = || value.and_then(|v| v.bool(""));
        match path.property {
            "name" => set_name(&mut self.name, value),
            "parent" => self.parent = Ref::read(value),
            // every VM has these
            "config.uuid" => keep(&mut self.uuid, value),
            "config.instanceUuid" => keep(&mut self.instance_uuid, value),
            "config.firmware" => keep_word(&mut self.firmware, value),
            "config.hardware.numCPU" => keep_number(&mut self.cpu_count, value),
            "config.hardware.numCoresPerSocket" => keep_number(&mut self.cores_per_socket, value),
            "config.hardware.memoryMB" => keep_number(&mut self.memory_mb, value),
            "config.template" => self.is_template = is_on().unwrap_or(self.is_template),
            "config.hardware.device" => {
                if let Some(devices) = value {
                    self.set_devices(devices);
                }
            }
            "config.extraConfig" => {
                if let Some(options) = value {
                    self.extra = Extra::read(options);
                    self.relate_disks();
                }
            }
            "summary.config.guestId" => keep_word(&mut self.configured_guest_id, value),
            "summary.config.guestFullName" => keep_word(&mut self.guest_name, value),
            "runtime.host" => keep_word(&mut self.host, value),
            "runtime.powerState" => keep_word(&mut self.power_state, value),
            "runtime.connectionState" => keep_word(&mut self.connection_state, value),
            "network" => {
                if value.is_some() {
                    self.networks = Ref::list(value);
                }
            }
            // a VM may have these
            "config.ftInfo" => self.fault_tolerance = value.is_some(),
            "config.cpuAffinity" => {
                let set = value.into_iter().flat_map(|v| v.all("affinitySet"));
                self.cpu_affinity = set.filter_map(|cpu| i32::try_from(cpu.int("")?).ok()).collect();
            }
            "config.bootOptions" => {
                self.secure_boot = value.and_then(|v| v.bool("efiSecureBootEnabled")).unwrap_or(false);
                let order = value.into_iter().flat_map(|v| v.all("bootOrder"));
                let mut disks = order.filter_map(|device| i32::try_from(device.int("deviceKey")?).ok());
                // network cards have keys too: 4000 and more
                self.boot_disk = disks.find(|key| self.disk(*key).is_some() || (2000..4000).contains(key));
            }
            "config.cpuHotAddEnabled" => self.cpu_hot_add = truth(value),
            "config.cpuHotRemoveEnabled" => self.cpu_hot_remove = truth(value),
            "config.memoryHotAddEnabled" => self.memory_hot_add = truth(value),
            "config.nestedHVEnabled" => self.nested = truth(value),
            "config.changeTrackingEnabled" => self.change_tracking = is_on(),
            "config.keyId" => self.encrypted = value.is_some(),
            "summary.config.tpmPresent" => self.tpm = truth(value),
            "summary.quickStats.balloonedMemory" => self.ballooned_memory = small(value).unwrap_or(0),
            "summary.storage.committed" => self.storage_used = value.and_then(|v| v.int("")).unwrap_or(0),
            "runtime.consolidationNeeded" => self.consolidation_needed = truth(value),
            "snapshot" => self.snapshots = value.map(snapshots).unwrap_or_default(),
            "availableField" => self.custom_fields = value.map(custom_fields).unwrap_or_default(),
            "customValue" => {
                self.custom_values = value.into_iter().flat_map(Element::items).filter_map(custom_value).collect();
            }
            "guest.toolsStatus" => self.tools_status = word(value),
            "guest.toolsRunningStatus" => self.tools_running_status = word(value),
            "guest.toolsVersionStatus2" => self.tools_version_status = word(value),
            // the guest reports these
            "guest.guestFullName" => keep_word(&mut self.guest_name_from_tools, value),
            "guest.hostName" => keep(&mut self.host_name, value),
            "summary.guest.guestId" => keep_word(&mut self.guest_id, value),
            "summary.guest.ipAddress" => keep(&mut self.ip_address, value),
            "guest.net" => keep_list(&mut self.guest_networks, value.map(guest::networks)),
            "guest.ipStack" => keep_list(&mut self.ip_stacks, value.map(guest::ip_stacks)),
            "guest.disk" => keep_list(&mut self.guest_disks, value.map(guest::disks)),
            _ => return unknown(path.property),
        }
        match path.property {
            "guest.net" => self.sort_nics(),
            "guest.disk" => self.relate_disks(),
            _ => {}
        }
        Ok(())
    }

    fn place(&self) -> (&str, &Ref) {
        (&self.name, &self.parent)
    }

    /// Everything that a VM may have is gone unless it is told again; the rest stays until it is.
    fn entered(&self) -> Self {
        Self {
            parent: Ref::default(),
            fault_tolerance: false,
            cpu_affinity: Box::default(),
            secure_boot: false,
            boot_disk: None,
            cpu_hot_add: false,
            cpu_hot_remove: false,
            memory_hot_add: false,
            nested: false,
            change_tracking: None,
            encrypted: false,
            tpm: false,
            consolidation_needed: false,
            snapshots: Snapshots::default(),
            custom_values: Box::default(),
            tools_status: Word::default(),
            tools_running_status: Word::default(),
            tools_version_status: Word::default(),
            ..self.clone()
        }
    }
}

impl Vm {
    /// Takes one element of an array, or its removal.
    fn apply_element(&mut self, path: Path<'_>, key: &str, value: Option<&Element>) -> Result<(), Partial> {
        match (path.property, path.rest, key.parse::<i32>()) {
            ("config.hardware.device", "", Ok(key)) => self.set_device(key, value),
            ("config.extraConfig", "" | "value", _) => {
                let text = value.map(|v| v.text("value").unwrap_or(&v.text));
                self.extra.set(key, text);
                self.relate_disks();
            }
            ("customValue", "" | "value", Ok(key)) => {
                let text = value.map(|v| v.text("value").unwrap_or(&v.text));
                let others = self.custom_values.iter().filter(|known| known.key != key).cloned();
                let changed = text.map(|text| CustomValue { key, value: text.into() });
                self.custom_values = others.chain(changed).collect();
            }
            // something within an element: what is kept is not enough to put it together again
            _ => return Err(Partial { property: path.property.to_owned() }),
        }
        Ok(())
    }
}

fn keep(known: &mut Box<str>, value: Option<&Element>) {
    if let Some(value) = value.filter(|v| !v.text.is_empty()) {
        *known = value.text.as_str().into();
    }
}

fn keep_word(known: &mut Word, value: Option<&Element>) {
    if let Some(value) = value.filter(|v| !v.text.is_empty()) {
        *known = Word::new(&value.text);
    }
}

fn small(value: Option<&Element>) -> Option<i32> {
    i32::try_from(value?.int("")?).ok()
}

fn keep_number(known: &mut i32, value: Option<&Element>) {
    *known = small(value).unwrap_or(*known);
}

fn keep_list<T>(known: &mut Box<[T]>, reported: Option<Box<[T]>>) {
    if let Some(reported) = reported.filter(|list| !list.is_empty()) {
        *known = reported;
    }
}

/// Reads the tree of snapshots.
fn snapshots(info: &Element) -> Snapshots {
    let mut found = Snapshots {
        current: info.moref("currentSnapshot").map(|s| s.value.into()).unwrap_or_default(),
        ..Snapshots::default()
    };
    let mut ours = Vec::new();
    let mut waiting: Vec<&Element> = info.all("rootSnapshotList").collect();
    while let Some(snapshot) = waiting.pop() {
        let name = snapshot.text("name").unwrap_or_default();
        if name.starts_with(SNAPSHOT_NAME) {
            ours.push(name.into());
        } else {
            found.foreign = found.foreign.saturating_add(1);
        }
        waiting.extend(snapshot.all("childSnapshotList"));
    }
    ours.sort();
    found.ours = ours.into();
    found
}

/// Returns the definitions of custom attributes. Each VM is told the same list: it is kept once.
fn custom_fields(fields: &Element) -> Arc<[CustomField]> {
    static LAST: LazyLock<Mutex<Arc<[CustomField]>>> = LazyLock::new(Mutex::default);
    let field = |field: &Element| CustomField {
        name: field.text("name").unwrap_or_default().into(),
        key: super::devices::int(field, "key"),
        managed_type: field.text("managedObjectType").unwrap_or_default().into(),
    };
    let read: Vec<CustomField> = fields.items().map(field).collect();
    if read.is_empty() {
        return Arc::default();
    }
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if **last != *read {
        *last = read.into();
    }
    last.clone()
}

fn custom_value(value: &Element) -> Option<CustomValue> {
    let text = value.text("value")?;
    Some(CustomValue { key: super::devices::int(value, "key"), value: text.into() })
}
