//! Short words for what the cases do over and over.

use std::time::Duration;

use futures_util::future::BoxFuture;
use mainstay::store::{
    Change, Changes, Compare, Item, Lease, Listing, Revision, Store, StoreError, Txn, TxnReply, Watch, Write,
};

/// How long anything may take before a test gives up. Nothing waits for this when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One case of the suite.
pub(crate) type Case = for<'a> fn(&'a dyn Store) -> BoxFuture<'a, ()>;

pub(crate) fn put(key: &str, value: &str) -> Write {
    Write::Put(key.into(), value.into())
}

pub(crate) fn leased(key: &str, value: &str, lease: Lease) -> Write {
    Write::PutLeased(key.into(), value.into(), lease.id)
}

pub(crate) fn delete(key: &str) -> Write {
    Write::Delete(key.into())
}

pub(crate) fn absent(key: &str) -> Compare {
    Compare::Absent(key.into())
}

pub(crate) fn at(key: &str, revision: Revision) -> Compare {
    Compare::ModRevision(key.into(), revision)
}

pub(crate) fn made_at(key: &str, revision: Revision) -> Compare {
    Compare::CreateRevision(key.into(), revision)
}

pub(crate) fn holds(key: &str, value: &str) -> Compare {
    Compare::Value(key.into(), value.into())
}

/// A transaction that answered, whatever it answered.
pub(crate) async fn attempt(store: &dyn Store, when: Vec<Compare>, then: Vec<Write>) -> TxnReply {
    store.txn(Txn { when, then }).await.expect("the store answers")
}

/// A transaction without conditions; its revision.
pub(crate) async fn write(store: &dyn Store, then: Vec<Write>) -> Revision {
    let reply = attempt(store, vec![], then).await;
    assert!(reply.succeeded, "nothing was asked, so nothing can fail");
    reply.revision
}

pub(crate) async fn set(store: &dyn Store, key: &str, value: &str) -> Revision {
    write(store, vec![put(key, value)]).await
}

pub(crate) async fn refusal(store: &dyn Store, txn: Txn) -> StoreError {
    store.txn(txn).await.expect_err("the store refuses")
}

pub(crate) async fn list(store: &dyn Store, prefix: &str) -> Listing {
    store.list(prefix, None).await.expect("the store can be read")
}

pub(crate) async fn list_at(store: &dyn Store, prefix: &str, at: Revision) -> Listing {
    store.list(prefix, Some(at)).await.expect("the revision can be read")
}

pub(crate) async fn revision(store: &dyn Store) -> Revision {
    list(store, "").await.revision
}

pub(crate) async fn get(store: &dyn Store, key: &str) -> Option<Item> {
    list(store, key).await.items.into_iter().find(|item| item.key == key)
}

/// Keys and values as text.
pub(crate) fn pairs(listing: &Listing) -> Vec<(String, String)> {
    listing.items.iter().map(|item| (item.key.clone(), text(item))).collect()
}

pub(crate) fn keys(listing: &Listing) -> Vec<&str> {
    listing.items.iter().map(|item| item.key.as_str()).collect()
}

pub(crate) fn text(item: &Item) -> String {
    String::from_utf8(item.value.clone()).expect("the tests write text")
}

pub(crate) async fn watch(store: &dyn Store, prefix: &str, from: Revision) -> Box<dyn Watch> {
    store.watch(prefix, from).await.expect("a watch can be opened")
}

pub(crate) async fn next(watch: &mut dyn Watch) -> Changes {
    answer(watch).await.expect("the watch goes on")
}

/// What the watch says, an error included.
pub(crate) async fn answer(watch: &mut dyn Watch) -> Result<Changes, StoreError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch says something in time")
}

/// Reads changes up to a revision that is known to come.
pub(crate) async fn until(watch: &mut dyn Watch, last: Revision) -> Vec<Changes> {
    let mut all = Vec::new();
    loop {
        let changes = next(watch).await;
        assert!(changes.revision <= last, "revision {} came, and {last} did not", changes.revision);
        let done = changes.revision == last;
        all.push(changes);
        if done {
            return all;
        }
    }
}

/// Changes in one word each: `+key=value` or `-key`.
pub(crate) fn words(changes: &Changes) -> Vec<String> {
    let word = |change: &Change| match change {
        Change::Put(item) => format!("+{}={}", item.key, text(item)),
        Change::Delete { key, .. } => format!("-{key}"),
    };
    changes.changes.iter().map(word).collect()
}

/// Runs a future to its end on a thread of its own making, in time.
pub(crate) fn run<T>(name: &str, future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be made")
        .block_on(async { tokio::time::timeout(PATIENCE, future).await })
        .unwrap_or_else(|_| panic!("{name} did not end within {PATIENCE:?}"))
}
