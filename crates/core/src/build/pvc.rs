//! The volume of a disk.
use forklift_api::{annotations, labels};
use serde_json::json;

use super::virtual_machine::device_number;
use super::{put, vm_labels};
use crate::machine::{Disk, Machine};
use crate::mapping::{self, Volume};
use crate::names::{self, Kind};
use crate::plan::effect::TargetObject;
use crate::plan::world::{PlanFacts, PlanVm};
use crate::template;

const MIB: u64 = 1024 * 1024;
/// The template of PVC names when neither VM nor plan has one.
pub const DEFAULT_TEMPLATE: &str = "{{trunc 15 .PlanName}}-{{trunc 15 .TargetVmName}}-disk-{{.DiskIndex}}";

/// Builds the PVC of a disk.
pub fn pvc(plan: &PlanFacts, vm: &PlanVm, machine: &Machine, index: usize, disk: &Disk, target: &str) -> TargetObject {
    let volume = mapping::volume(disk, plan);
    let mut labels = vm_labels(plan, vm);
    if !machine.uuid.is_empty() {
        labels.insert(labels::VM_UUID.into(), json!(machine.uuid));
    }
    if disk.shared {
        labels.insert(labels::SHAREABLE.into(), json!("true"));
    }
    let mut object = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name(plan, vm, machine, target, index), "namespace": plan.target_namespace, "labels": labels,
            "annotations": {annotations::DISK_SOURCE: disk.key, annotations::DISK_INDEX: index.to_string()}
        },
        "spec": {
            "accessModes": [volume.access_mode], "volumeMode": volume.volume_mode,
            "resources": {"requests": {"storage": size(disk.capacity, &volume).to_string()}}
        }
    });
    put(&mut object["spec"], "storageClassName", volume.storage_class);
    TargetObject::new(object)
}

/// Returns how large a claim has to be for a disk: whole MiB; on a file system with room for its overhead and for the
/// chunk map and the manifest beside the image.
pub fn size(capacity: u64, volume: &Volume) -> u64 {
    let aligned = capacity.div_ceil(MIB) * MIB;
    if volume.volume_mode == "Block" {
        return aligned;
    }
    // the chunk map and the manifest need a few bytes per MiB of disk; never less than 2 MiB
    let beside = (aligned / 4096).max(2 * MIB);
    let room = ((aligned + beside) as f64 / (1.0 - volume.overhead)).ceil() as u64;
    room.div_ceil(MIB) * MIB
}

/// Returns the PVC's name: from the template of the VM, the plan or the default, with a derived suffix unless the plan
/// wants it exact. A template that does not give a valid name is a finding of the checks; here it is passed over.
pub fn name(plan: &PlanFacts, vm: &PlanVm, machine: &Machine, target: &str, index: usize) -> String {
    let template = [&vm.pvc_name_template, &plan.options.pvc_name_template]
        .into_iter()
        .flatten()
        .find(|t| !t.trim().is_empty())
        .map_or(DEFAULT_TEMPLATE, String::as_str);
    let data = name_data(&plan.name, vm, machine, target, index);
    let Ok(rendered) = template::render(template, &data) else { return names::derived(plan, vm, Kind::Disk, index) };
    let base = rendered.trim().trim_end_matches('-');
    let full = if plan.options.pvc_name_exact {
        base.to_owned()
    } else {
        let suffix = &names::hex(&[&plan.uid, &vm.id, &index.to_string()])[..5];
        let base: String = base.chars().take(names::MAX - 6).collect();
        format!("{}-{suffix}", base.trim_end_matches(['-', '.']))
    };
    // the default template cuts by length, which can leave a dot or capital of the plan's name
    if names::label_error(&full).is_none() { full } else { names::derived(plan, vm, Kind::Disk, index) }
}

/// Returns what a PVC name template can use.
pub fn name_data(plan: &str, vm: &PlanVm, machine: &Machine, target: &str, index: usize) -> template::Data {
    let root = vm.root_disk.as_deref().and_then(device_number).filter(|at| *at < machine.disks.len()).unwrap_or(0);
    let disk = machine.disks.get(index);
    let file = disk.map_or("", |disk| disk.key.rsplit_once('/').map_or(disk.key.as_str(), |(_, file)| file));
    [
        ("VmName", vm.name.as_str().into()),
        ("TargetVmName", target.into()),
        ("PlanName", plan.into()),
        ("VmId", vm.id.as_str().into()),
        ("DiskIndex", template::Value::Number(index as i64)),
        ("RootDiskIndex", template::Value::Number(root as i64)),
        ("Shared", template::Value::Bool(disk.is_some_and(|disk| disk.shared))),
        ("WinDriveLetter", disk.map_or("", |disk| disk.drive_letter.as_str()).into()),
        ("FileName", file.into()),
    ]
    .into_iter()
    .map(|(key, value): (&str, template::Value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(mode: &str) -> Volume {
        Volume { storage_class: None, access_mode: "ReadWriteOnce".into(), volume_mode: mode.into(), overhead: 0.1 }
    }

    #[test]
    fn sizes() {
        assert_eq!(size(1, &volume("Block")), MIB);
        assert_eq!(size(10 * MIB, &volume("Block")), 10 * MIB);
        assert_eq!(size(90 * MIB, &volume("Filesystem")), 103 * MIB);
        let gib = 1024 * MIB;
        let claim = size(100 * gib, &volume("Filesystem"));
        assert!((claim as f64) * 0.9 >= (100 * gib + 25 * MIB) as f64);
    }

    #[test]
    fn names_follow_the_template() {
        let mut plan =
            PlanFacts { name: "a-very-long-plan-name-that-exceeds".into(), uid: "u".into(), ..PlanFacts::default() };
        let vm = PlanVm { id: "vm-789".into(), name: "x".into(), ..PlanVm::default() };
        let machine = Machine::default();
        let first = name(&plan, &vm, &machine, "a-very-long-vm-name-that-exceeds-fifteen", 0);
        assert!(first.starts_with("a-very-long-pla-a-very-long-vm--disk-0-"), "{first}");
        plan.options.pvc_name_exact = true;
        plan.options.pvc_name_template = Some("{{.PlanName}}-{{.VmId}}-{{.DiskIndex}}".into());
        assert_eq!(name(&plan, &vm, &machine, "t", 2), "a-very-long-plan-name-that-exceeds-vm-789-2");
        plan.options.pvc_name_template = Some("{{.VmName}}_INVALID".into());
        assert!(name(&plan, &vm, &machine, "t", 2).ends_with("-disk-2"));
    }
}
