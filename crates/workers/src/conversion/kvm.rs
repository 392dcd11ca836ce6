//! Tells libguestfs how to run its small machine.
//!
//! `/dev/kvm` may open, and a virtual machine may even be made, where no guest ever runs (nested set-ups). So KVM
//! counts as usable only after a kernel has run under it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::tool::Tools;

/// A kernel that panics for want of a root file system does so within this time, if KVM works.
const DEADLINE: Duration = Duration::from_secs(15);

/// The environment for libguestfs. What the caller has set is kept.
pub async fn libguestfs_env(env: impl Fn(&str) -> Option<String>) -> Vec<(String, OsString)> {
    let mut vars = Vec::new();
    if env("LIBGUESTFS_BACKEND").is_none() {
        // no libvirt daemon in a pod, nor on a laptop
        vars.push(("LIBGUESTFS_BACKEND".to_owned(), OsString::from("direct")));
    }
    if env("LIBGUESTFS_BACKEND_SETTINGS").is_none() && !usable(&env).await {
        vars.push(("LIBGUESTFS_BACKEND_SETTINGS".to_owned(), OsString::from("force_tcg")));
    }
    vars
}

/// Whether guests run under KVM here. The answer is kept until the machine boots again; `FORKLIFT_KVM` overrules.
async fn usable(env: &impl Fn(&str) -> Option<String>) -> bool {
    if let Some(told) = env("FORKLIFT_KVM") {
        return matches!(told.as_str(), "1" | "true");
    }
    if std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return false;
    }
    let Some(kernel) = kernel() else { return true }; // nothing to try with: libguestfs has its own kernel
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let cache = env("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .map(|dir| dir.join("forklift/kvm"));
    if let Some(known) = cache.as_deref().and_then(|path| std::fs::read_to_string(path).ok())
        && let Some((known_boot, answer)) = known.split_once(' ')
        && known_boot == boot.trim()
    {
        return answer.trim() == "true";
    }
    let answer = probe(&kernel).await;
    tracing::info!(usable = answer, "tried whether a guest runs under KVM");
    if let Some(path) = cache {
        // only a saving of time: a failure to write costs the next probe
        let _ = path.parent().map(std::fs::create_dir_all);
        let _ = std::fs::write(path, format!("{} {answer}\n", boot.trim()));
    }
    answer
}

fn kernel() -> Option<PathBuf> {
    let mut kernels: Vec<PathBuf> = std::fs::read_dir("/boot")
        .ok()?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("vmlinuz-")))
        .filter(|p| std::fs::File::open(p).is_ok())
        .collect();
    kernels.sort();
    kernels.pop()
}

/// Boots a bare kernel: it finds no root, panics, and QEMU ends because it may not reboot.
async fn probe(kernel: &Path) -> bool {
    let mut command = Tools::on_path().command(Path::new("qemu-system-x86_64"));
    command
        .args(["-accel", "kvm", "-m", "256", "-display", "none", "-nodefaults", "-no-reboot", "-kernel"])
        .arg(kernel)
        .args(["-append", "panic=-1 quiet"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let ended = tokio::time::timeout(DEADLINE, child.wait()).await;
    if ended.is_err() {
        let _ = child.kill().await;
    }
    matches!(ended, Ok(Ok(status)) if status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_caller_says_is_kept() {
        let told = |answer: &'static str| move |key: &str| (key == "FORKLIFT_KVM").then(|| answer.to_owned());
        let direct = ("LIBGUESTFS_BACKEND".to_owned(), OsString::from("direct"));
        let tcg = ("LIBGUESTFS_BACKEND_SETTINGS".to_owned(), OsString::from("force_tcg"));
        assert_eq!(libguestfs_env(told("true")).await, [direct.clone()]);
        assert_eq!(libguestfs_env(told("false")).await, [direct, tcg]);
        assert_eq!(libguestfs_env(|_| Some("set".into())).await, []);
    }
}
