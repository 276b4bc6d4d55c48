//! `/healthz`, `/readyz`, `/metrics`: for those who watch the controller itself. The first two need no token, so they tell nothing of
//! the others; who leads stands in `/metrics` and `/status`.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use jiff::Timestamp;

use super::error::Error;
use super::route::{Content, Operation, Route};
use super::{Shared, status};

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
    let metrics = &context.metrics;
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let (role, leader) = status::leader(context, &context.standing.role());
    metrics.leading.set(i64::from(role == "leads"));
    metrics.leader_address.clear();
    if let Some(address) = leader.as_ref().and_then(|leader| leader.address.clone()) {
        metrics.leader_address.get_or_create(&vec![("address".into(), address)]).set(1);
    }
    let (epoch, revision, since) = leader.map_or((0, 0, 0), |leader| {
        let since = leader.since.parse::<Timestamp>().map_or(0, Timestamp::as_second);
        (leader.epoch, leader.revision, since)
    });
    metrics.leader_epoch.set(whole(epoch));
    metrics.leader_revision.set(whole(revision));
    metrics.leader_since.set(since);
    metrics.snapshot_revision.set(whole(context.state.snapshot().revision));
    metrics.snapshot_age.set(context.state.age().as_secs_f64());
    ([(CONTENT_TYPE, METRICS)], metrics.text())
}
