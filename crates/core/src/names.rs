//! Names of what is created: valid, within their length, and derived, so that the same effect always means the same
//! object.
use sha2::{Digest, Sha256};

use crate::plan::world::{PlanFacts, PlanVm};

/// Longest name of an object that also has to be a label value.
pub const MAX: usize = 63;

/// What a derived object is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk's importer Job, by disk index.
    Import,
    /// The conversion.
    Conversion,
    /// A hook's Job and ConfigMap, by step (0 before, 1 after).
    Hook,
    /// A volume, where no template names it.
    Disk,
    /// The copy of a secret with the source's credentials.
    Credentials,
    /// The inspection before the copy.
    Inspection,
    /// The copy of a secret with the source's credentials and address, for the inspection.
    Connection,
    /// The copy of a secret with the keys of encrypted disks.
    Keys,
    /// The copy of a config map with the user's scripts.
    Scripts,
    /// An importer's share of the bandwidth, by disk index.
    Limit,
    /// VDDK's configuration file.
    VddkConfig,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Import => "import",
            Kind::Conversion => "convert",
            Kind::Hook => "hook",
            Kind::Disk => "disk",
            Kind::Credentials => "source",
            Kind::Inspection => "inspect",
            Kind::Connection => "connect",
            Kind::Keys => "luks",
            Kind::Scripts => "scripts",
            Kind::Limit => "limit",
            Kind::VddkConfig => "vddk-conf",
        }
    }
}

/// Returns the name of an object of a VM: `<plan>-<vm>-<kind>-<index>`, where `<vm>` is a digest of plan UID and VM id,
/// so that equally named plans of two namespaces do not meet.
pub fn derived(plan: &PlanFacts, vm: &PlanVm, kind: Kind, index: usize) -> String {
    let tail = format!("-{}-{}-{index}", short(&[&plan.uid, &vm.id]), kind.word());
    let head = label(&plan.name);
    let head = if head.is_empty() { "plan".to_owned() } else { head };
    format!("{}{tail}", cut(&head, MAX.saturating_sub(tail.len())))
}

/// Returns eight hexadecimal digits that stand for these texts.
pub fn short(texts: &[&str]) -> String {
    hex(texts)[..8].to_owned()
}

/// Returns a number below 65,536 that stands for these texts.
pub fn number(texts: &[&str]) -> usize {
    usize::from_str_radix(&hex(texts)[..4], 16).unwrap_or(0)
}

/// Returns a digest of these texts in hexadecimal.
pub fn hex(texts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for text in texts {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a text as a DNS-1123 label (lower case letters, digits and dashes); empty when nothing remains.
pub fn label(text: &str) -> String {
    sanitised_part(text).chars().filter(|c| *c != '.').collect::<String>().trim_matches('-').to_owned()
}

fn cut(text: &str, max: usize) -> &str {
    let end = text.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|&end| end <= max).last().unwrap_or(0);
    text[..end].trim_end_matches(['-', '.'])
}

fn sanitised_part(text: &str) -> String {
    let mut out = String::new();
    for c in text.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => out.push(c),
            '-' | '_' | '+' | '*' | ' ' | '/' | '\\' if !out.ends_with('-') => out.push('-'),
            _ => {}
        }
    }
    cut(out.trim_matches('-'), MAX).to_owned()
}

/// Returns a VM's name as a DNS-1123 subdomain of at most 63 characters; empty when nothing usable remains.
pub fn sanitised(name: &str) -> String {
    let parts: Vec<_> = name.split('.').map(sanitised_part).filter(|part| !part.is_empty()).collect();
    cut(&parts.join("."), MAX).to_owned()
}

/// Returns the name of the target VM: the wish of the plan, else the name chosen at the start, else the source's name
/// made valid, else one made of the id. The same input always gives the same name.
pub fn target_name(vm: &PlanVm, chosen: Option<&str>) -> String {
    let wish = vm.target_name.as_deref().map(str::trim).filter(|n| !n.is_empty());
    if let Some(name) = wish.or(chosen.filter(|n| !n.is_empty())) {
        return name.to_owned();
    }
    let name = sanitised(&vm.name);
    if name.is_empty() { format!("vm-{}", &hex(&[&vm.id])[..4]) } else { name }
}

/// Returns a name that is not taken: the name itself, else cut to 58 characters with a suffix derived from the VM,
/// checked as well.
pub fn free_name(name: &str, vm: &PlanVm, taken: &[String]) -> String {
    let is_taken = |name: &str| taken.iter().any(|t| t == name);
    if !is_taken(name) {
        return name.to_owned();
    }
    let digits = hex(&[&vm.id, name]);
    let candidates = (0..digits.len() - 4).map(|at| format!("{}-{}", cut(name, 58), &digits[at..at + 4]));
    candidates.into_iter().find(|candidate| !is_taken(candidate)).unwrap_or_else(|| name.to_owned())
}

/// Returns why a text is not a DNS-1123 subdomain.
pub fn subdomain_error(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty");
    }
    if name.len() > 253 {
        return Some("it is longer than 253 characters");
    }
    name.split('.').any(|part| !is_label(part)).then_some(
        "it must consist of lower case letters, digits, '-' and '.', and start and end with a letter or digit",
    )
}

/// Returns whether a text is made like a DNS-1123 label, whatever its length.
fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Returns why a text is not a DNS-1123 label.
pub fn label_error(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > MAX {
        Some("it is longer than 63 characters")
    } else {
        (!is_label(name)).then_some(
            "it must consist of lower case letters, digits and '-', and start and end with a letter or digit",
        )
    }
}

/// Returns the name of the n-th snapshot of a VM's warm migration.
pub fn snapshot(plan: &PlanFacts, index: usize) -> String {
    format!("{}{index}", snapshot_prefix(plan))
}

/// What the snapshots of all migrations start with, upstream's too.
pub const SNAPSHOT_NAME: &str = "forklift-migration-precopy";

/// Returns what all snapshot names of the active migration start with.
pub fn snapshot_prefix(plan: &PlanFacts) -> String {
    format!("{SNAPSHOT_NAME}-{}-", short(&[&plan.migration_uid]))
}

/// Returns a disk serial: what the source has, cleaned and cut to 20 characters, else a digest of VM and disk.
pub fn serial(serial: &str, vm_id: &str, disk: &str) -> String {
    let clean: String = serial.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(20).collect();
    if clean.is_empty() { hex(&[vm_id, disk])[..20].to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renaming_vectors() {
        let a63 = "a".repeat(63);
        for (input, output) in [
            (
                "----------------Vm!@#$%^&*()_+-Name/.is,';[]-CorREct-<>123----------------------",
                "vm-name.is-correct-123",
            ),
            (".__.", ""),
            ("mtv.func.-.rhel.-...8.8", "mtv.func.rhel.8.8"),
            (".....mtv.func..-...............rhel.-...8.8", "mtv.func.rhel.8.8"),
            ("vm with spaces in name", "vm-with-spaces-in-name"),
            ("vm+with+plus+signs", "vm-with-plus-signs"),
            ("vm---with----multiple-----dashes", "vm-with-multiple-dashes"),
            ("vm   +++with   ---mixed+++   ---characters", "vm-with-mixed-characters"),
            ("vm*with*asterisk*characters", "vm-with-asterisk-characters"),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &a63),
            ("rhel9-node_2", "rhel9-node-2"),
            ("My_VM+Name", "my-vm-name"),
        ] {
            assert_eq!(sanitised(input), output, "{input}");
        }
    }

    #[test]
    fn a_name_of_nothing_comes_from_the_id() {
        let vm = |id: &str| PlanVm { id: id.into(), name: "...".into(), ..PlanVm::default() };
        let name = target_name(&vm("vm-1"), None);
        assert_eq!((label_error(&name), name.len()), (None, 7));
        assert_eq!(name, target_name(&vm("vm-1"), None));
        assert_ne!(name, target_name(&vm("vm-2"), None));
    }

    #[test]
    fn the_wish_comes_before_what_was_chosen() {
        let mut vm = PlanVm { name: "Web_1".into(), target_name: Some("  ".into()), ..PlanVm::default() };
        assert_eq!(target_name(&vm, Some("web-x")), "web-x");
        assert_eq!(target_name(&vm, None), "web-1");
        vm.target_name = Some(" www ".into());
        assert_eq!(target_name(&vm, Some("web-x")), "www");
    }

    #[test]
    fn derived_names_are_labels_within_their_length() {
        let plan = PlanFacts { name: "A.very long ".repeat(9), uid: "u".into(), ..PlanFacts::default() };
        let vm = PlanVm { id: "vm-42".into(), ..PlanVm::default() };
        let name = derived(&plan, &vm, Kind::Import, 12);
        assert_eq!(label_error(&name), None, "{name}");
        assert!(name.len() <= MAX && name.ends_with("-import-12"));
        let other = PlanFacts { uid: "v".into(), ..plan.clone() };
        assert_ne!(name, derived(&other, &vm, Kind::Import, 12));
    }

    #[test]
    fn a_taken_name_gets_a_suffix_that_is_free() {
        let vm = PlanVm { id: "vm-1".into(), ..PlanVm::default() };
        let first = free_name("web", &vm, &["web".into()]);
        assert!(first.starts_with("web-") && first.len() == 8);
        assert_ne!(free_name("web", &vm, &["web".into(), first.clone()]), first);
    }

    #[test]
    fn serials() {
        for (input, output) in [
            ("disk@#$%^&*()", "disk"),
            ("disk 01", "disk01"),
            ("{12345678-abcd}", "12345678-abcd"),
            ("6000C29a-1234-5678-abcd", "6000C29a-1234-5678-a"),
        ] {
            assert_eq!(serial(input, "vm", "d"), output);
        }
        assert_eq!(serial("@", "vm", "d").len(), 20);
    }
}
