//! Provider: a source of VMs, or a cluster that takes them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::condition::Conditions;
use crate::wire::{UnknownValue, unset, wire_enum};

wire_enum! {
    /// Kinds of providers.
    ProviderType, "provider type", {
        /// A cluster with KubeVirt.
        OpenShift => "openshift",
        /// VMware vCenter or an ESXi host.
        VSphere => "vsphere",
        /// oVirt or Red Hat Virtualization.
        OVirt => "ovirt",
        /// OpenStack.
        OpenStack => "openstack",
        /// A folder of OVA and OVF appliances.
        Ova => "ova",
        /// Amazon EC2.
        Ec2 => "ec2",
        /// Microsoft Hyper-V.
        HyperV => "hyperv",
        /// Nutanix.
        Nutanix => "nutanix",
    }
}

/// Keys of `spec.settings`.
pub mod setting {
    /// Ours: bytes a second that the copy of each disk may read.
    pub const BANDWIDTH_LIMIT: &str = "bandwidthLimit";
    /// Ours, vSphere: bytes a second that the copies from each ESXi host may read together (`200Mi`).
    pub const HOST_BANDWIDTH_LIMIT: &str = "hostBandwidthLimit";
    /// Ours, vSphere: bytes a second that the copies from each datastore may read together (`200Mi`).
    pub const DATASTORE_BANDWIDTH_LIMIT: &str = "datastoreBandwidthLimit";
    /// Image with VMware's VDDK.
    pub const VDDK_INIT_IMAGE: &str = "vddkInitImage";
    /// Ours, vSphere: how disks are read, `nfc`, `ranges` or `vddk`; found out where it is not set.
    pub const TRANSFER_METHOD: &str = "transferMethod";
    /// Ours, vSphere: time (`90s`, `10m`, `1h`) after which the power of a VM is cut whose guest does not shut down,
    /// and at once where it has no VMware Tools. Without it no VM's power is ever cut.
    pub const HARD_POWER_OFF_AFTER: &str = "hardPowerOffAfter";
    /// What the URL speaks: [`VCENTER`] or [`ESXI`].
    pub const SDK_ENDPOINT: &str = "sdkEndpoint";
    /// The URL is a vCenter's.
    pub const VCENTER: &str = "vcenter";
    /// The URL is an ESXi host's.
    pub const ESXI: &str = "esxi";
    /// Whether VDDK reads asynchronously with larger buffers ([`crate::vddk::AIO`]).
    pub const USE_VDDK_AIO_OPTIMIZATION: &str = "useVddkAioOptimization";
    /// The text of VDDK's configuration file.
    pub const VDDK_CONFIG: &str = "vddkConfig";
    /// Ours, vSphere: the ways of VDDK to the bytes in the order in which it tries them (`san:nbdssl`); else `nbdssl`.
    pub const VDDK_TRANSPORTS: &str = "vddkTransports";
    /// How disks are cloned on ESXi: [`CLONE_VIB`] or [`CLONE_SSH`].
    pub const ESXI_CLONE_METHOD: &str = "esxiCloneMethod";
    /// Clone by an installed package.
    pub const CLONE_VIB: &str = "vib";
    /// Clone over SSH.
    pub const CLONE_SSH: &str = "ssh";
    /// EC2: zone of the target volumes.
    pub const TARGET_AZ: &str = "target-az";
    /// EC2: region of the target volumes.
    pub const TARGET_REGION: &str = "target-region";
    /// Nutanix: [`PRISM_CENTRAL`] or [`PRISM_ELEMENT`].
    pub const PRISM_TYPE: &str = "prismType";
    /// Nutanix: the URL is Prism Central's.
    pub const PRISM_CENTRAL: &str = "central";
    /// Nutanix: the URL is Prism Element's.
    pub const PRISM_ELEMENT: &str = "element";
    /// Nutanix: the cluster behind Prism Central.
    pub const CLUSTER_UUID: &str = "clusterUuid";
    /// Hyper-V: [`STANDALONE`] or [`CLUSTER`].
    pub const MANAGEMENT_TYPE: &str = "managementType";
    /// Hyper-V: one host.
    pub const STANDALONE: &str = "standalone";
    /// Hyper-V: a failover cluster.
    pub const CLUSTER: &str = "cluster";
    /// OpenShift: clusters are joined by Submariner.
    pub const SUBMARINER: &str = "submariner";
    /// OVA: appliances can be uploaded.
    pub const APPLIANCE_MANAGEMENT: &str = "applianceManagement";
    /// Settings that say how VMs are copied, not what the source has: the inventory stays when they change.
    pub const NOT_INVENTORY: &[&str] = &[
        BANDWIDTH_LIMIT,
        HOST_BANDWIDTH_LIMIT,
        DATASTORE_BANDWIDTH_LIMIT,
        TRANSFER_METHOD,
        HARD_POWER_OFF_AFTER,
        VDDK_INIT_IMAGE,
        USE_VDDK_AIO_OPTIMIZATION,
        VDDK_CONFIG,
        VDDK_TRANSPORTS,
        ESXI_CLONE_METHOD,
        TARGET_AZ,
        TARGET_REGION,
    ];
}

/// Keys of a provider's secret that several types share.
pub mod secret_key {
    /// Whether the server's certificate is not checked.
    pub const INSECURE: &str = "insecureSkipVerify";
    /// A bearer token.
    pub const TOKEN: &str = "token";
    /// The certificate of the server's authority, as upstream writes it now.
    pub const CA: &str = "ca.crt";
    /// The certificate of the server's authority, under its older name.
    pub const CA_CERT: &str = "cacert";
    /// A user's name.
    pub const USER: &str = "user";
    /// A password.
    pub const PASSWORD: &str = "password";
}

wire_enum! {
    /// Where a provider stands.
    ProviderPhase, "provider phase", {
        /// Being looked at.
        Staging => "Staging",
        /// Usable.
        Ready => "Ready",
        /// Out of reach.
        ConnectionFailed => "ConnectionFailed",
        /// Something of its spec is wrong.
        ValidationFailed => "ValidationFailed",
        /// A phase that we do not know.
        Unknown => "Unknown",
    } else Unknown
}

/// What a provider is and how it is reached.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "forklift.konveyor.io",
    version = "v1beta1",
    kind = "Provider",
    namespaced,
    status = "ProviderStatus",
    derive = "PartialEq",
    doc = "A source of virtual machines, or a cluster that takes them.",
    printcolumn(name = "TYPE", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "STATUS", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "READY", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(
        name = "CONNECTED",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='ConnectionTestSucceeded')].status"
    ),
    printcolumn(
        name = "INVENTORY",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='InventoryCreated')].status"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.url"),
    printcolumn(name = "AGE", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// The kind of provider: openshift, vsphere, ovirt, openstack, ova, ec2, hyperv or nutanix.
    #[serde(rename = "type")]
    pub type_: String,
    /// Where it is. Empty only for the `host` provider, the cluster that Forklift runs on.
    #[serde(default, skip_serializing_if = "unset")]
    pub url: String,
    /// The secret with credentials and certificates.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub secret: ObjectReference,
    /// Settings that only some types know.
    #[serde(default, skip_serializing_if = "unset")]
    pub settings: BTreeMap<String, String>,
}

/// What was found out about a provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderStatus {
    /// Where the provider stands: Staging, Ready, ConnectionFailed or ValidationFailed.
    #[serde(default, skip_serializing_if = "unset")]
    pub phase: Option<ProviderPhase>,
    /// What was found.
    #[serde(default, skip_serializing_if = "unset")]
    pub conditions: Conditions,
    /// The generation of the spec that this is about.
    #[serde(default, skip_serializing_if = "unset")]
    pub observed_generation: i64,
    /// The thumbprint of the server's certificate.
    #[serde(default, skip_serializing_if = "unset")]
    pub fingerprint: String,
    /// The service of the provider's server (OVA, Hyper-V).
    #[serde(default, skip_serializing_if = "unset")]
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub service: Option<ObjectReference>,
    /// The version of the secret that was read, to notice new credentials.
    #[serde(default, skip_serializing_if = "unset")]
    pub secret_resource_version: String,
    /// Fields that we do not know.
    #[serde(flatten)]
    #[schemars(skip)]
    pub other: BTreeMap<String, Value>,
}

impl Provider {
    /// Returns the kind of provider.
    pub fn provider_type(&self) -> Result<ProviderType, UnknownValue> {
        self.spec.type_.parse()
    }

    /// Whether this provider is of that type.
    pub fn is(&self, type_: ProviderType) -> bool {
        self.spec.type_ == type_.as_str()
    }

    /// Whether it stands for the cluster that we run on.
    pub fn is_host(&self) -> bool {
        self.is(ProviderType::OpenShift) && self.spec.url.is_empty()
    }

    /// Whether it stands for our cluster but lives outside the controller's namespace, and so has fewer rights.
    pub fn is_restricted_host(&self, controller_namespace: &str) -> bool {
        self.is_host() && self.metadata.namespace.as_deref() != Some(controller_namespace)
    }

    /// Returns a setting that is not empty.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.spec.settings.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the status is about the present spec.
    pub fn has_reconciled(&self) -> bool {
        self.status.as_ref().map_or(0, |status| status.observed_generation) == self.metadata.generation.unwrap_or(0)
    }
}

/// A source and a destination.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderPair {
    /// Where VMs come from.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub source: ObjectReference,
    /// Where they go.
    #[schemars(schema_with = "crate::schema::object_reference")]
    pub destination: ObjectReference,
}
