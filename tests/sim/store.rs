//! The simulated store: a third engine behind the trait, in memory, on the world's time, that fails on demand.
//!
//! [`Core`] keeps every revision whole, for the checks ask what was written when. [`Sim`] is one server's way there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::BoxFuture;
use imbl::OrdMap;
use mainstay::model::{Document, Documents};
use mainstay::store::{
    Change, Changes, Compare, Item, Kept, Lease, LeaseId, Listing, Revision, Store, StoreError, Txn,
    TxnReply, Watch, Write, check,
};
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use crate::checks;
use crate::limits::{self, Tracks};
use crate::world::{Inner, World};

/// The key that the leader holds.
pub(crate) const LEADER: &str = "meta/leader";

#[derive(Debug, Clone)]
struct Entry {
    item: Item,
    lease: Option<LeaseId>,
}

#[derive(Debug)]
struct Held {
    ttl_ms: u64,
    until: u64,
    keys: BTreeSet<String>,
}

/// One leader's time in the store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reign {
    pub(crate) who: u32,
    pub(crate) epoch: u64,
    pub(crate) lease: LeaseId,
    /// When it was elected.
    pub(crate) at: u64,
}

/// The store itself.
pub(crate) struct Core {
    pub(crate) revision: Revision,
    pub(crate) oldest: Revision,
    items: OrdMap<String, Entry>,
    /// Every revision that can be read, whole.
    past: BTreeMap<Revision, OrdMap<String, Entry>>,
    history: BTreeMap<Revision, Vec<Change>>,
    leases: BTreeMap<LeaseId, Held>,
    last_lease: u64,
    tip: watch::Sender<Revision>,
    /// The documents of each revision that touched one; kept for the checks, whatever is compacted.
    pub(crate) documents: BTreeMap<Revision, Documents>,
    /// By the revision of the election.
    pub(crate) reigns: BTreeMap<Revision, Reign>,
    pub(crate) tracks: Tracks,
}

impl Default for Core {
    fn default() -> Core {
        Core {
            revision: 1,
            oldest: 1,
            items: OrdMap::new(),
            past: BTreeMap::from([(1, OrdMap::new())]),
            history: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            tip: watch::Sender::new(1),
            documents: BTreeMap::from([(1, Documents::default())]),
            reigns: BTreeMap::new(),
            tracks: Tracks::default(),
        }
    }
}

impl Core {
    fn holds(&self, compare: &Compare) -> bool {
        let item = |key: &String| self.items.get(key).map(|entry| &entry.item);
        match compare {
            Compare::Absent(key) => item(key).is_none(),
            Compare::ModRevision(key, at) => item(key).map_or(0, |item| item.mod_revision) == *at,
            Compare::CreateRevision(key, at) => item(key).map_or(0, |item| item.create_revision) == *at,
            Compare::Value(key, value) => item(key).is_some_and(|item| item.value == *value),
        }
    }

    /// Whether all of it would be done.
    pub(crate) fn succeeds(&self, txn: &Txn) -> bool {
        let held = |write: &Write| match write {
            Write::PutLeased(_, _, lease) => self.leases.contains_key(lease),
            Write::Put(..) | Write::Delete(_) => true,
        };
        txn.when.iter().all(|compare| self.holds(compare)) && txn.then.iter().all(held)
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        self.items.get(key).map(|entry| entry.item.value.as_slice())
    }

    /// The value that a key had at a revision that can still be read.
    pub(crate) fn at(&self, revision: Revision, key: &str) -> Option<Vec<u8>> {
        self.past.get(&revision)?.get(key).map(|entry| entry.item.value.clone())
    }

    fn run(&mut self, txn: Txn) -> TxnReply {
        if !self.succeeds(&txn) {
            return TxnReply { succeeded: false, revision: self.revision };
        }
        let revision = self.revision + 1;
        let mut changes = Vec::new();
        for write in txn.then {
            let (key, value, lease) = match write {
                Write::Put(key, value) => (key, value, None),
                Write::PutLeased(key, value, lease) => (key, value, Some(lease)),
                Write::Delete(key) => {
                    if self.items.remove(&key).is_some() {
                        changes.push(Change::Delete { key, mod_revision: revision });
                    }
                    continue;
                }
            };
            if let Some(held) = lease.and_then(|lease| self.leases.get_mut(&lease)) {
                held.keys.insert(key.clone());
            }
            let created = self.items.get(&key).map_or(revision, |entry| entry.item.create_revision);
            let item = Item { key: key.clone(), value, create_revision: created, mod_revision: revision };
            changes.push(Change::Put(item.clone()));
            self.items.insert(key, Entry { item, lease });
        }
        self.remember(revision, changes);
        TxnReply { succeeded: true, revision: self.revision }
    }

    fn remember(&mut self, revision: Revision, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.note_documents(revision, &changes);
        self.history.insert(revision, changes);
        self.past.insert(revision, self.items.clone());
        self.revision = revision;
        self.tip.send_replace(revision);
    }

    fn note_documents(&mut self, revision: Revision, changes: &[Change]) {
        let mut documents = self.now().clone();
        let mut touched = false;
        for change in changes {
            let key = match change {
                Change::Put(item) => &item.key,
                Change::Delete { key, .. } => key,
            };
            if !key.starts_with("doc/") {
                continue;
            }
            touched = true;
            match change {
                Change::Put(item) => {
                    let mut document = Document::from_stored(&item.key, &item.value).expect("a document");
                    document.metadata.resource_version = revision.to_string();
                    self.tracks.note(&document);
                    documents.insert(document);
                }
                Change::Delete { key, .. } => {
                    let entry = self.past[&self.revision].get(key).expect("it was there");
                    let gone = Document::from_stored(key, &entry.item.value).expect("a document");
                    if gone.metadata.waiting {
                        documents.remove_waiting(&gone.key());
                    } else {
                        documents.remove(&gone.key());
                    }
                }
            }
        }
        if touched {
            self.documents.insert(revision, documents);
        }
    }

    /// The documents as they are.
    pub(crate) fn now(&self) -> &Documents {
        self.documents.values().next_back().expect("there is always one")
    }

    /// The documents that somebody who has read everything at a revision may know of, the newest first.
    pub(crate) fn known_since(&self, revision: Revision) -> impl Iterator<Item = (Revision, &Documents)> {
        let first = self.documents.range(..=revision).next_back().map_or(1, |(at, _)| *at);
        self.documents.range(first..).rev().map(|(at, documents)| (*at, documents))
    }

    fn list(&self, prefix: &str, at: Option<Revision>) -> Result<Listing, StoreError> {
        let revision = at.unwrap_or(self.revision);
        if revision == 0 {
            return Err(StoreError::Invalid("there is no revision 0".into()));
        }
        self.in_history(revision)?;
        let items = &self.past[&revision];
        let items = items.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(Listing { items: items.map(|(_, entry)| entry.item.clone()).collect(), revision })
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

    /// Forgets what led to a revision.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), StoreError> {
        if revision == 0 {
            return Err(StoreError::Invalid("there is no revision 0".into()));
        }
        self.in_history(revision)?;
        self.history = self.history.split_off(&(revision + 1));
        self.past = self.past.split_off(&revision);
        self.oldest = revision;
        Ok(())
    }

    fn changes(&self, prefix: &str, from: Revision) -> Result<Option<Changes>, StoreError> {
        if from <= self.oldest {
            return Err(StoreError::Compacted { oldest: self.oldest });
        }
        let of = |change: &Change| match change {
            Change::Put(item) => item.key.starts_with(prefix),
            Change::Delete { key, .. } => key.starts_with(prefix),
        };
        for (revision, changes) in self.history.range(from..) {
            let changes: Vec<Change> = changes.iter().filter(|change| of(change)).cloned().collect();
            if !changes.is_empty() {
                return Ok(Some(Changes { revision: *revision, changes }));
            }
        }
        Ok(None)
    }

    fn end_lease(&mut self, lease: LeaseId) {
        let Some(held) = self.leases.remove(&lease) else { return };
        let under = |key: &String| self.items.get(key).is_some_and(|entry| entry.lease == Some(lease));
        let keys: Vec<String> = held.keys.into_iter().filter(under).collect();
        let then = keys.into_iter().map(Write::Delete).collect();
        // Without conditions it can't fail.
        let _ = self.run(Txn { when: Vec::new(), then });
    }

    /// Whether a lease lasts.
    pub(crate) fn is_held(&self, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease)
    }
}

/// Ends a lease when its time is over, or looks again when it was kept alive.
fn expire(inner: &mut Inner, lease: LeaseId) {
    let now = inner.now();
    let Some(until) = inner.store.leases.get(&lease).map(|held| held.until) else { return };
    if until > now {
        inner.after(until - now, move |inner| expire(inner, lease));
        return;
    }
    inner.say(format!("store: lease {} ends", lease.0));
    inner.store.end_lease(lease);
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// One server's way to the store.
pub(crate) struct Sim {
    pub(crate) world: World,
    pub(crate) who: u32,
}

/// What a call comes to, and how long its answer takes.
type Answer<T> = Option<(u64, Result<T, StoreError>)>;

impl Sim {
    /// Asks, with all that can go wrong on the way.
    async fn call<T: Send + 'static>(
        &self,
        what: String,
        does: impl FnOnce(&mut Inner, u32) -> Answer<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let who = self.who;
        self.world.gate(who).await;
        let wait = self.world.act(who, &what, move |inner| {
            let odds = inner.odds.store_slow;
            if inner.happens(odds) { inner.rng.between(100, 8_000) } else { 0 }
        });
        let wait = wait.await;
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        let answer = self.world.act(who, &what, move |inner| {
            if !inner.lives(who) {
                return None;
            }
            let (now, odds) = (inner.now(), inner.odds.store_refuses);
            if inner.store_down_until > now || inner.happens(odds) {
                let wait = inner.rng.between(0, 500);
                let why = || "simulated".to_owned();
                return Some((
                    wait,
                    Err(match inner.rng.between(0, 2) {
                        0 => StoreError::Unavailable(why()),
                        1 => StoreError::Slow(why()),
                        _ => StoreError::NoQuorum(why()),
                    }),
                ));
            }
            does(inner, who)
        });
        let Some((wait, result)) = answer.await else { return std::future::pending().await };
        sleep(Duration::from_millis(wait)).await;
        self.world.gate(who).await;
        result
    }
}

/// Does a transaction, as whoever asks for it.
fn transact(inner: &mut Inner, who: u32, txn: Txn) -> Answer<TxnReply> {
    let is_write = !txn.then.is_empty();
    let crash = if is_write { inner.effect(who) } else { None };
    if crash == Some(false) {
        inner.kill(who, "before a transaction");
        return None;
    }
    let odds = inner.odds.store_unknown;
    let unknown = is_write && inner.happens(odds);
    let wait = inner.rng.between(0, 10);
    if unknown && inner.rng.one_in(2) {
        return Some((wait, Err(StoreError::Unknown("simulated, not applied".into()))));
    }
    checks::before_write(inner, who, &txn);
    let words: Vec<String> = txn
        .then
        .iter()
        .map(|write| match write {
            Write::Put(key, _) | Write::PutLeased(key, _, _) => format!("+{key}"),
            Write::Delete(key) => format!("-{key}"),
        })
        .collect();
    let lease = txn.then.iter().find_map(|write| match write {
        Write::PutLeased(key, value, lease) if key == LEADER => Some((value.clone(), *lease)),
        Write::Put(..) | Write::PutLeased(..) | Write::Delete(_) => None,
    });
    let reply = inner.store.run(txn);
    if is_write {
        inner.writes += u64::from(reply.succeeded);
        let how = if reply.succeeded { reply.revision.to_string() } else { "conflict".into() };
        inner.say(format!("store: {} writes {} ({how})", inner.name_of(who), words.join(" ")));
    }
    if let (Some((value, lease)), true) = (lease, reply.succeeded) {
        let claim: serde_json::Value = serde_json::from_slice(&value).expect("a claim");
        let at = inner.now();
        let epoch = claim["epoch"].as_u64().expect("an epoch");
        inner.store.reigns.insert(reply.revision, Reign { who, epoch, lease, at });
    }
    if crash == Some(true) {
        inner.kill(who, "after a transaction");
        return None;
    }
    if unknown {
        return Some((wait, Err(StoreError::Unknown("simulated, applied".into()))));
    }
    Some((wait, Ok(reply)))
}

impl Inner {
    /// Who somebody is, for the trace.
    pub(crate) fn name_of(&self, who: u32) -> String {
        self.servers.get(&who).map_or_else(|| "people".into(), |server| format!("{}#{who}", server.name))
    }
}

impl Store for Sim {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnReply, StoreError>> {
        Box::pin(async move {
            check(&txn)?;
            let first = txn.then.first().map_or("", |write| match write {
                Write::Put(key, _) | Write::PutLeased(key, _, _) | Write::Delete(key) => key,
            });
            let what = format!("txn {first}");
            // One that is stopped decides nothing; what it has decided comes after it.
            if !self.world.gate(self.who).await {
                self.world.with(|inner| limits::at_txn(inner, self.who, &txn));
            }
            self.call(what, move |inner, who| transact(inner, who, txn)).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Listing, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            self.call(format!("list {prefix}"), move |inner, _| {
                let wait = inner.rng.between(0, 5);
                Some((wait, inner.store.list(&prefix, at)))
            })
            .await
        })
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(async move {
            let (world, who) = (self.world.clone(), self.who);
            self.call(format!("watch {prefix}"), move |inner, _| {
                let tip = inner.store.tip.subscribe();
                let watch = Cursor { world, who, prefix, tip, next: Some(from.max(2)) };
                Some((0, Ok(Box::new(watch) as Box<dyn Watch>)))
            })
            .await
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call("compact".into(), move |inner, _| Some((0, inner.store.compact(revision)))))
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(self.call("grant".into(), move |inner, who| {
            let crash = inner.effect(who);
            if crash == Some(false) {
                inner.kill(who, "before a lease is granted");
                return None;
            }
            inner.store.last_lease += 1;
            let id = LeaseId(inner.store.last_lease);
            let ttl_ms = milliseconds(ttl);
            let until = inner.now() + ttl_ms;
            inner.store.leases.insert(id, Held { ttl_ms, until, keys: BTreeSet::new() });
            expire(inner, id);
            if crash == Some(true) {
                inner.kill(who, "after a lease was granted");
                return None;
            }
            Some((1, Ok(Lease { id, ttl })))
        }))
    }

    fn keep_alive(&self, lease: Lease) -> BoxFuture<'_, Result<Kept, StoreError>> {
        Box::pin(self.call("keep".into(), move |inner, _| {
            let now = inner.now();
            let wait = inner.rng.between(0, 10);
            let kept = match inner.store.leases.get_mut(&lease.id) {
                Some(held) => {
                    held.until = now + held.ttl_ms;
                    Kept::Alive
                }
                None => Kept::Gone,
            };
            Some((wait, Ok(kept)))
        }))
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call("revoke".into(), move |inner, _| {
            inner.store.end_lease(lease);
            Some((1, Ok(())))
        }))
    }
}

/// A watch: a place in the history.
struct Cursor {
    world: World,
    who: u32,
    prefix: String,
    tip: watch::Receiver<Revision>,
    next: Option<Revision>,
}

/// What a watch finds when it looks.
enum Found {
    Changes(Changes),
    /// Nothing after all.
    Nothing,
    /// It tells nothing until then.
    Stale(tokio::time::Instant),
}

impl Watch for Cursor {
    fn next(&mut self) -> BoxFuture<'_, Result<Changes, StoreError>> {
        Box::pin(async move {
            loop {
                let Some(from) = self.next else {
                    return Err(StoreError::Unavailable("this watch has ended".into()));
                };
                self.world.gate(self.who).await;
                self.tip.mark_unchanged();
                let (who, prefix) = (self.who, self.prefix.clone());
                // Where there is nothing to tell, it has looked, and a compaction does not touch it.
                let looked = self.world.with(|inner| match inner.store.changes(&prefix, from) {
                    Ok(None) => Some(inner.store.revision + 1),
                    Ok(Some(_)) | Err(_) => None,
                });
                if let Some(next) = looked {
                    self.next = Some(from.max(next));
                    if self.tip.changed().await.is_err() {
                        self.next = None;
                    }
                    continue;
                }
                let what = format!("next {prefix}");
                let found = self.world.act(who, &what, move |inner| {
                    let now = inner.now();
                    let stale = inner.servers.get(&who).map_or(0, |server| server.stale_until);
                    if stale > now {
                        return Ok(Found::Stale(inner.instant(stale)));
                    }
                    let changes = inner.store.changes(&prefix, from)?;
                    let odds = inner.odds.watch_breaks;
                    if changes.is_some() && inner.happens(odds) {
                        return Err(StoreError::Unavailable("simulated: the watch breaks".into()));
                    }
                    Ok(changes.map_or(Found::Nothing, Found::Changes))
                });
                match found.await {
                    Ok(Found::Changes(changes)) => {
                        self.next = Some(changes.revision + 1);
                        return Ok(changes);
                    }
                    Ok(Found::Stale(until)) => sleep_until(until).await,
                    Ok(Found::Nothing) => {}
                    Err(error) => {
                        self.next = None;
                        return Err(error);
                    }
                }
            }
        })
    }
}
