//! Is what the user calls VDDK really VDDK? Loads `libvixDiskLib.so` as an importer does, looks for every function that
//! an importer calls, and initialises it.
//!
//! ```text
//! Job ─► finds the library ─► itself again, with the library's folder for the loader ─► load, InitEx, Exit
//!              └─ 3, "no libvixDiskLib.so in …"      └─ 3 and why: not a library, another one, InitEx fails, a crash
//! ```
//! Runs in a Job with the library mounted where importers have it. 0: it can be used; 3: it cannot, the termination
//! message says why.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use forklift_api::worker::{EXIT_PERMANENT, TERMINATION_LOG, TERMINATION_LOG_ENV, VDDK_DIR_ENV, VDDK_MOUNT};

use crate::importer::vsphere::vddk::{Library, find};

/// Tells the process that the loader knows the library's folder already.
const AGAIN: &str = "FORKLIFT_VDDK_CHECK";

/// Runs the worker.
pub async fn run() -> ExitCode {
    let folder = std::env::var_os(VDDK_DIR_ENV).unwrap_or_else(|| VDDK_MOUNT.into());
    let folder = Path::new(&folder);
    let again = std::env::var_os(AGAIN).is_some();
    let result = if again { check(folder) } else { in_its_folder(folder) };
    match result {
        Ok(file) => {
            if !again {
                println!("{} can be used", file.display());
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            if !again {
                let log = std::env::var_os(TERMINATION_LOG_ENV).unwrap_or_else(|| TERMINATION_LOG.into());
                // without a place for the message the log has it
                let _ = std::fs::write(log, &why);
            }
            ExitCode::from(EXIT_PERMANENT)
        }
    }
}

/// Checks in a process of its own, whose loader looks into the library's folder: VDDK brings libraries of its own.
fn in_its_folder(folder: &Path) -> Result<PathBuf, String> {
    let file = find(folder).map_err(|failure| failure.text)?;
    let program = std::env::current_exe().map_err(|error| format!("this program is not known: {error}"))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(AGAIN, "1");
    command.env("LD_LIBRARY_PATH", file.parent().unwrap_or(folder));
    let output = command.output().map_err(|error| format!("the check cannot be started: {error}"))?;
    judge(&file, output.status.signal(), output.status.success(), &String::from_utf8_lossy(&output.stderr))?;
    Ok(file)
}

/// Says what came of the check: `said` is what its process wrote, the reason at its end.
fn judge(file: &Path, signal: Option<i32>, good: bool, said: &str) -> Result<(), String> {
    match signal {
        Some(signal) => Err(format!("{} crashed when it was loaded (signal {signal})", file.display())),
        None if good => Ok(()),
        None => {
            let last = said.lines().map(str::trim).rfind(|line| !line.is_empty());
            Err(last.unwrap_or("its check failed and did not say why").to_owned())
        }
    }
}

/// Loads and initialises the library of a folder in this process; returns its file, or why it cannot be used.
pub fn check(folder: &Path) -> Result<PathBuf, String> {
    let file = find(folder).map_err(|failure| failure.text)?;
    let library = Library::load(folder, None).map_err(|failure| match failure.code {
        0 => failure.text,
        _ => format!("{}: {failure}", file.display()),
    })?;
    library.exit();
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_vddk_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let why = |folder: &Path| check(folder).expect_err("no VDDK");
        assert!(why(folder.path()).contains("no libvixDiskLib.so"));
        let lib64 = folder.path().join("lib64");
        std::fs::create_dir(&lib64).expect("a folder");
        let file = lib64.join("libvixDiskLib.so.8");
        std::fs::write(&file, "not a library").expect("a file");
        assert!(why(folder.path()).contains("cannot be loaded"), "{}", why(folder.path()));
        // a library, but another one: that of this very process' C library
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let libc = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains("libc.so"));
        std::fs::copy(libc.expect("a C library"), &file).expect("is copied");
        let lacks = "has no VixDiskLib_InitEx: this is not VMware's VDDK";
        assert!(why(folder.path()).contains(lacks), "{}", why(folder.path()));
    }

    #[test]
    fn a_crash_is_told_and_the_last_line_is_the_reason() {
        let file = Path::new("/opt/lib64/libvixDiskLib.so.8");
        let of = |signal, good, said| judge(file, signal, good, said).expect_err("is bad");
        assert_eq!(of(Some(11), false, ""), "/opt/lib64/libvixDiskLib.so.8 crashed when it was loaded (signal 11)");
        assert_eq!(of(None, false, "VDDK says hello\nit has no InitEx\n\n"), "it has no InitEx");
        assert_eq!(judge(file, None, true, "much\n"), Ok(()));
    }
}
