//! The language beside its original: results that were measured on it, and a generated campaign that runs it.
//!
//! `TSL_CASES` is the campaign's size (default 5,000), `TSL_SEED` its beginning.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use forklift_lang::{Expression, Path, Value};
use forklift_testkit::peers;
use serde_json::{Map, Value as Json, json};

fn record() -> Json {
    json!({
        "name": "web-01", "id": "vm-1", "powerState": "poweredOn", "cpuCount": 4, "memoryMB": 8192,
        "storageUsed": 53_687_091_200_u64, "isTemplate": false, "guestId": "rhel8_64Guest", "ipAddress": null,
        "memoryGB": "8.0 GB", "criticalConcerns": 0, "parent": {"kind": "Folder", "id": "group-v1"},
        "created": "2024-05-01T10:00:00Z", "day": "2024-05-01", "empty": [], "strnum": "8192",
        "mixed": [1, "a", null], "annotations": {"a.b/c": "x"},
        "disks": [
            {"capacity": 53_687_091_200_u64, "shared": false, "datastore": {"id": "ds-1", "name": "fast"},
                "file": "[fast] a.vmdk"},
            {"capacity": 107_374_182_400_u64, "shared": true, "datastore": {"id": "ds-2", "name": "slow"},
                "file": "[slow] b.vmdk"},
        ],
        "nics": [
            {"mac": "00:50:56:aa:bb:cc", "network": {"id": "net-1"}, "ips": ["10.0.0.1", "10.0.0.2"]},
        ],
        "concerns": [{"category": "Warning", "label": "CBT"}, {"category": "Critical", "label": "X"}],
        "flags": [true, false], "umlaut": "Ärger\nHÄLT", "nested": [[true, false], [1]],
    })
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(value) if value.is_nan() => "NaN".into(),
        Value::Number(value) if value.is_infinite() => if *value > 0.0 { "+Inf" } else { "-Inf" }.into(),
        Value::Number(value) => (*value).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Time(at) => {
            let (seconds, rest) = (at.0.div_euclid(1_000_000_000), at.0.rem_euclid(1_000_000_000));
            json!({"time": format!("{seconds}.{rest:09}")})
        }
        Value::List(list) => list.iter().map(plain).collect(),
        Value::Object => json!({"object": true}),
    }
}

/// Numbers are compared as what they are, not as how they are written.
fn same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(a), Json::Number(b)) => a.as_f64() == b.as_f64(),
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => left == right,
    }
}

/// What we say: `value`, `error` or `parse`, and the value or the words.
fn ours(text: &str, item: &Json) -> (&'static str, Json) {
    match Expression::parse(text) {
        Err(error) => ("parse", error.to_string().into()),
        Ok(expression) => match expression.evaluate_strictly(item) {
            Err(error) => ("error", error.to_string().into()),
            Ok(value) => ("value", plain(&value)),
        },
    }
}

#[test]
fn measured_results_of_the_original() {
    let item = record();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for line in include_str!("tsl.txt").lines() {
        let Some((text, expected)) = line.rsplit_once(" => ") else { continue };
        seen += 1;
        let (kind, told) = ours(text, &item);
        let fits = match expected {
            error if error.starts_with("PARSE ERR") => kind == "parse",
            error if error.starts_with("EVAL ERR") => kind == "error",
            value => {
                let value: Json = serde_json::from_str(value).unwrap_or_else(|_| value.into());
                kind == "value" && same(&told, &value)
            }
        };
        if !fits {
            wrong.push(format!("{text}\n  original {expected}\n  ours     {kind} {told}"));
        }
    }
    assert!(seen > 180, "only {seen} lines");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A reproducible source of choices.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

const NAMES: [&str; 28] = [
    "name",
    "cpuCount",
    "memoryMB",
    "isTemplate",
    "ipAddress",
    "memoryGB",
    "created",
    "day",
    "empty",
    "strnum",
    "mixed",
    "missing",
    "disks.capacity",
    "disks.shared",
    "disks[0].capacity",
    "disks[*].file",
    "nics.ips",
    "flags",
    "umlaut",
    "nested",
    "parent",
    "parent.kind",
    "annotations[a.b/c]",
    "concerns.category",
    "guestId",
    "_x",
    "名前",
    "path/to",
];

/// Not among them: the empty string, which in the original is the text of the token before it.
const LITERALS: [&str; 39] = [
    "1",
    "4",
    "8192",
    "0",
    "2.5",
    "1Ki",
    "50Gi",
    "2e3",
    "1e",
    "1.5m",
    "'web-01'",
    "\"4\"",
    "`x`",
    "true",
    "FALSE",
    "2024-05-01",
    "'2024-05-01'",
    "2024-05-01T10:00:00Z",
    "'2024-05-01T12:00:00+02:00'",
    "'2024-13-01'",
    "[1, 4]",
    "['web-01', 'x']",
    "[]",
    "[true, 1, 'a',]",
    "'%'",
    "'web-%'",
    "'w_b%01'",
    "'^web'",
    "'(?i)WEB'",
    "'[0-9]+$'",
    "'['",
    "'\\\\d+'",
    "'\\\\bweb\\\\b'",
    "'[[]fast[]]'",
    "'a{,5}'",
    "'%HÄLT'",
    "'Ä.*T'",
    "'(?s)Ä.*T'",
    "'it\\'s'",
];

const OPERATORS: [&str; 26] = [
    "=",
    "==",
    "!=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "~=",
    "~!",
    "like",
    "LIKE",
    "not like",
    "ilike",
    "not ilike",
    "in",
    "not in",
    "and",
    "or",
    "AND",
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
];

fn expression(dice: &mut Dice, depth: usize) -> String {
    match if depth == 0 { dice.roll(4) } else { dice.roll(14) } {
        0 | 1 => dice.one(&NAMES).to_owned(),
        2 | 3 => dice.one(&LITERALS).to_owned(),
        4 => format!("({})", expression(dice, depth - 1)),
        5 => {
            let operator = dice.one(&["not ", "len ", "any ", "all ", "sum ", "-", "+", "not not ", "- -"]);
            format!("{operator}{}", expression(dice, depth - 1))
        }
        6 => {
            let function = dice.one(&["len", "any", "all", "sum", "not"]);
            format!("{function}({})", expression(dice, depth - 1))
        }
        7 => format!("{} is {}null", expression(dice, depth - 1), dice.one(&["", "not "])),
        8 => {
            let (value, low, high) =
                (expression(dice, depth - 1), expression(dice, depth - 1), expression(dice, depth - 1));
            format!("{value} {}between {low} and {high}", dice.one(&["", "not "]))
        }
        9 => format!("[{}, {}]", expression(dice, depth - 1), expression(dice, depth - 1)),
        _ => {
            let (left, right) = (expression(dice, depth - 1), expression(dice, depth - 1));
            let space = dice.one(&[" ", " ", " ", "  "]);
            format!("{left}{space}{}{space}{right}", dice.one(&OPERATORS))
        }
    }
}

/// Anything: mostly no expression at all.
fn soup(dice: &mut Dice) -> String {
    let length = 1 + dice.roll(8);
    let pieces = (0..length).map(|_| match dice.roll(4) {
        0 => dice.one(&NAMES).to_owned(),
        1 => dice.one(&LITERALS).to_owned(),
        2 => dice.one(&OPERATORS).to_owned(),
        _ => {
            let odd = [
                "(",
                ")",
                "[",
                "]",
                ",",
                "is",
                "null",
                "not",
                "between",
                "any",
                "!",
                "~",
                "@",
                "1e5k",
                "0x1",
                "5.",
                ".5",
                "a[",
                "2024-05-01T1",
                "2024-05-011",
                "'",
                "\"",
                "\\",
                "1Gib",
                "1 1",
                "٣",
                "a-b",
                "\u{a0}",
                "½",
            ];
            dice.one(&odd).to_owned()
        }
    });
    let pieces: Vec<String> = pieces.collect();
    pieces.join(dice.one(&[" ", "", " "]))
}

#[test]
fn generated_expressions_mean_what_they_mean_in_the_original() {
    let Some(oracle) = peers::go("lang", "lang") else { return };
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (cases, mut dice) = (number("TSL_CASES", 5000), Dice(number("TSL_SEED", 20_240_501) | 1));
    let item = record();
    let texts: Vec<String> = (0..cases)
        .map(|case| if case % 5 == 4 { soup(&mut dice) } else { expression(&mut dice, 1 + case as usize % 4) })
        .collect();

    let mut child =
        Command::new(oracle).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the oracle starts");
    let mut input = child.stdin.take().expect("piped");
    let lines: Vec<String> = texts
        .iter()
        .map(|text| {
            // names lead to values by our own paths: those are kubectl-mtv's, not the language's
            let parsed = Expression::parse(text);
            let names = parsed.iter().flat_map(Expression::names);
            let values: Map<String, Json> =
                names.map(|name| (name.to_owned(), Path::new(name).find(&item).into_owned())).collect();
            json!({"expression": text, "values": values}).to_string()
        })
        .collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").expect("the oracle reads");
        }
    });
    let mut answers = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (mut values, mut errors, mut refused, mut wrong) = (0, 0, 0, Vec::new());
    for text in &texts {
        let line = answers.next().expect("an answer").expect("readable");
        let answer: Map<String, Json> = serde_json::from_str(&line).expect("JSON");
        let (kind, told) = ours(text, &item);
        let fits = match answer.iter().next().expect("one key") {
            (expected, value) if expected == "value" => {
                values += 1;
                kind == "value" && same(&told, value)
            }
            // objects that are compared with each other: the original panics
            (expected, words) if expected == "error" && words.as_str().is_some_and(|w| w.starts_with("panic")) => {
                errors += 1;
                true
            }
            (expected, _) if expected == "error" => {
                errors += 1;
                kind == "error"
            }
            _ => {
                refused += 1;
                kind == "parse"
            }
        };
        if !fits {
            wrong.push(format!("{text}\n  original {line}\n  ours     {kind} {told}"));
        }
    }
    writer.join().expect("all is written");
    drop(answers);
    child.wait().expect("it ends");
    println!("{values} values, {errors} errors, {refused} refused");
    wrong.truncate(40);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(values > 0 && errors > 0 && refused > 0, "the campaign covers everything");
}

#[test]
fn nothing_that_is_typed_panics() {
    let mut dice = Dice(7);
    let item = record();
    let mut parsed = 0;
    for _ in 0..20_000 {
        let text = soup(&mut dice);
        if let Ok(expression) = Expression::parse(&text) {
            parsed += 1;
            let _ = expression.evaluate(&item);
        }
        if let Ok(query) = forklift_lang::Query::parse(&text) {
            let _ = query.run(std::iter::once(&item), |item| (*item).clone());
        }
    }
    assert!(parsed > 100, "{parsed}");
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let error = Expression::parse(&deep).expect_err("too deep").message;
    assert_eq!(error, "nested too deeply");
    assert!(Expression::parse(&"-".repeat(100_000)).is_err());
    let sum = |length: usize| Expression::parse(&vec!["1"; length].join("+"));
    assert_eq!(sum(1001).expect("wide").evaluate(&item), Ok(Value::Number(1001.0)));
    assert_eq!(sum(1002).expect_err("too wide").message, "more than 1000 operators");
    let list = format!("4 in [{}]", vec!["4"; 10_000].join(","));
    assert_eq!(Expression::parse(&list).expect("a list may be long").evaluate(&item), Ok(Value::Bool(true)));
}
