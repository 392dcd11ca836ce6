//! One watcher for each running QEMU: halted or not, and what its guest agent says.
//!
//! QEMU tells of changes on its second control socket (`events.sock`); the first stays free for commands.
//! A watcher ends with its QEMU.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::agent::{self, Report};
use super::qmp;

/// How often a connected agent is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often a socket is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What is known of a guest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Guest {
    /// QEMU's word for how it is: `running`, `paused`, `prelaunch`, `io-error` … Empty: not known yet.
    pub state: String,
    /// What its agent said last; none: it has no agent that listens.
    pub agent: Option<Arc<Report>>,
}

impl Guest {
    /// Whether its processors are halted, and KubeVirt's reason for it.
    pub fn paused(&self) -> Option<(&'static str, &'static str)> {
        match self.state.as_str() {
            "paused" | "prelaunch" => Some(("PausedByUser", "VMI was paused by user")),
            "io-error" => Some(("PausedIOError", "VMI was paused, IO error")),
            "watchdog" => Some(("PausedByWatchdog", "VMI was paused by its watchdog")),
            _ => None,
        }
    }
}

struct Entry {
    dir: PathBuf,
    guest: Arc<Mutex<Guest>>,
    task: JoinHandle<()>,
}

/// All watchers, by the instance's uid.
pub struct Monitors {
    entries: Mutex<HashMap<String, Entry>>,
    changed: watch::Sender<u64>,
}

impl Default for Monitors {
    fn default() -> Self {
        Self { entries: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        let entries = self.entries.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.values().for_each(|entry| entry.task.abort());
    }
}

impl Monitors {
    /// Counts changes of guests.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Watches an instance whose sockets are in a directory; returns what is known.
    pub fn watch(&self, uid: &str, dir: &Path) -> Guest {
        let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let entry = entries.entry(uid.to_owned()).or_insert_with(|| {
            let guest = Arc::new(Mutex::new(Guest::default()));
            let task = tokio::spawn(follow(dir.to_owned(), guest.clone(), self.changed.clone()));
            Entry { dir: dir.to_owned(), guest, task }
        });
        entry.guest.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }

    /// The directory of the sockets of an instance that runs, and what is known of it.
    pub fn find(&self, uid: &str) -> Option<(PathBuf, Guest)> {
        let entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let entry = entries.get(uid)?;
        let guest = entry.guest.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        Some((entry.dir.clone(), guest))
    }

    /// Lets go of instances that do not run any more.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        entries.retain(|uid, entry| {
            let keep = keep(uid);
            if !keep {
                entry.task.abort();
            }
            keep
        });
    }
}

async fn follow(dir: PathBuf, guest: Arc<Mutex<Guest>>, changed: watch::Sender<u64>) {
    let set = |change: &dyn Fn(&mut Guest)| {
        let mut guest = guest.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before = guest.clone();
        change(&mut guest);
        if *guest != before {
            changed.send_modify(|count| *count += 1);
        }
    };
    let stream = loop {
        match qmp::connect(&dir.join("events.sock")).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    };
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    for command in ["qmp_capabilities", "query-status", "query-chardev"] {
        if write.write_all(format!("{}\n", json!({"execute": command})).as_bytes()).await.is_err() {
            return;
        }
    }
    let socket = dir.join("agent.sock");
    let mut open = false;
    let mut ask_at = tokio::time::Instant::now();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line,
            () = tokio::time::sleep_until(ask_at), if open => {
                match agent::report(&socket).await {
                    Ok(report) => {
                        let report = Arc::new(report);
                        set(&|guest| guest.agent = Some(report.clone()));
                    }
                    Err(error) => tracing::debug!(%error, "no word from a guest agent"),
                }
                ask_at = tokio::time::Instant::now() + ASK_AGAIN;
                continue;
            }
        };
        let Ok(Some(line)) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
        let now_open = match message.get("event").and_then(Value::as_str) {
            // whatever the reason: QEMU says how it is now
            Some("STOP" | "RESUME" | "BLOCK_IO_ERROR" | "WATCHDOG" | "RESET") => {
                if write.write_all(b"{\"execute\": \"query-status\"}\n").await.is_err() {
                    return;
                }
                None
            }
            Some("VSERPORT_CHANGE") if message.pointer("/data/id").and_then(Value::as_str) == Some("agent") => {
                message.pointer("/data/open").and_then(Value::as_bool)
            }
            Some(_) => None,
            None => {
                if let Some(state) = message.pointer("/return/status").and_then(Value::as_str) {
                    set(&|guest| state.clone_into(&mut guest.state));
                }
                let ports = message.get("return").and_then(Value::as_array).into_iter().flatten();
                let mut ports = ports.filter(|port| port.get("label").and_then(Value::as_str) == Some("agent"));
                ports.find_map(|port| port.get("frontend-open")?.as_bool())
            }
        };
        if let Some(now_open) = now_open {
            open = now_open;
            ask_at = tokio::time::Instant::now();
            if !open {
                set(&|guest| guest.agent = None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn a_watcher_hears_of_pauses_and_of_the_agent() {
        let dir = tempfile::tempdir().expect("a directory");
        let monitors = Monitors::default();
        let mut changes = monitors.changes();
        assert_eq!(monitors.watch("u", dir.path()), Guest::default());
        let agent = super::super::agent::tests::fake(&dir.path().join("agent.sock"));
        let listener = UnixListener::bind(dir.path().join("events.sock")).expect("a socket");
        let (mut qemu, _) = listener.accept().await.expect("a watcher");
        // QEMU's side: who reads is of no matter here
        let mut asked = vec![0; 4096];
        let _ = qemu.read(&mut asked).await.expect("commands");
        let say = [
            json!({"return": {}}),
            json!({"return": {"running": true, "status": "running"}}),
            json!({"return": [{"label": "serial0", "frontend-open": true}, {"label": "agent", "frontend-open": false}]}),
            json!({"event": "VSERPORT_CHANGE", "data": {"open": true, "id": "agent"}}),
        ];
        for line in say {
            qemu.write_all(format!("{line}\n").as_bytes()).await.expect("said");
        }
        let known = async |wanted: &dyn Fn(&Guest) -> bool, changes: &mut watch::Receiver<u64>| loop {
            let guest = monitors.find("u").expect("watched").1;
            if wanted(&guest) {
                return guest;
            }
            tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.expect("in time").expect("changed");
        };
        let guest = known(&|guest| guest.agent.is_some(), &mut changes).await;
        assert_eq!(guest.agent.expect("an agent").version, "7.2.0");
        assert_eq!(guest.state, "running");
        qemu.write_all(b"{\"event\": \"STOP\"}\n{\"return\": {\"running\": false, \"status\": \"paused\"}}\n")
            .await
            .expect("said");
        let guest = known(&|guest| guest.paused().is_some(), &mut changes).await;
        assert_eq!(guest.paused().expect("paused").0, "PausedByUser");
        qemu.write_all(b"{\"event\": \"VSERPORT_CHANGE\", \"data\": {\"open\": false, \"id\": \"agent\"}}\n")
            .await
            .expect("said");
        known(&|guest| guest.agent.is_none(), &mut changes).await;
        monitors.retain(|_| false);
        assert!(monitors.find("u").is_none());
        agent.abort();
    }
}
