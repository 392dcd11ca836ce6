//! Calls that cannot have a value, told when the rules are loaded: `count(5)`, `lower(count(x))`.
//!
//! OPA derives the types of all expressions; here those of constants, of composites and of functions' results are
//! known, which is where people's mistakes are. What is not known is taken to fit.

use super::symbols::{Lowered, Lowering, fail};
use crate::rego::plan::{Function, Term};
use crate::rego::value::Value;

/// A set of types.
type Types = u8;

const NULL: Types = 1;
const BOOLEAN: Types = 2;
const NUMBER: Types = 4;
const STRING: Types = 8;
const ARRAY: Types = 16;
const OBJECT: Types = 32;
const SET: Types = 64;
const ANY: Types = 127;
const LIST: Types = ARRAY | SET;
const COLLECTION: Types = ARRAY | OBJECT | SET;

const NAMES: [(Types, &str); 7] = [
    (NULL, "null"),
    (BOOLEAN, "boolean"),
    (NUMBER, "number"),
    (STRING, "string"),
    (ARRAY, "array"),
    (OBJECT, "object"),
    (SET, "set"),
];

/// What functions take and give, as OPA declares them; functions that take and give anything are left out.
const SIGNATURES: &[(&[&str], &[Types], Types)] = &[
    (&["contains", "startswith", "endswith", "regex.match"], &[STRING, STRING], BOOLEAN),
    (&["net.cidr_contains", "net.cidr_intersects"], &[STRING, STRING], BOOLEAN),
    (&["lower", "upper", "trim_space", "strings.reverse"], &[STRING], STRING),
    (&["base64.encode", "base64.decode", "base64url.encode", "base64url.decode"], &[STRING], STRING),
    (&["hex.encode", "hex.decode", "urlquery.encode", "urlquery.decode"], &[STRING], STRING),
    (&["crypto.md5", "crypto.sha1", "crypto.sha256"], &[STRING], STRING),
    (&["trim", "trim_left", "trim_right", "trim_prefix", "trim_suffix"], &[STRING, STRING], STRING),
    (&["concat"], &[STRING, LIST], STRING),
    (&["split", "indexof_n", "regex.split"], &[STRING, STRING], ARRAY),
    (&["replace", "regex.replace"], &[STRING, STRING, STRING], STRING),
    (&["strings.count", "indexof", "semver.compare"], &[STRING, STRING], NUMBER),
    (&["substring"], &[STRING, NUMBER, NUMBER], STRING),
    (&["sprintf"], &[STRING, ARRAY], STRING),
    (&["regex.find_n", "regex.find_all_string_submatch_n"], &[STRING, STRING, NUMBER], ARRAY),
    (&["json.unmarshal"], &[STRING], ANY),
    (&["json.marshal", "type_name"], &[ANY], STRING),
    (&["json.is_valid", "regex.is_valid", "base64.is_valid", "semver.is_valid", "net.cidr_is_valid"], &[ANY], BOOLEAN),
    (&["is_array", "is_boolean", "is_null", "is_number", "is_object", "is_set", "is_string"], &[ANY], BOOLEAN),
    (&["plus", "mul", "div", "rem"], &[NUMBER, NUMBER], NUMBER),
    (&["minus"], &[NUMBER | SET, NUMBER | SET], NUMBER | SET),
    (&["abs", "ceil", "floor", "round", "bits.negate"], &[NUMBER], NUMBER),
    (&["bits.and", "bits.or", "bits.xor", "bits.lsh", "bits.rsh"], &[NUMBER, NUMBER], NUMBER),
    (&["sum", "product"], &[LIST], NUMBER),
    (&["to_number"], &[NULL | BOOLEAN | NUMBER | STRING], NUMBER),
    (&["numbers.range"], &[NUMBER, NUMBER], ARRAY),
    (&["numbers.range_step"], &[NUMBER, NUMBER, NUMBER], ARRAY),
    (&["format_int"], &[NUMBER, NUMBER], STRING),
    (&["units.parse", "units.parse_bytes"], &[STRING], NUMBER),
    (&["count"], &[STRING | COLLECTION], NUMBER),
    (&["max", "min"], &[LIST], ANY),
    (&["sort"], &[LIST], ARRAY),
    (&["array.concat"], &[ARRAY, ARRAY], ARRAY),
    (&["array.reverse"], &[ARRAY], ARRAY),
    (&["array.slice"], &[ARRAY, NUMBER, NUMBER], ARRAY),
    (&["and", "or"], &[SET, SET], SET),
    (&["union", "intersection"], &[SET], SET),
    (&["object.get"], &[OBJECT, ANY, ANY], ANY),
    (&["object.keys"], &[OBJECT], SET),
    (&["object.remove", "object.filter"], &[OBJECT, COLLECTION], ANY),
    (&["object.union"], &[OBJECT, OBJECT], ANY),
    (&["json.filter", "json.remove"], &[OBJECT, LIST], ANY),
];

fn signature(name: &str) -> Option<(&'static [Types], Types)> {
    SIGNATURES.iter().find(|(names, ..)| names.contains(&name)).map(|(_, takes, gives)| (*takes, *gives))
}

impl Lowering<'_> {
    /// Refuses a call whose arguments can never fit.
    pub(super) fn fitting(&self, function: Function, arguments: &[Term], line: u32) -> Lowered<()> {
        let Function::Builtin(builtin) = function else { return Ok(()) };
        let Some((takes, _)) = signature(builtin.name) else { return Ok(()) };
        for (at, (argument, wanted)) in arguments.iter().zip(takes).enumerate() {
            let types = self.types(argument);
            if types & wanted == 0 {
                let (have, want) = (named(types), named(*wanted));
                return fail(line, format!("{}: argument {} is of type {have}, not {want}", builtin.name, at + 1));
            }
        }
        Ok(())
    }

    /// Notes what the result of a call can be.
    pub(super) fn note_result(&mut self, slot: usize, function: Function) {
        if let Function::Builtin(builtin) = function
            && let Some((_, gives)) = signature(builtin.name)
        {
            self.results.insert(slot, gives);
        }
    }

    fn types(&self, term: &Term) -> Types {
        match term {
            Term::Slot(slot) => self.results.get(slot).copied().unwrap_or(ANY),
            Term::Array(_) | Term::Const(Value::Array(_)) => ARRAY,
            Term::Set(_) | Term::Const(Value::Set(_)) => SET,
            Term::Object(_) | Term::Const(Value::Object(_)) => OBJECT,
            Term::Const(Value::Null) => NULL,
            Term::Const(Value::Bool(_)) => BOOLEAN,
            Term::Const(Value::Number(_)) => NUMBER,
            Term::Const(Value::String(_)) => STRING,
        }
    }
}

fn named(types: Types) -> String {
    let names: Vec<&str> = NAMES.iter().filter(|(one, _)| types & one != 0).map(|(_, name)| *name).collect();
    names.join(" or ")
}
