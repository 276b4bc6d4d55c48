//! Marks: what makes a write recognisable whose answer was lost.
//!
//! Each write sets a key of ours, its mark, to a word that is never used twice, and is conditional on the mark being as
//! the write before left it. When no answer comes, the mark is set once more under the same condition. Either that
//! succeeds, and the lost write can never happen any more, wherever it is; or the mark shows which of the two was there
//! first. So the outcome is known as soon as any member answers, and a write that did not happen can be made again.
//!
//! Concurrent writes use different marks. All hang on a lease, so that those of a controller that has gone do not stay.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

/// How long the marks of a controller stay after its last write, at least half of it.
pub(super) const LEASE: Duration = Duration::from_secs(3600);

/// A key that one write at a time uses.
#[derive(Debug)]
pub(super) struct Mark {
    /// Below the cluster's prefix.
    pub(super) key: String,
    /// Where the write before left it; 0 when there was none.
    pub(super) revision: i64,
}

/// The marks of one connection to a cluster.
#[derive(Debug)]
pub(super) struct Marks {
    name: String,
    free: Mutex<Vec<Mark>>,
    made: AtomicU64,
    words: AtomicU64,
    /// Held while a lease is asked for, so that one is.
    pub(super) lease: tokio::sync::Mutex<Option<Lease>>,
}

/// What the marks hang on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    pub(super) id: i64,
    pub(super) since: Instant,
}

impl Lease {
    /// A lease is replaced at half its life; the marks move on with their next write.
    pub(super) fn is_fresh(&self) -> bool {
        self.since.elapsed() < LEASE / 2
    }
}

impl Marks {
    pub(super) fn new() -> Marks {
        Marks {
            name: Uuid::new_v4().simple().to_string(),
            free: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            words: AtomicU64::new(0),
            lease: tokio::sync::Mutex::new(None),
        }
    }

    /// A mark that nobody else uses. It is given back only when its state is known.
    pub(super) fn take(&self) -> Mark {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        free.unwrap_or_else(|| {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            Mark { key: format!("{}mark/{}/{number}", crate::store::HIDDEN, self.name), revision: 0 }
        })
    }

    pub(super) fn give_back(&self, mark: Mark) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(mark);
    }

    /// A word that was never used before.
    pub(super) fn word(&self) -> Vec<u8> {
        self.words.fetch_add(1, Ordering::Relaxed).to_string().into_bytes()
    }
}
