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
    /// A volume claim waits for its volume.
    pub const WAITING_FOR_VOLUME_BINDING: &str = "WaitingForVolumeBinding";
    /// A data volume cannot be filled.
    pub const DATA_VOLUME_ERROR: &str = "DataVolumeError";
    /// A container disk's image is not there.
    pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
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
        /// The volume whose labels name it.
        infer_from_volume: Option<String>,
        /// `Reject` or `Ignore`, when they do not.
        infer_from_volume_failure_policy: Option<String>,
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
        /// `Paused`: it starts with its processors halted.
        start_strategy: Option<String>,
        /// Keys and passwords that are put into the guest.
        access_credentials: Vec<Value>,
        /// Node taints that it bears.
        tolerations: Vec<Value>,
        /// Who schedules it.
        scheduler_name: Option<String>,
        /// Its pod's priority.
        priority_class_name: Option<String>,
        /// How it is spread.
        topology_spread_constraints: Vec<Value>,
        /// When it is restarted.
        liveness_probe: Option<Value>,
        /// When it is ready.
        readiness_probe: Option<Value>,
        /// Where its pod looks up names.
        dns_policy: Option<String>,
        /// Name servers of its pod.
        dns_config: Option<Value>,
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
        chassis: Option<Chassis>,
        /// How disks share threads.
        io_threads_policy: Option<String>,
        /// Threads for disks.
        io_threads: Option<Value>,
        /// Confidential computing.
        launch_security: Option<Value>,
        /// What becomes of the guest's reboot.
        reboot_policy: Option<String>,
    }
}

part! {
    /// A case, as SMBIOS (type 3) shows it.
    Chassis {
        /// Who made it.
        manufacturer: Option<String>,
        /// Its version.
        version: Option<String>,
        /// Its serial number.
        serial: Option<String>,
        /// Its asset tag.
        asset: Option<String>,
        /// Its SKU number.
        sku: Option<String>,
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
        /// Whether its emulator has a processor of its own.
        isolate_emulator_thread: Option<bool>,
        /// Its memory nodes.
        numa: Option<Value>,
        /// Real-time scheduling.
        realtime: Option<Value>,
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
        /// A kernel that is booted past the bootloader.
        kernel_boot: Option<Value>,
        /// ACPI tables of its own.
        acpi: Option<Value>,
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
        /// The time zone that it shows, as `Europe/Berlin`.
        timezone: Option<String>,
        /// It shows UTC, with an offset.
        utc: Option<ClockUtc>,
        /// Its timers.
        timer: Option<Timers>,
    }
}

part! {
    /// UTC, with an offset.
    ClockUtc {
        /// Seconds that the clock is ahead of UTC.
        offset_seconds: Option<i64>,
    }
}

part! {
    /// Timers.
    Timers {
        /// The high precision event timer.
        hpet: Option<Timer>,
        /// KVM's clock.
        kvm: Option<Timer>,
        /// The programmable interval timer.
        pit: Option<Timer>,
        /// The real-time clock.
        rtc: Option<Timer>,
        /// Hyper-V's clock.
        hyperv: Option<Timer>,
    }
}

part! {
    /// A timer.
    Timer {
        /// Whether it is there; true when it is not said.
        present: Option<bool>,
        /// What becomes of ticks that the guest missed.
        tick_policy: Option<String>,
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
        apic: Option<FeatureState>,
        /// What Windows likes.
        hyperv: Option<Value>,
        /// All of what Windows likes.
        hyperv_passthrough: Option<Value>,
        /// What the guest sees of KVM.
        kvm: Option<KvmFeature>,
        /// Spin locks of a guest that knows of its hypervisor.
        pvspinlock: Option<FeatureState>,
    }
}

part! {
    /// What the guest sees of KVM.
    KvmFeature {
        /// Nothing.
        hidden: Option<bool>,
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
        /// Whether disks have several queues.
        block_multi_queue: Option<bool>,
        /// Whether it has a memory balloon; true when it is not said.
        autoattach_mem_balloon: Option<bool>,
        /// Whether it has a tablet when none is listed.
        autoattach_input_device: Option<bool>,
        /// Whether it has a VSOCK device.
        autoattach_vsock as "autoattachVSOCK": Option<bool>,
        /// Its screen.
        video: Option<Video>,
        /// Its sound card.
        sound: Option<Sound>,
        /// What watches over it.
        watchdog: Option<Watchdog>,
        /// Whether virtio devices are of the older kind as well.
        use_virtio_transitional: Option<bool>,
        /// Graphics cards of the machine below.
        gpus: Vec<HostDevice>,
        /// Devices of the machine below.
        host_devices: Vec<HostDevice>,
        /// File systems of the machine below.
        filesystems: Vec<Named>,
        /// Devices that hear of a guest's panic.
        panic_devices: Vec<Value>,
        /// Passes USB devices of a client through.
        client_passthrough: Option<Value>,
        /// Metrics of the machine below.
        downward_metrics: Option<Value>,
    }
}

part! {
    /// A screen.
    Video {
        /// `vga`, `virtio`, `bochs`, `cirrus`, `ramfb`.
        type_ as "type": Option<String>,
    }
}

part! {
    /// A sound card.
    Sound {
        /// Its name.
        name: String,
        /// `ich9` or `ac97`.
        model: Option<String>,
    }
}

part! {
    /// What watches over a guest.
    Watchdog {
        /// Its name.
        name: String,
        /// An Intel 6300ESB.
        i6300esb: Option<WatchdogAction>,
        /// One of IBM Z.
        diag288: Option<WatchdogAction>,
    }
}

part! {
    /// What becomes of a guest that hangs.
    WatchdogAction {
        /// `poweroff`, `reset` or `shutdown`.
        action: Option<String>,
    }
}

part! {
    /// A device of the machine below.
    HostDevice {
        /// Its name.
        name: String,
        /// The resource that is asked for.
        device_name: Option<String>,
    }
}

part! {
    /// Something with a name.
    Named {
        /// The name.
        name: String,
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
        block_size: Option<BlockSize>,
        /// `native`, `threads` or `io_uring`.
        io: Option<String>,
        /// A word for the guest, in its metadata.
        tag: Option<String>,
        /// What becomes of errors: `stop`, `ignore`, `report` or `enospace`.
        error_policy: Option<String>,
        /// Whether it has a thread of its own.
        dedicated_io_thread as "dedicatedIOThread": Option<bool>,
    }
}

part! {
    /// Block sizes.
    BlockSize {
        /// In bytes.
        custom: Option<CustomBlockSize>,
        /// As the volume has them.
        match_volume: Option<FeatureState>,
    }
}

part! {
    /// Block sizes in bytes.
    CustomBlockSize {
        /// What the guest addresses.
        logical: Option<u32>,
        /// What is written at once.
        physical: Option<u32>,
    }
}

part! {
    /// A disk on its bus.
    DiskTarget {
        /// `virtio`, `sata`, `scsi` or `usb`.
        bus: Option<String>,
        /// Whether it can only be read.
        readonly: Option<bool>,
        /// Its place on the PCI bus.
        pci_address: Option<String>,
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
        /// `open` or `closed`; closed when it is not said.
        tray: Option<String>,
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
        ports: Vec<Port>,
        /// `up`, `down` or `absent`.
        state: Option<String>,
        /// A word for the guest, in its metadata.
        tag: Option<String>,
        /// Its number among devices on board.
        acpi_index: Option<u32>,
        /// What the guest is told by DHCP.
        dhcp_options: Option<Value>,
    }
}

part! {
    /// A port that is forwarded.
    Port {
        /// Its name.
        name: Option<String>,
        /// `TCP` or `UDP`; TCP when it is not said.
        protocol: Option<String>,
        /// Its number, from 1.
        port: u16,
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
        cloud_init_no_cloud: Option<CloudInit>,
        /// Cloud-init, as OpenStack gives it.
        cloud_init_config_drive: Option<CloudInit>,
        /// Answers for Windows' installer.
        sysprep: Option<Sysprep>,
        /// An empty disk that goes with the instance.
        empty_disk: Option<EmptyDisk>,
        /// A claim whose changes go with the instance.
        ephemeral: Option<Ephemeral>,
        /// A file of the node.
        host_disk: Option<HostDisk>,
        /// A config map.
        config_map: Option<ConfigVolume>,
        /// A secret.
        secret: Option<SecretVolume>,
        /// What is known of the instance.
        downward_api as "downwardAPI": Option<DownwardVolume>,
        /// A service account's token.
        service_account: Option<AccountVolume>,
    }
}

part! {
    /// What cloud-init reads.
    CloudInit {
        /// A secret with `userdata`, and maybe `networkdata`.
        secret_ref: Option<LocalRef>,
        /// Text.
        user_data: Option<String>,
        /// Text in base64.
        user_data_base64: Option<String>,
        /// A secret with `networkdata`.
        network_data_secret_ref: Option<LocalRef>,
        /// Text.
        network_data: Option<String>,
        /// Text in base64.
        network_data_base64: Option<String>,
    }
}

part! {
    /// An object of the same namespace.
    LocalRef {
        /// Its name.
        name: String,
    }
}

part! {
    /// Answers for Windows' installer.
    Sysprep {
        /// In a config map.
        config_map: Option<LocalRef>,
        /// In a secret.
        secret: Option<LocalRef>,
    }
}

part! {
    /// A claim whose changes go with the instance.
    Ephemeral {
        /// The claim.
        persistent_volume_claim: Option<ClaimVolume>,
    }
}

part! {
    /// A file of the node.
    HostDisk {
        /// Where it is.
        path: String,
        /// `Disk`: it is there; `DiskOrCreate`: it is made when it is not.
        type_ as "type": String,
        /// Its size when it is made.
        capacity: Option<Quantity>,
        /// Whether several VMs use it.
        shared: Option<bool>,
    }
}

part! {
    /// A config map as a disk.
    ConfigVolume {
        /// Its name.
        name: String,
        /// Whether it may be absent.
        optional: Option<bool>,
        /// The disk's label.
        volume_label: Option<String>,
    }
}

part! {
    /// A secret as a disk.
    SecretVolume {
        /// Its name.
        secret_name: String,
        /// Whether it may be absent.
        optional: Option<bool>,
        /// The disk's label.
        volume_label: Option<String>,
    }
}

part! {
    /// What is known of the instance as a disk.
    DownwardVolume {
        /// Which fields, in which files.
        fields: Vec<Value>,
        /// The disk's label.
        volume_label: Option<String>,
    }
}

part! {
    /// A service account's token as a disk.
    AccountVolume {
        /// Its name.
        service_account_name: String,
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
        /// When it is fetched.
        image_pull_policy: Option<String>,
        /// What opens the registry.
        image_pull_secret: Option<String>,
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
        /// What was asked for by `start`, `stop` and `restart`, in order.
        state_change_requests: Vec<StateChangeRequest>,
        /// The instance type that is followed.
        instancetype_ref: Option<InstancetypeRef>,
        /// The preference that is followed.
        preference_ref: Option<InstancetypeRef>,
        /// The generation of the spec that this is about.
        observed_generation: Option<i64>,
        /// The generation that was wanted.
        desired_generation: Option<i64>,
    }
}

/// Values of `status.stateChangeRequests[].action`.
pub mod action {
    /// Start it.
    pub const START: &str = "Start";
    /// Stop the instance of that uid.
    pub const STOP: &str = "Stop";
}

part! {
    /// What was asked for.
    StateChangeRequest {
        /// `Start` or `Stop`.
        action: String,
        /// More about it: `paused: "true"`.
        data: BTreeMap<String, String>,
        /// The instance that is meant.
        uid: Option<String>,
    }
}

part! {
    /// An instance type or a preference, as it was.
    InstancetypeRef {
        /// Its name.
        name: Option<String>,
        /// Its kind.
        kind: Option<String>,
        /// Its copy.
        controller_revision_ref: Option<LocalRef>,
        /// The volume that named it.
        infer_from_volume: Option<String>,
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
