//! Runs all tests, and a few that failed once more and alone.
//!
//! Many tests wait for real servers beside a dozen others on two cores. One that fails there and passes alone is told
//! apart from one that fails: it is named as unsteady at the end, where nobody can overlook it, and the run is good.

use std::io::{BufRead, BufReader, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// More failures than this are not repeated: that is no accident.
const REPEATED: usize = 3;

/// A test program of which something failed.
#[derive(Debug, Default, PartialEq)]
struct Failed {
    /// What cargo needs to run it: `--test kills`. The package is left out: all packages together have the features
    /// that they were built with, and nothing is compiled anew.
    target: Vec<String>,
    /// The tests that failed; none where the program died before it told.
    names: Vec<String>,
}

/// Reads from cargo's output what failed.
#[derive(Default)]
struct Reader {
    names: Vec<String>,
    listing: bool,
    failed: Vec<Failed>,
    /// Something failed that has no test's name: a program that died, a documentation test, a compilation.
    other: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if line == "failures:" {
            // the last such list of a program has the names and nothing else
            self.names.clear();
            self.listing = true;
        } else if let Some(name) = line.strip_prefix("    ").filter(|_| self.listing) {
            self.names.push(name.to_owned());
        } else if line.starts_with("     Running ") || line.starts_with("   Doc-tests ") {
            self.names.clear();
            self.listing = false;
        } else if let Some(rest) = line.strip_prefix("error: ") {
            let target = rest.split_once("to rerun pass `").and_then(|(_, rest)| rest.split_once('`'));
            match target {
                Some((target, _)) if rest.starts_with("test failed") && !self.names.is_empty() => {
                    let kind = target.split(' ').skip(2).map(str::to_owned);
                    let target = std::iter::once("--workspace".to_owned()).chain(kind).collect();
                    self.failed.push(Failed { target, names: std::mem::take(&mut self.names) });
                }
                // the summary at the end
                None if rest.ends_with("failed:") => {}
                _ => self.other = true,
            }
            self.listing = false;
        } else if !line.is_empty() {
            self.listing &= line.starts_with("test result: FAILED");
        }
    }
}

/// Runs every test of the workspace.
///
/// # Errors
/// Where a test failed twice, more than [`REPEATED`] failed, or cargo does not start.
pub fn run() -> Result<()> {
    let mut reader = Reader::default();
    let good = cargo(&["--workspace".into(), "--no-fail-fast".into()], |line| reader.line(line))?;
    if good {
        return Ok(());
    }
    let names = || reader.failed.iter().flat_map(|failed| &failed.names);
    let count = names().count();
    if reader.other || count == 0 || count > REPEATED {
        bail!("tests failed: {}", names().cloned().collect::<Vec<_>>().join(", "));
    }
    for failed in &reader.failed {
        let mut arguments = failed.target.clone();
        arguments.extend(["--".into(), "--exact".into()]);
        arguments.extend(failed.names.iter().cloned());
        println!("\n{} once more, and alone", failed.names.join(", "));
        let mut left = failed.names.clone();
        let good = cargo(&arguments, |line| left.retain(|name| !is_passed(line, name)))?;
        if !good || !left.is_empty() {
            bail!("tests failed twice, or were not run again: cargo test {}", arguments.join(" "));
        }
    }
    println!("\nUNSTEADY: {count} failed beside all others and passed alone; each is worth a look:");
    names().for_each(|name| println!("    {name}"));
    Ok(())
}

/// Whether a line tells that this test passed.
fn is_passed(line: &str, name: &str) -> bool {
    line.strip_prefix("test ").and_then(|rest| rest.strip_prefix(name)) == Some(" ... ok")
}

/// Runs `cargo test`, shows what it prints and gives each line to `seen`.
fn cargo(arguments: &[String], mut seen: impl FnMut(&str)) -> Result<bool> {
    let (reader, writer) = std::io::pipe().context("no pipe")?;
    let mut child = Command::new("cargo")
        .arg("test")
        .args(arguments)
        .current_dir(crate::root())
        // set by `cargo run`, and seen by build scripts
        .env_remove("LD_LIBRARY_PATH")
        // one pipe for both, so that cargo's lines stand between those of the programs
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .context("cargo does not start")?;
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        seen(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reader {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader
    }

    const OUTPUT: &str = "
     Running tests/a.rs (/t/a-1)

running 2 tests
test one ... ok
test deep::two ... FAILED

failures:

---- deep::two stdout ----
    not a name
failures:
    not one either, as the program goes on to print
and on

failures:
    deep::two

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 4.56s

error: test failed, to rerun pass `-p disk --test a`
     Running tests/b.rs (/t/b-1)

running 1 test
test three ... ok
";

    #[test]
    fn the_tests_that_failed_are_read_with_their_program() {
        let read = read(&format!("{OUTPUT}error: 1 target failed:\n    `-p disk --test a`\n"));
        let target = ["--workspace", "--test", "a"].map(str::to_owned).to_vec();
        assert_eq!(read.failed, [Failed { target, names: vec!["deep::two".into()] }]);
        assert!(!read.other);
    }

    #[test]
    fn a_test_that_did_not_run_has_not_passed() {
        assert!(is_passed("test deep::two ... ok", "deep::two"));
        for line in
            ["test deep::two ... FAILED", "test deep::two_more ... ok", "running 0 tests", "test deep::two ... ignored"]
        {
            assert!(!is_passed(line, "deep::two"), "{line}");
        }
    }

    #[test]
    fn what_has_no_name_is_not_repeated() {
        let died =
            "     Running tests/c.rs (/t/c-1)\n\nrunning 1 test\nerror: test failed, to rerun pass `-p c --lib`\n";
        assert!(read(&format!("{OUTPUT}{died}")).other);
        assert!(read("error: doctest failed, to rerun pass `-p c --doc`").other);
        assert!(read("error: could not compile `c` (lib) due to 1 previous error").other);
        assert!(!read(OUTPUT).other);
    }
}
