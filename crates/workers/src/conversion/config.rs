//! What a conversion is told: upstream's `V2V_*` environment, and a few variables of our own.

use std::net::IpAddr;
use std::path::PathBuf;

use forklift_api::settings::parse_bool;

/// The settings of one conversion.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the VM at the source.
    pub vm_name: String,
    /// Name of the VM at the target, when it differs.
    pub new_name: Option<String>,
    /// `V2V_RootDisk`: the root file system to convert, for guests with several.
    pub root_disk: Option<String>,
    /// The VM's network cards, in their order.
    pub nics: Vec<Nic>,
    /// `V2V_staticIPs`, entry by entry, as virt-v2v's `--mac` takes them.
    pub mac_arguments: Vec<String>,
    /// Unlock LUKS by Clevis and a Tang server.
    pub clevis: bool,
    /// Folder with LUKS keys, one a file.
    pub luks_dir: PathBuf,
    /// Arguments that the administrator adds.
    pub extra_args: Vec<String>,
    /// MiB of memory for libguestfs' small machine.
    pub memsize: Option<u32>,
    /// Processors for libguestfs' small machine.
    pub smp: Option<u32>,
    /// `xfs_repair_ignore=1` for guests whose XFS log is not clean.
    pub xfs_repair_ignore: bool,
    /// The firmware that the source has, when known.
    pub firmware: Option<String>,
    /// Whether the controller dials in for the results, so that the worker waits for `/shutdown`.
    pub local_migration: bool,
    /// Scratch space.
    pub work_dir: PathBuf,
    /// The user's own scripts for the guest.
    pub scripts_dir: PathBuf,
    /// The disks, when they are said one by one.
    pub disks: Vec<PathBuf>,
    /// Folder below which volumes with files are mounted (`disk0`, `disk1`, …).
    pub disks_dir: PathBuf,
    /// Block devices are this path followed by their number.
    pub block_prefix: PathBuf,
    /// Where the HTTP server listens.
    pub listen: IpAddr,
    /// Where the result is left for the pod's status.
    pub termination_log: PathBuf,
}

/// A network card of the VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nic {
    /// Hardware address in lower case; none when the target makes one up.
    pub mac: Option<String>,
    /// Addresses that the source saw on it.
    pub addresses: Vec<IpAddr>,
}

impl Config {
    /// Reads the settings from an environment, given as a look-up.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let text = |key: &str| env(key).filter(|v| !v.is_empty());
        let flag = |key: &str, default| text(key).and_then(|v| parse_bool(&v)).unwrap_or(default);
        let path = |key: &str, default: &str| PathBuf::from(text(key).unwrap_or_else(|| default.into()));
        let mac_arguments: Vec<String> = text("V2V_staticIPs").map(|v| split_list(&v)).unwrap_or_default();
        let macs = text("V2V_macAddresses").map(|v| v.split('_').map(str::to_owned).collect()).unwrap_or_default();
        Self {
            vm_name: text("V2V_vmName").unwrap_or_else(|| "vm".into()),
            new_name: text("V2V_NewName"),
            root_disk: text("V2V_RootDisk"),
            nics: nics(macs, &mac_arguments),
            mac_arguments,
            clevis: flag("V2V_NBDE_CLEVIS", false),
            luks_dir: path("V2V_luksDir", "/etc/luks"),
            extra_args: text("V2V_extra_args").and_then(|v| serde_json::from_str(&v).ok()).unwrap_or_default(),
            memsize: text("V2V_memSize").and_then(|v| v.parse().ok()),
            smp: text("V2V_smp").and_then(|v| v.parse().ok()),
            xfs_repair_ignore: flag("V2V_xfsRepairIgnore", false),
            firmware: text("V2V_firmware"),
            local_migration: flag("LOCAL_MIGRATION", true),
            work_dir: match (text("V2V_workDir"), text("TMPDIR")) {
                (Some(dir), _) => dir.into(),
                (None, Some(tmp)) => PathBuf::from(tmp).join("v2v"),
                (None, None) => "/var/tmp/v2v".into(),
            },
            scripts_dir: path("V2V_dynamicScriptsDir", "/mnt/dynamic_scripts"),
            disks: text("V2V_disks").map(|v| v.split(',').map(PathBuf::from).collect()).unwrap_or_default(),
            disks_dir: path("V2V_disksDir", "/mnt/disks"),
            block_prefix: path("V2V_blockPrefix", "/dev/block"),
            listen: text("POD_IP").and_then(|v| v.parse().ok()).unwrap_or(IpAddr::from([0, 0, 0, 0])),
            termination_log: path("TERMINATION_LOG", "/dev/termination-log"),
        }
    }

    /// The name that the guest's domain gets.
    pub fn domain_name(&self) -> &str {
        self.new_name.as_deref().unwrap_or(&self.vm_name)
    }
}

fn split_list(text: &str) -> Vec<String> {
    text.split('_').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// The cards in the order of `macs`, joined by those that only the static addresses name.
fn nics(macs: Vec<String>, mac_arguments: &[String]) -> Vec<Nic> {
    let mut nics: Vec<Nic> = macs
        .into_iter()
        .map(|mac| Nic { mac: Some(mac.trim().to_lowercase()).filter(|m| is_mac(m)), addresses: Vec::new() })
        .collect();
    for argument in mac_arguments {
        let Some((mac, rest)) = argument.split_once(":ip:") else {
            continue;
        };
        let mac = mac.to_lowercase();
        let address = rest.split(',').next().and_then(|a| a.parse::<IpAddr>().ok());
        if !is_mac(&mac) {
            continue;
        }
        let index = nics.iter().position(|n| n.mac.as_ref() == Some(&mac)).unwrap_or_else(|| {
            nics.push(Nic { mac: Some(mac.clone()), addresses: Vec::new() });
            nics.len() - 1
        });
        nics[index].addresses.extend(address);
    }
    nics
}

/// Whether this is a hardware address: only then may it be written into files of the guest.
pub fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    parts.len() == 6 && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        Config::from_env(|key| pairs.iter().find(|(k, _)| *k == key).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn defaults_are_upstreams() {
        let c = config(&[]);
        assert!(c.local_migration && !c.clevis && c.nics.is_empty());
        assert_eq!(c.work_dir, PathBuf::from("/var/tmp/v2v"));
        assert_eq!(c.listen, IpAddr::from([0, 0, 0, 0]));
    }

    #[test]
    fn booleans_are_read_as_go_does() {
        assert!(!config(&[("LOCAL_MIGRATION", "F")]).local_migration);
        assert!(config(&[("LOCAL_MIGRATION", "no")]).local_migration, "unreadable: the default");
        assert!(config(&[("V2V_NBDE_CLEVIS", "1")]).clevis);
    }

    #[test]
    fn static_addresses_and_cards_are_joined_by_mac() {
        let c = config(&[
            ("V2V_macAddresses", "00:50:56:A4:2B:1C__00:50:56:a4:00:02"),
            ("V2V_staticIPs", "00:50:56:a4:2b:1c:ip:10.0.0.5,10.0.0.1,24_00:50:56:a4:00:09:ip:fd00::5,,64"),
        ]);
        assert_eq!(
            c.nics,
            [
                Nic { mac: Some("00:50:56:a4:2b:1c".into()), addresses: vec!["10.0.0.5".parse().unwrap()] },
                Nic::default(),
                Nic { mac: Some("00:50:56:a4:00:02".into()), addresses: vec![] },
                Nic { mac: Some("00:50:56:a4:00:09".into()), addresses: vec!["fd00::5".parse().unwrap()] },
            ]
        );
        assert_eq!(c.mac_arguments.len(), 2);
    }

    #[test]
    fn extra_arguments_are_json() {
        assert_eq!(config(&[("V2V_extra_args", r#"["--key","x"]"#)]).extra_args, ["--key", "x"]);
        assert!(config(&[("V2V_extra_args", "--key x")]).extra_args.is_empty());
    }
}
