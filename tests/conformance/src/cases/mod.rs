//! The chapters, one file each. A new chapter is its file, its `mod` line and its line in [`all`].

mod access;
mod admission;
mod apply;
mod bodies;
mod configs;
mod crds;
mod definitions;
mod deletion;
mod discovery;
mod events;
mod fields;
mod jobs;
mod lists;
mod locking;
mod metadata;
mod namespaces;
mod objects;
mod operation;
mod patches;
mod pods;
mod rules;
mod schemas;
mod services;
mod subresources;
mod tables;
mod watches;
mod workloads;

use crate::case::Chapter;

/// All chapters.
pub fn all() -> Vec<Chapter> {
    vec![
        access::chapter(),
        admission::chapter(),
        apply::chapter(),
        bodies::chapter(),
        configs::chapter(),
        crds::chapter(),
        deletion::chapter(),
        discovery::chapter(),
        events::chapter(),
        fields::chapter(),
        jobs::chapter(),
        lists::chapter(),
        locking::chapter(),
        metadata::chapter(),
        namespaces::chapter(),
        objects::chapter(),
        operation::chapter(),
        patches::chapter(),
        pods::chapter(),
        rules::chapter(),
        schemas::chapter(),
        services::chapter(),
        subresources::chapter(),
        tables::chapter(),
        watches::chapter(),
        workloads::chapter(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let mut seen = BTreeSet::new();
        for chapter in super::all() {
            assert!(!chapter.cases.is_empty(), "{} has no cases", chapter.name);
            for test in &chapter.cases {
                assert!(seen.insert((chapter.name, test.name)), "twice: {} / {}", chapter.name, test.name);
            }
        }
    }
}
