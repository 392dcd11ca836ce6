//! Is what the user calls VDDK really VDDK? Loads `libvixDiskLib.so` and looks for the functions that an importer calls.
//!
//! Runs in a Job with the library mounted where importers have it. 0: it can be used; 3: it cannot, the termination
//! message says why. The library's own initialisers run: whatever they do ends with this process.
#![expect(unsafe_code, reason = "a library is loaded that the user brings")]

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use forklift_api::worker::{EXIT_PERMANENT, TERMINATION_LOG, TERMINATION_LOG_ENV, VDDK_MOUNT};

/// The functions without which no disk is read.
const NEEDED: [&CStr; 6] = [
    c"VixDiskLib_InitEx",
    c"VixDiskLib_ConnectEx",
    c"VixDiskLib_Open",
    c"VixDiskLib_Read",
    c"VixDiskLib_Close",
    c"VixDiskLib_Exit",
];
/// Versions whose libraries are looked for, the newest first.
const VERSIONS: std::ops::RangeInclusive<u32> = 6..=9;

/// Runs the worker.
pub async fn run() -> ExitCode {
    match check(Path::new(VDDK_MOUNT)) {
        Ok(file) => {
            println!("{} can be used", file.display());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            let log = std::env::var_os(TERMINATION_LOG_ENV).unwrap_or_else(|| TERMINATION_LOG.into());
            // without a place for the message the log has it
            let _ = std::fs::write(log, &why);
            ExitCode::from(EXIT_PERMANENT)
        }
    }
}

/// Loads the library of a folder; returns its file, or why it cannot be used.
pub fn check(folder: &Path) -> Result<PathBuf, String> {
    let file = find(folder).ok_or_else(|| {
        format!("no libvixDiskLib.so in {} nor in its lib64: this is not VMware's VDDK", folder.display())
    })?;
    let path = CString::new(file.as_os_str().as_encoded_bytes()).map_err(|_| "its path holds a NUL".to_owned())?;
    // SAFETY: the path is a C string that outlives the call; loading runs the library's initialisers, which is what this
    // process is for
    let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if library.is_null() {
        return Err(format!("{} cannot be loaded: {}", file.display(), last_error()));
    }
    for name in NEEDED {
        // SAFETY: the handle is that of a loaded library, which is never unloaded; the name is a C string
        if unsafe { libc::dlsym(library, name.as_ptr()) }.is_null() {
            return Err(format!("{} has no {}: this is not VMware's VDDK", file.display(), name.to_string_lossy()));
        }
    }
    Ok(file)
}

fn find(folder: &Path) -> Option<PathBuf> {
    let names: Vec<String> = VERSIONS
        .rev()
        .map(|version| format!("libvixDiskLib.so.{version}"))
        .chain(["libvixDiskLib.so".into()])
        .collect();
    ["lib64", "vmware-vix-disklib-distrib/lib64", ""].iter().find_map(|place| {
        let place = folder.join(place);
        names.iter().map(|name| place.join(name)).find(|file| file.is_file())
    })
}

fn last_error() -> String {
    // SAFETY: called by the thread whose call failed, right after it; the text is copied before the next call
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader does not say why".to_owned();
    }
    // SAFETY: not null, and a C string until the next call of the loader by this thread
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
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
        assert!(why(folder.path()).contains("has no VixDiskLib_InitEx"), "{}", why(folder.path()));
    }
}
