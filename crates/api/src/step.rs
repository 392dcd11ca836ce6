//! Steps of a VM's pipeline: the coarse progress that people see, made of phases.

use crate::wire::wire_enum;

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $description:literal;)+) => {
        $($(#[$doc])* pub const $name: &str = $text;)+

        /// Every step with its description.
        pub const ALL: &[(&str, &str)] = &[$(($text, $description)),+];
    };
}

steps! {
    /// Preparations.
    INITIALIZE = "Initialize", "Initialize migration.";
    /// The hook before.
    PRE_HOOK = "PreHook", "Run pre-migration hook.";
    /// A look into the guest before anything is copied.
    PREFLIGHT_INSPECTION = "PreflightInspection", "Inspect VM before migration.";
    /// Copying.
    DISK_TRANSFER = "DiskTransfer", "Transfer disks.";
    /// Making empty volumes.
    DISK_ALLOCATION = "DiskAllocation", "Allocate disks.";
    /// Converting the guest.
    IMAGE_CONVERSION = "ImageConversion", "Convert image to kubevirt.";
    /// Copying by the conversion.
    DISK_TRANSFER_V2V = "DiskTransferV2v", "Copy disks.";
    /// OpenStack: from snapshot to raw image.
    CONVERT_OPENSTACK_SNAPSHOT = "ConvertOpenstackSnapshot", "Convert OpenStack snapshot.";
    /// The last increment.
    CUTOVER = "Cutover", "Finalize disk transfer.";
    /// Making the VM.
    VM_CREATION = "VirtualMachineCreation", "Create VM.";
    /// Windows restarts.
    WAIT_FOR_GUEST_REBOOTS = "WaitForGuestReboots", "Wait for Windows guest reboot after conversion.";
    /// The source's disks come to rest.
    WAIT_FOR_CONSOLIDATION = "WaitForFinalSnapshotConsolidation", "Wait for final snapshot consolidation.";
    /// The hook after.
    POST_HOOK = "PostHook", "Run post-migration hook.";
    /// Live: the target is prepared.
    PREPARE_TARGET = "PrepareTarget", "Prepare target.";
    /// Live: state moves.
    SYNCHRONIZATION = "Synchronization", "Synchronize state.";
    /// EC2: the source is prepared.
    PREPARE_SOURCE = "PrepareSource", "Prepare source.";
    /// EC2: snapshots are taken.
    CREATE_SNAPSHOTS = "CreateSnapshots", "Create snapshots.";
    /// EC2: snapshots are shared.
    SHARE_SNAPSHOTS = "ShareSnapshots", "Share snapshots.";
    /// EC2: the VM is made.
    CREATE_VM = "CreateVM", "Create VM.";
    /// EC2: what was needed on the way is removed.
    CLEANUP = "Cleanup", "Clean up.";
}

/// Returns what a step does, in a sentence.
pub fn description(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, description)| *description)
}

wire_enum! {
    /// Where a step or a task stands.
    StepPhase, "step phase", {
        /// Not yet begun.
        Pending => "Pending",
        /// Taken up.
        Started => "Started",
        /// Going on.
        Running => "Running",
        /// Ended, well or badly.
        Completed => "Completed",
        /// A phase that we do not know.
        Unknown => "Unknown",
    } else Unknown
}

/// The task annotation with the unit of its progress.
pub const ANNOTATION_UNIT: &str = "unit";
/// The unit of copied bytes: 2^20 bytes, as upstream counts.
pub const UNIT_MB: &str = "MB";
/// The task annotation with bytes a second.
pub const ANNOTATION_RATE: &str = "rate";
/// The task annotation with the seconds left.
pub const ANNOTATION_ETA: &str = "eta";
/// The task annotation with the size of the disk in bytes.
pub const ANNOTATION_BYTES_TOTAL: &str = "bytesTotal";
/// The task annotation with the bytes that are dealt with.
pub const ANNOTATION_BYTES_DONE: &str = "bytesDone";
/// The task annotation with the bytes that need no copy.
pub const ANNOTATION_BYTES_SKIPPED: &str = "bytesSkipped";
/// The task annotation with the bytes that an earlier attempt had copied.
pub const ANNOTATION_BYTES_RESUMED: &str = "bytesResumed";
