//! What the embedded API server's README calls real is shown by chapters that exist.

use std::path::Path;

/// Rows of the table under the heading, as cells.
fn rows<'a>(text: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let below = text.split_once(heading).map(|(_, rest)| rest).unwrap_or_default();
    let table = below.split("\n## ").next().unwrap_or_default();
    let lines = table.lines().filter(|line| line.starts_with('|')).skip(2);
    lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[test]
fn every_row_names_chapters_that_have_cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../embedded/apiserver");
    let text = std::fs::read_to_string(folder.join("README.md")).expect("the README is there");
    let chapters = conformance::cases::all();
    let rows = rows(&text, "## What is real");
    assert!(rows.len() >= 10, "the table has its rows: {rows:?}");
    for row in rows {
        let [part, _, shown] = row.as_slice() else { panic!("three cells expected: {row:?}") };
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{part}: no chapter is named");
        for name in names {
            // what needs a restart or a program of its own is shown by the crate's own tests
            let known = match name.ends_with(".rs") {
                true => folder.join(name).is_file(),
                false => chapters.iter().any(|chapter| chapter.name == name && !chapter.cases.is_empty()),
            };
            assert!(known, "{part}: there is no chapter or file {name}");
        }
    }
}
