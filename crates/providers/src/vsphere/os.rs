//! The family of a guest operating system, by vSphere's words for it.

use forklift_core::machine::OsFamily;

/// Tells the family by guest id and name; `darwin` holds `win` and is none.
pub fn family(guest_id: &str, name: &str) -> OsFamily {
    let text = format!("{guest_id} {name}").to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["darwin", "mac os", "bsd", "solaris", "netware", "vmkernel", "esxi"]) {
        OsFamily::Other
    } else if text.contains("win") {
        OsFamily::Windows
    } else if has(&[
        "linux", "rhel", "red hat", "redhat", "centos", "fedora", "debian", "ubuntu", "suse", "sles", "oracle",
        "rocky", "alma", "photon", "coreos", "flatcar", "asianux", "amazon",
    ]) {
        OsFamily::Linux
    } else {
        OsFamily::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_by_id_or_name() {
        for (id, name, expected) in [
            ("rhel9_64Guest", "", OsFamily::Linux),
            ("windows2019srv_64Guest", "", OsFamily::Windows),
            ("otherGuest", "Microsoft Windows Server 2022 (64-bit)", OsFamily::Windows),
            ("darwin21_64Guest", "Apple macOS 12 (64-bit)", OsFamily::Other),
            ("other6xLinux64Guest", "", OsFamily::Linux),
            ("otherGuest", "", OsFamily::Unknown),
        ] {
            assert_eq!(family(id, name), expected, "{id} {name}");
        }
    }
}
