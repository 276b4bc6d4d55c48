//! One connection: HTTP/1.1 on it, with limits on what may come and on how long one waits for it.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::server::TlsStream;

use super::places::{Place, Places, Told};
use super::request::{Client, Gate};
use super::tls::Tls;

/// How long a request's head may take, and a connection may be idle: hyper has one clock for both. Longer than ureq keeps an idle one
/// (15 s), so that our own client does not meet one that is being closed.
const HEAD_TIME: Duration = Duration::from_secs(20);
/// Most that a request's head may have, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// How long a client may take nothing of what it is sent. Who follows a log in a pager that stands still goes on by himself.
const UNREAD_TIME: Duration = Duration::from_secs(120);

/// What all connections share.
pub(super) struct Connections {
    http: http1::Builder,
    gate: Gate,
    places: Arc<Places>,
    tls: Option<Arc<Tls>>,
}

impl Connections {
    pub(super) fn new(gate: Gate, places: Arc<Places>, tls: Option<Arc<Tls>>) -> Connections {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS);
        Connections { http, gate, places, tls }
    }

    /// Serves a connection, if there is a place for it.
    pub(super) fn take(self: &Arc<Connections>, stream: TcpStream, peer: SocketAddr) {
        let Some(place) = self.places.take() else { return };
        let connections = Arc::clone(self);
        let client = Client { place: Arc::new(place), peer };
        tokio::spawn(async move {
            match &connections.tls {
                None => connections.talk(stream, client).await,
                Some(tls) => {
                    if let Some(stream) = greet(tls, stream, &client).await {
                        connections.talk(stream, client).await;
                    }
                }
            }
        });
    }

    /// Ends all of them, in good order as long as they do it in time.
    pub(super) async fn end(&self, within: Duration) {
        self.places.end();
        // What is not done by then ends with the program.
        let _ = tokio::time::timeout(within, self.places.all_left()).await;
    }

    async fn talk(&self, stream: impl AsyncRead + AsyncWrite, client: Client) {
        let place: &Place = &client.place;
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(UNREAD_TIME));
        let stream = pin!(stream);
        let answer = service_fn(|request| self.gate.answer(request, &client));
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), answer));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            told = place.told() => match told {
                Told::Leave => return,
                Told::End => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            },
        };
        if let Err(error) = ended {
            // For who looks for it: what a client does to its own connection is no trouble of ours.
            tracing::debug!(peer = %client.peer, %error, "a connection broke off");
        }
    }
}

/// The beginning of TLS, which may take as long as a request's head.
async fn greet(tls: &Tls, stream: TcpStream, client: &Client) -> Option<TlsStream<TcpStream>> {
    let greeting = tokio::time::timeout(HEAD_TIME, tls.acceptor().accept(stream));
    let greeted = tokio::select! {
        greeted = greeting => greeted,
        _ = client.place.told() => return None,
    };
    match greeted {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(peer = %client.peer, %error, "no TLS with a client");
            None
        }
        Err(_) => None,
    }
}
