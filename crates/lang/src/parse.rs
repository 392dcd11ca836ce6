//! Tokens to an expression, by recursive descent.
//!
//! ```text
//! or ─ and ─ comparison (left to right, one level) ─ add ─ multiply ─ not/len/any/all/sum ─ sign ─ primary
//! ```
//! `not`, `len`, `any`, `all` and `sum` bind tighter than comparison and
//! arithmetic: `not a = 1` is `(not a) = 1`.

use crate::SyntaxError;
use crate::expression::{Binary, Node, NodeKind, Unary};
use crate::lexer::{Kind, Token, Word, tokens};
use crate::path::Path;
use crate::pattern::Pattern;
use crate::time::Instant;
use crate::value::Value;

/// Deeper nesting is refused: queries come from the network.
const DEPTH: usize = 100;
/// More operators are refused: each is one level of evaluation.
const OPERATORS: usize = 1000;

pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0, operators: 0 };
    let node = parser.expression()?;
    match parser.peek() {
        Kind::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    operators: usize,
}

type Parsed = Result<Node, SyntaxError>;

static END: Kind = Kind::End;

fn boxed(node: Node) -> Box<Node> {
    Box::new(node)
}

impl Parser {
    fn peek(&self) -> &Kind {
        self.tokens.get(self.at).map_or(&END, |token| &token.kind)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |token| token.position)
    }

    fn sign(&mut self, signs: &[&str]) -> Option<&'static str> {
        match self.peek() {
            Kind::Sign(sign) if signs.contains(sign) => {
                let sign = *sign;
                self.at += 1;
                Some(sign)
            }
            _ => None,
        }
    }

    fn word(&mut self, word: Word) -> bool {
        let here = *self.peek() == Kind::Word(word);
        self.at += usize::from(here);
        here
    }

    fn unexpected(&self, wanted: &str) -> SyntaxError {
        let found = match self.peek() {
            Kind::End => "the end".to_owned(),
            Kind::Sign(sign) => format!("'{sign}'"),
            Kind::Word(word) => format!("the word {}", format!("{word:?}").to_uppercase()),
            Kind::Name(name) => format!("the name {name}"),
            Kind::Number(_) => "a number".to_owned(),
            Kind::Text(_) => "a string".to_owned(),
            Kind::Date(_) | Kind::Timestamp(_) => "a date".to_owned(),
        };
        let error = SyntaxError::new(format!("syntax error: {found} where {wanted} is expected"), self.position());
        match self.peek() {
            Kind::Word(Word::Null) => error.hint("compare with null as `x is null` or `x is not null`"),
            Kind::Sign(",") => error.hint("lists are written in brackets: name in ['a', 'b']"),
            _ => error,
        }
    }

    /// Counts an operator that was just read.
    fn operator(&mut self) -> Result<(), SyntaxError> {
        self.operators += 1;
        if self.operators > OPERATORS {
            let error = SyntaxError::new(format!("more than {OPERATORS} operators"), self.position());
            return Err(error.hint("write alternatives as a list: name in ['a', 'b']"));
        }
        Ok(())
    }

    fn deeper(&mut self, parse: impl FnOnce(&mut Self) -> Parsed) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(SyntaxError::new("nested too deeply", self.position()));
        }
        let node = parse(self);
        self.depth -= 1;
        node
    }

    fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            let mut left = parser.conjunction()?;
            while parser.word(Word::Or) {
                parser.operator()?;
                left = binary(Binary::Or, left, parser.conjunction()?);
            }
            Ok(left)
        })
    }

    fn conjunction(&mut self) -> Parsed {
        let mut left = self.comparison()?;
        while self.word(Word::And) {
            self.operator()?;
            left = binary(Binary::And, left, self.comparison()?);
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Parsed {
        const SIGNS: [(&str, Binary); 10] = [
            ("=", Binary::Equal),
            ("==", Binary::Equal),
            ("!=", Binary::Unequal),
            ("<>", Binary::Unequal),
            ("<", Binary::Less),
            ("<=", Binary::LessOrEqual),
            (">", Binary::Greater),
            (">=", Binary::GreaterOrEqual),
            ("~=", Binary::Regex),
            ("~!", Binary::NotRegex),
        ];
        let mut left = self.sum()?;
        loop {
            let position = left.position;
            let here = self.peek();
            if let Some((_, operator)) = SIGNS.iter().find(|(sign, _)| *here == Kind::Sign(sign)) {
                self.at += 1;
                self.operator()?;
                left = self.matching(*operator, left)?;
                continue;
            }
            if self.word(Word::Is) {
                self.operator()?;
                let negated = self.word(Word::Not);
                if !self.word(Word::Null) {
                    return Err(self.unexpected("NULL"));
                }
                let is_null = Node { kind: NodeKind::IsNull(boxed(left)), position };
                left = not_if(negated, is_null);
                continue;
            }
            let negated = self.word(Word::Not);
            left = if self.word(Word::Between) {
                self.operator()?;
                let low = self.sum()?;
                if !self.word(Word::And) {
                    return Err(self.unexpected("AND"));
                }
                let kind = NodeKind::Between(boxed(left), boxed(low), boxed(self.sum()?));
                not_if(negated, Node { kind, position })
            } else if let Some(operator) = self.word_operator() {
                self.operator()?;
                not_if(negated, self.matching(operator, left)?)
            } else if negated {
                return Err(self.unexpected("LIKE, ILIKE, IN or BETWEEN"));
            } else {
                return Ok(left);
            };
        }
    }

    fn word_operator(&mut self) -> Option<Binary> {
        let operators = [(Word::Like, Binary::Like), (Word::Ilike, Binary::Ilike), (Word::In, Binary::In)];
        operators.into_iter().find_map(|(word, operator)| self.word(word).then_some(operator))
    }

    /// The right side of a comparison; a pattern that is written out is prepared here.
    fn matching(&mut self, operator: Binary, left: Node) -> Parsed {
        let right = self.sum()?;
        let position = left.position;
        let NodeKind::Literal(Value::Text(text)) = &right.kind else {
            return Ok(binary(operator, left, right));
        };
        let (pattern, negated) = match operator {
            Binary::Regex | Binary::NotRegex => match Pattern::regex(text) {
                Ok(pattern) => (pattern, operator == Binary::NotRegex),
                // an error only where it meets a text, as in the original
                Err(_) => return Ok(binary(operator, left, right)),
            },
            Binary::Like => (Pattern::like(text), false),
            Binary::Ilike => (Pattern::ilike(text), false),
            _ => return Ok(binary(operator, left, right)),
        };
        Ok(Node { kind: NodeKind::Matches { negated, value: boxed(left), pattern }, position })
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.product()?;
        while let Some(sign) = self.sign(&["+", "-"]) {
            self.operator()?;
            let operator = if sign == "+" { Binary::Add } else { Binary::Subtract };
            left = binary(operator, left, self.product()?);
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.prefixed()?;
        while let Some(sign) = self.sign(&["*", "/", "%"]) {
            self.operator()?;
            let operator = match sign {
                "*" => Binary::Multiply,
                "/" => Binary::Divide,
                _ => Binary::Remainder,
            };
            left = binary(operator, left, self.prefixed()?);
        }
        Ok(left)
    }

    fn prefixed(&mut self) -> Parsed {
        let operator = match self.peek() {
            Kind::Word(Word::Not) => Unary::Not,
            Kind::Word(Word::Len) => Unary::Len,
            Kind::Word(Word::Any) => Unary::Any,
            Kind::Word(Word::All) => Unary::All,
            Kind::Word(Word::Sum) => Unary::Sum,
            _ => return self.signed(),
        };
        self.at += 1;
        self.deeper(|parser| parser.prefixed().map(|value| unary(operator, value)))
    }

    fn signed(&mut self) -> Parsed {
        if let Some(sign) = self.sign(&["-", "+"]) {
            let value = self.deeper(Self::signed)?;
            return Ok(if sign == "-" { unary(Unary::Minus, value) } else { value });
        }
        if self.sign(&["("]).is_some() {
            let inner = self.expression()?;
            return match self.sign(&[")"]) {
                Some(_) => Ok(inner),
                None => Err(self.unexpected("')'")),
            };
        }
        let position = self.position();
        if self.sign(&["["]).is_some() {
            return self.list(position);
        }
        let kind = match self.peek() {
            Kind::Number(value) => NodeKind::Literal(Value::Number(*value)),
            Kind::Text(text) | Kind::Date(text) => NodeKind::Literal(Value::Text(text.clone())),
            Kind::Timestamp(text) => NodeKind::Literal(match Instant::parse(text) {
                Some(instant) => Value::Time(instant),
                None => Value::Text(text.clone()),
            }),
            Kind::Name(name) => NodeKind::Name(Path::new(name), name.clone()),
            Kind::Word(Word::True) => NodeKind::Literal(Value::Bool(true)),
            Kind::Word(Word::False) => NodeKind::Literal(Value::Bool(false)),
            _ => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        Ok(Node { kind, position })
    }

    fn list(&mut self, position: usize) -> Parsed {
        let mut nodes = Vec::new();
        while self.sign(&["]"]).is_none() {
            nodes.push(self.expression()?);
            if self.sign(&[","]).is_none() && *self.peek() != Kind::Sign("]") {
                return Err(self.unexpected("',' or ']'"));
            }
        }
        Ok(Node { kind: NodeKind::List(nodes), position })
    }
}

fn binary(operator: Binary, left: Node, right: Node) -> Node {
    let position = left.position;
    Node { kind: NodeKind::Binary(operator, boxed(left), boxed(right)), position }
}

fn unary(operator: Unary, value: Node) -> Node {
    let position = value.position;
    Node { kind: NodeKind::Unary(operator, boxed(value)), position }
}

fn not_if(negated: bool, node: Node) -> Node {
    if negated { unary(Unary::Not, node) } else { node }
}
