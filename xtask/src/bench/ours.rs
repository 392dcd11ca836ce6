//! Our whole stack as it is released, in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use forklift_testkit::process;

/// How long a stack may take to come up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Our stack in a folder of its own; ended when dropped.
pub struct Ours {
    child: Child,
    folder: PathBuf,
    /// From the program's start to ready.
    pub ready_after: Duration,
}

impl Ours {
    /// Starts the program with its state in `folder` and waits until it is ready.
    ///
    /// # Errors
    /// Where it ends, or is not ready within a minute; with its log.
    pub fn start(program: &Path, folder: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let ready = folder.join("ready");
        let log = std::fs::File::create(folder.join("log"))?;
        let begin = Instant::now();
        let child = Command::new(program)
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut ours = Self { child, folder, ready_after: Duration::ZERO };
        while !ready.exists() {
            if let Some(status) = ours.child.try_wait()? {
                bail!("forklift up ended with {status}: {}", ours.log());
            }
            ensure!(begin.elapsed() < PATIENCE, "forklift up is not ready within {PATIENCE:?}: {}", ours.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        ours.ready_after = begin.elapsed();
        Ok(ours)
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Returns the address of its API server.
    ///
    /// # Errors
    /// Where the file that says so is gone.
    pub fn url(&self) -> Result<String> {
        std::fs::read_to_string(self.folder.join("ready")).context("cannot read the ready file")
    }

    /// Returns the address of its inventory.
    ///
    /// # Errors
    /// Where the file that says so is gone.
    pub fn inventory(&self) -> Result<String> {
        let file = self.folder.join("data/inventory.listen");
        let address = std::fs::read_to_string(file).context("cannot read the inventory's address")?;
        Ok(format!("https://{}", address.trim()))
    }

    /// Returns the administrator's token.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn token(&self) -> Result<String> {
        let file = self.folder.join("data/apiserver/admin.token");
        Ok(std::fs::read_to_string(file).context("cannot read the administrator's token")?.trim().to_owned())
    }

    /// Returns the certificate of its authority.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("data/apiserver/ca.crt")
    }

    /// Returns its kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("data/kubeconfig")
    }

    /// Returns it and all that it has started.
    pub fn pids(&self) -> Vec<u32> {
        process::tree(self.child.id())
    }

    /// Returns the resident memory of all of them, in bytes.
    pub fn resident(&self) -> u64 {
        self.pids().into_iter().filter_map(process::resident_memory).sum()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // SIGTERM by the shell's own tool: std can only kill
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(20) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
