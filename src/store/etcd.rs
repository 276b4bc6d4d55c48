//! The etcd engine: one etcd cluster, v3.4 or later, that several controllers share.
//!
//! The trait's words are etcd's own, so this is a thin mapping. What it adds is what the client library leaves to its
//! users: a deadline on each call, another member when one can't be reached, listings in pages of one revision, and
//! errors that say whether a write can have happened.
//!
//! **Invariant:** a write is made again only if it certainly did not and will not happen (`etcd/mark.rs`).
//! **Invariant:** every key is under the prefix; a caller never sees the prefix.
//! **Invariant:** the cluster is the one that was there at the start. Another one, or one that has gone back in time
//! (restored from a backup), answers [`StoreError::Unavailable`], so that its emptiness is not taken for a wish.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use etcd_client::{
    Client, CompareOp, EventType, GetOptions, GetResponse, KeyValue, PutOptions, ResponseHeader, TxnOp,
    TxnOpResponse, TxnResponse, WatchOptions, WatchResponse, WatchStream,
};
use futures_util::future::{BoxFuture, join_all};
use tokio::time::timeout;

use self::failure::{Failure, Kind};
use self::mark::{LEASE, Mark, Marks};
use self::member::Member;
pub use self::member::{Config, Login, Tls};
use super::{
    Change, Changes, Compare, Item, Kept, Lease, LeaseId, Listing, Revision, Store, StoreError, Txn,
    TxnReply, Watch, Write,
};

mod failure;
mod mark;
mod member;

/// Longest that a call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long a write may stay unanswered before it is looked what became of it. A change of leader takes about one.
const WRITE: Duration = Duration::from_secs(2);

/// How long the members may take to say whether they have a leader, once a call has got no answer.
const DIAGNOSIS: Duration = Duration::from_millis(300);

/// Keys per page of a listing. Halved for as long as a page is over what the client decodes (4 MiB).
const PAGE: i64 = 1000;

/// How often a listing of the newest revision starts over because a compaction has overtaken it.
const OVERTAKEN: usize = 3;

/// Largest answer of a watch: as much as etcd itself can send. A limit would end the same watch at the same place
/// each time it is opened again.
const WATCH_BYTES: usize = i32::MAX as usize;

/// Longest prefix in bytes, so that it fits in what [`super::MAX_TXN_BYTES`] leaves.
const MAX_PREFIX: usize = 256;

/// A store in an etcd cluster.
#[derive(Clone)]
pub struct Etcd {
    cluster: Arc<Cluster>,
}

struct Cluster {
    members: Vec<Member>,
    /// The member that is asked first: the last one that answered.
    favourite: AtomicUsize,
    prefix: String,
    id: u64,
    /// The highest revision that an answer has told.
    seen: AtomicU64,
    marks: Marks,
}

impl Etcd {
    /// Connects without TLS and login; see [`Etcd::open`].
    ///
    /// # Errors
    /// As [`Etcd::open`].
    pub async fn connect(endpoints: &[String], prefix: &str) -> Result<Etcd, StoreError> {
        let config = Config { endpoints: endpoints.to_vec(), prefix: prefix.to_owned(), ..Config::default() };
        Etcd::open(&config).await
    }

    /// Connects to a cluster and waits until one of its members has answered. All keys are kept under the prefix, which
    /// gets a `/` at its end if it has none.
    ///
    /// # Errors
    /// [`StoreError::Open`] for endpoints, certificates or a prefix that can't be right. [`StoreError::Invalid`] for a
    /// login that etcd refuses. [`StoreError::Unavailable`], or what it is more exactly, when no member answers within
    /// 5 s.
    pub async fn open(config: &Config) -> Result<Etcd, StoreError> {
        let prefix = &config.prefix;
        if prefix.is_empty() || prefix.len() > MAX_PREFIX {
            return Err(StoreError::Open(format!("an etcd prefix has between 1 and {MAX_PREFIX} bytes")));
        }
        let prefix = if prefix.ends_with('/') { prefix.clone() } else { format!("{prefix}/") };
        let mut cluster = Cluster {
            members: Member::all(config).await?,
            favourite: AtomicUsize::new(0),
            prefix,
            id: 0,
            seen: AtomicU64::new(0),
            marks: Marks::new(),
        };
        let options = GetOptions::new().with_count_only();
        let first = cluster.get(cluster.prefix.clone(), options).await.map_err(Failure::unavailable)?;
        let header = first.header().ok_or_else(no_header)?;
        cluster.id = header.cluster_id();
        cluster.seen = AtomicU64::new(header.revision() as u64);
        Ok(Etcd { cluster: Arc::new(cluster) })
    }
}

impl Store for Etcd {
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnReply, StoreError>> {
        Box::pin(async move {
            super::check(&txn)?;
            self.cluster.txn(txn).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        at: Option<Revision>,
    ) -> BoxFuture<'a, Result<Listing, StoreError>> {
        Box::pin(async move {
            if at == Some(0) {
                return Err(super::no_revision_zero());
            }
            self.cluster.list(prefix, at).await
        })
    }

    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> BoxFuture<'a, Result<Box<dyn Watch>, StoreError>> {
        Box::pin(async move {
            let from = from.max(2);
            // etcd accepts a watch from exactly the compacted revision, where deletes may be gone already. Starting
            // one earlier makes it tell, and what that one brings is dropped.
            let stream = self.cluster.watch(prefix, from - 1).await.map_err(Failure::unavailable)?;
            // On an etcd that has lost its data, the watch would wait for a future that takes long to come. Asked after
            // the stream is there: if the data goes later, the stream breaks.
            self.cluster.current().await?;
            let stream = Some(stream);
            let cluster = Arc::clone(&self.cluster);
            Ok(Box::new(EtcdWatch { cluster, stream, from, ready: VecDeque::new() }) as Box<dyn Watch>)
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if revision == 0 {
                return Err(super::no_revision_zero());
            }
            self.cluster.compact(revision).await
        })
    }

    fn grant(&self, ttl: Duration) -> BoxFuture<'_, Result<Lease, StoreError>> {
        Box::pin(async move {
            let seconds = i64::try_from(ttl.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
            let grant = |client: Client| async move { client.lease_client().grant(seconds, None).await };
            let granted = self.cluster.call(false, DEADLINE, grant).await.map_err(Failure::unavailable)?;
            let ttl = Duration::from_secs(granted.ttl().unsigned_abs());
            Ok(Lease { id: LeaseId(granted.id() as u64), ttl })
        })
    }

    fn keep_alive(&self, lease: Lease) -> BoxFuture<'_, Result<Kept, StoreError>> {
        Box::pin(async move {
            let id = lease.id.0 as i64;
            // A stream for each time: one that is kept would be at one member, and break with it.
            let keep = |client: Client| async move { client.lease_client().keep_alive(id).await };
            match self.cluster.call_within(DEADLINE.min(lease.ttl / 3), false, keep).await {
                Ok(_) => Ok(Kept::Alive),
                Err(failure) if failure.kind == Kind::NoLease => Ok(Kept::Gone),
                Err(failure) => Err(failure.unavailable()),
            }
        })
    }

    fn revoke(&self, lease: LeaseId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let id = lease.0 as i64;
            let revoke = |client: Client| async move { client.lease_client().revoke(id).await };
            match self.cluster.call(false, DEADLINE, revoke).await {
                Ok(_) => Ok(()),
                Err(failure) if failure.kind == Kind::NoLease => Ok(()),
                Err(failure) => Err(failure.unavailable()),
            }
        })
    }
}

impl Cluster {
    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        let bumps = certainly_bumps(&txn);
        let is_leased = txn.then.iter().any(|write| matches!(write, Write::PutLeased(..)));
        let when: Vec<_> = txn.when.into_iter().map(|compare| self.compare(compare)).collect();
        let then: Vec<_> = txn.then.into_iter().map(|write| self.write(write)).collect();
        if bumps {
            return self.marked(when, then, is_leased).await;
        }
        let writes = !then.is_empty();
        let request = etcd_client::Txn::new().when(when);
        let request = if writes {
            // Nothing but deletes, of what may not be there. A mark would be a write where there is none to make, so
            // that a lost answer stays lost.
            request.and_then(then)
        } else {
            // etcd answers a transaction without operations from the member's own state, however old that is. A
            // linearizable read in it makes the member catch up first.
            let read = TxnOp::get(self.prefix.as_str(), Some(GetOptions::new().with_count_only()));
            request.and_then([read.clone()]).or_else([read])
        };
        let seen = self.seen.load(Ordering::Acquire);
        let reply = self
            .send(writes, DEADLINE, request)
            .await
            .map_err(|failure| if writes { failure.of_a_write() } else { failure.unavailable() })?;
        let revision = match self.revision(reply.header(), seen) {
            Ok(revision) => revision,
            Err(error) if writes => return Err(StoreError::Unknown(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(TxnReply { succeeded: reply.succeeded(), revision })
    }

    /// Makes a write, finds out what became of it when the answer is lost, and makes it again if it did not happen.
    /// `is_leased`: it puts something under a lease of the caller's.
    async fn marked(
        &self,
        when: Vec<etcd_client::Compare>,
        then: Vec<TxnOp>,
        is_leased: bool,
    ) -> Result<TxnReply, StoreError> {
        let begun = Instant::now();
        let mut has_new_lease = false;
        loop {
            let left = DEADLINE.saturating_sub(begun.elapsed());
            let lease = self.lease(left).await.map_err(Failure::unavailable)?;
            let mut mark = self.marks.take();
            let word = self.marks.word();
            let mut when = when.clone();
            when.push(self.unchanged(&mark));
            let mut then = then.clone();
            then.push(self.set(&mark, &word, lease));
            let request = etcd_client::Txn::new().when(when).and_then(then).or_else([self.read(&mark)]);
            let seen = self.seen.load(Ordering::Acquire);
            let failure = match self.send(true, WRITE.min(left), request).await {
                Ok(reply) => {
                    let revision = self.revision(reply.header(), seen);
                    let revision = revision.map_err(|error| StoreError::Unknown(error.to_string()))?;
                    if reply.succeeded() {
                        mark.revision = revision as i64;
                    } else if read_mark(&reply).map_or(0, |(_, at)| at) != mark.revision {
                        // Its lease has ended while we slept. Nothing was written; the next one has another.
                        *self.marks.lease.lock().await = None;
                        continue;
                    }
                    self.marks.give_back(mark);
                    return Ok(TxnReply { succeeded: reply.succeeded(), revision });
                }
                Err(failure) => failure,
            };
            if failure.kind == Kind::NoLease {
                if is_leased && has_new_lease {
                    // The marks' is there, so it is the caller's that has ended.
                    self.marks.give_back(mark);
                    return Ok(TxnReply { succeeded: false, revision: self.seen.load(Ordering::Acquire) });
                }
                *self.marks.lease.lock().await = None;
                has_new_lease = true;
            } else if failure.kind.leaves_doubt() {
                let left = DEADLINE.saturating_sub(begun.elapsed());
                match self.resolve(&mut mark, &word, lease, left).await {
                    Some(Outcome::Applied(revision)) => {
                        self.marks.give_back(mark);
                        return Ok(TxnReply { succeeded: true, revision });
                    }
                    Some(Outcome::Voided) => {}
                    // The mark is not given back: nobody knows how it is.
                    None => return Err(failure.of_a_write()),
                }
            } else {
                self.marks.give_back(mark);
                return Err(failure.unavailable());
            }
            self.marks.give_back(mark);
            if begun.elapsed() >= DEADLINE {
                return Err(failure.unavailable());
            }
        }
    }

    /// What became of the write that was to set the mark to a word. None when nobody says.
    async fn resolve(&self, mark: &mut Mark, word: &[u8], lease: i64, left: Duration) -> Option<Outcome> {
        let void = self.marks.word();
        let request = etcd_client::Txn::new()
            .when([self.unchanged(mark)])
            .and_then([self.set(mark, &void, lease)])
            .or_else([self.read(mark)]);
        let seen = self.seen.load(Ordering::Acquire);
        // Harmless to repeat: whoever sets the mark first, the write itself or one of these, has decided.
        let reply = self.send(false, left, request).await.ok()?;
        let revision = self.revision(reply.header(), seen).ok()?;
        if reply.succeeded() {
            mark.revision = revision as i64;
            return Some(Outcome::Voided);
        }
        let (found, at) = read_mark(&reply)?;
        mark.revision = at;
        match found {
            found if found == word => Some(Outcome::Applied(at as u64)),
            found if found == void => Some(Outcome::Voided),
            _ => None,
        }
    }

    fn unchanged(&self, mark: &Mark) -> etcd_client::Compare {
        etcd_client::Compare::mod_revision(self.full(&mark.key), CompareOp::Equal, mark.revision)
    }

    fn set(&self, mark: &Mark, word: &[u8], lease: i64) -> TxnOp {
        TxnOp::put(self.full(&mark.key), word, Some(PutOptions::new().with_lease(lease)))
    }

    fn read(&self, mark: &Mark) -> TxnOp {
        TxnOp::get(self.full(&mark.key), None)
    }

    /// The lease of the marks, a new one when the last is half over.
    async fn lease(&self, left: Duration) -> Result<i64, Failure> {
        let mut lease = self.marks.lease.lock().await;
        if let Some(lease) = lease.filter(mark::Lease::is_fresh) {
            return Ok(lease.id);
        }
        let since = Instant::now();
        let granted = self
            .call(false, left, |client| async move {
                client.lease_client().grant(LEASE.as_secs() as i64, None).await
            })
            .await?;
        *lease = Some(mark::Lease { id: granted.id(), since });
        Ok(granted.id())
    }

    async fn send(
        &self,
        once: bool,
        within: Duration,
        request: etcd_client::Txn,
    ) -> Result<TxnResponse, Failure> {
        self.call(once, within, |client| {
            let request = request.clone();
            async move { client.kv_client().txn(request).await }
        })
        .await
    }

    fn compare(&self, compare: Compare) -> etcd_client::Compare {
        match compare {
            Compare::Absent(key) => {
                etcd_client::Compare::create_revision(self.full(&key), CompareOp::Equal, 0)
            }
            Compare::ModRevision(key, revision) => etcd_client::Compare::mod_revision(
                self.full(&key),
                CompareOp::Equal,
                i64::try_from(revision).unwrap_or(i64::MAX),
            ),
            Compare::CreateRevision(key, revision) => etcd_client::Compare::create_revision(
                self.full(&key),
                CompareOp::Equal,
                i64::try_from(revision).unwrap_or(i64::MAX),
            ),
            Compare::Value(key, value) => {
                etcd_client::Compare::value(self.full(&key), CompareOp::Equal, value)
            }
        }
    }

    fn write(&self, write: Write) -> TxnOp {
        match write {
            Write::Put(key, value) => TxnOp::put(self.full(&key), value, None),
            Write::PutLeased(key, value, LeaseId(lease)) => {
                TxnOp::put(self.full(&key), value, Some(PutOptions::new().with_lease(lease as i64)))
            }
            Write::Delete(key) => TxnOp::delete(self.full(&key), None),
        }
    }

    async fn list(&self, prefix: &str, at: Option<Revision>) -> Result<Listing, StoreError> {
        let mut overtaken = 0;
        loop {
            match self.pages(prefix, at).await {
                Ok(listing) => return Ok(listing),
                Err(PageError::Failure(failure)) => match (failure.kind, at) {
                    (Kind::Compacted, None) if overtaken < OVERTAKEN => overtaken += 1,
                    (Kind::Compacted, Some(_)) => {
                        return Err(StoreError::Compacted { oldest: self.oldest().await? });
                    }
                    (Kind::Future, Some(asked)) => {
                        return Err(StoreError::Future { asked, current: self.current().await? });
                    }
                    _ => return Err(failure.unavailable()),
                },
                Err(PageError::Store(error)) => return Err(error),
            }
        }
    }

    /// Reads in pages, all at the revision of the first one.
    async fn pages(&self, prefix: &str, at: Option<Revision>) -> Result<Listing, PageError> {
        let mut pinned = at;
        let mut page = PAGE;
        let mut items = Vec::new();
        let (mut start, end) = self.range(prefix);
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(page);
            if let Some(revision) = pinned {
                options = options.with_revision(i64::try_from(revision).unwrap_or(i64::MAX));
            }
            let seen = self.seen.load(Ordering::Acquire);
            let mut reply = match self.get(start.clone(), options).await {
                Err(failure) if failure.kind == Kind::Oversized && page > 1 => {
                    page /= 2;
                    continue;
                }
                other => other?,
            };
            let current = self.revision(reply.header(), seen)?;
            let revision = *pinned.get_or_insert(current);
            let more = reply.more();
            let found = reply.take_kvs();
            if let Some(last) = found.last() {
                start = [last.key(), &[0]].concat();
            }
            for kv in &found {
                items.push(self.item(kv)?);
            }
            if !more || found.is_empty() {
                return Ok(Listing { items, revision });
            }
        }
    }

    async fn get(&self, key: impl Into<Vec<u8>>, options: GetOptions) -> Result<GetResponse, Failure> {
        let key = key.into();
        self.call(false, DEADLINE, |client| {
            let (key, options) = (key.clone(), options.clone());
            async move { client.kv_client().get(key, Some(options)).await }
        })
        .await
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        let seen = self.seen.load(Ordering::Acquire);
        let reply = self
            .get(self.prefix.as_str(), GetOptions::new().with_count_only())
            .await
            .map_err(Failure::unavailable)?;
        self.revision(reply.header(), seen)
    }

    /// The compacted revision. etcd tells it only to a watch that starts below it.
    async fn oldest(&self) -> Result<Revision, StoreError> {
        let mut stream = self.watch("", 1).await.map_err(Failure::unavailable)?;
        let ask = async {
            loop {
                match stream.message().await {
                    Ok(Some(answer)) if answer.compact_revision() > 0 => {
                        return Ok(answer.compact_revision() as u64);
                    }
                    // The answer that the watch was created comes first.
                    Ok(Some(answer)) if answer.created() && !answer.canceled() => {}
                    Ok(_) => return Ok(1),
                    Err(error) => return Err(Failure::new(&error).unavailable()),
                }
            }
        };
        timeout(DEADLINE, ask).await.unwrap_or_else(|_| Err(Failure::timed_out().unavailable()))
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, Failure> {
        let (key, end) = self.range(prefix);
        let options =
            WatchOptions::new().with_range(end).with_start_revision(i64::try_from(from).unwrap_or(i64::MAX));
        self.call(false, DEADLINE, |client| {
            let (key, options) = (key.clone(), options.clone());
            async move {
                let mut watch = client.watch_client().max_decoding_message_size(WATCH_BYTES);
                watch.watch(key, Some(options)).await
            }
        })
        .await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let at = i64::try_from(revision).unwrap_or(i64::MAX);
        let done = self
            .call(false, DEADLINE, |client| async move { client.kv_client().compact(at, None).await })
            .await;
        match done {
            Ok(_) => Ok(()),
            Err(failure) => match failure.kind {
                Kind::Compacted => match self.oldest().await? {
                    oldest if oldest == revision => Ok(()),
                    oldest => Err(StoreError::Compacted { oldest }),
                },
                Kind::Future => Err(StoreError::Future { asked: revision, current: self.current().await? }),
                Kind::NotSent
                | Kind::Oversized
                | Kind::Refused
                | Kind::NoLease
                | Kind::Full
                | Kind::Slow
                | Kind::Lost => Err(failure.unavailable()),
            },
        }
    }

    /// Makes a call, and says of one without an answer whether the members have a leader.
    async fn call<T, F>(&self, once: bool, within: Duration, call: impl Fn(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let failure = match self.call_within(within, once, call).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let was_silent = matches!(failure.kind, Kind::Slow | Kind::Lost);
        if was_silent && self.is_without_leader().await {
            Err(failure.without_quorum())
        } else {
            Err(failure)
        }
    }

    /// Makes a call at the favourite member, and at the others in turn if that one can't be reached. `once`: only as
    /// long as it certainly did not get through. Takes no longer than it may.
    async fn call_within<T, F>(
        &self,
        within: Duration,
        once: bool,
        call: impl Fn(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let first = self.favourite.load(Ordering::Relaxed);
        let count = self.members.len();
        // A call that may be repeated gives each member a part of the time.
        let share = if once { within } else { within / u32::try_from(count).unwrap_or(1) };
        let all = async {
            let mut last = Failure::timed_out();
            for turn in 0..count {
                let index = (first + turn) % count;
                let Some(member) = self.members.get(index) else { break };
                let ask = async {
                    let client = member.client().await?;
                    call(client).await.map_err(|error| Failure::new(&error))
                };
                let failure = match timeout(share, ask).await {
                    Ok(Ok(answer)) => {
                        self.favourite.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Ok(Err(failure)) => failure,
                    Err(_) => Failure::timed_out(),
                };
                last = failure.at(&member.endpoint);
                let again = match last.kind {
                    Kind::NotSent => true,
                    Kind::Lost | Kind::Slow => {
                        // The next call starts elsewhere.
                        self.favourite.store((index + 1) % count, Ordering::Relaxed);
                        !once
                    }
                    Kind::Compacted
                    | Kind::Future
                    | Kind::Oversized
                    | Kind::Refused
                    | Kind::NoLease
                    | Kind::Full => false,
                };
                if !again {
                    break;
                }
            }
            Err(last)
        };
        match timeout(within, all).await {
            Ok(ended) => ended,
            Err(_) => {
                Err(Failure::timed_out().at(self.members.get(first).map_or("", |member| &member.endpoint)))
            }
        }
    }

    /// Whether a member says that it has no leader. A member that is alone answers this, where it answers nothing else.
    async fn is_without_leader(&self) -> bool {
        let asked = self.members.iter().map(|member| async {
            let client = member.client().await.ok()?;
            client.maintenance_client().status().await.ok()
        });
        let answers = join_all(asked.map(|ask| timeout(DIAGNOSIS, ask))).await;
        answers.into_iter().flatten().flatten().any(|status| status.leader() == 0)
    }

    /// The revision of an answer to a call that was made when `seen` had been seen.
    fn revision(&self, header: Option<&ResponseHeader>, seen: Revision) -> Result<Revision, StoreError> {
        let header = header.ok_or_else(no_header)?;
        let revision = header.revision() as u64;
        if header.cluster_id() != self.id {
            return Err(StoreError::Unavailable(format!(
                "another etcd cluster answers (id {:x}, was {:x}); restart mainstay if that is meant",
                header.cluster_id(),
                self.id
            )));
        }
        if revision < seen {
            return Err(StoreError::Unavailable(format!(
                "etcd went back from revision {seen} to {revision}, as after a restore; restart mainstay if that is meant"
            )));
        }
        self.seen.fetch_max(revision, Ordering::AcqRel);
        Ok(revision)
    }

    /// From the first key under a prefix to the first after it, what is hidden left out.
    fn range(&self, prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let mut start = self.full(prefix).into_bytes();
        let end = range_end(&start);
        if prefix.is_empty() {
            start.push(super::HIDDEN as u8 + 1);
        }
        (start, end)
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn stripped(&self, key: &[u8]) -> Result<String, StoreError> {
        std::str::from_utf8(key)
            .ok()
            .and_then(|key| key.strip_prefix(&self.prefix))
            .map(str::to_owned)
            .ok_or_else(|| {
                StoreError::Unavailable(format!(
                    "etcd holds a key that is not mainstay's, {}; delete it",
                    key.escape_ascii()
                ))
            })
    }

    fn item(&self, kv: &KeyValue) -> Result<Item, StoreError> {
        Ok(Item {
            key: self.stripped(kv.key())?,
            value: kv.value().to_vec(),
            create_revision: kv.create_revision() as u64,
            mod_revision: kv.mod_revision() as u64,
        })
    }
}

/// What became of a write whose answer was lost.
enum Outcome {
    /// It happened, at this revision.
    Applied(Revision),
    /// It did not, and will not.
    Voided,
}

/// Whether a transaction that succeeds certainly adds a revision: it puts something, or deletes what its own conditions
/// say is there.
fn certainly_bumps(txn: &Txn) -> bool {
    let is_there = |key: &str| {
        txn.when.iter().any(|compare| match compare {
            Compare::Absent(_) | Compare::ModRevision(_, 0) | Compare::CreateRevision(_, 0) => false,
            Compare::ModRevision(compared, _)
            | Compare::CreateRevision(compared, _)
            | Compare::Value(compared, _) => compared == key,
        })
    };
    txn.then.iter().any(|write| match write {
        Write::Put(..) | Write::PutLeased(..) => true,
        Write::Delete(key) => is_there(key),
    })
}

/// The word and the revision of the mark that a transaction has read because it did not succeed; none if it is not there.
fn read_mark(reply: &TxnResponse) -> Option<(Vec<u8>, i64)> {
    reply.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(got) => got.kvs().first().map(|kv| (kv.value().to_vec(), kv.mod_revision())),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    })
}

/// What a page can end with: etcd's own answers are translated where it is known what was asked.
enum PageError {
    Failure(Failure),
    Store(StoreError),
}

impl From<Failure> for PageError {
    fn from(failure: Failure) -> Self {
        PageError::Failure(failure)
    }
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        PageError::Store(error)
    }
}

struct EtcdWatch {
    cluster: Arc<Cluster>,
    /// None when the watch is over.
    stream: Option<WatchStream>,
    /// Changes before this are not for the caller.
    from: Revision,
    /// Received, and waiting to be asked for.
    ready: VecDeque<Changes>,
}

impl EtcdWatch {
    /// Takes one answer apart. One holds whole revisions, and possibly several.
    fn receive(&mut self, answer: &WatchResponse) -> Result<(), StoreError> {
        if answer.compact_revision() > 0 {
            return Err(StoreError::Compacted { oldest: answer.compact_revision() as u64 });
        }
        if answer.canceled() {
            return Err(StoreError::Unavailable(format!("etcd ended the watch: {}", answer.cancel_reason())));
        }
        // A member that lags answers with an older revision, so only the cluster is checked here.
        self.cluster.revision(answer.header(), 0)?;
        for event in answer.events() {
            let Some(kv) = event.kv() else { continue };
            let revision = kv.mod_revision() as u64;
            if revision < self.from {
                continue;
            }
            let change = match event.event_type() {
                EventType::Put => Change::Put(self.cluster.item(kv)?),
                EventType::Delete => {
                    Change::Delete { key: self.cluster.stripped(kv.key())?, mod_revision: revision }
                }
            };
            match self.ready.back_mut() {
                Some(last) if last.revision == revision => last.changes.push(change),
                _ => self.ready.push_back(Changes { revision, changes: vec![change] }),
            }
        }
        Ok(())
    }

    async fn advance(&mut self) -> Result<Changes, StoreError> {
        loop {
            if let Some(changes) = self.ready.pop_front() {
                return Ok(changes);
            }
            let Some(stream) = &mut self.stream else {
                return Err(StoreError::Unavailable("this watch has ended; open a new one".into()));
            };
            match stream.message().await {
                Ok(Some(answer)) => self.receive(&answer)?,
                Ok(None) => return Err(StoreError::Unavailable("etcd closed the watch".into())),
                Err(error) => return Err(Failure::new(&error).unavailable()),
            }
        }
    }
}

impl Watch for EtcdWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<Changes, StoreError>> {
        Box::pin(async move {
            let result = self.advance().await;
            if result.is_err() {
                self.stream = None;
                self.ready.clear();
            }
            result
        })
    }
}

/// The first key after all that start with `prefix`, as etcd wants it; "\0" means that there is none.
fn range_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

fn no_header() -> StoreError {
    StoreError::Unavailable("etcd's answer has no header".into())
}
