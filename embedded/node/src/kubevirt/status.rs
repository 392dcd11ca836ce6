//! What an instance's status shows: conditions, interfaces, volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use forklift_kubevirt_types::VirtualMachineInstance;
use forklift_kubevirt_types::kubevirt::{Condition, Volume};
use forklift_kubevirt_types::vmi::{InterfaceStatus, VolumeStatus, phase};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::monitor::Guest;
use super::qemu;
use super::vmi::Seen;

/// Says by name what of the specification the node does not offer.
pub const NOT_OFFERED: &str = "node.embedded/NotOffered";

/// Makes a condition; its time is kept while its status is the same.
pub fn condition(
    before: &[Condition],
    name: &str,
    holds: bool,
    why: Option<(&str, String)>,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let since = before
        .iter()
        .find(|condition| condition.type_ == name && condition.status == status)
        .and_then(|condition| condition.last_transition_time.clone());
    let (reason, message) = why.unzip();
    Condition {
        type_: name.into(),
        status: status.into(),
        reason: reason.map(str::to_owned),
        message,
        last_transition_time: Some(since.unwrap_or(Time(now))),
        ..Condition::default()
    }
}

/// What an instance's conditions are made from.
pub struct Facts<'a> {
    /// The instance.
    pub vmi: &'a VirtualMachineInstance,
    /// Its phase.
    pub seen: &'a Seen,
    /// Its pod.
    pub pod: Option<&'a Pod>,
    /// What QEMU and the agent say.
    pub guest: &'a Guest,
    /// Its claims, by name.
    pub claims: &'a BTreeMap<String, Arc<PersistentVolumeClaim>>,
    /// What was left out; none: not known now, what was written stays.
    pub notes: Option<&'a [String]>,
}

/// The conditions of an instance.
pub fn conditions(facts: &Facts, now: Timestamp) -> Vec<Condition> {
    let old = facts.vmi.status.clone().unwrap_or_default().conditions;
    let running = facts.seen.phase == phase::RUNNING;
    let make = |name: &str, holds: bool, why: Option<(&str, String)>| condition(&old, name, holds, why, now);
    let mut list = Vec::new();
    list.push(match (running, ready(facts.pod)) {
        (true, true) => make("Ready", true, None),
        (true, false) => {
            make("Ready", false, Some(("ContainersNotReady", "the readiness probe has not passed".to_owned())))
        }
        (false, _) => {
            let why = facts.seen.reason.as_deref().unwrap_or("GuestNotRunning");
            let text = facts.seen.message.clone();
            let text = text.unwrap_or_else(|| format!("the guest is not running: {}", facts.seen.phase));
            make("Ready", false, Some((why, text)))
        }
    });
    let (why, text) = immovable(facts);
    list.push(make("LiveMigratable", false, Some((why, text))));
    let refused = facts.seen.phase == phase::PENDING && facts.seen.reason.is_some();
    if refused {
        let why = facts.seen.reason.as_deref().unwrap_or_default();
        list.push(make("Synchronized", false, Some((why, facts.seen.message.clone().unwrap_or_default()))));
    }
    if let Some((why, text)) = facts.guest.paused().filter(|_| running) {
        list.push(make("Paused", true, Some((why, text.to_owned()))));
    }
    if facts.guest.agent.is_some() && running {
        list.push(make("AgentConnected", true, None));
    }
    let unbound = unbound(facts);
    list.push(if unbound.is_empty() {
        let text = "All of the VMI's DVs are bound and ready".to_owned();
        make("DataVolumesReady", true, Some(("AllDVsReady", text)))
    } else {
        let text = format!("Not all of the VMI's DVs are ready: {}", unbound.join(", "));
        make("DataVolumesReady", false, Some(("NotAllDVsReady", text)))
    });
    match facts.notes {
        Some([]) => {}
        Some(notes) => list.push(make(NOT_OFFERED, true, Some(("LeftOut", notes.join("; "))))),
        None => list.extend(old.iter().find(|condition| condition.type_ == NOT_OFFERED).cloned()),
    }
    let ours = ["Ready", "LiveMigratable", "Synchronized", "Paused", "AgentConnected", "DataVolumesReady", NOT_OFFERED];
    let others = old.into_iter().filter(|condition| !ours.contains(&condition.type_.as_str()));
    list.extend(others);
    list
}

/// A pod without probes is ready while it runs.
fn ready(pod: Option<&Pod>) -> bool {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let compute = status.and_then(|status| {
        status.container_statuses.as_ref()?.iter().find(|container| container.name == qemu::COMPUTE)
    });
    compute.is_some_and(|container| container.ready)
}

fn unbound(facts: &Facts) -> Vec<String> {
    let claims = qemu::claims(&facts.vmi.spec).into_iter();
    claims
        .filter(|name| {
            let phase = facts.claims.get(name).and_then(|claim| claim.status.as_ref()?.phase.as_deref());
            phase != Some("Bound")
        })
        .collect()
}

/// Why a machine cannot be moved: what KubeVirt would name first, and that there is nowhere to go.
fn immovable(facts: &Facts) -> (&'static str, String) {
    let spec = &facts.vmi.spec;
    let bridged = spec.domain.devices.interfaces.iter().any(|interface| {
        let pod = spec.networks.iter().any(|network| network.name == interface.name && network.pod.is_some());
        pod && interface.bridge.is_some()
    });
    if bridged {
        let text = "cannot migrate VMI which does not use masquerade to connect to the pod network";
        return ("InterfaceNotLiveMigratable", text.to_owned());
    }
    for name in qemu::claims(spec) {
        let claim = facts.claims.get(&name);
        let modes = claim.and_then(|claim| claim.spec.as_ref()?.access_modes.clone()).unwrap_or_default();
        if claim.is_some() && !modes.iter().any(|mode| mode == "ReadWriteMany") {
            let text = format!(
                "cannot migrate VMI: PVC {name} is not shared, live migration requires that all PVCs must be shared (using ReadWriteMany access mode)"
            );
            return ("DisksNotLiveMigratable", text);
        }
    }
    ("NotMigratable", "cannot migrate VMI: the embedded cluster has one node".to_owned())
}

/// The interfaces that a running instance shows.
pub fn interfaces(vmi: &VirtualMachineInstance, pod: &Pod, guest: &Guest) -> Vec<InterfaceStatus> {
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let reported = guest.agent.as_ref().map(|agent| agent.interfaces.clone()).unwrap_or_default();
    let shown = vmi.spec.domain.devices.interfaces.iter().filter(|one| one.state.as_deref() != Some("absent"));
    let mut list: Vec<InterfaceStatus> = Vec::new();
    for (position, interface) in shown.enumerate() {
        let on_pod_network =
            vmi.spec.networks.iter().any(|network| network.name == interface.name && network.pod.is_some());
        let mac = qemu::mac(vmi, interface);
        let inside = reported.iter().find(|(_, known, _)| *known == mac);
        let mut addresses: Vec<String> = ip.iter().filter(|_| on_pod_network).cloned().collect();
        if let Some((_, _, more)) = inside.filter(|_| !on_pod_network) {
            addresses.extend(more.iter().cloned());
        }
        list.push(InterfaceStatus {
            name: Some(interface.name.clone()),
            mac: Some(mac),
            ip_address: addresses.first().cloned(),
            ip_addresses: addresses,
            interface_name: inside.map(|(name, ..)| name.clone()),
            pod_interface_name: on_pod_network.then(|| format!("eth{position}")),
            info_source: Some(if inside.is_some() { "domain, guest-agent" } else { "domain" }.into()),
            link_state: Some("up".into()),
            queue_count: Some(1),
            ..InterfaceStatus::default()
        });
    }
    // those of which the specification knows nothing
    let known: Vec<Option<String>> = list.iter().map(|interface| interface.mac.clone()).collect();
    for (name, mac, addresses) in reported {
        if name != "lo" && !known.contains(&Some(mac.clone())) {
            list.push(InterfaceStatus {
                mac: Some(mac),
                interface_name: Some(name),
                ip_address: addresses.first().cloned(),
                ip_addresses: addresses,
                info_source: Some("guest-agent".into()),
                ..InterfaceStatus::default()
            });
        }
    }
    list
}

/// The volumes that an instance shows; `plugged` says how far volumes that came later are.
pub fn volumes(
    vmi: &VirtualMachineInstance,
    pod: &Pod,
    claims: &BTreeMap<String, Arc<PersistentVolumeClaim>>,
    plugged: &BTreeMap<String, Value>,
) -> Vec<VolumeStatus> {
    let (mut virtio, mut others) = (0_u8, 0_u8);
    let mut targets = BTreeMap::new();
    for disk in &vmi.spec.domain.devices.disks {
        let bus = disk.disk.as_ref().and_then(|target| target.bus.as_deref());
        let (prefix, count) = if bus == Some("virtio") { ("vd", &mut virtio) } else { ("sd", &mut others) };
        targets.insert(disk.name.clone(), format!("{prefix}{}", letters(*count)));
        *count += 1;
    }
    let one = |volume: &Volume| {
        let mut status = json!({"name": volume.name, "target": targets.get(&volume.name).cloned().unwrap_or_default()});
        if let Some(name) = qemu::claim_of(volume) {
            status["persistentVolumeClaimInfo"] = claim_info(&name, claims.get(&name).map(|claim| &**claim));
        }
        if let Some(state) = plugged.get(&volume.name) {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            status["hotplugVolume"] = json!({"attachPodName": pod.metadata.name, "attachPodUID": uid});
            for (key, value) in state.as_object().into_iter().flatten() {
                status[key] = value.clone();
            }
        }
        serde_json::from_value(status).unwrap_or_default()
    };
    let gone = plugged.iter().filter(|(name, _)| !vmi.spec.volumes.iter().any(|volume| volume.name == **name));
    let gone = gone.map(|(name, state)| {
        let mut status = json!({"name": name, "target": "", "hotplugVolume": {}});
        for (key, value) in state.as_object().into_iter().flatten() {
            status[key] = value.clone();
        }
        serde_json::from_value(status).unwrap_or_default()
    });
    vmi.spec.volumes.iter().map(one).chain(gone).collect()
}

/// What is shown of a claim.
fn claim_info(name: &str, claim: Option<&PersistentVolumeClaim>) -> Value {
    let spec = claim.and_then(|claim| claim.spec.clone()).unwrap_or_default();
    let mut info = json!({"claimName": name});
    let requests = spec.resources.and_then(|resources| resources.requests);
    let capacity = claim.and_then(|claim| claim.status.as_ref()?.capacity.clone());
    let fields = [
        ("accessModes", json!(spec.access_modes)),
        ("volumeMode", json!(spec.volume_mode)),
        ("requests", json!(requests)),
        ("capacity", json!(capacity)),
    ];
    for (field, value) in fields {
        if !value.is_null() {
            info[field] = value;
        }
    }
    info
}

/// `a` … `z`, `aa` …, as Linux numbers disks.
fn letters(number: u8) -> String {
    let letter = |index: u8| char::from(b'a' + index);
    match number / 26 {
        0 => letter(number).to_string(),
        first => [letter(first - 1), letter(number % 26)].iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_named_as_linux_names_disks() {
        assert_eq!([0, 25, 26, 27, 255].map(letters), ["a", "z", "aa", "ab", "iv"].map(String::from));
    }

    #[test]
    fn an_agent_adds_what_it_sees() {
        let vmi: VirtualMachineInstance = serde_json::from_value(json!({
            "metadata": {"name": "m", "namespace": "n"},
            "spec": {"domain": {"devices": {"interfaces": [
                {"name": "default", "masquerade": {}, "macAddress": "02:00:00:00:00:01"},
                {"name": "lan", "bridge": {}, "macAddress": "02-00-00-00-00-0A"}]}},
                "networks": [{"name": "default", "pod": {}}, {"name": "lan", "multus": {"networkName": "lan"}}]}}))
        .expect("an instance");
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "status": {"podIP": "127.64.0.5"}})).expect("a pod");
        let mut report = super::super::agent::Report::default();
        report.interfaces = vec![
            ("lo".into(), String::new(), vec!["127.0.0.1".into()]),
            ("enp1s0".into(), "02:00:00:00:00:01".into(), vec!["10.0.2.15".into()]),
            ("enp2s0".into(), "02:00:00:00:00:0a".into(), vec!["192.168.7.2".into(), "fe80::1".into()]),
            ("docker0".into(), "02:42:00:00:00:01".into(), vec!["172.17.0.1".into()]),
        ];
        let guest = Guest { state: "running".into(), agent: Some(Arc::new(report)) };
        let shown = interfaces(&vmi, &pod, &guest);
        let lines: Vec<String> = shown
            .iter()
            .map(|one| {
                let text = |value: &Option<String>| value.clone().unwrap_or("-".into());
                format!(
                    "{} {} {} {}",
                    text(&one.name),
                    text(&one.interface_name),
                    one.ip_addresses.join(","),
                    text(&one.info_source)
                )
            })
            .collect();
        expect_test::expect![[r#"
            default enp1s0 127.64.0.5 domain, guest-agent
            lan enp2s0 192.168.7.2,fe80::1 domain, guest-agent
            - docker0 172.17.0.1 guest-agent"#]]
        .assert_eq(&lines.join("\n"));
    }
}
