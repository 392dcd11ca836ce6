//! ForkliftController: the settings of an installation, under upstream's keys.
//!
//! One line a key: its kind and its default. Switches are texts, `"true"` or `"false"`, because the first operator
//! was written in Ansible.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::wire::unset;

macro_rules! rust_type {
    (number) => { Option<i32> };
    ($other:ident) => { Option<String> };
}

macro_rules! field_schema {
    (switch $($default:expr)?) => { serde_json::json!({
        "type": "string", "enum": ["true", "false"] $(, "default": $default)?
    }) };
    (quantity $($default:expr)?) => { serde_json::json!({
        "type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$" $(, "default": $default)?
    }) };
    (duration $($default:expr)?) => { serde_json::json!({
        "type": "string", "pattern": "^[0-9]+(s|m|h)$" $(, "default": $default)?
    }) };
    (template) => { serde_json::json!({ "type": "string", "pattern": r"^([^{}\\]|\\.)*$" }) };
    (text $($default:expr)?) => { serde_json::json!({ "type": "string" $(, "default": $default)? }) };
    (number($minimum:literal) $($default:expr)?) => { serde_json::json!({
        "type": "integer", "format": "int32", "minimum": $minimum $(, "default": $default)?
    }) };
    (choice($($value:literal),+) $($default:expr)?) => { serde_json::json!({
        "type": "string", "enum": [$($value),+] $(, "default": $default)?
    }) };
}

macro_rules! controller_spec {
    ($($(#[doc = $doc:literal])+ $field:ident: $kind:ident $(($($argument:literal),+))? $(= $default:literal)?;)+) => {
        /// The settings of an installation. What is not said has its default.
        #[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[kube(
            group = "forklift.konveyor.io",
            version = "v1beta1",
            kind = "ForkliftController",
            namespaced,
            status = "ForkliftControllerStatus",
            derive = "PartialEq",
            doc = "The settings of an installation of Forklift."
        )]
        pub struct ForkliftControllerSpec {
            $($(#[doc = $doc])+ #[serde(default, skip_serializing_if = "unset")] pub $field: rust_type!($kind),)+
        }

        impl JsonSchema for ForkliftControllerSpec {
            fn schema_name() -> std::borrow::Cow<'static, str> { "ForkliftControllerSpec".into() }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let mut properties = serde_json::Map::new();
                $({
                    let mut property = field_schema!($kind $(($($argument),+))? $($default)?);
                    property["description"] = Value::from(concat!($($doc),+).trim());
                    properties.insert(stringify!($field).to_owned(), property);
                })+
                schemars::json_schema!({
                    "type": "object",
                    "description": "The settings of an installation. What is not said has its default.",
                    "properties": properties
                })
            }
        }
    };
}

controller_spec! {
    /// Secret with the certificate of the platform's authority, under the key `ca.crt`.
    aap_ca_secret_name: text;
    /// Whether the platform's certificate is not checked.
    aap_insecure_skip_verify: switch = "false";
    /// Seconds that a call to the platform, or a job of it, may take.
    aap_timeout: number(1);
    /// Secret with the platform's token, under the key `token`.
    aap_token_secret_name: text;
    /// Where the Ansible Automation Platform is; counts together with `aap_token_secret_name`.
    aap_url: text;
    /// Processors that the admission and services process may use.
    api_container_limits_cpu: quantity = "1000m";
    /// Memory that the admission and services process may use.
    api_container_limits_memory: quantity = "1Gi";
    /// Processors that the admission and services process asks for.
    api_container_requests_cpu: quantity = "100m";
    /// Memory that the admission and services process asks for.
    api_container_requests_memory: quantity = "150Mi";
    /// Image of the admission and services process; the release's when it is not said.
    api_image_fqin: text;
    /// Processors that the download page of the command line may use.
    cli_download_container_limits_cpu: quantity = "1000m";
    /// Memory that the download page of the command line may use.
    cli_download_container_limits_memory: quantity = "1Gi";
    /// Processors that the download page of the command line asks for.
    cli_download_container_requests_cpu: quantity = "100m";
    /// Memory that the download page of the command line asks for.
    cli_download_container_requests_memory: quantity = "512Mi";
    /// Image of the download page; the release's when it is not said.
    cli_download_image_fqin: text;
    /// Bytes that a block volume is larger than its disk.
    controller_block_overhead: number(0) = 0;
    /// Minutes that a running plan may be blocked before it fails.
    controller_blocker_grace_period_minutes: number(1) = 5;
    /// How often a clean-up is tried.
    controller_cleanup_retries: number(1) = 10;
    /// Processors that the controller may use.
    controller_container_limits_cpu: quantity = "2";
    /// Memory that the controller may use.
    controller_container_limits_memory: quantity = "800Mi";
    /// Processors that the controller asks for.
    controller_container_requests_cpu: quantity = "100m";
    /// Memory that the controller asks for.
    controller_container_requests_memory: quantity = "350Mi";
    /// Per cent that a file system needs for itself.
    controller_filesystem_overhead: number(0) = 10;
    /// Seconds that a lease on an ESXi host lasts.
    controller_host_lease_duration_seconds: number(1) = 10;
    /// Namespace of the leases on ESXi hosts.
    controller_host_lease_namespace: text = "openshift-mtv";
    /// Hyper-V: time between looks at the inventory.
    controller_hyperv_refresh_interval: duration = "10s";
    /// Hyper-V: time that a check of a share may take.
    controller_hyperv_validation_timeout: duration = "30s";
    /// Image of the controller; the release's when it is not said.
    controller_image_fqin: text;
    /// How much is logged.
    controller_log_level: number(0) = 3;
    /// Objects of a kind that are reconciled at a time.
    controller_max_concurrent_reconciles: number(1) = 10;
    /// How often the parent of a backing file is looked for.
    controller_max_parent_backing_retries: number(1) = 10;
    /// Populators at a time, per ESXi host.
    controller_max_populator_inflight: number(1) = 20;
    /// Bytes a second that all copies may read together; none for no limit.
    controller_bandwidth_limit: quantity;
    /// Bytes a second that the copies from one ESXi host may read together, where its provider says nothing.
    controller_host_bandwidth_limit: quantity;
    /// Bytes a second that the copies from one datastore may read together, where its provider says nothing.
    controller_datastore_bandwidth_limit: quantity;
    /// VMs that are copied at a time, per provider or host.
    controller_max_vm_inflight: number(1) = 20;
    /// Service account of migration pods, where the plan names none.
    controller_migration_service_account: text;
    /// Go template for names of volumes from an OpenShift source, where the plan has none.
    controller_ocp_pvc_name_template: template;
    /// Warm migration from oVirt.
    controller_ovirt_warm_migration: switch = "true";
    /// Minutes between copies of a warm migration.
    controller_precopy_interval: number(1) = 60;
    /// Go template for names of volumes from other sources, where the plan has none.
    controller_pvc_name_template: template;
    /// Keep the pods of populators.
    controller_retain_populator_pods: switch = "false";
    /// Keep the pods of precopies.
    controller_retain_precopy_importer_pods: switch = "false";
    /// How often a snapshot's removal is looked at.
    controller_snapshot_removal_check_retries: number(1) = 20;
    /// Minutes that the removal of a snapshot may take (spelt so since its beginning).
    controller_snapshot_removal_timeout_minuts: number(1) = 120;
    /// Seconds between looks at a snapshot.
    controller_snapshot_status_check_rate_seconds: number(1) = 10;
    /// Static addresses on user-defined networks.
    controller_static_udn_ip_addresses: switch = "true";
    /// Seconds to wait for a TLS connection.
    controller_tls_connection_timeout_sec: number(1) = 5;
    /// Network attachment definition of the controller's pod, as `namespace/name`.
    controller_transfer_network: text;
    /// Seconds that the check of a VDDK image may take.
    controller_vddk_job_active_deadline_sec: number(1) = 300;
    /// Incremental copies from vSphere.
    controller_vsphere_incremental_backup: switch = "true";
    /// Seconds to wait for Windows to restart.
    controller_windows_reboot_timeout: number(1) = 1800;
    /// Image of deep inspections; the release's when it is not said.
    deep_inspection_image_fqin: text;
    /// Image of deep inspections for old XFS file systems; the release's when it is not said.
    deep_inspection_image_xfs_fqin: text;
    /// Whether the inventory asks who is asking.
    feature_auth_required: switch = "true";
    /// Offer the command line for download.
    feature_cli_download: switch = "true";
    /// Copies by the storage array.
    feature_copy_offload: switch = "true";
    /// Run the MCP server.
    feature_mcp_server: switch = "false";
    /// Live migration between clusters.
    feature_ocp_live_migration: switch = "true";
    /// Upload of appliances.
    feature_ova_appliance_management: switch = "true";
    /// Run the console plug-in.
    feature_ui_plugin: switch = "true";
    /// Conversions by Conversion objects.
    feature_use_conversion_cr: switch = "true";
    /// Run the validation service.
    feature_validation: switch = "true";
    /// VMware's serial numbers for target VMs.
    feature_vmware_system_serial_number: switch = "true";
    /// Run the populators' controller.
    feature_volume_populator: switch = "true";
    /// Remove VMware's drivers from Windows.
    feature_vsphere_vmware_driver_removal: switch = "false";
    /// Configure Windows' network through its registry.
    feature_windows_registry_network_config: switch = "false";
    /// Wait for Windows to restart.
    feature_windows_wait_for_reboot: switch = "true";
    /// Go on when an XFS repair fails.
    feature_xfs_repair_ignore: switch = "false";
    /// Processors that the hook may use.
    hooks_container_limits_cpu: quantity = "1000m";
    /// Memory that the hook may use.
    hooks_container_limits_memory: quantity = "1Gi";
    /// Processors that the hook asks for.
    hooks_container_requests_cpu: quantity = "100m";
    /// Memory that the hook asks for.
    hooks_container_requests_memory: quantity = "150Mi";
    /// Processors that the Hyper-V server may use.
    hyperv_container_limits_cpu: quantity = "1000m";
    /// Memory that the Hyper-V server may use.
    hyperv_container_limits_memory: quantity = "1Gi";
    /// Processors that the Hyper-V server asks for.
    hyperv_container_requests_cpu: quantity = "100m";
    /// Memory that the Hyper-V server asks for.
    hyperv_container_requests_memory: quantity = "512Mi";
    /// Image of Hyper-V servers; the release's when it is not said.
    hyperv_provider_server_fqin: text;
    /// When images are fetched.
    image_pull_policy: choice("Always", "IfNotPresent", "Never") = "Always";
    /// Processors that the inventory may use.
    inventory_container_limits_cpu: quantity = "2";
    /// Memory that the inventory may use.
    inventory_container_limits_memory: quantity = "1Gi";
    /// Processors that the inventory asks for.
    inventory_container_requests_cpu: quantity = "500m";
    /// Memory that the inventory asks for.
    inventory_container_requests_memory: quantity = "500Mi";
    /// Time that a request to the inventory may take.
    inventory_route_timeout: duration = "360s";
    /// Whether the cluster is not OpenShift.
    k8s_cluster: switch = "false";
    /// Processors that the MCP server may use.
    mcp_server_container_limits_cpu: quantity = "1000m";
    /// Memory that the MCP server may use.
    mcp_server_container_limits_memory: quantity = "512Mi";
    /// Processors that the MCP server asks for.
    mcp_server_container_requests_cpu: quantity = "100m";
    /// Memory that the MCP server asks for.
    mcp_server_container_requests_memory: quantity = "256Mi";
    /// MCP server: do not check the cluster's certificate.
    mcp_server_kube_insecure: switch = "true";
    /// MCP server: announce it to OpenShift Lightspeed.
    mcp_server_lightspeed_integration: switch = "true";
    /// MCP server: turn on Lightspeed's feature gate.
    mcp_server_lightspeed_set_mcp_gate: switch = "false";
    /// MCP server: longest answer in characters, 0 for any.
    mcp_server_max_response_chars: number(0) = 0;
    /// MCP server: form of its answers.
    mcp_server_output_format: choice("markdown", "text", "json") = "markdown";
    /// MCP server: change nothing.
    mcp_server_read_only: switch = "false";
    /// MCP server: how much is logged.
    mcp_server_verbose: number(0) = 2;
    /// Time between looks at the metrics.
    metric_interval: duration = "30s";
    /// Image of must-gather; the release's when it is not said.
    must_gather_image_fqin: text;
    /// Config map from disk identifiers to storage vendors.
    naa_oui_map_configmap_name: text = "forklift-naa-oui-map";
    /// Processors that the OVA server may use.
    ova_container_limits_cpu: quantity = "1000m";
    /// Memory that the OVA server may use.
    ova_container_limits_memory: quantity = "1Gi";
    /// Processors that the OVA server asks for.
    ova_container_requests_cpu: quantity = "100m";
    /// Memory that the OVA server asks for.
    ova_container_requests_memory: quantity = "512Mi";
    /// Image of OVA servers; the release's when it is not said.
    ova_provider_server_fqin: text;
    /// Processors that the OVA proxy may use.
    ova_proxy_container_limits_cpu: quantity = "1000m";
    /// Memory that the OVA proxy may use.
    ova_proxy_container_limits_memory: quantity = "1Gi";
    /// Processors that the OVA proxy asks for.
    ova_proxy_container_requests_cpu: quantity = "250m";
    /// Memory that the OVA proxy asks for.
    ova_proxy_container_requests_memory: quantity = "512Mi";
    /// Image of the OVA proxy; the release's when it is not said.
    ova_proxy_fqin: text;
    /// Time that a request to the OVA proxy may take.
    ova_proxy_route_timeout: duration = "360s";
    /// Config map from oVirt's systems to templates.
    ovirt_osmap_configmap_name: text = "forklift-ovirt-osmap";
    /// Processors that the populator may use.
    populator_container_limits_cpu: quantity = "1000m";
    /// Memory that the populator may use.
    populator_container_limits_memory: quantity = "1Gi";
    /// Processors that the populator asks for.
    populator_container_requests_cpu: quantity = "100m";
    /// Memory that the populator asks for.
    populator_container_requests_memory: quantity = "512Mi";
    /// Image of the populators' controller; the release's when it is not said.
    populator_controller_image_fqin: text;
    /// Image of the OpenStack populator; the release's when it is not said.
    populator_openstack_image_fqin: text;
    /// Image of the oVirt populator; the release's when it is not said.
    populator_ovirt_image_fqin: text;
    /// Image of the copy offload populator; the release's when it is not said.
    populator_vsphere_copy_offload_image_fqin: text;
    /// Processors that the console plug-in may use.
    ui_plugin_container_limits_cpu: quantity = "100m";
    /// Memory that the console plug-in may use.
    ui_plugin_container_limits_memory: quantity = "800Mi";
    /// Processors that the console plug-in asks for.
    ui_plugin_container_requests_cpu: quantity = "100m";
    /// Memory that the console plug-in asks for.
    ui_plugin_container_requests_memory: quantity = "150Mi";
    /// Image of the console plug-in; the release's when it is not said.
    ui_plugin_image_fqin: text;
    /// Processors that the validation service may use.
    validation_container_limits_cpu: quantity = "1000m";
    /// Memory that the validation service may use.
    validation_container_limits_memory: quantity = "300Mi";
    /// Processors that the validation service asks for.
    validation_container_requests_cpu: quantity = "400m";
    /// Memory that the validation service asks for.
    validation_container_requests_memory: quantity = "50Mi";
    /// Folder of the validation service for more rules.
    validation_extra_volume_mountpath: text = "/usr/share/opa/policies/extra";
    /// Config map with more rules.
    validation_extra_volume_name: text = "validation-extra-rules";
    /// Image of the validation service; the release's when it is not said.
    validation_image_fqin: text;
    /// Seconds between looks for VMs to validate.
    validation_policy_agent_search_interval: number(1) = 120;
    /// Image with VMware's VDDK.
    vddk_image: text;
    /// Config map with scripts for virt-customize.
    virt_customize_configmap_name: text = "forklift-virt-customize";
    /// Processors that the conversion may use.
    virt_v2v_container_limits_cpu: quantity = "4000m";
    /// Memory that the conversion may use.
    virt_v2v_container_limits_memory: quantity = "8Gi";
    /// Processors that the conversion asks for.
    virt_v2v_container_requests_cpu: quantity = "1000m";
    /// Memory that the conversion asks for.
    virt_v2v_container_requests_memory: quantity = "1Gi";
    /// Conversions do without KVM.
    virt_v2v_dont_request_kvm: switch;
    /// More arguments of virt-v2v.
    virt_v2v_extra_args: text;
    /// Config map with more configuration of virt-v2v.
    virt_v2v_extra_conf_config_map: text;
    /// Image of conversions; the release's when it is not said.
    virt_v2v_image_fqin: text;
    /// Image of conversions for old XFS file systems; the release's when it is not said.
    virt_v2v_image_xfs_fqin: text;
    /// More arguments of virt-v2v-inspector.
    virt_v2v_inspector_extra_args: text;
    /// Mebibytes of memory of virt-v2v's appliance.
    virt_v2v_memsize: number(1);
    /// Processors of virt-v2v's appliance.
    virt_v2v_smp: number(1);
    /// Config map from vSphere's systems to templates.
    vsphere_osmap_configmap_name: text = "forklift-vsphere-osmap";
    /// Wait until the source's disks are consolidated.
    wait_for_final_snapshot_consolidation: switch = "true";
}

/// What the operator says of its work; it may say anything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct ForkliftControllerStatus {
    /// Fields, whatever they are.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

impl ForkliftControllerSpec {
    /// Returns the settings that are said, under their keys.
    pub fn values(&self) -> BTreeMap<String, String> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields.into_iter().map(|(key, value)| (key, text(value))).collect(),
            _ => BTreeMap::new(),
        }
    }
}
