//! A program of ours in Go that runs beside a test: it says one line of JSON when it is ready and ends with its input.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, sink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::peers;

/// A running program; ended when dropped, and when the test dies.
pub struct Running {
    child: Child,
    log: PathBuf,
    ready: Value,
}

impl Running {
    /// Starts a program and waits for its line.
    ///
    /// # Panics
    /// Where it ends before; what it printed is in the message.
    pub fn start(program: &Path, args: &[String], env: &[(&str, &str)]) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::launch(program, &name, args, env).unwrap_or_else(|error| panic!("{name} does not come up: {error:#}"))
    }

    fn launch(program: &Path, name: &str, args: &[String], env: &[(&str, &str)]) -> Result<Self> {
        let file = format!("forklift-peer-{name}-{}-{}.log", std::process::id(), peers::free_port()?);
        let log = std::env::temp_dir().join(file);
        let mut child = Command::new(program)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::piped()) // it ends when the pipe closes, however the test ends
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("cannot start it")?;
        let mut out = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let words = || fs::read_to_string(&log).unwrap_or_default();
        let ready = serde_json::from_str(&line).with_context(|| format!("it said {line:?}: {}", words()))?;
        // what it says later goes nowhere, but must not fill the pipe
        std::thread::spawn(move || std::io::copy(&mut out, &mut sink()));
        Ok(Running { child, log, ready })
    }

    /// Returns a text of its line.
    pub fn told(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap_or_default()
    }

    /// Returns its line.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log ---\n{}", self.log());
        }
        drop(self.child.stdin.take()); // it removes its files then
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.log);
    }
}
