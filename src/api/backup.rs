//! `/store/backup`: a backup of the store while it is in use. Only the process that has the store can read it then.
//!
//! Secrets are sealed in it, as they are in the store.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::stream;

use super::Shared;
use super::error::Error;
use crate::clock;
use crate::store::backup::{Lines, PROCESS_HEADER};

/// Bytes that are sent in one piece.
const PIECE: usize = 64 * 1024;

pub(super) fn routes() -> Router<Shared> {
    Router::new().route("/store/backup", get(backup))
}

/// The process's id is told, so that who found a directory locked by it knows that this is its store.
async fn backup(State(context): State<Shared>) -> Result<impl IntoResponse, Error> {
    let mut lines = Lines::new(context.state.everything().await?, clock::timestamp());
    let pieces = std::iter::from_fn(move || {
        let mut piece = lines.next()?;
        while piece.len() < PIECE {
            let Some(line) = lines.next() else { break };
            piece.extend(line);
        }
        Some(Ok::<_, Infallible>(piece))
    });
    let headers = [
        (CONTENT_TYPE.as_str(), "application/jsonl".to_owned()),
        (PROCESS_HEADER, std::process::id().to_string()),
    ];
    Ok((headers, Body::from_stream(stream::iter(pieces))))
}
