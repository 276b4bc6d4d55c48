//! The HTTP faces: `/1.0` (the seed, `platform-api.md`), `/healthz`, `/readyz`, `/status`, `/metrics`.
//!
//! Every answer is decided on one snapshot; every change goes through [`crate::model::admit`], the door of the manifests.
//! Errors are `{"error": "…"}`, whoever finds them.
//!
//! **Invariant:** nothing that a client sends makes this panic, wait without an end, or answer 500.
//! **Invariant:** what is unknown is said to be; it is never shown as stopped.
//! **Absent here:** what a change causes on nodes. The reconciler sees the documents; we see what it saw.

mod body;
mod error;
mod events;
mod flat;
mod forward;
mod health;
mod instances;
mod logs;
mod nodes;
mod processes;
mod resource;
mod running;
mod services;
mod status;
mod switch;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use axum::middleware::{from_fn_with_state, map_request, map_response};

use crate::metrics::Metrics;
use crate::model::secret::Sealer;
use crate::reconcile::events::Events;
use crate::reconcile::leadership::Standing;
use crate::reconcile::logs::Logs;
use crate::reconcile::observed::Observed;
use crate::reconcile::ping::Pinger;
use crate::state::State;

use self::error::Error;
use self::forward::Forwarder;

/// What the answers are made of.
pub struct Parts {
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
    /// Who of the servers on the store leads.
    pub standing: Standing,
}

/// The parts, and what asks other servers.
struct Context {
    parts: Parts,
    forwarder: Forwarder,
}

impl Deref for Context {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// How the handlers share the context.
type Shared = Arc<Context>;

/// All paths.
pub fn router(parts: Parts) -> Router {
    let context = Arc::new(Context { parts, forwarder: Forwarder::default() });
    Router::new()
        .merge(instances::routes())
        .merge(nodes::routes())
        .merge(services::routes())
        .merge(processes::routes())
        .merge(events::routes())
        .merge(logs::routes())
        .merge(health::routes())
        .merge(status::routes())
        .fallback(|uri: Uri| {
            std::future::ready(Error::NotFound(format!("there is nothing at {}", uri.path())))
        })
        .layer(from_fn_with_state(Arc::clone(&context), forward::to_leader))
        .layer(map_request(body::take_in))
        .layer(map_response(|response| std::future::ready(error::uniform(response))))
        .with_state(context)
}
