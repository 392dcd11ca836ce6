//! Records as upstream's JSON: its keys, in its order, `null` where it has `null`.

use forklift_inventory::{Native, Shown, Sink};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::extra::pci_address;
use super::{Cluster, Datacenter, Datastore, Disk, Folder, GuestNetwork, Host, Network, Nic, Ref, Vm, Word};

/// A record with what the store knows of it.
struct Whole<'a, T>(&'a T, &'a Shown<'a>);

macro_rules! shown {
    ($($native:ty),*) => {$(
        impl Native for $native {
            fn show(&self, shown: &Shown<'_>, sink: &mut Sink<'_>) {
                sink.put(&Whole(self, shown));
            }
        }

        impl Serialize for Whole<'_, $native> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                self.entries(&mut map)?;
                map.end()
            }
        }
    )*};
}

shown!(Datacenter, Folder, Cluster, Host, Network, Datastore, Vm);

impl<T> Whole<'_, T> {
    /// What all resources begin with.
    fn head<M: SerializeMap>(&self, map: &mut M, variant: &str, parent: &Ref) -> Result<(), M::Error> {
        let shown = self.1;
        map.serialize_entry("id", shown.id)?;
        if !variant.is_empty() {
            map.serialize_entry("variant", variant)?;
        }
        map.serialize_entry("parent", parent)?;
        if !shown.path.is_empty() {
            map.serialize_entry("path", shown.path)?;
        }
        map.serialize_entry("revision", &shown.revision)?;
        map.serialize_entry("name", shown.name)?;
        map.serialize_entry("selfLink", &shown.self_link)
    }
}

impl Whole<'_, Datacenter> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let it = self.0;
        self.head(map, "", &it.parent)?;
        map.serialize_entry("datastores", &it.datastores)?;
        map.serialize_entry("networks", &it.networks)?;
        map.serialize_entry("clusters", &it.clusters)?;
        map.serialize_entry("vms", &it.vms)
    }
}

impl Whole<'_, Folder> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let it = self.0;
        let parent = |kind: &str| if it.parent.kind == kind { it.parent.id.as_str() } else { "" };
        self.head(map, "", &it.parent)?;
        map.serialize_entry("folder", parent("Folder"))?;
        map.serialize_entry("datacenter", parent("Datacenter"))?;
        map.serialize_entry("children", &it.children)
    }
}

impl Whole<'_, Cluster> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let it = self.0;
        self.head(map, if it.standalone { "ComputeResource" } else { "" }, &it.parent)?;
        map.serialize_entry("folder", &it.parent.id)?;
        map.serialize_entry("networks", &it.networks)?;
        map.serialize_entry("datastores", &it.datastores)?;
        map.serialize_entry("hosts", &it.hosts)?;
        map.serialize_entry("dasEnabled", &it.das_enabled)?;
        map.serialize_entry("dasVms", &it.das_vms)?;
        map.serialize_entry("drsEnabled", &it.drs_enabled)?;
        map.serialize_entry("drsBehavior", &it.drs_behavior)?;
        map.serialize_entry("drsVms", &it.drs_vms)
    }
}

impl Whole<'_, Host> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let it = self.0;
        self.head(map, "", &it.parent)?;
        map.serialize_entry("cluster", &it.parent.id)?;
        map.serialize_entry("status", &it.status)?;
        map.serialize_entry("inMaintenance", &it.in_maintenance)?;
        map.serialize_entry("managementServerIp", &it.management_server)?;
        map.serialize_entry("thumbprint", &it.thumbprint)?;
        map.serialize_entry("timezone", &it.timezone)?;
        map.serialize_entry("cpuSockets", &it.cpu_sockets)?;
        map.serialize_entry("cpuCores", &it.cpu_cores)?;
        map.serialize_entry("memoryBytes", &it.memory)?;
        map.serialize_entry("productName", &it.product_name)?;
        map.serialize_entry("productVersion", &it.product_version)?;
        map.serialize_entry("networking", &Networking(it))?;
        map.serialize_entry("networks", &it.networks)?;
        map.serialize_entry("datastores", &it.datastores)?;
        // upstream has the key and never fills it
        map.serialize_entry("vms", &())?;
        map.serialize_entry("networkAdapters", &it.adapters)?;
        map.serialize_entry("hostScsiDisks", &some(&it.scsi_disks))?;
        map.serialize_entry("advancedOptions", &())?;
        map.serialize_entry("vmotionSupported", &it.vmotion)?;
        map.serialize_entry("storageVmotionSupported", &it.storage_vmotion)
    }
}

struct Networking<'a>(&'a Host);

impl Serialize for Networking<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let host = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("pNICs", &some(&host.pnics))?;
        map.serialize_entry("vNICs", &some(&host.vnics))?;
        map.serialize_entry("portGroups", &some(&host.port_groups))?;
        map.serialize_entry("switches", &some(&host.switches))?;
        map.end()
    }
}

/// Lists that upstream shows as `null` when they are empty.
fn some<T>(list: &[T]) -> Option<&[T]> {
    (!list.is_empty()).then_some(list)
}

impl Whole<'_, Network> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let it = self.0;
        // the variant stands behind the base here, and is there at all detail levels
        self.head(map, "", &it.parent)?;
        map.serialize_entry("variant", &it.variant)?;
        let is = |variant: &str| it.variant == variant;
        if is("DvPortGroup") {
            map.serialize_entry("dvSwitch", &it.switch)?;
        }
        map.serialize_entry("vlanId", &it.vlan)?;
        map.serialize_entry("host", &is("DvSwitch").then_some(&it.hosts))?;
        if is("Standard") && !it.tag.is_empty() {
            map.serialize_entry("tag", &it.tag)?;
        }
        if !it.key.is_empty() {
            map.serialize_entry("key", &it.key)?;
        }
        Ok(())
    }
}

impl Whole<'_, Datastore> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let it = self.0;
        self.head(map, "", &it.parent)?;
        map.serialize_entry("type", &it.kind)?;
        map.serialize_entry("capacity", &it.capacity)?;
        map.serialize_entry("free", &it.free)?;
        map.serialize_entry("maintenance", &it.maintenance)?;
        map.serialize_entry("backingDevicesNames", &it.backing_devices)?;
        for (key, value) in [("nasRemoteHost", &it.nas_host), ("nasRemotePath", &it.nas_path)] {
            if !value.is_empty() {
                map.serialize_entry(key, value)?;
            }
        }
        if !it.nas_hosts.is_empty() {
            map.serialize_entry("nasRemoteHostNames", &it.nas_hosts)?;
        }
        let iorm = it.iorm.unwrap_or_default();
        let mode = match it.iorm {
            None => "",
            Some(iorm) if iorm.manual => "manual",
            Some(_) => "automatic",
        };
        map.serialize_entry("storageIORMSupported", &it.iorm_supported)?;
        map.serialize_entry("iormEnabled", &iorm.enabled)?;
        map.serialize_entry("iormCongestionThreshold", &iorm.threshold)?;
        map.serialize_entry("iormCongestionThresholdMode", mode)?;
        map.serialize_entry("iormPercentOfPeakThroughput", &iorm.percent)
    }
}

impl Whole<'_, Vm> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let (it, verdict) = (self.0, self.1.verdict);
        self.head(map, "", &it.parent)?;
        map.serialize_entry("revisionValidated", &verdict.revision)?;
        map.serialize_entry("isTemplate", &it.is_template)?;
        map.serialize_entry("powerState", &it.power_state)?;
        map.serialize_entry("host", &it.host)?;
        map.serialize_entry("networks", &it.networks)?;
        map.serialize_entry("disks", &List(&it.disks))?;
        map.serialize_entry("concerns", &verdict.concerns)?;
        map.serialize_entry("policyVersion", &verdict.policy_version)?;
        map.serialize_entry("uuid", &it.uuid)?;
        map.serialize_entry("instanceUuid", &it.instance_uuid)?;
        map.serialize_entry("firmware", &it.firmware)?;
        map.serialize_entry("connectionState", &it.connection_state)?;
        map.serialize_entry("snapshot", &Snapshot(&it.snapshots.current))?;
        map.serialize_entry("changeTrackingEnabled", &it.changes_tracked())?;
        map.serialize_entry("consolidationNeeded", &it.consolidation_needed)?;
        map.serialize_entry("cpuAffinity", &it.cpu_affinity)?;
        map.serialize_entry("cpuHotAddEnabled", &it.cpu_hot_add)?;
        map.serialize_entry("cpuHotRemoveEnabled", &it.cpu_hot_remove)?;
        map.serialize_entry("memoryHotAddEnabled", &it.memory_hot_add)?;
        map.serialize_entry("faultToleranceEnabled", &it.fault_tolerance)?;
        map.serialize_entry("cpuCount", &it.cpu_count)?;
        map.serialize_entry("coresPerSocket", &it.cores_per_socket)?;
        map.serialize_entry("memoryMB", &it.memory_mb)?;
        map.serialize_entry("guestName", &it.guest_name)?;
        map.serialize_entry("guestNameFromVmwareTools", &it.guest_name_from_tools)?;
        map.serialize_entry("hostName", &it.host_name)?;
        map.serialize_entry("guestId", &it.guest_id)?;
        map.serialize_entry("balloonedMemory", &it.ballooned_memory)?;
        map.serialize_entry("ipAddress", &it.ip_address)?;
        map.serialize_entry("storageUsed", &it.storage_used)?;
        map.serialize_entry("tpmEnabled", &it.tpm)?;
        map.serialize_entry("numaNodeAffinity", &it.extra.numa_nodes)?;
        map.serialize_entry("devices", &it.devices)?;
        map.serialize_entry("nics", &Nics(it))?;
        map.serialize_entry("guestNetworks", &List(&it.guest_networks))?;
        map.serialize_entry("guestDisks", &it.guest_disks)?;
        map.serialize_entry("guestIpStacks", &it.ip_stacks)?;
        map.serialize_entry("secureBoot", &it.secure_boot)?;
        map.serialize_entry("toolsStatus", &it.tools_status)?;
        map.serialize_entry("toolsRunningStatus", &it.tools_running_status)?;
        map.serialize_entry("toolsVersionStatus2", &it.tools_version_status)?;
        map.serialize_entry("diskEnableUuid", &it.extra.disk_uuid)?;
        map.serialize_entry("nestedHVEnabled", &it.nested)?;
        map.serialize_entry("customDef", &it.custom_fields)?;
        map.serialize_entry("customValues", &it.custom_values)?;
        map.serialize_entry("tags", &it.tags)
    }
}

/// Reference to the current snapshot, or an empty one.
struct Snapshot<'a>(&'a str);

impl Serialize for Snapshot<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("kind", if self.0.is_empty() { "" } else { "VirtualMachineSnapshot" })?;
        map.serialize_entry("id", self.0)?;
        map.end()
    }
}

/// A list whose items are shown in another way than they are kept.
struct List<'a, T>(&'a [T]);

/// An item of such a list.
struct One<'a, T>(&'a T);

impl<T> Serialize for List<'_, T>
where
    for<'x> One<'x, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(One))
    }
}

impl Serialize for One<'_, Disk> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let disk = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &disk.key)?;
        map.serialize_entry("unitNumber", &disk.unit_number)?;
        map.serialize_entry("controllerKey", &disk.controller_key)?;
        map.serialize_entry("file", &disk.file)?;
        map.serialize_entry("datastore", &disk.datastore)?;
        map.serialize_entry("capacity", &disk.capacity)?;
        map.serialize_entry("shared", &disk.shared)?;
        map.serialize_entry("rdm", &disk.rdm)?;
        if disk.physical_mode {
            map.serialize_entry("physicalMode", &true)?;
        }
        map.serialize_entry("bus", &disk.bus)?;
        let mut text = |key: &str, value: &str| match value {
            "" => Ok(()),
            value => map.serialize_entry(key, value),
        };
        text("mode", &disk.mode)?;
        text("serial", &disk.serial)?;
        if let Some(letter) = &disk.win_drive_letter {
            map.serialize_entry("winDriveLetter", letter)?;
        }
        map.serialize_entry("changeTrackingEnabled", &disk.change_tracking)?;
        map.serialize_entry("parent", &disk.parent)?;
        let mut text = |key: &str, value: &str| match value {
            "" => Ok(()),
            value => map.serialize_entry(key, value),
        };
        text("deviceName", &disk.device_name)?;
        text("vvolId", &disk.vvol_id)?;
        text("lunUuid", &disk.lun_uuid)?;
        map.end()
    }
}

impl Serialize for One<'_, GuestNetwork> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let it = self.0;
        let mut map = serializer.serialize_map(Some(8))?;
        map.serialize_entry("device", &it.device.to_string())?;
        map.serialize_entry("deviceConfigId", &it.device_config_id)?;
        map.serialize_entry("mac", &it.mac)?;
        map.serialize_entry("ip", &it.ip)?;
        map.serialize_entry("origin", &it.origin)?;
        map.serialize_entry("prefix", &it.prefix)?;
        map.serialize_entry("dns", &it.dns)?;
        map.serialize_entry("network", &it.network)?;
        map.end()
    }
}

/// NICs, with the addresses that their slots have behind the VM's bridges.
struct Nics<'a>(&'a Vm);

impl Serialize for Nics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let vm = self.0;
        serializer.collect_seq(vm.nics.iter().map(|nic| ShownNic { nic, vm }))
    }
}

struct ShownNic<'a> {
    nic: &'a Nic,
    vm: &'a Vm,
}

impl Serialize for ShownNic<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nic = self.nic;
        let mut map = serializer.serialize_map(Some(6))?;
        map.serialize_entry("network", &Ref { kind: Word::new("Network"), id: nic.network.clone() })?;
        map.serialize_entry("mac", &nic.mac)?;
        map.serialize_entry("order", &nic.order)?;
        map.serialize_entry("deviceKey", &nic.device_key)?;
        map.serialize_entry("pciAddress", &pci_address(nic.slot, self.vm.bridges()).unwrap_or_default())?;
        map.serialize_entry("startConnected", &nic.start_connected)?;
        map.end()
    }
}
