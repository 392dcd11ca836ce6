//! Conditions: what a controller found out about an object, and how findings come and go.
//!
//! A reconcile looks at the object anew and says what it finds; what it no longer says must vanish. So it
//! brackets its work:
//!
//! ```text
//!   begin_staging ──► set, set, … ──► end_staging ──► set Ready unless has_blocker
//!   (all but durable    (found again     (not set again:
//!    are un-staged)      or for the       removed)
//!                        first time)
//! ```
//!
//! While staging, look-ups see only what was set in this pass, and durable conditions. Conditions are told apart
//! by their type alone: setting one again overwrites it. `lastTransitionTime` changes when anything compared
//! changes, and only then, so that a pass which finds nothing new writes nothing.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::wire::{unset, wire_enum};

/// Types of conditions, as users and scripts know them. Messages and categories belong to the checks that set them.
pub mod types {
    macro_rules! names {
        ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
            $($(#[$doc])* pub const $name: &str = $text;)+
            /// Every type named here.
            pub const ALL: &[&str] = &[$($text),+];
        };
    }
    names! {
        /// The object can be used.
        READY = "Ready";
        /// A reconcile failed.
        RECONCILE_FAILED = "ReconcileFailed";
        /// All checks were made.
        VALIDATED = "Validated";

        // Life of plans and migrations
        /// A plan is being carried out.
        EXECUTING = "Executing";
        /// A migration is running.
        RUNNING = "Running";
        /// Waits for its turn.
        PENDING = "Pending";
        /// Ended by its user.
        CANCELED = "Canceled";
        /// Ended well.
        SUCCEEDED = "Succeeded";
        /// Ended badly.
        FAILED = "Failed";
        /// Cannot go on for now.
        BLOCKED = "Blocked";
        /// Was deleted.
        DELETED = "Deleted";
        /// Was paused.
        PAUSED = "Paused";
        /// Was archived by its user.
        ARCHIVED = "Archived";
        /// Disks are copied, only the conversion failed: it can be taken up again.
        CONVERSION_RESUMABLE = "ConversionResumable";
        /// The conversion went through with warnings.
        CONVERSION_HAS_WARNINGS = "ConversionHasWarnings";
        /// The inspection found something.
        INSPECTION_HAS_CONCERNS = "InspectionHasConcerns";
        /// A Windows guest has to restart before it is ready.
        WAIT_FOR_GUEST_REBOOTS = "WaitForGuestReboots";

        // References to providers, from plans, maps and hosts
        /// spec.provider is missing or wrong.
        PROVIDER_NOT_VALID = "ProviderNotValid";
        /// spec.provider is not ready.
        PROVIDER_NOT_READY = "ProviderNotReady";
        /// The source provider is missing or wrong.
        SOURCE_PROVIDER_NOT_VALID = "SourceProviderNotValid";
        /// The source provider is not ready.
        SOURCE_PROVIDER_NOT_READY = "SourceProviderNotReady";
        /// The destination provider is missing or wrong.
        DESTINATION_PROVIDER_NOT_VALID = "DestinationProviderNotValid";
        /// The destination provider is not ready.
        DESTINATION_PROVIDER_NOT_READY = "DestinationProviderNotReady";

        // Provider
        /// spec.type is not a type of provider.
        PROVIDER_TYPE_NOT_SUPPORTED = "ProviderTypeNotSupported";
        /// spec.url is missing or malformed.
        URL_NOT_VALID = "UrlNotValid";
        /// The secret is missing or lacks keys.
        SECRET_NOT_VALID = "SecretNotValid";
        /// A setting has a wrong value.
        SETTINGS_NOT_VALID = "SettingsNotValid";
        /// The source refused the credentials.
        CONNECTION_AUTH_FAILED = "ConnectionAuthFailed";
        /// The credentials are tried again from time to time.
        CONNECTION_AUTH_RETRY = "ConnectionAuthRetry";
        /// The source was reached.
        CONNECTION_TEST_SUCCEEDED = "ConnectionTestSucceeded";
        /// The source was not reached.
        CONNECTION_TEST_FAILED = "ConnectionTestFailed";
        /// The source's certificate is not checked.
        CONNECTION_INSECURE = "ConnectionInsecure";
        /// The inventory is complete.
        INVENTORY_CREATED = "InventoryCreated";
        /// The inventory is being read.
        LOAD_INVENTORY = "LoadInventory";
        /// The inventory could not be read.
        INVENTORY_ERROR = "InventoryError";
        /// The ESXi hosts answer over SSH.
        SSH_READY = "SSHReady";
        /// Some ESXi hosts do not answer over SSH.
        SSH_NOT_READY = "SSHNotReady";
        /// The source's role lacks privileges.
        INSUFFICIENT_PRIVILEGES = "InsufficientPrivileges";
        /// The SMB storage driver is missing.
        SMB_CSI_DRIVER_NOT_READY = "SMBCSIDriverNotReady";
        /// The SMB share could not be mounted.
        SMB_MOUNT_FAILED = "SMBMountFailed";
        /// The provider's server is not up yet.
        WAITING_FOR_SERVICE = "WaitingForService";
        /// The secret lacks the target account's keys.
        TARGET_CREDENTIALS_MISSING = "TargetCredentialsMissing";
        /// Appliances can be uploaded.
        APPLIANCE_MANAGEMENT_ENABLED = "ApplianceManagementEnabled";

        // Host
        /// The host is not found or not unique.
        REF_NOT_VALID = "RefNotValid";
        /// The provider has no hosts; also a conversion of unknown type.
        TYPE_NOT_VALID = "TypeNotValid";
        /// spec.ipAddress is missing.
        IP_NOT_VALID = "IpNotValid";
        /// The host is in maintenance.
        IN_MAINTENANCE = "InMaintenance";
        /// The host is broken.
        NOT_HEALTHY = "NotHealthy";
        /// The host is not quite well.
        HOST_STATUS_NOT_GREEN = "HostStatusNotGreen";

        // Maps
        /// A source network is missing or ambiguous.
        SOURCE_NETWORK_NOT_VALID = "SourceNetworkNotValid";
        /// A destination network is missing or ambiguous.
        DESTINATION_NETWORK_NOT_VALID = "DestinationNetworkNotValid";
        /// A source storage is missing or ambiguous.
        SOURCE_STORAGE_NOT_VALID = "SourceStorageNotValid";
        /// A storage class does not exist.
        DESTINATION_STORAGE_NOT_VALID = "DestinationStorageNotValid";

        // Migration
        /// spec.plan is missing or wrong.
        PLAN_NOT_VALID = "PlanNotValid";
        /// The plan is not ready.
        PLAN_NOT_READY = "PlanNotReady";
        /// A VM that is named does not exist.
        VM_NOT_FOUND = "VMNotFound";
        /// A VM's name stands for several.
        VM_NOT_UNIQUE = "VMNotUnique";

        // Hook
        /// The hook has no image.
        INVALID_IMAGE = "InvalidImage";
        /// The playbook is not base64.
        INVALID_PLAYBOOK = "InvalidPlaybook";
        /// The hook says neither or both of how it is run.
        INVALID_HOOK_EXECUTE = "InvalidHookExecute";

        // Conversion
        /// spec.vm is empty.
        VM_NOT_SET = "VMNotSet";
        /// spec.disks is empty.
        DISKS_NOT_SET = "DisksNotSet";
        /// spec.connection is empty.
        CONNECTION_NOT_SET = "ConnectionNotSet";
        /// The connection's secret is missing.
        CONNECTION_SECRET_NOT_SET = "ConnectionSecretNotSet";
        /// spec.vddkImage is empty.
        VDDK_IMAGE_NOT_SET = "VDDKImageNotSet";
        /// LUKS without a secret.
        LUKS_SECRET_NOT_SET = "LUKSSecretNotSet";
        /// spec.targetNamespace is empty.
        TARGET_NAMESPACE_NOT_SET = "TargetNamespaceNotSet";
        /// The conversion failed.
        CONVERSION_FAILED = "ConversionFailed";
        /// The conversion was canceled.
        CONVERSION_CANCELED = "ConversionCanceled";

        // Plan: what it names
        /// Warm migration is not possible from this source.
        WARM_MIGRATION_NOT_READY = "WarmMigrationNotReady";
        /// This type of migration is not possible.
        MIGRATION_TYPE_NOT_VALID = "MigrationTypeNotValid";
        /// The target namespace's name is missing or malformed.
        NAMESPACE_NOT_VALID = "NamespaceNotValid";
        /// The transfer network is missing or out of reach.
        TRANSFER_NETWORK_NOT_VALID = "TransferNetworkNotValid";
        /// The transfer network has no default route.
        TRANSFER_NETWORK_MISSING_DEFAULT_ROUTE = "TransferNetworkMissingDefaultRoute";
        /// The network map is missing.
        NETWORK_MAP_REF_NOT_VALID = "NetworkMapRefNotValid";
        /// The network map is not ready.
        NETWORK_MAP_NOT_READY = "NetworkMapNotReady";
        /// Static addresses cannot be kept on the pod network.
        NET_MAP_PRESERVING_IPS_ON_POD_NETWORK = "NetMapPreservingIPsOnPodNetwork";
        /// A network of the map lives in a namespace that the VM cannot use.
        NET_MAP_DESTINATION_NAD_NOT_VALID = "NetMapDestinationNADNotValid";
        /// The storage map is missing.
        STORAGE_REF_NOT_VALID = "StorageRefNotValid";
        /// The storage map is not ready.
        STORAGE_MAP_NOT_READY = "StorageMapNotReady";
        /// A user-defined network of an unsupported kind.
        UNSUPPORTED_UDN = "UnsupportedUserDefinedNetwork";
        /// A value of the plan is wrong.
        NOT_VALID = "NotValid";
        /// The hook is missing.
        HOOK_NOT_VALID = "HookNotValid";
        /// The hook is not ready.
        HOOK_NOT_READY = "HookNotReady";
        /// The hook's step is neither PreHook nor PostHook.
        HOOK_STEP_NOT_VALID = "HookStepNotValid";
        /// The service account does not exist.
        SERVICE_ACCOUNT_NOT_VALID = "ServiceAccountNotValid";
        /// The hook's service account does not exist.
        HOOK_SERVICE_ACCOUNT_NOT_VALID = "HookServiceAccountNotValid";
        /// The conversion image is not a full image reference.
        VIRT_V2V_IMAGE_NOT_VALID = "VirtV2vImageNotValid";
        /// The VDDK image is being checked.
        VALIDATING_VDDK = "ValidatingVDDK";
        /// The VDDK image holds no VDDK.
        VDDK_INVALID = "VDDKInvalid";
        /// The VDDK image is being fetched.
        VDDK_INIT_IMAGE_NOT_READY = "VDDKInitImageNotReady";
        /// The VDDK image cannot be had.
        VDDK_INIT_IMAGE_UNAVAILABLE = "VDDKInitImageUnavailable";
        /// The source cluster is too old.
        UNSUPPORTED_VERSION = "UnsupportedVersion";
        /// Pods of the plan may be refused by pod security.
        RESTRICTED_POD_SECURITY = "RestrictedPodSecurity";
        /// NetApp Shift and warm migration exclude each other.
        NET_APP_SHIFT_WARM_NOT_SUPPORTED = "NetAppShiftWarmNotSupported";
        /// A datastore lacks the address of its NFS server.
        NET_APP_SHIFT_DATASTORE_NAS_MISSING = "NetAppShiftDatastoreNASMissing";

        // Plan: its VMs
        /// A VM is named by neither id nor name.
        VM_REF_NOT_VALID = "VMRefNotValid";
        /// A VM is named twice, or its name is ambiguous.
        DUPLICATE_VM = "DuplicateVM";
        /// Several VMs of a plan would get the same name; upstream says DuplicateVM here too.
        DUPLICATE_TARGET_NAME = "DuplicateTargetName";
        /// A VM of that name exists in the target namespace.
        VM_ALREADY_EXISTS = "VMAlreadyExists";
        /// The source's name must be changed for the target.
        TARGET_NAME_NOT_VALID = "TargetNameNotValid";
        /// A VM has networks which the map lacks.
        VM_NETWORKS_NOT_MAPPED = "VMNetworksNotMapped";
        /// A VM has storage which the map lacks.
        VM_STORAGE_NOT_MAPPED = "VMStorageNotMapped";
        /// A VM has storage that cannot be migrated.
        VM_STORAGE_NOT_SUPPORTED = "VMStorageNotSupported";
        /// Several of a VM's NICs go to the pod network.
        VM_MULTIPLE_POD_NETWORK_MAPPINGS = "VMMultiplePodNetworkMappings";
        /// The source does not know a VM's addresses.
        VM_MISSING_GUEST_IPS = "VMMissingGuestIPs";
        /// A VM's address is outside the user-defined network.
        VM_IP_NOT_MATCHING_UDN_SUBNET = "VMIpNotMatchingUdnSubnet";
        /// Changed block tracking is off.
        VM_MISSING_CHANGED_BLOCK_TRACKING = "VMMissingChangedBlockTracking";
        /// A VM has snapshots.
        VM_HAS_SNAPSHOTS = "VMHasSnapshots";
        /// Ours: a migration that was lost left snapshots on a VM.
        STALE_SNAPSHOTS = "StaleSnapshots";
        /// Ours: several VMs have the same UUID.
        DUPLICATE_VM_UUID = "DuplicateVMUuid";
        /// Ours: the name of a volume is used twice.
        PVC_NAME_CONFLICT = "PVCNameConflict";
        /// A VM's disks need consolidation.
        VM_CONSOLIDATION_NEEDED = "VMConsolidationNeeded";
        /// A VM's power state forbids this type of migration.
        VM_POWER_STATE_UNSUPPORTED = "VMPowerStateUnsupported";
        /// A VM cannot be migrated this way.
        VM_MIGRATION_TYPE_UNSUPPORTED = "VMMigrationTypeUnsupported";
        /// A VM has concerns of category Critical.
        VM_CRITICAL_CONCERNS = "VMCriticalConcerns";
        /// A VM's host is not ready.
        HOST_NOT_READY = "HostNotReady";
        /// Prefix: disks are shared with a VM that forbids it; the VM's id follows.
        SHARED_DISKS = "SharedDisks";
        /// Prefix: disks are shared with other VMs; the VM's id follows.
        SHARED_WARN_DISKS = "SharedWarnDisks";
        /// A disk's size is not positive.
        INVALID_DISK_SIZES = "InvalidDiskSizes";
        /// A VM on the target has the same MAC address.
        MAC_CONFLICTS = "MacConflicts";
        /// Conversion only: the volumes are not there.
        MISSING_PVC_FOR_ONLY_CONVERSION = "MissingPvcForOnlyConversion";
        /// Both LUKS and Clevis are set.
        LUKS_AND_CLEVIS_INCOMPATIBILITY = "LuksAndClevisIncompatibility";
        /// The appliance was exported by something that is not supported.
        UNSUPPORTED_OVF_EXPORT_SOURCE = "UnsupportedOVFExportSource";
        /// The guest tools are missing or do not run.
        GUEST_TOOLS_ISSUE = "GuestToolsIssue";
        /// Some disks would be offloaded and others not.
        VDDK_AND_OFFLOAD_MIXED_USAGE = "VDDKAndOffloadMixedUsage";
        /// A VM has RDM disks.
        RDM_DISK_WARNING = "RDMDiskWarning";
        /// A VM has independent disks.
        INDEPENDENT_DISK_WARNING = "IndependentDiskWarning";
    }
}

/// What vSphere's providers, hosts and plans can say: type and reasons. Each has a test that raises it by name.
pub mod vsphere {
    /// Types with their reasons; an empty reason is none.
    pub type Table = &'static [(&'static str, &'static [&'static str])];

    /// Conditions of a Provider.
    pub const PROVIDER: Table = &[
        ("ProviderTypeNotSupported", &["NotSupported"]),
        ("UrlNotValid", &["NotSet", "Malformed"]),
        ("SecretNotValid", &["NotSet", "NotFound", "DataErr"]),
        ("SettingsNotValid", &["NotValid"]),
        ("ConnectionInsecure", &["SkipTLSVerification"]),
        ("ConnectionTestFailed", &["Tested"]),
        ("ConnectionAuthFailed", &["Tested"]),
        ("ConnectionTestSucceeded", &["Tested"]),
        ("LoadInventory", &["Started"]),
        ("InventoryCreated", &["Completed"]),
        ("InventoryError", &[""]),
        ("Validated", &["Completed"]),
        ("InsufficientPrivileges", &["PrivilegesNotGranted"]),
        ("Ready", &[""]),
    ];

    /// Conditions of a Plan that its VMs give, and VDDK. What belongs to copies by the storage array
    /// (`VDDKAndOffloadMixedUsage`, `SSHReady`, `SSHNotReady`, NetApp Shift) is not offered and not said.
    pub const PLAN: Table = &[
        ("WarmMigrationNotReady", &["NotSupported"]),
        ("MigrationTypeNotValid", &["NotSupported"]),
        ("VMRefNotValid", &["NotSet"]),
        ("VMNotFound", &["NotFound"]),
        ("DuplicateVM", &["NotUnique", "Ambiguous"]),
        ("DuplicateTargetName", &["NotUnique"]),
        ("TargetNameNotValid", &["NotValid"]),
        ("NotValid", &["NotValid"]),
        ("VMAlreadyExists", &["NotUnique"]),
        ("VMNetworksNotMapped", &["NotValid"]),
        ("VMStorageNotMapped", &["NotValid"]),
        ("VMStorageNotSupported", &["NotValid"]),
        ("VMMultiplePodNetworkMappings", &["NotValid"]),
        ("HostNotReady", &["InMaintenanceMode"]),
        ("NetMapPreservingIPsOnPodNetwork", &[""]),
        ("VMMissingGuestIPs", &["MissingGuestInformation"]),
        ("UnsupportedUserDefinedNetwork", &["NotSupported"]),
        ("VMIpNotMatchingUdnSubnet", &["NotValid"]),
        ("VMMissingChangedBlockTracking", &["MissingChangedBlockTracking"]),
        ("VMHasSnapshots", &["NotValid"]),
        ("StaleSnapshots", &["NotValid"]),
        ("VMConsolidationNeeded", &["ConsolidationNeeded"]),
        ("VMMigrationTypeUnsupported", &["NotSupported"]),
        ("GuestToolsIssue", &["NotValid"]),
        ("InvalidDiskSizes", &["NotValid"]),
        ("MacConflicts", &["NotValid"]),
        ("MissingPvcForOnlyConversion", &["NotValid"]),
        ("PVCNameConflict", &["NotUnique"]),
        ("LuksAndClevisIncompatibility", &["NotValid"]),
        ("RDMDiskWarning", &["NotSupported"]),
        ("IndependentDiskWarning", &["NotSupported"]),
        ("SharedDisks", &["NotSupported", "NotValid"]),
        ("SharedWarnDisks", &["NotValid"]),
        ("DuplicateVMUuid", &["NotUnique"]),
        ("VMCriticalConcerns", &["NotValid"]),
    ];

    /// Conditions of a Plan that what it names in the cluster gives.
    pub const REFERENCES: Table = &[
        ("SourceProviderNotValid", &["NotSet", "NotFound"]),
        ("SourceProviderNotReady", &["NotFound"]),
        ("DestinationProviderNotValid", &["NotSet", "NotFound", "TypeNotValid"]),
        ("DestinationProviderNotReady", &["NotFound"]),
        ("NamespaceNotValid", &["NotSet", "NotValid"]),
        ("NetworkMapRefNotValid", &["NotSet", "NotFound"]),
        ("NetworkMapNotReady", &["NotFound"]),
        ("StorageRefNotValid", &["NotSet", "NotFound"]),
        ("StorageMapNotReady", &["NotFound"]),
        ("NetMapDestinationNADNotValid", &["NotValid"]),
        ("TransferNetworkNotValid", &["NotFound", "NotValid"]),
        ("TransferNetworkMissingDefaultRoute", &["NotValid"]),
        ("ServiceAccountNotValid", &["NotFound"]),
        ("VirtV2vImageNotValid", &["NotValid"]),
        ("HookNotValid", &["NotSet", "NotFound"]),
        ("HookNotReady", &["NotFound"]),
        ("HookStepNotValid", &["NotValid"]),
        ("HookServiceAccountNotValid", &["NotFound"]),
        ("RestrictedPodSecurity", &[""]),
        ("Ready", &[""]),
    ];

    /// Conditions of a Plan about VDDK's image.
    pub const VDDK: Table = &[
        ("ValidatingVDDK", &["Started"]),
        ("VDDKInvalid", &["NotValid"]),
        ("VDDKInitImageNotReady", &["ContainerCreating"]),
        ("VDDKInitImageUnavailable", &["ErrImagePull"]),
    ];

    /// Conditions of a Host.
    pub const HOST: Table = &[
        ("ProviderNotValid", &["NotSet", "NotFound"]),
        ("ProviderNotReady", &["NotFound", "Started"]),
        ("TypeNotValid", &["TypeErr"]),
        ("RefNotValid", &["NotSet", "NotFound", "Ambiguous"]),
        ("IpNotValid", &["NotSet", "Malformed"]),
        ("SecretNotValid", &["NotSet", "NotFound", "DataErr"]),
        ("InMaintenance", &["StateEvaluated"]),
        ("HostStatusNotGreen", &["StateEvaluated"]),
        ("NotHealthy", &["StateEvaluated"]),
        ("ConnectionTestSucceeded", &["Tested"]),
        ("ConnectionTestFailed", &["Tested"]),
        ("Validated", &["Completed"]),
        ("Ready", &[""]),
    ];
}

/// Reasons of conditions.
pub mod reasons {
    macro_rules! names {
        ($($name:ident = $text:literal),+ $(,)?) => {
            $(#[doc = concat!("`", $text, "`")] pub const $name: &str = $text;)+
            /// Every reason named here.
            pub const ALL: &[&str] = &[$($text),+];
        };
    }
    names! {
        NOT_SET = "NotSet", NOT_FOUND = "NotFound", NOT_UNIQUE = "NotUnique", NOT_SUPPORTED = "NotSupported",
        NOT_VALID = "NotValid", AMBIGUOUS = "Ambiguous", MALFORMED = "Malformed", TYPE_NOT_VALID = "TypeNotValid",
        TYPE_ERR = "TypeErr", DATA_ERR = "DataErr", DATA_ERROR = "DataError", TESTED = "Tested",
        STARTED = "Started", COMPLETED = "Completed", MODIFIED = "Modified", DELETED = "Deleted",
        USER_REQUESTED = "UserRequested", SKIP_TLS_VERIFICATION = "SkipTLSVerification",
        IN_MAINTENANCE_MODE = "InMaintenanceMode", STATE_EVALUATED = "StateEvaluated",
        MISSING_GUEST_INFORMATION = "MissingGuestInformation",
        MISSING_CHANGED_BLOCK_TRACKING = "MissingChangedBlockTracking",
        CONSOLIDATION_NEEDED = "ConsolidationNeeded", PRIVILEGES_NOT_GRANTED = "PrivilegesNotGranted",
        FEATURE_ENABLED = "FeatureEnabled",
    }
}

wire_enum! {
    /// How much a condition matters.
    Category, "condition category", {
        /// Blocks `Ready`, and further work on the object.
        Critical => "Critical",
        /// Blocks `Ready`.
        Error => "Error",
        /// Blocks nothing, but somebody should look.
        Warn => "Warn",
        /// Has to be there for `Ready`.
        Required => "Required",
        /// For information.
        Advisory => "Advisory",
        /// Concerns of the inventory and warnings of conversions spell it so.
        Warning => "Warning",
        /// Concerns of the inventory.
        Information => "Information",
        /// A category that we do not know.
        Unknown => "Unknown",
    } else Unknown
}

wire_enum! {
    /// Whether a condition holds.
    ConditionStatus, "condition status", {
        /// It holds.
        True => "True",
        /// It does not.
        False => "False",
        /// Nobody knows.
        Unknown => "Unknown",
    } else Unknown
}

/// One finding about an object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What was found; one condition of each type.
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word.
    #[serde(default, skip_serializing_if = "unset")]
    pub reason: String,
    /// How much it matters.
    pub category: Category,
    /// What to tell a person.
    #[serde(default, skip_serializing_if = "unset")]
    pub message: String,
    /// What that person can do about it.
    #[serde(default, skip_serializing_if = "unset")]
    pub suggestion: String,
    /// When anything of it last changed.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_transition_time: Time,
    /// Stays until it is taken away, whether found again or not.
    #[serde(default, skip_serializing_if = "unset")]
    pub durable: bool,
    /// What the message speaks of, e.g. VMs.
    #[serde(default, skip_serializing_if = "unset")]
    pub items: Vec<String>,
}

impl Condition {
    /// Returns a condition that holds; its time is filled in when it is set.
    pub fn new(type_: impl Into<String>, category: Category, message: impl Into<String>) -> Self {
        Self {
            type_: type_.into(),
            status: ConditionStatus::True,
            reason: String::new(),
            category,
            message: message.into(),
            suggestion: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            durable: false,
            items: Vec::new(),
        }
    }

    /// Adds the reason.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Adds what a person can do.
    pub fn suggestion(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = suggestion.into();
        self
    }

    /// Adds what the message speaks of.
    pub fn items(mut self, items: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.items = items.into_iter().map(Into::into).collect();
        self
    }

    /// Makes it stay until it is taken away.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Says whether it holds.
    pub fn status(mut self, status: ConditionStatus) -> Self {
        self.status = status;
        self
    }

    /// Whether it holds.
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// Whether both say the same, whenever they said it first.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self == &Self { last_transition_time: self.last_transition_time.clone(), ..other.clone() }
    }
}

/// What became of a condition between two looks.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It is new.
    Added(Condition),
    /// It says something else; this is what it says now.
    Updated(Condition),
    /// It is gone; this is what it said.
    Deleted(Condition),
}

/// The conditions of an object, with the bookkeeping of staging. In JSON it is the list and nothing else.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Condition>", into = "Vec<Condition>")]
pub struct Conditions {
    list: Vec<Condition>,
    /// While staging: the types that were set in this pass, or are durable.
    staged: Option<BTreeSet<String>>,
}

impl PartialEq for Conditions {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl From<Vec<Condition>> for Conditions {
    fn from(list: Vec<Condition>) -> Self {
        Self { list, staged: None }
    }
}

impl From<Conditions> for Vec<Condition> {
    fn from(conditions: Conditions) -> Self {
        conditions.list
    }
}

impl JsonSchema for Conditions {
    fn schema_name() -> Cow<'static, str> {
        "Conditions".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Condition>::json_schema(generator)
    }
}

impl Conditions {
    /// Opens a pass: whatever is neither durable nor set again before [`Conditions::end_staging`] goes.
    pub fn begin_staging(&mut self) {
        self.staged = Some(self.list.iter().filter(|c| c.durable).map(|c| c.type_.clone()).collect());
    }

    /// Closes a pass and removes what was not set in it.
    pub fn end_staging(&mut self) {
        if let Some(staged) = self.staged.take() {
            self.list.retain(|c| staged.contains(&c.type_));
        }
    }

    /// Adds a condition, or overwrites the one of its type. Returns whether anything changed.
    pub fn set(&mut self, condition: Condition, now: Timestamp) -> bool {
        if let Some(staged) = &mut self.staged {
            staged.insert(condition.type_.clone());
        }
        let condition = Condition { last_transition_time: Time(now), ..condition };
        match self.list.iter_mut().find(|c| c.type_ == condition.type_) {
            Some(known) if known.says_the_same(&condition) => false,
            Some(known) => {
                *known = condition;
                true
            }
            None => {
                self.list.push(condition);
                true
            }
        }
    }

    /// Keeps a condition as it is through this pass.
    pub fn stage(&mut self, type_: &str) {
        if let Some(staged) = &mut self.staged {
            staged.insert(type_.to_owned());
        }
    }

    /// Takes a condition away: at once, or at the end of the pass while staging.
    pub fn remove(&mut self, type_: &str) {
        match &mut self.staged {
            Some(staged) => {
                staged.remove(type_);
            }
            None => self.list.retain(|c| c.type_ != type_),
        }
    }

    /// Returns the condition of a type, whether it holds or not.
    pub fn find(&self, type_: &str) -> Option<&Condition> {
        self.iter().find(|c| c.type_ == type_)
    }

    /// Whether the condition of a type is there and holds.
    pub fn has(&self, type_: &str) -> bool {
        self.find(type_).is_some_and(Condition::is_true)
    }

    /// Whether any of these holds.
    pub fn has_any(&self, types: &[&str]) -> bool {
        types.iter().any(|type_| self.has(type_))
    }

    /// Whether all of these hold; false for none.
    pub fn has_all(&self, types: &[&str]) -> bool {
        !types.is_empty() && types.iter().all(|type_| self.has(type_))
    }

    /// Whether a condition of one of these categories holds.
    pub fn has_category(&self, categories: &[Category]) -> bool {
        self.iter().any(|c| c.is_true() && categories.contains(&c.category))
    }

    /// Whether something forbids further work on the object.
    pub fn has_critical(&self) -> bool {
        self.has_category(&[Category::Critical])
    }

    /// Whether something stands between the object and `Ready`.
    pub fn has_blocker(&self) -> bool {
        self.has_category(&[Category::Critical, Category::Error])
    }

    /// Whether something is found out elsewhere, so that the object has to be looked at again.
    pub fn awaits_answer(&self) -> bool {
        self.has_any(&[types::VALIDATING_VDDK, types::VM_MISSING_CHANGED_BLOCK_TRACKING])
    }

    /// Whether the object is ready.
    pub fn is_ready(&self) -> bool {
        self.has(types::READY)
    }

    /// Returns the conditions, while staging only those that are staged.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.list.iter().filter(|c| self.staged.as_ref().is_none_or(|staged| staged.contains(&c.type_)))
    }

    /// Whether there is no condition at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Returns what changed since `before`, by type: one Kubernetes event is made of each.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let said = |conditions: &Self, type_: &str| conditions.list.iter().find(|c| c.type_ == type_).cloned();
        let mut changes: Vec<Change> = before
            .list
            .iter()
            .filter(|old| said(self, &old.type_).is_none())
            .map(|old| Change::Deleted(old.clone()))
            .collect();
        changes.extend(self.list.iter().filter_map(|new| match said(before, &new.type_) {
            None => Some(Change::Added(new.clone())),
            Some(old) if !old.says_the_same(new) => Some(Change::Updated(new.clone())),
            Some(_) => None,
        }));
        changes
    }
}

impl<'a> IntoIterator for &'a Conditions {
    type Item = &'a Condition;
    type IntoIter = std::slice::Iter<'a, Condition>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}
