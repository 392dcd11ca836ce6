//! Answers that are not 200.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::auth::Denied;
use crate::LiveError;

/// An answer that is not 200.
pub(crate) struct Refusal {
    pub status: StatusCode,
    /// Told in the header `forklift-error-message`, on one line.
    pub message: Option<String>,
    /// Told in the header `X-Reason`.
    pub reason: Option<&'static str>,
    /// Whether the message is the body too: it has lines that belong together.
    pub shown: bool,
}

impl Refusal {
    /// Returns a bad request; the message is the body too.
    pub fn bad(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: Some(message), reason: None, shown: true }
    }
}

impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        Self { status, message: None, reason: None, shown: false }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::Unauthenticated => StatusCode::UNAUTHORIZED,
            Denied::Forbidden(_) => StatusCode::FORBIDDEN,
            Denied::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { message: Some(denied.to_string()), ..status.into() }
    }
}

impl From<LiveError> for Refusal {
    fn from(error: LiveError) -> Self {
        Self { message: Some(error.to_string()), ..StatusCode::INTERNAL_SERVER_ERROR.into() }
    }
}

/// Returns a text as a header's value, on one line.
pub(crate) fn header_line(text: &str) -> Option<HeaderValue> {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    HeaderValue::from_bytes(line.as_bytes()).ok()
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = match &self.message {
            Some(message) if self.shown => (self.status, message.clone()).into_response(),
            _ => self.status.into_response(),
        };
        let headers = response.headers_mut();
        if let Some(reason) = self.reason {
            headers.insert("X-Reason", HeaderValue::from_static(reason));
        }
        if let Some(value) = self.message.as_deref().and_then(header_line) {
            headers.insert(HeaderName::from_static("forklift-error-message"), value);
        }
        response
    }
}
