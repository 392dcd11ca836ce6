//! Request bodies in Kubernetes' protobuf form, which typed clients (kubectl create, client-go) send for built-in kinds.
//!
//! A table of field numbers turns them into the JSON that everything else here works on. Answers are always JSON:
//! such clients accept both. Go writes fields that are not optional even when they are empty; what JSON would leave
//! out is left out here too, so that defaults apply.

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
    name: &'static str,
    shape: Shape,
    kind: &'static str,
}

type Message = HashMap<u64, Field>;

/// Made by examples/protobuf_table.rs.
static MESSAGES: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        let name = words.next()?;
        let field = |word: &'static str| {
            let mut pieces = word.splitn(3, ':');
            let (number, name, kind) = (pieces.next()?.parse().ok()?, pieces.next()?, pieces.next()?);
            let (shape, kind) = match (kind.strip_prefix('*'), kind.strip_prefix('%')) {
                (Some(kind), _) => (Shape::Many, kind),
                (_, Some(kind)) => (Shape::Map, kind),
                (None, None) => (Shape::One, kind),
            };
            Some((number, Field { name, shape, kind }))
        };
        Some((name, words.filter_map(field).collect()))
    };
    include_str!("messages.txt").lines().filter_map(line).collect()
});

/// Fields whose content Go puts into the struct around them.
const INLINE: &[&str] = &[
    "localObjectReference",
    "volumeSource",
    "handler",
    "persistentVolumeSource",
    "ephemeralContainerCommon",
    "typedLocalObjectReference",
];
/// Booleans that JSON leaves out when false.
const PLAIN_FLAGS: &[&str] = &[
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "stdin",
    "stdinOnce",
    "tty",
    "readOnly",
    "publishNotReadyAddresses",
    "unschedulable",
    "paused",
];
/// Messages whose numbers JSON leaves out when zero.
const PLAIN_NUMBERS: &[&str] =
    &["core.v1.Probe", "core.v1.ServicePort", "core.v1.ContainerPort", "core.v1.Event", "apis.meta.v1.ObjectMeta"];
/// Messages that mean nothing when empty.
const PLAIN_MESSAGES: &[&str] =
    &["strategy", "updateStrategy", "status", "metadata", "resources", "source", "defaultRequest"];

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
    let (group, version) = api_version.split_once('/').unwrap_or(("core", &api_version));
    let package = group.split('.').next().unwrap_or_default();
    let name = [format!("{package}.{version}.{kind}"), format!("apis.meta.v1.{kind}")]
        .into_iter()
        .find(|n| MESSAGES.contains_key(n.as_str()));
    let name =
        name.ok_or_else(|| format!("kind {kind:?} of {api_version:?} is not known in protobuf form; send JSON"))?;
    let mut value = message(&name, raw, 0)?;
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
    if let Some(special) = special(name, bytes)? {
        return Ok(special);
    }
    let Some(fields) = MESSAGES.get(name) else { return Err(format!("message {name} is not known")) };
    let mut map = Map::new();
    for entry in Wire(bytes) {
        let (number, item) = entry?;
        let Some(field) = fields.get(&number) else { continue };
        match field.shape {
            Shape::One => {
                let value = one(field.kind, &item, depth)?;
                if INLINE.contains(&field.name) {
                    if let Value::Object(inner) = value {
                        map.extend(inner);
                    }
                } else if !left_out(name, field, &value) {
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
    Ok(Value::Object(map))
}

fn one_empty(kind: &str) -> Value {
    match kind {
        "s" | "y" => "".into(),
        "i" => 0.into(),
        "b" => false.into(),
        _ => json!({}),
    }
}

fn left_out(message: &str, field: &Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag && PLAIN_FLAGS.contains(&field.name),
        Value::Number(number) => number.as_i64() == Some(0) && PLAIN_NUMBERS.contains(&message),
        Value::Object(map) => map.is_empty() && PLAIN_MESSAGES.contains(&field.name),
        Value::Array(_) => false,
    }
}

fn one(kind: &str, item: &Item, depth: usize) -> Result<Value, String> {
    Ok(match (kind, item) {
        ("s", Item::Bytes(bytes)) => utf8(bytes)?.into(),
        ("y", Item::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        #[expect(clippy::cast_possible_wrap, reason = "negative numbers come in two's complement")]
        ("i", Item::Number(number)) => (*number as i64).into(),
        ("b", Item::Number(number)) => (*number != 0).into(),
        ("d", Item::Number(number)) => f64::from_bits(*number).into(),
        (_, Item::Bytes(bytes)) => message(kind, bytes, depth + 1)?,
        _ => return Err(format!("a value of type {kind} has the wrong wire form")),
    })
}

/// Messages whose JSON is not an object with their fields.
fn special(name: &str, bytes: &[u8]) -> Result<Option<Value>, String> {
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
            | "apis.meta.v1.Verbs"
            | "authentication.v1.ExtraValue"
            | "authorization.v1.ExtraValue"
            | "apis.meta.v1.Duration"
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
        "runtime.RawExtension" | "apis.meta.v1.FieldsV1" => {
            let raw = texts.get(&1).and_then(|t| t.first()).copied().unwrap_or(b"null");
            serde_json::from_slice(raw).map_err(|e| format!("embedded JSON is broken: {e}"))?
        }
        "apis.meta.v1.Duration" => format!("{}s", number(1) / 1_000_000_000).into(),
        _ => {
            texts.get(&1).into_iter().flatten().map(|t| utf8(t).map(Value::from)).collect::<Result<Vec<_>, _>>()?.into()
        }
    };
    Ok(Some(value))
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
}
