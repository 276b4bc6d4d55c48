//! `/1.0/events`: what the controller did, why, and how it ended. Ours: the seed has no such thing.
//!
//! An array, the event that was said last at the end; each as an Event document's spec (`schemas/event.json`). They are this controller's own,
//! since it was started, and the last thousand.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};

use super::Shared;
use crate::model::kinds::EventSpec;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/1.0/events", get(list))
}

async fn list(State(context): State<Shared>) -> Json<Vec<EventSpec>> {
    Json(context.events.all())
}
