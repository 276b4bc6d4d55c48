//! How old the snapshot is: the time since it was last known to show what the store holds.
//!
//! A watch that has nothing to tell and one that is cut off look the same. So the store is asked every now and then, and
//! while it answers and the watch is open, the snapshot is as current as that answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often the store is asked.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(2);

/// From this age on the snapshot is said to be old: more than one probe was not answered.
pub const STALE: Duration = Duration::from_secs(5);

/// A handle; clones tell of the same.
#[derive(Debug, Clone)]
pub(super) struct Freshness(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    is_followed: bool,
    confirmed: Instant,
}

impl Freshness {
    /// Of a snapshot that was read at this moment.
    pub(super) fn new(read: Instant) -> Freshness {
        Freshness(Arc::new(Mutex::new(Inner { is_followed: false, confirmed: read })))
    }

    /// The watch is open, or not.
    pub(super) fn followed(&self, is_followed: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_followed = is_followed;
    }

    /// The store has answered what it was asked at this moment.
    pub(super) fn answered(&self, asked: Instant) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.is_followed {
            inner.confirmed = inner.confirmed.max(asked);
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.0.lock().unwrap_or_else(PoisonError::into_inner).confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_while_the_watch_is_open() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let freshness = Freshness::new(start);
        freshness.answered(start + second);
        assert_eq!(freshness.age(start + second * 3), second * 3);
        freshness.followed(true);
        freshness.answered(start + second * 2);
        freshness.answered(start + second);
        assert_eq!(freshness.age(start + second * 3), second);
        freshness.followed(false);
        freshness.answered(start + second * 3);
        assert_eq!(freshness.age(start + second * 4), second * 2);
    }
}
