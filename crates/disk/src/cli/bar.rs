//! Progress on a terminal: one bar for the stage that runs.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cancel::Cancel;
use crate::progress::{Progress, Snapshot};

use super::show::human;

const REFRESH: Duration = Duration::from_millis(250);

/// Shows the last stage that has begun while `work` runs; nothing where stderr is no terminal.
pub(super) fn with_bar<T: Send>(stages: &[(&str, &Progress)], work: impl FnOnce() -> T + Send) -> T {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if bar.is_hidden() {
        return work();
    }
    // the template is a constant
    if let Ok(style) = ProgressStyle::with_template("{prefix:10} {bar:24} {percent:>3}%  {msg}") {
        bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    }
    let done = Cancel::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.wait(REFRESH) {
                let last = stages.iter().rev().find(|(_, progress)| progress.snapshot().total > 0);
                if let Some((name, progress)) = last {
                    let at = progress.snapshot();
                    bar.set_prefix((*name).to_owned());
                    bar.set_length(at.total);
                    bar.set_position(at.done);
                    bar.set_message(line(&at));
                }
            }
            bar.finish_and_clear();
        });
        let result = work();
        done.cancel();
        result
    })
}

/// Returns bytes, rate and remaining time.
fn line(at: &Snapshot) -> String {
    let eta = at.eta.map_or_else(|| "…".into(), |eta| format!("{}:{:02}", eta.as_secs() / 60, eta.as_secs() % 60));
    let tries = if at.retries > 0 { format!("  {} reads tried again", at.retries) } else { String::new() };
    format!("{} of {}  {}/s  {eta} left{tries}", human(at.done), human(at.total), human(at.rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_progress() {
        let at = Snapshot {
            total: 10 << 30,
            done: 5 << 30,
            rate: 104_857_600.0,
            eta: Some(Duration::from_secs(61)),
            ..Snapshot::default()
        };
        assert_eq!(line(&at), "5.0 GiB of 10.0 GiB  100.0 MiB/s  1:01 left");
        let retried = Snapshot { retries: 3, ..Snapshot::default() };
        assert_eq!(line(&retried), "0 B of 0 B  0 B/s  … left  3 reads tried again");
    }
}
