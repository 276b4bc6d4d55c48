//! The HTTP faces: `/1.0` (the seed), `/healthz`, `/readyz`, `/metrics`.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::metrics::Metrics;
use crate::model::Key;
use crate::model::secret::Sealer;
use crate::reconcile::observed::Observed;
use crate::state::State;

/// Tries to log in to a node.
pub trait Pinger: Send + Sync + 'static {
    /// Whether the node can be logged in to now; if not, why.
    fn ping(&self, node: Key) -> BoxFuture<'_, Result<(), String>>;
}

/// What the API works with.
#[derive(Clone)]
pub struct Context {
    pub state: Arc<State>,
    pub observed: Observed,
    pub sealer: Sealer,
    pub metrics: Arc<Metrics>,
    pub pinger: Arc<dyn Pinger>,
}

/// The routes.
pub fn router(context: Context) -> axum::Router {
    axum::Router::new().route("/metrics", axum::routing::get(move || async move { context.metrics.text() }))
}
