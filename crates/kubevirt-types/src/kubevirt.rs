//! VirtualMachine: what we make at the end of a migration.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::Value;

use crate::resource::{part, resource};

resource! {
    /// A VM, running or not.
    VirtualMachine { spec: VirtualMachineSpec, status: VirtualMachineStatus }
    NamespaceResourceScope "kubevirt.io" "v1" "virtualmachines"
}

/// Values of `spec.runStrategy`.
pub mod run_strategy {
    /// It runs, and is started again when it stops.
    pub const ALWAYS: &str = "Always";
    /// It does not run.
    pub const HALTED: &str = "Halted";
    /// It is started and stopped by hand.
    pub const MANUAL: &str = "Manual";
    /// It is started again when it fails.
    pub const RERUN_ON_FAILURE: &str = "RerunOnFailure";
    /// It runs once.
    pub const ONCE: &str = "Once";
    /// It waits for the state of another.
    pub const WAIT_AS_RECEIVER: &str = "WaitAsReceiver";
}

/// Values of `status.printableStatus`.
pub mod printable_status {
    /// It does not run.
    pub const STOPPED: &str = "Stopped";
    /// Its volumes are not ready.
    pub const PROVISIONING: &str = "Provisioning";
    /// It is being started.
    pub const STARTING: &str = "Starting";
    /// It runs.
    pub const RUNNING: &str = "Running";
    /// It is paused.
    pub const PAUSED: &str = "Paused";
    /// It is being stopped.
    pub const STOPPING: &str = "Stopping";
    /// It is being deleted.
    pub const TERMINATING: &str = "Terminating";
    /// It ends again and again.
    pub const CRASH_LOOP_BACK_OFF: &str = "CrashLoopBackOff";
    /// It cannot be scheduled.
    pub const UNSCHEDULABLE: &str = "ErrorUnschedulable";
    /// A volume claim does not exist.
    pub const PVC_NOT_FOUND: &str = "ErrorPvcNotFound";
    /// Nobody knows.
    pub const UNKNOWN: &str = "Unknown";
}

part! {
    /// What a VM is.
    VirtualMachineSpec {
        /// Whether it runs; the older way of saying it.
        running: Option<bool>,
        /// When it runs.
        run_strategy: Option<String>,
        /// Its instance type.
        instancetype: Option<Matcher>,
        /// Its preference.
        preference: Option<Matcher>,
        /// What runs.
        template: VirtualMachineInstanceTemplate,
        /// Data volumes that are made with it.
        data_volume_templates: Vec<Value>,
    }
}

part! {
    /// An instance type or a preference by name.
    Matcher {
        /// Its name.
        name: String,
        /// Its kind.
        kind: Option<String>,
        /// Its revision.
        revision_name: Option<String>,
    }
}

part! {
    /// What runs.
    VirtualMachineInstanceTemplate {
        /// Labels and annotations of the instance.
        metadata: Option<ObjectMeta>,
        /// The instance.
        spec: VirtualMachineInstanceSpec,
    }
}

part! {
    /// A running VM.
    VirtualMachineInstanceSpec {
        /// The machine.
        domain: Domain,
        /// What the disks hold.
        volumes: Vec<Volume>,
        /// What the interfaces are connected to.
        networks: Vec<Network>,
        /// `amd64`, `arm64` …
        architecture: Option<String>,
        /// Labels that the node must have.
        node_selector: BTreeMap<String, String>,
        /// Where it runs best, or must not.
        affinity: Option<Value>,
        /// Seconds that it has to shut down.
        termination_grace_period_seconds: Option<i64>,
        /// The guest's host name.
        hostname: Option<String>,
        /// The domain under which it is known.
        subdomain: Option<String>,
        /// What becomes of it when its node is drained.
        eviction_strategy: Option<String>,
    }
}

part! {
    /// A machine.
    Domain {
        /// Its processors.
        cpu: Option<Cpu>,
        /// Its memory.
        memory: Option<Memory>,
        /// Its machine type.
        machine: Option<Machine>,
        /// Its firmware.
        firmware: Option<Firmware>,
        /// Its clock.
        clock: Option<Clock>,
        /// Its features.
        features: Option<Features>,
        /// Its devices.
        devices: Devices,
        /// What it asks for and may use.
        resources: Option<Resources>,
        /// What it says of its case.
        chassis: Option<Value>,
    }
}

part! {
    /// Processors.
    Cpu {
        /// Sockets.
        sockets: Option<u32>,
        /// Cores per socket.
        cores: Option<u32>,
        /// Threads per core.
        threads: Option<u32>,
        /// Sockets that can be plugged in.
        max_sockets: Option<u32>,
        /// The model.
        model: Option<String>,
        /// Features beyond the model's.
        features: Vec<CpuFeature>,
        /// Whether it has physical processors of its own.
        dedicated_cpu_placement: Option<bool>,
    }
}

part! {
    /// A feature of a processor.
    CpuFeature {
        /// Its name.
        name: String,
        /// `force`, `require`, `optional`, `disable` or `forbid`.
        policy: Option<String>,
    }
}

part! {
    /// Memory.
    Memory {
        /// What the guest sees.
        guest: Option<Quantity>,
        /// What can be plugged in.
        max_guest: Option<Quantity>,
        /// Huge pages.
        hugepages: Option<Value>,
    }
}

part! {
    /// A machine type.
    Machine {
        /// `q35`, `pc` …
        type_ as "type": Option<String>,
    }
}

part! {
    /// Firmware.
    Firmware {
        /// BIOS or EFI.
        bootloader: Option<Bootloader>,
        /// The machine's UUID.
        uuid: Option<String>,
        /// The machine's serial number.
        serial: Option<String>,
    }
}

part! {
    /// BIOS or EFI.
    Bootloader {
        /// BIOS.
        bios: Option<Bios>,
        /// EFI.
        efi: Option<Efi>,
    }
}

part! {
    /// BIOS.
    Bios {
        /// Whether it speaks on the serial console.
        use_serial: Option<bool>,
    }
}

part! {
    /// EFI.
    Efi {
        /// Whether only signed systems boot; true when it is not said.
        secure_boot: Option<bool>,
        /// Whether variables are kept.
        persistent: Option<bool>,
    }
}

part! {
    /// A clock.
    Clock {
        /// The time zone that it shows.
        timezone: Option<String>,
        /// It shows UTC, with an offset.
        utc: Option<Value>,
        /// Its timers.
        timer: Option<Value>,
    }
}

part! {
    /// Features of a machine.
    Features {
        /// Power management.
        acpi: Option<FeatureState>,
        /// System management mode; secure boot needs it.
        smm: Option<FeatureState>,
        /// Interrupt controller.
        apic: Option<Value>,
        /// What Windows likes.
        hyperv: Option<Value>,
    }
}

part! {
    /// On or off.
    FeatureState {
        /// On when it is not said.
        enabled: Option<bool>,
    }
}

part! {
    /// What is asked for and may be used.
    Resources {
        /// What is asked for.
        requests: BTreeMap<String, Quantity>,
        /// What may be used.
        limits: BTreeMap<String, Quantity>,
    }
}

part! {
    /// Devices.
    Devices {
        /// Disks.
        disks: Vec<Disk>,
        /// Network interfaces.
        interfaces: Vec<Interface>,
        /// Pointing devices.
        inputs: Vec<Input>,
        /// A TPM.
        tpm: Option<Tpm>,
        /// A source of randomness.
        rng: Option<Empty>,
        /// Whether it has a screen; true when it is not said.
        autoattach_graphics_device: Option<bool>,
        /// Whether it has a serial console; true when it is not said.
        autoattach_serial_console: Option<bool>,
        /// Whether the serial console is logged.
        log_serial_console: Option<bool>,
        /// Whether it has an interface on the pod network when none is named; true when it is not said.
        autoattach_pod_interface: Option<bool>,
        /// Whether interfaces have several queues.
        network_interface_multiqueue as "networkInterfaceMultiqueue": Option<bool>,
        /// Whether nothing can be plugged in while it runs.
        disable_hotplug: Option<bool>,
    }
}

part! {
    /// Something whose presence is all.
    Empty {}
}

part! {
    /// A disk.
    Disk {
        /// Its name, which is that of its volume.
        name: String,
        /// It is a disk.
        disk: Option<DiskTarget>,
        /// It is a LUN.
        lun: Option<LunTarget>,
        /// It is a CD drive.
        cdrom: Option<CdRomTarget>,
        /// Its place when booting, from 1.
        boot_order: Option<u32>,
        /// Its serial number.
        serial: Option<String>,
        /// `none`, `writethrough` or `writeback`.
        cache: Option<String>,
        /// Whether several VMs use it.
        shareable: Option<bool>,
        /// Its block size.
        block_size: Option<Value>,
    }
}

part! {
    /// A disk on its bus.
    DiskTarget {
        /// `virtio`, `sata`, `scsi` or `usb`.
        bus: Option<String>,
        /// Whether it can only be read.
        readonly: Option<bool>,
    }
}

part! {
    /// A LUN on its bus.
    LunTarget {
        /// `scsi` and the like.
        bus: Option<String>,
        /// Whether it can only be read.
        readonly: Option<bool>,
        /// Whether the guest may reserve it.
        reservation: Option<bool>,
    }
}

part! {
    /// A CD drive on its bus.
    CdRomTarget {
        /// `sata` and the like.
        bus: Option<String>,
        /// Whether it can only be read; true when it is not said.
        readonly: Option<bool>,
    }
}

part! {
    /// A network interface.
    Interface {
        /// Its name, which is that of its network.
        name: String,
        /// `virtio`, `e1000e` …
        model: Option<String>,
        /// Its MAC address.
        mac_address: Option<String>,
        /// Its place when booting, from 1.
        boot_order: Option<u32>,
        /// Its place on the PCI bus.
        pci_address: Option<String>,
        /// Addresses are translated.
        masquerade: Option<Empty>,
        /// It is bridged.
        bridge: Option<Empty>,
        /// It is a part of a network card.
        sriov: Option<Empty>,
        /// It is connected by a plug-in.
        binding: Option<Binding>,
        /// Ports that are forwarded; all when none is said.
        ports: Vec<Value>,
        /// Whether its link is up.
        state: Option<String>,
    }
}

part! {
    /// A plug-in that connects interfaces.
    Binding {
        /// Its name.
        name: String,
    }
}

part! {
    /// A pointing device.
    Input {
        /// Its name.
        name: String,
        /// `tablet`.
        type_ as "type": String,
        /// `virtio` or `usb`.
        bus: Option<String>,
    }
}

part! {
    /// A TPM.
    Tpm {
        /// Whether it is there; true when it is not said.
        enabled: Option<bool>,
        /// Whether it keeps its state.
        persistent: Option<bool>,
    }
}

part! {
    /// What a disk holds.
    Volume {
        /// Its name, which is that of its disk.
        name: String,
        /// A volume claim.
        persistent_volume_claim: Option<ClaimVolume>,
        /// A data volume.
        data_volume: Option<DataVolumeSource>,
        /// An image of a registry.
        container_disk: Option<ContainerDisk>,
        /// Cloud-init.
        cloud_init_no_cloud: Option<Value>,
        /// Cloud-init, as OpenStack gives it.
        cloud_init_config_drive: Option<Value>,
        /// An empty disk that goes with the instance.
        empty_disk: Option<EmptyDisk>,
        /// A config map.
        config_map: Option<Value>,
        /// A secret.
        secret: Option<Value>,
    }
}

part! {
    /// A volume claim.
    ClaimVolume {
        /// Its name.
        claim_name: String,
        /// Whether it can only be read.
        read_only: Option<bool>,
        /// Whether it was plugged in.
        hotpluggable: Option<bool>,
    }
}

part! {
    /// A data volume.
    DataVolumeSource {
        /// Its name.
        name: String,
        /// Whether it was plugged in.
        hotpluggable: Option<bool>,
    }
}

part! {
    /// An image of a registry.
    ContainerDisk {
        /// The image.
        image: String,
        /// Where the disk is in it.
        path: Option<String>,
    }
}

part! {
    /// An empty disk.
    EmptyDisk {
        /// Its size.
        capacity: Option<Quantity>,
    }
}

part! {
    /// A network.
    Network {
        /// Its name, which is that of its interface.
        name: String,
        /// The pod network.
        pod: Option<PodNetwork>,
        /// A network attachment definition.
        multus: Option<MultusNetwork>,
    }
}

part! {
    /// The pod network.
    PodNetwork {
        /// The guest's network, with masquerade.
        vm_network_cidr as "vmNetworkCIDR": Option<String>,
    }
}

part! {
    /// A network attachment definition.
    MultusNetwork {
        /// `name` or `namespace/name`.
        network_name: String,
        /// Whether it replaces the pod network.
        default: Option<bool>,
    }
}

part! {
    /// How a VM is.
    VirtualMachineStatus {
        /// Whether its instance exists.
        created: Option<bool>,
        /// Whether its instance is ready.
        ready: Option<bool>,
        /// How it is, in a word.
        printable_status: Option<String>,
        /// The run strategy that is followed.
        run_strategy: Option<String>,
        /// What was found.
        conditions: Vec<Condition>,
        /// Why it does not start.
        start_failure: Option<Value>,
        /// The generation of the spec that this is about.
        observed_generation: Option<i64>,
        /// The generation that was wanted.
        desired_generation: Option<i64>,
    }
}

part! {
    /// A condition of a VM or an instance.
    Condition {
        /// Its type.
        type_ as "type": String,
        /// `True`, `False` or `Unknown`.
        status: String,
        /// Why, in a word.
        reason: Option<String>,
        /// What to tell a person.
        message: Option<String>,
        /// When it changed.
        last_transition_time: Option<Time>,
        /// When it was looked at.
        last_probe_time: Option<Time>,
    }
}

impl VirtualMachine {
    /// Whether it is meant to run, said the new way or the old.
    pub fn wants_to_run(&self) -> bool {
        match (&self.spec.run_strategy, self.spec.running) {
            (Some(strategy), _) => {
                matches!(strategy.as_str(), run_strategy::ALWAYS | run_strategy::RERUN_ON_FAILURE | run_strategy::ONCE)
            }
            (None, running) => running.unwrap_or(false),
        }
    }
}
