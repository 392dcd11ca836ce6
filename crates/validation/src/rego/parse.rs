//! From a module's text to its syntax tree, in Rego's present dialect and in the older one.
//!
//! The older dialect (OPA before 1.0) writes bodies without `if` and partial sets
//! as `p[x] { … }`; a file is parsed as one of the two, never as a mixture, unless
//! it imports the keywords itself.

use std::sync::Arc;

use super::SyntaxError;
use super::ast::{Branch, Expr, ExprKind, Import, Literal, Module, Rule, RuleKind, Statement};
use super::lex::{Kind, Token, tokens};
use super::value::{Number, Value};

/// Which grammar a file is read with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OPA 1.0 and later.
    V1,
    /// Before OPA 1.0.
    V0,
}

/// How deeply expressions may be nested.
const DEPTH: usize = 200;

/// Parses a file.
pub fn module(file: &str, text: &str, dialect: Dialect) -> Result<Module, SyntaxError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, dialect, no_pipe: false };
    parser.module(file)
}

/// Parses a file as the present dialect and, when that fails, as the older one; the error is the first one's.
pub fn either(file: &str, text: &str) -> Result<(Module, Dialect), SyntaxError> {
    match module(file, text, Dialect::V1) {
        Ok(module) => Ok((module, Dialect::V1)),
        Err(error) => match module(file, text, Dialect::V0) {
            Ok(module) => Ok((module, Dialect::V0)),
            Err(older) => Err(if older.line > error.line { older } else { error }),
        },
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    dialect: Dialect,
    /// Inside the head of a comprehension, where `|` ends the term.
    no_pipe: bool,
}

type Parsed<T> = Result<T, SyntaxError>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn ahead(&self, count: usize) -> &Token {
        &self.tokens[(self.at + count).min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn is(&self, mark: &str) -> bool {
        matches!(&self.peek().kind, Kind::Mark(m) if *m == mark)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, Kind::Name(name) if name == word)
    }

    fn take(&mut self, mark: &str) -> bool {
        let found = self.is(mark);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, mark: &str, place: &str) -> Parsed<()> {
        if self.take(mark) { Ok(()) } else { Err(self.unexpected(&format!("`{mark}` {place}"))) }
    }

    fn unexpected(&self, wanted: &str) -> SyntaxError {
        let token = self.peek();
        let found = match &token.kind {
            Kind::Name(name) => format!("`{name}`"),
            Kind::Number(number) => format!("`{number}`"),
            Kind::Text(_) => "a string".to_owned(),
            Kind::Mark(mark) => format!("`{mark}`"),
            Kind::End => "the end of the file".to_owned(),
        };
        SyntaxError { line: token.line, message: format!("expected {wanted}, found {found}") }
    }

    /// Whether the next token follows without a space.
    fn adjacent(&self) -> bool {
        self.at > 0 && self.tokens[self.at - 1].end == self.peek().start
    }

    fn name(&mut self, wanted: &str) -> Parsed<String> {
        match self.peek().kind.clone() {
            Kind::Name(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected(wanted)),
        }
    }

    fn module(&mut self, file: &str) -> Parsed<Module> {
        if !self.take_word("package") {
            return Err(self.unexpected("`package`"));
        }
        let package = self.path()?;
        let mut imports = Vec::new();
        let mut rules = Vec::new();
        while self.peek().kind != Kind::End {
            if self.take(";") {
                continue;
            }
            if self.is_word("import") {
                self.at += 1;
                let path = self.path()?;
                let alias = if self.take_word("as") {
                    self.name("a name after `as`")?
                } else {
                    path.last().cloned().unwrap_or_default()
                };
                match path.first().map(String::as_str) {
                    Some("rego") => self.dialect = Dialect::V1,
                    Some("future") => {}
                    _ => imports.push(Import { path, alias }),
                }
                continue;
            }
            self.rule(&mut rules)?;
        }
        Ok(Module { file: Arc::from(file), package, imports, rules })
    }

    fn path(&mut self) -> Parsed<Vec<String>> {
        let mut path = vec![self.name("a name")?];
        loop {
            if self.take(".") {
                path.push(self.name("a name after `.`")?);
            } else if self.is("[") && self.adjacent() {
                self.at += 1;
                match self.next().kind {
                    Kind::Text(text) => path.push(text),
                    _ => return Err(self.unexpected("a string")),
                }
                self.expect("]", "after the name")?;
            } else {
                return Ok(path);
            }
        }
    }

    fn rule(&mut self, rules: &mut Vec<Rule>) -> Parsed<()> {
        let line = self.peek().line;
        let default = self.is_word("default") && matches!(self.ahead(1).kind, Kind::Name(_));
        self.at += usize::from(default);
        let name = self.name("a rule")?;
        let args = if self.is("(") && self.adjacent() {
            self.at += 1;
            Some(self.list(")")?)
        } else {
            None
        };
        if default {
            if !(self.take(":=") || self.take("=")) {
                return Err(self.unexpected("`:=` and the default value"));
            }
            let value = self.expr()?;
            rules.push(Rule { name, line, kind: RuleKind::Default { args: args.map(|a| a.len()), value } });
            return Ok(());
        }
        let mut key = None;
        let mut dotted = false;
        while args.is_none() && self.adjacent() && (self.is("[") || self.is(".")) {
            if key.is_some() {
                return Err(SyntaxError {
                    line,
                    message: format!("a rule has at most one key: give `{name}` a value that is an object instead"),
                });
            }
            dotted = self.is(".");
            self.at += 1;
            key = Some(if dotted {
                let line = self.peek().line;
                let name = self.name("a name after `.`")?;
                Expr { line, kind: ExprKind::Const(Value::string(name)) }
            } else {
                let key = self.expr()?;
                self.expect("]", "after the key")?;
                key
            });
        }
        if args.is_none() && key.is_none() && self.is_word("contains") {
            self.at += 1;
            let key = self.expr()?;
            let body = self.body_after_if()?;
            rules.push(Rule { name, line, kind: RuleKind::Set { key, body: body.unwrap_or_default() } });
            return Ok(());
        }
        let assigned = if self.take(":=") || self.take("=") { Some(self.expr()?) } else { None };
        let mut bodies = Vec::new();
        let mut has_if = false;
        if self.is_word("if") {
            has_if = true;
            bodies.extend(self.body_after_if()?);
        } else if self.dialect == Dialect::V0 {
            while self.is("{") {
                bodies.push(self.braced_body()?);
            }
        } else if self.is("{") {
            return Err(self.unexpected("`if` before the rule's body"));
        }
        if bodies.is_empty() && assigned.is_none() && !(self.dialect == Dialect::V0 && key.is_some()) {
            return Err(self.unexpected(&format!("`:=`, `contains` or `if` after `{name}`")));
        }
        let truth = || Expr { line, kind: ExprKind::Const(Value::Bool(true)) };
        if bodies.is_empty() {
            bodies.push(Vec::new());
        }
        if let Some(key) = key {
            let set = self.dialect == Dialect::V0 && assigned.is_none() && !has_if && !dotted;
            let value = assigned.unwrap_or_else(truth);
            for body in bodies {
                let kind = if set {
                    RuleKind::Set { key: key.clone(), body }
                } else {
                    RuleKind::Object { key: key.clone(), value: value.clone(), body }
                };
                rules.push(Rule { name: name.clone(), line, kind });
            }
            return Ok(());
        }
        let value = assigned.unwrap_or_else(truth);
        let last = bodies.pop().unwrap_or_default();
        let make = |branches: Vec<Branch>| match &args {
            Some(args) => RuleKind::Function { args: args.clone(), branches },
            None => RuleKind::Complete { branches },
        };
        for body in bodies {
            let kind = make(vec![Branch { value: value.clone(), body }]);
            rules.push(Rule { name: name.clone(), line, kind });
        }
        let mut branches = vec![Branch { value, body: last }];
        while self.is_word("else") {
            self.at += 1;
            let value = if self.take(":=") || self.take("=") { self.expr()? } else { truth() };
            let body = if self.is_word("if") {
                self.body_after_if()?.unwrap_or_default()
            } else if self.is("{") && self.dialect == Dialect::V0 {
                self.braced_body()?
            } else {
                Vec::new()
            };
            branches.push(Branch { value, body });
        }
        let kind = make(branches);
        rules.push(Rule { name, line, kind });
        Ok(())
    }

    /// The body after `if`, when there is one: braced, or one statement.
    fn body_after_if(&mut self) -> Parsed<Option<Vec<Statement>>> {
        if !self.take_word("if") {
            return Ok(None);
        }
        if self.is("{") {
            // `if {…}` is a body; a set or object there would have to be compared with something
            return self.braced_body().map(Some);
        }
        Ok(Some(vec![self.statement()?]))
    }

    fn braced_body(&mut self) -> Parsed<Vec<Statement>> {
        self.expect("{", "before the body")?;
        let body = self.statements("}")?;
        self.expect("}", "at the end of the body")?;
        if body.is_empty() {
            return Err(SyntaxError { line: self.peek().line, message: "the rule's body is empty".to_owned() });
        }
        Ok(body)
    }

    fn statements(&mut self, end: &str) -> Parsed<Vec<Statement>> {
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

    fn statement(&mut self) -> Parsed<Statement> {
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

    fn expr(&mut self) -> Parsed<Expr> {
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
    fn list(&mut self, end: &str) -> Parsed<Vec<Expr>> {
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
