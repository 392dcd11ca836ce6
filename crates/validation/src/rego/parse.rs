//! From a module's text to its syntax tree, in Rego's present dialect and in the older one.
//!
//! The older dialect (OPA before 1.0) writes bodies without `if` and partial sets
//! as `p[x] { … }`; a file is parsed as one of the two, never as a mixture, unless
//! it imports the keywords itself.

mod expressions;

use std::sync::Arc;

use super::SyntaxError;
use super::ast::{Branch, Expr, ExprKind, Import, Module, Rule, RuleKind, Statement};
use super::lex::{Kind, Token, tokens};
use super::value::Value;

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
}
