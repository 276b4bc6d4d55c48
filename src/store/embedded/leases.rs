//! The leases of the embedded store. They are the process's own, for it has the directory alone: with it they end.
//!
//! **Invariant:** pure. Times are inputs.
//! **Absent here:** what is under them; the keys themselves say that.

use std::collections::BTreeMap;
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
}

impl Leases {
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> Lease {
        self.last += 1;
        let id = LeaseId(self.last);
        self.held.insert(id, Held { ttl, until: now.checked_add(ttl) });
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

    pub(super) fn end(&mut self, lease: LeaseId) {
        self.held.remove(&lease);
    }

    /// When the next one ends if it is not kept alive.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.until).min()
    }

    /// Ends those whose time is over, and answers them.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<LeaseId> {
        let is_over = |(_, held): &(&LeaseId, &Held)| held.until.is_some_and(|until| until <= now);
        let over: Vec<LeaseId> = self.held.iter().filter(is_over).map(|(id, _)| *id).collect();
        over.iter().for_each(|id| self.end(*id));
        over
    }
}
