//! `/1.0/instances/{instance}/nodes`.

use std::time::Duration;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::Serialize;

use super::Shared;
use super::body::Place;
use super::error::Error;
use super::resource::{self, Resource, visible};
use crate::model::Kind;

/// How long a login may take.
const PING_TIME: Duration = Duration::from_secs(60);

static NODES: Resource =
    Resource { kind: Kind::Node, path: "/1.0/instances/{instance}/nodes", prefix: "ND", reserved: &[] };

pub(super) fn routes() -> Router<Shared> {
    resource::routes(&NODES).route("/1.0/instances/{instance}/nodes/{id}/ping", post(ping))
}

#[derive(Serialize)]
struct Pinged {
    result: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

async fn ping(State(context): State<Shared>, place: Place) -> Result<Json<Pinged>, Error> {
    let key = place.key(Kind::Node);
    visible(&context.state.snapshot().documents, &key)?;
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
