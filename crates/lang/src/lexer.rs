//! Text to tokens.

use std::sync::LazyLock;

use regex::Regex;

use crate::error::SyntaxError;
use crate::time::{is_date, is_timestamp};

/// A token and where it begins, in characters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub kind: Kind,
    pub position: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Number(f64),
    Text(String),
    /// A quoted or bare date; a text until it is compared.
    Date(String),
    Timestamp(String),
    Name(String),
    Word(Word),
    /// An operator or bracket.
    Sign(&'static str),
    End,
}

/// The reserved words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Like,
    Ilike,
    And,
    Or,
    Between,
    In,
    Is,
    Null,
    Not,
    True,
    False,
    Len,
    Any,
    All,
    Sum,
}

const WORDS: [(&str, Word); 15] = [
    ("like", Word::Like),
    ("ilike", Word::Ilike),
    ("and", Word::And),
    ("or", Word::Or),
    ("between", Word::Between),
    ("in", Word::In),
    ("is", Word::Is),
    ("null", Word::Null),
    ("not", Word::Not),
    ("true", Word::True),
    ("false", Word::False),
    ("len", Word::Len),
    ("any", Word::Any),
    ("all", Word::All),
    ("sum", Word::Sum),
];

/// Longer ones first: the first that fits is taken.
const SIGNS: [&str; 20] =
    ["==", "!=", "<>", "<=", ">=", "~=", "~!", "=", "<", ">", "(", ")", "[", "]", ",", "+", "-", "*", "/", "%"];

/// Returns a text's tokens; the last is the end.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let begin = at;
        let kind = match c {
            ' ' | '\r' | '\t' | '\n' | '\u{c}' | '\u{b}' => {
                at += 1;
                continue;
            }
            '\'' | '"' | '`' => string(&chars, &mut at)?,
            _ if is_digit(c) => date(&chars, &mut at).unwrap_or_else(|| number(&chars, &mut at)),
            _ if is_letter(c) || c == '_' => name(&chars, &mut at),
            _ => sign(&chars, &mut at)?,
        };
        tokens.push(Token { kind, position: begin });
    }
    tokens.push(Token { kind: Kind::End, position: chars.len() });
    Ok(tokens)
}

/// Returns where a name that begins at a place ends.
pub(crate) fn name_end(chars: &[char], begin: usize) -> usize {
    let mut at = begin;
    while let Some(&c) = chars.get(at) {
        match c {
            // a bracket group is taken as it stands
            '[' if at > begin => {
                while chars.get(at).is_some_and(|c| *c != ']') {
                    at += 1;
                }
                at = (at + 1).min(chars.len());
            }
            _ if is_letter(c) || is_digit(c) || matches!(c, '_' | '.' | '/') => at += 1,
            _ => break,
        }
    }
    at
}

/// Letters as Go's `unicode.IsLetter` has them: category L.
pub(crate) fn is_letter(c: char) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
    if c.is_ascii() { c.is_ascii_alphabetic() } else { belongs(c, &LETTER) }
}

/// Digits as Go's `unicode.IsDigit` has them: category Nd.
fn is_digit(c: char) -> bool {
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());
    if c.is_ascii() { c.is_ascii_digit() } else { belongs(c, &DIGIT) }
}

fn belongs(c: char, category: &LazyLock<Option<Regex>>) -> bool {
    category.as_ref().is_some_and(|regex| regex.is_match(c.encode_utf8(&mut [0; 4])))
}

fn name(chars: &[char], at: &mut usize) -> Kind {
    let end = name_end(chars, *at);
    let text: String = chars.get(*at..end).unwrap_or_default().iter().collect();
    *at = end;
    let word = WORDS.iter().find(|(word, _)| text.eq_ignore_ascii_case(word));
    word.map_or(Kind::Name(text), |(_, word)| Kind::Word(*word))
}

fn sign(chars: &[char], at: &mut usize) -> Result<Kind, SyntaxError> {
    let fits = |sign: &&&str| sign.chars().enumerate().all(|(i, c)| chars.get(*at + i) == Some(&c));
    match SIGNS.iter().find(fits) {
        Some(sign) => {
            *at += sign.len();
            Ok(Kind::Sign(sign))
        }
        None => {
            let c = chars.get(*at).copied().unwrap_or_default();
            Err(SyntaxError::new(format!("unexpected character '{c}'"), *at))
        }
    }
}

fn string(chars: &[char], at: &mut usize) -> Result<Kind, SyntaxError> {
    let begin = *at;
    let quote = chars.get(begin).copied().unwrap_or_default();
    let mut text = String::new();
    loop {
        *at += 1;
        match chars.get(*at) {
            None => return Err(SyntaxError::new("unterminated string", begin)),
            Some(&c) if c == quote => break,
            Some('\\') => {
                *at += 1;
                match chars.get(*at) {
                    // upstream keeps a last backslash and then misses the quote
                    None => return Err(SyntaxError::new("unterminated string", begin)),
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some('b') => text.push('\u{8}'),
                    Some('f') => text.push('\u{c}'),
                    Some(&c) => text.push(c),
                }
            }
            Some(&c) => text.push(c),
        }
    }
    *at += 1;
    Ok(if is_date(&text) {
        Kind::Date(text)
    } else if is_timestamp(&text) {
        Kind::Timestamp(text)
    } else {
        Kind::Text(text)
    })
}

/// A bare date or timestamp; `None` when the digits are only a number.
fn date(chars: &[char], at: &mut usize) -> Option<Kind> {
    let rest = chars.get(*at..)?;
    let first: String = rest.get(..10)?.iter().collect();
    if !is_date(&first) {
        return None;
    }
    let until = |ends: &[char]| rest.iter().position(|c| ends.contains(c)).unwrap_or(rest.len());
    if rest.get(10) == Some(&'T') {
        let candidate: String = rest.get(..until(&[' ', '\t', '\n', ')', ',']))?.iter().collect();
        if !is_timestamp(&candidate) {
            return None;
        }
    }
    let end = until(&[' ', '\t', '\n', ')', ',', ']']);
    let text: String = rest.get(..end)?.iter().collect();
    let kind = if is_timestamp(&text) {
        Kind::Timestamp(text)
    } else if is_date(&text) {
        Kind::Date(text)
    } else {
        return None;
    };
    *at += end;
    Some(kind)
}

fn number(chars: &[char], at: &mut usize) -> Kind {
    let begin = *at;
    let digits = |at: &mut usize| {
        while chars.get(*at).is_some_and(|c| is_digit(*c)) {
            *at += 1;
        }
    };
    digits(at);
    if chars.get(*at) == Some(&'.') && chars.get(*at + 1).is_some_and(|c| is_digit(*c)) {
        *at += 1;
        digits(at);
    }
    if matches!(chars.get(*at), Some('e' | 'E')) {
        *at += 1;
        if matches!(chars.get(*at), Some('+' | '-')) {
            *at += 1;
        }
        digits(at);
    }
    let text: String = chars.get(begin..*at).unwrap_or_default().iter().collect();
    let power = chars.get(*at).and_then(|c| "kmgtp".find(c.to_ascii_lowercase()));
    let mut scale = 1.0;
    if let Some(power) = power {
        *at += 1;
        let mut base: f64 = 1000.0;
        if matches!(chars.get(*at), Some('i' | 'I')) {
            *at += 1;
            base = 1024.0;
        }
        scale = base.powi(i32::try_from(power).unwrap_or(0) + 1);
    }
    // an exponent without digits is 0 in the original, as is what no float holds
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite()).unwrap_or(0.0);
    Kind::Number(value * scale)
}
