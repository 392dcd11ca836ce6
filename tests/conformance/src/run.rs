//! Runs all cases against one server and judges what came out.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures::StreamExt as _;

use crate::case::{Case, Chapter};
use crate::differences::{self, Difference};
use crate::server::Server;

/// Cases in flight at once.
const AT_ONCE: usize = 8;
/// Longest time for one case.
const LONGEST: Duration = Duration::from_secs(120);

/// What became of one case.
pub struct Done {
    /// Chapter.
    pub chapter: &'static str,
    /// Case.
    pub case: &'static str,
    /// The failure's text.
    pub failure: Option<String>,
}

/// Runs the cases that the environment variable CONFORMANCE asks for (all when unset), prints the table, and fails when
/// something other than the listed differences failed.
pub async fn all(server: Server, chapters: Vec<Chapter>) -> Result<()> {
    let filter = std::env::var("CONFORMANCE").unwrap_or_default();
    let server = Arc::new(server);
    let wanted = |chapter: &str, case: &str| format!("{chapter}: {case}").contains(&filter);
    let cases: Vec<_> = chapters
        .into_iter()
        .flat_map(|chapter| chapter.cases.into_iter().map(move |test| (chapter.name, test)))
        .filter(|(chapter, test)| wanted(chapter, test.name))
        .collect();
    let done: Vec<Done> = futures::stream::iter(cases)
        .map(|(chapter, test)| {
            let server = server.clone();
            async move {
                let name = test.name;
                // a task of its own, so that a panic is this case's failure only
                let task = tokio::spawn(async move { (test.run)(Case::open(server).await?).await });
                let abort = task.abort_handle();
                let failure = match tokio::time::timeout(LONGEST, task).await {
                    Ok(Ok(Ok(()))) => None,
                    Ok(Ok(Err(error))) => Some(format!("{error:#}")),
                    Ok(Err(panic)) => Some(format!("panicked: {panic}")),
                    Err(_) => {
                        abort.abort();
                        Some(format!("not done within {LONGEST:?}"))
                    }
                };
                Done { chapter, case: name, failure }
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let listed: Vec<Difference> = differences::listed()?;
    let report = judge(&server, &done, &listed);
    // not by print!, whose text the test harness keeps back
    std::io::stdout().write_all(report.table.as_bytes())?;
    if let Ok(server) = Arc::try_unwrap(server).map_err(|_| ()) {
        server.stop().await;
    }
    if !report.faults.is_empty() {
        bail!("{} faults\n\n{}", report.faults.len(), report.faults.join("\n\n"));
    }
    Ok(())
}

struct Report {
    table: String,
    faults: Vec<String>,
}

fn judge(server: &Server, done: &[Done], listed: &[Difference]) -> Report {
    let mut rows: Vec<(&str, usize, usize, usize)> = Vec::new();
    let mut faults = Vec::new();
    for one in done {
        let line = listed.iter().find(|d| d.is_about(one.chapter, one.case, server.kind()));
        let name = format!("{} / {} ({})", one.chapter, one.case, server.kind().name());
        let (passed, failed, differs) = match (&one.failure, line) {
            (None, None) => (1, 0, 0),
            (Some(text), Some(line)) if text.contains(&line.shows) => (0, 0, 1),
            (Some(text), Some(line)) => {
                faults.push(format!("{name}: fails otherwise than differences.md says ({:?}): {text}", line.shows));
                (0, 1, 0)
            }
            (Some(text), None) => {
                faults.push(format!("{name}: {text}"));
                (0, 1, 0)
            }
            (None, Some(_)) => {
                faults.push(format!("{name}: passes now; take its line out of differences.md"));
                (0, 1, 0)
            }
        };
        let at = rows.iter().position(|r| r.0 == one.chapter).unwrap_or_else(|| {
            rows.push((one.chapter, 0, 0, 0));
            rows.len() - 1
        });
        let row = &mut rows[at];
        *row = (row.0, row.1 + passed, row.2 + failed, row.3 + differs);
    }
    rows.sort_unstable();
    faults.sort();
    let mut table =
        format!("{:<24} {:>6} {:>6} {:>6}   ({})\n", "chapter", "passed", "failed", "listed", server.kind().name());
    let mut sum = (0, 0, 0);
    for (chapter, passed, failed, differs) in rows {
        let _ = writeln!(table, "{chapter:<24} {passed:>6} {failed:>6} {differs:>6}");
        sum = (sum.0 + passed, sum.1 + failed, sum.2 + differs);
    }
    let _ = writeln!(table, "{:<24} {:>6} {:>6} {:>6}", "all", sum.0, sum.1, sum.2);
    Report { table, faults }
}
