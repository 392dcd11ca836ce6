//! Guest operating systems: from what an inspection found to VMware's guest id, and from there to the preference of
//! the target VM.
//!
//! The guest ids are those of vSphere's `VirtualMachineGuestOsIdentifier`, the names of the inspection those of
//! libosinfo; which preference a guest id means is upstream's `forklift-vsphere-osmap`.
use std::collections::BTreeMap;

/// By libosinfo's short name.
const GUEST_IDS: &[(&str, &str)] = &[
    ("rhel7", "rhel7_64Guest"),
    ("rhel8", "rhel8_64Guest"),
    ("rhel9", "rhel9_64Guest"),
    ("rhel10", "rhel10_64Guest"),
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
    ("win8.1", "windows8_64Guest"),
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

/// Preferences by guest id, where the ConfigMap of the installation does not say otherwise.
const PREFERENCES: &[(&str, &str)] = &[
    ("genericLinuxGuest", "linux"),
    ("ubuntu64Guest", "ubuntu"),
    ("ubuntuGuest", "ubuntu"),
    ("fedora64Guest", "fedora"),
    ("fedoraGuest", "fedora"),
    ("centos7_64Guest", "centos.7"),
    ("centos8_64Guest", "centos.stream8"),
    ("centos9_64Guest", "centos.stream9"),
    ("rhel7_64Guest", "rhel.7"),
    ("rhel8_64Guest", "rhel.8"),
    ("rhel9_64Guest", "rhel.9"),
    ("rhel10_64Guest", "rhel.10"),
    ("sles12_64Guest", "sles"),
    ("sles15_64Guest", "sles"),
    ("sles16_64Guest", "sles"),
    ("opensuse64Guest", "opensuse.leap"),
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

/// Returns VMware's guest id for what an inspection found: `osinfo` is libosinfo's short name (`rhel9.4`,
/// `ubuntu22.04`), `name` the kind of system (`linux`, `windows`).
///
/// The exact name is looked for, then the part before the first dot, then the name without its version: upstream stops
/// before the last and calls `ubuntu22.04` or `fedora40` a generic Linux.
pub fn guest_id(osinfo: &str, name: &str) -> &'static str {
    let osinfo = osinfo.trim().to_ascii_lowercase();
    let major = osinfo.split('.').next().unwrap_or_default();
    let bare = major.trim_end_matches(|c: char| c.is_ascii_digit());
    let find = |wanted: &str| GUEST_IDS.iter().find(|(known, _)| *known == wanted).map(|(_, id)| *id);
    if let Some(id) = [osinfo.as_str(), major, bare].into_iter().filter(|word| !word.is_empty()).find_map(find) {
        id
    } else if name.eq_ignore_ascii_case("linux") {
        "genericLinuxGuest"
    } else {
        "otherGuest64"
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
    fn guest_ids_of_what_inspections_find() {
        for (osinfo, name, id) in [
            ("rhel9", "linux", "rhel9_64Guest"),
            ("rhel9.4", "linux", "rhel9_64Guest"),
            ("rhel10.0", "linux", "rhel10_64Guest"),
            ("debian12", "linux", "debian12_64Guest"),
            ("ubuntu22.04", "linux", "ubuntu64Guest"),
            ("fedora40", "linux", "fedora64Guest"),
            ("centos-stream9", "linux", "centos9_64Guest"),
            ("Win2k22", "windows", "windows2019srvNext_64Guest"),
            ("win8.1", "windows", "windows8_64Guest"),
            ("rhel5.11", "linux", "genericLinuxGuest"),
            ("", "linux", "genericLinuxGuest"),
            ("", "windows", "otherGuest64"),
            ("freebsd14", "freebsd", "otherGuest64"),
        ] {
            assert_eq!(guest_id(osinfo, name), id, "{osinfo}");
        }
    }

    #[test]
    fn the_installations_map_goes_first() {
        let map = BTreeMap::from([("rhel9_64Guest".to_owned(), "ours".to_owned())]);
        let all = preferences(&map);
        assert_eq!((all["rhel9_64Guest"].as_str(), all["rhel8_64Guest"].as_str()), ("ours", "rhel.8"));
        for (short, id) in GUEST_IDS {
            let known = PREFERENCES.iter().any(|(known, _)| known == id);
            let old = [
                "centos6", "sles10", "sles11", "debian4", "debian5", "debian6", "debian7", "debian8", "debian9",
                "rocky", "alma",
            ];
            assert!(known || old.iter().any(|prefix| short.starts_with(prefix)), "{id} has no preference");
        }
    }
}
