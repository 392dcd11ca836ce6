//! Labels of the objects that a migration makes, and their values.

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => { $($(#[$doc])* pub const $name: &str = $text;)+ };
}

labels! {
    /// UID of the migration.
    MIGRATION = "migration";
    /// UID of the plan.
    PLAN = "plan";
    /// Name of the plan.
    PLAN_NAME = "plan-name";
    /// Namespace of the plan.
    PLAN_NAMESPACE = "plan-namespace";
    /// The source's id of the VM.
    VM_ID = "vmID";
    /// The source's UUID of the VM, on volumes that outlive an attempt.
    VM_UUID = "vmUUID";
    /// What the object is for.
    RESOURCE = "resource";
    /// Value of [`RESOURCE`]: it belongs to a VM.
    RESOURCE_VM_CONFIG = "vm-config";
    /// Value of [`RESOURCE`]: it configures VDDK.
    RESOURCE_VDDK_CONFIG = "vddk-config";
    /// Value of [`RESOURCE`]: it belongs to a hook.
    RESOURCE_HOOK_CONFIG = "hook-config";
    /// Value of [`RESOURCE`]: it waits for a restart of Windows.
    RESOURCE_WAIT_FOR_REBOOT = "wait-for-reboot";
    /// Which of our programs a pod runs.
    APP = "forklift.app";
    /// Value of [`APP`]: makes a volume bind.
    APP_CONSUMER = "consumer";
    /// Value of [`APP`]: converts a guest.
    APP_VIRT_V2V = "virt-v2v";
    /// Value of [`APP`]: inspects a guest.
    APP_VIRT_V2V_INSPECTION = "virt-v2v-inspection";
    /// Value of [`APP`]: inspects a guest at its source.
    APP_DEEP_INSPECTION = "deep-inspection";
    /// Value of [`APP`]: waits for a restart of Windows.
    APP_WAIT_FOR_REBOOT = "forklift-wait-for-reboot";
    /// Value of [`APP`]: copies a disk.
    APP_IMPORTER = "importer";
    /// Value of [`APP`]: how fast an importer may copy.
    APP_IMPORTER_LIMIT = "importer-limit";
    /// Name of the conversion.
    CONVERSION = "conversion";
    /// Type of the conversion.
    CONVERSION_TYPE = "conversion-type";
    /// Step of a hook: `PreHook` or `PostHook`.
    STEP = "step";
    /// Name of the hook.
    HOOK = "hook";
    /// On secrets: for a data volume.
    IS_DV = "isDV";
    /// On secrets: for a populator.
    IS_POPULATOR = "isPopulator";
    /// On secrets: for a conversion.
    IS_V2V = "isV2V";
    /// On secrets: LUKS keys.
    IS_LUKS = "isLUKS";
    /// On secrets: a source's connection.
    IS_CONNECTION = "isConnection";
    /// What a config map is used for.
    USE = "use";
    /// Value of [`USE`].
    USE_VDDK_CONF = "vddk-conf";
    /// Hash of the VDDK image that a job checks.
    VDDK = "vddk";
    /// The disk is shared by several VMs.
    SHAREABLE = "shareable";
    /// vSphere's key of the disk.
    VMDK_KEY = "vmdkKey";
    /// oVirt's and Hyper-V's id of the disk.
    DISK_ID = "diskID";
    /// OpenStack's id of the image.
    IMAGE_ID = "imageID";
    /// The host that the VM ran on.
    SOURCE_HOST = "sourceHost";
    /// On secrets: what they are for, `providers` or `hosts`.
    CREATED_FOR_RESOURCE_TYPE = "createdForResourceType";
    /// On secrets: the provider's type.
    CREATED_FOR_PROVIDER_TYPE = "createdForProviderType";
    /// On secrets: the name of what they are for.
    CREATED_FOR_RESOURCE = "createdForResource";
    /// On secrets: the engine's authority was added.
    CA_CERT_UPDATED = "ca-cert-updated";
    /// On the OVA store's volumes.
    OVA = "ova";
    /// Value of [`OVA`] on claims.
    OVA_PVC = "nfs-pvc";
    /// Value of [`OVA`] on volumes.
    OVA_PV = "nfs-pv";
    /// On provider servers: the application.
    SERVER_APP = "app";
    /// Value of [`SERVER_APP`].
    SERVER_APP_FORKLIFT = "forklift";
    /// On provider servers: the kind of server.
    SERVER_SUBAPP = "subapp";
    /// Value of [`SERVER_SUBAPP`].
    SUBAPP_OVA_SERVER = "ova-server";
    /// On provider servers: the name of the provider.
    SERVER_PROVIDER = "provider";
    /// On provider servers: the name of the server object.
    OVA_SERVER = "ova-server";
    /// On finished xcopy populators.
    OFFLOAD_COMPLETED = "forklift.konveyor.io/offload-completed";
    /// Value of switches.
    TRUE = "true";
}
