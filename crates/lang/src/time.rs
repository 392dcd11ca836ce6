//! Dates and times as Go's `time.Parse` reads them with the layouts RFC3339 and `2006-01-02`.

/// A point in time, in nanoseconds since 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub i128);

const SECOND: i128 = 1_000_000_000;

impl Instant {
    /// Reads `YYYY-MM-DDThh:mm:ssZ` (or `±hh:mm`, fractions allowed), else `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        // most texts are neither: told by the first characters
        let bytes = text.as_bytes();
        if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
            return None;
        }
        let days = i128::from(days(number(bytes, 0, 4)?, number(bytes, 5, 2)?, number(bytes, 8, 2)?)?);
        let rest = bytes.get(10..)?;
        if rest.is_empty() {
            return Some(Self(days * 86_400 * SECOND));
        }
        let rest = rest.strip_prefix(b"T")?;
        // the hour alone may have one digit
        let (hour, rest) = match rest {
            [a, b, ..] if a.is_ascii_digit() && b.is_ascii_digit() => (number(rest, 0, 2)?, rest.get(2..)?),
            [a, ..] if a.is_ascii_digit() => (number(rest, 0, 1)?, rest.get(1..)?),
            _ => return None,
        };
        if rest.first() != Some(&b':') || rest.get(3) != Some(&b':') {
            return None;
        }
        let (minute, second) = (number(rest, 1, 2)?, number(rest, 4, 2)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (fraction, zone) = fraction(rest.get(6..)?)?;
        let offset = zone_seconds(zone)?;
        let seconds = days * 86_400 + i128::from(hour * 3600 + minute * 60 + second) - i128::from(offset);
        Some(Self(seconds * SECOND + i128::from(fraction)))
    }
}

/// Whether a text looks like a date, as the lexer tells dates from other strings.
pub(crate) fn is_date(text: &str) -> bool {
    let shape = |(at, byte): (usize, u8)| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
    text.len() == 10 && text.bytes().enumerate().all(shape)
}

/// Whether a text looks like a timestamp, as the lexer tells timestamps from other strings.
pub(crate) fn is_timestamp(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    let Some(clock) = rest.strip_prefix('T').and_then(|rest| rest.get(..8)) else { return false };
    let shape = |(at, byte): (usize, u8)| if at == 2 || at == 5 { byte == b':' } else { byte.is_ascii_digit() };
    if !is_date(date) || !clock.bytes().enumerate().all(shape) {
        return false;
    }
    let rest = rest.get(9..).unwrap_or_default();
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
        None => rest,
    };
    let digits = |text: Option<&str>| text.is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    zone == "Z"
        || (zone.len() == 6
            && zone.starts_with(['+', '-'])
            && zone.get(3..4) == Some(":")
            && digits(zone.get(1..3))
            && digits(zone.get(4..6)))
}

fn number(bytes: &[u8], at: usize, digits: usize) -> Option<i64> {
    let digits = bytes.get(at..at + digits)?;
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// Days since 1970-01-01, in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // years that begin in March, so that the leap day is the last
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Returns the nanoseconds of a fraction, and what follows it. Digits beyond the ninth are cut off.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = bytes.strip_prefix(b".").or_else(|| bytes.strip_prefix(b",")) else {
        return Some((0, bytes));
    };
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let mut nanoseconds = number(digits, 0, length.min(9))?;
    for _ in length..9 {
        nanoseconds *= 10;
    }
    Some((nanoseconds, digits.get(length..)?))
}

fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let sign = match zone {
        b"Z" => return Some(0),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return None,
    };
    if zone.len() != 6 || zone.get(3) != Some(&b':') {
        return None;
    }
    let (hours, minutes) = (number(zone, 1, 2)?, number(zone, 4, 2)?);
    // the limits of Go's parser
    (hours <= 24 && minutes <= 60).then(|| sign * (hours * 3600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_as_nanoseconds() {
        let seconds = |text: &str| Instant::parse(text).map(|instant| instant.0 / SECOND);
        assert_eq!(seconds("1970-01-01"), Some(0));
        assert_eq!(seconds("2024-02-29"), Some(1_709_164_800));
        assert_eq!(seconds("2024-05-01T10:00:00Z"), Some(1_714_557_600));
        assert_eq!(seconds("2024-05-01T12:00:00+02:00"), Some(1_714_557_600));
        assert_eq!(Instant::parse("1970-01-01T00:00:00.25Z"), Some(Instant(250_000_000)));
        assert_eq!(seconds("1969-12-31T23:59:59Z"), Some(-1));
        assert_eq!(seconds("0001-01-01"), Some(-62_135_596_800));
        for text in ["2023-02-29", "2024-13-01", "2024-1-01", "2024-05-01T25:00:00Z", "2024-05-01T10:00:00", "x", ""] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn the_shape_tells_a_literal() {
        assert!(is_date("2024-99-99") && !is_date("2024-05-1") && !is_date("2024-05-01 "));
        assert!(is_timestamp("2024-05-01T10:00:00Z") && is_timestamp("2024-05-01T10:00:00.5+01:00"));
        for text in ["2024-05-01T10:00:00", "2024-05-01T10:00:00.Z", "2024-05-01t10:00:00Z", "2024-05-01T10:00:00+0100"]
        {
            assert!(!is_timestamp(text), "{text}");
        }
    }
}
