//! VirtualMachineInstance: a VM while it runs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::kubevirt::Condition;
pub use crate::kubevirt::VirtualMachineInstanceSpec;
use crate::resource::{part, resource};

resource! {
    /// A VM while it runs.
    VirtualMachineInstance { spec: VirtualMachineInstanceSpec, status: VirtualMachineInstanceStatus }
    NamespaceResourceScope "kubevirt.io" "v1" "virtualmachineinstances"
}

/// Values of `status.volumeStatus[].phase`.
pub mod volume_phase {
    /// It waits.
    pub const PENDING: &str = "Pending";
    /// Its claim has a volume.
    pub const BOUND: &str = "Bound";
    /// The guest can use it.
    pub const READY: &str = "Ready";
    /// It is being unplugged.
    pub const DETACHING: &str = "Detaching";
}

/// Values of `status.phase`.
pub mod phase {
    /// Not yet looked at.
    pub const PENDING: &str = "Pending";
    /// Waits for its pod.
    pub const SCHEDULING: &str = "Scheduling";
    /// Its pod runs.
    pub const SCHEDULED: &str = "Scheduled";
    /// It runs.
    pub const RUNNING: &str = "Running";
    /// It was shut down.
    pub const SUCCEEDED: &str = "Succeeded";
    /// It ended badly.
    pub const FAILED: &str = "Failed";
    /// It waits for another's state.
    pub const WAITING_FOR_SYNC: &str = "WaitingForSync";
    /// Nobody knows.
    pub const UNKNOWN: &str = "Unknown";
}

part! {
    /// How a running VM is.
    VirtualMachineInstanceStatus {
        /// How far it is.
        phase: Option<String>,
        /// Why, in a word.
        reason: Option<String>,
        /// Where it runs.
        node_name: Option<String>,
        /// Its interfaces, as they are.
        interfaces: Vec<InterfaceStatus>,
        /// Its system, as the guest agent says.
        guest_os_info as "guestOSInfo": Option<GuestOsInfo>,
        /// What was found.
        conditions: Vec<Condition>,
        /// When it came to each phase.
        phase_transition_timestamps: Vec<PhaseTransition>,
        /// Its pods by UID, with their nodes.
        active_pods: BTreeMap<String, String>,
        /// Its machine type.
        machine: Option<Value>,
        /// Its volumes, as they are.
        volume_status: Vec<VolumeStatus>,
        /// Its quality of service.
        qos_class: Option<String>,
        /// The user that its pod runs as.
        runtime_user: Option<u64>,
        /// What runs it.
        launcher_container_image_version: Option<String>,
        /// Its processors, as they are.
        current_cpu_topology as "currentCPUTopology": Option<Value>,
        /// Its memory, as it is.
        memory: Option<Value>,
        /// How it can be moved.
        migration_method: Option<String>,
        /// Whether its file systems are frozen.
        fs_freeze_status: Option<String>,
    }
}

part! {
    /// An interface, as it is.
    InterfaceStatus {
        /// Its name in the spec.
        name: Option<String>,
        /// Its first address.
        ip_address: Option<String>,
        /// Its addresses.
        ip_addresses: Vec<String>,
        /// Its MAC address.
        mac: Option<String>,
        /// Its name in the guest.
        interface_name: Option<String>,
        /// Who says so.
        info_source: Option<String>,
        /// How many queues it has.
        queue_count: Option<i32>,
        /// Its name in the pod.
        pod_interface_name: Option<String>,
        /// `up` or `down`.
        link_state: Option<String>,
    }
}

part! {
    /// A guest's system.
    GuestOsInfo {
        /// Its id, e.g. `debian`.
        id: Option<String>,
        /// Its name.
        name: Option<String>,
        /// Its name and version.
        pretty_name: Option<String>,
        /// Its version.
        version: Option<String>,
        /// Its version's id.
        version_id: Option<String>,
        /// Its kernel.
        kernel_release: Option<String>,
        /// Its kernel's version.
        kernel_version: Option<String>,
        /// Its architecture.
        machine: Option<String>,
    }
}

part! {
    /// When a phase began.
    PhaseTransition {
        /// The phase.
        phase: Option<String>,
        /// When.
        phase_transition_timestamp: Option<Time>,
    }
}

part! {
    /// A volume, as it is.
    VolumeStatus {
        /// Its name.
        name: String,
        /// Its device in the guest.
        target: String,
        /// Its size in bytes.
        size: Option<i64>,
        /// How far plugging in is.
        phase: Option<String>,
        /// Why, in a word.
        reason: Option<String>,
        /// What to tell a person.
        message: Option<String>,
        /// What plugs it in; it is there for volumes that came later.
        hotplug_volume: Option<Value>,
        /// What is known of its claim.
        persistent_volume_claim_info: Option<Value>,
    }
}
