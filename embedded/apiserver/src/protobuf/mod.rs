//! Request bodies in Kubernetes' protobuf form, which typed clients (kubectl create, client-go) send for built-in kinds.
//!
//! A table of field numbers turns them into the JSON that everything else here works on. Answers are always JSON:
//! such clients accept both. Go writes fields that are not optional even when they are empty; what its JSON would leave
//! out is left out here too, so that defaults apply.
//!
//! The table is made from the published Go types by `tests/peers/protobuf` (`go run . table`), whose `samples` are
//! what the decoder is tested with.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// Media type of such bodies.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

#[derive(Clone, Copy)]
enum Shape {
    One,
    Many,
    Map,
}

struct Field {
    /// Name in JSON; empty where the message stands in the one around it.
    name: &'static str,
    shape: Shape,
    kind: &'static str,
    /// JSON leaves it out when it is zero.
    optional: bool,
}

type Message = HashMap<u64, Field>;

/// The messages, and which of them a kind (`GROUP/VERSION/KIND`) is.
struct Table {
    messages: HashMap<&'static str, Message>,
    kinds: HashMap<&'static str, &'static str>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { messages: HashMap::new(), kinds: HashMap::new() };
    for line in include_str!("messages.txt").lines() {
        // some messages have no fields
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        match name.strip_prefix('@') {
            Some(kind) => _ = table.kinds.insert(kind, rest),
            None => _ = table.messages.insert(name, rest.split(' ').filter_map(field).collect()),
        }
    }
    table
});

fn field(word: &'static str) -> Option<(u64, Field)> {
    let mut pieces = word.splitn(3, ':');
    let (number, name, form) = (pieces.next()?.parse().ok()?, pieces.next()?, pieces.next()?);
    let (form, optional) = form.strip_suffix('?').map_or((form, false), |form| (form, true));
    let (shape, kind) = match (form.strip_prefix('*'), form.strip_prefix('%')) {
        (Some(kind), _) => (Shape::Many, kind),
        (_, Some(kind)) => (Shape::Map, kind),
        (None, None) => (Shape::One, form),
    };
    Some((number, Field { name, shape, kind, optional }))
}

/// The object in the body.
pub fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope = body.strip_prefix(MAGIC).ok_or("the body does not start with the protobuf prefix of Kubernetes")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for entry in Wire(envelope) {
        match entry? {
            (1, Item::Bytes(meta)) => {
                for entry in Wire(meta) {
                    match entry? {
                        (1, Item::Bytes(text)) => api_version = utf8(text)?,
                        (2, Item::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = TABLE.kinds.get(format!("{api_version}/{kind}").as_str());
    let name =
        name.ok_or_else(|| format!("kind {kind:?} of {api_version:?} is not known in protobuf form; send JSON"))?;
    let mut value = message(name, raw, 0)?;
    if let Value::Object(map) = &mut value {
        map.insert("apiVersion".into(), api_version.into());
        map.insert("kind".into(), kind.into());
    }
    Ok(value)
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "text in the body is not UTF-8".to_string())
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Result<Value, String> {
    if depth > 64 {
        return Err("the body is nested too deeply".into());
    }
    if let Some(special) = special(name, bytes, depth)? {
        return Ok(special);
    }
    let Some(fields) = TABLE.messages.get(name) else { return Err(format!("message {name} is not known")) };
    let mut map = Map::new();
    for entry in Wire(bytes) {
        let (number, item) = entry?;
        let Some(field) = fields.get(&number) else { continue };
        match field.shape {
            Shape::One => {
                let value = one(field.kind, &item, depth)?;
                if field.name.is_empty() {
                    if let Value::Object(inner) = value {
                        map.extend(inner);
                    }
                } else if !left_out(field, &value) {
                    map.insert(field.name.into(), value);
                }
            }
            Shape::Many => {
                let value = one(field.kind, &item, depth)?;
                if let Value::Array(list) = map.entry(field.name).or_insert_with(|| json!([])) {
                    list.push(value);
                }
            }
            Shape::Map => {
                let Item::Bytes(pair) = item else { return Err(format!("{name}.{} is not a map", field.name)) };
                let (mut key, mut value) = (String::new(), one_empty(field.kind));
                for entry in Wire(pair) {
                    match entry? {
                        (1, Item::Bytes(text)) => key = utf8(text)?,
                        (2, item) => value = one(field.kind, &item, depth)?,
                        _ => {}
                    }
                }
                if let Value::Object(pairs) = map.entry(field.name).or_insert_with(|| json!({})) {
                    pairs.insert(key, value);
                }
            }
        }
    }
    // a Go type that is a list of its own is a message with one field
    Ok(map.remove("[]").unwrap_or(Value::Object(map)))
}

fn one_empty(kind: &str) -> Value {
    match kind {
        "s" | "y" => "".into(),
        "i" => 0.into(),
        "b" => false.into(),
        _ => json!({}),
    }
}

fn left_out(field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        _ if !field.optional => false,
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
    }
}

fn one(kind: &str, item: &Item, depth: usize) -> Result<Value, String> {
    Ok(match (kind, item) {
        ("s", Item::Bytes(bytes)) => utf8(bytes)?.into(),
        ("y", Item::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        #[expect(clippy::cast_possible_wrap, reason = "negative numbers come in two's complement")]
        ("i", Item::Number(number)) => (*number as i64).into(),
        ("b", Item::Number(number)) => (*number != 0).into(),
        ("d", Item::Number(number)) => match f64::from_bits(*number) {
            // whole ones are written without a fraction
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            whole if whole.fract() == 0.0 && whole.abs() < 1e15 => (whole as i64).into(),
            other => other.into(),
        },
        (_, Item::Bytes(bytes)) => message(kind, bytes, depth + 1)?,
        _ => return Err(format!("a value of type {kind} has the wrong wire form")),
    })
}

/// Messages whose JSON is not an object with their fields.
fn special(name: &str, bytes: &[u8], depth: usize) -> Result<Option<Value>, String> {
    let mut numbers: HashMap<u64, u64> = HashMap::new();
    let mut texts: HashMap<u64, Vec<&[u8]>> = HashMap::new();
    if !matches!(
        name,
        "api.resource.Quantity"
            | "util.intstr.IntOrString"
            | "apis.meta.v1.Time"
            | "apis.meta.v1.MicroTime"
            | "runtime.RawExtension"
            | "apis.meta.v1.FieldsV1"
            | "apis.meta.v1.Duration"
            | "apiextensions.v1.JSON"
            | "apiextensions.v1.JSONSchemaPropsOrArray"
            | "apiextensions.v1.JSONSchemaPropsOrBool"
            | "apiextensions.v1.JSONSchemaPropsOrStringArray"
    ) {
        return Ok(None);
    }
    for entry in Wire(bytes) {
        match entry? {
            (field, Item::Number(number)) => {
                numbers.insert(field, number);
            }
            (field, Item::Bytes(text)) => texts.entry(field).or_default().push(text),
        }
    }
    let text = |field: u64| texts.get(&field).and_then(|t| t.first()).map_or(Ok(String::new()), |t| utf8(t));
    #[expect(clippy::cast_possible_wrap, reason = "negative numbers come in two's complement")]
    let number = |field: u64| numbers.get(&field).map_or(0, |n| *n as i64);
    let value = match name {
        "api.resource.Quantity" => text(1)?.into(),
        "util.intstr.IntOrString" if number(1) == 1 => text(3)?.into(),
        "util.intstr.IntOrString" => number(2).into(),
        "apis.meta.v1.Time" | "apis.meta.v1.MicroTime" if numbers.is_empty() => Value::Null,
        "apis.meta.v1.Time" | "apis.meta.v1.MicroTime" => {
            let nanos = i32::try_from(number(2)).unwrap_or(0);
            let time = jiff::Timestamp::new(number(1), nanos).map_err(|e| format!("a time is out of range: {e}"))?;
            let form = if name.ends_with("MicroTime") { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
            time.strftime(form).to_string().into()
        }
        "apiextensions.v1.JSONSchemaPropsOrArray"
        | "apiextensions.v1.JSONSchemaPropsOrBool"
        | "apiextensions.v1.JSONSchemaPropsOrStringArray" => alternatives(name, &numbers, &texts, depth)?,
        "runtime.RawExtension" | "apis.meta.v1.FieldsV1" | "apiextensions.v1.JSON" => {
            let raw = texts.get(&1).and_then(|t| t.first()).copied().unwrap_or(b"null");
            serde_json::from_slice(raw).map_err(|e| format!("embedded JSON is broken: {e}"))?
        }
        "apis.meta.v1.Duration" => format!("{}s", number(1) / 1_000_000_000).into(),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// The places of a JSON schema that hold a schema or something else.
fn alternatives(
    name: &str,
    numbers: &HashMap<u64, u64>,
    texts: &HashMap<u64, Vec<&[u8]>>,
    depth: usize,
) -> Result<Value, String> {
    const SCHEMA: &str = "apiextensions.v1.JSONSchemaProps";
    let schema = |bytes: &&[u8]| message(SCHEMA, bytes, depth + 1);
    let first = |field: u64| texts.get(&field).and_then(|found| found.first());
    if name.ends_with("OrBool") {
        return match first(2) {
            Some(bytes) => schema(bytes),
            None => Ok((numbers.get(&1) == Some(&1)).into()),
        };
    }
    match (first(1), texts.get(&2)) {
        (Some(bytes), _) => schema(bytes),
        (None, Some(many)) if name.ends_with("OrArray") => many.iter().map(schema).collect(),
        (None, Some(many)) => many.iter().map(|text| utf8(text).map(Value::from)).collect(),
        (None, None) => Ok(Value::Null),
    }
}

enum Item<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Walks the fields of one message.
struct Wire<'a>(&'a [u8]);

impl<'a> Wire<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn field(&mut self) -> Option<(u64, Item<'a>)> {
        let tag = self.varint()?;
        let item = match tag & 7 {
            0 => Item::Number(self.varint()?),
            1 => Item::Number(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Item::Bytes(self.take(length)?)
            }
            5 => Item::Number(u64::from(u32::from_le_bytes(self.take(4)?.try_into().ok()?))),
            _ => return None,
        };
        Some((tag >> 3, item))
    }
}

impl<'a> Iterator for Wire<'a> {
    type Item = Result<(u64, Item<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field.ok_or_else(|| "the protobuf body is cut off or broken".to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    #[test]
    fn a_config_map_is_read() {
        let metadata = [field(1, b"c"), field(3, b"")].concat();
        let pair = [field(1, b"k"), field(2, b"v")].concat();
        let object = [field(1, &metadata), field(2, &pair)].concat();
        let kind = [field(1, b"v1"), field(2, b"ConfigMap")].concat();
        let body = [MAGIC.to_vec(), field(1, &kind), field(2, &object)].concat();
        assert_eq!(
            decode(&body).unwrap(),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}})
        );
        assert!(decode(&body[..body.len() - 1]).is_err());
        assert!(decode(b"{}").is_err());
    }

    /// Go writes null, empty lists and empty maps where a field that is not optional is unset.
    fn without_nothing(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(without_nothing);
                map.retain(|_, value| !value.is_null() && value != &json!([]) && value != &json!({}));
            }
            Value::Array(list) => list.iter_mut().for_each(without_nothing),
            _ => {}
        }
    }

    #[test]
    fn random_objects_of_every_kind_are_read_as_go_reads_them() {
        let Some(program) = forklift_testkit::peers::go("protobuf", "protobuf") else { return };
        let count = std::env::var("PROTOBUF_SAMPLES").unwrap_or_else(|_| "3".into());
        let output = std::process::Command::new(program).args(["samples", &count, "7"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (mut seen, mut wrong) = (0, String::new());
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let mut words = line.splitn(3, ' ');
            let (kind, body, expected) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            let mut expected: Value = serde_json::from_str(expected).unwrap();
            let mut read = decode(&STANDARD.decode(body).unwrap()).unwrap_or_else(|error| panic!("{kind}: {error}"));
            without_nothing(&mut expected);
            without_nothing(&mut read);
            seen += 1;
            if read != expected && wrong.len() < 5000 {
                for change in json_patch::diff(&read, &expected).0.iter().take(3) {
                    wrong += &format!("{kind}: {change}\n");
                }
            }
        }
        assert!(seen > 150, "only {seen} objects");
        assert!(wrong.is_empty(), "what Go reads is otherwise:\n{wrong}");
    }
}
