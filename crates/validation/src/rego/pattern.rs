//! Regular expressions in Go's syntax (RE2), rewritten for the crate `regex`.
//!
//! The two read most patterns alike. Go's `\w`, `\d`, `\s`, `\b` know ASCII only, `\Q…\E` quotes, a class has no
//! operators (`[a&&b]`) and no classes in it, and a repetition is not repeated (`a**`).

use std::iter::Peekable;
use std::str::Chars;

/// Returns the pattern as the crate reads it; `None` where Go refuses it and the crate would not.
pub fn translate(pattern: &str) -> Option<String> {
    let mut rewriting = Rewriting { rest: pattern.chars().peekable(), out: String::with_capacity(pattern.len() + 8) };
    rewriting.pattern()?;
    Some(rewriting.out)
}

struct Rewriting<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
}

/// What a repetition can stand after.
#[derive(PartialEq)]
enum Before {
    Anything,
    Repetition,
    LazyRepetition,
}

impl Rewriting<'_> {
    fn pattern(&mut self) -> Option<()> {
        let mut before = Before::Anything;
        while let Some(c) = self.rest.next() {
            let mut now = Before::Anything;
            match c {
                '?' if before == Before::Repetition => {
                    self.out.push(c);
                    now = Before::LazyRepetition;
                }
                '*' | '+' | '?' => {
                    (before == Before::Anything).then_some(())?;
                    self.out.push(c);
                    now = Before::Repetition;
                }
                '{' => match self.counted() {
                    Some(length) => {
                        (before == Before::Anything).then_some(())?;
                        self.out.push(c);
                        self.out.extend(self.rest.by_ref().take(length));
                        now = Before::Repetition;
                    }
                    None => self.out.push_str(r"\{"),
                },
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => {
                    self.out.push(c);
                    self.flags()?;
                }
                c => self.out.push(c),
            }
            before = now;
        }
        Some(())
    }

    /// The length of `2}`, `2,}` or `2,3}`, when that is what follows.
    fn counted(&self) -> Option<usize> {
        let inside: String = self.rest.clone().take_while(|c| *c != '}').collect();
        let closed = self.rest.clone().nth(inside.chars().count()) == Some('}');
        let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        let holds = match inside.split_once(',') {
            Some((least, most)) => number(least) && (most.is_empty() || number(most)),
            None => number(&inside),
        };
        (closed && holds).then_some(inside.len() + 1)
    }

    /// Go has no flags for comments and for Unicode.
    fn flags(&mut self) -> Option<()> {
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('?') {
            let flags: String = ahead.take_while(|c| c.is_ascii_alphabetic() || *c == '-').collect();
            // a `P` begins a name
            return (flags.starts_with('P') || !flags.contains(['x', 'u', 'R'])).then_some(());
        }
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        match self.rest.next()? {
            'Q' => {
                let mut text = String::new();
                while let Some(c) = self.rest.next() {
                    if c == '\\' && self.rest.peek() == Some(&'E') {
                        self.rest.next();
                        break;
                    }
                    text.push(c);
                }
                self.out.push_str(&regex::escape(&text));
            }
            'b' => self.out.push_str(r"(?-u:\b)"),
            'B' => self.out.push_str(r"(?-u:\B)"),
            'u' | 'U' | 'C' => return None,
            c => match members(c) {
                Some((negated, members)) => {
                    self.out.push_str(if negated { "[^" } else { "[" });
                    self.out.push_str(members);
                    self.out.push(']');
                }
                None if c.is_ascii_punctuation() => self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                None => {
                    self.out.extend(['\\', c]);
                    self.rest_of_escape(c);
                }
            },
        }
        Some(())
    }

    /// Writes what belongs to an escape: `\x61`, `\x{61}`, `\pL`, `\p{Han}`.
    fn rest_of_escape(&mut self, c: char) {
        if !matches!(c, 'x' | 'p' | 'P') {
            return;
        }
        if self.rest.peek() == Some(&'{') {
            for c in self.rest.by_ref() {
                self.out.push(c);
                if c == '}' {
                    break;
                }
            }
        } else {
            self.out.extend(self.rest.by_ref().take(if c == 'x' { 2 } else { 1 }));
        }
    }

    fn class(&mut self) -> Option<()> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next()?;
            if c == ']' && !first {
                self.out.push(']');
                return Some(());
            }
            first = false;
            if c == '[' && self.rest.peek() == Some(&':') {
                let name: String = self.rest.clone().take_while(|c| *c != ']').collect();
                if name.len() > 1 && name.ends_with(':') {
                    self.out.push('[');
                    self.out.extend(self.rest.by_ref().take(name.chars().count() + 1));
                    continue;
                }
            }
            if self.member(c)? && self.rest.peek() == Some(&'-') {
                let mut ahead = self.rest.clone();
                ahead.next();
                if ahead.next().is_some_and(|c| c != ']') {
                    self.out.extend(self.rest.next());
                    let end = self.rest.next()?;
                    self.member(end)?.then_some(())?;
                }
            }
        }
    }

    /// Writes a member of a class; returns whether a range may begin with it.
    fn member(&mut self, c: char) -> Option<bool> {
        if c != '\\' {
            if c.is_ascii_punctuation() {
                self.out.push('\\');
            }
            self.out.push(c);
            return Some(true);
        }
        let c = self.rest.next()?;
        if let Some((negated, members)) = members(c) {
            if negated {
                self.out.push_str("[^");
            }
            self.out.push_str(members);
            if negated {
                self.out.push(']');
            }
            return Some(false);
        }
        if matches!(c, 'u' | 'U' | 'b' | 'B') {
            return None;
        }
        self.out.extend(['\\', c]);
        self.rest_of_escape(c);
        Some(!matches!(c, 'p' | 'P'))
    }
}

/// The members of a class of Perl's, and whether it is all others that are meant.
fn members(c: char) -> Option<(bool, &'static str)> {
    let members = match c.to_ascii_lowercase() {
        'w' => "0-9A-Za-z_",
        'd' => "0-9",
        's' => r"\t\n\f\r ",
        _ => return None,
    };
    Some((c.is_ascii_uppercase(), members))
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[track_caller]
    fn check(pattern: &str, expected: Option<&str>) {
        assert_eq!(translate(pattern).as_deref(), expected, "{pattern}");
        if let Some(expected) = expected {
            assert!(regex::Regex::new(expected).is_ok(), "{expected}");
        }
    }

    #[test]
    fn patterns_that_mean_the_same_stay() {
        for same in
            [r"^(([A-Za-z0-9][\-A-Za-z0-9\.]*)?[A-Za-z0-9])?$", "a{2,3}?b+", "(?i)x|(?P<n>y)", r"\pL\p{Han}\x61\z"]
        {
            check(same, Some(same));
        }
    }

    #[test]
    fn patterns_of_go_are_rewritten() {
        check(r"\bvm\d", Some(r"(?-u:\b)vm[0-9]"));
        check(r"[\w.]\W", Some(r"[0-9A-Za-z_\.][^0-9A-Za-z_]"));
        check(r"\Qa.b\Ec*", Some(r"a\.bc*"));
        check("[a&&b]", Some(r"[a\&\&b]"));
        check("[a-z--b]", Some(r"[a-z\--b]"));
        check("[[:alpha:]]x{", Some(r"[[:alpha:]]x\{"));
        check("[]a[]", Some(r"[\]a\[]"));
    }

    #[test]
    fn patterns_that_go_refuses_are_refused() {
        for refused in ["a**", "a+*", "a{2}{3}", r"\u0061", "(?x) a", "[a", "a\\"] {
            check(refused, None);
        }
    }
}
