//! Rego's tokens.

use super::SyntaxError;

/// A token and where it stands.
#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub line: u32,
    /// Byte offsets in the text.
    pub start: usize,
    pub end: usize,
    /// Whether a line begins between the token before and this one.
    pub new_line: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Name(String),
    Number(String),
    Text(String),
    /// Punctuation, by its longest form: `:=`, `==`, `!=`, `<=`, `>=` or one character.
    Mark(&'static str),
    End,
}

const MARKS: &[&str] = &[
    ":=", "==", "!=", "<=", ">=", "(", ")", "[", "]", "{", "}", ",", ";", ":", ".", "|", "&", "+", "-", "*", "/", "%",
    "<", ">", "=",
];

/// Splits a module's text.
pub fn tokens(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut line = 1u32;
    let mut new_line = true;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        if c == '\n' {
            line += 1;
            new_line = true;
            at += 1;
            continue;
        }
        if c.is_whitespace() || c == '\u{feff}' {
            at += c.len_utf8();
            continue;
        }
        if c == '#' {
            at += text[at..].find('\n').unwrap_or(text.len() - at);
            continue;
        }
        let first_line = line;
        let kind = if c.is_alphabetic() || c == '_' {
            at += text[at..].find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len() - at);
            Kind::Name(text[start..at].to_owned())
        } else if c.is_ascii_digit() {
            at += number_length(&text[at..]);
            Kind::Number(text[start..at].to_owned())
        } else if c == '"' {
            let (value, length) =
                quoted(&text[at..]).map_err(|message| SyntaxError { line, message: message.to_owned() })?;
            at += length;
            Kind::Text(value)
        } else if c == '`' {
            let Some(length) = text[at + 1..].find('`') else {
                return Err(SyntaxError { line, message: "the raw string is not closed".to_owned() });
            };
            let value = &text[at + 1..at + 1 + length];
            line += value.matches('\n').count() as u32;
            at += length + 2;
            Kind::Text(value.to_owned())
        } else if let Some(mark) = MARKS.iter().find(|mark| text[at..].starts_with(**mark)) {
            at += mark.len();
            Kind::Mark(mark)
        } else {
            return Err(SyntaxError { line, message: format!("`{c}` has no meaning here") });
        };
        tokens.push(Token { kind, line: first_line, start, end: at, new_line });
        new_line = false;
    }
    tokens.push(Token { kind: Kind::End, line, start: text.len(), end: text.len(), new_line: true });
    Ok(tokens)
}

fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit) {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits(at + 1 + sign);
        }
    }
    at
}

/// Reads a quoted string: its value and its length with the quotes.
fn quoted(text: &str) -> Result<(String, usize), &'static str> {
    let mut escaped = false;
    for (i, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return Err("the string is not closed on its line"),
            '"' if !escaped => {
                let literal = &text[..=i];
                let value = serde_json::from_str(literal).map_err(|_| "the string has an unknown escape")?;
                return Ok((value, i + 1));
            }
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    Err("the string is not closed")
}
