//! What only the leader can answer is sent on to it, so that one may ask any server.
//!
//! Only the leader sees nodes and speaks with them. So requests for what was seen, and for what is done on a node, go there;
//! documents are read and written by whoever is asked. While nobody leads, such a request waits for about as long
//! as it takes to elect somebody.
//!
//! **Invariant:** a request is sent on once at most. Who gets one that was sent on, and does not lead, says so.
//! **Invariant:** what may have been done is not sent again.
//! **Invariant:** who asks is decided by the leader, too: it gets what the client has shown, and nothing is added.
//! **Absent here:** a choice of the target: it is the address in the leader's key. TLS.

use std::io;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, HOST, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RETRY_AFTER, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Context;
use super::body::MAX_BODY_BYTES;
use super::error::Error;
use crate::reconcile::leadership::{Role, Standing};
use crate::state::leader::Leader;

/// The paths that only the leader can answer; all methods of theirs.
const LEADERS: [&str; 29] = [
    "/1.0/events",
    "/1.0/explain/instances/{id}",
    "/1.0/explain/instances/{instance}/nodes/{id}",
    "/1.0/explain/instances/{instance}/services/{id}",
    "/1.0/explain/processes/{id}",
    "/1.0/instances/{instance}/nodes/{id}/cordon",
    "/1.0/instances/{instance}/nodes/{id}/drain",
    "/1.0/instances/{instance}/nodes/{id}/forget",
    "/1.0/instances/{instance}/nodes/{id}/ping",
    "/1.0/instances/{instance}/nodes/{id}/status",
    "/1.0/instances/{instance}/nodes/{id}/trust",
    "/1.0/instances/{instance}/nodes/{id}/uncordon",
    "/1.0/instances/{instance}/services/start",
    "/1.0/instances/{instance}/services/status",
    "/1.0/instances/{instance}/services/stop",
    "/1.0/instances/{instance}/services/{id}/pause",
    "/1.0/instances/{instance}/services/{id}/restart",
    "/1.0/instances/{instance}/services/{id}/resume",
    "/1.0/instances/{instance}/services/{id}/rollback",
    "/1.0/instances/{instance}/services/{id}/rollout",
    "/1.0/instances/{instance}/services/{id}/start",
    "/1.0/instances/{instance}/services/{id}/status",
    "/1.0/instances/{instance}/services/{id}/stop",
    "/1.0/processes/{id}/logs",
    "/1.0/processes/{id}/start",
    "/1.0/processes/{id}/status",
    "/1.0/processes/{id}/stop",
    "/apply",
    "/diff",
];

/// Says that a request was sent on, and by whom.
pub(super) static SENT_ON: HeaderName = HeaderName::from_static("mainstay-sent-on-by");

/// Headers that are between two neighbours, and not for who is behind them.
static HOPS: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// From this age on a snapshot is said to be old. Younger ones are no older than what a store that is well may take to tell.
pub(super) const STALE: Duration = Duration::from_secs(5);

/// How long a connection to the leader is kept idle: for less than the leader's edge keeps it, so that nothing is sent on one
/// that is being closed.
const IDLE_FOR: Duration = Duration::from_secs(10);

/// How long a connection to the leader may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How much longer than its lease a leader that is gone is waited for: the store ends the lease a little later, and then one
/// is elected.
const ELECTED_WITHIN: Duration = Duration::from_secs(2);

/// Pause before a leader that can't be reached, and is not known to be gone, is tried again.
const AGAIN: Duration = Duration::from_millis(100);

/// How long the leader may take to say how things stand.
const PAGE_WITHIN: Duration = Duration::from_secs(5);

/// Asks other servers.
#[derive(Clone)]
pub(super) struct Forwarder(Client<HttpConnector, Body>);

impl Default for Forwarder {
    fn default() -> Forwarder {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        connector.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        Forwarder(client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_FOR).build(connector))
    }
}

/// Why there is no answer of the leader's.
enum Missed {
    /// It never got the request.
    NotReached(String),
    /// It may have got it.
    NotAnswered(String),
}

impl Forwarder {
    /// What the leader says of itself, for the page of another server.
    pub(super) async fn page(
        &self,
        path: &'static str,
        asked: &HeaderMap,
        mut standing: Standing,
        leader: &Leader,
    ) -> Option<Value> {
        let (mut parts, ()) = Request::builder().uri(path).body(()).ok()?.into_parts();
        parts.headers.extend(asked.get(AUTHORIZATION).map(|shown| (AUTHORIZATION, shown.clone())));
        let answer = async {
            let response = self.ask(&parts, &[], &mut standing, leader).await.ok()?;
            let body = response.into_body().collect().await.ok()?;
            serde_json::from_slice(&body.to_bytes()).ok()
        };
        timeout(PAGE_WITHIN, answer).await.ok()?
    }

    /// Asks the leader, until it is known to be no longer the leader.
    async fn ask(
        &self,
        parts: &Parts,
        body: &[u8],
        standing: &mut Standing,
        leader: &Leader,
    ) -> Result<Response<Incoming>, Missed> {
        let Some(address) = &leader.address else {
            let why =
                "the leader has not said where it can be reached without TLS; start it with --advertise URL";
            return Err(Missed::NotReached(why.into()));
        };
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri: Uri = format!("{address}{path}").parse().map_err(|error| {
            Missed::NotReached(format!("the leader can't be reached at {address:?}: {error}"))
        })?;
        let mut request = Request::new(Body::from(body.to_vec()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = passed_on(&parts.headers);
        // The page in a browser, if one asks, was looked at here: only we know by which name it asked.
        for name in [HOST, ORIGIN] {
            request.headers_mut().remove(name);
        }
        let own = HeaderValue::from_str(&standing.candidate().server);
        request
            .headers_mut()
            .insert(SENT_ON.clone(), own.unwrap_or_else(|_| HeaderValue::from_static("another")));
        let asked = self.0.request(request);
        tokio::select! {
            answer = asked => answer.map_err(|error| {
                let said = format!("the leader, {address}, does not answer: {}", super::error::with_causes(&error));
                if error.is_connect() { Missed::NotReached(said) } else { Missed::NotAnswered(said) }
            }),
            () = replaced(standing, leader) => {
                Err(Missed::NotAnswered(format!("the leader, {address}, was replaced before it answered")))
            }
        }
    }
}

/// Where a request is answered.
pub(super) enum Way {
    /// It was, elsewhere, or can't be.
    Answered(Response),
    /// By this server.
    Here(Request),
}

/// Sends on to the leader what only it can answer.
pub(super) async fn to_leader(context: &Context, request: Request) -> Way {
    let is_leaders = is_leaders(request.uri().path()) && !wants_own(request.uri());
    if !is_leaders || matches!(context.standing.role(), Role::Leads(_)) {
        return Way::Here(request);
    }
    sent_on(context, request).await.unwrap_or_else(|why| {
        let mut response = Error::Unavailable(why).into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        Way::Answered(response)
    })
}

/// Compares as the router does: word for word, as they are written.
fn is_leaders(path: &str) -> bool {
    let is_at = |pattern: &str| {
        let mut words = path.split('/');
        let fits = pattern.split('/').all(|wanted| {
            words
                .next()
                .is_some_and(|word| if wanted.starts_with('{') { !word.is_empty() } else { word == wanted })
        });
        fits && words.next().is_none()
    };
    // Documents are shown with what is observed of them.
    path.starts_with(super::objects::ROOT) || LEADERS.iter().any(|pattern| is_at(pattern))
}

/// Each server has events of its own, and can be asked for those.
fn wants_own(uri: &Uri) -> bool {
    uri.path() == "/1.0/events"
        && uri.query().is_some_and(|query| query.split('&').any(|it| it == "own=true"))
}

async fn sent_on(context: &Context, request: Request) -> Result<Way, String> {
    if request.headers().contains_key(&SENT_ON) {
        return Err("this server does not lead, or no longer; ask again".into());
    }
    let mut standing = context.standing.clone();
    let deadline = Instant::now() + standing.lease() + ELECTED_WITHIN;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| error.to_string())?;
    let mut why = "no server leads now, so nobody sees the nodes; what runs there goes on".to_owned();
    loop {
        // Without the store nobody can be elected.
        let wait = if context.state.age() >= STALE { Instant::now() } else { deadline };
        let leader = match timeout_at(wait, standing.settled()).await {
            Ok(Role::Leads(_)) => return Ok(Way::Here(Request::from_parts(parts, Body::from(body)))),
            Ok(Role::Follows(leader)) => leader,
            Ok(Role::Nobody) | Err(_) => return Err(why),
        };
        match context.forwarder.ask(&parts, &body, &mut standing, &leader).await {
            Ok(response) => return Ok(Way::Answered(passed_back(response, standing, leader))),
            Err(Missed::NotReached(said)) => why = said,
            Err(Missed::NotAnswered(said)) if is_safe(&parts.method) => why = said,
            Err(Missed::NotAnswered(said)) => {
                return Err(format!("{said}; it may have been done, look and ask again"));
            }
        }
        if Instant::now() >= deadline {
            return Err(why);
        }
        tokio::select! {
            () = sleep(AGAIN) => {}
            () = replaced(&mut standing, &leader) => {}
        }
    }
}

/// Whether asking twice is the same as asking once.
fn is_safe(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}

/// Waits until this one does not lead any more.
async fn replaced(standing: &mut Standing, leader: &Leader) {
    while matches!(standing.role(), Role::Follows(now) if now.term() == leader.term()) {
        standing.changed().await;
    }
}

/// An answer of the leader's, as it comes. What has no end, such as a log, is broken off when it leads no longer.
fn passed_back(response: Response<Incoming>, standing: Standing, leader: Leader) -> Response {
    let (mut parts, body) = response.into_parts();
    parts.headers = passed_on(&parts.headers);
    let stream = unfold(Some((body, standing, leader)), |state| async {
        let (mut body, mut standing, leader) = state?;
        loop {
            let frame = tokio::select! {
                frame = body.frame() => frame?,
                () = replaced(&mut standing, &leader) => {
                    return Some((Err(io::Error::other("the leader was replaced")), None));
                }
            };
            return match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => Some((Ok(data), Some((body, standing, leader)))),
                // Trailers are between neighbours.
                Ok(Err(_)) => continue,
                Err(error) => Some((Err(io::Error::other(error)), None)),
            };
        }
    });
    Response::from_parts(parts, Body::from_stream(stream))
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut passed = headers.clone();
    // Named by the header that says which others there are.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOPS) {
        passed.remove(name);
    }
    passed.remove("keep-alive");
    passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_between_neighbours_stay_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("accept", "*/*"),
            ("keep-alive", "5"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert_eq!(passed_on(&headers).keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn what_needs_the_nodes_is_the_leaders_and_documents_are_everybodys() {
        for path in [
            "/1.0/events",
            "/1.0/instances/IN1/nodes/ND1/ping",
            "/1.0/instances/IN1/services/start",
            "/1.0/instances/IN1/services/SV1/status",
            "/1.0/processes/x/logs",
        ] {
            assert!(is_leaders(path), "{path}");
        }
        for path in [
            "/1.0/events/",
            "/1.0/instances/IN1",
            "/1.0/instances/IN1/nodes/start",
            "/1.0/instances/IN1/nodes/ND1",
            "/1.0/instances//services/start",
            "/1.0/instances/IN1/services/SV1",
            "/1.0/instances/IN1/services/SV1/processes",
            "/1.0/instances/IN1/tenants",
            "/1.0/tenants/t/instance",
            "/1.0/users/u/client-secret",
            "/1.0/processes",
            "/store/backup",
            "/status",
            "/metrics",
        ] {
            assert!(!is_leaders(path), "{path}");
        }
    }

    #[test]
    fn only_ones_own_events_are_asked_for_as_such() {
        let own = |uri: &'static str| wants_own(&Uri::from_static(uri));
        assert!(own("/1.0/events?own=true"));
        assert!(!own("/1.0/events") && !own("/1.0/processes/a/status?own=true"));
    }
}
