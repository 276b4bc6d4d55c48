//! The HTTP faces: `/1.0` (the seed, `platform-api.md`), `/healthz`, `/readyz`, `/metrics`, `/store/backup`.
//!
//! Every answer is decided on one snapshot; every change goes through [`crate::model::admit`], the door of the manifests.
//! Errors are `{"error": "…"}`, whoever finds them.
//!
//! **Invariant:** nothing that a client sends makes this panic, wait without an end, or answer 500.
//! **Invariant:** what is unknown is said to be; it is never shown as stopped.
//! **Absent here:** what a change causes on nodes. The reconciler sees the documents; we see what it saw.

mod backup;
mod body;
mod error;
mod events;
mod flat;
mod health;
mod instances;
mod logs;
mod nodes;
mod processes;
mod resource;
mod running;
mod services;
mod switch;

use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::{map_request, map_response};

use crate::metrics::Metrics;
use crate::model::secret::Sealer;
use crate::reconcile::events::Events;
use crate::reconcile::logs::Logs;
use crate::reconcile::observed::Observed;
use crate::reconcile::ping::Pinger;
use crate::state::State;

use self::error::Error;

/// What the answers are made of.
pub struct Context {
    /// The documents.
    pub state: Arc<State>,
    /// What was seen of the nodes.
    pub observed: Observed,
    /// What was done.
    pub events: Events,
    /// Opens and seals the nodes' passwords.
    pub sealer: Sealer,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Tries nodes' logins.
    pub pinger: Arc<dyn Pinger>,
    /// Reads processes' logs.
    pub logs: Logs,
}

/// How the handlers share the context.
type Shared = Arc<Context>;

/// All paths.
pub fn router(context: Context) -> Router {
    Router::new()
        .merge(instances::routes())
        .merge(nodes::routes())
        .merge(services::routes())
        .merge(processes::routes())
        .merge(events::routes())
        .merge(logs::routes())
        .merge(health::routes())
        .merge(backup::routes())
        .fallback(|uri: Uri| {
            std::future::ready(Error::NotFound(format!("there is nothing at {}", uri.path())))
        })
        .layer(map_request(body::take_in))
        .layer(map_response(|response| std::future::ready(error::uniform(response))))
        .with_state(Arc::new(context))
}
