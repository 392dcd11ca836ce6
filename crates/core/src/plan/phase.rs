//! The phases of one VM's migration. Their names are API: `status.migration.vms[].phase` shows them.
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! phases {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// A phase, named as upstream names it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Phase { $($(#[doc = $doc])+ $name),+ }

        impl Phase {
            /// Every phase.
            pub const ALL: &'static [Phase] = &[$(Phase::$name),+];

            /// Returns the name as it is stored.
            pub fn as_str(self) -> &'static str {
                match self { $(Phase::$name => stringify!($name)),+ }
            }
        }

        impl FromStr for Phase {
            type Err = UnknownPhase;

            fn from_str(name: &str) -> Result<Self, UnknownPhase> {
                match name { $(stringify!($name) => Ok(Phase::$name),)+ other => Err(UnknownPhase(other.to_owned())) }
            }
        }
    };
}

phases! {
    /// Leftovers of earlier runs are removed, the target name is chosen.
    Started,
    /// The pre-migration hook runs.
    PreHook,
    /// The source's power state is recorded.
    StorePowerState,
    /// The source VM is told to shut down.
    PowerOffSource,
    /// The source VM is off.
    WaitForPowerOff,
    /// Volumes and importers are created.
    CreateDataVolumes,
    /// Disks are copied.
    CopyDisks,
    /// Volumes for virt-v2v to copy into are created.
    AllocateDisks,
    /// Precopies are done; waits for the next one or for the cutover.
    CopyingPaused,
    /// The conversion is created.
    CreateGuestConversionPod,
    /// The guest is converted.
    ConvertGuest,
    /// virt-v2v copies the disks.
    CopyDisksVirtV2V,
    /// OpenStack images are converted to raw.
    ConvertOpenstackSnapshot,
    /// The first snapshot is taken.
    CreateInitialSnapshot,
    /// The first snapshot is ready.
    WaitForInitialSnapshot,
    /// The change identities of the first snapshot are recorded.
    StoreInitialSnapshotDeltas,
    /// The guest is inspected before anything is copied.
    PreflightInspection,
    /// The snapshot of the previous precopy is removed.
    RemovePreviousSnapshot,
    /// The snapshot of the previous precopy is gone.
    WaitForPreviousSnapshotRemoval,
    /// The snapshot of the next precopy is taken.
    CreateSnapshot,
    /// The snapshot of the next precopy is ready.
    WaitForSnapshot,
    /// The change identities of the snapshot are recorded.
    StoreSnapshotDeltas,
    /// The importers get the next checkpoint.
    AddCheckpoint,
    /// The last precopy's snapshot is removed before the final one.
    RemovePenultimateSnapshot,
    /// The last precopy's snapshot is gone.
    WaitForPenultimateSnapshotRemoval,
    /// The final snapshot is taken, the VM being off.
    CreateFinalSnapshot,
    /// The final snapshot is ready.
    WaitForFinalSnapshot,
    /// The importers get the final checkpoint.
    AddFinalCheckpoint,
    /// The final changes are copied.
    Finalize,
    /// The final snapshot is removed.
    RemoveFinalSnapshot,
    /// The final snapshot is gone.
    WaitForFinalSnapshotRemoval,
    /// The target VM is created.
    CreateVM,
    /// The converted Windows guest restarts for its first-boot work.
    WaitForGuestReboots,
    /// The post-migration hook runs.
    PostHook,
    /// The end, whatever the outcome.
    Completed,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A phase name that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown migration phase {0:?}")]
pub struct UnknownPhase(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for &phase in Phase::ALL {
            assert_eq!(phase.as_str().parse(), Ok(phase));
            assert_eq!(serde_json::to_value(phase).ok(), Some(phase.as_str().into()));
        }
        assert_eq!("Nowhere".parse::<Phase>(), Err(UnknownPhase("Nowhere".into())));
    }
}
