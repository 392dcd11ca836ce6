//! Objects held against structural schemas: messages, defaults, pruning, nulls, lists and maps.

use serde_json::{Value, json};

use super::definitions::Definition;
use crate::answer::Answer;
use crate::case::{Case, Chapter, Outcome, case};

/// Posts an object with the spec, whose schema has these properties.
async fn post(c: &Case, properties: Value, spec: Value) -> anyhow::Result<Answer> {
    let d = Definition::new(c, json!({"type": "object", "properties": properties})).serve(c).await?;
    c.post(&d.things(c, ""), &d.thing(spec)).await
}

/// Expects the spec to be refused with this text after the object's name.
async fn refused(c: &Case, properties: Value, spec: Value, reason: &str, text: &str) -> Outcome {
    let a = post(c, properties, spec).await?;
    let field = text.split(": ").next().unwrap_or_default();
    a.invalid(field, reason)?;
    let found = a.text("/message").split_once(" is invalid: ").map_or("", |m| m.1);
    a.holds(found == text, format_args!("text {text:?} expected, got {found:?}"))?;
    Ok(())
}

/// Expects the spec to be stored like this.
async fn becomes(c: &Case, properties: Value, spec: Value, wanted: Value) -> Outcome {
    post(c, properties, spec).await?.status(201)?.is("/spec", wanted)?;
    Ok(())
}

/// The chapter.
#[expect(clippy::too_many_lines, reason = "one list of cases")]
pub fn chapter() -> Chapter {
    Chapter {
        name: "schemas",
        cases: vec![
            case("a required field is missing", |c| async move {
                let d = Definition::new(
                    &c,
                    json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
                );
                let d = d.serve(&c).await?;
                let a = c.post(&d.things(&c, ""), &d.thing(json!({}))).await?;
                a.invalid("spec.a", "FieldValueRequired")?
                    .says(&format!("Thing.{} \"a\" is invalid: spec.a: Required value", d.group))?;
                Ok(())
            }),
            case("a value of another type", |c| async move {
                let text = "spec.a: Invalid value: \"string\": spec.a in body must be of type integer: \"string\"";
                refused(&c, json!({"a": {"type": "integer"}}), json!({"a": "x"}), "FieldValueTypeInvalid", text).await
            }),
            case("numbers out of their bounds", |c| async move {
                let p = json!({"a": {"type": "integer", "minimum": 1, "maximum": 10}});
                let text = "spec.a: Invalid value: 0: spec.a in body should be greater than or equal to 1";
                refused(&c, p.clone(), json!({"a": 0}), "FieldValueInvalid", text).await?;
                let text = "spec.a: Invalid value: 11: spec.a in body should be less than or equal to 10";
                refused(&c, p, json!({"a": 11}), "FieldValueInvalid", text).await?;
                let p = json!({"a": {"type": "number", "minimum": 0, "exclusiveMinimum": true}});
                let text = "spec.a: Invalid value: 0: spec.a in body should be greater than 0";
                refused(&c, p, json!({"a": 0}), "FieldValueInvalid", text).await?;
                let p = json!({"a": {"type": "number", "multipleOf": 0.5}});
                let text = "spec.a: Invalid value: 0.7: spec.a in body should be a multiple of 0.5";
                refused(&c, p, json!({"a": 0.7}), "FieldValueInvalid", text).await
            }),
            case("a value outside of an enumeration", |c| async move {
                let p = json!({"a": {"type": "string", "enum": ["x", "y"]}});
                let text = "spec.a: Unsupported value: \"z\": supported values: \"x\", \"y\"";
                refused(&c, p, json!({"a": "z"}), "FieldValueNotSupported", text).await
            }),
            case("text too short, too long, of another pattern", |c| async move {
                let p = json!({"a": {"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"}});
                let text = "spec.a: Invalid value: \"a\": spec.a in body should be at least 2 chars long";
                refused(&c, p.clone(), json!({"a": "a"}), "FieldValueInvalid", text).await?;
                let text = "spec.a: Too long: may not be more than 4 bytes";
                refused(&c, p.clone(), json!({"a": "abcde"}), "FieldValueTooLong", text).await?;
                let text = "spec.a: Invalid value: \"AB\": spec.a in body should match '^[a-z]+$'";
                refused(&c, p, json!({"a": "AB"}), "FieldValueInvalid", text).await
            }),
            case("text that does not have its format", |c| async move {
                let p = json!({"a": {"type": "string", "format": "date-time"}});
                let text = "spec.a: Invalid value: \"x\": spec.a in body must be of type date-time: \"x\"";
                refused(&c, p, json!({"a": "x"}), "FieldValueTypeInvalid", text).await?;
                let p = json!({"a": {"type": "string", "format": "ipv4"}});
                let text = "spec.a: Invalid value: \"x\": spec.a in body must be of type ipv4: \"x\"";
                refused(&c, p, json!({"a": "x"}), "FieldValueTypeInvalid", text).await?;
                becomes(&c, json!({"a": {"type": "string", "format": "unknown"}}), json!({"a": "x"}), json!({"a": "x"}))
                    .await
            }),
            case("lists too short and too long", |c| async move {
                let p = json!({"a": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "string"}}});
                let text = "spec.a: Invalid value: 0: spec.a in body should have at least 1 items";
                refused(&c, p.clone(), json!({"a": []}), "FieldValueInvalid", text).await?;
                let text = "spec.a: Too many: 3: must have at most 2 items";
                refused(&c, p.clone(), json!({"a": ["a", "b", "c"]}), "FieldValueTooMany", text).await?;
                let text =
                    "spec.a[0]: Invalid value: \"integer\": spec.a[0] in body must be of type string: \"integer\"";
                refused(&c, p, json!({"a": [1]}), "FieldValueTypeInvalid", text).await
            }),
            case("maps too small, too large, with wrong values", |c| async move {
                let p = json!({"a": {"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": {"type": "integer"}}});
                let text = "spec.a: Invalid value: 0: spec.a in body should have at least 1 properties";
                refused(&c, p.clone(), json!({"a": {}}), "FieldValueInvalid", text).await?;
                let text = "spec.a: Too many: 3: must have at most 2 items";
                refused(&c, p.clone(), json!({"a": {"x": 1, "y": 2, "z": 3}}), "FieldValueTooMany", text).await?;
                let text = "spec.a.x: Invalid value: \"string\": spec.a.x in body must be of type integer: \"string\"";
                refused(&c, p, json!({"a": {"x": "1"}}), "FieldValueTypeInvalid", text).await
            }),
            case("a set has no value twice", |c| async move {
                let p = json!({"a": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}});
                refused(&c, p, json!({"a": ["x", "x"]}), "FieldValueDuplicate", "spec.a[1]: Duplicate value: \"x\"")
                    .await
            }),
            case("a list with keys has no key twice", |c| async move {
                let p = json!({"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                    "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}}});
                let text = "spec.a[1]: Duplicate value: map[string]interface {}{\"id\":\"x\"}";
                refused(&c, p.clone(), json!({"a": [{"id": "x"}, {"id": "x"}]}), "FieldValueDuplicate", text).await?;
                refused(&c, p, json!({"a": [{}]}), "FieldValueRequired", "spec.a[0].id: Required value").await
            }),
            case("an atomic list may have values twice", |c| async move {
                let p = json!({"a": {"type": "array", "items": {"type": "string"}}});
                becomes(&c, p, json!({"a": ["x", "x"]}), json!({"a": ["x", "x"]})).await
            }),
            case("int-or-string takes both and nothing else", |c| async move {
                let p = json!({"a": {"x-kubernetes-int-or-string": true}});
                becomes(&c, p.clone(), json!({"a": 5}), json!({"a": 5})).await?;
                becomes(&c, p.clone(), json!({"a": "50%"}), json!({"a": "50%"})).await?;
                let text =
                    "spec.a: Invalid value: \"boolean\": spec.a in body must be of type integer,string: \"boolean\"";
                refused(&c, p, json!({"a": true}), "FieldValueTypeInvalid", text).await
            }),
            case("anyOf, oneOf and not name the place in their text", |c| async move {
                let p = json!({"a": {"type": "integer", "oneOf": [{"minimum": 5}, {"maximum": 7}]}});
                let text = "<nil>: Invalid value: \"\": \"spec.a\" must validate one and only one schema (oneOf). Found 2 valid alternatives";
                refused(&c, p, json!({"a": 6}), "FieldValueInvalid", text).await?;
                let p = json!({"a": {"type": "string", "not": {"enum": ["bad"]}}});
                let text = "<nil>: Invalid value: \"\": \"spec.a\" must not validate the schema (not)";
                refused(&c, p, json!({"a": "bad"}), "FieldValueInvalid", text).await?;
                let p = json!({"a": {"type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}},
                    "anyOf": [{"required": ["x"]}, {"required": ["y"]}]}});
                let a = post(&c, p, json!({"a": {}})).await?;
                a.invalid("<nil>", "FieldValueInvalid")?
                    .contains("/message", "\"spec.a\" must validate at least one schema (anyOf)")?;
                Ok(())
            }),
            case("several faults are told together", |c| async move {
                let p = json!({"a": {"type": "integer", "minimum": 1}, "b": {"type": "integer", "minimum": 1}});
                let a = post(&c, p, json!({"a": 0, "b": 0})).await?;
                a.invalid("spec.a", "FieldValueInvalid")?
                    .cause("spec.b", "FieldValueInvalid")?
                    .contains("/message", " is invalid: [spec.")?;
                Ok(())
            }),
            case("defaults are filled in, also below defaults and in lists", |c| async move {
                let p = json!({
                    "a": {"type": "string", "default": "x"},
                    "b": {"type": "object", "default": {}, "properties": {"n": {"type": "integer", "default": 5}}},
                    "c": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}}},
                    "d": {"type": "object", "properties": {"n": {"type": "integer", "default": 1}}},
                });
                becomes(
                    &c,
                    p,
                    json!({"c": [{}, {"n": 2}]}),
                    json!({"a": "x", "b": {"n": 5}, "c": [{"n": 1}, {"n": 2}]}),
                )
                .await
            }),
            case("a default that came later is seen in objects of before", |c| async move {
                let d = Definition::new(&c, json!({"type": "object", "properties": {"n": {"type": "integer"}}}))
                    .serve(&c)
                    .await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 1}))).await?;
                let at = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/late";
                let patch = json!([{"op": "add", "path": at, "value": {"type": "string", "default": "here"}}]);
                c.patch(&d.path(), "json-patch+json", &patch).await?.status(200)?;
                c.until(&d.things(&c, "a"), "the default is seen", |a| a.at("/spec/late") == "here").await?;
                Ok(())
            }),
            case("nulls: kept where nullable, else gone before defaults come", |c| async move {
                let p = json!({
                    "a": {"type": "string", "nullable": true}, "b": {"type": "string", "nullable": true, "default": "d"},
                    "c": {"type": "string", "default": "d"}, "d": {"type": "string"},
                });
                let spec = json!({"a": null, "b": null, "c": null, "d": null});
                becomes(&c, p, spec, json!({"a": null, "b": null, "c": "d"})).await
            }),
            case("unknown fields are dropped at every depth", |c| async move {
                let p = json!({"a": {"type": "object", "properties": {"n": {"type": "integer"}}},
                    "l": {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}}}}});
                let spec = json!({"a": {"n": 1, "zz": 1}, "l": [{"n": 1, "zz": {}}], "zz": [1]});
                becomes(&c, p, spec, json!({"a": {"n": 1}, "l": [{"n": 1}]})).await
            }),
            case("preserve-unknown-fields keeps what no schema below knows better", |c| async move {
                let p = json!({"a": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                    "properties": {"known": {"type": "object", "properties": {"n": {"type": "integer"}}}}}});
                let spec = json!({"a": {"free": {"x": {"y": 1}}, "known": {"n": 1, "zz": 1}}});
                becomes(&c, p, spec, json!({"a": {"free": {"x": {"y": 1}}, "known": {"n": 1}}})).await
            }),
            case("an embedded resource has a kind, and its metadata is known", |c| async move {
                let p = json!({"a": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}});
                let a = post(&c, p.clone(), json!({"a": {}})).await?;
                a.invalid("spec.a.apiVersion", "FieldValueRequired")?.cause("spec.a.kind", "FieldValueRequired")?;
                let pod =
                    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "zz": 1}, "spec": {"x": 1}});
                let kept = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"x": 1}});
                becomes(&c, p, json!({"a": pod}), json!({"a": kept})).await
            }),
            case("apply merges lists by their kind, and an atomic map as one", |c| async move {
                let d = Definition::new(&c, json!({"type": "object", "properties": {
                    "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                    "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
                        "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}},
                    "plain": {"type": "array", "items": {"type": "string"}},
                    "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
                }})).serve(&c).await?;
                let path = d.things(&c, "a");
                let first = d.thing(json!({"set": ["x"], "keyed": [{"id": "x"}], "plain": ["x"], "whole": {"x": "1"}}));
                c.apply(&path, "one", &first).await?.status(201)?;
                let second = d.thing(json!({"set": ["y"], "keyed": [{"id": "y"}]}));
                let a = c.apply(&path, "two", &second).await?;
                a.status(200)?
                    .is("/spec/set", json!(["x", "y"]))?
                    .is("/spec/keyed", json!([{"id": "x"}, {"id": "y"}]))?;
                for part in [json!({"plain": ["y"]}), json!({"whole": {"y": "2"}})] {
                    c.apply(&path, "two", &d.thing(part)).await?.failed(409, "Conflict")?;
                }
                Ok(())
            }),
            case("the list of keys does not tell numbers from their order of fields", |c| async move {
                let p = json!({"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["p", "q"],
                    "items": {"type": "object", "required": ["p"], "properties": {"p": {"type": "integer"}, "q": {"type": "string", "default": "TCP"}}}}});
                let both = json!({"a": [{"p": 1}, {"p": 1, "q": "UDP"}]});
                becomes(&c, p.clone(), both, json!({"a": [{"p": 1, "q": "TCP"}, {"p": 1, "q": "UDP"}]})).await?;
                let a = post(&c, p, json!({"a": [{"p": 1}, {"q": "TCP", "p": 1}]})).await?;
                a.invalid("spec.a[1]", "FieldValueDuplicate")?;
                Ok(())
            }),
        ],
    }
}
