//! `/1.0/instances/{instance}/nodes`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::body::Place;
use super::drain::{Left, left};
use super::error::Error;
use super::resource::{self, Resource, spoken_of, visible};
use super::route::{Content, Operation, Route};
use super::running::WAITS;
use super::{Context, Shared};
use crate::clock::rfc3339;
use crate::model::meta::DRAINING;
use crate::model::{Document, Documents, Key, Kind};
use crate::reconcile::observed::{LinkState, NodeView};
use crate::reconcile::ping::TrustError;

/// How long a login may take.
const PING_TIME: Duration = Duration::from_secs(60);

static NODES: Resource = Resource {
    kind: Kind::Node,
    path: "/1.0/instances/{instance}/nodes",
    prefix: Some("ND"),
    reserved: &[],
    gone: "Nothing is deployed there any more, and what runs there is stopped.",
};

pub(super) fn routes() -> Vec<Route> {
    let ping_node = Operation::new("pingNode", "Try whether one can log in to a node")
        .described(
            "Waits for the login, a minute at most. `result` is false when it fails, and `reason` says why.",
        )
        .answers(StatusCode::OK, Content::of::<Pinged>());
    let status_of_node = Operation::new("retrieveNodeStatus", "Retrieve how the connection to a node is")
        .answers(StatusCode::OK, Content::of::<NodeStatus>());
    let trust_node = Operation::new("trustNode", "Accept the host key that a node shows now")
        .described("For after a person has found out why the key changed. Answers how the connection is after the next try.")
        .answers(StatusCode::OK, Content::of::<NodeStatus>())
        .conflicts()
        .meets_damage();
    let mut routes = resource::routes(&NODES);
    routes.extend([
        Route::post("/1.0/instances/{instance}/nodes/{id}/ping", ping, ping_node),
        Route::get("/1.0/instances/{instance}/nodes/{id}/status", status, status_of_node),
        Route::post("/1.0/instances/{instance}/nodes/{id}/trust", trust, trust_node),
    ]);
    routes
}

/// How the connection to a node is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) struct NodeStatus {
    /// `connecting`, `connected`, or by what it is not: `auth failed`, `unreachable`, `host key changed` (then nothing is done there
    /// until a person trusts it), `timed out`, `shell unusable`, `disk full`, `connection lost`, `fenced`, `not configured`;
    /// or `waiting` for an older node of the same id to be gone.
    state: &'static str,
    /// Since when it has been connected, or not; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// What was said, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// How often it was tried in a row and failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    tries: Option<u32>,
    /// When it is tried again; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<String>,
    /// What people should know besides, such as a clock that is off.
    warnings: Vec<String>,
    /// True when it takes nothing new: its `status` is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    cordoned: Option<bool>,
    /// Since when it is being drained; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    draining: Option<String>,
    /// Which processes are left on it, while it is being drained.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<Vec<Left>>,
}

impl NodeStatus {
    /// What is seen is the older node, which is not the one that is asked about.
    fn waiting() -> NodeStatus {
        NodeStatus {
            state: "waiting",
            since: None,
            message: Some(WAITS.into()),
            tries: None,
            next_try: None,
            warnings: Vec::new(),
            cordoned: None,
            draining: None,
            left: None,
        }
    }

    fn of(view: &NodeView) -> NodeStatus {
        let (since, message, next) = match &view.link {
            LinkState::Connecting => (None, None, None),
            LinkState::Connected { since_ms } => (Some(*since_ms), None, None),
            LinkState::Down { name: _, message, since_ms, tries, next_try_ms } => {
                (Some(*since_ms), Some(message.clone()), Some((*tries, *next_try_ms)))
            }
        };
        NodeStatus {
            state: view.link.name(),
            since: since.map(rfc3339),
            message,
            tries: next.map(|(tries, _)| tries),
            next_try: next.map(|(_, at_ms)| rfc3339(at_ms)),
            warnings: view.warnings.iter().map(ToString::to_string).collect(),
            cordoned: None,
            draining: None,
            left: None,
        }
    }
}

fn view(context: &Context, key: &Key) -> Arc<NodeView> {
    context.observed.node(&key.namespace, &key.name).unwrap_or_default()
}

async fn status(State(context): State<Shared>, place: Place) -> Result<Json<NodeStatus>, Error> {
    shown(&context, &place.key(Kind::Node)).map(Json)
}

/// How a node is now.
pub(super) fn shown(context: &Context, key: &Key) -> Result<NodeStatus, Error> {
    let documents = context.documents();
    Ok(status_of(context, &documents, visible(&documents, key)?))
}

/// How a node is, as it stands in these documents.
pub(super) fn status_of(context: &Context, documents: &Documents, document: &Document) -> NodeStatus {
    if document.metadata.waiting {
        return NodeStatus::waiting();
    }
    let key = document.key();
    let draining = document.metadata.annotations.get(DRAINING).cloned();
    NodeStatus {
        cordoned: documents.node(&key).is_some_and(|node| node.status == Some(false)).then_some(true),
        left: draining.is_some().then(|| left(documents, &context.placed.last(), &key)),
        draining,
        ..NodeStatus::of(&view(context, &key))
    }
}

/// A person has checked the changed host key of a node. Answers the status after the next try, which is at once. Ours: the seed
/// has no such thing.
async fn trust(State(context): State<Shared>, place: Place) -> Result<Json<NodeStatus>, Error> {
    let key = place.key(Kind::Node);
    spoken_of(&context.documents(), &key)?;
    let mut changes = context.observed.changes();
    let before = view(&context, &key);
    context.pinger.trust(&key).map_err(|error| match error {
        TrustError::Refused(why) => Error::Conflict(why),
        TrustError::Record { .. } => Error::Damaged(error.to_string()),
    })?;
    let node = (key.namespace.clone(), key.name.clone());
    let is_tried = changes.wait_for(|all| all.get(&node).is_none_or(|view| view.link != before.link));
    // Without an answer in time, what is known by then is the answer.
    let _ = tokio::time::timeout(PING_TIME, is_tried).await;
    shown(&context, &key).map(Json)
}

/// Whether a login succeeded.
#[derive(Serialize, JsonSchema)]
struct Pinged {
    /// Whether it did.
    result: bool,
    /// Why not.
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
