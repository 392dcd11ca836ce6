//! CDI: volumes that fill themselves, and what is known of storage classes.

use k8s_openapi::api::core::v1::VolumeResourceRequirements;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Other;
use crate::kubevirt::{Condition, Empty};
use crate::resource::{part, resource};

resource! {
    /// A volume that fills itself.
    DataVolume { spec: DataVolumeSpec, status: DataVolumeStatus }
    NamespaceResourceScope "cdi.kubevirt.io" "v1beta1" "datavolumes"
}

resource! {
    /// What CDI knows of a storage class.
    StorageProfile { spec: StorageProfileSpec, status: StorageProfileStatus }
    ClusterResourceScope "cdi.kubevirt.io" "v1beta1" "storageprofiles"
}

part! {
    /// What a volume is filled with, and what it is like.
    DataVolumeSpec {
        /// What it is filled with.
        source: Option<DataVolumeSource>,
        /// What it is like; the storage profile fills in what is not said.
        storage: Option<StorageSpec>,
        /// What it is like, exactly.
        pvc: Option<StorageSpec>,
        /// The snapshots of a warm migration.
        checkpoints: Vec<Checkpoint>,
        /// Whether the last of them is the last at all.
        final_checkpoint: Option<bool>,
        /// Whether space is reserved.
        preallocation: Option<bool>,
        /// `kubevirt` or `archive`.
        content_type: Option<String>,
        /// How important the importer's pod is.
        priority_class_name: Option<String>,
    }
}

part! {
    /// What a volume is filled with.
    DataVolumeSource {
        /// Nothing.
        blank: Option<Empty>,
        /// What an HTTP server gives.
        http: Option<HttpSource>,
        /// A vSphere disk.
        vddk: Option<VddkSource>,
        /// An oVirt disk.
        imageio: Option<Value>,
        /// Another volume.
        pvc: Option<PvcSource>,
        /// What somebody uploads.
        upload: Option<Empty>,
        /// An image of a registry.
        registry: Option<Value>,
    }
}

part! {
    /// An HTTP server.
    HttpSource {
        /// The address.
        url: String,
        /// Secret with user and password.
        secret_ref: Option<String>,
        /// Config map with the authority's certificate.
        cert_config_map: Option<String>,
        /// Headers.
        extra_headers: Vec<String>,
        /// Secrets with headers.
        secret_extra_headers: Vec<String>,
    }
}

part! {
    /// A vSphere disk.
    VddkSource {
        /// The server.
        url: Option<String>,
        /// The VM's UUID.
        uuid: Option<String>,
        /// The disk's file.
        backing_file: Option<String>,
        /// The server's thumbprint.
        thumbprint: Option<String>,
        /// Secret with user and password.
        secret_ref: Option<String>,
        /// Image with VDDK.
        init_image_url as "initImageURL": Option<String>,
        /// Config map with arguments.
        extra_args: Option<String>,
    }
}

part! {
    /// Another volume.
    PvcSource {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    }
}

part! {
    /// What a volume is like.
    StorageSpec {
        /// Who may use it.
        access_modes: Vec<String>,
        /// `Filesystem` or `Block`.
        volume_mode: Option<String>,
        /// How large it is.
        resources: Option<VolumeResourceRequirements>,
        /// Its class.
        storage_class_name: Option<String>,
        /// The volume that it is.
        volume_name: Option<String>,
        /// What fills it.
        data_source_ref: Option<Value>,
    }
}

/// A snapshot of a warm migration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where the copy starts; empty for the whole disk, and CDI requires it even then.
    pub previous: String,
    /// Where it ends.
    pub current: String,
    /// Fields that we do not know.
    #[serde(flatten)]
    pub other: Other,
}

impl Checkpoint {
    /// Returns a copy from one snapshot to the next.
    pub fn new(previous: impl Into<String>, current: impl Into<String>) -> Self {
        Self { previous: previous.into(), current: current.into(), ..Self::default() }
    }
}

part! {
    /// How far a volume is.
    DataVolumeStatus {
        /// Where it stands.
        phase: Option<String>,
        /// Per cent, or `N/A`.
        progress: Option<String>,
        /// How often the importer was started again.
        restart_count: Option<i32>,
        /// The claim.
        claim_name: Option<String>,
        /// What was found.
        conditions: Vec<Condition>,
    }
}

part! {
    /// What people said of a storage class.
    StorageProfileSpec {
        /// What volumes of the class can be, best first.
        claim_property_sets: Vec<ClaimPropertySet>,
    }
}

part! {
    /// What is known of a storage class.
    StorageProfileStatus {
        /// The class.
        storage_class: Option<String>,
        /// Who makes its volumes.
        provisioner: Option<String>,
        /// What volumes of the class can be, best first.
        claim_property_sets: Vec<ClaimPropertySet>,
    }
}

part! {
    /// A way that volumes of a class can be.
    ClaimPropertySet {
        /// Who may use them.
        access_modes: Vec<String>,
        /// `Filesystem` or `Block`.
        volume_mode: Option<String>,
    }
}
