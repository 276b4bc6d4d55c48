//! What stands between a socket and the API: places for connections, limits, who may ask, and a good end.
//!
//! ```text
//! accept → a place → head → Host, Origin → who → body → a turn → the API → answer
//! ```
//!
//! **Invariant:** where there are tokens, nothing but `/healthz` and `/readyz` is answered without one.
//! **Invariant:** what a client sends or leaves out costs a bounded amount of memory and time, and never another client's turn for
//! long: whoever is waited for gives way when places run short.
//! **Absent here:** what an answer says. The API knows the documents; we know connections and requests.

mod answer;
mod arrival;
mod audit;
mod connection;
mod host;
mod origin;
mod places;
pub mod private;
mod request;
mod tls;
mod tokens;
mod turns;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::Api;
use crate::metrics::Metrics;

pub use self::audit::{Audit, AuditError};
use self::connection::Connections;
pub use self::host::{Hosts, NoHost};
pub use self::origin::{NoOrigin, Origins};
use self::places::Places;
use self::request::Gate;
pub use self::tls::{Tls, TlsError};
pub use self::tokens::{Role, Tokens, TokensError, make as make_token};
use self::turns::Turns;

/// Most connections at once, where the machine lets us have as many.
const MAX_CONNECTIONS: usize = 1024;
/// Connections that the machine holds until we accept them. With the usual 128, a burst makes others wait a second for their next try.
const BACKLOG: u32 = 4096;
/// What is asked of the machine: descriptors for connections, and for the links to nodes.
const WANTED_DESCRIPTORS: u64 = 65_536;
/// How long nothing is accepted after an accept failed, for want of descriptors most often.
const AFTER_A_FAILURE: Duration = Duration::from_millis(100);
/// How long what is being answered may take at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How the API is offered.
pub struct Edge {
    /// What answers those who may see secrets.
    pub api: Api,
    /// What answers those who may not.
    pub redacted: Api,
    /// Encrypts, if anything does.
    pub tls: Option<Arc<Tls>>,
    /// Who may ask; without it, everyone everything.
    pub tokens: Option<Arc<Tokens>>,
    /// Where changes are told, if anywhere.
    pub audit: Option<Arc<Audit>>,
    /// Under which names.
    pub hosts: Hosts,
    /// Which pages of others may ask.
    pub origins: Origins,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

/// A server that runs until it is told to end.
#[derive(Debug)]
pub struct Server {
    ending: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Accepts nothing more, lets go of who waits, and gives what is being answered a moment.
    pub async fn end(self) {
        self.ending.send_replace(true);
        // A panic of the loop has been told by the runtime.
        drop(self.task.await);
    }
}

impl Edge {
    /// Serves what connects to a listener. Within a runtime; who drops the answer lets it serve on.
    pub fn serve(self, listener: TcpListener) -> Server {
        let (ending, is_ending) = watch::channel(false);
        let room = room();
        let places = Places::new(room, Arc::clone(&self.metrics));
        let gate = Gate {
            api: self.api,
            redacted: self.redacted,
            tokens: self.tokens,
            audit: self.audit,
            hosts: self.hosts,
            origins: self.origins,
            turns: Turns::new(room),
            metrics: self.metrics,
        };
        let connections = Arc::new(Connections::new(gate, places, self.tls));
        Server { ending, task: tokio::spawn(accept(listener, connections, is_ending)) }
    }
}

/// Takes an address. Within a runtime.
///
/// # Errors
/// When it can't be had.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What is left of the connections of a server before us is in nobody's way.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(listener: TcpListener, connections: Arc<Connections>, mut is_ending: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut is_ending) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%error, "a client that vanishes will not be noticed");
                }
                connections.take(stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(AFTER_A_FAILURE).await;
            }
        }
    }
    drop(listener);
    connections.end(LAST_WORDS).await;
}

/// Waits for the word to end, for ever when there is nobody left to say it.
async fn told(is_ending: &mut watch::Receiver<bool>) {
    if is_ending.wait_for(|ending| *ending).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Has a client noticed that vanished without a word while it follows what has no end, such as a log; each holds a place.
/// And small answers are not held back until the one before was heard of.
fn prepare(connection: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_tcp_nodelay(connection, true)?;
    sockopt::set_tcp_keepidle(connection, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(connection, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(connection, 3)?;
    sockopt::set_socket_keepalive(connection, true)
}

/// How many connections there is room for: a quarter of the descriptors, for the links to nodes need theirs.
fn room() -> usize {
    usize::try_from(raise_file_limit() / 4).unwrap_or(usize::MAX).clamp(16, MAX_CONNECTIONS)
}

/// Takes what the machine grants without being asked, and says how many files can be open: the soft limit is 1024 nearly everywhere,
/// for the sake of programs that use `select`.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(WANTED_DESCRIPTORS);
    let granted = limit.current.unwrap_or(u64::MAX);
    if granted >= wanted {
        return granted;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, "no more than {granted} files can be open at once");
            granted
        }
    }
}
