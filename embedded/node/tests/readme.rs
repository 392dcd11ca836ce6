//! The README's tables name the tests that show what they say.

use std::path::Path;

/// Says whether a file has a test of that name.
fn has_test(file: &Path, name: &str) -> bool {
    let Ok(text) = std::fs::read_to_string(file) else { return false };
    let lines: Vec<&str> = text.lines().collect();
    let found = lines.iter().position(|line| line.contains(&format!("fn {name}(")));
    // a program without the test harness calls its test itself
    let plain = text.contains("there is no\n//! test harness") || text.contains("so there is no");
    found.is_some_and(|at| plain || at > 0 && lines[at - 1].contains("test"))
}

#[test]
fn every_row_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("README.md")).expect("a README");
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
                let (module, name) = path.rsplit_once("::").expect("module::test");
                let module = module.replace("::", "/");
                let places = [format!("tests/{module}.rs"), format!("src/{module}.rs"), format!("src/{module}/mod.rs")];
                if !places.iter().any(|place| has_test(&root.join(place), name)) {
                    missing.push(path.to_owned());
                }
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    assert!(rows >= 20, "{rows} rows");
}
