//! Why a conversion fails: one variant for each thing that a person would do about it.

use std::io;

use forklift_api::worker::WorkerError;

/// A failed conversion.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    /// A program is not installed.
    #[error("{tool} is not installed on this machine")]
    ToolMissing {
        /// The program.
        tool: String,
    },
    /// libguestfs cannot start its small machine.
    #[error("libguestfs cannot start: {0}")]
    LibguestfsBroken(String),
    /// virt-v2v finds no operating system, or none that it knows.
    #[error("virt-v2v cannot convert this guest: {0}")]
    UnknownOs(String),
    /// The guest has several operating systems and none was chosen.
    #[error("the guest has several operating systems: {0}")]
    MultiBoot(String),
    /// The disk is encrypted and no key opens it.
    #[error("the guest's disk is encrypted and no key opens it: {0}")]
    KeyMissing(String),
    /// The guest's own file system is too full.
    #[error("a file system inside the guest is too full: {0}")]
    GuestFull(String),
    /// The guest's file system cannot be written (hibernated or unclean Windows).
    #[error("the guest's file system is not clean: {0}")]
    GuestUnclean(String),
    /// The scratch space or the volume is full.
    #[error("no space left for the conversion in {place}")]
    NoSpace {
        /// Which folder.
        place: String,
    },
    /// The converted guest would wait for its root device for ever.
    #[error("the converted guest's root device {device} does not exist on the virtio bus ({place})")]
    RootDeviceUnresolved {
        /// The device that is asked for.
        device: String,
        /// The file that asks for it.
        place: String,
    },
    /// The converted disks were half written into the volumes, and what was to be written is lost.
    #[error("an earlier conversion was interrupted while writing to {0}, and its overlay is gone")]
    CommitLost(String),
    /// No disk is there.
    #[error("no disk found below {0}")]
    NoDisks(String),
    /// virt-v2v failed in a way that is not told apart.
    #[error("virt-v2v failed: {0}")]
    Failed(String),
    /// A file or program could not be used.
    #[error("cannot {action}")]
    Io {
        /// What was tried, on what.
        action: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl ConversionError {
    /// Makes an error of a failed file operation.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull => Self::NoSpace { place: action },
            _ => Self::Io { action, source },
        }
    }

    /// The stable code that status and `explain` use.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ToolMissing { .. } | Self::LibguestfsBroken(_) => "ToolMissing",
            Self::UnknownOs(_) => "UnknownOs",
            Self::MultiBoot(_) => "MultiBoot",
            Self::KeyMissing(_) => "KeyMissing",
            Self::GuestFull(_) => "GuestFull",
            Self::GuestUnclean(_) => "GuestUnclean",
            Self::NoSpace { .. } => "NoSpace",
            Self::RootDeviceUnresolved { .. } => "RootDeviceUnresolved",
            Self::CommitLost(_) => "CommitLost",
            Self::NoDisks(_) => "NoDisks",
            Self::Failed(_) => "ConversionFailed",
            Self::Io { .. } => "Io",
        }
    }

    /// Whether another attempt, with nothing changed, may go well.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Io { .. } | Self::NoSpace { .. })
    }

    /// What a person does about it.
    pub fn hint(&self) -> Option<String> {
        let raw = "or migrate with raw copy (plan.spec.skipGuestConversion, `forklift migrate --raw`)";
        let hint = match self {
            Self::ToolMissing { tool } => {
                format!("install it (`./x setup`; on Debian: apt-get install {}), {raw}", package_of(tool))
            }
            Self::LibguestfsBroken(_) => {
                format!("install a kernel for it (`./x setup`; on Debian: apt-get install linux-image-amd64), {raw}")
            }
            Self::UnknownOs(_) => {
                "migrate with raw copy (plan.spec.skipGuestConversion, `forklift migrate --raw`); the guest then \
                 needs virtio drivers of its own"
                    .into()
            }
            Self::MultiBoot(_) => "choose one with the VM's rootDisk in the plan, e.g. /dev/sda2".into(),
            Self::KeyMissing(_) => {
                "put the passphrase into the secret that the VM's luks field names, or set nbdeClevis".into()
            }
            Self::GuestFull(_) => "free some space in the guest, then migrate again".into(),
            Self::GuestUnclean(_) => {
                "boot the source once and shut it down fully (without hibernation or fast start), then migrate again"
                    .into()
            }
            Self::NoSpace { .. } => {
                "free some space there, or set the plan's conversionTempStorageClass and conversionTempStorageSize"
                    .into()
            }
            Self::RootDeviceUnresolved { .. } => {
                "let the guest name its root by UUID (remove GRUB_DISABLE_LINUX_UUID, run update-grub; in fstab \
                 too), then migrate again; the copied disk is unchanged"
                    .into()
            }
            Self::CommitLost(_) => "delete the VM's target volumes and migrate again: the disks are copied anew".into(),
            Self::NoDisks(_) | Self::Failed(_) | Self::Io { .. } => return None,
        };
        Some(hint)
    }

    /// The form in which the controller gets it.
    pub fn to_worker_error(&self) -> WorkerError {
        let mut message = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            message.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        WorkerError { code: self.code().into(), message, hint: self.hint(), retryable: self.retryable() }
    }
}

fn package_of(tool: &str) -> &'static str {
    match tool {
        "guestfish" | "virt-customize" => "libguestfs-tools",
        "qemu-img" => "qemu-utils",
        _ => "virt-v2v",
    }
}
