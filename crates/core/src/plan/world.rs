//! What the shell saw: values only. [`step`](super::step::step) decides on these and nothing else.
//!
//! [`Needs`] says what has to be looked at for a state, so that nothing more is read. Facts that were not asked for
//! are left at their defaults. When the target could not be read no step is made at all; when the source could not be
//! asked, [`SourceFacts::unreachable`] says so.
use forklift_api::conversion::InspectionResult;
use forklift_api::worker::{ConversionProgress, ConversionResult, ImportProgress, ImportResult, Verify};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::effect::ObjectRef;
use crate::machine::{Machine, PowerState, ResourceRef, VmIdentity};
use crate::plan::bandwidth::Limits;
use crate::source::{Capabilities, DiskSource, SnapshotFact};

/// Everything a step is decided on.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The time of the observation.
    pub now: Timestamp,
    /// The plan, resolved.
    pub plan: &'a PlanFacts,
    /// This VM's entry in the plan, resolved.
    pub vm: &'a PlanVm,
    /// The VM in the inventory; `None` when it is not there (any more).
    pub machine: Option<&'a Machine>,
    /// How the machine's disks are read, in their order; empty until [`Needs::machine`] asks for it.
    pub disk_sources: &'a [DiskSource],
    /// What the source itself answered.
    pub source: &'a SourceFacts,
    /// What exists on the target (and in the plan's namespace).
    pub target: &'a TargetFacts,
    /// Cutover time of a warm migration.
    pub cutover: Option<Timestamp>,
    /// Why the VM's migration is to end early.
    pub canceled: Option<CancelReason>,
}

/// Why a VM's migration is to end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CancelReason {
    /// Listed in the Migration's `cancel`.
    UserRequested,
    /// A provider or map was replaced by another object.
    Modified,
    /// The Migration or the plan was deleted.
    Deleted,
    /// The VM is not in the inventory.
    NotFound,
}

/// What a state needs observed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The machine and how its disks are read.
    pub machine: bool,
    /// Identity and power state, from the source itself.
    pub power: bool,
    /// Our snapshots in the source.
    pub snapshots: bool,
    /// Target namespace, PVCs, importers, conversion, hook and target VM: [`TargetFacts`] without progress.
    pub target: bool,
    /// Progress of the running importers.
    pub import_progress: bool,
    /// Progress of the running conversion.
    pub conversion_progress: bool,
    /// Everything that carries the VM's labels, whatever migration it is of: [`TargetFacts::labelled`].
    pub labelled: bool,
    /// How the target VM runs: [`TargetFacts::guest`].
    pub guest: bool,
}

/// Kind of a migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationKind {
    /// The source is off while its disks are copied.
    #[default]
    Cold,
    /// Rounds of copies while the source runs, then a cutover.
    Warm,
    /// Between KubeVirt clusters without stopping.
    Live,
    /// The disks are on the target already.
    Conversion,
}

/// The plan, resolved to what the migration needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanFacts {
    /// Name of the Plan.
    pub name: String,
    /// Namespace of the Plan.
    pub namespace: String,
    /// UID of the Plan.
    pub uid: String,
    /// Name of the active Migration.
    pub migration_name: String,
    /// UID of the active Migration.
    pub migration_uid: String,
    /// Kind.
    pub kind: MigrationKind,
    /// Only the conversion is done again (`Migration.spec.resumeConversion`).
    pub resume_conversion: bool,
    /// Namespace for the VMs.
    pub target_namespace: String,
    /// What the source can do.
    pub source: Capabilities,
    /// Word for `V2V_source` (`ova`, `vSphere`).
    pub source_word: String,
    /// The source Provider.
    pub provider: ProviderFacts,
    /// The destination Provider, for the Conversion.
    pub destination: ProviderFacts,
    /// Image with the workers.
    pub image: String,
    /// Network map, resolved.
    pub networks: Vec<NetworkPair>,
    /// Storage map, resolved.
    pub storage: Vec<StoragePair>,
    /// Storage classes of the target with what is known about them.
    pub storage_classes: Vec<StorageClassFacts>,
    /// Options of the spec.
    pub options: PlanOptions,
    /// Read-only volume with the appliances, when the source is one of files.
    pub store: Option<StoreFacts>,
    /// Preferences that the target has, by the guest id that they are for.
    pub preferences: std::collections::BTreeMap<String, PreferenceFact>,
    /// OpenShift's templates by the guest id that they are for; of systems for which the target has no preference.
    pub templates: std::collections::BTreeMap<String, serde_json::Value>,
    /// Kind of the instance types that the plan's VMs name and the target has, by name; `None` while nobody has looked.
    pub instance_types: Option<std::collections::BTreeMap<String, String>>,
    /// How copies are verified.
    pub verify: Verify,
    /// Limit per importer in bytes per second.
    pub bandwidth: Option<u64>,
    /// Limits that importers share.
    pub limits: Limits,
    /// Whether the target namespace has a primary user-defined network.
    pub udn: bool,
    /// The subnets of that network, in CIDR notation, when it keeps the addresses that VMs bring.
    pub udn_subnets: Vec<String>,
    /// The target namespace's user-defined networks are of a kind that VMs cannot use.
    pub udn_unsupported: bool,
    /// Image or folder with VMware's VDDK, when the user has it and it was found good.
    pub vddk_image: Option<String>,
    /// Text of VDDK's configuration file.
    pub vddk_config: Option<String>,
    /// VDDK's ways to the bytes, in their order, by colons; none for its default.
    pub vddk_transports: Option<String>,
    /// Seconds between the rounds of a warm migration.
    pub precopy_seconds: u32,
    /// Repetitions of an importer or a hook that failed in a way that may pass.
    pub worker_retries: u32,
}

impl PlanFacts {
    /// Returns the machine as this plan migrates it: without its shared disks where those are left out.
    pub fn migrated(&self, vm: &PlanVm, machine: Machine) -> Machine {
        let takes_shared = vm.migrate_shared_disks.unwrap_or(self.options.migrate_shared_disks);
        if takes_shared { machine } else { machine.without_shared() }
    }
}

/// A preference of the target cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PreferenceFact {
    /// Name.
    pub name: String,
    /// `VirtualMachinePreference` or `VirtualMachineClusterPreference`.
    pub kind: String,
}

/// A Provider object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderFacts {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// UID.
    pub uid: String,
    /// Name of its secret; empty for none.
    pub secret_name: String,
    /// Namespace of its secret.
    pub secret_namespace: String,
}

/// Options of a plan's spec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanOptions {
    /// Raw copy: the guest is not converted.
    pub skip_guest_conversion: bool,
    /// With a raw copy: SATA, e1000e, USB tablet.
    pub compatibility_mode: bool,
    /// Static addresses are kept.
    pub preserve_static_ips: bool,
    /// The conversion is removed after success.
    pub delete_conversion: bool,
    /// After a failure or cancel, target VM and disks are removed (with the next run, or at once on cancel).
    pub delete_vm_on_failure: bool,
    /// Preflight inspection (warm).
    pub preflight_inspection: bool,
    /// Disks that VMs share are migrated with the VMs.
    pub migrate_shared_disks: bool,
    /// Raw device mappings are attached as LUNs instead of copied.
    pub rdm_as_lun: bool,
    /// `on`, `off` or `auto`.
    pub target_power_state: TargetPower,
    /// Template for PVC names.
    pub pvc_name_template: Option<String>,
    /// PVC names get a suffix that makes them unique; default yes.
    pub pvc_name_exact: bool,
    /// Which tags of the source become labels.
    pub tag_mapping: Option<forklift_api::plan::TagMapping>,
    /// LUNs that are shared pass SCSI reservations.
    pub scsi_reservation: bool,
    /// Template for volume names.
    pub volume_name_template: Option<String>,
    /// Template for network names.
    pub network_name_template: Option<String>,
    /// Static addresses on a primary user-defined network are given to the target VM.
    pub static_udn_addresses: bool,
    /// VMs keep their MAC addresses on a primary user-defined network.
    pub udn_macs: bool,
    /// The target VM's serial number is written as VMware shows it.
    pub vmware_serial: bool,
    /// Service account of the migration's pods.
    pub service_account: Option<String>,
    /// Labels for the VM's pods.
    pub target_labels: std::collections::BTreeMap<String, String>,
    /// Node selector for the VM's pods.
    pub target_node_selector: std::collections::BTreeMap<String, String>,
    /// Affinity for the VM's pods.
    pub target_affinity: Option<serde_json::Value>,
    /// Labels for the conversion pods.
    pub convertor_labels: std::collections::BTreeMap<String, String>,
    /// Node selector for the conversion pods.
    pub convertor_node_selector: std::collections::BTreeMap<String, String>,
    /// Affinity for the conversion pods.
    pub convertor_affinity: Option<serde_json::Value>,
    /// Storage class of the conversion's scratch volume.
    pub conversion_temp_storage_class: Option<String>,
    /// Size of the conversion's scratch volume.
    pub conversion_temp_storage_size: Option<String>,
    /// Nested virtualisation in the target, `None` for as in the source.
    pub nested_virtualization: Option<bool>,
    /// Image for guests with old XFS.
    pub xfs_compatibility: bool,
    /// Legacy Windows drivers; `None` for by guest.
    pub install_legacy_drivers: Option<bool>,
    /// ConfigMap with customization scripts.
    pub customization_scripts: Option<String>,
    /// Its namespace; the plan's when empty.
    pub customization_namespace: String,
    /// Conversion pods ask for the KVM device.
    pub request_kvm: bool,
    /// Windows guests are watched through their first-boot restarts.
    pub wait_for_guest_reboots: bool,
    /// How long they are watched at most.
    pub reboot_seconds: u32,
}

/// Power state of the target after the migration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetPower {
    /// As the source was.
    #[default]
    Auto,
    /// Running.
    On,
    /// Stopped.
    Off,
}

/// A row of the network map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPair {
    /// Network of the source.
    pub source: ResourceRef,
    /// Network on the target.
    pub destination: NetworkDestination,
}

/// Network on the target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum NetworkDestination {
    /// The pod network.
    #[default]
    Pod,
    /// A NetworkAttachmentDefinition.
    Multus {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The NIC is left out.
    Ignored,
}

/// A row of the storage map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StoragePair {
    /// Storage of the source.
    pub source: ResourceRef,
    /// Storage class; empty for the cluster's default.
    pub storage_class: String,
    /// Access mode, when the map sets one.
    pub access_mode: Option<String>,
    /// Volume mode, when the map sets one.
    pub volume_mode: Option<String>,
}

/// What is known about a storage class of the target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageClassFacts {
    /// Name.
    pub name: String,
    /// The cluster's default.
    pub default: bool,
    /// Access mode by CDI's StorageProfile.
    pub access_mode: Option<String>,
    /// Volume mode by CDI's StorageProfile.
    pub volume_mode: Option<String>,
    /// File system overhead by CDI's configuration (0.055 for 5.5 %).
    pub overhead: Option<f64>,
    /// The provisioner.
    pub provisioner: String,
}

/// The read-only volume with the appliances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StoreFacts {
    /// A directory of the node.
    HostPath {
        /// Absolute path.
        path: String,
    },
    /// An NFS export.
    Nfs {
        /// Server.
        server: String,
        /// Exported path.
        path: String,
    },
}

/// A VM of the plan, with what its references resolved to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanVm {
    /// Id in the source.
    pub id: String,
    /// Name in the source.
    pub name: String,
    /// Name wished for on the target.
    pub target_name: Option<String>,
    /// Pre-migration hook.
    pub pre_hook: Option<HookSpec>,
    /// Post-migration hook.
    pub post_hook: Option<HookSpec>,
    /// Root device (`/dev/sda2`).
    pub root_disk: Option<String>,
    /// Secret with LUKS keys.
    pub luks_secret: Option<String>,
    /// LUKS is opened by Clevis.
    pub nbde_clevis: bool,
    /// Instance type of the target.
    pub instance_type: Option<String>,
    /// Template for PVC names, before the plan's.
    pub pvc_name_template: Option<String>,
    /// Template for volume names, before the plan's.
    pub volume_name_template: Option<String>,
    /// Template for network names, before the plan's.
    pub network_name_template: Option<String>,
    /// Power state of the target, before the plan's.
    pub target_power_state: Option<TargetPower>,
    /// As the plan's `deleteVmOnFailMigration`, for this VM.
    pub delete_vm_on_failure: bool,
    /// Nested virtualisation, before the plan's.
    pub nested_virtualization: Option<bool>,
    /// As the plan's, before it.
    pub migrate_shared_disks: Option<bool>,
    /// As the plan's, before it.
    pub rdm_as_lun: Option<bool>,
    /// As the plan's, before it.
    pub scsi_reservation: Option<bool>,
}

/// A hook, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HookSpec {
    /// Name of the Hook.
    pub name: String,
    /// UID of the Hook.
    pub uid: String,
    /// Image of a local hook.
    pub image: String,
    /// Playbook, decoded; empty for none.
    pub playbook: String,
    /// Service account.
    pub service_account: Option<String>,
    /// Seconds until the Job is stopped; 0 for none.
    pub deadline: i64,
    /// The hook is one of Ansible Automation Platform.
    pub aap: bool,
    /// The inventory's description of the VM, given to the playbook.
    pub workload: String,
    /// The plan's spec, given to the playbook.
    pub plan: String,
}

/// What the source itself answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceFacts {
    /// Identity as read from the source for this very step.
    pub identity: Option<VmIdentity>,
    /// Power state as read from the source for this very step.
    pub power: PowerState,
    /// Snapshots of this migration that exist.
    pub snapshots: Vec<SnapshotFact>,
    /// Why the source could not be asked what [`Needs`] wanted to know; the fields above then mean nothing.
    pub unreachable: Option<String>,
}

/// What exists on the target and in the plan's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetFacts {
    /// Whether the target namespace exists.
    pub namespace: bool,
    /// Names that have to be avoided: VMs in the target namespace that are not this migration's.
    pub taken_names: Vec<String>,
    /// PVCs with this VM's labels.
    pub pvcs: Vec<PvcFact>,
    /// Claims of the target namespace with disks that VMs share, whoever made them.
    pub shared: Vec<SharedFact>,
    /// Importer Jobs with this VM's labels.
    pub imports: Vec<ImportFact>,
    /// The Conversion with this VM's labels.
    pub conversion: Option<ConversionFact>,
    /// The Conversion of type DeepInspection with this VM's labels.
    pub inspection: Option<ConversionFact>,
    /// Hook Jobs with this VM's labels.
    pub hooks: Vec<HookFact>,
    /// The VirtualMachine of the target name, whoever made it.
    pub vm: Option<VmFact>,
    /// The VirtualMachineInstance of the target name.
    pub guest: Option<GuestFact>,
    /// Everything that carries the VM's labels, of any migration of this plan.
    pub labelled: Vec<Observed>,
}

/// A claim that holds a disk which several VMs use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SharedFact {
    /// Key of the disk.
    pub disk: String,
    /// Name of the claim.
    pub claim: String,
    /// Label `plan`.
    pub plan_uid: String,
}

/// An object that was seen, with what tells whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Observed {
    /// The object, with its UID.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Label `plan`.
    pub plan_uid: String,
    /// Label `migration`.
    pub migration_uid: String,
    /// Label `vmID`.
    pub vm_id: String,
    /// Its deletion has begun.
    pub deleting: bool,
    /// A Job or Conversion that is not finished.
    pub active: bool,
}

impl Observed {
    /// Returns whether the labels say that it is of this plan and VM.
    pub fn is_of(&self, plan: &PlanFacts, vm: &PlanVm) -> bool {
        !self.object.uid.is_empty() && !plan.uid.is_empty() && self.plan_uid == plan.uid && self.vm_id == vm.id
    }

    /// Returns whether it is of the active migration.
    pub fn is_current(&self, plan: &PlanFacts) -> bool {
        self.migration_uid == plan.migration_uid
    }
}

/// A PVC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PvcFact {
    /// Whose it is.
    #[serde(flatten)]
    pub seen: Observed,
    /// Annotation `disk-source`.
    pub disk: String,
    /// `Pending`, `Bound`, `Lost`.
    pub phase: String,
    /// UIDs in its owner references.
    pub owners: Vec<String>,
    /// `Filesystem` or `Block`.
    pub volume_mode: String,
    /// Why it is pending, from its events.
    pub message: Option<String>,
}

/// State of a Job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// No pod has run yet.
    #[default]
    Pending,
    /// Running or between attempts.
    Running,
    /// Succeeded.
    Succeeded,
    /// Failed for good.
    Failed,
}

/// An importer Job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportFact {
    /// Whose it is.
    #[serde(flatten)]
    pub seen: Observed,
    /// Annotation `disk-source`.
    pub disk: String,
    /// State of the Job.
    pub state: JobState,
    /// Round of a warm migration; 0 otherwise.
    pub round: u32,
    /// Last progress that could be read.
    pub progress: Option<ImportProgress>,
    /// Result in the last termination message.
    pub result: Option<ImportResult>,
    /// Restarts of its container.
    pub restarts: u32,
    /// Why no pod runs (`reason: message`).
    pub waiting: Option<String>,
}

/// Phase of a Conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConversionPhase {
    /// Its pod does not run yet.
    #[default]
    Pending,
    /// Running.
    Running,
    /// Succeeded.
    Succeeded,
    /// Failed.
    Failed,
    /// Canceled.
    Canceled,
}

/// A Conversion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConversionFact {
    /// Whose it is.
    #[serde(flatten)]
    pub seen: Observed,
    /// Phase.
    pub phase: ConversionPhase,
    /// Message of its status.
    pub message: Option<String>,
    /// Last progress that could be read.
    pub progress: Option<ConversionProgress>,
    /// Its result, once there is one.
    pub result: Option<ConversionResult>,
    /// What it found, when it is an inspection that has ended well.
    pub inspection: Option<InspectionResult>,
}

/// A hook's Job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HookFact {
    /// Whose it is.
    #[serde(flatten)]
    pub seen: Observed,
    /// Label `step`: `PreHook` or `PostHook`.
    pub step: String,
    /// State of the Job.
    pub state: JobState,
    /// Failed attempts.
    pub failed: u32,
    /// Message of its Failed condition.
    pub message: Option<String>,
}

/// The VirtualMachine of the target name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VmFact {
    /// Whose it is.
    #[serde(flatten)]
    pub seen: Observed,
    /// `status.printableStatus`.
    pub status: String,
    /// Whether it runs.
    pub running: bool,
}

/// The VirtualMachineInstance of the target name: how the guest runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GuestFact {
    /// UID: another one after the VM was stopped and started.
    pub uid: String,
    /// Whether its phase is Running.
    pub running: bool,
    /// Whether the guest's agent is connected.
    pub agent: bool,
}
