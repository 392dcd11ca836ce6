//! One container as a process: started in its own namespaces, watched, ended.
//!
//! A thread per container starts the process and waits for it: the parent-death signal and
//! the PID namespace for children are properties of a thread, so that thread has to live as
//! long as the process. When the node dies in whatever way, the kernel kills the process,
//! and as it is the first of its PID namespace, everything below it.

mod credentials;
mod spawn;
mod tree;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use rustix::thread::ThreadNameSpaceType as Space;
use thiserror::Error;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::cgroup::Group;
use super::rootfs::Step;
pub use credentials::{Credentials, CredentialsError};
use spawn::{Action, Failure, Order};

/// Which namespaces containers get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// None: the machine's file tree and processes are seen as they are.
    None,
    /// Mounts, process ids, host name.
    Namespaces,
    /// The same below a user namespace of their own: what a plain user may have.
    UserNamespace,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// The working directory, as the container sees it.
    pub cwd: PathBuf,
    /// The host name inside.
    pub hostname: String,
    /// The file tree; none: the machine's own, and no namespaces.
    pub root: Option<Root>,
    /// As whom it runs.
    pub credentials: Credentials,
    /// Whether it has a user namespace of its own.
    pub user_namespace: bool,
    /// Whether its input is kept open for who attaches.
    pub stdin: bool,
    /// Whether input and output are a terminal.
    pub tty: bool,
    /// The control group with its limits.
    pub group: Option<Group>,
}

/// The file tree of a container.
#[derive(Clone, Debug)]
pub struct Root {
    /// The skeleton.
    pub path: PathBuf,
    /// What is mounted into it.
    pub steps: Vec<Step>,
    /// Whether only volumes can be written.
    pub read_only: bool,
}

/// A program beside a container's own, in its namespaces.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The environment of the container.
    pub env: Vec<(String, String)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// As whom it runs.
    pub credentials: Credentials,
    /// The container's first process, where it has namespaces of its own.
    pub inside: Option<u32>,
    /// Whether a user namespace is among them.
    pub user_namespace: bool,
    /// Whether it reads an input.
    pub stdin: bool,
    /// Whether input and output are a terminal.
    pub tty: bool,
    /// The container's control group.
    pub group: Option<Group>,
}

/// Why a container could not be started.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// No program to run.
    #[error("no command: the image has no entry point and the container gives no command")]
    NoCommand,
    /// The file tree could not be built.
    #[error("cannot prepare the container: {step}")]
    Prepare {
        /// What was tried.
        step: String,
        /// Why not.
        source: io::Error,
    },
    /// The program could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
}

/// A started process.
#[derive(Debug)]
pub struct Process {
    /// Its process id on this machine.
    pub pid: u32,
    /// Its start time in clock ticks since boot.
    pub ticks: u64,
    /// What it prints.
    pub out: pipe::Receiver,
    /// What it prints on its error stream; a terminal has one stream.
    pub err: Option<pipe::Receiver>,
    /// What it reads.
    pub input: Option<pipe::Sender>,
    /// Its terminal.
    pub terminal: Option<Terminal>,
    /// Its exit code, 128 + signal when a signal ended it.
    pub end: oneshot::Receiver<i32>,
    /// Sends signals.
    pub handle: Handle,
}

/// Sends signals to a process for as long as it is that process.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// None once the process has been reaped: its id may then be somebody else's.
    pid: Mutex<Option<Pid>>,
}

impl Drop for Inner {
    /// The node lets go of a container only together with its process.
    fn drop(&mut self) {
        self.signal_all(Signal::KILL);
    }
}

impl Inner {
    fn signal_all(&self, signal: Signal) {
        let pid = self.pid.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(pid) = *pid {
            // both fail only when there is nothing left to signal
            let _ = rustix::process::kill_process_group(pid, signal);
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Handle {
    /// Asks the first process to end.
    pub fn terminate(&self) {
        let pid = self.0.pid.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(pid) = *pid {
            // fails only when it has ended
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
    }

    /// Kills everything in the container.
    pub fn kill(&self) {
        self.0.signal_all(Signal::KILL);
    }
}

/// The master side of a program's terminal.
#[derive(Clone, Debug)]
pub struct Terminal(Arc<OwnedFd>);

impl Terminal {
    /// Sets its size in characters.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        spawn::resize(self.0.as_fd(), columns, rows)
    }
}

/// Starts a container. Its process dies with the returned handle, and with the node.
pub async fn start(launch: Launch) -> Result<Process, LaunchError> {
    let group = launch.group.clone();
    let user_namespace = launch.user_namespace && launch.root.is_some();
    let user = launch.credentials.user;
    run("container", launch.stdin, launch.tty, group, user_namespace.then_some(user), move |streams| {
        let mut flags = 0;
        let mut actions = Vec::new();
        if let Some(root) = &launch.root {
            flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS;
            if user_namespace {
                flags |= libc::CLONE_NEWUSER;
            }
            let calls = tree::compile(&root.path, &root.steps, root.read_only)?;
            actions.extend(calls.into_iter().map(Action::Mount));
            actions.push(Action::Hostname(spawn::text(&launch.hostname)?));
        }
        actions.push(Action::Directory(spawn::text(&launch.cwd.to_string_lossy())?));
        // a plain user's namespace knows one user and one group: what was asked for is what it is called
        let mut credentials = launch.credentials;
        if user_namespace && !rustix::process::geteuid().is_root() {
            credentials = Credentials { user: None, group: None, groups: Vec::new(), ..credentials };
        }
        order(&launch.argv, &launch.env, streams, launch.tty, flags, actions, credentials)
    })
    .await
}

/// Starts a program beside a container's own.
pub async fn start_beside(beside: Beside) -> Result<Process, LaunchError> {
    let group = beside.group.clone();
    run("exec", beside.stdin, beside.tty, group, None, move |streams| {
        let mut actions = Vec::new();
        if let Some(pid) = beside.inside {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| io::Error::other("the container has no process"))?;
            let target = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
            let mut spaces = Space::MOUNT | Space::PROCESS_ID | Space::HOST_NAME_AND_NIS_DOMAIN_NAME;
            if beside.user_namespace {
                spaces |= Space::USER;
            }
            actions.push(Action::Enter { target, spaces });
        }
        actions.push(Action::Directory(spawn::text(&beside.cwd.to_string_lossy())?));
        let mut credentials = beside.credentials;
        if beside.user_namespace && !rustix::process::geteuid().is_root() {
            credentials = Credentials { user: None, group: None, groups: Vec::new(), ..credentials };
        }
        order(&beside.argv, &beside.env, streams, beside.tty, 0, actions, credentials)
    })
    .await
}

/// The node's side of a program's streams.
struct Ends {
    out: OwnedFd,
    err: Option<OwnedFd>,
    input: Option<OwnedFd>,
    terminal: Option<Terminal>,
}

/// Starts a program on a thread of its own, which then waits for its end.
async fn run(
    name: &str,
    stdin: bool,
    tty: bool,
    group: Option<Group>,
    user_namespace: Option<Option<u32>>,
    make: impl FnOnce([OwnedFd; 3]) -> io::Result<Order> + Send + 'static,
) -> Result<Process, LaunchError> {
    let prepare = |step: &str| {
        let step = step.to_owned();
        move |source: io::Error| LaunchError::Prepare { step: format!("{step}: {source}"), source }
    };
    let (streams, ends) = streams(stdin, tty).map_err(prepare("connect input and output"))?;
    let (report, started) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    let begin = move || -> Result<(Pid, Handle, std::sync::Weak<Inner>), LaunchError> {
        let order = make(streams).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput => LaunchError::NoCommand,
            _ => LaunchError::Prepare { step: source.to_string(), source },
        })?;
        let program = order.argv.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let settle = |pid: Pid| {
            if let Some(user) = user_namespace {
                map_ids(pid, user)?;
            }
            group.as_ref().map_or(Ok(()), |group| group.take_in(pid.as_raw_nonzero().get() as u32))
        };
        let pid = spawn::spawn(order, settle).map_err(|failure| match failure {
            Failure::Step(step, source) => LaunchError::Prepare { step: format!("{step}: {source}"), source },
            Failure::Exec(source) => LaunchError::Start { program, source },
        })?;
        let inner = Arc::new(Inner { pid: Mutex::new(Some(pid)) });
        let weak = Arc::downgrade(&inner);
        Ok((pid, Handle(inner), weak))
    };
    std::thread::Builder::new()
        .name(name.into())
        .stack_size(256 * 1024)
        .spawn(move || match begin() {
            Ok((pid, handle, weak)) => {
                // a handle that nobody takes kills the process when it is dropped
                let _ = report.send(Ok((pid, handle)));
                // nobody listens any more when the pod is gone
                let _ = ended.send(wait(pid, &weak));
            }
            Err(error) => {
                let _ = report.send(Err(error));
            }
        })
        .map_err(prepare("start a thread"))?;
    let (pid, handle) = started.await.map_err(|_| LaunchError::Prepare {
        step: "wait for the start".into(),
        source: io::Error::other("the starting thread ended"),
    })??;
    let failed = prepare("read its output");
    let receiver = |fd: OwnedFd| -> io::Result<pipe::Receiver> {
        nonblocking(&fd)?;
        pipe::Receiver::from_owned_fd_unchecked(fd)
    };
    let sender = |fd: OwnedFd| -> io::Result<pipe::Sender> {
        nonblocking(&fd)?;
        pipe::Sender::from_owned_fd_unchecked(fd)
    };
    let open = || -> io::Result<_> {
        Ok((receiver(ends.out)?, ends.err.map(receiver).transpose()?, ends.input.map(sender).transpose()?))
    };
    let (out, err, input) = open().map_err(failed)?;
    let id = pid.as_raw_nonzero().get() as u32;
    Ok(Process { pid: id, ticks: ticks(id).unwrap_or(0), out, err, input, terminal: ends.terminal, end, handle })
}

fn nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?)
}

/// Makes the three streams of a program and the node's side of them.
fn streams(stdin: bool, tty: bool) -> io::Result<([OwnedFd; 3], Ends)> {
    if tty {
        let (master, slave) = spawn::terminal()?;
        let ends = Ends {
            out: master.try_clone()?,
            err: None,
            input: stdin.then(|| master.try_clone()).transpose()?,
            terminal: Some(Terminal(Arc::new(master))),
        };
        return Ok(([slave.try_clone()?, slave.try_clone()?, slave], ends));
    }
    let (out, out_write) = io::pipe()?;
    let (err, err_write) = io::pipe()?;
    let (read, input) = if stdin {
        let (read, write) = io::pipe()?;
        (read.into(), Some(write.into()))
    } else {
        (std::fs::File::open("/dev/null")?.into(), None)
    };
    let ends = Ends { out: out.into(), err: Some(err.into()), input, terminal: None };
    Ok(([read, out_write.into(), err_write.into()], ends))
}

fn order(
    argv: &[String],
    env: &[(String, String)],
    streams: [OwnedFd; 3],
    terminal: bool,
    flags: i32,
    actions: Vec<Action>,
    credentials: Credentials,
) -> io::Result<Order> {
    let Some(program) = argv.first() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let path = env.iter().find(|(name, _)| name == "PATH").map_or("/usr/bin:/bin", |(_, path)| path.as_str());
    Ok(Order {
        candidates: spawn::candidates(program, path).map_err(io::Error::other)?,
        argv: argv.iter().map(|text| spawn::text(text)).collect::<Result<_, _>>()?,
        env: env.iter().map(|(name, value)| spawn::text(&format!("{name}={value}"))).collect::<Result<_, _>>()?,
        streams,
        terminal,
        flags,
        actions,
        credentials,
    })
}

/// Gives a new user namespace its ids. Root's keep their numbers, and lose their power over the machine; a plain user is
/// called what the container wants to be, root without a wish.
fn map_ids(pid: Pid, wanted: Option<u32>) -> io::Result<()> {
    let dir = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if user.is_root() {
        std::fs::write(dir.join("uid_map"), "0 0 65536")?;
        return std::fs::write(dir.join("gid_map"), "0 0 65536");
    }
    let inside = wanted.unwrap_or(0);
    // without it the group of a plain user may not be mapped
    std::fs::write(dir.join("setgroups"), "deny")?;
    std::fs::write(dir.join("uid_map"), format!("{inside} {} 1", user.as_raw()))?;
    std::fs::write(dir.join("gid_map"), format!("{inside} {} 1", group.as_raw()))
}

/// Waits for the end; kills what is left of its group before the process id becomes free.
fn wait(pid: Pid, inner: &std::sync::Weak<Inner>) -> i32 {
    loop {
        match rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(_) | Err(_) => break,
        }
    }
    // a handle that is being dropped has sent its signal before this runs out
    let inner = inner.upgrade();
    let mut guard = inner.as_ref().map(|inner| inner.pid.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    if let Some(pid) = guard.as_mut() {
        **pid = None;
    }
    drop(guard);
    let status = loop {
        match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()) {
            Err(rustix::io::Errno::INTR) => continue,
            Ok(Some((_, status))) => break Some(status.as_raw()),
            Ok(None) | Err(_) => break None,
        }
    };
    match status.map(std::process::ExitStatus::from_raw) {
        Some(status) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255),
        None => 255,
    }
}

/// Reads the start time of a process: together with its id it names one process only.
pub fn ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name in brackets may hold spaces: count from its end
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// Kills a process that an earlier node left behind, if the id still means that process.
pub fn kill_leftover(pid: u32, started: u64) -> bool {
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // the descriptor pins the process; only then is its start time compared
    let Ok(descriptor) = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()) else {
        return false;
    };
    if started == 0 || ticks(pid) != Some(started) {
        return false;
    }
    let _ = rustix::process::kill_process_group(id, Signal::KILL);
    rustix::process::pidfd_send_signal(descriptor, Signal::KILL).is_ok()
}

/// Says which namespaces containers can have here: by running one, as being root is not enough inside some containers,
/// and a plain user may have them on some machines. Leaves nothing in the directory.
pub async fn isolation(dir: &Path) -> Isolation {
    let candidates = [(Isolation::Namespaces, false), (Isolation::UserNamespace, true)];
    for (kind, user_namespace) in candidates {
        if trial(dir, user_namespace).await {
            return kind;
        }
    }
    Isolation::None
}

/// Says whether containers can have namespaces of their own here.
pub async fn namespaces_work(dir: &Path) -> bool {
    isolation(dir).await != Isolation::None
}

/// Runs a container that looks whether it is alone.
pub async fn trial(dir: &Path, user_namespace: bool) -> bool {
    let root = dir.join("namespace-trial");
    let code = async {
        let steps = super::rootfs::plan(&root, &[], false).ok()?;
        let launch = Launch {
            argv: vec!["/bin/sh".into(), "-c".into(), "test $$ = 1".into()],
            env: Vec::new(),
            cwd: "/".into(),
            hostname: "trial".into(),
            root: Some(Root { path: root.clone(), steps, read_only: false }),
            credentials: Credentials::default(),
            user_namespace,
            stdin: false,
            tty: false,
            group: None,
        };
        let process = match start(launch).await {
            Ok(process) => process,
            Err(error) => {
                tracing::debug!(%error, user_namespace, "no namespaces");
                return None;
            }
        };
        process.end.await.ok()
    };
    let code = code.await;
    // mounts were only visible inside
    if let Err(error) = std::fs::remove_dir_all(&root) {
        tracing::debug!(%error, "the namespace trial left files");
    }
    code == Some(0)
}
