//! Questions that are answered and not stored: token and access reviews.

use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};

use super::{output, pipeline};
use crate::auth::{User, rbac};
use crate::error::{ApiError, ApiResult, Cause};
use crate::meta;
use crate::request::Context;
use crate::server::Server;

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

/// POST of a review.
pub fn answer(server: &Server, context: &Context, body: &[u8]) -> ApiResult<Response> {
    let mut review = pipeline::decode(context, body)?;
    pipeline::check_type(&context.resource, &mut review)?;
    review["status"] = match context.resource.plural.as_str() {
        "tokenreviews" => token_review(server, &review)?,
        "selfsubjectreviews" => json!({"userInfo": context.user.info()}),
        "selfsubjectaccessreviews" => {
            check_access(context, &review)?;
            access(server, &context.user, &review)
        }
        "selfsubjectrulesreviews" => rules(server, &context.user, meta::text(&review, "/spec/namespace")),
        _ => {
            check_access(context, &review)?;
            let user = User {
                name: meta::text(&review, "/spec/user").into(),
                uid: meta::text(&review, "/spec/uid").into(),
                groups: strings(review.pointer("/spec/groups")),
                extra: std::collections::BTreeMap::new(),
            };
            access(server, &user, &review)
        }
    };
    meta::metadata_mut(&mut review).insert("creationTimestamp".into(), Value::Null);
    Ok(output::json_response(StatusCode::CREATED, review.to_string()))
}

fn token_review(server: &Server, review: &Value) -> ApiResult<Value> {
    let token = meta::text(review, "/spec/token");
    if token.is_empty() {
        return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = strings(review.pointer("/spec/audiences"));
    Ok(match server.auth.review(&server.store, token, &audiences) {
        Some((user, audiences)) => json!({"authenticated": true, "user": user.info(), "audiences": audiences}),
        None => json!({"user": {}, "error": "[invalid bearer token, Token has been invalidated]"}),
    })
}

/// What is wrong with the question of a review about somebody's access.
fn check_access(context: &Context, review: &Value) -> ApiResult<()> {
    let spec = |field: &str| review.pointer(&format!("/spec/{field}"));
    let mut causes = Vec::new();
    if spec("resourceAttributes").is_some() == spec("nonResourceAttributes").is_some() {
        causes.push(Cause::invalid(
            "spec.resourceAttributes",
            spec("resourceAttributes").unwrap_or(&Value::Null),
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    let subject = !meta::text(review, "/spec/user").is_empty() || !strings(spec("groups")).is_empty();
    if !subject && !context.resource.plural.starts_with("self") {
        causes.push(Cause::invalid("spec.user", &"".into(), "at least one of user or group must be specified"));
    }
    if causes.is_empty() { Ok(()) } else { Err(context.invalid("", causes)) }
}

fn access(server: &Server, user: &User, review: &Value) -> Value {
    let resource = |field: &str| meta::text(review, &format!("/spec/resourceAttributes/{field}"));
    let path = meta::text(review, "/spec/nonResourceAttributes/path");
    let wanted = if path.is_empty() {
        rbac::Attributes {
            verb: resource("verb"),
            group: resource("group"),
            resource: resource("resource"),
            subresource: resource("subresource"),
            namespace: resource("namespace"),
            name: resource("name"),
            path: None,
        }
    } else {
        rbac::Attributes {
            verb: meta::text(review, "/spec/nonResourceAttributes/verb"),
            path: Some(path),
            ..rbac::Attributes::default()
        }
    };
    let decision = rbac::decide(&server.store, user, &wanted);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    status
}

fn rules(server: &Server, user: &User, namespace: &str) -> Value {
    let all = if user.is_admin() {
        vec![
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}),
            json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
        ]
    } else {
        rbac::rules_for(&server.store, user, namespace)
    };
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        all.into_iter().partition(|r| r.get("nonResourceURLs").is_some());
    json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false})
}
