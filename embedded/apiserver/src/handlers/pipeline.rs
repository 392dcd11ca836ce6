//! The way of an object into the store: decode, prune, default, prepare, check, track managers, write.

use std::sync::Arc;

use http::Method;
use serde_json::Value;

use super::duplicates;
use crate::admission::Operation;
use crate::error::{ApiError, ApiResult, Cause};
use crate::registry::Resource;
use crate::request::Context;
use crate::schema::{self, Schema};
use crate::server::Server;
use crate::storage::{Key, Object, WriteError};
use crate::{admission, apply, cel, convert, meta, protobuf, resources};

/// How often a change is made again after somebody else was faster.
const ATTEMPTS: usize = 50;

/// Reads a JSON, YAML or protobuf body.
pub fn decode(context: &Context, body: &[u8]) -> ApiResult<Value> {
    let value: Value = match context.content_type.as_str() {
        "application/yaml" | "text/yaml" | "application/apply-patch+yaml" => {
            let text =
                std::str::from_utf8(body).map_err(|e| ApiError::bad_request(format!("the body is not UTF-8: {e}")))?;
            serde_saphyr::from_str(text).map_err(|e| ApiError::bad_request(format!("error decoding YAML: {e}")))?
        }
        "" | "application/json" | "*/*" => {
            let (value, twice) = duplicates::read(body)
                .map_err(|e| ApiError::bad_request(format!("couldn't get version/kind; json parse error: {e}")))?;
            *context.duplicates.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = twice;
            value
        }
        protobuf::MEDIA_TYPE => protobuf::decode(body).map_err(ApiError::unsupported_media_type)?,
        other => {
            return Err(ApiError::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml (got {other})"
            )));
        }
    };
    if value.is_object() { Ok(value) } else { Err(ApiError::bad_request("the body of the request is not an object")) }
}

/// Checks `apiVersion` and `kind` against the resource; they are filled in when absent.
pub fn check_type(resource: &Resource, value: &mut Value) -> ApiResult<()> {
    let Value::Object(map) = value else {
        return Err(ApiError::bad_request("the body of the request is not an object"));
    };
    let version = resource.api_version();
    let (given_version, given_kind) = {
        let text = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default().to_string();
        (text("apiVersion"), text("kind"))
    };
    if !given_version.is_empty() && given_version != version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({given_version}) does not match the expected API version ({version})"
        )));
    }
    if !given_kind.is_empty() && given_kind != resource.kind && resource.custom {
        let name = map.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str).unwrap_or_default();
        let why = format!("must be {}", resource.kind);
        let cause = Cause::invalid("kind", &given_kind.clone().into(), &why);
        return Err(ApiError::invalid(&resource.group, &given_kind, name, vec![cause]));
    }
    if !given_kind.is_empty() && given_kind != resource.kind {
        return Err(ApiError::bad_request(format!(
            "{given_kind} in version \"{version}\" cannot be handled as a {}",
            resource.kind
        )));
    }
    // in front, where lists can cut them off without reading the object
    map.shift_remove("kind");
    map.shift_remove("apiVersion");
    map.shift_insert(0, "apiVersion".into(), version.into());
    map.shift_insert(0, "kind".into(), resource.kind.clone().into());
    Ok(())
}

/// Prunes, reports unknown fields as asked, and fills in defaults.
pub fn take_in(context: &Context, value: &mut Value) -> ApiResult<()> {
    check_type(&context.resource, value)?;
    let schema = context.resource.schema();
    schema::drop_nulls(value, schema);
    if !context.resource.custom {
        right_types(context, value, schema)?;
    }
    let unknown = schema::prune(value, schema);
    let twice = std::mem::take(&mut *context.duplicates.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let mut list: Vec<String> = twice;
    list.extend(unknown.iter().map(|path| format!("unknown field \"{path}\"")));
    match context.params.text("fieldValidation") {
        "Strict" if !list.is_empty() => {
            return Err(ApiError::bad_request(format!(
                "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
                context.resource.kind,
                context.resource.version,
                context.resource.kind,
                list.join(", ")
            )));
        }
        "Ignore" => {}
        "" | "Warn" | "Strict" => list.into_iter().for_each(|text| context.warn(text)),
        other => {
            let kind = match context.method.as_str() {
                "PUT" => "UpdateOptions",
                "PATCH" => "PatchOptions",
                _ => "CreateOptions",
            };
            let known = ["", "Ignore", "Strict", "Warn"].map(String::from);
            let cause = Cause::unsupported("fieldValidation", &other.into(), &known);
            return Err(ApiError::invalid("meta.k8s.io", kind, "", vec![cause]));
        }
    }
    schema::apply_defaults(value, schema);
    resources::decoded(&context.resource, value);
    Ok(())
}

/// A wrong JSON type in a built-in kind cannot be decoded at all.
fn right_types(context: &Context, value: &Value, schema: &Schema) -> ApiResult<()> {
    let undecodable =
        |c: &Cause| c.reason == "FieldValueTypeInvalid" || c.message.contains("in body must be of type byte");
    let wrong = schema::validate(value, schema, "").into_iter().find(undecodable);
    match wrong {
        None => Ok(()),
        Some(cause) => {
            let (kind, version) = (&context.resource.kind, &context.resource.version);
            Err(ApiError::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: {}: {}",
                cause.field, cause.message
            )))
        }
    }
}

/// What the schema, the metadata rules and the kind's own rules object to.
pub fn check(server: &Server, context: &Context, old: Option<&Value>, value: &Value) -> ApiResult<()> {
    let mut causes = resources::metadata::validate(&context.resource, value);
    let shape = schema::validate(value, context.resource.schema(), "");
    // what a built-in kind's status must have is for its controllers to know
    let shape = shape.into_iter().filter(|c| context.resource.custom || !c.field.starts_with("status"));
    // the metadata's own rules have said it already
    causes.extend(shape.filter(|c| !(c.reason == "FieldValueRequired" && c.field.starts_with("metadata."))));
    match old {
        None => causes.extend(resources::validate_create(server, context, value)),
        Some(old) => causes.extend(resources::validate_update(server, context, old, value)),
    }
    unchanged_faults(context, old, &mut causes);
    // rules see only values of the right shape
    if context.resource.custom && causes.is_empty() {
        causes = cel::rules::check(value, old, context.resource.schema());
    }
    if causes.is_empty() { Ok(()) } else { Err(context.invalid(meta::name(value), causes)) }
}

/// A fault that the stored custom resource has already does not block other changes (a schema may have become stricter).
fn unchanged_faults(context: &Context, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let Some(old) = old.filter(|_| context.resource.custom && !causes.is_empty()) else { return };
    let before = schema::validate(old, context.resource.schema(), "");
    causes.retain(|cause| !before.contains(cause));
}

/// What `change` is to store.
pub struct Change {
    /// The new object, in the served version.
    pub value: Value,
    /// Whether server-side apply made it and tracked its managers.
    pub applied: bool,
}

/// Makes a change of the object of the request, again when somebody else was faster, and returns the object after it.
pub async fn change(
    server: &Arc<Server>,
    context: &Context,
    make: impl Fn(&Value) -> ApiResult<Change>,
) -> ApiResult<Value> {
    let key = Key::new(&context.resource.storage, &context.target.namespace, &context.target.name);
    for _ in 0..ATTEMPTS {
        let object = server.store.get(&key).ok_or_else(|| context.not_found())?;
        convert::learn(&context.resource, std::slice::from_ref(&object)).await?;
        let mut old = object.value();
        convert::to_served(&mut old, &context.resource);
        let Change { mut value, applied } = make(&old)?;
        receive_update(context, &object, &old, &mut value)?;
        // subresources with an object of their own are shown to webhooks by their handlers
        let asks = matches!(context.target.subresource.as_str(), "" | "status");
        if asks {
            admission::mutate(server, context, Operation::Update, &mut value, Some(&old)).await?;
        }
        let scale = |value: &Value| super::scale::scale_of(&context.resource, value);
        let dry_run = context.params.dry_run()?;
        if context.target.subresource == "scale" {
            let (before, mut wanted) = (scale(&old), scale(&value));
            admission::mutate(server, context, Operation::Update, &mut wanted, Some(&before)).await?;
            if let Some(replicas) = wanted.pointer("/spec/replicas").and_then(Value::as_i64) {
                super::scale::set_replicas(&context.resource, &mut value, replicas);
            }
            let dry = dry_run;
            admission::validate(server, context, Operation::Update, Some(&wanted), Some(&before), dry).await?;
        }
        prepare_update(server, context, &old, &mut value, applied)?;
        if asks {
            admission::validate(server, context, Operation::Update, Some(&value), Some(&old), dry_run).await?;
        }
        if same(&old, &value) {
            return Ok(old);
        }
        if dry_run {
            return Ok(value);
        }
        match write(server, context, &key, object.revision, value).await {
            Ok(value) => return Ok(value),
            Err(WriteError::Conflict) => {}
            Err(error) => {
                return Err(ApiError::from_write(error, &context.resource.group, &context.resource.plural, &key.name));
            }
        }
    }
    Err(ApiError::modified(&context.resource.group, &context.resource.plural, &key.name))
}

/// Preconditions, and the object as its schema has it.
fn receive_update(context: &Context, object: &Object, old: &Value, value: &mut Value) -> ApiResult<()> {
    let (group, plural, name) = (&context.resource.group, &context.resource.plural, &context.target.name);
    match meta::text(value, "/metadata/resourceVersion") {
        "" => {}
        given => match given.parse::<u64>() {
            Ok(revision) if revision == object.revision => {}
            Ok(_) => return Err(ApiError::modified(group, plural, name)),
            Err(_) => {
                return Err(context.invalid(
                    name,
                    vec![Cause::invalid("metadata.resourceVersion", &given.into(), "must be a number")],
                ));
            }
        },
    }
    let uid = meta::text(value, "/metadata/uid");
    if !uid.is_empty() && uid != object.uid && context.method == Method::PATCH {
        return Err(context.invalid(name, vec![Cause::invalid("metadata.uid", &uid.into(), "field is immutable")]));
    }
    if !uid.is_empty() && uid != object.uid {
        return Err(ApiError::conflict(
            group,
            plural,
            name,
            &format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object.uid),
        ));
    }
    take_in(context, value)?;
    isolate(context, old, value);
    Ok(())
}

fn prepare_update(server: &Server, context: &Context, old: &Value, value: &mut Value, applied: bool) -> ApiResult<()> {
    let name = &context.target.name;
    isolate(context, old, value);
    let fixed = resources::metadata::fixed(old, value);
    if !fixed.is_empty() {
        return Err(context.invalid(name, fixed));
    }
    resources::metadata::keep(old, value);
    resources::prepare_update(server, context, old, value);
    // a binding is no change of what the user wants
    if context.resource.generation
        && context.target.subresource != "binding"
        && !same_except(old, value, &["metadata", if context.resource.status { "status" } else { "" }])
    {
        let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0) + 1;
        meta::metadata_mut(value).insert("generation".into(), generation.into());
    }
    check(server, context, Some(old), value)?;
    if !applied {
        apply::track_update(context, old, value);
    }
    Ok(())
}

/// The object's own path does not change the status, and the status path changes nothing else.
fn isolate(context: &Context, old: &Value, value: &mut Value) {
    // a binding notes in the status that the pod is scheduled
    if !context.resource.status || context.target.subresource == "binding" {
        return;
    }
    let part = |v: &Value, field: &str| v.get(field).cloned();
    if context.target.subresource == "status" {
        let status = part(value, "status");
        let managed = value.pointer("/metadata/managedFields").cloned();
        *value = old.clone();
        put(value, "status", status);
        if let Some(managed) = managed {
            meta::metadata_mut(value).insert("managedFields".into(), managed);
        }
    } else {
        put(value, "status", part(old, "status"));
    }
}

fn put(value: &mut Value, field: &str, content: Option<Value>) {
    if let Value::Object(map) = value {
        match content {
            Some(content) => map.insert(field.into(), content),
            None => map.shift_remove(field),
        };
    }
}

fn same_except(a: &Value, b: &Value, except: &[&str]) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    let inside = |m: &'_ serde_json::Map<String, Value>| m.keys().filter(|k| !except.contains(&k.as_str())).count();
    inside(a) == inside(b) && a.iter().filter(|(k, _)| !except.contains(&k.as_str())).all(|(k, v)| b.get(k) == Some(v))
}

/// Whether nothing changed but the time in the managed fields.
fn same(old: &Value, new: &Value) -> bool {
    if !same_except(old, new, &["metadata"]) {
        return false;
    }
    let (Some(a), Some(b)) = (old.get("metadata"), new.get("metadata")) else { return false };
    let timeless = |m: &Value| {
        let entries = m.get("managedFields").and_then(Value::as_array).cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|mut e| {
                if let Value::Object(map) = &mut e {
                    map.shift_remove("time");
                }
                e
            })
            .collect::<Vec<_>>()
    };
    same_except(a, b, &["managedFields", "resourceVersion"]) && timeless(a) == timeless(b)
}

/// Writes the next version, or removes an object that was only waiting for its last finalizer.
pub async fn write(
    server: &Arc<Server>,
    context: &Context,
    key: &Key,
    revision: u64,
    mut value: Value,
) -> Result<Value, WriteError> {
    let done = meta::is_deleting(&value)
        && meta::finalizers(&value).is_empty()
        && resources::may_vanish(&context.resource, &value);
    convert::to_stored(&mut value, &context.resource).await.map_err(|e| WriteError::Failed(e.message))?;
    let object = if done {
        server.store.delete(key.clone(), revision, value).await?
    } else {
        server.store.replace(key.clone(), revision, value).await?
    };
    after_write(server, &object);
    convert::learn(&context.resource, std::slice::from_ref(&object))
        .await
        .map_err(|e| WriteError::Failed(e.message))?;
    let mut value = object.value();
    convert::to_served(&mut value, &context.resource);
    Ok(value)
}

/// What has to be in force before the writer gets its answer.
pub fn after_write(server: &Server, object: &Object) {
    if &*object.key.resource == "apiextensions.k8s.io/customresourcedefinitions" {
        server.take_in_crd(&object.key.name);
    }
}

impl Context {
    /// A request that the server makes of itself.
    pub fn internal(resource: Arc<Resource>, namespace: &str, name: &str) -> Self {
        let target = crate::request::Target {
            group: resource.group.clone(),
            version: resource.version.clone(),
            plural: resource.plural.clone(),
            namespace: namespace.into(),
            name: name.into(),
            subresource: String::new(),
        };
        Self {
            resource,
            target,
            method: Method::POST,
            params: crate::request::Params::default(),
            user: crate::auth::User {
                name: "system:apiserver".into(),
                groups: vec!["system:masters".into()],
                ..crate::auth::User::default()
            },
            form: crate::request::Form::Object,
            yaml: false,
            manager: "kube-apiserver".into(),
            content_type: String::new(),
            warnings: std::sync::Mutex::default(),
            annotations: std::sync::Mutex::default(),
            duplicates: std::sync::Mutex::default(),
        }
    }
}
