//! The embedded store in memory: every key, and the history since the oldest readable revision.
//!
//! A [`State`] is a value. Copying one costs nothing (its maps are persistent), so the writer changes a copy and
//! publishes it when it is durable, and a reader's copy stays as it is for as long as it is held.
//!
//! **Invariant:** pure. No I/O, no clock, no lock.
//! **Invariant:** history is dense: it has an entry for each revision in `oldest + 1 ..= revision`.
//! **Absent here:** what is durable. The rows that have to be kept for a state are named by id; see [`super::log`].

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;

use crate::store::{
    Change, Changes, Compare, Item, LeaseId, Listing, Revision, StoreError, Txn, TxnReply, Write,
};

/// Revisions that are kept when nobody asks to compact.
pub(super) const MAX_HISTORY: usize = 10_000;

/// Bytes of keys and values in the history above which it is cut by half, so that large values don't fill the memory.
const MAX_HISTORY_BYTES: usize = 256 * 1024 * 1024;

/// How far history may grow over [`MAX_HISTORY`] before it is cut back, so that not each write has to.
const SLACK: usize = 1_000;

/// The revision of the empty store: the first write gets 2, as on etcd.
const EMPTY: Revision = 1;

/// Bits of a row's id below the revision. They number the writes of one transaction, so they bound
/// [`crate::store::MAX_TXN_OPS`].
const SUB_BITS: u32 = 14;

/// A row of the log: the revision and, below it, the place in its transaction. Ids order as things happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowId(pub(super) i64);

impl RowId {
    pub(super) fn new(revision: Revision, sub: usize) -> Self {
        RowId(((revision << SUB_BITS) | sub as u64) as i64)
    }

    pub(super) fn revision(self) -> Revision {
        self.0 as u64 >> SUB_BITS
    }
}

/// What a key holds.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: Arc<[u8]>,
    pub(super) created: Revision,
    pub(super) row: RowId,
    /// The lease that the key goes with; [`EARLIER`] for one of an earlier process.
    pub(super) lease: Option<LeaseId>,
}

/// Stands for all leases of earlier processes, which have ended with them.
pub(super) const EARLIER: LeaseId = LeaseId(0);

/// One key's change, with what it replaced, so that it can be undone to read the past.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) row: RowId,
    pub(super) key: Arc<str>,
    before: Option<Entry>,
    /// None: the key was deleted.
    pub(super) after: Option<Entry>,
}

impl Event {
    fn bytes(&self) -> usize {
        self.key.len() + self.after.as_ref().map_or(0, |entry| entry.value.len())
    }

    fn change(&self) -> Change {
        match &self.after {
            Some(entry) => Change::Put(item(&self.key, entry)),
            None => Change::Delete { key: self.key.to_string(), mod_revision: self.row.revision() },
        }
    }
}

/// Everything at one revision, and the way there.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) revision: Revision,
    /// The oldest revision that can be read.
    pub(super) oldest: Revision,
    /// Set once, when a commit failed: why nothing is answered any more.
    pub(super) failed: Option<Arc<str>>,
    items: OrdMap<Arc<str>, Entry>,
    history: OrdMap<Revision, Arc<[Event]>>,
    history_bytes: usize,
}

impl State {
    /// The store before its first write.
    pub(super) fn empty() -> Self {
        State {
            revision: EMPTY,
            oldest: EMPTY,
            failed: None,
            items: OrdMap::new(),
            history: OrdMap::new(),
            history_bytes: 0,
        }
    }

    /// Runs a checked transaction. The events are what has to be made durable before the reply may be given.
    pub(super) fn run(&mut self, txn: Txn) -> (TxnReply, Arc<[Event]>) {
        if !txn.when.iter().all(|compare| self.holds(compare)) {
            return (TxnReply { succeeded: false, revision: self.revision }, Arc::new([]));
        }
        let revision = self.revision + 1;
        let mut events = Vec::with_capacity(txn.then.len());
        for write in txn.then {
            let row = RowId::new(revision, events.len());
            match write {
                Write::Put(key, value) => events.push(self.put(row, key, value.into(), None, None)),
                Write::PutLeased(key, value, lease) => {
                    events.push(self.put(row, key, value.into(), None, Some(lease)));
                }
                Write::Delete(key) => events.extend(self.delete(row, &key)),
            }
        }
        let events: Arc<[Event]> = events.into();
        if !events.is_empty() {
            self.remember(revision, Arc::clone(&events));
        }
        (TxnReply { succeeded: true, revision: self.revision }, events)
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.items.contains_key(key.as_str()),
            Compare::ModRevision(key, revision) => {
                self.items.get(key.as_str()).map_or(0, |entry| entry.row.revision()) == *revision
            }
            Compare::CreateRevision(key, revision) => {
                self.items.get(key.as_str()).map_or(0, |entry| entry.created) == *revision
            }
            Compare::Value(key, value) => {
                self.items.get(key.as_str()).is_some_and(|entry| *entry.value == **value)
            }
        }
    }

    /// `created` is known when a row is read back, whose key may have lost its older rows.
    pub(super) fn put(
        &mut self,
        row: RowId,
        key: String,
        value: Arc<[u8]>,
        created: Option<Revision>,
        lease: Option<LeaseId>,
    ) -> Event {
        // The map's own copy of the key is shared by the history.
        let (key, before) = match self.items.get_key_value(key.as_str()) {
            Some((key, entry)) => (Arc::clone(key), Some(entry.clone())),
            None => (key.into(), None),
        };
        let created =
            created.unwrap_or_else(|| before.as_ref().map_or(row.revision(), |entry| entry.created));
        let after = Entry { value, created, row, lease };
        self.items.insert(Arc::clone(&key), after.clone());
        Event { row, key, before, after: Some(after) }
    }

    /// None when there is nothing to delete.
    pub(super) fn delete(&mut self, row: RowId, key: &str) -> Option<Event> {
        let (key, before) = self.items.remove_with_key(key)?;
        Some(Event { row, key, before: Some(before), after: None })
    }

    /// Removes the keys that are under this lease, in one revision, or in several if they are more than one can have. Costs a look at
    /// all keys: leases end when servers do.
    pub(super) fn end_lease(&mut self, lease: LeaseId) -> Vec<Arc<[Event]>> {
        let under = self.items.iter().filter(|(_, entry)| entry.lease == Some(lease));
        let keys: Vec<String> = under.map(|(key, _)| key.to_string()).collect();
        let delete = |keys: &[String]| Txn {
            when: Vec::new(),
            then: keys.iter().cloned().map(Write::Delete).collect(),
        };
        keys.chunks((1 << SUB_BITS) - 1).map(|keys| self.run(delete(keys)).1).collect()
    }

    /// Appends a revision to the history.
    pub(super) fn remember(&mut self, revision: Revision, events: Arc<[Event]>) {
        self.history_bytes += events.iter().map(Event::bytes).sum::<usize>();
        self.history.insert(revision, events);
        self.revision = revision;
    }

    /// Forgets what led to `revision`, and names the rows that nothing needs any more.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<Vec<RowId>, StoreError> {
        if revision == 0 {
            return Err(crate::store::no_revision_zero());
        }
        self.in_history(revision)?;
        let mut dead = Vec::new();
        for forgotten in self.oldest + 1..=revision {
            for event in self.history.remove(&forgotten).iter().flat_map(|events| events.iter()) {
                self.history_bytes -= event.bytes();
                dead.extend(event.superseded());
            }
        }
        self.oldest = revision;
        Ok(dead)
    }

    /// The revision to compact at, when history has grown too long or too large.
    pub(super) fn overgrown(&self) -> Option<Revision> {
        if self.history.len() > MAX_HISTORY + SLACK {
            Some(self.revision - MAX_HISTORY as u64)
        } else if self.history_bytes > MAX_HISTORY_BYTES {
            Some(self.revision - self.history.len() as u64 / 2)
        } else {
            None
        }
    }

    fn in_history(&self, revision: Revision) -> Result<(), StoreError> {
        if revision < self.oldest {
            Err(StoreError::Compacted { oldest: self.oldest })
        } else if revision > self.revision {
            Err(StoreError::Future { asked: revision, current: self.revision })
        } else {
            Ok(())
        }
    }

    /// Reads a prefix, now or in the past. The past costs as much as was written since.
    pub(super) fn list(&self, prefix: &str, at: Option<Revision>) -> Result<Listing, StoreError> {
        let revision = at.unwrap_or(self.revision);
        if revision == 0 {
            return Err(crate::store::no_revision_zero());
        }
        self.in_history(revision)?;
        let mut items = self.items.clone();
        for (_, events) in self.history.range(revision + 1..).rev() {
            for event in events.iter().rev().filter(|event| event.key.starts_with(prefix)) {
                match &event.before {
                    Some(entry) => items.insert(Arc::clone(&event.key), entry.clone()),
                    None => items.remove(&event.key),
                };
            }
        }
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let items = items
            .range::<_, str>(from)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, entry)| item(key, entry))
            .collect();
        Ok(Listing { items, revision })
    }

    /// Every key as it is now.
    pub(super) fn everything(&self) -> Vec<Item> {
        self.items.iter().map(|(key, entry)| item(key, entry)).collect()
    }

    /// The first revision from `from` on that touched the prefix.
    pub(super) fn changes(&self, prefix: &str, from: Revision) -> Result<Option<Changes>, StoreError> {
        if from <= self.oldest {
            return Err(StoreError::Compacted { oldest: self.oldest });
        }
        for (revision, events) in self.history.range(from..) {
            let changes: Vec<Change> =
                events.iter().filter(|event| event.key.starts_with(prefix)).map(Event::change).collect();
            if !changes.is_empty() {
                return Ok(Some(Changes { revision: *revision, changes }));
            }
        }
        Ok(None)
    }
}

impl Event {
    /// The rows that are not needed once this event is no longer history: what it replaced, and then a delete itself.
    /// They have to be deleted in this order, or a crash between the two would bring the key back.
    pub(super) fn superseded(&self) -> impl Iterator<Item = RowId> {
        let replaced = self.before.as_ref().map(|entry| entry.row);
        let itself = self.after.is_none().then_some(self.row);
        replaced.into_iter().chain(itself)
    }
}

fn item(key: &str, entry: &Entry) -> Item {
    Item {
        key: key.to_owned(),
        value: entry.value.to_vec(),
        create_revision: entry.created,
        mod_revision: entry.row.revision(),
    }
}
