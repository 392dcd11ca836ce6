//! Configurations of webhooks, and admission policies with their bindings.

use serde_json::Value;

use super::Rules;
use super::metadata::qualified;
use crate::admission::{conditions, policies, validate_client};
use crate::cel::Type;
use crate::error::Cause;
use crate::meta;
use crate::schema::strings;
use crate::server::Server;

pub(crate) const HOOKS: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: Some(hooks), validate_update: None };
pub(crate) const POLICIES: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: Some(policy), validate_update: None };
pub(crate) const BINDINGS: Rules =
    Rules { prepare_create: None, prepare_update: None, validate: Some(binding), validate_update: None };

fn one_of(value: &Value, field: &str, at: &str, allowed: &[&str], causes: &mut Vec<Cause>) {
    if let Some(found) = value.get(field).and_then(Value::as_str).filter(|f| !allowed.contains(f)) {
        let allowed: Vec<String> = allowed.iter().map(|a| (*a).to_string()).collect();
        causes.push(Cause::unsupported(format!("{at}.{field}"), &found.into(), &allowed));
    }
}

fn hooks(_: &Server, configuration: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let hooks = configuration.get("webhooks").and_then(Value::as_array).into_iter().flatten();
    let mut names: Vec<&str> = Vec::new();
    for (index, hook) in hooks.enumerate() {
        let at = format!("webhooks[{index}]");
        let name = meta::text(hook, "/name");
        // the schema reports an absent name
        if name.is_empty() && hook.get("name").is_some() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if !name.is_empty() && name.split('.').filter(|s| !s.is_empty()).count() < 3 {
            let why = "should be a domain with at least three segments separated by dots";
            causes.push(Cause::invalid(format!("{at}.name"), &name.into(), why));
        }
        if !name.is_empty() && names.contains(&name) {
            causes.push(Cause::duplicate(format!("{at}.name"), &name.into()));
        }
        names.push(name);
        one_hook(hook, &at, &mut causes);
    }
    causes
}

fn one_hook(hook: &Value, at: &str, causes: &mut Vec<Cause>) {
    let reviews = strings(hook.get("admissionReviewVersions"));
    let below = format!("{at}.admissionReviewVersions");
    if reviews.is_empty() {
        causes.retain(|c| c.field != below);
        causes.push(Cause::required(below, "must specify one of v1, v1beta1"));
    } else if !reviews.iter().any(|r| r == "v1" || r == "v1beta1") {
        causes.push(Cause::invalid_shown(
            below,
            &shown("string", &reviews),
            "must include at least one of v1, v1beta1",
        ));
    }
    if hook.get("sideEffects").is_none() {
        causes.push(Cause::required(format!("{at}.sideEffects"), "must specify one of None, NoneOnDryRun"));
    }
    one_of(hook, "sideEffects", at, &["None", "NoneOnDryRun"], causes);
    one_of(hook, "failurePolicy", at, &["Fail", "Ignore"], causes);
    one_of(hook, "matchPolicy", at, &["Equivalent", "Exact"], causes);
    one_of(hook, "reinvocationPolicy", at, &["IfNeeded", "Never"], causes);
    let seconds = hook.get("timeoutSeconds").and_then(Value::as_i64).unwrap_or(10);
    if !(1..=30).contains(&seconds) {
        let why = "the timeout value must be between 1 and 30 seconds";
        causes.push(Cause::invalid(format!("{at}.timeoutSeconds"), &seconds.into(), why));
    }
    rules(hook.get("rules"), &format!("{at}.rules"), causes);
    causes.extend(validate_client(hook.get("clientConfig").unwrap_or(&Value::Null), &format!("{at}.clientConfig")));
    match_conditions(hook.get("matchConditions"), &format!("{at}.matchConditions"), &[], causes);
}

fn shown(kind: &str, list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[]{kind}{{{}}}", quoted.join(", "))
}

fn rules(list: Option<&Value>, at: &str, causes: &mut Vec<Cause>) {
    for (index, rule) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let at = format!("{at}[{index}]");
        for (field, what, kind, star) in [
            ("operations", "operations", "admissionregistration.OperationType", "*"),
            ("apiGroups", "API groups", "string", "*"),
            ("apiVersions", "API versions", "string", "*"),
            ("resources", "resources", "string", "*/*"),
        ] {
            let found = strings(rule.get(field));
            let below = format!("{at}.{field}");
            if found.is_empty() {
                causes.push(Cause::required(below, ""));
            } else if found.len() > 1 && found.iter().any(|f| f == star) {
                let why = format!("if '{star}' is present, must not specify other {what}");
                causes.push(Cause::invalid_shown(below, &shown(kind, &found), &why));
            }
        }
        const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
        for (n, operation) in strings(rule.get("operations")).into_iter().enumerate() {
            if !OPERATIONS.contains(&operation.as_str()) {
                let allowed: Vec<String> = OPERATIONS.iter().map(|o| (*o).to_string()).collect();
                causes.push(Cause::unsupported(format!("{at}.operations[{n}]"), &operation.into(), &allowed));
            }
        }
        one_of(rule, "scope", &at, &["*", "Cluster", "Namespaced"], causes);
    }
}

fn match_conditions(list: Option<&Value>, at: &str, scope: &[(&str, Type)], causes: &mut Vec<Cause>) {
    for (index, condition) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
        let at = format!("{at}[{index}]");
        expression(condition, "expression", &at, scope, &Type::Bool, causes);
        let name = meta::text(condition, "/name");
        if name.is_empty() {
            causes.push(Cause::required(format!("{at}.name"), ""));
        } else if let Some(why) = qualified(name) {
            causes.push(Cause::invalid(format!("{at}.name"), &name.into(), &why));
        }
    }
}

fn expression(value: &Value, field: &str, at: &str, scope: &[(&str, Type)], wanted: &Type, causes: &mut Vec<Cause>) {
    let source = meta::text(value, &format!("/{field}"));
    let at = format!("{at}.{field}");
    if source.trim().is_empty() {
        causes.push(Cause::required(at, "expression is not specified"));
    } else if let Err(why) = conditions::compile(source, scope, wanted) {
        causes.push(Cause::invalid(at, &source.into(), &why));
    }
}

fn policy(_: &Server, policy: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let list = |field: &str| {
        policy.pointer(&format!("/spec/{field}")).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    };
    let spec = policy.get("spec").unwrap_or(&Value::Null);
    one_of(spec, "failurePolicy", "spec", &["Fail", "Ignore"], &mut causes);
    match spec.get("matchConstraints").filter(|m| !m.is_null()) {
        None => causes.push(Cause::required("spec.matchConstraints", "")),
        Some(constraints) => {
            let found = constraints.get("resourceRules");
            if found.and_then(Value::as_array).is_none_or(Vec::is_empty) {
                causes.push(Cause::required("spec.matchConstraints.resourceRules", ""));
            }
            rules(found, "spec.matchConstraints.resourceRules", &mut causes);
            one_of(constraints, "matchPolicy", "spec.matchConstraints", &["Equivalent", "Exact"], &mut causes);
        }
    }
    if list("validations").is_empty() && list("auditAnnotations").is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        causes.push(Cause::required("spec.validations", why));
        causes.push(Cause::required("spec.auditAnnotations", why));
    }
    for (index, variable) in list("variables").iter().enumerate() {
        let scope = policies::scope(policy, index);
        expression(variable, "expression", &format!("spec.variables[{index}]"), &scope, &Type::Dyn, &mut causes);
    }
    let scope = policies::scope(policy, usize::MAX);
    match_conditions(spec.get("matchConditions"), "spec.matchConditions", &scope, &mut causes);
    for (index, validation) in list("validations").iter().enumerate() {
        let at = format!("spec.validations[{index}]");
        expression(validation, "expression", &at, &scope, &Type::Bool, &mut causes);
        if !meta::text(validation, "/messageExpression").is_empty() {
            expression(validation, "messageExpression", &at, &scope, &Type::String, &mut causes);
        }
        one_of(validation, "reason", &at, &["Forbidden", "Invalid", "RequestEntityTooLarge"], &mut causes);
    }
    for (index, annotation) in list("auditAnnotations").iter().enumerate() {
        let at = format!("spec.auditAnnotations[{index}]");
        expression(annotation, "valueExpression", &at, &scope, &Type::Dyn, &mut causes);
    }
    causes
}

fn binding(_: &Server, binding: &Value) -> Vec<Cause> {
    const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];
    let mut causes = Vec::new();
    if meta::text(binding, "/spec/policyName").is_empty() {
        causes.push(Cause::required("spec.policyName", ""));
    }
    let actions = strings(binding.pointer("/spec/validationActions"));
    if actions.is_empty() {
        causes.push(Cause::required("spec.validationActions", "at least one validation action is required"));
    }
    for (index, action) in actions.iter().enumerate() {
        let at = format!("spec.validationActions[{index}]");
        if !ACTIONS.contains(&action.as_str()) {
            let allowed: Vec<String> = ACTIONS.iter().map(|a| (*a).to_string()).collect();
            causes.push(Cause::unsupported(at, &action.clone().into(), &allowed));
        } else if actions[..index].contains(action) {
            causes.push(Cause::duplicate(at, &action.clone().into()));
        }
    }
    causes
}
