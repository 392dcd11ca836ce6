//! Text to tokens.

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name.
    Ident(String),
    /// A whole number.
    Int(u64),
    /// A number that ends in `u`.
    Uint(u64),
    /// A number with a point or an exponent.
    Double(f64),
    /// A string.
    Text(String),
    /// A string of bytes.
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Mark(&'static str),
    /// The end.
    End,
}

impl Token {
    /// The token as messages quote it.
    pub fn show(&self) -> String {
        match self {
            Self::Ident(name) => name.clone(),
            Self::Int(n) => n.to_string(),
            Self::Uint(n) => format!("{n}u"),
            Self::Double(n) => n.to_string(),
            Self::Text(text) => format!("'{text}'"),
            Self::Bytes(_) => "bytes".into(),
            Self::Mark(mark) => (*mark).into(),
            Self::End => "<EOF>".into(),
        }
    }
}

/// A token and the character at which it starts.
pub type Placed = (Token, usize);

/// What could not be read, and where.
#[derive(Debug)]
pub struct LexError {
    /// Character.
    pub at: usize,
    /// Why.
    pub message: String,
}

const MARKS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")", "[", "]",
    "{", "}",
];

struct Lexer {
    text: Vec<char>,
    at: usize,
}

/// Splits the source; the last token is the end.
pub fn tokens(source: &str) -> Result<Vec<Placed>, LexError> {
    let mut lexer = Lexer { text: source.chars().collect(), at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_space();
        let start = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        found.push((token, start));
        if end {
            return Ok(found);
        }
    }
}

impl Lexer {
    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn wrong<T>(&self, at: usize, message: impl Into<String>) -> Result<T, LexError> {
        Err(LexError { at, message: message.into() })
    }

    fn skip_space(&mut self) {
        loop {
            while self.at < self.text.len() && self.peek(0).is_whitespace() {
                self.at += 1;
            }
            if self.peek(0) != '/' || self.peek(1) != '/' {
                return;
            }
            while self.at < self.text.len() && self.peek(0) != '\n' {
                self.at += 1;
            }
        }
    }

    fn next(&mut self) -> Result<Token, LexError> {
        if self.at >= self.text.len() {
            return Ok(Token::End);
        }
        let c = self.peek(0);
        if let Some(prefix) = self.string_prefix() {
            return self.string(prefix);
        }
        if c.is_ascii_alphabetic() || c == '_' {
            let start = self.at;
            while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
                self.at += 1;
            }
            return Ok(Token::Ident(self.text[start..self.at].iter().collect()));
        }
        if c.is_ascii_digit() || c == '.' && self.peek(1).is_ascii_digit() {
            return self.number();
        }
        for mark in MARKS {
            if mark.chars().enumerate().all(|(i, m)| self.peek(i) == m) {
                self.at += mark.len();
                return Ok(Token::Mark(mark));
            }
        }
        self.wrong(self.at, format!("Syntax error: token recognition error at: '{c}'"))
    }

    /// Raw and bytes flags and the length of the prefix, when a string starts here.
    fn string_prefix(&self) -> Option<(bool, bool, usize)> {
        let quote = |n: usize| matches!(self.peek(n), '\'' | '"');
        match (self.peek(0).to_ascii_lowercase(), self.peek(1).to_ascii_lowercase()) {
            ('\'' | '"', _) => Some((false, false, 0)),
            ('r', _) if quote(1) => Some((true, false, 1)),
            ('b', _) if quote(1) => Some((false, true, 1)),
            ('r', 'b') | ('b', 'r') if quote(2) => Some((true, true, 2)),
            _ => None,
        }
    }

    fn string(&mut self, (raw, bytes, skip): (bool, bool, usize)) -> Result<Token, LexError> {
        let start = self.at;
        self.at += skip;
        let quote = self.peek(0);
        let long = self.peek(1) == quote && self.peek(2) == quote;
        let marks = if long { 3 } else { 1 };
        self.at += marks;
        let (mut text, mut raw_bytes) = (String::new(), Vec::new());
        loop {
            if self.at >= self.text.len() || !long && self.peek(0) == '\n' {
                return self.wrong(start, format!("Syntax error: token recognition error at: '{}'", self.rest(start)));
            }
            if (0..marks).all(|i| self.peek(i) == quote) {
                self.at += marks;
                break;
            }
            let c = self.peek(0);
            self.at += 1;
            let mut push = |c: char| {
                text.push(c);
                raw_bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            };
            if c != '\\' || raw {
                push(c);
                continue;
            }
            match self.escape()? {
                Escape::Char(c) => push(c),
                Escape::Byte(b) if bytes => raw_bytes.push(b),
                Escape::Byte(b) => push(char::from(b)),
            }
        }
        Ok(if bytes { Token::Bytes(raw_bytes) } else { Token::Text(text) })
    }

    fn rest(&self, start: usize) -> String {
        self.text[start..].iter().collect()
    }

    fn escape(&mut self) -> Result<Escape, LexError> {
        let start = self.at - 1;
        let c = self.peek(0);
        self.at += 1;
        let plain = match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' | '\'' | '"' | '`' | '?' => c,
            'x' | 'X' => return self.digits(start, 2, 16),
            'u' => return self.digits(start, 4, 16),
            'U' => return self.digits(start, 8, 16),
            '0'..='3' => {
                self.at -= 1;
                return self.digits(start, 3, 8);
            }
            _ => return self.wrong(start, "Syntax error: invalid escape sequence"),
        };
        Ok(Escape::Char(plain))
    }

    fn digits(&mut self, start: usize, count: usize, radix: u32) -> Result<Escape, LexError> {
        let text: String = (0..count).map(|i| self.peek(i)).collect();
        self.at += count;
        let Ok(code) = u32::from_str_radix(&text, radix) else {
            return self.wrong(start, "Syntax error: invalid escape sequence");
        };
        match (u8::try_from(code), char::from_u32(code)) {
            (Ok(byte), _) if count < 4 => Ok(Escape::Byte(byte)),
            (_, Some(c)) => Ok(Escape::Char(c)),
            _ => self.wrong(start, "Syntax error: invalid unicode code point"),
        }
    }

    fn number(&mut self) -> Result<Token, LexError> {
        let start = self.at;
        let hex = self.peek(0) == '0' && matches!(self.peek(1), 'x' | 'X');
        if hex {
            self.at += 2;
        }
        let from = self.at;
        let mut double = false;
        while if hex { self.peek(0).is_ascii_hexdigit() } else { self.peek(0).is_ascii_digit() } {
            self.at += 1;
        }
        if !hex && self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            double = true;
            self.at += 1;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        let sign = usize::from(matches!(self.peek(1), '+' | '-'));
        if !hex && matches!(self.peek(0), 'e' | 'E') && self.peek(1 + sign).is_ascii_digit() {
            double = true;
            self.at += 1 + sign;
            while self.peek(0).is_ascii_digit() {
                self.at += 1;
            }
        }
        let text: String = self.text[from..self.at].iter().collect();
        if double {
            return match text.parse() {
                Ok(number) => Ok(Token::Double(number)),
                Err(_) => self.wrong(start, "invalid double literal"),
            };
        }
        let number = u64::from_str_radix(&text, if hex { 16 } else { 10 });
        let unsigned = matches!(self.peek(0), 'u' | 'U');
        self.at += usize::from(unsigned);
        match number {
            Ok(number) if unsigned => Ok(Token::Uint(number)),
            Ok(number) => Ok(Token::Int(number)),
            Err(_) if unsigned => self.wrong(start, "invalid uint literal"),
            Err(_) => self.wrong(start, "invalid int literal"),
        }
    }
}

enum Escape {
    Char(char),
    Byte(u8),
}
