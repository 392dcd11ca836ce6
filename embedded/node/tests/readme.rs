//! The README's tables name the tests that show what they say.

use std::path::{Path, PathBuf};

/// Says whether a file has a test of that name.
fn has_test(file: &Path, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let lines: Vec<&str> = text.lines().collect();
    let found = lines.iter().position(|line| line.contains(&format!("fn {name}(")));
    // a program without the test harness calls its test itself
    let plain = text.contains("there is no\n//! test harness") || text.contains("so there is no");
    found.is_some_and(|at| plain || at > 0 && lines[at - 1].contains("test"))
}

/// The Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => sources(&path, found),
            false if path.extension().is_some_and(|kind| kind == "rs") => found.push(path),
            false => {}
        }
    }
}

#[test]
fn every_row_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("README.md")).expect("a README");
    let mut everywhere = Vec::new();
    for folder in ["src", "tests", "../../crates/kubevirt-types", "../apiserver/src", "../apiserver/tests"] {
        sources(&root.join(folder), &mut everywhere);
    }
    let (mut rows, mut in_table) = (0, false);
    let mut missing = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            in_table = false;
        } else if cells.contains(&"shown by") {
            in_table = true;
        } else if in_table && !line.starts_with("|-") {
            rows += 1;
            let named: Vec<&str> = cells[cells.len() - 2].split('`').skip(1).step_by(2).collect();
            if named.is_empty() {
                missing.push(format!("no test in the row of {}", cells[1]));
            }
            for path in named {
                let found = match path.rsplit_once("::") {
                    Some((module, name)) => {
                        let module = module.replace("::", "/");
                        ["tests/", "src/"].iter().any(|folder| {
                            has_test(&root.join(format!("{folder}{module}.rs")), name)
                                || has_test(&root.join(format!("{folder}{module}/mod.rs")), name)
                        })
                    }
                    // a file of tests as a whole
                    None if path.ends_with(".rs") => everywhere.iter().any(|file| {
                        let holds_tests = |text: String| text.contains("test]") || file.starts_with(root.join("tests"));
                        file.ends_with(path) && std::fs::read_to_string(file).is_ok_and(holds_tests)
                    }),
                    None => everywhere.iter().any(|file| has_test(file, path)),
                };
                if !found {
                    missing.push(path.to_owned());
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(rows >= 20, "{rows} rows");
}
