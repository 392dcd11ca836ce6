//! Every condition and reason of vSphere's providers, hosts and plans, and the test that raises it against a vCenter.
//!
//! A row that is missing, a test that does not exist or does not name its row, and a type or reason of `crates/api` that
//! is neither here nor said to be somebody else's make [`tests`] fail. What an object says beside what a test waits for
//! is compared with the rows too ([`audit`]), so that nothing is said that nobody raises.
use std::collections::BTreeSet;

use forklift_api::condition::{reasons, types, vsphere};
use serde_json::Value;

/// Type, reason, categories, and the test by its path below this folder.
type Row = (&'static str, &'static str, &'static [&'static str], &'static str);

const CRITICAL: &[&str] = &["Critical"];
const WARN: &[&str] = &["Warn"];
const EITHER: &[&str] = &["Critical", "Warn"];
const REQUIRED: &[&str] = &["Required"];
const ADVISORY: &[&str] = &["Advisory"];

/// Of providers.
const PROVIDER: &[Row] = &[
    ("ProviderTypeNotSupported", "NotSupported", CRITICAL, "live::providers::what_is_written_wrong"),
    ("UrlNotValid", "NotSet", CRITICAL, "live::providers::what_is_written_wrong"),
    ("UrlNotValid", "Malformed", CRITICAL, "live::providers::what_is_written_wrong"),
    ("SecretNotValid", "NotSet", CRITICAL, "live::providers::what_is_written_wrong"),
    ("SecretNotValid", "NotFound", CRITICAL, "live::providers::what_is_written_wrong"),
    ("SecretNotValid", "DataErr", CRITICAL, "live::providers::what_is_written_wrong"),
    ("SettingsNotValid", "NotValid", EITHER, "live::providers::what_is_written_wrong"),
    ("ConnectionInsecure", "SkipTLSVerification", WARN, "live::providers::from_the_first_login_to_ready"),
    ("ConnectionTestFailed", "Tested", CRITICAL, "live::providers::a_server_that_cannot_be_used"),
    ("ConnectionAuthFailed", "Tested", CRITICAL, "live::login::a_wrong_password_is_tried_once"),
    ("ConnectionTestSucceeded", "Tested", REQUIRED, "live::providers::from_the_first_login_to_ready"),
    ("LoadInventory", "Started", ADVISORY, "live::providers::from_the_first_login_to_ready"),
    ("InventoryCreated", "Completed", REQUIRED, "live::providers::from_the_first_login_to_ready"),
    ("InventoryError", "", WARN, "live::providers::an_inventory_that_falls_behind_says_so_and_catches_up"),
    ("Validated", "Completed", ADVISORY, "live::providers::from_the_first_login_to_ready"),
    ("InsufficientPrivileges", "PrivilegesNotGranted", WARN, "live::providers::privileges_that_are_missing_are_listed"),
    ("Ready", "", REQUIRED, "live::providers::from_the_first_login_to_ready"),
];

/// Of hosts.
const HOST: &[Row] = &[
    ("ProviderNotValid", "NotSet", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("ProviderNotValid", "NotFound", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("ProviderNotReady", "NotFound", CRITICAL, "live::hosts::hosts_wait_for_their_provider"),
    ("ProviderNotReady", "Started", CRITICAL, "live::hosts::hosts_wait_for_their_provider"),
    ("TypeNotValid", "TypeErr", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("RefNotValid", "NotSet", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("RefNotValid", "NotFound", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("RefNotValid", "Ambiguous", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("IpNotValid", "NotSet", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("IpNotValid", "Malformed", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("SecretNotValid", "NotSet", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("SecretNotValid", "NotFound", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("SecretNotValid", "DataErr", CRITICAL, "live::hosts::what_is_written_wrong"),
    ("InMaintenance", "StateEvaluated", CRITICAL, "live::hosts::what_the_inventory_says_of_a_host"),
    ("HostStatusNotGreen", "StateEvaluated", WARN, "live::hosts::what_the_inventory_says_of_a_host"),
    ("NotHealthy", "StateEvaluated", CRITICAL, "live::hosts::what_the_inventory_says_of_a_host"),
    ("ConnectionTestSucceeded", "Tested", REQUIRED, "live::hosts::a_host_logs_in_once_and_is_made_known"),
    ("ConnectionTestFailed", "Tested", CRITICAL, "live::hosts::a_host_logs_in_once_and_is_made_known"),
    ("Validated", "Completed", ADVISORY, "live::hosts::a_host_logs_in_once_and_is_made_known"),
    ("Ready", "", REQUIRED, "live::hosts::a_host_logs_in_once_and_is_made_known"),
];

/// Of plans: what their machines give.
const PLAN: &[Row] = &[
    // no vCenter gives it: a source that has no snapshots does
    ("WarmMigrationNotReady", "NotSupported", CRITICAL, "plans::a_source_without_snapshots_is_not_migrated_warm"),
    ("MigrationTypeNotValid", "NotSupported", CRITICAL, "live::machines::what_a_plan_names"),
    ("VMRefNotValid", "NotSet", CRITICAL, "live::machines::what_a_plan_names"),
    ("VMNotFound", "NotFound", CRITICAL, "live::machines::what_a_plan_names"),
    ("DuplicateVM", "NotUnique", CRITICAL, "live::machines::what_a_plan_names"),
    ("DuplicateVM", "Ambiguous", CRITICAL, "live::machines::what_a_plan_names"),
    ("DuplicateTargetName", "NotUnique", CRITICAL, "live::machines::names_on_the_target"),
    ("TargetNameNotValid", "NotValid", WARN, "live::machines::names_on_the_target"),
    ("NotValid", "NotValid", CRITICAL, "live::machines::names_on_the_target"),
    ("VMAlreadyExists", "NotUnique", CRITICAL, "live::machines::names_on_the_target"),
    ("VMNetworksNotMapped", "NotValid", CRITICAL, "live::network::what_is_not_mapped"),
    ("VMStorageNotMapped", "NotValid", CRITICAL, "live::network::what_is_not_mapped"),
    ("VMStorageNotSupported", "NotValid", CRITICAL, "live::disks::disks_that_snapshots_leave_out"),
    ("VMMultiplePodNetworkMappings", "NotValid", CRITICAL, "live::network::what_is_not_mapped"),
    ("HostNotReady", "InMaintenanceMode", WARN, "live::guests::guests_without_tools_and_hosts_that_rest"),
    ("NetMapPreservingIPsOnPodNetwork", "", WARN, "live::network::addresses_that_shall_stay"),
    ("VMMissingGuestIPs", "MissingGuestInformation", WARN, "live::guests::guests_without_tools_and_hosts_that_rest"),
    ("UnsupportedUserDefinedNetwork", "NotSupported", CRITICAL, "live::network::addresses_that_shall_stay"),
    ("VMIpNotMatchingUdnSubnet", "NotValid", WARN, "live::network::addresses_that_shall_stay"),
    (
        "VMMissingChangedBlockTracking",
        "MissingChangedBlockTracking",
        CRITICAL,
        "live::disks::snapshots_before_a_warm_migration",
    ),
    ("VMHasSnapshots", "NotValid", EITHER, "live::disks::snapshots_before_a_warm_migration"),
    ("StaleSnapshots", "NotValid", WARN, "live::disks::snapshots_before_a_warm_migration"),
    ("VMConsolidationNeeded", "ConsolidationNeeded", WARN, "live::disks::snapshots_before_a_warm_migration"),
    ("VMMigrationTypeUnsupported", "NotSupported", CRITICAL, "live::machines::machines_that_cannot_be_migrated"),
    ("GuestToolsIssue", "NotValid", CRITICAL, "live::guests::guests_without_tools_and_hosts_that_rest"),
    ("InvalidDiskSizes", "NotValid", CRITICAL, "live::machines::machines_that_cannot_be_migrated"),
    ("MacConflicts", "NotValid", CRITICAL, "live::network::what_is_not_mapped"),
    ("MissingPvcForOnlyConversion", "NotValid", CRITICAL, "live::target::volumes_on_the_target"),
    ("PVCNameConflict", "NotUnique", CRITICAL, "live::target::volumes_on_the_target"),
    ("LuksAndClevisIncompatibility", "NotValid", WARN, "live::machines::what_a_plan_names"),
    ("RDMDiskWarning", "NotSupported", EITHER, "live::disks::disks_that_snapshots_leave_out"),
    ("IndependentDiskWarning", "NotSupported", EITHER, "live::disks::disks_that_snapshots_leave_out"),
    ("SharedDisks", "NotSupported", CRITICAL, "live::disks::disks_that_machines_share"),
    ("SharedDisks", "NotValid", CRITICAL, "live::disks::disks_that_machines_share"),
    ("SharedWarnDisks", "NotValid", WARN, "live::disks::disks_that_machines_share"),
    ("DuplicateVMUuid", "NotUnique", EITHER, "live::machines::machines_that_cannot_be_migrated"),
    ("VMCriticalConcerns", "NotValid", CRITICAL, "live::machines::machines_that_cannot_be_migrated"),
];

/// Of plans: what they name in the cluster.
const REFERENCES: &[Row] = &[
    ("SourceProviderNotValid", "NotSet", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("SourceProviderNotValid", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("SourceProviderNotReady", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("DestinationProviderNotValid", "NotSet", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("DestinationProviderNotValid", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("DestinationProviderNotValid", "TypeNotValid", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("DestinationProviderNotReady", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("NamespaceNotValid", "NotSet", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("NamespaceNotValid", "NotValid", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("NetworkMapRefNotValid", "NotSet", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("NetworkMapRefNotValid", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("NetworkMapNotReady", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("StorageRefNotValid", "NotSet", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("StorageRefNotValid", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("StorageMapNotReady", "NotFound", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("NetMapDestinationNADNotValid", "NotValid", CRITICAL, "live::target::providers_and_maps_that_a_plan_names"),
    ("TransferNetworkNotValid", "NotFound", CRITICAL, "live::target::what_else_a_plan_names"),
    ("TransferNetworkNotValid", "NotValid", CRITICAL, "live::target::what_else_a_plan_names"),
    ("TransferNetworkMissingDefaultRoute", "NotValid", WARN, "live::target::what_else_a_plan_names"),
    ("ServiceAccountNotValid", "NotFound", CRITICAL, "live::target::what_else_a_plan_names"),
    ("VirtV2vImageNotValid", "NotValid", CRITICAL, "live::target::what_else_a_plan_names"),
    ("HookNotValid", "NotSet", CRITICAL, "live::target::what_else_a_plan_names"),
    ("HookNotValid", "NotFound", CRITICAL, "live::target::what_else_a_plan_names"),
    ("HookNotReady", "NotFound", CRITICAL, "live::target::what_else_a_plan_names"),
    ("HookStepNotValid", "NotValid", CRITICAL, "live::target::what_else_a_plan_names"),
    ("HookServiceAccountNotValid", "NotFound", CRITICAL, "live::target::what_else_a_plan_names"),
    ("RestrictedPodSecurity", "", WARN, "live::target::what_else_a_plan_names"),
    ("Ready", "", REQUIRED, "live::target::what_else_a_plan_names"),
];

/// Of plans: the user's VDDK.
const VDDK: &[Row] = &[
    ("ValidatingVDDK", "Started", ADVISORY, "live::vddk::an_image_that_is_looked_at"),
    ("VDDKInvalid", "NotValid", WARN, "live::vddk::an_image_that_is_looked_at"),
    ("VDDKInitImageNotReady", "ContainerCreating", ADVISORY, "live::vddk::an_image_that_is_looked_at"),
    ("VDDKInitImageUnavailable", "ErrImagePull", WARN, "live::vddk::an_image_that_is_looked_at"),
];

/// Types that no provider, host or plan for vSphere has, and whose they are.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "of the life of plans and migrations: the tests of migrations",
        &[
            types::EXECUTING,
            types::RUNNING,
            types::PENDING,
            types::CANCELED,
            types::SUCCEEDED,
            types::FAILED,
            types::BLOCKED,
            types::DELETED,
            types::PAUSED,
            types::ARCHIVED,
            types::CONVERSION_RESUMABLE,
            types::CONVERSION_HAS_WARNINGS,
            types::INSPECTION_HAS_CONCERNS,
            types::WAIT_FOR_GUEST_REBOOTS,
            types::RECONCILE_FAILED,
        ],
    ),
    ("of migrations", &[types::PLAN_NOT_VALID, types::PLAN_NOT_READY, types::VM_NOT_UNIQUE]),
    (
        "of maps, hooks and conversions",
        &[
            types::SOURCE_NETWORK_NOT_VALID,
            types::DESTINATION_NETWORK_NOT_VALID,
            types::SOURCE_STORAGE_NOT_VALID,
            types::DESTINATION_STORAGE_NOT_VALID,
            types::INVALID_IMAGE,
            types::INVALID_PLAYBOOK,
            types::INVALID_HOOK_EXECUTE,
            types::VM_NOT_SET,
            types::DISKS_NOT_SET,
            types::CONNECTION_NOT_SET,
            types::CONNECTION_SECRET_NOT_SET,
            types::VDDK_IMAGE_NOT_SET,
            types::LUKS_SECRET_NOT_SET,
            types::TARGET_NAMESPACE_NOT_SET,
            types::CONVERSION_FAILED,
            types::CONVERSION_CANCELED,
        ],
    ),
    (
        "of providers of other types: OVA, Hyper-V, EC2, OpenShift",
        &[
            types::CONNECTION_AUTH_RETRY,
            types::SMB_CSI_DRIVER_NOT_READY,
            types::SMB_MOUNT_FAILED,
            types::WAITING_FOR_SERVICE,
            types::TARGET_CREDENTIALS_MISSING,
            types::APPLIANCE_MANAGEMENT_ENABLED,
            types::UNSUPPORTED_VERSION,
            types::VM_POWER_STATE_UNSUPPORTED,
            types::UNSUPPORTED_OVF_EXPORT_SOURCE,
        ],
    ),
    (
        "of copies by the storage array, which are not offered",
        &[
            types::SSH_READY,
            types::SSH_NOT_READY,
            types::NET_APP_SHIFT_WARM_NOT_SUPPORTED,
            types::NET_APP_SHIFT_DATASTORE_NAS_MISSING,
            types::VDDK_AND_OFFLOAD_MIXED_USAGE,
        ],
    ),
];

/// Reasons that none of them has, and whose they are.
const OTHER_REASONS: &[&str] = &[
    reasons::DATA_ERROR,      // maps
    reasons::MODIFIED,        // VMs of migrations that are cancelled
    reasons::DELETED,         // the same
    reasons::USER_REQUESTED,  // the same, and archived plans
    reasons::FEATURE_ENABLED, // OVA providers
];

/// The files in which tests are, by the path of their module.
const FILES: &[(&str, &str)] = &[
    ("live::providers", include_str!("live/providers.rs")),
    ("live::login", include_str!("live/login.rs")),
    ("live::hosts", include_str!("live/hosts.rs")),
    ("live::machines", include_str!("live/machines.rs")),
    ("live::disks", include_str!("live/disks.rs")),
    ("live::guests", include_str!("live/guests.rs")),
    ("live::network", include_str!("live/network.rs")),
    ("live::target", include_str!("live/target.rs")),
    ("live::vddk", include_str!("live/vddk.rs")),
    ("plans", include_str!("plans.rs")),
];

fn rows(kind: &str) -> impl Iterator<Item = &'static Row> {
    let tables: &[&'static [Row]] = match kind {
        "Provider" => &[PROVIDER],
        "Host" => &[HOST],
        "Plan" => &[PLAN, REFERENCES, VDDK],
        _ => &[],
    };
    tables.iter().copied().flatten().collect::<Vec<_>>().into_iter()
}

/// Whether a condition's type is this one, or this one with a VM's id behind it.
pub fn is_of(type_: &str, row: &str) -> bool {
    type_ == row || type_.strip_prefix(row).is_some_and(|rest| rest.starts_with("-vm-"))
}

/// Returns the categories that a condition of this type and reason may have.
///
/// # Panics
/// Where no row has it.
pub fn categories(kind: &str, type_: &str, reason: &str) -> &'static [&'static str] {
    let row = rows(kind).find(|row| row.0 == type_ && row.1 == reason);
    row.unwrap_or_else(|| panic!("no row for {kind} {type_} {reason:?}")).2
}

/// Panics where an object says what no row has.
pub fn audit<K: serde::Serialize>(kind: &str, object: &K) {
    let object = serde_json::to_value(object).expect("JSON");
    let text = |condition: &Value, key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    for condition in object["status"]["conditions"].as_array().into_iter().flatten() {
        let (type_, reason, category) =
            (text(condition, "type"), text(condition, "reason"), text(condition, "category"));
        let life = OTHERS[0].1.contains(&type_.as_str());
        let known = rows(kind).any(|row| is_of(&type_, row.0) && row.1 == reason && row.2.contains(&category.as_str()));
        // a look-up that has to wait for the inventory says the reason of the pod that it waits for
        let waits = type_ == types::VDDK_INIT_IMAGE_NOT_READY;
        assert!(life || known || waits, "{kind}: no row has {type_} {reason:?} {category}: {condition:#}");
    }
}

/// Returns what a test does, without white space; nothing where there is no such test.
fn body(path: &str) -> Option<String> {
    let (module, name) = path.rsplit_once("::")?;
    let (_, text) = FILES.iter().find(|(known, _)| *known == module)?;
    let (before, after) = text.split_once(&format!("async fn {name}() {{"))?;
    let is_test = before.trim_end().lines().last().is_some_and(|line| line.starts_with("#[tokio::test"));
    let body = after.split("\n}").next().unwrap_or_default();
    is_test.then(|| body.chars().filter(|c| !c.is_whitespace()).collect())
}

#[test]
fn every_row_is_raised_by_the_test_that_it_names() {
    let mut wrong = Vec::new();
    for kind in ["Provider", "Host", "Plan"] {
        for (type_, reason, _, path) in rows(kind) {
            let Some(body) = body(path) else {
                wrong.push(format!("{kind} {type_} {reason:?}: there is no test {path}"));
                continue;
            };
            let raises = |call: &str| {
                call.split_once(')').is_some_and(|(args, _)| args.ends_with(&format!("\"{type_}\",\"{reason}\"")))
            };
            if !body.split(&format!("raises::<{kind}>(")).skip(1).any(raises) {
                wrong.push(format!("{kind} {type_} {reason:?}: {path} does not name it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rows_are_those_of_the_api() {
    for (rows, table) in [
        (PROVIDER, vsphere::PROVIDER),
        (HOST, vsphere::HOST),
        (PLAN, vsphere::PLAN),
        (REFERENCES, vsphere::REFERENCES),
        (VDDK, vsphere::VDDK),
    ] {
        let here: BTreeSet<_> = rows.iter().map(|row| (row.0, row.1)).collect();
        let there: BTreeSet<_> =
            table.iter().flat_map(|(type_, reasons)| reasons.iter().map(move |reason| (*type_, *reason))).collect();
        assert_eq!(here.len(), rows.len(), "a row is there twice");
        let untested: Vec<_> = there.difference(&here).collect();
        let unknown: Vec<_> = here.difference(&there).collect();
        assert!(
            untested.is_empty() && unknown.is_empty(),
            "no row has {untested:?}, the API does not have {unknown:?}"
        );
    }
}

#[test]
fn every_type_and_reason_is_raised_or_somebody_elses() {
    let rows: Vec<&Row> = ["Provider", "Host", "Plan"].into_iter().flat_map(rows).collect();
    let others: Vec<&str> = OTHERS.iter().flat_map(|(_, types)| types.iter().copied()).collect();
    for type_ in types::ALL {
        let here = rows.iter().any(|row| row.0 == *type_);
        let there = others.contains(type_);
        assert!(here != there, "{type_}: raised here: {here}, somebody else's: {there}");
    }
    for reason in reasons::ALL {
        let here = rows.iter().any(|row| row.1 == *reason);
        let there = OTHER_REASONS.contains(reason);
        assert!(here != there, "{reason}: raised here: {here}, somebody else's: {there}");
    }
}
