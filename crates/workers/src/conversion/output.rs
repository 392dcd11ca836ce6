//! Reads what virt-v2v says while it works: how far it is, what it found, why it failed.
//!
//! With `--machine-readable` its messages are JSON lines; with `-v` it also prints what its inspection found
//! (`i_osinfo = debian12`), so that the inspection need not be paid for a second time.

use std::collections::VecDeque;

use forklift_api::worker::Warning;
use serde::{Deserialize, Serialize};

use super::error::ConversionError;

/// How many lines are kept to explain a failure.
const TAIL: usize = 60;

/// What virt-v2v's inspection found in the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Inspection {
    /// `linux` or `windows`.
    pub name: String,
    /// `debian`, `rhel`, `windows` …
    pub distro: String,
    /// libosinfo's short name, e.g. `debian12`, `rhel9.4`, `win2k22`.
    pub osinfo: String,
    /// `x86_64` …
    pub arch: String,
    /// Major version.
    pub major_version: String,
    /// Minor version.
    pub minor_version: String,
    /// What the system calls itself.
    pub product_name: String,
    /// `rpm`, `deb` …
    pub package_format: String,
    /// `dnf`, `apt` …
    pub package_management: String,
    /// The guest's root file system, as libguestfs names it.
    pub root: String,
    /// `bios` or `uefi`.
    pub firmware: String,
    /// The guest's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `virtio-blk`, `virtio-scsi`, `ide`: what the converted guest has a driver for.
    pub block_bus: String,
    /// `virtio-net`, `e1000` …
    pub net_bus: String,
}

/// A message that a person should see.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A new step has begun.
    Progress {
        /// How much of virt-v2v's work is done, 0 to 100.
        percent: f32,
        /// What it does now.
        message: String,
    },
    /// Something did not work out.
    Warning(Warning),
}

/// The steps in their order, with how much of the time is gone when each begins (measured on a Debian guest).
const STEPS: &[(&str, f32)] = &[
    ("Setting up the source", 0.0),
    ("Opening the source", 1.0),
    ("Inspecting the source", 20.0),
    ("Checking for sufficient free disk space", 30.0),
    ("Converting ", 31.0),
    ("Mapping filesystem data", 95.0),
    ("Closing the overlay", 97.0),
    ("Assigning disks to buses", 99.0),
    ("Checking if the guest needs BIOS", 99.0),
    ("Finishing off", 100.0),
];

/// The long commands within the conversion, by a part of the trace line that shows their start.
const COMMANDS: &[(&str, f32, &str)] = &[
    ("grub-mkconfig", 44.0, "Renewing the boot menu in the guest"),
    ("grub2-mkconfig", 44.0, "Renewing the boot menu in the guest"),
    ("update-initramfs", 56.0, "Renewing the initial RAM disk in the guest"),
    ("dracut", 56.0, "Renewing the initial RAM disk in the guest"),
    ("mkinitrd", 56.0, "Renewing the initial RAM disk in the guest"),
];

/// Collects facts from virt-v2v's output, line by line.
#[derive(Debug, Default)]
pub struct Parser {
    /// What the inspection found so far.
    pub inspection: Inspection,
    /// Warnings so far.
    pub warnings: Vec<Warning>,
    error: Option<String>,
    tail: VecDeque<String>,
}

#[derive(Deserialize)]
struct Message {
    message: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Parser {
    /// Takes one line; returns what it tells a person, if anything.
    pub fn line(&mut self, line: &str) -> Option<Step> {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.chars().take(500).collect());
        if line.starts_with('{')
            && let Ok(message) = serde_json::from_str::<Message>(line)
        {
            return self.message(message);
        }
        if let Some(command) = line.strip_prefix("libguestfs: trace: v2v: command \"") {
            let program = command.split(['"', ' ']).next().unwrap_or_default();
            let program = program.rsplit('/').next().unwrap_or_default();
            let (_, percent, text) = COMMANDS.iter().find(|(name, ..)| *name == program)?;
            return Some(Step::Progress { percent: *percent, message: (*text).into() });
        }
        self.fact(line);
        None
    }

    fn message(&mut self, message: Message) -> Option<Step> {
        match message.kind.as_str() {
            "message" => {
                let (_, percent) = STEPS.iter().find(|(start, _)| message.message.starts_with(start))?;
                Some(Step::Progress { percent: *percent, message: message.message })
            }
            "warning" => {
                let warning = Warning { reason: "VirtV2vWarning".into(), message: message.message };
                self.warnings.push(warning.clone());
                Some(Step::Warning(warning))
            }
            "error" => {
                self.error = Some(message.message);
                None
            }
            _ => None,
        }
    }

    /// Facts are printed as `i_distro = debian`; the target's capabilities as `gcaps_net_bus = virtio-net`.
    fn fact(&mut self, line: &str) {
        let Some((key, value)) = line.split_once(" = ") else {
            return;
        };
        let value = value.trim();
        let i = &mut self.inspection;
        let field = match key {
            "i_root" => &mut i.root,
            "i_type" => &mut i.name,
            "i_distro" => &mut i.distro,
            "i_osinfo" => &mut i.osinfo,
            "i_arch" => &mut i.arch,
            "i_major_version" => &mut i.major_version,
            "i_minor_version" => &mut i.minor_version,
            "i_product_name" => &mut i.product_name,
            "i_package_format" => &mut i.package_format,
            "i_package_management" => &mut i.package_management,
            "gcaps_block_bus" => &mut i.block_bus,
            "gcaps_net_bus" => &mut i.net_bus,
            "i_firmware" => {
                i.firmware = if value.starts_with("UEFI") { "uefi".into() } else { "bios".into() };
                return;
            }
            _ => return,
        };
        *field = value.to_owned();
    }

    /// Says why virt-v2v failed.
    pub fn failure(&self) -> ConversionError {
        let tail: Vec<&str> = self.tail.iter().map(String::as_str).collect();
        let said = self
            .error
            .clone()
            .or_else(|| tail.iter().rev().find_map(|l| l.split_once("error: ")).map(|(_, text)| text.to_owned()));
        let text = said.unwrap_or_else(|| tail.last().copied().unwrap_or("it said nothing").to_owned());
        classify(&text, &tail.join("\n"))
    }
}

/// Tells the failures apart that a person deals with differently. `text` is the error, `tail` the lines before it.
fn classify(text: &str, tail: &str) -> ConversionError {
    let first = text.lines().map(str::trim).find(|l| !l.is_empty()).unwrap_or(text).to_owned();
    let has = |needles: &[&str]| needles.iter().any(|n| text.contains(n));
    if has(&["No space left on device", "ENOSPC"]) {
        ConversionError::NoSpace { place: first }
    } else if has(&[
        "inspection could not detect",
        "No root device found",
        "unable to convert this guest type",
        "no operating system",
    ]) {
        ConversionError::UnknownOs(first)
    } else if has(&["multi-boot"]) {
        ConversionError::MultiBoot(first)
    } else if has(&["LUKS", "passphrase", "could not find key to open"]) {
        ConversionError::KeyMissing(first)
    } else if has(&["not enough free space for conversion", "not enough available inodes"]) {
        ConversionError::GuestFull(first)
    } else if has(&["Hibernation", "hibernat", "Fast Restart", "was not cleanly unmounted"]) {
        ConversionError::GuestUnclean(first)
    } else if has(&["supermin", "cannot find any suitable kernel"]) || tail.contains("failed to find a suitable kernel")
    {
        ConversionError::LibguestfsBroken(first)
    } else {
        ConversionError::Failed(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of a real run over the sample appliance.
    const RECORDED: &str = include_str!("testdata/virt-v2v-in-place.log");

    #[test]
    fn a_recorded_run_gives_progress_facts_and_warnings() {
        let mut parser = Parser::default();
        let mut steps = Vec::new();
        for line in RECORDED.lines() {
            match parser.line(line) {
                Some(Step::Progress { percent, message }) => steps.push(format!("{percent} {message}")),
                Some(Step::Warning(w)) => steps.push(format!("warning {}", w.message)),
                None => {}
            }
        }
        expect_test::expect![[r"
            0 Setting up the source: -i libvirtxml /tmp/domain.xml
            1 Opening the source
            20 Inspecting the source
            30 Checking for sufficient free disk space in the guest
            31 Converting 12.15 to run on KVM
            warning could not determine a way to update the configuration of Grub2
            44 Renewing the boot menu in the guest
            56 Renewing the initial RAM disk in the guest
            95 Mapping filesystem data to avoid copying unused and blank areas
            97 Closing the overlay
            99 Assigning disks to buses
            99 Checking if the guest needs BIOS or UEFI to boot
            100 Finishing off"]]
        .assert_eq(&steps.join("\n"));
        let i = parser.inspection;
        assert_eq!(
            (i.name.as_str(), i.distro.as_str(), i.osinfo.as_str(), i.arch.as_str(), i.firmware.as_str()),
            ("linux", "debian", "debian12", "x86_64", "bios")
        );
        assert_eq!(
            (i.root.as_str(), i.block_bus.as_str(), i.net_bus.as_str()),
            ("/dev/sda1", "virtio-blk", "virtio-net")
        );
        assert_eq!(parser.warnings.len(), 1);
    }

    fn code(message: &str) -> &'static str {
        let mut parser = Parser::default();
        let line = serde_json::json!({ "message": message, "timestamp": "t", "type": "error" }).to_string();
        assert_eq!(parser.line(&line), None);
        parser.failure().code()
    }

    #[test]
    fn failures_are_told_apart() {
        assert_eq!(
            code("inspection could not detect the source guest (or physical machine).\n\nNo root device found."),
            "UnknownOs"
        );
        assert_eq!(code("virt-v2v is unable to convert this guest type (unknown/unknown)"), "UnknownOs");
        assert_eq!(
            code("multi-boot operating systems are not supported by virt-v2v. Use the --root option"),
            "MultiBoot"
        );
        assert_eq!(code("could not find key to open LUKS encrypted /dev/sda2."), "KeyMissing");
        assert_eq!(
            code("not enough free space for conversion on filesystem '/'.  5.0 MB free < 100 MB needed"),
            "GuestFull"
        );
        assert_eq!(code("write: /tmp/v2v/x: No space left on device"), "NoSpace");
        assert_eq!(code("something else"), "ConversionFailed");
    }

    #[test]
    fn an_error_without_json_is_found_in_the_text() {
        let mut parser = Parser::default();
        parser.line("virt-v2v-in-place: error: libguestfs error: could not create appliance through libvirt");
        parser.line("If reporting bugs, run virt-v2v with debugging enabled and include the complete output:");
        assert_eq!(
            parser.failure().to_string(),
            "virt-v2v failed: libguestfs error: could not create appliance through libvirt"
        );
        assert_eq!(Parser::default().failure().to_string(), "virt-v2v failed: it said nothing");
    }
}
