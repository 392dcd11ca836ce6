//! The text form of label selectors: `app=x,tier in (a,b),!old,count>3`, with the messages that Kubernetes gives.
//!
//! ```text
//!   selector    := requirement { "," requirement }
//!   requirement := [ "!" ] key  |  key ( "=" | "==" | "!=" | "<" | ">" ) [ value ]  |  key ( "in" | "notin" ) set
//!   set         := "(" [ value ] { "," [ value ] } ")"
//! ```

use std::collections::VecDeque;

use super::{Operator, Requirement};
use crate::error::{ApiError, ApiResult};
use crate::resources::metadata;

/// Reads a selector; an empty one selects everything.
pub fn parse(text: &str) -> ApiResult<Vec<Requirement>> {
    let mut tokens = Tokens(scan(text));
    let mut requirements = Vec::new();
    if tokens.peek().is_empty() {
        return Ok(requirements);
    }
    loop {
        let first = tokens.peek();
        if is_symbol(first) && first != "!" {
            return Err(wrong(format!("found '{first}', expected: !, identifier, or 'end of string'")));
        }
        let requirement =
            requirement(&mut tokens).map_err(|why| wrong(format!("unable to parse requirement: {why}")))?;
        requirements.push(requirement);
        match tokens.take().as_str() {
            "" => return Ok(requirements),
            "," => {
                let next = tokens.peek();
                if next.is_empty() || is_symbol(next) && next != "!" {
                    return Err(wrong(format!("found '{next}', expected: identifier after ','")));
                }
            }
            other => return Err(wrong(format!("found '{other}', expected: ',' or 'end of string'"))),
        }
    }
}

fn wrong(message: String) -> ApiError {
    ApiError::bad_request(message)
}

struct Tokens(VecDeque<String>);

impl Tokens {
    /// The next token, empty at the end.
    fn peek(&self) -> &str {
        self.0.front().map(String::as_str).unwrap_or_default()
    }

    fn take(&mut self) -> String {
        self.0.pop_front().unwrap_or_default()
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '<' | '>')
}

fn is_symbol(token: &str) -> bool {
    token.starts_with(is_special)
}

fn scan(text: &str) -> VecDeque<String> {
    let mut tokens = VecDeque::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("==") || rest.starts_with("!=") {
            2
        } else if is_special(first) {
            1
        } else {
            rest.find(|c: char| is_special(c) || c.is_whitespace()).unwrap_or(rest.len())
        };
        let (token, tail) = rest.split_at(length);
        tokens.push_back(token.to_string());
        rest = tail.trim_start();
    }
    tokens
}

fn requirement(tokens: &mut Tokens) -> Result<Requirement, String> {
    let absent = tokens.peek() == "!";
    if absent {
        tokens.take();
    }
    let key = tokens.take();
    if key.is_empty() || is_symbol(&key) {
        return Err(format!("found '{key}', expected: identifier"));
    }
    if let Some(why) = metadata::qualified(&key) {
        return Err(format!("<nil>: Invalid value: \"{key}\": {why}"));
    }
    if absent {
        return Ok(Requirement { key, operator: Operator::Absent });
    }
    let operator = match tokens.peek() {
        "" | "," => Operator::Exists,
        "in" => Operator::In(set(tokens)?),
        "notin" => Operator::NotIn(set(tokens)?),
        "=" | "==" => Operator::In(vec![value(tokens)?]),
        "!=" => Operator::NotIn(vec![value(tokens)?]),
        ">" => Operator::Above(number(tokens)?),
        "<" => Operator::Below(number(tokens)?),
        other => return Err(format!("found '{other}', expected: in, notin, =, ==, !=, gt, lt")),
    };
    if let Operator::In(values) | Operator::NotIn(values) = &operator {
        for (index, value) in values.iter().enumerate() {
            if let Some(why) = metadata::label_value(value) {
                return Err(format!("values[{index}][{key}]: Invalid value: \"{value}\": {why}"));
            }
        }
    }
    Ok(Requirement { key, operator })
}

/// The value behind an operator, which is taken too.
fn value(tokens: &mut Tokens) -> Result<String, String> {
    tokens.take();
    match tokens.peek() {
        "" | "," => Ok(String::new()),
        other if is_symbol(other) => Err(format!("found '{other}', expected: identifier")),
        _ => Ok(tokens.take()),
    }
}

fn number(tokens: &mut Tokens) -> Result<i64, String> {
    let text = value(tokens)?;
    text.parse().map_err(|_| {
        format!("values[0]: Invalid value: \"{text}\": for 'Gt', 'Lt' operators, the value must be an integer")
    })
}

/// The set behind `in` or `notin`, which is taken too; nothing between two commas is the empty value.
fn set(tokens: &mut Tokens) -> Result<Vec<String>, String> {
    tokens.take();
    let open = tokens.take();
    if open != "(" {
        return Err(format!("found '{open}' expected: '('"));
    }
    let mut values = Vec::new();
    loop {
        let item = match tokens.peek() {
            "," | ")" => String::new(),
            other if other.is_empty() || is_symbol(other) => {
                return Err(format!("found '{other}', expected: ',', ')' or identifier"));
            }
            _ => tokens.take(),
        };
        values.push(item);
        match tokens.take().as_str() {
            "," => {}
            ")" => return Ok(values),
            other => return Err(format!("found '{other}', expected: ',' or ')'")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(text: &str) -> String {
        parse(text).unwrap_err().message
    }

    #[test]
    fn selectors_of_every_form() {
        let count = |text: &str| parse(text).unwrap().len();
        for (text, requirements) in
            [("", 0), ("a", 1), ("! a", 1), ("a=b,c", 2), ("a in (x, y),b notin ()", 2), ("a>1,b<2", 2), ("in=in", 1)]
        {
            assert_eq!(count(text), requirements, "{text}");
        }
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(fails("a b"), "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
        assert_eq!(fails("=x"), "found '=', expected: !, identifier, or 'end of string'");
        assert_eq!(fails("x=y=z"), "found '=', expected: ',' or 'end of string'");
        assert_eq!(fails("x,"), "found '', expected: identifier after ','");
        assert_eq!(fails("x in y"), "unable to parse requirement: found 'y' expected: '('");
        assert_eq!(fails("x in ("), "unable to parse requirement: found '', expected: ',', ')' or identifier");
        assert_eq!(fails("!"), "unable to parse requirement: found '', expected: identifier");
        assert!(fails("x>a").contains("must be an integer"));
    }
}
