//! As whom a container's processes run: user, groups, capabilities, from `securityContext`.

use k8s_openapi::api::core::v1::{Container, Pod};
use rustix::process::{Gid, Uid};

/// User, groups and capabilities of a process; the default changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Credentials {
    /// The user id.
    pub user: Option<u32>,
    /// The group id.
    pub group: Option<u32>,
    /// Further group ids.
    pub groups: Vec<u32>,
    /// Numbers of the capabilities that are taken away.
    pub dropped: Vec<u32>,
    /// Whether programs may not gain privileges by set-user-id bits.
    pub no_new_privileges: bool,
}

/// Why the settings cannot be met.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum CredentialsError {
    /// Root is not wanted and nothing else is named.
    #[error("container has runAsNonRoot and image will run as root")]
    WouldBeRoot,
    /// A user or group id below zero.
    #[error("{0} is not a user or group id")]
    BadId(i64),
    /// A capability that the kernel does not have.
    #[error("unknown capability \"{0}\"; see capabilities(7)")]
    UnknownCapability(String),
}

/// Names of capabilities in the order of their numbers: linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

fn number(name: &str) -> Result<u32, CredentialsError> {
    let plain = name.strip_prefix("CAP_").unwrap_or(name);
    let found = CAPABILITIES.iter().position(|known| *known == plain);
    found.and_then(|at| u32::try_from(at).ok()).ok_or_else(|| CredentialsError::UnknownCapability(name.into()))
}

impl Credentials {
    /// Reads the settings of a container; what it does not say its pod says.
    pub fn of(pod: &Pod, container: &Container) -> Result<Self, CredentialsError> {
        let whole = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
        let own = container.security_context.clone().unwrap_or_default();
        let id = |value: i64| u32::try_from(value).map_err(|_| CredentialsError::BadId(value));
        let user = own.run_as_user.or(whole.run_as_user).map(id).transpose()?;
        let group = own.run_as_group.or(whole.run_as_group).map(id).transpose()?;
        if own.run_as_non_root.or(whole.run_as_non_root) == Some(true) && user.is_none_or(|user| user == 0) {
            return Err(CredentialsError::WouldBeRoot);
        }
        let mut groups: Vec<u32> =
            whole.supplemental_groups.iter().flatten().copied().map(id).collect::<Result<_, _>>()?;
        groups.extend(whole.fs_group.map(id).transpose()?);
        let privileged = own.privileged == Some(true);
        let capabilities = own.capabilities.unwrap_or_default();
        let mut dropped = Vec::new();
        for name in capabilities.drop.iter().flatten().filter(|_| !privileged) {
            if name.eq_ignore_ascii_case("ALL") {
                dropped = (0..CAPABILITIES.len() as u32).collect();
                break;
            }
            dropped.push(number(name)?);
        }
        for name in capabilities.add.iter().flatten() {
            if name.eq_ignore_ascii_case("ALL") {
                dropped.clear();
            } else {
                let added = number(name)?;
                dropped.retain(|known| *known != added);
            }
        }
        Ok(Self {
            user,
            group: group.or(user.map(|_| 0)),
            groups,
            dropped,
            no_new_privileges: own.allow_privilege_escalation == Some(false),
        })
    }

    /// Takes them on. Runs between fork and exec: system calls only.
    pub(super) fn assume(&self) -> rustix::io::Result<()> {
        if self.user.is_some() || self.group.is_some() || !self.groups.is_empty() {
            // a fixed array: nothing may be allocated here
            let mut groups = [Gid::ROOT; 32];
            let count = self.groups.len().min(groups.len());
            for (place, group) in groups.iter_mut().zip(&self.groups) {
                *place = Gid::from_raw(*group);
            }
            rustix::thread::set_thread_groups(&groups[..count])?;
        }
        if let Some(group) = self.group {
            let group = Gid::from_raw(group);
            rustix::thread::set_thread_res_gid(group, group, group)?;
        }
        for capability in &self.dropped {
            #[expect(unsafe_code, reason = "the wrapper takes names of capabilities, not numbers")]
            // SAFETY: the call takes numbers only; an older kernel does not have all of them
            unsafe {
                libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(*capability));
            }
        }
        if let Some(user) = self.user {
            let user = Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user)?;
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(pod: Value, container: Value) -> Result<Credentials, CredentialsError> {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {}, "spec": {"containers": [{"name": "c", "securityContext": container}], "securityContext": pod}}),
        )
        .expect("a pod");
        let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
        Credentials::of(&pod, &container)
    }

    #[test]
    fn containers_say_more_than_their_pod() {
        let pod = json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]});
        let found = read(pod.clone(), json!({"runAsUser": 7, "allowPrivilegeEscalation": false})).expect("settings");
        assert_eq!((found.user, found.group, found.groups), (Some(7), Some(2), vec![4, 3]));
        assert!(found.no_new_privileges);
        assert_eq!(read(json!({}), json!({})), Ok(Credentials::default()));
        assert_eq!(read(json!({"runAsNonRoot": true}), json!({})), Err(CredentialsError::WouldBeRoot));
        assert_eq!(read(pod, json!({"runAsUser": -1})), Err(CredentialsError::BadId(-1)));
    }

    #[test]
    fn capabilities_are_dropped_and_added_back() {
        let dropped = |capabilities: Value| {
            read(json!({}), json!({"capabilities": capabilities})).map(|credentials| credentials.dropped)
        };
        assert_eq!(dropped(json!({"drop": ["NET_RAW", "CAP_CHOWN"]})), Ok(vec![13, 0]));
        assert_eq!(dropped(json!({"drop": ["ALL"], "add": ["KILL"]})).expect("numbers").len(), 40);
        assert_eq!(dropped(json!({"drop": ["NONSENSE"]})), Err(CredentialsError::UnknownCapability("NONSENSE".into())));
    }
}
