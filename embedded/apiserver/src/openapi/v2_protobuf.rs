//! The OpenAPI v2 document in protobuf form, which kubectl asks for when it validates a manifest of the kind `List` (the
//! server cannot: a list is no resource), and Helm for every chart.
//!
//! Messages and numbers are those of `openapi/v2/OpenAPIv2.proto` of gnostic-models. Values of any kind (defaults, enums,
//! extensions) travel as YAML text there; ours is JSON, which is YAML.

use serde_json::{Map, Value};

/// Media type of the answer; clients ask for an older spelling, with `@` before the version.
pub const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Returns the document as a message `Document`.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Out::default();
    for (key, value) in object(document) {
        match key.as_str() {
            "swagger" => out.text(1, value),
            "info" => out.message(2, |out| {
                out.text(1, &value["title"]);
                out.text(2, &value["version"]);
            }),
            "paths" => out.message(8, |out| out.named(2, value, path_item)),
            "definitions" => out.message(9, |out| out.named(1, value, schema)),
            "security" => {
                for one in list(value) {
                    out.message(12, |out| out.named(1, one, |out, words| out.texts(1, words)));
                }
            }
            // SecurityDefinitionsItem, of which it is an ApiKeySecurity
            "securityDefinitions" => {
                out.message(13, |out| out.named(1, value, |out, one| out.message(2, |out| key_security(out, one))))
            }
            _ => {}
        }
    }
    out.0
}

fn key_security(out: &mut Out, value: &Value) {
    for (number, key) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
        out.text(number, &value[key]);
    }
}

fn path_item(out: &mut Out, value: &Value) {
    for (key, value) in object(value) {
        let number = match key.as_str() {
            "get" => 2,
            "put" => 3,
            "post" => 4,
            "delete" => 5,
            "options" => 6,
            "head" => 7,
            "patch" => 8,
            "parameters" => {
                parameters(out, 9, value);
                continue;
            }
            _ => continue,
        };
        out.message(number, |out| operation(out, value));
    }
}

fn operation(out: &mut Out, value: &Value) {
    for (key, value) in object(value) {
        match key.as_str() {
            "tags" => out.texts(1, value),
            "summary" => out.text(2, value),
            "description" => out.text(3, value),
            "operationId" => out.text(5, value),
            "produces" => out.texts(6, value),
            "consumes" => out.texts(7, value),
            "parameters" => parameters(out, 8, value),
            // of a response that is no reference, and its schema that is no file
            "responses" => out.message(9, |out| {
                out.named(1, value, |out, response| {
                    out.message(1, |out| {
                        out.text(1, &response["description"]);
                        if response["schema"].is_object() {
                            out.message(2, |out| out.message(1, |out| schema(out, &response["schema"])));
                        }
                    });
                });
            }),
            _ if key.starts_with("x-") => out.extension(13, key, value),
            _ => {}
        }
    }
}

/// `ParametersItem` holds a `Parameter`, which holds one of the body or another one by its place.
fn parameters(out: &mut Out, number: u32, value: &Value) {
    for one in list(value) {
        let place = one["in"].as_str().unwrap_or_default();
        out.message(number, |out| {
            out.message(1, |out| match place {
                "body" => out.message(1, |out| {
                    out.text(1, &one["description"]);
                    out.text(2, &one["name"]);
                    out.text(3, &one["in"]);
                    out.flag(4, &one["required"]);
                    out.message(5, |out| schema(out, &one["schema"]));
                }),
                _ => out.message(2, |out| {
                    // a query parameter has a field more before its type than one of a path or a header
                    let (item, kind, unique) = match place {
                        "header" => (1, 5, 19),
                        "path" => (4, 5, 19),
                        _ => (3, 6, 20),
                    };
                    out.message(item, |out| {
                        out.flag(1, &one["required"]);
                        out.text(2, &one["in"]);
                        out.text(3, &one["description"]);
                        out.text(4, &one["name"]);
                        out.text(kind, &one["type"]);
                        out.flag(unique, &one["uniqueItems"]);
                    });
                }),
            });
        });
    }
}

fn schema(out: &mut Out, value: &Value) {
    for (key, value) in object(value) {
        match key.as_str() {
            "$ref" => out.text(1, value),
            "format" => out.text(2, value),
            "title" => out.text(3, value),
            "description" => out.text(4, value),
            "default" => out.any(5, value),
            "multipleOf" => out.number(6, value),
            "maximum" => out.number(7, value),
            "exclusiveMaximum" => out.flag(8, value),
            "minimum" => out.number(9, value),
            "exclusiveMinimum" => out.flag(10, value),
            "maxLength" => out.integer(11, value),
            "minLength" => out.integer(12, value),
            "pattern" => out.text(13, value),
            "maxItems" => out.integer(14, value),
            "minItems" => out.integer(15, value),
            "uniqueItems" => out.flag(16, value),
            "maxProperties" => out.integer(17, value),
            "minProperties" => out.integer(18, value),
            "required" => out.texts(19, value),
            "enum" => list(value).iter().for_each(|one| out.any(20, one)),
            "additionalProperties" => out.message(21, |out| match value {
                Value::Bool(_) => out.flag(2, value),
                _ => out.message(1, |out| schema(out, value)),
            }),
            "type" => out.message(22, |out| match value {
                Value::Array(_) => out.texts(1, value),
                _ => out.text(1, value),
            }),
            "items" => out.message(23, |out| out.message(1, |out| schema(out, value))),
            "allOf" => list(value).iter().for_each(|one| out.message(24, |out| schema(out, one))),
            "properties" => out.message(25, |out| out.named(1, value, schema)),
            "readOnly" => out.flag(27, value),
            "example" => out.any(30, value),
            _ if key.starts_with("x-") => out.extension(31, key, value),
            _ => {}
        }
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A message being written; values of another type than the field's are left out.
#[derive(Default)]
struct Out(Vec<u8>);

impl Out {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, number: u32, wire: u32) {
        self.varint(u64::from(number << 3 | wire));
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.key(number, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, value: &Value) {
        list(value).iter().for_each(|one| self.text(number, one));
    }

    fn flag(&mut self, number: u32, value: &Value) {
        if let Some(flag) = value.as_bool() {
            self.key(number, 0);
            self.varint(u64::from(flag));
        }
    }

    fn integer(&mut self, number: u32, value: &Value) {
        if let Some(integer) = value.as_i64() {
            self.key(number, 0);
            self.varint(integer as u64);
        }
    }

    fn number(&mut self, number: u32, value: &Value) {
        if let Some(value) = value.as_f64() {
            self.key(number, 1);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn message(&mut self, number: u32, write: impl FnOnce(&mut Out)) {
        let mut inner = Out::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    /// A map as repeated messages of a name and a value.
    fn named(&mut self, number: u32, value: &Value, write: impl Fn(&mut Out, &Value)) {
        for (name, value) in object(value) {
            self.message(number, |out| {
                out.bytes(1, name.as_bytes());
                out.message(2, |out| write(out, value));
            });
        }
    }

    fn any(&mut self, number: u32, value: &Value) {
        self.message(number, |out| out.bytes(2, value.to_string().as_bytes()));
    }

    fn extension(&mut self, number: u32, name: &str, value: &Value) {
        self.message(number, |out| {
            out.bytes(1, name.as_bytes());
            out.any(2, value);
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_written_as_its_messages() {
        let document =
            json!({"swagger": "2.0", "definitions": {"A": {"type": "object", "minLength": 300, "x-y": ["z"]}}});
        let schema = [
            &b"\xb2\x01\x08\x0a\x06object"[..],                // type
            b"\x60\xac\x02",                                   // minLength
            b"\xfa\x01\x0e\x0a\x03x-y\x12\x07\x12\x05[\"z\"]", // an extension
        ]
        .concat();
        let mut wanted = b"\x0a\x032.0".to_vec();
        let named = [&b"\x0a\x01A\x12"[..], &[schema.len() as u8], &schema].concat();
        wanted.extend([0x4a, named.len() as u8 + 2, 0x0a, named.len() as u8]);
        wanted.extend(named);
        assert_eq!(encode(&document), wanted);
    }
}
