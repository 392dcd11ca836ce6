//! Rules in CEL: what they say about objects, and what is refused when a definition is written.

use serde_json::{Value, json};

use super::definitions::{DEFINITIONS, Definition};
use crate::case::{Case, Chapter, Outcome, case};

/// The fields that most rules are about.
fn properties() -> Value {
    json!({
        "n": {"type": "integer"}, "m": {"type": "integer"}, "s": {"type": "string", "maxLength": 100},
        "list": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 20}},
        "numbers": {"type": "array", "maxItems": 10, "items": {"type": "integer"}},
        "map": {"type": "object", "maxProperties": 10, "additionalProperties": {"type": "string", "maxLength": 20}},
        "when": {"type": "string", "format": "date-time"}, "span": {"type": "string", "format": "duration"},
        "either": {"x-kubernetes-int-or-string": true}, "some-name": {"type": "integer"}, "namespace": {"type": "string", "maxLength": 20},
    })
}

fn ruled(c: &Case, rule: Value) -> Definition {
    Definition::new(c, json!({"type": "object", "properties": properties(), "x-kubernetes-validations": [rule]}))
}

/// Expects a definition with the rule to be refused, for this field below it, with this in the text.
async fn bad(c: &Case, rule: Value, below: &str, text: &str) -> Outcome {
    let d = ruled(c, rule);
    let a = c.post(&format!("{DEFINITIONS}?dryRun=All"), &d.json).await?;
    let at = format!("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].{below}");
    a.failed(422, "Invalid")?.contains("/message", &at)?.contains("/message", text)?;
    Ok(())
}

/// Expects every rule to hold for the spec.
async fn hold(c: &Case, rules: &[&str], spec: Value) -> Outcome {
    let rules: Vec<Value> =
        rules.iter().map(|r| json!({"rule": r, "message": format!("does not hold: {r}")})).collect();
    let schema = json!({"type": "object", "properties": properties(), "x-kubernetes-validations": rules});
    let d = Definition::new(c, schema).serve(c).await?;
    c.post(&d.things(c, ""), &d.thing(spec)).await?.status(201)?;
    Ok(())
}

/// Expects the spec to be refused with this text after the object's name.
async fn refused(c: &Case, rule: Value, spec: Value, text: &str) -> Outcome {
    let d = ruled(c, rule).serve(c).await?;
    let a = c.post(&d.things(c, ""), &d.thing(spec)).await?;
    a.failed(422, "Invalid")?.says(&format!("Thing.{} \"a\" is invalid: {text}", d.group))?;
    Ok(())
}

/// The chapter.
#[expect(clippy::too_many_lines, reason = "one list of cases")]
pub fn chapter() -> Chapter {
    Chapter {
        name: "cel",
        cases: vec![
            case("a rule that fails names its place, its type and itself", |c| async move {
                let text = "spec: Invalid value: \"object\": failed rule: self.n <= self.m";
                refused(&c, json!({"rule": "self.n <= self.m"}), json!({"n": 2, "m": 1}), text).await
            }),
            case("a rule has its own message, reason and field", |c| async move {
                let rule = json!({"rule": "self.n < 5", "message": "n is too large", "reason": "FieldValueForbidden", "fieldPath": ".n"});
                let d = ruled(&c, rule).serve(&c).await?;
                let a = c.post(&d.things(&c, ""), &d.thing(json!({"n": 7}))).await?;
                a.invalid("spec.n", "FieldValueForbidden")?
                    .says(&format!("Thing.{} \"a\" is invalid: spec.n: Forbidden: n is too large", d.group))?;
                Ok(())
            }),
            case("a message may be an expression", |c| async move {
                let rule = json!({"rule": "self.n < 5", "messageExpression": "'too much for ' + self.s"});
                refused(&c, rule, json!({"n": 7, "s": "x"}), "spec: Invalid value: \"object\": too much for x").await
            }),
            case("an expression that fails leaves the message", |c| async move {
                let rule =
                    json!({"rule": "self.n < 5", "message": "plain", "messageExpression": "'m is ' + self.map['zz']"});
                refused(&c, rule, json!({"n": 7, "map": {}}), "spec: Invalid value: \"object\": plain").await
            }),
            case("a rule that cannot be evaluated refuses the object", |c| async move {
                let text = "spec: Invalid value: \"object\": no such key: m evaluating rule: self.m > 1";
                refused(&c, json!({"rule": "self.m > 1"}), json!({"n": 1}), text).await?;
                let text = "spec: Invalid value: \"object\": division by zero evaluating rule: 1 / self.n == 1";
                refused(&c, json!({"rule": "1 / self.n == 1"}), json!({"n": 0}), text).await
            }),
            case("rules at the root see the metadata's name, and are told at no field", |c| async move {
                let mut d = Definition::new(&c, json!({"type": "object"}));
                d.version()["schema"]["openAPIV3Schema"]["x-kubernetes-validations"] =
                    json!([{"rule": "self.metadata.name.startsWith('ok-') && self.kind == 'Thing'"}]);
                let d = d.serve(&c).await?;
                c.post(&d.things(&c, ""), &d.named("ok-a", json!({}))).await?.status(201)?;
                let a = c.post(&d.things(&c, ""), &d.thing(json!({}))).await?;
                a.invalid("<nil>", "FieldValueInvalid")?;
                Ok(())
            }),
            case("rules in lists and maps are told with index and key", |c| async move {
                let d = Definition::new(&c, json!({"type": "object", "properties": {
                    "l": {"type": "array", "maxItems": 5, "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}},
                    "m": {"type": "object", "maxProperties": 5, "additionalProperties": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}},
                }})).serve(&c).await?;
                let a = c.post(&d.things(&c, ""), &d.thing(json!({"l": [1, 0], "m": {"k": 0}}))).await?;
                a.invalid("spec.l[1]", "FieldValueInvalid")?.cause("spec.m[k]", "FieldValueInvalid")?;
                Ok(())
            }),
            case("a transition rule compares with what was before, and is silent at creation", |c| async move {
                let d = ruled(&c, json!({"rule": "self.n >= oldSelf.n", "message": "n only grows"})).serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 5}))).await?;
                c.merge(&d.things(&c, "a"), &json!({"spec": {"n": 6}})).await?.status(200)?;
                let a = c.merge(&d.things(&c, "a"), &json!({"spec": {"n": 3}})).await?;
                a.invalid("spec", "FieldValueInvalid")?.contains("/message", "n only grows")?;
                Ok(())
            }),
            case("a field cannot change once it is there", |c| async move {
                let d = Definition::new(
                    &c,
                    json!({"type": "object", "properties": {"n": {"type": "integer",
                    "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}}}),
                )
                .serve(&c)
                .await?;
                c.make(&d.things(&c, ""), &d.thing(json!({}))).await?;
                c.merge(&d.things(&c, "a"), &json!({"spec": {"n": 1}})).await?.status(200)?;
                let a = c.merge(&d.things(&c, "a"), &json!({"spec": {"n": 2}})).await?;
                a.invalid("spec.n", "FieldValueInvalid")?.says(&format!(
                    "Thing.{} \"a\" is invalid: spec.n: Invalid value: \"integer\": is immutable",
                    d.group
                ))?;
                Ok(())
            }),
            case("elements of a list with keys are told to be the same", |c| async move {
                let d = Definition::new(&c, json!({"type": "object", "properties": {"disks": {"type": "array", "maxItems": 5,
                    "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"], "items": {"type": "object", "required": ["id"],
                    "properties": {"id": {"type": "string", "maxLength": 10}, "size": {"type": "integer"}},
                    "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size"}]}}}})).serve(&c).await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"disks": [{"id": "a", "size": 5}, {"id": "b", "size": 9}]})))
                    .await?;
                let next = json!({"spec": {"disks": [{"id": "c", "size": 1}, {"id": "b", "size": 9}, {"id": "a", "size": 6}]}});
                c.merge(&d.things(&c, "a"), &next).await?.status(200)?;
                let next = json!({"spec": {"disks": [{"id": "b", "size": 8}, {"id": "a", "size": 6}]}});
                c.merge(&d.things(&c, "a"), &next).await?.invalid("spec.disks[0]", "FieldValueInvalid")?;
                Ok(())
            }),
            case("optionalOldSelf lets a transition rule speak at creation", |c| async move {
                let rule = json!({"rule": "oldSelf.hasValue() || self.n == 1", "message": "starts at 1", "optionalOldSelf": true});
                let d = ruled(&c, rule).serve(&c).await?;
                c.post(&d.things(&c, ""), &d.thing(json!({"n": 2}))).await?.invalid("spec", "FieldValueInvalid")?;
                c.make(&d.things(&c, ""), &d.thing(json!({"n": 1}))).await?;
                c.merge(&d.things(&c, "a"), &json!({"spec": {"n": 2}})).await?.status(200)?;
                Ok(())
            }),
            case("a rule that came later forgives what does not change", |c| async move {
                let inner = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
                let d = Definition::new(
                    &c,
                    json!({"type": "object", "properties": {"a": inner, "b": {"type": "integer"}}}),
                )
                .serve(&c)
                .await?;
                c.make(&d.things(&c, ""), &d.thing(json!({"a": {"n": 1}}))).await?;
                let at =
                    "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/a/x-kubernetes-validations";
                let patch = json!([{"op": "add", "path": at, "value": [{"rule": "self.n > 5"}]}]);
                c.patch(&d.path(), "json-patch+json", &patch).await?.status(200)?;
                let probe = format!("{}?dryRun=All", d.things(&c, ""));
                for _ in 0..200 {
                    if c.post(&probe, &d.named("b", json!({"a": {"n": 1}}))).await?.status == 422 {
                        break;
                    }
                }
                c.merge(&d.things(&c, "a"), &json!({"spec": {"b": 1}})).await?.status(200)?;
                c.merge(&d.things(&c, "a"), &json!({"spec": {"a": {"n": 2}}}))
                    .await?
                    .invalid("spec.a", "FieldValueInvalid")?;
                Ok(())
            }),
            case("macros walk over lists and maps", |c| async move {
                hold(&c, &[
                    "self.list.all(x, x.size() == 1) && self.list.exists(x, x == 'b') && self.list.exists_one(x, x == 'a')",
                    "self.list.map(x, x + x) == ['aa', 'bb'] && self.list.filter(x, x != 'a') == ['b']",
                    "self.map.all(k, self.map[k].startsWith('v')) && 'k' in self.map && self.list.all(i, v, v == self.list[i])",
                ], json!({"list": ["a", "b"], "map": {"k": "v1"}})).await
            }),
            case("presence and optional values", |c| async move {
                hold(&c, &[
                    "has(self.n) && !has(self.m) && self.?m.orValue(7) == 7 && self.?n.optMap(v, v + 1).value() == 2",
                    "!self.?m.hasValue() && optional.none().or(optional.of(1)).value() == 1",
                ], json!({"n": 1})).await
            }),
            case("text, regular expressions and formats", |c| async move {
                hold(&c, &[
                    "self.s.lowerAscii() == 'hello-42' && self.s.split('-') == ['Hello', '42'] && self.s.find('[0-9]+') == '42'",
                    "self.s.matches('^[A-Z].*') && self.s.substring(0, 2) == 'He' && self.s.indexOf('l') == 2 && self.s.replace('l', 'L') == 'HeLLo-42'",
                    "'%s is %d'.format([self.s, self.n]) == 'Hello-42 is 1' && self.s.findAll('[a-z]') == ['e', 'l', 'l', 'o']",
                    "!format.dns1123Label().validate('ok').hasValue() && format.dns1123Label().validate('No').hasValue()",
                ], json!({"s": "Hello-42", "n": 1})).await
            }),
            case("lists and sets", |c| async move {
                hold(&c, &[
                    "self.numbers.isSorted() && self.numbers.sum() == 6 && self.numbers.min() == 1 && self.numbers.max() == 3",
                    "self.numbers.indexOf(2) == 1 && self.numbers.lastIndexOf(9) == -1 && sets.contains(self.numbers, [3, 1])",
                    "sets.equivalent(self.numbers, [3, 2, 1]) && !sets.intersects(self.numbers, [9])",
                ], json!({"numbers": [1, 2, 3]})).await
            }),
            case("moments and spans of time", |c| async move {
                hold(
                    &c,
                    &[
                        "self.when.getFullYear() == 2024 && self.when > timestamp('2020-01-01T00:00:00Z')",
                        "self.span == duration('90m') && self.when + self.span == timestamp('2024-01-02T04:34:05Z')",
                    ],
                    json!({"when": "2024-01-02T03:04:05Z", "span": "1h30m"}),
                )
                .await
            }),
            case("URLs, addresses, networks, quantities", |c| async move {
                hold(&c, &[
                    "url('https://example.com:8443/a?x=1').getPort() == '8443' && isURL('https://a') && !isURL('a b')",
                    "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1') && !isIP('x') && isCIDR('::/0')",
                    "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('2').add(quantity('3')).asInteger() == 5",
                ], json!({})).await
            }),
            case("names that CEL cannot write are escaped", |c| async move {
                hold(
                    &c,
                    &["self.some__dash__name == 1 && self.__namespace__ == 'x'"],
                    json!({"some-name": 1, "namespace": "x"}),
                )
                .await
            }),
            case("int-or-string is asked for its type", |c| async move {
                let rule = "type(self.either) == int ? self.either > 0 : self.either.endsWith('%')";
                hold(&c, &[rule], json!({"either": "50%"})).await?;
                hold(&c, &[rule], json!({"either": 5})).await
            }),
            case("sets and keyed lists compare without order", |c| async move {
                let d = Definition::new(&c, json!({"type": "object", "properties": {
                    "set": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "set", "items": {"type": "string", "maxLength": 5}}},
                    "x-kubernetes-validations": [{"rule": "self.set == ['b', 'a']"}]})).serve(&c).await?;
                c.post(&d.things(&c, ""), &d.thing(json!({"set": ["a", "b"]}))).await?.status(201)?;
                Ok(())
            }),
            case("a rule that does not parse", |c| async move {
                bad(
                    &c,
                    json!({"rule": "self.n >"}),
                    "rule",
                    "compilation failed: ERROR: <input>:1:9: Syntax error: mismatched input '<EOF>' expecting ",
                )
                .await?;
                bad(
                    &c,
                    json!({"rule": "self.n > 1 )"}),
                    "rule",
                    "ERROR: <input>:1:12: Syntax error: extraneous input ')' expecting <EOF>",
                )
                .await?;
                bad(&c, json!({"rule": "namespace == 1"}), "rule", "ERROR: <input>:1:1: reserved identifier: namespace")
                    .await
            }),
            case("a rule about fields, variables and functions that are not there", |c| async move {
                bad(
                    &c,
                    json!({"rule": "self.nope > 1"}),
                    "rule",
                    "ERROR: <input>:1:5: undefined field 'nope'\n | self.nope > 1\n | ....^",
                )
                .await?;
                bad(&c, json!({"rule": "x"}), "rule", "undeclared reference to 'x' (in container '')").await?;
                bad(
                    &c,
                    json!({"rule": "foo(1)"}),
                    "rule",
                    "ERROR: <input>:1:4: undeclared reference to 'foo' (in container '')",
                )
                .await
            }),
            case("a rule whose types do not fit", |c| async move {
                bad(
                    &c,
                    json!({"rule": "self.n == 'a'"}),
                    "rule",
                    "found no matching overload for '_==_' applied to '(int, string)'",
                )
                .await?;
                bad(&c, json!({"rule": "self.n + 1"}), "rule", "cel expression must evaluate to a bool").await?;
                bad(&c, json!({"rule": "[1, 'a'] == [1]"}), "rule", "expected type 'int' but found 'string'").await?;
                bad(&c, json!({"rule": "self.s.matches('(')"}), "rule", "invalid matches argument").await
            }),
            case("a message expression gives text", |c| async move {
                bad(
                    &c,
                    json!({"rule": "self.n > 1", "messageExpression": "1"}),
                    "messageExpression",
                    "messageExpression must evaluate to a string",
                )
                .await?;
                bad(
                    &c,
                    json!({"rule": "self.n > 1", "messageExpression": "self.zz"}),
                    "messageExpression",
                    "messageExpression compilation failed: ERROR: <input>:1:5: undefined field 'zz'",
                )
                .await
            }),
            case("reasons, paths and messages of rules are checked", |c| async move {
                bad(
                    &c,
                    json!({"rule": "self.n > 1", "reason": "Nope"}),
                    "reason",
                    "Unsupported value: \"Nope\": supported values: ",
                )
                .await?;
                bad(
                    &c,
                    json!({"rule": "self.n > 1", "fieldPath": ".nope"}),
                    "fieldPath",
                    "fieldPath must be a valid path",
                )
                .await?;
                bad(
                    &c,
                    json!({"rule": "self.n > 1", "message": "a\nb"}),
                    "message",
                    "message must not contain line breaks",
                )
                .await?;
                bad(
                    &c,
                    json!({"rule": "self.n\n> 1"}),
                    "message",
                    "message must be specified if rule contains line breaks",
                )
                .await?;
                bad(&c, json!({"rule": ""}), "rule", "rule is not specified").await?;
                bad(
                    &c,
                    json!({"rule": "self.n > 1", "optionalOldSelf": true}),
                    "optionalOldSelf",
                    "may not be set if oldSelf is not used in rule",
                )
                .await
            }),
            case("oldSelf is refused where old and new cannot be told to be the same", |c| async move {
                let d = Definition::new(
                    &c,
                    json!({"type": "object", "properties": {"l": {"type": "array", "maxItems": 5,
                    "items": {"type": "integer", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}}}),
                );
                let a = c.post(&format!("{DEFINITIONS}?dryRun=All"), &d.json).await?;
                a.failed(422, "Invalid")?.contains(
                    "/message",
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within",
                )?;
                Ok(())
            }),
            case("a definition is refused when its rules may cost far too much", |c| async move {
                let open = json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "string"}}},
                    "x-kubernetes-validations": [{"rule": "self.list.all(x, self.list.all(y, x == y))"}]});
                let d = Definition::new(&c, open);
                let a = c.post(&format!("{DEFINITIONS}?dryRun=All"), &d.json).await?;
                let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule";
                a.invalid(at, "FieldValueForbidden")?
                    .contains("/message", "estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems")?;
                let closed = json!({"type": "object", "properties": {"list": {"type": "array", "maxItems": 10, "items": {"type": "string", "maxLength": 10}}},
                    "x-kubernetes-validations": [{"rule": "self.list.all(x, self.list.all(y, x == y))"}]});
                c.post(&format!("{DEFINITIONS}?dryRun=All"), &Definition::new(&c, closed).json).await?.status(201)?;
                let inner = json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "object",
                    "properties": {"s": {"type": "string"}}, "x-kubernetes-validations": [{"rule": "self.s.matches('^[a-z]+$')"}]}}}});
                c.post(&format!("{DEFINITIONS}?dryRun=All"), &Definition::new(&c, inner).json)
                    .await?
                    .failed(422, "Invalid")?
                    .contains("/message", "estimated rule cost exceeds budget by factor of more than 100x")?;
                let text = json!({"type": "object", "properties": properties(), "x-kubernetes-validations": [{"rule": "self.n < 5", "messageExpression": "'n is ' + string(self.n)"}]});
                c.post(&format!("{DEFINITIONS}?dryRun=All"), &Definition::new(&c, text).json)
                    .await?
                    .failed(422, "Invalid")?
                    .contains(
                        "/message",
                        "estimated messageExpression cost exceeds budget by factor of more than 100x",
                    )?;
                Ok(())
            }),
            case("a rule that costs too much does not hold the server up", |c| async move {
                // bounded by the schema, so it is accepted; what it does with strings is counted when it runs
                let schema = json!({"type": "object", "properties": {"list": {"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 5}}},
                    "x-kubernetes-validations": [{"rule": "self.list.all(x, self.list.all(y, x.size() + y.size() < 100))"}]});
                let d = Definition::new(&c, schema).serve(&c).await?;
                let list: Vec<String> = (0..100).map(|n| format!("v{n}")).collect();
                let a = c.post(&d.things(&c, ""), &d.thing(json!({"list": list}))).await?;
                a.status(201)?;
                Ok(())
            }),
        ],
    }
}
