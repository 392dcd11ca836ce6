//! Starts a program from a thread of the node: clone, prepare, exec.
//!
//! The standard library starts programs well, but knows neither namespaces at the clone, nor a pause in which the parent
//! puts the child into its control group and maps its user ids, nor a second process inside the first one's namespaces.
//!
//! ```text
//! parent  clone ── ids, control group ── go ──────── read the report (empty: the program runs)
//! child         └─ wait for go ── actions ── exec, or report which action failed and why
//! ```

use std::ffi::{CString, c_char};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::process::{Pid, Signal};

use super::credentials::Credentials;
use super::tree::Call;

/// What is done in the child before the program runs; each is system calls only.
pub(super) enum Action {
    /// Builds and enters the file tree.
    Mount(Call),
    /// Sets the host name of an own namespace.
    Hostname(CString),
    /// Changes the working directory.
    Directory(CString),
    /// Enters the namespaces of a process, and goes on as a child there.
    Enter {
        /// A descriptor of the process.
        target: OwnedFd,
        /// Which namespaces.
        spaces: rustix::thread::ThreadNameSpaceType,
    },
}

impl Action {
    /// What the action is called in an error.
    fn name(&self) -> String {
        match self {
            Self::Mount(call) => call.name.clone(),
            Self::Hostname(_) => "set the host name".into(),
            Self::Directory(path) => format!("change to the directory {}", path.to_string_lossy()),
            Self::Enter { .. } => "enter the container's namespaces".into(),
        }
    }
}

/// Everything about a program that is to be started.
pub(super) struct Order {
    /// The files that may be it, in order.
    pub candidates: Vec<CString>,
    /// Its name and arguments.
    pub argv: Vec<CString>,
    /// Its environment, `NAME=value` each.
    pub env: Vec<CString>,
    /// Its three standard streams.
    pub streams: [OwnedFd; 3],
    /// Whether the first stream is a terminal that becomes its controlling one.
    pub terminal: bool,
    /// New namespaces, as flags of clone(2).
    pub flags: i32,
    /// Preparations.
    pub actions: Vec<Action>,
    /// As whom it runs.
    pub credentials: Credentials,
}

/// Why a program did not start.
pub(super) enum Failure {
    /// A preparation.
    Step(String, io::Error),
    /// The exec itself.
    Exec(io::Error),
}

const EXEC: u16 = u16::MAX;
const CREDENTIALS: u16 = u16::MAX - 1;
const STREAMS: u16 = u16::MAX - 2;

/// Starts the program; `settle` is run with the child's id while the child waits.
pub(super) fn spawn(order: Order, settle: impl FnOnce(Pid) -> io::Result<()>) -> Result<Pid, Failure> {
    let pipe = |step: &str| io::pipe().map_err(|error| Failure::Step(step.into(), error));
    let (waits, mut go) = pipe("make a pipe")?;
    let (mut report, tell) = pipe("make a pipe")?;
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(&order.argv), pointers(&order.env));
    let child = Child {
        order: &order,
        argv: &argv,
        env: &env,
        go: waits.as_raw_fd(),
        go_write: go.as_raw_fd(),
        tell: tell.as_raw_fd(),
    };
    let flags = i64::from(order.flags) | i64::from(libc::SIGCHLD);
    #[expect(unsafe_code, reason = "no safe call makes a process with namespaces of its own")]
    // SAFETY: without CLONE_VM this is a fork: the child has a copy of this thread's memory and runs `Child::run`, which
    // makes system calls on values prepared before, allocates nothing, takes no locks, and never returns
    let id = unsafe {
        let id = libc::syscall(libc::SYS_clone, flags, 0_i64, 0_i64, 0_i64, 0_i64);
        if id == 0 {
            child.run();
        }
        id
    };
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
    let Some(pid) = pid.filter(|_| id > 0) else {
        return Err(Failure::Step("make a process with namespaces of its own".into(), io::Error::last_os_error()));
    };
    drop((waits, tell));
    let settled = settle(pid).and_then(|()| go.write_all(&[1]));
    drop(go);
    let mut said = [0; 6];
    let told = report.read_exact(&mut said);
    if let Err(error) = settled {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        reap(pid);
        return Err(Failure::Step("set the limits and ids of the process".into(), error));
    }
    if told.is_err() {
        return Ok(pid);
    }
    reap(pid);
    let index = u16::from_le_bytes([said[0], said[1]]);
    let error = io::Error::from_raw_os_error(i32::from_le_bytes([said[2], said[3], said[4], said[5]]));
    Err(match index {
        EXEC => Failure::Exec(error),
        CREDENTIALS => Failure::Step("take the user, group and capabilities".into(), error),
        STREAMS => Failure::Step("connect input and output".into(), error),
        index => {
            let step = order.actions.get(usize::from(index)).map_or_else(String::new, Action::name);
            Failure::Step(step, error)
        }
    })
}

fn reap(pid: Pid) {
    while matches!(
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()),
        Err(rustix::io::Errno::INTR)
    ) {}
}

struct Child<'a> {
    order: &'a Order,
    argv: &'a [*const c_char],
    env: &'a [*const c_char],
    go: RawFd,
    go_write: RawFd,
    tell: RawFd,
}

#[expect(unsafe_code, reason = "between fork and exec only system calls may be made, some have no safe wrapper")]
impl Child<'_> {
    /// Prepares and becomes the program. System calls only.
    fn run(&self) -> ! {
        // SAFETY: system calls on descriptors and memory that this process has a copy of
        unsafe {
            libc::close(self.go_write);
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            libc::setsid();
            let mut byte = 0_u8;
            // nothing comes when the parent has died
            if libc::read(self.go, (&raw mut byte).cast(), 1) != 1 {
                libc::_exit(125);
            }
        }
        self.die_with_parent();
        for (index, action) in self.order.actions.iter().enumerate() {
            if let Err(error) = self.perform(action) {
                self.fail(index as u16, error);
            }
        }
        if let Err(error) = self.connect() {
            self.fail(STREAMS, error);
        }
        if let Err(error) = self.order.credentials.assume() {
            self.fail(CREDENTIALS, error);
        }
        // a change of the user id has cleared it
        self.die_with_parent();
        let mut error = rustix::io::Errno::NOENT;
        for candidate in &self.order.candidates {
            // SAFETY: both lists end with null and point to strings that live as long as this process
            unsafe { libc::execve(candidate.as_ptr(), self.argv.as_ptr(), self.env.as_ptr()) };
            let now = rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::INVAL);
            // one that may not be run is remembered, as shells do
            if now != rustix::io::Errno::NOENT && now != rustix::io::Errno::NOTDIR {
                error = now;
            }
        }
        self.fail(EXEC, error);
    }

    fn die_with_parent(&self) {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    }

    fn fail(&self, index: u16, error: rustix::io::Errno) -> ! {
        let [a, b] = index.to_le_bytes();
        let [c, d, e, f] = error.raw_os_error().to_le_bytes();
        // SAFETY: the descriptor is open until exec
        let tell = unsafe { BorrowedFd::borrow_raw(self.tell) };
        let _ = rustix::io::write(tell, &[a, b, c, d, e, f]);
        // SAFETY: ends this process without running anything of the parent's
        unsafe { libc::_exit(127) }
    }

    fn perform(&self, action: &Action) -> rustix::io::Result<()> {
        match action {
            Action::Mount(call) => call.perform(),
            Action::Hostname(name) => rustix::system::sethostname(name.to_bytes()),
            Action::Directory(path) => rustix::process::chdir(path.as_c_str()),
            Action::Enter { target, spaces } => {
                rustix::thread::move_into_thread_name_spaces(target.as_fd(), *spaces)?;
                self.go_on_inside()
            }
        }
    }

    /// Forks, as only children are in an entered PID namespace; this process waits and ends as its child does.
    fn go_on_inside(&self) -> rustix::io::Result<()> {
        // SAFETY: a fork of a process with one thread; the parent only waits from here on
        unsafe {
            let child = libc::syscall(libc::SYS_clone, i64::from(libc::SIGCHLD), 0_i64, 0_i64, 0_i64, 0_i64);
            match child {
                0 => {
                    libc::setsid();
                    self.die_with_parent();
                    return Ok(());
                }
                id if id < 0 => {
                    return Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error())
                        .unwrap_or(rustix::io::Errno::AGAIN));
                }
                _ => {}
            }
            // who waits for the report or the end of the output must not wait for this process
            libc::close(self.tell);
            for stream in &self.order.streams {
                libc::close(stream.as_raw_fd());
            }
            loop {
                let mut status = 0;
                let done = libc::waitpid(child as i32, &mut status, 0);
                if done < 0 && *libc::__errno_location() == libc::EINTR {
                    continue;
                }
                if libc::WIFEXITED(status) {
                    libc::_exit(libc::WEXITSTATUS(status));
                }
                libc::_exit(128 + libc::WTERMSIG(status));
            }
        }
    }

    fn connect(&self) -> rustix::io::Result<()> {
        for (number, stream) in self.order.streams.iter().enumerate() {
            // SAFETY: replaces a standard stream of this process by a descriptor that is open
            if unsafe { libc::dup2(stream.as_raw_fd(), number as i32) } < 0 {
                return Err(last_errno());
            }
        }
        // SAFETY: the first stream is a terminal of ours, and this process leads a session without one
        if self.order.terminal && unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
            return Err(last_errno());
        }
        Ok(())
    }
}

fn last_errno() -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::INVAL)
}

/// The files that a program's name may mean, by a `PATH`.
pub(super) fn candidates(program: &str, path: &str) -> Result<Vec<CString>, std::ffi::NulError> {
    if program.contains('/') {
        return Ok(vec![CString::new(program)?]);
    }
    path.split(':').map(|dir| CString::new(format!("{}/{program}", if dir.is_empty() { "." } else { dir }))).collect()
}

/// A pair of pseudo terminal ends: the master, and the slave for the program.
#[expect(unsafe_code, reason = "the C library makes pseudo terminals")]
pub(super) fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    use std::os::fd::FromRawFd;
    let check = |code: i32| if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) };
    // SAFETY: each call gives a fresh descriptor, which is owned at once
    unsafe {
        let master = OwnedFd::from_raw_fd(check(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC))?);
        check(libc::grantpt(master.as_raw_fd()))?;
        check(libc::unlockpt(master.as_raw_fd()))?;
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let slave = check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))?;
        Ok((master, OwnedFd::from_raw_fd(slave)))
    }
}

/// Tells a terminal its size in characters.
#[expect(unsafe_code, reason = "the size of a terminal is set by an ioctl")]
pub fn resize(master: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the ioctl reads one winsize
    let code = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if code < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A string for the kernel.
pub(super) fn text(value: &str) -> io::Result<CString> {
    CString::new(value).map_err(|_| io::Error::other(format!("{value:?} holds a zero byte")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_searched_as_shells_do() {
        let found = |program, path| {
            candidates(program, path).expect("no zero bytes").iter().map(|c| c.to_string_lossy().into_owned()).collect()
        };
        let list: Vec<String> = found("sh", "/usr/bin::/bin");
        assert_eq!(list, ["/usr/bin/sh", "./sh", "/bin/sh"]);
        let list: Vec<String> = found("./x", "/bin");
        assert_eq!(list, ["./x"]);
    }
}
