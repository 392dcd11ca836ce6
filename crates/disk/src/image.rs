//! What every format offers: a virtual disk that is read at any offset by several threads.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::error::Result;
use crate::extents::Extents;

/// A format of disk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Format {
    /// Bytes as they are.
    Raw,
    /// QEMU's qcow2, versions 2 and 3.
    Qcow2,
    /// VMDK: hosted sparse extents, flat extents, and descriptors that name them.
    Vmdk,
    /// VMDK as appliances carry it: compressed grains with markers.
    StreamOptimized,
    /// VHD of Virtual PC, Hyper-V generation 1 and Azure.
    Vhd,
    /// VHDX of Hyper-V.
    Vhdx,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 6] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::StreamOptimized, Self::Vhd, Self::Vhdx];

    /// Returns the name, as commands take and show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::StreamOptimized => "streamOptimized",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A format's name is not known.
#[derive(Debug, thiserror::Error)]
#[error("unknown disk format {0:?}; known: raw, qcow2, vmdk, streamOptimized, vhd, vhdx")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text.to_ascii_lowercase().as_str() {
            "raw" | "img" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            "vmdk" => Ok(Self::Vmdk),
            "streamoptimized" => Ok(Self::StreamOptimized),
            "vhd" | "vpc" => Ok(Self::Vhd),
            "vhdx" => Ok(Self::Vhdx),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

/// A virtual disk. All calls are positioned and may come from several threads at once.
pub trait Image: Send + Sync {
    /// Returns the format.
    fn format(&self) -> Format;

    /// Returns the size of the virtual disk in bytes.
    fn size(&self) -> u64;

    /// Appends what `range` holds, in order, without gaps; `range` lies within the disk.
    fn extents(&self, range: Range<u64>, extents: &mut Extents) -> Result<()>;

    /// Fills `buf` with the disk's bytes at `offset`; what is not stored reads as zeros.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Returns where the tables lie that are read again and again, for sequential sources.
    fn tables(&self) -> Result<Vec<Range<u64>>> {
        Ok(Vec::new())
    }

    /// Returns facts about the image, name and value, for `info`.
    fn details(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
