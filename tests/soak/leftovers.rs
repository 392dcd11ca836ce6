//! What there is: objects, processes, files, mounts, control groups, descriptors.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use forklift_testkit::stack::Stack;
use forklift_testkit::wait_for;

/// Kinds whose objects a round makes, itself or through a controller.
const KINDS: &str = "namespaces,pods,jobs,services,endpointslices,configmaps,secrets,persistentvolumeclaims,\
                     persistentvolumes,virtualmachines,virtualmachineinstances,events,leases";
/// Descriptors and threads that come and go with connections and pools.
const SLACK: usize = 24;

/// Everything that could be left behind.
pub struct Snapshot {
    things: BTreeSet<String>,
    descriptors: usize,
    threads: usize,
}

impl Snapshot {
    /// Looks at the stack and the machine.
    pub fn take(stack: &Stack) -> Self {
        let mut things = BTreeSet::new();
        let names = "jsonpath={range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{\"\\n\"}{end}";
        for object in stack.kubectl(&["get", KINDS, "-A", "-o", names]).lines() {
            // news about what stays, such as the node, come and go
            if !object.starts_with("Event/default/") && !object.starts_with("Event/konveyor-forklift/") {
                things.insert(format!("object {object}"));
            }
        }
        things.extend(descendants(stack.pid()).into_iter().map(|process| format!("process {process}")));
        things.extend(mounts(&stack.data()).into_iter().map(|mount| format!("mount {mount}")));
        for dir in ["node/pods", "node/volumes"] {
            for entry in std::fs::read_dir(stack.data().join(dir)).into_iter().flatten().flatten() {
                things.insert(format!("file {}", entry.path().display()));
            }
        }
        for group in control_groups(&stack.data()) {
            for entry in std::fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir())
            {
                things.insert(format!("control group {}", entry.path().display()));
            }
        }
        things.extend(listeners(stack.pid()).into_iter().map(|address| format!("listener {address}")));
        let count = |dir: &str| std::fs::read_dir(format!("/proc/{}/{dir}", stack.pid())).map_or(0, |all| all.count());
        Self { things, descriptors: count("fd"), threads: count("task") }
    }

    /// What there is here that was not there before.
    pub fn beyond(&self, before: &Self) -> Vec<String> {
        let mut left: Vec<String> = self.things.difference(&before.things).cloned().collect();
        for (name, now, then) in
            [("descriptors", self.descriptors, before.descriptors), ("threads", self.threads, before.threads)]
        {
            if now > then + SLACK {
                left.push(format!("{now} {name}, {then} before"));
            }
        }
        left
    }
}

/// Bytes of memory that a process has.
pub fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

/// All processes below one.
fn descendants(pid: u32) -> Vec<String> {
    let processes: Vec<(u32, u32, String)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (name, rest) = stat.rsplit_once(") ")?;
            Some((id, rest.split(' ').nth(1)?.parse().ok()?, name.split_once('(')?.1.to_owned()))
        })
        .collect();
    let mut family = vec![pid];
    let mut names = Vec::new();
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        for (id, _, name) in processes.iter().filter(|(_, of, _)| *of == parent) {
            family.push(*id);
            names.push(format!("{name} ({id})"));
        }
        next += 1;
    }
    names
}

/// Mount points below a folder.
pub fn mounts(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| Path::new(point).starts_with(folder)).map(str::to_owned).collect()
}

/// The node's own control groups: those whose name ends in the hash of its folder are found by what is in them.
pub fn control_groups(data: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with("embedded-node-") {
                found.push(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), depth - 1, found);
            }
        }
    }
    let name = std::fs::read_to_string(data.join("node/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 4, &mut found);
    found.retain(|path| !name.is_empty() && path.file_name().is_some_and(|found| *found == *name.trim()));
    found
}

/// Addresses on which a process listens.
fn listeners(pid: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let sockets: BTreeSet<String> = links
        .filter_map(|entry| {
            let link = std::fs::read_link(entry.path()).ok()?;
            Some(link.to_str()?.strip_prefix("socket:[")?.trim_end_matches(']').to_owned())
        })
        .collect();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.get(3) == Some(&"0A") && row.get(9).is_some_and(|inode| sockets.contains(*inode)))
        .filter_map(|row| row.get(1).map(|address| (*address).to_owned()))
        .collect()
}

/// Ends the stack as a user does, and waits for it.
pub fn stop(stack: &mut Stack) {
    let pid = stack.pid();
    let status = std::process::Command::new("kill").arg(pid.to_string()).status().expect("kill is there");
    assert!(status.success());
    wait_for("the stack has ended", Duration::from_secs(60), || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // not reaped yet is ended as well
        if stat.is_empty() || stat.contains(") Z ") { Ok(()) } else { Err(stat) }
    });
    stack.kill();
}
