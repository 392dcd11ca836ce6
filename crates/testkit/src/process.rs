//! Process trees, as `/proc` shows them.

use std::collections::HashMap;

/// Returns `root` and everything below it, parents first.
pub fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.remove(&found[next]).unwrap_or_default());
        next += 1;
    }
    found
}

/// Kills `root` and everything below it with SIGKILL, as a power cut would.
pub fn kill_tree(root: u32) {
    // children are found anew until none is left: a process may fork while we look
    for _ in 0..5 {
        let pids = tree(root);
        for pid in &pids {
            #[expect(unsafe_code, reason = "kill(2) has no safe wrapper in std")]
            // SAFETY: kill takes no pointers; the pids are descendants of a process that the test started
            unsafe {
                libc::kill(*pid as libc::pid_t, libc::SIGKILL);
            }
        }
        if pids.len() == 1 {
            return;
        }
    }
}

/// Returns the largest resident size a process has had, in KiB.
pub fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// Returns the resident size of a process now, in bytes.
pub fn resident_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Returns the processor time a process has used, user and system, without its children.
pub fn cpu_time(pid: u32) -> Option<std::time::Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every Linux that we run on
    Some(std::time::Duration::from_millis(ticks * 10))
}

/// Returns the command line of a process, spaces between its words.
pub fn command_line(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ").trim().to_owned()
}

fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the command is in parentheses and may hold anything, so the fields are counted after the last one
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
