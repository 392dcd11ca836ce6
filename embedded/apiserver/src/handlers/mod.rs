//! One file per verb, and what they share: the way of an object into the store (`pipeline`) and out of it (`output`).

mod ask;
mod connect;
mod create;
mod delete;
mod duplicates;
mod logs;
mod output;
mod patch;
pub mod pipeline;
mod read;
mod scale;
mod special;
mod update;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, Method, header};

use crate::admission;
use crate::audit;
use crate::auth::User;
use crate::error::{ApiError, ApiResult};
use crate::registry::Access;
use crate::request::{self, Context, Target};
use crate::server::Server;

pub use connect::{is_connect, passed_headers};
pub use create::create_object;
pub use delete::{Deletion, Propagation, delete_object};
pub use output::json_response;

/// Serves a request for a resource.
pub async fn handle(server: Arc<Server>, request: Request<Body>) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let user = parts.extensions.get::<User>().cloned().ok_or_else(ApiError::unauthorized)?;
    let target = Target::parse(parts.uri.path()).ok_or_else(ApiError::no_such_page)?;
    let resource = server.registry.find(&target.group, &target.version, &target.plural).ok_or_else(|| {
        if server.registry.knows_group(&target.group) { ApiError::no_such_path() } else { ApiError::no_such_page() }
    })?;
    if is_connect(&target) {
        let mut context = Context::internal(resource, &target.namespace, &target.name);
        (context.user, context.target) = (user, target.clone());
        admission::connect(&server, &context, &connect::options(&target, &parts.uri)).await?;
        return connect::serve(server, target, parts, body).await;
    }
    let context = Context::new(resource, target, parts.method, &parts.uri, &parts.headers, user)?;
    check_scope(&context)?;
    let body = receive(&server, body).await?;
    let context = Arc::new(context);
    let mut response = route(&server, &context, body).await.unwrap_or_else(IntoResponse::into_response);
    let warnings = std::mem::take(&mut *context.warnings.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    let notes = std::mem::take(&mut *context.annotations.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    if !notes.is_empty() {
        response.extensions_mut().insert(audit::Notes(notes));
    }
    for text in warnings {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    if context.yaml && verb(&context) != "watch" {
        response = output::as_yaml(response).await;
    }
    Ok(response)
}

fn check_scope(context: &Context) -> ApiResult<()> {
    let (target, resource) = (&context.target, &context.resource);
    if !resource.namespaced && !target.namespace.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let one = !target.name.is_empty() || context.method == Method::POST && resource.access == Access::Stored;
    if resource.namespaced && target.namespace.is_empty() && one {
        return Err(ApiError::bad_request("an empty namespace may not be set during creation"));
    }
    Ok(())
}

fn verb(context: &Context) -> &'static str {
    request::verb(&context.method, !context.target.name.is_empty(), context.params.flag("watch"))
}

/// The body, when it is not too large and comes in time.
pub async fn receive(server: &Server, body: Body) -> ApiResult<Bytes> {
    let limits = &server.limits;
    match tokio::time::timeout(limits.receive, axum::body::to_bytes(body, limits.body)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::too_large(limits.body)),
        Err(_) => Err(ApiError::timeout("the body of the request did not come in time")),
    }
}

async fn route(server: &Arc<Server>, context: &Arc<Context>, body: Bytes) -> ApiResult<Response> {
    let target = &context.target;
    if context.resource.access == Access::Ask {
        return if verb(context) == "create" {
            ask::answer(server, context, &body)
        } else {
            Err(ApiError::method_not_allowed())
        };
    }
    match (verb(context), target.subresource.as_str()) {
        ("watch", "") => watch::watch(server.clone(), context.clone()),
        ("update" | "patch", _) if target.name.is_empty() => Err(ApiError::method_not_allowed()),
        ("get", "log") if context.resource.is("", "pods") => logs::logs(server, context).await,
        ("get", "scale") if context.resource.scale.is_some() => scale::get(server, context),
        ("get", "") => read::get(server, context).await,
        ("get", "status") if context.resource.status => read::get(server, context).await,
        ("list", "") => read::list(server, context).await,
        ("create", "") if target.name.is_empty() => create::create(server, context, &body).await,
        ("create", "token") if context.resource.is("", "serviceaccounts") => special::token(server, context, &body),
        ("create", "binding") if context.resource.is("", "pods") => special::bind(server, context, &body).await,
        ("create", "eviction") if context.resource.is("", "pods") => special::evict(server, context, &body).await,
        ("update", "finalize") if context.resource.is("", "namespaces") => {
            special::finalize(server, context, &body).await
        }
        ("update" | "patch", "scale") if context.resource.scale.is_some() => {
            scale::change(server, context, &body).await
        }
        ("update", "") => update::update(server, context, &body).await,
        ("update", "status") if context.resource.status => update::update(server, context, &body).await,
        ("patch", "") => patch::patch(server, context, &body).await,
        ("patch", "status") if context.resource.status => patch::patch(server, context, &body).await,
        ("get", "ephemeralcontainers") if context.resource.is("", "pods") => read::get(server, context).await,
        ("update" | "patch", "ephemeralcontainers") if context.resource.is("", "pods") => {
            special::ephemeral_containers(server, context, &body).await
        }
        ("update" | "patch", "resize") if context.resource.is("", "pods") => Err(ApiError::method_not_allowed()),
        ("delete", "") => delete::delete(server, context, &body).await,
        ("deletecollection", "") if context.resource.is("", "namespaces") => Err(ApiError::method_not_allowed()),
        ("deletecollection", "") => delete::delete_collection(server, context, &body).await,
        (_, "status") if context.resource.status => Err(ApiError::method_not_allowed()),
        (_, "scale") if context.resource.scale.is_some() => Err(ApiError::method_not_allowed()),
        (_, "") => Err(ApiError::method_not_allowed()),
        _ => Err(ApiError::no_such_path()),
    }
}
