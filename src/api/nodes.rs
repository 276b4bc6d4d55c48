//! `/1.0/instances/{instance}/nodes`.

use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;

use super::body::Place;
use super::error::Error;
use super::resource::{self, Resource, visible};
use super::running::WAITS;
use super::{Context, Shared};
use crate::clock::rfc3339;
use crate::model::{Key, Kind};
use crate::reconcile::observed::{LinkState, NodeView};
use crate::reconcile::ping::TrustError;

/// How long a login may take.
const PING_TIME: Duration = Duration::from_secs(60);

static NODES: Resource =
    Resource { kind: Kind::Node, path: "/1.0/instances/{instance}/nodes", prefix: Some("ND"), reserved: &[] };

pub(super) fn routes() -> Router<Shared> {
    resource::routes(&NODES)
        .route("/1.0/instances/{instance}/nodes/{id}/ping", post(ping))
        .route("/1.0/instances/{instance}/nodes/{id}/status", get(status))
        .route("/1.0/instances/{instance}/nodes/{id}/trust", post(trust))
}

/// How the link to a node is. Ours: the seed has no such thing.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    /// `connecting`, `connected`, or by what it is not: `auth failed`, `unreachable`, `host key changed` (then nothing is done there
    /// until a person says so, see [`trust`]), `timed out`, `shell unusable`, `disk full`, `connection lost`, `fenced`, `not configured`;
    /// or `waiting` for an older node of the same id to be gone.
    state: &'static str,
    /// Since when it has been connected, or not; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// What was said, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// When it is tried again; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<String>,
    /// What people should know besides, such as a clock that is off.
    warnings: Vec<String>,
}

impl Status {
    /// What is seen is the older node, which is not the one that is asked about.
    fn waiting() -> Status {
        Status {
            state: "waiting",
            since: None,
            message: Some(WAITS.into()),
            next_try: None,
            warnings: Vec::new(),
        }
    }

    fn of(view: &NodeView) -> Status {
        let (since, message, next_try) = match &view.link {
            LinkState::Connecting => (None, None, None),
            LinkState::Connected { since_ms } => (Some(*since_ms), None, None),
            LinkState::Down { message, since_ms, next_try_ms, .. } => {
                (Some(*since_ms), Some(message.clone()), Some(*next_try_ms))
            }
        };
        Status {
            state: view.link.name(),
            since: since.map(rfc3339),
            message,
            next_try: next_try.map(rfc3339),
            warnings: view.warnings.iter().map(ToString::to_string).collect(),
        }
    }
}

fn view(context: &Context, key: &Key) -> NodeView {
    context.observed.node(&key.namespace, &key.name).unwrap_or_default()
}

async fn status(State(context): State<Shared>, place: Place) -> Result<Json<Status>, Error> {
    let key = place.key(Kind::Node);
    if visible(&context.documents(), &key)?.metadata.waiting {
        return Ok(Json(Status::waiting()));
    }
    Ok(Json(Status::of(&view(&context, &key))))
}

/// A person has checked the changed host key of a node. Answers the status after the next try, which is at once. Ours: the seed
/// has no such thing.
async fn trust(State(context): State<Shared>, place: Place) -> Result<Json<Status>, Error> {
    let key = place.key(Kind::Node);
    if visible(&context.documents(), &key)?.metadata.waiting {
        return Err(Error::Conflict(format!("{key}: {WAITS}")));
    }
    let mut changes = context.observed.changes();
    let before = view(&context, &key).link;
    context.pinger.trust(&key).map_err(|error| match error {
        TrustError::Refused(why) => Error::Conflict(why),
        TrustError::Record { .. } => Error::Damaged(error.to_string()),
    })?;
    let node = (key.namespace.clone(), key.name.clone());
    let is_tried = changes.wait_for(|all| all.get(&node).is_none_or(|view| view.link != before));
    // Without an answer in time, what is known by then is the answer.
    let _ = tokio::time::timeout(PING_TIME, is_tried).await;
    Ok(Json(Status::of(&view(&context, &key))))
}

#[derive(Serialize)]
struct Pinged {
    result: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn ping(State(context): State<Shared>, place: Place) -> Result<Json<Pinged>, Error> {
    let key = place.key(Kind::Node);
    visible(&context.documents(), &key)?;
    let answer = tokio::time::timeout(PING_TIME, context.pinger.ping(key)).await;
    Ok(Json(match answer {
        Ok(Ok(())) => Pinged { result: true, reason: None },
        Ok(Err(why)) => Pinged { result: false, reason: Some(why) },
        Err(_) => Pinged {
            result: false,
            reason: Some(format!("no answer within {} seconds", PING_TIME.as_secs())),
        },
    }))
}
