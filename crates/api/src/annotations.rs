//! Annotations and finalizers: ours, and those of others that we set or read.

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => { $($(#[$doc])* pub const $name: &str = $text;)+ };
}

names! {
    /// On volumes: the task name of the disk that they hold.
    DISK_SOURCE = "forklift.konveyor.io/disk-source";
    /// On volumes: the place of the disk in its VM.
    DISK_INDEX = "forklift.konveyor.io/disk-index";
    /// On objects of a live migration: what they were made from.
    SOURCE = "forklift.konveyor.io/source";
    /// On objects of a live migration: the volume's name.
    VOLUME = "forklift.konveyor.io/volume";
    /// On VMs: metadata that had to be changed for Kubernetes.
    SANITIZED_METADATA = "forklift.konveyor.io/sanitized-metadata";
    /// On OpenStack volumes: the image is not raw.
    REQUIRES_CONVERSION = "forklift.konveyor.io/requires-conversion";
    /// On OpenStack volumes: the format of the image.
    SOURCE_FORMAT = "forklift.konveyor.io/source-format";
    /// On scratch volumes: which volume they serve.
    CONVERSION_SOURCE_PVC = "forklift.konveyor.io/conversionSourcePVC";
    /// On volumes: how they are copied.
    COPY_METHOD = "forklift.konveyor.io/copy-method";
    /// Value of [`COPY_METHOD`].
    COPY_METHOD_CSI_IMPORT = "csi-import";
    /// On volumes: copied by the storage array.
    COPY_OFFLOAD = "copy-offload";
    /// NetApp Shift: the NFS server.
    NFS_SERVER = "forklift.konveyor.io/nfs-server";
    /// NetApp Shift: the export.
    NFS_PATH = "forklift.konveyor.io/nfs-path";
    /// NetApp Shift: the source's id of the VM.
    NETAPP_VM_ID = "forklift.konveyor.io/vm-id";
    /// NetApp Shift: the UUID of the VM.
    NETAPP_VM_UUID = "forklift.konveyor.io/vm-uuid";
    /// NetApp Shift: the volume is Shift's.
    NETAPP_SHIFT = "forklift.konveyor.io/netapp-shift";
    /// On volumes: the service account of their populator.
    POPULATOR_SERVICE_ACCOUNT = "forklift.konveyor.io/serviceAccount";
    /// On plans: volumes of populators carry labels.
    POPULATOR_LABELS = "populatorLabels";
    /// On destination providers: the transfer network of plans that name none.
    DEFAULT_TRANSFER_NETWORK = "forklift.konveyor.io/defaultTransferNetwork";
    /// On transfer networks: the default route, or `none`.
    ROUTE = "forklift.konveyor.io/route";
    /// Value of [`ROUTE`] for no route.
    ROUTE_NONE = "none";
    /// Ours, on plans: `true` removes the snapshots that lost migrations left on the plan's VMs.
    REMOVE_STALE_SNAPSHOTS = "forklift.konveyor.io/remove-stale-snapshots";
    /// On hooks: the name of the job template, for people.
    AAP_JOB_TEMPLATE_NAME = "forklift.konveyor.io/aap-job-template-name";
    /// On VMs: the source's id.
    ORIGINAL_ID = "original-ID";
    /// On VMs and preferences: the name for people.
    DISPLAY_NAME = "openshift.io/display-name";
    /// How often a parent of a backing file was looked for.
    PARENT_BACKING_RETRIES = "parentBackingRetries";

    /// Finalizer of OVA providers.
    OVA_PROVIDER_FINALIZER = "forklift/ova-provider";
    /// Finalizer of Hyper-V providers.
    HYPERV_PROVIDER_FINALIZER = "forklift/hyperv-provider";
    /// Finalizer of the ForkliftController.
    CONTROLLER_FINALIZER = "forklift.konveyor.io/finalizer";

    /// Multus: networks of a pod.
    MULTUS_NETWORKS = "k8s.v1.cni.cncf.io/networks";
    /// Multus: the network that replaces a pod's default network.
    MULTUS_DEFAULT_NETWORK = "v1.multus-cni.io/default-network";
    /// OVN: ports that stay open on a user-defined network.
    OVN_OPEN_DEFAULT_PORTS = "k8s.ovn.org/open-default-ports";
    /// KubeVirt: static addresses of a VM.
    KUBEVIRT_ADDRESSES = "network.kubevirt.io/addresses";
    /// KubeVirt: rules for VMs made of a template.
    KUBEVIRT_VALIDATIONS = "vm.kubevirt.io/validations";
    /// KubeVirt: the run strategy after a live migration.
    KUBEVIRT_RESTORE_RUN_STRATEGY = "kubevirt.io/restore-run-strategy";

    /// CDI: keep the importer's pod.
    CDI_RETAIN_AFTER_COMPLETION = "cdi.kubevirt.io/storage.pod.retainAfterCompletion";
    /// CDI: bind without a first consumer.
    CDI_BIND_IMMEDIATE = "cdi.kubevirt.io/storage.bind.immediate.requested";
    /// CDI: remove the data volume when it is filled.
    CDI_DELETE_AFTER_COMPLETION = "cdi.kubevirt.io/storage.deleteAfterCompletion";
    /// On importers: the config map with their share of the bandwidth.
    IMPORT_LIMIT = "forklift.konveyor.io/import-limit";
    /// On the share of an importer: UID of the provider that it reads from.
    TRANSFER_PROVIDER = "forklift.konveyor.io/transfer-provider";
    /// On the share of an importer: id of the host that it reads from.
    TRANSFER_HOST = "forklift.konveyor.io/transfer-host";
    /// On the share of an importer: the datastore that it reads from.
    TRANSFER_DATASTORE = "forklift.konveyor.io/transfer-datastore";
    /// On the pod of an importer: the share that it was told last; a pod that changes has its files renewed at once.
    TRANSFER_SHARE = "forklift.konveyor.io/transfer-share";
    /// CDI: config map for VDDK.
    CDI_VDDK_EXTRA_ARGS = "cdi.kubevirt.io/storage.pod.vddk.extraargs";
    /// CDI: the disk's file at its source.
    CDI_BACKING_FILE = "cdi.kubevirt.io/storage.import.backingFile";
    /// CDI: the source.
    CDI_ENDPOINT = "cdi.kubevirt.io/storage.import.endpoint";
    /// CDI: the source's secret.
    CDI_SECRET = "cdi.kubevirt.io/storage.import.secretName";
    /// CDI: the VM's UUID.
    CDI_UUID = "cdi.kubevirt.io/storage.import.uuid";
    /// CDI: the source's thumbprint.
    CDI_THUMBPRINT = "cdi.kubevirt.io/storage.import.vddk.thumbprint";
    /// CDI: image with VDDK.
    CDI_VDDK_INIT_IMAGE_URL = "cdi.kubevirt.io/storage.pod.vddk.initimageurl";
    /// CDI: kind of source.
    CDI_SOURCE = "cdi.kubevirt.io/storage.import.source";
    /// CDI: phase of the importer's pod.
    CDI_POD_PHASE = "cdi.kubevirt.io/storage.pod.phase";
    /// CDI: the importer's pod.
    CDI_IMPORT_POD = "cdi.kubevirt.io/storage.import.importPod";
    /// CDI: name of the importer's pod.
    CDI_IMPORT_POD_NAME = "cdi.kubevirt.io/storage.import.importPodName";
    /// CDI: service account of the importer's pod.
    CDI_POD_SERVICE_ACCOUNT = "cdi.kubevirt.io/storage.pod.serviceAccountName";
    /// CDI: this is the last increment.
    CDI_FINAL_CHECKPOINT = "cdi.kubevirt.io/storage.checkpoint.final";
    /// CDI: the increment's end.
    CDI_CURRENT_CHECKPOINT = "cdi.kubevirt.io/storage.checkpoint.current";
    /// CDI: the increment's start.
    CDI_PREVIOUS_CHECKPOINT = "cdi.kubevirt.io/storage.checkpoint.previous";
    /// CDI: prefix of increments that are copied.
    CDI_CHECKPOINTS_COPIED = "cdi.kubevirt.io/storage.checkpoint.copied";
    /// CDI: a data volume may take over a volume.
    CDI_ALLOW_CLAIM_ADOPTION = "cdi.kubevirt.io/allowClaimAdoption";
    /// CDI: the volume is filled already.
    CDI_PRE_POPULATED = "cdi.kubevirt.io/storage.prePopulated";
    /// CDI: whether data volumes use populators.
    CDI_USE_POPULATOR = "cdi.kubevirt.io/storage.usePopulator";
}
