//! One container of a pod: its declaration, its record on disk, and what of it runs.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;

use crate::kubelet::cgroup::Group;
use crate::kubelet::container::Recipe;
use crate::kubelet::logs;
use crate::kubelet::process::Handle;
use crate::kubelet::running::Running;
use crate::kubelet::state::{Record, Role, State};
use crate::kubelet::status::Waiting;

/// A container of a pod.
pub(super) struct Slot {
    pub role: Role,
    pub container: Container,
    pub record: Record,
    pub handle: Option<Handle>,
    pub running: Option<Arc<Running>>,
    pub group: Option<Group>,
    /// Its probes, hooks and other tasks that end with it.
    pub tasks: Vec<tokio::task::AbortHandle>,
    pub ending: Option<Ending>,
    pub waiting: Option<Waiting>,
    pub retry: Option<Timestamp>,
    /// The start hook has run and the startup probe has succeeded.
    pub hooked: bool,
    pub started: bool,
    /// What the readiness probe says.
    pub ready: bool,
    pub dir: PathBuf,
}

/// An end that has been asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// When the container is killed.
    pub kill_at: Timestamp,
}

impl Slot {
    pub fn new(role: Role, container: Container, dir: PathBuf) -> Self {
        let mut slot = Self {
            role,
            record: Record::load(&dir.join("record.json")),
            container,
            handle: None,
            running: None,
            group: None,
            tasks: Vec::new(),
            ending: None,
            waiting: None,
            retry: None,
            hooked: false,
            started: false,
            ready: false,
            dir,
        };
        slot.reset();
        slot
    }

    /// What holds before anything was asked.
    pub fn reset(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.ending = None;
        self.running = None;
        self.hooked = self.container.lifecycle.as_ref().is_none_or(|hooks| hooks.post_start.is_none());
        self.started = self.container.startup_probe.is_none();
        self.ready = self.container.readiness_probe.is_none();
    }

    pub fn is_running(&self) -> bool {
        matches!(self.record.state, State::Running { .. })
    }

    /// Says whether it runs and has got through its start.
    pub fn is_up(&self) -> bool {
        self.hooked && self.started
    }

    /// The log of one of its runs.
    pub fn log(&self, run: u32) -> PathBuf {
        self.dir.join(format!("{run}.log"))
    }

    pub fn persist(&self) {
        if let Err(error) = self.record.store(&self.dir.join("record.json")) {
            tracing::warn!(%error, container = self.container.name, "container record not written");
        }
    }

    /// Reads the termination message: the file, or the last lines of the log where that is asked.
    pub fn termination_message(&self, run: u32, code: i32) -> Option<String> {
        use std::io::Read;
        let mut text = Vec::new();
        if let Ok(file) = std::fs::File::open(Recipe::termination_log(&self.dir)) {
            // as much as Kubernetes keeps
            let _ = file.take(4096).read_to_end(&mut text);
        }
        if !text.is_empty() {
            return Some(String::from_utf8_lossy(&text).into_owned());
        }
        let from_log = self.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        (from_log && code != 0).then(|| logs::last_words(&self.log(run))).flatten()
    }
}
