//! One request's way: what has to be right before it is answered, and what is kept meanwhile.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tower_service::Service;

use super::answer::Refusal;
use super::arrival::{drain, take_in};
use super::host::Hosts;
use super::origin::{self, Origins};
use super::places::Place;
use super::turns::{Held, Turns};
use crate::metrics::Metrics;

/// Longest path with its query, in bytes.
const MAX_TARGET_BYTES: usize = 8 * 1024;

/// What every request passes.
pub(super) struct Gate {
    pub(super) router: Router,
    pub(super) hosts: Hosts,
    pub(super) origins: Origins,
    pub(super) turns: Turns,
    pub(super) metrics: Arc<Metrics>,
}

/// Who asks, as far as the connection tells.
pub(super) struct Client {
    pub(super) place: Arc<Place>,
    pub(super) peer: SocketAddr,
}

impl Gate {
    /// Answers a request, whatever it is.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        client: &Client,
    ) -> Result<Response<Held>, Infallible> {
        let place = &client.place;
        // Its body is still to come, or there is none; then this is over at once.
        place.wait();
        let checked = self.check(&request);
        let (page, checked) = match checked {
            Ok(page) => (page, Ok(())),
            Err(refusal) => (None, Err(refusal)),
        };
        let (mut response, holds) = match checked {
            Err(refusal) => (refuse(refusal, request.into_body()).await, [None, None]),
            Ok(()) if page.is_some() && origin::is_preflight(request.method(), request.headers()) => {
                (origin::preflight(), [None, None])
            }
            Ok(()) => self.work(request, place).await,
        };
        if let Some(page) = page {
            origin::show(&mut response, page);
        }
        Ok(response.map(|body| Held::new(body, holds, Arc::clone(place))))
    }

    /// Takes the body in, and a turn, and has it answered.
    async fn work(
        &self,
        request: Request<Incoming>,
        place: &Place,
    ) -> (Response<Body>, [Option<tokio::sync::OwnedSemaphorePermit>; 2]) {
        let (parts, body) = request.into_parts();
        let arrived = match take_in(body).await {
            Ok(arrived) => arrived,
            Err(refusal) => return (self.refused(refusal).response(true), [None, None]),
        };
        let turn = match self.turns.take(&parts.method, parts.uri.path()) {
            Ok(turn) => turn,
            Err(refusal) => return (self.refused(refusal).response(false), [None, None]),
        };
        place.work();
        let request = Request::from_parts(parts, Body::from(arrived.bytes));
        let Ok(response) = self.router.clone().call(request).await;
        (response, [Some(turn), arrived.room])
    }

    fn refused(&self, refusal: Refusal) -> Refusal {
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
            self.metrics.api_overloads.inc();
        }
        refusal
    }

    /// What is right or wrong before anything else is looked at. The answer is the page of others that asks, if one does.
    fn check(&self, request: &Request<Incoming>) -> Result<Option<axum::http::HeaderValue>, Refusal> {
        let (uri, headers) = (request.uri(), request.headers());
        let host = self.hosts.check(request.version(), uri, headers)?;
        let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > MAX_TARGET_BYTES {
            return Err(Refusal::new(
                StatusCode::URI_TOO_LONG,
                format!("the path and its query have {target} bytes; they can have {MAX_TARGET_BYTES}"),
            ));
        }
        self.origins.check(request.method(), headers, host.as_ref())
    }
}

async fn refuse(refusal: Refusal, body: Incoming) -> Response<Body> {
    let is_whole = drain(body).await;
    refusal.response(!is_whole)
}
