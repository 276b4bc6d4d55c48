//! `/1.0/events`: what the controller did, why, and how it ended. Ours: the seed has no such thing.
//!
//! An array, the event that was said last at the end; each as an Event document's spec (`schemas/event.json`). They are this controller's own,
//! since it was started, and the last thousand.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Shared;
use super::route::{Content, Operation, Route};
use crate::model::kinds::EventSpec;

pub(super) fn routes() -> Vec<Route> {
    let all = Operation::new("listEvents", "List what the controller did, why, and how it ended").described(
        "The newest is the last. They are those of the server that leads, since it was started, a thousand at most; with `?own=true`, of the one that is asked.",
    );
    vec![Route::get("/1.0/events", list, all.answers(StatusCode::OK, Content::of::<Vec<EventSpec>>()))]
}

async fn list(State(context): State<Shared>) -> Json<Vec<EventSpec>> {
    Json(context.events.all())
}
