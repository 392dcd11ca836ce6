//! Turns a container's declaration into a process to launch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::Client;

use super::env::{self, Facts, Sources};
use super::process::{Credentials, Isolation, Launch, Root};
use super::rootfs::{self, Mount};
use super::status::Waiting;
use super::volumes::{self, Ready};
use crate::images::ImageTable;
use crate::services::Directory;

/// Where a container finds its termination message file, unless it says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// What a container is made from.
pub struct Recipe<'a> {
    /// The API, for ConfigMaps and Secrets of the environment.
    pub client: &'a Client,
    /// The programs behind the images.
    pub images: &'a ImageTable,
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// The pod's volumes.
    pub volumes: &'a BTreeMap<String, Ready>,
    /// What the downward API tells.
    pub facts: &'a Facts,
    /// Where the pod's files are.
    pub pod_dir: &'a Path,
    /// Where the container's own files are.
    pub dir: &'a Path,
    /// Which namespaces it gets.
    pub isolation: Isolation,
    /// The services that it can name.
    pub services: &'a Directory,
}

impl Recipe<'_> {
    /// The file that holds the termination message on this machine.
    pub fn termination_log(dir: &Path) -> PathBuf {
        dir.join("termination-log")
    }

    /// Prepares the launch, or says why the container has to wait.
    pub async fn launch(&self) -> Result<Launch, Waiting> {
        let name = self.container.image.as_deref().unwrap_or_default();
        let image = self.images.resolve(name).ok_or_else(|| Waiting {
            reason: "ErrImagePull",
            message: format!("image \"{name}\" is not in the node's image table; {}", self.images.describe()),
        })?;
        let config = |message: String| Waiting { reason: "CreateContainerConfigError", message };
        let sources = self.sources().await.map_err(config)?;
        let given = self.services.environment(self.pod).await;
        let own = env::environment(self.pod, self.container, &sources, self.facts, given)
            .map_err(|error| config(error.to_string()))?;
        let known = own.clone();
        let expand = |text: &String| {
            env::expand(text, |wanted| known.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()))
        };
        let given = self.container.command.as_ref().filter(|command| !command.is_empty());
        let mut argv = image.argv(given.map(|command| command.iter().map(expand).collect()));
        argv.extend(self.container.args.iter().flatten().map(expand));

        let name = self.pod.metadata.name.as_deref().unwrap_or_default();
        // the kernel takes 64 bytes, Kubernetes 63
        let hostname = name[..name.len().min(63)].trim_end_matches(['-', '.']).to_owned();
        let mut env = vec![
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into())),
            ("HOME".to_owned(), std::env::var("HOME").unwrap_or_else(|_| "/root".into())),
            ("HOSTNAME".to_owned(), hostname.clone()),
        ];
        for (name, value) in image.env.iter().map(|(name, value)| (name.clone(), value.clone())).chain(own) {
            env.retain(|(known, _)| *known != name);
            env.push((name, value));
        }

        let credentials = if image.keeps_user {
            Credentials::default()
        } else {
            Credentials::of(self.pod, self.container).map_err(|error| config(error.to_string()))?
        };
        let mut mounts = self.mounts(&expand)?;
        let cwd = PathBuf::from(self.container.working_dir.clone().unwrap_or_else(|| "/".into()));
        let (stdin, tty) = (self.container.stdin == Some(true), self.container.tty == Some(true));
        if tty {
            env.push(("TERM".to_owned(), "xterm".to_owned()));
        }
        let host_users = self.pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false);
        if self.isolation == Isolation::None {
            let rewrite = |text: &str| rewrite(text, &mounts);
            env.retain(|(name, _)| name != "TERMINATION_LOG");
            env.push(("TERMINATION_LOG".into(), Self::termination_log(self.dir).display().to_string()));
            return Ok(Launch {
                argv: argv.iter().map(|text| rewrite(text)).collect(),
                env: env.into_iter().map(|(name, value)| (name, rewrite(&value))).collect(),
                cwd: PathBuf::from(rewrite(&cwd.display().to_string())),
                hostname,
                root: None,
                credentials,
                user_namespace: false,
                stdin,
                tty,
                group: None,
            });
        }
        // the container's own /tmp must not hide a program of the image table
        if let Some(program) = argv.first().map(PathBuf::from)
            && image.command.first().is_some_and(|known| Path::new(known) == program)
            && program.starts_with("/tmp")
            && program.is_file()
        {
            mounts.push(Mount { source: program.clone(), target: program, read_only: true });
        }
        let root = self.dir.join("root");
        let failed = |error: std::io::Error| Waiting {
            reason: "CreateContainerError",
            message: format!("cannot prepare {}: {error}", root.display()),
        };
        // each start gets a fresh tree; nothing is mounted here outside the container
        match std::fs::remove_dir_all(&root) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let files = self.services.files(self.pod, self.facts, self.pod_dir).await.map_err(failed)?;
        let taken = |target: &Path| mounts.iter().any(|mount| mount.target == target);
        let names: Vec<Mount> = files
            .into_iter()
            .filter(|(target, _)| target.exists() && !taken(target))
            .map(|(target, source)| Mount { source, target, read_only: false })
            .collect();
        mounts.extend(names);
        let security = self.container.security_context.as_ref();
        let read_only = security.and_then(|security| security.read_only_root_filesystem) == Some(true);
        let steps = rootfs::plan(&root, &mounts, read_only).map_err(failed)?;
        Ok(Launch {
            argv,
            env,
            cwd,
            hostname,
            root: Some(Root { path: root, steps, read_only }),
            credentials,
            user_namespace: self.isolation == Isolation::UserNamespace || !host_users,
            stdin,
            tty,
            group: None,
        })
    }

    async fn sources(&self) -> Result<Sources, String> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let (config_maps, secrets) = env::needed(self.container);
        let mut sources = Sources::default();
        for name in config_maps {
            if let Some(data) = volumes::config_map(self.client, namespace, &name).await? {
                sources.config_maps.insert(name, data);
            }
        }
        for name in secrets {
            if let Some(data) = volumes::secret(self.client, namespace, &name).await? {
                sources.secrets.insert(name, data);
            }
        }
        Ok(sources)
    }

    fn mounts(&self, expand: impl Fn(&String) -> String) -> Result<Vec<Mount>, Waiting> {
        let config = |message: String| Waiting { reason: "CreateContainerConfigError", message };
        let find =
            |name: &str| self.volumes.get(name).ok_or_else(|| config(format!("the pod has no volume \"{name}\"")));
        let mut mounts = Vec::new();
        for mount in self.container.volume_mounts.iter().flatten() {
            let volume = find(&mount.name)?;
            let relative = mount.sub_path_expr.as_ref().map(&expand).or_else(|| mount.sub_path.clone());
            let source = match relative.as_deref().filter(|path| !path.is_empty()) {
                None => volume.path.clone(),
                Some(relative) => {
                    let path = volumes::inside(&volume.path, relative).map_err(config)?;
                    if !path.exists() {
                        std::fs::create_dir_all(&path)
                            .map_err(|error| config(format!("cannot create subPath {relative}: {error}")))?;
                    }
                    path
                }
            };
            mounts.push(Mount {
                source,
                target: PathBuf::from(&mount.mount_path),
                read_only: volume.read_only || mount.read_only == Some(true),
            });
        }
        for device in self.container.volume_devices.iter().flatten() {
            let volume = find(&device.name)?;
            mounts.push(Mount {
                source: volume.path.clone(),
                target: PathBuf::from(&device.device_path),
                read_only: volume.read_only,
            });
        }
        let log = Self::termination_log(self.dir);
        std::fs::write(&log, b"")
            // whoever the container runs as
            .and_then(|()| std::fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666)))
            .map_err(|error| config(format!("cannot create the termination message file: {error}")))?;
        let target = self.container.termination_message_path.as_deref().unwrap_or(TERMINATION_LOG);
        mounts.push(Mount { source: log, target: PathBuf::from(target), read_only: false });
        Ok(mounts)
    }
}

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where namespaces are not allowed: turns mount paths in a text into paths of this machine.
/// A path counts where it stands by itself: after the start or one of `= , : " ' ( [` or
/// blank, and before the end, `/` or one of `, : " ' ) ]` or blank.
pub fn rewrite(text: &str, mounts: &[Mount]) -> String {
    let mut longest_first: Vec<&Mount> = mounts.iter().collect();
    longest_first.sort_by_key(|mount| std::cmp::Reverse(mount.target.as_os_str().len()));
    let mut result = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let may_start = before.is_none_or(|before: char| "=,:\"'([ \t\n".contains(before));
        let found = may_start
            .then(|| {
                longest_first.iter().find_map(|mount| {
                    let tail = rest.strip_prefix(mount.target.to_str()?)?;
                    let ends = tail.chars().next().is_none_or(|after| "/,:\"')] \t\n".contains(after));
                    ends.then_some((mount, tail))
                })
            })
            .flatten();
        match found {
            Some((mount, tail)) => {
                result.push_str(&mount.source.display().to_string());
                before = Some('x');
                rest = tail;
            }
            None => {
                result.push(letter);
                before = Some(letter);
                rest = &rest[letter.len_utf8()..];
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_paths_are_rewritten_where_they_stand_alone() {
        let mount =
            |source: &str, target: &str| Mount { source: source.into(), target: target.into(), read_only: false };
        let mounts =
            [mount("/data/a", "/mnt/disk"), mount("/data/b", "/mnt/disk/inner"), mount("/d/blk", "/dev/block")];
        for (text, expected) in [
            ("/mnt/disk", "/data/a"),
            ("/mnt/disk/disk.img", "/data/a/disk.img"),
            ("/mnt/disk/inner/x", "/data/b/x"),
            ("/mnt/disk2", "/mnt/disk2"),
            ("x/mnt/disk", "x/mnt/disk"),
            ("file=/mnt/disk/disk.img,if=virtio", "file=/data/a/disk.img,if=virtio"),
            (r#"{"target":"/dev/block"}"#, r#"{"target":"/d/blk"}"#),
            ("", ""),
        ] {
            assert_eq!(rewrite(text, &mounts), expected, "{text}");
        }
    }
}
