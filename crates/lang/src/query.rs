//! The query string of kubectl-mtv: `select … where … order by … limit …`, each part optional.
//!
//! ```text
//! select name, sum(disks.capacity) as total where len(disks) > 1 order by total desc limit 10
//! ```
//! A text that begins with none of the clauses is a `where`. Clauses are found
//! among the words outside of quotes, brackets and parentheses, so that names and
//! strings may hold their words.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::lexer::{is_letter, name_end};
use crate::order::{Order, SortKey};
use crate::path::{Item, Path};
use crate::value::Value;
use crate::{EvalError, Expression, SyntaxError};

/// A query.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// What is shown of each item; everything when empty.
    pub select: Vec<Selected>,
    /// Which items.
    pub filter: Option<Expression>,
    /// In which order.
    pub order: Vec<Order>,
    /// How many.
    pub limit: Option<usize>,
}

/// A column of `select`.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// What it is called: the alias, else the path as written.
    pub name: String,
    path: Path,
    reducer: Option<Reducer>,
}

/// What makes one value of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reducer {
    /// The sum of the numbers.
    Sum,
    /// The number of elements.
    Len,
    /// Whether one is true.
    Any,
    /// Whether there are some and all are true.
    All,
}

/// What a query gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// How many items matched, before the limit.
    pub matched: usize,
    /// How many items have no value for the `where`, and why the first has none.
    pub failed: Option<(usize, EvalError)>,
}

impl<T> Outcome<T> {
    /// Returns a sentence about items that have no value.
    pub fn warning(&self) -> Option<String> {
        let (count, error) = self.failed.as_ref()?;
        let items = if *count == 1 {
            "1 item does not fit the query and is".to_owned()
        } else {
            format!("{count} items do not fit the query and are")
        };
        Some(format!("{items} left out: {error}"))
    }
}

impl Reducer {
    /// Returns the value of a list; other values stay as they are.
    pub fn reduce<'a>(self, value: &'a Json) -> Cow<'a, Json> {
        let Json::Array(list) = value else { return Cow::Borrowed(value) };
        Cow::Owned(match self {
            Self::Len => list.len().into(),
            Self::Any => list.contains(&Json::Bool(true)).into(),
            Self::All => (!list.is_empty() && list.iter().all(|v| *v == Json::Bool(true))).into(),
            Self::Sum => {
                let whole: Option<i64> =
                    list.iter().filter(|v| v.is_number()).try_fold(0_i64, |sum, v| sum.checked_add(v.as_i64()?));
                whole.map_or_else(|| list.iter().filter_map(Json::as_f64).sum::<f64>().into(), Json::from)
            }
        })
    }

    fn of(word: &str) -> Option<Self> {
        let known = [("sum", Self::Sum), ("len", Self::Len), ("any", Self::Any), ("all", Self::All)];
        known.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, reducer)| *reducer)
    }
}

/// An item whose columns can be used by their names.
struct Aliased<'a> {
    item: &'a dyn Item,
    columns: Vec<(&'a str, Json)>,
}

impl Item for Aliased<'_> {
    fn member(&self, key: &str) -> Option<&Json> {
        let column = self.columns.iter().find(|(name, _)| *name == key);
        column.map_or_else(|| self.item.member(key), |(_, value)| Some(value))
    }
}

impl Query {
    /// Parses a query; the empty text is the query for everything.
    ///
    /// # Errors
    /// What is not in the language, with its place.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        let mut query = Self::default();
        for clause in clauses(text).map_err(|error| error.within(text, 0))? {
            let told = |error: SyntaxError| {
                let error = error.within(text, clause.offset);
                match typo(text) {
                    Some((word, keyword)) => error.hint(format!("is '{word}' meant as '{keyword}'?")),
                    None => error,
                }
            };
            match clause.keyword {
                Keyword::Select => query.select = columns(&clause.body).map_err(told)?,
                Keyword::Where => query.filter = Some(Expression::parse(&clause.body).map_err(told)?),
                Keyword::Order => query.order = orders(&clause.body).map_err(told)?,
                Keyword::Limit => query.limit = Some(limit(&clause.body).map_err(told)?),
            }
        }
        // an alias stands for its column, reducer and all
        let aliases: Vec<Selected> = query.select.clone();
        for order in &mut query.order {
            if let Some(column) = aliases.iter().find(|column| column.name == order.name) {
                order.path = column.path.clone();
                order.reducer = column.reducer;
            }
        }
        Ok(query)
    }

    /// Returns the items' keys that the filter, the order and (when it selects) the columns look at.
    pub fn roots(&self) -> BTreeSet<String> {
        let filter = self.filter.iter().flat_map(Expression::roots).map(str::to_owned);
        let order = self.order.iter().map(|order| order.root().to_owned());
        let columns = self.select.iter().map(|column| column.path.root().to_owned());
        filter.chain(order).chain(columns).collect()
    }

    /// Returns whether an item is wanted.
    ///
    /// # Errors
    /// Values of the item that do not fit the expression.
    pub fn matches(&self, item: &dyn Item) -> Result<bool, EvalError> {
        let Some(filter) = &self.filter else { return Ok(true) };
        let value = if self.select.is_empty() {
            filter.evaluate(item)?
        } else {
            let columns = self.select.iter().map(|column| (column.name.as_str(), column.value(item).into_owned()));
            filter.evaluate(&Aliased { item, columns: columns.collect() })?
        };
        Ok(value == Value::Bool(true))
    }

    /// Returns the keys by which an item is sorted.
    pub fn sort_keys(&self, item: &dyn Item) -> Vec<SortKey> {
        self.order.iter().map(|order| order.key(item)).collect()
    }

    /// Filters, sorts and cuts; `view` gives what the query looks at of each item.
    pub fn run<T, V: Item>(&self, items: impl Iterator<Item = T>, view: impl Fn(&T) -> V) -> Outcome<T> {
        let mut found: Vec<(Vec<SortKey>, T)> = Vec::new();
        let mut failed: Option<(usize, EvalError)> = None;
        for item in items {
            let seen = view(&item);
            match self.matches(&seen) {
                Ok(true) => found.push((self.sort_keys(&seen), item)),
                Ok(false) => {}
                Err(error) => failed.get_or_insert((0, error)).0 += 1,
            }
        }
        if !self.order.is_empty() {
            found.sort_by(|(left, _), (right, _)| {
                let keys = self.order.iter().zip(left.iter().zip(right));
                keys.map(|(order, (left, right))| order.compare(left, right))
                    .find(|order| order.is_ne())
                    .unwrap_or(std::cmp::Ordering::Equal)
            });
        }
        let matched = found.len();
        let items = found.into_iter().map(|(_, item)| item).take(self.limit.unwrap_or(usize::MAX)).collect();
        Outcome { items, matched, failed }
    }

    /// Returns what is shown of an item that `select` restricts.
    pub fn project(&self, item: &dyn Item) -> Map<String, Json> {
        self.select.iter().map(|column| (column.name.clone(), column.value(item).into_owned())).collect()
    }
}

impl Selected {
    fn value<'a>(&self, item: &'a dyn Item) -> Cow<'a, Json> {
        let found = self.path.find(item);
        match self.reducer {
            Some(reducer) => Cow::Owned(reducer.reduce(&found).into_owned()),
            None => found,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Keyword {
    Select,
    Where,
    Order,
    Limit,
}

impl Keyword {
    fn name(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Where => "WHERE",
            Self::Order => "ORDER BY",
            Self::Limit => "LIMIT",
        }
    }
}

struct Clause {
    keyword: Keyword,
    body: String,
    /// Where the body begins.
    offset: usize,
}

/// A word outside of quotes and brackets.
struct Bare {
    text: String,
    begin: usize,
    end: usize,
}

fn bare_words(chars: &[char]) -> Vec<Bare> {
    let mut words = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&c) = chars.get(at) {
        match c {
            '\'' | '"' | '`' => {
                at += 1;
                while chars.get(at).is_some_and(|x| *x != c) {
                    at += if chars.get(at) == Some(&'\\') { 2 } else { 1 };
                }
                at += 1;
            }
            '(' | '[' => {
                depth += 1;
                at += 1;
            }
            ')' | ']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ if is_letter(c) || c == '_' => {
                let end = name_end(chars, at);
                if depth == 0 {
                    let text = chars.get(at..end).unwrap_or_default().iter().collect();
                    words.push(Bare { text, begin: at, end });
                }
                at = end;
            }
            // digits belong to what they begin: 10k, 2024-05-01
            _ if c.is_ascii_digit() => at = name_end(chars, at).max(at + 1),
            _ => at += 1,
        }
    }
    words
}

fn clauses(text: &str) -> Result<Vec<Clause>, SyntaxError> {
    let chars: Vec<char> = text.chars().collect();
    let words = bare_words(&chars);
    let slice = |begin: usize, end: usize| chars.get(begin..end).unwrap_or_default().iter().collect::<String>();
    // keyword, where it begins, where its body begins
    let mut found: Vec<(Keyword, usize, usize)> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let lower = word.text.to_ascii_lowercase();
        let next = words.get(at).filter(|next| slice(word.end, next.begin).trim().is_empty());
        let (keyword, end) = match lower.as_str() {
            "select" => (Keyword::Select, word.end),
            "where" => (Keyword::Where, word.end),
            "order" | "sort" => match next {
                Some(by) if by.text.eq_ignore_ascii_case("by") => {
                    at += 1;
                    (Keyword::Order, by.end)
                }
                _ => continue,
            },
            "limit" => (Keyword::Limit, word.end),
            _ => continue,
        };
        let first = slice(0, word.begin).trim().is_empty();
        // `limit > 3` is a field of that name
        if keyword == Keyword::Limit && !first && !slice(end, chars.len()).trim_start().starts_with(is_limit) {
            continue;
        }
        if first || found.is_empty() {
            if !first {
                // what comes before the first keyword is a `where` without its word
                found.push((Keyword::Where, 0, 0));
            }
        } else if found.iter().any(|(known, ..)| *known == keyword) {
            return Err(SyntaxError::new(format!("{} appears twice", keyword.name()), word.begin)
                .hint("each clause can be used once"));
        }
        if let Some((last, ..)) = found.last()
            && *last >= keyword
        {
            let message = match *last == keyword {
                true => format!("{} appears twice", keyword.name()),
                false => format!("{} comes after {}", keyword.name(), last.name()),
            };
            return Err(SyntaxError::new(message, word.begin).hint("the order is SELECT, WHERE, ORDER BY, LIMIT"));
        }
        found.push((keyword, word.begin, end));
    }
    if found.is_empty() && !text.trim().is_empty() {
        found.push((Keyword::Where, 0, 0));
    }
    let ends = found.iter().skip(1).map(|(_, begin, _)| *begin).chain([chars.len()]).collect::<Vec<_>>();
    let mut clauses = Vec::new();
    for ((keyword, begin, body), end) in found.into_iter().zip(ends) {
        let text = slice(body, end);
        if text.trim().is_empty() {
            return Err(SyntaxError::new(format!("nothing follows {}", keyword.name()), begin));
        }
        clauses.push(Clause { keyword, body: text, offset: body });
    }
    Ok(clauses)
}

fn is_limit(c: char) -> bool {
    c.is_alphanumeric() || c == '-'
}

fn limit(body: &str) -> Result<usize, SyntaxError> {
    let wrong =
        || SyntaxError::new("LIMIT needs a whole number", body.chars().take_while(|c| c.is_whitespace()).count());
    body.trim().parse().map_err(|_| wrong())
}

/// Splits at commas outside of quotes and brackets; with the place of each part.
fn parts(body: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(0, String::new())];
    let (mut depth, mut quote) = (0_usize, None);
    for (at, c) in body.chars().enumerate() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"' | '`', None) => quote = Some(c),
            ('(' | '[', None) => depth += 1,
            (')' | ']', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                parts.push((at + 1, String::new()));
                continue;
            }
            _ => {}
        }
        if let Some((_, part)) = parts.last_mut() {
            part.push(c);
        }
    }
    parts
}

/// Reads `path`, `reducer(path)` or `reducer path`, and the words that follow.
fn column(part: &str, offset: usize) -> Result<(Option<Reducer>, String, Vec<String>), SyntaxError> {
    let wrong = |message: &str| {
        let spaces = part.chars().take_while(|c| c.is_whitespace()).count();
        SyntaxError::new(message, offset + spaces)
    };
    let text = part.trim();
    if text.is_empty() {
        return Err(wrong("a field is missing"));
    }
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    if let Some((head, rest)) = text.split_once('(') {
        let reducer = Reducer::of(head.trim());
        return match (reducer, rest.split_once(')')) {
            (Some(reducer), Some((path, rest))) => Ok((Some(reducer), path.trim().to_owned(), words(rest))),
            (None, _) => Err(wrong("only sum, len, any and all can be applied to a field")),
            (_, None) => Err(wrong("a ')' is missing")),
        };
    }
    let mut all = words(text);
    let reducer = all.first().and_then(|word| Reducer::of(word));
    let is_path = |word: &String| !["as", "asc", "desc"].iter().any(|known| word.eq_ignore_ascii_case(known));
    match reducer {
        Some(reducer) if all.get(1).is_some_and(is_path) => {
            let rest = all.split_off(2);
            Ok((Some(reducer), all.pop().unwrap_or_default(), rest))
        }
        _ => {
            let rest = all.split_off(1);
            Ok((None, all.pop().unwrap_or_default(), rest))
        }
    }
}

fn columns(body: &str) -> Result<Vec<Selected>, SyntaxError> {
    let mut columns = Vec::new();
    for (offset, part) in parts(body) {
        let (reducer, path, rest) = column(&part, offset)?;
        let name = match rest.as_slice() {
            [] => path.clone(),
            [word, alias] if word.eq_ignore_ascii_case("as") => alias.clone(),
            _ => return Err(SyntaxError::new("a column is written as field or field as name", offset)),
        };
        columns.push(Selected { name, path: Path::new(&path), reducer });
    }
    // all columns: the same as none
    if matches!(columns.as_slice(), [only] if only.name == "*") {
        columns.clear();
    }
    Ok(columns)
}

fn orders(body: &str) -> Result<Vec<Order>, SyntaxError> {
    let mut orders = Vec::new();
    for (offset, part) in parts(body) {
        let (reducer, path, rest) = column(&part, offset)?;
        let descending = match rest.as_slice() {
            [] => false,
            [word] if word.eq_ignore_ascii_case("asc") => false,
            [word] if word.eq_ignore_ascii_case("desc") => true,
            _ => return Err(SyntaxError::new("ORDER BY takes fields, each with asc or desc", offset)),
        };
        orders.push(Order { reducer, ..Order::by(&path, descending) });
    }
    Ok(orders)
}

/// Returns a misspelt keyword of a query that cannot be parsed.
fn typo(text: &str) -> Option<(String, &'static str)> {
    const TYPOS: [(&str, &str); 11] = [
        ("selct", "select"),
        ("slect", "select"),
        ("wher", "where"),
        ("were", "where"),
        ("whre", "where"),
        ("limt", "limit"),
        ("lmit", "limit"),
        ("oder", "order"),
        ("ordr", "order"),
        ("srot", "sort"),
        ("sotr", "sort"),
    ];
    let chars: Vec<char> = text.chars().collect();
    bare_words(&chars).into_iter().find_map(|word| {
        let known = TYPOS.iter().find(|(typo, _)| word.text.eq_ignore_ascii_case(typo));
        known.map(|(_, keyword)| (word.text, *keyword))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    fn check(text: &str, expected: Expect) {
        let items = [
            json!({"name": "web", "memoryMB": 4096, "limit": 5, "disks": [{"capacity": 10}, {"capacity": 20}]}),
            json!({"name": "db", "memoryMB": 8192, "limit": 2, "disks": [{"capacity": 5}]}),
            json!({"name": "order by x", "memoryMB": null, "disks": []}),
            json!({"name": 7, "memoryMB": "512"}),
        ];
        let told = match Query::parse(text) {
            Err(error) => error.to_string(),
            Ok(query) => {
                let outcome = query.run(items.iter(), |item| (*item).clone());
                let shown = outcome.items.iter().map(|item| match query.select.is_empty() {
                    true => item["name"].to_string(),
                    false => Json::Object(query.project(*item)).to_string(),
                });
                let lines: Vec<String> = shown.chain(outcome.warning()).collect();
                lines.join("\n")
            }
        };
        expected.assert_eq(&told);
    }

    #[test]
    fn clauses_select_filter_sort_and_cut() {
        check(
            "",
            expect![[r#"
            "web"
            "db"
            "order by x"
            7"#]],
        );
        check(
            "memoryMB > 4000 and limit > 3",
            expect![[r#"
                "web"
                1 item does not fit the query and is left out: type mismatch: a string cannot be compared with a number (position 0 of the expression)"#]],
        );
        check(
            "where name ~= 'b$' order by name limit 1",
            expect![[r#"
                "db"
                1 item does not fit the query and is left out: type mismatch: a string is expected, not a number (position 1 of the expression)"#]],
        );
        check(
            "ORDER BY memoryMB DESC",
            expect![[r#"
            "db"
            "web"
            7
            "order by x""#]],
        );
        check(
            "select name as n, sum(disks.capacity) as total where len(disks) > 0 order by total",
            expect![[r#"
            {"n":"db","total":5}
            {"n":"web","total":30}"#]],
        );
        check("select name, len disks as n where n = 2", expect![[r#"{"name":"web","n":2}"#]]);
        check(
            "sort  by len(disks) desc limit 2",
            expect![[r#"
            "web"
            "db""#]],
        );
        check("name = 'order by x'", expect![[r#""order by x""#]]);
        check("limit 0", expect![""]);
        check("select * limit 1", expect![[r#""web""#]]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        check(
            "limit 5 where name = 'a'",
            expect![[r#"
            WHERE comes after LIMIT at position 8
            limit 5 where name = 'a'
                    ^
            hint: the order is SELECT, WHERE, ORDER BY, LIMIT"#]],
        );
        check(
            "where a = 1 where b = 2",
            expect![[r#"
            WHERE appears twice at position 12
            where a = 1 where b = 2
                        ^
            hint: each clause can be used once"#]],
        );
        check(
            "where a = 1 order by",
            expect![[r#"
            nothing follows ORDER BY at position 12
            where a = 1 order by
                        ^"#]],
        );
        check(
            "where a = 1 limit x",
            expect![[r#"
            LIMIT needs a whole number at position 18
            where a = 1 limit x
                              ^"#]],
        );
        check(
            "wher a = 1",
            expect![[r#"
            syntax error: the name a where an operator or the end is expected at position 5
            wher a = 1
                 ^
            hint: is 'wher' meant as 'where'?"#]],
        );
        check(
            "where name in ('a', 'b')",
            expect![[r#"
            syntax error: ',' where ')' is expected at position 18
            where name in ('a', 'b')
                              ^
            hint: lists are written in brackets: name in ['a', 'b']"#]],
        );
        check(
            "select concat(a, b)",
            expect![[r#"
            only sum, len, any and all can be applied to a field at position 7
            select concat(a, b)
                   ^"#]],
        );
    }
}
