//! The containers that run: what probes, hooks, exec and attach have to know of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::cgroup::Group;
use super::logs::Chunk;
use super::process::{self, Beside, Credentials, Launch, LaunchError, Process, Terminal};

/// As much of what a hook or an exec probe prints as is kept.
const SAID: u64 = 10 << 10;
/// What was printed and not read yet by who attached.
const BUFFERED: usize = 1024;
/// How long output may come after a program's end.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

/// A running container. It does not keep its process alive.
#[derive(Debug)]
pub struct Running {
    /// Its process id.
    pub pid: u32,
    env: Vec<(String, String)>,
    cwd: PathBuf,
    credentials: Credentials,
    inside: bool,
    user_namespace: bool,
    group: Option<Group>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input ends with the first who attached.
    pub stdin_once: bool,
    /// Its input, where it was asked for; one session at a time writes to it.
    pub input: tokio::sync::Mutex<Option<pipe::Sender>>,
    /// Its terminal.
    pub terminal: Option<Terminal>,
    /// What it prints from now on.
    pub output: broadcast::Sender<Chunk>,
    /// It has ended, and all that it printed has been passed on.
    pub done: CancellationToken,
}

impl Running {
    /// Takes note of a started container.
    pub fn new(launch: &Launch, process: &mut Process, stdin_once: bool) -> Self {
        Self {
            pid: process.pid,
            env: launch.env.clone(),
            cwd: launch.cwd.clone(),
            credentials: launch.credentials.clone(),
            inside: launch.root.is_some(),
            user_namespace: launch.user_namespace && launch.root.is_some(),
            group: launch.group.clone(),
            tty: launch.tty,
            stdin_once,
            input: tokio::sync::Mutex::new(process.input.take()),
            terminal: process.terminal.clone(),
            output: broadcast::channel(BUFFERED).0,
            done: CancellationToken::new(),
        }
    }

    /// A program to be run in the container.
    pub fn beside(&self, argv: Vec<String>, stdin: bool, tty: bool) -> Beside {
        let mut env = self.env.clone();
        if tty && !env.iter().any(|(name, _)| name == "TERM") {
            env.push(("TERM".into(), "xterm".into()));
        }
        Beside {
            argv,
            env,
            cwd: self.cwd.clone(),
            credentials: self.credentials.clone(),
            inside: self.inside.then_some(self.pid),
            user_namespace: self.user_namespace,
            stdin,
            tty,
            group: self.group.clone(),
        }
    }

    /// Runs a program in the container to its end: its exit code and what it printed. Dropping the future kills it.
    pub async fn execute(&self, argv: Vec<String>) -> Result<(i32, String), LaunchError> {
        let process = process::start_beside(self.beside(argv, false, false)).await?;
        let Process { out, err, end, handle, .. } = process;
        let (mut said, mut errors) = (Vec::new(), Vec::new());
        let mut end = end;
        let code = {
            let reading = async {
                let err = async {
                    if let Some(err) = err {
                        read_some(err, &mut errors).await;
                    }
                };
                tokio::join!(read_some(out, &mut said), err);
            };
            tokio::pin!(reading);
            tokio::select! {
                code = &mut end => {
                    // a program that it left behind may hold the pipes open
                    let _ = tokio::time::timeout(LAST_WORDS, &mut reading).await;
                    code
                }
                () = &mut reading => end.await,
            }
        };
        drop(handle);
        said.extend(errors);
        Ok((code.unwrap_or(255), String::from_utf8_lossy(&said).into_owned()))
    }
}

async fn read_some(mut from: pipe::Receiver, into: &mut Vec<u8>) {
    // a stream that breaks has ended
    let _ = (&mut from).take(SAID).read_to_end(into).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
}

/// All running containers of the node, by pod uid and container name.
#[derive(Debug, Default)]
pub struct Table(Mutex<HashMap<(String, String), Arc<Running>>>);

impl Table {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Arc<Running>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Notes a start.
    pub fn insert(&self, uid: &str, container: &str, running: Arc<Running>) {
        self.lock().insert((uid.into(), container.into()), running);
    }

    /// Notes an end.
    pub fn remove(&self, uid: &str, container: &str) {
        if let Some(running) = self.lock().remove(&(uid.to_owned(), container.to_owned())) {
            running.done.cancel();
        }
    }

    /// Finds a running container.
    pub fn get(&self, uid: &str, container: &str) -> Option<Arc<Running>> {
        self.lock().get(&(uid.to_owned(), container.to_owned())).cloned()
    }
}
