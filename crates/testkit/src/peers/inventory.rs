//! Bench peers of the inventory, both in Go: a program that loads a vCenter with govmomi and keeps what it read, and one
//! that answers prepared JSON with net/http.

use std::path::Path;
use std::time::Duration;

use crate::peers::running::Running;
use crate::peers::vcenter::Vcenter;
use crate::{peers, process};

/// A govmomi client that has loaded a whole vCenter, keeps it in memory and follows its changes.
pub struct Govload(Running);

impl Govload {
    /// Starts it and waits until the whole inventory is loaded; nothing where it cannot be built.
    ///
    /// # Panics
    /// Where it cannot load the inventory.
    pub fn start(vcenter: &Vcenter) -> Option<Self> {
        let program = peers::go("vcsim", "govload")?;
        let args = [format!("-url={}", vcenter.url()), format!("-user={}", vcenter.user())];
        Some(Govload(Running::start(&program, &args, &[("GOVLOAD_PASSWORD", vcenter.password())])))
    }

    /// Returns the time from the login to the last object.
    pub fn took(&self) -> Duration {
        Duration::try_from_secs_f64(self.0.ready()["seconds"].as_f64().unwrap_or(0.0)).unwrap_or_default()
    }

    /// Returns how many objects it keeps.
    pub fn objects(&self) -> u64 {
        self.0.ready()["objects"].as_u64().unwrap_or(0)
    }

    /// Returns its resident memory in bytes after the load, garbage collected and given back.
    pub fn resident(&self) -> u64 {
        self.0.ready()["rss"].as_u64().unwrap_or(0)
    }

    /// Returns the most memory it had resident during the load, in bytes.
    pub fn peak(&self) -> u64 {
        self.0.ready()["peak"].as_u64().unwrap_or(0)
    }

    /// Returns the processor time it has used so far.
    pub fn cpu(&self) -> Duration {
        process::cpu_time(self.0.pid()).unwrap_or_default()
    }
}

/// A Go server that answers `GET …/vms/{id}` and `GET …/vms?detail=4` with prepared JSON over plain HTTP.
pub struct Jsonserve(Running);

impl Jsonserve {
    /// Starts it with a file that holds a JSON list of objects with an `id` each; nothing where it cannot be built.
    ///
    /// # Panics
    /// Where the file is no such list.
    pub fn start(list: &Path) -> Option<Self> {
        let program = peers::go("vcsim", "jsonserve")?;
        Some(Jsonserve(Running::start(&program, &[format!("-file={}", list.display())], &[])))
    }

    /// Returns its address, `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.0.told("address")
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }
}
