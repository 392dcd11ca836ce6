//! What is asked of each type: the property paths of the inventory's filter.
//!
//! Paths are those that upstream collects, with what our checks need beyond
//! them. A path that a server does not know makes it refuse the whole filter, so
//! [`paths`] leaves out what older servers lack.

use super::vim::About;

const FOLDER: &[&str] = &["name", "parent", "childEntity"];
const DATACENTER: &[&str] = &["name", "parent", "vmFolder", "hostFolder", "networkFolder", "datastoreFolder"];
const COMPUTE_RESOURCE: &[&str] = &["name", "parent", "host", "network", "datastore"];
const CLUSTER: &[&str] = &[
    "name",
    "parent",
    "host",
    "network",
    "datastore",
    "configuration.dasConfig.enabled",
    "configuration.dasVmConfig",
    "configuration.drsConfig.enabled",
    "configuration.drsConfig.defaultVmBehavior",
    "configuration.drsVmConfig",
];
const HOST: &[&str] = &[
    "name",
    "parent",
    "overallStatus",
    "config.product.name",
    "config.product.version",
    "summary.config.sslThumbprint",
    "config.dateTimeInfo.timeZone.name",
    "summary.managementServerIp",
    "summary.runtime.inMaintenanceMode",
    // ours: a host that does not answer cannot give its disks away
    "runtime.connectionState",
    "summary.hardware.numCpuPkgs",
    "summary.hardware.numCpuCores",
    "summary.hardware.memorySize",
    "datastore",
    "network",
    "config.network.vswitch",
    "config.network.portgroup",
    "config.network.pnic",
    "config.network.vnic",
    "config.virtualNicManagerInfo.netConfig",
    "config.storageDevice.scsiLun",
    "config.storageDevice.hostBusAdapter",
    "config.storageDevice.scsiTopology.adapter",
    "configManager.advancedOption",
    "hardware.systemInfo.model",
    "hardware.systemInfo.vendor",
    "capability.vmotionSupported",
    "capability.storageVMotionSupported",
];
const NETWORK: &[&str] = &["name", "parent", "tag"];
const OPAQUE_NETWORK: &[&str] = &["name", "parent", "tag", "summary"];
// upstream leaves the parent out, so that its port groups have no path
const PORT_GROUP: &[&str] =
    &["name", "parent", "config.distributedVirtualSwitch", "config.defaultPortConfig", "tag", "key"];
const SWITCH: &[&str] = &["name", "parent", "config.host"];
const DATASTORE: &[&str] = &[
    "name",
    "parent",
    "summary.type",
    "summary.capacity",
    "summary.freeSpace",
    "summary.maintenanceMode",
    "info",
    "capability.storageIORMSupported",
    "iormConfiguration",
];
const VM: &[&str] = &[
    "name",
    "parent",
    "config.uuid",
    "config.instanceUuid",
    "config.firmware",
    "config.ftInfo",
    "config.cpuAffinity",
    "config.bootOptions",
    "config.cpuHotAddEnabled",
    "config.cpuHotRemoveEnabled",
    "config.memoryHotAddEnabled",
    "config.hardware.numCPU",
    "config.hardware.numCoresPerSocket",
    "config.hardware.memoryMB",
    "config.hardware.device",
    "config.extraConfig",
    "config.nestedHVEnabled",
    "config.template",
    "config.changeTrackingEnabled",
    // ours: since 6.5; a VM whose files are encrypted
    "config.keyId",
    "guest.net",
    "guest.disk",
    "guest.ipStack",
    "guest.guestFullName",
    "guest.hostName",
    "guest.toolsStatus",
    "guest.toolsRunningStatus",
    "guest.toolsVersionStatus2",
    // ours: what was configured, where no guest ever reported
    "summary.config.guestId",
    "summary.config.guestFullName",
    "summary.guest.guestId",
    "summary.guest.ipAddress",
    "summary.quickStats.balloonedMemory",
    "summary.storage.committed",
    "network",
    "runtime.host",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.consolidationNeeded",
    "snapshot",
    "availableField",
    "customValue",
];
/// Since API version 6.7.
const VM_TPM: &str = "summary.config.tpmPresent";

/// Returns the paths by type, for a server.
pub fn paths(about: &About) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut vm = VM.to_vec();
    if about.is_at_least(6, 7) {
        vm.push(VM_TPM);
    }
    vec![
        ("Folder", FOLDER.to_vec()),
        ("Datacenter", DATACENTER.to_vec()),
        ("ComputeResource", COMPUTE_RESOURCE.to_vec()),
        ("ClusterComputeResource", CLUSTER.to_vec()),
        ("HostSystem", HOST.to_vec()),
        ("Network", NETWORK.to_vec()),
        ("OpaqueNetwork", OPAQUE_NETWORK.to_vec()),
        ("DistributedVirtualPortgroup", PORT_GROUP.to_vec()),
        ("VmwareDistributedVirtualSwitch", SWITCH.to_vec()),
        ("Datastore", DATASTORE.to_vec()),
        ("VirtualMachine", vm),
    ]
}

/// A path as an update names it: `config.hardware.device[2000].backing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// The property that was asked for, as far as the path names it.
    pub property: &'a str,
    /// Key of an array's element, without quotes.
    pub key: Option<&'a str>,
    /// What is within that element; empty for the element itself.
    pub rest: &'a str,
}

impl<'a> Path<'a> {
    /// Splits a path at its first array element.
    pub fn parse(path: &'a str) -> Self {
        let Some((property, after)) = path.split_once('[') else {
            return Self { property: path, key: None, rest: "" };
        };
        // a quoted key may hold brackets: extraConfig["guestinfo.x[1]"]
        let (key, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once("\"]").unwrap_or((quoted, "")),
            None => after.split_once(']').unwrap_or((after, "")),
        };
        Self { property, key: Some(key), rest: rest.trim_start_matches('.') }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_property_an_element_and_what_is_in_it() {
        let path = |property, key, rest| Path { property, key, rest };
        assert_eq!(Path::parse("config.uuid"), path("config.uuid", None, ""));
        assert_eq!(Path::parse("config.hardware.device[2000]"), path("config.hardware.device", Some("2000"), ""));
        assert_eq!(
            Path::parse("config.hardware.device[4000].connectable.connected"),
            path("config.hardware.device", Some("4000"), "connectable.connected")
        );
        assert_eq!(
            Path::parse("config.extraConfig[\"guestinfo.x[1]\"].value"),
            path("config.extraConfig", Some("guestinfo.x[1]"), "value")
        );
        assert_eq!(Path::parse("a[1"), path("a", Some("1"), ""));
    }

    #[test]
    fn the_presence_of_a_tpm_is_asked_of_servers_that_know_it() {
        let vm_paths = |version: &str| {
            let about = About { api_version: version.into(), ..About::default() };
            let all = paths(&about);
            all.iter().find(|(kind, _)| *kind == "VirtualMachine").map(|(_, p)| p.contains(&VM_TPM))
        };
        assert_eq!((vm_paths("6.5"), vm_paths("6.7.1"), vm_paths("8.0.2.0")), (Some(false), Some(true), Some(true)));
    }
}
