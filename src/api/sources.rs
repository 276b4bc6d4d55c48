//! `/sources`, `/hooks/git`: where this server's manifests come from, how that is, and what people say to it. Ours.
//!
//! Each server tells of those that it was given.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Shared;
use super::body::Parameters;
use super::error::Error;
use super::route::{Content, Operation, Route};
use crate::source::board::{Approval, NotApproved, SourceKind, SourceStatus};

/// Where a repository's server says that somebody has pushed.
pub(super) const HOOK: &str = "/hooks/git";

pub(super) fn routes() -> Vec<Route> {
    let list = Operation::new("listSources", "List where this server's manifests come from, and how that is");
    let approve = Operation::new("approveSource", "Let a source delete what it waits to delete").described(
        "A source that would delete more than `--prune-limit` of its objects waits with all of its change. The digest is that which the source \
         tells: the approval is for exactly those deletions, and refused when others wait by now.",
    );
    let hook = Operation::new("fetchGit", "Fetch the Git sources now").described(
        "For a repository's server to say that somebody has pushed. Whatever the body says, they are fetched as always, once a second at most.",
    );
    vec![
        Route::get("/sources", all, list.answers(StatusCode::OK, Content::of::<Vec<SourceStatus>>())),
        Route::post(
            "/sources/approve",
            approved,
            approve
                .takes(Content::of::<ApprovalGiven>())
                .answers(StatusCode::OK, Content::of::<Approval>())
                .not_found()
                .conflicts(),
        ),
        Route::post(HOOK, fetch, hook.answers(StatusCode::ACCEPTED, Content::Nothing).not_found()),
    ]
}

/// What people let a source do.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ApprovalGiven {
    /// The source's name, such as `folder /etc/fleet`.
    source: String,
    /// The digest of what it waits to delete.
    digest: String,
}

async fn all(State(context): State<Shared>) -> Json<Vec<SourceStatus>> {
    Json(context.sources.all())
}

async fn approved(
    State(context): State<Shared>,
    Parameters(given): Parameters,
) -> Result<Json<Approval>, Error> {
    let ApprovalGiven { source, digest } = serde_json::from_value(Value::Object(given))
        .map_err(|error| Error::BadRequest(format!("{error}; send `source` and `digest`")))?;
    context.sources.approve(&source, &digest).map(Json).map_err(|refused| {
        let why = refused.to_string();
        match refused {
            NotApproved::NoSource { .. } => Error::NotFound(why),
            NotApproved::NotWaiting { .. } | NotApproved::Other { .. } => Error::Conflict(why),
        }
    })
}

async fn fetch(State(context): State<Shared>) -> Result<StatusCode, Error> {
    match context.sources.ring(SourceKind::Git) {
        0 => Err(Error::NotFound("this server has no Git source; give it one with --git".into())),
        _ => Ok(StatusCode::ACCEPTED),
    }
}
