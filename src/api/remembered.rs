//! Answers that are remembered as bytes for as long as no document changes.
//!
//! An object and a list are made of documents and of nothing else, and documents change seldom, while a list of a thousand costs a millisecond
//! to make. Any change forgets all: that is simple, and can't be wrong. What is seen on nodes (status, events, logs) is never remembered.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::Body as _;

use crate::store::Revision;

/// Most that is remembered, in bytes.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The answers of one revision, by path.
#[derive(Default)]
pub(super) struct Remembered(RwLock<Answers>);

#[derive(Default)]
struct Answers {
    revision: Revision,
    bytes: usize,
    answers: BTreeMap<String, (HeaderMap, Bytes)>,
}

/// The path of a request whose answer depends on documents only, and not on what else the request says.
pub(super) fn path(request: &Request) -> Option<&str> {
    let headers = request.headers();
    let is_conditional = [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE]
        .iter()
        .any(|name| headers.contains_key(name));
    if request.method() != Method::GET || request.uri().query().is_some() || is_conditional {
        return None;
    }
    let path = request.uri().path();
    is_of_documents(path).then_some(path)
}

/// Whether objects or a list of them are at a path; a path that is not known is taken for one of something else.
fn is_of_documents(path: &str) -> bool {
    let Some(path) = path.strip_prefix("/1.0/") else { return false };
    let mut words = path.split('/');
    match [(); 5].map(|()| words.next()) {
        [Some("instances" | "processes" | "tenants" | "users" | "integrations"), _, None, None, None] => true,
        [Some("instances"), Some(_), Some("nodes" | "services"), id, None] => id != Some("status"),
        _ => false,
    }
}

impl Remembered {
    /// The answer at a path as of a revision, if it was remembered.
    pub(super) fn recall(&self, path: &str, revision: Revision) -> Option<Response> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if known.revision != revision {
            return None;
        }
        let (headers, bytes) = known.answers.get(path)?;
        let mut response = Response::new(Body::from(bytes.clone()));
        *response.headers_mut() = headers.clone();
        Some(response)
    }

    /// Remembers an answer, if it is one that was asked for. The revision is one that was read before the answer was made: an answer of a
    /// newer one is then made again, and never taken for that of an older one.
    pub(super) async fn keep(&self, path: String, revision: Revision, response: Response) -> Response {
        let length = response.body().size_hint().exact().and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|length| *length <= MAX_BYTES / 4) else { return response };
        if response.status() != StatusCode::OK {
            return response;
        }
        let (parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                tracing::error!(%error, "an answer that is in memory can't be read");
                return Response::from_parts(parts, Body::empty());
            }
        };
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // What was made on an older revision is nobody's answer any more.
        if known.revision <= revision {
            if known.revision < revision || known.bytes + length > MAX_BYTES {
                *known = Answers { revision, ..Answers::default() };
            }
            known.bytes += length + path.len();
            known.answers.insert(path, (parts.headers.clone(), bytes.clone()));
        }
        drop(known);
        Response::from_parts(parts, Body::from(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_on_nodes_is_never_remembered() {
        for path in [
            "/1.0/instances",
            "/1.0/instances/IN1",
            "/1.0/instances/IN1/nodes",
            "/1.0/instances/IN1/services/SV1",
            "/1.0/processes",
            "/1.0/processes/x",
        ] {
            assert!(is_of_documents(path), "{path}");
        }
        for path in [
            "/1.0/events",
            "/1.0/instances/IN1/nodes/ND1/status",
            "/1.0/instances/IN1/services/status",
            "/1.0/instances/IN1/services/SV1/status",
            "/1.0/processes/x/status",
            "/1.0/processes/x/logs",
            "/healthz",
            "/metrics",
            "/1.0",
        ] {
            assert!(!is_of_documents(path), "{path}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_forgotten_with_the_next_change_and_refusals_at_once() {
        let known = Remembered::default();
        let answer = |text: &'static str| Response::new(Body::from(text));
        drop(known.keep("/a".into(), 1, answer("one")).await);
        assert!(known.recall("/a", 1).is_some() && known.recall("/b", 1).is_none());
        assert!(known.recall("/a", 2).is_none(), "there is another revision");
        drop(known.keep("/b".into(), 2, answer("two")).await);
        assert!(known.recall("/a", 1).is_none() && known.recall("/b", 2).is_some());
        drop(known.keep("/a".into(), 1, answer("late")).await);
        assert!(known.recall("/a", 1).is_none() && known.recall("/b", 2).is_some());
        let mut refusal = answer("{}");
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        drop(known.keep("/c".into(), 2, refusal).await);
        assert!(known.recall("/c", 2).is_none());
    }
}
