//! Random schemas, objects and sequences of applies and updates by several managers, each step compared with what
//! structured-merge-diff makes of it (`tests/peers/smd`): the object, what every manager owns, the conflicts.
//!
//! `APPLY_FUZZ=200000` sets the number of operations, `APPLY_FUZZ_SEED` where the sequences start.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::owners::{Owner, Owners, Refused};
use super::set::{FieldSet, show};
use super::step::equal;
use super::types::Type;
use super::validate::validate;
use crate::schema::Schema;

/// Operations on one schema.
const SEQUENCE: usize = 25;

struct Oracle {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Option<Self> {
        let program = forklift_testkit::peers::go("smd", "smd")?;
        let mut process = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Some(Self { process, input, output })
    }

    fn tell(&mut self, line: &Value) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn ask(&mut self, line: &Value) -> Value {
        self.tell(line);
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|e| panic!("the oracle gave {answer:?} ({e}) to {line}"))
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // it ends with its input; this is for the case that the test failed
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn scalar_schema(rng: &mut StdRng) -> Value {
    match rng.random_range(0..5) {
        0 => json!({"type": "integer"}),
        1 => json!({"type": "number"}),
        2 => json!({"type": "boolean"}),
        _ => json!({"type": "string"}),
    }
}

fn object_schema(rng: &mut StdRng, depth: usize) -> Value {
    let mut properties = Map::new();
    for name in ["a", "b", "c", "d"].iter().take(rng.random_range(1..=4)) {
        properties.insert((*name).into(), schema(rng, depth + 1));
    }
    json!({"type": "object", "properties": properties})
}

fn schema(rng: &mut StdRng, depth: usize) -> Value {
    let deep = depth < 4;
    let mut node = match rng.random_range(0..14) {
        0..=2 => scalar_schema(rng),
        3..=4 if deep => object_schema(rng, depth),
        5 if deep => json!({"type": "object", "additionalProperties": schema(rng, depth + 1)}),
        6 => json!({"type": "array", "items": scalar_schema(rng), "x-kubernetes-list-type": "set"}),
        7..=9 if deep => {
            let mut items = object_schema(rng, depth + 1);
            items["properties"]["name"] = scalar_schema(rng);
            let mut keys = vec!["name"];
            if rng.random_bool(0.4) {
                items["properties"]["port"] = json!({"type": "integer"});
                keys.push("port");
            }
            if rng.random_bool(0.4) {
                let key = *keys.choose(rng).unwrap();
                let kind = items["properties"][key]["type"].as_str().unwrap().to_string();
                items["properties"][key]["default"] = match kind.as_str() {
                    "string" => "a".into(),
                    "boolean" => true.into(),
                    _ => 1.into(),
                };
            }
            json!({"type": "array", "items": items, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys})
        }
        10 => json!({"type": "array", "items": schema(rng, depth + 1)}),
        11 => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        12 => json!({"x-kubernetes-int-or-string": true}),
        _ if rng.random_bool(0.3) => json!({"x-kubernetes-preserve-unknown-fields": true}),
        _ => scalar_schema(rng),
    };
    if node["type"] == "object" {
        match rng.random_range(0..6) {
            0 => node["x-kubernetes-map-type"] = "atomic".into(),
            1 => node["x-kubernetes-map-type"] = "granular".into(),
            2 if node["properties"].is_object() => node["x-kubernetes-preserve-unknown-fields"] = true.into(),
            _ => {}
        }
    }
    node
}

/// The same schema with some lists and maps become one value, or the other way round.
fn changed(rng: &mut StdRng, node: &mut Value) {
    if rng.random_bool(0.2) {
        if node["type"] == "object" {
            let now = if node["x-kubernetes-map-type"] == "atomic" { "granular" } else { "atomic" };
            node["x-kubernetes-map-type"] = now.into();
        } else if node["type"] == "array" && node.get("x-kubernetes-list-type").is_some() {
            let map = node.get("x-kubernetes-list-map-keys").is_some();
            let now = match node["x-kubernetes-list-type"].as_str() {
                Some("atomic") if map => "map",
                Some("atomic") => "set",
                _ => "atomic",
            };
            node["x-kubernetes-list-type"] = now.into();
        }
    }
    for field in ["items", "additionalProperties"] {
        if node[field].is_object() {
            changed(rng, &mut node[field]);
        }
    }
    for (_, child) in node["properties"].as_object_mut().into_iter().flatten() {
        changed(rng, child);
    }
}

fn scalar(rng: &mut StdRng) -> Value {
    match rng.random_range(0..8) {
        0 => 1.into(),
        1 => 2.into(),
        2 => json!(1.5),
        3 => rng.random_bool(0.5).into(),
        _ => (*["a", "b", "c"].choose(rng).unwrap()).into(),
    }
}

fn anything(rng: &mut StdRng, depth: usize) -> Value {
    match rng.random_range(0..8) {
        0 if depth < 3 => (0..rng.random_range(0..3)).map(|_| anything(rng, depth + 1)).collect(),
        1..=3 if depth < 3 => {
            let names = ["x", "y", "z"];
            Value::Object(
                names
                    .iter()
                    .filter_map(|n| rng.random_bool(0.5).then(|| ((*n).into(), anything(rng, depth + 1))))
                    .collect(),
            )
        }
        4 if rng.random_bool(0.1) => Value::Null,
        _ => scalar(rng),
    }
}

/// A value of the schema; now and then null, of another type, or with a field too many.
fn value(rng: &mut StdRng, node: &Value, depth: usize, full: f64) -> Value {
    if depth > 0 && rng.random_bool(0.03) {
        return Value::Null;
    }
    if depth > 0 && rng.random_bool(0.002) {
        return anything(rng, 1);
    }
    match node["type"].as_str() {
        Some("string") => (*["a", "b", "c", "d"].choose(rng).unwrap()).into(),
        Some("integer") => rng.random_range(0..4).into(),
        Some("number") => (*[json!(1), json!(1.5), json!(2.0), json!(10)].choose(rng).unwrap()).clone(),
        Some("boolean") => rng.random_bool(0.5).into(),
        Some("object") => {
            let mut out = Map::new();
            for (name, child) in node["properties"].as_object().into_iter().flatten() {
                if rng.random_bool(full) {
                    out.insert(name.clone(), value(rng, child, depth + 1, full));
                }
            }
            if node["additionalProperties"].is_object() {
                for name in ["k", "l", "m"] {
                    if rng.random_bool(full) {
                        out.insert(name.into(), value(rng, &node["additionalProperties"], depth + 1, full));
                    }
                }
            }
            let free = node["x-kubernetes-preserve-unknown-fields"] == true
                || (node.get("properties").is_none() && node.get("additionalProperties").is_none());
            if (free && rng.random_bool(0.7)) || rng.random_bool(0.002) {
                if let Value::Object(more) = anything(rng, 0) {
                    out.extend(more);
                }
            }
            Value::Object(out)
        }
        Some("array") => {
            let count = rng.random_range(0..4);
            let mut items: Vec<Value> = (0..count).map(|_| value(rng, &node["items"], depth + 1, full)).collect();
            if node["x-kubernetes-list-type"] == "map" {
                for item in &mut items {
                    complete_keys(rng, node, item);
                }
            }
            if node.get("x-kubernetes-list-type").is_some() && rng.random_bool(0.95) {
                unique(node, &mut items);
            }
            Value::Array(items)
        }
        _ if node["x-kubernetes-int-or-string"] == true => {
            if rng.random_bool(0.5) {
                1.into()
            } else {
                "b".into()
            }
        }
        _ => anything(rng, 1),
    }
}

fn complete_keys(rng: &mut StdRng, node: &Value, item: &mut Value) {
    let Value::Object(fields) = item else { return };
    for key in node["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let shape = &node["items"]["properties"][key];
        let missing = fields.get(key).is_none_or(Value::is_null);
        if missing && (shape.get("default").is_none() || rng.random_bool(0.5)) && rng.random_bool(0.99) {
            let made = value(rng, shape, 0, 1.0);
            fields.insert(key.into(), made);
        }
    }
}

/// Leaves one element of each key.
fn unique(node: &Value, items: &mut Vec<Value>) {
    let mut seen = Vec::new();
    items.retain(|item| {
        let id: Value = match node["x-kubernetes-list-map-keys"].as_array() {
            Some(keys) => keys
                .iter()
                .filter_map(Value::as_str)
                .map(|key| {
                    item.get(key).or(node["items"]["properties"][key].get("default")).cloned().unwrap_or_default()
                })
                .collect(),
            None => item.clone(),
        };
        let new = !seen.iter().any(|known| equal(known, &id));
        seen.push(id);
        new
    });
}

/// Another version of the object, close to it.
fn mutated(rng: &mut StdRng, node: &Value, old: &Value, depth: usize) -> Value {
    if depth > 0 && rng.random_bool(0.1) {
        return value(rng, node, depth, 0.5);
    }
    match old {
        Value::Object(fields) => {
            let mut out = Map::new();
            let child = |name: &str| {
                let declared = &node["properties"][name];
                if declared.is_object() { declared.clone() } else { node["additionalProperties"].clone() }
            };
            for (name, item) in fields {
                if !rng.random_bool(0.15) {
                    out.insert(name.clone(), mutated(rng, &child(name), item, depth + 1));
                }
            }
            for (name, shape) in node["properties"].as_object().into_iter().flatten() {
                if !out.contains_key(name) && rng.random_bool(0.2) {
                    out.insert(name.clone(), value(rng, shape, depth + 1, 0.5));
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            let mut out: Vec<Value> = Vec::new();
            for item in items {
                if !rng.random_bool(0.2) {
                    out.push(mutated(rng, &node["items"], item, depth + 1));
                }
            }
            if rng.random_bool(0.3) {
                out.push(value(rng, &node["items"], depth + 1, 0.5));
            }
            if out.len() > 1 && rng.random_bool(0.3) {
                let (a, b) = (rng.random_range(0..out.len()), rng.random_range(0..out.len()));
                out.swap(a, b);
            }
            if node["x-kubernetes-list-type"] == "map" {
                for item in &mut out {
                    complete_keys(rng, node, item);
                }
            }
            if rng.random_bool(0.9) {
                unique(node, &mut out);
            }
            Value::Array(out)
        }
        scalar => scalar.clone(),
    }
}

/// One operation's result, in the oracle's words; errors without their text.
fn ours(request: &Value, schema: &Schema, owners: &mut Owners<String>) -> Value {
    let ty = Type::root(schema);
    let text = |field: &str| request[field].as_str().unwrap().to_string();
    let ignored = FieldSet::decode(&request["ignored"]).unwrap();
    let (live, object) = (&request["live"], &request["object"]);
    let update = request["op"] == "update";
    if validate(live, ty, true).is_err() || validate(object, ty, update).is_err() {
        return json!({"error": true});
    }
    let mut answer = json!({});
    if update {
        if owners.update(live, object, ty, &text("manager"), &ignored).is_err() {
            return json!({"error": true});
        }
        answer["object"] = object.clone();
    } else {
        match owners.apply(live, object, ty, &text("manager"), request["force"] == true, &ignored) {
            Ok(Some(object)) => answer["object"] = object,
            Ok(None) => {}
            Err(Refused::Shape(_)) => return json!({"error": true}),
            Err(Refused::Conflicts(found)) => {
                let found: BTreeSet<String> = found.iter().map(|c| format!("{} {}", c.owner, show(&c.path))).collect();
                return json!({ "conflicts": found });
            }
        }
    }
    answer["managers"] = managers(owners);
    answer
}

fn managers(owners: &Owners<String>) -> Value {
    let mut list: Vec<&Owner<String>> = owners.list.iter().collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list.iter().map(|o| json!({"name": o.name, "applied": o.applied, "fields": o.fields.encode()})).collect()
}

/// The oracle's answer in the form of ours.
fn theirs(answer: &Value) -> Value {
    if answer["error"].is_string() {
        return json!({"error": true});
    }
    if let Some(found) = answer["conflicts"].as_array() {
        let each = |c: &Value| format!("{} {}", c["manager"].as_str().unwrap(), c["path"].as_str().unwrap());
        return json!({"conflicts": found.iter().map(each).collect::<BTreeSet<_>>()});
    }
    let mut out = json!({"managers": answer.get("managers").cloned().unwrap_or_else(|| json!([]))});
    if let Some(object) = answer.get("object") {
        out["object"] = object.clone();
    }
    out
}

/// Runs sequences of operations; returns how many of them ended in an object, in conflicts and in an error.
fn campaign(oracle: &mut Oracle, operations: usize, seed: u64) -> [usize; 3] {
    let mut counts = [0; 3];
    for sequence in 0..operations.div_ceil(SEQUENCE) {
        let seed = seed + sequence as u64;
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut shape = object_schema(rng, 0);
        let mut schema = crate::schema::Schema::parse(&shape).unwrap();
        oracle.tell(&json!({ "schema": shape }));
        let ignored = if rng.random_bool(0.2) { json!({"f:a": {}}) } else { json!({}) };
        let mut live = if rng.random_bool(0.5) { json!({}) } else { value(rng, &shape, 0, 0.5) };
        let mut owners = Owners::<String> { list: Vec::new() };
        for step in 0..SEQUENCE {
            if rng.random_bool(0.04) {
                changed(rng, &mut shape);
                schema = crate::schema::Schema::parse(&shape).unwrap();
                oracle.tell(&json!({ "schema": shape }));
            }
            let update = rng.random_bool(0.3);
            let object = match rng.random_range(0..4) {
                _ if update => mutated(rng, &shape, &live, 0),
                0 => mutated(rng, &shape, &live, 0),
                _ => value(rng, &shape, 0, 0.5),
            };
            let request = json!({
                "op": if update { "update" } else { "apply" }, "live": live, "object": object, "ignored": ignored,
                "manager": format!("{}{}", if update { "u" } else { "a" }, rng.random_range(0..3)),
                "force": rng.random_bool(0.3), "managers": managers(&owners),
            });
            let wanted = theirs(&oracle.ask(&request));
            let mut after = owners.clone();
            let found = ours(&request, &schema, &mut after);
            let kind = usize::from(wanted.get("conflicts").is_some()) + 2 * usize::from(wanted.get("error").is_some());
            assert!(
                equal(&wanted, &found),
                "sequence {seed}, operation {step}:\nschema  {shape}\nrequest {request}\nwanted  {wanted}\nfound   {found}"
            );
            counts[kind] += 1;
            if kind == 0 {
                live = found.get("object").cloned().unwrap_or(live);
                owners = after;
            }
        }
    }
    counts
}

#[test]
fn agrees_with_structured_merge_diff() {
    let Some(mut oracle) = Oracle::start() else { return };
    let number = |name: &str, default| std::env::var(name).ok().map_or(default, |n| n.parse().unwrap());
    let operations = number("APPLY_FUZZ", 3_000);
    let [objects, conflicts, errors] =
        campaign(&mut oracle, usize::try_from(operations).unwrap(), number("APPLY_FUZZ_SEED", 1));
    println!("{operations} operations: {objects} made objects, {conflicts} conflicts, {errors} errors; no difference");
    // a generator that makes nothing but refusals would show nothing
    assert!(objects > conflicts && conflicts > errors, "{objects} objects, {conflicts} conflicts, {errors} errors");
}
