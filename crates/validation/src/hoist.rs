//! Arguments of negated calls, hoisted.
//!
//! In OPA an undefined argument of a negated call makes the rule's body
//! undefined: the compiler evaluates the argument before the negation. regorus
//! evaluates it inside, finds "no result", and the negation holds:
//!
//! ```rego
//! not regex.match("x", input.missing)   # OPA: body undefined      regorus: true
//! ```
//!
//! So each such statement is rewritten before it is compiled, on its own line so
//! that line numbers in messages stay right:
//!
//! ```rego
//! hoisted_1 := input.missing; not regex.match("x", hoisted_1)
//! ```
//!
//! `not input.missing` and `not a == b` agree already and are left alone.

/// Returns the module's text with the arguments of negated calls hoisted.
pub fn rewrite(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    let mut rest = text;
    let mut names = 0;
    let mut before = Before::default();
    while let Some(c) = rest.chars().next() {
        if let Some(len) = opaque(rest) {
            out.push_str(&rest[..len]);
            before.word.clear();
            rest = &rest[len..];
            continue;
        }
        if c.is_alphabetic() || c == '_' {
            let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let word = &rest[..len];
            if word == "not" {
                if let Some((taken, statement)) = negation(&rest[len..], before.word == "if", &mut names) {
                    out.push_str(&statement);
                    rest = &rest[len + taken..];
                    before.word.clear();
                    continue;
                }
            }
            out.push_str(word);
            before.word = word.to_owned();
            rest = &rest[len..];
            continue;
        }
        if !c.is_whitespace() {
            before.word.clear();
        }
        out.push(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[derive(Default)]
struct Before {
    word: String,
}

/// Returns the length of a comment or string literal that the text begins with.
fn opaque(text: &str) -> Option<usize> {
    match text.as_bytes().first()? {
        b'#' => Some(text.find('\n').unwrap_or(text.len())),
        b'`' => Some(text[1..].find('`').map_or(text.len(), |i| i + 2)),
        b'"' => {
            let mut escaped = false;
            let end = text[1..].char_indices().find(|(_, c)| {
                let closes = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                closes
            });
            Some(end.map_or(text.len(), |(i, _)| i + 2))
        }
        _ => None,
    }
}

/// Rewrites the statement after a `not`: returns how much of it was taken, and the new statements.
fn negation(after: &str, single: bool, names: &mut usize) -> Option<(usize, String)> {
    let length = statement_length(after);
    let statement = &after[..length];
    let expression_end = top_level(statement, " with ").unwrap_or(statement.len());
    let (expression, modifiers) = statement.split_at(expression_end);
    let mut hoisted = String::new();
    let mut hoist = |term: &str, names: &mut usize| {
        *names += 1;
        let name = format!("hoisted_{names}");
        hoisted.push_str(&format!("{name} := {}{}; ", term.trim(), modifiers.trim_end()));
        name
    };
    let rewritten = match comparison(expression) {
        // a comparison is itself a call: its operands that are calls are hoisted whole
        Some((left, operator, right)) => {
            let side = |term: &str, hoist: &mut dyn FnMut(&str, &mut usize) -> String, names: &mut usize| {
                if call(term.trim()).is_some() { hoist(term, names) } else { term.trim().to_owned() }
            };
            let left = side(left, &mut hoist, names);
            let right = side(right, &mut hoist, names);
            format!("{left} {operator} {right}")
        }
        None => {
            let (function, arguments) = call(expression.trim())?;
            let arguments: Vec<String> = arguments
                .into_iter()
                .map(|a| if is_dynamic(a) { hoist(a, names) } else { a.trim().to_owned() })
                .collect();
            format!("{function}({})", arguments.join(", "))
        }
    };
    if hoisted.is_empty() {
        return None;
    }
    let trailing = &statement[statement.trim_end().len()..];
    let modifiers = modifiers.trim_end();
    let body = format!("{hoisted}not {rewritten}{modifiers}");
    let body = if single { format!("{{ {body} }}") } else { body };
    Some((length, format!("{body}{trailing}")))
}

/// Returns the length of the statement: to the line's end, `;` or the bracket that closes its body.
fn statement_length(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with('#') {
            return at;
        }
        if let Some(len) = opaque(rest) {
            at += len;
            continue;
        }
        let Some(c) = rest.chars().next() else { break };
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return at,
            ')' | ']' | '}' => depth -= 1,
            '\n' | ';' if depth == 0 => return at,
            _ => {}
        }
        at += c.len_utf8();
    }
    text.len()
}

/// Returns where a piece of text stands outside brackets and strings.
fn top_level(text: &str, wanted: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if depth == 0 && rest.starts_with(wanted) {
            return Some(at);
        }
        if let Some(len) = opaque(rest) {
            at += len;
            continue;
        }
        let c = rest.chars().next()?;
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += c.len_utf8();
    }
    None
}

fn comparison(expression: &str) -> Option<(&str, &'static str, &str)> {
    ["==", "!=", "<=", ">=", " in ", "<", ">"].into_iter().find_map(|operator| {
        let at = top_level(expression, operator)?;
        Some((&expression[..at], operator.trim(), &expression[at + operator.len()..]))
    })
}

/// Splits `f(a, b)` when the whole text is one call.
fn call(text: &str) -> Option<(&str, Vec<&str>)> {
    let open = text.find('(')?;
    let function = &text[..open];
    let named = !function.is_empty() && function.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let inside = text[open + 1..].strip_suffix(')')?;
    if !named || statement_length(inside.replace('\n', " ").as_str()) != inside.len() {
        return None;
    }
    let mut arguments = Vec::new();
    let mut rest = inside;
    while let Some(comma) = top_level(rest, ",") {
        arguments.push(&rest[..comma]);
        rest = &rest[comma + 1..];
    }
    if !rest.trim().is_empty() {
        arguments.push(rest);
    }
    Some((function, arguments))
}

/// Whether an argument can be undefined: a reference, a call, or a composite that may hold one.
fn is_dynamic(argument: &str) -> bool {
    let text = argument.trim();
    let Some(first) = text.chars().next() else {
        return false;
    };
    if text.contains("[_]") {
        // an iteration has to stay where it is
        return false;
    }
    match first {
        '"' | '`' | '0'..='9' | '-' => false,
        '[' | '{' => text.contains('.'),
        _ => text.contains(['.', '[', '(']) && opaque(text).is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::rewrite;
    use expect_test::{Expect, expect};

    fn check(body: &str, expected: Expect) {
        expected.assert_eq(&rewrite(body));
    }

    #[test]
    fn arguments_of_negated_calls_are_hoisted() {
        check(
            "p if {\n\tnot regex.match(\"a, (b\", input.image[\"x\"])\n\ttrue\n}",
            expect![[r#"
                p if {
                	hoisted_1 := input.image["x"]; not regex.match("a, (b", hoisted_1)
                	true
                }"#]],
        );
        check("p if not is_string(input.x)", expect!["p if { hoisted_1 := input.x; not is_string(hoisted_1) }"]);
        check("p if { not count(input.x) > 0 }", expect!["p if { hoisted_1 := count(input.x); not hoisted_1 > 0 }"]);
        check(
            "p if { not f(input.x) with input as vm }",
            expect!["p if { hoisted_1 := input.x with input as vm; not f(hoisted_1) with input as vm }"],
        );
    }

    #[test]
    fn what_agrees_with_opa_is_left_alone() {
        for text in [
            "p if { not input.missing }",
            "p if { not input.missing == 3 }",
            "p if { not f(x, \"lit\", 3) }",
            "p if { not q with input as vm }",
            "# not f(input.x)\np := \"not f(input.x)\"",
            "p if { nothing(input.x) }",
            "p if { not any_of(input.x[_]) }",
        ] {
            assert_eq!(rewrite(text), text);
        }
    }

    #[test]
    fn the_engine_then_answers_as_opa_does() {
        // left: the body; right: whether OPA 1.8 finds it true for the input {}
        for (body, opa) in [
            ("not regex.match(\"x\", input.missing)", false),
            ("not startswith(input.missing, \"x\")", false),
            ("not count(input.missing) > 0", false),
            ("not is_named(input.missing)", false),
            ("not input.missing", true),
            ("not input.missing == 3", true),
            ("not regex.match(\"x\", \"y\")", true),
        ] {
            let text = format!("package t\nimport rego.v1\nis_named(x) if x.name\np if {{\n\t{body}\n}}\n");
            let mut engine = regorus::Engine::new();
            engine.add_policy("t.rego".into(), rewrite(&text)).expect("it parses");
            engine.set_input(regorus::Value::new_object());
            let results = engine.eval_query("data.t.p".into(), false).expect("it evaluates");
            let found = results.result.first().is_some_and(|r| r.expressions[0].value == regorus::Value::Bool(true));
            assert_eq!(found, opa, "{body}");
        }
    }
}
