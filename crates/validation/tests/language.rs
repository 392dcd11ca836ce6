//! The language itself: a corpus of statements with the values that OPA 1.8.0 gives them.
//!
//! `language/expected.json` is the output of
//! `opa eval -d language.rego -i input.json data.t`, its value alone.

use std::sync::Arc;

use forklift_validation::rego::compile;
use forklift_validation::rego::document::Document;
use forklift_validation::rego::eval::Evaluator;
use forklift_validation::rego::limits::Limits;
use forklift_validation::rego::parse::{self, Dialect};
use forklift_validation::rego::plan::{Kind, Program};
use forklift_validation::rego::value::Value;

fn load(text: &str, dialect: Dialect) -> Program {
    let module = parse::module("language.rego", text, dialect).expect("it parses");
    compile::program(&[module], 1).expect("it compiles")
}

fn evaluate(program: &Program, name: &str, input: &Value) -> Result<Option<serde_json::Value>, String> {
    let rule = program.rule("t", name).expect("there is such a rule");
    let input = Document::of(&program.layout, input);
    let value = Evaluator::new(program, &program.layout, &input, Limits::default()).rule(rule);
    value.map(|value| value.as_ref().map(serde_json::Value::from)).map_err(|stop| stop.to_string())
}

/// Numbers are equal as numbers: OPA keeps the text `2.0` of a literal.
fn same(a: &serde_json::Value, b: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (a, b) {
        (Number(a), Number(b)) => a.as_f64() == b.as_f64(),
        (Array(a), Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Object(a), Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn every_statement_means_what_it_means_in_opa() {
    let program = load(include_str!("language/language.rego"), Dialect::V1);
    let input: Value = serde_json::from_str(include_str!("language/input.json")).expect("an input");
    let expected: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(include_str!("language/expected.json")).expect("the answers");
    let mut different = Vec::new();
    let names: Vec<String> = program.packages["t"].keys().cloned().collect();
    for name in &names {
        let rule = program.rule("t", name).expect("it is listed");
        if matches!(program.rules[rule].kind, Kind::Function(_)) {
            continue;
        }
        let ours = evaluate(&program, name, &input);
        let agree = match (&ours, expected.get(name)) {
            (Ok(None), None) => true,
            (Ok(Some(ours)), Some(opas)) => same(ours, opas),
            _ => false,
        };
        if !agree {
            different.push(format!("{name}: ours {ours:?}, opa's {:?}\n", expected.get(name)));
        }
    }
    different.sort();
    assert!(different.is_empty(), "{}", different.concat());
    assert!(names.len() > 250, "only {} statements", names.len());
    assert!(expected.keys().all(|name| names.contains(name)));
}

#[test]
fn the_older_dialect_has_its_own_forms() {
    let text = r#"package t
p[x] { x := input.list[_]; x > 1 }
q[k] = v { v := input.object[k] }
r = "big" { count(input.list) > 2 } else = "small" { true }
s { input.list[0] == 1 } { input.list[0] == 2 }
f(x) = y { y := x + 1 }
u = f(1)
contains(x) = x { x == 1 }
"#;
    let program = load(text, Dialect::V0);
    let input: Value = serde_json::from_str(r#"{"list": [1, 2, 3], "object": {"a": 5}}"#).expect("an input");
    let found: Vec<String> = ["p", "q", "r", "s", "u"]
        .iter()
        .map(|name| format!("{name} = {}", evaluate(&program, name, &input).expect("it holds").expect("it is defined")))
        .collect();
    assert_eq!(found, ["p = [2,3]", "q = {\"a\":5}", "r = \"big\"", "s = true", "u = 2"]);
    assert!(parse::module("x.rego", text, Dialect::V1).is_err());
    assert_eq!(parse::either("x.rego", text).expect("one of the two").1, Dialect::V0);
}

#[test]
fn what_opa_refuses_is_refused_with_its_line() {
    let check = |body: &str| {
        let text = format!("package t\n\n{body}\n");
        match parse::module("x.rego", &text, Dialect::V1) {
            Err(error) => format!("{}: {}", error.line, error.message),
            Ok(module) => match compile::program(&[module], 1) {
                Err(error) => format!("{}: {}", error.line, error.message),
                Ok(_) => "accepted".to_owned(),
            },
        }
    };
    let cases = [
        ("p if x > 1", "3: var x is unsafe: nothing gives it a value"),
        ("p if not q[x]\nq := [1]", "3: var x is unsafe: nothing gives it a value"),
        ("p if {\n\tnot x == 1\n}", "4: var x is unsafe: nothing gives it a value"),
        ("p if q\nq if p", "4: rule p is recursive"),
        ("p := 1\np contains 2", "4: `p` is defined as something else already (conflicting rules)"),
        ("p if nothing(1)", "3: unknown function nothing"),
        ("p if count(1, 2, 3)", "3: `count` takes 1 arguments, not 3"),
        ("p { true }", "3: expected `if` before the rule's body, found `{`"),
        ("p := 1 2", "3: expected a rule, found `2`"),
        ("p if {\n\tx := \"open\n}", "4: the string is not closed on its line"),
        ("p := http.get(\"x\")", "3: unknown function http.get"),
        ("default p := input.x", "3: a default value is a constant"),
        ("p := [1, 2", "4: expected `]` or `,` after the item, found the end of the file"),
        ("f(x) := x\np := f", "4: `f` is a function: call it"),
        // OPA: rego_type_error
        ("p if count(5) == 1", "3: count: argument 1 is of type number, not string or array or object or set"),
        ("p := concat(\",\", 3)", "3: concat: argument 2 is of type number, not array or set"),
        ("p if {\n\tstartswith(input.x, 5)\n}", "4: startswith: argument 2 is of type number, not string"),
        ("p := \"a\" + 1", "3: plus: argument 1 is of type string, not number"),
        ("p := sprintf(1, [2])", "3: sprintf: argument 1 is of type number, not string"),
        ("p if lower(count([1])) == \"x\"", "3: lower: argument 1 is of type number, not string"),
        ("p := {1} + {input.x}", "3: plus: argument 1 is of type set, not number"),
        ("p if not count(null) == 1", "3: count: argument 1 is of type null, not string or array or object or set"),
        ("p if count(input.x, 2, 3)", "3: `count` takes 1 arguments, not 3"),
        ("p if 1 < \"a\"", "accepted"),
        ("p if 5 in 7", "accepted"),
        ("p if regex.match(\"(\", \"a\")", "accepted"),
    ];
    for (body, expected) in cases {
        assert_eq!(check(body), expected, "{body}");
    }
    let deep = format!("p := {}1{}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(check(&deep), "3: nested too deeply");
}

#[test]
fn two_values_of_one_rule_are_a_conflict() {
    let program = load(
        "package t\nimport rego.v1\np := 1 if input.a\np := 2 if input.b\nf(x) := 1\nf(x) := 2 if x > 1\nq := f(2)\no := {k: v | some [k, v] in [[1, 2], [1, 3]]}\n",
        Dialect::V1,
    );
    let input: Value = serde_json::from_str(r#"{"a": true, "b": true}"#).expect("an input");
    assert_eq!(
        evaluate(&program, "p", &input),
        Err("complete rules must not produce multiple outputs: `p` is 1 and 2".to_owned())
    );
    assert_eq!(
        evaluate(&program, "q", &input),
        Err("functions must not produce multiple outputs for same inputs: `f` is 1 and 2".to_owned())
    );
    assert_eq!(
        evaluate(&program, "o", &input),
        Err("object keys must be unique: the comprehension has two values for 1".to_owned())
    );
    let input = Document::of(&program.layout, &input);
    let mut evaluator = Evaluator::new(&program, &program.layout, &input, Limits::default());
    let rule = program.rule("t", "p").expect("there is such a rule");
    assert!(evaluator.rule(rule).is_err());
    let _: Option<(Arc<str>, u32)> = evaluator.place();
}
