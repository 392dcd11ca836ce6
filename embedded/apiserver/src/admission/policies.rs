//! ValidatingAdmissionPolicy and its bindings: rules in CEL about any request.
//! <https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/>

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::conditions::{self, Condition, compile};
use super::hooks::{Kept, Match};
use super::{Asked, matching};
use crate::cel::{Budget, Key as MapKey, ObjectType, Program, Type, Value};
use crate::error::{ApiError, ApiResult};
use crate::meta;
use crate::server::Server;
use crate::storage::Key;

const POLICIES: &str = "admissionregistration.k8s.io/validatingadmissionpolicies";
const BINDINGS: &str = "admissionregistration.k8s.io/validatingadmissionpolicybindings";
/// What all expressions of one policy may cost together.
const TOTAL: u64 = 10_000_000;

/// What the expressions of a policy can read beside the request: the first `known` of its variables.
pub fn scope(policy: &Json, known: usize) -> Vec<(&'static str, Type)> {
    let mut scope = vec![("namespaceObject", Type::Dyn)];
    if policy.pointer("/spec/paramKind").is_some_and(|k| !k.is_null()) {
        scope.push(("params", Type::Dyn));
    }
    let variables = policy.pointer("/spec/variables").and_then(Json::as_array).into_iter().flatten();
    let names: BTreeMap<String, Type> =
        variables.take(known).map(|v| (meta::text(v, "/name").to_string(), Type::Dyn)).collect();
    if policy.pointer("/spec/variables").and_then(Json::as_array).is_some_and(|v| !v.is_empty()) {
        scope.push((
            "variables",
            Type::Object(Arc::new(ObjectType { name: "kubernetes.variables".into(), fields: names })),
        ));
    }
    scope
}

struct Validation {
    source: String,
    program: Result<Program, String>,
    message: String,
    message_program: Option<Result<Program, String>>,
    reason: String,
}

struct Policy {
    name: String,
    when: Match,
    conditions: Vec<Condition>,
    validations: Vec<Validation>,
    variables: Vec<(String, Result<Program, String>)>,
    audit: Vec<(String, Result<Program, String>)>,
    param_kind: Option<(String, String)>,
    ignore_failure: bool,
}

struct Binding {
    name: String,
    policy: String,
    when: Option<Match>,
    actions: Vec<String>,
    params: Json,
}

/// The policies, read and compiled once per version.
#[derive(Default)]
pub struct Policies {
    policies: Kept<Policy>,
    bindings: Kept<Binding>,
}

impl Policy {
    fn read(json: &Json) -> Self {
        let list = |field: &str| json.pointer(&format!("/spec/{field}")).and_then(Json::as_array).into_iter().flatten();
        let all = scope(json, usize::MAX);
        let validation = |v: &Json| {
            let by_expression = meta::text(v, "/messageExpression");
            Validation {
                source: meta::text(v, "/expression").into(),
                program: compile(meta::text(v, "/expression"), &all, &Type::Bool),
                message: meta::text(v, "/message").into(),
                message_program: (!by_expression.is_empty()).then(|| compile(by_expression, &all, &Type::String)),
                reason: meta::text(v, "/reason").into(),
            }
        };
        let variable = |(index, v): (usize, &Json)| {
            (meta::text(v, "/name").to_string(), compile(meta::text(v, "/expression"), &scope(json, index), &Type::Dyn))
        };
        let annotation = |v: &Json| {
            (meta::text(v, "/key").to_string(), compile(meta::text(v, "/valueExpression"), &all, &Type::Dyn))
        };
        let kind = json.pointer("/spec/paramKind").filter(|k| !k.is_null());
        Self {
            name: meta::name(json).into(),
            when: Match::read(json.pointer("/spec/matchConstraints").unwrap_or(&Json::Null)),
            conditions: list("matchConditions").map(Condition::read).collect(),
            validations: list("validations").map(validation).collect(),
            variables: list("variables").enumerate().map(variable).collect(),
            audit: list("auditAnnotations").map(annotation).collect(),
            param_kind: kind.map(|k| (meta::text(k, "/apiVersion").into(), meta::text(k, "/kind").into())),
            ignore_failure: meta::text(json, "/spec/failurePolicy") == "Ignore",
        }
    }
}

impl Binding {
    fn read(json: &Json) -> Self {
        Self {
            name: meta::name(json).into(),
            policy: meta::text(json, "/spec/policyName").into(),
            when: json.pointer("/spec/matchResources").filter(|m| !m.is_null()).map(Match::read),
            actions: crate::schema::strings(json.pointer("/spec/validationActions")),
            params: json.pointer("/spec/paramRef").cloned().unwrap_or_default(),
        }
    }
}

/// Lets the policies that are bound refuse the request.
pub fn check(server: &Arc<Server>, asked: &Asked<'_>) -> ApiResult<()> {
    let bindings = server.admission.policies.bindings.all(&server.store, BINDINGS, Binding::read);
    if bindings.is_empty() {
        return Ok(());
    }
    let policies = server.admission.policies.policies.all(&server.store, POLICIES, Policy::read);
    let mut refusal = None;
    for binding in &bindings {
        let Some(policy) = policies.iter().find(|p| p.name == binding.policy) else { continue };
        let bound = binding.when.as_ref().is_none_or(|when| {
            let anything = when.rules.is_empty();
            if anything {
                matching::selected(server, when, asked)
            } else {
                matching::seen_as(server, when, asked).is_some()
            }
        });
        if !bound || matching::seen_as(server, &policy.when, asked).is_none() {
            continue;
        }
        for refused in judge(server, asked, policy, binding) {
            let context = asked.context;
            let text = format!(
                "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: {}",
                policy.name, binding.name, refused.message
            );
            if binding.actions.iter().any(|a| a == "Warn") {
                context.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, refused.message
                ));
            }
            if binding.actions.iter().any(|a| a == "Audit") {
                context.annotate("validation.policy.admission.k8s.io/validation_failure".into(), &text);
            }
            if binding.actions.iter().any(|a| a == "Deny") && refusal.is_none() {
                refusal = Some(refuse(asked, &refused.reason, &text));
            }
        }
    }
    refusal.map_or(Ok(()), Err)
}

fn refuse(asked: &Asked<'_>, reason: &str, text: &str) -> ApiError {
    let context = asked.context;
    let name = match context.target.name.as_str() {
        "" => asked.object.map(meta::name).unwrap_or_default(),
        name => name,
    };
    let (group, plural) = (&context.resource.group, &context.resource.plural);
    let mut error = ApiError::forbidden(group, plural, name, text);
    let (code, reason) = match reason {
        "Unauthorized" => (401, "Unauthorized"),
        "Forbidden" => (403, "Forbidden"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    error.code = code;
    error.reason = reason;
    if let Some(Json::Object(details)) = &mut error.details {
        details.insert("causes".into(), serde_json::json!([{"message": text}]));
    }
    error
}

struct Refused {
    message: String,
    reason: String,
}

/// What the policy has against the request, once for each object of parameters.
fn judge(server: &Server, asked: &Asked<'_>, policy: &Policy, binding: &Binding) -> Vec<Refused> {
    let params = match parameters(server, asked, policy, binding) {
        Ok(params) => params,
        Err(_) if policy.ignore_failure => return Vec::new(),
        Err(why) => return vec![Refused { message: why, reason: String::new() }],
    };
    params.iter().flat_map(|params| judge_with(server, asked, policy, params)).collect()
}

fn judge_with(server: &Server, asked: &Asked<'_>, policy: &Policy, params: &Json) -> Vec<Refused> {
    let failed = |why: String| match policy.ignore_failure {
        true => Vec::new(),
        false => vec![Refused { message: why, reason: String::new() }],
    };
    let request = super::request_now(asked);
    let mut variables = conditions::variables(server, &asked.context.user, &request);
    let key = Key::new(&"/namespaces".into(), "", &asked.context.target.namespace);
    let namespace = server.store.get(&key).map_or(Json::Null, |o| o.value());
    variables.push(("params", Value::from_json(params)));
    variables.push(("namespaceObject", Value::from_json(&namespace)));
    match conditions::hold(&policy.conditions, &variables) {
        Ok(true) => {}
        Ok(false) => return Vec::new(),
        Err(why) => return failed(why),
    }
    let mut budget = Budget::new(TOTAL);
    // later variables read earlier ones; one that fails is missing where it is read
    let mut known = BTreeMap::new();
    for (name, program) in &policy.variables {
        let mut scope = variables.clone();
        scope.push(("variables", Value::map(known.clone())));
        if let Ok(program) = program
            && let Ok(value) = program.run(&scope, &mut budget)
        {
            known.insert(MapKey::Text(Arc::from(name.as_str())), value);
        }
    }
    variables.push(("variables", Value::map(known)));
    let mut refused = Vec::new();
    for validation in &policy.validations {
        let result = match &validation.program {
            Err(why) => Err(why.clone()),
            Ok(program) => program.run(&variables, &mut budget).map_err(|why| why.to_string()),
        };
        match result {
            Ok(Value::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, &variables, &mut budget);
                refused.push(Refused { message, reason: validation.reason.clone() });
            }
            Err(why) => {
                let source = &validation.source;
                refused.extend(failed(format!("expression '{source}' resulted in error: {why}")));
            }
        }
    }
    for (key, program) in &policy.audit {
        if let Ok(program) = program
            && let Ok(Value::Text(text)) = program.run(&variables, &mut budget)
        {
            asked.context.annotate(format!("{}/{key}", policy.name), &text);
        }
    }
    refused
}

fn message(validation: &Validation, variables: &[(&str, Value)], budget: &mut Budget) -> String {
    if let Some(Ok(program)) = &validation.message_program
        && let Ok(Value::Text(text)) = program.run(variables, budget)
        && !text.trim().is_empty()
        && !text.trim().contains('\n')
    {
        return text.trim().to_string();
    }
    match validation.message.trim() {
        "" => format!("failed expression: {}", validation.source.trim()),
        message => message.to_string(),
    }
}

/// The objects of parameters that the binding names; one null when the policy takes none.
fn parameters(server: &Server, asked: &Asked<'_>, policy: &Policy, binding: &Binding) -> Result<Vec<Json>, String> {
    let Some((api_version, kind)) = &policy.param_kind else { return Ok(vec![Json::Null]) };
    if binding.params.is_null() {
        return Ok(vec![Json::Null]);
    }
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let all = server.registry.all();
    let Some(resource) = all.iter().find(|r| r.group == group && r.version == version && r.kind == *kind) else {
        return Err(format!(
            "failed to configure binding: failed to find resource referenced by paramKind: '{api_version}, Kind={kind}'"
        ));
    };
    let given = meta::text(&binding.params, "/namespace");
    let namespace = match (resource.namespaced, given) {
        (false, _) => "",
        (true, "") => asked.context.target.namespace.as_str(),
        (true, given) => given,
    };
    let name = meta::text(&binding.params, "/name");
    let found: Vec<Json> = if name.is_empty() {
        let selector = binding.params.get("selector").cloned().unwrap_or_default();
        let (objects, _) = server.store.list(&resource.storage, resource.namespaced.then_some(namespace));
        let values = objects.iter().map(|o| o.value());
        values.filter(|v| crate::selector::label_selector_matches(&selector, v.pointer("/metadata/labels"))).collect()
    } else {
        server.store.get(&Key::new(&resource.storage, namespace, name)).map(|o| o.value()).into_iter().collect()
    };
    if found.is_empty() && meta::text(&binding.params, "/parameterNotFoundAction") != "Allow" {
        return Err(
            "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"
                .into(),
        );
    }
    Ok(found)
}
