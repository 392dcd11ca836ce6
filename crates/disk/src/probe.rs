//! What a file is, by its first bytes (a fixed VHD: by its last).

use crate::error::Result;
use crate::format::{vhd, vhdx};
use crate::image::Format;
use crate::source::Input;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Raw,
    Qcow2,
    /// A hosted sparse extent of VMDK, packed or not.
    Sparse,
    /// ESX's older sparse extent.
    Cowd,
    /// ESX's newer sparse extent.
    SeSparse,
    /// The text of a VMDK.
    Descriptor,
    Vhd,
    Vhdx,
}

impl Found {
    /// Returns whether the bytes may be what someone said they are.
    pub(crate) fn is(self, format: Format) -> bool {
        match self {
            Self::Raw => format == Format::Raw,
            Self::Qcow2 => format == Format::Qcow2,
            // what a descriptor calls VMDK may be any of its kinds
            Self::Sparse | Self::Cowd | Self::SeSparse | Self::Descriptor => {
                matches!(format, Format::Vmdk | Format::StreamOptimized)
            }
            Self::Vhd => format == Format::Vhd,
            Self::Vhdx => format == Format::Vhdx,
        }
    }
}

/// Magics at their offsets.
const READ: &[(usize, &[u8], Found)] = &[
    (0, b"KDMV", Found::Sparse),
    (0, b"QFI\xfb", Found::Qcow2),
    (0, b"COWD", Found::Cowd),
    (0, b"\xbe\xba\xfe\xca\0\0\0\0", Found::SeSparse),
    (0, vhdx::MAGIC, Found::Vhdx),
    (0, vhd::MAGIC, Found::Vhd),
];

/// Formats that are recognised in order to say so.
const NOT_READ: &[(usize, &[u8], &str)] = &[
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"LUKS\xba\xbe", "LUKS-encrypted image"),
    (0, b"\x1f\x8b\x08", "gzip stream: say that it is compressed"),
    (64, b"\x7f\x10\xda\xbe", "VDI"),
];

/// Looks at the bytes; what is recognised and not read is refused by its name.
pub(crate) fn probe(input: &Input) -> Result<Found> {
    let mut head = vec![0; input.length().min(512) as usize];
    input.read(&mut head, 0, "magic")?;
    let at = |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, found)) = READ.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return Ok(*found);
    }
    let text = head.trim_ascii_start();
    if text.starts_with(b"# Disk DescriptorFile") || text.starts_with(b"# disk DescriptorFile") {
        return Ok(Found::Descriptor);
    }
    if let Some((_, _, name)) = NOT_READ.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        return Err(input.unsupported(*name));
    }
    // a fixed VHD is a raw disk with a footer
    if input.length() >= 512 {
        let mut tail = [0; 8];
        input.read(&mut tail, input.length() - 512, "VHD footer")?;
        if &tail == vhd::MAGIC {
            return Ok(Found::Vhd);
        }
    }
    Ok(Found::Raw)
}
