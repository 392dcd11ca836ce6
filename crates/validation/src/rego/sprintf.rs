//! `sprintf` with the verbs and the complaints of Go's `fmt`, and numbers and strings as Go writes them.

use std::fmt::Write as _;

use super::letters;
use super::value::{Number, Value};

/// Formats as OPA does: numbers are Go ints or floats, strings Go strings, anything else its Rego text.
///
/// `None` when the result would be longer than `limit` bytes.
pub fn sprintf(format: &str, arguments: &[Value], limit: usize) -> Option<String> {
    let mut out = String::with_capacity(format.len() + 16);
    let mut reading = Reading { rest: format, arguments, next: 0, reordered: false };
    while let Some(at) = reading.rest.find('%') {
        out.push_str(&reading.rest[..at]);
        reading.rest = &reading.rest[at + 1..];
        let verb = reading.verb(&mut out);
        match verb.letter {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) if verb.bad_index => out.push_str(&format!("%!{letter}(BADINDEX)")),
            Some(letter) => match arguments.get(reading.next) {
                None => out.push_str(&format!("%!{letter}(MISSING)")),
                Some(argument) => {
                    reading.next += 1;
                    if verb.width.unwrap_or(0) > limit || verb.precision.unwrap_or(0) > limit {
                        return None;
                    }
                    out.push_str(&verb.format(letter, argument));
                }
            },
        }
        if out.len() > limit {
            return None;
        }
    }
    out.push_str(reading.rest);
    if !reading.reordered && reading.next < arguments.len() {
        out.push_str("%!(EXTRA ");
        for (i, argument) in arguments[reading.next..].iter().enumerate() {
            let _ = write!(out, "{}{}={}", if i == 0 { "" } else { ", " }, go_type(argument), plain(argument));
        }
        out.push(')');
    }
    (out.len() <= limit).then_some(out)
}

/// The format that is left, and which argument is next.
struct Reading<'f> {
    rest: &'f str,
    arguments: &'f [Value],
    next: usize,
    /// Whether an argument was chosen by its number: then those that are left over are no mistake.
    reordered: bool,
}

impl Reading<'_> {
    /// Reads what is between `%` and the letter, and the letter.
    fn verb(&mut self, out: &mut String) -> Verb {
        let mut verb = Verb::default();
        loop {
            match self.rest.bytes().next() {
                Some(b'+') => verb.plus = true,
                Some(b'-') => verb.minus = true,
                Some(b'#') => verb.hash = true,
                Some(b' ') => verb.space = true,
                Some(b'0') => verb.zero = true,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        let mut after_index = self.index(&mut verb);
        if let Some(rest) = self.rest.strip_prefix('*') {
            self.rest = rest;
            match self.star() {
                Some(width) => {
                    verb.minus |= width < 0;
                    verb.width = usize::try_from(width.unsigned_abs()).ok();
                }
                None => out.push_str("%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            verb.width = self.number();
            verb.bad_index |= after_index && verb.width.is_some();
        }
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            verb.bad_index |= after_index;
            after_index = self.index(&mut verb);
            if let Some(rest) = self.rest.strip_prefix('*') {
                self.rest = rest;
                match self.star() {
                    Some(precision) => verb.precision = usize::try_from(precision).ok(),
                    None => out.push_str("%!(BADPREC)"),
                }
                if verb.precision.is_none() && !out.ends_with("%!(BADPREC)") {
                    out.push_str("%!(BADPREC)");
                }
                after_index = false;
            } else {
                verb.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !after_index {
            self.index(&mut verb);
        }
        verb.letter = self.rest.chars().next();
        self.rest = &self.rest[verb.letter.map_or(0, char::len_utf8)..];
        verb
    }

    /// Reads `[2]`, the number of the argument that comes next.
    fn index(&mut self, verb: &mut Verb) -> bool {
        let Some(inside) = self.rest.strip_prefix('[') else { return false };
        self.reordered = true;
        let Some((number, rest)) = inside.split_once(']') else {
            verb.bad_index = true;
            self.rest = inside;
            return false;
        };
        self.rest = rest;
        match number.parse::<usize>() {
            Ok(number) if number > 0 && number <= self.arguments.len() && !inside.starts_with('+') => {
                self.next = number - 1;
                true
            }
            _ => {
                verb.bad_index = true;
                false
            }
        }
    }

    /// The next argument as a width or a precision.
    fn star(&mut self) -> Option<i64> {
        let value = match self.arguments.get(self.next) {
            Some(Value::Number(Number::Int(value))) if value.unsigned_abs() <= 1_000_000 => Some(*value),
            _ => None,
        };
        self.next += usize::from(self.next < self.arguments.len());
        value
    }

    fn number(&mut self) -> Option<usize> {
        let length = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let value = self.rest[..length].parse().ok();
        self.rest = &self.rest[length..];
        value
    }
}

#[derive(Clone, Copy, Default)]
struct Verb {
    plus: bool,
    minus: bool,
    hash: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
    letter: Option<char>,
    /// Whether the number of its argument makes no sense.
    bad_index: bool,
}

impl Verb {
    fn format(&self, letter: char, argument: &Value) -> String {
        // `%+v` is about the names of fields, not about signs; `%#v` not about the digits of numbers
        let number = matches!(argument, Value::Number(_));
        let hash = self.hash && !(number && letter == 'v');
        Verb { plus: self.plus && letter != 'v', hash, ..*self }.shown(letter, argument)
    }

    fn shown(&self, letter: char, argument: &Value) -> String {
        let number = matches!(argument, Value::Number(_));
        let text = match (argument, letter) {
            (_, 'T') => return self.padded(go_type(argument).to_owned(), false),
            (Value::Number(value), _) => match value.integer() {
                Some(whole) => self.integer(whole, letter),
                None => self.float(value.float(), letter),
            },
            (other, letter) => self.text(&plain(other), letter),
        };
        match text {
            // letters are padded as texts
            Some(text) => self.padded(text, number && !matches!(letter, 'c' | 'q' | 'U')),
            None => {
                format!(
                    "%!{letter}({}={})",
                    go_type(argument),
                    Verb { hash: self.hash && number, ..*self }.shown('v', argument)
                )
            }
        }
    }

    fn text(&self, text: &str, letter: char) -> Option<String> {
        let cut = || match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text.to_owned(),
        };
        let bytes = |upper: bool| {
            let most = self.precision.unwrap_or(usize::MAX);
            let mut out = String::new();
            for (at, byte) in text.bytes().take(most).enumerate() {
                if self.space && at > 0 {
                    out.push(' ');
                }
                if self.hash && (self.space || at == 0) {
                    out.push_str(if upper { "0X" } else { "0x" });
                }
                let _ = if upper { write!(out, "{byte:02X}") } else { write!(out, "{byte:02x}") };
            }
            out
        };
        Some(match letter {
            'v' if self.hash => quoted(&cut()),
            's' | 'v' => cut(),
            'q' if self.hash
                && !text.contains(['`', '\n', '\r', '\u{7f}', '\u{feff}'])
                && !text.contains(unprintable) =>
            {
                format!("`{}`", cut())
            }
            'q' if self.plus => ascii(&cut()),
            'q' => quoted(&cut()),
            'x' => bytes(false),
            'X' => bytes(true),
            _ => return None,
        })
    }

    fn integer(&self, whole: i128, letter: char) -> Option<String> {
        let (magnitude, negative) = (whole.unsigned_abs(), whole < 0);
        let character = || u32::try_from(whole).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
        let (prefix, digits) = match letter {
            'd' | 'v' => ("", magnitude.to_string()),
            'x' => ("0x", format!("{magnitude:x}")),
            'X' => ("0X", format!("{magnitude:X}")),
            'o' => ("0", format!("{magnitude:o}")),
            'O' => ("0o", format!("{magnitude:o}")),
            'b' => ("0b", format!("{magnitude:b}")),
            'c' => return Some(character().to_string()),
            'q' => {
                let text = character().to_string();
                let text = if self.plus { ascii(&text) } else { quoted(&text) };
                let inside = text.trim_matches('"');
                return Some(match character() {
                    '\'' => "'\\''".to_owned(),
                    '"' => "'\"'".to_owned(),
                    _ => format!("'{inside}'"),
                });
            }
            'U' => {
                let shown = match self.hash && !unprintable(character()) {
                    true => format!(" '{}'", character()),
                    false => String::new(),
                };
                let width = self.precision.unwrap_or(4).max(4);
                // a number below zero is shown as its 64 bits
                let point = if negative { whole as u64 as u128 } else { magnitude };
                return Some(format!("U+{point:0>width$X}{shown}"));
            }
            _ => return None,
        };
        if self.precision == Some(0) && whole == 0 {
            return Some(String::new());
        }
        // a width with zeros counts the sign and not the prefix
        let signs = usize::from(negative || self.plus || self.space);
        let least = match self.precision {
            Some(precision) => precision,
            None if self.zero && !self.minus => self.width.unwrap_or(0).saturating_sub(signs),
            None => 0,
        };
        let prefix = if letter == 'O' || (self.hash && letter != 'd' && letter != 'v') { prefix } else { "" };
        let prefix = if letter == 'o' && digits.len() < least { "" } else { prefix };
        Some(self.signed(format!("{prefix}{digits:0>least$}"), negative))
    }

    fn signed(&self, digits: String, negative: bool) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        format!("{sign}{digits}")
    }

    fn float(&self, value: f64, letter: char) -> Option<String> {
        let magnitude = value.abs();
        let digits = match letter {
            'f' | 'F' => format!("{magnitude:.*}", self.precision.unwrap_or(6)),
            'e' | 'E' => exponent(&format!("{magnitude:.*e}", self.precision.unwrap_or(6))),
            'v' | 'g' | 'G' => match self.precision {
                None if self.hash => full(&go_float(magnitude), 6),
                None => go_float(magnitude),
                Some(precision) if self.hash => full(&general(magnitude, precision.max(1)), precision.max(1)),
                Some(precision) => general(magnitude, precision.max(1)),
            },
            'x' | 'X' if self.precision.is_none() => hexadecimal(magnitude),
            'b' => binary(magnitude),
            _ => return None,
        };
        let digits = if matches!(letter, 'E' | 'G' | 'X') { digits.to_uppercase() } else { digits };
        Some(self.signed(digits, value.is_sign_negative()))
    }

    fn padded(&self, text: String, number: bool) -> String {
        let length = text.chars().count();
        let Some(width) = self.width.filter(|width| *width > length) else {
            return text;
        };
        let fill = width - length;
        if self.minus {
            return text + &" ".repeat(fill);
        }
        // whole numbers with a precision are filled with spaces
        if self.zero && number && !(self.precision.is_some() && !text.contains(['.', 'e', 'p'])) {
            let signs = usize::from(text.starts_with(['-', '+', ' ']));
            return format!("{}{}{}", &text[..signs], "0".repeat(fill), &text[signs..]);
        }
        if self.zero && !number {
            return "0".repeat(fill) + &text;
        }
        " ".repeat(fill) + &text
    }
}

fn unprintable(c: char) -> bool {
    !letters::is_printed(c) && c != ' ' && c != '\t'
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Number(Number::Float(value)) => go_float(*value),
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Number(Number::Int(_)) => "int",
        Value::Number(Number::Wide(_)) => "*big.Int",
        Value::Number(Number::Float(_)) => "float64",
        _ => "string",
    }
}

/// `%v` of a float64: shortest digits, an exponent below 1e-4 and from 1e6 on.
fn go_float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e6).contains(&magnitude) {
        return exponent(&format!("{value:e}"));
    }
    format!("{value}")
}

/// `%.3g`: so many digits, and an exponent where these would not show the size.
fn general(value: f64, precision: usize) -> String {
    let text = format!("{value:.*e}", precision - 1);
    let (mantissa, power) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = power.parse().unwrap_or(0);
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let digits = mantissa.len() as i32 - i32::from(mantissa.contains('.'));
    let mut most = precision as i32;
    if most > digits && digits > power {
        most = digits;
    }
    if power < -4 || power >= most {
        return exponent(&format!("{mantissa}e{power}"));
    }
    let behind = usize::try_from(digits - power - 1).unwrap_or(0);
    // the rounded digits, not the value's own
    let rounded: f64 = format!("{mantissa}e{power}").parse().unwrap_or(value);
    format!("{rounded:.behind$}")
}

/// `%#g`: a number with a point and at least so many digits.
fn full(text: &str, least: usize) -> String {
    let (digits, power) = text.split_at(text.find('e').unwrap_or(text.len()));
    let shown = digits.trim_start_matches(['0', '.']).bytes().filter(u8::is_ascii_digit).count();
    let point = if digits.contains('.') { "" } else { "." };
    format!("{digits}{point}{}{power}", "0".repeat(least.saturating_sub(shown)))
}

/// `%x` of a float64: `0x1.8p+01`.
fn hexadecimal(value: f64) -> String {
    let (mantissa, power) = parts(value);
    if mantissa == 0 {
        return "0x0p+00".to_owned();
    }
    let digits = format!("{:013x}", mantissa & ((1 << 52) - 1));
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    let sign = if power < -52 { '-' } else { '+' };
    format!("0x1{point}{digits}p{sign}{:02}", (power + 52).abs())
}

/// `%b` of a float64: its mantissa and the power of two.
fn binary(value: f64) -> String {
    let (mantissa, power) = parts(value);
    format!("{mantissa}p{power:+}")
}

/// The mantissa as a whole number and the power of two that belongs to it.
fn parts(value: f64) -> (u64, i32) {
    let bits = value.to_bits();
    let power = i32::try_from((bits >> 52) & 0x7ff).unwrap_or_default();
    let mantissa = bits & ((1 << 52) - 1);
    if power == 0 { (mantissa, -1074) } else { (mantissa | 1 << 52, power - 1075) }
}

/// Rust's `1e5` as Go's `1e+05`.
fn exponent(text: &str) -> String {
    let Some((digits, exponent)) = text.split_once('e') else { return text.to_owned() };
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// A string in quotes without letters that are not ASCII, as Go's `%+q` writes it.
fn ascii(text: &str) -> String {
    quoted(text).chars().fold(String::new(), |mut out, c| {
        let _ = match c as u32 {
            0..0x80 => write!(out, "{c}"),
            wide @ 0..0x10000 => write!(out, "\\u{wide:04x}"),
            wide => write!(out, "\\U{wide:08x}"),
        };
        out
    })
}

/// A string in quotes, as Go's `%q` and Rego's text form write it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if letters::is_printed(c) => out.push(c),
            c if (c as u32) < 0x10000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}
