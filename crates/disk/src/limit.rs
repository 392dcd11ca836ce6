//! The bandwidth limit: a rate or a schedule of rates, which may change while a copy runs and may be
//! shared by all copies of one source.
//!
//! ```text
//! worker ─► take(4 MiB) ─┬─ no debt: add the bytes to the debt, read on
//!                        └─ debt: wait for debt / rate, look again (the rate may be another by then)
//! debt    falls by the rate that holds at the moment; lies in a file where processes share it
//! ```
//!
//! A taker never waits for its own bytes but for those before it, so that a copy starts at once and
//! unused time is not saved up.

mod schedule;
mod shared;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::tz::TimeZone;

use crate::cancel::Cancel;
use crate::error::{Error, Result};

pub use schedule::{Rate, Schedule, ScheduleError, parse_size};
pub use shared::{Gate, Slot};

/// The longest that a wait goes without a look at the rate: it may have changed.
const LOOK: Duration = Duration::from_millis(500);
/// How often a limit that is kept in a file is looked at.
const FILE: Duration = Duration::from_secs(1);

/// A limit; clones are the same limit. The default is none.
#[derive(Debug, Clone, Default)]
pub struct Limit(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rule: Mutex<Rule>,
    debt: Mutex<Option<Debt>>,
    gate: Option<Gate>,
}

#[derive(Debug, Default)]
struct Rule {
    schedule: Option<Schedule>,
    file: Option<RuleFile>,
}

/// A file whose text is the schedule.
#[derive(Debug)]
struct RuleFile {
    path: PathBuf,
    zone: TimeZone,
    looked: Instant,
    changed: Option<SystemTime>,
}

/// Bytes that were taken and whose time has not passed.
#[derive(Debug, Clone, Copy)]
struct Debt {
    bytes: f64,
    at: Instant,
}

impl Limit {
    /// Returns a limit that holds at all times.
    pub fn rate(bytes_per_second: u64) -> Self {
        Self::schedule(Schedule::always(Rate::BytesPerSecond(bytes_per_second.max(1))))
    }

    /// Returns a limit that follows a schedule.
    pub fn schedule(schedule: Schedule) -> Self {
        let limit = Self::default();
        limit.set(Some(schedule));
        limit
    }

    /// Parses what a user writes: a rate, a schedule, or `@` and the path of a file with one of them. `zone` is a
    /// name of the IANA time zone database, none for the machine's zone.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self> {
        let usage = |error: &dyn std::fmt::Display| Error::Usage { what: format!("limit {error}") };
        let zone = match zone {
            Some(name) => TimeZone::get(name).map_err(|error| usage(&error))?,
            None => TimeZone::system(),
        };
        match text.strip_prefix('@') {
            Some(path) => Self::file(path.as_ref(), zone),
            None => Schedule::parse(text, zone).map(Self::schedule),
        }
        .map_err(|error| usage(&error))
    }

    /// Returns a limit that follows the schedule in a file, also when the file changes later.
    pub fn file(path: &Path, zone: TimeZone) -> Result<Self, ScheduleError> {
        let (schedule, changed) = read(path, &zone)?;
        let file = RuleFile { path: path.to_owned(), zone, looked: Instant::now(), changed };
        let limit = Self::default();
        *limit.rule() = Rule { schedule: Some(schedule), file: Some(file) };
        Ok(limit)
    }

    /// Shares the limit with all copies that pass the same gate.
    pub fn shared(self, gate: Gate) -> Self {
        let rule = std::mem::take(&mut *self.rule());
        Self(Arc::new(Inner { rule: Mutex::new(rule), debt: Mutex::default(), gate: Some(gate) }))
    }

    /// Puts another schedule in force at once, also for those who wait; none ends the limit.
    pub fn set(&self, schedule: Option<Schedule>) {
        *self.rule() = Rule { schedule, file: None };
    }

    fn rule(&self) -> MutexGuard<'_, Rule> {
        self.0.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the rate that holds now.
    pub fn now(&self) -> Rate {
        let mut rule = self.rule();
        if let Some(found) = rule.file.as_mut().and_then(RuleFile::look) {
            rule.schedule = Some(found);
        }
        rule.schedule.as_ref().map_or(Rate::Unlimited, |schedule| schedule.at(jiff::Timestamp::now()))
    }

    /// Waits until `bytes` may be read.
    pub fn take(&self, bytes: u64, cancel: &Cancel) -> Result<()> {
        loop {
            let wait = match self.now() {
                Rate::Unlimited => {
                    *self.0.debt.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return Ok(());
                }
                Rate::Paused => LOOK,
                Rate::BytesPerSecond(rate) => self.wait(bytes, rate, Instant::now()),
            };
            if wait.is_zero() {
                return Ok(());
            }
            if cancel.wait(wait.min(LOOK)) {
                return Err(Error::Cancelled);
            }
        }
    }

    /// Takes the bytes and returns zero, or how long to wait at this rate.
    fn wait(&self, bytes: u64, rate: u64, now: Instant) -> Duration {
        if let Some(gate) = &self.0.gate {
            match gate.take(bytes, rate) {
                Ok(wait) => return wait,
                // an unshared limit is better than none
                Err(error) => tracing::warn!(%error, "the shared limit cannot be read"),
            }
        }
        let mut slot = self.0.debt.lock().unwrap_or_else(PoisonError::into_inner);
        let debt = slot.get_or_insert(Debt { bytes: 0.0, at: now });
        debt.bytes = owed(debt.bytes, rate, now.saturating_duration_since(debt.at));
        debt.at = now;
        settle(&mut debt.bytes, bytes, rate)
    }
}

/// Returns what is still owed after `passed`.
fn owed(debt: f64, rate: u64, passed: Duration) -> f64 {
    (debt - rate as f64 * passed.as_secs_f64()).max(0.0)
}

/// Adds the bytes to a debt that is paid, or returns how long paying it takes.
fn settle(debt: &mut f64, bytes: u64, rate: u64) -> Duration {
    // less than a byte is a rounding error
    if *debt >= 1.0 {
        return Duration::try_from_secs_f64(*debt / rate.max(1) as f64).unwrap_or(LOOK).max(Duration::from_micros(1));
    }
    *debt = bytes as f64;
    Duration::ZERO
}

fn read(path: &Path, zone: &TimeZone) -> Result<(Schedule, Option<SystemTime>), ScheduleError> {
    let text = std::fs::read_to_string(path).map_err(|error| ScheduleError::File(path.to_owned(), error))?;
    let changed = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    Ok((Schedule::parse(text.trim(), zone.clone())?, changed))
}

impl RuleFile {
    /// Returns the schedule when the file has another one.
    fn look(&mut self) -> Option<Schedule> {
        if self.looked.elapsed() < FILE {
            return None;
        }
        self.looked = Instant::now();
        let changed = std::fs::metadata(&self.path).and_then(|meta| meta.modified()).ok();
        if changed.is_none() || changed == self.changed {
            return None;
        }
        self.changed = changed;
        match read(&self.path, &self.zone) {
            Ok((schedule, _)) => {
                tracing::info!(path = %self.path.display(), %schedule, "another limit");
                Some(schedule)
            }
            // half written, perhaps: the old one holds until the file can be read
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the limit stays as it was");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takers_are_as_far_apart_as_their_bytes_need() {
        let limit = Limit::rate(1000);
        let now = Instant::now();
        assert_eq!(limit.wait(500, 1000, now), Duration::ZERO);
        assert_eq!(limit.wait(2000, 1000, now), Duration::from_millis(500));
        assert_eq!(limit.wait(2000, 1000, now + Duration::from_millis(500)), Duration::ZERO);
        let later = now + Duration::from_millis(1500);
        assert_eq!(limit.wait(1, 1000, later), Duration::from_secs(1), "half of 2000 bytes is paid");
        assert_eq!(limit.wait(1, 4000, later), Duration::from_millis(250), "the debt falls at the rate of the moment");
        assert_eq!(limit.wait(1, 1000, now + Duration::from_secs(90)), Duration::ZERO);
        assert!(!limit.wait(1, 1000, now + Duration::from_secs(90)).is_zero(), "unused time is not saved up");
    }

    #[test]
    fn a_wait_ends_when_cancelled_and_when_the_limit_does() {
        let (limit, cancel) = (Limit::rate(1), Cancel::new());
        limit.take(1_000_000, &cancel).expect("the first has no wait");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| limit.take(1, &cancel));
            limit.set(None);
            waiting.join().expect("no panic").expect("there is no limit any more");
        });
        limit.set(Some(Schedule::always(Rate::Paused)));
        cancel.cancel();
        assert!(matches!(limit.take(1, &cancel), Err(Error::Cancelled)));
    }

    #[test]
    fn a_file_is_followed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("limit");
        std::fs::write(&path, "10MiB/s\n").expect("writes");
        let limit = Limit::file(&path, TimeZone::UTC).expect("is a schedule");
        assert_eq!(limit.now(), Rate::BytesPerSecond(10 << 20));
        let rewrite = |text: &str, seconds| {
            std::fs::write(&path, text).expect("writes");
            let file = std::fs::File::options().write(true).open(&path).expect("opens");
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).expect("sets the time");
            limit.rule().file.as_mut().expect("has a file").looked -= FILE;
        };
        rewrite("20MiB/s", 1000);
        assert_eq!(limit.now(), Rate::BytesPerSecond(20 << 20));
        rewrite("20Mi", 2000);
        assert_eq!(limit.now(), Rate::BytesPerSecond(20 << 20), "what cannot be read changes nothing");
        assert!(Limit::file(&dir.path().join("none"), TimeZone::UTC).is_err());
    }
}
