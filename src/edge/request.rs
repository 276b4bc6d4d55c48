//! One request's way: what has to be right before it is answered, and what is kept meanwhile.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Refusal;
use super::arrival::{drain, take_in};
use super::audit::{Audit, Call};
use super::host::Hosts;
use super::origin::{self, Origins};
use super::places::Place;
use super::tokens::{self, Holder, Role, Tokens};
use super::turns::{Held, Turns};
use crate::api::Api;
use crate::clock::timestamp;
use crate::metrics::Metrics;
use crate::state::noted::{self, Noted};

/// Longest path with its query, in bytes.
const MAX_TARGET_BYTES: usize = 8 * 1024;

/// What every request passes.
pub(super) struct Gate {
    pub(super) api: Api,
    pub(super) redacted: Api,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) audit: Option<Arc<Audit>>,
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

/// What was found out about a request before it is answered.
struct Checked {
    /// The page of others that asks, if one does.
    page: Option<HeaderValue>,
    /// Whether a browser only asks whether that page may ask.
    is_preflight: bool,
}

/// What an answer holds until it has been handed on.
type Holds = [Option<OwnedSemaphorePermit>; 2];

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
        let (page, (response, holds)) = match self.check(&request) {
            Err(refusal) => (None, refuse(refusal, request.into_body()).await),
            Ok(Checked { page, is_preflight: true }) => (page, (origin::preflight(), Holds::default())),
            Ok(Checked { page, is_preflight: false }) => (page, self.admit(request, client).await),
        };
        let mut response = response;
        if let Some(page) = page {
            origin::show(&mut response, page);
        }
        Ok(response.map(|body| Held::new(body, holds, Arc::clone(place))))
    }

    /// What is right or wrong whoever asks.
    fn check(&self, request: &Request<Incoming>) -> Result<Checked, Refusal> {
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        let host = self.hosts.check(request.version(), uri, headers)?;
        let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
        if target > MAX_TARGET_BYTES {
            return Err(Refusal::new(
                StatusCode::URI_TOO_LONG,
                format!("the path and its query have {target} bytes; they can have {MAX_TARGET_BYTES}"),
            ));
        }
        let page = self.origins.check(method, headers, host.as_ref())?;
        let is_preflight = page.is_some() && origin::is_preflight(method, headers);
        Ok(Checked { page, is_preflight })
    }

    /// Looks at who asks, has it answered if he may, and tells of it where it could change something.
    async fn admit(&self, request: Request<Incoming>, client: &Client) -> (Response<Body>, Holds) {
        let (method, uri) = (request.method(), request.uri());
        let holder = match self.holder(&request) {
            Ok(holder) => holder,
            Err(refusal) => return refuse(refusal, request.into_body()).await,
        };
        // What it changes says who has called, and the audit log what it has changed.
        let noted = (!method.is_safe()).then(|| Noted::of(called(method, uri, holder.as_ref(), client.peer)));
        let call = self.audit.as_ref().zip(noted.clone()).map(|(audit, noted)| {
            let who = holder.as_ref().map(|holder| Arc::clone(&holder.name));
            Call::new(audit, who, client.peer, method, uri, noted)
        });
        let (response, holds) = match (self.api(&request, holder.as_ref()), noted) {
            (Err(refusal), _) => refuse(refusal, request.into_body()).await,
            (Ok(api), None) => self.work(request, api, &client.place).await,
            (Ok(api), Some(noted)) => noted.during(self.work(request, api, &client.place)).await,
        };
        if let Some(call) = call {
            call.end(response.status()).await;
        }
        (response, holds)
    }

    /// Who asks, where it matters.
    fn holder(&self, request: &Request<Incoming>) -> Result<Option<Holder>, Refusal> {
        match (&self.tokens, Role::needed(request.method(), request.uri().path())) {
            (Some(tokens), Some(_)) => tokens.holder(request.headers()).map(Some),
            (_, _) => Ok(None),
        }
    }

    /// What answers whoever asks, if he may.
    fn api(&self, request: &Request<Incoming>, holder: Option<&Holder>) -> Result<&Api, Refusal> {
        match (holder, Role::needed(request.method(), request.uri().path())) {
            (Some(holder), Some(needed)) => {
                tokens::check(holder, needed)?;
                Ok(if holder.role == Role::Admin { &self.api } else { &self.redacted })
            }
            (_, _) if self.tokens.is_some() => Ok(&self.redacted),
            (_, _) => Ok(&self.api),
        }
    }

    /// Takes the body in, and a turn, and has it answered.
    async fn work(&self, request: Request<Incoming>, api: &Api, place: &Place) -> (Response<Body>, Holds) {
        let (parts, body) = request.into_parts();
        let arrived = match take_in(body).await {
            Ok(arrived) => arrived,
            Err(refusal) => return (self.counted(refusal).response(true), Holds::default()),
        };
        let turn = match self.turns.take(&parts.method, parts.uri.path()) {
            Ok(turn) => turn,
            Err(refusal) => return (self.counted(refusal).response(false), Holds::default()),
        };
        place.work();
        let request = Request::from_parts(parts, Body::from(arrived.bytes));
        let response = api.answer(request).await;
        (response, [Some(turn), arrived.room])
    }

    fn counted(&self, refusal: Refusal) -> Refusal {
        if refusal.status == StatusCode::SERVICE_UNAVAILABLE {
            self.metrics.api_overloads.inc();
        }
        refusal
    }
}

/// A call as the objects that it changes tell of it.
fn called(method: &Method, uri: &Uri, holder: Option<&Holder>, peer: SocketAddr) -> noted::Call {
    noted::Call {
        who: holder.map(|holder| (holder.name.to_string(), holder.role.to_string())),
        peer: peer.ip().to_canonical().to_string(),
        method: method.to_string(),
        path: uri.path().to_owned(),
        at: timestamp(),
    }
}

/// A refusal, once what was sent with the request is out of the way.
async fn refuse(refusal: Refusal, body: Incoming) -> (Response<Body>, Holds) {
    let is_whole = drain(body).await;
    (refusal.response(!is_whole), Holds::default())
}
