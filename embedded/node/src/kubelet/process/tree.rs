//! Mount calls that build and enter a container's file tree, with their strings ready for use after the fork.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::kubelet::rootfs::Step;

/// A mount call with its strings ready, and its name for the error message.
pub(super) struct Call {
    /// What it is called in an error.
    pub name: String,
    source: CString,
    target: CString,
    kind: CallKind,
}

enum CallKind {
    Bind { read_only: bool, required: bool },
    Proc,
    Memory,
    Private,
    ReadOnly,
    Enter,
}

/// Turns the steps of a tree into calls that need no memory.
pub(super) fn compile(root: &Path, steps: &[Step], read_only: bool) -> io::Result<Vec<Call>> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let call = |name: String, source: &Path, target: &Path, kind| {
        Ok::<_, io::Error>(Call { name, source: text(source)?, target: text(target)?, kind })
    };
    let mut calls = vec![
        call("keep mounts private".into(), root, Path::new("/"), CallKind::Private)?,
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
    if read_only {
        calls.push(call("make the root read-only".into(), root, root, CallKind::ReadOnly)?);
    }
    calls.push(call("enter the new root".into(), root, root, CallKind::Enter)?);
    Ok(calls)
}

impl Call {
    /// Makes the call. Runs between fork and exec: system calls only.
    pub(super) fn perform(&self) -> rustix::io::Result<()> {
        use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
        let (source, target) = (self.source.as_c_str(), self.target.as_c_str());
        match self.kind {
            CallKind::Private => {
                rustix::mount::mount_change(c"/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            }
            CallKind::Bind { read_only, required } => {
                match rustix::mount::mount_bind_recursive(source, target) {
                    Err(_) if !required => return Ok(()),
                    other => other?,
                }
                if read_only {
                    make_read_only(target)?;
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
            CallKind::ReadOnly => make_read_only(target),
            CallKind::Enter => {
                rustix::process::chdir(target)?;
                rustix::process::pivot_root(c".", c".")?;
                rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
                rustix::process::chdir(c"/")
            }
        }
    }
}

/// Remounts a bind read-only. In a user namespace the flags that the mount has already must be kept.
fn make_read_only(target: &std::ffi::CStr) -> rustix::io::Result<()> {
    use rustix::fs::StatVfsMountFlags as Has;
    use rustix::mount::MountFlags;
    let has = rustix::fs::statvfs(target)?.f_flag;
    let mut flags = MountFlags::BIND | MountFlags::RDONLY;
    for (known, kept) in
        [(Has::NOSUID, MountFlags::NOSUID), (Has::NODEV, MountFlags::NODEV), (Has::NOEXEC, MountFlags::NOEXEC)]
    {
        if has.contains(known) {
            flags |= kept;
        }
    }
    rustix::mount::mount_remount(target, flags, c"")
}
