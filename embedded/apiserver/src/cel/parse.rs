//! Tokens to expressions: the grammar of <https://github.com/google/cel-spec/blob/master/doc/langdef.md>, with the
//! macros of the standard, of optional values and of comprehensions with two variables.

use super::Issue;
use super::ast::{Expr, Fold, Kind, Literal};
use super::lex::{Placed, Token, tokens};

/// Deepest nesting of brackets. cel-go has 250; a thread's stack has to hold it here.
const BRACKETS: usize = 100;
/// Deepest nesting of operations, chains such as `a + b + c` included.
const DEPTH: usize = 250;
/// Longest source in characters, as cel-go has it.
const LONGEST: usize = 100_000;

const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Functions whose name has a dot, which looks like a call of a member.
const DOTTED: &[&str] = &[
    "strings.quote",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "ip.isCanonical",
    "optional.of",
    "optional.none",
    "optional.ofNonZeroValue",
    "format.named",
];

const WANTED: &str = "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

struct Parser {
    tokens: Vec<Placed>,
    next: usize,
    depth: usize,
}

type Parsed = Result<Expr, Issue>;

/// Reads one expression.
pub fn parse(source: &str) -> Parsed {
    let length = source.chars().count();
    if length > LONGEST {
        return Err(Issue::new(
            0,
            format!("expression code point size exceeds limit: size: {length}, limit {LONGEST}"),
        ));
    }
    let tokens = tokens(source).map_err(|e| Issue::new(e.at, e.message))?;
    let mut parser = Parser { tokens, next: 0, depth: 0 };
    let expr = parser.expr()?;
    match parser.peek() {
        Token::End => Ok(expr),
        other => Err(parser.wrong(format!("Syntax error: extraneous input '{}' expecting <EOF>", other.show()))),
    }
}

fn call(at: usize, name: &str, member: bool, args: Vec<Expr>) -> Expr {
    Expr::new(at, Kind::Call { name: name.into(), member, args })
}

impl Parser {
    fn peek(&self) -> Token {
        self.tokens.get(self.next).map_or(Token::End, |t| t.0.clone())
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(0, |t| t.1)
    }

    fn wrong(&self, message: impl Into<String>) -> Issue {
        Issue::new(self.at(), message)
    }

    /// Takes the mark if it is next; returns where it was.
    fn take(&mut self, mark: &str) -> Option<usize> {
        match self.tokens.get(self.next) {
            Some((Token::Mark(m), at)) if *m == mark => {
                let at = *at;
                self.next += 1;
                Some(at)
            }
            _ => None,
        }
    }

    fn need(&mut self, mark: &str) -> Result<usize, Issue> {
        let found = self.peek().show();
        self.take(mark)
            .ok_or_else(|| self.wrong(format!("Syntax error: mismatched input '{found}' expecting '{mark}'")))
    }

    fn too_deep(&self) -> Issue {
        self.wrong(format!("expression recursion limit exceeded: {DEPTH}"))
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Issue>) -> Result<T, Issue> {
        self.depth += 1;
        if self.depth > BRACKETS {
            return Err(self.too_deep());
        }
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn expr(&mut self) -> Parsed {
        self.deeper(|p| {
            let condition = p.or()?;
            let Some(at) = p.take("?") else { return Ok(condition) };
            let yes = p.or()?;
            p.need(":")?;
            let no = p.expr()?;
            Ok(Expr::new(at, Kind::Choose(Box::new(condition), Box::new(yes), Box::new(no))))
        })
    }

    fn or(&mut self) -> Parsed {
        self.chain("||", Kind::Or, Self::and)
    }

    fn and(&mut self) -> Parsed {
        self.chain("&&", Kind::And, Self::relation)
    }

    /// Long chains become a balanced tree, so that they are not deep.
    fn chain(&mut self, mark: &str, join: fn(Box<Expr>, Box<Expr>) -> Kind, inner: fn(&mut Self) -> Parsed) -> Parsed {
        let mut terms = vec![(inner(self)?, 0)];
        while let Some(at) = self.take(mark) {
            terms.push((inner(self)?, at));
        }
        while terms.len() > 1 {
            let mut pairs = Vec::with_capacity(terms.len().div_ceil(2));
            let mut rest = terms.into_iter();
            while let Some((left, before)) = rest.next() {
                pairs.push(match rest.next() {
                    Some((right, at)) => (Expr::new(at, join(Box::new(left), Box::new(right))), before),
                    None => (left, before),
                });
            }
            terms = pairs;
        }
        terms.pop().map(|(expr, _)| expr).ok_or_else(|| self.unexpected())
    }

    fn binary(&mut self, marks: &[(&str, &str)], inner: fn(&mut Self) -> Parsed) -> Parsed {
        let mut left = inner(self)?;
        'more: loop {
            for (mark, name) in marks {
                if let Some(at) = self.take(mark) {
                    let right = inner(self)?;
                    left = call(at, name, false, vec![left, right]);
                    if left.depth > DEPTH {
                        return Err(self.too_deep());
                    }
                    continue 'more;
                }
            }
            return Ok(left);
        }
    }

    fn relation(&mut self) -> Parsed {
        const MARKS: &[(&str, &str)] =
            &[("<=", "_<=_"), (">=", "_>=_"), ("==", "_==_"), ("!=", "_!=_"), ("<", "_<_"), (">", "_>_")];
        let mut left = self.binary(MARKS, Self::sum)?;
        while self.peek() == Token::Ident("in".into()) {
            let at = self.at();
            self.next += 1;
            let right = self.binary(MARKS, Self::sum)?;
            left = call(at, "@in", false, vec![left, right]);
            if left.depth > DEPTH {
                return Err(self.too_deep());
            }
        }
        Ok(left)
    }

    fn sum(&mut self) -> Parsed {
        self.binary(&[("+", "_+_"), ("-", "_-_")], Self::product)
    }

    fn product(&mut self) -> Parsed {
        self.binary(&[("*", "_*_"), ("/", "_/_"), ("%", "_%_")], Self::unary)
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        if self.take("!").is_some() {
            let inner = self.deeper(Self::unary)?;
            return Ok(match inner.kind {
                // an even number of them is none
                Kind::Call { name, mut args, .. } if name == "!_" && args.len() == 1 => args.remove(0),
                kind => call(at, "!_", false, vec![Expr::new(inner.at, kind)]),
            });
        }
        if self.take("-").is_some() {
            match self.peek() {
                Token::Int(n) if n == 1 << 63 => {
                    self.next += 1;
                    return self.members(Expr::new(at, Kind::Literal(Literal::Int(i64::MIN))));
                }
                Token::Int(n) => {
                    let Ok(n) = i64::try_from(n) else { return Err(self.wrong("invalid int literal")) };
                    self.next += 1;
                    return self.members(Expr::new(at, Kind::Literal(Literal::Int(-n))));
                }
                Token::Double(n) => {
                    self.next += 1;
                    return self.members(Expr::new(at, Kind::Literal(Literal::Double(-n))));
                }
                _ => {
                    let inner = self.deeper(Self::unary)?;
                    return Ok(call(at, "-_", false, vec![inner]));
                }
            }
        }
        let first = self.primary()?;
        self.members(first)
    }

    fn members(&mut self, mut left: Expr) -> Parsed {
        loop {
            if left.depth > DEPTH {
                return Err(self.too_deep());
            }
            if let Some(at) = self.take(".") {
                let optional = self.take("?").is_some();
                let Token::Ident(field) = self.peek() else {
                    let found = self.peek().show();
                    return Err(self.wrong(format!("Syntax error: no viable alternative at input '.{found}'")));
                };
                self.next += 1;
                match self.take("(").filter(|_| !optional) {
                    None => left = Expr::new(at, Kind::Select { operand: Box::new(left), field, optional }),
                    Some(open) => {
                        let args = self.arguments(")")?;
                        left = member_call(open, left, &field, args)?;
                    }
                }
            } else if let Some(at) = self.take("[") {
                let optional = self.take("?").is_some();
                let index = self.expr()?;
                self.need("]")?;
                left = Expr::new(at, Kind::Index { operand: Box::new(left), index: Box::new(index), optional });
            } else {
                return Ok(left);
            }
        }
    }

    fn arguments(&mut self, close: &str) -> Result<Vec<Expr>, Issue> {
        let mut args = Vec::new();
        while self.take(close).is_none() {
            if !args.is_empty() {
                self.need(",")?;
                if self.take(close).is_some() && close != ")" {
                    break;
                }
            }
            args.push(self.expr()?);
        }
        Ok(args)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let token = self.peek();
        let literal = |literal: Literal| Ok(Expr::new(at, Kind::Literal(literal)));
        self.next += 1;
        match token {
            Token::Int(n) => match i64::try_from(n) {
                Ok(n) => literal(Literal::Int(n)),
                Err(_) => Err(Issue::new(at, "invalid int literal")),
            },
            Token::Uint(n) => literal(Literal::Uint(n)),
            Token::Double(n) => literal(Literal::Double(n)),
            Token::Text(text) => literal(Literal::Text(text)),
            Token::Bytes(bytes) => literal(Literal::Bytes(bytes)),
            Token::Mark("(") => {
                let inner = self.expr()?;
                self.need(")")?;
                Ok(inner)
            }
            Token::Mark("[") => self.list(at),
            Token::Mark("{") => self.map(at),
            Token::Mark(".") => {
                // a leading dot names the outermost scope; there is only one here
                let Token::Ident(name) = self.peek() else { return Err(self.unexpected()) };
                self.next += 1;
                self.named(at, name)
            }
            Token::Ident(name) => match name.as_str() {
                "true" => literal(Literal::Bool(true)),
                "false" => literal(Literal::Bool(false)),
                "null" => literal(Literal::Null),
                "in" => {
                    self.next -= 1;
                    Err(self.unexpected())
                }
                _ => self.named(at, name),
            },
            _ => {
                self.next -= 1;
                Err(self.unexpected())
            }
        }
    }

    fn unexpected(&self) -> Issue {
        // one token too many is told from one that is missing by what comes after it
        let begins = |t: &Placed| !matches!(t.0, Token::End | Token::Mark(")" | "]" | "}" | "," | ":" | "?"));
        let extra = self.peek() != Token::End && self.tokens.get(self.next + 1).is_some_and(begins);
        let what = if extra { "extraneous" } else { "mismatched" };
        self.wrong(format!("Syntax error: {what} input '{}' {WANTED}", self.peek().show()))
    }

    fn named(&mut self, at: usize, name: String) -> Parsed {
        if RESERVED.contains(&name.as_str()) {
            return Err(Issue::new(at, format!("reserved identifier: {name}")));
        }
        let Some(open) = self.take("(") else { return Ok(Expr::new(at, Kind::Ident(name))) };
        let mut args = self.arguments(")")?;
        if name == "has" {
            let wrong = args.first().map_or(open, |a| a.at);
            return match (args.len(), args.pop().map(|a| a.kind)) {
                (1, Some(Kind::Select { operand, field, optional: false })) => {
                    Ok(Expr::new(open, Kind::Has { operand, field }))
                }
                _ => Err(Issue::new(wrong, "invalid argument to has() macro")),
            };
        }
        Ok(call(open, &name, false, args))
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut items = Vec::new();
        while self.take("]").is_none() {
            if !items.is_empty() {
                self.need(",")?;
                if self.take("]").is_some() {
                    break;
                }
            }
            let optional = self.take("?").is_some();
            items.push((self.expr()?, optional));
        }
        Ok(Expr::new(at, Kind::List(items)))
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            if !entries.is_empty() {
                self.need(",")?;
                if self.take("}").is_some() {
                    break;
                }
            }
            let optional = self.take("?").is_some();
            let key = self.expr()?;
            self.need(":")?;
            entries.push((key, self.expr()?, optional));
        }
        Ok(Expr::new(at, Kind::Map(entries)))
    }
}

fn member_call(at: usize, target: Expr, name: &str, mut args: Vec<Expr>) -> Parsed {
    if let Kind::Ident(space) = &target.kind {
        let dotted = format!("{space}.{name}");
        if DOTTED.contains(&dotted.as_str()) || space == "format" && args.is_empty() {
            return Ok(call(at, &dotted, false, args));
        }
    }
    let fold = match (name, args.len()) {
        ("all", 2 | 3) => Some(Fold::All),
        ("exists", 2 | 3) => Some(Fold::Exists),
        ("exists_one", 2) | ("exists_one" | "existsOne", 3) => Some(Fold::ExistsOne),
        ("map", 2 | 3) | ("transformList", 3 | 4) => Some(Fold::Map),
        ("filter", 2) => Some(Fold::Filter),
        ("transformMap", 3 | 4) => Some(Fold::TransformMap),
        ("optMap" | "optFlatMap", 2) => None,
        _ => {
            args.insert(0, target);
            return Ok(call(at, name, true, args));
        }
    };
    let pair = matches!(name, "transformList" | "transformMap")
        || args.len() == 3 && matches!(name, "all" | "exists" | "exists_one" | "existsOne");
    let count = if pair { 2 } else { 1 };
    let rest = args.split_off(count);
    let mut vars = Vec::new();
    for arg in args {
        match arg.kind {
            Kind::Ident(var) if !vars.contains(&var) => vars.push(var),
            _ => return Err(Issue::new(arg.at, "argument must be a simple name")),
        }
    }
    let range = Box::new(target);
    let kind = match (fold, rest.len()) {
        (Some(fold), _) => Kind::Fold { fold, range, vars, args: rest },
        (None, _) => {
            let Some(body) = rest.into_iter().next() else { return Err(Issue::new(at, "missing argument")) };
            Kind::OptMap { operand: range, var: vars.remove(0), body: Box::new(body), flat: name == "optFlatMap" }
        }
    };
    Ok(Expr::new(at, kind))
}
