//! Plan: which VMs are migrated, from where to where, and how.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ObjectReference};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
pub use crate::plan_status::{
    DiskDelta, ErrorReport, MigrationRecord, Precopy, Progress, Snapshot, SnapshotMap, SnapshotRef, SnapshotRefPair,
    Step, Task, Timed, VMStatus, VmPowerState, WaitingOn, Warm,
};
use crate::provider::ProviderPair;
use crate::reference::{Ref, find_by_ref};
use crate::wire::{unset, wire_enum, yes};

wire_enum! {
    /// How VMs are migrated.
    MigrationType, "migration type", {
        /// Shut down, copy, start.
        Cold => "cold",
        /// Copy while the VM runs, then shut down and copy the rest.
        Warm => "warm",
        /// Move without a stop, between clusters with KubeVirt.
        Live => "live",
        /// Convert volumes that somebody else copied.
        Conversion => "conversion",
    }
}

wire_enum! {
    /// Whether the target VM runs after its migration.
    TargetPowerState, "target power state", {
        /// It runs.
        On => "on",
        /// It does not.
        Off => "off",
        /// As the source did.
        Auto => "auto",
    }
}

/// Which VMs are migrated, and how.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "Plan",
    namespaced,
    status = "PlanStatus",
    derive = "PartialEq",
    doc = "Which virtual machines are migrated, from where to where, and how. A Migration carries it out.",
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "EXECUTING", type_ = "string", json_path = ".status.conditions[?(@.type=='Executing')].status"),
    printcolumn(name = "SUCCEEDED", type_ = "string", json_path = ".status.conditions[?(@.type=='Succeeded')].status"),
    printcolumn(name = "FAILED", type_ = "string", json_path = ".status.conditions[?(@.type=='Failed')].status"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PlanSpec {
    /// A note for people.
    #[serde(default, skip_serializing_if = "unset")]
    pub description: String,
    /// The namespace of the target VMs; it is made when it does not exist.
    pub target_namespace: String,
    /// The service account of the migration's pods in the target namespace. Unset: the controller's setting
    /// `controller_migration_service_account`, else the namespace's default.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub service_account: String,
    /// Labels of the target VMs. Labels that Forklift itself needs win.
    #[serde(default, skip_serializing_if = "unset")]
    pub target_labels: BTreeMap<String, String>,
    /// Labels that a node must have to run the target VMs.
    #[serde(default, skip_serializing_if = "unset")]
    pub target_node_selector: BTreeMap<String, String>,
    /// Where the target VMs run best, or must not.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::affinity")]
    pub target_affinity: Option<Affinity>,
    /// Labels of the conversion's pods. Labels that Forklift itself needs win.
    #[serde(default, skip_serializing_if = "unset")]
    pub convertor_labels: BTreeMap<String, String>,
    /// Labels that a node must have to run conversions, and the copies of warm migrations from vSphere.
    #[serde(default, skip_serializing_if = "unset")]
    pub convertor_node_selector: BTreeMap<String, String>,
    /// Where conversions run best, or must not.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::affinity")]
    pub convertor_affinity: Option<Affinity>,
    /// The storage class of the conversion's scratch space. Unset: the node's own storage.
    #[serde(default, skip_serializing_if = "unset")]
    pub conversion_temp_storage_class: String,
    /// The size of that scratch space, e.g. `30Gi`; at least that of the largest disk.
    #[serde(default, skip_serializing_if = "unset")]
    pub conversion_temp_storage_size: String,
    /// From where to where.
    pub provider: ProviderPair,
    /// What networks and storage become.
    pub map: PlanMap,
    /// The VMs.
    pub vms: Vec<PlanVM>,
    /// Deprecated: say `type: warm`.
    #[serde(default, skip_serializing_if = "unset")]
    pub warm: bool,
    /// The network attachment definition over which disks are copied.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub transfer_network: Option<ObjectReference>,
    /// Whether the plan is put away: what it left on the way is removed, and it cannot be started again.
    #[serde(default, skip_serializing_if = "unset")]
    pub archived: bool,
    /// oVirt: keep the CPU model and flags of the VM's cluster.
    #[serde(default, skip_serializing_if = "unset")]
    pub preserve_cluster_cpu_model: bool,
    /// Keep the guests' static addresses.
    #[serde(rename = "preserveStaticIPs", default = "yes")]
    pub preserve_static_ips: bool,
    /// EC2: do not tie VMs to the zone of their volumes.
    #[serde(default, skip_serializing_if = "unset")]
    pub skip_zone_node_selector: bool,
    /// Deprecated, and without effect.
    #[serde(default, skip_serializing_if = "unset")]
    pub disk_bus: String,
    /// Go template for names of volumes (at most 40 characters; 46 when used as it is). Variables: .VmName,
    /// .TargetVmName, .PlanName, .DiskIndex, .VmId; vSphere: .WinDriveLetter, .RootDiskIndex, .Shared, .FileName;
    /// OpenShift: .SourcePVCName, .SourcePVCNamespace; EC2: .VolumeID, .SnapshotID; Hyper-V and oVirt: .DiskId.
    /// Unset: the controller's setting, else plan, VM and disk index, or for OpenShift the source's name.
    #[serde(default, skip_serializing_if = "unset")]
    pub pvc_name_template: String,
    /// Whether the template's result is a prefix that the API server completes (true), or the name itself. Unset:
    /// a prefix, but for OpenShift the name itself.
    #[serde(default, skip_serializing_if = "unset")]
    pub pvc_name_template_use_generate_name: Option<bool>,
    /// Go template for names of the target VMs' volumes; vSphere only. Variables: .PVCName, .VolumeIndex.
    #[serde(default, skip_serializing_if = "unset")]
    pub volume_name_template: String,
    /// Go template for names of the target VMs' interfaces; vSphere only. Variables: .NetworkName,
    /// .NetworkNamespace, .NetworkType (`Multus` or `Pod`), .NetworkIndex.
    #[serde(default, skip_serializing_if = "unset")]
    pub network_name_template: String,
    /// Whether disks that VMs share are migrated.
    #[serde(default = "yes")]
    pub migrate_shared_disks: bool,
    /// vSphere: attach raw device mappings as LUNs, so that guests can send SCSI commands.
    #[serde(default, skip_serializing_if = "unset")]
    pub rdm_as_lun: bool,
    /// vSphere: let guests reserve shared LUNs; with `rdmAsLun` only.
    #[serde(default, skip_serializing_if = "unset")]
    pub scsi_reservation: bool,
    /// Whether the conversion's pod, and its log, go once the migration succeeded.
    #[serde(default, skip_serializing_if = "unset")]
    pub delete_guest_conversion_pod: bool,
    /// Whether the target VM goes when its migration fails. When it is true here, the VM's own value does not
    /// count. The source VM is never touched.
    #[serde(default = "yes")]
    pub delete_vm_on_fail_migration: bool,
    /// Windows: whether drivers for systems without SHA-2 signatures are used. Unset: by the guest's system.
    #[serde(default, skip_serializing_if = "unset")]
    pub install_legacy_drivers: Option<bool>,
    /// Whether guests may run VMs themselves, where the node's processor can. Unset: as at the source.
    #[serde(default, skip_serializing_if = "unset")]
    pub enable_nested_virtualization: Option<bool>,
    /// Copy disks as they are, without converting the guests.
    #[serde(default)]
    pub skip_guest_conversion: bool,
    /// With `skipGuestConversion`: give the VMs devices that every guest knows (SATA, E1000E) instead of virtio.
    #[serde(default = "yes")]
    pub use_compatibility_mode: bool,
    /// How VMs are migrated: cold, warm, live or conversion. Unset: cold, or warm when `warm` is set.
    #[serde(rename = "type", default, skip_serializing_if = "unset")]
    pub type_: Option<MigrationType>,
    /// Whether the target VMs run afterwards: on, off, or auto (as at the source).
    #[serde(default, skip_serializing_if = "unset")]
    pub target_power_state: Option<TargetPowerState>,
    /// Warm from vSphere: look into the guests before anything is copied, and stop where a conversion would fail.
    #[serde(default = "yes")]
    pub run_preflight_inspection: bool,
    /// The config map with scripts for the conversion, with keys `<number>_win_firstboot_<text>.ps1` and
    /// `<number>_linux_(run|firstboot)_<text>.sh`, in the order of their numbers.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub customization_scripts: Option<ObjectReference>,
    /// The conversion's image, instead of the controller's setting.
    #[serde(default, skip_serializing_if = "unset")]
    pub virt_v2v_image: String,
    /// Use the conversion's image for old XFS file systems; it cannot read BTRFS.
    #[serde(default)]
    pub xfs_compatibility: bool,
    /// vSphere: which tags become labels. Unset: all.
    #[serde(default, skip_serializing_if = "unset")]
    pub tag_mapping: Option<TagMapping>,
}

impl Default for PlanSpec {
    fn default() -> Self {
        Self {
            description: String::new(),
            target_namespace: String::new(),
            service_account: String::new(),
            target_labels: BTreeMap::new(),
            target_node_selector: BTreeMap::new(),
            target_affinity: None,
            convertor_labels: BTreeMap::new(),
            convertor_node_selector: BTreeMap::new(),
            convertor_affinity: None,
            conversion_temp_storage_class: String::new(),
            conversion_temp_storage_size: String::new(),
            provider: ProviderPair::default(),
            map: PlanMap::default(),
            vms: Vec::new(),
            warm: false,
            transfer_network: None,
            archived: false,
            preserve_cluster_cpu_model: false,
            preserve_static_ips: true,
            skip_zone_node_selector: false,
            disk_bus: String::new(),
            pvc_name_template: String::new(),
            pvc_name_template_use_generate_name: None,
            volume_name_template: String::new(),
            network_name_template: String::new(),
            migrate_shared_disks: true,
            rdm_as_lun: false,
            scsi_reservation: false,
            delete_guest_conversion_pod: false,
            delete_vm_on_fail_migration: true,
            install_legacy_drivers: None,
            enable_nested_virtualization: None,
            skip_guest_conversion: false,
            use_compatibility_mode: true,
            type_: None,
            target_power_state: None,
            run_preflight_inspection: true,
            customization_scripts: None,
            virt_v2v_image: String::new(),
            xfs_compatibility: false,
            tag_mapping: None,
        }
    }
}

/// The maps of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlanMap {
    /// The network map.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub network: ObjectReference,
    /// The storage map; of no use for conversions only.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub storage: ObjectReference,
}

/// vSphere: which tags become labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagMapping {
    /// No tag does.
    #[serde(default, skip_serializing_if = "unset")]
    pub disabled: bool,
    /// Only these do, in whatever case they are written. Empty: all.
    #[serde(default, skip_serializing_if = "unset")]
    pub label_tags: Vec<String>,
}

/// A hook of a VM.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HookRef {
    /// When it runs: `PreHook` or `PostHook`.
    pub step: String,
    /// Which hook.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub hook: ObjectReference,
}

/// A VM of a plan: which one, and what is different about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanVM {
    /// The VM by id or name.
    #[serde(flatten)]
    pub reference: Ref,
    /// What runs before and after.
    #[serde(default, skip_serializing_if = "unset")]
    pub hooks: Vec<HookRef>,
    /// The secret with the keys of encrypted disks.
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub luks: ObjectReference,
    /// Unlock encrypted disks with Clevis, over the network: the conversion must reach the Tang server. Wins over
    /// `luks`.
    #[serde(default, skip_serializing_if = "unset")]
    pub nbde_clevis: bool,
    /// The disk, or its partition, that the guest's root is on, e.g. `/dev/sda2`.
    #[serde(default, skip_serializing_if = "unset")]
    pub root_disk: String,
    /// The instance type of the target VM, instead of the source's sizes.
    #[serde(default, skip_serializing_if = "unset")]
    pub instance_type: String,
    /// As the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub pvc_name_template: String,
    /// As the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub volume_name_template: String,
    /// As the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub network_name_template: String,
    /// The target VM's name. Unset: the source's, changed where Kubernetes demands it.
    #[serde(default, skip_serializing_if = "unset")]
    pub target_name: String,
    /// As the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub target_power_state: Option<TargetPowerState>,
    /// As the plan's; does not count when that is true.
    #[serde(default, skip_serializing_if = "unset")]
    pub delete_vm_on_fail_migration: bool,
    /// As the plan's. Unset: the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub migrate_shared_disks: Option<bool>,
    /// As the plan's. Unset: the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub enable_nested_virtualization: Option<bool>,
    /// As the plan's. Unset: the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub rdm_as_lun: Option<bool>,
    /// As the plan's. Unset: the plan's.
    #[serde(default, skip_serializing_if = "unset")]
    pub scsi_reservation: Option<bool>,
}

impl PlanVM {
    /// Returns the hook of a step.
    pub fn hook(&self, step: &str) -> Option<&HookRef> {
        self.hooks.iter().find(|hook| hook.step == step)
    }

    /// Whether a secret with LUKS keys is named.
    pub fn has_luks(&self) -> bool {
        self.luks.name.as_deref().is_some_and(|name| !name.is_empty())
    }
}

/// What was found out about a plan, and how far it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStatus {
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// Whether a storage class of the map is NetApp Shift's.
    #[serde(default, skip_serializing_if = "unset")]
    pub net_app_shift_destination: bool,
    /// The migrations of this plan.
    #[serde(default, skip_serializing_if = "unset")]
    pub migration: MigrationRecord,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

impl PlanSpec {
    /// Returns how VMs are migrated, the deprecated switch included.
    pub fn migration_type(&self) -> MigrationType {
        match self.type_ {
            _ if self.is_warm() => MigrationType::Warm,
            Some(type_) => type_,
            None => MigrationType::Cold,
        }
    }

    /// Whether the migration is warm, said the new way or the old.
    pub fn is_warm(&self) -> bool {
        self.warm || self.type_ == Some(MigrationType::Warm)
    }

    /// Returns the plan's entry for a VM: by id, else by name among the entries without an id.
    pub fn find_vm(&self, reference: &Ref) -> Option<&PlanVM> {
        find_by_ref(&self.vms, reference, |vm| &vm.reference)
    }

    /// Whether shared disks of this VM are migrated.
    pub fn migrates_shared_disks(&self, vm: &PlanVM) -> bool {
        vm.migrate_shared_disks.unwrap_or(self.migrate_shared_disks)
    }

    /// Returns whether this VM is to run afterwards.
    pub fn target_power_state(&self, vm: &PlanVM) -> TargetPowerState {
        vm.target_power_state.or(self.target_power_state).unwrap_or(TargetPowerState::Auto)
    }

    /// Whether this VM goes when its migration fails.
    pub fn deletes_vm_on_failure(&self, vm: &PlanVM) -> bool {
        self.delete_vm_on_fail_migration || vm.delete_vm_on_fail_migration
    }
}
