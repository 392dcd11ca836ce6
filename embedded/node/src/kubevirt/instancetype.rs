//! Instance types and preferences: found, recorded, and worked into a machine's specification.
//!
//! What was found is kept in a ControllerRevision of the machine's own, as KubeVirt does, so that a later change
//! of the instance type changes no machine. Both are worked in as JSON: a preference fills what is not said, an
//! instance type must not be contradicted.

use forklift_kubevirt_types::VirtualMachine;
use forklift_kubevirt_types::kubevirt::{InstancetypeRef, LocalRef, Matcher, VirtualMachineInstanceSpec};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::{Api, Client, Resource};
use serde_json::{Map, Value, json};

use super::qemu::{self, Refusal};
use crate::quantity;

const GROUP: &str = "instancetype.kubevirt.io";
const VERSION: &str = "v1beta1";

/// Copies that were made or found; none: the machine names none.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Of the instance type.
    pub instancetype: Option<InstancetypeRef>,
    /// Of the preference.
    pub preference: Option<InstancetypeRef>,
}

/// An instance type or a preference.
#[derive(Clone, Copy)]
enum Which {
    Instancetype,
    Preference,
}

impl Which {
    fn word(self) -> &'static str {
        match self {
            Self::Instancetype => "instancetype",
            Self::Preference => "preference",
        }
    }

    /// The kind that a matcher means; the cluster's when it does not say.
    fn kind(self, asked: Option<&str>) -> Result<&'static str, String> {
        let asked = asked.unwrap_or_default().to_lowercase();
        let own = format!("virtualmachine{}", self.word());
        let cluster = format!("virtualmachinecluster{}", self.word());
        Ok(match self {
            Self::Instancetype if asked.trim_end_matches('s') == own => "VirtualMachineInstancetype",
            Self::Preference if asked.trim_end_matches('s') == own => "VirtualMachinePreference",
            Self::Instancetype if asked.is_empty() || asked.trim_end_matches('s') == cluster => {
                "VirtualMachineClusterInstancetype"
            }
            Self::Preference if asked.is_empty() || asked.trim_end_matches('s') == cluster => {
                "VirtualMachineClusterPreference"
            }
            _ => return Err(format!("got unexpected kind in {} matcher: {asked}", self.word())),
        })
    }
}

/// A machine's specification with its instance type and preference worked in, or why not.
pub async fn expand(
    client: &Client,
    vm: &VirtualMachine,
) -> kube::Result<Result<(VirtualMachineInstanceSpec, References), Refusal>> {
    let mut references = References::default();
    let mut specs = [None, None];
    for (index, which) in [Which::Instancetype, Which::Preference].into_iter().enumerate() {
        let (matcher, known) = match which {
            Which::Instancetype => (&vm.spec.instancetype, vm.status.as_ref().and_then(|s| s.instancetype_ref.clone())),
            Which::Preference => (&vm.spec.preference, vm.status.as_ref().and_then(|s| s.preference_ref.clone())),
        };
        let Some(matcher) = matcher else { continue };
        match find(client, vm, which, matcher, known).await? {
            Ok(None) => {}
            Ok(Some((spec, reference))) => {
                specs[index] = Some(spec);
                match which {
                    Which::Instancetype => references.instancetype = Some(reference),
                    Which::Preference => references.preference = Some(reference),
                }
            }
            Err(message) => return Ok(Err(failed(which, message))),
        }
    }
    let [instancetype, preference] = specs;
    let outcome = apply(&vm.spec.template.spec, instancetype.as_ref(), preference.as_ref());
    Ok(outcome.map(|spec| (spec, references)).map_err(|message| failed(Which::Instancetype, message)))
}

fn failed(which: Which, message: String) -> Refusal {
    let reason = match which {
        Which::Instancetype => "FailedFindInstancetype",
        Which::Preference => "FailedFindPreference",
    };
    Refusal { reason, message }
}

type Found = Option<(Value, InstancetypeRef)>;

async fn find(
    client: &Client,
    vm: &VirtualMachine,
    which: Which,
    matcher: &Matcher,
    known: Option<InstancetypeRef>,
) -> kube::Result<Result<Found, String>> {
    let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
    let (name, kind) = if matcher.name.is_empty() {
        match infer(client, vm, which, matcher).await? {
            Ok(named) => named,
            Err(_) if matcher.infer_from_volume_failure_policy.as_deref() == Some("Ignore") => return Ok(Ok(None)),
            Err(message) => return Ok(Err(message)),
        }
    } else {
        (matcher.name.clone(), matcher.kind.clone())
    };
    let kind = match which.kind(kind.as_deref()) {
        Ok(kind) => kind,
        Err(message) => return Ok(Err(message)),
    };
    let revisions: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
    let same = known.filter(|known| known.name.as_ref() == Some(&name) && known.kind.as_deref() == Some(kind));
    let recorded = matcher
        .revision_name
        .clone()
        .or_else(|| same.and_then(|known| known.controller_revision_ref).map(|reference| reference.name));
    let reference = |revision: &str| InstancetypeRef {
        name: Some(name.clone()),
        kind: Some(kind.to_owned()),
        controller_revision_ref: Some(LocalRef { name: revision.to_owned(), ..LocalRef::default() }),
        infer_from_volume: matcher.infer_from_volume.clone(),
        ..InstancetypeRef::default()
    };
    if let Some(revision) = recorded {
        let Some(copy) = revisions.get_opt(&revision).await? else {
            return Ok(Err(format!("controllerrevisions.apps \"{revision}\" not found")));
        };
        let spec = copy.data.and_then(|data| data.0.get("spec").cloned()).unwrap_or_default();
        return Ok(Ok(Some((spec, reference(&revision)))));
    }
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, VERSION, kind));
    let objects: Api<DynamicObject> = if kind.contains("Cluster") {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    let Some(object) = objects.get_opt(&name).await? else {
        return Ok(Err(format!("{}.{GROUP} \"{name}\" not found", resource.plural)));
    };
    let spec = object.data.get("spec").cloned().unwrap_or_default();
    let revision = record(&revisions, vm, kind, &object).await?;
    Ok(Ok(Some((spec, reference(&revision)))))
}

/// Keeps a copy; returns its name, which is the same for each attempt.
async fn record(
    revisions: &Api<ControllerRevision>,
    vm: &VirtualMachine,
    kind: &str,
    object: &DynamicObject,
) -> kube::Result<String> {
    let meta = &object.metadata;
    let (name, uid) = (meta.name.clone().unwrap_or_default(), meta.uid.clone().unwrap_or_default());
    let generation = meta.generation.unwrap_or(1);
    let machine = vm.metadata.name.as_deref().unwrap_or_default();
    let revision = format!("{machine}-{name}-{VERSION}-{uid}-{generation}");
    let label = |what: &str| format!("{GROUP}/object-{what}");
    let copy: ControllerRevision = serde_json::from_value(json!({
        "metadata": {
            "name": revision,
            "ownerReferences": [vm.controller_owner_ref(&())],
            "labels": {
                label("generation"): generation.to_string(), label("kind"): kind, label("name"): name,
                label("uid"): uid, label("version"): VERSION,
            },
        },
        "data": {"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
                 "metadata": {"name": name, "uid": uid, "generation": generation, "namespace": meta.namespace},
                 "spec": object.data.get("spec")},
        "revision": 0,
    }))
    .map_err(kube::Error::SerdeError)?;
    match revisions.create(&PostParams::default(), &copy).await {
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(revision),
        other => other.map(|_| revision),
    }
}

/// The name that the labels of a volume's claim give.
async fn infer(
    client: &Client,
    vm: &VirtualMachine,
    which: Which,
    matcher: &Matcher,
) -> kube::Result<Result<(String, Option<String>), String>> {
    let Some(wanted) = &matcher.infer_from_volume else {
        return Ok(Err(format!("the {} of the machine has no name", which.word())));
    };
    let volume = vm.spec.template.spec.volumes.iter().find(|volume| volume.name == *wanted);
    let Some(claim) = volume.and_then(qemu::claim_of) else {
        return Ok(Err(format!("unable to find volume {wanted} to infer defaults")));
    };
    let namespace = vm.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let labels = claims.get_opt(&claim).await?.and_then(|claim| claim.metadata.labels).unwrap_or_default();
    let key = format!("{GROUP}/default-{}", which.word());
    Ok(match labels.get(&key) {
        Some(name) => Ok((name.clone(), labels.get(&format!("{key}-kind")).cloned())),
        None => Err(format!("unable to find required {key} label on the volume")),
    })
}

/// Works an instance type and a preference in, or names the fields that contradict.
pub fn apply(
    spec: &VirtualMachineInstanceSpec,
    instancetype: Option<&Value>,
    preference: Option<&Value>,
) -> Result<VirtualMachineInstanceSpec, String> {
    let mut value = json!(spec);
    let none = Value::Null;
    let preference_spec = preference.unwrap_or(&none);
    if let Some(instancetype) = instancetype {
        let conflicts = conflicts(&value, instancetype);
        if !conflicts.is_empty() {
            return Err(format!("VM field(s) {} conflicts with selected instance type", conflicts.join(", ")));
        }
        size(&mut value, instancetype, preference_spec);
    }
    if preference.is_some() {
        prefer(&mut value, preference_spec);
    }
    let spec: VirtualMachineInstanceSpec = serde_json::from_value(value).map_err(|error| error.to_string())?;
    if let Some(requirements) = preference_spec.get("requirements") {
        require(&spec, requirements)?;
    }
    Ok(spec)
}

/// Fields of a specification that an instance type gives.
fn conflicts(spec: &Value, instancetype: &Value) -> Vec<String> {
    let always = [
        "domain/cpu/cores",
        "domain/cpu/sockets",
        "domain/cpu/threads",
        "domain/memory/guest",
        "domain/resources/requests/cpu",
        "domain/resources/limits/cpu",
        "domain/resources/requests/memory",
        "domain/resources/limits/memory",
    ];
    let paired = [
        ("cpu/model", "domain/cpu/model"),
        ("cpu/dedicatedCPUPlacement", "domain/cpu/dedicatedCpuPlacement"),
        ("cpu/isolateEmulatorThread", "domain/cpu/isolateEmulatorThread"),
        ("cpu/numa", "domain/cpu/numa"),
        ("cpu/realtime", "domain/cpu/realtime"),
        ("cpu/maxSockets", "domain/cpu/maxSockets"),
        ("memory/hugepages", "domain/memory/hugepages"),
        ("memory/maxGuest", "domain/memory/maxGuest"),
        ("gpus", "domain/devices/gpus"),
        ("hostDevices", "domain/devices/hostDevices"),
        ("ioThreadsPolicy", "domain/ioThreadsPolicy"),
        ("launchSecurity", "domain/launchSecurity"),
        ("nodeSelector", "nodeSelector"),
        ("schedulerName", "schedulerName"),
    ];
    let said = |value: &Value, path: &str| value.pointer(&format!("/{path}")).is_some_and(|value| !value.is_null());
    let mut found: Vec<&str> = always.into_iter().filter(|path| said(spec, path)).collect();
    found.extend(
        paired.iter().filter(|(theirs, ours)| said(instancetype, theirs) && said(spec, ours)).map(|(_, ours)| *ours),
    );
    found.into_iter().map(|path| format!("spec.template.spec.{}", path.replace('/', "."))).collect()
}

/// Sets a value at a path, making the objects on the way.
fn set(value: &mut Value, path: &str, new: Value) {
    let mut place = value;
    for key in path.split('/') {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[key];
    }
    *place = new;
}

/// Sets a value unless something is said there.
fn fill(value: &mut Value, path: &str, new: Option<&Value>) {
    let Some(new) = new.filter(|new| !new.is_null()) else { return };
    if value.pointer(&format!("/{path}")).is_none_or(Value::is_null) {
        set(value, path, new.clone());
    }
}

fn size(spec: &mut Value, instancetype: &Value, preference: &Value) {
    let guest = instancetype.pointer("/cpu/guest").and_then(Value::as_u64).unwrap_or(1);
    let (sockets, cores, threads) = spread(guest, preference);
    for (field, count) in [("sockets", sockets), ("cores", cores), ("threads", threads)] {
        set(spec, &format!("domain/cpu/{field}"), json!(count));
    }
    for (theirs, ours) in [
        ("cpu/model", "domain/cpu/model"),
        ("cpu/dedicatedCPUPlacement", "domain/cpu/dedicatedCpuPlacement"),
        ("cpu/isolateEmulatorThread", "domain/cpu/isolateEmulatorThread"),
        ("cpu/numa", "domain/cpu/numa"),
        ("cpu/realtime", "domain/cpu/realtime"),
        ("cpu/maxSockets", "domain/cpu/maxSockets"),
        ("memory/guest", "domain/memory/guest"),
        ("memory/hugepages", "domain/memory/hugepages"),
        ("memory/maxGuest", "domain/memory/maxGuest"),
        ("gpus", "domain/devices/gpus"),
        ("hostDevices", "domain/devices/hostDevices"),
        ("ioThreadsPolicy", "domain/ioThreadsPolicy"),
        ("launchSecurity", "domain/launchSecurity"),
        ("nodeSelector", "nodeSelector"),
        ("schedulerName", "schedulerName"),
    ] {
        fill(spec, ours, instancetype.pointer(&format!("/{theirs}")));
    }
}

/// Sockets, cores and threads of so many processors.
fn spread(guest: u64, preference: &Value) -> (u64, u64, u64) {
    let topology = preference.pointer("/cpu/preferredCPUTopology").and_then(Value::as_str).unwrap_or("sockets");
    match topology {
        _ if guest <= 1 => (1, 1, 1),
        "cores" | "preferCores" => (1, guest, 1),
        "threads" | "preferThreads" => (1, 1, guest),
        "spread" | "preferSpread" => {
            let ratio = preference
                .pointer("/cpu/spreadOptions/ratio")
                .or_else(|| preference.get("preferSpreadSocketToCoreRatio"));
            let ratio = ratio.and_then(Value::as_u64).filter(|ratio| *ratio > 0).unwrap_or(2);
            match preference.pointer("/cpu/spreadOptions/across").and_then(Value::as_str) {
                Some("CoresThreads") => (1, guest / ratio, ratio),
                Some("SocketsCoresThreads") => (guest / 2 / ratio, ratio, 2),
                _ => (guest / ratio, ratio, 1),
            }
        }
        _ => (guest, 1, 1),
    }
}

fn prefer(spec: &mut Value, preference: &Value) {
    let wish = |path: &str| preference.pointer(path);
    for (theirs, ours) in [
        ("/devices/preferredAutoattachGraphicsDevice", "domain/devices/autoattachGraphicsDevice"),
        ("/devices/preferredAutoattachMemBalloon", "domain/devices/autoattachMemBalloon"),
        ("/devices/preferredAutoattachPodInterface", "domain/devices/autoattachPodInterface"),
        ("/devices/preferredAutoattachSerialConsole", "domain/devices/autoattachSerialConsole"),
        ("/devices/preferredAutoattachInputDevice", "domain/devices/autoattachInputDevice"),
        ("/devices/preferredUseVirtioTransitional", "domain/devices/useVirtioTransitional"),
        ("/devices/preferredBlockMultiQueue", "domain/devices/blockMultiQueue"),
        ("/devices/preferredNetworkInterfaceMultiQueue", "domain/devices/networkInterfaceMultiqueue"),
        ("/devices/preferredDisableHotplug", "domain/devices/disableHotplug"),
        ("/devices/preferredRng", "domain/devices/rng"),
        ("/devices/preferredTPM", "domain/devices/tpm"),
        ("/devices/preferredVideoType", "domain/devices/video/type"),
        ("/features/preferredAcpi", "domain/features/acpi"),
        ("/features/preferredApic", "domain/features/apic"),
        ("/features/preferredHyperv", "domain/features/hyperv"),
        ("/features/preferredKvm", "domain/features/kvm"),
        ("/features/preferredPvspinlock", "domain/features/pvspinlock"),
        ("/features/preferredSmm", "domain/features/smm"),
        ("/machine/preferredMachineType", "domain/machine/type"),
        ("/clock/preferredTimer", "domain/clock/timer"),
        ("/clock/preferredClockOffset/timezone", "domain/clock/timezone"),
        ("/clock/preferredClockOffset/utc", "domain/clock/utc"),
        ("/preferredSubdomain", "subdomain"),
        ("/preferredTerminationGracePeriodSeconds", "terminationGracePeriodSeconds"),
        ("/preferredArchitecture", "architecture"),
    ] {
        fill(spec, ours, wish(theirs));
    }
    let empty = Vec::new();
    for feature in wish("/cpu/preferredCPUFeatures").and_then(Value::as_array).unwrap_or(&empty) {
        let known = spec.pointer("/domain/cpu/features").and_then(Value::as_array).cloned().unwrap_or_default();
        if !known.iter().any(|one| one.get("name") == feature.get("name")) {
            set(spec, "domain/cpu/features", json!(known.into_iter().chain([feature.clone()]).collect::<Vec<_>>()));
        }
    }
    prefer_firmware(spec, preference);
    let list = |spec: &mut Value, path: &str, change: &dyn Fn(&mut Value)| {
        spec.pointer_mut(path).and_then(Value::as_array_mut).into_iter().flatten().for_each(change);
    };
    list(spec, "/domain/devices/disks", &|disk| {
        if let Some(kind) = ["cdrom", "lun"].into_iter().find(|kind| disk.get(*kind).is_some()) {
            let wish = wish(if kind == "cdrom" { "/devices/preferredCdromBus" } else { "/devices/preferredLunBus" });
            return fill(disk, &format!("{kind}/bus"), wish);
        }
        fill(disk, "disk", Some(&json!({})));
        fill(disk, "disk/bus", wish("/devices/preferredDiskBus"));
        fill(disk, "blockSize", wish("/devices/preferredDiskBlockSize"));
        fill(disk, "cache", wish("/devices/preferredDiskCache"));
        fill(disk, "io", wish("/devices/preferredDiskIO"));
        if disk.pointer("/disk/bus") == Some(&json!("virtio")) {
            fill(disk, "dedicatedIOThread", wish("/devices/preferredDiskDedicatedIoThread"));
        }
    });
    list(spec, "/domain/devices/interfaces", &|interface| {
        fill(interface, "model", wish("/devices/preferredInterfaceModel"));
        let bound = ["masquerade", "bridge", "sriov", "binding"].iter().any(|kind| interface.get(*kind).is_some());
        if !bound {
            fill(interface, "masquerade", wish("/devices/preferredInterfaceMasquerade"));
        }
    });
    list(spec, "/domain/devices/inputs", &|input| {
        fill(input, "bus", wish("/devices/preferredInputBus"));
        fill(input, "type", wish("/devices/preferredInputType"));
    });
}

/// BIOS or EFI, unless the machine says which.
fn prefer_firmware(spec: &mut Value, preference: &Value) {
    let wish = |name: &str| preference.pointer(&format!("/firmware/{name}"));
    let loader = "domain/firmware/bootloader";
    let has = |spec: &Value, kind: &str| spec.pointer(&format!("/{loader}/{kind}")).is_some();
    let yes = Some(&Value::Bool(true));
    if !has(spec, "bios") && !has(spec, "efi") {
        if wish("preferredUseBios") == yes {
            set(spec, &format!("{loader}/bios"), json!({}));
        } else if let Some(efi) = wish("preferredEfi") {
            return set(spec, &format!("{loader}/efi"), efi.clone());
        } else if wish("preferredUseEfi") == yes {
            set(spec, &format!("{loader}/efi"), json!({}));
        }
    }
    if has(spec, "bios") {
        fill(spec, &format!("{loader}/bios/useSerial"), wish("preferredUseBiosSerial"));
    }
    if has(spec, "efi") {
        fill(spec, &format!("{loader}/efi/secureBoot"), wish("preferredUseSecureBoot"));
    }
}

fn require(spec: &VirtualMachineInstanceSpec, requirements: &Value) -> Result<(), String> {
    if let Some(wanted) = requirements.pointer("/cpu/guest").and_then(Value::as_u64) {
        let (sockets, cores, threads) = qemu::topology(&spec.domain);
        let has = u64::from(sockets) * u64::from(cores) * u64::from(threads);
        if has < wanted {
            return Err(format!(
                "insufficient CPU resources of {has} vCPU provided, preference requires {wanted} vCPU"
            ));
        }
    }
    if let Some(wanted) = requirements.pointer("/memory/guest").and_then(Value::as_str) {
        let has = spec.domain.memory.as_ref().and_then(|memory| memory.guest.as_ref()).map(|guest| guest.0.clone());
        let bytes = |text: &str| quantity::parse(text).unwrap_or(0.0);
        let has = has.unwrap_or_else(|| "0".into());
        if bytes(&has) < bytes(wanted) {
            return Err(format!("insufficient Memory resources of {has} provided, preference requires {wanted}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn spec(domain: Value) -> VirtualMachineInstanceSpec {
        serde_json::from_value(json!({"domain": domain})).expect("a specification")
    }

    #[test]
    fn both_are_worked_in() {
        let machine = spec(json!({"firmware": {"serial": "s"}, "devices": {
            "disks": [{"name": "root"}, {"name": "data", "disk": {"bus": "sata"}}, {"name": "cd", "cdrom": {}}],
            "interfaces": [{"name": "default"}, {"name": "lan", "bridge": {}, "model": "e1000"}]}}));
        let instancetype =
            json!({"cpu": {"guest": 4, "model": "host-model"}, "memory": {"guest": "8Gi"}, "nodeSelector": {"a": "b"}});
        let preference = json!({
            "cpu": {"preferredCPUTopology": "spread", "preferredCPUFeatures": [{"name": "vmx", "policy": "require"}]},
            "devices": {"preferredDiskBus": "virtio", "preferredCdromBus": "scsi", "preferredInterfaceModel": "virtio",
                        "preferredInterfaceMasquerade": {}, "preferredRng": {}, "preferredVideoType": "virtio"},
            "firmware": {"preferredUseEfi": true, "preferredUseSecureBoot": false},
            "preferredTerminationGracePeriodSeconds": 180,
            "requirements": {"cpu": {"guest": 2}, "memory": {"guest": "4Gi"}},
        });
        let expanded = apply(&machine, Some(&instancetype), Some(&preference)).expect("expanded");
        expect![[r#"
            {
              "domain": {
                "cpu": {
                  "sockets": 2,
                  "cores": 2,
                  "threads": 1,
                  "model": "host-model",
                  "features": [
                    {
                      "name": "vmx",
                      "policy": "require"
                    }
                  ]
                },
                "memory": {
                  "guest": "8Gi"
                },
                "firmware": {
                  "bootloader": {
                    "efi": {
                      "secureBoot": false
                    }
                  },
                  "serial": "s"
                },
                "devices": {
                  "disks": [
                    {
                      "name": "root",
                      "disk": {
                        "bus": "virtio"
                      }
                    },
                    {
                      "name": "data",
                      "disk": {
                        "bus": "sata"
                      }
                    },
                    {
                      "name": "cd",
                      "cdrom": {
                        "bus": "scsi"
                      }
                    }
                  ],
                  "interfaces": [
                    {
                      "name": "default",
                      "model": "virtio",
                      "masquerade": {}
                    },
                    {
                      "name": "lan",
                      "model": "e1000",
                      "bridge": {}
                    }
                  ],
                  "rng": {},
                  "video": {
                    "type": "virtio"
                  }
                }
              },
              "nodeSelector": {
                "a": "b"
              },
              "terminationGracePeriodSeconds": 180
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&expanded).expect("JSON"));
    }

    #[test]
    fn contradictions_and_wants_are_refused() {
        let refuse = |domain: Value, instancetype: Value, preference: Value| {
            apply(&spec(domain), Some(&instancetype), Some(&preference)).expect_err("refused")
        };
        let small = json!({"cpu": {"guest": 1}, "memory": {"guest": "1Gi"}});
        expect!["VM field(s) spec.template.spec.domain.cpu.cores, spec.template.spec.domain.memory.guest conflicts with selected instance type"]
            .assert_eq(&refuse(json!({"cpu": {"cores": 2}, "memory": {"guest": "1Gi"}}), small.clone(), json!({})));
        expect!["insufficient CPU resources of 1 vCPU provided, preference requires 2 vCPU"].assert_eq(&refuse(
            json!({}),
            small.clone(),
            json!({"requirements": {"cpu": {"guest": 2}}}),
        ));
        expect!["insufficient Memory resources of 1Gi provided, preference requires 4Gi"].assert_eq(&refuse(
            json!({}),
            small,
            json!({"requirements": {"memory": {"guest": "4Gi"}}}),
        ));
    }

    #[test]
    fn processors_are_spread_as_kubevirt_spreads_them() {
        let spread = |count, preference: Value| super::spread(count, &preference);
        assert_eq!(spread(4, json!({})), (4, 1, 1));
        assert_eq!(spread(4, json!({"cpu": {"preferredCPUTopology": "cores"}})), (1, 4, 1));
        assert_eq!(spread(4, json!({"cpu": {"preferredCPUTopology": "preferThreads"}})), (1, 1, 4));
        let across = |across: &str| json!({"cpu": {"preferredCPUTopology": "spread", "spreadOptions": {"across": across, "ratio": 2}}});
        assert_eq!(spread(8, across("SocketsCores")), (4, 2, 1));
        assert_eq!(spread(8, across("CoresThreads")), (1, 4, 2));
        assert_eq!(spread(8, across("SocketsCoresThreads")), (2, 2, 2));
    }
}
