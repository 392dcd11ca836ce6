//! create.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::{output, pipeline};
use crate::admission::Operation;
use crate::error::{ApiError, ApiResult, Cause};
use crate::request::Context;
use crate::server::Server;
use crate::storage::{Key, WriteError};
use crate::{admission, apply, convert, meta, resources};

/// POST to a collection.
pub async fn create(server: &Arc<Server>, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let value = pipeline::decode(context, body)?;
    let value = create_object(server, context, value, false).await?;
    Ok(output::object(context, StatusCode::CREATED, &value))
}

/// Stores a new object; `applied` when server-side apply made it and tracked its managers.
pub async fn create_object(
    server: &Arc<Server>,
    context: &Context,
    mut value: Value,
    applied: bool,
) -> ApiResult<Value> {
    let resource = &context.resource;
    if !meta::text(&value, "/metadata/resourceVersion").is_empty() {
        return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
    }
    pipeline::take_in(context, &mut value)?;
    set_namespace(context, &mut value)?;
    let generate = meta::name(&value).is_empty().then(|| meta::text(&value, "/metadata/generateName").to_string());
    if generate.as_deref() == Some("") {
        return Err(context.invalid("", vec![Cause::required("metadata.name", "name or generateName is required")]));
    }
    let _turn = admission::quotas::turn(server, context).await;
    for _ in 0..8 {
        let given = &value;
        let mut value = given.clone();
        if let Some(prefix) = &generate {
            let prefix: String = prefix.chars().take(58).collect();
            meta::metadata_mut(&mut value).insert("name".into(), format!("{prefix}{}", meta::suffix()).into());
        }
        let name = meta::name(&value).to_string();
        resources::metadata::start(resource, &mut value);
        if resource.status
            && context.target.subresource.is_empty()
            && let Value::Object(map) = &mut value
        {
            map.shift_remove("status");
        }
        admission::mutate(server, context, Operation::Create, &mut value, None).await?;
        resources::prepare_create(server, context, &mut value);
        resources::refuse_create(server, context, &value)?;
        pipeline::check(server, context, None, &value)?;
        check_namespace(server, context, &name)?;
        if !applied {
            apply::track_create(context, given, &mut value);
        }
        let dry_run = context.params.dry_run()?;
        admission::validate(server, context, Operation::Create, Some(&value), None, dry_run).await?;
        let key = Key::new(&resource.storage, &context.target.namespace, &name);
        if dry_run && generate.is_none() && server.store.get(&key).is_some() {
            return Err(ApiError::already_exists(&resource.group, &resource.plural, &name));
        }
        if dry_run {
            return Ok(value);
        }
        let going = server.store.get(&key).is_some_and(|o| o.deleting);
        convert::to_stored(&mut value, resource).await?;
        match server.store.create(key, value).await {
            Ok(object) => {
                pipeline::after_write(server, &object);
                convert::learn(resource, std::slice::from_ref(&object)).await?;
                return Ok(output::served(resource, &object));
            }
            Err(WriteError::Exists) if generate.is_some() => {}
            Err(WriteError::Exists) if going => {
                let mut error = ApiError::already_exists(&resource.group, &resource.plural, &name);
                error.message = format!("object is being deleted: {}", error.message);
                return Err(error);
            }
            Err(error) => return Err(ApiError::from_write(error, &resource.group, &resource.plural, &name)),
        }
    }
    Err(ApiError::already_exists(&resource.group, &resource.plural, generate.as_deref().unwrap_or_default()))
}

fn set_namespace(context: &Context, value: &mut Value) -> ApiResult<()> {
    let wanted = context.target.namespace.clone();
    let given = meta::namespace(value).to_string();
    let meta = meta::metadata_mut(value);
    if !context.resource.namespaced {
        meta.shift_remove("namespace");
        return Ok(());
    }
    if !given.is_empty() && given != wanted {
        return Err(ApiError::bad_request(format!(
            "the namespace of the provided object does not match the namespace sent on the request ({given} and {wanted})"
        )));
    }
    meta.insert("namespace".into(), wanted.into());
    Ok(())
}

/// Nothing is made in a namespace that is not there or going away.
fn check_namespace(server: &Server, context: &Context, name: &str) -> ApiResult<()> {
    if !context.resource.namespaced {
        return Ok(());
    }
    let namespace = &context.target.namespace;
    let Some(object) = server.store.get(&Key::new(&"/namespaces".into(), "", namespace)) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if object.deleting {
        let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = ApiError::forbidden(&context.resource.group, &context.resource.plural, name, &why);
        if let Some(Value::Object(details)) = &mut error.details {
            let message = format!("namespace {namespace} is being terminated");
            details.insert("causes".into(), serde_json::json!([{"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"}]));
        }
        return Err(error);
    }
    Ok(())
}
