//! Measuring in pairs: the peer, then ours, again and again, so that a busy moment hits both.

use std::fmt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// What one run used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// What the bench is about: seconds, bytes, … as its [`Plan`] says.
    pub value: f64,
    /// Time on the clock.
    pub wall: Duration,
    /// Processor time of the process and its children.
    pub cpu: Duration,
    /// Largest resident size, in bytes.
    pub peak: u64,
}

/// What is compared and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The bench's name.
    pub name: &'static str,
    /// The largest ratio (ours to the peer's) that is wanted.
    pub goal: f64,
    /// Number of pairs.
    pub pairs: usize,
    /// The unit of [`Sample::value`], for the table.
    pub unit: &'static str,
}

/// Measures the two sides in turn; the first pair only warms caches and is left out.
///
/// # Errors
/// The first that a side gives.
pub fn measure(
    plan: Plan,
    peer: (&str, &mut dyn FnMut() -> Result<Sample>),
    ours: (&str, &mut dyn FnMut() -> Result<Sample>),
) -> Result<Report> {
    let mut report = Report {
        plan,
        labels: [peer.0.to_owned(), ours.0.to_owned()],
        samples: [Vec::new(), Vec::new()],
        notes: Vec::new(),
    };
    for round in 0..=plan.pairs.max(1) {
        let first = peer.1().with_context(|| peer.0.to_owned())?;
        let second = ours.1().with_context(|| ours.0.to_owned())?;
        let warm_up = if round == 0 { " (not counted)" } else { "" };
        eprintln!("   pair {round}: {:.3} and {:.3} {}{warm_up}", first.value, second.value, plan.unit);
        if round > 0 {
            report.samples[0].push(first);
            report.samples[1].push(second);
        }
    }
    Ok(report)
}

/// Runs a program to its end; the value is its time on the clock in seconds.
///
/// The peak of a program smaller than this one cannot be told apart from this one's (fork shares the counter).
///
/// # Errors
/// Where it cannot be started or fails; its standard error is in the message.
pub fn run(command: &mut Command) -> Result<Sample> {
    let what = format!("{command:?}");
    let errors = tempfile::tempfile().context("cannot make a temporary file")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?);
    let begin = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
    let (status, usage) = wait(child.id())?;
    let wall = begin.elapsed();
    if status != 0 {
        use std::os::unix::fs::FileExt;
        let mut text = vec![0; 4096];
        let n = errors.read_at(&mut text, 0).unwrap_or(0);
        ensure!(status == 0, "{what}: status {status}: {}", String::from_utf8_lossy(&text[..n]));
    }
    let time = |t: libc::timeval| Duration::from_micros(t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64);
    Ok(Sample {
        value: wall.as_secs_f64(),
        wall,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        // ru_maxrss is in KiB on Linux
        peak: usage.ru_maxrss as u64 * 1024,
    })
}

#[expect(unsafe_code, reason = "wait4(2), which tells what a child has used, has no safe wrapper in std")]
fn wait(pid: u32) -> Result<(i32, libc::rusage)> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which all zeroes is a value; both pointers are to locals that outlive the
    // call, and the pid is of a child that nobody else waits for
    let (ended, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage), usage)
    };
    ensure!(ended == pid as libc::pid_t, "wait4: {}", std::io::Error::last_os_error());
    Ok((status, usage))
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Report {
    plan: Plan,
    labels: [String; 2],
    samples: [Vec<Sample>; 2],
    notes: Vec<String>,
}

impl Report {
    /// Adds a line below the table: a physical limit, a condition of the comparison.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Returns the median over the pairs of ours divided by the peer's.
    pub fn ratio(&self) -> f64 {
        median(self.samples[1].iter().zip(&self.samples[0]).map(|(ours, peer)| ours.value / peer.value))
    }

    /// Returns the closing line.
    pub fn closing(&self) -> String {
        format!("{} ratio {:.2} goal {}", self.plan.name, self.ratio(), self.plan.goal)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.labels.iter().map(String::len).max().unwrap_or(0).max(4);
        let value = format!("{} (min – max)", self.plan.unit);
        writeln!(f, "{:width$}  {value:>32}  {:>9}  {:>9}  {:>9}", "side", "wall s", "CPU s", "peak MiB")?;
        for (label, samples) in self.labels.iter().zip(&self.samples) {
            let of = |pick: fn(&Sample) -> f64| samples.iter().map(pick);
            let (low, high) = of(|s| s.value).fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
            let value = format!("{:.3} ({low:.3} – {high:.3})", median(of(|s| s.value)));
            writeln!(
                f,
                "{label:width$}  {value:>32}  {:>9.2}  {:>9.2}  {:>9.1}",
                median(of(|s| s.wall.as_secs_f64())),
                median(of(|s| s.cpu.as_secs_f64())),
                median(of(|s| s.peak as f64 / 1_048_576.0)),
            )?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        write!(f, "{}", self.closing())
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_pairs() {
        let sample = |value| Sample { value, ..Sample::default() };
        let plan = Plan { name: "copy", goal: 1.0, pairs: 3, unit: "s" };
        let (mut peer, mut ours) = ([9.0, 1.0, 2.0, 4.0].into_iter(), [9.0, 2.0, 1.0, 2.0].into_iter());
        let report = measure(
            plan,
            ("peer", &mut || Ok(sample(peer.next().expect("four runs")))),
            ("ours", &mut || Ok(sample(ours.next().expect("four runs")))),
        )
        .expect("no side fails");
        assert_eq!(report.closing(), "copy ratio 0.50 goal 1");
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words() {
        let error = run(Command::new("sh").args(["-c", "echo no such disk >&2; exit 3"])).expect_err("it fails");
        assert!(format!("{error:#}").contains("no such disk"), "{error:#}");
    }
}
