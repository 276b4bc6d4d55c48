//! The embedded engine: a file on this machine's disk, and everything in memory.
//!
//! Reads never wait for writes: they take the published state, which is a persistent map. Writes go to one thread,
//! which gives as many as are waiting one durable commit. Watchers are woken by each publication and read the history
//! from where they were, so they can't lag so far that something is dropped without their being told.
//!
//! **Invariant:** an answer, a listing and a watch only ever tell what is durable.
//! **Invariant:** one process has the directory at a time.
//! **Invariant:** no key outlives the process that held its lease.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{oneshot, watch};

use self::leases::Leases;
pub use self::log::{Damage, Survey};
use self::log::{DirLock, Log};
use self::state::{EARLIER, State};
use self::writer::{Answer, Job, Writer};
use super::backup::{Backup, BackupError};
use super::{Changes, Kept, Lease, LeaseId, Listing, Revision, Store, StoreError, Txn, TxnReply, Watch};

mod leases;
mod log;
mod state;
mod writer;

/// A store in a directory of this machine. Dropping it waits for the writes that were called.
#[derive(Debug)]
pub struct Embedded {
    tip: watch::Receiver<Arc<State>>,
    commits: Arc<AtomicU64>,
    /// None only while being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    // Last, so that the directory is free only when the writer is done with it.
    _lock: DirLock,
}

impl Embedded {
    /// Opens the store in `dir`, making both if they are not there. Blocks while it reads the file (about 0.2 s for
    /// 100,000 keys).
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process has the directory, [`StoreError::Open`] when it can't be written, or when
    /// the file is damaged or of another format. It names the path and what to do.
    pub fn open(dir: &Path) -> Result<Embedded, StoreError> {
        let lock = log::take(dir)?;
        let mut log = Log::open(dir)?;
        let (mut state, dead) = log.load()?;
        log.upgrade()?;
        let ended = state.end_lease(EARLIER);
        if !ended.is_empty() {
            log.commit(&ended, None, &[]).map_err(|error| {
                StoreError::Open(format!("can't write to the store in {}: {error}", dir.display()))
            })?;
        }
        let (publish, tip) = watch::channel(Arc::new(state));
        let (jobs, queue) = mpsc::channel();
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            log,
            jobs: queue,
            tip: publish,
            commits: Arc::clone(&commits),
            dead: VecDeque::from(dead),
            leases: Leases::default(),
        };
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(|| writer.run())
            .map_err(|error| StoreError::Open(format!("can't start the store's thread: {error}")))?;
        Ok(Embedded { tip, commits, jobs: Some(jobs), writer: Some(writer), _lock: lock })
    }

    /// Durable commits since the store was opened. Fewer than transactions when writers shared some.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(closed)
    }

    /// Asks the store's thread. Not for a transaction, of which it has to be told when nobody knows what became of it.
    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreError> {
        let (answer, reply) = oneshot::channel();
        self.send(job(answer))?;
        reply.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Reads all of the store in a directory, which no other process may have, and says what is damaged.
///
/// # Errors
/// As [`Embedded::open`], but for damage; and when there is no store.
pub fn survey(dir: &Path) -> Result<Survey, StoreError> {
    if !dir.join("store.db").exists() {
        return Err(StoreError::Open(format!("there is no store in {}", dir.display())));
    }
    let _lock = log::take(dir)?;
    Ok(Log::open(dir)?.survey())
}

/// Makes a store out of a backup, in a directory that holds none. Revisions stay what they were, and either all is there
/// or nothing.
///
/// # Errors
/// [`BackupError::NotEmpty`]; or when the directory is in use or can't be written.
pub fn restore(dir: &Path, backup: &Backup) -> Result<(), BackupError> {
    let _lock = log::take(dir)?;
    log::restore(dir, backup)
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // If it panicked, its panic was printed and its callers were told.
            drop(writer.join());
        }
    }
}

impl Store for Embedded {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnReply, StoreError>> {
        Box::pin(async move {
            super::check(&txn)?;
            let (answer, reply) = oneshot::channel();
            self.send(Job::Txn(txn, answer))?;
            reply.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store's thread has ended".into())))
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Listing, StoreError>> {
        Box::pin(async move { published(&self.tip)?.list(prefix, at) })
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        Box::pin(async move {
            published(&self.tip)?;
            // Nothing happened before 2, so that asking for it is no reason to complain.
            let next = Some(from.max(2));
            Ok(Box::new(Cursor { tip: self.tip.clone(), prefix: prefix.to_owned(), next }) as Box<dyn Watch>)
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |answer| Job::Compact(revision, answer)))
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(self.ask(move |answer| Job::Grant(ttl, answer)))
    }

    fn keep_alive(&self, lease: Lease) -> BoxFuture<'_, Result<Kept, StoreError>> {
        Box::pin(self.ask(move |answer| Job::KeepAlive(lease.id, answer)))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |answer| Job::Revoke(lease, answer)))
    }
}

/// A watch: a place in the history.
struct Cursor {
    tip: watch::Receiver<Arc<State>>,
    prefix: String,
    /// The revision to look at next; None when the watch is over.
    next: Option<Revision>,
}

impl Cursor {
    async fn advance(&mut self, from: Revision) -> Result<Changes, StoreError> {
        let mut from = from;
        loop {
            // Marked as seen before it is read, so that what is published meanwhile wakes us.
            self.tip.mark_unchanged();
            let state = published(&self.tip)?;
            if let Some(changes) = state.changes(&self.prefix, from)? {
                self.next = Some(changes.revision + 1);
                return Ok(changes);
            }
            // What was looked at without a find may be compacted away without our being told.
            from = from.max(state.revision + 1);
            self.next = Some(from);
            drop(state);
            self.tip.changed().await.map_err(|_| closed())?;
        }
    }
}

impl Watch for Cursor {
    fn next(&mut self) -> BoxFuture<'_, Result<Changes, StoreError>> {
        Box::pin(async move {
            let Some(from) = self.next else {
                return Err(StoreError::Unavailable("this watch has ended; open a new one".into()));
            };
            let result = self.advance(from).await;
            if result.is_err() {
                self.next = None;
            }
            result
        })
    }
}

fn published(tip: &watch::Receiver<Arc<State>>) -> Result<Arc<State>, StoreError> {
    let state = Arc::clone(&tip.borrow());
    match &state.failed {
        Some(why) => Err(writer::unavailable(why)),
        // An error means that nobody publishes any more.
        None => tip.has_changed().map(|_| state).map_err(|_| closed()),
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}
