//! Statements and expressions: bodies of rules, operators by their precedence, terms and comprehensions.

use super::{DEPTH, Parsed, Parser};
use crate::rego::SyntaxError;
use crate::rego::ast::{Expr, ExprKind, Literal, Statement};
use crate::rego::lex::Kind;
use crate::rego::value::{Number, Value};

impl Parser {
    pub(super) fn statements(&mut self, end: &str) -> Parsed<Vec<Statement>> {
        let mut statements = Vec::new();
        let outer = std::mem::replace(&mut self.no_pipe, false);
        while !self.is(end) {
            if self.take(";") {
                continue;
            }
            statements.push(self.statement()?);
            if !(self.is(end) || self.is(";") || self.peek().new_line) {
                return Err(self.unexpected(&format!("a new line, `;` or `{end}` after the statement")));
            }
            if self.peek().kind == Kind::End {
                return Err(self.unexpected(&format!("`{end}`")));
            }
        }
        self.no_pipe = outer;
        Ok(statements)
    }

    pub(super) fn statement(&mut self) -> Parsed<Statement> {
        let line = self.peek().line;
        let literal = if self.is_word("some") && !self.ahead(1).new_line {
            self.at += 1;
            self.some()?
        } else if self.is_word("not") {
            self.at += 1;
            Literal::Not(self.statement_expr()?)
        } else if self.is_word("every") && matches!(self.ahead(1).kind, Kind::Name(_)) {
            self.at += 1;
            self.every()?
        } else {
            Literal::Expr(self.statement_expr()?)
        };
        let mut with = Vec::new();
        while self.take_word("with") {
            let target = self.term()?;
            if !self.take_word("as") {
                return Err(self.unexpected("`as`"));
            }
            with.push((target, self.expr()?));
        }
        Ok(Statement { line, literal, with })
    }

    fn some(&mut self) -> Parsed<Literal> {
        let mut names = vec![self.infix(1)?];
        while self.take(",") {
            names.push(self.infix(1)?);
        }
        if self.take_word("in") {
            let collection = self.infix(1)?;
            let value = names.pop();
            let key = names.pop();
            return match value {
                Some(value) if names.is_empty() => Ok(Literal::SomeIn { key, value, collection }),
                _ => Err(self.unexpected("one or two names before `in`")),
            };
        }
        names
            .into_iter()
            .map(|expr| match expr.kind {
                ExprKind::Var(name) => Ok(name),
                _ => Err(SyntaxError { line: expr.line, message: "`some` declares names only".to_owned() }),
            })
            .collect::<Parsed<_>>()
            .map(Literal::Some)
    }

    fn every(&mut self) -> Parsed<Literal> {
        let first = self.name("a name after `every`")?;
        let second = if self.take(",") { Some(self.name("a name after `,`")?) } else { None };
        if !self.take_word("in") {
            return Err(self.unexpected("`in`"));
        }
        let domain = self.infix(1)?;
        let body = self.braced_body()?;
        Ok(match second {
            Some(value) => Literal::Every { key: Some(first), value, domain, body },
            None => Literal::Every { key: None, value: first, domain, body },
        })
    }

    /// An expression where `:=` and `=` may stand.
    fn statement_expr(&mut self) -> Parsed<Expr> {
        let left = self.expr()?;
        let line = left.line;
        if self.is(",") {
            // `key, value in collection`
            self.at += 1;
            let value = self.infix(1)?;
            if !self.take_word("in") {
                return Err(self.unexpected("`in`"));
            }
            let collection = self.infix(1)?;
            return Ok(call(line, &["internal", "member_3"], vec![left, value, collection]));
        }
        if self.take(":=") {
            let right = self.expr()?;
            return Ok(Expr { line, kind: ExprKind::Assign(left.into(), right.into()) });
        }
        if self.take("=") {
            let right = self.expr()?;
            return Ok(Expr { line, kind: ExprKind::Unify(left.into(), right.into()) });
        }
        Ok(left)
    }

    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.infix(0)
    }

    /// Infix operators of at least this precedence: 0 `in`, 1 comparisons, 2 `|`, 3 `&`, 4 `+ -`, 5 `* / %`.
    fn infix(&mut self, least: u8) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(SyntaxError { line: self.peek().line, message: "nested too deeply".to_owned() });
        }
        let mut left = self.term()?;
        while let Some((precedence, function)) = self.operator() {
            if precedence < least {
                break;
            }
            self.at += 1;
            let right = self.infix(precedence + 1)?;
            let line = left.line;
            left = match function {
                "equal" => Expr { line, kind: ExprKind::Unify(left.into(), right.into()) },
                "internal.member_2" => call(line, &["internal", "member_2"], vec![left, right]),
                _ => call(line, &[function], vec![left, right]),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operator(&self) -> Option<(u8, &'static str)> {
        Some(match &self.peek().kind {
            Kind::Name(word) if word == "in" => (0, "internal.member_2"),
            Kind::Mark(mark) => match *mark {
                "==" => (1, "equal"),
                "!=" => (1, "neq"),
                "<" => (1, "lt"),
                "<=" => (1, "lte"),
                ">" => (1, "gt"),
                ">=" => (1, "gte"),
                "|" if !self.no_pipe => (2, "or"),
                "&" => (3, "and"),
                "+" => (4, "plus"),
                "-" => (4, "minus"),
                "*" => (5, "mul"),
                "/" => (5, "div"),
                "%" => (5, "rem"),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn term(&mut self) -> Parsed<Expr> {
        let token = self.peek().clone();
        let line = token.line;
        let constant = |value| Expr { line, kind: ExprKind::Const(value) };
        let base = match token.kind {
            Kind::Number(text) => {
                self.at += 1;
                return Ok(constant(number(&text, line)?));
            }
            Kind::Mark("-") => {
                self.at += 1;
                let Kind::Number(text) = self.peek().kind.clone() else {
                    return Err(self.unexpected("a number after `-`"));
                };
                self.at += 1;
                return Ok(constant(number(&format!("-{text}"), line)?));
            }
            Kind::Text(text) => {
                self.at += 1;
                constant(Value::string(text))
            }
            Kind::Name(name) => {
                self.at += 1;
                match name.as_str() {
                    "true" => return Ok(constant(Value::Bool(true))),
                    "false" => return Ok(constant(Value::Bool(false))),
                    "null" => return Ok(constant(Value::Null)),
                    "set" if self.is("(") && self.adjacent() => {
                        self.at += 1;
                        self.expect(")", "after `set(`")?;
                        return Ok(constant(Value::set(Vec::new())));
                    }
                    "not" | "some" | "with" | "as" | "else" | "default" | "package" | "import" => {
                        self.at -= 1;
                        return Err(self.unexpected("a value"));
                    }
                    _ => Expr { line, kind: ExprKind::Var(name) },
                }
            }
            Kind::Mark("[") => {
                self.at += 1;
                self.array(line)?
            }
            Kind::Mark("{") => {
                self.at += 1;
                self.braces(line)?
            }
            Kind::Mark("(") => {
                self.at += 1;
                let outer = std::mem::replace(&mut self.no_pipe, false);
                let inner = self.expr()?;
                self.no_pipe = outer;
                self.expect(")", "after the expression")?;
                inner
            }
            _ => return Err(self.unexpected("a value")),
        };
        self.postfix(base)
    }

    /// `.name`, `[key]` and `(arguments)` that follow without a space.
    fn postfix(&mut self, base: Expr) -> Parsed<Expr> {
        let line = base.line;
        let mut head = base;
        let mut parts: Vec<Expr> = Vec::new();
        while self.adjacent() {
            if self.is(".") && matches!(self.ahead(1).kind, Kind::Name(_)) {
                self.at += 1;
                let line = self.peek().line;
                let name = self.name("a name")?;
                parts.push(Expr { line, kind: ExprKind::Const(Value::string(name)) });
            } else if self.is("[") {
                self.at += 1;
                let outer = std::mem::replace(&mut self.no_pipe, false);
                parts.push(self.expr()?);
                self.no_pipe = outer;
                self.expect("]", "after the key")?;
            } else if self.is("(") {
                let Some(function) = dotted(&head, &parts) else { break };
                self.at += 1;
                let arguments = self.list(")")?;
                head = Expr { line, kind: ExprKind::Call(function, arguments) };
                parts.clear();
            } else {
                break;
            }
        }
        if parts.is_empty() {
            return Ok(head);
        }
        Ok(Expr { line, kind: ExprKind::Ref(head.into(), parts) })
    }

    /// Expressions between commas, up to the closing mark, which is taken.
    pub(super) fn list(&mut self, end: &str) -> Parsed<Vec<Expr>> {
        let outer = std::mem::replace(&mut self.no_pipe, false);
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.expr()?);
            if !self.take(",") {
                self.expect(end, "or `,` after the item")?;
                break;
            }
        }
        self.no_pipe = outer;
        Ok(items)
    }

    /// A first term that may be the head of a comprehension.
    fn head(&mut self) -> Parsed<Expr> {
        let outer = std::mem::replace(&mut self.no_pipe, true);
        let term = self.expr();
        self.no_pipe = outer;
        term
    }

    fn array(&mut self, line: u32) -> Parsed<Expr> {
        if self.take("]") {
            return Ok(Expr { line, kind: ExprKind::Array(Vec::new()) });
        }
        let first = self.head()?;
        if self.take("|") {
            let body = self.statements("]")?;
            self.expect("]", "at the end of the comprehension")?;
            return Ok(Expr { line, kind: ExprKind::ArrayCompr(first.into(), body) });
        }
        let mut items = vec![first];
        if self.take(",") {
            items.extend(self.list("]")?);
        } else {
            self.expect("]", "or `,` after the item")?;
        }
        Ok(Expr { line, kind: ExprKind::Array(items) })
    }

    fn braces(&mut self, line: u32) -> Parsed<Expr> {
        if self.take("}") {
            return Ok(Expr { line, kind: ExprKind::Object(Vec::new()) });
        }
        let first = self.head()?;
        if self.take(":") {
            let value = self.head()?;
            if self.take("|") {
                let body = self.statements("}")?;
                self.expect("}", "at the end of the comprehension")?;
                return Ok(Expr { line, kind: ExprKind::ObjectCompr(Box::new((first, value)), body) });
            }
            let outer = std::mem::replace(&mut self.no_pipe, false);
            let mut members = vec![(first, value)];
            while self.take(",") {
                if self.is("}") {
                    break;
                }
                let key = self.expr()?;
                self.expect(":", "after the key")?;
                members.push((key, self.expr()?));
            }
            self.no_pipe = outer;
            self.expect("}", "or `,` after the member")?;
            return Ok(Expr { line, kind: ExprKind::Object(members) });
        }
        if self.take("|") {
            let body = self.statements("}")?;
            self.expect("}", "at the end of the comprehension")?;
            return Ok(Expr { line, kind: ExprKind::SetCompr(first.into(), body) });
        }
        let mut items = vec![first];
        if self.take(",") {
            items.extend(self.list("}")?);
        } else {
            self.expect("}", "or `,` after the item")?;
        }
        Ok(Expr { line, kind: ExprKind::Set(items) })
    }
}

fn call(line: u32, function: &[&str], arguments: Vec<Expr>) -> Expr {
    Expr { line, kind: ExprKind::Call(function.iter().map(|part| (*part).to_owned()).collect(), arguments) }
}

/// The dotted name that a reference spells, when it is nothing else.
fn dotted(head: &Expr, parts: &[Expr]) -> Option<Vec<String>> {
    let ExprKind::Var(first) = &head.kind else { return None };
    let mut name = vec![first.clone()];
    for part in parts {
        let ExprKind::Const(Value::String(text)) = &part.kind else { return None };
        name.push(text.to_string());
    }
    Some(name)
}

fn number(text: &str, line: u32) -> Parsed<Value> {
    let integer = text.parse::<i128>().ok().map(Number::wide);
    integer
        .or_else(|| text.parse::<f64>().ok().filter(|f| f.is_finite()).map(Number::Float))
        .map(Value::Number)
        .ok_or_else(|| SyntaxError { line, message: format!("`{text}` is not a number") })
}
