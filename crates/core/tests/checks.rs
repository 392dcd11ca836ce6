//! The checks of a plan, finding by finding: what is wrong, what the user reads.
use expect_test::{Expect, expect};
use forklift_core::check::{self, Facts, Found, TargetVm, VmFacts};
use forklift_core::machine::{Concern, Disk, Machine, Nic, ResourceRef};
use forklift_core::plan::world::{MigrationKind, NetworkDestination, NetworkPair, StoragePair};
use forklift_core::plan::{PlanFacts, PlanVm};
use forklift_core::source::Capabilities;

/// A plan with one VM in which nothing is wrong.
struct Case {
    plan: PlanFacts,
    vms: Vec<(PlanVm, Option<Machine>)>,
    target: Vec<TargetVm>,
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
    Case { plan, vms: vec![(vm, Some(machine))], target: Vec::new() }
}

fn findings(case: &Case) -> String {
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
    let facts = Facts { plan: &case.plan, vms: &vms, target_vms: &case.target };
    let lines =
        check::check(&facts).into_iter().map(|c| format!("{} {} {:?}: {}", c.category, c.type_, c.items, c.message));
    lines.collect::<Vec<_>>().join("\n")
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
        Critical VMHasSnapshots ["web (vm-1)"]: Warm migration needs VMs without snapshots."#]],
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
    assert!(check::check(&Facts { plan: &case.plan, vms: &[vm], target_vms: &[] }).is_empty());
}
