//! Whether the schemas of a definition are structural, as
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema>
//! asks, and whether the rules in them are sound.

use serde_json::{Map, Value};

use crate::cel::cost;
use crate::cel::rules::Rule;
use crate::error::Cause;
use crate::schema::{self, Schema};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// Keywords of JSON schema that Kubernetes does not take.
const REFUSED: &[&str] = &["$ref", "id", "patternProperties", "dependencies", "definitions", "additionalItems"];
/// What an `allOf`, `anyOf`, `oneOf` or `not` may not say, for only the structure itself says it.
const STRUCTURE: &[&str] = &["description", "type", "title", "default", "nullable", "additionalProperties"];

/// Where in the structure a schema is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Root,
    Field,
    Item,
}

/// What is wrong with the schema of a whole resource. `shape` is what was read from it, if it could be read.
pub fn faults(json: &Value, at: &str, shape: Option<&Schema>) -> Vec<Cause> {
    let mut check = Check { causes: Vec::new() };
    check.node(json, at, Place::Root, false, None);
    if check.causes.is_empty()
        && let Some(shape) = shape
    {
        check.rules(json, at, shape, None, Some(1.0));
        check.defaults(json, at, shape);
    }
    check.causes
}

struct Check {
    causes: Vec<Cause>,
}

fn text<'a>(node: &'a Map<String, Value>, field: &str) -> &'a str {
    node.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn flag(node: &Map<String, Value>, field: &str) -> bool {
    node.get(field).and_then(Value::as_bool).unwrap_or(false)
}

fn allowed(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_string()).collect()
}

impl Check {
    fn invalid(&mut self, at: String, value: &str, detail: &str) {
        self.causes.push(Cause::invalid(at, &value.into(), detail));
    }

    /// `metadata`: within the metadata of a resource, whose `name` and `generateName` alone may be restricted.
    fn node(&mut self, json: &Value, at: &str, place: Place, metadata: bool, parent_list: Option<&str>) {
        let Some(node) = json.as_object() else { return };
        for keyword in REFUSED.iter().filter(|k| node.contains_key(**k)) {
            self.causes.push(Cause::forbidden(format!("{at}.{keyword}"), &format!("{keyword} is not supported")));
        }
        if flag(node, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.causes.push(Cause::forbidden(format!("{at}.uniqueItems"), why));
        }
        self.kind(node, at, place);
        self.pattern(node, at);
        self.extensions(node, at, parent_list);
        if metadata {
            let why = "must not be set in top-level metadata";
            if node.contains_key("default") {
                self.causes.push(Cause::forbidden(format!("{at}.default"), why));
            }
            let known = |map: &Map<String, Value>| map.keys().all(|k| k == "name" || k == "generateName");
            if node.get("properties").and_then(Value::as_object).is_some_and(|p| !known(p)) {
                let why =
                    "must not specify anything other than name and generateName, but metadata is implicitly specified";
                self.causes.push(Cause::forbidden(at, why));
            }
        }
        self.children(node, at, place);
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for (index, child) in node.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
                let free = flag(node, "x-kubernetes-int-or-string");
                self.value_validation(child, &format!("{at}.{keyword}[{index}]"), free);
            }
        }
        if let Some(child) = node.get("not") {
            self.value_validation(child, &format!("{at}.not"), false);
        }
    }

    fn kind(&mut self, node: &Map<String, Value>, at: &str, place: Place) {
        let kind = text(node, "type");
        let free = flag(node, "x-kubernetes-int-or-string") || flag(node, "x-kubernetes-preserve-unknown-fields");
        let why = match (place, kind) {
            (Place::Root, "") => "must not be empty at the root",
            (Place::Field, "") if !free => "must not be empty for specified object fields",
            (Place::Item, "") if !free => "must not be empty for specified array items",
            (_, "") => return,
            (Place::Root, kind) if kind != "object" => {
                return self.invalid(format!("{at}.type"), kind, "must be object at the root");
            }
            (_, kind) if !TYPES.contains(&kind) => {
                let cause = Cause::unsupported(format!("{at}.type"), &kind.into(), &allowed(&TYPES));
                return self.causes.push(cause);
            }
            _ => return,
        };
        self.causes.push(Cause::required(format!("{at}.type"), why));
    }

    fn pattern(&mut self, node: &Map<String, Value>, at: &str) {
        let pattern = text(node, "pattern");
        if regex::Regex::new(pattern).is_err() {
            let why = "must be a valid regular expression, but isn't";
            self.invalid(format!("{at}.pattern"), pattern, why);
        }
    }

    fn extensions(&mut self, node: &Map<String, Value>, at: &str, parent_list: Option<&str>) {
        let kind = text(node, "type");
        if node.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
            let at = format!("{at}.x-kubernetes-preserve-unknown-fields");
            self.causes.push(Cause::invalid(at, &false.into(), "must be true or undefined"));
        }
        for (keyword, wanted, values) in [
            ("x-kubernetes-map-type", "object", ["atomic", "granular", ""].as_slice()),
            ("x-kubernetes-list-type", "array", ["atomic", "set", "map"].as_slice()),
        ] {
            let Some(value) = node.get(keyword).and_then(Value::as_str) else { continue };
            if kind != wanted {
                self.invalid(format!("{at}.type"), kind, &format!("must be {wanted} if {keyword} is specified"));
            }
            if !values.contains(&value) {
                let values: Vec<&str> = values.iter().copied().filter(|v| !v.is_empty()).collect();
                self.causes.push(Cause::unsupported(format!("{at}.{keyword}"), &value.into(), &allowed(&values)));
            }
        }
        if flag(node, "x-kubernetes-embedded-resource") {
            let no_fields = node.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty);
            if no_fields && !flag(node, "x-kubernetes-preserve-unknown-fields") {
                let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
                self.causes.push(Cause::required(format!("{at}.properties"), why));
            }
            if kind != "object" {
                self.invalid(format!("{at}.type"), kind, "must be object if x-kubernetes-embedded-resource is true");
            }
        }
        if parent_list == Some("set") {
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            let other = |keyword: &str| node.get(keyword).and_then(Value::as_str).filter(|v| *v != "atomic");
            if kind == "object" && text(node, "x-kubernetes-map-type") != "atomic" {
                self.invalid(format!("{at}.x-kubernetes-map-type"), "null", why);
            } else if let ("array", Some(value)) = (kind, other("x-kubernetes-list-type")) {
                self.invalid(format!("{at}.x-kubernetes-list-type"), value, why);
            }
        }
        self.keys(node, at);
    }

    fn keys(&mut self, node: &Map<String, Value>, at: &str) {
        let list = text(node, "x-kubernetes-list-type");
        let keys = schema::strings(node.get("x-kubernetes-list-map-keys"));
        let keys_at = format!("{at}.x-kubernetes-list-map-keys");
        if list != "map" {
            if !keys.is_empty() {
                let (at, why) =
                    (format!("{at}.x-kubernetes-list-type"), "must be map if x-kubernetes-list-map-keys is non-empty");
                match list {
                    "" => self.causes.push(Cause::required(at, why)),
                    list => self.invalid(at, list, why),
                }
            }
            return;
        }
        if keys.is_empty() {
            self.causes.push(Cause::required(keys_at.clone(), "must not be empty if x-kubernetes-list-type is map"));
        }
        let Some(items) = node.get("items").and_then(Value::as_object) else {
            return self
                .causes
                .push(Cause::required(format!("{at}.items"), "must have a schema if x-kubernetes-list-type is map"));
        };
        if text(items, "type") != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            return self.invalid(format!("{at}.items.type"), text(items, "type"), why);
        }
        let shown = || {
            let quoted: Vec<String> = keys.iter().map(|k| format!("{k:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        };
        let required = schema::strings(items.get("required"));
        for (index, key) in keys.iter().enumerate() {
            let property = items.get("properties").and_then(|p| p.get(key)).and_then(Value::as_object);
            match property {
                None => self.causes.push(Cause::invalid_shown(
                    keys_at.clone(),
                    &shown(),
                    "entries must all be names of item properties",
                )),
                Some(property) if matches!(text(property, "type"), "array" | "object") => {
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    self.invalid(format!("{at}.items.properties[{key}].type"), "object", why);
                }
                Some(property) if !required.contains(key) && !property.contains_key("default") => {
                    let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    self.causes.push(Cause::required(format!("{at}.items.properties[{key}].default"), why));
                }
                Some(_) => {}
            }
            if keys[..index].contains(key) {
                self.causes.push(Cause::invalid_shown(keys_at.clone(), &shown(), "must not contain duplicate entries"));
            }
        }
    }

    fn children(&mut self, node: &Map<String, Value>, at: &str, place: Place) {
        let list = node.get("x-kubernetes-list-type").and_then(Value::as_str);
        match node.get("items") {
            Some(Value::Array(_)) => {
                let why = "items must be a schema object and not an array";
                self.causes.push(Cause::forbidden(format!("{at}.items"), why));
            }
            Some(items) => self.node(items, &format!("{at}.items"), Place::Item, false, list),
            None if text(node, "type") == "array" => {
                self.causes.push(Cause::required(format!("{at}.items"), "must be specified"));
            }
            None => {}
        }
        let properties = node.get("properties").and_then(Value::as_object);
        if let Some(more) = node.get("additionalProperties").filter(|m| **m != Value::Bool(false)) {
            let below = format!("{at}.additionalProperties");
            if place == Place::Root {
                self.causes.push(Cause::forbidden(below.clone(), "must not be used at the root"));
            } else if properties.is_some_and(|p| !p.is_empty()) {
                let why = "additionalProperties and properties are mutual exclusive";
                self.causes.push(Cause::forbidden(below.clone(), why));
            }
            self.node(more, &below, Place::Field, false, None);
        }
        let mut properties: Vec<_> = properties.into_iter().flatten().collect();
        properties.sort_by_key(|(name, _)| name.as_str());
        let resource = place == Place::Root || flag(node, "x-kubernetes-embedded-resource");
        for (name, child) in properties {
            self.node(child, &format!("{at}.properties[{name}]"), Place::Field, resource && name == "metadata", None);
        }
    }

    /// Schemas in `allOf` and its like restrict values and say nothing about the structure.
    fn value_validation(&mut self, json: &Value, at: &str, int_or_string: bool) {
        let Some(node) = json.as_object() else { return };
        for keyword in STRUCTURE.iter().filter(|k| node.contains_key(**k)) {
            if *keyword == "type" && int_or_string {
                continue;
            }
            let why = match *keyword {
                "default" | "additionalProperties" => "must be undefined to be structural",
                "nullable" => "must be false to be structural",
                _ => "must be empty to be structural",
            };
            self.causes.push(Cause::forbidden(format!("{at}.{keyword}"), why));
        }
        if let Some(items) = node.get("items") {
            self.value_validation(items, &format!("{at}.items"), false);
        }
        for (name, child) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
            self.value_validation(child, &format!("{at}.properties[{name}]"), false);
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for (index, child) in node.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate() {
                self.value_validation(child, &format!("{at}.{keyword}[{index}]"), int_or_string);
            }
        }
        if let Some(child) = node.get("not") {
            self.value_validation(child, &format!("{at}.not"), false);
        }
    }

    /// `uncorrelated`: the list or map within which old and new values cannot be told to be the same.
    fn rules(&mut self, json: &Value, at: &str, shape: &Schema, uncorrelated: Option<&str>, times: Option<f64>) {
        let rules = json.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten();
        for (index, (given, rule)) in rules.zip(&shape.rules).enumerate() {
            let at = format!("{at}.x-kubernetes-validations[{index}]");
            self.rule(given, rule, &at, shape, uncorrelated);
            self.cost(rule, &at, shape, times);
        }
        let mut properties: Vec<_> = json.get("properties").and_then(Value::as_object).into_iter().flatten().collect();
        properties.sort_by_key(|(name, _)| name.as_str());
        for (name, child) in properties {
            if let Some(shape) = shape.properties.get(name) {
                self.rules(child, &format!("{at}.properties[{name}]"), shape, uncorrelated, times);
            }
        }
        let below = cost::times(shape, times);
        if let (Some(child), Some(shape)) = (json.get("additionalProperties"), &shape.additional) {
            self.rules(child, &format!("{at}.additionalProperties"), shape, uncorrelated, below);
        }
        if let (Some(child), Some(items)) = (json.get("items"), &shape.items) {
            let keyed = matches!(shape.list, schema::ListKind::Map(_));
            let uncorrelated = uncorrelated.or((!keyed).then_some(at));
            self.rules(child, &format!("{at}.items"), items, uncorrelated, below);
        }
    }

    /// A rule that may cost far too much is refused.
    fn cost(&mut self, rule: &Rule, at: &str, shape: &Schema, times: Option<f64>) {
        let programs = [
            ("rule", rule.program.as_ref().ok()),
            ("messageExpression", rule.message_program.as_ref().and_then(|p| p.as_ref().ok())),
        ];
        for (what, program) in programs {
            if let Some(why) = program.and_then(|p| cost::excess(p, shape, what, times)) {
                self.causes.push(Cause::forbidden(format!("{at}.{what}"), &why));
            }
        }
    }

    fn rule(&mut self, given: &Value, rule: &Rule, at: &str, shape: &Schema, uncorrelated: Option<&str>) {
        let Some(node) = given.as_object() else { return };
        let before = self.causes.len();
        let (source, message) = (text(node, "rule"), text(node, "message"));
        let lines = |text: &str| text.contains(['\n', '\r']);
        if source.trim().is_empty() {
            self.causes.push(Cause::required(format!("{at}.rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            self.invalid(format!("{at}.message"), message, "message must be non-empty if specified");
        } else if lines(message.trim()) {
            self.invalid(format!("{at}.message"), message, "message must not contain line breaks");
        } else if lines(source.trim()) && message.trim().is_empty() {
            let why = "message must be specified if rule contains line breaks";
            self.causes.push(Cause::required(format!("{at}.message"), why));
        }
        let expression = text(node, "messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let why = "messageExpression must be non-empty if specified";
            self.causes.push(Cause::required(format!("{at}.messageExpression"), why));
        }
        if let Some(reason) = node.get("reason").and_then(Value::as_str).filter(|r| !REASONS.contains(r)) {
            self.causes.push(Cause::unsupported(format!("{at}.reason"), &reason.into(), &allowed(&REASONS)));
        }
        let path = text(node, "fieldPath");
        if !path.is_empty() && super::super::field_path(path, shape).is_none() {
            self.invalid(format!("{at}.fieldPath"), path, "fieldPath must be a valid path");
        }
        if self.causes.len() > before {
            return;
        }
        let shown = show_rule(node);
        if let Err(why) = &rule.program {
            self.causes.push(Cause::invalid_shown(format!("{at}.rule"), &shown, why));
        }
        if let Some(Err(why)) = &rule.message_program {
            self.causes.push(Cause::invalid_shown(format!("{at}.messageExpression"), &shown, why));
        }
        if rule.uses_old() {
            if let Some(within) = uncorrelated {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
                self.invalid(format!("{at}.rule"), source, &why);
            }
        } else if let Some(optional) = node.get("optionalOldSelf").filter(|_| rule.program.is_ok()) {
            let why = "may not be set if oldSelf is not used in rule";
            self.causes.push(Cause::invalid(format!("{at}.optionalOldSelf"), optional, why));
        }
    }

    fn defaults(&mut self, json: &Value, at: &str, shape: &Schema) {
        if let Some(default) = json.get("default") {
            let mut value = default.clone();
            let unknown = schema::prune(&mut value, shape);
            if !unknown.is_empty() {
                self.causes.push(Cause::invalid(format!("{at}.default"), default, "must not have unknown fields"));
            }
            // a default is completed by the defaults below it before it is held against the schema
            schema::apply_defaults(&mut value, shape);
            for mut cause in schema::validate(&value, shape, "") {
                // the path of a fault within the default is empty or begins below it
                let below = if cause.field.is_empty() || cause.field == "<nil>" {
                    String::new()
                } else {
                    format!(".{}", cause.field)
                };
                cause.field = format!("{at}.default{below}");
                cause.message = cause.message.replace("<nil> in body", " in body");
                self.causes.push(cause);
            }
        }
        for (name, child) in json.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Some(shape) = shape.properties.get(name) {
                self.defaults(child, &format!("{at}.properties[{name}]"), shape);
            }
        }
        if let (Some(child), Some(shape)) = (json.get("additionalProperties"), &shape.additional) {
            self.defaults(child, &format!("{at}.additionalProperties"), shape);
        }
        if let (Some(child), Some(shape)) = (json.get("items"), &shape.items) {
            self.defaults(child, &format!("{at}.items"), shape);
        }
    }
}

/// The rule as kube-apiserver shows it, which is how Go prints a structure.
fn show_rule(rule: &Map<String, Value>) -> String {
    let pointer = |field: &str, kind: &str| match rule.get(field) {
        None => format!("(*{kind})(nil)"),
        Some(value) => format!("(*{kind})({value})"),
    };
    format!(
        "apiextensions.ValidationRule{{Rule:{:?}, Message:{:?}, MessageExpression:{:?}, Reason:{}, FieldPath:{:?}, OptionalOldSelf:{}}}",
        text(rule, "rule"),
        text(rule, "message"),
        text(rule, "messageExpression"),
        pointer("reason", "apiextensions.FieldValueErrorReason"),
        text(rule, "fieldPath"),
        pointer("optionalOldSelf", "bool"),
    )
}
