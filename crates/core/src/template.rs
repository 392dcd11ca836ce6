//! Name templates: the part of Go templates that names need — text, fields, literals, pipelines, parentheses and the
//! string and number functions users are told of, comparisons and conditions. Variables and loops are refused with a
//! message.
use std::collections::BTreeMap;
use std::fmt;

use regex::Regex;

/// What a template can use, by field name.
pub type Data = BTreeMap<String, Value>;

/// A value of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// Number.
    Number(i64),
    /// Yes or no.
    Bool(bool),
}

impl Value {
    /// Returns whether a condition holds: everything but `false`, 0 and the empty text, as in Go.
    fn is_true(&self) -> bool {
        match self {
            Value::Text(text) => !text.is_empty(),
            Value::Number(number) => *number != 0,
            Value::Bool(yes) => *yes,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Text(text) => f.write_str(text),
            Value::Number(number) => write!(f, "{number}"),
            Value::Bool(yes) => write!(f, "{yes}"),
        }
    }
}

/// Why a template does not give a text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`, or a quote or parenthesis that does not close.
    #[error("template is not closed: {0:?}")]
    Unclosed(String),
    /// Something in an action that cannot be read.
    #[error("template has {0:?} where a value was expected")]
    Unexpected(String),
    /// A field that there is not.
    #[error("template uses the unknown field .{0}")]
    Field(String),
    /// A function that there is not.
    #[error("template uses the unknown function {0}")]
    Function(String),
    /// Arguments that do not fit.
    #[error("template function {0} got arguments that do not fit")]
    Arguments(String),
}

/// Renders a template.
pub fn render(template: &str, data: &Data) -> Result<String, TemplateError> {
    let parts = parts(template)?;
    let mut rendering = Rendering { parts: &parts, at: 0, data, out: String::new() };
    match rendering.block(true)? {
        None => Ok(rendering.out),
        Some(word) => Err(TemplateError::Unexpected(format!("{{{{{word}}}}} without {{{{if}}}}"))),
    }
}

/// What a template consists of: text as it is, and the tokens of an action.
enum Part<'t> {
    Text(&'t str),
    Action(Vec<Token>),
}

fn parts(template: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((action, tail)) = after.split_once("}}") else {
            return Err(TemplateError::Unclosed(format!("{{{{{after}")));
        };
        let trims_left = action.starts_with("- ");
        let trims_right = action.ends_with(" -");
        parts.push(Part::Text(if trims_left { before.trim_end() } else { before }));
        let action = action.trim_start_matches("- ").trim_end_matches(" -").trim();
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            parts.push(Part::Action(tokens(action)?));
        }
        rest = if trims_right { tail.trim_start() } else { tail };
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// A template that is being rendered.
struct Rendering<'a, 't> {
    parts: &'a [Part<'t>],
    at: usize,
    data: &'a Data,
    out: String,
}

impl<'a> Rendering<'a, '_> {
    /// Goes on to the end of the block; returns the word that ended it (`end`, `else`, `else if`), with `at` on its
    /// action. Where the block is not `shown` it is only read, so that a mistake in it does not hide.
    fn block(&mut self, shown: bool) -> Result<Option<&'static str>, TemplateError> {
        while let Some(part) = self.parts.get(self.at) {
            match part {
                Part::Text(text) if shown => self.out.push_str(text),
                Part::Text(_) => {}
                Part::Action(tokens) => match tokens.as_slice() {
                    [Token::Word(word)] if word == "end" => return Ok(Some("end")),
                    [Token::Word(word)] if word == "else" => return Ok(Some("else")),
                    [Token::Word(first), Token::Word(second), ..] if first == "else" && second == "if" => {
                        return Ok(Some("else if"));
                    }
                    [Token::Word(word), condition @ ..] if word == "if" => {
                        self.condition(condition, shown)?;
                    }
                    tokens => {
                        let value = evaluate(tokens, self.data);
                        if shown {
                            self.out.push_str(&value?.to_string());
                        } else if let Err(error @ (TemplateError::Field(_) | TemplateError::Function(_))) = value {
                            return Err(error);
                        }
                    }
                },
            }
            self.at += 1;
        }
        Ok(None)
    }

    /// Renders `{{if}} … {{else if}} … {{else}} … {{end}}`; leaves `at` on the end.
    fn condition(&mut self, condition: &'a [Token], shown: bool) -> Result<(), TemplateError> {
        let mut holds = evaluate(condition, self.data)?.is_true();
        let mut done = !shown;
        let mut last = false;
        loop {
            self.at += 1;
            let ended = self.block(holds && !done)?;
            done |= holds;
            match (ended, self.parts.get(self.at)) {
                (Some("end"), _) => return Ok(()),
                (Some("else"), _) if !last => {
                    holds = true;
                    last = true;
                }
                (Some("else if"), Some(Part::Action(tokens))) if !last => {
                    holds = evaluate(tokens.get(2..).unwrap_or_default(), self.data)?.is_true();
                }
                (Some(word), _) => return Err(TemplateError::Unexpected(format!("{{{{{word}}}}} after {{{{else}}}}"))),
                (None, _) => return Err(TemplateError::Unclosed("{{if}} without {{end}}".into())),
            }
        }
    }
}

fn evaluate(tokens: &[Token], data: &Data) -> Result<Value, TemplateError> {
    let mut reader = Reader { tokens, at: 0, data };
    let value = reader.pipeline()?;
    match reader.peek() {
        None => Ok(value),
        Some(token) => Err(TemplateError::Unexpected(format!("{token:?}"))),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(Value),
    Field(String),
    Word(String),
    Pipe,
    Open,
    Close,
}

fn tokens(action: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut chars = action.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => {}
            '|' => tokens.push(Token::Pipe),
            '(' => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            quote @ ('"' | '`') => {
                let mut text = String::new();
                loop {
                    match chars.next() {
                        None => return Err(TemplateError::Unclosed(action.to_owned())),
                        Some(c) if c == quote => break,
                        Some('\\') if quote == '"' => match chars.next() {
                            Some('n') => text.push('\n'),
                            Some('t') => text.push('\t'),
                            Some(c) => text.push(c),
                            None => return Err(TemplateError::Unclosed(action.to_owned())),
                        },
                        Some(c) => text.push(c),
                    }
                }
                tokens.push(Token::Literal(Value::Text(text)));
            }
            c if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') => {
                let mut word = String::from(c);
                while let Some(&c) = chars.peek() {
                    if !(c.is_alphanumeric() || c == '_') {
                        break;
                    }
                    word.push(c);
                    chars.next();
                }
                tokens.push(match (word.strip_prefix('.'), word.parse::<i64>()) {
                    (Some(field), _) => Token::Field(field.to_owned()),
                    (None, Ok(number)) => Token::Literal(Value::Number(number)),
                    (None, Err(_)) if word == "true" || word == "false" => Token::Literal(Value::Bool(word == "true")),
                    (None, Err(_)) => Token::Word(word),
                });
            }
            c => return Err(TemplateError::Unexpected(c.to_string())),
        }
    }
    Ok(tokens)
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    data: &'a Data,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn pipeline(&mut self) -> Result<Value, TemplateError> {
        let mut value = self.command(None)?;
        while self.peek() == Some(&Token::Pipe) {
            self.at += 1;
            value = self.command(Some(value))?;
        }
        Ok(value)
    }

    /// A function with its arguments, the piped value being the last; or a single value.
    fn command(&mut self, piped: Option<Value>) -> Result<Value, TemplateError> {
        if let Some(Token::Word(name)) = self.peek().cloned() {
            self.at += 1;
            let mut arguments = Vec::new();
            while !matches!(self.peek(), None | Some(Token::Pipe | Token::Close)) {
                arguments.push(self.operand()?);
            }
            arguments.extend(piped);
            return call(&name, &arguments);
        }
        match piped {
            None => self.operand(),
            Some(_) => Err(TemplateError::Unexpected("a value after |".into())),
        }
    }

    fn operand(&mut self) -> Result<Value, TemplateError> {
        let token = self.peek().cloned();
        self.at += 1;
        match token {
            Some(Token::Literal(value)) => Ok(value),
            Some(Token::Field(name)) => self.data.get(&name).cloned().ok_or(TemplateError::Field(name)),
            Some(Token::Open) => {
                let value = self.pipeline()?;
                if self.peek() != Some(&Token::Close) {
                    return Err(TemplateError::Unclosed("(".into()));
                }
                self.at += 1;
                Ok(value)
            }
            Some(Token::Word(word)) => call(&word, &[]),
            Some(other @ (Token::Pipe | Token::Close)) => Err(TemplateError::Unexpected(format!("{other:?}"))),
            None => Err(TemplateError::Unexpected("the end".into())),
        }
    }
}

fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let wrong = || TemplateError::Arguments(name.to_owned());
    let text = |at: usize| -> Result<&str, TemplateError> {
        match arguments.get(at) {
            Some(Value::Text(text)) => Ok(text),
            Some(Value::Number(_) | Value::Bool(_)) | None => Err(wrong()),
        }
    };
    let number = |at: usize| -> Result<i64, TemplateError> {
        match arguments.get(at) {
            Some(Value::Number(number)) => Ok(*number),
            Some(Value::Text(text)) => text.trim().parse().map_err(|_| wrong()),
            Some(Value::Bool(_)) | None => Err(wrong()),
        }
    };
    let numbers = || (0..arguments.len()).map(number).collect::<Result<Vec<_>, _>>();
    let ok = |text: String| Ok(Value::Text(text));
    let count = |wanted: usize| if arguments.len() == wanted { Ok(()) } else { Err(wrong()) };
    match name {
        "lower" => count(1).and_then(|()| ok(text(0)?.to_lowercase())),
        "upper" => count(1).and_then(|()| ok(text(0)?.to_uppercase())),
        "trim" => count(1).and_then(|()| ok(text(0)?.trim().to_owned())),
        "nospace" => count(1).and_then(|()| ok(text(0)?.chars().filter(|c| !c.is_whitespace()).collect())),
        "title" => count(1).and_then(|()| ok(capitals(text(0)?, char::to_uppercase))),
        "untitle" => count(1).and_then(|()| ok(capitals(text(0)?, char::to_lowercase))),
        "initials" => ok(text(0)?.split_whitespace().filter_map(|word| word.chars().next()).collect()),
        "trimAll" => {
            let cutset: Vec<char> = text(0)?.chars().collect();
            ok(text(1)?.trim_matches(&cutset[..]).to_owned())
        }
        "trimSuffix" => ok(text(1)?.strip_suffix(text(0)?).unwrap_or(text(1)?).to_owned()),
        "trimPrefix" => ok(text(1)?.strip_prefix(text(0)?).unwrap_or(text(1)?).to_owned()),
        "replace" => ok(text(2)?.replace(text(0)?, text(1)?)),
        "contains" => Ok(Value::Bool(text(1)?.contains(text(0)?))),
        "hasPrefix" => Ok(Value::Bool(text(1)?.starts_with(text(0)?))),
        "hasSuffix" => Ok(Value::Bool(text(1)?.ends_with(text(0)?))),
        "repeat" => match usize::try_from(number(0)?) {
            Ok(times) if times.saturating_mul(text(1)?.len()) <= 4096 => ok(text(1)?.repeat(times)),
            Ok(_) | Err(_) => Err(wrong()),
        },
        "trunc" => {
            let (length, chars) = (number(0)?, text(1)?.chars().collect::<Vec<_>>());
            let most = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX).min(chars.len());
            ok(if length < 0 { chars[chars.len() - most..].iter().collect() } else { chars[..most].iter().collect() })
        }
        "substr" => {
            let chars = text(2)?.chars().collect::<Vec<_>>();
            let start = usize::try_from(number(0)?.max(0)).unwrap_or(0).min(chars.len());
            let end = usize::try_from(number(1)?).unwrap_or(chars.len()).min(chars.len());
            ok(chars.get(start..end.max(start)).unwrap_or_default().iter().collect())
        }
        "mustRegexReplaceAll" | "regexReplaceAll" => {
            let pattern = Regex::new(text(0)?).map_err(|_| wrong())?;
            ok(pattern.replace_all(text(1)?, text(2)?).into_owned())
        }
        "add" => Ok(Value::Number(numbers()?.iter().fold(0, |a, b| a.wrapping_add(*b)))),
        "mul" => Ok(Value::Number(numbers()?.iter().fold(1, |a, b| a.wrapping_mul(*b)))),
        "add1" => Ok(Value::Number(number(0)?.wrapping_add(1))),
        "sub" => Ok(Value::Number(number(0)?.wrapping_sub(number(1)?))),
        "div" => number(0)?.checked_div(number(1)?).map(Value::Number).ok_or_else(wrong),
        "mod" => number(0)?.checked_rem(number(1)?).map(Value::Number).ok_or_else(wrong),
        "max" => numbers()?.into_iter().max().map(Value::Number).ok_or_else(wrong),
        "min" => numbers()?.into_iter().min().map(Value::Number).ok_or_else(wrong),
        "floor" | "ceil" | "round" => Ok(Value::Number(number(0)?)),
        "eq" if arguments.len() >= 2 => {
            let (first, rest) = arguments.split_first().ok_or_else(wrong)?;
            let same_kind = |other: &Value| std::mem::discriminant(other) == std::mem::discriminant(first);
            if rest.iter().all(same_kind) { Ok(Value::Bool(rest.contains(first))) } else { Err(wrong()) }
        }
        "ne" => call("eq", arguments).map(|same| Value::Bool(same == Value::Bool(false))),
        "lt" | "le" | "gt" | "ge" => {
            let order = match arguments {
                [Value::Number(a), Value::Number(b)] => a.cmp(b),
                [Value::Text(a), Value::Text(b)] => a.cmp(b),
                _ => return Err(wrong()),
            };
            Ok(Value::Bool(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }))
        }
        "not" => count(1).map(|()| Value::Bool(!arguments[0].is_true())),
        "and" => arguments.iter().find(|a| !a.is_true()).or(arguments.last()).cloned().ok_or_else(wrong),
        "or" => arguments.iter().find(|a| a.is_true()).or(arguments.last()).cloned().ok_or_else(wrong),
        "len" => count(1).and_then(|()| Ok(Value::Number(text(0)?.len() as i64))),
        "printf" => ok(formatted(text(0)?, &arguments[1..]).ok_or_else(wrong)?),
        "print" => ok(arguments.iter().map(Value::to_string).collect()),
        other => Err(TemplateError::Function(other.to_owned())),
    }
}

/// Go's `printf` as far as names need it: `%s`, `%d`, `%v`, `%t`, `%x`, `%X` with `-`, `0` and a width, and `%%`. `None`
/// where a verb does not fit its argument, or their numbers differ.
fn formatted(format: &str, arguments: &[Value]) -> Option<String> {
    let mut arguments = arguments.iter();
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let flags = after.len() - after.trim_start_matches(['-', '0']).len();
        let (flags, after) = after.split_at(flags);
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (width, after) = after.split_at(digits);
        let width: usize = if width.is_empty() { 0 } else { width.parse().ok().filter(|width| *width <= 256)? };
        let verb = after.chars().next()?;
        rest = &after[verb.len_utf8()..];
        let shown = match (verb, if verb == '%' { None } else { arguments.next() }) {
            ('%', None) => "%".to_owned(),
            ('v', Some(value)) => value.to_string(),
            ('s', Some(Value::Text(text))) => text.clone(),
            ('d', Some(Value::Number(number))) => number.to_string(),
            ('t', Some(Value::Bool(yes))) => yes.to_string(),
            ('x', Some(Value::Number(number))) if *number >= 0 => format!("{number:x}"),
            ('X', Some(Value::Number(number))) if *number >= 0 => format!("{number:X}"),
            _ => return None,
        };
        let missing = width.saturating_sub(shown.chars().count());
        match (flags.contains('-'), flags.contains('0') && verb != 's') {
            (true, _) => out.extend([shown, " ".repeat(missing)]),
            (false, true) if shown.starts_with('-') => {
                out.extend(["-".to_owned(), "0".repeat(missing), shown[1..].to_owned()])
            }
            (false, true) => out.extend(["0".repeat(missing), shown]),
            (false, false) => out.extend([" ".repeat(missing), shown]),
        }
    }
    out.push_str(rest);
    arguments.next().is_none().then_some(out)
}

fn capitals<I: Iterator<Item = char>>(text: &str, change: impl Fn(char) -> I) -> String {
    let mut start = true;
    let mut out = String::new();
    for c in text.chars() {
        if start {
            out.extend(change(c))
        } else {
            out.push(c)
        }
        start = c.is_whitespace();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: &str) {
        let data: Data = [("PlanName", "test-plan"), ("Input", "test123word456"), ("Drive", "C:\\")]
            .into_iter()
            .map(|(k, v)| (k.to_owned(), v.into()))
            .chain([("DiskIndex".to_owned(), Value::Number(2))])
            .collect();
        let got = render(template, &data).unwrap_or_else(|error| format!("error: {error}"));
        assert_eq!(got, expected, "{template}");
    }

    #[test]
    fn vectors() {
        check("{{trunc 4 .PlanName}}-disk-{{.DiskIndex}}", "test-disk-2");
        check("Result: {{add 1 2 3}}", "Result: 6");
        check(r#"{{mustRegexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W"}}"#, "-W-xxW-");
        check(r#"{{mustRegexReplaceAll "([a-z]+)([0-9]+)" .Input "$2-$1"}}"#, "123-test456-word");
        check(r#"disk-{{ mustRegexReplaceAll "([A-Za-z]+):.*" .Drive "$1" | lower }}"#, "disk-c");
        check(r#"{{ .PlanName | replace "-" "" | upper }}"#, "TESTPLAN");
        check("{{ add1 (mul .DiskIndex 3) }}", "7");
        check("{{trunc -4 .PlanName}}", "plan");
        check(r#"{{printf "%s-disk%02d" .PlanName .DiskIndex}}"#, "test-plan-disk02");
        check(r#"{{.DiskIndex | printf "%-3v|%3d%%|%03d" "a" -5}}"#, "a  | -5%|002");
        check(r#"{{printf "%X-%t" 31 true}}"#, "1F-true");
    }

    #[test]
    fn conditions() {
        for (text, expected) in [
            ("{{if eq .DiskIndex 2}}root{{else}}data{{end}}-{{.DiskIndex}}", "root-2"),
            ("{{if eq .DiskIndex 0}}root{{else}}data{{end}}-{{.DiskIndex}}", "data-2"),
            ("{{if eq .DiskIndex 0 1 2}}low{{end}}", "low"),
            ("{{if lt .DiskIndex 2}}a{{else if gt .DiskIndex 2}}b{{else}}c{{end}}", "c"),
            ("{{if .PlanName}}{{if ne .DiskIndex 2}}x{{else}}y{{end}}{{end}}z", "yz"),
            ("{{if and .PlanName (not (hasPrefix \"x\" .PlanName))}}ok{{end}}", "ok"),
            ("{{- if or false .DiskIndex -}} a {{- end -}} ", "a"),
            ("{{if false}}{{div 1 0}}{{end}}never", "never"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        check("Hello, {{.Name}", "error: template is not closed: \"{{.Name}\"");
        check("{{.Nope}}", "error: template uses the unknown field .Nope");
        check("{{if .PlanName}}x", "error: template is not closed: \"{{if}} without {{end}}\"");
        check("x{{end}}", "error: template has \"{{end}} without {{if}}\" where a value was expected");
        check(
            "{{if true}}a{{else}}b{{else}}c{{end}}",
            "error: template has \"{{else}} after {{else}}\" where a value was expected",
        );
        check("{{if true}}a{{else}}{{.Nope}}{{end}}", "error: template uses the unknown field .Nope");
        check("{{range .PlanName}}x{{end}}", "error: template uses the unknown function range");
        check("{{eq .DiskIndex .PlanName}}", "error: template function eq got arguments that do not fit");
        check("{{div 1 0}}", "error: template function div got arguments that do not fit");
        for wrong in [r#"%d" .PlanName"#, r#"%s" 1"#, r#"%d""#, r#"a" 1"#, r#"%9999d" 1"#, r#"%"#] {
            let text = format!("{{{{printf \"{wrong}}}}}");
            assert!(render(&text, &[("PlanName".to_owned(), "p".into())].into()).is_err(), "{text}");
        }
        check("{{\"a}}", "error: template is not closed: \"\\\"a\"");
        check("{{}}", "error: template has \"the end\" where a value was expected");
    }
}
