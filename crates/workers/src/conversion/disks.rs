//! Where the disks of the VM are, and where their conversion's files go.

use std::path::{Path, PathBuf};

use super::config::Config;
use super::error::ConversionError;

/// One disk of the VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Number in the VM, from 0.
    pub index: usize,
    /// The raw disk: a file or a device.
    pub path: PathBuf,
    /// The folder for what must survive a crash: the disk's volume, or scratch space for a real device.
    pub state_dir: PathBuf,
}

impl Disk {
    /// A disk in a volume with a file system has our files beside it. A device has them in scratch space, also when
    /// it is really a file that a node shows as a device: what is beside it there is not its volume.
    fn new(index: usize, path: PathBuf, in_file_system: bool, scratch: &Path) -> Self {
        let shown = path.parent().map(Path::to_owned);
        let path = path.canonicalize().unwrap_or(path);
        let parent = path.parent().map(Path::to_owned);
        // a link to a file elsewhere leads to its volume
        let is_linked_file = parent != shown && path.metadata().is_ok_and(|m| m.is_file());
        let state_dir = match parent {
            Some(parent) if in_file_system || is_linked_file => parent,
            _ => scratch.to_owned(),
        };
        Self { index, path, state_dir }
    }

    /// A file beside the disk, e.g. `disk.img.overlay.qcow2`.
    pub fn beside(&self, suffix: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.state_dir.join(format!("{name}.{suffix}"))
    }

    /// The overlay that the conversion writes to.
    pub fn overlay(&self) -> PathBuf {
        self.beside("overlay.qcow2")
    }

    /// Whether our files beside the disk outlive the pod.
    pub fn state_is_durable(&self) -> bool {
        self.path.parent() == Some(&self.state_dir)
    }
}

/// Finds the VM's disks, ordered by their number, whatever kind of volume each is in.
pub fn find(config: &Config) -> Result<Vec<Disk>, ConversionError> {
    if !config.disks.is_empty() {
        return config.disks.iter().enumerate().map(|(index, path)| told(index, path, config)).collect();
    }
    let mut found: Vec<(usize, PathBuf, bool)> = Vec::new();
    for (folder, prefix, file) in [
        (config.disks_dir.clone(), "disk".to_owned(), Some("disk.img")),
        (
            config.block_prefix.parent().unwrap_or(Path::new("/")).to_owned(),
            config.block_prefix.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            None,
        ),
    ] {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(number) = name.to_str().and_then(|n| n.strip_prefix(&prefix)).and_then(|n| n.parse().ok()) else {
                continue;
            };
            let path = match file {
                Some(file) => entry.path().join(file),
                None => entry.path(),
            };
            if path.exists() {
                found.push((number, path, file.is_some()));
            }
        }
    }
    if found.is_empty() {
        return Err(ConversionError::NoDisks(format!(
            "{} and {}*",
            config.disks_dir.display(),
            config.block_prefix.display()
        )));
    }
    found.sort();
    Ok(found
        .into_iter()
        .map(|(index, path, in_file_system)| Disk::new(index, path, in_file_system, &config.work_dir))
        .collect())
}

/// A disk whose path is said. A volume with a file system shows it as `disk.img`.
fn told(index: usize, path: &Path, config: &Config) -> Result<Disk, ConversionError> {
    if !path.exists() {
        return Err(ConversionError::NoDisks(path.display().to_string()));
    }
    let in_file_system = path.file_name().is_some_and(|name| name == "disk.img");
    Ok(Disk::new(index, path.to_owned(), in_file_system, &config.work_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_ordered_by_number_across_kinds() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for n in [0, 2, 10] {
            let d = root.join(format!("mnt/disk{n}"));
            std::fs::create_dir_all(&d).unwrap();
            std::fs::write(d.join("disk.img"), b"x").unwrap();
        }
        std::fs::create_dir_all(root.join("mnt/disk7")).unwrap(); // a volume without a disk
        std::fs::create_dir_all(root.join("dev")).unwrap();
        std::fs::write(root.join("dev/block1"), b"x").unwrap();
        let mut config = Config::from_env(|_| None);
        config.disks_dir = root.join("mnt");
        config.block_prefix = root.join("dev/block");
        config.work_dir = root.join("scratch");
        let disks = find(&config).unwrap();
        assert_eq!(disks.iter().map(|d| d.index).collect::<Vec<_>>(), [0, 1, 2, 10]);
        assert_eq!(disks[0].overlay(), root.join("mnt/disk0/disk.img.overlay.qcow2"));
        assert_eq!(disks[1].overlay(), root.join("scratch/block1.overlay.qcow2"));
        assert_eq!(disks.iter().map(Disk::state_is_durable).collect::<Vec<_>>(), [true, false, true, true]);
    }

    #[test]
    fn disks_that_are_said_keep_the_order_in_which_they_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs_write(&root.join("b/disk.img"));
        fs_write(&root.join("a/block7"));
        let said = format!("{0}/b/disk.img,{0}/a/block7", root.display());
        let mut config = Config::from_env(|key| (key == "V2V_disks").then(|| said.clone()));
        config.work_dir = root.join("scratch");
        let disks = find(&config).unwrap();
        assert_eq!(disks[0].overlay(), root.join("b/disk.img.overlay.qcow2"));
        assert_eq!(disks[1].overlay(), root.join("scratch/block7.overlay.qcow2"));
        config.disks.push(root.join("c/disk.img"));
        assert!(find(&config).is_err());
    }

    fn fs_write(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"x").unwrap();
    }

    #[test]
    fn no_disk_says_where_it_looked() {
        let mut config = Config::from_env(|_| None);
        config.disks_dir = "/nonexistent/disks".into();
        config.block_prefix = "/nonexistent/block".into();
        assert_eq!(
            find(&config).unwrap_err().to_string(),
            "no disk found below /nonexistent/disks and /nonexistent/block*"
        );
    }
}
