//! Errors as the API shows them: a `metav1.Status` with code, reason, message and details.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::storage::WriteError;

/// Stands for the lack of a reason, which the Status then does not have.
pub const NO_REASON: &str = "(none)";

/// One field that is wrong, as a `StatusCause`.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Machine-readable reason, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// Human-readable text without the field's path.
    pub message: String,
    /// Path of the field.
    pub field: String,
}

impl Cause {
    /// A value that is not allowed here.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let shown = match value {
            Value::Object(_) | Value::Array(_) => {
                let text = value.to_string();
                if text.len() > 200 { format!("{}…", text.chars().take(200).collect::<String>()) } else { text }
            }
            other => other.to_string(),
        };
        Self { reason: "FieldValueInvalid", message: format!("Invalid value: {shown}: {detail}"), field: field.into() }
    }

    /// A value that is not allowed here, shown in the form given.
    pub fn invalid_shown(field: impl Into<String>, shown: &str, detail: &str) -> Self {
        Self { reason: "FieldValueInvalid", message: format!("Invalid value: {shown}: {detail}"), field: field.into() }
    }

    /// A value of the wrong JSON type.
    pub fn type_invalid(field: impl Into<String>, shown: &str, detail: &str) -> Self {
        Self {
            reason: "FieldValueTypeInvalid",
            message: format!("Invalid value: \"{shown}\": {detail}"),
            field: field.into(),
        }
    }

    /// A field that has to be there and is not.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        let message =
            if detail.is_empty() { "Required value".to_string() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", message, field: field.into() }
    }

    /// A value outside of an enumeration.
    pub fn unsupported(field: impl Into<String>, value: &Value, allowed: &[String]) -> Self {
        let list = allowed.iter().map(|a| format!("\"{a}\"")).collect::<Vec<_>>().join(", ");
        Self {
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {value}: supported values: {list}"),
            field: field.into(),
        }
    }

    /// Text above the limit.
    pub fn too_long(field: impl Into<String>, limit: u64) -> Self {
        let message = format!("Too long: may not be more than {limit} bytes");
        Self { reason: "FieldValueTooLong", message, field: field.into() }
    }

    /// More elements than the limit.
    pub fn too_many(field: impl Into<String>, count: u64, limit: u64) -> Self {
        let message = format!("Too many: {count}: must have at most {limit} items");
        Self { reason: "FieldValueTooMany", message, field: field.into() }
    }

    /// A value that occurs twice, shown in the form given.
    pub fn duplicate_shown(field: impl Into<String>, shown: &str) -> Self {
        Self { reason: "FieldValueDuplicate", message: format!("Duplicate value: {shown}"), field: field.into() }
    }

    /// A change that may not be made.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", message: format!("Forbidden: {detail}"), field: field.into() }
    }

    /// A value that occurs twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self { reason: "FieldValueDuplicate", message: format!("Duplicate value: {value}"), field: field.into() }
    }
}

/// A failed request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Kubernetes' reason; empty where the answer is the plain message.
    pub reason: &'static str,
    /// What failed, on what.
    pub message: String,
    /// `details` of the Status.
    pub details: Option<Value>,
}

/// Result of everything that can end in a `Status`.
pub type ApiResult<T> = Result<T, ApiError>;

/// The resource's name as messages show it: `plans.forklift.konveyor.io`, `pods`.
pub fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_string() } else { format!("{plural}.{group}") }
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let mut details = serde_json::Map::new();
        if !name.is_empty() {
            details.insert("name".into(), name.into());
        }
        if !group.is_empty() {
            details.insert("group".into(), group.into());
        }
        details.insert("kind".into(), kind.into());
        self.details = Some(Value::Object(details));
        self
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 500 without a reason, as Kubernetes answers faults that it has no kind of error for.
    pub fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, NO_REASON, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403 about a resource, with the reason.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: &str) -> Self {
        let what = qualified(plural, group);
        let message = if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} \"{name}\" is forbidden: {why}")
        };
        Self::new(403, "Forbidden", message).about(group, plural, name)
    }

    /// 404 for an object.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{} \"{name}\" not found", qualified(plural, group)))
            .about(group, plural, name)
    }

    /// 404 for a path or a kind nobody serves.
    pub fn no_such_path() -> Self {
        let mut error = Self::new(404, "NotFound", "the server could not find the requested resource");
        error.details = Some(json!({}));
        error
    }

    /// 404 for a path outside of the groups that are served: a text, no Status.
    pub fn no_such_page() -> Self {
        Self::new(404, "", "404 page not found")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, "MethodNotAllowed", message);
        error.details = Some(json!({}));
        error
    }

    /// 406.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 403 about a path.
    pub fn forbidden_path(why: &str) -> Self {
        let mut error = Self::new(403, "Forbidden", format!("forbidden: {why}"));
        error.details = Some(json!({}));
        error
    }

    /// 409 on create.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::new(409, "AlreadyExists", format!("{} \"{name}\" already exists", qualified(plural, group)))
            .about(group, plural, name)
    }

    /// 409 with a reason.
    pub fn conflict(group: &str, plural: &str, name: &str, why: &str) -> Self {
        Self::new(
            409,
            "Conflict",
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", qualified(plural, group)),
        )
        .about(group, plural, name)
    }

    /// 409 because somebody else changed the object.
    pub fn modified(group: &str, plural: &str, name: &str) -> Self {
        Self::conflict(
            group,
            plural,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409 of server-side apply.
    pub fn apply_conflict(message: String, causes: Vec<Value>) -> Self {
        let mut error = Self::new(409, "Conflict", message);
        error.details = Some(json!({ "causes": causes }));
        error
    }

    /// 410: the revision is not kept any more.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413.
    pub fn too_large(limit: usize) -> Self {
        Self::new(413, "RequestEntityTooLarge", format!("Request entity too large: limit is {limit}"))
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422: a JSON patch that cannot be carried out on this object. The text is Kubernetes'.
    pub fn unfit_patch() -> Self {
        let mut error = Self::new(422, "Invalid", "the server rejected our request due to an error in our request");
        error.details = Some(json!({}));
        error
    }

    /// 422 with the fields that are wrong.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let what = qualified(kind, group);
        let mut texts: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        texts.dedup();
        let list = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
        let mut error =
            Self::new(422, "Invalid", format!("{what} \"{name}\" is invalid: {list}")).about(group, kind, name);
        if let Some(Value::Object(details)) = &mut error.details {
            let causes: Vec<Value> =
                causes.iter().map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field})).collect();
            details.insert("causes".into(), Value::Array(causes));
        }
        error
    }

    /// 429: try again, something protects the object.
    pub fn too_many_requests(message: impl Into<String>) -> Self {
        Self::new(429, "TooManyRequests", message)
    }

    /// 500.
    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {message}"))
    }

    /// 504: the time for it is over.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// The `Status` object.
    pub fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason,
        });
        // in the order of the published type: people see it through programs that print the body as it is
        if let Some(map) = status.as_object_mut() {
            if self.reason == NO_REASON {
                map.shift_remove("reason");
            }
            if let Some(details) = &self.details {
                map.insert("details".into(), details.clone());
            }
            map.insert("code".into(), self.code.into());
        }
        status
    }

    /// What a failed write means for the object `name` of the resource.
    pub fn from_write(error: WriteError, group: &str, plural: &str, name: &str) -> Self {
        match error {
            WriteError::Exists => Self::already_exists(group, plural, name),
            WriteError::NotFound => Self::not_found(group, plural, name),
            WriteError::Conflict => Self::modified(group, plural, name),
            WriteError::Closed => Self::unavailable("the server is shutting down"),
            WriteError::Failed(why) => {
                Self::internal(format_args!("cannot store {} \"{name}\": {why}", qualified(plural, group)))
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.reason.is_empty() {
            return (code, format!("{}\n", self.message)).into_response();
        }
        let mut response = (
            code,
            [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            format!("{}\n", self.status()),
        )
            .into_response();
        if code == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
