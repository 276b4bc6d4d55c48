//! The HTTP faces: `/1.0` (the seed, `platform-api.md`), `/healthz`, `/readyz`, `/status`, `/sources`, `/metrics`, `/openapi.json`, `/store/backup`.
//!
//! Every answer is decided on one snapshot; every change goes through [`crate::model::admit`], the door of the manifests.
//! Errors are `{"error": "…"}`, whoever finds them.
//!
//! **Invariant:** nothing that a client sends makes this panic, wait without an end, or answer 500.
//! **Invariant:** what is unknown is said to be; it is never shown as stopped.
//! **Absent here:** connections, their limits, who may ask: see [`crate::edge`]. What a change causes on nodes. The reconciler sees the documents; we see what it saw.

mod apply;
mod backup;
mod body;
mod credentials;
mod drain;
mod error;
mod etag;
mod events;
mod explain;
mod flat;
mod forward;
mod health;
mod instances;
mod integrations;
mod logs;
mod nodes;
mod objects;
mod openapi;
mod processes;
mod relation;
mod remembered;
mod resource;
mod rollout;
mod route;
mod running;
mod services;
mod sources;
mod status;
mod switch;
mod tenants;
mod users;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::http::header::AGE;
use axum::response::Response;
use tower_service::Service;

use crate::metrics::Metrics;
use crate::model::Documents;
use crate::model::secret::Sealer;
use crate::reconcile::events::Events;
use crate::reconcile::leadership::Standing;
use crate::reconcile::logs::Logs;
use crate::reconcile::observed::Observed;
use crate::reconcile::outlook::Outlook;
use crate::reconcile::ping::Pinger;
use crate::reconcile::placed::Placed;
use crate::source::board::Board;
use crate::state::State;

use self::error::Error;
use self::forward::{Forwarder, STALE, Way};
pub use self::openapi::{document, page};
use self::remembered::Remembered;
pub use self::route::Need;
use self::route::Route;

/// What the answers are made of.
#[derive(Clone)]
pub struct Parts {
    /// The documents.
    pub state: Arc<State>,
    /// What was seen of the nodes.
    pub observed: Observed,
    /// What was decided over all nodes.
    pub placed: Placed,
    /// What a change would do.
    pub outlook: Outlook,
    /// What was done.
    pub events: Events,
    /// Opens and seals the nodes' passwords.
    pub sealer: Sealer,
    /// Whether answers have the passwords, as the seed's do.
    pub secrets: Secrets,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// Tries nodes' logins.
    pub pinger: Arc<dyn Pinger>,
    /// Reads processes' logs.
    pub logs: Logs,
    /// Who of the servers on the store leads.
    pub standing: Standing,
    /// Where this server's manifests come from.
    pub sources: Board,
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

/// Whether answers have the nodes' passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// In clear.
    Shown,
    /// Not at all.
    LeftOut,
}

impl Context {
    /// The documents as they are declared now.
    fn documents(&self) -> Documents {
        self.state.snapshot().documents.declared()
    }

    /// What opens the secrets that an answer has.
    fn opener(&self) -> Option<&Sealer> {
        match self.secrets {
            Secrets::Shown => Some(&self.sealer),
            Secrets::LeftOut => None,
        }
    }
}

/// How the handlers share the context.
type Shared = Arc<Context>;

/// All that is served, in the order in which it is described.
fn table() -> Vec<Route> {
    [
        instances::routes(),
        tenants::routes(),
        users::routes(),
        integrations::routes(),
        nodes::routes(),
        drain::routes(),
        services::routes(),
        rollout::routes(),
        processes::routes(),
        logs::routes(),
        explain::routes(),
        objects::routes(),
        apply::routes(),
        events::routes(),
        health::routes(),
        status::routes(),
        sources::routes(),
        openapi::routes(),
        backup::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// All paths, and what was answered at some of them.
pub struct Api {
    context: Shared,
    routes: Router,
    remembered: Remembered,
}

impl Api {
    /// The paths over what answers are made of.
    pub fn new(parts: Parts) -> Api {
        let context = Arc::new(Context { parts, forwarder: Forwarder::default() });
        let routes = route::router(table())
            .fallback(|uri: Uri| {
                std::future::ready(Error::NotFound(format!("there is nothing at {}", uri.path())))
            })
            .with_state(Arc::clone(&context));
        Api { context, routes, remembered: Remembered::default() }
    }

    /// Answers a request whose body has come. What is answered from an old snapshot says how old (`Age`, in seconds).
    pub async fn answer(&self, request: Request) -> Response {
        let mut response = self.answer_now(request).await;
        let age = self.context.state.age();
        if age >= STALE && !response.headers().contains_key(AGE) {
            response.headers_mut().insert(AGE, age.as_secs().into());
        }
        response
    }

    async fn answer_now(&self, request: Request) -> Response {
        let revision = self.context.state.revision();
        let path = remembered::path(&request);
        if let Some(known) = path.and_then(|path| self.remembered.recall(path, revision)) {
            return known;
        }
        let path = path.map(str::to_owned);
        let method = request.method().clone();
        let response = match forward::to_leader(&self.context, request).await {
            Way::Answered(response) => response,
            Way::Here(request) => {
                let Ok(response) = self.routes.clone().call(request).await;
                response
            }
        };
        let response = error::uniform(&method, response);
        match path {
            Some(path) => self.remembered.keep(path, revision, response).await,
            None => response,
        }
    }
}
