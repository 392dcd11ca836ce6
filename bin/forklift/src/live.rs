//! The live view of a migration: one line a pipeline step, a bar a disk, what is being waited for.
//!
//! On a terminal it redraws; into a pipe or a log it prints one line when something changes.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

/// One row of the view: a pipeline step, or a disk within it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Stable key within the virtual machine.
    pub key: String,
    /// What the user reads.
    pub label: String,
    /// Indentation: 0 a step, 1 a task of it.
    pub depth: usize,
    /// Pending, Running, Completed or Failed.
    pub state: State,
    /// Done and total in MiB, where the step counts bytes.
    pub progress: Option<(u64, u64)>,
    /// Rate in bytes a second, remaining seconds, or what is waited for.
    pub note: String,
    /// How long it took, once it is over.
    pub took: Option<Duration>,
}

/// State of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Pending,
    Running,
    Completed,
    Failed,
}

/// Draws rows on stderr.
pub struct View {
    bars: Option<(MultiProgress, BTreeMap<String, ProgressBar>)>,
    shown: BTreeMap<String, Row>,
}

impl View {
    /// Returns a view that redraws when stderr is a terminal and appends lines when it is not.
    pub fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(|| (MultiProgress::new(), BTreeMap::new()));
        View { bars, shown: BTreeMap::new() }
    }

    /// Shows `rows` in their order.
    pub fn update(&mut self, rows: &[Row]) {
        for row in rows {
            let before = self.shown.get(&row.key);
            if before == Some(row) {
                continue;
            }
            match &mut self.bars {
                Some((multi, bars)) => {
                    let bar = bars.entry(row.key.clone()).or_insert_with(|| {
                        let bar = multi.add(ProgressBar::new(1));
                        bar.set_style(style(row));
                        bar
                    });
                    draw(bar, row);
                }
                None if changed_for_a_log(before, row) => eprintln!("{}", log_line(row)),
                None => {}
            }
            // a log shows a row's progress from its last printed tenth on
            if self.bars.is_some() || before.is_none() || changed_for_a_log(before, row) {
                self.shown.insert(row.key.clone(), row.clone());
            }
        }
    }

    /// Leaves the last picture on the screen.
    pub fn finish(&mut self) {
        if let Some((_, bars)) = &self.bars {
            bars.values().for_each(|bar| bar.abandon());
        }
    }
}

fn style(row: &Row) -> ProgressStyle {
    let template = match row.progress {
        Some(_) => "  {prefix} {wide_msg} [{bar:28}]",
        None => "  {prefix} {wide_msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

fn draw(bar: &ProgressBar, row: &Row) {
    bar.set_style(style(row));
    if let Some((done, total)) = row.progress {
        bar.set_length(total.max(1));
        bar.set_position(done);
    }
    bar.set_prefix(mark(row.state));
    bar.set_message(text(row));
}

fn mark(state: State) -> &'static str {
    match state {
        State::Pending => "·",
        State::Running => "▸",
        State::Completed => "✔",
        State::Failed => "✘",
    }
}

fn text(row: &Row) -> String {
    let mut text = format!("{}{}", "   ".repeat(row.depth), row.label);
    if let (Some((done, total)), State::Running) = (row.progress, row.state) {
        text += &format!("  {} / {}", HumanBytes(done << 20), HumanBytes(total << 20));
    }
    if !row.note.is_empty() {
        text += &format!("  {}", row.note);
    }
    if let Some(took) = row.took {
        text += &format!("  {:.1} s", took.as_secs_f64());
    }
    text
}

fn log_line(row: &Row) -> String {
    format!("  {} {}", mark(row.state), text(row))
}

/// A log gets a line when a row's state changes and at each tenth of its bytes, not twice a second.
fn changed_for_a_log(before: Option<&Row>, row: &Row) -> bool {
    let tenth = |row: &Row| row.progress.map(|(done, total)| done * 10 / total.max(1));
    match before {
        None => row.state != State::Pending,
        Some(before) => before.state != row.state || (row.state == State::Running && tenth(before) != tenth(row)),
    }
}

/// Says a rate and a remaining time the way people read them.
pub fn rate_and_eta(rate: Option<f64>, eta: Option<u64>) -> String {
    let mut parts = Vec::new();
    if let Some(rate) = rate.filter(|rate| *rate >= 1.0) {
        parts.push(format!("{}/s", HumanBytes(rate as u64)));
    }
    if let Some(eta) = eta {
        parts.push(format!("{} left", indicatif::HumanDuration(Duration::from_secs(eta))));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_per_state_and_per_tenth() {
        let row = |state, done| Row {
            key: "d".into(),
            label: "disk".into(),
            state,
            progress: Some((done, 100)),
            ..Row::default()
        };
        assert!(!changed_for_a_log(None, &row(State::Pending, 0)));
        assert!(changed_for_a_log(Some(&row(State::Pending, 0)), &row(State::Running, 1)));
        assert!(!changed_for_a_log(Some(&row(State::Running, 1)), &row(State::Running, 9)));
        assert!(changed_for_a_log(Some(&row(State::Running, 9)), &row(State::Running, 10)));
        assert_eq!(log_line(&row(State::Running, 10)), "  ▸ disk  10.00 MiB / 100.00 MiB");
    }
}
