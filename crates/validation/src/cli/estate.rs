//! Where VMs come from: a saved file, or a live inventory.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Problem;
use crate::{RuleFile, Validator, read_tree};

/// Types of providers that have rules.
pub const PROVIDERS: &[&str] = &["vsphere", "ovirt", "openstack", "openshift", "ova", "hyperv"];

/// Which VMs.
#[derive(clap::Args, Clone, Debug)]
pub struct EstateArgs {
    /// Type of the provider (vsphere, ovirt, …) for a saved file; name, uid or type of the provider in a live inventory
    #[arg(long, short, value_name = "PROVIDER")]
    pub provider: String,
    /// Name or id of a virtual machine; can be repeated [default: all]
    #[arg(long, value_name = "VM")]
    pub vm: Vec<String>,
    /// Saved virtual machines: JSON or one JSON document a line, as the inventory shows them under workloads; - reads stdin
    #[arg(long, value_name = "FILE", conflicts_with = "inventory")]
    pub from: Option<PathBuf>,
    /// Address of a live inventory; the token is read from FORKLIFT_TOKEN
    #[arg(long, value_name = "URL", env = "MTV_INVENTORY_URL")]
    pub inventory: Option<String>,
    /// Certificate authority of the inventory, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Do not check the inventory's certificate
    #[arg(long)]
    pub insecure: bool,
    /// Write what was read to this file, one virtual machine a line, for --from
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
}

/// VMs to be read from an inventory service.
#[derive(Clone, Debug)]
pub struct Live {
    /// The service's address.
    pub url: String,
    /// Name, uid or type of the provider.
    pub provider: String,
    /// Names or ids of the VMs; empty for all.
    pub vms: Vec<String>,
    /// PEM of the certificate authority.
    pub ca: Option<Vec<u8>>,
    /// Whether certificates are not checked.
    pub insecure: bool,
}

/// VMs with the type of their provider.
pub(super) struct Estate {
    pub provider_type: String,
    pub vms: Vec<Value>,
}

impl EstateArgs {
    pub(super) fn load(&self, live: &dyn Fn(&Live) -> Result<Vec<Value>, Problem>) -> Result<Estate, Problem> {
        let estate = match (&self.from, &self.inventory) {
            (Some(file), _) => self.saved(file)?,
            (None, Some(url)) => self.live(url, live)?,
            (None, None) => {
                return Err(
                    "no virtual machines: name a saved file with --from, or a live inventory with --inventory".into()
                );
            }
        };
        if let Some(file) = &self.save {
            let lines: String = estate.vms.iter().map(|vm| format!("{vm}\n")).collect();
            std::fs::write(file, lines).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        }
        Ok(estate)
    }

    fn saved(&self, file: &Path) -> Result<Estate, Problem> {
        let known = PROVIDERS.iter().find(|known| **known == self.provider);
        let provider_type = match known {
            Some(known) => (*known).to_owned(),
            None if self.provider == "vmware" => "vsphere".to_owned(),
            None => {
                return Err(
                    format!("there are no rules for `{}`; types are {}", self.provider, PROVIDERS.join(", ")).into()
                );
            }
        };
        let mut text = String::new();
        let read = match file.to_str() {
            Some("-") => std::io::stdin().read_to_string(&mut text).map(drop),
            _ => std::fs::read_to_string(file).map(|read| text = read),
        };
        read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let all = parse(&text).map_err(|error| format!("{} holds no virtual machines: {error}", file.display()))?;
        Ok(Estate { vms: self.chosen(all)?, provider_type })
    }

    fn live(&self, url: &str, live: &dyn Fn(&Live) -> Result<Vec<Value>, Problem>) -> Result<Estate, Problem> {
        let ca = match &self.ca {
            Some(file) => {
                Some(std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?)
            }
            None => None,
        };
        let wanted = Live {
            url: url.to_owned(),
            provider: self.provider.clone(),
            vms: self.vm.clone(),
            ca,
            insecure: self.insecure,
        };
        let vms = live(&wanted)?;
        // providers/<type>/<uid>/workloads/<id>
        let link = vms.iter().find_map(|vm| vm["selfLink"].as_str()).unwrap_or_default();
        let provider_type = link.trim_start_matches('/').split('/').nth(1).unwrap_or(&self.provider).to_owned();
        Ok(Estate { vms: self.chosen(vms)?, provider_type })
    }

    fn chosen(&self, all: Vec<Value>) -> Result<Vec<Value>, Problem> {
        if self.vm.is_empty() {
            return Ok(all);
        }
        let is = |vm: &Value, wanted: &str| vm["name"] == wanted || vm["id"] == wanted;
        if let Some(missing) = self.vm.iter().find(|wanted| !all.iter().any(|vm| is(vm, wanted))) {
            let some: Vec<&str> = all.iter().filter_map(|vm| vm["name"].as_str()).take(5).collect();
            return Err(format!(
                "there is no virtual machine `{missing}`; there are {}, for instance {}",
                all.len(),
                some.join(", ")
            )
            .into());
        }
        Ok(all.into_iter().filter(|vm| self.vm.iter().any(|wanted| is(vm, wanted))).collect())
    }
}

/// Reads one VM, a list, an answer of the inventory, requests of the validation service, or one of these a line.
fn parse(text: &str) -> Result<Vec<Value>, Problem> {
    let mut vms = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let mut document = document?;
        if let Some(input) = document.get_mut("input") {
            document = input.take();
        }
        match document {
            Value::Array(items) => vms.extend(items),
            other => vms.push(other),
        }
    }
    if vms.is_empty() {
        return Err("it is empty".into());
    }
    match vms.iter().position(|vm| !vm.is_object()) {
        Some(at) => Err(format!("document {} is not an object", at + 1).into()),
        None => Ok(vms),
    }
}

/// Returns the name that a VM is shown with.
pub(super) fn name(vm: &Value) -> &str {
    vm["name"].as_str().or_else(|| vm["id"].as_str()).unwrap_or("(no name)")
}

/// Loads rules: `bundled`, or a folder (or file) with those that are added to them or take their place.
pub(super) fn rules(path: Option<&Path>) -> Result<Validator, Problem> {
    let Some(path) = path.filter(|path| path.as_os_str() != "bundled") else { return Ok(Validator::new()) };
    let files: Vec<RuleFile> = read_tree(path)
        .map_err(|error| format!("cannot read the rules in {}: {error}", path.display()))?
        .into_iter()
        .filter(|file| !file.name.ends_with("_test.rego"))
        .collect();
    if files.is_empty() {
        return Err(format!("there are no .rego files in {}", path.display()).into());
    }
    let validator = Validator::with_own(&files);
    for error in validator.rule_errors() {
        eprintln!("left out: {error}");
    }
    Ok(validator)
}
