//! Letters as Go sees them: cases one by one, without a look at their neighbours, and which of them are printed.

use std::sync::LazyLock;

use regex::Regex;

/// Returns the text in lower case, each character by itself (`strings.ToLower`).
pub fn lower(text: &str) -> String {
    // the one letter that Rust makes two of
    let one = |c: char| if c == 'İ' { 'i' } else { single(c, c.to_lowercase()) };
    text.chars().map(one).collect()
}

/// Returns the text in upper case, each character by itself (`strings.ToUpper`).
pub fn upper(text: &str) -> String {
    let one = |c: char| match c {
        // iota below: Rust writes it beside the letter, in capitals
        'ᾀ'..='ᾇ' | 'ᾐ'..='ᾗ' | 'ᾠ'..='ᾧ' => char::from_u32(c as u32 + 8).unwrap_or(c),
        'ᾳ' => 'ᾼ',
        'ῃ' => 'ῌ',
        'ῳ' => 'ῼ',
        c => single(c, c.to_uppercase()),
    };
    text.chars().map(one).collect()
}

/// The other case of a letter where it is one letter, else the letter (`ß`).
fn single(c: char, mut other: impl ExactSizeIterator<Item = char>) -> char {
    if other.len() == 1 { other.next().unwrap_or(c) } else { c }
}

/// Whether a character is written as it is in quotes (`strconv.IsPrint`): letters, marks, numbers, punctuation,
/// symbols and the plain space.
pub fn is_printed(c: char) -> bool {
    static PRINTED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[\pL\pM\pN\pP\pS ]$").ok());
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    let mut buffer = [0; 4];
    PRINTED.as_ref().is_some_and(|printed| printed.is_match(c.encode_utf8(&mut buffer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    // what Go 1.24 gives
    #[test]
    fn cases_are_those_of_single_letters() {
        assert_eq!(lower("RED İ ΟΔΟΣ ẞ K Ǆ"), "red i οδοσ ß k ǆ");
        assert_eq!(upper("ß ŉ ﬁ ᾳ ᾀ ᾈ ſ ı ǆ ǅ µ ΐ"), "ß ŉ ﬁ ᾼ ᾈ ᾈ S I Ǆ Ǆ Μ ΐ");
    }

    #[test]
    fn what_cannot_be_seen_is_not_printed() {
        for c in ['a', ' ', 'é', '日', '👧', '\u{301}', '€', '…'] {
            assert!(is_printed(c), "{c:?}");
        }
        for c in ['\0', '\u{7f}', '\u{a0}', '\u{ad}', '\u{200d}', '\u{2028}', '\u{3000}', '\u{feff}', '\u{e000}'] {
            assert!(!is_printed(c), "{c:?}");
        }
    }
}
