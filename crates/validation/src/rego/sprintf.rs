//! `sprintf` with the verbs and the complaints of Go's `fmt`, and numbers and strings as Go writes them.

use std::fmt::Write as _;

use super::letters;
use super::value::{Number, Value};

/// Formats as OPA does: numbers are Go ints or floats, strings Go strings, anything else its Rego text.
///
/// `None` when the result would be longer than `limit` bytes.
pub fn sprintf(format: &str, arguments: &[Value], limit: usize) -> Option<String> {
    let mut out = String::with_capacity(format.len() + 16);
    let mut rest = format;
    let mut next = 0;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let verb = Verb::read(&mut rest, arguments, &mut next);
        match verb.letter {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match arguments.get(next) {
                None => out.push_str(&format!("%!{letter}(MISSING)")),
                Some(argument) => {
                    next += 1;
                    if verb.width.unwrap_or(0) > limit || verb.precision.unwrap_or(0) > limit {
                        return None;
                    }
                    let text = verb.format(letter, argument);
                    out.push_str(&text);
                }
            },
        }
        if out.len() > limit {
            return None;
        }
    }
    out.push_str(rest);
    if next < arguments.len() {
        out.push_str("%!(EXTRA ");
        for (i, argument) in arguments[next..].iter().enumerate() {
            let _ = write!(out, "{}{}={}", if i == 0 { "" } else { ", " }, go_type(argument), plain(argument));
        }
        out.push(')');
    }
    (out.len() <= limit).then_some(out)
}

#[derive(Default)]
struct Verb {
    plus: bool,
    minus: bool,
    hash: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
    letter: Option<char>,
}

impl Verb {
    fn read(rest: &mut &str, arguments: &[Value], next: &mut usize) -> Self {
        let mut verb = Verb::default();
        loop {
            match rest.chars().next() {
                Some('+') => verb.plus = true,
                Some('-') => verb.minus = true,
                Some('#') => verb.hash = true,
                Some(' ') => verb.space = true,
                Some('0') => verb.zero = true,
                _ => break,
            }
            *rest = &rest[1..];
        }
        verb.width = number(rest, arguments, next);
        if let Some(after) = rest.strip_prefix('.') {
            *rest = after;
            verb.precision = Some(number(rest, arguments, next).unwrap_or(0));
        }
        verb.letter = rest.chars().next();
        *rest = &rest[verb.letter.map_or(0, char::len_utf8)..];
        verb
    }

    fn format(&self, letter: char, argument: &Value) -> String {
        let text = match (argument, letter) {
            (Value::Number(value), _) => match (value.integer(), letter) {
                (Some(i), 'd' | 'v') => self.integer(i.unsigned_abs().to_string(), i < 0),
                (Some(i), 'x') => self.integer(prefixed(self.hash, "0x", format!("{:x}", i.unsigned_abs())), i < 0),
                (Some(i), 'X') => self.integer(prefixed(self.hash, "0X", format!("{:X}", i.unsigned_abs())), i < 0),
                (Some(i), 'o') => self.integer(prefixed(self.hash, "0", format!("{:o}", i.unsigned_abs())), i < 0),
                (Some(i), 'b') => self.integer(format!("{:b}", i.unsigned_abs()), i < 0),
                (Some(i), 'c') => u32::try_from(i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}').to_string(),
                (Some(i), _) => return format!("%!{letter}(int={i})"),
                (None, 'v' | 'g') => self.float(value.float(), 'g'),
                (None, 'f' | 'F' | 'e' | 'E' | 'G') => self.float(value.float(), letter),
                (None, _) => return format!("%!{letter}(float64={})", go_float(value.float())),
            },
            (other, letter) => {
                let plain = plain(other);
                match letter {
                    's' | 'v' => match self.precision {
                        Some(most) => plain.chars().take(most).collect(),
                        None => plain,
                    },
                    'q' => quoted(&plain),
                    'x' => plain.bytes().fold(String::new(), |mut out, byte| {
                        let _ = write!(out, "{byte:02x}");
                        out
                    }),
                    'X' => plain.bytes().fold(String::new(), |mut out, byte| {
                        let _ = write!(out, "{byte:02X}");
                        out
                    }),
                    _ => return format!("%!{letter}(string={plain})"),
                }
            }
        };
        self.padded(text, argument)
    }

    fn integer(&self, digits: String, negative: bool) -> String {
        let mut digits = digits;
        if let Some(precision) = self.precision {
            while digits.len() < precision {
                digits.insert(0, '0');
            }
        }
        self.signed(digits, negative)
    }

    fn signed(&self, digits: String, negative: bool) -> String {
        let sign = if negative {
            "-"
        } else if self.plus {
            "+"
        } else if self.space {
            " "
        } else {
            ""
        };
        format!("{sign}{digits}")
    }

    fn float(&self, value: f64, letter: char) -> String {
        let magnitude = value.abs();
        let digits = match letter {
            'f' | 'F' => format!("{magnitude:.*}", self.precision.unwrap_or(6)),
            'e' | 'E' => {
                let text = exponent(&format!("{magnitude:.*e}", self.precision.unwrap_or(6)));
                if letter == 'E' { text.to_uppercase() } else { text }
            }
            _ => go_float(magnitude),
        };
        self.signed(digits, value.is_sign_negative() && value != 0.0)
    }

    fn padded(&self, text: String, argument: &Value) -> String {
        let length = text.chars().count();
        let Some(width) = self.width.filter(|width| *width > length) else {
            return text;
        };
        let fill = width - length;
        if self.minus {
            return text + &" ".repeat(fill);
        }
        if self.zero && self.precision.is_none_or(|_| !matches!(argument, Value::Number(Number::Int(_)))) {
            let signs = text.len() - text.trim_start_matches(['-', '+', ' ']).len();
            let signs = if matches!(argument, Value::Number(_)) { signs.min(1) } else { 0 };
            return format!("{}{}{}", &text[..signs], "0".repeat(fill), &text[signs..]);
        }
        " ".repeat(fill) + &text
    }
}

fn number(rest: &mut &str, arguments: &[Value], next: &mut usize) -> Option<usize> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        let value = match arguments.get(*next) {
            Some(Value::Number(value)) => value.integer().and_then(|i| usize::try_from(i).ok()),
            _ => None,
        };
        *next += 1;
        return value;
    }
    let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let value = rest[..length].parse().ok();
    *rest = &rest[length..];
    value
}

fn prefixed(wanted: bool, prefix: &str, digits: String) -> String {
    if wanted { format!("{prefix}{digits}") } else { digits }
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

/// `%v` of a float64: shortest digits, an exponent below 1e-4 and from 1e21 on.
fn go_float(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        return exponent(&format!("{value:e}"));
    }
    format!("{value}")
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
