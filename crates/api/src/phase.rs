//! Phases of a VM's migration: the fine steps of an itinerary, stored in `status.migration.vms[].phase`.
//!
//! ```text
//! cold   Started ▸ PreHook ▸ StorePowerState ▸ PowerOffSource ▸ WaitForPowerOff ▸ CreateDataVolumes ▸ CopyDisks
//!        ▸ CreateGuestConversionPod ▸ ConvertGuest ▸ CreateVM ▸ PostHook ▸ Completed
//! warm   Started ▸ PreHook ▸ initial snapshot ▸ CreateDataVolumes ▸ ( CopyDisks ▸ CopyingPaused ▸ next snapshot
//!        ▸ AddCheckpoint )* ▸ power off ▸ final snapshot ▸ Finalize ▸ conversion ▸ CreateVM ▸ PostHook ▸ Completed
//! ```
//! Which of them a migration goes through is the itineraries' matter; here are the names, which are API.

use crate::wire::wire_enum;

wire_enum! {
    /// A phase of a VM's migration.
    Phase, "phase", {
        /// Taken up.
        Started => "Started",
        /// The hook before the migration runs.
        PreHook => "PreHook",
        /// The hook after the migration runs.
        PostHook => "PostHook",
        /// Done.
        Completed => "Completed",
        /// Warm: the next increment is announced to the copy.
        AddCheckpoint => "AddCheckpoint",
        /// Warm: the last increment is announced to the copy.
        AddFinalCheckpoint => "AddFinalCheckpoint",
        /// Empty volumes are made, for a conversion that copies.
        AllocateDisks => "AllocateDisks",
        /// The guest is converted.
        ConvertGuest => "ConvertGuest",
        /// OpenStack: snapshots become raw images.
        ConvertOpenstackSnapshot => "ConvertOpenstackSnapshot",
        /// Disks are copied.
        CopyDisks => "CopyDisks",
        /// The conversion copies disks.
        CopyDisksVirtV2V => "CopyDisksVirtV2V",
        /// Warm: waits for the next increment or the cutover.
        CopyingPaused => "CopyingPaused",
        /// Volumes and what fills them are made.
        CreateDataVolumes => "CreateDataVolumes",
        /// Warm: the snapshot of the cutover is taken.
        CreateFinalSnapshot => "CreateFinalSnapshot",
        /// The conversion's pod is made.
        CreateGuestConversionPod => "CreateGuestConversionPod",
        /// Warm: the first snapshot is taken.
        CreateInitialSnapshot => "CreateInitialSnapshot",
        /// Warm: a snapshot is taken.
        CreateSnapshot => "CreateSnapshot",
        /// The target VM is made.
        CreateVm => "CreateVM",
        /// Windows restarts after the conversion.
        WaitForGuestReboots => "WaitForGuestReboots",
        /// Warm: the copy is closed.
        Finalize => "Finalize",
        /// The guest is looked at before anything is copied.
        PreflightInspection => "PreflightInspection",
        /// The source VM is shut down.
        PowerOffSource => "PowerOffSource",
        /// Warm: the snapshot of the cutover is removed.
        RemoveFinalSnapshot => "RemoveFinalSnapshot",
        /// Warm: the snapshot before the last is removed.
        RemovePenultimateSnapshot => "RemovePenultimateSnapshot",
        /// Warm: the snapshot before is removed.
        RemovePreviousSnapshot => "RemovePreviousSnapshot",
        /// Warm: the first snapshot's change ids are noted.
        StoreInitialSnapshotDeltas => "StoreInitialSnapshotDeltas",
        /// Whether the source VM runs is noted.
        StorePowerState => "StorePowerState",
        /// Warm: a snapshot's change ids are noted.
        StoreSnapshotDeltas => "StoreSnapshotDeltas",
        /// Warm: the snapshot of the cutover is being taken.
        WaitForFinalSnapshot => "WaitForFinalSnapshot",
        /// Warm: the snapshot of the cutover is being removed.
        WaitForFinalSnapshotRemoval => "WaitForFinalSnapshotRemoval",
        /// Warm: the first snapshot is being taken.
        WaitForInitialSnapshot => "WaitForInitialSnapshot",
        /// Warm: the snapshot before the last is being removed.
        WaitForPenultimateSnapshotRemoval => "WaitForPenultimateSnapshotRemoval",
        /// The source VM is shutting down.
        WaitForPowerOff => "WaitForPowerOff",
        /// Warm: the snapshot before is being removed.
        WaitForPreviousSnapshotRemoval => "WaitForPreviousSnapshotRemoval",
        /// Warm: a snapshot is being taken.
        WaitForSnapshot => "WaitForSnapshot",

        /// Live: secrets are copied.
        CreateSecrets => "CreateSecrets",
        /// Live: config maps are copied.
        CreateConfigMaps => "CreateConfigMaps",
        /// Live: the preference is copied.
        EnsurePreference => "EnsurePreference",
        /// Live: the instance type is copied.
        EnsureInstanceType => "EnsureInstanceType",
        /// Live: data volumes are made.
        EnsureDataVolumes => "EnsureDataVolumes",
        /// Live: volumes are made.
        EnsurePersistentVolumeClaims => "EnsurePersistentVolumeClaims",
        /// Live: the target VM is made, waiting to receive.
        CreateTarget => "CreateTarget",
        /// Live: what was made is tied to the target VM.
        SetOwnerReferences => "SetOwnerReferences",
        /// Live: the clusters' services are joined.
        CreateServiceExports => "CreateServiceExports",
        /// Live: the target waits for the source.
        WaitForTargetVmi => "WaitForTargetVMI",
        /// Live: both sides are told to start.
        CreateVirtualMachineInstanceMigrations => "CreateVirtualMachineInstanceMigrations",
        /// Live: memory and disks move.
        WaitForStateTransfer => "WaitForStateTransfer",

        /// EC2: snapshots are taken.
        CreateSnapshots => "CreateSnapshots",
        /// EC2: snapshots are being taken.
        WaitForSnapshots => "WaitForSnapshots",
        /// EC2: snapshots are shared with the target's account.
        ShareSnapshots => "ShareSnapshots",
        /// EC2: volumes are made of snapshots.
        CreateVolumes => "CreateVolumes",
        /// EC2: volumes are being made.
        WaitForVolumes => "WaitForVolumes",
        /// EC2: volumes become the cluster's.
        CreatePvsAndPvcs => "CreatePVsAndPVCs",
        /// EC2: snapshots are removed.
        RemoveSnapshots => "RemoveSnapshots",

        /// A phase that we do not know.
        Unknown => "Unknown",
    } else Unknown
}

// A VM that was never looked at is at the start of its itinerary.
#[expect(clippy::derivable_impls, reason = "the macro has no way to mark a default variant")]
impl Default for Phase {
    fn default() -> Self {
        Self::Started
    }
}
