//! Which pages of others may ask. A browser says whose page asks in the header Origin.
//!
//! A page that nobody has allowed may not change anything; it may send a GET, whose answer the browser keeps from it. `tower-http` has
//! a layer for this; it answers every OPTIONS itself, and can't stand before our own refusals, which a page has to be able to read.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::answer::Refusal;

/// The origins that are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(BTreeSet<String>);

/// What was given is no origin.
#[derive(Debug, thiserror::Error)]
#[error(
    "{origin:?} is no origin; write it as browsers do: SCHEME://HOST or SCHEME://HOST:PORT, in lower case, nothing after it"
)]
pub struct NoOrigin {
    origin: String,
}

impl Origins {
    /// # Errors
    /// When one of them can't be what a browser sends.
    pub fn new(origins: &[String]) -> Result<Origins, NoOrigin> {
        let is_origin = |text: &str| {
            let uri: Option<Uri> = text.parse().ok();
            uri.is_some_and(|uri| match (uri.scheme_str(), uri.authority()) {
                (Some(scheme), Some(authority)) => {
                    text == format!("{scheme}://{authority}") && text == text.to_ascii_lowercase()
                }
                (_, _) => false,
            })
        };
        match origins.iter().find(|origin| !is_origin(origin)) {
            None => Ok(Origins(origins.iter().cloned().collect())),
            Some(origin) => Err(NoOrigin { origin: origin.clone() }),
        }
    }

    /// The allowed page of others that asks, if one does. One that is not allowed is refused where it would change something.
    pub(super) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        host: Option<&Authority>,
    ) -> Result<Option<HeaderValue>, Refusal> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(None) };
        let text = origin.to_str().unwrap_or_default();
        if self.0.contains(text) {
            return Ok(Some(origin.clone()));
        }
        // Ours: the name has been checked by now.
        let is_own = host.is_some_and(|host| {
            text.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host.as_str()))
        });
        if is_own || method.is_safe() {
            return Ok(None);
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "a page of another origin may not change anything here; allow it with --cors-origin",
        ))
    }
}

/// Whether a browser asks whether a page may ask.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// That it may.
pub(super) fn preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    let mut insert = |name, value| headers.insert(name, HeaderValue::from_static(value));
    insert(ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, DELETE");
    insert(ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, If-Match, If-None-Match");
    insert(ACCESS_CONTROL_MAX_AGE, "600");
    response
}

/// Lets a page read an answer.
pub(super) fn show(response: &mut Response<Body>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Age, Allow, ETag, Location, Retry-After"),
    );
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_are_allowed_or_our_own_may_change_anything() {
        let origins = Origins::new(&["https://app.example.org:8443".into()]).unwrap();
        let host: Authority = "localhost:8080".parse().unwrap();
        let check = |method, origin: &'static str| {
            let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
            origins.check(&method, &headers, Some(&host)).map(|origin| origin.is_some()).ok()
        };
        assert_eq!(check(Method::POST, "https://app.example.org:8443"), Some(true));
        assert_eq!(check(Method::POST, "http://localhost:8080"), Some(false));
        for origin in ["https://app.example.org", "null", "http://localhost:8081", "http://evil.example", ""]
        {
            assert_eq!(check(Method::DELETE, origin), None, "{origin}");
            assert_eq!(check(Method::GET, origin), Some(false), "{origin}");
        }
        assert_eq!(origins.check(&Method::POST, &HeaderMap::new(), Some(&host)), Ok(None));
    }

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for origin in ["*", "null", "app.example.org", "https://app/", "https://App", "https://app/x", ""] {
            assert!(Origins::new(&[origin.to_owned()]).is_err(), "{origin}");
        }
        assert!(Origins::new(&["http://[::1]:3000".to_owned()]).is_ok());
    }
}
