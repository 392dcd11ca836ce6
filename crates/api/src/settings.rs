//! Settings of the controller, the inventory and the validation: one table of names, defaults and meanings.
//!
//! A setting is a key of the ForkliftController object, an environment variable of the process, and a field here.
//! The defaults are those that a ForkliftController gives, so that a process without an operator behaves like one
//! with. Keys marked `-` can only be set by environment.

use std::fmt;

/// A setting whose value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// The environment variable.
    pub env: &'static str,
    /// Its value.
    pub value: String,
    /// What was expected.
    pub expected: String,
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={:?} is not {}", self.env, self.value, self.expected)
    }
}

impl std::error::Error for SettingError {}

/// What is known of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingInfo {
    /// The environment variable.
    pub env: &'static str,
    /// The key of the ForkliftController, or `-`.
    pub key: &'static str,
    /// The default, as text; empty for none.
    pub default: String,
    /// What it is for.
    pub doc: &'static str,
}

/// Reads a boolean as Go's `strconv.ParseBool` does, by which upstream reads settings, secrets and variables.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

trait Value: Sized {
    fn read(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

impl Value for bool {
    fn read(text: &str) -> Result<Self, String> {
        parse_bool(text).ok_or_else(|| "true or false".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for String {
    fn read(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl Value for u64 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "a whole number, 0 or more".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

/// A number that must not be 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Positive(u64);

impl Positive {
    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number as a size of something in memory.
    pub const fn count(self) -> usize {
        self.0 as usize
    }
}

impl Value for Positive {
    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err("a whole number, 1 or more".to_owned()),
        }
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Bytes a second: a number, or one with `k`, `M`, `G`, `Ki`, `Mi` or `Gi` behind it; 0 for no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BytesPerSecond(pub u64);

impl BytesPerSecond {
    /// Reads a rate as users write it.
    pub fn parse(text: &str) -> Option<Self> {
        let units =
            [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1000), ("M", 1_000_000), ("G", 1_000_000_000)];
        let text = text.trim();
        let found = units.into_iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)));
        let (number, size): (&str, u64) = found.unwrap_or((text, 1));
        number.trim().parse::<u64>().ok()?.checked_mul(size).map(Self)
    }

    /// Returns the limit; none for 0.
    pub fn limit(self) -> Option<u64> {
        Some(self.0).filter(|limit| *limit > 0)
    }
}

impl From<u64> for BytesPerSecond {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl Value for BytesPerSecond {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "a number of bytes a second, e.g. 104857600 or 100Mi".to_owned())
    }

    fn show(&self) -> String {
        self.0.to_string()
    }
}

/// Arguments for a program: a JSON list, or words with spaces between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arguments(pub Vec<String>);

impl Value for Arguments {
    fn read(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('[') {
            let list = serde_json::from_str(text).map_err(|error| format!("a JSON list of texts ({error})"))?;
            return Ok(Self(list));
        }
        Ok(Self(text.split_whitespace().map(str::to_owned).collect()))
    }

    fn show(&self) -> String {
        let plain = |word: &String| !word.is_empty() && !word.contains(char::is_whitespace) && !word.starts_with('[');
        if self.0.iter().all(plain) { self.0.join(" ") } else { serde_json::json!(self.0).to_string() }
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $env:literal, $key:literal;)+) => {
        /// Every setting with its value.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Settings { $($(#[doc = $doc])+ pub $field: $type,)+ }

        impl Default for Settings {
            fn default() -> Self { Self { $($field: $default.into(),)+ } }
        }

        impl Settings {
            /// Reads the settings through `lookup`, e.g. from the environment. Empty values count as unset.
            pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SettingError> {
                let mut settings = Self::default();
                $(if let Some(text) = lookup($env).filter(|text| !text.is_empty()) {
                    settings.$field = <$type as Value>::read(text.trim())
                        .map_err(|expected| SettingError { env: $env, value: text, expected })?;
                })+
                Ok(settings)
            }

            /// Returns what is known of every setting, for documentation and for the operator.
            pub fn describe() -> Vec<SettingInfo> {
                let settings = Self::default();
                vec![$(SettingInfo {
                    env: $env,
                    key: $key,
                    default: Value::show(&settings.$field),
                    doc: concat!($($doc),+).trim_ascii(),
                }),+]
            }

            /// Returns the values that differ from their defaults, as environment variables.
            pub fn to_env(&self) -> Vec<(&'static str, String)> {
                let default = Self::default();
                let mut env = Vec::new();
                $(if self.$field != default.$field { env.push(($env, Value::show(&self.$field))); })+
                env
            }
        }
    };
}

impl From<u64> for Positive {
    /// For defaults; 0 becomes 1.
    fn from(number: u64) -> Self {
        Self(number.max(1))
    }
}

const NONE: &str = "";

settings! {
    // How much at a time
    /// VMs that are copied at a time, per provider or host.
    max_vm_inflight: Positive = 20u64, "MAX_VM_INFLIGHT", "controller_max_vm_inflight";
    /// Populators at a time, per ESXi host.
    max_populator_inflight: Positive = 20u64, "MAX_POPULATOR_INFLIGHT", "controller_max_populator_inflight";
    /// Objects of a kind that are reconciled at a time.
    max_concurrent_reconciles: Positive = 10u64, "MAX_CONCURRENT_RECONCILES", "controller_max_concurrent_reconciles";
    /// How often a hook is tried.
    hook_retry: Positive = 3u64, "HOOK_RETRY", "-";
    /// How often an importer is tried.
    importer_retry: Positive = 3u64, "IMPORTER_RETRY", "-";
    /// How often a clean-up is tried.
    cleanup_retries: Positive = 10u64, "CLEANUP_RETRIES", "controller_cleanup_retries";
    /// How often a snapshot's removal is looked at.
    snapshot_removal_check_retries: Positive = 20u64, "SNAPSHOT_REMOVAL_CHECK_RETRIES", "controller_snapshot_removal_check_retries";
    /// How often the parent of a backing file is looked for.
    max_parent_backing_retries: Positive = 10u64, "MAX_PARENT_BACKING_RETRIES", "controller_max_parent_backing_retries";

    // How fast
    /// Bytes a second that all copies may read together (`500Mi`); 0 for no limit.
    bandwidth_limit: BytesPerSecond = 0u64, "BANDWIDTH_LIMIT", "controller_bandwidth_limit";
    /// Bytes a second that the copies from one ESXi host may read together, where its provider says nothing; 0 for no limit.
    host_bandwidth_limit: BytesPerSecond = 0u64, "HOST_BANDWIDTH_LIMIT", "controller_host_bandwidth_limit";
    /// Bytes a second that the copies from one datastore may read together, where its provider says nothing; 0 for no limit.
    datastore_bandwidth_limit: BytesPerSecond = 0u64, "DATASTORE_BANDWIDTH_LIMIT", "controller_datastore_bandwidth_limit";

    // Times
    /// Minutes between copies of a warm migration.
    precopy_interval: Positive = 60u64, "PRECOPY_INTERVAL", "controller_precopy_interval";
    /// Seconds between copies of a warm migration, instead of the minutes above; 0 for those.
    precopy_interval_seconds: u64 = 0u64, "PRECOPY_INTERVAL_SECONDS", "-";
    /// Minutes that a running plan may be blocked before it fails.
    blocker_grace_period_minutes: Positive = 5u64, "BLOCKER_GRACE_PERIOD_MINUTES", "controller_blocker_grace_period_minutes";
    /// Minutes that the removal of a snapshot may take.
    snapshot_removal_timeout: Positive = 120u64, "SNAPSHOT_REMOVAL_TIMEOUT", "controller_snapshot_removal_timeout_minuts";
    /// Seconds between looks at a snapshot.
    snapshot_status_check_rate: Positive = 10u64, "SNAPSHOT_STATUS_CHECK_RATE", "controller_snapshot_status_check_rate_seconds";
    /// Seconds that the check of a VDDK image may take.
    vddk_job_active_deadline: Positive = 300u64, "VDDK_JOB_ACTIVE_DEADLINE", "controller_vddk_job_active_deadline_sec";
    /// Seconds to wait for a TLS connection.
    tls_connection_timeout: Positive = 5u64, "TLS_CONNECTION_TIMEOUT", "controller_tls_connection_timeout_sec";
    /// Seconds to wait for Windows to restart.
    windows_reboot_timeout: Positive = 1800u64, "CONTROLLER_WINDOWS_REBOOT_TIMEOUT", "controller_windows_reboot_timeout";
    /// Minutes that a conversion's pod may be pending; 0 for ever.
    conversion_pod_pending_timeout: u64 = 5u64, "CONVERSION_POD_PENDING_TIMEOUT", "-";
    /// Seconds after which a terminating conversion is deleted by force.
    stale_conversion_timeout: Positive = 180u64, "STALE_CONVERSION_TIMEOUT", "-";
    /// Minutes that CDI's export tokens are valid.
    cdi_export_token_ttl: Positive = 720u64, "CDI_EXPORT_TOKEN_TTL", "-";
    /// Seconds that a provider's server may be pending.
    provider_pending_timeout: Positive = 120u64, "PROVIDER_PENDING_TIMEOUT_SECONDS", "-";
    /// Whether a migration waits until the source's disks are consolidated.
    wait_for_final_snapshot_consolidation: bool = true, "WAIT_FOR_FINAL_SNAPSHOT_CONSOLIDATION", "wait_for_final_snapshot_consolidation";

    // Sizes and names
    /// Per cent that a file system needs for itself.
    filesystem_overhead: u64 = 10u64, "FILESYSTEM_OVERHEAD", "controller_filesystem_overhead";
    /// Bytes that a block volume is larger than its disk.
    block_overhead: String = "0", "BLOCK_OVERHEAD", "controller_block_overhead";
    /// Service account of migration pods.
    migration_service_account: String = NONE, "MIGRATION_SERVICE_ACCOUNT", "controller_migration_service_account";
    /// Go template for names of volumes.
    pvc_name_template: String = NONE, "PVC_NAME_TEMPLATE", "controller_pvc_name_template";
    /// Go template for names of volumes from an OpenShift source.
    ocp_pvc_name_template: String = NONE, "OCP_PVC_NAME_TEMPLATE", "controller_ocp_pvc_name_template";
    /// Namespace of the leases on ESXi hosts.
    host_lease_namespace: String = "openshift-mtv", "HOST_LEASE_NAMESPACE", "controller_host_lease_namespace";
    /// Seconds that a lease on an ESXi host lasts.
    host_lease_duration: Positive = 10u64, "HOST_LEASE_DURATION_SECONDS", "controller_host_lease_duration_seconds";

    // Features
    /// Warm migration from oVirt.
    feature_ovirt_warm_migration: bool = true, "FEATURE_OVIRT_WARM_MIGRATION", "controller_ovirt_warm_migration";
    /// Incremental copies from vSphere.
    feature_vsphere_incremental_backup: bool = true, "FEATURE_VSPHERE_INCREMENTAL_BACKUP", "controller_vsphere_incremental_backup";
    /// Static addresses on user-defined networks; OpenShift 4.20 and later.
    feature_static_udn_ip_addresses: bool = true, "FEATURE_STATIC_UDN_IP_ADDRESSES", "controller_static_udn_ip_addresses";
    /// Copies by the storage array.
    feature_copy_offload: bool = true, "FEATURE_COPY_OFFLOAD", "feature_copy_offload";
    /// Live migration between clusters.
    feature_ocp_live_migration: bool = true, "FEATURE_OCP_LIVE_MIGRATION", "feature_ocp_live_migration";
    /// VMware's serial numbers for target VMs; OpenShift 4.20 and later.
    feature_vmware_system_serial_number: bool = true, "FEATURE_VMWARE_SYSTEM_SERIAL_NUMBER", "feature_vmware_system_serial_number";
    /// Conversions by Conversion objects.
    feature_use_conversion_cr: bool = true, "FEATURE_USE_CONVERSION_CR", "feature_use_conversion_cr";
    /// Waiting for Windows to restart.
    feature_windows_wait_for_reboot: bool = true, "FEATURE_WINDOWS_WAIT_FOR_REBOOT", "feature_windows_wait_for_reboot";
    /// Network configuration through the Windows registry.
    feature_windows_registry_network_config: bool = false, "FEATURE_WINDOWS_REGISTRY_NETWORK_CONFIG", "feature_windows_registry_network_config";
    /// Removal of VMware's drivers.
    feature_vsphere_vmware_driver_removal: bool = false, "FEATURE_VSPHERE_VMWARE_DRIVER_REMOVAL", "feature_vsphere_vmware_driver_removal";
    /// Going on when an XFS repair fails.
    feature_xfs_repair_ignore: bool = false, "FEATURE_XFS_REPAIR_IGNORE", "feature_xfs_repair_ignore";
    /// Keeping the pods of populators.
    feature_retain_populator_pods: bool = false, "FEATURE_RETAIN_POPULATOR_PODS", "controller_retain_populator_pods";
    /// Keeping the pods of precopies.
    feature_retain_precopy_importer_pods: bool = false, "FEATURE_RETAIN_PRECOPY_IMPORTER_PODS", "controller_retain_precopy_importer_pods";
    /// Upload of appliances to OVA and Hyper-V providers.
    feature_ovf_appliance_management: bool = true, "FEATURE_OVF_APPLIANCE_MANAGEMENT", "feature_ova_appliance_management";

    // Images
    /// Image with VMware's VDDK.
    vddk_image: String = NONE, "VDDK_IMAGE", "vddk_image";
    /// Image of conversions.
    virt_v2v_image: String = crate::IMAGE, "VIRT_V2V_IMAGE", "virt_v2v_image_fqin";
    /// Image of conversions for old XFS file systems.
    virt_v2v_image_xfs: String = crate::IMAGE, "VIRT_V2V_IMAGE_XFS", "virt_v2v_image_xfs_fqin";
    /// Image of deep inspections.
    deep_inspection_image: String = crate::IMAGE, "DEEP_INSPECTION_IMAGE", "deep_inspection_image_fqin";
    /// Image of deep inspections for old XFS file systems.
    deep_inspection_image_xfs: String = crate::IMAGE, "DEEP_INSPECTION_IMAGE_XFS", "deep_inspection_image_xfs_fqin";
    /// Image of importers: ours, upstream copies with CDI's.
    importer_image: String = crate::IMAGE, "IMPORTER_IMAGE", "-";
    /// Image of OVA servers.
    ova_provider_server_image: String = crate::IMAGE, "OVA_PROVIDER_SERVER_IMAGE", "ova_provider_server_fqin";
    /// Image of Hyper-V servers.
    hyperv_provider_server_image: String = crate::IMAGE, "HYPERV_PROVIDER_SERVER_IMAGE", "hyperv_provider_server_fqin";
    /// Image of the oVirt populator.
    ovirt_populator_image: String = crate::IMAGE, "OVIRT_POPULATOR_IMAGE", "populator_ovirt_image_fqin";
    /// Image of the OpenStack populator.
    openstack_populator_image: String = crate::IMAGE, "OPENSTACK_POPULATOR_IMAGE", "populator_openstack_image_fqin";
    /// Image of the copy offload populator.
    vsphere_copy_offload_populator_image: String = crate::IMAGE, "VSPHERE_COPY_OFFLOAD_POPULATOR_IMAGE", "populator_vsphere_copy_offload_image_fqin";

    // Conversion
    /// More arguments of virt-v2v.
    virt_v2v_extra_args: Arguments = Arguments::default(), "VIRT_V2V_EXTRA_ARGS", "virt_v2v_extra_args";
    /// More arguments of virt-v2v-inspector.
    virt_v2v_inspector_extra_args: Arguments = Arguments::default(), "VIRT_V2V_INSPECTOR_EXTRA_ARGS", "virt_v2v_inspector_extra_args";
    /// Config map with more configuration of virt-v2v.
    virt_v2v_extra_conf_config_map: String = NONE, "VIRT_V2V_EXTRA_CONF_CONFIG_MAP", "virt_v2v_extra_conf_config_map";
    /// Mebibytes of memory of virt-v2v's appliance; 0 for its own default.
    virt_v2v_memsize: u64 = 0u64, "VIRT_V2V_MEMSIZE", "virt_v2v_memsize";
    /// Processors of virt-v2v's appliance; 0 for its own default.
    virt_v2v_smp: u64 = 0u64, "VIRT_V2V_SMP", "virt_v2v_smp";
    /// Conversions do without KVM.
    virt_v2v_dont_request_kvm: bool = false, "VIRT_V2V_DONT_REQUEST_KVM", "virt_v2v_dont_request_kvm";

    // Resources
    /// Processors that a conversion may use.
    virt_v2v_limits_cpu: String = "4000m", "VIRT_V2V_CONTAINER_LIMITS_CPU", "virt_v2v_container_limits_cpu";
    /// Memory that a conversion may use.
    virt_v2v_limits_memory: String = "8Gi", "VIRT_V2V_CONTAINER_LIMITS_MEMORY", "virt_v2v_container_limits_memory";
    /// Processors that a conversion asks for.
    virt_v2v_requests_cpu: String = "1000m", "VIRT_V2V_CONTAINER_REQUESTS_CPU", "virt_v2v_container_requests_cpu";
    /// Memory that a conversion asks for.
    virt_v2v_requests_memory: String = "1Gi", "VIRT_V2V_CONTAINER_REQUESTS_MEMORY", "virt_v2v_container_requests_memory";
    /// Processors that a hook may use.
    hooks_limits_cpu: String = "1000m", "HOOKS_CONTAINER_LIMITS_CPU", "hooks_container_limits_cpu";
    /// Memory that a hook may use.
    hooks_limits_memory: String = "1Gi", "HOOKS_CONTAINER_LIMITS_MEMORY", "hooks_container_limits_memory";
    /// Processors that a hook asks for.
    hooks_requests_cpu: String = "100m", "HOOKS_CONTAINER_REQUESTS_CPU", "hooks_container_requests_cpu";
    /// Memory that a hook asks for.
    hooks_requests_memory: String = "150Mi", "HOOKS_CONTAINER_REQUESTS_MEMORY", "hooks_container_requests_memory";
    /// Processors that an OVA server may use.
    ova_limits_cpu: String = "1000m", "OVA_CONTAINER_LIMITS_CPU", "ova_container_limits_cpu";
    /// Memory that an OVA server may use.
    ova_limits_memory: String = "1Gi", "OVA_CONTAINER_LIMITS_MEMORY", "ova_container_limits_memory";
    /// Processors that an OVA server asks for.
    ova_requests_cpu: String = "100m", "OVA_CONTAINER_REQUESTS_CPU", "ova_container_requests_cpu";
    /// Memory that an OVA server asks for.
    ova_requests_memory: String = "512Mi", "OVA_CONTAINER_REQUESTS_MEMORY", "ova_container_requests_memory";
    /// Processors that a Hyper-V server may use.
    hyperv_limits_cpu: String = "1000m", "HYPERV_CONTAINER_LIMITS_CPU", "hyperv_container_limits_cpu";
    /// Memory that a Hyper-V server may use.
    hyperv_limits_memory: String = "1Gi", "HYPERV_CONTAINER_LIMITS_MEMORY", "hyperv_container_limits_memory";
    /// Processors that a Hyper-V server asks for.
    hyperv_requests_cpu: String = "100m", "HYPERV_CONTAINER_REQUESTS_CPU", "hyperv_container_requests_cpu";
    /// Memory that a Hyper-V server asks for.
    hyperv_requests_memory: String = "512Mi", "HYPERV_CONTAINER_REQUESTS_MEMORY", "hyperv_container_requests_memory";
    /// Processors that a populator may use.
    populator_limits_cpu: String = "1000m", "POPULATOR_CONTAINER_LIMITS_CPU", "populator_container_limits_cpu";
    /// Memory that a populator may use.
    populator_limits_memory: String = "1Gi", "POPULATOR_CONTAINER_LIMITS_MEMORY", "populator_container_limits_memory";
    /// Processors that a populator asks for.
    populator_requests_cpu: String = "100m", "POPULATOR_CONTAINER_REQUESTS_CPU", "populator_container_requests_cpu";
    /// Memory that a populator asks for.
    populator_requests_memory: String = "512Mi", "POPULATOR_CONTAINER_REQUESTS_MEMORY", "populator_container_requests_memory";

    /// Processors that NetApp Shift's step for file rights may use.
    netapp_shift_limits_cpu: String = "200m", "NETAPP_SHIFT_DISK_PERMS_INIT_LIMITS_CPU", "-";
    /// Memory that NetApp Shift's step for file rights may use.
    netapp_shift_limits_memory: String = "64Mi", "NETAPP_SHIFT_DISK_PERMS_INIT_LIMITS_MEMORY", "-";
    /// Processors that NetApp Shift's step for file rights asks for.
    netapp_shift_requests_cpu: String = "10m", "NETAPP_SHIFT_DISK_PERMS_INIT_REQUESTS_CPU", "-";
    /// Memory that NetApp Shift's step for file rights asks for.
    netapp_shift_requests_memory: String = "32Mi", "NETAPP_SHIFT_DISK_PERMS_INIT_REQUESTS_MEMORY", "-";

    // Ansible Automation Platform
    /// Where the platform is.
    aap_url: String = NONE, "AAP_URL", "aap_url";
    /// Secret with the platform's token.
    aap_token_secret_name: String = NONE, "AAP_TOKEN_SECRET_NAME", "aap_token_secret_name";
    /// Seconds that a job may take; 0 for the hook's own deadline.
    aap_timeout: u64 = 0u64, "AAP_TIMEOUT", "aap_timeout";
    /// Whether the platform's certificate is not checked.
    aap_insecure_skip_verify: bool = false, "AAP_INSECURE_SKIP_VERIFY", "aap_insecure_skip_verify";
    /// Secret with the certificate of the platform's authority.
    aap_ca_secret_name: String = NONE, "AAP_CA_SECRET_NAME", "aap_ca_secret_name";

    // Config maps
    /// From oVirt's systems to templates.
    ovirt_osmap: String = "forklift-ovirt-osmap", "OVIRT_OS_MAP", "ovirt_osmap_configmap_name";
    /// From vSphere's systems to templates.
    vsphere_osmap: String = "forklift-vsphere-osmap", "VSPHERE_OS_MAP", "vsphere_osmap_configmap_name";
    /// Scripts for virt-customize.
    virt_customize_map: String = "forklift-virt-customize", "VIRT_CUSTOMIZE_MAP", "virt_customize_configmap_name";
    /// From disk identifiers to storage vendors.
    naa_oui_map: String = "forklift-naa-oui-map", "NAA_OUI_MAP", "naa_oui_map_configmap_name";

    // Inventory, validation, processes
    /// Whether the inventory asks who is asking.
    auth_required: bool = true, "AUTH_REQUIRED", "feature_auth_required";
    /// Port of the inventory.
    api_port: u64 = 8443u64, "API_PORT", "-";
    /// Host name of the inventory's service.
    api_host: String = NONE, "API_HOST", "-";
    /// `https`, or `http` for development.
    inventory_scheme: String = "https", "INVENTORY_SERVICE_SCHEME", "-";
    /// Certificate of the inventory.
    api_tls_certificate: String = NONE, "API_TLS_CERTIFICATE", "-";
    /// Key of the inventory's certificate.
    api_tls_key: String = NONE, "API_TLS_KEY", "-";
    /// Authority of the inventory's certificate.
    api_tls_ca: String = NONE, "API_TLS_CA", "-";
    /// Patterns of origins that browsers may ask from.
    cors_allowed_origins: Arguments = Arguments::default(), "CORS_ALLOWED_ORIGINS", "-";
    /// Folder for what the inventory keeps.
    working_dir: String = NONE, "WORKING_DIR", "-";
    /// Address of the validation service; unset for the one in the process.
    policy_agent_url: String = NONE, "POLICY_AGENT_URL", "-";
    /// Authority of the validation service's certificate.
    policy_agent_ca: String = NONE, "POLICY_AGENT_CA", "-";
    /// VMs that are validated at a time.
    policy_agent_worker_limit: Positive = 10u64, "POLICY_AGENT_WORKER_LIMIT", "-";
    /// Seconds between looks for VMs to validate.
    policy_agent_search_interval: Positive = 120u64, "POLICY_AGENT_SEARCH_INTERVAL", "validation_policy_agent_search_interval";
    /// vSphere: tags that are fetched at a time.
    vsphere_tag_fetch_concurrency: Positive = 10u64, "VSPHERE_TAG_FETCH_CONCURRENCY", "-";
    /// EC2: seconds between looks at the inventory.
    ec2_inventory_interval: Positive = 10u64, "EC2_INVENTORY_INTERVAL_SECONDS", "-";
    /// EC2: seconds between looks of the controller.
    ec2_controller_interval: Positive = 15u64, "EC2_CONTROLLER_INTERVAL_SECONDS", "-";
    /// OVA server and proxy: seconds that answers are kept.
    cache_ttl: Positive = 10u64, "CACHE_TTL", "-";
    /// OVA server and proxy: seconds that a token's check is kept.
    token_cache_ttl: Positive = 10u64, "TOKEN_CACHE_TTL", "-";
    /// Hyper-V: time between looks at the inventory.
    hyperv_refresh_interval: String = "10s", "HYPERV_REFRESH_INTERVAL", "controller_hyperv_refresh_interval";
    /// Hyper-V: time that a connection test may take.
    hyperv_validation_timeout: String = "30s", "HYPERV_VALIDATION_TIMEOUT", "controller_hyperv_validation_timeout";
    /// The namespace that the controller lives in.
    pod_namespace: String = crate::DEFAULT_NAMESPACE, "POD_NAMESPACE", "-";
    /// Port of the metrics.
    metrics_port: u64 = 8080u64, "METRICS_PORT", "-";
    /// How much is logged.
    log_level: u64 = 3u64, "LOG_LEVEL", "controller_log_level";
    /// Which parts run in this process: `main`, `inventory`, or both with a comma.
    role: String = "main,inventory", "ROLE", "-";
    /// Whether the cluster is OpenShift.
    openshift: bool = false, "OPENSHIFT", "-";
    /// OpenShift's version.
    openshift_version: String = NONE, "OPENSHIFT_VERSION", "-";
    /// Relaxes what a developer's machine cannot offer.
    development: bool = false, "DEVELOPMENT", "-";
}

impl Settings {
    /// Reads the settings from the process's environment.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::read(|name| std::env::var(name).ok())
    }
}
