//! Documents over a store: what is stored under which key, how it is changed, and the snapshot that everyone reads.
//!
//! The snapshot is kept current by a watch on the store, change by change. Reading it costs nothing, and no reader delays
//! a writer. A change is a compare-and-set against what the writer read; a conflict is an answer.
//!
//! ```text
//! doc/KIND/INSTANCE/NAME    a document; `-` stands for the instance of kinds that have none
//! doc/…/NAME/next           one that waits until an older one is gone
//! meta/epoch                how many leaders there have been so far: the fencing token
//! meta/leader               who leads, under its lease; left out of backups
//! meta/cluster              the id of this store's world; names our directory on the nodes
//! meta/key                  id of the key that secrets are sealed with; OLD>NEW while they are sealed anew
//! meta/restoring            there while a backup is being restored
//! meta/counter/KIND/INST    the highest number that an id was allocated with
//! meta/aside/KIND/-/NAME    a shipped document that people deleted, and that is not put back
//! tries/INSTANCE/NODE       what was tried on a node and did not help, while it does not
//! ```

pub mod noted;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::metrics::Metrics;
use crate::model::document::Unreadable;
use crate::model::meta::{Key, Kind};
use crate::model::owners::{self, API, Conflict, Operation, Statement};
use crate::model::{Document, Documents, Spec};
use crate::store::backup::RESTORING;
use crate::store::{
    Change, Compare, Item, Listing, MAX_TXN_BYTES, Revision, Store, StoreError, Txn, TxnReply, Write, fitting,
};

use self::age::Age;
pub use self::apply::{Applier, SetChange, apply_as, apply_set};
use self::leader::Term;

mod age;
mod apply;
pub mod leader;
pub mod rotation;
pub mod tries;

const DOCUMENTS: &str = "doc/";
/// What the path of a document that waits ends with; no name holds a `/`.
const NEXT: &str = "/next";
const EPOCH: &str = "meta/epoch";
const LEADER: &str = crate::store::backup::LEADER;
const CLUSTER: &str = "meta/cluster";
const SEALING_KEY: &str = "meta/key";
const ASIDE: &str = "meta/aside/";
const TRIES: &str = "tries/";

/// How long a change may take to come back through the store's watch.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Edits of one transaction; the rest of [`crate::store::MAX_TXN_OPS`] is left for compares.
pub const BATCH: usize = 60;

/// Bytes of the documents of one transaction; the rest of [`MAX_TXN_BYTES`] is left for keys.
const BATCH_BYTES: usize = MAX_TXN_BYTES - 128 * 1024;

/// Counting ids never gets here.
const OUT_OF_REACH: u64 = 1_000_000_000_000;

/// Every document at one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The store's revision that this is.
    pub revision: Revision,
    /// The documents.
    pub documents: Documents,
}

/// A change of one document, and what it was decided on.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// Make an object that does not exist.
    Create(Document),
    /// Replace the object that was read; its resource version says which.
    Replace(Document),
    /// Take the object out that was read.
    Remove(Document),
    /// Change nothing, but only do the rest of the transaction while the object is as it was read: what refers to it is written only
    /// while it is there.
    Expect(Document),
}

impl Edit {
    /// The object that it is about.
    pub const fn document(&self) -> &Document {
        match self {
            Edit::Create(document)
            | Edit::Replace(document)
            | Edit::Remove(document)
            | Edit::Expect(document) => document,
        }
    }

    /// Makes it in a copy of the documents, as if it were written at this revision.
    pub fn make_in(&self, documents: &mut Documents, revision: Revision) {
        match self {
            Edit::Create(document) | Edit::Replace(document) => {
                let mut document = document.clone();
                document.metadata.resource_version = revision.to_string();
                documents.insert(document);
            }
            Edit::Remove(document) => documents.remove(&document.key()),
            Edit::Expect(_) => {}
        }
    }

    /// Bytes of the document that it writes.
    fn bytes(&self) -> usize {
        match self {
            Edit::Create(document) | Edit::Replace(document) => document.to_value().to_string().len(),
            Edit::Remove(_) | Edit::Expect(_) => 0,
        }
    }
}

/// What became of a change.
#[must_use = "a conflict is an answer"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It is durable, and in the snapshot.
    Done,
    /// Somebody else changed one of the objects since they were read: read and decide again.
    Conflict,
}

/// Why documents can't be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The store did not take it.
    #[error("the store can't be used")]
    Store(#[from] StoreError),
    /// The store holds something that is no document of this version.
    #[error("the store holds something unreadable")]
    Unreadable(#[from] Unreadable),
    /// The secrets in the store were sealed with another key.
    #[error(
        "the secrets in this store were sealed with the key {stored}, and the key given is {given}; give that key file (--secret-key)"
    )]
    OtherKey {
        /// The id that the store has.
        stored: String,
        /// The id of the key that was given.
        given: String,
    },
    /// The secrets in the store are being sealed anew, or were and nobody has finished it.
    #[error(
        "the secrets in this store are half sealed anew ({rotation}); finish it with `mainstay secrets rotate` and the \
         same two key files"
    )]
    Rotating {
        /// The ids of the two keys, `OLD>NEW`.
        rotation: String,
    },
    /// A backup is being restored, or was and not all of it came.
    #[error(
        "a backup is being restored into this store, or a restore was cut short; restore it into an empty one"
    )]
    Restoring,
}

/// Which leader it is; each one has a higher number than those before. Goes to the nodes as fencing token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Documents over a store.
pub struct State {
    store: Arc<dyn Store>,
    snapshot: watch::Receiver<Snapshot>,
    sender: Arc<watch::Sender<Snapshot>>,
    metrics: Arc<Metrics>,
    follower: JoinHandle<()>,
    age: Age,
    /// The key that every write counts on, once it is known.
    sealing_key: OnceLock<String>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl State {
    /// Reads all documents and starts to follow their changes.
    ///
    /// # Errors
    /// When the store can't be read, or holds what is no document.
    pub async fn open(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Result<State, StateError> {
        if !store.list(RESTORING, None).await?.items.is_empty() {
            return Err(StateError::Restoring);
        }
        let first = load(&*store).await?;
        let (sender, snapshot) = watch::channel(first);
        let sender = Arc::new(sender);
        let age = Age::start(Arc::clone(&store));
        let follower = tokio::spawn(follow(Arc::clone(&store), Arc::clone(&sender), age.clone()));
        Ok(State { store, snapshot, sender, metrics, follower, age, sealing_key: OnceLock::new() })
    }

    /// How long ago the snapshot was last known to be what the store holds.
    pub fn age(&self) -> Duration {
        self.age.get()
    }

    /// Has the snapshot be at least as new as the store is now, without waiting for the watch, which may lag.
    ///
    /// # Errors
    /// When the store can't be read, or holds what is no document.
    pub async fn catch_up(&self) -> Result<(), StateError> {
        let now = load(&*self.store).await?;
        take_newer(&self.sender, now);
        Ok(())
    }

    /// Everything that the store holds, at one revision: what a backup is made of.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn everything(&self) -> Result<Listing, StateError> {
        Ok(self.store.list("", None).await?)
    }

    /// The present snapshot's revision.
    pub fn revision(&self) -> Revision {
        self.snapshot.borrow().revision
    }

    /// The present snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// A bell that rings when the snapshot has changed.
    pub fn changes(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Changes documents, all together when there are up to 60 that are not very large, else in order, as many at a time. When this answers `Done`, the
    /// changes are durable and the snapshot shows them. With a term, only while that is the present leader's.
    ///
    /// # Errors
    /// When the store did not take it, or can't say.
    pub async fn commit(&self, edits: &[Edit], term: Option<Term>) -> Result<Commit, StateError> {
        let revision = self.commit_at(edits, term).await?;
        Ok(if revision.is_some() { Commit::Done } else { Commit::Conflict })
    }

    /// As [`State::commit`]; answers the revision at which the last changes were written, none in a conflict.
    ///
    /// # Errors
    /// When the store did not take it, or can't say.
    pub async fn commit_at(
        &self,
        edits: &[Edit],
        term: Option<Term>,
    ) -> Result<Option<Revision>, StateError> {
        let mut last = self.snapshot.borrow().revision;
        let mut rest = edits;
        while !rest.is_empty() {
            let (part, after) = rest.split_at(fitting(rest, BATCH, BATCH_BYTES, Edit::bytes));
            rest = after;
            let mut txn = Txn::default();
            if let Some(Term { revision, .. }) = term {
                txn.when.push(Compare::CreateRevision(LEADER.into(), revision));
            }
            for edit in part {
                let document = edit.document();
                let path = path(document);
                txn.when.push(match edit {
                    Edit::Create(_) => Compare::Absent(path.clone()),
                    Edit::Replace(_) | Edit::Remove(_) | Edit::Expect(_) => {
                        Compare::ModRevision(path.clone(), document.revision())
                    }
                });
                txn.then.extend(match edit {
                    Edit::Create(_) | Edit::Replace(_) => Some(Write::Put(path, bytes(document))),
                    Edit::Remove(_) => Some(Write::Delete(path)),
                    Edit::Expect(_) => None,
                });
            }
            match self.write(txn).await? {
                Some(revision) => last = revision,
                None => return Ok(None),
            }
        }
        Ok(Some(last))
    }

    /// Writes documents. Answers the revision at which it was written, none in a conflict.
    async fn write(&self, txn: Txn) -> Result<Option<Revision>, StateError> {
        let is_write = !txn.then.is_empty();
        let written = self.write_beside(txn).await?;
        if let Some(revision) = written
            && is_write
        {
            noted::note(revision);
            self.reached(revision).await?;
        }
        Ok(written)
    }

    /// The same for what is beside the documents, and shows in no snapshot.
    async fn write_beside(&self, mut txn: Txn) -> Result<Option<Revision>, StateError> {
        let is_write = !txn.then.is_empty();
        // What it writes may be sealed: not with a key that was replaced meanwhile.
        txn.when.extend(self.key_is_ours());
        let TxnReply { succeeded, revision } = self.store.txn(txn).await?;
        if !succeeded {
            self.check_key().await?;
            return Ok(None);
        }
        if is_write {
            self.metrics.store_writes.inc();
        }
        Ok(Some(revision))
    }

    /// Holds for as long as the store's secrets are sealed with the key that we have, if we have one.
    fn key_is_ours(&self) -> Option<Compare> {
        let key = self.sealing_key.get()?;
        Some(Compare::Value(SEALING_KEY.into(), key.clone().into_bytes()))
    }

    /// Why that does not hold, if it does not.
    async fn check_key(&self) -> Result<(), StateError> {
        match self.sealing_key.get() {
            Some(given) => same_key(self.sealing_key().await?.unwrap_or_default(), given),
            None => Ok(()),
        }
    }

    /// Waits until the snapshot shows a revision. Revisions that touched no document count as shown when a later one does, so this
    /// is only asked for those that did.
    async fn reached(&self, revision: Revision) -> Result<(), StateError> {
        let mut snapshot = self.snapshot.clone();
        let shown = snapshot.wait_for(|snapshot| snapshot.revision >= revision);
        match timeout(SHOWN_WITHIN, shown).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                Err(StoreError::Unknown("it was written, but the store's watch does not show it".into())
                    .into())
            }
        }
    }

    /// Whether the store answers and is being followed: then what is read here is current.
    ///
    /// # Errors
    /// When it can't be read, or is no longer followed.
    pub async fn check(&self) -> Result<(), StateError> {
        if self.follower.is_finished() {
            return Err(StoreError::Unavailable("the store is no longer followed".into()).into());
        }
        self.get(EPOCH).await.map(drop)
    }

    /// The id of this store's world, made on first use.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub async fn cluster_id(&self) -> Result<String, StateError> {
        self.get_or_make(CLUSTER, &Uuid::new_v4().simple().to_string()[..12]).await
    }

    /// The id of the key that this store's secrets are sealed with; none in a new store.
    ///
    /// # Errors
    /// When the store can't be read.
    /// [`StateError::Rotating`] when it is being replaced.
    pub async fn sealing_key(&self) -> Result<Option<String>, StateError> {
        let found = self.get(SEALING_KEY).await?.map(|(id, _)| String::from_utf8_lossy(&id).into_owned());
        match found {
            Some(rotation) if rotation.contains(rotation::ARROW) => Err(StateError::Rotating { rotation }),
            other => Ok(other),
        }
    }

    /// Makes sure that the key given is the one that this store's secrets are sealed with; in a new store it is from now on.
    ///
    /// # Errors
    /// [`StateError::OtherKey`] when it is not, [`StateError::Rotating`] when it is being replaced.
    pub async fn use_sealing_key(&self, given: &str) -> Result<(), StateError> {
        same_key(self.get_or_make(SEALING_KEY, given).await?, given)?;
        self.sealing_key.get_or_init(|| given.to_owned());
        Ok(())
    }

    /// Remembers that people do not want a document that is shipped with the program.
    ///
    /// # Errors
    /// When the store did not take it.
    pub async fn set_aside(&self, key: &Key) -> Result<(), StateError> {
        self.get_or_make(&format!("{ASIDE}{}/{}", place_of(key), key.name), "").await.map(drop)
    }

    /// Whether people do not want a document that is shipped with the program.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn is_aside(&self, key: &Key) -> Result<bool, StateError> {
        Ok(self.get(&format!("{ASIDE}{}/{}", place_of(key), key.name)).await?.is_some())
    }

    async fn get_or_make(&self, key: &str, value: &str) -> Result<String, StateError> {
        loop {
            if let Some((found, _)) = self.get(key).await? {
                return Ok(String::from_utf8_lossy(&found).into_owned());
            }
            let txn = Txn {
                when: vec![Compare::Absent(key.into())],
                then: vec![Write::Put(key.into(), value.as_bytes().to_vec())],
            };
            if self.store.txn(txn).await?.succeeded {
                return Ok(value.to_owned());
            }
        }
    }

    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Revision)>, StateError> {
        let listing = self.store.list(key, None).await?;
        let found = listing.items.into_iter().find(|item| item.key == key);
        Ok(found.map(|item| (item.value, item.mod_revision)))
    }

    /// Creates an object under the next free id of its kind, such as ND3: one more than was ever used in the instance.
    /// Ids are never used again. The document's name is set by this, and then `bind` is called for what in the document depends on
    /// the name, such as a secret that is sealed for its place.
    ///
    /// # Errors
    /// When the store did not take it.
    pub async fn create_numbered(
        &self,
        prefix: &str,
        mut document: Document,
        bind: impl Fn(&mut Document),
    ) -> Result<Document, StateError> {
        let key = document.key();
        let counter = format!("meta/counter/{}", place_of(&key));
        loop {
            let found = self.get(&counter).await?;
            let last =
                found.as_ref().and_then(|(value, _)| String::from_utf8_lossy(value).parse::<u64>().ok());
            // People may have chosen a number themselves; one that counting never gets to is in nobody's way.
            let chosen = self
                .snapshot()
                .documents
                .declared()
                .within(key.kind, &key.namespace)
                .filter_map(|(key, _)| key.name.strip_prefix(prefix)?.parse::<u64>().ok())
                .filter(|number| *number < OUT_OF_REACH)
                .max();
            let next = last.max(chosen).unwrap_or(0) + 1;
            document.metadata.name = format!("{prefix}{next}");
            bind(&mut document);
            let path = path(&document);
            let when = vec![
                Compare::Absent(path.clone()),
                match &found {
                    Some((_, revision)) => Compare::ModRevision(counter.clone(), *revision),
                    None => Compare::Absent(counter.clone()),
                },
            ];
            let then = vec![
                Write::Put(counter.clone(), next.to_string().into_bytes()),
                Write::Put(path, bytes(&document)),
            ];
            if let Some(revision) = self.write(Txn { when, then }).await? {
                document.metadata.resource_version = revision.to_string();
                return Ok(document);
            }
        }
    }
}

fn same_key(stored: String, given: &str) -> Result<(), StateError> {
    if stored == given {
        Ok(())
    } else if stored.contains(rotation::ARROW) {
        Err(StateError::Rotating { rotation: stored })
    } else {
        Err(StateError::OtherKey { stored, given: given.to_owned() })
    }
}

/// What is wrong with a key and its value, as they stand in a store; none when it is what this version would have written.
pub fn flaw(item: &Item) -> Option<String> {
    if let Some(key) = parse_path(item.key.strip_suffix(NEXT).unwrap_or(&item.key)) {
        return match read(&item.key, &item.value, item.mod_revision) {
            Ok(document) if document.key() == key => None,
            Ok(document) => Some(format!("it holds the document {}", document.key())),
            Err(error) => Some(format!("no document of this version: {}", error.source)),
        };
    }
    let text = String::from_utf8_lossy(&item.value);
    let is_sound = match item.key.as_str() {
        EPOCH => text.parse::<u64>().is_ok(),
        LEADER => leader::is_claim(&item.value),
        CLUSTER | SEALING_KEY | RESTORING => !text.is_empty(),
        key if key.starts_with("meta/counter/") => text.parse::<u64>().is_ok(),
        key if key.starts_with(TRIES) => tries::read(item).is_some(),
        // Others may keep something beside ours.
        key => !key.starts_with(DOCUMENTS),
    };
    (!is_sound).then(|| "not what mainstay keeps there".to_owned())
}

/// Raises the fencing token in what is restored from an older time, to at least `floor`: the nodes remember the highest that
/// they have seen, and would refuse whoever comes with an older one. The time in seconds is such a floor: it grows, and
/// faster than controllers take over.
pub fn raise_epoch(items: &mut [Item], floor: u64) {
    for item in items.iter_mut().filter(|item| item.key == EPOCH) {
        let last = String::from_utf8_lossy(&item.value).parse::<u64>().unwrap_or(0);
        item.value = last.max(floor).to_string().into_bytes();
    }
}

/// Gives a new object what the store gives: uid, time, generation.
pub fn born(mut document: Document, now: &str) -> Document {
    document.metadata.uid = Uuid::new_v4().to_string();
    document.metadata.creation_timestamp = now.to_owned();
    document.metadata.generation = 1;
    document
}

/// The same for one that `/1.0` makes, which owns the fields of the spec that the client has named.
pub fn born_of_api(document: Document, names: &[String], now: &str) -> Document {
    let statement = Statement::of_named(&document.spec, names.iter().map(String::as_str));
    let mut document = born(document, now);
    document.metadata.managed_fields = owners::born(&statement, API, Operation::Update, now);
    document
}

/// The edit that decides that an object goes. Kinds that stand for something on nodes stay until that is gone.
pub fn deletion(document: &Document, now: &str) -> Edit {
    document.deleted(now).map_or_else(|| Edit::Remove(document.clone()), Edit::Replace)
}

/// The edit that gives an object another spec; none when it is the same.
pub fn update(current: &Document, spec: Spec) -> Option<Edit> {
    current.with_spec(spec).map(Edit::Replace)
}

/// The edit by which an object gets another spec through `/1.0`, which owns what that changes from then on; none when it is the same. What was
/// shipped with the program is nobody's then: another version won't put it back.
///
/// # Errors
/// The fields that others have set.
pub fn update_by_api(current: &Document, spec: Spec, now: &str) -> Result<Option<Edit>, Vec<Conflict>> {
    if current.spec == spec {
        return Ok(None);
    }
    let mut document = current.clone();
    apply::disown(&mut document);
    let mut document = owners::changed(&document, spec, API, now)?;
    document.metadata.generation += 1;
    Ok(Some(Edit::Replace(document)))
}

/// The source of the documents that are shipped with the program. Anybody's own document of the same name wins.
pub const CATALOGUE: &str = "catalogue";

fn path(document: &Document) -> String {
    let next = if document.metadata.waiting { NEXT } else { "" };
    format!("{DOCUMENTS}{}/{}{next}", place_of(&document.key()), document.metadata.name)
}

/// A document as it is stored, with the call that it is written for.
fn bytes(document: &Document) -> Vec<u8> {
    noted::signed(document).to_value().to_string().into_bytes()
}

fn place_of(key: &Key) -> String {
    let instance = if key.namespace.is_empty() { "-" } else { &key.namespace };
    format!("{}/{instance}", key.kind)
}

fn read(key: &str, value: &[u8], revision: Revision) -> Result<Document, Unreadable> {
    let mut document = Document::from_stored(key, value)?;
    document.metadata.resource_version = revision.to_string();
    Ok(document)
}

async fn load(store: &dyn Store) -> Result<Snapshot, StateError> {
    let listing = store.list(DOCUMENTS, None).await?;
    let documents = listing
        .items
        .iter()
        .map(|item| read(&item.key, &item.value, item.mod_revision))
        .collect::<Result<Documents, _>>()?;
    Ok(Snapshot { revision: listing.revision, documents })
}

/// Keeps the snapshot current for as long as somebody reads it. A store that fails leaves the last one standing: nothing is decided
/// out of ignorance.
async fn follow(store: Arc<dyn Store>, sender: Arc<watch::Sender<Snapshot>>, age: Age) {
    let mut pause = Duration::from_millis(50);
    while !sender.is_closed() {
        let from = sender.borrow().revision + 1;
        let error = match store.watch(DOCUMENTS, from).await {
            Ok(mut watch) => loop {
                age.follows(true);
                match watch.next().await {
                    Ok(changes) => {
                        age.confirm();
                        pause = Duration::from_millis(50);
                        sender.send_if_modified(|snapshot| {
                            // Else it was read meanwhile.
                            let is_news = changes.revision > snapshot.revision;
                            if is_news {
                                for change in &changes.changes {
                                    apply(snapshot, change);
                                }
                                snapshot.revision = changes.revision;
                            }
                            is_news
                        });
                    }
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        age.follows(false);
        tracing::warn!(%error, "the store's watch ended; reading all again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
        match load(&*store).await {
            // A store that went back in time is another store: what it says is not taken for news.
            Ok(snapshot) if snapshot.revision >= from.saturating_sub(1) => {
                take_newer(&sender, snapshot);
                age.confirm();
            }
            Ok(snapshot) => {
                tracing::error!(
                    revision = snapshot.revision,
                    known = from.saturating_sub(1),
                    "the store went back in time; restart the controller if that was on purpose"
                );
            }
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the store can't be read"),
        }
    }
}

/// Takes in what was read, unless what is known is newer.
fn take_newer(sender: &watch::Sender<Snapshot>, read: Snapshot) {
    sender.send_if_modified(|known| {
        let is_newer = read.revision > known.revision;
        if is_newer {
            *known = read;
        }
        is_newer
    });
}

fn apply(snapshot: &mut Snapshot, change: &Change) {
    match change {
        Change::Put(item) => match read(&item.key, &item.value, item.mod_revision) {
            Ok(document) => snapshot.documents.insert(document),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a document was passed over")
            }
        },
        Change::Delete { key, .. } => {
            let (path, waits) = key.strip_suffix(NEXT).map_or((key.as_str(), false), |path| (path, true));
            match parse_path(path) {
                Some(key) if waits => snapshot.documents.remove_waiting(&key),
                Some(key) => snapshot.documents.remove(&key),
                None => {}
            }
        }
    }
}

fn parse_path(path: &str) -> Option<Key> {
    let mut parts = path.strip_prefix(DOCUMENTS)?.splitn(3, '/');
    let kind = Kind::parse(parts.next()?)?;
    let namespace = match parts.next()? {
        "-" => String::new(),
        instance => instance.to_owned(),
    };
    Some(Key { kind, namespace, name: parts.next()?.to_owned() })
}

#[cfg(test)]
mod tests;
