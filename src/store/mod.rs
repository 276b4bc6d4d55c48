//! The store: ordered keys under one global revision, durable when acknowledged.
//!
//! One trait, two engines that pass the same contract suite (`tests/store_contract.rs`): [`embedded`] for one
//! machine, [`etcd`] for many. The vocabulary is etcd's (revision, compare-and-set transaction, watch,
//! compaction), because that is what both engines and the people who run them already speak.
//!
//! **Invariant:** a conflict is an answer ([`TxnReply::succeeded`] is false), never an error.
//! **Invariant:** an `Err` of [`StoreError::Unknown`] may have been applied; the caller reads again before it acts.
//! **Invariant:** a watch from a listing's revision + 1 continues that listing without gap or repeat.
//! **Absent here:** documents (this module moves bytes), retries of writes, and who leads: leases are what an election
//! is made of.

use std::time::Duration;

use futures_util::future::BoxFuture;

pub mod backup;
pub mod embedded;
pub mod etcd;
#[cfg(test)]
pub(crate) mod over;

/// A point in the store's history. A new embedded store is at 1, and each transaction that writes adds one. On an
/// etcd that others use as well, it starts where that etcd is, and others' writes leave gaps: compare revisions,
/// never count with them.
pub type Revision = u64;

/// Largest number of operations in one transaction, on both engines: etcd's default `--max-txn-ops`, less the one that
/// makes a write recognisable there (`etcd/mark.rs`).
pub const MAX_TXN_OPS: usize = 127;

/// No key begins with this: the engines may keep keys of their own there, which no listing and no watch shows.
pub(crate) const HIDDEN: char = '\0';

/// Largest key or value in bytes, on both engines (below etcd's default request limit of 1.5 MiB).
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;

/// Largest sum of all keys and values of one transaction in bytes, compares included, on both engines. The rest of
/// etcd's 1.5 MiB is left to the framing and to the prefix of each key.
pub const MAX_TXN_BYTES: usize = 1280 * 1024;

/// One key with its value and history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The key: non-empty UTF-8.
    pub key: String,
    /// The value; may be empty.
    pub value: Vec<u8>,
    /// Revision that made the key (again, after a delete).
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key's last write was at exactly this revision. Revision 0 means that the key does not exist.
    ModRevision(String, Revision),
    /// The key was made at exactly this revision, and has not been away since. Revision 0 means that it does not exist.
    CreateRevision(String, Revision),
    /// The key exists and holds exactly this value. False for a missing key, even for an empty value.
    Value(String, Vec<u8>),
}

/// A write of a transaction. A key may appear in at most one write of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Set the key, making it if it does not exist. Writing the value it already has is still a write. The key is under no
    /// lease from then on.
    Put(String, Vec<u8>),
    /// The same, and the key goes when this lease ends. Under a lease that has ended, the transaction does not succeed, as
    /// if a condition did not hold.
    PutLeased(String, Vec<u8>, LeaseId),
    /// Remove the key. Removing a key that does not exist changes nothing, not even the revision.
    Delete(String),
}

/// All of `when` must hold, then all of `then` happens at one revision; otherwise nothing does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// Conditions, joined by "and". Empty: always.
    pub when: Vec<Compare>,
    /// Writes, applied in order at one revision.
    pub then: Vec<Write>,
}

impl Compare {
    fn part(&self) -> (&str, usize) {
        match self {
            Compare::Absent(key) | Compare::ModRevision(key, _) | Compare::CreateRevision(key, _) => (key, 0),
            Compare::Value(key, value) => (key, value.len()),
        }
    }
}

impl Write {
    fn part(&self) -> (&str, usize) {
        match self {
            Write::Put(key, value) | Write::PutLeased(key, value, _) => (key, value.len()),
            Write::Delete(key) => (key, 0),
        }
    }
}

impl Txn {
    /// Each key, with the size of the value that stands with it.
    fn parts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.when.iter().map(Compare::part).chain(self.then.iter().map(Write::part))
    }

    /// Sum of all keys and values.
    fn bytes(&self) -> usize {
        self.parts().map(|(key, value)| key.len() + value).sum()
    }
}

/// Names a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseId(pub u64);

/// A lease: who holds it is there, for as long as it is kept alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub id: LeaseId,
    /// How long it lasts from each time that it is kept alive; at least what was asked for.
    pub ttl: Duration,
}

/// Whether a lease was kept alive.
#[must_use = "a lease that has ended is an answer"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It lasts for its whole time again.
    Alive,
    /// It has ended, or never was.
    Gone,
}

/// What became of a transaction.
#[must_use = "a conflict is an answer: look at `succeeded`"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TxnReply {
    /// False when a condition did not hold; then nothing was written.
    pub succeeded: bool,
    /// The store's revision after the transaction.
    pub revision: Revision,
}

/// A consistent reading of a prefix at one revision, ordered by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The keys under the prefix, ordered bytewise.
    pub items: Vec<Item>,
    /// The revision that was read: `at`, or else the newest. A watch from `revision + 1` misses nothing and repeats nothing.
    pub revision: Revision,
}

/// One key's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The key was made or set.
    Put(Item),
    /// The key was removed, at this revision.
    Delete {
        /// The key that is gone.
        key: String,
        /// When it went.
        mod_revision: Revision,
    },
}

/// All changes of one revision under the watched prefix, in the order of the transaction's writes. Never split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The revision of the transaction.
    pub revision: Revision,
    /// At least one change.
    pub changes: Vec<Change>,
}

/// A running watch.
pub trait Watch: Send {
    /// The next revision that touched the prefix, in order, without gap or repeat.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when history before `from` is gone: list again and watch from there.
    /// [`StoreError::Unavailable`] when the engine is gone; open a new watch from the last seen revision + 1.
    /// After an error the watch is over, and asking again answers `Unavailable`. Cancel safe: a dropped call loses
    /// nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Changes, StoreError>>;
}

/// A durable ordered map with history.
pub trait Store: Send + Sync + 'static {
    /// Runs a transaction. When this answers, the writes survive `kill -9` and power loss. A transaction without
    /// writes is a check of its conditions, as fresh as a read. A dropped call may still happen.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for more than [`MAX_TXN_OPS`] compares or writes, a key or value above
    /// [`MAX_VALUE_BYTES`], a sum above [`MAX_TXN_BYTES`], an empty key or one that begins with a zero byte, or a key
    /// written twice; nothing was written then. [`StoreError::Unknown`] when the outcome can't be told.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnReply, StoreError>>;

    /// Reads every key that starts with `prefix` (all keys for an empty one), now or as of revision `at`.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`] when `at` is out of the history, [`StoreError::Invalid`] for
    /// revision 0, which never was.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Listing, StoreError>>;

    /// Watches every key that starts with `prefix`, from revision `from` on, history included. A `from` in the future
    /// waits for it; 0 and 1 mean all history there ever was, since nothing happened before 2.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]. A `from` that is not above the oldest readable revision is told as
    /// [`StoreError::Compacted`] by the first [`Watch::next`]: a compaction keeps the state of its revision, but not
    /// always the changes that led to it.
    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>>;

    /// Forgets history before `revision`, which becomes the oldest readable one: reads below it and watches not above
    /// it answer [`StoreError::Compacted`]. Doing it again changes nothing. On etcd this is the whole cluster's
    /// history, other users' included.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when already compacted beyond it, [`StoreError::Future`] when it is not there yet,
    /// [`StoreError::Invalid`] for revision 0.
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Grants a lease. It ends when it is not kept alive for its time to live, when it is revoked, and on the embedded engine
    /// with the process; all keys under it are removed then, in one revision. It may end later than its time, never
    /// earlier. etcd rounds up to seconds, and to its own least, two with its defaults.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; there may be a lease then that nobody knows of, which ends by itself.
    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>>;

    /// Has a lease last for its whole time again, counted from a moment between this call and its answer. Gives up after a
    /// third of that time, so that there is time for another try.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it may have been kept alive or not.
    fn keep_alive(&self, lease: Lease) -> BoxFuture<'_, Result<Kept, StoreError>>;

    /// Ends a lease, and its keys. Doing it again, or to one that never was, changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it may have ended or not.
    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The history before `oldest` is gone.
    #[error("history before revision {oldest} was compacted; list again")]
    Compacted {
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// A revision that the store has not reached.
    #[error("revision {asked} is in the future; the store is at {current}")]
    Future {
        /// What was asked for.
        asked: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// The call can never succeed as it is; nothing was written.
    #[error("refused: {0}")]
    Invalid(String),
    /// The engine can't be reached or has failed; nothing was written by this call.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// There is no room; nothing was written by this call.
    #[error(
        "the store has no room left: {0}; compact and defragment etcd, then disarm its alarm (etcdctl alarm disarm)"
    )]
    NoSpace(String),
    /// Too few of etcd's members are there; nothing was written by this call.
    #[error("the store has lost its quorum: {0}; bring back a majority of etcd's members")]
    NoQuorum(String),
    /// It did not answer in time; nothing was written by this call.
    #[error("the store is too slow: {0}; look at the load and the disk of that member")]
    Slow(String),
    /// The write may or may not have happened: read again before acting.
    #[error("the outcome of a write is unknown: {0}")]
    Unknown(String),
    /// Another process has the data directory; said at opening.
    #[error(
        "the data directory {dir} is in use by another mainstay{}; stop that one, or give this one another --data-dir",
        holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    InUse {
        /// The directory.
        dir: String,
        /// The process that has it, if it has said so.
        holder: Option<u32>,
    },
    /// The data directory is damaged, or of another format; said at opening.
    #[error("{0}")]
    Open(String),
}

/// How many of the first of these go into one transaction of at most so many, and of so many bytes: at least one, for what is too large
/// alone is to be refused by the store and not left out.
pub(crate) fn fitting<T>(items: &[T], most: usize, most_bytes: usize, bytes: impl Fn(&T) -> usize) -> usize {
    let mut sum = 0usize;
    let fits = items.iter().take(most).take_while(|item| {
        sum = sum.saturating_add(bytes(item));
        sum <= most_bytes
    });
    fits.count().max(1)
}

/// The checks that every engine makes before a transaction, so that none can drift.
///
/// # Errors
/// [`StoreError::Invalid`], as [`Store::txn`] says.
pub fn check(txn: &Txn) -> Result<(), StoreError> {
    let refuse = |why: String| Err(StoreError::Invalid(why));
    if txn.when.len() > MAX_TXN_OPS || txn.then.len() > MAX_TXN_OPS {
        return refuse(format!(
            "a transaction takes at most {MAX_TXN_OPS} compares and {MAX_TXN_OPS} writes"
        ));
    }
    for (key, size) in txn.parts() {
        if key.is_empty() {
            return refuse("a key can't be empty".into());
        }
        if key.starts_with(HIDDEN) {
            return refuse("a key can't begin with a zero byte".into());
        }
        if key.len() > MAX_VALUE_BYTES {
            return refuse(format!("a key of {} bytes is over {MAX_VALUE_BYTES}", key.len()));
        }
        if size > MAX_VALUE_BYTES {
            return refuse(format!("the value of {key} has {size} bytes, over {MAX_VALUE_BYTES}"));
        }
    }
    if txn.bytes() > MAX_TXN_BYTES {
        return refuse(format!("a transaction of {} bytes is over {MAX_TXN_BYTES}", txn.bytes()));
    }
    let mut seen = std::collections::BTreeSet::new();
    for (key, _) in txn.then.iter().map(Write::part) {
        if !seen.insert(key) {
            return refuse(format!("{key} is written twice in one transaction"));
        }
    }
    Ok(())
}

/// What both engines say of the revision that never was.
pub(crate) fn no_revision_zero() -> StoreError {
    StoreError::Invalid("there is no revision 0; the oldest possible one is 1".into())
}
