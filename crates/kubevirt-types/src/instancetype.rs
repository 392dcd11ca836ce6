//! Instance types and preferences: sizes and habits of VMs by name.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use crate::nad::NoStatus;
use crate::resource::{part, resource};

resource! {
    /// Sizes of VMs, for one namespace.
    VirtualMachineInstancetype { spec: InstancetypeSpec, status: NoStatus }
    NamespaceResourceScope "instancetype.kubevirt.io" "v1beta1" "virtualmachineinstancetypes"
}

resource! {
    /// Sizes of VMs.
    VirtualMachineClusterInstancetype { spec: InstancetypeSpec, status: NoStatus }
    ClusterResourceScope "instancetype.kubevirt.io" "v1beta1" "virtualmachineclusterinstancetypes"
}

resource! {
    /// Habits of VMs, for one namespace.
    VirtualMachinePreference { spec: PreferenceSpec, status: NoStatus }
    NamespaceResourceScope "instancetype.kubevirt.io" "v1beta1" "virtualmachinepreferences"
}

resource! {
    /// Habits of VMs.
    VirtualMachineClusterPreference { spec: PreferenceSpec, status: NoStatus }
    ClusterResourceScope "instancetype.kubevirt.io" "v1beta1" "virtualmachineclusterpreferences"
}

part! {
    /// Sizes of VMs.
    InstancetypeSpec {
        /// Processors.
        cpu: Option<InstancetypeCpu>,
        /// Memory.
        memory: Option<InstancetypeMemory>,
    }
}

part! {
    /// Processors.
    InstancetypeCpu {
        /// How many the guest sees.
        guest: Option<u32>,
    }
}

part! {
    /// Memory.
    InstancetypeMemory {
        /// What the guest sees.
        guest: Option<Quantity>,
    }
}

part! {
    /// Habits of VMs.
    PreferenceSpec {
        /// Processors.
        cpu: Option<Value>,
        /// Devices.
        devices: Option<PreferredDevices>,
        /// Firmware.
        firmware: Option<Value>,
        /// Features.
        features: Option<Value>,
        /// Clock.
        clock: Option<Value>,
        /// Machine type.
        machine: Option<Value>,
        /// What VMs must have.
        requirements: Option<Value>,
    }
}

part! {
    /// Habits of devices.
    PreferredDevices {
        /// The bus of disks.
        preferred_disk_bus: Option<String>,
        /// The model of interfaces.
        preferred_interface_model: Option<String>,
        /// The bus of CD drives.
        preferred_cdrom_bus: Option<String>,
        /// The bus of pointing devices.
        preferred_input_bus: Option<String>,
        /// The type of pointing devices.
        preferred_input_type: Option<String>,
    }
}
