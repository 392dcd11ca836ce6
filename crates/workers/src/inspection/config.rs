//! What an inspection is told.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use forklift_api::conversion::{SETTING_INSTANCE_UUID, SETTING_SNAPSHOT_MOREF, SETTING_TRANSFER_METHOD};
use forklift_api::settings::parse_bool;
use forklift_api::vddk::{CONFIG_ENV, TRANSPORTS_ENV};
use forklift_api::worker::{
    POD_IP_ENV, SECRET_DIR_ENV, SECRET_MOUNT, TERMINATION_LOG, TERMINATION_LOG_ENV, VDDK_DIR_ENV, VM_MOREF_ENV,
    VsphereDisk, WorkerError,
};

/// The settings of an inspection.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// How the VM is reached, and which it is; the disk is left out.
    pub order: VsphereDisk,
    /// moRef of the snapshot.
    pub snapshot: String,
    /// Folder with the source's credentials.
    pub secret: PathBuf,
    /// Root file system to look at, of a guest with several.
    pub root_disk: Option<String>,
    /// Folder with keys of encrypted disks, one a file.
    pub luks_dir: PathBuf,
    /// Encrypted disks are opened by Clevis and a Tang server.
    pub clevis: bool,
}

impl Config {
    /// Reads the settings from an environment, given as a look-up, and the address from the secret.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Self, WorkerError> {
        let text = |key: &str| env(key).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let (Some(vm), Some(snapshot)) = (text(VM_MOREF_ENV), text(SETTING_SNAPSHOT_MOREF)) else {
            let message = "VM_MOREF and SNAPSHOT_MOREF must be set to VMware managed object references";
            return Err(WorkerError::new(
                "InvalidOrder",
                message.into(),
                "this is a mistake of the controller: report it",
                false,
            ));
        };
        let secret = PathBuf::from(text(SECRET_DIR_ENV).unwrap_or_else(|| SECRET_MOUNT.into()));
        let url = key(&secret, "url")?.ok_or_else(|| {
            let message = format!("{} has no `url`", secret.display());
            WorkerError::new(
                "CredentialsMissing",
                message,
                "add the address of the SDK to the connection secret",
                false,
            )
        })?;
        Ok(Self {
            order: VsphereDisk {
                url,
                vm,
                instance_uuid: text(SETTING_INSTANCE_UUID).unwrap_or_default(),
                thumbprint: key(&secret, "fingerprint")?,
                method: text(SETTING_TRANSFER_METHOD),
                vddk: text(VDDK_DIR_ENV),
                vddk_config: text(CONFIG_ENV),
                vddk_transports: text(TRANSPORTS_ENV),
                ..VsphereDisk::default()
            },
            snapshot,
            secret,
            root_disk: text("V2V_RootDisk"),
            luks_dir: text("V2V_luksDir").unwrap_or_else(|| "/etc/luks".into()).into(),
            clevis: text("V2V_NBDE_CLEVIS").is_some_and(|value| parse_bool(&value) == Some(true)),
        })
    }
}

/// Returns where the worker answers, and where it leaves its termination message.
pub(super) fn outputs(env: impl Fn(&str) -> Option<String>) -> (IpAddr, PathBuf) {
    let ip = env(POD_IP_ENV).and_then(|ip| ip.parse().ok()).unwrap_or(IpAddr::from([0, 0, 0, 0]));
    (ip, env(TERMINATION_LOG_ENV).filter(|path| !path.is_empty()).unwrap_or_else(|| TERMINATION_LOG.into()).into())
}

/// Reads a key of the secret; `None` when it is not there.
fn key(secret: &Path, name: &str) -> Result<Option<String>, WorkerError> {
    let path = secret.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let hint = "the connection secret is not mounted";
            Err(WorkerError::new("CredentialsMissing", format!("{}: {error}", path.display()), hint, false))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        let config = |pairs: &[(&str, &str)]| {
            Config::from_env(|key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned()))
        };
        let error = config(&[("VM_MOREF", "vm-1")]).unwrap_err();
        assert_eq!(error.message, "VM_MOREF and SNAPSHOT_MOREF must be set to VMware managed object references");
        let all = [("VM_MOREF", "vm-1"), ("SNAPSHOT_MOREF", "snapshot-2"), (SECRET_DIR_ENV, dir.as_str())];
        assert!(config(&all).unwrap_err().message.ends_with("has no `url`"));
        std::fs::write(folder.path().join("url"), "https://vc/sdk\n").unwrap();
        let found = config(&all).unwrap();
        assert_eq!((found.order.url.as_str(), found.order.thumbprint), ("https://vc/sdk", None));
    }
}
