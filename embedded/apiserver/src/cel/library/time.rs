//! Moments and spans of time.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::super::eval::Fault;
use super::super::value::Value;
use super::{Answer, failed};

pub fn call(name: &str, args: &[Value]) -> Answer {
    use Value::{Duration as Span, Timestamp as Moment};
    let overflow = || failed("timestamp overflow");
    match (name, args) {
        ("timestamp", [Value::Text(text)]) => Some(match parse_moment(text) {
            Some(moment) => Ok(Moment(moment)),
            None => Fault::new(format!("type conversion error from '{text}' to 'google.protobuf.Timestamp'")),
        }),
        ("timestamp", [Value::Int(seconds)]) => {
            Some(Timestamp::from_second(*seconds).map(Moment).map_err(|_| Fault::Failed("timestamp overflow".into())))
        }
        ("timestamp", [Moment(_)]) | ("duration", [Span(_)]) => args.first().map(|v| Ok(v.clone())),
        ("duration", [Value::Text(text)]) => Some(match parse_span(text) {
            Some(span) => Ok(Span(span)),
            None => Fault::new(format!("type conversion error from '{text}' to 'google.protobuf.Duration'")),
        }),
        ("duration", [Value::Int(nanos)]) => Some(Ok(Span(SignedDuration::from_nanos(*nanos)))),
        ("_+_", [Moment(a), Span(b)]) | ("_+_", [Span(b), Moment(a)]) => {
            a.checked_add(*b).map_or_else(|_| overflow(), |m| Some(Ok(Moment(m))))
        }
        ("_-_", [Moment(a), Span(b)]) => a.checked_sub(*b).map_or_else(|_| overflow(), |m| Some(Ok(Moment(m)))),
        ("_-_", [Moment(a), Moment(b)]) => Some(Ok(Span(a.duration_since(*b)))),
        ("_+_", [Span(a), Span(b)]) => {
            a.checked_add(*b).map_or_else(|| failed("duration overflow"), |s| Some(Ok(Span(s))))
        }
        ("_-_", [Span(a), Span(b)]) => {
            a.checked_sub(*b).map_or_else(|| failed("duration overflow"), |s| Some(Ok(Span(s))))
        }
        (_, [Span(span)]) => of_span(name, span),
        (_, [Moment(moment)]) => of_moment(name, &moment.to_zoned(TimeZone::UTC)),
        (_, [Moment(moment), Value::Text(zone)]) => match time_zone(zone) {
            Some(zone) => of_moment(name, &moment.to_zoned(zone)),
            None => failed(format!("unknown time zone {zone}")),
        },
        _ => None,
    }
}

fn of_span(name: &str, span: &SignedDuration) -> Answer {
    let number = match name {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        // the part below a second
        "getMilliseconds" => i64::from(span.subsec_millis()),
        _ => return None,
    };
    Some(Ok(Value::Int(number)))
}

fn of_moment(name: &str, moment: &Zoned) -> Answer {
    let number = match name {
        "getFullYear" => i64::from(moment.year()),
        "getMonth" => i64::from(moment.month()) - 1,
        "getDayOfYear" => i64::from(moment.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(moment.day()) - 1,
        "getDate" => i64::from(moment.day()),
        "getDayOfWeek" => i64::from(moment.weekday().since(Weekday::Sunday)),
        "getHours" => i64::from(moment.hour()),
        "getMinutes" => i64::from(moment.minute()),
        "getSeconds" => i64::from(moment.second()),
        "getMilliseconds" => i64::from(moment.millisecond()),
        _ => return None,
    };
    Some(Ok(Value::Int(number)))
}

/// `Europe/Berlin`, `+02:00`, `-02:00`, `02:00`.
fn time_zone(text: &str) -> Option<TimeZone> {
    if let Some((hours, minutes)) = text.split_once(':') {
        let (sign, hours) = match hours.strip_prefix('-') {
            Some(hours) => (-1, hours),
            None => (1, hours.trim_start_matches('+')),
        };
        let seconds = sign * (hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60);
        return Some(TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).ok()?));
    }
    TimeZone::get(text).ok()
}

/// RFC 3339.
pub fn parse_moment(text: &str) -> Option<Timestamp> {
    let shaped = text.len() >= 20 && text.as_bytes().get(10).is_some_and(|c| matches!(c, b'T' | b't'));
    shaped.then(|| text.parse().ok()).flatten()
}

/// Go's form: `1h30m`, `1.5s`, `-2ms`.
pub fn parse_span(text: &str) -> Option<SignedDuration> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanos = 0f64;
    let mut some = false;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let factor = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        nanos += number.parse::<f64>().ok()? * factor;
        rest = tail;
        some = true;
    }
    if !some || nanos > 9.2e18 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "checked above")]
    Some(SignedDuration::from_nanos((sign * nanos).round() as i64))
}

/// As `string()` writes a moment.
pub fn show_moment(moment: &Timestamp) -> String {
    moment.to_string()
}

/// As `string()` writes a span: seconds.
pub fn show_span(span: &SignedDuration) -> String {
    format!("{}s", super::convert::double(span.as_secs_f64()))
}
