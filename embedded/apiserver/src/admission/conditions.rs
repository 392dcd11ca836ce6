//! CEL over a request: match conditions, and what policies share with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::auth::{User, rbac};
use crate::cel::{Authorizer, Budget, Fault, ObjectType, Program, Question, Type, Value};
use crate::meta;
use crate::server::Server;
use crate::storage::Store;

/// What all conditions of one webhook may cost together.
const TOTAL: u64 = 2_500_000;

/// A named expression that has to hold.
#[derive(Debug)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// The compiled expression, or what is wrong with it.
    pub program: Result<Program, String>,
}

impl Condition {
    /// Reads `{name, expression}`.
    pub fn read(json: &Json) -> Self {
        let source = meta::text(json, "/expression");
        Self { name: meta::text(json, "/name").into(), program: compile(source, &[], &Type::Bool) }
    }
}

fn object(name: &str, fields: &[(&str, Type)]) -> Type {
    let fields = fields.iter().map(|(n, t)| ((*n).to_string(), t.clone())).collect::<BTreeMap<_, _>>();
    Type::Object(Arc::new(ObjectType { name: name.into(), fields }))
}

/// The type of `request`.
fn request_type() -> Type {
    let text = Type::String;
    let kind = object(
        "kubernetes.GroupVersionKind",
        &[("group", text.clone()), ("version", text.clone()), ("kind", text.clone())],
    );
    let resource = object(
        "kubernetes.GroupVersionResource",
        &[("group", text.clone()), ("version", text.clone()), ("resource", text.clone())],
    );
    let user = object(
        "kubernetes.UserInfo",
        &[
            ("username", text.clone()),
            ("uid", text.clone()),
            ("groups", Type::list(text.clone())),
            ("extra", Type::map(Type::list(text.clone()))),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text.clone()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text.clone()),
            ("name", text.clone()),
            ("namespace", text.clone()),
            ("operation", text),
            ("userInfo", user),
            ("dryRun", Type::Bool),
            ("options", Type::Dyn),
        ],
    )
}

/// Compiles an expression over a request and these further variables; it has to give `wanted` (Dyn: anything).
pub fn compile(source: &str, more: &[(&str, Type)], wanted: &Type) -> Result<Program, String> {
    const RIGHTS: Type = Type::Opaque("kubernetes.authorization.Authorizer");
    let check = Type::Opaque("kubernetes.authorization.ResourceCheck");
    let mut variables = vec![
        ("object", Type::Dyn),
        ("oldObject", Type::Dyn),
        ("request", request_type()),
        ("authorizer", RIGHTS),
        ("authorizer.requestResource", check),
    ];
    variables.extend(more.iter().cloned());
    let program = Program::compile(source, &variables).map_err(|e| format!("compilation failed: {e}"))?;
    // what is known only at evaluation may still be what is wanted
    if *wanted == Type::Dyn || program.output == Type::Dyn || program.output == *wanted {
        return Ok(program);
    }
    Err(format!("must evaluate to {wanted} but got {}", program.output))
}

/// The rights of the requester.
#[derive(Debug)]
struct Rights {
    store: Arc<Store>,
    user: User,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Authorizer for Rights {
    fn allowed(&self, question: &Question) -> bool {
        let user = match &question.account {
            Some((namespace, name)) => crate::auth::service_account_user(namespace, name, ""),
            None => self.user.clone(),
        };
        let wanted = rbac::Attributes {
            verb: &question.verb,
            group: &question.group,
            resource: &question.resource,
            subresource: &question.subresource,
            namespace: &question.namespace,
            name: &question.name,
            path: (!question.path.is_empty()).then_some(question.path.as_str()),
        };
        rbac::decide(&self.store, &user, &wanted).allowed
    }
}

/// The values of the variables: the request is a review's.
pub fn variables(server: &Server, user: &User, request: &Json) -> Vec<(&'static str, Value)> {
    let field = |name: &str| request.get(name).map_or(Value::Null, Value::from_json);
    let mut shown = request.clone();
    if let Some(map) = shown.as_object_mut() {
        map.shift_remove("object");
        map.shift_remove("oldObject");
        for text in ["name", "namespace", "subResource", "requestSubResource"] {
            map.entry(text.to_string()).or_insert_with(|| "".into());
        }
    }
    let rights: Arc<dyn Authorizer> = Arc::new(Rights { store: server.store.clone(), user: user.clone() });
    let asked = Question {
        group: meta::text(request, "/resource/group").into(),
        resource: meta::text(request, "/resource/resource").into(),
        subresource: meta::text(request, "/subResource").into(),
        namespace: meta::text(request, "/namespace").into(),
        name: meta::text(request, "/name").into(),
        ..Question::default()
    };
    vec![
        ("object", field("object")),
        ("oldObject", field("oldObject")),
        ("request", Value::from_json(&shown)),
        ("authorizer.requestResource", Value::Rights(rights.clone(), Arc::new(asked))),
        ("authorizer", Value::Rights(rights, Arc::default())),
    ]
}

/// Whether all conditions hold. One that is false decides, even where another fails.
pub fn hold(conditions: &[Condition], variables: &[(&str, Value)]) -> Result<bool, String> {
    let mut budget = Budget::new(TOTAL);
    let mut failed = None;
    for condition in conditions {
        let result = match &condition.program {
            Err(why) => Err(Fault::Failed(why.clone())),
            Ok(_) if budget.total == 0 => Err(Fault::TooExpensive),
            Ok(program) => program.run(variables, &mut budget),
        };
        match result {
            Ok(Value::Bool(true)) => {}
            Ok(Value::Bool(false)) => return Ok(false),
            Ok(_) => failed = Some(format!("match condition {}: not a truth value", condition.name)),
            Err(why) => failed = Some(format!("match condition {}: {why}", condition.name)),
        }
    }
    failed.map_or(Ok(true), Err)
}
