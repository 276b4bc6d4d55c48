//! The leases of the embedded store. They are the process's own, for it has the directory alone: with it they end.
//!
//! **Invariant:** pure. Times are inputs.
//! **Absent here:** the keys' values; a key that was bound may have been put elsewhere since.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::store::{Kept, Lease, LeaseId};

/// The leases that are held.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// The id that was given last; none of this process is [`super::state::EARLIER`].
    last: u64,
    held: BTreeMap<LeaseId, Held>,
}

#[derive(Debug)]
struct Held {
    ttl: Duration,
    /// None when it is further away than time can be told.
    until: Option<Instant>,
    keys: BTreeSet<String>,
}

impl Leases {
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> Lease {
        self.last += 1;
        let id = LeaseId(self.last);
        self.held.insert(id, Held { ttl, until: now.checked_add(ttl), keys: BTreeSet::new() });
        Lease { id, ttl }
    }

    pub(super) fn keep(&mut self, lease: LeaseId, now: Instant) -> Kept {
        match self.held.get_mut(&lease) {
            Some(held) => {
                held.until = now.checked_add(held.ttl);
                Kept::Alive
            }
            None => Kept::Gone,
        }
    }

    pub(super) fn is_held(&self, lease: LeaseId) -> bool {
        self.held.contains_key(&lease)
    }

    /// Remembers that a key was put under a lease.
    pub(super) fn bind(&mut self, lease: LeaseId, key: String) {
        if let Some(held) = self.held.get_mut(&lease) {
            held.keys.insert(key);
        }
    }

    /// Ends a lease; the keys that were put under it.
    pub(super) fn end(&mut self, lease: LeaseId) -> BTreeSet<String> {
        self.held.remove(&lease).map(|held| held.keys).unwrap_or_default()
    }

    /// When the next one ends if it is not kept alive.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.until).min()
    }

    /// Ends those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(LeaseId, BTreeSet<String>)> {
        let is_over = |(_, held): &(&LeaseId, &Held)| held.until.is_some_and(|until| until <= now);
        let over: Vec<LeaseId> = self.held.iter().filter(is_over).map(|(id, _)| *id).collect();
        over.into_iter().map(|id| (id, self.end(id))).collect()
    }
}
