//! The rules over HTTP, in the shape of OPA's data API.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/data/io/konveyor/forklift/ova/rules_version` | `{"result":{"rules_version":5}}` |
//! | `POST /v1/data/io/konveyor/forklift/ova/validate` `{"input":{…}}` | `{"result":{"rules_version":…,"errors":[…],"concerns":[…]}}` |
//! | an undefined path | `{}` |

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::Validator;

/// Returns the service's routes.
pub fn router(validator: Validator) -> Router {
    Router::new()
        .route("/health", get(async || Json(json!({}))))
        .route("/v1/data/{*path}", get(read).post(evaluate))
        .with_state(validator)
}

async fn read(State(validator): State<Validator>, Path(path): Path<String>) -> Response {
    answer(&validator, &path, None, None).await
}

async fn evaluate(State(validator): State<Validator>, Path(path): Path<String>, body: Bytes) -> Response {
    if body.is_empty() {
        return answer(&validator, &path, None, Some(())).await;
    }
    match serde_json::from_slice::<Value>(&body) {
        Ok(mut body) => {
            let input = body.get_mut("input").map(Value::take);
            let missing = input.is_none().then_some(());
            answer(&validator, &path, input, missing).await
        }
        Err(error) => failure(StatusCode::BAD_REQUEST, "invalid_parameter", &format!("body is not JSON: {error}")),
    }
}

async fn answer(validator: &Validator, path: &str, input: Option<Value>, input_missing: Option<()>) -> Response {
    let query = path.trim_matches('/').replace('/', ".");
    let rules = validator.clone();
    // a rule may take seconds until its limit: not on a thread that serves others
    let result = tokio::task::spawn_blocking(move || rules.query(&query, input.as_ref())).await;
    let result = match result {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", &error.to_string());
        }
        Err(error) => {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", &error.to_string());
        }
    };
    let mut body = json!({});
    if let Some(result) = result {
        body["result"] = result;
    }
    if input_missing.is_some() {
        body["warning"] = json!({
            "code": "api_usage_warning",
            "message": "'input' key missing from the request",
        });
    }
    Json(body).into_response()
}

fn failure(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"code": code, "message": message}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use expect_test::{Expect, expect};
    use tower::ServiceExt;

    async fn check(method: &str, path: &str, body: &str, expected: Expect) {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).expect("valid");
        let response = router(Validator::new()).oneshot(request).await.expect("infallible");
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("a small body");
        expected.assert_eq(&format!("{} {}", status.as_u16(), String::from_utf8_lossy(&body)));
    }

    #[tokio::test]
    async fn answers_as_opas_data_api() {
        let root = "/v1/data/io/konveyor/forklift/ova";
        check("GET", &format!("{root}/rules_version"), "", expect![[r#"200 {"result":{"rules_version":5}}"#]]).await;
        check(
            "POST",
            &format!("{root}/validate"),
            r#"{"input":{"name":"a_b","exportSource":"VMware"}}"#,
            expect![[r#"200 {"result":{"concerns":[{"assessment":"The name is not a valid name for a VM of the target platform (RFC 1123: at most 63 letters, digits, hyphens and periods, beginning and ending with a letter or digit). It is changed automatically during the migration, unless a target name is given in the plan.","category":"Warning","id":"ova.name.invalid","label":"Invalid VM Name"}],"errors":[],"rules_version":5}}"#]],
        )
        .await;
        check("POST", &format!("{root}/validate"), "", expect![[r#"200 {"result":{"concerns":[],"errors":["No VM name found in input body"],"rules_version":5},"warning":{"code":"api_usage_warning","message":"'input' key missing from the request"}}"#]]).await;
        check("GET", &format!("{root}/nothing"), "", expect!["200 {}"]).await;
        check("GET", "/v1/data/io/konveyor/forklift/unknown/validate", "", expect!["200 {}"]).await;
        check("POST", &format!("{root}/validate"), "{", expect![[r#"400 {"code":"invalid_parameter","message":"body is not JSON: EOF while parsing an object at line 1 column 1"}"#]]).await;
    }
}
