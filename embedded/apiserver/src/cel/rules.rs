//! `x-kubernetes-validations`: rules in the schemas of custom resources.
//!
//! A rule is compiled with its schema. When an object is written every rule sees the value at its place as `self`, and
//! as `oldSelf` what was there before, where the two can be told to be the same thing: fields of objects, entries of
//! maps, and elements of lists that have keys. A rule that fails on a value that did not change is forgiven
//! (ratcheting), so that a definition may become stricter.

use serde_json::Value as Json;

use super::eval::{Budget, Fault};
use super::schema::{declared, value};
use super::{Program, Type, Value};
use crate::error::Cause;
use crate::schema::{ListKind, Schema, Type as Shape};

/// What all rules of one object may cost together.
const TOTAL: u64 = 10_000_000;
/// Longest message that an expression may make, in bytes.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    source: String,
    message: String,
    reason: String,
    field_path: String,
    optional_old: bool,
    /// The compiled rule, or what is wrong with it.
    pub program: Result<Program, String>,
    /// The compiled `messageExpression`, or what is wrong with it.
    pub message_program: Option<Result<Program, String>>,
}

impl Rule {
    /// Compiles a rule of the schema; `root` for whole resources.
    pub fn compile(json: &Json, schema: &Schema, root: bool) -> Self {
        let text = |field: &str| json.get(field).and_then(Json::as_str).unwrap_or_default().to_string();
        let optional_old = json.get("optionalOldSelf").and_then(Json::as_bool).unwrap_or(false);
        let source = text("rule");
        let compile = |source: &str, wanted: &Type, what: &str, article: &str| -> Result<Program, String> {
            let Some(own) = declared(schema, root, "self") else {
                return Err("failed to convert to declType for CEL validation rules".into());
            };
            let old = if optional_old { Type::optional(own.clone()) } else { own.clone() };
            let program = Program::compile(source, &[("self", own), ("oldSelf", old)])
                .map_err(|e| format!("{what}compilation failed: {e}"))?;
            if program.output == *wanted {
                return Ok(program);
            }
            let subject = if what.is_empty() { "cel expression" } else { "messageExpression" };
            Err(format!("{subject} must evaluate to a {article}"))
        };
        let expression = text("messageExpression");
        Self {
            program: compile(&source, &Type::Bool, "", "bool"),
            message_program: (!expression.is_empty())
                .then(|| compile(&expression, &Type::String, "messageExpression ", "string")),
            source,
            message: text("message").trim().to_string(),
            reason: text("reason"),
            field_path: text("fieldPath").trim().to_string(),
            optional_old,
        }
    }

    /// Whether it compares with what was before.
    pub fn uses_old(&self) -> bool {
        self.program.as_ref().is_ok_and(|p| p.reads.iter().any(|r| r == "oldSelf"))
    }

    fn name(&self) -> &str {
        if self.message.is_empty() { self.source.trim() } else { &self.message }
    }
}

fn type_name(schema: &Schema) -> &'static str {
    match schema.kind {
        Shape::Any => "",
        Shape::Object => "object",
        Shape::Array => "array",
        Shape::String => "string",
        Shape::Integer => "integer",
        Shape::Number => "number",
        Shape::Boolean => "boolean",
    }
}

/// What the rules of the schema object to. `old` is the object before a change.
pub fn check(new: &Json, old: Option<&Json>, schema: &Schema) -> Vec<Cause> {
    if !schema.has_rules {
        return Vec::new();
    }
    let mut walk = Walk { budget: Budget::new(TOTAL), causes: Vec::new(), ended: false };
    walk.node(new, old, schema, "", true, false);
    walk.causes
}

struct Walk {
    budget: Budget,
    causes: Vec<Cause>,
    /// The budget is used up.
    ended: bool,
}

impl Walk {
    /// `unchanged`: the nearest place that can be compared is as it was.
    fn node(&mut self, new: &Json, old: Option<&Json>, schema: &Schema, path: &str, root: bool, unchanged: bool) {
        if self.ended || new.is_null() || !schema.has_rules {
            return;
        }
        let unchanged = old.map_or(unchanged, |old| old == new);
        if !schema.rules.is_empty() {
            self.rules(new, old.filter(|o| !o.is_null()), schema, path, root, unchanged);
        }
        match new {
            Json::Object(map) => {
                for (name, item) in map {
                    let Some(child) = schema.field(name) else { continue };
                    let before = old.and_then(|o| o.get(name));
                    let known = schema.properties.contains_key(name);
                    let at = if known { crate::schema::join(path, name) } else { format!("{path}[{name}]") };
                    self.node(item, before, child, &at, child.embedded, unchanged);
                }
            }
            Json::Array(list) => {
                let Some(items) = &schema.items else { return };
                for (index, item) in list.iter().enumerate() {
                    let before = correlate(item, old, &schema.list);
                    self.node(item, before, items, &format!("{path}[{index}]"), items.embedded, unchanged);
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, new: &Json, old: Option<&Json>, schema: &Schema, path: &str, root: bool, unchanged: bool) {
        let path = if path.is_empty() { "<nil>" } else { path };
        let kind = type_name(schema);
        let invalid = |detail: String| cause("", path, kind, &detail);
        let own = value(new, schema, root);
        let before = old.map(|old| value(old, schema, root));
        for rule in &schema.rules {
            if self.budget.total == 0 {
                self.causes.push(invalid(
                    "validation failed due to running out of cost budget, no further validation rules will be run"
                        .into(),
                ));
                self.ended = true;
                return;
            }
            let program = match &rule.program {
                Ok(program) => program,
                Err(why) => {
                    self.causes.push(invalid(format!("rule compile error: {why}")));
                    continue;
                }
            };
            if rule.uses_old() && before.is_none() && !rule.optional_old {
                continue;
            }
            let mut variables = vec![("self", own.clone())];
            if rule.optional_old {
                variables.push(("oldSelf", Value::Optional(before.clone().map(std::sync::Arc::new))));
            } else if let Some(before) = &before {
                variables.push(("oldSelf", before.clone()));
            }
            match program.run(&variables, &mut self.budget) {
                Ok(Value::Bool(true)) => {}
                Ok(_) if unchanged && !rule.uses_old() => {}
                Ok(_) => {
                    let message = self.message(rule, &variables);
                    let at = if rule.field_path.is_empty() { path.to_string() } else { below(path, &rule.field_path) };
                    self.causes.push(cause(&rule.reason, &at, kind, &message));
                }
                Err(Fault::TooExpensive) => {
                    self.causes.push(invalid(format!(
                        "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        Fault::TooExpensive,
                        rule.name()
                    )));
                    self.ended = true;
                    return;
                }
                Err(Fault::Failed(why)) if why == "no such overload" => self.causes.push(invalid(format!(
                    "'{why}': call arguments did not match a supported operator, function or macro signature for rule: {}",
                    rule.name()
                ))),
                Err(why) => self.causes.push(invalid(format!("{why} evaluating rule: {}", rule.name()))),
            }
        }
    }

    /// What the rule's expression says, if it says something usable; else its message.
    fn message(&mut self, rule: &Rule, variables: &[(&str, Value)]) -> String {
        if let Some(Ok(program)) = &rule.message_program
            && let Ok(Value::Text(text)) = program.run(variables, &mut self.budget)
        {
            let text = text.trim();
            if !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n') {
                return text.to_string();
            }
        }
        if rule.message.is_empty() { format!("failed rule: {}", rule.source.trim()) } else { rule.message.clone() }
    }
}

fn below(path: &str, field: &str) -> String {
    if path == "<nil>" { field.trim_start_matches('.').to_string() } else { format!("{path}{field}") }
}

/// The element of the old list that `item` was, in lists with keys.
fn correlate<'a>(item: &Json, old: Option<&'a Json>, kind: &ListKind) -> Option<&'a Json> {
    let ListKind::Map(keys) = kind else { return None };
    old?.as_array()?.iter().find(|o| keys.iter().all(|k| o.get(k) == item.get(k)))
}

fn cause(reason: &str, path: &str, kind: &str, detail: &str) -> Cause {
    match reason {
        "FieldValueForbidden" => Cause::forbidden(path, detail),
        "FieldValueRequired" => Cause::required(path, detail),
        "FieldValueDuplicate" => Cause::duplicate(path, &kind.into()),
        _ => Cause::invalid(path, &kind.into(), detail),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(schema: &Json, new: &Json, old: Option<&Json>) -> Vec<String> {
        let schema = Schema::root(schema).unwrap();
        check(new, old, &schema).iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn old_and_new_are_told_to_be_the_same_through_lists_with_keys() {
        let schema = json!({"type": "object", "properties": {"disks": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "size": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "messageExpression": "'disk ' + self.id + ' shrinks'", "fieldPath": ".size"}]},
        }}});
        let disks = |items: Json| json!({"disks": items});
        let old = disks(json!([{"id": "a", "size": 5}, {"id": "b", "size": 9}]));
        let new = disks(json!([{"id": "b", "size": 8}, {"id": "c", "size": 1}, {"id": "a", "size": 5}]));
        assert_eq!(faults(&schema, &new, Some(&old)), ["disks[0].size: Invalid value: \"object\": disk b shrinks"]);
        assert!(faults(&schema, &new, None).is_empty());
    }

    #[test]
    fn what_did_not_change_is_forgiven() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"n": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.n > 5"}]},
            "b": {"type": "integer"},
        }});
        let old = json!({"a": {"n": 1}, "b": 1});
        assert!(faults(&schema, &json!({"a": {"n": 1}, "b": 2}), Some(&old)).is_empty());
        assert_eq!(
            faults(&schema, &json!({"a": {"n": 2}, "b": 2}), Some(&old)),
            ["a: Invalid value: \"object\": failed rule: self.n > 5"]
        );
    }
}
