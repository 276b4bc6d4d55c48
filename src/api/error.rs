//! What went wrong, as an answer: a status of the seed's, or 409, 412, 413, 415, 503, and `{"error": "…"}` for people.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::model::Problem;
use crate::reconcile::logs::LogError;
use crate::state::StateError;
use crate::store::StoreError;

/// How many problems one answer names.
const MAX_SHOWN: usize = 20;

/// Why a request is not answered as it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// 400: what was sent can't be meant.
    BadRequest(String),
    /// 404: there is no such object or path.
    NotFound(String),
    /// 409: as things are, it can't be done.
    Conflict(String),
    /// 412: the object is not in the version that the request is meant for.
    OtherVersion(String),
    /// 413: more was sent, or would be stored, than is taken.
    TooLarge(String),
    /// 415: the body is not said to be JSON.
    NotJson,
    /// 500: what is stored can't be used.
    Damaged(String),
    /// 503: the store does not answer, or can't say what became of a write; or a node that it takes can't be asked.
    Unavailable(String),
}

impl Error {
    fn into_parts(self) -> (StatusCode, String) {
        match self {
            Error::BadRequest(why) => (StatusCode::BAD_REQUEST, why),
            Error::NotFound(why) => (StatusCode::NOT_FOUND, why),
            Error::Conflict(why) => (StatusCode::CONFLICT, why),
            Error::OtherVersion(why) => (StatusCode::PRECONDITION_FAILED, why),
            Error::TooLarge(why) => (StatusCode::PAYLOAD_TOO_LARGE, why),
            Error::NotJson => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body has to be JSON and say so; add the header `Content-Type: application/json`".into(),
            ),
            Error::Damaged(why) => (StatusCode::INTERNAL_SERVER_ERROR, why),
            Error::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }

    /// What the door found, in the words of the flat form, where the object's name is called `id`, or as is said.
    pub(super) fn problems(problems: &[Problem], id: &str) -> Error {
        let all = problems
            .iter()
            .map(|problem| match parameter(&problem.path, id) {
                "" => problem.message.clone(),
                path => format!("{path}: {}", problem.message),
            })
            .collect();
        Error::BadRequest(shortened(all))
    }
}

/// All that is wrong as one sentence, up to a number that people read.
pub(super) fn shortened(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(MAX_SHOWN);
    all.truncate(MAX_SHOWN);
    if more > 0 {
        all.push(format!("and {more} more"));
    }
    all.join("; ")
}

/// The place in the flat form of a place in a document.
fn parameter<'a>(path: &'a str, id: &'a str) -> &'a str {
    match path {
        "spec" | "metadata" => "",
        "metadata.name" => id,
        "metadata.namespace" => "instance",
        _ => path.strip_prefix("spec.").unwrap_or(path),
    }
}

impl From<StateError> for Error {
    fn from(error: StateError) -> Error {
        if let StateError::Store(StoreError::Invalid(why)) = &error {
            // Every key is ours; only the size is the client's.
            return Error::TooLarge(format!("the object is too large to be stored: {why}"));
        }
        let message = with_causes(&error);
        tracing::warn!(error = message, "a request failed");
        Error::Unavailable(message)
    }
}

impl From<LogError> for Error {
    fn from(error: LogError) -> Error {
        Error::Unavailable(with_causes(&error))
    }
}

pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message.push_str(": ");
        message.push_str(&cause.to_string());
        source = cause.source();
    }
    message
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, message) = self.into_parts();
        (status, axum::Json(json!({ "error": message }))).into_response()
    }
}

/// Gives errors that are not ours (the router's own) the form of ours, and says of every path what may be done there.
pub(super) fn uniform(method: &Method, response: Response) -> Response {
    let status = response.status();
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/json");
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    let message = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            let known = parts.headers.get(ALLOW).and_then(|known| known.to_str().ok()).unwrap_or_default();
            let known: Vec<&str> = known.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
            let known = [known, vec!["OPTIONS"]].concat().join(", ");
            if let Ok(known) = HeaderValue::from_str(&known) {
                parts.headers.insert(ALLOW, known);
            }
            if method == Method::OPTIONS {
                parts.status = StatusCode::NO_CONTENT;
                return Response::from_parts(parts, Body::empty());
            }
            format!("this path does not take {method}; it takes {known}")
        }
        _ => status.canonical_reason().unwrap_or("the request was refused").to_owned(),
    };
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(json!({ "error": message }).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_the_parameters_and_not_the_document() {
        let problem = |path: &str, message: &str| Problem {
            file: None,
            at: None,
            path: path.into(),
            message: message.into(),
        };
        let found = [
            problem("spec.options.port", "too large"),
            problem("metadata.name", "not an id"),
            problem("spec", "`zk` is missing"),
        ];
        let found = Error::problems(&found, "id");
        assert_eq!(
            found,
            Error::BadRequest("options.port: too large; id: not an id; `zk` is missing".into())
        );
    }
}
