//! What the command line depends on besides the object.

use std::collections::BTreeMap;
use std::path::Path;

/// Everything that is looked up before a pod is made.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// KVM can be used.
    pub kvm: bool,
    /// The claims that the machine uses, by name.
    pub claims: BTreeMap<String, Claim>,
    /// Firmware files of this machine.
    pub firmware: FirmwareFiles,
    /// Disks behind images, by the image's name.
    pub images: BTreeMap<String, DiskImage>,
    /// Switches of networks, by the network's name in the specification.
    pub segments: BTreeMap<String, Segment>,
    /// The claim that keeps the machine's EFI variables and TPM.
    pub state: Option<String>,
    /// The secret with what is put on seed disks, when the machine has such.
    pub seeds: Option<String>,
    /// Programs that are on this machine: `swtpm`, `swtpm_setup`, `xorriso`, `qemu-img`.
    pub programs: Vec<&'static str>,
}

impl Facts {
    /// Says whether a program is there.
    pub fn has(&self, program: &str) -> bool {
        self.programs.contains(&program)
    }

    /// Looks for the programs that machines may need.
    pub fn find_programs() -> Vec<&'static str> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let there = |name: &&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
        ["swtpm", "swtpm_setup", "xorriso", "qemu-img"].into_iter().filter(there).collect()
    }
}

/// What is to be known of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Its volumeMode is Block.
    pub block: bool,
    /// Its volume is a real block device, not a file.
    pub device: bool,
    /// Bytes that it asks for.
    pub size: u64,
}

/// A local file behind an image of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskImage {
    /// Where it is on this machine.
    pub path: String,
    /// `raw` or `qcow2`.
    pub format: &'static str,
}

/// A network of the node's own: an Ethernet switch behind a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The directory of its socket on this machine.
    pub dir: String,
}

/// UEFI firmware of this machine: code and the empty variable store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FirmwareFiles {
    /// Without secure boot.
    pub plain: Option<(String, String)>,
    /// With secure boot and the usual keys.
    pub secure: Option<(String, String)>,
}

impl FirmwareFiles {
    /// Looks where distributions put the files.
    pub fn find() -> Self {
        let first = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .find(|(code, vars)| Path::new(code).exists() && Path::new(vars).exists())
                .map(|(code, vars)| ((*code).to_owned(), (*vars).to_owned()))
        };
        Self {
            plain: first(&[
                ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
                ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
                ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
            ]),
            secure: first(&[
                ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
                ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
                ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
            ]),
        }
    }
}
