//! Built-in functions, as users' rules call them: random arguments give the same values here as in OPA.
//!
//! `RULE_CALLS` sets the number of calls of each function (100 when unset), `RULE_SEED` where they begin.

use forklift_testkit::peers::opa::Opa;
use forklift_validation::{RuleFile, Validator};
use serde_json::{Value, json};

use crate::number;
use crate::random::{Rng, anything};

/// What an argument is most of the time; now and then it is anything at all.
#[derive(Clone, Copy)]
enum Kind {
    Any,
    Text,
    /// A list of texts, or one.
    Texts,
    Number,
    /// A small whole number.
    Count,
    Array,
    Numbers,
    Object,
    /// A list of objects.
    Objects,
    Keys,
    Pattern,
    Format,
    /// What formats show.
    Formatted,
    Base,
    Version,
    Size,
    Network,
    /// A network or several.
    Networks,
    /// A network of few addresses.
    Small,
    /// A text in base64, hexadecimal or a URL's query.
    Code,
    /// An object of texts and lists of them.
    Texted,
    /// Paths into an object.
    Paths,
    Time,
}

use Kind::*;

/// Functions with one value for the same arguments, and their arguments.
const FUNCTIONS: &[(&str, &[Kind])] = &[
    ("abs", &[Number]),
    ("ceil", &[Number]),
    ("floor", &[Number]),
    ("round", &[Number]),
    ("plus", &[Number, Number]),
    ("minus", &[Number, Number]),
    ("mul", &[Number, Number]),
    ("div", &[Number, Number]),
    ("rem", &[Number, Number]),
    ("numbers.range", &[Count, Count]),
    ("numbers.range_step", &[Count, Count, Count]),
    ("bits.and", &[Number, Number]),
    ("bits.or", &[Number, Number]),
    ("bits.xor", &[Number, Number]),
    ("bits.negate", &[Number]),
    ("bits.lsh", &[Count, Count]),
    ("bits.rsh", &[Number, Count]),
    ("format_int", &[Number, Base]),
    ("to_number", &[Any]),
    ("equal", &[Any, Any]),
    ("lt", &[Any, Any]),
    ("lte", &[Any, Any]),
    ("count", &[Any]),
    ("sum", &[Numbers]),
    ("product", &[Numbers]),
    ("max", &[Array]),
    ("min", &[Array]),
    ("sort", &[Array]),
    ("array.concat", &[Array, Array]),
    ("array.reverse", &[Array]),
    ("array.slice", &[Array, Count, Count]),
    ("object.get", &[Object, Keys, Any]),
    ("object.keys", &[Object]),
    ("object.remove", &[Object, Texts]),
    ("object.filter", &[Object, Texts]),
    ("object.union", &[Object, Object]),
    ("object.union_n", &[Objects]),
    ("object.subset", &[Any, Any]),
    ("json.marshal", &[Any]),
    ("json.unmarshal", &[Text]),
    ("json.is_valid", &[Text]),
    ("type_name", &[Any]),
    ("is_string", &[Any]),
    ("is_object", &[Any]),
    ("is_null", &[Any]),
    ("concat", &[Text, Texts]),
    ("contains", &[Text, Text]),
    ("startswith", &[Text, Text]),
    ("endswith", &[Text, Text]),
    ("indexof", &[Text, Text]),
    ("indexof_n", &[Text, Text]),
    ("lower", &[Text]),
    ("upper", &[Text]),
    ("replace", &[Text, Text, Text]),
    ("strings.reverse", &[Text]),
    ("strings.count", &[Text, Text]),
    ("strings.any_prefix_match", &[Texts, Texts]),
    ("strings.any_suffix_match", &[Texts, Texts]),
    ("split", &[Text, Text]),
    ("substring", &[Text, Count, Count]),
    ("trim", &[Text, Text]),
    ("trim_left", &[Text, Text]),
    ("trim_right", &[Text, Text]),
    ("trim_prefix", &[Text, Text]),
    ("trim_suffix", &[Text, Text]),
    ("trim_space", &[Text]),
    ("sprintf", &[Format, Formatted]),
    ("regex.match", &[Pattern, Text]),
    ("regex.is_valid", &[Pattern]),
    ("regex.split", &[Pattern, Text]),
    ("regex.find_n", &[Pattern, Text, Count]),
    ("regex.find_all_string_submatch_n", &[Pattern, Text, Count]),
    ("regex.replace", &[Text, Pattern, Text]),
    ("base64.encode", &[Text]),
    ("base64.decode", &[Code]),
    ("base64.is_valid", &[Code]),
    ("base64url.encode", &[Text]),
    ("base64url.encode_no_pad", &[Text]),
    ("base64url.decode", &[Code]),
    ("hex.encode", &[Text]),
    ("hex.decode", &[Code]),
    ("urlquery.encode", &[Text]),
    ("urlquery.decode", &[Code]),
    ("urlquery.encode_object", &[Texted]),
    ("crypto.md5", &[Text]),
    ("crypto.sha1", &[Text]),
    ("crypto.sha256", &[Text]),
    ("json.filter", &[Object, Paths]),
    ("json.remove", &[Object, Paths]),
    ("semver.is_valid", &[Version]),
    ("semver.compare", &[Version, Version]),
    ("units.parse", &[Size]),
    ("units.parse_bytes", &[Size]),
    ("net.cidr_contains", &[Network, Network]),
    ("net.cidr_intersects", &[Network, Network]),
    ("net.cidr_contains_matches", &[Networks, Networks]),
    ("net.cidr_is_valid", &[Network]),
    ("net.cidr_expand", &[Small]),
    ("time.parse_rfc3339_ns", &[Time]),
];

const WORDS: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "abc",
    "aaa",
    "vm-01.example.com",
    "Windows Server 2022",
    " padded\t",
    "é",
    "äöü",
    "日本語",
    "a,b,,c",
    "x=1&y=2",
    "[\"a\", 1.50, null]",
    "{\"a\": {\"b\": [1, 2]}}",
    "12",
    "-7.5",
    "0x1f",
    "1e3",
    "YWJj",
    "YWJj_-",
    "616263",
    "%41",
    "İß",
    "\u{1f469}\u{200d}\u{1f467}",
    "\n",
    "rhel_9x64",
];

fn argument(kind: Kind, rng: &mut Rng) -> Value {
    if rng.chance(60) {
        // a range up to a large number, or a shift by one, is more than OPA's memory holds
        let odd = |rng: &mut Rng| rng.one(&[json!(null), json!("2"), json!(1.5), json!([1]), json!(true)]).clone();
        return if matches!(kind, Count) { odd(rng) } else { anything(rng, 2) };
    }
    let numbers = [-2.5_f64, -1.0, 0.0, 1.0, 2.0, 3.0, 7.0, 10.0, 0.5, 2.5, 1.25, 1_048_576.0, 100.0];
    let real = |rng: &mut Rng| {
        let number = *rng.one(&numbers);
        if number.fract() == 0.0 { json!(number as i64) } else { json!(number) }
    };
    let texts = |rng: &mut Rng| -> Value { (0..rng.below(4)).map(|_| json!(rng.one(WORDS))).collect() };
    let object = |rng: &mut Rng| -> Value {
        let keys = ["a", "b", "ab", "name", ""];
        Value::Object((0..rng.below(4)).map(|_| ((*rng.one(&keys)).to_owned(), anything(rng, 2))).collect())
    };
    let pick = |rng: &mut Rng, of: &[&str]| json!(rng.one(of));
    match kind {
        Any => anything(rng, 3),
        Text => pick(rng, WORDS),
        Texts if rng.chance(700) => texts(rng),
        Texts | Keys if rng.chance(500) => pick(rng, &["a", "b", "a/b", "/a", "name", "ab", ""]),
        Texts | Keys => json!(["a", "b"]),
        Number => real(rng),
        Count => json!(rng.below(9) as i64 - 2),
        Array => (0..rng.below(4)).map(|_| anything(rng, 1)).collect(),
        Numbers => (0..rng.below(4)).map(|_| real(rng)).collect(),
        Object => object(rng),
        Objects => (0..rng.below(4)).map(|_| object(rng)).collect(),
        Pattern => pick(
            rng,
            &[
                "a",
                "^a+$",
                "[a-c]*",
                "(a)(b)?",
                "\\bvm\\b",
                "\\d+",
                "\\w+",
                "\\s",
                "\\W",
                "[\\w.]+",
                "[^\\d]",
                ".",
                "(?i)WINDOWS",
                "(?P<x>a)",
                "a{2}",
                "x|y|",
                "[",
                "(",
                "\\p{Han}",
                "[[:alpha:]]+",
                "\\pL",
                "a**",
                "\\z",
                "(?s).",
                "\\x61",
                "(?m)^$",
                "é",
                "\\Qa.b\\E",
                "$",
                "\\8",
                "(?<n>a)",
                "a\\/b",
                "[a&&b]",
                "[a-z--b]",
                "\\u0061",
            ],
        ),
        Format => pick(
            rng,
            &[
                "%s",
                "%v",
                "%d",
                "%d of %d",
                "%x",
                "%X",
                "%o",
                "%b",
                "%c",
                "%e",
                "%f",
                "%g",
                "%q",
                "%s %s",
                "%%",
                "%",
                "%!",
                "%t",
                "% d",
                "%z",
                "%.3s|%8s|",
                "%x %s",
                "%5d|%-5d|",
                "%05d|%+d",
                "%5z|",
                "%-8v|",
                "%08.3f",
                "%5.1f|%-9.2e|",
                "%.3g|%g",
                "%8.3g|",
                "%G|%E",
                "%q|%10q|",
                "%#q",
                "%#g",
                "%#.2g|%#v",
                "%U",
                "%T",
                "%p",
                "%w",
                "%[2]v %[1]v",
                "%[3]d",
                "%[x]d",
                "%[1]d %d",
                "%*d|",
                "%.*f",
                "%5%|",
                "%+v|%+q",
                "% x|% X",
                "%#v",
                "%010s|",
                "%.2d|%.0d",
                "%+.1e",
                "%i",
                "%é",
            ],
        ),
        Formatted => {
            let shown = [
                json!(7),
                json!(-3),
                json!(0),
                json!(65),
                json!(39),
                json!(2.5),
                json!(-0.5),
                json!(0.000_012_34),
                json!(123_456_789.5),
                json!(1.25),
                json!(999_999.5),
                json!(1_048_576.5),
                json!(1e22),
                json!("text"),
                json!("é\n`"),
                json!(""),
                json!(true),
                json!(null),
                json!([1, "a"]),
                json!({"a": 1.5}),
            ];
            (0..1 + rng.below(3)).map(|_| rng.one(&shown).clone()).collect()
        }
        Base => json!(rng.one(&[2, 8, 10, 16, 3])),
        Version => pick(
            rng,
            &[
                "1.2.3",
                "1.10.0",
                "1.2.3-rc.1",
                "1.2.3-rc.10",
                "1.2.3-rc",
                "1.2.3-1",
                "1.2.3-01",
                "1.2.3-a-b.c",
                "1.2.3-",
                "1.2.3-a..b",
                "1.2.3+b",
                "1.2.3+b+c",
                "1.2.3-rc.1+b-c",
                "01.2.3",
                "1.+2.3",
                "-1.2.3",
                "1.2.3.4",
                "1.2.9223372036854775808",
                "v1.2.3",
                "1.2",
                "",
            ],
        ),
        Size => pick(
            rng,
            &[
                "10", "1K", "1Ki", "2.5G", "3MB", "3MiB", "1m", "1Mi", "10 Gi", "-1G", "1e3", "x", "", "0.5T", "1KB",
                "1E", "7b",
            ],
        ),
        Network => pick(
            rng,
            &[
                "10.0.0.0/8",
                "10.1.2.3",
                "10.1.2.0/24",
                "192.0.2.7/32",
                "fd00::/8",
                "fd00::1",
                "::/0",
                "0.0.0.0/0",
                "10.0.0.0/33",
                "10.0.0.0/08",
                "10.0.0.01/8",
                "::ffff:10.1.2.0/120",
                "::ffff:10.1.2.3",
                "fd00::1%eth0/64",
                "10.0.0.0/",
                "10.0.0.0/+8",
                "10.1.2.255/31",
                "x",
            ],
        ),
        Networks => match rng.below(4) {
            0 => argument(Network, rng),
            1 => (0..rng.below(4)).map(|_| pick(rng, &["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"])).collect(),
            2 => (0..rng.below(3)).map(|_| json!([pick(rng, &["10.0.0.0/8", "10.1.2.3", "x"]), "why"])).collect(),
            _ => json!({"a": pick(rng, &["10.0.0.0/8", "10.1.2.3"]), "b": pick(rng, &["fd00::/8", "10.1.0.0/16"])}),
        },
        Small => pick(
            rng,
            &["10.1.2.3/30", "10.1.2.250/29", "fd00::1/126", "255.255.255.255/32", "::ffff:10.1.2.3/126", "x"],
        ),
        Code => pick(
            rng,
            &[
                "",
                "YWJj",
                "YWI=",
                "YWI",
                "YQ==",
                "YQ=",
                "YQ",
                "YR==",
                "YWJj\nYWJj",
                "YW Jj",
                "YWJj_-8=",
                "YWJj+/8=",
                "/w==",
                "gICA",
                "w6k=",
                "4pg=",
                "616263",
                "61626",
                "C3A9",
                "fFfF",
                "zz",
                "é",
                "%41+b",
                "%c3%a9",
                "%ff",
                "%4",
                "%zz",
                "a%",
            ],
        ),
        Texted => {
            let text = |rng: &mut Rng| json!(rng.one(WORDS));
            let value = |rng: &mut Rng| if rng.chance(500) { text(rng) } else { json!([text(rng), text(rng)]) };
            json!({"a b": value(rng), "é": value(rng)})
        }
        Paths => {
            let path = |rng: &mut Rng| match rng.below(8) {
                0 => json!(["a", "b"]),
                1 => json!([]),
                2 => json!(["a", 0]),
                _ => pick(
                    rng,
                    &["a", "b", "a/b", "/a", "/a/0", "name", "ab/", "", "/", "a/0/b", "a~1b", "name/a", "b/1"],
                ),
            };
            (0..rng.below(4)).map(|_| path(rng)).collect()
        }
        Time => pick(
            rng,
            &[
                "2026-11-21T10:00:00Z",
                "2026-11-21T10:00:00.123456789+02:00",
                "1969-12-31T23:59:59Z",
                "2026-11-21",
                "",
                "2300-01-01T00:00:00Z",
            ],
        ),
    }
}

#[test]
fn functions_give_the_same_values_as_in_opa() {
    let (calls, seed) = (number("RULE_CALLS", 100), number("RULE_SEED", 1));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut text = String::from("package io.konveyor.forklift.functions\n\nimport rego.v1\n");
    for (at, (name, kinds)) in FUNCTIONS.iter().enumerate() {
        let arguments: Vec<String> = (0..kinds.len()).map(|argument| format!("a[{argument}]")).collect();
        text += &format!("\nf_{at}[i] := {name}({}) if some i, a in input\n", arguments.join(", "));
    }
    std::fs::write(folder.path().join("functions.rego"), &text).expect("writable");
    let Some(opa) = Opa::start(&[folder.path()]) else { return };
    let validator = Validator::with_files(&[RuleFile::new("functions.rego", text)]);
    assert_eq!(validator.rule_errors(), []);

    let mut differences = Vec::new();
    let mut defined = 0;
    for (at, (name, kinds)) in FUNCTIONS.iter().enumerate() {
        let mut rng = Rng::new(seed.wrapping_mul(1000) + at as u64);
        let mut done = 0;
        let mut found = 0;
        while done < calls {
            let batch: Vec<Value> =
                (0..calls.min(500)).map(|_| kinds.iter().map(|kind| argument(*kind, &mut rng)).collect()).collect();
            done += batch.len() as u64;
            let batch = json!(batch);
            let theirs = opa.query(&format!("io/konveyor/forklift/functions/f_{at}"), &batch).expect("OPA answers");
            let ours = validator.query(&format!("io.konveyor.forklift.functions.f_{at}"), Some(&batch));
            let ours = ours.unwrap_or_else(|error| panic!("{name}: {error}"));
            let (Some(ours), Some(theirs)) = (ours, theirs) else {
                panic!("{name}: the object of results is undefined")
            };
            for (i, call) in batch.as_array().into_iter().flatten().enumerate() {
                let (ours, theirs) = (ours.get(i.to_string()), theirs.get(i.to_string()));
                defined += u64::from(theirs.is_some());
                found += usize::from(theirs.is_some());
                if !same(ours, theirs) {
                    differences.push(format!("{name}{call}: here {}, OPA {}", shown(ours), shown(theirs)));
                }
            }
        }
        assert!(found > 0, "no call of {name} has a value");
    }
    println!(
        "{} functions, {calls} calls each, {defined} with a value, {} differences",
        FUNCTIONS.len(),
        differences.len()
    );
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn shown(value: Option<&Value>) -> String {
    value.map_or("undefined".to_owned(), Value::to_string)
}

/// Equal, where numbers may differ in what a 64-bit float cannot tell.
fn same(ours: Option<&Value>, theirs: Option<&Value>) -> bool {
    match (ours, theirs) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
            _ => a == b,
        },
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(Some(a), Some(b)))
        }
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.len() == b.len() && a.iter().all(|(key, value)| same(Some(value), b.get(key)))
        }
        (ours, theirs) => ours == theirs,
    }
}
