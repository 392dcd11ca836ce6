//! Resource limits by control groups, version 1 and 2, where this process may make groups below its own.
//!
//! ```text
//! <the node's own group>/embedded-node-<hash of the data directory>/<pod uid>.<container>
//! ```
//! Version 1 has a tree for each controller, version 2 one for all; a group of ours is a list of directories, one a tree.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;

use crate::quantity;

/// Most processes that a container with limits may have: a fork bomb stops there.
const MOST_PROCESSES: u64 = 32_768;
/// The period in which a share of CPU time is counted, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// The trees in which groups can be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Groups {
    trees: Vec<Tree>,
}

#[derive(Clone, Debug, PartialEq)]
struct Tree {
    dir: PathBuf,
    version: Version,
    controllers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// CPUs.
    pub cpu: Option<f64>,
    /// The share of CPU time when there is not enough: 1024 for one CPU.
    pub shares: Option<u64>,
}

impl Limits {
    /// Reads a container's limits and its request of CPU time.
    pub fn of(container: &Container) -> Self {
        let resources = container.resources.clone().unwrap_or_default();
        let limit = |name: &str| resources.limits.as_ref()?.get(name).and_then(|value| quantity::parse(&value.0));
        let request = |name: &str| resources.requests.as_ref()?.get(name).and_then(|value| quantity::parse(&value.0));
        let positive = |value: &f64| *value > 0.0;
        Self {
            memory: limit("memory").filter(positive).map(|bytes| bytes.ceil() as u64),
            cpu: limit("cpu").filter(positive),
            shares: request("cpu").filter(positive).map(|cpus| ((cpus * 1024.0) as u64).max(2)),
        }
    }

    /// Says whether something has to be enforced.
    pub fn bind(&self) -> bool {
        self.memory.is_some() || self.cpu.is_some()
    }
}

/// The group of one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    dirs: Vec<(PathBuf, Version)>,
}

impl Groups {
    /// Looks for the trees in which this process can make groups, and makes one for the node. What an earlier node with
    /// this data directory left is removed.
    pub fn find(data_dir: &Path) -> Self {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let name = format!("embedded-node-{}", crate::events::short_hash(&data_dir.display().to_string()));
        // whoever looks for what is left finds the name here
        if let Err(error) = std::fs::write(data_dir.join("cgroup"), &name) {
            tracing::debug!(%error, "the name of the control group is not written");
        }
        let mut trees = Vec::new();
        for (parent, version, controllers) in places(&own, &mounts) {
            let dir = parent.join(&name);
            if version == Version::Two && !delegate(&parent, &controllers) {
                continue;
            }
            match std::fs::create_dir(&dir) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => continue,
                _ => {}
            }
            if version == Version::Two && !delegate(&dir, &controllers) {
                let _ = std::fs::remove_dir(&dir);
                continue;
            }
            for left in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                if left.path().is_dir() {
                    remove(&left.path());
                }
            }
            trees.push(Tree { dir, version, controllers });
        }
        Self { trees }
    }

    /// Says whether memory and CPU time can be limited here.
    pub fn usable(&self) -> bool {
        let has = |wanted: &str| self.trees.iter().any(|tree| tree.controllers.iter().any(|known| known == wanted));
        has("memory") && has("cpu")
    }

    /// Makes the group of a container's run.
    pub fn make(&self, name: &str, limits: &Limits) -> std::io::Result<Group> {
        let mut group = Group { dirs: Vec::new() };
        for tree in &self.trees {
            let dir = tree.dir.join(name);
            // counts of an earlier run must not be taken for this one's
            remove(&dir);
            std::fs::create_dir(&dir)?;
            group.dirs.push((dir.clone(), tree.version));
            for (file, value) in settings(tree.version, &tree.controllers, limits) {
                match std::fs::write(dir.join(file), &value) {
                    Ok(()) => {}
                    // without swap accounting
                    Err(_) if file.starts_with("memory.memsw") || file == "memory.swap.max" => {}
                    Err(error) => {
                        group.remove();
                        return Err(std::io::Error::new(
                            error.kind(),
                            format!("cannot write {value} to {}/{file}: {error}", dir.display()),
                        ));
                    }
                }
            }
        }
        Ok(group)
    }

    /// Removes the node's own groups.
    pub fn remove(&self) {
        for tree in &self.trees {
            for left in std::fs::read_dir(&tree.dir).into_iter().flatten().flatten() {
                if left.path().is_dir() {
                    remove(&left.path());
                }
            }
            remove(&tree.dir);
        }
    }
}

impl Group {
    /// Takes a process in.
    pub fn take_in(&self, pid: u32) -> std::io::Result<()> {
        self.dirs.iter().try_for_each(|(dir, _)| std::fs::write(dir.join("cgroup.procs"), pid.to_string()))
    }

    /// Says whether the kernel has killed a process of the group because its memory ran out.
    pub fn out_of_memory(&self) -> bool {
        self.dirs.iter().any(|(dir, version)| {
            let file = if *version == Version::One { "memory.oom_control" } else { "memory.events" };
            let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
            text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
        })
    }

    /// Removes the group, which has no process any more.
    pub fn remove(&self) {
        for (dir, _) in &self.dirs {
            remove(dir);
        }
    }
}

/// How often and after how long a busy group is tried again: the kernel keeps one a little longer than its last process,
/// and a probe's command may just be ending in it.
const AGAIN: (u32, Duration) = (600, Duration::from_millis(100));

fn remove(dir: &Path) {
    let busy = |dir: &Path| match std::fs::remove_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => true,
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::debug!(%error, dir = %dir.display(), "control group not removed");
            false
        }
        _ => false,
    };
    if busy(dir) {
        let dir = dir.to_owned();
        std::thread::spawn(move || {
            for _ in 0..AGAIN.0 {
                std::thread::sleep(AGAIN.1);
                if !busy(&dir) {
                    return;
                }
            }
            tracing::warn!(dir = %dir.display(), "a control group stays busy and is left until the next start");
        });
    }
}

/// The directories of this process's own groups: tree, version, controllers.
fn places(own: &str, mounts: &str) -> Vec<(PathBuf, Version, Vec<String>)> {
    let mut places = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let wanted: Vec<String> =
            names.split(',').filter(|name| matches!(*name, "memory" | "cpu" | "pids")).map(str::to_owned).collect();
        let found = mounts.lines().find_map(|mount| {
            let (before, after) = mount.split_once(" - ")?;
            let kind: Vec<&str> = after.split(' ').collect();
            let fits = if names.is_empty() {
                kind.first() == Some(&"cgroup2")
            } else {
                kind.first() == Some(&"cgroup")
                    && !wanted.is_empty()
                    && wanted.iter().all(|name| kind.last().is_some_and(|all| all.split(',').any(|one| one == name)))
            };
            // the fourth field is which part of the tree is mounted, the fifth where
            let mut parts = before.split(' ').skip(3);
            let (root, point) = (parts.next()?, parts.next()?);
            let below = if root == "/" { path } else { path.strip_prefix(root)? };
            fits.then(|| Path::new(point).join(below.trim_start_matches('/')))
        });
        let Some(dir) = found else { continue };
        if names.is_empty() {
            let offered = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            let names: Vec<String> = offered
                .split_whitespace()
                .filter(|name| matches!(*name, "memory" | "cpu" | "pids"))
                .map(str::to_owned)
                .collect();
            if !names.is_empty() {
                places.push((dir, Version::Two, names));
            }
        } else {
            places.push((dir, Version::One, wanted));
        }
    }
    places
}

/// Lets the groups below a version 2 group use controllers; refused where the group itself has processes.
fn delegate(dir: &Path, controllers: &[String]) -> bool {
    let text: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    std::fs::write(dir.join("cgroup.subtree_control"), text.join(" ")).is_ok()
}

/// The files of a group and what is written to them.
fn settings(version: Version, controllers: &[String], limits: &Limits) -> Vec<(&'static str, String)> {
    let has = |wanted: &str| controllers.iter().any(|known| known == wanted);
    let mut list = Vec::new();
    let quota = limits.cpu.map(|cpus| ((cpus * PERIOD as f64) as u64).max(1000));
    if has("memory")
        && let Some(bytes) = limits.memory
    {
        match version {
            Version::One => {
                list.push(("memory.limit_in_bytes", bytes.to_string()));
                list.push(("memory.memsw.limit_in_bytes", bytes.to_string()));
            }
            Version::Two => {
                list.push(("memory.max", bytes.to_string()));
                list.push(("memory.swap.max", "0".into()));
            }
        }
    }
    if has("cpu") {
        match version {
            Version::One => {
                list.extend(limits.shares.map(|shares| ("cpu.shares", shares.to_string())));
                list.extend(quota.map(|quota| ("cpu.cfs_quota_us", quota.to_string())));
            }
            Version::Two => {
                // the kernel's weight goes from 1 to 10000, shares from 2 to 262144
                let weight = limits.shares.map(|shares| 1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142);
                list.extend(weight.map(|weight| ("cpu.weight", weight.to_string())));
                list.extend(quota.map(|quota| ("cpu.max", format!("{quota} {PERIOD}"))));
            }
        }
    }
    if has("pids") {
        list.push(("pids.max", MOST_PROCESSES.to_string()));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_groups_are_found_in_both_versions() {
        let mounts = "25 24 0:22 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      26 24 0:23 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
        let own = "4:memory:/a/b\n3:cpu,cpuacct:/docker/x/y\n2:freezer:/\n0::/\n";
        let found: Vec<(String, Vec<String>)> =
            places(own, mounts).into_iter().map(|(dir, _, names)| (dir.display().to_string(), names)).collect();
        assert_eq!(
            found,
            [
                ("/sys/fs/cgroup/memory/a/b".to_owned(), vec!["memory".to_owned()]),
                ("/sys/fs/cgroup/cpu,cpuacct/y".to_owned(), vec!["cpu".to_owned()]),
            ]
        );
    }

    #[test]
    fn limits_are_written_as_each_version_wants_them() {
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"cpu": "250m"}}}))
        .expect("a container");
        let limits = Limits::of(&container);
        let all = ["memory".to_owned(), "cpu".to_owned(), "pids".to_owned()];
        let text = |version| {
            let lines: Vec<String> =
                settings(version, &all, &limits).into_iter().map(|(file, value)| format!("{file}={value}")).collect();
            lines.join(" ")
        };
        assert_eq!(
            text(Version::One),
            "memory.limit_in_bytes=67108864 memory.memsw.limit_in_bytes=67108864 cpu.shares=256 \
             cpu.cfs_quota_us=50000 pids.max=32768"
        );
        assert_eq!(
            text(Version::Two),
            "memory.max=67108864 memory.swap.max=0 cpu.weight=10 cpu.max=50000 100000 pids.max=32768"
        );
    }
}
