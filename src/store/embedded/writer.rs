//! The one thread that changes the embedded store.
//!
//! It takes all that waits in its queue, runs it against a copy of the state, makes the result durable with one
//! commit, publishes the copy, and only then answers. So the cost of the disk is shared by everyone who waits, and
//! nobody ever sees what could still be lost.
//!
//! **Invariant:** what is published is durable.
//! **Invariant:** after a failed commit nothing is answered any more but the failure; what the disk holds is then
//! only known after opening it again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::leases::Leases;
use super::log::Log;
use super::state::{Event, RowId, State};
use crate::store::{Kept, Lease, LeaseId, Revision, StoreError, Txn, TxnReply, Write};

/// Rows of a compaction that are deleted per commit, so that a large one does not hold up writers. Each commit also
/// deletes as many as it adds, so that cleaning up keeps pace.
const DEAD_PER_COMMIT: usize = 512;

/// Calls that share a commit at most.
const MAX_GROUP: usize = 4096;

/// Bytes after which a commit takes no more calls, so that the first of them does not wait for megabytes of others.
const MAX_GROUP_BYTES: usize = 8 * 1024 * 1024;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// One call.
pub(super) enum Job {
    Txn(Txn, Answer<TxnReply>),
    Compact(Revision, Answer<()>),
    Grant(Duration, Answer<Lease>),
    KeepAlive(LeaseId, Answer<Kept>),
    Revoke(LeaseId, Answer<()>),
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Job::Txn(txn, _) => txn.bytes(),
            Job::Compact(..) | Job::Grant(..) | Job::KeepAlive(..) | Job::Revoke(..) => 0,
        }
    }

    fn refuse(self, error: StoreError) {
        // Who no longer waits for the answer does not need it, here and below.
        match self {
            Job::Txn(_, answer) => drop(answer.send(Err(error))),
            Job::Compact(_, answer) | Job::Revoke(_, answer) => drop(answer.send(Err(error))),
            Job::Grant(_, answer) => drop(answer.send(Err(error))),
            Job::KeepAlive(_, answer) => drop(answer.send(Err(error))),
        }
    }
}

/// What to say once the commit has succeeded or failed.
enum Pending {
    Txn {
        answer: Answer<TxnReply>,
        reply: TxnReply,
        wrote: bool,
    },
    /// A compaction, or the end of a lease.
    Done {
        answer: Answer<()>,
        reply: Result<(), StoreError>,
    },
}

/// The thread's own state.
pub(super) struct Writer {
    pub(super) log: Log,
    pub(super) jobs: Receiver<Job>,
    pub(super) tip: watch::Sender<Arc<State>>,
    pub(super) commits: Arc<AtomicU64>,
    /// Rows that a compaction has left to delete, in the order in which they have to go.
    pub(super) dead: VecDeque<RowId>,
    /// The leases that are held.
    pub(super) leases: Leases,
}

impl Writer {
    /// Serves until every sender is gone and the queue is empty.
    pub(super) fn run(mut self) {
        while let Some(group) = self.gather() {
            let failed = self.tip.borrow().failed.clone();
            match failed {
                Some(why) => group.into_iter().for_each(|job| job.refuse(unavailable(&why))),
                None => self.serve(group),
            }
        }
    }

    /// Waits for a call and takes all that are there. Empty when there is only cleaning up to do, or a lease to end; None at the
    /// end.
    fn gather(&mut self) -> Option<Vec<Job>> {
        let mut group = Vec::new();
        let first = if let (true, Some(end)) = (self.dead.is_empty(), self.leases.next_end()) {
            match self.jobs.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => return Some(group),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        } else if self.dead.is_empty() {
            self.jobs.recv().ok()?
        } else {
            match self.jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Empty) => return Some(group),
                Err(TryRecvError::Disconnected) => return None,
            }
        };
        let mut bytes = first.bytes();
        group.push(first);
        while group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES {
            let Ok(job) = self.jobs.try_recv() else { break };
            bytes += job.bytes();
            group.push(job);
        }
        Some(group)
    }

    fn serve(&mut self, group: Vec<Job>) {
        let mut state = State::clone(&self.tip.borrow());
        let before = state.oldest;
        let mut events: Vec<Arc<[Event]>> = Vec::new();
        let mut pending = Vec::with_capacity(group.len());
        let now = Instant::now();
        for lease in self.leases.expire(now) {
            events.extend(state.end_lease(lease));
        }
        for job in group {
            match job {
                Job::Txn(txn, answer) => {
                    let (reply, written) = self.run_txn(&mut state, txn);
                    pending.push(Pending::Txn { answer, reply, wrote: !written.is_empty() });
                    events.push(written);
                }
                // A lease is this process's, so there is nothing to make durable.
                Job::Grant(ttl, answer) => drop(answer.send(Ok(self.leases.grant(ttl, now)))),
                Job::KeepAlive(lease, answer) => drop(answer.send(Ok(self.leases.keep(lease, now)))),
                Job::Revoke(lease, answer) => {
                    self.leases.end(lease);
                    events.extend(state.end_lease(lease));
                    pending.push(Pending::Done { answer, reply: Ok(()) });
                }
                Job::Compact(revision, answer) => {
                    let reply = state.compact(revision).map(|dead| self.dead.extend(dead));
                    pending.push(Pending::Done { answer, reply });
                }
            }
        }
        if let Some(revision) = state.overgrown()
            && let Ok(dead) = state.compact(revision)
        {
            self.dead.extend(dead);
        }
        let added: usize = events.iter().map(|events| events.len()).sum();
        let dead: Vec<RowId> = self.dead.drain(..self.dead.len().min(DEAD_PER_COMMIT + added)).collect();
        let oldest = (state.oldest != before).then_some(state.oldest);

        if added > 0 || oldest.is_some() || !dead.is_empty() {
            match self.log.commit(&events, oldest, &dead) {
                Ok(()) => drop(self.commits.fetch_add(1, Ordering::Relaxed)),
                Err(error) => return self.poison(pending, &error.to_string()),
            }
            self.tip.send_replace(Arc::new(state));
        }
        for pending in pending {
            match pending {
                Pending::Txn { answer, reply, .. } => drop(answer.send(Ok(reply))),
                Pending::Done { answer, reply } => drop(answer.send(reply)),
            }
        }
    }

    /// Runs a transaction, unless it puts a key under a lease that has ended.
    fn run_txn(&self, state: &mut State, txn: Txn) -> (TxnReply, Arc<[Event]>) {
        let has_ended =
            |write: &Write| matches!(write, Write::PutLeased(_, _, lease) if !self.leases.is_held(*lease));
        if txn.then.iter().any(has_ended) {
            return (TxnReply { succeeded: false, revision: state.revision }, Arc::new([]));
        }
        state.run(txn)
    }

    /// What was in the failed commit may be on the disk or not, and SQLite's own view of it can't be trusted: stop.
    fn poison(&mut self, pending: Vec<Pending>, why: &str) {
        self.dead.clear();
        self.leases = Leases::default();
        let why: Arc<str> = format!("a write to the disk failed: {why}").into();
        self.tip.send_modify(|tip| {
            let mut failed = State::clone(tip);
            failed.failed = Some(Arc::clone(&why));
            *tip = Arc::new(failed);
        });
        for pending in pending {
            match pending {
                Pending::Txn { answer, wrote: true, .. } => {
                    drop(answer.send(Err(StoreError::Unknown(why.to_string()))));
                }
                Pending::Txn { answer, .. } => drop(answer.send(Err(unavailable(&why)))),
                Pending::Done { answer, .. } => drop(answer.send(Err(unavailable(&why)))),
            }
        }
    }
}

/// What a poisoned store answers.
pub(super) fn unavailable(why: &str) -> StoreError {
    StoreError::Unavailable(format!("{why}; see to the disk, then restart mainstay"))
}
