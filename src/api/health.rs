//! `/healthz`, `/readyz`, `/metrics`: for those who watch the controller itself.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::Shared;
use super::error::Error;
use super::route::{Content, Operation, Route};

/// How long the store may take before the controller is said not to be ready.
const READY_TIME: Duration = Duration::from_secs(5);

/// The media type of `/metrics`.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    let text = |id, summary, media| Operation::new(id, summary).answers(StatusCode::OK, Content::Text(media));
    vec![
        Route::get(
            "/healthz",
            || std::future::ready("ok"),
            text("health", "Whether the controller is there", "text/plain; charset=utf-8"),
        ),
        Route::get(
            "/readyz",
            ready,
            text("readiness", "Whether the store answers and is followed", "text/plain; charset=utf-8"),
        ),
        Route::get(
            "/metrics",
            |State(context): State<Shared>| std::future::ready(metrics(&context)),
            text("metrics", "The controller's counters, for Prometheus", METRICS),
        ),
    ]
}

/// Ready means: the store answers and is followed, so that what is read is current and what is written is kept.
async fn ready(State(context): State<Shared>) -> Result<&'static str, Error> {
    let mut error = match tokio::time::timeout(READY_TIME, context.state.check()).await {
        Ok(Ok(())) => return Ok("ok"),
        Ok(Err(error)) => Error::from(error),
        Err(_) => Error::Unavailable("the store does not answer".into()),
    };
    if let Error::Unavailable(why) = &mut error {
        let age = context.state.age().as_secs();
        why.push_str(&format!("; what is read was the store's content {age} s ago"));
    }
    Err(error)
}

fn metrics(context: &Shared) -> impl IntoResponse + use<> {
    context.metrics.snapshot_age.set(context.state.age().as_secs_f64());
    ([(CONTENT_TYPE, METRICS)], context.metrics.text())
}
