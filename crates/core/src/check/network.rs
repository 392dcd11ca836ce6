//! Whether every network is mapped, and the mapping makes sense on the target.
use forklift_api::condition::{reasons, types};
use forklift_api::{Category, Condition};

use super::{Check, Facts, finding};
use crate::machine::{PowerState, Tools};
use crate::mapping::{attachments, unmapped_networks};
use crate::plan::world::NetworkDestination;

/// The check.
pub const CHECK: Check = Check {
    conditions: &[
        types::VM_NETWORKS_NOT_MAPPED,
        types::VM_MULTIPLE_POD_NETWORK_MAPPINGS,
        types::MAC_CONFLICTS,
        types::NET_MAP_PRESERVING_IPS_ON_POD_NETWORK,
        types::VM_MISSING_GUEST_IPS,
    ],
    run,
};

fn run(facts: &Facts<'_>) -> Vec<Condition> {
    let map = &facts.plan.networks;
    let critical =
        |type_: &str, message: &str| Condition::new(type_, Category::Critical, message).reason(reasons::NOT_VALID);
    let unmapped = facts.items(|_, machine| {
        let names: Vec<_> = unmapped_networks(machine, map).iter().map(|n| n.display().to_owned()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    });
    let pods = facts.items(|_, machine| {
        let pods = attachments(machine, map).iter().filter(|a| a.destination == &NetworkDestination::Pod).count();
        (pods > 1).then(|| format!("{pods} NICs"))
    });
    let macs = facts.items(|vm, machine| {
        let others = facts.target_vms.iter().filter(|t| t.plan_uid != facts.plan.uid || t.vm_id != vm.spec.id);
        let clashes: Vec<_> = others
            .flat_map(|t| t.macs.iter().map(move |mac| (t, mac)))
            .filter(|(_, mac)| machine.nics.iter().any(|nic| !nic.mac.is_empty() && nic.mac.eq_ignore_ascii_case(mac)))
            .map(|(t, mac)| format!("{mac} is used by {}/{}", t.namespace, t.name))
            .collect();
        (!clashes.is_empty() && !vm.started).then(|| clashes.join(", "))
    });
    let keeps = facts.plan.options.preserve_static_ips && facts.plan.source.static_ips;
    let pod_row = map.iter().any(|row| row.destination == NetworkDestination::Pod);
    let on_pod = (keeps && pod_row && !facts.plan.udn).then(|| {
        Condition::new(
            types::NET_MAP_PRESERVING_IPS_ON_POD_NETWORK,
            Category::Warn,
            "Your plan preserves the static IPs of VMs that are mapped to the pod network. VM IPs aren't preserved during a migration to the pod network.",
        )
    });
    let silent = if keeps {
        facts.items(|_, machine| {
            let silent = !machine.nics.is_empty() && machine.nics.iter().all(|nic| nic.addresses.is_empty());
            silent.then(|| match (machine.traits.tools, machine.power) {
                (Tools::NotInstalled, _) => "the guest tools are not installed".to_owned(),
                (Tools::NotRunning, PowerState::Off) => "it is off".to_owned(),
                (Tools::NotRunning, _) => "the guest tools do not run".to_owned(),
                (Tools::NotApplicable | Tools::Running | Tools::Unknown, _) => String::new(),
            })
        })
    } else {
        Vec::new()
    };
    [
        finding(unmapped, || {
            critical(types::VM_NETWORKS_NOT_MAPPED, "VM has unmapped networks.")
                .suggestion("Add the networks to the network map.")
        }),
        finding(pods, || {
            critical(types::VM_MULTIPLE_POD_NETWORK_MAPPINGS, "A VM can have one NIC on the pod network.")
                .suggestion("Map the other networks to NetworkAttachmentDefinitions.")
        }),
        finding(macs, || {
            critical(types::MAC_CONFLICTS, "MAC addresses of VMs are used on the target already.")
                .suggestion("Change the MAC address at the source, or remove the VM that uses it.")
        }),
        on_pod,
        finding(silent, || {
            Condition::new(
                types::VM_MISSING_GUEST_IPS,
                Category::Warn,
                "The source does not know the addresses of some VMs; they cannot be kept.",
            )
            .reason(reasons::MISSING_GUEST_INFORMATION)
            .suggestion("Let the VMs run with their guest tools until the inventory knows their addresses.")
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}
