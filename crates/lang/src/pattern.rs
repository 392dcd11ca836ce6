//! Patterns of `like`, `ilike` and `~=`.

use std::fmt::Write;

use regex::{Regex, RegexBuilder};

/// A pattern, prepared once.
#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Like(Vec<Piece>),
    /// Like, in small letters.
    Ilike(Vec<Piece>),
    Regex(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Char(char),
    One,
    Run,
}

impl Pattern {
    /// `%` is any run of characters, `_` is one; neither is a line's end.
    pub fn like(text: &str) -> Self {
        Self::Like(pieces(text.chars()))
    }

    /// Like [`Pattern::like`], whatever the letters' case.
    pub fn ilike(text: &str) -> Self {
        Self::Ilike(pieces(text.chars().flat_map(small)))
    }

    /// A regular expression in Go's syntax, anywhere in the text.
    pub fn regex(text: &str) -> Result<Self, String> {
        let told = |error: regex::Error| format!("bad regular expression: {}", last_line(&error.to_string()));
        RegexBuilder::new(&from_go(text)).size_limit(1 << 20).build().map(Self::Regex).map_err(told)
    }

    /// Returns whether a text fits.
    pub fn fits(&self, text: &str) -> bool {
        match self {
            Self::Like(pieces) => fits(pieces, &text.chars().collect::<Vec<_>>()),
            Self::Ilike(pieces) => fits(pieces, &text.chars().flat_map(small).collect::<Vec<_>>()),
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// A character's small letter, one for one as Go has it.
fn small(c: char) -> impl Iterator<Item = char> {
    let first = c.to_lowercase().next().unwrap_or(c);
    std::iter::once(first)
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}

fn pieces(chars: impl Iterator<Item = char>) -> Vec<Piece> {
    let piece = |c| match c {
        '%' => Piece::Run,
        '_' => Piece::One,
        c => Piece::Char(c),
    };
    let mut pieces: Vec<Piece> = chars.map(piece).collect();
    pieces.dedup_by(|a, b| *a == Piece::Run && *b == Piece::Run);
    pieces
}

fn fits(pieces: &[Piece], text: &[char]) -> bool {
    let (mut piece, mut at) = (0, 0);
    // the last run, and where the text went on after it
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let fitting = match (pieces.get(piece), text.get(at)) {
            (None, None) => return true,
            (Some(Piece::Run), _) => {
                retry = Some((piece + 1, at));
                piece += 1;
                continue;
            }
            (Some(Piece::One), Some(c)) => *c != '\n',
            (Some(Piece::Char(wanted)), Some(c)) => wanted == c,
            _ => false,
        };
        if fitting {
            (piece, at) = (piece + 1, at + 1);
            continue;
        }
        // one more character goes to the last run
        match retry {
            Some((next, begin)) if text.get(begin).is_some_and(|c| *c != '\n') => {
                retry = Some((next, begin + 1));
                (piece, at) = (next, begin + 1);
            }
            _ => return false,
        }
    }
}

/// Rewrites a regular expression from Go's syntax (RE2) to the regex crate's:
/// classes of ASCII, `\Q…\E`, brackets and braces that stand for themselves.
fn from_go(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + 16);
    let mut at = 0;
    // how far a class has come: `[`, or `[^`, after which `]` stands for itself
    let mut class: Option<usize> = None;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        at += 1;
        match (c, class) {
            ('\\', _) => {
                at += 1;
                match next {
                    Some('Q') if class.is_none() => {
                        let rest: String = chars.get(at..).unwrap_or_default().iter().collect();
                        let quoted = rest.split("\\E").next().unwrap_or_default();
                        out.push_str(&regex::escape(quoted));
                        let closed = quoted.len() < rest.len();
                        at += quoted.chars().count() + if closed { 2 } else { 0 };
                    }
                    Some(c) => escape(c, class.is_some(), &mut out),
                    None => out.push('\\'),
                }
                class = class.map(|length| length + 1);
            }
            ('[', None) => {
                out.push('[');
                class = Some(0);
                if next == Some('^') {
                    out.push('^');
                    at += 1;
                }
            }
            (']', Some(0)) => {
                out.push_str("\\]");
                class = Some(1);
            }
            (']', Some(_)) => {
                out.push(']');
                class = None;
            }
            ('[', Some(length)) => {
                // a named class such as [:alpha:] is taken as it stands
                let rest = chars.get(at..).unwrap_or_default();
                let end = rest.windows(2).position(|pair| *pair == [':', ']']);
                match end {
                    Some(end) if next == Some(':') && end > 0 => {
                        out.push('[');
                        out.extend(rest.get(..end + 2).unwrap_or_default());
                        at += end + 2;
                    }
                    _ => out.push_str("\\["),
                }
                class = Some(length + 1);
            }
            // operators on classes in the regex crate, plain characters in Go
            ('&' | '~', Some(length)) => {
                out.push('\\');
                out.push(c);
                class = Some(length + 1);
            }
            ('{', None) if !repeats(chars.get(at..).unwrap_or_default()) => out.push_str("\\{"),
            (c, _) => {
                out.push(c);
                class = class.map(|length| length + 1);
            }
        }
    }
    out
}

fn escape(c: char, in_class: bool, out: &mut String) {
    let inner = match c {
        'd' | 'D' => "0-9",
        'w' | 'W' => "0-9A-Za-z_",
        's' | 'S' => "\\t\\n\\f\\r ",
        'b' if !in_class => return out.push_str("(?-u:\\b)"),
        _ => {
            out.push('\\');
            return out.push(c);
        }
    };
    // writing to a String does not fail
    let _ = match (c.is_ascii_uppercase(), in_class) {
        (true, _) => write!(out, "[^{inner}]"),
        (false, false) => write!(out, "[{inner}]"),
        (false, true) => write!(out, "{inner}"),
    };
}

/// Whether what follows a brace makes it a repetition: `n}`, `n,}` or `n,m}`.
fn repeats(rest: &[char]) -> bool {
    let inner: String = rest.iter().take_while(|c| **c != '}').collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let closed = rest.len() > inner.chars().count();
    closed
        && match inner.split_once(',') {
            Some((low, high)) => digits(low) && (high.is_empty() || digits(high)),
            None => digits(&inner),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_means_the_whole_text() {
        for (pattern, text, expected) in [
            ("web-%", "web-01", true),
            ("%01", "web-01", true),
            ("%e%0%", "web-01", true),
            ("web-0_", "web-01", true),
            ("web", "web-01", false),
            ("a.b", "axb", false),
            ("%a%b", "aab-b-a", false),
            ("", "", true),
            ("%", "a\nb", false),
            ("100\\%", "100\\5", true),
        ] {
            assert_eq!(Pattern::like(pattern).fits(text), expected, "{pattern} {text}");
        }
        assert!(Pattern::ilike("ÄRGER%").fits("ärgerlich"));
    }

    #[test]
    fn expressions_of_go_in_the_crates_syntax() {
        for (go, text, expected) in [
            (r"^\d+$", "١٢", false),
            (r"[\d-]+", "-", true),
            (r"\bweb\b", "a web b", true),
            (r"[[]x[]]", "[x]", true),
            (r"x{,5}", "x{,5}", true),
            (r"\Qa.b\E.", "a.bc", true),
            (r"\Qa.b", "axb", false),
            (r"[a&&b]+$", "a&b", true),
            (r"[[:alpha:]]+", "abc", true),
            (r"[^\w]", "a", false),
            (r"(?i)WEB", "web", true),
        ] {
            let pattern = Pattern::regex(go).unwrap_or_else(|error| panic!("{go}: {error}"));
            assert_eq!(pattern.fits(text), expected, "{go} {text}");
        }
        assert_eq!(Pattern::regex("[").err().as_deref(), Some("bad regular expression: unclosed character class"));
    }
}
