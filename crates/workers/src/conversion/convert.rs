//! The conversion itself: overlays, virt-v2v, checks, commit.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use forklift_api::worker::{ConversionResult, Warning};

use super::config::Config;
use super::disks::{self, Disk};
use super::error::ConversionError;
use super::output::{Inspection, Parser, Step};
use super::overlay::{self, Found};
use super::server::Shared;
use super::session::Session;
use super::tool::Tools;
use super::{domain, network, report, root_device};

/// How much of the whole is done when virt-v2v, and when the checks, have ended.
const CONVERTED: f32 = 85.0;
const CHECKED: f32 = 95.0;

/// Converts the VM's disks in place, or goes on where an earlier run was cut off.
pub async fn convert(config: &Config, tools: &Tools, shared: &Shared) -> Result<ConversionResult, ConversionError> {
    shared.progress("Preparing", 0.0, "Looking at the disks");
    fs::create_dir_all(&config.work_dir)
        .map_err(ConversionError::io(format!("create {}", config.work_dir.display())))?;
    let disks = disks::find(config)?;
    let result = match overlay::find(&disks)? {
        Found::Done(result) => {
            tracing::info!("the disks are converted already");
            return Ok(*result);
        }
        Found::Committing(result) => {
            tracing::info!("going on with writing the converted disks");
            *result
        }
        Found::Nothing => {
            let converted = convert_overlays(config, tools, &disks, shared).await;
            if converted.is_err() {
                // the disks stay as they were copied
                overlay::discard(&disks)?;
            }
            let result = converted?;
            overlay::seal(&disks, &result)?;
            result
        }
    };
    let total = disks.len();
    shared.progress("Committing", CHECKED, "Writing the converted disks");
    overlay::commit(tools, &disks, &result, |done| {
        let percent = CHECKED + (100.0 - CHECKED) * done as f32 / total as f32;
        shared.progress("Committing", percent, format!("Disk {done} of {total} is written"));
    })
    .await?;
    Ok(result)
}

async fn convert_overlays(
    config: &Config,
    tools: &Tools,
    disks: &[Disk],
    shared: &Shared,
) -> Result<ConversionResult, ConversionError> {
    overlay::create(tools, disks).await?;
    let overlays: Vec<PathBuf> = disks.iter().map(Disk::overlay).collect();
    let overlays: Vec<&Path> = overlays.iter().map(PathBuf::as_path).collect();
    let domain_file = config.work_dir.join("domain.xml");
    fs::write(&domain_file, domain::xml(config.domain_name(), &overlays, &config.nics))
        .map_err(ConversionError::io(format!("write {}", domain_file.display())))?;

    let keys = keys(config)?;
    let (mut found, mut warnings) = run_virt_v2v(config, tools, &domain_file, &keys, shared).await?;
    shared.progress("Checking", CONVERTED, "Checking that the guest will find its root device");
    if found.name == "linux" {
        warnings.extend(finish_linux(config, tools, &overlays, &mut found, &keys, shared).await?);
    }
    warnings.extend(run_scripts(config, tools, &overlays, &keys, &found).await);
    let firmware = config.firmware.clone().filter(|f| !f.is_empty()).unwrap_or_else(|| found.firmware.clone());
    Ok(ConversionResult {
        warnings,
        vm: Some(report::vm_yaml(config.domain_name(), &firmware)),
        firmware: Some(firmware).filter(|f| !f.is_empty()),
        inspection: serde_json::to_value(&found).ok(),
        error: None,
    })
}

async fn run_virt_v2v(
    config: &Config,
    tools: &Tools,
    domain: &Path,
    keys: &[String],
    shared: &Shared,
) -> Result<(Inspection, Vec<Warning>), ConversionError> {
    let help = supported_options(tools).await?;
    let args = arguments(config, keys, domain, |option| help.contains(option));
    let mut parser = Parser::default();
    let status = tools
        .run_lines(&tools.virt_v2v, &args, |line| {
            println!("{line}"); // the pod's log is virt-v2v's, as upstream's is
            if let Some(Step::Progress { percent, message }) = parser.line(line) {
                tracing::info!(percent, "{message}");
                shared.progress("Converting", percent / 100.0 * CONVERTED, message);
            }
        })
        .await?;
    if !status.success() {
        return Err(parser.failure());
    }
    Ok((parser.inspection, parser.warnings))
}

/// What this virt-v2v's help says: `--memsize`, `--smp` and `--no-fstrim` came later than Debian 12's.
async fn supported_options(tools: &Tools) -> Result<String, ConversionError> {
    let mut help = String::new();
    tools.run_lines(&tools.virt_v2v, &["--help".into()], |line| help.push_str(&format!("{line}\n"))).await?;
    Ok(help)
}

/// The command line of virt-v2v-in-place.
fn arguments(config: &Config, keys: &[String], domain: &Path, supports: impl Fn(&str) -> bool) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["--machine-readable", "-v", "-x", "-i", "libvirtxml"].map(OsString::from).into();
    args.extend(["--root".into(), config.root_disk.clone().unwrap_or_else(|| "first".into()).into()]);
    for (option, value) in [("--memsize", config.memsize), ("--smp", config.smp)] {
        if let Some(value) = value.filter(|_| supports(option)) {
            args.extend([option.into(), value.to_string().into()]);
        }
    }
    for mac in &config.mac_arguments {
        args.extend(["--mac".into(), mac.into()]);
    }
    for key in keys {
        args.extend(["--key".into(), key.into()]);
    }
    args.extend(config.extra_args.iter().map(OsString::from));
    args.push(domain.into());
    args
}

/// The keys for encrypted disks, as libguestfs' tools take them. Each is tried on all devices.
fn keys(config: &Config) -> Result<Vec<String>, ConversionError> {
    if config.clevis {
        return Ok(vec!["all:clevis".into()]);
    }
    let Ok(entries) = fs::read_dir(&config.luks_dir) else {
        return Ok(Vec::new());
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|e| !e.file_name().to_string_lossy().starts_with("..")) // the kubelet's own links
        .map(|e| e.path())
        .filter(|p| p.is_file())
        .collect();
    files.sort();
    Ok(files.into_iter().map(|f| format!("all:file:{}", f.display())).collect())
}

/// Looks at the converted Linux guest once: fails if it would not boot, keeps its interfaces' names.
async fn finish_linux(
    config: &Config,
    tools: &Tools,
    overlays: &[&Path],
    found: &mut Inspection,
    keys: &[String],
    shared: &Shared,
) -> Result<Vec<Warning>, ConversionError> {
    let mut session = match Session::open(tools, overlays, &found.root, keys).await {
        Ok(session) => session,
        // virt-v2v has converted it: that we cannot mount it the plain way is no failure
        Err(ConversionError::Failed(message)) => {
            return Ok(vec![Warning {
                reason: "RootDeviceNotChecked".into(),
                message: format!("the converted guest could not be looked at: {message}"),
            }]);
        }
        Err(error) => return Err(error),
    };
    let devices = session.devices().await?;
    let boot = session.files(root_device::PATTERNS).await?;
    let mut warnings = root_device::check(&boot, &devices)?;

    shared.progress("Checking", CONVERTED + 5.0, "Keeping the names of the network interfaces");
    let guest = session.files(network::PATTERNS).await?;
    let plan = network::plan(&guest, &config.nics);
    for (path, content) in &plan.files {
        tracing::info!(path, content, "writing into the guest");
        session.write(path, content).await?;
    }
    warnings.extend(plan.warnings.into_iter().map(|message| Warning { reason: "NetworkNamesNotKept".into(), message }));
    let hostname = session.files(&["/etc/hostname"]).await?;
    found.hostname = hostname.get("/etc/hostname").map(|h| h.trim().to_owned()).filter(|h| !h.is_empty());
    session.close().await?;
    Ok(warnings)
}

/// Runs the user's own scripts (`10_linux_run_x.sh`, `20_linux_firstboot_y.sh`). As upstream, a failure is a warning.
async fn run_scripts(
    config: &Config,
    tools: &Tools,
    overlays: &[&Path],
    keys: &[String],
    found: &Inspection,
) -> Vec<Warning> {
    let scripts = if found.name == "linux" { scripts(&config.scripts_dir) } else { Vec::new() };
    if scripts.is_empty() {
        return Vec::new();
    }
    let mut args: Vec<OsString> = vec!["--verbose".into(), "--format".into(), "qcow2".into()];
    for (option, path) in scripts {
        args.extend([option.into(), path.into_os_string()]);
    }
    for overlay in overlays {
        args.extend(["--add".into(), overlay.into()]);
    }
    for key in keys {
        args.extend(["--key".into(), key.into()]);
    }
    match tools.run(&tools.virt_customize, &args).await {
        Ok(()) => Vec::new(),
        Err(error) => vec![Warning {
            reason: "CustomizationFailed".into(),
            message: format!(
                "VM customization failed: {}. Migration will proceed but customization was not applied successfully.",
                error.to_worker_error().message
            ),
        }],
    }
}

/// The scripts with how virt-customize is to take them, in the order of their names.
fn scripts(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found: Vec<(&'static str, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.trim_start_matches(|c: char| c.is_ascii_digit());
            if rest.len() == name.len() || !name.ends_with(".sh") {
                return None;
            }
            if rest.starts_with("_linux_run") {
                Some(("--run", entry.path()))
            } else if rest.starts_with("_linux_firstboot") {
                Some(("--firstboot", entry.path()))
            } else {
                None
            }
        })
        .collect();
    found.sort_by(|a, b| a.1.cmp(&b.1));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_has_what_was_asked_for() {
        let config = Config::from_env(|key| {
            let value = match key {
                "V2V_RootDisk" => "/dev/sda2",
                "V2V_memSize" => "4096",
                "V2V_staticIPs" => "00:50:56:a4:2b:1c:ip:10.0.0.5,10.0.0.1,24",
                "V2V_extra_args" => r#"["--quiet"]"#,
                _ => return None,
            };
            Some(value.to_owned())
        });
        let line = |supports: fn(&str) -> bool| {
            let args = arguments(&config, &["all:clevis".into()], Path::new("/w/domain.xml"), supports);
            args.iter().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            line(|_| true),
            "--machine-readable -v -x -i libvirtxml --root /dev/sda2 --memsize 4096 --mac \
             00:50:56:a4:2b:1c:ip:10.0.0.5,10.0.0.1,24 --key all:clevis --quiet /w/domain.xml"
        );
        assert!(!line(|_| false).contains("--memsize"), "Debian 12's virt-v2v has no such option");
    }

    #[test]
    fn keys_are_one_a_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("b"), "x").unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        fs::create_dir(dir.path().join("..data")).unwrap();
        let mut config = Config::from_env(|_| None);
        config.luks_dir = dir.path().into();
        let expected: Vec<String> =
            ["a", "b"].iter().map(|n| format!("all:file:{}", dir.path().join(n).display())).collect();
        assert_eq!(keys(&config).unwrap(), expected);
        config.clevis = true;
        assert_eq!(keys(&config).unwrap(), ["all:clevis"]);
    }

    #[test]
    fn scripts_are_told_by_their_names() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["20_linux_firstboot_b.sh", "10_linux_run_a.sh", "notes.txt", "linux_run.sh", "30_win_firstboot.ps1"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let found = scripts(dir.path());
        assert_eq!(
            found.iter().map(|(o, p)| (*o, p.file_name().unwrap().to_str().unwrap())).collect::<Vec<_>>(),
            [("--run", "10_linux_run_a.sh"), ("--firstboot", "20_linux_firstboot_b.sh")]
        );
    }
}
