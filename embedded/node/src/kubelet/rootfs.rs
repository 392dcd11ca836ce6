//! The file tree that a container sees: the machine's own, with the pod's mounts in place.
//!
//! ```text
//! root/            a skeleton directory of ours
//! ├── usr, etc …   bound from the machine
//! ├── tmp, dev     private
//! └── mnt/         needed a mount point that the machine lacks: a skeleton directory too,
//!     ├── a           whose entries are bound from the machine,
//!     └── disk        and the pod's volume beside them
//! ```
//! All of it is bound inside the container's own mount namespace: nothing shows outside,
//! and nothing is left when its last process ends. What is made here are only empty mount
//! points; [`plan`] says what is bound onto them, in order.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Something to show at a path in the container.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// A directory or file of this machine.
    pub source: PathBuf,
    /// Where the container sees it.
    pub target: PathBuf,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// One step inside the container's mount namespace; paths are the machine's.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Binds a tree.
    Bind {
        /// What to bind.
        source: PathBuf,
        /// Onto what.
        target: PathBuf,
        /// Whether to remount it read-only.
        read_only: bool,
        /// Whether the container cannot do without it.
        required: bool,
    },
    /// Mounts a fresh /proc.
    Proc(PathBuf),
    /// Mounts an empty file system in memory.
    Memory(PathBuf),
}

const DEVICES: [&str; 9] = ["null", "zero", "full", "random", "urandom", "tty", "kvm", "fuse", "loop-control"];

/// Makes the mount points below `root` and lists what is to be mounted.
///
/// With `read_only` the machine's directories cannot be written.
pub fn plan(root: &Path, mounts: &[Mount], read_only: bool) -> io::Result<Vec<Step>> {
    let mut mounts: Vec<Mount> =
        mounts.iter().map(|mount| Mount { target: resolve(&mount.target), ..mount.clone() }).collect();
    mounts.sort_by_key(|mount| mount.target.components().count());

    let mut covered: BTreeSet<PathBuf> = [PathBuf::from("/")].into();
    for (index, mount) in mounts.iter().enumerate() {
        if is_private(&mount.target) || outer(&mounts[..index], &mount.target).is_some() {
            continue;
        }
        let fits = match std::fs::metadata(&mount.target) {
            Ok(found) => found.is_dir() == mount.source.is_dir(),
            Err(_) => false,
        };
        if !fits {
            covered.extend(mount.target.ancestors().skip(1).map(Path::to_owned));
        }
    }

    let mut steps = Vec::new();
    for dir in &covered {
        std::fs::create_dir_all(below(root, dir))?;
        cover(root, dir, &covered, read_only, &mut steps)?;
    }
    private(root, &mut steps)?;
    for (index, mount) in mounts.iter().enumerate() {
        // a mount point inside another volume is made in that volume
        let place = match outer(&mounts[..index], &mount.target) {
            Some((source, rest)) => source.join(rest),
            None => below(root, &mount.target),
        };
        // what is bound from the machine already has the mount point
        if is_private(&mount.target)
            || outer(&mounts[..index], &mount.target).is_some()
            || mount.target.parent().is_some_and(|parent| covered.contains(parent))
        {
            mount_point(&place, mount.source.is_dir())?;
        }
        steps.push(Step::Bind {
            source: mount.source.clone(),
            target: below(root, &mount.target),
            read_only: mount.read_only,
            required: true,
        });
    }
    Ok(steps)
}

/// Binds the machine's entries of a directory into its skeleton.
fn cover(
    root: &Path,
    dir: &Path,
    covered: &BTreeSet<PathBuf>,
    read_only: bool,
    steps: &mut Vec<Step>,
) -> io::Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        if covered.contains(&path) || is_private(&path) || path == Path::new("/proc") {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        let place = below(root, &path);
        if kind.is_symlink() {
            if let Ok(to) = std::fs::read_link(&path)
                && std::fs::symlink_metadata(&place).is_err()
            {
                std::os::unix::fs::symlink(to, &place)?;
            }
            continue;
        }
        mount_point(&place, kind.is_dir())?;
        steps.push(Step::Bind { source: path, target: place, read_only, required: false });
    }
    Ok(())
}

/// Makes the private /dev, /tmp and /proc.
fn private(root: &Path, steps: &mut Vec<Step>) -> io::Result<()> {
    let tmp = root.join("tmp");
    std::fs::create_dir_all(&tmp)?;
    std::fs::set_permissions(&tmp, std::os::unix::fs::PermissionsExt::from_mode(0o1777))?;
    let dev = root.join("dev");
    for device in DEVICES {
        let source = Path::new("/dev").join(device);
        if source.exists() {
            mount_point(&dev.join(device), false)?;
            steps.push(Step::Bind { source, target: dev.join(device), read_only: false, required: false });
        }
    }
    for (link, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        std::fs::create_dir_all(&dev)?;
        if std::fs::symlink_metadata(dev.join(link)).is_err() {
            std::os::unix::fs::symlink(to, dev.join(link))?;
        }
    }
    mount_point(&dev.join("pts"), true)?;
    steps.push(Step::Bind { source: "/dev/pts".into(), target: dev.join("pts"), read_only: false, required: false });
    mount_point(&dev.join("shm"), true)?;
    steps.push(Step::Memory(dev.join("shm")));
    mount_point(&root.join("proc"), true)?;
    steps.push(Step::Proc(root.join("proc")));
    Ok(())
}

fn is_private(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/tmp")
}

/// The volume mounted above a path, and the rest of the path in it.
fn outer<'a>(mounts: &'a [Mount], target: &'a Path) -> Option<(&'a Path, &'a Path)> {
    mounts
        .iter()
        .rev()
        .filter(|mount| mount.target != target)
        .find_map(|mount| Some((mount.source.as_path(), target.strip_prefix(&mount.target).ok()?)))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn mount_point(place: &Path, is_dir: bool) -> io::Result<()> {
    if is_dir {
        return std::fs::create_dir_all(place);
    }
    if let Some(parent) = place.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if std::fs::symlink_metadata(place).is_err() {
        std::fs::File::create(place)?;
    }
    Ok(())
}

/// Resolves `.`, `..` and the links of what exists of a path, so that /var/run/x is /run/x.
fn resolve(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    if is_private(&clean) {
        return clean;
    }
    let mut rest: Vec<OsString> = Vec::new();
    let mut existing = clean.clone();
    loop {
        if let Ok(real) = existing.canonicalize() {
            return rest.iter().rev().fold(real, |path, name| path.join(name));
        }
        let Some(name) = existing.file_name().map(ToOwned::to_owned) else { return clean };
        rest.push(name);
        existing.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(steps: &[Step], root: &Path) -> Vec<String> {
        steps
            .iter()
            .map(|step| match step {
                Step::Bind { target, .. } | Step::Proc(target) | Step::Memory(target) => target,
            })
            .map(|target| format!("/{}", target.strip_prefix(root).unwrap_or(target).display()))
            .collect()
    }

    #[test]
    fn missing_mount_points_are_made_in_the_skeleton_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let (root, data) = (dir.path().join("root"), dir.path().join("data"));
        std::fs::create_dir_all(&data).expect("made");
        std::fs::write(data.join("disk"), b"x").expect("made");
        let mount = |source: PathBuf, target: &str| Mount { source, target: target.into(), read_only: false };
        let steps = plan(
            &root,
            &[
                mount(data.join("disk"), "/dev/block"),
                mount(data.clone(), "/no-such-dir/deep/disk"),
                mount(data.clone(), "/usr/no-such-dir"),
                mount(data.clone(), "/var/run"),
                mount(data.clone(), "/no-such-dir/deep/disk/inner"),
            ],
            false,
        )
        .expect("a plan");
        let all = targets(&steps, &root);
        for expected in
            ["/etc", "/usr/bin", "/usr/no-such-dir", "/no-such-dir/deep/disk", "/dev/block", "/dev/null", "/proc"]
        {
            assert!(all.iter().any(|target| target == expected), "{expected} in {all:?}");
        }
        assert!(!all.iter().any(|target| target == "/usr" || target == "/tmp"), "{all:?}");
        assert_eq!(all.last().map(String::as_str), Some("/no-such-dir/deep/disk/inner"));
        assert!(data.join("inner").is_dir(), "made in the outer volume");
        assert!(root.join("dev/block").is_file());
        assert!(!Path::new("/usr/no-such-dir").exists() && !Path::new("/no-such-dir").exists());
    }
}
