//! NetworkAttachmentDefinition: a network beside the pod network.

use crate::resource::{part, resource};

resource! {
    /// A network beside the pod network.
    NetworkAttachmentDefinition { spec: NetworkAttachmentDefinitionSpec, status: NoStatus }
    NamespaceResourceScope "k8s.cni.cncf.io" "v1" "network-attachment-definitions"
}

part! {
    /// How the network is made.
    NetworkAttachmentDefinitionSpec {
        /// The CNI's configuration, as JSON text.
        config: Option<String>,
    }
}

part! {
    /// The kind has no status.
    NoStatus {}
}
