//! What a migration leaves behind: the disks, and a manifest to create the machine on a cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use forklift_providers::ova::ovf::units::quantity;
use indicatif::HumanBytes;
use serde_json::{Value, json};

/// The machine that a migration has made.
pub struct Finished {
    /// Name of the VirtualMachine.
    pub vm: String,
    /// The VirtualMachine.
    pub machine: Value,
    /// The claims of its disks, in the order of the disks.
    pub claims: Vec<Value>,
}

/// Says in one line what will be migrated.
pub fn describe(vm: &Value) -> String {
    let disks = vm["disks"].as_array().map_or(0, Vec::len);
    let size = |disk: &Value| quantity(disk["Capacity"].as_i64()?, disk["CapacityAllocationUnits"].as_str()?);
    let capacity: u64 = vm["disks"].as_array().into_iter().flatten().filter_map(size).sum();
    let memory = vm["memoryMB"].as_u64().unwrap_or(0);
    let system = vm["osType"].as_str().unwrap_or("unknown system");
    format!(
        "{}: {} CPU, {memory} MiB of memory, {disks} disk{} of {}, {system}",
        vm["name"].as_str().unwrap_or_default(),
        vm["cpuCount"].as_u64().unwrap_or(0),
        if disks == 1 { "" } else { "s" },
        HumanBytes(capacity),
    )
}

/// Moves the disks out of the stopped stack's volumes, writes the manifest, removes the state.
pub fn collect(finished: &Finished, state: &Path, to: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let mut made = Vec::new();
    for (index, claim) in finished.claims.iter().enumerate() {
        let volume = claim["spec"]["volumeName"].as_str().context("a claim of the machine has no volume")?;
        let disk = find_disk(&state.join("node"), volume)
            .with_context(|| format!("the disk of the volume {volume} is not in {}", state.display()))?;
        let path = to.join(format!("{}-disk{index}.img", finished.vm));
        std::fs::rename(&disk, &path)
            .with_context(|| format!("cannot move {} to {}", disk.display(), path.display()))?;
        made.push((
            path,
            format!("raw disk, {}", claim["spec"]["resources"]["requests"]["storage"].as_str().unwrap_or_default()),
        ));
    }
    let manifest = to.join(format!("{}.yaml", finished.vm));
    std::fs::write(&manifest, yaml(finished)?).with_context(|| format!("cannot write {}", manifest.display()))?;
    made.push((manifest, "VirtualMachine and its claims, for kubectl apply".into()));
    std::fs::remove_dir_all(state).with_context(|| format!("cannot remove {}", state.display()))?;
    Ok(made)
}

/// Finds the image of a volume: a folder with `disk.img` or a file, named after the volume.
fn find_disk(folder: &Path, volume: &str) -> anyhow::Result<PathBuf> {
    for entry in std::fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let is_folder = entry.file_type()?.is_dir();
        if entry.file_name() == volume {
            return Ok(if is_folder { path.join("disk.img") } else { path });
        }
        if is_folder && let Ok(found) = find_disk(&path, volume) {
            return Ok(found);
        }
    }
    bail!("no volume {volume} in {}", folder.display())
}

/// Returns the machine and its claims without what only the server knows.
fn yaml(finished: &Finished) -> anyhow::Result<String> {
    let mut text = String::new();
    let claims = finished.claims.iter().map(|claim| {
        let mut claim = portable(claim, "v1", "PersistentVolumeClaim");
        claim["spec"] = json!({
            "accessModes": claim["spec"]["accessModes"], "volumeMode": claim["spec"]["volumeMode"], "resources": claim["spec"]["resources"],
        });
        claim
    });
    for object in claims.chain([portable(&finished.machine, "kubevirt.io/v1", "VirtualMachine")]) {
        text += "---\n";
        text += serde_saphyr::to_string(&object)?.trim_end();
        text += "\n";
    }
    Ok(text)
}

fn portable(object: &Value, version: &str, kind: &str) -> Value {
    let mut metadata = json!({"name": object["metadata"]["name"]});
    for key in ["labels", "annotations"] {
        let mut map = object["metadata"][key].as_object().cloned().unwrap_or_default();
        // another cluster binds its own volumes
        map.retain(|name, _| !name.starts_with("pv.kubernetes.io/") && !name.starts_with("volume.kubernetes.io/"));
        if !map.is_empty() {
            metadata[key] = json!(map);
        }
    }
    json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": object["spec"]})
}
