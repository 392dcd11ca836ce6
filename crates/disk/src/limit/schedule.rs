//! What a limit says: `08:00-18:00=20MiB/s, else unlimited`.
//!
//! ```text
//! schedule   entry { "," entry }          the first entry that fits the moment holds
//! entry      [days] HH:MM-HH:MM = rate    also over midnight: 22:00-06:00 belongs to the day it begins on
//!            else rate                    what holds otherwise; without it: unlimited
//!            rate                         at all times
//! days       Mon-Fri, Sat, Sat-Sun …
//! rate       20MiB/s, 500K, 1G; unlimited; pause
//! ```
//!
//! Units are powers of 1024: K, M, G, also KiB, MiB, GiB, with or without `/s`.

use std::fmt;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

/// How fast a source may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As fast as it goes.
    Unlimited,
    /// Bytes a second, more than 0.
    BytesPerSecond(u64),
    /// Not at all for now.
    Paused,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("unlimited"),
            Self::BytesPerSecond(bytes) => write!(f, "{bytes}/s"),
            Self::Paused => f.write_str("pause"),
        }
    }
}

/// A text is not a schedule.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A part of the text cannot be read.
    #[error("{0:?}: {1}; write e.g. \"08:00-18:00=20MiB/s, else unlimited\"")]
    Text(String, &'static str),
    /// The file with the text cannot be read.
    #[error("{0}: cannot read the limit: {1}")]
    File(PathBuf, std::io::Error),
}

/// Rates over the week.
#[derive(Debug, Clone)]
pub struct Schedule {
    windows: Vec<Window>,
    otherwise: Rate,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// Days on which it begins, Monday first.
    days: [bool; 7],
    from: Time,
    to: Time,
    rate: Rate,
}

impl Schedule {
    /// Returns the schedule with one rate.
    pub fn always(rate: Rate) -> Self {
        Self { windows: Vec::new(), otherwise: rate, zone: TimeZone::UTC }
    }

    /// Parses a schedule whose times are those of `zone`.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let wrong = |part: &str, reason| ScheduleError::Text(part.to_owned(), reason);
        let (mut windows, mut otherwise) = (Vec::new(), None);
        for part in text.split(',').map(str::trim) {
            let rate = match part.split_once('=') {
                Some((when, rate)) => {
                    windows.push(window(when.trim(), rate.trim()).map_err(|reason| wrong(part, reason))?);
                    continue;
                }
                None => part.strip_prefix("else").map_or(part, str::trim),
            };
            let rate = parse_rate(rate).map_err(|reason| wrong(part, reason))?;
            if otherwise.replace(rate).is_some() {
                return Err(wrong(part, "there is more than one rate without a time"));
            }
        }
        Ok(Self { windows, otherwise: otherwise.unwrap_or(Rate::Unlimited), zone })
    }

    /// Returns the rate that holds at `now`.
    pub fn at(&self, now: Timestamp) -> Rate {
        if self.windows.is_empty() {
            return self.otherwise;
        }
        let here = now.to_zoned(self.zone.clone());
        let (day, time) = (here.weekday(), here.time());
        self.windows.iter().find(|window| window.holds(day, time)).map_or(self.otherwise, |window| window.rate)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for window in &self.windows {
            let hours = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
            write!(f, "{}-{}={}, ", hours(window.from), hours(window.to), window.rate)?;
        }
        write!(f, "else {}", self.otherwise)
    }
}

impl Window {
    fn holds(&self, day: Weekday, time: Time) -> bool {
        let begins = |day: Weekday| self.days.get(index(day)).copied().unwrap_or(false);
        if self.from < self.to {
            return begins(day) && self.from <= time && time < self.to;
        }
        // over midnight
        begins(day) && time >= self.from || begins(day.previous()) && time < self.to
    }
}

fn index(day: Weekday) -> usize {
    usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)
}

fn window(when: &str, rate: &str) -> Result<Window, &'static str> {
    let (days, hours) = when.rsplit_once(' ').map_or((None, when), |(days, hours)| (Some(days.trim()), hours));
    let (from, to) = hours.split_once('-').ok_or("a time is HH:MM-HH:MM")?;
    let (from, to) = (parse_time(from.trim())?, parse_time(to.trim())?);
    Ok(Window { days: days.map_or(Ok([true; 7]), parse_days)?, from, to, rate: parse_rate(rate)? })
}

fn parse_time(text: &str) -> Result<Time, &'static str> {
    const WRONG: &str = "a time is HH:MM, 00:00 to 24:00";
    let (hour, minute) = text.split_once(':').ok_or(WRONG)?;
    let (hour, minute): (i8, i8) = (hour.parse().map_err(|_| WRONG)?, minute.parse().map_err(|_| WRONG)?);
    if (hour, minute) == (24, 0) {
        return Ok(Time::midnight());
    }
    Time::new(hour, minute, 0, 0).map_err(|_| WRONG)
}

fn parse_days(text: &str) -> Result<[bool; 7], &'static str> {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    const WRONG: &str = "days are Mon, Tue … Sun, or Mon-Fri";
    let day = |text: &str| {
        let text = text.trim().to_ascii_lowercase();
        NAMES.iter().position(|name| *name == text).ok_or(WRONG)
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    let mut days = [false; 7];
    for step in 0..7 {
        let at = (first + step) % 7;
        if let Some(slot) = days.get_mut(at) {
            *slot = true;
        }
        if at == last {
            break;
        }
    }
    Ok(days)
}

fn parse_rate(text: &str) -> Result<Rate, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "unlimited" => Ok(Rate::Unlimited),
        "pause" => Ok(Rate::Paused),
        _ => parse_size(text.strip_suffix("/s").unwrap_or(text)).map(Rate::BytesPerSecond),
    }
}

/// Parses a number of bytes, more than 0: `512`, `50M`, `4GiB`; units are powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.to_ascii_uppercase().trim_end_matches("IB") {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err("the unit is K, M, G or T (KiB, MiB, GiB, TiB)"),
    };
    let number: u64 = digits.parse().map_err(|_| "is not a number of bytes")?;
    number.checked_mul(1 << shift).filter(|size| *size > 0).ok_or("is out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, zone: &str, moment: &str) -> Rate {
        let zone = TimeZone::get(zone).unwrap_or(TimeZone::UTC);
        Schedule::parse(text, zone).expect("a schedule").at(moment.parse().expect("a moment"))
    }

    #[test]
    fn the_first_window_that_fits_holds() {
        let text = "Sat-Sun 00:00-24:00=unlimited, 08:00-18:00=20MiB/s, 22:00-06:00=1G, else 50M/s";
        let limit = |bytes: u64| Rate::BytesPerSecond(bytes << 20);
        // 2026-11-20 is a Friday
        for (moment, want) in [
            ("2026-11-20T07:59:59Z", limit(50)),
            ("2026-11-20T08:00:00Z", limit(20)),
            ("2026-11-20T17:59:59Z", limit(20)),
            ("2026-11-20T18:00:00Z", limit(50)),
            ("2026-11-20T23:00:00Z", limit(1024)),
            ("2026-11-21T05:00:00Z", Rate::Unlimited),
            ("2026-11-23T05:59:00Z", limit(1024)),
            ("2026-11-23T06:00:00Z", limit(50)),
        ] {
            assert_eq!(at(text, "UTC", moment), want, "{moment}");
        }
    }

    #[test]
    fn hours_are_those_of_the_zone() {
        if TimeZone::get("Europe/Berlin").is_err() {
            return assert_eq!(at("10M", "UTC", "2026-11-20T07:30:00Z"), Rate::BytesPerSecond(10 << 20));
        }
        let text = "08:00-18:00=pause";
        assert_eq!(at(text, "Europe/Berlin", "2026-11-20T07:30:00Z"), Rate::Paused);
        assert_eq!(at(text, "Europe/Berlin", "2026-11-20T17:30:00Z"), Rate::Unlimited);
        // in summer the same hour is another one of UTC
        assert_eq!(at(text, "Europe/Berlin", "2026-07-20T06:30:00Z"), Rate::Paused);
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for text in
            ["", "fast", "8-18=1M", "08:00-25:00=1M", "Mo 08:00-18:00=1M", "1M, 2M", "08:00-18:00=0", "9999999999T"]
        {
            let error = Schedule::parse(text, TimeZone::UTC).expect_err(text);
            assert!(error.to_string().contains("write e.g."), "{error}");
        }
        let schedule = Schedule::parse("08:00-18:00=20MiB/s, else pause", TimeZone::UTC).expect("a schedule");
        assert_eq!(schedule.to_string(), "08:00-18:00=20971520/s, else pause");
    }
}
