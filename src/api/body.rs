//! What a request brings: the ids in its path, its body, its query.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::Uri;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::Value;

use super::error::Error;
use super::route::Asked;
use crate::model::id::did_you_mean;
use crate::model::kinds::Object;
use crate::model::locate::MAX_DEPTH;
use crate::model::{Key, Kind};

/// Largest body, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Longest name of a parameter or of anything in one, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The ids in a path. They are only ever looked up, so one that can't be an id is one that is not there.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Place {
    /// The instance; empty in paths that have none.
    #[serde(default)]
    pub(super) instance: String,
    /// The object; empty in paths of lists.
    #[serde(default)]
    pub(super) id: String,
    /// The other object that the path names: what is given to the first, or taken from it.
    #[serde(default)]
    pub(super) other: String,
}

impl Place {
    /// The object's key.
    pub(super) fn key(self, kind: Kind) -> Key {
        Key { kind, namespace: self.instance, name: self.id }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Place, Error> {
        match Path::<Place>::from_request_parts(parts, state).await {
            Ok(Path(place)) => Ok(place),
            Err(_) => Err(Error::NotFound(format!("there is nothing at {}", parts.uri.path()))),
        }
    }
}

/// The parameters in a body.
pub(super) struct Parameters(pub(super) Object);

impl<S: Send + Sync> FromRequest<S> for Parameters {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Parameters, Error> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        if bytes.is_empty() {
            return Err(Error::BadRequest("the body is empty; send the parameters as a JSON object".into()));
        }
        parameters(&parts, &bytes).map(Parameters)
    }
}

/// Refuses a body that has another field than this one.
///
/// # Errors
/// What to tell who sent it.
pub(super) fn only(given: &Object, field: &str) -> Result<(), String> {
    match given.keys().find(|name| *name != field) {
        None => Ok(()),
        Some(name) => Err(format!("{name}: unknown field `{name}`; did you mean `{field}`?")),
    }
}

/// The same where a body may be left out.
pub(super) struct Maybe(pub(super) Object);

impl<S: Send + Sync> FromRequest<S> for Maybe {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Maybe, Error> {
        let (parts, body) = request.into_parts();
        let bytes = read(body).await?;
        if bytes.is_empty() { Ok(Maybe(Object::new())) } else { parameters(&parts, &bytes).map(Maybe) }
    }
}

fn parameters(parts: &Parts, bytes: &Bytes) -> Result<Object, Error> {
    let says_json =
        parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
            value.split(';').next().unwrap_or(value).trim().eq_ignore_ascii_case("application/json")
        });
    if !says_json {
        return Err(Error::NotJson);
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(parameters)) => match check_shape(parameters.iter(), 1) {
            Ok(()) => Ok(parameters),
            Err(why) => Err(Error::BadRequest(why)),
        },
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            Err(Error::BadRequest("the body is not a JSON object; send the parameters as one".into()))
        }
        Err(error) => Err(Error::BadRequest(format!("the body is not JSON: {error}"))),
    }
}

/// Refuses what is deeper than a manifest may be, for it could be written and then not be read, and names that nobody means.
fn check_shape<'a>(
    mut fields: impl Iterator<Item = (&'a String, &'a Value)>,
    depth: usize,
) -> Result<(), String> {
    fields.try_for_each(|(name, value)| match name.len() {
        0..=MAX_NAME_BYTES => check_depth(value, depth + 1),
        length => Err(format!("a name in the body has {length} bytes; it can have {MAX_NAME_BYTES}")),
    })
}

fn check_depth(value: &Value, depth: usize) -> Result<(), String> {
    match value {
        Value::Object(_) | Value::Array(_) if depth > MAX_DEPTH => {
            Err(format!("the body is nested deeper than {MAX_DEPTH} levels"))
        }
        Value::Object(fields) => check_shape(fields.iter(), depth),
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// The body, which has come by now: the edge takes it in, with limits on size and time. This one only holds what has not come that way.
async fn read(body: Body) -> Result<Bytes, Error> {
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Error::TooLarge(format!("the body is over {MAX_BODY_BYTES} bytes")))
        }
        Err(error) => Err(Error::BadRequest(format!("the body could not be read: {error}"))),
    }
}

/// How long an answer may wait for what was asked to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience(pub(super) Duration);

/// What is waited where the query says nothing.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(30);
/// The most that may be asked for.
const MAX_PATIENCE_SECONDS: f64 = 600.0;

/// The same, as it is described.
pub(super) static PATIENCE: [Asked; 2] = [
    Asked {
        name: "timeout",
        about: "How many seconds the answer may wait for what was asked to be seen on the nodes.",
        schema: r#"{"type": "number", "minimum": 0, "maximum": 600, "default": 30}"#,
    },
    Asked {
        name: "wait",
        about: "False answers at once.",
        schema: r#"{"type": "boolean", "default": true}"#,
    },
];

impl<S: Send + Sync> FromRequestParts<S> for Patience {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Patience, Error> {
        patience(&parts.uri).map_err(Error::BadRequest)
    }
}

/// The names and values in a query, decoded.
pub(super) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, String> {
    let Query(pairs) =
        Query::try_from_uri(uri).map_err(|error| format!("the query can't be read: {error}"))?;
    Ok(pairs)
}

/// Says that a query has a name that is none of those that may be asked.
pub(super) fn unasked(name: &str, known: &[Asked]) -> String {
    let meant = did_you_mean(name, known.iter().map(|asked| asked.name));
    // The first is the one that is meant most often.
    let meant = meant.or(known.first().map(|asked| asked.name)).unwrap_or_default();
    format!("{name:?} is not known in this query; did you mean `{meant}`?")
}

fn patience(uri: &Uri) -> Result<Patience, String> {
    let mut timeout = DEFAULT_PATIENCE;
    let mut wait = true;
    for (name, value) in pairs(uri)? {
        match (name.as_str(), value.as_str()) {
            ("timeout", seconds) => {
                timeout = seconds
                    .parse()
                    .ok()
                    .filter(|seconds| (0.0..=MAX_PATIENCE_SECONDS).contains(seconds))
                    .map(Duration::from_secs_f64)
                    .ok_or("timeout: write seconds, from 0 to 600")?;
            }
            ("wait", "true") => wait = true,
            ("wait", "false") => wait = false,
            ("wait", _) => return Err("wait: write true or false".into()),
            (other, _) => return Err(unasked(other, &PATIENCE)),
        }
    }
    Ok(Patience(if wait { timeout } else { Duration::ZERO }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_how_long_to_wait_and_nothing_else() {
        let seconds = |query: &str| {
            patience(&format!("/?{query}").parse().unwrap()).map(|Patience(time)| time.as_secs_f64())
        };
        assert_eq!(seconds(""), Ok(30.0));
        assert_eq!(seconds("timeout=0.5"), Ok(0.5));
        assert_eq!(seconds("%74imeout=%30.5"), Ok(0.5));
        assert_eq!(seconds("timeout=600&wait=true"), Ok(600.0));
        assert_eq!(seconds("wait=false&timeout=5"), Ok(0.0));
        for query in
            ["timeout=601", "timeout=-1", "timeout=NaN", "timeout=inf", "timeout=", "wait=no", "tiemout=1"]
        {
            assert!(seconds(query).is_err(), "{query}");
        }
    }
}
