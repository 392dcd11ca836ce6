//! Tags of the source VM as labels, its custom attributes as annotations.
//!
//! Keys are `<source>.forklift.konveyor.io/<name>`, as upstream writes them. What Kubernetes does not take in a label is
//! replaced, and what was changed is told in the annotation [`REPORT`]: nothing gets another name in silence.
use std::collections::BTreeMap;

use forklift_api::plan::TagMapping;

use crate::machine::Machine;

/// Annotation with a JSON map: which tag or attribute was changed, and to what.
pub const REPORT: &str = "forklift.konveyor.io/sanitized-metadata";
/// Longest name part of a key, and longest label value (Kubernetes, "Labels and Selectors").
const MAX: usize = 63;

/// Labels, annotations, and what had to be changed for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Of the tags.
    pub labels: BTreeMap<String, String>,
    /// Of the attributes.
    pub annotations: BTreeMap<String, String>,
    /// `tag.name.<name>`, `tag.value.<name>`, `tag.collision.<key>`, `customAttribute.…` → what it became.
    pub report: BTreeMap<String, String>,
}

/// Translates what a machine carries. `source` is the word for the provider (`vsphere`).
pub fn metadata(source: &str, machine: &Machine, mapping: Option<&TagMapping>) -> Metadata {
    let prefix = format!("{}.forklift.konveyor.io", source.to_ascii_lowercase());
    let mut found = Metadata::default();
    let wanted = |name: &str| match mapping {
        Some(mapping) if mapping.disabled => false,
        Some(mapping) if !mapping.label_tags.is_empty() => {
            mapping.label_tags.iter().any(|tag| tag.to_lowercase() == name.to_lowercase())
        }
        Some(_) | None => true,
    };
    let mut names = BTreeMap::new();
    for tag in machine.tags.iter().filter(|tag| wanted(&tag.name)) {
        let Some(key) = key(&mut found.report, &mut names, "tag", &prefix, &tag.name) else { continue };
        let value = sanitised(&tag.description);
        if value != tag.description {
            found.report.insert(format!("tag.value.{}", tag.name), value.clone());
        }
        found.labels.insert(key, value);
    }
    let mut names = BTreeMap::new();
    for attribute in &machine.attributes {
        let Some(key) = key(&mut found.report, &mut names, "customAttribute", &prefix, &attribute.name) else {
            continue;
        };
        found.annotations.insert(key, attribute.value.clone());
    }
    found
}

/// The key for a name; `None` when nothing of the name can be used. A later name takes the key of an earlier one.
fn key(
    report: &mut BTreeMap<String, String>,
    names: &mut BTreeMap<String, String>,
    what: &str,
    prefix: &str,
    name: &str,
) -> Option<String> {
    let part = sanitised(name);
    if part.is_empty() {
        return None;
    }
    if part != name {
        report.insert(format!("{what}.name.{name}"), part.clone());
    }
    let key = format!("{prefix}/{part}");
    if let Some(earlier) = names.insert(key.clone(), name.to_owned()) {
        let taken = if what == "tag" { &key } else { &part };
        report.insert(format!("{what}.collision.{taken}"), format!("{name} overwrites {earlier}"));
    }
    Some(key)
}

/// Returns a text as a label takes it: letters, digits, `-`, `_` and `.`, at most 63, a letter or digit at both ends.
pub fn sanitised(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if text.len() <= MAX && text.chars().all(allowed) && ends(text.chars().next()) && ends(text.chars().last()) {
        return text.to_owned();
    }
    let replaced: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    let trimmed = replaced.trim_matches(['_', '.', '-']);
    trimmed[..trimmed.len().min(MAX)].trim_end_matches(['_', '.', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Attribute, Tag};
    use expect_test::expect;

    fn machine(tags: &[(&str, &str)], attributes: &[(&str, &str)]) -> Machine {
        Machine {
            tags: tags.iter().map(|(name, text)| Tag { name: (*name).into(), description: (*text).into() }).collect(),
            attributes: attributes
                .iter()
                .map(|(name, value)| Attribute { name: (*name).into(), value: (*value).into() })
                .collect(),
            ..Machine::default()
        }
    }

    #[test]
    fn names_and_values_are_made_valid_and_the_changes_told() {
        let long = "x".repeat(70);
        let found = metadata(
            "vSphere",
            &machine(
                &[
                    ("owner", "platform-team"),
                    ("cost center", "cc 123!"),
                    ("cost@center", ""),
                    ("§§", "lost"),
                    ("long", &long),
                ],
                &[("App name", "any value: even this"), ("plain", "")],
            ),
            None,
        );
        expect![[r#"
            Metadata {
                labels: {
                    "vsphere.forklift.konveyor.io/cost_center": "",
                    "vsphere.forklift.konveyor.io/long": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                    "vsphere.forklift.konveyor.io/owner": "platform-team",
                },
                annotations: {
                    "vsphere.forklift.konveyor.io/App_name": "any value: even this",
                    "vsphere.forklift.konveyor.io/plain": "",
                },
                report: {
                    "customAttribute.name.App name": "App_name",
                    "tag.collision.vsphere.forklift.konveyor.io/cost_center": "cost@center overwrites cost center",
                    "tag.name.cost center": "cost_center",
                    "tag.name.cost@center": "cost_center",
                    "tag.value.cost center": "cc_123",
                    "tag.value.long": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                },
            }
        "#]]
        .assert_debug_eq(&found);
    }

    #[test]
    fn the_plan_chooses_the_tags_and_attributes_stay() {
        let machine = machine(&[("Owner", "a"), ("env", "b")], &[("app", "c")]);
        let labels = |mapping: &TagMapping| {
            let found = metadata("vSphere", &machine, Some(mapping));
            assert_eq!(found.annotations.len(), 1);
            found.labels.into_values().collect::<Vec<_>>()
        };
        assert_eq!(labels(&TagMapping::default()), ["a", "b"]);
        assert_eq!(labels(&TagMapping { label_tags: vec!["oWNER".into()], ..TagMapping::default() }), ["a"]);
        assert!(labels(&TagMapping { disabled: true, label_tags: vec!["env".into()] }).is_empty());
    }
}
