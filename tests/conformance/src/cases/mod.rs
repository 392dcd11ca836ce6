//! The chapters, one file each. A new chapter is its file, its `mod` line and its line in [`all`].

mod access;
mod admission;
mod apply;
mod bodies;
mod crds;
mod definitions;
mod discovery;
mod fields;
mod lists;
mod metadata;
mod objects;
mod operation;
mod rules;
mod schemas;
mod watches;

use crate::case::Chapter;

/// All chapters.
pub fn all() -> Vec<Chapter> {
    vec![
        access::chapter(),
        admission::chapter(),
        apply::chapter(),
        bodies::chapter(),
        crds::chapter(),
        discovery::chapter(),
        fields::chapter(),
        lists::chapter(),
        metadata::chapter(),
        objects::chapter(),
        operation::chapter(),
        rules::chapter(),
        schemas::chapter(),
        watches::chapter(),
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
