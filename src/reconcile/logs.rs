//! Reads processes' logs where they are written: over the connection that the node's task has open, in a channel beside it.
//! Whoever follows a log goes on where it was when the connection is back.
//!
//! **Invariant:** what is read is handed on before more is asked for: a reader that does not take it holds back the node, and
//! nothing piles up here.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::connected::Connected;
use super::observed::{LinkState, Observed};
use crate::model::meta::Key;
use crate::node::link::LinkError;
use crate::node::log::Reading;
pub use crate::node::log::{NoPosition, Piece, Position, Start};
use crate::state::State;

/// How many logs of one node are followed at once. An sshd grants ten channels a connection; one is the conversation, and some
/// are left for what ends by itself.
const FOLLOWED_AT_ONCE: usize = 6;

/// How many logs of one node are read at once, besides those that are followed.
const READ_AT_ONCE: usize = 2;

/// How long a reading waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// How long a log may be silent before that is told.
const SILENCE: Duration = Duration::from_secs(15);

/// First and longest wait before a log is opened again.
const REOPEN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why a log can't be read now.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no connection to its node.
    #[error("{node} is not connected, so its logs can't be read: {why}")]
    NotConnected {
        /// The node.
        node: String,
        /// How the link is.
        why: String,
    },
    /// Too many are read.
    #[error("too many logs of {node} are being read: {limit} at once; end one, or try again")]
    Busy {
        /// The node.
        node: String,
        /// How many may be.
        limit: usize,
    },
    /// The node did not do it.
    #[error("{node} does not give the log")]
    Refused {
        /// The node.
        node: String,
        /// Why.
        #[source]
        source: LinkError,
    },
}

/// Opens the logs of processes on nodes that are connected.
#[derive(Clone)]
pub struct Logs {
    state: Arc<State>,
    observed: Observed,
    connected: Connected,
    turns: Arc<Mutex<TurnsOfNodes>>,
}

/// Of those nodes whose logs are being read.
type TurnsOfNodes = BTreeMap<(String, String), Arc<Turns>>;

/// How many logs of a node may be read at once.
struct Turns {
    following: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

/// A place among those that read a node's logs.
struct Turn {
    _permit: OwnedSemaphorePermit,
    /// Held, so that the count is kept for as long as somebody reads.
    _turns: Arc<Turns>,
}

impl Logs {
    /// Logs of the processes of this state, over these connections.
    pub fn new(state: Arc<State>, observed: Observed, connected: Connected) -> Logs {
        Logs { state, observed, connected, turns: Arc::default() }
    }

    /// Starts to read the log of a process on a node. Once it has begun, following survives that the connection is lost.
    ///
    /// # Errors
    /// When it can't be read now.
    pub async fn open(
        &self,
        process: Key,
        node: &str,
        start: &Start,
        follow: bool,
    ) -> Result<Following, LogError> {
        let node = (process.namespace.clone(), node.to_owned());
        if self.connected.reach(&node).is_none() {
            return Err(self.not_connected(&node));
        }
        let turn = self.turn(&node, follow).await?;
        let reading = self.reading(&process, &node, start, follow).await?;
        let log = Following {
            at: reading.at().clone(),
            logs: self.clone(),
            process,
            node,
            follow,
            is_told: false,
            reading: Some(reading),
            _turn: turn,
        };
        Ok(log)
    }

    async fn reading(
        &self,
        process: &Key,
        node: &(String, String),
        start: &Start,
        follow: bool,
    ) -> Result<Reading, LogError> {
        let Some(reach) = self.connected.reach(node) else { return Err(self.not_connected(node)) };
        Reading::open(&*reach.sides, &reach.root, &process.name, start, follow)
            .await
            .map_err(|source| LogError::Refused { node: named(node), source })
    }

    fn not_connected(&self, node: &(String, String)) -> LogError {
        let why = match self.observed.node(&node.0, &node.1).map(|view| view.link.clone()) {
            Some(LinkState::Down { message, .. }) => message,
            Some(LinkState::Connecting | LinkState::Connected { .. }) | None => {
                "it is being connected".into()
            }
        };
        LogError::NotConnected { node: named(node), why }
    }

    async fn turn(&self, node: &(String, String), follow: bool) -> Result<Turn, LogError> {
        let turns = {
            let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, turns| Arc::strong_count(turns) > 1);
            Arc::clone(all.entry(node.clone()).or_insert_with(|| {
                Arc::new(Turns {
                    following: Arc::new(Semaphore::new(FOLLOWED_AT_ONCE)),
                    reading: Arc::new(Semaphore::new(READ_AT_ONCE)),
                })
            }))
        };
        let permit = if follow {
            Arc::clone(&turns.following).try_acquire_owned().ok()
        } else {
            let turn = timeout(TURN_WITHIN, Arc::clone(&turns.reading).acquire_owned()).await;
            turn.ok().and_then(Result::ok)
        };
        match permit {
            Some(permit) => Ok(Turn { _permit: permit, _turns: turns }),
            None => Err(LogError::Busy {
                node: named(node),
                limit: if follow { FOLLOWED_AT_ONCE } else { READ_AT_ONCE },
            }),
        }
    }

    /// Waits until a process has no document any more.
    async fn gone(&self, process: &Key) {
        let mut changes = self.state.changes();
        let _ = changes.wait_for(|snapshot| snapshot.documents.get(process).is_none()).await;
    }
}

/// `IN1/ND1`.
fn named(node: &(String, String)) -> String {
    format!("{}/{}", node.0, node.1)
}

/// A log that is being read. Dropped, it ends on the node too.
pub struct Following {
    logs: Logs,
    process: Key,
    node: (String, String),
    follow: bool,
    /// Whether it was told where it begins.
    is_told: bool,
    at: Position,
    reading: Option<Reading>,
    _turn: Turn,
}

impl Following {
    /// The next piece; none at the end, which a log that is followed has only when its process is removed. The first piece is
    /// empty, and so is one now and then while there is nothing to read.
    ///
    /// # Errors
    /// When the connection was lost and the log is not followed.
    pub async fn next(&mut self) -> Option<Result<Piece, LogError>> {
        if !self.is_told {
            self.is_told = true;
            return Some(Ok(self.silence()));
        }
        let (logs, process) = (self.logs.clone(), self.process.clone());
        let gone = pin!(logs.gone(&process));
        match select(pin!(self.piece()), gone).await {
            Either::Left((piece, _)) => piece,
            Either::Right(((), _)) => None,
        }
    }

    fn silence(&self) -> Piece {
        Piece { at: self.at.clone(), bytes: Vec::new() }
    }

    async fn piece(&mut self) -> Option<Result<Piece, LogError>> {
        let mut pause = REOPEN.0;
        loop {
            let failed = match &mut self.reading {
                Some(reading) => match reading.next().await {
                    Ok(None) => return None,
                    Ok(Some(piece)) => {
                        self.at = reading.at().clone();
                        return Some(Ok(piece));
                    }
                    Err(source) => LogError::Refused { node: named(&self.node), source },
                },
                None => {
                    if timeout(SILENCE, self.logs.connected.wait_for(&self.node)).await.is_err() {
                        return Some(Ok(self.silence()));
                    }
                    let start = Start::At(self.at.clone());
                    match self.logs.reading(&self.process, &self.node, &start, true).await {
                        Ok(reading) => {
                            self.reading = Some(reading);
                            continue;
                        }
                        Err(error) => error,
                    }
                }
            };
            if !self.follow {
                return Some(Err(failed));
            }
            tracing::debug!(process = %self.process, error = &failed as &dyn std::error::Error, "its log is opened again");
            self.reading = None;
            // The connection may be told of for a moment after it was lost.
            sleep(pause).await;
            pause = (pause * 2).min(REOPEN.1);
        }
    }
}
