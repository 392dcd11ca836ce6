//! Guest operating systems: from what an inspection found to VMware's guest id, and from there to the preference of
//! the target VM.
//!
//! The guest ids are those of vSphere's `VirtualMachineGuestOsIdentifier`, the names of the inspection those of
//! libosinfo; which preference a guest id means is upstream's `forklift-vsphere-osmap`.
use std::collections::BTreeMap;

/// osinfo id or its beginning → guest id. The longest that fits counts.
const GUEST_IDS: &[(&str, &str)] = &[
    ("rhel10", "rhel10_64Guest"),
    ("rhel9", "rhel9_64Guest"),
    ("rhel8", "rhel8_64Guest"),
    ("rhel7", "rhel7_64Guest"),
    ("centos6", "centos6_64Guest"),
    ("centos7", "centos7_64Guest"),
    ("centos8", "centos8_64Guest"),
    ("centos9", "centos9_64Guest"),
    ("centos-stream8", "centos8_64Guest"),
    ("centos-stream9", "centos9_64Guest"),
    ("sles10", "sles10_64Guest"),
    ("sles11", "sles11_64Guest"),
    ("sles12", "sles12_64Guest"),
    ("sles15", "sles15_64Guest"),
    ("sles16", "sles16_64Guest"),
    ("debian4", "debian4_64Guest"),
    ("debian5", "debian5_64Guest"),
    ("debian6", "debian6_64Guest"),
    ("debian7", "debian7_64Guest"),
    ("debian8", "debian8_64Guest"),
    ("debian9", "debian9_64Guest"),
    ("debian10", "debian10_64Guest"),
    ("debian11", "debian11_64Guest"),
    ("debian12", "debian12_64Guest"),
    ("debian13", "debian13_64Guest"),
    ("rocky", "rockylinux_64Guest"),
    ("almalinux", "almalinux_64Guest"),
    ("opensuse", "opensuse64Guest"),
    ("ubuntu", "ubuntu64Guest"),
    ("fedora", "fedora64Guest"),
    ("win7", "windows7_64Guest"),
    ("win8", "windows8_64Guest"),
    ("win10", "windows9_64Guest"),
    ("win11", "windows11_64Guest"),
    ("win12", "windows12_64Guest"),
    ("win2k8r2", "windows7Server64Guest"),
    ("win2k12", "windows8Server64Guest"),
    ("win2k12r2", "windows8Server64Guest"),
    ("win2k16", "windows9Server64Guest"),
    ("win2k19", "windows2019srv_64Guest"),
    ("win2k22", "windows2019srvNext_64Guest"),
    ("win2k25", "windows2022srvNext_64Guest"),
];

/// Guest id → preference.
const PREFERENCES: &[(&str, &str)] = &[
    ("genericLinuxGuest", "linux"),
    ("ubuntuGuest", "ubuntu"),
    ("ubuntu64Guest", "ubuntu"),
    ("fedoraGuest", "fedora"),
    ("fedora64Guest", "fedora"),
    ("centos7_64Guest", "centos.7"),
    ("centos8_64Guest", "centos.stream8"),
    ("centos9_64Guest", "centos.stream9"),
    ("rhel7Guest", "rhel.7"),
    ("rhel7_64Guest", "rhel.7"),
    ("rhel8_64Guest", "rhel.8"),
    ("rhel9_64Guest", "rhel.9"),
    ("rhel10_64Guest", "rhel.10"),
    // not in upstream's map: found by inspection, and then without a preference
    ("rockylinux_64Guest", "linux"),
    ("almalinux_64Guest", "linux"),
    ("centos6_64Guest", "linux"),
    ("sles10_64Guest", "sles"),
    ("sles11_64Guest", "sles"),
    ("sles12_64Guest", "sles"),
    ("sles15_64Guest", "sles"),
    ("sles16_64Guest", "sles"),
    ("opensuse64Guest", "opensuse.leap"),
    ("debian4_64Guest", "debian"),
    ("debian5_64Guest", "debian"),
    ("debian6_64Guest", "debian"),
    ("debian7_64Guest", "debian"),
    ("debian8_64Guest", "debian"),
    ("debian9_64Guest", "debian"),
    ("debian10_64Guest", "debian"),
    ("debian11_64Guest", "debian"),
    ("debian12_64Guest", "debian"),
    ("debian13_64Guest", "debian"),
    ("windows7_64Guest", "windows.7"),
    ("windows8_64Guest", "windows.8"),
    ("windows9_64Guest", "windows.10"),
    ("windows11_64Guest", "windows.11"),
    ("windows12_64Guest", "windows.12"),
    ("windows7Server64Guest", "windows.2k8"),
    ("windows8Server64Guest", "windows.2k12"),
    ("windows9Server64Guest", "windows.2k16"),
    ("windows2019srv_64Guest", "windows.2k19"),
    ("windows2019srvNext_64Guest", "windows.2k22"),
    ("windows2022srvNext_64Guest", "windows.2k25"),
];

/// Guest id → osinfo ids by which OpenShift's templates are found, the one that fits best first. Upstream has one for
/// each, and some are of another system (Server 2016 and 2022 get the template of 2019): those come last here.
const TEMPLATES: &[(&str, &[&str])] = &[
    ("genericLinuxGuest", &["linux"]),
    ("centos6_64Guest", &["centos6.10"]),
    ("centos7_64Guest", &["centos7.0"]),
    ("centos8_64Guest", &["centos-stream8", "centos8"]),
    ("centos9_64Guest", &["centos-stream9"]),
    ("debian10_64Guest", &["debian10"]),
    ("debian11_64Guest", &["debian11"]),
    ("debian12_64Guest", &["debian12"]),
    ("fedora64Guest", &["fedora", "fedora31"]),
    ("opensuse64Guest", &["opensuse15.0"]),
    ("rhel7_64Guest", &["rhel7.9", "rhel7.7"]),
    ("rhel8_64Guest", &["rhel8.10", "rhel8.1"]),
    ("rhel9_64Guest", &["rhel9.4", "rhel9.0"]),
    ("rhel10_64Guest", &["rhel10.0"]),
    ("ubuntu64Guest", &["ubuntu20.04", "ubuntu18.04"]),
    ("windows7_64Guest", &["win7"]),
    ("windows8_64Guest", &["win8"]),
    ("windows9_64Guest", &["win10"]),
    ("windows11_64Guest", &["win11"]),
    ("windows7Server64Guest", &["win2k8r2"]),
    ("windows8Server64Guest", &["win2k12r2"]),
    ("windows9Server64Guest", &["win2k16", "win2k19"]),
    ("windows2019srv_64Guest", &["win2k19"]),
    ("windows2019srvNext_64Guest", &["win2k22", "win2k19"]),
    ("windows2022srvNext_64Guest", &["win2k25", "win2k22"]),
];

/// Returns the osinfo ids by which OpenShift's templates for a guest id are found, the best first.
pub fn template_ids(guest_id: &str) -> &'static [&'static str] {
    TEMPLATES.iter().find(|(known, _)| *known == guest_id).map_or(&[], |(_, ids)| ids)
}

/// Returns the guest id for what an inspection found: the osinfo id, and the kind of system (`linux`, `windows`).
///
/// The longest known beginning of the osinfo id counts, but a number is never cut: `rhel9.5` is `rhel9`, `ubuntu22.04`
/// is `ubuntu`, and `debian14` is generic.
pub fn guest_id(osinfo: &str, kind: &str) -> &'static str {
    let osinfo = osinfo.trim().to_ascii_lowercase();
    let fits = |known: &&(&'static str, &'static str)| {
        osinfo.strip_prefix(known.0).is_some_and(|rest| {
            let ends_in_digit = known.0.ends_with(|c: char| c.is_ascii_digit());
            match rest.chars().next() {
                None | Some('.') => true,
                Some(c) if ends_in_digit => c == '-',
                Some(c) => c.is_ascii_digit() || c == '-',
            }
        })
    };
    match GUEST_IDS.iter().filter(fits).max_by_key(|known| known.0.len()) {
        Some((_, guest_id)) => guest_id,
        None if kind.eq_ignore_ascii_case("linux") => "genericLinuxGuest",
        None => "otherGuest64",
    }
}

/// Returns which preference a guest id means: `map` is the installation's, and goes before the one built in.
pub fn preferences(map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all: BTreeMap<_, _> = PREFERENCES.iter().map(|(id, name)| ((*id).to_owned(), (*name).to_owned())).collect();
    all.extend(map.iter().map(|(id, name)| (id.clone(), name.clone())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_inspection_finds_has_a_guest_id() {
        for (osinfo, kind, expected) in [
            ("rhel9.5", "linux", "rhel9_64Guest"),
            ("rhel10.0", "linux", "rhel10_64Guest"),
            ("ubuntu22.04", "linux", "ubuntu64Guest"),
            ("fedora40", "linux", "fedora64Guest"),
            ("rocky9", "linux", "rockylinux_64Guest"),
            ("opensuse15.5", "linux", "opensuse64Guest"),
            ("opensuse-factory", "linux", "opensuse64Guest"),
            ("centos-stream9", "linux", "centos9_64Guest"),
            ("debian12", "linux", "debian12_64Guest"),
            ("debian14", "linux", "genericLinuxGuest"),
            ("Win8.1", "windows", "windows8_64Guest"),
            ("almalinux9.3", "linux", "almalinux_64Guest"),
            ("win2k12r2", "windows", "windows8Server64Guest"),
            ("win2k8", "windows", "otherGuest64"),
            ("win2k22", "windows", "windows2019srvNext_64Guest"),
            ("win10", "windows", "windows9_64Guest"),
            ("win11", "windows", "windows11_64Guest"),
            ("", "linux", "genericLinuxGuest"),
            ("haiku", "other", "otherGuest64"),
        ] {
            assert_eq!(guest_id(osinfo, kind), expected, "{osinfo}");
        }
    }

    #[test]
    fn every_guest_id_has_a_preference_and_the_installations_map_goes_first() {
        let map = BTreeMap::from([("rhel9_64Guest".to_owned(), "ours".to_owned())]);
        let all = preferences(&map);
        assert_eq!((all["rhel9_64Guest"].as_str(), all["rhel8_64Guest"].as_str()), ("ours", "rhel.8"));
        for (_, guest_id) in GUEST_IDS {
            assert!(all.contains_key(*guest_id), "{guest_id}");
        }
        assert_eq!(all.get("otherGuest64"), None);
        for (guest_id, ids) in TEMPLATES {
            assert!(all.contains_key(*guest_id) && !ids.is_empty(), "{guest_id}");
        }
        assert_eq!((template_ids("windows11_64Guest"), template_ids("otherGuest64")), (&["win11"][..], &[][..]));
    }
}
