//! What the edge answers by itself: refusals, in the API's own form.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;

/// Why a request goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Refusal {
        Refusal { status, message: message.into(), header: None }
    }

    /// Nobody that we know asks.
    pub(super) fn unauthorized(message: &str) -> Refusal {
        let header = Some((WWW_AUTHENTICATE, "Bearer realm=\"mainstay\""));
        Refusal { header, ..Refusal::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// There is no turn now.
    pub(super) fn busy(message: &str) -> Refusal {
        Refusal { header: Some((RETRY_AFTER, "1")), ..Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    /// The answer, after which the connection ends when something of the request is still to come.
    pub(super) fn response(self, is_last: bool) -> Response {
        let mut response = Response::new(Body::from(json!({ "error": self.message }).to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if is_last {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
