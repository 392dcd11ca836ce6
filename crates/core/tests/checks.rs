//! The checks of a plan, finding by finding: what is wrong, what the user reads.
use expect_test::{Expect, expect};
use forklift_api::Condition;
use forklift_core::check::{self, Facts, Found, TargetClaim, TargetVm, VmFacts};
use forklift_core::machine::{
    Concern, Disk, DiskUser, GuestAddress, HostState, Machine, Nic, PowerState, ResourceRef, Tools,
};
use forklift_core::plan::world::{MigrationKind, NetworkDestination, NetworkPair, StoragePair};
use forklift_core::plan::{PlanFacts, PlanVm};
use forklift_core::source::Capabilities;

/// A plan with one VM in which nothing is wrong.
struct Case {
    plan: PlanFacts,
    vms: Vec<(PlanVm, Option<Machine>)>,
    target: Vec<TargetVm>,
    claims: Vec<TargetClaim>,
}

fn sound() -> Case {
    let mut plan = PlanFacts {
        name: "p".into(),
        uid: "plan".into(),
        target_namespace: "tgt".into(),
        source: Capabilities::appliance(),
        ..PlanFacts::default()
    };
    plan.networks = vec![NetworkPair { source: ResourceRef::new("n1", ""), destination: NetworkDestination::Pod }];
    plan.storage = vec![StoragePair { source: ResourceRef::new("s1", ""), ..StoragePair::default() }];
    let machine = Machine {
        id: "vm-1".into(),
        name: "web".into(),
        disks: vec![Disk { key: "a".into(), capacity: 1, storage: ResourceRef::new("s1", "store"), ..Disk::default() }],
        nics: vec![Nic {
            mac: "00:50:56:00:00:01".into(),
            network: ResourceRef::new("n1", "VM Network"),
            ..Nic::default()
        }],
        ..Machine::default()
    };
    let vm = PlanVm { id: "vm-1".into(), name: "web".into(), ..PlanVm::default() };
    Case { plan, vms: vec![(vm, Some(machine))], target: Vec::new(), claims: Vec::new() }
}

fn conditions(case: &Case) -> Vec<Condition> {
    let vms: Vec<_> = case
        .vms
        .iter()
        .map(|(spec, machine)| VmFacts {
            spec,
            found: match machine {
                Some(machine) => Found::Machine(machine),
                None if spec.id.is_empty() && spec.name.is_empty() => Found::NotSet,
                None => Found::Missing,
            },
            succeeded: false,
            started: false,
        })
        .collect();
    check::check(&Facts { plan: &case.plan, vms: &vms, target_vms: &case.target, target_claims: &case.claims })
}

fn findings(case: &Case) -> String {
    let lines =
        conditions(case).into_iter().map(|c| format!("{} {} {:?}: {}", c.category, c.type_, c.items, c.message));
    lines.collect::<Vec<_>>().join("\n")
}

/// Asserts that a change of the sound plan gives a condition for a reason; returns it.
fn raises(type_: &str, reason: &str, change: impl FnOnce(&mut Case)) -> Condition {
    let mut case = sound();
    change(&mut case);
    let all = conditions(&case);
    let found =
        all.iter().find(|c| (c.type_ == type_ || c.type_.starts_with(&format!("{type_}-"))) && c.reason == reason);
    found.cloned().unwrap_or_else(|| panic!("{type_} {reason}: {all:#?}"))
}

/// A second VM that shares a disk with the first; both are off.
fn sharing(case: &mut Case) -> &mut Machine {
    machine(case).power = PowerState::Off;
    machine(case).disks[0].shared = true;
    let (mut spec, other) = case.vms[0].clone();
    let mut other = other.unwrap_or_default();
    (spec.id, spec.name) = ("vm-2".into(), "db".into());
    (other.id, other.name, other.nics) = ("vm-2".into(), "db".into(), Vec::new());
    case.vms.push((spec, Some(other)));
    case.vms[1].1.as_mut().unwrap_or_else(|| panic!("just made"))
}

fn warm(case: &mut Case) {
    case.plan.kind = MigrationKind::Warm;
    case.plan.source.warm = true;
    machine(case).traits.change_tracking = true;
}

fn check(change: impl FnOnce(&mut Case), expected: Expect) {
    let mut case = sound();
    change(&mut case);
    expected.assert_eq(&findings(&case));
}

fn machine(case: &mut Case) -> &mut Machine {
    case.vms[0].1.as_mut().unwrap_or_else(|| panic!("the sound case has a machine"))
}

#[test]
fn nothing_is_found_in_a_sound_plan() {
    check(|_| {}, expect![""]);
}

#[test]
fn what_is_not_mapped() {
    check(
        |case| {
            case.plan.networks.clear();
            case.plan.storage.clear();
        },
        expect![[r#"
        Critical VMNetworksNotMapped ["web (vm-1): VM Network"]: VM has unmapped networks.
        Critical VMStorageNotMapped ["web (vm-1): store"]: VM has unmapped storage."#]],
    );
}

#[test]
fn references() {
    check(
        |case| {
            case.vms.push((PlanVm::default(), None));
            case.vms.push((PlanVm { name: "gone".into(), ..PlanVm::default() }, None));
            let first = case.vms[0].clone();
            case.vms.push(first);
        },
        expect![[r#"
        Critical VMRefNotValid ["entry 2"]: Either `ref.id` or `ref.name` must be set.
        Critical VMNotFound ["gone"]: VM not found.
        Critical DuplicateVM ["web (vm-1): is in the plan more than once"]: Each VM of a plan must be named once and without doubt."#]],
    );
}

#[test]
fn names_on_the_target() {
    check(
        |case| {
            machine(case).name = "Web_1".into();
            case.vms[0].0.name = "Web_1".into();
            case.target = vec![TargetVm { namespace: "tgt".into(), name: "web-1".into(), ..TargetVm::default() }];
        },
        expect![[r#"
        Warn TargetNameNotValid ["Web_1 (vm-1): becomes web-1"]: The names of some VMs are not valid on the target; they will be renamed.
        Critical VMAlreadyExists ["Web_1 (vm-1): web-1 exists in namespace tgt"]: Target VM already exists."#]],
    );
    check(
        |case| case.vms[0].0.target_name = Some("Not Valid".into()),
        expect![[
            r#"Critical NotValid ["web (vm-1): targetName \"Not Valid\": it must consist of lower case letters, digits, '-' and '.', and start and end with a letter or digit"]: A targetName is not valid."#
        ]],
    );
}

#[test]
fn networks() {
    check(
        |case| {
            let nic = machine(case).nics[0].clone();
            machine(case).nics.push(nic);
            case.target = vec![TargetVm {
                namespace: "x".into(),
                name: "y".into(),
                macs: vec!["00:50:56:00:00:01".into()],
                ..TargetVm::default()
            }];
        },
        expect![[r#"
        Critical VMMultiplePodNetworkMappings ["web (vm-1): 2 NICs"]: A VM can have one NIC on the pod network.
        Critical MacConflicts ["web (vm-1): 00:50:56:00:00:01 is used by x/y"]: MAC addresses of VMs are used on the target already."#]],
    );
}

#[test]
fn disks_and_concerns() {
    check(
        |case| {
            machine(case).disks[0].capacity = 0;
            machine(case).concerns = vec![
                Concern { id: "x".into(), category: "Critical".into(), label: "Too odd".into(), ..Concern::default() },
                Concern { id: "ova.source.unsupported".into(), category: "Warning".into(), ..Concern::default() },
            ];
        },
        expect![[r#"
        Critical InvalidDiskSizes ["web (vm-1): a"]: The size of some disks is not known or not positive.
        Critical VMCriticalConcerns ["web (vm-1) (Too odd)"]: VMs with critical concerns cannot be migrated.
        Warn UnsupportedOVFExportSource ["web (vm-1)"]: The OVA may not be supported: it was not exported by VMware."#]],
    );
}

#[test]
fn kinds_of_migration() {
    check(
        |case| case.plan.kind = MigrationKind::Warm,
        expect!["Critical WarmMigrationNotReady []: Warm migration from the source provider is not supported."],
    );
    check(
        |case| {
            case.plan.kind = MigrationKind::Warm;
            case.plan.source.warm = true;
            machine(case).traits.snapshots = 1;
        },
        expect![[r#"
        Critical VMMissingChangedBlockTracking ["web (vm-1)"]: Changed Block Tracking (CBT) has not been enabled on some VMs. This feature is a prerequisite for VM warm migration.
        Critical VMHasSnapshots ["web (vm-1): 1 snapshot"]: Warm migration needs VMs without snapshots."#]],
    );
    check(
        |case| machine(case).traits.template = true,
        expect![[
            r#"Critical VMMigrationTypeUnsupported ["web (vm-1): is a template"]: These VMs cannot be migrated."#
        ]],
    );
}

#[test]
fn templates_and_keys() {
    check(
        |case| {
            case.plan.options.pvc_name_template = Some("{{.VmName}}_INVALID".into());
            case.plan.source.luks = false;
            case.vms[0].0.luks_secret = Some("keys".into());
            case.vms[0].0.nbde_clevis = true;
        },
        expect![[r#"
        Warn LuksAndClevisIncompatibility ["web (vm-1)"]: Both LUKS keys and Clevis are set; Clevis is used.
        Critical NotValid ["web (vm-1)", "web (vm-1): \"{{.VmName}}_INVALID\" gives \"web_INVALID\": it must consist of lower case letters, digits and '-', and start and end with a letter or digit"]: Encrypted disks of the source provider cannot be migrated. A PVC name template does not give valid names."#]],
    );
}

#[test]
fn a_migrated_vm_may_be_gone() {
    let case = sound();
    let vm = VmFacts { spec: &case.vms[0].0, found: Found::Missing, succeeded: true, started: true };
    assert!(check::check(&Facts { plan: &case.plan, vms: &[vm], target_vms: &[], target_claims: &[] }).is_empty());
}

#[test]
fn warm_migrations_read_snapshots() {
    raises("WarmMigrationNotReady", "NotSupported", |case| case.plan.kind = MigrationKind::Warm);
    raises("MigrationTypeNotValid", "NotSupported", |case| case.plan.kind = MigrationKind::Live);
    raises("VMMissingChangedBlockTracking", "MissingChangedBlockTracking", |case| {
        warm(case);
        machine(case).traits.change_tracking = false;
    });
    raises("VMConsolidationNeeded", "ConsolidationNeeded", |case| {
        warm(case);
        machine(case).traits.consolidation_needed = true;
    });
    let refused = raises("VMHasSnapshots", "NotValid", |case| {
        warm(case);
        machine(case).traits.snapshots = 2;
    });
    assert_eq!((refused.category.as_str(), refused.items), ("Critical", vec!["web (vm-1): 2 snapshots".to_owned()]));
    let tolerated = raises("VMHasSnapshots", "NotValid", |case| {
        warm(case);
        case.plan.source.foreign_snapshots = true;
        machine(case).traits.snapshots = 2;
    });
    assert_eq!(tolerated.category.as_str(), "Warn");
    let full = raises("VMHasSnapshots", "NotValid", |case| {
        warm(case);
        case.plan.source.foreign_snapshots = true;
        machine(case).traits.snapshots = 31;
    });
    assert_eq!(full.category.as_str(), "Critical", "no further snapshot fits");
    let stale = raises("StaleSnapshots", "NotValid", |case| {
        warm(case);
        machine(case).traits.migration_snapshots = vec!["forklift-migration-precopy-0-1".into()];
    });
    assert_eq!(stale.items, ["web (vm-1): forklift-migration-precopy-0-1"]);
    assert!(stale.suggestion.contains("forklift.konveyor.io/remove-stale-snapshots=true"), "{}", stale.suggestion);
    check(|case| machine(case).traits.snapshots = 3, expect![""]);
}

#[test]
fn disks_that_cannot_be_read_whole() {
    raises("InvalidDiskSizes", "NotValid", |case| machine(case).disks[0].capacity = 0);
    for (which, type_) in [("rdm", "RDMDiskWarning"), ("independent", "IndependentDiskWarning")] {
        let mark = |case: &mut Case| {
            machine(case).disks[0].rdm = which == "rdm";
            machine(case).disks[0].independent = which == "independent";
        };
        let cold = if which == "rdm" {
            raises("RDMDiskWarning", "NotSupported", mark)
        } else {
            raises("IndependentDiskWarning", "NotSupported", mark)
        };
        assert_eq!((cold.type_.as_str(), cold.category.as_str()), (type_, "Warn"));
        let warm = raises(type_, "NotSupported", |case| {
            warm(case);
            mark(case);
        });
        assert_eq!(warm.category.as_str(), "Critical", "a snapshot leaves it out: {which}");
    }
    check(
        |case| {
            machine(case).disks[0].rdm = true;
            case.plan.options.rdm_as_lun = true;
        },
        expect![""],
    );
    let memory = raises("VMStorageNotSupported", "NotValid", |case| {
        machine(case).disks[0].unsupported = "persistent memory".into();
    });
    assert_eq!(memory.items, ["web (vm-1): a (persistent memory)"]);
    raises("VMStorageNotSupported", "NotValid", |case| machine(case).disks[0].encrypted = true);
    check(
        |case| {
            machine(case).traits.encrypted = true;
            case.plan.vddk_image = Some("registry/vddk:8".into());
        },
        expect![""],
    );
}

#[test]
fn guests_and_hosts() {
    for tools in [Tools::NotInstalled, Tools::NotRunning, Tools::Unknown] {
        let found = raises("GuestToolsIssue", "NotValid", |case| {
            machine(case).traits.tools = tools;
            machine(case).power = PowerState::On;
        });
        assert_eq!(found.category.as_str(), "Critical");
    }
    check(
        |case| {
            machine(case).traits.tools = Tools::NotRunning;
            machine(case).power = PowerState::Off;
        },
        expect![""],
    );
    let found = raises("HostNotReady", "InMaintenanceMode", |case| {
        machine(case).traits.host_state = HostState::Maintenance;
    });
    assert_eq!(found.category.as_str(), "Warn");
    let found = raises("VMMigrationTypeUnsupported", "NotSupported", |case| {
        machine(case).traits.disconnected = true;
        machine(case).traits.connection = "orphaned".into();
    });
    assert_eq!(found.items, ["web (vm-1): is orphaned"]);
    let found = raises("VMMissingGuestIPs", "MissingGuestInformation", |case| {
        case.plan.options.preserve_static_ips = true;
        case.plan.source.static_ips = true;
        case.plan.udn = true;
        machine(case).traits.tools = Tools::NotInstalled;
    });
    assert_eq!(found.items, ["web (vm-1): the guest tools are not installed"]);
    raises("NetMapPreservingIPsOnPodNetwork", "", |case| {
        case.plan.options.preserve_static_ips = true;
        case.plan.source.static_ips = true;
    });
    raises("VMCriticalConcerns", "NotValid", |case| {
        machine(case).concerns =
            vec![Concern { category: "Critical".into(), label: "Too odd".into(), ..Concern::default() }];
    });
}

#[test]
fn vms_with_one_uuid() {
    let twins = |case: &mut Case, instances: [&str; 2]| {
        let second = sharing(case);
        second.disks[0].shared = false;
        (second.uuid, second.instance_uuid) = ("4201-AB".into(), instances[1].into());
        second.disks[0].key = "b".into();
        let first = machine(case);
        first.disks[0].shared = false;
        (first.uuid, first.instance_uuid) = ("4201-ab".into(), instances[0].into());
    };
    let told_apart = raises("DuplicateVMUuid", "NotUnique", |case| twins(case, ["5001", "5002"]));
    assert_eq!(
        (told_apart.category.as_str(), told_apart.items),
        ("Warn", vec!["4201-ab: web (vm-1), db (vm-2)".to_owned()])
    );
    for same in [["5001", "5001"], ["", "5002"]] {
        let same = raises("DuplicateVMUuid", "NotUnique", |case| twins(case, same));
        assert_eq!(same.category.as_str(), "Critical");
    }
}

#[test]
fn disks_that_vms_share() {
    let twice = raises("SharedWarnDisks", "NotValid", |case| {
        case.plan.options.migrate_shared_disks = true;
        sharing(case);
    });
    assert_eq!(twice.type_, "SharedWarnDisks-vm-1");
    assert_eq!(twice.items, ["a will be copied 2x: db (vm-2), web (vm-1)"]);
    assert_eq!(twice.suggestion, "Set migrateSharedDisks to true for web (vm-1) and to false for the others.");

    // the first of two plans: the VM takes the disk along
    check(
        |case| {
            sharing(case);
            case.vms[0].0.migrate_shared_disks = Some(true);
        },
        expect![""],
    );
    let claim = || TargetClaim { name: "c".into(), disk_source: "a".into(), shareable: true, ..TargetClaim::default() };
    let again = raises("SharedWarnDisks", "NotValid", |case| {
        sharing(case);
        case.vms[0].0.migrate_shared_disks = Some(true);
        case.claims = vec![claim()];
    });
    assert!(again.message.contains("copied again"), "{}", again.message);
    // the second plan: the claim of the first is there, or it is not
    check(
        |case| {
            sharing(case);
            case.claims = vec![claim()];
        },
        expect![""],
    );
    let missing = raises("SharedWarnDisks", "NotValid", |case| {
        sharing(case);
        case.claims = vec![TargetClaim { deleting: true, ..claim() }];
    });
    assert!(missing.message.contains("will not be attached"), "{}", missing.message);
    // the first plan is at it, or has failed
    let half = raises("SharedDisks", "NotValid", |case| {
        sharing(case);
        case.claims = vec![TargetClaim { unfinished: true, ..claim() }];
    });
    assert!(half.message.contains("are not whole"), "{}", half.message);
    assert_eq!(half.items, ["a"]);

    let warm = raises("SharedDisks", "NotSupported", |case| {
        warm(case);
        machine(case).disks[0].shared = true;
    });
    assert_eq!(warm.category.as_str(), "Critical");
    let running = raises("SharedDisks", "NotValid", |case| {
        machine(case).power = PowerState::Off;
        machine(case).disks[0].shared = true;
        let user = |name: &str, power| DiskUser { id: name.into(), name: name.into(), power };
        machine(case).disks[0].users = vec![user("elsewhere", PowerState::On), user("still", PowerState::Off)];
    });
    assert_eq!((running.category.as_str(), running.items), ("Critical", vec!["elsewhere".to_owned()]));
}

#[test]
fn three_vms_share_disks_in_a_ring() {
    let ring = raises("SharedWarnDisks", "NotValid", |case| {
        case.plan.options.migrate_shared_disks = true;
        let second = sharing(case).clone();
        let mut third = case.vms[1].clone();
        (third.0.id, third.0.name) = ("vm-3".into(), "app".into());
        third.1 = Some(Machine { id: "vm-3".into(), name: "app".into(), ..second.clone() });
        case.vms.push(third);
        let disk = |key: &str| Disk { key: key.into(), ..second.disks[0].clone() };
        for (vm, keys) in case.vms.iter_mut().zip([["a", "b"], ["b", "c"], ["c", "a"]]) {
            if let Some(machine) = &mut vm.1 {
                machine.disks = keys.iter().map(|key| disk(key)).collect();
            }
        }
    });
    assert!(ring.suggestion.contains("in a ring"), "{}", ring.suggestion);
    assert_eq!(ring.items.len(), 2);
}

#[test]
fn volumes_on_the_target() {
    let exact = |case: &mut Case| {
        case.plan.options.pvc_name_exact = true;
        case.plan.options.pvc_name_template = Some("{{.PlanName}}".into());
    };
    let twice = raises("PVCNameConflict", "NotUnique", |case| {
        exact(case);
        let disk = Disk { key: "b".into(), ..machine(case).disks[0].clone() };
        machine(case).disks.push(disk);
    });
    assert_eq!(twice.items, ["p: web (vm-1) a, web (vm-1) b"]);
    let taken = raises("PVCNameConflict", "NotUnique", |case| {
        exact(case);
        case.claims = vec![TargetClaim { name: "p".into(), ..TargetClaim::default() }];
    });
    assert_eq!(taken.items, ["p exists in namespace tgt"]);
    check(
        |case| {
            exact(case);
            case.claims = vec![TargetClaim { name: "p".into(), plan_uid: "plan".into(), ..TargetClaim::default() }];
        },
        expect![""],
    );

    let filled = TargetClaim { vm_id: "vm-1".into(), vm_uuid: "U".into(), ..TargetClaim::default() };
    let conversion = |case: &mut Case, claims: Vec<TargetClaim>| {
        case.plan.kind = MigrationKind::Conversion;
        case.plan.source.conversion_only = true;
        machine(case).uuid = "u".into();
        case.claims = claims;
    };
    let missing = raises("MissingPvcForOnlyConversion", "NotValid", |case| conversion(case, Vec::new()));
    assert_eq!(missing.items, ["web (vm-1): 0 claims with its labels, 1 disks"]);
    check(|case| conversion(case, vec![filled]), expect![""]);
}

#[test]
fn user_defined_networks() {
    raises("UnsupportedUserDefinedNetwork", "NotSupported", |case| case.plan.udn_unsupported = true);
    let with = |case: &mut Case, ips: &[&str]| {
        case.plan.options.preserve_static_ips = true;
        case.plan.source.static_ips = true;
        case.plan.udn = true;
        case.plan.udn_subnets = vec!["10.100.0.0/16".into(), "fd00:1::/64".into()];
        let address = |ip: &&str| GuestAddress { ip: (*ip).into(), ..GuestAddress::default() };
        machine(case).nics[0].addresses = ips.iter().map(address).collect();
    };
    let outside =
        raises("VMIpNotMatchingUdnSubnet", "NotValid", |case| with(case, &["10.100.3.4", "10.99.0.1", "fe80::1"]));
    assert_eq!(outside.items, ["web (vm-1): 10.99.0.1"]);
    check(|case| with(case, &["10.100.3.4", "fd00:1::9", "fe80::1"]), expect![""]);
}

/// What the tests above do not name one by one.
#[test]
fn reasons_of_the_other_findings() {
    raises("VMRefNotValid", "NotSet", |case| case.vms.push((PlanVm::default(), None)));
    raises("VMNotFound", "NotFound", |case| case.vms.push((PlanVm { name: "gone".into(), ..PlanVm::default() }, None)));
    raises("DuplicateVM", "NotUnique", |case| {
        let first = case.vms[0].clone();
        case.vms.push(first);
    });
    raises("TargetNameNotValid", "NotValid", |case| machine(case).name = "Web_1".into());
    raises("NotValid", "NotValid", |case| case.vms[0].0.target_name = Some("Not Valid".into()));
    raises("VMAlreadyExists", "NotUnique", |case| {
        case.target = vec![TargetVm { namespace: "tgt".into(), name: "web".into(), ..TargetVm::default() }];
    });
    raises("DuplicateTargetName", "NotUnique", |case| {
        sharing(case).disks[0].key = "b".into();
        for vm in &mut case.vms {
            vm.0.target_name = Some("same".into());
        }
    });
    raises("VMNetworksNotMapped", "NotValid", |case| case.plan.networks.clear());
    raises("VMStorageNotMapped", "NotValid", |case| case.plan.storage.clear());
    raises("VMMultiplePodNetworkMappings", "NotValid", |case| {
        let nic = machine(case).nics[0].clone();
        machine(case).nics.push(nic);
    });
    raises("MacConflicts", "NotValid", |case| {
        let macs = vec!["00:50:56:00:00:01".into()];
        case.target = vec![TargetVm { namespace: "x".into(), name: "y".into(), macs, ..TargetVm::default() }];
    });
    raises("LuksAndClevisIncompatibility", "NotValid", |case| {
        case.vms[0].0.luks_secret = Some("keys".into());
        case.vms[0].0.nbde_clevis = true;
    });
    let case = sound();
    let vm = VmFacts { spec: &case.vms[0].0, found: Found::Ambiguous, succeeded: false, started: false };
    let facts = Facts { plan: &case.plan, vms: &[vm], target_vms: &[], target_claims: &[] };
    let raises =
        |type_: &str, reason: &str| check::check(&facts).iter().any(|c| c.type_ == type_ && c.reason == reason);
    assert!(raises("DuplicateVM", "Ambiguous"));
}

#[test]
fn every_condition_of_a_plan_for_vsphere_has_a_test() {
    let text: String = include_str!("checks.rs").chars().filter(|c| !c.is_whitespace()).collect();
    let mut missing = Vec::new();
    for (type_, reasons) in forklift_api::condition::vsphere::PLAN {
        let unnamed = reasons.iter().filter(|reason| !text.contains(&format!("raises(\"{type_}\",\"{reason}\"")));
        missing.extend(unnamed.map(|reason| format!("{type_} {reason}")));
    }
    assert!(missing.is_empty(), "no test raises:\n{}", missing.join("\n"));
    let known = |kind: &&str| forklift_api::condition::vsphere::PLAN.iter().any(|(type_, _)| type_ == kind);
    let all: Vec<&str> = check::CHECKS.iter().flat_map(|check| check.conditions.iter().copied()).collect();
    let untold: Vec<_> = all.into_iter().filter(|kind| !known(kind) && *kind != "UnsupportedOVFExportSource").collect();
    assert!(untold.is_empty(), "checks give what the table does not have: {untold:?}");
}
