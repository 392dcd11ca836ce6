//! `forklift policy test`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::{Output, Problem, counted};
use crate::rego::parse;
use crate::suite::{self, Outcome, Report};
use crate::{BUNDLED, Limits, RuleFile, read_tree};

/// Options of `forklift policy test`.
#[derive(clap::Args, Clone, Debug)]
pub struct TestArgs {
    /// Folders or files with rules and their tests; the bundled rules are there too, unless a folder brings its own set
    #[arg(required = true, value_name = "DIR")]
    pub paths: Vec<PathBuf>,
    /// Form of the result
    #[arg(long, short, value_enum, default_value = "table")]
    pub output: Output,
    /// Only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub run: Option<String>,
    /// Show which lines the tests do not reach
    #[arg(long)]
    pub coverage: bool,
    /// Name every test, not only those that fail
    #[arg(long, short)]
    pub verbose: bool,
    /// Longest time of one test, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    pub timeout: u64,
}

pub(super) fn run(args: &TestArgs, out: &mut dyn Write) -> Result<u8, Problem> {
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(read_tree(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?);
    }
    if files.is_empty() {
        return Err("there are no .rego files: name the folder with your rules and their _test.rego files".into());
    }
    let bundled = bundled_beside(&files);
    let all = bundled.iter().copied().chain(files.iter().map(|file| (file.name.as_str(), file.text.as_str())));
    let limits = Limits { time: Duration::from_millis(args.timeout), ..Limits::default() };
    let mut report = suite::report(all, limits);
    report.coverage.retain(|name, _| files.iter().any(|file| file.name == *name));
    if let Some(part) = &args.run {
        report.outcomes.retain(|outcome| outcome.test.contains(part.as_str()) || !is_test(outcome));
    }
    if report.outcomes.is_empty() {
        return Err("there are no tests: a test is a rule whose name begins with test_".into());
    }
    match args.output {
        Output::Table => table(args, &report, out)?,
        Output::Json => json_report(&report, out)?,
        Output::Junit => junit(&report, out)?,
    }
    Ok(u8::from(report.outcomes.iter().any(|outcome| outcome.failure.is_some())))
}

/// The bundled rules of the packages that the files add to, left out where the files define the package's version.
fn bundled_beside(files: &[RuleFile]) -> Vec<(&'static str, &'static str)> {
    let modules: Vec<_> = files.iter().filter_map(|f| parse::either(&f.name, &f.text).ok().map(|(m, _)| m)).collect();
    let own = |package: &str| {
        let mut of_package = modules.iter().filter(|module| module.package.last().is_some_and(|last| last == package));
        of_package.any(|module| module.rules.iter().any(|rule| rule.name == "RULES_VERSION"))
    };
    let rules = BUNDLED.iter().filter(|(name, _)| !name.ends_with("_test.rego"));
    rules.filter(|(name, _)| !own(name.rsplit('/').nth(1).unwrap_or_default())).copied().collect()
}

fn is_test(outcome: &Outcome) -> bool {
    outcome.test.starts_with("data.")
}

fn short_name(outcome: &Outcome) -> &str {
    outcome.test.rsplit('.').next().filter(|_| is_test(outcome)).unwrap_or("(cannot be used)")
}

fn table(args: &TestArgs, report: &Report, out: &mut dyn Write) -> Result<(), Problem> {
    let mut by_file: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    report.outcomes.iter().for_each(|outcome| by_file.entry(&outcome.file).or_default().push(outcome));
    for (file, outcomes) in &by_file {
        let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
        let mark = if failed == 0 { "ok  " } else { "FAIL" };
        writeln!(out, "{mark}  {file}  {}", counted(outcomes.len(), "test", "tests"))?;
        for outcome in outcomes {
            match &outcome.failure {
                Some(why) => writeln!(out, "      ✘ {} ({file}:{})\n        {why}", short_name(outcome), outcome.line)?,
                None if args.verbose => {
                    writeln!(out, "      ✔ {}  {:.1} ms", short_name(outcome), outcome.took.as_secs_f64() * 1e3)?;
                }
                None => {}
            }
        }
    }
    if args.coverage {
        writeln!(out, "\ncoverage")?;
        for (file, coverage) in &report.coverage {
            let (covered, missed) = (coverage.covered.len(), coverage.missed.len());
            if covered + missed == 0 {
                continue;
            }
            let share = 100.0 * covered as f64 / (covered + missed) as f64;
            let missed: Vec<String> = coverage.missed.iter().map(u32::to_string).collect();
            let tail =
                if missed.is_empty() { String::new() } else { format!("  not reached: line {}", missed.join(", ")) };
            writeln!(out, "{share:>5.0} %  {file}{tail}")?;
        }
    }
    let failed = report.outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let took: Duration = report.outcomes.iter().map(|outcome| outcome.took).sum();
    let passed = report.outcomes.len() - failed;
    writeln!(
        out,
        "\n{passed} passed, {failed} failed, {:.0} % of the lines reached, {:.1} ms",
        report.covered() * 100.0,
        took.as_secs_f64() * 1e3
    )?;
    Ok(())
}

fn json_report(report: &Report, out: &mut dyn Write) -> Result<(), Problem> {
    let tests: Vec<_> = report
        .outcomes
        .iter()
        .map(|outcome| {
            json!({
                "test": outcome.test, "file": outcome.file, "line": outcome.line,
                "passed": outcome.failure.is_none(), "failure": outcome.failure,
                "seconds": outcome.took.as_secs_f64(),
            })
        })
        .collect();
    let coverage: serde_json::Map<String, serde_json::Value> = report
        .coverage
        .iter()
        .map(|(file, coverage)| (file.clone(), json!({"covered": coverage.covered, "missed": coverage.missed})))
        .collect();
    let document = json!({"tests": tests, "coverage": {"share": report.covered(), "files": coverage}});
    writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
    Ok(())
}

fn junit(report: &Report, out: &mut dyn Write) -> Result<(), Problem> {
    let failed = |outcomes: &[&Outcome]| outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let mut suites: BTreeMap<&str, Vec<&Outcome>> = BTreeMap::new();
    report.outcomes.iter().for_each(|outcome| suites.entry(&outcome.file).or_default().push(outcome));
    let all: Vec<&Outcome> = report.outcomes.iter().collect();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    writeln!(out, "<testsuites name=\"policy\" tests=\"{}\" failures=\"{}\">", all.len(), failed(&all))?;
    for (file, outcomes) in suites {
        let time: f64 = outcomes.iter().map(|outcome| outcome.took.as_secs_f64()).sum();
        writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" time=\"{time:.6}\">",
            escaped(file),
            outcomes.len(),
            failed(&outcomes)
        )?;
        for outcome in outcomes {
            write!(
                out,
                "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.6}\"",
                escaped(short_name(outcome)),
                escaped(file),
                escaped(file),
                outcome.line,
                outcome.took.as_secs_f64()
            )?;
            match &outcome.failure {
                Some(why) => writeln!(out, ">\n      <failure message=\"{}\"/>\n    </testcase>", escaped(why))?,
                None => writeln!(out, "/>")?,
            }
        }
        writeln!(out, "  </testsuite>")?;
    }
    writeln!(out, "</testsuites>")?;
    Ok(())
}

/// Text for an XML attribute; characters that XML cannot hold are left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}
