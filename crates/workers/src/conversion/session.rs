//! One guestfish session on the converted overlays: reads what the checks need, writes what keeps the network.
//!
//! A start of libguestfs' small machine costs seconds with KVM and half a minute without: everything that is to be
//! looked at after the conversion is looked at in this one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

use super::error::ConversionError;
use super::guest_files::GuestFiles;
use super::root_device::Devices;
use super::tool::{Tools, missing};

/// More of a file than this is not configuration.
const MAX_FILE: usize = 1 << 20;
/// More files than this in one place are not looked at.
const MAX_FILES: usize = 200;

/// A running guestfish with the guest's file systems mounted.
pub struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    count: usize,
}

impl Session {
    /// Opens the overlays and mounts the guest whose root virt-v2v found. With `keys` (encrypted guests) guestfish
    /// has to inspect the guest again; without, its root and fstab say what is where.
    pub async fn open(tools: &Tools, overlays: &[&Path], root: &str, keys: &[String]) -> Result<Self, ConversionError> {
        let mut command = tools.command(&tools.guestfish);
        command.args(["--format=qcow2", "--rw"]);
        for overlay in overlays {
            command.arg("-a").arg(overlay);
        }
        for key in keys {
            command.args(["--key", key]);
        }
        if !keys.is_empty() {
            command.arg("-i");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| missing(&tools.guestfish, error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ConversionError::Failed("guestfish has no pipes".into()));
        };
        let mut session = Self { child, stdin, stdout: BufReader::new(stdout).lines(), count: 0 };
        if keys.is_empty() {
            session.must("run").await?;
            session.must(&format!("mount {} /", quote(root))).await?;
            session.mount_boot().await?;
        }
        Ok(session)
    }

    /// Opens disks that are offered over NBD, to be looked at and not changed; nothing is mounted. `network` lets the
    /// small machine reach a Tang server.
    pub async fn look(tools: &Tools, disks: &[String], network: bool) -> Result<Self, ConversionError> {
        let mut command = tools.command(&tools.guestfish);
        // an overlay takes what a journal's replay writes; keys are read where they are asked for
        command.args(["--ro", "--format=raw", "--keys-from-stdin"]);
        if network {
            command.arg("--network");
        }
        for disk in disks {
            command.arg("-a").arg(disk);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| missing(&tools.guestfish, error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(ConversionError::Failed("guestfish has no pipes".into()));
        };
        let mut session = Self { child, stdin, stdout: BufReader::new(stdout).lines(), count: 0 };
        session.must("run").await?;
        Ok(session)
    }

    /// Opens an encrypted device with a key; returns whether the key fits.
    pub async fn unlock(&mut self, device: &str, name: &str, key: &str) -> Result<bool, ConversionError> {
        let opened = format!("/dev/mapper/{name}");
        self.ask(&format!("cryptsetup-open {} {} readonly:true\n{key}", quote(device), quote(name))).await?;
        Ok(self.ask("list-dm-devices").await?.contains(&opened))
    }

    /// A boot partition of its own holds the boot menu. What fstab names is tried; what fails is left out.
    async fn mount_boot(&mut self) -> Result<(), ConversionError> {
        let fstab = self.read("/etc/fstab").await?;
        let mut wanted: Vec<(&str, &str)> = fstab
            .lines()
            .filter(|l| !l.trim_start().starts_with('#'))
            .filter_map(|l| {
                let mut words = l.split_whitespace();
                Some((words.next()?, words.next()?))
            })
            .filter(|(_, point)| matches!(*point, "/boot" | "/boot/efi" | "/efi" | "/var"))
            .collect();
        wanted.sort_by_key(|(_, point)| point.len());
        for (spec, point) in wanted {
            let spec = spec.replace('"', "");
            let device = if let Some(uuid) = spec.strip_prefix("UUID=") {
                self.ask(&format!("findfs-uuid {}", quote(uuid))).await?
            } else if let Some(label) = spec.strip_prefix("LABEL=") {
                self.ask(&format!("findfs-label {}", quote(label))).await?
            } else {
                // virt-v2v has written the new bus's names already
                vec![spec.replace("/dev/vd", "/dev/sd")]
            };
            if let Some(device) = device.first() {
                self.ask(&format!("mount-ro {} {}", quote(device), quote(point))).await?;
            }
        }
        Ok(())
    }

    /// Runs a command that may fail; returns the lines it printed.
    pub async fn ask(&mut self, command: &str) -> Result<Vec<String>, ConversionError> {
        self.send(&format!("-{command}")).await
    }

    /// Runs a command that must not fail: guestfish ends at the first such failure.
    async fn must(&mut self, command: &str) -> Result<Vec<String>, ConversionError> {
        self.send(command).await
    }

    async fn send(&mut self, command: &str) -> Result<Vec<String>, ConversionError> {
        self.count += 1;
        let marker = format!("@@end-{}@@", self.count);
        // the first line alone: a key may follow
        let said = command.lines().next().unwrap_or_default();
        let failed = |what: &str| ConversionError::Failed(format!("guestfish {what} at: {said}"));
        let text = format!("{command}\necho {marker}\n");
        if self.stdin.write_all(text.as_bytes()).await.is_err() || self.stdin.flush().await.is_err() {
            return Err(failed("ended"));
        }
        let mut lines = Vec::new();
        while let Some(line) = self.stdout.next_line().await.map_err(ConversionError::io("read from guestfish"))? {
            if let Some(rest) = line.strip_suffix(&marker) {
                if !rest.is_empty() {
                    lines.push(rest.to_owned()); // the last line had no newline
                }
                return Ok(lines);
            }
            lines.push(line);
        }
        Err(failed("failed"))
    }

    /// The content of a file, empty when the guest does not have it.
    async fn read(&mut self, path: &str) -> Result<String, ConversionError> {
        let mut text = self.ask(&format!("cat {}", quote(path))).await?.join("\n");
        if text.len() > MAX_FILE {
            let end = (0..=MAX_FILE).rev().find(|&n| text.is_char_boundary(n)).unwrap_or(0);
            text.truncate(end);
        }
        Ok(text)
    }

    /// Reads all files that the patterns match.
    pub async fn files(&mut self, patterns: &[&str]) -> Result<GuestFiles, ConversionError> {
        let mut files = GuestFiles::default();
        for pattern in patterns {
            let paths = if pattern.contains('*') {
                self.ask(&format!("glob-expand {}", quote(pattern))).await?
            } else {
                vec![(*pattern).to_owned()]
            };
            for path in paths.into_iter().take(MAX_FILES) {
                if self
                    .ask(&format!("is-file {} followsymlinks:true", quote(&path)))
                    .await?
                    .first()
                    .is_some_and(|l| l == "true")
                {
                    let text = self.read(&path).await?;
                    files.insert(path, text);
                }
            }
        }
        Ok(files)
    }

    /// What the guest's disks have: partitions, logical volumes and the tags that udev makes links for.
    pub async fn devices(&mut self) -> Result<Devices, ConversionError> {
        let mut devices = Devices::default();
        devices.partitions.extend(self.ask("list-devices").await?);
        devices.partitions.extend(self.ask("list-partitions").await?);
        devices.volumes.extend(self.ask("lvs").await?);
        let all: Vec<String> = devices.partitions.iter().chain(&devices.volumes).cloned().collect();
        for device in all {
            for line in self.ask(&format!("blkid {}", quote(&device))).await? {
                let Some((key, value)) = line.split_once(": ") else {
                    continue;
                };
                let kind = match key {
                    "UUID" | "LABEL" => key,
                    "PART_ENTRY_UUID" => "PARTUUID",
                    "PART_ENTRY_NAME" => "PARTLABEL",
                    _ => continue,
                };
                devices.tags.insert(format!("{kind}={value}"));
            }
        }
        Ok(devices)
    }

    /// Writes a file into the guest.
    pub async fn write(&mut self, path: &str, content: &str) -> Result<(), ConversionError> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.must(&format!("mkdir-p {}", quote(folder))).await?;
        }
        self.must(&format!("write {} {}", quote(path), quote(content))).await.map(|_| ())
    }

    /// Ends the session; all that was written is then in the overlays.
    pub async fn close(mut self) -> Result<(), ConversionError> {
        self.must("umount-all").await?;
        drop(self.stdin);
        let status = self.child.wait().await.map_err(ConversionError::io("wait for guestfish"))?;
        if status.success() { Ok(()) } else { Err(ConversionError::Failed(format!("guestfish ended with {status}"))) }
    }
}

/// A word for guestfish's command line: in double quotes, with its escapes.
pub fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_quoted_for_guestfish() {
        assert_eq!(super::quote("a \"b\"\\\n\t"), r#""a \"b\"\\\n\t""#);
        assert_eq!(super::quote("\u{1}"), "\"\\x01\"");
    }
}
