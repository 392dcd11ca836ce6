//! One container as a process: started in its own namespaces, watched, ended.
//!
//! A thread per container starts the process and waits for it: the parent-death signal and
//! the PID namespace for children are properties of a thread, so that thread has to live as
//! long as the process. When the node dies in whatever way, the kernel kills the process,
//! and as it is the first of its PID namespace, everything below it.

use std::ffi::CString;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use thiserror::Error;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::rootfs::Step;

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
    pub root: Option<(PathBuf, Vec<Step>)>,
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
    /// What it prints on its error stream.
    pub err: pipe::Receiver,
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

/// Starts a container. Its process dies with the returned handle, and with the node.
pub async fn start(launch: Launch) -> Result<Process, LaunchError> {
    let (report, started) = oneshot::channel();
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("container".into())
        .stack_size(256 * 1024)
        .spawn(move || match spawn(launch) {
            Ok((child, handle, weak)) => {
                if report.send(Ok((child.0, child.1, child.2, handle))).is_ok() {
                    let code = wait(child.0, &weak);
                    // nobody listens any more when the pod is gone
                    let _ = ended.send(code);
                } else {
                    wait(child.0, &weak);
                }
            }
            Err(error) => {
                // nobody listens any more when the pod is gone
                let _ = report.send(Err(error));
            }
        })
        .map_err(|source| LaunchError::Prepare { step: "start a thread".into(), source })?;
    let (pid, out, err, handle) = started.await.map_err(|_| LaunchError::Prepare {
        step: "wait for the start".into(),
        source: io::Error::other("the starting thread ended"),
    })??;
    let receiver = |fd: OwnedFd| {
        pipe::Receiver::from_owned_fd(fd)
            .map_err(|source| LaunchError::Prepare { step: "read its output".into(), source })
    };
    Ok(Process {
        pid: pid.as_raw_nonzero().get() as u32,
        ticks: ticks(pid.as_raw_nonzero().get() as u32).unwrap_or(0),
        out: receiver(out)?,
        err: receiver(err)?,
        end,
        handle,
    })
}

type Spawned = ((Pid, OwnedFd, OwnedFd), Handle, std::sync::Weak<Inner>);

fn spawn(launch: Launch) -> Result<Spawned, LaunchError> {
    let Some((program, args)) = launch.argv.split_first() else { return Err(LaunchError::NoCommand) };
    let fail = |step: &str| {
        let step = step.to_owned();
        move |source| LaunchError::Prepare { step, source }
    };
    let steps = match &launch.root {
        Some((root, steps)) => {
            unshare_pids().map_err(fail("a PID namespace"))?;
            Some(compile(root, steps, &launch.cwd).map_err(fail("list the mounts"))?)
        }
        None => None,
    };
    let names: Vec<String> = steps.iter().flat_map(|steps| &steps.0).map(|call| call.name.clone()).collect();
    let (mut failed_at, tell) = io::pipe().map_err(fail("make a pipe"))?;
    let hostname = launch.hostname.clone();
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if steps.is_none() {
        command.current_dir(&launch.cwd);
    }
    let tell_fd = tell.as_raw_fd();
    let prepare = move || {
        rustix::process::setsid()?;
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if let Some((calls, cwd)) = &steps {
            enter(calls, cwd, &hostname, tell_fd)?;
        }
        Ok(())
    };
    #[expect(unsafe_code, reason = "namespaces and mounts are set up between fork and exec")]
    // SAFETY: the closure only makes system calls on values prepared before the fork: it
    // neither allocates nor takes locks, as a child of a threaded program must not
    unsafe {
        command.pre_exec(prepare);
    }
    let spawned = command.spawn();
    drop(tell);
    let mut child = spawned.map_err(|source| {
        let mut index = [0; 2];
        match failed_at.read_exact(&mut index).ok().and_then(|()| names.get(usize::from(u16::from_le_bytes(index)))) {
            Some(step) => LaunchError::Prepare { step: format!("{step}: {source}"), source },
            None => LaunchError::Start { program: program.clone(), source },
        }
    })?;
    let pid = Pid::from_raw(child.id() as i32)
        .ok_or_else(|| LaunchError::Start { program: program.clone(), source: io::Error::other("no process id") })?;
    let missing = || LaunchError::Start { program: program.clone(), source: io::Error::other("no output") };
    let out = child.stdout.take().ok_or_else(missing)?.into();
    let err = child.stderr.take().ok_or_else(missing)?.into();
    let inner = Arc::new(Inner { pid: Mutex::new(Some(pid)) });
    let weak = Arc::downgrade(&inner);
    Ok(((pid, out, err), Handle(inner), weak))
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

/// Says whether containers can have namespaces of their own here: by running one, as being
/// root is not enough inside some containers. Leaves nothing in the directory.
pub async fn namespaces_work(dir: &Path) -> bool {
    let root = dir.join("namespace-trial");
    let code = async {
        let steps = super::rootfs::plan(&root, &[]).ok()?;
        let launch = Launch {
            argv: vec!["/bin/sh".into(), "-c".into(), "test $$ = 1".into()],
            env: Vec::new(),
            cwd: "/".into(),
            hostname: "trial".into(),
            root: Some((root.clone(), steps)),
        };
        let process = start(launch).await.ok()?;
        process.end.await.ok()
    };
    let code = code.await;
    // mounts were only visible inside
    if let Err(error) = std::fs::remove_dir_all(&root) {
        tracing::debug!(%error, "the namespace trial left files");
    }
    code == Some(0)
}

#[expect(unsafe_code, reason = "the wrapper asks for a promise about file descriptors")]
fn unshare_pids() -> io::Result<()> {
    // SAFETY: a new PID namespace for children changes nothing that this thread's memory or
    // descriptors rely on
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }?;
    Ok(())
}

/// A mount call with its strings ready, and its name for the error message.
struct Call {
    name: String,
    source: CString,
    target: CString,
    kind: CallKind,
}

enum CallKind {
    Bind { read_only: bool, required: bool },
    Proc,
    Memory,
    Private,
    Enter,
}

fn compile(root: &Path, steps: &[Step], cwd: &Path) -> io::Result<(Vec<Call>, CString)> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let call = |name: String, source: &Path, target: &Path, kind| {
        Ok::<_, io::Error>(Call { name, source: text(source)?, target: text(target)?, kind })
    };
    let mut calls = vec![
        call("own mount namespace".into(), root, Path::new("/"), CallKind::Private)?,
        call(format!("bind {}", root.display()), root, root, CallKind::Bind { read_only: false, required: true })?,
    ];
    for step in steps {
        calls.push(match step {
            Step::Bind { source, target, read_only, required } => call(
                format!("bind {} to {}", source.display(), target.display()),
                source,
                target,
                CallKind::Bind { read_only: *read_only, required: *required },
            )?,
            Step::Proc(target) => call("mount proc".into(), Path::new("proc"), target, CallKind::Proc)?,
            Step::Memory(target) => call("mount tmpfs".into(), Path::new("tmpfs"), target, CallKind::Memory)?,
        });
    }
    calls.push(call("enter the new root".into(), root, root, CallKind::Enter)?);
    Ok((calls, text(cwd)?))
}

/// Runs in the child, between fork and exec: system calls only.
fn enter(calls: &[Call], cwd: &CString, hostname: &str, tell: i32) -> io::Result<()> {
    for (index, call) in calls.iter().enumerate() {
        if let Err(error) = perform(call) {
            #[expect(unsafe_code, reason = "the pipe's end is only known by number here")]
            // SAFETY: the parent keeps the write end open until the spawn has returned
            let pipe = unsafe { rustix::fd::BorrowedFd::borrow_raw(tell) };
            // without the index the parent still learns the error
            let _ = rustix::io::write(pipe, &(index as u16).to_le_bytes());
            return Err(error.into());
        }
    }
    rustix::system::sethostname(hostname.as_bytes())?;
    rustix::process::chdir(cwd.as_c_str())?;
    Ok(())
}

fn perform(call: &Call) -> rustix::io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
    let (source, target) = (call.source.as_c_str(), call.target.as_c_str());
    match call.kind {
        CallKind::Private => {
            let flags = rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::NEWUTS;
            #[expect(unsafe_code, reason = "the wrapper asks for a promise about file descriptors")]
            // SAFETY: the child has one thread and shares no file system state with others
            unsafe {
                rustix::thread::unshare_unsafe(flags)?;
            }
            rustix::mount::mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        }
        CallKind::Bind { read_only, required } => {
            match rustix::mount::mount_bind_recursive(source, target) {
                Err(_) if !required => return Ok(()),
                other => other?,
            }
            if read_only {
                rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
            }
            Ok(())
        }
        CallKind::Proc => rustix::mount::mount(
            source,
            target,
            c"proc",
            MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV,
            None,
        ),
        CallKind::Memory => {
            rustix::mount::mount(source, target, c"tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
        }
        CallKind::Enter => {
            rustix::process::chdir(target)?;
            rustix::process::pivot_root(c".", c".")?;
            rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
            rustix::process::chdir(c"/")
        }
    }
}
